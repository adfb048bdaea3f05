"""What a measure is, and what its rounds amount to: arithmetic, without a clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import median
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Unit: TypeAlias = Literal["times", "turns more", "bytes"]
"""How ours is held against theirs: as a multiple, as a difference, or not at all."""

Verdict: TypeAlias = Literal["ok", "near", "over", ""]
"""Whether best and median meet the target: both, one of them, neither; or there is none."""


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
    """What one call cost in one round of ours and the round of theirs that went with it."""

    ours: float
    theirs: float


@final
@dataclass(frozen=True, slots=True)
class Effort:
    """How much time measuring may take.

    Attributes:
        rounds: of ours and of theirs, alternating.
        heavy_rounds: the same for measures whose single round takes long.
        seconds: how long a round goes on, about.
        quick: whether measures that allow it take less input.
    """

    rounds: int
    heavy_rounds: int
    seconds: float
    quick: bool


FULL: Final = Effort(rounds=31, heavy_rounds=7, seconds=0.008, quick=False)
QUICK: Final = Effort(rounds=7, heavy_rounds=2, seconds=0.002, quick=True)

Run: TypeAlias = Callable[[Effort], list[Round]]
"""Takes a measure's rounds. Raises `LeftOut` where it can't."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure on one backend.

    Attributes:
        figure: what of ours is measured.
        against: what it is held against; empty where it stands alone.
        backend: "asyncio", "trio", or empty where it plays no part.
        run: takes the rounds.
        at_most: the target, or None where the figure is only told.
        unit: what the figure counts.
    """

    figure: str
    against: str
    backend: str
    run: Run
    at_most: float | None = None
    unit: Unit = "times"

    @property
    def title(self) -> str:
        """All that tells it from others, for choosing and for messages."""
        against = f" against {self.against}" if self.against else ""
        backend = f" on {self.backend}" if self.backend else ""
        return f"{self.figure}{against}{backend}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the rounds of a measure amount to, in its unit.

    Attributes:
        figure: as the measure has it; so are the next four.
        against: see above.
        backend: see above.
        unit: see above.
        at_most: see above.
        best: the best of ours held against the best of theirs.
        median: the median of what the rounds say one by one.
        lowest: the lowest of them.
        highest: the highest of them.
        ours: the best of ours; seconds a call where the unit is "times", else in the unit.
        theirs: the same of theirs.
        rounds: how many there were.
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

        The best is disturbed least by what else the machine does; the median compares what was
        measured at the same time. On a machine at rest they agree.
        """
        if self.at_most is None:
            return ""
        met = (self.best <= self.at_most) + (self.median <= self.at_most)
        return ("over", "near", "ok")[met]


def summarise(measure: Measure, rounds: Sequence[Round]) -> Result:
    """Say what the rounds of a measure amount to.

    Raises:
        ValueError: there are none.
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
    """Pick the measures whose title has the pattern in it.

    Args:
        measures: to pick from.
        pattern: with `*` and `?` as in file names; upper and lower case are one.
    """
    wanted = f"*{pattern.lower()}*"
    return [measure for measure in measures if fnmatchcase(measure.title.lower(), wanted)]
