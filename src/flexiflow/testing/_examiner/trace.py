"""The trace: what happened while a case ran, and how that is told to explain a violation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from flexiflow._text import safely

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_T = TypeVar("_T", bound="Trace")

NOBODY: Final = -1
"""Stands for no subscription or transition, and for no publish or message."""
ENDS: Final = ("returned", "raised")
_TOLD: Final = ("from_state", "to_state", "exception")
"""What is shown of the payload of an observed event."""


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """Something that happened.

    Attributes:
        what: of a publish, "published", then "returned" or "raised"; of a message, "sent", then the
            same; of a filter or guard, "asked", then "answered"; of a handler, "started", then
            "ended"; of an action, "acts", then "acted"; of any of these functions, "failed".
            "subscribed", "unsubscribed", "emptied" (a component); "received" and "changed", the
            events of a component; "announced", a failure; "logged"; "seen", a state. Of a
            transport, the whole line.
        seat: the number of the subscription, or of the transition, or -1.
        value: what came of it: a result, an exception, a log record, a payload.
        act: the number of the publish or message, or -1.
        who: who did it, in words.
        component: the name of the component.
        task: the task in which it happened.
        parent: the task that started this one, or None.
        seen: the value of the context variable that scripts set, or the component's state.
        cancelled: whether a scope around it was cancelled.
        observing: whether it happened within a handler of `event.handler.failed`.
    """

    what: str
    seat: int = NOBODY
    value: Any = None
    act: int = NOBODY
    who: str = ""
    component: str = ""
    task: int = 0
    parent: int | None = None
    seen: Any = None
    cancelled: bool = False
    observing: bool = False


UNENDED: Final = Entry("was not over")
"""The end of what never ended; the reason for that is reported elsewhere."""


@dataclass
class Trace:
    """All that happened, in order.

    Attributes:
        entries: what happened.
        left: what was raised out of the case, or None.
        tasks_left: the tasks that were there at the end but not at the beginning.
        cancellation: the type of the backend's cancellations.
        complaints: what the case itself complains of, by the clause that is broken.
    """

    entries: list[Entry] = field(default_factory=list[Entry])
    left: BaseException | None = None
    tasks_left: tuple[str, ...] = ()
    cancellation: type[BaseException] = GeneratorExit
    complaints: dict[str, str] = field(default_factory=dict[str, str])

    def all(self, *whats: str, act: int | None = None) -> list[Entry]:
        """Return the entries of some kinds, of one publish or message, or of any."""
        if act is None:
            return [entry for entry in self.entries if entry.what in whats]
        # Few are of one act, and judgements look through all entries again and again.
        return [entry for entry in self.entries if entry.act == act and entry.what in whats]

    def place(self, entry: Entry) -> int:
        """Return the index of an entry."""
        return self.entries.index(entry)

    def ended(self, act: int) -> Entry:
        """Return the entry in which a publish or message returned or raised, or `UNENDED`."""
        return next(iter(self.all(*ENDS, act=act)), UNENDED)

    def is_cancelled(self, entry: Entry) -> bool:
        """Return whether its value is a cancellation."""
        return isinstance(entry.value, self.cancellation)

    def story(self) -> str:
        """Return a line for each entry: in which task, by whom, what happened, and the result."""
        tasks: dict[int, int] = {}
        lines: list[str] = []
        for entry in self.entries:
            number = tasks.setdefault(entry.task, len(tasks))
            words = (f"task {number}:", entry.who, entry.what, _show(entry.value))
            lines.append(" ".join(filter(None, words)))
        return "\n".join(lines)


def first(complaints: Iterable[str | None]) -> str | None:
    """Return the first complaint, or None if there is none."""
    return next(filter(None, complaints), None)


def first_of(*judges: Callable[[_T], str | None]) -> Callable[[_T], str | None]:
    """Return a judgement that returns the first complaint of several."""
    return lambda trace: first(judge(trace) for judge in judges)


def shown(value: Any) -> str:
    """Return a value's text for a complaint: nothing that differs from run to run."""
    return _show(value) or repr(value)


def _show(value: Any) -> str:
    # Other values are shown by their type alone: their text may contain an address.
    match value:
        case None:
            text = ""
        case Exception():
            text = safely(repr, value)
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


def exception_of(entry: Entry) -> object:
    """Return the exception that was logged with its traceback, or announced."""
    if entry.what == "logged":
        return (entry.value.exc_info or (None, None))[1]
    return entry.value.get("exception") if is_a(entry.value, dict) else None


def is_a(value: object, kind: type) -> bool:
    """Return `isinstance(value, kind)`, but let type checkers still take the value for `Any`."""
    return isinstance(value, kind)


def logged(trace: Trace, exception: BaseException) -> list[Entry]:
    """Return the entries that log an exception at WARNING or above; debugging aids don't count."""
    return [entry for entry in reported(trace, "logged") if exception_of(entry) is exception]


def announced(trace: Trace, exception: BaseException) -> list[Entry]:
    """Return the entries in which an exception was heard as `event.handler.failed`."""
    return [entry for entry in trace.all("announced") if exception_of(entry) is exception]


def reported(trace: Trace, *whats: str) -> list[Entry]:
    """Return entries of some kinds; of the log, only those at WARNING or above."""
    return [
        entry
        for entry in trace.all(*whats)
        if entry.what != "logged" or entry.value.levelno >= logging.WARNING
    ]


def parts(exception: BaseException) -> list[BaseException]:
    """Return an exception itself and, if it is a group, all that it holds at any depth."""
    if not isinstance(exception, BaseExceptionGroup):
        return [exception]
    group = cast("BaseExceptionGroup[BaseException]", exception)
    return [exception, *(part for each in group.exceptions for part in parts(each))]


def misreported(
    trace: Trace, failed: Entry, whose: str, event: str, component: str, names: Iterable[str]
) -> str | None:
    """Return what is wrong with how a failure was logged and announced (E1), or None.

    Args:
        trace: what happened.
        failed: the failure.
        whose: the failure in words, as "the failure of h0".
        event: the name of the event that is announced with it.
        component: the name of the component.
        names: what the log has to name.
    """
    records = [entry.value for entry in logged(trace, failed.value)]
    if len(records) != 1:
        return f"{whose} was logged with its traceback {len(records)} times"
    if records[0].levelno != logging.ERROR:
        return f"{whose} was logged as {records[0].levelname}, not as ERROR"
    message = records[0].getMessage()
    missing = ", ".join(name for name in names if name not in message)
    if missing:
        return f"{whose} was logged without {missing}"
    told = [entry.value for entry in announced(trace, failed.value)]
    if len(told) != 1:
        return f"{whose} was published {len(told)} times"
    if (told[0].get("event_name"), told[0].get("component_name")) != (event, component):
        return f"{whose} was published with another event or component"
    return None
