"""Concurrent delivery against task groups, gathering and nurseries."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.lowlevel import checkpoint

from benchmarks.handlers import EVENT, ORDER, bus_of, idle_handlers, publishing, wait_once
from benchmarks.measuring import Measure
from benchmarks.timing import Pair, alternate, load, paired

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from benchmarks.handlers import AsyncHandler
    from benchmarks.measuring import Effort, Round, Run
    from benchmarks.timing import Side

# The targets, by the number of handlers and whether they wait: at most so many times AnyIO's task
# group, `asyncio.gather`, a trio nursery.
_AT_MOST: Final = {
    (10, False): (0.35, 1.1, 1.0),
    (100, False): (0.08, 0.3, 0.25),
    (10, True): (1.0, 2.5, 2.5),
    (100, True): (0.8, 2.3, 2.3),
}
_BUSY: Final = 100


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    for (number, waiting), (group, gather, nursery) in _AT_MOST.items():
        native = {
            "asyncio": ("asyncio.gather", gathering, gather),
            "trio": ("trio nursery", nursing, nursery),
        }
        doing = "wait once" if waiting else "do not wait"
        for against, making, at_most in (("AnyIO task group", grouping, group), native[backend]):
            yield Measure(
                figure=f"concurrent, {number} handlers that {doing}",
                against=against,
                backend=backend,
                at_most=at_most,
                run=paired(backend, partial(_concurrent, number, making, waiting=waiting)),
            )
    yield Measure(
        figure=f"100 waiting handlers started, {_BUSY} other tasks busy",
        against="AnyIO task group",
        backend=backend,
        at_most=10,
        unit="turns more",
        run=_turns(backend),
    )


async def _concurrent(
    number: int, making: Callable[[list[AsyncHandler]], Side], *, waiting: bool
) -> Pair:
    handlers: list[AsyncHandler] = [wait_once] * number if waiting else idle_handlers(number)
    return Pair(publishing(await bus_of(handlers), delivery="concurrent"), making(handlers))


def grouping(handlers: list[AsyncHandler]) -> Side:
    """Make a side that starts the handlers in an AnyIO task group."""

    async def group(calls: int) -> None:
        for _ in repeat(None, calls):
            async with anyio.create_task_group() as tasks:
                for handler in handlers:
                    tasks.start_soon(handler, ORDER)

    return group


def gathering(handlers: list[AsyncHandler]) -> Side:
    """Make a side that gathers the handlers."""

    async def gather(calls: int) -> None:
        for _ in repeat(None, calls):
            await asyncio.gather(*[handler(ORDER) for handler in handlers])

    return gather


def nursing(handlers: list[AsyncHandler]) -> Side:
    """Make a side that starts the handlers in a trio nursery."""
    trio = load("trio")

    async def nurse(calls: int) -> None:
        for _ in repeat(None, calls):
            async with trio.open_nursery() as nursery:
                for handler in handlers:
                    nursery.start_soon(handler, ORDER)

    return nurse


def _turns(backend: str) -> Run:
    async def main(effort: Effort) -> list[Round]:
        return await alternate(effort.rounds, partial(_turns_of, _ours), partial(_turns_of, _group))

    return lambda effort: anyio.run(main, effort, backend=backend)


async def _ours(handlers: list[AsyncHandler]) -> Callable[[], Awaitable[Any]]:
    bus = await bus_of(handlers)
    return partial(bus.publish, EVENT, ORDER, delivery="concurrent")


async def _group(handlers: list[AsyncHandler]) -> Callable[[], Awaitable[Any]]:
    return partial(grouping(handlers), 1)


async def _turns_of(
    making: Callable[[list[AsyncHandler]], Awaitable[Callable[[], Awaitable[Any]]]],
) -> float:
    """Return the number of scheduler turns until all of 100 waiting handlers have started."""
    start = _LateStart(100)
    call = await making([start.handler] * start.expected)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start.count_turns)
        for _ in range(_BUSY - 1):
            tasks.start_soon(_keep_busy)
        # Count turns only once all the other tasks are running.
        await _a_few_turns()
        start.begin()
        await call()
        tasks.cancel_scope.cancel()
    return start.turns


class _LateStart:
    """Notes the turn in which the last of the handlers starts, and then ends them all."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.turns = 0
        self._turn = 0
        self._begun = 0
        self._started = 0
        self._all_started = anyio.Event()

    async def count_turns(self) -> None:
        while True:
            await checkpoint()
            self._turn += 1

    def begin(self) -> None:
        self._begun = self._turn

    async def handler(self, _data: object) -> None:
        self._started += 1
        if self._started == self.expected:
            self.turns = self._turn - self._begun
            self._all_started.set()
        await self._all_started.wait()


async def _keep_busy() -> None:
    while True:
        await checkpoint()


async def _a_few_turns() -> None:
    for _ in range(5):
        await checkpoint()
