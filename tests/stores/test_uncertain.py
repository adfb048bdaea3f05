"""Components of which it is not certain what is stored, and engines that share a store (K3)."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from anyio import CancelScope, create_task_group, sleep
from anyio.lowlevel import checkpoint

from flexiflow import Engine, Outcome, State, StateConflict, StateMachine, Transition
from flexiflow.testing import cancel_everywhere, explore
from tests.helpers import settle
from tests.hosting import GO, Diary, Gate, cancelled_at, run_clocked
from tests.stores.keeping import (
    STAY,
    DictStore,
    Down,
    Hang,
    Tally,
    count,
    cycle,
    down,
    hosting,
    once,
    send_go,
)

NEXT = {"a": "b", "b": "c", "c": "a"}


class TestReplyLost:
    """A save that fails after the store has done it."""

    async def test_is_found_before_the_next_message(self) -> None:
        """K3: What is stored all the same is taken before the next message, unannounced."""
        store = DictStore()
        engine = hosting(store)
        diary = await Diary().keep(engine.bus)
        store.after["save"] = once(down)
        assert isinstance(await send_go(engine), Down)
        assert (engine.components["t"].state, store.state("t")) == ("a", "b")
        assert await send_go(engine) is Outcome.TRANSITIONED
        assert diary.changes("t") == [("b", "c")]
        assert store.kept["t"][1:3] == ("c", {"n": 2})
        assert store.calls["load"] == 2

    async def test_is_loaded_before_observers_and_guards(self) -> None:
        """K3: The component is loaded before `component.message.received` and the guard."""
        store, seen = DictStore(), list[object]()
        engine = hosting(store)
        store.after["save"] = once(down)
        await send_go(engine)
        await engine.bus.subscribe(
            "component.message.received",
            "observer",
            lambda data: seen.append(engine.components["t"].state),
        )
        await engine.send("t", {"type": "other"})
        assert seen == ["b"]

    async def test_of_an_internal_transition(self) -> None:
        """K3: An internal transition of which the reply was lost counts, with its data."""
        store = DictStore()
        engine = hosting(store)
        store.after["save"] = once(down)
        with pytest.raises(Down):
            await engine.send("t", STAY)
        await engine.send("t", GO)
        assert store.kept["t"][1:3] == ("b", {"n": 2})

    async def test_that_was_not_stored(self) -> None:
        """K3: Where nothing was stored the component goes on as it was; it loads once."""
        store = DictStore()
        engine = hosting(store)
        await engine.send("t", GO)
        store.before["save"] = once(down)
        await send_go(engine)
        for _ in range(2):
            await engine.send("t", GO)
        assert store.saved == [("t", "b"), ("t", "c"), ("t", "a")]
        assert store.calls["load"] == 2

    async def test_loading_that_fails_fails_the_message(self) -> None:
        """K3: What can't be loaded fails each message, before anything is published or changed."""
        store = DictStore()
        engine = hosting(store)
        store.after["save"] = once(down)
        await send_go(engine)
        store.before["load"] = down
        diary = await Diary().keep(engine.bus)
        for _ in range(3):
            assert isinstance(await send_go(engine), Down)
        assert (diary.lines, engine.components["t"].state) == ([], "a")
        store.before.clear()
        assert await send_go(engine) is Outcome.TRANSITIONED
        assert diary.changes("t") == [("b", "c")]

    @pytest.mark.parametrize("moment", ["before", "after"])
    async def test_loading_that_is_cancelled_is_done_again(self, moment: str) -> None:
        """K3: If the message that loads is cancelled meanwhile, the next one loads."""
        store, hang = DictStore(), Hang()
        engine = hosting(store)
        store.after["save"] = once(down)
        await send_go(engine)
        (store.before if moment == "before" else store.after)["load"] = once(hang)
        await cancelled_at(hang.reached, engine.send, "t", GO)
        assert await send_go(engine) is Outcome.TRANSITIONED
        assert (store.state("t"), store.calls["load"]) == ("c", 3)

    async def test_deferred_message_after_it_loads(self) -> None:
        """K3: A message that was deferred meanwhile finds the stored state, too."""
        store = DictStore()

        async def go_on(message: dict[str, Any], component: Tally) -> None:
            if message.get("on"):
                await engine.send("t", GO)

        engine = hosting(store, cycle(go_on))
        store.after["save"] = once(down)
        with pytest.raises(Down):
            await engine.send("t", GO | {"on": True})
        assert store.saved == [("t", "b"), ("t", "c")]

    async def test_unregistering_forgets_it(self) -> None:
        """K3: Registered again it is loaded, once."""
        store, tally = DictStore(), Tally("t")
        engine = await self.unregistered_uncertain(store, tally)
        await engine.register(tally)
        assert tally.state == "b"
        await engine.send("t", GO)
        assert (store.state("t"), store.calls["load"]) == ("c", 2)

    async def test_without_an_engine_it_is_not_loaded(self) -> None:
        """K3: On its own the component goes on in the state that it is in."""
        store, tally = DictStore(), Tally("t")
        await self.unregistered_uncertain(store, tally)
        await tally.handle_message(GO)
        assert (tally.state, store.calls["load"]) == ("b", 1)

    async def unregistered_uncertain(self, store: DictStore, tally: Tally) -> Engine:
        """Unregister a component after a save whose outcome is unknown; return its engine."""
        engine = Engine(store=store)
        await engine.register(tally)
        store.after["save"] = once(down)
        await send_go(engine)
        await engine.unregister("t")
        return engine


