"""What happens to a component while it is loaded, loaded again or made (K3 to K5, M2)."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from anyio import CancelScope, Event, create_task_group, fail_after, sleep, sleep_forever

from flexiflow import Component, Engine, Outcome, State, StateConflict, StateMachine, Transition
from tests.attacks import on_asyncio
from tests.helpers import PATIENCE, settle
from tests.hosting import GO, Diary, Gate, run_clocked
from tests.stores.keeping import DictStore, Down, Hang, Tally, count, cycle, down, hosting, once

TIMED = StateMachine(
    "a",
    [
        Transition("a", "go", "b", action=count),
        Transition("b", "late", "c", action=count),
        Transition("b", "stay", None, action=count),
        Transition("c", "go", "a", action=count),
    ],
    states=[State("b", after=(900.0, "late"))],
)


def working(
    during: Callable[[Any], Coroutine[Any, Any, None]], noted: list[object]
) -> StateMachine:
    """Make a machine whose first state has work, and which notes its messages "note"."""

    def note(message: object, component: object) -> None:
        noted.append(message)

    rows = [
        Transition("busy", "stop", "idle"),
        Transition("idle", "go", "busy"),
        Transition("*", "note", None, action=note),
        Transition("*", "fail", None),
    ]
    return StateMachine("busy", rows, states=[State("busy", during=during)])


class Ring:
    """A component "t" whose work ends another component's work, which waits for "t" in return."""

    def __init__(self) -> None:
        self.store = DictStore()
        self.engine = Engine(store=self.store)
        self.noted: list[object] = []
        self.outcomes: list[object] = []
        self.found = Gate()
        self._asked = Event()

    async def register(self) -> None:
        """Register both."""
        for name, during in (("t", self._stop_the_other), ("other", self._ask_back)):
            machine = working(during, self.noted)
            await self.engine.register(Component(name, machine=machine))

    async def find(self) -> None:
        """Let the ring close but for the wait of what calls this."""
        self.found.open.set()
        await self._asked.wait()

    async def _stop_the_other(self, component: object) -> None:
        with CancelScope(shield=True):
            await self.found()
            await self.engine.send("other", {"type": "stop"})

    async def _ask_back(self, component: object) -> None:
        try:
            await sleep_forever()
        finally:
            with CancelScope(shield=True):
                self._asked.set()
                self.outcomes.append(await self.engine.send("t", {"type": "note"}))


async def test_deferred_by_a_ring_that_loading_breaks() -> None:
    """C4, K3: A message that is deferred while its component is loaded is handled afterwards."""
    ring = Ring()
    await ring.register()
    with fail_after(PATIENCE):
        async with ring.engine.running():
            await ring.found.reached.wait()
            # Another engine has stored something, so that this one's save conflicts.
            ring.store.put("t", "idle")
            ring.store.before["load"] = once(ring.find)
            with pytest.raises(StateConflict):
                await ring.engine.send("t", {"type": "fail"})
            await settle()
            assert ring.outcomes == [Outcome.DEFERRED]
            assert ring.noted == [{"type": "note"}]
            assert ring.engine.components["t"].state == "idle"


@pytest.mark.unmeasured
def test_trigger_whose_component_can_not_be_loaded(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """M2, K3: It is reported, and sent again once it is certain what is stored."""

    async def scenario() -> None:
        store = DictStore()
        engine = hosting(store, TIMED)
        diary = await Diary().keep(engine.bus)
        async with engine.running():
            await engine.send("t", GO)
            store.before["save"] = store.before["load"] = down
            with pytest.raises(Down):
                await engine.send("t", {"type": "stay"})
            await sleep(1000.0)
            assert [type(each) for each in diary.failures] == [Down]
            assert [each.getMessage().partition(" failed")[0] for each in caplog.records] == [
                "loading or saving of component 't'",
                "message 'late' of component 't'",
            ]
            store.before.clear()
            await sleep(5.0)
            assert store.state("t") == "c"
            assert engine.components["t"].state == "c"

    run_clocked(scenario, backend)


def test_due_while_it_is_being_made(backend: str) -> None:
    """M2: A component that a sender is having made is not looked for again and again."""

    async def scenario() -> None:
        store = DictStore()
        store.put("t", "b", {"n": 1}, due=1.0)
        made = Gate()

        async def make(name: str) -> Component:
            await made()
            return Tally(name, machine=TIMED)

        engine = Engine(component_factory=make, store=store)
        async with create_task_group() as group:
            group.start_soon(engine.send, "t", {"type": "stay"})
            await made.reached.wait()
            async with engine.running():
                await sleep(10.0)
                assert store.calls["due"] <= 30
                made.open.set()
                await sleep(2.0)
                assert store.state("t") == "c"

    run_clocked(scenario, backend)


@on_asyncio
async def test_given_up_by_its_last_sender() -> None:
    """K5: A component whose last sender is cancelled in its turn is unloaded like any other."""
    gate = Gate()
    engine = hosting(DictStore(), cycle(gate), max_components=1)
    gate.open.set()
    await engine.send("u", GO)
    subscription = await engine.bus.subscribe("order.placed", "u", print)
    gate.open, gate.reached = Event(), Event()

    others: list[asyncio.Task[Outcome]] = []

    async def send_first() -> None:
        await engine.send("t", GO)
        # The other one's turn has come, and it has not noticed yet.
        others[0].cancel()

    with fail_after(PATIENCE):
        async with create_task_group() as group:
            group.start_soon(send_first)
            await gate.reached.wait()
            others.append(asyncio.create_task(engine.send("t", GO)))
            await settle()
            gate.open.set()
        await asyncio.wait(others)
    assert others[0].cancelled()
    engine.bus.unsubscribe(subscription)
    for name in "vw":
        await engine.send(name, {"type": "other"})
    assert list(engine.components) == ["w"]


@on_asyncio
async def test_native_cancel_while_it_loads_again() -> None:
    """K3: A component whose loading is cancelled natively is loaded again a little later."""
    store, loading, loaded = DictStore(), Hang(), Gate()
    engine = hosting(store, TIMED)
    with fail_after(PATIENCE):
        async with engine.running():
            await engine.send("t", {"type": "other"})
            store.before |= {"save": once(down), "load": once(loading)}
            with pytest.raises(Down):
                await engine.send("t", GO)
            await loading.reached.wait()
            store.before["load"] = loaded
            for task in asyncio.all_tasks():
                if task.get_name().endswith("Actor.keep_up"):
                    task.cancel()
            await loaded.reached.wait()
            loaded.open.set()
            await settle()
            loads = store.calls["load"]
            assert await engine.send("t", GO) is Outcome.TRANSITIONED
            assert store.calls["load"] == loads


async def test_unregistered_while_it_is_loaded_again_in_vain() -> None:
    """K3, C1: A component that has gone is not loaded again."""
    store, entered, leave = DictStore(), Event(), Event()
    engine = hosting(store)

    async def fail_later() -> None:
        entered.set()
        await leave.wait()
        raise Down

    await engine.send("t", GO)
    store.before["save"] = down
    with pytest.raises(Down):
        await engine.send("t", GO)
    store.before["load"] = fail_later
    with fail_after(PATIENCE):
        async with engine.running():
            await entered.wait()
            await engine.unregister("t")
            leave.set()
            await settle()
            assert engine._hosting.overdue == {}
