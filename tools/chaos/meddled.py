"""A process that copies the file that it has open, or that is forked.

It publishes before and afterwards, and reports on standard output the confirmed messages and the
number of failed publishes. Whenever it could matter, another process opens the file and closes it
again.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final
from unittest.mock import patch

import anyio
from anyio import to_thread

from flexiflow import EventBus
from flexiflow.extras._sqlite import file as files
from flexiflow.extras._sqlite import jobs
from flexiflow.extras.durable import SqliteTransport, TransportError, open_bridge
from tools.chaos.ledger import NAME

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

COPIED: Final = "copied in process"
FORKED: Final = "forked"
TRUSTING: Final = "looks at nothing"
"""A fault: files and locks are not checked, and connections are carried over forks."""

FAILED: Final = "failed"
_LOOK: Final = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30)
db.execute("SELECT count(*) FROM records").fetchall()
db.close()
"""


def _nothing(*_: object) -> None:
    """Report no problem."""


def _locked(*_: object) -> bool:
    return True


def _carry_over(runner: jobs.JobRunner) -> None:
    runner._lock.acquire()


def trust() -> None:
    """Remove all checks."""
    patch.object(files.Watch, "find_problem", _nothing).start()
    patch.object(files.Watch, "is_unlocked", new=False).start()
    patch.object(files.Watch, "is_alone", new=True).start()
    patch.object(files, "_is_locked", _locked).start()
    patch.object(jobs.JobRunner, "pause", _carry_over).start()


@final
class Program:
    """The actions of the process.

    Args:
        backend: the backend that it runs on.
        path: the file.
        turn: distinguishes its messages from those of other processes.
        count: how many it publishes each time.
    """

    def __init__(self, backend: str, path: str, turn: int, count: int) -> None:
        self._backend = backend
        self._path = path
        self._turn = turn
        self._count = count
        self._transport = SqliteTransport(path, busy_timeout=30)

    async def copy(self) -> None:
        """Copy the file while it is open."""
        async with self._bridged() as bus:
            await self._publish(bus, "before")
            await to_thread.run_sync(shutil.copy, self._path, f"{self._path}.copy")
            await self._look()
            await self._publish(bus, "after")
            # As if it were killed: closing SQLite would repair some of the damage.
            os._exit(0)

    async def fork(self) -> None:
        """Fork while the file is open, and let the child use it."""
        ready_in, ready_out = os.pipe()
        alone_in, alone_out = os.pipe()
        async with self._bridged() as bus:
            await self._publish(bus, "before")
            child = partial(self._be_child, bus, ready_out, alone_in)
            pid = await to_thread.run_sync(_fork, child)
            await to_thread.run_sync(os.read, ready_in, 1)
            await self._publish(bus, "beside the child")
        await self._look()
        os.write(alone_out, b".")
        await to_thread.run_sync(os.waitpid, pid, 0)
        async with self._bridged() as bus:
            await self._publish(bus, "after the child")

    def _be_child(self, bus: EventBus, ready: int, alone: int) -> None:
        async def run() -> None:
            await self._publish(bus, "inherited")
            async with self._bridged() as own:
                await self._publish(own, "child")
                os.write(ready, b".")
                await to_thread.run_sync(os.read, alone, 1)
                await self._publish(own, "child alone")
                # As above.
                os._exit(0)

        # The forked thread runs an event loop on trio, or belongs to one.
        thread = threading.Thread(target=anyio.run, args=(run,), kwargs={"backend": self._backend})
        thread.start()
        thread.join()

    def _bridged(self) -> Any:
        return _bridged(self._transport)

    async def _publish(self, bus: EventBus, place: str) -> None:
        for number in range(self._count):
            message = [self._turn, place, number]
            try:
                await bus.publish(NAME, message)
            except TransportError:
                _say(FAILED)
            else:
                _say(message)

    async def _look(self) -> None:
        command = [sys.executable, "-c", _LOOK, self._path]
        await to_thread.run_sync(partial(subprocess.run, command, check=True))


@asynccontextmanager
async def _bridged(transport: SqliteTransport) -> AsyncGenerator[EventBus]:
    bus = EventBus(on_error="raise")
    async with open_bridge(bus, transport, outgoing=[NAME], store_timeout=5):
        yield bus


def _fork(be_child: Any) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            be_child()
        finally:
            os._exit(1)
    return pid


def _say(what: object) -> None:
    # At once and in one piece, since the other process writes there too.
    os.write(1, f"{json.dumps(what)}\n".encode())


def main() -> None:
    """Run the action that the command line names."""
    backend, path, mode, fault, turn, count = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    if fault == TRUSTING:
        trust()
    program = Program(backend, path, int(turn), int(count))
    anyio.run(program.fork if mode == FORKED else program.copy, backend=backend)


if __name__ == "__main__":
    main()
