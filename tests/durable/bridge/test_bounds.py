"""How many bytes a worker holds (X14), and whose patterns a group takes (X15)."""

import logging
from typing import Any

import pytest
from anyio import Event, create_task_group, sleep, wait_all_tasks_blocked

from flexiflow import EventBus
from flexiflow.extras.durable import (
    ConsumerInUse,
    EventTooLarge,
    GroupMismatch,
    Member,
    MemoryTransport,
    Record,
    Room,
    open_bridge,
)
from flexiflow.extras.durable._bridge.budget import Budget
from flexiflow.extras.durable._membership import Agreement, Peer, agree
from tests.durable.bridge.helpers import (
    GROUP,
    NAME,
    Faulty,
    Handler,
    consuming,
    play,
    put,
    put_bodies,
    until,
)

KIB = 1024


class TestBytes:
    """X14."""

    @pytest.mark.parametrize("policy", ["continue", "raise"])
    async def test_an_event_that_is_too_large_fails_where_it_is_published(
        self, policy: Any
    ) -> None:
        """X14: As a failure of the publish; nothing is stored, and others are not touched."""
        transport, bus = MemoryTransport(max_event_bytes=KIB), EventBus(on_error=policy)
        async with open_bridge(bus, transport, outgoing=[NAME]) as bridge:
            try:
                (failure,) = await bus.publish(NAME, "x" * KIB)
                problem = failure.exception
            except EventTooLarge as exc:
                problem = exc
            assert isinstance(problem, EventTooLarge)
            event_name, size, most = problem.args
            assert (event_name, most) == (NAME, KIB)
            assert KIB < size < 2 * KIB
            assert f"{size} bytes as it is stored, and the transport takes 1024" in str(problem)
            assert await bus.publish(NAME, "y") == ()
            assert bridge.statistics().stored == 1

    async def test_a_transport_refuses_what_is_too_large(self) -> None:
        """X14: Of a batch with one that is too large nothing is stored."""
        transport = MemoryTransport(max_event_bytes=4)
        with pytest.raises(EventTooLarge):
            await put_bodies(transport, b"four", b"fifth")
        assert transport._state.logs[0].last == 0
        await put_bodies(transport, b"four")
        assert transport._state.logs[0].last == 1

    async def test_what_an_outsider_stored_too_large_is_a_dead_letter_unread(self) -> None:
        """X14: It is told how large it is; what is stored after it is handled."""
        transport, body = MemoryTransport(max_event_bytes=KIB), b"x" * (KIB + 1)
        log = transport._state.logs[0]
        log.append(Record(body))
        await put(transport, 1)
        handler = Handler()
        async with consuming(transport, handler) as bridge:
            await until(lambda: bridge.statistics().acknowledged == 1)
            (letter,) = await bridge.dead_letters()
        assert handler.done == [1]
        assert letter.body == body
        assert letter.failure.type.endswith("EventTooLarge")
        assert "1025 bytes as it is stored, and the transport takes 1024" in letter.failure.message

    @pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "1"])
    def test_a_size_out_of_its_range_is_refused(self, wrong: Any) -> None:
        """X14: At once."""
        with pytest.raises(
            ValueError, match="max_event_bytes must be an int, 1 to 1,000,000,000,000, not"
        ):
            MemoryTransport(max_event_bytes=wrong)

    async def test_a_bridge_must_be_able_to_hold_any_event(self) -> None:
        """X14: Else it is refused as it is entered, and no member has joined."""
        transport = MemoryTransport(max_event_bytes=2 * KIB)
        with pytest.raises(ValueError, match="prefetch_bytes=1024 is less than the transport's"):
            async with consuming(transport, Handler(), prefetch_bytes=KIB):
                pytest.fail("entered")
        assert transport._state.groups == {}
        async with consuming(transport, Handler(), prefetch_bytes=2 * KIB):
            pass

    @pytest.mark.unmeasured
    @pytest.mark.parametrize("partitions", [None, 5])
    def test_a_worker_holds_so_many_bytes(self, backend: str, partitions: int | None) -> None:
        """X14: Over all partitions together, whatever `prefetch` allows; and all are handled."""

        async def scenario() -> None:
            transport = MemoryTransport(partitions=partitions, max_event_bytes=2 * KIB)
            gate, most = Event(), [0]
            handler = Handler(gate=gate)

            async def watch(data: Any) -> None:
                (worker,) = (each for each in workers)
                most[0] = max(most[0], sum(each._size for each in worker._intakes.values()))
                await handler(data)

            workers: list[Any] = []
            await put(transport, *("x" * KIB for _ in range(40)))
            async with consuming(transport, watch, prefetch_bytes=8 * KIB, limit=40) as bridge:
                workers.append(bridge._worker)
                await until(lambda: bridge.statistics().held >= 5)
                await sleep(60)
                held = bridge.statistics().held
                assert 5 <= held <= 7
                gate.set()
                await until(lambda: bridge.statistics().acknowledged == 40, 1000)
                (worker,) = workers
                # Each waiting reader has put back what it did not use.
                assert worker._budget.free == 8 * KIB
            assert 5 * KIB < most[0] <= 8 * KIB

        play(scenario, backend, schedules=2)

    @pytest.mark.parametrize("cancelled", [False, True])
    def test_what_a_reader_reserved_is_free_again(self, backend: str, *, cancelled: bool) -> None:
        """X14: When its call failed, was cancelled, or its lease was lost."""

        async def scenario() -> None:
            transport = MemoryTransport()
            faulty, gate = Faulty(transport), Event()
            await put(transport, *range(3))
            async with consuming(faulty, Handler(gate=gate), limit=1) as bridge:
                worker: Any = bridge._worker
                await until(lambda: bridge.statistics().held == 3)
                held = sum(each._size for each in worker._intakes.values())
                assert worker._budget.free == worker._settings.prefetch_bytes - held
                if cancelled:
                    hold = faulty.hold("receive")
                    await hold.reached.wait()
                else:
                    faulty.fail("receive", times=3)
                transport._state.groups[GROUP].readings[0].leases.clear()
                await until(lambda: faulty.calls["acquire"] == 2, 1000)
                gate.set()
                await until(lambda: bridge.statistics().acknowledged == 3, 1000)
                await until(lambda: bridge.statistics().held == 0)
                assert worker._budget.free == worker._settings.prefetch_bytes

        play(scenario, backend, schedules=2)

    async def test_readers_take_turns_where_there_is_room_for_one(self) -> None:
        """X14: One that waits goes on when another has put back enough for any event."""
        budget, sizes = Budget(10, 4), list[int]()

        async def reserve() -> None:
            sizes.append(await budget.reserve())

        async with create_task_group() as group:
            for _ in range(3):
                group.start_soon(reserve)
            await wait_all_tasks_blocked()
            assert sizes == [5, 4]
            budget.put_back(2)
            await wait_all_tasks_blocked()
            assert len(sizes) == 2
            budget.put_back(2)
        assert sizes == [5, 4, 4]
        assert budget.free == 1

    async def test_a_receive_is_given_what_there_is_room_for(self) -> None:
        """X14: So many bytes at most, in order; what does not fit is given later."""
        transport = MemoryTransport()
        await put_bodies(transport, b"1", b"22", b"333", b"4")
        async with transport.connect() as connection:
            await connection.join(MEMBER)
            lease = await connection.acquire(MEMBER, 0)
            assert lease is not None
            for size, expected in ((3, [b"1", b"22"]), (3, [b"333"]), (9, [b"4"])):
                given = await lease.receive(Room(9, size))
                assert [each.body for each in given] == expected
            await lease.release()
            lease = await connection.acquire(MEMBER, 0)
            assert lease is not None
            for size, expected in ((3, [b"1", b"22"]), (4, [b"333", b"4"])):
                given = await lease.receive(Room(9, size))
                assert [each.body for each in given] == expected


