"""The engine, held against models of a few lines (C1 to C6)."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import anyio
from anyio.lowlevel import checkpoint
from hypothesis import event, given
from hypothesis import strategies as st

from flexiflow import (
    Component,
    ComponentError,
    DuplicateComponent,
    Engine,
    EventBus,
    Outcome,
    StateMachine,
    Transition,
    UnknownComponent,
    on,
)
from flexiflow._bus import subscriptions
from flexiflow.events import (
    COMPONENT_REGISTERED,
    HANDLER_FAILED,
    MESSAGE_RECEIVED,
    STATE_CHANGED,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

logging.getLogger("flexiflow").addHandler(logging.NullHandler())

PATIENCE = 20
NAMES = "abc"

Log: TypeAlias = list[tuple[Any, ...]]
Fate: TypeAlias = Literal["passes", "guard", "action", "ignored", "leaves"]


class Failed(Exception):
    """What a guard or an action raises."""


class Subscribed(Component):
    """A component with a subscription."""

    @on("tick")
    def hear(self, data: object) -> None:
        """Hear it."""


@dataclass(frozen=True)
class Step:
    """One message: whose it is, what becomes of it, and what is sent while it is handled.

    Attributes:
        name: the component that it is sent to.
        fate: where it fails, if anywhere; or that its action unregisters the component.
        target: the state that it leads to; None for an internal transition.
        waits: how many checkpoints its action passes.
        then: what its action sends, one after another.
    """

    name: str
    fate: Fate = "passes"
    target: str | None = "x"
    waits: int = 0
    then: tuple[Step, ...] = field(default=())


FATES: tuple[Fate, ...] = ("passes", "passes", "passes", "guard", "action", "ignored")


def steps(depth: int, fates: tuple[Fate, ...] = FATES) -> st.SearchStrategy[Step]:
    """Draw messages that send messages."""
    then = st.lists(steps(depth - 1, fates), max_size=2) if depth else st.just(list[Step]())
    return st.builds(
        Step,
        name=st.sampled_from(NAMES),
        fate=st.sampled_from(fates),
        target=st.sampled_from([None, "x", "y"]),
        waits=st.integers(0, 2),
        then=then.map(tuple),
    )


def message(step: Step, **more: object) -> dict[str, object]:
    """Write a step as a message."""
    trigger = "ignored" if step.fate == "ignored" else f"to {step.target}"
    return {"type": trigger, "step": step, **more}


def size(step: Step) -> int:
    """Count the messages."""
    return 1 + sum(map(size, step.then))


@dataclass
class Hosted:
    """An engine with a component of each name, and what happened to them.

    Attributes:
        yield_every: how often the bus yields.
        making: the components are made when they are asked for, and what is sent by the factory
            meanwhile; where it is None, they are registered beforehand.
    """

    yield_every: int = 61
    making: dict[str, Step] | None = None
    log: Log = field(default_factory=list)
    sent: list[tuple[Step, object]] = field(default_factory=list)
    handling: Counter[int] = field(default_factory=Counter)
    kept: list[Component] = field(default_factory=list)
    overlaps: int = 0

    async def start(self) -> Hosted:
        """Register the components."""
        factory = None if self.making is None else self._make
        self.engine = Engine(bus=EventBus(yield_every=self.yield_every), component_factory=factory)
        rows = [
            Transition("*", f"to {target}", target, self._guard, self._action)
            for target in (None, "x", "y")
        ]
        self.machine = StateMachine("x", rows)
        for name in NAMES if self.making is None else ():
            await self.engine.register(Component(name, machine=self.machine))
        for name, note in {
            MESSAGE_RECEIVED: self._received,
            STATE_CHANGED: self._changed,
            HANDLER_FAILED: self._failed,
        }.items():
            await self.engine.bus.subscribe(name, "log", note, priority=1)
        return self

    async def send(self, step: Step, **more: object) -> None:
        """Send, and note what came of it."""
        try:
            outcome: object = await self.engine.send(step.name, message(step, **more))
        except Failed:
            outcome = "failed"
        except ComponentError:
            outcome = "refused"
        self.sent.append((step, outcome))

    async def _make(self, name: str) -> Component:
        step = (self.making or {}).get(name)
        for _ in range(step.waits if step else 0):
            await checkpoint()
        for each in step.then if step else ():
            await self.send(each)
        return Subscribed(name, machine=self.machine)

    def _received(self, data: Any) -> None:
        self.log.append((data["component"], "received", data["message"]["step"]))

    def _changed(self, data: Any) -> None:
        self.log.append((data["component"], data["from_state"], data["to_state"]))

    def _failed(self, data: Any) -> None:
        self.log.append((data["component_name"], "reported"))

    def _guard(self, message: dict[str, Any], component: Component) -> bool:
        if message["step"].fate == "guard":
            raise Failed
        return True

    async def _action(self, message: dict[str, Any], component: Component) -> None:
        step: Step = message["step"]
        self.overlaps += self.handling[id(component)]
        self.handling[id(component)] += 1
        self.kept.append(component)
        try:
            for _ in range(step.waits):
                await checkpoint()
            for each in step.then:
                await self.send(each)
            for _ in range(step.waits):
                await checkpoint()
            if step.fate == "action":
                raise Failed
            if step.fate == "leaves":
                with suppress(UnknownComponent):
                    await self.engine.unregister(component.name)
        finally:
            self.handling[id(component)] -= 1


class Model:
    """Run to completion, as a reader of the contract would write it down."""

    def __init__(self) -> None:
        self.log: Log = []
        self.sent: list[tuple[Step, object]] = []
        self.state = dict.fromkeys(NAMES, "x")
        self._busy: set[str] = set()
        self._deferred: defaultdict[str, deque[Step]] = defaultdict(deque)

    def send(self, step: Step) -> None:
        """Handle a message and those deferred meanwhile, or defer it."""
        if step.name in self._busy:
            self._deferred[step.name].append(step)
            self.sent.append((step, Outcome.DEFERRED))
            return
        self._busy.add(step.name)
        outcome = self._handle(step)
        while self._deferred[step.name]:
            if self._handle(self._deferred[step.name].popleft()) == "failed":
                self.log.append((step.name, "reported"))
        self._busy.remove(step.name)
        self.sent.append((step, outcome))

    def _handle(self, step: Step) -> object:
        self.log.append((step.name, "received", step))
        if step.fate == "ignored":
            return Outcome.IGNORED
        if step.fate == "guard":
            return "failed"
        for each in step.then:
            self.send(each)
        if step.fate == "action":
            return "failed"
        if step.target is not None:
            self.log.append((step.name, self.state[step.name], step.target))
            self.state[step.name] = step.target
        return Outcome.TRANSITIONED


def run(backend: str, scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario that must not hang."""

    async def bounded() -> None:
        with anyio.fail_after(PATIENCE):
            await scenario()

    anyio.run(bounded, backend=backend)


