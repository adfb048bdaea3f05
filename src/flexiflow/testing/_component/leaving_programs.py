"""Programs about what is going on in an engine as `running()` is left, or a component (M2, M3)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import State, StateMachine, Transition
from flexiflow.testing._examiner.kit import Boom, claim, log_kept

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow import Component
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]
    Message: TypeAlias = Mapping[str, Any]


def leave(by: str) -> None:
    """Leave a block by an exception, if that is how."""
    if by == "an exception":
        raise Boom


def sending_late(detail: str) -> State:
    """Return a state whose timer or work, as `detail` says, sends "late" after 5 seconds."""

    async def work(_: Component) -> None:
        await anyio.sleep(5)

    if detail == "after":
        return State("s1", after=(5.0, "late"))
    return State("s1", during=work, done="late")


async def keeps_what_its_work_sent(
    new: Factories, *, heard: Heard, before: int, after: int, left_by: str
) -> None:
    """Work's message to its own component is handled, even if `running()` is left meanwhile.

    Some messages came into line before it, and some after it.
    """
    go, sent = anyio.Event(), anyio.Event()

    async def act(message: Message, _: Component) -> None:
        heard.append(message["sent"])
        await (go.wait() if message["sent"] == "slow" else checkpoint())

    async def work(_: Component) -> None:
        await sent.wait()
        await send("work's")
        await send("its last")
        await anyio.sleep_forever()

    async def send(what: object) -> None:
        await engine.send("a", {"type": "note", "sent": what})

    rows = [Transition("s0", "note", None, action=act)]
    machine = StateMachine("s0", rows, states=[State("s0", during=work)])
    engine, _ = await new.host([], machine=machine)
    with anyio.move_on_after(20):
        async with anyio.create_task_group() as group:
            with suppress(Boom, BaseExceptionGroup):
                async with engine.running():
                    for what in ("slow", *range(before)):
                        group.start_soon(send, what)
                        await anyio.sleep(1)
                    sent.set()
                    await anyio.sleep(1)
                    for what in range(before, before + after):
                        group.start_soon(send, what)
                        await anyio.sleep(1)
                    leave(left_by)
            go.set()
        await send("last")
    # As a deferred message it is first in line.
    expected = ["slow", "work's", "its last", *range(before + after), "last"]
    claim(heard == expected, f"left by {left_by}, it handled {heard}, not {expected}")


async def sends_again_what_was_cancelled(
    new: Factories, *, heard: Heard, when: str, left_by: str
) -> None:
    """A timer's message that comes to no end as `running()` is left is sent in the next one."""
    busy, free = anyio.Event(), anyio.Event()

    async def act(message: Message, _: Component) -> None:
        heard.append(message["type"])
        if message["type"] == "busy":
            await busy.wait()
        elif not free.is_set():
            await free.wait()

    rows = [
        Transition("s0", "go", "s1"),
        Transition("s1", "busy", None, action=act),
        Transition("s1", "late", "s2", action=act),
        Transition("s2", "leave", "s0"),
    ]
    machine = StateMachine("s0", rows, states=[State("s1", after=(5.0, "late"))])
    engine, component = await new.host([], machine=machine)
    async with anyio.create_task_group() as group:
        with suppress(Boom, BaseExceptionGroup):
            async with engine.running():
                await engine.send("a", {"type": "go"})
                if when == "in line":
                    group.start_soon(engine.send, "a", {"type": "busy"})
                await anyio.sleep(9)
                leave(left_by)
        busy.set()
        await anyio.sleep(9)
        told = f"left by {left_by} with the message of a timer {when}, it is in {component.state}"
        claim(component.state == "s1", told)
        free.set()
        async with engine.running():
            await anyio.sleep(1)
    expected = ["busy", "late"] if when == "in line" else ["late", "late"]
    claim(heard == expected, f"a timer's message was {when} as running() was left: {heard}")
    claim(component.state == "s2", f"after its timer it is in {component.state}")


