"""Shops with one planted fault each, which `check_machine` has to find (P6)."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import State, Transition
from properties.reference.shop import Order, Shop

_T = TypeVar("_T", bound=type[Shop])

MACHINE_FAULTS: list[tuple[type[Shop], str]] = []
"""The shops, each with the claim that it breaks, in the words of the check."""


def breaks(clause: str, *, claim: str) -> Callable[[_T], _T]:
    """Add a shop to the list, with the claim that it breaks."""

    def enter(shop: _T) -> _T:
        MACHINE_FAULTS.append((shop, claim))
        return shop

    return enter


STOCK = "the invariant stock_is_right"
PLACED = "'placed' leads to 'shipped' or 'returned' or 'expired' or 'cancelled' or 'paid'"
PAID = "'paid' leads to 'shipped' or 'returned' or 'expired' or 'cancelled' or 'picked'"
PICKED = "'picked' leads to 'returned' or 'shipped'"


@breaks("P6", claim="never 'lost'")
class LosesRemindedOrders(Shop):
    """Loses an order that was reminded of before it was paid."""

    def loses(self, message: Mapping[str, Any], order: Order) -> bool:
        return order.reminders > 0


@breaks("P6", claim="never is_free")
class RefundsShippedOrders(Shop):
    """Refunds an order that a customer cancels while it is on its way."""

    def rows(self) -> list[Transition]:
        return [*super().rows(), Transition("picked", "cancel", None, action=self.refund)]


@breaks("P6", claim="the invariant refunds_only_what_was_paid")
class RefundsUnpaidOrders(Shop):
    """Refunds an order that was not paid."""

    def refund(self, message: Mapping[str, Any], order: Order) -> None:
        order.refunded = 1


@breaks("P6", claim=STOCK)
class PicksWithoutLooking(Shop):
    """Trusts the guard, though another order may have come in between."""

    async def pick(self, message: Mapping[str, Any], order: Order) -> None:
        self.stock -= 1
        order.books = 1


@breaks("P6", claim="the invariant is_paid_in_time")
class TakesTheMoneyFirst(Shop):
    """Keeps the money of a payment that was cancelled."""

    async def pay(self, message: Mapping[str, Any], order: Order) -> None:
        order.paid = 1
        await checkpoint()


@breaks("P6", claim=STOCK)
class FailsAfterTaking(Shop):
    """Takes a book off the shelf, and then looks at the address."""

    async def pick(self, message: Mapping[str, Any], order: Order) -> None:
        if self.stock:
            self.stock -= 1
            if order.address == "nowhere":
                raise LookupError("no such address")
            order.books = 1


@breaks("P6", claim=STOCK)
class LosesReturnedBooks(Shop):
    """Does not put a book back that could not be delivered; only work tells it."""

    def take_back(self, message: Mapping[str, Any], order: Order) -> None:
        order.books = 0


@breaks("P6", claim=PLACED)
class WaitsForEver(Shop):
    """Never lets an order expire."""

    def states(self) -> list[State]:
        return super().states()[1:]


@breaks("P6", claim=PAID)
class StopsWithoutBooks(Shop):
    """Leaves an order alone if there are no books."""

    def rows_without_books(self) -> list[Transition]:
        return []


@breaks("P6", claim=PICKED)
class ForgetsFailedWork(Shop):
    """Does not hear of a parcel that could not be delivered."""

    def states(self) -> list[State]:
        placed, _ = super().states()
        return [placed, State("picked", during=self.deliver, done="done")]


@breaks("P6", claim=PAID)
class HangsOnReturns(Shop):
    """Waits with a book for a parcel that never comes back."""

    async def pick(self, message: Mapping[str, Any], order: Order) -> None:
        if order.address == "nowhere":
            await anyio.sleep_forever()
        await super().pick(message, order)


@breaks("P6", claim="each program ends")
class CannotBeStopped(Shop):
    """Waits for a payment that never comes, and can't be cancelled."""

    async def pay(self, message: Mapping[str, Any], order: Order) -> None:
        if order.reminders:
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()
        await super().pay(message, order)
