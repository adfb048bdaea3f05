"""The transport in memory: what is scheduled, cancelled, and surveyed."""

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import anyio
import pytest
from anyio import create_task_group, fail_after

from flexiflow.extras.durable import (
    Batch,
    Buried,
    Connection,
    EventTooLarge,
    Failure,
    GroupSurvey,
    LogFull,
    LogSurvey,
    Member,
    MemberSurvey,
    MemoryTransport,
    Postponed,
    Record,
    Room,
    ScheduleFull,
    Standing,
    Survey,
)
from flexiflow.testing import replay
from tests.helpers import PATIENCE

MEMBER = Member("g", "a", "1", ("order.*",), 10.0)
NO = Failure("builtins.OSError", "no", "")


def play(backend: str, scenario: Callable[[Connection], Awaitable[Any]], **options: Any) -> Any:
    """Run a scenario with a new transport, in virtual time."""

    async def main() -> Any:
        async with MemoryTransport(**options).connect() as connection:
            return await scenario(connection)

    return replay(main, backend=backend, decisions=())


def batch(number: int, *bodies: bytes, **more: Any) -> Batch:
    """Make a batch."""
    return Batch("p", number, tuple(map(Record, bodies)), **more)


async def schedule(connection: Connection, body: bytes, key: str | None = None, **at: Any) -> str:
    """Schedule a record, and return its ticket."""
    ticket = connection.new_ticket(key)
    await connection.schedule(ticket, Record(body, key), **at)
    return ticket


async def stored(connection: Connection) -> list[bytes]:
    """Return what is in the logs, one after the other."""
    found, _ = await connection.tail(["0"] * connection.partitions, 100, 0)
    return [each.body for each in found]


async def test_tickets_name_their_transport_and_the_partition_of_the_key() -> None:
    """Y3: tickets differ, those of a key name its partition, and others' are refused."""
    record = Record(b"a", "k")
    async with (
        MemoryTransport(partitions=3).connect() as connection,
        MemoryTransport(partitions=3).connect() as other,
    ):
        tickets = [connection.new_ticket("k") for _ in range(3)]
        assert {each.split("-")[1] for each in tickets} == {"1"}
        assert {connection.new_ticket(None).split("-")[1] for _ in range(3)} == {"0", "1", "2"}
        assert len({*tickets}) == 3
        for wrong in (other.new_ticket("k"), "no ticket"):
            with pytest.raises(ValueError, match="a ticket must be one that schedule"):
                await connection.schedule(wrong, record, delay=0)
            with pytest.raises(ValueError, match="a ticket must be one that schedule"):
                await connection.cancel(wrong)


def test_a_record_is_stored_when_its_time_has_come(backend: str) -> None:
    """Y3: not before; then before what is stored later, in the order of times, then of tickets."""

    async def scenario(connection: Connection) -> Any:
        at = (await connection.survey()).now
        await schedule(connection, b"last", delay=30)
        same = {await schedule(connection, body, at=at + 20): body for body in (b"b", b"c", b"d")}
        await schedule(connection, b"first", delay=10)
        await connection.store(batch(1, b"now"))
        await anyio.sleep(9)
        early = await stored(connection)
        await anyio.sleep(12)
        await connection.store(batch(2, b"later"))
        await anyio.sleep(10)
        found, _ = await connection.tail(["0"], 100, 0)
        by_ticket = [same[ticket] for ticket in sorted(same)]
        expected = [b"now", b"first", *by_ticket, b"later", b"last"]
        times = [each.time - at for each in found if each.time is not None]
        return early, [each.body for each in found] == expected, times

    early, is_in_order, times = play(backend, scenario)
    assert (early, is_in_order) == ([b"now"], True)
    assert times == [0, 21, 21, 21, 21, 21, 31]


def test_a_ticket_is_used_once(backend: str) -> None:
    """Y3: to schedule again changes nothing, before and after the record was put into its log."""

    async def scenario(connection: Connection) -> Any:
        ticket, other = connection.new_ticket(None), connection.new_ticket(None)
        for body in (b"a", b"b"):
            await connection.schedule(ticket, Record(body), delay=5)
            await connection.schedule(other, Record(b"cancelled"), delay=5)
        assert await connection.cancel(other)
        before = await connection.scheduled()
        await anyio.sleep(6)
        bodies = await stored(connection)
        for again in (ticket, other):
            await connection.schedule(again, Record(b"c"), delay=0)
        cancelled = [await connection.cancel(each) for each in (ticket, other)]
        return [each.record.body for each in before], bodies, await stored(connection), cancelled

    assert play(backend, scenario) == ([b"a"], [b"a"], [b"a"], [False, True])


