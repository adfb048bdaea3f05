"""Scripts: what is done with a bus, as data that is shown and run as a program."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from hypothesis import strategies as st

from flexiflow.testing._examiner.clause import MODES, schedules
from flexiflow.testing._examiner.program import Written
from flexiflow.testing._examiner.steps import (
    CleanUp,
    Hang,
    Meet,
    Place,
    Raise,
    Step,
    attempt,
    block,
    function,
    quote,
    without_one,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flexiflow._bus import DeliveryMode, ErrorPolicy
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.steps import Lines

FilterKind: TypeAlias = Literal["accepts", "refuses", "raises", "exits", "awaitable"]


@dataclass(frozen=True)
class Subscribe(Step):
    """Subscribe a handler, which does one thing after another; sync if it can be."""

    does: tuple[Step, ...] = ()
    event: str = "a"
    component: str = "c"
    priority: int = 3
    filter: FilterKind | None = None
    once: bool = False

    def code(self, place: Place) -> Lines:
        """Define the handler and its filter, and subscribe it."""
        name = place.name
        body = [f'print("h{name} starts")', *self._body(replace(place, handler=name))]
        handler = function(f"h{name}(data)", self.does, body)
        given = f"{quote(self.event)}, {quote(self.component)}, h{name}{self._options(name)}"
        call = f"await bus.subscribe({given})"
        subscribed = [f"s{name} = {call}"] if place.handler is None else [call]
        return [*self.filter_code(name), *handler, *subscribed]

    def _body(self, place: Place) -> Lines:
        body = write(self.does, place)
        for step in self.does:
            if isinstance(step, CleanUp):
                body = step.around(body, place)
        return body

    def _options(self, name: str) -> str:
        options = ""
        if self.priority != Subscribe.priority:
            options += f", priority={self.priority}"
        if self.filter is not None:
            options += f", filter=f{name}"
        return f"{options}, once=True" if self.once else options

    def filter_code(self, name: str) -> Lines:
        """Return the definition of the filter, if there is one."""
        decides = {
            "accepts": ["return True"],
            "refuses": ["return False"],
            "raises": [f'raise Boom("f{name}")'],
            "exits": [f'raise Exit("f{name}")'],
            "awaitable": ["return Later()"],
        }
        if self.filter is None:
            return []
        return block(f"def f{name}(event, data):", decides[self.filter])


@dataclass(frozen=True)
class Unsubscribe(Step):
    """End one of the script's subscriptions."""

    awaits = False
    number: int

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        return [f"bus.unsubscribe({place.subscription(self.number)})"]


@dataclass(frozen=True)
class UnsubscribeAll(Step):
    """End a component's subscriptions."""

    awaits = False
    component: str

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        return [f"bus.unsubscribe_all({quote(self.component)})"]


@dataclass(frozen=True)
class Publish(Step):
    """Publish an event; at the top, the program goes on if it raises.

    Attributes:
        cancelled_after: after how many turns of another task it is cancelled, or None.
    """

    delivery: DeliveryMode | None = None
    on_error: ErrorPolicy | None = None
    event: str = "a"
    cancelled_after: int | None = None

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        options = "".join(
            f", {name}={quote(value)}"
            for name, value in (("delivery", self.delivery), ("on_error", self.on_error))
            if value is not None
        )
        call = f"await bus.publish({quote(self.event)}, {quote(place.name)}{options})"
        if place.handler is not None:
            return [call]
        return attempt(call, "(Exception, Exit, Quit)", self.cancelled_after)


@dataclass(frozen=True)
class Script(Written):
    """What is done with a new bus, and the schedule of the tasks.

    Attributes:
        steps: first all subscriptions, since others refer to them by number.
        decisions: the schedule, as `run_scheduled` takes it.
        whole: whether its clause needs all of it, so that nothing may be left out.
    """

    steps: tuple[Step, ...]
    decisions: tuple[int, ...] = ()
    whole: bool = False

    def smaller(self) -> Iterator[Script]:
        """Yield scripts with something left out: a step, something that a handler does, a turn."""
        less = () if self.whole else self._with_less()
        return (script for script in less if script.is_sound())

    def is_sound(self) -> bool:
        """Return whether each step can be done, and the script ends.

        A script that unsubscribes needs a subscription. A handler that hangs has to be cancelled,
        by the program or because another handler fails.
        """
        done = [step.does for step in self.steps if isinstance(step, Subscribe)]
        if not done and any(isinstance(step, Unsubscribe) for step in self.steps):
            return False
        if not any(Hang() in does for does in done):
            return True
        return all(
            step.cancelled_after is not None
            or (step.delivery != "sequential" and any(_ends_others & {*does} for does in done))
            for step in self.steps
            if isinstance(step, Publish)
        )

    def _with_less(self) -> Iterator[Script]:
        count = sum(isinstance(step, Subscribe) for step in self.steps)
        for at, steps in enumerate(without_one(self.steps)):
            yield replace(self, steps=tuple(_renumber(step, at, count) for step in steps))
        for at, step in enumerate(self.steps):
            if isinstance(step, Subscribe):
                for does in without_one(step.does):
                    less = replace(step, does=does)
                    yield replace(self, steps=(*self.steps[:at], less, *self.steps[at + 1 :]))
        for decisions in without_one(self.decisions):
            yield replace(self, decisions=decisions)

    def main(self) -> Lines:
        """Return what is done, as lines of Python."""
        subscribed = [step for step in self.steps if isinstance(step, Subscribe)]
        lines = write(self.steps, Place(len(subscribed)))
        for unused in (", Exit", ", Quit"):
            if not any(f"raise {unused[2:]}" in line for line in lines):
                lines = [line.replace(unused, "") for line in lines]
        lines = [line.replace("(Exception)", "Exception") for line in lines]
        before: Lines = []
        meeting = tuple(at for at, step in enumerate(subscribed) if Meet() in step.does)
        if meeting:
            before.append(f"arrived = {{number: anyio.Event() for number in {meeting}}}")
        if any("mark." in line for line in lines):
            before.append("mark.set(Mark())")
        return before + lines


_ends_others = {Raise(), Raise("exit"), Raise("quit")}


def _renumber(step: Step, gone: int, count: int) -> Step:
    """Return a step that refers to the same subscriptions after one of them was left out."""
    if isinstance(step, Unsubscribe):
        number = step.number % count
        return Unsubscribe(number - (number > gone))
    if isinstance(step, Subscribe):
        return replace(step, does=tuple(_renumber(each, gone, count) for each in step.does))
    return step


def scripts(
    subscriptions: st.SearchStrategy[Subscribe],
    after: st.SearchStrategy[Step],
    *,
    least: int = 1,
    most: int = 5,
    most_after: int = 1,
    scheduled: bool = True,
) -> st.SearchStrategy[Case]:
    """Draw scripts: some subscriptions, then other steps."""
    return st.builds(
        _script,
        st.lists(subscriptions, min_size=least, max_size=most),
        st.lists(after, min_size=1, max_size=most_after),
        schedules if scheduled else st.just(()),
    )


def _script(first: list[Subscribe], then: list[Step], decisions: tuple[int, ...]) -> Script:
    return Script((*first, *then), decisions)


def publishes(
    deliveries: tuple[DeliveryMode, ...] = MODES,
    policies: tuple[ErrorPolicy, ...] = ("continue",),
    *,
    event: str = Publish.event,
) -> st.SearchStrategy[Publish]:
    """Draw publishes with an explicit delivery and policy."""
    return st.builds(
        Publish,
        delivery=st.sampled_from(deliveries),
        on_error=st.sampled_from(policies),
        event=st.just(event),
    )
