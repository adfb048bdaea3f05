"""Engines that hold a bounded number of components in memory (K5)."""

import gc
import sys
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

import anyio
import pytest
from anyio import create_task_group, fail_after, sleep

from flexiflow import (
    Component,
    Engine,
    Outcome,
    Query,
    State,
    StateMachine,
    Transition,
    UnknownComponent,
    answers,
    on,
)
from flexiflow._actor import Actor
from flexiflow._component import actor_of
from flexiflow._residents import Residents
from flexiflow._stores import Stored
from flexiflow._subscription import Filter
from flexiflow.events import COMPONENT_REGISTERED, MESSAGE_RECEIVED, STATE_CHANGED
from flexiflow.testing import cancel_everywhere, explore
from tests.accounting import Boom
from tests.helpers import PATIENCE, tracing
from tests.hosting import GO, Diary, Gate, cancelled_at, is_idle, run_clocked
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
)

OTHER = {"type": "other"}


def bounded(most: int, store: DictStore | None = None, machine: StateMachine = CYCLE) -> Engine:
    """Make an engine that holds so many components."""
    return hosting(DictStore() if store is None else store, machine, max_components=most)


async def send_each(engine: Engine, names: str) -> None:
    """Send to each, one after another."""
    for name in names:
        await engine.send(name, GO)


def loaded(engine: Engine) -> str:
    """Return which are in memory."""
    return "".join(sorted(engine.components))


class TestArgument:
    """The argument `max_components`."""

    @pytest.mark.parametrize("given", [0, -1, True, 1.0, "3", float("nan")])
    def test_other_numbers_are_refused(self, given: Any) -> None:
        """K5: A number that is not an int of 1 or more is a ValueError that shows it."""
        with pytest.raises(ValueError, match="max_components must be an int, 1 or more"):
            Engine(component_factory=Tally, store=DictStore(), max_components=given)

    def test_needs_a_store(self) -> None:
        """K5: Without a store nothing could be loaded again."""
        with pytest.raises(ValueError, match="max_components=3 needs a store"):
            Engine(component_factory=Tally, max_components=3)

    def test_needs_a_factory(self) -> None:
        """K5: Without a factory nothing could be made again."""
        with pytest.raises(ValueError, match="max_components=3 needs a store, and a component_fac"):
            Engine(store=DictStore(), max_components=3)

    async def test_none_unloads_nothing(self) -> None:
        """K5: Without a bound every component stays in memory."""
        engine = hosting(DictStore(), max_components=None)
        await send_each(engine, "abcdefgh")
        assert loaded(engine) == "abcdefgh"


class TestOrder:
    """Which of them are unloaded."""

    @pytest.mark.parametrize("most", [1, 2, 5])
    async def test_those_not_used_longest(self, most: int) -> None:
        """K5: So many stay in memory as may, those that were used last."""
        engine = bounded(most)
        await send_each(engine, "abcdefgh")
        assert loaded(engine) == "abcdefgh"[-most:]

    async def test_use_counts_and_not_the_making(self) -> None:
        """K5: A component that was sent a message again is not the one not used longest."""
        engine = bounded(3)
        await send_each(engine, "abcabad")
        assert loaded(engine) == "abd"

    @pytest.mark.parametrize("message", [OTHER, {"type": "boom"}], ids=["ignored", "failed"])
    async def test_every_message_is_a_use(self, message: dict[str, Any]) -> None:
        """K5: A message that is ignored or fails is a use, too."""

        def fail(message: object, component: object) -> None:
            raise Boom

        rows = [*CYCLE.transitions, Transition("*", "boom", None, action=fail)]
        engine = bounded(2, machine=StateMachine("a", rows))
        await send_each(engine, "ab")
        try:
            await engine.send("a", message)
        except Boom:
            assert message["type"] == "boom"
        await send_each(engine, "c")
        assert loaded(engine) == "ac"

    async def test_those_registered_by_hand_stay(self) -> None:
        """K5: What the factory did not make is neither unloaded nor counted."""
        engine = bounded(2)
        for name in "xyz":
            await engine.register(Tally(name))
        await send_each(engine, "xyzabcd")
        assert loaded(engine) == "cdxyz"

    async def test_unregistered_ones_do_not_count(self) -> None:
        """K5: Unregistering makes room."""
        engine = bounded(2)
        await send_each(engine, "ab")
        await engine.unregister("b")
        await send_each(engine, "c")
        assert loaded(engine) == "ac"
        await send_each(engine, "d")
        assert loaded(engine) == "cd"

    async def test_unregistered_and_registered_by_hand(self) -> None:
        """K5: A name that was made by the factory may be registered by hand, and stays then."""
        engine = bounded(1)
        await send_each(engine, "a")
        await engine.unregister("a")
        await engine.register(Tally("a"))
        await send_each(engine, "abc")
        assert loaded(engine) == "ac"

    async def test_one_whose_registering_was_cancelled_counts(self) -> None:
        """K5: One that has not handled a message yet is unloaded as the others are."""
        gate = Gate()
        engine = bounded(1)
        await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", gate, once=True)
        await cancelled_at(gate.reached, engine.send, "a", GO)
        assert loaded(engine) == "a"
        await send_each(engine, "bc")
        assert loaded(engine) == "c"

    async def test_one_too_many_whose_registering_was_cancelled_goes_at_once(self) -> None:
        """K5: One that was cancelled before its message is unloaded if there are too many."""
        gate = Gate()
        engine = bounded(1)
        await engine.send("a", GO)
        await engine.bus.subscribe("order.placed", "a", print)
        await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", gate, once=True)
        await cancelled_at(gate.reached, engine.send, "b", GO)
        assert loaded(engine) == "a"


