"""The universal suite: order (X4), load (X5), restarts (X6), and failed bridges (X10)."""

from __future__ import annotations

from collections import defaultdict
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
from anyio.lowlevel import checkpoint

from flexiflow._bus import EventBus
from flexiflow.extras.durable import BridgeClosed
from flexiflow.testing._examiner.kit import claim
from flexiflow.testing._transport.universal import Noted, first_two, universal

if TYPE_CHECKING:
    from flexiflow.testing._transport.universal import Stage

_KEYS: Final = 16
_WORKERS: Final = 10
_ROOM: Final = 8


@universal("X4")
async def waits_for_the_one_before(stage: Stage) -> None:
    """While an event is handled, the next of its key does not begin; afterwards it does."""
    begun, free, noted = list[int](), anyio.Event(), Noted(2)
    others = Noted(stage.some(20))

    async def handle(data: int) -> None:
        if data > 1:
            others(data)
            return
        begun.append(data)
        if data == 0:
            await free.wait()
        noted(data)

    await stage.publish(range(2 + stage.some(20)), key=first_two)
    async with stage.worker(handle):
        await others.complete()
        claim(begun == [0], f"{begun} were begun at once, though they are of one key")
        free.set()
        await noted.complete()


@universal("X4", partitions=8)
async def keeps_keys_in_order(stage: Stage) -> None:
    """1,000 events of 16 keys come in the order of each key, with 10 workers; some fail once."""
    numbers = range(stage.some(1_000, _KEYS * 2))
    order, noted, failed = defaultdict[int, list[int]](list), Noted(len(numbers)), set[int]()

    async def handle(data: int) -> None:
        await checkpoint()
        if data % 5 == 0 and data not in failed:
            failed.add(data)
            raise OSError(data)
        order[data % _KEYS].append(data)
        noted(data)

    await stage.publish(numbers, key=_key)
    async with stage.transport.connect() as connection:
        count = stage.some(_WORKERS, 3) if connection.is_exclusive else 1
    async with AsyncExitStack() as workers:
        for _ in range(count):
            await workers.enter_async_context(stage.worker(handle, lease=2.0))
        await noted.complete()
    for key, came in order.items():
        first = [*dict.fromkeys(came)]
        claim(first == [*numbers[key::_KEYS]], f"the key {key} came in another order: {first}")


@universal("X5")
async def closes_many_at_once(stage: Stage) -> None:
    """10 workers leave at the same time, and nothing is lost."""
    numbers, noted = range(stage.some(1_000)), Noted(1)
    await stage.publish(numbers)
    seen = Noted(len(numbers))
    leave = anyio.Event()

    def handle(data: int) -> None:
        seen(data)
        noted(data)

    async def work() -> None:
        async with stage.worker(handle):
            await leave.wait()

    async with anyio.create_task_group() as group:
        for _ in range(stage.some(_WORKERS, 3)):
            group.start_soon(work)
        await noted.complete()
        leave.set()
    async with stage.worker(seen):
        await seen.complete()
    seen.check(numbers)
    await stage.check_settled()


@universal("X5")
async def closes_with_much_in_flight(stage: Stage) -> None:
    """A worker leaves with 10,000 events stored and some of them running; all are handled."""
    numbers = range(stage.some(10_000, 20))
    await stage.publish(numbers)
    begun, ended, seen = Noted(10), list[int](), Noted(len(numbers))

    async def handle(data: int) -> None:
        begun(data)
        await checkpoint()
        seen(data)
        ended.append(data)

    async with stage.worker(handle, prefetch=1_000):
        await begun.complete()
    claim(len(set(ended)) == len(set(begun.seen)), "a handler was cancelled within its grace")
    async with stage.worker(handle):
        await seen.complete()
    seen.check(numbers)
    await stage.check_settled()


@universal("X5", "max_length", max_length=_ROOM)
async def waits_while_the_log_is_full(stage: Stage) -> None:
    """100 publishers at once bring more than the log holds, and wait until there is room."""
    numbers = range(stage.some(200, 3 * _ROOM))
    noted = Noted(len(numbers))
    async with stage.worker(noted):
        await stage.publish(numbers, store_timeout=60.0)
        await noted.complete()
    noted.check(numbers)
    await stage.check_settled()


@universal("X6", "restart")
async def survives_restarts(stage: Stage) -> None:
    """10,000 events, 100 publishers and a worker survive 2 restarts of the server."""
    numbers = range(stage.some(10_000, 200))
    noted, third = Noted(len(numbers)), Noted(len(numbers) // 3)

    def handle(data: int) -> None:
        third(data)
        noted(data)

    async with anyio.create_task_group() as group, stage.worker(handle):
        group.start_soon(partial(stage.publish, numbers, store_timeout=30.0))
        await third.complete()
        for _ in range(2):
            await stage.call_hook("restart")
        await noted.complete()
    noted.check(numbers)
    await stage.check_settled()


def _key(number: int) -> str:
    return str(number % _KEYS)


class _Unfit(Exception):
    """Ends a user's block."""


@universal("X10")
async def refuses_until_it_is_open_again(stage: Stage) -> None:
    """After a bridge was left by an error, publishes fail until the next one is open."""
    bus, noted = EventBus(), Noted(2)
    for turn in range(2):
        with suppress(_Unfit), anyio.CancelScope() as scope:
            async with stage.bridge(bus, outgoing=["n.*"]):
                failures = await bus.publish("n.e", turn)
                claim(not failures, f"publishing failed: {[each.exception for each in failures]}")
                if turn == 0:
                    raise _Unfit
                scope.cancel()
                await anyio.sleep_forever()
        told = [each.exception for each in await bus.publish("n.e", "lost")]
        claim([type(each) for each in told] == [BridgeClosed], f"after its end it failed by {told}")
    async with stage.worker(noted):
        await noted.complete()
    noted.check(range(2))
    await stage.check_settled()
