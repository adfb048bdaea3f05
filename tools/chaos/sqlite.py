"""Kills processes that use one SQLite file: `python -m tools.chaos.sqlite --kills 1000`.

A process stores batches with several producers, settles the records that it is given, and prints
what was confirmed to it. It is killed, and the next process continues: it tries again what was not
confirmed. At the end, everything that was confirmed must be in the file, in order and once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import anyio

from flexiflow.extras.durable import (
    Acknowledged,
    Batch,
    LeaseLost,
    Member,
    Record,
    Room,
    SqliteTransport,
)
from tools.chaos.ledger import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.extras.durable import Lease

_MODULE = "tools.chaos.sqlite"
_ROOT = Path(__file__).parents[2]
_PRODUCERS = 4
_RECORDS = 20
_MOST_LINES = 80
_GROUP = "killed"
_LEASE = 0.05
_LIMIT = 50


class Result(NamedTuple):
    """The fate of the confirmed records.

    Attributes:
        kills: how many processes were killed.
        stored: how many records are in the file.
        confirmed: how many of them were confirmed as stored.
        lost: how many confirmed records are not in the file.
        twice: how many are in the file more than once, or out of order.
        settled: how many were confirmed as settled.
        again: how many were given again although their settling had been confirmed.
        gone: how many were neither confirmed as settled nor given again, beyond those that
            processes may have settled without learning of it.
    """

    kills: int
    stored: int
    confirmed: int
    lost: int
    twice: int
    settled: int
    again: int
    gone: int


@dataclass
class Confirmed:
    """The number of each producer's last confirmed batch, and the settled positions."""

    numbers: list[int] = field(default_factory=lambda: [0] * _PRODUCERS)
    settled: Counter[str] = field(default_factory=Counter[str])

    def take(self, line: str) -> None:
        kind, *rest = line.split()
        if kind == "stored":
            self.numbers[int(rest[0])] = int(rest[1])
        else:
            self.settled.update(rest)


def _be_quiet(_: str) -> None:
    pass


def kill(
    kills: int, folder: Path, *, seed: int = 0, tell: Callable[[str], None] = _be_quiet
) -> Result:
    """Kill so many processes, one after another, and check what they have left.

    Args:
        kills: how many processes.
        folder: the folder of the file.
        seed: decides when each is killed.
        tell: called now and then with the progress.
    """
    random, path, confirmed = Random(seed), folder / "killed.db", Confirmed()
    for turn in range(kills):
        _let_run(path, BACKENDS[turn % len(BACKENDS)], random.randint(1, _MOST_LINES), confirmed)
        if (turn + 1) % 10 == 0:
            tell(f"{turn + 1}/{kills} kills, {sum(confirmed.numbers) * _RECORDS:,} confirmed")
    return anyio.run(look, path, kills, confirmed)


def _let_run(path: Path, backend: str, lines: int, confirmed: Confirmed) -> None:
    numbers = [str(each) for each in confirmed.numbers]
    command = [sys.executable, "-m", _MODULE, "--child", str(path), backend, *numbers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT) as process:
        assert process.stdout is not None
        for count, line in enumerate(process.stdout, 1):
            # The last line may have been cut off.
            if line.endswith("\n"):
                confirmed.take(line)
            if count == lines:
                process.kill()
    assert process.returncode < 0, "a process ended by itself"


def batch(producer: int, number: int) -> Batch:
    """Return a batch of a producer, as the producer would store it."""
    bodies = (f"{producer} {number} {each}".encode() for each in range(_RECORDS))
    return Batch(f"producer-{producer}", number, tuple(Record(body) for body in bodies))


async def _child(path: str, numbers: list[int]) -> None:
    async with SqliteTransport(path, max_length=10**9).connect() as connection:

        async def produce(producer: int, number: int) -> None:
            while True:
                number += 1
                await connection.store(batch(producer, number))
                _say(f"stored {producer} {number}")

        async def consume() -> None:
            member = Member(_GROUP, "worker", "token", ("*",), _LEASE)
            await connection.join(member)
            while (lease := await connection.acquire(member, 0)) is not None:
                # On a busy machine the lease runs out before it is renewed.
                with suppress(LeaseLost):
                    while True:
                        await settle(lease)

        async def settle(lease: Lease) -> None:
            await lease.wait(1)
            given = [each.position for each in await lease.receive(Room(_LIMIT))]
            lost = (await lease.settle([Acknowledged(each) for each in given])).lost
            _say(" ".join(["settled", *(each for each in given if each not in lost)]))
            await lease.renew()

        async with anyio.create_task_group() as tasks:
            for producer, number in enumerate(numbers):
                tasks.start_soon(produce, producer, number)
            tasks.start_soon(consume)


async def look(path: Path, kills: int, confirmed: Confirmed) -> Result:
    """Compare the file with what was confirmed."""
    async with SqliteTransport(path, max_length=10**9).connect() as connection:
        stored, _ = await connection.tail(["0"], 10**9, 0)
        member = Member(_GROUP, "worker", "token", ("*",), 600)
        await connection.join(member)
        # The lease of the process that was killed last has to run out.
        await anyio.sleep(_LEASE)
        lease = await connection.acquire(member, 0)
        assert lease is not None
        given = [each.position for each in await lease.receive(Room(10**9))]
    bodies = Counter(each.body for each in stored)
    expected = {
        record.body
        for producer, last in enumerate(confirmed.numbers)
        for number in range(1, last + 1)
        for record in batch(producer, number).records
    }
    settled = confirmed.settled
    return Result(
        kills=kills,
        stored=len(stored),
        confirmed=len(expected),
        lost=len(expected - bodies.keys()),
        twice=sum(bodies.values()) - len(bodies) + _disorder([each.body for each in stored]),
        settled=len(settled),
        again=sum(settled.values()) - len(settled) + len(settled.keys() & set(given)),
        gone=max(len(stored) - len(settled.keys() | set(given)) - kills * _LIMIT, 0),
    )


def _disorder(bodies: list[bytes]) -> int:
    last = [(0, _RECORDS - 1)] * _PRODUCERS
    found = 0
    for body in bodies:
        producer, number, place = map(int, body.split())
        before = last[producer]
        after = (number, place - 1) if place else (number - 1, _RECORDS - 1)
        found += before != after
        last[producer] = (number, place)
    return found


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        path, backend, *numbers = options.child
        anyio.run(partial(_child, path, [int(each) for each in numbers]), backend=backend)
        return
    with tempfile.TemporaryDirectory() as folder:
        result = kill(options.kills, Path(folder), seed=options.seed, tell=_say)
    for name, value in result._asdict().items():
        _say(f"{name:>10} {value:>12,}")
    sys.exit(1 if result.lost or result.twice or result.again or result.gone else 0)


if __name__ == "__main__":
    _main()
