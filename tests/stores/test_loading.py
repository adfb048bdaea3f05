"""Components that are loaded when they are sent a message or registered (K4)."""

from typing import Any

import pytest
from anyio import CancelScope, create_task_group, fail_after

from flexiflow import (
    Component,
    ComponentError,
    DuplicateComponent,
    Engine,
    Outcome,
    StateMachine,
    Transition,
    UnknownComponent,
    UnknownState,
    on,
)
from flexiflow._engine import keep_in
from flexiflow.events import COMPONENT_REGISTERED
from tests.accounting import Boom
from tests.helpers import PATIENCE, settle
from tests.hosting import GO, Diary, Gate, cancelled_at, is_idle, together
from tests.stores.keeping import (
    CYCLE,
    DictStore,
    Down,
    Hang,
    Tally,
    cycle,
    down,
    hosting,
    once,
    send_go,
    tallies,
)


class TestSend:
    """A send to a name that is not registered."""

    async def test_loads_then_makes_then_registers(self) -> None:
        """K4: First the store is asked, then the factory; then come state, data, and the event."""
        order, store = list[str](), DictStore()
        store.put("t", "b", {"n": 5})

        async def note_load() -> None:
            order.append("load")

        class Order(Tally):
            def restore(self, data: Any, /) -> None:
                order.append(f"restore, registered: {'t' in engine.components}")
                super().restore(data)

        def make(name: str) -> Component:
            order.append("make")
            return Order(name)

        def registered(data: Any) -> None:
            tally: Any = engine.components[data["component"]]
            order.append(f"registered in {tally.state} with {tally.n}")

        store.before["load"] = note_load
        engine = Engine(component_factory=make, store=store)
        await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", registered)
        assert await engine.send("t", GO) is Outcome.TRANSITIONED
        assert order == [
            "load",
            "make",
            "restore, registered: False",
            "registered in b with 5",
        ]
        assert store.kept["t"][1:3] == ("c", {"n": 6})

    async def test_first_handler_finds_state_and_data(self) -> None:
        """K4: What was stored is there when the component's first handler is called."""
        store, seen = DictStore(), list[object]()
        store.put("t", "c", {"n": 9})

        class Order(Tally):
            @on(COMPONENT_REGISTERED)
            def look(self, data: object) -> None:
                seen.append((self.state, self.n))

        engine = Engine(component_factory=Order, store=store)
        await engine.send("t", GO)
        assert seen == [("c", 9)]

    async def test_loads_once(self) -> None:
        """K4: A component that is registered is not loaded again."""
        store = DictStore()
        engine = hosting(store)
        for _ in range(3):
            await engine.send("t", GO)
        assert store.calls["load"] == 1

    async def test_several_who_ask_load_once(self) -> None:
        """K4: However many ask at the same time, the store and the factory are asked once."""
        store, made = DictStore(), list[str]()
        store.put("t", "b", {"n": 1})

        def make(name: str) -> Component:
            made.append(name)
            return Tally(name)

        engine = Engine(component_factory=make, store=store)
        results: list[object] = []

        async def send() -> None:
            results.append(await send_go(engine))

        await together(*[send] * 7)
        assert results == [Outcome.TRANSITIONED] * 7
        assert (store.calls["load"], made) == (1, ["t"])
        assert store.kept["t"][1:3] == ("c", {"n": 8})

    async def test_nothing_stored_is_as_without_a_store(self) -> None:
        """K4: Where nothing is stored the component is as the factory made it."""
        engine = Engine(component_factory=lambda name: Tally(name, state="c"), store=DictStore())
        diary = await Diary().keep(engine.bus)
        await engine.send("t", GO)
        assert diary.lines == ["t registered", "t go", "t c a"]

    async def test_what_is_stored_goes_before_the_start_state(self) -> None:
        """K4: The stored state replaces the one that the factory's component starts in."""
        store = DictStore()
        store.put("t", "b")
        engine = Engine(component_factory=lambda name: Tally(name, state="c"), store=store)
        diary = await Diary().keep(engine.bus)
        await engine.send("t", GO)
        assert diary.changes("t") == [("b", "c")]

    async def test_loading_is_no_transition(self) -> None:
        """K4: What is stored is put in without `state.changed`."""
        store = DictStore()
        store.put("t", "b", {"n": 1})
        engine = hosting(store)
        diary = await Diary().keep(engine.bus)
        assert await engine.send("t", {"type": "other"}) is Outcome.IGNORED
        assert diary.lines == ["t registered", "t other"]

    async def test_without_a_factory_does_not_ask_the_store(self) -> None:
        """K4: Without a factory nothing can be loaded, so the store is not asked (C2)."""
        store = DictStore()
        store.put("t", "b")
        store.before["load"] = down
        with pytest.raises(UnknownComponent):
            await Engine(store=store).send("t", GO)
        assert store.calls["load"] == 0

    async def test_factory_that_knows_no_such_component(self) -> None:
        """K4: A stored component that the factory does not make is unknown, and stays stored."""
        store = DictStore()
        store.put("t", "b")
        engine = Engine(component_factory=lambda name: None, store=store)
        with pytest.raises(UnknownComponent):
            await engine.send("t", GO)
        assert store.state("t") == "b"


