"""Kills processes that schedule and cancel events, or the server that they use (Y3).

What the processes report to this one tells what has to be: each event whose `schedule` returned is
handed out, unless its `cancel` said True; none before its time, and those of a key in the order of
their times.
"""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, final

import anyio
from anyio import to_thread

from flexiflow.extras.durable import TransportUnavailable, transport_from_url
from tools.chaos.clerk import GROUP, Duty, be_a_clerk
from tools.chaos.ledger import BACKENDS, Result, all_settled, dead_letters, entry_of, look
from tools.chaos.processes import Victim, prepare
from tools.chaos.timetable import Timetable
from tools.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from flexiflow.extras.durable import Connection
    from tools.chaos.load import Plan
    from tools.redis_server import RedisServer

BOTH: Final = "both"
_PARTITIONS: Final = 2
"""With partitions a key keeps its order across processes."""
_OPTIONS: Final = f"partitions={_PARTITIONS}&idempotency_window=86400"
_CLERKS: Final = 2
_MOST_SAID: Final = 30
_STARTING: Final = 20.0
"""The seconds that a process has for its first word, however short the patience is."""
_LONG: Final = 20.0
_INTERVAL: Final = 0.05
_GLANCE: Final = 0.005
_PAGE: Final = 1_000


async def kill_scheduled(backend: str, mode: str, plan: Plan, fault: str = "") -> Result:
    """Kill processes that schedule, cancel and handle events, or the server of theirs.

    Args:
        backend: the backend that the processes run on; "both" for one after the other.
        mode: "SQLite", where processes are killed, or "Redis", where the server is.
        plan: how often to kill.
        fault: a fault that their transport has, to show that it is found.
    """
    begun, result = time.monotonic(), Result("scheduled", backend, mode)
    with _place(mode) as (url, server):
        prepare(be_a_clerk)
        timetable = Timetable()
        await _Office(Duty(url, fault), timetable, result, plan).run(server)
        transport = transport_from_url(url)
        entries = await look(transport, result, [GROUP], partitions=_PARTITIONS)
        timetable.judge(result, entries, await dead_letters(transport, GROUP))
    result.seconds = time.monotonic() - begun
    return result


@contextmanager
def _place(mode: str) -> Generator[tuple[str, RedisServer | None]]:
    """Yield the URL of a transport, and its server if that is to be killed."""
    if mode == "Redis":
        with redis_server(appendfsync="always") as server:
            yield f"{server.url}?{_OPTIONS}", server
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:{Path(folder, 'events.db')}?{_OPTIONS}", None


@final
class _Office:
    """Several clerks at one transport, each of which is replaced when it ends."""

    def __init__(self, duty: Duty, timetable: Timetable, result: Result, plan: Plan) -> None:
        self._duty = duty
        self._timetable = timetable
        self._result = result
        self._plan = plan
        self._random = Random(plan.kills)
        self._backends = cycle(BACKENDS if result.backend == BOTH else [result.backend])
        self._clerks: list[Victim] = []
        self._is_open = True
        self._watching = anyio.CancelScope()

    async def run(self, server: RedisServer | None) -> None:
        """Kill clerks, or the server, and then let all that was scheduled be handled."""
        transport = transport_from_url(self._duty.url)
        async with transport.connect() as connection, anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, connection)
            for _ in range(_CLERKS):
                tasks.start_soon(self._keep_one)
            await self._kill(server)
            await self._finish(connection)
            if not await all_settled(transport, [GROUP], self._plan.patience):
                self._result.stalled = True
            self._is_open = False
            self._watching.cancel()
            for each in self._clerks:
                each.tell()

    async def _watch(self, connection: Connection) -> None:
        """Note when events get into their logs, since to hand them out takes a clerk longer."""
        positions: Sequence[str] = ["0"] * _PARTITIONS
        with self._watching:
            while True:
                # A server that was killed is there again soon.
                await anyio.sleep(_GLANCE)
                with suppress(TransportUnavailable):
                    found, positions = await connection.tail(positions, _PAGE, _LONG)
                    now = time.time()
                    for each in found:
                        self._timetable.see(entry_of(each.body).message[0], now)

    async def _keep_one(self) -> None:
        while self._is_open:
            clerk = Victim(be_a_clerk, next(self._backends), self._duty)
            self._clerks.append(clerk)
            await clerk.listen(self._note)
            clerk.join()
            self._clerks.remove(clerk)
            self._timetable.pulse.beat()

    def _note(self, report: bytes) -> None:
        self._timetable.note(*json.loads(report))

    async def _kill(self, server: RedisServer | None) -> None:
        """Kill the oldest clerk, or the server, again and again, in the midst of what it does."""
        plan, timetable = self._plan, self._timetable
        for turn in range(plan.kills):
            await timetable.pulse.until(lambda: self._is_staffed(server))
            oldest = self._clerks[0]
            goal = oldest.words + self._random.randint(1, _MOST_SAID)
            patience = max(plan.patience, _STARTING)
            if not await timetable.pulse.until(lambda: oldest.words >= goal, patience):  # noqa: B023  it is called within this turn
                self._result.stalled = True
                return
            await anyio.sleep(self._random.random() * _INTERVAL)
            if server is None:
                oldest.kill()
                await timetable.pulse.until(lambda: oldest not in self._clerks)  # noqa: B023  as above
            else:
                await to_thread.run_sync(server.restart)
            self._result.kills += 1
            plan.tell(f"{turn + 1}/{plan.kills} kills, {len(timetable.booked):,} scheduled")

    def _is_staffed(self, server: RedisServer | None) -> bool:
        """Return whether all clerks are there; to open a bridge they need a server that stays."""
        return len(self._clerks) == _CLERKS and (
            server is None or all(each.words for each in self._clerks)
        )

    async def _finish(self, connection: Connection) -> None:
        """Let no more be scheduled, and wait until all is handled, or nothing happens any more."""
        timetable, patience = self._timetable, self._plan.patience
        self._duty = self._duty._replace(is_scheduling=False)
        schedulers = self._clerks.copy()
        for each in schedulers:
            each.tell()
        await timetable.pulse.until(lambda: not set(schedulers) & set(self._clerks))
        # A clerk was killed before it reported the answer; it is the same if one asks again.
        for number, ticket in list(timetable.asked.items()):
            timetable.note("answered", number, await connection.cancel(ticket))
        if not await timetable.pulse.until(lambda: not timetable.awaited, patience):
            self._result.stalled = True
        # One that no clerk has reported may be due only now: its call was cancelled, or killed.
        while await connection.scheduled(limit=1):  # noqa: ASYNC110  nobody tells when it is due
            await anyio.sleep(_INTERVAL)
