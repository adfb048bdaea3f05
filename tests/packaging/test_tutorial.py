"""The programs of the front page and the tutorial, each run alone, as by somebody who copies it."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.command_line import run

pytestmark = [pytest.mark.unmeasured, pytest.mark.same_everywhere]

PROGRAM = re.compile(r"^```\{testcode\}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PRINTED = re.compile(r"(?:\n|It prints:)+```\{testoutput\}\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Shown(NamedTuple):
    """A program of a page, the line on which it begins, and what it is said to print."""

    page: str
    line: int
    code: str
    printed: str | None

    def __str__(self) -> str:
        """Return where it is."""
        return f"{self.page}-{self.line}"


def programs(page: str) -> list[Shown]:
    """Return the programs of a page."""
    text = Path("docs", page).read_text(encoding="utf-8")
    return [
        Shown(
            page,
            text.count("\n", 0, found.start(1)) + 1,
            found[1],
            printed[1] if (printed := PRINTED.match(text, found.end())) else None,
        )
        for found in PROGRAM.finditer(text)
    ]


*PROGRAMS, SHOP = [*programs("index.md"), *programs("tutorial.md")]


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_each_program_runs_alone(
    program: Shown, backend_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Documentation: a program needs no other, and prints what is shown, on each backend."""
    code = re.sub('backend="(asyncio|trio)"', f'backend="{backend_name}"', program.code)
    exec(compile(code, program.page, "exec"), {"__name__": "__main__"})  # noqa: S102  our own
    assert capsys.readouterr().out == program.printed


def test_the_shop_is_a_target(tmp_path: Path, backend_name: str) -> None:
    """Documentation: the tutorial's log of messages is run as the tutorial says."""
    text = Path("docs", SHOP.page).read_text(encoding="utf-8")
    messages, printed = re.findall(r"^\$ (?:cat|flexiflow) .*\n((?:\{.*\n)+)", text, re.MULTILINE)
    (tmp_path / "shop.py").write_text(SHOP.code, encoding="utf-8")
    (tmp_path / "messages.jsonl").write_text(messages, encoding="utf-8")
    paths = [f"{tmp_path / 'shop.py'}:engine", str(tmp_path / "messages.jsonl")]
    ran = run("run", *paths, "--backend", backend_name, "--events", "state.changed")
    assert (ran.status, ran.output) == (0, printed)
