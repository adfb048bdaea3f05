"""`check_bus`: what it tells of a bus, and how it finds that again (P1)."""

import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from inspect import iscoroutinefunction
from itertools import count
from types import ModuleType, SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.vendor.pretty import pretty

from flexiflow import Component, Engine, EventBus
from flexiflow.testing import (
    ContractViolation,
    check_bus,
    check_component,
    check_store,
    check_transport,
)
from flexiflow.testing._bus import refusal_programs as refusals
from flexiflow.testing._bus import subscription_programs as subscribing
from flexiflow.testing._bus.contract import CONTRACT
from flexiflow.testing._bus.plans import PLANS, attend, subscribe_in
from flexiflow.testing._bus.scenes import SCENES
from flexiflow.testing._bus.script import Publish, Script, Subscribe, Unsubscribe, UnsubscribeAll
from flexiflow.testing._bus.stream_clauses import stream_script
from flexiflow.testing._bus.stream_programs import survives_a_cancelled_reader
from flexiflow.testing._bus.subject import BusSubject
from flexiflow.testing._bus.subscription_programs import serves_several_runs
from flexiflow.testing._bus.trace import BusTrace
from flexiflow.testing._component.contract import COMPONENT_CONTRACT
from flexiflow.testing._component.subject import ComponentSubject
from flexiflow.testing._examiner import kit
from flexiflow.testing._examiner.clause import Clause
from flexiflow.testing._examiner.examine import examine, search
from flexiflow.testing._examiner.kit import claim, refused
from flexiflow.testing._examiner.program import Case, Program, literal, name_factory
from flexiflow.testing._examiner.steps import CleanUp, Hang, Mark, Meet, Raise, Together, Wait
from flexiflow.testing._examiner.subject import only_one
from flexiflow.testing._examiner.verdict import Verdict

CLAUSES = {clause.identifier: clause for clause in CONTRACT}
_SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)


class Thin:
    """A bus that hands everything on to a real one."""

    def __init__(self) -> None:
        self.real = EventBus()

    async def subscribe(self, *arguments: Any, **options: Any) -> Any:
        return await self.real.subscribe(*arguments, **options)

    def unsubscribe(self, subscription: Any) -> Any:
        return self.real.unsubscribe(subscription)

    def unsubscribe_all(self, component: str) -> Any:
        return self.real.unsubscribe_all(component)

    async def publish(self, *arguments: Any, **options: Any) -> Any:
        return await self.real.publish(*arguments, **options)


class Surrounding(Thin):
    """Is made with functions around its handlers, and has neither streams nor answers."""

    def __init__(self, around: Any = ()) -> None:
        self.real = EventBus(around=around)


class Careless(Thin):
    """Has checked the priority, and forgets it."""

    async def subscribe(self, *arguments: Any, **options: Any) -> Any:
        (await EventBus().subscribe(*arguments, **options)).__exit__(None, None, None)
        if options.get("priority") == 1:
            options["priority"] = 3
        return await self.real.subscribe(*arguments, **options)


class Older(Thin):
    """Is of the shape that buses had before they had limits."""

    async def subscribe(
        self,
        event: Any,
        component: Any,
        handler: Any,
        *,
        priority: Any = 3,
        filter: Any = None,
        once: Any = False,
    ) -> Any:
        options = {"priority": priority, "filter": filter, "once": once}
        return await self.real.subscribe(event, component, handler, **options)


class Unlimited(Older):
    """Takes a limit, and can't keep it."""

    async def subscribe(self, *arguments: Any, limit: Any = None, **options: Any) -> Any:
        if limit is not None:
            raise OSError("the limit is nowhere to be found")
        return await super().subscribe(*arguments, **options)


class Knot:
    """A handler that refers to itself, and calls another one."""

    def __init__(self, handler: Callable[[Any], Any]) -> None:
        self.itself = self
        self.handler = handler

    def __call__(self, data: Any) -> Any:
        return self.handler(data)


class Knotted(Thin):
    """Has only handlers that refer to themselves."""

    async def subscribe(self, event: Any, component: Any, handler: Any, **options: Any) -> Any:
        return await self.real.subscribe(event, component, Knot(handler), **options)


async def careless() -> Careless:
    """Make a careless bus, in a way that has to be awaited."""
    await checkpoint()
    return Careless()


