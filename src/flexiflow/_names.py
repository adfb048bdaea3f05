"""Event names and patterns, which are non-empty segments joined by dots, and component names."""

from __future__ import annotations

import reprlib
from typing import Final

from flexiflow._showing import show

ONE = "*"
REST = "**"

_CHARACTERS: Final = 32
"""This many characters of a name count as much as one more name (`room`)."""


def check_event_name(name: object) -> str:
    """Return `name` if it can be published, else raise a ValueError or TypeError (B3)."""
    return ".".join(_segments(name, "can't publish to the pattern {}: an event's"))


def check_query_name(name: object) -> str:
    """Return `name` if it can be a query's, else raise a ValueError or TypeError (A1, B3)."""
    return ".".join(_segments(name, "can't ask or answer the pattern {}: a query's"))


def check_subscribed_name(name: object) -> str:
    """Return `name` if it can be subscribed to, as a name or a pattern, else raise (B3, B10)."""
    return ".".join(_segments(name))


def is_pattern(name: str) -> bool:
    """Return whether a valid name has a wildcard."""
    return ONE in name


def room(name: str) -> int:
    """Return how much room a name takes among remembered names; a short one takes 1 (B10).

    A bound on the room bounds the number of names and their characters together.
    """
    return 1 + len(name) // _CHARACTERS


def check_component_name(name: object) -> str:
    """Return `name` if it can be a component's name, else raise a ValueError or TypeError (B3)."""
    if not isinstance(name, str):
        raise TypeError(f"a component's name must be a str, not {reprlib.repr(name)}")
    if not name:
        raise ValueError("a component's name must not be empty")
    return name


def _segments(name: object, no_patterns: str = "") -> list[str]:
    # `no_patterns` begins the message about a wildcard; empty where patterns are allowed.
    if not isinstance(name, str):
        raise TypeError(f"an event name must be a str, not {reprlib.repr(name)}")
    segments = name.split(".")
    if not all(segments):
        raise ValueError(
            f"malformed event name {show(name)}: it must be non-empty segments joined by dots, "
            "like 'order.placed'"
        )
    if ONE in name:
        _check_wildcards(name, segments, no_patterns)
    return segments


def _check_wildcards(name: str, segments: list[str], no_patterns: str) -> None:
    if no_patterns:
        raise ValueError(f"{no_patterns.format(show(name))} name has no wildcard")
    if any(ONE in segment and segment not in (ONE, REST) for segment in segments):
        raise ValueError(
            f"malformed pattern {show(name)}: a wildcard is a segment of its own, '*' or '**'"
        )
    if REST in segments[:-1]:
        raise ValueError(f"malformed pattern {show(name)}: '**' may only be the last segment")
