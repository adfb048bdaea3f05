"""Programs that claim what the clauses C5 to C10 promise, beyond what scripts show."""

from __future__ import annotations

from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import anyio

from flexiflow import HandlerCancelled, Outcome, StateMachine, Transition, TransitionRefused
from flexiflow.testing._examiner.kit import (
    claim,
    fail,
    kept_cancellation,
    machine_of,
    refused,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow import Component, Engine
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]
    Way: TypeAlias = Literal["send", "handle_message"]

WAYS: Final[tuple[Way, ...]] = ("send", "handle_message")
NO_MESSAGES: Final[tuple[tuple[type[Exception], object], ...]] = (
    (TypeError, None),
    (TypeError, "go"),
    (ValueError, {}),
    (ValueError, {"type": 1}),
)


async def hand(engine: Engine, component: Component, way: Way, message: Any) -> Outcome:
    """Send a message to a component, or hand it over directly."""
    if way == "send":
        return await engine.send(component.name, message)
    return await component.handle_message(message)


# C5


async def refuses_what_is_no_message(
    new: Factories, *, heard: Heard, bad: tuple[type[Exception], object], way: Way
) -> None:
    """A message that is no mapping with a str `type` is refused before anything is published."""
    error, given = bad
    engine, component = await new.host([])
    await engine.bus.subscribe("**", "o", heard.append)
    with refused(error, f"{given!r} is not refused with {error.__name__}"):
        await hand(engine, component, way, given)
    claim(heard == [], f"{given!r} is no message, and published was {heard}")


async def copies_what_is_sent(new: Factories, *, heard: Heard) -> None:
    """A message is copied when it is sent."""
    sent: dict[str, object] = {"type": "note", "value": 1}
    engine, _ = await new.host(heard)
    observing = engine.bus.subscribe(
        "component.message.received", "o", lambda _: sent.update(value=2)
    )
    await observing
    await engine.send("a", MappingProxyType(sent))
    claim(heard == [{"type": "note", "value": 1}], f"it was handled as it was changed: {heard}")


async def copies_what_waits(new: Factories, *, heard: Heard, way: Way) -> None:
    """A message that has to wait was copied when it was sent."""
    sent: dict[str, object] = {"type": "note", "value": 1}
    engine, component = await new.host(heard)
    gate = anyio.Event()

    async def observe(_: object) -> None:
        await gate.wait()

    await engine.bus.subscribe("component.message.received", "o", observe)
    async with anyio.create_task_group() as group:
        group.start_soon(engine.send, "a", {"type": "note", "value": 0})
        await settle()
        group.start_soon(hand, engine, component, way, MappingProxyType(sent))
        await settle()
        sent["value"] = 2
        gate.set()
    claim(heard[1:] == [{"type": "note", "value": 1}], f"sent as 1, it was handled as {heard[1:]}")


async def survives_its_observers(new: Factories) -> None:
    """Observers that fail change nothing."""
    engine, component = await new.host([])
    await engine.bus.subscribe("component.message.received", "o", fail)
    await engine.bus.subscribe("state.changed", "o", fail)
    outcome = await engine.send("a", {"type": "go"})
    claim(outcome is Outcome.TRANSITIONED, f"with observers that fail, the outcome is {outcome}")
    claim(component.state == "s1", f"with observers that fail, the state is {component.state}")


async def handles_without_an_engine(new: Factories) -> None:
    """A component handles messages without an engine, too."""
    _, hosted = await new.host([])
    outcome = await hosted.handle_message({"type": "note"})
    claim(outcome is Outcome.TRANSITIONED, f"handed to a component, the outcome is {outcome}")
    component = new.component("b", machine=machine_of([]))
    outcome = await component.handle_message({"type": "go"})
    claim(outcome is Outcome.TRANSITIONED, f"without an engine, the outcome is {outcome}")
    claim(component.state == "s1", f"without an engine, the state is {component.state}")


