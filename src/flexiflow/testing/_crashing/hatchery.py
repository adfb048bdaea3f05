"""The process that forks the workers' processes (P7).

It is a new process without threads and event loops, which imports the scenario once; where there
are no forks, each process of a worker imports the scenario itself.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
import traceback
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import anyio

from flexiflow.testing._crashing.life import live

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from typing import Self

    from flexiflow.testing._crashing.life import Life
    from flexiflow.testing._crashing.points import Worker

    Pipe: TypeAlias = Connection[Any, Any]

# A process of macOS may only be forked if it uses none of the system's libraries.
_METHOD: Final = "spawn" if sys.platform in {"win32", "darwin"} else "fork"

_READY: Final = "ready"

_LONGEST_WAIT: Final = 0.5
"""After so many seconds it is looked for ends that were not told."""


@final
class Hatchery:
    """Starts processes, and tells when they have ended; an ordinary context manager.

    Args:
        workers: the workers, pickled.
        backend: the backend on which most of them run.

    Raises:
        ImportError: on entering: the workers can't be imported there.
    """

    def __init__(self, workers: bytes, backend: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe: Pipe
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, workers, backend))
        self._theirs = theirs
        self._numbers = count()

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()
        try:
            problem: str = self._pipe.recv()
        except EOFError:
            problem = (
                "the process that does that has ended; where this is a program of its own, call it "
                "below `if __name__ == '__main__':`"
            )
        except BaseException:
            # Ctrl-C, while it still imports, which may take long.
            self._process.kill()
            self._end()
            raise
        if problem != _READY:
            self._end()
            raise ImportError(f"the workers must be importable by another process: {problem}")
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def start(self, life: Life) -> int:
        """Start a process, and return its number."""
        number = next(self._numbers)
        self._ask(number, life)
        return number

    def kill(self, number: int) -> None:
        """Kill a process, which is reported as any that has ended."""
        self._ask(number, None)

    def wait(self, seconds: float) -> tuple[int, int | None] | None:
        """Wait until a process has ended, and return its number and status; None if none has."""
        with _reaching():
            return self._pipe.recv() if self._pipe.poll(seconds) else None

    def _ask(self, number: int, life: Life | None) -> None:
        with _reaching():
            # `send` that fails leaves a buffer, which the interpreter complains of later.
            self._pipe.send_bytes(pickle.dumps((number, life)))

    def _end(self) -> None:
        """Kill all processes."""
        self._pipe.close()
        self._process.join()
        self._process.close()


@contextmanager
def _reaching() -> Generator[None]:
    """Tell what it means if the process can't be reached."""
    try:
        yield
    except (EOFError, OSError) as exc:
        raise RuntimeError(
            "the process that starts the workers has ended: it was killed, or could start no more "
            "processes"
        ) from exc


def serve(pipe: Pipe, pickled: bytes, backend: str) -> None:
    """Start processes as they are asked for, until nobody can ask any more."""
    # The process that asks gets Ctrl-C, too, and then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        workers: Sequence[Worker] = pickle.loads(pickled)  # noqa: S301  written by the caller
    except BaseException:  # noqa: BLE001  whatever it raises is told
        pipe.send(traceback.format_exc())
        return
    # Imports what each process needs.
    anyio.run(anyio.sleep, 0, backend=backend)
    pipe.send(_READY)
    _Forking(pipe, workers).run()


@final
class _Forking:
    """The processes that run.

    Args:
        pipe: where they are asked for, and where their ends are told.
        workers: the workers.
    """

    def __init__(self, pipe: Pipe, workers: Sequence[Worker]) -> None:
        self._pipe = pipe
        self._workers = workers
        self._context: Any = multiprocessing.get_context(_METHOD)
        self._processes: dict[int, BaseProcess] = {}

    def run(self) -> None:
        """Go on until nobody can ask any more; then kill what is left."""
        try:
            while True:
                ends = {each.sentinel: number for number, each in self._processes.items()}
                for ready in wait([self._pipe, *ends], _LONGEST_WAIT):
                    if isinstance(ready, int):
                        self._tell(ends[ready])
                    else:
                        self._do(*self._pipe.recv())
                # The end of a process is not told while one that it has forked goes on.
                for number, process in [*self._processes.items()]:
                    if process.exitcode is not None:
                        self._tell(number)
        except (EOFError, OSError):
            for process in self._processes.values():
                process.kill()
                process.join()

    def _do(self, number: int, life: Life | None) -> None:
        if life is not None:
            process: BaseProcess = self._context.Process(
                target=live, args=(self._workers[life.worker], life)
            )
            process.start()
            self._processes[number] = process
        else:
            with suppress(KeyError):  # it may have ended meanwhile
                self._processes[number].kill()

    def _tell(self, number: int) -> None:
        process = self._processes.pop(number)
        process.join()
        self._pipe.send((number, process.exitcode))
        process.close()
