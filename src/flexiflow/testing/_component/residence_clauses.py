"""The clause on how many components stay in memory, with its programs (K5)."""

from __future__ import annotations

from inspect import unwrap
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from hypothesis import strategies as st

from flexiflow import State, StateMachine, Transition, UnknownComponent
from flexiflow.testing._component import storing_programs as storing
from flexiflow.testing._component.parts import (
    IDLE,
    Shelf,
    can_run,
    count,
    counting,
    noted,
    working,
)
from flexiflow.testing._examiner.clause import Clause, each_of, number
from flexiflow.testing._examiner.kit import claim, ignore, refused
from flexiflow.testing._examiner.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flexiflow import Component, Engine
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]
    Message: TypeAlias = Mapping[str, Any]


def table(action: Any = None, *states: State) -> StateMachine:
    """Return a machine that goes from "s0" to "s1" and back."""
    rows = [
        Transition("s0", "go", "s1", action=action),
        Transition("s1", "go", "s0", action=action),
        Transition("*", "note", None, action=action),
    ]
    return StateMachine("s0", rows, states=states)


def few(
    new: Factories, machine: StateMachine, *, most: int, make: Callable[..., Any] | None = None
) -> Engine:
    """Return an engine whose factory makes any component, of which few stay in memory."""

    def made(name: str) -> Component:
        component: Component = (make or new.component)(name, machine=machine)
        return component

    return new.engine(store=Shelf(), component_factory=made, max_components=most)


async def send_each(engine: Engine, names: str) -> None:
    """Send a message to one component after another, one a second."""
    for name in names:
        await engine.send(name, {"type": "go"})
        await anyio.sleep(1)


async def keeps_a_few(new: Factories) -> None:
    """Those not used longest are unloaded first."""
    engine = few(new, table(), most=2)
    left: list[str] = []
    for name in "abacdb":
        await send_each(engine, name)
        left.append("".join(sorted(engine.components)))
    expected = ["a", "ab", "ab", "ac", "cd", "bd"]
    told = "sent to a, b, a, c, d, b, with 2 in memory"
    claim(left == expected, f"{told}, it had {left}, not {expected}")


async def keeps_those_used_last(new: Factories, *, names: tuple[str, ...], most: int) -> None:
    """Of components that are sent to, or unregistered ("-a"), those used last stay in memory."""
    engine, used = few(new, table(), most=most), list[str]()
    for name in names:
        own = name.removeprefix("-")
        if name == own:
            await engine.send(name, {"type": "go"})
        elif own in used:
            await engine.unregister(own)
        used = [*(each for each in used if each != own), *([own] if name == own else [])][-most:]
        had = sorted(engine.components)
        told = f"sent to {names}, with {most} in memory, after {name} it had {had}"
        claim(had == sorted(used), f"{told}, not {sorted(used)}")


async def comes_back_as_it_was(new: Factories, *, heard: Heard) -> None:
    """Unloading and loading publish nothing, and lose nothing that is stored."""
    make = counting(new)
    keeps = make is not None
    machine = table(count if keeps else None, State("s1", entry=noted(heard, "entry")))
    engine = few(new, machine, most=1, make=make)
    await send_each(engine, "ab")
    heard.clear()
    await engine.bus.subscribe("**", "o", heard.append)
    await send_each(engine, "a")
    component: Any = engine.components.get("a")
    claim(component is not None, "what was unloaded was sent a message, and is not there")
    expected = [
        {"component": "a", "message": {"type": "go"}},
        {"component": "a", "from_state": "s1", "to_state": "s0"},
    ]
    claim(heard == expected, f"sent to one that was unloaded in s1, a message caused {heard}")
    if keeps:
        told = "of two messages, one before it was unloaded"
        claim(component.count == 2, f"{told}, it has counted {component.count}")


async def keeps_what_handles(new: Factories) -> None:
    """A component with a message in hand stays; there may be more then, until it is free."""

    async def take_time(message: Message, _: Component) -> None:
        await anyio.sleep(message["takes"])

    engine = few(new, table(take_time), most=1)
    had: list[str] = []

    async def send(name: str, takes: float) -> None:
        await engine.send(name, {"type": "note", "takes": takes})

    async with anyio.create_task_group() as group:
        for name, takes in (("a", 6), ("b", 2.5), ("c", 0), ("d", 0)):
            group.start_soon(send, name, takes)
            await anyio.sleep(1)
            had.append("".join(sorted(engine.components)))
    had.append("".join(sorted(engine.components)))
    told = "with 1 in memory, and messages in hand of a for 6 s, of b for 2.5, of c and d for 0"
    claim(had == ["a", "ab", "ab", "a", "a"], f"{told}, sent one a second, it had {had}")


async def keeps_what_works(new: Factories, *, heard: Heard) -> None:
    """A component with work stays until that has ended."""
    engine = few(new, table(None, State("s1", during=working(heard))), most=1)
    if not can_run(engine):
        return
    had: list[str] = []
    async with engine.running():
        for names in ("a", "b", "a", "c"):
            await send_each(engine, names)
            had.append("".join(sorted(engine.components)))
    told = "with 1 in memory, and work that a's messages begin and end"
    claim(had == ["a", "ab", "b", "bc"], f"{told}, sent to a, b, a and c it had {had}")


