"""The API reference shows each public name once, with an example that runs by itself."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import flexiflow
from flexiflow import events, testing
from flexiflow.extras import around, causality, durable, monitor, otel, prometheus, retry, stores

pytestmark = [pytest.mark.unmeasured, pytest.mark.same_everywhere]

DOCS = Path("docs")
LISTED = (flexiflow, testing, durable, stores)
"""What has its names written out on the pages."""
WHOLE = (events, around, causality, monitor, otel, prometheus, retry)
"""What has a page of its own, on which Sphinx finds the names."""
ELSEWHERE = {"flexiflow.extras.monitor": {"Counted", "Watch"}}
"""What is shown with the module that it comes from."""


def names_of(module: ModuleType) -> set[str]:
    """Return the names that a module makes public, each with the module's own name."""
    name = module.__name__
    public = getattr(module, "__all__", None) or [
        each
        for each, value in vars(module).items()
        if each[0].isupper() and getattr(value, "__module__", name) == name
    ]
    mine = set(public) - ELSEWHERE.get(name, set())
    return {f"{name}.{each}" for each in mine if not inspect.ismodule(getattr(module, each))}


def shown_by(pattern: str, page: Path) -> Iterator[str]:
    """Yield the names that a page shows, each with the module that is the current one there."""
    module = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if found := re.match(r"\.\. currentmodule:: (.+)", line):
            module = found[1]
        elif found := re.match(pattern, line):
            yield f"{module}.{found[1]}"


def test_each_public_name_has_one_place_in_the_reference() -> None:
    """Documentation: the pages show what is public, nothing else, and nothing twice."""
    pages = sorted(DOCS.glob("api_*.md"))
    shown = [name for page in pages for name in shown_by(r"\.\. auto(?!module)\w+:: (\w+)", page)]
    assert sorted(shown) == sorted(name for module in LISTED for name in names_of(module))


def test_each_other_public_module_has_a_page() -> None:
    """Documentation: the names of a small module are shown where the module is."""
    pages = (page.read_text(encoding="utf-8") for page in DOCS.glob("api_*.md"))
    shown = [name for page in pages for name in re.findall(r"\.\. automodule:: (\S+)", page)]
    assert sorted(shown) == sorted(module.__name__ for module in WHOLE)


def test_the_overview_has_each_public_name_once() -> None:
    """Documentation: each name is on one page, that of its topic."""
    shown = shown_by(r" {3}(\w+)$", DOCS / "api.md")
    expected = (name for module in (*LISTED, *WHOLE) for name in names_of(module))
    assert sorted(shown) == sorted(expected)


WITHOUT_EXAMPLE = {
    # Their workers are run by other processes, which import them from a module.
    "flexiflow.testing.crash_everywhere",
    "flexiflow.testing.CrashFailure",
}


def test_each_public_name_has_an_example() -> None:
    """Documentation: the docstring of each class and function shows it at work, as a doctest."""
    bare = set()
    for module in (*LISTED, *WHOLE):
        for name in names_of(module):
            public = getattr(module, name.rpartition(".")[2])
            documented = inspect.isclass(public) or inspect.isfunction(public)
            if documented and ">>> " not in (public.__doc__ or ""):
                bare.add(name)
    assert bare == WITHOUT_EXAMPLE
