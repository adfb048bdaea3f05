"""The documentation's Mermaid diagrams as pictures, drawn by Graphviz when the pages are built.

A page shows what `StateMachine.mermaid()` prints; below it, its picture is drawn from the same
text, so that both are always the same. Mermaid itself would be a script of three megabytes on each
such page, or a browser on the machine of whoever builds the pages. `pygraphviz` brings Graphviz
along, and `flexiflow run --report` needs it anyway.

What is read is the part of Mermaid that `flexiflow` and `tools/house.py` write, and no more.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape, unescape
from importlib import import_module
from typing import Any

_END = "[*]"
_ROOM = re.compile(r'(\w+)\["<b>(.*?)</b>(?:<br>(.*))?"\]')
_ALIAS = re.compile(r'state "(.*)" as (\w+)')
_ARROW = re.compile(r"(\[\*\]|\w+) --> (\[\*\]|\w+)(?:: (.*))?")
_BELOW = re.compile(r"(\w+): (.*)")
_WIDEST = 26
"""How many characters of a room's modules are on one line."""


@dataclass
class Diagram:
    """What a Mermaid text says.

    Attributes:
        kind: its first line.
        boxes: the lines in each box, by the box's id; the first one is its name.
        arrows: where each arrow begins, where it ends, and what stands beside it.
    """

    kind: str
    boxes: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    arrows: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])


def is_diagram(text: str) -> bool:
    """Tell whether a text is a diagram that `read` can read."""
    return text.startswith(("stateDiagram-v2\n", "flowchart TD\n"))


def read(text: str) -> Diagram:
    """Read a diagram.

    Raises:
        ValueError: a line is none of those that `flexiflow` writes.
    """
    kind, *lines = text.strip().splitlines()
    diagram = Diagram(kind)
    for line in map(str.strip, lines):
        if room := _ROOM.fullmatch(line):
            modules = textwrap.wrap(room[3] or "", _WIDEST, break_long_words=False)
            diagram.boxes[room[1]] = [unescape(room[2]), *modules]
        elif alias := _ALIAS.fullmatch(line):
            diagram.boxes[alias[2]] = [_plain(alias[1])]
        elif arrow := _ARROW.fullmatch(line):
            for end in arrow.group(1, 2):
                diagram.boxes.setdefault(end, [end])
            diagram.arrows.append((arrow[1], arrow[2], _plain(arrow[3] or "")))
        elif below := _BELOW.fullmatch(line):
            diagram.boxes.setdefault(below[1], [below[1]]).append(_plain(below[2]))
        else:
            raise ValueError(f"not a line of a diagram: {line!r}")
    return diagram


def _plain(text: str) -> str:
    """Return a text as Mermaid shows it: `#45;` is a hyphen."""
    return re.sub(r"#(\d+);", lambda code: chr(int(code[1])), text)


def draw(text: str, title: str) -> str:
    """Draw a diagram.

    Args:
        text: the diagram, in Mermaid.
        title: what it shows, for those who can't see it.

    Returns:
        An `svg` element that takes its colours from the page around it.
    """
    diagram = read(text)
    graph: Any = import_module("pygraphviz").AGraph(
        directed=True, strict=False, bgcolor="transparent", nodesep="0.2", ranksep="0.35"
    )
    graph.node_attr.update(
        shape="box", style="rounded", margin="0.1,0.05", fontname="Helvetica", fontsize="13"
    )
    graph.edge_attr.update(fontname="Helvetica", fontsize="12", arrowsize="0.7")
    for box, lines in diagram.boxes.items():
        if box != _END:
            graph.add_node(box, label=_label(lines))
    for number, (source, target, beside) in enumerate(diagram.arrows):
        graph.add_edge(
            *_dot(graph, number, source, target), label=_label([f" {beside} "] if beside else [])
        )
    drawn: str = graph.draw(format="svg", prog="dot").decode()
    return "".join(_within_a_page(drawn, title))


def _dot(graph: Any, number: int, source: str, target: str) -> tuple[str, str]:
    """Return the ends of an arrow; a start is a dot, and an end is a dot in a circle."""
    dot, full = f"dot {number}", {"style": "filled", "fillcolor": "black"}
    if source == _END:
        graph.add_node(dot, shape="circle", label="", width="0.16", **full)
        return dot, target
    if target == _END:
        graph.add_node(dot, shape="doublecircle", label="", width="0.11", height="0.11", **full)
        return source, dot
    return source, target


def _label(lines: list[str]) -> str:
    """Return a label that Graphviz shows as it is."""
    return "\\n".join(escape(line).replace("\\", "\\\\") for line in lines)


def _within_a_page(drawn: str, title: str) -> Iterator[str]:
    """Yield the drawing alone: without ids, which other drawings have too, and without colours."""
    alone = re.sub(r' id="[^"]*"', "", drawn[drawn.index("<svg ") :])
    alone = re.sub(r"<title>[^<]*</title>\n", "", alone)
    alone = re.sub(r'width="(\d+)pt" height="(\d+)pt"', r'width="\1" height="\2"', alone, count=1)
    alone = re.sub(r'(fill|stroke)="black"', r'\1="currentColor"', alone)
    # Texts have no colour of their own.
    yield f'<svg role="img" aria-label="{escape(title)}" fill="currentColor" '
    yield alone.removeprefix("<svg ")
