"""What mutmut tells of its mutants, and what the documentation tells of those that survive."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

# One that stops pytest by a Ctrl-C of its own is noticed as well, and so is one that makes the
# interpreter abort, which mutmut calls suspicious.
NOTICED = ("killed", "timeout", "segfault", "suspicious", "check was interrupted by user")

_KEY = re.compile(r"(?P<module>[\w.]+)\.x(?:ǁ(?P<kind>\w+)ǁ|_)(?P<function>\w+)__mutmut_\d+")
_CAST = re.compile(r'\bcast\((?:None|"[^"]*"), ')
_HEADING = re.compile(r"###+ `(?P<place>[\w.]+)`")


class Mutant(NamedTuple):
    """One mutant.

    Attributes:
        key: what mutmut calls it; another one after each change of the function.
        module: the module's name, without the package's.
        place: the function, with its module and class.
        is_killed: whether the tests notice it.
    """

    key: str
    module: str
    place: str
    is_killed: bool


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


def read_results(lines: Iterable[str]) -> Iterator[Mutant]:
    """Read what `mutmut results --all true` prints."""
    for line in lines:
        key, _, status = line.strip().rpartition(": ")
        if (match := _KEY.fullmatch(key)) is not None and status != "not checked":
            module = match["module"].removeprefix("flexiflow.")
            place = ".".join(filter(None, (module, match["kind"], match["function"])))
            yield Mutant(key, module, place, status in NOTICED)


def read_change(place: str, diff: Iterable[str]) -> Change:
    """Read a diff."""
    body = [line for line in diff if not line.startswith(("---", "+++"))]
    removed, added = (
        tuple(line[1:].strip() for line in body if line.startswith(sign)) for sign in "-+"
    )
    return Change(place, removed, added)


def concerns_types_alone(change: Change) -> bool:
    """Tell whether it changes only what `typing.cast` is told, which nothing reads at run time."""
    removed, added = ([_CAST.sub("cast(", line) for line in lines] for lines in change[1:])
    return removed == added


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
