"""Scripts of what is done with a transport, and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, final

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
_MOST: Final = 8
"""How many moves there are at most after the first."""


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
        return [
            f"await desk.{each.method}({', '.join(map(repr, each.given))})" for each in self.acts
        ]


Moves: TypeAlias = "tuple[Act, ...]"
"""Steps that are drawn together."""


@final
@dataclass
class Story(Trace):
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
    clause: str, *moves: st.SearchStrategy[Moves], first: Moves = (), **options: int
) -> Checker:
    """Check a clause by scripts of such moves.

    Args:
        clause: its number.
        moves: what is drawn from, alike.
        first: what each script begins with.
        options: what the factory is called with, in half of the scripts or, with `first`, in all.
    """
    given = tuple(options.items())

    def complain(trace: Trace) -> str | None:
        broken = trace.broken if isinstance(trace, Story) else None
        return broken.complaint if broken is not None and broken.clause == clause else None

    def make(
        stored: Moves, drawn: list[Moves], chosen: tuple[tuple[str, int], ...]
    ) -> TransportScript:
        return TransportScript((*first, *stored, *chain.from_iterable(drawn)), chosen)

    # As an index: `one_of` takes a strategy apart that is one itself, and drops what is the same.
    drawn = number(0, len(moves) - 1).flatmap(moves.__getitem__)
    options_of = st.just(given) if first else st.sampled_from(list(dict.fromkeys([(), given])))
    lists = st.lists(drawn, min_size=1, max_size=_MOST)
    return Checker(st.builds(make, stores, lists, options_of), complain)


def move(method: str, *given: st.SearchStrategy[Any]) -> st.SearchStrategy[Moves]:
    """Draw a step."""
    return st.tuples(*given).map(lambda drawn: (Act(method, drawn),))


def several(
    method: str,
    one: st.SearchStrategy[Any],
    most: int,
    first: st.SearchStrategy[tuple[Any, ...]],
) -> st.SearchStrategy[Moves]:
    """Draw a step that is given one or several of the same."""
    many = st.lists(one, min_size=1, max_size=most)

    def make(given: tuple[Any, ...], more: list[Any]) -> Moves:
        return (Act(method, (*given, *more)),)

    return st.builds(make, first, many)


def _handle(worker: str, limit: int, partition: int, how: str, at: list[int]) -> Moves:
    return (Act("receive", (worker, limit, partition)), Act("settle", (worker, how, *at)))


def _handling(*hows: str, then: str | None = None) -> st.SearchStrategy[Moves]:
    at = st.lists(number(0, 2), min_size=1, max_size=2)
    moves = st.builds(_handle, workers, limits, partitions, st.sampled_from(hows), at)
    if then is None:
        return moves
    return moves.map(lambda first: (*first, Act(then, first[0].given[:1])))


producers = st.sampled_from("pq")
workers = st.sampled_from("abc")
groups = st.sampled_from("gh")
limits = number(1, 3)
partitions = number(0, PARTITIONS - 1)

stores = several("store", st.sampled_from((None, "k", "l")), 3, st.tuples(producers))
repeats = move("again", producers)
receives = move("receive", workers, limits, partitions)
handles = _handling("acknowledge")
returns = _handling("return", "let go")
notes = _handling("note", "begin")
buries = _handling("bury")
buries_all: st.SearchStrategy[Moves] = workers.map(
    lambda worker: (Act("receive", (worker, 3)), Act("settle", (worker, "bury", 0, 1, 2)))
)
retries = _handling("acknowledge", "note", "return", "bury", then="repeat")
deaths = _handling("note", "begin", "return", then="die")
sudden_deaths: st.SearchStrategy[Moves] = st.tuples(workers, limits).map(
    lambda given: (Act("receive", given), Act("die", given[:1]))
)
leavings = move("leave", workers)
cancels = move("cancel", workers, number(0, 4), limits, st.sampled_from(("receive", "leave")))
redrives = several("redrive", number(0, 2), 2, st.tuples(groups))
looks = move("look", groups)
forgets = move("forget", groups)
clashes = move("clash", workers)
damages = move("damage", partitions, number(0, 4))

ENTERED: Final = (Act("enter", ("a",)),)

X1: Final = checks(
    "X1",
    *(stores, receives, handles, returns, retries, looks),
    *(deaths, sudden_deaths, leavings, cancels, cancels, forgets),
)
X2: Final = checks("X2", stores, repeats, repeats, receives, looks, partitions=PARTITIONS)
X3: Final = checks(
    "X3",
    *(stores, returns, notes, retries, looks, buries, buries_all, redrives, redrives),
    *(deaths, sudden_deaths),
)
X4: Final = checks(
    "X4",
    *(stores, receives, handles, returns, deaths, sudden_deaths, clashes, leavings),
    partitions=PARTITIONS,
)
X5: Final = checks(
    "X5", stores, stores, repeats, handles, receives, first=ENTERED, max_length=LENGTH
)
X6: Final = checks(
    "X6", stores, receives, handles, damages, damages, buries, leavings, partitions=PARTITIONS
)
