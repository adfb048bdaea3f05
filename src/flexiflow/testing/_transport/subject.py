"""A transport, as it is examined (P1).

`examine` tries the clauses; this module says how a transport is tried. First the factory is called,
to see whether it makes a transport. Then, for each clause, in the contract's order:

1. Scripts. Hypothesis draws steps, as `moves` defines them. They are played on a `Desk`,
   which calls a new transport, follows a reference model, and raises `Broken` at the first
   difference. The clause is broken if `Broken` names it, or if another exception leaves the script.
   `Inconclusive`, raised where a lease may have run out on a busy machine, breaks none.
2. Scenarios of the universal suite, if no script has broken the clause. They run through bridges:
   each once, and then several at once that are as many times smaller. A scenario that raises breaks
   the clause.

Scripts run in real time, for at most `_PATIENCE` seconds each, with leases of `lease` seconds. With
`lease=None` they run in virtual time, with leases of 10 s. Scenarios always run in real time. A
clause is reported with what it lacks, as an option of the factory or a hook like `restart`; what
needs that is left out. What the factory raises ends the examination.
"""

from __future__ import annotations

import math
import reprlib
from functools import partial
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Final, cast, final

import anyio

from flexiflow._callables import check_callable, is_coroutine_callable
from flexiflow._text import safely
from flexiflow.testing._examiner.clause import describe
from flexiflow.testing._examiner.errors import show_error
from flexiflow.testing._examiner.kit import bounded
from flexiflow.testing._examiner.program import PROGRAMS, as_program, asserted, name_factory
from flexiflow.testing._examiner.recurrence import recur
from flexiflow.testing._examiner.steps import block
from flexiflow.testing._examiner.subject import Log, Subject, unblamed
from flexiflow.testing._examiner.trace import Entry, Trace
from flexiflow.testing._examiner.verdict import Verdict
from flexiflow.testing._examiner.violation import ContractViolation
from flexiflow.testing._scheduling.backends import run_scheduled
from flexiflow.testing._scheduling.failures import TasksLeft
from flexiflow.testing._transport import (
    universal_later,
    universal_order,
    universal_reach,
    universal_waiting,
)
from flexiflow.testing._transport.desk import open_desk
from flexiflow.testing._transport.desk_calls import HOOKS, Broken, Inconclusive, Means
from flexiflow.testing._transport.universal import Universal, play

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from flexiflow.testing._examiner.clause import Clause
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.steps import Lines
    from flexiflow.testing._transport.moves import TransportScript

_OPTIONS: Final = (
    "partitions",
    "max_length",
    "max_event_bytes",
    "max_scheduled",
    "idempotency_window",
)
_VIRTUAL_LEASE: Final = 10.0
_PATIENCE: Final = 120.0
"""After so many seconds, a script that still runs in real time is stuck."""
_TIMES: Final = 10
"""How often a scenario plays at once, each as many times smaller; less often at a small scale."""


_UNIVERSALS: Final = tuple(
    each
    for module in (universal_reach, universal_order, universal_waiting, universal_later)
    for each in vars(module).values()
    if isinstance(each, Universal)
)
"""All scenarios; those of one clause are played in this order."""


