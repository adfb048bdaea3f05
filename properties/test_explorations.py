"""What holds of several tasks under every schedule: one or more programs for each clause marked P.

Most programs are scripts of the kit. All that happens while one runs is recorded, and then judged
by the kit's clause.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from anyio import CancelScope, create_task_group, current_time, get_cancelled_exc_class
from anyio.lowlevel import checkpoint

from flexiflow import Component, Engine, EventBus, LimitDeadlock
from flexiflow.events import MESSAGE_RECEIVED, STATE_CHANGED
from flexiflow.extras.retry import RetryConfig, retry_async
from flexiflow.testing import explore
from flexiflow.testing._bus.contract import CONTRACT
from flexiflow.testing._bus.recorder import BusRecorder
from flexiflow.testing._bus.script import Publish, Script, Subscribe, Unsubscribe, UnsubscribeAll
from flexiflow.testing._bus.trace import BusTrace
from flexiflow.testing._component.contract import COMPONENT_CONTRACT
from flexiflow.testing._component.judgements import ComponentTrace
from flexiflow.testing._component.recorder import ComponentRecorder
from flexiflow.testing._component.script import (
    ComponentScript,
    Fail,
    Look,
    Observe,
    Row,
    Send,
)
from flexiflow.testing._component.subject import HEAD
from flexiflow.testing._examiner.program import defined
from flexiflow.testing._examiner.steps import CleanUp, Hang, Mark, Meet, Raise, Together, Wait
from flexiflow.testing._examiner.subject import Log
from flexiflow.testing._examiner.trace import NOBODY
from properties.durable_traffic import stored_events_reach_their_handlers
from properties.lasting_traffic import (
    come_and_go,
    parts_do_not_overlap,
    running_is_left_in_between,
    timers_come_back,
    timers_end_what_stays,
    timers_send_once,
    two_engines_lose_nothing,
    work_ends_as_it_leaves,
    work_sends_to_its_own,
)
from properties.profile import CORRECT_SEED, by_turns
from tests.helpers import MODES
from tests.streams.streaming import EVENT, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from flexiflow._bus import DeliveryMode
    from flexiflow._stream import Overflow
    from flexiflow.testing._examiner.steps import Step
    from flexiflow.testing._examiner.trace import Trace

    Scenario = Callable[[], Coroutine[Any, Any, None]]

CLAUSES = {clause.identifier: clause for clause in (*CONTRACT, *COMPONENT_CONTRACT)}
_MARKED = {
    "B": (4, 5, 6),
    "D": (1, 2, 3, 4),
    "E": (1, 2, 3, 4, 5),
    "C": (3, 4, 5, 6),
    "K": (3, 5),
    "M": (1, 2, 3, 4),
    "R": (2,),
    "S": (2, 4),
    "V": (2,),
    "X": (1,),
}
EXPLORED = {f"{part}{number}" for part, numbers in _MARKED.items() for number in numbers}


def at_once(*tasks: Step | tuple[Step, ...]) -> Together:
    """Do something in several tasks at once."""
    return Together(tuple(each if isinstance(each, tuple) else (each,) for each in tasks))


def published(*modes: DeliveryMode) -> tuple[Step, ...]:
    """Publish with each of these deliveries, each in a task of its own."""
    return tuple(Publish(mode, "continue") for mode in modes)


def marking(mode: DeliveryMode, times: int) -> Together:
    """Publish in several tasks, each of which has set a context variable of its own."""
    return at_once(*[(Mark(), Publish(mode, "continue"))] * times)


def handler(*does: Step, **options: Any) -> Subscribe:
    """Subscribe a handler."""
    return Subscribe(does, **options)


WAITS = handler(Wait())
FAILING = (
    handler(Wait(), priority=1),
    handler(Wait(), Raise(), priority=2),
    handler(Wait(2), Raise(), priority=2, component="d"),
    handler(Raise(), priority=4),
    handler(Wait(), priority=5),
)
CLEANING = (
    handler(Wait(), Hang(), CleanUp(2), priority=2),
    handler(Hang(), CleanUp(1, fails="alone"), priority=2),
    handler(Wait(), Raise(), CleanUp(2), priority=2),
    handler(Wait(2), Raise(), priority=2),
    handler(Wait(), once=True, priority=2),
)

OF_BUS: dict[str, tuple[Step, ...]] = {
    "B4": (
        handler(Wait(), priority=3),
        handler(Wait(), event="*", priority=1),
        handler(Wait(2), event="**", priority=3),
        handler(priority=1),
        at_once(*published(*MODES), handler(priority=2), handler(event="*", priority=1)),
    ),
    "B5": (
        handler(Wait(), Unsubscribe(2), priority=1),
        handler(Wait(), handler(priority=1), priority=2),
        handler(Wait(), priority=3),
        handler(Wait(), event="*", priority=4, component="d"),
        handler(event="**", priority=5),
        at_once(
            *published(*MODES),
            (WAITS, Unsubscribe(4), handler(priority=1), UnsubscribeAll("d")),
        ),
    ),
    "B6": (
        handler(Wait(), event="**", component="d"),
        handler(Wait()),
        handler(Unsubscribe(0), component="d"),
        WAITS,
        at_once(
            *published("sequential", "concurrent"),
            (Unsubscribe(0), Unsubscribe(1), WAITS, Unsubscribe(3)),
            (Unsubscribe(3), WAITS, UnsubscribeAll("d"), Unsubscribe(1)),
            (UnsubscribeAll("d"), WAITS, UnsubscribeAll("c")),
        ),
    ),
    "D1": (
        handler(Mark(), Wait()),
        handler(Wait(), Mark(), Wait()),
        WAITS,
        marking("sequential", 4),
    ),
    "D2": (
        handler(Mark()),
        handler(Wait(), Mark(), Wait()),
        handler(Mark(), Wait()),
        WAITS,
        handler(Wait(2)),
        marking("concurrent", 3),
    ),
    "D2 meeting": (
        *[handler(Wait(n), Meet()) for n in (0, 2, 1, 0)],
        *published("concurrent"),
    ),
    "D3": (
        handler(Wait(2), priority=2),
        handler(Wait(), priority=1),
        handler(Wait(), Raise(), priority=2),
        handler(Wait(2), priority=1),
        handler(priority=5),
        marking("tiered", 3),
    ),
    "D4": (
        *CLEANING,
        at_once(
            Publish("concurrent", "raise"),
            Publish("sequential", "raise", cancelled_after=3),
            Publish("concurrent", "continue", cancelled_after=3),
            Publish("tiered", "continue", cancelled_after=3),
        ),
    ),
    "E1": (*FAILING, handler(filter="raises", priority=2), at_once(*published(*MODES))),
    "E2": (
        *FAILING,
        at_once(*(Publish(mode, "raise") for mode in ("sequential", "tiered", "sequential"))),
    ),
    "E3": (
        *CLEANING,
        handler(Hang(), CleanUp(2), once=True),
        at_once(Publish("concurrent", "raise"), Publish("concurrent", "raise")),
        *map(Unsubscribe, (4, 5)),
    ),
    "E4": (
        *CLEANING,
        at_once(
            Publish("concurrent", "raise"),
            Publish("sequential", "continue", cancelled_after=4),
            Publish("concurrent", "continue", cancelled_after=4),
            Publish("tiered", "raise", cancelled_after=4),
        ),
    ),
    "E5": (
        *reversed(CLEANING[:2]),
        handler(Wait(), priority=4),
        at_once(
            Publish("sequential", "continue", cancelled_after=3),
            Publish("sequential", "raise", cancelled_after=3),
            Publish("concurrent", "continue", cancelled_after=3),
            Publish("tiered", "raise", cancelled_after=3),
        ),
    ),
    "E5 exits": (
        *CLEANING[:2],
        handler(Wait(), Raise("exit"), priority=2),
        at_once(Publish("concurrent", "continue"), Publish("tiered", "raise")),
    ),
}

STREAMS: tuple[tuple[Overflow, int], ...] = (
    ("block", 0),
    ("block", 1),
    ("drop_oldest", 1),
    ("drop_newest", 2),
    ("error", 1),
)

OF_COMPONENTS: dict[str, tuple[tuple[Row, ...], tuple[Step, ...]]] = {
    "C3": (
        (Row(guard=(Wait(),), action=(Wait(),)),),
        (
            Observe(MESSAGE_RECEIVED, (Wait(),)),
            at_once((Send("a"), Send("b")), (Send("b"), Send("a")), Send("a"), Send("b")),
        ),
    ),
    "C4": (
        (
            Row("t0", action=(Wait(), Send("b", "t1"), Send("a", "t2"))),
            Row("t1", action=(Wait(), Send("a", "t2", in_child=True))),
            Row("t2", guard=(Wait(),), action=(Wait(), Fail())),
        ),
        (
            Observe(STATE_CHANGED, (Send("b", "t2"),)),
            at_once(
                Send("a", "t0"),
                Send("b", "t0"),
                Send("b", "t1"),
                (Send("a", "t1", cancelled_after=5), Send("a", "t1")),
            ),
        ),
    ),
    "C5": (
        (
            Row("t0", "s0", "s1", guard=(Wait(),), accepts=False, action=(Wait(),)),
            Row("t0", "*", "s1", guard=(), action=(Wait(),)),
            Row("t0", "*", "s0"),
            Row("t1", "s1", "s0", action=(Wait(),)),
        ),
        (
            *[Observe(event, (Fail(),)) for event in (MESSAGE_RECEIVED, STATE_CHANGED)],
            at_once(
                (Send(), Send("a", "t1")),
                (Send("a", "t1"), Send()),
                Send(),
                Send("a", "t1"),
            ),
        ),
    ),
    "C6": (
        (
            Row("t0", target="s1", guard=(Wait(),), action=(Wait(), Fail())),
            Row("t1", target="s2", guard=(Wait(),), action=(Wait(),)),
            Row("t2", target="s0", guard=(Wait(), Fail())),
        ),
        (
            Observe(STATE_CHANGED, (Wait(2),)),
            at_once(
                Send("a", "t0"),
                (Send("a", "t1", cancelled_after=4), Send("a", "t1")),
                (Send("a", "t2"), Send("a", "t1", cancelled_after=6)),
                Look(8),
            ),
        ),
    ),
}


def apart(trace: BusTrace) -> list[BusTrace]:
    """Return the trace of each publish alone, as if there were no others."""
    return [
        replace(
            trace,
            publications=[each],
            entries=[e for e in trace.entries if e.act in (each.number, NOBODY)],
        )
        for each in trace.publications
    ]


def bus_scenario(clause: str, steps: tuple[Step, ...]) -> Scenario:
    """Return a scenario that runs a bus's script."""
    lines = Script(steps).main()

    async def scenario() -> None:
        trace = BusTrace(cancellation=get_cancelled_exc_class())
        with Log() as log:
            await defined("bus", lines)(log.enter(BusRecorder(EventBus(), trace)))
        # Delivery is judged by all entries from a publish's beginning to its end.
        for each in apart(trace) if clause[0] == "D" else [trace]:
            assert_kept(clause, each)

    return scenario


