"""What goes wrong with a Redis server, and on the way to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from flexiflow.extras.durable import RedisTransport
from tests.chaos.ledger import Result, left
from tests.chaos.load import GROUPS, run_under, sound
from tests.chaos.proxy import SWALLOWED, Proxy
from tests.redis_server import redis_server

if TYPE_CHECKING:
    from flexiflow.extras.durable import Transport
    from tests.chaos.load import Harm, Plan, Spoil
    from tests.redis_server import RedisServer

_LOG = "{flexiflow:0}:log"
_SHORT = 0.4
"""Seconds to wait for an answer, where answers stay away."""


async def kill_servers(backend: str, mode: str, plan: Plan, spoil: Spoil = sound) -> Result:
    """Kill a server under load, and start it again.

    With `appendfsync everysec` a server answers while a flush is under way, and keeps for up to two
    seconds in its own memory what it has confirmed: where the disk is slow, a kill loses that. So
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
    """Have a server confirm nothing any more, and wait until it has written what it confirmed."""
    assert server.command("CLIENT", "PAUSE", 60_000, "WRITE") == "+OK"
    # Nothing tells.
    while "\naof_buffer_length:0\r" not in server.command("INFO", "persistence"):  # noqa: ASYNC110
        await anyio.sleep(0.001)


async def hang_server(backend: str, mode: str, plan: Plan, spoil: Spoil = sound) -> Result:
    """Stop a server for longer than one waits for an answer, and let it go on; as above."""
    with redis_server() as server:

        async def harm(_: int) -> None:
            with server.stopped():
                await anyio.sleep(1.5 * _SHORT)

        transport = RedisTransport(server.url, timeout=_SHORT)
        result = Result("server hangs", backend, mode)
        return await _run(harm, server, spoil(transport), result, plan)


async def make_server_forget(backend: str, mode: str, plan: Plan, spoil: Spoil = sound) -> Result:
    """Have a server forget its scripts and its groups in turn, under load; as above."""
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
    """Have connections swallow requests, replies, both, or one reply in turn; as above."""
    with redis_server() as server:
        async with Proxy.opened(server.port) as proxy:

            async def harm(turn: int) -> None:
                proxy.harm(SWALLOWED[turn % len(SWALLOWED)])

            transport = RedisTransport(proxy.url, timeout=_SHORT)
            result = Result("connections swallow", backend, mode)
            await _run(harm, server, spoil(transport), result, plan)
            result.leaks += await left(lambda: proxy.count)
            return result


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
    """Count the connections that a server has, apart from that of whoever asks."""
    return await left(lambda: server.command("CLIENT", "LIST").count(" laddr=") - 1)
