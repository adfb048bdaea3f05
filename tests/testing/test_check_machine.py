"""`check_machine` (P6): what it finds, tells, reports and refuses."""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import strategies as st

from flexiflow import Component, Engine, State, StateMachine, Transition, on
from flexiflow.extras.stores import MemoryStateStore
from flexiflow.testing import ContractViolation, CoveredTransition, MachineReport, check_machine
from flexiflow.testing._machine import desk, functions
from flexiflow.testing._machine.claims import make_claims
from flexiflow.testing._machine.script import Pause, Script, Send
from flexiflow.testing._machine.subject import MachineSubject
from properties.faults.of_machines import (
    CannotBeStopped,
    PicksWithoutLooking,
    StopsWithoutBooks,
    TakesTheMoneyFirst,
)
from properties.reference.shop import CLAIMS, MESSAGES, engine_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from pathlib import Path

    from flexiflow import EventBus
    from properties.reference.shop import Shop

SEED = 2


def triggers(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Draw messages without data."""
    return st.sampled_from([{"type": name} for name in names])


LIFE = StateMachine(
    "new",
    [
        Transition("new", "place", "placed"),
        Transition("placed", "pay", "paid"),
        Transition("placed", "lose", "lost"),
        Transition("paid", "ship", "shipped"),
    ],
)
PLAIN: Any = {"order-1": triggers("place")}
ORDERS: Any = {"messages": {"order-1": triggers("place", "pay", "lose", "ship")}}


class Order(Component):
    """An order that counts its messages."""

    def __init__(self, name: str, machine: StateMachine = LIFE) -> None:
        super().__init__(name, machine=machine)
        self.count = 0


def make_orders() -> Engine:
    """Make an engine whose orders are made when they are asked for."""
    return Engine(component_factory=Order)


async def make_registered() -> Engine:
    """Make an engine whose order is there before any message."""
    engine = Engine()
    await engine.register(Order("order-1"))
    return engine


def of(machine: StateMachine) -> Callable[[], Engine]:
    """Give what makes an engine with orders of a machine."""
    return lambda: Engine(component_factory=partial(Order, machine=machine))


def is_lost(order: Order) -> bool:
    """Tell whether an order is lost."""
    return order.state == "lost"


def is_placed(order: Order) -> bool:
    """Tell whether an order is placed, which the first message changes."""
    return order.state != "new"


def is_never_lost(order: Order) -> None:
    """Claim that an order is not lost, without an answer."""
    assert order.state != "lost", "it is gone"


def found(make: Callable[[], Any], backend: str, **claims: Any) -> ContractViolation:
    """Check a machine that breaks a claim."""
    given = {"seed": SEED, **ORDERS, **claims}
    with pytest.raises(ContractViolation) as raised:
        check_machine(make, backend=backend, **given)
    return raised.value


def replayed(program: str) -> str:
    """Run a program as it is shown, which must fail; give what it says."""
    assert "flexiflow.testing._" not in program
    with pytest.raises(AssertionError) as raised:
        exec(program, {})  # noqa: S102  it is the kit's own
    return str(raised.value)


def sent(violation: ContractViolation) -> list[str]:
    """Give the types of what a program sends, in the order in which it is written."""
    return re.findall(r"desk\.send\('[\w-]+', \{'type': '(\w+)'", violation.counterexample)


@pytest.mark.same_everywhere
@pytest.mark.parametrize(
    "make", [pytest.param(make_orders, marks=pytest.mark.unmeasured), make_registered]
)
@pytest.mark.parametrize(
    ("claims", "claim", "complaint"),
    [
        ({"never": {"lost"}}, "never 'lost'", "order-1 is in 'lost', after 'lose'"),
        ({"never": [is_lost]}, "never is_lost", "order-1 is in 'lost', after 'lose'"),
        (
            {"invariants": [is_never_lost]},
            "the invariant is_never_lost",
            "order-1 breaks it in 'lost', after 'lose': it is gone",
        ),
        (
            {"invariants": [lambda order: order.state != "lost"]},
            "the invariant lambda order: order.state != 'lost'",
            "order-1 breaks it in 'lost', after 'lose'",
        ),
        (
            {"leads_to": [("placed", ["paid", "shipped"])], "fair": ["pay"]},
            "'placed' leads to 'paid' or 'shipped'",
            (
                "order-1 reached 'placed', and never 'paid' or 'shipped' after that; in the end it "
                "is in 'lost', after 'lose'"
            ),
        ),
    ],
)
def test_a_broken_claim_is_found(
    make: Callable[[], Any], claims: Any, claim: str, complaint: str, backend: str
) -> None:
    """P6: the claim is told by its name, with the smallest program, which fails by itself."""
    violation = found(make, backend, **claims)
    assert (violation.clause, violation.complaint) == (claim, complaint)
    assert sent(violation) == ["place", "lose"]
    # A lambda in a text that was run has no source, by which it could be named.
    assert replayed(violation.counterexample).endswith(f": {complaint}")
    assert (violation.operations, violation.backend, violation.seed) == (3, backend, SEED)


@pytest.mark.unmeasured
def test_a_violation_is_found_again(backend: str) -> None:
    """P6: the same seed finds the same program, and tells the same story of it."""
    first, second = (str(found(make_orders, backend, never={"lost"})) for _ in range(2))
    assert first == second
    assert (
        "task 0: order-1 begins 'lose'\ntask 0: order-1 goes from 'placed' to 'lost'\n\n"
        f"found with seed={SEED}"
    ) in first


@pytest.fixture
def _little_to_spend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a program that never ends be given up sooner."""
    monkeypatch.setattr(desk, "_BUDGET", 1_000)


@pytest.mark.same_everywhere
@pytest.mark.usefixtures("_little_to_spend")
@pytest.mark.parametrize(
    "shop",
    [
        pytest.param(PicksWithoutLooking, marks=pytest.mark.unmeasured),
        TakesTheMoneyFirst,
        pytest.param(StopsWithoutBooks, marks=pytest.mark.unmeasured),
        pytest.param(CannotBeStopped, marks=pytest.mark.unmeasured),
    ],
)
def test_a_program_fails_again_with_what_makes_the_engine(shop: type[Shop], backend: str) -> None:
    """P6: races, cancellations and what never ends replay; what can't be imported is filled in."""
    violation = found(lambda: engine_of(shop()), backend, messages=MESSAGES, **CLAIMS)
    placeholder = "make = ...  # what makes your engine"
    assert placeholder in violation.counterexample
    text = violation.counterexample.replace(placeholder, "make = lambda: engine_of(shop())")
    with pytest.raises(Exception) as raised:  # noqa: PT011  also what is stuck
        exec(text, {"engine_of": engine_of, "shop": shop})  # noqa: S102  it is the kit's own
    assert str(raised.value).removeprefix(f"{violation.clause}: ") in violation.complaint


def test_the_first_broken_claim_is_the_one_that_is_shrunk(backend: str) -> None:
    """P6: a smaller program that breaks another claim is no smaller one of this claim."""
    claims: Any = {"never": ["paid"], "leads_to": [("placed", "shipped")]}
    claims["messages"] = {"order-1": triggers("wait", "place", "pay")}
    violations = [found(make_orders, backend, **claims | {"seed": seed}) for seed in range(4)]
    assert {each.clause: sent(each) for each in violations} == {
        "never 'paid'": ["place", "pay"],
        "'placed' leads to 'shipped'": ["place"],
    }


def test_a_state_in_which_a_component_begins_is_reached(backend: str) -> None:
    """P6: also before anything was sent, and where the engine comes with its components."""
    violation = found(make_registered, backend, never={"new"})
    assert violation.complaint == "order-1 is in 'new'"
    assert sent(violation) in ([], ["place"])


def test_time_passes_between_messages_and_at_the_end(backend: str) -> None:
    """P6, M2: timers run out in virtual time, and race with messages."""
    rows = [
        Transition("new", "place", "placed"),
        Transition("placed", "expire", "expired"),
        Transition("expired", "pay", "lost"),
    ]
    machine = StateMachine("new", rows, states=[State("placed", after=(900.0, "expire"))])
    messages = {"order-1": triggers("place", "pay")}
    at_the_end = found(of(machine), backend, messages=messages, never={"expired"})
    assert "900 s later: order-1 begins 'expire'" in at_the_end.history
    assert sent(at_the_end) == ["place"]
    between = found(of(machine), backend, messages=messages, never={"lost"})
    assert sent(between)[-2:] == ["place", "pay"]
    assert re.search(r"await desk\.pause\((900|1800)\.0\)", between.counterexample)


def test_what_a_message_of_nobody_breaks_is_seen(backend: str) -> None:
    """P6: an internal transition of a timer is looked at, too, though nobody is told of it."""

    def count(_: object, order: Order) -> None:
        order.count += 1

    rows = [
        Transition("new", "place", "placed"),
        Transition("placed", "remind", None, action=count),
    ]
    machine = StateMachine("new", rows, states=[State("placed", after=(5.0, "remind"))])
    given = {"messages": {"order-1": triggers("place")}}
    violation = found(of(machine), backend, invariants=[lambda order: order.count == 0], **given)
    assert violation.complaint == "order-1 breaks it in 'placed', after 'remind'"


class Till(Component):
    """A component that no claim is about."""

    def __init__(self, engine: Engine) -> None:
        super().__init__("till", machine=LIFE)
        self.engine = engine

    @on("order.placed")
    async def take(self, order: Order) -> None:
        """Take the money, and fail."""
        await self.engine.send("till", {"type": "place"})
        await self.engine.unregister(order.name)
        raise LookupError("no change")


def test_others_are_told_of_and_left_alone(backend: str) -> None:
    """P6: claims are about the components that are sent messages, also if one has gone since."""
    engines: list[Engine] = []

    async def announce(_: object, order: Order) -> None:
        await engines[-1].bus.publish("order.placed", order)

    async def make() -> Engine:
        engines.append(of(machine)())
        await engines[-1].register(Till(engines[-1]))
        return engines[-1]

    machine = StateMachine("new", [Transition("new", "place", "placed", action=announce)])
    violation = found(make, backend, messages=PLAIN, leads_to=[("new", "placed")], never=[is_lost])
    assert violation.complaint == (
        "order-1 reached 'new', and never 'placed' after that; in the end it is no longer there"
    )
    for line in ("till begins 'place'", "till goes from 'new' to 'placed'", "till fails: Lookup"):
        assert line in violation.history


def test_a_violation_that_does_not_happen_again_is_told(backend: str) -> None:
    """P6: a claim that depends on something else has been broken all the same."""
    seen: list[Order] = []

    def is_not_the_first(order: Order) -> bool:
        seen.append(order)
        return len(seen) > 1

    violation = found(make_orders, backend, invariants=[is_not_the_first])
    assert violation.clause == "the invariant is_not_the_first"
    assert "await desk.send('order-1', " in violation.counterexample


def test_a_program_with_a_schedule_yields_at_every_publish(backend: str) -> None:
    """P6: it is shown with its decisions, and runs with them."""
    claims = make_claims(never={"lost"})
    subject = MachineSubject(make_orders, names=("order-1",), claims=claims, backend=backend)
    script = Script(((Pause(1.0),), (Send("order-1", {"type": "place"}),)), decisions=(1,))
    program = subject.show(script, "P6")
    assert program.endswith(f'replay(main, backend="{backend}", decisions=(1,))\n')
    exec(program, {})  # noqa: S102  it is the kit's own


def check(make: Callable[[], Any], backend: str, **given: Any) -> MachineReport:
    """Check a machine that breaks no claim."""
    given = {"seed": SEED, "examples": 30, **ORDERS, **given}
    return check_machine(make, backend=backend, **given)


def is_small(message: Mapping[str, Any], order: Order) -> bool:
    """Guard against large orders."""
    if message["amount"] > 2:
        raise OverflowError(message["amount"])
    return bool(message["amount"] < 2)


async def is_small_later(message: Mapping[str, Any], order: Order) -> bool:
    """Guard against large orders, after a while."""
    await checkpoint()
    return is_small(message, order)


@pytest.mark.same_everywhere
@pytest.mark.parametrize("guard", [is_small, is_small_later])
def test_the_report_tells_what_was_covered(backend: str, guard: Any) -> None:
    """P6: transitions that were taken or not, what guards have answered, and what has raised."""
    rows = [
        Transition("new", "place", "placed", guard=guard),
        Transition("placed", "remind", None, action=is_small_later),
        Transition("placed", "send back", "new"),
        Transition("placed", "lose", "lost"),
    ]
    sizes = st.builds(
        lambda kind, amount: {"type": kind, "amount": amount},
        st.sampled_from(["place", "remind", "send back"]),
        st.sampled_from([1, 2, 3]),
    )
    report = check(of(StateMachine("new", rows)), backend, messages={"order-1": sizes})
    placed, reminded, sent_back, lost = report.transitions
    assert placed[:4] == ("new", "place", "placed", guard.__name__)
    assert placed.accepted >= placed.taken > 0
    assert min(placed.refused, placed.failed, reminded.taken, sent_back.taken) > 0
    assert lost == CoveredTransition("placed", "lose", "lost")
    assert report.not_taken == (lost,)
    assert report.failures["OverflowError"] >= placed.failed > 0
    assert (report.backend, report.seed, report.examples) == (backend, SEED, 30)
    told = str(report)
    assert told.startswith(f"30 programs on {backend} with {report.messages} messages, seed={SEED}")
    assert "transitions taken: 3 of 4\n  not taken: placed -- lose --> lost\n" in told
    assert f"guard of new -- place --> placed, if {guard.__name__}: accepted " in told
    assert f"messages that raised: OverflowError {report.failures['OverflowError']}" in told
    assert str(reminded) == "placed -- remind --> (stays)"


@pytest.mark.unmeasured
def test_guards_without_names_are_told_apart(backend: str) -> None:
    """P6: of two transitions that only their lambdas distinguish, one may not have been taken."""
    rows = [
        Transition("new", "place", "placed", guard=lambda message, _: message["amount"] < 9),
        Transition("new", "place", "placed", guard=lambda message, _: message["amount"] > 8),
    ]
    placing = st.just({"type": "place", "amount": 3})
    report = check(of(StateMachine("new", rows)), backend, messages={"order-1": placing})
    assert len(report.transitions) == 2
    assert [each.guard for each in report.not_taken] == ["lambda message, _: message['amount'] > 8"]


def test_a_long_report_is_cut_short() -> None:
    """P6: of many transitions that were not taken, the first ones are shown."""
    rows = tuple(CoveredTransition("new", str(number), "done") for number in range(25))
    report = MachineReport("trio", 1, 1, 1, {}, 1, rows, ())
    assert "  not taken: new -- 19 --> done\n  not taken: 5 more" in str(report)
    assert "programs with a message that was never over: 1" in str(report)


def test_a_claim_that_holds_is_told_as_such(backend: str) -> None:
    """P6: a claim that was never put to the test is told apart from one that has held."""
    report = check(
        make_orders,
        backend,
        messages={"order-1": triggers("place", "pay")},
        leads_to=[("placed", "paid"), ("lost", is_placed), (is_placed, "paid")],
        fair=[{"type": "pay"}],
    )
    placed, lost, condition = report.leads_to
    assert (placed.held + placed.not_reached, placed.inconclusive) == (30, 0)
    assert placed.held > 0
    assert lost == ("'lost' leads to is_placed", 0, 0, 30)
    assert condition.held == placed.held
    assert f"'placed' leads to 'paid': held in {placed.held}, inconclusive in 0" in str(report)


@pytest.mark.unmeasured
@pytest.mark.usefixtures("_little_to_spend")
def test_a_machine_that_never_rests_is_inconclusive(backend: str) -> None:
    """P6: fair messages reach it, but a claim is called neither held nor violated."""
    rows = [
        Transition("new", "place", "placed"),
        Transition("placed", "expire", "late"),
        Transition("late", "expire", "placed"),
        Transition("late", "pay", None),
    ]
    states = [State(name, after=(1.0, "expire")) for name in ("placed", "late")]
    machine = StateMachine("new", rows, states=states)
    report = check(
        of(machine),
        backend,
        examples=3,
        messages={"order-1": triggers("place")},
        leads_to=[("placed", "late")],
        fair=["pay"],
    )
    assert report.leads_to[0][1:] == (0, 3, 0)
    assert report.not_taken == ()


@pytest.mark.unmeasured
@pytest.mark.usefixtures("_little_to_spend")
def test_a_store_keeps_an_engine_awake(backend: str) -> None:
    """P6, K5: components come and go, and are watched each time; what leads to what stays open."""

    def make() -> Engine:
        return Engine(component_factory=Order, store=MemoryStateStore(), max_components=1)

    names = ("order-1", "order-2")
    messages = dict.fromkeys(names, triggers("place", "pay", "ship"))
    given: Any = {"messages": messages, "leads_to": [("placed", "paid")], "fair": ["pay"]}
    report = check(make, backend, examples=5, never={"lost"}, **given)
    assert report.leads_to[0].inconclusive == 5
    assert report.not_taken == (CoveredTransition("placed", "lose", "lost"),)


@pytest.mark.unmeasured
def test_fair_messages_are_sent_until_nothing_changes(backend: str) -> None:
    """P6: one that fails at first is sent again, and so is one that needs another one before."""
    tries: dict[Order, int] = {}

    def fail_twice(_: object, order: Order) -> None:
        tries[order] = tries.get(order, 0) + 1
        if tries[order] < 3:
            raise ConnectionError

    rows = [
        Transition("new", "place", "placed"),
        Transition("placed", "pay", "paid", action=fail_twice),
        Transition("paid", "ship", "shipped"),
        Transition("shipped", "ship", "shipped"),
    ]
    report = check(
        of(StateMachine("new", rows)),
        backend,
        messages={"order-1": triggers("place"), "order-2": triggers("place")},
        leads_to=[("placed", "shipped")],
        fair=["ship", "pay"],
    )
    assert report.leads_to[0].held > 0
    assert report.leads_to[0].inconclusive == 0


@pytest.mark.usefixtures("_little_to_spend")
def test_messages_that_go_round_in_circles_are_inconclusive(backend: str) -> None:
    """P6: fair messages that take transitions for ever may still come to something."""
    rows = [Transition("new", "place", "placed"), Transition("placed", "poll", None)]
    rows.append(Transition("placed", "pay", "paid"))
    given: Any = {"messages": {"order-1": triggers("place")}, "leads_to": [("placed", "paid")]}
    report = check(of(StateMachine("new", rows)), backend, fair=["poll"], examples=3, **given)
    assert report.leads_to[0].inconclusive > 0
    assert report.leads_to[0].held == 0


@pytest.mark.unmeasured
def test_a_message_that_is_never_over_is_no_violation(backend: str) -> None:
    """P6: it is told; a claim that something comes after it would find it."""
    bus_of: dict[str, EventBus] = {}

    def make() -> Engine:
        engine = of(StateMachine("new", [Transition("new", "place", "placed", action=wait)]))()
        bus_of["now"] = engine.bus
        return engine

    async def wait(_: object, order: Order) -> None:
        await bus_of["now"].publish("order.waits")
        await anyio.sleep_forever()

    report = check(make, backend, messages={"order-1": triggers("place")}, fair=["place"])
    assert report.unfinished > 0


class Unspeakable(Exception):
    """Can't be shown."""

    def __repr__(self) -> str:
        raise LookupError

    __str__ = __repr__


def test_an_exception_that_cannot_be_shown_is_no_violation(backend: str) -> None:
    """P6: a message that raises is none, whatever it raises; an invariant that fails is one."""

    def act(_: object, order: Order) -> None:
        raise Unspeakable

    def holds(order: Order) -> None:
        raise AssertionError(Unspeakable())

    make = of(StateMachine("new", [Transition("new", "place", "placed", action=act)]))
    report = check(make, backend, messages=PLAIN, examples=3)
    assert report.failures["Unspeakable"] > 0
    violation = found(make, backend, messages=PLAIN, invariants=[holds])
    assert (
        violation.complaint == "order-1 breaks it in 'new': <a AssertionError that can't be shown>"
    )


@pytest.mark.parametrize("error", [SystemExit(3), None])
def test_a_program_that_does_not_end_is_a_violation(backend: str, error: Any) -> None:
    """P6: whatever is claimed, it ends when it is cancelled, and nothing ends the process."""

    async def act(_: object, order: Order) -> None:
        if error is not None:
            raise error
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

    rows = [Transition("new", "place", "placed", action=act)]
    violation = found(of(StateMachine("new", rows)), backend, messages=PLAIN)
    assert violation.clause == "each program ends"
    assert violation.complaint.startswith("the program was left by S")


def test_a_task_that_is_left_behind_is_a_violation(backend: str) -> None:
    """P6: what an action starts natively, and nobody ends, outlives its program."""
    kept: list[Any] = []

    async def linger() -> None:
        await anyio.sleep_forever()

    def act(_: object, order: Order) -> None:
        if backend == "asyncio":
            kept.append(asyncio.create_task(linger()))
        else:
            sys.modules["trio"].lowlevel.spawn_system_task(linger)

    rows = [Transition("new", "place", "placed", action=act)]
    violation = found(of(StateMachine("new", rows)), backend, messages=PLAIN, examples=1)
    assert violation.clause == "each program ends"
    assert "tasks are left behind: '" in violation.complaint


def answers_late(order: Order) -> Any:
    """Answer with a coroutine, by mistake."""
    return checkpoint()


def breaks_down(order: Order) -> bool:
    """Fail, as a condition."""
    raise LookupError(order.name)


class Frozen(Exception):
    """An exception that takes no notes."""

    def add_note(self, note: str, /) -> None:
        raise AttributeError(note)


def freezes(order: Order) -> bool:
    """Fail, as a condition."""
    raise Frozen


def gives_up(order: Order) -> None:
    """Fail as pytest does, whose failures are no `Exception`."""
    pytest.fail("it is gone")


def exits(order: Order) -> None:
    """End the process, by mistake."""
    sys.exit(3)


async def unending() -> AsyncGenerator[int]:
    """Yield, where an answer is wanted."""
    yield 0


class Later:
    """Something that has to be awaited."""

    def __await__(self) -> Any:
        yield

    def __repr__(self) -> str:
        """Return what is awaited."""
        return "<later>"


@pytest.mark.parametrize(
    ("claims", "kind", "said"),
    [
        ({"invariants": [breaks_down]}, LookupError, "order-1"),
        ({"never": [breaks_down]}, LookupError, "order-1"),
        (
            {"never": [is_never_lost]},
            TypeError,
            "is_never_lost must return True or False, not None",
        ),
        (
            {"never": [answers_late]},
            TypeError,
            "answers_late must be sync, and returned a coroutine",
        ),
        ({"invariants": [answers_late]}, TypeError, "answers_late must be sync"),
        ({"leads_to": [(freezes, "placed")]}, Frozen, None),
        ({"invariants": [gives_up]}, pytest.fail.Exception, "it is gone"),
        ({"never": [exits]}, SystemExit, "3"),
        (
            {"invariants": [lambda _: Later()]},
            TypeError,
            "lambda _: Later.. must return True or False, not <later>",
        ),
        ({"invariants": [lambda _: (each for each in [False])]}, TypeError, "not <generator"),
        ({"never": [lambda _: unending()]}, TypeError, "not <async_gen"),
    ],
)
def test_what_a_function_of_a_claim_raises_is_raised(
    backend: str, claims: Any, kind: type[BaseException], said: str | None
) -> None:
    """P6: it is no violation but a mistake in the claim, and shows where it comes from."""
    with pytest.raises(kind, match=said) as raised:
        check(make_orders, backend, **claims)
    if kind is LookupError:
        assert raised.traceback[-1].name == "breaks_down"
        assert raised.value.__notes__ == ["raised as the claims about order-1 in 'new' were tried"]


@dataclass
class Limit:
    """A condition with a number, which has no hash."""

    number: int

    def __call__(self, order: Order) -> bool:
        """Tell whether an order has counted less."""
        return order.count < self.number


@pytest.mark.unmeasured
def test_a_condition_needs_no_hash(backend: str) -> None:
    """P6: an object that can be called may be a condition, also if it has no hash."""
    report = check(make_orders, backend, leads_to=[(Limit(1), Limit(2))], never=[Limit(0)])
    assert [each.held for each in report.leads_to] == [report.examples]
    assert found(make_orders, backend, invariants=[Limit(0)]).clause == "the invariant Limit"


def test_a_component_may_change_what_it_is_sent(backend: str) -> None:
    """P6: it gets a message of its own each time, so that programs don't depend on each other."""

    def add(message: Any, order: Order) -> None:
        for each in (message["items"], message["boxes"][0]["items"]):
            each.append(1)
            order.count = max(order.count, len(each))

    rows = [Transition("new", "place", "placed", action=add), Transition("placed", "pay", "new")]
    items: list[int] = []
    placing = {"type": "place", "items": items, "boxes": ({"items": items},)}
    check(
        of(StateMachine("new", rows)),
        backend,
        messages={"order-1": st.sampled_from([placing, {"type": "pay"}])},
        invariants=[lambda order: order.count <= 1],
        fair=[placing],
    )
    assert not items


def test_what_makes_no_new_engine_is_refused(backend: str) -> None:
    """P6: a mistake in `make` is no violation; what it raises leaves as it is."""
    engines = [Engine(component_factory=Order)]

    def run_out() -> Engine:
        return engines.pop()

    with pytest.raises(IndexError, match="pop from empty list"):
        check(run_out, backend)
    same = make_orders()
    with pytest.raises(ValueError, match="make must make a new engine each time"):
        check(lambda: same, backend)
    with pytest.raises(TypeError, match="make must make an Engine, not <class 'flexi"):
        check(lambda: Engine, backend)


@pytest.mark.parametrize("drawn", ["place", {"kind": "place"}])
def test_a_strategy_that_draws_no_message_is_refused(backend: str, drawn: object) -> None:
    """P6: what is drawn must be a message; the strategy is told."""
    with pytest.raises((TypeError, ValueError), match="must") as raised:
        check(make_orders, backend, messages={"order-1": st.just(drawn)})
    assert raised.value.__notes__ == ["it was drawn from the strategy of messages['order-1']"]


async def is_async(order: Order) -> bool:
    """Answer later, which a condition can't."""
    return True


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"backend": "curio"}, ValueError, "backend must be 'asyncio' or 'trio', not 'curio'"),
        ({"examples": 0}, ValueError, "examples must be an int, 1 or more, not 0"),
        ({"seed": -1}, ValueError, "seed must be an int, 0 or more, not -1"),
        ({"messages": triggers("go")}, TypeError, "messages must map the names of components to"),
        ({"messages": {}}, ValueError, "messages must have a strategy for one component or more"),
        ({"messages": {"order-1": "go"}}, TypeError, r"messages\['order-1'\] must be a Hypothesis"),
        ({"messages": {3: triggers("go")}}, TypeError, "a component's name must be a str, not 3"),
        ({"messages": {"x": triggers("go")}}, ValueError, "strategies for 'x', but the engine has"),
        (
            {"messages": {"plain": triggers("go")}},
            ValueError,
            "'plain', which has no state machine",
        ),
        (
            {"never": "lost"},
            TypeError,
            r"never must be a list, or the like, as in never=\['lost'\]",
        ),
        ({"never": is_lost}, TypeError, r"as in never=\[is_lost\]"),
        ({"never": {"lsot"}}, ValueError, r"never names the state 'lsot', .*did you mean 'lost'\?"),
        (
            {"never": [""]},
            ValueError,
            "never names the state '', which no machine has; their .*new",
        ),
        ({"never": [()]}, ValueError, r"never\[0\] must name one state or more, not \(\)"),
        ({"never": [3]}, TypeError, r"never\[0\] must be callable with 1 pos"),
        ({"never": [is_async]}, TypeError, r"never\[0\] must be sync, but is_async is async"),
        ({"invariants": ["lost"]}, TypeError, r"invariants\[0\] must be a function of the comp"),
        ({"leads_to": ["ab"]}, TypeError, r"leads_to\[0\] must be a pair of conditions"),
        ({"leads_to": [("new", "lost", "paid")]}, TypeError, "must be a pair of conditions"),
        ({"leads_to": [("new", {"gone"})]}, ValueError, "leads_to names the state 'gone'"),
        ({"leads_to": [{"new", "lost"}]}, TypeError, "must be a pair of conditions"),
        ({"fair": ["pya"]}, ValueError, r"fair names the trigger 'pya', .*did you mean 'pay'\?"),
        ({"fair": {"type": "pay"}}, TypeError, "fair must be a list, or the like"),
        ({"fair": [{"kind": "pay"}]}, ValueError, "a message must have a str 'type'"),
    ],
)
def test_bad_arguments_are_refused(
    backend: str, given: Any, kind: type[Exception], said: str
) -> None:
    """P6: before any program runs, and the message says what would be right."""

    def make_order(name: str) -> Component | None:
        kinds = {"order-1": Order, "plain": Component}
        return kinds[name](name) if name in kinds else None

    arguments = {"backend": backend, "messages": PLAIN, **given}
    with pytest.raises(kind, match=said):
        check_machine(lambda: Engine(component_factory=make_order), **arguments)