def component_scenario(clause: str, rows: tuple[Row, ...], steps: tuple[Step, ...]) -> Scenario:
    """Return a scenario that runs a script of components."""
    script = ComponentScript(rows, steps)

    async def scenario() -> None:
        trace = ComponentTrace(cancellation=get_cancelled_exc_class())
        with Log() as log:
            recorder = log.enter(ComponentRecorder(Component, Engine, trace))
            names = recorder.factory, recorder.new_engine, recorder.print
            await defined(HEAD, script.main())(*names)
        assert_kept(clause, trace)

    return scenario


def assert_kept(clause: str, trace: Trace) -> None:
    """Judge what happened by one clause."""
    complaint = CLAUSES[clause].complain(trace)
    assert complaint is None, f"{clause}: {complaint}"


async def calls_are_retried_each_on_its_own() -> None:
    """R2: Each call counts its own attempts and delays, and raises its own last exception."""
    tried: dict[int, list[float]] = {fails: [] for fails in range(5)}
    raised: dict[int, list[OSError]] = {fails: [] for fails in range(5)}

    @retry_async(RetryConfig(max_attempts=3, base_delay=1, backoff=2))
    async def call(fails: int, *, given: object) -> object:
        tried[fails].append(current_time())
        await checkpoint()
        if len(tried[fails]) > fails:
            return given
        raised[fails].append(OSError(fails))
        raise raised[fails][-1]

    async def check(fails: int) -> None:
        given = object()
        left: object = None
        try:
            left = await call(fails, given=given)
        except OSError as exc:
            left = exc
        assert left is (given if fails < 3 else raised[fails][-1])
        assert [each - tried[fails][0] for each in tried[fails]] == [0.0, 1.0, 3.0][: fails + 1]

    with Log():
        async with create_task_group() as group:
            for fails in tried:
                group.start_soon(check, fails)


