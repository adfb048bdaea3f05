"""How a bridge is left: what is in flight, what is given back, and what leaves the block: X5."""

from dataclasses import dataclass
from typing import Any

import pytest
from anyio import (
    CancelScope,
    Event,
    create_task_group,
    fail_after,
    get_cancelled_exc_class,
    sleep,
    sleep_forever,
    wait_all_tasks_blocked,
)

from flexiflow import EventBus
from flexiflow.extras.durable import (
    ConsumerInUse,
    GroupMismatch,
    MemoryTransport,
    Postponed,
    Returned,
    TransportUnavailable,
    TransportUnusable,
    open_bridge,
)
from flexiflow.testing import cancel_everywhere
from tests.conftest import Backend
from tests.durable.bridge.helpers import (
    GROUP,
    NAME,
    Faulty,
    Handler,
    Refused,
    consuming,
    die_with,
    is_free_of_traces,
    pending,
    play,
    put,
    until,
)
from tests.helpers import PATIENCE, settle
from tests.hosting import Victim, styles

pytestmark = pytest.mark.same_everywhere


@dataclass(frozen=True)
class Frozen(Exception):
    """An exception that can't be written to."""

    number: int


class TestDraining:
    """The block ends as it should."""

    async def test_what_is_in_flight_ends_and_the_rest_is_given_back(self) -> None:
        """X5: Within `grace` what has begun ends; what has not is given back at once, uncounted."""
        transport, gate = MemoryTransport(), Event()
        faulty, handler = Faulty(transport), Handler(gate=gate)
        await put(transport, *range(5))

        async def let_go() -> None:
            await until(lambda: len(faulty.outcomes) == 3)
            assert faulty.outcomes == [Returned(position, 0, 0) for position in "345"]
            gate.set()

        async with create_task_group() as group, consuming(faulty, handler, limit=2):
            await until(lambda: len(handler.begun) == 2)
            await settle()
            group.start_soon(let_go)
        assert sorted(handler.done) == [0, 1]
        assert pending(transport) == {3: (0, 0, False), 4: (0, 0, False), 5: (0, 0, False)}
        assert is_free_of_traces(transport)

    def test_after_grace_it_is_cancelled_and_given_back(self, backend: str) -> None:
        """X5: An attempt that was cancelled has not been one."""

        async def scenario() -> None:
            transport, handler = MemoryTransport(), Handler(gate=Event())
            await put(transport, 1)
            with fail_after(PATIENCE):
                async with consuming(transport, handler, grace=3.0):
                    await until(lambda: handler.begun)
            assert (handler.begun, handler.done, handler.running) == ([1], [], 0)
            assert pending(transport) == {1: (0, 0, False)}
            assert is_free_of_traces(transport)

        play(scenario, backend)

    def test_without_grace_it_is_cancelled_at_once(self, backend: str) -> None:
        """X5: Zero seconds are none."""

        async def scenario() -> None:
            transport, handler = MemoryTransport(), Handler(gate=Event())
            await put(transport, 1)
            with fail_after(0.5):
                async with consuming(transport, handler, grace=0):
                    await until(lambda: handler.begun)
            assert pending(transport) == {1: (0, 0, False)}

        play(scenario, backend)

    async def test_what_an_attempt_in_flight_publishes_still_goes_out(self) -> None:
        """X5: The bridge stores events until the last of its handlers has ended."""
        bus, transport, begun, gate = EventBus(), MemoryTransport(), Event(), Event()

        async def handler(data: object) -> None:
            begun.set()
            await gate.wait()
            assert await bus.publish("payment.made", data) == ()

        await bus.subscribe(NAME, "c", handler)
        await put(transport, 1)
        options: dict[str, Any] = {"outgoing": ["payment.*"], "incoming": [NAME], "group": GROUP}
        async with open_bridge(bus, transport, **options) as bridge:
            await until(begun.is_set)
            gate.set()
        assert bridge.statistics().stored == 1
        assert bridge.statistics().acknowledged == 1
        assert is_free_of_traces(transport, bus)

    async def test_an_attempt_that_fails_meanwhile_is_given_back(self) -> None:
        """X5: It counts as an attempt, and another worker makes the next one, when it is due."""
        transport, gate = MemoryTransport(), Event()
        faulty, handler = Faulty(transport), Handler(gate=gate, fails=9)
        await put(transport, 1, 2)

        async def let_go() -> None:
            await until(lambda: faulty.outcomes)
            gate.set()

        async with create_task_group() as group, consuming(faulty, handler, limit=1):
            await until(lambda: handler.begun)
            await settle()
            group.start_soon(let_go)
        assert faulty.outcomes == [Returned("2", 0, 0), Postponed("1", 1, 0, 0.0, None)]

    async def test_one_that_is_held_back_is_given_back(self) -> None:
        """X5: At once, with its attempts."""
        transport, handler = MemoryTransport(), Handler(fails=9)
        await put(transport, 1)
        async with consuming(transport, handler, retry_delay=30.0) as bridge:
            await until(lambda: bridge.statistics().failed)
        assert pending(transport) == {1: (1, 0, False)}

    async def test_a_suspect_that_has_not_begun_stays_one(self) -> None:
        """X5: Its counts are as they were."""
        transport, gate = MemoryTransport(), Event()
        handler = Handler(gate=gate)
        await put(transport, "a", "b")
        await die_with(transport)
        async with consuming(transport, handler, grace=0):
            await until(lambda: handler.begun)
            await settle()
        assert pending(transport) == {1: (0, 1, False), 2: (0, 1, False)}

    def test_a_handler_that_cleans_up_is_waited_for(self, backend: str) -> None:
        """X5: Nothing of a bridge runs when its block is left."""

        async def scenario() -> None:
            transport, bus, ended = MemoryTransport(), EventBus(), Event()
            begun = Event()

            async def handler(data: object) -> None:
                try:
                    begun.set()
                    await sleep_forever()
                finally:
                    with CancelScope(shield=True):
                        await sleep(20)
                    ended.set()

            await bus.subscribe(NAME, "c", handler)
            await put(transport, 1)
            async with open_bridge(bus, transport, incoming=[NAME], group=GROUP, grace=1.0):
                await begun.wait()
            assert ended.is_set()

        play(scenario, backend)

    def test_a_transport_that_stays_away_is_left_in_the_end(
        self, backend: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """X6: After some seconds; what was held is given to others when the lease has run out."""

        async def scenario() -> None:
            transport, handler = MemoryTransport(), Handler()
            faulty = Faulty(transport)
            await put(transport, 1)
            with fail_after(60), faulty.away("settle", "leave"):
                async with consuming(faulty, handler):
                    await until(lambda: handler.done)
            again = Handler()
            async with consuming(transport, again, consumer="other"):
                with fail_after(60):
                    await again.called.wait()

        play(scenario, backend, schedules=1)
        assert "a bridge was left, and what it held is given to others only later" in caplog.text

    @pytest.mark.unmeasured
    @pytest.mark.parametrize("is_late", [False, True], ids=["call", "reply"])
    def test_a_lease_that_comes_while_it_is_left_is_given_back(
        self, backend: str, *, is_late: bool
    ) -> None:
        """X5: At once, whatever comes first."""

        async def scenario() -> None:
            transport = MemoryTransport()
            faulty = Faulty(transport)
            hold = faulty.hold("acquire", is_late=is_late)

            async def let_go() -> None:
                if is_late:
                    # Until it is being left.
                    await sleep(0.1)
                hold.open.set()

            with fail_after(1):
                async with create_task_group() as group, consuming(faulty, Handler()):
                    await hold.reached.wait()
                    group.start_soon(let_go)
            assert is_free_of_traces(transport)

        play(scenario, backend, schedules=30)

    def test_who_holds_nothing_does_not_wait_for_a_transport(self, backend: str) -> None:
        """X6: Leaving takes no more than the seconds in which a bridge tries to say goodbye."""

        async def scenario() -> None:
            faulty = Faulty(MemoryTransport())
            with faulty.away("acquire", "leave"), fail_after(6):
                async with consuming(faulty, Handler(), grace=1000.0):
                    await until(lambda: faulty.calls["acquire"])

        play(scenario, backend, schedules=3)

    async def test_one_that_is_unusable_by_then_is_left(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """X6: The log tells; the block has ended as it should."""
        faulty = Faulty(MemoryTransport())
        async with consuming(faulty, Handler()):
            faulty.fail("leave", TransportUnusable("nowhere", "a text"))
        assert "a bridge could not give back what it held: nowhere can't be used" in caplog.text


ENDS: dict[str, BaseException] = {
    "exception": ZeroDivisionError("bare"),
    "frozen": Frozen(3),
    "group": ExceptionGroup("mine", [ValueError(1), KeyError(2)]),
    "fatal": KeyboardInterrupt(),
}


class TestEnding:
    """The block ends by an exception."""

    @pytest.mark.parametrize("end", ENDS.values(), ids=list(ENDS))
    async def test_it_leaves_as_it_is(self, end: BaseException) -> None:
        """X5: The same object, in no group; all is given back at once."""
        bus, transport, handler = EventBus(), MemoryTransport(), Handler(gate=Event())
        await bus.subscribe("order.*", "c", handler)
        await put(transport, *range(3))
        options: dict[str, Any] = {"outgoing": ["a"], "incoming": ["order.*"], "group": GROUP}
        with fail_after(PATIENCE), pytest.raises(type(end)) as caught:
            async with open_bridge(bus, transport, **options, limit=1, grace=100.0):
                await until(lambda: handler.begun)
                raise end
        assert caught.value is end
        assert handler.running == 0
        assert {each[:2] for each in pending(transport).values()} <= {(0, 0)}
        assert is_free_of_traces(transport)

    @pytest.mark.parametrize("style", ["scope", "native"])
    async def test_a_cancellation_gives_all_back(self, style: Any, anyio_backend: Backend) -> None:
        """X5: Without grace, and as a cancellation."""
        if style not in styles(anyio_backend):
            pytest.skip("only asyncio has a cancellation of its own")
        transport, handler, victim = MemoryTransport(), Handler(gate=Event()), Victim(style)
        await put(transport, *range(3))

        async def host() -> None:
            async with consuming(transport, handler, limit=1, grace=100.0):
                await sleep_forever()

        async with create_task_group() as group:
            group.start_soon(victim.run, host)
            await until(lambda: handler.begun)
            victim.cancel()
        assert handler.running == 0
        assert len(pending(transport)) == 3
        assert not any(each[2] for each in pending(transport).values())
        assert is_free_of_traces(transport)

    async def test_cancelled_again_as_it_is_left_it_ends(self, anyio_backend: Backend) -> None:
        """X5: What is being stored then is in doubt, and nothing waits for ever."""
        if "native" not in styles(anyio_backend):
            pytest.skip("only asyncio cancels a task through a shield")
        faulty, bus, victim = Faulty(MemoryTransport()), EventBus(), Victim("native")
        held = faulty.hold("store")

        async def host() -> None:
            async with open_bridge(bus, faulty, outgoing=[NAME]):
                await bus.publish(NAME, 1)

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(victim.run, host)
                await held.reached.wait()
                victim.cancel()
                await wait_all_tasks_blocked()
                victim.cancel()

    def test_a_cancellation_ends_the_grace(self, backend: str) -> None:
        """X5: A task that waits for events in flight can be cancelled, and gives them back."""

        async def scenario() -> None:
            transport, handler = MemoryTransport(), Handler(gate=Event())
            await put(transport, 1)
            with CancelScope() as scope:
                scope.deadline = 5.0
                async with consuming(transport, handler, grace=1000.0):
                    await until(lambda: handler.begun)
            assert scope.cancelled_caught
            assert pending(transport) == {1: (0, 0, False)}
            assert is_free_of_traces(transport)

        play(scenario, backend, schedules=3)

    def test_a_failure_of_a_block_that_is_cancelled_leaves(self, backend: str) -> None:
        """X5: As it would leave a plain block."""

        async def scenario() -> None:
            with CancelScope() as scope:
                with pytest.raises(Refused):
                    async with consuming(MemoryTransport(), Handler()):
                        scope.cancel()
                        raise Refused

        play(scenario, backend, schedules=3)

    @pytest.mark.same_everywhere
    def test_wherever_it_is_cancelled_nothing_stays(self, backend: str) -> None:
        """X5: At each of its checkpoints, no event is lost and no trace is left."""
        transports: list[MemoryTransport] = []

        async def scenario() -> None:
            transport, bus = MemoryTransport(), EventBus()
            transports.append(transport)
            handler = Handler(fails=1)
            await bus.subscribe(NAME, "c", handler)
            with CancelScope(shield=True):
                await put(transport, 1, 2)
            options: dict[str, Any] = {"outgoing": ["a"], "incoming": [NAME], "group": GROUP}
            async with open_bridge(bus, transport, **options, retry_delay=0) as bridge:
                await bus.publish("a", 1)
                await until(lambda: bridge.statistics().acknowledged == 2)

        def check() -> None:
            transport = transports.pop()
            assert is_free_of_traces(transport)
            for reading in (each for g in transport._state.groups.values() for each in g.readings):
                assert not reading.leases
                assert all(held.deliveries == 0 for held in reading._pending.values())

        assert cancel_everywhere(scenario, backend=backend, check=check) > 10


class TestFailing:
    """What is wrong with the bridge itself, or struck in it."""

    @pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
    async def test_what_is_no_failure_leaves_the_block(self, end: type[BaseException]) -> None:
        """E5: Ctrl-C in a handler ends the block, bare, and all is given back."""
        transport, bus = MemoryTransport(), EventBus()
        was_cancelled: list[bool] = []

        async def handler(data: object) -> None:
            raise end

        await bus.subscribe(NAME, "c", handler)
        await put(transport, 1)
        with fail_after(PATIENCE), pytest.raises(end):
            async with open_bridge(bus, transport, outgoing=["a"], incoming=[NAME], group=GROUP):
                try:
                    await sleep_forever()
                except get_cancelled_exc_class():
                    was_cancelled.append(True)
                    raise
        assert was_cancelled == [True]
        assert pending(transport) == {1: (0, 0, False)}
        assert is_free_of_traces(transport)

    async def test_it_leaves_a_block_that_fails_by_it(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """E5: It wins over an exception of the block itself."""
        transport, bus = MemoryTransport(), EventBus()

        async def handler(data: object) -> None:
            raise KeyboardInterrupt

        await bus.subscribe(NAME, "c", handler)
        await put(transport, 1)
        with fail_after(PATIENCE), pytest.raises(KeyboardInterrupt):
            async with open_bridge(bus, transport, incoming=[NAME], group=GROUP):
                try:
                    await sleep_forever()
                finally:
                    raise ZeroDivisionError

    def test_what_would_not_get_better_leaves_the_block(self, backend: str) -> None:
        """X6: A transport that has become unusable cancels the block, and leaves it bare."""

        async def scenario() -> None:
            faulty = Faulty(MemoryTransport())
            problem = TransportUnusable("nowhere", "a text")
            with pytest.raises(TransportUnusable) as caught:
                async with consuming(faulty, Handler()):
                    await sleep(1)
                    faulty.fail("join", problem)
                    await sleep_forever()
            assert caught.value is problem

        play(scenario, backend, schedules=3)

    def test_but_not_one_that_fails_by_itself(
        self, backend: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """X5: The block's own exception leaves; what was wrong with the bridge is in the log."""

        async def scenario() -> None:
            faulty = Faulty(MemoryTransport())
            with pytest.raises(Refused):
                async with consuming(faulty, Handler()):
                    await sleep(1)
                    faulty.fail("join", TransportUnusable("nowhere", "a text"))
                    try:
                        await sleep_forever()
                    finally:
                        raise Refused

        play(scenario, backend, schedules=1)
        assert "a bridge failed as it was left: nowhere can't be used" in caplog.text

    @pytest.mark.parametrize("is_away", [False, True])
    async def test_one_that_is_not_told_that_it_joined_leaves(self, *, is_away: bool) -> None:
        """X5: Its name is free again at once, if the transport can be reached."""
        transport = MemoryTransport()
        faulty = Faulty(transport)
        faulty.fail("join", is_late=True)
        calls: list[Any] = ["leave"] if is_away else []
        with faulty.away(*calls), pytest.raises(TransportUnavailable):
            async with consuming(faulty, Handler(), consumer="a"):
                pytest.fail("entered")
        assert [*transport._state.groups[GROUP]._alive] == (["a"] if is_away else [])

    @pytest.mark.parametrize(
        ("options", "problem"),
        [({"consumer": "a"}, ConsumerInUse), ({"incoming": ["payment.*"]}, GroupMismatch)],
    )
    async def test_who_may_not_join_does_not_enter(
        self, options: dict[str, Any], problem: type[Exception]
    ) -> None:
        """X15: Names differ, and of two workers of a group one takes all that the other takes."""
        transport, bus = MemoryTransport(), EventBus()
        async with consuming(transport, Handler(), consumer="a"):
            options = {"incoming": ["order.*"], "group": GROUP, "outgoing": ["a"]} | options
            with pytest.raises(problem):
                async with open_bridge(bus, transport, **options):
                    pytest.fail("entered")
            assert [*transport._state.groups[GROUP]._alive] == ["a"]
        assert is_free_of_traces(transport, bus)
