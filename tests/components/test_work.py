"""The work of a state: how it ends, what its end sends, and what it sends itself (M3)."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Any, Self

import anyio
import pytest
from anyio import (
    CancelScope,
    Event,
    create_task_group,
    fail_after,
    from_thread,
    sleep_forever,
    to_thread,
)
from anyio.lowlevel import checkpoint

from flexiflow import (
    Component,
    Engine,
    EventBus,
    HandlerCancelled,
    Outcome,
    State,
    StateMachine,
    Transition,
    UnknownComponent,
)
from flexiflow.events import HANDLER_FAILED, MESSAGE_RECEIVED
from flexiflow.testing import explore
from tests.accounting import Boom, Fatal, leaves
from tests.attacks import on_asyncio, stray
from tests.components.lasting import Shielded, Worker
from tests.helpers import PATIENCE, settle
from tests.hosting import Diary, Gate
from tests.stores.keeping import DictStore

DROPPED = ("a done", "a failed")


class Watch:
    """An engine with a worker, and what is told of it."""

    def __init__(self, during: Callable[..., Coroutine[Any, Any, object]], **options: Any) -> None:
        self.engine = Engine()
        self.worker = Worker(self.engine, during, **options)
        self.diary = Diary()
        self.failed: list[Any] = []

    async def __aenter__(self) -> Self:
        await self.diary.keep(self.engine.bus)
        await self.engine.bus.subscribe(HANDLER_FAILED, "observer", self.failed.append)
        await self.worker.register()
        self._running = self.engine.running()
        await self._running.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._running.__aexit__(exc_type, exc, traceback)

    @property
    def state(self) -> str | None:
        """The state."""
        return self.worker.component.state

    def failures(self) -> list[BaseException]:
        """Give the failures that were reported, as C4 does."""
        for failed in self.failed:
            assert failed["event_name"] == MESSAGE_RECEIVED
            assert failed["component_name"] == "a"
        return [failed["exception"] for failed in self.failed]


def raising(exception: BaseException) -> Callable[[object], Coroutine[Any, Any, None]]:
    """Give work that fails after a while."""

    async def work(component: object) -> None:
        await checkpoint()
        raise exception

    return work


def failing_in_cleanup(
    exception: BaseException,
) -> Callable[[object], Coroutine[Any, Any, None]]:
    """Give work that fails when it is cancelled."""

    async def work(component: object) -> None:
        try:
            await sleep_forever()
        finally:
            raise exception

    return work


class TestEnd:
    """What the end of the work sends."""

    @pytest.mark.parametrize("at_once", [False, True])
    async def test_done_has_the_result(self, *, at_once: bool) -> None:
        """M3: {"type": done, "result": ...}, announced like any message, once."""
        result = object()

        async def work(component: Component) -> object:
            assert component is watch.worker.component
            if not at_once:
                await checkpoint()
            return result

        watch = Watch(work, told=True)
        async with watch:
            await settle()
            assert watch.worker.messages == [{"type": "done", "result": result}]
            assert watch.diary.lines == ["a registered", "a done", "a busy over"]

    async def test_failed_has_the_exception(self, caplog: pytest.LogCaptureFixture) -> None:
        """M3: {"type": failed, "exception": ...}; then it is reported nowhere else."""
        boom = Boom()
        async with Watch(raising(boom), told=True) as watch:
            await settle()
            assert watch.worker.messages == [{"type": "failed", "exception": boom}]
            assert watch.diary.lines == ["a registered", "a failed", "a busy over"]
        assert caplog.records == []

    async def test_without_failed_it_is_reported(self, caplog: pytest.LogCaptureFixture) -> None:
        """M3, C4: Logged once and published once; the component stays in its state."""
        boom = Boom()
        async with Watch(raising(boom)) as watch:
            await settle()
            assert watch.failures() == [boom]
            assert watch.state == "busy"
        [record] = caplog.records
        assert record.exc_info is not None
        assert record.exc_info[1] is boom
        assert "work" in record.getMessage()

    async def test_without_done_nothing_is_sent(self) -> None:
        """M3: Without `done` the end of work sends nothing, and begins no work anew."""
        begun: list[int] = []

        async def work(component: object) -> None:
            begun.append(1)

        async with Watch(work) as watch:
            await settle()
            await watch.worker.send("note")
            await settle()
            assert (begun, watch.diary.lines) == ([1], ["a registered", "a note"])

    @pytest.mark.parametrize("trigger", ["stop", "again"])
    async def test_in_line_it_is_dropped_with_its_state(self, trigger: str) -> None:
        """M3: A `done` in line is dropped if its state was left or entered again."""
        gate, may_end = Gate(), Event()

        async def work(component: object) -> None:
            if may_end.is_set():
                await sleep_forever()
            await may_end.wait()

        async def hold(message: dict[str, Any], component: object) -> None:
            if message["type"] == "note":
                await gate()

        watch = Watch(work, told=True, act=hold)
        with fail_after(PATIENCE):
            async with watch, create_task_group() as group:
                group.start_soon(watch.worker.send, "note")
                await gate.reached.wait()
                group.start_soon(watch.worker.send, trigger)
                await settle()
                may_end.set()
                await settle()
                gate.open.set()
                await settle()
                assert not set(DROPPED) & set(watch.diary.lines)
                assert watch.state == {"stop": "idle", "again": "busy"}[trigger]

    async def test_it_takes_its_place_in_line(self) -> None:
        """M3: `done` goes behind the messages that wait, and before those that come later."""
        gate, may_end = Gate(), Event()
        order: list[object] = []

        async def work(component: object) -> None:
            await may_end.wait()

        async def act(message: dict[str, Any], component: object) -> None:
            order.append(message.get("n", message["type"]))
            if message.get("n") == 1:
                await gate()

        watch = Watch(work, told=True, act=act)
        with fail_after(PATIENCE):
            async with watch, create_task_group() as group:
                for number in (1, 2):
                    group.start_soon(partial(watch.worker.send, "note", n=number))
                    await settle()
                may_end.set()
                await settle()
                group.start_soon(partial(watch.worker.send, "note", n=3))
                await settle()
                gate.open.set()
        assert order == [1, 2, 3]
        lines = [line for line in watch.diary.lines if "registered" not in line]
        assert lines == ["a note", "a note", "a done", "a busy over", "a note"]

    async def test_a_failing_done_does_not_begin_it_anew(self) -> None:
        """M3, C4: The failure of the transition is reported, the state stays."""
        begun: list[int] = []

        async def work(component: object) -> None:
            begun.append(1)

        def fail(message: object, component: object) -> None:
            raise boom

        boom = Boom()
        engine, failed = Engine(), list[Any]()
        machine = StateMachine(
            "busy",
            [Transition("busy", "done", "over", action=fail)],
            states=[State("busy", during=work, done="done")],
        )
        component = Component("a", machine=machine)
        await engine.register(component)
        await engine.bus.subscribe(HANDLER_FAILED, "observer", failed.append)
        async with engine.running():
            await settle()
            assert [each["exception"] for each in failed] == [boom]
            assert (begun, component.state) == ([1], "busy")


class TestLeaving:
    """Leaving the state."""

    async def test_cancels_it_and_waits_for_its_end(self) -> None:
        """M3: The transition goes on only when the work has cleaned up."""
        gate = Gate()
        work = Shielded(gate)
        async with Watch(work) as watch, create_task_group() as group:
            await settle()
            group.start_soon(watch.worker.send, "stop")
            await settle()
            assert (gate.reached.is_set(), watch.state) == (True, "busy")
            gate.open.set()
            await settle()
            assert watch.state == "idle"

    @pytest.mark.parametrize("told", [False, True])
    async def test_what_cancelled_work_raises_is_reported(self, *, told: bool) -> None:
        """M3, C4: Even where there is a failed, which is not sent; the sender gets nothing."""
        boom = Boom()
        async with Watch(failing_in_cleanup(boom), told=told) as watch:
            await settle()
            assert await watch.worker.send("stop") is Outcome.TRANSITIONED
            await settle()
            assert watch.failures() == [boom]
            assert not set(DROPPED) & set(watch.diary.lines)

    @pytest.mark.parametrize("told", [False, True])
    async def test_work_may_swallow_its_cancellation(self, *, told: bool) -> None:
        """M3: What work returns after it has swallowed its cancellation is dropped."""

        async def work(component: object) -> int:
            with CancelScope() as scope:
                try:
                    await sleep_forever()
                finally:
                    scope.cancel()
                    # On asyncio a scope swallows what others cancelled only if it is cancelled.
            return 1

        async def swallow(component: object) -> int:
            try:
                await work(component)
            except anyio.get_cancelled_exc_class():
                return 2
            return 1

        async with Watch(swallow, told=told) as watch:
            await settle()
            assert await watch.worker.send("stop") is Outcome.TRANSITIONED
            await settle()
            assert watch.state == "idle"
            assert (watch.failures(), set(DROPPED) & set(watch.diary.lines)) == ([], set())

    async def test_work_that_has_ended_needs_no_waiting(self) -> None:
        """M3: A state whose work has ended can be left; entering it again begins the work again."""
        begun: list[int] = []

        async def work(component: object) -> None:
            begun.append(1)

        async with Watch(work) as watch:
            await settle()
            await watch.worker.send("stop")
            await watch.worker.send("go")
            await settle()
            assert begun == [1, 1]

    async def test_before_it_has_begun(self) -> None:
        """M3: A state that is left in the step in which it was entered ends its work as well."""
        ends: list[str] = []

        async def work(component: object) -> None:
            try:
                await checkpoint()
                ends.append("went on")
            finally:
                ends.append("ended")

        async def chain(message: dict[str, Any], component: Any) -> None:
            if message["type"] == "go":
                await watch.worker.send("stop")

        watch = Watch(work, act=chain)
        async with watch:
            await watch.worker.send("stop")
            await watch.worker.send("go")
            await settle()
            assert watch.state == "idle"
        assert set(ends) <= {"ended"}

    @pytest.mark.parametrize("stored", [True, False])
    async def test_unregistering_lets_the_message_in_hand_enter_it(self, *, stored: bool) -> None:
        """C1, M4: The engine runs; the work begins once the component is registered again."""
        began = Event()

        async def work(component: object) -> None:
            began.set()

        async def leave(message: object, component: Component) -> bool:
            await engine.unregister(component.name)
            return True

        rows = [Transition("idle", "go", "busy", guard=leave), Transition("busy", "stop", "idle")]
        machine = StateMachine("idle", rows, states=[State("busy", during=work)])
        engine = Engine(store=DictStore() if stored else None)
        component = Component("a", machine=machine)
        await engine.register(component)
        with fail_after(PATIENCE):
            async with engine.running():
                assert await engine.send("a", {"type": "go"}) is Outcome.TRANSITIONED
                assert (component.state, began.is_set()) == ("busy", False)
                await engine.register(component)
                await began.wait()

    async def test_unregistering_ends_it(self) -> None:
        """M3: Unregistering ends the work, sends nothing, and reports its failure."""
        gate, boom = Gate(), Boom()

        async def finish() -> None:
            await gate()
            raise boom

        async with Watch(Shielded(finish), told=True) as watch, create_task_group() as group:
            await settle()
            gone = Event()

            async def unregister() -> None:
                await watch.engine.unregister("a")
                gone.set()

            group.start_soon(unregister)
            await settle()
            assert (gate.reached.is_set(), gone.is_set()) == (True, False)
            assert "a" not in watch.engine.components
            gate.open.set()
            await settle()
            assert gone.is_set()
            assert watch.failures() == [boom]

    async def test_registering_anew_begins_it_anew(self) -> None:
        """M3: Registering anew begins the work anew, once the former one has ended."""
        gate = Gate()
        begun: list[int] = []

        async def work(component: object) -> None:
            begun.append(1)
            with CancelScope(shield=len(begun) == 1):
                await gate()
            await sleep_forever()

        async with Watch(work) as watch, create_task_group() as group:
            await settle()
            group.start_soon(watch.engine.unregister, "a")
            await settle()
            await watch.engine.register(watch.worker.component)
            await settle()
            assert begun == [1]
            gate.open.set()
            await settle()
            assert begun == [1, 1]

    @pytest.mark.parametrize("way", ["directly", "child task", "handler", "other component"])
    async def test_unregistering_from_within_does_not_wait(self, way: str) -> None:
        """M3: Called from within the work it returns, and the work goes on to its next wait."""
        went_on: list[str] = []

        async def unregister(*_: object) -> None:
            await watch.engine.unregister("a")
            went_on.append("unregistered")

        async def work(component: object) -> None:
            # The others wait for what they call.
            with CancelScope(shield=way != "directly"):
                if way == "child task":
                    async with create_task_group() as group:
                        group.start_soon(unregister)
                elif way == "handler":
                    await watch.engine.bus.publish("enough")
                elif way == "other component":
                    await watch.engine.send("b", {"type": "note"})
                else:
                    await unregister()
            went_on.append("went on")
            await checkpoint()
            went_on.append("too far")

        watch = Watch(work)
        other = StateMachine("x", [Transition("x", "note", None, action=unregister)])
        await watch.engine.register(Component("b", machine=other))
        await watch.engine.bus.subscribe("enough", "handler", unregister)
        with fail_after(PATIENCE):
            async with watch:
                await settle()
                assert went_on == ["unregistered", "went on"]
                assert "a" not in watch.engine.components


class TestStrange:
    """What else may leave it."""

    @pytest.mark.parametrize("told", [False, True])
    async def test_a_stray_cancellation_is_a_failure(self, *, told: bool) -> None:
        """M3, E6: A cancellation of another task that the work raises is a failure of the work."""
        async with Watch(stray, told=told) as watch:
            await settle()
            if told:
                [message] = watch.worker.messages
                assert isinstance(message["exception"], HandlerCancelled)
            else:
                [failure] = watch.failures()
                assert isinstance(failure, HandlerCancelled)
                assert "stray" in str(failure)

    @on_asyncio
    @pytest.mark.parametrize("told", [False, True])
    @pytest.mark.parametrize("pending", [False, True])
    async def test_a_native_cancel_is_a_failure(self, *, told: bool, pending: bool) -> None:
        """M3, E6: A native cancel of the work's own task is its failure; all others go on."""

        async def cancel_itself(component: object) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if not pending:
                await sleep_forever()

        async with Watch(cancel_itself, told=told) as watch:
            await watch.engine.bus.subscribe(HANDLER_FAILED, "angry", raising(Boom()))
            await settle()
            if pending:
                # It had ended before the cancel could strike.
                assert (watch.failures(), watch.state) == ([], "over" if told else "busy")
            elif told:
                assert isinstance(watch.worker.messages[0]["exception"], HandlerCancelled)
            else:
                assert [type(each) for each in watch.failures()] == [HandlerCancelled]
            assert await watch.worker.send("note") is Outcome.TRANSITIONED
            await settle()

    @on_asyncio
    async def test_a_native_cancel_that_comes_late_strikes_no_observer(self) -> None:
        """M3, E6: The work has failed before it could strike; its failure is reported in full."""
        boom, heard = Boom(), list[object]()

        async def cancel_itself(component: object) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            raise boom

        async def hear(failed: Any) -> None:
            await checkpoint()
            heard.append(failed["exception"])

        async with Watch(cancel_itself) as watch:
            await watch.engine.bus.subscribe(HANDLER_FAILED, "slow", hear)
            await settle()
            assert watch.failures() == [boom]
            assert heard == [boom]

    @pytest.mark.parametrize("told", [False, True])
    async def test_an_exception_group_is_kept_whole(self, *, told: bool) -> None:
        """M3, E8: An exception group that the work raises is its exception, and is kept whole."""
        group = ExceptionGroup("two", [Boom(), Boom()])
        async with Watch(raising(group), told=told) as watch:
            await settle()
            given = watch.worker.messages[0]["exception"] if told else watch.failures()[0]
            assert given is group

    async def test_a_group_with_cancellations_is_split(self) -> None:
        """M3, E8: A child task that fails as the work is cancelled is reported alone."""

        async def work(component: object) -> None:
            async with create_task_group() as group:
                group.start_soon(failing_in_cleanup(boom), component)
                group.start_soon(sleep_forever)

        boom = Boom()
        async with Watch(work) as watch:
            await settle()
            await watch.worker.send("stop")
            await settle()
            [failure] = watch.failures()
            assert [*leaves(failure)] == [boom]

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, Fatal])
    @pytest.mark.parametrize("place", ["work", "cleanup", "handling", "observer"])
    async def test_interrupts_leave_running_bare(
        self, kind: type[BaseException], place: str
    ) -> None:
        """M3, E5: An interrupt in work is no failure; running() raises it when all has ended."""
        interrupt, ends = kind(), list[str]()

        async def waiting(component: object) -> None:
            try:
                await sleep_forever()
            finally:
                with CancelScope(shield=True):
                    await checkpoint()
                ends.append("other")

        def blow(*_: object) -> None:
            raise interrupt

        async def sending(component: object) -> None:
            await watch.engine.send("a", {"type": "note"})

        works = {
            "work": raising(interrupt),
            "cleanup": failing_in_cleanup(interrupt),
            "handling": sending,
            "observer": raising(Boom()),
        }
        watch = Watch(works[place], act=blow if place == "handling" else None)
        if place == "observer":
            await watch.engine.bus.subscribe(HANDLER_FAILED, "observer", blow)
        await Worker(watch.engine, waiting, name="b").register()
        with pytest.raises(kind) as caught:
            async with watch:
                await settle()
                if place == "cleanup":
                    await watch.worker.send("stop")
                await sleep_forever()
        assert caught.value is interrupt
        assert ends == ["other"]
        await watch.engine.unregister("a")
        async with watch.engine.running():
            await checkpoint()