def later() -> Any:
    """Return what makes a careless bus when it is awaited; no async function itself."""
    return careless()


def check_one(
    clause: str, factory: Callable[[], Any], backend: str, *, examples: int = 100, seed: int = 1
) -> Verdict:
    """Check one clause alone, without the crossings that all clauses share."""
    return search(CLAUSES[clause], BusSubject(factory, backend), examples, seed)


def broken(clause: str, factory: Callable[[], Any], backend: str) -> ContractViolation:
    """Give the violation that checking one clause finds."""
    violation = check_one(clause, factory, backend).violation
    assert violation is not None
    return violation


async def nothing(bus: EventBus) -> None:
    """Do nothing."""


def shown(script: Script, backend: str) -> str:
    """Return the program that is shown of a script for a bus."""
    return BusSubject(EventBus, backend).show(script, "B4")


def run_text(program: str) -> list[str]:
    """Run a program as its reader would, and give the lines that it prints."""
    assert "flexiflow.testing._" not in program
    lines: list[str] = []

    def note(*values: object) -> None:
        lines.append(" ".join(map(str, values)))

    exec(program, {"__name__": "__main__", "print": note})  # noqa: S102  that it can be run is what is tested
    return lines


def failing(program: str, backend: str) -> str:
    """Run a program that fails, and give the first line of what it says."""
    assert f'backend="{backend}"' in program
    with pytest.raises(AssertionError) as failed:
        run_text(program)
    return str(failed.value).partition("\n")[0]


def test_each_clause_has_cases() -> None:
    """P1: a promise that nothing checks would be seen here."""
    assert [clause.identifier for clause in CONTRACT if clause.cases is None] == []


def test_a_clause_without_a_checker_is_seen(backend: str) -> None:
    """P1: what can't be checked yet is not said to hold: it was tried with no program."""
    clause = Clause("B99", "a promise", "Something is promised.")
    [verdict] = examine(BusSubject, [clause], EventBus, backend=backend, examples=1)
    assert verdict == Verdict(clause, 0, None)


@pytest.mark.parametrize(
    ("clause", "lacks"),
    [
        ("S4", ("stream", "expect", "wait_for")),
        ("V2", ("subscribe(limit=)", "subscribe(time_limit=)")),
        ("I1", ("add_instrument", "remove_instrument")),
    ],
)
def test_what_a_bus_lacks_is_not_offered(backend: str, clause: str, lacks: tuple[str, ...]) -> None:
    """P1: a clause that needs more than a bus has is tried with no program, and tells why."""
    verdict = check_one(clause, Older, backend)
    assert (verdict.examples, verdict.violation, verdict.lacks) == (0, None, lacks)


@pytest.mark.unmeasured
def test_a_bus_without_anything_new_holds(backend: str) -> None:
    """P1: what a bus does not have breaks nothing."""
    check_bus(Older, backend=backend, examples=1, seed=1)
    assert check_one("T1", Older, backend).violation is None


def test_what_a_bus_hands_on_is_checked(backend: str) -> None:
    """P1: not what a signature says counts, but what is taken."""
    verdict = check_one("V1", Thin, backend, examples=2)
    assert verdict.examples > 0
    assert verdict.lacks == ()


@pytest.mark.parametrize("bus", [Thin, Surrounding])
def test_around_needs_no_other_part_of_a_bus(bus: type[Thin], backend: str) -> None:
    """P1, A3: What a bus does not have is left out; the rest is checked."""
    verdict = check_one("A3", bus, backend)
    assert (verdict.violation, verdict.lacks) == (None, ())


def test_what_a_bus_takes_but_fails_with_is_checked(backend: str) -> None:
    """P1: an option that is there, and raises, is for the clause to tell of."""
    verdict = check_one("V2", Unlimited, backend)
    assert verdict.lacks == ("subscribe(time_limit=)",)


async def test_what_programs_use_does_what_it_says() -> None:
    """P1: also what a correct bus never calls."""
    assert list(refusals.generator(1)) == [1]
    assert [each async for each in refusals.async_generator(1)] == [1]
    assert await refusals.async_filter("a", 1)
    assert len({kit.Mark(), kit.Mark()}) == 1
    with pytest.raises(AssertionError, match="it is allowed"), refused(OSError, "it is allowed"):
        pass
    assert literal((partial(claim), [1])) == "(partial(claim), [1])"


