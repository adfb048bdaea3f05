"""A store on a Redis server, for engines on several machines."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, final

from anyio import get_current_task

from flexiflow._arguments import check_finite
from flexiflow._errors import StateConflict
from flexiflow._stores import Stored
from flexiflow._tasks import left_elsewhere
from flexiflow._text import show
from flexiflow.extras._redis.lines import open_wires
from flexiflow.extras._redis.url import check_prefix, parse_url
from flexiflow.extras.stores._arguments import (
    check_history,
    check_limit,
    check_name,
    check_save,
    check_until,
)
from flexiflow.extras.stores._errors import StoreUnavailable, StoreUnusable
from flexiflow.extras.stores._redis.scripts import DELETE, VERSIONS
from flexiflow.extras.stores._redis.session import Session
from flexiflow.extras.stores._snapshots import decode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from anyio import TaskInfo

_FIELDS: Final = 4
"""How many fields a version has: its number, state, data and due."""

_CLOSED: Final = "it is not open: use it inside `async with store:` or `engine.running()`"


@final
class RedisStateStore:
    """Keeps the states of components on a Redis server: needs Redis 6.2, and the extra `redis`.

    It is open inside `async with store:`, and inside `engine.running()`. While it is open, other
    tasks of the same event loop may enter it, too, and share its connection. The block of the task
    that opened it ends when the others have left. If an exception leaves that block, the store is
    closed at once, and the others' calls raise `StoreUnavailable`. It may be opened again later,
    also in another event loop.

    The saves of several tasks share a round trip. None is ever sent twice. Where the connection was
    lost, the next call opens a new one.

    The number of a version is one more than the last, and at least the server's time in
    microseconds. So none is given twice, even by a server that has lost what it had stored, unless
    its clock is set back as well.

    Args:
        url: `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS. The server
            must not be part of a cluster.
        history: how many former versions of each component are kept, 0 to 10**12.
        prefix: what the keys begin with; letters, digits and `._:-`.
        timeout: for how many seconds to wait for an answer.
        connect_timeout: for how many seconds to try to connect, and as long again to log in.

    Raises:
        TypeError: an argument of a wrong type.
        ValueError: an invalid URL, or a number out of its range. A password is not shown.

    Example:
        >>> from flexiflow import Engine
        >>> from flexiflow.extras.stores import RedisStateStore
        >>> store = RedisStateStore("redis://localhost:6379", prefix="shop")
        >>> engine = Engine(store=store)
        >>> print(type(store).__name__)
        RedisStateStore
    """

    def __init__(
        self,
        url: str,
        *,
        history: int = 0,
        prefix: str = "flexiflow:state",
        timeout: float = 5.0,
        connect_timeout: float = 5.0,
    ) -> None:
        self._server = parse_url(url)
        self._history = check_history(history)
        self._base = f"{{{check_prefix(prefix)}}}"
        self._timeout = check_finite("timeout", timeout)
        self._connect_timeout = check_finite("connect_timeout", connect_timeout)
        self._session: Session | None = None
        # The blocks that tasks are in, in the order in which they were entered.
        self._blocks: list[tuple[TaskInfo, AbstractAsyncContextManager[None]]] = []

    def __repr__(self) -> str:
        """Return the class and the address, without any secret."""
        return f"<RedisStateStore {self._server.address} {self._base}>"

    async def __aenter__(self) -> Self:
        """Open it, or share it if it is open already.

        Raises:
            ModuleNotFoundError: the extra `redis` is not installed.
            StoreUnavailable: the server can't be reached, or does not answer in time.
            StoreUnusable: the server refuses the login or is too old; or the store is open in
                another event loop.
        """
        block = self._block()
        await block.__aenter__()
        self._blocks.append((get_current_task(), block))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave it; the task that opened it closes it, after the others have left.

        Raises:
            RuntimeError: another task opened it; it is closed.
        """
        here = get_current_task()
        own = [each for each in self._blocks if each[0].coro is here.coro]
        host, block = entered = (own or self._blocks)[-1]
        self._blocks.remove(entered)
        try:
            await block.__aexit__(kind, raised, traceback)
        except RuntimeError as problem:
            leaving = left_elsewhere(host) or problem
        else:
            return
        try:
            raise leaving
        finally:
            del leaving, raised, traceback  # tracebacks hold this frame

    @asynccontextmanager
    async def _block(self) -> AsyncGenerator[None]:
        session = self._session
        if session is not None and session.is_here:
            with session.visited():
                await session.check()
                yield
            return
        async with open_wires(self._server, self._connect_timeout, "RedisStateStore") as wires:
            session = self._session = Session(
                wires, self._server, self._base, history=self._history, seconds=self._timeout
            )
            try:
                await session.check()
                yield
                await session.wait_for_visitors()
            finally:
                session.close()
                self._session = None

    async def load(self, name: str) -> Stored | None:
        """Return what is stored of a component, or None.

        Raises:
            StoreUnavailable: the store is not open, or the server does not answer, or can't now.
            StoreUnusable: other software has written there, or the server refuses.
        """
        check_name(name)
        found = await self._open.load(name)
        return self._stored(name, found) if any(each is not None for each in found) else None

    async def save(
        self,
        name: str,
        state: str,
        data: Mapping[str, Any] | None,
        *,
        expected: int,
        due: float | None = None,
    ) -> int:
        """Store a component's state, and return the version; see `StateStore.save`.

        The save is as durable as the server's writes: set `appendfsync always` to lose none.

        Raises:
            StateConflict: another version is stored, or none; nothing has changed.
            StoreUnavailable: as in `load`; where the connection was lost, it may be stored.
            StoreUnusable: as in `load`.
            TypeError: `data` is not JSON; nothing has changed.
            ValueError: `data` holds a number that is no JSON; nothing has changed.
        """
        text, time = check_save(name, state, data, expected, due)
        fields = (name, expected, state, text or "", "" if time is None else repr(time))
        answer = await self._open.save(fields, len(name) + len(state) + len(fields[3]))
        if not isinstance(answer, int):
            raise StateConflict(name, expected, self._number(name, answer))
        return answer

    async def due(self, until: float, limit: int) -> Sequence[str]:
        """Return the names of components whose `due` is not after `until`, the earliest first.

        A component whose `due` is None or infinite is never returned, whatever `until` is.

        Raises:
            StoreUnavailable: as in `load`.
            StoreUnusable: as in `load`.
        """
        seconds, most = repr(check_until(until)), check_limit(limit)
        found = await self._open.call("ZRANGEBYSCORE", ":due", "-inf", seconds, "LIMIT", 0, most)
        return [each.decode() for each in found]

    async def delete(self, name: str) -> None:
        """Forget a component, and its former versions; nothing happens if none is stored.

        Raises:
            StoreUnavailable: as in `load`; where the connection was lost, it may be done.
            StoreUnusable: as in `load`.
        """
        await self._open.run(DELETE, check_name(name))

    async def versions(self, name: str) -> Sequence[Stored]:
        """Return the current version of a component and at most `history` former ones.

        The newest is the first.

        Raises:
            StoreUnavailable: as in `load`.
            StoreUnusable: as in `load`.
        """
        check_name(name)
        found = await self._open.run(VERSIONS, name, self._history)
        return [
            self._stored(name, found[at : at + _FIELDS]) for at in range(0, len(found), _FIELDS)
        ]

    @property
    def _open(self) -> Session:
        if self._session is None:
            raise StoreUnavailable(self._server.address, _CLOSED)
        return self._session

    def _stored(self, name: str, found: Sequence[bytes | None]) -> Stored:
        try:
            version, state, data, due = (_text(each) for each in found)
            return Stored(int(version), state, decode(data or None), float(due) if due else None)
        except ValueError as error:
            raise self._foreign(name) from error

    def _number(self, name: str, version: bytes) -> int:
        try:
            return int(version)
        except ValueError as error:
            raise self._foreign(name) from error

    def _foreign(self, name: str) -> StoreUnusable:
        return StoreUnusable(
            self._server.address,
            f"something else has written what is stored of {show(name)}; use another prefix",
        )


def _text(value: bytes | None) -> str:
    if value is None:
        raise ValueError("a field is missing")
    return value.decode()
