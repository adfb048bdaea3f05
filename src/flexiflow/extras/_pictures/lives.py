"""The transitions of components, added up: bounded, however many components and machines come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow import Component, StateMachine

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

    def add(self, lasted: float | None) -> None:
        """Count a transition.

        Args:
            lasted: how many seconds the first state lasted; None if that is not known.
        """
        self.count += 1
        if lasted is not None and lasted >= 0:
            self.timed += 1
            self.seconds += lasted
            self.longest = max(self.longest, lasted)

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
        self.steps: dict[tuple[Any, Any], Step] = {}

    def step(self, source: object, target: object) -> Step | None:
        """Return where transitions between two states are counted; None if these are no states."""
        if not isinstance(source, str) or not isinstance(target, str):
            return None
        if source not in self.states or target not in self.states:
            return None
        return self.steps.setdefault((source, target), Step())

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
        since: when it came into its state; None if that is not known.
        sent: when its last message was sent; None if that is not known.
        life: what its transitions are counted with.
    """

    __slots__ = ("life", "sent", "since")

    def __init__(self) -> None:
        self.since: float | None = None
        self.sent: float | None = None
        self.life = _NO_LIFE


@final
class Lives:
    """The transitions of all components.

    Args:
        components: the components by name.

    Attributes:
        kinds: those of components with the same states, by the initial state and all states.
    """

    def __init__(self, components: Mapping[str, Component]) -> None:
        self._components = components
        self._life_of: dict[StateMachine, Life] = {}
        self._stays: dict[Any, _Stay] = {}
        self.kinds: dict[tuple[str, tuple[str, ...]], Life] = {}

    def send(self, component: str, moment: float | None) -> None:
        """Note when the last message of a component was sent; None if that is not known."""
        stay = self._stays.get(component)
        if stay is None:
            stay = self._new_stay(component)
        stay.sent = moment

    def count(self, component: object, states: tuple[object, object]) -> None:
        """Count a transition that a component's last message led to, if there can be such a one.

        Args:
            component: the component's name.
            states: from which state to which.
        """
        try:
            stay = self._stays[component]
            step = stay.life.steps[states]
        except (KeyError, TypeError):  # TypeError if something has no hash
            found = self._find(component, states)
            if found is None:
                return
            stay, step = found
        sent = stay.sent
        step.add(None if stay.since is None or sent is None else sent - stay.since)
        stay.since = sent

    def forget_machine(self, component: object) -> None:
        """Ask for a component's machine once more: another component may have its name now."""
        stay = self._stays.get(component) if isinstance(component, str) else None
        if stay is not None:
            stay.life = _NO_LIFE

    def _find(self, component: object, states: tuple[object, object]) -> tuple[_Stay, Step] | None:
        """Return where a component is, and its transitions between two states, if there are any."""
        found = self._components.get(component) if isinstance(component, str) else None
        machine = None if found is None else found.machine
        if found is None or machine is None:
            return None
        life = self._life_of.get(machine) or self._new_life(machine)
        step = life.step(*states)
        if step is None:
            return None
        stay = self._stays.get(component) or self._new_stay(component)
        stay.life = life
        life.name(found.name)
        return stay, step

    def _new_stay(self, component: object) -> _Stay:
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
