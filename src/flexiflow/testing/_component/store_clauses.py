"""The clauses on states that are stored, with their programs (K1, K3, K4)."""

from __future__ import annotations

from contextlib import suppress
from inspect import unwrap
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import (
    HandlerCancelled,
    Outcome,
    State,
    StateConflict,
    StateMachine,
    Transition,
    UnknownComponent,
    UnknownState,
)
from flexiflow.testing._component import journeys
from flexiflow.testing._component import storing_programs as storing
from flexiflow.testing._component.making_programs import begins_only_where_it_can
from flexiflow.testing._component.parts import (
    Shelf,
    can_run,
    count,
    counting,
    loaded,
    noted,
    working,
)
from flexiflow.testing._examiner.clause import Clause, each_of, programs
from flexiflow.testing._examiner.kit import Boom, cancel_after, claim, kept_cancellation, refused

if TYPE_CHECKING:
    from flexiflow import Component
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]


def chain(action: Any = None, *states: State) -> StateMachine:
    """Return a machine that goes from "s0" to "s1" to "s2" and round again."""
    rows = [
        Transition("s0", "go", "s1", action=action),
        Transition("s1", "go", "s2", action=action),
        Transition("s2", "go", "s0", action=action),
        Transition("*", "note", None, action=action),
    ]
    return StateMachine("s0", rows, states=states)


# K1


async def begins_where_it_is_told(new: Factories, *, heard: Heard) -> None:
    """A component begins in the state that it is given, which is no transition."""
    machine = chain(None, State("s1", entry=noted(heard, "entry")))
    engine = new.engine()
    await engine.bus.subscribe("state.changed", "o", heard.append)
    component = new.component("a", machine=machine, state="s1")
    claim(component.state == "s1", f"made with state='s1', it is in {component.state}")
    await engine.register(component)
    claim(heard == [], f"for a start state it entered or published {heard}")
    await engine.send("a", {"type": "go"})
    claim(component.state == "s2", f"from s1 it went to {component.state}, not to s2")


async def refuses_an_unknown_start(new: Factories) -> None:
    """A start state that the machine does not have is a `ValueError` that names those it has."""
    with refused(ValueError, "a start state that the machine does not have was taken") as errors:
        unwrap(new.component)("a", machine=chain(), state="other")
    unnamed = [name for name in ("s0", "s1", "s2") if name not in str(errors[0])]
    claim(not unnamed, f"{errors[0]!s} does not name {unnamed}")


K1 = Clause(
    "K1",
    "a component begins in a state that its machine has",
    "`state=` is the state to start in: one that the machine does not have is a `ValueError` that "
    "names those it has, and nothing is published for it.",
    programs(begins_where_it_is_told, refuses_an_unknown_start, begins_only_where_it_can),
    needs=("factory(state=)",),
)


# K3


async def saves_before_it_commits(new: Factories, *, heard: Heard) -> None:
    """A transition is saved after its last action and before its commit."""

    class Noting(Shelf):
        async def save(self, *arguments: Any, **options: Any) -> int:
            version = await super().save(*arguments, **options)
            heard.append(f"saved {self.saves[-1].state} in {component.state}")
            return version

    machine = chain(
        noted(heard, "action"),
        State("s0", exit=noted(heard, "exit")),
        State("s1", entry=noted(heard, "entry")),
    )
    engine = new.engine(store=Noting())
    component = new.component("a", machine=machine)
    await engine.register(component)

    def observe(_: object) -> None:
        heard.append(f"changed in {component.state}")

    await engine.bus.subscribe("state.changed", "o", observe)
    await engine.send("a", {"type": "go"})
    await engine.send("a", {"type": "note"})
    await engine.send("a", {"type": "other"})
    expected = ["exit in s0", "action in s0", "entry in s0", "saved s1 in s0", "changed in s1"]
    expected += ["action in s1", "saved s1 in s1"]
    claim(heard == expected, f"with a store, two transitions went through {heard}")


async def saves_what_it_counts(new: Factories) -> None:
    """The snapshot is saved as the actions have left it, of internal transitions too."""
    make = counting(new)
    if make is None:
        return
    shelf = Shelf()
    engine = new.engine(store=shelf)
    await engine.register(make("a", machine=chain(count)))
    for trigger in ("go", "note", "go"):
        await engine.send("a", {"type": trigger})
    expected = [("a", "s1", {"count": 1}), ("a", "s1", {"count": 2}), ("a", "s2", {"count": 3})]
    claim(shelf.saves == expected, f"of three transitions was saved {shelf.saves}")


