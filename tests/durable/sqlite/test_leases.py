"""Leases of the SQLite transport that have run out, and patterns that a deploy changes."""

from pathlib import Path
from typing import Any

import pytest

from flexiflow.extras.durable import (
    Acknowledged,
    Buried,
    Delivery,
    Followed,
    GroupMismatch,
    Lease,
    LeaseLost,
    Noted,
    Outcome,
    Postponed,
    Returned,
    Room,
    Settled,
    SqliteTransport,
    Standing,
)
from flexiflow.extras.durable._membership import KEPT_FOR
from flexiflow.extras.durable._sqlite import giving
from tests.durable.sqlite.files import (
    FAILURE,
    Clock,
    batch,
    leased,
    one_lease,
    positions,
    run_sql,
    worker,
)

pytestmark = pytest.mark.same_everywhere


@pytest.mark.parametrize("partitions", [None, 1])
async def test_a_lease_that_has_run_out_goes_on_alone(
    path: Path, clock: Clock, partitions: int | None
) -> None:
    """X11: what no other was given is held still, and is no suspect."""
    async with one_lease(path, "a", "b", partitions=partitions) as (connection, lease):
        await lease.receive(Room(1))
        clock.now += 1000
        settled = await lease.settle([Acknowledged("1")])
        given = await lease.receive(Room(9))
        clock.now += 1000
        lost = await lease.renew(["2"])
        assert (settled, lost) == (Settled([], []), [])
        assert given == [Delivery("2", b"b", None, 0, 1, is_suspect=False)]
        assert await connection.standing("g") == Standing(1, 0, 0, 0)


async def test_what_another_was_given_is_lost_and_nothing_else(path: Path, clock: Clock) -> None:
    """X11: ownership is one of each record; what nobody was given is had back."""
    async with one_lease(path, "a", "b", "c") as (connection, lease):
        await lease.receive(Room(3))
        other = await leased(connection, worker("b"))
        clock.now += 10
        await other.renew()
        given = await other.receive(Room(1))
        lost = await lease.renew(["1", "2", "3"])
        after = await other.receive(Room(9))
        settled = await lease.settle([Acknowledged(each) for each in "123"])
        assert (given, lost) == ([Delivery("1", b"a", None, 0, 1, is_suspect=True)], ["1"])
        assert (after, settled) == ([], Settled(["1"], []))
        assert await connection.standing("g") == Standing(1, 0, 0, 0)


async def two_that_held(connection: Any, lease: Lease, clock: Clock) -> Lease:
    """Have a record given to a second lease, as the first one's runs out; give the second."""
    await lease.receive(Room(1))
    other = await leased(connection, worker("b"))
    clock.now += 10
    await other.renew()
    assert positions(await other.receive(Room(1))) == ["1"]
    await other.settle([Noted("1", 1, 3)])
    return other


@pytest.mark.parametrize(
    ("outcome", "counts"),
    [
        (Acknowledged("1"), (1, 1)),
        (Noted("1", 7, 0), (1, 3)),
        (Returned("1", 2, 0), (2, 1)),
        (Returned("1", 0, 0), (1, 1)),
        (Buried("1", 4, 1, FAILURE), (4, 1)),
        (Postponed("1", 5, 0, 1.0, None), (5, 1)),
        (Postponed("1", 5, 0, None, "k"), (5, 1)),
    ],
)
async def test_one_that_was_overtaken_only_tells_that_its_attempt_ended(
    path: Path, clock: Clock, outcome: Outcome, counts: tuple[int, int]
) -> None:
    """X11: nothing of a later holder is overwritten, however often that is told."""
    async with one_lease(path, "a") as (connection, lease):
        other = await two_that_held(connection, lease, clock)
        settled = [await lease.settle([outcome]), await lease.settle([outcome])]
        held = await other.renew(["1"]), await connection.standing("g")
        await other.settle([])
        await connection.dead_letters("g")
        rows = run_sql(path, "SELECT attempts, deliveries, holder FROM pending")
        assert settled == [Settled(["1"], []), Settled(["1"], [])]
        assert held == ([], Standing(1, 0, 0, 0))
        assert rows == [(*counts, other.token)]


@pytest.mark.parametrize("means", ["lapse", "return", "release", "postpone", "keyless", "bury"])
async def test_what_was_handled_is_not_given_again(path: Path, clock: Clock, means: str) -> None:
    """X11: one that was acknowledged too late is settled when its later holder lets it go."""
    async with one_lease(path, "a") as (connection, lease):
        other = await two_that_held(connection, lease, clock)
        await lease.settle([Acknowledged("1")])
        outcomes: dict[str, Outcome] = {
            "return": Returned("1", 1, 1),
            "postpone": Postponed("1", 1, 1, 5.0, "k"),
            "keyless": Postponed("1", 1, 1, 5.0, None),
            "bury": Buried("1", 1, 1, FAILURE),
        }
        if means == "release":
            await other.release()
        elif means in outcomes:
            await other.settle([outcomes[means]])
        clock.now += 11
        third = await leased(connection, worker("c"))
        given = [*await third.receive(Room(9)), *await lease.receive(Room(9))]
        # The one that holds it may well give it up.
        dead = int(means == "bury")
        assert (given, await connection.standing("g")) == ([], Standing(0, 0, 0, dead))


