"""What an installed FlexiFlow looks like from outside."""

import enum
import inspect
import os
import pickle
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import get_overloads, is_typeddict

import pytest

import flexiflow
from tests.cli.command_line import run

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = {
    "asyncio",
    "click",
    "hypercorn",
    "opentelemetry",
    "prometheus_client",
    "pygal",
    "pygraphviz",
    "rich",
    "starlette",
    "tenacity",
    "trio",
}
CLASSES = [name for name in flexiflow.__all__ if inspect.isclass(getattr(flexiflow, name))]


def imported_by(module: str) -> set[str]:
    """Import a module in a new interpreter, and say which top-level modules that brought."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    finished = subprocess.run(
        [sys.executable, "-c", code], env=clean, check=True, capture_output=True, text=True
    )
    return set(finished.stdout.split())


def is_closed(public: type) -> bool:
    """Say whether a class is either final or meant to be extended or caught by its base."""
    return (
        getattr(public, "__final__", False)
        or getattr(public, "_is_protocol", False)
        or is_typeddict(public)
        or issubclass(public, (enum.Enum, Exception, flexiflow.Component))
    )


def test_type_checkers_are_told_that_the_package_is_typed() -> None:
    """Packaging: the marker file of typed packages is in the package."""
    assert files("flexiflow").joinpath("py.typed").is_file()


def test_importing_the_package_loads_no_backend_and_no_extra() -> None:
    """R2: the core imports no tenacity, no extra, and no backend before one runs."""
    assert not imported_by("flexiflow") & OPTIONAL


def test_importing_retry_loads_no_backend() -> None:
    """R2: what is built on tenacity runs on any backend, and brings none."""
    assert imported_by("flexiflow.extras.retry") & OPTIONAL <= {"tenacity"}


def test_the_version_is_that_of_the_project() -> None:
    """Packaging: the module and the command line tell the version that is installed."""
    assert flexiflow.__version__ == PROJECT["version"]
    assert run("--version") == (0, f"flexiflow {PROJECT['version']}\n", "")


def test_a_module_has_no_other_name_than_its_own() -> None:
    """Packaging: a missing name is told as Python tells it."""
    missing = "versoin"
    with pytest.raises(AttributeError, match=r"^module 'flexiflow' has no attribute 'versoin'$"):
        getattr(flexiflow, missing)


def test_the_core_depends_on_anyio_and_tenacity_only() -> None:
    """Packaging: the core needs two libraries."""
    assert [name.partition(">=")[0] for name in PROJECT["dependencies"]] == ["anyio", "tenacity"]


def test_there_are_fewer_than_40_public_names() -> None:
    """Packaging: the public names can be read at one sitting."""
    assert len(set(flexiflow.__all__)) == len(flexiflow.__all__) < 40


@pytest.mark.parametrize("name", flexiflow.__all__)
def test_each_public_name_says_what_it_is(name: str) -> None:
    """Packaging: a public class or function has a docstring of its own."""
    public = getattr(flexiflow, name)
    assert not callable(public) or vars(public).get("__doc__", public.__doc__)


@pytest.mark.parametrize("name", CLASSES)
def test_each_public_class_is_closed(name: str) -> None:
    """Packaging: only `Component` is there to be subclassed."""
    assert is_closed(getattr(flexiflow, name))


def test_the_readme_tells_the_command_that_is_checked() -> None:
    """Packaging: the README has the command that checks every change."""
    command = Path(".ci/run").read_text(encoding="utf-8").splitlines()[-1]
    assert f"\n{command}\n" in Path("README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["subscribe", "publish", "stream", "expect", "wait_for"])
def test_a_method_of_a_bus_is_found_with_its_overloads(name: str) -> None:
    """T1: By documentation and type checkers, and by pickle."""
    method = getattr(flexiflow.EventBus, name)
    assert len(get_overloads(method)) >= 2
    assert pickle.loads(pickle.dumps(method)) is method  # noqa: S301  made in the same line