class TestLoadedAgain:
    """Components that come back."""

    async def test_goes_on_where_it_stopped(self) -> None:
        """K5: An unloaded component is loaded by its next message, with state and data."""
        store = DictStore()
        engine = bounded(1, store)
        await send_each(engine, "abababab")
        assert store.kept["a"][1:3] == store.kept["b"][1:3] == ("b", {"n": 4})

    async def test_nothing_is_published(self) -> None:
        """K5: Unloading and loading publish nothing; only one that is not stored is registered."""
        engine = bounded(1)
        diary = await Diary().keep(engine.bus)
        await send_each(engine, "aba")
        assert diary.lines == [
            "a registered",
            "a go",
            "a a b",
            "b registered",
            "b go",
            "b a b",
            "a go",
            "a b c",
        ]

    async def test_attributes_that_are_not_stored_are_gone(self) -> None:
        """K5: What `snapshot` does not carry is lost, and what it carries is not."""
        engine = bounded(1)
        await send_each(engine, "a")
        first: Any = engine.components["a"]
        first.unsaved = 7
        await send_each(engine, "ba")
        again: Any = engine.components["a"]
        assert again is not first
        assert (again.n, again.unsaved) == (2, 0)

    async def test_unknown_ones_are_forgotten(self) -> None:
        """K5: A component that has stored nothing begins anew when it is made again."""
        store = DictStore()
        engine = bounded(1, store)
        for name in "aba":
            assert await engine.send(name, OTHER) is Outcome.IGNORED
        assert (loaded(engine), store.kept) == ("a", {})

    async def test_those_in_line_are_served_in_order(self) -> None:
        """K5: Messages to one component are handled one at a time however often it is loaded."""
        store, order = DictStore(), list[tuple[str, int]]()

        async def note(message: dict[str, Any], component: Tally) -> None:
            component.n += 1
            order.append((component.name, message["n"]))

        engine = bounded(1, store, cycle(note))
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                for n in range(10):
                    for name in "abc":
                        group.start_soon(engine.send, name, GO | {"n": n})
                        await anyio.lowlevel.checkpoint()
        for name in "abc":
            assert [n for who, n in order if who == name] == [*range(10)]
            assert store.kept[name].data == {"n": 10}

    @pytest.mark.unmeasured
    def test_under_every_schedule(self, backend: str) -> None:
        """K5: Under any schedule no message is lost, none handled twice, and the bound holds."""

        async def scenario() -> None:
            store = DictStore()
            engine = bounded(1, store)
            async with create_task_group() as group:
                for name in "abab":
                    group.start_soon(engine.send, name, GO)
            assert {name: kept[1:3] for name, kept in store.kept.items()} == {
                "a": ("c", {"n": 2}),
                "b": ("c", {"n": 2}),
            }
            assert len(engine.components) == 1

        explore(scenario, backend=backend, schedules=80, seed=3)


