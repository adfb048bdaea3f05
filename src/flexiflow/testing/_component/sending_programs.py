"""Programs about messages that fail, are cancelled, or lose their component (C1, C4)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import Outcome, StateMachine, Transition, UnknownComponent
from flexiflow.testing._examiner.kit import Boom, claim, log_kept, machine_of, settle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow import Component
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]
    Message: TypeAlias = Mapping[str, Any]


async def is_gone_in_one_step(new: Factories, *, heard: Heard, by: str, again: bool) -> None:
    """A message whose turn comes in the step in which its component leaves finds it gone."""
    outcomes: Heard = []
    go = anyio.Event()

    async def leave() -> None:
        await engine.unregister("a")
        if again:
            await engine.register(component)

    async def act(message: Message, _: Component) -> None:
        heard.append(message["number"])
        await go.wait()
        if by == "its handling":
            await leave()

    async def send(number: int) -> None:
        with suppress(UnknownComponent):
            outcomes.append(await engine.send("a", {"type": "go", "number": number}))
            if by == "its sender":
                await leave()

    engine, component = await new.host([], act)
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(send, number)
            await settle()
        go.set()
    told = f"0 is in hand, 1 and 2 wait, and the component is unregistered by {by}"
    claim(heard == [0], f"{told}; it handled {heard}")
    claim(outcomes == [Outcome.TRANSITIONED], f"{told}; the sends came to {outcomes}")


async def finishes_what_is_in_hand(new: Factories, *, heard: Heard, by: str) -> None:
    """The message in hand comes to its end, wherever its component is unregistered meanwhile."""

    async def leave(who: str) -> bool:
        heard.append(who)
        if who == by:
            await engine.unregister("a")
        return True

    async def observe(_: object) -> None:
        await leave("an observer")

    async def guard(_: Message, __: Component) -> bool:
        return await leave("the guard")

    async def act(_: Message, __: Component) -> None:
        await leave("the action")

    machine = StateMachine("s0", [Transition("s0", "go", "s1", guard=guard, action=act)])
    engine, component = await new.host([], machine=machine)
    await engine.bus.subscribe("component.message.received", "o", observe)
    outcome = await engine.send("a", {"type": "go"})
    told = f"{by} unregistered the component of the message in hand, which"
    claim(outcome is Outcome.TRANSITIONED, f"{told} came to {outcome}")
    claim(heard == ["an observer", "the guard", "the action"], f"{told} went {heard}")
    claim(component.state == "s1", f"{told} led to {component.state}")


async def is_gone_as_it_is_announced(new: Factories, *, heard: Heard, way: str) -> None:
    """A waiting sender is refused if an observer of the registration unregisters the component."""
    outcomes: Heard = []

    async def act(message: Message, _: Component) -> None:
        heard.append(message["number"])

    async def observe(_: object) -> None:
        await settle()
        await engine.unregister("a")

    def make(name: str) -> Component:
        return new.component(name, machine=machine_of([], act))

    async def send(number: int) -> None:
        try:
            outcomes.append(await engine.send("a", {"type": "go", "number": number}))
        except UnknownComponent:
            outcomes.append("unknown")

    engine = new.engine(component_factory=make)
    await engine.bus.subscribe("engine.component.registered", "o", observe)
    with anyio.move_on_after(9):
        async with anyio.create_task_group() as group:
            if way == "registered":
                group.start_soon(engine.register, make("a"))
                await checkpoint()
            for number in range(3):
                group.start_soon(send, number)
    told = f"{way}, and unregistered by an observer of that, it handled {heard}"
    claim(heard == [], told)
    claim(outcomes == ["unknown"] * 3, f"{told}; sends came to {outcomes}")


async def hears_from_its_observer(new: Factories, *, heard: Heard, way: str) -> None:
    """A message from an observer of the registration is handled before those of others."""

    async def act(message: Message, _: Component) -> None:
        heard.append(message["number"])

    async def observe(_: object) -> None:
        await settle()
        await engine.send("a", {"type": "go", "number": 9})
        heard.append("sent")

    def make(name: str) -> Component:
        return new.component(name, machine=machine_of([], act))

    engine = new.engine(component_factory=make)
    await engine.bus.subscribe("engine.component.registered", "o", observe)
    with anyio.move_on_after(9):
        async with anyio.create_task_group() as group:
            if way == "registered":
                group.start_soon(engine.register, make("a"))
                await checkpoint()
            for number in range(2):
                group.start_soon(engine.send, "a", {"type": "go", "number": number})
                await checkpoint()
    told = f"{way}, and sent 9 by an observer of that, then 0 and 1, it went"
    claim(heard == [9, "sent", 0, 1], f"{told} {heard}")


async def logs_what_is_not_raised(new: Factories, *, heard: Heard) -> None:
    """The failure of a send that is cancelled among its deferred messages is logged."""
    boom = Boom("the first")

    async def act(message: Message, _: Component) -> None:
        heard.append(message["number"])
        if message["number"]:
            await anyio.sleep_forever()
        await engine.send("a", {"type": "go", "number": 1})
        raise boom

    engine, _ = await new.host([], act)
    with log_kept() as records, anyio.move_on_after(1) as scope:
        await engine.send("a", {"type": "go", "number": 0})
    claim(heard == [0, 1], f"a message fails that has deferred another one: it handled {heard}")
    claim(scope.cancelled_caught, "a send was cancelled among its deferred messages, and went on")
    logged = [each.exc_info[1] for each in records if each.exc_info]
    claim(logged.count(boom) == 1, f"it had failed before, and logged were {logged}")


async def hears_of_a_deferred_failure(new: Factories, *, heard: Heard, way: str) -> None:
    """A message from an observer of a deferred message's failure is deferred."""
    outcomes: Heard = []

    async def act(message: Message, _: Component) -> None:
        heard.append(message["number"])
        if message["number"] == 0:
            await engine.send("a", {"type": "go", "number": 1})
        elif message["number"] == 1:
            raise Boom

    async def observe(_: object) -> None:
        message = {"type": "go", "number": 2}
        call = engine.send("a", message) if way == "send" else component.handle_message(message)
        outcomes.append(await call)

    engine, component = await new.host([], act)
    await engine.bus.subscribe("event.handler.failed", "o", observe)
    with anyio.move_on_after(9):
        await engine.send("a", {"type": "go", "number": 0})
    told = "an observer of a deferred message's failure sends another one"
    claim(outcomes == [Outcome.DEFERRED], f"{told}, which came to {outcomes}")
    claim(heard == [0, 1, 2], f"{told}; handled were {heard}")


