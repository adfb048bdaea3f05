"""Processes that are started to be killed: what their parent does with them, and what they do."""

from __future__ import annotations

import logging
import multiprocessing
import signal
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import forkserver
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import anyio

from flexiflow import EventBus
from flexiflow.extras.durable import open_bridge
from tools.chaos.ledger import NAME

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerProcess

    from flexiflow.extras.durable import Bridge, Transport

# The library imports these only when needed, which would take each process longer than all else.
for _name in ("coredis", "trio"):
    if find_spec(_name) is not None:
        import_module(_name)

Pipe: TypeAlias = "Connection[bytes, bytes]"
Job: TypeAlias = "Callable[[Any, Pipe, Pipe], Coroutine[Any, Any, None]]"
"""What a process does; is called with its task, a pipe for its reports, and one whose other end is
closed when it must end."""

_PROCESSES: Final = multiprocessing.get_context("forkserver")
BLAMELESS: Final = 1_000_000
"""`max_deliveries` where processes are killed at random: no event is to blame, though five of them
may be killed while they hold the same one."""
_ENDING: Final = 20.0
"""After so many seconds a process that was told to end, or killed, should have ended."""


def prepare(job: Job) -> None:
    """Start the server that forks processes; it stays, with its descriptors.

    Args:
        job: the job of most of them, whose module is imported once for all.
    """
    forkserver.set_forkserver_preload([job.__module__])
    forkserver.ensure_running()


@final
class Victim:
    """A process that does a job.

    Args:
        job: what it does; a function of a module.
        backend: the backend that it runs on.
        task: the job's first argument, which can be pickled.

    Attributes:
        words: how many of its reports were received.
    """

    def __init__(self, job: Job, backend: str, task: Any) -> None:
        self.words = 0
        self._name = job.__name__
        self._said, says = _PROCESSES.Pipe(duplex=False)
        hears, self._told = _PROCESSES.Pipe(duplex=False)
        arguments = (job, backend, task, says, hears)
        # One that does not end is not waited for at the end of this process either.
        self._process: ForkServerProcess = _PROCESSES.Process(
            target=_live, args=arguments, daemon=True
        )
        self._process.start()
        says.close()
        hears.close()

    def hear(self) -> bytes:
        """Wait for a report, and return it.

        Raises:
            EOFError: it has ended.
        """
        report = self._said.recv_bytes()
        self.words += 1
        return report

    async def listen(self, note: Callable[[bytes], None]) -> None:
        """Have all its reports noted, until it has ended, or is about to."""
        with suppress(EOFError):
            while True:
                await anyio.wait_readable(self._said)
                note(self.hear())

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()

    def tell(self) -> None:
        """Tell it to end."""
        self._told.close()

    def join(self) -> None:
        """Wait until it has ended, whatever it still reports."""
        with suppress(EOFError):
            while True:
                self.hear()
        self._process.join(_ENDING)
        code = self._process.exitcode
        assert code is not None, f"{self._name} has not ended in {_ENDING} seconds"
        self._process.close()
        self._said.close()
        self._told.close()
        assert code in {0, -signal.SIGKILL}, f"{self._name} ended by itself, with {code}"


def _live(job: Job, backend: str, task: Any, said: Pipe, told: Pipe) -> None:
    logging.disable(logging.CRITICAL)
    anyio.run(partial(job, task, said, told), backend=backend)


async def attend(
    transport: Transport,
    group: str,
    handler: Callable[[Any], Awaitable[None]],
    told: Pipe,
    works: Sequence[Callable[[Bridge], Coroutine[Any, Any, None]]],
    **options: Any,
) -> None:
    """Handle events in a process, and do some work beside, until it is told to end.

    Args:
        transport: where the events are.
        group: the group that handles them.
        handler: what handles an event.
        told: its other end is closed when this must end.
        works: what is done beside, each in a task of its own, once the bridge is open.
        options: more arguments of `open_bridge`.
    """
    bus = EventBus(on_error="raise")
    await bus.subscribe(NAME, group, handler)
    opening = open_bridge(bus, transport, incoming=[NAME], group=group, retry_delay=0.01, **options)
    async with opening as bridge, anyio.create_task_group() as tasks:
        for each in works:
            tasks.start_soon(each, bridge)
        await anyio.wait_readable(told)
        tasks.cancel_scope.cancel()
