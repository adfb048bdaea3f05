"""The only way of texts to standard output and standard error (L3, L4).

Names, payloads and exceptions are of strangers, and a terminal obeys some characters. So no other
module of the command line writes to a stream, but for `writer` and the live line of `display`; and
these take what they write from here, too.
"""

from __future__ import annotations

from textwrap import indent
from traceback import format_exception
from typing import TextIO

from flexiflow._text import printable, printable_lines


def write(stream: TextIO, text: str) -> None:
    """Write a text's lines, with what a terminal would obey, or can't show, escaped.

    Raises:
        OSError: they can't be written.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    shown = printable_lines(text).encode(encoding, "backslashreplace").decode(encoding)
    print(shown, file=stream, flush=True)


def report(text: str, exception: BaseException | None = None) -> str:
    """Put a text on one line, and the exception's traceback below it.

    The traceback is indented: whatever the exception says, none of its lines looks like a report.
    """
    line = printable(text)
    if exception is None:
        return line
    return f"{line}\n{indent(printable_lines(''.join(format_exception(exception))), '  ')}".rstrip()


def as_ascii(text: str) -> str:
    """Keep a text's line feeds, and escape what isn't printable in ASCII."""
    shown = text if text.isascii() else text.encode("ascii", "backslashreplace").decode("ascii")
    return printable_lines(shown)
