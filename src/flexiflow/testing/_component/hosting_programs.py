"""Programs that claim what the clauses C1 and C2 promise."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio

from flexiflow import (
    ComponentError,
    DuplicateComponent,
    Outcome,
    StateMachine,
    Transition,
    UnknownComponent,
)
from flexiflow.testing._examiner.kit import Boom, claim, host, log_kept, refused, settle

if TYPE_CHECKING:
    from flexiflow import Component, Engine
    from flexiflow.testing._examiner.kit import NewComponent, NewEngine

    Heard: TypeAlias = list[Any]


async def send(engine: Engine, heard: Heard, trigger: str = "go") -> None:
    """Send a message to "a", and note the outcome, or the type of what it raises."""
    try:
        heard.append(await engine.send("a", {"type": trigger}))
    except Exception as error:  # noqa: BLE001
        heard.append(type(error))


async def publishes_a_registration(factory: NewComponent, new_engine: NewEngine) -> None:
    """What is registered is in `components`, and its event is published once."""
    heard: Heard = []
    engine = new_engine()
    await engine.bus.subscribe("engine.component.registered", "o", heard.append)
    component = factory("a")
    await engine.register(component)
    is_there = dict(engine.components) == {"a": component}
    claim(is_there, "what was registered is not in components")
    claim(heard == [{"component": "a"}], f"its registration was published as {heard}")


async def refuses_a_duplicate(factory: NewComponent, new_engine: NewEngine) -> None:
    """A component whose name is taken is refused, and nothing is changed."""
    heard: Heard = []
    engine, component = await host(factory, new_engine, heard)
    await engine.bus.subscribe("**", "a", heard.append)
    duplicate = factory("a")
    with refused(DuplicateComponent, "a second component of one name is not refused"):
        await engine.register(duplicate)
    is_there = engine.components["a"] is component
    claim(is_there, "a component that was refused replaced another")
    await engine.bus.publish("b", 1)
    told = f"after a duplicate was refused, a handler of the other one heard {heard}"
    claim(heard == [1], told)
    elsewhere = new_engine()
    await elsewhere.register(duplicate)
    told = "what was refused as a duplicate belongs to an engine"
    claim("a" in elsewhere.components, told)


async def registers_two_at_once(factory: NewComponent, new_engine: NewEngine) -> None:
    """Of two components of one name that are registered at once, one is refused."""
    heard: Heard = []
    engine = new_engine()
    await engine.bus.subscribe("engine.component.registered", "o", heard.append)

    async def register() -> None:
        try:
            await engine.register(factory("a"))
        except DuplicateComponent:
            heard.append("refused")

    async with anyio.create_task_group() as group:
        group.start_soon(register)
        group.start_soon(register)
    expected = [{"component": "a"}, "refused"]
    claim(sorted(heard, key=str) == sorted(expected, key=str), f"two at once came to {heard}")


async def registers_or_is_cancelled(factory: NewComponent, new_engine: NewEngine) -> None:
    """A `register` that is cancelled has registered nothing."""
    engine = new_engine()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await engine.register(factory("a"))
    if scope.cancelled_caught:
        claim("a" not in engine.components, "a register that was cancelled has registered")
        await engine.register(factory("a"))


async def belongs_to_one_engine(factory: NewComponent, new_engine: NewEngine) -> None:
    """A component can't be registered with two engines."""
    engine, component = await host(factory, new_engine, [])
    other = new_engine()
    with refused(ComponentError, "a component was registered with two engines"):
        await other.register(component)
    claim("a" not in other.components, "what was refused is among the components")
    outcome = await engine.send("a", {"type": "go"})
    told = f"refused elsewhere, it made of a message {outcome}"
    claim(outcome is Outcome.TRANSITIONED, told)


async def has_read_only_components(factory: NewComponent, new_engine: NewEngine) -> None:
    """`components` is read-only."""
    engine, component = await host(factory, new_engine, [])
    components: Any = engine.components
    with refused(TypeError, "components is not read-only"):
        components["b"] = component


async def holds_messages_back(
    factory: NewComponent, new_engine: NewEngine, *, unregisters: bool
) -> None:
    """What is sent to a component that is being registered waits until it is, or is gone."""
    heard: Heard = []
    machine = StateMachine("s0", [Transition("*", "go", "s1")])
    engine = new_engine()
    gate = anyio.Event()

    async def observe(_: object) -> None:
        await gate.wait()

    await engine.bus.subscribe("engine.component.registered", "o", observe)
    async with anyio.create_task_group() as group:
        group.start_soon(engine.register, factory("a", machine=machine))
        await settle()
        for _ in range(2):
            group.start_soon(send, engine, heard)
        await settle()
        early = list(heard)
        if unregisters:
            await engine.unregister("a")
        gate.set()
    claim(early == [], "a message was handled before its component was registered")
    expected = UnknownComponent if unregisters else Outcome.TRANSITIONED
    told = f"two that waited for a registration, to get {expected}: {heard}"
    claim(heard == [expected] * 2, told)