def test_a_ticket_is_forgotten_after_the_window(backend: str) -> None:
    """Y3: a ticket is remembered for the idempotency window after its record was cancelled."""

    async def scenario(connection: Connection) -> Any:
        first = await schedule(connection, b"a", delay=100)
        await connection.cancel(first)
        answers = list[bool]()
        for _ in range(2):
            await anyio.sleep(9)
            await connection.cancel(await schedule(connection, b"b", delay=100))
            answers.append(await connection.cancel(first))
        return answers, await connection.cancel(connection.new_ticket(None))

    assert play(backend, scenario, idempotency_window=10) == ([True, False], False)


def test_what_is_cancelled_is_stored_nowhere(backend: str) -> None:
    """Y3: `cancel` is True if the record is in no log, now and when it is asked again."""

    async def scenario(connection: Connection) -> Any:
        tickets = [await schedule(connection, body, at=0.0) for body in (b"a", b"b")]
        tickets += [await schedule(connection, body, delay=5) for body in (b"c", b"d")]
        cancelled = [await connection.cancel(each) for each in (*tickets[1:3], tickets[1])]
        await anyio.sleep(6)
        return cancelled, await stored(connection), await connection.cancel(tickets[3])

    cancelled, bodies, late = play(backend, scenario)
    # What was due at once had been put into the log when the next one was scheduled.
    assert (cancelled, bodies, late) == ([False, True, False], [b"a", b"b", b"d"], False)


def test_what_is_scheduled_is_listed_by_pages(backend: str) -> None:
    """Y3: over all partitions, in the order of times; also after one that is there no more."""

    async def scenario(connection: Connection) -> Any:
        for body, key, at in ((b"c", "l", 30), (b"a", "k", 10), (b"b", None, 20), (b"d", "k", 40)):
            await schedule(connection, body, key, at=1000.0 + at)
        first = await connection.scheduled(limit=2)
        await connection.cancel(first[-1].ticket)
        rest = await connection.scheduled(after=first[-1])
        assert await connection.scheduled(after=rest[-1]) == []
        partitions = [int(each.ticket.split("-")[1]) for each in (*first, *rest)]
        assert partitions == [each.partition for each in (*first, *rest)]
        return [(each.due, *each.record[:2]) for each in (*first, *rest)]

    assert play(backend, scenario, partitions=3) == [
        (1010.0, b"a", "k"),
        (1020.0, b"b", None),
        (1030.0, b"c", "l"),
        (1040.0, b"d", "k"),
    ]


def test_so_many_are_scheduled_at_a_time(backend: str) -> None:
    """Y3: as `max_scheduled` says, in each partition; one that is due makes room for another."""

    async def scenario(connection: Connection) -> Any:
        for key in ("k", "l"):
            ticket = await schedule(connection, b"a", key, delay=5)
            with pytest.raises(ScheduleFull, match=r"^memory is not available: 1 events are sch"):
                await schedule(connection, b"b", key, delay=5)
            await connection.schedule(ticket, Record(b"a", key), delay=5)
        await anyio.sleep(5)
        await schedule(connection, b"b", "k", delay=5)
        with pytest.raises(EventTooLarge):
            await schedule(connection, b"." * 9, "l", delay=5)
        return [each.scheduled for each in (await connection.survey()).logs]

    options = {"partitions": 2, "max_scheduled": 1, "max_event_bytes": 8}
    assert play(backend, scenario, **options) == [0, 1]


def test_what_is_due_comes_into_a_full_log(backend: str) -> None:
    """Y3: without regard to `max_length`; what is stored then finds the log full (X5)."""

    async def scenario(connection: Connection) -> Any:
        await connection.join(MEMBER)
        await connection.store(batch(1, b"a"))
        await schedule(connection, b"b", delay=5)
        await anyio.sleep(5)
        with pytest.raises(LogFull):
            await connection.store(batch(2, b"c"))
        return await stored(connection)

    assert play(backend, scenario, max_length=1) == [b"a", b"b"]


def test_who_waits_is_woken_when_a_record_is_due(backend: str) -> None:
    """Y3: a worker, and a reader; by records scheduled before they waited, and meanwhile."""

    async def scenario(connection: Connection) -> list[tuple[bytes, float]]:
        came, began = list[tuple[bytes, float]](), anyio.current_time()
        await connection.join(MEMBER)
        lease = await connection.acquire(MEMBER, 0)
        assert lease is not None
        await schedule(connection, b"a", delay=50)

        async def work() -> None:
            while len(came) < 3:
                await lease.wait(1000)
                given = await lease.receive(Room(1))
                came.extend((each.body, anyio.current_time() - began) for each in given)

        async def look_on() -> None:
            found, _ = await connection.tail(None, 1, 1000)
            came.extend((each.body, anyio.current_time() - began) for each in found)

        async with create_task_group() as group:
            group.start_soon(work)
            group.start_soon(look_on)
            await anyio.sleep(10)
            await schedule(connection, b"b", delay=20)
        return sorted(came)

    assert play(backend, scenario) == [(b"a", 50.0), (b"b", 30.0), (b"b", 30.0)]


