"""How a bridge hands on the events of an outbox (Y4)."""

import logging
import os
import shutil
import sqlite3
from contextlib import closing
from math import inf
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import fail_after

from flexiflow import EventBus
from flexiflow.extras.durable import (
    Batch,
    MemoryTransport,
    Outbox,
    Record,
    TransportUnusable,
    open_bridge,
)
from flexiflow.extras.durable._bridge.lifetime import Lifetime
from flexiflow.extras.durable._bridge.relaying import relaying as open_relay
from flexiflow.extras.durable._outbox import box
from flexiflow.extras.durable._outbox import relay as module
from tests.durable.bridge.helpers import Faulty, Handler, consuming, meanwhile, until
from tests.durable.outbox.shop import (
    EVENTS,
    NAME,
    OUTBOX,
    RELAY,
    connect,
    enrolled,
    place,
    prepared,
    relaying,
    stored,
    transaction,
    waiting,
)
from tests.helpers import PATIENCE


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let relays look again soon, whatever their leases are."""
    monkeypatch.setattr(module, "_LONGEST_DELAY", 0.05)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the user's database, in which the tables are."""
    path = tmp_path / "shop.db"
    prepared(path).close()
    return path


def put(path: Path, *numbers: int) -> None:
    """Place orders, by a connection of one's own."""
    with closing(connect(path)) as connection:
        place(connection, *numbers)


def state(path: Path, *columns: str) -> Any:
    """Return what is written of the relay."""
    with closing(connect(path)) as connection:
        found = connection.execute(f"SELECT {', '.join(columns)} FROM {RELAY}")  # noqa: S608  constants
        return found.fetchone()


async def at_rest(path: Path) -> None:
    """Wait until a relay has nothing to do: until then it may act on an answer that is old."""
    await until(lambda: state(path, "holder") not in {None, (None,)})
    begun = state(path, "until")
    await until(lambda: state(path, "until") != begun)


def write(path: Path, statement: str, *values: object) -> None:
    """Meddle with a database."""
    with closing(connect(path)) as connection:
        connection.execute(statement, values)


async def test_what_commits_is_handed_on(path: Path) -> None:
    """Y4: an event of a transaction that was committed is handled; of another one it is not."""
    transport, handler = MemoryTransport(), Handler()
    with closing(connect(path)) as connection:
        async with consuming(transport, handler), relaying(path, transport) as bridge:
            place(connection, 1)
            with pytest.raises(ZeroDivisionError), transaction(connection):
                OUTBOX.enroll(connection, NAME, 2)
                raise ZeroDivisionError
            place(connection, 3)
            await until(lambda: handler.done == [1, 3])
            await until(lambda: enrolled(connection) == [])
    numbers = bridge.statistics()
    assert (numbers.relayed, numbers.stored, numbers.outbox_trouble) == (2, 2, None)


async def test_the_order_is_that_of_commits(path: Path) -> None:
    """Y4: of many transactions, whose events fill several batches."""
    transport = MemoryTransport()
    for number in range(0, 1_200, 30):
        put(path, *range(number, number + 30))
    async with relaying(path, transport):
        pass
    assert await stored(transport) == list(range(1_200))


async def test_leaving_hands_on_what_is_committed(path: Path) -> None:
    """Y4: and nothing remains in the file; the lease is free at once."""
    transport = MemoryTransport()
    async with relaying(path, transport, lease=60):
        await until(lambda: state(path, "holder") is not None)
        put(path, 1, 2)
    assert await stored(transport) == [1, 2]
    assert waiting(path) == 0
    assert state(path, "holder") == (None,)


