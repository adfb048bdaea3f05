"""Showing names, values and exceptions of users on one line, whatever they contain."""

from __future__ import annotations

import re
from traceback import extract_tb

from flexiflow._text import printable

_LONGEST = 500

# What means something within a line of Markdown, GitHub's Markdown and HTML included. A backslash
# does before punctuation alone; as in \x07, it is left as it is for those who read the source.
_MARKDOWN = re.compile(r"[*_\[\]<>&~|$]|\\(?=[!-/:-@\[-`{-~]|\Z)")


def one_line(text: str) -> str:
    """Return a text on one line, cut to 500 characters; then what can't be printed is escaped."""
    words = " ".join(text[: 2 * _LONGEST].split())
    shown = words if len(words) <= _LONGEST else f"{words[: _LONGEST - 3]}..."
    return printable(shown)


def in_markdown(text: str) -> str:
    """Return a line of Markdown that shows a text as it is, but backticks as single quotes."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text).replace("`", "'"))


def show_value(value: object) -> str:
    """Return the value's repr, or the name of its type if that fails."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  a user's repr may raise anything
        return f"<{type(value).__qualname__} without a repr>"


def show_text(value: object) -> str:
    """Return a str as it is, an empty str for None, and the repr of anything else."""
    if value is None:
        return ""
    return value if isinstance(value, str) else show_value(value)


def show_exception(exception: BaseException) -> str:
    """Return the exception's type and message, on one line."""
    kind = type(exception).__qualname__
    message = show_message(exception)
    return f"{kind}: {message}" if message else kind


def show_message(exception: BaseException) -> str:
    """Return the exception's message on one line; an empty str if it can't be shown."""
    try:
        return one_line(str(exception))
    except Exception:  # noqa: BLE001  a user's exception may fail to show itself
        return ""


def show_origin(exception: BaseException, ours: tuple[str, ...]) -> str:
    """Return the place that raised the exception, as text for the end of a message.

    Args:
        exception: what was raised.
        ours: beginnings of paths. For a file whose path begins so, the result is an empty str.
    """
    frames = [
        frame
        for frame in extract_tb(exception.__traceback__)
        if not frame.filename.startswith("<frozen ")
    ]
    if not frames or frames[-1].filename.startswith(ours):
        return ""
    return f" ({one_line(frames[-1].filename)}, line {frames[-1].lineno})"
