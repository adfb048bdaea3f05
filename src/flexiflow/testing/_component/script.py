"""Scripts for components: a table of transitions, and which messages are sent, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flexiflow.testing._component.tables import INITIAL, table_of
from flexiflow.testing._examiner.program import Written, literal
from flexiflow.testing._examiner.steps import (
    Place,
    Step,
    Together,
    attempt,
    block,
    function,
    less,
    quote,
    without_one,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flexiflow.testing._examiner.steps import Lines


@dataclass(frozen=True)
class Send(Step):
    """Send a message; at the top, the program goes on if it raises.

    Attributes:
        to: the component's name.
        trigger: the message's type.
        in_child: whether a handler sends it in a child task.
        cancelled_after: after how many turns of another task it is cancelled, or None.
    """

    to: str = "a"
    trigger: str = "t0"
    in_child: bool = False
    cancelled_after: int | None = None

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        given = f'{quote(self.to)}, {{"type": {quote(self.trigger)}}}'
        if place.handler is not None and self.in_child:
            started = [f"group.start_soon(engine.send, {given})"]
            return block("async with anyio.create_task_group() as group:", started)
        call = f"await engine.send({given})"
        if place.handler is not None:
            return [call]
        return attempt(call, "Exception", self.cancelled_after)


@dataclass(frozen=True)
class Fail(Step):
    """Raise an exception."""

    awaits = False

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        return [f'raise Boom("{place.handler}")']


@dataclass(frozen=True)
class Look(Step):
    """Print the state of a component again and again."""

    turns: int
    to: str = "a"

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        looks = [f"print({quote(self.to)}, {self.to}.state)", "await checkpoint()"]
        return block(f"for _ in range({self.turns}):", looks)


@dataclass(frozen=True)
class Observe(Step):
    """Subscribe, for one time, an observer that does one thing after another."""

    event: str
    does: tuple[Step, ...] = ()

    def code(self, place: Place) -> Lines:
        """Define the observer, and subscribe it."""
        name = f"o{place.name}"
        observer = _function(name, "data", self.does, place)
        call = f'await engine.bus.subscribe({quote(self.event)}, "o", {name}, once=True)'
        return [*observer, call]


@dataclass(frozen=True)
class Row:
    """A transition.

    Attributes:
        source: the state that it leaves, several, or "*" for every one.
        target: the state it leads to, or None for an internal transition.
        guard: what the guard does before it answers, or None if there is no guard.
        accepts: what the guard answers.
        action: what the action does, or None if there is no action.
    """

    trigger: str = "t0"
    source: str | tuple[str, ...] = "*"
    target: str | None = "s1"
    guard: tuple[Step, ...] | None = None
    accepts: object = True
    action: tuple[Step, ...] | None = None

    def steps(self) -> Iterator[Step]:
        """Yield what the guard and the action do."""
        yield from self.guard or ()
        yield from self.action or ()

    def functions(self, number: int) -> Lines:
        """Define the guard and the action."""
        place, given = Place(0), "message, component"
        lines: Lines = []
        if self.guard is not None:
            answer = [f"return {self.accepts!r}"]
            lines += _function(f"g{number}", given, self.guard, place, answer)
        if self.action is not None:
            lines += _function(f"a{number}", given, self.action, place)
        return lines

    def code(self, number: int) -> str:
        """Return the transition as a line of Python."""
        guard = "" if self.guard is None else f", guard=g{number}"
        action = "" if self.action is None else f", action=a{number}"
        target = "None" if self.target is None else quote(self.target)
        source = quote(self.source) if isinstance(self.source, str) else literal(self.source)
        states = f"{source}, {quote(self.trigger)}, {target}"
        return f"Transition({states}{guard}{action}),"


@dataclass(frozen=True)
class ComponentScript(Written):
    """What is done with a new engine and its components, which share one machine.

    Attributes:
        rows: the machine's transitions; at least one leaves the initial state.
        steps: what is done.
        decisions: the schedule, as `run_scheduled` takes it.
    """

    rows: tuple[Row, ...]
    steps: tuple[Step, ...]
    decisions: tuple[int, ...] = ()

    def smaller(self) -> Iterator[ComponentScript]:
        """Yield scripts with something left out: a step, a transition or its guard, a turn."""
        for steps in (*less(self.steps), *_ungrouped(self.steps)):
            yield replace(self, steps=steps)
            # With a task less, decisions point at other tasks.
            for decisions in _lowered(self.decisions):
                yield replace(self, steps=steps, decisions=decisions)
        for rows in less(self.rows):
            if is_table(rows):
                yield replace(self, rows=rows)
        for decisions in without_one(self.decisions):
            yield replace(self, decisions=decisions)

    def main(self) -> Lines:
        """Return what is done, as lines of Python."""
        lines = ["engine = new_engine()"]
        for number, row in enumerate(self.rows):
            lines += row.functions(number)
        lines += [f"machine = StateMachine({quote(INITIAL)}, ["]
        lines += [f"    {row.code(number)}" for number, row in enumerate(self.rows)]
        return [*lines, "])", *self._registered(), *write(self.steps, Place(0))]

    def _registered(self) -> Iterator[str]:
        done = {step for step in flat(self.steps) if isinstance(step, Send | Look)}
        for row in self.rows:
            done |= {step for step in row.steps() if isinstance(step, Send)}
        for name in sorted({step.to for step in done}):
            yield f"{name} = factory({quote(name)}, machine=machine)"
            yield f"await engine.register({name})"


def is_table(rows: tuple[Row, ...]) -> bool:
    """Return whether a machine can have these rows (C8)."""
    return table_of((row.source, row.trigger, row.target) for row in rows).is_sound()


def _lowered(decisions: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for at, decision in enumerate(decisions):
        if decision:
            yield (*decisions[:at], decision - 1, *decisions[at + 1 :])


def _ungrouped(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    """Yield the steps with a group of one task replaced by what that task does."""
    for at, step in enumerate(steps):
        if isinstance(step, Together) and len(step.tasks) == 1:
            yield (*steps[:at], *step.tasks[0], *steps[at + 1 :])


def flat(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Yield steps, and those that are done within them."""
    for step in steps:
        yield step
        if isinstance(step, Together):
            for task in step.tasks:
                yield from flat(task)
        elif isinstance(step, Observe):
            yield from step.does


def _function(
    name: str, given: str, does: tuple[Step, ...], place: Place, answer: Lines | None = None
) -> Lines:
    inside = replace(place, handler=name)
    body = [f'print("{name} starts")', *write(does, inside), *(answer or [])]
    return function(f"{name}({given})", does, body)
