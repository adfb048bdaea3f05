"""Scripts of steps: methods of a desk, which calls what is examined, with their arguments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from flexiflow.testing._examiner.program import Written
from flexiflow.testing._examiner.steps import without_one

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from flexiflow.testing._examiner.steps import Lines


class Act(NamedTuple):
    """One step: a method of the desk, and what it is called with."""

    method: str
    given: tuple[Any, ...]


@dataclass(frozen=True)
class Acts(Written):
    """Steps that are done at a desk.

    Attributes:
        acts: the steps.
        decisions: always empty: first come first served.
    """

    acts: tuple[Act, ...]
    decisions: tuple[int, ...] = ()

    def smaller(self) -> Iterator[Self]:
        """Yield scripts with one step left out, then those with two."""
        # The last ones first, so reversed: most scripts go wrong at their end.
        fewer = len(self.acts) - 2
        two = [] if fewer < 0 else [*combinations(self.acts, fewer)][::-1]
        return (replace(self, acts=acts) for acts in (*without_one(self.acts), *two))

    def main(self) -> Lines:
        """Return what is done with `desk`, as lines of Python."""
        return [
            f"await desk.{each.method}({', '.join(map(repr, each.given))})" for each in self.acts
        ]
