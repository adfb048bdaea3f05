"""Tasks that compete for components whose states last and take time (K3, K5, M1 to M4)."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from anyio import CancelScope, create_task_group, sleep
from anyio.lowlevel import checkpoint

from flexiflow import (
    Component,
    ComponentError,
    Engine,
    EngineNotRunning,
    Outcome,
    State,
    StateConflict,
    StateMachine,
    Transition,
    UnknownComponent,
)
from flexiflow.testing._component.parts import Shelf
from flexiflow.testing._examiner.kit import Boom
from flexiflow.testing._examiner.subject import Log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

RING = {"s0": "s1", "s1": "s2", "s2": "s0"}


async def cancelled_after(turns: int, doing: Callable[[], Awaitable[object]]) -> None:
    """Do something, and cancel it after some turns of another task."""
    async with create_task_group() as group:
        with CancelScope() as scope:

            async def cancel() -> None:
                for _ in range(turns):
                    await checkpoint()
                scope.cancel()

            group.start_soon(cancel)
            await doing()
        group.cancel_scope.cancel()


async def two_engines_lose_nothing() -> None:
    """K3: Each save follows the one before, and each transition that was told of was saved."""
    shelf, outcomes = Shelf(), Counter[object]()
    rows = [Transition(source, "go", target) for source, target in RING.items()]
    machine = StateMachine("s0", rows)
    changes: list[list[tuple[str, str]]] = [[], []]
    engines = [Engine(store=shelf) for _ in changes]
    for engine, told in zip(engines, changes, strict=True):

        def note(data: Any, told: list[tuple[str, str]] = told) -> None:
            told.append((data["from_state"], data["to_state"]))

        await engine.bus.subscribe("state.changed", "o", note)
        await engine.register(Component("a", machine=machine))

    async def send(engine: Engine, times: int) -> None:
        for _ in range(times):
            try:
                outcomes[await engine.send("a", {"type": "go"})] += 1
            except StateConflict:
                outcomes["conflict"] += 1

    with Log():
        async with create_task_group() as group:
            for engine in engines:
                group.start_soon(send, engine, 2)
            group.start_soon(cancelled_after, 3, lambda: send(engines[0], 1))
            group.start_soon(cancelled_after, 5, lambda: send(engines[1], 1))
    states = ["s0", *(each.state for each in shelf.saves)]
    assert all(RING[before] == after for before, after in pairwise(states))
    told = [change for each in changes for change in each]
    assert all(RING[before] == after for before, after in told)
    # A cancelled send may have saved, and one may have been told of that was cancelled then.
    assert outcomes[Outcome.TRANSITIONED] <= len(told) <= len(shelf.saves)
    assert len(shelf.saves) <= outcomes[Outcome.TRANSITIONED] + 2
    for engine in engines:
        with suppress(StateConflict):
            await engine.send("a", {"type": "go"})
        await engine.send("a", {"type": "look"})
    assert engines[1].components["a"].state == shelf.state("a")


class Counting(Component):
    """A component that counts, and whose messages take some turns."""

    count = 0

    def snapshot(self) -> dict[str, Any]:
        return {"count": self.count}

    def restore(self, data: Mapping[str, Any]) -> None:
        self.count = data["count"]


async def come_and_go() -> None:
    """K5: as components are unloaded, no message is lost, and no two objects have one name."""
    in_hand, sent = set[str](), Counter[str]()
    shelf = Shelf()

    async def act(_: object, component: Any) -> None:
        assert component.name not in in_hand
        in_hand.add(component.name)
        try:
            await checkpoint()
            component.count += 1
        finally:
            in_hand.discard(component.name)

    machine = StateMachine("s0", [Transition("s0", "go", None, action=act)])
    engine = Engine(
        store=shelf,
        component_factory=lambda name: Counting(name, machine=machine),
        max_components=1,
    )

    async def send(names: str) -> None:
        for name in names:
            assert await engine.send(name, {"type": "go"}) is Outcome.TRANSITIONED
            sent[name] += 1

    with Log():
        async with create_task_group() as group:
            for names in ("aba", "ba", "cab"):
                group.start_soon(send, names)
            group.start_soon(cancelled_after, 4, lambda: send("d"))
    for name, count in sent.items():
        stored = shelf.stored[name].data
        assert stored is not None
        assert stored["count"] == count or name == "d"
    assert len(engine.components) == 1


class Traffic:
    """A component with work, a timer, entry and exit, whose parts must not overlap.

    Attributes:
        working: how many works run.
        entered: how often the state was entered, less how often it was left.
    """

    def __init__(self, *, sends: bool = False) -> None:
        self.working = self.entered = 0
        self.begun, self.handled = list[str](), Counter[str]()
        self.sends = sends
        timed = State(
            "s1",
            entry=self._enter,
            exit=self._leave,
            during=self._work,
            done="done",
            failed="broke",
            after=(5.0, "late"),
        )
        rows = [
            Transition("s0", "go", "s1", action=self._act),
            Transition("s1", "go", "s0", action=self._act),
            Transition("s1", "again", "s1", action=self._act),
            Transition("s1", "fail", "s0", action=self._fail),
            Transition("s1", "done", None, action=self._act),
            Transition("s1", "broke", "s0", action=self._act),
            Transition("s1", "late", "s0", action=self._act),
            Transition("*", "note", None, action=self._act),
        ]
        self.engine = Engine()
        self.component = Component("a", machine=StateMachine("s0", rows, states=[timed]))

    async def _enter(self, _: object, __: object) -> None:
        assert self.working == 0
        await checkpoint()
        assert self.working == 0

    _leave = _enter

    async def _act(self, message: Mapping[str, Any], _: object) -> None:
        self.handled[message["type"]] += 1
        await checkpoint()

    async def _fail(self, _: object, __: object) -> None:
        assert self.working == 0
        await checkpoint()
        raise Boom

    async def _work(self, component: Component) -> None:
        assert self.working == 0
        assert component.state == "s1"
        self.working += 1
        try:
            await checkpoint()
            if self.sends:
                outcome = await self.engine.send("a", {"type": "note"})
                assert outcome is Outcome.DEFERRED
                await self.engine.send("b", {"type": "go"})
            await sleep(1)
        finally:
            self.working -= 1

    async def send(self, triggers: str) -> None:
        for trigger in triggers.split():
            with suppress(Boom):
                await self.engine.send("a", {"type": trigger})
            await checkpoint()

    async def run(self, *tasks: str) -> None:
        await self.engine.register(self.component)
        with Log():
            async with self.engine.running(), create_task_group() as group:
                for triggers in tasks:
                    group.start_soon(self.send, triggers)
                group.start_soon(cancelled_after, 6, lambda: self.send("go"))
                await sleep(30)
                # At the latest its timer has left the state.
                assert self.component.state == "s0"
                assert self.working == 0
        assert self.working == 0


async def parts_do_not_overlap() -> None:
    """M1, M3: No work runs while a state is entered or left, and it is there in its state."""
    traffic = Traffic()
    await traffic.run("go again", "go fail", "note")


async def timers_end_what_stays() -> None:
    """M2: a state with a timer ends, also if other messages are sent."""
    traffic = Traffic()
    await traffic.run("go note", "again", "note go go")
    assert traffic.handled["late"] <= traffic.handled["go"]


async def work_sends_to_its_own() -> None:
    """M3: Work that sends to its component, and to one that sends there, waits for nobody."""
    traffic = Traffic(sends=True)

    async def act(_: object, __: object) -> None:
        outcomes.append(await traffic.engine.send("a", {"type": "note"}))

    outcomes: list[Outcome] = []
    machine = StateMachine("s0", [Transition("s0", "go", None, action=act)])
    await traffic.engine.register(Component("b", machine=machine))

    async def send() -> None:
        await traffic.engine.send("b", {"type": "go"})

    async with create_task_group() as group:
        group.start_soon(send)
        await traffic.run("go go", "again note")
    assert set(outcomes) <= {Outcome.DEFERRED, Outcome.TRANSITIONED}


def timed_machine(**details: Any) -> StateMachine:
    """Return a machine whose state "s1" is left after 5 seconds at the latest."""
    rows = [
        Transition("s0", "go", "s1", action=_pause),
        Transition("s1", "go", "s0", action=_pause),
        Transition("s1", "late", "s2"),
        Transition("s2", "go", "s0"),
        Transition("*", "note", None, action=_pause),
    ]
    states = [State("s1", after=(5.0, "late"), **details)]
    return StateMachine("s0", rows, states=states)


async def _pause(_: object, __: object) -> None:
    await checkpoint()


class Works:
    """Counts the work that runs, of each component."""

    def __init__(self) -> None:
        self.running = Counter[str]()

    async def __call__(self, component: Component) -> None:
        assert self.running[component.name] == 0
        self.running[component.name] += 1
        try:
            await checkpoint()
            await component.handle_message({"type": "note"})
            await sleep(2)
        finally:
            with CancelScope(shield=True):
                await checkpoint()
            self.running[component.name] -= 1


async def timers_send_once() -> None:
    """M2: Of two running engines over one store, one handles what a timer sends."""
    shelf, machine = Shelf(), timed_machine()
    engines = [
        Engine(store=shelf, component_factory=lambda name: Component(name, machine=machine))
        for _ in range(2)
    ]

    async def note(engine: Engine) -> None:
        with suppress(StateConflict):
            await engine.send("a", {"type": "note"})

    with Log():
        async with engines[0].running(), engines[1].running():
            for name in "ab":
                await engines[0].send(name, {"type": "go"})
            async with create_task_group() as group:
                for engine in engines:
                    group.start_soon(note, engine)
            await sleep(20)
    saved = Counter((each.name, each.state) for each in shelf.saves)
    assert saved["a", "s2"] == saved["b", "s2"] == 1


async def timers_come_back() -> None:
    """K5: What is unloaded with its timer, by tasks that cross, comes back in time."""
    shelf, works = Shelf(), Works()
    machine = timed_machine(during=works)
    engine = Engine(
        store=shelf,
        component_factory=lambda name: Component(name, machine=machine),
        max_components=1,
    )

    async def send(names: str, trigger: str) -> None:
        for name in names:
            await engine.send(name, {"type": trigger})
            await checkpoint()

    with Log():
        async with engine.running():
            async with create_task_group() as group:
                group.start_soon(send, "abc", "go")
                group.start_soon(send, "cba", "note")
                group.start_soon(send, "bd", "note")
            await sleep(3)
            assert len(engine.components) == 1
            await sleep(20)
    assert [shelf.state(name) for name in "abc"] == ["s2"] * 3


async def work_ends_as_it_leaves() -> None:
    """M3: A component that leaves and comes back, while it is sent messages, works once."""
    works = Works()
    engine, component = Engine(store=Shelf()), Component("a", machine=timed_machine(during=works))

    async def send(*triggers: str) -> None:
        for trigger in triggers:
            with suppress(UnknownComponent):
                await engine.send("a", {"type": trigger})

    async def leave_and_return() -> None:
        await checkpoint()
        with suppress(UnknownComponent):
            await engine.unregister("a")
        with suppress(ComponentError):
            await engine.register(component)

    with Log():
        await engine.register(component)
        async with engine.running():
            async with create_task_group() as group:
                group.start_soon(send, "go", "go", "go")
                group.start_soon(send, "note", "go")
                for _ in range(2):
                    group.start_soon(leave_and_return)
            await sleep(10)
            assert component.state != "s1"
            assert works.running["a"] == 0


async def running_is_left_in_between() -> None:
    """M4: after `running()` no work runs, also if messages are in hand; in the next one it does."""
    works, outcomes = Works(), list[object]()
    engine, component = Engine(store=Shelf()), Component("a", machine=timed_machine(during=works))

    async def send(*triggers: str) -> None:
        for trigger in triggers:
            try:
                outcomes.append(await engine.send("a", {"type": trigger}))
            except EngineNotRunning as exc:
                outcomes.append(exc)

    with Log():
        await engine.register(component)
        async with create_task_group() as group:
            for turns in (4, 3):
                async with engine.running():
                    group.start_soon(send, "go", "go")
                    group.start_soon(send, "note", "go")
                    for _ in range(turns):
                        await checkpoint()
                assert works.running["a"] == 0
        assert len(outcomes) == 8
        async with engine.running():
            await sleep(1)
            assert works.running["a"] == (component.state == "s1")
            await sleep(9)
            assert component.state != "s1"
