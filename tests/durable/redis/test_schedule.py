"""The transport on Redis: what is scheduled and cancelled, and producers that last (X2, Y3)."""

from functools import partial
from typing import Any

import pytest
from anyio import create_task_group, fail_after

from flexiflow.extras.durable import (
    Acknowledged,
    Connection,
    EventTooLarge,
    LogFull,
    Record,
    Room,
    ScheduleFull,
    TransportUnavailable,
)
from flexiflow.extras.durable._redis import letters as letters_module
from flexiflow.extras.durable._redis import scripts as scripts_module
from flexiflow.extras.durable._redis import waiter as waiter_module
from tests.durable.redis.desk import (
    Keys,
    await_more,
    batch,
    bodies,
    inside,
    is_somebody_waiting,
    lease_of,
    member,
    transport,
    until,
)
from tests.helpers import PATIENCE

pytestmark = pytest.mark.once

FAR = 4_000_000_000.0
"""A time that is far ahead."""

MANY = """
for i = 1, ARGV[1] do
  redis.call('ZADD', KEYS[1] .. ':later', i / 10000, 't' .. i)
  redis.call('HSET', KEYS[1] .. ':sealed', 't' .. i, cmsgpack.pack({w = '60000', e = 'x'}))
end
"""
"""Schedules many records that are due."""


async def schedule(connection: Connection, body: bytes, key: str | None = None, **when: Any) -> str:
    """Schedule a record, and return its ticket."""
    ticket = connection.new_ticket(key)
    await connection.schedule(ticket, Record(body, key), **(when or {"at": FAR}))
    return ticket


def make_due(keys: Keys, *tickets: str, partition: int = 0, at: float = 1.0) -> None:
    """Have the time of records come."""
    for each in tickets:
        name = keys.name("later", partition)
        assert keys.server.command("ZADD", name, "XX", "CH", str(at), each) == ":1"


async def stored(connection: Connection) -> list[bytes]:
    """Return what is in the logs, one after the other."""
    found, _ = await connection.tail(["0-0"] * connection.partitions, 5000, 0)
    return [each.body for each in found]


async def test_tickets_name_the_prefix_and_the_partition_of_the_key(keys: Keys) -> None:
    """Y3: in each process alike, and those of another prefix or database are refused."""
    other = transport(Keys(keys.server, "other"), partitions=3)
    far = transport(Keys(keys.server, keys.prefix), partitions=3)
    async with (
        transport(keys, partitions=3).connect() as connection,
        far.connect() as same,
        other.connect() as foreign,
    ):
        tickets = [each.new_ticket("k") for each in (connection, same)]
        assert [each.split("-")[1] for each in tickets] == ["1", "1"]
        assert {connection.new_ticket(None).split("-")[1] for _ in range(99)} == {"0", "1", "2"}
        await connection.schedule(tickets[1], Record(b"a", "k"), at=FAR)
        assert await same.cancel(tickets[1])
        for wrong in (foreign.new_ticket("k"), "no ticket"):
            with pytest.raises(ValueError, match="a ticket must be one that schedule"):
                await connection.schedule(wrong, Record(b"a", "k"), delay=0)
            with pytest.raises(ValueError, match="a ticket must be one that schedule"):
                await connection.cancel(wrong)


async def test_what_is_due_comes_before_what_is_stored_later(keys: Keys) -> None:
    """Y3: in the order of times, then of tickets, with its key, and the time of that moment."""
    async with transport(keys).connect() as connection:
        began = (await connection.survey()).now
        last = await schedule(connection, b"last")
        same = {await schedule(connection, body): body for body in (b"b", b"c", b"d")}
        early = await schedule(connection, b"first", "k")
        await schedule(connection, b"never")
        await connection.store(batch(1, b"now"))
        make_due(keys, last, at=4.5)
        make_due(keys, *same, at=4.25)
        make_due(keys, early, at=4.0)
        await connection.store(batch(2, b"later"))
        found, _ = await connection.tail(["0-0"], 9, 0)
        expected = [b"now", b"first", *(same[each] for each in sorted(same)), b"last", b"later"]
        assert [each.body for each in found] == expected
        times = [began, *(each.time or 0.0 for each in found), (await connection.survey()).now]
        assert times == sorted(times)
        assert keys.command("XRANGE", "log", "2-0", "2-0").count("key") == 1


