"""The chart for the documentation: HTML, so that its texts wrap on a phone, and stay readable.

Its colours and its layout are in `docs/_static/site.css`.
"""

from __future__ import annotations

from html import escape
from itertools import groupby
from math import ceil, floor, log10
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from benchmarks.report import amount, target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.measuring import Result

_KEY: Final = (
    '<p class="key">Each mark is a ratio: the time of FlexiFlow, divided by the time of the code '
    'that the row names; <i class="asyncio"></i> on asyncio, <i class="trio"></i> on trio, '
    '<i class="either"></i> without a backend. It is the median of all rounds; its line leads from '
    'the lowest ratio to the highest. <i class="target"></i> is the target: marks to the left of '
    "it meet it. The numbers are the median and the target; the median is <strong>bold</strong> if "
    "it misses the target.</p>"
)


def shown(results: Iterable[Result]) -> list[Result]:
    """Return the results that the chart shows: the multiples that have a target.

    What adds nothing, or less by chance, has no place on a scale of decades.
    """
    return [
        result
        for result in results
        if result.unit == "times" and result.at_most is not None and result.lowest > 0
    ]


def draw(results: Sequence[Result], title: str) -> str:
    """Draw a chart: a heading for each figure, and a row for each thing that it is held against.

    Args:
        results: what is shown; at least one result.
        title: what stands above the chart.
    """
    return "\n".join(_lines(results, title))


def _lines(results: Sequence[Result], title: str) -> Iterator[str]:
    first = floor(log10(min(result.lowest for result in results)))
    last = ceil(log10(max(result.highest for result in results)))
    scale = Scale(first, max(last, first + 1))
    yield f'<figure class="chart" style="--decades: {scale.last - scale.first}">'
    yield f"<figcaption>{escape(title)}</figcaption>"
    yield _KEY
    yield f'<div class="scale" aria-hidden="true">{scale.draw()}</div>'
    for figure, of_figure in groupby(results, attrgetter("figure")):
        yield f'<p class="figure">{escape(figure)}</p>'
        against: dict[str, list[Result]] = {}
        for result in of_figure:
            against.setdefault(result.against, []).append(result)
        for other, row in against.items():
            said = ", ".join(map(_said, row))
            marks = "".join(scale.place(result) for result in row)
            yield f'<div class="row"><span>{escape(other)}</span><span>{said}</span>'
            yield f'<div class="track" aria-hidden="true">{marks}</div></div>'
    yield "</figure>\n"


def _said(result: Result) -> str:
    median = amount(result.median, result.unit)
    stressed = f"<strong>{median}</strong>" if result.verdict == "over" else median
    return f"{stressed} of {target(result)}"


class Scale:
    """A logarithmic scale.

    Args:
        first: the power of ten on the left.
        last: the power of ten on the right.
    """

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last

    def draw(self) -> str:
        """Return the labels of the scale."""
        powers = range(self.first, self.last + 1)
        return "".join(f'<b style="left: {self._at(10.0**n)}%">{10.0**n:g}</b>' for n in powers)

    def place(self, result: Result) -> str:
        """Return the marks of one result."""
        start, end = self._at(result.lowest), self._at(result.highest)
        name = result.backend or "either"
        width = f"{end - start:.2f}".rstrip("0").rstrip(".")
        return (
            f'<s class="{name}" style="left: {start}%; width: {width}%"></s>'
            f'<b class="target" style="left: {self._at(result.at_most or 1.0)}%"></b>'
            f'<i class="{name}" style="left: {self._at(result.median)}%"></i>'
        )

    def _at(self, value: float) -> float:
        return round(100 * (log10(value) - self.first) / (self.last - self.first), 2)
