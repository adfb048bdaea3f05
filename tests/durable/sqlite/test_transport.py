"""The SQLite transport: what it keeps, whom it gives it, and what can be wrong with a file."""

import os
import sqlite3
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random
from threading import Event
from typing import Any, cast

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from flexiflow.extras.durable import (
    Acknowledged,
    Batch,
    Buried,
    Connection,
    ConsumerInUse,
    DeadLetter,
    Delivery,
    Failure,
    Lease,
    LeaseLost,
    LogFull,
    Member,
    MemoryTransport,
    Noted,
    Outcome,
    Record,
    Returned,
    Room,
    SqliteTransport,
    Standing,
    Stored,
    TransportUnavailable,
    TransportUnusable,
)
from flexiflow.extras.durable import _sqlite as module
from flexiflow.extras.durable import _sqlite_desk as desk_module
from flexiflow.extras.durable._sqlite_desk import Desk
from flexiflow.extras.durable._sqlite_groups import groups
from flexiflow.extras.durable._sqlite_schema import Layout, open_database, turn_wal_on
from tests.durable.redis.desk import lease_of
from tests.durable.sqlite.files import (
    FAILURE,
    NEVER,
    PATIENCE,
    Clock,
    batch,
    leased,
    one_lease,
    positions,
    run_sql,
    worker,
)
from tools.chaos.sqlite import kill

pytestmark = pytest.mark.same_everywhere

STORE = """
import sys, anyio
from flexiflow.extras.durable import Batch, Record, SqliteTransport

async def main():
    async with SqliteTransport(sys.argv[1]).connect() as connection:
        await connection.store(Batch("elsewhere", 1, (Record(b"from elsewhere"),)))

anyio.run(main)
"""

Transport = SqliteTransport | MemoryTransport

