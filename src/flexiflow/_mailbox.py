"""Whose turn it is: one message at a time, first come first served, and never a deadlock (C3, C4).

A *turn* is the handling of one message, and the wait for it. It is marked in the context, so
whoever sends from within it, from a child task too, can be told from an outsider. Messages that
are deferred meanwhile have turns of their own, before all who wait. The calls of a handler that is
limited (V2) are turns too, so that a ring of those who wait may lead through both.
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
    """A message that waits for the handling in hand to end.

    Attributes:
        message: the component's copy.
        announcing: it was sent from within the handling of `event.handler.failed` (E7).
    """

    message: dict[str, Any]
    announcing: bool


class Line(Protocol):
    """Where turns are taken, each to end before another one comes."""

    @property
    def holders(self) -> Collection[Turn]:
        """The turns in hand; a place in line has to wait until one of them ends."""
        ...

    def withdraw(self, turn: Turn) -> None:
        """Give up a place in line, or the turn itself, which passes to the next in line."""
        ...


@final
class Mailbox:
    """The turns of one component, or of those who wait for one to be made.

    Attributes:
        holder: the turn in hand; without one nobody waits.
        waiting: the turns that will follow, in order; None or empty where nobody waits.
        deferred: the messages to be handled before the next turn's own.
    """

    __slots__ = ("deferred", "holder", "waiting")

    def __init__(self) -> None:
        self.holder: Turn | None = None
        # None while empty: there is a mailbox for each of perhaps 100,000 components.
        self.deferred: deque[Deferred] | None = None
        self.waiting: OrderedDict[Turn, None] | None = None

    @property
    def holders(self) -> tuple[Turn, ...]:
        """The turn in hand, if any."""
        return () if self.holder is None else (self.holder,)

    def join(self) -> Turn:
        """Take a place in line, at once; the turn then tells when it has come."""
        turn = Turn()
        turn.mailbox = self
        if self.holder is None:
            self.holder = turn
        else:
            turn.enclosing = frozenset(live_turns())
            self._line_up(turn)
        return turn

    def go_on(self) -> Turn:
        """Let another turn follow the one in hand at once, for a deferred message."""
        turn = self.holder = Turn()
        turn.mailbox = self
        return turn

    def adopt(self, other: Mailbox) -> None:
        """Take over those who wait in another mailbox, in their order, behind one's own."""
        other.holder = None
        for turn in other._take_waiting():
            turn.mailbox = self
            if self.holder is None:
                self.holder = turn
                turn.end_waiting()
            else:
                self._line_up(turn)

    def refuse(self, refusal: Callable[[], Exception]) -> None:
        """Let all who wait fail."""
        for turn in self._take_waiting():
            turn.refusal = refusal()
            turn.end_waiting()

    def withdraw(self, turn: Turn) -> None:
        """Give up a place in line, or the turn itself, which passes to the next in line."""
        if self.holder is turn:
            self.pass_on()
        elif self.waiting is not None:
            self.waiting.pop(turn, None)

    def pass_on(self) -> None:
        """End the turn in hand; the next in line has it from now on, if anyone waits."""
        self.holder = None
        if self.waiting:
            self.holder, _ = self.waiting.popitem(last=False)
            self.holder.end_waiting()

    def defer(self, message: dict[str, Any], *, announcing: bool) -> None:
        """Keep a message until the handling in hand has ended."""
        if self.deferred is None:
            self.deferred = deque()
        self.deferred.append(Deferred(message, announcing))

    def take_deferred(self) -> list[Deferred]:
        """Take all deferred messages out."""
        taken = list(self.deferred or ())
        if self.deferred is not None:
            self.deferred.clear()
        return taken

    def _line_up(self, turn: Turn) -> None:
        # Most of those who would wait for themselves do it at once.
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
    """One message's time with a mailbox; a context manager that marks it in the context.

    It is over when that is left, for those too who inherited the context.

    Attributes:
        mailbox: whose turn it is, or will be; set by the mailbox that makes it.
        enclosing: the turns within which the sender waits; they wait while it waits.
        awaited: the turns that are waited for within this one, or None.
        would_deadlock: waiting would be for oneself: for an enclosing turn to end.
        refusal: what the sender gets instead of the turn.
        outer: the turn within which this one is handled, or None.
        is_over: it has been handled.
    """

    # There is one for each message, and most need no more than the mailbox. Without an `__init__`,
    # which would be called from Python, a message takes 5 % less time.
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
        """Where it is taken."""
        return self.mailbox

    def __enter__(self) -> Self:
        self.outer = innermost_turn()
        self._token: Token[Turn | None] = current_turn.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        self.awaited = None
        restore(current_turn, self._token)
        del self._token  # it keeps what was marked before

    async def granted(self) -> bool:
        """Wait until the turn has come; False where it would never.

        Raises:
            Exception: the refusal.
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
        """Let the enclosing turns know what they wait for."""
        if self._granted is None:
            self._granted = anyio.Event()
        for turn in self.enclosing:
            if turn.awaited is None:
                turn.awaited = set()
            turn.awaited.add(self)

    def end_waiting(self) -> None:
        """Wake the sender."""
        for turn in self.enclosing:
            if turn.awaited is not None:
                turn.awaited.discard(self)
        self.enclosing = frozenset()
        if self._granted is not None:
            self._granted.set()

    def end(self) -> None:
        """Pass the turn on, or leave the line."""
        self.line.withdraw(self)
        self.end_waiting()


current_turn: ContextVar[Turn | None] = ContextVar("turn", default=None)


def innermost_turn() -> Turn | None:
    """Tell which turn is being handled here, if any."""
    # All are gone through for one, so that what is over is forgotten all the way out.
    return next(iter([*live_turns()]), None)


def live_turns() -> Iterator[Turn]:
    """Go through the turns that are being handled here, from the inside out."""
    turn = _first_live(current_turn.get())
    while turn is not None:
        yield turn
        # What is over is forgotten: else a chain of tasks, each started by the handling of the
        # message that the one before sent, would keep all its turns in memory.
        turn.outer = _first_live(turn.outer)
        turn = turn.outer


def _first_live(turn: Turn | None) -> Turn | None:
    while turn is not None and turn.is_over:
        turn = turn.outer
    return turn


def never_comes(line: Line, enclosing: frozenset[Turn]) -> bool:
    """Tell whether who waits in a line, within the `enclosing` turns, would wait for ever.

    Who waits is stuck if all holders of the line are; a holder, if anything is that is awaited
    within its turn. Whatever can be reached is suspected, until it turns out to be free.
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
        # From the far end, so that a chain is gone through once.
        for each in [*reversed(suspects)]:
            if _is_free(suspects[each], suspects):
                del suspects[each]
    return line in suspects


def _awaited(holder: Turn, line: Line, enclosing: frozenset[Turn]) -> set[Line]:
    """Say where a holder waits, once somebody waits in `line` within the `enclosing` turns."""
    lines = {turn.line for turn in holder.awaited or ()}
    if holder in enclosing:
        lines.add(line)
    return lines


def _is_free(holders: list[set[Line]], suspects: dict[Line, list[set[Line]]]) -> bool:
    # A line that is being adopted has lost its holder, and its turns are asked about one by one.
    return not holders or any(suspects.keys().isdisjoint(lines) for lines in holders)
