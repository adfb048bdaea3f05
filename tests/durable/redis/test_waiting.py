"""The transport on Redis where records wait, are large, or are another lease's by now."""

from typing import Any

import pytest
from anyio import create_task_group, current_time, fail_after

from flexiflow.extras.durable import (
    Acknowledged,
    Buried,
    Delivery,
    EventTooLarge,
    Followed,
    GroupMismatch,
    Lease,
    LeaseLost,
    Member,
    Noted,
    Outcome,
    Postponed,
    Returned,
    Room,
    Settled,
    Standing,
    TransportUnavailable,
)
from flexiflow.extras.durable._redis import letters as letters_module
from flexiflow.extras.durable._redis import scripts as scripts_module
from flexiflow.extras.durable._redis import tailing as tailing_module
from flexiflow.extras.durable._redis import waiter as waiter_module
from flexiflow.extras.durable._redis.entries import flat
from tests.durable.redis.desk import (
    FAILURE,
    Keys,
    await_more,
    batch,
    bodies,
    inside,
    is_somebody_waiting,
    lease_of,
    member,
    standing,
    transport,
    until,
)
from tests.helpers import PATIENCE

pytestmark = pytest.mark.once

LONG = 3600.0


def run_out(keys: Keys, lease: Lease, ago: int = 1000) -> None:
    """Have a lease run out, so many milliseconds ago."""
    seconds, micro = keys.server.command("TIME").split("\r\n")[2::2]
    end = int(seconds) * 1000 + int(micro) // 1000 - ago
    keys.expire(lease, span=f"1 {end}")


def postponed(number: int, delay: float | None, key: str | None = None) -> Postponed:
    """Have a record wait after one failed attempt."""
    return Postponed(f"{number}-0", 1, 0, delay, key)


def what(given: Delivery) -> tuple[bytes, int, bool, bool]:
    """Give what is told of a delivery that has waited."""
    return given.body, given.attempts, given.is_suspect, given.has_waited


async def test_what_waits_is_neither_in_the_log_nor_held(keys: Keys) -> None:
    """X12: it makes room for others, and is given again with its body once it is due."""
    async with transport(keys, max_length=2).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, b"a", b"b", keys=["k"]))
        assert await bodies(lease) == [b"a", b"b"]
        await lease.settle([postponed(1, 0.0, "k"), postponed(2, LONG)])
        await connection.store(batch(2, b"c", b"d"))
        assert list(map(what, await lease.receive(Room(9)))) == [
            (b"a", 1, False, True),
            (b"c", 0, False, False),
            (b"d", 0, False, False),
        ]
        assert await standing(connection, lease) == Standing(3, 0, 0, 0, 1)
        await lease.settle([Buried("1-0", 2, 1, FAILURE), Acknowledged("3-0")])
        assert await standing(connection, lease) == Standing(1, 0, 0, 1, 1)
        (letter,) = await connection.dead_letters("billing")
        assert letter.body == b"a"
        assert await connection.redrive("billing", [letter.id]) == 1
    stored = keys.command("XRANGE", "log", "5-0", "5-0")
    assert stored.count("key") == stored.count("billing") == 1


