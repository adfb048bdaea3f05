"""Calls to a transport: notes them in the history, and keeps leases alive meanwhile."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

import anyio

from flexiflow._text import safely
from flexiflow.extras.durable import Member
from flexiflow.testing._transport.holds import Span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from flexiflow.extras.durable import Connection, Delivery, Lease, Outcome, Start, Transport
    from flexiflow.testing._transport.holds import Tenure

_T = TypeVar("_T")

GROUPS: Final[Mapping[str, str]] = {
    "a": "g", "b": "g", "c": "h", "d": "h", "n": "g", "w": "g", "e": "g",
}  # fmt: skip
"""The group of each worker."""
RANKS: Final[Mapping[str, int]] = {"n": 0, "w": 2}
"""The ranks of workers that differ from 1; the patterns of a higher rank include a lower one's."""
PATTERNS: Final = (("order.placed",), ("order.*",), ("order.**",))
"""The patterns of each rank."""
OTHERS: Final = ("payment.*",)
"""Patterns that neither include those of a rank nor are included in them."""
LONGEST: Final = 1.0
"""The longest that a record waits, in leases."""

HOOKS: Final[Mapping[str, int]] = {"restart": 1, "damage": 3, "insert": 3, "empty": 1}
"""The optional hooks of `check_transport`, and with how many arguments each is called."""


class Broken(AssertionError):
    """A transport breaks a clause.

    Args:
        clause: its number.
        complaint: what happened.
    """

    def __init__(self, clause: str, complaint: str) -> None:
        super().__init__(clause, complaint)
        self.clause = clause
        self.complaint = complaint

    def __str__(self) -> str:
        """Return the clause, and what happened."""
        return f"{self.clause}: {self.complaint}"


class Inconclusive(Exception):
    """A lease may have run out by itself, on a busy machine, so that nothing is known."""


@final
@dataclass(frozen=True)
class Means:
    """What a transport is examined with.

    Attributes:
        factory: makes one, new and empty, or returns a context manager that does.
        lease: the length of leases, in seconds.
        restart: restarts the server behind a transport.
        damage: deletes a stored record, of a partition at a position, behind a transport's back.
        insert: stores a body, in a partition, behind a transport's back.
        empty: restarts the server behind a transport, which has lost all that was stored.
    """

    factory: Callable[..., Any]
    lease: float = 1.0
    restart: Callable[[Any], Awaitable[object]] | None = None
    damage: Callable[[Any, int, str], Awaitable[object]] | None = None
    insert: Callable[[Any, int, bytes], Awaitable[object]] | None = None
    empty: Callable[[Any], Awaitable[object]] | None = None

    @asynccontextmanager
    async def make(self, **options: int) -> AsyncGenerator[Transport]:
        """Make a transport, and yield it."""
        made = self.factory(**options)
        if hasattr(made, "connect"):
            yield made
            return
        async with made as transport:
            yield transport


@final
@dataclass(eq=False)
class Hand:
    """A lease that a worker has, or had, and the deliveries that it was given by it.

    Attributes:
        renewed: when the lease was acquired, or renewed.
        tenure: the lease in the model.
        held: what the worker was given, and has not settled.
        last: what it settled last, and at which places.
    """

    worker: str
    lease: Lease
    renewed: float
    tenure: Tenure
    held: list[tuple[int, Delivery]] = field(default_factory=list[tuple[int, "Delivery"]])
    last: tuple[tuple[int, Outcome], ...] = ()


