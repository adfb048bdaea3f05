"""What is chosen, not offered, flaky or raised by a bus that is checked (P5)."""

import asyncio
import copy
import logging
import pickle
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from textwrap import indent
from typing import Any, Self

import pytest
from anyio.lowlevel import checkpoint
from hypothesis import strategies as st

from flexiflow import Component, Engine, EventBus
from flexiflow.extras.durable import MemoryTransport
from flexiflow.extras.stores import MemoryStateStore
from flexiflow.testing import (
    ContractViolation,
    ScenarioStuck,
    check_bus,
    check_component,
    check_store,
    check_transport,
)
from flexiflow.testing._bus.contract import CONTRACT
from flexiflow.testing._bus.fitting import fit
from flexiflow.testing._bus.script import Publish, Script, Subscribe
from flexiflow.testing._bus.subject import BusSubject
from flexiflow.testing._examiner.clause import Clause
from flexiflow.testing._examiner.errors import show_error, traceback_of_user
from flexiflow.testing._examiner.examine import examine
from flexiflow.testing._examiner.program import Program, name_factory
from flexiflow.testing._examiner.selection import select
from flexiflow.testing._examiner.steps import Together, Wait
from flexiflow.testing._examiner.verdict import Verdict
from tests.helpers import by_turns
from tests.testing.test_check import Careless, Thin, run_text

NAMES = [clause.identifier for clause in CONTRACT]


class Small(Thin):
    """Takes no option, and knows no patterns."""

    async def subscribe(self, event: Any, component: Any, handler: Any) -> Any:
        if "*" in event:
            raise ValueError("no patterns")
        return await super().subscribe(event, component, handler)

    async def publish(self, event: Any, data: Any = None) -> Any:
        return await super().publish(event, data)


class Lacking(Thin):
    """Lacks one option."""

    lacks = ("subscribe", "")

    async def subscribe(self, *given: Any, **options: Any) -> Any:
        self.refuse("subscribe", options)
        return await super().subscribe(*given, **options)

    async def publish(self, *given: Any, **options: Any) -> Any:
        self.refuse("publish", options)
        return await super().publish(*given, **options)

    def refuse(self, method: str, options: dict[str, Any]) -> None:
        if self.lacks[0] == method and self.lacks[1] in options:
            raise TypeError(f"{method} takes no {self.lacks[1]}")


class Plain(Thin):
    """Takes a pattern for a name."""

    async def subscribe(self, event: Any, *given: Any, **options: Any) -> Any:
        made = await super().subscribe(event, *given, **options)
        if "*" in str(event):
            self.real.unsubscribe(made)
        return made


class Unfinished(Thin):
    """Says that it has no patterns yet."""

    async def subscribe(self, event: Any, *given: Any, **options: Any) -> Any:
        if "*" in str(event):
            raise NotImplementedError("no patterns yet")
        return await super().subscribe(event, *given, **options)


