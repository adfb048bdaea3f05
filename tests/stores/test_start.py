"""The state in which a component starts, and what it has beside its state (K1)."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from flexiflow import Component, Engine, EventBus, Outcome, State, StateMachine, Transition
from flexiflow.events import COMPONENT_REGISTERED, MESSAGE_RECEIVED, STATE_CHANGED
from tests.accounting import Boom
from tests.helpers import Later, never
from tests.hosting import GO, Diary
from tests.stores.keeping import CYCLE, STAY, DictStore, Tally, count, cycle


class TestState:
    """The argument `state`."""

    @pytest.mark.parametrize("state", ["a", "b", "c"])
    def test_component_starts_in_it(self, state: str) -> None:
        """K1: A component starts in the state that is given; any of the machine's will do."""
        assert Component("x", machine=CYCLE, state=state).state == state

    def test_is_the_machines_initial_one_by_default(self) -> None:
        """K1: Without a start state it is the machine's initial one, and None without a machine."""
        assert Component("x", machine=CYCLE, state=None).state == "a"
        assert Component("x").state is None

    @pytest.mark.parametrize("state", ["A", "", "*", "lost\n"])
    def test_unknown_one_is_refused(self, state: str) -> None:
        """K1: A state that the machine does not have is a ValueError that names those it has."""
        with pytest.raises(ValueError, match=r"one of the machine's, 'a', 'b', 'c', not") as caught:
            Component("x", machine=CYCLE, state=state)
        assert repr(state) in str(caught.value)

    @pytest.mark.parametrize("state", [1, b"a", ["a"]])
    def test_that_is_no_str_is_refused(self, state: Any) -> None:
        """K1: A state that is not a str is a TypeError that shows it."""
        with pytest.raises(TypeError, match="state must be a str or None, not"):
            Component("x", machine=CYCLE, state=state)

    def test_without_a_machine_is_refused(self) -> None:
        """K1: A state without a machine is a TypeError that says what it needs."""
        with pytest.raises(TypeError, match="state needs a machine; given 'a' without one"):
            Component("x", state="a")

    async def test_nothing_is_published_for_it(self) -> None:
        """K1: A start state is no transition: no event, no `entry`; the next one leaves it."""
        rows = [Transition("a", "go", "b"), Transition("b", "go", "a")]
        machine = StateMachine("a", rows, states=[State("b", entry=never)])
        engine = Engine()
        diary = await Diary().keep(engine.bus)
        component = Component("x", machine=machine, state="b")
        await engine.register(component)
        assert diary.lines == ["x registered"]
        await engine.send("x", GO)
        assert diary.changes("x") == [("b", "a")]

    async def test_nothing_is_saved_for_it(self) -> None:
        """K1: A start state is not stored before the first transition."""
        store = DictStore()
        await Engine(store=store).register(Tally("x", state="b"))
        assert store.saved == []


class Plain(Component):
    """A component without attributes of its own."""


