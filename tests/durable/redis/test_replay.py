"""The transport on Redis: where a group begins, and begins again (Y5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flexiflow.extras._redis.script import Script, digest_of
from flexiflow.extras.durable import (
    Acknowledged,
    Batch,
    Buried,
    LeaseLost,
    Member,
    Noted,
    Postponed,
    Record,
    Replayed,
    Returned,
    Room,
    Standing,
    StartTrimmed,
    TransportUnavailable,
)
from flexiflow.extras.durable._redis import scripts as scripts_module
from tests.durable.redis.desk import FAILURE, Keys, inside, lease_of, member, transport
from tests.durable.redis.test_losses import come_back, save
from tools.redis_server import MISSING, find_server, redis_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from flexiflow.extras.durable import (
        Connection,
        Lease,
        Outcome,
        Start,
    )

pytestmark = pytest.mark.once

MEMBER = member(group="g")
OTHER = member("bob", "g")


@pytest.fixture
def frail(anyio_backend: object) -> Generator[Keys]:
    """Run a server that keeps only what it is told to save."""
    if find_server() is None:
        pytest.skip(MISSING)
    with redis_server(appendonly="no") as server:
        yield Keys(server, "frail")


def batch(number: int, bodies: str, key: str | None = None) -> Batch:
    """Make a batch of records, each of one letter."""
    return Batch("p", number, tuple(Record(each.encode(), key) for each in bodies))


async def given(lease: Lease, records: int = 100) -> str:
    """Receive records, and return their bodies."""
    return "".join(each.body.decode() for each in await lease.receive(Room(records)))


async def settled(connection: Connection) -> None:
    """Lease the first partition, and settle what there is."""
    lease = await lease_of(connection, MEMBER)
    while came := await lease.receive(Room(100)):
        await lease.settle([Acknowledged(each.position) for each in came])
    await lease.release()


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


async def store_with_times(connection: Connection, *bodies: str) -> list[float]:
    """Store batches, and return the times before, between and after them."""
    times = [(await connection.survey()).now]
    for number, each in enumerate(bodies, 1):
        await connection.store(batch(number, each))
        times.append((await connection.survey()).now)
    return times


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("oldest", "bcdef"),
        ("new", "f"),
        (("2-0",), "cdef"),
        (("4-0",), "ef"),
        (("5-0",), "f"),
        (("1-0",), "bcdef"),
        (("1-7",), "bcdef"),
        (-1, "bcdef"),
        (0, "bcdef"),
        (1, "def"),
        (2, "ef"),
        (3, "f"),
        (99, "f"),
    ],
)
async def test_a_group_begins_where_its_first_member_says(
    keys: Keys, start: Any, expected: str
) -> None:
    """Y5: at a place of the log, or a time; what later members say is ignored."""
    async with transport(keys, max_length=4).connect() as connection:
        times = await store_with_times(connection, "abc", "d", "e")
        begins: Start = start
        if isinstance(start, int):
            begins = {-1: 0.0, 99: 5e9, **dict(enumerate(times))}[start]
        assert await connection.join(MEMBER._replace(start=begins)) == ["ann"]
        lease = await lease_of(connection, OTHER._replace(start="new"))
        came = await lease.receive(Room(9))
        await lease.settle([Acknowledged(each.position) for each in came])
        await connection.store(batch(4, "f"))
        before = "".join(each.body.decode() for each in came)
        assert before + await given(lease) == expected
        assert await connection.standing("g") == Standing(1, 0, 0, 0)


async def test_a_group_begins_at_a_place_in_each_partition(keys: Keys) -> None:
    """Y5: a position for each, in their order."""
    async with transport(keys, partitions=2).connect() as connection:
        await connection.store(batch(1, "abcd", "k"))
        await connection.store(batch(2, "wxyz", "l"))
        _, ends = await connection.tail(["0-0", "0-0"], 3, 0)
        assert ends == ["3-0", "3-0"]
        await connection.join(MEMBER._replace(start=("1-0", "3-0")))
        leases = [await lease_of(connection, MEMBER, each) for each in (0, 1)]
        assert [await given(each) for each in leases] == ["xyz", "d"]


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (("1-0",), r"a position for each of the 2 partitions, not \('1-0',\)"),
        (("0-0", "x"), "position of partition 1 must be one that tail.. returned, not 'x'"),
        (("0-0", "1"), "position of partition 1 must be one that tail.. returned, not '1'"),
        (("0-0", f"{2**64}-0"), "partition 1 must be one that tail.. returned, not '18446744"),
        (("3-0", "0-0"), "partition 0 must be .*, which is 2-0 at most, not '3-0'"),
        (("0-0", "3-0"), "partition 1 must be .*, which is 2-0 at most, not '3-0'"),
    ],
)
async def test_a_position_must_be_one(keys: Keys, start: tuple[str, ...], told: str) -> None:
    """Y5: of each partition, and there; the group is not made, and one that is there goes on."""
    async with transport(keys, partitions=2).connect() as connection:
        for number, key in enumerate("kl", 1):
            await connection.store(batch(number, "ab", key))
        with pytest.raises(ValueError, match=told):
            await connection.join(MEMBER._replace(start=start))
        assert await connection.groups() == []
        assert keys.command("EXISTS", "g:g") == ":0"
        lease = await lease_of(connection, MEMBER)
        with pytest.raises(ValueError, match=told):
            await connection.replay("g", start)
        assert len(await given(lease)) == 2


async def test_a_start_that_was_trimmed_is_refused(keys: Keys) -> None:
    """Y5: where records behind a position were deleted no group begins; one begins again there."""
    async with transport(keys, max_length=2).connect() as connection:
        await connection.store(batch(1, "ab"))
        await connection.store(batch(2, "cd"))
        with pytest.raises(
            StartTrimmed, match="can't begin behind position 1-0 of partition 0: "
        ) as told:
            await connection.join(MEMBER._replace(start=("1-0",)))
        assert told.value.args == ("g", 0, "1-0", "2-0")
        assert await connection.groups() == []
        lease = await lease_of(connection, MEMBER._replace(start="new"))
        assert await connection.replay("g", ("1-0",)) == Replayed(("2-0",), is_complete=False)
        assert await is_lost(lease)
        assert await given(await lease_of(connection, MEMBER)) == "cd"
        assert await connection.standing("g") == Standing(2, 0, 0, 0)


async def test_a_start_that_is_trimmed_meanwhile_is_refused(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y5: between the look at the position and the making of the group."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, "abc"))
        parts = inside(inside(connection)["_starts"])
        network = parts["_network"]

        class Slow:
            epochs = network.epochs

            async def run(self, *arguments: Any) -> Any:
                answer = await network.run(*arguments)
                keys.command("XTRIM", "log", "MINID", "3-0")
                return answer

        monkeypatch.setitem(parts, "_network", Slow())
        with pytest.raises(StartTrimmed):
            await connection.join(MEMBER._replace(start=("1-0",)))
        monkeypatch.undo()
        # An empty log tells what was deleted, too.
        keys.command("XTRIM", "log", "MAXLEN", 0)
        with pytest.raises(StartTrimmed):
            await connection.join(MEMBER._replace(start=("2-0",)))
        assert await connection.groups() == []
        await connection.join(MEMBER._replace(start=("3-0",)))


async def test_a_group_that_is_not_there_does_not_begin_again(keys: Keys) -> None:
    """Y5: it can begin wherever its first member says."""
    async with transport(keys).connect() as connection:
        with pytest.raises(ValueError, match="there is no group 'g'"):
            await connection.replay("g", "oldest")


@pytest.mark.parametrize(
    ("since", "is_complete", "expected"),
    [
        ("oldest", True, "cde"),
        ("new", True, ""),
        (("3-0",), True, "de"),
        (("1-0",), False, "cde"),
        (0, False, "cde"),
        (1, True, "cde"),
        (2, True, "de"),
    ],
)
async def test_it_tells_whether_all_is_kept(
    keys: Keys, since: Any, *, is_complete: bool, expected: str
) -> None:
    """Y5: of all records since then, as far as the transport can know; what is gone is no miss."""
    async with transport(keys, max_length=3).connect() as connection:
        await connection.join(MEMBER)
        times: list[float] = []
        for number, each in enumerate(("ab", "c", "d", "e"), 1):
            times.append((await connection.survey()).now)
            await connection.store(batch(number, each))
            await settled(connection)
        replayed = await connection.replay("g", times[since] if isinstance(since, int) else since)
        bodies = await given(await lease_of(connection, MEMBER))
        missed = (await connection.standing("g")).missed
        assert (replayed.is_complete, bodies, missed) == (is_complete, expected, 0)


@pytest.mark.parametrize("partitions", [None, 1])
@pytest.mark.parametrize(
    ("since", "again", "standing"),
    [
        ("0-0", "abcdefg", Standing(7, 0, 0, 0, 0)),
        ("2-0", "cdefg", Standing(5, 0, 0, 1, 0)),
        ("4-0", "cefg", Standing(4, 0, 0, 1, 1)),
        ("6-0", "cefg", Standing(4, 0, 0, 1, 1)),
        ("7-0", "cef", Standing(3, 0, 0, 1, 1)),
    ],
)
async def test_what_comes_after_is_given_anew(
    keys: Keys, partitions: int | None, since: str, again: str, standing: Standing
) -> None:
    """Y5: acknowledged, dead, held, waiting, or new; what comes before stays as it is."""
    who = MEMBER._replace(longest_delay=1000.0)
    async with transport(keys, partitions=partitions).connect() as connection:
        await connection.store(batch(1, "abcdefg"))
        lease = await lease_of(connection, who)
        a, b, c, d, e, _ = [each.position for each in await lease.receive(Room(6))]
        await lease.settle([Acknowledged(a), Buried(b, 1, 1, FAILURE), Noted(c, 2, 1)])
        await lease.settle([Postponed(d, 1, 0, 500.0, "k"), Postponed(e, 1, 0, 0.0, None)])
        # E is held again, F is held.
        await lease.receive(Room(1, waiting=1))
        await lease.settle([Noted(e, 3, 1)])
        replayed = await connection.replay("g", (since,))
        assert replayed == Replayed((since,), is_complete=True)
        assert await is_lost(lease, Acknowledged(c), Acknowledged("6-0"))
        later = await lease_of(connection, who)
        assert lease.replay < later.replay
        assert "".join(sorted(await given(later) + await given(later))) == again
        told = await connection.standing("g")
        assert told == standing
        letters = [each.body for each in await connection.dead_letters("g")]
        assert letters == [b"b"][: told.dead]


async def test_what_stays_keeps_its_counts(keys: Keys) -> None:
    """Y5: what comes before the place is given with its counts, or waits for its time."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, "abc"))
        lease = await lease_of(connection, MEMBER)
        a, b, c = [each.position for each in await lease.receive(Room(3))]
        await lease.settle([Noted(a, 2, 1), Postponed(b, 1, 0, 0.0, "k"), Noted(c, 3, 1)])
        await connection.replay("g", ("2-0",))
        later = await lease_of(connection, MEMBER)
        assert sorted(each[1:6] for each in await later.receive(Room(9))) == [
            (b"a", None, 2, 1, True),
            (b"b", None, 1, 1, False),
            (b"c", None, 0, 1, False),
        ]


