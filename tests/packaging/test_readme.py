"""The README's example, run as it is printed."""

import re
from pathlib import Path

import pytest

README = Path("README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PRINTED = re.findall(r"^```text\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(4))
def test_the_examples_print_what_the_readme_says(
    number: int,
    backend_name: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """E1, S1, S4, T1, A1, A3, B15, X1: on each backend, the examples print what they say."""
    assert len(PROGRAMS) == len(PRINTED) == 4
    monkeypatch.chdir(tmp_path)
    program = PROGRAMS[number]
    assert 'backend="asyncio")  # or "trio"' in program
    chosen = program.replace('backend="asyncio"', f'backend="{backend_name}"')
    exec(compile(chosen, "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102  our own
    assert capsys.readouterr().out == PRINTED[number]


def test_each_page_that_the_readme_links_to_exists() -> None:
    """Documentation: no link of the README leads nowhere."""
    pages = re.findall(r"\]\((?!https?:|\")([^)#]+)", README)
    assert [page for page in pages if not Path(page).exists()] == []
