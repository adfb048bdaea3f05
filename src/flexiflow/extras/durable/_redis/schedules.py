"""Scheduled records on Redis servers (Y3); `Connection` describes what is done to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from flexiflow.extras.durable._errors import ScheduleFull
from flexiflow.extras.durable._logs import PAGE_BYTES, check_record
from flexiflow.extras.durable._records import Record, ScheduledRecord
from flexiflow.extras.durable._redis.entries import milliseconds
from flexiflow.extras.durable._redis.letters import fitting
from flexiflow.extras.durable._redis.scripts import CANCEL, SCHEDULE, SCHEDULED, TICKETS
from flexiflow.extras.durable._tickets import partition_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras.durable._logs import LogLimits
    from flexiflow.extras.durable._redis.network import Network

_MOST: Final = 1000
"""The most tickets that a server chooses in one go."""


@final
class Schedules:
    """The scheduled records.

    Args:
        network: the servers.
        limits: the limits of the logs.
        replicas: how many replicas must confirm what is written.
    """

    def __init__(self, network: Network, limits: LogLimits, replicas: int) -> None:
        self._network = network
        self._limits = limits
        self._replicas = replicas

    def _partition(self, ticket: str) -> int:
        return partition_of(ticket, self._network.name, self._limits.logs)

    async def add(
        self, ticket: str, record: Record, *, at: float | None, delay: float | None
    ) -> None:
        """Schedule a record; see `Connection.schedule`."""
        partition, limits = self._partition(ticket), self._limits
        check_record(record, limits.max_event_bytes)
        when = ("in", delay) if at is None else ("at", at)
        answer = await self._network.run(
            partition,
            SCHEDULE,
            ticket,
            milliseconds(limits.window),
            limits.max_scheduled,
            *map(str, when),
            record.body,
            *([] if record.key is None else [record.key]),
            replicas=self._replicas,
        )
        if answer[0] == b"FULL":
            raise ScheduleFull(self._network.address, limits.max_scheduled)

    async def cancel(self, ticket: str) -> bool:
        """Delete a scheduled record; see `Connection.cancel`."""
        window = milliseconds(self._limits.window)
        _, is_cancelled = await self._network.run(
            self._partition(ticket), CANCEL, ticket, window, replicas=self._replicas
        )
        return bool(is_cancelled)

    async def read(self, after: ScheduledRecord | None, limit: int) -> Sequence[ScheduledRecord]:
        """Return scheduled records; see `Connection.scheduled`."""
        found: list[ScheduledRecord] = []
        # Others may cancel a whole page meanwhile, but only at the end may the result be empty.
        while not found and (chosen := await self._page(after, min(limit, _MOST))):
            calls: dict[int, list[str]] = {}
            for each in chosen:
                calls.setdefault(self._partition(each), []).append(each)
            answers = await self._network.run_all(SCHEDULED, calls)
            for partition, (_, entries) in answers.items():
                found += [_record(partition, *each) for each in entries]
        return sorted(found, key=lambda each: (each.due, each.ticket))

    async def _page(self, after: ScheduledRecord | None, limit: int) -> list[str]:
        """Choose the records of a page by their sizes, and return their tickets (X14)."""
        found: list[tuple[float, str]] = []
        sizes: dict[str, int] = {}
        calls = {
            partition: (*self._start(after, partition), limit, PAGE_BYTES)
            for partition in range(self._limits.logs)
        }
        for _, entries in (await self._network.run_all(TICKETS, calls)).values():
            for ticket, due, size in entries:
                name = ticket.decode()
                found.append((float(due), name))
                sizes[name] = size
        return fitting([name for _, name in sorted(found)[:limit]], sizes)

    def _start(self, after: ScheduledRecord | None, partition: int) -> tuple[str, str]:
        """Return where to begin in a partition, as `tickets.lua` reads it."""
        if after is None:
            return "", ""
        if after.partition == partition:
            return str(after.due), after.ticket
        # All tickets of a partition begin with the same text.
        is_behind = f"{self._network.name}-{partition}-" > after.ticket
        return str(after.due), "[" if is_behind else "("


def _record(partition: int, *answer: Any) -> ScheduledRecord:
    ticket, due, body, key = answer
    record = Record(body, None if key is None else key.decode())
    return ScheduledRecord(ticket.decode(), partition, float(due), record)
