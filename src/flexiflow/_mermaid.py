"""Drawing state machines, with names that Mermaid shows as they are.

What stands in a name must not be read as Mermaid's grammar.
"""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING

from flexiflow._callables import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from flexiflow._states import State

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


def draw(
    initial: str,
    states: tuple[str, ...],
    details: Mapping[str, State],
    arrows: Iterable[tuple[str, str, str]],
) -> str:
    """Draw a state machine as a Mermaid `stateDiagram-v2` (C9, M4).

    Args:
        initial: the initial state.
        states: all states.
        details: what the machine has to say of some of them.
        arrows: the source of each arrow, its text, escaped, and its target; repeats are drawn once.

    Returns:
        The diagram's source text.
    """
    ids = identify(states)
    lines: list[str] = []
    for state, short in ids.items():
        below = [*parts_of(details[state], escape)] if state in details else []
        # Mermaid takes the first text for the title, so the name must come before the others.
        if state != short or below:
            lines.append(f'state "{escape(state)}" as {short}')
        lines += [f"{short}: {text}" for text in below]
    lines.append(f"[*] --> {ids[initial]}")
    lines += [f"{ids[source]} --> {ids[target]}: {text}" for source, text, target in arrows]
    lines += [f"{ids[name]} --> [*]" for name, state in details.items() if state.final]
    return "\n    ".join(["stateDiagram-v2", *dict.fromkeys(lines)])


def parts_of(state: State, shown: Callable[[str], str]) -> Iterator[str]:
    """Yield what stands below a state's name: when something happens, and what (M4).

    Args:
        state: what the machine has to say of the state.
        shown: escapes each text of a user.
    """
    for role, fn in (("entry", state.entry), ("exit", state.exit)):
        if fn is not None:
            yield f"{role} / {shown(describe(fn))}"
    if state.after is not None:
        seconds, trigger = state.after
        yield f"after {shown(repr(seconds).removesuffix('.0'))} s / {shown(trigger)}"
    if state.during is not None:
        yield f"during / {shown(describe(state.during))}"
    for role, sent in (("done", state.done), ("failed", state.failed)):
        if sent is not None:
            yield f"{role} / {shown(sent)}"


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
