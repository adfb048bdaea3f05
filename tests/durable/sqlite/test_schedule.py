"""The SQLite transport: what is scheduled, and is stored when its time has come."""

import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from flexiflow.extras.durable import (
    Batch,
    Buried,
    Connection,
    EventTooLarge,
    LogFull,
    LogSurvey,
    Record,
    Room,
    ScheduledRecord,
    ScheduleFull,
    SqliteTransport,
    TransportUnavailable,
)
from flexiflow.extras.durable._sqlite import schedule as schedule_module
from flexiflow.extras.durable._sqlite import tables
from tests.durable.sqlite.files import (
    FAILURE,
    NEVER,
    PATIENCE,
    Clock,
    batch,
    held_thread,
    leased,
    one_lease,
    run_sql,
    runner_of,
    start_waiting,
    traced,
    worker,
)

pytestmark = pytest.mark.same_everywhere

DIES = """
import os, sys, anyio
from flexiflow.extras.durable import Record, SqliteTransport
from flexiflow.extras.durable._sqlite import schedule

async def main():
    async with SqliteTransport(sys.argv[1]).connect() as connection:
        for number in range(5):
            await connection.schedule(connection.new_ticket(None), Record(b"%d" % number), at=5e9)
        reserve = schedule.reserve

        def die(*arguments):
            reserve(*arguments)
            os._exit(7)

        schedule.reserve = die
        await connection.schedule(connection.new_ticket(None), Record(b"due"), at=1.0)
        await connection.standing("g")

anyio.run(main)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a file."""
    return tmp_path / "events.db"


async def schedule(connection: Connection, body: str, key: str | None = None, **at: Any) -> str:
    """Schedule a record, and return its ticket."""
    ticket = connection.new_ticket(key)
    await connection.schedule(ticket, Record(body.encode(), key), **at)
    return ticket


async def stored(connection: Connection) -> list[str]:
    """Return what is in the logs, one after the other."""
    found, _ = await connection.tail(["0"] * connection.partitions, 100, 0)
    return [each.body.decode() for each in found]


async def test_tickets_name_their_file_and_the_partition_of_the_key(path: Path) -> None:
    """Y3: also after the file was opened again; those of other files are refused."""
    async with SqliteTransport(path, partitions=3).connect() as connection:
        tickets = [connection.new_ticket("k") for _ in range(3)]
        assert {each.split("-")[1] for each in tickets} == {"1"}
        assert {connection.new_ticket(None).split("-")[1] for _ in range(3)} == {"0", "1", "2"}
        assert len({*tickets}) == 3
    other = path.with_name("other.db")
    async with (
        SqliteTransport(path, partitions=3).connect() as connection,
        SqliteTransport(other, partitions=3).connect() as foreign,
    ):
        await connection.schedule(tickets[0], Record(b"a", "k"), at=1.0)
        for wrong in (foreign.new_ticket("k"), "no ticket"):
            with pytest.raises(ValueError, match="a ticket must be one that schedule"):
                await connection.schedule(wrong, Record(b"a", "k"), delay=0)
            with pytest.raises(ValueError, match="a ticket must be one that schedule"):
                await connection.cancel(wrong)
        assert await stored(connection) == ["a"]


async def test_a_record_is_stored_when_its_time_has_come(path: Path, clock: Clock) -> None:
    """Y3: not before; then before what is stored later, in the order of times, then of tickets."""
    async with SqliteTransport(path).connect() as connection:
        at = clock.now
        await schedule(connection, "last", delay=30)
        same = {await schedule(connection, each, at=at + 20): each for each in "bcd"}
        await schedule(connection, "first", delay=10)
        await connection.store(batch(1, "now"))
        clock.now += 9.9
        assert await stored(connection) == ["now"]
        clock.now += 10.1
        await connection.store(batch(2, "later"))
        clock.now += 10
        found, _ = await connection.tail(["0"], 100, 0)
        by_ticket = [same[ticket] for ticket in sorted(same)]
        expected = ["now", "first", *by_ticket, "later", "last"]
        assert [each.body.decode() for each in found] == expected
        times = [each.time - at for each in found if each.time is not None]
        assert times == [0, 20, 20, 20, 20, 20, 30]


async def test_a_clock_that_is_set_back_stores_nothing_too_early(path: Path, clock: Clock) -> None:
    """Y3: a record is stored when the clock says so again; what is stored already stays."""
    async with SqliteTransport(path).connect() as connection:
        await schedule(connection, "a", delay=10)
        await schedule(connection, "b", delay=20)
        clock.now += 10
        assert await stored(connection) == ["a"]
        clock.now -= 1000
        await schedule(connection, "c", delay=10)
        clock.now += 10
        assert await stored(connection) == ["a", "c"]
        clock.now += 1000
        assert await stored(connection) == ["a", "c", "b"]