async def step(message: object, component: object) -> bool:
    """Take part in a transition, with a checkpoint."""
    await checkpoint()
    return True


async def counting(message: object, component: Any) -> None:
    """Count, and wait."""
    count(message, component)
    await checkpoint()


def detailed() -> StateMachine:
    """Make a cycle in which every transition has a guard, exit, action and entry."""
    rows = [Transition(*row, guard=step, action=counting) for row in NEXT_ROWS]
    states = [State(name, entry=step, exit=step) for name in NEXT]
    return StateMachine("a", rows, states=states)


NEXT_ROWS = [(state, "go", target) for state, target in NEXT.items()]


@pytest.mark.parametrize("style", ["scope", "native"])
def test_cancelled_anywhere(backend: str, style: Any) -> None:
    """K3: Cancelled at any checkpoint, the stored state is that of the last send, or of its next.

    The next message goes on from what is stored, and the chain of C6 holds between loads.
    """
    if style == "native" and backend != "asyncio":
        pytest.skip("trio has no other way to cancel")
    world: dict[str, Any] = {}

    async def scenario() -> None:
        store = DictStore()
        engine = hosting(store, detailed())
        diary = await Diary().keep(engine.bus)
        returned: list[object] = []
        world.update(store=store, engine=engine, diary=diary, returned=returned)
        for _ in range(3):
            outcome = await engine.send("t", GO)
            returned.append(outcome)

    async def check() -> None:
        if not world:
            return
        store, engine, returned = world["store"], world["engine"], world["returned"]
        reached = "abca"[len(returned)]
        assert store.state("t") in {reached, NEXT[reached], None if reached == "a" else reached}
        found = store.state("t") or "a"
        before = len(world["diary"].changes("t"))
        assert await engine.send("t", GO) is Outcome.TRANSITIONED
        assert world["diary"].changes("t")[before:] == [(found, NEXT[found])]
        assert store.state("t") == engine.components["t"].state == NEXT[found]
        world.clear()

    assert cancel_everywhere(scenario, backend=backend, check=check, style=style) > 20


class TestTwoEngines:
    """Two engines that share a store, and a name."""

    async def test_second_to_save_gets_a_conflict_and_loads(self) -> None:
        """K3: The second engine to save gets StateConflict, loads, and goes on from there."""
        store = DictStore()
        one, two = hosting(store), hosting(store)
        diary = await Diary().keep(two.bus)
        for engine in (one, two):
            await engine.send("t", {"type": "other"})
        await one.send("t", GO)
        with pytest.raises(StateConflict) as caught:
            await two.send("t", GO)
        assert (caught.value.name, caught.value.expected) == ("t", 0)
        assert two.components["t"].state == "a"
        assert await two.send("t", GO) is Outcome.TRANSITIONED
        assert diary.changes("t") == [("b", "c")]
        assert store.kept["t"][1:3] == ("c", {"n": 2})
        assert isinstance(await send_go(one), StateConflict)
        await one.send("t", GO)
        assert store.kept["t"][1:3] == ("a", {"n": 3})

    async def test_message_that_is_ignored_sees_no_conflict(self) -> None:
        """K3: A message without a transition is not saved, so it does not see what is stored."""
        store = DictStore()
        one, two = hosting(store), hosting(store)
        await two.send("t", {"type": "other"})
        await one.send("t", GO)
        assert await two.send("t", {"type": "other"}) is Outcome.IGNORED
        assert (two.components["t"].state, store.calls["load"]) == ("a", 2)

    async def test_deleted_meanwhile(self) -> None:
        """K3: Deleted by another one, the save is a conflict; the component begins anew."""
        store = DictStore()
        engine = Engine(component_factory=lambda name: Tally(name, state="c"), store=store)
        diary = await Diary().keep(engine.bus)
        for _ in range(2):
            await engine.send("t", GO)
        await store.delete("t")
        with pytest.raises(StateConflict) as caught:
            await engine.send("t", GO)
        assert (caught.value.expected, caught.value.found) == (2, 0)
        await engine.send("t", GO)
        assert diary.changes("t") == [("c", "a"), ("a", "b"), ("c", "a")]
        assert store.state("t") == "a"

    async def test_deleted_and_stored_anew(self) -> None:
        """K3: What was deleted and stored again is another version."""
        store = DictStore()
        engine = hosting(store)
        await engine.send("t", GO)
        await store.delete("t")
        store.put("t", "b", {"n": 70})
        assert isinstance(await send_go(engine), StateConflict)
        await engine.send("t", GO)
        assert store.kept["t"][1:3] == ("c", {"n": 71})