@pytest.mark.parametrize(
    "look", ["store", "receive", "all", "standing", "tail", "survey", "schedule", "join", "replay"]
)
async def test_each_look_at_the_log_finds_what_is_due(keys: Keys, look: str) -> None:
    """Y3: it is put into the log first."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        if look == "receive":
            # Now the common case applies.
            assert await bodies(lease) == []
        ticket = await schedule(connection, b"a")
        make_due(keys, ticket)
        calls: dict[str, Any] = {
            "store": partial(connection.store, batch(1, b"b")),
            "receive": partial(lease.receive, Room(1)),
            "all": partial(lease.receive, Room(1)),
            "standing": partial(connection.standing, "billing"),
            "tail": partial(connection.tail, ["0-0"], 1, 0),
            "survey": connection.survey,
            "schedule": partial(schedule, connection, b"b"),
            "join": partial(connection.join, member(group="new")),
            "replay": partial(connection.replay, "billing", "new"),
        }
        await calls[look]()
        assert keys.command("XRANGE", "log", "1-0", "1-0").count("event") == 1
        assert keys.command("EXISTS", "sealed") == f":{int(look == 'schedule')}"
        assert not await connection.cancel(ticket)


async def test_redriven_and_told_groups_come_after_what_is_due(keys: Keys) -> None:
    """Y3, X3: also in the other partitions, where a group is made later."""
    async with transport(keys, partitions=2).connect() as connection:
        ticket = await schedule(connection, b"a", "k")
        make_due(keys, ticket, partition=int(ticket.split("-")[1]))
        await connection.join(member()._replace(start="new"))
        assert await stored(connection) == [b"a"]
        assert (await connection.standing("billing")).lag == 0
        await connection.redrive("billing", ["1-0-0"])


async def test_due_at_is_a_time_and_delay_is_from_now(keys: Keys) -> None:
    """Y3: exact to the last digit, and by the server's clock."""
    async with transport(keys).connect() as connection:
        await schedule(connection, b"a", at=4_000_000_000.123456)
        before = (await connection.survey()).now
        await schedule(connection, b"b", delay=3_000_000_000.5)
        now = (await connection.survey()).now
        first, second = await connection.scheduled()
        assert (first.due, first.record) == (4_000_000_000.123456, Record(b"a"))
        assert before <= second.due - 3_000_000_000.5 <= now


async def test_a_ticket_is_used_once(keys: Keys) -> None:
    """Y3: to schedule again changes nothing, before and after it was put into the log."""
    async with transport(keys).connect() as connection:
        ticket, other = connection.new_ticket(None), connection.new_ticket(None)
        for body in (b"a", b"b"):
            await connection.schedule(ticket, Record(body), at=FAR)
            await connection.schedule(other, Record(b"cancelled"), at=FAR)
        assert await connection.cancel(other)
        assert [each.record.body for each in await connection.scheduled()] == [b"a"]
        make_due(keys, ticket)
        assert await stored(connection) == [b"a"]
        for again in (ticket, other):
            await connection.schedule(again, Record(b"c"), delay=0)
        assert await stored(connection) == [b"a"]
        assert [await connection.cancel(each) for each in (ticket, other)] == [False, True]
        assert not await connection.cancel(connection.new_ticket(None))


async def test_a_ticket_is_remembered_for_the_window(keys: Keys) -> None:
    """Y3: that of the transport that has scheduled or cancelled it."""
    async with transport(keys, idempotency_window=3600).connect() as connection:
        put, cancelled = await schedule(connection, b"a"), await schedule(connection, b"b")
        make_due(keys, put)
        await connection.cancel(cancelled)
        await stored(connection)
        for each in (put, cancelled):
            assert 3000 < int(keys.command("TTL", f"t:{each}").removeprefix(":")) <= 3600


