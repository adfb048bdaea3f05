"""The SQLite transport: what it keeps, and whom it gives it."""

import re
import reprlib
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from flexiflow.extras.durable import (
    Acknowledged,
    Batch,
    Buried,
    ConsumerInUse,
    DeadLetter,
    Delivery,
    Failure,
    Lease,
    LeaseLost,
    LogFull,
    MemoryTransport,
    Noted,
    Record,
    Returned,
    Room,
    SqliteTransport,
    Standing,
    Stored,
)
from tests.durable.redis.desk import lease_of
from tests.durable.sqlite.files import (
    FAILURE,
    NEVER,
    PATIENCE,
    Clock,
    batch,
    leased,
    namesake_of,
    one_lease,
    positions,
    real_path,
    run_sql,
    start_waiting,
    worker,
)
from tools.chaos.sqlite import kill

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow.extras.durable import (
        Outcome,
    )

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


# What it keeps.


async def test_what_was_stored_is_there_after_reopening(path: Path, clock: Clock) -> None:
    """X1: a stored event outlives the connection, in order, with its position and its time."""
    async with SqliteTransport(path).connect() as connection:
        await connection.store(batch(1, "a", "b"))
        assert connection.address == real_path(path)
    async with SqliteTransport(path).connect() as connection:
        found, after = await connection.tail(["0"], 10, 0)
        assert found == [
            Stored(0, "1", b"a", None, clock.now),
            Stored(0, "2", b"b", None, clock.now),
        ]
        assert after == ["2"]


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
    """X2: a producer that has not stored for longer than the window is forgotten."""
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


async def test_a_tail_begins_with_what_comes_next(path: Path, clock: Clock) -> None:
    """X1: who looks on without positions is given what is stored from now on, at once."""
    transport = SqliteTransport(path, poll_interval=NEVER)
    async with transport.connect() as connection, transport.connect() as other:
        await connection.store(batch(1, "old"))
        nothing, after = await connection.tail(None, 10, 0)
        looking: list[Any] = []
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                await start_waiting(tasks, looking, lambda: connection.tail(after, 10, NEVER))
                await other.store(batch(2, "new"))
        assert nothing == []
        assert looking == [([Stored(0, "2", b"new", None, clock.now)], ["2"])]


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
            told = f"after must be the id of a dead letter, not {reprlib.repr(nonsense)}"
            with pytest.raises(ValueError, match=f"^{re.escape(told)}"):
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
                    await start_waiting(tasks, given, lambda: _received(waiting))
                    await calls[means]()
        assert [len(each) for each in given] == [1]


async def test_who_waits_for_a_partition_is_woken_at_once(path: Path) -> None:
    """X1: A record for another partition would wake it, too, so it looks before it returns."""
    transport = SqliteTransport(path, partitions=1, poll_interval=NEVER)
    async with transport.connect() as connection:
        lease = await leased(connection, worker())
        given: list[Any] = []
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                await start_waiting(tasks, given, lambda: _received(lease))
                await connection.store(batch(1, "a"))
        assert [len(each) for each in given] == [1]


@pytest.mark.unmeasured
async def test_who_waits_finds_what_another_process_stored(path: Path) -> None:
    """X1: a process is given what another one stores, after it has looked again."""
    async with SqliteTransport(path).connect() as connection:
        lease = await leased(connection, worker())
        given: list[Any] = []
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                await start_waiting(tasks, given, lambda: _received(lease))
                await anyio.run_process([sys.executable, "-c", STORE, str(path)])
        assert [each.body for each in given[0]] == [b"from elsewhere"]


async def test_to_look_takes_no_lock(path: Path) -> None:
    """X6: a worker with nothing to get does not disturb a writer, nor wait for it."""
    async with one_lease(path) as (_, lease):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await lease.receive(Room(1)) == []


async def test_waiting_ends_in_time(path: Path) -> None:
    """X6: to wait is bounded."""
    async with one_lease(path) as (_, lease):
        with anyio.fail_after(PATIENCE):
            await lease.wait(0.01)


# All of it together.


@pytest.mark.unmeasured
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