async def test_a_batch_that_is_settled_again_changes_nothing(path: Path) -> None:
    """X2: what a lost answer has repeated is settled, and held by no other."""
    async with one_lease(path, "a", "b") as (connection, lease):
        await lease.receive(Room(2))
        outcomes: list[Outcome] = [Acknowledged("1"), Buried("2", 1, 0, FAILURE)]
        settled = [await lease.settle(outcomes), await lease.settle(outcomes)]
        assert settled == [Settled([], [])] * 2
        assert await connection.standing("g") == Standing(0, 0, 0, 1)


async def test_beside_one_that_is_lost_another_is_noted(path: Path, clock: Clock) -> None:
    """X11: of one batch, only what another lease was given is lost."""
    async with one_lease(path, "a", "b") as (connection, lease):
        await two_that_held(connection, lease, clock)
        assert positions(await lease.receive(Room(1))) == ["2"]
        settled = await lease.settle([Noted("1", 7, 7), Noted("2", 4, 5)])
        rows = run_sql(path, "SELECT attempts, deliveries FROM pending ORDER BY id")
        assert (settled, rows) == (Settled(["1"], []), [(1, 3), (4, 5)])


async def test_what_is_over_is_not_asked_of_a_lease_that_is_gone(path: Path, clock: Clock) -> None:
    """X11: it tells only which attempts have ended."""
    async with one_lease(path, "a") as (connection, lease):
        await two_that_held(connection, lease, clock)
        await lease.release()
        with pytest.raises(LeaseLost):
            await lease.settle([Followed("k"), Acknowledged("1")])
        assert run_sql(path, "SELECT done FROM pending") == [(1,)]


async def test_what_was_returned_belongs_to_nobody(path: Path) -> None:
    """X11: to settle it again changes nothing, but that it was handled."""
    async with one_lease(path, "a", "b") as (_, lease):
        await lease.receive(Room(2))
        await lease.settle([Returned("1", 1, 0), Returned("2", 0, 0)])
        again = await lease.settle([Buried("2", 9, 9, FAILURE), Acknowledged("1")])
        given = await lease.receive(Room(9))
        assert (again, given) == (
            Settled([], []),
            [Delivery("2", b"b", None, 0, 1, is_suspect=False)],
        )


async def test_a_lease_is_kept_while_its_worker_may_report(path: Path, clock: Clock) -> None:
    """X11: one that has run out and holds nothing is deleted in the end, and only such a one."""
    async with one_lease(path, "a", "b") as (connection, lease):
        keeper = await leased(connection, worker("c"))
        await lease.receive(Room(1))
        await keeper.receive(Room(1))
        clock.now += 10
        other = await leased(connection, worker("b"))
        await other.receive(Room(1))
        clock.now += KEPT_FOR - 1
        await other.receive(Room(9))
        early = await lease.renew(["1"])
        clock.now += KEPT_FOR + 10
        # The first time it takes all that others hold.
        await other.receive(Room(9))
        await connection.store(batch(2, "c"))
        await other.receive(Room(9))
        with pytest.raises(LeaseLost):
            await lease.renew()
        tokens = run_sql(path, "SELECT token FROM leases ORDER BY token")
        assert (early, tokens) == (["1"], [(other.token,)])


async def test_a_lease_that_has_run_out_and_may_have_something_back_stays(
    path: Path, clock: Clock
) -> None:
    """X11: as long as something of it was given to no other, it may renew, whenever that is."""
    async with one_lease(path, "a", "b") as (connection, lease):
        await lease.receive(Room(2))
        other = await leased(connection, worker("b"))
        clock.now += 10 * KEPT_FOR
        await other.receive(Room(1))
        assert await lease.renew(["1", "2"]) == ["1"]


async def test_a_partition_that_was_leased_to_another_is_lost(path: Path, clock: Clock) -> None:
    """X11: where one at a time has the partition, all is the next one's that was not handled."""
    async with one_lease(path, "a", "b", partitions=1) as (connection, lease):
        await lease.receive(Room(1))
        clock.now += 10
        other = await leased(connection, worker("b"))
        calls = (
            lease.renew,
            lease.release,
            lambda: lease.settle([Acknowledged("1")]),
            lambda: lease.receive(Room(1)),
        )
        for call in calls:
            with pytest.raises(LeaseLost):
                await call()
        given = await other.receive(Room(9))
        assert [(each.position, each.is_suspect) for each in given] == [("2", False)]


