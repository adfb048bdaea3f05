"""What waits to be handled, and in which order (X4): plain data, without I/O and without a loop."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable


class Waiting(Protocol):
    """What waits.

    Attributes:
        key: those of one key go one at a time, in order; None goes with any.
        is_suspect: whether it is to go alone.
    """

    @property
    def key(self) -> str | None:
        """See the class."""
        ...

    @property
    def is_suspect(self) -> bool:
        """See the class."""
        ...


W = TypeVar("W", bound=Waiting)

_NOBODY: Final[deque[Any]] = deque()


@final
class Queue(Generic[W]):
    """What may go next, whatever lanes it comes from.

    A suspect goes alone: what goes with one that kills the worker would be a suspect after that,
    innocent or not. It goes with others all the same where those who wait for that had to wait for
    too long, since one of those who are out may wait for one of them.

    Attributes:
        turn: how many suspects have been out; tells for which one it is waited.
    """

    __slots__ = ("_is_alone", "_is_suspect_out", "_out", "_ready", "_suspects", "turn")

    def __init__(self) -> None:
        self._ready: deque[W] = deque()
        self._suspects: deque[W] = deque()
        self._out = 0
        self._is_suspect_out = False
        self._is_alone = True
        self.turn = 0

    def put(self, each: W) -> None:
        """Let one go after those that wait."""
        (self._suspects if each.is_suspect else self._ready).append(each)

    def take(self) -> W | None:
        """Take the next one, if any may go, until it is `back`; suspects first."""
        line = self._line()
        if not line:
            return None
        self._out += 1
        self._is_suspect_out |= line is self._suspects
        return line.popleft()

    def _line(self) -> deque[W]:
        """Choose the line whose first is next, if it has one."""
        is_one_due = self._is_suspect_out or self._suspects
        if self._suspects and not self._is_suspect_out and not (self._out and self._is_alone):
            return self._suspects
        return _NOBODY if is_one_due and self._is_alone else self._ready

    def back(self, *, was_suspect: bool) -> None:
        """End what one that was taken was taken for."""
        self._out -= 1
        if was_suspect:
            self._is_suspect_out = False
            self._is_alone = True
            self.turn += 1

    def relent(self, turn: int) -> None:
        """Let others go with the suspect of that turn."""
        if turn == self.turn:
            self._is_alone = False

    @property
    def is_held_up(self) -> bool:
        """Whether some wait, and none may go for the sake of a suspect."""
        return bool(self._ready or self._suspects) and not self

    def __bool__(self) -> bool:
        """Tell whether there is one to take."""
        return bool(self._line())

    def discard(self, is_gone: Callable[[W], bool]) -> None:
        """Take those out that are gone."""
        self._ready = deque(each for each in self._ready if not is_gone(each))
        self._suspects = deque(each for each in self._suspects if not is_gone(each))


@final
class Lanes(Generic[W]):
    """Lets through one of a key at a time, in order.

    Args:
        queue: where they go on to.
    """

    __slots__ = ("_behind", "_queue")

    def __init__(self, queue: Queue[W]) -> None:
        self._queue = queue
        # By key, those that wait for the one that is through; the key is there as long as that is.
        self._behind: dict[str, deque[W] | None] = {}

    def enter(self, each: W) -> None:
        """Let one through, or have it wait for those of its key."""
        key = each.key
        if key is not None:
            if key in self._behind:
                behind = self._behind[key]
                if behind is None:
                    behind = self._behind[key] = deque()
                behind.append(each)
                return
            self._behind[key] = None
        self._queue.put(each)

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

    def clear(self) -> None:
        """Let nobody through of those that wait."""
        self._behind.clear()
