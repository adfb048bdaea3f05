"""What waits for its next attempt in the SQLite transport's file, outside the log."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, cast

import anyio
import pytest

from flexiflow.extras.durable import (
    Acknowledged,
    Batch,
    Buried,
    Connection,
    Delivery,
    Followed,
    Lease,
    LogFull,
    Member,
    MemoryTransport,
    Noted,
    Outcome,
    Postponed,
    Record,
    Returned,
    Room,
    Settled,
    SqliteTransport,
    Standing,
)
from flexiflow.extras.durable._memory import state as memory_module
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

pytestmark = pytest.mark.same_everywhere


def books(path: Path) -> tuple[int, int, int]:
    """Count what waits, what bodies are kept, and what is counted as waiting."""
    ((waiting, kept, counted),) = run_sql(
        path,
        "SELECT (SELECT count(*) FROM waiting), (SELECT count(*) FROM kept),"
        " (SELECT sum(waiting) FROM readings)",
    )
    return waiting, kept, counted


async def postponed(lease: Lease, *places: str, delay: float | None = 5.0, key: str = "k") -> None:
    """Have records wait, after one attempt."""
    await lease.settle([Postponed(each, 1, 0, delay, key) for each in places])


# Outside the log.


async def test_what_waits_holds_no_place_of_the_log(path: Path, clock: Clock) -> None:
    """X12: a full log takes new ones where the old ones wait, and they keep their bodies."""
    async with one_lease(path, "a", "b", max_length=2) as (connection, lease):
        await lease.receive(Room(2))
        with pytest.raises(LogFull):
            await connection.store(batch(2, "c"))
        await postponed(lease, "1", "2")
        await connection.store(batch(2, "c", "d"))
        new = await lease.receive(Room(9))
        clock.now += 5
        again = await lease.receive(Room(9))
        # Nor does it once it is held again.
        await lease.settle([Acknowledged("3"), Acknowledged("4")])
        await connection.store(batch(3, "e", "f"))
        assert [each.body for each in new] == [b"c", b"d"]
        assert again == [
            Delivery("1", b"a", None, 1, 1, is_suspect=False, has_waited=True),
            Delivery("2", b"b", None, 1, 1, is_suspect=False, has_waited=True),
        ]


async def test_standing_tells_what_waits(path: Path, clock: Clock) -> None:
    """X12: what waits is not pending; what was given again is."""
    async with one_lease(path, "a", "b", "c", partitions=2) as (connection, lease):
        given = positions(await lease.receive(Room(9)))
        await postponed(lease, *given, delay=None)
        before = await connection.standing("g")
        await lease.receive(Room(1))
        after = await connection.standing("g")
        lag = 3 - len(given)
        assert before == Standing(0, lag, 0, 0, len(given))
        assert after == Standing(1, lag, 0, 0, len(given) - 1)
        assert books(path) == (len(given),) * 3


@pytest.mark.parametrize("means", ["acknowledge", "bury", "forget", "lose"])
async def test_nothing_stays_of_what_waits_no_more(path: Path, means: str) -> None:
    """X12: bodies that were kept are deleted with what they are of."""
    async with one_lease(path, "a", "b") as (connection, lease):
        await lease.receive(Room(9))
        await postponed(lease, "1", "2", delay=0.0)
        await lease.receive(Room(9))
        run_sql(path, "DELETE FROM records")
        if means == "acknowledge":
            await lease.settle([Acknowledged("1"), Acknowledged("2"), Acknowledged("2")])
        elif means == "bury":
            await lease.settle([Buried("1", 3, 1, FAILURE), Buried("2", 3, 1, FAILURE)])
            letters = await connection.dead_letters("g")
            assert [each.body for each in letters] == [b"a", b"b"]
            assert await connection.redrive("g", [each.id for each in letters]) == 2
            assert [each.body for each in await lease.receive(Room(9))] == [b"a", b"b"]
            await lease.settle([Acknowledged("3"), Acknowledged("4")])
        elif means == "forget":
            await connection.forget("g")
            await connection.join(worker())
        else:
            run_sql(path, "DELETE FROM kept", "DELETE FROM waiting")
            await lease.settle([Buried("1", 3, 1, FAILURE), Returned("2", 3, 1)])
            assert await lease.receive(Room(9)) == []
        assert books(path) == (0, 0, 0)
        assert await connection.standing("g") == Standing(0, 0, 2 if means == "lose" else 0, 0, 0)


async def test_what_was_deleted_can_not_wait(path: Path) -> None:
    """X12: without a body it is missed, in the log, while it waits and while it is out."""
    async with one_lease(path, "a", "b", "c", "d") as (connection, lease):
        await lease.receive(Room(9))
        run_sql(path, "DELETE FROM records WHERE id = 1")
        await postponed(lease, "1", "2", "3", "4", delay=0.0)
        missed = [(await connection.standing("g")).missed]
        run_sql(path, "DELETE FROM kept WHERE body = x'62'")
        given = await lease.receive(Room(9))
        missed.append((await connection.standing("g")).missed)
        run_sql(path, "DELETE FROM waiting WHERE id = 3")
        await postponed(lease, "3", "4")
        missed.append((await connection.standing("g")).missed)
        await lease.release()
        run_sql(path, "DELETE FROM waiting")
        assert (positions(given), missed) == (["3", "4"], [1, 2, 3])
        assert await connection.standing("g") == Standing(0, 0, 3, 0, 0)


async def test_what_is_left_and_was_deleted_is_missed(path: Path, clock: Clock) -> None:
    """X12: so is what has waited, where its holder has died."""
    async with one_lease(path, "a") as (connection, lease):
        await lease.receive(Room(9))
        await postponed(lease, "1", delay=0.0)
        await lease.receive(Room(9))
        run_sql(path, "DELETE FROM waiting")
        clock.now += 10
        other = await leased(connection, worker("b"))
        assert (await other.receive(Room(9)), (await connection.standing("g")).missed) == ([], 1)


# When it is given.


async def test_it_is_given_when_it_is_due_and_not_before(path: Path, clock: Clock) -> None:
    """X12: the first due first, whatever their order in the log."""
    async with one_lease(path, "a", "b", "c") as (_, lease):
        await lease.receive(Room(9))
        await postponed(lease, "1", delay=3.0)
        await postponed(lease, "2", delay=1.0)
        await postponed(lease, "3", delay=2.0)
        given = list[list[str]]()
        for _ in range(4):
            given.append(positions(await lease.receive(Room(9))))
            clock.now += 1
        assert given == [[], ["2"], ["3"], ["1"]]


async def test_due_times_outlive_the_process(path: Path, clock: Clock) -> None:
    """X12: what another process had wait is given when it is due, and not before."""
    async with one_lease(path, "a", "b") as (_, lease):
        await lease.receive(Room(9))
        await postponed(lease, "1", delay=20.0)
        await postponed(lease, "2", delay=None)
        await lease.release()
    async with SqliteTransport(path).connect() as connection:
        other = await leased(connection, worker("b"))
        early = await other.receive(Room(9))
        clock.now += 20
        late = await other.receive(Room(9))
        settled = await other.settle([Acknowledged("1"), Followed("k")])
        last = await other.receive(Room(9))
        assert [positions(each) for each in (early, late, last)] == [[], ["1"], ["2"]]
        assert settled == Settled([], [])


async def test_a_clock_that_was_set_back_prolongs_no_wait(path: Path, clock: Clock) -> None:
    """X12: what would be due later than after the longest delay is due then."""
    member = worker()._replace(longest_delay=50.0)
    async with SqliteTransport(path, poll_interval=NEVER).connect() as connection:
        await connection.store(batch(1, "a"))
        lease = await leased(connection, member)
        await lease.receive(Room(9))
        await postponed(lease, "1", delay=40.0)
        clock.now -= 10_000
        early = await lease.receive(Room(9))
        clock.now += 49
        late = await lease.receive(Room(9))
        clock.now += 1
        assert (early, late, positions(await lease.receive(Room(9)))) == ([], [], ["1"])


@pytest.mark.parametrize("means", ["lapse", "release"])
async def test_while_a_lease_lasts_what_waits_by_it_is_its_own(
    path: Path, clock: Clock, means: str
) -> None:
    """X12: others are given what is due once it has run out, or was released."""
    async with one_lease(path, "a", "b") as (connection, lease):
        await lease.receive(Room(9))
        other = await leased(connection, worker("b"))
        await postponed(lease, "1", delay=5.0)
        await postponed(lease, "2", delay=20.0, key="l")
        clock.now += 5
        await other.renew()
        early = await other.receive(Room(9))
        if means == "lapse":
            clock.now += 5
        else:
            await lease.release()
        late = await other.receive(Room(9))
        assert (early, late) == (
            [],
            [Delivery("1", b"a", None, 1, 1, is_suspect=False, has_waited=True)],
        )
        clock.now += 20
        assert positions(await other.receive(Room(9))) == ["2"]
        assert run_sql(path, "SELECT count(*) FROM leases") == [(1 + (means == "lapse"),)]


async def test_one_that_had_run_out_has_what_nobody_took(path: Path, clock: Clock) -> None:
    """X11: also of what waits, and of what is out; the keys that others took went whole."""
    async with one_lease(path, *"abcdef") as (connection, lease):
        await lease.receive(Room(9))
        await postponed(lease, "1", delay=1.0, key="k")
        await postponed(lease, "3", delay=None, key="k")
        await postponed(lease, "2", delay=2.0, key="l")
        await postponed(lease, "4", delay=None, key="l")
        await postponed(lease, "5", delay=0.0, key="m")
        await postponed(lease, "6", delay=None, key="m")
        out = await lease.receive(Room(1))
        other = await leased(connection, worker("b"))
        clock.now += 10
        await other.renew()
        taken = await other.receive(Room(2))
        lost = await lease.renew(["5"])
        mine = await lease.settle([Followed("k"), Followed("l"), Followed("m")])
        given = await lease.receive(Room(9))
        theirs = await other.settle([Acknowledged("1"), Acknowledged("5")])
        assert [positions(each) for each in (out, taken, given)] == [["5"], ["5", "1"], ["2"]]
        assert (lost, mine, theirs) == (["5"], Settled([], ["k", "m"]), Settled([], []))
        assert positions(await other.receive(Room(9))) == ["3", "6"]


# The line of a key.


async def test_those_of_a_key_follow_one_by_one(path: Path, clock: Clock) -> None:
    """X12: in the order of the log, each when it is said; and it is told when none is left."""
    async with one_lease(path, *"abcd") as (_, lease):
        await lease.receive(Room(9))
        await postponed(lease, "2", delay=1.0)
        await postponed(lease, "4", "3", delay=None)
        clock.now += 1
        given, settled = [positions(await lease.receive(Room(9)))], list[Settled]()
        for each in ("2", "3", "4"):
            settled.append(await lease.settle([Acknowledged(each), Followed("k")]))
            given.append(positions(await lease.receive(Room(9))))
        assert given == [["2"], ["3"], ["4"], []]
        assert settled == [Settled([], []), Settled([], []), Settled([], ["k"])]


async def test_without_a_head_it_is_due_at_once(path: Path) -> None:
    """X12: a line has one that is due or out, by the same lease; where it has none, this is it."""
    async with one_lease(path, *"abcde") as (connection, lease):
        await lease.receive(Room(3))
        other = await leased(connection, worker("b"))
        await other.receive(Room(9))
        await postponed(other, "4", delay=9.0)
        await postponed(lease, "2", delay=None)
        await postponed(lease, "1", delay=None)
        await lease.settle([Postponed("3", 1, 0, None, None)])
        first = await lease.receive(Room(9))
        # Also behind one that is out; and one that waits again is not behind itself.
        await postponed(lease, "2", delay=None)
        assert positions(first) == ["2", "3"]
        assert positions(await lease.receive(Room(9))) == ["2"]
        assert positions(await lease.receive(Room(9))) == []


async def test_what_was_done_lets_the_next_in_line_follow(path: Path, clock: Clock) -> None:
    """X11: also where the one before was acknowledged by a lease that had lost it."""
    async with one_lease(path, *"abcd") as (connection, lease):
        await lease.receive(Room(9))
        await postponed(lease, "1", delay=0.0, key="k")
        await postponed(lease, "2", delay=None, key="k")
        await postponed(lease, "3", delay=0.0, key="l")
        await postponed(lease, "4", delay=None, key="l")
        await lease.receive(Room(9))
        other = await leased(connection, worker("b"))
        clock.now += 10
        await other.renew()
        taken = await other.receive(Room(9))
        await postponed(other, "1", delay=1.0, key="k")
        told = await lease.settle([Acknowledged("1"), Acknowledged("3")])
        clock.now += 10
        given = await lease.receive(Room(1)), await lease.receive(Room(1))
        assert (positions(taken), told) == (["1", "3"], Settled(["1", "3"], []))
        assert sorted(positions(given[0]) + positions(given[1])) == ["2", "4"]
        assert await connection.standing("g") == Standing(2, 0, 0, 0, 0)


async def test_what_was_returned_waits_again_due_at_once(path: Path, clock: Clock) -> None:
    """X12: with its key, and with its counts."""
    async with one_lease(path, *"abc") as (_, lease):
        await lease.receive(Room(9))
        await postponed(lease, "1", delay=0.0)
        await postponed(lease, "2", delay=None)
        await lease.receive(Room(9))
        await lease.settle([Returned("1", 2, 0), Returned("3", 0, 0)])
        clock.now += 1
        given = await lease.receive(Room(9))
        settled = await lease.settle([Acknowledged("1"), Followed("k")])
        assert given == [
            Delivery("3", b"c", None, 0, 1, is_suspect=False),
            Delivery("1", b"a", None, 2, 1, is_suspect=False, has_waited=True),
        ]
        assert (settled, positions(await lease.receive(Room(9)))) == (Settled([], []), ["2"])


async def test_the_next_holder_of_a_partition_has_all_that_waits(path: Path, clock: Clock) -> None:
    """X12: where one lease at a time has a partition; it is told the keys of it."""
    async with one_lease(path, partitions=2) as (connection, _):
        records = [Record(each.encode(), each) for each in "abcdefgh"]
        await connection.store(Batch("p", 1, tuple(records)))
        leases = [
            await connection.acquire(worker(), 1),
            await connection.acquire(worker(), 0),
        ]
        lease = leases[0]
        assert lease is not None
        given = await lease.receive(Room(9))
        keys = [each.body.decode() for each in given]
        for each, key in zip(given, keys, strict=True):
            await postponed(lease, each.position, delay=2.0, key=key)
        await postponed(lease, *positions(given)[:1], delay=None, key=keys[0])
        clock.now += 2
        await lease.receive(Room(1))
        clock.now += 10
        other = await leased(connection, worker("b"), 1)
        assert (lease.lines, other.lines) == (frozenset(), frozenset(keys))
        assert positions(await other.receive(Room(9))) == positions(given)


# The room.


async def test_what_has_waited_comes_between_what_is_left_and_what_is_new(
    path: Path, clock: Clock
) -> None:
    """X12: as many as `again` says."""
    async with one_lease(path, *"abcdefgh") as (connection, lease):
        await lease.receive(Room(4))
        await postponed(lease, "1", "2", "3", delay=0.0)
        dead = await leased(connection, worker("b"))
        await dead.receive(Room(1))
        await dead.release()
        rooms = [Room(9, again=0), Room(3, again=2), Room(9)]
        given = list[list[str]]()
        for room in (Room(4, again=1), Room(2, again=0), *rooms[1:]):
            given.append(positions(await lease.receive(room)))
        assert given == [["5", "1", "6", "7"], ["8"], ["2", "3"], []]


async def test_nothing_new_is_given_where_too_much_waits(path: Path, clock: Clock) -> None:
    """X12: what was let go is, and what is due; what is out does not count."""
    async with one_lease(path, *"abcdef") as (_, lease):
        room = Room(1, waiting=2)
        await lease.receive(Room(4))
        await postponed(lease, "1", "2", delay=5.0, key="k")
        await lease.settle([Returned("3", 0, 0)])
        given = [positions(await lease.receive(room)) for _ in range(2)]
        clock.now += 5
        given += [positions(await lease.receive(room)) for _ in range(3)]
        assert given == [["3"], [], ["1"], ["2"], ["5"]]


# Waiting for it.


@pytest.mark.parametrize("means", ["due", "run out", "follow", "store"])
async def test_who_waits_is_woken_when_there_is_something(
    path: Path, clock: Clock, means: str
) -> None:
    """X12: whatever the poll interval is, by the time and by what happens in the same loop."""
    async with one_lease(path, "a", "b") as (connection, lease):
        await lease.receive(Room(9))
        await postponed(lease, "1", delay=9.99 if means == "due" else 25.0)
        await postponed(lease, "2", delay=None)
        if means == "follow":
            clock.now += 25
            assert positions(await lease.receive(Room(1))) == ["1"]
        other = await leased(connection, worker("b"))
        clock.now += 9.98
        waiter = other if means == "run out" else lease

        async def act() -> None:
            await anyio.wait_all_tasks_blocked()
            if means in ("due", "run out"):
                clock.now += 20
            elif means == "follow":
                await lease.settle([Acknowledged("1"), Followed("k")])
            else:
                await connection.store(batch(2, "c"))

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(act)
                await waiter.wait(NEVER)
        assert len(await waiter.receive(Room(1))) == 1


async def test_who_is_given_nothing_waits(path: Path, clock: Clock) -> None:
    """X12: what does not fit into the room of the last `receive` wakes nobody."""
    async with one_lease(path, "a", "b") as (connection, lease):
        await lease.receive(Room(1))
        await postponed(lease, "1", delay=5.0)
        await lease.receive(Room(1, waiting=1))
        with anyio.move_on_after(0.01) as full:
            await lease.wait(NEVER)
        await connection.join(worker("b", "g", "**"))
        with anyio.move_on_after(0.01) as standing_by:
            await lease.wait(NEVER)
        assert (full.cancelled_caught, standing_by.cancelled_caught) == (True, True)


async def test_what_a_cancelled_call_has_left_is_not_waited_for(path: Path) -> None:
    """X12: the next `receive` has something to give at once."""
    async with one_lease(path, "a") as (_, lease):
        inner: Any = lease
        await inner._give(Room(1))
        with anyio.fail_after(PATIENCE):
            await lease.wait(NEVER)
        assert positions(await lease.receive(Room(1))) == ["1"]


# All of it together.


@pytest.mark.unmeasured
@pytest.mark.parametrize("partitions", [None, 2])
@pytest.mark.parametrize("seed", range(2))
async def test_it_waits_as_the_transport_in_memory_does(
    path: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    partitions: int | None,
) -> None:
    """X11, X12: the same calls, drawn at random, have the same results; and the books balance."""
    monkeypatch.setattr(memory_module, "anyio", _Clocked(clock))
    options: dict[str, Any] = {"partitions": partitions, "max_length": 40, "max_event_bytes": 30}
    begun = clock.now
    ours = await _history(SqliteTransport(path, **options), clock, Random(seed))
    clock.now = begun
    theirs = await _history(MemoryTransport(**options), clock, Random(seed))
    waiting, kept, counted = books(path)
    assert ours == theirs
    assert waiting == kept == counted


class _Clocked:
    """AnyIO, with the machine's clock as that of its loop."""

    def __init__(self, clock: Clock) -> None:
        self.current_time = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(anyio, name)