@final
class Calls:
    """Calls a transport, notes the results, and keeps leases alive.

    Args:
        means: what makes the transport.
        options: what the factory is called with.
        history: where to note the calls.
    """

    def __init__(self, means: Means, options: Mapping[str, int], history: list[str]) -> None:
        self.means = means
        self.history = history
        self.hands: dict[tuple[str, int], Hand] = {}
        self.joined: dict[str, float] = {}
        self.start: Start = "oldest"
        self._options = options
        self._stack = AsyncExitStack()
        self._open = AsyncExitStack()

    async def open(self) -> None:
        """Make the transport, and connect to it twice."""
        self.transport = await self._stack.enter_async_context(self.means.make(**self._options))
        await self._connect()

    async def _connect(self) -> None:
        opened = [self.transport.connect() for _ in range(2)]
        self._connections = [await self._open.enter_async_context(each) for each in opened]

    async def reopen(self) -> None:
        """Close the connections, and open others, like a process that was started again."""
        await self._open.aclose()
        await self._connect()

    async def aclose(self) -> None:
        """Close everything."""
        async with self._stack:
            await self._open.aclose()

    @property
    def first(self) -> Connection:
        """The first of the two connections."""
        return self._connections[0]

    def connection(self, worker: str) -> Connection:
        """Return the connection of a worker."""
        return self._connections[worker in "bd"]

    def member(self, worker: str) -> Member:
        """Return a worker as a member of its group."""
        group, lease = GROUPS.get(worker, worker[-1]), self.means.lease
        patterns, token = PATTERNS[RANKS.get(worker, 1)], f"token-{worker}"
        return Member(group, worker, token, patterns, lease, LONGEST * lease, self.start)

    async def call(self, text: str, call: Callable[[], Awaitable[_T]]) -> _T:
        """Make a call, and note its result in the history.

        Raises:
            Inconclusive: a lease may have run out meanwhile.
        """
        try:
            result = await call()
        except Exception as exc:
            self.history.append(f"{text}: raises {safely(repr, exc)}")
            self._check_time()
            raise
        self.history.append(f"{text}: {_show(result)}")
        self._check_time()
        return result

    def _check_time(self) -> None:
        """Raise `Inconclusive` if the oldest lease may have run out by now."""
        live = (hand.renewed for hand in self.hands.values() if hand.tenure.is_live)
        earliest = min((*live, *self.joined.values()), default=float("inf"))
        if anyio.current_time() - earliest > 0.9 * self.means.lease:
            raise Inconclusive

    def now(self) -> Span:
        """Return the present moment."""
        now = anyio.current_time()
        return Span(now, now)

    async def timed(self, text: str, call: Callable[[], Awaitable[_T]]) -> tuple[_T, Span]:
        """Make a call, and return its result and when it was made."""
        earliest = anyio.current_time()
        result = await self.call(text, call)
        return result, Span(earliest, anyio.current_time())

    async def join(self, worker: str) -> list[str]:
        """Join a worker to its group, or renew its membership."""
        member, at = self.member(worker), anyio.current_time()
        joined = self.connection(worker).join
        alive = await self.call(f"{worker} joins {member.group}", lambda: joined(member))
        self.joined[worker] = at
        return list(alive)

    async def keep_alive(self, *, age: float = 0.0) -> None:
        """Renew the memberships and leases that were not renewed for `age` seconds."""
        now = anyio.current_time()
        for worker in [each for each, at in self.joined.items() if now - at >= age]:
            await self.join(worker)
        for (worker, _), hand in self.hands.items():
            if hand.tenure.is_live and now - hand.renewed >= age:
                hand.renewed = anyio.current_time()
                await self.call(f"{worker} renews", hand.lease.renew)

    async def pass_time(self, leases: float) -> None:
        """Wait for a time, given in leases, while leases are renewed."""
        until = anyio.current_time() + leases * self.means.lease
        await self.keep_alive()
        while (left := until - anyio.current_time()) > 0:
            await anyio.sleep(min(left, 0.3 * self.means.lease))
            await self.keep_alive()

    async def be_silent(self, worker: str) -> list[Hand]:
        """Keep a worker silent until its leases have run out, and return those."""
        lost = [hand for key, hand in self.hands.items() if key[0] == worker]
        lost = [hand for hand in lost if hand.tenure.is_live]
        was_member = self.joined.pop(worker, None) is not None
        for hand in lost:
            hand.tenure.is_live = False
        if lost or was_member:
            await self.pass_time(1.5)
        return lost


def _show(result: object) -> str:
    if isinstance(result, list):
        return f"[{', '.join(map(_show, cast('list[object]', result)))}]"
    token: object = getattr(result, "token", None)
    return safely(repr, result) if token is None else f"lease {token}"