STEPS: Final = (
    refuses_what_is_no_message,
    copies_what_is_sent,
    copies_what_waits,
    survives_its_observers,
    handles_without_an_engine,
)


# C6


async def stray(*_: object) -> Any:
    """Raise a cancellation that was caught from a scope, which is over."""
    raise await kept_cancellation()


async def fails_by_a_stray(new: Factories, *, role: str) -> None:
    """A stray cancellation of a guard or action is a failure."""
    functions: dict[str, Any] = {role: stray}
    machine = StateMachine("s0", [Transition("*", "go", "s1", **functions)])
    engine, component = await new.host([], machine=machine)
    with refused(HandlerCancelled, f"a stray cancellation of a {role} is lost") as errors:
        await engine.send("a", {"type": "go"})
    claim(component.state == "s0", f"after a stray cancellation the state is {component.state}")
    check_cause(errors)


async def fails_by_a_stray_factory(new: Factories) -> None:
    """A stray cancellation of a component's factory is a failure."""
    engine = new.engine(component_factory=stray)
    with refused(HandlerCancelled, "a stray cancellation of a factory is lost") as errors:
        await engine.send("a", {"type": "go"})
    check_cause(errors)


def check_cause(errors: list[BaseException]) -> None:
    """Check that an exception is from a cancellation."""
    cause = errors[0].__cause__
    claim(isinstance(cause, anyio.get_cancelled_exc_class()), f"HandlerCancelled is from {cause!r}")


# C7


async def takes_an_internal_transition(new: Factories, *, heard: Heard) -> None:
    """With `target=None` the action runs, and nothing changes."""

    def is_new(message: Mapping[str, Any], _: object) -> bool:
        return message not in heard

    def noted(message: Mapping[str, Any], _: object) -> None:
        heard.append(message)

    rows = [Transition("s0", "note", None, guard=is_new, action=noted)]
    engine, component = await new.host([], machine=StateMachine("s0", rows))
    await engine.bus.subscribe("state.changed", "o", heard.append)
    outcome = await engine.send("a", {"type": "note"})
    claim(heard == [{"type": "note"}], f"of an internal transition was heard {heard}")
    claim(component.state == "s0", f"an internal transition led to {component.state}")
    claim(outcome is Outcome.TRANSITIONED, f"the outcome of an internal transition is {outcome}")
    # What becomes of a message that nothing matches is a matter of C8.
    with suppress(TransitionRefused):
        await engine.send("a", {"type": "note"})
    claim(heard == [{"type": "note"}], f"of an internal transition that a guard refuses: {heard}")


async def goes_to_its_own_source(new: Factories, *, heard: Heard) -> None:
    """A transition from a state to itself is one like any other."""
    engine, _ = await new.host([], machine=StateMachine("s0", [Transition("s0", "go", "s0")]))
    await engine.bus.subscribe("state.changed", "o", heard.append)
    outcome = await engine.send("a", {"type": "go"})
    expected = [{"component": "a", "from_state": "s0", "to_state": "s0"}]
    claim(heard == expected, f"of a transition to its own source was published {heard}")
    claim(outcome is Outcome.TRANSITIONED, f"the outcome of one to its own source is {outcome}")


# C8


async def ignores_what_nothing_matches(new: Factories, *, heard: Heard) -> None:
    """A message that no transition matches changes nothing."""
    engine, component = await new.host(heard)
    await engine.bus.subscribe("state.changed", "o", heard.append)
    outcome = await engine.send("a", {"type": "other"})
    claim(outcome is Outcome.IGNORED, f"of a message that nothing matches came {outcome}")
    is_same = (heard, component.state) == ([], "s0")
    claim(is_same, "a message that nothing matches changed something")


