"""State machines as tables of transitions: immutable data, checked when it is made (C7 to C9, M1).

A table holds no state: each component keeps its own (`_actor`), and asks the table which
transitions a message may trigger in it.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable  # noqa: TC003  Sphinx resolves hints
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, final

from flexiflow._callables import check_callable
from flexiflow._objects import Fixed, Record
from flexiflow._states import (
    ANY_STATE,
    check_details,
    check_name,
    check_state,
    enumerate_names,
    items_of,
    open_states,
    triggers_of,
)
from flexiflow._text import show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flexiflow._states import State

    _Index: TypeAlias = dict[tuple[str, str], tuple["Transition", ...]]

# The second argument is the component. It is Any: this module does not know components, and a guard
# may ask for a subclass, which a parameter of type Component would not allow.
Guard: TypeAlias = Callable[[dict[str, Any], Any], object]
Action: TypeAlias = Callable[[dict[str, Any], Any], object]


@final
class Transition(Record, Fixed):
    """One row of a state machine's table (C5, C7).

    Args:
        source: the state that it leaves, several states, or `"*"` for every state of the table
            that is not final. Several are kept as a tuple without repeats, in the order given; a
            set is sorted.
        trigger: the `type` of the messages that trigger it, compared exactly.
        target: the state that it enters, which may be its source; `None` for an internal
            transition, which runs its action and leaves the state as it is.
        guard: called with `(message, component)`, sync or async. The transition is taken only if
            the result is true; without a guard, always.
        action: called with `(message, component)`, sync or async, before the state changes.

    Raises:
        TypeError: a name that is not a `str`; a guard or action that is not callable with two
            positional arguments, is a coroutine object, or is a generator function.
        ValueError: an empty name, no source at all, or `"*"` as a target or among several
            sources.

    Example:
        >>> from flexiflow import Transition
        >>> def is_enough(message, order):
        ...     return message["amount"] >= 42
        >>> row = Transition("placed", "pay", "paid", guard=is_enough)
        >>> print(row.source, row.trigger, row.target)
        placed pay paid
    """

    __slots__ = __match_args__ = ("source", "trigger", "target", "guard", "action")

    source: str | tuple[str, ...]
    trigger: str
    target: str | None
    guard: Guard | None
    action: Action | None

    def __init__(
        self,
        source: str | Iterable[str],
        trigger: str,
        target: str | None,
        guard: Guard | None = None,
        action: Action | None = None,
    ) -> None:
        sources = (
            check_name("source", source) if isinstance(source, str) else _check_sources(source)
        )
        check_name("trigger", trigger)
        if target is not None:
            check_state("target", target)
        for role, fn in (("guard", guard), ("action", action)):
            if fn is not None:
                check_callable(role, fn, 2)
        super().__init__(source=sources, trigger=trigger, target=target, guard=guard, action=action)


@final
class StateMachine(Fixed):
    """An immutable table of transitions, which any number of components can share (C8, C9).

    It does no I/O and holds no current state: each component keeps its own.

    Attributes:
        initial: the state in which a component begins.
        transitions: the rows, in the order given.
        strict: whether a message that matches no transition is refused; else it is ignored.
        states: the names of all states, in order of appearance, the initial one first.
        details: what `states=` gave, by name (M1); read-only.

    Example:
        >>> from flexiflow import StateMachine, Transition
        >>> rows = [Transition("placed", "pay", "paid"), Transition("paid", "ship", "shipped")]
        >>> machine = StateMachine("placed", rows)
        >>> print(machine.states)
        ('placed', 'paid', 'shipped')
        >>> print(machine.mermaid())
        stateDiagram-v2
            [*] --> placed
            placed --> paid: pay
            paid --> shipped: ship
    """

    __slots__ = ("_index", "details", "initial", "states", "strict", "transitions")
    __match_args__ = ("initial", "transitions")

    initial: str
    transitions: tuple[Transition, ...]
    strict: bool
    states: tuple[str, ...]
    details: Mapping[str, State]
    _index: _Index

    def __init__(
        self,
        initial: str,
        transitions: Iterable[Transition],
        *,
        strict: bool = False,
        states: Iterable[State] = (),
    ) -> None:
        """Check the table and index it.

        Args:
            initial: the state in which a component begins.
            transitions: the rows; of several that match, the first one is taken.
            strict: refuse a message that matches no transition, instead of ignoring it.
            states: what happens on entering, on leaving and in some of the states, which the
                transitions name.

        Raises:
            TypeError: `initial` is not a `str`, `strict` is not a `bool`, something in
                `transitions` is not a `Transition`, or something in `states` is not a `State`.
            ValueError: no transition leaves the initial state, or a state is unreachable from it
                even if every guard lets messages through. In `states`: a state that no transition
                names, or one given twice; a final state that a transition names as a source; a
                trigger of `after`, `done` or `failed` for which no transition leaves the state.
        """
        check_state("initial", initial)
        if type(strict) is not bool:
            raise TypeError(f"strict must be True or False, not {reprlib.repr(strict)}")
        rows = _check_rows(transitions)
        names = _states(initial, rows)
        details = check_details(states, names)
        index = _indexed(open_states(names, details), rows)
        _check_final(initial, details, index)
        _check_reachable(initial, names, index)
        _check_triggers(details, index)
        object.__setattr__(self, "initial", initial)
        object.__setattr__(self, "transitions", rows)
        object.__setattr__(self, "strict", strict)
        object.__setattr__(self, "states", names)
        object.__setattr__(self, "details", details)
        object.__setattr__(self, "_index", index)

    def candidates(self, state: str, trigger: str) -> tuple[Transition, ...]:
        """Return the transitions from `state` on `trigger`, in the order of the table (C5).

        It takes one dictionary look-up, however long the table is. The result may be empty.
        """
        return self._index.get((state, trigger), ())

    def triggers(self, state: str) -> tuple[str, ...]:
        """Return the triggers of `state`, in the order of the table, without repeats (C8)."""
        return tuple(trigger for source, trigger in self._index if source == state)

    def mermaid(self) -> str:
        """Draw the table as a Mermaid `stateDiagram-v2` (C9).

        A state whose name is an ASCII identifier is written under that name. All others get an
        alias, and so do the few identifiers that Mermaid does not accept for a state, such as
        `state` or `default`. The label of an arrow is the trigger. An internal transition is drawn
        from its state to itself. Guards and actions are not drawn; `flexiflow graph` draws them.

        Below its name a state shows entry, exit, after, during, done and failed (M4), functions by
        their names. An arrow leads from each final state to the end, `[*]`.

        Returns:
            The diagram's source text.
        """
        # Imported by the first diagram: compiling its patterns is 6 % of importing FlexiFlow.
        from flexiflow._mermaid import draw, escape  # noqa: PLC0415

        arrows = ((source, escape(row.trigger), target) for source, row, target in arrows_of(self))
        return draw(self.initial, self.states, self.details, arrows)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how a copy is made: from the same rows and states."""
        states = tuple(self.details.values())
        made = partial(StateMachine, strict=self.strict, states=states)
        return made, (self.initial, self.transitions)

    def __repr__(self) -> str:
        """Show the initial state and the size only, since a table may be long."""
        size = f"{len(self.states)} states, {len(self.transitions)} transitions"
        return f"<StateMachine {show(self.initial)}: {size}{', strict' * self.strict}>"


