"""`check_component` from outside: what it raises, shows and refuses."""

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from flexiflow import Component, Engine, EventBus, Outcome, StateMachine, answers, on
from flexiflow.events import COMPONENT_REGISTERED, STATE_CHANGED
from flexiflow.testing import ContractViolation, check_component
from flexiflow.testing._component.contract import COMPONENT_CONTRACT
from flexiflow.testing._component.judgements import (
    ComponentTrace,
    all_or_nothing,
    run_to_completion,
)
from flexiflow.testing._component.script import ComponentScript, Fail, Observe, Row, Send
from flexiflow.testing._component.subject import ComponentSubject, _takes
from flexiflow.testing._examiner.examine import examine
from flexiflow.testing._examiner.steps import Together, Wait

SEED = 5
CLAUSES = [f"C{n}" for n in range(1, 11)] + ["K1", "K3", "K4", "K5", "M1", "M2", "M3", "M4"]
CLAUSES += ["B4", "B8", "B9", "B13", "D6", "E7", "V1", "V2", "A1", "A2", "A3"]


class Delegating:
    """An engine that lets another one do everything."""

    def __init__(self, **options: Any) -> None:
        self._engine = Engine(**options)

    @property
    def bus(self) -> EventBus:
        return self._engine.bus

    @property
    def components(self) -> Mapping[str, Component]:
        return self._engine.components

    async def register(self, component: Component) -> None:
        await self._engine.register(component)

    async def unregister(self, name: str) -> None:
        await self._engine.unregister(name)

    async def send(self, name: str, message: Mapping[str, Any]) -> Outcome:
        return await self._engine.send(name, message)


class Older(Delegating):
    """An engine as they were before they had stores, and ran."""

    def __init__(self, *, component_factory: Any = None) -> None:
        super().__init__(component_factory=component_factory)


class Thin(EventBus):  # type: ignore[misc]
    """A bus that nobody can ask, without limits."""

    answer = None  # type: ignore[assignment]

    async def subscribe(  # type: ignore[override]
        self, event: str, component: str, handler: Any, *, once: bool = False
    ) -> Any:
        return await super().subscribe(event, component, handler, once=once)


class Running(Engine):  # type: ignore[misc]
    """An engine without stores."""

    def __init__(self, *, component_factory: Any = None) -> None:
        super().__init__(bus=Thin(), component_factory=component_factory)


class Storing(Delegating):
    """An engine with a store, which does not run, on a bus that nobody can ask."""

    def __init__(self, **options: Any) -> None:
        super().__init__(bus=Thin(), **options)


class TellsTwice(Delegating):
    """Breaks C1."""

    async def register(self, component: Component) -> None:
        await super().register(component)
        await self.bus.publish(COMPONENT_REGISTERED, {"component": component.name})


class ForgetsTheOutcome(Delegating):
    """Breaks C3, among others: what it returns of each message."""

    async def send(self, name: str, message: Mapping[str, Any]) -> Outcome:
        with_machine = self.components[name].machine if name in self.components else None
        if with_machine is not None and message["type"] == "t0":
            return Outcome.IGNORED
        return await super().send(name, message)


class Billing(Component):
    """A component with handlers of its own."""

    def __init__(self, name: str, *, machine: StateMachine | None = None) -> None:
        super().__init__(name, machine=machine)
        self.charged: list[object] = []

    @on("order.placed")
    def charge(self, order: object) -> None:
        self.charged.append(order)


def violation(backend_name: str, engine: Callable[..., Any], **options: Any) -> ContractViolation:
    """Check components in an engine that breaks a clause."""
    with pytest.raises(ContractViolation) as raised:
        check_component(Component, engine=engine, backend=backend_name, seed=SEED, **options)
    return raised.value


def make_less(name: str, *, machine: StateMachine | None) -> SimpleNamespace:
    """Make a value that is no component."""
    return SimpleNamespace(name=name)


