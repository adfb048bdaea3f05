"""The engine: registering, unregistering, sending, making what is asked for (C1 to C3)."""

import gc
import weakref
from functools import partial
from typing import Any, cast

import pytest
from anyio import create_task_group, fail_after, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from flexiflow import (
    Component,
    ComponentError,
    DuplicateComponent,
    Engine,
    EventBus,
    Outcome,
    UnknownComponent,
)
from flexiflow.events import COMPONENT_REGISTERED, MESSAGE_RECEIVED, STATE_CHANGED
from tests.accounting import Boom, Fatal
from tests.conftest import Backend
from tests.helpers import PATIENCE, run_at_once
from tests.hosting import (
    GO,
    Diary,
    Gate,
    Lamp,
    Maker,
    Victim,
    is_idle,
    note_after_a_checkpoint,
    others_run,
    owners,
    sender,
    stepping,
    styles,
    switch,
    together,
)


async def checkpoint_in_action(message: dict[str, Any], component: Component) -> None:
    """Let others run."""
    await checkpoint()


class TestEngine:
    """What an engine is made of."""

    def test_has_a_bus_of_its_own_unless_given_one(self) -> None:
        """C1: A bus is made where none is given."""
        bus = EventBus()
        assert Engine(bus=bus).bus is bus
        assert isinstance(Engine().bus, EventBus)
        assert Engine().bus is not Engine().bus

    def test_refuses_what_is_no_bus(self) -> None:
        """C1: Something else for a bus is refused at once."""
        with pytest.raises(TypeError, match="bus must be an EventBus or None, not 7"):
            Engine(bus=cast("Any", 7))

    @pytest.mark.parametrize("factory", [7, others_run, Diary.is_chained], ids=range(3))
    def test_refuses_what_is_no_factory(self, factory: Any) -> None:
        """C2: A factory is called with a name."""
        with pytest.raises(TypeError, match="component_factory"):
            Engine(component_factory=factory)

    async def test_components_cannot_be_changed(self) -> None:
        """C1: The bus and the mapping of components are read-only; the mapping is a live view."""
        engine = Engine()
        view = engine.components
        await engine.register(lamp := Lamp("a"))
        assert dict(view) == {"a": lamp}
        for attribute in ("bus", "components"):
            with pytest.raises(AttributeError):
                setattr(engine, attribute, {})
        with pytest.raises(TypeError):
            cast("dict[str, Component]", view)["b"] = lamp


