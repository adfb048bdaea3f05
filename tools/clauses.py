"""The clauses of the semantics, with the tests, properties and planted faults of each.

The documentation's build shows them on the page `docs/clauses.md`; `python -m tools.clauses` prints
the same list. Both fail if the rule is broken:

- The docstring of each test and property begins with the clauses that it shows: `B4: ...`,
  `B4, S1: ...`, or `B4, C1 to C4: ...`. A test of something else names one of `OTHER_SUBJECTS`.
- What a docstring names is a clause of `docs/semantics.md`: a heading as `### B4: ...`.
- Each clause has a test or a property.
"""

import ast
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from operator import attrgetter
from pathlib import Path

SEMANTICS = "docs/semantics.md"
OTHER_SUBJECTS = ("Benchmarks", "Documentation", "Packaging")
"""What begins the docstring of a test that shows no clause."""

_CODE = re.compile(r"`([^`]*)`")
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
_HEADING = re.compile(r"### ([A-Z]\d+): (.+)")
_MENTION = re.compile(r"\b([A-Z])[1-9]\d?\b")
_SUBJECT = re.compile(r"[A-Z]\d+( to [A-Z]\d+)?(, [A-Z]\d+( to [A-Z]\d+)?)*")


@dataclass(frozen=True)
class Clause:
    """A clause of the semantics.

    Attributes:
        identifier: its letter and number, as "B4".
        title: its heading, without the identifier.
        section: the heading of the section that it belongs to.
    """

    identifier: str
    title: str
    section: str

    @property
    def heading(self) -> str:
        """The whole heading, as in the semantics."""
        return f"{self.identifier}: {self.title}"

    @property
    def link(self) -> str:
        """Where the documentation describes the clause."""
        slug = re.sub(r"[^\w -]", "", self.heading.lower()).replace(" ", "-")
        return f"semantics.md#{slug}"


@dataclass(frozen=True)
class Mention:
    """A test, a property or a planted fault, which names its clauses.

    Attributes:
        path: its file, relative to the root of the project.
        name: its name within the file, as in the arguments of pytest.
        subject: the clauses as they are written: "B4, C1 to C4".
    """

    path: str
    name: str
    subject: str

    def __str__(self) -> str:
        """Return the name that pytest takes as an argument."""
        return f"{self.path}::{self.name}"


@dataclass(frozen=True)
class Index:
    """The clauses, and what names each of them.

    Attributes:
        clauses: in the order of the semantics.
        tests: the tests and properties of each identifier.
        faults: the planted faults of each identifier.
        complaints: what breaks the rule, a line for each.
    """

    clauses: Sequence[Clause]
    tests: Mapping[str, Sequence[Mention]]
    faults: Mapping[str, Sequence[Mention]]
    complaints: Sequence[str]


def read_index(root: Path) -> Index:
    """Read the semantics, and all tests and properties, in whichever folder they are."""
    # One tree at a time: garbage collections would look through all of them, again and again.
    sources = (
        (source.relative_to(root).as_posix(), ast.parse(source.read_text(encoding="utf-8")))
        for folder in ("tests", "properties")
        for source in sorted((root / folder).rglob("*.py"))
    )
    semantics = (root / SEMANTICS).read_text(encoding="utf-8")
    clauses = [*find_clauses(semantics)]
    tests: dict[str, list[Mention]] = {clause.identifier: [] for clause in clauses}
    faults: dict[str, list[Mention]] = {clause.identifier: [] for clause in clauses}
    complaints = [
        f'{SEMANTICS}: {line!r} is not written as the heading of a clause, as "### B4: ..."'
        for line in re.findall(r"^#+ *[A-Z]\d+\b.*", semantics, re.MULTILINE)
        if not _HEADING.fullmatch(line)
    ]
    for path, module in sources:
        complaints += enter(find_tests(path, module.body), tests)
        complaints += enter(find_faults(path, module), faults)
    complaints += [
        f"{SEMANTICS}: {clause.identifier} ({clause.title}) has no test and no property"
        for clause in clauses
        if not tests[clause.identifier]
    ]
    return Index(clauses, tests, faults, complaints)


def find_clauses(semantics: str) -> Iterator[Clause]:
    """Yield the clauses that have a heading of their own in the semantics."""
    section = ""
    for line in semantics.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif found := _HEADING.fullmatch(line):
            yield Clause(found[1], found[2], section)