def test_cancelled_anywhere(backend: str) -> None:
    """K5: Wherever senders are cancelled, both components go on from what is stored of them."""
    engines: list[tuple[Engine, DictStore]] = []

    async def scenario() -> None:
        store = DictStore()
        engine = bounded(1, store)
        engines.append((engine, store))
        for name in "ab":
            store.put(name, "a", {"n": 0})
        async with create_task_group() as group:
            for name in "abab":
                group.start_soon(engine.send, name, GO)

    async def check() -> None:
        for engine, store in engines:
            for name in "ab":
                before: Any = store.kept[name].data
                assert await engine.send(name, GO) is Outcome.TRANSITIONED
                number = before["n"] + 1
                assert store.kept[name][1:3] == ("abca"[number], {"n": number})
            assert loaded(engine) == "b"
            assert is_idle(engine)
        engines.clear()

    assert cancel_everywhere(scenario, backend=backend, check=check) > 10


PRICE = Query[str, int]("price.asked")


class TestBusy:
    """Components that stay although there are more than may."""

    async def check_that_it_stays(self, engine: Engine) -> None:
        """Send to others, and look for the component called "t"."""
        await send_each(engine, "abc")
        assert loaded(engine) == "t"
        assert await engine.send("a", OTHER) is Outcome.IGNORED
        assert loaded(engine) == "t"

    async def check_that_it_goes(self, engine: Engine) -> None:
        """Look whether the component called "t" can be unloaded now."""
        await send_each(engine, "ab")
        assert loaded(engine) == "b"

    async def test_with_a_message_in_hand(self) -> None:
        """K5: A component whose message is in hand stays, and goes afterwards."""
        gate = Gate()

        async def wait(message: dict[str, Any], component: Component) -> None:
            if "wait" in message:
                await gate()

        engine = bounded(1, machine=cycle(wait))
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(engine.send, "t", GO | {"wait": True})
                await gate.reached.wait()
                await self.check_that_it_stays(engine)
                gate.open.set()
        await self.check_that_it_goes(engine)

    async def test_with_waiting_senders(self) -> None:
        """K5: One whose message is over stays while another sender waits for it."""
        gates, results = [Gate(), Gate()], list[object]()

        async def wait(message: dict[str, Any], component: Component) -> None:
            await gates[message.get("wait", 0)]()

        engine = bounded(1, machine=cycle(wait))
        store: Any = engine._hosting.store

        async def send(n: int) -> None:
            results.append(await engine.send("t", GO | {"wait": n}))

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(send, 0)
                await gates[0].reached.wait()
                first = engine.components["t"]
                group.start_soon(send, 1)
                gates[0].open.set()
                await gates[1].reached.wait()
                assert engine.components["t"] is first
                await send_each(engine, "abc")
                assert engine.components["t"] is first
                gates[1].open.set()
        assert store.calls["load"] == 4
        assert results == [Outcome.TRANSITIONED] * 2

    async def test_with_deferred_messages(self) -> None:
        """K5: One with messages that a cancelled send left behind stays until they are handled."""
        store, hang = DictStore(), Hang()

        async def defer_and_hang(message: dict[str, Any], component: Component) -> None:
            if "wait" in message:
                await engine.send("t", GO)
                await hang()

        engine = bounded(1, store, cycle(defer_and_hang))
        await cancelled_at(hang.reached, engine.send, "t", GO | {"wait": True})
        await self.check_that_it_stays(engine)
        await engine.send("t", OTHER)
        assert store.state("t") == "b"
        await self.check_that_it_goes(engine)

    def test_with_work(self, backend: str) -> None:
        """K5: One whose work is not over stays; then it goes."""
        rows = [Transition("a", "go", "b"), Transition("b", "go", "a")]

        async def scenario() -> None:
            gate = Gate()

            async def work(component: Component) -> None:
                if component.name == "t":
                    await gate()

            machine = StateMachine("a", rows, states=[State("b", during=work)])
            engine = bounded(1, machine=machine)
            async with engine.running():
                await engine.send("t", GO)
                await gate.reached.wait()
                await send_each(engine, "abc")
                await sleep(0.1)
                assert loaded(engine) == "t"
                gate.open.set()
                await sleep(0.1)
                await send_each(engine, "de")
                await sleep(0.1)
                assert loaded(engine) == "e"

        run_clocked(scenario, backend)

    async def test_with_a_subscription(self) -> None:
        """K5: One under whose name something is subscribed stays until that is over."""
        engine = bounded(1)
        await engine.send("t", GO)
        subscription = await engine.bus.subscribe("order.placed", "t", print)
        await self.check_that_it_stays(engine)
        engine.bus.unsubscribe(subscription)
        await self.check_that_it_goes(engine)

    async def test_with_an_answer(self) -> None:
        """K5: One that answers under its name stays until that is over."""
        engine = bounded(1)
        await engine.send("t", GO)
        subscription = await engine.bus.answer(PRICE, "t", len)
        await self.check_that_it_stays(engine)
        engine.bus.unsubscribe(subscription)
        await self.check_that_it_goes(engine)

    async def test_with_marked_methods(self) -> None:
        """K5: One whose methods are subscribed as it is registered stays, and is announced once."""

        class Clerk(Tally):
            @on("order.placed")
            def place(self, data: object) -> None:
                self.n += 1

        class Seller(Tally):
            @answers(PRICE)
            def quote(self, item: str) -> int:
                return len(item)

        kinds = {"c": Clerk, "s": Seller}
        engine = Engine(
            component_factory=lambda name: kinds.get(name, Tally)(name),
            store=DictStore(),
            max_components=1,
        )
        await send_each(engine, "cdsefgh")
        assert loaded(engine) == "cs"
        assert await engine.bus.ask(PRICE, "pen") == 3

    async def test_that_may_not_be_stored(self) -> None:
        """K5: One of which it is not certain what is stored stays until it has been loaded."""
        store = DictStore()
        engine = bounded(1, store)
        store.after["save"] = once(down)
        assert isinstance(await send_go(engine), Down)
        await self.check_that_it_stays(engine)
        await engine.send("t", OTHER)
        await self.check_that_it_goes(engine)

    async def test_being_made(self) -> None:
        """K5: One whose observers are still told that it is registered stays for its message."""
        gate = Gate()
        engine = bounded(1)
        await engine.bus.subscribe(COMPONENT_REGISTERED, "observer", gate, once=True)
        results: list[object] = []

        async def send() -> None:
            results.append(await engine.send("t", GO))

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(send)
                await gate.reached.wait()
                await self.check_that_it_stays(engine)
                gate.open.set()
        assert results == [Outcome.TRANSITIONED]
        await self.check_that_it_goes(engine)

    async def test_many_do_not_keep_others_in_memory(self) -> None:
        """K5: However many are busy, those that are not are unloaded at once."""
        engine = bounded(1)
        for n in range(50):
            await engine.bus.subscribe("order.placed", f"busy-{n}", print)
            await engine.send(f"busy-{n}", GO)
        for name in "abcdef":
            await engine.send(name, GO)
            assert len(engine.components) == 50
        assert "f" not in engine.components

    async def test_those_that_were_busy_go_first(self) -> None:
        """K5: One that was not used longest is unloaded first when it is not busy any more."""
        engine = bounded(2)
        await send_each(engine, "t")
        subscription = await engine.bus.subscribe("order.placed", "t", print)
        await send_each(engine, "abc")
        assert loaded(engine) == "ct"
        engine.bus.unsubscribe(subscription)
        await send_each(engine, "d")
        assert loaded(engine) == "cd"

    async def test_observers_may_send_back(self) -> None:
        """K5: An observer that sends to the component being loaded or handled finds it there."""
        store = DictStore()
        engine = bounded(1, store)
        outcomes: list[object] = []

        async def send_back(data: Mapping[str, Any]) -> None:
            if data.get("message", {}).get("type") != "other":
                outcomes.append(await engine.send(data["component"], OTHER))
                await engine.send("z", OTHER)

        for event in (COMPONENT_REGISTERED, MESSAGE_RECEIVED, STATE_CHANGED):
            await engine.bus.subscribe(event, "observer", send_back, filter=_is_of("ab"))
        with fail_after(PATIENCE):
            await send_each(engine, "abab")
        assert set(outcomes) == {Outcome.IGNORED, Outcome.DEFERRED}
        assert len(outcomes) == 2 * 3 + 2 * 2
        assert store.kept["a"][1:3] == store.kept["b"][1:3] == ("c", {"n": 2})
        assert len(engine.components) == 1


