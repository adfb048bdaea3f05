"""Programs in which components are refused, of which nothing may stay (C1, C2)."""

from __future__ import annotations

from inspect import unwrap
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio

from flexiflow import Component, DuplicateAnswer, NoAnswer, UnknownComponent, answers, on
from flexiflow.testing._component.parts import answer, hear
from flexiflow.testing._examiner.kit import claim, refused

if TYPE_CHECKING:
    from flexiflow import Engine
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]

FAULTS: Final[dict[str, type[Exception]]] = {
    "two answerers": DuplicateAnswer,
    "one that answers already": DuplicateAnswer,
    "no handler": TypeError,
    "a late mark": TypeError,
}


def faulty_kind(new: Factories, heard: Heard, fault: str) -> Any:
    """Return a class of components that hear and answer, with a fault; None if that can't be."""
    kind: Any = unwrap(new.component)
    if not (isinstance(kind, type) and issubclass(kind, Component)):
        return None
    faulty: dict[str, dict[str, Any]] = {
        "two answerers": {"checker_again": answers("size")(answer)},
        "one that answers already": {"checker_price": answers("price")(answer)},
        "no handler": {"checker_between": staticmethod(on("tack")(answer))},
    }
    made: Any = type(
        "Hearing",
        (kind,),
        {
            "checker_heard": heard,
            "checker_first": on("tick")(hear),
            "checker_size": answers("size")(answer),
            **faulty.get(fault, {}),
            "checker_weight": answers("weight")(answer),
            "checker_last": on("tock")(hear),
        },
    )
    if fault == "a late mark":
        made.checker_late = on("tack")(hear)
    return made


async def keeps_nothing(new: Factories, *, heard: Heard, fault: str, way: str) -> None:
    """Of a component that is refused nothing stays: no name, handler, answerer or event."""
    kind = faulty_kind(new, heard, fault)
    engine = new.engine(**({"component_factory": kind} if way == "send" else {}))
    if kind is None or not callable(getattr(engine.bus, "answer", None)):
        return
    await engine.bus.answer("price", "o", heard.append)
    await engine.bus.subscribe("engine.*.registered", "o", heard.append)
    component = kind("a")
    for _ in range(2):
        heard.clear()
        with refused(FAULTS[fault], f"a component with {fault} is taken by {way}"):
            if way == "send":
                await engine.send("a", {"type": "go"})
            else:
                await engine.register(component)
        await check_gone(engine, heard, f"a component with {fault} that {way} has refused")
    await check_free(engine, faulty_kind(new, heard, "none")("a"), heard)


async def check_free(engine: Engine, good: Component, heard: Heard) -> None:
    """Check that a component can be registered, and hears what it is to hear."""
    await engine.register(good)
    heard.clear()
    await engine.bus.publish("tick", 1, delivery="sequential", on_error="continue")
    told = f"registered after one that was refused, another one heard {heard}"
    claim(heard == [("a", 1)] and engine.components["a"] is good, told)
    claim(await engine.bus.ask("size", 1) == 1, "registered after it, another one answers not")


async def check_gone(engine: Engine, heard: Heard, whose: str) -> None:
    """Check that nothing is left of a component "a" that was refused."""
    claim(not engine.components, f"{whose} is there: {[*engine.components]}")
    for event in ("tick", "tack", "tock"):
        await engine.bus.publish(event, 1, delivery="sequential", on_error="continue")
    claim(heard == [], f"of {whose} was heard {heard}")
    for query in ("size", "weight"):
        with refused(NoAnswer, f"{whose} answers {query}"):
            await engine.bus.ask(query, 1)
    await engine.bus.ask("price", 1)
    claim(heard == [1], f"{whose} answers in another one's place")


async def comes_in_turns(new: Factories, *, heard: Heard, same: bool) -> None:
    """One that leaves while it is busy ends by itself; what comes in its place begins by itself."""

    async def act(message: Any, component: Component) -> None:
        heard.append((message["type"], component is first))
        await anyio.sleep(2)

    engine, first = await new.host([], act)
    second = first if same else new.component("a", machine=first.machine)

    async def send(trigger: str) -> None:
        try:
            await engine.send("a", {"type": trigger})
        except UnknownComponent:
            heard.append((trigger, "unknown"))

    with anyio.move_on_after(9):
        async with anyio.create_task_group() as group:
            group.start_soon(send, "go")
            await anyio.sleep(1)
            await engine.unregister("a")
            group.start_soon(send, "go")
            await anyio.sleep(0.1)
            await engine.register(second)
            group.start_soon(send, "go")
    states = first.state, second.state
    expected = [("go", True), ("go", "unknown"), ("go", same)]
    which = "registered again" if same else "replaced"
    claim(heard == expected, f"{which} while it was busy, it handled {heard}")
    both = ("s0", "s0") if same else ("s1", "s1")
    claim(states == both, f"{which} while it was busy, the states are {states}, not {both}")


REFUSED: Final = (keeps_nothing, comes_in_turns)
