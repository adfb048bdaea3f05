"""What a transport tells of its logs and groups (Y6); `_transport` explains the words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Standing(NamedTuple):
    """How far a group is, over all partitions or in one.

    Attributes:
        pending: how many records were given to workers and are not settled, not counting those that
            wait.
        lag: how many records were stored and not yet given to any worker.
        missed: how many were lost, or deleted before the group had settled them (X6, X13).
        dead: how many dead letters it has.
        waiting: how many records wait for their next attempt, or for others of their key (X12).

    Example:
        >>> from flexiflow.extras.durable import Standing
        >>> parts = [Standing(1, 2, 0, 0), Standing(0, 5, 0, 1)]
        >>> print(Standing.total(parts))
        Standing(pending=1, lag=7, missed=0, dead=1, waiting=0)
    """

    pending: int
    lag: int
    missed: int
    dead: int
    waiting: int = 0

    @classmethod
    def total(cls, parts: Iterable[Standing]) -> Standing:
        """Return the sums of how far a group is in each partition; zeros if there is none."""
        return cls(*map(sum, zip(cls(0, 0, 0, 0), *parts, strict=True)))


class LogSurvey(NamedTuple):
    """One partition, for a person who looks at a transport (Y6).

    Attributes:
        length: how many records its log holds.
        oldest: when the oldest of them was stored, in seconds since 1970; None if there is none, or
            if that is not known.
        scheduled: how many records wait for their time.
        size: how many bytes its records take, roughly; None if the transport can't tell quickly.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import MemoryTransport
        >>> async def main():
        ...     async with MemoryTransport().connect() as connection:
        ...         for log in (await connection.survey()).logs:
        ...             print(log.length, log.oldest, log.scheduled)
        >>> anyio.run(main)
        0 None 0
    """

    length: int
    oldest: float | None
    scheduled: int
    size: int | None


class MemberSurvey(NamedTuple):
    """A live member of a group (Y6).

    Attributes:
        consumer: its name.
        patterns: the patterns of the events that it takes, in the form that `canonical` returns.
        until: when it counts as dead unless it is heard of again, in seconds since 1970.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import Member, MemoryTransport
        >>> async def main():
        ...     async with MemoryTransport().connect() as connection:
        ...         member = Member("billing", "worker-1", "token", ("**",), lease=30.0)
        ...         await connection.join(member)
        ...         [group] = (await connection.survey()).groups
        ...         print([(member.consumer, member.patterns) for member in group.members])
        >>> anyio.run(main)
        [('worker-1', ('**',))]
    """

    consumer: str
    patterns: tuple[str, ...]
    until: float


class GroupSurvey(NamedTuple):
    """A group (Y6).

    Attributes:
        name: the group's name.
        members: its live members, sorted by name.
        standings: how far it is in each partition; the dead letters are counted in the partition
            from which they came.
        oldest: when the oldest record that the group has not settled was stored, in seconds since
            1970; None if there is none, or if that is not known.
        replay: a number that grows with each replay, and with each new group of that name; to
            compare, not to count (Y5).

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import Member, MemoryTransport
        >>> async def main():
        ...     async with MemoryTransport().connect() as connection:
        ...         member = Member("billing", "worker-1", "token", ("**",), lease=30.0)
        ...         await connection.join(member)
        ...         for group in (await connection.survey()).groups:
        ...             print(group.name, group.standings)
        >>> anyio.run(main)
        billing (Standing(pending=0, lag=0, missed=0, dead=0, waiting=0),)
    """

    name: str
    members: tuple[MemberSurvey, ...]
    standings: tuple[Standing, ...]
    oldest: float | None
    replay: int


class Survey(NamedTuple):
    """What a person wants to see of a transport; its parts may be of different moments (Y6).

    Attributes:
        now: the transport's clock, in seconds since 1970.
        logs: the partitions.
        groups: the groups, sorted by name.
        size: how many bytes the whole transport takes, roughly; None if it can't tell.

    Example:
        >>> import anyio
        >>> from flexiflow.extras.durable import Batch, MemoryTransport, Record
        >>> async def main():
        ...     async with MemoryTransport(partitions=2).connect() as connection:
        ...         await connection.store(Batch("shop-1", 1, (Record(b"{}"),)))
        ...         survey = await connection.survey()
        ...         print(sum(log.length for log in survey.logs), survey.groups)
        >>> anyio.run(main)
        1 ()
    """

    now: float
    logs: tuple[LogSurvey, ...]
    groups: tuple[GroupSurvey, ...]
    size: int | None
