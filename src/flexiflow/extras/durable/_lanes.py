"""What waits to be handled, and in which order (X4): plain data, without I/O and without a loop."""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Waiting(Protocol):
    """What waits.

    Attributes:
        key: those of one key go one at a time, in order; None goes with any.
        is_suspect: whether it is to go alone.
        has_waited: whether it was away, and others of its key may be.
    """

    @property
    def key(self) -> str | None:
        """See the class."""
        ...

    @property
    def is_suspect(self) -> bool:
        """See the class."""
        ...

    @property
    def has_waited(self) -> bool:
        """See the class."""
        ...


W = TypeVar("W", bound=Waiting)

SHARE: Final = 8
"""One of so many that go may have waited elsewhere, where there are others."""

_NOBODY: Final[deque[Any]] = deque()


@final
class Queue(Generic[W]):
    """What may go next, whatever lanes it comes from.

    A suspect goes alone: what goes with one that kills the worker would be a suspect after that,
    innocent or not. It goes with others all the same where those who wait for that had to wait for
    too long, since one of those who are out may wait for one of them.

    What has waited has failed before, and may fail for ever: it goes after the others, or as every
    eighth, and only so many of them are out at once.

    Args:
        most_again: how many of those that have waited may be out at once.

    Attributes:
        turn: how many suspects have been out; tells for which one it is waited.
    """

    __slots__ = (
        "_again",
        "_again_out",
        "_is_alone",
        "_is_suspect_out",
        "_most_again",
        "_out",
        "_ready",
        "_suspects",
        "_taken",
        "turn",
    )

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
        """Let one go after those that wait."""
        if each.is_suspect:
            self._suspects.append(each)
        else:
            (self._again if each.has_waited else self._ready).append(each)

    def take(self) -> W | None:
        """Take the next one, if any may go, until it is `back`; suspects first."""
        line = self._line()
        if not line:
            return None
        self._out += 1
        self._taken += 1
        self._is_suspect_out |= line is self._suspects
        self._again_out += line is self._again
        return line.popleft()

    def _line(self) -> deque[W]:
        """Choose the line whose first is next, if it has one."""
        is_one_due = self._is_suspect_out or self._suspects
        if self._suspects and not self._is_suspect_out and not (self._out and self._is_alone):
            return self._suspects
        if is_one_due and self._is_alone:
            return _NOBODY
        is_turn = not self._ready or self._taken % SHARE == 0
        if is_turn and self._again and self._again_out < self._most_again:
            return self._again
        return self._ready

    def back(self, *, was_suspect: bool, has_waited: bool = False) -> None:
        """End what one that was taken was taken for."""
        self._out -= 1
        if was_suspect:
            self._is_suspect_out = False
            self._is_alone = True
            self.turn += 1
        elif has_waited:
            self._again_out -= 1

    def relent(self, turn: int) -> None:
        """Let others go with the suspect of that turn."""
        if turn == self.turn:
            self._is_alone = False

    @property
    def is_held_up(self) -> bool:
        """Whether some wait, and none may go for the sake of a suspect."""
        is_alone = self._is_alone and (self._is_suspect_out or bool(self._suspects))
        return is_alone and bool(self._ready or self._again or self._suspects) and not self

    def __bool__(self) -> bool:
        """Tell whether there is one to take."""
        return bool(self._line())

    def discard(self, is_gone: Callable[[W], bool]) -> None:
        """Take those out that are gone."""
        self._ready = deque(each for each in self._ready if not is_gone(each))
        self._again = deque(each for each in self._again if not is_gone(each))
        self._suspects = deque(each for each in self._suspects if not is_gone(each))


@final
class Lanes(Generic[W]):
    """Lets through one of a key at a time, in order.

    Some of a key may be *away*: they wait at the transport, which gives one of them at a time.
    Those that come after them have to go there, too.

    Args:
        queue: where they go on to.
        away: the keys of which some are away.
    """

    __slots__ = ("_away", "_behind", "_queue")

    def __init__(self, queue: Queue[W], away: Iterable[str] = ()) -> None:
        self._queue = queue
        # By key, those that wait for the one that is through; the key is there as long as that is.
        self._behind: dict[str, deque[W] | None] = {}
        self._away = set(away)

    def enter(self, each: W) -> bool:
        """Let one through, or have it wait for those of its key.

        Returns:
            Whether it may stay: False where others of its key are away, and it does not come from
            there.
        """
        key = each.key
        if key is None:
            self._queue.put(each)
            return True
        if each.has_waited:
            # Others may wait behind it that were another worker's.
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
        """End one that was let through; the next of its key follows."""
        key = each.key
        if key is None:
            return
        behind = self._behind.get(key)
        if behind:
            self._queue.put(behind.popleft())
        else:
            self._behind.pop(key, None)

    def send_away(self, each: W) -> list[W]:
        """End one that was let through, since it waits elsewhere from now on.

        Returns:
            Those that wait for it here, in order; they have to go there, too.
        """
        if each.key is None:
            return []
        self._away.add(each.key)
        return list(self._behind.pop(each.key, None) or ())

    def are_back(self, key: str) -> None:
        """Let those of a key stay again: none of them is away any more."""
        self._away.discard(key)

    def forget(self, each: W) -> bool:
        """Take out one that waits for another one of its key, and return whether it did."""
        behind = self._behind.get(each.key) if each.key is not None else None
        if not behind or each not in behind:
            return False
        behind.remove(each)
        return True

    def clear(self) -> None:
        """Let nobody through of those that wait."""
        self._behind.clear()