async def registers_again(factory: NewComponent, new_engine: NewEngine) -> None:
    """A component that was unregistered may be registered again."""
    engine, component = await host(factory, new_engine, [])
    await engine.unregister("a")
    await engine.register(component)
    outcome = await engine.send("a", {"type": "go"})
    told = f"registered again, it made of a message {outcome}"
    claim(outcome is Outcome.TRANSITIONED, told)


async def ends_its_subscriptions(factory: NewComponent, new_engine: NewEngine) -> None:
    """`unregister` ends the component's subscriptions."""
    heard: Heard = []
    engine, _ = await host(factory, new_engine, [])
    await engine.bus.subscribe("b", "a", heard.append)
    await engine.unregister("a")
    await engine.bus.publish("b", 1)
    claim(heard == [], "a subscription is there after its component was unregistered")
    claim("a" not in engine.components, "what was unregistered is in components")


async def unregisters_nobody(_: NewComponent, new_engine: NewEngine) -> None:
    """What is not there can't be unregistered."""
    engine = new_engine()
    with refused(UnknownComponent, "an unknown component was unregistered"):
        await engine.unregister("a")


async def finishes_what_is_in_hand(factory: NewComponent, new_engine: NewEngine) -> None:
    """After `unregister` the message in hand finishes, and those that wait are refused."""
    heard: Heard = []
    begun: Heard = []
    gate = anyio.Event()

    async def wait(message: object, _: object) -> None:
        begun.append(message)
        await gate.wait()

    engine, component = await host(factory, new_engine, heard, wait)
    with anyio.move_on_after(1):
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(send, engine, heard)
                await settle()
            await engine.unregister("a")
            await settle()
            gate.set()
            await settle()
    expected = [UnknownComponent, Outcome.TRANSITIONED]
    # Two at once break C3.
    if len(begun) == 1:
        told = f"who waited, and who was in hand, got {heard}, not {expected}"
        claim(heard == expected, told)
        told = f"unregistered, it did not finish: it is in {component.state}"
        claim(component.state == "s1", told)


async def reports_what_was_deferred(factory: NewComponent, new_engine: NewEngine) -> None:
    """Deferred messages of a component that has left are reported, each as `UnknownComponent`."""
    heard: Heard = []
    outcomes: Heard = []

    async def act(_: object, __: object) -> None:
        with anyio.move_on_after(1), suppress(Exception):
            for _ in range(2):
                outcomes.append(await engine.send("a", {"type": "note"}))
        outcomes.extend(heard)
        await engine.unregister("a")

    engine, _ = await host(factory, new_engine, heard, act)
    await engine.bus.subscribe("event.handler.failed", "o", heard.append)
    with log_kept() as records:
        await engine.send("a", {"type": "go"})
    left = [each for each in heard if isinstance(each.get("exception"), UnknownComponent)]
    # What else may go wrong with a message to oneself breaks C4.
    if outcomes == [Outcome.DEFERRED] * 2:
        told = f"of 2 deferred messages of what left were {len(left)} published"
        claim(len(left) == 2, told)
        names = {(each["event_name"], each["component_name"]) for each in left}
        claim(names == {("component.message.received", "a")}, f"published as {names}")
        logged = [each.levelname for each in records if each.exc_info]
        told = f"2 deferred messages of what left were logged as {logged}"
        claim(logged == ["ERROR"] * 2, told)


REGISTERING: Final = (
    publishes_a_registration,
    refuses_a_duplicate,
    registers_two_at_once,
    registers_or_is_cancelled,
    belongs_to_one_engine,
    has_read_only_components,
    holds_messages_back,
    registers_again,
    ends_its_subscriptions,
    unregisters_nobody,
    finishes_what_is_in_hand,
    reports_what_was_deferred,
)


async def asks_once(factory: NewComponent, new_engine: NewEngine, *, gives: str) -> None:
    """A factory is asked once, however many send at once; if it gives nothing, again later."""
    heard: Heard = []
    asked: list[str] = []

    async def make(name: str) -> Component | None:
        asked.append(name)
        await settle()
        if gives == "a failure":
            raise Boom
        return factory(name) if gives == "a component" else None

    engine = new_engine(component_factory=make)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(send, engine, heard, "note")
    expected = {"a failure": Boom, "a component": Outcome.IGNORED}.get(gives, UnknownComponent)
    told = f"from a factory that gives {gives}, senders that ask at once got {heard}"
    claim(heard == [expected] * 3, told)
    claim(asked == ["a"], f"the factory, which gives {gives}, was asked {len(asked)} times")
    is_there = list(engine.components) == ["a"]
    claim(is_there or gives != "a component", "what the factory gave is not registered")
    await send(engine, heard, "note")
    told = f"a factory that gave {gives} was asked {len(asked)} times for two messages"
    claim(len(asked) == 2 - is_there, told)


