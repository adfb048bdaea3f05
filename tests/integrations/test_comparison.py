"""The page that compares FlexiFlow with other libraries: its programs, versions and figures."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

PAGE = Path("docs/others.md").read_text(encoding="utf-8")
PEERS = ("blinker", "bubus", "faststream", "pyee", "statemachine")

pytestmark = pytest.mark.unmeasured


@pytest.mark.skipif(
    not all(map(find_spec, PEERS)),
    reason="they are in the dependency group `peers`, which only the environment `newest` installs",
)
def test_the_programs_print_what_the_page_says() -> None:
    """E1, B4, B10, C6, K4: what each program shows of FlexiFlow or another library is so."""
    found = re.findall(
        r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE
    )
    programs, told = zip(*found, strict=True)
    assert len(programs) == PAGE.count("```python\n")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.integrations.running_programs"],
        input=json.dumps(programs),
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=100,
    )
    assert json.loads(ran.stdout) == list(told)
    names = ("blinker", "pyee", "bubus", "FastStream", "python-statemachine")
    versions = " and".join(", ".join(f"{name} {version(name)}" for name in names).rsplit(",", 1))
    assert versions in PAGE.replace("\n", " ")


@pytest.mark.same_everywhere
@pytest.mark.parametrize("library", ["blinker", "pyee", "bubus"])
def test_the_costs_are_those_that_were_measured(library: str) -> None:
    """Documentation: the ratios lie between the lowest and the highest of best and median."""
    measured = json.loads(Path("docs/benchmarks.json").read_text(encoding="utf-8"))
    cells: list[str] = []
    for figure in ("sequential, 1 handler", "sequential, 10 handlers"):
        ratios = [
            float(f"{1 / result[which]:.2g}")
            for python in measured.values()
            for result in python["results"]
            if result["figure"] == figure and result["against"].startswith(library)
            for which in ("best", "median")
        ]
        cells.append(f"{min(ratios):,g} to {max(ratios):,g}")
    assert re.search(rf"^\| {library}, .* \| {cells[0]} \| {cells[1]} \|$", PAGE, re.MULTILINE)
