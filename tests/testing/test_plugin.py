"""The pytest plugin, in a suite of its own."""

import re
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from flexiflow import _stream
from flexiflow.testing import TasksLeft
from tests.conftest import BACKENDS

pytest_plugins = ["pytester"]

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
SUMMARY = re.compile("(PASSED|FAILED|ERROR) .*::")


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep pytest from cutting its lines."""
    monkeypatch.setenv("COLUMNS", "200")


def outcomes(
    pytester: pytest.Pytester, suite: str = SUITE, *options: str, others: str = ""
) -> list[str]:
    """Run a suite, and return what pytest says of each of its tests.

    Args:
        pytester: runs the suite within this process: a process of its own takes seconds to start.
        suite: the source of the only module.
        options: further arguments for pytest.
        others: the source of a `conftest.py`.
    """
    pytester.makepyfile(test_suite=suite)
    pytester.makeconftest(others)
    lines = pytester.runpytest_inprocess(*OPTIONS, *options).outlines
    return sorted(line.partition(": ")[0] for line in lines if SUMMARY.match(line))


def test_the_plugin_gives_fixtures_and_watches_what_is_left(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: a test that leaves a task or a subscription behind fails; the others pass."""
    # The streams that the suite leaves open are not to be seen by later tests of this process.
    monkeypatch.setattr(_stream, "blocking_streams", set[object]())
    names = sorted({name for name, _ in BACKENDS.values()})
    found = outcomes(pytester)
    assert [line for line in found if line.startswith("ERROR")] == [
        *(f"ERROR test_suite.py::test_leaves_a_stream[{name}] - Failed" for name in names),
        *(f"ERROR test_suite.py::test_leaves_a_subscription[{name}] - Failed" for name in names),
        f"ERROR test_suite.py::test_leaves_a_task[asyncio] - {TasksLeft.__module__}.TasksLeft",
    ]
    passed = [line for line in found if line.startswith("PASSED")]
    assert len(passed) == 5 * len(names) + 1


# What pytest-trio 0.8 and pytest-asyncio 1.5 do to tests, as far as another plugin meets it.
OTHERS = """
import asyncio
from functools import partial, wraps
from inspect import iscoroutinefunction

import pytest


class Trio:
    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item):
        if item.get_closest_marker("trio"):
            import trio

            test = item.obj

            @wraps(test)
            def run(**arguments):
                trio.run(partial(test, **arguments))

            item.obj = run
        yield

    def pytest_collection_modifyitems(self, config, items):
        for item in items if config.getini("trio_mode") else ():
            if iscoroutinefunction(item.obj):
                item.add_marker(pytest.mark.trio)


class Asyncio:
    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem):
        is_auto = "auto" in {
            pyfuncitem.config.getoption("asyncio_mode"), pyfuncitem.config.getini("asyncio_mode")
        }
        test = pyfuncitem.obj
        if iscoroutinefunction(test) and (is_auto or pyfuncitem.get_closest_marker("asyncio")):
            names = pyfuncitem._fixtureinfo.argnames
            asyncio.run(test(**{name: pyfuncitem.funcargs[name] for name in names}))
            return True


def pytest_addoption(parser):
    parser.addini("trio_mode", "", type="bool", default=False)
    parser.addini("asyncio_mode", "", default="strict")
    parser.addoption("--asyncio-mode", dest="asyncio_mode", default=None)


def pytest_configure(config):
    for name, plugin in (("trio", Trio()), ("asyncio", Asyncio())):
        config.addinivalue_line("markers", f"{name}: run on it")
        config.pluginmanager.register(plugin, name)
"""

MARKED = """
import asyncio

import pytest


@pytest.fixture
def shop(bus):
    return bus


async def hears(bus, recorded):
    with await bus.subscribe("a", "c", print):
        await bus.publish("a", 1)
    assert recorded.events == [("a", 1)]


class Test{kind}:
    pytestmark = [{mark}]

    async def test_hears(self, bus, recorded):
        await {sleep}(0)
        await hears(bus, recorded)

    async def test_indirect(self, shop):
        await {sleep}(0)
        await shop.publish("a", 1)

    async def test_leaves(self, bus):
        await bus.subscribe("a", "c", print)


def test_plain(bus, recorded):
    assert recorded.events == []
"""


def expected(kind: str, names: list[str] | None) -> list[str]:
    """Tell what comes of that class, on these backends of AnyIO's, or by another plugin."""
    on = [""] if names is None else [f"[{name}]" for name in names]
    at = f"test_suite.py::Test{kind}::test_"
    passed = [f"{at}{what}{each}" for what in ("hears", "indirect", "leaves") for each in on]
    left = [f"ERROR {at}leaves{each} - Failed" for each in on]
    return sorted([*left, *(f"PASSED {each}" for each in (*passed, "test_suite.py::test_plain"))])


