"""The README's commands and programs, run as they are printed."""

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.command_line import run

README = Path("README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PRINTED = re.findall(r"^```text\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
RUNS = re.findall(r"^```sh\n(.*)\n```\n(?:\n[^`]+)?\n```\n([^`]*)^```$", README, re.MULTILINE)
MEASURED = re.compile(r"seconds: .*")


@pytest.mark.parametrize("number", range(2))
def test_the_examples_print_what_the_readme_says(
    number: int,
    backend_name: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """E1, X1: on each backend, the examples print what they say."""
    assert len(PROGRAMS) == len(PRINTED) == 2
    monkeypatch.chdir(tmp_path)
    program = PROGRAMS[number]
    assert 'backend="asyncio")  # or "trio"' in program
    chosen = program.replace('backend="asyncio"', f'backend="{backend_name}"')
    exec(compile(chosen, "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102  our own
    assert capsys.readouterr().out == PRINTED[number]


def test_the_first_command_prints_what_the_readme_says() -> None:
    """L3 to L5: all goes well, and below it stands all of its output, but for what a clock says."""
    line, shown = RUNS[0]
    ran = run(*shlex.split(line.rpartition(".venv/bin/flexiflow ")[2]))
    assert ran.status == 0
    assert MEASURED.sub("", ran.output + ran.told) == MEASURED.sub("", shown)


def test_each_page_that_the_readme_links_to_exists() -> None:
    """Documentation: no link of the README leads nowhere."""
    pages = re.findall(r"\]\((?!https?:|\")([^)#]+)", README)
    assert [page for page in pages if not Path(page).exists()] == []
