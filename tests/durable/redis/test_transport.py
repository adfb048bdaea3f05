"""The transport on Redis: what it keeps, gives and settles."""

import json
import re
import reprlib

import pytest
from anyio import CancelScope, Event, create_task_group, fail_after, sleep_forever

from flexiflow import EventBus
from flexiflow.extras.durable import (
    Acknowledged,
    Buried,
    ConsumerInUse,
    Delivery,
    GroupMismatch,
    Lease,
    LeaseLost,
    LogFull,
    Noted,
    Returned,
    Room,
    Settled,
    Standing,
    TransportUnusable,
    open_bridge,
)
from flexiflow.extras.durable._redis import waiter as waiter_module
from tests.durable.redis.desk import (
    FAILURE,
    Keys,
    await_more,
    batch,
    bodies,
    is_somebody_waiting,
    lease_of,
    member,
    standing,
    transport,
    until,
)
from tests.helpers import PATIENCE

pytestmark = pytest.mark.once


async def test_stores_a_batch_in_order_and_once(keys: Keys) -> None:
    """X2: a batch that is tried again is not stored again, nor is one with a lower number."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a", b"b"))
        await connection.store(batch(2, b"c"))
        await connection.store(batch(2, b"c"))
        await connection.store(batch(1, b"a", b"b"))
        await connection.store(batch(1, b"d", producer="other"))
        found, positions = await connection.tail(["0-0"], 10, 0)
        assert [each.body for each in found] == [b"a", b"b", b"c", b"d"]
        assert positions == ["4-0"]


async def test_keeps_the_keys_and_groups_of_records(keys: Keys) -> None:
    """X3: a record is stored with its key and its group, whichever it has."""
    first = batch(1, b"a", b"b", b"c", b"d", keys=[None, "k", None, "k"])
    records = [each._replace(group="g") if at > 1 else each for at, each in enumerate(first[2])]
    async with transport(keys).connect() as connection:
        await connection.store(first._replace(records=tuple(records)))
        found, _ = await connection.tail(["0-0"], 10, 0)
        assert [each.group for each in found] == [None, None, "g", "g"]
    stored = keys.command("XRANGE", "log", "-", "+")
    assert stored.count("key") == 2


async def test_says_where_it_is_and_how_it_is_laid_out(keys: Keys) -> None:
    """X4: a connection tells its address, how it is divided, and how much it holds."""
    async with transport(keys, max_length=7).connect() as connection:
        assert connection.max_length == 7
        assert connection.address == f"{keys.server.url}/0"
        assert (connection.partitions, connection.is_exclusive) == (1, False)
    with pytest.raises(
        TransportUnusable, match=r"/0 can't be used: .*laid out with partitions=None, not 2"
    ):
        async with transport(keys, partitions=2).connect():
            pytest.fail("opened")


async def test_makes_room_only_of_what_every_group_has_settled(keys: Keys) -> None:
    """X5: a full log takes nothing until the oldest is settled by all, and loses nothing."""
    async with transport(keys, max_length=3).connect() as connection:
        await connection.store(batch(1, b"gone", b"a", b"b"))
        await connection.store(batch(2, b"c"))
        one = await lease_of(connection)
        two = await lease_of(connection, member(group="audit"))
        assert await bodies(one) == await bodies(two) == [b"a", b"b", b"c"]
        await one.settle([Acknowledged(each) for each in ("2-0", "3-0", "4-0")])
        await two.settle([Acknowledged(each) for each in ("2-0", "4-0")])
        await connection.store(batch(3, b"d"))
        with pytest.raises(LogFull):
            await connection.store(batch(4, b"e"))
        await two.settle([Acknowledged("3-0")])
        await connection.store(batch(4, b"e"))
        with pytest.raises(LogFull):
            await connection.store(batch(5, b"1", b"2", b"3", b"4"))
        assert await bodies(one) == await bodies(two) == [b"d", b"e"]
        assert (await standing(connection, two)).missed == 0


async def test_what_never_fits_costs_nothing(keys: Keys) -> None:
    """X5: a batch of more records than the log may hold makes no room."""
    async with transport(keys, max_length=3).connect() as connection:
        await connection.store(batch(1, b"a", b"b"))
        with pytest.raises(LogFull):
            await connection.store(batch(2, b"1", b"2", b"3", b"4"))
        found, _ = await connection.tail(["0-0"], 10, 0)
        assert [each.body for each in found] == [b"a", b"b"]


async def test_keeps_what_a_lost_group_has_not_settled(keys: Keys) -> None:
    """X6: a group that the server forgot holds its records back as before."""
    async with transport(keys, max_length=1).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, b"a"))
        assert await bodies(lease) == [b"a"]
        keys.server.command("XGROUP", "DESTROY", keys.log, "billing")
        with pytest.raises(LogFull):
            await connection.store(batch(2, b"b"))


async def test_stores_nothing_where_one_partition_is_full(keys: Keys) -> None:
    """X5: a batch for several partitions is stored in all of them, or in none."""
    async with transport(keys, partitions=2, max_length=1).connect() as connection:
        await connection.join(member())
        await connection.store(batch(1, b"a", b"b"))
        assert (await connection.standing("billing")).lag == 2
        lease = await connection.acquire(member(), 0)
        assert lease is not None
        (given,) = await lease.receive(Room(10))
        await lease.settle([Acknowledged(given.position)])
        with pytest.raises(LogFull):
            await connection.store(batch(2, b"c", b"d"))
        found, _ = await connection.tail(["0-0", "0-0"], 10, 0)
        # That one partition made room is all that happened.
        assert {b"c", b"d"}.isdisjoint(each.body for each in found)
        assert [each.partition for each in found] == [1]


async def test_lets_in_one_worker_of_a_name(keys: Keys) -> None:
    """X4: a namesake that is alive is refused, as is one that takes other events."""
    ann, namesake = member(), member(instance="2")
    other = member("bob")._replace(patterns=("payment.*",))
    async with transport(keys).connect() as connection:
        assert await connection.join(ann) == ["ann"]
        assert await connection.join(member("bob")) == ["ann", "bob"]
        assert await connection.join(ann) == ["ann", "bob"]
        with pytest.raises(ConsumerInUse):
            await connection.join(namesake)
        with pytest.raises(
            GroupMismatch, match=r"takes order\.\*, and this one would take payment\.\*"
        ):
            await connection.join(other)
        await connection.leave(namesake)
        with pytest.raises(ConsumerInUse):
            await connection.join(namesake)
        await connection.leave(ann)
        await connection.leave(ann)
        assert await connection.join(namesake) == ["ann", "bob"]
        # Bob falls silent.
        keys.command("HSET", "members:billing", "bob", json.dumps([0, "1", '["order.*"]', 0]))
        assert await connection.join(namesake) == ["ann"]


async def test_leases_a_partition_to_one_worker_at_a_time(keys: Keys) -> None:
    """X4: with partitions each is one worker's, and a later lease has a greater token."""
    async with transport(keys, partitions=2).connect() as connection:
        lease = await lease_of(connection, partition=1)
        assert lease.partition == 1
        await connection.join(member("bob"))
        assert await connection.acquire(member("bob"), 1) is None
        keys.expire(lease)
        second = await connection.acquire(member("bob"), 1)
        assert second is not None
        assert second.token > lease.token


