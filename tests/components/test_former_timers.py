"""Stored due times of states that have no timer any more (M2)."""

from anyio import fail_after, wait_all_tasks_blocked

from flexiflow import Component, Engine, StateMachine, Transition
from flexiflow.events import COMPONENT_REGISTERED
from flexiflow.extras.stores import MemoryStateStore
from tests.helpers import PATIENCE

MACHINE = StateMachine("new", [Transition("new", "pay", "paid"), Transition("paid", "ask", None)])


async def test_the_time_of_a_state_that_has_lost_its_timer_is_forgotten() -> None:
    """M2: a component whose stored time has come is loaded for that once, not again and again."""
    store = MemoryStateStore()
    await store.save("order", "paid", {"total": 42}, expected=0, due=1.0)
    engine = Engine(store=store, component_factory=lambda name: Component(name, machine=MACHINE))
    with fail_after(PATIENCE):
        async with engine.bus.expect(COMPONENT_REGISTERED) as loaded, engine.running():
            await loaded
            await wait_all_tasks_blocked()
            assert list(await store.due(2.0, 1)) == []
    stored = await store.load("order")
    assert stored is not None
    assert (stored.state, stored.due) == ("paid", None)