async def test_those_of_a_key_follow_one_another(keys: Keys) -> None:
    """X12: in the order of their positions, and at last none waits any more."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, *map(str.encode, "abcdefghijkl")))
        assert len(await bodies(lease)) == 12
        await lease.settle([postponed(1, 0.0, "k"), postponed(12, None, "k")])
        await lease.settle([postponed(2, None, "k"), postponed(3, 0.0, "\ud800")])
        assert await bodies(lease) == [b"a", b"c"]
        await lease.settle([Acknowledged("3-0"), Followed("\ud800")])
        over = await lease.settle([Acknowledged("1-0"), Followed("k")])
        assert over == Settled()
        assert await bodies(lease) == [b"b"]
        await lease.settle([Acknowledged("2-0"), Followed("k")])
        assert await bodies(lease) == [b"l"]
        over = await lease.settle([Acknowledged("12-0"), Followed("k")])
        assert (over.lost, over.over) == ([], ["k"])
        # Nothing of the key is away: it is due at once.
        await lease.settle([postponed(4, None, "k"), Followed("none")])
        assert await bodies(lease) == [b"d"]


async def test_settling_again_what_cannot_be_repeated(keys: Keys) -> None:
    """X12: after a lost answer nobody is let follow twice, and the answer is what it was."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, b"a", b"b", b"c", b"d"))
        assert len(await bodies(lease)) == 4
        await lease.settle(
            [postponed(1, 0.0, "k"), postponed(2, None, "k"), postponed(3, None, "k")]
        )
        assert await bodies(lease) == [b"a"]
        outcomes: list[Outcome] = [
            Acknowledged("1-0"),
            Followed("k"),
            postponed(4, 0.0),
            Followed("l"),
        ]
        await lose_the_answer(lease, outcomes)
        assert await bodies(lease) == [b"b", b"d"]
        assert (await lease.settle(outcomes)).over == ["l"]
        assert await bodies(lease) == []
        # What was given in between is held.
        assert await standing(connection, lease) == Standing(2, 0, 0, 0, 1)
        await lease.settle([Acknowledged("2-0"), Acknowledged("4-0"), Followed("k")])
        assert await bodies(lease) == [b"c"]


async def lose_the_answer(lease: Lease, outcomes: list[Outcome]) -> None:
    """Settle, and lose the answer."""
    parts = vars(lease)
    network = parts["_network"]

    class Lossy:
        epochs = network.epochs

        async def run(self, *arguments: Any) -> None:
            await network.run(*arguments)
            raise TransportUnavailable("nowhere", "lost")

    parts["_network"] = Lossy()
    with pytest.raises(TransportUnavailable):
        await lease.settle(outcomes)
    parts["_network"] = network


async def test_what_waits_goes_to_another_with_its_line(keys: Keys) -> None:
    """X12: once the lease by which it waits has run out; until then it is that one's alone."""
    async with transport(keys).connect() as connection:
        one, two = await lease_of(connection), await lease_of(connection)
        await connection.store(batch(1, b"a", b"b", b"c", b"d", b"e", b"f"))
        assert len(await bodies(one, 4)) == 4
        assert await bodies(two) == [b"e", b"f"]
        await one.settle([postponed(1, 0.0, "k"), postponed(4, None, "k"), postponed(2, LONG)])
        await two.settle([postponed(5, 0.0, "k"), postponed(6, None, "k")])
        assert await bodies(two) == [b"e"]
        run_out(keys, one)
        assert await bodies(two) == [b"c", b"a"]
        # Two were the first of their key, and the line is one.
        await two.settle([Acknowledged("1-0"), Followed("k")])
        assert await bodies(two) == []
        await two.settle([Acknowledged("5-0")])
        assert await bodies(two) == [b"d"]
        # What nobody took the first one has still.
        await one.renew()
        assert (await one.settle([Acknowledged("3-0")])).lost == ["3-0"]
        assert await one.renew(["2-0", "3-0"]) == ["2-0", "3-0"]
        assert await standing(connection, two) == Standing(2, 0, 0, 0, 2)


async def test_what_was_given_again_and_not_settled_goes_to_another(keys: Keys) -> None:
    """X12: as one that has waited, with its line, and with its counts."""
    async with transport(keys).connect() as connection:
        one, two = await lease_of(connection), await lease_of(connection)
        await connection.store(batch(1, b"a", b"b", b"c"))
        assert len(await bodies(one)) == 3
        await one.settle([postponed(1, 0.0, "k"), postponed(2, None, "k"), postponed(3, 0.0)])
        assert await bodies(one) == [b"a", b"c"]
        await one.settle([Noted("1-0", 4, 1), Returned("3-0", 1, 0)])
        await one.release()
        given = await two.receive(Room(9))
        assert list(map(what, given)) == [(b"a", 4, True, True), (b"c", 1, False, True)]
        await two.settle([Acknowledged("1-0"), Followed("k")])
        assert await bodies(two) == [b"b"]


