"""The program: its options, and the steps from the measures to the shown and written results."""

from __future__ import annotations

import gc
import os
import platform
import sys
from argparse import ArgumentParser
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

from benchmarks import catalogue, chart, report
from benchmarks.measuring import FULL, QUICK, LeftOut, choose, summarise
from benchmarks.report import Session
from benchmarks.timing import backends

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.measuring import Effort, Measure, Result

_PACKAGES: Final = (
    "flexiflow",
    "anyio",
    "trio",
    "tenacity",
    "coredis",
    "blinker",
    "pyee",
    "pymitter",
    "bubus",
)
_OUTPUT: Final = Path("build", "benchmarks")
_EPILOG: Final = """A figure over its target does not make the program fail; --check does. For
figures worth keeping nothing else should run on the machine, and its clock should be steady."""


def main(arguments: Sequence[str]) -> int:
    """Take the measures that the arguments choose, show and write them, return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    chosen = choose(catalogue.measures(options.backend or backends()), options.only)
    if not chosen:
        parser.error(f"no figure has {options.only!r} in its title; --list shows them")
    if options.list:
        say("\n".join(measure.title for measure in chosen))
        return 0
    begun = perf_counter()
    session = measure_all(chosen, QUICK if options.quick else FULL)
    say(f"\n{report.summary(session.results)}; {perf_counter() - begun:.0f} seconds")
    if options.output is not None:
        write(session, options.output)
    elif not (options.only or options.backend):
        write(session, _OUTPUT)
    return 1 if options.check and _is_any_over(session.results) else 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser("python -m benchmarks", epilog=_EPILOG)
    parser.description = "Measure FlexiFlow side by side with its limits and its peers."
    parser.add_argument("--quick", action="store_true", help="be done in a minute; less exact")
    parser.add_argument(
        "--only",
        default="",
        metavar="PATTERN",
        help="the figures with this in their title; * and ? as in file names",
    )
    parser.add_argument(
        "--backend", action="append", choices=backends(), help="where there is a choice, this one"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help=f"where benchmarks.json, benchmarks.inc (Markdown) and chart.inc (HTML) go ({_OUTPUT},"
        " or nowhere if only some figures are measured); in the first two, what other interpreters"
        " measured stays",
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--list", action="store_true", help="show the figures' titles, no more")
    return parser


def say(text: str) -> None:
    """Print a text at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def measure_all(measures: Iterable[Measure], effort: Effort) -> Session:
    """Take the measures one after another, and show each result at once."""
    session = _session(effort)
    figure = ""
    say(report.HEADINGS)
    for measure in measures:
        # So that the collections before each round skip the objects of earlier measures.
        gc.collect()
        gc.freeze()
        try:
            result = summarise(measure, measure.run(effort))
        except LeftOut as exc:
            session.left_out.append(f"{measure.title} ({exc.reason})")
            say(f"left out: {session.left_out[-1]}")
            continue
        if measure.figure != figure:
            figure = measure.figure
            say(figure)
        say(report.line(result))
        session.results.append(result)
    gc.unfreeze()
    return session


def _session(effort: Effort) -> Session:
    return Session(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        date=datetime.now(UTC).date().isoformat(),
        quick=effort.quick,
        versions=dict(_versions()),
        results=[],
        left_out=[],
    )


def _versions() -> Iterable[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue


def write(session: Session, directory: Path) -> None:
    """Write JSON, the table and the chart; keep the results of other interpreters."""
    directory.mkdir(parents=True, exist_ok=True)
    stored = directory / "benchmarks.json"
    sessions = report.from_json(stored.read_text("utf-8")) if stored.exists() else {}
    sessions[f"{sys.version_info.major}.{sys.version_info.minor}"] = session
    sessions = dict(sorted(sessions.items(), key=lambda item: item[0].rjust(5)))
    stored.write_text(f"{report.to_json(sessions)}\n", "utf-8")
    (directory / "benchmarks.inc").write_text(report.markdown(sessions), "utf-8")
    say(f"written: {stored}, {directory / 'benchmarks.inc'}")
    if shown := chart.shown(session.results):
        drawn = directory / "chart.inc"
        drawn.write_text(chart.draw(shown, title(session)), "utf-8")
        say(f"drawn: {drawn}")


def title(session: Session) -> str:
    """Return what stands above the chart of a session."""
    return f"What FlexiFlow costs, {session.python}"


def _is_any_over(results: Iterable[Result]) -> bool:
    return any(result.verdict == "over" for result in results)
