"""A worker that is started to be killed: it reports the messages that it has handled."""

from __future__ import annotations

import json
import logging
import os
import signal
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from random import random
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio

from flexiflow import EventBus
from flexiflow.extras.durable import RedisTransport, SqliteTransport, open_bridge
from tools.chaos.faults import FAULTS
from tools.chaos.ledger import NAME

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

# The library imports these only when needed, which would take each worker longer than all else.
for _name in ("coredis", "trio"):
    if find_spec(_name) is not None:
        import_module(_name)

GROUP: Final = "workers"
READY: Final = b"ready"
_LONGEST: Final = 0.01
"""The longest time in seconds that a handler waits."""


class Task(NamedTuple):
    """The task of a worker.

    Attributes:
        address: the transport's address.
        fault: the transport's fault.
        lease: after how many seconds of silence the worker counts as dead.
    """

    address: str
    fault: str
    lease: float


def be_a_worker(
    backend: str, task: Task, said: Connection[bytes, bytes], told: Connection[bytes, bytes]
) -> None:
    """Handle messages in a process of its own, until it is told to end.

    Args:
        backend: the backend to run on.
        task: the worker's task.
        said: the connection for reporting handled messages.
        told: its other end is closed when the worker must end.
    """
    logging.disable(logging.CRITICAL)
    anyio.run(partial(_work, task, said, told), backend=backend)


async def _work(task: Task, said: Connection[bytes, bytes], told: Connection[bytes, bytes]) -> None:
    async def handle(message: list[object]) -> None:
        if message[0] == "raises":
            raise ValueError(message)
        if message[0] == "kills":
            os.kill(os.getpid(), signal.SIGKILL)
        await anyio.sleep(random() * _LONGEST)
        said.send_bytes(json.dumps(message).encode())

    is_redis = task.address.startswith("redis:")
    transport = RedisTransport(task.address) if is_redis else SqliteTransport(task.address)
    bus = EventBus(on_error="raise")
    await bus.subscribe(NAME, "worker", handle)
    bridge = open_bridge(
        bus,
        FAULTS[task.fault](transport),
        incoming=[NAME],
        group=GROUP,
        limit=20,
        max_attempts=3,
        retry_delay=0.01,
        lease=task.lease,
    )
    async with bridge:
        said.send_bytes(READY)
        await anyio.wait_readable(told)
