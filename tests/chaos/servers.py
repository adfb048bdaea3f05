"""What goes wrong with a Redis server, and on the way to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from flexiflow.extras.durable import RedisTransport
from tests.chaos.ledger import Result, left
from tests.chaos.load import GROUPS, run_under, sound
from tests.chaos.proxy import Proxy
from tests.redis_server import redis_server

if TYPE_CHECKING:
    from flexiflow.extras.durable import Transport
    from tests.chaos.load import Harm, Plan, Spoil
    from tests.chaos.proxy import Swallowed
    from tests.redis_server import RedisServer

_LOG = "{flexiflow:0}:log"
_SHORT = 0.3
"""Seconds to wait for an answer, where answers stay away."""


async def kill_servers(backend: str, fsync: str, plan: Plan, spoil: Spoil = sound) -> Result:
    """Kill a server under load, and start it again.

    Args:
        backend: what this runs on, for the result.
        fsync: when the server flushes: "always" or "everysec".
        plan: how much of all.
        spoil: puts a fault into the transport, to show that it is found.
    """
    with redis_server(appendfsync=fsync) as server:

        async def harm(_: int) -> None:
            await to_thread.run_sync(server.restart)

        transport = RedisTransport(server.url)
        result = Result("server killed", backend, fsync)
        return await _run(harm, server, spoil(transport), result, plan)


async def hang_server(backend: str, _: str, plan: Plan, spoil: Spoil = sound) -> Result:
    """Stop a server for longer than one waits for an answer, and let it go on; as above."""
    with redis_server() as server:

        async def harm(_: int) -> None:
            with server.stopped():
                await anyio.sleep(2 * _SHORT)

        transport = RedisTransport(server.url, timeout=_SHORT, connect_timeout=_SHORT)
        result = Result("server hangs", backend, "SIGSTOP")
        return await _run(harm, server, spoil(transport), result, plan)


async def make_server_forget(backend: str, what: str, plan: Plan, spoil: Spoil = sound) -> Result:
    """Have a server forget its "scripts" or its "groups" under load; as above."""
    with redis_server() as server:

        async def harm(_: int) -> None:
            if what == "scripts":
                assert server.command("SCRIPT", "FLUSH") == "+OK"
            else:
                for group in GROUPS:
                    assert server.command("XGROUP", "DESTROY", _LOG, group) in {":0", ":1"}

        result = Result("server forgets", backend, what)
        return await _run(harm, server, spoil(RedisTransport(server.url)), result, plan)


async def open_by_half(backend: str, what: Swallowed, plan: Plan, spoil: Spoil = sound) -> Result:
    """Have connections swallow what is sent; as above.

    Args:
        backend: as above.
        what: "requests", "replies", "both", or "one reply", after which they are cut.
        plan: as above.
        spoil: as above.
    """
    with redis_server() as server:
        async with Proxy.opened(server.port) as proxy:

            async def harm(_: int) -> None:
                proxy.harm(what)
                await anyio.sleep(_SHORT)

            transport = RedisTransport(proxy.url, timeout=_SHORT, connect_timeout=_SHORT)
            result = Result("connections swallow", backend, what)
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
    await run_under(harm, transport, result, plan)
    result.leaks += await connections_left(server)
    stored = server.command("XLEN", _LOG)
    assert stored == f":{result.stored}", f"the server says {stored}, and the log {result.stored}"
    return result


async def connections_left(server: RedisServer) -> int:
    """Count the connections that a server has, apart from that of whoever asks."""
    return await left(lambda: server.command("CLIENT", "LIST").count(" laddr=") - 1)
