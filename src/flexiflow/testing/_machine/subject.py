"""A machine, as it is examined (P6): how programs run with it, and how they are shown.

Before anything is drawn, the engine is made once, and each component is asked for, to look at its
machine: its states, and the times of its timers.

The first claim that does not hold is the only one from then on: so a program that shrinks goes on
breaking the same one.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, cast, final

from flexiflow._callables import check_callable
from flexiflow._engine import ask_for
from flexiflow._errors import UnknownComponent
from flexiflow._text import show
from flexiflow.testing._examiner.clause import describe
from flexiflow.testing._examiner.program import PROGRAMS, name_factory
from flexiflow.testing._examiner.steps import block
from flexiflow.testing._examiner.subject import FactoryFailed, Log, Subject, out_of_factory
from flexiflow.testing._examiner.trace import Trace
from flexiflow.testing._machine.claims import END
from flexiflow.testing._machine.coverage import Coverage
from flexiflow.testing._machine.desk import ClaimBroken, Desk, make_engine
from flexiflow.testing._machine.report import LeadsTo, MachineReport
from flexiflow.testing._machine.watch import Violation
from flexiflow.testing._scheduling.backends import run_scheduled
from flexiflow.testing._scheduling.failures import TasksLeft

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flexiflow._engine import Engine
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._machine.claims import Claim, Claims
    from flexiflow.testing._machine.desk import Place
    from flexiflow.testing._machine.draft import Draft
    from flexiflow.testing._machine.functions import Shown
    from flexiflow.testing._machine.script import Script


class MachineTrace(Trace):
    """All that happened in a program.

    Attributes:
        violation: the claim that does not hold, or None.
    """

    violation: Violation | None = None


@final
class MachineSubject(Subject[MachineTrace]):
    """An engine with components of the user's.

    Args:
        make: makes the engine; sync or async.
        names: those of the components that messages are drawn for.
        claims: what is claimed about them.
        backend: the backend on which they run.

    Attributes:
        times: the seconds that the timers of the machines take.
        claim: the claim that does not hold; None while there is none.

    Raises:
        TypeError: `make` makes no engine.
        ValueError: a component is not there, or has no machine; a claim names an unknown state.
        Exception: what `make` has raised.
    """

    kind = "machine"

    def __init__(
        self, make: Callable[[], Any], *, names: tuple[str, ...], claims: Claims, backend: str
    ) -> None:
        super().__init__(backend, MachineTrace)
        check_callable("make", make, 0)
        self._user_make = make
        self._names = names
        self._claims = claims
        self._last: Engine | None = None
        self._coverage = Coverage()
        self._messages = self._unfinished = 0
        self._failures = Counter[str]()
        self._results: Counter[tuple[Claim, str]] = Counter()
        self.claim: Claim | None = None
        with Log():
            self._places = run_scheduled(self._probe, backend=backend)
        machines = [machine for machine, _ in self._places.values()]
        states = dict.fromkeys(state for each in machines for state in each.states)
        triggers = dict.fromkeys(row.trigger for each in machines for row in each.transitions)
        claims.check_names(states=[*states], triggers=[*triggers])
        timers = (each.after for machine in machines for each in machine.details.values())
        self.times = {timer[0] for timer in timers if timer is not None}

    async def _probe(self) -> dict[str, Place]:
        """Return the machine of each component, and the state in which it begins."""
        self._last = engine = await make_engine(self._user_make)
        return {name: await _find_place(engine, name) for name in self._names}

    async def _make(self) -> Engine:
        """Make an engine; what goes wrong ends the whole check."""
        with out_of_factory():
            engine = await make_engine(self._user_make)
            if engine is self._last:
                raise ValueError("make must make a new engine each time, and made the same again")
        self._last = engine
        return engine

    def attempt(self, case: Case) -> MachineTrace:
        """Run a program to its end; if it breaks another claim than the first one, drop that."""
        trace = super().attempt(case)
        if trace.tasks_left:
            trace.left = TasksLeft(trace.tasks_left)
        if trace.left is not None:
            trace.violation = Violation(END, describe(trace.left))
        trace.left = None
        if trace.violation is not None:
            self.claim = self.claim or trace.violation.claim
            if trace.violation.claim != self.claim:
                trace.violation = None
        return trace

    def play(self, case: Case, trace: MachineTrace, log: Log) -> None:  # noqa: ARG002
        """Run a program to its end."""
        script = cast("Draft | Script", case)
        desk = Desk(self._make, self._places, self._claims, self._coverage, trace.entries)
        try:
            self.run(partial(_play, script, desk), case.decisions, trace)
        except ClaimBroken:
            trace.violation = desk.violation
        except BaseException as exc:
            if exc is desk.error:
                raise FactoryFailed(exc) from None
            raise
        self._tally(desk)

    def _tally(self, desk: Desk) -> None:
        """Add up what a program has done."""
        self._messages += desk.messages
        self._failures += desk.failures
        self._unfinished += desk.is_unfinished
        for claim in self._claims.leads_to:
            reached = "held" if claim in desk.reached else "not reached"
            self._results[claim, "inconclusive" if desk.is_exhausted else reached] += 1

    def report(self, examples: int, seed: int) -> MachineReport:
        """Return what was tried, where nothing was found."""
        return MachineReport(
            backend=self.backend,
            seed=seed,
            examples=examples,
            messages=self._messages,
            failures=dict(self._failures),
            unfinished=self._unfinished,
            transitions=self._coverage.report(),
            leads_to=tuple(
                LeadsTo(
                    claim.name,
                    self._results[claim, "held"],
                    self._results[claim, "inconclusive"],
                    self._results[claim, "not reached"],
                )
                for claim in self._claims.leads_to
            ),
        )

    def imports(self) -> list[str]:
        """Return the line that imports what makes the engine."""
        return [name_factory(self._user_make, "make", "your engine")]

    def show(self, case: Case, clause: str) -> str:  # noqa: ARG002  it is named by the claim
        """Return a program that anyone can run, and that fails by itself."""
        claim = self.claim or END
        pairs = zip(claim.conditions, ("condition", "later_condition"), strict=False)
        shown = [each.shown(alias) for each, alias in pairs]
        given = ["make", f"components={[*self._names]!r}"]
        if shown:
            given.append(f"{claim.kind}=[{_together([each.expression for each in shown])}]")
        if self._claims.fair:
            given.append(f"fair={[*self._claims.fair]!r}")
        options = f'backend="{self.backend}", decisions={case.decisions}'
        if not case.decisions:
            options += ", buses_yield=False"
        body = block(") as desk:", cast("Draft | Script", case).main())
        lines = [*block("async with open_machine(", [f"{each}," for each in given]), *body]
        replayed = ["", "", *block("async def main():", lines), "", "", f"replay(main, {options})"]
        return "\n".join([*_head(self.imports(), shown), *replayed, ""])


def _together(expressions: list[str]) -> str:
    """Return one condition, or a pair of them, as an expression."""
    return f"({', '.join(expressions)})" if len(expressions) > 1 else expressions[0]


def _head(imports: list[str], shown: list[Shown]) -> Iterator[str]:
    """Yield the imports of a program, and what is to be filled in."""
    yield "from flexiflow.testing import replay"
    yield f"from {PROGRAMS} import open_machine"
    needed = [*imports, *(each.definition for each in shown)]
    lines = [line for line in dict.fromkeys(needed) if line]
    yield from (line for line in lines if line.startswith("from "))
    placeholders = [line for line in lines if not line.startswith("from ")]
    yield from ["", *placeholders] if placeholders else []


async def _play(script: Draft | Script, desk: Desk) -> None:
    async with desk.open():
        await desk.run(*script.at(desk))


async def _find_place(engine: Engine, name: str) -> Place:
    """Return the machine of a component, and its state.

    Raises:
        ValueError: there is no such component, or it has no machine.
    """
    try:
        component = await ask_for(engine, name)
    except UnknownComponent as exc:
        raise ValueError(
            f"messages has strategies for {show(name)}, but the engine has no such component, and "
            "makes none"
        ) from exc
    if component.machine is None or component.state is None:
        raise ValueError(
            f"messages has strategies for {show(name)}, which has no state machine, and so ignores "
            "every message"
        )
    return component.machine, component.state
