"""The events that wait to be handled, and their order (X4): plain data, without I/O or a loop.

`Lanes`, one for each lease, let one event of a key through at a time. The `Queue`, one for the
worker, holds those that were let through, of all leases, and decides which one is next.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Waiting(Protocol):
    """An event that waits to be handled."""

    @property
    def key(self) -> str | None:
        """Its key: events of one key are handled one at a time, in order; None for any order."""
        ...

    @property
    def is_suspect(self) -> bool:
        """Whether it is to be handled alone."""
        ...

    @property
    def has_waited(self) -> bool:
        """Whether it was away, at the transport, where others of its key may be still."""
        ...


W = TypeVar("W", bound=Waiting)

SHARE: Final = 8
"""While there are others, one event of this many may be one that has waited."""

_NOBODY: Final[deque[Any]] = deque()


@final
class Queue(Generic[W]):
    """The events that may be handled next, of all lanes.

    An event is *out* from `take` until `back`.

    A suspect, whose last worker may have died of it, is handled alone: if it kills this worker too,
    all events that are out beside it become suspects, innocent or not. After `relent` it goes with
    others all the same, since the handler of one that is out may wait for one that is held up.

    An event that has waited has failed before, and may fail for ever. It is taken when there is no
    other, or as every eighth, and only some of this kind are out at once.

    Args:
        most_again: how many events that have waited may be out at once.

    Attributes:
        turn: how many suspects have been out; `relent` names the current one by it.
    """

    def __init__(self, most_again: int = sys.maxsize) -> None:
        self._ready: deque[W] = deque()
        self._again: deque[W] = deque()
        self._most_again = most_again
        self._again_out = 0
        self._taken = 0
        self._suspects: deque[W] = deque()
        self._out = 0
        self._is_suspect_out = False
        self._is_alone = True
        self.turn = 0

    def put(self, each: W) -> None:
        """Add an event, behind the others of its kind."""
        if each.is_suspect:
            self._suspects.append(each)
        else:
            (self._again if each.has_waited else self._ready).append(each)

    def take(self) -> W | None:
        """Take the next event, suspects first; None if none may be handled now."""
        queue = self._next()
        if not queue:
            return None
        self._out += 1
        self._taken += 1
        if queue is not self._ready:
            self._is_suspect_out |= queue is self._suspects
            self._again_out += queue is self._again
        return queue.popleft()

    def _next(self) -> deque[W]:
        """Return the events of the kind that the next one is taken from; it may be empty."""
        is_one_due = self._is_suspect_out or self._suspects
        if not (is_one_due or self._again):
            # As nearly always; this is asked twice for each event.
            return self._ready
        if self._suspects and not self._is_suspect_out and not (self._out and self._is_alone):
            return self._suspects
        if is_one_due and self._is_alone:
            return _NOBODY
        is_turn = not self._ready or self._taken % SHARE == 0
        if is_turn and self._again and self._again_out < self._most_again:
            return self._again
        return self._ready

    def back(self, *, was_suspect: bool, has_waited: bool = False) -> None:
        """Note that the handling of an event that was taken has ended."""
        self._out -= 1
        if was_suspect:
            self._is_suspect_out = False
            self._is_alone = True
            self.turn += 1
        elif has_waited:
            self._again_out -= 1

    def relent(self, turn: int) -> None:
        """Stop isolating the suspect of that turn, if it is still its turn."""
        if turn == self.turn:
            self._is_alone = False

    @property
    def is_held_up(self) -> bool:
        """Whether events wait, and none may be taken because a suspect is handled alone."""
        is_alone = self._is_alone and (self._is_suspect_out or bool(self._suspects))
        return is_alone and bool(self._ready or self._again or self._suspects) and not self

    def __bool__(self) -> bool:
        """Return whether there is an event to take."""
        return bool(self._next())

    def discard(self, is_gone: Callable[[W], bool]) -> None:
        """Remove the events for which `is_gone` returns True."""
        self._ready = deque(each for each in self._ready if not is_gone(each))
        self._again = deque(each for each in self._again if not is_gone(each))
        self._suspects = deque(each for each in self._suspects if not is_gone(each))


@final
class Lanes(Generic[W]):
    """Lets one event of a key through to the queue at a time, in order.

    Events of a key may be *away*: they wait at the transport, which gives one of them at a time. To
    keep the order, those that come after them have to be sent there, too.

    Args:
        queue: the queue.
        away: the keys of which events are away.
    """

    __slots__ = ("_away", "_behind", "_queue")

    def __init__(self, queue: Queue[W], away: Iterable[str] = ()) -> None:
        self._queue = queue
        # By key, the events behind the one that was let through, None for none; a key is there as
        # long as one of its events is through.
        self._behind: dict[str, deque[W] | None] = {}
        self._away = set(away)

    def enter(self, each: W) -> bool:
        """Let an event through, or keep it behind the others of its key.

        Returns:
            Whether it was accepted: False if others of its key are away, unless it has been away
            itself.
        """
        key = each.key
        if key is None:
            self._queue.put(each)
            return True
        if each.has_waited:
            # Others of its key, which were another worker's, may wait behind it.
            self._away.add(key)
        elif key in self._away:
            return False
        if key in self._behind:
            behind = self._behind[key]
            if behind is None:
                behind = self._behind[key] = deque()
            behind.append(each)
        else:
            self._behind[key] = None
            self._queue.put(each)
        return True

    def leave(self, each: W) -> None:
        """Note the end of an event that was let through; the next one of its key follows."""
        key = each.key
        if key is None:
            return
        behind = self._behind.get(key)
        if behind:
            self._queue.put(behind.popleft())
        else:
            self._behind.pop(key, None)

    def send_away(self, each: W) -> list[W]:
        """Note that an event that was let through waits at the transport from now on.

        Returns:
            The events of its key behind it, in order; they have to be sent there, too.
        """
        if each.key is None:
            return []
        self._away.add(each.key)
        return list(self._behind.pop(each.key, None) or ())

    def are_back(self, key: str) -> None:
        """Accept the events of a key again: none of them is away any more."""
        self._away.discard(key)

    def forget(self, each: W) -> bool:
        """Remove an event that waits behind another one of its key; return whether it did."""
        behind = self._behind.get(each.key) if each.key is not None else None
        if not behind or each not in behind:
            return False
        behind.remove(each)
        return True

    def clear(self) -> None:
        """Forget the events that wait, and those that were let through."""
        self._behind.clear()
