"""Cases for a bus that does not offer everything: they do without what it lacks (P5)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from flexiflow.testing._bus.offers import (
    DELIVERY,
    FILTER,
    ON_ERROR,
    ONCE,
    PATTERNS,
    PRIORITY,
    REST,
    USES,
    with_value,
)
from flexiflow.testing._bus.script import Publish, Subscribe
from flexiflow.testing._bus.trace import matches
from flexiflow.testing._examiner.steps import Together
from flexiflow.testing._examiner.subject import NotOffered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from flexiflow.testing._bus.script import Script
    from flexiflow.testing._examiner.steps import Step


def fit(script: Script, offers: frozenset[str], needs: tuple[str, ...] = ()) -> Script:
    """Return a script without the options and patterns that a bus does not offer.

    In place of a pattern there is the first name that the script publishes and the pattern matches.
    Only where patterns are needed is it for the clause to say which ones there must be.

    Raises:
        NotOffered: an option of `publish` is needed, but not offered with the value that it has.
    """
    published = [*dict.fromkeys(_published(script.steps))]
    lacking = "*" if PATTERNS not in offers else "**"
    keeps_patterns = {PATTERNS, REST} <= offers or PATTERNS in needs

    def fit_step(step: Step) -> Step:
        match step:
            case Subscribe():
                is_kept = keeps_patterns or lacking not in step.event
                heard = step.event if is_kept else _name(step.event, published)
                return replace(
                    step,
                    does=tuple(map(fit_step, step.does)),
                    event=heard,
                    priority=step.priority if PRIORITY in offers else Subscribe.priority,
                    filter=step.filter if FILTER in offers else None,
                    once=step.once and ONCE in offers,
                )
            case Publish():
                options = {"delivery": step.delivery, "on_error": step.on_error}
                lacks = _lacking(options, offers)
                needed = [part for option, part in lacks.items() if f"publish({option}=)" in needs]
                if needed:
                    raise NotOffered(needed)
                return replace(
                    step,
                    delivery=None if "delivery" in lacks else step.delivery,
                    on_error=None if "on_error" in lacks else step.on_error,
                )
            case Together():
                return Together(tuple(tuple(map(fit_step, task)) for task in step.tasks))
            case _:
                return step

    return replace(script, steps=tuple(map(fit_step, script.steps)))


def _lacking(options: Mapping[str, object], offers: frozenset[str]) -> dict[str, str]:
    """Return the options of `publish` that have values which are not offered, and those parts."""
    parts = {option: with_value(option, value) for option, value in options.items()}
    # Any other value is wrong for every bus.
    return {option: part for option, part in parts.items() if part in USES.keys() - offers}


def _published(steps: Iterable[Step]) -> Iterator[str]:
    for step in steps:
        match step:
            case Publish():
                yield step.event
            case Subscribe():
                yield from _published(step.does)
            case Together():
                for task in step.tasks:
                    yield from _published(task)
            case _:
                pass


def _name(pattern: str, published: list[str]) -> str:
    return next((name for name in published if matches(pattern, name)), Subscribe.event)


class Guarded:
    """Stands in for a bus, and lets no program use what the bus does not offer.

    Args:
        bus: the bus.
        offers: what it offers.
    """

    def __init__(self, bus: Any, offers: frozenset[str]) -> None:
        self._bus = bus
        self._offers = offers

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the bus; a method looks first at what it is called with."""
        found = getattr(self._bus, name)
        return partial(self._call, name, found) if callable(found) else found

    def _call(self, name: str, method: Any, *given: Any, **options: Any) -> Any:
        used = {f"{name}({option}=)" for option in options} & (USES.keys() | {DELIVERY, ON_ERROR})
        if given and isinstance(given[0], str) and "*" in given[0]:
            used.add(PATTERNS)
            if "**" in given[0]:
                used.add(REST)
        if not used <= self._offers:
            raise NotOffered(sorted(used - self._offers))
        lacks = _lacking(options, self._offers) if name == "publish" else {}
        if lacks:
            raise NotOffered(lacks.values())
        return method(*given, **options)