async def leaves_what_it_has_not_begun(
    new: Factories, *, heard: Heard, fails: bool, deferred: int
) -> None:
    """Of a send that is cancelled as its own message ends, the deferred ones wait for the next."""

    async def act(message: Message, _: Component) -> None:
        heard.append(message["number"])
        if message["number"] == 0:
            for number in range(deferred):
                await engine.send("a", {"type": "go", "number": number + 1})
            scope.cancel()
            if fails:
                raise Boom

    engine, _ = await new.host([], act)
    with log_kept(), anyio.CancelScope() as scope:
        try:
            await engine.send("a", {"type": "go", "number": 0})
        except Boom:
            heard.append("fails")
    claim(heard in ([0], [0, "fails"]), f"a send is cancelled at its end, and it handled {heard}")
    heard.clear()
    await engine.send("a", {"type": "go", "number": 9})
    expected = [*range(1, deferred + 1), 9]
    claim(heard == expected, f"{deferred} were deferred by a send that is cancelled: {heard}")


async def waits_for_what_waits_no_more(new: Factories, *, heard: Heard, ends: str) -> None:
    """A component that has waited for another one, and does so no more, can be waited for."""

    async def act(message: Message, component: Component) -> None:
        if component.name == "a":
            with anyio.move_on_after(1 if ends == "is given up" else 9):
                await engine.send("b", {"type": "note"})
            await anyio.sleep(9)
        elif message.get("sends"):
            heard.append(await engine.send("a", {"type": "note"}))
        else:
            await anyio.sleep(2)

    engine, component = await new.host([], act)
    await engine.register(new.component("b", machine=component.machine))
    async with anyio.create_task_group() as group:
        # While b is busy, a waits for it; then b sends to a, which is still busy.
        for name, message in (("b", {}), ("a", {}), ("b", {"sends": True})):
            group.start_soon(engine.send, name, {"type": "go", **message})
            await anyio.sleep(0.5 if name == "b" else 4)
    told = f"a wait for b {ends}, and b sends to a, which is busy"
    claim(heard == [Outcome.TRANSITIONED], f"{told}: {heard}")


DEFERRING: Final = (
    logs_what_is_not_raised,
    hears_of_a_deferred_failure,
    leaves_what_it_has_not_begun,
    waits_for_what_waits_no_more,
)