class TestSnapshot:
    """What a component has beside its state."""

    async def test_attributes_go_into_the_store_and_come_back(self) -> None:
        """K1: What `snapshot` returns is stored as JSON, and `restore` is given it."""
        store, given = DictStore(), list[object]()

        class Order(Component):
            def snapshot(self) -> Mapping[str, Any]:
                return {"lines": ("pen", 2), "note": None}

            def restore(self, data: Mapping[str, Any], /) -> None:
                given.append(data)

        engine = Engine(store=store)
        await engine.register(Order("x", machine=cycle(action=None)))
        await engine.send("x", GO)
        again = Order("x", machine=CYCLE)
        await Engine(store=store).register(again)
        assert (again.state, given) == ("b", [{"lines": ["pen", 2], "note": None}])

    async def test_is_optional(self) -> None:
        """K1: Without the two methods the state alone is stored, and nothing to restore."""
        store = DictStore()
        engine = Engine(store=store)
        await engine.register(Plain("x", machine=cycle(action=None)))
        await engine.send("x", GO)
        assert store.kept["x"][1:] == ("b", None, None)
        again = Plain("x", machine=CYCLE)
        await Engine(store=store).register(again)
        assert again.state == "b"

    async def test_is_not_restored_where_none_was_stored(self) -> None:
        """K1: `restore` is not called where the snapshot was None."""
        store = DictStore()
        store.put("x", "b")

        class Order(Component):
            def restore(self, data: Mapping[str, Any], /) -> None:
                never()

        order = Order("x", machine=CYCLE)
        await Engine(store=store).register(order)
        assert order.state == "b"

    async def test_an_empty_one_is_restored(self) -> None:
        """K1: An empty snapshot is not the same as none."""
        store, given = DictStore(), list[object]()
        store.put("x", "b", {})

        class Order(Component):
            def restore(self, data: Mapping[str, Any], /) -> None:
                given.append(data)

        await Engine(store=store).register(Order("x", machine=CYCLE))
        assert given == [{}]

    @pytest.mark.parametrize("given", [[], "n", 3, {1}, [("n", 1)]])
    async def test_that_is_no_mapping_fails_the_message(self, given: Any) -> None:
        """K1: A snapshot that is not a mapping is a TypeError that shows it; nothing is saved."""
        store = DictStore()
        component = await registered(store, snapshot=lambda: given)
        with pytest.raises(TypeError, match="must return a mapping or None, not ") as caught:
            await component.handle_message(GO)
        assert repr(given) in str(caught.value)
        assert "'x'" in str(caught.value)
        assert (component.state, store.kept) == ("a", {})

    async def test_that_is_async_fails_the_message(self) -> None:
        """K1: An async `snapshot` is a TypeError that says so, without a warning."""

        async def snapshot() -> Mapping[str, Any]:
            return {}

        store = DictStore()
        component = await registered(store, snapshot=snapshot)
        with pytest.raises(TypeError, match=r"snapshot of <Order 'x' .*> must not be async"):
            await component.handle_message(GO)
        assert (component.state, store.kept) == ("a", {})

    async def test_that_is_another_awaitable_fails_the_message(self) -> None:
        """K1: So is a `snapshot` that returns an awaitable that is no coroutine."""
        component = await registered(DictStore(), snapshot=lambda: Later(never, None))
        with pytest.raises(TypeError, match=r"snapshot of <Order 'x' .*> must not be async"):
            await component.handle_message(GO)

    @pytest.mark.parametrize("data", [{"n": {1}}, {"n": Boom()}, {(1, 2): 3}])
    async def test_that_is_no_json_fails_the_message(self, data: Any) -> None:
        """K1: What JSON can't hold fails the message; the state stays, and nothing is saved."""
        store = DictStore()
        component = await registered(store, snapshot=lambda: data)
        with pytest.raises(TypeError):
            await component.handle_message(GO)
        assert (component.state, store.kept) == ("a", {})

    async def test_that_raises_fails_the_message(self) -> None:
        """K1: What `snapshot` raises is the message's failure; the state stays, and is usable."""
        store, failures = DictStore(), [Boom()]

        def snapshot() -> Mapping[str, Any]:
            for failure in failures:
                raise failure
            return {"n": 7}

        component = await registered(store, snapshot=snapshot)
        with pytest.raises(Boom):
            await component.handle_message(GO)
        assert (component.state, store.calls["save"]) == ("a", 0)
        failures.clear()
        assert await component.handle_message(GO) is Outcome.TRANSITIONED
        assert store.kept["x"][1:3] == ("b", {"n": 7})

    async def test_that_raises_in_an_internal_transition(self) -> None:
        """K1: An internal transition saves, too, so its snapshot can fail it."""
        component = await registered(DictStore(), snapshot=raiser(Boom()))
        with pytest.raises(Boom):
            await component.handle_message(STAY)

    async def test_sees_what_the_action_did(self) -> None:
        """K1: `snapshot` is called when the transition's last action has run."""
        store = DictStore()
        engine = Engine(store=store)
        await engine.register(Tally("x"))
        for _ in range(2):
            await engine.send("x", GO)
        assert store.kept["x"].data == {"n": 2}

    async def test_is_not_taken_without_a_store(self) -> None:
        """K1: Without a store neither method is called."""

        class Order(Component):
            def snapshot(self) -> Mapping[str, Any] | None:
                never()

            def restore(self, data: Mapping[str, Any], /) -> None:
                never()

        engine = Engine()
        await engine.register(Order("x", machine=cycle(action=None)))
        assert await engine.send("x", GO) is Outcome.TRANSITIONED


