"""Clauses that are tried in company, and with programs that cross features."""

from typing import Any

import pytest
from hypothesis import strategies as st

from flexiflow import EventBus, Subscription
from flexiflow.testing._bus.company import COMPANIES, Accompanied, accompany
from flexiflow.testing._bus.contract import CONTRACT
from flexiflow.testing._bus.further_cases import FURTHER
from flexiflow.testing._bus.receiving_programs import counts_as_it_is_left, yields_whatever_is_done
from flexiflow.testing._bus.script import Publish, Script, Subscribe
from flexiflow.testing._bus.subject import BusSubject
from flexiflow.testing._bus.telling_programs import frees_what_failed
from flexiflow.testing._bus.walk_programs import walk_of
from flexiflow.testing._examiner.clause import Clause
from flexiflow.testing._examiner.examine import examine, search
from flexiflow.testing._examiner.program import Program

CLAUSES = {clause.identifier: clause for clause in CONTRACT}
SCRIPT = Script((Subscribe(), Publish("sequential", "continue")))


REACHED_ELSEWHERE = {"A1", "A3", "B10", "B12", "D6", "S1", "S3"}
"""Those whose programs have no line that others do not reach, too."""


class Unwatched:
    """Calls nobody where an instrument watches."""

    def __init__(self) -> None:
        self.real = EventBus()
        self.is_watched = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def add_instrument(self, instrument: Any) -> None:
        self.is_watched = True
        self.real.add_instrument(instrument)

    async def publish(self, event: str, data: object = None, **options: Any) -> Any:
        return () if self.is_watched else await self.real.publish(event, data, **options)


@pytest.mark.same_everywhere
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.unmeasured] if name in REACHED_ELSEWHERE else [])
        for name in FURTHER
    ],
)
def test_programs_that_cross_features_hold_for_our_own_bus(name: str, backend: str) -> None:
    """P1: What our own bus does is what they expect."""
    clause = Clause("X0", "", "", FURTHER[name])
    verdict = search(clause, BusSubject(EventBus, backend), 60, 2)
    assert verdict.violation is None, str(verdict.violation)


@pytest.mark.parametrize("left_by", ["its end", "an exception"])
def test_what_a_stream_has_counted_adds_up(left_by: str, backend: str) -> None:
    """S2: However its block is left."""
    given = {"read": 1, "overflow": "block", "left_by": left_by, "delivery": "sequential"}
    program = Program(counts_as_it_is_left, tuple(given.items()))
    assert BusSubject(EventBus, backend).attempt(program).left is None


@pytest.mark.unmeasured
def test_what_fails_at_once_is_noted(backend: str) -> None:
    """E3: Of our own bus, in many programs in which several handlers fail."""
    verdict = search(CLAUSES["E3"], BusSubject(EventBus, backend), 40, 3)
    assert verdict.violation is None, str(verdict.violation)


WALK: Any = (
    ("end", 0, "unsubscribe"),
    ("subscribe", "a", 3, "c", "handler"),
    ("subscribe", "a.*", 1, "d", "once"),
    ("subscribe", "**", 5, "c", "stream"),
    ("answer", "a", "c"),
    ("answer", "a", "d"),
    ("publish", "a.b"),
    ("ask", "a"),
    ("ask", "a.b"),
    ("watch",),
    ("end", 1, "unsubscribe"),
    ("end", 2, "by its end"),
    ("end", 0, "by an exception"),
    ("empty", "c"),
)


@pytest.mark.parametrize("clause", ["A1", "B5", "B6", "B12", "S1"])
def test_a_walk_knows_what_is_subscribed(clause: str, backend: str) -> None:
    """P1: A walk through all that can be subscribed and ended finds what its model says."""
    walk = walk_of(clause, WALK)
    assert BusSubject(EventBus, backend).attempt(walk).left is None
    assert len([*walk.smaller()]) == len(WALK)


FREES = Program(
    frees_what_failed,
    (
        ("ends", "returns"),
        ("option", ""),
        ("delivery", "sequential"),
        ("policy", "continue"),
        ("watched", True),
    ),
)


