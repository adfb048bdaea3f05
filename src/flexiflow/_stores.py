"""What an engine asks of a store, in which the states of components outlive the process (K2)."""

from __future__ import annotations

import reprlib
from collections.abc import Coroutine, Mapping, Sequence
from inspect import isawaitable
from math import isnan
from typing import Any, NamedTuple, Protocol, cast, final, runtime_checkable

from flexiflow._delivery.verdict import attempt


@final
class Stored(NamedTuple):
    """What a store has of a component (K2).

    Attributes:
        version: the number of this version, 1 or more; a later version of the same name has a
            greater one, also after a `delete`.
        state: the state.
        data: what the component's `snapshot` returned, or None.
        due: when the component's `after` sends its trigger, in seconds since 1970 (M2); infinite if
            it has sent it; None if the state has no `after`.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.stores import MemoryStateStore
        >>> async def main():
        ...     store = MemoryStateStore()
        ...     await store.save("A7", "paid", None, expected=0)
        ...     stored = await store.load("A7")
        ...     print(stored.version, stored.state)
        >>> anyio.run(main)
        1 paid
    """

    version: int
    state: str
    data: Mapping[str, Any] | None
    due: float | None


@runtime_checkable
class StateStore(Protocol):
    """Keeps the states of components (K2).

    Several tasks call the methods at the same time, and several engines may share what is stored.
    Every method may be cancelled; then it is not known whether it has done its work.

    A store that is an async context manager, too, is entered by `Engine.running`. It may be entered
    several times; the last exit closes it.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.stores import MemoryStateStore, StateStore
        >>> async def show(store: StateStore) -> None:
        ...     await store.save("A7", "placed", {"total": 42}, expected=0)
        ...     print(await store.load("A7"))
        >>> anyio.run(show, MemoryStateStore())
        Stored(version=1, state='placed', data={'total': 42}, due=None)
    """

    async def load(self, name: str) -> Stored | None:
        """Return what is stored of a component, or None."""
        ...

    async def save(
        self,
        name: str,
        state: str,
        data: Mapping[str, Any] | None,
        *,
        expected: int,
        due: float | None = None,
    ) -> int:
        """Store a component's state, and return the version; it is durable then.

        Args:
            name: the component's name.
            state: its state.
            data: what it has besides, as JSON; or None.
            expected: the version that this one replaces; 0 if nothing is stored.
            due: when it is to be loaded at the latest, in seconds since 1970; infinite or None for
                never. Both are kept apart.

        Raises:
            StateConflict: another version is stored, or none; nothing has changed.
            TypeError: `data` is not JSON; nothing has changed.
            ValueError: `data` holds a number that is no JSON; nothing has changed.
        """
        ...

    async def due(self, until: float, limit: int) -> Sequence[str]:
        """Return the names of components whose `due` is not after `until`, the earliest first.

        A component whose `due` is None or infinite is never returned, whatever `until` is.

        Args:
            until: in seconds since 1970; may be infinite.
            limit: how many names to return at most.
        """
        ...

    async def delete(self, name: str) -> None:
        """Forget a component, and its former versions; nothing happens if none is stored."""
        ...


async def load(store: StateStore, name: str) -> Stored | None:
    """Return what a store has of a component.

    Raises:
        TypeError: the store returned something else than a `Stored` or None.
        Exception: what the store raised.
    """
    found: Stored | None = await attempt(store.load, name)
    if found is None or _is_stored(found):
        return found
    raise _refusal(store, "load", "None or a Stored, as Stored(1, 'new', {'n': 1}, None)", found)


def check_version(store: StateStore, version: object, expected: int) -> int:
    """Return the version that a store's `save` has returned.

    Raises:
        TypeError: it is something else than a later version than the `expected` one.
    """
    if isinstance(version, int) and version > expected:
        return version
    raise _refusal(store, "save", f"a version, an int of more than {expected}", version)


async def find_due(store: StateStore, until: float, limit: int) -> Sequence[str]:
    """Return the names of components whose `due` is not after `until`, the earliest first.

    Raises:
        TypeError: the store returned something else than names.
        Exception: what the store raised.
    """
    names: object = await attempt(store.due, until, limit)
    if _are_names(names):
        return cast("Sequence[str]", names)
    raise _refusal(store, "due", "a list of names", names)


def snapshot_of(component: Any) -> Mapping[str, Any] | None:
    """Return what is to be stored beside a component's state (K1).

    Raises:
        TypeError: its `snapshot` returns something else than a mapping or None.
        Exception: what `snapshot` raised.
    """
    data: object = component.snapshot()
    # A dict is the usual case, and checking against `Mapping` takes much longer.
    if data is not None and not isinstance(data, (dict, Mapping)):
        _refuse_async("snapshot", component, data)
        raise TypeError(
            f"snapshot of {component!r} must return a mapping or None, not {reprlib.repr(data)}"
        )
    return cast("Mapping[str, Any] | None", data)


def restore(component: Any, data: Mapping[str, Any] | None) -> None:
    """Give a component what was stored beside its state, if anything was (K1).

    Raises:
        TypeError: its `restore` is async.
        Exception: what `restore` raised.
    """
    if data is not None and (result := component.restore(data)) is not None:
        _refuse_async("restore", component, result)


def _is_stored(found: object) -> bool:
    """Return whether something is a `Stored` with values of the right types."""
    if not isinstance(found, Stored):
        return False
    version, state, data, due = cast("tuple[Any, ...]", found)
    return (
        isinstance(version, int)
        and version > 0
        and isinstance(state, str)
        and (data is None or isinstance(data, (dict, Mapping)))
        and (due is None or (isinstance(due, (int, float)) and not isnan(due)))
    )


def _are_names(found: object) -> bool:
    """Return whether something is a sequence of names."""
    if not isinstance(found, Sequence) or isinstance(found, str):
        return False
    return all(isinstance(name, str) for name in cast("Sequence[object]", found))


def _refusal(store: object, method: str, wanted: str, given: object) -> TypeError:
    return TypeError(
        f"{method} of {reprlib.repr(store)} must return {wanted}; it returned {reprlib.repr(given)}"
    )


def _refuse_async(method: str, component: Any, result: object) -> None:
    if isawaitable(result):
        if isinstance(result, Coroutine):
            result.close()
        raise TypeError(f"{method} of {component!r} must not be async; write it as `def`")