async def together(functions: Iterable[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Run functions at the same time, started one after another."""
    async with anyio.create_task_group() as group:
        for function in functions:
            group.start_soon(function)
            await checkpoint()


class Cancelling:
    """Scopes, each of which is cancelled after some checkpoints, or not at all.

    Args:
        plan: which scope, modulo their number, and after how many checkpoints.
    """

    def __init__(self, number: int, plan: list[tuple[int, int]]) -> None:
        self._scopes = [anyio.CancelScope() for _ in range(number)]
        self._plan = plan

    async def run(self, function: Callable[[int], Awaitable[None]]) -> None:
        """Run it once for each scope, in a task of its own, with the scope's number."""
        functions = [partial(self._run, function, number) for number in range(len(self._scopes))]
        await together([*functions, *(partial(self._cancel, *each) for each in self._plan)])

    async def _run(self, function: Callable[[int], Awaitable[None]], number: int) -> None:
        with self._scopes[number]:
            await function(number)

    async def _cancel(self, number: int, after: int) -> None:
        for _ in range(after):
            await checkpoint()
        self._scopes[number % len(self._scopes)].cancel()


plans = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 8)), min_size=1, max_size=4)


def is_idle(engine: Engine) -> bool:
    """Tell whether nobody waits for anything."""
    mailboxes = [component._flexiflow_actor.mailbox for component in engine.components.values()]
    return not engine._pending and all(each.holder is None for each in mailboxes)