def replayed(program: str) -> BaseException | None:
    """Run a program as it is shown."""
    assert "flexiflow.testing._" not in program
    try:
        exec(program, {"__name__": "__main__"})  # noqa: S102  it is the kit's own
    except AssertionError as exc:
        return exc
    return None


@pytest.mark.unmeasured
@pytest.mark.parametrize("factory", [Component, Billing])
def test_components_that_keep_the_contract_pass(
    factory: Callable[..., Component], backend_name: str
) -> None:
    """P1: nothing is raised where every clause holds."""
    check_component(factory, backend=backend_name, examples=5, seed=SEED)


@pytest.mark.unmeasured
def test_any_engine_that_keeps_the_contract_passes(backend_name: str) -> None:
    """P1: an engine is any object with the methods of one."""
    verdicts = examine(
        ComponentSubject,
        COMPONENT_CONTRACT,
        Component,
        engine=Delegating,
        backend=backend_name,
        examples=5,
        seed=SEED,
    )

    assert [(each.clause.identifier, each.violation, each.lacks) for each in verdicts] == [
        (clause, None, ("running",) * (clause[0] == "M")) for clause in CLAUSES
    ]


def lacks(
    factory: Callable[..., Any], engine: Callable[..., Any], backend: str
) -> dict[str, tuple[str, ...]]:
    """Check what lasts and takes time; return what is lacking, by the clauses that need it."""
    clauses = [clause for clause in COMPONENT_CONTRACT if clause.identifier[0] in "KM"]
    how: dict[str, Any] = {"engine": engine, "backend": backend, "seed": SEED, "examples": 40}
    verdicts = [*examine(ComponentSubject, clauses, factory, **how)]
    assert [each.violation for each in verdicts if each.violation] == []
    assert [each for each in verdicts if bool(each.examples) == bool(each.lacks)] == []
    return {each.clause.identifier: each.lacks for each in verdicts if each.lacks}


def make_plain(name: str, *, machine: StateMachine | None = None) -> Component:
    """Make a component; no class, and without a start state."""
    return Component(name, machine=machine)


RUNS = dict.fromkeys(("M1", "M2", "M3", "M4"), ("running",))
STORES = {
    "K3": ("engine(store=)",),
    "K4": ("engine(store=)",),
    "K5": ("engine(max_components=)",),
}
STARTS = {"K1": ("factory(state=)",)}
HANDLES = {"K5": ("name without subscriptions",)}


@pytest.mark.same_everywhere
@pytest.mark.parametrize(
    ("factory", "engine", "lacking"),
    [
        pytest.param(Component, Engine, {}, marks=pytest.mark.unmeasured),
        (Component, Older, STORES | RUNS),
        (Component, Running, STORES),
        (Component, Storing, RUNS),
        (make_plain, Engine, STARTS),
        pytest.param(Billing, Delegating, STARTS | HANDLES | RUNS, marks=pytest.mark.unmeasured),
    ],
)
def test_what_an_engine_or_a_component_lacks_is_unchecked(
    factory: Callable[..., Any],
    engine: Callable[..., Any],
    lacking: dict[str, tuple[str, ...]],
    backend: str,
) -> None:
    """P1: a clause that needs more than there is is left out, and tells why; others are held."""
    assert lacks(factory, engine, backend) == lacking


@pytest.mark.unmeasured
def test_a_violation_tells_the_clause_and_the_seed(backend_name: str) -> None:
    """P1: a violation has the clause, its sentence, what happened, and the seed."""
    raised = violation(backend_name, TellsTwice)

    assert (raised.clause, raised.sentence) == ("C1", COMPONENT_CONTRACT[0].sentence)
    assert (raised.backend, raised.seed, raised.operations) == (backend_name, SEED, 2)
    assert "published as [{'component': 'a'}, {'component': 'a'}]" in raised.complaint
    assert str(raised).endswith(f"{raised.counterexample}\nfound with seed={SEED}")


