"""Writing down what users and strangers wrote, so that nothing that shows it obeys it."""

from __future__ import annotations


def printable(text: str) -> str:
    """Escape what can't be printed, so that the text is on one line and does nothing to it.

    That is line ends, terminals' control characters (C0, DEL and C1), marks of direction and of
    format, separators of lines and paragraphs, and lone surrogates.
    """
    return text if text.isprintable() else "".join(map(_printable, text))


def printable_lines(text: str) -> str:
    """Keep a text's line feeds, and escape what else can't be printed."""
    return "\n".join(map(printable, text.split("\n")))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
