"""Mutation testing: how a fault gets into code that is loaded, and what is told of it."""

import runpy
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import pytest

from tools.mutation.__main__ import interval
from tools.mutation.changes import (
    Change,
    change_of,
    concerns_letters_of_sql,
    concerns_types_alone,
    documented,
    edits_of,
    show_change,
)
from tools.mutation.mutants import Mutant
from tools.mutation.swapping import codes_within, install, probe
from tools.mutation.trying import FEW, choose, twin_of

SOURCE = """\
class Base:
    def ask(self):
        return "base"


class Kind(Base):
    def ask(self):
        return super().ask()


def pick(number):
    if number > 1:
        return "large"
    return "small"
"""
CHANGE = Change("_bus.pick", ("if number > 1:",), ("if number >= 1:",))


@pytest.fixture
def loaded(tmp_path: Path) -> SimpleNamespace:
    """Load a module, and name its functions as they are looked up."""
    path = tmp_path / "module.py"
    path.write_text(SOURCE, encoding="utf-8")
    names: dict[str, Any] = runpy.run_path(str(path))
    functions = [names["pick"], names["Kind"].ask]
    found = {
        (str(path), each.__code__.co_qualname, each.__code__.co_firstlineno): [each]
        for each in functions
        if isinstance(each, FunctionType)
    }
    return SimpleNamespace(path=path, found=found, pick=names["pick"], Kind=names["Kind"])


def mutant(loaded: SimpleNamespace, function: str, line: int, old: str, new: str) -> Mutant:
    """Make a mutant of the module."""
    text = SOURCE.replace(old, new)
    return Mutant("_bus", CHANGE, loaded.path, function, line, text)


def test_a_fault_comes_into_the_function_that_is_there(loaded: SimpleNamespace) -> None:
    """Documentation: all that hold the function call the mutant; other functions are left alone."""
    install(loaded.found, mutant(loaded, "pick", 12, "> 1", ">= 1"))
    assert (loaded.pick(1), loaded.Kind().ask()) == ("large", "base")


def test_a_mutant_may_lose_what_knows_its_class(loaded: SimpleNamespace) -> None:
    """Documentation: a method without its `super()` still fits into its place."""
    install(loaded.found, mutant(loaded, "Kind.ask", 8, "super().ask()", "None"))
    assert loaded.Kind().ask() is None


def test_a_fault_in_what_is_not_loaded_is_an_error(loaded: SimpleNamespace) -> None:
    """Documentation: a mutant that was never in place is not said to survive."""
    with pytest.raises(KeyError):
        install({}, mutant(loaded, "pick", 12, "> 1", ">= 1"))


def test_a_test_reaches_the_statements_that_it_runs(loaded: SimpleNamespace) -> None:
    """Documentation: a mutant is tried with the tests that run the statement that it changes."""
    reached: set[int] = set()
    lines = [12, 13, 14, 8]
    functions = ["pick", "pick", "pick", "Kind.ask"]
    mutants = [
        mutant(loaded, function, line, "", "")
        for function, line in zip(functions, lines, strict=True)
    ]
    probe(loaded.found, mutants, reached)
    assert loaded.pick(1) == "small"
    assert reached == {0, 2}


def test_the_functions_of_a_module_have_their_code() -> None:
    """Documentation: methods are found by the names of their classes."""
    assert {"pick", "Kind.ask", "Base.ask"} <= set(codes_within(compile(SOURCE, "x", "exec")))


def test_a_change_is_told_as_the_page_has_it() -> None:
    """Documentation: what is printed of a survivor can be put on the page, and is known there."""
    before = ["def pick(number):", "    if number > 1:", '        return "large"']
    after = ["def pick(number):", "    if number >= 1:", '        return "large"']
    change = change_of("_bus.pick", before, edits_of(before, after))
    assert change == CHANGE
    assert [*documented(show_change(change).splitlines())] == [change]


def test_what_only_type_checkers_read_is_no_fault() -> None:
    """Documentation: the type that `cast` is told is nothing that a test could notice."""
    assert concerns_types_alone(Change("x", ('cast("str", y)',), ("cast(None, y)",)))
    assert not concerns_types_alone(CHANGE)


@pytest.mark.parametrize(
    ("removed", "added", "is_same"),
    [
        ('"SELECT n FROM logs"', '"select n from logs"', True),
        ('"SELECT n FROM logs"', '"XXSELECT n FROM logsXX"', False),
        ("\"SELECT 'a' FROM logs\"", "\"SELECT 'A' FROM LOGS\"", False),
        ('"n must be 1"', '"N MUST BE 1"', False),
    ],
)
def test_sql_in_other_letters_is_left_out(removed: str, added: str, *, is_same: bool) -> None:
    """Documentation: it is the same for the database, but for texts in quotes."""
    assert concerns_letters_of_sql(Change("x", (removed,), (added,))) is is_same


def test_the_fastest_tests_of_each_file_come_first() -> None:
    """Documentation: most mutants fall to a few tests, of whichever file."""
    seconds = {f"a.py::{number}": 0.001 * number for number in range(2 * FEW)}
    assert choose(seconds | {"b.py::slow": 3.0, "c.py::endless": 60.0})[:4] == [
        "a.py::0",
        "b.py::slow",
        "c.py::endless",
        "a.py::1",
    ]


def test_a_test_on_asyncio_has_a_twin_on_trio() -> None:
    """Documentation: a test is tried on asyncio after it was on trio."""
    assert twin_of("a.py::test[asyncio-1]") == "a.py::test[trio-1]"
    assert twin_of("a.py::test[trio-1]") == twin_of("a.py::test_asyncio") == ""


def test_a_sample_tells_within_limits() -> None:
    """Documentation: the limits are those that the page names for 57 of 60."""
    assert [round(limit) for limit in interval(57, 60)] == [86, 98]
