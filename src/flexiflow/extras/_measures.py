"""What is measured of events, by name: plain data, bounded however many names there are.

Several threads may measure and look at the same time, and a process may be forked meanwhile.
"""

from __future__ import annotations

import math
import reprlib
from bisect import bisect_left
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, final

from flexiflow._text import printable, shorten
from flexiflow.extras._process import fork_safe_lock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Lock

Name: TypeAlias = str | tuple[str, ...]
"""A name, or several that belong together."""

OTHER: Final = "other"
"""The name under which all names are counted that come after the limit was reached."""


class Measured(NamedTuple):
    """What was measured of one name.

    Attributes:
        labels: the names as they are shown.
        counts: how many durations were in each bucket; the last one has no bound.
        seconds: the sum of the durations.
        failures: how many failed.
    """

    labels: tuple[str, ...]
    counts: Sequence[int]
    seconds: float
    failures: int


@final
class Durations:
    """Durations in buckets, and the number of failures; `Timing` adds to them.

    Args:
        bounds: the greatest duration of each bucket, in seconds, ascending; one more has no bound.

    Attributes:
        bounds: see above.
        counts: how many durations are in each bucket.
        seconds: their sum.
        failures: how many failed.
        lock: held while any of these is changed: else an addition might be lost.
    """

    __slots__ = ("bounds", "counts", "failures", "lock", "seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds: Sequence[float] = bounds
        self.counts: list[int] = [0] * (len(bounds) + 1)
        self.seconds: float = 0.0
        self.failures: int = 0
        self.lock: Lock = fork_safe_lock()

    def measured(self, labels: tuple[str, ...]) -> Measured:
        """Return what was measured, all of one moment."""
        with self.lock:
            return Measured(labels, tuple(self.counts), self.seconds, self.failures)


@final
class Timing:
    """A context manager that adds how long its block lasted, and whether an exception left it.

    A cancellation is no failure.

    Args:
        durations: what it adds to.
    """

    __slots__ = ("_durations", "_started")

    def __init__(self, durations: Durations) -> None:
        self._durations = durations
        self._started = perf_counter()

    def __enter__(self) -> None:
        """Do nothing: a bus enters it as soon as it was made."""

    def __exit__(
        self, kind: type[BaseException] | None, _exception: object, _traceback: object
    ) -> None:
        seconds = perf_counter() - self._started
        durations = self._durations
        # All in here, since this is done for each publish and each handler.
        with durations.lock:
            durations.counts[bisect_left(durations.bounds, seconds)] += 1
            durations.seconds += seconds
            if kind is not None and issubclass(kind, Exception):
                durations.failures += 1


@final
class ByName(dict[Name, Durations]):
    """Durations by name; new names share those of `OTHER` once the limit is reached.

    A name is shown as its label, cut short and escaped. This dict has only names that equal their
    labels, so that names which strangers make up take little memory.

    Args:
        most: how many names have durations of their own.
        bounds: see `Durations`.
    """

    __slots__ = ("_bounds", "_by_label", "_lock", "_most")

    def __init__(self, most: int, bounds: Sequence[float]) -> None:
        super().__init__()
        self._most = most
        self._bounds = bounds
        self._by_label: dict[tuple[str, ...], Durations] = {}
        self._lock = fork_safe_lock()

    def __missing__(self, name: Name) -> Durations:
        """Return the durations of a name that is not in this dict (yet)."""
        parts = (name,) if isinstance(name, str) else name
        labels = tuple(map(label_of, parts))
        with self._lock:
            if labels not in self._by_label and len(self._by_label) >= self._most:
                return self._by_label.setdefault((OTHER,) * len(labels), Durations(self._bounds))
            durations = self._by_label.setdefault(labels, Durations(self._bounds))
            if labels == parts:
                self[name] = durations
            return durations

    def measured(self) -> list[Measured]:
        """Return what was measured of each name."""
        with self._lock:
            kept = list(self._by_label.items())
        return [durations.measured(labels) for labels, durations in kept]


def label_of(name: str) -> str:
    """Return a name as it is shown to other programs: cut short and escaped."""
    return printable(shorten(name))


def check_buckets(buckets: Sequence[float]) -> tuple[float, ...]:
    """Return the buckets' bounds.

    Raises:
        ValueError: they are not numbers above 0, finite and ascending, one or more.
    """
    try:
        bounds = tuple(map(float, buckets))
    except (TypeError, ValueError):
        bounds = ()
    is_ascending = all(one < other for one, other in pairwise((0.0, *bounds, math.inf)))
    if not bounds or not is_ascending:
        raise ValueError(
            "buckets must be one or more finite numbers of seconds above 0, ascending, not "
            f"{reprlib.repr(buckets)}"
        )
    return bounds
