"""Worker processes of one group that are killed, some of them by messages."""

from __future__ import annotations

import json
import multiprocessing
import signal
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import cycle
from multiprocessing import forkserver
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, final

import anyio

from flexiflow import EventBus
from flexiflow.extras.durable import RedisTransport, SqliteTransport, open_bridge
from tools.chaos.ledger import NAME, Census, Ledger, Result, all_settled, dead_letters, look
from tools.chaos.load import publish
from tools.chaos.servers import connections_left
from tools.chaos.worker import GROUP, READY, Task, be_a_worker
from tools.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import Generator
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerProcess

    from flexiflow.extras.durable import Transport
    from tools.chaos.load import Plan
    from tools.redis_server import RedisServer

_PROCESSES: Final = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([be_a_worker.__module__])
_PUBLISHERS: Final = 50
_ENDING: Final = 20.0
"""After so many seconds a worker that has closed its connection should have ended."""
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
        # The fork server stays, with its descriptors, so it is not a leak.
        forkserver.ensure_running()
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
        self._backends = cycle(["asyncio", "trio"] if find_spec("trio") else ["asyncio"])
        self._ready: list[ForkServerProcess] = []
        self._endings: set[Connection[bytes, bytes]] = set()
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
            for each in self._endings:
                each.close()

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
            said, says = _PROCESSES.Pipe(duplex=False)
            hears, ending = _PROCESSES.Pipe(duplex=False)
            arguments = (next(self._backends), self._task, says, hears)
            # One that does not end is not waited for at the end of this process either.
            process = _PROCESSES.Process(target=be_a_worker, args=arguments, daemon=True)
            process.start()
            says.close()
            hears.close()
            self._endings.add(ending)
            with said, ending:
                await self._listen(process, said)
            self._endings.remove(ending)
            # The worker's reports end with the worker, or shortly before.
            process.join(_ENDING)
            code = process.exitcode
            assert code is not None, f"a worker has not ended in {_ENDING} seconds"
            process.close()
            assert code in {0, -signal.SIGKILL}, f"a worker ended by itself, with {code}"

    async def _listen(self, process: ForkServerProcess, said: Connection[bytes, bytes]) -> None:
        """Note the messages that a worker reports as handled, until it ends."""
        with suppress(EOFError):
            while True:
                await anyio.wait_readable(said)
                word = said.recv_bytes()
                if word == READY:
                    self._ready.append(process)
                    self._ledger.pulse.beat()
                else:
                    self._ledger.handle(GROUP, tuple(json.loads(word)))
        if process in self._ready:
            self._ready.remove(process)


def kind_of(number: int, messages: int) -> str:
    """Return the effect of a message on its handler: none, raise, or kill its process."""
    step = min(messages, _POISON)
    return {step // 3: "raises", 2 * step // 3: "kills"}.get(number % step, "healthy")