class Held:
    """A subscription that has no hash."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, made: Any) -> None:
        self.made = made

    def __eq__(self, other: object) -> bool:
        return getattr(other, "made", other) is self.made

    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(self, name) if name == "made" else getattr(self.made, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name == "made":
            object.__setattr__(self, name, value)
        else:
            setattr(self.made, name, value)

    def __enter__(self) -> Self:
        self.made.__enter__()
        return self

    def __exit__(self, *given: object) -> Any:
        return self.made.__exit__(*given)


class Unhashable(Thin):
    """Its subscriptions have no hash; nothing else is wrong with it."""

    async def subscribe(self, *given: Any, **options: Any) -> Any:
        return Held(await super().subscribe(*given, **options))

    def unsubscribe(self, subscription: Any) -> Any:
        return super().unsubscribe(subscription.made)


class OneWay(Thin):
    """Has one way of delivery, and one policy."""

    async def publish(
        self, event: Any, data: Any = None, *, delivery: str = "sequential", on_error: str = "raise"
    ) -> Any:
        if (delivery, on_error) != ("sequential", "raise"):
            raise ValueError("one after another, and raise")
        return await self.real.publish(event, data, delivery="sequential", on_error="raise")


async def linger() -> None:
    """Go on, whatever comes."""
    while True:
        with suppress(asyncio.CancelledError):
            await checkpoint()


class Lingering(Small):
    """Has a task in the background that nothing ends."""

    async def publish(self, event: Any, data: Any = None) -> Any:
        self.task = asyncio.create_task(linger())
        return await super().publish(event, data)


def lacking(method: str, option: str) -> type[Lacking]:
    """Make a bus that lacks one option."""
    return type("LacksIt", (Lacking,), {"lacks": (method, option)})


BUSES: list[tuple[type[Thin], str, str]] = [
    (Plain, "patterns", "B10"),
    (Unfinished, "patterns", "B10"),
    (Unhashable, "hashable subscriptions", "B2"),
    (lacking("subscribe", "priority"), "subscribe(priority=)", "B4 D3 D5"),
    (lacking("subscribe", "filter"), "subscribe(filter=)", "B8"),
    (lacking("subscribe", "once"), "subscribe(once=)", "B9"),
    (
        lacking("publish", "delivery"),
        "publish(delivery=)",
        "B1 B7 D1 D2 D3 D5 D6 E1 E2 E3 E4 E5 E6 E7 E8 V1 V2",
    ),
    (lacking("publish", "on_error"), "publish(on_error=)", "B1 D5 E1 E2 E3 E4 E5 E6 E7 E8 V1"),
]


CASES = [pytest.param(*each, id=f"{each[0].__name__} without {each[1]}") for each in BUSES]


def verdicts(factory: Callable[[], Any], backend: str, **how: Any) -> dict[str, Verdict]:
    """Return the verdict of each clause."""
    found = examine(BusSubject, CONTRACT, factory, backend=backend, seed=1, **how)
    return {verdict.clause.identifier: verdict for verdict in found}


@pytest.mark.parametrize("clauses", [("D1", "B4"), ["B4", "D1", "B4"], iter(["B4", "D1"])])
def test_only_clauses_that_are_named_are_tried(clauses: Any) -> None:
    """P5: they are tried in the order of the contract, each once."""
    assert [clause.identifier for clause in select(CONTRACT, clauses)] == ["B4", "D1"]


def test_the_page_lists_what_each_clause_needs() -> None:
    """P5: each clause that needs something has its row, with all of that and nothing else."""
    text = Path("docs/verifying_bus.md").read_text(encoding="utf-8")
    listed: dict[str, set[str]] = {}
    for names, needs in re.findall(r"^\| ([A-Z]\d.*?) \| (.*) \|$", text, re.MULTILINE):
        first, *_, last = re.findall(r"[A-Z]\d+", f"{names} {names}")
        chosen = NAMES[NAMES.index(first) : NAMES.index(last) + 1]
        for name in chosen if " to " in names else names.split(", "):
            listed[name] = set(re.findall(r"\w+=|(?<=`)\w+(?=`)", needs)) or {needs}
    del listed["T1"]
    assert listed == {
        clause.identifier: {re.sub(r".*\W(\w+=)\)$", r"\1", need) for need in clause.needs}
        for clause in CONTRACT
        if clause.needs
    }


class Four(Thin):
    """Has the four methods, without any option, and subscriptions that show nothing."""

    async def subscribe(self, event: str, component: str, handler: Any) -> Any:
        return (await self.real.subscribe(event, component, handler),)

    def unsubscribe(self, subscription: Any) -> Any:
        return self.real.unsubscribe(*subscription)

    async def publish(self, event: str, data: object = None) -> Any:
        return await self.real.publish(event, data)


def test_a_bus_with_four_methods_takes_topics(backend: str) -> None:
    """T1: subscriptions need not show their event, and no option is needed."""
    found = verdicts(Four, backend, only=("T1",))["T1"]
    assert (found.word, found.lacks) == ("held", ())


class Renaming(Four):
    """Knows the exact str alone."""

    async def publish(self, event: str, data: object = None) -> Any:
        return await self.real.publish(event if type(event) is str else "other", data)


def test_a_bus_with_four_methods_that_knows_no_topics_is_found(backend: str) -> None:
    """T1: also if it offers nothing else."""
    violation = verdicts(Renaming, backend, only=("T1",))["T1"].violation
    assert violation is not None
    assert violation.complaint == "the topic of 1 and 2 heard [1]"


@pytest.mark.same_everywhere
@pytest.mark.unmeasured
def test_what_is_not_named_breaks_nothing(backend: str) -> None:
    """P5: a fault in another clause is not found."""
    check_bus(Careless, backend=backend, examples=5, seed=1, clauses=("B7", "D1"))
    with pytest.raises(ContractViolation, match="B4 does not hold"):
        check_bus(Careless, backend=backend, seed=1, clauses=("B4",))


@pytest.mark.parametrize(
    ("check", "factory", "name", "message"),
    [
        (check_bus, EventBus, "b4", "not 'b4': did you mean B4.* the clauses are B1, B2, B3"),
        (check_bus, EventBus, "nothing", "not 'nothing': the clauses are B1, B2, B3"),
        (check_component, Component, "B1", "not 'B1': .*the clauses are C1, C2"),
        (check_transport, MemoryTransport, "B4", "not 'B4': .*the clauses are X1, X2"),
        (check_store, MemoryStateStore, "B4", "not 'B4': .*the clauses are K2$"),
    ],
)
def test_a_clause_that_is_unknown_is_refused(
    check: Callable[..., None], factory: Any, name: str, message: str
) -> None:
    """P5: the error names those that are most like it, and all there are."""
    with pytest.raises(ValueError, match=f"of this contract, {message}"):
        check(factory, backend="asyncio", clauses=(name,))


@pytest.mark.parametrize(
    ("clauses", "error"),
    [("B4", TypeError), (4, TypeError), ([4], TypeError), ((), ValueError)],
)
def test_clauses_that_name_none_are_refused(clauses: Any, error: type[Exception]) -> None:
    """P5: a single str, something else than several names, and no names at all."""
    with pytest.raises(error, match=r"^clauses must"):
        check_bus(EventBus, backend="asyncio", clauses=clauses)


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
@pytest.mark.parametrize(("bus", "part", "clauses", "backend"), by_turns(CASES))
def test_only_what_needs_a_part_is_not_offered(
    bus: Callable[[], Any], part: str, clauses: str, backend: str
) -> None:
    """P5: a bus that lacks one part breaks no other clause for it, each of which is tried."""
    found = verdicts(bus, backend, examples=2)
    # Thin has none of the further methods.
    missing = [name for name in NAMES if part in found[name].lacks]
    assert missing == clauses.split()
    assert [name for name in NAMES if found[name].violation is not None] == []
    words = {found[name].word for name in missing}
    assert words == {"not offered"}
    assert all(found[name].examples or found[name].lacks for name in NAMES)


@pytest.mark.same_everywhere
def test_a_bus_need_not_have_every_way_of_delivery(backend: str) -> None:
    """P5: what needs another way, or another policy, is not offered; the rest is tried without."""
    found = verdicts(OneWay, backend, examples=1)
    assert [name for name in NAMES if found[name].violation is not None] == []
    others = [name for name in NAMES if any("='" in lack for lack in found[name].lacks)]
    assert others == ["D2", "D3", "E1", "E3", "E7"]
    assert found["E2"].examples == found["B5"].examples == 1


@pytest.mark.measured
def test_a_bus_with_a_task_that_never_ends_leaves_a_task_behind() -> None:
    """P5: only D4 is violated for it, and its parts are still told apart."""
    found = verdicts(Lingering, "asyncio", examples=2)
    assert [name for name in NAMES if found[name].violation is not None] == ["D4"]
    assert found["B10"].lacks == ("patterns",)


@pytest.mark.unmeasured
def test_a_bus_of_four_methods_breaks_nothing(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P5: all that can be left out is; each method that is not offered is told once."""
    check_bus(Small, backend=backend, examples=10, seed=1)
    [record] = caplog.records
    assert (record.levelno, record.name) == (logging.WARNING, "flexiflow.testing._check")
    assert "B2 (" not in record.getMessage()
    assert "B10 (no patterns), " in record.getMessage()
    assert "D3 (no publish(delivery=), no subscribe(priority=))" in record.getMessage()