def test_what_is_shown_can_be_run(backend_name: str) -> None:
    """P1: the counterexample is a whole program, which shows the violation again."""
    raised = violation(backend_name, TellsTwice)
    imported = f"from {__name__} import TellsTwice as new_engine"

    assert imported in raised.counterexample
    assert "from flexiflow import Component as factory" in raised.counterexample
    assert str(replayed(raised.counterexample)) == f"C1 does not hold: {raised.complaint}"


def test_a_script_is_shown_with_what_it_needs_alone(
    backend_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """P1, P5: a script is shrunk to what breaks the clause, and asserts that when it is run."""
    raised = violation(backend_name, ForgetsTheOutcome)

    assert raised.clause == "C3"
    assert raised.operations == 2
    assert 'await engine.send("a", {"type": "t0"})' in raised.counterexample
    told = str(replayed(raised.counterexample))
    assert told.startswith(f"C3 does not hold: {raised.complaint}\n")
    assert capsys.readouterr().out == "Outcome.IGNORED\n"
    assert raised.history.splitlines() == [
        "task 0: message 0 (t0 to a) sent",
        "task 0: message 0 (t0 to a) returned IGNORED",
    ]


@pytest.mark.same_everywhere
@pytest.mark.unmeasured
def test_the_same_seed_finds_the_same(backend_name: str) -> None:
    """P1: a seed replays what was found, to the letter."""
    first, second = (violation(backend_name, ForgetsTheOutcome) for _ in range(2))

    assert str(first) == str(second)


def test_what_cannot_be_imported_is_named(backend_name: str) -> None:
    """P1: the program says where its reader is to put what makes the engine."""
    raised = violation(backend_name, partial(TellsTwice))

    assert "new_engine = ...  # what makes your engine" in raised.counterexample


@pytest.mark.parametrize(
    ("factory", "engine", "told"),
    [
        (None, Engine, "factory must be callable, not None"),
        (Component, 1, "engine must be callable, not 1"),
        (make_less, Engine, "lacks machine, state, handle_message"),
        (Component, SimpleNamespace, "lacks bus, components, register, unregister, send"),
    ],
)
def test_what_is_no_component_or_engine_is_refused(
    factory: Any, engine: Any, told: str, backend_name: str
) -> None:
    """P1: what lacks a part that the clauses speak of is a TypeError."""
    with pytest.raises(TypeError, match=told):
        check_component(factory, engine=engine, backend=backend_name)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"backend": "curio"}, "backend must be 'asyncio' or 'trio', not 'curio'"),
        ({"backend": "asyncio", "examples": 0}, "examples must be an int, 1 or more, not 0"),
        ({"backend": "asyncio", "seed": -1}, "seed must be an int, 0 or more, not -1"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], told: str) -> None:
    """P1: a bad option is a ValueError at the call."""
    with pytest.raises(ValueError, match=told):
        check_component(Component, **options)


def test_a_seed_is_drawn_where_none_is_given(backend_name: str) -> None:
    """P1: what is found without a seed tells the one that was drawn."""
    with pytest.raises(ContractViolation) as raised:
        check_component(Component, engine=TellsTwice, backend=backend_name)

    assert 0 <= raised.value.seed < 2**32


def test_each_clause_of_components_has_a_sentence_and_cases() -> None:
    """P1: the contract is data: C1 to M4, each with what checks it."""
    assert [clause.identifier for clause in COMPONENT_CONTRACT] == CLAUSES
    for clause in COMPONENT_CONTRACT:
        assert clause.sentence.endswith(".")
        assert clause.cases is not None


@pytest.mark.parametrize("most", range(8))
def test_what_a_factory_raises_later_is_raised(most: int, backend_name: str) -> None:
    """P1: no clause is blamed for what makes the components, in child tasks too."""
    made: list[Component] = []

    def make(name: str, *, machine: StateMachine | None = None) -> Component:
        if len(made) > most:
            raise OSError("no more of them")
        made.append(Component(name, machine=machine))
        return made[-1]

    with pytest.raises(OSError, match="no more of them"):
        check_component(make, backend=backend_name, seed=SEED)


