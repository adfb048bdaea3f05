"""A pytest plugin: fixtures, a check for what tests leave behind (P4), stories in color (P8).

It does not load by itself, since its fixtures have short names and it fails tests. A suite asks for
it, with `pytest_plugins = ["flexiflow.testing.pytest_plugin"]` in its top `conftest.py`. AnyIO's
own plugin, which does load by itself, runs the tests. pytest-trio and pytest-asyncio may run the
tests that are marked for them: only the check for tasks needs AnyIO's plugin.
"""

from __future__ import annotations

from importlib.util import find_spec
from inspect import iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any, Final

import pytest

from flexiflow._bus import EventBus
from flexiflow.testing._record import record_at_once
from flexiflow.testing._scheduling.checks import BACKENDS
from flexiflow.testing._scheduling.failures import ScheduleFailure
from flexiflow.testing._scheduling.run import check_left, running_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from flexiflow.testing._record import Recorded

_OURS: Final = frozenset({"bus", "recorded"})

_OTHERS: Final = frozenset({"trio", "asyncio"})
"""The marks of tests that pytest-trio and pytest-asyncio run."""


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> None:
    """Make AnyIO run an async test that asks for a bus, unless another plugin runs it."""
    if not collector.istestfunction(obj, name):
        return
    test = _inner(obj)
    if not iscoroutinefunction(test) or _OURS.isdisjoint(signature(test).parameters):
        return
    marks = (*collector.iter_markers(), *getattr(obj, "pytestmark", ()))
    if not _is_left_to_others({mark.name for mark in marks}, collector.config):
        pytest.mark.usefixtures("anyio_backend")(obj)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Do the same for a test that gets the bus through another fixture."""
    function: object = getattr(item, "function", None)
    if (
        isinstance(item, pytest.Function)
        and iscoroutinefunction(_inner(function))
        and "anyio_backend" not in item.fixturenames
        and not _OURS.isdisjoint(item.fixturenames)
        and not _is_left_to_others({mark.name for mark in item.iter_markers()}, item.config)
    ):
        # AnyIO's plugin looks for this mark when all tests are collected.
        item.add_marker("anyio")


def _inner(function: Any) -> Any:
    return function.hypothesis.inner_test if hasattr(function, "hypothesis") else function


def _is_left_to_others(marks: set[str], config: pytest.Config) -> bool:
    """Return whether pytest-trio or pytest-asyncio runs a test, by its mark or by their mode."""
    if not _OTHERS.isdisjoint(marks):
        return True
    has = config.pluginmanager.has_plugin
    if has("trio") and config.getini("trio_mode"):
        return True
    return has("asyncio") and "auto" in {
        config.getoption("asyncio_mode"),
        config.getini("asyncio_mode"),
    }


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Let a schedule that failed tell its story in color where pytest's own output has colors."""
    failure = None if call.excinfo is None else call.excinfo.value
    if isinstance(failure, ScheduleFailure):
        failure.color = item.config.get_terminal_writer().hasmarkup


@pytest.fixture(params=[name for name in BACKENDS if find_spec(name) is not None])
def backend(request: pytest.FixtureRequest) -> str:
    """Return "asyncio", then "trio" if it is installed, for sync tests that explore and sweep."""
    name: str = request.param
    return name


# Sync fixtures: the marks of a test decide which plugin runs it.
@pytest.fixture
def bus() -> Generator[EventBus]:
    """Yield a bus, and fail a test that leaves a subscription on it."""
    bus = EventBus()
    yield bus
    left = ", ".join(map(repr, bus.subscriptions()))
    if left:
        pytest.fail(f"subscriptions are left behind: {left}")


@pytest.fixture
def recorded(bus: EventBus) -> Generator[Recorded]:
    """Yield what is published on the test's bus, and what fails there."""
    with record_at_once(bus) as recorded:
        yield recorded


@pytest.fixture(autouse=True)
def _watched(request: pytest.FixtureRequest) -> None:  # pyright: ignore[reportUnusedFunction]
    # Only tests that AnyIO runs have tasks. Asking for its backend would run all others twice.
    if "anyio_backend" not in request.fixturenames:
        return
    if (
        request.node.get_closest_marker("trio")
        and request.getfixturevalue("anyio_backend_name") == "trio"
    ):
        pytest.fail(
            "two plugins would run this test on trio, AnyIO's and pytest-trio: mark it for one of "
            "them alone, and with pytest-trio let anyio_mode be 'strict'"
        )
    request.getfixturevalue("_watched_tasks")


@pytest.fixture
async def _watched_tasks(  # pyright: ignore[reportUnusedFunction]
    anyio_backend: object,
) -> AsyncGenerator[None]:
    before = running_tasks()
    yield
    check_left(before)
