"""The list of clauses and tests: what it holds, and what it finds wrong."""

import ast
from pathlib import Path

import pytest

from tools.clauses import (
    expand,
    find_clauses,
    find_faults,
    find_mentions,
    find_tests,
    make_list,
    read_index,
    render,
)

SEMANTICS = """\
# Semantics

## The bus

### B1: first of all

### B2: `once` is (at most) once, and E2

## Other words

### Nothing that has a number

## Errors

### E1: failures
"""
TESTS = '''\
async def test_one():
    """B1: it holds."""

class TestBoth:
    def test_two(self):
        """B2, E1: both hold: always."""

def helper():
    """B9: no test."""
'''
FAULTS = '''\
@breaks("E1", "B1")
class Loses(Plain):
    """Loses a failure."""
'''
IDENTIFIERS = ["B1", "B2", "B4", "E1", "E2"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a project in which each clause has a test."""
    for name, text in {
        "docs/semantics.md": SEMANTICS,
        "tests/bus/test_bus.py": TESTS,
        "properties/faults/of_bus.py": FAULTS,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def add(project: Path, name: str, text: str) -> None:
    """Add a file to the project, or lines to one that is there."""
    with (project / name).open("a", encoding="utf-8") as file:
        file.write(text)


def complaint(project: Path) -> str:
    """Return the only complaint."""
    [only] = read_index(project).complaints
    return only


def test_clauses_are_the_numbered_headings() -> None:
    """Documentation: a clause is a heading of the third level that begins with its number."""
    found = [(clause.heading, clause.section) for clause in find_clauses(SEMANTICS)]
    assert found == [
        ("B1: first of all", "The bus"),
        ("B2: `once` is (at most) once, and E2", "The bus"),
        ("E1: failures", "Errors"),
    ]


def test_a_link_leads_to_the_heading_as_the_pages_name_it() -> None:
    """Documentation: a heading's anchor has its letters, digits and hyphens, in lower case."""
    _, once, _ = find_clauses(SEMANTICS)
    assert once.link == "semantics.md#b2-once-is-at-most-once-and-e2"


def test_numbers_in_a_text_are_what_looks_like_a_clause() -> None:
    """Documentation: pages link them; one that no clause has is found too, and ends the build."""
    text = "as C0 is no number (B1, E2 to E9); UTF8, B1x and S3 are of something else"
    found = [*find_mentions(text, IDENTIFIERS)]
    assert [identifier for identifier, _, _ in found] == ["B1", "E2", "E9"]
    assert [text[start:stop] for _, start, stop in found] == ["B1", "E2", "E9"]


def test_tests_are_what_pytest_collects() -> None:
    """Documentation: helpers, nested functions and other classes are left out."""
    module = ast.parse(
        "def test_a():\n    def test_within(): ...\n"
        "class TestB:\n    def test_c(self): ...\n    def other(self): ...\n"
        "    class TestD:\n        async def test_e(self): ...\n"
        "class Machine:\n    def test_f(self): ..."
    )
    collected = [str(test) for test in find_tests("tests/deep/test_it.py", module.body)]
    assert collected == [
        "tests/deep/test_it.py::test_a",
        "tests/deep/test_it.py::TestB::test_c",
        "tests/deep/test_it.py::TestB::TestD::test_e",
    ]
    assert [*find_tests("tests/deep/helpers.py", module.body)] == []


def test_faults_are_what_breaks_a_clause() -> None:
    """Documentation: the decorator `breaks` names the clauses, others are passed over."""
    module = ast.parse(f"@final\n{FAULTS}\n@final\nclass Other: ...")
    [fault] = find_faults("properties/faults/of_bus.py", module)
    assert (fault.name, fault.subject) == ("Loses", "E1, B1")


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("B1", ["B1"]),
        ("E1, B1", ["E1", "B1"]),
        ("B1 to B4", ["B1", "B2", "B4"]),
        ("E2, B2 to E1", ["E2", "B2", "B4", "E1"]),
        ("Packaging", []),
    ],
)
def test_a_subject_names_clauses_and_ranges(subject: str, expected: list[str]) -> None:
    """Documentation: a range holds each clause between its ends; numbers may be missing."""
    assert expand(subject, IDENTIFIERS) == expected


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ("", "begins with '', not with clauses"),
        ("B1 B2", "begins with 'B1 B2', not with clauses"),
        ("B1,B2", "begins with 'B1,B2', not with clauses"),
        ("Nothing at all", "begins with 'Nothing at all', not with clauses"),
        ("B3", "names B3, which is no clause of docs/semantics.md"),
        ("B1, B2 to B3", "names B3, which is no clause of docs/semantics.md"),
        ("E1 to B1", "names 'E1 to B1', but B1 comes before E1"),
    ],
)
def test_a_bad_subject_is_refused(subject: str, message: str) -> None:
    """Documentation: the message names what is wrong, and shows how clauses are written."""
    with pytest.raises(ValueError, match=f"^{message}"):
        expand(subject, IDENTIFIERS)