NO_IDS = ["", "x", "1-1", str(2**70), "1" * 5000, "-1", "\u0664"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let a test decide what time it is for leases, members and producers."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a file that is not there yet."""
    return tmp_path / "events.db"


def namesake_of(member: Member) -> Member:
    """Make another member of that name."""
    return Member(member.group, member.consumer, "another", member.patterns, member.lease)


# What it keeps.


async def test_what_was_stored_is_there_after_reopening(path: Path) -> None:
    """X1: a stored event outlives the connection, in order, with its position."""
    async with SqliteTransport(path).connect() as connection:
        await connection.store(batch(1, "a", "b"))
        assert connection.address == _real(path)
    async with SqliteTransport(path).connect() as connection:
        found, after = await connection.tail(["0"], 10, 0)
        assert (found, after) == ([Stored(0, "1", b"a", None), Stored(0, "2", b"b", None)], ["2"])


async def test_a_repeated_batch_is_stored_once(path: Path, clock: Clock) -> None:
    """X2: a number that is not above the producer's last one is not stored again."""
    async with SqliteTransport(path, idempotency_window=5).connect() as connection:
        await connection.store(batch(1, "a"))
        await connection.store(batch(2, "b"))
        clock.now += 5
        await connection.store(batch(1, "z", producer="q"))
        await connection.store(batch(2, "b"))
        await connection.store(batch(1, "a"))
        found, _ = await connection.tail(["0"], 10, 0)
        assert [each.body for each in found] == [b"a", b"b", b"z"]


async def test_a_producer_is_forgotten_after_the_window(path: Path, clock: Clock) -> None:
    """X2: who has not stored for longer than the window is remembered no more."""
    async with SqliteTransport(path, idempotency_window=5).connect() as connection:
        await connection.store(batch(1, "a"))
        clock.now += 5.5
        await connection.store(batch(1, "b", producer="q"))
    assert run_sql(path, "SELECT name FROM producers") == [("q",)]


async def test_a_key_picks_the_partition(path: Path) -> None:
    """X4: records of one key share a partition, and positions are dense in each."""
    async with SqliteTransport(path, partitions=3).connect() as connection:
        for number in range(1, 4):
            await connection.store(batch(number, "x", "y", key="k"))
            await connection.store(batch(number, "o", "o", "o", producer="other"))
        found, after = await connection.tail(["0", "0", "0"], 100, 0)
        parts = {each.partition for each in found if each.body in {b"x", b"y"}}
        ends = [0, 0, 0]
        for each in found:
            ends[each.partition] += 1
            assert each.position == str(ends[each.partition])
        assert (len(parts), sum(ends), after) == (1, 15, [str(end) for end in ends])


async def test_a_tail_begins_with_what_comes_next(path: Path) -> None:
    """X1: who looks on without positions is given what is stored from now on, at once."""
    transport = SqliteTransport(path, poll_interval=NEVER)
    async with transport.connect() as connection, transport.connect() as other:
        await connection.store(batch(1, "old"))
        nothing, after = await connection.tail(None, 10, 0)
        looking: list[Any] = []
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                await _start(tasks, looking, lambda: connection.tail(after, 10, NEVER))
                await other.store(batch(2, "new"))
        assert nothing == []
        assert looking == [([Stored(0, "2", b"new", None)], ["2"])]


async def _start(
    tasks: TaskGroup, results: list[Any], call: Callable[[], Awaitable[object]]
) -> None:
    """Start a call that waits, and put its result in a list."""

    async def run() -> None:
        results.append(await call())

    tasks.start_soon(run)
    await wait_all_tasks_blocked()


# Room.


async def test_only_what_all_have_settled_makes_room(path: Path) -> None:
    """X5: a full log refuses a batch, and takes it when the oldest is settled by every group."""
    async with SqliteTransport(path, max_length=3).connect() as connection:
        first, second = [await leased(connection, worker(group=name)) for name in "gh"]
        await connection.store(batch(1, "a", "b", "c"))
        await first.receive(Room(10))
        await second.receive(Room(10))
        await first.settle([Acknowledged("1"), Acknowledged("2")])
        with pytest.raises(LogFull, match=r"events\.db is not available: its log is full: of 3"):
            await connection.store(batch(2, "d"))
        await second.settle([Acknowledged("2"), Acknowledged("1")])
        await connection.store(batch(2, "d"))
        with pytest.raises(LogFull):
            await connection.store(batch(3, "e", "f"))
        found, _ = await connection.tail(["0"], 10, 0)
        assert positions(found) == ["2", "3", "4"]


async def test_without_groups_the_oldest_make_room(path: Path) -> None:
    """X5: a log that nobody reads keeps its newest; a batch that never fits is refused."""
    async with SqliteTransport(path, max_length=3).connect() as connection:
        await connection.store(batch(1, "a", "b", "c"))
        await connection.store(batch(2, "d", "e"))
        with pytest.raises(LogFull):
            await connection.store(batch(3, "1", "2", "3", "4"))
        found, _ = await connection.tail(["0"], 10, 0)
        assert positions(found) == ["3", "4", "5"]


async def test_what_an_outsider_deleted_is_room(path: Path) -> None:
    """X5: a log counts what is there, not what was there."""
    async with SqliteTransport(path, max_length=3).connect() as connection:
        await leased(connection, worker())
        await connection.store(batch(1, "a", "b", "c"))
        run_sql(path, "DELETE FROM records WHERE body = x'62'")
        await connection.store(batch(2, "d"))
        found, _ = await connection.tail(["0"], 10, 0)
        assert positions(found) == ["1", "3", "4"]


async def test_a_group_misses_nothing_that_was_gone_before_it(path: Path) -> None:
    """X6: a new group begins with what is there."""
    async with SqliteTransport(path, max_length=2).connect() as connection:
        await connection.store(batch(1, "a", "b"))
        await connection.store(batch(2, "c"))
        lease = await leased(connection, worker())
        before = await connection.standing("g")
        given = await lease.receive(Room(10))
        assert (before, positions(given), await connection.standing("g")) == (
            Standing(0, 2, 0, 0),
            ["2", "3"],
            Standing(2, 0, 0, 0),
        )


# Groups.


async def test_a_name_is_one_workers(path: Path, clock: Clock) -> None:
    """X1: a namesake is refused as long as the first one is alive; it may join again itself."""
    async with SqliteTransport(path).connect() as connection:
        namesake = namesake_of(worker())
        names = await connection.join(worker()), await connection.join(worker("b"))
        with pytest.raises(ConsumerInUse, match="'a' already"):
            await connection.join(namesake)
        clock.now += 5
        await connection.join(worker())
        await connection.leave(namesake)
        with pytest.raises(ConsumerInUse):
            await connection.join(namesake)
        clock.now += 10
        assert (*names, await connection.join(namesake)) == (["a"], ["a", "b"], ["a"])


async def test_a_forgotten_group_is_gone_with_all_it_had(path: Path) -> None:
    """X3: to forget a group deletes its dead letters, ends its leases, and is harmless twice."""
    async with one_lease(path, "a", "b") as (connection, lease):
        await lease.receive(Room(1))
        await lease.settle([Buried("1", 5, 1, FAILURE)])
        await connection.join(worker(group="f"))
        named = await connection.groups()
        await connection.forget("g")
        await connection.forget("g")
        await connection.leave(worker())
        with pytest.raises(LeaseLost, match="'a' of the group 'g' lost its lease of partition 0"):
            await lease.renew()
        left = await connection.acquire(worker(), 0), await connection.standing("g")
        letters = await connection.dead_letters("g"), await connection.redrive("g", ["1"])
        assert (named, await connection.groups()) == (["f", "g"], ["f"])
        assert (*left, *letters) == (None, Standing(0, 0, 0, 0), [], 0)


async def test_dead_letters_are_listed_and_redriven_once(path: Path, clock: Clock) -> None:
    """X3: a buried event is a dead letter, and is stored anew for its group alone."""
    async with one_lease(path, "a", "b", "c") as (connection, lease):
        await lease.receive(Room(10))
        buried: list[Outcome] = [Buried("1", 5, 1, FAILURE), Buried("3", 0, 5, FAILURE)]
        await lease.settle(buried)
        await lease.settle(buried)
        letters = await connection.dead_letters("g")
        some = (
            await connection.dead_letters("g", limit=1),
            await connection.dead_letters("g", after="1"),
        )
        redriven = await connection.redrive("g", ["2", "2", "99", *NO_IDS])
        given = await lease.receive(Room(10))
        for nonsense in NO_IDS:
            with pytest.raises(ValueError, match="after must be the id of a dead letter, not "):
                await connection.dead_letters("g", after=nonsense)
        assert letters == [
            DeadLetter("1", b"a", FAILURE, 5, 1, clock.now),
            DeadLetter("2", b"c", FAILURE, 0, 5, clock.now),
        ]
        assert (*some, redriven) == ([letters[0]], [letters[1]], 1)
        assert given == [Delivery("4", b"c", "g", 0, 1, is_suspect=False)]
        assert await connection.standing("g") == Standing(2, 0, 0, 1)


async def test_a_record_may_be_for_one_group(path: Path) -> None:
    """X3: whom a record is for is kept, as it was given."""
    async with one_lease(path) as (connection, lease):
        await connection.store(Batch("p", 1, (Record(b"a"), Record(b"b", None, "h"))))
        assert [each.group for each in await lease.receive(Room(10))] == [None, "h"]


# Leases.


async def test_what_a_dead_worker_held_is_anothers(path: Path, clock: Clock) -> None:
    """X1: what was held is given to another once the lease has run out, as suspect."""
    async with one_lease(path, "a", "b") as (connection, lease):
        await lease.receive(Room(1))
        await lease.settle([Noted("1", 2, 3)])
        clock.now += 9
        other = await leased(connection, worker("b"))
        early = await other.receive(Room(1))
        clock.now += 1
        late = await other.receive(Room(10))
        assert early == [Delivery("2", b"b", None, 0, 1, is_suspect=False)]
        assert late == [Delivery("1", b"a", None, 2, 3, is_suspect=True)]


async def test_a_renewed_lease_goes_on(path: Path, clock: Clock) -> None:
    """X1: who renews in time keeps what it holds."""
    async with one_lease(path, "a") as (connection, lease):
        await lease.receive(Room(1))
        clock.now += 9
        await lease.renew()
        clock.now += 9
        other = await leased(connection, worker("b"))
        assert (await other.receive(Room(1)), await lease.renew(["1"])) == ([], [])


async def test_a_clock_that_is_set_back_keeps_no_lease(path: Path, clock: Clock) -> None:
    """X1: a lease, or a member, that begins later than now is over; what it held is another's."""
    async with one_lease(path, "a") as (connection, lease):
        await lease.receive(Room(1))
        clock.now -= 1000
        names = await connection.join(namesake_of(worker()))
        other = await leased(connection, worker("b"))
        given = await other.receive(Room(1))
        assert (names, positions(given), await lease.renew(["1"])) == (["a"], ["1"], ["1"])


async def test_a_returned_event_is_no_suspect(path: Path) -> None:
    """X3: what was given back with no attempt begun is given as it was at first."""
    async with one_lease(path, "a", "b", "c") as (connection, lease):
        await lease.receive(Room(3))
        await lease.settle([Returned("2", 1, 0), Returned("1", 0, 1), Acknowledged("3")])
        await lease.settle([Returned("1", 9, 9), Noted("2", 9, 9), Buried("2", 1, 1, FAILURE)])
        given = await lease.receive(Room(1)), await lease.receive(Room(9))
        assert (*given, await connection.standing("g")) == (
            [Delivery("1", b"a", None, 0, 1, is_suspect=True)],
            [Delivery("2", b"b", None, 1, 1, is_suspect=False)],
            Standing(2, 0, 0, 0),
        )


async def test_what_is_let_go_comes_first(path: Path) -> None:
    """X1: what a released lease held is given at once, before what is new."""
    async with one_lease(path, "a", "b") as (connection, lease):
        await lease.receive(Room(1))
        await lease.release()
        other = await leased(connection, worker("b"))
        first = await other.receive(Room(1))
        assert (positions(first), first[0].is_suspect) == (["1"], True)
        assert positions(await other.receive(Room(9))) == ["2"]


async def test_a_partition_is_one_workers_at_a_time(path: Path, clock: Clock) -> None:
    """X4: tokens grow, and a partition that is leased is not leased to another."""
    async with SqliteTransport(path, partitions=2).connect() as connection:
        first = await leased(connection, worker(), 1)
        taken = await connection.acquire(worker("b"), 1)
        beside = await leased(connection, worker("b"), 0)
        clock.now += 10
        second = await leased(connection, worker("b"), 1)
        await second.release()
        third = await leased(connection, worker("c"), 1)
        tokens = [first.token, beside.token, second.token, third.token]
        assert (taken, tokens) == (None, sorted(set(tokens)))
        assert (first.partition, connection.partitions, connection.is_exclusive) == (1, 2, True)
        assert connection.max_length == 1_000_000


async def test_standing_is_over_all_partitions(path: Path) -> None:
    """X6: what is pending and what lags is summed."""
    async with SqliteTransport(path, partitions=2).connect() as connection:
        lease = await leased(connection, worker(), 1)
        await connection.store(batch(1, *"abcdef"))
        given = await lease.receive(Room(2))
        await lease.settle([Buried(given[0].position, 1, 1, FAILURE)])
        assert await connection.standing("g") == Standing(1, 4, 0, 1)


@pytest.mark.parametrize(
    ("gone", "given"), [("a", ["2", "3"]), ("b", ["1", "3"]), ("c", ["1", "2"])]
)
async def test_what_was_deleted_before_it_was_given_is_missed(
    path: Path, gone: str, given: list[str]
) -> None:
    """X6: an outsider's deletion shows, wherever it was."""
    async with one_lease(path, "a", "b", "c") as (connection, lease):
        run_sql(path, f"DELETE FROM records WHERE body = x'{gone.encode().hex()}'")  # noqa: S608
        received = await lease.receive(Room(10))
        await lease.receive(Room(10))
        await connection.store(batch(2, "d"))
        assert positions(received) == given
        assert await connection.standing("g") == Standing(2, 1, 1, 0)


async def test_what_was_deleted_while_it_was_pending_is_missed(path: Path, clock: Clock) -> None:
    """X6: it is missed when it would be given anew, or buried, and not where it was handled."""
    async with one_lease(path, "a", "b", "c", "d") as (connection, lease):
        await lease.receive(Room(10))
        run_sql(path, "DELETE FROM records")
        await lease.settle([Acknowledged("1"), Buried("2", 1, 1, FAILURE)])
        missed = [(await connection.standing("g")).missed]
        clock.now += 10
        other = await leased(connection, worker("b"))
        given = await other.receive(Room(10))
        missed.append((await connection.standing("g")).missed)
        assert (missed, given) == ([1, 3], [])


async def test_an_outsiders_text_is_given_as_bytes(path: Path) -> None:
    """X7: a body that something else has put there is bytes, too."""
    async with one_lease(path, "a") as (_, lease):
        run_sql(path, "UPDATE records SET body = 'ä'")
        assert (await lease.receive(Room(1)))[0].body == "ä".encode()


async def test_what_an_outsider_put_in_the_way_is_part_of_the_log(path: Path) -> None:
    """X7: storing goes on after it, and it is given in its turn, as what it is."""
    async with one_lease(path, "a") as (connection, lease):
        run_sql(path, *["INSERT INTO records (body) VALUES ('x')"] * 2)
        await connection.store(batch(2, "b"))
        given = await lease.receive(Room(9))
        assert [each.body for each in given] == [b"a", b"x", b"x", b"b"]
        assert await connection.standing("g") == Standing(4, 0, 0, 0)


async def test_what_a_failure_says_need_not_be_encodable(path: Path) -> None:
    """X3: a lone surrogate in a message is escaped."""
    async with one_lease(path, "a") as (connection, lease):
        await lease.receive(Room(1))
        await lease.settle([Buried("1", 1, 1, Failure("E", "\udc80", ""))])
        (letter,) = await connection.dead_letters("g")
        assert letter.failure.message == "\\udc80"


# Waiting for something to receive.


async def _received(lease: Lease) -> Sequence[Delivery]:
    """Receive, as a worker does: look, and wait where there is nothing."""
    while not (given := await lease.receive(Room(1))):
        await lease.wait(NEVER)
    return given


@pytest.mark.parametrize("means", ["store", "return", "release", "redrive"])
async def test_who_waits_is_woken_at_once(path: Path, means: str) -> None:
    """X1: in one event loop nobody waits for the next look, through whichever connection."""
    async with one_lease(path, "a", "b") as (connection, lease):
        await lease.receive(Room(2))
        await lease.settle([Buried("2", 1, 1, FAILURE)])
        async with SqliteTransport(path, poll_interval=NEVER).connect() as second:
            waiting = await leased(second, worker("b"))
            given: list[Any] = []
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "store": lambda: connection.store(batch(2, "c")),
                "return": lambda: lease.settle([Returned("1", 0, 0)]),
                "release": lease.release,
                "redrive": lambda: connection.redrive("g", ["1"]),
            }
            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as tasks:
                    await _start(tasks, given, lambda: _received(waiting))
                    await calls[means]()
        assert [len(each) for each in given] == [1]


