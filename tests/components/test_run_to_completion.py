"""Messages that a component is sent from within its own handling (C4)."""

import sys
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

import pytest
from anyio import (
    CancelScope,
    Event,
    create_task_group,
    fail_after,
    from_thread,
    get_current_task,
    to_thread,
)
from anyio.lowlevel import checkpoint

from flexiflow import (
    Component,
    Engine,
    EventBus,
    HandlerCancelled,
    Outcome,
    StateMachine,
    Transition,
    UnknownComponent,
)
from flexiflow.events import COMPONENT_REGISTERED, HANDLER_FAILED, MESSAGE_RECEIVED, STATE_CHANGED
from tests.accounting import Boom, Fatal
from tests.attacks import kept_cancellation
from tests.conftest import Backend
from tests.helpers import PATIENCE, run_at_once
from tests.hosting import (
    GO,
    Diary,
    Gate,
    Victim,
    open_each,
    others_run,
    stepping,
    styles,
    switch,
    together,
)

WAYS = ("directly", "component", "child task", "thread", "publish", "concurrently")


def machine(act: Any = None) -> StateMachine:
    """Make a machine with one state, where every message of the type "go" is a transition."""
    return StateMachine("on", [Transition("on", "go", "on", action=act)])


def message(n: object, **more: object) -> dict[str, Any]:
    """Make a message."""
    return {"type": "go", "n": n, **more}


class Stage:
    """An engine whose components do what their messages say, and what they did.

    A message's `do` is called, and awaited, in its action.
    """

    def __init__(self, *names: str, bus: EventBus | None = None) -> None:
        self.engine = Engine(bus=bus)
        self.diary = Diary()
        self.begun: list[object] = []
        self.ended: list[object] = []
        self.outcomes: list[Outcome] = []
        self._names = names or ("a",)

    async def set(self) -> "Stage":
        """Register the components."""
        for name in self._names:
            await self.engine.register(Component(name, machine=machine(self._act)))
        await self.diary.keep(self.engine.bus)
        return self

    async def send(self, name: str, n: object, **more: object) -> Outcome:
        """Send, and note the outcome."""
        outcome = await self.engine.send(name, message(n, **more))
        self.outcomes.append(outcome)
        return outcome

    def sending(self, name: str, n: object, **more: object) -> Callable[[], Any]:
        """Give what sends."""
        return partial(self.send, name, n, **more)

    async def is_usable(self) -> bool:
        """Tell whether every component takes a message, with nothing left to be done before."""
        self.begun.clear()
        with fail_after(PATIENCE):
            for name in self._names:
                await self.engine.send(name, message("last"))
        return self.begun == ["last"] * len(self._names)

    async def _act(self, message: dict[str, Any], component: Component) -> None:
        assert component.name in self._names
        self.begun.append(message["n"])
        if "do" in message:
            await message["do"]()
        self.ended.append(message["n"])


def fail_with(exception: BaseException) -> Callable[[], Any]:
    """Give what fails."""

    async def fail() -> None:
        raise exception

    return fail


def booms(number: int) -> list[Boom]:
    """Make failures that can be told apart."""
    return [Boom(str(each)) for each in range(number)]


async def by(way: str, send: Callable[[], Any]) -> None:
    """Send in a roundabout way."""
    if way == "child task":
        await together(send)
    elif way == "thread":
        await to_thread.run_sync(lambda: from_thread.run(send))
    elif way in ("publish", "concurrently"):
        bus = EventBus(delivery="sequential" if way == "publish" else "concurrent")
        await bus.subscribe("ask", "asker", lambda data: send())
        assert await bus.publish("ask") == ()
    else:
        await send()


