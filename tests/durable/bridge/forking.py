"""A process with a bridge that is forked: `python -m tests.durable.bridge.forking BACKEND URL WAY`.

It tells as JSON what was confirmed, and what was refused. It is a process of its own, since what is
forked has the tests' threads and event loops in it, too.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import selectors
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio import to_thread

from flexiflow import EventBus
from flexiflow.extras.durable import (
    Batch,
    Record,
    TransportUnusable,
    open_bridge,
    transport_from_url,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.extras.durable import Bridge, Transport

NAME: Final = "forked"
WAYS: Final = ("multiprocessing", "_exit", "killed")
ENDS: Final = "ends"
LIMIT: Final = 60
_EACH: Final = 5
_CHILD: Final = "child"
_LOOK: Final = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30)
db.execute("SELECT count(*) FROM records").fetchall()
db.close()
"""


def look(path: str) -> None:
    """Have a process that is not forked open the file and close it."""
    subprocess.run([sys.executable, "-c", _LOOK, path], check=True)


class Told:
    """What came of publishes."""

    def __init__(self) -> None:
        self.confirmed: list[str] = []
        self.refused: list[str] = []

    async def publish(self, bus: EventBus, who: str) -> None:
        """Publish some events."""
        for number in range(_EACH):
            body = f"{who} {number}"
            try:
                with anyio.fail_after(LIMIT):
                    await bus.publish(NAME, body)
            except TransportUnusable as error:
                self.refused.append(f"{body}: {error}")
            else:
                self.confirmed.append(body)


async def be_parent(backend: str, url: str, way: str) -> dict[str, Any]:
    """Publish before and after a fork, and while the child is there."""
    told, transport = Told(), transport_from_url(url)
    bus, other, handled = EventBus(on_error="raise"), EventBus(), list[str]()

    async def handle(body: str) -> None:
        handled.append(body)

    await other.subscribe(NAME, "worker", handle)
    async with open_bridge(other, transport, incoming=[NAME], group="g") as worker:
        async with open_bridge(bus, transport, outgoing=[NAME]):
            await told.publish(bus, "before")
            child = _Child(partial(be_child, backend, url, transport, bus, worker), way)
            # The other thread has no event loop, and its fork's only thread neither.
            await to_thread.run_sync(child.start)
            await told.publish(bus, "during")
            inherited = await to_thread.run_sync(child.wait_for)
            # A file: the next to close it is the last, but for the parent and the child.
            await _look(url)
            await told.publish(bus, "after")
            await _look(url)
        with anyio.fail_after(LIMIT):
            while worker.statistics().acknowledged < len(told.confirmed):  # noqa: ASYNC110
                await anyio.sleep(0.01)
    # From now on the child is the only one that has it open.
    await _look(url)
    own = await to_thread.run_sync(child.go_on)
    return {
        "confirmed": told.confirmed,
        "refused": told.refused,
        "handled": len(handled) >= len(told.confirmed),
        "inherited": inherited,
        "own": own,
        "code": await to_thread.run_sync(child.join),
    }


async def _look(url: str) -> None:
    scheme, _, path = url.partition(":")
    if scheme == "sqlite":
        await to_thread.run_sync(look, path)


class _Child:
    """A process that is forked, and tells what it did."""

    def __init__(self, run: Callable[[Any], None], way: str) -> None:
        self._run = run
        self._way = way
        self._pid = 0
        self._process: Any = None
        self._ours, self._theirs = multiprocessing.Pipe()

    def start(self) -> None:
        if self._way == "multiprocessing":
            fork: Any = multiprocessing.get_context("fork")
            self._process = fork.Process(target=self._run, args=(self._theirs,))
            self._process.start()
            return
        self._pid = os.fork()
        if self._pid == 0:
            self._run(self._theirs)
            if self._way == "killed":
                os.kill(os.getpid(), 9)
            os._exit(0)

    def wait_for(self) -> Any:
        assert self._ours.poll(LIMIT), "the child says nothing"
        return self._ours.recv()

    def go_on(self) -> Any:
        self._ours.send("go on")
        return self.wait_for()

    def join(self) -> int:
        if self._process is not None:
            self._process.join(LIMIT)
            return int(self._process.exitcode)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def be_child(
    backend: str, url: str, transport: Transport, bus: EventBus, worker: Bridge, pipe: Any
) -> None:
    """Try what was inherited, then open a bridge of one's own and publish."""

    async def run() -> None:
        inherited = Told()
        await inherited.publish(bus, "inherited")
        for call in (worker.dead_letters(), worker.redrive("1-1-0")):
            try:
                await call
            except TransportUnusable as error:
                inherited.refused.append(str(error))
        own, mine = Told(), EventBus(on_error="raise")
        async with open_bridge(mine, transport, outgoing=[NAME]):
            await own.publish(mine, _CHILD)
            pipe.send([inherited.confirmed, inherited.refused])
            await to_thread.run_sync(pipe.recv)
            await _look(url)
            await own.publish(mine, f"{_CHILD} alone")
        pipe.send([own.confirmed, own.refused])

    _in_thread(partial(anyio.run, run, backend=backend))


def _in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def fork_and_end(path: str) -> dict[str, Any]:
    """Fork with a connection open, and end the child as any program ends."""
    # An epoll is shared with a child, which would take the parent's loop out of it in the end.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    context = transport_from_url(f"sqlite:{path}").connect()
    connection: Any = loop.run_until_complete(context.__aenter__())
    batch = partial(Batch, NAME, records=(Record(b'{"data": "before"}'),))
    loop.run_until_complete(connection.store(batch(1)))
    pid = os.fork()
    if pid == 0:
        sys.exit()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    look(path)
    loop.run_until_complete(connection.store(batch(2)))
    look(path)
    loop.run_until_complete(context.__aexit__(None, None, None))
    loop.close()
    return {"code": code}


def found_in(path: str) -> list[str]:
    """Read what is stored, and see that the file is sound."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = database.execute("SELECT body FROM records").fetchall()
        return [json.loads(body)["data"] for (body,) in rows]


def main() -> None:
    """Do what the command line says."""
    backend, url, way = sys.argv[1:]
    if way == ENDS:
        told = fork_and_end(url.partition(":")[2])
    else:
        told = anyio.run(be_parent, backend, url, way, backend=backend)
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