async def test_who_waits_finds_what_another_process_stored(path: Path) -> None:
    """X1: a process is given what another one stores, after it has looked again."""
    async with SqliteTransport(path).connect() as connection:
        lease = await leased(connection, worker())
        given: list[Any] = []
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                await _start(tasks, given, lambda: _received(lease))
                await anyio.run_process([sys.executable, "-c", STORE, str(path)])
        assert [each.body for each in given[0]] == [b"from elsewhere"]


async def test_to_look_takes_no_lock(path: Path) -> None:
    """X6: who has nothing to get does not disturb who writes, nor wait for it."""
    async with one_lease(path) as (_, lease):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await lease.receive(Room(1)) == []


async def test_waiting_ends_in_time(path: Path) -> None:
    """X6: to wait is bounded."""
    async with one_lease(path) as (_, lease):
        with anyio.fail_after(PATIENCE):
            await lease.wait(0.01)


# Cancellation.


def desk_of(connection: Connection) -> Desk:
    """Give what a connection does its jobs with."""
    desk: Desk = cast("Any", connection)._desk
    return desk


@asynccontextmanager
async def held_thread(connection: Connection) -> AsyncGenerator[Event]:
    """Keep the thread busy with a job, until the event is set; at the end it is."""
    begun, go_on = Event(), Event()

    def hold(_: sqlite3.Connection) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk_of(connection).read, hold)
        await anyio.to_thread.run_sync(begun.wait)
        try:
            yield go_on
        finally:
            go_on.set()