Leases = dict[tuple[str, int], Lease]


async def _history(
    transport: SqliteTransport | MemoryTransport, clock: Clock, random: Random
) -> list[Any]:
    """Do 120 things, and tell what came of each."""
    history, leases = list[Any](), Leases()
    async with transport.connect() as connection:
        for turn in range(120):
            clock.now += random.choice([0, 0.1, 1, 3])
            place = random.choice("abc"), random.randrange(connection.partitions)
            if random.random() < 0.25:
                history.append(await _stored(connection, turn, random))
            elif place in leases:
                history.append(await _use(leases, place, random, history))
            else:
                await _acquire(connection, leases, place)
            for lease in leases.values():
                # None is lost: what others may take of one that is, is tested apart.
                await lease.renew()
            history.append(await connection.standing("g"))
    return history


async def _use(
    leases: Leases, place: tuple[str, int], random: Random, history: Sequence[Any]
) -> Any:
    lease = leases[place]
    match random.randrange(8):
        case 0 | 1 | 2 | 3:
            return [*await lease.receive(_room(random))]
        case 4 | 5 | 6:
            return await _settle(lease, random, history)
        case _:
            return await leases.pop(place).release()


def _room(random: Random) -> Room:
    size, waiting = random.choice([30, 60, 10**6]), random.choice([2, 10**6, 10**6])
    return Room(random.choice([1, 3, 9]), size, waiting, random.choice([0, 1, 10**6]))


