"""What a mutant changes, and what the documentation tells of the changes that survive."""

import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from typing import NamedTuple

_CAST = re.compile(r'\bcast\((?:None|"[^"]*"), ')
_SQL = re.compile(
    r"\b(?:SELECT|FROM|WHERE|INSERT|VALUES|UPDATE|DELETE|PRAGMA|BEGIN|COMMIT|ROLLBACK)\b"
)
_QUOTED = re.compile(r"'[^']*'")
_HEADING = re.compile(r"###+ `(?P<place>[\w.]+)`")


class Change(NamedTuple):
    """What a mutant changes, so that it is known again when lines have moved.

    Attributes:
        place: the function, with its module and class.
        removed: the lines that it takes away, without their indentation.
        added: the lines that it puts there.
    """

    place: str
    removed: tuple[str, ...]
    added: tuple[str, ...]


class Edit(NamedTuple):
    """One run of lines that is replaced; the first line of a text is 0.

    Attributes:
        start: the first line that is taken away.
        stop: the line after the last one that is.
        lines: what comes there.
    """

    start: int
    stop: int
    lines: tuple[str, ...]


def edits_of(before: list[str], after: list[str]) -> list[Edit]:
    """Compare two texts."""
    found = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return [
        Edit(start, stop, tuple(after[low:high]))
        for kind, start, stop, low, high in found
        if kind != "equal"
    ]


def change_of(place: str, before: list[str], edits: Iterable[Edit]) -> Change:
    """Put the edits of a function as the documentation does."""
    edits = [*edits]
    removed = [line.strip() for edit in edits for line in before[edit.start : edit.stop]]
    added = [line.strip() for edit in edits for line in edit.lines]
    return Change(place, tuple(removed), tuple(added))


def read_change(place: str, diff: Iterable[str]) -> Change:
    """Read a diff."""
    body = [*diff]
    removed, added = (
        tuple(line[1:].strip() for line in body if line.startswith(sign)) for sign in "-+"
    )
    return Change(place, removed, added)


def show_change(change: Change) -> str:
    """Write it as the documentation holds it."""
    lines = (f"{sign}{line}" for sign, part in zip("-+", change[1:], strict=True) for line in part)
    return "\n".join([f"### `{change.place}`", "", "```diff", *lines, "```"])


def concerns_types_alone(change: Change) -> bool:
    """Tell whether it changes only what `typing.cast` is told, which nothing reads at run time."""
    removed, added = ([_CAST.sub("cast(", line) for line in lines] for lines in change[1:])
    return removed == added


def concerns_letters_of_sql(change: Change) -> bool:
    """Tell whether it writes words of SQL in capital letters, or in small ones, which are the same.

    What SQL has in quotes is another text then.
    """
    removed, added = ("\n".join(lines) for lines in change[1:])
    return (
        _SQL.search(removed) is not None
        and removed.lower() == added.lower()
        and _QUOTED.findall(removed) == _QUOTED.findall(added)
    )


def documented(lines: Iterable[str]) -> Iterator[Change]:
    """Read the survivors that a page of the documentation tells of.

    A heading names the function, and each survivor is a block of the kind "diff" under it.
    """
    place = ""
    diff: list[str] | None = None
    for line in lines:
        if diff is not None and line != "```":
            diff.append(line)
        elif diff is not None:
            yield read_change(place, diff)
            diff = None
        elif line == "```diff":
            diff = []
        elif (match := _HEADING.fullmatch(line)) is not None:
            place = match["place"]
