"""What the tests of durable delivery share: a transport that fails on demand, and handlers."""

from collections import Counter, defaultdict, deque
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Generator,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pickle import dumps, loads
from typing import Any, Literal, TypeVar, final

from anyio import Event, create_task_group, fail_after, sleep

from flexiflow import EventBus
from flexiflow.extras.durable import (
    Batch,
    Bridge,
    Connection,
    DeadLetter,
    Delivery,
    Lease,
    Member,
    MemoryTransport,
    Outcome,
    Record,
    Replayed,
    Room,
    ScheduledRecord,
    Settled,
    Standing,
    Start,
    Stored,
    Survey,
    Transport,
    TransportUnavailable,
    open_bridge,
)
from flexiflow.testing import explore
from tests.helpers import PATIENCE

T = TypeVar("T")
Key = Callable[[Any], str | None]

GROUP = "billing"
NAME = "order.placed"

Call = Literal[
    "connect",
    "produced",
    "store",
    "join",
    "leave",
    "acquire",
    "standing",
    "groups",
    "forget",
    "dead_letters",
    "redrive",
    "tail",
    "schedule",
    "cancel",
    "replay",
    "receive",
    "wait",
    "settle",
    "renew",
    "release",
]


def unavailable() -> TransportUnavailable:
    """Make the failure of a transport that is away."""
    return TransportUnavailable("nowhere", "it is away")


@final
class Hold:
    """A call that is held up, or only its reply.

    Attributes:
        reached: set when it has come.
        open: lets it go on.
        is_late: whether it does its work before.
    """

    def __init__(self, *, is_late: bool) -> None:
        self.reached = Event()
        self.open = Event()
        self.is_late = is_late


@final
class Fault:
    """What a call fails with, and whether it did its work before: then only its reply is lost."""

    def __init__(self, exception: BaseException, *, is_late: bool) -> None:
        self.exception = exception
        self.is_late = is_late


@final
class Pickle:
    """A codec for what JSON can't hold."""

    content_type = "application/x-pickle"

    def encode(self, data: Any) -> bytes:
        """Write it down."""
        return dumps(data)

    def decode(self, body: bytes) -> Any:
        """Read it."""
        return loads(body)  # noqa: S301  it was written by the same test


class Faulty:
    """A transport around another one, whose calls fail or are held up on demand.

    Attributes:
        calls: how often each was called.
        batches: the batches that were to be stored.
        outcomes: what was to be settled.
        tickets: those of the events that were to be scheduled.
    """

    def __init__(self, transport: Transport) -> None:
        self.calls: Counter[str] = Counter()
        self.batches: list[Batch] = []
        self.outcomes: list[Outcome] = []
        self.tickets: list[str] = []
        self._transport = transport
        self._plans: defaultdict[str, deque[Fault | Hold | None]] = defaultdict(deque)
        self._away: set[str] = set()

    def fail(
        self, call: Call, *exceptions: BaseException, times: int = 1, is_late: bool = False
    ) -> None:
        """Have the next calls fail, so many times with each of these, by default unavailable."""
        for each in exceptions or (unavailable(),):
            self._plans[call] += [Fault(each, is_late=is_late)] * times

    def succeed(self, call: Call, times: int = 1) -> None:
        """Have so many calls succeed before what is planned next."""
        self._plans[call] += [None] * times

    def hold(self, call: Call, *, is_late: bool = False) -> Hold:
        """Hold the next call up, after what is planned already, or only its reply."""
        hold = Hold(is_late=is_late)
        self._plans[call].append(hold)
        return hold

    @contextmanager
    def away(self, *calls: Call) -> Generator[None]:
        """Have these calls fail, whenever they come, as long as the block lasts."""
        self._away.update(calls)
        try:
            yield
        finally:
            self._away.difference_update(calls)

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Connection]:
        """Open it."""
        await self.run("connect", _nothing)
        async with self._transport.connect() as connection:
            yield _FaultyConnection(self, connection)

    async def run(self, call: Call, function: Callable[[], Awaitable[T]]) -> T:
        """Make a call, as planned."""
        self.calls[call] += 1
        if call in self._away:
            raise unavailable()
        plans = self._plans[call]
        plan = plans.popleft() if plans else None
        if isinstance(plan, Hold):
            done = [await function()] if plan.is_late else []
            plan.reached.set()
            await plan.open.wait()
            return done[0] if done else await function()
        if isinstance(plan, Fault):
            if plan.is_late:
                await function()
            raise plan.exception
        return await function()


