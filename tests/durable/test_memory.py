"""The transport in memory: what the suite of all transports does not reach."""

from typing import Any

import anyio
import pytest
from anyio import create_task_group, fail_after, wait_all_tasks_blocked

from flexiflow.extras.durable import (
    Acknowledged,
    Batch,
    Buried,
    ConsumerInUse,
    Failure,
    GroupMismatch,
    Lease,
    LeaseLost,
    LogFull,
    Member,
    MemoryTransport,
    Noted,
    Record,
    Returned,
    Room,
    Standing,
)
from flexiflow.extras.durable._membership import share
from flexiflow.testing import replay
from tests.helpers import PATIENCE

MEMBER = Member("g", "a", "1", ("order.*",), 10.0)
OTHER = Member("g", "b", "2", ("order.*",), 10.0)
NAMESAKE = Member("g", "a", "0", ("order.*",), 10.0)
NO = Failure("builtins.OSError", "no", "")


def batch(number: int = 1, *, producer: str = "p", count: int = 1) -> Batch:
    """Make a batch."""
    bodies = [f"{producer}{number}.{place}".encode() for place in range(count)]
    return Batch(producer, number, tuple(map(Record, bodies)))


async def leased(connection: Any, member: Member = MEMBER) -> Lease:
    """Join, and acquire the first partition."""
    await connection.join(member)
    lease: Lease | None = await connection.acquire(member, 0)
    assert lease is not None
    return lease


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"partitions": 0}, "partitions must be None or an int from 1 to 65,536, not 0"),
        ({"partitions": True}, "partitions must be None or an int from 1 to 65,536, not True"),
        ({"partitions": 65_537}, "partitions must be None or an int from 1 to 65,536, not 65537"),
        ({"max_length": 0}, "max_length must be an int, 1 to 1,000,000,000,000, not 0"),
        ({"max_length": 2.5}, "max_length must be an int, 1 to 1,000,000,000,000, not 2.5"),
        *(
            (
                {"idempotency_window": wrong},
                f"idempotency_window must be a finite number of seconds, more than 0, not {told}",
            )
            for wrong, told in ((0, "0"), (True, "True"), ("1", "'1'"), (float("inf"), "inf"))
        ),
    ],
)
def test_refuses_a_number_out_of_its_range(options: dict[str, Any], told: str) -> None:
    """X5: what can't be a number of partitions, of records or of seconds is refused at once."""
    with pytest.raises(ValueError, match="must be") as refused:
        MemoryTransport(**options)
    assert str(refused.value) == told


def test_partitions_are_shared_evenly() -> None:
    """X4: each partition is one worker's, where all know the same workers."""
    consumers = ["a", "b", "c"]
    assert [[*share(7, consumers, each)] for each in consumers] == [[0, 3, 6], [1, 4], [2, 5]]


def test_a_producer_is_forgotten_after_the_window(backend: str) -> None:
    """X2: a batch that comes again within the window is not stored; what is older is forgotten."""

    async def scenario() -> list[int]:
        lengths = list[int]()
        transport = MemoryTransport(idempotency_window=10.0)
        async with transport.connect() as connection:
            for seconds, producer in ((0, "p"), (9, "p"), (9, "q"), (2, "q"), (9, "p")):
                await anyio.sleep(seconds)
                await connection.store(batch(producer=producer))
                lengths.append(transport._state.logs[0].last)
        return lengths

    assert replay(scenario, backend=backend, decisions=()) == [1, 1, 2, 2, 3]


def test_a_waiting_worker_is_given_what_the_dead_one_held(backend: str) -> None:
    """X1: a worker that waits as another's lease runs out is given at once what that held."""

    async def scenario() -> tuple[float, bool]:
        async with MemoryTransport().connect() as connection:
            await connection.store(batch())
            dead, waiting = await leased(connection), await leased(connection, OTHER)
            await dead.receive(Room(1))
            await anyio.sleep(5)
            await waiting.renew()
            began = anyio.current_time()
            assert await waiting.receive(Room(1)) == []
            await waiting.wait(60)
            [delivery] = await waiting.receive(Room(1))
            return anyio.current_time() - began, delivery.is_suspect

    assert replay(scenario, backend=backend, decisions=()) == (5, True)