async def _stored(connection: Connection, turn: int, random: Random) -> str:
    records = tuple(
        Record(b"x" * random.randrange(25) + str(turn).encode(), random.choice("kl"))
        for _ in range(random.randint(1, 5))
    )
    try:
        await connection.store(Batch("p", turn + 1, records))
    except LogFull:
        return "full"
    return "stored"


async def _acquire(connection: Connection, leases: Leases, place: tuple[str, int]) -> None:
    name, partition = place
    member = Member("g", name, name, ("*",), 1000.0, 50.0)
    await connection.join(member)
    lease = await connection.acquire(member, partition)
    if lease is not None:
        leases[place] = lease


async def _settle(lease: Lease, random: Random, history: Sequence[Any]) -> tuple[Settled, Settled]:
    """Settle some of what was given last, and of that what is held, twice."""
    given = _last_given(history)
    lost = set(await lease.renew(positions(given)))
    held = [each for each in positions(given) if each not in lost]
    keys = [random.choice("kl") for _ in held]
    outcomes = [_outcome(random, *each) for each in zip(held, keys, strict=True)]
    repeated = [each for each in outcomes if not isinstance(each, Noted)]
    followed = [Followed(each) for each in keys if random.random() < 0.5]
    settled = await lease.settle([*outcomes, *followed])
    again = await lease.settle(repeated)
    return _plain(settled), _plain(again)


def _last_given(history: Sequence[Any]) -> list[Delivery]:
    for each in reversed(history):
        if isinstance(each, list) and each:
            return cast("list[Delivery]", each)
    return []


def _plain(settled: Settled) -> Settled:
    return Settled([*settled.lost], [*settled.over])


def _outcome(random: Random, position: str, key: str) -> Outcome:
    counts = random.randint(0, 3), random.randint(0, 2)
    match random.randrange(8):
        case 0 | 1:
            return Acknowledged(position)
        case 2:
            return Noted(position, *counts)
        case 3:
            return Returned(position, *counts)
        case 4:
            return Buried(position, *counts, FAILURE)
        case 5:
            return Postponed(position, *counts, None, key)
        case _:
            return Postponed(position, *counts, random.choice([0, 1.0, 5.0]), key)
