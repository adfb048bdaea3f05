"""Measures, and the results of their rounds: arithmetic, without a clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import median
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Unit: TypeAlias = Literal["times", "turns more", "bytes"]
"""The comparison of ours with theirs: as a multiple, as a difference, or none at all."""

Verdict: TypeAlias = Literal["ok", "near", "over", ""]
"""Whether best and median meet the target: both, one of them, neither; or no target."""


@final
class LeftOut(Exception):
    """A measure can't be taken here, since something that it needs is missing.

    Args:
        reason: what is missing.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Round(NamedTuple):
    """The cost of one call in one round of ours, and in the round of theirs next to it."""

    ours: float
    theirs: float


@final
@dataclass(frozen=True, slots=True)
class Effort:
    """The time that measuring may take.

    Attributes:
        rounds: how many rounds of ours and of theirs, alternating.
        heavy_rounds: the same for measures whose rounds take long.
        seconds: the approximate duration of a round.
        quick: whether measures that allow it take less input.
    """

    rounds: int
    heavy_rounds: int
    seconds: float
    quick: bool


FULL: Final = Effort(rounds=31, heavy_rounds=7, seconds=0.008, quick=False)
QUICK: Final = Effort(rounds=7, heavy_rounds=2, seconds=0.002, quick=True)

Run: TypeAlias = Callable[[Effort], list[Round]]
"""Takes a measure's rounds. Raises `LeftOut` if it can't."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure on one backend.

    Attributes:
        figure: the measured action of ours.
        against: the action that it is compared with; empty if there is none.
        backend: "asyncio", "trio", or empty if the measure does not depend on it.
        run: the function that takes the rounds.
        at_most: the target, or None if the figure is only shown.
        unit: the unit of the figure.
    """

    figure: str
    against: str
    backend: str
    run: Run
    at_most: float | None = None
    unit: Unit = "times"

    @property
    def title(self) -> str:
        """The name of the measure, unique, for choosing and for messages."""
        against = f" against {self.against}" if self.against else ""
        backend = f" on {self.backend}" if self.backend else ""
        return f"{self.figure}{against}{backend}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a measure's rounds, in its unit.

    Attributes:
        figure: as in the measure; the next four are the same.
        against: see above.
        backend: see above.
        unit: see above.
        at_most: see above.
        best: the best of ours compared with the best of theirs.
        median: the median of the comparisons of single rounds.
        lowest: the lowest of them.
        highest: the highest of them.
        ours: the best of ours; seconds per call if the unit is "times", else in the unit.
        theirs: the same for theirs.
        rounds: the number of rounds.
    """

    figure: str
    against: str
    backend: str
    unit: Unit
    at_most: float | None
    best: float
    median: float
    lowest: float
    highest: float
    ours: float
    theirs: float
    rounds: int

    @property
    def verdict(self) -> Verdict:
        """Whether the target is met.

        Other work of the machine disturbs the best round least; the median compares rounds that
        were measured at the same time. On a machine at rest they agree.
        """
        if self.at_most is None:
            return ""
        met = (self.best <= self.at_most) + (self.median <= self.at_most)
        return ("over", "near", "ok")[met]


def summarise(measure: Measure, rounds: Sequence[Round]) -> Result:
    """Return the result of a measure's rounds.

    Raises:
        ValueError: there are no rounds.
    """
    if not rounds:
        raise ValueError(f"at least one round is needed of {measure.title!r}, not none")
    each = [_hold(measure.unit, round_) for round_ in rounds]
    best = Round(min(ours for ours, _ in rounds), min(theirs for _, theirs in rounds))
    return Result(
        figure=measure.figure,
        against=measure.against,
        backend=measure.backend,
        unit=measure.unit,
        at_most=measure.at_most,
        best=_hold(measure.unit, best),
        median=median(each),
        lowest=min(each),
        highest=max(each),
        ours=best.ours,
        theirs=best.theirs,
        rounds=len(rounds),
    )


def _hold(unit: Unit, round_: Round) -> float:
    match unit:
        case "times":
            return round_.ours / round_.theirs
        case "turns more":
            return round_.ours - round_.theirs
        case "bytes":
            return round_.ours


def choose(measures: Iterable[Measure], pattern: str) -> list[Measure]:
    """Return the measures whose titles contain the pattern.

    Args:
        measures: the measures to choose from.
        pattern: may contain `*` and `?` as in file names; case does not matter.
    """
    wanted = f"*{pattern.lower()}*"
    return [measure for measure in measures if fnmatchcase(measure.title.lower(), wanted)]
