"""Components that are made when they are asked for, and lives cut short anywhere (C1 to C6)."""

from functools import partial
from typing import Any, cast, final

import pytest
from anyio import Event, create_task_group, fail_after, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from flexiflow import (
    Component,
    ComponentError,
    DuplicateComponent,
    Engine,
    EventBus,
    HandlerCancelled,
    Outcome,
    StateMachine,
    UnknownComponent,
)
from flexiflow.events import COMPONENT_REGISTERED, MESSAGE_RECEIVED, STATE_CHANGED
from tests.accounting import Boom
from tests.attacks import kept_cancellation
from tests.conftest import Backend
from tests.helpers import PATIENCE
from tests.hosting import (
    GO,
    Diary,
    Gate,
    Lamp,
    Maker,
    Victim,
    is_idle,
    making,
    note_after_a_checkpoint,
    others_run,
    owners,
    sender,
    styles,
    switch,
    together,
)

KINDS = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


class TestFactory:
    """What a factory is asked for, and may do."""

    @KINDS
    async def test_factory_is_asked_and_the_message_delivered(self, *, asynchronous: bool) -> None:
        """C2: What the factory gives is registered, then the message is delivered."""
        asked: list[str] = []

        def make(name: str) -> Component:
            asked.append(name)
            return Lamp(name)

        engine = Engine(component_factory=making(make, asynchronous=asynchronous))
        diary = await Diary().keep(engine.bus)
        assert [await engine.send("a", GO) for _ in range(2)] == [Outcome.TRANSITIONED] * 2
        assert asked == ["a"]
        assert owners(engine) == ["a"]
        assert diary.lines == ["a registered", "a go", "a off on", "a go", "a on off"]

    async def test_factory_is_asked_for_each_name(self) -> None:
        """C2: Different names are made at the same time, and don't wait for each other."""
        gates = {name: Gate(Lamp(name)) for name in "ab"}
        engine = Engine(component_factory=lambda name: gates[name]())
        results: list[object] = []
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                for name, gate in gates.items():
                    group.start_soon(sender(engine, name, results))
                    await gate.reached.wait()
                for gate in gates.values():
                    gate.open.set()
        assert results == [Outcome.TRANSITIONED] * 2

    @KINDS
    async def test_factory_is_asked_once_however_many_ask(self, *, asynchronous: bool) -> None:
        """C2: Of many who ask at the same time, one asks, and each message is delivered."""
        asked: list[str] = []

        def make(name: str) -> Component:
            asked.append(name)
            return Lamp(name)

        engine = Engine(component_factory=making(make, asynchronous=asynchronous))
        results: list[object] = []
        await together(*(sender(engine, "a", results) for _ in range(20)))
        assert asked == ["a"]
        assert results == [Outcome.TRANSITIONED] * 20
        assert is_idle(engine)

    async def test_order_of_senders_is_kept_across_the_making(self) -> None:
        """C3: Sends while the component is made, and after, are served in their order."""
        for _ in range(5):
            gate, engine_results, seen = Gate(), list[object](), list[int]()
            slow = switch(action=partial(note_after_a_checkpoint, seen))

            async def make(name: str, gate: Gate = gate, slow: StateMachine = slow) -> Component:
                await gate()
                return Lamp(name, machine=slow)

            engine = Engine(component_factory=make)
            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    for n in range(20):
                        group.start_soon(sender(engine, "a", engine_results, n=n))
                        await others_run()
                        if n == 9:
                            gate.open.set()
            assert seen == list(range(20))

    @KINDS
    async def test_that_gives_nothing(self, *, asynchronous: bool) -> None:
        """C2: None is UnknownComponent, for all who ask."""
        engine = Engine(component_factory=making(lambda name: None, asynchronous=asynchronous))
        await engine.register(Lamp("aa"))
        results: list[object] = []
        await together(*(sender(engine, "a", results) for _ in range(3)))
        assert [type(each) for each in results] == [UnknownComponent] * 3
        assert str(results[0]) == "no component is named 'a'; did you mean 'aa'?"
        assert is_idle(engine)

    @pytest.mark.parametrize("given", ["a", 7, Lamp, object], ids=repr)
    async def test_that_gives_something_else(self, given: Any) -> None:
        """C2: A value that is no component is a ComponentError that shows it."""
        engine = Engine(component_factory=lambda name: given)
        with pytest.raises(ComponentError, match="must give a Component or None for 'a', not "):
            await engine.send("a", GO)
        assert (dict(engine.components), is_idle(engine)) == ({}, True)

    async def test_that_gives_another_name(self) -> None:
        """C2: A component of another name is a ComponentError, and is not registered."""
        engine = Engine(component_factory=lambda name: Lamp(name.upper()))
        diary = await Diary().keep(engine.bus)
        with pytest.raises(
            ComponentError, match=r"asked for 'a' and gave <Lamp 'A' in state 'off'>"
        ):
            await engine.send("a", GO)
        assert (dict(engine.components), owners(engine), diary.lines) == ({}, [], [])
        assert is_idle(engine)

    @pytest.mark.parametrize("here", [False, True])
    async def test_that_gives_a_component_of_an_engine(self, *, here: bool) -> None:
        """C1, C2: A component that is registered already, here or elsewhere, is refused."""
        lamp, engine = Lamp("a"), Engine(component_factory=lambda name: lamp)
        other = Engine()
        if here:
            await engine.send("a", GO)
            engine._components["b"] = engine._components.pop("a")
        else:
            await other.register(lamp)
        with pytest.raises(ComponentError, match="registered already"):
            await engine.send("a", GO)
        assert owners(other) == ([] if here else ["a"])
        assert is_idle(engine)

    async def test_that_gives_one_with_a_bad_handler(self) -> None:
        """C1, B3: A handler that can't be called fails the send, and nothing is registered."""

        def make(name: str) -> Component:
            lamp = Lamp(name)
            lamp.__dict__["press"] = 7
            return lamp

        engine = Engine(component_factory=make)
        with pytest.raises(TypeError, match="handler must be callable"):
            await engine.send("a", GO)
        assert (dict(engine.components), owners(engine), is_idle(engine)) == ({}, [], True)

    async def test_that_raises(self) -> None:
        """C2: A factory that raises, raises to the asker, and is asked again by the next."""
        failures = [Boom()]

        def make(name: str) -> Component:
            if failures:
                raise failures.pop()
            return Lamp(name)

        engine = Engine(component_factory=make)
        with pytest.raises(Boom):
            await engine.send("a", GO)
        assert is_idle(engine)
        assert await engine.send("a", GO) is Outcome.TRANSITIONED

    async def test_that_raises_while_others_wait(self) -> None:
        """C2: A factory that raises, raises the same to all who wait, and is asked once."""
        boom, gate, calls = Boom(), Gate(), list[str]()

        async def make(name: str) -> Component:
            calls.append(name)
            await gate()
            raise boom

        engine, results = Engine(component_factory=make), list[object]()
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                for _ in range(3):
                    group.start_soon(sender(engine, "a", results))
                await wait_all_tasks_blocked()
                gate.open.set()
        assert all(each is boom for each in results)
        assert (len(results), len(calls)) == (3, 1)
        assert is_idle(engine)

    async def test_that_raises_a_stray_cancellation(self) -> None:
        """C6, E6: A stray cancellation in a factory is HandlerCancelled, for all who wait."""
        stray, gate = await kept_cancellation(), Gate()

        async def make(name: str) -> Component:
            await gate()
            raise stray

        engine, results = Engine(component_factory=make), list[object]()
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                for _ in range(3):
                    group.start_soon(sender(engine, "a", results))
                await wait_all_tasks_blocked()
                gate.open.set()
        assert [type(each) for each in results] == [HandlerCancelled] * 3
        assert cast("HandlerCancelled", results[0]).__cause__ is stray
        assert is_idle(engine)

    @KINDS
    async def test_that_is_interrupted(self, *, asynchronous: bool) -> None:
        """C2, E5: KeyboardInterrupt leaves bare, at the asker; the next in line asks again."""
        gate, calls, results = Gate(), list[str](), list[object]()

        async def make(name: str) -> Component:
            calls.append(name)
            if len(calls) == 1:
                await gate()
                if asynchronous:
                    await checkpoint()
                raise KeyboardInterrupt
            return Lamp(name)

        engine = Engine(component_factory=make)

        async def let_on() -> None:
            await gate.reached.wait()
            group.start_soon(sender(engine, "a", results))
            await others_run()
            gate.open.set()

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(let_on)
                with pytest.raises(KeyboardInterrupt):
                    await engine.send("a", GO)
        assert results == [Outcome.TRANSITIONED]
        assert len(calls) == 2
        assert is_idle(engine)

    async def test_asker_that_is_cancelled_lets_the_next_ask(self, anyio_backend: Backend) -> None:
        """C2: If the asker is cancelled, the next in line asks again, and the order is kept."""
        for style in styles(anyio_backend):
            calls, seen, results = list[str](), list[int](), list[object]()
            victim, gate = Victim(style), Gate()
            machine = switch(action=partial(note_after_a_checkpoint, seen))

            async def make(
                name: str,
                calls: list[str] = calls,
                gate: Gate = gate,
                machine: StateMachine = machine,
            ) -> Component:
                calls.append(name)
                if len(calls) == 1:
                    await gate()
                return Lamp(name, machine=machine)

            engine = Engine(component_factory=make)
            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    group.start_soon(victim.run, partial(engine.send, "a", GO | {"n": 0}))
                    await gate.reached.wait()
                    for n in range(1, 5):
                        group.start_soon(sender(engine, "a", results, n=n))
                        await others_run()
                    victim.cancel()
            assert victim.was_cancelled
            assert len(calls) == 2
            assert seen == [1, 2, 3, 4]
            assert is_idle(engine)

    async def test_one_in_line_that_is_cancelled(self, anyio_backend: Backend) -> None:
        """C2: The component is made once, also for a task that asks afterwards."""
        for style in styles(anyio_backend):
            calls, results = list[str](), list[object]()
            victim, gate = Victim(style), Gate()

            async def make(name: str, calls: list[str] = calls, gate: Gate = gate) -> Component:
                calls.append(name)
                await gate()
                return Lamp(name)

            engine = Engine(component_factory=make)
            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    group.start_soon(sender(engine, "a", results))
                    await gate.reached.wait()
                    group.start_soon(victim.run, partial(engine.send, "a", GO))
                    await others_run()
                    victim.cancel()
                    await others_run()
                    group.start_soon(sender(engine, "a", results))
                    await others_run()
                    gate.open.set()
            assert victim.was_cancelled
            assert (calls, results) == (["a"], [Outcome.TRANSITIONED] * 2)
            assert is_idle(engine)

    async def test_all_askers_cancelled_leave_the_name_free(self, anyio_backend: Backend) -> None:
        """C1, C2: Where asker and next in line are cancelled in one step, the name is free."""
        for style in styles(anyio_backend):
            for order in (1, -1):
                gate, victims = Gate(), [Victim(style) for _ in range(3)]
                engine = Engine(component_factory=gate)
                with fail_after(PATIENCE):
                    async with create_task_group() as group:
                        for victim in victims:
                            group.start_soon(victim.run, partial(engine.send, "a", GO))
                            await others_run()
                        for victim in victims[::order]:
                            victim.cancel()
                assert all(victim.was_cancelled for victim in victims)
                assert is_idle(engine)
                await engine.register(Lamp("a"))

    async def test_asker_cancelled_in_the_registered_event_leaves_it_registered(
        self, anyio_backend: Backend
    ) -> None:
        """C1, C2: Once the event is published, the others are served by what was made."""
        for style in styles(anyio_backend):
            maker, results, victim, gate = Maker(), list[object](), Victim(style), Gate()
            engine = Engine(component_factory=maker)
            await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", gate)
            with fail_after(PATIENCE):
                async with create_task_group() as group:
                    group.start_soon(victim.run, partial(engine.send, "a", GO))
                    await gate.reached.wait()
                    group.start_soon(sender(engine, "a", results))
                    await others_run()
                    victim.cancel()
            assert (victim.was_cancelled, len(maker.made)) == (True, 1)
            assert results == [Outcome.TRANSITIONED]
            assert engine.components["a"].state == "on"
            assert is_idle(engine)

    @pytest.mark.parametrize("way", ["directly", "child task", "through another engine"])
    async def test_that_asks_for_the_same_name(self, way: str) -> None:
        """C2: Asking for a name from within its making is a ComponentError, not a hang."""
        errors: list[ComponentError] = []

        async def make(name: str) -> Component:
            try:
                if way == "directly":
                    await engine.send(name, GO)
                elif way == "child task":
                    await together(sender(engine, name, results))
                    raise cast("ComponentError", results[0])
                else:
                    await other.send("b", GO)
            except ComponentError as exc:
                errors.append(exc)
            return Lamp(name)

        async def make_elsewhere(name: str) -> Component:
            await engine.send("a", GO)
            raise AssertionError

        results: list[object] = []
        engine, other = Engine(component_factory=make), Engine(component_factory=make_elsewhere)
        with fail_after(PATIENCE):
            assert await engine.send("a", GO) is Outcome.TRANSITIONED
        (error,) = errors
        assert str(error) == "component 'a' is asked for while it is being made, by what makes it"
        assert not isinstance(error, UnknownComponent)
        assert is_idle(engine)
        assert is_idle(other)

    async def test_whose_question_for_the_same_name_is_not_caught(self) -> None:
        """C2: The ComponentError reaches all who wait."""

        async def make(name: str) -> Any:
            await others_run()
            await engine.send(name, GO)

        engine, results = Engine(component_factory=make), list[object]()
        await together(*(sender(engine, "a", results) for _ in range(3)))
        assert {type(each) for each in results} == {ComponentError}
        assert len(results) == 3
        assert is_idle(engine)

    async def test_that_asks_for_another_name(self) -> None:
        """C2: A factory may send to other components, made by itself too."""

        async def make(name: str) -> Component:
            if name == "a":
                assert await engine.send("b", GO) is Outcome.TRANSITIONED
            return Lamp(name)

        engine = Engine(component_factory=make)
        with fail_after(PATIENCE):
            assert await engine.send("a", GO) is Outcome.TRANSITIONED
        assert list(engine.components) == ["b", "a"]

    async def test_that_waits_for_one_who_asks_for_the_name(self) -> None:
        """C2, C4: A ring of a factory and a component in different tasks is a ComponentError."""
        engine_ready, ready = Event(), Event()

        async def make(name: str) -> Component:
            engine_ready.set()
            await ready.wait()
            outcomes.append(await engine.send("b", GO))
            return Lamp(name)

        async def ask(message: dict[str, Any], component: Component) -> None:
            if not ready.is_set():
                ready.set()
                await others_run()
                await engine.send("a", GO)

        engine = Engine(component_factory=make)
        outcomes, results = list[Outcome](), list[object]()
        await engine.register(Lamp("b", machine=switch(action=ask)))
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(sender(engine, "a", results))
                await engine_ready.wait()
                with pytest.raises(ComponentError, match="asked for while it is being made"):
                    await engine.send("b", GO)
        assert results == [Outcome.TRANSITIONED]
        assert outcomes == [Outcome.TRANSITIONED]
        assert is_idle(engine)

    async def test_that_sends_to_one_who_waits_for_the_name(self) -> None:
        """C2, C4: Where the factory closes the ring, its message is deferred."""
        waiting, outcomes, results = Event(), list[Outcome](), list[object]()

        async def make(name: str) -> Component:
            await waiting.wait()
            await others_run()
            outcomes.append(await engine.send("b", {"type": "note"}))
            return Lamp(name)

        async def ask(message: dict[str, Any], component: Component) -> None:
            waiting.set()
            outcomes.append(await engine.send("a", GO))

        engine = Engine(component_factory=make)
        diary = await Diary().keep(engine.bus)
        await engine.register(Lamp("b", machine=switch(action=ask)))
        await together(sender(engine, "a", results), sender(engine, "b", results))
        assert outcomes == [Outcome.DEFERRED, Outcome.TRANSITIONED]
        assert results == [Outcome.TRANSITIONED] * 2
        assert diary.lines[-1] == "b note"
        assert is_idle(engine)

    async def test_that_registers_the_component_itself(self) -> None:
        """C1, C2: The caller has taken the name, so a factory that registers it is refused."""

        async def make(name: str) -> Component:
            await engine.register(lamp := Lamp(name))
            return lamp

        engine = Engine(component_factory=make)
        with pytest.raises(DuplicateComponent):
            await engine.send("a", GO)
        assert (dict(engine.components), is_idle(engine)) == ({}, True)

    async def test_that_gives_back_what_was_unregistered_in_its_own_handling(self) -> None:
        """C1, C2, C4: A component that asks for itself after leaving is there again, and defers."""
        outcomes: list[Outcome] = []

        async def leave_and_return(message: dict[str, Any], component: Component) -> None:
            if component.state == "off":
                await engine.unregister("a")
                outcomes.append(await engine.send("a", GO))

        lamp = Lamp("a", machine=switch(action=leave_and_return))
        engine = Engine(component_factory=lambda name: lamp)
        diary = await Diary().keep(engine.bus)
        with fail_after(PATIENCE):
            assert await engine.send("a", GO) is Outcome.TRANSITIONED
        assert outcomes == [Outcome.DEFERRED]
        assert engine.components["a"] is lamp
        assert diary.changes("a") == [("off", "on"), ("on", "off")]
        assert is_idle(engine)

    async def test_that_gives_one_in_the_middle_of_a_message(self) -> None:
        """C3: One that handles a message from before it was unregistered ends that first."""
        gate = Gate()
        lamp = Lamp("a", machine=switch(action=gate))
        engine, results = Engine(component_factory=lambda name: lamp), list[object]()
        diary = await Diary().keep(engine.bus)
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(sender(engine, "a", results))
                await gate.reached.wait()
                await engine.unregister("a")
                for _ in range(2):
                    group.start_soon(sender(engine, "a", results))
                    await others_run()
                assert diary.lines[-1] == "a registered"
                gate.open.set()
        assert results == [Outcome.TRANSITIONED] * 3
        assert diary.changes("a") == [("off", "on"), ("on", "off"), ("off", "on")]


