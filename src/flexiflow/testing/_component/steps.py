"""Judgements on the steps of one message, and on the state (C5, C6).

Each takes the history of a script, and returns how it breaks the clause, or None.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from flexiflow._actor import Outcome
from flexiflow.testing._component.script import INITIAL
from flexiflow.testing._examiner.story import shown

if TYPE_CHECKING:
    from flexiflow._machine import Transition
    from flexiflow.testing._component.trace import History, Message, Moment


def steps_in_order(history: History) -> str | None:
    """C5: received; guard; action; commit; changed."""
    states = dict.fromkeys({message.to for message in history.messages}, INITIAL)
    order = [each.number for each in history.moments if each.what == "received"]
    unheard = [each for each in history.messages if each.number not in order]
    if unheard:
        return f"that {unheard[0].name} is handled was not published"
    for number_ in dict.fromkeys(order):
        complaint = _steps_of(history, history.messages[number_], states)
        if complaint:
            return complaint
    return None


def _steps_of(history: History, message: Message, states: dict[str, str]) -> str | None:
    """Judge the steps of one message, and note in `states` where it leads."""
    state = states[message.to]
    expected, row = _expected(history, message, state)
    target = state if row is None or row.target is None else row.target
    handling = history.handling(message.number)
    given = [_step(each) for each in handling]
    if target == state:  # C7 judges whether that is a change
        given, expected = (
            [each for each in steps if "changed" not in each] for steps in (given, expected)
        )
    if given != expected:
        return f"{message.name} in {state} went through {_list(given)}, not {_list(expected)}"
    early = [each for each in handling if each.what != "changed" and each.state != state]
    if early:
        return f"{message.name} found the state changed at its step {_step(early[0])!r}"
    late = [each for each in handling if each.what == "changed" and each.state != target]
    if late:
        return f"{message.name} had its change to {target} told before it was made"
    states[message.to] = target
    end = history.outcome(message.number)
    # C8 judges what becomes of a message that no transition matches.
    if row is not None and (end is None or end.value is not Outcome.TRANSITIONED):
        return f"{message.name} came to {shown(end and end.value)}, though it was handled"
    return None


def _expected(
    history: History, message: Message, state: str
) -> tuple[list[str], Transition | None]:
    """Return which steps a message goes through, and which transition it takes, if any."""
    steps = ["received"]
    for at, row in enumerate(history.rows):
        if row.trigger != message.trigger or row.source not in ("*", state):
            continue
        answers = [each.value for each in history.of(message.number, "answered") if each.row == at]
        steps += [] if row.guard is None else [f"asked g{at}", f"answered g{at}"]
        if row.guard is None or answers == [True]:
            steps += [] if row.action is None else [f"acts a{at}", f"acted a{at}"]
            return [*steps, f"changed to {row.target}"], row
    return steps, None


def _step(moment: Moment) -> str:
    if moment.what == "changed":
        return f"changed to {moment.value.get('to_state')}"
    function = {"asked": "g", "answered": "g", "acts": "a", "acted": "a"}.get(moment.what)
    return moment.what if function is None else f"{moment.what} {function}{moment.row}"


def _list(steps: list[str]) -> str:
    return ", ".join(steps)


def all_or_nothing(history: History) -> str | None:
    """C6: at every moment the state is what the changes published so far made it."""
    states: dict[str, set[str | None]] = defaultdict(lambda: {INITIAL})
    for moment in history.moments:
        known = states[moment.component]
        if moment.what == "changed":
            complaint = _chains(moment, known)
            if complaint:
                return complaint
            states[moment.component] = {moment.value.get("to_state")}
        elif moment.what not in ("logged", "reported") and moment.state not in known:
            return _unheard(moment, known)
        if moment.what == "acted" and history.left_by_cancellation(moment.number):
            # It may have been cancelled after its commit.
            states[moment.component] = known | {history.rows[moment.row].target}
    return next(filter(None, (_raised(history, each) for each in history.messages)), None)


def _chains(changed: Moment, known: set[str | None]) -> str | None:
    data = changed.value
    if data.get("from_state") not in known:
        expected = " or ".join(sorted(map(str, known)))
        return f"state.changed has from_state {data.get('from_state')!r}, not {shown(expected)}"
    return None


def _unheard(moment: Moment, known: set[str | None]) -> str:
    expected = " or ".join(sorted(map(str, known)))
    when = "as another task looked" if moment.what == "seen" else f"when it {moment.what}"
    return f"{when}, the state was {moment.state!r}, not {expected!r} as was published"


def _raised(history: History, message: Message) -> str | None:
    """Judge whether the failure of a message was raised to its sender, and changed nothing."""
    for failed in history.of(message.number, "failed"):
        if history.of(message.number, "changed"):
            return f"{message.name} failed, and its state was changed"
        cancelled = isinstance(failed.value, history.cancellation)
        if cancelled and history.left_by_cancellation(message.number):
            continue
        if complaint := mislaid(history, message, failed):
            return complaint
    return None


def mislaid(history: History, message: Message, failed: Moment) -> str | None:
    """Return what a message ended with, if that is not the failure that it had."""
    end = history.outcome(message.number)
    if end is not None and end.value is failed.value:
        return None
    came = shown(end and end.value)
    return f"{message.name} failed with {shown(failed.value)}, and came to {came}"
