"""What `flexiflow verify` tries: the clauses of a contract, claims, or crashes (P1, P6, P7).

A check is given as what makes the object to verify, or as a `functools.partial` of a function of
`flexiflow.testing`, which tells the kind of check, and holds its arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast, final

from flexiflow import Component, testing
from flexiflow._callables import describe
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.target import load
from flexiflow._cli.text import one_line, show_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flexiflow.testing import ContractViolation, CrashFailure
    from flexiflow.testing._examiner.clause import Clause
    from flexiflow.testing._examiner.subject import Subject
    from flexiflow.testing._examiner.verdict import Verdict
    from flexiflow.testing._machine.report import LeadsTo

CONTRACTS: Final = ("bus", "component", "transport", "store")
"""The kinds of checks that try the clauses of a contract."""

_CHECKS: Final[Mapping[str, Callable[..., Any]]] = {
    "bus": testing.check_bus,
    "component": testing.check_component,
    "transport": testing.check_transport,
    "store": testing.check_store,
    "machine": testing.check_machine,
    "crash": testing.crash_everywhere,
}
_DOES: Final = {
    **{kind: f"making a {kind}" for kind in CONTRACTS},
    "machine": "checking the machine",
    "crash": "crashing the workers",
}
_OTHERS: Final = (testing.explore, testing.replay, testing.cancel_everywhere)
"""What has no command."""
_CLAIMS: Final = ("invariants", "never", "leads_to", "fair")


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        clause: the clause's number.
        word: the verdict.
        tried: how many programs or crashes were tried; "-" if that is not known.
        promise: what is promised or claimed.
        found: what is shown below the table, as the promise is broken; or None.
        report: what else is shown there.
    """

    clause: str
    word: str
    tried: int | str
    promise: str
    found: ContractViolation | CrashFailure | None = None
    report: str = ""


@final
@dataclass(frozen=True, slots=True)
class Target:
    """What is to be verified.

    Attributes:
        name: as the user gave it.
        kind: a key of `_CHECKS`.
        given: the arguments of the check, by name.
        is_check: whether it is a partial of a check.
        is_taken_for_bus: whether it is taken to make a bus since the user has said nothing else.
    """

    name: str
    kind: str
    given: Mapping[str, Any]
    is_check: bool = False
    is_taken_for_bus: bool = False

    @property
    def does(self) -> str:
        """What calls the user's code, in words."""
        return _DOES[self.kind]


def load_target(name: str, contract: str | None) -> Target:
    """Import a target, and tell what kind of check it is.

    Args:
        name: names what makes an object, or a partial of a check.
        contract: what kind of object is made, if the user has said so.

    Raises:
        CannotRun: the target can't be used.
    """
    found = load(name)
    held = cast("Any", found)
    function = held.func if isinstance(found, partial) else None
    kind = next((kind for kind, check in _CHECKS.items() if check is function), None)
    if any(each is function for each in _OTHERS):
        raise CannotRun(
            f"target {name!r} is a partial of {describe(function)}, which is for tests; that of a "
            f"check is one of {', '.join(check.__name__ for check in _CHECKS.values())}"
        )
    if kind is None:
        return _of_factory(name, contract, held)
    check = _CHECKS[kind].__name__
    if contract not in {None, kind}:
        raise CannotRun(f"target {name!r} is a partial of {check}: leave --contract {contract} out")
    try:
        bound = signature(_CHECKS[kind]).bind_partial(*held.args, **held.keywords)
    except TypeError as exc:
        raise CannotRun(f"target {name!r} is no usable partial of {check}: {exc}") from None
    if kind in CONTRACTS and "factory" not in bound.arguments:
        raise CannotRun(f"target {name!r} must be partial({check}, factory, ...), with a factory")
    # On the second backend nothing would be left of an iterator.
    given = bound.arguments
    given |= {key: [*each] for key, each in given.items() if isinstance(each, Iterator)}
    return Target(name, kind, given, is_check=True)


def _of_factory(name: str, contract: str | None, found: object) -> Target:
    kind = contract or "bus"
    check_factory(name, kind, found)
    if kind == "bus" and isinstance(found, type) and issubclass(found, Component):
        raise CannotRun(
            f"target {name!r} makes components, not buses; to verify those: --contract component"
        )
    return Target(name, kind, {"factory": found}, is_taken_for_bus=contract is None)


def check_factory(name: str, kind: str, found: object) -> None:
    """Refuse what makes nothing.

    Raises:
        CannotRun: it is not callable.
    """
    if not callable(found):
        a = "an engine" if kind == "engine" else f"a {kind}"
        other = "" if kind == "engine" else ", or a functools.partial of a check"
        raise CannotRun(
            f"target {name!r} must be a function, or a class, that makes {a}{other}; it is "
            f"{one_line(show_value(found))}"
        )