@pytest.mark.parametrize("how", [{"clauses": ("B10",)}, {"strict": True}])
def test_what_is_asked_for_has_to_be_offered(how: Any, backend: str) -> None:
    """P5: a named clause, and each one with `strict`, fails if it is not offered, as shown."""
    with pytest.raises(ContractViolation) as found:
        check_bus(Plain, backend=backend, examples=1, seed=1, **how)
    violation = found.value
    assert (violation.clause, violation.verdict) == ("B10", "not offered")
    assert str(violation).startswith(f"B10 is not offered on {backend}: this bus has no patterns\n")
    with pytest.raises(ContractViolation, match="B10 is not offered"):
        run_text(violation.counterexample)


class Stopped(Engine):  # type: ignore[misc]
    """Has no `running`."""

    running = None  # type: ignore[assignment]


def test_components_have_to_offer_what_is_asked_for(backend: str) -> None:
    """P5: an engine without `running` has not what M2 needs, and the program shows that."""
    with pytest.raises(ContractViolation) as found:
        check_component(Component, engine=Stopped, backend=backend, clauses=("M2",))
    assert found.value.verdict == "not offered"
    assert "check_component(factory, engine=new_engine, " in found.value.counterexample
    with pytest.raises(ContractViolation, match="M2 is not offered"):
        run_text(found.value.counterexample)


