"""What a trace shows of a failure's reports: whether it was logged and announced (E1)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexiflow.testing._examiner.trace import Entry, Trace


def exception_of(entry: Entry) -> object:
    """Return the exception that was logged with its traceback, or announced."""
    if entry.what == "logged":
        return exception_in(entry.value)
    return entry.value.get("exception") if is_a(entry.value, dict) else None


def exception_in(record: logging.LogRecord) -> BaseException | None:
    """Return the exception that a record has, with its traceback, or None."""
    return (record.exc_info or (None, None))[1]


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


def report_complaint(
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
