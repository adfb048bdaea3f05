"""Reports on the progress and the result of a run."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, final

from tools.chaos.ledger import Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_EVERY: Final = 5.0
"""Seconds between two lines if there is no terminal."""

_COLUMNS: Final = {
    "scenario": "scenario",
    "backend": "backend",
    "mode": "mode",
    "kills": "times",
    "stored": "stored",
    "handled": "handled",
    "twice": "handled again",
    "in_doubt": "failed publishes",
    "dead": "dead letters",
    "lost": "lost",
    "missed": "told as missed",
    "unhandled": "not handled",
    "doubled": "stored twice",
    "wrong": "wrongly dead or not",
    "unsettled": "unsettled",
    "cancelled": "cancelled",
    "mistimed": "mistimed",
    "leaks": "leaks",
}


@final
class Progress:
    """Shows the progress on standard error: in one line on a terminal, else now and then."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._told = 0.0
        self._title = ""

    def begin(self, title: str) -> None:
        """Begin a new run."""
        self._title = title
        self._told = 0.0
        self.tell("begins")

    def tell(self, text: str) -> None:
        """Show the progress."""
        now = time.monotonic()
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{self._title}: {text}")
        elif now - self._told >= _EVERY:
            self._told = now
            sys.stderr.write(f"{self._title}: {text}\n")
        sys.stderr.flush()

    def end(self, result: Result) -> None:
        """Show the result."""
        faults = ", ".join(f"{name} {count:,}" for name, count in result.faults.items())
        start = "\r\x1b[K" if self._is_terminal else ""
        sys.stderr.write(f"{start}{self._title}: {faults or 'well'}, {result.seconds:.0f} s\n")


def table(results: Iterable[Result], *, seconds: bool) -> str:
    """Return results as a table in Markdown.

    Args:
        results: the rows.
        seconds: whether to show how long each took.
    """
    columns = _COLUMNS | ({"seconds": "seconds"} if seconds else {})
    rows = [[_cell(getattr(result, name)) for name in columns] for result in results]
    rule = ["---"] * 3 + ["---:"] * (len(columns) - 3)
    return "".join(f"| {' | '.join(row)} |\n" for row in [[*columns.values()], rule, *rows])


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.0f}"


def write(results: Sequence[Result], folder: Path) -> None:
    """Write results for the documentation, and keep those of other runs."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "chaos.json"
    rows: dict[str, Any] = json.loads(data.read_text("utf-8")) if data.exists() else {}
    for result in results:
        row = asdict(result)
        # The time is a figure of this machine only.
        del row["seconds"]
        rows[f"{result.scenario}/{result.backend}/{result.mode}"] = row
    data.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    known = [Result(**row) for _, row in sorted(rows.items())]
    (folder / "chaos.inc").write_text(table(known, seconds=False), "utf-8")
