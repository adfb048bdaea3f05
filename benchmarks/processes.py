"""Measures outside an event loop: importing, and `flexiflow run` over a real log."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Final
from unittest.mock import patch

from benchmarks.measuring import LeftOut, Measure, Round
from benchmarks.timing import collector_off, load, now

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from benchmarks.measuring import Effort

ROOT: Final = Path(__file__).resolve().parents[1]
LOG: Final = ROOT.parent / "shared" / "data" / "incidents.jsonl.gz"
TARGET: Final = ROOT / "examples" / "incidents.py"

_QUICK_LINES: Final = 3_000


def measures(backends: Sequence[str]) -> Iterator[Measure]:
    """Yield the measures of this module."""
    for backend in backends:
        yield Measure(
            figure="flexiflow run over the incident log, to a file",
            against="json.loads of each line alone",
            backend=backend,
            at_most=6,
            run=partial(_replay, backend),
        )
        yield Measure(
            figure="the same as a process of its own, its start included",
            against="json.loads of each line alone",
            backend=backend,
            run=partial(_replay, backend, apart=True),
        )
        yield Measure(
            figure="flexiflow run --report over the incident log, a process of its own",
            against="the same without a report",
            backend=backend,
            at_most=1.3,
            run=partial(_report, backend),
        )
    yield Measure(
        figure="import flexiflow",
        against="import anyio, .lowlevel, logging, dataclasses",
        backend="",
        at_most=1.3,
        run=_importing,
    )


def _importing(effort: Effort) -> list[Round]:
    with TemporaryDirectory() as cache:
        ours = partial(_import, "flexiflow", cache)
        theirs = partial(_import, "anyio, anyio.lowlevel, logging, dataclasses", cache)
        # The first imports write bytecode.
        ours()
        theirs()
        rounds = effort.heavy_rounds if effort.quick else effort.rounds
        return _alternate(rounds, ours, theirs)


def _import(modules: str, cache: str) -> float:
    """Return the seconds of an import in a new interpreter, without the interpreter's start."""
    code = f"from time import {now.__name__} as now; t = now(); import {modules}; print(now() - t)"
    environment = os.environ | {"PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(  # noqa: S603  this interpreter, and code of our own
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    return float(done.stdout)


def _report(backend: str, effort: Effort) -> list[Round]:
    _check_files()
    for name in ("click", "pygal", "pygraphviz"):
        load(name)
    with TemporaryDirectory() as name:
        directory = Path(name)
        log = LOG
        if effort.quick:
            log = _excerpt(_lines(_QUICK_LINES), directory / "log.jsonl.gz")
        without = partial(_run_apart, backend, directory, log)
        with_it = partial(without, "--report", str(directory / "run.html"))
        # The first run writes the bytecode of what it imports.
        with_it()
        return _alternate(effort.heavy_rounds, with_it, without)


def _check_files() -> None:
    for needed in (LOG, TARGET):
        if not needed.is_file():
            raise LeftOut(f"there is no {os.path.relpath(needed, ROOT)}")


def _replay(backend: str, effort: Effort, *, apart: bool = False) -> list[Round]:
    _check_files()
    load("click")
    main = load("flexiflow.__main__").main
    lines = _lines(_QUICK_LINES if effort.quick else None)
    with TemporaryDirectory() as name:
        directory = Path(name)
        run = partial(_run_apart if apart else partial(_run, main), backend, directory)
        # The first run imports modules that the others find imported.
        run(_excerpt(lines[:10], directory / "start.jsonl.gz"))
        log = _excerpt(lines, directory / "log.jsonl.gz") if effort.quick else LOG
        return _alternate(effort.heavy_rounds, partial(run, log), partial(_loads_once, lines))


def _lines(at_most: int | None) -> list[str]:
    with gzip.open(LOG, "rt", encoding="utf-8") as log:
        return list(islice(log, at_most))


def _excerpt(lines: list[str], path: Path) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as log:
        log.writelines(lines)
    return path


def _run(main: Callable[[], None], backend: str, directory: Path, log: Path) -> float:
    arguments = ["flexiflow", "run", f"{TARGET}:engine", str(log), "--backend", backend]
    return _run_once(main, arguments, directory / "events.jsonl")


def _run_apart(backend: str, directory: Path, log: Path, *more: str) -> float:
    command = ["-m", "flexiflow", "run", f"{TARGET}:engine", str(log), "--backend", backend]
    with (directory / "events.jsonl").open("wb") as output:
        begun = _children_now()
        subprocess.run(  # noqa: S603  this interpreter, and code of our own
            [sys.executable, *command, *more], check=True, stdout=output, stderr=subprocess.DEVNULL
        )
        return _children_now() - begun


def _children_now() -> float:
    """Return the time that ended child processes took, as `now` counts it."""
    times = os.times()
    return times.children_user + times.children_system if now is process_time else perf_counter()


def _run_once(main: Callable[[], None], arguments: list[str], output: Path) -> float:
    with _as_process(arguments, output) as told, collector_off():
        begun = now()
        status = _status_of(main)
        taken = now() - begun
    if status:
        raise RuntimeError(f"{' '.join(arguments)} ended with {status}: {told.read_text()}")
    return taken


def _status_of(main: Callable[[], None]) -> object:
    try:
        main()
    except SystemExit as exc:
        return exc.code
    return None


@contextmanager
def _as_process(arguments: list[str], output: Path) -> Generator[Path]:
    """Imitate a separate process: its arguments, standard output and error, import path."""
    told = output.with_suffix(".told")
    with (
        output.open("w", encoding="utf-8") as file,
        told.open("w", encoding="utf-8") as errors,
        redirect_stdout(file),
        redirect_stderr(errors),
        patch.object(sys, "argv", arguments),
        patch.object(sys, "path", sys.path.copy()),
    ):
        yield told


def _loads_once(lines: list[str]) -> float:
    with collector_off():
        begun = now()
        for line in lines:
            json.loads(line)
        return now() - begun


def _alternate(rounds: int, ours: Callable[[], float], theirs: Callable[[], float]) -> list[Round]:
    return [Round(ours(), theirs()) for _ in range(rounds)]