async def test_a_clock_that_is_set_back_keeps_no_lease(keys: Keys) -> None:
    """X1: a lease, or a member, that begins later than now is over."""
    far = 10**15
    async with transport(keys, partitions=1).connect() as connection:
        lease = await lease_of(connection)
        keys.expire(lease, span=f"{far} {far + 60_000}")
        alive = json.dumps([far + 60_000, "1", '["order.*"]', far])
        keys.command("HSET", "members:billing", "ann", alive)
        assert await connection.join(member("bob")) == ["bob"]
        assert await connection.acquire(member("bob"), 0) is not None
        with pytest.raises(LeaseLost):
            await lease.renew()


async def test_a_lease_that_has_run_out_goes_on_until_others_are_given_what_it_holds(
    keys: Keys,
) -> None:
    """X11: it receives, settles and is renewed, and so it holds again."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a", b"b"))
        lease = await lease_of(connection)
        assert await bodies(lease, 1) == [b"a"]
        keys.expire(lease)
        assert await lease.settle([Acknowledged("1-0")]) == Settled()
        assert await bodies(lease) == [b"b"]
        assert await lease.renew(["1-0", "2-0"]) == ["1-0"]
        assert await bodies(await lease_of(connection)) == []
        assert await standing(connection, lease) == Standing(1, 0, 0, 0)


def counts(given: Delivery) -> tuple[bytes, int, int, bool]:
    """Give a delivery's body and counts."""
    return given.body, given.attempts, given.deliveries, given.is_suspect