def changes(log: Log, name: str) -> list[tuple[object, object]]:
    """Give the states that a component went from and to."""
    return [
        (each[1], each[2])
        for each in log
        if len(each) == 3 and each[0] == name != each[1] and each[1] != "received"
    ]


def are_chained(log: Log) -> bool:
    """Tell whether each transition of a component began where the one before ended."""
    return all(
        before[1] == after[0] for name in NAMES for before, after in pairwise(changes(log, name))
    )


@given(script=st.lists(steps(depth=3), max_size=5), yield_every=st.sampled_from([1, 2, 61]))
def test_one_task_runs_to_completion_like_the_model(
    backend: str, script: list[Step], yield_every: int
) -> None:
    """C4, C5, C6: Any tree of messages gives the events and outcomes that the model gives."""
    model = Model()
    for step in script:
        model.send(step)
    event(f"deferred: {min(5, [outcome for _, outcome in model.sent].count(Outcome.DEFERRED))}")

    async def scenario() -> None:
        hosted = await Hosted(yield_every).start()
        for step in script:
            await hosted.send(step)
        assert hosted.log == model.log
        assert hosted.sent == model.sent
        states = {name: each.state for name, each in hosted.engine.components.items()}
        assert states == model.state
        assert is_idle(hosted.engine)

    run(backend, scenario)


@given(
    scripts=st.lists(st.lists(steps(depth=2), max_size=4), min_size=2, max_size=5),
    making=st.none() | st.dictionaries(st.sampled_from(NAMES), steps(depth=2)),
)
def test_many_tasks_never_overlap_and_never_deadlock(
    backend: str, scripts: list[list[Step]], making: dict[str, Step] | None
) -> None:
    """C3, C4, C6: However tasks cross, each message is handled once, alone, and states chain."""

    async def scenario() -> None:
        hosted = await Hosted(making=making).start()

        async def send_all(script: list[Step]) -> None:
            for step in script:
                await hosted.send(step)

        await together([partial(send_all, script) for script in scripts])
        assert hosted.overlaps == 0
        assert are_chained(hosted.log)
        assert is_idle(hosted.engine)
        assert not any(
            each._flexiflow_actor.mailbox.deferred for each in hosted.engine.components.values()
        )
        received = Counter(each[2] for each in hosted.log if each[1] == "received")
        assert received == Counter(step for step, outcome in hosted.sent if outcome != "refused")
        committed = sum(len(changes(hosted.log, name)) for name in NAMES)
        assert committed == sum(
            count for step, count in received.items() if step.fate == "passes" and step.target
        )

    run(backend, scenario)


@given(
    waits=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    making=st.none() | st.integers(0, 3),
    yield_every=st.sampled_from([1, 2, 61]),
)
def test_senders_are_served_in_the_order_of_sending(
    backend: str, waits: list[int], making: int | None, yield_every: int
) -> None:
    """C3: First come, first served, also where the component is made meanwhile."""
    began: list[int] = []
    served: list[int] = []

    async def act(message: dict[str, Any], component: Component) -> None:
        for _ in range(waits[message["n"]]):
            await checkpoint()
        served.append(message["n"])

    machine = StateMachine("x", [Transition("x", "go", "x", action=act)])

    async def make(name: str) -> Component:
        for _ in range(making or 0):
            await checkpoint()
        return Component(name, machine=machine)

    async def scenario() -> None:
        engine = Engine(bus=EventBus(yield_every=yield_every), component_factory=make)
        if making is None:
            await engine.register(Component("a", machine=machine))

        async def send(n: int) -> None:
            began.append(n)
            assert await engine.send("a", {"type": "go", "n": n}) is Outcome.TRANSITIONED

        began.clear()
        served.clear()
        await together([partial(send, n) for n in range(len(waits))])
        assert served == began
        assert is_idle(engine)

    run(backend, scenario)


