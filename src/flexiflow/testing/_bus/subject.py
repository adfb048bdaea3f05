"""A bus as a subject: what it offers, and how its cases run and are shown."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from inspect import isawaitable
from random import Random
from typing import TYPE_CHECKING, Any, Final, final

from hypothesis import strategies as st

from flexiflow._callables import check_callable
from flexiflow._text import safely
from flexiflow.testing._bus.company import accompany, alone, call_in_company, companies_of
from flexiflow.testing._bus.crossed import blame, complaint_of
from flexiflow.testing._bus.crossing import Crossing
from flexiflow.testing._bus.drawing import cross
from flexiflow.testing._bus.fitting import Guarded, fit
from flexiflow.testing._bus.further_cases import FURTHER
from flexiflow.testing._bus.offers import METHODS, USES, options_of, returns_failures
from flexiflow.testing._bus.recorder import BusRecorder
from flexiflow.testing._bus.scenes import SCENES
from flexiflow.testing._bus.script import Script
from flexiflow.testing._bus.trace import BusTrace
from flexiflow.testing._examiner.clause import often
from flexiflow.testing._examiner.examine import search
from flexiflow.testing._examiner.program import (
    Program,
    defined,
    name_factory,
    show_program,
    show_script,
)
from flexiflow.testing._examiner.subject import FactoryFailed, Log, Subject, out_of_factory
from flexiflow.testing._scheduling.backends import run_scheduled
from flexiflow.testing._scheduling.failures import TasksLeft

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow.testing._examiner.clause import Clause
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.verdict import Verdict

CROSSINGS: Final = 3
"""How many crossings are tried for each example of a clause."""

_PLAIN: Final = ("B1", "B3", "T1")
"""The clauses that no company concerns, or whose programs are called in several runs."""
_ALONE: Final = 3
"""How many cases of a clause are alone, for each one that is in company."""
_OPTIONAL: Final = {f"subscribe({each}=)" for each in ("limit", "time_limit", "around")}
_CROSSED: Final = USES.keys() - _OPTIONAL
"""What a bus must offer for crossings to be tried."""
_METHODS: Final = {
    "subscribe": ("event", "component", "handler"),
    "unsubscribe": ("subscription",),
    "unsubscribe_all": ("component",),
    "publish": ("event", "data"),
}
"""What a bus must have, with the arguments that it is called with."""


@final
class BusSubject(Subject[BusTrace]):
    """A bus.

    Args:
        factory: makes one, or returns one when it is awaited.
        backend: the backend on which it runs.

    Raises:
        TypeError: the factory isn't callable, or what it makes lacks one of the methods of a bus,
            or one does not take its arguments, or is the same bus again.
    """

    kind = "bus"

    def __init__(self, factory: Callable[[], Any], backend: str) -> None:
        super().__init__(backend, BusTrace)
        if not callable(factory):
            raise TypeError(
                f"factory must be callable without arguments, not {safely(repr, factory)}"
            )
        self._factory = factory
        self._blamed: tuple[str, Case] | None = None
        with Log():
            bus, self._is_async = run_scheduled(self._probe, backend=backend)
            parts = {name for name, use in USES.items() if self._offers(use)}
            has_failures = self._offers(returns_failures)
        methods = {name for name in METHODS if callable(getattr(bus, name, None))}
        self.offers = frozenset(methods | parts | options_of(parts))
        self._lacks_parts = parts < USES.keys()
        # Scenes of many clauses look at what `publish` returns, which E1 promises.
        self._has_scenes = has_failures and not self._lacks_parts

    async def _probe(self) -> tuple[Any, bool]:
        """Return a bus, and whether the factory's result has to be awaited."""
        made, again = self._factory(), self._factory()
        is_async = isawaitable(made)
        if is_async:
            made, again = await made, await again
        missing = [name for name in _METHODS if not callable(getattr(made, name, None))]
        if missing:
            raise TypeError(
                f"factory must make a bus, with the methods {', '.join(_METHODS)}, "
                f"not {safely(repr, made)}, which lacks {', '.join(missing)}"
            )
        for name, arguments in _METHODS.items():
            role = f"{name}({', '.join(arguments)}) of the bus"
            check_callable(role, getattr(made, name), len(arguments))
        if again is made:
            raise TypeError(
                f"factory must make a new bus each time, not {safely(repr, made)} again"
            )
        return made, is_async

    def _offers(self, use: Callable[[Any], Awaitable[bool]]) -> bool:
        """Return whether a new bus has a part, which is used."""
        answers: list[bool] = []

        async def main() -> None:
            answers.append(await use(await self._make()))

        # A signature does not show it: a wrapper may take any option and hand it on in vain.
        try:
            run_scheduled(main, backend=self.backend)
        except FactoryFailed as exc:
            raise exc.reason from None
        except (TypeError, NotImplementedError):
            return False
        except TasksLeft:
            # A clause will report that. The bus has answered.
            pass
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001  a failure, or an exit, that some clause will report
            return True
        return all(answers)

    def fit(self, case: Case, needs: tuple[str, ...]) -> Case:
        """Return a script without the options and patterns that the bus does not offer."""
        if self._lacks_parts and isinstance(case, Script):
            return fit(case, self.offers, needs)
        return case

    def cases_of(self, clause: Clause, cases: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
        """Draw a clause's cases, and those that cross features; some of them in company.

        A bus that lacks something gets the clause's own alone.
        """
        if self._lacks_parts or clause.identifier in _PLAIN:
            return cases
        if clause.identifier in FURTHER:
            cases = st.one_of(often(2, cases), FURTHER[clause.identifier])
        companies = st.sampled_from(companies_of(self.offers))
        return st.one_of(often(_ALONE, cases), st.builds(accompany, cases, companies))

    def scenes_of(self, clause: Clause) -> tuple[Case, ...]:
        """Return what a clause is tried with first, if the bus has what that takes."""
        if clause.scenes or not self._has_scenes:
            return clause.scenes
        return SCENES.get(clause.identifier, ())

    def examine_further(self, verdict: Verdict, examples: int, seed: int) -> Verdict:
        """Look for a crossing that breaks the clause; all clauses have the same ones."""
        if verdict.violation is not None or verdict.lacks:
            return verdict
        if self._blamed is None and self.offers >= _CROSSED:
            self._blamed = self._cross(CROSSINGS * examples, seed)
        identifier, case = self._blamed or ("", Crossing((), ()))
        if identifier != verdict.clause.identifier:
            return verdict
        clause = replace(
            verdict.clause,
            cases=st.just(case),
            complain=partial(complaint_of, identifier),
            scenes=(case,),
        )
        return replace(verdict, violation=search(clause, self, 1, seed).violation)

    def _cross(self, number: int, seed: int) -> tuple[str, Case]:
        """Try so many crossings; return the clause that most of them break, with the first one."""
        found: dict[str, list[Case]] = {}
        for case in cross(Random(seed), self.offers, number):  # noqa: S311  to be drawn again
            blamed = blame(self.attempt(case))
            if blamed is not None:
                found.setdefault(blamed[0], []).append(case)
        if not found:
            return "", Crossing((), ())
        # Other clauses are mostly broken in consequence.
        most = max(found, key=lambda identifier: len(found[identifier]))
        return most, found[most][0]

    async def _make(self) -> Any:
        with out_of_factory():
            made = self._factory()
            return await made if self._is_async else made

    def play(self, case: Case, trace: BusTrace, log: Log) -> None:
        """Run a case to its end, on a new bus; a script has a recorder in its place."""
        case, company = alone(case)
        if isinstance(case, Program):
            self._play_program(case, trace, company)
            return
        self.play_main(defined("bus", case.main()), case.decisions, trace, log, company)

    def play_main(
        self,
        main: Callable[[Any], Awaitable[None]],
        decisions: tuple[int, ...],
        trace: BusTrace,
        log: Log,
        company: str | None = None,
    ) -> None:
        """Call an async function with the recorder of a new bus, perhaps in company."""

        async def record(bus: Any) -> None:
            await main(log.enter(BusRecorder(bus, trace, self.offers)))

        async def call() -> None:
            await call_in_company(company, record, await self._make())

        self.run(call, decisions, trace)

    def _play_program(self, program: Program, trace: BusTrace, company: str | None) -> None:
        buses: list[Any] = []
        if program.runs > 1:
            # A sync factory is called outside of any loop. What it raises there breaks the clause.
            is_async, backend = self._is_async, self.backend
            buses += [run_scheduled(self._make, backend=backend) if is_async else self._factory()]

        async def main(run: int) -> None:
            made = buses or [await self._make() for _ in range(program.takes)]
            if self._lacks_parts:
                made = [Guarded(each, self.offers) for each in made]
            await call_in_company(company, program.start, *made, run=run)

        for run in range(1, program.runs + 1):
            self.run(partial(main, run), program.decisions, trace)

    def imports(self) -> list[str]:
        """Return the line that imports the factory."""
        return [name_factory(self._factory)]

    def show(self, case: Case, clause: str) -> str:
        """Return a case as a program that fails with an assertion if it breaks the clause."""
        factories, backend = [name_factory(self._factory)], self.backend
        case, company = alone(case)
        if not isinstance(case, Program):
            options = {"company": company, "is_crossing": isinstance(case, Crossing) or None}
            known: dict[str, Any] = {key: each for key, each in options.items() if each is not None}
            return show_script(
                case, clause, {"factory": factories[0]}, backend, "bus", "judge_bus", **known
            )
        new = "await factory()" if self._is_async else "factory()"
        made: list[str] = []
        uses: list[str] = []
        if company is not None:
            uses.append("call_in_company")
            function, given = case.function.__name__, case.call(*[new] * case.takes)
            call = f'await call_in_company("{company}", {function}, '
            mains = [[given.replace(f"await {function}(", call, 1)]]
        elif case.runs == 1:
            mains = [[case.call(*[new] * case.takes)]]
        else:
            if self._is_async:
                # The factory itself need not be an async function, which `replay` asks for.
                made = ["async def make():\n    return await factory()"]
                new = f'replay(make, backend="{self.backend}", decisions=())'
            made.append(f"bus = {new}")
            mains = [[case.call("bus", run=run)] for run in range(1, case.runs + 1)]
        return show_program(case, clause, factories, backend, *made, mains=mains, uses=uses)
