"""One life of a worker: a process that runs it, and that may be ended at a checkpoint (P7)."""

from __future__ import annotations

import os
import sys
import traceback
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flexiflow.extras.durable._bridge.watching import watching
from flexiflow.testing._crashing.journal import ENDED, FAILED, KILLED, Journal
from flexiflow.testing._crashing.places import stop_of
from flexiflow.testing._crashing.witness import Witness
from flexiflow.testing._scheduling.backends import run_counted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from flexiflow.testing._crashing.places import Stop
    from flexiflow.testing._crashing.points import Worker

STATUS: Final = 86
"""The exit status of a process that was ended at a checkpoint."""


@dataclass(frozen=True, slots=True)
class Life:
    """What a process is to do.

    Attributes:
        worker: the number of the worker that it runs.
        backend: the backend.
        folder: the folder of the round, for the files of its workers.
        journal: the file of the round's journal.
        output: the file for what its workers write to standard output and standard error.
        kill_at: the checkpoint at which the process ends, by its way and by its time, as a `Point`
            has them; None to come to its end.
    """

    worker: int
    backend: str
    folder: str
    journal: str
    output: str
    kill_at: tuple[str, int] | None


def live(worker: Worker, life: Life) -> None:
    """Run a worker; called in a process of its own."""
    redirect(life.output)
    run(worker, life, os._exit)


def redirect(path: str) -> None:
    """Write what the process writes, from now on, to a file, so that nothing of it stays behind."""
    file = Path(path).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115  to the very end
    for descriptor in (1, 2):
        os.dup2(file.fileno(), descriptor)
    sys.stdout = sys.stderr = file


def run(worker: Worker, life: Life, leave: Callable[[int], object]) -> None:
    """Run a worker, and tell the journal what became of it.

    Args:
        worker: the function.
        life: what to do.
        leave: ends the process at once, with a status.
    """
    passed: list[Stop] = []
    times = Counter[str]()
    failure = ""

    async def main() -> None:
        nonlocal failure
        try:
            await worker(Path(life.folder))
        except BaseException as exc:
            # Without the frames of this module and of the backend.
            within = exc.__traceback__ and exc.__traceback__.tb_next
            failure = "".join(traceback.format_exception(type(exc), exc, within))
            raise

    def turn_over(coroutine: object) -> None:
        stop = stop_of(coroutine)
        passed.append(stop)
        times[stop.way] += 1
        if (stop.way, times[stop.way]) == life.kill_at:
            journal.tell(KILLED, stop.place)
            leave(STATUS)

    with _witnessed(life) as journal:
        try:
            run_counted(main, turn_over, life.backend)
        except BaseException:  # noqa: BLE001  whatever ends a worker early is told
            journal.tell(FAILED, (failure or traceback.format_exc()).rstrip())
        else:
            journal.tell(ENDED, passed)


@contextmanager
def _witnessed(life: Life) -> Generator[Journal]:
    """Open the journal, and let the bridges of all threads tell it what they do."""
    journal = Journal(life.journal, life.worker)
    watching.watch = Witness(journal).watch
    try:
        yield journal
    finally:
        watching.watch = None
        journal.close()
