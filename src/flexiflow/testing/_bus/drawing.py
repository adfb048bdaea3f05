"""Draws crossings: each pair of features, and then others beside it (P1)."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Final

from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._bus.crossing import Crossing, End, Install, Later, Listener
from flexiflow.testing._bus.script import Publish, Subscribe
from flexiflow.testing._examiner.clause import MODES, POLICIES
from flexiflow.testing._examiner.steps import Hang, Mark, Raise, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from flexiflow._bus import DeliveryMode, ErrorPolicy
    from flexiflow.testing._bus.crossing import Failing, Surround, Watched
    from flexiflow.testing._bus.script import FilterKind
    from flexiflow.testing._examiner.steps import Step

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
