"""A store within one process: it behaves as the others do, but nothing outlives the process."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING, Any, NamedTuple, final

from anyio.lowlevel import checkpoint

from flexiflow._errors import StateConflict
from flexiflow._stores import Stored
from flexiflow._text import counted
from flexiflow.extras.stores._arguments import (
    check_history,
    check_limit,
    check_name,
    check_save,
    check_until,
)
from flexiflow.extras.stores._snapshots import decode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class _Version(NamedTuple):
    """A version of a component; the snapshot is JSON, so that nobody can change it."""

    version: int
    state: str
    data: str | None
    due: float | None


@final
class MemoryStateStore:
    """A store that lasts as long as this object, for tests and within one process (K2).

    Several engines of one thread may use it, in one event loop after another, on any backend.

    A snapshot is kept as JSON: what is loaded is a copy, in which a tuple has become a list.

    Args:
        history: how many former versions of each component are kept, 0 to 10**12.

    Raises:
        ValueError: `history` is out of its range.

    Example:
        >>> import anyio
        >>> from flexiflow import Component, Engine, StateMachine, Transition
        >>> from flexiflow.extras.stores import MemoryStateStore
        >>> MACHINE = StateMachine("placed", [Transition("placed", "pay", "paid")])
        >>> async def main():
        ...     store = MemoryStateStore()
        ...     engine = Engine(store=store)
        ...     await engine.register(Component("A7", machine=MACHINE))
        ...     await engine.send("A7", {"type": "pay"})
        ...     print((await store.load("A7")).state)
        >>> anyio.run(main)
        paid
    """

    __slots__ = ("_due", "_history", "_last", "_versions")

    def __init__(self, *, history: int = 0) -> None:
        self._history = check_history(history)
        # The versions of each component, the newest last.
        self._versions: dict[str, list[_Version]] = {}
        # The components that are due some time, sorted.
        self._due: list[tuple[float, str]] = []
        self._last = 0

    def __repr__(self) -> str:
        """Show how many components are stored."""
        return f"<{type(self).__name__} of {counted(len(self._versions), 'component')}>"

    async def load(self, name: str) -> Stored | None:
        """Return what is stored of a component, or None.

        Raises:
            ValueError: no component of that name can be stored; it is too long, or no UTF-8.
        """
        check_name(name)
        await checkpoint()
        found = self._versions.get(name)
        return None if found is None else _stored(found[-1])

    async def save(
        self,
        name: str,
        state: str,
        data: Mapping[str, Any] | None,
        *,
        expected: int,
        due: float | None = None,
    ) -> int:
        """Store a component's state, and return the version.

        Args:
            name: the component's name, of at most 65,536 bytes in UTF-8.
            state: its state, no longer than that.
            data: what it has besides, as JSON; or None.
            expected: the version that this one replaces; 0 if nothing is stored.
            due: when it is to be loaded at the latest, in seconds since 1970; infinite or None
                for never.

        Raises:
            StateConflict: another version is stored, or none; nothing has changed.
            TypeError: `data` is not JSON; nothing has changed.
            ValueError: `data` holds a number that is no JSON, or another argument is out of its
                range; nothing has changed.
        """
        text, due = check_save(name, state, data, expected, due)
        await checkpoint()
        versions = self._versions.get(name, [])
        found = versions[-1].version if versions else 0
        if found != expected:
            raise StateConflict(name, expected, found)
        self._last += 1
        self._forget_due(name)
        versions.append(_Version(self._last, state, text, due))
        del versions[: -1 - self._history]
        self._versions[name] = versions
        if due is not None and due < math.inf:
            insort(self._due, (due, name))
        return self._last

    async def due(self, until: float, limit: int) -> Sequence[str]:
        """Return the names of components whose `due` is not after `until`, the earliest first.

        A component whose `due` is None or infinite is never returned, whatever `until` is.

        Of several that are due at the same time, the one whose name is first in the order of its
        characters comes first.

        Args:
            until: in seconds since 1970; may be infinite.
            limit: how many names to return at most, 0 to 10**12.

        Raises:
            ValueError: an argument out of its range.
        """
        check_until(until)
        check_limit(limit)
        await checkpoint()
        end = bisect_right(self._due, until, key=lambda each: each[0])
        return [name for _, name in self._due[: min(end, limit)]]

    async def delete(self, name: str) -> None:
        """Forget a component, and its former versions; nothing happens if none is stored.

        Raises:
            ValueError: no component of that name can be stored.
        """
        check_name(name)
        await checkpoint()
        self._forget_due(name)
        self._versions.pop(name, None)

    async def versions(self, name: str) -> Sequence[Stored]:
        """Return the current version of a component and at most `history` former ones.

        The newest is the first.

        Raises:
            ValueError: no component of that name can be stored.
        """
        check_name(name)
        await checkpoint()
        return [_stored(each) for each in reversed(self._versions.get(name, []))]

    def _forget_due(self, name: str) -> None:
        versions = self._versions.get(name)
        due = None if versions is None else versions[-1].due
        if due is not None and due < math.inf:
            del self._due[bisect_left(self._due, (due, name))]


def _stored(version: _Version) -> Stored:
    return Stored(version.version, version.state, decode(version.data), version.due)
