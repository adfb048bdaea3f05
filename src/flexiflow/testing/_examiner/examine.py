"""Examine a bus, a component, or a transport, clause by clause (P1).

A `Subject` stands for what is examined: it runs a *case*, and shows it as Python. A case is a
script, which is data, or a program, which is an async function. For each clause, in the contract's
order:

1. Hypothesis draws a case of the clause. All is drawn before an event loop starts; the schedule of
   the tasks is a part of the case.
2. The subject runs the case in a new event loop, and returns a trace of what happened.
3. The clause judges the trace; a program also claims by itself. A complaint, or an exception that
   left the case, means that the case breaks the clause.
4. Once a case breaks it, Hypothesis shrinks that, if it can do so well; then parts of the smallest
   case are left out, one at a time, as long as what is left still breaks the clause.
5. The smallest case becomes a `ContractViolation`, with its program, its history, and the seed.

After `examples` cases without a complaint the clause holds. A clause that has no cases, or needs
what the subject does not offer, is not tried. What the user's factory raises is no violation: it
ends the examination. Meanwhile the library's log is kept from the user's.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final, NoReturn

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis.errors import Flaky, Unsatisfiable

from flexiflow.testing._examiner.errors import show_error
from flexiflow.testing._examiner.program import Program, as_program, operations
from flexiflow.testing._examiner.recurrence import recur
from flexiflow.testing._examiner.selection import select
from flexiflow.testing._examiner.subject import FactoryFailed, NotOffered
from flexiflow.testing._examiner.verdict import Verdict
from flexiflow.testing._examiner.violation import EXAMPLES, ContractViolation
from flexiflow.testing._scheduling.checks import check_int

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hypothesis import strategies as st

    from flexiflow.testing._examiner.clause import Clause
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.subject import Subject
    from flexiflow.testing._examiner.trace import Trace

_MOST_REFUSED: Final = 100
"""If so many cases all need something that the subject lacks, no more are drawn."""
_SETTINGS: Final = hypothesis.settings(
    database=None,
    deadline=None,
    derandomize=False,
    phases=[Phase.generate, Phase.shrink],
    print_blob=False,
    report_multiple_bugs=False,
    suppress_health_check=[
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
        HealthCheck.large_base_example,
        HealthCheck.nested_given,
        HealthCheck.too_slow,
    ],
    verbosity=Verbosity.quiet,
)


def examine(
    new_subject: Callable[..., Subject[Any]],
    clauses: Iterable[Clause],
    *given: Any,
    examples: int = EXAMPLES,
    seed: int | None = None,
    only: Iterable[str] | None = None,
    strict: bool = False,
    **options: Any,
) -> Iterator[Verdict]:
    """Try to break one clause after another, and yield its verdict.

    Args:
        new_subject: the type of what is examined.
        clauses: the clauses.
        given: what the subject is made from.
        examples: how many cases a clause is tried with.
        seed: draws the same cases again; if None, one is drawn.
        only: the names of the clauses that are tried; if None, all of them.
        strict: whether a clause fails if the subject lacks what it needs; one that is named does.
        options: what else the subject is made from, the backend among them.

    Raises:
        Exception: what `check_bus` raises, except for a violation; already at the call.
    """
    # First, since making the subject calls what the user has given.
    check_int("examples", examples, least=1)
    if seed is None:
        seed = secrets.randbits(32)
    check_int("seed", seed, least=0)
    selected = select(clauses, only)
    subject = new_subject(*given, **options)
    return _examine(subject, selected, examples, seed, must_offer=strict or only is not None)


def _examine(
    subject: Subject[Any],
    clauses: Iterable[Clause],
    examples: int,
    seed: int,
    *,
    must_offer: bool,
) -> Iterator[Verdict]:
    for clause in clauses:
        try:
            verdict = search(clause, subject, examples, seed)
            verdict = subject.examine_further(verdict, examples, seed)
        except FactoryFailed as exc:
            raise exc.reason from None
        if must_offer and verdict.lacks and verdict.violation is None:
            verdict = replace(verdict, violation=_not_offered(verdict, subject, seed))
        yield verdict


def _not_offered(verdict: Verdict, subject: Subject[Any], seed: int) -> ContractViolation:
    clause, check = verdict.clause, f"check_{subject.kind}"
    options = f'backend="{subject.backend}", clauses=("{clause.identifier}",), examples=1, seed=1'
    imports = [f"from flexiflow.testing import {check}", *subject.imports()]
    run = [f"{check}({subject.arguments()}, {options})"]
    return ContractViolation(
        clause=clause.identifier,
        sentence=clause.sentence,
        complaint=f"this {subject.kind} has {verdict.missing}",
        counterexample=as_program("\n".join(imports), clause.identifier, run),
        history="",
        operations=0,
        backend=subject.backend,
        seed=seed,
        verdict="not offered",
    )


def search(clause: Clause, subject: Subject[Any], examples: int, seed: int) -> Verdict:
    """Search for a case that breaks a clause."""
    lacks = tuple(need for need in clause.needs if need not in subject.offers)
    if clause.cases is None or lacks:
        return Verdict(clause, 0, None, lacks)
    return _Search(clause, subject.cases_of(clause, clause.cases), subject).run(examples, seed)


class _Broken(Exception):
    """Raised when a case breaks the clause, for Hypothesis to find and to shrink."""


class _Search:
    """The search for a case that breaks a clause."""

    def __init__(
        self, clause: Clause, cases: st.SearchStrategy[Case], subject: Subject[Any]
    ) -> None:
        self._clause = clause
        self._cases = cases
        self._subject = subject
        self._tried = 0
        self._refused = 0
        self._lacks: set[str] = set()
        self._found: list[tuple[Case, str, Trace]] = []

    def run(self, examples: int, seed: int) -> Verdict:
        """Try at most so many cases; make the first that breaks the clause as small as possible.

        At most as many scenes are tried before that, and then the clause's share of cases.
        """
        scenes = self._subject.scenes_of(self._clause)
        for case in Random(seed).sample(scenes, min(examples, len(scenes))):  # noqa: S311
            self._tried += 1
            if self._breaks(case):
                self._find_shorter(scenes, case)
                return Verdict(self._clause, self._tried, self._violation(seed))
        most = max(1, round(examples * self._clause.share))
        drawing = hypothesis.given(self._cases)(self._attempt)
        phases = _SETTINGS.phases if self._clause.is_shrunk else (Phase.generate,)
        settings = hypothesis.settings(_SETTINGS, max_examples=most, phases=phases)
        try:
            hypothesis.seed(seed)(settings(drawing))()
        except (_Broken, Flaky):
            # A flaky case, too, broke the clause once.
            pass
        except (NotOffered, Unsatisfiable):
            return Verdict(self._clause, 0, None, tuple(sorted(self._lacks)))
        else:
            return Verdict(self._clause, self._tried, None)
        # Here, since what it runs again would else have the exception above as its context.
        return Verdict(self._clause, self._tried, self._violation(seed))

    def _find_shorter(self, scenes: tuple[Case, ...], found: Case) -> None:
        """Try programs that are shorter than one that was found; the shortest is to be shown."""
        shorter = [each for each in scenes if operations(each) < operations(found)]
        if isinstance(found, Program):
            any(map(self._breaks, sorted(shorter, key=operations)))

    def _attempt(self, case: Case) -> None:
        was_found = bool(self._found)
        try:
            breaks = self._breaks(case)
        except NotOffered as exc:
            self._lacks |= {*exc.lacks}
            self._refused += 1
            if not self._tried and self._refused == _MOST_REFUSED:
                raise
            hypothesis.reject()
        self._tried += not was_found
        if breaks:
            self._break()

    def _break(self) -> NoReturn:
        # Always from the same line, so that Hypothesis takes all of them for one bug.
        raise _Broken

    def _breaks(self, case: Case) -> bool:
        case = self._subject.fit(case, self._clause.needs)
        trace = self._subject.attempt(case)
        complaint = self._clause.judge(trace)
        if complaint is not None:
            # Only the last one is used, and a trace holds all that happened.
            self._found = [(case, complaint, trace)]
        return complaint is not None

    def _violation(self, seed: int) -> ContractViolation:
        # Of the smallest case that Hypothesis found, more can often be left out.
        while any(map(self._breaks, self._found[0][0].smaller())):
            pass
        [(case, complaint, trace)] = found = self._found
        recurrence = recur(partial(self._breaks, case), self._subject.repeats)
        self._found = found
        return ContractViolation(
            clause=self._clause.identifier,
            sentence=self._clause.sentence,
            complaint=complaint,
            counterexample=self._subject.show(case, self._clause.identifier),
            history=trace.story(),
            operations=operations(case),
            backend=self._subject.backend,
            seed=seed,
            error=show_error(trace.left),
            **recurrence,
        )