@pytest.mark.parametrize(
    ("kind", "mark", "sleep", "options"),
    [
        ("Trio", "pytest.mark.trio", "__import__('trio').sleep", ()),
        ("Trio", "", "__import__('trio').sleep", ("-o", "trio_mode=true")),
        ("Asyncio", "pytest.mark.asyncio", "asyncio.sleep", ()),
        ("Asyncio", "", "asyncio.sleep", ("-o", "asyncio_mode=auto")),
        ("Asyncio", "", "asyncio.sleep", ("--asyncio-mode", "auto")),
        ("Unmarked", "", "__import__('anyio').sleep", ()),
        ("Anyio", "pytest.mark.anyio", "__import__('anyio').sleep", ()),
    ],
)
def test_a_test_gets_a_bus_under_each_plugin(
    pytester: pytest.Pytester, kind: str, mark: str, sleep: str, options: tuple[str, ...]
) -> None:
    """P4: beside pytest-trio and pytest-asyncio a test is run by the one it is meant for."""
    if kind == "Trio":
        pytest.importorskip("trio")
    suite = MARKED.format(kind=kind, mark=mark, sleep=sleep)
    names = sorted({name for name, _ in BACKENDS.values()})
    found = outcomes(pytester, suite, *options, others=OTHERS)
    assert found == expected(kind, names if kind in {"Unmarked", "Anyio"} else None)


def test_without_the_other_plugins_a_bus_is_enough(pytester: pytest.Pytester) -> None:
    """P4: an async test that asks for a bus needs no mark."""
    suite = MARKED.format(kind="Unmarked", mark="", sleep="__import__('anyio').sleep")
    names = sorted({name for name, _ in BACKENDS.values()})
    assert outcomes(pytester, suite) == expected("Unmarked", names)


def test_a_test_that_two_plugins_would_run_is_told_what_to_do(pytester: pytest.Pytester) -> None:
    """P4: on trio the two can't go together, and instead of trio's words there is the way out."""
    pytest.importorskip("trio")
    suite = MARKED.format(kind="Both", mark="pytest.mark.trio", sleep="__import__('trio').sleep")
    found = outcomes(pytester, suite, "-o", "anyio_mode=auto", others=OTHERS)
    told = [line for line in found if line.startswith("ERROR") and "[trio]" in line]
    assert [line.partition(" - ")[2] for line in told] == ["Failed"] * 3
    assert [line for line in found if line.startswith("FAILED")] == []


def test_a_test_of_hypothesis_gets_a_bus(pytester: pytest.Pytester) -> None:
    """P4: what is drawn for an async test goes together with the bus."""
    pytest.importorskip("hypothesis")
    suite = """
from hypothesis import HealthCheck, given, settings, strategies as st


@given(data=st.integers())
@settings(max_examples=3, suppress_health_check=list(HealthCheck))
async def test_drawn(bus, data):
    assert await bus.publish("a", data) == ()
"""
    names = sorted({name for name, _ in BACKENDS.values()})
    expected = [f"PASSED test_suite.py::test_drawn[{name}]" for name in names]
    assert outcomes(pytester, suite) == expected


def test_the_plugin_does_not_load_by_itself() -> None:
    """P4: it is no entry point of pytest's, so that a suite that does not ask is left alone."""
    assert [each for each in entry_points(group="pytest11") if "flexiflow" in each.value] == []


@pytest.mark.unmeasured
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


@pytest.mark.parametrize("color", ["yes", "no"])
def test_pytest_shows_the_story_in_its_colors(pytester: pytest.Pytester, color: str) -> None:
    """P8: the plugin colors it where pytest colors its own output."""
    pytester.makepyfile(
        test_suite="""
        from flexiflow.testing import explore

        async def scenario():
            raise LookupError

        def test_it():
            explore(scenario, backend="asyncio", seed=1)
        """
    )
    options = ["-p", "flexiflow.testing.pytest_plugin", "-p", "no:cacheprovider"]
    found = pytester.runpytest_inprocess(*options, f"--color={color}").stdout.str()
    assert ("\x1b[0;36mscenario\x1b[0m" in found) is (color == "yes")
    plain = re.sub(r"\x1b\[[\d;]*m", "", found)
    assert re.search("E +1  scenario  begins, raises LookupError\n", plain)
    assert "test_suite.py:4  raise LookupError" in plain
