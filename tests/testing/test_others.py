"""The buses that others wrote, checked as `docs/verifying_others.md` tells (P1, P5)."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from flexiflow.testing._bus.contract import CONTRACT

PAGE = Path("docs/verifying_others.md").read_text(encoding="utf-8")
BUSES = {
    "blinker": "blinker_bus:BlinkerBus",
    "pyee, emit": "pyee_bus:PyeeBus",
    "pyee, emit and wait": "pyee_bus:WaitingPyeeBus",
    "bubus": "bubus_bus:BubusBus",
}
"""The columns of the page's table, and the adapters."""

pytestmark = [
    pytest.mark.unmeasured,
    pytest.mark.skipif(
        not all(map(find_spec, ("blinker", "pyee", "bubus"))),
        reason="blinker, pyee and bubus are in the dependency group `peers`, which only the "
        "environment `newest` installs: bubus asks for a later pydantic than `lowest` has",
    ),
]


def verdicts_on_the_page(column: str) -> dict[str, str]:
    """Return what the page's table says of a bus; what it leaves out is not offered."""
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.splitlines()
        if line.startswith("|")
    )
    place = head.index(column)
    told = {row[0]: row[place] for row in rows}
    return {clause.identifier: told.get(clause.identifier, "not offered") for clause in CONTRACT}


def programs_on_the_page(column: str) -> list[tuple[list[str], str]]:
    """Return each program that the page shows for a bus, after the clauses that it breaks."""
    found: list[tuple[list[str], str]] = []
    for chapter in PAGE.split("\n## ")[1:]:
        for section in chapter.split("\n### ")[1:]:
            title = section.partition(":")[0]
            library = chapter.partition(" ")[0]
            if library == "pyee":
                library += ", emit and wait" if ", waiting" in title else ", emit"
            blocks = re.findall(r"```python\n(async def main\(bus\):.*?)```", section, re.DOTALL)
            if library == column:
                clauses = re.findall(r"\b[A-Z]\d+\b", title)
                found += [(clauses, block) for block in blocks]
    return found


@pytest.mark.parametrize("column", BUSES)
def test_the_page_tells_what_the_checker_finds(column: str) -> None:
    """P5: clauses hold, are violated by the programs shown, or not offered, as the page says."""
    programs = programs_on_the_page(column)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.testing.checking_others", BUSES[column]],
        input=json.dumps(programs),
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["verdicts"] == verdicts_on_the_page(column)
    assert programs
    assert [
        each for each, broken in zip(programs, found["broken"], strict=True) if not broken
    ] == []