def test_a_worker_waits_for_nothing(backend: str) -> None:
    """X5: a wait ends when its time is over, also past the end of the lease (X11)."""

    async def scenario() -> tuple[Any, float]:
        async with MemoryTransport().connect() as connection:
            lease, began = await leased(connection), anyio.current_time()
            await lease.wait(13)
            return await lease.receive(Room(1)), anyio.current_time() - began

    assert replay(scenario, backend=backend, decisions=()) == ([], 13)


async def test_who_waits_is_given_what_is_stored() -> None:
    """X1: a stored event reaches a worker that waits, and each reader that only looks on."""
    given, seen = list[bytes](), list[bytes]()
    async with MemoryTransport().connect() as connection:
        lease = await leased(connection)

        async def wait() -> None:
            await lease.wait(PATIENCE)
            given.extend(each.body for each in await lease.receive(Room(1)))

        async def look_on() -> None:
            found, _ = await connection.tail(None, 1, PATIENCE)
            seen.extend(each.body for each in found)

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(wait)
                group.start_soon(look_on)
                await wait_all_tasks_blocked()
                await connection.store(batch())
    assert given == seen == [b"p1.0"]


async def test_a_group_that_is_forgotten_leases_nothing() -> None:
    """X4: the lease of a group that was forgotten is lost, and it can't acquire another."""
    async with MemoryTransport().connect() as connection:
        lease = await leased(connection)
        await connection.forget("g")
        for call in (lease.renew, lease.release):
            with pytest.raises(LeaseLost):
                await call()
        assert await connection.acquire(MEMBER, 0) is None
        await connection.leave(MEMBER)
        assert await connection.groups() == []


async def test_a_worker_leaves_only_for_itself() -> None:
    """X4: a former worker of that name ends nobody's membership."""
    async with MemoryTransport().connect() as connection:
        await connection.join(MEMBER)
        await connection.leave(NAMESAKE)
        await connection.leave(OTHER)
        assert await connection.join(OTHER) == ["a", "b"]
        await connection.leave(MEMBER)
        assert await connection.join(OTHER) == ["b"]


async def test_a_gap_counts_as_missed() -> None:
    """X6: what was deleted between others shows when the next one is given."""
    transport = MemoryTransport()
    async with transport.connect() as connection:
        await connection.store(batch(count=3))
        lease = await leased(connection)
        del transport._state.logs[0].records[2]
        assert [each.body for each in await lease.receive(Room(3))] == [b"p1.0", b"p1.2"]
        assert await connection.standing("g") == Standing(2, 0, 1, 0)


async def test_what_is_no_dead_letter_is_not_redriven() -> None:
    """X3: ids that there are not, and groups that there are not, count as nothing."""
    async with MemoryTransport().connect() as connection:
        await connection.join(MEMBER)
        assert await connection.redrive("g", ["1", "a letter"]) == 0
        assert await connection.redrive("h", ["1"]) == 0
        assert await connection.dead_letters("h") == []


async def test_what_is_gone_can_not_be_buried() -> None:
    """X6: what was deleted while a worker held it counts as missed when it is given up."""
    transport = MemoryTransport()
    async with transport.connect() as connection:
        await connection.store(batch(count=3))
        lease = await leased(connection)
        given = await lease.receive(Room(3))
        transport._state.logs[0].records.clear()
        [acknowledged, buried, noted] = [each.position for each in given]
        await lease.settle(
            [Acknowledged(acknowledged), Buried(buried, 1, 1, NO), Noted(noted, 1, 1)]
        )
        assert await connection.standing("g") == Standing(1, 0, 1, 0)
        await lease.release()
        assert await (await leased(connection)).receive(Room(1)) == []
        assert await connection.standing("g") == Standing(0, 0, 2, 0)