@final
class TransportSubject(Subject[Trace]):
    """A transport.

    Args:
        factory: makes one, new and empty, or returns a context manager that does.
        backend: the backend on which it runs.
        lease: the length of a lease in the scripts, in seconds, or None for virtual time.
        scale: the size of the universal suite.
        hooks: the optional hooks of `check_transport`, each an async function or None.

    Raises:
        TypeError: the factory or a hook can't be one, or what the factory makes is no transport.
        ValueError: `lease` or `scale` is no number above 0.
    """

    kind = "transport"
    repeats = 1

    def __init__(
        self,
        factory: Callable[..., Any],
        *,
        backend: str,
        lease: float | None = 1.0,
        scale: float = 1.0,
        **hooks: Callable[..., Any] | None,
    ) -> None:
        super().__init__(backend, Trace)
        check_callable("factory", factory, 0)
        _check_number("scale", scale)
        if lease is not None:
            _check_number("lease", lease)
        given = {name: hooks[name] for name in HOOKS if hooks.get(name) is not None}
        self._hooks: dict[str, Any] = given
        for name, hook in given.items():
            _check_hook(name, hook, HOOKS[name])
        self._times = max(2, min(_TIMES, round(100 * scale)))
        self._scale = scale
        self._factory = factory
        self._is_virtual = lease is None
        self._means = Means(unblamed(factory), lease or _VIRTUAL_LEASE, **self._hooks)
        self.offers = frozenset({*self._hooks} | _options_of(factory))
        with Log():
            self._run_script(self._probe)

    async def _probe(self) -> None:
        made = self._factory()
        if not callable(getattr(made, "connect", None)) and not hasattr(made, "__aenter__"):
            raise TypeError(
                "factory must make a transport, which has `connect`, or an async context "
                f"manager that gives one, not {safely(repr, made)}"
            )
        async with open_desk(Means(self._factory)):
            pass

    def play(self, case: Case, trace: Trace, log: Log) -> None:  # noqa: ARG002
        """Play a script to its end, on a new transport."""
        self._run_script(partial(self._play, cast("TransportScript", case), trace))

    async def _play(self, script: TransportScript, trace: Trace) -> None:
        options, history = self._taken(script.options), list[str]()
        try:
            async with open_desk(self._means, history, **options) as desk:
                for method, given in script.acts:
                    await getattr(desk, method)(*given)
                await desk.finish()
        finally:
            trace.entries += map(Entry, history)

    def _run_script(self, main: Callable[[], Awaitable[None]]) -> None:
        if self._is_virtual:
            run_scheduled(main, backend=self.backend)
        else:
            anyio.run(bounded, main, _PATIENCE, backend=self.backend)

    def is_left_by(self, found: list[BaseException], trace: Trace) -> bool:
        """Return whether anything but complaints left a script, and note those by their clause."""
        broken = [each for each in found if isinstance(each, Broken)]
        trace.complaints |= {each.clause: each.complaint for each in broken}
        # What others raise beside `Inconclusive` may come of it.
        is_inconclusive = any(isinstance(each, Inconclusive) for each in found)
        return len(found) > len(broken) and not is_inconclusive

    def attempt(self, case: Case) -> Trace:
        """Run a case to its end; a task that the transport leaves behind has left it, too."""
        trace = super().attempt(case)
        if trace.tasks_left and trace.left is None:
            trace.left = TasksLeft(trace.tasks_left)
        return trace

    def examine_further(self, verdict: Verdict, examples: int, seed: int) -> Verdict:  # noqa: ARG002
        """Play the scenarios of a clause, each once, and then several times at once."""
        if verdict.violation is not None:
            return verdict
        played, lacks = verdict.examples, list(verdict.lacks)
        for each in (each for each in _UNIVERSALS if each.clause == verdict.clause.identifier):
            missing = [need for need in each.needs if need not in self.offers]
            lacks += missing
            # A scenario that restarts the server would disturb others that use it.
            often = (1,) if {"restart", "empty"} & {*each.needs} else (1, self._times)
            for times in () if missing else often:
                played += times
                left = self._left_by(each, times)
                if left is not None:
                    violation = self._scenario_violation(verdict.clause, each, times, left, seed)
                    return Verdict(verdict.clause, played, violation)
        return Verdict(verdict.clause, played, None, tuple(dict.fromkeys(lacks)))

    def _scenario_violation(
        self, clause: Clause, each: Universal, times: int, left: BaseException, seed: int
    ) -> ContractViolation:
        def breaks() -> bool:
            return self._left_by(each, times) is not None

        return ContractViolation(
            clause=clause.identifier,
            sentence=clause.sentence,
            complaint=f"{each.name}: {describe(left)}",
            counterexample=self._show_scenario(each, times),
            history="",
            operations=1,
            backend=self.backend,
            seed=seed,
            error=show_error(left),
            **recur(breaks, self.repeats),
        )

    def _left_by(self, each: Universal, times: int) -> BaseException | None:
        """Play a scenario so many times at once; return what it raises, or None."""
        options = self._taken(each.takes)
        main = partial(play, each, self._means, self._scale / times, times, **options)
        trace = Trace()
        try:
            with Log():
                anyio.run(bounded, main, _longest(self._scale), backend=self.backend)
        except BaseException as exc:  # noqa: BLE001  whatever a faulty transport lets out
            self.note_left(exc, trace)
        return trace.left

    def _taken(self, options: tuple[tuple[str, int], ...]) -> dict[str, int]:
        """Return the options that the factory takes, of those that are wanted."""
        return {name: value for name, value in options if name in self.offers}

    def show(self, case: Case, clause: str) -> str:
        """Return a script as a program that fails with an assertion if it breaks the clause."""
        script = cast("TransportScript", case)
        opened = f"open_transport({self._means_text()}{_text(self._taken(script.options))})"
        lines = block(f"async with {opened} as desk:", [*script.main(), "await desk.finish()"])
        run = self._run_for(_PATIENCE)
        if self._is_virtual:
            run = f'replay(main, backend="{self.backend}", decisions=())'
        return self._program(clause, "open_transport", lines, run)

    def _run_for(self, seconds: float) -> str:
        return f'anyio.run(bounded, main, {seconds}, backend="{self.backend}")'

    def _show_scenario(self, each: Universal, times: int) -> str:
        given = f"{self._means_text()}, {self._scale / times}, {times}"
        line = f'await play_scenario("{each.name}", {given}{_text(self._taken(each.takes))})'
        run = self._run_for(_longest(self._scale))
        return self._program(each.clause, "play_scenario", [line], run)

    def _means_text(self) -> str:
        given = "".join(f", {name}={name}" for name in self._hooks)
        return f"Means(factory, {self._means.lease}{given})"

    def _program(self, clause: str, function: str, lines: Lines, run: str) -> str:
        is_replay = run.startswith("replay(")
        names = ["Means", "asserting", *([] if is_replay else ["bounded"]), function]
        parts = [
            "from flexiflow.testing import replay" if is_replay else "import anyio",
            f"from {PROGRAMS} import {', '.join(names)}",
            *self.imports(),
            *("", "", *block("async def main():", lines)),
        ]
        return as_program("\n".join(parts), clause, asserted(clause, [run]))

    def imports(self) -> list[str]:
        """Return the lines that import the factory and the hooks."""
        hooks = self._hooks.items()
        return [
            name_factory(self._factory, makes="your transport"),
            *(name_factory(hook, name, f"your hook {name!r}") for name, hook in hooks),
        ]

    def arguments(self) -> str:
        """Return the factory, the hooks and the terms, as arguments of `check_transport`."""
        hooks = "".join(f", {name}={name}" for name in self._hooks)
        lease = None if self._is_virtual else self._means.lease
        return f"factory{hooks}, lease={lease}, scale={self._scale}"