async def test_cancelled_before_it_began_nothing_is_stored(path: Path) -> None:
    """X1: a store that waits for its turn is withdrawn."""
    async with SqliteTransport(path).connect() as connection:
        async with held_thread(connection), anyio.create_task_group() as tasks:
            tasks.start_soon(connection.store, batch(1, "a"))
            await wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert await connection.tail(["0"], 10, 0) == ([], ["0"])


async def test_a_task_that_is_cancelled_as_its_turn_comes_takes_nobody_along(path: Path) -> None:
    """X1: what waits with one that is cancelled just before the thread begins is stored."""
    async with SqliteTransport(path).connect() as connection:
        cancelled = anyio.CancelScope()

        async def withdraw() -> None:
            with cancelled:
                await connection.store(Batch("another", 1, (Record(b"z"),)))

        async with anyio.create_task_group() as tasks:
            async with desk_of(connection)._turn:
                tasks.start_soon(withdraw)
                await wait_all_tasks_blocked()
                tasks.start_soon(connection.store, batch(1, "a"))
                await wait_all_tasks_blocked()
            cancelled.cancel()
        found, _ = await connection.tail(["0"], 10, 0)
        assert [each.body for each in found] == [b"a"]


async def test_what_a_cancelled_call_would_have_got_the_next_one_gets(path: Path) -> None:
    """X1: what was given for a call that has left is given by the next, in order."""
    async with one_lease(path, "a", "b", "c") as (connection, lease):
        begun, go_on = Event(), Event()

        def hold(_: sqlite3.Connection) -> None:
            begun.set()
            assert go_on.wait(PATIENCE)

        desk = desk_of(connection)
        async with anyio.create_task_group() as tasks:
            async with held_thread(connection):
                # In one transaction, once the thread is free; the first one of them leads.
                tasks.start_soon(desk.read, hold)
                await wait_all_tasks_blocked()
                tasks.start_soon(_given, lease, 2)
                await wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(begun.wait)
            tasks.cancel_scope.cancel()
            go_on.set()
        given = [
            await lease.receive(Room(1)),
            await lease.receive(Room(9)),
            await lease.receive(Room(9)),
        ]
        assert [positions(each) for each in given] == [["1"], ["2"], ["3"]]