async def _nothing() -> None:
    """Do nothing."""


@final
class _FaultyConnection:
    def __init__(self, faulty: Faulty, connection: Connection) -> None:
        self._faulty = faulty
        self._connection = connection

    @property
    def address(self) -> str:
        return self._connection.address

    @property
    def partitions(self) -> int:
        return self._connection.partitions

    @property
    def is_exclusive(self) -> bool:
        return self._connection.is_exclusive

    @property
    def max_length(self) -> int:
        return self._connection.max_length

    @property
    def max_event_bytes(self) -> int:
        return self._connection.max_event_bytes

    async def produced(self, producer: str) -> int:
        return await self._faulty.run("produced", partial(self._connection.produced, producer))

    def new_ticket(self, key: str | None) -> str:
        return self._connection.new_ticket(key)

    async def schedule(
        self, ticket: str, record: Record, *, at: float | None = None, delay: float | None = None
    ) -> None:
        self._faulty.tickets.append(ticket)
        schedule = partial(self._connection.schedule, ticket, record, at=at, delay=delay)
        await self._faulty.run("schedule", schedule)

    async def cancel(self, ticket: str) -> bool:
        return await self._faulty.run("cancel", partial(self._connection.cancel, ticket))

    async def scheduled(
        self, *, after: ScheduledRecord | None = None, limit: int = 100
    ) -> Sequence[ScheduledRecord]:
        return await self._connection.scheduled(after=after, limit=limit)

    async def replay(self, group: str, since: Start) -> Replayed:
        return await self._faulty.run("replay", partial(self._connection.replay, group, since))

    async def survey(self) -> Survey:
        return await self._connection.survey()

    async def discard(self, group: str, ids: Sequence[str]) -> int:
        return await self._connection.discard(group, ids)

    async def store(self, batch: Batch) -> None:
        self._faulty.batches.append(batch)
        await self._faulty.run("store", partial(self._connection.store, batch))

    async def join(self, member: Member) -> Sequence[str]:
        return await self._faulty.run("join", partial(self._connection.join, member))

    async def leave(self, member: Member) -> None:
        await self._faulty.run("leave", partial(self._connection.leave, member))

    async def acquire(self, member: Member, partition: int) -> Lease | None:
        acquire = partial(self._connection.acquire, member, partition)
        lease = await self._faulty.run("acquire", acquire)
        return None if lease is None else _FaultyLease(self._faulty, lease)

    async def standing(self, group: str) -> Standing:
        return await self._faulty.run("standing", partial(self._connection.standing, group))

    async def groups(self) -> Sequence[str]:
        return await self._faulty.run("groups", self._connection.groups)

    async def forget(self, group: str) -> None:
        await self._faulty.run("forget", partial(self._connection.forget, group))

    async def dead_letters(
        self, group: str, *, after: str | None = None, limit: int = 100
    ) -> Sequence[DeadLetter]:
        look = partial(self._connection.dead_letters, group, after=after, limit=limit)
        return await self._faulty.run("dead_letters", look)

    async def redrive(self, group: str, ids: Sequence[str]) -> int:
        return await self._faulty.run("redrive", partial(self._connection.redrive, group, ids))

    async def tail(
        self, after: Sequence[str] | None, limit: int, wait: float
    ) -> tuple[Sequence[Stored], Sequence[str]]:
        look = partial(self._connection.tail, after, limit, wait)
        return await self._faulty.run("tail", look)


@final
class _FaultyLease:
    def __init__(self, faulty: Faulty, lease: Lease) -> None:
        self._faulty = faulty
        self._lease = lease

    @property
    def partition(self) -> int:
        return self._lease.partition

    @property
    def token(self) -> int:
        return self._lease.token

    @property
    def lines(self) -> Collection[str]:
        return self._lease.lines

    @property
    def replay(self) -> int:
        return self._lease.replay

    async def receive(self, room: Room) -> Sequence[Delivery]:
        return await self._faulty.run("receive", partial(self._lease.receive, room))

    async def wait(self, seconds: float) -> None:
        await self._faulty.run("wait", partial(self._lease.wait, seconds))

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        self._faulty.outcomes += outcomes
        return await self._faulty.run("settle", partial(self._lease.settle, outcomes))

    async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
        return await self._faulty.run("renew", partial(self._lease.renew, positions))

    async def release(self) -> None:
        await self._faulty.run("release", self._lease.release)


