"""Leases that have run out, and what others were given meanwhile (X11)."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from anyio import Event, create_task_group, sleep

from flexiflow import EventBus
from flexiflow.extras.durable import (
    Acknowledged,
    Buried,
    Failure,
    Followed,
    LeaseLost,
    Member,
    MemoryTransport,
    Noted,
    Postponed,
    Returned,
    Room,
    Settled,
    Standing,
    open_bridge,
)
from flexiflow.extras.durable._bridge import intake
from flexiflow.extras.durable._bridge.budget import Budget
from flexiflow.extras.durable._bridge.held import handing_on
from flexiflow.extras.durable._bridge.intake import Intake
from flexiflow.extras.durable._bridge.lanes import Queue
from flexiflow.extras.durable._bridge.link import Link
from flexiflow.extras.durable._bridge.settlements import tells_an_end
from tests.durable.bridge.helpers import (
    GROUP,
    NAME,
    Faulty,
    Handler,
    Refused,
    consuming,
    pending,
    play,
    put,
    put_bodies,
    until,
)

NO = Failure("builtins.OSError", "no", "")


def member(name: str, **changes: Any) -> Member:
    """Make a member, whose lease lasts for ten seconds."""
    return Member("g", name, name, ("order.*",), 10.0)._replace(**changes)


async def enter(connection: Any, who: Member, partition: int = 0) -> Any:
    """Join, and acquire a partition."""
    await connection.join(who)
    return await connection.acquire(who, partition)


@pytest.mark.parametrize("partitions", [None, 1])
async def test_a_handler_that_blocks_for_longer_than_its_lease_is_called_once(
    partitions: int | None,
) -> None:
    """X11: Its event is acknowledged, and so are those beside it, each handled once."""
    transport, handled = MemoryTransport(partitions=partitions), list[int]()
    bus = EventBus()

    def handler(data: int) -> None:
        if data == 0:
            # As code does that asks no event loop; this is no wait of the test's.
            time.sleep(0.25)
        handled.append(data)

    await bus.subscribe(NAME, "c", handler)
    await put(transport, *range(5))
    async with open_bridge(
        bus, transport, incoming=[NAME], group=GROUP, lease=0.1, limit=2
    ) as bridge:
        await until(lambda: bridge.statistics().acknowledged == 5)
        assert bridge.statistics().dead == 0
    assert sorted(handled) == [0, 1, 2, 3, 4]
    assert pending(transport) == {}


def test_what_another_was_given_is_dropped(backend: str) -> None:
    """X11: What runs of it is cancelled, what has not begun never begins; the rest goes on."""

    async def scenario() -> None:
        transport, gate = MemoryTransport(), Event()
        faulty, handler = Faulty(transport), Handler(gate=gate)
        await put(transport, *range(4))
        async with consuming(faulty, handler, limit=2, lease=9.0) as bridge:
            await until(lambda: len(handler.begun) == 2)
            with faulty.away("renew", "receive", "settle", "join"):
                await sleep(20)
                async with transport.connect() as connection:
                    await connection.join(other := member("x", group=GROUP))
                    lease = await connection.acquire(other, 0)
                    assert lease is not None
                    # One that runs, and one that has not begun.
                    given = await lease.receive(Room(1))
                    assert [each.position for each in given] == ["1"]
                    await lease.settle([Returned("1", 0, 0), Noted("3", 0, 0)])
                    [first] = await lease.receive(Room(1))
                    assert first.position == "1"
            await until(lambda: bridge.statistics().held == 3, 1000)
            await until(lambda: sorted(handler.begun) == [0, 1, 2])
            assert handler.running == 2
            gate.set()
            await until(lambda: bridge.statistics().acknowledged == 3, 1000)
            assert sorted(handler.done) == [1, 2, 3]
            assert pending(transport) == {1: (0, 1, True)}
            await lease.settle([Acknowledged("1")])

    play(scenario, backend, schedules=3)


def test_a_partition_that_changes_hands_is_no_death(backend: str) -> None:
    """X11: Of what is cancelled since the partition is another's, the attempt has ended."""

    async def scenario() -> None:
        transport, handler = MemoryTransport(partitions=1), Handler(gate=Event())
        faulty = Faulty(transport)
        await put(transport, 0)
        async with consuming(faulty, handler, lease=9.0) as bridge:
            await until(lambda: handler.begun)
            with faulty.away("renew", "receive", "settle", "join"):
                await sleep(20)
                async with transport.connect() as connection:
                    lease = await enter(connection, member("x", group=GROUP, lease=1000.0))
                    [given] = await lease.receive(Room(1))
                    await lease.settle([Noted(given.position, 0, 2)])
            await until(lambda: not handler.running, 1000)
            await until(lambda: bridge.statistics().held == 0)
            await until(lambda: pending(transport) == {1: (0, 1, True)})

    play(scenario, backend, schedules=3)