async def test_each_plan_is_set_up() -> None:
    """P1: most have an instrument, and each second one has a sync handler beside the other."""
    for watched, around, beside in PLANS:
        bus, watching = EventBus(), list[object]()
        watchable: Any = SimpleNamespace(subscribe=bus.subscribe, add_instrument=watching.append)
        await subscribe_in(watchable, (watched, around, beside), attend)
        other, one = bus.subscriptions("a")
        assert (len(watching), one.handler) == (bool(watched), attend)
        assert iscoroutinefunction(other.handler) == (beside == "async")


def test_publishers_to_a_stream_may_give_up(backend: str) -> None:
    """P1: no complaint about a stream where a publisher that waited is cancelled."""
    script = stream_script(
        1, "block", "sequential", ("publish", "publish", "publishers give up", "publish", "read")
    )
    trace = BusSubject(EventBus, backend).attempt(script)
    assert CLAUSES["S2"].judge(trace) is None


@pytest.mark.unmeasured
@pytest.mark.parametrize("cancels", ["scope", "native"])
@pytest.mark.parametrize("turns", range(8))
def test_a_reader_of_a_stream_may_be_cancelled(turns: int, cancels: str, backend: str) -> None:
    """P1: no complaint about a stream where one of two readers is cancelled."""
    given = (("turns", turns), ("buffer", 0), ("cancels", cancels))
    trace = BusSubject(EventBus, backend).attempt(Program(survives_a_cancelled_reader, given))
    assert CLAUSES["S2"].judge(trace) is None


def test_what_is_asserted_in_a_task_group_is_the_complaint(backend: str) -> None:
    """P1: not that the group was left by an exception group."""

    async def is_wrong(bus: EventBus) -> None:
        async with anyio.create_task_group():
            claim(not await bus.publish("a"), "nothing")
            claim(False, "this is wrong")

    trace = BusSubject(EventBus, backend).attempt(Program(is_wrong))
    assert Clause("B99", "", "", st.just(Program(is_wrong))).judge(trace) == "this is wrong"


def test_a_program_shrinks_by_its_schedule() -> None:
    """P1: of a program that is written out, turns are left out one by one."""
    smaller = list(Program(nothing, decisions=(1, 2)).smaller())
    assert smaller == [Program(nothing, decisions=(2,)), Program(nothing, decisions=(1,))]


@pytest.mark.unmeasured
def test_the_bus_holds(backend: str) -> None:
    """P1: nothing is raised for a bus that keeps the contract."""
    check_bus(EventBus, backend=backend, examples=2, seed=1)


@pytest.mark.same_everywhere
@pytest.mark.unmeasured
def test_a_violation_tells_everything(backend: str) -> None:
    """P1: the clause, its sentence, what happened, a program, its size, and the seed."""
    with pytest.raises(ContractViolation) as found:
        check_bus(Careless, backend=backend, examples=20, seed=7)
    violation = found.value
    assert (violation.clause, violation.backend, violation.seed) == ("B4", backend, 7)
    assert violation.sentence == CLAUSES["B4"].sentence
    assert violation.complaint == "started h0, h1, not h1, h0"
    assert violation.operations == 3
    told = str(violation)
    assert told.startswith(f"B4 does not hold on {backend}: started h0, h1, not h1, h0\n")
    assert violation.counterexample in told
    assert told.endswith("found with seed=7")


@pytest.mark.same_everywhere
@pytest.mark.unmeasured
def test_the_same_seed_finds_the_same(backend: str) -> None:
    """P1: a violation is found again, by the same program."""
    first, second = (check_one("B4", Careless, backend) for _ in range(2))
    assert str(first.violation) == str(second.violation)
    assert first.examples == second.examples