class TestDeferred:
    """One component sends to itself."""

    @pytest.mark.parametrize("way", WAYS)
    async def test_is_handled_right_after_the_message_in_hand(self, way: str) -> None:
        """C4: Sent from within the handling, by whatever way, a message waits for its end."""
        stage = await Stage().set()
        nested: list[Outcome] = []

        async def send() -> None:
            if way == "component":
                component = stage.engine.components["a"]
                nested.append(await component.handle_message(message("inner")))
            else:
                nested.append(await stage.engine.send("a", message("inner")))

        with fail_after(PATIENCE):
            assert await stage.send("a", "outer", do=partial(by, way, send)) is (
                Outcome.TRANSITIONED
            )
        assert nested == [Outcome.DEFERRED]
        assert stage.begun == stage.ended == ["outer", "inner"]
        assert stage.diary.lines == ["a go", "a on on", "a go", "a on on"]

    @pytest.mark.parametrize(
        "where", ["guard", "action", MESSAGE_RECEIVED, STATE_CHANGED, HANDLER_FAILED]
    )
    @pytest.mark.parametrize("asynchronous", [False, True])
    async def test_counts_wherever_the_handling_is(self, where: str, *, asynchronous: bool) -> None:
        """C4: Guard, action, and the observers of what it emits are all within the handling."""
        outcomes: list[Outcome] = []

        async def send(*_: object) -> bool:
            if not outcomes:
                if asynchronous:
                    await checkpoint()
                outcomes.append(await engine.send("a", {"type": "again"}))
            return True

        def fail(data: Any) -> None:
            if where == HANDLER_FAILED and not outcomes:
                raise Boom

        functions: dict[str, Any] = {where: send} if "." not in where else {}
        engine = Engine()
        await engine.register(Component("a", machine=switch(**functions)))
        diary = await Diary().keep(engine.bus)
        await engine.bus.subscribe(MESSAGE_RECEIVED, "failing", fail)
        if "." in where:
            await engine.bus.subscribe(where, "observer", send)
        with fail_after(PATIENCE):
            assert await engine.send("a", GO) is Outcome.TRANSITIONED
        assert outcomes == [Outcome.DEFERRED]
        lines = [line for line in diary.lines if "failed" not in line]
        assert lines == ["a go", "a off on", "a again"]

    async def test_observer_of_another_event_in_between_counts(self) -> None:
        """C4: A handler of an event that the action publishes is within the handling too."""
        stage = await Stage().set()

        async def on_paid(data: Any) -> None:
            await stage.send("a", "inner")

        await stage.engine.bus.subscribe("order.paid", "observer", on_paid)
        await stage.send("a", "outer", do=partial(stage.engine.bus.publish, "order.paid"))
        assert stage.outcomes == [Outcome.DEFERRED, Outcome.TRANSITIONED]
        assert stage.begun == ["outer", "inner"]

    async def test_several_are_handled_in_order(self) -> None:
        """C4: Deferred messages are handled in the order in which they were sent."""
        stage = await Stage().set()

        async def send_two(first: object, second: object) -> None:
            await stage.send("a", first)
            await stage.send("a", second)

        async def send_four() -> None:
            await stage.send("a", 1, do=partial(send_two, 3, 4))
            await stage.send("a", 2, do=partial(send_two, 5, 6))

        await stage.send("a", 0, do=send_four)
        assert stage.begun == list(range(7))

    async def test_come_before_other_senders(self) -> None:
        """C4: Deferred messages are handled before those of senders who wait."""
        stage, gate = await Stage().set(), Gate()

        async def wait_and_send() -> None:
            await gate()
            await stage.send("a", "deferred", do=stage.sending("a", "deferred by that"))

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(stage.sending("a", "in hand", do=wait_and_send))
                await gate.reached.wait()
                group.start_soon(stage.sending("a", "waiting"))
                await others_run()
                gate.open.set()
        assert stage.begun == ["in hand", "deferred", "deferred by that", "waiting"]

    async def test_are_handled_in_the_task_of_the_send_in_hand(self) -> None:
        """C4: The send in hand returns when none is left, and its task has handled them all."""
        stage, tasks, returned = await Stage().set(), list[int](), list[str]()

        async def note() -> None:
            await checkpoint()
            tasks.append(get_current_task().id)
            assert returned == []

        in_a_child = partial(together, stage.sending("a", "inner", do=note))
        await stage.send("a", "outer", do=in_a_child)
        returned.append("outer")
        assert tasks == [get_current_task().id]

    async def test_message_is_copied_when_it_is_deferred(self) -> None:
        """C4, C5: What the sender changes afterwards the deferred handling does not see."""
        stage = await Stage().set()

        async def send_and_change() -> None:
            inner = message("inner")
            await stage.engine.send("a", inner)
            inner["n"] = "changed"

        await stage.send("a", "outer", do=send_and_change)
        assert stage.begun == ["outer", "inner"]

    async def test_bad_message_is_refused_rather_than_deferred(self) -> None:
        """C4, C5: A message that is none is refused where it is sent."""
        stage = await Stage().set()

        async def send_badly() -> None:
            with pytest.raises(ValueError, match="must have a str 'type'"):
                await stage.engine.send("a", {})

        await stage.send("a", "outer", do=send_badly)
        assert stage.begun == stage.ended == ["outer"]
        assert await stage.is_usable()

    async def test_works_without_an_engine(self) -> None:
        """C4: A component on its own defers as well."""
        seen: list[object] = []

        async def act(message: dict[str, Any], component: Component) -> None:
            if message["n"] < 3:
                nested = {"type": "go", "n": message["n"] + 1}
                assert await component.handle_message(nested) is Outcome.DEFERRED
            seen.append(message["n"])

        await Component("a", machine=machine(act)).handle_message(message(0))
        assert seen == [0, 1, 2, 3]

    async def test_chain_does_not_grow_the_stack(self) -> None:
        """C4: 10,000 messages, each deferred by the one before, run at the same depth."""
        depths: set[int] = set()
        count = 0

        async def act(message: dict[str, Any], component: Component) -> None:
            nonlocal count
            count += 1
            depths.add(depth())
            if count < 10_000:
                await engine.send("a", GO)

        engine = Engine()
        await engine.register(Component("a", machine=machine(act)))
        await engine.send("a", GO)
        assert count == 10_000
        assert len(depths) <= 2  # the first is not itself a deferred one

    async def test_chain_starves_nobody(self) -> None:
        """C4, D6: Between deferred messages the bus yields as often as between others."""
        stop, count = False, 0

        async def act(message: dict[str, Any], component: Component) -> None:
            nonlocal count
            count += 1
            if not stop and count < 10_000:
                await engine.send("a", GO)

        async def stop_it() -> None:
            nonlocal stop
            stop = True

        engine = Engine()
        await engine.register(Component("a", machine=machine(act)))
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(stop_it)
                await engine.send("a", GO)
        assert count < 200

    async def test_endless_chain_can_be_cancelled(self) -> None:
        """C4, D6: A component that sends to itself for ever ends when it is cancelled."""

        async def act(message: dict[str, Any], component: Component) -> None:
            await engine.send("a", GO)

        engine = Engine()
        await engine.register(Component("a", machine=machine(act)))
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(engine.send, "a", GO)
                await others_run()
                group.cancel_scope.cancel()

    async def test_yield_comes_before_a_deferred_message_is_taken_up(self) -> None:
        """C4, D6: With yield_every=1, one yield for each message, none inside."""
        stage = await Stage(bus=EventBus(yield_every=1)).set()
        begun: list[int] = []
        await stepping(
            stage.send("a", 0, do=stage.sending("a", 1)), lambda: begun.append(len(stage.begun))
        )
        assert begun == [0, 1]