def find_mentions(text: str, identifiers: Collection[str]) -> Iterator[tuple[str, int, int]]:
    """Yield what looks like the number of a clause, known or not, and where it begins and ends."""
    letters = {identifier[0] for identifier in identifiers}
    for found in _MENTION.finditer(text):
        if found[1] in letters:
            yield found[0], found.start(), found.end()


def find_tests(path: str, body: Sequence[ast.stmt], prefix: str = "") -> Iterator[Mention]:
    """Yield the functions that pytest collects from a module or, with its prefix, from a class."""
    if not Path(path).name.startswith("test_"):
        return
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from find_tests(path, node.body, f"{prefix}{node.name}::")
        elif isinstance(node, _FUNCTION) and node.name.startswith("test"):
            subject = (ast.get_docstring(node) or "").partition(":")[0]
            yield Mention(path, prefix + node.name, subject)


def find_faults(path: str, module: ast.Module) -> Iterator[Mention]:
    """Yield the classes that are decorated with `breaks` and their clauses."""
    for node in (each for each in module.body if isinstance(each, ast.ClassDef)):
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "breaks":
                subject = ", ".join(ast.unparse(each).strip("'") for each in decorator.args)
                yield Mention(path, node.name, subject)


def expand(subject: str, identifiers: Sequence[str]) -> list[str]:
    """Return the clauses that are named, with ranges written out.

    Raises:
        ValueError: The subject is not written as it should be, or names what is not a clause.
    """
    if subject in OTHER_SUBJECTS:
        return []
    if not _SUBJECT.fullmatch(subject):
        others = ", ".join(OTHER_SUBJECTS)
        raise ValueError(
            f'begins with {subject[:40]!r}, not with clauses, as in "B4: ..." or '
            f'"B4, C1 to C4: ...", nor with one of {others}'
        )
    expanded: list[str] = []
    for part in subject.split(", "):
        first, _, last = part.partition(" to ")
        for identifier in (first, last or first):
            if identifier not in identifiers:
                raise ValueError(f"names {identifier}, which is no clause of {SEMANTICS}")
        span = identifiers[identifiers.index(first) : identifiers.index(last or first) + 1]
        if not span:
            raise ValueError(f"names {part!r}, but {last} comes before {first}")
        expanded += span
    return expanded


def enter(mentions: Iterable[Mention], index: Mapping[str, list[Mention]]) -> list[str]:
    """Enter mentions below each clause that they name, and return what is wrong with them."""
    complaints: list[str] = []
    for mention in mentions:
        try:
            named = expand(mention.subject, [*index])
        except ValueError as wrong:
            complaints.append(f"{mention}: {wrong}")
        else:
            for identifier in named:
                index[identifier].append(mention)
    return complaints


def render(index: Index) -> str:
    """Return, in Markdown, each clause with its tests and its planted faults, folded."""
    lines: list[str] = []
    for section, clauses in groupby(index.clauses, attrgetter("section")):
        lines.append(f"## {section}")
        for clause in clauses:
            tests, faults = index.tests[clause.identifier], index.faults[clause.identifier]
            counts = _count(tests, "test")
            if faults:
                counts += f", {_count(faults, 'planted fault')}"
            heading = _CODE.sub(r"<code>\1</code>", escape(clause.heading, quote=False))
            # A browser unfolds what has the anchor of a link within.
            lines += [
                f"<details><summary>{heading} <small>({counts})</small></summary>",
                f'<div id="{clause.identifier.lower()}">',
                f"[What {clause.identifier} says]({clause.link})",
                *_by_file(tests),
            ]
            if faults:
                lines += ["Planted faults:", *_by_file(faults)]
            lines.append("</div></details>")
    return "\n\n".join(lines) + "\n"


def _count(mentions: Sequence[Mention], kind: str) -> str:
    return f"{len(mentions)} {kind}{'' if len(mentions) == 1 else 's'}"


def _by_file(mentions: Sequence[Mention]) -> Iterator[str]:
    for path, group in groupby(mentions, attrgetter("path")):
        # Without the marks of code, which would make the page twice as long.
        names = ", ".join(mention.name for mention in group)
        yield f"`{path}`\n: {names}"


def make_list(root: Path) -> str:
    """Return the list of clauses and tests, in Markdown.

    Raises:
        SystemExit: The rule is broken. The message has a line for each complaint.
    """
    index = read_index(root)
    if index.complaints:
        sys.exit("\n".join(index.complaints))
    return render(index)


if __name__ == "__main__":
    sys.stdout.write(make_list(Path(__file__).parents[1]))
