"""Components: one message from its sending to the last observer (C5 to C10)."""

import types
from collections import ChainMap, UserDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import pytest
from anyio import Event, create_task_group, fail_after, from_thread, to_thread
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint

from flexiflow import (
    Component,
    Engine,
    EventBus,
    HandlerCancelled,
    Outcome,
    StateMachine,
    Transition,
    TransitionRefused,
)
from flexiflow._bus import DeliveryMode
from flexiflow.events import HANDLER_FAILED, MESSAGE_RECEIVED, STATE_CHANGED
from tests.accounting import Boom, Fatal, leaves
from tests.attacks import kept_cancellation
from tests.helpers import PATIENCE
from tests.hosting import GO, Diary, Gate, Victim, others_run, switch

ROLES = pytest.mark.parametrize("role", ["guard", "action"])


async def hosted(machine: StateMachine | None, bus: EventBus | None = None) -> tuple[Engine, Diary]:
    """Give an engine with the component "a", and the diary of what happens from now on."""
    engine = Engine(bus=bus)
    await engine.register(Component("a", machine=machine))
    return engine, await Diary().keep(engine.bus)


class TestConstruction:
    """What a component is made of."""

    def test_begins_in_the_initial_state_of_its_machine(self) -> None:
        """C9: Name, machine and state can be read, and the state is the component's own."""
        machine = switch()
        one, two = Component("one", machine=machine), Component("two", machine=machine)
        assert (one.name, one.machine, one.state) == ("one", machine, "off")
        assert two.machine is one.machine

    def test_needs_no_machine(self) -> None:
        """C9: Without a machine there is no state."""
        component = Component("a")
        assert (component.machine, component.state) == (None, None)

    @pytest.mark.parametrize("attribute", ["name", "machine", "state"])
    def test_cannot_be_changed(self, attribute: str) -> None:
        """C9: Name, machine and state are read-only, and there are no other attributes."""
        component = Component("a", machine=switch())
        with pytest.raises(AttributeError):
            setattr(component, attribute, "other")
        with pytest.raises(AttributeError):
            component.other = 1  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]

    def test_shows_its_name_and_state(self) -> None:
        """C9: Messages and logs can name it."""

        class Order(Component):
            pass

        assert repr(Order("o-7", machine=switch())) == "<Order 'o-7' in state 'off'>"
        assert repr(Component("o-7")) == "<Component 'o-7'>"

    def test_refuses_an_empty_name(self) -> None:
        """C1: The name is what it is registered under."""
        with pytest.raises(ValueError, match="name must not be empty"):
            Component("")

    @pytest.mark.parametrize("name", [None, 7, b"a"])
    def test_refuses_a_name_that_is_no_str(self, name: Any) -> None:
        """C1: The name is a str."""
        with pytest.raises(TypeError, match="name must be a str, not"):
            Component(name)

    def test_refuses_a_machine_that_is_none(self) -> None:
        """C9: A table that was not made into a machine is told at once."""
        with pytest.raises(TypeError, match=r"machine must be a StateMachine or None, not \['a'\]"):
            Component("a", machine=cast("Any", ["a"]))


class TestWithoutEngine:
    """A component on its own."""

    async def test_handles_messages(self) -> None:
        """C5: An engine is not needed for transitions."""
        component = Component("a", machine=switch())
        assert await component.handle_message(GO) is Outcome.TRANSITIONED
        assert component.state == "on"

    async def test_ignores_everything_without_a_machine(self) -> None:
        """C8: Without a machine every message is ignored."""
        assert await Component("a").handle_message(GO) is Outcome.IGNORED

    async def test_ignores_what_matches_no_transition(self) -> None:
        """C8: A machine ignores what it has no transition for."""
        component = Component("a", machine=switch())
        assert await component.handle_message({"type": "stop"}) is Outcome.IGNORED
        assert component.state == "off"

    async def test_handles_a_message_when_registered_meanwhile(self) -> None:
        """C6: A message that waited while its component was registered is told of as any other."""
        gate = Gate()
        component = Component("a", machine=switch(action=gate))
        engine, diary = Engine(), Diary()
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(component.handle_message, GO)
                await gate.reached.wait()
                group.start_soon(component.handle_message, GO)
                await others_run()
                await engine.register(component)
                await diary.keep(engine.bus)
                group.start_soon(engine.send, "a", GO)
                await others_run()
                gate.open.set()
        assert diary.changes("a") == [("on", "off"), ("off", "on")]

    async def test_engine_passes_messages_handled_directly_on_to_its_bus(self) -> None:
        """C5: With an engine, a message handled directly is told of like one sent."""
        engine, diary = await hosted(switch())
        await engine.components["a"].handle_message(GO)
        assert diary.lines == ["a go", "a off on"]