async def test_what_nobody_took_is_no_suspect_once_its_lease_has_ended(path: Path) -> None:
    """X3: no attempt has begun; but what another worker died of stays suspect."""
    async with one_lease(path, "a", "b") as (connection, lease):
        dead = await leased(connection, worker("b"))
        await dead.receive(Room(1))
        await dead.release()
        await _given(lease, 2)
        await lease.release()
        other = await leased(connection, worker("c"))
        given = await other.receive(Room(9))
        assert [(each.body, each.deliveries, each.is_suspect) for each in given] == [
            (b"a", 1, True),
            (b"b", 1, False),
        ]


async def _given(lease: Any, limit: int) -> None:
    """Do the second half of what `receive` does."""
    await lease._give(Room(limit))


async def test_leaving_waits_for_what_is_being_done(path: Path) -> None:
    """X1: a batch that is being stored when all is cancelled is stored, or not at all."""
    with anyio.CancelScope() as scope:
        async with (
            SqliteTransport(path).connect() as connection,
            held_thread(connection) as go_on,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(connection.store, batch(1, "a"))
            await wait_all_tasks_blocked()
            scope.cancel()
            go_on.set()
    async with SqliteTransport(path).connect() as connection:
        assert await connection.tail(["0"], 10, 0) == ([], ["0"])


async def test_cancelled_while_opening_it_is_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X1: no connection is left behind, however opening ends."""
    opened: list[sqlite3.Connection] = []
    begun, go_on = Event(), Event()

    def slow(layout: Layout) -> sqlite3.Connection:
        begun.set()
        assert go_on.wait(PATIENCE)
        opened.append(open_database(layout))
        return opened[0]

    monkeypatch.setattr(desk_module, "open_database", slow)

    async def connect() -> None:
        async with SqliteTransport(path).connect():
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connect)
        await anyio.to_thread.run_sync(begun.wait)
        tasks.cancel_scope.cancel()
        go_on.set()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")


async def test_a_task_that_asyncio_cancels_leaves_no_thread_on_the_connection(
    path: Path, backend_name: str
) -> None:
    """X1: the next job waits for the thread that a cancelled task has left."""
    if backend_name != "asyncio":
        pytest.skip("only asyncio cancels a task through a shield")
    import asyncio  # noqa: PLC0415

    async with SqliteTransport(path).connect() as connection:
        begun, go_on = Event(), Event()

        def hold(db: sqlite3.Connection) -> None:
            begun.set()
            assert go_on.wait(PATIENCE)
            db.execute("INSERT INTO groups (name) VALUES ('held')")

        desk = desk_of(connection)
        task = asyncio.create_task(desk.write(hold))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await asyncio.wait([task])
        after = asyncio.create_task(desk.read(groups))
        await wait_all_tasks_blocked()
        go_on.set()
        assert (task.cancelled(), await after) == (True, ["held"])


# Several jobs at once.


async def test_one_job_that_fails_does_not_hinder_the_others(path: Path) -> None:
    """X6: jobs that share a transaction fail and succeed on their own."""
    async with one_lease(path, "a") as (connection, lease):
        results: list[Any] = []

        async def lose() -> None:
            with pytest.raises(ConsumerInUse):
                await connection.join(namesake_of(worker()))
            results.append("refused")

        async with held_thread(connection) as go_on, anyio.create_task_group() as tasks:
            tasks.start_soon(lose)
            tasks.start_soon(connection.store, batch(2, "b"))
            await wait_all_tasks_blocked()
            go_on.set()
        assert (results, positions(await lease.receive(Room(9)))) == (["refused"], ["1", "2"])


async def test_jobs_that_fail_together_have_an_exception_each(path: Path) -> None:
    """X6: whoever raises one adds its own traceback and context to it."""
    problems: list[Exception] = []
    async with SqliteTransport(path, busy_timeout=0).connect() as connection:

        async def store(number: int) -> None:
            with pytest.raises(TransportUnavailable, match="database is locked") as info:
                await connection.store(batch(number, "a"))
            problems.append(info.value)

        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with held_thread(connection) as go_on, anyio.create_task_group() as tasks:
                tasks.start_soon(store, 1)
                tasks.start_soon(store, 2)
                await wait_all_tasks_blocked()
                go_on.set()
        first, second = problems
        assert first is not second


# What can be wrong with a file.


async def refused(transport: SqliteTransport, kind: type[Exception]) -> str:
    """Connect, which is to fail, and give the message."""
    with pytest.raises(kind) as info:
        async with transport.connect():
            pass
    return str(info.value)


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    """X6: it is named, and left as it is."""
    content = b"no database at all" * 100
    _write(path, content)
    message = await refused(SqliteTransport(path), TransportUnusable)
    assert message == f"{_real(path)} can't be used: file is not a database"
    assert _read(path) == content


def _real(path: Path) -> str:
    return os.path.realpath(path)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _read(path: Path) -> bytes:
    return path.read_bytes()


async def test_a_database_of_something_else_is_refused(path: Path) -> None:
    """X6: it is left as it is, to the last byte."""
    run_sql(path, "CREATE TABLE songs (title)", "CREATE TABLE artists (name)")
    before = _read(path)
    message = await refused(SqliteTransport(path), TransportUnusable)
    assert "it is the database of something else, with artists, songs; a file of its" in message
    assert _read(path) == before


async def test_another_layout_is_refused(path: Path) -> None:
    """X6: a newer release's file, and one with another number of partitions, say so."""
    async with SqliteTransport(path, partitions=4).connect():
        pass
    message = await refused(SqliteTransport(path), TransportUnusable)
    assert "it was made with partitions=4, not partitions=None" in message
    run_sql(path, "UPDATE flexiflow_durable SET version = 3")
    message = await refused(SqliteTransport(path, partitions=4), TransportUnusable)
    assert "its layout is version 3, and this release knows version 2 and the one" in message


async def test_a_locked_file_is_waited_for_in_vain(path: Path) -> None:
    """X6: the wait is bounded, at the opening and later, and nothing is lost."""
    transport = SqliteTransport(path, busy_timeout=0)
    async with transport.connect() as connection:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(TransportUnavailable, match="is not available: database is locked"):
                await connection.store(batch(1, "a"))
            message = await refused(transport, TransportUnavailable)
        assert "database is locked" in message
        await connection.store(batch(1, "a"))
        assert await connection.tail(["0"], 9, 0) == ([Stored(0, "1", b"a", None)], ["1"])


async def test_two_that_make_a_file_at_once_wait_for_each_other(path: Path) -> None:
    """X6: SQLite does not wait by itself for the switch to its write-ahead log."""
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorcode = sqlite3.SQLITE_BUSY

    class Busy(sqlite3.Connection):
        times = 1

        def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
            if statement == "PRAGMA journal_mode = WAL" and self.times:
                self.times -= 1
                raise busy
            return super().execute(statement, *arguments)

    with closing(sqlite3.connect(path, factory=Busy)) as connection:
        turn_wal_on(connection, Layout(str(path), None, PATIENCE))
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.times = 1
        with pytest.raises(sqlite3.OperationalError):
            turn_wal_on(connection, Layout(str(path), None, -1))


async def test_where_there_is_no_write_ahead_log_a_file_is_refused() -> None:
    """X6: what a network's disk can't do is said, with what would be right."""
    with (
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(TransportUnusable, match=r"only journal_mode=memory; a local disk would be"),
    ):
        turn_wal_on(connection, Layout("somewhere", None, 0))


async def test_a_folder_that_is_not_there_is_named(path: Path) -> None:
    """X6: SQLite makes no folders, and a folder is no file."""
    for each in (path / "file.db", path.parent):
        message = await refused(SqliteTransport(each), TransportUnusable)
        assert message == f"{_real(each)} can't be used: unable to open database file"


async def test_a_file_that_can_not_be_written_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X6: a transport that can only be read is of no use."""
    _write(path, b"")
    connect: Any = sqlite3.connect

    def read_only(path: str, **options: Any) -> sqlite3.Connection:
        opened: sqlite3.Connection = connect(path.replace("=rw", "=ro"), **options)
        return opened

    monkeypatch.setattr(sqlite3, "connect", read_only)
    message = await refused(SqliteTransport(path), TransportUnusable)
    assert "can't be used: attempt to write a readonly database" in message


async def test_on_a_full_disk_nothing_is_stored_by_halves(path: Path) -> None:
    """X6: a batch without room is refused, and what is settled meanwhile is settled."""
    async with one_lease(path, "a") as (connection, lease):
        desk = desk_of(connection)
        await lease.receive(Room(1))
        await desk.read(lambda db: db.execute("PRAGMA max_page_count = 1"))
        large = batch(2, "b", "c" * 100_000)
        errors: list[Any] = []
        with pytest.raises(TransportUnavailable, match=r"events\.db is not available: .* full"):
            await connection.store(large)
        async with held_thread(connection) as go_on, anyio.create_task_group() as tasks:
            tasks.start_soon(lease.settle, [Acknowledged("1")])
            await _start(tasks, errors, lambda: _error(connection.store(large)))
            go_on.set()
        assert isinstance(errors[0], TransportUnavailable)
        assert await connection.standing("g") == Standing(0, 0, 0, 0)
        await desk.read(lambda db: db.execute("PRAGMA max_page_count = 1000000"))
        await connection.store(large)
        assert positions(await lease.receive(Room(9))) == ["2", "3"]


async def _error(call: Any) -> Exception | None:
    try:
        await call
    except TransportUnavailable as error:
        return error
    return None


@pytest.mark.skipif(sys.platform == "win32", reason="an open file can't be deleted there")
@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_file_that_is_gone_is_noticed(path: Path, *, is_replaced: bool) -> None:
    """X1: nothing is confirmed that goes where nobody finds it."""
    async with SqliteTransport(path).connect() as connection:
        _replace(path, is_replaced=is_replaced)
        with pytest.raises(TransportUnusable, match="the file was deleted, moved or replaced"):
            await connection.store(batch(1, "a"))


def _replace(path: Path, *, is_replaced: bool) -> None:
    # Kept under another name: its number is not given to the new one.
    path.rename(path.with_suffix(".old"))
    if is_replaced:
        path.touch()


async def test_a_closed_connection_says_so(path: Path) -> None:
    """X6: a call after the block has ended is refused."""
    async with SqliteTransport(path).connect() as connection:
        pass
    with pytest.raises(TransportUnavailable, match="this connection was closed"):
        await connection.groups()


async def test_what_leaves_the_block_leaves_it_as_it_is(path: Path) -> None:
    """X6: an exception of the user's is not wrapped."""
    with pytest.raises(ZeroDivisionError):
        async with SqliteTransport(path).connect():
            raise ZeroDivisionError


@pytest.mark.parametrize("nowhere", ["", ":memory:"])
def test_a_path_must_name_a_file(nowhere: str) -> None:
    """X6: what SQLite takes for no file is refused at once."""
    with pytest.raises(ValueError, match=r"must name a file, not '.*'; MemoryTransport\(\) keeps"):
        SqliteTransport(nowhere)


def test_a_path_has_no_null_character() -> None:
    """X6: the system would refuse it, without a word on the argument."""
    with pytest.raises(ValueError, match=r"path must have no null character, as 'a\\x00b' has"):
        SqliteTransport("a\0b")


@pytest.mark.parametrize("wrong", [None, 1, b"events.db"])
def test_a_path_must_be_one(wrong: Any) -> None:
    """X6: what is no path is refused at once."""
    with pytest.raises(TypeError, match=r"path must be a str or a pathlib\.Path, not "):
        SqliteTransport(wrong)


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("partitions", 0),
        ("partitions", 2**63),
        ("max_length", 0),
        ("max_length", True),
        ("max_length", 1.5),
        ("idempotency_window", -1),
        ("idempotency_window", float("nan")),
        ("poll_interval", 0),
        ("poll_interval", "1"),
        ("busy_timeout", -0.1),
        ("busy_timeout", True),
        ("busy_timeout", float("inf")),
        ("idempotency_window", 0),
    ],
)
def test_numbers_out_of_range_are_refused(option: str, wrong: Any) -> None:
    """X6: each option is checked at once, and named."""
    options: dict[str, Any] = {option: wrong}
    with pytest.raises(ValueError, match=f"{option} must be .*, not "):
        SqliteTransport("events.db", **options)


