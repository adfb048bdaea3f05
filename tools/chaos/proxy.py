"""Half-open connections: a proxy between a server and its clients that swallows data."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

import anyio
from anyio.abc import SocketAttribute

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import SocketStream, TaskGroup

Swallowed: TypeAlias = Literal["requests", "replies", "both", "one reply"]
SWALLOWED: Final[tuple[Swallowed, ...]] = ("requests", "replies", "both", "one reply")


class _Pair:
    """A connection from a client and one to the server.

    Attributes:
        harm: which data is swallowed; None if all is passed on.
    """

    __slots__ = ("harm",)

    def __init__(self) -> None:
        self.harm: Swallowed | None = None


@final
class Proxy:
    """Passes data on, until it is told to swallow it.

    Swallowed data is lost for good, so a damaged connection stays damaged; later ones are sound.

    Args:
        port: the server's port.
        url: the proxy's own URL.
        tasks: the task group that it runs in.
    """

    def __init__(self, port: int, url: str, tasks: TaskGroup) -> None:
        self.url = url
        self._port = port
        self._tasks = tasks
        self._pairs: set[_Pair] = set()

    @classmethod
    @asynccontextmanager
    async def opened(cls, port: int) -> AsyncGenerator[Proxy]:
        """Run a proxy within the block."""
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as tasks:
            place = listener.extra(SocketAttribute.local_port)  # noqa: S610  no query
            proxy = cls(port, f"redis://127.0.0.1:{place}", tasks)
            tasks.start_soon(listener.serve, proxy._pass_on)
            # The proxy starts tasks of its own, which must not count as left behind.
            await anyio.wait_all_tasks_blocked()
            yield proxy
            tasks.cancel_scope.cancel()

    @property
    def count(self) -> int:
        """The number of connections."""
        return len(self._pairs)

    def harm(self, what: Swallowed) -> None:
        """Damage the connections that exist now."""
        for pair in self._pairs:
            pair.harm = what

    async def _pass_on(self, client: SocketStream) -> None:
        pair = _Pair()
        self._pairs.add(pair)
        try:
            async with (
                client,
                await anyio.connect_tcp("127.0.0.1", self._port) as server,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(self._send_replies, pair, server, client, tasks)
                await self._send_requests(pair, client, server)
                tasks.cancel_scope.cancel()
        finally:
            self._pairs.remove(pair)

    async def _send_requests(self, pair: _Pair, client: SocketStream, server: SocketStream) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                data = await client.receive()
                if pair.harm not in {"requests", "both"}:
                    await server.send(data)

    async def _send_replies(
        self, pair: _Pair, server: SocketStream, client: SocketStream, tasks: TaskGroup
    ) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while pair.harm != "one reply":
                data = await server.receive()
                if pair.harm is None or pair.harm == "requests":
                    await client.send(data)
        tasks.cancel_scope.cancel()