def test_another_seed_draws_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: so the more seeds, the more is tried."""
    drawn: list[Case] = []

    def attempt(_: object, case: Case) -> BusTrace:
        drawn.append(case)
        return BusTrace()

    monkeypatch.setattr(BusSubject, "attempt", attempt)
    subject = BusSubject(EventBus, "asyncio")
    for number in (1, 2, 1):
        assert search(CLAUSES["B4"], subject, 5, number).violation is None
    one, other, again = drawn[:5], drawn[5:10], drawn[10:]
    assert one == again
    assert one != other


@pytest.mark.unmeasured
def test_a_counterexample_can_be_run(backend: str) -> None:
    """P1, P5: it is a program that shows what it was found for, and fails by an assertion."""
    program = broken("B4", Careless, backend).counterexample
    assert f"from {__name__} import Careless as factory" in program
    assert failing(program, backend) == "B4 does not hold: started h0, h1, not h1, h0"
    repaired = program.replace(f"from {__name__} import Careless", "from flexiflow import EventBus")
    assert run_text(repaired) == ["h1 starts", "h0 starts", "()"]


PROGRAMS: dict[str, tuple[int, ...]] = {
    "B": (1, 2, 3, 6, 7, 10, 12, 15),
    "D": (2, 3, 6),
    "E": (6,),
    "S": (1, 2, 3, 4),
    "T": (1,),
    "V": (1, 2),
    "I": (1, 2, 3),
    "A": (1, 2, 3),
}
"""The clauses of the bus that have programs."""


@cache
def drawn_programs(clause: Clause) -> list[Program]:
    """Return the programs of a clause, with the options that are drawn, each under one schedule."""
    assert clause.cases is not None
    scenes = [each for each in clause.scenes if isinstance(each, Program)]
    programs: dict[object, Program] = {(each.function, repr(each.given)): each for each in scenes}

    @settings(
        max_examples=round(60 * clause.share),
        database=None,
        deadline=None,
        suppress_health_check=_SLOW,
    )
    @seed(1)
    @given(clause.cases)
    def draw(case: Case) -> None:
        if isinstance(case, Program):
            programs.setdefault((case.function, repr(case.given)), case)

    draw()
    assert programs
    return [*programs.values()]


REACHED_ELSEWHERE = {"B10", "D2", "D3", "E6", "component-C1", "component-C3", "component-K3"} | {
    f"component-{identifier}" for identifier in ("K5", "M1", "M2", "M3", "M4")
}
"""Those whose programs have no line that others do not reach, too."""


def named(clause: Clause, prefix: str = "") -> Any:
    """Return a clause as a parameter, which is measured if that is of use."""
    name = f"{prefix}{clause.identifier}"
    marks = [pytest.mark.unmeasured] if name in REACHED_ELSEWHERE else []
    return pytest.param(clause, id=name, marks=marks)


@pytest.mark.same_everywhere
@pytest.mark.parametrize(
    "clause",
    [
        *(named(CLAUSES[f"{part}{number}"]) for part in PROGRAMS for number in PROGRAMS[part]),
        *(named(each, "component-") for each in COMPONENT_CONTRACT),
    ],
)
def test_each_program_holds_and_can_be_run_as_it_is_shown(clause: Clause, backend: str) -> None:
    """P1: ours keeps what a program claims; what is shown of it has all that it needs."""
    components = ComponentSubject(Component, engine=Engine, backend=backend)
    subject = components if clause in COMPONENT_CONTRACT else BusSubject(EventBus, backend)
    shown = set[object]()
    for case in drawn_programs(clause):
        assert clause.judge(subject.attempt(case)) is None
        if case.function not in shown:
            shown.add(case.function)
            assert run_text(subject.show(case, clause.identifier)) == []


@pytest.mark.same_everywhere
@pytest.mark.parametrize("identifier", SCENES)
def test_each_scene_holds(identifier: str, backend: str) -> None:
    """P1: ours keeps a clause in each program that every check tries, though not each tries all."""
    subject = BusSubject(EventBus, backend)
    for case in SCENES[identifier]:
        assert CLAUSES[identifier].judge(subject.attempt(case)) is None


def test_a_handler_in_a_cycle_is_not_kept(backend: str) -> None:
    """P1, B6: what is gone once cycles are collected does not stay in memory."""
    options = (("end", subscribing.by_unsubscribing), ("delivery", "sequential"))
    trace = BusSubject(Knotted, backend).attempt(Program(subscribing.forgets, options))
    assert CLAUSES["B6"].judge(trace) is None


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
def test_what_happened_is_told(backend: str) -> None:
    """P1: a violation tells what happened while its program ran, the same in every process."""
    assert broken("B4", Careless, backend).history.splitlines() == [
        "task 0: h0 subscribed",
        "task 0: h1 subscribed",
        "task 0: publish 0 of 'a' published",
        "task 0: h0 in publish 0 of 'a' started",
        "task 0: h0 in publish 0 of 'a' ended",
        "task 0: h1 in publish 0 of 'a' started",
        "task 0: h1 in publish 0 of 'a' ended",
        "task 0: publish 0 of 'a' returned ()",
    ]


def test_each_thing_that_happens_can_be_told(backend: str) -> None:
    """P1: filters, failures, logs, removals and cancellations have their line."""
    script = Script(
        (
            Subscribe((Raise(),), filter="accepts"),
            Subscribe((Hang(), CleanUp())),
            Subscribe((Raise("exit"),), event="b"),
            UnsubscribeAll("d"),
            Unsubscribe(1),
            Publish("sequential", "continue"),
            Publish("sequential", "continue", "b"),
        )
    )
    told = BusSubject(EventBus, backend).attempt(script).story().splitlines()
    assert told[3:] == [
        "task 0: emptied (d, 0)",
        "task 0: h1 unsubscribed True",
        "task 0: publish 0 of 'a' published",
        "task 0: h0 in publish 0 of 'a' asked a",
        "task 0: h0 in publish 0 of 'a' answered True",
        "task 0: h0 in publish 0 of 'a' started",
        "task 0: h0 in publish 0 of 'a' failed Boom('h0')",
        "task 0: logged \"main.<locals>.h0 of component 'c' failed on event 'a'\"",
        "task 0: announced exception=Boom('h0')",
        "task 0: publish 0 of 'a' returned (HandlerFailure)",
        "task 0: publish 1 of 'b' published",
        "task 0: h2 in publish 1 of 'b' started",
        "task 0: h2 in publish 1 of 'b' failed Exit",
        "task 0: publish 1 of 'b' raised Exit",
    ]


@pytest.mark.same_everywhere
@pytest.mark.unmeasured
@pytest.mark.parametrize("factory", [careless, later])
def test_a_factory_may_be_async(factory: Callable[[], Any], backend: str) -> None:
    """P1: what it gives is awaited, in the counterexample too."""
    program = broken("B4", factory, backend).counterexample
    assert f"import {factory.__name__} as factory" in program
    assert failing(program, backend) == "B4 does not hold: started h0, h1, not h1, h0"
    assert check_one("B1", factory, backend).violation is None


@pytest.mark.parametrize("factory", [EventBus, careless, later])
def test_a_program_of_several_runs_can_be_run(factory: Callable[[], Any], backend: str) -> None:
    """P1, B1: also where an async factory, or one that returns an awaitable, makes the bus."""
    given = (("delivery", "sequential"), ("policy", "raise"))
    program = BusSubject(factory, backend).show(Program(serves_several_runs, given, runs=2), "B1")
    assert program.count("replay(") == 2 + (factory is not EventBus)
    assert run_text(program) == []


def test_a_factory_that_has_no_name_is_left_to_the_reader() -> None:
    """P1: what can't be imported is not imported."""
    assert name_factory(lambda: None) == "factory = ...  # what makes your bus"
    assert name_factory(EventBus) == "from flexiflow import EventBus as factory"


