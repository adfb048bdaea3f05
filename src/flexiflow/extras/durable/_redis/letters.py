"""The dead letters of groups on Redis servers; `Connection` describes what is done to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from flexiflow.extras.durable._logs import PAGE_BYTES, numbers_after, numbers_of
from flexiflow.extras.durable._records import DeadLetter, Failure
from flexiflow.extras.durable._redis.entries import fields, text
from flexiflow.extras.durable._redis.scripts import DEAD, DISCARD, LETTERS, REDRIVE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras._redis.script import Script
    from flexiflow.extras.durable._redis.network import Network


@final
class Letters:
    """The dead letters.

    Args:
        network: the servers.
        partitions: how many partitions there are.
    """

    def __init__(self, network: Network, partitions: int) -> None:
        self._network = network
        self._partitions = partitions

    async def read(self, group: str, after: str | None, limit: int) -> Sequence[DeadLetter]:
        """Return dead letters of a group; see `Connection.dead_letters`."""
        last = numbers_after(after, 3)
        found: list[DeadLetter] = []
        # Others may redrive a whole page meanwhile, but only at the end may the result be empty.
        while not found and (chosen := await self._page(group, last, limit)):
            names = {each: _chosen(chosen, each) for each in range(self._partitions)}
            calls = {each: (group, *some) for each, some in names.items() if some}
            answers = await self._network.run_all(LETTERS, calls)
            for partition, (_, entries) in answers.items():
                found += [_dead_letter(partition, *each) for each in entries]
        return sorted(found, key=lambda each: _number(each.id))

    async def _page(self, group: str, last: tuple[int, ...] | None, limit: int) -> list[str]:
        """Choose the dead letters of a page by their sizes, and return their ids (X14)."""
        sizes: dict[str, int] = {}
        calls = {
            partition: (group, _start(last, partition), limit, PAGE_BYTES)
            for partition in range(self._partitions)
        }
        answers = await self._network.run_all(DEAD, calls)
        for partition, (_, entries) in answers.items():
            sizes.update((f"{name.decode()}-{partition}", size) for name, size in entries)
        return fitting(sorted(sizes, key=_number)[:limit], sizes)

    async def redrive(self, group: str, ids: Sequence[str]) -> int:
        """Store dead letters anew; see `Connection.redrive`."""
        return await self._run(REDRIVE, group, ids)

    async def discard(self, group: str, ids: Sequence[str]) -> int:
        """Delete dead letters; see `Connection.discard`."""
        return await self._run(DISCARD, group, ids)

    async def _run(self, script: Script, group: str, ids: Sequence[str]) -> int:
        count = 0
        for partition in range(self._partitions):
            chosen = _chosen(ids, partition)
            if chosen:
                _, done = await self._network.run(partition, script, group, *chosen)
                count += done
        return count


def fitting(names: Sequence[str], sizes: dict[str, int]) -> list[str]:
    """Return the first names whose sizes fit into a page together, but at least one (X14)."""
    chosen: list[str] = []
    room = PAGE_BYTES
    for name in names:
        room -= sizes[name]
        if room < 0 and chosen:
            break
        chosen.append(name)
    return chosen


def _number(name: str) -> tuple[int, ...]:
    """Return the numbers in a dead letter's id: two of its entry, and the partition."""
    return tuple(map(int, name.split("-")))


def _start(last: tuple[int, ...] | None, partition: int) -> str:
    if last is None:
        return "-"
    entry = f"{last[0]}-{last[1]}"
    return entry if partition > last[2] else f"({entry}"


def _chosen(ids: Sequence[str], partition: int) -> list[str]:
    return [f"{ms}-{seq}" for ms, seq, place in numbers_of(ids, 3) if place == partition]


def _dead_letter(partition: int, position: bytes, entry: list[bytes]) -> DeadLetter:
    attempts, deliveries, *failure = entry[1:10:2]
    kind, message, traceback = (text(each) or "" for each in failure)
    name = position.decode()
    return DeadLetter(
        f"{name}-{partition}",
        fields(entry[10:]).body,
        Failure(kind, message, traceback),
        int(attempts),
        int(deliveries),
        int(name.partition("-")[0]) / 1000,
    )