def depth() -> int:
    """Count the frames of the stack."""
    frame, count = sys._getframe(), 0
    while frame.f_back is not None:
        frame, count = frame.f_back, count + 1
    return count


async def test_context_of_the_sender_is_left_as_it_was() -> None:
    """C4: The mark of a handling is gone when it is over, in the task that sent the message too."""
    stage = await Stage().set()
    before = dict(copy_context())
    await stage.send("a", "outer", do=stage.sending("a", "inner", do=fail_with(Boom())))
    with pytest.raises(Boom):
        await stage.send("a", "failing", do=fail_with(Boom()))
    assert dict(copy_context()) == before


class TestOutsiders:
    """Whoever is not within the handling waits."""

    async def test_another_task_waits(self) -> None:
        """C4: A message of a task that is not within the handling is not deferred."""
        stage, gate = await Stage().set(), Gate()
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(stage.sending("a", "first", do=gate))
                await gate.reached.wait()
                group.start_soon(stage.sending("a", "second"))
                await others_run()
                gate.open.set()
        assert stage.outcomes == [Outcome.TRANSITIONED] * 2

    async def test_task_that_outlives_its_handling_waits(self) -> None:
        """C4: A handling that is over counts no more, in a task that inherited its context."""
        stage, left, gate = await Stage().set(), Event(), Gate()

        async def outlive() -> None:
            await left.wait()
            await stage.send("a", "left behind")

        async def leave_behind() -> None:
            group.start_soon(outlive)
            await others_run()

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                await stage.send("a", "first", do=leave_behind)
                group.start_soon(stage.sending("a", "second", do=gate))
                await gate.reached.wait()
                left.set()
                await others_run()
                assert stage.begun == ["first", "second"]
                gate.open.set()
        assert stage.begun == ["first", "second", "left behind"]
        assert stage.outcomes == [Outcome.TRANSITIONED] * 3

    async def test_task_that_outlives_its_handling_waits_for_the_deferred(self) -> None:
        """C4: Even where the turn goes on with what was deferred, it is an outsider by now."""
        stage, left, gate = await Stage().set(), Event(), Gate()

        async def outlive() -> None:
            await left.wait()
            await stage.send("a", "left behind")

        async def leave_behind() -> None:
            group.start_soon(outlive)
            await stage.send("a", "deferred", do=gate)

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(stage.sending("a", "first", do=leave_behind))
                await gate.reached.wait()
                left.set()
                await others_run()
                gate.open.set()
        assert stage.begun == ["first", "deferred", "left behind"]
        assert stage.outcomes == [Outcome.DEFERRED] + [Outcome.TRANSITIONED] * 2

    async def test_task_that_outlives_one_handling_may_send_within_another(self) -> None:
        """C4: What it handles itself later is within its own handling, not the old one."""
        stage = await Stage().set()
        over = Event()

        async def outlive() -> None:
            await over.wait()
            await stage.send("a", "late", do=stage.sending("a", "nested"))

        async def leave_behind() -> None:
            group.start_soon(outlive)

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                await stage.send("a", "first", do=leave_behind)
                over.set()
        assert stage.begun == ["first", "late", "nested"]
        assert stage.outcomes == [Outcome.TRANSITIONED, Outcome.DEFERRED, Outcome.TRANSITIONED]

    async def test_task_that_outlives_a_registration_waits(self) -> None:
        """C3, C4: What an observer of the registration left behind gets its turn like others."""
        stage, gate = await Stage().set(), Gate()

        async def leave_behind(data: Any) -> None:
            group.start_soon(stage.sending("a", "left behind"))
            await others_run()

        await stage.engine.bus.subscribe(COMPONENT_REGISTERED, "observer", leave_behind)
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(stage.sending("a", "first", do=gate))
                await gate.reached.wait()
                await stage.engine.register(Component("b"))
                gate.open.set()
        assert stage.begun == ["first", "left behind"]

    async def test_wait_of_a_task_that_outlived_its_handling_closes_no_ring(self) -> None:
        """C4: A component whose handling is over waits for nothing that it left behind."""
        stage, hold, gate = await Stage("a", "b").set(), Gate(), Gate()
        outcomes: list[Outcome] = []

        async def leave_behind() -> None:
            group.start_soon(stage.sending("b", "left behind"))
            await others_run()
            await stage.send("a", "deferred", do=gate)

        async def wait_and_send() -> None:
            await hold()
            outcomes.append(await stage.engine.send("a", message("other")))

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(stage.sending("b", "b in hand", do=wait_and_send))
                await hold.reached.wait()
                group.start_soon(stage.sending("a", "a in hand", do=leave_behind))
                await gate.reached.wait()
                hold.open.set()
                await others_run()
                gate.open.set()
        assert outcomes == [Outcome.TRANSITIONED]


