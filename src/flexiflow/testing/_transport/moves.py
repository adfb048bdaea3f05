"""Scripts for transports: the steps to play on a desk, as data, and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from hypothesis import strategies as st

from flexiflow.testing._examiner.acts import Act, Acts
from flexiflow.testing._examiner.clause import number
from flexiflow.testing._transport.desk_log import LENGTH, SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.trace import Trace

_MOST: Final = 8
"""The most moves that are drawn for a script, after the first."""


@final
@dataclass(frozen=True)
class TransportScript(Acts):
    """What is done with a transport.

    Attributes:
        options: what the factory is called with.
    """

    options: tuple[tuple[str, int], ...] = ()


Moves: TypeAlias = tuple[Act, ...]
"""Steps that are drawn together."""
Options: TypeAlias = tuple[tuple[str, int], ...]
"""What a factory is called with."""


def checks(
    clause: str,
    *moves: st.SearchStrategy[Moves],
    first: Moves = (),
    also: Options = (),
    **options: int,
) -> tuple[st.SearchStrategy[Case], Callable[[Trace], str | None]]:
    """Return scripts to try a clause with, drawn from these moves, and the judgement on them.

    Args:
        clause: its number.
        moves: what scripts are drawn from, with equal chances.
        first: what each script begins with.
        also: what the factory is called with in some of the scripts.
        options: what it is called with in some of the others or, with `first`, in all scripts.
    """
    given = tuple(options.items())

    def complain(trace: Trace) -> str | None:
        return trace.complaints.get(clause)

    def make(
        stored: Moves, drawn: list[Moves], chosen: tuple[tuple[str, int], ...]
    ) -> TransportScript:
        acts = (*first, *stored, *chain.from_iterable(drawn))
        return TransportScript(acts, options=chosen)

    # Drawn by index: `one_of` would flatten a move that is a `one_of`, and drop repeated moves.
    drawn = number(0, len(moves) - 1).flatmap(moves.__getitem__)
    sets = list(dict.fromkeys([(), given, also]))
    options_of = st.just(given) if first else st.sampled_from(sets)
    lists = st.lists(drawn, min_size=1, max_size=_MOST)
    return st.builds(make, stores, lists, options_of), complain


def move(method: str, *given: st.SearchStrategy[Any]) -> st.SearchStrategy[Moves]:
    """Draw a step."""
    return st.tuples(*given).map(lambda drawn: (Act(method, drawn),))


def move_many(
    method: str,
    one: st.SearchStrategy[Any],
    most: int,
    first: st.SearchStrategy[tuple[Any, ...]],
) -> st.SearchStrategy[Moves]:
    """Draw a step that is given one or several values of a kind."""
    many = st.lists(one, min_size=1, max_size=most)

    def make(given: tuple[Any, ...], more: list[Any]) -> Moves:
        return (Act(method, (*given, *more)),)

    return st.builds(make, first, many)


producers = st.sampled_from("pq")
stores = move_many("store", st.sampled_from((None, "k", "l")), 3, st.tuples(producers))


PARTITIONS: Final = 2
"""How many partitions a transport has that has several."""


def _handle(worker: str, limit: int, partition: int, how: str, at: list[int]) -> Moves:
    return (Act("receive", (worker, limit, partition)), Act("settle", (worker, how, *at)))


def _handling(*hows: str, then: str | None = None) -> st.SearchStrategy[Moves]:
    at = st.lists(number(0, 2), min_size=1, max_size=2)
    moves = st.builds(_handle, workers, limits, partitions, st.sampled_from(hows), at)
    if then is None:
        return moves
    return moves.map(lambda first: (*first, Act(then, first[0].given[:1])))


def settling(by: st.SearchStrategy[str], *hows: str) -> st.SearchStrategy[Moves]:
    """Draw how to settle some of what was given before."""
    return move_many("settle", number(0, 1), 2, st.tuples(by, st.sampled_from(hows)))


def _lose(worker: str, other: str, *acts: Act) -> Moves:
    """Make a worker oversleep, so that another one is given what it holds."""
    return (
        Act("store", ("p", None)),
        Act("receive", (worker, 1)),
        Act("oversleep", (worker,)),
        Act("receive", (other, 1)),
        *acts,
    )


def _losing(
    workers: tuple[str, str],
    first: int,
    before: tuple[str, ...],
    stale: str,
    after: tuple[str, ...],
) -> Moves:
    """Make a worker report on a record that another one has by now."""
    worker, other = workers
    acts: list[Act] = []
    acts += [Act("settle", (other, how, 0)) for how in before]
    acts += [Act("settle", (worker, stale, 0)) if stale else Act("renew", (worker,))]
    for how in after:
        known = {"die", "leave", "renew"}
        acts.append(Act(how, (other,)) if how in known else Act("settle", (other, how, 0)))
    return _lose(worker, other, *acts)[first:]


workers = st.sampled_from("abc")
groups = st.sampled_from("gh")
limits = number(1, 3)
partitions = number(0, PARTITIONS - 1)

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
redrives = move_many("redrive", number(0, 2), 2, st.tuples(groups))
looks = move("look", groups)
forgets = move("forget", groups)
clashes = move("clash", workers)
damages = move("damage", partitions, number(0, 4))

follows = move("follow", workers, st.sampled_from("kl"))
renewals = move("renew", workers)
oversleeping = move("oversleep", workers)
passing: st.SearchStrategy[Moves] = st.just((Act("pass_time", ()),))
reopenings: st.SearchStrategy[Moves] = st.just((Act("reopen", ()),))

keyed = move_many("store", st.sampled_from("kl"), 3, st.tuples(producers))
in_line = st.lists(st.just("k"), min_size=2, max_size=3).map(
    lambda keys: (
        Act("store", ("p", *keys)),
        Act("receive", ("a", 3)),
        Act("settle", ("a", "postpone", 0)),
        Act("settle", ("a", "queue", 0, 1)),
    )
)
"""A line: the first record that waits is due, others are behind it."""
losing = st.builds(_lose, st.sampled_from("ab"), st.sampled_from("ab"))
stale = st.builds(
    _losing,
    st.sampled_from((("a", "b"), ("b", "a"))),
    number(0, 1),
    st.sampled_from(((), ("begin",))),
    # Outcomes on which more depends are sampled more than once.
    st.sampled_from(("acknowledge", "acknowledge", "let go", "bury", "begin", "postpone", "")),
    st.sampled_from(
        ((), ("die",), ("leave",), ("renew",), ("renew",), ("return",), ("postpone", "die"))
    ),
)


def _wait_and_more(how: str, more: int, again: tuple[int, ...]) -> Moves:
    """Make two records wait while others are new, then ask for some."""
    return (
        Act("store", ("p", *[None] * (2 + more))),
        Act("receive", ("a", 2)),
        Act("settle", ("a", how, 0, 1)),
        Act("receive", ("a", *again)),
    )


sharing = st.builds(
    _wait_and_more,
    st.just("postpone"),
    number(1, 2),
    st.tuples(limits, st.just(0), st.just(1_000), st.just(1_000), number(0, 2)),
)
shutting = st.builds(
    _wait_and_more,
    st.sampled_from(("postpone", "defer")),
    number(1, 2),
    st.tuples(limits, st.just(0), st.just(1_000), number(1, 3)),
)
dues: st.SearchStrategy[Moves] = st.just(
    (
        Act("store", ("p", None, None)),
        Act("receive", ("a", 2)),
        Act("settle", ("a", "delay", 0)),
        Act("settle", ("a", "postpone", 0)),
        Act("pass_time", ()),
        Act("receive", ("a", 2)),
    )
)
"""The record that is postponed first is due last."""
makes_room: st.SearchStrategy[Moves] = st.just(
    (
        Act("store", ("p", *[None] * LENGTH)),
        Act("receive", ("a", LENGTH)),
        Act("settle", ("a", "defer", *range(LENGTH))),
        Act("store", ("q", None)),
    )
)
postponing = _handling("postpone", "delay", "queue", "defer")
endings = _handling("acknowledge", "return", "postpone", "bury")
sizes = number(1, 4).map(lambda size: size * SIZE // 4)
sized = move_many("store_sized", sizes, 3, st.tuples(producers))
too_large = move("store_sized", producers, sizes, st.just(SIZE + 1))
inserts = move("insert", partitions, st.sampled_from((SIZE, SIZE + 1, 4 * SIZE)))
room = move(
    "receive", workers, limits, st.just(0), st.sampled_from((SIZE, SIZE * 3 // 2, SIZE * 2))
)
staged = st.sampled_from("nwab")


def _stage(lesser: str, greater: str, *acts: Act) -> Moves:
    """Join a worker with more patterns while another one holds something."""
    return (
        Act("store", ("p", None, None)),
        Act("receive", (lesser, 1)),
        Act("join", (greater,)),
        *acts,
    )


stagings = st.builds(
    _stage,
    st.sampled_from("na"),
    st.just("w"),
    st.sampled_from(
        (Act("receive", ("a", 1)), Act("settle", ("a", "acknowledge", 0)), Act("renew", ("a",)))
    ),
)


def _take_less(ending: str, worker: str) -> Moves:
    """Remove the worker with the most patterns, and let another one go on."""
    return (
        Act("join", ("w",)),
        Act(ending, ("w",)),
        Act("store", ("p", None)),
        Act("receive", (worker, 1)),
    )


takes_less = st.builds(_take_less, st.sampled_from(("leave", "die")), st.sampled_from("na"))
joinings = move("join", staged)
stages = move("receive", staged, limits)
stage_ends = st.one_of(move("leave", staged), move("die", staged))
stage_settles = settling(staged, "acknowledge", "return", "note")


keys = st.sampled_from((None, "k", "l"))
hows = st.sampled_from(("delay", "at", "past"))
whens = st.sampled_from(("soon", "now", "later"))
planned = number(0, 2)
plans = move_many("schedule", keys, 3, st.tuples(hows, whens))
plans_again = move("schedule_again", planned)
unplanned = move("unschedule", planned)
strangers: st.SearchStrategy[Moves] = st.just((Act("strange", ()),))

kinds = st.sampled_from(("oldest", "place", "place", "time", "new", "wrong"))
begins = move("begin", st.sampled_from("acb"), kinds, number(0, 4))
replays = move("replay", groups, kinds, number(0, 4))
discards = move_many("discard", number(0, 2), 2, st.tuples(groups))
surveys: st.SearchStrategy[Moves] = st.just((Act("survey", ()),))
asks = move("ask", producers)
lasting: st.SearchStrategy[Moves] = st.just(
    (
        Act("store_lasting", ("r", None)),
        Act("outlast", ()),
        Act("store", ("q", None)),
        Act("ask", ("r",)),
        Act("again", ("r",)),
    )
)
