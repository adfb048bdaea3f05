"""Turns: one message at a time, first come first served, and never a deadlock (C3, C4).

**Turns and lines.** A *turn* is the handling of one message, and the wait before it. A *line* is
where turns are taken. A component's `Mailbox` is a line with one holder, the turn in hand, and the
turns that wait behind it in the order of sending. A handler's `Limiter` (V2) is a line with as many
holders as calls may run at once. A turn that ends passes its place to the next in line in the same
step, so nobody can overtake.

**The mark in the context.** While a message is handled, its turn is the value of `current_turn`.
Handlers, child tasks and threads inherit it, so a message that is sent from within a turn can be
told from one that comes from outside. Turns nest: the handling of one message may send another one
and wait, and `outer` leads to the turn around. A task may outlive the turn that it inherited, so a
turn that is over is marked, and skipped.

**Deferred messages.** A message that is sent to a component from within the component's own turn
can't wait for that turn to end: the turn would wait for it in return. It is *deferred*: the sender
gets `Outcome.DEFERRED` at once, and the task that handles the message in hand handles this one
next, before the turns that wait. Each deferred message gets a turn of its own (`go_on`), since the
turn of the message before is over.

**Deadlocks.** The same happens in a ring: within a turn of A, a message is sent to B, whose turn in
hand waits for A. So before a turn waits, `never_comes` searches for a ring that the wait would
close. It needs two facts. Each waiting turn knows the turns within which its message was sent
(`enclosing`); each turn in hand knows the turns that are waited for within it (`awaited`). Then:

- a line is stuck if all its holders are stuck: any one of them could make room;
- a holder is stuck if any of the lines that it waits in is stuck, since it ends only when all of
  its child tasks have.

Assume that every line that can be reached from this one is stuck, drop those that can move, and
repeat until nothing changes. What is left is a deadlock. A ring can close only where a wait begins,
so it is enough to search there. A turn that would close one gets `would_deadlock` instead of a
place: a message is then deferred, a limited call fails with `LimitDeadlock`, and a factory that
asks for the component that it makes gets a `ComponentError`. A sender outside of all turns can't
close a ring, and needs no search. Waits for anything but turns, like locks and streams, are not
seen.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from contextvars import ContextVar
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, final

import anyio

from flexiflow._contexts import restore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from contextvars import Token


class Deferred(NamedTuple):
    """A message that a component will handle after the one in hand.

    Attributes:
        message: the component's copy.
        announcing: whether it was sent from within the handling of `event.handler.failed` (E7).
    """

    message: dict[str, Any]
    announcing: bool


class Line(Protocol):
    """Where turns are taken: once it is full, a turn must end before another can begin."""

    @property
    def holders(self) -> Collection[Turn]:
        """The turns in hand; those that wait in line wait until one of these ends."""
        ...

    def withdraw(self, turn: Turn) -> None:
        """Give up a place in line, or the turn in hand, which then passes to the next in line."""
        ...


@final
class Mailbox:
    """The turns of one component, or of the senders that wait for one to be made.

    Attributes:
        holder: the turn in hand; if there is none, nobody waits.
        waiting: the turns that will follow, in order; None or empty if nobody waits.
        deferred: the messages to be handled before the next turn's own; None or empty if none.
    """

    __slots__ = ("deferred", "holder", "waiting")

    def __init__(self) -> None:
        self.holder: Turn | None = None
        # None while empty, to save memory: there may be 100,000 components, each with a mailbox.
        self.deferred: deque[Deferred] | None = None
        self.waiting: OrderedDict[Turn, None] | None = None

    @property
    def holders(self) -> tuple[Turn, ...]:
        """The turn in hand, as a tuple of one or none."""
        return () if self.holder is None else (self.holder,)

    def join(self) -> Turn:
        """Take a place in line at once, and return it; `Turn.granted` waits until it has come."""
        turn = Turn()
        turn.mailbox = self
        if self.holder is None:
            self.holder = turn
        else:
            turn.enclosing = frozenset(live_turns())
            self._line_up(turn)
        return turn

    def go_on(self) -> Turn:
        """Replace the turn in hand by a new one, for a deferred message or a report; return it."""
        turn = self.holder = Turn()
        turn.mailbox = self
        return turn

    def adopt(self, other: Mailbox) -> None:
        """Take over the turns that wait in another mailbox, in order, behind those of this one."""
        other.holder = None
        for turn in other._take_waiting():
            turn.mailbox = self
            if self.holder is None:
                self.holder = turn
                turn.end_waiting()
            else:
                self._line_up(turn)

    def refuse(self, refusal: Callable[[], Exception]) -> None:
        """Make all waiting turns fail, each with an exception that `refusal` returns."""
        for turn in self._take_waiting():
            turn.refusal = refusal()
            turn.end_waiting()

    def withdraw(self, turn: Turn) -> None:
        """Give up a place in line, or the turn in hand, which then passes to the next in line."""
        if self.holder is turn:
            self.pass_on()
        elif self.waiting is not None:
            self.waiting.pop(turn, None)

    def pass_on(self) -> None:
        """End the turn in hand; the next turn in line, if any, is in hand from this step on."""
        self.holder = None
        if self.waiting:
            self.holder, _ = self.waiting.popitem(last=False)
            self.holder.end_waiting()

    def defer(self, message: dict[str, Any], *, announcing: bool) -> None:
        """Keep a message until the handling of the one in hand has ended."""
        if self.deferred is None:
            self.deferred = deque()
        self.deferred.append(Deferred(message, announcing))

    def take_deferred(self) -> list[Deferred]:
        """Remove all deferred messages, and return them."""
        taken = list(self.deferred or ())
        if self.deferred is not None:
            self.deferred.clear()
        return taken

    def _line_up(self, turn: Turn) -> None:
        # The commonest deadlock first: a component that sends itself a message.
        if self.holder in turn.enclosing or never_comes(self, turn.enclosing):
            turn.would_deadlock = True
            turn.end_waiting()
            return
        if self.waiting is None:
            self.waiting = OrderedDict()
        self.waiting[turn] = None
        turn.begin_waiting()

    def _take_waiting(self) -> Iterable[Turn]:
        waiting, self.waiting = self.waiting, None
        return waiting or ()


class Turn:
    """The wait for one message, and its handling; a context manager for the handling.

    Inside, the turn is marked in the context. Once that is left the turn is over, also for tasks
    that inherited the context.

    Attributes:
        mailbox: where the turn is taken; set by the mailbox that makes it.
        enclosing: the turns that the sender runs in; they can't end while it waits.
        awaited: the turns that are waited for within this one, or None.
        would_deadlock: whether the wait would never end, because an enclosing turn would have to
            end first.
        refusal: the exception that the sender gets instead of the turn, or None.
        outer: the turn within which this one is handled, or None.
        is_over: whether the handling has ended.
    """

    # There is a turn for each message, and most of them need the mailbox alone. Defaults in the
    # class spare the call of an `__init__`: a message takes 5 % less time.
    enclosing: frozenset[Turn] = frozenset()
    awaited: set[Turn] | None = None
    would_deadlock = False
    refusal: Exception | None = None
    outer: Turn | None = None
    is_over = False
    _granted: anyio.Event | None = None
    mailbox: Mailbox

    @property
    def line(self) -> Line:
        """The line that it is taken in."""
        return self.mailbox

    def __enter__(self) -> Self:
        self.outer = innermost_turn()
        self._token: Token[Turn | None] = current_turn.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        self.awaited = None
        restore(current_turn, self._token)
        del self._token  # it holds the mark before, and so all of them

    async def granted(self) -> bool:
        """Wait until the turn has come; return False at once if it never would.

        Raises:
            Exception: the turn was refused; this is the refusal.
        """
        if self._granted is not None:
            try:
                await self._granted.wait()
            except BaseException:
                self.end()
                raise
        refusal, self.refusal = self.refusal, None
        if refusal is not None:
            try:
                raise refusal
            finally:
                del refusal  # its traceback holds this frame (B6)
        return not self.would_deadlock

    def begin_waiting(self) -> None:
        """Note in the enclosing turns that they wait for this one."""
        if self._granted is None:
            self._granted = anyio.Event()
        for turn in self.enclosing:
            if turn.awaited is None:
                turn.awaited = set()
            turn.awaited.add(self)

    def end_waiting(self) -> None:
        """Wake the sender, and note in the enclosing turns that they wait no more."""
        for turn in self.enclosing:
            if turn.awaited is not None:
                turn.awaited.discard(self)
        self.enclosing = frozenset()
        if self._granted is not None:
            self._granted.set()

    def end(self) -> None:
        """Pass the turn on to the next in line, or leave the line."""
        self.line.withdraw(self)
        self.end_waiting()


current_turn: ContextVar[Turn | None] = ContextVar("turn", default=None)


def innermost_turn() -> Turn | None:
    """Return the turn that the caller runs in, or None."""
    # Run the iterator to its end: on its way out it drops the turns that are over.
    return next(iter([*live_turns()]), None)


def live_turns() -> Iterator[Turn]:
    """Iterate over the turns that the caller runs in, from the inside out."""
    turn = _first_live(current_turn.get())
    while turn is not None:
        yield turn
        # Drop the turns that are over. In a chain of tasks, each started by the handling of the
        # message that the one before sent, all turns would else stay in memory.
        turn.outer = _first_live(turn.outer)
        turn = turn.outer


def _first_live(turn: Turn | None) -> Turn | None:
    while turn is not None and turn.is_over:
        turn = turn.outer
    return turn


def never_comes(line: Line, enclosing: frozenset[Turn]) -> bool:
    """Return whether a wait in `line`, from within the `enclosing` turns, would never end.

    A line is stuck if all its holders are; a holder is stuck if any line is that is waited in
    within its turn. Assume that every reachable line is stuck, then drop those that can move; what
    is left is a deadlock.
    """
    if not enclosing or any(
        holder not in enclosing and not holder.awaited for holder in line.holders
    ):
        return False
    suspects: dict[Line, list[set[Line]]] = {}
    reached = [line]
    while reached:
        each = reached.pop()
        if each not in suspects:
            suspects[each] = [_awaited(holder, line, enclosing) for holder in each.holders]
            reached += chain.from_iterable(suspects[each])
    suspected = 0
    while suspected != len(suspects):
        suspected = len(suspects)
        # From the far end, so that one pass settles a chain of lines.
        for each in [*reversed(suspects)]:
            if _is_free(suspects[each], suspects):
                del suspects[each]
    return line in suspects


def _awaited(holder: Turn, line: Line, enclosing: frozenset[Turn]) -> set[Line]:
    """Return the lines that a holder waits in, counting the wait that `never_comes` asks about."""
    lines = {turn.line for turn in holder.awaited or ()}
    if holder in enclosing:
        lines.add(line)
    return lines


def _is_free(holders: list[set[Line]], suspects: dict[Line, list[set[Line]]]) -> bool:
    # A line without a holder is being adopted: its turns join their new line one by one.
    return not holders or any(suspects.keys().isdisjoint(lines) for lines in holders)
