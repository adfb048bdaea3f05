"""Programs with many timers (M2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio

from flexiflow import State, StateMachine, Transition
from flexiflow.testing._component.parts import Shelf, engine_over
from flexiflow.testing._examiner.kit import Boom, claim

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow import Component
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]


def timed(heard: Heard, seconds: float) -> StateMachine:
    """Return a machine whose state "s1" is left after some time, which is noted."""
    begin = anyio.current_time()

    def note(_: Mapping[str, Any], component: Component) -> None:
        heard.append((component.name, round(anyio.current_time() - begin, 3)))

    rows = [
        Transition("s0", "go", "s1"),
        Transition("s1", "late", "s2", action=note),
        Transition("s1", "back", "s0"),
        Transition("s2", "back", "s0"),
    ]
    return StateMachine("s0", rows, states=[State("s1", after=(seconds, "late"))])


async def sends_each_in_time(new: Factories, *, heard: Heard, left: int) -> None:
    """Of many timers, each sends at its time; those of states that were left send nothing."""
    engine, expected = new.engine(), list[tuple[str, float]]()
    async with engine.running():
        for number in range(120):
            # In no order: 7 and 120 have no common divisor.
            seconds = 1.0 + number * 7 % 120
            name = f"c{number}"
            await engine.register(new.component(name, machine=timed(heard, seconds)))
            await engine.send(name, {"type": "go"})
            if number % 10 >= left:
                expected.append((name, seconds))
        for number in range(120):
            if number % 10 < left:
                await engine.send(f"c{number}", {"type": "back"})
        await anyio.sleep(60.5)
        early = [each for each in expected if each[1] < 61]
        told = f"of 120 timers, {left} of 10 of whose states were left"
        claim(sorted(heard) == sorted(early), f"{told}, {len(heard)} had sent after 60 s")
        await anyio.sleep(90)
    expected.sort(key=lambda each: each[1])
    wrong = [each for each in heard if each not in expected]
    claim(heard == expected, f"{told}, {len(heard)} have sent, of which wrongly {wrong[:3]}")


async def sends_sooner(new: Factories, *, heard: Heard, gap: int) -> None:
    """A timer that is set later, and is due earlier, sends first.

    With a gap, the engine waits for the first timer already when the next one is set.
    """
    engine = new.engine()
    for name, seconds in (("a", 90.0), ("b", 5.0), ("c", 0.05)):
        await engine.register(new.component(name, machine=timed(heard, seconds)))
    async with engine.running():
        for name in "abc":
            await engine.send(name, {"type": "go"})
            await anyio.sleep(gap)
        await anyio.sleep(100)
    expected = [("c", 0.05 + 2 * gap), ("b", 5.0 + gap), ("a", 90.0)]
    told = f"of timers of 90, 5 and 0.05 s, each set {gap} s after the other"
    claim(heard == expected, f"{told}: {heard}")


async def loads_all_that_is_due(new: Factories, *, heard: Heard, fails: bool) -> None:
    """However many components are due, `running()` loads them all, whichever can't be made."""
    shelf, names = Shelf(), [f"c{number}" for number in range(120)]
    machine = timed(heard, 5.0)

    def make(name: str) -> Component:
        if fails and name in ("c3", "c110"):
            raise Boom(name)
        return new.component(name, machine=machine)

    engine = engine_over(new, shelf, component_factory=make)
    if engine is None:
        return
    for name in names:
        await shelf.save(name, "s1", None, expected=0, due=anyio.current_time() + 5)
    async with engine.running():
        await anyio.sleep(50)
    due = len(names) - 2 * fails
    came = len({name for name, _ in heard})
    told = "of which 2 can't be made" if fails else "all of which can be made"
    claim(came == due, f"of {len(names)} components that are due, {told}, {came} were loaded")
    claim(len(heard) == came, f"and {len(heard)} messages of timers were handled")


MANY: Final = (sends_each_in_time, sends_sooner, loads_all_that_is_due)
