"""What the workers of a round tell, in one file: a line for each fact, in the order of writing."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from flexiflow._text import show

if TYPE_CHECKING:
    from pathlib import Path

BEGAN: Final = "began"
"""An attempt at a stored event began; tells the event's key and name."""

SETTLED: Final = "settled"
"""A stored event was acknowledged, or became a dead letter; tells its key."""

LET_GO: Final = "let go"
"""An attempt ended, or was lost to another worker, and another one may follow; tells the key."""

IN_MEMORY: Final = "in memory"
"""A bridge was opened over a transport that keeps nothing."""

KILLED: Final = "killed"
"""The process is about to be ended at its checkpoint; tells the place in the code."""

ENDED: Final = "ended"
"""The worker has come to its end; tells the checkpoints that it has passed."""

FAILED: Final = "failed"
"""The worker has raised; tells the traceback."""


class Fact(NamedTuple):
    """A line of a journal.

    Attributes:
        worker: the number of the worker that wrote it.
        what: one of the constants of this module.
        about: what is told.
    """

    worker: int
    what: str
    about: Any


def describe_fact(fact: Fact) -> str:
    """Return a fact as a line for people."""
    if fact.what == BEGAN:
        event, name = fact.about
        return f"began {show(name)} ({event})"
    if fact.what in {SETTLED, LET_GO}:
        return f"{fact.what} ({fact.about})"
    return f"killed at {fact.about}" if fact.what == KILLED else fact.what


@final
class Journal:
    """Writes facts, each by one call of the system, so that no buffer is lost with the process.

    Args:
        path: the file, which several processes append to.
        worker: the number of the worker that writes.
    """

    def __init__(self, path: str, worker: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._worker = worker

    def tell(self, what: str, about: object = None) -> None:
        """Write a fact."""
        os.write(self._file, json.dumps([self._worker, what, about]).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_journal(path: Path) -> list[Fact]:
    """Read the facts that were told."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [Fact(*json.loads(line)) for line in text.splitlines()]
