"""Journeys of components whose states last, which are compared with a model (M1 to M4)."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from hypothesis import strategies as st

from flexiflow import State, StateMachine, Transition
from flexiflow.testing._component.journey_model import (
    AFTER,
    REST,
    ROWS,
    WORK,
    Stop,
    planned,
    shown,
)
from flexiflow.testing._component.parts import Shelf, can_run
from flexiflow.testing._examiner.kit import Boom, claim
from flexiflow.testing._examiner.program import Program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anyio.abc import TaskGroup

    from flexiflow import Component
    from flexiflow.testing._examiner.kit import Factories
    from flexiflow.testing._examiner.program import Case

    Heard: TypeAlias = list[Any]
    Parts: TypeAlias = dict[str, tuple[str, ...]]
    Plain: TypeAlias = tuple[Any, ...]


class Journey:
    """A component on its way, and what it does.

    Args:
        new: what makes it, and its engines.
        parts: what each state has.
        shelf: where it is stored, or None.
    """

    def __init__(self, new: Factories, parts: Parts, shelf: Shelf | None = None) -> None:
        self.new, self.shelf = new, shelf
        self.begin = anyio.current_time()
        self.notes: list[tuple[float, str]] = []
        self.told: list[tuple[float, str]] = []
        self.engine: Any = None
        rows = [
            Transition(source, trigger, target, guard=self.guard, action=self.act)
            for (source, trigger), target in ROWS.items()
        ]
        states = [self.state(name, given) for name, given in parts.items()]
        self.machine = StateMachine("s0", rows, states=states)

    def state(self, name: str, parts: tuple[str, ...]) -> State:
        """Return a state with its parts."""

        def enter(message: Mapping[str, Any], component: Component) -> None:
            self.note(f"entry of {name} in {component.state}")
            fail_at("entry", message)

        def leave(message: Mapping[str, Any], component: Component) -> None:
            self.note(f"exit in {component.state}")
            fail_at("exit", message)

        async def work(_: Component) -> None:
            self.note(f"{name}'s work begins")
            try:
                await anyio.sleep(WORK[name])
            except anyio.get_cancelled_exc_class():
                self.note(f"{name}'s work is cancelled")
                raise
            self.note(f"{name}'s work ends")
            if "breaking" in parts:
                raise Boom

        given: dict[str, Any] = {
            "entry": enter,
            "exit": leave,
            "after": (AFTER[name], "late"),
            "during": work,
        }
        own: dict[str, Any] = {part: given[part] for part in given if part in parts}
        if "breaking" in parts:
            own = {**own, "during": work}
        elif "during" in parts:
            own = {**own, "done": "done"}
        return State(name, **own)

    def note(self, what: str) -> None:
        """Note that something happens, and when."""
        self.notes.append((round(anyio.current_time() - self.begin, 5), what))

    def guard(self, message: Mapping[str, Any], _: Component) -> object:
        """Let a message pass, unless its stop says otherwise."""
        fail_at("guard", message)
        return stop_of(message).fails != "refuse"

    async def act(self, message: Mapping[str, Any], component: Component) -> None:
        """Do what the message's stop says."""
        stop = stop_of(message)
        self.note(f"{message['type']} in {component.state}")
        if stop.defers:
            await self.engine.send("a", {"type": stop.defers})
        if stop.takes:
            await anyio.sleep(stop.takes)
        if self.shelf is not None and stop.fails in ("before", "after"):
            self.shelf.fails = stop.fails
        fail_at("action", message)

    async def set_out(self) -> None:
        """Register a new component with a new engine."""
        options: dict[str, Any] = {} if self.shelf is None else {"store": self.shelf}
        self.engine = self.new.engine(**options)
        self.component = self.new.component("a", machine=self.machine)
        await self.engine.bus.subscribe("state.changed", "o", self.observe)
        await self.engine.bus.subscribe("event.handler.failed", "o", self.observe)
        await self.engine.register(self.component)

    async def go(self, stops: Iterator[Stop]) -> None:
        """Make all stops."""
        await self.set_out()
        self.begin = anyio.current_time()
        numbers = iter(range(99))
        halt: Stop | None = Stop("halt", 0.0)
        async with anyio.create_task_group() as group:
            while halt is not None:
                await anyio.sleep(halt.pause)
                if halt.what == "kill":
                    await self.set_out()
                async with AsyncExitStack() as stack:
                    if can_run(self.engine):
                        await stack.enter_async_context(self.engine.running())
                    await anyio.sleep(halt.takes)
                    halt = await self.run(group, stops, numbers)

    async def run(
        self, group: TaskGroup, stops: Iterator[Stop], numbers: Iterator[int]
    ) -> Stop | None:
        """Make stops until the engine halts; return that stop, or None after the last one."""
        for stop in stops:
            number = next(numbers)
            if stop.what in ("halt", "kill"):
                return stop
            if stop.what == "leave":
                await self.engine.unregister("a")
                await anyio.sleep(stop.pause)
                await self.engine.register(self.component)
                await anyio.sleep(stop.takes)
            else:
                group.start_soon(self.send, number, stop)
                await anyio.sleep(stop.pause)
        await anyio.sleep(REST)
        self.told = shown(self.notes)
        group.cancel_scope.cancel()
        return None

    async def send(self, number: int, stop: Stop) -> None:
        """Send the message of a stop, and note what comes of it."""
        scope = anyio.CancelScope()
        if stop.cancelled is not None:
            scope.deadline = anyio.current_time() + stop.cancelled
        result = "cancelled"
        with scope:
            try:
                result = (await self.engine.send("a", {"type": stop.what, "stop": stop})).name
            except Exception as error:  # noqa: BLE001
                result = type(error).__name__
        self.note(f"{number} {result}")

    def observe(self, data: Mapping[str, Any]) -> None:
        """Note a change, or a failure."""
        if "exception" in data:
            self.note(f"reported {type(data['exception']).__name__}")
        else:
            self.note(f"from {data['from_state']} to {data['to_state']}")


