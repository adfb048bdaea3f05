"""A bus in company: beside others, and used with options, that should change nothing (P1).

What a clause promises holds beside an instrument that only watches, inside a function that only
calls, and after failures that are over. A bus that calls handlers in several ways, depending on
what is subscribed, may keep a clause in one of them, and break it in another one.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from flexiflow.testing._bus.offers import FILTER, PATTERNS
from flexiflow.testing._examiner.kit import Both, Handling, Publishing, fail, ignore
from flexiflow.testing._examiner.program import Program, Written

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from flexiflow import Event, Subscription
    from flexiflow._subscription import Inner
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.steps import Lines

_COMPANION: Final = "companion"
"""The component of what is subscribed beside what a clause is tried with."""
_BYSTANDER: Final = "bystander"
"""The component of those that hear what a clause publishes."""
_NAMES: Final = ("a", "b")
"""What clauses publish most."""


async def _call(_: Event[Any], __: Subscription, call: Inner) -> None:
    await call()


def _accept(_: str, __: object) -> bool:
    return True


async def _attend(_: object) -> None:
    """Do nothing, as an async handler."""


async def _hear_all(bus: Any) -> None:
    """Subscribe others, to those patterns that the bus has; B10 is about which it must have."""
    for pattern in ("*", "a.*", "**"):
        with suppress(ValueError):
            await bus.subscribe(pattern, _BYSTANDER, _attend)


async def _have_a_past(bus: Any) -> None:
    """Use the bus, and end all that was subscribed for that."""
    for name in _NAMES:
        kept = await bus.subscribe(name, _COMPANION, fail)
        with suppress(ValueError):
            await bus.subscribe(f"{name}.*", _COMPANION, ignore)
        await bus.publish(name, on_error="continue")
        bus.unsubscribe(kept)
    bus.unsubscribe_all(_COMPANION)


async def _have_asked(bus: Any) -> None:
    """Answer queries, and ask them, and end the answers."""
    for name in ("q", "a"):
        with await bus.answer(name, _COMPANION, _attend):
            await bus.ask(name)


def _watching(instrument: Callable[[], object]) -> Callable[[Any], Awaitable[None]]:
    def install(bus: Any) -> Awaitable[None]:
        bus.add_instrument(instrument())
        return _attend(None)

    return install


@dataclass(frozen=True)
class Company:
    """What a bus has beside it.

    Attributes:
        needs: what the bus must offer.
        steps: what is done with it first.
        options: the options of each handler that is given none of that name.
    """

    needs: frozenset[str] = frozenset()
    steps: tuple[Callable[[Any], Awaitable[None]], ...] = ()
    options: tuple[tuple[str, object], ...] = ()


_AROUND: Final = ("around", (_call,))
_FILTER: Final = ("filter", _accept)
_TIME: Final = ("time_limit", 9999)
_BOTH: Final = _watching(Both)
COMPANIES: Final[Mapping[str, Company]] = {
    "watched publishes": Company(frozenset({"add_instrument"}), (_watching(Publishing),)),
    "watched handlers": Company(
        frozenset({"add_instrument", PATTERNS}), (_watching(Handling), _hear_all)
    ),
    "functions around": Company(frozenset({"subscribe(around=)"}), options=(_AROUND,)),
    "filters": Company(frozenset({FILTER, PATTERNS}), (_hear_all,), (_FILTER,)),
    "a past": Company(frozenset({"answer", "ask", PATTERNS}), (_have_asked, _have_a_past)),
    "all": Company(
        frozenset(
            {"add_instrument", "subscribe(around=)", "subscribe(time_limit=)", FILTER, PATTERNS}
        ),
        (_have_a_past, _BOTH, _hear_all),
        (_AROUND, _FILTER, _TIME),
    ),
}
"""The companies in which clauses are tried, each under its name."""


class _Neighbour:
    """Stands in for a bus, and hides its company.

    Args:
        bus: the bus.
        company: its company.
    """

    def __init__(self, bus: Any, company: Company) -> None:
        self._bus = bus
        self._options = dict(company.options)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the bus; some methods mind the company."""
        found = getattr(self._bus, name)
        methods = {
            "subscribe": self._subscribe,
            "answer": self._answer,
            "add_instrument": self._add_instrument,
            "subscriptions": self._subscriptions,
        }
        return methods.get(name, found)

    def _subscribe(self, *given: Any, **options: Any) -> Any:
        return self._bus.subscribe(*given, **{**self._options, **options})

    def _answer(self, *given: Any, **options: Any) -> Any:
        time = {name: self._options[name] for name in ("time_limit",) if name in self._options}
        return self._bus.answer(*given, **{**time, **options})

    def _add_instrument(self, instrument: object) -> None:
        # It would see those, too.
        self._bus.unsubscribe_all(_BYSTANDER)
        self._bus.add_instrument(instrument)

    def _subscriptions(self, *given: Any, **options: Any) -> Any:
        found = self._bus.subscriptions(*given, **options)
        return tuple(each for each in found if each.component_name not in (_COMPANION, _BYSTANDER))


async def call_in_company(
    name: str | None, main: Callable[..., Awaitable[object]], *buses: Any, **options: Any
) -> None:
    """Call an async function with buses in company; with the buses alone if that has no name."""
    if name is None:
        await main(*buses, **options)
        return
    company = COMPANIES[name]
    for bus in buses:
        for step in company.steps:
            await step(bus)

    await main(*(_Neighbour(bus, company) for bus in buses), **options)


def companies_of(offers: frozenset[str]) -> list[str]:
    """Return the names of the companies that a bus can have."""
    return [name for name, company in COMPANIES.items() if company.needs <= offers]


@dataclass(frozen=True)
class Accompanied(Written):
    """A case that is tried with a bus in company.

    Attributes:
        case: the case.
        company: the name of the company.
    """

    case: Case
    company: str
    decisions: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """What calls the methods that are examined."""
        return self.case.text

    def smaller(self) -> Iterator[Case]:
        """Yield the case alone, and smaller ones in the same company."""
        yield self.case
        for each in self.case.smaller():
            yield replace(self, case=each, decisions=each.decisions)

    def main(self) -> Lines:
        """Return what is done, as lines of Python."""
        case = self.case
        return [case.call("bus")] if isinstance(case, Program) else case.main()


def accompany(case: Case, company: str) -> Accompanied:
    """Return a case in company."""
    return Accompanied(case, company, case.decisions)


def alone(case: Case) -> tuple[Case, str | None]:
    """Return a case without its company, and the name of that, if it has one."""
    return (case.case, case.company) if isinstance(case, Accompanied) else (case, None)
