"""Which events a bridge takes: patterns as the bus's (B10), asked for name after name.

A name is a pattern that matches itself alone.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, final

from flexiflow._names import ONE, REST, check_event_name, room

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAX_REMEMBERED: Final = 4096
"""How much room the names take that are remembered (B10)."""


@final
class Patterns:
    """Some patterns, and the names that were asked about; what is kept for names is bounded.

    Args:
        patterns: valid ones.
    """

    __slots__ = ("_places", "_remembered", "_tree")

    def __init__(self, patterns: Iterable[str]) -> None:
        self._tree = _grow(patterns)
        self._places: dict[str, int | None] = {}
        self._remembered = 0

    def place(self, name: str) -> int | None:
        """Return the place of the first pattern that matches an event's name; None if none does.

        Raises:
            ValueError: it is no event's name.
        """
        try:
            return self._places[name]
        except KeyError:
            return self._look_up(check_event_name(name))

    def _look_up(self, name: str) -> int | None:
        place = min(_including(self._tree, name), default=None)
        size = room(name)
        if size <= _MAX_REMEMBERED:
            if self._remembered + size > _MAX_REMEMBERED:
                self._places.clear()
                self._remembered = 0
            self._remembered += size
            self._places[name] = place
        return place


def includes(some: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether each of `others` is included in one of `some`.

    A pattern is included in another if that one matches every name that it matches: "**" includes
    "a.*", which includes "a.b". A pattern includes itself.

    Args:
        some: valid patterns.
        others: valid patterns.
    """
    tree = _grow(some)
    return all(any(True for _ in _including(tree, each)) for each in others)


def canonical(patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns in sorted order, without those that another one of them includes.

    What is left matches the same names; a pattern that is given twice is returned once.

    Args:
        patterns: valid ones.
    """
    given = sorted(set(patterns))
    tree = _grow(given)
    return tuple(
        each
        for place, each in enumerate(given)
        if all(other == place for other in _including(tree, each))
    )


def overlapping(some: Iterable[str], others: Iterable[str]) -> tuple[str, str] | None:
    """Find two patterns, one of each, that match the same name.

    Of several such pairs it is the first of `some`, with the first of `others`. The cost grows with
    the patterns times the shapes that they have, which are few: "order.*" and "item.*" have one.

    Args:
        some: valid patterns.
        others: valid patterns.
    """
    ones, twos = [*some], [*others]
    pairs = product(_by_shape(ones).items(), _by_shape(twos).items())
    met = (_first_meeting(*one, *two) for one, two in pairs)
    found = min((each for each in met if each is not None), default=None)
    return None if found is None else (ones[found[0]], twos[found[1]])


class _Node:
    """A segment in a tree of patterns; `*` and `**` are segments like others.

    Attributes:
        place: the place of the pattern that ends here, or None.
        children: the segments that follow here.
    """

    __slots__ = ("children", "place")

    def __init__(self) -> None:
        self.place: int | None = None
        self.children: dict[str, _Node] = {}


def _grow(patterns: Iterable[str]) -> _Node:
    """Make a tree of patterns; of equal ones the first has its place in it."""
    root = _Node()
    for place, pattern in enumerate(patterns):
        node = root
        for segment in pattern.split("."):
            child = node.children.get(segment)
            if child is None:
                child = node.children[segment] = _Node()
            node = child
        if node.place is None:
            node.place = place
    return root


def _including(tree: _Node, pattern: str) -> Iterator[int]:
    """Give the places of the patterns that include this one; some perhaps twice."""
    nodes = [tree]
    for segment in pattern.split("."):
        for node in nodes:
            if (rest := node.children.get(REST)) is not None and rest.place is not None:
                yield rest.place
        # What goes on as `**` is included in nothing but `**`.
        keys = (segment,) if segment in (ONE, REST) else (segment, ONE)
        nodes = [node.children[key] for node in nodes for key in keys if key in node.children]
        if not nodes:
            return
    for node in nodes:
        if node.place is not None:
            yield node.place


class _Shape(NamedTuple):
    """What patterns have in common that differ in their literal segments alone.

    Attributes:
        length: the number of segments, a `**` not counted.
        literals: which of them are no wildcards.
        is_open: whether there is a `**`.
    """

    length: int
    literals: tuple[int, ...]
    is_open: bool


_Segments: TypeAlias = list[tuple[int, list[str]]]
"""Places of patterns, and their segments."""


def _by_shape(patterns: list[str]) -> dict[_Shape, _Segments]:
    found: dict[_Shape, _Segments] = {}
    for place, pattern in enumerate(patterns):
        segments = pattern.split(".")
        is_open = segments[-1] == REST
        literals = (at for at, each in enumerate(segments) if each not in (ONE, REST))
        shape = _Shape(len(segments) - is_open, tuple(literals), is_open)
        found.setdefault(shape, []).append((place, segments))
    return found


def _first_meeting(
    one: _Shape, ones: _Segments, two: _Shape, twos: _Segments
) -> tuple[int, int] | None:
    """Return the places of the first two that overlap: which have the same literals in common."""
    if not _may_meet(one, two):
        return None
    common = sorted({*one.literals} & {*two.literals})
    first: dict[tuple[str, ...], int] = {}
    for place, segments in twos:
        first.setdefault(tuple(segments[at] for at in common), place)
    for place, segments in ones:
        other = first.get(tuple(segments[at] for at in common))
        if other is not None:
            return place, other
    return None


def _may_meet(one: _Shape, two: _Shape) -> bool:
    """Return whether a name may have as many segments as both want."""
    if one.is_open:
        return two.is_open or two.length > one.length
    return one.length > two.length if two.is_open else one.length == two.length