MEMBER = Member("g", "a", "1", ("order.*",), 10.0)


class TestAgreeing:
    """X15: plain data."""

    def test_the_greatest_set_is_taken(self) -> None:
        """X15: By those who take it; the others stand by."""
        small, large = ("order.paid",), ("order.**", "payment.*")
        peers = [Peer("b", "2", small), Peer("c", "3", large), Peer("d", "4", large)]
        assert agree(MEMBER, peers) == Agreement(large, ["c", "d"])
        assert agree(MEMBER, peers[:1]) == Agreement(MEMBER.patterns, ["a"])
        assert agree(MEMBER, reversed(peers)) == Agreement(large, ["c", "d"])
        assert agree(MEMBER._replace(patterns=large), peers) == Agreement(large, ["a", "c", "d"])
        assert agree(MEMBER, [Peer("a", "1", small)]) == Agreement(MEMBER.patterns, ["a"])
        peers.append(Peer("e", "5", ("order.**",)))
        assert agree(MEMBER, peers) == Agreement(large, ["c", "d"])

    def test_others_are_refused(self) -> None:
        """X15: Namesakes, and those whose patterns are neither more nor less."""
        with pytest.raises(ConsumerInUse):
            agree(MEMBER, [Peer("a", "2", MEMBER.patterns)])
        with pytest.raises(GroupMismatch) as refused:
            agree(MEMBER, [Peer("b", "2", ("order.paid", "payment.*"))])
        assert str(refused.value) == (
            "a worker of the group 'g' takes order.paid, payment.*, and this one would take "
            "order.*: of two workers of a group one must take all that the other takes"
        )


