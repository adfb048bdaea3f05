"""Scripts of what is done with a transport, and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from hypothesis import strategies as st

from flexiflow.testing._checker import Checker, number
from flexiflow.testing._code import without_one
from flexiflow.testing._desk_work import LENGTH
from flexiflow.testing._trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flexiflow.testing._code import Lines
    from flexiflow.testing._desk_calls import Broken

PARTITIONS: Final = 2


class Act(NamedTuple):
    """One step: a method of the desk, and what it is called with."""

    method: str
    given: tuple[Any, ...]


@final
@dataclass(frozen=True)
class TransportScript:
    """What is done with a transport.

    Attributes:
        acts: the steps.
        options: what the factory is called with.
        decisions: none; first come first served.
        again: nothing; there is one run.
    """

    acts: tuple[Act, ...]
    options: tuple[tuple[str, int], ...] = ()
    decisions: tuple[int, ...] = ()
    again: str = ""

    def smaller(self) -> Iterator[TransportScript]:
        """Give scripts with a step left out."""
        return (replace(self, acts=acts) for acts in without_one(self.acts))

    def main(self) -> Lines:
        """Write what is done with `desk`."""
        return [f"await desk.{each.method}({', '.join(map(repr, each.given))})" for each in self.acts]


@dataclass
class Moves(Trace):
    """What happened while a script ran.

    Attributes:
        history: a line for each call.
        broken: what was found wrong, and by which clause.
    """

    history: list[str] = field(default_factory=list[str])
    broken: Broken | None = None

    def told(self) -> Iterator[tuple[int, str, str, Any]]:
        """Give each line, as if of one task."""
        return ((0, "", line, None) for line in self.history)


def checks(
    clause: str, *acts: st.SearchStrategy[Act], first: tuple[Act, ...] = (), most: int = 8, **options: int
) -> Checker:
    """Check a clause by scripts of such steps.

    Args:
        clause: its number.
        acts: what is drawn from.
        first: what each script begins with.
        most: how many steps there are at most.
        options: what the factory is called with, in half of the scripts or, with `first`, in all.
    """
    given = tuple(options.items())

    def complain(trace: Trace) -> str | None:
        broken = trace.broken if isinstance(trace, Moves) else None
        return broken.complaint if broken is not None and broken.clause == clause else None

    def make(drawn: list[Act], chosen: tuple[tuple[str, int], ...]) -> TransportScript:
        return TransportScript((*first, *drawn), chosen)

    drawn = st.lists(st.one_of(*acts), min_size=1, max_size=most)
    options_of = st.just(given) if first else st.sampled_from(list(dict.fromkeys([(), given])))
    return Checker(st.builds(make, drawn, options_of), complain)


def act(method: str, *given: st.SearchStrategy[Any]) -> st.SearchStrategy[Act]:
    """Draw a step."""
    return st.builds(lambda *drawn: Act(method, drawn), *given)


def _several(method: str, one: st.SearchStrategy[Any], *before: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[Act]:
    many = st.lists(one, min_size=1, max_size=most)
    return st.builds(lambda drawn, *first: Act(method, (*first, *drawn)), many, *before)


producers = st.sampled_from("pq")
workers = st.sampled_from("abc")
groups = st.sampled_from("gh")
limits = number(1, 3)
places = number(0, 2)

stores = _several("store", st.sampled_from((None, "k", "l")), producers, most=3)
repeats = act("again", producers)
receives = act("receive", workers, limits, number(0, PARTITIONS - 1))
settles = st.one_of(
    _several("settle", places, workers, st.sampled_from(("acknowledge", "return")), most=2),
    _several("settle", places, workers, st.sampled_from(("note", "begin", "let go")), most=2),
)
buries = _several("settle", places, workers, st.just("bury"), most=2)
retries = act("repeat", workers)
deaths = act("die", workers)
leavings = act("leave", workers)
cancels = act("cancel", workers, number(0, 4), limits, st.sampled_from(("receive", "leave")))
redrives = _several("redrive", places, groups, most=2)
looks = act("look", groups)
forgets = act("forget", groups)
clashes = act("clash", workers)
damages = act("damage", number(0, PARTITIONS - 1), number(0, 4))
work = st.one_of(stores, receives, receives, settles)

X1: Final = checks("X1", work, work, looks, retries, deaths, leavings, cancels, forgets)
X2: Final = checks("X2", stores, repeats, repeats, receives, looks, partitions=PARTITIONS)
X3: Final = checks("X3", work, work, buries, buries, redrives, retries, deaths, looks)
X4: Final = checks("X4", work, work, deaths, clashes, leavings, partitions=PARTITIONS)
X5: Final = checks(
    "X5", stores, repeats, work, looks, first=(Act("enter", ("a",)),), most=12, max_length=LENGTH
)
X6: Final = checks("X6", work, damages, buries, looks, leavings, partitions=PARTITIONS)