async def registers_what_is_made(factory: NewComponent, new_engine: NewEngine) -> None:
    """What a sync factory gives is registered, and asked for once."""
    heard: Heard = []

    def make(name: str) -> Component:
        heard.append(name)
        return factory(name)

    engine = new_engine(component_factory=make)
    await engine.bus.subscribe("engine.component.registered", "o", heard.append)
    for _ in range(2):
        await engine.send("a", {"type": "go"})
    claim(heard == ["a", {"component": "a"}], f"asked for and registered as {heard}")


async def asks_for_the_next(factory: NewComponent, new_engine: NewEngine) -> None:
    """If the sender that asks is cancelled, the next one asks again."""
    heard: Heard = []
    scope = anyio.CancelScope()

    async def make(name: str) -> Component:
        heard.append(name)
        if len(heard) == 1:
            await anyio.sleep_forever()
        return factory(name)

    engine = new_engine(component_factory=make)

    async def leave() -> None:
        with scope:
            await engine.send("a", {"type": "go"})

    with anyio.move_on_after(1):
        async with anyio.create_task_group() as group:
            group.start_soon(leave)
            await settle()
            group.start_soon(engine.send, "a", {"type": "go"})
            await settle()
            scope.cancel()
    told = f"after the asker was cancelled, the factory was asked {len(heard)} times"
    claim(heard == ["a", "a"], told)
    told = "after the asker was cancelled, nothing was registered"
    claim("a" in engine.components, told)


async def knows_no_component(_: NewComponent, new_engine: NewEngine) -> None:
    """A factory that gives None makes the component unknown."""
    engine = new_engine(component_factory=lambda name: None)  # noqa: ARG005
    told = "a factory that gives None gives something"
    with refused(UnknownComponent, told) as errors, anyio.fail_after(1):
        await engine.send("a", {"type": "go"})
    claim(isinstance(errors[0], KeyError), "an unknown component is no KeyError")


async def refuses_to_ask_itself(_: NewComponent, new_engine: NewEngine) -> None:
    """A factory that asks for the name that it is to make gets a `ComponentError`."""

    async def make(_: str) -> None:
        await engine.send("a", {"type": "go"})

    engine = new_engine(component_factory=make)
    told = "a factory may ask for the very name"
    with refused(ComponentError, told) as errors, anyio.fail_after(1):
        await engine.send("a", {"type": "go"})
    told = "a factory that asks for the very name is told that it is unknown"
    claim(not isinstance(errors[0], UnknownComponent), told)


async def asks_for_another(factory: NewComponent, new_engine: NewEngine) -> None:
    """A factory may ask for another name."""

    async def make(name: str) -> Component:
        if name == "a":
            await engine.send("b", {"type": "go"})
        return factory(name)

    engine = new_engine(component_factory=make)
    await engine.send("a", {"type": "go"})
    made = sorted(engine.components)
    told = f"a factory that sends to another unknown name has made {made}"
    claim(made == ["a", "b"], told)


async def refuses_another_name(factory: NewComponent, new_engine: NewEngine) -> None:
    """A factory that gives a component of another name is refused."""
    engine = new_engine(component_factory=partial(_named, factory))
    told = "a factory may give a component of another name"
    with refused(ComponentError, told), anyio.fail_after(1):
        await engine.send("a", {"type": "go"})
    claim(not engine.components, "a component of another name was registered")


def _named(factory: NewComponent, _: str) -> Component:
    return factory("b")


async def names_the_closest(factory: NewComponent, new_engine: NewEngine) -> None:
    """An unknown name is told with the closest one that there is."""
    engine = new_engine()
    await engine.register(factory("order-1"))
    with refused(UnknownComponent, "a message to nobody was taken") as errors:
        await engine.send("order-2", {"type": "go"})
    told = f"{errors[0]!s} does not name the closest name"
    claim("order-1" in str(errors[0]), told)


MAKING: Final = (
    asks_once,
    registers_what_is_made,
    asks_for_the_next,
    knows_no_component,
    refuses_to_ask_itself,
    asks_for_another,
    refuses_another_name,
    names_the_closest,
)
GIVEN: Final = ("a component", "a failure", "None")
