"""The program that looks for links that lead nowhere in the documentation."""

from pathlib import Path

import pytest

from tools.links import LIMIT, find_faults

pytestmark = [pytest.mark.unmeasured, pytest.mark.same_everywhere]

GOOD = """\
<link rel="stylesheet" href="_static/site.css?v=1"><link rel="next" href="gone.html">
<h1 id="b1">Title</h1>
<a href="#b1">here</a> <a class="x" href="folder/page.html#a&amp;b">there</a>
<a href="https://docs.python.org/3">Python</a>
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Make a front page without a fault, and another page."""
    for name, text in (
        ("index.html", GOOD),
        ("_static/site.css", ""),
        ("folder/page.html", '<p id="a&amp;b"><a href="../index.html#b1">back</a>'),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_links_and_anchors_that_are_there_are_no_fault(site: Path) -> None:
    """Documentation: links lead to files and anchors; where others' pages are is not asked."""
    assert [*find_faults(site)] == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('<a href="gone.html">', "no file for gone.html"),
        ('<a href="#b2">', "no anchor for #b2"),
        ('<a title="B1" href="folder/page.html#b1">', "no anchor for folder/page.html#b1"),
        ('<img src="_static/gone.svg">', "no file for _static/gone.svg"),
        ('<script async src="https://cdn.example/a.js">', "loads https://cdn.example/a.js"),
        ('<link rel="stylesheet" href="//fonts.example">', "loads //fonts.example"),
    ],
)
def test_what_leads_nowhere_is_told(site: Path, text: str, fault: str) -> None:
    """Documentation: a lost page or anchor is a fault, and so is what another host has to send."""
    (site / "index.html").write_text(f"{GOOD}{text}", encoding="utf-8")
    assert [*find_faults(site)] == [f"index.html: {fault}"]


def test_the_front_page_has_a_limit(site: Path) -> None:
    """Documentation: it is loaded quickly, with all that it shows."""
    (site / "_static" / "site.css").write_text(" " * LIMIT, encoding="utf-8")
    assert [*find_faults(site)] == [f"index.html: {len(GOOD) + LIMIT:,} bytes, more than {LIMIT:,}"]
