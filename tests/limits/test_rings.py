"""Calls that may wait, and those that would wait for ever: V2, in programs that are drawn."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from flexiflow._limits import Limiter
from flexiflow._mailbox import Mailbox
from tests.turns import Task

if TYPE_CHECKING:
    from flexiflow._turns import Turn
    from tests.turns import Joinable

LIMITS = (1, 1, 2, 3, 1)
"""How many may have a turn at once; the last line is a component's."""


@dataclass
class Actor:
    """A task of the model: the lines whose turns it has, and the one where it waits.

    Attributes:
        inherited: the lines of the turns within which it was started.
    """

    inherited: list[int] = field(default_factory=list[int])
    held: list[int] = field(default_factory=list[int])
    waits: int | None = None
    parent: int | None = None
    is_over: bool = False


@dataclass
class Model:
    """Lines and tasks; a task with children does nothing until these are over."""

    actors: list[Actor]
    holders: list[list[int]]
    waiting: list[list[int]]

    def is_able(self, number: int) -> bool:
        """Tell whether a task can do anything."""
        actor = self.actors[number]
        has_children = any(each.parent == number and not each.is_over for each in self.actors)
        return not (actor.is_over or has_children or actor.waits is not None)

    def join(self, number: int, line: int) -> None:
        """Have a task take a slot, or wait."""
        if len(self.holders[line]) < LIMITS[line]:
            self._give(number, line)
        else:
            self.actors[number].waits = line
            self.waiting[line].append(number)

    def leave(self, number: int) -> None:
        """Have a task end its innermost turn, or itself."""
        actor = self.actors[number]
        if not actor.held:
            actor.is_over = True
            return
        line = actor.held.pop()
        self.holders[line].remove(number)
        if self.waiting[line]:
            self._give(self.waiting[line].pop(0), line)

    def ends_if_it_waits(self, number: int, line: int) -> bool:
        """Tell whether a task would come to run, if from now on all only end what they do."""
        trial = deepcopy(self)
        trial.join(number, line)
        while able := [each for each in range(len(trial.actors)) if trial.is_able(each)]:
            trial.leave(able[0])
        return all(each.is_over for each in trial.actors)

    def _give(self, number: int, line: int) -> None:
        self.actors[number].waits = None
        self.actors[number].held.append(line)
        self.holders[line].append(number)


class Program:
    """The same on real lines, with real turns."""

    def __init__(self, tasks: int) -> None:
        self.lines: list[Joinable[Turn]] = [*map(Limiter, LIMITS[:-1]), Mailbox()]
        self.tasks = [Task() for _ in range(tasks)]
        self._waiting: dict[int, Turn] = {}
        self._held: list[list[Turn]] = [[] for _ in range(tasks)]

    def joins(self, number: int, line: int) -> bool:
        """Have a task join a line; False where it would wait for ever."""
        turn = self.tasks[number].join(self.lines[line])
        if not turn.would_deadlock:
            self._waiting[number] = turn
            self._begin_all()
        return not turn.would_deadlock

    def leave(self, number: int) -> None:
        """Have a task end its innermost turn, if any."""
        if self._held[number]:
            self.tasks[number].finish()
            self._held[number].pop().end()
            self._begin_all()

    def start(self, number: int) -> None:
        """Have a task start a child."""
        self.tasks.append(Task(self.tasks[number]))
        self._held.append([])

    def waiting(self) -> set[int]:
        """Tell who waits."""
        return set(self._waiting)

    def _begin_all(self) -> None:
        for number, turn in [*self._waiting.items()]:
            if turn in turn.line.holders:
                self._held[number].append(self.tasks[number].begin(self._waiting.pop(number)))


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from("jjjjjjls"), st.integers(0, len(LIMITS) - 1)),
        min_size=10,
        max_size=40,
    )
)
def test_nobody_waits_for_ever_and_nobody_is_refused_who_would_not(
    steps: Sequence[tuple[int, str, int]],
) -> None:
    """V2, C4: A call or message waits where that comes to an end, and only there."""
    tasks = 4
    model = Model([Actor() for _ in range(tasks)], [[] for _ in LIMITS], [[] for _ in LIMITS])
    program = Program(tasks)
    for choice, act, line in steps:
        able = [each for each in range(len(model.actors)) if model.is_able(each)]
        if not able:
            break
        number = able[choice % len(able)]
        actor = model.actors[number]
        if act == "l":
            model.leave(number)
            program.leave(number)
        elif act == "s":
            model.actors.append(Actor(inherited=actor.inherited + actor.held, parent=number))
            program.start(number)
        else:
            is_within = line in actor.inherited + actor.held
            joins = not is_within and model.ends_if_it_waits(number, line)
            assert program.joins(number, line) == joins
            if joins:
                model.join(number, line)
            elif not is_within:
                event("a ring is closed")
        waiting = {each for each, actor in enumerate(model.actors) if actor.waits is not None}
        assert program.waiting() == waiting


@settings(max_examples=100, deadline=None, derandomize=True)
@given(limit=st.integers(1, 4), ends=st.lists(st.integers(0, 9), max_size=40))
def test_slots_go_to_the_first_who_are_there(limit: int, ends: Sequence[int]) -> None:
    """V2: Of all calls that have not ended, the first ones have the slots."""
    limiter = Limiter(limit)
    calls: list[Turn] = []
    for place in ends:
        if place < len(calls):
            calls.pop(place).end()
        else:
            calls.append(limiter.join())
        assert limiter.holders == set(calls[:limit])
