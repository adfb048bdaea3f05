"""The table of a state machine, compared with a naive reading of its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from flexiflow._machine import StateMachine, Transition

if TYPE_CHECKING:
    from collections.abc import Iterable

STATES = ("a", "b", "c", "state", "In Progress", "x: y", "*")
TRIGGERS = ("go", "stop", "a --> b")


def never(message: object, component: object) -> bool:
    """Guard a row that is never taken, though it is a row of the table like others."""
    return False


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


def arrows(machine: StateMachine) -> set[tuple[str, str, str]]:
    """Return every arrow of the table's diagram, read naively."""
    return {
        (state, row.trigger, row.target or state)
        for state in machine.states
        for row in machine.transitions
        if leaves(row, state)
    }


@st.composite
def machines(draw: st.DrawFn) -> StateMachine:
    """Draw a table in which every state can be reached."""
    initial, rows = draw(one_state), draw(tables)
    lost = sorted(named(initial, rows) - closure(initial, rows))
    ways = [Transition(initial, "go", state) for state in lost or [initial]]
    return StateMachine(initial, draw(st.permutations([*rows, *ways])))


def unescaped(text: str) -> str:
    """Return a text with Mermaid's codes decoded."""
    plain, *coded = text.split("#")
    for part in coded:
        code, _, rest = part.partition(";")
        plain += chr(int(code)) + rest
    return plain


def read(diagram: str) -> tuple[set[str], str, list[tuple[str, str, str]]]:
    """Read a diagram back: the states with an alias, the initial state, the arrows."""
    names: dict[str, str] = {}
    initial, found = "", list[tuple[str, str, str]]()
    for line in diagram.splitlines()[1:]:
        statement = line.strip()
        if statement.startswith('state "'):
            _, name, alias = statement.split('"')
            names[alias.removeprefix(" as ")] = unescaped(name)
        elif statement.startswith("[*]"):
            state = statement.removeprefix("[*] --> ")
            initial = names.get(state, state)
        else:
            arrow, label = statement.split(": ")
            source, target = arrow.split(" --> ")
            found.append((names.get(source, source), unescaped(label), names.get(target, target)))
    return set(names.values()), initial, found


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
    """C5: The candidates are the rows that match, in the order of the table."""
    rows = machine.transitions if state in machine.states else ()
    known = [row for row in rows if leaves(row, state)]
    event(f"{len(known)} rows leave the state")
    assert machine.candidates(state, trigger) == tuple(r for r in known if r.trigger == trigger)
    assert machine.triggers(state) == tuple(dict.fromkeys(row.trigger for row in known))


@given(machine=machines())
def test_the_diagram_shows_every_state_and_every_arrow_once(machine: StateMachine) -> None:
    """C9: Read back, the diagram is the table."""
    aliased, first, found = read(machine.mermaid())
    assert first == machine.initial
    assert len(found) == len(set(found))
    assert set(found) == arrows(machine)
    assert {state for arrow in found for state in (arrow[0], arrow[2])} == set(machine.states)
    assert aliased <= set(machine.states)


@given(source=anything, trigger=anything, target=anything)
def test_any_name_can_be_drawn_and_read_back(source: str, trigger: str, target: str) -> None:
    """C9: No character of a name gets into Mermaid's grammar."""
    machine = StateMachine(source, [Transition(source, trigger, target)])
    _, first, found = read(machine.mermaid())
    assert (first, found) == (source, [(source, trigger, target)])