# All of it together.


async def test_it_does_as_the_transport_in_memory_does(path: Path) -> None:
    """X1 to X4: the same calls, drawn at random, have the same results."""
    assert await _history(SqliteTransport(path, max_length=60)) == await _history(
        MemoryTransport(max_length=60)
    )


async def _history(transport: Transport) -> list[Any]:
    """Do 400 things that are drawn with a fixed seed, and tell what came of each."""
    random, history, held = Random(5), list[Any](), dict[str, list[str]]()
    async with transport.connect() as connection:
        leases = {name: await leased(connection, WORKERS[name]) for name in WORKERS}
        for turn in range(400):
            name = random.choice("abc")
            mine = held.setdefault(name, [])
            match random.randrange(8):
                case 0 | 1:
                    bodies = [str(turn)] * random.randint(1, 5)
                    history.append(await _outcome(connection.store(batch(turn + 1, *bodies))))
                case 2 | 3 | 4:
                    given = await leases[name].receive(Room(random.randint(1, 9)))
                    mine += positions(given)
                    history.append(list(given))
                case 5 | 6:
                    await leases[name].settle([_settled(random, mine) for _ in mine[:5]])
                case _ if random.random() < 0.2:
                    await leases[name].release()
                    mine.clear()
                    leases[name] = await leased(connection, WORKERS[name])
                case _:
                    history += await _looked(connection, leases[name], WORKERS[name].group, random)
    return history