async def fails_with_its_store(new: Factories, *, heard: Heard, fails: str) -> None:
    """A save that fails is a failed message; what is stored is found before the next one."""
    shelf, machine = Shelf(), chain(noted(heard, "action"))
    engine = new.engine(store=shelf)
    component = new.component("a", machine=machine)
    await engine.register(component)
    changes: Heard = []
    await engine.bus.subscribe("state.changed", "o", changes.append)
    shelf.fails = fails
    with refused(Boom, f"a save failed {fails} it had stored anything, and its send did not"):
        await engine.send("a", {"type": "go"})
    told = f"after a save that failed it is in {component.state}, and published {changes}"
    claim((component.state, changes) == ("s0", []), told)
    stored = "s1" if fails == "after" else "s0"
    await engine.send("a", {"type": "go"})
    target = {"s0": "s1", "s1": "s2"}[stored]
    told = f"with {stored} stored, the next message changed it as {changes}"
    expected = [{"component": "a", "from_state": stored, "to_state": target}]
    claim(changes == expected, f"{told}, not {expected}")
    told = f"with {stored} stored, the next message led to {component.state}, and was saved as"
    states = component.state, shelf.state("a")
    claim(states == (target, target), f"{told} {shelf.state('a')}")


async def fails_by_a_stray_save(new: Factories) -> None:
    """A stray cancellation of a save is a failure (E6)."""

    class Stray(Shelf):
        strays = True

        async def save(self, *arguments: Any, **options: Any) -> int:
            if self.strays:
                self.strays = False
                raise await kept_cancellation()
            return await super().save(*arguments, **options)

    engine = new.engine(store=Stray())
    component = new.component("a", machine=chain())
    await engine.register(component)
    with refused(HandlerCancelled, "a stray cancellation of a save is lost"):
        await engine.send("a", {"type": "go"})
    claim(component.state == "s0", f"after a save that was cancelled it is in {component.state}")
    await engine.send("a", {"type": "go"})
    claim(component.state == "s1", f"and after the next message in {component.state}")


async def restores_what_is_stored(new: Factories) -> None:
    """`restore` replaces the attributes when a component is loaded again."""
    make = counting(new)
    if make is None:
        return
    shelf = Shelf()
    engine = new.engine(store=shelf)
    component = make("a", machine=chain(count))
    await engine.register(component)
    await engine.send("a", {"type": "go"})
    shelf.fails = "before"
    with suppress(Boom):
        await engine.send("a", {"type": "go"})
    await engine.send("a", {"type": "other"})
    told = "one transition was saved, and a second one was not"
    claim(component.count == 1, f"{told}: it has counted {component.count}")


async def survives_a_cancellation(new: Factories, *, turns: int) -> None:
    """Whenever a send is cancelled, what follows goes on from what is stored."""
    shelf = Shelf()
    engine = new.engine(store=shelf)
    component = new.component("a", machine=chain())
    await engine.register(component)
    changes: Heard = []
    await engine.bus.subscribe("state.changed", "o", changes.append)
    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(cancel_after, scope, turns)
            await engine.send("a", {"type": "go"})
        group.cancel_scope.cancel()
    stored = shelf.state("a") or "s0"
    await engine.send("a", {"type": "go"})
    expected = {"s0": "s1", "s1": "s2"}[stored]
    told = f"cancelled after {turns} turns, with {stored} stored, the next one led to"
    claim(component.state == expected, f"{told} {component.state}")
    claim(shelf.state("a") == expected, f"{told} {shelf.state('a')} in the store")
    claim(changes[-1]["from_state"] == stored, f"{told} a change {changes[-1]}")
    claim(len(shelf.saves) == 1 + (stored == "s1"), f"{told} the saves {shelf.saves}")


async def meets_another_engine(new: Factories, *, heard: Heard) -> None:
    """Of two engines on one name, the second to save gets `StateConflict`, and loads again."""
    shelf, machine = Shelf(), chain(noted(heard, "action"))
    engine, other = new.engine(store=shelf), new.engine(store=shelf)
    for each in (engine, other):
        await each.register(new.component("a", machine=machine))
    changes: Heard = []
    await other.bus.subscribe("state.changed", "o", changes.append)
    await engine.send("a", {"type": "go"})
    await engine.send("a", {"type": "go"})
    with refused(StateConflict, "what another engine had stored was overwritten"):
        await other.send("a", {"type": "go"})
    claim(shelf.state("a") == "s2", f"another engine's s2 was overwritten by {shelf.state('a')}")
    claim(changes == [], f"a transition that met a conflict was published as {changes}")
    outcome = await other.send("a", {"type": "go"})
    claim(outcome is Outcome.TRANSITIONED, f"after a conflict the next message came to {outcome}")
    expected = [{"component": "a", "from_state": "s2", "to_state": "s0"}]
    claim(changes == expected, f"after a conflict with s2 stored, the next one: {changes}")


