"""A worker's lease of one partition on a Redis server.

An answer can be lost after its script has run. Then the lease does not know what it was given, so
the next `receive` lists what did come, and the script gives the rest anew. A settling that would do
harm if it was done twice is numbered, and the server keeps its answer for a repetition.

Receiving and acknowledging have a short script each for the common case (`give.lua`,
`acknowledge.lua`). Where that does not apply, it leaves all as it was, and the full script is run.
"""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

import anyio
from anyio.lowlevel import checkpoint

from flexiflow.extras._redis.replies import Broken, Refused
from flexiflow.extras.durable._errors import LeaseLost, TransportUnavailable
from flexiflow.extras.durable._membership import KEPT_FOR
from flexiflow.extras.durable._outcomes import (
    Acknowledged,
    Buried,
    Followed,
    Postponed,
    Returned,
    Settled,
)
from flexiflow.extras.durable._records import Delivery
from flexiflow.extras.durable._redis.entries import fields, flat, key_of, milliseconds, text
from flexiflow.extras.durable._redis.scripts import (
    ACKNOWLEDGE,
    GIVE,
    GIVE_ALL,
    RELEASE,
    RENEW,
    SETTLE,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from flexiflow.extras._redis.client import Wire
    from flexiflow.extras._redis.script import Script
    from flexiflow.extras._redis.url import Server
    from flexiflow.extras.durable._outcomes import Outcome
    from flexiflow.extras.durable._records import Member, Room
    from flexiflow.extras.durable._redis.network import Network

# The longest wait in one go, in seconds: then `receive` looks for leases that have run out.
_TURN: Final = 1.0

# The most lost answers that count: with as many, few records are asked for at once. Each answer
# that comes takes one off.
_MOST_LOSSES: Final = 8

_ALL_CAME: Final = (0,)

# The greatest number that a script can count to.
_MOST: Final = 2**53


class Right(NamedTuple):
    """The fixed properties of a lease.

    Attributes:
        partition: the partition.
        name: its name on the server: its token and the epoch of the log.
        digest: a digest of the member's patterns.
        lines: the keys of which records waited when it began.
        replay: how many times the group had been made to begin again.
        is_exclusive: whether there is only one lease of a partition at a time.
    """

    partition: int
    name: bytes
    digest: str
    lines: Collection[str]
    replay: int
    is_exclusive: bool


class _Seen(NamedTuple):
    """What the last `receive` saw, from which `wait` goes on.

    Attributes:
        given: the id up to which records were given.
        wakes: the id of the last wake of the group.
        turn: the number of this lease's last settling before it.
        watches: whether the next record that is stored could be given.
        until: when there will be more to give, at the latest.
    """

    given: bytes
    wakes: bytes
    turn: int
    watches: bool
    until: float


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
        # The positions that it holds, from the log and after waiting, and those that it has asked
        # to let go of, until the answer comes.
        self._held: set[str] = set()
        self._waited: set[str] = set()
        self._doubtful: set[str] = set()
        # Whether an answer of `receive` may be lost, and whether the lease is gone.
        self._is_lost = self._is_gone = False
        # Whether the common case may apply: nothing but new records can be given.
        self._is_common = True
        # Lost answers, how often others took something (as far as it knows), and settlings.
        self._losses = 0
        self._taken = 0
        self._settled = self._number = 0
        self._tried: list[Outcome] | None = None
        self._seen: _Seen | None = None
        self._waiter: tuple[Wire, Server] | None = None

    async def receive(self, room: Room) -> Sequence[Delivery]:
        # Lost unless the answer comes: the script may have given something all the same.
        came, turn = self._came(), self._settled
        self._is_lost = True
        entries, fresh, groups, given, wakes, watches, again, is_common = await self._ask(
            room, came
        )
        self._is_common = is_common == 1
        found = [_delivery(*each) for each in entries]
        for each in found:
            (self._waited if each.has_waited else self._held).add(each.position)
        new = _fresh(fresh, {place: text(name) for place, name in groups}, given)
        self._held.update([each.position for each in new])
        found += new
        # There may be more that a lost answer had given.
        self._is_lost = came != _ALL_CAME and again == 0
        self._note(found, given)
        until = anyio.current_time() + again / 1000 if again >= 0 else inf
        self._seen = _Seen(given, wakes, turn, watches == 1, until)
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
        if self._is_common and came == _ALL_CAME:
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

    def _came(self) -> tuple[int | str, ...]:
        if not self._is_lost:
            return _ALL_CAME
        return (1, *self._held, *self._waited, *self._doubtful)

    async def wait(self, seconds: float) -> None:
        # By a connection of its own.
        if self._is_gone:
            raise self._lost()
        seen = self._seen
        left = min(seconds, _TURN, seen.until - anyio.current_time()) if seen is not None else 0
        if seen is None or left <= 0:
            await checkpoint()
            return
        if self._waiter is None or not self._waiter[0].is_alive:
            self._waiter = await self._network.open(self.partition)
        wire, server = self._waiter
        # 0 would mean for ever.
        block = max(ceil(left * 1000), 1)
        is_over = False
        try:
            await wire.call(
                [("XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", *self._streams(seen))],
                left + self._network.seconds,
            )
            is_over = True
        except (Broken, Refused) as error:
            raise self._network.explain(error, server) from error
        finally:
            if not is_over:
                self._close()

    def _streams(self, seen: _Seen) -> list[str | bytes]:
        """Return the streams to wait for, followed by the ids after which to read them."""
        base, group = self._network.base(self.partition), self._member.group
        streams: dict[str | bytes, str | bytes] = {
            f"{base}:w:{group}": seen.wakes,
            f"{base}:turn:{group}:".encode() + self._right.name: f"{seen.turn}-0",
        }
        if seen.watches:
            streams[f"{base}:log"] = seen.given
        return [*streams, *streams.values()]

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        held = self._held
        done: list[str] = []
        others: list[Outcome] = []
        for each in outcomes:
            if type(each) is Acknowledged and each.position in held:
                done.append(each.position)
            else:
                others.append(each)
        number = self._number_of(outcomes, others) if others else 0
        count, lost, over = await self._write(number, done, others)
        self._tried = None
        self._settled = max(self._settled, number)
        held.difference_update(done)
        if others:
            self._let_go(others)
        self._network.epochs.of(self.partition).note_settled(self._epoch, self._member.group, count)
        if not lost and not over:
            return _ALL_SETTLED
        positions = [each.decode() for each in lost]
        self._forget(positions)
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

    def _number_of(self, outcomes: Sequence[Outcome], others: list[Outcome]) -> int:
        """Return a number for outcomes that must not be written twice, else 0.

        All tries of the same outcomes have the same number.
        """
        if self._tried is not None and self._tried == list(outcomes):
            return self._number
        released = {each.position for each in others if isinstance(each, Returned | Postponed)}
        if not released and not any(
            isinstance(each, Followed) or each.position in self._waited for each in others
        ):
            return 0
        # Before they are released: they may be given anew before the answer is seen here.
        self._doubtful |= released & (self._held | self._waited)
        self._forget(released)
        self._tried = list(outcomes)
        self._number += 1
        return self._number

    def _let_go(self, others: list[Outcome]) -> None:
        for each in others:
            if isinstance(each, Acknowledged | Buried):
                self._waited.discard(each.position)
                self._held.discard(each.position)
            elif isinstance(each, Returned | Postponed):
                self._doubtful.discard(each.position)

    def _forget(self, positions: Collection[str]) -> None:
        self._held.difference_update(positions)
        self._waited.difference_update(positions)

    async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
        lost, taken = await self._renew(positions)
        if taken != self._taken:
            # Others took something: find out what, so that it is not settled as if it was held.
            gone, self._taken = await self._renew([*self._held, *self._waited])
            self._forget(gone)
        self._forget(lost)
        return lost

    async def _renew(self, positions: Sequence[str]) -> tuple[list[str], int]:
        lease = milliseconds(self._member.lease)
        count, taken, lost = await self._run(RENEW, lease, *positions)
        self._network.epochs.of(self.partition).note_settled(self._epoch, self._member.group, count)
        return [each.decode() for each in lost], taken

    async def release(self) -> None:
        await self._run(RELEASE, self._owner, *self._came())
        self._is_gone = True
        self._close()

    def _close(self) -> None:
        if self._waiter is not None:
            self._waiter[0].close()
            self._waiter = None

    async def _run(self, script: Script, *arguments: bytes | str | int) -> list[Any]:
        group, name = self._member.group, self._right.name
        status, *answer = await self._network.run(self.partition, script, group, name, *arguments)
        if status == b"LOST":
            self._is_gone = True
            self._close()
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
