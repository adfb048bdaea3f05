"""A pytest plugin: fixtures, and a watch over what tests leave behind (P4).

It does not load by itself, since its fixtures have short names and it fails tests. A suite asks for
it, with `pytest_plugins = ["flexiflow.testing.pytest_plugin"]` in its top `conftest.py`. AnyIO's
own plugin, which does load by itself, runs the tests.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from flexiflow._bus import EventBus, subscriptions
from flexiflow.testing._checks import BACKENDS
from flexiflow.testing._record import record
from flexiflow.testing._tasks import check_left, running_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from flexiflow.testing._record import Recorded


@pytest.fixture(params=[name for name in BACKENDS if find_spec(name) is not None])
def backend(request: pytest.FixtureRequest) -> str:
    """Give "asyncio", then "trio" if it is installed, to plain tests that explore and sweep."""
    name: str = request.param
    return name


@pytest.fixture
async def bus(anyio_backend: object) -> AsyncGenerator[EventBus]:
    """Give a bus, and fail the test that leaves a subscription on it."""
    bus = EventBus()
    yield bus
    left = ", ".join(map(repr, subscriptions(bus)))
    if left:
        pytest.fail(f"subscriptions are left behind: {left}")


@pytest.fixture
async def recorded(bus: EventBus) -> AsyncGenerator[Recorded]:
    """Give what is published on the test's bus, and what fails there."""
    async with record(bus) as recorded:
        yield recorded


@pytest.fixture(autouse=True)
def _watched(request: pytest.FixtureRequest) -> None:  # pyright: ignore[reportUnusedFunction]
    # Only what AnyIO runs has tasks; to ask for its backend would run every other test twice.
    if "anyio_backend" in request.fixturenames:
        request.getfixturevalue("_watched_tasks")


@pytest.fixture
async def _watched_tasks(  # pyright: ignore[reportUnusedFunction]
    anyio_backend: object,
) -> AsyncGenerator[None]:
    before = running_tasks()
    yield
    check_left(before)
