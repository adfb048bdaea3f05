"""A worker's lease of a log in the SQLite transport's file: the methods that a bridge calls."""

from __future__ import annotations

from itertools import accumulate
from time import time
from typing import TYPE_CHECKING, Final, NamedTuple, final

import anyio
from anyio.lowlevel import checkpoint

from flexiflow.extras.durable._outcomes import Acknowledged, Noted
from flexiflow.extras.durable._records import Room
from flexiflow.extras.durable._sqlite import giving, leases
from flexiflow.extras.durable._sqlite.settling import settle

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from flexiflow.extras._sqlite.jobs import JobRunner
    from flexiflow.extras.durable._bell import Bell
    from flexiflow.extras.durable._outcomes import Outcome, Settled
    from flexiflow.extras.durable._records import Delivery
    from flexiflow.extras.durable._sqlite.held import HeldLease

_QUIET: Final = frozenset((Acknowledged, Noted))
"""The outcomes after which there is nothing more to receive, so that nobody need be woken."""


class _Outlook(NamedTuple):
    """What a lease saw when it looked for something to receive.

    Attributes:
        due: when there may be something, as the event loop's clock tells it.
        rung: set if there may be something before.
    """

    due: float
    rung: anyio.Event


@final
class SqliteLease:
    """A lease, as `Lease` describes it.

    Args:
        jobs: does what the lease wants from the file.
        bell: wakes it.
        held: the lease as the file knows it.
        interval: the seconds between looks for what other processes have done.
        max_event_bytes: how many bytes a body may have.
    """

    def __init__(
        self,
        jobs: JobRunner,
        bell: Bell,
        held: HeldLease,
        interval: float,
        max_event_bytes: int,
    ) -> None:
        self.partition = held.partition
        self.token = held.token
        self.lines = held.lines
        self.replay = held.replay
        self._jobs = jobs
        self._bell = bell
        self._held = held
        self._interval = interval
        self._max_event_bytes = max_event_bytes
        self._room = Room(1)
        self._seen = _Outlook(0, self._bell.rung)
        # Records that were given to a call which was cancelled; a later call takes them.
        self._given: list[Delivery] = []

    async def receive(self, room: Room) -> Sequence[Delivery]:
        self._room = room
        if self._given:
            # If the lease has run out since, others may have been given some of them.
            self._given[:] = await self._jobs.read(
                lambda db: giving.still_held(db, self._held, self._given)
            )
        else:
            await self._give(room)
        # An earlier call, which was cancelled, may have been given some in the meantime.
        return self._take(_fitting(self._given, room))

    async def _give(self, room: Room) -> None:
        look = self._looking(room)
        await self._jobs.write_where_wanted(
            lambda db: not self._given and look(db),
            lambda db: giving.give(db, self._held, room, self._max_event_bytes, time()),
            self._given.extend,
        )

    def _looking(self, room: Room) -> Callable[[sqlite3.Connection], bool]:
        """Return a function that looks whether there is something to receive, and notes when.

        It runs in the thread. A record that comes after `_looking` was called sets the bell that is
        noted, so that `wait` does not sleep through it.
        """
        now, rung = anyio.current_time(), self._bell.rung

        def look(db: sqlite3.Connection) -> bool:
            ahead = giving.ahead(db, self._held, room, time())
            self._seen = _Outlook(now + ahead, rung)
            return ahead <= 0

        return look

    def _take(self, count: int) -> Sequence[Delivery]:
        taken, self._given[:count] = self._given[:count], []
        return taken

    async def wait(self, seconds: float) -> None:
        await checkpoint()
        until = anyio.current_time() + seconds
        while not self._given:
            due, rung = self._seen
            left = min(due, until) - anyio.current_time()
            if left <= 0:
                return
            with anyio.move_on_after(min(left, self._interval)):
                await rung.wait()
                if not self._held.is_exclusive:
                    # Most likely it is for this log: `receive` looks, and takes it in one turn.
                    return
            await self._jobs.read(self._looking(self._room))

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        # A record that was let go may be given to others, or to this lease again.
        rings = not _QUIET.issuperset(map(type, outcomes))
        settled = await self._jobs.write(
            lambda db: settle(db, self._held, outcomes, time()), rings=rings
        )
        if settled is None:
            raise leases.lost(self._held)
        return settled

    async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
        return await self._jobs.write(lambda db: leases.renew(db, self._held, positions, time()))

    async def release(self) -> None:
        await self._jobs.write(lambda db: leases.release(db, self._held, self._given), rings=True)


def _fitting(given: Sequence[Delivery], room: Room) -> int:
    """Return how many of the first deliveries there is room for."""
    sizes = accumulate(len(each.body) for each in given[: room.records])
    return sum(size <= room.size for size in sizes)