@pytest.mark.parametrize("program", ["__main__", "__mp_main__"])
def test_a_program_can_not_be_imported(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """P5: a factory of the program itself is left to be filled in, under either of its names."""
    made = ModuleType(program)
    made.__dict__["make"] = make = partial(EventBus)
    monkeypatch.setitem(sys.modules, program, made)
    assert name_factory(make) == "factory = ...  # what makes your bus"


def test_a_program_under_a_schedule_replays_it(backend: str) -> None:
    """P1: where the order of turns matters, the program has it."""
    script = Script((Subscribe((Wait(),)), Publish("concurrent", "raise")), (0, 1))
    program = shown(script, backend)
    judged = f'judge_bus(main, factory, clause="B4", backend="{backend}", decisions=(0, 1))'
    assert f"\n\n\ndef test_b4():\n    {judged}\n" in program
    assert run_text(program) == ["h0 starts", "()"]


def test_hypothesis_is_told_no_more_than_the_kind_of_a_case() -> None:
    """P1: it formats each case that it finds, which would take longer than to find it."""
    script = Script((Subscribe((Wait(),)), Publish("concurrent", "raise")))
    assert (pretty(script), pretty(Program(serves_several_runs))) == ("Script", "Program")


def test_whatever_a_script_does_can_be_shown(backend: str) -> None:
    """P1: each step is Python, and does in the program what it did when it was tried."""
    script = Script(
        (
            Subscribe((Wait(3), CleanUp(1, "in a group"), Hang()), priority=1, filter="refuses"),
            Subscribe((Mark(), Publish("sequential", "continue", "b"))),
            Subscribe((Raise("exit"),), filter="accepts"),
            Subscribe((Raise("mixed"),), event="b", once=True),
            Subscribe((Raise("stray"),), event="b", filter="awaitable"),
            Subscribe((Subscribe(), Unsubscribe(0), UnsubscribeAll("d")), event="b"),
            Subscribe((CleanUp(fails="alone"), Meet()), event="c", filter="raises"),
            Publish("sequential", "raise", cancelled_after=99),
            Together(((Publish("tiered", "continue", "b"),), (Unsubscribe(1),))),
            Publish("concurrent", "continue", "c"),
        )
    )
    trace = BusSubject(EventBus, backend).attempt(script)
    started = [f"{trace.seats[entry.seat].name} starts" for entry in trace.all("started")]
    printed = run_text(shown(script, backend))
    assert [line for line in printed if line.endswith("starts")] == started
    assert "raised Exit('h2')" in printed


@pytest.mark.unmeasured
@pytest.mark.parametrize("clause", ["B2", "B8", "D2", "E1", "E3"])
def test_a_deadlock_is_a_violation(clause: str, backend: str) -> None:
    """P1: a bus that never returns is told of, whatever was asked, and not waited for."""

    class Stuck(Thin):
        async def publish(self, *arguments: Any, **options: Any) -> Any:
            with suppress(Exception):
                await self.real.publish(*arguments, **options)
            await anyio.sleep_forever()

    assert "does not come to its end" in broken(clause, Stuck, backend).complaint


def test_what_leaves_a_program_is_a_violation(backend: str) -> None:
    """P1: a bus that breaks down is not taken to hold."""

    class Down(Thin):
        def unsubscribe(self, subscription: Any) -> Any:
            raise OSError("the bus is on fire")

    complaint = broken("B9", Down, backend).complaint
    assert complaint == "the program was left by OSError: the bus is on fire"


def test_what_fails_only_once_is_a_violation_all_the_same(backend: str) -> None:
    """P1: chance does not excuse a bus."""
    failures = [OSError("only once")]

    class Moody(Thin):
        def unsubscribe_all(self, component: str) -> Any:
            if failures:
                raise failures.pop()
            return super().unsubscribe_all(component)

    assert "only once" in broken("B6", Moody, backend).complaint


def test_ctrl_c_ends_the_check(backend: str) -> None:
    """P1: Ctrl-C leaves the check, and is no fault of the bus."""

    class Interrupted(Thin):
        async def publish(self, *arguments: Any, **options: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_one("B4", Interrupted, backend)


def test_the_log_is_left_as_it_was(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """P1: failures on purpose don't reach the program's own log."""
    logger = logging.getLogger("flexiflow")
    before = logger.level, logger.propagate, logger.handlers[:]
    assert check_one("E1", EventBus, backend, examples=5).violation is None
    assert (logger.level, logger.propagate, logger.handlers) == before
    assert caplog.records == []


@pytest.mark.unmeasured
@pytest.mark.parametrize("configured", ["disabled", "filtered", "off"])
def test_a_log_that_is_off_hides_nothing(
    configured: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P1: however the program has set its log, what a bus logs is seen."""
    logger = logging.getLogger("flexiflow")
    monkeypatch.setattr(logger, "disabled", configured == "disabled")
    filters = [logging.Filter("nobody")] if configured == "filtered" else []
    monkeypatch.setattr(logger, "filters", filters)
    monkeypatch.setattr(logging.root.manager, "disable", 50 if configured == "off" else 0)
    before = logger.disabled, logger.filters, logging.root.manager.disable
    assert check_one("E1", EventBus, backend, examples=20).violation is None
    assert (logger.disabled, logger.filters, logging.root.manager.disable) == before


def test_one_thread_at_a_time(backend: str) -> None:
    """P1: two threads that check buses don't hear what is logged of each other's."""
    held: list[bool] = []

    def make() -> EventBus:
        held.append(only_one.locked())
        return EventBus()

    assert check_one("E1", make, backend, examples=1).violation is None
    assert set(held) == {True}
    assert not only_one.locked()


def test_another_thread_may_check(backend: str) -> None:
    """P1: a check needs no main thread."""
    with ThreadPoolExecutor() as threads:
        verdict = threads.submit(check_one, "B4", EventBus, backend, examples=5).result()
    assert verdict.violation is None


@pytest.mark.same_everywhere
@pytest.mark.unmeasured
def test_assertions_hold_in_optimized_python() -> None:
    """P1: what a program asserts is asserted under `python -O` too."""
    code = """
from functools import partial
from flexiflow import Component, Engine, EventBus
from flexiflow.testing import check_bus
make = partial(EventBus, yield_every=9999)
check_bus(make, backend="asyncio", examples=5, seed=1, clauses=("D6",))
"""
    ran = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, check=False)
    assert b"D6 does not hold on asyncio: 61 publishes in a row" in ran.stderr


def test_what_a_factory_raises_later_is_raised(backend: str) -> None:
    """P1: no clause is blamed for what makes the bus."""
    made: list[EventBus] = []

    def make() -> EventBus:
        if len(made) > 25:
            raise OSError("no more of them")
        made.append(EventBus())
        return made[-1]

    async def make_later() -> EventBus:
        return make()

    for factory in (make, make_later):
        made.clear()
        with pytest.raises(OSError, match="no more of them"):
            check_bus(factory, backend=backend, seed=1)


def test_a_factory_gives_a_new_bus_each_time(backend: str) -> None:
    """P1: one bus for all programs would show what no program did."""
    bus = EventBus()
    with pytest.raises(TypeError, match="factory must make a new bus each time"):
        check_bus(lambda: bus, backend=backend)


def test_ctrl_c_is_not_taken_for_a_cancellation(backend: str) -> None:
    """P1: it ends a check though a bus swallows what asyncio makes of it."""

    class Swallowing(Thin):
        async def publish(self, *arguments: Any, **options: Any) -> Any:
            with suppress(anyio.get_cancelled_exc_class()):
                signal.raise_signal(signal.SIGINT)
                await checkpoint()
            return ()

    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        check_one("B4", Swallowing, backend)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_program_of_its_own_asserts(backend: str) -> None:
    """P1: what an assertion says is what is told."""

    async def is_there(bus: EventBus) -> None:
        claim(False, "it is there")

    trace = BusSubject(EventBus, backend).attempt(Program(is_there))
    assert str(trace.left) == "it is there"
    assert list(Program(is_there).smaller()) == []


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (None, "factory must be callable without arguments, not None"),
        (list, r"must make a bus, with the methods .*, not \[\], which lacks subscribe, unsub"),
    ],
)
def test_what_makes_no_bus_is_refused(factory: Any, message: str, backend: str) -> None:
    """P1: a factory that can't be one fails at the call."""
    with pytest.raises(TypeError, match=message):
        check_bus(factory, backend=backend)


def test_what_a_factory_raises_is_raised(backend: str) -> None:
    """P1: a factory that fails at once breaks no clause."""

    def factory() -> EventBus:
        raise OSError("no bus today")

    with pytest.raises(OSError, match="no bus today"):
        check_bus(factory, backend=backend)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "curio"}, "backend must be 'asyncio' or 'trio', not 'curio'"),
        ({"examples": 0}, "examples must be an int, 1 or more, not 0"),
        ({"examples": True}, "examples must be an int, 1 or more, not True"),
        ({"seed": -1}, "seed must be an int, 0 or more, not -1"),
    ],
)
def test_bad_arguments_are_refused(options: Any, message: str) -> None:
    """P1: they fail at the call, and say what would be right."""
    with pytest.raises(ValueError, match=message):
        check_bus(EventBus, **({"backend": "asyncio"} | options))