@pytest.mark.parametrize("how", [Returned("1-0", 0, 1), Noted("1-0", 1, 1)])
async def test_a_stale_lease_settles_nothing_of_what_is_given_anew(
    keys: Keys, how: Outcome
) -> None:
    """Y5: what a worker was given before the group began again is not what another has now."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, "a"))
        stale = await lease_of(connection, MEMBER)
        await stale.receive(Room(1))
        await connection.replay("g", "oldest")
        lease = await lease_of(connection, OTHER)
        assert await given(lease) == "a"
        await lease.settle([how])
        assert await is_lost(stale, Acknowledged("1-0"))
        await lease.release()
        assert await given(await lease_of(connection, OTHER)) == "a"


@pytest.mark.parametrize("partitions", [None, 1])
async def test_a_line_goes_on_whose_first_is_given_anew(keys: Keys, partitions: int | None) -> None:
    """Y5: a copy that waits behind what is given anew is due at once; it would wait for ever."""
    async with transport(keys, partitions=partitions).connect() as connection:
        await connection.store(batch(1, "ab", "k"))
        lease = await lease_of(connection, MEMBER)
        a, b = [each.position for each in await lease.receive(Room(2))]
        await lease.settle([Buried(a, 1, 1, FAILURE)])
        [letter] = await connection.dead_letters("g")
        await connection.redrive("g", [letter.id])
        [copy] = await lease.receive(Room(1))
        await lease.settle([Postponed(b, 1, 0, 900.0, "k")])
        await lease.settle([Postponed(copy.position, 1, 0, None, "k")])
        await connection.replay("g", ("1-0",))
        later = await lease_of(connection, MEMBER)
        assert sorted(await given(later) + await given(later)) == ["a", "b"]
        assert await connection.standing("g") == Standing(2, 0, 0, 0)


async def test_a_line_is_given_anew_with_its_first(keys: Keys) -> None:
    """Y5: what waited is dropped, and nothing is left of it."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, "abc", "k"))
        lease = await lease_of(connection, MEMBER)
        a, b, _ = [each.position for each in await lease.receive(Room(3))]
        await lease.settle([Postponed(a, 1, 0, 9.0, "k")])
        await lease.settle([Postponed(b, 0, 0, None, "k"), Postponed("3-0", 0, 0, None, "k")])
        await connection.replay("g", ("1-0",))
        assert await connection.standing("g") == Standing(0, 2, 0, 0, 1)
        await connection.replay("g", "oldest")
        assert await connection.standing("g") == Standing(0, 3, 0, 0)
        for name in ("waits", "bodies", "heads", "ages"):
            assert keys.command("EXISTS", f"{name}:g") == ":0"


