"""Examining transports, clause by clause."""

from __future__ import annotations

import math
import reprlib
from functools import partial
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypedDict, Unpack, final

import anyio

from flexiflow._callables import check_callable
from flexiflow._cancellation import leaves
from flexiflow.testing._check import EXAMPLES, ContractViolation
from flexiflow.testing._code import block
from flexiflow.testing._desk import open_desk
from flexiflow.testing._desk_calls import Broken, Inconclusive, Means
from flexiflow.testing._examine import Subject, Verdict, check_terms, search
from flexiflow.testing._execute import FactoryFailed, Log, unblamed
from flexiflow.testing._program import name_factory
from flexiflow.testing._run import run_scheduled
from flexiflow.testing._transport_contract import TRANSPORT_CONTRACT
from flexiflow.testing._transport_script import Story, TransportScript
from flexiflow.testing._universal import play
from flexiflow.testing._universal_scenarios import UNIVERSALS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from flexiflow.testing._contract import Clause
    from flexiflow.testing._program import Case
    from flexiflow.testing._universal import Universal

Restart: TypeAlias = "Callable[[Any], Awaitable[object]]"
Damage: TypeAlias = "Callable[[Any, int, str], Awaitable[object]]"

_OPTIONS: Final = ("partitions", "max_length")
_VIRTUAL_LEASE: Final = 10.0
_PATIENCE: Final = 120.0
"""After so many seconds a script that runs in real time still is stuck."""
_TIMES: Final = 10
"""How often each scenario plays at once, at as many times smaller a size."""


class Terms(TypedDict, total=False):
    """How a transport is examined; as the arguments of `check_transport`."""

    restart: Restart | None
    damage: Damage | None
    lease: float | None
    scale: float


def examine_transport(
    factory: Callable[..., Any],
    clauses: Iterable[Clause] = TRANSPORT_CONTRACT,
    *,
    backend: str,
    examples: int = EXAMPLES,
    seed: int | None = None,
    **terms: Unpack[Terms],
) -> Iterator[Verdict]:
    """Examine one clause of transports after another.

    Raises:
        Exception: as `check_transport`, and at once, but for a violation.
    """
    drawn = check_terms(backend, examples, seed)
    examination = _Examination(factory, backend, terms)
    examination.probe()
    return examination.run(clauses, examples, drawn)


