"""The history: what happened to components while a script ran."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flexiflow.testing._examiner.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flexiflow._machine import Transition

ENDS = ("returned", "raised")
HANDLED = ("received", "asked", "answered", "acts", "acted", "failed", "changed")


@dataclass(frozen=True, eq=False)
class Message:
    """A message that was sent.

    Attributes:
        number: how many were sent before.
        to: the component's name.
        trigger: its type.
        within: the numbers of the messages within whose handling it was sent.
        task: the task that sent it.
    """

    number: int
    to: str
    trigger: str
    within: tuple[int, ...]
    task: int

    @property
    def name(self) -> str:
        """Its name in a complaint."""
        return f"message {self.number} ({self.trigger} to {self.to})"


@dataclass(frozen=True, eq=False, slots=True)
class Moment:
    """Something that happened.

    Attributes:
        what: "sent", then "returned" or "raised"; "received" and "changed", the observed events;
            "asked", then "answered", of a guard; "acts", then "acted", of an action; "failed", of
            either; "logged"; "reported", a failure; "seen", a state.
        number: the message's number, or -1.
        component: the name of the component.
        row: the number of the transition, or -1.
        value: what came of it: an outcome, an answer, an exception, a log record, a payload.
        state: the component's state.
        task: the task in which it happened.
    """

    what: str
    number: int
    component: str
    row: int
    value: Any
    state: str | None
    task: int


@dataclass
class History(Trace):
    """All that happened to components, in order.

    Attributes:
        moments: what happened.
        messages: what was sent, by number.
        rows: the transitions of the machine.
    """

    moments: list[Moment] = field(default_factory=list[Moment])
    messages: list[Message] = field(default_factory=list[Message])
    rows: tuple[Transition, ...] = ()

    def told(self) -> Iterator[tuple[int, str, str, Any]]:
        """Yield each moment's task, what happened, to whom, and what came of it."""
        for each in self.moments:
            who = self.messages[each.number].name if each.number >= 0 else each.component
            yield each.task, each.what, who, each.value

    def of(self, number: int, *whats: str) -> list[Moment]:
        """Return the moments of some kinds of one message."""
        return [each for each in self.moments if each.number == number and each.what in whats]

    def handling(self, number: int) -> list[Moment]:
        """Return the moments in which a message was handled."""
        return self.of(number, *HANDLED)

    def outcome(self, number: int) -> Moment | None:
        """Return the moment in which a send returned or raised, or None if it never ended."""
        return next(iter(self.of(number, *ENDS)), None)

    def left_by_cancellation(self, number: int) -> bool:
        """Return whether a send was cancelled."""
        end = self.outcome(number)
        return end is not None and isinstance(end.value, self.cancellation)
