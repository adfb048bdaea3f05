"""The page that tells what a run did: one file, which asks nobody for anything."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING, Final

from flexiflow._text import printable, shorten
from flexiflow.extras._pictures.charts import draw_rate
from flexiflow.extras._pictures.lives import MOST_NAMED
from flexiflow.extras._pictures.maps import Place, Way, draw_map
from flexiflow.extras._pictures.style import STYLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from flexiflow.extras._measures import Measured
    from flexiflow.extras._pictures.lives import Life, Step
    from flexiflow.extras._pictures.recorder import Recorder
    from flexiflow.extras._pictures.tally import Chain

_MOST_LIVES: Final = 8
_MOST_HANDLERS: Final = 100
_MOST_WAYS: Final = 400
_MAIN: Final = 0.95
"""The share of the transitions that are drawn; the rarest ones are only in the table."""
_WIDEST: Final = 6.0
_UNITS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"), (0.001, "ms"))
_MANY: Final = 1_000
_STEPS: Final = ("from", "to", "times", "lasted on average", "at most")
_HANDLERS: Final = ("event", "component", "calls", "failures", "time", "per call")


def make_page(recorder: Recorder, *, title: str, summary: Mapping[str, str]) -> str:
    """Return the page as HTML, in which all names and texts are escaped.

    Args:
        recorder: what happened.
        title: what was run.
        summary: the numbers at the top, by their names.

    Raises:
        ModuleNotFoundError: `pygal` or `pygraphviz` is not installed.
    """
    heading = _shown(title)
    parts = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{heading}</title>\n<style>{STYLE}</style>\n</head>",
        f'<body>\n<h1>{heading}</h1>\n<dl class="numbers">',
        *(
            f"<div><dt>{_shown(name)}</dt><dd>{_shown(it)}</dd></div>"
            for name, it in summary.items()
        ),
        "</dl>",
        *_rates(recorder),
        *_lives(recorder.lives.kinds.values()),
        *_handlers(recorder.handlers.measured()),
        "<h2>Failures</h2>",
        *_failures(recorder.events),
        "</body>\n</html>\n",
    )
    return "\n".join(parts)


def _rates(recorder: Recorder) -> Iterator[str]:
    is_of_log = bool(recorder.is_of_log)
    kinds = (
        ("Messages", recorder.messages, "var(--blue)"),
        ("Failures", recorder.failures, "var(--bad)"),
    )
    drawn = [
        (
            f"{what} in each {duration(rate.width)}",
            draw_rate(rate, what=what, is_of_log=is_of_log, color=color),
        )
        for what, rate, color in kinds
        if rate.periods()
    ]
    if drawn:
        whose = "the messages, in UTC" if is_of_log else "the run"
        yield f'<h2>When</h2>\n<p class="faint">Times are those of {whose}.</p>'
    for heading, drawing in drawn:
        yield f"<h3>{heading}</h3>"
        yield _wide(drawing, heading, "chart")


def _lives(lives: Iterable[Life]) -> Iterator[str]:
    ordered = sorted((each for each in lives if each.steps), key=_transitions, reverse=True)
    if ordered:
        yield (
            '<h2>States</h2>\n<p class="faint">Each box is a state, with the number of times that '
            "it was entered. Each arrow has the number of its transitions, and how long the state "
            "before them lasted on average. The rarest transitions, 5 % of all, are only in the "
            "table.</p>"
        )
    for life in ordered[:_MOST_LIVES]:
        name = _named(life.components)
        steps = sorted(life.steps.items(), key=lambda each: -each[1].count)
        yield f"<h3>{_shown(name)}</h3>"
        yield _wide(_map(life, steps, name), f"The states of {name}", "map")
        rows = "\n".join(_step_row(*states, step) for states, step in steps)
        yield (
            f'<details class="all"><summary>All {len(steps)} kinds of transitions</summary>\n'
            f"{_wide(_table(_STEPS, rows), f'Transitions of {name}')}</details>"
        )
    if len(ordered) > _MOST_LIVES:
        more = len(ordered) - _MOST_LIVES
        yield f'<p class="faint">Left out: the states of {more:,} other kinds of components.</p>'


def _transitions(life: Life) -> int:
    return sum(each.count for each in life.steps.values())


def _map(life: Life, steps: Sequence[tuple[tuple[str, str], Step]], name: str) -> str:
    """Draw the most frequent transitions."""
    entered = Counter[str]()
    for (_, target), step in steps:
        entered[target] += step.count
    most, left = steps[0][1].count, entered.total() * _MAIN
    ways: list[Way] = []
    for (source, target), step in steps[:_MOST_WAYS]:
        if left <= 0:
            break
        left -= step.count
        mean = "" if step.mean is None else f"\n{duration(step.mean)}"
        hint = f"{source} to {target}"
        width = 1 + (_WIDEST - 1) * step.count / most
        ways.append(Way(source, target, f"{step.count:,}{mean}", hint, width))
    there = {life.initial, *(each.source for each in ways), *(each.target for each in ways)}
    places = [Place(each, f"{entered[each]:,}") for each in life.states if each in there]
    return draw_map(places, ways, title=f"The states of {name}")


def _step_row(source: str, target: str, step: Step) -> str:
    mean = "" if step.mean is None else duration(step.mean)
    longest = duration(step.longest) if step.timed else ""
    return _row(_shown(source), _shown(target), f"{step.count:,}", mean, longest)


def _named(components: Sequence[str]) -> str:
    named = ", ".join(printable(shorten(each)) for each in components[:MOST_NAMED])
    return f"{named} and more" if len(components) > MOST_NAMED else named


def _handlers(measured: Iterable[Measured]) -> Iterator[str]:
    found = sorted(measured, key=lambda each: -each.seconds)[:_MOST_HANDLERS]
    if found:
        longest = max(each.seconds for each in found) or 1.0
        rows = "\n".join(_handler_row(each, each.seconds / longest) for each in found)
        yield f"<h2>Handlers</h2>\n{_wide(_table(_HANDLERS, rows), 'Handlers')}"


def _handler_row(handler: Measured, share: float) -> str:
    calls, is_bad = sum(handler.counts), ' class="bad"' if handler.failures else ""
    start = _row(*map(_shown, handler.labels), f"{calls:,}").removesuffix("</tr>")
    return (
        f"{start}<td{is_bad}>{handler.failures:,}</td>"
        f'<td class="time" style="--share:{share:.3f}">{duration(handler.seconds)}</td>'
        f"<td>{duration(handler.seconds / max(calls, 1))}</td></tr>"
    )


def _failures(events: Chain) -> Iterator[str]:
    if not events.all_failures:
        yield "<p>None.</p>"
        return
    yield (
        '<p class="faint">Each failure is under the event whose handler failed, and that one is '
        'under the event that caused it.</p>\n<div class="causes">'
    )
    yield from _branches(events)
    yield "</div>"


def _branches(chain: Chain) -> Iterator[str]:
    """Yield what failed under a chain, and then what it caused that led to failures."""
    yield "<ul>"
    for (component, what), failed in chain.failures.items():
        times = "1 time" if failed.count == 1 else f"{failed.count:,} times"
        place = f", first at line {failed.place:,}" if failed.place else ""
        yield (
            f'<li class="failure"><span class="bad">{escape(component)}</span> {escape(what)} '
            f'<span class="faint">{times}{place}</span></li>'
        )
    for each in sorted(chain.effects.values(), key=lambda each: -each.all_failures):
        if each.all_failures:
            yield (
                f"<li><details open><summary>{_shown(each.name)} "
                f'<span class="faint">{each.all_failures:,} failed</span></summary>'
            )
            yield from _branches(each)
            yield "</details></li>"
    yield "</ul>"


def _table(heads: Iterable[str], rows: str) -> str:
    cells = "".join(f'<th scope="col">{each}</th>' for each in heads)
    return f"<table>\n<thead><tr>{cells}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"


def _row(*cells: str) -> str:
    return f"<tr>{''.join(f'<td>{each}</td>' for each in cells)}</tr>"


def _wide(content: str, name: str, kind: str = "") -> str:
    """Return something that may be wider than the page, and then is scrolled by itself."""
    classes = f"wide {kind}".rstrip()
    label = escape(name)
    return f'<div class="{classes}" tabindex="0" role="region" aria-label="{label}">{content}</div>'


def _shown(text: str) -> str:
    return escape(printable(shorten(text)))


def duration(seconds: float) -> str:
    """Return a duration with its unit, as in "1.5 h"."""
    shown = float(f"{seconds:.3g}")
    for size, unit in _UNITS:
        if shown >= size:
            number = seconds / size
            return f"{number:,.0f} {unit}" if shown >= _MANY * size else f"{number:.3g} {unit}"
    return f"{seconds * 1_000_000:.3g} us" if seconds else "0 s"
