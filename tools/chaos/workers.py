"""Worker processes of one group that are killed, some of them by messages."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, final

import anyio

from flexiflow import EventBus
from flexiflow.extras.durable import RedisTransport, SqliteTransport, open_bridge
from tools.chaos.ledger import (
    BACKENDS,
    NAME,
    Census,
    Ledger,
    Result,
    all_settled,
    dead_letters,
    look,
)
from tools.chaos.load import publish
from tools.chaos.processes import Victim, prepare
from tools.chaos.servers import connections_left
from tools.chaos.worker import GROUP, READY, Task, be_a_worker
from tools.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import Generator

    from flexiflow.extras.durable import Transport
    from tools.chaos.load import Plan
    from tools.redis_server import RedisServer

_PUBLISHERS: Final = 50
_POISON: Final = 5_000
"""Of so many messages, one raises and one kills its worker."""


@contextmanager
def place(mode: str) -> Generator[tuple[Transport, str, RedisServer | None]]:
    """Yield a transport of a kind, its address, and its server, if it has one."""
    if mode == "Redis":
        with redis_server() as server:
            yield RedisTransport(server.url), server.url, server
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "workers.db"))
            yield SqliteTransport(path), path, None


async def kill_workers(
    backend: str,
    mode: str,
    plan: Plan,
    fault: str = "",
    *,
    lease: float = 2.0,
    count: int = 4,
) -> Result:
    """Kill worker processes, of both backends in turn, in one group.

    Args:
        backend: what this runs on, for the result.
        mode: "Redis" or "SQLite".
        plan: how much of all.
        fault: a fault that workers have, to show that it is found.
        lease: after how many seconds of silence a worker counts as dead.
        count: how many workers there are at a time.
    """
    begun, ledger = time.monotonic(), Ledger()
    result = Result("workers killed", backend, mode)
    with place(mode) as (transport, address, server):
        # The server that forks stays, with its descriptors, so it is not a leak.
        prepare(be_a_worker)
        census = Census.take()
        task = Task(address, fault, lease)
        await _Crowd(task, ledger, result, plan).run(transport, count)
        entries = await look(transport, result, [GROUP])
        dead = await dead_letters(transport, GROUP)
        result.leaks += await census.leaks()
        if server is not None:
            result.leaks += await connections_left(server)
    poison = [each.message for each in entries if each.message[0] != "healthy"]
    ledger.judge(result, entries, [GROUP], poison, dead)
    result.seconds = time.monotonic() - begun
    return result


@final
class _Crowd:
    """Several workers, each of which is replaced when it dies."""

    def __init__(self, task: Task, ledger: Ledger, result: Result, plan: Plan) -> None:
        self._task = task
        self._ledger = ledger
        self._result = result
        self._plan = plan
        self._random = Random(plan.messages)
        self._backends = cycle(BACKENDS)
        self._workers: set[Victim] = set()
        self._ready: list[Victim] = []
        messages = [(kind_of(each, plan.messages), each) for each in range(plan.messages)]
        self._healthy = sum(kind == "healthy" for kind, _ in messages)
        self._messages = iter(messages)
        self._ends = False
        self._killing = anyio.CancelScope()

    async def run(self, transport: Transport, count: int) -> None:
        """Publish, handle and kill, until all messages are handled or nothing happens any more."""
        bus, ledger = EventBus(on_error="raise"), self._ledger
        async with open_bridge(bus, transport, outgoing=[NAME]), anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(self._keep_one)
            for _ in range(_PUBLISHERS):
                tasks.start_soon(self._publish, bus)
            tasks.start_soon(self._kill)
            if not await ledger.pulse.until(self._is_done, self._plan.patience):
                self._result.stalled = True
            if not await all_settled(transport, [GROUP], self._plan.patience):
                self._result.stalled = True
            self._ends = True
            # It may wait for messages that a worker took with it.
            self._killing.cancel()
            for each in self._workers:
                each.tell()

    def _is_done(self) -> bool:
        handled = len(self._ledger.handled.get(GROUP, ()))
        return handled >= self._healthy and self._result.kills >= self._plan.kills

    async def _publish(self, bus: EventBus) -> None:
        for message in self._messages:
            await publish(bus, message, self._ledger)

    async def _kill(self) -> None:
        plan, ledger, result = self._plan, self._ledger, self._result
        handled = ledger.handled.setdefault(GROUP, Counter())
        with self._killing:
            for turn in range(plan.kills):
                goal = (turn + 1) * plan.messages // (plan.kills + 2)
                await ledger.reached(handled, goal)
                await ledger.reached(self._ready, 1)
                victim = self._random.choice(self._ready)
                self._ready.remove(victim)
                victim.kill()
                result.kills += 1
                plan.tell(f"{turn + 1}/{plan.kills} kills, {len(handled):,} handled")

    async def _keep_one(self) -> None:
        while not self._ends:
            worker = Victim(be_a_worker, next(self._backends), self._task)
            self._workers.add(worker)
            await worker.listen(partial(self._note, worker))
            if worker in self._ready:
                self._ready.remove(worker)
            self._workers.remove(worker)
            worker.join()

    def _note(self, worker: Victim, report: bytes) -> None:
        """Note that a worker is ready, or the message that it has handled."""
        if report == READY:
            self._ready.append(worker)
            self._ledger.pulse.beat()
        else:
            self._ledger.handle(GROUP, tuple(json.loads(report)))


def kind_of(number: int, messages: int) -> str:
    """Return the effect of a message on its handler: none, raise, or kill its process."""
    step = min(messages, _POISON)
    return {step // 3: "raises", 2 * step // 3: "kills"}.get(number % step, "healthy")