async def test_a_partition_is_leased_with_what_waits_there(keys: Keys) -> None:
    """X12: and the next one to have it is told of which keys that is."""
    async with transport(keys, partitions=1).connect() as connection:
        one = await lease_of(connection)
        assert one.lines == frozenset()
        await connection.store(batch(1, b"a", b"b", b"c"))
        assert len(await bodies(one)) == 3
        await one.settle([postponed(1, LONG, "k"), postponed(2, None, "k"), postponed(3, 0.0, "l")])
        assert await bodies(one) == [b"c"]
        assert await connection.acquire(member("bob"), 0) is None
        run_out(keys, one)
        # Nobody else has it: it goes on.
        assert await one.renew(["3-0"]) == []
        run_out(keys, one)
        await connection.join(member("bob"))
        two = await connection.acquire(member("bob"), 0)
        assert two is not None
        assert two.lines == {"k", "l"}
        assert list(map(what, await two.receive(Room(9)))) == [(b"c", 1, True, True)]
        for attempt in (
            one.receive(Room(1)),
            one.settle([Acknowledged("3-0")]),
            one.settle([Returned("3-0", 0, 0)]),
            one.renew(),
            one.release(),
            one.wait(1.0),
        ):
            with pytest.raises(LeaseLost):
                await attempt


async def test_a_stale_holder_only_tells_that_its_attempt_has_ended(keys: Keys) -> None:
    """X11: a later holder is not overwritten, whatever it is told."""
    async with transport(keys).connect() as connection:
        one, two = await lease_of(connection), await lease_of(connection)
        await connection.store(batch(1, *map(str.encode, "abcdef")))
        assert len(await bodies(one)) == 6
        await one.settle([Noted("1-0", 0, 3), postponed(6, 0.0)])
        assert await bodies(one) == [b"f"]
        run_out(keys, one)
        assert len(await bodies(two)) == 6
        await two.settle([Returned("5-0", 0, 1)])
        settled = await one.settle(
            [
                Returned("1-0", 2, 0),
                Acknowledged("2-0"),
                Buried("3-0", 5, 1, FAILURE),
                Noted("4-0", 7, 7),
                Acknowledged("5-0"),
                Postponed("6-0", 3, 0, 1.0, "k"),
                Acknowledged("99-0"),
            ]
        )
        assert sorted(settled.lost) == ["1-0", "2-0", "3-0", "4-0", "6-0"]
        await two.release()
        third = await lease_of(connection)
        given = await third.receive(Room(9))
        assert [(each.body, each.attempts, each.deliveries) for each in given] == [
            (b"a", 2, 1),
            (b"c", 5, 1),
            (b"d", 0, 1),
            (b"f", 3, 1),
        ]
        assert await standing(connection, third) == Standing(4, 0, 0, 0)


@pytest.mark.parametrize("then", ["returned", "postponed", "settled"])
async def test_what_a_stale_holder_has_handled_is_not_given_again(keys: Keys, then: str) -> None:
    """X11: where the later one lets it go, and the next of its key follows."""
    async with transport(keys).connect() as connection:
        one, two = await lease_of(connection), await lease_of(connection)
        await connection.store(batch(1, b"a", b"b", b"c", b"d"))
        assert len(await bodies(one)) == 4
        await one.settle([postponed(2, 0.0, "k"), postponed(3, None, "k")])
        assert await bodies(one) == [b"b"]
        run_out(keys, one)
        assert sorted(await bodies(two)) == [b"a", b"b", b"d"]
        stale = await one.settle([Acknowledged("1-0"), Acknowledged("2-0")])
        assert sorted(stale.lost) == ["1-0", "2-0"]
        if then == "returned":
            await two.settle([Returned("1-0", 0, 0), Returned("2-0", 1, 0)])
        elif then == "postponed":
            await two.settle([postponed(1, LONG), postponed(2, LONG, "k")])
        else:
            await two.settle([Acknowledged("1-0"), Acknowledged("2-0"), Followed("k")])
        assert await bodies(two) == [b"c"]
        assert await standing(connection, two) == Standing(2, 0, 0, 0)