async def ignores_without_a_machine(new: Factories) -> None:
    """A component without a machine ignores every message."""
    engine = new.engine()
    await engine.register(new.component("a"))
    outcome = await engine.send("a", {"type": "other"})
    told = f"of a message to a component without a machine came {outcome}"
    claim(outcome is Outcome.IGNORED, told)


async def is_strict(new: Factories) -> None:
    """A strict machine refuses what nothing matches, and names what it would take."""

    def refuse(_: object, __: object) -> bool:
        return False

    rows = [Transition("s0", "go", "s1"), Transition("s0", "wait", "s1", guard=refuse)]
    engine, component = await new.host([], machine=StateMachine("s0", rows, strict=True))
    for sent in ("other", "wait"):
        with refused(TransitionRefused, f"a strict machine ignores {sent!r}") as errors:
            await engine.send("a", {"type": sent})
        unnamed = [word for word in ("s0", sent, "go") if word not in str(errors[0])]
        claim(not unnamed, f"{errors[0]!s} does not name {unnamed}")
    claim(component.state == "s0", f"a message that was refused led to {component.state}")


UNMATCHED: Final = (ignores_what_nothing_matches, ignores_without_a_machine, is_strict)


# C9


async def shares_its_machine(new: Factories) -> None:
    """Components that share a machine each keep their own state, and it does not change."""
    machine = machine_of([])
    rows, engine = machine.transitions, new.engine()
    component, other = (new.component(name, machine=machine) for name in "ab")
    for each in (component, other):
        await engine.register(each)
    await engine.send("a", {"type": "go"})
    states = component.state, other.state
    claim(states == ("s1", "s0"), f"of two with one machine, one was sent a message: {states}")
    claim(component.machine is machine, "machine is not what was given")
    claim(machine.transitions is rows, "the machine has changed")


async def begins_anew(new: Factories) -> None:
    """A component begins in the initial state, also after others have left it."""
    engine, component = await new.host([])
    await engine.send("a", {"type": "go"})
    late = new.component("b", machine=component.machine)
    claim(late.state == "s0", f"made after another one has moved, it begins in {late.state}")


async def has_read_only_attributes(new: Factories) -> None:
    """`name`, `machine` and `state` are read-only."""
    component = new.component("a")
    for name in ("name", "machine", "state"):
        with refused(AttributeError, f"{name} can be set"):
            setattr(component, name, None)


SHARED: Final = (shares_its_machine, begins_anew, has_read_only_attributes)


# C10


async def keeps_observers_apart(new: Factories, *, heard: Heard) -> None:
    """What an observer changes does not reach the component."""
    engine, _ = await new.host(heard)

    def change(data: dict[str, Any]) -> None:
        data["message"].update(value=2)

    await engine.bus.subscribe("component.message.received", "o", change)
    await engine.send("a", {"type": "note", "value": 1})
    claim(heard == [{"type": "note", "value": 1}], f"an observer's change reached it: {heard}")


async def shares_nested_values(new: Factories, *, heard: Heard) -> None:
    """Nested values are shared."""
    nested: list[int] = []
    engine, _ = await new.host(heard)

    def change(data: dict[str, Any]) -> None:
        data["message"]["value"].append(2)

    await engine.bus.subscribe("component.message.received", "o", change)
    await engine.send("a", {"type": "note", "value": nested})
    claim(heard[0]["value"] is nested, "nested values are not shared")
    claim(nested == [2], "an observer has other nested values")


async def keeps_the_senders_message(new: Factories) -> None:
    """What an observer changes does not reach the sender."""
    sent = {"type": "note", "value": 1}
    engine, _ = await new.host([])

    def clear(data: dict[str, Any]) -> None:
        data["message"].clear()

    await engine.bus.subscribe("component.message.received", "o", clear)
    await engine.send("a", sent)
    claim(sent == {"type": "note", "value": 1}, f"an observer's change reached the sender: {sent}")


COPIES: Final = (keeps_observers_apart, shares_nested_values, keeps_the_senders_message)