@final
class Life:
    """What a victim does with an engine, with every kind of wait in it."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self._machine = switch(self._guard, self._act)
        self.engine = Engine(bus=EventBus(yield_every=1), component_factory=self._make)
        self.diary = Diary()
        self.handled: list[object] = []

    async def live(self, *, bystanders: int = 0) -> None:
        """Let the victim live, and others send at the same time."""
        await self.diary.keep(self.engine.bus)
        for event in (COMPONENT_REGISTERED, MESSAGE_RECEIVED, STATE_CHANGED):
            await self.engine.bus.subscribe(event, "observer", self._observe)
        results: list[object] = []
        others = [sender(self.engine, "ab"[n % 2], results, n=n) for n in range(bystanders)]
        await together(self._victim.running(self._register_send_ask_unregister), *others)
        assert len(results) == bystanders
        self.check()

    async def go_on(self) -> None:
        """Send to all that is there, and look at what is handled before."""
        for name, component in list(self.engine.components.items()):
            deferred = component._flexiflow_actor.mailbox.deferred or ()
            left = [message["n"] for message, _ in deferred]
            self.handled.clear()
            with fail_after(PATIENCE):
                assert await self.engine.send(name, GO | {"n": "after"}) is Outcome.TRANSITIONED
            assert self.handled == [*left, "after"]
        self.check()
        for name in ("a", "b"):
            with fail_after(PATIENCE):
                assert await self.engine.send(name, GO) is Outcome.TRANSITIONED

    def check(self) -> None:
        """Check what holds whenever nobody is at work."""
        assert is_idle(self.engine)
        assert sorted(owners(self.engine)) == sorted(self.engine.components)
        for name, component in self.engine.components.items():
            assert component._flexiflow_actor.host is self.engine
            told = self.diary.since_registered(name)
            assert told.is_chained(name)
            assert ["off", *(after for _, after in told.changes(name))][-1] == component.state

    async def _register_send_ask_unregister(self) -> None:
        await self.engine.register(Lamp("a", machine=self._machine))
        await self.engine.send("a", GO | {"n": "own", "then": ["first", "second"]})
        await self.engine.send("b", GO | {"n": "other"})
        await self.engine.unregister("a")

    async def _guard(self, message: dict[str, Any], component: Component) -> bool:
        await checkpoint()
        return True

    async def _act(self, message: dict[str, Any], component: Component) -> None:
        await checkpoint()
        for each in message.get("then", ()):
            await self.engine.send(component.name, GO | {"n": each})
        self.handled.append(message.get("n"))
        await checkpoint()

    async def _make(self, name: str) -> Component:
        await checkpoint()
        return Lamp(name, machine=self._machine)

    async def _observe(self, data: Any) -> None:
        await checkpoint()


class TestCancelledAnywhere:
    """A life with every kind of wait, cancelled at each."""

    async def test_undisturbed_it_does_all(self) -> None:
        """C1 to C4: What the following tests cut short, in full."""
        life = Life(Victim("scope"))
        await life.live()
        assert life.handled == ["own", "first", "second", "other"]
        assert list(life.engine.components) == ["b"]

    @pytest.mark.unmeasured
    @pytest.mark.parametrize("bystanders", [0, 3])
    async def test_leaves_nothing_half_done(self, bystanders: int, anyio_backend: Backend) -> None:
        """C1 to C6: Cancelled at any wait, all is done or undone, and what is there is usable."""
        for style in styles(anyio_backend):
            place, was_reached = 1, True
            while was_reached:
                life = Life(victim := Victim(style, place))
                await life.live(bystanders=bystanders)
                await life.go_on()
                was_reached = victim.waits >= place
                place += 1
            assert place > 20