class Bare:
    """Has the four methods of a bus alone."""

    def __init__(self) -> None:
        bus = EventBus()
        self.unsubscribe, self.unsubscribe_all = bus.unsubscribe, bus.unsubscribe_all
        self.publish: Any = bus.publish
        self.real = bus

    async def subscribe(self, *given: Any, **options: Any) -> Subscription:
        return await self.real.subscribe(*given, **options)


@pytest.mark.parametrize(
    "program",
    [
        walk_of("B5", WALK),
        Program(yields_whatever_is_done, (("acts", ("asked",)),)),
        FREES,
    ],
    ids=["walks", "yields", "frees"],
)
def test_a_bus_need_not_have_all_that_is_crossed(program: Program, backend: str) -> None:
    """P5: What a bus lacks is left out."""
    assert BusSubject(Bare, backend).attempt(program).left is None


class Plain:
    """Has patterns of one part alone."""

    def __init__(self) -> None:
        self.real = EventBus()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def subscribe(self, event: str, *given: Any, **options: Any) -> Any:
        if "**" in event:
            raise ValueError("only * stands for something")
        return self.real.subscribe(event, *given, **options)


@pytest.mark.unmeasured
@pytest.mark.parametrize("company", COMPANIES)
def test_a_bus_need_not_have_all_patterns(company: str, backend: str) -> None:
    """P5: Which ones there must be is for B10 to say; the company does without the others."""
    assert BusSubject(Plain, backend).attempt(accompany(SCRIPT, company)).left is None


@pytest.mark.same_everywhere
def test_what_needs_all_patterns_is_not_drawn_without_them(backend: str) -> None:
    """P5: Only B10 fails; walks and crossings are for buses that have `**`."""
    found = examine(BusSubject, CONTRACT, Plain, backend=backend, examples=3, seed=1)
    assert [each.clause.identifier for each in found if each.violation] == ["B10"]


class Keeping(Bare):
    """Keeps all that was published."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[object] = []
        self.publish = self.keep

    async def keep(self, event: str, data: object = None, **options: Any) -> Any:
        self.kept.append(data)
        return await self.real.publish(event, data, **options)


def test_what_a_bus_keeps_is_found(backend: str) -> None:
    """P1, B6: A payload that stays in memory, also after a collection, is told of."""
    trace = BusSubject(Keeping, backend).attempt(FREES)
    assert "stays in memory" in str(trace.left)


def test_what_is_in_company_is_first_tried_alone() -> None:
    """P1: A case that breaks its clause alone, too, is shown without company."""
    alone, *others = accompany(SCRIPT, "all").smaller()
    assert alone is SCRIPT
    assert [each.case for each in others if isinstance(each, Accompanied)] == [*SCRIPT.smaller()]
    assert accompany(SCRIPT, "all").text == SCRIPT.text
    assert accompany(SCRIPT, "all").main() == SCRIPT.main()


@pytest.mark.unmeasured
@pytest.mark.parametrize("name", COMPANIES)
def test_a_clause_holds_in_each_company(name: str, backend: str) -> None:
    """P1: A script, and a program, find the same in company as alone."""
    subject = BusSubject(EventBus, backend)
    trace = subject.attempt(accompany(SCRIPT, name))
    assert [entry.what for entry in trace.entries if entry.what != "asked"] == [
        entry.what for entry in subject.attempt(SCRIPT).entries
    ]
    assert subject.attempt(accompany(walk_of("B12", WALK), name)).left is None


def test_what_breaks_a_clause_in_company_is_shown_with_it(backend: str) -> None:
    """P1: The program that is shown fails by itself, and names the company."""
    cases = st.just(accompany(SCRIPT, "watched publishes"))
    clause = Clause("B5", "", "", cases, CLAUSES["B5"].complain)
    for each in (clause, Clause("B12", "", "", st.just(accompany(walk_of("B5", WALK), "all")))):
        [verdict] = examine(BusSubject, [each], Unwatched, backend=backend, examples=1, seed=1)
        assert verdict.violation is not None
        shown: dict[str, Any] = {"__name__": "shown"}
        exec(verdict.violation.counterexample, shown)  # noqa: S102  that it can be run is tested
        with pytest.raises(AssertionError, match=f"{each.identifier} does not hold"):
            shown[f"test_{each.identifier.lower()}"]()