@given(
    scripts=st.lists(st.lists(steps(depth=2), min_size=1, max_size=3), min_size=1, max_size=3),
    cancelled=plans,
    yield_every=st.sampled_from([1, 61]),
)
def test_cancelled_sends_leave_everything_usable(
    backend: str,
    scripts: list[list[Step]],
    cancelled: list[tuple[int, int]],
    yield_every: int,
) -> None:
    """C4, C6: Whoever is cancelled when, states chain and what was deferred comes first."""

    async def scenario() -> None:
        hosted = await Hosted(yield_every).start()

        async def send_all(place: int) -> None:
            for step in scripts[place]:
                await hosted.send(step)

        await Cancelling(len(scripts), cancelled).run(send_all)
        check(hosted)
        for name in NAMES:
            left = [each.message["step"] for each in deferred(hosted, name)]
            event(f"left over: {min(len(left), 3)}")
            hosted.log.clear()
            await hosted.send(own := Step(name))
            received = [each[2] for each in hosted.log if each[:2] == (name, "received")]
            assert received[: len(left)] == left
            assert own in received[len(left) :]
        check(hosted)

    run(backend, scenario)


def deferred(hosted: Hosted, name: str) -> list[Any]:
    """Give what a cancelled send left."""
    return list(hosted.engine.components[name]._flexiflow_actor.mailbox.deferred or ())


def check(hosted: Hosted) -> None:
    """Check what holds whenever nobody is at work."""
    assert hosted.overlaps == 0
    assert are_chained(hosted.log)
    assert is_idle(hosted.engine)
    for name, component in hosted.engine.components.items():
        if told := changes(hosted.log, name):
            assert told[-1][1] == component.state


Operation: TypeAlias = tuple[Literal["register", "unregister", "send"], str]

operations: st.SearchStrategy[Operation] = st.tuples(
    st.sampled_from(["register", "unregister", "send"]), st.sampled_from(NAMES)
)


class Names:
    """Registering, unregistering and asking, as a reader of the contract would write it down."""

    def __init__(self, known: set[str]) -> None:
        self.there: list[str] = []
        self.told: list[str] = []
        self._known = known

    def perform(self, operation: str, name: str) -> object:
        """Do it, or say what it raises."""
        if operation == "unregister":
            return self._unregister(name)
        if name in self.there:
            return DuplicateComponent if operation == "register" else None
        if operation == "send" and name not in self._known:
            return UnknownComponent
        self.there.append(name)
        self.told.append(name)
        return None

    def _unregister(self, name: str) -> object:
        if name not in self.there:
            return UnknownComponent
        self.there.remove(name)
        return None


@given(script=st.lists(operations, max_size=12), known=st.sets(st.sampled_from(NAMES)))
def test_one_task_registers_like_a_dict(
    backend: str, script: list[Operation], known: set[str]
) -> None:
    """C1, C2: Registering, unregistering and asking a factory do what a dict would do."""

    async def scenario() -> None:
        model, told = Names(known), list[str]()
        engine = Engine(component_factory=lambda name: Subscribed(name) if name in known else None)
        await engine.bus.subscribe(
            COMPONENT_REGISTERED, "log", lambda data: told.append(data["component"])
        )
        for operation, name in script:
            assert await error_of(perform(engine, operation, name)) is model.perform(
                operation, name
            )
            assert list(engine.components) == owners(engine) == model.there
            assert told == model.told
            assert is_idle(engine)

    run(backend, scenario)


async def error_of(awaitable: Awaitable[None]) -> object:
    """Await it, and give the type of what it raises."""
    try:
        await awaitable
    except (ComponentError, Failed) as exc:
        return type(exc)
    return None


async def perform(engine: Engine, operation: str, name: str) -> None:
    """Do what an operation says."""
    if operation == "register":
        await engine.register(Subscribed(name))
    elif operation == "unregister":
        await engine.unregister(name)
    else:
        assert await engine.send(name, {"type": "go"}) is Outcome.IGNORED


def owners(engine: Engine) -> list[str]:
    """Say who has subscriptions."""
    return [
        each.component_name for each in subscriptions(engine.bus) if len(each.component_name) == 1
    ]


class Maker:
    """A factory that takes its time, and fails at times.

    Args:
        fates: what becomes of each call, over and over.
        waits: how many checkpoints each call passes, over and over.
    """

    def __init__(self, fates: list[str], waits: list[int]) -> None:
        self._calls = zip(cycle(fates), cycle(waits), strict=False)
        self._making: Counter[str] = Counter()

    async def __call__(self, name: str) -> Component | None:
        """Make it, or don't."""
        fate, waits = next(self._calls)
        self._making[name] += 1
        assert self._making[name] == 1
        try:
            for _ in range(waits):
                await checkpoint()
        finally:
            self._making[name] -= 1
        if fate == "raises":
            raise Failed
        return Subscribed(name) if fate == "made" else None


