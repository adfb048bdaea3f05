"""What a bus does, as a reader of the contract would write it down: plain data, without a loop."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._trace import matches
from properties.programs import Cancelled, Going, until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from flexiflow._bus import DeliveryMode, ErrorPolicy


@dataclass(eq=False)
class Seat:
    """A subscription."""

    age: int
    event: str
    component: str
    handler: Callable[[Any], Coroutine[Any, Any, None]]
    priority: int
    filter: Callable[[str, Any], bool] | None
    once: bool
    active: bool = True


class Failure(NamedTuple):
    """What `publish` returns of a failure."""

    subscription: Seat
    exception: Exception


silent = ContextVar("silent", default=False)
"""Whether what goes on is within the handling of `event.handler.failed` (E7)."""

_TIERS: dict[DeliveryMode, Callable[[Seat], int]] = {
    "sequential": lambda seat: seat.age,
    "concurrent": lambda _: 0,
    "tiered": lambda seat: seat.priority,
}
"""Those of the same number are called at once."""


@dataclass
class ModelBus:
    """The reference.

    Attributes:
        seats: the subscriptions, by age.
        log: is told each failure that is logged.
        in_any_order: whether several were cancelled at the same time, and so cleaned up in any
            order.
    """

    log: Callable[[Exception], None]
    seats: list[Seat] = field(default_factory=list[Seat])
    in_any_order: bool = False

    async def subscribe(
        self, event: str, component: str, handler: Any, *, priority: int, filter: Any, once: bool
    ) -> Seat:
        """Add a subscription."""
        seat = Seat(len(self.seats), event, component, handler, priority, filter, once)
        self.seats.append(seat)
        return seat

    def unsubscribe(self, seat: Seat) -> bool:
        """End a subscription, for one time."""
        was_active, seat.active = seat.active, False
        return was_active

    def unsubscribe_all(self, component: str) -> int:
        """End those of a component."""
        return sum(self.unsubscribe(seat) for seat in self.seats if seat.component == component)

    async def publish(
        self, event: str, data: Any, *, delivery: DeliveryMode, on_error: ErrorPolicy
    ) -> list[Failure]:
        """Call who is subscribed now, in order, tier by tier."""
        reset = silent.set(silent.get() or event == HANDLER_FAILED)
        here = [seat for seat in self.seats if seat.active and matches(seat.event, event)]
        here.sort(key=lambda seat: seat.priority)
        failures: dict[Seat, Exception] = {}

        async def attempt(seat: Seat) -> None:
            try:
                if self._admits(seat, event, data):
                    await seat.handler(data)
            except Exception as exc:
                if on_error == "raise":
                    raise
                failures[seat] = exc
                self.log(exc)
                if Going.cancelling:
                    raise Cancelled from None
                await self._announce(exc)

        try:
            for _, tier in groupby(here, _TIERS[delivery]):
                await self._together([Going(attempt(seat)) for seat in tier])
        finally:
            silent.reset(reset)
        return [Failure(seat, failures[seat]) for seat in here if seat in failures]

    async def _together(self, calls: list[Going]) -> None:
        """Call some at once; where one fails or all are cancelled, the others are too."""
        try:
            while not all(call.is_over for call in calls):
                for call in calls:
                    if call.is_ready():
                        call.go_on()
                if not all(call.is_over for call in calls):
                    await until(lambda: any(call.is_ready() for call in calls))
        except (Exception, Cancelled) as exc:
            late = self._cancel(calls)
            first = late.pop(0) if late and isinstance(exc, Cancelled) else exc
            for other in late:
                self.log(other)
            try:
                for other in late if not Going.cancelling else ():
                    await self._announce(other)
            except Cancelled:
                pass
            raise first from None

    def _cancel(self, calls: list[Going]) -> list[Exception]:
        """Cancel those that wait, and give what they let out instead of the cancellation."""
        self.in_any_order |= sum(call.has_begun and not call.is_over for call in calls) > 1
        late: list[Exception] = []
        for call in calls:
            try:
                call.cancel()
            except Exception as exc:
                late.append(exc)
        return late

    async def _announce(self, exception: Exception) -> None:
        if not silent.get():
            payload = {"exception": exception}
            await self.publish(HANDLER_FAILED, payload, delivery="sequential", on_error="continue")

    def _admits(self, seat: Seat, event: str, data: Any) -> bool:
        """Say whether a handler starts; `once` unsubscribes before it does."""
        if not seat.active or (seat.filter is not None and not seat.filter(event, data)):
            return False
        return self.unsubscribe(seat) if seat.once else seat.active