def _is_of(names: str) -> Filter:
    def accepts(event: str, data: Any) -> bool:
        return data["component"] in names

    return accepts


class TestUnloadedObject:
    """The object that stood for a component, after it was unloaded."""

    async def test_handles_no_message(self) -> None:
        """K5: `handle_message` of an unloaded object is UnknownComponent; nothing is saved."""
        store = DictStore()
        engine = bounded(1, store)
        await send_each(engine, "a")
        tally: Any = engine.components["a"]
        await send_each(engine, "b")
        with pytest.raises(UnknownComponent) as caught:
            await tally.handle_message(GO)
        assert caught.value.name == "a"
        assert (tally.state, tally.n, store.state("a")) == ("b", 1, "b")

    async def test_message_is_checked_first(self) -> None:
        """K5: A value that is no message is refused as ever (C5)."""
        engine = bounded(1)
        await send_each(engine, "a")
        tally = engine.components["a"]
        await send_each(engine, "b")
        with pytest.raises(ValueError, match="must have a str 'type'"):
            await tally.handle_message({})

    async def test_may_be_registered_again(self) -> None:
        """K5: Registered by hand it is loaded, handles messages again, and stays in memory."""
        store = DictStore()
        engine = bounded(1, store)
        await send_each(engine, "a")
        tally: Any = engine.components["a"]
        await send_each(engine, "b")
        store.put("a", "c", {"n": 40})
        await engine.register(tally)
        assert (tally.state, tally.n) == ("c", 40)
        await tally.handle_message(GO)
        await send_each(engine, "cd")
        assert loaded(engine) == "ad"
        assert store.kept["a"][1:3] == ("a", {"n": 41})

    async def test_may_go_to_an_engine_without_a_store(self) -> None:
        """K5: Any engine may register it."""
        engine, other = bounded(1), Engine()
        await send_each(engine, "a")
        tally = engine.components["a"]
        await send_each(engine, "b")
        await other.register(tally)
        assert await tally.handle_message(GO) is Outcome.TRANSITIONED

    async def test_factory_may_give_it_again(self) -> None:
        """K5: A factory that keeps its components may give the same object again."""
        store, kept = DictStore(), dict[str, Tally]()

        def make(name: str) -> Tally:
            return kept.setdefault(name, Tally(name))

        engine = Engine(component_factory=make, store=store, max_components=1)
        await send_each(engine, "ababa")
        assert store.kept["a"][1:3] == ("a", {"n": 3})
        assert engine.components["a"] is kept["a"]

    async def test_is_freed(self) -> None:
        """K5: Nothing holds an unloaded object, with the collector off."""
        engine = bounded(2)
        await send_each(engine, "ab")
        alive = WeakSet(engine.components.values())
        gc.disable()
        try:
            await send_each(engine, "cd")
            assert len(alive) == 0
        finally:
            gc.enable()


