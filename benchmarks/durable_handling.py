"""Handling stored events through a bridge, and leaving it."""

from __future__ import annotations

import logging
from functools import partial
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import anyio

from benchmarks.durable_parts import (
    BODY,
    ENGINES,
    Arrivals,
    by_tasks,
    fill,
    pipeline,
    redis,
    subscribed,
)
from benchmarks.handlers import EVENT, ORDER
from benchmarks.measuring import Measure, Round
from benchmarks.timing import collector_off
from flexiflow import EventBus
from flexiflow.extras.durable import Batch, Record, open_bridge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

    from benchmarks.durable_parts import Engine, Server
    from benchmarks.measuring import Effort
    from flexiflow.extras.durable import Transport

_EVENTS: Final = 5_000
_QUICK_EVENTS: Final = 1_000
_AT_ONCE: Final = 100

_HEALTHY: Final = 1_000
"""Two batches of 500."""

_FAILING: Final = 10_000

_GRACE: Final = 0.5
"""Seconds for which handlers may go on."""

_HANDLING: Final = 0.2
"""Seconds that a handler takes."""

_groups = count()


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    yield Measure(
        figure="an event of Redis handled through a bridge, and acknowledged",
        against=f"bare reads of {_AT_ONCE}, each with one XACK",
        backend=backend,
        at_most=2,
        run=partial(_handling, backend),
    )
    for name, engine in ENGINES.items():
        yield Measure(
            figure=f"leaving a bridge on {name} under load, handlers of {_HANDLING} s",
            against=f"its grace of {_GRACE} s",
            backend=backend,
            at_most=1,
            run=partial(_leaving, backend, engine),
        )
        yield Measure(
            figure=f"a healthy event on {name} beside ten that fail and are tried again",
            against="the same without the failing ones",
            backend=backend,
            at_most=2,
            run=partial(_beside_failing, backend, engine),
        )


def _handling(backend: str, effort: Effort) -> list[Round]:
    number = _QUICK_EVENTS if effort.quick else _EVENTS
    with redis() as server:
        return anyio.run(_both, server, number, effort.heavy_rounds, backend=backend)


async def _both(server: Server, number: int, rounds: int) -> list[Round]:
    """Handle the same events by a new group in each round."""
    transport = server.transport()
    bus = EventBus()
    async with open_bridge(bus, transport, outgoing=[EVENT]):
        await fill(bus, number)
    async with server.client() as client:
        await pipeline(client, number)
        # The first round imports modules that the others find imported.
        await _ours(transport, number)
        return [
            Round(await _ours(transport, number), await _theirs(client, number))
            for _ in range(rounds)
        ]


async def _ours(transport: Transport, number: int) -> float:
    group, bus, arrivals = f"group{next(_groups)}", EventBus(), Arrivals(number)
    async with subscribed(bus, arrivals.handler):
        with collector_off():
            begun = perf_counter()
            # When the bridge has been left, every event is acknowledged.
            async with _bridge(bus, transport, group):
                await arrivals.done.wait()
            taken = perf_counter() - begun
    async with transport.connect() as connection:
        await connection.forget(group)
    return taken / number


def _bridge(bus: EventBus, transport: Transport, group: str) -> AbstractAsyncContextManager[object]:
    # While as many events are handled as `_theirs` reads at once, as many are on their way.
    return open_bridge(bus, transport, incoming=[EVENT], group=group, prefetch=2 * _AT_ONCE)


async def _theirs(client: Any, number: int) -> float:
    await client.xgroup_create("bare", "group", "0")
    with collector_off():
        begun = perf_counter()
        left = number
        while left:
            answer = await client.xreadgroup("group", "worker", {"bare": ">"}, count=_AT_ONCE)
            ids = [entry.identifier for entries in answer.values() for entry in entries]
            await client.xack("bare", "group", ids)
            left -= len(ids)
        taken = perf_counter() - begun
    await client.xgroup_destroy("bare", "group")
    return taken / number


def _leaving(backend: str, engine: Engine, effort: Effort) -> list[Round]:
    with engine() as make:
        return anyio.run(_leave_all, make(), effort.heavy_rounds, backend=backend)


async def _leave_all(transport: Transport, rounds: int) -> list[Round]:
    return [Round(await _leave(transport), _GRACE) for _ in range(rounds)]


async def _leave(transport: Transport) -> float:
    """Leave a bridge while tasks publish and it handles their events."""
    shop, worker = EventBus(), EventBus()
    is_left, arrivals = anyio.Event(), Arrivals(10)

    async def publish() -> None:
        while not is_left.is_set():
            await shop.publish(EVENT, ORDER)

    async def handle(data: object) -> None:
        await arrivals.handler(data)
        await anyio.sleep(_HANDLING)

    group = f"group{next(_groups)}"
    async with (
        subscribed(worker, handle),
        open_bridge(shop, transport, outgoing=[EVENT]),
        anyio.create_task_group() as tasks,
    ):
        async with open_bridge(worker, transport, incoming=[EVENT], group=group, grace=_GRACE):
            for _ in range(10):
                tasks.start_soon(publish)
            await arrivals.done.wait()
            begun = perf_counter()
        taken = perf_counter() - begun
        is_left.set()
    return taken


def _beside_failing(backend: str, engine: Engine, effort: Effort) -> list[Round]:
    number = _QUICK_EVENTS if effort.quick else _FAILING

    def side(failing: int) -> float:
        # Each side has a log of its own, since a group is given all that was stored before.
        with engine() as make:
            return anyio.run(_healthy, make(), failing, backend=backend)

    # Logging the failures is not part of the measure.
    logging.disable(logging.CRITICAL)
    try:
        return [Round(side(number), side(0)) for _ in range(effort.heavy_rounds)]
    finally:
        logging.disable(logging.NOTSET)


async def _healthy(transport: Transport, failing: int) -> float:
    """Handle events while others wait, are due again and again, and fail each time."""
    shop, bus, group = EventBus(), EventBus(), f"group{next(_groups)}"
    healthy = Arrivals(_HEALTHY)

    async def handle(data: Any) -> None:
        if data is None:
            raise ValueError
        await healthy.handler(data)

    batches = [Batch("another", each, (Record(BODY),) * 500) for each in (1, 2)]
    async with (
        subscribed(bus, handle),
        open_bridge(shop, transport, outgoing=[EVENT]),
        open_bridge(bus, transport, incoming=[EVENT], group=group, prefetch=2 * _AT_ONCE),
        transport.connect() as connection,
    ):
        if failing:
            await by_tasks(partial(shop.publish, EVENT))(failing)
            # Wait until each event has failed at least once.
            while (await connection.standing(group)).lag:  # noqa: ASYNC110  nothing tells
                await anyio.sleep(0.05)
        with collector_off():
            begun = perf_counter()
            for batch in batches:
                await connection.store(batch)
            await healthy.done.wait()
            taken = perf_counter() - begun
    return taken / _HEALTHY
