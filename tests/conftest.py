"""The backends that every test runs on."""

import asyncio
import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
import traceback
from asyncio import constants
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import coverage
import pytest

import flexiflow

Backend = tuple[str, dict[str, Any]]

WITHOUT_TRIO = "FLEXIFLOW_TESTS_WITHOUT_TRIO" in os.environ


def eager_event_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop that runs each new task at once, up to its first wait."""
    loop = asyncio.new_event_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def backends() -> dict[str, Backend]:
    """Name the backends of this interpreter and this environment."""
    found: dict[str, Backend] = {"asyncio": ("asyncio", {"debug": True})}
    if sys.version_info >= (3, 12):
        found["asyncio-eager"] = ("asyncio", {"loop_factory": eager_event_loop})
        if WITHOUT_TRIO:
            # Where there is trio, there are asyncio's other tasks, too.
            del found["asyncio"]
    if find_spec("trio") is not None:
        found["trio"] = ("trio", {})
    return found


BACKENDS = backends()
MEMORY = Path("/dev/shm")  # noqa: S108  `tempfile` names the files in it
MUCH = 2**31
"""So many bytes must be free to keep temporary files in memory."""
COVERAGE = coverage.Coverage.current()
"""What measures the tests, if anything does."""
CHILDREN = {name: value for name, value in os.environ.items() if name == "COVERAGE_PROCESS_CONFIG"}
"""The variable by which a new process measures itself, with its value."""


def keep_files_in_memory() -> None:
    """Create temporary files in memory, if there is enough of it and no other place is asked for.

    Where they are on a disk, the tests of SQLite and Redis spend most of their time on waiting for
    it. They kill processes and never the machine, so no test is about what reached the disk.
    """
    if "TMPDIR" in os.environ or not (MEMORY.is_dir() and os.access(MEMORY, os.W_OK)):
        return
    if shutil.disk_usage(MEMORY).free >= MUCH:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def pytest_configure() -> None:
    """Set up the process; refuse an environment where trio is missing or there by mistake."""
    keep_files_in_memory()
    # A job in the background ignores Ctrl-C, and so would each process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # In debug mode asyncio warns of slow steps, which any is on a busy machine.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    # It also notes who made each task and callback, which takes longer than most tests.
    setattr(constants, "DEBUG_STACK_DEPTH", 0)  # noqa: B010  it is declared as Final
    # For tasks and futures in C it asks `traceback` itself, without a limit.
    traceback.extract_stack.__defaults__ = (None, 0)
    if WITHOUT_TRIO and "trio" in BACKENDS:
        message = "FLEXIFLOW_TESTS_WITHOUT_TRIO is set, but trio is installed: uninstall it"
        raise pytest.UsageError(message)
    if not WITHOUT_TRIO and "trio" not in BACKENDS:
        message = "trio is not installed: install it, or set FLEXIFLOW_TESTS_WITHOUT_TRIO"
        raise pytest.UsageError(message)


def pytest_collection() -> None:
    """Import the library while coverage is measured, and collect the tests while it is not.

    To measure what `coverage` leaves out, like the tests' own modules, takes long, too. So does it
    to collect garbage where nearly all that is made stays.
    """
    gc.disable()
    if COVERAGE is not None:
        for module in walk_packages(flexiflow.__path__, "flexiflow."):
            import_module(module.name)
        measure(wanted=False)


def pytest_collection_finish() -> None:
    """Leave alone, in each collection of garbage, what lives as long as the whole run."""
    gc.enable()
    gc.collect()
    gc.freeze()


def counts(item: pytest.Item) -> bool:
    """Return whether a test counts for coverage.

    On asyncio it counts only if it is marked `measured`, or about a native cancellation: on trio
    the same test takes half as long.
    """
    given: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    backends = {given.get("backend"), given.get("anyio_backend", ("",))[0]}
    marks = {mark.name for mark in item.iter_markers()}
    if "measured" in marks or "native" in given.values():
        return True
    return "asyncio" not in backends and "unmeasured" not in marks


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that count first: a thread that starts in another test is not measured later.

    Trio keeps threads for the next test that needs one.
    """
    if COVERAGE is not None:
        items.sort(key=counts, reverse=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Measure a test only if it counts: measuring takes longer than the test itself."""
    measure(wanted=counts(item))


def pytest_sessionfinish() -> None:
    """Go on measuring; the program that started it also stops it."""
    measure(wanted=True)


def measure(*, wanted: bool) -> None:
    """Start or stop measuring coverage, in this process and in those that it starts."""
    if COVERAGE is None or wanted == (coverage.Coverage.current() is not None):
        return
    if wanted:
        os.environ.update(CHILDREN)
        COVERAGE.start()
    else:
        COVERAGE.stop()
        for name in CHILDREN:
            del os.environ[name]


@pytest.fixture(scope="module", params=BACKENDS.values(), ids=list(BACKENDS))
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    """Give the backend that the test runs on, with its options."""
    backend: Backend = request.param
    return backend


@pytest.fixture(scope="module")
def backend_name(anyio_backend: Backend) -> str:
    """Give a test that starts its own loop the name to pass to `anyio.run`."""
    return anyio_backend[0]


@pytest.fixture(scope="module")
def backend_options(anyio_backend: Backend) -> dict[str, Any]:
    """Give a test that starts its own loop the options to pass to `anyio.run`."""
    return anyio_backend[1]


@pytest.fixture(scope="session", params=sorted({name for name, _ in BACKENDS.values()}))
def backend(request: pytest.FixtureRequest) -> str:
    """Give a test that explores or sweeps a backend; it brings event loops of its own."""
    name: str = request.param
    return name
