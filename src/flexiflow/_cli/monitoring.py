"""The page that shows a run while it lasts: `flexiflow run --monitor` (L8)."""

from __future__ import annotations

import gc
import re
import secrets
import socket
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from flexiflow._cli.problems import CannotRun
from flexiflow._cli.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow import Engine

_NEEDED: Final = ("hypercorn", "starlette")
_GRACE: Final = 1.0
"""Seconds that a request may go on when the run has ended."""
_ADDRESS: Final = re.compile(
    r"(?:(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):)?(?P<port>[0-9]{1,5})"
)
_LAST_PORT: Final = 65_535
_HERE: Final = ("127.0.0.1", "localhost", "[::1]")


@final
class MonitorServer:
    """Serves a monitor while a run lasts.

    Args:
        address: a port of this machine, or a host and a port, as in "0.0.0.0:8080".
        backend: "asyncio" or "trio".

    Raises:
        CannotRun: a library is missing, or it is no address, or one that can't be used.
    """

    def __init__(self, address: str, backend: str) -> None:
        missing = [each for each in _NEEDED if find_spec(each) is None]
        if missing:
            raise CannotRun(
                f"--monitor needs {', '.join(missing)}: run pip install 'flexiflow[monitor]'"
            )
        found = _ADDRESS.fullmatch(address)
        if found is None or int(found["port"]) > _LAST_PORT:
            raise CannotRun(
                "--monitor takes a port, as in 8080, or a host and a port, as in 0.0.0.0:8080, "
                f"not {one_line(address)}"
            )
        self._backend = backend
        self._host: str = found["host"] or _HERE[0]
        self._socket = _listening(self._host, int(found["port"]))
        self._token = None if self._host in _HERE else secrets.token_urlsafe()

    def close(self) -> None:
        """Free the port, unless it was served."""
        self._socket.close()

    async def serve(self, engine: Engine, tell: Callable[[str], object]) -> None:
        """Serve the page until cancelled.

        Args:
            engine: the engine to show.
            tell: called with the address of the page, as text.
        """
        from flexiflow.extras.monitor import Monitor  # noqa: PLC0415  only this needs it

        config: Any = import_module("hypercorn.config").Config()
        config.loglevel = "CRITICAL"
        config.graceful_timeout = _GRACE
        monitor = Monitor(engine, token=self._token, causes=True)
        await monitor.watch_failures()
        query = "" if self._token is None else f"?token={self._token}"
        port = self._socket.getsockname()[1]
        # From here on the server owns the socket, and closes it.
        config.bind = [f"fd://{self._socket.detach()}"]
        tell(f"monitor: http://{self._host}:{port}/{query}")
        serve: Any = import_module(f"hypercorn.{self._backend}").serve
        stopped = anyio.Event()

        async def serve_until_stopped() -> None:
            # Shielded: on asyncio it fails when it is cancelled.
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as helpers:
                    helpers.start_soon(_hang_up_after, stopped, port)
                    await serve(monitor, config, shutdown_trigger=stopped.wait)
                    helpers.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve_until_stopped)
            try:
                await anyio.sleep_forever()
            finally:
                stopped.set()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        made = socket.create_server((host.strip("[]"), port), family=family)
    except OSError as exc:
        raise CannotRun(f"--monitor can't use {host}:{port}: {exc.strerror or exc}") from exc
    return made


async def _hang_up_after(stopped: anyio.Event, port: int) -> None:
    """Close the connections that are still there some time after the server was stopped.

    Hypercorn would wait without limit for a browser that reads nothing: on asyncio until it has
    read what was written, and on trio since sending is shielded. It keeps the connections to
    itself; the garbage collector knows them all the same.
    """
    await stopped.wait()
    await anyio.sleep(_GRACE)
    for each in gc.get_objects():
        if issubclass(type(each), socket.socket) and _is_connection(each, port):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _is_connection(found: socket.socket, port: int) -> bool:
    """Return whether a socket is a connection that was accepted at a port."""
    if found.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        return bool(found.getsockname()[1] == port and found.getpeername())
    except OSError:
        return False
