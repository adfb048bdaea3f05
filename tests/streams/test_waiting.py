"""Waiting for one event: S1, S4."""

import gc
import logging
import weakref
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from anyio import CancelScope, Event, create_task_group, fail_after, sleep_forever

from flexiflow import EventBus, ReceiverClosed
from flexiflow.events import HANDLER_FAILED, HandlerFailed
from tests.conftest import Backend
from tests.helpers import MODES, PATIENCE, Later, Refusal, refuse, run_at_once, settle
from tests.hosting import Victim, styles
from tests.streams.streaming import EVENT, has_receivers, meanwhile

each_mode = pytest.mark.parametrize("mode", MODES)


class Payload:
    """What can be watched."""


def is_large(event_name: str, data: int) -> bool:
    """Let large numbers through."""
    return data > 10


async def observed(bus: EventBus) -> list[HandlerFailed]:
    """Collect what is published of failures."""
    failures: list[HandlerFailed] = []
    await bus.subscribe(HANDLER_FAILED, "observer", failures.append)
    return failures


class TestExpect:
    """An expectation's block, and awaiting it."""

    @each_mode
    async def test_the_first_event_within_is_given(self, mode: Any) -> None:
        """S1: None after entry is missed, none before it is seen."""
        bus = EventBus(delivery=mode)
        expected = bus.expect("order.*")
        await bus.publish("order.before", 0)
        async with expected:
            for name in ("order.first", "order.second"):
                await bus.publish(name, name)
            with fail_after(PATIENCE):
                event = await expected
        assert (event.name, event.data) == ("order.first", "order.first")

    async def test_entry_and_exit_do_not_wait(self) -> None:
        """S1: Nothing else runs as a block begins or ends."""
        bus = EventBus()
        expected = bus.expect(EVENT)
        run_at_once(expected.__aenter__())
        (subscription,) = bus.subscriptions()
        assert subscription.component_name == "<receiver>"
        run_at_once(expected.__aexit__(None, None, None))
        assert not has_receivers(bus)

    async def test_it_hears_no_more_than_it_takes(self) -> None:
        """S4: Once its event has come, it is subscribed no longer."""
        bus = EventBus()
        async with bus.expect(EVENT, filter=is_large) as expected:
            await bus.publish(EVENT, 1)
            assert has_receivers(bus)
            await bus.publish(EVENT, 11)
            assert not has_receivers(bus)
            await bus.publish(EVENT, 12)
            assert (await expected).data == 11

    async def test_several_tasks_await_it_and_more_than_once(self) -> None:
        """S4: Each gets the same event, whether it waits before or asks after."""
        bus, given = EventBus(), list[Any]()
        async with bus.expect(EVENT) as expected:

            async def wait() -> None:
                given.append(await expected)

            async with meanwhile(wait, wait):
                assert given == []
                await bus.publish(EVENT, 1)
            await wait()
            await wait()
        assert given == [(EVENT, 1)] * 4

    async def test_the_block_may_end_as_soon_as_the_event_has_come(self) -> None:
        """S4: A task that was waiting then has it, though the block has ended before it ran."""
        bus, given = EventBus(), list[Any]()
        expected = bus.expect(EVENT)

        async def wait() -> None:
            given.append(await expected)

        _ = await expected.__aenter__()
        async with meanwhile(wait):
            await bus.publish(EVENT, 1)
            run_at_once(expected.__aexit__(None, None, None))
        assert given == [(EVENT, 1)]

    async def test_it_is_awaited_in_its_block_only(self) -> None:
        """S1: Before and after, or entered twice, it says what is wrong."""
        bus, told = EventBus(), list[str]()
        expected = bus.expect(EVENT)

        async def refused(use: Any) -> None:
            with pytest.raises(ReceiverClosed, match=f"the expectation of '{EVENT}'") as caught:
                await use()
            told.append(caught.value.state)

        await refused(lambda: expected)
        async with expected:
            await refused(expected.__aenter__)
            await bus.publish(EVENT)
        await refused(lambda: expected)
        await refused(expected.__aenter__)
        assert told == ["was not entered", "was entered before", "has ended", "was entered before"]
        assert not has_receivers(bus)

    async def test_a_task_that_waits_is_told_that_the_block_ends(self) -> None:
        """S1: Without an event it waits no longer than the block lasts."""
        bus, told = EventBus(), list[str]()
        expected = bus.expect(EVENT)

        async def wait() -> None:
            with pytest.raises(ReceiverClosed) as caught:
                _ = await expected
            told.append(caught.value.state)

        _ = await expected.__aenter__()
        async with meanwhile(wait, wait):
            await expected.__aexit__(None, None, None)
        assert told == ["has ended"] * 2

    async def test_a_filter_may_publish_what_is_waited_for(self) -> None:
        """S4: The first event that it has taken stays the one."""
        bus, asked = EventBus(), list[int]()

        def ask(event_name: str, data: int) -> bool:
            asked.append(data)
            if data == 0:
                run_at_once(bus.publish(EVENT, 1))
            return True

        async with bus.expect(EVENT, filter=ask) as expected:
            assert await bus.publish(EVENT, 0) == ()
            assert (await expected).data == 1
        assert asked == [0, 1]

    async def test_nothing_of_it_stays(self) -> None:
        """S1: The bus keeps neither the filter nor the event."""
        bus = EventBus()

        async def use() -> list["weakref.ref[Any]"]:
            def admit(event_name: str, data: object) -> bool:
                return True

            payload = Payload()
            async with bus.expect(EVENT, filter=admit) as expected:
                await bus.publish(EVENT, payload)
                await expected
            async with bus.expect(EVENT, filter=admit):
                """It never comes."""
            return [weakref.ref(payload), weakref.ref(admit)]

        kept = await use()
        gc.collect()
        assert [each() for each in kept] == [None, None]