async def test_leaving_hands_on_what_was_committed_last(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y4: also after the relay has found nothing to do."""
    transport, ends, numbers = MemoryTransport(), box.Box.ends, [1]

    def put_and_look(self: box.Box) -> tuple[int, int]:
        put(path, numbers.pop())
        return ends(self)

    monkeypatch.setattr(box.Box, "ends", put_and_look)
    async with relaying(path, transport):
        await until(lambda: state(path, "holder") is not None)
    assert await stored(transport) == [1]


async def test_one_that_stands_by_waits_for_the_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y4: as it is left, until what was committed is stored, whichever of them does it."""
    faulty, ends, looks = Faulty(MemoryTransport()), box.Box.ends, list[box.Box]()
    hold = faulty.hold("store")

    def look(self: box.Box) -> tuple[int, int]:
        looks.append(self)
        return ends(self)

    async def release() -> None:
        await until(lambda: len(looks) > 3)
        hold.open.set()

    monkeypatch.setattr(box.Box, "ends", look)
    put(path, 1)
    async with relaying(path, faulty, lease=60):
        await hold.reached.wait()
        async with meanwhile(release), relaying(path, faulty, lease=0.03):
            pass
        assert await stored(faulty) == [1]


async def test_large_events_are_stored_in_batches_of_their_own(path: Path) -> None:
    """Y4: so that no batch has more bytes than can be transferred in time."""
    faulty = Faulty(MemoryTransport())
    with closing(connect(path)) as connection, transaction(connection):
        for number in range(4):
            OUTBOX.enroll(connection, NAME, f"{number}{'x' * 1_500_000}")
    async with relaying(path, faulty):
        pass
    assert [len(each.records) for each in faulty.batches] == [2, 2]


async def test_a_short_log_gets_small_batches(path: Path) -> None:
    """Y4: none that it could not hold."""
    faulty = Faulty(MemoryTransport(max_length=2))
    put(path, 1, 2, 3)
    async with relaying(path, faulty):
        pass
    assert [len(each.records) for each in faulty.batches] == [2, 1]


async def test_the_key_goes_along(path: Path) -> None:
    """Y4, X4: it selects the partition."""
    faulty = Faulty(MemoryTransport(partitions=3))
    with closing(connect(path)) as connection:
        place(connection, 1, key="A7")
    async with relaying(path, faulty):
        pass
    assert [each.key for batch in faulty.batches for each in batch.records] == ["A7"]


async def test_the_producer_lasts(path: Path) -> None:
    """Y4: its name is kept in the file, its numbers go on, and it does not expire."""
    faulty = Faulty(MemoryTransport())
    for number in (1, 2):
        put(path, number)
        async with relaying(path, faulty):
            pass
    first, second = faulty.batches
    assert first.producer == second.producer
    assert (first.number, second.number) == (1, 2)
    assert first.is_lasting
    assert second.is_lasting


async def test_an_answer_that_is_lost_stores_nothing_twice(path: Path) -> None:
    """Y4, X2: the batch is given to the transport again, with its number and rows."""
    faulty = Faulty(MemoryTransport())
    faulty.fail("store", is_late=True)
    put(path, 1, 2)
    async with relaying(path, faulty) as bridge:
        await until(lambda: bridge.statistics().relayed)
    assert await stored(faulty) == [1, 2]
    first, second = faulty.batches
    assert first == second


async def test_an_outage_is_outlasted(path: Path) -> None:
    """Y4, X6: what is committed meanwhile is handed on; it counts as no trouble of the outbox."""
    faulty = Faulty(MemoryTransport())
    put(path, 1)
    async with relaying(path, faulty) as bridge:
        with faulty.away("store"):
            await until(lambda: len(faulty.batches) > 1)
            put(path, 2)
            numbers = bridge.statistics()
            assert (numbers.reconnects, numbers.relayed, numbers.outbox_trouble) == (1, 0, None)
        await until(lambda: bridge.statistics().relayed == 2)
    assert await stored(faulty) == [1, 2]


async def test_what_can_not_be_handed_on_in_time_stays(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Y4: a bridge that is left while the transport is away says so; the next one goes on."""
    faulty = Faulty(MemoryTransport())
    put(path, 1)
    with faulty.away("store"):
        async with relaying(path, faulty, store_timeout=0.05):
            await until(lambda: faulty.batches)
    assert f"events in the outbox {path} may be handed on only later" in caplog.text
    put(path, 2)
    async with relaying(path, faulty):
        pass
    assert await stored(faulty) == [1, 2]


async def test_an_exception_leaves_the_rest_to_the_next(path: Path) -> None:
    """Y4, X5: nothing is drained, nothing is lost, and the lease is free."""
    faulty = Faulty(MemoryTransport())
    hold = faulty.hold("store")
    put(path, 1)
    with pytest.raises(ZeroDivisionError):
        async with relaying(path, faulty, lease=60):
            await hold.reached.wait()
            raise ZeroDivisionError
    assert state(path, "holder") == (None,)
    async with relaying(path, faulty, lease=60):
        pass
    assert await stored(faulty) == [1]


async def test_a_transport_that_fails_for_good_ends_the_bridge(path: Path) -> None:
    """Y4: as where an outgoing event can't be stored."""
    faulty = Faulty(MemoryTransport())
    faulty.fail("store", TransportUnusable("nowhere", "it is something else"))
    put(path, 1)
    with pytest.raises(TransportUnusable):
        async with relaying(path, faulty):
            await anyio.sleep_forever()
    assert waiting(path) == 1


async def test_one_relay_at_a_time(path: Path) -> None:
    """Y4: a second bridge stands by, and takes over when the first is left."""
    transport, is_held, is_over = MemoryTransport(), anyio.Event(), anyio.Event()
    relayed: list[int] = []

    async def hold() -> None:
        async with relaying(path, transport, lease=60) as first:
            await until(lambda: state(path, "holder") is not None)
            is_held.set()
            await is_over.wait()
        relayed.append(first.statistics().relayed)

    async with meanwhile(hold):
        await is_held.wait()
        async with relaying(path, transport, lease=0.1) as second:
            put(path, 1)
            await until(lambda: waiting(path) == 0)
            assert second.statistics().relayed == 0
            is_over.set()
            await until(lambda: relayed)
            put(path, 2)
            await until(lambda: second.statistics().relayed == 1)
    assert relayed == [1]
    assert await stored(transport) == [1, 2]


async def test_another_relay_takes_over(path: Path) -> None:
    """Y4: once the lease of the first has run out; what that one still does changes nothing."""
    transport = MemoryTransport()
    first, second = Faulty(transport), Faulty(transport)
    hold = first.hold("store", is_late=True)
    put(path, 1)
    async with relaying(path, first, lease=0.1) as stale:
        await hold.reached.wait()
        async with relaying(path, second, lease=60) as other:
            await until(lambda: waiting(path) == 0)
            put(path, 2)
            await until(lambda: other.statistics().relayed == 1)
            hold.open.set()
            await until(lambda: stale.statistics().relayed == 1)
            put(path, 3)
            await until(lambda: other.statistics().relayed == 2)
    # The other one need not store what the transport knows.
    assert [each.number for each in first.batches + second.batches] == [1, 2, 3]
    assert await stored(transport) == [1, 2, 3]


async def test_one_that_is_overtaken_as_it_begins_calls_no_file_old(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Y4: if the transport knows later batches, since another relay has stored them."""
    transport = MemoryTransport()
    late = Faulty(transport)
    hold = late.hold("produced")
    async with relaying(path, late, lease=0.1):
        await hold.reached.wait()
        async with relaying(path, transport, lease=60) as other:
            put(path, 1)
            await until(lambda: other.statistics().relayed == 1)
            hold.open.set()
            await until(lambda: late.calls["produced"] == 1 and waiting(path) == 0)
            put(path, 2)
            await until(lambda: other.statistics().relayed == 2)
    assert await stored(transport) == [1, 2]
    assert "copy" not in caplog.text


async def test_a_lease_from_the_future_has_run_out(path: Path) -> None:
    """Y4: after the clock was set back, nobody waits for it."""
    row = "(only_one, holder, since, until) VALUES (1, 'x', 1e12, 1e12 + 10)"
    write(path, f"INSERT INTO {RELAY} {row}")
    put(path, 1)
    transport = MemoryTransport()
    async with relaying(path, transport, lease=60):
        pass
    assert await stored(transport) == [1]


async def test_a_lease_is_renewed(path: Path) -> None:
    """Y4: a relay that has nothing to do keeps it."""
    async with relaying(path, MemoryTransport(), lease=0.05):
        await until(lambda: state(path, "until") is not None)
        before = state(path, "until")
        await until(lambda: state(path, "until") > before)


async def test_a_restored_backup_begins_a_new_producer(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Y4: else the transport would take new events for what it has; this is logged."""
    faulty = Faulty(MemoryTransport())
    put(path, 1)
    async with relaying(path, faulty):
        pass
    backup = path.with_name("backup.db")
    shutil.copy(path, backup)
    put(path, 2)
    async with relaying(path, faulty):
        pass
    os.replace(backup, path)  # noqa: PTH105  as the sentence says
    put(path, 3)
    async with relaying(path, faulty):
        pass
    assert await stored(faulty) == [1, 2, 3]
    assert "knows its batch 1, and" in caplog.text
    assert "knows batch 2 of it: it is an older copy, or another copy of it" in caplog.text
    assert faulty.batches[2].producer != faulty.batches[1].producer
    assert faulty.batches[2].number == 1


async def test_two_copies_in_use_lose_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Y4: once the first has stored a batch, the second begins a new producer, also later on."""
    transport, copy = MemoryTransport(), path.with_name("copy.db")
    shutil.copy(path, copy)
    put(path, 0)
    async with relaying(path, transport):
        pass
    shutil.copy(path, copy)
    async with relaying(path, transport) as first, relaying(copy, transport) as second:
        await at_rest(path)
        await at_rest(copy)
        put(path, 1)
        await until(lambda: first.statistics().relayed == 1)
        put(copy, 2)
        await until(lambda: second.statistics().relayed == 1)
        put(path, 3)
    assert await stored(transport) == [0, 1, 2, 3]
    assert caplog.text.count("another copy of it is in use") == 1


async def die_while_storing(path: Path, faulty: Faulty) -> None:
    """Leave a bridge by an exception while the transport stores a batch, which stays fixed."""
    with pytest.raises(ZeroDivisionError):
        async with relaying(path, faulty):
            hold = faulty.hold("store")
            await hold.reached.wait()
            raise ZeroDivisionError


async def test_a_batch_that_is_stored_is_not_stored_by_the_new_producer(path: Path) -> None:
    """Y4: where the backup has one that was fixed, the transport's number says that it is there."""
    faulty = Faulty(MemoryTransport())
    put(path, 1)
    await die_while_storing(path, faulty)
    backup = path.with_name("backup.db")
    shutil.copy(path, backup)
    put(path, 2)
    async with relaying(path, faulty):
        pass
    os.replace(backup, path)  # noqa: PTH105  as above
    put(path, 3)
    async with relaying(path, faulty):
        pass
    assert await stored(faulty) == [1, 2, 3]


async def test_a_backup_restored_in_place_is_seen(path: Path) -> None:
    """Y4: also while the relay runs; its numbers are not what it has left."""
    transport = MemoryTransport()
    backup = connect(path.with_name("backup.db"))
    async with relaying(path, transport) as bridge:
        put(path, 1)
        await until(lambda: waiting(path) == 0)
        with closing(connect(path)) as connection:
            connection.backup(backup)
            place(connection, 2)
            await until(lambda: bridge.statistics().relayed == 2)
            await until(lambda: enrolled(connection) == [])
            backup.backup(connection)
            place(connection, 3)
        await until(lambda: bridge.statistics().relayed == 3)
    backup.close()
    assert await stored(transport) == [1, 2, 3]


async def test_rows_that_were_deleted_by_hand_are_passed_over(path: Path) -> None:
    """Y4: also those of a batch that was fixed, and those after them come all the same."""
    faulty = Faulty(MemoryTransport())
    put(path, 1)
    await die_while_storing(path, faulty)
    write(path, f"DELETE FROM {EVENTS}")  # noqa: S608  a constant
    put(path, 2)
    async with relaying(path, faulty):
        pass
    assert await stored(faulty) == [2]


async def test_a_file_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Y4: one that is not there, or has no tables; told once, and shown; the bridge goes on."""
    caplog.set_level(logging.INFO)
    path, transport, handler = tmp_path / "shop.db", MemoryTransport(), Handler()
    async with consuming(transport, handler), relaying(path, transport) as bridge:
        await until(lambda: "there is no such file" in str(bridge.statistics().outbox_trouble))
        connect(path).close()
        path.touch()
        await until(lambda: "it has no tables of this" in str(bridge.statistics().outbox_trouble))
        prepared(path).close()
        put(path, 1)
        await until(lambda: handler.done == [1])
        await until(lambda: bridge.statistics().outbox_trouble is None)
    assert caplog.text.count(f"the outbox {path} can't hand on events: there is no such file") == 1
    assert caplog.text.count("can't hand on") == 1
    assert caplog.text.count(f"the outbox {path} hands on events again") == 1


@pytest.mark.parametrize("is_there", [False, True])
async def test_nothing_is_waited_for_without_an_outbox(
    tmp_path: Path, is_there: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Y4, X5: a bridge that is left ends at once if there is no file, or no tables in it."""
    path = tmp_path / "shop.db"
    if is_there:
        path.touch()
    with fail_after(PATIENCE):
        async with relaying(path, MemoryTransport(), store_timeout=10 * PATIENCE) as bridge:
            await until(lambda: bridge.statistics().outbox_trouble)
    assert "handed on only later" not in caplog.text


async def test_a_file_of_something_else_is_trouble(path: Path) -> None:
    """Y4: tables of another layout, and a file that is no database."""
    write(path, f"ALTER TABLE {EVENTS} ADD COLUMN more")
    async with relaying(path, MemoryTransport(), store_timeout=0.01) as bridge:
        await until(lambda: "is not one of an outbox" in str(bridge.statistics().outbox_trouble))
        other = path.with_name("other")
        other.write_text("This is no database. " * 100)
        os.replace(other, path)  # noqa: PTH105  as above
        await until(lambda: "not a database" in str(bridge.statistics().outbox_trouble))


async def test_a_file_that_is_replaced_is_opened_anew(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Y4: while the bridge is open; what the new one has is handed on.

    SQLite would read the log of the old one into it: who replaces a file has to remove that.
    """
    transport = MemoryTransport()
    other = path.with_name("other.db")
    prepared(other).close()
    put(other, 7)
    async with relaying(path, transport) as bridge:
        put(path, 1)
        await until(lambda: bridge.statistics().relayed == 1)
        for each in ("-wal", "-shm"):
            path.with_name(path.name + each).unlink()
        os.replace(other, path)  # noqa: PTH105  as above
        await until(lambda: bridge.statistics().relayed == 2)
    assert await stored(transport) == [1, 7]
    assert "was deleted, moved or replaced while it was open" in caplog.text


async def test_a_lock_is_no_news_for_a_while(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y4: a user's long transaction is waited for, and told only if it lasts."""
    transport = MemoryTransport()
    monkeypatch.setattr(module, "_QUIET", inf)
    with closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        async with relaying(path, transport, lease=0.1) as bridge:
            await until(lambda: "locked" in str(bridge.statistics().outbox_trouble))
            assert "locked" not in caplog.text
            monkeypatch.setattr(module, "_QUIET", 0)
            await until(lambda: "database is locked" in caplog.text)
            OUTBOX.enroll(connection, NAME, 1)
            connection.execute("COMMIT")
            await until(lambda: bridge.statistics().relayed == 1)
    assert await stored(transport) == [1]


async def test_a_full_log_is_told(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y4, X5: once, if it lasts; the rest is handed on when the group settles what it has."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "_QUIET", 0)
    transport, gate = MemoryTransport(max_length=2), anyio.Event()
    handler = Handler(gate=gate)
    # Before the relay is there: else it might tell that the file is locked, too.
    put(path, 1, 2, 3, 4)
    async with consuming(transport, handler), relaying(path, transport) as bridge:
        await until(lambda: "its log is full" in str(bridge.statistics().outbox_trouble))
        gate.set()
        await until(lambda: sorted(handler.done) == [1, 2, 3, 4])
        await until(lambda: bridge.statistics().outbox_trouble is None)
    assert caplog.text.count(f"the outbox {path} can't hand on events: ") == 1
    assert caplog.text.count(f"the outbox {path} hands on events again") == 1


async def _fix(path: Path, *payloads: object) -> None:
    """Have a batch of events fixed, and not stored."""
    with closing(connect(path)) as connection, transaction(connection):
        for each in payloads:
            OUTBOX.enroll(connection, NAME, each)
    await die_while_storing(path, Faulty(MemoryTransport()))


async def test_a_batch_is_made_smaller_for_another_transport(path: Path) -> None:
    """Y4: one that was fixed, and that the transport does not know, loses its last rows."""
    await _fix(path, 1, 2, 3)
    faulty = Faulty(MemoryTransport(max_length=2))
    async with relaying(path, faulty):
        pass
    assert [(each.number, len(each.records)) for each in faulty.batches] == [(1, 2), (2, 1)]
    assert waiting(path) == 0


async def test_a_batch_with_an_event_too_large_stops_the_outbox(path: Path) -> None:
    """Y4, X14: not the bridge; and a transport that takes it gets it."""
    await _fix(path, "x" * 1_000, 2)
    file = Outbox(max_event_bytes=1_000).at(path, interval=0.001)
    small, large = MemoryTransport(max_event_bytes=1_000), Faulty(MemoryTransport())
    async with open_bridge(EventBus(), small, outbox=file, store_timeout=0.01) as bridge:
        await until(lambda: "event 1 in it has 1" in str(bridge.statistics().outbox_trouble))
    async with relaying(path, large):
        pass
    assert await stored(small) == []
    assert await stored(large) == ["x" * 1_000, 2]


async def test_a_full_disk_is_outlasted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Y4: an event may be stored before its row can be deleted, and is stored once all the same."""
    transport, calls = MemoryTransport(), 0
    renew = box.Box._renew

    def fail(self: box.Box, db: sqlite3.Connection) -> None:
        nonlocal calls
        calls += 1
        if 2 < calls < 6:
            raise sqlite3.OperationalError("database or disk is full")
        renew(self, db)

    monkeypatch.setattr(box.Box, "_renew", fail)
    put(path, 1)
    async with relaying(path, transport, lease=60) as bridge:
        await until(lambda: "full" in str(bridge.statistics().outbox_trouble))
        await until(lambda: waiting(path) == 0)
    assert await stored(transport) == [1]


async def test_an_event_too_large_for_the_transport_stops_the_outbox(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Y4, X14: those before it are handed on; it is told of once, and nothing is lost."""
    small = Outbox(max_event_bytes=1_000)
    transport = MemoryTransport(max_event_bytes=1_000)
    with closing(connect(path)) as connection, transaction(connection):
        OUTBOX.enroll(connection, NAME, 1)
        OUTBOX.enroll(connection, NAME, "x" * 1_000)
        OUTBOX.enroll(connection, NAME, 3)
    file = small.at(path, interval=0.001)
    async with open_bridge(EventBus(), transport, outbox=file, store_timeout=0.01) as bridge:
        await until(lambda: "event 2 in it has 1" in str(bridge.statistics().outbox_trouble))
        assert await stored(transport) == [1]
    assert caplog.text.count("a transport with a higher max_event_bytes would be right") == 1


async def test_a_transport_that_takes_less_than_the_outbox_is_refused(path: Path) -> None:
    """Y4, X14: on entering the block."""
    transport = MemoryTransport(max_event_bytes=1_000)
    with pytest.raises(ValueError, match=r"Outbox\(\.\.\., max_event_bytes=1000\) would be right"):
        async with relaying(path, transport):
            pytest.fail("it is open")


async def test_a_lease_that_can_not_be_given_up_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Y4, X5: a bridge that is left does not wait for it any longer."""

    class Stuck:
        def leave(self) -> None:
            """Come to an end."""

        async def run(self) -> None:
            await anyio.sleep_forever()

        async def ended(self) -> None:
            """Have handed on all."""

        async def close(self) -> None:
            await anyio.sleep_forever()

    with fail_after(PATIENCE):
        async with open_relay(Stuck(), 1, 0, Lifetime()):
            pass
    assert "a bridge was left, and another one has its outbox only later" in caplog.text


async def test_the_bus_does_not_see_what_is_handed_on(path: Path) -> None:
    """Y4: no handler of the relay's bus is called, and no pattern of outgoing events matters."""
    transport, bus, handler = MemoryTransport(), EventBus(), Handler()
    await bus.subscribe("*", "shop", handler)
    put(path, 1)
    file = OUTBOX.at(path, interval=0.001)
    async with open_bridge(bus, transport, outgoing=["other.*"], outbox=file) as bridge:
        await until(lambda: bridge.statistics().relayed == 1)
    assert handler.begun == []


async def test_what_handlers_enroll_while_the_bridge_is_left_is_handed_on(path: Path) -> None:
    """Y4, X5: the relay ends after the handlers have."""
    transport, bus = MemoryTransport(), EventBus()
    begun = anyio.Event()

    async def handle(number: int) -> None:
        begun.set()
        await anyio.wait_all_tasks_blocked()
        put(path, number + 1)

    await bus.subscribe("order.begun", "shop", handle)
    async with transport.connect() as connection:
        body = b'{"specversion":"1.0","id":"1","source":"s","type":"order.begun","data":1}'
        await connection.store(Batch("p", 1, (Record(body),)))
    ways: dict[str, Any] = {"incoming": ["order.begun"], "group": "shop"}
    async with open_bridge(bus, transport, outbox=OUTBOX.at(path), **ways):
        await begun.wait()
    assert await stored(transport) == [1, 2]


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
async def test_the_users_mode_of_the_journal_is_kept(path: Path, mode: str) -> None:
    """Y4: the file is the user's, whose readers and writers go on beside the relay."""
    with closing(connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        transport = MemoryTransport()
        async with relaying(path, transport) as bridge:
            for number in range(20):
                place(connection, number)
                await anyio.lowlevel.checkpoint()
            await until(lambda: bridge.statistics().relayed == 20)
        assert await stored(transport) == list(range(20))
        assert connection.execute("PRAGMA journal_mode").fetchone() == (mode.lower(),)


def _forked_with(path: Path) -> int:
    """Fork, and return 0 unless the child has a file open."""
    child = os.fork()
    if not child:
        found = [os.path.realpath(each) for each in Path("/proc/self/fd").glob("*")]
        os._exit(str(path) in found)
    return os.waitpid(child, 0)[1]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files can't be listed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_a_fork_does_no_harm(path: Path) -> None:
    """Y4, X9: the child has no open file; the parent goes on."""
    transport = MemoryTransport()
    async with relaying(path, transport) as bridge:
        put(path, 1)
        await until(lambda: bridge.statistics().relayed == 1)
        status = _forked_with(path)
        put(path, 2)
        await until(lambda: bridge.statistics().relayed == 2)
    assert status == 0
    assert await stored(transport) == [1, 2]
