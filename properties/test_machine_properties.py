"""The table of a state machine, compared with a naive reading of its rows and states."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from flexiflow._machine import StateMachine, Transition
from flexiflow._states import State

if TYPE_CHECKING:
    from collections.abc import Iterable

STATES = ("a", "b", "c", "state", "In Progress", "x: y", "*")
TRIGGERS = ("go", "stop", "a --> b")


def never(message: object, component: object) -> bool:
    """Guard a row that is never taken, though it is a row of the table like others."""
    return False


def open_ticket(message: object, component: object) -> None:
    """Enter or leave a state."""


async def work(component: object) -> None:
    """Work in a state."""


one_state = st.sampled_from(STATES[:-1])
sources = st.sampled_from(STATES) | st.lists(one_state, min_size=1, max_size=3)
transitions = st.builds(
    Transition,
    source=sources,
    trigger=st.sampled_from(TRIGGERS),
    target=st.none() | one_state,
    guard=st.sampled_from([None, never]),
)
tables = st.lists(transitions, max_size=8)
anything = st.text(min_size=1, max_size=6).filter(lambda name: name != "*")


def leaves(row: Transition, state: str) -> bool:
    """Return whether a row leaves this state of its table, read naively."""
    return row.source in (state, "*") or (not isinstance(row.source, str) and state in row.source)


def named(initial: str, rows: Iterable[Transition]) -> set[str]:
    """Return every state that the table names, read naively."""
    found = {initial}
    for row in rows:
        found |= {row.source} if isinstance(row.source, str) else set(row.source)
        found |= set() if row.target is None else {row.target}
    return found - {"*"}


def closure(initial: str, rows: Iterable[Transition]) -> set[str]:
    """Follow every row from every state found, until nothing new is found."""
    rows, found, before = list(rows), {initial}, set[str]()
    while found != before:
        before = set(found)
        found |= {
            row.target for row in rows for state in before if row.target and leaves(row, state)
        }
    return found


def named_as_source(rows: Iterable[Transition]) -> set[str]:
    """Return every state that a row names as one that it leaves; "*" names none."""
    return {
        state
        for row in rows
        for state in ([row.source] if isinstance(row.source, str) else row.source)
        if state != "*"
    }


def finals(machine: StateMachine) -> set[str]:
    """Return the final states."""
    return {state.name for state in machine.details.values() if state.final}


def arrows(machine: StateMachine) -> set[tuple[str, str, str]]:
    """Return every arrow of the table's diagram, read naively."""
    return {
        (state, row.trigger, row.target or state)
        for state in machine.states
        for row in machine.transitions
        if leaves(row, state) and state not in finals(machine)
    }


def texts(state: State) -> list[str]:
    """Return what the diagram shows of a state."""
    return [
        *(["entry / open_ticket"] if state.entry else []),
        *(["exit / open_ticket"] if state.exit else []),
        *([f"after 9 s / {state.after[1]}"] if state.after else []),
        *(["during / work"] if state.during else []),
        *([f"done / {state.done}"] if state.done else []),
        *([f"failed / {state.failed}"] if state.failed else []),
    ]


@st.composite
def plain_machines(draw: st.DrawFn) -> StateMachine:
    """Draw a table in which every state can be reached."""
    initial, rows = draw(one_state), draw(tables)
    lost = sorted(named(initial, rows) - closure(initial, rows))
    ways = [Transition(initial, "go", state) for state in lost or [initial]]
    return StateMachine(initial, draw(st.permutations([*rows, *ways])))


@st.composite
def states_of(draw: st.DrawFn, plain: StateMachine, name: str) -> State:
    """Draw a state that fits into a table."""
    entry = draw(st.sampled_from([None, open_ticket]))
    may_be_final = name != plain.initial and name not in named_as_source(plain.transitions)
    if may_be_final and draw(st.booleans()):
        return State(name, entry=entry, final=True)
    triggers = plain.triggers(name)
    trigger = st.sampled_from([None, *triggers])
    during = draw(st.sampled_from([None, work]))
    return State(
        name,
        entry=entry,
        exit=draw(st.sampled_from([None, open_ticket])),
        after=draw(st.sampled_from([None, *((9, sent) for sent in triggers)])),
        during=during,
        done=draw(trigger) if during else None,
        failed=draw(trigger) if during else None,
    )


@st.composite
def machines(draw: st.DrawFn) -> StateMachine:
    """Draw a table in which every state can be reached, and what some of the states do."""
    plain = draw(plain_machines())
    told = draw(st.lists(st.sampled_from(plain.states), unique=True))
    states = [draw(states_of(plain, name)) for name in told]
    return StateMachine(plain.initial, plain.transitions, states=states)


def unescaped(text: str) -> str:
    """Return a text with Mermaid's codes decoded."""
    plain, *coded = text.split("#")
    for part in coded:
        code, _, rest = part.partition(";")
        plain += chr(int(code)) + rest
    return plain


