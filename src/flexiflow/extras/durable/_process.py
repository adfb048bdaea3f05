"""The process that something was opened in, and those that are forked from it (X9)."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Final, Protocol, final
from weakref import WeakSet

from flexiflow.extras.durable._errors import TransportUnusable

if TYPE_CHECKING:
    from collections.abc import Callable

_FORKED: Final = (
    "this process was forked from the one that opened it; here a bridge of its own would be right"
)


# Windows has neither forks nor this; `dict` does nothing with what it is given.
_at_forks: Final[Callable[..., object]] = getattr(os, "register_at_fork", dict)


def fork_safe_lock() -> Lock:
    """Make a lock that nobody holds in a child, whichever thread of the parent holds it."""
    lock = Lock()

    def release() -> None:
        with suppress(RuntimeError):
            lock.release()

    _at_forks(after_in_child=release)
    return lock


class Resting(Protocol):
    """Something that must not be carried over a fork as it is."""

    def rest(self) -> None:
        """Finish what a thread is doing, and hold nothing that a child must not have."""
        ...

    def go_on(self) -> None:
        """Work again; called in the parent only."""
        ...


@final
class _Forks:
    """Counts the forks that led to this process, and brings what is registered to rest for each.

    Attributes:
        generation: how many forks there were.
    """

    def __init__(self) -> None:
        self.generation = 0
        # Held from before a fork until after it: two threads may fork at the same time.
        self._lock = fork_safe_lock()
        self._registered = WeakSet[Resting]()
        self._resting: list[Resting] = []

    def register(self, one: Resting) -> None:
        """Have something rest at each fork from now on, as long as it is there."""
        with self._lock:
            self._registered.add(one)

    def unregister(self, one: Resting) -> None:
        """Let something be."""
        with self._lock:
            self._registered.discard(one)

    def before(self) -> None:
        self._lock.acquire()
        for each in list(self._registered):
            each.rest()
            self._resting.append(each)

    def in_parent(self) -> None:
        while self._resting:
            self._resting.pop().go_on()
        self._lock.release()

    def in_child(self) -> None:
        self.generation += 1
        # What is inherited is never used again, so it need not go on.
        self._resting.clear()
        self._registered.clear()


FORKS: Final = _Forks()

_at_forks(before=FORKS.before, after_in_parent=FORKS.in_parent, after_in_child=FORKS.in_child)


@final
class Home:
    """The process that something is opened in: where this is made.

    A process is told by its number, and by its forks: the numbers of processes that have ended are
    used again. A fork that Python did not make is not counted, so both are compared.

    Args:
        address: where that is connected to, for what is raised.
    """

    __slots__ = ("_address", "_generation", "_pid")

    def __init__(self, address: str) -> None:
        self._address = address
        self._pid = os.getpid()
        self._generation = FORKS.generation

    @property
    def is_here(self) -> bool:
        """Whether this is that process."""
        return os.getpid() == self._pid and FORKS.generation == self._generation

    def check(self) -> None:
        """Refuse to go on elsewhere; to be called before any lock is waited for.

        Raises:
            TransportUnusable: this process was forked from that one.
        """
        # As `is_here`, without the call: it is done for each event that is stored.
        if os.getpid() != self._pid or FORKS.generation != self._generation:
            raise TransportUnusable(self._address, _FORKED)
