"""The scenarios that damage a Redis server, or the connections to it."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from flexiflow import EventBus
from flexiflow.extras.durable import RedisTransport, open_bridge
from tools.chaos.ledger import NAME, Ledger, Result, all_settled, left
from tools.chaos.load import GROUPS, publish, run_under, sound
from tools.chaos.proxy import SWALLOWED, Proxy
from tools.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flexiflow.extras.durable import Transport
    from tools.chaos.load import Harm, Plan, Spoil
    from tools.redis_server import RedisServer

_LOG = "{flexiflow:0}:log"
_SHORT = 0.4
"""Seconds to wait for a reply, in scenarios without replies."""


async def kill_servers(backend: str, mode: str, plan: Plan, spoil: Spoil = sound) -> Result:
    """Kill a server under load, and start it again.

    With `appendfsync everysec` a server answers while a flush is under way, and keeps confirmed
    writes only in its own memory for up to two seconds: if the disk is slow, a kill loses them. So
    it is killed both at any time, and when it has written all that it has confirmed.

    Args:
        backend: what this runs on, for the result.
        mode: when the server flushes, "always" or "everysec"; or "everysec, written".
        plan: how much of all.
        spoil: puts a fault into the transport, to show that it is found.
    """
    fsync, _, written = mode.partition(", ")
    with redis_server(appendfsync=fsync) as server:

        async def harm(_: int) -> None:
            if written:
                await _have_written(server)
            await to_thread.run_sync(server.restart)

        result = Result("server killed", backend, mode, may_lose=mode == "everysec")
        return await _run(harm, server, spoil(RedisTransport(server.url)), result, plan)


async def _have_written(server: RedisServer) -> None:
    """Stop a server from confirming more, and wait until it has written what it confirmed."""
    assert server.command("CLIENT", "PAUSE", 60_000, "WRITE") == "+OK"
    # There is no notification.
    while "\naof_buffer_length:0\r" not in server.command("INFO", "persistence"):  # noqa: ASYNC110
        await anyio.sleep(0.001)


async def hang_server(backend: str, mode: str, plan: Plan, spoil: Spoil = sound) -> Result:
    """Stop a server for longer than clients wait for a reply, and let it go on; as above."""
    with redis_server() as server:

        async def harm(_: int) -> None:
            with server.stopped():
                await anyio.sleep(1.5 * _SHORT)

        transport = RedisTransport(server.url, timeout=_SHORT)
        result = Result("server hangs", backend, mode)
        return await _run(harm, server, spoil(transport), result, plan)


async def make_server_forget(backend: str, mode: str, plan: Plan, spoil: Spoil = sound) -> Result:
    """Make a server forget its scripts and its groups in turn, under load; as above."""
    with redis_server() as server:

        async def harm(turn: int) -> None:
            if turn % 2 == 0:
                assert server.command("SCRIPT", "FLUSH") == "+OK"
                return
            for group in GROUPS:
                assert server.command("XGROUP", "DESTROY", _LOG, group) in {":0", ":1"}

        result = Result("server forgets", backend, mode)
        return await _run(harm, server, spoil(RedisTransport(server.url)), result, plan)


async def open_by_half(backend: str, mode: str, plan: Plan, spoil: Spoil = sound) -> Result:
    """Make connections swallow requests, replies, both, or one reply in turn; as above."""
    with redis_server() as server:
        async with Proxy.opened(server.port) as proxy:

            async def harm(turn: int) -> None:
                proxy.harm(SWALLOWED[turn % len(SWALLOWED)])

            transport = RedisTransport(proxy.url, timeout=_SHORT)
            result = Result("connections swallow", backend, mode)
            await _run(harm, server, spoil(transport), result, plan)
            result.leaks += await left(lambda: proxy.count)
            return result


async def empty_server(backend: str, mode: str, plan: Plan, spoil: Spoil = sound) -> Result:
    """Restart a server empty, or without its last writes, and check what the group is told.

    The events that were confirmed and not handled must be counted as missed, once. Events that are
    published after that must be handled.

    Args:
        backend: what this runs on, for the result.
        mode: "all" if the server loses everything, "some" if it loses its last writes.
        plan: how much of all.
        spoil: puts a fault into the transport, to show that it is found.
    """
    begun, result = time.monotonic(), Result("server emptied", backend, mode)
    with redis_server(appendonly="no") as server:
        transport = spoil(RedisTransport(server.url))
        for turn in range(plan.kills):
            await _Emptied(server, transport, result, turn, mode).run(plan)
            plan.tell(f"{turn + 1}/{plan.kills} emptied")
    result.seconds = time.monotonic() - begun
    return result


class _Emptied:
    """A server that loses its data, with a publisher and a worker that go on."""

    def __init__(
        self, server: RedisServer, transport: Transport, result: Result, turn: int, mode: str
    ) -> None:
        self._server = server
        self._transport = transport
        self._result = result
        self._group = f"group-{turn}"
        self._mode = mode
        self._ledger = Ledger()
        self._held: anyio.Event | None = None

    async def run(self, plan: Plan) -> None:
        """Store events that are not handled, make the server lose them, and go on."""
        ledger, bus, lost = self._ledger, EventBus(on_error="raise"), plan.messages // plan.kills
        assert self._server.command("FLUSHALL") == "+OK"
        async with open_bridge(bus, self._transport, outgoing=[NAME]), self._working():
            await publish(bus, (0,), ledger)
            await ledger.all_handled([self._group], [(0,)], plan.patience)
            # Acknowledged events are no loss; the server must have the acknowledgements first.
            await all_settled(self._transport, [self._group], plan.patience)
            if self._mode == "some":
                assert self._server.command("SAVE") == "+OK"
            self._held = anyio.Event()
            for number in range(lost):
                await publish(bus, (1 + number,), ledger)
            await to_thread.run_sync(self._lose)
            await publish(bus, (-1,), ledger)
            self._held.set()
            if not await ledger.pulse.until(
                lambda: (-1,) in ledger.handled[self._group], plan.patience
            ):
                self._result.stalled = True
        await self._judge(lost)

    @asynccontextmanager
    async def _working(self) -> AsyncGenerator[None]:
        """Handle messages within the block, unless they are held up."""

        async def handle(data: list[int]) -> None:
            if self._held is not None:
                await self._held.wait()
            self._ledger.handle(self._group, tuple(data))

        bus = EventBus()
        await bus.subscribe(NAME, "worker", handle)
        async with open_bridge(
            bus, self._transport, incoming=[NAME], group=self._group, lease=1.0, prefetch=2
        ):
            yield

    def _lose(self) -> None:
        if self._mode == "all":
            assert self._server.command("SAVE") == "+OK"
            self._server.forget()
        self._server.restart()

    async def _judge(self, lost: int) -> None:
        async with self._transport.connect() as connection:
            missed = (await connection.standing(self._group)).missed
        handled = self._ledger.handled[self._group]
        self._result.kills += 1
        self._result.stored += len(self._ledger.confirmed)
        self._result.handled += len(handled)
        # Every lost event must be reported.
        self._result.wrong += abs(missed - lost)
        self._result.unhandled += len({(0,), (-1,)} - handled.keys())


async def _run(
    harm: Harm,
    server: RedisServer,
    transport: Transport,
    result: Result,
    plan: Plan,
) -> Result:
    await run_under(harm, transport, RedisTransport(server.url), result, plan)
    result.leaks += await connections_left(server)
    stored = server.command("XLEN", _LOG)
    assert stored == f":{result.stored}", f"the server says {stored}, and the log {result.stored}"
    return result


async def connections_left(server: RedisServer) -> int:
    """Return how many connections a server has, without the one that asks."""
    return await left(lambda: server.command("CLIENT", "LIST").count(" laddr=") - 1)
