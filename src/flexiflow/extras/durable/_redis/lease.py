"""A worker's lease of one partition on a Redis server.

An answer can be lost after its script has run. Then the lease does not know what it was given, so
the next `receive` lists what did come, and the script gives the rest anew. A settling that would do
harm if it was done twice is numbered, and the server keeps its answer for a repetition.

Receiving and acknowledging have a short script each for the common case (`give.lua`,
`acknowledge.lua`). Where that does not apply, it leaves all as it was, and the full script is run.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

import anyio

from flexiflow.extras.durable._errors import LeaseLost, TransportUnavailable
from flexiflow.extras.durable._membership import KEPT_FOR
from flexiflow.extras.durable._outcomes import Settled
from flexiflow.extras.durable._records import Delivery
from flexiflow.extras.durable._redis.entries import fields, flat, key_of, milliseconds, text
from flexiflow.extras.durable._redis.held import ALL_CAME, Held
from flexiflow.extras.durable._redis.scripts import (
    ACKNOWLEDGE,
    GIVE,
    GIVE_ALL,
    RELEASE,
    RENEW,
    SETTLE,
)
from flexiflow.extras.durable._redis.waiter import Seen, Waiter

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from flexiflow.extras._redis.script import Script
    from flexiflow.extras.durable._outcomes import Outcome
    from flexiflow.extras.durable._records import Member, Room
    from flexiflow.extras.durable._redis.network import Network

# The most lost answers that count: with as many, few records are asked for at once. Each answer
# that comes takes one off.
_MOST_LOSSES: Final = 8

# The greatest number that a script can count to.
_MOST: Final = 2**53


class Right(NamedTuple):
    """The fixed properties of a lease.

    Attributes:
        partition: the partition.
        name: its name on the server: its token and the epoch of the log.
        digest: a digest of the member's patterns.
        lines: the keys of which records waited when it began.
        replay: the number of the group's replay.
        is_exclusive: whether there is only one lease of a partition at a time.
    """

    partition: int
    name: bytes
    digest: str
    lines: Collection[str]
    replay: int
    is_exclusive: bool


@final
class RedisLease:
    """A lease; see `Lease`, which describes its methods.

    Args:
        network: the servers.
        member: the worker that has it.
        right: its fixed properties.
        max_event_bytes: how many bytes an event may have.
    """

    def __init__(
        self, network: Network, member: Member, right: Right, *, max_event_bytes: int
    ) -> None:
        self.partition = right.partition
        self.lines = right.lines
        self.replay = right.replay
        self._network = network
        self._member = member
        self._right = right
        self._owner = b"0" if right.is_exclusive else right.name
        token, _, self._epoch = right.name.partition(b"-")
        self.token = int(token)
        self._max_event_bytes = max_event_bytes
        self._held = Held()
        self._is_gone = False
        # Whether the common case may apply: nothing but new records can be given.
        self._is_common = True
        # Lost answers, and how often others took something, as far as it knows.
        self._losses = 0
        self._taken = 0
        self._seen: Seen | None = None
        self._waiter = Waiter(network, right.partition, member.group, right.name)

    async def receive(self, room: Room) -> Sequence[Delivery]:
        # Lost unless the answer comes: the script may have given something all the same.
        held = self._held
        came, turn = held.came(), held.settled
        held.is_lost = True
        answer = await self._ask(room, came)
        entries, fresh, groups, given, wakes, sooner, watches, again, is_common = answer
        self._is_common = is_common == 1
        found = [_delivery(*each) for each in entries]
        held.take(found)
        new = _fresh(fresh, {place: text(name) for place, name in groups}, given)
        held.take_new(new)
        found += new
        # There may be more that a lost answer had given.
        held.is_lost = came != ALL_CAME and again == 0
        self._note(found, given)
        until = anyio.current_time() + again / 1000 if again >= 0 else inf
        self._seen = Seen(given, wakes, sooner, turn, watches == 1, until)
        return found

    def _note(self, found: list[Delivery], given: bytes) -> None:
        """Remember the last record that is known to be in the log (X13)."""
        last = given.decode()
        # Records that have waited may come after the new ones.
        for each in reversed(found):
            if each.position == last and not each.oversize:
                self._network.epochs.of(self.partition).note(self._epoch, given, each.body)
                return

    async def _ask(self, room: Room, came: tuple[int | str, ...]) -> list[Any]:
        """Ask for records, for fewer after lost answers, which may have been too long to arrive."""
        many = max(room.records >> max(self._losses - 1, 0), 1)
        try:
            answer = await self._give(room, many, came)
        except TransportUnavailable:
            self._losses = min(self._losses + 1, _MOST_LOSSES)
            raise
        self._losses = max(self._losses - 1, 0)
        return answer

    async def _give(self, room: Room, many: int, came: tuple[int | str, ...]) -> list[Any]:
        digest, size = self._right.digest, min(room.size, _MOST)
        if self._is_common and came == ALL_CAME:
            answer = await self._run(GIVE, digest, many, size, self._max_event_bytes)
            if answer:
                return answer
        return await self._run(
            GIVE_ALL,
            self._owner,
            digest,
            many,
            size,
            self._max_event_bytes,
            min(room.waiting, _MOST),
            milliseconds(self._member.longest_delay),
            milliseconds(KEPT_FOR),
            min(room.again, _MOST),
            *came,
        )

    async def wait(self, seconds: float) -> None:
        if self._is_gone:
            raise self._lost()
        await self._waiter.wait(self._seen, seconds)

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        done, others = self._held.split(outcomes)
        number = self._held.number_of(outcomes, others) if others else 0
        count, lost, over = await self._write(number, done, others)
        self._held.settle(number, done, others)
        self._network.epochs.of(self.partition).note_settled(self._epoch, self._member.group, count)
        if not lost and not over:
            return _ALL_SETTLED
        positions = [each.decode() for each in lost]
        self._held.forget(positions)
        return Settled(positions, list(map(key_of, over)))

    async def _write(self, number: int, done: list[str], others: list[Outcome]) -> list[Any]:
        if not others:
            answer = await self._run(ACKNOWLEDGE, self._taken, *done)
            if answer:
                return answer
        return await self._run(
            SETTLE,
            self._owner,
            self._taken,
            number,
            len(done),
            *done,
            *(field for each in others for field in flat(each)),
        )

    async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
        lost, taken = await self._renew(positions)
        if taken != self._taken:
            # Others took something: find out what, so that it is not settled as if it was held.
            gone, self._taken = await self._renew(self._held.positions)
            self._held.forget(gone)
        self._held.forget(lost)
        return lost

    async def _renew(self, positions: Sequence[str]) -> tuple[list[str], int]:
        lease = milliseconds(self._member.lease)
        count, taken, lost = await self._run(RENEW, lease, *positions)
        self._network.epochs.of(self.partition).note_settled(self._epoch, self._member.group, count)
        return [each.decode() for each in lost], taken

    async def release(self) -> None:
        await self._run(RELEASE, self._owner, *self._held.came())
        self._is_gone = True
        self._waiter.close()

    async def _run(self, script: Script, *arguments: bytes | str | int) -> list[Any]:
        group, name = self._member.group, self._right.name
        status, *answer = await self._network.run(self.partition, script, group, name, *arguments)
        if status == b"LOST":
            self._is_gone = True
            self._waiter.close()
            raise self._lost()
        return answer

    def _lost(self) -> LeaseLost:
        return LeaseLost(self._member.consumer, self._member.group, self.partition)


_ALL_SETTLED: Final = Settled()


def _fresh(bodies: list[bytes], groups: dict[int, str | None], last: bytes) -> list[Delivery]:
    """Return the deliveries of new records whose positions follow each other up to `last`."""
    before = int(last.partition(b"-")[0]) - len(bodies)
    return [
        Delivery(f"{before + place}-0", body, groups.get(place), 0, 1, is_suspect=False)
        for place, body in enumerate(bodies, 1)
    ]


def _delivery(position: bytes, entry: list[bytes], *counts: int) -> Delivery:
    body, group, _ = fields(entry)
    attempts, deliveries, is_suspect, has_waited, oversize = counts
    return Delivery(
        position.decode(),
        body,
        group,
        attempts,
        deliveries,
        is_suspect == 1,
        has_waited=has_waited == 1,
        oversize=oversize,
    )