class TestWhatWasRedriven:
    """A copy counts as being where the record is that it is a copy of."""

    @staticmethod
    async def redriven(connection: Connection) -> Lease:
        """Redrive the first of two records."""
        await connection.store(batch(1, "ab"))
        lease = await lease_of(connection, MEMBER)
        came = await lease.receive(Room(2))
        await lease.settle([Buried(came[0].position, 1, 1, FAILURE)])
        await lease.settle([Acknowledged(came[1].position)])
        [letter] = await connection.dead_letters("g")
        await connection.redrive("g", [letter.id])
        return lease

    @staticmethod
    async def settle(lease: Lease, state: str) -> None:
        """Bring the copy into a state."""
        outcomes: dict[str, Outcome] = {
            "waiting": Postponed("3-0", 1, 0, 0.0, None),
            "dead": Buried("3-0", 1, 1, FAILURE),
            "settled": Acknowledged("3-0"),
        }
        if state != "new":
            assert await given(lease) == "a"
        if state in outcomes:
            await lease.settle([outcomes[state]])

    @pytest.mark.parametrize("state", ["new", "held", "waiting", "dead", "settled"])
    async def test_is_passed_over_if_its_original_is_given_anew(
        self, keys: Keys, state: str
    ) -> None:
        """Y5: in whatever state it is; else an event would be handled twice."""
        async with transport(keys).connect() as connection:
            lease = await self.redriven(connection)
            await self.settle(lease, state)
            await connection.replay("g", "oldest")
            assert await connection.standing("g") == Standing(0, 2, 0, 0)
            later = await lease_of(connection, MEMBER)
            assert await given(later) == "ab"
            assert await given(later) == ""
            assert await connection.standing("g") == Standing(2, 0, 0, 0)
            await connection.store(batch(2, "c"))
            assert await given(later) == "c"
            assert keys.command("EXISTS", "passed:g") == ":0"

    @pytest.mark.parametrize("times", [1, 2])
    @pytest.mark.parametrize(
        ("state", "again"), [("new", "a"), ("held", "a"), ("waiting", "a"), ("dead", ""), ("", "")]
    )
    async def test_stays_as_it_is_if_its_original_does(
        self, keys: Keys, state: str, again: str, times: int
    ) -> None:
        """Y5: else an event would be lost."""
        async with transport(keys).connect() as connection:
            lease = await self.redriven(connection)
            await self.settle(lease, state or "settled")
            for _ in range(times):
                await connection.replay("g", ("1-0",))
            later = await lease_of(connection, MEMBER)
            assert sorted(await given(later) + await given(later)) == sorted(again + "b")
            assert (await connection.standing("g")).dead == (state == "dead")
            await connection.store(batch(2, "c"))
            assert await given(later) == "c"

    async def test_may_fail_and_be_redriven_again(self, keys: Keys) -> None:
        """Y5: a copy of a copy is one of the record that was stored first."""
        async with transport(keys).connect() as connection:
            lease = await self.redriven(connection)
            await self.settle(lease, "dead")
            [letter] = await connection.dead_letters("g")
            await connection.redrive("g", [letter.id])
            assert await given(lease) == "a"
            await lease.settle([Acknowledged("4-0")])
            await connection.replay("g", ("1-0",))
            assert await given(await lease_of(connection, MEMBER)) == "b"
            await connection.replay("g", "oldest")
            assert await given(await lease_of(connection, MEMBER)) == "ab"

    async def test_makes_no_room_while_it_is_pending_behind(self, keys: Keys) -> None:
        """Y5, X5: what is given anew is not deleted."""
        async with transport(keys, max_length=3).connect() as connection:
            lease = await self.redriven(connection)
            await self.settle(lease, "held")
            await connection.replay("g", ("1-0",))
            await connection.store(batch(2, "c"))
            with pytest.raises(TransportUnavailable, match=r"/0 is not available: .*log is full"):
                await connection.store(batch(3, "d"))
            later = await lease_of(connection, MEMBER)
            assert sorted(await given(later) + await given(later)) == ["a", "b", "c"]

    async def test_is_not_known_any_more_once_it_was_deleted(self, keys: Keys) -> None:
        """Y5: what is kept in mind of copies does not grow."""
        async with transport(keys, max_length=2).connect() as connection:
            lease = await self.redriven(connection)
            await self.settle(lease, "settled")
            await connection.store(batch(2, "cd"))
            for each in await lease.receive(Room(9)):
                await lease.settle([Buried(each.position, 1, 1, FAILURE)])
            letters = [each.id for each in await connection.dead_letters("g")]
            await connection.redrive("g", letters)
            assert keys.command("ZCARD", "copies") == ":2"


