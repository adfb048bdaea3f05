"""Draw a story as one HTML file: a lane for each task, the turns downwards (P8).

The file needs no other one and no script.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final, final

from flexiflow._text import printable_lines, safely
from flexiflow.testing._scheduling.failures import add_note
from flexiflow.testing._scheduling.story import abridged, left_out, untold

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from flexiflow.testing._scheduling.story import Place, Story, Turn

_MOST_STEPS: Final = 2_000
_LEAST_STEPS: Final = 40
_MOST_CELLS: Final = 50_000
"""Browsers are slow with larger tables, so many tasks make it shorter."""
_HUES: Final = (205, 30, 145, 330, 265, 95, 180, 0, 235, 55)

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1e21; --faint: #626a73;
  --line: #d5d9de; --card: #f6f7f9; --bad: #b3261e; --lane: 33%; --tint: 94%; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --ink: #e4e7eb; --faint: #9aa3ad;
  --line: #353b43; --card: #1e2329; --bad: #ff8a80; --lane: 68%; --tint: 17%; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1.25rem; background: var(--paper); color: var(--ink);
  font: 0.9375rem/1.45 system-ui, "Segoe UI", sans-serif; }
h1 { font-size: 1.125rem; margin: 0 0 0.5rem; overflow-wrap: anywhere; }
pre, code { font-family: ui-monospace, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 0.8125rem; }
pre { margin: 0 0 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.lanes { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: separate; border-spacing: 0; min-width: 100%; }
thead th { border-bottom: 1px solid var(--line); text-align: left; font-weight: 600;
  padding: 0.5rem; color: hsl(var(--hue) 60% var(--lane)); white-space: nowrap; }
tbody th, thead th:first-child { position: sticky; left: 0; z-index: 1; width: 3.25rem;
  background: var(--paper); color: var(--faint); border-right: 1px solid var(--line);
  font-weight: 400; text-align: right; vertical-align: top; padding: 0.5rem; white-space: nowrap; }
td { min-width: 13rem; max-width: 24rem; padding: 0.2rem 0.5rem; vertical-align: top; }
td.on { background: linear-gradient(hsl(var(--hue) 45% var(--lane)) 0 0) 1.1rem 0 / 2px 100%
  no-repeat; }
td.begins { background-position: 1.1rem 0.7rem; }
td.ends { background-size: 2px 0.7rem; }
details { background: hsl(var(--hue) 55% var(--tint)); border-radius: 4px; padding: 0.3rem 0.6rem;
  border-left: 4px solid hsl(var(--hue) 60% var(--lane)); overflow-wrap: anywhere; }
summary { cursor: pointer; }
summary:focus-visible { outline: 2px solid currentColor; outline-offset: 3px; }
.ahead { font-weight: 600; }
.raises { color: var(--bad); font-weight: 600; }
.at { color: var(--faint); font-size: 0.8125rem; }
details code { display: block; margin-top: 0.25rem; }
.jump > * { border-top: 1px dashed var(--line); height: 2.25rem; }
.gap { margin: 0; padding-left: 1.25rem; color: var(--faint); }
details.text { margin-top: 1rem; padding: 0; border: 0; background: none; }
@media (max-width: 30rem) { td { min-width: 10rem; } }
.text pre { white-space: pre; overflow-x: auto; margin-top: 0.5rem; }
.legend { color: var(--faint); margin: 0 0 0.75rem; }
"""


def draw_for(exception: BaseException, story: Story, path: Path | None, text: str) -> None:
    """Draw a story, if there is to be a drawing, and note on the exception where it is.

    That it can't be written is noted too: what the scenario raised is more important.

    Args:
        exception: what the story is about.
        story: what happened.
        path: the file to write, or None.
        text: what failed, as plain text; its first line is the heading.
    """
    if path is None:
        return
    try:
        path.write_text(page(story, text), encoding="utf-8")
    except OSError as exc:
        add_note(exception, f"its story could not be drawn: {safely(str, exc)}")
    else:
        add_note(exception, f"its story is drawn in {path}")


