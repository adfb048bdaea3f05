"""The members of groups on Redis servers, and what the groups take (X15)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, final

from flexiflow.extras._redis.script import digest_of
from flexiflow.extras.durable._membership import Agreement, Peer, agree
from flexiflow.extras.durable._redis.entries import milliseconds
from flexiflow.extras.durable._redis.scripts import JOIN, LEAVE, PATTERNS
from flexiflow.extras.durable._redis.starts import kept, parse, restore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras.durable._records import Member
    from flexiflow.extras.durable._redis.network import Network
    from flexiflow.extras.durable._redis.starts import Beginning, Starts

_NO_SEAT: Final = b"", Agreement((), [])


@final
class Members:
    """Joins groups, and leaves them.

    Args:
        network: the servers.
        partitions: how many partitions there are.
        starts: finds where new groups begin.
    """

    def __init__(self, network: Network, partitions: int, starts: Starts) -> None:
        self._network = network
        self._partitions = partitions
        self._starts = starts
        # The number of the members' state that was last seen, and what they agree on in that state.
        self._seats: dict[Member, tuple[bytes, Agreement]] = {}
        # By group: the generation of its patterns that the partitions were told of, and how many
        # losses had been seen by then.
        self._told: dict[str, tuple[bytes, int]] = {}

    async def join(self, member: Member) -> Sequence[str]:
        """Become a member of a group, or stay one; see `Connection.join`."""
        seen, agreement = self._seats.pop(member, _NO_SEAT)
        start = parse("oldest", self._partitions)
        while True:
            status, *answer = await self._network.run(
                0,
                JOIN,
                member.group,
                member.consumer,
                member.token,
                milliseconds(member.lease),
                json.dumps(member.patterns),
                seen,
                digest(agreement.patterns),
                *start.in_partition(0),
                kept(start),
            )
            if status == b"OK":
                break
            seen, agreement = _NO_SEAT
            if status == b"LOOK":
                # The members have changed: compute from them what all agree on, and try again.
                seen, peers, is_there = answer
                agreement = agree(member, map(_peer, peers))
                if not is_there:
                    start = await self._starts.check(member.group, member.start)
        state, generation, text, made, replay = answer
        self._network.epochs.enter(member.group)
        start = restore(text, made, self._partitions)
        await self._tell(member.group, agreement.patterns, generation, replay, start)
        self._seats[member] = state, agreement
        return agreement.consumers

    async def _tell(
        self,
        group: str,
        patterns: Sequence[str],
        generation: bytes,
        replay: bytes,
        start: Beginning,
    ) -> None:
        """Store in the other partitions what a group takes, before they give it anything (X15).

        Where the group is not there yet, it is made, and begins where its first member said.
        """
        told = generation, self._network.epochs.losses
        if self._told.get(group) != told:
            for partition in range(1, self._partitions):
                begin = *start.in_partition(partition), start.epochs[partition]
                facts = group, digest(patterns), generation, replay
                await self._network.run(partition, PATTERNS, *facts, *begin)
            self._told[group] = told

    async def leave(self, member: Member) -> None:
        """Stop being a member; see `Connection.leave`."""
        self._seats.pop(member, None)
        await self._network.run(0, LEAVE, member.group, member.consumer, member.token)
        self._network.epochs.leave(member.group)

    def forget(self, group: str) -> None:
        """Forget that the partitions were told of a group."""
        self._told.pop(group, None)


def digest(patterns: Sequence[str]) -> str:
    """Return a text that is the same for the same patterns."""
    return digest_of(json.dumps(patterns).encode())


def _peer(answer: Sequence[bytes]) -> Peer:
    consumer, token, patterns = answer
    return Peer(consumer.decode(), token.decode(), tuple(json.loads(patterns)))
