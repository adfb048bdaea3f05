"""The backends, and the number of examples for every property."""

import gc
from collections.abc import Iterator

import hypothesis
import pytest

from flexiflow.testing._scheduling.checks import BACKENDS
from properties.profile import COVERAGE, IS_LONG, PROFILE

# The start of a loop, or a busy machine, is no reason for a property to fail. Nor is chance: only
# the long run searches at random.
hypothesis.settings.register_profile("short", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.register_profile("long", deadline=None, max_examples=5_000)
hypothesis.settings.load_profile(PROFILE)


def pytest_configure() -> None:
    """Stop measuring coverage: the tests measure what runs when a module is imported.

    Stop collecting garbage, too, until the properties are collected: nearly all that is made stays.
    """
    gc.disable()
    if COVERAGE is not None:
        COVERAGE.stop()
        # Each start would look through all modules for those that were imported before.
        COVERAGE._warn_preimported_source = False


def pytest_sessionfinish() -> None:
    """Measure coverage again; the program that started it also stops it."""
    if COVERAGE is not None:
        COVERAGE.start()


def pytest_collection_finish() -> None:
    """Exclude from garbage collection what lives as long as the whole run."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Return the backend on which the property runs each of its examples."""
    name: str = request.param
    return name


@pytest.fixture(autouse=True)
def _measured_only_where_marked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Measure coverage only where a test is marked: measuring takes as long as the test itself.

    Other code that runs here is also reached by the tests, or where a fault is found, which
    `find_fault` has measured.
    """
    if COVERAGE is None or not request.node.get_closest_marker("measured"):
        yield
        return
    COVERAGE.start()
    yield
    COVERAGE.stop()


@pytest.fixture(scope="session")
def schedules() -> int:
    """Return under how many schedules a scenario is explored."""
    return 10_000 if IS_LONG else 100
