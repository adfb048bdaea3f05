"""Connections to Redis servers; the only module that knows coredis.

The clients and pools of coredis are not used, since a pool loses a place with each command that is
cancelled while it blocks or connects. A single connection loses nothing: a request that its caller
gave up is still answered, in its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast, final

import anyio
from coredis.connection import TCPConnection, TCPLocation
from coredis.exceptions import (
    AskError,
    AuthenticationFailureError,
    AuthenticationRequiredError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
    UnblockedError,
    UnknownCommandError,
    WrongTypeError,
)

from flexiflow.extras._redis.replies import Broken, Refused

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Sequence

    from anyio.abc import ByteStream, TaskGroup

    from flexiflow.extras._redis.url import Server

# The error codes, which coredis removes from the text of an error.
_CODES: Final[dict[type[RedisError], str]] = {
    AskError: "ASK",
    AuthenticationFailureError: "WRONGPASS",
    AuthenticationRequiredError: "NOAUTH",
    AuthorizationError: "NOPERM",
    BusyLoadingError: "LOADING",
    ClusterDownError: "CLUSTERDOWN",
    MovedError: "MOVED",
    NoScriptError: "NOSCRIPT",
    ReadOnlyError: "READONLY",
    TryAgainError: "TRYAGAIN",
    UnblockedError: "UNBLOCKED",
    UnknownCommandError: "ERR unknown command",
    WrongTypeError: "WRONGTYPE",
}
# What opening a connection may raise; a server that hangs up during TLS ends the stream.
_FAILURES: Final = (
    RedisError,
    OSError,
    UnicodeError,
    anyio.BrokenResourceError,
    anyio.EndOfStream,
)
_REFUSALS: Final[tuple[type[RedisError], ...]] = (ResponseError, *_CODES)


@final
class _Connection(TCPConnection):
    """A connection over a stream that is open already, so that coredis can't leave one open."""

    def __init__(self, stream: ByteStream, server: Server, seconds: float) -> None:
        super().__init__(
            TCPLocation(server.host, server.port),
            # For the greeting; each request has a timeout of its own.
            stream_timeout=seconds,
            username=server.username,
            password=server.password,
            db=server.database,
        )
        self._opened = stream

    async def _connect(self) -> ByteStream:
        return self._opened


@final
class Wire:
    """A connection that runs in a task of its own, so that no caller's cancellation reaches it.

    Args:
        server: the server to connect to.
        tls: the settings of TLS; None without it.
        seconds: how long it may take to connect, and as long again for the server's greeting.
    """

    def __init__(self, server: Server, tls: ssl.SSLContext | None, seconds: float) -> None:
        self._server = server
        self._tls = tls
        self._seconds = seconds
        # Shielded: a bridge that is cancelled still gives back events by this connection.
        self._scope = anyio.CancelScope(shield=True)
        self._opened = anyio.Event()
        self._connection: _Connection | None = None
        self._error: Exception | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the connection may be used, since it is open or opening."""
        if self._scope.cancel_called or self._error is not None:
            return False
        return not self._opened.is_set() or (
            self._connection is not None and self._connection.usable
        )

    @property
    def version(self) -> str:
        """The version of the server, once it has answered; else "unknown"."""
        return (self._connection and self._connection.server_version) or "unknown"

    def close(self) -> None:
        """Make its task close the connection; requests without an answer fail."""
        self._scope.cancel()

    def started(self, value: object = None) -> None:  # noqa: ARG002 - coredis passes it
        """Note that the server has sent its greeting; called by coredis."""
        self._opened.set()

    async def run(self) -> None:
        """Open the connection, and keep it until it breaks or is closed."""
        with self._scope:
            try:
                with anyio.fail_after(self._seconds):
                    stream = await self._connect()
                self._connection = _Connection(stream, self._server, self._seconds)
                await self._connection.run(task_status=self)
            except _FAILURES as error:
                self._error = error
        # Also if it was closed while it opened: callers wait for this.
        self._opened.set()

    async def _connect(self) -> ByteStream:
        host, port = self._server.host, self._server.port
        if self._tls is None:
            return await anyio.connect_tcp(host, port)
        return await anyio.connect_tcp(
            host, port, ssl_context=self._tls, tls_standard_compatible=False
        )

    async def call(
        self, commands: Sequence[Sequence[bytes | str | int]], seconds: float
    ) -> list[Any]:
        """Send commands, one right after the other, and return the answers.

        Raises:
            Broken: an answer did not come within `seconds`; then the connection is closed.
            Refused: an answer is an error; raised for the first one.
        """
        await self._opened.wait()
        if self._connection is None or not self.is_alive:
            raise self._translate(self._error)
        try:
            requests = [
                self._connection.create_request(
                    str(name).encode(), *arguments, decode=False, timeout=seconds
                )
                for name, *arguments in commands
            ]
            return [cast("Any", await each) for each in requests]
        except TimeoutError:
            self.close()
            raise Broken(f"no answer within {seconds:g} s") from None
        except (RedisError, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            raise self._translate(error) from error

    def _translate(self, error: Exception | None) -> Broken | Refused:
        if isinstance(error, _REFUSALS):
            code = _CODES.get(type(error))
            first, _, rest = str(error).partition(" ")
            return Refused(code, str(error)) if code is not None else Refused(first, rest)
        # The message of coredis says little; the reason is in its cause.
        reason = (error and error.__cause__) or error
        if isinstance(reason, TimeoutError):
            return Broken(f"no answer within {self._seconds:g} s")
        return Broken(str(reason or "") or "the connection was closed")


@final
class Wires:
    """Opens connections in a task group, and closes all of them in the end.

    Args:
        tasks: the task group.
        tls: the settings of TLS; None without it.
        seconds: how long each may take to connect, and as long again for the server's greeting.
    """

    def __init__(self, tasks: TaskGroup, tls: ssl.SSLContext | None, seconds: float) -> None:
        self._tasks = tasks
        self._tls = tls
        self._seconds = seconds
        self._wires: set[Wire] = set()
        self._is_closed = False

    def open(self, server: Server) -> Wire:
        """Begin to open a connection, and return it."""
        wire = Wire(server, self._tls, self._seconds)
        self._wires.add(wire)
        if self._is_closed:
            wire.close()
        self._tasks.start_soon(self._run, wire)
        return wire

    def run_beside(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a function in a task beside those of the connections; it has to end by itself."""
        self._tasks.start_soon(run)

    def close(self) -> None:
        """Close all connections, also those that are opened from now on."""
        self._is_closed = True
        for wire in self._wires:
            wire.close()

    async def _run(self, wire: Wire) -> None:
        await wire.run()
        self._wires.remove(wire)
