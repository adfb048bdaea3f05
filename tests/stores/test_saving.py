"""When a component is saved, and what becomes of a save that fails (K3)."""

from functools import partial
from typing import Any

import pytest
from anyio import create_task_group, fail_after

from flexiflow import Component, Engine, Outcome, State, StateMachine, Transition
from flexiflow.events import MESSAGE_RECEIVED, STATE_CHANGED
from tests.accounting import Boom
from tests.helpers import PATIENCE
from tests.hosting import GO, Diary, Gate, cancelled_at, together
from tests.stores.keeping import (
    CYCLE,
    STAY,
    DictStore,
    Down,
    Hang,
    Tally,
    cycle,
    down,
    hosting,
    send_go,
)


class TestOrder:
    """What is saved, and when."""

    async def test_save_comes_after_the_last_action_and_before_the_commit(self) -> None:
        """K3: Guard, exit, action, entry, save, commit, state.changed: in this order (M1)."""
        order: list[str] = []

        def note(step: str) -> Any:
            def noted(message: object, component: Component) -> bool:
                order.append(f"{step} in {component.state}")
                return True

            return noted

        row = Transition("a", "go", "b", guard=note("guard"), action=note("action"))
        states = [State("a", exit=note("exit")), State("b", entry=note("entry"))]
        component = Tally("x", machine=StateMachine("a", [row], states=states))
        store = DictStore()

        async def note_save() -> None:
            order.append(f"saved in {component.state}")

        store.before["save"] = store.after["save"] = note_save
        engine = Engine(store=store)
        await engine.register(component)
        heard = note("changed")
        await engine.bus.subscribe(STATE_CHANGED, "observer", lambda data: heard(data, component))
        await engine.send("x", GO)
        first = ["guard in a", "exit in a", "action in a", "entry in a"]
        assert order == [*first, "saved in a", "saved in a", "changed in b"]

    async def test_new_state_is_stored_when_send_returns(self) -> None:
        """K3: What `send` has returned TRANSITIONED for is stored, state and data."""
        store = DictStore()
        engine = hosting(store)
        for n, state in enumerate("bcab", start=1):
            assert await engine.send("t", GO) is Outcome.TRANSITIONED
            assert store.kept["t"][1:] == (state, {"n": n}, None)

    async def test_new_state_is_stored_when_observers_hear_of_it(self) -> None:
        """K3: The save is over before `state.changed` is published."""
        store, seen = DictStore(), list[str | None]()
        engine = hosting(store)
        await engine.bus.subscribe(
            STATE_CHANGED, "observer", lambda data: seen.append(store.state("t"))
        )
        await engine.send("t", GO)
        assert seen == ["b"]

    async def test_internal_transition_is_saved(self) -> None:
        """K3: An internal transition is saved, too, with the state as it is."""
        store = DictStore()
        engine = hosting(store)
        assert await engine.send("t", STAY) is Outcome.TRANSITIONED
        assert store.kept["t"][1:] == ("a", {"n": 1}, None)

    async def test_ignored_message_is_not_saved(self) -> None:
        """K3: A message that no transition matches saves nothing."""
        store = DictStore()
        engine = hosting(store)
        assert await engine.send("t", {"type": "other"}) is Outcome.IGNORED
        assert (store.calls["save"], store.kept) == (0, {})

    @pytest.mark.parametrize("part", ["guard", "action"])
    async def test_failed_message_is_not_saved(self, part: str) -> None:
        """K3: A message whose guard or action fails saves nothing."""

        def fail(message: object, component: object) -> None:
            raise Boom

        store = DictStore()
        engine = hosting(store, cycle(**{part: fail}))
        with pytest.raises(Boom):
            await engine.send("t", GO)
        assert (store.calls["save"], store.kept) == (0, {})

    async def test_deferred_message_is_saved(self) -> None:
        """K3: Each of the messages that a message sends to its own component is saved, in order."""
        store = DictStore()

        async def go_on(message: dict[str, Any], component: Tally) -> None:
            if message.get("on"):
                await engine.send("t", GO)

        engine = hosting(store, cycle(go_on))
        await engine.send("t", GO | {"on": True})
        assert store.saved == [("t", "b"), ("t", "c")]

    async def test_message_given_to_the_component_itself_is_saved(self) -> None:
        """K3: `handle_message` of a registered component saves as `send` does."""
        store, tally = DictStore(), Tally("x")
        await Engine(store=store).register(tally)
        await tally.handle_message(GO)
        assert store.saved == [("x", "b")]

    async def test_components_are_saved_at_the_same_time(self) -> None:
        """K3: A save that hangs holds up its own component alone."""
        store, hang = DictStore(), Hang()
        engine = hosting(store)
        store.before["save"] = hang
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(engine.send, "t", GO)
                await hang.reached.wait()
                store.before.clear()
                assert await engine.send("u", GO) is Outcome.TRANSITIONED
                group.cancel_scope.cancel()
        assert store.saved == [("u", "b")]

    @pytest.mark.parametrize("place", ["guard", "action", "observer"])
    async def test_message_in_hand_is_saved_although_its_component_is_unregistered(
        self, place: str
    ) -> None:
        """K3: A message that unregisters its component ends as any other: what it did is stored."""
        store = DictStore()

        async def leave(*_: object) -> bool:
            if "t" in engine.components:
                await engine.unregister("t")
            return True

        engine = hosting(store, cycle(**({} if place == "observer" else {place: leave})))
        if place == "observer":
            await engine.bus.subscribe(MESSAGE_RECEIVED, "observer", leave)
        assert await engine.send("t", GO) is Outcome.TRANSITIONED
        assert store.saved == [("t", "b")]
        assert dict(engine.components) == {}

    async def test_nothing_is_saved_after_unregistering(self) -> None:
        """K3: A component that is registered no more is not stored any more."""
        store, tally = DictStore(), Tally("x")
        engine = Engine(store=store)
        await engine.register(tally)
        await engine.send("x", GO)
        await engine.unregister("x")
        await tally.handle_message(GO)
        assert (tally.state, store.saved) == ("c", [("x", "b")])