def test_what_makes_the_engine_must_be_callable_without_arguments() -> None:
    """P6: an engine in its place is refused."""
    for make in (make_orders(), Order):
        with pytest.raises(TypeError, match="make "):
            check_machine(make, backend="asyncio", messages=PLAIN)  # type: ignore[arg-type]


async def test_a_loop_that_is_running_is_refused() -> None:
    """P6: it runs event loops of its own."""
    with pytest.raises(RuntimeError, match="check_machine runs event loops of its own"):
        check_machine(make_orders, backend="asyncio", messages=PLAIN)


def test_a_seed_is_drawn_and_shown(backend: str) -> None:
    """P6: without a seed, the report has the one that was drawn."""
    report = check(make_orders, backend, seed=None, examples=1)
    assert report.seed >= 0


def test_a_function_in_a_program_is_imported_written_or_to_be_filled_in() -> None:
    """P6: a lambda that uses nothing else is written as it is; others keep their names."""
    limit = 3

    def local(order: Order) -> bool:
        return order.count < limit

    plain, bound = lambda order: order.count < 3, lambda order: order.count < limit
    unseen = eval("lambda order: True")  # noqa: S307  it has no source

    assert [functions.show(each, "condition") for each in (is_lost, plain, local, bound)] == [
        (f"from {__name__} import is_lost", "is_lost"),
        ("", "lambda order: order.count < 3"),
        ("local = ...  # a function of your claims", "local"),
        ("condition = ...  # lambda order: order.count < limit", "condition"),
    ]
    assert functions.show(unseen, "condition") == ("condition = ...  # <lambda>", "condition")
    assert functions.show(partial(local), "condition").expression == "local"


def test_a_lambda_in_a_text_that_is_no_python_has_no_name(tmp_path: Path) -> None:
    """P6: the file of a function may have changed since."""
    path = tmp_path / "claims.py"
    path.write_text("lambda order: True (")
    function = eval(compile("lambda order: True", str(path), "eval"))  # noqa: S307  our own
    assert functions.name_of(function) == "<lambda>"
