"""A clerk that is started to be killed: it schedules events, cancels some, and handles all."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

import anyio

from flexiflow.extras.durable import transport_from_url
from tools.chaos.faults import FAULTS
from tools.chaos.ledger import NAME
from tools.chaos.processes import BLAMELESS, attend

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.extras.durable import Bridge
    from tools.chaos.processes import Pipe

GROUP: Final = "clerks"
_LEASE: Final = 0.5
_PATIENCE: Final = 60.0
"""For so many seconds a call is tried again: each try may meet a server that was just killed."""
_TASKS: Final = 3
"""How many tasks of a clerk schedule at a time."""
_LONGEST_DELAY: Final = 0.5
_LONGEST: Final = 0.01
"""The longest time in seconds between two events that a task schedules."""
_KEYS: Final = (None, *"abcdef")
_CANCELLED: Final = 0.3
"""For how many of the events a cancellation is tried, in time or not."""
_KEPT: Final = 4
"""A task cancels one of so many events that it scheduled last."""


class Duty(NamedTuple):
    """What a clerk does.

    Attributes:
        url: the transport.
        fault: the transport's fault.
        is_scheduling: whether it schedules events; else it only handles them.
    """

    url: str
    fault: str = ""
    is_scheduling: bool = True


async def be_a_clerk(duty: Duty, said: Pipe, told: Pipe) -> None:
    """Schedule, cancel and handle, until told to end.

    Args:
        duty: what the clerk does.
        said: for reports, as `Timetable.note` takes them.
        told: its other end is closed when the clerk must end.
    """

    def say(*words: Any) -> None:
        said.send_bytes(json.dumps(words).encode())

    async def handle(message: list[Any]) -> None:
        await anyio.sleep(random.random() * _LONGEST / 10)
        # All processes are on one machine, so that this is also the transport's clock.
        say("handled", message[0], time.time())

    random = Random(uuid4().int)
    transport = FAULTS[duty.fault](transport_from_url(duty.url))
    works = [partial(_schedule, random, say)] * (_TASKS if duty.is_scheduling else 0)
    options = {"lease": _LEASE, "store_timeout": _PATIENCE, "max_deliveries": BLAMELESS}
    await attend(transport, GROUP, handle, told, works, **options)


async def _schedule(random: Random, say: Callable[..., None], bridge: Bridge) -> None:
    """Schedule events, and cancel some of them."""
    last: list[tuple[str, str]] = []
    while True:
        number, key = uuid4().hex, random.choice(_KEYS)
        delay = random.random() * _LONGEST_DELAY
        earliest = time.time() + delay
        is_delay = random.random() < 0.5
        at = None if is_delay else datetime.fromtimestamp(earliest, UTC)
        ticket = await bridge.schedule(
            NAME, [number, key, earliest], delay=delay if is_delay else None, at=at, key=key
        )
        now = time.time()
        say("scheduled", number, key, earliest, now + delay if is_delay else earliest, ticket, now)
        last = [*last, (number, ticket)][-_KEPT:]
        if random.random() < _CANCELLED:
            number, ticket = last.pop(random.randrange(len(last)))
            say("cancelling", number)
            say("answered", number, await bridge.cancel(ticket))
        await anyio.sleep(random.random() * _LONGEST)
