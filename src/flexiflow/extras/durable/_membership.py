"""Which workers may join a group, which patterns it takes, and who reads what (X4, X15)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from flexiflow.extras.durable._errors import ConsumerInUse, GroupMismatch
from flexiflow.extras.durable._patterns import includes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flexiflow.extras.durable._records import Member

KEPT_FOR: Final = 600.0
"""For how many seconds a lease that has run out and holds nothing is kept, so that its worker can
still report which of its attempts have ended (X11)."""


class Peer(NamedTuple):
    """A member that is alive, as others see it; for the attributes see `Member`."""

    consumer: str
    token: str
    patterns: tuple[str, ...]


class Agreement(NamedTuple):
    """What the members of a group agree on.

    Attributes:
        patterns: the patterns that the group takes: those that include all others.
        consumers: the names of the members that take them, sorted; the others stand by.
    """

    patterns: tuple[str, ...]
    consumers: list[str]


def agree(member: Member, peers: Iterable[Peer]) -> Agreement:
    """Return what a group takes once a member has joined, or joined again.

    Args:
        member: the member.
        peers: the members that are alive; it may be among them.

    Raises:
        ConsumerInUse: another member has its name.
        GroupMismatch: its patterns neither include those of another member, nor are included in
            them.
    """
    takers = {member.consumer: member.patterns}
    greatest = member.patterns
    for peer in peers:
        if peer.consumer == member.consumer:
            if peer.token != member.token:
                raise ConsumerInUse(member.consumer, member.group)
            continue
        takers[peer.consumer] = peer.patterns
        if peer.patterns == greatest:
            continue
        if not includes(member.patterns, peer.patterns):
            if not includes(peer.patterns, member.patterns):
                raise GroupMismatch(member.group, peer.patterns, member.patterns)
            if includes(peer.patterns, greatest):
                greatest = peer.patterns
    consumers = sorted(name for name, patterns in takers.items() if patterns == greatest)
    return Agreement(greatest, consumers)


def share(partitions: int, consumers: Sequence[str], consumer: str) -> range:
    """Return the partitions that a consumer should lease.

    Consumers that see the same list agree on the shares. Until they do, a lease decides which of
    them reads a partition.

    Args:
        partitions: how many partitions there are.
        consumers: the names of all live consumers, sorted.
        consumer: one of them.
    """
    return range(consumers.index(consumer), partitions, len(consumers))
