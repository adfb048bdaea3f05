"""Programs that cross what a subscription can be with what can happen meanwhile (P1).

The clauses' own programs look at one promise each. These mix the features: each program draws some
of the features, and then uses them often, so that any two of them meet in many programs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._bus.script import Publish, Subscribe
from flexiflow.testing._examiner.clause import MODES, POLICIES
from flexiflow.testing._examiner.program import Written
from flexiflow.testing._examiner.steps import (
    Hang,
    Mark,
    Place,
    Raise,
    Step,
    Wait,
    block,
    function,
    less,
    quote,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from flexiflow._bus import DeliveryMode, ErrorPolicy
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


_FEATURES: Final = (
    "filter",
    "once",
    "limit",
    "time",
    "around",
    "awaited",
    "pattern",
    "observer",
    "failure",
    "stray",
    "ending",
    "late",
    "nested",
    "later",
    "mark",
    "instrument",
    "failing instrument",
    "ended",
)
_NEEDS: Final = {
    "limit": "subscribe(limit=)",
    "time": "subscribe(time_limit=)",
    "around": "subscribe(around=)",
    "instrument": "add_instrument",
    "failing instrument": "add_instrument",
}
_IMPLIED: Final = {"observer": "failure"}
_FAMILIES: Final = (
    ("a.*", "a.*.c"),
    ("a.*", "a.*.*", "a.*.c"),
    ("*.b", "*.b.c"),
    ("a.b", "a.*", "a.**", "**"),
    ("a.b", "a.b.c", "a.b.*", "a.**"),
)
"""Patterns of which some are the beginnings of others, or match the same names."""
_SELDOM: Final = 0.2
_OTHERS: Final = (0, 0, 1, 3)
"""How many other features a program has."""
_FILTERS: Final[tuple[FilterKind, ...]] = ("accepts", "refuses", "raises", "awaitable")
_SURROUNDS: Final[tuple[Surround, ...]] = ("calls", "calls", "unsubscribes")
_KINDS: Final[tuple[Watched, ...]] = ("Publishing", "Publishing", "Handling", "Both", "Ending")
_FAILURES: Final[tuple[Failing, ...]] = (
    "entering",
    "leaving",
    "refusing failures",
    "refusing",
)


def cross(random: Random, offers: frozenset[str], number: int) -> Iterator[Crossing]:
    """Draw so many programs for a bus that offers these optional parts.

    Each pair of features is the core of one program before any pair is of another.
    """
    possible = [each for each in _FEATURES if _NEEDS.get(each) in (None, *offers)]
    pairs = [*combinations(possible, 2)]
    for at in range(number):
        if at % len(pairs) == 0:
            random.shuffle(pairs)
        more = random.sample(possible, random.choice(_OTHERS))
        yield _Drawing(random, {*pairs[at % len(pairs)], *more}).draw()


class _Drawing:
    """One program, in the making.

    Args:
        random: draws it.
        features: what it is drawn from.
    """

    def __init__(self, random: Random, features: set[str]) -> None:
        self._random = random
        self._features = features | {_IMPLIED[each] for each in features if each in _IMPLIED}
        self._count = random.randint(2, 4) + bool(features & {"pattern", "observer"})
        self._names = ("a.b", "a.b.c") if "pattern" in features else ("a",)
        self._family = random.choice(_FAMILIES)
        self._others = ["a", "b"] if "limit" in features else ["b"]

    def draw(self) -> Crossing:
        """Return the program."""
        listeners = tuple(self._listener(number) for number in range(self._count))
        installed = tuple(self._instruments())
        steps: list[Step] = [*installed]
        for _ in range(self._random.randint(1, 3)):
            if self._has("ended"):
                steps.append(End(self._any()))
            steps.append(self._publish())
        return Crossing(listeners, tuple(steps))

    def _has(self, feature: str, chance: float = 0.75) -> bool:
        return feature in self._features and self._random.random() < chance

    def _any(self) -> int:
        return self._random.randrange(self._count)

    def _name(self) -> str:
        return self._random.choice(self._names)

    def _listener(self, number: int) -> Listener:
        random = self._random
        # The first one is what others observe.
        is_observer = number > 0 and self._has("observer")
        does = self._does(number, is_observer=is_observer)
        return Listener(
            number,
            does,
            self._event(is_observer=is_observer),
            priority=random.randint(1, 5) if random.random() < _SELDOM else None,
            filter=self._filter() if self._has("filter") else None,
            once=True if self._has("once") else None,
            limit=random.choice((1, 1, 2)) if self._has("limit") else None,
            time_limit=1 if Hang() in does else 99 if self._has("time") else None,
            around=self._surround() if self._has("around") else None,
            awaited=True if self._has("awaited") else None,
        )

    def _filter(self) -> FilterKind:
        return self._random.choice(_FILTERS)

    def _surround(self) -> Surround:
        return self._random.choice(_SURROUNDS)

    def _event(self, *, is_observer: bool) -> str:
        if is_observer:
            return HANDLER_FAILED
        if "pattern" in self._features:
            return self._random.choice(self._family)
        return "b" if self._has("nested", 0.5) else "a"

    def _does(self, number: int, *, is_observer: bool) -> tuple[Step, ...]:
        random = self._random
        steps: list[Step] = [] if random.random() < _SELDOM else [Wait(random.randrange(2))]
        drawn: dict[str, Callable[[], Step]] = {
            "mark": Mark,
            # An observer ends those that come after it.
            "ending": lambda: End(random.randrange(number if is_observer else 0, self._count)),
            "late": lambda: Subscribe(
                (Wait(0),), event=HANDLER_FAILED if is_observer else self._name()
            ),
            "nested": self._nested,
            "later": lambda: self._later(is_observer=is_observer),
            "failure": Raise,
            "stray": lambda: Raise("stray"),
            "time": Hang,
        }
        for feature, make in drawn.items():
            if self._has(feature, 0.55):
                steps.append(make())
                if isinstance(steps[-1], Raise | Hang):
                    break
        if any(isinstance(step, Publish) for step in steps):
            # Else its time might be over while it waits for another one.
            steps = [step for step in steps if step != Hang()]
        return tuple(steps)

    def _later(self, *, is_observer: bool) -> Step:
        if "observer" in self._features and not is_observer:
            return Wait(0)
        # Once only: each of them may start others.
        self._features.discard("later")
        return Later(self._name())

    def _nested(self) -> Publish:
        return Publish(self._mode(), self._policy(), self._random.choice(self._others))

    def _mode(self) -> DeliveryMode:
        return self._random.choice(("sequential", *MODES))

    def _policy(self) -> ErrorPolicy:
        return self._random.choice(("continue", "continue", *POLICIES))

    def _publish(self) -> Publish:
        return Publish(self._mode(), self._policy(), self._name())

    def _instruments(self) -> Iterator[Install]:
        for feature in ("instrument", "failing instrument"):
            if feature in self._features:
                kind = self._random.choice(_KINDS)
                fails = None
                if feature == "failing instrument" and kind != "Ending":
                    fails = self._random.choice(_FAILURES[: 2 if kind == "Handling" else 4])
                yield Install(kind, fails)
