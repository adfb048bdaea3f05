"""What was published and handled, and what the log holds: the judge of every scenario."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, final

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence, Sized

    from flexiflow.extras.durable import DeadLetter, Transport

Message: TypeAlias = tuple[Any, ...]
"""A payload; no two publishes have the same."""

NAME = "chaos.message"
_PAGE = 5_000
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
    """What became of the messages of one run.

    Attributes:
        scenario: which.
        backend: what it ran on.
        mode: in which of its forms.
        kills: how often something was killed, or otherwise harmed.
        stored: how many events the log holds.
        handled: how many were handled, all groups together.
        twice: how many handlings there were more than one per event and group.
        in_doubt: how many publishes failed; each was tried anew as another message.
        dead: how many dead letters there are, and ought to be.
        lost: how many were confirmed and are not in the log.
        unhandled: how many are in the log, and were neither handled nor became dead letters.
        doubled: how many are in the log more than once.
        wrong: how many dead letters there are too many, or too few.
        missed: how many events groups were told that a server has lost, which they had not settled.
        unsettled: how many the transport thinks are still to be handled, or were missed wrongly.
        leaks: how many connections, descriptors, tasks and threads were left.
        seconds: how long it took.
        stalled: whether it was given up, with nothing happening any more.
        may_lose: whether a server that is killed may lose what it has confirmed.
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
    leaks: int = 0
    seconds: float = 0.0
    stalled: bool = False
    may_lose: bool = False

    @property
    def faults(self) -> dict[str, int]:
        """What should not have been, by its name; empty if all is well."""
        values = asdict(self)
        names = ["unhandled", "doubled", "wrong", "unsettled", "leaks", "stalled"]
        if not self.may_lose:
            names.append("lost")
        return {name: int(values[name]) for name in names if values[name]}


@final
class Pulse:
    """Tells those who wait that something has happened."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._is_awaited = False

    def beat(self) -> None:
        """Something has happened."""
        if self._is_awaited:
            self._is_awaited = False
            self._event.set()
            self._event = anyio.Event()

    async def until(self, condition: Callable[[], bool], patience: float = inf) -> bool:
        """Wait for a condition; False if nothing at all has happened for so many seconds."""
        while not condition():
            with anyio.move_on_after(patience) as scope:
                self._is_awaited = True
                await self._event.wait()
            if scope.cancelled_caught:
                return condition()
        return True


@dataclass
class Ledger:
    """What publishers and handlers saw.

    Attributes:
        confirmed: what was published without a failure.
        handled: how often each message was handled, by group.
        in_doubt: how many publishes failed.
        pulse: beats with each of these.
    """

    confirmed: set[Message] = field(default_factory=set[Message])
    handled: dict[str, Counter[Message]] = field(default_factory=dict[str, Counter[Message]])
    in_doubt: int = 0
    pulse: Pulse = field(default_factory=Pulse)

    def confirm(self, message: Message) -> None:
        """Note that a publish ended well."""
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
        """Wait until something has so many items."""
        await self.pulse.until(lambda: len(counted) >= goal)

    async def all_handled(
        self, groups: Sequence[str], messages: Collection[Message], patience: float
    ) -> bool:
        """Wait until each group has handled all; False if nothing happens any more."""
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
        """Compare what was seen with what the log holds, and write it into the result.

        Args:
            result: where to.
            entries: the log.
            groups: those that were to handle it all.
            poison: what none of them can handle.
            dead: the dead letters of all of them.
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
        """Return how many lost events no group was told of, or how many too many it was (X13)."""
        counts = [self.handled.get(group, Counter[Message]()) for group in groups]
        least = sum(len(lost - each.keys()) for each in counts)
        # A group may not have settled yet what it handled, nor know of what nobody confirmed.
        most = len(groups) * (len(lost) + self.in_doubt) if result.may_lose else 0
        return max(0, least - result.missed, result.missed - most)


def _surplus(counts: Counter[Any]) -> int:
    return counts.total() - len(counts)


def entry_of(body: bytes) -> Entry:
    """Read an event as it is on the wire, without what is under test."""
    event = json.loads(body)
    return Entry(event["id"], tuple(event["data"]))


async def look(transport: Transport, result: Result, groups: Sequence[str]) -> list[Entry]:
    """Read a log from its beginning, and add to the result what groups have not settled."""
    entries: list[Entry] = []
    async with transport.connect() as connection:
        positions: Sequence[str] = ["0-0" if "redis" in connection.address else "0"]
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
    """Wait until nothing is to be handled, also not again; False if that takes too long."""
    with anyio.move_on_after(patience):
        async with transport.connect() as connection:
            # Others write to it, of which nothing tells.
            while any([any((await connection.standing(each))[:2]) for each in groups]):  # noqa: ASYNC110
                await anyio.sleep(0.05)
        return True
    return False


async def dead_letters(transport: Transport, group: str) -> list[DeadLetter]:
    """Read all dead letters of a group."""
    letters: list[DeadLetter] = []
    async with transport.connect() as connection:
        while True:
            last = letters[-1].id if letters else None
            found = await connection.dead_letters(group, after=last)
            letters += found
            if not found:
                return letters


class Census(NamedTuple):
    """How many there are of what may leak, in this process."""

    descriptors: int
    tasks: int
    threads: int

    @classmethod
    def take(cls) -> Census:
        """Count them."""
        # Threads that wait for work are kept for a while, by AnyIO and by trio.
        threads = [each for each in threading.enumerate() if not each.name.startswith(_CACHED)]
        descriptors = list(Path("/dev/fd").iterdir())
        return cls(len(descriptors), len(anyio.get_running_tasks()), len(threads))

    async def leaks(self) -> int:
        """Count how many there are more by now, once all had time to end."""
        return await left(
            lambda: sum(max(now - then, 0) for now, then in zip(self.take(), self, strict=True))
        )


async def left(count: Callable[[], int]) -> int:
    """Count what is left, once all had time to end, as the far ends of connections need it."""
    for _ in range(100):
        if not count():
            break
        await anyio.sleep(0.02)
    return count()
