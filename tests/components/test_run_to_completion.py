"""Messages that a component is sent from within its own handling (C4)."""

import sys
from contextvars import copy_context
from functools import partial
from typing import Any

import pytest
from anyio import CancelScope, Event, create_task_group, fail_after, get_current_task
from anyio.lowlevel import checkpoint

from flexiflow import (
    Component,
    Engine,
    EventBus,
    Outcome,
    StateMachine,
    Transition,
    UnknownComponent,
)
from flexiflow.events import COMPONENT_REGISTERED, HANDLER_FAILED, MESSAGE_RECEIVED, STATE_CHANGED
from tests.accounting import Boom
from tests.components.stage import Stage, by, fail_with, machine, message
from tests.helpers import PATIENCE
from tests.hosting import GO, Diary, Gate, open_each, others_run, stepping, switch, together

WAYS = ("directly", "component", "child task", "thread", "publish", "concurrently")


class TestDeferred:
    """One component sends to itself."""

    @pytest.mark.parametrize("way", WAYS)
    async def test_is_handled_right_after_the_message_in_hand(self, way: str) -> None:
        """C4: Sent from within the handling, in any way, a message waits for its end."""
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

    @pytest.mark.unmeasured
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
    """A sender that is not within the handling waits."""

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
        """C1, C4: A sender that waited for a component is looked at again when it is there.

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


async def test_many_senders_and_deferred_messages_keep_their_order() -> None:
    """C3, C4: Each sender's message is followed by what it deferred, and by nothing else."""
    stage = await Stage(bus=EventBus(yield_every=1)).set()

    async def send_two(n: int) -> None:
        await stage.send("a", (n, 1))
        await checkpoint()
        await stage.send("a", (n, 2))

    await together(*(stage.sending("a", (n, 0), do=partial(send_two, n)) for n in range(10)))
    assert stage.begun == [(n, step) for n in range(10) for step in range(3)]


@pytest.mark.unmeasured
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
