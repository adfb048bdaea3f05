"""What becomes of the records that a worker was given; `_transport` explains the words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras.durable._records import Failure


class Acknowledged(NamedTuple):
    """The record was handled, and is no longer pending."""

    position: str


class Noted(NamedTuple):
    """The record is still held, with these counts from now on."""

    position: str
    attempts: int
    deliveries: int


class Returned(NamedTuple):
    """The record is no longer held: any worker, this one too, may be given it, with these counts.

    A record that has waited waits again, and is due at once. Whether other workers may be given it
    before this lease ends is up to the transport.
    """

    position: str
    attempts: int
    deliveries: int


class Buried(NamedTuple):
    """The record is no longer pending, and is a dead letter of its group (X3)."""

    position: str
    attempts: int
    deliveries: int
    failure: Failure


class Postponed(NamedTuple):
    """The record waits, with its body, outside the log, to be given again with these counts (X12).

    While the lease that postponed it lasts, only that lease is given it; after that any is. The
    records of one key that wait by one lease form a line, in the order of their positions.

    Attributes:
        position: see `Delivery`.
        attempts: as in `Delivery`.
        deliveries: as in `Delivery`; 0 if no attempt is under way.
        delay: the seconds until it is due; None to wait in its key's line until the record before
            it is acknowledged or buried. If no record of that key waits, nor one is held that has
            waited, it is due at once.
        key: the event's key, or None.
    """

    position: str
    attempts: int
    deliveries: int
    delay: float | None
    key: str | None


class Followed(NamedTuple):
    """Asks whether records of a key still wait by this lease (X12); `Settled.over` is the answer.

    The first record of the key's line becomes due now, unless another record of the key has a due
    time, or is held after having waited. So asking again changes nothing.
    """

    key: str


Settling: TypeAlias = Acknowledged | Noted | Returned | Buried | Postponed
"""The outcome of a record."""


Outcome: TypeAlias = Settling | Followed


class Settled(NamedTuple):
    """The answer to `Lease.settle`.

    Attributes:
        lost: the positions of records whose outcomes were not written, since another lease holds
            them by now.
        over: the keys of `Followed` of which no record waits by this lease any more.
    """

    lost: Sequence[str] = ()
    over: Sequence[str] = ()
