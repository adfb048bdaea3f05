"""Engines over the stores that are ready-made (K1, K3 to K5, M2)."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio import Event, fail_after

from flexiflow import Component, Engine, Outcome, State, StateConflict, StateMachine, Transition
from flexiflow._stores import StateStore
from flexiflow.events import STATE_CHANGED
from flexiflow.extras.stores import MemoryStateStore, SqliteStateStore
from tests.conftest import Backend
from tests.helpers import PATIENCE
from tests.hosting import GO, Diary, Victim, styles, together
from tests.stores.keeping import STAY, Tally, send_go, tallies

Reopen = Callable[[], StateStore]


@contextmanager
def memory(path: Path) -> Generator[Reopen]:
    """Give a store in memory, which is the same each time."""
    store = MemoryStateStore()
    yield lambda: store


@contextmanager
def sqlite(path: Path) -> Generator[Reopen]:
    """Give a store in a file, opened anew each time, and close all of them."""
    opened: list[SqliteStateStore] = []

    def reopen() -> StateStore:
        opened.append(SqliteStateStore(path / "state.db"))
        return opened[-1]

    yield reopen
    for store in opened:
        store.close()


@pytest.fixture(params=[memory, sqlite], ids=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Reopen]:
    """Give what opens a store, each time over the same states."""
    with request.param(tmp_path) as opens:
        yield opens


def over(store: StateStore, **options: Any) -> Engine:
    """Make an engine over a store."""
    return Engine(component_factory=Tally, store=store, **options)


async def test_state_and_data_outlive_the_engine(reopen: Reopen) -> None:
    """K3, K4: What `send` has returned for is found by an engine over the store opened anew."""
    engine = over(reopen())
    for message in (GO, STAY, GO):
        assert await engine.send("t", message) is Outcome.TRANSITIONED
    again = over(reopen())
    diary = await Diary().keep(again.bus)
    await again.send("t", GO)
    tally: Any = again.components["t"]
    assert (diary.changes("t"), tally.n) == ([("c", "a")], 4)


async def test_snapshot_that_is_no_json_fails_the_message(reopen: Reopen) -> None:
    """K1: What JSON can't hold fails the message; nothing is stored, and the next one goes on."""
    engine = over(reopen())
    await engine.send("t", GO)
    tally: Any = engine.components["t"]
    tally.snapshot = lambda: {"n": {tally.n}}
    with pytest.raises(TypeError):
        await engine.send("t", STAY)
    del tally.snapshot
    await engine.send("t", GO)
    assert (tally.state, tally.n) == ("c", 2)


async def test_two_engines_on_one_name(reopen: Reopen) -> None:
    """K3: The second to save gets a conflict, and loads again."""
    one, two = over(reopen()), over(reopen())
    for engine in (one, two):
        await engine.send("t", {"type": "other"})
    results = [await send_go(engine) for engine in (one, two, two, one, one)]
    conflicts = [isinstance(result, StateConflict) for result in results]
    assert conflicts == [False, True, False, True, False]
    stored = await reopen().load("t")
    assert stored is not None
    assert stored[1:3] == ("a", {"n": 3})


async def test_deleted_meanwhile(reopen: Reopen) -> None:
    """K3: Deleted by hand, the save is a conflict, and the component begins anew."""
    store = reopen()
    engine = over(store)
    await engine.send("t", GO)
    await store.delete("t")
    assert [type(await send_go(engine)) for _ in range(2)] == [StateConflict, Outcome]
    stored = await store.load("t")
    assert stored is not None
    assert stored.state == "b"


async def test_cancelled_at_any_wait(reopen: Reopen, anyio_backend: Backend) -> None:
    """K3: Wherever a send is cancelled, state and data belong together, and the next goes on."""
    store = reopen()
    engine = over(store)
    # What an action did stays where there is nothing to restore.
    await engine.send("t", GO)
    for style in styles(anyio_backend):
        place, was_cancelled = 1, True
        while was_cancelled:
            victim = Victim(style, place)
            with fail_after(PATIENCE):
                await together(victim.running(lambda: engine.send("t", GO)))
            was_cancelled = victim.was_cancelled
            place += 1
            assert victim.error is None
            assert await send_go(engine) is Outcome.TRANSITIONED
            stored = await store.load("t")
            assert stored is not None
            assert stored.data is not None
            assert "abc"[stored.data["n"] % 3] == stored.state == engine.components["t"].state
        assert place > 1


