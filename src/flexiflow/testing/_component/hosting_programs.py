"""Programs that claim what the clauses C1 and C2 promise."""

from __future__ import annotations

from contextlib import suppress
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
from flexiflow.testing._examiner.kit import Boom, claim, log_kept, refused, settle

if TYPE_CHECKING:
    from flexiflow import Component, Engine
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]


async def send(engine: Engine, heard: Heard, trigger: str = "go") -> None:
    """Send a message to "a", and note the outcome, or the type of what it raises."""
    try:
        heard.append(await engine.send("a", {"type": trigger}))
    except Exception as error:  # noqa: BLE001
        heard.append(type(error))


async def publishes_a_registration(new: Factories, *, heard: Heard) -> None:
    """A component that is registered is in `components`, and its event is published once."""
    engine = new.engine()
    await engine.bus.subscribe("engine.component.registered", "o", heard.append)
    component = new.component("a")
    await engine.register(component)
    claim(dict(engine.components) == {"a": component}, "what was registered is not in components")
    claim(heard == [{"component": "a"}], f"its registration was published as {heard}")


async def refuses_a_duplicate(new: Factories, *, heard: Heard) -> None:
    """A component whose name is taken is refused, and nothing is changed."""
    engine, component = await new.host(heard)
    await engine.bus.subscribe("**", "a", heard.append)
    duplicate = new.component("a")
    with refused(DuplicateComponent, "a second component of one name is not refused"):
        await engine.register(duplicate)
    claim(engine.components["a"] is component, "a component that was refused replaced another")
    await engine.bus.publish("b", 1)
    claim(heard == [1], f"after a duplicate was refused, a handler of the other one heard {heard}")
    elsewhere = new.engine()
    await elsewhere.register(duplicate)
    claim("a" in elsewhere.components, "what was refused as a duplicate belongs to an engine")


async def registers_two_at_once(new: Factories, *, heard: Heard) -> None:
    """Of two components of one name that are registered at once, one is refused."""
    engine = new.engine()
    await engine.bus.subscribe("engine.component.registered", "o", heard.append)

    async def register() -> None:
        try:
            await engine.register(new.component("a"))
        except DuplicateComponent:
            heard.append("refused")

    async with anyio.create_task_group() as group:
        group.start_soon(register)
        group.start_soon(register)
    expected = [{"component": "a"}, "refused"]
    claim(sorted(heard, key=str) == sorted(expected, key=str), f"two at once came to {heard}")


async def registers_or_is_cancelled(new: Factories) -> None:
    """A `register` that is cancelled has registered nothing."""
    engine = new.engine()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await engine.register(new.component("a"))
    is_free = "a" not in engine.components
    told = "a register that was cancelled has registered"
    claim(is_free or not scope.cancelled_caught, told)
    with suppress(DuplicateComponent):
        await engine.register(new.component("a"))
    told = "after a register that was cancelled, its name is taken"
    claim("a" in engine.components, told)


async def belongs_to_one_engine(new: Factories) -> None:
    """A component can't be registered with two engines."""
    engine, component = await new.host([])
    other = new.engine()
    with refused(ComponentError, "a component was registered with two engines"):
        await other.register(component)
    claim("a" not in other.components, "what was refused is among the components")
    outcome = await engine.send("a", {"type": "go"})
    claim(outcome is Outcome.TRANSITIONED, f"refused elsewhere, it made of a message {outcome}")


async def has_read_only_components(new: Factories) -> None:
    """`components` is read-only."""
    engine, component = await new.host([])
    components: Any = engine.components
    with refused(TypeError, "components is not read-only"):
        components["b"] = component


