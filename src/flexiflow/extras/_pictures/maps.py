"""Maps of states: drawn by Graphviz, as SVG that takes its colours from the page around it.

`pygraphviz` brings Graphviz along. No other library lays out a graph with loops and labels as well.
"""

from __future__ import annotations

import re
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flexiflow._text import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST_LINE: Final = 24
_SIZE: Final = re.compile(r'width="(\d+)pt" height="(\d+)pt"')
_BREAKS: Final = re.compile(r"(?<=[ /._-])")


class Place(NamedTuple):
    """A state on a map.

    Attributes:
        name: its name.
        text: what stands below the name.
    """

    name: str
    text: str = ""


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


def draw_map(places: Iterable[Place], ways: Iterable[Way], *, title: str) -> str:
    """Draw a map of states.

    Args:
        places: the states; the first one is at the top.
        ways: the transitions, between these states.
        title: what the map shows, for those who can't see it.

    Returns:
        An `svg` element, in which all names are escaped.

    Raises:
        ModuleNotFoundError: `pygraphviz` is not installed.
    """
    graph: Any = import_module("pygraphviz").AGraph(
        directed=True, strict=False, bgcolor="transparent", nodesep="0.35", ranksep="0.45"
    )
    graph.node_attr.update(shape="box", style="rounded,filled", fontname="Helvetica", fontsize="12")
    graph.edge_attr.update(fontname="Helvetica", fontsize="10", arrowsize="0.7")
    places = list(places)
    ids = {place.name: f"s{number}" for number, place in enumerate(places)}
    for place in places:
        lines = [*_lines(place.name), *([place.text] if place.text else [])]
        graph.add_node(
            ids[place.name],
            label=_label(lines),
            tooltip=_label([place.name]),
        )
    for way in ways:
        graph.add_edge(
            ids[way.source],
            ids[way.target],
            # Graphviz puts the text beside the middle of the line, however wide that is.
            label=_label(" " * round(way.width) + line for line in way.text.split("\n")),
            tooltip=_label([way.hint]),
            labeltooltip=_label([way.hint]),
            penwidth=f"{way.width:.1f}",
            weight=f"{way.width * 10:.0f}",
        )
    drawn: str = graph.draw(format="svg", prog="dot").decode()
    return _within_a_page(drawn, title)


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