@pytest.mark.unmeasured
def test_two_engines_under_every_schedule(backend: str) -> None:
    """K3: Whatever the order, what is stored is a chain, and what `send` returned for is in it."""

    async def scenario() -> None:
        store, won, lost = DictStore(), list[str](), list[object]()
        engines = [hosting(store), hosting(store)]
        history: list[tuple[str | None, str | None]] = []

        async def note() -> None:
            state = store.state("t")
            previous = history[-1][1] if history else "a"
            history.append((previous, state))

        store.after["save"] = note

        async def send(engine: Engine) -> None:
            result = await send_go(engine)
            if result is Outcome.TRANSITIONED:
                won.append("go")
            else:
                lost.append(result)

        async with create_task_group() as group:
            for engine in [*engines, *engines]:
                group.start_soon(send, engine)
        assert all(isinstance(each, StateConflict) for each in lost)
        # Each save goes one step on from the one before, and each of them was told to its sender.
        assert all(NEXT[before or "a"] == after for before, after in history)
        assert len(history) == len(won) > 0
        assert store.kept["t"].data == {"n": len(won)}
        for engine in engines:
            while isinstance(await send_go(engine), StateConflict):
                pass
            assert engine.components["t"].state == store.state("t")

    explore(scenario, backend=backend, schedules=80, seed=4)


@pytest.mark.unmeasured
def test_two_engines_with_cancelled_senders_under_every_schedule(backend: str) -> None:
    """K3: With senders that are cancelled, a save in hand may count or not, but is never torn."""

    async def scenario() -> None:
        store, won = DictStore(), list[object]()
        store.put("t", "a", {"n": 0})
        engines = [hosting(store), hosting(store)]
        diaries = [await Diary().keep(engine.bus) for engine in engines]
        scopes = [CancelScope() for _ in range(4)]

        async def send(engine: Engine, scope: CancelScope) -> None:
            with scope:
                result = await send_go(engine)
                if result is Outcome.TRANSITIONED:
                    won.append(result)

        async def cancel(scope: CancelScope) -> None:
            await checkpoint()
            scope.cancel()

        async with create_task_group() as group:
            for engine, scope in zip([*engines, *engines], scopes, strict=True):
                group.start_soon(send, engine, scope)
            for scope in scopes[1:3]:
                group.start_soon(cancel, scope)
        told = sum(len(diary.changes("t")) for diary in diaries)
        assert len(won) <= told <= len(store.saved)
        # Each save that was stored went on from the one before: none was lost or done twice.
        states = ["a", *(state for _, state in store.saved)]
        assert all(NEXT[before] == after for before, after in pairwise(states))
        if store.saved:
            assert store.kept["t"].data == {"n": len(store.saved)}

    explore(scenario, backend=backend, schedules=80, seed=5)


TIMED = [
    Transition("a", "go", "b"),
    Transition("b", "late", "c"),
    Transition("b", "done", "c"),
    Transition("c", "go", "a"),
]


