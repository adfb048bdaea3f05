"""What is neither copied nor pickled, and what is."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from flexiflow import Component, Engine, EventBus, StateMachine, Transition

COPIES: dict[str, Callable[[Any], object]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
    "deepcopy in a dict": lambda it: copy.deepcopy({"it": it}),
}


class Again(Component):
    """Says how it is made again."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Make one of that name."""
        return Again, (self.name,)


async def things() -> list[Any]:
    """Make one of each kind."""
    machine = StateMachine("off", [Transition("off", "go", "on")])
    component, registered = Component("a", machine=machine), Component("b")
    engine = Engine()
    await engine.register(registered)
    subscription = await engine.bus.subscribe("a", "c", print)
    return [component, registered, engine, engine.bus, EventBus(), subscription]


@pytest.mark.parametrize("how", COPIES)
async def test_what_others_hold_on_to_is_not_copied(how: str) -> None:
    """C1: A copy would share state, handlers and turns with the first one; nothing changes."""
    message = (
        " can't be copied or pickled, since a copy would share its inside with the first one; make "
        "a new one, or define __reduce__ to say how that is made"
    )
    for each in await things():
        with pytest.raises(TypeError, match=f"^{type(each).__name__}{message}$"):
            COPIES[how](each)
        assert repr(each)


async def test_a_component_that_says_how_it_is_made_again_is() -> None:
    """C1: By `__reduce__`, as any object."""
    first = Again("a")
    for made in (copy.copy(first), copy.deepcopy(first), pickle.loads(pickle.dumps(first))):  # noqa: S301
        assert (type(made), made.name) == (Again, "a")
        assert made is not first
        await made.handle_message({"type": "go"})


def test_a_table_is_copied() -> None:
    """C9: A state machine is immutable data."""
    machine = StateMachine("off", [Transition("off", "go", "on")])
    for made in (copy.copy(machine), copy.deepcopy(machine), pickle.loads(pickle.dumps(machine))):  # noqa: S301
        assert made.mermaid() == machine.mermaid()