class TestMessage:
    """What a message is."""

    @pytest.mark.parametrize("message", [None, "go", 7, ["type"], [("type", "go")]], ids=repr)
    async def test_must_be_a_mapping(self, message: Any) -> None:
        """C5: No mapping is a TypeError, and nothing is published; the component goes on."""
        engine, diary = await hosted(switch())
        for send in (partial(engine.send, "a"), engine.components["a"].handle_message):
            with pytest.raises(TypeError, match="a message must be a mapping with a str 'type'"):
                await send(message)
        assert diary.lines == []
        await is_usable(engine)

    @pytest.mark.parametrize("message", [{}, {"type": None}, {"type": 7}, {"kind": "go"}], ids=repr)
    async def test_must_have_a_str_type(self, message: Any) -> None:
        """C5: No str type is a ValueError, and nothing is published; the component goes on."""
        engine, diary = await hosted(switch())
        for send in (partial(engine.send, "a"), engine.components["a"].handle_message):
            with pytest.raises(ValueError, match=r"must have a str 'type', like \{'type': 'confir"):
                await send(message)
        assert diary.lines == []
        await is_usable(engine)

    async def test_refusal_shows_little_of_a_long_message(self) -> None:
        """C5: A message of any size is refused in one short sentence."""
        with pytest.raises(ValueError, match="given") as caught:
            await Component("a").handle_message({"data": "x" * 10_000})
        assert len(str(caught.value)) < 200

    @pytest.mark.parametrize(
        "message",
        [types.MappingProxyType(GO), UserDict(GO), ChainMap({"type": "go"}, {"type": "stop"})],
        ids=lambda message: type(message).__name__,
    )
    async def test_may_be_any_mapping(self, message: Mapping[str, Any]) -> None:
        """C5: A message is a mapping, and guards and actions get a dict."""
        seen: list[Any] = []
        machine = switch(action=lambda message, component: seen.append(message))
        await Component("a", machine=machine).handle_message(message)
        assert seen == [GO]
        assert type(seen[0]) is dict

    async def test_is_copied_when_it_is_sent(self) -> None:
        """C5: What the sender changes afterwards is not seen, though the message still waits."""
        gate, seen = Gate(), list[Any]()

        async def note(message: dict[str, Any], component: Component) -> None:
            await gate()
            seen.append(message)

        engine, _ = await hosted(switch(action=note))
        first, second = {"type": "go", "n": 1}, {"type": "go", "n": 2}
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(engine.send, "a", first)
                await gate.reached.wait()
                group.start_soon(engine.send, "a", second)
                await others_run()
                for message in (first, second):
                    message |= {"type": "stop", "n": 0}
                gate.open.set()
        assert seen == [{"type": "go", "n": 1}, {"type": "go", "n": 2}]

    async def test_is_not_changed_by_who_handles_it(self) -> None:
        """C5: What guard and action change the sender does not see."""

        def change(message: dict[str, Any], component: Component) -> bool:
            message.clear()
            return True

        message = {"type": "go"}
        await Component("a", machine=switch(guard=change)).handle_message(message)
        assert message == GO

    async def test_is_one_for_guard_and_action(self) -> None:
        """C5: What the guard notes on the message the action reads."""
        seen: list[Any] = []

        def guard(message: dict[str, Any], component: Component) -> bool:
            message["noted"] = component.name
            return True

        machine = switch(guard, lambda message, component: seen.append(message["noted"]))
        await Component("a", machine=machine).handle_message(GO)
        assert seen == ["a"]

    async def test_copy_is_one_level_deep(self) -> None:
        """C5, C10: Nested values are shared with the sender and the observers."""
        seen: list[Any] = []
        engine, _ = await hosted(switch(action=lambda message, _: seen.append(message["items"])))

        def observe(data: Any) -> None:
            data["message"]["items"].append("observed")

        await engine.bus.subscribe(MESSAGE_RECEIVED, "observer", observe)
        items = ["sent"]
        await engine.send("a", {"type": "go", "items": items})
        assert seen[0] is items
        assert items == ["sent", "observed"]

    async def test_observers_have_a_copy_of_their_own(self) -> None:
        """C10: What an observer changes in the message, guard and action do not see."""
        seen: list[Any] = []

        def note(message: dict[str, Any], component: Component) -> bool:
            seen.append(dict(message))
            return True

        def meddle(data: Any) -> None:
            data["message"]["type"] = "stop"
            data["message"]["more"] = True

        engine, _ = await hosted(switch(note, note))
        await engine.bus.subscribe(MESSAGE_RECEIVED, "observer", meddle)
        assert await engine.send("a", GO) is Outcome.TRANSITIONED
        assert seen == [GO, GO]

    async def test_observers_may_keep_their_copy(self) -> None:
        """C10: What the action changes later, an observer that kept the message does not see."""
        kept: list[Any] = []
        engine, _ = await hosted(switch(action=lambda message, _: message.clear()))
        await engine.bus.subscribe(MESSAGE_RECEIVED, "observer", kept.append)
        await engine.send("a", GO)
        assert kept == [{"component": "a", "message": GO}]