async def waits_until_it_has_loaded(new: Factories, *, heard: Heard) -> None:
    """While it isn't certain what is stored, no work begins; then that of what is stored does."""
    shelf = Shelf()
    states = [State(each, during=working(heard, f"{each}'s work")) for each in ("s0", "s1")]
    engine = new.engine(store=shelf)
    if not can_run(engine):
        return
    component = new.component("a", machine=chain(None, *states))
    await engine.register(component)
    changes: Heard = []
    await engine.bus.subscribe("state.changed", "o", changes.append)
    async with engine.running():
        await anyio.sleep(1)
        claim(heard == ["s0's work begins"], f"in running() it went through {heard}")
        heard.clear()
        shelf.fails, shelf.gate = "after", anyio.Event()
        with suppress(Boom):
            await engine.send("a", {"type": "go"})
        await anyio.sleep(3)
        told = "before what is stored was loaded"
        claim(heard == ["s0's work ends"], f"{told}, it went through {heard}")
        shelf.gate.set()
        await anyio.sleep(3)
        # Whether it loads at once, or with its next message.
        await engine.send("a", {"type": "other"})
        await anyio.sleep(1)
        told = f"with s1 stored, it went through {heard}"
        claim(heard == ["s0's work ends", "s1's work begins"], told)
        claim(component.state == "s1", f"with s1 stored, it is in {component.state}")
        claim(changes == [], f"what it found in the store was published as {changes}")


K3 = Clause(
    "K3",
    "a transition is saved before it counts",
    "With a store a transition, also an internal one, is saved after its last action and before "
    "its commit. A save that fails is a failed message (C6). One whose outcome is unknown makes "
    "the component load again before its next message, and so does a `StateConflict`, which the "
    "second of two engines to save gets. What it finds is taken without `state.changed`, `restore` "
    "replaces its attributes, and no work or timer begins before.",
    journeys.STORED,
    scenes=each_of(
        saves_before_it_commits,
        saves_what_it_counts,
        fails_with_its_store,
        fails_by_a_stray_save,
        restores_what_is_stored,
        survives_a_cancellation,
        meets_another_engine,
        waits_until_it_has_loaded,
        storing.finds_another_state,
        found=("s0", "s1", "s2", "nothing"),
        failures=(0, 2),
        fails=("before", "after"),
        turns=range(12),
    ),
    share=journeys.SHARE,
    needs=("engine(store=)",),
)


# K4


async def loads_what_it_makes(new: Factories, *, heard: Heard, way: str) -> None:
    """A component gets what is stored before it is registered."""
    make = counting(new) or new.component
    keeps = make is not new.component
    shelf = Shelf()
    shelf.put("a", "s1", {"count": 7} if keeps else None)
    machine = chain(count if keeps else None, State("s1", entry=noted(heard, "entry")))

    def made(name: str) -> Component:
        component: Component = make(name, machine=machine)
        return component

    def observe(_: object) -> None:
        component: Any = engine.components["a"]
        heard.append((component.state, component.count if keeps else 7))

    def change(data: Any) -> None:
        heard.append((data["from_state"], data["to_state"]))

    engine = new.engine(store=shelf, component_factory=made)
    await engine.bus.subscribe("engine.component.registered", "o", observe)
    await engine.bus.subscribe("state.changed", "o", change)
    if way == "register":
        await engine.register(made("a"))
    await engine.send("a", {"type": "go"})
    told = f"with s1 and 7 stored, {way} was published as {heard[:1]}"
    claim(heard[:1] == [("s1", 7)], told)
    claim(heard[1:] == [("s1", "s2")], f"with s1 stored, a message led through {heard[1:]}")
    expected = [("a", "s2", {"count": 8} if keeps else None)]
    claim(shelf.saves == expected, f"with s1 and 7 stored, {shelf.saves} was saved")