async def play_scenario(name: str, means: Means, scale: float, times: int, **options: int) -> None:
    """Play the scenario of a name several times at once, as a program that is shown does."""
    each = next(each for each in _UNIVERSALS if each.name == name)
    await play(each, means, scale, times, **options)


def _longest(scale: float) -> float:
    """Return after how many seconds a scenario that still runs is stuck."""
    return 30 + 600 * scale


def _options_of(factory: Callable[..., Any]) -> set[str]:
    """Return the names of the options that a factory takes."""
    parameters = signature(factory).parameters.values()
    if any(each.kind is Parameter.VAR_KEYWORD for each in parameters):
        return set(_OPTIONS)
    return {each.name for each in parameters if each.name in _OPTIONS}


def _check_hook(what: str, hook: object, arguments: int) -> None:
    """Refuse anything but an async function with so many arguments."""
    check_callable(what, hook, arguments)
    if not is_coroutine_callable(hook):
        raise TypeError(f"{what} must be an async function, not {reprlib.repr(hook)}")


def _check_number(what: str, given: Any) -> None:
    """Refuse anything but a number above 0."""
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not 0 < given < math.inf:
        raise ValueError(f"{what} must be a number above 0, not {reprlib.repr(given)}")


def _text(options: Mapping[str, int]) -> str:
    return "".join(f", {name}={value}" for name, value in options.items())