def test_a_page_lists_each_clause_with_its_tests_and_faults(project: Path) -> None:
    """Documentation: by section, clause and file."""
    index = read_index(project)
    assert index.complaints == []
    assert render(index) == (
        "## The bus\n\n"
        "<details><summary>B1: first of all <small>(1 test, 1 planted fault)</small></summary>\n\n"
        '<div id="b1">\n\n'
        "[What B1 says](semantics.md#b1-first-of-all)\n\n"
        "`tests/bus/test_bus.py`\n: test_one\n\n"
        "Planted faults:\n\n"
        "`properties/faults/of_bus.py`\n: Loses\n\n"
        "</div></details>\n\n"
        "<details><summary>B2: <code>once</code> is (at most) once, and E2 "
        "<small>(1 test)</small></summary>\n\n"
        '<div id="b2">\n\n'
        "[What B2 says](semantics.md#b2-once-is-at-most-once-and-e2)\n\n"
        "`tests/bus/test_bus.py`\n: TestBoth::test_two\n\n"
        "</div></details>\n\n"
        "## Errors\n\n"
        "<details><summary>E1: failures <small>(1 test, 1 planted fault)</small></summary>\n\n"
        '<div id="e1">\n\n'
        "[What E1 says](semantics.md#e1-failures)\n\n"
        "`tests/bus/test_bus.py`\n: TestBoth::test_two\n\n"
        "Planted faults:\n\n"
        "`properties/faults/of_bus.py`\n: Loses\n\n"
        "</div></details>\n"
    )


def test_tests_of_one_file_stand_together(project: Path) -> None:
    """Documentation: a file is named once for each clause, in the order of the paths."""
    add(project, "tests/bus/test_bus.py", 'def test_three():\n    """B1: it holds still."""')
    add(project, "properties/test_bus.py", 'def test_four():\n    """B1 to E1: all hold."""')
    assert "\n`tests/bus/test_bus.py`\n: test_one, test_three\n\n`properties/test_bus.py`\n" in (
        render(read_index(project))
    )


def test_a_clause_without_a_test_is_found(project: Path) -> None:
    """Documentation: a new clause needs a test or a property; a fault is none."""
    add(project, "docs/semantics.md", "\n### E2: more failures\n")
    add(project, "properties/faults/of_bus.py", '\n@breaks("E2")\nclass LosesAll: ...\n')
    assert complaint(project) == (
        "docs/semantics.md: E2 (more failures) has no test and no property"
    )


@pytest.mark.parametrize("heading", ["#### E2: more", "### E2 more", "###E2: more", "## E2"])
def test_a_heading_of_a_clause_that_would_be_passed_over_is_found(
    heading: str, project: Path
) -> None:
    """Documentation: a heading that begins with the number of a clause must be one."""
    add(project, "docs/semantics.md", f"\n{heading}\n")
    assert complaint(project).startswith(f"docs/semantics.md: {heading!r} is not written as ")


def test_a_test_of_a_clause_that_is_not_there_is_found(project: Path) -> None:
    """Documentation: the complaint names the test and the clause."""
    add(project, "properties/test_more.py", 'def test_it():\n    """B1, B7: it holds."""')
    assert complaint(project) == (
        "properties/test_more.py::test_it: names B7, which is no clause of docs/semantics.md"
    )


@pytest.mark.parametrize("body", ["...", '"""It holds."""', '"""It holds, as B1: always."""'])
def test_a_test_that_names_no_clause_is_found(body: str, project: Path) -> None:
    """Documentation: the complaint names the test, and shows how clauses are written."""
    add(project, "tests/bus/test_more.py", f"class TestIt:\n    def test_it(self):\n        {body}")
    assert complaint(project).startswith("tests/bus/test_more.py::TestIt::test_it: begins with ")


def test_a_fault_of_a_clause_that_is_not_there_is_found(project: Path) -> None:
    """Documentation: the complaint names the fault and the clause."""
    add(project, "properties/faults/of_more.py", '@breaks("E1", "E7")\nclass Fails: ...\n')
    assert complaint(project) == (
        "properties/faults/of_more.py::Fails: names E7, which is no clause of docs/semantics.md"
    )


def test_the_list_is_made_where_all_is_well(project: Path) -> None:
    """Documentation: the build and the command get the same."""
    assert make_list(project) == render(read_index(project))


def test_all_complaints_are_told_at_once(project: Path) -> None:
    """Documentation: the build and the command end with a line for each."""
    add(project, "docs/semantics.md", "\n### E2: more\n\n### E3: most\n")
    with pytest.raises(SystemExit) as exited:
        make_list(project)
    assert exited.value.code == (
        "docs/semantics.md: E2 (more) has no test and no property\n"
        "docs/semantics.md: E3 (most) has no test and no property"
    )
