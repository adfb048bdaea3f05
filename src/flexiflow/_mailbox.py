"""Mailboxes: a component handles one message at a time, first come first served (C3, C4).

A mailbox is a line of turns (`_turns`). The sender whose turn is in hand handles its own message,
in its own task.

**Deferred messages.** A message that is sent to a component from within the component's own turn
can't wait for that turn to end: the turn would wait for it in return. It is *deferred*: the sender
gets `Outcome.DEFERRED` at once, and the task that handles the message in hand handles this one
next, before the turns that wait. Each deferred message gets a turn of its own (`renew`), since the
turn of the message before is over.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from flexiflow._turns import Turn, live_turns, never_comes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    Deferred: TypeAlias = tuple[dict[str, Any], bool]
    """A message that a component will handle after the one in hand: the component's copy, and
    whether it was sent from within the handling of `event.handler.failed` (E7)."""


class Mailbox:
    """The turns of one component, or of the senders that wait for one to be made (`Admission`).

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
        """Take a place in line at once, and return it; `Turn.wait_granted` waits for it."""
        turn = Turn()
        turn.line = self
        if self.holder is None:
            self.holder = turn
        else:
            turn.enclosing = frozenset(live_turns())
            self._line_up(turn)
        return turn

    def join_alone(self) -> Turn:
        """As `join`, for a caller that does not wait until the turn is over."""
        # Not an argument of `join`: as a keyword it made each message take 1.1 % more instructions.
        turn = Turn()
        turn.line = self
        if self.holder is None:
            self.holder = turn
        else:
            self._line_up(turn)
        return turn

    @property
    def is_idle(self) -> bool:
        """Whether no message is in hand, waits or was deferred."""
        return self.holder is None and not self.deferred

    def renew(self) -> Turn:
        """Replace the turn in hand by a new one, for a deferred message or a report; return it."""
        turn = self.holder = Turn()
        turn.line = self
        return turn

    def adopt(self, other: Mailbox) -> None:
        """Take over the turns that wait in another mailbox, in order, behind those of this one."""
        other.holder = None
        for turn in other._take_waiting():
            turn.line = self
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
        self.deferred.append((message, announcing))

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