class Diagram(NamedTuple):
    """What a diagram shows, with the names of the states in place of their ids."""

    named: set[str]
    initial: str
    arrows: list[tuple[str, str, str]]
    below: dict[str, list[str]]
    finals: list[str]


def read(diagram: str) -> Diagram:
    """Read a diagram back."""
    names: dict[str, str] = {}
    found = Diagram(set(), diagram.partition("[*] --> ")[2].partition("\n")[0], [], {}, [])
    for line in diagram.splitlines()[1:]:
        statement = line.strip()
        before, _, label = statement.partition(": ")
        source, _, target = before.partition(" --> ")
        if statement.startswith('state "'):
            _, name, alias = statement.split('"')
            names[alias.removeprefix(" as ")] = unescaped(name)
        elif target == "[*]":
            found.finals.append(names.get(source, source))
        elif target and source != "[*]":
            arrow = (names.get(source, source), unescaped(label), names.get(target, target))
            found.arrows.append(arrow)
        elif label:
            found.below.setdefault(names.get(source, source), []).append(unescaped(label))
    initial = names.get(found.initial, found.initial)
    return found._replace(named=set(names.values()), initial=initial)


@given(initial=one_state, rows=tables)
def test_a_table_is_refused_exactly_when_it_cannot_be_walked(
    initial: str, rows: list[Transition]
) -> None:
    """C8: A naive closure over the rows finds the same states unreachable."""
    lost = named(initial, rows) - closure(initial, rows)
    event(f"{len(lost)} states out of reach")
    if not any(leaves(row, initial) for row in rows):
        with pytest.raises(ValueError, match="no transition leaves the initial state"):
            StateMachine(initial, rows)
    elif lost:
        with pytest.raises(ValueError, match="no way leads") as caught:
            StateMachine(initial, rows)
        told = str(caught.value).partition(f"state {initial!r} to ")[2]
        assert {state for state in STATES if repr(state) in told} == lost
    else:
        assert set(StateMachine(initial, rows).states) == named(initial, rows)


@given(machine=machines(), state=one_state, trigger=st.sampled_from(TRIGGERS))
def test_look_up_agrees_with_a_scan_of_the_table(
    machine: StateMachine, state: str, trigger: str
) -> None:
    """C5, M1: The candidates are the rows that match, in the order of the table."""
    left = state in machine.states and state not in finals(machine)
    known = [row for row in machine.transitions if left and leaves(row, state)]
    event(f"{len(known)} rows leave the state")
    assert machine.candidates(state, trigger) == tuple(r for r in known if r.trigger == trigger)
    assert machine.triggers(state) == tuple(dict.fromkeys(row.trigger for row in known))


@given(plain=plain_machines(), data=st.data())
def test_final_states_are_refused_exactly_when_a_row_names_one_as_its_source(
    plain: StateMachine, data: st.DataObject
) -> None:
    """M1, C8: Rows from "*" pass final states over, and every state is reached without them."""
    chosen = data.draw(st.sets(st.sampled_from(plain.states)))
    states = [State(name, final=True) for name in sorted(chosen)]
    wrong = chosen & {plain.initial, *named_as_source(plain.transitions)}
    event(f"{len(wrong)} of {len(chosen)} final states are left")
    if wrong:
        with pytest.raises(ValueError, match=r"must not be final|may leave the final state"):
            StateMachine(plain.initial, plain.transitions, states=states)
    else:
        machine = StateMachine(plain.initial, plain.transitions, states=states)
        assert machine.states == plain.states
        taken = [() if name in chosen else plain.triggers(name) for name in plain.states]
        assert [machine.triggers(name) for name in plain.states] == taken


@given(machine=machines())
def test_the_diagram_shows_every_state_and_every_arrow_once(machine: StateMachine) -> None:
    """C9, M4: Read back, the diagram is the table."""
    shown = read(machine.mermaid())
    drawn = {state for arrow in shown.arrows for state in (arrow[0], arrow[2])}
    assert shown.initial == machine.initial
    assert len(shown.arrows) == len(set(shown.arrows))
    assert set(shown.arrows) == arrows(machine)
    assert drawn == set(machine.states)
    assert shown.named <= set(machine.states)
    assert sorted(shown.finals) == sorted(finals(machine))
    below = {state.name: texts(state) for state in machine.details.values()}
    assert shown.below == {name: lines for name, lines in below.items() if lines}


@given(source=anything, trigger=anything, target=anything)
def test_any_name_can_be_drawn_and_read_back(source: str, trigger: str, target: str) -> None:
    """C9, M4: No character of a name gets into Mermaid's grammar."""
    state = State(source, after=(9, trigger))
    machine = StateMachine(source, [Transition(source, trigger, target)], states=[state])
    shown = read(machine.mermaid())
    assert (shown.initial, shown.arrows) == (source, [(source, trigger, target)])
    assert shown.below == {source: [f"after 9 s / {trigger}"]}