class TestRegister:
    """Taking a name."""

    async def test_publishes_its_event_once(self) -> None:
        """C1: The event is published once, with the component's name."""
        engine, seen = Engine(), list[Any]()
        await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", seen.append)
        await engine.register(Lamp("a"))
        assert seen == [{"component": "a"}]

    async def test_component_is_all_there_when_its_event_is_published(self) -> None:
        """C1: Observers find the component registered and its handlers subscribed."""
        engine, seen = Engine(), list[Any]()
        await engine.bus.subscribe(
            COMPONENT_REGISTERED,
            "observer",
            lambda data: seen.append((list(engine.components), owners(engine))),
        )
        await engine.register(Lamp("a"))
        assert seen == [(["a"], ["a"])]

    async def test_takes_the_name_at_once(self) -> None:
        """C1: Of two who register a name at the same time, the first has it."""
        engine = Engine()
        diary = await Diary().keep(engine.bus)
        first, second = Lamp("a"), Lamp("a")
        errors: list[Exception] = []

        async def come_second() -> None:
            try:
                await engine.register(second)
            except DuplicateComponent as exc:
                errors.append(exc)

        await together(partial(engine.register, first), come_second)
        assert len(errors) == 1
        assert engine.components["a"] is first
        assert diary.lines == ["a registered"]
        assert owners(engine) == ["a"]

    async def test_is_a_checkpoint_and_then_all_at_once(self) -> None:
        """C1: It waits once, with nothing registered yet."""
        engine, seen = Engine(), list[Any]()
        await stepping(
            engine.register(Lamp("a")),
            lambda: seen.append((dict(engine.components), owners(engine))),
        )
        assert seen == [({}, [])]

    async def test_taken_name_changes_nothing(self) -> None:
        """C1: DuplicateComponent, naming the name; nothing has changed."""
        engine = Engine()
        first, second = Lamp("a"), Lamp("a")
        await engine.register(first)
        diary = await Diary().keep(engine.bus)
        with pytest.raises(DuplicateComponent, match="'a' is registered already") as caught:
            await engine.register(second)
        assert caught.value.name == "a"
        assert engine.components["a"] is first
        assert (owners(engine), diary.lines) == (["a"], [])
        await Engine().register(second)

    async def test_subclass_can_not_change_the_name(self) -> None:
        """C1: A component is registered under the name that it was made with."""

        class Shadowed(Component):
            @property
            def name(self) -> str:
                return "shadow"

        engine, seen = Engine(component_factory=Shadowed), list[Any]()
        await engine.bus.subscribe(COMPONENT_REGISTERED, "watch", seen.append)
        await engine.register(Shadowed("a"))
        assert await engine.send("b", {"type": "go"}) is Outcome.IGNORED
        assert list(engine.components) == ["a", "b"]
        assert seen == [{"component": "a"}, {"component": "b"}]

    async def test_name_being_made_is_taken(self) -> None:
        """C1: A name that a factory is asked for can't be registered meanwhile."""
        gate = Gate(Lamp("a"))
        engine, results = Engine(component_factory=gate), list[object]()
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(sender(engine, "a", results))
                await gate.reached.wait()
                with pytest.raises(DuplicateComponent):
                    await engine.register(Lamp("a"))
                gate.open.set()
        assert results == [Outcome.TRANSITIONED]

    async def test_component_belongs_to_one_engine(self) -> None:
        """C1: A component that is registered can't be registered again, here or elsewhere."""
        here, there, lamp = Engine(), Engine(), Lamp("a")
        await here.register(lamp)
        with pytest.raises(ComponentError, match="registered already; a component belongs to"):
            await there.register(lamp)
        assert (dict(there.components), owners(there)) == ({}, [])
        await there.register(Lamp("a"))

    async def test_two_engines_at_once_get_one_of_them_the_component(self) -> None:
        """C1: Of two engines that register a component at the same time, one has it."""
        engines, lamp, errors = [Engine(), Engine()], Lamp("a"), list[Exception]()

        async def register(engine: Engine) -> None:
            try:
                await engine.register(lamp)
            except ComponentError as exc:
                errors.append(exc)

        await together(*(partial(register, engine) for engine in engines))
        assert len(errors) == 1
        having = [engine for engine in engines if "a" in engine.components]
        assert [owners(engine) for engine in having] == [["a"]]
        for engine in engines:
            assert is_idle(engine)
            if engine not in having:
                assert owners(engine) == []
                await engine.register(Lamp("a"))

    async def test_refuses_what_is_no_component(self) -> None:
        """C1: A class in place of its instance is told at once."""
        with pytest.raises(TypeError, match="register takes a Component, not <class"):
            await Engine().register(cast("Any", Lamp))

    async def test_cancelled_before_its_event_registers_nothing(
        self, anyio_backend: Backend
    ) -> None:
        """C1: Cancelled in its checkpoint, the name is free and nothing is subscribed."""
        for style in styles(anyio_backend):
            engine, lamp, victim = Engine(), Lamp("a"), Victim(style, place=1)
            diary = await Diary().keep(engine.bus)
            await victim.run(partial(engine.register, lamp))
            assert victim.was_cancelled
            assert (dict(engine.components), owners(engine), diary.lines) == ({}, [], [])
            assert is_idle(engine)
            await engine.register(lamp)

    async def test_cancelled_in_its_event_stays_registered(self, anyio_backend: Backend) -> None:
        """C1: Once the event is being published, the component is registered."""
        for style in styles(anyio_backend):
            engine, lamp, victim, gate = Engine(), Lamp("a"), Victim(style), Gate()
            subscription = await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", gate)
            results: list[object] = []
            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    group.start_soon(victim.run, partial(engine.register, lamp))
                    await gate.reached.wait()
                    group.start_soon(sender(engine, "a", results))
                    await wait_all_tasks_blocked()
                    assert results == []
                    victim.cancel()
            engine.bus.unsubscribe(subscription)
            assert victim.was_cancelled
            assert results == [Outcome.TRANSITIONED]
            assert (owners(engine), is_idle(engine)) == (["a"], True)

    async def test_send_waits_for_a_name_that_is_being_registered(self) -> None:
        """C1: Sent while it is registered, a message is handled when that is done, in order."""
        gate, lamp = Gate(), Lamp("a")
        engine = Engine()
        diary = await Diary().keep(engine.bus)
        await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", gate)
        results: list[object] = []
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(engine.register, lamp)
                await others_run()
                for n in range(3):
                    group.start_soon(sender(engine, "a", results, type=f"go {n}"))
                    await others_run()
                assert gate.reached.is_set()
                assert diary.lines == ["a registered"]
                gate.open.set()
        assert results == [Outcome.IGNORED] * 3
        assert diary.lines == ["a registered", "a go 0", "a go 1", "a go 2"]

    async def test_send_before_the_registration_began_to_run_waits_too(self) -> None:
        """C1: A send that finds the name taken and nothing registered yet waits for it."""
        engine, results = Engine(), list[object]()
        await together(partial(engine.register, Lamp("a")), sender(engine, "a", results))
        assert results == [Outcome.TRANSITIONED]

    @pytest.mark.parametrize("known", [False, True])
    async def test_send_asks_when_the_registration_was_cancelled(self, *, known: bool) -> None:
        """C1, C2: A task that waited for a cancelled registration asks for the component."""
        for _ in range(10):
            maker, victim, results = Maker(), Victim("scope", place=1), list[object]()
            engine = Engine(component_factory=maker if known else None)
            register = victim.running(partial(engine.register, Lamp("a")))
            await together(register, *[sender(engine, "a", results)] * 2)
            assert victim.was_cancelled
            assert is_idle(engine)
            assert len(maker.made) == known
            if known:
                assert results == [Outcome.TRANSITIONED] * 2
            else:
                assert [type(each) for each in results] == [UnknownComponent] * 2

    async def test_observer_that_fails_changes_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """C1, E1: A failing observer does not fail the registration."""

        def fail(data: Any) -> None:
            raise Boom

        engine = Engine(bus=EventBus(on_error="raise"))
        await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", fail)
        await engine.register(Lamp("a"))
        assert list(engine.components) == ["a"]
        (record,) = caplog.records
        assert record.getMessage().endswith(
            "of component 'observer' failed on event 'engine.component.registered'"
        )

    async def test_observer_that_kills_leaves_it_registered(self) -> None:
        """C1: Something fatal in an observer leaves `register` bare, and nobody waiting."""

        def kill(data: Any) -> None:
            raise Fatal

        engine = Engine()
        killing = await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", kill)
        with killing, pytest.raises(Fatal):
            await engine.register(Lamp("a"))
        assert is_idle(engine)
        assert await engine.send("a", GO) is Outcome.TRANSITIONED