async def test_tells_where_it_is() -> None:
    """X1: a connection tells its address, how it is divided, and how much it holds."""
    async with MemoryTransport(partitions=3, max_length=7).connect() as connection:
        assert connection.max_length == 7
        assert (connection.address, connection.partitions, connection.is_exclusive) == (
            "memory",
            3,
            True,
        )


async def test_a_log_that_is_full_waits_for_every_group() -> None:
    """X5: room is made of what every group has settled, and of nothing else."""
    async with MemoryTransport(max_length=2).connect() as connection:
        await connection.store(batch(1, count=2))
        await connection.store(batch(2, count=1))
        lease = await leased(connection)
        with pytest.raises(LogFull):
            await connection.store(batch(3, count=1))
        [first] = await lease.receive(Room(1))
        await lease.settle([Acknowledged(first.position)])
        await connection.store(batch(3, count=1))
        bodies = [each.body for each in await lease.receive(Room(5))]
    assert bodies == [b"p2.0", b"p3.0"]


async def test_the_workers_of_a_group_agree() -> None:
    """X4: a namesake, and one that takes other events, are refused while the others are alive."""
    async with MemoryTransport().connect() as connection:
        await connection.join(MEMBER)
        with pytest.raises(ConsumerInUse):
            await connection.join(NAMESAKE)
        with pytest.raises(GroupMismatch):
            await connection.join(OTHER._replace(patterns=("payment.*",)))
        assert await connection.join(OTHER) == ["a", "b"]


async def test_one_worker_at_a_time_leases_a_partition() -> None:
    """X4: a partition that is leased exclusively is free again once it is released."""
    async with MemoryTransport(partitions=1).connect() as connection:
        lease = await leased(connection)
        await connection.join(OTHER)
        assert await connection.acquire(OTHER, 0) is None
        assert lease.partition == 0
        await lease.release()
        later = await connection.acquire(OTHER, 0)
        assert later is not None
        assert later.token > lease.token


async def test_what_is_left_is_given_first() -> None:
    """X1: at most so many, first what was given back, and then what is new."""
    async with MemoryTransport().connect() as connection:
        await connection.store(batch(count=4))
        lease = await leased(connection)
        first, second, _ = await lease.receive(Room(3))
        await lease.settle([Returned(first.position, 1, 0), Returned(second.position, 0, 1)])
        await lease.settle([Acknowledged("9")])
        assert [each.body for each in await lease.receive(Room(1))] == [b"p1.0"]
        assert [each[1:6] for each in await lease.receive(Room(5))] == [
            (b"p1.1", None, 0, 1, True),
            (b"p1.3", None, 0, 1, False),
        ]


async def test_a_dead_letter_is_listed_until_it_is_redriven() -> None:
    """X3: what is buried is listed by pages, and stored anew for its group alone."""
    async with MemoryTransport().connect() as connection:
        await connection.store(batch(count=2))
        lease = await leased(connection)
        given = await lease.receive(Room(2))
        await lease.settle([Buried(each.position, 1, 1, NO) for each in given])
        [first] = await connection.dead_letters("g", limit=1)
        [second] = await connection.dead_letters("g", after=first.id)
        assert (first.body, second.body, first.failure) == (b"p1.0", b"p1.1", NO)
        assert await connection.redrive("g", [first.id]) == 1
        assert await connection.standing("g") == Standing(0, 1, 0, 1)
        assert [(each.body, each.group) for each in await lease.receive(Room(5))] == [
            (b"p1.0", "g")
        ]
        assert await connection.standing("h") == Standing(0, 0, 0, 0)


async def test_a_lease_of_a_group_that_was_forgotten_reports_nothing() -> None:
    """X11: A group of that name that was made anew has handled nothing of it."""
    async with MemoryTransport().connect() as connection:
        await connection.store(batch())
        former = await leased(connection)
        [delivery] = await former.receive(Room(1))
        await connection.forget(MEMBER.group)
        lease = await leased(connection)
        await lease.receive(Room(1))
        with pytest.raises(LeaseLost):
            await former.settle([Acknowledged(delivery.position)])
        await lease.release()
        last = await leased(connection)
        assert [each.body for each in await last.receive(Room(1))] == [b"p1.0"]