class TestUnknownState:
    """A stored state that the machine does not have."""

    @pytest.mark.parametrize("machine", [CYCLE, None], ids=["other machine", "no machine"])
    @pytest.mark.parametrize("way", ["send", "register"])
    async def test_is_refused(self, machine: StateMachine | None, way: str) -> None:
        """K4: UnknownState names it and those there are; nothing is registered or restored."""
        store = DictStore()
        store.put("t", "lost", {"n": 3})
        tally = Tally("t", machine=machine)
        engine = Engine(component_factory=lambda name: tally, store=store)
        diary = await Diary().keep(engine.bus)
        with pytest.raises(UnknownState) as caught:
            await (engine.register(tally) if way == "register" else engine.send("t", GO))
        known = () if machine is None else machine.states
        assert (caught.value.name, caught.value.state, caught.value.known) == ("t", "lost", known)
        assert (dict(engine.components), diary.lines, is_idle(engine)) == ({}, [], True)
        assert (tally.state, tally.n) == (None if machine is None else "a", 0)

    async def test_is_tried_again(self) -> None:
        """K4: The next send loads again, and finds what has been put right."""
        store = DictStore()
        store.put("t", "lost")
        engine = hosting(store)
        for _ in range(2):
            with pytest.raises(UnknownState):
                await engine.send("t", GO)
        store.put("t", "c", {"n": 0})
        await engine.send("t", GO)
        assert store.state("t") == "a"

    async def test_is_raised_to_all_who_wait(self) -> None:
        """K4: All who wait for the component get the refusal, of one load."""
        store, results = DictStore(), list[object]()
        store.put("t", "lost")
        store.before["load"] = settle
        engine = hosting(store)

        async def send() -> None:
            results.append(await send_go(engine))

        await together(*[send] * 3)
        assert [type(each) for each in results] == [UnknownState] * 3
        assert store.calls["load"] == 1

    async def test_found_by_a_component_in_memory(self) -> None:
        """K4: One that is found on loading again fails each message until it is put right."""
        store = DictStore()
        engine = hosting(store)
        await engine.send("t", GO)
        store.put("t", "lost", {"n": 3})
        failures = [type(await send_go(engine)).__name__ for _ in range(3)]
        assert failures == ["StateConflict", "UnknownState", "UnknownState"]
        assert engine.components["t"].state == "b"
        store.put("t", "c", {"n": 7})
        assert await send_go(engine) is Outcome.TRANSITIONED
        assert store.kept["t"][1:3] == ("a", {"n": 8})


