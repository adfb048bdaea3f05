"""Storing payloads of a dataclass with a schema, against storing what `asdict` makes of them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from benchmarks.durable_parts import ENGINES, TASKS, both, by_tasks
from benchmarks.handlers import EVENT
from benchmarks.measuring import Measure
from flexiflow import EventBus, Topic
from flexiflow.extras.durable import MemoryTransport, Schema, open_bridge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

    from benchmarks.durable_parts import Engine, Opened
    from benchmarks.measuring import Effort, Round
    from benchmarks.timing import Side
    from flexiflow.extras.durable import Transport


@dataclass
class _Order:
    order: str
    customer: str
    amount: float
    items: list[str]


_ORDER: Final = _Order("A7", "Hana", 12.5, ["lamp", "bulb"])
_SCHEMA: Final = Schema.of(Topic[_Order](EVENT))


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    against = "the same with asdict, without a schema"
    yield Measure(
        figure="a dataclass stored in memory with a schema",
        against=against,
        backend=backend,
        at_most=1.15,
        run=partial(_in_memory, backend),
    )
    yield Measure(
        figure=f"a dataclass stored in SQLite with a schema, {TASKS} tasks",
        against=against,
        backend=backend,
        at_most=1.15,
        run=partial(_in_engine, backend, ENGINES["SQLite"]),
    )


def _in_memory(backend: str, effort: Effort) -> list[Round]:
    return anyio.run(_compare, effort, MemoryTransport(), MemoryTransport(), backend=backend)


def _in_engine(backend: str, engine: Engine, effort: Effort) -> list[Round]:
    with engine() as make, engine() as make_other:
        return anyio.run(_compare, effort, make(), make_other(), backend=backend)


async def _compare(effort: Effort, ours: Transport, theirs: Transport) -> list[Round]:
    return await both(effort, _with_schema(ours), _without(theirs))


def _with_schema(transport: Transport) -> Opened:
    return _storing(transport, lambda bus: bus.publish(EVENT, _ORDER), _SCHEMA)


def _without(transport: Transport) -> Opened:
    return _storing(transport, lambda bus: bus.publish(EVENT, asdict(_ORDER)))


@asynccontextmanager
async def _storing(
    transport: Transport,
    publish: Callable[[EventBus], Awaitable[object]],
    *schemas: Schema[_Order],
) -> AsyncGenerator[Side]:
    bus = EventBus()
    async with open_bridge(bus, transport, outgoing=[EVENT], schemas=schemas):
        yield by_tasks(partial(publish, bus))
