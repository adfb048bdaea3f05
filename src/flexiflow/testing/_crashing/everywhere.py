"""Crash the workers of a durable scenario at each of their checkpoints (P7)."""

from __future__ import annotations

import pickle
import re
import reprlib
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, cast

from flexiflow._arguments import check_seconds
from flexiflow._callables import check_callable, describe, is_coroutine_callable
from flexiflow.testing._crashing.points import Plan, Point
from flexiflow.testing._scheduling.checks import check_backend, check_int, check_no_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.testing._crashing.failures import Crashes
    from flexiflow.testing._crashing.points import Worker

_AT: Final = re.compile(r"(?P<name>.+):(?P<way>[0-9a-f]{8}):(?P<time>[1-9][0-9]{0,8})")


def crash_everywhere(
    scenario: Worker | Sequence[Worker],
    *,
    backend: str,
    check: Callable[[Path], object],
    most: int | None = None,
    at: str | None = None,
    at_once: int = 8,
    time_limit: float = 30.0,
) -> Crashes:
    """Run a durable scenario once for each checkpoint of each worker, which is killed there (P7).

    A scenario has one or several *workers*. Each worker runs in a process and an event loop of its
    own, in real time; all begin at the same time. In each run one worker is killed by `os._exit` at
    one of its checkpoints, which are the moments when one of its tasks lets others run. It is
    started again at once. When all workers have come to their end, `check` is called.

    The first run is without a crash, and counts the checkpoints. Since threads, files and timers
    are real, other runs may pass fewer: points that were not reached are reported.

    A run also fails if a worker raises or does not end, and if a bridge hands a stored event to
    handlers after it was acknowledged, or more than once more after the crash.

    Args:
        scenario: an async function, or several of them. Each is called with the folder of the run,
            which is new and empty, and whose name no other run has. It opens its bridges and
            stores, does its work, and returns when all is done; also when it is started again in
            the same folder. It must be importable: other processes find it by its module and name.
        backend: "asyncio" or "trio".
        check: called with the folder after each run, in this process, and awaited in an event loop
            of its own if it is async; raises or returns False if something is lost or done twice.
        most: how many points to try at most, 1 or more: first those where the worker comes to a
            line for the first time, and of these first the lines of your own code. None for all.
        at: try only this point, which a failure or a report has named.
        at_once: how many runs go on at the same time, 1 or more.
        time_limit: how many seconds the workers have, more than 0; and have again once the killed
            one was started again.

    Returns:
        How many checkpoints there were, how many points were tried, and which were not reached.

    Raises:
        CrashFailure: a run failed, with or without a crash.
        TypeError: a worker is no async function of one argument, or can't be pickled; `check` can't
            be called.
        ValueError: an unknown backend; a number out of its range; no worker; `at` is no point of
            this scenario; a bridge was opened over a `MemoryTransport`.
        ImportError: the backend is not installed, or another process can't import a worker.
        RuntimeError: called from async code.
    """
    # Durable delivery is imported where it is used, since it takes long.
    from flexiflow.testing._crashing.hatchery import Hatchery  # noqa: PLC0415
    from flexiflow.testing._crashing.sweep import Sweep  # noqa: PLC0415

    workers = _workers_of(scenario)
    check_backend(backend)
    check_callable("check", check, 1)
    for name, number in (("most", 1 if most is None else most), ("at_once", at_once)):
        check_int(name, number, least=1)
    check_seconds("time_limit", time_limit)
    check_no_loop("crash_everywhere")
    names = _names_of(workers)
    points = None if at is None else [_point_of(at, names)]
    pickled = _pickled(workers)
    with (
        TemporaryDirectory(prefix="flexiflow-crash-") as folder,
        Hatchery(pickled, backend) as hatchery,
    ):
        plan = Plan(names, backend, time_limit)
        return Sweep(plan, hatchery, Path(folder), check, at_once).run(points, most)


def _workers_of(scenario: Any) -> Sequence[Worker]:
    is_one = not isinstance(scenario, Sequence)
    workers: Sequence[Worker] = [scenario] if is_one else cast("Sequence[Worker]", scenario)
    if not workers:
        raise ValueError("a scenario must have one worker or more, and this one has none")
    for each in workers:
        check_callable("a worker", each, 1)
        if not is_coroutine_callable(each):
            raise TypeError(f"a worker must be an async function, which {describe(each)} is not")
    return workers


def _names_of(workers: Sequence[Worker]) -> list[str]:
    """Return a name for each worker; where several have the same, they are numbered."""
    seen = Counter[str]()
    names: list[str] = []
    for worker in workers:
        name = describe(worker).rpartition(".")[2]
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def _pickled(workers: Sequence[Worker]) -> bytes:
    main = sys.modules["__main__"]
    try:
        pickled = pickle.dumps(list(workers))
    except Exception as problem:
        raise TypeError(
            "a worker must be importable: a function of a module, a method of an object that can "
            f"be pickled, or a functools.partial of one; {problem}"
        ) from problem
    is_of_main = any(getattr(each, "__module__", None) == "__main__" for each in workers)
    if is_of_main and getattr(main, "__file__", None) is None:
        raise TypeError(
            "a worker must be importable, and those of a notebook or of an interactive session "
            "are not: write them into a module, and import that"
        )
    return pickled


def _point_of(at: object, names: Sequence[str]) -> Point:
    found = _AT.fullmatch(str(at))
    if found is None or found["name"] not in names:
        known = ", ".join(map(repr, names))
        raise ValueError(
            f"at must be a point that a failure or a report has named, not {reprlib.repr(at)}; "
            f"the workers are {known}"
        )
    return Point(names.index(found["name"]), found["way"], int(found["time"]))