class TestStoreDown:
    """A store that can't be reached."""

    async def test_fails_all_who_wait_and_registers_nothing(self) -> None:
        """K4: What `load` raises is raised to all who wait; the factory is not asked."""
        store, results, made = DictStore(), list[object](), list[str]()

        def make(name: str) -> Component:
            made.append(name)
            return Tally(name)

        engine = Engine(component_factory=make, store=store)
        store.before["load"], store.after["load"] = settle, down

        async def send() -> None:
            results.append(await send_go(engine))

        await together(*[send] * 3)
        assert [type(each) for each in results] == [Down] * 3
        assert (dict(engine.components), made, store.calls["load"]) == ({}, [], 1)
        store.after.clear()
        assert await send_go(engine) is Outcome.TRANSITIONED

    async def test_fails_register(self) -> None:
        """K4: What `load` raises leaves `register`, which may be tried again."""
        store, tally = DictStore(), Tally("t")
        engine = Engine(store=store)
        store.before["load"] = once(down)
        with pytest.raises(Down):
            await engine.register(tally)
        assert (dict(engine.components), is_idle(engine)) == ({}, True)
        await engine.register(tally)
        assert engine.components["t"] is tally


class TestCancelled:
    """An asker that is cancelled."""

    @pytest.mark.parametrize("moment", ["before", "after"])
    async def test_while_it_loads(self, moment: str) -> None:
        """K4: If the one who loads is cancelled, the next one in line loads."""
        store, hang, results = DictStore(), Hang(), list[object]()
        store.put("t", "b", {"n": 1})
        engine = hosting(store)
        (store.before if moment == "before" else store.after)["load"] = once(hang)
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                scope = CancelScope()

                async def first() -> None:
                    with scope:
                        await engine.send("t", GO)

                async def second() -> None:
                    results.append(await send_go(engine))

                group.start_soon(first)
                await hang.reached.wait()
                group.start_soon(second)
                scope.cancel()
        assert results == [Outcome.TRANSITIONED]
        assert store.calls["load"] == 2
        assert store.kept["t"][1:3] == ("c", {"n": 2})

    async def test_register_while_it_loads(self) -> None:
        """K4: A `register` that is cancelled while it loads has registered nothing."""
        store, hang, tally = DictStore(), Hang(), Tally("t")
        store.put("t", "b", {"n": 1})
        engine = Engine(store=store)
        store.after["load"] = once(hang)
        await cancelled_at(hang.reached, engine.register, tally)
        assert (dict(engine.components), is_idle(engine)) == ({}, True)
        assert (tally.state, tally.n) == ("a", 0)
        await engine.register(tally)
        assert (tally.state, tally.n) == ("b", 1)


class TestRegister:
    """Components that are registered by hand."""

    async def test_loads(self) -> None:
        """K4: `register` puts in what is stored, before the component is registered."""
        store, seen = DictStore(), list[object]()
        store.put("t", "b", {"n": 5})
        engine, tally = Engine(store=store), Tally("t")
        await engine.bus.subscribe(
            COMPONENT_REGISTERED, "observer", lambda data: seen.append((tally.state, tally.n))
        )
        await engine.register(tally)
        assert seen == [("b", 5)]
        await engine.send("t", GO)
        assert store.kept["t"][1:3] == ("c", {"n": 6})

    async def test_keeps_its_state_where_nothing_is_stored(self) -> None:
        """K4: With nothing stored a component goes on in the state that it is in."""
        store, tally = DictStore(), Tally("t")
        await tally.handle_message(GO)
        engine = Engine(store=store)
        await engine.register(tally)
        assert (tally.state, tally.n) == ("b", 1)
        await engine.send("t", GO)
        assert store.kept["t"][1:3] == ("c", {"n": 2})

    async def test_senders_wait_for_it(self) -> None:
        """K4: A send to a name that is being loaded for `register` waits, and does not load."""
        store, gate, results = DictStore(), Gate(), list[object]()
        store.put("t", "b", {"n": 5})
        engine = Engine(store=store)
        store.before["load"] = gate
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(engine.register, Tally("t"))
                await gate.reached.wait()

                async def send() -> None:
                    results.append(await send_go(engine))

                group.start_soon(send)
                with pytest.raises(DuplicateComponent):
                    await engine.register(Tally("t"))
                gate.open.set()
        assert results == [Outcome.TRANSITIONED]
        assert (store.calls["load"], store.state("t")) == (1, "c")

    @pytest.mark.parametrize("way", ["register", "factory"])
    async def test_of_a_component_of_another_engine_changes_nothing(self, way: str) -> None:
        """K4: What is refused is not changed: another engine's component keeps its state."""
        store, tally = DictStore(), Tally("t")
        other = Engine()
        await other.register(tally)
        store.put("t", "c", {"n": 5})
        engine = Engine(component_factory=lambda name: tally, store=store)
        with pytest.raises(ComponentError, match="is registered already"):
            await (engine.register(tally) if way == "register" else engine.send("t", GO))
        assert (tally.state, tally.n) == ("a", 0)
        await other.send("t", GO)
        assert store.saved == []

    async def test_in_two_engines_at_once_changes_nothing(self) -> None:
        """K4: Of two engines that load the same component, the second changes nothing of it."""
        store, gate, tally = DictStore(), Gate(), Tally("t")
        store.put("t", "c", {"n": 5})
        store.after["load"] = gate
        with fail_after(PATIENCE), pytest.raises(ComponentError, match="is registered already"):
            try:
                async with create_task_group() as group:
                    group.start_soon(Engine(store=store).register, tally)
                    await gate.reached.wait()
                    await Engine().register(tally)
                    gate.open.set()
            except* ComponentError as excs:
                raise excs.exceptions[0] from None
        assert (tally.state, tally.n) == ("a", 0)


