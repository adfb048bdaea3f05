"""The growth of the cost with other subscriptions, against the same with few, or with none."""

from __future__ import annotations

from functools import partial
from itertools import cycle, islice, repeat
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio

from benchmarks.handlers import (
    EVENT,
    ORDER,
    OWNER,
    bus_of,
    crowd,
    idle_handlers,
    publishing,
)
from benchmarks.measuring import Measure
from benchmarks.timing import Pair, alternate, collector_off, now, paired
from flexiflow import EventBus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from benchmarks.measuring import Effort, Round
    from benchmarks.timing import Side
    from flexiflow import Subscription

    Held: TypeAlias = tuple[EventBus, list[Subscription]]

_OTHERS: Final = 10_000
_MANY: Final = 50_000
_FEW: Final = 1_000

# More names than a bus remembers, so that each publish is of a name that is new to the bus.
_NEW_NAMES: Final = 100_000


def measures_of_any() -> Iterator[Measure]:
    """Yield the measures that do not depend on a backend."""
    yield Measure(
        figure=f"unsubscribe, each of {_MANY:,} on one event",
        against=f"each of {_FEW:,}",
        backend="",
        at_most=1.5,
        run=_unsubscribing,
    )


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    yield Measure(
        figure=f"publish, {_OTHERS:,} other subscriptions, half patterns",
        against="with none",
        backend=backend,
        at_most=1.1,
        run=paired(backend, partial(_crowded, _publishing_to_one)),
    )
    yield Measure(
        figure=f"subscribe, publish, unsubscribe among {_OTHERS:,} others",
        against="among none",
        backend=backend,
        at_most=1.5,
        run=paired(backend, partial(_crowded, _coming_and_going)),
    )
    yield Measure(
        figure="publish a name for the first time, nobody hears",
        against="a name seen before",
        backend=backend,
        run=paired(backend, _new_names),
    )


async def _crowded(making: Callable[[EventBus], Awaitable[Side]]) -> Pair:
    among_others, alone = EventBus(), EventBus()
    await crowd(among_others, _OTHERS)
    return Pair(await making(among_others), await making(alone))


async def _publishing_to_one(bus: EventBus) -> Side:
    (handler,) = idle_handlers(1)
    await bus.subscribe(EVENT, OWNER, handler)
    return publishing(bus)


async def _coming_and_going(bus: EventBus) -> Side:
    (handler,) = idle_handlers(1)

    async def come_and_go(calls: int) -> None:
        for _ in repeat(None, calls):
            subscription = await bus.subscribe(EVENT, OWNER, handler)
            await bus.publish(EVENT, ORDER)
            bus.unsubscribe(subscription)

    return come_and_go


async def _new_names() -> Pair:
    bus = await bus_of([])
    names = cycle([f"order.new{place}" for place in range(_NEW_NAMES)])

    async def publish(calls: int) -> None:
        for name in islice(names, calls):
            await bus.publish(name, ORDER)

    return Pair(publish, publishing(bus))


def _unsubscribing(effort: Effort) -> list[Round]:
    """Unsubscribe all on one bus, a share of them in each round, and as many on small buses."""

    async def main() -> list[Round]:
        share = _MANY // effort.rounds
        large = _shares(await _full_bus(_MANY), share)

        async def ours() -> float:
            return _unsubscribe([next(large)])

        async def theirs() -> float:
            return _unsubscribe([await _full_bus(_FEW) for _ in range(share // _FEW)])

        return await alternate(effort.rounds, ours, theirs)

    return anyio.run(main)


def _shares(held: Held, share: int) -> Iterator[Held]:
    bus, subscriptions = held
    for begin in range(0, len(subscriptions), share):
        yield bus, subscriptions[begin : begin + share]


def _unsubscribe(all_held: list[Held]) -> float:
    with collector_off():
        begun = now()
        for bus, subscriptions in all_held:
            for subscription in subscriptions:
                bus.unsubscribe(subscription)
        taken = now() - begun
    return taken / sum(len(subscriptions) for _, subscriptions in all_held)


async def _full_bus(number: int) -> Held:
    bus, (handler,) = EventBus(), idle_handlers(1)
    subscriptions = [await bus.subscribe(EVENT, OWNER, handler) for _ in range(number)]
    # From now on the bus remembers the event's subscriptions.
    await bus.publish(EVENT, ORDER)
    return bus, subscriptions