async def test_gives_what_a_dead_worker_held_first_and_in_order(keys: Keys) -> None:
    """X3: what had begun is suspect, what was returned is not, and the counts are kept."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a", b"b", b"c", b"d", b"e", b"f"))
        one, two = await lease_of(connection), await lease_of(connection)
        assert await bodies(one, 2) == [b"a", b"b"]
        assert await bodies(two, 3) == [b"c", b"d", b"e"]
        await one.settle([Noted("2-0", 1, 3), Returned("1-0", 0, 0)])
        await two.settle([Noted("3-0", 2, 0)])
        await one.release()
        keys.expire(two)
        third = await lease_of(connection)
        given = [*await third.receive(Room(3)), *await third.receive(Room(9))]
        assert list(map(counts, given)) == [
            (b"a", 0, 1, False),
            (b"b", 1, 3, True),
            (b"c", 2, 1, False),
            (b"d", 0, 1, True),
            (b"e", 0, 1, True),
            (b"f", 0, 1, False),
        ]
        assert await third.receive(Room(9)) == []
        # Nothing is left of workers that are gone.
        assert keys.server.command("XINFO", "CONSUMERS", keys.log, "billing").count("name") == 1


async def test_settles_each_in_its_way(keys: Keys) -> None:
    """X3: acknowledged and buried are over, noted is held, returned is anybody's."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a", b"b", b"c", b"d"))
        one, two = await lease_of(connection), await lease_of(connection)
        assert len(await bodies(one)) == 4
        outcomes = (
            Acknowledged("1-0"),
            Buried("2-0", 5, 1, FAILURE),
            Returned("3-0", 0, 1),
            Noted("4-0", 1, 1),
        )
        await one.settle(outcomes)
        assert await standing(connection, one) == Standing(2, 0, 0, 1)
        assert list(map(counts, await two.receive(Room(9)))) == [(b"c", 0, 1, True)]
        await one.settle(outcomes)
        await one.settle([Acknowledged("3-0"), Acknowledged("9-0")])
        assert await standing(connection, two) == Standing(2, 0, 0, 1)