async def holds_messages_back(new: Factories, *, heard: Heard, unregisters: bool) -> None:
    """A message to a component that is being registered waits until it is, or is gone."""
    machine = StateMachine("s0", [Transition("*", "go", "s1")])
    engine = new.engine()
    gate = anyio.Event()
    early: Heard = []

    async def observe(_: object) -> None:
        await gate.wait()

    await engine.bus.subscribe("engine.component.registered", "o", observe)
    async with anyio.create_task_group() as group:
        group.start_soon(engine.register, new.component("a", machine=machine))
        await settle()
        for _ in range(2):
            group.start_soon(send, engine, heard)
        await settle()
        early += heard
        if unregisters:
            await engine.unregister("a")
        gate.set()
    claim(early == [], "a message was handled before its component was registered")
    expected = UnknownComponent if unregisters else Outcome.TRANSITIONED
    told = f"two that waited for a registration, to get {expected}: {heard}"
    claim(heard == [expected] * 2, told)


async def registers_again(new: Factories) -> None:
    """A component that was unregistered may be registered again."""
    engine, component = await new.host([])
    await engine.unregister("a")
    await engine.register(component)
    outcome = await engine.send("a", {"type": "go"})
    claim(outcome is Outcome.TRANSITIONED, f"registered again, it made of a message {outcome}")


async def ends_its_subscriptions(new: Factories, *, heard: Heard) -> None:
    """`unregister` ends the component's subscriptions."""
    engine, _ = await new.host([])
    await engine.bus.subscribe("b", "a", heard.append)
    await engine.unregister("a")
    await engine.bus.publish("b", 1)
    claim(heard == [], "a subscription is there after its component was unregistered")
    claim("a" not in engine.components, "what was unregistered is in components")


async def unregisters_nobody(new: Factories) -> None:
    """To unregister an unknown component is refused."""
    engine = new.engine()
    with refused(UnknownComponent, "an unknown component was unregistered"):
        await engine.unregister("a")


async def finishes_what_is_in_hand(new: Factories, *, heard: Heard) -> None:
    """After `unregister` the message in hand finishes, and those that wait are refused."""
    begun: Heard = []
    gate = anyio.Event()

    async def wait(message: object, _: object) -> None:
        begun.append(message)
        await gate.wait()

    engine, component = await new.host(heard, wait)
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
    is_other = len(begun) != 1
    told = f"the message that waited, and the one in hand, came to {heard}, not {expected}"
    claim(is_other or heard == expected, told)
    told = f"unregistered, it did not finish: it is in {component.state}"
    claim(is_other or component.state == "s1", told)


async def reports_what_was_deferred(new: Factories, *, heard: Heard) -> None:
    """Deferred messages of a component that has left are reported, each as `UnknownComponent`."""
    outcomes: Heard = []

    async def act(_: object, __: object) -> None:
        with anyio.move_on_after(1), suppress(Exception):
            for _ in range(2):
                outcomes.append(await engine.send("a", {"type": "note"}))
        outcomes.extend(heard)
        await engine.unregister("a")

    engine, _ = await new.host(heard, act)
    await engine.bus.subscribe("event.handler.failed", "o", heard.append)
    with log_kept() as records:
        await engine.send("a", {"type": "go"})
    left = [each for each in heard if isinstance(each.get("exception"), UnknownComponent)]
    # What else may go wrong with a message to oneself breaks C4.
    is_other = outcomes != [Outcome.DEFERRED] * 2
    told = f"of 2 deferred messages of what left were {len(left)} published"
    claim(is_other or len(left) == 2, told)
    names = {(each["event_name"], each["component_name"]) for each in left}
    is_right = names == {("component.message.received", "a")}
    claim(is_other or is_right, f"published as {names}")
    logged = [each.levelname for each in records if each.exc_info]
    told = f"2 deferred messages of what left were logged as {logged}"
    claim(is_other or logged == ["ERROR"] * 2, told)


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


