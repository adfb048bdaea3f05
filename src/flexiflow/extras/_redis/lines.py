"""The connections to servers: opened where they are needed, and opened anew where they broke."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from flexiflow.extras._redis.replies import Broken, Refused, explain

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from flexiflow.extras._redis.client import Wire, Wires
    from flexiflow.extras._redis.replies import Terms
    from flexiflow.extras._redis.script import Script
    from flexiflow.extras._redis.url import Server

_OLDEST: Final = (6, 2)


@final
class Lines:
    """The connections that callers share: one to each server, and another one for `WAIT`.

    Args:
        wires: opens connections.
        terms: the errors for the callers.
    """

    def __init__(self, wires: Wires, terms: Terms) -> None:
        self._wires = wires
        self._terms = terms
        self._open: dict[tuple[Server, bool], Wire] = {}

    def to(self, server: Server, *, waits: bool = False) -> Wire:
        """Return the connection to a server; opened anew if it has broken."""
        wire = self._open.get((server, waits))
        if wire is None or not wire.is_alive:
            wire = self._open[server, waits] = self._wires.open(server)
        return wire

    async def check(self, server: Server, seconds: float) -> None:
        """Check that a server answers, and can do what is asked of it.

        Raises:
            Exception: what `terms` has for a server that does not answer, refuses the login, or is
                too old.
        """
        wire = self.to(server)
        try:
            await wire.call([("PING",)], seconds)
        except Refused as error:
            if "unknown command" in error.code:
                raise self._too_old(server, "5 or less") from None
            raise explain(error, server.address, self._terms) from error
        except Broken as error:
            raise explain(error, server.address, self._terms) from error
        if tuple(map(int, wire.version.split(".")[:2])) < _OLDEST:
            raise self._too_old(server, wire.version)

    def _too_old(self, server: Server, version: str) -> Exception:
        reason = f"its version is {version}, and Redis 6.2 or later is needed"
        return self._terms.unusable(server.address, reason)


async def evaluate(
    wire: Wire,
    script: Script,
    values: Sequence[bytes | str | int],
    seconds: float,
    then: Sequence[Sequence[bytes | str | int]] = (),
) -> list[Any]:
    """Run a script, and send it to the server where that does not know it.

    Args:
        wire: the connection.
        script: the script.
        values: its key, and its arguments.
        seconds: how many seconds an answer may take.
        then: commands to send right after it.

    Returns:
        The script's answer, and those of the commands.

    Raises:
        Broken: an answer did not come in time; it is not known whether the script was run.
        Refused: an answer is an error.
    """
    try:
        return await wire.call([("EVALSHA", script.digest, 1, *values), *then], seconds)
    except Refused as error:
        if error.code != "NOSCRIPT":
            raise
    return await wire.call([("EVAL", script.source, 1, *values), *then], seconds)


@asynccontextmanager
async def open_wires(server: Server, seconds: float, user: str) -> AsyncGenerator[Wires]:
    """Yield what opens connections, and close all of them at the end.

    What leaves the block leaves this as it was, not in a group.

    Args:
        server: the server, whose URL says whether TLS is used.
        seconds: how long each connection may take, and as long again for the server's greeting.
        user: the class that needs them, for the message.

    Raises:
        ModuleNotFoundError: the extra `redis` is not installed.
    """
    client = _client(user)
    tls = ssl.create_default_context() if server.is_encrypted else None
    raised: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            wires: Wires = client.Wires(tasks, tls, seconds)
            try:
                yield wires
            except BaseException as error:
                raised = error
                raise
            finally:
                wires.close()
    except BaseExceptionGroup as group:
        raised = raised or group
    # The connections raise nothing, so there is nothing else in a group.
    if raised is not None:
        raise raised


def _client(user: str) -> Any:
    try:
        # Imported here, since who uses neither a transport nor a store on Redis need not have it.
        from flexiflow.extras._redis import client  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "coredis":
            raise
        raise ModuleNotFoundError(
            f"{user} needs coredis: install flexiflow[redis]", name="coredis"
        ) from None
    return client