class TestFailingFilter:
    """A filter that raises, and the task that is told."""

    @each_mode
    async def test_it_raises_at_each_waiter(self, mode: Any) -> None:
        """S4: The publisher does not see it, nor the log, since the waiters do."""
        bus, raised = EventBus(delivery=mode, on_error="raise"), list[Exception]()
        failures = await observed(bus)
        async with bus.expect(EVENT, filter=refuse) as expected:

            async def wait() -> None:
                with pytest.raises(Refusal) as caught:
                    await expected
                raised.append(caught.value)

            async with meanwhile(wait, wait):
                assert await bus.publish(EVENT, 1) == ()
            assert not has_receivers(bus)
        assert [each.args for each in raised] == [(EVENT, 1)] * 2
        assert raised[0] is raised[1]
        assert failures == []

    @pytest.mark.filterwarnings("error")
    async def test_an_answer_that_is_awaitable_raises_too(self) -> None:
        """S4: A filter that can't answer at once is told of at the waiter."""
        answer: Any = partial(Later, print)

        def ask(event_name: str, data: object) -> bool:
            later: bool = answer(data)
            return later

        bus = EventBus()
        async with bus.expect(EVENT, filter=ask) as expected:
            await bus.publish(EVENT)
            with pytest.raises(TypeError, match="must answer at once"):
                await expected

    async def test_a_failure_that_nobody_awaited_is_reported(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """S4, E4: As the block ends it is logged and published, with the event's own name."""
        bus = EventBus()
        failures = await observed(bus)
        async with bus.expect("order.*", filter=refuse):
            await bus.publish(EVENT, 1)
        (failure,), (record,) = failures, caplog.records
        assert (failure["event_name"], failure["component_name"]) == (EVENT, "<receiver>")
        assert isinstance(failure["exception"], Refusal)
        assert (record.name, record.levelno) == ("flexiflow", logging.ERROR)
        assert record.exc_info is not None
        assert record.exc_info[1] is failure["exception"]

    async def test_a_failure_is_not_both_reported_and_raised(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """E4: A waiter that would have had it once the block has ended is too late."""
        bus, told = EventBus(), list[type[Exception]]()
        failures = await observed(bus)
        expected = bus.expect(EVENT, filter=refuse)

        async def wait() -> None:
            with pytest.raises(ReceiverClosed) as caught:
                _ = await expected
            told.append(caught.type)

        _ = await expected.__aenter__()
        async with meanwhile(wait):
            await bus.publish(EVENT)
            run_at_once(expected.__aexit__(None, None, None))
        assert (told, len(failures), len(caplog.records)) == ([ReceiverClosed], 1, 1)

    async def test_a_failure_is_logged_where_the_waiter_is_cancelled(
        self, anyio_backend: Backend, caplog: pytest.LogCaptureFixture
    ) -> None:
        """E4: While everything is being cancelled, reporting means the log."""
        for style in styles(anyio_backend):
            bus, victim = EventBus(), Victim(style)
            failures = await observed(bus)
            caplog.clear()

            async def give_up(bus: EventBus = bus) -> None:
                async with bus.expect(EVENT, filter=refuse):
                    await Event().wait()

            async with meanwhile(victim.running(give_up)):
                await bus.publish(EVENT)
                victim.cancel()
            assert victim.was_cancelled
            assert (failures, len(caplog.records)) == ([], 1)
            assert not has_receivers(bus)

    async def test_a_filter_that_fails_after_its_event_is_the_publishers_failure(self) -> None:
        """E4: Where it has itself published what was waited for, the waiter has that."""
        bus = EventBus()

        def ask(event_name: str, data: int) -> bool:
            if data == 0:
                run_at_once(bus.publish(EVENT, 1))
                raise Refusal
            return True

        async with bus.expect(EVENT, filter=ask) as expected:
            (failure,) = await bus.publish(EVENT, 0)
            assert (await expected).data == 1
        assert isinstance(failure.exception, Refusal)


class TestWaitFor:
    """Waiting in one call."""

    async def test_the_first_event_that_the_filter_takes_is_given(self) -> None:
        """S4: From the call on, none is missed."""
        bus, given = EventBus(), list[Any]()

        async def wait() -> None:
            given.append(await bus.wait_for("**", filter=is_large))

        await bus.publish(EVENT, 20)
        async with meanwhile(wait):
            await bus.publish(EVENT, 1)
            assert has_receivers(bus)
            await bus.publish(EVENT, 11)
            assert not has_receivers(bus)
            await bus.publish(EVENT, 12)
        assert given == [(EVENT, 11)]

    async def test_a_filter_that_raises_raises_there(self) -> None:
        """S4: It leaves nothing behind, and the publisher does not see it."""
        bus = EventBus()

        async def wait() -> None:
            with pytest.raises(Refusal):
                await bus.wait_for(EVENT, filter=refuse)

        async with meanwhile(wait):
            assert await bus.publish(EVENT) == ()
        assert not has_receivers(bus)

    async def test_a_waiter_that_is_cancelled_leaves_nothing(self, anyio_backend: Backend) -> None:
        """S4: Neither a subscription nor a task, and the next waiter has the event."""
        for style in styles(anyio_backend):
            bus, victim, given = EventBus(), Victim(style), list[Any]()

            async def wait(bus: EventBus = bus, given: list[Any] = given) -> None:
                given.append((await bus.wait_for(EVENT)).data)

            async with meanwhile(victim.running(wait), wait):
                victim.cancel()
                await settle()
                assert len([*bus.subscriptions()]) == 1
                await bus.publish(EVENT, 1)
            assert (victim.was_cancelled, given) == (True, [1])
            assert not has_receivers(bus)

    async def test_the_deadline_is_the_callers(self) -> None:
        """S4: `anyio.fail_after` bounds it, also where that is over from the start."""
        bus = EventBus()
        with pytest.raises(TimeoutError), fail_after(-1):
            await bus.wait_for(EVENT)
        assert not has_receivers(bus)
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(settle)
                with pytest.raises(TimeoutError), fail_after(0):
                    await bus.wait_for(EVENT)
        assert not has_receivers(bus)

    async def test_it_is_a_checkpoint(self) -> None:
        """S4: A scope that is cancelled already is noticed."""
        bus = EventBus()
        with CancelScope() as scope:
            scope.cancel()
            await bus.wait_for(EVENT)
        assert scope.cancelled_caught

    @pytest.mark.filterwarnings("error")
    async def test_an_expectation_that_is_never_entered_is_harmless(self) -> None:
        """S1: It subscribes nothing before its block."""
        bus = EventBus()
        assert bus.expect(EVENT)
        assert not has_receivers(bus)


@pytest.mark.parametrize("failure", [None, Refusal()])
async def test_a_cleanup_after_a_cancellation_reports_the_filter(failure: Refusal | None) -> None:
    """S4, E4: In a shielded cleanup the filter's failure is announced, as a handler's is."""
    bus = EventBus()
    seen: list[HandlerFailed] = []
    await bus.subscribe(HANDLER_FAILED, "c", seen.append)

    async def clean_up() -> None:
        try:
            await sleep_forever()
        finally:
            with CancelScope(shield=True), suppress(Refusal):
                async with bus.expect(EVENT, filter=refuse):
                    await bus.publish(EVENT)
                    if failure is not None:
                        raise failure

    async with create_task_group() as group:
        group.start_soon(clean_up)
        await settle()
        group.cancel_scope.cancel()
    assert [each["event_name"] for each in seen] == [EVENT]