def test_a_factory_that_is_async_is_refused(backend_name: str) -> None:
    """P1: a component's factory is sync."""

    async def make(name: str, *, machine: StateMachine | None) -> Component:
        return Component(name, machine=machine)

    with pytest.raises(TypeError, match="factory must be sync, not <coroutine object"):
        check_component(make, backend=backend_name)


@pytest.mark.parametrize("cancelled_after", [None, *range(8)])
@pytest.mark.parametrize(
    ("judge", "rows"),
    [
        (
            run_to_completion,
            (
                Row("t0", action=(Send("a", "t1"), Wait(2))),
                Row("t1", action=(Wait(2), Fail())),
            ),
        ),
        (all_or_nothing, (Row("t0", action=(Wait(2),)),)),
    ],
)
def test_what_fails_or_is_cancelled_keeps_the_contract(
    judge: Callable[[ComponentTrace], str | None],
    rows: tuple[Row, ...],
    cancelled_after: int | None,
    backend: str,
) -> None:
    """P1: no complaint about a deferred message that fails, or a send that is cancelled."""
    steps = (Observe(STATE_CHANGED, (Wait(2),)), Send(cancelled_after=cancelled_after))
    script = ComponentScript(rows, steps)
    trace = ComponentSubject(Component, engine=Engine, backend=backend).attempt(script)
    assert judge(trace) is None


def test_whatever_a_script_can_do_without_is_left_out() -> None:
    """P1: a task, what a function does, the function itself, a cancellation, and a turn."""
    waits, sends = (Wait(), Wait(2)), Send(cancelled_after=1)
    both = Together(((sends,), ()))
    script = ComponentScript((Row(guard=waits),), (Observe("a", (Wait(),)), both), (2, 0))
    observes = script.steps[0]
    assert {(each.rows, each.steps, each.decisions) for each in script.smaller()} == {
        (script.rows, steps, decisions)
        for steps in (
            (both,),
            (observes,),
            (Observe("a"), both),
            (observes, Together(((),))),
            (observes, Together(((sends,),))),
            (observes, Together(((), ()))),
            (observes, Together(((Send(),), ()))),
        )
        for decisions in ((2, 0), (1, 0))
    } | {((Row(guard=guard),), script.steps, (2, 0)) for guard in (None, waits[:1], waits[1:])} | {
        (script.rows, script.steps, decisions) for decisions in ((0,), (2,))
    }


def test_a_group_of_one_task_is_left_out() -> None:
    """P1: its task does the same without a group."""
    script = ComponentScript((Row(),), (Together(((Send(), Wait()),)),))
    assert ComponentScript((Row(),), (Send(), Wait())) in script.smaller()


def test_a_factory_that_is_async_is_tried_and_closed() -> None:
    """P1: What it would make is not awaited, and Python does not complain of that."""

    async def make(name: str, *, state: str) -> None:
        raise NotImplementedError

    assert _takes(make, "probe", state="new")
    assert not _takes(make, "probe", engine="mine")


class Busy(Component):
    """A component with attributes of all kinds of names."""

    def __init__(self, name: str, *, machine: StateMachine | None = None) -> None:
        super().__init__(name, machine=machine)
        self.heard = self.first = self.last = self.size = self.weight = self.other = None


@pytest.mark.parametrize("clause", ["C1", "B13"])
def test_attributes_are_not_taken_for_those_of_the_checker(clause: str) -> None:
    """P1: what is added to a class for a program is not hidden by what the class has."""
    check_component(Busy, backend="asyncio", examples=8, seed=1, clauses=[clause])


def test_components_that_answer_are_refused() -> None:
    """P1: only one of them can be registered, which is no fault of theirs."""

    class Prices(Component):
        @answers("price.asked")
        async def quote(self, item: object) -> object:
            return item

    with pytest.raises(TypeError, match=r"marked with @answers, .* 'price.asked'"):
        check_component(Prices, backend="asyncio", examples=1, clauses=["C3"])
