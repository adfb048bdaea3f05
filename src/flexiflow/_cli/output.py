"""Writing text to standard output and standard error, with control characters escaped (L3, L4).

Names, payloads and exceptions may come from strangers, and a terminal obeys control characters. So
only this module writes to a stream, except for `writer`, `screen` and the live line of `display`;
and those pass what they write through this module.
"""

from __future__ import annotations

from textwrap import indent
from traceback import format_exception
from typing import TextIO

from flexiflow._text import printable, printable_lines


def write(stream: TextIO, text: str) -> None:
    """Write a text's lines; characters that a terminal would obey or can't show are escaped.

    Raises:
        OSError: the text can't be written.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    shown = printable_lines(text).encode(encoding, "backslashreplace").decode(encoding)
    print(shown, file=stream, flush=True)


def report(text: str, exception: BaseException | None = None) -> str:
    """Return a text on one line, with the exception's traceback below it.

    The traceback is indented, so that no line of it can look like a report.
    """
    line = printable(text)
    if exception is None:
        return line
    return f"{line}\n{indent(printable_lines(''.join(format_exception(exception))), '  ')}".rstrip()


def as_ascii(text: str) -> str:
    """Escape what isn't printable in ASCII, except for line feeds."""
    shown = text if text.isascii() else text.encode("ascii", "backslashreplace").decode("ascii")
    return printable_lines(shown)
