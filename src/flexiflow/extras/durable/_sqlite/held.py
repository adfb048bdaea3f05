"""Leases in the SQLite transport's file, as their workers and others know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flexiflow.extras.durable._sqlite.schema import end_of, first_of

if TYPE_CHECKING:
    from flexiflow.extras.durable._records import Member


class HeldLease(NamedTuple):
    """A lease, as its worker knows it.

    Attributes:
        member: the worker.
        patterns: the member's patterns, as they are written in the file.
        group: the group's id.
        partition: the partition.
        token: its number, greater than those of all leases before.
        is_exclusive: whether there is only one lease of a partition at a time.
        replay: the number of the group's last replay when it began; see `groups.replay`.
        lines: if it is exclusive, the keys of which records waited when it began.
    """

    member: Member
    patterns: str
    group: int
    partition: int
    token: int
    is_exclusive: bool
    replay: int = 0
    lines: frozenset[str] = frozenset()

    @property
    def span(self) -> tuple[int, int, int]:
        """The group's id, and the lowest and highest number of the partition, for queries."""
        return self.group, first_of(self.partition), end_of(self.partition)

    @property
    def owner(self) -> int:
        """The number by which this lease's records wait: its token, which is 1 or more.

        If the lease is exclusive it stands for the partition, and is negative: then the records
        belong to any later lease, too.
        """
        return -1 - self.partition if self.is_exclusive else self.token

    def number(self, position: str) -> int:
        """Return the number of the record at a position."""
        return first_of(self.partition) + int(position)


class LeaseState(NamedTuple):
    """How far a group is in a partition, and how the lease that asks stands.

    Attributes:
        is_over: whether the lease had run out and its records were freed.
        patterns: the patterns that the group takes, as they are written in the file.
        given: the position up to which records were given to workers.
        waiting: how many records wait, or are out after having waited.
        passed: the highest position that the group passes over; 0 if there is none.
    """

    is_over: bool
    patterns: str
    given: int
    waiting: int
    passed: int


class OtherLease(NamedTuple):
    """Another lease of the same partition.

    Attributes:
        token: its number.
        ends: in how many seconds it runs out; 0 or less if it has.
        is_over: whether its records were freed, since it had run out or was released.
    """

    token: int
    ends: float
    is_over: bool