class TestUnregister:
    """Components that are unregistered."""

    async def test_deletes_nothing(self) -> None:
        """K4: What is stored stays, and the next send loads it."""
        store = DictStore()
        engine = hosting(store)
        await engine.send("t", GO)
        first = engine.components["t"]
        await engine.unregister("t")
        assert (store.calls["delete"], store.state("t")) == (0, "b")
        await engine.send("t", GO)
        assert engine.components["t"] is not first
        assert store.kept["t"][1:3] == ("c", {"n": 2})

    async def test_may_be_registered_again(self) -> None:
        """K4: Registered again, the same object gets what is stored meanwhile."""
        store, tally = DictStore(), Tally("t")
        engine = Engine(store=store)
        await engine.register(tally)
        await engine.send("t", GO)
        await engine.unregister("t")
        store.put("t", "a", {"n": 50})
        await engine.register(tally)
        assert (tally.state, tally.n) == ("a", 50)
        await engine.send("t", GO)
        assert store.kept["t"][1:3] == ("b", {"n": 51})

    async def test_and_deleted(self) -> None:
        """K4: Registered again when nothing is stored any more, it goes on and is stored anew."""
        store, tally = DictStore(), Tally("t")
        engine = Engine(store=store)
        await engine.register(tally)
        await engine.send("t", GO)
        await engine.unregister("t")
        await store.delete("t")
        await engine.register(tally)
        await engine.send("t", GO)
        assert store.kept["t"][1:3] == ("c", {"n": 2})

    async def test_may_go_to_an_engine_without_a_store(self) -> None:
        """K4: In an engine without a store it goes on in its state, and nothing is stored."""
        store, tally = DictStore(), Tally("t")
        engine, other = Engine(store=store), Engine()
        await engine.register(tally)
        await engine.send("t", GO)
        await engine.unregister("t")
        await other.register(tally)
        await other.send("t", GO)
        assert (tally.state, store.state("t")) == ("c", "b")

    async def test_while_a_message_saves(self) -> None:
        """K4: What the message in hand saves then is what the next send loads, or a conflict."""
        store, gate = DictStore(), Gate()
        engine = hosting(store)
        store.before["save"] = gate
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(engine.send, "t", GO)
                await gate.reached.wait()
                await engine.unregister("t")
                assert await engine.send("t", {"type": "other"}) is Outcome.IGNORED
                gate.open.set()
        results = [type(await send_go(engine)).__name__ for _ in range(2)]
        assert results == ["StateConflict", "Outcome"]
        assert store.kept["t"][1:3] == ("c", {"n": 2})


class TestStore:
    """What an engine accepts as a store."""

    @pytest.mark.parametrize(
        "given", [{}, "state.db", DictStore, object()], ids=["dict", "str", "class", "object"]
    )
    async def test_other_things_are_refused(self, given: Any) -> None:
        """K4: A store that lacks a method, or is a class, is a TypeError that says what it has."""
        with pytest.raises(TypeError, match="must have the methods load, save, due and delete"):
            Engine(store=given)


