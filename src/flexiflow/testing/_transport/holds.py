"""What a model of a transport is made of: records, leases, and what a group has begun."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexiflow.extras.durable import Delivery, Failure


class Item(NamedTuple):
    """A stored record: its body and, if it was redriven, the only group that handles it."""

    body: bytes
    group: str | None

    @property
    def name(self) -> str:
        """Its name in a complaint."""
        redriven = f", redriven to {self.group!r}" if self.group else ""
        return f"record {_text(self.body)}{redriven}"


class Letter(NamedTuple):
    """A dead letter, without its id and time."""

    body: bytes
    failure: Failure
    attempts: int
    deliveries: int


class Grave(NamedTuple):
    """Where a dead letter comes from.

    Attributes:
        letter: the dead letter.
        partition: the partition of its record.
        origin: the place of its record there or, if that was redriven, of the first original.
    """

    letter: Letter
    partition: int
    origin: int


class Span(NamedTuple):
    """When something happens, as far as that is known.

    Attributes:
        earliest: the earliest time.
        latest: the latest time.
    """

    earliest: float
    latest: float = inf

    def is_before(self, other: Span) -> bool:
        """Return whether this certainly comes before another one; clocks have milliseconds."""
        return self.latest + 0.01 < other.earliest


@final
@dataclass(eq=False, slots=True)
class Tenure:
    """A lease.

    Attributes:
        worker: the worker that has it.
        longest: the most seconds that a record waits.
        is_live: whether it has not run out.
        is_over: whether it was released, or its partition leased to another worker.
        is_void: whether its group has begun again since, so that it can't even report.
    """

    worker: str
    longest: float = inf
    is_live: bool = True
    is_over: bool = False
    is_void: bool = False

    def end(self) -> None:
        """Release it."""
        self.is_live, self.is_over = False, True


@final
@dataclass(slots=True)
class Hold:
    """A record that a group has begun, and not settled.

    Attributes:
        attempts: how many attempts have failed.
        deliveries: how many attempts have begun since the last one that ended.
        holder: the lease that was given it last, or postponed it; None if it was returned.
        key: the key of a record that has waited.
        has_waited: whether it was postponed.
        due: when a waiting record is due; None while it is in its key's line.
        is_loose: whether it is open if other leases than `holder` are given a waiting record.
        is_done: whether a lease that had lost it has acknowledged it.
        is_told: whether a lease that had lost it has reported how its attempt ended.
        is_doubtful: whether a `receive` that was cancelled may have taken it.
        returned: the lease that returned it last.
        spare: other counts that it may have as well.
    """

    attempts: int = 0
    deliveries: int = 1
    holder: Tenure | None = None
    key: str | None = None
    has_waited: bool = False
    due: Span | None = None
    is_loose: bool = False
    is_done: bool = False
    is_told: bool = False
    is_doubtful: bool = False
    returned: Tenure | None = None
    spare: tuple[int, int] | None = None

    def is_left_to(self, tenure: Tenure) -> bool:
        """Return whether no other lease that lasts holds it."""
        return self.holder is None or not (self.holder is tenure or self.holder.is_live)

    @property
    def is_ghost(self) -> bool:
        """Whether it is settled when a `receive` comes to it, in place of being given."""
        return self.is_done and (self.holder is None or not self.holder.is_live)


class Offer(NamedTuple):
    """What a lease may be given.

    Attributes:
        left: records that others have left, in order.
        new: records that are new to the group, in order.
        due: waiting records that are certainly due, the first due first.
        maybe: records that may be given besides.
        is_shut: whether so many may wait that nothing new is given.
        again: how many waiting records are asked for.
    """

    left: list[int]
    new: list[int]
    due: list[int]
    maybe: list[int]
    is_shut: bool = False
    again: int = sys.maxsize

    @property
    def certain(self) -> list[int]:
        """The records that are certainly there to be given."""
        return [*self.left, *self.due[: self.again], *(() if self.is_shut else self.new)]


def names(items: Iterable[Item | Delivery]) -> str:
    """Return the names of records, for a complaint."""
    return ", ".join(_text(each.body) for each in items) or "nothing"


def _text(body: bytes) -> str:
    return body.decode(errors="replace").rstrip()
