"""The README's example, run as it is printed."""

import re
from pathlib import Path

import pytest

README = Path("README.md").read_text(encoding="utf-8")
PROGRAM = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PRINTED = re.findall(r"^```text\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_first_example_prints_what_the_readme_says(
    backend_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """E1: the README's example runs on each backend, and prints what is said there."""
    (program,) = PROGRAM
    assert 'backend="asyncio")  # or "trio"' in program
    chosen = program.replace('backend="asyncio"', f'backend="{backend_name}"')
    exec(compile(chosen, "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102  our own
    assert [capsys.readouterr().out] == PRINTED


def test_each_page_that_the_readme_links_to_exists() -> None:
    """Documentation: no link of the README leads nowhere."""
    pages = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert [page for page in pages if not Path(page).exists()] == []
