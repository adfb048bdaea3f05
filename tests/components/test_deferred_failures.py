"""Deferred messages that fail, and messages in hand that fail after deferring others (C4)."""

from typing import Any

import pytest
from anyio import create_task_group, fail_after
from anyio.lowlevel import checkpoint

from flexiflow import Component, Engine, HandlerCancelled, Outcome, StateMachine, Transition
from flexiflow.events import HANDLER_FAILED, MESSAGE_RECEIVED
from tests.accounting import Boom, Fatal
from tests.attacks import kept_cancellation
from tests.components.stage import Stage, fail_with, message
from tests.conftest import Backend
from tests.helpers import PATIENCE
from tests.hosting import GO, Diary, Gate, Victim, styles


class TestFailures:
    """Deferred messages that fail, and sends in hand that fail."""

    async def test_failure_of_a_deferred_message_is_reported(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C4, E4: Nobody waits for it: once in the log, once as event.handler.failed."""
        stage, boom, seen = await Stage().set(), Boom(), list[Any]()
        await stage.engine.bus.subscribe(HANDLER_FAILED, "observer", seen.append)
        inner = stage.sending("a", "inner", do=fail_with(boom))
        assert await stage.send("a", "outer", do=inner) is Outcome.TRANSITIONED
        assert seen == [{"event_name": MESSAGE_RECEIVED, "component_name": "a", "exception": boom}]
        (record,) = caplog.records
        assert (record.name, record.levelname) == ("flexiflow", "ERROR")
        assert record.exc_info == (Boom, boom, boom.__traceback__)
        assert record.getMessage() == (
            "message 'go' of component 'a' failed on event 'component.message.received'"
        )

    async def test_failure_leaves_the_state_and_the_others_alone(self) -> None:
        """C4, C6: A deferred message that fails changes nothing, and the next one is handled."""
        stage = await Stage().set()

        async def send_three() -> None:
            await stage.send("a", 1)
            await stage.send("a", 2, do=fail_with(Boom()))
            await stage.send("a", 3)

        await stage.send("a", 0, do=send_three)
        assert stage.ended == [0, 1, 3]
        assert stage.diary.lines == [
            *["a go", "a on on"] * 2,
            "a go",
            f"a failed on {MESSAGE_RECEIVED}",
            *["a go", "a on on"],
        ]

    async def test_refusal_of_a_strict_machine_is_reported(self) -> None:
        """C4, C8: A deferred message that is refused has failed."""
        rows = [Transition("on", "go", "on", action=lambda m, c: c.handle_message({"type": "no"}))]
        engine = Engine()
        await engine.register(Component("a", machine=StateMachine("on", rows, strict=True)))
        diary = await Diary().keep(engine.bus)
        await engine.send("a", GO)
        assert diary.lines == ["a go", "a on on", "a no", f"a failed on {MESSAGE_RECEIVED}"]

    async def test_stray_cancellation_in_a_deferred_message_is_reported(self) -> None:
        """C4, E6: It is a failure, and the next deferred message is handled."""
        stage, stray = await Stage().set(), await kept_cancellation()

        async def send_two() -> None:
            await stage.send("a", 1, do=fail_with(stray))
            await stage.send("a", 2)

        await stage.send("a", 0, do=send_two)
        assert stage.ended == [0, 2]
        (failure,) = stage.diary.failures
        assert isinstance(failure, HandlerCancelled)
        assert failure.__cause__ is stray

    async def test_own_failure_is_raised_after_the_deferred_ones(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C4: The send in hand raises its own failure when no deferred message is left."""
        stage, own, other = await Stage().set(), Boom("own"), Boom("other")

        async def send_and_fail() -> None:
            await stage.send("a", 1, do=fail_with(other))
            await stage.send("a", 2, do=checkpoint)
            raise own

        with pytest.raises(Boom) as caught:
            await stage.send("a", 0, do=send_and_fail)
        assert caught.value is own
        assert stage.ended == [2]
        assert stage.diary.failures == [other]
        assert len(caplog.records) == 1

    async def test_own_failure_that_a_cancellation_hides_is_logged(
        self, caplog: pytest.LogCaptureFixture, anyio_backend: Backend
    ) -> None:
        """C4, E4: Cancelled while the deferred ones run, the send leaves its failure in the log."""
        for style in styles(anyio_backend):
            stage, own, gate, victim = await Stage().set(), Boom("own"), Gate(), Victim(style)
            caplog.clear()

            async def send_and_fail(
                stage: Stage = stage, own: Boom = own, gate: Gate = gate
            ) -> None:
                await stage.send("a", 1, do=gate)
                await stage.send("a", 2)
                raise own

            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    group.start_soon(victim.run, stage.sending("a", 0, do=send_and_fail))
                    await gate.reached.wait()
                    victim.cancel()
            assert victim.was_cancelled
            assert [r.exc_info[1] for r in caplog.records if r.exc_info is not None] == [own]
            assert stage.diary.failures == []
            assert stage.begun == [0, 1]
            await stage.engine.send("a", message(3))
            assert stage.ended == [2, 3]

    async def test_own_failure_that_something_fatal_hides_is_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C4, E5: Something fatal in a deferred message leaves bare; what it hides is logged."""
        stage, own = await Stage().set(), Boom("own")

        async def send_and_fail() -> None:
            await stage.send("a", 1, do=fail_with(Fatal()))
            await stage.send("a", 2)
            raise own

        with pytest.raises(Fatal):
            await stage.send("a", 0, do=send_and_fail)
        assert [r.exc_info[1] for r in caplog.records if r.exc_info is not None] == [own]
        assert stage.begun == [0, 1]
        await stage.engine.send("a", message(3))
        assert stage.begun == [0, 1, 2, 3]

    async def test_failure_in_an_observer_of_a_deferred_message_is_its_own(self) -> None:
        """C4, E1: An observer that fails is reported as such, and the message is handled."""
        stage = await Stage().set()

        async def fail(data: Any) -> None:
            if data["message"]["n"] == "inner":
                raise Boom

        await stage.engine.bus.subscribe(MESSAGE_RECEIVED, "observer", fail)
        await stage.send("a", "outer", do=stage.sending("a", "inner"))
        assert stage.ended == ["outer", "inner"]
        assert f"observer failed on {MESSAGE_RECEIVED}" in stage.diary.lines

    async def test_observer_of_the_failure_is_within_the_handling(self) -> None:
        """C4: What an observer of the report sends is deferred, and handled in turn."""
        stage = await Stage().set()

        async def console(data: Any) -> None:
            await stage.send("a", "consolation")

        await stage.engine.bus.subscribe(HANDLER_FAILED, "observer", console)
        with fail_after(PATIENCE):
            await stage.send("a", "outer", do=stage.sending("a", "inner", do=fail_with(Boom())))
        assert stage.begun == ["outer", "inner", "consolation"]
        assert stage.outcomes == [Outcome.DEFERRED, Outcome.DEFERRED, Outcome.TRANSITIONED]

    @pytest.mark.parametrize("through", ["a", "b"])
    async def test_observer_that_sends_the_failing_message_again_ends(
        self, through: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C4, E7: What fails within the report of a failure is logged, and reported no further."""
        stage, boom = await Stage("a", "b").set(), Boom()

        async def send_again() -> None:
            await stage.engine.send("a", message("again", do=fail_with(boom)))

        async def observe(data: Any) -> None:
            if through == "a":
                await send_again()
            else:
                await stage.engine.send("b", message("relay", do=send_again))

        await stage.engine.bus.subscribe(HANDLER_FAILED, "observer", observe)
        failing = stage.sending("a", "inner", do=fail_with(boom))
        with fail_after(PATIENCE):
            await stage.send("a", "outer", do=failing)
        assert [each for each in stage.begun if each != "relay"] == ["outer", "inner", "again"]
        assert stage.diary.failures == [boom]
        assert len(caplog.records) == 2
        assert await stage.is_usable()

    async def test_what_is_sent_within_such_a_message_ends_as_well(self) -> None:
        """C4, E7: Nor does a message that is deferred by one that was sent within a report."""
        stage, boom = await Stage().set(), Boom()

        async def observe(data: Any) -> None:
            await stage.engine.send("a", message("again", do=send_failing))

        async def send_failing() -> None:
            await stage.engine.send("a", message("failing", do=fail_with(boom)))

        await stage.engine.bus.subscribe(HANDLER_FAILED, "observer", observe)
        with fail_after(PATIENCE):
            await stage.send("a", "outer", do=send_failing)
        assert stage.begun == ["outer", "failing", "again", "failing"]
        assert stage.diary.failures == [boom]

    async def test_observer_of_a_message_sent_within_a_report_ends_as_well(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C4, E7: An observer that fails on a message sent within a report is only logged."""
        stage = await Stage().set()

        async def observe(data: Any) -> None:
            await stage.engine.send("a", message("again"))

        def fail(data: Any) -> None:
            if data["message"]["n"] == "again":
                raise ValueError

        await stage.engine.bus.subscribe(HANDLER_FAILED, "observer", observe)
        await stage.engine.bus.subscribe(MESSAGE_RECEIVED, "failing", fail)
        with fail_after(PATIENCE):
            await stage.send("a", "outer", do=stage.sending("a", "inner", do=fail_with(Boom())))
        assert stage.begun == ["outer", "inner", "again"]
        assert len(stage.diary.failures) == 1
        assert len(caplog.records) == 2

    async def test_later_failures_are_reported_again(self) -> None:
        """C4, E7: Only what is sent within a report is reported no further."""
        stage = await Stage().set()

        async def observe(data: Any) -> None:
            await stage.engine.send("a", message("again"))

        async def send_three() -> None:
            for n in range(3):
                await stage.send("a", n, do=fail_with(Boom()))

        await stage.engine.bus.subscribe(HANDLER_FAILED, "observer", observe)
        with fail_after(PATIENCE):
            await stage.send("a", "outer", do=send_three)
        assert len(stage.diary.failures) == 3
        assert stage.begun == ["outer", 0, 1, 2, "again", "again", "again"]