async def test_a_ticket_is_used_once(path: Path, clock: Clock) -> None:
    """Y3: also by another connection, before and after the record was put into its log."""
    transport = SqliteTransport(path)
    async with transport.connect() as connection, transport.connect() as second:
        ticket, other = connection.new_ticket(None), connection.new_ticket(None)
        for body in (b"a", b"b"):
            for each in (ticket, other):
                await second.schedule(each, Record(body), delay=5)
        assert await connection.cancel(other)
        assert [each.record.body for each in await connection.scheduled()] == [b"a"]
        clock.now += 6
        assert await stored(connection) == ["a"]
        for each in (ticket, other):
            await connection.schedule(each, Record(b"c"), delay=0)
        assert [await second.cancel(each) for each in (ticket, other)] == [False, True]
        assert await stored(connection) == ["a"]


async def test_a_ticket_is_forgotten_after_the_window(path: Path, clock: Clock) -> None:
    """Y3: a ticket is remembered for the idempotency window after its record was cancelled."""
    async with SqliteTransport(path, idempotency_window=10).connect() as connection:
        first = await schedule(connection, "a", delay=100)
        await schedule(connection, "b", delay=0)
        await connection.cancel(first)
        await stored(connection)
        count = "SELECT count(*) FROM tickets"
        for later, left in ((10, 2), (1, 0)):
            clock.now += later
            assert await connection.cancel(first) is (left > 0)
            assert run_sql(path, count) == [(left,)]
        assert not await connection.cancel(connection.new_ticket(None))


async def test_so_many_are_scheduled_at_a_time(path: Path, clock: Clock) -> None:
    """Y3: as `max_scheduled` says, in each partition; one that is due makes room for another."""
    options: dict[str, Any] = {"partitions": 2, "max_scheduled": 1, "max_event_bytes": 8}
    async with SqliteTransport(path, **options).connect() as connection:
        for key in ("k", "l"):
            ticket = await schedule(connection, "a", key, delay=5)
            with pytest.raises(ScheduleFull, match="is not available: 1 events are scheduled"):
                await schedule(connection, "b", key, delay=5)
            await connection.schedule(ticket, Record(b"a", key), delay=5)
        clock.now += 5
        await schedule(connection, "b", "k", delay=5)
        with pytest.raises(EventTooLarge):
            await schedule(connection, "." * 9, "l", delay=5)
        assert [each.scheduled for each in (await connection.survey()).logs] == [0, 1]
        [left] = await connection.scheduled()
        assert await connection.cancel(left.ticket)
        await schedule(connection, "c", "k", delay=5)


async def test_what_is_due_comes_into_a_full_log(path: Path, clock: Clock) -> None:
    """Y3: without regard to `max_length`; what is stored then finds the log full (X5)."""
    async with one_lease(path, "a", max_length=1) as (connection, _):
        await schedule(connection, "b", delay=5)
        clock.now += 5
        with pytest.raises(LogFull):
            await connection.store(batch(2, "c"))
        assert await stored(connection) == ["a", "b"]