@pytest.mark.parametrize("check", [check_bus, check_component, check_transport])
@pytest.mark.parametrize("options", [{"backend": "curio"}, {"examples": 0}, {"seed": "1"}])
def test_bad_arguments_are_refused_before_anything_is_called(
    check: Callable[..., None], options: Any
) -> None:
    """P1: not only once the factory, which may be slow, or fail, was called."""
    calls = 0

    def factory(*_: Any, **__: Any) -> None:
        nonlocal calls
        calls += 1

    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        check(factory, **({"backend": "asyncio"} | options))
    assert calls == 0


@pytest.mark.parametrize("check", [check_bus, check_component, check_transport, check_store])
async def test_async_code_can_not_check(check: Callable[..., None]) -> None:
    """P1: each program runs in a loop of its own, so this is refused, and the way out is told."""
    with pytest.raises(RuntimeError) as refused:
        check(EventBus, backend="asyncio", examples=1)
    name = check.__name__
    assert str(refused.value) == (
        f"{name} runs event loops of its own, and one is running here already: call this from a "
        "plain function, not from async code; in a notebook, or where it has to be async code, "
        f"give it a thread: `await anyio.to_thread.run_sync(lambda: {name}(...))`"
    )


@pytest.mark.unmeasured
async def test_from_async_code_one_can_check_in_a_thread(backend_name: str) -> None:
    """P1: what the refusal says is the way out does lead out, in a notebook, too."""
    with anyio.fail_after(600):
        await anyio.to_thread.run_sync(
            lambda: check_bus(EventBus, backend=backend_name, examples=1, seed=1)
        )


