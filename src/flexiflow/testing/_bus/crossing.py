"""Programs that cross what a subscription can be with what can happen meanwhile (P1).

The clauses' own programs look at one promise each. These mix the features: each program draws some
of the features, and then uses them often, so that any two of them meet in many programs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from flexiflow.testing._bus.script import Publish, Subscribe
from flexiflow.testing._examiner.program import Written
from flexiflow.testing._examiner.steps import (
    Hang,
    Place,
    Step,
    Wait,
    block,
    function,
    less,
    quote,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flexiflow.testing._bus.script import FilterKind
    from flexiflow.testing._examiner.steps import Lines

    Surround: TypeAlias = Literal["calls", "unsubscribes"]
    Watched: TypeAlias = Literal["Publishing", "Handling", "Both", "Ending"]
    Failing: TypeAlias = Literal["entering", "leaving", "refusing", "refusing failures"]


@dataclass(frozen=True)
class Listener(Step):
    """Subscribe a handler; an option that is None is left out.

    Attributes:
        number: what makes its name differ from others.
        does: what the handler does.
        awaited: whether it returns an awaitable that is no coroutine.
    """

    number: int
    does: tuple[Step, ...] = ()
    event: str = "a"
    priority: int | None = None
    filter: FilterKind | None = None
    once: bool | None = None
    limit: int | None = None
    time_limit: int | None = None
    around: Surround | None = None
    awaited: bool | None = None

    def code(self, place: Place) -> Lines:
        """Define the handler, its filter and what is around it, and subscribe it."""
        name = str(self.number)
        inside = Place(place.count, name, name)
        does = (*self.does, Wait(0)) if self.awaited else self.does
        handler = function(
            f"h{name}(data)", does, [f'print("h{name} starts")', *write(does, inside)]
        )
        given = f"awaitable(h{name})" if self.awaited else f"h{name}"
        options = {
            "priority": self.priority,
            "filter": self.filter and f"f{name}",
            "once": self.once,
            "limit": self.limit,
            "time_limit": self.time_limit,
            "around": self.around and f"[r{name}]",
        }
        told = "".join(
            f", {option}={value}" for option, value in options.items() if value is not None
        )
        call = f's{name} = await bus.subscribe({quote(self.event)}, "c", {given}{told})'
        return [*self._filter(name), *self._surround(name), *handler, call]

    def _filter(self, name: str) -> Lines:
        return [] if self.filter is None else Subscribe(filter=self.filter).filter_code(name)

    def _surround(self, name: str) -> Lines:
        body = ["bus.unsubscribe(subscription)"] if self.around == "unsubscribes" else []
        head = f"async def r{name}(event, subscription, call):"
        return [] if self.around is None else block(head, [*body, "await call()"])


@dataclass(frozen=True)
class End(Step):
    """End a subscription."""

    awaits = False
    number: int

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        return [f"bus.unsubscribe(s{self.number})"]


@dataclass(frozen=True)
class Later(Step):
    """Start a task that outlives the handler, and then publishes."""

    awaits = False
    event: str = "a"

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        return [f"group.start_soon(publish_later, bus, {quote(self.event)})"]


@dataclass(frozen=True)
class Install(Step):
    """Add an instrument.

    Attributes:
        kind: the class of the kit.
        fails: when it fails, if it does.
    """

    kind: Watched
    fails: Failing | None = None

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        given = "bus" if self.kind == "Ending" else quote(self.fails) if self.fails else ""
        return [f"bus.add_instrument({self.kind}({given}))"]


@dataclass(frozen=True)
class Crossing(Written):
    """Listeners, and what is done then.

    Attributes:
        listeners: what is subscribed first.
        steps: what is done then.
        decisions: always empty: first come first served.
    """

    listeners: tuple[Listener, ...]
    steps: tuple[Step, ...]
    decisions: tuple[int, ...] = ()

    def smaller(self) -> Iterator[Crossing]:
        """Yield programs with something left out."""
        return filter(Crossing.is_sound, less(self))

    def is_sound(self) -> bool:
        """Return whether all that is ended was subscribed, and each handler comes to its end."""
        made = {each.number for each in self.listeners}
        steps = [*self.steps, *(step for each in self.listeners for step in each.does)]
        return (
            all(each.number in made for each in steps if isinstance(each, End))
            and all(each.time_limit for each in self.listeners if Hang() in each.does)
            # What a bus does by default is not known.
            and all(each.delivery and each.on_error for each in steps if isinstance(each, Publish))
        )

    def main(self) -> Lines:
        """Return what is done, as lines of Python."""
        place = Place(len(self.listeners))
        lines = write((*self.listeners, *self.steps), place)
        lines = [line.replace("(Exception, Exit, Quit)", "Exception") for line in lines]
        if any("group.start_soon" in line for line in lines):
            return block("async with anyio.create_task_group() as group:", lines)
        return lines