def test_what_is_given_anew_is_not_dropped_by_an_answer_from_before(backend: str) -> None:
    """X11: That a worker had lost it tells nothing of what it was given since."""

    async def scenario() -> None:
        transport, gate = MemoryTransport(), Event()
        faulty, handler = Faulty(transport), Handler(gate=gate)
        await put(transport, 0, 1)
        async with consuming(faulty, handler, lease=9.0, limit=1) as bridge:
            await until(lambda: handler.begun)
            with faulty.away("receive"):
                with faulty.away("renew", "settle", "join"):
                    await sleep(20)
                    async with transport.connect() as connection:
                        lease = await enter(connection, member("x", group=GROUP))
                        assert len(await lease.receive(Room(2))) == 2
                        await lease.settle([Returned("1", 0, 0), Returned("2", 0, 0)])
                        await lease.release()
                    hold = faulty.hold("renew", is_late=True)
                await hold.reached.wait()
            # It is received once more, and waits for the answer before it begins.
            await until(lambda: not handler.running, 1000)
            hold.open.set()
            await until(lambda: handler.begun == [0, 0], 1000)
            gate.set()
            await until(lambda: bridge.statistics().acknowledged == 2, 1000)
        assert (handler.done, pending(transport)) == ([0, 1], {})

    play(scenario, backend, schedules=3)


def test_a_key_may_stay_again_whose_line_is_another_workers(backend: str) -> None:
    """X11, X12: What was lost of a key was the first of its line, which is gone with it."""

    async def scenario() -> None:
        transport, gate, failed = MemoryTransport(), Event(), list[object]()
        faulty = Faulty(transport)

        async def handler(data: object) -> None:
            if not failed:
                failed.append(data)
                raise Refused(data)
            await gate.wait()

        await put(transport, 0, key=lambda _: "k")
        async with consuming(faulty, handler, lease=9.0) as bridge:
            await until(lambda: bridge.statistics().delivered == 2)
            faulty.outcomes.clear()
            with faulty.away("renew", "receive", "settle", "join"):
                await sleep(20)
                async with transport.connect() as connection:
                    lease = await enter(connection, member("x", group=GROUP, lease=1000.0))
                    [given] = await lease.receive(Room(1))
                    assert given.has_waited
            await until(lambda: Followed("k") in faulty.outcomes, 1000)
            await put(transport, 1, key=lambda _: "k")
            gate.set()
            await until(lambda: bridge.statistics().acknowledged == 1, 1000)
            assert not any(isinstance(each, Postponed) for each in faulty.outcomes)

    play(scenario, backend, schedules=3)