class TestObservedRegistration:
    """Observers of engine.component.registered that use the component."""

    @pytest.mark.parametrize("made", [False, True], ids=["registered", "made"])
    async def test_may_send_to_it(self, *, made: bool) -> None:
        """C1, C4: An observer need not wait for the registration that it observes."""
        engine, outcomes = Engine(component_factory=Lamp), list[Outcome]()

        async def greet(data: Any) -> None:
            outcomes.append(await engine.send(data["component"], GO))

        await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", greet)
        with fail_after(PATIENCE):
            if not made:
                await engine.register(Lamp("a"))
            await engine.send("a", GO)
        assert outcomes == [Outcome.TRANSITIONED]
        assert engine.components["a"].state == "off"
        assert is_idle(engine)

    async def test_may_send_through_another_component(self) -> None:
        """C1, C4: A component that an observer waits for may send to the one being registered."""
        engine, outcomes = Engine(), list[Outcome]()

        async def forward(message: dict[str, Any], component: Component) -> None:
            outcomes.append(await engine.send("a", GO))

        await engine.register(Lamp("relay", machine=switch(action=forward)))
        await engine.bus.subscribe(
            COMPONENT_REGISTERED, "observer", lambda data: engine.send("relay", GO)
        )
        with fail_after(PATIENCE):
            await engine.register(Lamp("a"))
        assert outcomes == [Outcome.TRANSITIONED]
        assert is_idle(engine)

    async def test_may_leave_a_message_in_hand(self) -> None:
        """C3: The task that asked for it waits for the message that an observer began."""
        gate, engine = Gate(), Engine(component_factory=lambda name: Lamp(name, machine=slow))
        slow, results = switch(action=gate), list[object]()
        diary = await Diary().keep(engine.bus)
        with fail_after(PATIENCE):
            async with create_task_group() as group:

                async def begin(data: Any) -> None:
                    group.start_soon(sender(engine, "a", results, by="observer"))
                    await gate.reached.wait()

                await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", begin)
                for who in ("asker", "second", "third"):
                    group.start_soon(sender(engine, "a", results, by=who))
                    await others_run()
                assert diary.lines == ["a registered", "a go"]
                gate.open.set()
        assert results == [Outcome.TRANSITIONED] * 4
        assert diary.is_chained("a")
        assert is_idle(engine)

    async def test_may_unregister_it(self) -> None:
        """C1: `register` succeeds, the component is gone, and waiting senders are told."""
        maker, lamp, gate, results = Maker(), Lamp("a"), Gate(), list[object]()
        engine = Engine(component_factory=maker)

        async def undo(data: Any) -> None:
            await gate()
            await engine.unregister("a")

        await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", undo)
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(engine.register, lamp)
                await gate.reached.wait()
                group.start_soon(sender(engine, "a", results))
                await others_run()
                gate.open.set()
        assert [type(each) for each in results] == [UnknownComponent]
        assert maker.made == []
        assert (dict(engine.components), owners(engine), is_idle(engine)) == ({}, [], True)

    async def test_asker_gets_unknown_component_where_it_was_unregistered(self) -> None:
        """C1, C2: What was made and unregistered again takes no message."""
        maker = Maker()
        made, engine = maker.made, Engine(component_factory=maker)
        undo = await engine.bus.subscribe(
            COMPONENT_REGISTERED, "observer", lambda data: engine.unregister("a")
        )
        with fail_after(PATIENCE), pytest.raises(UnknownComponent, match=r"no component .* 'a'$"):
            await engine.send("a", GO)
        assert (made[0].state, is_idle(engine)) == ("off", True)
        engine.bus.unsubscribe(undo)
        assert await engine.send("a", GO) is Outcome.TRANSITIONED
        assert len(made) == 2

    async def test_asker_gets_it_within_the_handling_of_what_was_made_too(self) -> None:
        """C1, C2: Nor is a message deferred to a component that was made and unregistered again."""
        errors: list[Exception] = []

        async def leave_and_ask(message: dict[str, Any], component: Component) -> None:
            await engine.unregister("a")
            with pytest.raises(UnknownComponent) as caught:
                await engine.send("a", GO)
            errors.append(caught.value)

        lamp = Lamp("a", machine=switch(action=leave_and_ask))
        engine = Engine(component_factory=lambda name: lamp)
        await engine.register(lamp)
        await engine.bus.subscribe(
            COMPONENT_REGISTERED, "observer", lambda data: engine.unregister("a")
        )
        with fail_after(PATIENCE):
            assert await engine.send("a", GO) is Outcome.TRANSITIONED
        assert (len(errors), lamp.state, is_idle(engine)) == (1, "on", True)

    @pytest.mark.parametrize("same", [False, True])
    @pytest.mark.parametrize("made", [False, True], ids=["registered", "made"])
    async def test_may_register_it_or_another_again(self, *, same: bool, made: bool) -> None:
        """C1: Unregistered and registered again by an observer, the later one is there to stay."""
        lamp, other = Lamp("a"), Lamp("a")
        engine, times = Engine(component_factory=lambda name: lamp), list[int]()
        diary = await Diary().keep(engine.bus)

        async def replace(data: Any) -> None:
            times.append(1)
            if len(times) == 1:
                await engine.unregister("a")
                await engine.register(lamp if same else other)

        await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", replace)
        results: list[object] = []
        with fail_after(PATIENCE):
            if made:
                await sender(engine, "a", results)()
            else:
                await engine.register(lamp)
        assert diary.lines[:2] == ["a registered", "a registered"]
        assert engine.components["a"] is (lamp if same else other)
        assert owners(engine) == ["a"]
        assert is_idle(engine)
        assert await engine.send("a", GO) is Outcome.TRANSITIONED
        if made and not same:
            assert [type(each) for each in results] == [UnknownComponent]

    async def test_may_ask_for_it_anew(self) -> None:
        """C2: A send after the unregistering makes a component of its own."""
        maker = Maker()
        made, engine = maker.made, Engine(component_factory=maker)

        async def replace(data: Any) -> None:
            if len(made) == 1:
                await engine.unregister("a")
                assert await engine.send("a", GO) is Outcome.TRANSITIONED

        await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", replace)
        with fail_after(PATIENCE), pytest.raises(UnknownComponent):
            await engine.send("a", GO)
        assert engine.components["a"] is made[1]
        assert [lamp.state for lamp in made] == ["off", "on"]
        assert is_idle(engine)


