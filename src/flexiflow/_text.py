"""Texts of users and strangers in messages and in the log: cut short if long (B10), and escaped.

Escaped, they can't control a terminal or forge a line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

LONGEST: Final = 200
"""The most characters of a name that are shown; `closest` leaves longer names out."""

# difflib takes 0.1 s for 13,000 names, so no more than this are compared.
_MOST_COMPARED: Final = 1_000

_GAP: Final = "..."
_END: Final = (LONGEST - len(_GAP)) // 2


def show(name: str) -> str:
    """Return a name's repr; a long name loses its middle."""
    return repr(shorten(name))


def shorten(name: str) -> str:
    """Return a name as a plain str; a long one loses its middle."""
    # str.__str__, since a subclass, such as an enum, may format itself in another way.
    plain = str.__str__(name)
    return plain if len(plain) <= LONGEST else f"{plain[:_END]}{_GAP}{plain[-_END:]}"


def safely(shows: Callable[[object], str], value: object) -> str:
    """Return what `str` or `repr` makes of a user's value, or the value's type if that raises."""
    try:
        return shows(value)
    except Exception:  # noqa: BLE001  a user's method may raise anything
        return f"<a {type(value).__qualname__} that can't be shown>"


def show_failure(exception: BaseException) -> str:
    """Return an exception's type and message on one line; a long one loses its middle."""
    return printable(shorten(safely(_describe, exception)))


def _describe(exception: object) -> str:
    kind, message = type(exception).__qualname__, str(exception)
    return f"{kind}: {message}" if message else kind


def counted(number: int, noun: str) -> str:
    """Return how many things there are, as in "1 event" and "2 events"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def closest(name: str, known: Collection[str]) -> tuple[str, ...]:
    """Return the known names that are most like an unknown one, the most alike first.

    Comparing takes time. So there is no result if the name has more than 200 characters or there
    are more than 1,000 known names, and known names of more than 200 characters are left out.
    """
    if len(name) > LONGEST or len(known) > _MOST_COMPARED:
        return ()
    # Imported by the first unknown name: difflib would be 6 % of importing FlexiFlow.
    from difflib import get_close_matches  # noqa: PLC0415

    return tuple(get_close_matches(name, [each for each in known if len(each) <= LONGEST]))


def printable(text: str) -> str:
    """Escape what can't be printed, so that the text stays on one line and controls nothing.

    That is line ends, control characters (C0, DEL and C1), marks of direction and of format,
    separators of lines and paragraphs, and lone surrogates.
    """
    return text if text.isprintable() else "".join(map(_printable, text))


def printable_lines(text: str) -> str:
    """Escape what can't be printed, except for line feeds."""
    return "\n".join(map(printable, text.split("\n")))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
