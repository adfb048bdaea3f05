"""Turns: who waits for whom, and never a deadlock of turns (C4, V2).

**Turns and lines.** A *turn* is the handling of one message, or the call of a limited handler, and
the wait before it. A *line* is where turns are taken: its holders are the turns in hand, and other
turns wait behind them. A component's `Mailbox` is a line with one holder; a handler's `Limiter` is
a line with as many holders as calls may run at once. A turn that ends passes its place to the next
in line in the same step, so nobody can overtake.

**The mark in the context.** While a turn is in hand, it is the value of `current_turn` (`_marks`),
so a message that is sent from within the turn can be told from one that comes from outside. Turns
nest: the handling of one message may send another one and wait, and `outer` leads to the turn
around. A task may outlive the turn that it inherited, so a turn that is over is skipped.

**Deadlocks.** A turn that waits for the turn in hand around it would wait for ever. So would one in
a ring: within a turn of A, a message is sent to B, whose turn in hand waits for A. So before a turn
waits, `never_comes` searches for a ring that the wait would close. It needs two facts. Each waiting
turn knows the turns within which it was asked for (`enclosing`); each turn in hand knows the turns
that are waited for within it (`awaited`). Then:

- a line is stuck if all its holders are stuck: any one of them could make room;
- a holder is stuck if any of the lines that it waits in is stuck, since it ends only when all of
  its child tasks have.

Assume that every line that can be reached from this one is stuck, drop those that can move, and
repeat until nothing changes. What is left is a deadlock. A ring can close only where a wait begins,
so it is enough to search there. A turn that would close one gets `would_deadlock` instead of a
place: a message is then deferred, a limited call fails with `LimitDeadlock`, and a factory that
asks for the component that it makes gets a `ComponentError`. A sender outside of all turns can't
close a ring, and needs no search. Waits for anything but turns, like locks and streams, are not
seen; a stream finds a consumer that would wait for itself on its own (`_stream`, `_receiver`).

**Waits that can't be given up.** The work of a state is a line, too, whose only holder is a turn
that lasts as long as the work (`_lifecycle`). A transition that leaves the state waits in that line
until the work has ended. It must wait; so if that closes a ring, `break_ring` gives up waits that
have begun: those of the work.
"""

from __future__ import annotations

from contextvars import ContextVar
from itertools import chain
from typing import TYPE_CHECKING, Self

import anyio

from flexiflow._marks import Mark

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Protocol

    class Line(Protocol):
        """Where turns are taken: once it is full, a turn must end before another can begin."""

        @property
        def holders(self) -> Collection[Turn]:
            """The turns in hand; those that wait in line wait until one of these ends."""
            ...

        def withdraw(self, turn: Turn) -> None:
            """Give up a place in line, or the turn in hand, which then passes to the next one."""
            ...


class Entangled(Exception):
    """A transition can't wait for the end of a work, which waits for it in return (M3).

    The message is to be handled outside of what the work waits for: in a task of `running()`.
    """


current_turn: ContextVar[Turn | None] = ContextVar("turn", default=None)


class Turn(Mark):
    """The wait for one message or call, and its handling, which is inside the mark.

    Attributes:
        line: where the turn is taken; set by the line that makes it.
        enclosing: the turns that the sender runs in; they can't end while it waits.
        awaited: the turns that are waited for within this one, or None.
        would_deadlock: whether the wait would never end, because an enclosing turn would have to
            end first.
        must_wait: whether the wait can't be given up, so that others must be (M3).
        refusal: the exception that the sender gets instead of the turn, or None.
        trigger: where the message comes from, if its component's state has sent it (`_lifecycle`).
        outer: the turn within which this one is handled, or None.
    """

    # There is a turn for each message, and most of them need the line alone. Defaults in the
    # class spare the call of an `__init__`: a message takes 5 % less time.
    variable = current_turn
    enclosing: frozenset[Turn] = frozenset()
    awaited: set[Turn] | None = None
    would_deadlock: bool = False
    must_wait: bool = False
    refusal: Exception | None = None
    trigger: object = None
    outer: Turn | None = None
    _granted: anyio.Event | None = None
    line: Line

    def __enter__(self) -> Self:
        if current_turn.get() is not None:
            self.outer = innermost_turn()
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        self.awaited = None
        super().__exit__(*exception)

    async def wait_granted(self) -> bool:
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

    def give_up(self) -> None:
        """Leave the line, since the wait would never end."""
        self.would_deadlock = True
        self.end()


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
    return line in _stuck_lines(line, enclosing)


def break_ring(line: Line, enclosing: frozenset[Turn]) -> None:
    """Make a wait in `line` come to an end, if it would never do so by itself.

    The wait has begun, and can't be given up. So the waits of the holders are given up that would
    have to end first; where these can't be given up either, those of their holders.
    """
    stuck = _stuck_lines(line, enclosing)
    reached = [line]
    for each in reached:
        for holder in each.holders:
            for turn in [*(holder.awaited or ())]:
                if turn.line not in stuck or turn.line in reached:
                    continue
                if turn.must_wait:
                    reached.append(turn.line)
                else:
                    turn.give_up()


def _stuck_lines(line: Line, enclosing: frozenset[Turn]) -> Collection[Line]:
    """Return the lines that are stuck among those that can be reached from `line`."""
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
    return suspects


def _awaited(holder: Turn, line: Line, enclosing: frozenset[Turn]) -> set[Line]:
    """Return the lines that a holder waits in, counting the wait that `never_comes` asks about."""
    lines = {turn.line for turn in holder.awaited or ()}
    if holder in enclosing:
        lines.add(line)
    return lines


def _is_free(holders: list[set[Line]], suspects: dict[Line, list[set[Line]]]) -> bool:
    # A line without a holder is being adopted: its turns join their new line one by one.
    return not holders or any(suspects.keys().isdisjoint(lines) for lines in holders)
