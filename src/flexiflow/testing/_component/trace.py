"""What happened to components while a script ran."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from flexiflow.testing._examiner.trace import Trace

if TYPE_CHECKING:
    from flexiflow._machine import Transition
    from flexiflow.testing._examiner.trace import Entry

HANDLED: Final = ("received", "asked", "answered", "acts", "acted", "failed", "changed")


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


@dataclass
class ComponentTrace(Trace):
    """All that happened to components, in order.

    Attributes:
        messages: what was sent, by number.
        rows: the transitions of the machine.
    """

    messages: list[Message] = field(default_factory=list[Message])
    rows: tuple[Transition, ...] = ()

    def handling(self, number: int) -> list[Entry]:
        """Return the entries of a message's handling."""
        return self.all(*HANDLED, act=number)

    def left_by_cancellation(self, number: int) -> bool:
        """Return whether a send was cancelled."""
        return self.is_cancelled(self.ended(number))
