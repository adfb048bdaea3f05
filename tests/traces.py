"""What a seed explores, as a number; run in other processes to compare them."""

import hashlib
import random
import sys

from anyio import CancelScope, Event, create_task_group, sleep
from anyio.lowlevel import checkpoint

from flexiflow import EventBus
from flexiflow.testing._run import Run
from flexiflow.testing._search import Search


async def busy() -> list[str]:
    """Do what would go in the order of a set: cancel many at once, and wake many at once."""
    notes: list[str] = []
    gate = Event()
    bus = EventBus()

    async def wait(name: str) -> None:
        try:
            await gate.wait()
            notes.append(name)
            await bus.publish("a", name, delivery="concurrent")
            await sleep(1)
            await sleep(1000)
        finally:
            notes.append(name.upper())

    async def handle(name: str) -> None:
        await checkpoint()
        notes.append(f"+{name}")

    for _ in range(3):
        await bus.subscribe("a", "c", handle)
    with CancelScope() as scope:
        async with create_task_group() as group:
            for name in "abcdefgh":
                group.start_soon(wait, name)
            await sleep(1)
            gate.set()
            await sleep(2)
            scope.cancel()
    return notes


def digest(backend: str) -> str:
    """Sum up what happens, and what is decided, under some schedules of one seed."""
    search = Search(random.Random(42))
    summary = hashlib.sha256()
    for _ in range(20):
        notes = Run(busy, search).on(backend)
        summary.update(repr((notes, search.decisions)).encode())
        search.next()
    return summary.hexdigest()[:16]


if __name__ == "__main__":
    sys.stdout.write(" ".join(map(digest, sys.argv[1:])))