@given(
    scripts=st.lists(st.lists(operations, min_size=1, max_size=4), min_size=2, max_size=5),
    fates=st.lists(st.sampled_from(["made", "made", "none", "raises"]), min_size=1, max_size=6),
    waits=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    cancelled=plans,
)
def test_many_tasks_register_without_trace_of_each_other(
    backend: str,
    scripts: list[list[Operation]],
    fates: list[str],
    waits: list[int],
    cancelled: list[tuple[int, int]],
) -> None:
    """C1, C2: However tasks cross, and whoever is cancelled, no component is half registered."""

    async def scenario() -> None:
        engine = Engine(bus=EventBus(yield_every=1), component_factory=Maker(fates, waits))
        await engine.bus.subscribe(COMPONENT_REGISTERED, "slow", pause)

        async def act(place: int) -> None:
            for operation, name in scripts[place]:
                await error_of(perform(engine, operation, name))

        await Cancelling(len(scripts), cancelled).run(act)
        assert is_idle(engine)
        assert sorted(owners(engine)) == sorted(engine.components)
        assert all(each._flexiflow_actor.host is engine for each in engine.components.values())
        for name in NAMES:
            if name in engine.components:
                await engine.unregister(name)
            await engine.register(Subscribed(name))
            assert await engine.send(name, {"type": "go"}) is Outcome.IGNORED

    run(backend, scenario)


async def pause(data: object) -> None:
    """Observe, and let others run."""
    await checkpoint()


@given(
    scripts=st.lists(st.lists(steps(2, (*FATES, "leaves")), max_size=3), min_size=2, max_size=4),
    making=st.dictionaries(st.sampled_from(NAMES), steps(depth=2)),
    cancelled=plans,
    yield_every=st.sampled_from([1, 61]),
)
def test_components_that_come_and_go_leave_nobody_waiting(
    backend: str,
    scripts: list[list[Step]],
    making: dict[str, Step],
    cancelled: list[tuple[int, int]],
    yield_every: int,
) -> None:
    """C1 to C4: Made, unregistered, cancelled and crossing: nothing overlaps, hangs or stays."""

    async def scenario() -> None:
        hosted = await Hosted(yield_every, making).start()

        async def send_all(place: int) -> None:
            for step in scripts[place]:
                await hosted.send(step)

        await Cancelling(len(scripts), cancelled).run(send_all)
        engine = hosted.engine
        assert hosted.overlaps == 0
        assert is_idle(engine)
        assert all(each._flexiflow_actor.mailbox.holder is None for each in hosted.kept)
        assert sorted(owners(engine)) == sorted(engine.components)
        hosted.making = {}
        for name in NAMES:
            if name in engine.components:
                await engine.unregister(name)
            await hosted.send(own := Step(name))
            assert hosted.sent[-1] == (own, Outcome.TRANSITIONED)

    run(backend, scenario)


@given(
    late=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    waits=st.integers(0, 4),
    fate=st.sampled_from(["made", "none", "raises"]),
)
def test_factory_is_asked_once_however_many_ask(
    backend: str, late: list[int], waits: int, fate: str
) -> None:
    """C2: Of those who ask while a component is made, one asks, and all share what comes of it."""
    expected = {"made": None, "none": UnknownComponent, "raises": Failed}[fate]

    async def scenario() -> None:
        maker, waiting, errors = Maker([fate], [waits]), 0, list[object]()

        async def make(name: str) -> Component | None:
            try:
                return await maker(name)
            finally:
                # Whoever waits by now shares the answer, so only a later one asks again.
                shared.append(waiting - len(errors))

        shared: list[int] = []
        engine = Engine(component_factory=make)

        async def send(place: int) -> None:
            nonlocal waiting
            for _ in range(late[place]):
                await checkpoint()
            waiting += 1
            errors.append(await error_of(perform(engine, "send", "a")))

        await Cancelling(len(late), []).run(send)
        assert errors == [expected] * len(late)
        assert is_idle(engine)
        assert len(shared) == 1 if fate == "made" else all(shared)

    run(backend, scenario)
