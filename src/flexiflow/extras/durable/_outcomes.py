"""What becomes of the records that a worker was given; `_transport` explains the words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras.durable._records import Failure


class Acknowledged(NamedTuple):
    """The record was handled, and is no longer pending.

    Example:
        >>> from flexiflow.extras.durable import Acknowledged
        >>> print(Acknowledged("17"))
        Acknowledged(position='17')
    """

    position: str


class Noted(NamedTuple):
    """The record is still held, with these counts from now on.

    Example:
        >>> from flexiflow.extras.durable import Noted
        >>> print(Noted("17", attempts=1, deliveries=1))
        Noted(position='17', attempts=1, deliveries=1)
    """

    position: str
    attempts: int
    deliveries: int


class Returned(NamedTuple):
    """The record is no longer held: any worker, this one too, may be given it, with these counts.

    A record that has waited waits again, and is due at once. Whether other workers may be given it
    before this lease ends is up to the transport.

    Example:
        >>> from flexiflow.extras.durable import Returned
        >>> print(Returned("17", attempts=0, deliveries=0))
        Returned(position='17', attempts=0, deliveries=0)
    """

    position: str
    attempts: int
    deliveries: int


class Buried(NamedTuple):
    """The record is no longer pending, and is a dead letter of its group (X3).

    Example:
        >>> from flexiflow.extras.durable import Buried, Failure
        >>> buried = Buried("17", 30, 1, Failure("ValueError", "negative total", traceback=""))
        >>> print(buried.position, buried.failure.message)
        17 negative total
    """

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

    Example:
        >>> from flexiflow.extras.durable import Postponed
        >>> print(Postponed("17", attempts=1, deliveries=0, delay=2.0, key="A7"))
        Postponed(position='17', attempts=1, deliveries=0, delay=2.0, key='A7')
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

    Example:
        >>> from flexiflow.extras.durable import Followed
        >>> print(Followed("A7"))
        Followed(key='A7')
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
        over: those keys of `Followed` whose records no longer wait by this lease.

    Example:
        >>> from flexiflow.extras.durable import Settled
        >>> answer = Settled(lost=("17",))
        >>> print(answer.lost, answer.over)
        ('17',) ()
    """

    lost: Sequence[str] = ()
    over: Sequence[str] = ()