class TestFailure:
    """A save that fails."""

    @pytest.mark.parametrize("message", [GO, STAY], ids=["go", "stay"])
    async def test_fails_the_message(self, message: dict[str, Any]) -> None:
        """K3: What a save raises is raised to the sender; the state stays, nothing is announced."""
        store = DictStore()
        engine = hosting(store)
        await engine.send("t", GO)
        diary = await Diary().keep(engine.bus)
        store.before["save"] = down
        with pytest.raises(Down):
            await engine.send("t", message)
        assert engine.components["t"].state == store.state("t") == "b"
        assert diary.lines == [f"t {message['type']}"]

    async def test_does_not_last(self) -> None:
        """K3: When the store is back the next message is handled and saved."""
        store = DictStore()
        engine = hosting(store)
        store.before["save"] = down
        assert isinstance(await send_go(engine), Down)
        store.before.clear()
        assert await send_go(engine) is Outcome.TRANSITIONED
        assert store.saved == [("t", "b")]

    async def test_attributes_are_taken_back_by_what_is_stored(self) -> None:
        """K3: `restore` takes back what the action of a failed message did; C6 does not."""
        store = DictStore()
        engine = hosting(store)
        await engine.send("t", GO)
        store.before["save"] = down
        assert isinstance(await send_go(engine), Down)
        tally: Any = engine.components["t"]
        assert tally.n == 2
        store.before.clear()
        await engine.send("t", GO)
        assert (tally.n, store.kept["t"].data) == (2, {"n": 2})

    async def test_attributes_stay_where_nothing_is_stored(self) -> None:
        """K3: Where there is nothing to restore, what an action did to attributes stays."""
        store = DictStore()
        engine = hosting(store)
        store.before["save"] = down
        assert isinstance(await send_go(engine), Down)
        store.before.clear()
        await engine.send("t", GO)
        assert store.kept["t"].data == {"n": 2}

    async def test_exit_and_entry_run_again(self) -> None:
        """K3: What ran before a failed save is not undone, and runs again next time (M1)."""
        ran: list[str] = []
        states = [
            State("a", exit=partial(note_in, ran, "exit")),
            State("b", entry=partial(note_in, ran, "entry")),
        ]
        store = DictStore()
        engine = hosting(store, StateMachine("a", [Transition("a", "go", "b")], states=states))
        store.before["save"] = down
        assert isinstance(await send_go(engine), Down)
        store.before.clear()
        assert await send_go(engine) is Outcome.TRANSITIONED
        assert ran == ["exit", "entry"] * 2

    async def test_of_a_deferred_message_is_reported(self) -> None:
        """K3: A deferred message whose save fails is reported, as any failed one is (C4)."""
        store = DictStore()

        async def go_on(message: dict[str, Any], component: Tally) -> None:
            if message.get("on"):
                await engine.send("t", GO)
            else:
                store.before["save"] = down

        engine = hosting(store, cycle(go_on))
        diary = await Diary().keep(engine.bus)
        assert await engine.send("t", GO | {"on": True}) is Outcome.TRANSITIONED
        assert diary.lines[-1] == f"t failed on {MESSAGE_RECEIVED}"
        assert [type(each) for each in diary.failures] == [Down]
        assert (store.state("t"), engine.components["t"].state) == ("b", "b")

    async def test_those_who_wait_get_their_turn(self) -> None:
        """K3: A failed save is the failure of its own sender; the others in line go on."""
        store = DictStore()
        engine = hosting(store)
        results = list[object]()

        async def send() -> None:
            results.append(await send_go(engine))

        async def fail_first() -> None:
            store.before.clear()
            raise Down

        store.before["save"] = fail_first
        await together(send, send, send)
        assert isinstance(results[0], Down)
        assert results[1:] == [Outcome.TRANSITIONED] * 2
        assert store.saved == [("t", "b"), ("t", "c")]


