"""Sequential delivery against other libraries that call handlers and wait for them."""

from __future__ import annotations

from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from benchmarks.handlers import EVENT, ORDER, bus_of, idle_handlers, publishing
from benchmarks.measuring import Measure
from benchmarks.timing import Pair, load, paired

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from benchmarks.handlers import AsyncHandler
    from benchmarks.timing import Side

    Peer = tuple[Side, Callable[[], Awaitable[object]]]


async def _nothing() -> None:
    pass


def _blinker(handlers: list[AsyncHandler]) -> Peer:
    # The payload is passed as the sender, which saves blinker the keyword arguments.
    signal = load("blinker").Signal()
    for handler in handlers:
        signal.connect(handler)

    async def send(calls: int) -> None:
        for _ in repeat(None, calls):
            await signal.send_async(ORDER)

    return send, _nothing


def _pyee(handlers: list[AsyncHandler]) -> Peer:
    emitter = load("pyee.asyncio").AsyncIOEventEmitter()
    for handler in handlers:
        emitter.on(EVENT, handler)

    async def emit(calls: int) -> None:
        for _ in repeat(None, calls):
            emitter.emit(EVENT, ORDER)
            await emitter.wait_for_complete()

    return emit, _nothing


def _pymitter(handlers: list[AsyncHandler]) -> Peer:
    emitter = load("pymitter").EventEmitter()
    for handler in handlers:
        emitter.on(EVENT, handler)

    async def emit(calls: int) -> None:
        for _ in repeat(None, calls):
            await emitter.emit_async(EVENT, ORDER)

    return emit, _nothing


def _bubus(handlers: list[AsyncHandler]) -> Peer:
    bubus = load("bubus")
    bus = bubus.EventBus()
    for handler in handlers:
        bus.on("OrderPlaced", handler)

    async def dispatch(calls: int) -> None:
        for _ in repeat(None, calls):
            await bus.dispatch(bubus.BaseEvent(event_type="OrderPlaced"))

    return dispatch, partial(bus.stop, clear=True)


# For each peer: how it is called, the target (at most so many times its cost), and its backends.
# pyee's emitter for trio can only be waited for by closing it, and pymitter and bubus support only
# asyncio. bubus does more for an event, which it validates, queues, times and keeps: it is shown,
# but without a target.
_PEERS: Final[
    dict[str, tuple[Callable[[list[AsyncHandler]], Peer], float | None, tuple[str, ...]]]
] = {
    "blinker send_async": (_blinker, 0.35, ("asyncio", "trio")),
    "pyee emit and wait": (_pyee, 0.05, ("asyncio",)),
    "pymitter emit_async": (_pymitter, 0.05, ("asyncio",)),
    "bubus dispatch and wait": (_bubus, None, ("asyncio",)),
}


def measures(backend: str) -> Iterator[Measure]:
    """Yield the measures of this module."""
    for against, (making, at_most, known) in _PEERS.items():
        for number in (1, 10) if backend in known else ():
            yield Measure(
                figure=f"sequential, {number} handler{'s' if number > 1 else ''}",
                against=against,
                backend=backend,
                at_most=at_most,
                run=paired(backend, partial(_beside, making, number)),
            )


async def _beside(making: Callable[[list[AsyncHandler]], Any], number: int) -> Pair:
    handlers = idle_handlers(number)
    theirs, close = making(handlers)
    return Pair(publishing(await bus_of(handlers)), theirs, close)