def test_a_worker_that_was_slow_asks_before_it_begins(backend: str) -> None:
    """X11: Before anything of a lease that has run out is handled, it sees what it still holds."""

    async def scenario() -> None:
        transport, gate = MemoryTransport(), Event()
        faulty, handler = Faulty(transport), Handler(gate=gate)
        await put(transport, 0, 1, key=lambda _: "k")
        async with consuming(faulty, handler, limit=1, lease=9.0) as bridge:
            await until(lambda: handler.begun)
            hold = faulty.hold("renew")
            await hold.reached.wait()
            async with transport.connect() as connection:
                other = member("x", group=GROUP, lease=1000.0)
                await connection.join(other)
                await sleep(20)
                lease = await connection.acquire(other, 0)
                assert lease is not None
                assert len(await lease.receive(Room(9))) == 2
            gate.set()
            # The first has been handled, and the second would begin.
            await until(lambda: handler.done == [0], 1000)
            await sleep(1)
            assert handler.begun == [0]
            hold.open.set()
            await until(lambda: bridge.statistics().held == 0, 1000)
            await sleep(30)
            assert handler.begun == [0]
            # That it was handled all the same is known, should the other let it go.
            await lease.settle([Returned("1", 0, 1), Returned("2", 0, 0)])
            await lease.release()
            await until(lambda: handler.done == [0, 1], 1000)
            await until(lambda: not pending(transport), 1000)
            assert handler.begun == [0, 1]

    play(scenario, backend, schedules=3)