async def keeps_who_subscribes(new: Factories, *, as_answerer: bool) -> None:
    """A component under whose name somebody has subscribed, or answers, stays."""
    engine = few(new, table(), most=1)
    await send_each(engine, "a")
    if not as_answerer:
        await engine.bus.subscribe("tick", "a", ignore)
    elif callable(getattr(engine.bus, "answer", None)):
        await engine.bus.answer("price", "a", ignore)
    else:
        return
    await send_each(engine, "bc")
    told = f"with 1 in memory, and a subscription (or answerer) of a, it had {[*engine.components]}"
    claim(sorted(engine.components) == ["a"], told)
    engine.bus.unsubscribe_all("a")
    await send_each(engine, "d")
    told = f"without that subscription it had {[*engine.components]}"
    claim([*engine.components] == ["d"], told)


async def keeps_whom_others_wait_for(new: Factories, *, heard: Heard) -> None:
    """A component for whose turn senders wait is not unloaded between them."""
    objects: Heard = []

    async def act(message: Message, component: Component) -> None:
        heard.append(message.get("number"))
        objects.append(component)
        await anyio.sleep(1)

    engine = few(new, table(act), most=1)

    async def send(name: str, number: int) -> None:
        await engine.send(name, {"type": "note", "number": number})

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(send, "a", number)
            await anyio.sleep(0.1)
        await anyio.sleep(0.5)
        group.start_soon(send, "b", 9)
        await anyio.sleep(5)
    handled = [each for each in heard if each != 9]
    mine = {id(each) for each in objects if each.name == "a"}
    claim(handled == [0, 1, 2], f"of 0, 1, 2, which waited, it handled {handled}")
    claim(len(mine) == 1, f"messages that waited for one component reached {len(mine)}")


async def handles_no_more(new: Factories) -> None:
    """An unloaded object handles nothing any more."""
    engine = few(new, table(), most=1)
    await send_each(engine, "a")
    former = engine.components["a"]
    await send_each(engine, "b")
    with refused(UnknownComponent, "an object that was unloaded handled a message"):
        await former.handle_message({"type": "go"})
    claim(former.state == "s1", f"an object that was unloaded in s1 went to {former.state}")


async def leaves_the_others(new: Factories) -> None:
    """What was registered by hand stays, and does not count."""
    machine = table()
    engine = few(new, machine, most=1)
    for name in "xy":
        await engine.register(new.component(name, machine=machine))
    await send_each(engine, "xaby")
    had = sorted(engine.components)
    claim(had == ["b", "x", "y"], f"x and y were registered by hand, a and b made: it had {had}")


async def comes_back_in_time(new: Factories, *, heard: Heard) -> None:
    """What was unloaded is loaded again when its stored time comes."""

    def note(_: object, component: Component) -> None:
        heard.append(component.name)

    rows = [Transition("s0", "go", "s1"), Transition("s1", "late", "s0", action=note)]
    machine = StateMachine("s0", rows, states=[State("s1", after=(5.0, "late"))])
    engine = few(new, machine, most=1)
    if not can_run(engine):
        return
    async with engine.running():
        await send_each(engine, "ab")
        claim([*engine.components] == ["b"], f"with 1 in memory, it had {[*engine.components]}")
        await anyio.sleep(20)
    claim(sorted(heard) == ["a", "b"], f"two timers, one of an unloaded component, sent {heard}")


async def needs_both(new: Factories, *, lacks: str) -> None:
    """Without a store or without a factory it is a `ValueError`."""
    options: dict[str, Any] = {"store": Shelf(), "component_factory": new.component}
    del options[lacks]
    with refused(ValueError, f"max_components was taken without {lacks}"):
        unwrap(new.engine)(max_components=1, **options)


def _program(names: tuple[str, ...], most: int) -> Program:
    return Program(keeps_those_used_last, (("names", names), ("most", most)))


_used = st.builds(
    _program,
    st.lists(st.sampled_from([*"abcdab", "-a", "-b"]), min_size=3, max_size=12).map(tuple),
    number(1, 3),
)
K5 = Clause(
    "K5",
    "so many components in memory",
    "With `max_components=n`, components that the factory made are unloaded when there are more, "
    "those not used longest first, except those with a message in hand or waiting, work, or a "
    "subscription or answerer under their name; they are loaded again when they are sent a message "
    "or their stored time comes. Both publish nothing. `handle_message` of an unloaded object is "
    "`UnknownComponent`. Without a store or a factory: `ValueError`.",
    _used,
    scenes=each_of(
        keeps_a_few,
        comes_back_as_it_was,
        keeps_what_handles,
        keeps_what_works,
        keeps_who_subscribes,
        keeps_whom_others_wait_for,
        handles_no_more,
        leaves_the_others,
        comes_back_in_time,
        storing.unloads_when_work_is_over,
        needs_both,
        as_answerer=(False, True),
        lacks=("store", "component_factory"),
    ),
    share=0.1,
    needs=("engine(max_components=)", IDLE),
)