def test_what_is_left_out_is_no_longer_counted() -> None:
    """P1: with one subscription less, the steps still speak of those they spoke of."""
    first, second = Subscribe((Unsubscribe(1),)), Subscribe(priority=1)
    script = Script((first, second, Unsubscribe(3)))
    without_first, without_second, *_ = script.smaller()
    assert without_first == Script((second, Unsubscribe(0)))
    assert without_second == Script((Subscribe((Unsubscribe(1),)), Unsubscribe(1)))


def test_whatever_a_bus_can_do_without_is_left_out() -> None:
    """P1: a step, what a handler does, and a turn; not what ends a handler that hangs."""
    hangs, publish = Subscribe((Hang(), Hang())), Publish("sequential", "continue")
    ends = Subscribe((Raise(),), priority=2)
    script = Script((hangs, replace(publish, delivery="concurrent"), ends), (2,))
    assert [*script.smaller()] == [
        Script((script.steps[1], ends), (2,)),
        Script((hangs, ends), (2,)),
        Script((Subscribe((Hang(),)), *script.steps[1:]), (2,)),
        Script((Subscribe((Hang(),)), *script.steps[1:]), (2,)),
        Script(script.steps, ()),
    ]


class Eager(Thin):
    """Refuses a component without a name only when it has subscribed its handler."""

    async def subscribe(self, event: str, component: Any, *rest: Any, **options: Any) -> Any:
        if component:
            return await super().subscribe(event, component, *rest, **options)
        await super().subscribe(event, "nameless", *rest, **options)
        return await super().subscribe(event, component, *rest, **options)


