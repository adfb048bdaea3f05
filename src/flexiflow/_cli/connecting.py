"""Using a transport from a command: find it by its URL, connect, write, and end on Ctrl-C."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from flexiflow._cli.display import INTERRUPTED, Plain
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.session import report_writing_failure
from flexiflow._cli.text import show_exception, show_message, show_text
from flexiflow._cli.writer import Writer
from flexiflow._text import closest
from flexiflow.extras.durable import SqliteTransport, TransportError, transport_from_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from flexiflow.extras.durable import Connection, Transport

_T = TypeVar("_T")

_MOST_NAMED: Final = 10
_GRACE_SECONDS: Final = 1


def find_transport(url: str) -> Transport:
    """Return the transport that a URL names.

    Raises:
        CannotRun: the URL names no transport.
    """
    try:
        return transport_from_url(url)
    except ValueError as exc:
        raise CannotRun(show_message(exc)) from exc


async def check_group(connection: Connection, group: str) -> None:
    """Check that there is such a group.

    Raises:
        CannotRun: there is none; those that there are, or some of them, are named.
    """
    at = connection.address
    groups = await looked_up(at, connection.groups())
    if group not in groups:
        raise CannotRun(f"{at} has no group {group!r}; {_name_some(group, groups)}")


def _name_some(wanted: str, groups: Sequence[str]) -> str:
    if not groups:
        return "there is none"
    if len(groups) <= _MOST_NAMED:
        return f"there are {', '.join(map(show_text, groups))}"
    named = closest(wanted, groups) or groups[:_MOST_NAMED]
    return f"there are {len(groups):,}, such as {', '.join(map(show_text, named))}"


async def looked_up(address: str, reading: Awaitable[_T]) -> _T:
    """Await a reading from a transport, and return the result.

    Args:
        address: the transport's address, for the message.
        reading: reads from the transport.

    Raises:
        CannotRun: what is stored there was not written by a transport.
    """
    try:
        return await reading
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
        raise CannotRun(f"what {address} holds can't be read: {show_exception(exc)}") from exc


def use(url: str, act: Callable[[Connection, Writer], Awaitable[int]]) -> int:
    """Open a transport, call `act` with it, and return the exit status (L5).

    If the transport fails, or after Ctrl-C, what `act` has added to the writer by then is written.

    Args:
        url: names the transport.
        act: takes the connection and a writer to standard output, and returns the exit status.

    Raises:
        CannotRun: the transport can't be opened or fails, or its file does not exist; no file is
            created.
    """
    transport = find_transport(url)
    if isinstance(transport, SqliteTransport) and not Path(transport.path).exists():
        raise CannotRun(f"there is no file {transport.path!r}")
    try:
        return anyio.run(_use, transport, act)
    except KeyboardInterrupt:
        return INTERRUPTED


async def _use(transport: Transport, act: Callable[[Connection, Writer], Awaitable[int]]) -> int:
    status = 0
    scope = anyio.CancelScope()
    writer = _make_writer(scope)
    with scope:
        async with _connected(transport) as connection:
            status = await _act(act, connection, writer)
    if writer.failure is not None:
        return report_writing_failure(writer.failure, Plain(sys.stderr).tell)
    return status


async def _act(
    act: Callable[[Connection, Writer], Awaitable[int]], connection: Connection, writer: Writer
) -> int:
    """Return the status of what is done; write what it tells, also if it fails or is cancelled."""
    status, problem = 0, None
    try:
        status = await act(connection, writer)
    except (TransportError, CannotRun) as exc:
        problem = exc
    except anyio.get_cancelled_exc_class():
        with anyio.move_on_after(_GRACE_SECONDS, shield=True):
            await writer.drain()
        raise
    await writer.drain()
    if problem is not None:
        raise problem
    return status


def _make_writer(scope: anyio.CancelScope) -> Writer:
    output = -1 if sys.stdout is None else sys.stdout.fileno()
    return Writer(output, before_writing=lambda: None, on_failure=scope.cancel)


@asynccontextmanager
async def _connected(transport: Transport) -> AsyncGenerator[Connection]:
    try:
        async with transport.connect() as connection:
            yield connection
    except (TransportError, ModuleNotFoundError) as exc:
        raise CannotRun(show_message(exc)) from exc
