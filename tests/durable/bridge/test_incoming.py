"""Events that come in: handled, acknowledged, tried again, or given up: X1, X3, X4."""

import logging
from contextvars import copy_context
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from anyio import (
    Event,
    current_time,
    fail_after,
    get_current_task,
    wait_all_tasks_blocked,
)
from anyio.lowlevel import checkpoint

from flexiflow import EventBus, ReceiverClosed
from flexiflow._bus import DeliveryMode
from flexiflow.extras.durable import (
    Acknowledged,
    Bridge,
    CurrentDelivery,
    MemoryTransport,
    Noted,
    Postponed,
    current_delivery,
    open_bridge,
)
from tests.durable.bridge.helpers import (
    GROUP,
    NAME,
    Faulty,
    Handler,
    Refused,
    consuming,
    die_with,
    pending,
    play,
    put,
    unavailable,
    until,
)
from tests.helpers import MODES, PATIENCE, settle

each_mode = pytest.mark.parametrize("mode", MODES)


class TestHandling:
    """From the log to the handlers, and what is written down then."""

    @each_mode
    async def test_stored_events_are_handed_on(self, mode: DeliveryMode) -> None:
        """X1: Each group gets each event, with its payload, and acknowledges it."""
        transport, bus = MemoryTransport(), EventBus(delivery=mode)
        first, second, other = Handler(), Handler(), Handler()
        for handler in (first, second):
            await bus.subscribe("order.*", "c", handler)
        await put(transport, *({"n": n} for n in range(20)))
        async with (
            open_bridge(bus, transport, incoming=["order.*"], group=GROUP) as bridge,
            consuming(transport, other, group="other"),
        ):
            await until(lambda: bridge.statistics().acknowledged == 20)
            await until(lambda: len(other.done) == 20)
        assert [data["n"] for data in first.done] == [data["n"] for data in second.done]
        assert sorted(data["n"] for data in first.done) == [*range(20)]
        assert not pending(transport)

    async def test_an_event_without_handlers_is_acknowledged(self) -> None:
        """X1: Every local handler has succeeded where there is none."""
        transport = MemoryTransport()
        await put(transport, 1)
        async with open_bridge(EventBus(), transport, incoming=[NAME], group=GROUP) as bridge:
            await until(lambda: bridge.statistics().acknowledged == 1)

    async def test_other_events_are_passed_over(self) -> None:
        """X1: What the group does not take is acknowledged without being handled."""
        transport, handler = MemoryTransport(), Handler()
        await put(transport, 1, name="payment.made")
        await put(transport, 2)
        async with consuming(transport, handler) as bridge:
            await until(lambda: bridge.statistics().acknowledged == 1)
            assert bridge.statistics().ignored == 1
            assert bridge.statistics().held == 0
        assert handler.begun == [2]
        assert not pending(transport)

    async def test_it_is_acknowledged_only_when_all_handlers_have_succeeded(self) -> None:
        """X1: Until then it is held, and nothing is written."""
        faulty, gate, bus = Faulty(MemoryTransport()), Event(), EventBus()
        quick, slow = Handler(), Handler(gate=gate)
        await bus.subscribe(NAME, "c", quick)
        await bus.subscribe(NAME, "c", slow)
        await put(faulty, 1)
        async with open_bridge(bus, faulty, incoming=[NAME], group=GROUP) as bridge:
            await until(lambda: slow.begun)
            assert quick.done == [1]
            assert bridge.statistics().held == 1
            assert not faulty.outcomes
            gate.set()
            await until(lambda: bridge.statistics().acknowledged == 1)
            assert faulty.outcomes == [Acknowledged("1")]

    async def test_a_handler_knows_what_it_is_called_for(self) -> None:
        """X4: The event, the attempt, and the token that fences off later workers."""
        transport, bus, known = MemoryTransport(partitions=1), EventBus(), list[Any]()

        async def handler(data: object) -> None:
            known.append(current_delivery())
            if len(known) == 1:
                raise Refused

        await bus.subscribe(NAME, "c", handler)
        await put(transport, 1, key=lambda _: "k")
        assert current_delivery() is None
        async with open_bridge(
            bus, transport, incoming=[NAME], group=GROUP, retry_delay=0
        ) as bridge:
            await until(lambda: bridge.statistics().acknowledged)
        first, second = known
        assert isinstance(first, CurrentDelivery)
        assert (first.name, first.source, first.key, first.attempt) == (NAME, "flexiflow", "k", 1)
        assert (first.partition, first.position, first.token) == (0, "1", 1)
        assert second == first._replace(attempt=2)

    async def test_a_task_that_outlives_the_handling_knows_nothing_more(self) -> None:
        """X4: The delivery is over as the attempt is."""
        transport, bus, known = MemoryTransport(), EventBus(), list[Any]()
        context: list[Any] = []

        async def handler(data: object) -> None:
            context.append(copy_context())
            known.append(context[0].run(current_delivery))
            await checkpoint()

        await bus.subscribe(NAME, "c", handler)
        await put(transport, 1)
        async with open_bridge(bus, transport, incoming=[NAME], group=GROUP) as bridge:
            await until(lambda: bridge.statistics().acknowledged)
        assert known[0] is not None
        assert context[0].run(current_delivery) is None