async def send_by(
    way: str, send: Callable[[], Coroutine[Any, Any, object]], engine: Engine
) -> None:
    """Send in a roundabout way, from within the work."""
    if way == "child task":
        async with create_task_group() as group:
            group.start_soon(send)
    elif way == "thread":
        await to_thread.run_sync(lambda: from_thread.run(send))
    elif way in ("publish", "concurrently"):
        bus = EventBus(delivery="sequential" if way == "publish" else "concurrent")
        await bus.subscribe("ask", "asker", lambda _: send(), limit=1)
        assert await bus.publish("ask") == ()
    elif way == "other component":
        await engine.send("b", {"type": "do", "do": send})
    elif way == "made component":
        await engine.send("made", {"type": "do", "do": send})
    else:
        await send()


WAYS = (
    "directly",
    "handle_message",
    "child task",
    "thread",
    "publish",
    "concurrently",
    "other component",
    "made component",
)


WHERE = ContextVar("where", default="outside")


class Relay:
    """An engine with a worker that sends to itself, once it may.

    Attributes:
        outcomes: that of the send, and how many messages were handled in that step.
        seen: the contexts in which messages were handled.
        senders: the tasks that have sent; `handlers` are those that have handled.
    """

    def __init__(self, way: str) -> None:
        self.outcomes: list[object] = []
        self.seen: list[str] = []
        self.senders: list[int] = []
        self.handlers: list[int] = []
        self.gate, self.may_send, self.sent = Gate(), Event(), Event()
        self._way = way
        self._other = StateMachine("x", [Transition("x", "do", None, action=self._do)])
        self.engine = Engine(component_factory=self._make)
        self.worker = Worker(self.engine, self._work, act=self._act)

    async def set(self) -> None:
        """Register the components."""
        await self.worker.register()
        await self.engine.register(Component("b", machine=self._other))

    def _make(self, name: str) -> Component:
        return Component(name, machine=self._other)

    async def _do(self, message: dict[str, Any], component: object) -> None:
        await message["do"]()

    async def _act(self, message: dict[str, Any], component: object) -> None:
        if "gate" in message:
            await self.gate()
        else:
            self.handlers.append(anyio.get_current_task().id)
            self.seen.append(WHERE.get())

    async def _send(self) -> None:
        WHERE.set("inside")
        self.senders.append(anyio.get_current_task().id)
        message = {"type": "note"}
        if self._way == "handle_message":
            self.outcomes.append(await self.worker.component.handle_message(message))
        else:
            self.outcomes.append(await self.engine.send("a", message))
        self.outcomes.append(len(self.seen))

    async def _work(self, component: object) -> None:
        await self.may_send.wait()
        await send_by(self._way, self._send, self.engine)
        self.sent.set()
        await sleep_forever()