class TestDue:
    """Components that are unloaded while their timers run."""

    ROWS = (Transition("a", "go", "b"), Transition("b", "late", "a"))

    def test_comes_back_when_its_time_has_come(self, backend: str) -> None:
        """K5: One that was unloaded is loaded when its stored time comes, and goes again."""
        machine = StateMachine("a", self.ROWS, states=[State("b", after=(30.0, "late"))])

        async def scenario() -> None:
            store = DictStore()
            engine = bounded(1, store, machine)
            diary = await Diary().keep(engine.bus)
            async with engine.running():
                await send_each(engine, "tu")
                await sleep(1.0)
                assert loaded(engine) == "u"
                await sleep(32.0)
                assert diary.changes("t") == diary.changes("u") == [("a", "b"), ("b", "a")]
                assert len(engine.components) == 1
                await sleep(100.0)
            assert [line for line in diary.lines if line.endswith("late")] == ["u late", "t late"]
            assert (store.state("t"), store.state("u")) == ("a", "a")

        run_clocked(scenario, backend)

    def test_start_state_with_a_timer_is_saved_first(self, backend: str) -> None:
        """K5: One whose start state has a timer stays until its time is stored."""
        rows = [Transition("a", "late", "b"), Transition("b", "go", "a")]
        machine = StateMachine("a", rows, states=[State("a", after=(30.0, "late"))])

        async def scenario() -> None:
            store = DictStore()
            engine = bounded(1, store, machine)
            store.before["save"] = down
            async with engine.running():
                for name in "tuv":
                    await engine.send(name, OTHER)
                await sleep(5.0)
                assert loaded(engine) == "tuv"
                store.before.clear()
                await sleep(5.0)
                assert len(engine.components) == 1
                await sleep(30.0)
                assert [store.state(name) for name in "tuv"] == ["b"] * 3

        run_clocked(scenario, backend)