@pytest.mark.unmeasured
@pytest.mark.parametrize("partitions", [None, 2])
def test_a_deploy_that_adds_a_pattern_rolls(backend: str, partitions: int | None) -> None:
    """X15: Once the new worker has joined, nothing that it alone takes is passed over."""

    async def scenario() -> None:
        transport = MemoryTransport(partitions=partitions)
        gate = Event()
        old, new = Handler(), Handler(gate=gate)
        bus = EventBus()
        await bus.subscribe("**", "c", new)
        options: dict[str, Any] = {"incoming": ["order.*", "order.placed"], "lease": 9.0}
        async with consuming(transport, old, **options) as small:
            await put(transport, 1, name=NAME)
            await until(lambda: small.statistics().acknowledged)
            async with open_bridge(
                bus, transport, incoming=["payment.*", "order.*"], group=GROUP, lease=9.0
            ) as large:
                for number in range(20):
                    await put(transport, number, name="payment.made" if number % 2 else NAME)
                gate.set()
                await until(lambda: large.statistics().acknowledged == 20, 1000)
                assert small.statistics().acknowledged == 1
                assert small.statistics().ignored == large.statistics().ignored == 0
            await put(transport, 2, name=NAME)
            # It goes on alone, when the others have left.
            await until(lambda: old.done == [1, 2], 1000)
        assert sorted(new.done) == list(range(20))

    play(scenario, backend, schedules=2)


def test_one_that_stands_by_drains(backend: str) -> None:
    """X15: What it holds is handled and settled; the new one is given the rest."""

    async def scenario() -> None:
        transport, gate = MemoryTransport(), Event()
        old, new = Handler(gate=gate), Handler()
        await put(transport, *range(6))
        async with consuming(
            transport, old, limit=1, prefetch=2, lease=9.0, incoming=["order.placed"]
        ) as small:
            await until(lambda: small.statistics().held == 2)
            async with consuming(transport, new, lease=9.0) as large:
                await until(lambda: large.statistics().acknowledged >= 4, 1000)
                gate.set()
                await until(lambda: small.statistics().held == 0, 1000)
                await until(lambda: not transport._state.groups[GROUP].readings[0].pending, 1000)
        assert sorted([*old.done, *new.done]) == list(range(6))
        assert old.done[0] == 0

    logging.disable(logging.CRITICAL)
    try:
        play(scenario, backend, schedules=2)
    finally:
        logging.disable(logging.NOTSET)


async def test_nothing_is_leased_to_one_that_stands_by() -> None:
    """X15: Nor given to it, from the moment when a greater one has joined."""
    transport = MemoryTransport()
    await put_bodies(transport, b"a")
    async with transport.connect() as connection:
        small = MEMBER._replace(patterns=("order.placed",))
        assert await connection.join(small) == ["a"]
        lease = await connection.acquire(small, 0)
        assert lease is not None
        large = Member("g", "b", "2", ("order.*",), 10.0)
        assert await connection.join(large) == ["b"]
        assert await lease.receive(Room(1)) == []
        assert await connection.join(small) == ["b"]
        assert await connection.acquire(small, 0) is None
        await lease.renew()
        await connection.leave(large)
        assert await connection.join(small) == ["a"]
        assert len(await lease.receive(Room(1))) == 1


async def test_one_that_stands_by_waits() -> None:
    """X15: Where nothing would be given to it, it is not woken by what is there."""
    transport = MemoryTransport()
    await put_bodies(transport, b"a")
    async with transport.connect() as connection:
        small = MEMBER._replace(patterns=("order.placed",))
        await connection.join(small)
        lease = await connection.acquire(small, 0)
        assert lease is not None
        await connection.join(Member("g", "b", "2", ("order.*",), 10.0))
        await lease.receive(Room(1))
        woken = Event()

        async def wait() -> None:
            await lease.wait(1000)
            woken.set()

        async with create_task_group() as group:
            group.start_soon(wait)
            await wait_all_tasks_blocked()
            assert not woken.is_set()
            group.cancel_scope.cancel()