def _check_sources(given: object) -> tuple[str, ...]:
    items = items_of("source must be a state, several, or '*'", given)
    if not items:
        raise ValueError(f"source must name at least one state, not none: {reprlib.repr(given)}")
    names = [check_state("each source", item) for item in items]
    # The order of a set differs between processes, and the diagram would differ with it.
    return tuple(dict.fromkeys(sorted(names) if isinstance(given, set | frozenset) else names))


def _check_rows(given: object) -> tuple[Transition, ...]:
    rows: list[Transition] = []
    for number, row in enumerate(items_of("transitions must be several Transition objects", given)):
        if not isinstance(row, Transition):
            raise TypeError(f"transitions[{number}] must be a Transition, not {reprlib.repr(row)}")
        rows.append(row)
    return tuple(rows)


def _check_final(initial: str, details: Mapping[str, State], index: _Index) -> None:
    if initial in details and details[initial].final:
        raise ValueError(f"the initial state {show(initial)} must not be final")
    for source, trigger in index:
        if source in details and details[source].final:
            raise ValueError(
                f"no transition may leave the final state {show(source)}, but one does, on "
                f"{show(trigger)}; drop it, or final=True"
            )


def _check_triggers(details: Mapping[str, State], index: _Index) -> None:
    for name, state in details.items():
        for role, trigger in triggers_of(state).items():
            if (name, trigger) not in index:
                leaving = enumerate_names(trigger for source, trigger in index if source == name)
                raise ValueError(
                    f"no transition leaves {show(name)} on {show(trigger)}, the trigger of its "
                    f"{role}; those that leave it do so on {leaving or 'none'}"
                )


def _sources(row: Transition, states: tuple[str, ...]) -> tuple[str, ...]:
    if row.source == ANY_STATE:
        return states
    return (row.source,) if isinstance(row.source, str) else tuple(row.source)


def _states(initial: str, rows: Iterable[Transition]) -> tuple[str, ...]:
    found = [initial]
    for row in rows:
        found += _sources(row, ())
        found += [] if row.target is None else [row.target]
    return tuple(dict.fromkeys(found))


def _indexed(states: tuple[str, ...], rows: Iterable[Transition]) -> _Index:
    index: dict[tuple[str, str], list[Transition]] = {}
    for row in rows:
        for source in _sources(row, states):
            index.setdefault((source, row.trigger), []).append(row)
    return {key: tuple(matching) for key, matching in index.items()}


def _check_reachable(initial: str, states: tuple[str, ...], index: _Index) -> None:
    neighbours: dict[str, set[str]] = {}
    for (source, _), rows in index.items():
        targets = {row.target for row in rows if row.target is not None}
        neighbours.setdefault(source, set()).update(targets)
    if initial not in neighbours:
        raise ValueError(
            f"no transition leaves the initial state {show(initial)}; one must have it as a source"
        )
    reached, ahead = {initial}, [initial]
    while ahead:
        new = neighbours.get(ahead.pop(), set()) - reached
        reached |= new
        ahead += new
    lost = enumerate_names(state for state in states if state not in reached)
    if lost:
        raise ValueError(
            f"no way leads from the initial state {show(initial)} to {lost}; add one or drop them"
        )


def arrows_of(machine: StateMachine) -> Iterator[tuple[str, Transition, str]]:
    """Yield each arrow of a drawing: the state that it leaves, its row, and the state it enters."""
    states = open_states(machine.states, machine.details)
    for row in machine.transitions:
        for source in _sources(row, states):
            yield source, row, source if row.target is None else row.target
