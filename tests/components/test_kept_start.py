"""Components that have handled messages before an engine with a store gets them (K4)."""

from flexiflow import Component, Engine, StateMachine, Transition
from flexiflow.extras.stores import MemoryStateStore

SWITCH = StateMachine("off", [Transition("off", "on", "on"), Transition("on", "off", "off")])


async def test_a_component_keeps_its_state_where_nothing_is_stored() -> None:
    """K4: where nothing is stored, a component is registered as without a store."""
    lamp = Component("lamp", machine=SWITCH)
    await lamp.handle_message({"type": "on"})
    store = MemoryStateStore()
    await Engine(store=store).register(lamp)
    assert (lamp.state, await store.load("lamp")) == ("on", None)


async def test_what_is_stored_replaces_the_state() -> None:
    """K4: where something is stored, it is put in, whatever the component has done before."""
    store = MemoryStateStore()
    await store.save("lamp", "off", None, expected=0)
    lamp = Component("lamp", machine=SWITCH)
    await lamp.handle_message({"type": "on"})
    await Engine(store=store).register(lamp)
    assert lamp.state == "off"