async def test_what_waits_and_was_handled_by_a_stale_holder_is_settled(keys: Keys) -> None:
    """X11: when it is due, or when it is left by one that was given it."""
    async with transport(keys).connect() as connection:
        one, two = await lease_of(connection), await lease_of(connection)
        await connection.store(batch(1, b"a", b"b", b"c"))
        assert len(await bodies(one)) == 3
        run_out(keys, one)
        assert len(await bodies(two)) == 3
        await two.settle([postponed(1, 0.0, "k"), postponed(2, None, "k"), postponed(3, 0.0)])
        stale = await one.settle([Acknowledged("1-0"), Returned("2-0", 5, 0), Noted("3-0", 9, 9)])
        assert sorted(stale.lost) == ["1-0", "2-0", "3-0"]
        given = await two.receive(Room(9))
        # The one that follows is due at that moment, which may be when the other one is.
        assert sorted(map(what, given)) == [(b"b", 5, False, True), (b"c", 1, False, True)]


async def test_a_lease_that_ran_out_long_ago_and_holds_nothing_is_over(keys: Keys) -> None:
    """X11: there is no heap of them; one of which something waits stays."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a", b"b"))
        leases = [await lease_of(connection) for _ in range(3)]
        idle, waiting, other = leases
        assert await bodies(idle, 1) == [b"a"]
        assert await bodies(waiting, 1) == [b"b"]
        await idle.settle([Acknowledged("1-0")])
        await waiting.settle([postponed(2, LONG)])
        for each in (idle, waiting):
            run_out(keys, each, 10**6)
        assert await bodies(other) == []
        await waiting.renew()
        with pytest.raises(LeaseLost):
            await idle.renew()


async def test_a_clock_that_was_set_back_prolongs_no_wait(keys: Keys) -> None:
    """X12: what would be due too late is due after the longest delay."""
    async with transport(keys).connect() as connection:
        who = member()._replace(longest_delay=0.001)
        lease = await lease_of(connection, who)
        await connection.store(batch(1, b"a"))
        assert await bodies(lease) == [b"a"]
        await lease.settle([postponed(1, LONG)])
        assert await bodies(lease) == []
        assert [each.body for each in await await_more(lease)] == [b"a"]


async def test_only_so_many_are_given_as_there_is_room_for(keys: Keys) -> None:
    """X12: of what has waited, and nothing new while too much waits."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, *map(str.encode, "abcdef")))
        assert len(await bodies(lease, 4)) == 4
        await lease.settle([postponed(each, 0.0) for each in range(1, 5)])
        assert await lease.receive(Room(9, waiting=4, again=0)) == []
        given = await lease.receive(Room(9, waiting=4, again=3))
        # So many waited when it was looked.
        assert [each.body for each in given] == [b"a", b"b", b"c"]
        given = await lease.receive(Room(9, waiting=4))
        assert [each.body for each in given] == [b"d", b"e", b"f"]


