"""What a transport has to remember of records and leases, as plain data."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexiflow.extras.durable import Delivery, Failure


class Item(NamedTuple):
    """A record that is stored: its body, and the only group that is to handle it."""

    body: bytes
    group: str | None

    @property
    def name(self) -> str:
        """What it is called in a complaint."""
        redriven = f", redriven to {self.group!r}" if self.group else ""
        return f"record {_text(self.body)}{redriven}"


class Letter(NamedTuple):
    """A dead letter, but for its id and time."""

    body: bytes
    failure: Failure
    attempts: int
    deliveries: int


class Span(NamedTuple):
    """When something happens, as far as anyone can tell.

    Attributes:
        earliest: not before that.
        latest: by then at the latest.
    """

    earliest: float
    latest: float = inf

    def is_before(self, other: Span) -> bool:
        """Return whether it is certain that this comes first; clocks have milliseconds."""
        return self.latest + 0.01 < other.earliest


@final
@dataclass(eq=False, slots=True)
class Tenure:
    """A lease.

    Attributes:
        worker: whose it is.
        longest: for how many seconds a record waits at the most.
        is_live: whether it has not run out.
        is_over: whether it was released, or its partition leased to another worker.
    """

    worker: str
    longest: float = inf
    is_live: bool = True
    is_over: bool = False

    def end(self) -> None:
        """Release it."""
        self.is_live, self.is_over = False, True


@final
@dataclass(slots=True)
class Hold:
    """A record that a group has begun, and not settled.

    Attributes:
        attempts: how many have failed.
        deliveries: how many have begun since the last one that ended.
        holder: the lease that was given it last, or postponed it; None where it was returned.
        key: of one that has waited, its key.
        has_waited: whether it was postponed.
        due: of one that waits, when it is due; None in its key's line.
        is_loose: of one that waits, whether it is open if others than `holder` are given it.
        is_done: whether a lease that had lost it has acknowledged it.
        is_told: whether a lease that had lost it has told how its attempt ended.
        is_doubtful: whether a `receive` may have taken it that was cancelled.
        returned: by which lease it was returned last.
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
        """Return whether nobody else holds it whose lease lasts."""
        return self.holder is None or not (self.holder is tenure or self.holder.is_live)

    @property
    def is_ghost(self) -> bool:
        """Whether it is settled in place of being given to anyone."""
        return self.is_done and (self.holder is None or not self.holder.is_live)


class Offer(NamedTuple):
    """What a lease may be given.

    Attributes:
        left: what others have left, in order.
        new: what is new to the group, in order.
        due: what waits and is certainly due, the first due first.
        maybe: what may be given besides.
        is_shut: whether too many may wait for anything new to be given.
        again: how many of what waits are asked for.
    """

    left: list[int]
    new: list[int]
    due: list[int]
    maybe: list[int]
    is_shut: bool = False
    again: int = sys.maxsize

    @property
    def certain(self) -> list[int]:
        """What there certainly is."""
        return [*self.left, *self.due[: self.again], *(() if self.is_shut else self.new)]


def names(items: Iterable[Item | Delivery]) -> str:
    """Name records for a complaint."""
    return ", ".join(_text(each.body) for each in items) or "nothing"


def _text(body: bytes) -> str:
    return body.decode(errors="replace").rstrip()
