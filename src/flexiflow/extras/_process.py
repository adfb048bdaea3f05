"""The process that something was opened in, and its forked children, which must not use it (X9)."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Final, Protocol, final
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable

_FORKED: Final = (
    "this process was forked from the one that opened it; one that is made here would be right"
)


# Windows has neither forks nor this function; `dict` takes its arguments and does nothing.
_at_forks: Final[Callable[..., object]] = getattr(os, "register_at_fork", dict)


_LOCKS: Final = WeakSet[Lock]()


def fork_safe_lock() -> Lock:
    """Return a lock that is free in a forked child, even if a thread of the parent holds it."""
    lock = Lock()
    _LOCKS.add(lock)
    return lock


def _free_locks() -> None:
    for lock in list(_LOCKS):
        with suppress(RuntimeError):
            lock.release()


# Registered before the hooks of `FORKS`, since hooks are called in this order in a child.
_at_forks(after_in_child=_free_locks)


class Pausable(Protocol):
    """An object that is paused during a fork, since a child must not inherit it as it is."""

    def pause(self) -> None:
        """Finish what a thread is doing, and close what a child must not inherit."""
        ...

    def resume(self) -> None:
        """Work again; called in the parent."""
        ...

    def start_over(self) -> None:
        """Leave to the parent what is under way; called in the child."""
        ...


@final
class _Forks:
    """Counts the forks that led to this process, and pauses registered objects during each.

    Attributes:
        generation: how many forks led to this process.
    """

    def __init__(self) -> None:
        self.generation = 0
        # Held during a fork, since two threads may fork at the same time.
        self._lock = fork_safe_lock()
        self._registered = WeakSet[Pausable]()
        self._paused: list[Pausable] = []

    def register(self, one: Pausable) -> None:
        """Pause an object at each fork from now on; it is referred to weakly."""
        with self._lock:
            self._registered.add(one)

    def before(self) -> None:
        self._lock.acquire()
        for each in list(self._registered):
            each.pause()
            self._paused.append(each)

    def in_parent(self) -> None:
        while self._paused:
            self._paused.pop().resume()
        self._lock.release()

    def in_child(self) -> None:
        self.generation += 1
        # What was not open in the parent may be used here.
        while self._paused:
            self._paused.pop().start_over()


FORKS: Final = _Forks()

_at_forks(before=FORKS.before, after_in_parent=FORKS.in_parent, after_in_child=FORKS.in_child)


@final
class Home:
    """The process in which this object is made, and in which alone something may be used.

    Both the number of the process and the count of forks are compared: numbers of processes that
    have ended are used again, and a fork that Python did not make is not counted.

    Args:
        address: the address of that thing.
        unusable: makes an exception of the address and a reason.
    """

    __slots__ = ("_address", "_generation", "_pid", "_unusable")

    def __init__(self, address: str, unusable: Callable[[str, str], Exception]) -> None:
        self._address = address
        self._unusable = unusable
        self._pid = os.getpid()
        self._generation = FORKS.generation

    @property
    def is_here(self) -> bool:
        """Whether the current process is that one."""
        return os.getpid() == self._pid and FORKS.generation == self._generation

    def check(self) -> None:
        """Raise in any other process; to be called before waiting for a lock.

        Raises:
            Exception: made by `unusable`: the current process was forked from that one.
        """
        # As `is_here`, without the call: 0.7 % of the instructions that a stored event costs.
        if os.getpid() != self._pid or FORKS.generation != self._generation:
            raise self._unusable(self._address, _FORKED)