def test_what_is_refused_must_not_be_subscribed(backend: str) -> None:
    """P1, B3: Not even for a component that `unsubscribe_all` does not name."""
    [verdict] = examine(BusSubject, [CLAUSES["B3"]], Eager, backend=backend, seed=1)
    assert verdict.violation is not None
    assert "what was refused changed something" in verdict.violation.complaint


class Forgetful(Engine):  # type: ignore[misc]
    """Remembers that the factory made nothing."""

    @property
    def components(self) -> Any:
        return {"a": None, **super().components}


def test_an_engine_has_no_component_that_was_not_made(backend: str) -> None:
    """P1, C2: Where the factory makes nothing, nothing is registered."""
    clause = next(each for each in COMPONENT_CONTRACT if each.identifier == "C2")
    [verdict] = examine(
        ComponentSubject, [clause], Component, engine=Forgetful, backend=backend, seed=1
    )
    assert verdict.violation is not None


def test_a_factory_that_fails_is_to_blame_itself(backend: str) -> None:
    """P1: Also where it fails while the options of `subscribe` are tried."""
    calls = count(1)

    def factory() -> EventBus:
        if next(calls) == 3:
            raise OSError("no more")
        return EventBus()

    with pytest.raises(OSError, match="no more"):
        check_bus(factory, backend=backend, seed=1)