class TestUnregister:
    """Giving a name up."""

    async def test_acts_at_once(self) -> None:
        """C1: The component and all subscriptions under its name are gone; others stay."""
        engine = Engine()
        await engine.register(Lamp("a"))
        await engine.register(Lamp("b"))
        await engine.bus.subscribe("more", "a", print)
        victim = Victim("scope")

        async def unregister() -> None:
            victim.cancel()
            await engine.unregister("a")

        await victim.run(unregister)
        assert list(engine.components) == ["b"]
        assert owners(engine) == ["b"]

    async def test_component_may_be_registered_again(self) -> None:
        """C1: Afterwards it may be registered again, here or elsewhere, and keeps its state."""
        engine, lamp = Engine(), Lamp("a")
        for each in (engine, engine, Engine()):
            await each.register(lamp)
            await each.send("a", GO)
            await each.unregister("a")
        assert lamp.state == "on"
        assert is_idle(engine)

    async def test_unknown_name(self) -> None:
        """C1: UnknownComponent, also a KeyError, with the closest names."""
        engine = Engine()
        await engine.register(Lamp("order-7"))
        with pytest.raises(KeyError, match="'order-8'; did you mean 'order-7'") as caught:
            await engine.unregister("order-8")
        assert isinstance(caught.value, UnknownComponent)

    @pytest.mark.parametrize(("name", "error"), [("", ValueError), (None, TypeError)])
    async def test_refuses_what_is_no_name(self, name: Any, error: type[Exception]) -> None:
        """C1: An empty name, or none, is refused."""
        with pytest.raises(error, match="a component's name must"):
            await Engine().unregister(name)

    async def test_name_that_is_being_made_is_unknown(self) -> None:
        """C1: Before the component is there, there is nothing to unregister."""
        gate, results = Gate(Lamp("a")), list[object]()
        engine = Engine(component_factory=gate)
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(sender(engine, "a", results))
                await gate.reached.wait()
                with pytest.raises(UnknownComponent):
                    await engine.unregister("a")
                gate.open.set()
        assert results == [Outcome.TRANSITIONED]

    async def test_message_in_hand_finishes(self) -> None:
        """C1: The message in hand ends as if nothing had happened, its events included."""
        gate, engine = Gate(), Engine()
        diary = await Diary().keep(engine.bus)
        await engine.register(lamp := Lamp("a", machine=switch(action=gate)))
        results: list[object] = []
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(sender(engine, "a", results))
                await gate.reached.wait()
                await engine.unregister("a")
                gate.open.set()
        assert results == [Outcome.TRANSITIONED]
        assert lamp.state == "on"
        assert diary.changes("a") == [("off", "on")]

    async def test_waiting_senders_get_unknown_component(self) -> None:
        """C1: Each sender in line is told at once, and the turn in hand goes on."""
        gate, engine = Gate(), Engine()
        await engine.register(lamp := Lamp("a", machine=switch(action=gate)))
        results: list[object] = []

        async def handle_directly() -> None:
            try:
                await lamp.handle_message(GO)
            except UnknownComponent as exc:
                results.append(exc)

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(engine.send, "a", GO)
                await gate.reached.wait()
                for send in (sender(engine, "a", results), handle_directly):
                    group.start_soon(send)
                await others_run()
                await engine.unregister("a")
                await others_run()
                assert [str(each) for each in results] == ["no component is named 'a'"] * 2
                assert lamp._flexiflow_actor.mailbox.holder is not None
                gate.open.set()
        assert results[0] is not results[1]
        assert lamp.state == "on"

    @pytest.mark.parametrize("again", [False, True])
    async def test_sender_whose_turn_just_came_is_told_too(self, *, again: bool) -> None:
        """C1: Unregistered after its turn came and before its message was taken up: refused."""
        gate, engine, lamp = Gate(), Engine(), Lamp("a", machine=switch())
        results: list[object] = []
        await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", gate)

        async def replace() -> None:
            await engine.register(lamp)
            await engine.unregister("a")
            if again:
                await engine.register(Lamp("a"))

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(replace)
                await gate.reached.wait()
                group.start_soon(sender(engine, "a", results))
                await others_run()
                gate.open.set()
        assert [type(each) for each in results] == [UnknownComponent]
        assert lamp.state == "off"
        assert is_idle(engine)
        assert lamp._flexiflow_actor.mailbox.holder is None
        assert await lamp.handle_message(GO) is Outcome.TRANSITIONED

    @pytest.mark.parametrize("directly", [False, True])
    async def test_sender_in_the_yield_before_its_message_is_told_too(
        self, *, directly: bool
    ) -> None:
        """C1, D6: Unregistered while the send yields, its message is not taken up."""
        engine, lamp = Engine(bus=EventBus(yield_every=1)), Lamp("a")
        diary = await Diary().keep(engine.bus)
        await engine.register(lamp)
        send = lamp.handle_message(GO) if directly else engine.send("a", GO)
        with pytest.raises(UnknownComponent, match=r"'a'$"):
            await stepping(send, lambda: run_at_once(engine.unregister("a")))
        assert (lamp.state, diary.lines) == ("off", ["a registered"])
        assert lamp._flexiflow_actor.mailbox.holder is None

    async def test_component_may_unregister_itself(self) -> None:
        """C1: Within its own handling, too, the message in hand finishes."""
        engine = Engine()

        async def leave(message: dict[str, Any], component: Component) -> None:
            await engine.unregister(component.name)

        await engine.register(lamp := Lamp("a", machine=switch(action=leave)))
        assert await engine.send("a", GO) is Outcome.TRANSITIONED
        assert lamp.state == "on"
        assert dict(engine.components) == {}

    async def test_component_may_move_to_another_engine_in_its_handling(self) -> None:
        """C1: Registered elsewhere while it handles a message, it has one message at a time."""
        here, there, outcomes = Engine(), Engine(), list[Outcome]()

        async def move(message: dict[str, Any], component: Component) -> None:
            if component.state == "off":
                await here.unregister("a")
                await there.register(component)
                outcomes.append(await there.send("a", GO))

        await here.register(Lamp("a", machine=switch(action=move)))
        at_home, abroad = await Diary().keep(here.bus), await Diary().keep(there.bus)
        assert await here.send("a", GO) is Outcome.TRANSITIONED
        assert outcomes == [Outcome.DEFERRED]
        assert at_home.lines == ["a go", "a off on"]
        assert abroad.lines == ["a registered", "a go", "a on off"]

    async def test_keeps_nothing_of_a_component(self) -> None:
        """C1: What was unregistered is not kept in memory."""
        engine = Engine()
        await engine.register(Lamp("a"))
        await engine.send("a", GO)
        seen = weakref.ref(engine.components["a"])
        await engine.unregister("a")
        gc.collect()
        assert seen() is None


