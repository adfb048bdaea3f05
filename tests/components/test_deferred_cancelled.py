"""Deferred messages whose sender is cancelled, or whose component is unregistered (C4)."""

from functools import partial
from typing import Any

import pytest
from anyio import CancelScope, Event, create_task_group, fail_after
from anyio.lowlevel import checkpoint

from flexiflow import Component, EventBus, Outcome, UnknownComponent
from flexiflow.events import HANDLER_FAILED, MESSAGE_RECEIVED
from tests.accounting import Boom
from tests.components.stage import Stage, booms, fail_with, machine, message
from tests.conftest import Backend
from tests.helpers import PATIENCE, run_at_once
from tests.hosting import GO, Gate, Victim, others_run, stepping, styles


class TestCancelled:
    """Sends in hand that are cancelled."""

    async def test_deferred_ones_not_begun_stay_first_in_line(self, anyio_backend: Backend) -> None:
        """C4: They are handled by the next send, before its own message and those waiting."""
        for style in styles(anyio_backend):
            stage, gate, victim = await Stage().set(), Gate(), Victim(style)

            async def send_and_wait(stage: Stage = stage, gate: Gate = gate) -> None:
                await stage.send("a", 1)
                await stage.send("a", 2)
                await gate()

            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    group.start_soon(victim.run, stage.sending("a", 0, do=send_and_wait))
                    await gate.reached.wait()
                    for n in (3, 4):
                        group.start_soon(stage.sending("a", n))
                        await others_run()
                    victim.cancel()
            assert victim.was_cancelled
            assert stage.begun == [0, 1, 2, 3, 4]
            assert stage.ended == [1, 2, 3, 4]
            assert await stage.is_usable()

    async def test_the_one_begun_is_lost_and_the_rest_stays(self, anyio_backend: Backend) -> None:
        """C4: Cancelled in a deferred message, that one is not begun again."""
        for style in styles(anyio_backend):
            stage, gate, victim = await Stage().set(), Gate(), Victim(style)

            async def send_two(stage: Stage = stage, gate: Gate = gate) -> None:
                await stage.send("a", 1, do=gate)
                await stage.send("a", 2)

            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    group.start_soon(victim.run, stage.sending("a", 0, do=send_two))
                    await gate.reached.wait()
                    victim.cancel()
            assert victim.was_cancelled
            assert stage.begun == [0, 1]
            await stage.send("a", 3)
            assert stage.begun == [0, 1, 2, 3]
            assert stage.diary.failures == []

    async def test_cancelled_before_the_deferred_ones_begins_none(self) -> None:
        """C4, E5: Where the message in hand did not notice, the deferred ones stay."""
        stage, victim = await Stage().set(), Victim("scope")

        async def send_and_be_cancelled() -> None:
            await stage.send("a", 1)
            victim.cancel()

        await victim.run(stage.sending("a", 0, do=send_and_be_cancelled))
        assert victim.was_cancelled
        assert stage.ended == [0]
        await stage.send("a", 2)
        assert stage.ended == [0, 1, 2]

    async def test_cancelled_after_a_deferred_one_failed_reports_to_the_log(
        self, caplog: pytest.LogCaptureFixture, anyio_backend: Backend
    ) -> None:
        """C4, E4, E5: A deferred message that fails in its cleanup is logged; the rest stays."""
        for style in styles(anyio_backend):
            stage, boom, victim, reached = await Stage().set(), Boom(), Victim(style), Event()
            caplog.clear()

            async def fail_in_cleanup(boom: Boom = boom, reached: Event = reached) -> None:
                reached.set()
                try:
                    await Event().wait()
                finally:
                    raise boom

            async def send_two(stage: Stage = stage, fail: Any = fail_in_cleanup) -> None:
                await stage.send("a", 1, do=fail)
                await stage.send("a", 2)

            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    group.start_soon(victim.run, stage.sending("a", 0, do=send_two))
                    await reached.wait()
                    victim.cancel()
            assert victim.was_cancelled
            assert [r.exc_info[1] for r in caplog.records if r.exc_info is not None] == [boom]
            assert stage.diary.failures == []
            await stage.send("a", 3)
            assert stage.ended == [0, 2, 3]

    async def test_left_over_message_that_fails_does_not_fail_the_next_send(self) -> None:
        """C4: What a cancelled send left is reported, and the next send's own message handled."""
        stage, victim, boom = await Stage().set(), Victim("scope"), Boom()

        async def send_and_be_cancelled() -> None:
            await stage.send("a", 1, do=fail_with(boom))
            victim.cancel()

        await victim.run(stage.sending("a", 0, do=send_and_be_cancelled))
        assert await stage.send("a", 2) is Outcome.TRANSITIONED
        assert stage.diary.failures == [boom]
        assert stage.ended == [0, 2]

    async def test_message_after_a_left_over_one_may_send_to_its_component(self) -> None:
        """C4: The next send is within a handling of its own, which such a message waits for."""
        stage, victim = await Stage().set(), Victim("scope")

        async def send_and_be_cancelled() -> None:
            await stage.send("a", 1)
            victim.cancel()

        await victim.run(stage.sending("a", 0, do=send_and_be_cancelled))
        with fail_after(PATIENCE):
            await stage.send("a", 2, do=stage.sending("a", 3))
        assert stage.ended == [0, 1, 2, 3]
        assert stage.outcomes[-2:] == [Outcome.DEFERRED, Outcome.TRANSITIONED]

    async def test_cleanup_after_a_native_cancel_sends_like_others(
        self, anyio_backend: Backend
    ) -> None:
        """C4, E5: Deferred messages, old and new, are handled, and failures raised or reported."""
        for style in styles(anyio_backend):
            stage, victim, old, new, own = await Stage().set(), Victim("scope"), *booms(3)

            async def send_and_be_cancelled(
                stage: Stage = stage, victim: Victim = victim, old: Boom = old
            ) -> None:
                await stage.send("a", 1, do=fail_with(old))
                victim.cancel()

            async def send_and_fail(stage: Stage = stage, new: Boom = new, own: Boom = own) -> None:
                await stage.send("a", 5, do=fail_with(new))
                await stage.send("a", 6)
                raise own

            async def clean_up(stage: Stage = stage, act: Any = send_and_fail) -> None:
                try:
                    await Event().wait()
                finally:
                    with CancelScope(shield=True):
                        await stage.send("a", 2, do=stage.sending("a", 3))
                        await stage.send("a", 4, do=act)

            await victim.run(stage.sending("a", 0, do=send_and_be_cancelled))
            sender = Victim(style)
            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    group.start_soon(sender.run, clean_up)
                    await others_run()
                    sender.cancel()
            assert sender.error is own
            assert stage.diary.failures == [old, new]
            assert stage.ended == [0, 2, 3, 6]

    async def test_left_over_message_that_unregisters_refuses_the_next_send(self) -> None:
        """C1, C4: A send whose message was not begun when the component went is refused."""
        stage, victim = await Stage().set(), Victim("scope")

        async def send_and_be_cancelled() -> None:
            await stage.send("a", 1, do=partial(stage.engine.unregister, "a"))
            victim.cancel()

        await victim.run(stage.sending("a", 0, do=send_and_be_cancelled))
        with pytest.raises(UnknownComponent):
            await stage.send("a", 2)
        assert stage.ended == [0, 1]


