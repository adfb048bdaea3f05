"""The timer of a state: when it sends its trigger, and when not (M2). Time is virtual here."""

import gc
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import CancelScope, create_task_group, fail_after, sleep
from anyio.lowlevel import checkpoint

from flexiflow import Component, Engine, Outcome, State, StateMachine, Transition
from flexiflow._timers import Timers
from flexiflow.events import HANDLER_FAILED
from flexiflow.testing import explore
from tests.accounting import Boom
from tests.helpers import PATIENCE
from tests.hosting import Diary, Gate, run_clocked

DAY = 86400.0

Clocked = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def clocked(backend: str) -> Clocked:
    """Run a scenario in virtual time."""
    return partial(run_clocked, backend=backend)


class Order:
    """A component "a" that waits for 10 seconds, and is expired by its timer.

    "pay" leads from "waiting" to "paid", "wait" back; "wait" in "waiting" enters it again; "note"
    is an internal transition.
    """

    def __init__(
        self,
        guard: Callable[..., object] | None = None,
        action: Callable[..., object] | None = None,
        *,
        strict: bool = False,
    ) -> None:
        rows = [
            Transition("waiting", "pay", "paid"),
            Transition(["waiting", "paid", "expired"], "wait", "waiting"),
            Transition("waiting", "late", "expired", guard=guard, action=action),
            Transition("waiting", "note", None, action=self.note),
        ]
        states = [State("waiting", after=(10, "late"))]
        self.notes: list[object] = []
        self.diary = Diary()
        self.engine = Engine()
        self.machine = StateMachine("waiting", rows, states=states, strict=strict)
        self.component = Component("a", machine=self.machine)

    async def register(self) -> "Order":
        """Register it, and keep the diary."""
        await self.engine.register(self.component)
        await self.diary.keep(self.engine.bus)
        return self

    async def send(self, trigger: str) -> Outcome:
        """Send to it."""
        return await self.engine.send("a", {"type": trigger})

    async def note(self, message: dict[str, Any], component: Component) -> None:
        """Note a message, or wait for what it brings."""
        self.notes.append(message.get("n"))
        if "gate" in message:
            await message["gate"]()

    @property
    def state(self) -> str | None:
        """The state."""
        return self.component.state


class LateGuard:
    """A guard that lets all through, and none before `running()` is being left."""

    def __init__(self, engine: Engine) -> None:
        self.reached = anyio.Event()
        self._engine = engine

    async def __call__(self, *_: object) -> bool:
        """Wait."""
        self.reached.set()
        with CancelScope(shield=True):
            while self._engine._hosting.tasks is not None:
                await checkpoint()
        return True