async def test_settling_again_after_a_lost_answer_changes_nothing(keys: Keys) -> None:
    """X3: what was returned is another's by then, and what was buried is buried once."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a", b"b", b"c"))
        one, two = await lease_of(connection), await lease_of(connection)
        given = await one.receive(Room(9))
        outcomes = (
            Acknowledged("1-0"),
            Buried("2-0", 5, 1, FAILURE),
            Returned("3-0", 0, 1),
        )
        await one.settle(outcomes)
        assert await bodies(two) == [b"c"]
        # The answer was lost.
        vars(one)["_held"].take_new(given)
        await one.settle(outcomes)
        assert await standing(connection, two) == Standing(1, 0, 0, 1)
        assert await bodies(one) == []


NO_IDS = ["", "x", "1", "1-1", f"{2**70}-1-0", f"{1:05000}-1-0", "1-1-x"]


async def test_dead_letters_are_listed_by_age_and_redriven_once(keys: Keys) -> None:
    """X3: over all partitions, page by page; what is redriven is for their group alone."""
    async with transport(keys, partitions=2).connect() as connection:
        await connection.join(member())
        await connection.store(batch(1, b"a", b"b", b"c", b"d", keys=["1", "2", "3", "k"]))
        order: list[bytes] = []
        for partition in (0, 1):
            lease = await lease_of(connection, partition=partition)
            given = await lease.receive(Room(9))
            order += [each.body for each in given]
            await lease.settle([Buried(each.position, 5, 1, FAILURE) for each in given])
            await lease.release()
        letters = await connection.dead_letters("billing")
        assert [each.body for each in letters] == order
        assert letters[0][2:5] == (FAILURE, 5, 1)
        pages = [
            await connection.dead_letters("billing", after=after, limit=1)
            for after in (None, *(each.id for each in letters))
        ]
        assert [each for page in pages for each in page] == list(letters)
        ids = [letters[0].id, letters[3].id]
        assert await connection.redrive("billing", [*ids, *NO_IDS, "1-1-0"]) == 2
        for nonsense in NO_IDS:
            told = f"after must be the id of a dead letter, not {reprlib.repr(nonsense)}"
            with pytest.raises(ValueError, match=f"^{re.escape(told)}"):
                await connection.dead_letters("billing", after=nonsense)
        assert await connection.redrive("billing", ids) == 0
        found, _ = await connection.tail(["0-0", "0-0"], 9, 0)
        assert sorted(each.body for each in found if each.group == "billing") == sorted(
            each.body for each in (letters[0], letters[3])
        )
        assert len(await connection.dead_letters("billing")) == 2


async def test_a_dead_letter_may_be_redriven_again(keys: Keys) -> None:
    """X3: what fails once more is a dead letter once more, with its key."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a", keys=["k"]))
        lease = await lease_of(connection)
        for _ in range(2):
            (given,) = await lease.receive(Room(1))
            await lease.settle([Buried(given.position, 1, 1, FAILURE)])
            (letter,) = await connection.dead_letters("billing")
            assert await connection.redrive("billing", [letter.id]) == 1
        (given,) = await lease.receive(Room(1))
        assert given == Delivery("3-0", b"a", "billing", 0, 1, is_suspect=False)
        assert keys.command("XRANGE", "log", "3-0", "3-0").count("group") == 1


async def test_a_failure_that_says_what_cannot_be_encoded_is_kept(keys: Keys) -> None:
    """X3: a lone surrogate in a message is escaped."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a"))
        lease = await lease_of(connection)
        assert await bodies(lease) == [b"a"]
        await lease.settle([Buried("1-0", 1, 1, FAILURE._replace(message="\udc80"))])
        (letter,) = await connection.dead_letters("billing")
        assert letter.failure.message == "\\udc80"


async def test_a_group_is_named_until_it_is_forgotten(keys: Keys) -> None:
    """X3: a group that is forgotten leaves nothing, and may be made anew."""
    async with (
        transport(keys, partitions=2).connect() as connection,
        transport(keys, partitions=2).connect() as other,
    ):
        await connection.store(batch(1, b"a", b"b"))
        lease = await lease_of(connection)
        assert await connection.groups() == ["billing"]
        await other.forget("billing")
        assert await connection.groups() == []
        assert await connection.standing("billing") == Standing(0, 0, 0, 0)
        with pytest.raises(LeaseLost):
            await lease.renew()
        await other.forget("billing")
        await connection.join(member())
        assert await connection.standing("billing") == Standing(0, 2, 0, 0)


async def test_who_looks_on_begins_with_what_is_stored_next(keys: Keys) -> None:
    """X6: one that is no group sees what is stored, and takes nothing from any."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a"))
        found, positions = await connection.tail(None, 10, 0)
        assert (found, positions) == ([], ["1-0"])
        async with create_task_group() as tasks:
            tasks.start_soon(connection.store, batch(2, b"b"))
            with fail_after(PATIENCE):
                found, positions = await connection.tail(positions, 10, PATIENCE)
        assert ([each.body for each in found], positions) == ([b"b"], ["2-0"])


