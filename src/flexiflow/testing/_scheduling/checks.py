"""Check arguments, so that bad ones fail at the call."""

from __future__ import annotations

import reprlib
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from flexiflow._callables import check_callable, describe, is_coroutine_callable

if TYPE_CHECKING:
    from collections.abc import Iterable

BACKENDS: Final = ("asyncio", "trio")


def check_scenario(scenario: object, caller: str) -> None:
    """Refuse anything but an async function without arguments, and a call from within a loop.

    Args:
        scenario: the argument to check.
        caller: the name of the function that is to run it.

    Raises:
        TypeError: it can't be a scenario.
        RuntimeError: an event loop is running here already.
    """
    check_callable("scenario", scenario, 0)
    if not is_coroutine_callable(scenario):
        raise TypeError(f"scenario must be an async function, which {describe(scenario)} is not")
    check_no_loop(caller)


def check_no_loop(caller: str) -> None:
    """Refuse a call from within an event loop.

    Args:
        caller: the name of the function that runs event loops of its own.

    Raises:
        RuntimeError: an event loop is running here already.
    """
    if not _runs_loop():
        return
    raise RuntimeError(
        f"{caller} runs event loops of its own, and one is running here already: call this from a "
        "plain function, not from async code; in a notebook, or where it has to be async code, "
        f"give it a thread: `await anyio.to_thread.run_sync(lambda: {caller}(...))`"
    )


def _runs_loop() -> bool:
    """Return whether an event loop is running in this thread."""
    with suppress(RuntimeError):
        anyio.get_cancelled_exc_class()
        return True
    # AnyIO asks for the task, and a callback of asyncio, such as that of a widget, has none.
    with suppress(KeyError, RuntimeError):
        sys.modules["asyncio"].get_running_loop()
        return True
    return False


def check_backend(backend: object) -> None:
    """Refuse a backend that is unknown, or not installed.

    Raises:
        ValueError: it is unknown.
        ImportError: it is not installed.
    """
    if backend not in BACKENDS:
        allowed = " or ".join(map(repr, BACKENDS))
        raise ValueError(f"backend must be {allowed}, not {reprlib.repr(backend)}")
    if backend == "trio" and find_spec("trio") is None:
        raise ImportError("backend 'trio' needs trio, which is not installed: flexiflow[trio]")


def check_int(what: str, given: object, *, least: int) -> None:
    """Refuse a value that is no int, or too small.

    Raises:
        ValueError: it is no int, or less than `least`.
    """
    if not isinstance(given, int) or isinstance(given, bool) or given < least:
        raise ValueError(f"{what} must be an int, {least} or more, not {reprlib.repr(given)}")


def check_decisions(decisions: Iterable[int]) -> tuple[int, ...]:
    """Return a schedule as a tuple.

    Raises:
        TypeError: it is no iterable.
        ValueError: one of its items is no int of 0 or more.
    """
    try:
        checked = tuple(decisions)
    except TypeError:
        given = reprlib.repr(decisions)
        raise TypeError(f"decisions must be a sequence of ints, not {given}") from None
    for decision in checked:
        check_int("a decision", decision, least=0)
    return checked


def check_trace(trace: object) -> Path | None:
    """Return where a story is to be drawn, as an absolute path: the scenario may go elsewhere.

    Raises:
        TypeError: it is neither a str nor a `Path`, nor None.
        ValueError: it is a folder, or in no folder that exists.
    """
    if trace is None:
        return None
    given = reprlib.repr(trace)
    if not isinstance(trace, (str, Path)):
        raise TypeError(f"trace must be the path of a file to write, not {given}")
    path = Path(trace).absolute()
    if path.is_dir():
        raise ValueError(f"trace must be the path of a file to write, but {given} is a folder")
    if not path.parent.is_dir():
        raise ValueError(f"trace must be in a folder that exists, which that of {given} does not")
    return path
