"""Judgements on what happened to components while a script ran (C3 to C6)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Final

from flexiflow._actor import Outcome
from flexiflow.events import MESSAGE_RECEIVED
from flexiflow.testing._component.tables import INITIAL, named
from flexiflow.testing._examiner.trace import ENDS, Trace, first, first_of, misreported, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow._machine import Transition
    from flexiflow.testing._examiner.trace import Entry

HANDLED: Final = ("received", "asked", "answered", "acts", "acted", "failed", "changed")


@dataclass(frozen=True, eq=False)
class Message:
    """A message that was sent.

    Attributes:
        number: how many were sent before.
        to: the component's name.
        trigger: its type.
        within: the numbers of the messages within whose handling it was sent.
        task: the task that sent it.
    """

    number: int
    to: str
    trigger: str
    within: tuple[int, ...]
    task: int

    @property
    def name(self) -> str:
        """Its name in a complaint."""
        return f"message {self.number} ({self.trigger} to {self.to})"


@dataclass
class ComponentTrace(Trace):
    """All that happened to components, in order.

    Attributes:
        messages: what was sent, by number.
        rows: the transitions of the machine.
    """

    messages: list[Message] = field(default_factory=list[Message])
    rows: tuple[Transition, ...] = ()

    def handling(self, number: int) -> list[Entry]:
        """Return the entries of a message's handling."""
        return self.all(*HANDLED, act=number)

    def left_by_cancellation(self, number: int) -> bool:
        """Return whether a send was cancelled."""
        return self.is_cancelled(self.ended(number))


def each_message(
    judge: Callable[[ComponentTrace, Message], str | None],
) -> Callable[[ComponentTrace], str | None]:
    """Return a judgement on a trace that judges one message after another."""

    @wraps(judge)
    def judge_each(trace: ComponentTrace) -> str | None:
        return first(judge(trace, message) for message in trace.messages)

    return judge_each


def _one_at_a_time(trace: ComponentTrace) -> str | None:
    """Judge whether one message is handled in the midst of another one of the same component."""
    over: set[int] = set()
    in_hand: dict[str, int] = {}
    for entry in trace.entries:
        if entry.what not in HANDLED:
            continue
        if entry.act in over:
            other = trace.messages[in_hand[entry.component]]
            return f"{other.name} was handled in the midst of another one, {entry.act}"
        if in_hand.get(entry.component, entry.act) != entry.act:
            over.add(in_hand[entry.component])
        in_hand[entry.component] = entry.act
    return None


def _next_in_line(trace: ComponentTrace) -> str | None:
    """Judge the order: deferred messages first, then the others, each in the order of `send`."""
    lines: defaultdict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    begun: set[int] = set()
    for entry in trace.entries:
        if entry.act in begun:
            continue
        others, deferred = lines[entry.component]
        line = deferred if _is_deferred(trace, entry.act) else others
        if entry.what == "sent":
            line.append(entry.act)
        elif entry.what in HANDLED:
            begun.add(entry.act)
            expected = (deferred or others)[:1]
            if [entry.act] != expected:
                return f"{_told(trace, entry.act)} came before {_told(trace, *expected)}"
            line.remove(entry.act)
        elif entry.what == "raised":
            others.remove(entry.act)
        elif entry.what == "returned" and line is others:
            return f"{_told(trace, entry.act)} was never handled, but {entry.value} returned"
    return None


in_turn = first_of(_one_at_a_time, _next_in_line)
"""C3: one at a time, first come first served."""


def _is_deferred(trace: ComponentTrace, number: int) -> bool:
    return trace.ended(number).value is Outcome.DEFERRED


def _told(trace: ComponentTrace, *numbers: int) -> str:
    return " ".join(trace.messages[each].name for each in numbers) or "nobody"


@each_message
def _deferral(trace: ComponentTrace, message: Message) -> str | None:
    """Judge whether a message was rightly deferred, or rightly not."""
    from_within = any(trace.messages[each].to == message.to for each in message.within)
    is_deferred = _is_deferred(trace, message.number)
    if from_within and not is_deferred and not trace.left_by_cancellation(message.number):
        return f"{message.name} was sent from within its own component's handling, not deferred"
    if is_deferred and not from_within and not (message.within and _was_busy(trace, message)):
        return f"{message.name} was deferred, though it could be waited for"
    return None