class TestRings:
    """Components that wait for each other."""

    async def test_there_and_back(self) -> None:
        """C4: A component that is sent to by one that it sends to defers the message."""
        stage = await Stage("a", "b").set()
        back = stage.sending("a", "back")
        with fail_after(PATIENCE):
            await stage.send("a", "there", do=stage.sending("b", "relay", do=back))
        assert stage.outcomes == [Outcome.DEFERRED] + [Outcome.TRANSITIONED] * 2
        assert stage.ended == ["relay", "there", "back"]

    async def test_there_and_back_through_three(self) -> None:
        """C4: Through a third one, too."""
        stage = await Stage("a", "b", "c").set()

        async def send_to_all() -> None:
            for name in "abc":
                await stage.send(name, f"back to {name}")

        relay = stage.sending("b", "b", do=stage.sending("c", "c", do=send_to_all))
        with fail_after(PATIENCE):
            await stage.send("a", "a", do=relay)
        assert stage.outcomes == [Outcome.DEFERRED] * 3 + [Outcome.TRANSITIONED] * 3
        assert stage.ended == ["c", "back to c", "b", "back to b", "a", "back to a"]

    @pytest.mark.parametrize("size", [2, 3])
    async def test_in_different_tasks(self, size: int) -> None:
        """C4: Where each waits for the next in a task of its own, the last message is deferred."""
        names = "abc"[:size]
        stage = await Stage(*names).set()
        gates = [Gate() for _ in names]

        async def wait_and_send(place: int) -> None:
            await gates[place]()
            await stage.send(names[(place + 1) % size], f"from {names[place]}")

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                for place, name in enumerate(names):
                    group.start_soon(stage.sending(name, name, do=partial(wait_and_send, place)))
                    await gates[place].reached.wait()
                await open_each(*gates)
        assert stage.outcomes.count(Outcome.DEFERRED) == 1
        assert stage.outcomes.count(Outcome.TRANSITIONED) == 2 * size - 1
        assert sorted(map(str, stage.ended)) == sorted(
            [*names, *(f"from {name}" for name in names)]
        )
        assert stage.ended.index(f"from {names[-1]}") == stage.ended.index("a") + 1
        assert await stage.is_usable()

    async def test_through_a_child_task(self) -> None:
        """C4: What a child task of the handling waits for, the handling waits for."""
        stage, hold = await Stage("a", "b").set(), Gate()

        async def wait_and_send() -> None:
            await hold()
            await stage.send("a", "from b")

        def in_a_child() -> Any:
            return by("child task", stage.sending("b", "from a"))

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(stage.sending("b", "b", do=wait_and_send))
                await hold.reached.wait()
                group.start_soon(stage.sending("a", "a", do=in_a_child))
                await others_run()
                await others_run()
                hold.open.set()
        assert stage.outcomes[0] is Outcome.DEFERRED
        assert stage.ended == ["b", "from a", "a", "from b"]

    async def test_while_a_component_is_registered(self) -> None:
        """C1, C4: A ring through an observer of the registration is no deadlock."""
        stage, hold, outcomes = await Stage("b").set(), Gate(), list[Outcome]()
        late = Component("late", machine=machine())

        async def wait_and_send() -> None:
            await hold()
            outcomes.append(await stage.engine.send("late", GO))

        async def observe(data: Any) -> None:
            await stage.send("b", "from observer")

        await stage.engine.bus.subscribe(COMPONENT_REGISTERED, "observer", observe)
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(stage.sending("b", "b", do=wait_and_send))
                await hold.reached.wait()
                group.start_soon(stage.engine.register, late)
                await others_run()
                await others_run()
                hold.open.set()
        assert outcomes == [Outcome.TRANSITIONED]
        assert stage.begun == ["b", "from observer"]

    @pytest.mark.parametrize("dissolves", [False, True])
    async def test_ring_that_closes_as_a_component_is_there(self, *, dissolves: bool) -> None:
        """C1, C4: Who waited for a component is looked at again when it is there, and once more.

        A ring that is gone by the time that its closing is noticed leaves no message lying about.
        """
        engine, gate, made, asking = Engine(), Gate(), Gate(), Event()
        scope, handled = CancelScope(), list[object]()

        async def act_a(message: dict[str, Any], component: Component) -> None:
            handled.append(message["n"])
            if message["n"] == "first":
                await gate()
                with scope:
                    await engine.send("b", message | {"n": "from a"})

        async def act_b(message: dict[str, Any], component: Component) -> None:
            handled.append(message["n"])
            if message["n"] == "second":
                asking.set()
                await engine.send("a", message | {"n": "from b"})

        async def observe(data: Any) -> None:
            await made()
            if dissolves:
                scope.cancel()

        component = Component("a", machine=machine(act_a))
        await engine.register(Component("b", machine=machine(act_b)))
        await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", observe)
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                for start, reached in (
                    (partial(component.handle_message, message("first")), gate.reached),
                    (partial(engine.register, component), made.reached),
                    (partial(engine.send, "b", message("second")), asking),
                ):
                    group.start_soon(start)
                    await reached.wait()
                await open_each(gate, made)
        from_a = [] if dissolves else ["from a"]
        assert handled == ["first", "second", *from_a, "from b"]
        assert not component._flexiflow_actor.mailbox.deferred


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