def fail_at(part: str, message: Mapping[str, Any]) -> None:
    """Raise if a message is to fail at this part of its transition."""
    if stop_of(message).fails == part:
        raise Boom


def stop_of(message: Mapping[str, Any]) -> Stop:
    """Return the stop of a journey that has sent a message."""
    stop: Stop = message.get("stop", Stop(message["type"]))
    return stop


async def goes_as_it_must(
    new: Factories,
    *,
    parts: Parts,
    stops: tuple[Plain, ...],
    expected: tuple[Plain, ...],
) -> None:
    """All that happens on a journey happens as it must, and when it must."""
    journey = Journey(new, parts)
    await journey.go(iter([Stop(*each) for each in stops]))
    check_journey(journey, parts, stops, expected)


async def goes_on_with_its_store(
    new: Factories,
    *,
    parts: Parts,
    stops: tuple[Plain, ...],
    expected: tuple[Plain, ...],
) -> None:
    """With a store, too, whether saves fail or engines end."""
    journey = Journey(new, parts, Shelf())
    await journey.go(iter([Stop(*each) for each in stops]))
    check_journey(journey, parts, stops, expected)


def check_journey(
    journey: Journey, parts: Parts, stops: tuple[Plain, ...], expected: tuple[Plain, ...]
) -> None:
    """Check that all that must happen has happened, and nothing else."""
    happened = sorted(journey.told)
    missing = [each for each in expected if each not in happened]
    further = [each for each in happened if each not in expected]
    told = f"with {parts}, and {[Stop(*each) for each in stops]}"
    claim(not missing, f"{told}, there did not happen {missing}, but {further}")
    claim(happened == sorted(expected), f"{told}, there happened {further or happened}")


_pauses = st.sampled_from([1.0, 2.0, 4.0, 7.0])
_GO: Final = ("go", "go", "go", "back", "again", "note", "other")


def _journey(parts: Parts, stops: list[Stop], *, is_stored: bool = False) -> Case:
    made, notes = planned(parts, stops, is_stored=is_stored)
    plain = tuple(tuple(each) for each in made)
    given = (("parts", parts), ("stops", plain), ("expected", tuple(notes)))
    return Program(goes_on_with_its_store if is_stored else goes_as_it_must, given)


def journeys(
    *parts: str,
    fails: tuple[str, ...] = (),
    others: tuple[str, ...] = (),
    is_stored: bool = False,
) -> st.SearchStrategy[Case]:
    """Draw journeys through states that have some parts.

    Args:
        parts: what states may have.
        fails: which parts of transitions may fail.
        others: what else there may be than messages.
        is_stored: whether the engine has a store.
    """
    own = st.lists(st.sampled_from(parts), max_size=3, unique=True).map(_compatible)
    messages = st.builds(
        Stop,
        st.sampled_from(_GO),
        _pauses,
        st.sampled_from([0.0, 0.0, 1.0, 4.0]),
        st.sampled_from(["", "", "", *fails]),
        st.sampled_from(["", "", "", "note", "go"]),
        st.sampled_from([None, None, None, 2.0, 3.0]),
    )
    steps = st.lists(
        st.one_of(
            messages,
            messages,
            messages,
            *(st.builds(Stop, st.just(each), _pauses, st.just(1.0)) for each in others),
        ),
        min_size=1,
        max_size=6,
    )
    journey = partial(_journey, is_stored=is_stored)
    return st.builds(journey, st.fixed_dictionaries(dict.fromkeys(AFTER, own)), steps)


def _compatible(parts: list[str]) -> tuple[str, ...]:
    return tuple(sorted({*parts} - ({"breaking"} if "during" in parts else set())))


SHARE: Final = 0.2
"""Which part of a clause's examples is drawn as journeys."""
FAILS: Final = ("exit", "action", "entry", "guard", "refuse")
STORED: Final = journeys(
    *("entry", "exit"),
    fails=("before", "after", "before", "after", "action", "guard"),
    others=("leave", "kill"),
    is_stored=True,
)
"""Journeys of components that are stored (K3)."""
IN_ORDER: Final = journeys("entry", "exit", fails=FAILS, others=("leave",))
"""Journeys through states that take no time (M1)."""
IN_TIME: Final = journeys("entry", "after", fails=("action", "refuse"), others=("halt",))
"""Journeys through states with timers (M2)."""
AT_WORK: Final = journeys(
    "during", "breaking", "after", "exit", fails=("action", "exit", "guard"), others=("leave",)
)
"""Journeys through states with work (M3)."""
ON_AND_OFF: Final = journeys(
    *("during", "breaking", "after", "exit", "entry"), fails=FAILS, others=("leave", "halt")
)
"""Journeys through states with everything (M4)."""
