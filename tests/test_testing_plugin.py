"""The pytest plugin, in a suite of its own."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.conftest import BACKENDS

SUITE = """
import asyncio

import pytest

from flexiflow import EventBus
from flexiflow.testing import Recorded, explore

pytestmark = pytest.mark.anyio
tasks = []


@pytest.fixture
async def background(anyio_backend_name):
    task = None
    if anyio_backend_name == "asyncio":
        task = asyncio.create_task(asyncio.sleep(60))
    yield
    if task:
        task.cancel()


async def test_recorded(bus, recorded, background):
    assert isinstance(bus, EventBus)
    assert isinstance(recorded, Recorded)
    with await bus.subscribe("a", "c", print):
        await bus.publish("a", 1)
    assert recorded.events == [("a", 1)]


async def test_leaves_a_subscription(bus):
    await bus.subscribe("a", "c", print)


async def test_leaves_a_stream(bus):
    await bus.stream("a.*").__aenter__()


async def test_leaves_a_task(anyio_backend_name):
    async def linger():
        await asyncio.sleep(60)

    if anyio_backend_name == "asyncio":
        tasks.append(asyncio.create_task(linger()))


def test_plain(backend):
    async def scenario():
        pass

    assert explore(scenario, backend=backend).exhausted


def test_without_anything():
    pass
"""


OPTIONS = ["-p", "flexiflow.testing.pytest_plugin", "-p", "no:cacheprovider", "-rA", "--tb=line"]


def outcomes(folder: Path) -> list[str]:
    """Run that suite, and return what pytest says of each of its tests."""
    (folder / "test_suite.py").write_text(SUITE, encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
        capture_output=True,
        text=True,
    )
    summary = finished.stdout.partition("short test summary info")[2]
    return sorted(line.partition(": ")[0] for line in summary.splitlines() if "::" in line)


def test_the_plugin_gives_fixtures_and_watches_what_is_left(tmp_path: Path) -> None:
    """P4: a test that leaves a task or a subscription behind fails; the others pass."""
    names = sorted({name for name, _ in BACKENDS.values()})
    found = outcomes(tmp_path)
    assert [line for line in found if line.startswith("ERROR")] == [
        *(f"ERROR test_suite.py::test_leaves_a_stream[{name}] - Failed" for name in names),
        *(f"ERROR test_suite.py::test_leaves_a_subscription[{name}] - Failed" for name in names),
        "ERROR test_suite.py::test_leaves_a_task[asyncio] - flexiflow.testing._failures.TasksLeft",
    ]
    passed = [line for line in found if line.startswith("PASSED")]
    assert len(passed) == 5 * len(names) + 1


def test_the_plugin_does_not_load_by_itself() -> None:
    """P4: it is no entry point of pytest's, so that a suite that does not ask is left alone."""
    assert [each for each in entry_points(group="pytest11") if "flexiflow" in each.value] == []


@pytest.mark.parametrize("module", ["flexiflow", "flexiflow.testing"])
def test_the_kit_needs_no_pytest(module: str) -> None:
    """P4: only the plugin imports pytest, and the core imports nothing of the kit."""
    code = (
        f"import sys, {module}; print('pytest' in sys.modules, 'flexiflow.testing' in sys.modules)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert finished.stdout.split() == ["False", str(module != "flexiflow")]
