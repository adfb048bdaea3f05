"""A worker's lease of a log of the transport in memory."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, final

import anyio
from anyio.lowlevel import checkpoint

from flexiflow._clock import time_of_day
from flexiflow.extras.durable._errors import LeaseLost
from flexiflow.extras.durable._outcomes import Buried, Followed, Postponed, Settled
from flexiflow.extras.durable._records import Room

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from flexiflow.extras.durable._logs import LogLimits
    from flexiflow.extras.durable._memory.group import Group
    from flexiflow.extras.durable._memory.readings import Reading
    from flexiflow.extras.durable._memory.state import State
    from flexiflow.extras.durable._outcomes import Outcome, Settling
    from flexiflow.extras.durable._records import Delivery, Member


@final
class MemoryLease:
    """A lease, as `Lease` describes it.

    Args:
        state: what the transport holds.
        limits: the limits of the transport.
        group: the group.
        member: the worker.
        partition: the partition.
        token: the fencing token.
        lines: the keys of which records wait.
    """

    def __init__(
        self,
        state: State,
        limits: LogLimits,
        group: Group,
        member: Member,
        partition: int,
        token: int,
        lines: Collection[str],
    ) -> None:
        self.partition = partition
        self.token = token
        self.lines = lines
        self.replay = group.replay
        self._state = state
        self._limits = limits
        self._of = group
        self._member = member
        # The room of the last `receive`, and the event that is set by the first change after it.
        self._room = Room(1)
        self._seen = state.bell.rung

    async def receive(self, room: Room) -> Sequence[Delivery]:
        await checkpoint()
        reading = self._reading()
        self._state.put_due([self.partition])
        self._room, self._seen = room, self._state.bell.rung
        if not self._is_taker():
            return []
        log, most = self._state.logs[self.partition], self._limits.max_event_bytes
        return reading.give(log, room, self.token, self._state.now(), most=most)

    async def wait(self, seconds: float) -> None:
        await checkpoint()
        deadline = min(self._state.now() + seconds, self._next_at())
        with anyio.CancelScope(deadline=deadline):
            await self._seen.wait()

    def _next_at(self) -> float:
        """Return when there may be something to receive, if nothing changes."""
        reading, log, now = self._reading(), self._state.logs[self.partition], self._state.now()
        if not self._is_taker():
            return inf
        scheduled = now + self._state.due_in([self.partition])
        return min(scheduled, reading.next_at(log, self._room, self.token, now))

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        await checkpoint()
        group, now = self._group(), self._state.now()
        reading, log = group.readings[self.partition], self._state.logs[self.partition]
        lost: list[str] = []
        keys: list[str] = []
        for outcome in outcomes:
            if isinstance(outcome, Followed):
                reading.follow(outcome.key, self.token, now)
                keys.append(outcome.key)
                continue
            is_lost, grave = reading.settle(log, self._clamped(outcome), self.token, now)
            if is_lost:
                lost.append(outcome.position)
            if grave is not None and isinstance(outcome, Buried):
                group.bury(outcome, grave, self.partition, time_of_day())
        self._state.bell.ring()
        # Only now raise if the lease is lost: the ends of its attempts are to be written, too.
        self._reading()
        return Settled(lost, [key for key in keys if reading.is_over(key, self.token)])

    def _clamped(self, outcome: Settling) -> Settling:
        """Return the outcome, with a delay no longer than `longest_delay`."""
        if isinstance(outcome, Postponed) and outcome.delay is not None:
            return outcome._replace(delay=min(outcome.delay, self._member.longest_delay))
        return outcome

    async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
        await checkpoint()
        reading = self._reading()
        reading.leases[self.token] = self._state.now() + self._member.lease
        return reading.lost(positions, self.token)

    async def release(self) -> None:
        await checkpoint()
        self._reading().leases.pop(self.token)
        self._state.bell.ring()

    def _is_taker(self) -> bool:
        return self._member.patterns == self._group().patterns

    def _group(self) -> Group:
        # A new group of the same name knows nothing of this lease, nor does one that began again.
        is_it = self._state.groups.get(self._member.group) is self._of
        if not is_it or self.replay != self._of.replay:
            raise self._lost()
        return self._of

    def _reading(self) -> Reading:
        reading = self._group().readings[self.partition]
        if self.token not in reading.leases:
            raise self._lost()
        return reading

    def _lost(self) -> LeaseLost:
        return LeaseLost(self._member.consumer, self._member.group, self.partition)
