"""Worker processes of `multiprocessing`, which share events through an SQLite file.

    python examples/integrations/processes.py [--workers 2] [--backend trio] 91 97 1001

The numbers are events. Each is handled by one of the workers, which finds its prime factors on a
processor of its own, and publishes them. This process hears them, and prints them.
"""

import argparse
import multiprocessing
import os
import tempfile
from functools import partial
from pathlib import Path
from signal import SIGINT, SIGTERM
from threading import Thread
from typing import Any

import anyio

from flexiflow import EventBus, Topic
from flexiflow.extras.durable import SqliteTransport, open_bridge

GIVEN = Topic[int]("number.given")
FACTORED = Topic[list[int]]("number.factored")


def factors(number: int) -> list[int]:
    """Return the prime factors of a number, the smallest first."""
    found: list[int] = []
    divisor = 2
    while divisor * divisor <= number:
        if number % divisor:
            divisor += 1
        else:
            found.append(divisor)
            number //= divisor
    return [*found, number]


async def work(path: Path) -> None:
    """Be one of the workers, until SIGTERM comes; what is in hand is finished then."""
    bus = EventBus()

    async def answer(number: int) -> None:
        await bus.publish(FACTORED, factors(number), on_error="raise")

    await bus.subscribe(GIVEN, "factors", answer)
    with anyio.open_signal_receiver(SIGINT, SIGTERM) as signals:
        async with open_bridge(
            bus,
            SqliteTransport(path),
            outgoing=[str(FACTORED)],
            incoming=[str(GIVEN)],
            group="factors",
        ):
            await anext(signals)


def end_with_parent() -> None:
    """Ask this worker to end when the process that has started it is gone, however it ended."""
    parent: Any = multiprocessing.parent_process()
    parent.join()
    os.kill(os.getpid(), SIGTERM)


def begin(path: Path, backend: str) -> None:
    """Be what a worker process runs: everything that it uses is made here, in that process."""
    Thread(target=end_with_parent, daemon=True).start()
    anyio.run(work, path, backend=backend)


async def hand_out(path: Path, numbers: list[int]) -> None:
    """Publish the numbers, and print their factors until all are there."""
    bus = EventBus(on_error="raise")
    transport = SqliteTransport(path)
    async with (
        bus.stream(FACTORED, buffer=len(numbers), overflow="block") as answers,
        open_bridge(
            bus,
            transport,
            outgoing=[str(GIVEN)],
            incoming=[str(FACTORED)],
            group="printer",
        ),
    ):
        for number in numbers:
            await bus.publish(GIVEN, number)
        missing = len(numbers)
        async for answer in answers:
            print(" x ".join(map(str, answer.data)), flush=True)
            missing -= 1
            if not missing:
                return


def main() -> None:
    """Start the workers, hand out the numbers, and end the workers."""
    parser = argparse.ArgumentParser(description="Find prime factors in several processes.")
    parser.add_argument("numbers", type=int, nargs="+")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    given: Any = parser.parse_args()
    # A new process each: a forked one would inherit an event loop that it must not use.
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "events.db")
        workers = [
            context.Process(target=begin, args=(path, given.backend)) for _ in range(given.workers)
        ]
        for worker in workers:
            worker.start()
        try:
            anyio.run(partial(hand_out, path, given.numbers), backend=given.backend)
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.join()
    print("all workers have ended")


if __name__ == "__main__":
    main()
