"""Examine transports, clause by clause (P1).

`search` tries the clauses; this module says how a transport is tried. First the factory is called,
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
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypedDict, Unpack, cast, final

import anyio

from flexiflow._callables import check_callable, is_coroutine_callable
from flexiflow._cancellation import leaves
from flexiflow._text import printable
from flexiflow.testing._examiner.examine import Subject, Verdict, check_terms, search
from flexiflow.testing._examiner.execute import FactoryFailed, Log, unblamed
from flexiflow.testing._examiner.violation import EXAMPLES, ContractViolation
from flexiflow.testing._scheduling.backends import run_scheduled
from flexiflow.testing._transport.contract import TRANSPORT_CONTRACT
from flexiflow.testing._transport.desk import open_desk
from flexiflow.testing._transport.desk_calls import HOOKS, Broken, Inconclusive, Means
from flexiflow.testing._transport.program import Programs
from flexiflow.testing._transport.script import Story
from flexiflow.testing._transport.universal import claim, play
from flexiflow.testing._transport.universal_scenarios import UNIVERSALS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from flexiflow.testing._examiner.clause import Clause
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._transport.script import TransportScript
    from flexiflow.testing._transport.universal import Universal

Restart: TypeAlias = "Callable[[Any], Awaitable[object]]"
Damage: TypeAlias = "Callable[[Any, int, str], Awaitable[object]]"
Insert: TypeAlias = "Callable[[Any, int, bytes], Awaitable[object]]"

_OPTIONS: Final = ("partitions", "max_length", "max_event_bytes")
_VIRTUAL_LEASE: Final = 10.0
_PATIENCE: Final = 120.0
"""After so many seconds, a script that still runs in real time is stuck."""
_TIMES: Final = 10
"""How often a scenario plays at once, each as many times smaller; less often at a small scale."""


class Terms(TypedDict, total=False):
    """How a transport is examined; the arguments of `check_transport` of the same names."""

    restart: Restart | None
    damage: Damage | None
    insert: Insert | None
    empty: Restart | None
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
    """Examine one clause of transports after another, and yield its verdict.

    Raises:
        Exception: what `check_transport` raises, except for a violation; already at the call.
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
        insert, empty = terms.get("insert"), terms.get("empty")
        hooks: dict[str, Callable[..., Any] | None] = {
            "restart": restart, "damage": damage, "insert": insert, "empty": empty,
        }  # fmt: skip
        for name, hook in hooks.items():
            _check_hook(name, hook, HOOKS[name])
        self._times = max(2, min(_TIMES, round(100 * self._scale)))
        self._factory = factory
        self._backend = backend
        self._is_virtual = lease is None
        self._means = Means(
            unblamed(factory), lease or _VIRTUAL_LEASE, restart, damage, insert, empty
        )
        offered = {name for name, hook in hooks.items() if hook is not None}
        self._offers = frozenset(offered | _options_of(factory))
        self._programs = Programs(factory, self._means, backend, is_virtual=lease is None)

    def probe(self) -> None:
        """Make a transport, and check that it can be opened.

        Raises:
            TypeError: what the factory makes is no transport.
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
            try:
                yield verdict if verdict.violation is not None else self._play_all(verdict, seed)
            except FactoryFailed as exc:
                raise exc.reason from None

    def _play_all(self, verdict: Verdict, seed: int) -> Verdict:
        """Play the scenarios of a clause, each once, and then several times at once."""
        played, lacks = verdict.examples, list(verdict.lacks)
        for each in (each for each in UNIVERSALS if each.clause == verdict.clause.identifier):
            missing = [need for need in each.needs if need not in self._offers]
            lacks += missing
            # A scenario that restarts the server would disturb others that use it.
            often = (1,) if {"restart", "empty"} & {*each.needs} else (1, self._times)
            for times in () if missing else often:
                played += times
                complaint = self._complaint_of(each, times)
                if complaint is not None:
                    violation = self._violation(verdict.clause, each, times, complaint, seed)
                    return Verdict(verdict.clause, played, violation)
        return Verdict(verdict.clause, played, None, tuple(dict.fromkeys(lacks)))

    def _complaint_of(self, each: Universal, times: int) -> str | None:
        """Play a scenario so many times at once; return what it complains of, or None."""
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
            counterexample=self._programs.of_scenario(
                each, self._scale / times, times, self._taken(each.takes)
            ),
            history="",
            operations=1,
            backend=self._backend,
            seed=seed,
        )

    def _show(self, case: Case) -> str:
        return self._programs.of_script(_script(case), self._taken(_script(case).options))

    def _taken(self, options: tuple[tuple[str, int], ...]) -> dict[str, int]:
        """Return the options that the factory takes, of those that are wanted."""
        return {name: value for name, value in options if name in self._offers}

    def _attempt(self, case: Case) -> Story:
        """Play a script to its end, and return its story."""
        story = Story()
        try:
            with Log():
                self._run(partial(self._play, case, story))
        except BaseException as exc:  # noqa: BLE001  whatever a faulty transport lets out
            _judge(exc, story)
        return story

    async def _play(self, case: Case, story: Story) -> None:
        script = _script(case)
        options = self._taken(script.options)
        async with open_desk(self._means, story.history, **options) as desk:
            for method, given in script.acts:
                await getattr(desk, method)(*given)
            await desk.finish()

    def _run(self, main: Callable[[], Awaitable[None]]) -> None:
        if self._is_virtual:
            run_scheduled(main, backend=self._backend)
        else:
            anyio.run(_bounded, main, _PATIENCE, backend=self._backend)


def _script(case: Case) -> TransportScript:
    # The strategies of transports draw nothing else.
    return cast("TransportScript", case)


def _describe(left: BaseException) -> str:
    leaf = next(iter(leaves(left)))
    if isinstance(leaf, AssertionError):
        return str(leaf)
    return printable(f"it was left by {type(leaf).__name__}: {leaf}")


async def _bounded(main: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Run it, for at most so many seconds."""
    with anyio.move_on_after(seconds) as scope:
        await main()
    claim(not scope.cancelled_caught, f"it had not ended after {seconds:g} seconds")


def _judge(exception: BaseException, story: Story) -> None:
    """Note the exception that ended a script, unless it is Ctrl-C, or comes from a factory."""
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
    """Return the names of the options that a factory takes."""
    parameters = signature(factory).parameters.values()
    if any(each.kind is Parameter.VAR_KEYWORD for each in parameters):
        return set(_OPTIONS)
    return {each.name for each in parameters if each.name in _OPTIONS}


def _check_hook(what: str, hook: object, arguments: int) -> None:
    """Refuse anything but an async function with so many arguments, or None.

    Raises:
        TypeError: it is something else.
    """
    if hook is None:
        return
    check_callable(what, hook, arguments)
    if not is_coroutine_callable(hook):
        raise TypeError(f"{what} must be an async function, not {reprlib.repr(hook)}")


def _check_number(what: str, given: Any) -> None:
    """Refuse anything but a number above 0.

    Raises:
        ValueError: it is something else.
    """
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not 0 < given < math.inf:
        raise ValueError(f"{what} must be a number above 0, not {reprlib.repr(given)}")