async def is_usable(engine: Engine, name: str = "a") -> None:
    """Check that a component still takes messages."""
    with fail_after(PATIENCE):
        assert await engine.send(name, GO) is Outcome.TRANSITIONED


class TestOrder:
    """The steps of one message."""

    @pytest.mark.parametrize("asynchronous", [False, True])
    async def test_received_guard_action_commit_changed(self, *, asynchronous: bool) -> None:
        """C5: The order of one message, with sync and async functions and observers."""
        steps: list[str] = []

        def step(name: str, component: Component) -> Any:
            async def later() -> bool:
                await checkpoint()
                steps.append(f"{name}, {component.state}")
                return True

            if asynchronous:
                return later()
            steps.append(f"{name}, {component.state}")
            return True

        def guard(message: dict[str, Any], component: Component) -> Any:
            return step("guard", component)

        def act(message: dict[str, Any], component: Component) -> Any:
            return step("act", component)

        engine, _ = await hosted(switch(guard, act))
        component = engine.components["a"]
        bus = engine.bus
        await bus.subscribe(MESSAGE_RECEIVED, "observer", lambda _: step("received", component))
        await bus.subscribe(STATE_CHANGED, "observer", lambda _: step("changed", component))
        assert await engine.send("a", GO) is Outcome.TRANSITIONED
        steps.append(f"sent, {component.state}")
        assert steps == [
            "received, off",
            "guard, off",
            "act, off",
            "changed, on",
            "sent, on",
        ]

    async def test_payloads_are_as_documented(self) -> None:
        """C5: What the two events of a message carry."""
        engine, _ = await hosted(switch())
        seen: list[Any] = []
        for event in (MESSAGE_RECEIVED, STATE_CHANGED):
            await engine.bus.subscribe(event, "observer", seen.append)
        await engine.send("a", {"type": "go", "n": 7})
        assert seen == [
            {"component": "a", "message": {"type": "go", "n": 7}},
            {"component": "a", "from_state": "off", "to_state": "on"},
        ]

    async def test_guard_and_action_are_given_message_and_component(self) -> None:
        """C5: Guard and action take the message and the component itself."""
        given: list[Any] = []

        def note(*arguments: object) -> bool:
            given.append(arguments)
            return True

        component = Component("a", machine=switch(note, note))
        await component.handle_message(GO)
        assert given == [(GO, component), (GO, component)]

    async def test_first_transition_whose_guard_matches_is_taken(self) -> None:
        """C5: The table is gone through in order, and no further than needed."""
        asked: list[str] = []

        def guard(name: str, answer: object) -> Callable[..., object]:
            def ask(message: dict[str, Any], component: Component) -> object:
                asked.append(name)
                return answer

            return ask

        rows = [
            Transition("off", "stop", "wrong trigger", guard=guard("trigger", True)),
            Transition("wrong trigger", "go", "wrong source", guard=guard("source", True)),
            Transition("off", "go", "no", guard=guard("false", False)),
            Transition("off", "go", "no", guard=guard("empty", "")),
            Transition("off", "go", "no", guard=guard("none", None)),
            Transition("off", "go", "yes", guard=guard("true", ["true enough"])),
            Transition("off", "go", "no"),
            Transition("*", "go", "no", guard=guard("after", True)),
        ]
        component = Component("a", machine=StateMachine("off", rows))
        assert await component.handle_message(GO) is Outcome.TRANSITIONED
        assert component.state == "yes"
        assert asked == ["false", "empty", "none", "true"]

    async def test_async_guard_can_refuse(self) -> None:
        """C5: An async guard is awaited, and what it gives decides."""

        async def refuse(message: dict[str, Any], component: Component) -> bool:
            return False

        component = Component("a", machine=switch(guard=refuse))
        assert await component.handle_message(GO) is Outcome.IGNORED
        assert component.state == "off"

    async def test_ignored_message_is_received_and_nothing_more(self) -> None:
        """C8: What no transition matches is told as received, and changes nothing."""
        engine, diary = await hosted(switch())
        assert await engine.send("a", {"type": "stop"}) is Outcome.IGNORED
        assert diary.lines == ["a stop"]

    async def test_without_a_machine_a_message_is_received_and_ignored(self) -> None:
        """C8: A component without a machine still tells of its messages."""
        engine, diary = await hosted(None)
        assert await engine.send("a", GO) is Outcome.IGNORED
        assert diary.lines == ["a go"]

    async def test_strict_machine_refuses(self) -> None:
        """C8: The refusal names the state, the trigger, and the triggers that it would take."""
        rows = [Transition("off", "go", "on"), Transition("off", "note", None)]
        engine, diary = await hosted(StateMachine("off", rows, strict=True))
        with pytest.raises(TransitionRefused) as caught:
            await engine.send("a", {"type": "stop"})
        refusal = caught.value
        assert (refusal.component, refusal.state, refusal.trigger) == ("a", "off", "stop")
        assert refusal.accepted == ("go", "note")
        assert str(refusal) == (
            "component 'a' in state 'off' refuses 'stop'; it would take: 'go', 'note'"
        )
        assert diary.lines == ["a stop"]
        await is_usable(engine)

    async def test_strict_machine_refuses_what_no_guard_lets_through(self) -> None:
        """C8: A transition whose guard says no does not match."""
        row = Transition("off", "go", "on", guard=lambda message, component: False)
        component = Component("a", machine=StateMachine("off", [row], strict=True))
        with pytest.raises(TransitionRefused):
            await component.handle_message(GO)
        assert component.state == "off"

    async def test_internal_transition_runs_its_action_and_changes_nothing(self) -> None:
        """C7: No target: the action runs, no state.changed, TRANSITIONED."""
        gate = Gate()
        gate.open.set()
        engine, diary = await hosted(
            StateMachine("off", [Transition("off", "go", None, None, gate)])
        )
        assert await engine.send("a", GO) is Outcome.TRANSITIONED
        assert gate.passed
        assert diary.lines == ["a go"]
        assert engine.components["a"].state == "off"

    async def test_transition_to_the_same_state_is_like_any_other(self) -> None:
        """C7: Source equal to target is told as a transition."""
        engine, diary = await hosted(StateMachine("off", [Transition("off", "go", "off")]))
        assert await engine.send("a", GO) is Outcome.TRANSITIONED
        assert diary.changes("a") == [("off", "off")]

    async def test_components_with_one_machine_have_states_of_their_own(self) -> None:
        """C9: The table is shared, the current state is not."""
        machine = switch()
        one, two = Component("one", machine=machine), Component("two", machine=machine)
        await one.handle_message(GO)
        assert (one.state, two.state) == ("on", "off")