class TestFailing:
    """Attempts that fail."""

    @each_mode
    @pytest.mark.parametrize("policy", ["continue", "raise"])
    async def test_an_attempt_that_failed_is_made_again(
        self, mode: DeliveryMode, policy: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """X3: Under either policy, until all handlers succeed; each failure is in the log."""
        faulty, bus = Faulty(MemoryTransport()), EventBus(delivery=mode, on_error=policy)
        handler = Handler(fails=2)
        await bus.subscribe(NAME, "c", handler)
        await put(faulty, 1)
        async with open_bridge(
            bus, faulty, incoming=[NAME], group=GROUP, retry_delay=0, max_attempts=3
        ) as bridge:
            await until(lambda: bridge.statistics().acknowledged)
            assert bridge.statistics().failed == 2
            assert bridge.statistics().redelivered == 2
            assert bridge.statistics().delivered == 3
            assert await bridge.dead_letters() == []
        assert faulty.outcomes == [
            Postponed("1", 1, 0, 0.0, None),
            Postponed("1", 2, 0, 0.0, None),
            Acknowledged("1"),
        ]
        levels = {"continue": "ERROR", "raise": "WARNING"}
        assert [each.levelname for each in caplog.records] == [levels[policy]] * 2

    async def test_after_max_attempts_it_is_a_dead_letter(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """X3: Once, with its failure, as an error in the log; and no more attempt is made."""
        transport, handler = MemoryTransport(), Handler(fails=9)
        await put(transport, 1)
        async with consuming(transport, handler, max_attempts=3) as bridge:
            await until(lambda: bridge.statistics().dead)
            (letter,) = await bridge.dead_letters()
            assert bridge.statistics().held == 0
        assert handler.begun == [1, 1, 1]
        assert (letter.attempts, letter.deliveries) == (3, 1)
        assert letter.failure.type == "tests.durable.bridge.helpers.Refused"
        assert letter.failure.message == "1"
        assert "in __call__" in letter.failure.traceback
        burial = caplog.records[-1]
        assert burial.levelname == "ERROR"
        reason = "tests.durable.bridge.helpers.Refused: 1"
        assert f"gave up order.placed at position 1: {reason}" in burial.message

    async def test_a_failure_that_can_not_be_shown_is_one_all_the_same(self) -> None:
        """X3: An exception whose own code fails does not keep the event from its grave."""

        class Mute(Exception):
            def __str__(self) -> str:
                raise ZeroDivisionError

        def handler(data: object) -> None:
            raise Mute

        transport = MemoryTransport()
        await put(transport, 1)
        logging.disable(logging.CRITICAL)
        try:
            async with consuming(transport, handler, max_attempts=1) as bridge:
                await until(lambda: bridge.statistics().dead)
                (letter,) = await bridge.dead_letters()
        finally:
            logging.disable(logging.NOTSET)
        assert letter.failure.message == "<not to be shown: ZeroDivisionError>"

    async def test_a_failure_is_a_text_that_can_be_written_down(self) -> None:
        """X3: Whatever an exception says, else no transport could bury the event."""

        def handler(data: object) -> None:
            raise ValueError("\ud800")

        transport = MemoryTransport()
        await put(transport, 1)
        async with consuming(transport, handler, max_attempts=1) as bridge:
            await until(lambda: bridge.statistics().dead)
            (letter,) = await bridge.dead_letters()
        assert letter.failure.message == "\\ud800"
        assert letter.failure.traceback.encode()

    @pytest.mark.unmeasured
    def test_it_is_held_back_longer_each_time(self, backend: str) -> None:
        """X3: Twice as long before each attempt, and never more than 30 seconds."""

        async def scenario() -> None:
            transport, times = MemoryTransport(), list[float]()

            def handler(data: object) -> None:
                times.append(current_time())
                raise Refused

            await put(transport, 1)
            async with consuming(transport, handler, retry_delay=4.0, max_attempts=6) as bridge:
                await until(lambda: bridge.statistics().dead, 1000)
            delays = [round(b - a) for a, b in pairwise(times)]
            assert delays == [4, 8, 16, 30, 30]

        play(scenario, backend, schedules=1)

    async def test_while_it_is_held_back_others_go_on(self) -> None:
        """X3: A failed event takes no slot, even where there is one only."""
        transport, bus, done = MemoryTransport(), EventBus(), list[int]()

        async def handler(data: int) -> None:
            if data == 0:
                raise Refused
            done.append(data)

        await bus.subscribe(NAME, "c", handler)
        await put(transport, *range(5))
        async with open_bridge(
            bus, transport, incoming=[NAME], group=GROUP, limit=1, retry_delay=30.0
        ):
            await until(lambda: len(done) == 4)
        assert pending(transport) == {1: (1, 0, False)}

    @pytest.mark.unmeasured
    @pytest.mark.parametrize("how", ["bare", "in a group"])
    def test_an_outage_is_no_failed_attempt(self, backend: str, how: str) -> None:
        """X3: What only could not be stored onward is tried again each second, and never dead."""

        async def scenario() -> None:
            faulty, left = Faulty(MemoryTransport()), [unavailable() for _ in range(9)]

            def handler(data: object) -> None:
                if left:
                    problem = left.pop()
                    raise problem if how == "bare" else ExceptionGroup(how, [problem, problem])

            await put(faulty, 1)
            async with consuming(faulty, handler, max_attempts=2) as bridge:
                await until(lambda: bridge.statistics().acknowledged)
                assert bridge.statistics().failed == 9
            assert faulty.outcomes == [*[Postponed("1", 0, 0, 1.0, None)] * 9, Acknowledged("1")]

        play(scenario, backend, schedules=1)

    async def test_an_outage_beside_another_failure_is_one(self) -> None:
        """X3: What else failed counts."""

        def handler(data: object) -> None:
            raise ExceptionGroup("both", [unavailable(), Refused(data)])

        await put(transport := MemoryTransport(), 1)
        async with consuming(transport, handler, max_attempts=2) as bridge:
            await until(lambda: bridge.statistics().dead)

    async def test_an_outage_of_one_handler_beside_a_failure_of_another_is_one(self) -> None:
        """X3: Whichever of them is told first."""
        transport, bus = MemoryTransport(), EventBus()

        def lack(data: object) -> None:
            raise unavailable()

        def refuse(data: object) -> None:
            raise Refused(data)

        await put(transport, 1)
        await bus.subscribe(NAME, "c", lack)
        await bus.subscribe(NAME, "c", refuse)
        async with open_bridge(
            bus, transport, incoming=[NAME], group=GROUP, max_attempts=2, retry_delay=0
        ) as bridge:
            await until(lambda: bridge.statistics().dead)
            [letter] = await bridge.dead_letters()
        assert letter.failure.type.endswith("Refused")


class TestDeadLetters:
    """Looking at them, and having them handled again."""

    async def test_they_are_listed_page_by_page(self) -> None:
        """X3: From after one on, so many at most."""
        transport, handler = MemoryTransport(), Handler(fails=9)
        await put(transport, *range(5))
        async with consuming(transport, handler, max_attempts=1) as bridge:
            await until(lambda: bridge.statistics().dead == 5)
            first = await bridge.dead_letters(limit=2)
            rest = await bridge.dead_letters(first[-1].id)
            assert (len(first), len(rest)) == (2, 3)
            assert len({letter.id for letter in (*first, *rest)}) == 5

    async def test_a_redriven_one_is_handled_by_its_group_alone(self) -> None:
        """X3: It has all its attempts again; other groups pass it over."""
        transport, handler, other = MemoryTransport(), Handler(fails=1), Handler()
        await put(transport, 1)
        async with (
            consuming(transport, handler, max_attempts=1) as bridge,
            consuming(transport, other, group="other") as beside,
        ):
            await until(lambda: bridge.statistics().dead)
            await until(lambda: beside.statistics().acknowledged)
            (letter,) = await bridge.dead_letters()
            assert await bridge.redrive(letter.id, letter.id) == 1
            assert await bridge.redrive(letter.id) == 0
            await until(lambda: bridge.statistics().acknowledged)
            await until(lambda: beside.statistics().ignored)
            assert await bridge.dead_letters() == []
        assert (handler.begun, other.begun) == ([1, 1], [1])

    async def test_what_makes_no_sense_is_refused(self) -> None:
        """X3: No ids, no group, a limit out of range, a block that is over."""
        transport = MemoryTransport()
        async with open_bridge(EventBus(), transport, outgoing=[NAME]) as bridge:
            for call in (partial(bridge.dead_letters), partial(bridge.redrive, "1")):
                with pytest.raises(ValueError, match="without a group"):
                    await call()
        async with open_bridge(EventBus(), transport, outgoing=[NAME], group=GROUP) as bridge:
            with pytest.raises(ValueError, match="one or more, and got none"):
                await bridge.redrive()
            with pytest.raises(
                ValueError, match="limit must be an int, 1 to 1,000,000,000,000, not 0"
            ):
                await bridge.dead_letters(limit=0)
            with pytest.raises(ValueError, match="after must be the id of a dead letter, not 'x'"):
                await bridge.dead_letters(after="x")
            wrong: Any = 3
            for call in (partial(bridge.dead_letters, wrong), partial(bridge.redrive, "1", wrong)):
                with pytest.raises(TypeError, match="id of a dead letter must be a str, not 3"):
                    await call()
            assert await bridge.redrive("x", "1") == 0
        with pytest.raises(ReceiverClosed, match="the block of the bridge is over"):
            await bridge.dead_letters()


class TestSuspects:
    """Events whose worker died with them."""

    async def test_what_kills_its_workers_is_given_up(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """X3: After `max_deliveries` attempts that did not end, without another one."""
        transport, handler = MemoryTransport(), Handler()
        await put(transport, 1)
        await die_with(transport)
        async with consuming(transport, handler, max_deliveries=1) as bridge:
            await until(lambda: bridge.statistics().dead)
            (letter,) = await bridge.dead_letters()
        assert handler.begun == []
        assert (letter.attempts, letter.deliveries) == (0, 1)
        assert letter.failure.type.endswith("WorkersDied")
        assert "1 attempts to handle 'order.placed' have begun" in letter.failure.message

    async def test_that_an_attempt_begins_is_written_down_before(self) -> None:
        """X3: So that it counts whatever becomes of the worker."""
        faulty, gate = Faulty(transport := MemoryTransport()), Event()
        handler = Handler(gate=gate)
        await put(transport, 1)
        await die_with(transport)
        hold = faulty.hold("settle")
        async with consuming(faulty, handler) as bridge:
            with fail_after(PATIENCE):
                await hold.reached.wait()
            await settle()
            assert handler.begun == []
            assert faulty.outcomes == [Noted("1", 0, 2)]
            hold.open.set()
            await until(lambda: handler.begun)
            assert pending(transport) == {1: (0, 2, True)}
            gate.set()
            await until(lambda: bridge.statistics().acknowledged)
            assert bridge.statistics().redelivered == 1

    async def test_each_goes_alone(self) -> None:
        """X3: An innocent event is not counted along with the one that kills the worker."""
        transport, gate = MemoryTransport(), Event()
        handler = Handler(gate=gate)
        await put(transport, "a", "b", "c")
        await die_with(transport)
        await put(transport, 1, 2)
        async with consuming(transport, handler) as bridge:
            await until(lambda: bridge.statistics().held == 5 and handler.begun)
            await settle()
            assert handler.begun == ["a"]
            assert sorted(each[1] for each in pending(transport).values()) == [1, 1, 1, 1, 2]
            gate.set()
            await until(lambda: bridge.statistics().acknowledged == 5)
        assert handler.done == ["a", "b", "c", 1, 2]

    async def test_one_waits_for_those_that_run(self) -> None:
        """X3: What runs ends, and nothing else begins, before a suspect does."""
        transport, gate = MemoryTransport(), Event()
        handler = Handler(gate=gate)
        await put(transport, 1, 2, "a")
        async with consuming(transport, handler, prefetch=2) as bridge:
            await until(lambda: len(handler.begun) == 2)
            await die_with(transport, 1)
            await put(transport, 3)
            gate.set()
            await until(lambda: bridge.statistics().acknowledged == 4)
        assert handler.begun == [1, 2, "a", 3]

    @pytest.mark.unmeasured
    def test_one_that_waits_for_another_event_gets_it(self, backend: str) -> None:
        """X3: After a lease's time others begin beside a suspect."""

        async def scenario() -> None:
            transport, came = MemoryTransport(), Event()

            async def handler(data: str) -> None:
                if data == "last":
                    came.set()
                await came.wait()

            await put(transport, "a", "b")
            await die_with(transport)
            await put(transport, "last")
            async with consuming(transport, handler, lease=3.0) as bridge:
                await until(lambda: bridge.statistics().acknowledged == 3)

        play(scenario, backend, schedules=2)

    async def test_one_that_only_fails_is_no_suspect_any_more(self) -> None:
        """X3: An attempt that ended is an attempt, and the next is one of the ordinary."""
        faulty, handler = Faulty(MemoryTransport()), Handler(fails=1)
        await put(faulty, 1)
        await die_with(faulty)
        async with consuming(faulty, handler) as bridge:
            await until(lambda: bridge.statistics().acknowledged)
        assert faulty.outcomes == [
            Noted("1", 0, 2),
            Postponed("1", 1, 0, 0.0, None),
            Acknowledged("1"),
        ]


class TestOrder:
    """One of a key at a time, others beside it."""

    @pytest.mark.unmeasured
    def test_events_of_a_key_are_handled_in_order(self, backend: str) -> None:
        """X4: Under every schedule, and whatever they fail."""

        async def scenario() -> None:
            transport, bus = MemoryTransport(), EventBus()
            begun: list[tuple[str, int]] = []
            running: set[str] = set()

            async def handler(data: Any) -> None:
                key, number = data
                assert key not in running
                running.add(key)
                begun.append((key, number))
                await checkpoint()
                running.remove(key)
                if number == 1 and begun.count((key, 1)) < 3:
                    raise Refused

            await bus.subscribe(NAME, "c", handler)
            events = [(key, number) for number in range(3) for key in "ab"]
            await put(transport, *events, key=lambda data: data[0])
            async with open_bridge(bus, transport, incoming=[NAME], group=GROUP, limit=3) as bridge:
                await until(lambda: bridge.statistics().acknowledged == 6)
            for key in "ab":
                assert [n for k, n in begun if k == key] == [0, 1, 1, 1, 2]

        play(scenario, backend, schedules=15)

    async def test_a_dead_event_lets_its_key_go_on(self) -> None:
        """X4: The key is held back until the event succeeded or is dead."""
        transport, handler = MemoryTransport(), Handler(fails=2)
        await put(transport, *range(3), key=lambda _: "k")
        async with consuming(transport, handler, max_attempts=2) as bridge:
            await until(lambda: bridge.statistics().dead == 3)
        assert handler.begun == [0, 0, 1, 1, 2, 2]

    @pytest.mark.parametrize("limit", [1, 3])
    async def test_at_most_so_many_run_at_once(self, limit: int) -> None:
        """X4: Across keys in parallel, and without a key, too; at most `limit`."""
        transport, gate = MemoryTransport(), Event()
        handler = Handler(gate=gate)
        await put(transport, *range(6), key=lambda n: None if n % 2 else str(n))
        async with consuming(transport, handler, limit=limit) as bridge:
            await until(lambda: len(handler.begun) == limit)
            await settle()
            assert handler.running == limit
            gate.set()
            await until(lambda: bridge.statistics().acknowledged == 6)
        assert handler.most == limit

    async def test_handlers_that_never_wait_take_one_task(self) -> None:
        """X4: And the others look on: an event costs no task."""
        transport, bus, tasks = MemoryTransport(), EventBus(), set[int]()
        await bus.subscribe(NAME, "c", lambda _: tasks.add(get_current_task().id))
        await put(transport, *range(50))
        async with open_bridge(bus, transport, incoming=[NAME], group=GROUP) as bridge:
            await until(lambda: bridge.statistics().acknowledged == 50)
        assert len(tasks) == 1


class TestPrefetching:
    """How much is held."""

    async def test_no_more_is_held_than_allowed(self) -> None:
        """X5: What is handled and not yet settled counts, too."""
        transport, gate = MemoryTransport(), Event()
        faulty, handler = Faulty(transport), Handler(gate=gate)
        await put(transport, *range(20))
        hold = faulty.hold("settle")
        async with consuming(faulty, handler, prefetch=4, limit=2) as bridge:
            await until(lambda: len(handler.begun) == 2)
            await settle()
            assert bridge.statistics().held == 4
            gate.set()
            with fail_after(PATIENCE):
                await hold.reached.wait()
            await settle()
            assert (bridge.statistics().held, len(handler.done)) == (4, 4)
            hold.open.set()
            await until(lambda: bridge.statistics().acknowledged == 20)

    async def test_a_slow_event_does_not_keep_others_waiting(self) -> None:
        """X5: When nothing else waits to be handled, more is taken in, for any room there is."""
        transport, gate, bus, done = MemoryTransport(), Event(), EventBus(), list[int]()

        async def handler(data: int) -> None:
            if data < 3:
                await gate.wait()
            done.append(data)

        await bus.subscribe(NAME, "c", handler)
        await put(transport, *range(20))
        async with open_bridge(
            bus, transport, incoming=[NAME], group=GROUP, prefetch=4, limit=4
        ) as bridge:
            await until(lambda: len(done) == 17)
            gate.set()
            await until(lambda: bridge.statistics().acknowledged == 20)

    async def test_events_that_are_all_begun_do_not_keep_later_ones_waiting(self) -> None:
        """X5: More is taken in as the last of them begins, not as the first one ends."""
        transport, gate = MemoryTransport(), Event()
        handler = Handler(gate=gate)
        await put(transport, *range(6))
        async with consuming(transport, handler, prefetch=10, limit=10) as bridge:
            await until(lambda: len(handler.begun) == 6)
            await settle()
            await put(transport, 6)
            await until(lambda: len(handler.begun) == 7)
            gate.set()
            await until(lambda: bridge.statistics().acknowledged == 7)


async def test_a_bridge_that_has_nothing_to_do_waits() -> None:
    """X5: Nothing turns while nothing comes."""
    async with consuming(MemoryTransport(), Handler()) as bridge:
        assert isinstance(bridge, Bridge)
        with fail_after(PATIENCE):
            await wait_all_tasks_blocked()
        assert bridge.statistics().delivered == 0
