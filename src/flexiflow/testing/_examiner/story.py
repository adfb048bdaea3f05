"""Write what happened while a program ran, to explain a violation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from flexiflow.testing._examiner.trace import Trace

_TOLD: Final = ("from_state", "to_state", "exception")
"""What is shown of the payload of an observed event."""


def story(trace: Trace) -> str:
    """Return a line for each entry: in which task, by whom, what happened, with what result."""
    tasks: dict[int, int] = {}
    lines: list[str] = []
    for task, what, who, value in trace.told():
        number = tasks.setdefault(task, len(tasks))
        words = (f"task {number}:", who, what, _show(value))
        lines.append(" ".join(filter(None, words)))
    return "\n".join(lines)


def shown(value: Any) -> str:
    """Return a value's text for a complaint: nothing that differs from run to run."""
    return _show(value) or repr(value)


def _show(value: Any) -> str:
    # Other values are shown by their type alone: their text may contain an address.
    match value:
        case None:
            text = ""
        case Exception():
            text = repr(value)
        case logging.LogRecord():
            text = repr(value.getMessage().partition("\n")[0])
        case Mapping():
            payload = cast("Mapping[str, Any]", value)
            text = ", ".join(f"{name}={_show(payload[name])}" for name in _TOLD if name in payload)
        case tuple() | list():
            inner = ", ".join(map(_show, cast("list[Any]", value)))
            text = f"[{inner}]" if isinstance(value, list) else f"({inner})"
        case Enum():
            text = value.name
        case str() | int():
            text = str(value)
        case _:
            text = type(value).__name__
    return text