async def restart(_: MemoryTransport) -> None:
    """Do nothing."""


def test_transports_have_to_offer_what_is_asked_for() -> None:
    """P5: X13 can't be tried without a hook, and the program shows that."""
    how: dict[str, Any] = {"lease": None, "scale": 0.001, "restart": restart}
    with pytest.raises(ContractViolation) as found:
        check_transport(MemoryTransport, backend="asyncio", clauses=("X13",), **how)
    assert found.value.complaint == "this transport has no empty"
    given = "check_transport(factory, restart=restart, lease=None, scale=0.001, "
    assert given in found.value.counterexample
    with pytest.raises(ContractViolation, match="X13 is not offered"):
        run_text(found.value.counterexample)


def test_a_scheduled_program_keeps_its_schedule(backend: str) -> None:
    """P5: buses yield at every publish there, as they did when it was tried."""
    case = Program(publishes_once, decisions=(1, 0))
    program = BusSubject(EventBus, backend).show(case, "B1")
    assert f'        replay(main, backend="{backend}", decisions=(1, 0))\n' in program
    assert run_text(program) == []


async def publishes_once(bus: EventBus) -> None:
    """Publish."""
    await bus.publish("a")


def test_a_clause_whose_programs_all_need_a_part_is_not_offered(backend: str) -> None:
    """P5: also where the clause does not say so itself."""

    async def filters(bus: EventBus) -> None:
        await bus.subscribe("a", "c", print, filter=lambda *_: True)

    clause = Clause("B99", "", "", st.just(Program(filters)))
    bus = lacking("subscribe", "filter")
    [verdict] = examine(BusSubject, [clause], bus, backend=backend, seed=1)
    assert (verdict.word, verdict.lacks) == ("not offered", ("subscribe(filter=)",))


def test_scripts_do_without_what_is_not_offered() -> None:
    """P5: options are left out at any depth; a name that is published takes a pattern's place."""
    inner = Subscribe(event="*.b", once=True)
    script = Script(
        (
            Subscribe((inner, Wait()), event="a.*", priority=1, filter="raises"),
            Subscribe((Publish("tiered", event="b"),), event="**"),
            Together(((Publish("concurrent", "raise", "a.b"),),)),
        )
    )
    assert fit(script, frozenset()) == Script(
        (
            Subscribe((Subscribe(event="a.b"), Wait()), event="a.b"),
            Subscribe((Publish(event="b"),), event="b"),
            Together(((Publish(event="a.b"),),)),
        )
    )
    assert fit(Script((Subscribe(event="*.x"),)), frozenset()) == Script((Subscribe(),))