class TestSending:
    """When the trigger is sent."""

    async def test_again_if_running_was_left_meanwhile(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """M2, M4: A trigger that comes too late to enter a timed state is sent again later."""
        engine = Engine()
        guard = LateGuard(engine)
        rows = [
            Transition("first", "late", "second", guard=guard),
            Transition("second", "late", "first"),
        ]
        states = [State("first", after=(1e-9, "late")), State("second", after=(DAY, "late"))]
        component = Component("a", machine=StateMachine("first", rows, states=states))
        await engine.register(component)
        with fail_after(PATIENCE):
            async with engine.running():
                await guard.reached.wait()
            assert (component.state, caplog.text) == ("first", "")
            guard.reached = anyio.Event()
            async with engine.running():
                await guard.reached.wait()

    @pytest.mark.parametrize("told", [True, False])
    async def test_and_so_does_the_end_of_work(
        self, caplog: pytest.LogCaptureFixture, *, told: bool
    ) -> None:
        """M3, M4: Its message is dropped as running() is left; then the work begins anew."""
        engine, results = Engine(), list[int]()
        guard = LateGuard(engine)

        async def work(component: object) -> None:
            results.append(len(results))
            if not told:
                raise Boom

        rows = [Transition("busy", "ended", "busy", guard=guard)]
        states = [State("busy", during=work, done="ended", failed="ended")]
        await engine.register(Component("a", machine=StateMachine("busy", rows, states=states)))
        for _ in range(2):
            with fail_after(PATIENCE):
                async with engine.running():
                    await guard.reached.wait()
            guard.reached = anyio.Event()
        assert (results, caplog.text) == ([0, 1], "")

    def test_so_long_after_the_commit(self, clocked: Clocked) -> None:
        """M2: The time counts from the commit, not from the time when the message was sent."""

        async def scenario() -> None:
            order = await Order().register()
            async with order.engine.running():
                await order.send("pay")
                await sleep(3)
                await order.send("wait")
                await sleep(9.9)
                assert order.state == "waiting"
                await sleep(0.2)
                assert order.state == "expired"

        clocked(scenario)

    def test_the_start_state_counts_from_running(self, clocked: Clocked) -> None:
        """M2, M3: The timer of the start state begins on entering running()."""

        async def scenario() -> None:
            order = await Order().register()
            await sleep(100)
            async with order.engine.running():
                await sleep(9.9)
                assert order.state == "waiting"
                await sleep(0.2)
                assert order.state == "expired"

        clocked(scenario)

    def test_or_from_registering_into_a_running_engine(self, clocked: Clocked) -> None:
        """M3: The timer of a start state begins on registering."""

        async def scenario() -> None:
            order = Order()
            async with order.engine.running():
                await sleep(5)
                await order.register()
                await sleep(9.9)
                assert order.state == "waiting"
                await sleep(0.2)
                assert order.state == "expired"

        clocked(scenario)

    def test_it_is_a_message_like_any_other(self, clocked: Clocked) -> None:
        """M2: The component is sent {"type": trigger}, which is announced as any message is."""
        given: list[object] = []

        def take(message: object, component: object) -> None:
            given.append(message)

        async def scenario() -> None:
            order = await Order(action=take).register()
            async with order.engine.running():
                await sleep(11)
            assert given == [{"type": "late"}]
            assert order.diary.lines == ["a late", "a waiting expired"]

        clocked(scenario)

    def test_it_takes_its_place_in_line(self, clocked: Clocked) -> None:
        """M2, C3: Messages that wait when the time comes go first, later ones afterwards."""

        async def scenario() -> None:
            order = await Order().register()
            gate = Gate()

            async def send(number: int, at: float) -> None:
                await sleep(at)
                more = {"gate": gate} if number == 1 else {}
                await order.engine.send("a", {"type": "note", "n": number, **more})

            async with order.engine.running(), create_task_group() as group:
                for number, at in enumerate((8, 9, 11), start=1):
                    group.start_soon(send, number, at)
                await sleep(12)
                assert order.state == "waiting"
                gate.open.set()
            # The third one came too late for the state.
            assert order.notes == [1, 2]
            assert order.diary.lines == [
                "a note",
                "a note",
                "a late",
                "a waiting expired",
                "a note",
            ]

        clocked(scenario)

    def test_it_goes_behind_deferred_messages(self, clocked: Clocked) -> None:
        """M2, C4: What the component has sent itself is handled before it."""

        async def scenario() -> None:
            order = Order()

            async def act() -> None:
                await sleep(12)
                assert await order.engine.send("a", {"type": "note", "n": 2}) is Outcome.DEFERRED

            await order.register()
            async with order.engine.running():
                await order.engine.send("a", {"type": "note", "n": 1, "gate": act})
                await sleep(1)
            assert order.notes == [1, 2]
            assert order.diary.lines[-2:] == ["a late", "a waiting expired"]

        clocked(scenario)

    def test_timers_of_one_time_go_in_the_order_of_their_commits(self, clocked: Clocked) -> None:
        """M2: Many timers run out at once; each component is sent its own trigger."""

        async def scenario() -> None:
            order, expired = Order(), list[str]()

            def action(message: object, component: Component) -> None:
                expired.append(component.name)

            machine = Order(action=action).machine
            names = [f"c{number}" for number in range(200)]
            for name in names:
                await order.engine.register(Component(name, machine=machine))
            async with order.engine.running():
                await sleep(11)
            assert sorted(expired) == sorted(names)

        clocked(scenario)


class TestDropping:
    """Where the message is dropped, without a trace."""

    @pytest.mark.parametrize("trigger", ["pay", "wait"])
    def test_if_the_state_was_left_or_entered_again(self, clocked: Clocked, trigger: str) -> None:
        """M2: No message reaches the component that was meant for an earlier stay."""

        async def scenario() -> None:
            order = await Order().register()
            async with order.engine.running():
                await sleep(5)
                await order.send(trigger)
                await sleep(9)
                assert order.state == ("paid" if trigger == "pay" else "waiting")
                assert "a late" not in order.diary.lines
                await sleep(2)
                assert order.state == ("paid" if trigger == "pay" else "expired")

        clocked(scenario)

    @pytest.mark.parametrize("trigger", ["pay", "wait"])
    def test_even_if_it_is_in_line_already(self, clocked: Clocked, trigger: str) -> None:
        """M2: The state is left by the message in front: no message received, no failure."""

        async def scenario() -> None:
            order = await Order(strict=True).register()
            gate = Gate()

            async def hold() -> None:
                await order.engine.send("a", {"type": "note", "gate": gate})

            async with order.engine.running(), create_task_group() as group:
                group.start_soon(hold)
                await sleep(9)
                group.start_soon(order.send, trigger)
                await sleep(3)
                gate.open.set()
                await sleep(1)
                assert order.diary.lines == [
                    "a note",
                    f"a {trigger}",
                    f"a waiting {'paid' if trigger == 'pay' else 'waiting'}",
                ]
                await sleep(9.5)
                assert order.state == ("paid" if trigger == "pay" else "expired")

        clocked(scenario)

    def test_if_the_component_was_unregistered(
        self, clocked: Clocked, caplog: pytest.LogCaptureFixture
    ) -> None:
        """M2, C1: The trigger of an unregistered component is dropped without a trace."""

        async def scenario() -> None:
            order = await Order().register()
            gate = Gate()

            async def hold() -> None:
                await order.engine.send("a", {"type": "note", "gate": gate})

            async with order.engine.running(), create_task_group() as group:
                group.start_soon(hold)
                await sleep(12)
                await order.engine.unregister("a")
                gate.open.set()
                await sleep(12)
            assert order.diary.lines == ["a note"]
            assert order.state == "waiting"

        clocked(scenario)
        assert caplog.records == []

    def test_if_it_is_unregistered_in_the_very_step(
        self, backend: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """M2, C1: Whenever that is, the message is handled or dropped, and never a failure."""

        async def scenario() -> None:
            order = await Order().register()

            async def unregister() -> None:
                await sleep(10)
                await order.engine.unregister("a")

            async with order.engine.running(), create_task_group() as group:
                group.start_soon(unregister)
            assert not any("failed" in line for line in order.diary.lines)

        explore(scenario, backend=backend, schedules=200, seed=1)
        assert caplog.records == []

    def test_a_component_that_is_registered_anew_gets_it_once(self, clocked: Clocked) -> None:
        """M2: The timer of the first registration is gone; the due time holds."""

        async def scenario() -> None:
            order = await Order(guard=lambda *_: False).register()
            async with order.engine.running():
                await sleep(4)
                await order.engine.unregister("a")
                await order.engine.register(order.component)
                await sleep(5.5)
                assert "a late" not in order.diary.lines
                await sleep(10)
            assert order.diary.lines == ["a registered", "a late"]

        clocked(scenario)


class TestOnce:
    """It is sent once."""

    @pytest.mark.parametrize("how", ["ignored", "refused", "failed", "strict"])
    def test_whatever_becomes_of_the_message(self, clocked: Clocked, how: str) -> None:
        """M2: One that is ignored, refused or fails is not sent again; the state goes on."""

        def guard(message: object, component: object) -> bool:
            if how == "failed":
                raise Boom
            return False

        async def scenario() -> None:
            order = await Order(guard, strict=how in ("strict", "refused")).register()
            async with order.engine.running():
                await sleep(15)
                await order.send("note")
                await sleep(30)
            failures = [] if how == "ignored" else ["a failed on component.message.received"]
            if how == "strict":
                failures = ["a failed on component.message.received"]
            assert order.diary.lines == ["a late", *failures, "a note"]
            assert order.state == "waiting"
            # And not in a later running() either.
            async with order.engine.running():
                await sleep(30)
            assert order.diary.lines.count("a late") == 1

        clocked(scenario)

    def test_a_failure_is_reported_as_any_that_nobody_waits_for(
        self, clocked: Clocked, caplog: pytest.LogCaptureFixture
    ) -> None:
        """M2, C4: A failed trigger is logged, and published as event.handler.failed."""
        boom, seen = Boom(), list[Any]()

        def action(message: object, component: object) -> None:
            raise boom

        async def scenario() -> None:
            order = await Order(action=action).register()
            await order.engine.bus.subscribe(HANDLER_FAILED, "observer", seen.append)
            async with order.engine.running():
                await sleep(11)
                assert order.state == "waiting"

        clocked(scenario)
        assert seen == [
            {
                "event_name": "component.message.received",
                "component_name": "a",
                "exception": boom,
            }
        ]
        assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [boom]

    def test_an_internal_transition_lets_it_run_on(self, clocked: Clocked) -> None:
        """M1, M2: An internal transition does not begin the timer anew."""

        async def scenario() -> None:
            order = await Order().register()
            async with order.engine.running():
                for _ in range(4):
                    await sleep(2)
                    await order.send("note")
                await sleep(1.9)
                assert order.state == "waiting"
                await sleep(0.2)
                assert order.state == "expired"

        clocked(scenario)


class TestRunning:
    """Leaving running(), and entering it again."""

    def test_time_goes_on_outside(self, clocked: Clocked) -> None:
        """M2, M4: The due time stays; one that is overdue is sent at once, and once."""

        async def scenario() -> None:
            order = await Order(lambda *_: False).register()
            async with order.engine.running():
                await sleep(4)
            await sleep(4)
            async with order.engine.running():
                await sleep(1)
                assert order.diary.lines == []
            await sleep(4)
            async with order.engine.running():
                await checkpoint()
                await checkpoint()
                await checkpoint()
                assert order.diary.lines == ["a late"]
                await sleep(40)
            assert order.diary.lines == ["a late"]

        clocked(scenario)

    def test_nothing_is_sent_outside(self, clocked: Clocked) -> None:
        """M4: Leaving running() leaves the state as it is."""

        async def scenario() -> None:
            order = await Order().register()
            async with order.engine.running():
                await sleep(4)
            await sleep(40)
            assert (order.state, order.diary.lines) == ("waiting", [])

        clocked(scenario)

    def test_one_whose_handling_was_cancelled_is_sent_again(self, clocked: Clocked) -> None:
        """M2: A trigger in whose action running() was left is sent again by the next running()."""
        gates: list[Gate] = []

        async def action(message: object, component: object) -> None:
            gates.append(Gate())
            await gates[-1]()

        async def scenario() -> None:
            order = await Order(action=action).register()
            async with order.engine.running():
                await sleep(11)
            assert order.state == "waiting"
            async with order.engine.running():
                await sleep(1)
                assert len(gates) == 2
                gates[-1].open.set()
                await sleep(1)
                assert order.state == "expired"

        clocked(scenario)

    def test_one_that_is_in_line_is_sent_again(self, clocked: Clocked) -> None:
        """M2: A trigger that was in line when running() was left is sent again by the next one."""

        async def scenario() -> None:
            order = await Order().register()
            gate = Gate()

            async def hold() -> None:
                await order.engine.send("a", {"type": "note", "gate": gate})

            async with create_task_group() as group:
                async with order.engine.running():
                    group.start_soon(hold)
                    await sleep(11)
                gate.open.set()
            assert order.diary.lines == ["a note"]
            async with order.engine.running():
                await sleep(1)
                assert order.state == "expired"

        clocked(scenario)

    def test_the_clock_may_be_set_back(
        self, clocked: Clocked, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """M2: Nothing waits longer than its state's time, counted from when it began again."""
        back = [0.0]
        monkeypatch.setattr(
            "flexiflow._lifecycle.time_of_day", lambda: anyio.current_time() - back[0]
        )

        async def scenario() -> None:
            order = await Order().register()
            async with order.engine.running():
                await sleep(4)
            back[0] = DAY
            async with order.engine.running():
                await sleep(9.9)
                assert order.state == "waiting"
                await sleep(0.2)
                assert order.state == "expired"

        clocked(scenario)


class TestTimers:
    """Many of them."""

    def test_are_called_in_order(self, clocked: Clocked) -> None:
        """M2: Timers are called by time; those of one time in the order in which they were set."""

        async def scenario() -> None:
            called: list[int] = []
            timers = Timers()
            for number, delay in enumerate((5, 1, 5, 3, 1)):
                timers.set(delay, partial(called.append, number))
            assert len(timers) == 5
            async with create_task_group() as group:
                group.start_soon(timers.run)
                await sleep(2)
                assert called == [1, 4]
                timers.set(0.5, lambda: called.append(9))
                await sleep(1.4)
                assert called == [1, 4, 9, 3]
                await sleep(2)
                assert called == [1, 4, 9, 3, 0, 2]
                assert len(timers) == 0
                group.cancel_scope.cancel()

        clocked(scenario)

    def test_one_may_cancel_the_next(self, clocked: Clocked) -> None:
        """M2: A timer that is cancelled in the step in which it runs out is not called."""

        async def scenario() -> None:
            called: list[int] = []
            timers = Timers()
            timers.set(1, lambda: timers.cancel(second))
            second = timers.set(1, lambda: called.append(2))
            first = timers.set(1, lambda: called.append(3))
            async with create_task_group() as group:
                group.start_soon(timers.run)
                await sleep(2)
                timers.cancel(first)
                assert (called, len(timers)) == ([3], 0)
                group.cancel_scope.cancel()

        clocked(scenario)

    @pytest.mark.unmeasured
    async def test_a_hundred_thousand_cancelled_ones_leave_nothing(self) -> None:
        """M2: What is cancelled is forgotten, though others are set."""
        timers = Timers()
        kept = [timers.set(DAY, int) for _ in range(10)]

        class Held:
            def call(self) -> None: ...

        for _ in range(100_000):
            timers.cancel(timers.set(DAY / 2, Held().call))
        assert len(timers) == len(kept)
        assert len(timers._heap) < 200
        gc.collect()
        assert not any(isinstance(each, Held) for each in gc.get_objects())

    @pytest.mark.unmeasured
    async def test_many_that_are_pending_may_be_cancelled(self) -> None:
        """M2: All at once, in any order, in little time: the heap is built anew seldom."""
        timers = Timers()
        pending = [timers.set(number, int) for number in range(100_000)]
        for timer in pending[::2] + pending[1::2]:
            timers.cancel(timer)
            timers.cancel(timer)
        assert (len(timers), len(timers._heap) < 200) == (0, True)

    def test_transitions_leave_no_timers(self, clocked: Clocked) -> None:
        """M2: Each transition cancels the timer of the state that it leaves."""

        async def scenario() -> None:
            order = await Order().register()
            async with order.engine.running():
                timers = order.engine._hosting.timers
                for _ in range(500):
                    await order.send("pay")
                    await order.send("wait")
                assert len(timers) == 1
                assert len(timers._heap) < 200
                await order.engine.unregister("a")
                assert len(timers) == 0

        clocked(scenario)
