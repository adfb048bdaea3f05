"""Tells what happened while a program ran, for whoever looks into a violation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from flexiflow.testing._trace import Trace

_TOLD: Final = ("from_state", "to_state", "exception")
"""What is told of an observed event."""


def story(trace: Trace) -> str:
    """Write a line for everything that happened: in which task, what, to whom, with what result."""
    tasks: dict[int, int] = {}
    lines: list[str] = []
    for task, what, who, value in trace.told():
        number = tasks.setdefault(task, len(tasks))
        words = (f"task {number}:", who, what, _show(value))
        lines.append(" ".join(filter(None, words)))
    return "\n".join(lines)


def _show(value: Any) -> str:
    # Nothing that differs from one run to the next, like an address.
    match value:
        case None:
            shown = ""
        case Exception():
            shown = repr(value)
        case logging.LogRecord():
            shown = repr(value.getMessage().partition("\n")[0])
        case Mapping():
            payload = cast("Mapping[str, Any]", value)
            shown = ", ".join(f"{name}={_show(payload[name])}" for name in _TOLD if name in payload)
        case tuple() | list():
            shown = f"({', '.join(map(_show, cast('list[Any]', value)))})"
        case Enum():
            shown = value.name
        case str() | int():
            shown = str(value)
        case _:
            shown = type(value).__name__
    return shown
