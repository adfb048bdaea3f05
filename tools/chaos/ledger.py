"""Compares published and handled messages with the log: the judge of every scenario."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, final

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence, Sized

    from flexiflow.extras.durable import DeadLetter, Transport

Message: TypeAlias = tuple[Any, ...]
"""A payload; no two publishes have the same one."""

NAME = "chaos.message"
BACKENDS = ["asyncio", "trio"] if find_spec("trio") else ["asyncio"]
_PAGE = 5_000
_MISTIMED = ("early", "revived", "disordered")
_CACHED = ("AnyIO worker thread", "Trio thread")


class Entry(NamedTuple):
    """An event in a log.

    Attributes:
        id: its id, as CloudEvents has it.
        message: its payload.
    """

    id: str
    message: Message


@dataclass
class Result:
    """The fate of the messages of one run.

    Attributes:
        scenario: the scenario's name.
        backend: the backend that it ran on.
        mode: the form of the scenario.
        kills: how often something was killed, or damaged in another way.
        stored: how many events the log holds.
        handled: how many events were handled, by all groups together.
        twice: how many handlings there were beyond one per event and group.
        in_doubt: how many publishes failed; each was tried again as another message.
        dead: how many dead letters there are.
        lost: how many messages were confirmed and are not in the log.
        unhandled: how many are in the log, but were neither handled nor became dead letters.
        doubled: how many are in the log more than once.
        wrong: by how many there are too many or too few dead letters.
        missed: how many unsettled events groups were told that a server has lost.
        unsettled: how many must still be handled or were missed, wrongly, according to the
            transport.
        cancelled: how many scheduled events were cancelled in time.
        early: how many scheduled events were handed out before their time.
        revived: how many scheduled events were handed out after they were cancelled in time.
        disordered: how many scheduled events of a key came behind one that was due after them.
        leaks: how many connections, descriptors, tasks and threads were left behind.
        seconds: how long it took.
        stalled: whether the run was given up, since nothing happened any more.
        may_lose: whether a killed server may lose events that it has confirmed.
    """

    scenario: str
    backend: str
    mode: str
    kills: int = 0
    stored: int = 0
    handled: int = 0
    twice: int = 0
    in_doubt: int = 0
    dead: int = 0
    lost: int = 0
    unhandled: int = 0
    doubled: int = 0
    wrong: int = 0
    missed: int = 0
    unsettled: int = 0
    cancelled: int = 0
    early: int = 0
    revived: int = 0
    disordered: int = 0
    leaks: int = 0
    seconds: float = 0.0
    stalled: bool = False
    may_lose: bool = False

    @property
    def faults(self) -> dict[str, int]:
        """The counts of faults by name; empty if all is well."""
        values = asdict(self)
        names = ["unhandled", "doubled", "wrong", "unsettled", *_MISTIMED, "leaks", "stalled"]
        if not self.may_lose:
            names.append("lost")
        return {name: int(values[name]) for name in names if values[name]}

    @property
    def mistimed(self) -> int:
        """How many scheduled events were handed out early, when cancelled, or out of order."""
        return self.early + self.revived + self.disordered


@final
class Pulse:
    """Wakes the waiting tasks whenever something has happened."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._is_awaited = False

    def beat(self) -> None:
        """Wake the waiting tasks, since something has happened."""
        if self._is_awaited:
            self._is_awaited = False
            self._event.set()
            self._event = anyio.Event()

    async def until(self, condition: Callable[[], bool], patience: float = inf) -> bool:
        """Wait for a condition; return False if nothing has happened for `patience` seconds."""
        while not condition():
            with anyio.move_on_after(patience) as scope:
                self._is_awaited = True
                await self._event.wait()
            if scope.cancelled_caught:
                return condition()
        return True