@pytest.mark.parametrize(("fails", "again"), [(range(1), 0), (range(0, 99, 2), 5)])
def test_what_does_not_happen_again_is_flaky(fails: Any, again: int, backend: str) -> None:
    """P5: a violation that comes and goes is called so, with how often it came."""
    calls = count()

    class Moody(Thin):
        async def publish(self, *arguments: Any, **options: Any) -> Any:
            if next(calls) in fails:
                raise OSError("not today")
            return await super().publish(*arguments, **options)

    async def publishes(bus: EventBus) -> None:
        await bus.publish("a")

    clause = Clause("B99", "", "Something.", scenes=(Program(publishes),), cases=st.nothing())
    made = BusSubject(Moody, backend)
    calls = count()
    [verdict] = examine(lambda: made, [clause], seed=1)
    violation = verdict.violation
    assert violation is not None
    assert (verdict.word, violation.recurrence) == ("flaky", (again, 10))
    assert str(violation).startswith(f"B99 is flaky on {backend}: the program was left by OSError")
    assert f"\n\nflaky: of 10 more runs of this program, {again} broke the clause" in str(violation)


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
def test_a_violation_survives_copying(backend: str) -> None:
    """P5: and pickling, so that processes can check."""
    violation = verdicts(Careless, backend, only=("B4",))["B4"].violation
    assert violation is not None
    pickled = pickle.loads(pickle.dumps(violation))  # noqa: S301  our own bytes
    assert str(pickled) == str(copy.copy(violation)) == str(violation)
    assert (pickled.args, vars(pickled)) == (violation.args, vars(violation))


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
def test_what_always_happens_is_not_flaky(backend: str) -> None:
    """P5: it has happened each of three times more."""
    violation = verdicts(Careless, backend, only=("B4",))["B4"].violation
    assert violation is not None
    assert (violation.verdict, violation.recurrence) == ("violated", (3, 3))
    assert "flaky" not in str(violation)


class Full(Thin):
    """Takes nobody."""

    async def subscribe(self, *_: Any, **__: Any) -> Any:
        raise OSError("no room")


def test_an_error_is_shown_without_what_the_examiner_met(backend: str) -> None:
    """P5: an earlier exception is the examiner's own, of a program that was larger."""
    violation = verdicts(Full, backend, only=("D1",))["D1"].violation
    assert violation is not None
    head, where, *_, last = violation.error.splitlines()
    assert (head, last) == ("Traceback (most recent call last):", "OSError: no room")
    assert where.endswith(", in subscribe")


class Burning(Thin):
    """Fails within a function of its own."""

    def unsubscribe_all(self, component: str) -> Any:
        return burn(component)


def burn(component: str) -> int:
    """Fail."""
    raise OSError(f"no {component}")


@pytest.mark.unmeasured
def test_an_error_is_shown_from_the_users_code_on(backend: str) -> None:
    """P5: the traceback of what a bus raises begins in the bus."""
    violation = verdicts(Burning, backend, only=("B6",))["B6"].violation
    assert violation is not None
    head, where, *_, last = violation.error.splitlines()
    assert (head, last) == ("Traceback (most recent call last):", "OSError: no c")
    assert where.endswith(", in unsubscribe_all")
    shown = indent(violation.error, "  ")
    assert f"\nwhat was raised:\n{shown}\n\nfound with" in str(violation)
    with pytest.raises(AssertionError, match="B6 does not hold: the program was left by OSError"):
        run_text(violation.counterexample)


class Bare(Thin):
    """Returns no object that tells of a subscription."""

    async def subscribe(self, *given: Any, **options: Any) -> Any:
        return id(await super().subscribe(*given, **options))


def test_an_error_in_a_program_is_shown_from_there_on(backend: str) -> None:
    """P5: where none of the user's code runs, the program tells what it did."""
    violation = verdicts(Bare, backend, only=("B2",))["B2"].violation
    assert violation is not None
    head, where, *_, last = violation.error.splitlines()
    assert head == "Traceback (most recent call last):"
    assert last.startswith("AttributeError: 'int' object has no attribute")
    assert "programs.py" in where


class Pipe:
    """A bus whose `subscribe` takes no component."""

    async def subscribe(self, event: str, handler: Any) -> None: ...
    def unsubscribe(self, subscription: Any) -> None: ...
    def unsubscribe_all(self, component: str) -> None: ...
    async def publish(self, event: str, data: Any) -> None: ...


