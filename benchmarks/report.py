"""Reports of results: on the terminal, as JSON, and as a table for the documentation."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, final

from benchmarks.measuring import Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.measuring import Unit

HEADINGS: Final = (
    f"    {'against':<45} {'backend':<8} {'best':>7} {'median':>7} {'spread':>14}"
    f" {'at most':>8} {'':<5} {'a call':>9}"
)


@final
@dataclass(frozen=True, slots=True)
class Session:
    """The results of one run.

    Attributes:
        python: the interpreter and its version.
        machine: the machine that it ran on.
        date: the day, in ISO format.
        quick: whether it was a quick run.
        versions: the versions of FlexiFlow, its dependencies and its peers.
        results: the results, in the order of measuring.
        left_out: the measures that could not be taken, and why.
    """

    python: str
    machine: str
    date: str
    quick: bool
    versions: dict[str, str]
    results: list[Result]
    left_out: list[str]


def line(result: Result) -> str:
    """Return one result as a line, to stand below a line with its figure."""
    spread = f"{amount(result.lowest, result.unit)}-{amount(result.highest, result.unit)}"
    return (
        f"    {result.against or '(by itself)':<45} {result.backend or 'any':<8}"
        f" {amount(result.best, result.unit):>7} {amount(result.median, result.unit):>7}"
        f" {spread:>14} {target(result):>8} {result.verdict:<5} {per_call(result):>9}"
    )


def amount(value: float, unit: Unit) -> str:
    """Return a value with about three digits; whole numbers are written in full."""
    if unit != "times":
        return f"{value:.0f}"
    size = abs(value)
    decimals = next((n for n, least in enumerate((100, 10, 0.1, 0.01)) if size >= least), 4)
    return f"{value:,.{decimals}f}"


def target(result: Result) -> str:
    """Return the target, or an empty text if there is none."""
    return "" if result.at_most is None else f"{result.at_most:g}"


def per_call(result: Result) -> str:
    """Return the time of a call of ours, or an empty text if no call is timed."""
    if result.unit != "times":
        return ""
    scale, unit = next(
        (each for each in ((1.0, "s"), (1e-3, "ms")) if result.ours >= each[0]), (1e-6, "us")
    )
    return f"{result.ours / scale:,.2f} {unit}"


def summary(results: Sequence[Result]) -> str:
    """Return the numbers of results by verdict."""
    verdicts = [result.verdict for result in results]
    ok, near, over = (verdicts.count(verdict) for verdict in ("ok", "near", "over"))
    return (
        f"{len(results)} figures, {ok + near + over} with a target: {ok} ok,"
        f" {near} near (met by the best or the median alone), {over} over"
    )


def to_json(sessions: Mapping[str, Session]) -> str:
    """Return sessions as JSON, by the interpreter's version."""
    stored = {
        key: asdict(session) | {"results": [*map(_stored, session.results)]}
        for key, session in sessions.items()
    }
    return json.dumps(stored, indent=1)


def _stored(result: Result) -> dict[str, Any]:
    return {
        key: float(f"{value:.5g}") if isinstance(value, float) else value
        for key, value in asdict(result).items()
    }


def from_json(text: str) -> dict[str, Session]:
    """Return the sessions that `to_json` wrote."""
    loaded: dict[str, dict[str, Any]] = json.loads(text)
    return {key: _session(**each) for key, each in loaded.items()}


def _session(*, results: list[dict[str, Any]], **rest: Any) -> Session:
    return Session(results=[Result(**result) for result in results], **rest)


def markdown(sessions: Mapping[str, Session]) -> str:
    """Return a table of all sessions side by side, and how they were measured."""
    found = {
        key: {_row(result): result for result in session.results}
        for key, session in sessions.items()
    }
    rows = dict.fromkeys(row for results in found.values() for row in results)
    headings = ["figure", "against", "backend", "at most", *(f"CPython {key}" for key in sessions)]
    lines = [_cells(headings), _cells(["---"] * 3 + ["---:"] * (len(headings) - 3))]
    for row in rows:
        each = [results.get(row) for results in found.values()]
        known = next(result for result in each if result is not None)
        lines.append(_cells([*_described(known), *map(_cell, each)]))
    return "\n".join([*lines, "", *(_circumstances(session) for session in sessions.values()), ""])


def _row(result: Result) -> tuple[str, str, str]:
    return result.figure, result.against, result.backend


def _described(result: Result) -> tuple[str, ...]:
    at_most = f"{target(result)} {'' if result.unit == 'times' else result.unit}".strip()
    return result.figure, result.against, result.backend or "any", at_most


def _cell(result: Result | None) -> str:
    if result is None:
        return "not measured"
    best, median, lowest, highest = (
        amount(value, result.unit)
        for value in (result.best, result.median, result.lowest, result.highest)
    )
    told = best if result.rounds == 1 else f"{best}, {median} ({lowest} to {highest})"
    mark = {"over": "**", "near": "_"}.get(result.verdict, "")
    return f"{mark}{told}{mark}"


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _circumstances(session: Session) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in session.versions.items())
    quick = ", roughly (`--quick`)," if session.quick else ""
    left_out = f" Left out: {'; '.join(session.left_out)}." if session.left_out else ""
    return (
        f"Measured{quick} on {session.date} with {session.python} on {session.machine}: {versions}."
        f"{left_out}\n"
    )