class TestTimeAndWork:
    """Timers and work of a component of which it is not certain what is stored."""

    def test_nothing_begins_before_it_has_loaded(self, backend: str) -> None:
        """K3: Until the component has loaded, no work and no timer of the found state begins."""
        began: list[str] = []

        async def work(component: Any) -> None:
            began.append(component.state)

        states = [State("b", during=work, after=(5.0, "late"))]
        machine = StateMachine("a", TIMED, states=states)

        async def scenario() -> None:
            store, hang = DictStore(), Hang()
            engine = hosting(store, machine)
            async with engine.running():
                store.after["save"], store.before["load"] = once(down), hang
                # The first load, on registering, is not to hang.
                store.before["load"] = settle
                assert isinstance(await send_go(engine), Down)
                store.before["load"] = once(hang)
                await hang.reached.wait()
                assert began == []
                assert len(engine._hosting.timers) == 0
                assert engine.components["t"].state == "a"
                # The hanging load ends with the block.

        run_clocked(scenario, backend)
        assert began == []

    def test_ended_work_does_not_begin_anew_before_it_has_loaded(self, backend: str) -> None:
        """K3: Work that a failed transition has ended begins anew when the component has loaded."""
        notes: list[str] = []

        async def work(component: Any) -> None:
            notes.append("begins")
            await Hang()()

        machine = StateMachine("a", TIMED, states=[State("a", during=work)])

        async def scenario() -> None:
            store, gate = DictStore(), Gate()
            engine = hosting(store, machine)
            async with engine.running():
                await engine.send("t", {"type": "other"})
                await quiet()
                store.before["save"], store.before["load"] = once(down), gate
                assert isinstance(await send_go(engine), Down)
                await quiet(seconds=5.0)
                assert notes == ["begins"]
                gate.open.set()
                await quiet()
                assert notes == ["begins"] * 2

        run_clocked(scenario, backend)

    def test_loads_at_once_while_running(self, backend: str) -> None:
        """K3: In `running()` the component is loaded at once, and what it finds begins."""

        async def scenario() -> list[str]:
            store, began = DictStore(), list[str]()

            async def work(component: Any) -> None:
                began.append(component.state)

            machine = StateMachine("a", TIMED, states=[State("b", during=work)])
            engine = hosting(store, machine)
            diary = await Diary().keep(engine.bus)
            async with engine.running():
                store.after["save"] = once(down)
                assert isinstance(await send_go(engine), Down)
                await quiet()
                assert engine.components["t"].state == "b"
            assert diary.changes("t") == []
            return began

        assert run_clocked(scenario, backend) == ["b"]

    def test_loading_that_fails_is_tried_again_and_logged_once(
        self, backend: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """K3: If it can't be loaded then, that is logged once, and tried every second."""

        async def scenario() -> None:
            store = DictStore()
            engine = hosting(store)
            await engine.send("t", {"type": "other"})
            async with engine.running():
                store.after["save"], store.before["load"] = once(down), down
                await send_go(engine)
                tries = store.calls["load"]
                await quiet(seconds=10.0)
                assert 8 <= store.calls["load"] - tries <= 12
                store.before.clear()
                await quiet(seconds=2.0)
                assert engine.components["t"].state == "b"
                # And when it fails once more, that is logged once more.
                store.after["save"], store.before["load"] = once(down), down
                await send_go(engine)
                await quiet(seconds=10.0)

        run_clocked(scenario, backend)
        assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [Down] * 2

    def test_old_work_ends_before_found_state_is_taken(self, backend: str) -> None:
        """K3: Another state that is found ends the work of the one before, and begins its own."""

        async def scenario() -> list[str]:
            store, notes = DictStore(), list[str]()

            def working(name: str) -> Callable[[Any], Any]:
                async def work(component: Any) -> None:
                    notes.append(f"{name} begins")
                    try:
                        await Hang()()
                    finally:
                        notes.append(f"{name} ends in {component.state}")

                return work

            states = [State("a", during=working("a")), State("c", during=working("c"))]
            machine = StateMachine("a", [*TIMED, Transition("a", "stay", None)], states=states)
            engine = hosting(store, machine)
            async with engine.running():
                await engine.send("t", {"type": "other"})
                await quiet()
                store.put("t", "c", {"n": 1})
                with pytest.raises(StateConflict):
                    await engine.send("t", STAY)
                await quiet()
            return notes

        notes = run_clocked(scenario, backend)
        assert notes == ["a begins", "a ends in a", "c begins", "c ends in c"]

    def test_same_version_keeps_the_work(self, backend: str) -> None:
        """K3: If nothing was stored meanwhile, the work of the state goes on."""

        async def scenario() -> list[str]:
            store, notes = DictStore(), list[str]()

            async def work(component: Any) -> None:
                notes.append("begins")
                await Hang()()

            machine = StateMachine(
                "a", [*TIMED, Transition("a", "stay", None)], states=[State("a", during=work)]
            )
            engine = hosting(store, machine)
            async with engine.running():
                store.before["save"] = once(down)
                with pytest.raises(Down):
                    await engine.send("t", STAY)
                await quiet()
                await engine.send("t", STAY)
            return notes

        assert run_clocked(scenario, backend) == ["begins"]

    def test_timer_of_a_state_that_is_stored_no_more(self, backend: str) -> None:
        """K3: The timer of a state in which another engine's save has ended sends nothing."""

        async def scenario() -> list[str]:
            store = DictStore()
            machine = StateMachine("a", TIMED, states=[State("b", after=(5.0, "late"))])
            engine = hosting(store, machine)
            diary = await Diary().keep(engine.bus)
            async with engine.running():
                await engine.send("t", GO)
                store.put("t", "c", {"n": 8})
                # The trigger's own save finds it; then the timer is over.
                await quiet(seconds=20.0)
                assert engine.components["t"].state == "c"
            return diary.lines

        lines = run_clocked(scenario, backend)
        assert lines[-2:] == ["t late", "t failed on component.message.received"]

    def test_unregistered_meanwhile(self, backend: str) -> None:
        """K3: One that is unregistered before it has loaded is loaded as it is registered again."""

        async def scenario() -> None:
            store, tally = DictStore(), Tally("t")
            engine = Engine(store=store)
            await engine.register(tally)
            async with engine.running():
                store.after["save"], store.before["load"] = once(down), down
                await send_go(engine)
                await quiet(seconds=3.0)
                await engine.unregister("t")
                assert engine._hosting.overdue == {}
                store.before.clear()
                loads = store.calls["load"]
                await quiet(seconds=3.0)
                assert store.calls["load"] == loads
                await engine.register(tally)
                assert tally.state == "b"
                # It is looked after as at first.
                store.after["save"] = once(down)
                await send_go(engine)
                await quiet()
                assert tally.state == "c"

        run_clocked(scenario, backend)

    def test_in_an_engine_without_a_store_nothing_is_to_be_saved(self, backend: str) -> None:
        """K3: What could not be saved is forgotten in an engine that has no store."""
        rows = [Transition("a", "late", "b"), Transition("b", "go", "a")]
        machine = StateMachine("a", rows, states=[State("a", after=(50.0, "late"))])

        async def scenario() -> None:
            store, tally = DictStore(), Tally("t", machine=machine)
            store.before["save"] = down
            engine, other = Engine(store=store), Engine()
            await engine.register(tally)
            async with engine.running():
                await quiet(seconds=3.0)
            await engine.unregister("t")
            await other.register(tally)
            async with other.running():
                await quiet(seconds=100.0)
            assert tally.state == "b"

        run_clocked(scenario, backend)


async def quiet(seconds: float = 0.5) -> None:
    """Wait, in virtual time."""
    await sleep(seconds)


@pytest.mark.unmeasured
def test_two_engines_with_timers_and_work_under_every_schedule(backend: str) -> None:
    """K3: Timers and work of two engines save as messages do: each goes on from what is stored."""
    rows = [
        Transition("a", "go", "b", action=count),
        Transition("b", "late", "c", action=count),
        Transition("b", "go", "c", action=count),
        Transition("c", "done", "a", action=count),
        Transition("c", "go", "a", action=count),
    ]

    async def scenario() -> None:
        async def work(component: Any) -> None:
            assert component.state == "c"
            await sleep(0.25)

        states = [State("b", after=(0.5, "late")), State("c", during=work, done="done")]
        machine = StateMachine("a", rows, states=states)
        store = DictStore()
        store.put("t", "a", {"n": 0})
        engines = [hosting(store, machine), hosting(store, machine)]
        async with engines[0].running(), engines[1].running():
            async with create_task_group() as group:
                for engine in [*engines, *engines]:
                    group.start_soon(send_go, engine)
            await sleep(3.0)
        for name, state in store.saved:
            assert name == "t"
            assert state in NEXT
        counts = [data["n"] for data in store.history]
        # An upkeep saves without a transition; each transition counts on from what was stored.
        assert all(after - before in {0, 1} for before, after in pairwise(counts))

    explore(scenario, backend=backend, schedules=40, seed=6)