def test_a_lease_that_ran_out_while_a_handler_blocked_is_renewed_first(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X11: The event loop has noted nothing, so the real clock is asked before an attempt."""
    real, confirm = 0.0, Intake.confirm
    monkeypatch.setattr(intake, "monotonic", lambda: real)

    async def confirm_for_nothing(self: Intake) -> None:
        # A connection that is made meanwhile would keep the event of this context.
        assert handing_on.get() is None
        await confirm(self)

    monkeypatch.setattr(Intake, "confirm", confirm_for_nothing)

    async def scenario() -> None:
        nonlocal real
        transport, begun, real = MemoryTransport(), list[object](), 0.0
        faulty = Faulty(transport)

        def handler(data: object) -> None:
            nonlocal real
            begun.append(data)
            real += 10

        hold = faulty.hold("renew")
        await put(transport, 0, 1)
        async with consuming(faulty, handler, limit=1, lease=9.0) as bridge:
            await hold.reached.wait()
            assert begun == [0]
            hold.open.set()
            await until(lambda: bridge.statistics().acknowledged == 2, 1000)

    play(scenario, backend, schedules=3)


def test_each_time_that_a_lease_runs_out_is_noted(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X11: Also after it was renewed; until the answer to that is there, it has run out."""
    monkeypatch.setattr(intake, "monotonic", lambda: 0.0)

    async def scenario() -> None:
        transport = MemoryTransport()
        async with transport.connect() as connection, create_task_group() as group:
            lease = await enter(connection, member("c", lease=1000.0))
            settings: Any = SimpleNamespace(prefetch=10, max_waiting=10, lease=9.0, group="g")
            link = Link(EventBus(), transport, settings)
            held = Intake(link, lease, Queue(), Budget(10, 10))
            group.start_soon(held.watch)
            for _ in range(3):
                await sleep(8)
                assert not held.has_run_out
                await sleep(2)
                assert held.has_run_out
                await held.renew()
                assert not held.has_run_out
            group.cancel_scope.cancel()

    play(scenario, backend, schedules=3)


def test_workers_that_block_by_turns_come_to_an_end(backend: str) -> None:
    """X11: An event that each of two workers handled too slowly is neither dead nor for ever."""

    async def scenario() -> None:
        transport, calls = MemoryTransport(), list[str]()
        workers = [Faulty(transport), Faulty(transport)]
        gates = [Event(), Event()]

        async def work(number: int) -> None:
            async def handler(data: object) -> None:
                calls.append(str(number))
                # As if the whole worker stood still.
                with workers[number].away("renew", "join", "receive", "settle"):
                    await sleep(100)

            async with consuming(
                workers[number], handler, lease=9.0, max_deliveries=2, grace=0.0
            ) as bridge:
                await gates[number].wait()
            assert bridge.statistics().dead == 0

        await put(transport, 1)
        async with create_task_group() as group:
            group.start_soon(work, 0)
            await until(lambda: calls, 1000)
            await sleep(50)
            group.start_soon(work, 1)
            await until(lambda: not pending(transport), 100_000)
            for gate in gates:
                gate.set()
        assert 2 <= len(calls) <= 4

    play(scenario, backend, schedules=2)


class TestLeases:
    """The transport itself."""

    def test_one_that_has_run_out_goes_on(self, backend: str) -> None:
        """X11: As long as nobody else was given what it holds, it receives, settles and renews."""

        async def scenario() -> list[Any]:
            transport = MemoryTransport()
            await put_bodies(transport, b"a", b"b", b"c")
            async with transport.connect() as connection:
                lease = await enter(connection, member("a"))
                first, second = await lease.receive(Room(2))
                await sleep(11)
                assert await lease.settle([Acknowledged(first.position)]) == Settled([], [])
                assert await lease.renew([second.position]) == []
                await sleep(11)
                third = await lease.receive(Room(9))
                await lease.settle([Acknowledged(each.position) for each in (second, *third)])
                assert await connection.standing("g") == Standing(0, 0, 0, 0)
                return [each.body for each in third]

        self.replay(scenario, backend, [b"c"])

    @pytest.mark.parametrize("has_waited", [False, True])
    def test_a_later_holder_is_not_overwritten(self, backend: str, *, has_waited: bool) -> None:
        """X11: A stale lease settles nothing of others; it is told which are no longer its own."""

        async def scenario() -> None:
            for outcome in (
                Acknowledged("1"),
                Noted("1", 7, 7),
                Returned("1", 7, 0),
                Buried("1", 7, 1, NO),
                Postponed("1", 7, 0, 0.0, "k"),
            ):
                transport = MemoryTransport()
                await put_bodies(transport, b"a")
                async with transport.connect() as connection:
                    stale = await enter(connection, member("a"))
                    await stale.receive(Room(1))
                    if has_waited:
                        await stale.settle([Postponed("1", 0, 0, 0.0, "k")])
                        [given] = await stale.receive(Room(1))
                        assert given.has_waited
                    await sleep(11)
                    holder = await enter(connection, member("b"))
                    [taken] = await holder.receive(Room(1))
                    assert (taken.deliveries, taken.is_suspect) == (1, True)
                    await holder.settle([Noted("1", 0, 2)])
                    for _ in range(2):
                        assert await stale.settle([outcome]) == Settled(["1"], [])
                    assert await stale.renew(["1"]) == ["1"]
                    ended = not isinstance(outcome, Noted)
                    attempts = 7 if ended and not isinstance(outcome, Acknowledged) else 0
                    expected = {1: (attempts, 1 if ended else 2, True)}
                    assert pending(transport, "g") == expected
                    await holder.settle([Acknowledged("1")])
                    assert await connection.standing("g") == Standing(0, 0, 0, 0)
                    assert await stale.settle([outcome]) == Settled([], [])

        self.replay(scenario, backend, None)

    @pytest.mark.parametrize("how", ["returned", "postponed", "released", "run out"])
    def test_what_a_stale_one_has_handled_is_settled_once_it_is_let_go(
        self, backend: str, how: str
    ) -> None:
        """X11: It is not given again; and the next of its key's line is."""

        async def scenario() -> list[bytes]:
            transport = MemoryTransport()
            await put_bodies(transport, b"a", b"b")
            async with transport.connect() as connection:
                stale = await enter(connection, member("a"))
                await stale.receive(Room(2))
                await stale.settle([Postponed("1", 1, 0, 0, "k"), Postponed("2", 0, 0, None, "k")])
                assert len(await stale.receive(Room(2))) == 1
                await sleep(11)
                holder = await enter(connection, member("b"))
                assert len(await holder.receive(Room(2))) == 1
                if how == "postponed":
                    await holder.settle([Postponed("1", 2, 0, 5.0, "k")])
                await stale.settle([Acknowledged("1")])
                if how == "returned":
                    await holder.settle([Returned("1", 1, 0)])
                elif how == "released":
                    await holder.release()
                await sleep(11)
                last = await enter(connection, member("c"))
                given = [*await last.receive(Room(5)), *await last.receive(Room(5))]
                assert await connection.standing("g") == Standing(1, 0, 0, 0)
                return [each.body for each in given]

        self.replay(scenario, backend, [b"b"])

    def test_a_partition_that_another_leased_is_lost(self, backend: str) -> None:
        """X11: Then every call says so, and changes nothing."""

        async def scenario() -> None:
            transport = MemoryTransport(partitions=1)
            await put_bodies(transport, b"a")
            async with transport.connect() as connection:
                stale = await enter(connection, member("a"))
                await stale.receive(Room(1))
                assert await enter(connection, member("b")) is None
                await sleep(11)
                holder = await enter(connection, member("b"))
                assert holder.token > stale.token
                for call in (
                    lambda: stale.receive(Room(1)),
                    lambda: stale.wait(1),
                    lambda: stale.settle([Noted("1", 0, 7)]),
                    stale.renew,
                    stale.release,
                ):
                    with pytest.raises(LeaseLost):
                        await call()
                assert [each[3:6] for each in await holder.receive(Room(2))] == [(0, 1, True)]
                # That its attempt has ended is noted all the same.
                with pytest.raises(LeaseLost):
                    await stale.settle([Acknowledged("1")])
                await holder.release()
                last = await enter(connection, member("b"))
                assert await last.receive(Room(2)) == []

        self.replay(scenario, backend, None)

    def test_one_that_has_run_out_and_holds_nothing_is_forgotten(self, backend: str) -> None:
        """X11: After ten minutes, so that dead workers do not add up."""

        async def scenario() -> list[int]:
            transport = MemoryTransport()
            async with transport.connect() as connection:
                for number in range(5):
                    await enter(connection, member(str(number)))
                lengths = list[int]()
                for seconds in (11, 590, 10):
                    await sleep(seconds)
                    lease = await enter(connection, member("a"))
                    await lease.receive(Room(1))
                    lengths.append(len(transport._state.groups["g"].readings[0].leases))
                return lengths

        self.replay(scenario, backend, [6, 7, 3])

    def replay(self, scenario: Any, backend: str, expected: object) -> None:
        """Run a scenario in virtual time, and compare what it returns."""
        found = list[object]()

        async def note() -> None:
            found.append(await scenario())

        play(note, backend, schedules=1)
        assert found == [expected]


async def test_a_failing_event_is_counted_by_a_stale_worker_too() -> None:
    """X11: A failure of an attempt whose event was given to another counts there."""
    transport = MemoryTransport()
    await put(transport, 1)
    gate = Event()

    async def handler(data: object) -> None:
        await gate.wait()
        raise Refused

    async with consuming(transport, handler, max_attempts=9) as bridge:
        await until(lambda: bridge.statistics().delivered)
        (reading,) = transport._state.groups[GROUP].readings
        (entry,) = reading._pending.values()
        entry.holder = 99
        reading.leases[99] = float("inf")
        gate.set()
        await until(lambda: entry.attempts == 1)
        assert bridge.statistics().failed == 1
    assert pending(transport) == {1: (1, 1, True)}


@pytest.mark.parametrize(
    ("outcome", "is_told"),
    [
        (Acknowledged("1"), True),
        (Buried("1", 3, 1, NO), True),
        (Postponed("1", 1, 0, 2.0, "k"), True),
        (Returned("1", 1, 0), True),
        (Noted("1", 0, 3), False),
        (Returned("1", 0, 3), False),
        (Postponed("1", 0, 3, None, "k"), False),
        (Followed("k"), False),
    ],
    ids=repr,
)
def test_only_attempts_that_have_ended_are_told_of_a_lease_that_is_gone(
    outcome: Any, *, is_told: bool
) -> None:
    """X11: What may have killed its workers, and was not begun here, keeps its count."""
    assert tells_an_end(outcome) == is_told