def try_contract(kind: str, given: Mapping[str, Any]) -> tuple[Callable[[str], Iterator[Row]], int]:
    """Return a function that tries the clauses on a backend, and how many clauses there are.

    Args:
        kind: one of `CONTRACTS`.
        given: the arguments of the check.

    Raises:
        CannotRun: there is no such clause, or Hypothesis is not installed.
    """
    subject, contract = _import_contract(kind)
    # Imported only here, as below.
    from flexiflow.testing._examiner.examine import examine  # noqa: PLC0415
    from flexiflow.testing._examiner.selection import select  # noqa: PLC0415

    options: dict[str, Any] = {**({"engine": None} if kind == "component" else {}), **given}
    factory, names = options.pop("factory"), options.pop("clauses", None)
    try:
        clauses = select(contract, names)
    except (TypeError, ValueError) as exc:
        raise CannotRun(str(exc)) from None
    options["strict"] = bool(options.get("strict")) or names is not None

    def begin(backend: str) -> Iterator[Row]:
        verdicts = examine(subject, clauses, factory, backend=backend, **options)
        return (_row(kind, verdict) for verdict in verdicts)

    return begin, len(clauses)


def _row(kind: str, verdict: Verdict) -> Row:
    """Return a verdict, and why the clause was not checked, or only in part."""
    why = f" (this {kind} has {verdict.missing})" if verdict.missing else ""
    clause = verdict.clause
    promise = clause.title + why
    return Row(clause.identifier, verdict.word, verdict.examples, promise, verdict.violation)


def _import_contract(kind: str) -> tuple[type[Subject[Any]], Sequence[Clause]]:
    """Import what examines an object of some kind, and its contract.

    Raises:
        CannotRun: Hypothesis is not installed.
    """
    # Imported only here: the testing kit needs Hypothesis, which is an extra.
    try:
        from flexiflow.testing._bus.contract import CONTRACT  # noqa: PLC0415
        from flexiflow.testing._bus.subject import BusSubject  # noqa: PLC0415
        from flexiflow.testing._component.contract import COMPONENT_CONTRACT  # noqa: PLC0415
        from flexiflow.testing._component.subject import ComponentSubject  # noqa: PLC0415
        from flexiflow.testing._store.contract import STORE_CONTRACT  # noqa: PLC0415
        from flexiflow.testing._store.subject import StoreSubject  # noqa: PLC0415
        from flexiflow.testing._transport.contract import TRANSPORT_CONTRACT  # noqa: PLC0415
        from flexiflow.testing._transport.subject import TransportSubject  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        if exc.name != "hypothesis":
            raise
        raise CannotRun(
            "verify needs Hypothesis, which is not installed: pip install flexiflow[testing]"
        ) from None
    contracts: dict[str, tuple[type[Subject[Any]], Sequence[Clause]]] = {
        "bus": (BusSubject, CONTRACT),
        "component": (ComponentSubject, COMPONENT_CONTRACT),
        "store": (StoreSubject, STORE_CONTRACT),
        "transport": (TransportSubject, TRANSPORT_CONTRACT),
    }
    return contracts[kind]


def try_machine(given: Mapping[str, Any], backend: str) -> Iterator[Row]:
    """Try all claims about a machine, and yield each of them; or the one that is broken."""
    from flexiflow.testing._machine.claims import END, make_claims  # noqa: PLC0415  as above

    claims = make_claims(**{name: given[name] for name in _CLAIMS if name in given})
    try:
        report = testing.check_machine(**given, backend=backend)
    except testing.ContractViolation as found:
        yield Row("P6", found.verdict, "-", found.clause, found)
        return
    for claim in (*claims.invariants, *claims.never):
        yield Row("P6", "held", report.examples, claim.name)
    for each in report.leads_to:
        yield Row("P6", _judge(each), each.held, each.claim)
    yield Row("P6", "held", report.examples, END.name, report=str(report))


def _judge(claim: LeadsTo) -> str:
    if claim.inconclusive:
        return "inconclusive"
    return "held" if claim.held else "not reached"


def try_crashes(given: Mapping[str, Any], backend: str) -> Iterator[Row]:
    """Crash the workers of a scenario everywhere, and yield what came of it."""
    promise = f"{describe(given.get('check'))} passes, wherever a worker is killed"
    try:
        crashes = testing.crash_everywhere(**given, backend=backend)
    except testing.CrashFailure as found:
        yield Row("P7", "violated", "-", promise, found)
        return
    reached = crashes.tried - len(crashes.missed)
    word = "held" if reached else "not reached"
    yield Row("P7", word, reached, promise, report=f"on {backend}: {crashes}")