class TestCancellation:
    """A sender that is cancelled."""

    async def test_before_it_stores(self) -> None:
        """K3: A save that is cancelled leaves the state as it was."""
        store, hang = DictStore(), Hang()
        engine = hosting(store)
        store.before["save"] = hang
        await cancelled_at(hang.reached, engine.send, "t", GO)
        store.before.clear()
        assert engine.components["t"].state == "a"
        assert store.kept == {}

    async def test_after_it_has_stored(self) -> None:
        """K3: Cancelled after the store has it, the message is not announced, and not undone."""
        store, hang = DictStore(), Hang()
        engine = hosting(store)
        diary = await Diary().keep(engine.bus)
        store.after["save"] = hang
        await cancelled_at(hang.reached, engine.send, "t", GO)
        assert (engine.components["t"].state, store.state("t")) == ("a", "b")
        assert diary.changes("t") == []

    async def test_of_an_observer_does_not_undo_the_save(self) -> None:
        """K3: After the commit the transition stands, in the store as in memory."""
        store, gate = DictStore(), Gate()
        engine = hosting(store)
        await engine.bus.subscribe(STATE_CHANGED, "observer", gate)
        await cancelled_at(gate.reached, engine.send, "t", GO)
        assert engine.components["t"].state == store.state("t") == "b"
        loads = store.calls["load"]
        gate.open.set()
        await engine.send("t", GO)
        assert (store.state("t"), store.calls["load"]) == ("c", loads)


def note_in(notes: list[str], note: str, message: object, component: object) -> None:
    """Note something, as an action."""
    notes.append(note)


async def test_nothing_changes_without_a_store() -> None:
    """K3: Without a store an engine saves nothing, and a message takes the same way as ever."""
    engine = Engine(component_factory=lambda name: Tally(name, machine=CYCLE))
    await engine.send("t", GO)
    assert engine.components["t"].state == "b"
