"""What a seed explores, as a number; run in other processes to compare them."""

import gc
import hashlib
import random
import sys
from contextlib import suppress

from anyio import CancelScope, Event, create_task_group, get_current_task, sleep, sleep_forever
from anyio.lowlevel import checkpoint

from flexiflow import EventBus
from flexiflow.testing._scheduling.backends import run_on
from flexiflow.testing._scheduling.run import Run
from flexiflow.testing._scheduling.search import Search


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


async def mortal() -> list[str]:
    """Let short tasks die while others live, start new ones, and cancel all who live at once."""
    notes: list[str] = []

    async def live(name: str) -> None:
        try:
            await sleep_forever()
        finally:
            notes.append(name)

    async with create_task_group() as short, create_task_group() as group:
        for begin in range(0, 12, 4):
            for number in range(begin, begin + 4):
                group.start_soon(live, f"{number}")
                short.start_soon(checkpoint)
            await sleep(1)
        group.cancel_scope.cancel()
    return notes


async def cyclic() -> list[int]:
    """Let tasks die that only the garbage collector takes away, whenever it comes."""
    notes: list[int] = []

    async def hold() -> None:
        held: list[object] = [get_current_task()]
        with suppress(LookupError):
            raise LookupError(held)
        held.append(held)

    async def live(number: int) -> None:
        await checkpoint()
        notes.append(number)
        await checkpoint()

    async with create_task_group() as group:
        for number in range(6):
            group.start_soon(live, number)
            async with create_task_group() as short:
                short.start_soon(hold)
                short.start_soon(hold)
    return notes


def digest(backend: str) -> str:
    """Sum up what happens, and what is decided, under some schedules of one seed."""
    summary = hashlib.sha256()
    for scenario in (busy, mortal, cyclic):
        search = Search(random.Random(42))
        for _ in range(20):
            notes = run_on(Run[object](scenario, search), backend)
            summary.update(repr((notes, search.decisions)).encode())
            search.next()
    return summary.hexdigest()[:16]


if __name__ == "__main__":
    gc.set_threshold(int(sys.argv[1]))
    sys.stdout.write(" ".join(map(digest, sys.argv[2:])))