class TestSend:
    """Sending to one that is there, or is made."""

    async def test_delivers(self) -> None:
        """C2: A message reaches the component of that name, and no other."""
        engine = Engine()
        for name in "ab":
            await engine.register(Lamp(name))
        assert await engine.send("a", GO) is Outcome.TRANSITIONED
        assert [component.state for component in engine.components.values()] == ["on", "off"]

    @pytest.mark.parametrize(("name", "error"), [("", ValueError), (7, TypeError)])
    async def test_refuses_what_is_no_name(self, name: Any, error: type[Exception]) -> None:
        """C2: An empty name, or none, is refused, and no factory is asked."""
        asked: list[str] = []
        engine = Engine(component_factory=asked.append)
        with pytest.raises(error, match="a component's name must"):
            await engine.send(name, GO)
        assert asked == []
        assert is_idle(engine)

    async def test_refuses_a_bad_message_before_it_asks(self) -> None:
        """C2, C5: No component is made for a message that is none."""
        asked: list[str] = []
        engine = Engine(component_factory=asked.append)
        bad: list[Any] = [None, {}]
        for message in bad:
            with pytest.raises((TypeError, ValueError)):
                await engine.send("a", message)
        assert asked == []

    async def test_unknown_name_without_a_factory(self) -> None:
        """C2: UnknownComponent, also a KeyError, names the closest known names."""
        engine = Engine()
        for name in ("billing", "shipping", "stock"):
            await engine.register(Lamp(name))
        with pytest.raises(UnknownComponent) as caught:
            await engine.send("biling", GO)
        assert isinstance(caught.value, KeyError)
        assert str(caught.value) == "no component is named 'biling'; did you mean 'billing'?"
        assert (caught.value.name, caught.value.closest) == ("biling", ("billing",))
        assert is_idle(engine)

    async def test_closest_names_are_told_among_a_thousand(self) -> None:
        """C2: Among more than 1,000 names the closest are not looked for."""
        engine = Engine()
        for n in range(1_000):
            await engine.register(Component(f"order-{n}"))
        with pytest.raises(UnknownComponent, match="did you mean 'order-7'"):
            await engine.send("ordr-7", GO)
        await engine.register(Component("one too many"))
        with pytest.raises(UnknownComponent) as caught:
            await engine.send("ordr-7", GO)
        assert caught.value.closest == ()

    @pytest.mark.parametrize("yield_every", [1, 2, 61])
    async def test_order_of_senders_is_that_of_first_running(self, yield_every: int) -> None:
        """C3: A send takes its place before any checkpoint, also where the bus yields."""
        began, seen = list[int](), list[int]()
        engine = Engine(bus=EventBus(yield_every=yield_every))
        machine = switch(action=partial(note_after_a_checkpoint, seen))
        await engine.register(Lamp("a", machine=machine))

        async def send(n: int) -> None:
            began.append(n)
            assert await engine.send("a", GO | {"n": n}) is Outcome.TRANSITIONED

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                for n in range(20):
                    group.start_soon(send, n)
        assert seen == began
        assert len(seen) == 20

    async def test_messages_of_one_component_never_overlap(self) -> None:
        """C3: One message at a time, from the received event to the last observer."""
        inside, most = 0, 0

        async def enter(*_: object) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await checkpoint()

        async def leave(*_: object) -> None:
            nonlocal inside
            await checkpoint()
            inside -= 1

        engine, results = Engine(), list[object]()
        await engine.register(Lamp("a", machine=switch(action=checkpoint_in_action)))
        await engine.bus.subscribe(MESSAGE_RECEIVED, "observer", enter)
        await engine.bus.subscribe(STATE_CHANGED, "observer", leave)
        await together(*(sender(engine, "a", results) for _ in range(10)))
        assert (inside, most, len(results)) == (0, 1, 10)

    async def test_different_components_run_in_parallel(self) -> None:
        """C3: A message in hand holds up no other component."""
        gate, engine, results = Gate(), Engine(), list[object]()
        await engine.register(Lamp("slow", machine=switch(action=gate)))
        await engine.register(Lamp("fast"))
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(sender(engine, "slow", results))
                await gate.reached.wait()
                assert await engine.send("fast", GO) is Outcome.TRANSITIONED
                assert results == []
                gate.open.set()

    async def test_failure_of_one_holds_up_nobody(self) -> None:
        """C3: The next in line is served after a failure as after a success."""
        results: list[object] = []

        async def fail_twice(message: dict[str, Any], component: Component) -> None:
            await checkpoint()
            if message["n"] < 2:
                raise Boom

        engine = Engine()
        await engine.register(Lamp("a", machine=switch(action=fail_twice)))
        await together(*(sender(engine, "a", results, n=n) for n in range(4)))
        assert [type(each) for each in results] == [Boom, Boom, Outcome, Outcome]

    async def test_two_engines_may_share_a_bus(self) -> None:
        """C1: Two engines on one bus are told by their components' names."""
        bus = EventBus()
        one, two = Engine(bus=bus), Engine(bus=bus)
        diary = await Diary().keep(bus)
        await one.register(Lamp("a"))
        await two.register(Lamp("b"))
        with pytest.raises(UnknownComponent):
            await one.send("b", GO)
        await two.send("b", GO)
        await one.unregister("a")
        assert diary.lines == ["a registered", "b registered", "b go", "b off on"]
        assert owners(two) == ["b"]


@pytest.mark.parametrize("name", [None, 3, b"lamp", [], {}, ["lamp"]])
async def test_a_message_to_what_is_no_name_is_refused(name: Any) -> None:
    """C2: Sending to something that is not a str is a TypeError, also if it has no hash."""
    with pytest.raises(TypeError, match="a component's name must be a str, not "):
        await Engine().send(name, {"type": "go"})
