"""Showing anything at all on one line: names, values and exceptions that users made."""

from __future__ import annotations

import re
from traceback import extract_tb

from flexiflow._text import printable

_LONGEST = 500

# What begins or ends something in Markdown within a line, GitHub's and HTML among it.
_MARKDOWN = re.compile(r"[\\*_\[\]<>&~|$]")


def one_line(text: str) -> str:
    """Put a text on one line of at most 500 characters, what can't be printed escaped."""
    words = " ".join(text[: 2 * _LONGEST].split())
    shown = words if len(words) <= _LONGEST else f"{words[: _LONGEST - 3]}..."
    return printable(shown)


def in_markdown(text: str) -> str:
    """Put a text on one line of Markdown that shows it as it is, backticks as single quotes."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text).replace("`", "'"))


def show_value(value: object) -> str:
    """Return the value's repr, or what it is where that fails."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  a user's repr may raise anything
        return f"<{type(value).__qualname__} without a repr>"


def show_text(value: object) -> str:
    """Return a text as it is; of what should be one, and is none, the repr; nothing for None."""
    if value is None:
        return ""
    return value if isinstance(value, str) else show_value(value)


def show_exception(exception: BaseException) -> str:
    """Name the exception's type and show its message, on one line."""
    kind = type(exception).__qualname__
    message = show_message(exception)
    return f"{kind}: {message}" if message else kind


def show_message(exception: BaseException) -> str:
    """Show the exception's message on one line."""
    try:
        return one_line(str(exception))
    except Exception:  # noqa: BLE001  a user's exception may fail to show itself
        return ""


def show_origin(exception: BaseException, ours: tuple[str, ...]) -> str:
    """Tell the line that raised the exception, unless its path begins as one of `ours`."""
    frames = [
        frame
        for frame in extract_tb(exception.__traceback__)
        if not frame.filename.startswith("<frozen ")
    ]
    if not frames or frames[-1].filename.startswith(ours):
        return ""
    return f" ({one_line(frames[-1].filename)}, line {frames[-1].lineno})"