def test_a_method_that_takes_other_arguments_is_named(backend: str) -> None:
    """P5: before any clause is tried, since the programs of all of them would fail."""
    told = (
        r"subscribe\(event, component, handler\) of the bus is called with 3 positional arguments, "
        r"which Pipe\.subscribe\(event, handler\) does not take"
    )
    with pytest.raises(TypeError, match=told):
        check_bus(Pipe, backend=backend)


class Unspeakable(Exception):
    """Can't be shown."""

    def __str__(self) -> str:
        return str(self)

    __repr__ = __str__


class Muttering(Thin):
    """Raises what can't be shown."""

    def unsubscribe_all(self, component: str) -> Any:
        raise Unspeakable

    async def publish(self, *arguments: Any, **options: Any) -> Any:
        raise Unspeakable


@pytest.mark.parametrize("clause", ["B6", "E1"])
def test_what_can_not_be_shown_is_told_by_its_type(clause: str, backend: str) -> None:
    """P5: by a program and by a script; an exception whose `str` and `repr` raise ends nothing."""
    violation = verdicts(Muttering, backend, only=(clause,))[clause].violation
    assert violation is not None
    assert "<a Unspeakable that can't be shown>" in str(violation)
    with pytest.raises(AssertionError, match=f"{clause} does not hold: "):
        run_text(violation.counterexample)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(SystemExit, ContractViolation), (KeyboardInterrupt, KeyboardInterrupt)],
)
def test_an_exit_is_no_sign_that_something_is_lacking(
    raised: type[BaseException], expected: type[BaseException], backend: str
) -> None:
    """P5: some clause reports it; only Ctrl-C ends the check."""

    class Exiting(Thin):
        async def subscribe(self, *given: Any, **options: Any) -> Any:
            if "filter" in options:
                raise raised
            return await super().subscribe(*given, **options)

    with pytest.raises(expected):
        check_bus(Exiting, backend=backend, examples=5, seed=1, clauses=("B8",))


def test_an_error_of_the_kit_alone_is_shown_whole() -> None:
    """P5: there is no code of the user's to begin with."""
    error = OSError("there is no such thing")
    assert traceback_of_user(error) == ""
    assert show_error(error) == "OSError: there is no such thing"
    assert show_error(None) == show_error(AssertionError()) == ""


def test_what_the_kit_was_handling_is_not_shown() -> None:
    """P5: a chain of exceptions is cut off where the kit's own begin."""
    mine = LookupError("mine")
    mine.__context__ = ValueError("the kit's")
    try:
        raise mine
    except LookupError:
        error = OSError("no such thing")
        error.__context__ = mine
    shown = show_error(error)
    assert "mine" in shown
    assert "the kit's" not in shown


def test_a_deadlock_is_shown_without_a_traceback() -> None:
    """P5: all that is to be said of it is in the complaint."""
    assert show_error(ScenarioStuck("it goes on")) == ""


def test_ctrl_c_ends_a_counterexample_as_well() -> None:
    """P5: it is no assertion about the bus."""
    program = "from flexiflow.testing.programs import asserting\n"
    program += "with asserting('B1'):\n    raise KeyboardInterrupt"
    with pytest.raises(KeyboardInterrupt):
        run_text(program)


def unable() -> EventBus:
    """Make no bus."""
    raise OSError("no bus today")


def test_what_a_factory_raises_in_a_counterexample_is_raised(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P5: a factory that fails breaks no clause there either."""
    program = BusSubject(Careless, backend).show(Script((Publish(),)), "B4")
    buses: list[object] = []

    def make() -> object:
        buses.append(Careless() if len(buses) != last else unable())
        return buses[-1]

    monkeypatch.setattr("tests.testing.test_check.Careless", make)
    last = -1
    run_text(program)
    # The last bus is that of the program; with those before it was tried what a bus offers.
    last = len(buses) - 1
    buses.clear()
    with pytest.raises(OSError, match="no bus today"):
        run_text(program)
    assert len(buses) == last


make_quick = partial(EventBus, yield_every=1)


def test_a_factory_without_a_name_of_its_own_is_found_where_it_stands() -> None:
    """P5: a partial that a module has under some name can be imported from there."""
    assert name_factory(make_quick) == f"from {__name__} import make_quick as factory"