class TestSends:
    """A send to its own component from within the work."""

    @pytest.mark.unmeasured
    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("busy", [False, True])
    async def test_is_deferred_and_handled_in_running(self, way: str, *, busy: bool) -> None:
        """M3: DEFERRED at once, also if nothing is in hand; handled in a task of running()."""
        relay = Relay(way)
        await relay.set()
        WHERE.set("running")
        with fail_after(PATIENCE):
            async with relay.engine.running(), create_task_group() as group:
                WHERE.set("sender")
                if busy:
                    group.start_soon(partial(relay.worker.send, "note", gate=True))
                    await relay.gate.reached.wait()
                relay.may_send.set()
                await relay.sent.wait()
                await settle()
                assert relay.outcomes == [Outcome.DEFERRED, 0]
                assert relay.seen == ([] if busy else ["running"])
                relay.gate.open.set()
                await settle()
                assert relay.seen == ["running"]
                assert not set(relay.senders) & set(relay.handlers)

    async def test_takes_its_place_in_line(self) -> None:
        """M3, C3: Behind those that wait, before those that come later; the work does not wait."""
        gate, may_send = Gate(), Event()
        order: list[object] = []

        async def act(message: dict[str, Any], component: object) -> None:
            order.append(message["n"])
            if message["n"] == 1:
                await gate()

        async def work(component: object) -> None:
            await may_send.wait()
            for number in (3, 4):
                await watch.worker.send("note", n=number)
            await sleep_forever()

        watch = Watch(work, act=act)
        with fail_after(PATIENCE):
            async with watch, create_task_group() as group:
                for number in (1, 2):
                    group.start_soon(partial(watch.worker.send, "note", n=number))
                    await settle()
                may_send.set()
                await settle()
                group.start_soon(partial(watch.worker.send, "note", n=5))
                await settle()
                gate.open.set()
        assert order == [1, 2, 3, 4, 5]

    async def test_may_leave_the_state(self) -> None:
        """M3: The work sends what ends it; it is cancelled at its next wait."""
        went_on: list[int] = []

        async def work(component: object) -> None:
            assert await watch.worker.send("stop") is Outcome.DEFERRED
            went_on.append(1)
            await sleep_forever()

        watch = Watch(work)
        with fail_after(PATIENCE):
            async with watch:
                await settle()
                assert (watch.state, went_on) == ("idle", [1])

    async def test_counts_also_if_the_state_was_left(self) -> None:
        """M3: Unlike done and failed, what the work has sent itself is not dropped."""
        gate = Gate()

        async def work(component: object) -> None:
            await watch.worker.send("stop")
            await watch.worker.send("note", n=1)
            await gate()

        watch = Watch(work)
        with fail_after(PATIENCE):
            async with watch:
                await settle()
                assert watch.worker.numbers() == [1]

    async def test_failures_are_reported(self, caplog: pytest.LogCaptureFixture) -> None:
        """M3, C4: Nobody waits for the message, so its failure is logged and published."""
        boom = Boom()

        def fail(message: object, component: object) -> None:
            raise boom

        async def work(component: object) -> None:
            await watch.worker.send("note")
            await sleep_forever()

        watch = Watch(work, act=fail)
        async with watch:
            await settle()
            assert watch.failures() == [boom]
        assert len(caplog.records) == 1

    async def test_failures_within_an_announcement_are_logged_only(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """M3, E7: A failure of what a handler of event.handler.failed has sent is only logged."""
        boom, announced = Boom(), list[object]()

        def fail(message: object, component: object) -> None:
            raise boom

        async def work(component: object) -> None:
            await watch.engine.bus.publish("a.b")
            await sleep_forever()

        async def observe(failed: Any) -> None:
            announced.append(failed["exception"])
            await watch.worker.send("note")

        watch = Watch(work, act=fail)
        await watch.engine.bus.subscribe("a.b", "handler", raising(Boom()))
        await watch.engine.bus.subscribe(HANDLER_FAILED, "sender", observe)
        async with watch:
            await settle()
        assert len(announced) == 1
        assert boom not in announced
        assert [each.exc_info[1] for each in caplog.records if each.exc_info][1:] == [boom]

    async def test_waiting_ones_are_reported_on_unregistering(self) -> None:
        """M3, C1: With UnknownComponent, as deferred messages are."""
        gate, may_send = Gate(), Event()

        async def act(message: dict[str, Any], component: object) -> None:
            await gate()

        async def work(component: object) -> None:
            await may_send.wait()
            await watch.worker.send("note")
            await sleep_forever()

        watch = Watch(work, act=act)
        with fail_after(PATIENCE):
            async with watch, create_task_group() as group:
                group.start_soon(watch.worker.send, "note")
                await gate.reached.wait()
                may_send.set()
                await settle()
                await watch.engine.unregister("a")
                await settle()
                assert [type(each) for each in watch.failures()] == [UnknownComponent]
                gate.open.set()

    @on_asyncio
    async def test_a_native_cancel_of_the_handling_is_its_failure(self) -> None:
        """M3, E6: A native cancel of the handling is reported; block and component go on."""

        async def act(message: dict[str, Any], component: object) -> None:
            if "n" not in message:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await sleep_forever()

        async def work(component: object) -> None:
            await watch.worker.send("note")
            await sleep_forever()

        watch = Watch(work, act=act)
        with fail_after(PATIENCE):
            async with watch:
                await watch.engine.bus.subscribe(HANDLER_FAILED, "angry", raising(Boom()))
                await settle()
                assert [type(each) for each in watch.failures()] == [HandlerCancelled]
                assert await watch.worker.send("note", n=1) is Outcome.TRANSITIONED

    async def test_while_running_is_left_they_are_kept_in_order(self) -> None:
        """M3, C4: Those not begun, and those sent last, stay first in line for the next."""
        gate, order = Gate(), list[object]()

        async def act(message: dict[str, Any], component: object) -> None:
            order.append(message["n"])
            if message["n"] == 0:
                await gate()

        async def work(component: object) -> None:
            await gate.reached.wait()
            for number in range(1, 9):
                await worker.send("note", n=number)
            try:
                await sleep_forever()
            finally:
                assert await worker.send("note", n=9) is Outcome.DEFERRED

        engine = Engine()
        worker = Worker(engine, work, act=act)
        await worker.register()
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                async with engine.running():
                    group.start_soon(partial(worker.send, "note", n=0))
                    await settle()
                gate.open.set()
            await worker.send("note", n=10)
        assert order == [*range(11)]


def test_each_message_of_a_work_is_handled_once_whenever_running_is_left(backend: str) -> None:
    """M3, C4: In running(), or by the next send."""

    async def scenario() -> None:
        order: list[object] = []
        sent, engine = Event(), Engine()

        async def act(message: dict[str, Any], component: object) -> None:
            if message["n"] == 0:
                await sent.wait()
            else:
                order.append(message["n"])

        async def work(component: object) -> None:
            if not sent.is_set():
                for number in (1, 2, 3):
                    await worker.send("note", n=number)
                sent.set()

        worker = await Worker(engine, work, act=act).register()
        async with create_task_group() as group, engine.running():
            group.start_soon(partial(worker.send, "note", n=0))
            await sent.wait()
        await worker.send("note", n=4)
        assert order == [1, 2, 3, 4]

    explore(scenario, backend=backend, schedules=300, seed=1)