class TestRestore:
    """A `restore` that goes wrong."""

    async def test_that_raises_on_registering(self) -> None:
        """K1: What `restore` raises leaves `register`; nothing is registered, the state stays."""
        store = DictStore()
        store.put("x", "b", {"n": 1})
        engine = Engine(store=store)
        diary = await Diary().keep(engine.bus)
        tally = Tally("x")
        setattr(tally, "restore", raiser(Boom()))  # noqa: B010  mypy allows no method to be set
        with pytest.raises(Boom):
            await engine.register(tally)
        assert (dict(engine.components), diary.lines, tally.state) == ({}, [], "a")
        delattr(tally, "restore")
        await engine.register(tally)
        assert (tally.state, tally.n) == ("b", 1)

    async def test_that_raises_on_loading(self) -> None:
        """K1: What `restore` raises leaves `send`; nothing is registered, the next send tries."""
        store, failures = DictStore(), [Boom()]
        store.put("x", "b", {"n": 1})

        class Order(Tally):
            def restore(self, data: Mapping[str, Any], /) -> None:
                for failure in failures:
                    raise failure
                super().restore(data)

        engine = Engine(store=store, component_factory=Order)
        with pytest.raises(Boom):
            await engine.send("x", GO)
        assert dict(engine.components) == {}
        failures.clear()
        await engine.send("x", GO)
        assert store.kept["x"][1:3] == ("c", {"n": 2})

    async def test_that_raises_on_loading_again(self) -> None:
        """K1: What `restore` raises fails the message before which it is loaded again."""
        store = DictStore()
        store.put("x", "a", {"n": 1})
        engine = Engine(store=store)
        tally = Tally("x")
        await engine.register(tally)
        store.put("x", "b", {"n": 5})
        with pytest.raises(Exception, match="another engine"):
            await engine.send("x", GO)
        setattr(tally, "restore", raiser(Boom()))  # noqa: B010  as above
        for _ in range(2):
            with pytest.raises(Boom):
                await engine.send("x", GO)
        assert (tally.state, store.state("x")) == ("a", "b")
        delattr(tally, "restore")
        await engine.send("x", GO)
        assert (tally.state, tally.n, store.state("x")) == ("c", 6, "c")

    @pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
    async def test_that_is_async(self, *, again: bool) -> None:
        """K1: An async `restore` is a TypeError that says so, without a warning."""
        store = DictStore()
        store.put("x", "a", {"n": 1})
        engine, tally = Engine(store=store), Tally("x")

        async def restore(data: object) -> None:
            await checkpoint()

        if again:
            await engine.register(tally)
            store.before["save"] = raiser_async(Boom())
            with pytest.raises(Boom):
                await engine.send("x", GO)
        setattr(tally, "restore", restore)  # noqa: B010  as above
        with pytest.raises(TypeError, match=r"restore of .* must not be async"):
            await (engine.send("x", GO) if again else engine.register(tally))


async def registered(store: DictStore, *, snapshot: Callable[[], object]) -> Component:
    """Register a component whose `snapshot` is this."""

    class Order(Tally):
        pass

    setattr(Order, "snapshot", staticmethod(snapshot))  # noqa: B010  mypy allows no method to be set
    component = Order("x", machine=cycle(action=count))
    await Engine(store=store).register(component)
    return component


def raiser(exception: Exception) -> Callable[..., Any]:
    """Make a function that raises."""

    def fail(*_: object) -> None:
        raise exception

    return fail


def raiser_async(exception: Exception) -> Callable[..., Awaitable[None]]:
    """Make an async function that raises."""

    async def fail(*_: object) -> None:
        raise exception

    return fail


async def test_bus_hears_nothing_of_a_store() -> None:
    """K1: Saving publishes nothing; a transition says what it says without a store."""
    heard: list[str] = []
    bus = EventBus()
    await bus.subscribe("**", "observer", lambda data: heard.append(data["component"]))
    engine = Engine(bus=bus, store=DictStore())
    await engine.register(Tally("x"))
    await engine.send("x", GO)
    assert heard == ["x"] * len((COMPONENT_REGISTERED, MESSAGE_RECEIVED, STATE_CHANGED))
