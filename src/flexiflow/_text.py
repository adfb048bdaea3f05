"""Escaping texts of users and strangers, so that they can't control a terminal or forge a line."""

from __future__ import annotations


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