async def test_what_is_scheduled_is_listed_by_pages(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y3, X14: over all partitions, in the order of times; few where they are large."""
    async with SqliteTransport(path, partitions=3).connect() as connection:
        for body, key, at in (("c", "l", 30), ("a", "k", 10), ("b", None, 20), ("d", "k", 40)):
            await schedule(connection, body, key, at=5e9 + at)
        first = list(await connection.scheduled(limit=2))
        await connection.cancel(first[-1].ticket)
        monkeypatch.setattr(schedule_module, "PAGE_BYTES", 1)
        rest = list[ScheduledRecord]()
        while page := await connection.scheduled(after=(first + rest)[-1]):
            assert len(page) == 1
            rest += page
        found = [(each.due - 5e9, *each.record) for each in first + rest]
        partitions = [int(each.ticket.split("-")[1]) for each in first + rest]
        assert partitions == [each.partition for each in first + rest]
    assert found == [
        (10.0, b"a", "k", None),
        (20.0, b"b", None, None),
        (30.0, b"c", "l", None),
        (40.0, b"d", "k", None),
    ]


# So much is due that one transaction would take long.


ACTS: dict[str, Callable[[Connection], Awaitable[object]]] = {
    "store": lambda connection: connection.store(batch(2, "new")),
    "schedule": lambda connection: schedule(connection, "new", at=1e6 + 99),
    "join": lambda connection: connection.join(worker()._replace(group="h", start="new")),
    "replay": lambda connection: connection.replay("g", "new"),
    "redrive": lambda connection: connection.redrive("g", ["1"]),
    "standing": lambda connection: connection.standing("g"),
    "survey": lambda connection: connection.survey(),
    "tail": lambda connection: connection.tail(None, 1, 0),
}


@pytest.mark.parametrize("limit", ["_MOST", "PAGE_BYTES"])
@pytest.mark.parametrize("act", ACTS)
async def test_all_that_is_due_is_stored_first(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, act: str, limit: str
) -> None:
    """Y3: by each look at the log, in transactions that are short."""
    monkeypatch.setattr(schedule_module, limit, 2)
    async with one_lease(path, "dead") as (connection, lease):
        await lease.receive(Room(1))
        await lease.settle([Buried("1", 1, 1, FAILURE)])
        for body in "abcde":
            await schedule(connection, body, delay=ord(body) - 90)
        clock.now += 99
        await ACTS[act](connection)
        bodies = ["dead", *"abcde"]
        if act in {"store", "redrive"}:
            bodies.append({"store": "new", "redrive": "dead"}[act])
        rows = run_sql(path, "SELECT CAST(body AS TEXT) FROM records ORDER BY id")
        assert [body for (body,) in rows] == bodies
        if act in {"join", "replay"}:
            begun = run_sql(path, "SELECT given FROM readings ORDER BY group_id DESC LIMIT 1")
            assert begun == [(6,)]


@pytest.mark.parametrize("limit", ["_MOST", "PAGE_BYTES"])
@pytest.mark.parametrize("is_storing", [True, False])
async def test_a_transaction_stores_few_over_all_partitions(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, limit: str, *, is_storing: bool
) -> None:
    """Y3: so that others need not wait for long; what is stored later comes after all of them."""
    async with SqliteTransport(path, partitions=5).connect() as connection:
        keys = "klmno"
        for number, key in enumerate(keys):
            await schedule(connection, str(number), key, delay=number + 1)
        monkeypatch.setattr(schedule_module, limit, 2)
        clock.now += 9
        async with traced(connection) as transactions:
            if is_storing:
                await connection.store(Batch("p", 1, tuple(Record(b"5", key) for key in keys)))
            else:
                await connection.standing("g")
        put = "INSERT INTO records (id, stored, body) SELECT"
        counts = [sum(each.startswith(put) for each in some) for some in transactions]
        assert counts == [2, 2, 1]
        found, _ = await connection.tail(["0"] * 5, 100, 0)
        assert "".join(sorted(each.body.decode() for each in found)) == "0123455555"[: len(found)]
        assert is_storing == (len(found) > 5)


@pytest.mark.parametrize("due", ["is_due", "next_of_all", "put_all_due"])
def test_a_look_for_what_is_due_takes_the_same_time_for_all(path: Path, due: str) -> None:
    """Y3: for many partitions, of which each has records that are not due, as for one."""
    costs = list[int]()
    for partitions in (1, 100):
        with closing(sqlite3.connect(path.with_name(f"{partitions}.db"))) as db:
            tables.make(db, partitions)
            rows = [(f"{each}", each % partitions) for each in range(partitions * 10)]
            db.executemany("INSERT INTO scheduled VALUES (NULL, ?, ?, 5e9, NULL, '')", rows)
            steps = list[None]()
            db.set_progress_handler(lambda: steps.append(None), 1)  # noqa: B023 - called at once
            getattr(schedule_module, due)(db, *[1.0][: due != "next_of_all"])
            costs.append(len(steps))
    assert costs[0] == costs[1]


async def test_a_worker_is_given_all_that_is_due(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y3: in order, by and by."""
    monkeypatch.setattr(schedule_module, "_MOST", 2)
    async with one_lease(path) as (connection, lease):
        for body in "abcde":
            await schedule(connection, body, delay=ord(body) - 90)
        assert await lease.receive(Room(9)) == []
        clock.now += 99
        given = ""
        while more := await lease.receive(Room(9)):
            given += "".join(each.body.decode() for each in more)
        assert given == "abcde"


# Waiting.


@pytest.mark.parametrize("partitions", [None, 1])
async def test_who_waits_is_woken_when_a_record_is_due(path: Path, partitions: int | None) -> None:
    """Y3: a waiting worker and a reader are woken by the record that is due first."""
    transport = SqliteTransport(path, partitions=partitions, poll_interval=NEVER)
    async with transport.connect() as connection, transport.connect() as other:
        lease = await leased(connection, worker())
        given, seen = list[Any](), list[Any]()

        async def receive() -> Any:
            while not (found := await lease.receive(Room(1))):
                await lease.wait(NEVER)
            return found

        with anyio.fail_after(PATIENCE):
            await schedule(connection, "late", delay=NEVER)
            async with anyio.create_task_group() as tasks:
                await start_waiting(tasks, given, receive)
                await start_waiting(tasks, seen, lambda: other.tail(None, 1, NEVER))
                await schedule(other, "soon", delay=0.05)
                await schedule(other, "later", delay=NEVER)
        assert [each.body for each in given[0]] == [b"soon"]
        assert [each.body for each in seen[0][0]] == [b"soon"]


# What goes wrong.


async def test_on_a_full_disk_what_is_due_is_stored_later(path: Path, clock: Clock) -> None:
    """Y3, X6: each look at the log says so; nothing is lost, and nothing stored twice."""
    async with one_lease(path) as (connection, lease):
        runner = runner_of(connection)
        await schedule(connection, "a" * 100_000, delay=5)
        await runner.read(lambda db: db.execute("PRAGMA max_page_count = 1"))
        clock.now += 5
        for call in (lambda: lease.receive(Room(1)), lambda: connection.standing("g")):
            with pytest.raises(TransportUnavailable, match=r"\.db is not available: .*full"):
                await call()
        with pytest.raises(TransportUnavailable, match=r"\.db is not available: .*full"):
            await schedule(connection, "b" * 100_000, delay=5)
        await runner.read(lambda db: db.execute("PRAGMA max_page_count = 1000000"))
        [given] = await lease.receive(Room(9))
        assert (given.position, given.body) == ("1", b"a" * 100_000)
        assert await connection.scheduled() == []


@pytest.mark.unmeasured
@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed in another way there")
async def test_a_process_that_dies_while_it_stores_what_is_due(path: Path) -> None:
    """Y3: it is stored by the next one that looks, once."""
    done = await anyio.run_process([sys.executable, "-c", DIES, str(path)], check=False)
    assert done.returncode == 7, done.stderr.decode()
    async with SqliteTransport(path).connect() as connection:
        assert await stored(connection) == ["due"]
        left = sorted(each.record.body for each in await connection.scheduled())
        assert left == [b"%d" % number for number in range(5)]
        assert (await connection.survey()).logs[0].scheduled == 5


async def test_a_cancelled_call_schedules_wholly_or_not_at_all(path: Path) -> None:
    """Y3: a task that is cancelled may repeat the call."""
    async with SqliteTransport(path).connect() as connection:
        ticket = connection.new_ticket(None)
        async with held_thread(connection):
            with anyio.move_on_after(0.01):
                await connection.schedule(ticket, Record(b"a"), at=5e9)
        await connection.schedule(ticket, Record(b"a"), at=5e9)
        assert len(await connection.scheduled()) == 1


async def test_a_copy_has_what_is_scheduled(path: Path, clock: Clock) -> None:
    """X9, Y3: with the same tickets, since it is the same file as it was at one moment."""
    transport = SqliteTransport(path)
    copy = path.with_name("copy.db")
    async with transport.connect() as connection:
        ticket = await schedule(connection, "a", delay=5)
        await schedule(connection, "b", delay=6)
        await transport.backup(copy)
        assert await connection.cancel(ticket)
    async with SqliteTransport(copy).connect() as connection:
        assert await connection.cancel(ticket)
        clock.now += 6
        assert await stored(connection) == ["b"]


async def test_what_other_software_has_scheduled_is_stored(path: Path, clock: Clock) -> None:
    """Y3: it counts as scheduled, and its body becomes a record's."""
    async with SqliteTransport(path).connect() as connection:
        run_sql(path, "INSERT INTO scheduled VALUES (NULL, 't', 0, 2e6, NULL, 'text')")
        [found] = await connection.scheduled()
        assert found == ScheduledRecord("t", 0, 2e6, Record(b"text"))
        assert (await connection.survey()).logs == (LogSurvey(0, None, 1, None),)
        clock.now = 2e6
        assert await stored(connection) == ["text"]


# Producers.


async def test_a_producer_may_be_remembered_for_ever(path: Path, clock: Clock) -> None:
    """X2: one whose batch is lasting; the number of its last batch can be asked for."""
    async with SqliteTransport(path, idempotency_window=10).connect() as connection:
        await connection.store(Batch("p", 1, (Record(b"a"),), is_lasting=True))
        await connection.store(batch(2, "b"))
        await connection.store(batch(1, "c", producer="q"))
        assert [await connection.produced(each) for each in "pqr"] == [2, 1, 0]
        clock.now += 20
        await connection.store(batch(1, "d", producer="r"))
        await connection.store(batch(2, "b"))
        assert [await connection.produced(each) for each in "pqr"] == [2, 0, 1]
        assert await stored(connection) == [*"abcd"]
