"""What a bus offers beyond its four methods, found by using each part by itself (P5)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from flexiflow.testing._examiner.clause import MODES, POLICIES
from flexiflow.testing._examiner.kit import ignore, noting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Use: TypeAlias = Callable[[Any], Awaitable[bool]]

PATTERNS: Final = "patterns"
REST: Final = "patterns with **"
HASHABLE: Final = "hashable subscriptions"
PRIORITY: Final = "subscribe(priority=)"
FILTER: Final = "subscribe(filter=)"
ONCE: Final = "subscribe(once=)"
DELIVERY: Final = "publish(delivery=)"
ON_ERROR: Final = "publish(on_error=)"
METHODS: Final = (
    "stream",
    "expect",
    "wait_for",
    "add_instrument",
    "remove_instrument",
    "subscriptions",
    "answer",
    "ask",
    "background",
)


async def _subscribe(bus: Any, **options: object) -> bool:
    await bus.subscribe("a", "c", ignore, **options)
    return True


async def _publish(bus: Any, **options: object) -> bool:
    """Return whether an option may have a value; a bus may know the option, but not the value."""
    try:
        await bus.publish("a", **options)
    except ValueError:
        return False
    return True


async def returns_failures(bus: Any) -> bool:
    """Return whether `publish` returns a tuple, as E1 promises."""
    return isinstance(await bus.publish("a"), tuple)


def with_value(option: str, value: object) -> str:
    """Return the name of the part that is an option of `publish` with a value."""
    return f"publish({option}={value!r})"


async def _hash(bus: Any) -> bool:
    hash(await bus.subscribe("a", "c", ignore))
    return True


async def _hear(bus: Any) -> bool:
    """Return whether any pattern hears what it matches: which of them do is for a clause to say."""
    heard: list[object] = []
    for pattern in ("*", "**", "a.*", "a.**", "*.b"):
        try:
            await bus.subscribe(pattern, "c", heard.append)
        except ValueError:
            continue
    await bus.publish("a", 1)
    await bus.publish("a.b", 1)
    return bool(heard)


async def _hear_the_rest(bus: Any) -> bool:
    try:
        for pattern in ("**", "a.**"):
            await bus.subscribe(pattern, "c", ignore)
    except ValueError:
        return False
    return True


USES: Final[Mapping[str, Use]] = {
    PATTERNS: _hear,
    REST: _hear_the_rest,
    HASHABLE: _hash,
    PRIORITY: partial(_subscribe, priority=1),
    FILTER: partial(_subscribe, filter=noting([])),
    ONCE: partial(_subscribe, once=True),
    "subscribe(limit=)": partial(_subscribe, limit=1),
    "subscribe(time_limit=)": partial(_subscribe, time_limit=1),
    "subscribe(around=)": partial(_subscribe, around=()),
    **{with_value("delivery", each): partial(_publish, delivery=each) for each in MODES},
    **{with_value("on_error", each): partial(_publish, on_error=each) for each in POLICIES},
}
"""Uses each part by itself. If the part is not there, that raises `TypeError` or
`NotImplementedError`, or returns False."""


def options_of(parts: set[str]) -> set[str]:
    """Return the options of `publish` that have at least one value."""
    return {
        option
        for option in (DELIVERY, ON_ERROR)
        if any(part.startswith(option.removesuffix(")")) for part in parts)
    }
