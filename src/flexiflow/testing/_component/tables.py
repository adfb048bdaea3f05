"""Tables of transitions as data, and what a machine has to make of them (C5, C8, M1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from flexiflow import State, StateMachine, Transition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Source: TypeAlias = str | tuple[str, ...]

INITIAL: Final = "s0"


class Line(NamedTuple):
    """A transition.

    Attributes:
        source: the state that it leaves, several, or "*" for each that is not final.
        trigger: the type of the messages that it takes.
        target: the state that it leads to, or None for an internal transition.
    """

    source: Source
    trigger: str
    target: str | None


@dataclass(frozen=True)
class Table:
    """A table of transitions.

    Attributes:
        lines: its lines, in order.
        final: the states that are final.
    """

    lines: tuple[Line, ...]
    final: tuple[str, ...] = ()

    def machine(self, *, strict: bool = False) -> StateMachine:
        """Return a machine that has this table."""
        rows = [Transition(*each) for each in self.lines]
        states = [State(each, final=True) for each in self.final]
        return StateMachine(INITIAL, rows, strict=strict, states=states)

    @property
    def states(self) -> tuple[str, ...]:
        """All states, in order of appearance, the initial one first."""
        found = [INITIAL]
        for source, _, target in self.lines:
            found += named(source)
            found += [] if target is None else [target]
        return tuple(dict.fromkeys(found))

    def leaving(self, state: str) -> Iterator[Line]:
        """Yield the lines that leave a state, in order."""
        for line in self.lines:
            if state in named(line.source) or (line.source == "*" and state not in self.final):
                yield line

    def taken(self, state: str, trigger: str) -> Line | None:
        """Return the line that a message takes in a state; there are no guards."""
        return next((each for each in self.leaving(state) if each.trigger == trigger), None)

    def triggers(self, state: str) -> tuple[str, ...]:
        """Return what is taken in a state, in order, without repeats."""
        return tuple(dict.fromkeys(each.trigger for each in self.leaving(state)))

    def ways(self) -> dict[str, tuple[str, ...]]:
        """Return the triggers that lead to each state, of those that messages lead to."""
        ways: dict[str, tuple[str, ...]] = {INITIAL: ()}
        for state in (ahead := [INITIAL]):
            for trigger in self.triggers(state):
                line = self.taken(state, trigger)
                if line is not None and line.target is not None and line.target not in ways:
                    ways[line.target] = (*ways[state], trigger)
                    ahead.append(line.target)
        return ways

    def lost(self) -> tuple[str, ...]:
        """Return the states that no way leads to, even if guards let all messages pass."""
        reached = [INITIAL]
        for state in reached:
            targets = dict.fromkeys(each.target for each in self.leaving(state))
            reached += [each for each in targets if each is not None and each not in reached]
        return tuple(each for each in self.states if each not in reached)

    def is_sound(self) -> bool:
        """Return whether a machine can have this table."""
        sources = [named(each.source) for each in self.lines if each.source != "*"]
        return (
            all(sources)
            and not any({*each} & {*self.final} for each in sources)
            and INITIAL not in self.final
            and {*self.final} <= {*self.states}
            and any(self.leaving(INITIAL))
            and not self.lost()
        )


def named(source: Source) -> tuple[str, ...]:
    """Return the states that a source names."""
    if source == "*":
        return ()
    return (source,) if isinstance(source, str) else source


def table_of(lines: Iterable[tuple[Source, str, str | None]], final: tuple[str, ...] = ()) -> Table:
    """Return a table of plain tuples."""
    return Table(tuple(Line(*each) for each in lines), final)
