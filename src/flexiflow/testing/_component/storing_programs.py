"""Programs about states that are stored, beside timers and work that go on (K3, K5, M2)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from flexiflow import State, StateConflict, StateMachine, Transition
from flexiflow.testing._component.parts import Shelf, can_run, engine_over, working
from flexiflow.testing._examiner.kit import Boom, claim, log_kept

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow import Component
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]
    Message: TypeAlias = Mapping[str, Any]


class Failing(Shelf):
    """A store whose next loads fail.

    Attributes:
        failures: how many of them do.
    """

    failures = 0

    async def load(self, name: str) -> Any:
        """Return what is stored, or fail."""
        if self.failures:
            self.failures -= 1
            raise Boom("no connection")
        return await super().load(name)


async def finds_another_state(new: Factories, *, heard: Heard, found: str, failures: int) -> None:
    """After a conflict a component takes what it finds, when its old work has ended."""
    shelf = Failing()
    rows = [
        Transition("s0", "go", "s1"),
        Transition("s1", "note", None),
        Transition("s1", "on", "s2"),
        Transition("s2", "late", "s0"),
    ]
    states = [
        State("s1", during=working(heard, cleans_up=1)),
        State("s2", during=working(heard, "new work"), after=(5.0, "late")),
    ]
    machine = StateMachine("s0", rows, states=states)
    engine = engine_over(new, shelf)
    if engine is None or not can_run(engine):
        return
    component = new.component("a", machine=machine)
    await engine.register(component)
    with log_kept():
        async with engine.running():
            await engine.send("a", {"type": "go"})
            await anyio.sleep(1)
            if found == "nothing":
                await shelf.delete("a")
            else:
                shelf.put("a", found)
            shelf.failures = failures
            with suppress(StateConflict):
                await engine.send("a", {"type": "note"})
            await anyio.sleep(4.5 + failures)
            works = [*heard]
            await anyio.sleep(9)
    begins = {"s1": ["work begins"], "s2": ["new work begins"]}.get(found, [])
    expected = ["work begins", "work ends", *begins]
    told = f"in another engine it came to {found}, and loading failed {failures} times"
    claim(works == expected, f"{told}; work went {works}, not {expected}")
    # A timer of 5 s begins when the component has loaded.
    state = {"nothing": "s0", "s2": "s0"}.get(found, found)
    claim(component.state == state, f"{told}; in the end it is in {component.state}, not {state}")


async def stores_that_it_was_sent(new: Factories, *, heard: Heard, takes: bool) -> None:
    """A timer sends once, in one engine or the next, also if no transition takes that."""

    def guard(_: Message, __: Component) -> bool:
        heard.append(anyio.current_time() - begin)
        return takes

    shelf, begin = Shelf(), anyio.current_time()
    rows = [Transition("s0", "late", None, guard=guard), Transition("s0", "go", "s0")]
    machine = StateMachine("s0", rows, states=[State("s0", after=(5.0, "late"))])
    # The time of a start state is stored when it begins.
    for seconds in (2, 9, 9):
        engine = engine_over(new, shelf)
        if engine is None:
            return
        await engine.register(new.component("a", machine=machine))
        async with engine.running():
            await anyio.sleep(seconds)
        await anyio.sleep(1)
    verb = "takes" if takes else "ignores"
    told = f"in engines that run for 2, 9 and 9 s, a transition {verb} what a timer of 5 s sends"
    claim(heard == [5], f"{told}: after {heard} s")


async def sends_again_what_was_not_saved(new: Factories, *, heard: Heard, fails: str) -> None:
    """A timer's message that could not be saved is sent again when the component is loaded."""
    shelf = Shelf()

    def act(_: Message, __: Component) -> None:
        heard.append(anyio.current_time() - begin)
        if len(heard) == 1:
            shelf.fails = fails

    rows = [Transition("s0", "go", "s1"), Transition("s1", "late", "s2", action=act)]
    rows.append(Transition("s2", "go", "s0"))
    machine = StateMachine("s0", rows, states=[State("s1", after=(5.0, "late"))])
    engine = engine_over(new, shelf)
    if engine is None:
        return
    component = new.component("a", machine=machine)
    await engine.register(component)
    begin = anyio.current_time()
    with log_kept():
        async with engine.running():
            await engine.send("a", {"type": "go"})
            await anyio.sleep(20)
    told = f"a save fails {fails} it is stored, of what a timer of 5 s has sent"
    claim(component.state == "s2", f"{told}; in the end it is in {component.state}")
    times = 2 if fails == "before" else 1
    claim(len(heard) == times, f"{told}; it was handled after {heard} s")
    claim(heard[-1] <= 8, f"{told}; it was handled after {heard} s")


async def unloads_when_work_is_over(new: Factories, *, heard: Heard) -> None:
    """A component that had work is unloaded when that has ended, if there are too many."""

    async def work(component: Component) -> None:
        await anyio.sleep(5 if component.name == "a" else 50)

    def make(name: str) -> Component:
        return new.component(name, machine=machine)

    rows = [Transition("s0", "go", "s1"), Transition("s1", "back", "s0")]
    machine = StateMachine("s0", rows, states=[State("s1", during=work)])
    engine = engine_over(new, Shelf(), component_factory=make, max_components=1)
    if engine is None or not can_run(engine):
        return
    async with engine.running():
        for name in "ab":
            await engine.send(name, {"type": "go"})
            await anyio.sleep(1)
        heard.append(sorted(engine.components))
        await anyio.sleep(9)
        heard.append(sorted(engine.components))
    told = "with 1 in memory, a works for 5 s, and b goes on; meanwhile, and after that, it had"
    claim(heard == [["a", "b"], ["b"]], f"{told} {heard}")
