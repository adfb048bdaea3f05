"""Writing names so that Mermaid shows them as they are, and does not read them as its grammar."""

from __future__ import annotations

import re
from itertools import count

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Identifiers that can't be ids, found by trying Mermaid 10 and 11: words of its grammar, in upper
# or lower case; its own names for the root of a diagram; and what every JavaScript object inherits,
# which its layout takes for a state drawn before. After "direction" at the end of a line, Mermaid
# swallows the next line if that begins with "tb" or the like.
_NO_ID = re.compile(
    r"(?i:accdescr|acctitle|class|classdef|click|default|href|note|scale|state|statediagram|style"
    r"|\w*direction)"
    r"|root|root_start"
    r"|constructor|hasOwnProperty|isPrototypeOf|propertyIsEnumerable|toLocaleString|toString|valueOf"
    r"|__proto__|__(?:define|lookup)[GS]etter__"
)

# Characters to escape in texts. Mermaid reads some punctuation as its grammar, and the rest as
# Markdown ("1. pay" is a list). Inside words, the commonest punctuation is safe, and is kept to
# stay readable. Spaces at the ends of a text, and all but one in a row, would be lost.
_NO_TEXT = re.compile(
    r"[^\w ./-]|(?<![^\W_])[_./-]|[_./-](?![^\W_])|(?<![^ ]) | (?![^ ])"
    r"|(?i:(?<=directio)n(?![^ ]))"
)


def identify(states: tuple[str, ...]) -> dict[str, str]:
    """Return an id for each state: its own name if Mermaid accepts that, else an alias (C9)."""
    names = [str.__str__(state) for state in states]  # an enum may format itself in another way
    free = (alias for number in count(1) if (alias := f"s{number}") not in states)
    return {name: name if _is_id(name) else next(free) for name in names}


def _is_id(name: str) -> bool:
    return bool(_IDENTIFIER.fullmatch(name)) and not _NO_ID.fullmatch(name)


def escape(text: str) -> str:
    """Escape a text so that Mermaid shows it as it is."""
    return _NO_TEXT.sub(lambda match: f"#{ord(match[0])};", str.__str__(text))
