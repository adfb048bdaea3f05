"""Programs that claim what the clauses C3 and C4 promise, beyond what scripts show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import Outcome, StateMachine, Transition
from flexiflow.testing._examiner.kit import claim, settle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow import Component
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]
    Message: TypeAlias = Mapping[str, Any]


# C3


async def runs_in_parallel(new: Factories, *, heard: Heard) -> None:
    """Different components run in parallel."""
    met = anyio.Event()

    async def wait(_: Message, component: Component) -> None:
        if component.name == "a":
            with anyio.move_on_after(1):
                await met.wait()
                heard.append("met")
        else:
            met.set()

    engine, component = await new.host(heard, wait)
    await engine.register(new.component("b", machine=component.machine))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.send, "a", {"type": "go"})
        await settle()
        group.start_soon(engine.send, "b", {"type": "go"})
    claim(heard == ["met"], "a component waited for another one's message to be handled")


async def handles_one_at_a_time(new: Factories, *, heard: Heard) -> None:
    """A message waits for the one before, whether it is sent or handed over."""

    async def wait(_: Message, __: Component) -> None:
        heard.append("begins")
        await settle()
        heard.append("ends")

    engine, component = await new.host(heard, wait)
    async with anyio.create_task_group() as group:
        group.start_soon(engine.send, "a", {"type": "go"})
        group.start_soon(component.handle_message, {"type": "go"})
    claim(heard == ["begins", "ends"] * 2, f"send and handle_message at once: {heard}")


async def serves_in_order(new: Factories) -> None:
    """First come, first served, also while a component is registered or made."""
    gate = anyio.Event()
    sent: dict[str, list[int]] = {"a": [], "b": []}
    served: dict[str, list[int]] = {"a": [], "b": []}

    async def wait(message: Message, component: Component) -> None:
        served[component.name].append(message["number"])

    async def tell(_: object) -> None:
        await gate.wait()

    async def send(name: str, number: int) -> None:
        sent[name].append(number)
        await engine.send(name, {"type": "go", "number": number})

    def make(name: str) -> Component:
        return new.component(name, machine=machine)

    machine = StateMachine("s0", [Transition("*", "go", "s1", action=wait)])
    engine = new.engine(component_factory=make)
    await engine.bus.subscribe("engine.component.registered", "o", tell)
    async with anyio.create_task_group() as group:
        group.start_soon(engine.register, make("a"))
        await settle()
        for number in range(4):
            group.start_soon(send, "a", number)
            group.start_soon(send, "b", number)
        await settle()
        gate.set()
    for name, verb in (("a", "registered"), ("b", "made")):
        told = f"those who waited for it to be {verb} were served as {served[name]}"
        claim(served[name] == sent[name], f"{told}, not {sent[name]}")


TURNS: Final = (runs_in_parallel, handles_one_at_a_time, serves_in_order)


# C4


async def ends_a_long_chain(new: Factories, *, heard: Heard) -> None:
    """A chain of deferred messages comes to its end, however long it is."""

    async def act(message: Message, _: Component) -> None:
        if message["left"]:
            await engine.send("a", {"type": "go", "left": message["left"] - 1})
        else:
            heard.append(message)

    engine, _ = await new.host(heard, act)
    with anyio.move_on_after(1e3):
        await engine.send("a", {"type": "go", "left": 2_000})
    claim(len(heard) == 1, "a chain of 2,000 deferred messages did not come to its end")


async def defers_what_is_handed_over(new: Factories, *, heard: Heard) -> None:
    """A message that is handed over from within is deferred, too."""
    outcomes: Heard = []

    async def act(_: Message, component: Component) -> None:
        with anyio.move_on_after(1):
            outcomes.append(await component.handle_message({"type": "note"}))
        outcomes.extend(heard)

    engine, _ = await new.host(heard, act)
    await engine.send("a", {"type": "go"})
    told = f"handed to a component from within its own handling, a message came to {outcomes}"
    claim(outcomes == [Outcome.DEFERRED], told)
    claim(heard == [{"type": "note"}], f"of what was handed to it from within, it handled {heard}")


async def handles_what_a_cancelled_one_deferred(new: Factories, *, heard: Heard) -> None:
    """What was deferred by a send that is cancelled comes before what is sent later."""

    async def act(_: Message, __: Component) -> None:
        await engine.send("a", {"type": "note", "sent": 1})
        await anyio.sleep_forever()

    engine, _ = await new.host(heard, act)
    with anyio.move_on_after(1):
        await engine.send("a", {"type": "go"})
    with anyio.move_on_after(1):
        await engine.send("a", {"type": "note", "sent": 2})
    handled = [message["sent"] for message in heard]
    told = f"1 deferred by a send that is cancelled, then 2: it handled {handled}"
    claim(handled == [1, 2], told)


async def defers_nothing_later(new: Factories, *, heard: Heard) -> None:
    """A task that a handling has left behind sends like any other."""
    outcomes: Heard = []
    gate = anyio.Event()

    async def later() -> None:
        await gate.wait()
        outcomes.append(await engine.send("a", {"type": "note"}))

    async def act(_: Message, __: Component) -> None:
        group.start_soon(later)

    engine, _ = await new.host(heard, act)
    async with anyio.create_task_group() as group:
        await engine.send("a", {"type": "go"})
        gate.set()
    told = f"a task that a handling has left behind got {outcomes}"
    claim(outcomes == [Outcome.TRANSITIONED], told)


async def waits_for_one_that_is_busy(new: Factories, *, heard: Heard) -> None:
    """A message to a component that is busy, but waits for nobody, is not deferred."""
    outcomes: Heard = []

    async def act(_: Message, component: Component) -> None:
        if component.name == "a":
            outcomes.append(await engine.send("b", {"type": "go"}))
        else:
            await settle()

    engine, component = await new.host(heard, act)
    await engine.register(new.component("b", machine=component.machine))
    async with anyio.create_task_group() as group:
        group.start_soon(engine.send, "b", {"type": "go"})
        await checkpoint()
        group.start_soon(engine.send, "a", {"type": "go"})
    told = f"sent to one that is busy, but waits for nobody: {outcomes}"
    claim(outcomes == [Outcome.TRANSITIONED], told)


async def breaks_a_cycle(new: Factories, *, heard: Heard, names: str) -> None:
    """Of messages that would close a cycle of waiting components, one is deferred."""
    outcomes: Heard = []

    async def act(_: Message, component: Component) -> None:
        await settle()
        following = (names * 2)[names.index(component.name) + 1]
        outcomes.append(await engine.send(following, {"type": "note"}))

    engine, component = await new.host(heard, act)
    for name in "bc":
        await engine.register(new.component(name, machine=component.machine))
    with anyio.move_on_after(1):
        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(engine.send, name, {"type": "go"})
    claim(len(outcomes) == len(heard) == len(names), "some that send in a cycle wait for ever")
    deferred = outcomes.count(Outcome.DEFERRED)
    claim(deferred == 1, f"of messages that are sent in a cycle, {deferred} were deferred")


COMPLETION: Final = (
    ends_a_long_chain,
    defers_what_is_handed_over,
    handles_what_a_cancelled_one_deferred,
    defers_nothing_later,
    waits_for_one_that_is_busy,
    breaks_a_cycle,
)
