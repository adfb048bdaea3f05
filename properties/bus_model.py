"""The reference model of a bus, as the contract describes it: plain data, without a loop."""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._bus.trace import matches
from properties.programs import Cancelled, Going, until
from tests.accounting import Boom

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
    exception: Boom


silent = ContextVar("silent", default=False)
"""Whether this happens within the handling of `event.handler.failed` (E7)."""

_TIERS: dict[DeliveryMode, Callable[[Seat], int]] = {
    "sequential": lambda seat: seat.age,
    "concurrent": lambda _: 0,
    "tiered": lambda seat: seat.priority,
}
"""Handlers whose number is the same are called at once."""


@dataclass
class ModelBus:
    """The reference model.

    Attributes:
        log: called with each failure that is logged.
        seats: the subscriptions, by age.
        in_any_order: whether several were cancelled at the same time, so that their cleanups may
            come in any order.
    """

    log: Callable[[Boom], None]
    seats: list[Seat] = field(default_factory=list[Seat])
    in_any_order: bool = False

    async def subscribe(
        self, event: str, component: str, handler: Any, *, priority: int, filter: Any, once: bool
    ) -> Seat:
        seat = Seat(len(self.seats), event, component, handler, priority, filter, once)
        self.seats.append(seat)
        return seat

    def unsubscribe(self, seat: Seat) -> bool:
        was_active, seat.active = seat.active, False
        return was_active

    def unsubscribe_all(self, component: str) -> int:
        return sum(self.unsubscribe(seat) for seat in self.seats if seat.component == component)

    async def publish(
        self, event: str, data: Any, *, delivery: DeliveryMode, on_error: ErrorPolicy
    ) -> list[Failure]:
        """Call the handlers that are subscribed now, in order, tier by tier."""
        reset = silent.set(silent.get() or event == HANDLER_FAILED)
        here = [seat for seat in self.seats if seat.active and matches(seat.event, event)]
        here.sort(key=lambda seat: seat.priority)
        failures: dict[Seat, Boom] = {}

        async def attempt(seat: Seat) -> None:
            try:
                if self._admits(seat, event, data):
                    await seat.handler(data)
            except Boom as exc:
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
        """Make some calls at once; if one fails or all are cancelled, cancel the others."""
        try:
            while waiting := [call for call in calls if not call.is_over]:
                for call in filter(Going.is_ready, waiting):
                    call.go_on()
                await until(lambda: any(call.is_ready() or call.is_over for call in waiting))
        except (Boom, Cancelled) as exc:
            late = self._cancel(calls)
            first = late.pop(0) if late and isinstance(exc, Cancelled) else exc
            await self._report(late)
            raise first from None

    async def _report(self, late: list[Boom]) -> None:
        """Report what cleanups raised; the first failure replaces a cancellation."""
        for each in late:
            self.log(each)
        with suppress(Cancelled):
            for each in late if not Going.cancelling else ():
                await self._announce(each)

    def _cancel(self, calls: list[Going]) -> list[Boom]:
        """Cancel the calls that wait, and return what they raised instead of the cancellation."""
        self.in_any_order |= sum(map(Going.is_waiting, calls)) > 1
        late: list[Boom] = []
        for call in calls:
            try:
                call.cancel()
            except Boom as exc:
                late.append(exc)
        return late

    async def _announce(self, exception: Boom) -> None:
        if not silent.get():
            payload = {"exception": exception}
            await self.publish(HANDLER_FAILED, payload, delivery="sequential", on_error="continue")

    def _admits(self, seat: Seat, event: str, data: Any) -> bool:
        """Return whether a handler starts; a `once` handler is unsubscribed before it does."""
        if not seat.active or (seat.filter is not None and not seat.filter(event, data)):
            return False
        return self.unsubscribe(seat) if seat.once else seat.active