async def test_time_is_that_of_the_day() -> None:
    """Y3: outside of virtual time, by the machine's clock."""
    async with MemoryTransport().connect() as connection:
        with fail_after(PATIENCE):
            _, after = await connection.tail(None, 1, 0)
            await schedule(connection, b"a", delay=0.01)
            await schedule(connection, b"never", at=inf)
            [found], _ = await connection.tail(after, 1, PATIENCE)
        survey = await connection.survey()
    assert found.body == b"a"
    assert found.time is not None
    assert 1e9 < found.time <= survey.now


def test_a_producer_may_be_remembered_for_ever(backend: str) -> None:
    """X2: one whose batch is lasting; the number of its last batch can be asked for."""

    async def scenario(connection: Connection) -> Any:
        await connection.store(batch(1, b"a", is_lasting=True))
        await connection.store(batch(2, b"b"))
        await connection.store(batch(1, b"c")._replace(producer="q"))
        known = [await connection.produced(each) for each in "pqr"]
        await anyio.sleep(20)
        await connection.store(batch(1, b"d")._replace(producer="r"))
        await connection.store(batch(2, b"b"))
        return known, [await connection.produced(each) for each in "pqr"], await stored(connection)

    known, later, bodies = play(backend, scenario, idempotency_window=10)
    assert (known, later) == ([2, 1, 0], [2, 0, 1])
    assert bodies == [b"a", b"b", b"c", b"d"]


def test_dead_letters_are_discarded(backend: str) -> None:
    """Y6: for good; ids of none are ignored."""

    async def scenario(connection: Connection) -> Any:
        await connection.join(MEMBER)
        lease = await connection.acquire(MEMBER, 0)
        assert lease is not None
        await connection.store(batch(1, b"a", b"b"))
        given = await lease.receive(Room(2))
        await lease.settle([Buried(each.position, 1, 1, NO) for each in given])
        [first, second] = await connection.dead_letters("g")
        counts = [await connection.discard("g", [first.id, "77", "no id"]) for _ in range(2)]
        counts.append(await connection.discard("h", [second.id]))
        return counts, await connection.dead_letters("g") == [second]

    assert play(backend, scenario) == ([1, 0, 0], True)


def test_a_survey_tells_all_that_there_is(backend: str) -> None:
    """Y6: logs, groups with their members, how far they are, and how old what they have left is."""

    async def scenario(connection: Connection) -> Any:
        began = (await connection.survey()).now
        await connection.store(batch(1, b"a", b"b", b"c", b"d"))
        await connection.join(MEMBER)
        lease = await connection.acquire(MEMBER, 0)
        assert lease is not None
        given = await lease.receive(Room(3))
        await lease.settle([Buried(given[0].position, 1, 1, NO)])
        await lease.settle([Postponed(given[1].position, 1, 0, 5.0, None)])
        await anyio.sleep(2)
        await connection.join(MEMBER._replace(consumer="0"))
        await schedule(connection, b"later", delay=5)
        await connection.join(MEMBER._replace(group="e", start="new"))
        await connection.replay("e", "new")
        await anyio.sleep(9)
        survey = await connection.survey()
        logs = [each._replace(oldest=(each.oldest or 0) - began) for each in survey.logs]
        groups = [
            each._replace(
                oldest=(each.oldest or 0) - began,
                replay=0,
                members=tuple(one._replace(until=one.until - began) for one in each.members),
            )
            for each in survey.groups
        ]
        return Survey(survey.now - began, tuple(logs), tuple(groups), survey.size)

    assert play(backend, scenario) == Survey(
        11.0,
        (LogSurvey(5, 0.0, 0, 9),),
        (
            GroupSurvey(
                "e", (MemberSurvey("a", ("order.*",), 12.0),), (Standing(0, 1, 0, 0),), 11.0, 0
            ),
            GroupSurvey(
                "g", (MemberSurvey("0", ("order.*",), 12.0),), (Standing(1, 2, 0, 1, 1),), 0.0, 0
            ),
        ),
        9,
    )


async def test_a_survey_of_nothing() -> None:
    """Y6: no record is the oldest, where there is none, or where its time is not known."""
    transport = MemoryTransport()
    async with transport.connect() as connection:
        await connection.join(MEMBER)
        survey = await connection.survey()
        assert [survey.logs, survey.groups[0].oldest] == [(LogSurvey(0, None, 0, 0),), None]
        transport._state.logs[0].append(Record(b"else"))
        survey = await connection.survey()
        assert [survey.logs, survey.groups[0].oldest] == [(LogSurvey(1, None, 0, 4),), None]