async def test_what_is_scheduled_is_listed_by_pages(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y3, X14: over all partitions, in order, also after one that is there no more."""
    monkeypatch.setattr(letters_module, "PAGE_BYTES", 2500)
    async with transport(keys, partitions=11).connect() as connection:
        assert await connection.scheduled() == []
        for number in range(40):
            # Many are due at the same time, in several partitions.
            body = b"x" * (3000 if number == 7 else 400)
            await schedule(connection, body, str(number % 20), at=FAR + number % 3)
        whole = list(await connection.scheduled(limit=9))
        while page := await connection.scheduled(after=whole[-1], limit=9):
            whole += page
            if len(whole) % 2:
                assert await connection.cancel(page[-1].ticket)
        order = [(each.due, each.ticket) for each in whole]
        assert order == sorted(set(order))
        assert len(whole) == 40
        assert all(int(each.ticket.split("-")[1]) == each.partition for each in whole)
        assert {each.record.key for each in whole} == set(map(str, range(20)))


async def test_those_that_are_cancelled_meanwhile_are_no_end(keys: Keys) -> None:
    """Y3: only where there are none is the end."""
    async with transport(keys).connect() as connection:
        first, second = [await schedule(connection, b"a", at=FAR + each) for each in (0, 1)]
        parts = inside(inside(connection)["_schedules"])
        network = parts["_network"]

        class Late:
            name = network.name

            async def run_all(self, script: Any, calls: Any) -> Any:
                if script is scripts_module.SCHEDULED:
                    keys.command("ZREM", "later", first)
                return await network.run_all(script, calls)

        parts["_network"] = Late()
        found = await connection.scheduled(limit=1)
        parts["_network"] = network
        assert [each.ticket for each in found] == [second]


async def test_so_many_are_scheduled_at_a_time(keys: Keys) -> None:
    """Y3: as `max_scheduled` says, in each partition; one that is due makes room for another."""
    limits = {"partitions": 2, "max_scheduled": 1, "max_event_bytes": 8}
    async with transport(keys, **limits).connect() as connection:
        for key in ("k", "l"):
            ticket = await schedule(connection, b"a", key)
            with pytest.raises(ScheduleFull, match="1 events are scheduled"):
                await schedule(connection, b"b", key)
            await connection.schedule(ticket, Record(b"a", key), at=FAR)
        make_due(keys, ticket, partition=int(ticket.split("-")[1]))
        await schedule(connection, b"b", "l")
        with pytest.raises(EventTooLarge):
            await schedule(connection, b"." * 9, "l")
        assert [each.scheduled for each in (await connection.survey()).logs] == [1, 1]


async def test_what_is_due_comes_into_a_full_log(keys: Keys) -> None:
    """Y3: without regard to `max_length`; what is stored then finds the log full (X5)."""
    async with transport(keys, max_length=1).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, b"a"))
        make_due(keys, await schedule(connection, b"b"))
        with pytest.raises(LogFull):
            await connection.store(batch(2, b"c"))
        assert await bodies(lease) == [b"a", b"b"]
        await lease.settle([Acknowledged("1-0"), Acknowledged("2-0")])
        await connection.store(batch(2, b"c"))
        assert await bodies(lease) == [b"c"]


async def test_however_many_are_due_the_server_is_not_busy_for_long(keys: Keys) -> None:
    """Y3: a script puts some of them into the log, and what comes later is behind all of them."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        assert await bodies(lease) == []
        keys.server.command("EVAL", MANY, 1, keys.name("")[:-1], 4500)
        # A worker is given what there is, and comes again.
        got = len(await lease.receive(Room(5000)))
        assert got in (1000, 2000)
        with fail_after(PATIENCE):
            await lease.wait(PATIENCE)
        await connection.store(batch(1, b"behind"))
        assert (await stored(connection))[-1] == b"behind"
        assert (await connection.standing("billing")).lag == 4501 - got


async def test_so_many_bytes_are_moved_at_once(keys: Keys) -> None:
    """Y3, X14: but at least one record."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        assert await bodies(lease) == []
        tickets = [await schedule(connection, b"x" * 3_000_000) for _ in range(6)]
        make_due(keys, *tickets)
        # Two, and two more if the script for the common case was run before.
        got = len(await lease.receive(Room(9)))
        assert got in (2, 4)
        assert (await connection.standing("billing")).lag == 6 - got


async def test_a_ticket_whose_record_was_deleted_is_passed_over(keys: Keys) -> None:
    """Y3: other software may have deleted it; it is in no page, and comes to no log."""
    async with transport(keys).connect() as connection:
        ticket = await schedule(connection, b"a")
        kept = await schedule(connection, b"b")
        keys.command("HDEL", "sealed", ticket)
        assert [each.ticket for each in await connection.scheduled()] == [kept]
        make_due(keys, ticket, kept)
        assert await stored(connection) == [b"b"]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_who_waits_is_woken_when_a_record_is_due(
    keys: Keys, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y3: by one that was scheduled before it waited, or meanwhile, not by the next look."""
    monkeypatch.setattr(waiter_module, "_TURN", 4 * PATIENCE)
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        got: list[bytes] = []

        async def wait() -> None:
            with fail_after(PATIENCE):
                got.extend(each.body for each in await await_more(lease))

        if when == "before":
            await schedule(connection, b"a", delay=0.2)
        async with create_task_group() as tasks:
            tasks.start_soon(wait)
            if when == "meanwhile":
                await until(lambda: is_somebody_waiting(keys.server))
                await schedule(connection, b"a", delay=0.1)
        assert got == [b"a"]


async def test_all_who_wait_are_woken_by_one_entry(keys: Keys) -> None:
    """Y3: if a record is due before all others; however many groups there are."""
    async with transport(keys).connect() as connection:
        for group in "gh":
            await connection.join(member(group=group))
        for delay in (9000.0, 60_000.0, 5000.0):
            await schedule(connection, b"a", delay=delay)
        assert [keys.command("HGET", f"g:{each}", "wakes")[-1:] for each in "gh"] == ["1", "1"]
        assert keys.command("HGET", "meta3", "sooner").endswith("2")
        assert keys.command("XLEN", "sooner") == ":1"


async def test_a_clock_that_is_set_back_changes_no_order(keys: Keys) -> None:
    """Y5: the time of a record is not before that of the one before it."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a"))
        keys.command("HSET", "meta3", "time", 4 * 10**15)
        await connection.store(batch(2, b"b"))
        make_due(keys, await schedule(connection, b"c"))
        found, _ = await connection.tail(["0-0"], 9, 0)
        assert [each.time for each in found[1:]] == [4e9, 4e9]


@pytest.mark.unmeasured
async def test_scheduled_records_outlive_the_server(keys: Keys) -> None:
    """Y3: each is handed out once after the server was killed, none that was cancelled."""
    # Else it may lose the last second; once it has been killed, it is as before.
    assert keys.server.command("CONFIG", "SET", "appendfsync", "always") == "+OK"
    async with transport(keys).connect() as connection:
        tickets = [await schedule(connection, body) for body in (b"a", b"b", b"c")]
        assert await connection.cancel(tickets[1])
    keys.server.restart()
    async with transport(keys).connect() as connection:
        await connection.schedule(tickets[0], Record(b"again"), at=FAR)
        await connection.schedule(tickets[1], Record(b"again"), at=FAR)
        make_due(keys, tickets[0], tickets[2])
        assert sorted(await stored(connection)) == [b"a", b"c"]
        assert [await connection.cancel(each) for each in tickets] == [False, True, False]


async def test_scripts_that_were_lost_are_sent_again(keys: Keys) -> None:
    """X6: also those for scheduled records."""
    async with transport(keys).connect() as connection:
        ticket = await schedule(connection, b"a")
        keys.server.command("SCRIPT", "FLUSH")
        assert len(await connection.scheduled()) == 1
        keys.server.command("SCRIPT", "FLUSH")
        assert await connection.cancel(ticket)


class TestLastingProducers:
    """What an outbox asks of a transport."""

    async def test_are_remembered_for_ever(self, keys: Keys) -> None:
        """X2: also after a later batch that does not say so."""
        async with transport(keys).connect() as connection:
            await connection.store(batch(1, b"a")._replace(is_lasting=True))
            assert await connection.produced("shop") == 1
            await connection.store(batch(1, b"x")._replace(is_lasting=True))
            await connection.store(batch(2, b"b"))
            await connection.store(batch(2, b"x"))
            await connection.store(batch(3, b"c", producer="other"))
            assert keys.command("TTL", "p:shop") == ":-1"
            known = [await connection.produced(each) for each in ("shop", "other", "nobody")]
            assert known == [2, 3, 0]
            assert await stored(connection) == [b"a", b"b", b"c"]

    async def test_count_a_batch_once_all_of_it_is_stored(
        self, keys: Keys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """X2: not if one of several partitions has its part, and the others lack theirs."""
        async with transport(keys, partitions=3).connect() as connection:
            for number, key in enumerate("klmnop", 1):
                await connection.store(batch(number, b"a", keys=[key])._replace(is_lasting=True))
                assert await connection.produced("shop") == number
            parts = inside(connection)
            network, left = parts["_network"], [2]

            async def run(partition: int, script: Any, *arguments: Any, **more: Any) -> Any:
                if script is scripts_module.STORE and arguments[4] == 1:
                    left[0] -= 1
                    if left[0] < 0:
                        raise TransportUnavailable("x", "cut")
                return await network.run(partition, script, *arguments, **more)

            class Cut:
                def __getattr__(self, name: str) -> Any:
                    return run if name == "run" else getattr(network, name)

            whole = batch(7, b"1", b"2", b"3")._replace(is_lasting=True)
            monkeypatch.setitem(parts, "_network", Cut())
            with pytest.raises(TransportUnavailable):
                await connection.store(whole)
            monkeypatch.undo()
            assert await connection.produced("shop") == 6
            await connection.store(whole)
            assert await connection.produced("shop") == 7
            assert sorted(await stored(connection)) == [b"1", b"2", b"3", *[b"a"] * 6]

    async def test_need_no_room_where_nothing_is_stored(self, keys: Keys) -> None:
        """X5: the number alone comes into a full partition, too."""
        async with transport(keys, partitions=2, max_length=1).connect() as connection:
            await connection.join(member())
            await connection.store(batch(1, b"a", b"b"))
            with pytest.raises(LogFull):
                await connection.store(batch(1, b"c", producer="x")._replace(is_lasting=True))
            assert await connection.produced("x") == 0
