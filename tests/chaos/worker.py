"""A worker that is made to be killed: `python -m tests.chaos.worker BACKEND ADDRESS LEASE FAULT`.

It says which messages it has handled, a line each, and ends with its standard input.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from functools import partial
from random import random

import anyio
from anyio import to_thread

from flexiflow import EventBus
from flexiflow.extras.durable import RedisTransport, SqliteTransport, open_bridge
from tests.chaos.faults import FAULTS
from tests.chaos.ledger import NAME
from tests.chaos.workers import GROUP

_LONGEST = 0.01
"""Seconds that a handler waits at most."""


def say(text: str) -> None:
    """Say a line at once, whatever becomes of the process."""
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


async def handle(message: list[object]) -> None:
    """Handle a message, as it says."""
    if message[0] == "raises":
        raise ValueError(message)
    if message[0] == "kills":
        os.kill(os.getpid(), signal.SIGKILL)
    await anyio.sleep(random() * _LONGEST)
    say(json.dumps(message))


async def work(address: str, lease: float, fault: str) -> None:
    """Handle messages until the standard input ends."""
    is_redis = address.startswith("redis:")
    transport = RedisTransport(address) if is_redis else SqliteTransport(address)
    bus = EventBus(on_error="raise")
    await bus.subscribe(NAME, "worker", handle)
    bridge = open_bridge(
        bus,
        FAULTS[fault](transport),
        incoming=[NAME],
        group=GROUP,
        lease=lease,
        limit=20,
        max_attempts=3,
        retry_delay=0.01,
    )
    async with bridge:
        say("ready")
        await to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    backend, *rest = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    anyio.run(partial(work, rest[0], float(rest[1]), rest[2]), backend=backend)
