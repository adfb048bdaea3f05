"""What a transport in memory holds, shared by its connections and leases."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, final
from uuid import uuid4

import anyio

from flexiflow._clock import time_of_day
from flexiflow.extras.durable._bell import Bell
from flexiflow.extras.durable._errors import LogFull
from flexiflow.extras.durable._memory.log import Log
from flexiflow.extras.durable._memory.producers import Producers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexiflow.extras.durable._logs import LogLimits
    from flexiflow.extras.durable._memory.group import Group


@final
class State:
    """Logs, groups and producers.

    Args:
        limits: the limits of the transport.

    Attributes:
        address: where the transport is.
        name: tells it from all others, in tickets.
        logs: the logs.
        groups: the groups, by name.
        producers: the last batch of each producer.
        tokens: yields the token of the next lease.
        turns: yields a number for each ticket without a key, by which they are spread.
        bell: wakes those who wait for records.
    """

    __slots__ = (
        "_max_length",
        "_replay",
        "address",
        "bell",
        "groups",
        "logs",
        "name",
        "producers",
        "tokens",
        "turns",
    )

    def __init__(self, limits: LogLimits) -> None:
        self._max_length = limits.max_length
        self._replay = 0
        self.address = "memory"
        self.name = f"memory{uuid4().hex[:12]}"
        self.logs = [Log(partition, limits.window) for partition in range(limits.logs)]
        self.groups: dict[str, Group] = {}
        self.producers = Producers(limits.window)
        self.tokens = count(1)
        self.turns = count()
        self.bell = Bell()

    def now(self) -> float:
        """Return the time by the clock with which leases are measured."""
        return anyio.current_time()

    def new_replay(self) -> int:
        """Return the number of a new replay: greater than all before, also of other groups (Y5)."""
        self._replay = max(self._replay + 1, int(time_of_day() * 1_000_000))
        return self._replay

    def put_due(self, partitions: Iterable[int] | None = None) -> float:
        """Put the scheduled records that are due into their logs, and return the time of day.

        Args:
            partitions: the partitions to look at; None for all.
        """
        today = time_of_day()
        logs = self.logs if partitions is None else (self.logs[each] for each in partitions)
        if sum(log.put_due(today) for log in logs):
            self.bell.ring()
        return today

    def due_in(self, partitions: Iterable[int] | None = None) -> float:
        """Return in how many seconds the next scheduled record is due."""
        logs = self.logs if partitions is None else (self.logs[each] for each in partitions)
        return min(log.schedule.next_at for log in logs) - time_of_day()

    def make_room(self, partition: int, wanted: int, today: float) -> None:
        """Delete records that every group has settled, if there is no room for more.

        Args:
            partition: the partition.
            wanted: how many more records are to be stored.
            today: the time of day.

        Raises:
            LogFull: there are too few of them; nothing was deleted.
        """
        log = self.logs[partition]
        readings = (group.readings[partition] for group in self.groups.values())
        floor = min((each.floor for each in readings), default=log.last)
        if not log.make_room(len(log.records) + wanted - self._max_length, floor, today):
            raise LogFull(self.address, self._max_length)