@final
class _Examination:
    """An examination of one transport on one backend."""

    def __init__(self, factory: Callable[..., Any], backend: str, terms: Terms) -> None:
        check_callable("factory", factory, 0)
        lease, self._scale = terms.get("lease", 1.0), terms.get("scale", 1.0)
        _check_number("scale", self._scale)
        if lease is not None:
            _check_number("lease", lease)
        restart, damage = terms.get("restart"), terms.get("damage")
        self._factory = factory
        self._backend = backend
        self._is_virtual = lease is None
        self._means = Means(unblamed(factory), lease or _VIRTUAL_LEASE, restart, damage)
        hooks = {"restart": restart, "damage": damage}
        offered = {name for name, hook in hooks.items() if hook is not None}
        self._offers = frozenset(offered | _options_of(factory))

    def probe(self) -> None:
        """Make a transport, and open it.

        Raises:
            TypeError: what the factory makes is none.
        """

        async def make() -> None:
            made = self._factory()
            if not callable(getattr(made, "connect", None)) and not hasattr(made, "__aenter__"):
                raise TypeError(
                    "factory must make a transport, which has `connect`, or an async context "
                    f"manager that gives one, not {made!r}"
                )
            async with open_desk(Means(self._factory)):
                pass

        with Log():
            self._run(make)

    def run(self, clauses: Iterable[Clause], examples: int, seed: int) -> Iterator[Verdict]:
        """Try to break one clause after another: with scripts, then through a bridge."""
        subject = Subject(self._backend, self._attempt, self._show, self._offers)
        for clause in clauses:
            [verdict] = search([clause], subject, examples, seed)
            yield self._play_all(verdict, seed) if verdict.violation is None else verdict

    def _play_all(self, verdict: Verdict, seed: int) -> Verdict:
        """Let the scenarios of a clause play, each once, and then so many times at once."""
        played, lacks = verdict.examples, list(verdict.lacks)
        for each in (each for each in UNIVERSALS if each.clause == verdict.clause.identifier):
            missing = [need for need in each.needs if need not in self._offers]
            lacks += missing
            # Where one restarts a server, others may be on it.
            often = (1,) if each.needs else (1, _TIMES)
            for times in () if missing else often:
                played += times
                complaint = self._complaint_of(each, times)
                if complaint is not None:
                    violation = self._violation(verdict.clause, each, times, complaint, seed)
                    return Verdict(verdict.clause, played, violation)
        return Verdict(verdict.clause, played, None, tuple(lacks))

    def _complaint_of(self, each: Universal, times: int) -> str | None:
        options = self._taken(each.takes)
        main = partial(play, each, self._means, self._scale / times, times, **options)
        story = Story()
        try:
            with Log():
                anyio.run(_bounded, main, 30 + 600 * self._scale, backend=self._backend)
        except BaseException as exc:  # noqa: BLE001  as above
            _judge(exc, story)
        return None if story.left is None else _describe(story.left)

    def _violation(
        self, clause: Clause, each: Universal, times: int, complaint: str, seed: int
    ) -> ContractViolation:
        return ContractViolation(
            clause=clause.identifier,
            sentence=clause.sentence,
            complaint=f"{each.name}: {complaint}",
            counterexample=self._show_scenario(each, times),
            history="",
            operations=1,
            backend=self._backend,
            seed=seed,
        )

    def _taken(self, options: tuple[tuple[str, int], ...]) -> dict[str, int]:
        return {name: value for name, value in options if name in self._offers}

    def _attempt(self, case: Case) -> Story:
        """Run a script to its end."""
        story = Story()
        try:
            with Log():
                self._run(partial(self._play, case, story))
        except BaseException as exc:  # noqa: BLE001  whatever a faulty transport lets out
            _judge(exc, story)
        return story

    async def _play(self, case: Case, story: Story) -> None:
        # Its strategies draw nothing else.
        assert isinstance(case, TransportScript)  # noqa: S101
        options = self._taken(case.options)
        async with open_desk(self._means, story.history, **options) as desk:
            for method, given in case.acts:
                await getattr(desk, method)(*given)
            await desk.finish()

    def _run(self, main: Callable[[], Awaitable[None]]) -> None:
        if self._is_virtual:
            run_scheduled(main, backend=self._backend)
        else:
            anyio.run(_bounded, main, _PATIENCE, backend=self._backend)

    def _show(self, case: Case) -> str:
        """Write a script as a program."""
        options = self._taken(case.options) if isinstance(case, TransportScript) else {}
        opened = f"open_desk({self._means_text()}{_text(options)})"
        lines = block(f"async with {opened} as desk:", [*case.main(), "await desk.finish()"])
        return self._program(["from flexiflow.testing._desk import open_desk"], lines)

    def _show_scenario(self, each: Universal, times: int) -> str:
        """Write a scenario as a program."""
        imports = [
            "from flexiflow.testing._universal import play",
            f"from flexiflow.testing._universal_scenarios import {each.name}",
        ]
        terms = f"{self._means_text()}, {self._scale / times}, {times}"
        line = f"await play({each.name}, {terms}{_text(self._taken(each.takes))})"
        return self._program(imports, [line])

    def _means_text(self) -> str:
        hooks = [name for name in ("restart", "damage") if name in self._offers]
        given = "".join(f", {name}={name}" for name in hooks)
        return f"Means(factory, {self._means.lease}{given})"

    def _program(self, imports: list[str], lines: list[str]) -> str:
        hooks = [
            name_factory(hook, name, f"your hook {name!r}")
            for name, hook in (("restart", self._means.restart), ("damage", self._means.damage))
            if hook is not None
        ]
        parts = [
            "import anyio",
            "from flexiflow.testing._desk_calls import Means",
            *imports,
            name_factory(self._factory, makes="your transport"),
            *hooks,
            *("", "", *block("async def main():", lines), "", ""),
            f'anyio.run(main, backend="{self._backend}")',
        ]
        return "\n".join([*parts, ""])


def _text(options: dict[str, int]) -> str:
    return "".join(f", {name}={value}" for name, value in options.items())


def _describe(left: BaseException) -> str:
    leaf = next(iter(leaves(left)))
    if isinstance(leaf, AssertionError):
        return str(leaf)
    return f"it was left by {type(leaf).__name__}: {leaf}"


async def _bounded(main: Callable[[], Awaitable[None]], seconds: float) -> None:
    with anyio.fail_after(seconds):
        await main()


def _judge(exception: BaseException, story: Story) -> None:
    """Note what left a script, unless it is Ctrl-C, or what a factory raised."""
    for leaf in leaves(exception):
        match leaf:
            case KeyboardInterrupt() | FactoryFailed():
                raise leaf from None
            case Inconclusive():
                return
            case Broken():
                story.broken = leaf
                return
            case _:
                story.left = exception


def _options_of(factory: Callable[..., Any]) -> set[str]:
    """Name the options that a factory takes."""
    parameters = signature(factory).parameters.values()
    if any(each.kind is Parameter.VAR_KEYWORD for each in parameters):
        return set(_OPTIONS)
    return {each.name for each in parameters if each.name in _OPTIONS}


def _check_number(what: str, given: Any) -> None:
    """Refuse what is no number above 0.

    Raises:
        ValueError: it is none.
    """
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not 0 < given < math.inf:
        raise ValueError(f"{what} must be a number above 0, not {reprlib.repr(given)}")
