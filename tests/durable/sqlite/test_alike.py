"""The SQLite transport does as the one in memory does, which is simpler."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, final

import pytest

from flexiflow.extras.durable import (
    Acknowledged,
    Buried,
    LeaseLost,
    LogFull,
    MemoryTransport,
    Noted,
    Postponed,
    Record,
    Returned,
    Room,
    ScheduleFull,
    SqliteTransport,
    StartTrimmed,
)
from tests.durable.sqlite.files import FAILURE, batch, leased, run_sql, worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from flexiflow.extras.durable import (
        Connection,
        DeadLetter,
        Lease,
        Outcome,
        Start,
    )

pytestmark = pytest.mark.same_everywhere

NEVER = 9e12
"""When what is scheduled for later is due."""

WORKERS = {
    name: worker(name, group)._replace(lease=9e4, longest_delay=9e4)
    for name, group in (("a", "g"), ("b", "g"), ("c", "h"))
}


@pytest.mark.unmeasured
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("partitions", [None, 1])
async def test_the_same_calls_have_the_same_results(
    tmp_path: Path, partitions: int | None, seed: int
) -> None:
    """X1 to X4, X12, Y3, Y5, Y6: as they are drawn at random."""
    path = tmp_path / "events.db"
    options: dict[str, Any] = {"max_length": 60, "max_scheduled": 9, "partitions": partitions}
    names = "ac" if partitions else "abc"
    file, memory = SqliteTransport(path, **options), MemoryTransport(**options)
    async with file.connect() as connection:
        told = await Story(connection, seed, names).tell()
    async with memory.connect() as connection:
        assert told == await Story(connection, seed, names).tell()


@pytest.mark.unmeasured
@pytest.mark.parametrize("seed", range(2))
async def test_so_they_have_where_records_are_deleted(tmp_path: Path, seed: int) -> None:
    """X6, Y5: behind the back of the transport; how many are left it does not count."""
    path = tmp_path / "events.db"
    memory: Any = MemoryTransport()

    def damage_file(position: int) -> None:
        run_sql(path, f"DELETE FROM records WHERE id = {position}")  # noqa: S608 - no input

    def damage_memory(position: int) -> None:
        memory._state.logs[0].records.pop(position, None)

    async with SqliteTransport(path).connect() as connection:
        told = await Story(connection, seed, "abc", damage_file).tell()
    async with memory.connect() as connection:
        assert told == await Story(connection, seed, "abc", damage_memory).tell()


@final
class Story:
    """Calls that are drawn with a seed, and what came of them.

    Args:
        connection: what is called.
        seed: the seed.
        names: the names of the workers.
        damage: deletes a record behind the back of the transport; None to do without.
    """

    def __init__(
        self,
        connection: Connection,
        seed: int,
        names: str,
        damage: Callable[[int], None] | None = None,
    ) -> None:
        self._connection = connection
        self._random = Random(seed)
        self._names = names
        self._damage = damage
        self._leases: dict[str, Lease] = {}
        self._held: dict[str, list[str]] = {}
        self._tickets: list[str] = []
        self._replays: dict[str, list[int]] = {}
        self._turn = 0
        self._name = ""

    async def tell(self) -> list[Any]:
        """Make 250 calls, and return what came of each."""
        acts: list[Callable[[], Awaitable[object]]] = [
            *[self._store] * 4,
            *[self._receive] * 8,
            *[self._settle] * 6,
            *[self._schedule, self._schedule, self._cancel, self._release, self._look],
            *[self._begin_again, self._bury, self._survey],
        ]
        if self._damage is not None:
            acts += [self._delete] * 3
        told = list[Any]()
        for self._turn in range(1, 251):
            act = self._random.choice(acts)
            try:
                told.append((act.__name__, await act()))
            except (LogFull, ScheduleFull, LeaseLost, StartTrimmed, ValueError) as error:
                told.append((act.__name__, str(type(error))))
                if isinstance(error, LeaseLost):
                    del self._leases[self._name]
        return told

    async def _lease(self) -> tuple[str, Lease]:
        self._name = name = self._random.choice(self._names)
        if name not in self._leases:
            self._leases[name] = await leased(self._connection, WORKERS[name])
            self._held[name] = []
        return name, self._leases[name]

    async def _store(self) -> None:
        bodies = [str(self._turn)] * self._random.randint(1, 5)
        await self._connection.store(batch(self._turn, *bodies))

    async def _receive(self) -> object:
        name, lease = await self._lease()
        room = Room(self._random.randint(1, 9), waiting=self._random.choice([1, 3, 99]))
        given = await lease.receive(room)
        self._held[name] += [each.position for each in given]
        return list(given), self._rank(WORKERS[name].group, lease.replay)

    def _rank(self, group: str, replay: int) -> int:
        """Return how many numbers of that group's replays were told before this one."""
        known = self._replays.setdefault(group, [])
        if replay not in known:
            known.append(replay)
        return known.index(replay)

    async def _settle(self) -> object:
        name, lease = await self._lease()
        held = self._held[name]
        return await lease.settle([self._outcome(held) for _ in held[:5]])

    def _outcome(self, held: list[str]) -> Outcome:
        random = self._random
        position = held[random.randrange(len(held))]
        attempts, deliveries = random.randint(0, 3), random.randint(0, 3)
        if (kind := random.randrange(8)) == 0:
            return Noted(position, attempts, deliveries)
        held.remove(position)
        delay, key = random.choice([(0.0, None), (0.0, "k"), (None, "k"), (8e4, "k")])
        outcomes: list[Outcome] = [
            Returned(position, attempts, deliveries),
            Buried(position, attempts, deliveries, FAILURE),
            Postponed(position, attempts, 0, delay, key),
        ]
        return outcomes[kind - 1] if kind < 4 else Acknowledged(position)

    async def _release(self) -> None:
        name, lease = await self._lease()
        await lease.release()
        del self._leases[name]

    async def _schedule(self) -> object:
        ticket = self._connection.new_ticket("k")
        if self._tickets and self._random.random() < 0.2:
            ticket = self._random.choice(self._tickets)
        self._tickets.append(ticket)
        at = self._turn + self._random.choice([0, 0, NEVER])
        await self._connection.schedule(ticket, Record(b"%d" % self._turn, "k"), at=at)
        found = await self._connection.scheduled(limit=self._random.randint(1, 9))
        return [each._replace(ticket="") for each in found]

    async def _cancel(self) -> object:
        return [await self._connection.cancel(each) for each in self._tickets[-3:-1]]

    async def _look(self) -> object:
        name, lease = await self._lease()
        stored, after = await self._connection.tail(["0"], 1000, 0)
        assert all(each.time is not None for each in stored)
        held = await lease.renew(self._held[name])
        return held, [each._replace(time=None) for each in stored], after

    async def _bury(self) -> object:
        group = self._random.choice("gh")
        letters: list[DeadLetter] = list(await self._connection.dead_letters(group))
        ids = [each.id for each in letters if self._random.random() < 0.4]
        redriven = await self._connection.redrive(group, ids[1:])
        discarded = await self._connection.discard(group, ids[:1])
        return [each._replace(id="", time=0) for each in letters], redriven, discarded

    async def _begin_again(self) -> object:
        _, after = await self._connection.tail(None, 1, 0)
        place = int(after[0]) - self._random.randrange(70)
        starts: list[Start] = ["oldest", "new", (str(place),), (str(place),), 0.0, NEVER]
        start = self._random.choice(starts)
        if self._random.random() < 0.2:
            await self._connection.forget("n")
            return await self._connection.join(worker("n", "n")._replace(start=start))
        return await self._connection.replay(self._random.choice("gh"), start)

    async def _survey(self) -> object:
        survey = await self._connection.survey()
        [log] = survey.logs
        known = list[Any]()
        for name, _, [standing], oldest, replay in survey.groups:
            shown = standing if self._damage is None else standing._replace(lag=0)
            # When a record was stored that was deleted since is known in memory only.
            has_oldest = oldest is not None or self._damage is not None
            known.append((name, shown, has_oldest, self._rank(name, replay)))
        length = log.length if self._damage is None else 0
        return length, log.oldest is not None, log.scheduled, known

    async def _delete(self) -> None:
        _, after = await self._connection.tail(None, 1, 0)
        if self._damage is not None and int(after[0]) > 1:
            self._damage(self._random.randrange(1, int(after[0])))