class TestUnregistered:
    """Deferred messages of a component that goes."""

    async def test_are_reported_with_unknown_component(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C1, C4: Each is logged and published at once, with an exception of its own."""
        stage = await Stage().set()
        seen: list[Any] = []
        await stage.engine.bus.subscribe(HANDLER_FAILED, "observer", seen.append)

        async def send_and_leave() -> None:
            await stage.send("a", 1)
            await stage.send("a", 2)
            await stage.engine.unregister("a")
            assert len(seen) == 2

        assert await stage.send("a", 0, do=send_and_leave) is Outcome.TRANSITIONED
        assert stage.begun == [0]
        assert [type(each["exception"]) for each in seen] == [UnknownComponent] * 2
        assert seen[0]["exception"] is not seen[1]["exception"]
        assert {(each["event_name"], each["component_name"]) for each in seen} == {
            (MESSAGE_RECEIVED, "a")
        }
        assert len(caplog.records) == 2
        assert str(seen[0]["exception"]) == "no component is named 'a'"

    async def test_left_over_by_a_cancelled_send_are_reported(self) -> None:
        """C1, C4: Messages that were waiting for the next send are reported as well."""
        stage, victim = await Stage().set(), Victim("scope")

        async def send_and_be_cancelled() -> None:
            await stage.send("a", 1)
            victim.cancel()

        await victim.run(stage.sending("a", 0, do=send_and_be_cancelled))
        component = stage.engine.components["a"]
        await stage.engine.unregister("a")
        assert [type(each) for each in stage.diary.failures] == [UnknownComponent]
        await stage.engine.register(component)
        assert await stage.is_usable()

    async def test_in_the_yield_before_they_are_taken_up_are_reported(self) -> None:
        """C1, D6: Unregistered while the turn yields, they are reported, and not handled."""
        stage = await Stage(bus=EventBus(yield_every=1)).set()
        waits: list[int] = []

        def unregister() -> None:
            waits.append(1)
            if len(waits) == 2:
                run_at_once(stage.engine.unregister("a"))

        await stepping(stage.send("a", 0, do=stage.sending("a", 1)), unregister)
        assert stage.begun == [0]
        assert [type(each) for each in stage.diary.failures] == [UnknownComponent]

    async def test_sent_within_a_report_are_logged_only(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C1, E7: What was sent within the report of a failure is not published once more."""
        stage = await Stage().set()

        async def observe(data: Any) -> None:
            await stage.send("a", "again")
            await stage.send("a", "again", do=partial(stage.engine.unregister, "a"))

        await stage.engine.bus.subscribe(HANDLER_FAILED, "observer", observe)

        async def fail_then_leave() -> None:
            await stage.send("a", 1, do=fail_with(Boom()))
            await stage.send("a", 2)
            await stage.send("a", 3, do=partial(stage.engine.unregister, "a"))

        await stage.send("a", 0, do=fail_then_leave)
        assert stage.begun == [0, 1, 2, 3]
        assert [type(each) for each in stage.diary.failures] == [Boom]
        assert len(caplog.records) == 3

    async def test_observer_may_register_it_again(self) -> None:
        """C1, C4: What is registered anew while the report goes on has nothing left over."""
        stage = await Stage().set()
        component = stage.engine.components["a"]

        async def observe(data: Any) -> None:
            if not stage.engine.components:
                await stage.engine.register(component)
                await stage.send("a", "new")

        async def send_and_leave() -> None:
            await stage.send("a", 1)
            await stage.send("a", 2)
            await stage.engine.unregister("a")

        await stage.engine.bus.subscribe(HANDLER_FAILED, "observer", observe)
        with fail_after(PATIENCE):
            await stage.send("a", 0, do=send_and_leave)
        assert stage.begun == [0, "new"]
        assert await stage.is_usable()

    async def test_waiting_senders_get_the_news_before_the_reports(self) -> None:
        """C1: Cancelled in a report, `unregister` has done its work, and all is in the log."""
        stage, gate, victim = await Stage().set(), Gate(), Victim("scope")
        results: list[Exception] = []
        await stage.engine.bus.subscribe(HANDLER_FAILED, "observer", gate)

        async def send_and_leave() -> None:
            await stage.send("a", 1)
            await others_run()
            await stage.engine.unregister("a")

        async def wait_in_line() -> None:
            try:
                await stage.send("a", 2)
            except UnknownComponent as exc:
                results.append(exc)

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(victim.run, stage.sending("a", 0, do=send_and_leave))
                await checkpoint()
                group.start_soon(wait_in_line)
                await gate.reached.wait()
                await others_run()
                assert len(results) == 1
                victim.cancel()
        assert victim.was_cancelled
        assert dict(stage.engine.components) == {}

    async def test_sent_after_it_are_handled_and_told_to_nobody(self) -> None:
        """C4: Without an engine by now, a component still defers, and publishes nothing."""
        stage = await Stage().set()
        component = stage.engine.components["a"]

        async def leave_and_send() -> None:
            await stage.engine.unregister("a")
            assert await component.handle_message(message(1)) is Outcome.DEFERRED

        await stage.send("a", 0, do=leave_and_send)
        assert stage.ended == [0, 1]
        assert stage.diary.lines == ["a go", "a on on"]

    async def test_failure_without_an_engine_is_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C4: Without an engine, a deferred message that fails is logged."""

        async def act(message: dict[str, Any], component: Component) -> None:
            if message.get("n") == "inner":
                raise Boom
            await component.handle_message({"type": "go", "n": "inner"})

        component = Component("a", machine=machine(act))
        assert await component.handle_message(GO) is Outcome.TRANSITIONED
        assert len(caplog.records) == 1
        assert await component.handle_message({"type": "other"}) is Outcome.IGNORED
