"""The documentation's Mermaid diagrams as pictures, drawn by Graphviz when the pages are built.

A page shows what `StateMachine.mermaid()` prints; below it, its picture is drawn from the same
text, so that both are always the same. Mermaid itself would be a script of three megabytes on each
such page, or a browser to build the pages with. The maps of `flexiflow run --report` are drawn in
the same way.

What is read is the part of Mermaid that `flexiflow` and `tools/house.py` write, and no more.
"""

import re
from dataclasses import dataclass, field
from html import unescape

from flexiflow.extras._pictures.maps import Place, Way, draw_map

_END = "[*]"
_ROOM = re.compile(r'(\w+)\["<b>(.*?)</b>(?:<br>(.*))?"\]')
_ALIAS = re.compile(r'state "(.*)" as (\w+)')
_ARROW = re.compile(r"(\[\*\]|\w+) --> (\[\*\]|\w+)(?:: (.*))?")
_BELOW = re.compile(r"(\w+): (.*)")
_BREAKS = re.compile(r"(?<=[ .])")
_WIDEST_NAME, _WIDEST = 14, 16
"""How many characters of a room's name, and of its modules, are on one line.

With longer lines the house is so wide that a page shrinks its texts until nobody can read them.
"""


@dataclass
class Diagram:
    """What a Mermaid text says.

    Attributes:
        kind: its first line.
        boxes: the lines in each box, by the box's id; its name comes first.
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
            name = _wrap(unescape(room[2]), _WIDEST_NAME)
            diagram.boxes[room[1]] = [*name, *_wrap(room[3] or "", _WIDEST)]
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


def _wrap(text: str, widest: int) -> list[str]:
    """Return a text on several lines, which end at spaces and dots."""
    lines = [""]
    for part in _BREAKS.split(text):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > widest:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines if line]


def _plain(text: str) -> str:
    """Return a text as Mermaid shows it: `#45;` is a hyphen."""
    return re.sub(r"#(\d+);", lambda code: chr(int(code[1])), text)


def draw(text: str, title: str) -> str:
    """Draw a diagram.

    Args:
        text: the diagram, in Mermaid.
        title: what it shows, for those who can't see it.

    Returns:
        An `svg` element, to which the page gives its colours.
    """
    diagram = read(text)
    boxes = {box: lines for box, lines in diagram.boxes.items() if box != _END}
    places = [Place(lines[0], "\n".join(lines[1:]), box) for box, lines in boxes.items()]
    ways = list[Way]()
    for number, (source, target, beside) in enumerate(diagram.arrows):
        dot = f"dot {number}"
        if source == _END:
            places.append(Place("the beginning", key=dot, shape="start"))
            ways.append(Way(dot, target, beside))
        elif target == _END:
            places.append(Place("the end", key=dot, shape="end"))
            ways.append(Way(source, dot, beside))
        else:
            ways.append(Way(source, target, beside))
    return draw_map(places, ways, title=title)
