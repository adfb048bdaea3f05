"""What a store is tried with, and what it should hold."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

from flexiflow._text import safely
from flexiflow.testing._examiner.kit import claim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow._stores import Stored

NAMES: Final = (
    *("a", "A", "á", "a\u0301", "a\0", "a\0b", "a\n", " a", "a ", "😀", "\uff41"),
    *("a%", "a*", "a_", "{a}", "../a", "a:b", "a'", "0", "00", "\\", "None"),
)
"""Names that differ, however alike they are."""

STATES: Final = ("new", "paid", "bezahlt ✓", "a\0")

SNAPSHOTS: Final[tuple[dict[str, Any] | None, ...]] = (
    {"n": 1},
    None,
    {},
    {"n": 1.0, "t": True, "z": -0.0, "no": None},
    {"large": 2**53 + 1, "larger": 10**30, "small": 5e-324, "digits": 0.1 + 0.2},
    {"": {"": [[], {}, [[]]]}, "a": ["x", [1, 2.5, {"b": False}]]},
    {"text": "\0\n\u2028\\\"'😀", "half": "\ud800", "é\0": "true", "1": "NaN"},
)
"""Snapshots that JSON holds."""

REFUSED: Final[dict[str, tuple[Any, type[Exception]]]] = {
    "NaN": ({"n": float("nan")}, ValueError),
    "an infinity": ({"deep": [{"n": float("-inf")}]}, ValueError),
    "an object": ({"n": object()}, TypeError),
    "a set": ({"deep": [1, {2}]}, TypeError),
    "bytes": ({"n": b"x"}, TypeError),
    "a key that is an int": ({1: 1}, TypeError),
    "a key that is None, deep inside": ({"deep": [{"a": {None: 1}}]}, TypeError),
}
"""Snapshots that JSON does not hold, each with what saving it raises."""

TIMES: Final = (0.0, 1.5, 1.5, -1.0, 1.7e9 + 0.123456, 1.7e9 + 0.123457, math.inf)
"""When components are due; two of them at the same time, one never."""


@final
@dataclass
class Held:
    """What a store should hold of a component."""

    version: int
    state: str
    data: dict[str, Any] | None
    due: float | None


@final
@dataclass
class Model:
    """What a store should hold.

    Attributes:
        held: what it has of each component.
        last: the greatest version that a name has had.
        former: the versions that a name has had since it was last new, the newest last.
    """

    held: dict[str, Held] = field(default_factory=dict[str, Held])
    last: dict[str, int] = field(default_factory=dict[str, int])
    former: dict[str, list[Held]] = field(default_factory=dict[str, "list[Held]"])

    def expected(self, name: str) -> int:
        """Return the version that a save of a component replaces."""
        return self.held[name].version if name in self.held else 0

    def save(self, name: str, held: Held) -> None:
        """Note that a component was saved.

        Raises:
            AssertionError: that version was given before, or is too small.
        """
        last = self.last.get(name, 0)
        claim(
            type(held.version) is int and held.version > last,
            f"a save of {name!r} returned the version {held.version!r}, and it has had "
            f"{last or 'none'} before: a later one is greater",
        )
        self.held[name] = held
        self.last[name] = held.version
        self.former.setdefault(name, []).append(held)

    def delete(self, name: str) -> None:
        """Note that a component was deleted."""
        self.held.pop(name, None)
        self.former.pop(name, None)

    def check(self, name: str, found: Stored | None) -> None:
        """Check what was loaded of a component.

        Raises:
            AssertionError: it is not what was saved.
        """
        held = self.held.get(name)
        if held is None:
            claim(
                found is None,
                f"load({name!r}) returned {safely(repr, found)}, and nothing is stored of it",
            )
            return
        claim(
            found is not None and is_same(held, found),
            f"load({name!r}) returned {safely(repr, found)}, and what was saved is {held}",
        )

    def check_due(self, names: Sequence[str], until: float, limit: int) -> None:
        """Check which components are due; of those due at the same time, any may be first.

        Raises:
            AssertionError: the names are not those that are due first, in order.
        """
        told = f"due({until!r}, {limit}) returned {list(names)}"
        when = {name: each.due for name, each in self.held.items() if each.due is not None}
        times = sorted(due for due in when.values() if due <= until and due < math.inf)[:limit]
        claim(len(names) == len({*names}), f"{told}: a name twice")
        claim(
            [when.get(name) for name in names] == times,
            f"{told}; due at {times} are, by name, {when}",
        )


def is_same(held: Held, found: Stored) -> bool:
    """Return whether what was found is what is held; 1, 1.0 and True differ."""
    return (found.version, found.state, found.due) == (
        held.version,
        held.state,
        held.due,
    ) and written(found.data) == written(held.data)


def written(data: Any) -> str:
    """Return a snapshot as JSON, for comparing."""
    return json.dumps(data, sort_keys=True, default=repr)