class Counter:
    """A handler that takes some turns, and notes which publishes come and which are handled."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self.called: list[int] = []
        self.running = self.most = 0

    async def __call__(self, number: int) -> None:
        self.called.append(number)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for _ in range(number % 3):
                await checkpoint()
            if number % 4 == 3:
                raise OSError
        finally:
            self.running -= 1

    def check(self, limit: int, victims: set[int]) -> None:
        """Check which calls were made, and when; victims may have been cancelled before theirs."""
        assert self.most <= limit
        assert set(self.came) - set(self.called) <= victims
        in_order = [number for number in self.came if number in self.called]
        # Of those that get a slot in the same step, the scheduler chooses which starts first.
        arrange = list[int] if limit == 1 else sorted
        assert arrange(self.called) == arrange(in_order)


async def calls_take_their_turns() -> None:
    """V2: So many at once, the first to come is the first to be called, and none is forgotten."""
    bus, counters = EventBus(), {limit: Counter() for limit in (1, 2)}
    for limit, counter in counters.items():
        await bus.subscribe(f"n{limit}", "c", counter.came.append)
        await bus.subscribe(f"n{limit}", "c", counter, limit=limit)
    victims = {0, 2}

    async def publish(limit: int, number: int) -> None:
        with CancelScope() as scope:
            if number in victims:
                group.start_soon(cancel, scope)
            await bus.publish(f"n{limit}", number, delivery=MODES[number % 2])

    async def cancel(scope: CancelScope) -> None:
        await checkpoint()
        scope.cancel()

    with Log():
        async with create_task_group() as group:
            for limit in counters:
                for number in range(5):
                    group.start_soon(publish, limit, number)
        for limit, counter in counters.items():
            await bus.publish(f"n{limit}", 6)
            counter.check(limit, victims)


async def rings_of_calls_are_broken() -> None:
    """V2: Of handlers that call each other at most one fails, and only if both wait."""
    bus, called, failed = EventBus(), list[str](), list[Exception]()
    others = {"a": "b", "b": "a"}

    async def publish(event: str, *, again: bool) -> None:
        failures = await bus.publish(event, (event, again))
        failed.extend(each.exception for each in failures)

    async def handle(data: tuple[str, bool]) -> None:
        event, again = data
        called.append(event)
        await checkpoint()
        if again:
            await publish(others[event], again=False)

    for event in others:
        await bus.subscribe(event, "c", handle, limit=1)
    with Log():
        async with create_task_group() as group:
            for event in others:
                group.start_soon(partial(publish, event, again=True))
    assert [type(each) for each in failed] in ([], [LimitDeadlock])
    assert len(called) + len(failed) == 4


def stream_scenario(buffer: int, overflow: Overflow) -> Scenario:
    """Return a scenario of tasks that publish to a stream, and of others that read it."""

    async def scenario() -> None:
        traffic = Traffic(buffer, overflow, publishers=3, readers=2, each=2)
        with Log():
            await traffic.run()
            await traffic.assert_none_is_lost()
        assert len(traffic.reached) == traffic.events.statistics().received == 6

    return scenario


async def the_first_event_is_given() -> None:
    """S4: Each waiter gets the first event to reach the bus that the filter takes."""
    bus, reached, given = EventBus(), list[int](), list[int]()
    await bus.subscribe(EVENT, "c", reached.append, priority=1)

    async def publish(*numbers: int) -> None:
        for number in numbers:
            await bus.publish(EVENT, number)

    def is_odd(event_name: str, number: int) -> bool:
        return number % 2 == 1

    async with bus.expect(EVENT, filter=is_odd) as expected:

        async def wait() -> None:
            given.append((await expected).data)

        async with create_task_group() as group:
            group.start_soon(wait)
            group.start_soon(publish, 0, 1, 2)
            group.start_soon(publish, 4, 3)
            group.start_soon(wait)
    assert given == [next(number for number in reached if number % 2)] * 2


SCENARIOS: dict[str, Scenario] = {
    "X1": stored_events_reach_their_handlers,
    **{name: bus_scenario(name[:2], steps) for name, steps in OF_BUS.items()},
    **{name: component_scenario(name[:2], *given) for name, given in OF_COMPONENTS.items()},
    "K3": two_engines_lose_nothing,
    "K5": come_and_go,
    "K5 timers": timers_come_back,
    "M1": parts_do_not_overlap,
    "M2": timers_end_what_stays,
    "M2 engines": timers_send_once,
    "M3": work_sends_to_its_own,
    "M3 leaving": work_ends_as_it_leaves,
    "M4": running_is_left_in_between,
    "R2": calls_are_retried_each_on_its_own,
    "V2": calls_take_their_turns,
    "V2 rings": rings_of_calls_are_broken,
    **{
        f"S2 {overflow} {buffer}": stream_scenario(buffer, overflow) for overflow, buffer in STREAMS
    },
    "S4": the_first_event_is_given,
}


@pytest.mark.parametrize(("name", "backend"), by_turns(SCENARIOS))
def test_a_clause_holds_under_every_schedule(backend: str, name: str, schedules: int) -> None:
    """B4 to B6, D1 to D4, E1 to E5, C3 to C6, K3, K5, M1 to M4, R2, S2, S4, V2, X1: always."""
    explored = explore(SCENARIOS[name], backend=backend, schedules=schedules, seed=CORRECT_SEED)
    assert explored.schedules == schedules or explored.exhausted


def test_each_clause_is_explored() -> None:
    """B4 to B6, D1 to D4, E1 to E5, C3 to C6, K3, K5, M1 to M4, R2, S2, S4, V2, X1: all of them."""
    assert {name[:2] for name in SCENARIOS} == EXPLORED