@final
class Handler:
    """A handler that notes what it gets, and may wait or fail.

    Args:
        fails: how many times it fails for each payload.
        gate: what it waits for, if anything.

    Attributes:
        called: set when it was called.
        begun: the payloads that it was called with.
        done: those that it has handled.
        running: how many calls run.
        most: how many ran at once, at most.
    """

    def __init__(self, *, fails: int = 0, gate: Event | None = None) -> None:
        self.called = Event()
        self.begun: list[Any] = []
        self.done: list[Any] = []
        self.running = self.most = 0
        self._fails = fails
        self._gate = gate

    async def __call__(self, data: Any) -> None:
        """Handle an event."""
        self.called.set()
        self.begun.append(data)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self._gate is not None:
                await self._gate.wait()
            if self.begun.count(data) <= self._fails:
                raise Refused(data)
            self.done.append(data)
        finally:
            self.running -= 1


class Refused(Exception):
    """Let out by the handlers of these tests."""


async def until(predicate: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something is so; in virtual time perhaps for longer."""
    with fail_after(seconds):
        # Not merely by checkpoints: virtual time stands still while anything is ready.
        while not predicate():  # noqa: ASYNC110  what is looked at tells nobody that it changes
            await sleep(seconds / 1_000)


async def put(
    transport: Transport, *payloads: Any, key: Key | None = None, name: str = NAME
) -> None:
    """Store events, as another process would."""
    bus = EventBus()
    async with open_bridge(bus, transport, outgoing=[name], key=key):
        for payload in payloads:
            assert await bus.publish(name, payload) == ()


async def put_bodies(transport: Transport, *bodies: bytes) -> None:
    """Store any record."""
    async with transport.connect() as connection:
        await connection.store(Batch(f"of {bodies!r}", 1, tuple(map(Record, bodies))))


async def die_with(transport: Transport, limit: int = 100) -> None:
    """Be a worker that dies with events in hand."""
    async with transport.connect() as connection:
        member = Member(GROUP, "dead", "token", ("order.*",), 1.0)
        await connection.join(member)
        lease = await connection.acquire(member, 0)
        assert lease is not None
        await lease.receive(Room(limit))
        await lease.release()
        await connection.leave(member)


@asynccontextmanager
async def consuming(
    transport: Transport, handler: Callable[[Any], object], **options: Any
) -> AsyncGenerator[Bridge]:
    """Open a bridge for events that a handler handles, on a bus of its own."""
    bus = EventBus()
    await bus.subscribe("order.*", "c", handler)
    defaults: dict[str, Any] = {"incoming": ["order.*"], "group": GROUP, "retry_delay": 0}
    async with open_bridge(bus, transport, **(defaults | options)) as bridge:
        yield bridge


def pending(transport: MemoryTransport, group: str = GROUP) -> dict[int, tuple[int, int, bool]]:
    """Return the attempts and deliveries of what is pending or waits, and whether it is held."""
    return {
        position: (held.attempts, held.deliveries, held.holder in reading.leases)
        for reading in transport._state.groups[group].readings
        for position, held in (reading._pending | reading._waiting).items()
    }


def is_free_of_traces(transport: MemoryTransport, *buses: EventBus) -> bool:
    """Tell whether no lease, no membership and no subscription of a bridge is left."""
    return (
        not any(group._alive for group in transport._state.groups.values())
        and not any(
            reading.leases
            for group in transport._state.groups.values()
            for reading in group.readings
        )
        and not any(
            each.component_name == "<bridge>" for bus in buses for each in bus.subscriptions()
        )
    )


def play(scenario: Callable[[], Awaitable[object]], backend: str, schedules: int = 10) -> None:
    """Run a scenario in virtual time, under some schedules."""
    explore(scenario, backend=backend, schedules=schedules, seed=6)


@asynccontextmanager
async def meanwhile(
    *functions: Callable[[], Coroutine[Any, Any, object]],
) -> AsyncGenerator[None]:
    """Run functions in tasks of their own, and wait for them in the end."""
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            for function in functions:
                group.start_soon(function)
            yield
