"""Judgements on whose turn it is (C3, C4).

Each takes the history of a script, and returns how it breaks the clause, or None.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from flexiflow._actor import Outcome
from flexiflow.events import MESSAGE_RECEIVED
from flexiflow.testing._component.steps import mislaid
from flexiflow.testing._component.trace import ENDS, HANDLED
from flexiflow.testing._examiner.reports import exception_in, unnamed

if TYPE_CHECKING:
    import logging

    from flexiflow.testing._component.trace import History, Message, Moment


def in_turn(history: History) -> str | None:
    """C3: one at a time, first come first served."""
    return _one_at_a_time(history) or _next_in_line(history)


def _one_at_a_time(history: History) -> str | None:
    """Judge whether one message is handled in the midst of another one of the same component."""
    over: set[int] = set()
    in_hand: dict[str, int] = {}
    for moment in history.moments:
        if moment.what not in HANDLED:
            continue
        if moment.number in over:
            other = history.messages[in_hand[moment.component]]
            return f"{other.name} was handled in the midst of another one, {moment.number}"
        if in_hand.get(moment.component, moment.number) != moment.number:
            over.add(in_hand[moment.component])
        in_hand[moment.component] = moment.number
    return None


def _next_in_line(history: History) -> str | None:
    """Judge the order: deferred messages first, then the others, each in the order of `send`."""
    lines: defaultdict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    begun: set[int] = set()
    for moment in history.moments:
        if moment.number in begun:
            continue
        others, deferred = lines[moment.component]
        line = deferred if _is_deferred(history, moment.number) else others
        if moment.what == "sent":
            line.append(moment.number)
        elif moment.what in HANDLED:
            begun.add(moment.number)
            expected = (deferred or others)[:1]
            if [moment.number] != expected:
                return f"{_told(history, moment.number)} came before {_told(history, *expected)}"
            line.remove(moment.number)
        elif moment.what == "raised":
            others.remove(moment.number)
        elif moment.what == "returned" and line is others:
            return f"{_told(history, moment.number)} was never handled, but {moment.value} returned"
    return None


def _is_deferred(history: History, number: int) -> bool:
    end = history.outcome(number) if number >= 0 else None
    return end is not None and end.value is Outcome.DEFERRED


def _told(history: History, *numbers: int) -> str:
    return " ".join(history.messages[each].name for each in numbers) or "nobody"


def run_to_completion(history: History) -> str | None:
    """C4: what is sent from within is deferred, and handled next, by the task that has the turn."""
    return (
        next(filter(None, (_deferral(history, each) for each in history.messages)), None)
        or _one_at_a_time(history)
        or _next_in_line(history)
        or next(filter(None, (_deferred(history, each) for each in history.messages)), None)
        or next(filter(None, (_own_failure(history, each) for each in history.messages)), None)
    )


def _deferral(history: History, message: Message) -> str | None:
    """Judge whether a message was rightly deferred, or rightly not."""
    from_within = any(history.messages[each].to == message.to for each in message.within)
    is_deferred = _is_deferred(history, message.number)
    if from_within and not is_deferred and not history.left_by_cancellation(message.number):
        return f"{message.name} was sent from within its own component's handling, not deferred"
    if is_deferred and not from_within and not (message.within and _was_busy(history, message)):
        return f"{message.name} was deferred, though it could be waited for"
    return None


def _was_busy(history: History, message: Message) -> bool:
    """Return whether another send to the same component had not ended."""
    [sent] = history.of(message.number, "sent")
    before = history.moments[: history.moments.index(sent)]
    mine = [each for each in before if each.component == message.to]
    begun = {each.number for each in mine if each.what == "sent"}
    return bool(begun - {each.number for each in mine if each.what in ENDS})


def _deferred(history: History, message: Message) -> str | None:
    """Judge what became of a deferred message."""
    if not _is_deferred(history, message.number):
        return None
    handled = history.handling(message.number)
    cancelled = any(history.left_by_cancellation(each.number) for each in history.messages)
    if cancelled:
        return None
    if not handled:
        return f"{message.name} was deferred, and never handled"
    return _deferred_task(history, message, handled) or _reported(history, message)


def _deferred_task(history: History, message: Message, handled: list[Moment]) -> str | None:
    """Judge whether the send in hand handled a deferred message in its task, before it ended."""
    before = history.moments[: history.moments.index(handled[0])]
    holders = [
        each
        for each in before
        if each.what in HANDLED
        and each.component == message.to
        and not _is_deferred(history, each.number)
    ]
    in_hand = [history.messages[each.number] for each in holders[-1:]]
    if [handled[0].task] != [each.task for each in in_hand]:
        return f"{message.name} was handled in another task than that of the send in hand"
    if any(each.number == in_hand[0].number and each.what in ENDS for each in before):
        return f"{message.name} was handled when the send in hand had ended"
    return None


def _reported(history: History, message: Message) -> str | None:
    """Judge whether the failure of a deferred message was reported, and raised to no sender."""
    for failed in history.of(message.number, "failed"):
        if any(
            message.number not in history.messages[each.number].within
            for each in history.moments
            if each.what == "raised" and each.value is failed.value
        ):
            return f"the failure of {message.name}, which was deferred, was raised to a sender"
        wrong = _logged(history, message, failed) or _published(history, message, failed)
        if wrong:
            return f"the failure of {message.name}, which was deferred, was {wrong}"
    return None


def _logged(history: History, message: Message, failed: Moment) -> str | None:
    """Judge how a failure was logged (E1)."""
    records: list[logging.LogRecord] = [
        each.value
        for each in history.moments
        if each.what == "logged" and exception_in(each.value) is failed.value
    ]
    if [each.levelname for each in records] != ["ERROR"]:
        return f"logged with its traceback as {[each.levelname for each in records]}, not one ERROR"
    missing = unnamed(records[0], message.trigger, MESSAGE_RECEIVED, message.to)
    return f"logged without {missing}" if missing else None


def _published(history: History, message: Message, failed: Moment) -> str | None:
    """Judge how a failure was published."""
    told = [
        each.value
        for each in history.moments
        if each.what == "reported" and each.value.get("exception") is failed.value
    ]
    if len(told) != 1:
        return f"published {len(told)} times"
    given = told[0].get("event_name"), told[0].get("component_name")
    return None if given == (MESSAGE_RECEIVED, message.to) else f"published as of {given}"


def _own_failure(history: History, message: Message) -> str | None:
    """Judge whether a message that deferred others raises its own failure at the end."""
    has_deferred = any(
        _is_deferred(history, each.number)
        for each in history.messages
        if message.number in each.within
    )
    if not has_deferred or _is_deferred(history, message.number):
        return None
    for failed in history.of(message.number, "failed"):
        if history.left_by_cancellation(message.number) or not isinstance(failed.value, Exception):
            continue
        if complaint := mislaid(history, message, failed):
            return complaint
    return None