WORKERS = {"a": worker("a"), "b": worker("b"), "c": worker("c", "h")}


async def _looked(connection: Connection, lease: Lease, group: str, random: Random) -> list[Any]:
    standings = await lease.renew(), await connection.standing(group)
    letters = await connection.dead_letters(group)
    ids = [each.id for each in letters if random.random() < 0.3]
    redriven = await connection.redrive(group, ids)
    stored = await connection.tail(["0"], 1000, 0)
    return [standings, [each._replace(id="", time=0) for each in letters], redriven, stored]


async def _outcome(call: Any) -> str:
    try:
        await call
    except LogFull:
        return "full"
    return "stored"


def _settled(random: Random, held: list[str]) -> Outcome:
    position = held[random.randrange(len(held))]
    counts = random.randint(0, 3), random.randint(0, 3)
    if (kind := random.randrange(6)) == 0:
        return Noted(position, *counts)
    held.remove(position)
    if kind == 1:
        return Returned(position, *counts)
    return Buried(position, *counts, FAILURE) if kind == 2 else Acknowledged(position)


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed in another way there")
def test_processes_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    """X1, X2: what was confirmed before a kill is there, once, and what was settled stays so."""
    result = kill(3, tmp_path)
    assert (result.lost, result.twice, result.again, result.gone) == (0, 0, 0, 0)
    assert result.confirmed > 0


async def test_texts_that_are_none_hide_nothing_else(path: Path) -> None:
    """X6: what something else wrote as a group or a message is read as far as that can be."""
    async with SqliteTransport(path).connect() as connection:
        await connection.store(Batch("p", 1, (Record(b"a"), Record(b"b"), Record(b"c"))))
        lease = await lease_of(connection)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE records SET only_group = CAST(x'ff' AS TEXT) WHERE body = x'61'")
        given = await lease.receive(Room(9))
        assert [(each.body, each.group) for each in given] == [
            (b"a", "\\xff"),
            (b"b", None),
            (b"c", None),
        ]
        problem = Failure("E", "no", "")
        await lease.settle([Buried(each.position, 1, 1, problem) for each in given[1:]])
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE dead SET message = CAST(x'ff1b5b' AS TEXT) WHERE body = x'62'")
        letters = await connection.dead_letters("billing")
        assert [each.failure.message for each in letters] == ["\\xff\x1b[", "no"]