async def test_more_components_than_are_held(reopen: Reopen) -> None:
    """K5: However often they are unloaded, all transitions of all components are stored."""
    store = reopen()
    engine = over(store, max_components=3)

    def sending(name: str) -> Callable[[], Any]:
        return lambda: engine.send(name, GO)

    names = [f"t{n}" for n in range(20)]
    for _ in range(5):
        await together(*(sending(name) for name in names))
    assert len(engine.components) == 3
    for name in names:
        stored = await store.load(name)
        assert stored is not None
        assert stored[1:3] == ("c", {"n": 5})


TIMED = StateMachine(
    "a",
    [Transition("a", "go", "b"), Transition("b", "late", "a")],
    states=[State("b", after=(3600.0, "late"))],
)


async def test_overdue_timer_is_sent_after_a_restart(
    reopen: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M2: A time that came while no engine ran is found as the next one runs, and sent once."""
    engine = Engine(component_factory=tallies(TIMED), store=reopen())
    async with engine.running():
        for name in "tuv":
            await engine.send(name, GO)
    later = time.time() + 7200.0
    monkeypatch.setattr(time, "time", lambda: later)
    again = Engine(component_factory=tallies(TIMED), store=reopen())
    changed, all_changed = list[str](), Event()

    def note(data: Any) -> None:
        changed.append(data["component"])
        if len(changed) == 3:
            all_changed.set()

    await again.bus.subscribe(STATE_CHANGED, "observer", note)
    with fail_after(PATIENCE):
        async with again.running():
            await all_changed.wait()
    assert sorted(changed) == ["t", "u", "v"]
    store = reopen()
    assert await store.due(later, 10) == []


async def test_trigger_that_was_sent_is_stored_as_sent(reopen: Reopen) -> None:
    """M2: A trigger that a guard refuses is stored as spent; other transitions are saved after."""
    was_asked = Event()

    def refuse(message: object, component: object) -> bool:
        was_asked.set()
        return False

    rows = [
        Transition("a", "go", "b"),
        Transition("b", "late", "a", guard=refuse),
        Transition("b", "stay", None),
    ]
    machine = StateMachine("a", rows, states=[State("b", after=(1e-9, "late"))])
    store = reopen()
    engine = Engine(component_factory=tallies(machine), store=store)
    with fail_after(PATIENCE):
        async with engine.running():
            await engine.send("t", GO)
            await was_asked.wait()
            assert await engine.send("t", STAY) is Outcome.TRANSITIONED
    stored = await store.load("t")
    assert stored is not None
    assert (stored.state, stored.due) == ("b", float("inf"))
    assert await store.due(float("inf"), 9) == []


async def test_store_is_open_while_the_engine_runs(reopen: Reopen) -> None:
    """M2: `running()` opens and closes the store; before and after it opens by itself."""
    store = reopen()
    engine = over(store)
    await engine.send("t", GO)
    async with engine.running():
        await engine.send("t", GO)
    await engine.send("t", GO)
    stored = await store.load("t")
    assert stored is not None
    assert stored[1:3] == ("a", {"n": 3})


async def test_component_without_attributes(reopen: Reopen) -> None:
    """K1: Where `snapshot` returns None the state alone is stored."""
    store = reopen()
    engine = Engine(component_factory=lambda name: Component(name, machine=PLAIN), store=store)
    await engine.send("t", GO)
    again = Engine(component_factory=lambda name: Component(name, machine=PLAIN), store=reopen())
    await again.send("t", {"type": "other"})
    assert again.components["t"].state == "b"


PLAIN = StateMachine("a", [Transition("a", "go", "b")])
