"""The transitions of components, added up: bounded, however many components and machines come."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Final, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexiflow import StateMachine

Heard: TypeAlias = "tuple[str, StateMachine | None, tuple[str, str]]"
"""What was heard of a component: a transition, by its machine and two states, or a message.

A message has no machine, and the states `NO_STATES`. Nor has a transition if its component is gone.
"""

NO_STATES: Final = ("", "")

MOST_NAMED: Final = 3
"""How many components with the same states are named."""

_MOST_COMPONENTS: Final = 100_000
_MOST_KINDS: Final = 1_000
_MOST_MACHINES: Final = 1_000


@final
class Step:
    """The transitions from one state to another one.

    Attributes:
        count: how many there were.
        timed: for how many of them it is known how long the first state lasted.
        seconds: how long it lasted before those, in sum.
        longest: how long it lasted at most.
    """

    __slots__ = ("count", "longest", "seconds", "timed")

    def __init__(self) -> None:
        self.count = 0
        self.timed = 0
        self.seconds = 0.0
        self.longest = 0.0

    @property
    def mean(self) -> float | None:
        """How many seconds the first state lasted on average; None if that is not known."""
        return self.seconds / self.timed if self.timed else None


@final
class Life:
    """The transitions of all components whose machines have the same states.

    Args:
        initial: the state in which they begin.
        states: all states of theirs.

    Attributes:
        initial: see above.
        states: see above.
        components: the names of the first of them.
        steps: the transitions by the states that they lead from and to.
    """

    __slots__ = ("components", "initial", "states", "steps")

    def __init__(self, initial: str, states: tuple[str, ...]) -> None:
        self.initial = initial
        self.states = states
        self.components: list[str] = []
        self.steps: dict[tuple[str, str], Step] = {}

    def new_step(self, states: tuple[str, str]) -> Step | None:
        """Return where transitions between two states are counted; None if these are no states."""
        for state in states:
            if state not in self.states:
                return None
        step = self.steps[states] = Step()
        return step

    def name(self, component: str) -> None:
        """Note the name of a component, unless there are enough."""
        if len(self.components) <= MOST_NAMED and component not in self.components:
            self.components.append(component)


_NO_LIFE: Final = Life("", ())
"""Has no states, and so counts nothing."""


@final
class _Stay:
    """Where a component is.

    Attributes:
        since: when it came into its state; NaN if that is not known.
        sent: when its last message was sent; NaN if that is not known.
        life: what its last transition was counted with.
    """

    __slots__ = ("life", "sent", "since")

    def __init__(self) -> None:
        self.since = nan
        self.sent = nan
        self.life = _NO_LIFE


@final
class Lives:
    """The transitions of all components.

    Attributes:
        kinds: those of components with the same states, by the initial state and all states.
    """

    def __init__(self) -> None:
        self._life_of: dict[StateMachine, Life] = {}
        self._stays: dict[str, _Stay] = {}
        self.kinds: dict[tuple[str, tuple[str, ...]], Life] = {}

    def add(self, heard: Iterable[Heard], sent: Iterable[float]) -> None:
        """Add up messages and transitions, in their order.

        One loop with all in it: with calls of other functions it takes a third longer.

        Args:
            heard: the messages and transitions.
            sent: when each of the messages was sent; NaN if that is not known.
        """
        stays, life_of, moments = self._stays, self._life_of, iter(sent)
        for component, machine, states in heard:
            stay = stays.get(component) or self._new_stay(component)
            if states is NO_STATES:
                stay.sent = next(moments)
                continue
            life = stay.life
            if machine is not None:
                life = life_of.get(machine) or self._new_life(machine)
            if stay.life is not life:
                stay.life = life
                life.name(component)
            try:
                step = life.steps[states]
            except KeyError:
                found = life.new_step(states)
                if found is None:
                    continue
                step = found
            lasted = stay.sent - stay.since
            stay.since = stay.sent
            step.count += 1
            if lasted >= 0:
                step.timed += 1
                step.seconds += lasted
                step.longest = max(step.longest, lasted)

    def _new_stay(self, component: str) -> _Stay:
        if len(self._stays) == _MOST_COMPONENTS:
            del self._stays[next(iter(self._stays))]
        stay = self._stays[component] = _Stay()
        return stay

    def _new_life(self, machine: StateMachine) -> Life:
        if len(self._life_of) == _MOST_MACHINES:
            self._life_of.clear()
        key = machine.initial, machine.states
        life = self.kinds.get(key, _NO_LIFE)
        if life is _NO_LIFE and len(self.kinds) < _MOST_KINDS:
            life = self.kinds[key] = Life(*key)
        self._life_of[machine] = life
        return life