async def test_many_senders_and_deferred_messages_keep_their_order() -> None:
    """C3, C4: Each sender's message is followed by what it deferred, and by nothing else."""
    stage = await Stage(bus=EventBus(yield_every=1)).set()

    async def send_two(n: int) -> None:
        await stage.send("a", (n, 1))
        await checkpoint()
        await stage.send("a", (n, 2))

    await together(*(stage.sending("a", (n, 0), do=partial(send_two, n)) for n in range(10)))
    assert stage.begun == [(n, step) for n in range(10) for step in range(3)]


async def test_a_stack_that_ends_keeps_no_turn() -> None:
    """C3: where a chain of sends ends in RecursionError, each component goes on afterwards."""

    async def pass_on(message: dict[str, Any], component: Component) -> None:
        await engine.send(f"c{int(component.name[1:]) + 1}", {"type": "go"})

    async def from_deeper(depth: int) -> None:
        await (from_deeper(depth - 1) if depth else engine.send("c0", {"type": "go"}))

    table = StateMachine("s", [Transition("s", "go", "s", action=pass_on)])
    for depth in range(12):
        engine = Engine()
        for number in range(500):
            await engine.register(Component(f"c{number}", machine=table))
        with pytest.raises((RecursionError, UnknownComponent)):
            await from_deeper(depth)
        with fail_after(PATIENCE):
            for name in engine.components:
                assert await engine.send(name, {"type": "nothing"}) is Outcome.IGNORED
