"""The transport on Redis where a server has lost what it confirmed (X13)."""

import logging
from collections.abc import Generator
from hashlib import sha1
from typing import Any

import pytest
from anyio import Event, fail_after
from anyio.lowlevel import checkpoint

from flexiflow import EventBus
from flexiflow.extras.durable import (
    Acknowledged,
    Batch,
    Bridge,
    Connection,
    Lease,
    LeaseLost,
    Postponed,
    Record,
    Room,
    Standing,
    TransportUnusable,
    open_bridge,
)
from flexiflow.extras.durable._redis.epochs import Known
from tests.durable.redis.desk import Keys, batch, bodies, lease_of, member, transport, until
from tests.helpers import PATIENCE
from tools.redis_server import MISSING, find_server, redis_server

pytestmark = pytest.mark.once


@pytest.fixture
def frail(anyio_backend: object) -> Generator[Keys]:
    """Run a server that keeps only what it is told to save."""
    if find_server() is None:
        pytest.skip(MISSING)
    with redis_server(appendonly="no") as server:
        yield Keys(server, "frail")


def save(keys: Keys) -> None:
    """Have a server write what it has."""
    assert keys.server.command("SAVE") == "+OK"


async def come_back(keys: Keys, *connections: Connection, is_empty: bool = False) -> None:
    """Have a server go back to what it has saved, and wait until all know that it was away."""
    if is_empty:
        keys.server.forget()
    else:
        keys.server.kill()
    networks: list[Any] = [vars(each)["_network"] for each in connections]
    wires = [wire for network in networks for wire in network._lines._open.values()]
    await until(lambda: not any(wire.is_alive for wire in wires))
    keys.server.start()


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.ERROR) -> list[str]:
    """List what was logged of logs that lost something."""
    return [
        each.getMessage()
        for each in caplog.records
        if each.levelno == level and each.getMessage().startswith("the log frail:")
    ]


async def store(connection: Connection, first: int, last: int, producer: str = "shop") -> None:
    """Store events one by one."""
    for number in range(first, last + 1):
        body = f"{producer} {number}".encode()
        await connection.store(Batch(producer, number, (Record(body),)))


async def settle(lease: Lease, limit: int) -> None:
    """Receive some, and acknowledge them."""
    given = await lease.receive(Room(limit))
    await lease.settle([Acknowledged(each.position) for each in given])


async def test_a_crash_in_the_midst_of_a_transaction_takes_nothing_that_came_after() -> None:
    """X2: if an unfinished transaction is cut off the server's file before it starts again."""
    with redis_server(appendfsync="always") as server:
        keys = Keys(server, "crashed")
        async with transport(keys).connect() as connection:
            await connection.store(batch(1, b"confirmed before"))
            await connection.store(batch(2, b"not confirmed"))
        server.kill()
        (log,) = server.folder.glob("appendonly.aof")
        written = log.read_bytes()
        # The file ends within the second batch's transaction, right after the record.
        log.write_bytes(written[: written.index(b"HSET", written.index(b"not confirmed"))])
        server.start()
        async with transport(keys).connect() as connection:
            await connection.store(batch(2, b"confirmed after"))
        server.restart()
        async with transport(keys).connect() as connection:
            found, _ = await connection.tail(["0-0"], 9, 0)
        assert [each.body for each in found] == [b"confirmed before", b"confirmed after"]


