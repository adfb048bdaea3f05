"""Sending a message to a component, and retrying, against bare awaited calls."""

from __future__ import annotations

import logging
from itertools import repeat
from typing import TYPE_CHECKING

import anyio
import tenacity

from benchmarks.handlers import awaiting_one, idle_handlers
from benchmarks.measuring import Measure
from benchmarks.timing import Pair, paired
from flexiflow import Component, Engine, StateMachine, Transition, events
from flexiflow.extras.retry import RetryConfig, retry_async

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.timing import Side


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    calls = "a bare awaited call"
    yield Measure(
        figure="engine.send, a transition, one state.changed observer",
        against=calls,
        backend=backend,
        at_most=20,
        run=paired(backend, _sent),
    )
    yield Measure(
        figure="retry-decorated call that succeeds",
        against=calls,
        backend=backend,
        at_most=5,
        run=paired(backend, _succeeding),
    )
    yield Measure(
        figure="retry-decorated call that fails once, no delay",
        against=calls,
        backend=backend,
        run=paired(backend, _failing_once),
    )
    yield Measure(
        figure="call through tenacity itself that succeeds",
        against=calls,
        backend=backend,
        run=paired(backend, _through_tenacity),
    )


def _bare() -> Side:
    return awaiting_one(*idle_handlers(1))


async def _sent() -> Pair:
    machine = StateMachine("on", [Transition("on", "flip", "off"), Transition("off", "flip", "on")])
    engine = Engine()
    await engine.register(Component("lamp", machine=machine))
    await engine.bus.subscribe(events.STATE_CHANGED, "watch", *idle_handlers(1))
    message = {"type": "flip"}

    async def send(calls: int) -> None:
        for _ in repeat(None, calls):
            await engine.send("lamp", message)

    return Pair(send, _bare())


async def _succeeding() -> Pair:
    (function,) = idle_handlers(1)
    return Pair(awaiting_one(retry_async()(function)), awaiting_one(function))


async def _failing_once() -> Pair:
    attempts = 0

    @retry_async(RetryConfig(base_delay=0))
    async def fail_first(_data: object) -> None:
        nonlocal attempts
        attempts += 1
        if attempts % 2:
            raise ConnectionError

    logger = logging.getLogger("flexiflow")
    logger.disabled = True

    async def log_again() -> None:
        logger.disabled = False

    return Pair(awaiting_one(fail_first), _bare(), log_again)


async def _through_tenacity() -> Pair:
    (function,) = idle_handlers(1)
    decorate = tenacity.retry(stop=tenacity.stop_after_attempt(3), sleep=anyio.sleep)
    return Pair(awaiting_one(decorate(function)), awaiting_one(function))