class NoMemory:
    """A store of components that are all in the same state; it keeps their versions alone."""

    def __init__(self, number: int) -> None:
        self._versions = bytearray(number)

    async def load(self, name: str) -> Stored | None:
        """Return what is stored."""
        version = self._versions[int(name)]
        return Stored(version, "a", None, None) if version else None

    async def save(
        self, name: str, state: str, data: object, *, expected: int, due: float | None = None
    ) -> int:
        """Store a component."""
        assert self._versions[int(name)] == expected
        self._versions[int(name)] += 1
        return expected + 1

    async def due(self, until: float, limit: int) -> list[str]:
        """Return what is due: nothing."""
        return []

    async def delete(self, name: str) -> None:
        """Forget a component."""
        self._versions[int(name)] = 0


LOOP = StateMachine("a", [Transition("a", "go", "a")])


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
def test_many_components_leave_nothing(backend: str) -> None:
    """K5: However many components were sent messages, so many are in memory as may be."""

    async def scenario() -> None:
        number = 20_000 if backend == "asyncio" else 5_000
        alive: WeakSet[Component] = WeakSet()

        def make(name: str) -> Component:
            component = Component(name, machine=LOOP)
            alive.add(component)
            return component

        engine = Engine(component_factory=make, store=NoMemory(number), max_components=100)
        blocks = 0
        for n in range(number):
            await engine.send(str(n), GO)
            if n == number // 5:
                gc.collect()
                blocks = sys.getallocatedblocks()
        assert len(engine.components) == 100
        assert len(alive) <= 101
        gc.collect()
        assert sys.getallocatedblocks() < blocks + 1_000

    anyio.run(scenario, backend=backend)


async def lines_of(number: int, *, busy: int, most: int) -> int:
    """Count the lines that 100 messages to 100 components take, when so many are there before."""
    store = DictStore()
    engine = bounded(most, store)
    for n in range(busy):
        await engine.bus.subscribe("order.placed", f"busy-{n}", print)
        await engine.send(f"busy-{n}", GO)
    for n in range(number):
        await engine.send(str(n), GO)
    with tracing() as trace:
        for n in range(100):
            await engine.send(f"new-{n}", GO)
    return trace.lines


@pytest.mark.unmeasured
@pytest.mark.parametrize("kind", ["idle", "busy"])
async def test_unloading_looks_at_few(kind: str) -> None:
    """K5: The effort of a message does not grow with the components there are, busy or not."""
    if kind == "idle":
        lines = [await lines_of(number, busy=0, most=400) for number in (401, 1_200)]
    else:
        lines = [await lines_of(0, busy=number, most=1) for number in (40, 200)]
    few, many = lines
    assert many < few * 1.1


def test_those_that_could_not_be_unloaded_are_each_asked_again() -> None:
    """K5: Where there are too many, also the last of them, however long it was busy."""
    asked = list[str]()

    def unload(actor: Actor) -> bool:
        asked.append(actor.name)
        return len(asked) > 5

    residents = Residents(1, unload)
    first, second, other = (actor_of(Component(name)) for name in "abc")
    for each in (first, second):
        residents.add(each)
    for _ in range(2):
        residents.rest(other)
    assert asked == ["a", "b"] * 3


async def test_cancelled_while_it_loads() -> None:
    """K5: An asker that is cancelled while the component is loaded again leaves no trace."""
    store, hang = DictStore(), Hang()
    engine = bounded(1, store)
    await send_each(engine, "ab")
    store.before["load"] = once(hang)
    await cancelled_at(hang.reached, engine.send, "a", GO)
    assert loaded(engine) == "b"
    await send_each(engine, "a")
    assert (loaded(engine), store.kept["a"][1:3]) == ("a", ("c", {"n": 2}))