class TestKeepIn:
    """A store that an engine is given after it was made."""

    async def test_components_get_what_is_stored(self) -> None:
        """K4: Those that are registered get what is stored of them, and are saved from then on."""
        engine, store = Engine(component_factory=tallies(CYCLE)), DictStore()
        await engine.register(Tally("t"))
        await engine.register(Tally("u"))
        store.put("t", "b", {"n": 5})
        store.put("v", "c", {"n": 7})
        await keep_in(engine, store)
        assert engine.components["t"].state == "b"
        for name in "tuv":
            await engine.send(name, GO)
        kept = {name: stored[1:3] for name, stored in store.kept.items()}
        assert kept == {"t": ("c", {"n": 6}), "u": ("b", {"n": 1}), "v": ("a", {"n": 8})}

    async def test_state_stays_where_nothing_is_stored(self) -> None:
        """K4: A component of which nothing is stored goes on in its state."""
        engine, store = Engine(component_factory=tallies(CYCLE)), DictStore()
        await engine.send("t", GO)
        await keep_in(engine, store)
        assert engine.components["t"].state == "b"
        await engine.send("t", GO)
        assert store.kept["t"][1:3] == ("c", {"n": 2})

    @pytest.mark.parametrize("trouble", ["down", "unknown state", "restore"])
    async def test_that_fails_gives_no_store(self, trouble: str) -> None:
        """K4: If one component can't be loaded the engine has no store, and goes on without."""
        engine, store = Engine(component_factory=tallies(CYCLE)), DictStore()
        for name in "tu":
            await engine.send(name, GO)
        store.put("t", "c", {"n": 5})
        store.put("u", "lost" if trouble == "unknown state" else "b", {})
        if trouble == "down":
            store.before["load"] = down
        error = {"down": Down, "unknown state": UnknownState, "restore": KeyError}[trouble]
        with pytest.raises(error):
            await keep_in(engine, store)
        assert await engine.send("u", GO) is Outcome.TRANSITIONED
        await engine.send("new", GO)
        assert store.saved == []


class TestFactory:
    """Factories that go wrong."""

    async def test_that_raises_leaves_what_is_stored(self) -> None:
        """K4: A factory that raises registers nothing, and the next send loads and asks again."""
        store, failures = DictStore(), [Boom()]
        store.put("t", "b", {"n": 1})

        def make(name: str) -> Component:
            for failure in failures:
                raise failure
            return Tally(name)

        engine = Engine(component_factory=make, store=store)
        with pytest.raises(Boom):
            await engine.send("t", GO)
        failures.clear()
        await engine.send("t", GO)
        assert (store.calls["load"], store.kept["t"][1:3]) == (2, ("c", {"n": 2}))

    async def test_that_changes_what_is_stored(self) -> None:
        """K4: What changes between load and registering is found at the first save, as K3 says."""
        store = DictStore()
        store.put("t", "a")

        def make(name: str) -> Component:
            store.put("t", "b", {"n": 9})
            return Tally(name, machine=cycle())

        engine = Engine(component_factory=make, store=store)
        assert type(await send_go(engine)).__name__ == "StateConflict"
        assert await send_go(engine) is Outcome.TRANSITIONED
        assert store.kept["t"][1:3] == ("c", {"n": 10})

    async def test_that_asks_for_the_same_name(self) -> None:
        """K4: Loading does not change that a factory can't send to what it makes (C2)."""
        store = DictStore()

        async def make(name: str) -> Component:
            await engine.send(name, GO)
            return Tally(name)

        engine = Engine(component_factory=make, store=store)
        with pytest.raises(ComponentError, match="while it is being made"):
            await engine.send("t", GO)
        assert is_idle(engine)


def test_transitions_of_the_helpers_form_a_cycle() -> None:
    """K4: The machine of these tests has the states that the tests speak of."""
    assert CYCLE.states == ("a", "b", "c")
    assert CYCLE.transitions[0].trigger == Transition("a", "go", "b").trigger