async def test_what_was_deleted_is_not_missed(keys: Keys) -> None:
    """Y5: behind the transport's back, too."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, "abcd"))
        await settled(connection)
        keys.command("XDEL", "log", "2-0", "4-0")
        assert await connection.replay("g", "oldest") == Replayed(("0-0",), is_complete=False)
        lease = await lease_of(connection, MEMBER)
        assert await given(lease) == "ac"
        await connection.store(batch(2, "efg"))
        keys.command("XDEL", "log", "6-0")
        assert await given(lease) == "eg"
        assert await connection.standing("g") == Standing(4, 0, 1, 0)
        # What is missing later is missed again.
        keys.command("XADD", "log", "9-0", "event", "outsider")
        await connection.replay("g", "new")
        keys.command("DEL", "log")
        await connection.store(batch(3, "h"))
        assert (await connection.replay("g", "oldest")).after == ("9-0",)


async def test_what_is_missing_before_a_copy_is_missed(keys: Keys) -> None:
    """Y5, X6: the copy is passed over all the same."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, "ab"))
        lease = await lease_of(connection, MEMBER)
        await lease.receive(Room(1))
        await lease.settle([Buried("1-0", 1, 1, FAILURE)])
        [letter] = await connection.dead_letters("g")
        await connection.redrive("g", [letter.id])
        await connection.replay("g", "oldest")
        keys.command("XDEL", "log", "2-0")
        later = await lease_of(connection, MEMBER)
        assert await given(later) + await given(later) == "a"
        assert await connection.standing("g") == Standing(1, 0, 1, 0)