class TestAllOrNothing:
    """Failures and cancellations in the middle of a message."""

    @ROLES
    @pytest.mark.parametrize("asynchronous", [False, True])
    async def test_exception_leaves_the_state_and_reaches_the_sender(
        self, role: str, *, asynchronous: bool
    ) -> None:
        """C6: A guard or action that raises: the state as it was, no state.changed, raised."""
        boom = Boom()

        async def fail_later(message: dict[str, Any], component: Component) -> None:
            await checkpoint()
            raise boom

        def fail(message: dict[str, Any], component: Component) -> None:
            raise boom

        failing = fail_later if asynchronous else fail
        engine, diary = await hosted(switch(**{role: failing}))
        with pytest.raises(Boom) as caught:
            await engine.send("a", GO)
        assert caught.value is boom
        assert diary.lines == ["a go"]
        assert engine.components["a"].state == "off"

    @ROLES
    async def test_component_goes_on_after_a_failure(self, role: str) -> None:
        """C6: The next message finds the component as if the one that failed had not been sent."""
        failures = [Boom()]

        def fail_once(message: dict[str, Any], component: Component) -> bool:
            if failures:
                raise failures.pop()
            return True

        engine, diary = await hosted(switch(**{role: fail_once}))
        with pytest.raises(Boom):
            await engine.send("a", GO)
        await is_usable(engine)
        assert diary.changes("a") == [("off", "on")]

    @ROLES
    async def test_exception_is_not_reported_as_well(
        self, role: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C6, E4: What is raised to the sender is neither logged nor published."""

        def fail(message: dict[str, Any], component: Component) -> None:
            raise Boom

        engine, diary = await hosted(switch(**{role: fail}))
        with pytest.raises(Boom):
            await engine.send("a", GO)
        assert diary.failures == []
        assert [record for record in caplog.records if record.name == "flexiflow"] == []

    @ROLES
    async def test_fatal_exception_leaves_bare(self, role: str) -> None:
        """C6, E5: KeyboardInterrupt and the like reach the sender as they are."""

        def interrupt(message: dict[str, Any], component: Component) -> None:
            if component.state == "off":
                raise KeyboardInterrupt

        engine, diary = await hosted(switch(**{role: interrupt}))
        with pytest.raises(KeyboardInterrupt):
            await engine.send("a", GO)
        assert engine.components["a"].state == "off"
        assert diary.lines == ["a go"]
        with pytest.raises(KeyboardInterrupt):
            await engine.send("a", GO)

    @ROLES
    async def test_cancellation_leaves_the_state(
        self, role: str, anyio_backend: tuple[str, dict[str, Any]]
    ) -> None:
        """C6: A guard or action that is cancelled: the state as it was, and no state.changed."""
        for style in ["scope", "native"] if anyio_backend[0] == "asyncio" else ["scope"]:
            gate, victim = Gate(result=True), Victim(style)
            engine, diary = await hosted(switch(**{role: gate}))
            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    group.start_soon(victim.run, partial(engine.send, "a", GO))
                    await gate.reached.wait()
                    victim.cancel()
            assert victim.was_cancelled
            assert diary.lines == ["a go"]
            assert engine.components["a"].state == "off"
            gate.open.set()
            await is_usable(engine)

    async def test_transition_that_was_committed_stands(
        self, anyio_backend: tuple[str, dict[str, Any]]
    ) -> None:
        """C6: Cancelled after the commit, the transition stands; later observers don't see it."""
        for style in ["scope", "native"] if anyio_backend[0] == "asyncio" else ["scope"]:
            gate, victim, late = Gate(), Victim(style), Gate()
            engine, diary = await hosted(switch())
            await engine.bus.subscribe(STATE_CHANGED, "observer", gate)
            await engine.bus.subscribe(STATE_CHANGED, "late", late)
            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    group.start_soon(victim.run, partial(engine.send, "a", GO))
                    await gate.reached.wait()
                    victim.cancel()
            assert victim.was_cancelled
            assert diary.changes("a") == [("off", "on")]
            assert engine.components["a"].state == "on"
            assert not late.reached.is_set()

    async def test_cancellation_in_an_observer_of_received_stops_the_message(self) -> None:
        """C6: Cancelled before the guard is asked, nothing has changed."""
        gate, guard, victim = Gate(), Gate(), Victim("scope")
        engine, diary = await hosted(switch(guard=guard))
        await engine.bus.subscribe(MESSAGE_RECEIVED, "observer", gate)
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(victim.run, partial(engine.send, "a", GO))
                await gate.reached.wait()
                victim.cancel()
        assert not guard.reached.is_set()
        assert diary.lines == ["a go"]

    @ROLES
    async def test_stray_cancellation_is_a_failure(self, role: str) -> None:
        """C6, E6: A cancellation that belongs to nobody is HandlerCancelled, named and caused."""
        stray = await kept_cancellation()

        async def raise_stray(message: dict[str, Any], component: Component) -> None:
            await checkpoint()
            raise stray

        engine, diary = await hosted(switch(**{role: raise_stray}))
        with pytest.raises(HandlerCancelled) as caught:
            await engine.send("a", GO)
        assert caught.value.__cause__ is stray
        assert "raise_stray" in caught.value.culprit
        assert diary.lines == ["a go"]
        assert engine.components["a"].state == "off"

    @ROLES
    async def test_group_with_a_stray_cancellation_is_the_rest(self, role: str) -> None:
        """C6, E8: Of a group that holds a stray cancellation the failures are raised."""
        stray, boom = await kept_cancellation(), Boom()

        def raise_group(message: dict[str, Any], component: Component) -> None:
            raise BaseExceptionGroup("both", [stray, boom])

        component = Component("a", machine=switch(**{role: raise_group}))
        with pytest.RaisesGroup(Boom) as caught:
            await component.handle_message(GO)
        assert isinstance(caught.value, ExceptionGroup)
        assert caught.value.exceptions == (boom,)
        assert component.state == "off"

    @ROLES
    async def test_group_of_failures_is_kept_whole(self, role: str) -> None:
        """C6, E8: An exception group is the guard's or action's exception."""
        group = ExceptionGroup("both", [Boom(), ValueError()])

        def raise_group(message: dict[str, Any], component: Component) -> None:
            raise group

        with pytest.RaisesGroup(Boom, ValueError) as caught:
            await Component("a", machine=switch(**{role: raise_group})).handle_message(GO)
        assert caught.value is group

    @ROLES
    async def test_group_that_holds_something_fatal_leaves_as_it_is(self, role: str) -> None:
        """C6, E8: A group that is no Exception, and holds no cancellation, is not touched."""
        group = BaseExceptionGroup("both", [Boom(), Fatal()])

        def raise_group(message: dict[str, Any], component: Component) -> None:
            raise group

        with pytest.RaisesGroup(Boom, Fatal) as caught:
            await Component("a", machine=switch(**{role: raise_group})).handle_message(GO)
        assert caught.value is group

    async def test_failure_in_cleanup_leaves_as_a_plain_await_would(self) -> None:
        """C6, E5: An action that fails while it is being cancelled raises that failure."""
        boom, reached, victim = Boom(), Event(), Victim("scope")

        async def fail_in_cleanup(message: dict[str, Any], component: Component) -> None:
            reached.set()
            try:
                await Event().wait()
            finally:
                raise boom

        engine, diary = await hosted(switch(action=fail_in_cleanup))
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(victim.run, partial(engine.send, "a", GO))
                await reached.wait()
                victim.cancel()
        assert victim.error is boom
        assert diary.lines == ["a go"]

    async def test_group_with_its_own_cancellation_is_the_rest(self) -> None:
        """C6, E8: Of a task group that fails while it is cancelled, the failures are raised."""
        boom, reached, victim = Boom(), Event(), Victim("scope")

        async def fail_in_cleanup() -> None:
            reached.set()
            try:
                await Event().wait()
            finally:
                raise boom

        async def act(message: dict[str, Any], component: Component) -> None:
            async with create_task_group() as group:
                group.start_soon(fail_in_cleanup)
                await Event().wait()

        engine, diary = await hosted(switch(action=act))
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(victim.run, partial(engine.send, "a", GO))
                await reached.wait()
                victim.cancel()
        assert victim.error is not None
        assert list(leaves(victim.error)) == [boom]
        assert victim.error is not boom
        assert diary.lines == ["a go"]

    async def test_action_that_shields_itself_ends(self) -> None:
        """C6: An action that was not disturbed by a cancellation is committed."""
        victim = Victim("scope")

        async def shielded(message: dict[str, Any], component: Component) -> None:
            victim.cancel()
            await cancel_shielded_checkpoint()

        engine, diary = await hosted(switch(action=shielded))
        await victim.run(partial(engine.send, "a", GO))
        assert not victim.was_cancelled
        assert diary.changes("a") == [("off", "on")]

    async def test_observer_that_fails_changes_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C6, E1: A failing observer is reported; the transition and its sender don't notice."""

        def fail(data: Any) -> None:
            raise Boom

        engine, diary = await hosted(switch(), EventBus(on_error="raise"))
        for event in (MESSAGE_RECEIVED, STATE_CHANGED):
            await engine.bus.subscribe(event, "observer", fail)
        assert await engine.send("a", GO) is Outcome.TRANSITIONED
        assert diary.lines == [
            "a go",
            f"observer failed on {MESSAGE_RECEIVED}",
            "a off on",
            f"observer failed on {STATE_CHANGED}",
        ]
        assert len(caplog.records) == 2


def taking(answer: bool) -> Callable[[str, Any], bool]:
    """Make a filter."""
    return lambda name, data: answer


class TestCommit:
    """Nothing comes between a commit and its first observer."""

    @pytest.mark.parametrize("delivery", ["sequential", "concurrent", "tiered"])
    @pytest.mark.parametrize("filtered", [False, True])
    async def test_no_other_task_runs_before_the_first_observer(
        self, delivery: DeliveryMode, *, filtered: bool
    ) -> None:
        """C6: A task that is ready does not run between the commit and the first observer."""
        turns = 0
        at_commit: list[int] = []
        at_observer: list[int] = []
        done = False

        async def spin() -> None:
            nonlocal turns
            while not done:
                turns += 1
                await checkpoint()

        async def act(message: dict[str, Any], component: Component) -> None:
            await checkpoint()
            at_commit.append(turns)

        engine = Engine(bus=EventBus(delivery=delivery, yield_every=1))
        await engine.register(Component("a", machine=switch(action=act)))

        def accept(event: str, data: Any) -> bool:
            return True

        await engine.bus.subscribe(
            STATE_CHANGED,
            "observer",
            lambda data: at_observer.append(turns),
            filter=accept if filtered else None,
        )
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(spin)
                for _ in range(20):
                    await engine.send("a", GO)
                done = True
        assert at_commit == at_observer
        assert len(set(at_commit)) == 20

    async def test_observers_are_called_one_after_another(self) -> None:
        """C5: The built-in events are delivered sequentially on a bus of any delivery."""
        steps: list[str] = []

        def observer(name: str) -> Callable[[Any], Any]:
            async def observe(data: Any) -> None:
                steps.append(f"{name} begins")
                await checkpoint()
                steps.append(f"{name} ends")

            return observe

        engine, _ = await hosted(switch(), EventBus(delivery="concurrent"))
        for name in ("one", "two"):
            await engine.bus.subscribe(STATE_CHANGED, name, observer(name))
        await engine.send("a", GO)
        assert steps == ["one begins", "one ends", "two begins", "two ends"]


@pytest.mark.parametrize("delivery", ["sequential", "concurrent", "tiered"])
@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("as_function", [False, True])
class TestObservers:
    """Observers of every kind, on buses of every kind, whose policy would be to raise."""

    @staticmethod
    async def hear(delivery: DeliveryMode, *observers: Any, filter: Any = None) -> list[Any]:
        """Send a message, with these observers of its transition; return what is reported."""
        reported: list[Any] = []
        engine = Engine(bus=EventBus(delivery=delivery, on_error="raise"))
        await engine.register(Component("a", machine=switch()))
        for observer in observers:
            await engine.bus.subscribe(STATE_CHANGED, "observer", observer, filter=filter)
        await engine.bus.subscribe(HANDLER_FAILED, "observer", reported.append)
        assert await engine.send("a", GO) is Outcome.TRANSITIONED
        return reported

    @staticmethod
    def made(observe: Callable[[Any], None], *, as_function: bool) -> Callable[[Any], Any]:
        """Make an observer, sync or async."""

        async def observe_later(data: Any) -> None:
            await checkpoint()
            observe(data)

        return observe if as_function else observe_later

    async def test_one_that_fails_stops_no_other(
        self, delivery: DeliveryMode, *, filtered: bool, as_function: bool
    ) -> None:
        """C5, E1: built-in events are published under `continue`."""
        seen, boom = list[Any](), Boom()

        def fail(data: Any) -> None:
            raise boom

        observers = [self.made(each, as_function=as_function) for each in (fail, seen.append)]
        accept = taking(True) if filtered else None
        reported = await self.hear(delivery, *observers, *observers, filter=accept)
        assert [each["to_state"] for each in seen] == ["on", "on"]
        assert [tuple(each.values()) for each in reported] == [
            (STATE_CHANGED, "observer", boom)
        ] * 2

    async def test_one_that_is_unsubscribed_or_refused_does_not_start(
        self, delivery: DeliveryMode, *, filtered: bool, as_function: bool
    ) -> None:
        """B5, B8: it holds for built-in events as for others."""
        engine, seen = Engine(bus=EventBus(delivery=delivery)), list[Any]()
        await engine.register(Component("a", machine=switch()))

        def unsubscribe(data: Any) -> None:
            engine.bus.unsubscribe(second)

        observe = self.made(unsubscribe, as_function=as_function)
        await engine.bus.subscribe(STATE_CHANGED, "first", observe)
        observe = self.made(seen.append, as_function=as_function)
        refuse = taking(False) if filtered else None
        second = await engine.bus.subscribe(STATE_CHANGED, "second", observe, filter=refuse)
        third = await engine.bus.subscribe(STATE_CHANGED, "third", observe, filter=refuse)
        await engine.send("a", GO)
        assert (len(seen), second.active, third.active) == (int(not filtered), False, True)


async def test_messages_may_come_from_another_thread() -> None:
    """B1: Other threads go through anyio.from_thread."""
    engine, diary = await hosted(switch())
    outcome = await to_thread.run_sync(lambda: from_thread.run(engine.send, "a", GO))
    assert outcome is Outcome.TRANSITIONED
    assert diary.changes("a") == [("off", "on")]


async def test_a_subclass_must_call_the_init_of_component() -> None:
    """C1: a component that was never made is refused, and told how to be."""

    class Half(Component):
        def __init__(self) -> None:
            pass

    engine = Engine()
    with pytest.raises(TypeError, match=r"Half\.__init__ must call super\(\)\.__init__\(name\)"):
        await engine.register(Half())
    assert not engine.components


async def test_a_strict_machine_tells_that_guards_refused() -> None:
    """C8: where the state has the trigger, it says that no guard let the message through."""
    table = StateMachine(
        "a", [Transition("a", "go", "b", guard=lambda message, component: False)], strict=True
    )
    with pytest.raises(TransitionRefused, match="refuses 'go', since no guard lets it through; "):
        await Component("c", machine=table).handle_message({"type": "go"})