@pytest.mark.parametrize("how", ["restarted", "flushed"])
async def test_a_server_that_lost_all_is_told_of_it(
    frail: Keys, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """X13: what was not settled is missed, one line says so, and new events are delivered."""
    async with transport(frail).connect() as connection:
        lease = await lease_of(connection)
        await store(connection, 1, 50)
        await settle(lease, 10)
        if how == "restarted":
            await come_back(frail, connection, is_empty=True)
        else:
            frail.server.command("FLUSHALL")
        await connection.store(batch(51, b"new"))
        assert (await connection.standing("billing")).missed == 40
        with pytest.raises(LeaseLost):
            await lease.receive(Room(1))
        second = await lease_of(connection)
        assert second.token > lease.token
        assert await bodies(second) == [b"new"]
        assert await connection.standing("billing") == Standing(1, 0, 40, 0)
    (line,) = lines(caplog)
    assert "frail:0 at redis://127.0.0.1" in line
    assert "lost 50 events" in line


async def test_a_bridge_tells_what_was_lost_and_goes_on(
    frail: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    """X13: its statistics count what is missed, and its handlers get what is published next."""
    shop, bus, handled = EventBus(on_error="raise"), EventBus(), Event()

    async def handle(_: int) -> None:
        handled.set()

    async def until_missed(bridge: Bridge) -> None:
        with fail_after(PATIENCE):
            while bridge.statistics().missed != 50:
                await checkpoint()

    await bus.subscribe("order.placed", "worker", handle)
    async with open_bridge(shop, transport(frail), outgoing=["order.placed"]):
        async with transport(frail).connect() as connection:
            await connection.join(member())
            await connection.leave(member())
        for number in range(50):
            await shop.publish("order.placed", number)
        frail.server.forget()
        frail.server.start()
        await shop.publish("order.placed", 50)
        async with open_bridge(
            bus, transport(frail), incoming=["order.*"], group="billing", lease=1.0
        ) as bridge:
            with fail_after(PATIENCE):
                await handled.wait()
            await until_missed(bridge)
    assert len(lines(caplog)) == 1


async def test_a_late_acknowledgement_settles_no_new_event(frail: Keys) -> None:
    """X13: where the server came back without its last events, and others took their places."""
    async with transport(frail).connect() as late:
        await store(late, 1, 3)
        lease = await lease_of(late)
        save(frail)
        await store(late, 4, 6)
        assert len(await bodies(lease)) == 6
        await come_back(frail, late)
        async with transport(frail).connect() as other:
            # This one knows nothing of what was there.
            await store(other, 1, 5, "other")
            await other.join(member("bob"))
            with pytest.raises(LeaseLost):
                await lease.settle([Acknowledged(f"{each}-0") for each in range(1, 7)])
            bob = await lease_of(other, member("bob"))
            assert len(await bodies(bob)) == 8
            # Nor does it count as handled when nobody holds it any more.
            with pytest.raises(LeaseLost):
                await lease.settle([Acknowledged("1-0")])
            await bob.release()
            assert len(await bodies(await lease_of(other, member("bob")))) == 8
            # What came to be at the same places, or after them, is not known to be lost.
            assert (await other.standing("billing")).missed == 3


async def test_a_lease_that_was_forgotten_is_not_taken_for_a_later_one(frail: Keys) -> None:
    """X13: its token is no other's, also where nothing shows that something was lost."""
    async with transport(frail).connect() as connection:
        await store(connection, 1, 1)
        await connection.join(member())
        save(frail)
        lost = await connection.acquire(member(), 0)
        await come_back(frail, connection)
        found = await connection.acquire(member(), 0)
        assert lost is not None
        assert found is not None
        assert found.token > lost.token
        with pytest.raises(LeaseLost):
            await lost.receive(Room(1))


async def test_each_counts_what_it_alone_knows_of(
    frail: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    """X13: a loss that several know of is counted once."""
    async with (
        transport(frail).connect() as one,
        transport(frail).connect() as two,
        transport(frail).connect() as three,
    ):
        await lease_of(one)
        await store(one, 1, 10)
        save(frail)
        await store(one, 11, 20)
        await store(two, 1, 10, "two")
        await store(three, 1, 5, "three")
        await come_back(frail, one, two, three)
        missed = [(await each.standing("billing")).missed for each in (one, three, two, one)]
        assert missed == [10, 25, 25, 25]
        assert [each.split(" events")[0].split()[-1] for each in lines(caplog)] == ["10", "15"]


async def test_what_parts_earlier_than_the_log_ends_is_lost_too(frail: Keys) -> None:
    """X13: one who knows nothing has stored anew at places that another one knows."""
    async with transport(frail).connect() as connection:
        await lease_of(connection)
        await store(connection, 1, 8)
        save(frail)
        await store(connection, 9, 16)
        await come_back(frail, connection)
        async with transport(frail).connect() as other:
            await store(other, 1, 4, "other")
        assert (await connection.standing("billing")).missed == 8


async def test_one_who_knows_where_the_log_parts_corrects_another(frail: Keys) -> None:
    """X13: the first who sees a loss may not know all that is not there any more."""
    async with transport(frail).connect() as one, transport(frail).connect() as two:
        await lease_of(one)
        await store(one, 1, 8)
        save(frail)
        await store(one, 9, 12)
        await store(two, 1, 1, "two")
        await come_back(frail, one, two)
        async with transport(frail).connect() as other:
            await store(other, 1, 2, "other")
        # It stored the thirteenth, and the log ends at the tenth.
        assert (await two.standing("billing")).missed == 3
        assert (await one.standing("billing")).missed == 5


async def test_a_group_that_was_made_later_has_missed_nothing(frail: Keys) -> None:
    """X13: also where more of the loss becomes known after that."""
    async with transport(frail).connect() as one, transport(frail).connect() as two:
        await lease_of(one)
        await store(one, 1, 2)
        await store(two, 1, 3, "two")
        await come_back(frail, one, two, is_empty=True)
        assert (await one.standing("billing")).missed == 2
        await one.join(member(group="audit"))
        assert (await two.standing("billing")).missed == 5
        assert (await two.standing("audit")).missed == 0


async def test_what_a_group_has_settled_is_not_missed(frail: Keys) -> None:
    """X13: nor is what was settled after the state to which the server went back."""
    async with transport(frail).connect() as connection:
        lease = await lease_of(connection)
        await store(connection, 1, 4)
        save(frail)
        await store(connection, 5, 10)
        (*others, last) = await lease.receive(Room(10))
        await lease.settle([Postponed("1-0", 1, 0, 60.0, None)])
        await lease.settle([Acknowledged(each.position) for each in others[1:]])
        await lease.renew()
        assert last.position == "10-0"
        await come_back(frail, connection)
        # Of the ten two were not settled, and one of them is there still.
        assert (await connection.standing("billing")).missed == 2


async def test_one_who_knows_nothing_may_come_first(
    frail: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    """X13: what others knew of an empty log is counted when they come."""
    async with transport(frail).connect() as one, transport(frail).connect() as two:
        lease = await lease_of(one)
        await store(one, 1, 4)
        await settle(lease, 1)
        await store(two, 1, 2, "two")
        await come_back(frail, one, two, is_empty=True)
        async with transport(frail).connect() as other:
            await store(other, 1, 9, "other")
            await other.join(member("bob", "audit"))
            # What was known is at the same places as what was stored since, or before it.
            assert await bodies(await lease_of(other, member("bob", "audit"))) != []
            frail.command("XTRIM", "log", "MINID", "9-0")
            missed = [(await each.standing("billing")).missed for each in (one, two, one)]
            assert missed == [3, 5, 5]
            assert (await other.standing("audit")).missed == 0
        with pytest.raises(LeaseLost):
            await lease.renew()
    assert len(lines(caplog)) == 2


async def test_a_publisher_knows_the_groups_of_others(frail: Keys) -> None:
    """X13: a group without a member is told what was lost when one comes."""
    async with transport(frail).connect() as shop:
        async with transport(frail).connect() as connection:
            await store(shop, 1, 1)
            lease = await lease_of(connection)
            await settle(lease, 1)
            await lease.release()
            await connection.leave(member())
            await connection.join(member(group="gone"))
            await store(shop, 2, 2)
            await connection.forget("gone")
        await store(shop, 3, 4)
        await come_back(frail, shop, is_empty=True)
        await store(shop, 5, 5)
        assert await shop.groups() == ["billing"]
        assert (await shop.standing("billing")).missed == 3


async def test_who_knows_less_than_a_server_has_sees_no_loss(
    frail: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    """X13: nor does one whose last record was deleted, or made room for others."""
    async with transport(frail, max_length=3).connect() as connection:
        lease = await lease_of(connection)
        await store(connection, 1, 2)
        frail.command("XDEL", "log", "2-0")
        async with transport(frail, max_length=3).connect() as other:
            await store(other, 1, 1, "other")
        save(frail)
        await come_back(frail, connection)
        assert len(await bodies(lease)) == 2
        await lease.renew()
        assert (await connection.standing("billing")).missed == 1
    assert lines(caplog) == lines(caplog, logging.WARNING) == []


async def test_an_epoch_that_was_deleted_ends_leases_and_loses_nothing(
    frail: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    """X13: a warning says that it is another log for all that is known."""
    async with transport(frail).connect() as connection:
        lease = await lease_of(connection)
        await store(connection, 1, 2)
        frail.command("HDEL", "meta3", "epoch")
        assert await connection.standing("billing") == Standing(0, 2, 0, 0)
        with pytest.raises(LeaseLost):
            await lease.renew()
        assert len(await bodies(await lease_of(connection))) == 2
    assert lines(caplog) == []
    assert len(lines(caplog, logging.WARNING)) == 1


async def test_each_partition_loses_for_itself(frail: Keys) -> None:
    """X13: what another one has goes on, and the group takes what it took in both."""
    async with transport(frail, partitions=2).connect() as connection:
        one, two = await lease_of(connection), await lease_of(connection, partition=1)
        await connection.store(batch(1, b"a", b"b"))
        for each in ("log", "meta3", "groups", "g:billing", "leases:billing"):
            frail.server.command("DEL", frail.name(each, 1))
        with pytest.raises(LeaseLost):
            await two.receive(Room(1))
        assert (await connection.standing("billing")).missed == 1
        assert await connection.acquire(member(), 1) is None
        assert len(await bodies(one)) == 1
        # The next beat tells the partition what the group takes.
        await connection.join(member())
        assert await connection.acquire(member(), 1) is not None


async def test_one_who_has_missed_several_losses_counts_none_of_them(frail: Keys) -> None:
    """X13: it can't tell which one took what it knew."""
    async with transport(frail).connect() as one, transport(frail).connect() as two:
        await lease_of(one)
        await store(two, 1, 5, "two")
        for first in (1, 3):
            await store(one, first, first)
            await come_back(frail, one, two, is_empty=True)
            await one.groups()
        assert (await one.standing("billing")).missed == 1
        assert (await two.standing("billing")).missed == 1


async def test_one_who_looks_on_goes_on_where_the_log_parts(frail: Keys) -> None:
    """X13: it does not wait until there are as many as there were."""
    async with transport(frail).connect() as connection:
        await store(connection, 1, 3)
        _, positions = await connection.tail(["0-0"], 9, 0)
        await come_back(frail, connection, is_empty=True)
        await store(connection, 4, 4)
        found, positions = await connection.tail(positions, 9, 0)
        assert [each.body for each in found] == [b"shop 4"]
        assert positions == ["1-0"]


async def test_scheduled_records_that_were_lost_are_not_known(frail: Keys) -> None:
    """X13, Y3: their tickets are still of this transport, and may be used again."""
    async with transport(frail).connect() as connection:
        tickets = [connection.new_ticket(None) for _ in range(2)]
        for each in tickets:
            await connection.schedule(each, Record(b"a"), at=4e9)
        await come_back(frail, connection, is_empty=True)
        assert not await connection.cancel(tickets[0])
        await connection.schedule(tickets[1], Record(b"b"), at=4e9)
        [found] = await connection.scheduled()
        assert (found.ticket, found.record.body) == (tickets[1], b"b")


async def test_a_server_that_went_back_has_what_it_has_saved(frail: Keys) -> None:
    """X13, Y3: a record that was put into the log since is scheduled again, and comes again."""
    async with transport(frail).connect() as connection:
        lease = await lease_of(connection)
        ticket = connection.new_ticket(None)
        await connection.schedule(ticket, Record(b"a"), at=4e9)
        await store(connection, 1, 1)
        save(frail)
        frail.command("ZADD", "later", 1, ticket)
        assert len(await bodies(lease)) == 2
        await come_back(frail, connection)
        frail.command("ZADD", "later", 1, ticket)
        await store(connection, 2, 2)
        found, _ = await connection.tail(["0-0"], 9, 0)
        assert [each.body for each in found] == [b"shop 1", b"a", b"shop 2"]
        assert (await connection.standing("billing")).missed == 1


async def test_a_group_of_an_earlier_release_has_no_beginning(frail: Keys) -> None:
    """X13, X16: then it begins with the oldest record that is left."""
    async with transport(frail).connect() as connection:
        await store(connection, 1, 1)
        save(frail)
        await connection.join(member())
        frail.command("HDEL", "g:billing", "begin", "start", "made")
        await connection.join(member("bob"))
        await lease_of(connection)
        await store(connection, 2, 2)
        await come_back(frail, connection)
        assert (await connection.standing("billing"))[1:3] == (1, 1)


@pytest.mark.parametrize("how", ["lost", "forgotten"])
async def test_a_group_is_made_anew_where_it_was_if_it_was_lost(frail: Keys, how: str) -> None:
    """X13, Y5: also where no record was lost; but not if somebody has forgotten it."""
    async with (
        transport(frail).connect() as connection,
        transport(frail).connect() as other,
    ):
        await store(connection, 1, 2)
        save(frail)
        await lease_of(connection, member()._replace(start="new"))
        if how == "forgotten":
            await other.forget("billing")
            save(frail)
        await come_back(frail, connection, other)
        await store(other, 3, 3)
        await connection.groups()
        await store(other, 4, 4)
        expected = ["billing"] if how == "lost" else []
        assert await connection.groups() == expected
        assert (await connection.standing("billing")).lag == 2 * len(expected)


async def test_a_prefix_that_was_laid_out_anew_is_refused(frail: Keys) -> None:
    """X13: where somebody else has begun it with another number of partitions."""
    async with transport(frail).connect() as connection:
        frail.server.command("FLUSHALL")
        async with transport(frail, partitions=2).connect():
            pass
        with pytest.raises(TransportUnusable, match=r"/0 can't be used: .*partitions=2, not None"):
            await connection.store(batch(1, b"a"))


def known(*positions: int) -> Known:
    """Know some records."""
    found = Known()
    found.begin(b"e")
    for each in positions:
        found.note(b"e", f"{each}-0".encode(), f"body {each}".encode())
    return found


def test_the_further_back_the_fewer_records_are_known() -> None:
    """X13: what is kept grows with the logarithm, and the last one is always among it."""
    samples = list(known(*range(1, 10_001)).samples())
    positions = [int(each.partition(b"-")[0]) for each in samples[::2]]
    assert positions == sorted(positions)
    assert positions[-1] == 10_000
    assert len(positions) < 30
    assert samples[-1] == sha1(b"body 10000", usedforsecurity=False).hexdigest().encode()


def test_what_is_of_another_epoch_or_is_known_is_passed_over() -> None:
    """X13: an answer may come after the loss was seen, or after a later one."""
    found = known(1, 3)
    found.note(b"other", b"9-0")
    found.note(b"e", b"2-0")
    found.note_settled(b"other", "billing", 4)
    found.hear(b"other", b"7", [(b"billing", 9)])
    found.settled["billing"] = 1
    found.note_begin(b"7-other", "billing", b"4-0")
    assert [each for each in found.samples() if b"-" in each] == [b"1-0", b"3-0"]
    assert (found.groups(), found.stir) == ({"billing": (1, b"")}, b"")


def test_of_a_large_event_the_beginning_is_known() -> None:
    """X13: and of one that was not seen only the position."""
    found = Known()
    found.begin(b"e")
    found.note(b"e", b"1-0", b"x" * 5000)
    found.note(b"e", b"2-0")
    digest = sha1(b"x" * 1024, usedforsecurity=False).hexdigest().encode()
    assert list(found.samples()) == [b"1-0", digest, b"2-0", b""]