def _was_busy(trace: ComponentTrace, message: Message) -> bool:
    """Return whether another send to the same component had not ended."""
    [sent] = trace.all("sent", act=message.number)
    before = trace.entries[: trace.entries.index(sent)]
    mine = [each for each in before if each.component == message.to]
    begun = {each.act for each in mine if each.what == "sent"}
    return bool(begun - {each.act for each in mine if each.what in ENDS})


@each_message
def _deferred(trace: ComponentTrace, message: Message) -> str | None:
    """Judge what became of a deferred message."""
    if not _is_deferred(trace, message.number):
        return None
    handled = trace.handling(message.number)
    cancelled = any(trace.left_by_cancellation(each.number) for each in trace.messages)
    if cancelled:
        return None
    if not handled:
        return f"{message.name} was deferred, and never handled"
    return _deferred_task(trace, message, handled) or _reported(trace, message)


def _deferred_task(trace: ComponentTrace, message: Message, handled: list[Entry]) -> str | None:
    """Judge whether the send in hand handled a deferred message in its task, before it ended."""
    before = trace.entries[: trace.entries.index(handled[0])]
    holders = [
        each
        for each in before
        if each.what in HANDLED
        and each.component == message.to
        and not _is_deferred(trace, each.act)
    ]
    in_hand = [trace.messages[each.act] for each in holders[-1:]]
    if [handled[0].task] != [each.task for each in in_hand]:
        return f"{message.name} was handled in another task than that of the send in hand"
    if any(each.act == in_hand[0].number and each.what in ENDS for each in before):
        return f"{message.name} was handled when the send in hand had ended"
    return None


def _reported(trace: ComponentTrace, message: Message) -> str | None:
    """Judge whether the failure of a deferred message was reported, and raised to no sender."""
    for failed in trace.all("failed", act=message.number):
        if any(
            message.number not in trace.messages[each.act].within
            for each in trace.all("raised")
            if each.value is failed.value
        ):
            return f"the failure of {message.name}, which was deferred, was raised to a sender"
        whose = f"the failure of {message.name}, which was deferred,"
        names = message.trigger, MESSAGE_RECEIVED, message.to
        wrong = misreported(trace, failed, whose, MESSAGE_RECEIVED, message.to, names)
        if wrong:
            return wrong
    return None


@each_message
def _own_failure(trace: ComponentTrace, message: Message) -> str | None:
    """Judge whether a message that deferred others raises its own failure at the end."""
    has_deferred = any(
        _is_deferred(trace, each.number) for each in trace.messages if message.number in each.within
    )
    if not has_deferred or _is_deferred(trace, message.number):
        return None
    for failed in trace.all("failed", act=message.number):
        if trace.left_by_cancellation(message.number) or not isinstance(failed.value, Exception):
            continue
        if complaint := mislaid(trace, message, failed):
            return complaint
    return None


run_to_completion = first_of(_deferral, in_turn, _deferred, _own_failure)
"""C4: what is sent from within is deferred, and handled next, by the task that has the turn."""


def steps_in_order(trace: ComponentTrace) -> str | None:
    """C5: received; guard; action; commit; changed."""
    states = dict.fromkeys({message.to for message in trace.messages}, INITIAL)
    order = [each.act for each in trace.all("received")]
    unheard = [each for each in trace.messages if each.number not in order]
    if unheard:
        return f"that {unheard[0].name} is handled was not published"
    for number in dict.fromkeys(order):
        complaint = _steps_of(trace, trace.messages[number], states)
        if complaint:
            return complaint
    return None