async def asks_once(new: Factories, *, heard: Heard, gives: str) -> None:
    """A factory is asked once, however many send at once; if it gives nothing, again later."""
    asked: list[str] = []

    async def make(name: str) -> Component | None:
        asked.append(name)
        await settle()
        if gives == "a failure":
            raise Boom
        return new.component(name) if gives == "a component" else None

    engine = new.engine(component_factory=make)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(send, engine, heard, "note")
    expected = {"a failure": Boom, "a component": Outcome.IGNORED}.get(gives, UnknownComponent)
    told = f"from a factory that gives {gives}, senders that ask at once got {heard}"
    claim(heard == [expected] * 3, told)
    claim(asked == ["a"], f"the factory, which gives {gives}, was asked {len(asked)} times")
    makes = gives == "a component"
    told = f"with a factory that gives {gives}, the engine has {list(engine.components)}"
    claim(list(engine.components) == ["a"] * makes, told)
    await send(engine, heard, "note")
    told = f"a factory that gave {gives} was asked {len(asked)} times for two messages"
    claim(len(asked) == 2 - makes, told)


async def registers_what_is_made(new: Factories, *, heard: Heard) -> None:
    """What a sync factory gives is registered, and asked for once."""

    def make(name: str) -> Component:
        heard.append(name)
        return new.component(name)

    engine = new.engine(component_factory=make)
    await engine.bus.subscribe("engine.component.registered", "o", heard.append)
    for _ in range(2):
        await engine.send("a", {"type": "go"})
    claim(heard == ["a", {"component": "a"}], f"asked for and registered as {heard}")


async def asks_for_the_next(new: Factories, *, heard: Heard) -> None:
    """If the sender that asks is cancelled, the next one asks again."""
    scope = anyio.CancelScope()

    async def make(name: str) -> Component:
        heard.append(name)
        if len(heard) == 1:
            await anyio.sleep_forever()
        return new.component(name)

    engine = new.engine(component_factory=make)

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
    claim("a" in engine.components, "after the asker was cancelled, nothing was registered")


async def knows_no_component(new: Factories) -> None:
    """A factory that gives None makes the component unknown."""

    def make(_: str) -> None:
        """Make nothing."""

    engine = new.engine(component_factory=make)
    told = "a factory that gives None gives something"
    with refused(UnknownComponent, told) as errors, anyio.fail_after(1):
        await engine.send("a", {"type": "go"})
    claim(isinstance(errors[0], KeyError), "an unknown component is no KeyError")


async def refuses_to_ask_itself(new: Factories) -> None:
    """A factory that asks for the name that it is to make gets a `ComponentError`."""

    async def make(_: str) -> None:
        await engine.send("a", {"type": "go"})

    engine = new.engine(component_factory=make)
    told = "a factory may ask for the very name"
    with refused(ComponentError, told) as errors, anyio.fail_after(1):
        await engine.send("a", {"type": "go"})
    told = "a factory that asks for the very name is told that it is unknown"
    claim(not isinstance(errors[0], UnknownComponent), told)


async def asks_for_another(new: Factories) -> None:
    """A factory may ask for another name."""

    async def make(name: str) -> Component:
        if name == "a":
            await engine.send("b", {"type": "go"})
        return new.component(name)

    engine = new.engine(component_factory=make)
    await engine.send("a", {"type": "go"})
    made = sorted(engine.components)
    claim(made == ["a", "b"], f"a factory that sends to another unknown name has made {made}")


async def refuses_another_name(new: Factories) -> None:
    """A factory that gives a component of another name is refused."""

    def make(_: str) -> Component:
        return new.component("b")

    engine = new.engine(component_factory=make)
    told = "a factory may give a component of another name"
    with refused(ComponentError, told), anyio.fail_after(1):
        await engine.send("a", {"type": "go"})
    claim(not engine.components, "a component of another name was registered")


async def names_the_closest(new: Factories) -> None:
    """An unknown name is told with the closest one that there is."""
    engine = new.engine()
    await engine.register(new.component("order-1"))
    with refused(UnknownComponent, "a message to nobody was taken") as errors:
        await engine.send("order-2", {"type": "go"})
    claim("order-1" in str(errors[0]), f"{errors[0]!s} does not name the closest name")


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