@pytest.fixture
def small_pages(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Make scripts drop two at a time of what a group leaves behind."""
    for each in vars(scripts_module).values():
        if isinstance(each, Script) and b"PAGE = 250" in each.source:
            source = each.source.replace(b"PAGE = 250", b"PAGE = 2")
            monkeypatch.setattr(each, "source", source)
            monkeypatch.setattr(each, "digest", digest_of(source).encode())
    setting = "hash-max-ziplist-entries"
    keys.server.command("CONFIG", "SET", setting, 1)
    yield
    keys.server.command("CONFIG", "SET", setting, 128)


def cut(connection: Connection) -> Any:
    """Make a network on which a replay ends before it has dropped all that is left behind."""
    network = inside(inside(connection)["_starts"])["_network"]

    class Cut:
        async def run(self, partition: int, script: object, *arguments: Any) -> Any:
            if script is scripts_module.DROP:
                raise TransportUnavailable("x", "cut")
            return await network.run(partition, script, *arguments)

    return Cut()


async def with_much_left_behind(connection: Connection) -> str:
    """Have a group of each kind more than a page; return the id of a dead letter."""
    await connection.store(batch(1, "abcdef"))
    await connection.store(batch(2, "ghijkl", "k"))
    lease = await lease_of(connection, MEMBER)
    a, b, c, d, e, f, g, h, i, j, _, last = [
        each.position for each in await lease.receive(Room(12))
    ]
    await lease.settle([Buried(each, 1, 1, FAILURE) for each in (a, b, c)])
    await lease.settle([Noted(each, 2, 1) for each in (d, e, f)])
    await lease.settle([Postponed(g, 1, 0, 900.0, "k"), Postponed(j, 1, 0, 900.0, None)])
    await lease.settle([Postponed(h, 0, 0, None, "k"), Postponed(i, 0, 0, None, "k")])
    await lease.settle([Acknowledged(last)])
    first, second, third = await connection.dead_letters("g")
    await connection.redrive("g", [first.id])
    assert await given(lease) == "a"
    await connection.redrive("g", [second.id])
    return third.id


@pytest.mark.parametrize("does", ["standing", "acquire", "forget"])
@pytest.mark.usefixtures("small_pages")
async def test_a_replay_that_was_cut_goes_on_where_the_stream_forgot_the_group(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    """Y5, X13: the group is made anew, with what was pending before the place where it begins."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, "abcdef"))
        assert await given(await lease_of(connection, MEMBER)) == "abcdef"
        monkeypatch.setitem(inside(inside(connection)["_starts"]), "_network", cut(connection))
        with pytest.raises(TransportUnavailable):
            await connection.replay("g", ("1-0",))
        monkeypatch.undo()
        keys.server.command("XGROUP", "DESTROY", keys.log, "g")
        if does == "standing":
            assert await connection.standing("g") == Standing(0, 6, 0, 0)
        elif does == "acquire":
            assert await given(await lease_of(connection, MEMBER)) == "abcdef"
        else:
            await connection.forget("g")
            assert await connection.groups() == []


@pytest.mark.parametrize("who", ["replay", "again", "standing", "acquire", "redrive", "forget"])
@pytest.mark.usefixtures("small_pages")
async def test_what_is_left_behind_is_dropped_in_pages(
    keys: Keys, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y5: the next call for the group goes on where a replay was cut, before anything is given."""
    async with transport(keys).connect() as connection:
        letter = await with_much_left_behind(connection)
        if who != "replay":
            monkeypatch.setitem(inside(inside(connection)["_starts"]), "_network", cut(connection))
            with pytest.raises(TransportUnavailable):
                await connection.replay("g", ("1-0",))
            monkeypatch.undo()
            assert keys.command("HEXISTS", "g:g", "dropping") == ":1"
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "standing": lambda: connection.standing("g"),
            "acquire": lambda: lease_of(connection, MEMBER),
            "redrive": lambda: connection.redrive("g", [letter]),
            "forget": lambda: connection.forget("g"),
        }
        await calls.get(who, lambda: connection.replay("g", ("1-0",)))()
        left = [keys.command("EXISTS", f"{each}:g") for each in ("waits", "bodies", "heads", "a")]
        left.append(keys.command("HEXISTS", "g:g", "dropping"))
        assert left == [":0"] * 5
        if who == "forget":
            assert await connection.groups() == []
            return
        assert await connection.standing("g") == Standing(1, 11, 0, 0)
        lease = await lease_of(connection, MEMBER)
        assert await given(lease) + await given(lease) == "abcdefghijkl"


async def test_the_number_of_a_replay_never_comes_twice(frail: Keys) -> None:
    """Y5: the same in each partition; also after a loss (X13), or if the group was forgotten."""
    async with transport(frail, partitions=2).connect() as connection:
        numbers: list[int] = []

        async def look() -> None:
            leases = [await lease_of(connection, MEMBER, each) for each in (0, 1)]
            first, second = (each.replay for each in leases)
            for each in leases:
                await each.release()
            assert first == second == (await connection.survey()).groups[0].replay
            numbers.append(first)

        before = (await connection.survey()).now
        await look()
        assert before <= numbers[0] / 1_000_000 <= (await connection.survey()).now
        save(frail)
        for _ in range(2):
            await connection.replay("g", "oldest")
            await look()
        await come_back(frail, connection)
        await connection.replay("g", "oldest")
        await look()
        await connection.forget("g")
        await look()
        assert numbers == sorted(set(numbers))


async def test_a_place_is_found_among_entries_of_other_software(keys: Keys) -> None:
    """Y5: whose times are not known; they go with what is stored after them."""
    async with transport(keys).connect() as connection:
        times = await store_with_times(connection, "ab", "cd")
        for _ in range(3):
            keys.command("XADD", "log", "*", "n", 1)
        await connection.store(batch(3, "e"))
        keys.command("XADD", "log", "*", "n", 1)
        times.append((await connection.survey()).now)
        await connection.join(MEMBER)
        [first, second, third, last] = [
            (await connection.replay("g", each)).after[0] for each in times
        ]
        assert (first, second) == ("0-0", "2-0")
        lags: list[int] = []
        for each in (third, last):
            await connection.replay("g", (each,))
            lags.append((await connection.standing("g")).lag)
        assert lags == [5, 1]


async def test_a_group_goes_on_in_partitions_that_were_not_told_of_it(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y5: where its first member died before; what came meanwhile is not lost to it."""
    async with (
        transport(keys, partitions=2).connect() as connection,
        transport(keys, partitions=2).connect() as other,
    ):
        await connection.store(batch(1, "ab", "k"))
        parts = inside(inside(connection)["_members"])
        network = parts["_network"]

        class Dying:
            def __getattr__(self, name: str) -> Any:
                return getattr(network, name)

            async def run(self, partition: int, *arguments: Any) -> Any:
                if partition == 1:
                    raise TransportUnavailable("x", "died")
                return await network.run(partition, *arguments)

        starts: dict[str, Start] = {"n": "new", "p": ("0-0", "1-0"), "o": "oldest"}
        for group, start in starts.items():
            monkeypatch.setitem(parts, "_network", Dying())
            with pytest.raises(TransportUnavailable):
                await connection.join(MEMBER._replace(group=group, start=start))
            monkeypatch.undo()
        await other.store(batch(2, "cd", "k"))
        lags: list[int] = []
        for group in "npo":
            await other.join(OTHER._replace(group=group, start="new"))
            lags.append((await other.standing(group)).lag)
        assert lags == [2, 3, 4]


async def test_a_new_group_is_given_what_was_stored_since_it_was_made(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y5: in each partition, though the others are told of the group later."""
    async with transport(keys, partitions=2).connect() as connection:
        await connection.store(batch(1, "ab", "k"))
        parts = inside(inside(connection)["_members"])
        network = parts["_network"]

        class Slow:
            def __getattr__(self, name: str) -> Any:
                return getattr(network, name)

            async def run(self, partition: int, script: object, *arguments: Any) -> Any:
                if script is scripts_module.PATTERNS:
                    monkeypatch.undo()
                    await connection.store(batch(2, "cd", "k"))
                return await network.run(partition, script, *arguments)

        monkeypatch.setitem(parts, "_network", Slow())
        assert await given(await lease_of(connection, MEMBER._replace(start="new"), 1)) == "cd"


async def test_a_position_of_what_was_lost_is_none_of_the_new_log(frail: Keys) -> None:
    """Y5, X13: a partition that lost all begins anew for a group that is told of later."""
    async with transport(frail, partitions=2).connect() as connection:
        await connection.store(batch(1, "abc", "k"))
        await connection.join(MEMBER._replace(start=("0-0", "2-0")))
    base = frail.name("", 1)
    for each in frail.server.command("KEYS", f"{base}*").split("\r\n"):
        if each.startswith(base):
            frail.server.command("DEL", each)
    async with transport(frail, partitions=2).connect() as connection:
        await connection.store(batch(2, "defg", "k"))
        await connection.join(OTHER)
        assert (await connection.standing("g")).lag == 4


@pytest.mark.parametrize("start", ["new", ("5-0",)])
async def test_a_group_that_the_server_forgot_begins_where_it_began(
    frail: Keys, start: Start
) -> None:
    """Y5, X13: what was stored before that is not given to it."""
    async with transport(frail).connect() as connection:
        await connection.store(batch(1, "abcde"))
        save(frail)
        await lease_of(connection, MEMBER._replace(start=start))
        await connection.store(batch(2, "f"))
        await come_back(frail, connection)
        await connection.store(batch(3, "g"))
        assert await given(await lease_of(connection, MEMBER)) == "g"
        assert (await connection.standing("g")).missed == 1


async def test_a_group_begins_with_all_that_is_left_if_less_is(frail: Keys) -> None:
    """Y5, X13: where the log ends before the place, and goes on with other records."""
    async with transport(frail).connect() as connection:
        await connection.store(batch(1, "ab"))
        save(frail)
        await connection.store(batch(2, "cd"))
        await lease_of(connection, MEMBER._replace(start="new"))
        await come_back(frail, connection)
        async with transport(frail).connect() as other:
            await other.store(batch(1, "xyz")._replace(producer="o"))
        assert await given(await lease_of(connection, MEMBER)) == "xyz"


async def test_a_group_whose_stream_forgot_it_keeps_its_place(keys: Keys) -> None:
    """Y5: also one that was given nothing yet."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, "ab"))
        lease = await lease_of(connection, MEMBER._replace(start="new"))
        keys.server.command("XGROUP", "DESTROY", keys.log, "g")
        await connection.store(batch(2, "c"))
        assert await given(lease) == "c"


async def test_a_group_whose_stream_forgot_it_begins_where_it_began_again(keys: Keys) -> None:
    """Y5: with all that is given anew, also if a part of it was pending before."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, "abc"))
        lease = await lease_of(connection, MEMBER)
        first, *_ = await lease.receive(Room(9))
        await lease.settle([Acknowledged(first.position)])
        await connection.replay("g", "oldest")
        keys.server.command("XGROUP", "DESTROY", keys.log, "g")
        assert await given(await lease_of(connection, MEMBER)) == "abc"


async def test_a_group_is_as_it_is_if_a_replay_is_cut(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y5: to repeat it makes all partitions begin again, with one number."""
    async with transport(keys, partitions=2).connect() as connection:
        await connection.store(batch(1, "ab", "k"))
        await connection.store(batch(2, "cd", "l"))
        for partition in (0, 1):
            lease = await lease_of(connection, MEMBER, partition)
            came = await lease.receive(Room(9))
            await lease.settle([Acknowledged(each.position) for each in came])
        parts = inside(inside(connection)["_starts"])
        network = parts["_network"]

        class Cut:
            epochs = network.epochs

            async def run(self, partition: int, *arguments: Any) -> Any:
                if partition == 1:
                    raise TransportUnavailable("x", "cut")
                return await network.run(partition, *arguments)

        monkeypatch.setitem(parts, "_network", Cut())
        with pytest.raises(TransportUnavailable):
            await connection.replay("g", "oldest")
        monkeypatch.undo()
        assert (await connection.standing("g")).lag == 2
        assert await connection.replay("g", "oldest") == (("0-0", "0-0"), True)
        assert await connection.standing("g") == Standing(0, 4, 0, 0)
        numbers = {(await lease_of(connection, OTHER, each)).replay for each in (0, 1)}
        assert numbers == {(await connection.survey()).groups[0].replay}


async def test_a_log_that_lost_a_position_meanwhile_does_not_begin_there(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y5, X13: between the look at the position and the replay."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, "ab"))
        await connection.join(MEMBER)
        starts = inside(connection)["_starts"]
        look = starts._check

        async def look_early(*arguments: Any) -> Any:
            answer = await look(*arguments)
            keys.command("DEL", "log")
            keys.command("HSET", "meta3", "last", "1-0")
            return answer

        monkeypatch.setitem(inside(starts), "_check", look_early)
        with pytest.raises(ValueError, match="which is 1-0 at most, not '2-0'"):
            await connection.replay("g", ("2-0",))


def test_a_member_begins_with_the_oldest_if_it_does_not_say() -> None:
    """Y5: as before."""
    assert Member("g", "a", "1", (), 1.0).start == "oldest"