def _steps_of(trace: ComponentTrace, message: Message, states: dict[str, str]) -> str | None:
    """Judge the steps of one message, and note in `states` where it leads."""
    state = states[message.to]
    expected, row = _expected(trace, message, state)
    target = state if row is None or row.target is None else row.target
    handling = trace.handling(message.number)
    given = [_step(each) for each in handling]
    if target == state:  # C7 judges whether that is a change
        given, expected = (
            [each for each in steps if "changed" not in each] for steps in (given, expected)
        )
    if given != expected:
        return f"{message.name} in {state} went through {_list(given)}, not {_list(expected)}"
    early = [each for each in handling if each.what != "changed" and each.seen != state]
    if early:
        return f"{message.name} found the state changed at its step {_step(early[0])!r}"
    late = [each for each in handling if each.what == "changed" and each.seen != target]
    if late:
        return f"{message.name} had its change to {target} told before it was made"
    states[message.to] = target
    end = trace.ended(message.number)
    # C8 judges what becomes of a message that no transition matches.
    if row is not None and end.value is not Outcome.TRANSITIONED:
        return f"{message.name} came to {shown(end.value)}, though it was handled"
    return None


def _expected(
    trace: ComponentTrace, message: Message, state: str
) -> tuple[list[str], Transition | None]:
    """Return which steps a message goes through, and which transition it takes, if any."""
    steps = ["received"]
    for at, row in enumerate(trace.rows):
        if row.trigger != message.trigger or not (row.source == "*" or state in named(row.source)):
            continue
        answers = [
            each.value for each in trace.all("answered", act=message.number) if each.seat == at
        ]
        steps += [] if row.guard is None else [f"asked g{at}", f"answered g{at}"]
        if row.guard is None or any(answers):
            steps += [] if row.action is None else [f"acts a{at}", f"acted a{at}"]
            return [*steps, f"changed to {row.target}"], row
    return steps, None


def _step(entry: Entry) -> str:
    if entry.what == "changed":
        return f"changed to {entry.value.get('to_state')}"
    function = {"asked": "g", "answered": "g", "acts": "a", "acted": "a"}.get(entry.what)
    return entry.what if function is None else f"{entry.what} {function}{entry.seat}"


def _list(steps: list[str]) -> str:
    return ", ".join(steps)


def _follows_its_changes(trace: ComponentTrace) -> str | None:
    """Judge whether the state is what the changes published so far made it, at every entry."""
    states: dict[str, set[str | None]] = defaultdict(lambda: {INITIAL})
    for entry in trace.entries:
        known = states[entry.component]
        if entry.what == "changed":
            complaint = _chains(entry, known)
            if complaint:
                return complaint
            states[entry.component] = {entry.value.get("to_state")}
        elif entry.what not in ("logged", "announced") and entry.seen not in known:
            return _unheard(entry, known)
        if entry.what == "acted" and trace.left_by_cancellation(entry.act):
            # It may have been cancelled after its commit.
            states[entry.component] = known | {trace.rows[entry.seat].target}
    return None


def _chains(changed: Entry, known: set[str | None]) -> str | None:
    data = changed.value
    if data.get("from_state") not in known:
        expected = " or ".join(sorted(map(str, known)))
        return f"state.changed has from_state {data.get('from_state')!r}, not {shown(expected)}"
    return None


def _unheard(entry: Entry, known: set[str | None]) -> str:
    expected = " or ".join(sorted(map(str, known)))
    when = "as another task looked" if entry.what == "seen" else f"when it {entry.what}"
    return f"{when}, the state was {entry.seen!r}, not {expected!r} as was published"


@each_message
def _raised(trace: ComponentTrace, message: Message) -> str | None:
    """Judge whether the failure of a message was raised to its sender, and changed nothing."""
    for failed in trace.all("failed", act=message.number):
        if trace.all("changed", act=message.number):
            return f"{message.name} failed, and its state was changed"
        cancelled = trace.is_cancelled(failed)
        if cancelled and trace.left_by_cancellation(message.number):
            continue
        if complaint := mislaid(trace, message, failed):
            return complaint
    return None


all_or_nothing = first_of(_follows_its_changes, _raised)
"""C6: the state is what the published changes made it; a failure is raised and changes nothing."""


def mislaid(trace: ComponentTrace, message: Message, failed: Entry) -> str | None:
    """Return what a message ended with, if that is not the failure that it had."""
    end = trace.ended(message.number)
    if end.value is failed.value:
        return None
    came = shown(end.value)
    return f"{message.name} failed with {shown(failed.value)}, and came to {came}"
