"""Outcomes that an intake writes to the transport together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, final

from flexiflow.extras.durable._outcomes import Acknowledged, Buried, Postponed, Returned

if TYPE_CHECKING:
    import anyio

    from flexiflow.extras.durable._outcomes import Outcome

HeldT = TypeVar("HeldT")


@final
class Settlements(Generic[HeldT]):
    """Outcomes that are written together.

    Attributes:
        outcomes: the outcomes.
        ignored: how many of them acknowledge events that the group does not take.
        noted: the events whose counts are being written, by position.
        barriers: set when all are written, or the lease is lost.
    """

    __slots__ = ("barriers", "ignored", "noted", "outcomes")

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.ignored = 0
        self.noted: dict[str, HeldT] = {}
        self.barriers: list[anyio.Event] = []

    def wake(self) -> None:
        """Wake the tasks that wait for these outcomes."""
        for barrier in self.barriers:
            barrier.set()


NONE: Final[Settlements[Any]] = Settlements()
"""What is being written while nothing is; never changed."""


def tells_an_end(outcome: Outcome) -> bool:
    """Return whether an outcome says that an attempt has ended, or that none had begun."""
    if isinstance(outcome, Returned | Postponed):
        return outcome.deliveries == 0
    return isinstance(outcome, Acknowledged | Buried)
