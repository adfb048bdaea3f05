"""The transport in memory: where a group begins, and begins again (Y5)."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from flexiflow.extras.durable import (
    Acknowledged,
    Batch,
    Buried,
    Connection,
    Failure,
    Lease,
    LeaseLost,
    LogFull,
    Member,
    MemoryTransport,
    Noted,
    Outcome,
    Postponed,
    Record,
    Replayed,
    Returned,
    Room,
    Standing,
    Start,
    StartTrimmed,
)
from flexiflow.extras.durable._memory.log import Log
from flexiflow.extras.durable._starts import begin_again
from flexiflow.testing import replay

MEMBER = Member("g", "a", "1", ("order.*",), 10.0, 1000.0)
OTHER = MEMBER._replace(consumer="b")
NO = Failure("builtins.OSError", "no", "")


def play(backend: str, scenario: Callable[[Connection], Awaitable[Any]], **options: Any) -> Any:
    """Run a scenario with a new transport, in virtual time."""

    async def main() -> Any:
        async with MemoryTransport(**options).connect() as connection:
            return await scenario(connection)

    return replay(main, backend=backend, decisions=())


def batch(number: int, bodies: str, key: str | None = None) -> Batch:
    """Make a batch of records, each of one letter."""
    return Batch("p", number, tuple(Record(each.encode(), key) for each in bodies))


async def leased(connection: Connection, member: Member = MEMBER, partition: int = 0) -> Lease:
    """Join, and acquire a partition."""
    await connection.join(member)
    lease = await connection.acquire(member, partition)
    assert lease is not None
    return lease


async def given(lease: Lease, records: int = 100) -> str:
    """Receive records, and return their bodies."""
    return "".join(each.body.decode() for each in await lease.receive(Room(records)))


async def is_lost(lease: Lease, *outcomes: Outcome) -> bool:
    """Return whether a lease is lost, for all that it can do."""
    calls: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: lease.settle(outcomes),
        lambda: lease.receive(Room(1)),
        lambda: lease.wait(0),
        lease.renew,
        lease.release,
    )
    for call in calls:
        with pytest.raises(LeaseLost):
            await call()
    return True


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("oldest", "bcdef"),
        ("new", "f"),
        (("2",), "cdef"),
        (("4",), "ef"),
        (("5",), "f"),
        (0.0, "bcdef"),
        (20.0, "def"),
        (21, "ef"),
        (1_000.0, "f"),
    ],
)
def test_a_group_begins_where_its_first_member_says(
    backend: str, start: Start, expected: str
) -> None:
    """Y5: at a place of the log, or a time; what later members say is ignored."""

    async def scenario(connection: Connection) -> Any:
        began = (await connection.survey()).now
        for number, bodies in enumerate(("abc", "d", "e"), 1):
            await connection.store(batch(number, bodies))
            await anyio.sleep(20)
        begins = began + start if isinstance(start, int | float) else start
        await connection.join(MEMBER._replace(start=begins))
        lease = await leased(connection, OTHER._replace(start="new"))
        came = await lease.receive(Room(9))
        await lease.settle([Acknowledged(each.position) for each in came])
        await connection.store(batch(4, "f"))
        before = "".join(each.body.decode() for each in came)
        return before + await given(lease), await connection.standing("g")

    # The log holds four records, and no group has needed the first one.
    assert play(backend, scenario, max_length=4) == (expected, Standing(1, 0, 0, 0))


async def test_a_group_begins_at_a_place_in_each_partition() -> None:
    """Y5: a position for each, in their order."""
    async with MemoryTransport(partitions=2).connect() as connection:
        await connection.store(batch(1, "abcd", "k"))
        await connection.store(batch(2, "wxyz", "l"))
        _, ends = await connection.tail(["0", "0"], 3, 0)
        assert ends == ["3", "3"]
        await connection.join(MEMBER._replace(start=("1", "3")))
        leases = [await leased(connection, MEMBER, each) for each in (0, 1)]
        assert [await given(each) for each in leases] == ["xyz", "d"]


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (("1",), r"a position for each of the 2 partitions, not \('1',\)"),
        (("0", "x"), "position of partition 1 must be a number of at most 2, as .* not 'x'"),
        (("3", "0"), "position of partition 0 must be a number of at most 2, as .* not '3'"),
        (("-1", "0"), "position of partition 0 must be a number of at most 2, as .* not '-1'"),
        ("newest", "must be 'oldest', 'new', a time, or a position .*, not 'newest'"),
    ],
)
async def test_a_position_must_be_one(start: Any, told: str) -> None:
    """Y5: of each partition, and there, or a known word; what is refused changes nothing."""
    async with MemoryTransport(partitions=2).connect() as connection:
        for number, key in enumerate("kl", 1):
            await connection.store(batch(number, "ab", key))
        with pytest.raises(ValueError, match=told):
            await connection.join(MEMBER._replace(start=start))
        assert await connection.groups() == []
        lease = await leased(connection)
        with pytest.raises(ValueError, match=told):
            await connection.replay("g", start)
        assert len(await given(lease)) == 2


async def test_a_start_that_was_trimmed_is_refused() -> None:
    """Y5: where records behind a position were deleted no group begins; one begins again there."""
    async with MemoryTransport(max_length=2).connect() as connection:
        await connection.store(batch(1, "ab"))
        await connection.store(batch(2, "cd"))
        with pytest.raises(StartTrimmed, match="can't begin behind position 1 of partition 0: ev"):
            await connection.join(MEMBER._replace(start=("1",)))
        assert await connection.groups() == []
        lease = await leased(connection, MEMBER._replace(start="new"))
        assert await connection.replay("g", ("1",)) == Replayed(("2",), is_complete=False)
        assert await is_lost(lease)
        assert await given(await leased(connection)) == "cd"
        assert await connection.standing("g") == Standing(2, 0, 0, 0)


async def test_a_group_that_is_not_there_does_not_begin_again() -> None:
    """Y5: it can begin wherever its first member says."""
    async with MemoryTransport().connect() as connection:
        with pytest.raises(ValueError, match="there is no group 'g'"):
            await connection.replay("g", "oldest")


@pytest.mark.parametrize(
    ("since", "is_complete", "expected"),
    [
        ("oldest", True, "cde"),
        ("new", True, ""),
        (("3",), True, "de"),
        (("1",), False, "cde"),
        (0.0, False, "cde"),
        (1.0, True, "cde"),
        (20.0, True, "de"),
    ],
)
def test_it_tells_whether_all_is_kept(
    backend: str, since: Start, *, is_complete: bool, expected: str
) -> None:
    """Y5: of all records since then, as far as the transport can know; what is gone is no miss."""

    async def scenario(connection: Connection) -> Any:
        began = (await connection.survey()).now
        await connection.join(MEMBER)
        for number, bodies in enumerate(("ab", "c", "d", "e"), 1):
            await connection.store(batch(number, bodies))
            lease = await leased(connection)
            settled = [Acknowledged(each.position) for each in await lease.receive(Room(9))]
            await lease.settle(settled)
            await lease.release()
            await anyio.sleep(10)
        begin = began + since if isinstance(since, float) else since
        replayed = await connection.replay("g", begin)
        bodies = await given(await leased(connection))
        return replayed.is_complete, bodies, (await connection.standing("g")).missed

    assert play(backend, scenario, max_length=3) == (is_complete, expected, 0)


async def test_what_was_deleted_may_have_been_late() -> None:
    """Y5: where its time is not known, a replay at a time does not tell that all is kept."""
    transport = MemoryTransport(max_length=1)
    transport._state.logs[0].append(Record(b"else"))
    async with transport.connect() as connection:
        await connection.join(MEMBER._replace(start="new"))
        now = (await connection.survey()).now
        await connection.store(batch(1, "a"))
        assert await connection.replay("g", now - 1.0) == Replayed(("1",), is_complete=False)


def test_what_was_deleted_first_may_have_been_stored_latest() -> None:
    """Y5: where the clock was set back meanwhile."""
    log = Log(0, 600.0)
    for time in (100.0, 50.0, 50.0):
        log.append(Record(b"a"), time)
    assert log.make_room(2, floor=3, now=60.0)
    assert begin_again([log], 80.0) == ([3], Replayed(("3",), is_complete=False))


@pytest.mark.parametrize("partitions", [None, 1])
@pytest.mark.parametrize(
    ("since", "again", "standing"),
    [
        ("0", "abcdefg", Standing(7, 0, 0, 0, 0)),
        ("2", "cdefg", Standing(5, 0, 0, 1, 0)),
        ("4", "cefg", Standing(4, 0, 0, 1, 1)),
        ("6", "cefg", Standing(4, 0, 0, 1, 1)),
        ("7", "cef", Standing(3, 0, 0, 1, 1)),
    ],
)
def test_what_comes_after_is_given_anew(
    backend: str, partitions: int | None, since: str, again: str, standing: Standing
) -> None:
    """Y5: acknowledged, dead, held, waiting, or new; what comes before stays as it is."""

    async def scenario(connection: Connection) -> Any:
        await connection.store(batch(1, "abcdefg"))
        lease = await leased(connection)
        a, b, c, d, e, _ = [each.position for each in await lease.receive(Room(6))]
        await lease.settle([Acknowledged(a), Buried(b, 1, 1, NO), Noted(c, 2, 1)])
        await lease.settle([Postponed(d, 1, 0, 500.0, "k"), Postponed(e, 1, 0, 0.0, None)])
        # E is held again, F is held.
        await lease.receive(Room(1, waiting=1))
        await lease.settle([Noted(e, 3, 1)])
        replayed = await connection.replay("g", (since,))
        assert replayed == Replayed((since,), is_complete=True)
        assert await is_lost(lease, Acknowledged(c), Acknowledged("6"))
        later = await leased(connection)
        assert lease.replay < later.replay
        bodies = sorted(await given(later))
        told = await connection.standing("g")
        letters = [each.body for each in await connection.dead_letters("g")]
        assert letters == [b"b"][: told.dead]
        return "".join(bodies), told

    assert play(backend, scenario, partitions=partitions) == (again, standing)


def test_what_stays_keeps_its_counts_and_its_time(backend: str) -> None:
    """Y5: what comes before the place is given with its counts, or when its delay is over."""

    async def scenario(connection: Connection) -> Any:
        await connection.store(batch(1, "abc"))
        lease = await leased(connection)
        a, b, _ = [each.position for each in await lease.receive(Room(3))]
        await lease.settle([Noted(a, 2, 1), Postponed(b, 1, 0, 500.0, "k")])
        await connection.replay("g", ("2",))
        later = await leased(connection)
        before = [each[1:6] for each in await later.receive(Room(9))]
        await anyio.sleep(500)
        return before, [each[1:6] for each in await later.receive(Room(9))]

    before, after = play(backend, scenario)
    assert before == [(b"a", None, 2, 1, True), (b"c", None, 0, 1, False)]
    assert after == [(b"b", None, 1, 1, False)]


@pytest.mark.parametrize("how", [Returned("1", 0, 1), Noted("1", 1, 1)])
async def test_a_stale_lease_settles_nothing_of_what_is_given_anew(how: Outcome) -> None:
    """Y5: what a worker was given before the group began again is not what another has now."""
    async with MemoryTransport().connect() as connection:
        await connection.store(batch(1, "a"))
        stale = await leased(connection)
        await stale.receive(Room(1))
        await connection.replay("g", "oldest")
        lease = await leased(connection, OTHER)
        assert await given(lease) == "a"
        await lease.settle([how])
        assert await is_lost(stale, Acknowledged("1"))
        await lease.release()
        assert await given(await leased(connection, OTHER)) == "a"


@pytest.mark.parametrize("partitions", [None, 1])
async def test_a_line_goes_on_whose_first_is_given_anew(partitions: int | None) -> None:
    """Y5: a copy that waits behind what is given anew is due at once; it would wait for ever."""
    async with MemoryTransport(partitions=partitions).connect() as connection:
        await connection.store(batch(1, "ab", "k"))
        lease = await leased(connection)
        a, b = [each.position for each in await lease.receive(Room(2))]
        await lease.settle([Buried(a, 1, 1, NO)])
        [letter] = await connection.dead_letters("g")
        await connection.redrive("g", [letter.id])
        [copy] = await lease.receive(Room(1))
        await lease.settle([Postponed(b, 1, 0, 900.0, "k")])
        await lease.settle([Postponed(copy.position, 1, 0, None, "k")])
        await connection.replay("g", ("1",))
        later = await leased(connection)
        assert sorted(await given(later)) == ["a", "b"]
        assert await connection.standing("g") == Standing(2, 0, 0, 0)


class TestWhatWasRedriven:
    """A copy counts as being where the record is that it is a copy of."""

    @staticmethod
    async def redriven(connection: Connection) -> Lease:
        """Redrive the first of two records, and be given the copy."""
        await connection.store(batch(1, "ab"))
        lease = await leased(connection)
        given = await lease.receive(Room(2))
        await lease.settle([Buried(given[0].position, 1, 1, NO), Acknowledged(given[1].position)])
        [letter] = await connection.dead_letters("g")
        await connection.redrive("g", [letter.id])
        return lease

    @pytest.mark.parametrize("state", ["new", "held", "waiting", "dead", "settled"])
    async def test_is_passed_over_if_its_original_is_given_anew(self, state: str) -> None:
        """Y5: in whatever state it is; else an event would be handled twice."""
        async with MemoryTransport().connect() as connection:
            lease = await self.redriven(connection)
            await self.settle(lease, state)
            await connection.replay("g", "oldest")
            assert await connection.standing("g") == Standing(0, 2, 0, 0)
            later = await leased(connection)
            assert await given(later) == "ab"
            assert await connection.standing("g") == Standing(2, 0, 0, 0)
            await connection.store(batch(2, "c"))
            assert await given(later) == "c"

    @pytest.mark.parametrize("times", [1, 2])
    @pytest.mark.parametrize(
        ("state", "again"), [("new", "a"), ("held", "a"), ("waiting", "a"), ("dead", ""), ("", "")]
    )
    async def test_stays_as_it_is_if_its_original_does(
        self, state: str, again: str, times: int
    ) -> None:
        """Y5: else an event would be lost."""
        async with MemoryTransport().connect() as connection:
            lease = await self.redriven(connection)
            await self.settle(lease, state or "settled")
            for _ in range(times):
                await connection.replay("g", ("1",))
            later = await leased(connection)
            assert sorted(await given(later)) == sorted(again + "b")
            assert (await connection.standing("g")).dead == (state == "dead")
            await connection.store(batch(2, "c"))
            assert await given(later) == "c"

    async def test_makes_no_room_while_it_is_pending_behind(self) -> None:
        """Y5, X5: what is given anew is not deleted."""
        async with MemoryTransport(max_length=3).connect() as connection:
            lease = await self.redriven(connection)
            await self.settle(lease, "held")
            await connection.replay("g", ("1",))
            await connection.store(batch(2, "c"))
            with pytest.raises(LogFull):
                await connection.store(batch(3, "d"))
            assert sorted(await given(await leased(connection))) == ["a", "b", "c"]

    @staticmethod
    async def settle(lease: Lease, state: str) -> None:
        """Bring the copy into a state."""
        outcomes: dict[str, Outcome] = {
            "waiting": Postponed("3", 1, 0, 0.0, None),
            "dead": Buried("3", 1, 1, NO),
            "settled": Acknowledged("3"),
        }
        if state != "new":
            assert await given(lease) == "a"
        if state in outcomes:
            await lease.settle([outcomes[state]])


async def test_what_was_deleted_is_not_missed() -> None:
    """Y5: behind the transport's back, too, before the group began again; later it is missed."""
    transport = MemoryTransport()
    async with transport.connect() as connection:
        await connection.store(batch(1, "abcd"))
        lease = await leased(connection)
        await lease.settle([Acknowledged(each.position) for each in await lease.receive(Room(4))])
        del transport._state.logs[0].records[2]
        assert await connection.replay("g", "oldest") == Replayed(("0",), is_complete=False)
        del transport._state.logs[0].records[3]
        assert await given(await leased(connection)) == "ad"
        assert await connection.standing("g") == Standing(2, 0, 1, 0)
