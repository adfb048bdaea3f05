"""What the documentation names is there, and what is there is named."""

import re
from pathlib import Path

import pytest

import flexiflow
from flexiflow.testing._bus.contract import CONTRACT
from flexiflow.testing._component.contract import COMPONENT_CONTRACT
from flexiflow.testing._examiner.clause import Clause
from flexiflow.testing._transport.contract import TRANSPORT_CONTRACT
from tests.cli.command_line import run
from tests.cli.test_graph import texts
from tools.clauses import find_clauses, read_index
from tools.mutation.changes import documented

pytestmark = [pytest.mark.unmeasured, pytest.mark.same_everywhere]

DOCS = Path("docs")
ELSEWHERE = ("B13", "B14", "I4", "I5")
"""Clauses that another bus need not keep."""

SEMANTICS = (DOCS / "semantics.md").read_text(encoding="utf-8")
CLAUSES = [clause.identifier for clause in find_clauses(SEMANTICS)]


def test_each_clause_has_a_section_of_its_own_in_order() -> None:
    """Documentation: the semantics have each clause once, none left out."""
    last = dict(
        zip("BDECKMRLSTVIAXYP", (15, 6, 8, 10, 5, 4, 8, 8, 4, 1, 2, 5, 3, 16, 6, 8), strict=True)
    )
    expected = [
        f"{letter}{number}" for letter, count in last.items() for number in range(1, count + 1)
    ]
    assert expected == CLAUSES


def test_each_clause_gives_its_reason() -> None:
    """Documentation: no clause stands without a why."""
    sections = re.split(r"^#{2,3} ", SEMANTICS, flags=re.MULTILINE)
    clauses = [section for section in sections if re.match(r"[A-Z]\d+: ", section)]
    assert [clause.partition("\n")[0] for clause in clauses if "*Why:*" not in clause] == []


@pytest.mark.parametrize(
    "clause",
    [
        pytest.param(clause, id=f"{subject}-{clause.identifier}")
        for subject, clauses in (
            ("bus", CONTRACT),
            ("component", COMPONENT_CONTRACT),
            ("transport", TRANSPORT_CONTRACT),
        )
        for clause in clauses
    ],
)
def test_what_is_checked_is_what_is_promised(clause: Clause) -> None:
    """P1: the semantics give each clause the title and the sentence that a check shows."""
    quoted = re.search(rf"^### {clause.identifier}: (.*)\n\n((?:> .*\n)+)", SEMANTICS, re.MULTILINE)
    assert quoted is not None
    title, sentence = quoted.groups()
    assert title == clause.title
    assert sentence.replace("> ", "").replace("\n", " ").strip() == clause.sentence


UNCHECKED = ("K2", "X9", "X16", "Y1", "Y2", "Y4")
"""What is promised of stores, files and bridges, and no engine or transport is tried by."""


OF_BOTH = ("B4", "B8", "B9", "B13", "D6", "E7", "V1", "V2", "A1", "A2", "A3")
"""What is promised of buses, and that components and their engines are tried by, too."""


def test_what_is_promised_is_checked() -> None:
    """P1: each clause that can be checked is in its list, in its order."""
    checked = (
        [clause.identifier for clause in CONTRACT],
        [clause.identifier for clause in COMPONENT_CONTRACT],
        [clause.identifier for clause in TRANSPORT_CONTRACT],
    )
    assert checked == (
        [clause for clause in CLAUSES if clause[0] in "BDESTVIA" and clause not in ELSEWHERE],
        [
            *(clause for clause in CLAUSES if clause[0] in "CKM" and clause not in UNCHECKED),
            *(clause for clause in CLAUSES if clause in OF_BOTH),
        ],
        [clause for clause in CLAUSES if clause[0] in "XY" and clause not in UNCHECKED],
    )


def test_each_clause_has_a_test_and_each_test_a_clause() -> None:
    """Documentation: what the semantics promise is tested, and each docstring names it."""
    assert read_index(Path()).complaints == []


def test_the_picture_of_the_example_is_what_the_command_draws() -> None:
    """L6: it has the texts of `flexiflow graph`; where they stand depends on Graphviz."""
    picture = (DOCS / "_static" / "orders.svg").read_text(encoding="utf-8")
    drawn = run("graph", "examples/orders.py:engine", "order-*", "--format", "svg").output
    assert sorted(texts(picture)) == sorted(texts(drawn))


def test_each_survivor_is_a_line_of_the_core() -> None:
    """Documentation: what mutation testing left over is told of code that is still there."""
    page = (DOCS / "mutation_survivors.md").read_text(encoding="utf-8").splitlines()
    gone: list[object] = []
    for survivor in documented(page):
        names = survivor.place.split(".")
        paths = (Path(*names[:number]).with_suffix(".py") for number in range(1, len(names)))
        (source,) = (
            each for each in map(Path(flexiflow.__path__[0]).joinpath, paths) if each.exists()
        )
        lines = {line.strip() for line in source.read_text(encoding="utf-8").splitlines()}
        if not lines.issuperset(survivor.removed):
            gone.append(survivor)
    assert gone == []