async def outlives_its_engine(new: Factories) -> None:
    """What one engine has saved the next one finds."""
    make = counting(new)
    if make is None:
        return
    shelf, machine = Shelf(), chain(count)
    states: list[object] = []
    for number in range(1, 4):
        engine = new.engine(store=shelf)
        component = make("a", machine=machine)
        await engine.register(component)
        await engine.send("a", {"type": "go"})
        claim(component.count == number, f"message {number} was counted as {component.count}")
        states.append(component.state)
    claim(states == ["s1", "s2", "s0"], f"three engines, with a message each, left {states}")


async def refuses_an_unknown_state(new: Factories, *, heard: Heard, way: str) -> None:
    """A stored state that the machine does not have is `UnknownState`; nothing is registered."""
    shelf = Shelf()
    shelf.put("a", "other")

    def make(name: str) -> Component:
        return new.component(name, machine=chain())

    engine = new.engine(store=shelf, component_factory=make)
    await engine.bus.subscribe("engine.component.registered", "o", heard.append)
    with refused(UnknownState, "a stored state that the machine does not have was taken"):
        await loaded(engine, make, way)
    registered = [*engine.components, *heard]
    claim(not registered, f"what is stored in an unknown state was registered: {registered}")
    claim(shelf.state("a") == "other", f"and {shelf.state('a')} was stored over it")
    shelf.put("a", "s1")
    await engine.send("a", {"type": "go"})
    told = f"with s1 stored afterwards, a message was saved as {shelf.state('a')}"
    claim(shelf.state("a") == "s2", told)


async def fails_to_load(new: Factories, *, heard: Heard, way: str, raises: str) -> None:
    """What a store raises is raised to the caller, and nothing is registered."""

    class Broken(Shelf):
        async def load(self, name: str) -> Any:
            await checkpoint()
            raise Boom(name) if raises == "a failure" else await kept_cancellation()

    def make(name: str) -> Component:
        return new.component(name, machine=chain())

    engine = new.engine(store=Broken(), component_factory=make)
    await engine.bus.subscribe("engine.component.registered", "o", heard.append)
    expected = Boom if raises == "a failure" else HandlerCancelled
    with refused(expected, f"a store fails to load by {raises}, and nothing was raised"):
        await loaded(engine, make, way)
    registered = [*engine.components, *heard]
    claim(not registered, f"what could not be loaded was registered: {registered}")


async def begins_where_nothing_is_stored(new: Factories) -> None:
    """Where nothing is stored all is as without a store."""
    shelf = Shelf()
    engine = new.engine(store=shelf)
    component = new.component("a", machine=chain())
    await engine.register(component)
    claim(component.state == "s0", f"with nothing stored it begins in {component.state}")
    claim(shelf.saves == [], f"for a component that only was registered, {shelf.saves} was saved")
    with refused(UnknownComponent, "with nothing stored and no factory, a name is known"):
        await engine.send("b", {"type": "go"})
    plain = new.component("c")
    await engine.register(plain)
    outcome = await engine.send("c", {"type": "go"})
    claim(outcome is Outcome.IGNORED, f"without a machine a message came to {outcome}")
    claim(shelf.saves == [], f"of a message that is ignored was saved {shelf.saves}")


async def deletes_nothing(new: Factories) -> None:
    """`unregister` deletes nothing that is stored."""
    shelf, machine = Shelf(), chain()
    engine = new.engine(store=shelf)
    await engine.register(new.component("a", machine=machine))
    await engine.send("a", {"type": "go"})
    await engine.unregister("a")
    claim(shelf.state("a") == "s1", f"unregistered in s1, what is stored is {shelf.state('a')}")
    again = new.component("a", machine=machine)
    await engine.register(again)
    claim(again.state == "s1", f"unregistered in s1, and registered again, it is in {again.state}")


K4 = Clause(
    "K4",
    "a component is loaded when it is sent a message",
    "What is stored under a component's name, state and data, is put into it before it is "
    "registered, by `send` to a name that the factory makes, and by `register`. A stored state "
    "that the machine does not have is `UnknownState`, and nothing is registered; so it is if the "
    "store raises an exception. Where nothing is stored, all is as without a store. `unregister` "
    "deletes nothing that is stored.",
    programs(
        loads_what_it_makes,
        outlives_its_engine,
        refuses_an_unknown_state,
        fails_to_load,
        begins_where_nothing_is_stored,
        deletes_nothing,
        way=("register", "send"),
        raises=("a failure", "a stray cancellation"),
    ),
    needs=("engine(store=)",),
)