async def ends_with_its_component(
    new: Factories, *, heard: Heard, detail: str, again: bool
) -> None:
    """Neither timer nor work of a component that is gone sends anything; registered, they begin."""

    def note(message: Message, _: Component) -> None:
        heard.append((message["type"], anyio.current_time() - begin))

    rows = [Transition("s0", "go", "s1"), Transition("s1", "late", "s0", action=note)]
    machine = StateMachine("s0", rows, states=[sending_late(detail)])
    engine, component = await new.host([], machine=machine)
    failures: Heard = []
    await engine.bus.subscribe("event.handler.failed", "o", failures.append)
    begin = anyio.current_time()
    async with engine.running():
        await engine.send("a", {"type": "go"})
        await anyio.sleep(2)
        await engine.unregister("a")
        await anyio.sleep(8)
        claim(heard == [], f"a component with {detail} is gone, and was sent {heard}")
        if again:
            await engine.register(component)
            await anyio.sleep(9)
    claim(not failures, f"a component with {detail} is gone, and was told of {failures}")
    times = [time for _, time in heard]
    claim(len(times) == again, f"registered again, a component with {detail} was sent {heard}")
    # The time of a state may go on while its component is gone; its work begins anew.
    is_right = detail == "after" or times in ([], [15])
    claim(is_right, f"registered again after 10 s, its work of 5 s ended after {times}")


async def reports_what_its_state_sent(new: Factories, *, heard: Heard, detail: str) -> None:
    """If the handling of what a timer or work has sent fails, that is reported, once."""
    boom = Boom("the action")

    def act(message: Message, _: Component) -> None:
        heard.append(message["type"])
        raise boom

    rows = [Transition("s0", "go", "s1"), Transition("s1", "late", "s0", action=act)]
    machine = StateMachine("s0", rows, states=[sending_late(detail)])
    engine, component = await new.host([], machine=machine)
    told: Heard = []
    await engine.bus.subscribe("event.handler.failed", "o", told.append)
    with log_kept() as records:
        async with engine.running():
            await engine.send("a", {"type": "go"})
            await anyio.sleep(20)
    claim(heard == ["late"], f"what a state with {detail} sent failed, and was handled as {heard}")
    given = [(each["event_name"], each["component_name"], each["exception"]) for each in told]
    expected = [("component.message.received", "a", boom)]
    claim(given == expected, f"what a state with {detail} sent failed; told was {given}")
    logged = [each.exc_info[1] for each in records if each.exc_info]
    claim(logged == [boom], f"what a state with {detail} sent failed; logged were {logged}")
    claim(component.state == "s1", f"after that it is in {component.state}")


async def drops_what_waits_as_it_leaves(new: Factories, *, heard: Heard, detail: str) -> None:
    """A message of a state's work is dropped if its component leaves before its turn."""
    go = anyio.Event()

    async def act(message: Message, _: Component) -> None:
        heard.append(message["type"])
        await go.wait()

    rows = [
        Transition("s0", "go", "s1"),
        Transition("s1", "busy", None, action=act),
        Transition("s1", "late", "s0", action=act),
    ]
    machine = StateMachine("s0", rows, states=[sending_late(detail)])
    engine, _ = await new.host([], machine=machine)
    told: Heard = []
    await engine.bus.subscribe("event.handler.failed", "o", told.append)
    with log_kept() as records:
        async with engine.running(), anyio.create_task_group() as group:
            await engine.send("a", {"type": "go"})
            group.start_soon(engine.send, "a", {"type": "busy"})
            await anyio.sleep(9)
            await engine.unregister("a")
            go.set()
            await anyio.sleep(9)
    claim(heard == ["busy"], f"gone while what its {detail} sent was in line, it handled {heard}")
    logged = [each.getMessage() for each in records]
    claim((told, logged) == ([], []), f"and of that was published or logged {told}, {logged}")


async def ends_two_works(new: Factories, *, heard: Heard, first: str) -> None:
    """Two works that each send what ends the other one come to their end, both."""
    outcomes: Heard = []
    pauses = {"a": 1, "b": 1} if first == "both" else {first: 1, "ab".replace(first, ""): 2}

    async def work(component: Component) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(pauses[component.name])
            other = "ab".replace(component.name, "")
            outcomes.append(await engine.send(other, {"type": "back"}))

    def note(_: Message, component: Component) -> None:
        heard.append(component.name)

    rows = [Transition("s0", "go", "s1"), Transition("s1", "back", "s0", action=note)]
    machine = StateMachine("s0", rows, states=[State("s1", during=work)])
    engine, component = await new.host([], machine=machine)
    other = new.component("b", machine=machine)
    await engine.register(other)
    with anyio.move_on_after(30) as scope:
        async with engine.running():
            for name in "ab":
                await engine.send(name, {"type": "go"})
            await anyio.sleep(20)
    claim(not scope.cancelled_caught, "two works that end each other wait for ever")
    states = component.state, other.state
    claim(states == ("s0", "s0"), f"two works that end each other led to {states}: {outcomes}")
    claim(sorted(heard) == ["a", "b"], f"two works that end each other led to {heard}")
