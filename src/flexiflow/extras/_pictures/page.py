"""The page that tells what a run did: one file, which asks nobody for anything.

Jinja escapes all that was written by others.
"""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flexiflow._text import printable, shorten
from flexiflow.extras._pictures.charts import draw_rate
from flexiflow.extras._pictures.maps import Place, Way, draw_map
from flexiflow.extras._pictures.tally import MOST_NAMED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from flexiflow.extras._measures import Measured
    from flexiflow.extras._pictures.recorder import Recorder
    from flexiflow.extras._pictures.tally import Chain, Life, Rate, Step

_MOST_LIVES: Final = 8
_MOST_HANDLERS: Final = 100
_MOST_WAYS: Final = 400
_MAIN: Final = 0.95
"""The share of the transitions that are drawn; the rarest ones are only in the table."""
_WIDEST: Final = 6.0
_UNITS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"), (0.001, "ms"))


class _Map(NamedTuple):
    """The states of some components."""

    name: str
    drawing: str
    rows: list[_Row]


class _Row(NamedTuple):
    """A row of the table of transitions."""

    source: str
    target: str
    count: int
    mean: str
    longest: str


class _Handler(NamedTuple):
    """A row of the table of handlers."""

    event: str
    component: str
    calls: int
    failures: int
    seconds: str
    mean: str
    share: float


class _Branch(NamedTuple):
    """A chain of events at whose end something failed."""

    name: str
    all_failures: int
    failures: list[tuple[str, str, int, int]]
    branches: list[_Branch]


def make_page(recorder: Recorder, *, title: str, summary: Mapping[str, str]) -> str:
    """Return the page as HTML.

    Args:
        recorder: what happened.
        title: what was run.
        summary: the numbers at the top, by their names.

    Raises:
        ModuleNotFoundError: `jinja2`, `pygal` or `pygraphviz` is not installed.
    """
    jinja: Any = import_module("jinja2")
    environment = jinja.Environment(
        loader=jinja.PackageLoader("flexiflow.extras._pictures"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja.StrictUndefined,
    )
    lives = sorted(recorder.lives.values(), key=_transitions, reverse=True)
    page: str = environment.get_template("report.html").render(
        title=printable(title),
        summary=summary,
        rates=list(_rates(recorder)),
        lives=[_draw_life(each) for each in lives[:_MOST_LIVES]],
        more_lives=len(lives[_MOST_LIVES:]),
        handlers=_handlers(recorder.handlers.measured()),
        failures=_branches(recorder.events),
        is_of_log=bool(recorder.is_of_log),
    )
    return page


def _rates(recorder: Recorder) -> Iterator[tuple[str, str]]:
    is_of_log = bool(recorder.is_of_log)
    kinds: Iterable[tuple[str, Rate, str]] = (
        ("Messages", recorder.messages, "var(--blue)"),
        ("Failures", recorder.failures, "var(--bad)"),
    )
    for what, rate, color in kinds:
        if rate.periods():
            heading = f"{what} in each {duration(rate.width)}"
            yield heading, draw_rate(rate, what=what, is_of_log=is_of_log, color=color)


def _transitions(life: Life) -> int:
    return sum(each.count for each in life.steps.values())


def _draw_life(life: Life) -> _Map:
    """Return a map with the most frequent transitions, and a table with all of them."""
    ordered = sorted(life.steps.items(), key=lambda each: -each[1].count)
    entered = Counter[str]()
    for (_, target), step in ordered:
        entered[target] += step.count
    most, left = ordered[0][1].count, sum(entered.values()) * _MAIN
    ways: list[Way] = []
    for (source, target), step in ordered[:_MOST_WAYS]:
        if left <= 0:
            break
        left -= step.count
        mean = "" if step.mean is None else f"\n{duration(step.mean)}"
        hint = f"{source} to {target}"
        width = 1 + (_WIDEST - 1) * step.count / most
        ways.append(Way(source, target, f"{step.count:,}{mean}", hint, width))
    there = {life.initial, *(each.source for each in ways), *(each.target for each in ways)}
    places = [Place(each, f"{entered[each]:,}") for each in life.states if each in there]
    name = _named(life.components)
    drawing = draw_map(places, ways, title=f"The states of {name}")
    return _Map(name, drawing, [_row(*each) for each in ordered])


def _row(states: tuple[str, str], step: Step) -> _Row:
    return _Row(
        *(printable(shorten(each)) for each in states),
        step.count,
        duration(step.mean or 0.0) if step.timed else "",
        duration(step.longest) if step.timed else "",
    )


def _named(components: list[str]) -> str:
    named = ", ".join(printable(shorten(each)) for each in components[:MOST_NAMED])
    return f"{named} and more" if len(components) > MOST_NAMED else named


def _handlers(measured: Iterable[Measured]) -> list[_Handler]:
    found = sorted(measured, key=lambda each: -each.seconds)[:_MOST_HANDLERS]
    longest = max((each.seconds for each in found), default=0.0) or 1.0
    return [
        _Handler(
            *each.labels,
            sum(each.counts),
            each.failures,
            duration(each.seconds),
            duration(each.seconds / max(sum(each.counts), 1)),
            each.seconds / longest,
        )
        for each in found
    ]


def _branches(chain: Chain) -> list[_Branch]:
    """Return those events that a chain caused and that led to failures, the worst first."""
    found = [
        _Branch(
            printable(shorten(each.name)),
            each.all_failures,
            [
                (printable(shorten(component)), what, failed.count, failed.place)
                for (component, what), failed in each.failures.items()
            ],
            _branches(each),
        )
        for each in chain.effects.values()
        if each.all_failures
    ]
    return sorted(found, key=lambda each: -each.all_failures)


def duration(seconds: float) -> str:
    """Return a duration with its unit, as in "1.5 h"."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1_000_000:.3g} us" if seconds else "0 s"
