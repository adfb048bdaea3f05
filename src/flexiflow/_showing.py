"""Showing names in messages and in the log, however long they are (B10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

LONGEST: Final = 200
"""So many characters of a name are shown; longer ones are compared with no others."""

# difflib takes 0.1 s among 13,000 names, so larger crowds are not compared.
_MOST_COMPARED: Final = 1_000

_GAP: Final = "..."
_END: Final = (LONGEST - len(_GAP)) // 2


def show(name: str) -> str:
    """Return a name's repr, without the middle where the name is long."""
    return repr(shorten(name))


def shorten(name: str) -> str:
    """Return a name as a plain str, without the middle where it is long."""
    # A member of an enum formats as it likes.
    plain = str.__str__(name)
    return plain if len(plain) <= LONGEST else f"{plain[:_END]}{_GAP}{plain[-_END:]}"


def closest(name: str, known: Collection[str]) -> tuple[str, ...]:
    """Return the known names that are nearest to one that is unknown, the nearest first.

    None where there are more than 1,000, or where the name is long, since comparing takes long;
    nor is it compared with long ones.
    """
    if len(name) > LONGEST or len(known) > _MOST_COMPARED:
        return ()
    # Imported by the first name that is unknown: difflib is 4 % of importing FlexiFlow.
    from difflib import get_close_matches  # noqa: PLC0415

    return tuple(get_close_matches(name, [each for each in known if len(each) <= LONGEST]))