def page(story: Story, text: str) -> str:
    """Return the whole page, in which everything that others wrote is escaped."""
    heading, _, rest = printable_lines(text).partition("\n")
    facts = "\n".join(line.strip() for line in rest.splitlines())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(heading)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(heading)}</h1>\n<pre>{escape(facts)}</pre>\n"
        '<p class="legend">A lane for each task, the turns from top to bottom. '
        "Open a step to see the line of code at which it stopped.</p>\n"
        f"{''.join(_Lanes(story).table())}"
        '<details class="text"><summary>The same as text</summary>'
        f"<pre>{escape(story.render(limit=_MOST_STEPS))}</pre></details>\n"
        "</body>\n</html>\n"
    )


@final
class _Lanes:
    """Lays out a story as a table: a column for each task, a row for each step."""

    def __init__(self, story: Story) -> None:
        tasks = story.tasks()
        limit = max(_LEAST_STEPS, min(_MOST_STEPS, _MOST_CELLS // max(1, len(tasks))))
        self._head, self._gap, self._tail = abridged(story.steps(), limit)
        self._waiting, self._more = story.waiting[:limit], len(story.waiting[limit:])
        drawn = {step.task for step in (*self._head, *self._tail)}
        drawn |= {name for name, _ in self._waiting}
        self._lanes = {name: lane for lane, name in enumerate(tasks) if name in drawn}
        self._alive: set[str] = set()
        self._at = 0.0

    def table(self) -> Iterator[str]:
        """Yield the table, piece by piece."""
        yield '<div class="lanes" tabindex="0" role="region" aria-label="The turns"><table>\n'
        yield '<thead><tr><th scope="col">turn</th>'
        for name, lane in self._lanes.items():
            yield f'<th scope="col" style="{_hue(lane)}">{escape(name)}</th>'
        yield "</tr></thead>\n<tbody>\n"
        yield from self._rows(self._head)
        if self._gap:
            yield self._aside(left_out(self._gap))
        yield from self._rows(self._tail)
        if self._waiting:
            yield self._still_there()
        if self._more:
            yield self._aside(untold(self._more))
        yield "</tbody></table></div>\n"

    def _aside(self, text: str) -> str:
        first = next(iter(self._lanes))
        return self._row("...", {first: (f'<p class="gap">{text}</p>', "")})

    def _rows(self, steps: Sequence[Turn]) -> Iterator[str]:
        for step in steps:
            if step.at != self._at:
                self._at = step.at
                yield self._row(f"at {step.at:g} s", {}, "jump")
            first = "begins" * (step.task not in self._alive)
            last = "ends" * bool(step.end)
            self._alive.add(step.task)
            yield self._row(step.numbers, {step.task: (_card(step), f"{first} {last}")})
            if step.end:
                self._alive.remove(step.task)

    def _still_there(self) -> str:
        cards: dict[str, tuple[str, str]] = {}
        for name, place in self._waiting:
            words = "has not begun" if place is None else "still waits here"
            cards[name] = _details(escape(words), place), "begins" * (name not in self._alive)
        return self._row("end", cards)

    def _row(self, head: str, cards: Mapping[str, tuple[str, str]], kind: str = "turn") -> str:
        cells = [f'<tr class="{kind}"><th scope="row">{head}</th>']
        for name, lane in self._lanes.items():
            card, part = cards.get(name, ("", ""))
            on = "on " if name in self._alive or card else ""
            cells.append(f'<td class="{on}{part}" style="{_hue(lane)}">{card}</td>')
        return "".join([*cells, "</tr>\n"])


def _hue(lane: int) -> str:
    return f"--hue:{_HUES[lane % len(_HUES)]}"


def _card(step: Turn) -> str:
    kind = "raises" if step.end.startswith("raises") else "ahead" if step.ahead_of else "goes"
    return _details(f'<span class="{kind}">{escape(step.did)}</span>', step.place)


def _details(words: str, place: Place | None) -> str:
    if place is None:
        return f"<details><summary>{words}</summary></details>"
    where = f"{escape(str(place))} in {escape(place.function)}"
    name = place.file.rpartition("/")[2]
    return (
        f'<details title="{where}&#10;{escape(place.code)}">'
        f'<summary>{words}<br><span class="at">{escape(name)}:{place.line}</span></summary>'
        f'<span class="at">{where}</span><code>{escape(place.code)}</code></details>'
    )
