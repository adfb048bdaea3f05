"""Scripts for transports: the steps to play on a desk, as data, and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, final

from hypothesis import strategies as st

from flexiflow.testing._examiner.clause import Checker, number
from flexiflow.testing._examiner.steps import without_one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flexiflow.testing._examiner.steps import Lines
    from flexiflow.testing._examiner.trace import Trace

_MOST: Final = 8
"""The most moves that are drawn for a script, after the first."""


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
        decisions: always empty: first come first served.
    """

    acts: tuple[Act, ...]
    options: tuple[tuple[str, int], ...] = ()
    decisions: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """What is done."""
        return "\n".join(self.main())

    def smaller(self) -> Iterator[TransportScript]:
        """Yield scripts with one step left out, then those with two."""
        one = [*without_one(self.acts)]
        two = dict.fromkeys(chain.from_iterable(map(without_one, one)))
        return (replace(self, acts=acts) for acts in (*one, *two))

    def main(self) -> Lines:
        """Return what is done with `desk`, as lines of Python."""
        return [
            f"await desk.{each.method}({', '.join(map(repr, each.given))})" for each in self.acts
        ]


Moves: TypeAlias = tuple[Act, ...]
"""Steps that are drawn together."""


def checks(
    clause: str, *moves: st.SearchStrategy[Moves], first: Moves = (), **options: int
) -> Checker:
    """Return the checker of a clause, which draws scripts from these moves.

    Args:
        clause: its number.
        moves: what scripts are drawn from, with equal chances.
        first: what each script begins with.
        options: what the factory is called with: in half of the scripts or, with `first`, in all.
    """
    given = tuple(options.items())

    def complain(trace: Trace) -> str | None:
        return trace.complaints.get(clause)

    def make(
        stored: Moves, drawn: list[Moves], chosen: tuple[tuple[str, int], ...]
    ) -> TransportScript:
        return TransportScript((*first, *stored, *chain.from_iterable(drawn)), chosen)

    # Drawn by index: `one_of` would flatten a move that is a `one_of`, and drop repeated moves.
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
    """Draw a step that is given one or several values of a kind."""
    many = st.lists(one, min_size=1, max_size=most)

    def make(given: tuple[Any, ...], more: list[Any]) -> Moves:
        return (Act(method, (*given, *more)),)

    return st.builds(make, first, many)


producers = st.sampled_from("pq")
stores = several("store", st.sampled_from((None, "k", "l")), 3, st.tuples(producers))
