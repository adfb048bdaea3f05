"""A worker that is started to be killed: it reports the messages that it has handled."""

from __future__ import annotations

import json
import os
import signal
from random import random
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio

from flexiflow.extras.durable import RedisTransport, SqliteTransport
from tools.chaos.faults import FAULTS
from tools.chaos.processes import attend

if TYPE_CHECKING:
    from flexiflow.extras.durable import Bridge
    from tools.chaos.processes import Pipe

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


async def be_a_worker(task: Task, said: Pipe, told: Pipe) -> None:
    """Handle messages, until told to end.

    Args:
        task: the worker's task.
        said: for reporting handled messages.
        told: its other end is closed when the worker must end.
    """

    async def say_ready(_: Bridge) -> None:
        said.send_bytes(READY)

    async def handle(message: list[object]) -> None:
        if message[0] == "raises":
            raise ValueError(message)
        if message[0] == "kills":
            os.kill(os.getpid(), signal.SIGKILL)
        await anyio.sleep(random() * _LONGEST)
        said.send_bytes(json.dumps(message).encode())

    is_redis = task.address.startswith("redis:")
    transport = RedisTransport(task.address) if is_redis else SqliteTransport(task.address)
    faulty, lease = FAULTS[task.fault](transport), task.lease
    await attend(faulty, GROUP, handle, told, [say_ready], limit=20, max_attempts=3, lease=lease)