async def test_a_clock_that_was_set_back_lets_a_lease_go_on(path: Path, clock: Clock) -> None:
    """X11: others count it as over; what they were not given it holds, and it can renew."""
    async with one_lease(path, "a", "b") as (connection, lease):
        await lease.receive(Room(2))
        clock.now -= 5000
        other = await leased(connection, worker("b"))
        await other.receive(Room(1))
        lost = await lease.renew(["1", "2"])
        assert (lost, positions(await other.receive(Room(9)))) == (["1"], [])


async def test_what_nobody_took_and_others_were_given_is_not_given(
    path: Path, clock: Clock
) -> None:
    """X11: a receive that was cancelled leaves what it was given to those that may have it."""
    async with one_lease(path, "a", "b", "c") as (connection, lease):
        inner: Any = lease
        await inner._give(Room(3, 10**6))
        clock.now += 10
        other = await leased(connection, worker("b"))
        await other.receive(Room(1))
        await lease.renew()
        given = await lease.receive(Room(2, 1)), await lease.receive(Room(9))
        assert [positions(each) for each in given] == [["2"], ["3"]]
        assert positions(await other.receive(Room(9))) == []


async def test_a_worker_that_died_lets_others_have_all_it_held(path: Path, clock: Clock) -> None:
    """X11: leases outlive the process in which they were, until they run out."""
    async with one_lease(path, "a", "b") as (_, lease):
        await lease.receive(Room(9))
        await lease.settle([Postponed("2", 1, 0, 3.0, None)])
    async with SqliteTransport(path).connect() as connection:
        other = await leased(connection, worker("b"))
        early = await other.receive(Room(9))
        clock.now += 10
        late = await other.receive(Room(9))
        assert early == []
        assert late == [
            Delivery("1", b"a", None, 0, 1, is_suspect=True),
            Delivery("2", b"b", None, 1, 1, is_suspect=False, has_waited=True),
        ]


# Whose patterns a group takes.


async def test_a_worker_that_takes_more_takes_over(path: Path) -> None:
    """X15: those that take less stand by, settle what they hold, and are given nothing."""
    small, large = worker("a", "g", "x.*"), worker("b", "g", "x.*", "y")
    async with SqliteTransport(path).connect() as connection:
        await connection.store(batch(1, "a", "b"))
        lease = await leased(connection, small)
        await lease.receive(Room(1))
        joined = await connection.join(large), await connection.join(small)
        refused = await connection.acquire(small, 0), await lease.receive(Room(9))
        settled = await lease.settle([Returned("1", 0, 0)]), await lease.renew()
        other = await connection.acquire(large, 0)
        assert other is not None
        assert (joined, refused) == ((["b"], ["b"]), (None, []))
        assert settled == (Settled([], []), [])
        assert positions(await other.receive(Room(9))) == ["1", "2"]


async def test_a_worker_that_takes_more_may_come_after_the_look(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X15: what was seen before it joined is not given after that."""
    look = giving.ahead

    def look_before_a_change(*args: Any) -> float:
        ahead = look(*args)
        run_sql(path, "UPDATE groups SET patterns = 'others'")
        return ahead

    monkeypatch.setattr(giving, "ahead", look_before_a_change)
    async with one_lease(path, "a") as (connection, lease):
        assert await lease.receive(Room(1)) == []
        assert await connection.standing("g") == Standing(0, 1, 0, 0)


async def test_once_it_has_left_the_others_go_on(path: Path, clock: Clock) -> None:
    """X15: a deploy that was taken back, or died, leaves the group to those that are there."""
    small, large = worker("a", "g", "x.*"), worker("b", "g", "x.*", "y")
    async with SqliteTransport(path).connect() as connection:
        await connection.store(batch(1, "a"))
        lease = await leased(connection, small)
        await connection.join(large)
        clock.now += 5
        await connection.join(small)
        before = await lease.receive(Room(9))
        clock.now += 5
        joined = await connection.join(small)
        assert (before, joined, positions(await lease.receive(Room(9)))) == ([], ["a"], ["1"])


async def test_patterns_that_do_not_include_each_other_are_refused(path: Path) -> None:
    """X15: a worker that takes neither all these events nor only some is no member."""
    async with SqliteTransport(path).connect() as connection:
        await connection.join(worker("a", "g", "x", "y"))
        with pytest.raises(GroupMismatch, match=r"takes x, y, and this one would take z:"):
            await connection.join(worker("b", "g", "z"))
        names = await connection.join(worker("a", "g", "x", "y"))
        await connection.leave(worker("a", "g", "x", "y"))
        assert (names, await connection.join(worker("b", "g", "z"))) == (["a"], ["b"])
