"""A worker's lease of one partition on a Redis server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

import anyio

from flexiflow.extras.durable._errors import LeaseLost, TransportUnavailable
from flexiflow.extras.durable._redis_replies import Broken, Refused
from flexiflow.extras.durable._redis_scripts import GIVE, RELEASE, RENEW, SETTLE
from flexiflow.extras.durable._transport import (
    Acknowledged,
    Buried,
    Delivery,
    Returned,
    Standing,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flexiflow.extras.durable._redis_client import Wire
    from flexiflow.extras.durable._redis_network import Network
    from flexiflow.extras.durable._redis_scripts import Script
    from flexiflow.extras.durable._redis_url import Server
    from flexiflow.extras.durable._transport import Member, Noted, Outcome

# For so many seconds one waits in a row: then it is looked whose lease has run out.
_TURN: Final = 1.0

# In a row: then it is asked for hardly anything, and not long after it is answered again for all.
_MOST_LOSSES: Final = 8

_ALL_CAME: Final = (0,)


@final
class RedisLease:
    """A lease.

    Args:
        network: the servers.
        member: whose it is.
        partition: of what.
        token: its token.
        seconds: how long an answer may take.
    """

    def __init__(
        self, network: Network, member: Member, partition: int, token: int, *, seconds: float
    ) -> None:
        self._network = network
        self._member = member
        self._partition = partition
        self._token = token
        self._seconds = seconds
        self._held: set[str] = set()
        self._is_lost = False
        self._losses = 0
        self._waiter: tuple[Wire, Server] | None = None

    @property
    def partition(self) -> int:
        """The partition."""
        return self._partition

    @property
    def token(self) -> int:
        """The fencing token."""
        return self._token

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        """Be given records, those first that workers without a lease have left."""
        end = anyio.current_time() + wait
        while True:
            found, given, wakes = await self._give(limit)
            seconds = min(end - anyio.current_time(), _TURN)
            if found or seconds <= 0:
                return found
            await self._wait(given, wakes, seconds)

    async def _give(self, limit: int) -> tuple[list[Delivery], bytes, bytes]:
        # An answer that never comes has given something all the same.
        came = self._came()
        self._is_lost = True
        most = max(limit >> max(self._losses - 1, 0), 1)
        entries, fresh, groups, given, wakes = await self._ask(most, came)
        found = [_delivery(*each) for each in entries]
        found += _fresh(fresh, {place: text(name) for place, name in groups}, given)
        # Of what was lost there may be more.
        self._is_lost = came != _ALL_CAME and len(found) == most
        self._held.update(each.position for each in found)
        return found, given, wakes

    async def _ask(self, most: int, came: tuple[int | str, ...]) -> list[Any]:
        """Have records given; fewer where answers don't come, which may be too long to come."""
        try:
            answer = await self._run(GIVE, most, *came)
        except TransportUnavailable:
            self._losses = min(self._losses + 1, _MOST_LOSSES)
            raise
        self._losses = max(self._losses - 1, 0)
        return answer

    def _came(self) -> tuple[int | str, ...]:
        return (1, *self._held) if self._is_lost else _ALL_CAME

    async def _wait(self, given: bytes, wakes: bytes, seconds: float) -> None:
        """Wait until something is stored or given back, on a connection of its own."""
        if self._waiter is None or not self._waiter[0].is_alive:
            self._waiter = await self._network.open(self._partition)
        wire, server = self._waiter
        base = self._network.base(self._partition)
        streams = (f"{base}:log", f"{base}:w:{self._member.group}", given, wakes)
        # 0 would be for ever.
        block = max(int(seconds * 1000), 1)
        command = ("XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", *streams)
        is_over = False
        try:
            await wire.call([command], seconds + self._seconds)
            is_over = True
        except (Broken, Refused) as error:
            raise self._network.explain(error, server) from error
        finally:
            if not is_over:
                self._close()

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Write down what became of records that are held."""
        held = [each for each in outcomes if each.position in self._held]
        done = [each.position for each in held if isinstance(each, Acknowledged)]
        others = [each for each in held if not isinstance(each, Acknowledged)]
        # Before they are: they may be given anew before the answer is seen here.
        returned = {each.position for each in others if isinstance(each, Returned)}
        self._held -= returned
        is_over = False
        try:
            await self._run(
                SETTLE, len(done), *done, *(field for each in others for field in _flat(each))
            )
            is_over = True
        finally:
            if not is_over:
                self._held |= returned
        self._held.difference_update(done)
        self._held.difference_update(each.position for each in others if isinstance(each, Buried))

    async def renew(self) -> Standing:
        """Hold the lease for as long again."""
        (standing,) = await self._run(RENEW, milliseconds(self._member.lease))
        return Standing(*standing)

    async def release(self) -> None:
        """End the lease."""
        await self._run(RELEASE, *self._came())
        self._close()

    def _close(self) -> None:
        if self._waiter is not None:
            self._waiter[0].close()
            self._waiter = None

    async def _run(self, script: Script, *arguments: bytes | str | int) -> list[Any]:
        group = self._member.group
        status, *answer = await self._network.run(
            self._partition, script, group, self._token, *arguments
        )
        if status == b"LOST":
            self._close()
            raise LeaseLost(self._member.consumer, group, self._partition)
        return answer


def milliseconds(seconds: float) -> int:
    """Give seconds as the server counts them."""
    return max(int(seconds * 1000), 1)


def fields(entry: list[bytes]) -> tuple[bytes, str | None, str | None]:
    """Read the body, the key and the group of an entry."""
    if len(entry) == 2:  # noqa: PLR2004 - the event alone
        return entry[1], None, None
    found = dict(zip(entry[::2], entry[1::2], strict=True))
    key, group = found.get(b"key"), found.get(b"group")
    return found[b"event"], text(key), text(group)


def text(value: bytes | None) -> str | None:
    """Read a text that may be anything, where something else has written it."""
    return value.decode(errors="backslashreplace") if value is not None else None


def _fresh(bodies: list[bytes], groups: dict[int, str | None], last: bytes) -> list[Delivery]:
    """Make deliveries of records that come one right after the other."""
    before = int(last.partition(b"-")[0]) - len(bodies)
    return [
        Delivery(f"{before + place}-0", body, groups.get(place), 0, 1, is_suspect=False)
        for place, body in enumerate(bodies, 1)
    ]


def _delivery(
    position: bytes, entry: list[bytes], attempts: int, deliveries: int, is_suspect: int
) -> Delivery:
    body, _, group = fields(entry)
    return Delivery(position.decode(), body, group, attempts, deliveries, is_suspect == 1)


def _flat(outcome: Noted | Returned | Buried) -> Iterator[bytes | str | int]:
    yield type(outcome).__name__[0]
    yield outcome.position
    yield outcome.attempts
    yield outcome.deliveries
    if isinstance(outcome, Buried):
        # What an exception says need not be encodable.
        for each in outcome.failure:
            yield each.encode(errors="backslashreplace")