async def test_gives_in_order_what_several_have_left(keys: Keys) -> None:
    """X4: also if several held them, and if few are asked for at a time."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a", b"b", b"c", b"d"))
        one, two = await lease_of(connection), await lease_of(connection)
        assert await bodies(one, 1) == [b"a"]
        assert await bodies(two, 1) == [b"b"]
        assert await bodies(one, 1) == [b"c"]
        await one.release()
        await two.release()
        third = await lease_of(connection)
        assert [await bodies(third, 2), await bodies(third, 2)] == [[b"a", b"b"], [b"c", b"d"]]


async def test_nothing_is_kept_in_mind_of_what_is_over(keys: Keys) -> None:
    """X5: neither its failed attempts, nor that a worker died with it."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a"))
        first = await lease_of(connection)
        assert await bodies(first) == [b"a"]
        await first.release()
        second = await lease_of(connection)
        kept: list[str] = []
        for outcome in (Returned("1-0", 0, 0), Noted("1-0", 2, 1), Acknowledged("1-0")):
            await second.receive(Room(1))
            await second.settle([outcome])
            kept.append(keys.command("HLEN", "a:billing"))
        assert kept == [":0", ":1", ":0"]


async def test_a_producer_is_remembered_from_its_last_batch_on(keys: Keys) -> None:
    """X2: for as long as the window, also where that batch was a repetition; then no more."""

    def seconds() -> int:
        return int(keys.command("TTL", "p:shop").removeprefix(":"))

    async with transport(keys, idempotency_window=3600).connect() as connection:
        await connection.store(batch(1, b"a"))
        left = [seconds()]
        keys.command("EXPIRE", "p:shop", 60)
        await connection.store(batch(1, b"a"))
        left.append(seconds())
    assert all(60 < each <= 3600 for each in left)


@pytest.mark.parametrize("what", ["stored", "returned", "released"])
async def test_a_worker_that_waits_is_woken(
    keys: Keys, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X1: by what is stored, and by what another gives back, not by the clock."""
    monkeypatch.setattr(waiter_module, "_TURN", 2 * PATIENCE)
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a"))
        holder, waiter = await lease_of(connection), await lease_of(connection)
        assert await bodies(holder) == [b"a"]
        got: list[bytes] = []

        async def wait(lease: Lease) -> None:
            with fail_after(PATIENCE):
                got.extend(each.body for each in await await_more(lease, 1))

        async with create_task_group() as tasks:
            tasks.start_soon(wait, waiter)
            await until(lambda: is_somebody_waiting(keys.server))
            if what == "stored":
                await connection.store(batch(2, b"b"))
            elif what == "returned":
                await holder.settle([Returned("1-0", 0, 0)])
            else:
                await holder.release()
        assert got == [b"b" if what == "stored" else b"a"]


async def test_a_worker_waits_on_the_same_connection_again(keys: Keys) -> None:
    """X1: it is kept from one wait to the next, and closed with the lease."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        got: list[Delivery] = []
        waiting: list[int] = []

        async def wait() -> None:
            got.extend(await await_more(lease, 1))

        for number in (1, 2):
            async with create_task_group() as tasks:
                tasks.start_soon(wait)
                await until(lambda: is_somebody_waiting(keys.server))
                waiting.append(keys.server.command("CLIENT", "LIST").count("cmd=xread"))
                await connection.store(batch(number, b"a"))
        assert (len(got), waiting) == (2, [1, 1])
        await lease.release()


async def test_a_bridge_that_is_cancelled_gives_back_at_once(keys: Keys) -> None:
    """X5: what a bridge holds that is cancelled, another worker is given before its lease ends."""
    shop, bus, started = EventBus(on_error="raise"), EventBus(), Event()

    async def wait_forever(_: int) -> None:
        started.set()
        await sleep_forever()

    await bus.subscribe("order.placed", "worker", wait_forever)
    async with open_bridge(shop, transport(keys), outgoing=["order.placed"]):
        for number in range(5):
            await shop.publish("order.placed", number)
    with fail_after(PATIENCE), CancelScope() as scope:
        async with open_bridge(
            bus, transport(keys), incoming=["order.*"], group="billing", lease=60.0
        ):
            await started.wait()
            scope.cancel()
            await sleep_forever()
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        assert len(await bodies(lease)) == 5
