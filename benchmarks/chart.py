"""The chart for the documentation."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from benchmarks.timing import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from benchmarks.measuring import Result

# Readable on white and on the dark theme's near-black, since the picture has no background.
INK: Final = "#7b8087"
MARKS: Final = {"asyncio": ("#3f88cf", "o"), "trio": ("#d2701f", "D"), "": ("#8a6fc0", "s")}

_ROW_INCHES: Final = 0.27
_MARGIN_INCHES: Final = 1.4


def shown(results: Iterable[Result]) -> list[Result]:
    """Return the results that the chart shows: the multiples that have a target."""
    return [result for result in results if result.unit == "times" and result.at_most is not None]


def rows(results: Iterable[Result]) -> list[str]:
    """Return the labels of the chart's rows, each for one figure on all backends."""
    return list(dict.fromkeys(map(_label, results)))


def _label(result: Result) -> str:
    return f"{result.figure} / {result.against}"


def draw(results: Sequence[Result], path: Path, title: str) -> None:
    """Draw the chart as SVG, with text as text.

    Raises:
        LeftOut: matplotlib can't be imported.
    """
    matplotlib, figure_module = load("matplotlib"), load("matplotlib.figure")
    labels = rows(results)
    with ExitStack() as stack:
        settings = {"svg.fonttype": "none", "svg.hashsalt": "flexiflow", "font.size": 9}
        stack.enter_context(matplotlib.rc_context(settings))
        height = _MARGIN_INCHES + _ROW_INCHES * len(labels)
        figure = figure_module.Figure(figsize=(10, height), layout="constrained")
        axes = figure.subplots()
        _plot(axes, results, labels)
        _dress(axes, labels, title)
        figure.savefig(
            path, format="svg", transparent=True, metadata={"Date": None, "Title": title}
        )


def _plot(axes: Any, results: Sequence[Result], labels: list[str]) -> None:
    named: set[str] = set()
    for result in results:
        colour, mark = MARKS[result.backend]
        # The backends side by side within the row.
        place = labels.index(_label(result)) + {"asyncio": -0.14, "trio": 0.14}.get(
            result.backend, 0
        )
        name = result.backend or "either"
        axes.plot([result.lowest, result.highest], [place, place], color=colour, alpha=0.6)
        axes.plot(
            result.median,
            place,
            mark,
            color=colour,
            markersize=5,
            label="" if name in named else f"{name}: median, lowest to highest",
        )
        named.add(name)
    for result in results:
        place = labels.index(_label(result))
        axes.plot([result.at_most] * 2, [place - 0.38, place + 0.38], color=INK, linewidth=2)


def _dress(axes: Any, labels: list[str], title: str) -> None:
    axes.set_xscale("log")
    axes.axvline(1, color=INK, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(labels)), labels, color=INK)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(colors=INK, which="both")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("times what it is held against; a grey bar is the target", color=INK)
    axes.set_title(title, color=INK)
    axes.figure.legend(labelcolor=INK, frameon=False, loc="outside lower center", ncols=3)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(visible=True, color=INK, alpha=0.25, axis="x")