@dataclass
class Ledger:
    """The record of what publishers and handlers saw.

    Attributes:
        confirmed: the messages that were published without a failure.
        handled: how often each message was handled, by group.
        in_doubt: how many publishes failed.
        pulse: beats whenever one of these changes.
    """

    confirmed: set[Message] = field(default_factory=set[Message])
    handled: dict[str, Counter[Message]] = field(default_factory=dict[str, Counter[Message]])
    in_doubt: int = 0
    pulse: Pulse = field(default_factory=Pulse)

    def confirm(self, message: Message) -> None:
        """Note that a publish succeeded."""
        self.confirmed.add(message)
        self.pulse.beat()

    def doubt(self) -> None:
        """Note that a publish failed."""
        self.in_doubt += 1
        self.pulse.beat()

    def handle(self, group: str, message: Message) -> None:
        """Note that a group has handled a message."""
        self.handled.setdefault(group, Counter())[message] += 1
        self.pulse.beat()

    async def reached(self, counted: Sized, goal: int) -> None:
        """Wait until a collection has `goal` items."""
        await self.pulse.until(lambda: len(counted) >= goal)

    async def all_handled(
        self, groups: Sequence[str], messages: Collection[Message], patience: float
    ) -> bool:
        """Wait until each group has handled all; return False if nothing happens any more."""
        counts = [self.handled.setdefault(group, Counter()) for group in groups]
        wanted = len(messages)
        return await self.pulse.until(lambda: all(len(each) >= wanted for each in counts), patience)

    def judge(
        self,
        result: Result,
        entries: Sequence[Entry],
        groups: Sequence[str],
        poison: Collection[Message] = (),
        dead: Sequence[DeadLetter] = (),
    ) -> None:
        """Compare the record with the log, and write the outcome into the result.

        Args:
            result: the result to fill in.
            entries: the events of the log.
            groups: the groups that had to handle all events.
            poison: the messages that none of them can handle.
            dead: the dead letters of all groups.
        """
        messages = Counter(each.message for each in entries)
        result.stored = len(entries)
        result.in_doubt += self.in_doubt
        result.doubled += _surplus(messages) or _surplus(Counter(each.id for each in entries))
        lost = self.confirmed - messages.keys()
        result.lost += len(lost)
        result.unsettled += self._wrongly_missed(result, lost, groups)
        for group in groups:
            counts = self.handled.get(group, Counter())
            result.handled += len(counts)
            result.twice += _surplus(counts)
            result.unhandled += len(messages.keys() - counts.keys() - set(poison))
        buried = Counter(entry_of(each.body).message for each in dead)
        expected = Counter(dict.fromkeys(poison, 1))
        result.dead = len(dead)
        result.wrong += ((buried - expected) + (expected - buried)).total()

    def _wrongly_missed(self, result: Result, lost: set[Message], groups: Sequence[str]) -> int:
        """Return by how many the reported losses are too few or too many (X13)."""
        counts = [self.handled.get(group, Counter[Message]()) for group in groups]
        least = sum(len(lost - each.keys()) for each in counts)
        # A group may not yet have settled events that it handled, and unconfirmed events may count.
        most = len(groups) * (len(lost) + self.in_doubt) if result.may_lose else 0
        return max(0, least - result.missed, result.missed - most)


def _surplus(counts: Counter[Any]) -> int:
    return counts.total() - len(counts)


def entry_of(body: bytes) -> Entry:
    """Return an event read from its wire format, without using the code under test."""
    event = json.loads(body)
    return Entry(event["id"], tuple(event["data"]))


async def look(
    transport: Transport, result: Result, groups: Sequence[str], *, partitions: int = 1
) -> list[Entry]:
    """Read the logs from their beginning, and add the unsettled events of groups to the result."""
    entries: list[Entry] = []
    async with transport.connect() as connection:
        positions: Sequence[str] = ["0"] * partitions
        while True:
            found, positions = await connection.tail(positions, _PAGE, 0)
            entries += [entry_of(each.body) for each in found]
            if not found:
                break
        for group in groups:
            standing = await connection.standing(group)
            result.unsettled += standing.pending + standing.lag
            result.missed += standing.missed
    return entries


async def all_settled(transport: Transport, groups: Sequence[str], patience: float) -> bool:
    """Wait until no event must be handled, or handled again; return False after `patience`."""
    with anyio.move_on_after(patience):
        async with transport.connect() as connection:
            # Other processes write to the log, and there is no notification.
            while any([any((await connection.standing(each))[:2]) for each in groups]):  # noqa: ASYNC110
                await anyio.sleep(0.05)
        return True
    return False


async def dead_letters(transport: Transport, group: str) -> list[DeadLetter]:
    """Return all dead letters of a group."""
    letters: list[DeadLetter] = []
    async with transport.connect() as connection:
        while True:
            last = letters[-1].id if letters else None
            found = await connection.dead_letters(group, after=last)
            letters += found
            if not found:
                return letters


class Census(NamedTuple):
    """The numbers of things that may leak in this process."""

    descriptors: int
    tasks: int
    threads: int

    @classmethod
    def take(cls) -> Census:
        """Return the numbers as they are now."""
        # AnyIO and trio keep idle threads for a while.
        threads = [each for each in threading.enumerate() if not each.name.startswith(_CACHED)]
        descriptors = list(Path("/dev/fd").iterdir())
        return cls(len(descriptors), len(anyio.get_running_tasks()), len(threads))

    async def leaks(self) -> int:
        """Return how many more there are by now, after giving all of them time to end."""
        return await left(
            lambda: sum(max(now - then, 0) for now, then in zip(self.take(), self, strict=True))
        )


async def left(count: Callable[[], int]) -> int:
    """Return the count, after giving all time to end, which the far ends of connections need."""
    for _ in range(100):
        if not count():
            break
        await anyio.sleep(0.02)
    return count()
