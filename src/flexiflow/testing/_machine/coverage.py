"""Which transitions were taken, and what their guards have answered (P6).

A component that is watched gets a machine with the same rows, whose guards and actions count.
"""

from __future__ import annotations

from collections import Counter
from functools import partial, wraps
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeAlias, cast, final

from flexiflow._component import actor_of
from flexiflow._machine import StateMachine, Transition
from flexiflow.testing._machine.functions import name_of
from flexiflow.testing._machine.report import CoveredTransition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow._component import Component

    Arrow: TypeAlias = tuple[str, str, str | None, str | None]
    """A source, a trigger, a target, and the name of the guard."""


@final
class Coverage:
    """Counts for all programs of a check.

    Attributes:
        taken: how many transitions were taken in all.
    """

    def __init__(self) -> None:
        self.taken = 0
        self._arrows: dict[Arrow, Counter[str]] = {}
        # By the machine of a user, or by one that counts, since that may be seen again.
        self._watched: dict[StateMachine, StateMachine] = {}
        # What each component acts on, by its name, until that is committed.
        self._acting: dict[str, Arrow] = {}

    def watch(self, component: Component) -> None:
        """Give a component a machine that counts, unless it has one."""
        actor = actor_of(component)
        # What has no machine is refused before anything runs.
        machine = cast("StateMachine", actor.machine)
        if machine not in self._watched:
            self._add(machine)
        actor.machine = self._watched[machine]

    def committed(self, name: str) -> None:
        """Count the transition of a component that was announced."""
        arrow = self._acting.pop(name, None)
        if arrow is not None:
            self._count(arrow, "taken")

    def report(self) -> tuple[CoveredTransition, ...]:
        """Return all transitions, with what was counted."""
        whats = ("taken", "accepted", "refused", "failed")
        return tuple(
            CoveredTransition(*arrow, *(counts[what] for what in whats))
            for arrow, counts in self._arrows.items()
        )

    def _add(self, machine: StateMachine) -> None:
        rows = [
            Transition(row.source, row.trigger, row.target, self._guard(row), self._action(row))
            for row in machine.transitions
        ]
        watched = StateMachine(
            machine.initial, rows, strict=machine.strict, states=machine.details.values()
        )
        self._watched[machine] = self._watched[watched] = watched
        for state in machine.states:
            for trigger in machine.triggers(state):
                for row in machine.candidates(state, trigger):
                    self._arrows.setdefault(_arrow(state, row), Counter())

    def _count(self, arrow: Arrow, what: str) -> None:
        self._arrows[arrow][what] += 1
        if what == "taken":
            self.taken += 1

    def _guard(self, row: Transition) -> Callable[[dict[str, Any], Any], object] | None:
        guard = row.guard
        if guard is None:
            return None

        def note(arrow: Arrow, answer: object) -> object:
            self._count(arrow, "accepted" if answer else "refused")
            return answer

        @wraps(guard)
        def ask(message: dict[str, Any], component: Component) -> object:
            arrow = _arrow(str(component.state), row)
            try:
                answer = guard(message, component)
            except Exception:
                self._count(arrow, "failed")
                raise
            return _then(answer, partial(note, arrow), partial(self._count, arrow, "failed"))

        return ask

    def _action(self, row: Transition) -> Callable[[dict[str, Any], Any], object]:
        action = row.action or _do_nothing

        def note(arrow: Arrow, result: object) -> object:
            if row.target is None:
                self._count(arrow, "taken")
            return result

        @wraps(action)
        def act(message: dict[str, Any], component: Component) -> object:
            arrow = _arrow(str(component.state), row)
            self._acting[component.name] = arrow
            return _then(action(message, component), partial(note, arrow), _do_nothing)

        return act


def _then(result: object, note: Callable[[object], object], failed: Callable[[], object]) -> object:
    """Note a result; one that must be awaited is noted when it has come."""

    async def wait(awaited: Awaitable[object]) -> object:
        try:
            come = await awaited
        except Exception:
            failed()
            raise
        return note(come)

    return wait(result) if isawaitable(result) else note(result)


def _arrow(state: str, row: Transition) -> Arrow:
    guard = None if row.guard is None else name_of(row.guard)
    return state, row.trigger, row.target, guard


def _do_nothing(*_: object) -> None: ...
