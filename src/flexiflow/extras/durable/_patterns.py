"""Patterns of events, as the bus has them (B10): matching names, inclusion, overlap.

A name is a pattern that matches only itself.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, final

from flexiflow._names import ONE, REST, check_event_name, room

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAX_REMEMBERED: Final = 4096
"""How much room the names that are remembered may take (B10)."""


@final
class Patterns:
    """Matches names against patterns, and remembers answers within a bounded room.

    Args:
        patterns: valid ones.
    """

    __slots__ = ("_indexes", "_remembered", "_tree")

    def __init__(self, patterns: Iterable[str]) -> None:
        self._tree = _grow(patterns)
        self._indexes: dict[str, int | None] = {}
        self._remembered = 0

    def index(self, name: str) -> int | None:
        """Return the index of the first pattern that matches an event's name; None if none does.

        Raises:
            ValueError: it is no valid name of an event.
        """
        try:
            return self._indexes[name]
        except KeyError:
            return self._look_up(check_event_name(name))

    def _look_up(self, name: str) -> int | None:
        index = min(_including(self._tree, name), default=None)
        size = room(name)
        if size <= _MAX_REMEMBERED:
            if self._remembered + size > _MAX_REMEMBERED:
                self._indexes.clear()
                self._remembered = 0
            self._remembered += size
            self._indexes[name] = index
        return index


def includes(some: Iterable[str], others: Iterable[str]) -> bool:
    """Return whether each pattern of `others` is included in one of `some`.

    A pattern includes another if it matches every name that the other matches: "**" includes
    "a.*", which includes "a.b". A pattern includes itself.

    Args:
        some: valid patterns.
        others: valid patterns.
    """
    tree = _grow(some)
    return all(any(True for _ in _including(tree, each)) for each in others)


def canonical(patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns sorted, each once, without those that another one of them includes.

    The result matches the same names.

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
    """Return a pattern of each side such that both match the same name; None if there is no pair.

    Of several pairs it is the one that is first in `some`, and then in `others`. The cost grows
    with the patterns times their shapes, which are few: "order.*" and "item.*" have the same one.

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
    """A node in a tree of patterns, for one segment; `*` and `**` are segments like others.

    Attributes:
        place: the index of the pattern that ends here, or None.
        children: the nodes of the segments that follow here.
    """

    __slots__ = ("children", "place")

    def __init__(self) -> None:
        self.place: int | None = None
        self.children: dict[str, _Node] = {}


def _grow(patterns: Iterable[str]) -> _Node:
    """Return a tree of patterns; of equal ones it holds the index of the first."""
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
    """Yield the indexes of the patterns that include this one; some perhaps twice."""
    nodes = [tree]
    for segment in pattern.split("."):
        for node in nodes:
            if (rest := node.children.get(REST)) is not None and rest.place is not None:
                yield rest.place
        # From here on `**` is included in nothing but `**`.
        keys = (segment,) if segment in (ONE, REST) else (segment, ONE)
        nodes = [node.children[key] for node in nodes for key in keys if key in node.children]
        if not nodes:
            return
    for node in nodes:
        if node.place is not None:
            yield node.place


class _Shape(NamedTuple):
    """The form of a pattern: what is left of it without the text of its literal segments.

    Attributes:
        length: the number of segments, not counting a `**`.
        literals: the indexes of the segments that are no wildcards.
        is_open: whether the pattern ends with `**`.
    """

    length: int
    literals: tuple[int, ...]
    is_open: bool


_Segments: TypeAlias = list[tuple[int, list[str]]]
"""Indexes of patterns, each with the pattern's segments."""


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
    """Return the indexes of the first two patterns of two shapes that overlap, or None.

    Two patterns overlap if they have the same segment wherever both have a literal.
    """
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
    """Return whether some number of segments fits both shapes."""
    if one.is_open:
        return two.is_open or two.length > one.length
    return one.length > two.length if two.is_open else one.length == two.length
