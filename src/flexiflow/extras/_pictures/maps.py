"""Maps of states, and of what reaches components: drawn by Graphviz, as SVG.

A map takes its colours from the page around it, or stands with others on a sheet of its own.

`pygraphviz` brings Graphviz along. No other library lays out a graph with loops and labels as well.
"""

from __future__ import annotations

import re
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from flexiflow._text import printable, shorten
from flexiflow.extras._pictures.style import SHEET_STYLE

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST_LINE: Final = 24
_MANY: Final = 100
_QUICKLY: Final = {"splines": "line", "nslimit": "0.1", "nslimit1": "0.1", "mclimit": "0.1"}
"""What Graphviz is told of maps with many ways; a beautiful one of 600 would take minutes."""
_SIZE: Final = re.compile(r'width="(\d+)pt" height="(\d+)pt"')
_SIZE_ON_PAGE: Final = re.compile(r'width="(\d+)" height="(\d+)"')
_BREAKS: Final = re.compile(r"(?<=[ /._-])")
_MARGIN: Final = 12
_HEADING: Final = 24
_WIDTH_OF_LETTER: Final = 8.5

_SHAPES: Final[dict[str, dict[str, str]]] = {
    "box": {},
    "ellipse": {"shape": "ellipse", "style": "filled", "margin": "0,0"},
    "hexagon": {"shape": "hexagon", "style": "filled", "margin": "0,0"},
    "start": {"shape": "circle", "style": "filled", "width": "0.13", "class": "start"},
    "end": {"shape": "doublecircle", "style": "filled", "width": "0.1", "class": "end"},
}
"""What Graphviz is told of each shape; the ends of a map have no text."""
_ENDS: Final = ("start", "end")


class Place(NamedTuple):
    """A state on a map, or anything else that arrows lead to.

    Attributes:
        name: its name.
        text: what stands below the name.
        key: what ways call it, if not by its name.
        shape: what it looks like; a "start" and an "end" have no text.
    """

    name: str
    text: str = ""
    key: str = ""
    shape: Literal["box", "ellipse", "hexagon", "start", "end"] = "box"


class Way(NamedTuple):
    """A transition on a map.

    Attributes:
        source: the place that it leads from.
        target: the place that it leads to.
        text: what stands beside it.
        hint: what is shown when one points at it.
        width: how wide the line is, 1 to 8.
    """

    source: str
    target: str
    text: str
    hint: str = ""
    width: float = 1.0


def draw_map(
    places: Iterable[Place],
    ways: Iterable[Way],
    *,
    title: str,
    direction: Literal["TB", "LR"] = "TB",
) -> str:
    """Draw a map.

    Args:
        places: the states; the first one is at the top.
        ways: the transitions, between these states.
        title: what the map shows, for those who can't see it.
        direction: where the arrows lead: from top to bottom, or from left to right.

    Returns:
        An `svg` element, in which all names are escaped.

    Raises:
        ModuleNotFoundError: `pygraphviz` is not installed.
    """
    graph: Any = import_module("pygraphviz").AGraph(
        directed=True,
        strict=False,
        bgcolor="transparent",
        nodesep="0.35",
        ranksep="0.45",
        rankdir=direction,
    )
    places, ways = list(places), list(ways)
    if len(ways) > _MANY:
        graph.graph_attr.update(_QUICKLY)
    graph.node_attr.update(shape="box", style="rounded,filled", fontname="Helvetica", fontsize="12")
    graph.edge_attr.update(fontname="Helvetica", fontsize="10", arrowsize="0.7")
    ids = {place.key or place.name: f"s{number}" for number, place in enumerate(places)}
    for place in places:
        lines = [*_lines(place.name), *(place.text.split("\n") if place.text else [])]
        graph.add_node(
            ids[place.key or place.name],
            label="" if place.shape in _ENDS else _label(lines),
            tooltip=_label([place.name]),
            **_SHAPES[place.shape],
        )
    for way in ways:
        # Graphviz puts the text beside the middle of the line, however wide that is.
        beside = [" " * round(way.width) + line for line in way.text.split("\n") if line]
        graph.add_edge(
            ids[way.source],
            ids[way.target],
            label=_label(beside),
            tooltip=_label([way.hint]),
            labeltooltip=_label([way.hint]),
            penwidth=f"{way.width:.1f}",
            weight=f"{way.width * 10:.0f}",
        )
    drawn: str = graph.draw(format="svg", prog="dot").decode()
    return _within_a_page(drawn, title)


def on_a_sheet(maps: Iterable[tuple[str, str]], *, title: str) -> str:
    """Put maps below each other, as one SVG that stands alone: light or dark as the reader wants.

    Args:
        maps: the heading of each drawing, and the drawing.
        title: what all of it shows, for those who can't see it.

    Returns:
        An `svg` element, in which all names are escaped.
    """
    width, below, parts = 0.0, _MARGIN, list[str]()
    for heading, drawing in maps:
        shown = printable(shorten(heading))
        parts.append(f'<text class="heading" x="{_MARGIN}" y="{below + 14}">{escape(shown)}</text>')
        below += _HEADING
        parts.append(f'<svg x="{_MARGIN}" y="{below}" {drawing.removeprefix("<svg ")}')
        wide, high = map(int, _SIZE_ON_PAGE.findall(drawing)[0])
        width = max(width, wide, len(shown) * _WIDTH_OF_LETTER)
        below += high + _MARGIN
    size = f"{width + 2 * _MARGIN:.0f}", f"{below}"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" class="map" role="img" '
        f'aria-label="{escape(printable(title))}" width="{size[0]}" height="{size[1]}" '
        f'viewBox="0 0 {size[0]} {size[1]}" style="max-width: 100%; height: auto">\n'
        f'<style>{SHEET_STYLE}</style>\n<rect class="paper" width="100%" height="100%" rx="6"/>\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def _within_a_page(drawn: str, title: str) -> str:
    """Return the drawing alone: without the ids, which other drawings have too."""
    alone = re.sub(r' id="[^"]*"', "", drawn[drawn.index("<svg ") :])
    alone = _SIZE.sub(r'width="\1" height="\2"', alone, count=1)
    alone = re.sub(r"<title>[^<]*</title>\n", "", alone)
    shown = f'<svg role="img" aria-label="{escape(printable(title))}" '
    return shown + alone.removeprefix("<svg ")


def _label(lines: Iterable[str]) -> str:
    """Return a label that Graphviz shows as it is: it reads backslashes and HTML entities."""
    return "\\n".join(escape(printable(shorten(line))).replace("\\", "\\\\") for line in lines)


def _lines(name: str) -> list[str]:
    """Return a name on several lines, if it is long."""
    lines = [""]
    for part in _BREAKS.split(shorten(name)):
        if lines[-1] and len(lines[-1]) + len(part) > _LONGEST_LINE:
            lines.append("")
        lines[-1] += part
    return lines