@pytest.mark.parametrize("how", ["due", "followed", "full"])
async def test_one_who_waits_is_woken_by_what_is_its_own(
    keys: Keys, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X12: when something is due, and by its own settling."""
    monkeypatch.setattr(waiter_module, "_TURN", 4 * PATIENCE)
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, b"a", b"b", b"c"))
        assert await bodies(lease) == [b"a", b"b", b"c"]
        room = Room(9, waiting=1)
        await lease.settle([postponed(1, LONG, "k"), postponed(2, None, "k")])
        await connection.store(batch(2, b"new"))
        assert await lease.receive(room) == []
        if how == "due":
            seen = vars(lease)["_seen"]
            assert 0 < seen.until - current_time() <= LONG
            vars(lease)["_seen"] = seen._replace(until=current_time() + 0.02)
        woken: list[bool] = []

        async def wait() -> None:
            with fail_after(PATIENCE):
                await lease.wait(4 * PATIENCE)
            woken.append(True)

        async with create_task_group() as tasks:
            tasks.start_soon(wait)
            if how != "due":
                await until(lambda: is_somebody_waiting(keys.server))
                await lease.settle([Followed("k") if how == "followed" else postponed(3, 0.0)])
        assert woken == [True]


async def test_one_who_has_not_looked_does_not_wait(keys: Keys) -> None:
    """X1: something may have come that it has not seen."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        with fail_after(PATIENCE):
            await lease.wait(4 * PATIENCE)


async def test_a_group_that_is_forgotten_leaves_no_keys(keys: Keys) -> None:
    """X3: nothing of what waited, was out, or was told."""
    async with transport(keys).connect() as connection:
        before = keys.server.command("KEYS", f"{{{keys.prefix}:0}}:*billing*")
        lease = await lease_of(connection)
        await connection.store(batch(1, b"a", b"b", b"c"))
        assert len(await bodies(lease)) == 3
        await lease.settle([postponed(1, 0.0, "k"), postponed(2, None, "k"), postponed(3, LONG)])
        assert await bodies(lease) == [b"a"]
        await connection.forget("billing")
        assert keys.server.command("KEYS", f"{{{keys.prefix}:0}}:*billing*") == before


async def test_a_group_that_is_lost_gives_nothing_twice_that_waits(keys: Keys) -> None:
    """X6: what comes from the log once more waits already."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, b"a", b"b", b"c"))
        assert len(await bodies(lease)) == 3
        await lease.settle([postponed(2, LONG)])
        keys.server.command("XGROUP", "DESTROY", keys.log, "billing")
        assert await bodies(lease) == [b"a", b"c"]
        assert await standing(connection, lease) == Standing(2, 0, 0, 0, 1)


async def test_what_never_came_of_what_has_waited_is_given_again(keys: Keys) -> None:
    """X1: to the same lease; after its release to another, as no suspect."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, b"a", b"b", b"c"))
        assert len(await bodies(lease)) == 3
        await lease.settle(
            [postponed(1, 0.0), Postponed("2-0", 0, 2, 0.0, None), postponed(3, 0.0)]
        )
        assert await bodies(lease, 1) == [b"a"]
        for _ in range(2):
            with pytest.raises(TransportUnavailable):
                await receive_nothing(lease)
        given = await lease.receive(Room(9))
        assert list(map(what, given)) == [(b"b", 0, True, True), (b"c", 1, False, True)]
        await lease.settle([postponed(3, 0.0), Postponed("2-0", 0, 2, 0.0, None)])
        with pytest.raises(TransportUnavailable):
            await receive_nothing(lease)
        await lease.release()
        other = await lease_of(connection)
        given = await other.receive(Room(9))
        assert [(each.body, each.is_suspect) for each in given] == [
            (b"a", True),
            (b"b", True),
            (b"c", False),
        ]


async def receive_nothing(lease: Lease) -> None:
    """Receive, and lose the answer."""
    parts = vars(lease)
    network = parts["_network"]

    class Lossy:
        async def run(self, *arguments: Any) -> None:
            await network.run(*arguments)
            raise TransportUnavailable("nowhere", "lost")

    parts["_network"] = Lossy()
    try:
        await lease.receive(Room(9))
    finally:
        parts["_network"] = network


async def test_what_is_too_large_is_not_stored(keys: Keys) -> None:
    """X14: nothing of its batch is."""
    async with transport(keys, max_event_bytes=3).connect() as connection:
        assert connection.max_event_bytes == 3
        with pytest.raises(EventTooLarge, match="has 4 bytes"):
            await connection.store(batch(1, b"abc", b"abcd"))
        await connection.store(batch(1, b"abc"))
        assert await bodies(await lease_of(connection)) == [b"abc"]


@pytest.mark.parametrize("fields", [["event"], ["event", "k", "group", "x", "event"], ["other"]])
async def test_what_is_too_large_is_given_without_its_body(keys: Keys, fields: list[str]) -> None:
    """X14: written by any program, given to any worker; its dead letter has all of it."""
    body = "x" * 2000
    words = {1: [fields[0], body], 5: ["event", body, "key", "k", "group", "x"]}[len(fields)]
    keys.command("XADD", "log", "1-0", *words)
    size = 2000 if fields[0] == "event" else 2005
    async with transport(keys, max_event_bytes=1000).connect() as connection:
        dead, lease = await lease_of(connection), await lease_of(connection)
        await connection.store(batch(1, b"small"))
        found, _ = await connection.tail(["0-0"], 9, 0)
        assert [each.body for each in found] == [b"", b"small"]
        (given,) = await dead.receive(Room(1))
        assert (given.body, given.oversize) == (b"", size)
        await dead.settle([postponed(1, 0.0)])
        (given,) = await dead.receive(Room(1, again=1))
        assert (given.body, given.has_waited) == (b"", True)
        assert given.oversize >= 2000
        await dead.release()
        (given, _) = await lease.receive(Room(9))
        assert given.oversize >= 2000
        await lease.settle([Buried("1-0", 0, 1, FAILURE)])
        (letter,) = await connection.dead_letters("billing")
        assert body.encode() in letter.body


async def test_no_more_is_given_than_fits(keys: Keys) -> None:
    """X14: in order, whether it is new, was left, or has waited; what does not fit comes next."""
    async with transport(keys, max_event_bytes=1000).connect() as connection:
        one, two = await lease_of(connection), await lease_of(connection)
        large = [bytes([letter]) * 600 for letter in b"abcdef"]
        await connection.store(batch(1, *large))
        room = Room(9, 1500)
        assert [len(await one.receive(room)) for _ in range(2)] == [2, 2]
        await one.settle([postponed(1, 0.0), postponed(2, 0.0), postponed(3, 0.0)])
        assert [each.body[:1] for each in await one.receive(room)] == [b"a", b"b"]
        await one.release()
        taken = [[each.body[:1] for each in await two.receive(room)] for _ in range(4)]
        assert taken == [[b"a", b"b"], [b"d", b"c"], [b"e", b"f"], []]
        assert await standing(connection, two) == Standing(6, 0, 0, 0)


async def test_few_are_read_at_once_where_they_are_large(keys: Keys) -> None:
    """X14: and many again where they are small."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, *[b"x" * 1000] * 8))
        steps: list[str] = []
        while await lease.receive(Room(8, 1000)):
            steps.append(keys.command("HGET", "g:billing", "step"))
        assert steps[0].endswith("\r\n1")
        await connection.store(batch(2, *[b"x"] * 2000))
        while await lease.receive(Room(2000, 100_000)):
            steps.append(keys.command("HGET", "g:billing", "step"))
        assert steps[-1] == "$-1"
        assert await standing(connection, lease) == Standing(2008, 0, 0, 0)


async def test_a_page_of_dead_letters_holds_what_fits(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X14: at least one, over all partitions, in order, and none is left out."""
    monkeypatch.setattr(letters_module, "PAGE_BYTES", 2500)
    async with transport(keys, partitions=2).connect() as connection:
        await connection.join(member())
        await connection.store(batch(1, *[b"x" * 1000] * 6, b"y" * 3000))
        for partition in (0, 1):
            lease = await lease_of(connection, partition=partition)
            given = await lease.receive(Room(9))
            await lease.settle([Buried(each.position, 5, 1, FAILURE) for each in given])
        pages: list[int] = []
        seen: list[str] = []
        while page := await connection.dead_letters(
            "billing", after=seen[-1] if seen else None, limit=9
        ):
            pages.append(len(page))
            seen += [each.id for each in page]
        assert len(seen) == len(set(seen)) == 7
        assert all(1 <= each <= 2 for each in pages)


async def test_letters_that_are_redriven_meanwhile_are_no_end(keys: Keys) -> None:
    """X14: only where there are none is the end."""
    async with transport(keys).connect() as connection, transport(keys).connect() as other:
        lease = await lease_of(connection)
        await connection.store(batch(1, b"a", b"b"))
        for given in await lease.receive(Room(9)):
            await lease.settle([Buried(given.position, 5, 1, FAILURE)])
        ids = [each.id for each in await connection.dead_letters("billing")]
        parts = inside(inside(connection)["_letters"])
        network = parts["_network"]

        class Late:
            async def run_all(self, script: Any, calls: Any) -> Any:
                if script is scripts_module.LETTERS:
                    await other.redrive("billing", ids[:1])
                return await network.run_all(script, calls)

        parts["_network"] = Late()
        letters = await connection.dead_letters("billing", limit=1)
        parts["_network"] = network
        assert [each.id for each in letters] == ids[1:]


async def test_who_looks_on_reads_so_much_at_once_and_of_each_partition(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X14: where one fills a look, the next look begins with the other."""
    monkeypatch.setattr(tailing_module, "PAGE_BYTES", 1000)
    async with transport(keys, partitions=2, max_event_bytes=1000).connect() as connection:
        await connection.store(batch(1, *[b"x" * 900] * 6))
        positions = ["0-0", "0-0"]
        partitions: list[int] = []
        for _ in range(6):
            (found,), (*positions,) = await connection.tail(positions, 9, 0)
            partitions.append(found.partition)
        assert positions == ["3-0", "3-0"]
        assert partitions.count(0) == 3
        assert len(set(partitions[:2])) == 2


def taker(consumer: str, *patterns: str) -> Member:
    """Make a worker that takes some events."""
    return member(consumer)._replace(patterns=patterns)


async def test_those_who_take_less_stand_by(keys: Keys) -> None:
    """X15: they settle and renew, and are given nothing until the other is gone."""
    small, large = taker("ann", "a"), taker("bob", "a", "b")
    async with (
        transport(keys, partitions=2).connect() as connection,
        transport(keys, partitions=2).connect() as other,
    ):
        await connection.store(batch(1, *map(str.encode, "abcd")))
        assert await connection.join(small) == ["ann"]
        leases = [await lease_of(connection, small, each) for each in (0, 1)]
        held = [await each.receive(Room(1)) for each in leases]
        assert await other.join(large) == ["bob"]
        assert [await bodies(each) for each in leases] == [[], []]
        assert await connection.join(small) == ["bob"]
        for lease, (given,) in zip(leases, held, strict=True):
            await lease.settle([Acknowledged(given.position)])
            await lease.renew()
            # It is not woken by what it is not given.
            await connection.store(batch(1, b"x", producer=given.position))
            await lease.wait(0.001)
            await lease.release()
        assert await connection.acquire(small, 0) is None
        assert len(await bodies(await lease_of(other, large))) >= 1
        await other.leave(large)
        assert await connection.join(small) == ["ann"]
        assert await connection.acquire(small, 1) is not None


async def test_one_who_fits_nobody_is_no_member(keys: Keys) -> None:
    """X15: and changes nothing for the others."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection, taker("ann", "a", "b"))
        with pytest.raises(GroupMismatch):
            await connection.join(taker("bob", "b", "c"))
        assert await connection.join(taker("ann", "a", "b")) == ["ann"]
        await connection.store(batch(1, b"x"))
        assert await bodies(lease) == [b"x"]


async def test_a_late_word_does_not_undo_a_newer_one(keys: Keys) -> None:
    """X15: of what a group takes each partition keeps the latest."""
    async with transport(keys, partitions=2).connect() as connection:
        await connection.join(taker("ann", "a"))
        await connection.join(taker("bob", "**"))
        run = inside(connection)["_network"].run
        await run(1, scripts_module.PATTERNS, "billing", "older", b"1", b"1")
        assert await connection.acquire(taker("bob", "**"), 1) is not None
        await run(1, scripts_module.PATTERNS, "billing", "newer", b"9" * 17, b"1")
        assert await connection.acquire(taker("bob", "**"), 1) is None


async def test_a_group_that_was_forgotten_is_leased_to_nobody(keys: Keys) -> None:
    """X3: until a member has joined again."""
    async with transport(keys).connect() as connection:
        await connection.join(member())
        await connection.forget("billing")
        assert await connection.acquire(member(), 0) is None
        assert await connection.groups() == []


def test_nothing_is_due_before_its_time() -> None:
    """X12: a delay is rounded up."""
    words = list(flat(Postponed("1-0", 1, 2, 0.0001, None)))
    assert words == ["Q", "1-0", 1, 2, 1]


async def test_a_lease_of_a_forgotten_group_tells_a_later_one_nothing(keys: Keys) -> None:
    """X11: that its attempt has ended is no news of the group that was made since."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a"))
        late = await lease_of(connection)
        assert await bodies(late) == [b"a"]
        await connection.forget("billing")
        with pytest.raises(LeaseLost):
            await late.settle([Acknowledged("1-0")])
        lease = await lease_of(connection)
        assert await bodies(lease) == [b"a"]
        with pytest.raises(LeaseLost):
            await late.settle([Acknowledged("1-0")])
        await lease.release()
        assert await bodies(await lease_of(connection)) == [b"a"]
