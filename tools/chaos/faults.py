"""Transports with one fault each, which the scenarios must find."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from math import inf
from typing import TYPE_CHECKING, Any, Final, cast, final

import anyio

from flexiflow.extras.durable import Acknowledged, Buried, Failure, LeaseLost
from tools.chaos.load import sound

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from flexiflow.extras.durable import (
        Batch,
        Connection,
        Delivery,
        Lease,
        Outcome,
        Record,
        Room,
        Settled,
        Standing,
        Transport,
    )
    from tools.chaos.load import Spoil

_HURRIED: Final = 0.2
"""Seconds that the lease of a faulty transport lasts."""

LEAKED: Final[list[int]] = []
"""The descriptors that a fault has left open."""


class _Other:
    """A wrapper that behaves like the wrapped object, except where a subclass differs."""

    def __init__(self, sound: Any) -> None:
        self._sound = sound

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sound, name)


class _Lease(_Other):
    """A lease without a fault."""


class _Connection(_Other):
    """A connection without a fault, whose leases may have one."""

    lease: type[_Lease] = _Lease

    async def acquire(self, *arguments: Any) -> Lease | None:
        found = await self._sound.acquire(*arguments)
        return found and cast("Lease", self.lease(found))


@final
class _Transport:
    def __init__(self, sound: Transport, connection: type[_Connection]) -> None:
        self._sound = sound
        self._connection = connection

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Connection]:
        async with self._sound.connect() as connection:
            yield cast("Connection", self._connection(connection))


class _StoresAgain(_Connection):
    """Stores a batch a second time when it is tried again."""

    async def store(self, batch: Batch) -> None:
        await self._sound.store(batch)
        if batch.number == 1:
            await self._sound.store(batch._replace(producer=f"{batch.producer} again"))


class _StoresLess(_Connection):
    """Confirms records that it has not stored."""

    async def store(self, batch: Batch) -> None:
        if batch.number > 1:
            await self._sound.store(batch)


class _EarlyLease(_Lease):
    """Acknowledges records before they are handled."""

    async def receive(self, room: Room) -> Sequence[Delivery]:
        found: Sequence[Delivery] = await self._sound.receive(room)
        await self._sound.settle([Acknowledged(each.position) for each in found])
        return found


class _Early(_Connection):
    lease = _EarlyLease


class _ForgetfulLease(_Lease):
    """Forgets the first record that it is given."""

    _has_forgotten = False

    async def receive(self, room: Room) -> Sequence[Delivery]:
        found: Sequence[Delivery] = await self._sound.receive(room)
        if found and not self._has_forgotten:
            self._has_forgotten = True
            return found[1:]
        return found


class _Forgetful(_Connection):
    lease = _ForgetfulLease


class _BuryingLease(_Lease):
    """Buries a record that was handled."""

    _has_buried = False

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        first, *rest = outcomes
        if isinstance(first, Acknowledged) and not self._has_buried:
            self._has_buried = True
            first = Buried(first.position, 1, 1, Failure("", "", ""))
        settled: Settled = await self._sound.settle([first, *rest])
        return settled


class _Burying(_Connection):
    lease = _BuryingLease


class _HurriedLease(_Lease):
    """Is lost as soon as it has run out, even if no other lease was given its records."""

    _until = inf

    async def receive(self, room: Room) -> Sequence[Delivery]:
        if self._until == inf:
            self._until = anyio.current_time() + _HURRIED
        found: Sequence[Delivery] = await self._sound.receive(room)
        return found

    async def renew(self, positions: Sequence[str] = ()) -> Sequence[str]:
        self._hurry()
        self._until = anyio.current_time() + _HURRIED
        lost: Sequence[str] = await self._sound.renew(positions)
        return lost

    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        self._hurry()
        settled: Settled = await self._sound.settle(outcomes)
        return settled

    def _hurry(self) -> None:
        if anyio.current_time() > self._until:
            raise LeaseLost("", "", 0)


class _Hurried(_Connection):
    lease = _HurriedLease


class _Unaware(_Connection):
    """Reports for every group that it missed nothing."""

    async def standing(self, group: str) -> Standing:
        standing: Standing = await self._sound.standing(group)
        return standing._replace(missed=0)


class _Mistimed(_Connection):
    """Confirms what it does not schedule, hands out early, and cancels nothing, by turns."""

    _turn = 0

    async def schedule(self, ticket: str, record: Record, **when: float | None) -> None:
        self._turn += 1
        if self._turn % 3 == 0:
            return
        if self._turn % 3 == 1:
            when = {"at": None, "delay": 0.0}
        await self._sound.schedule(ticket, record, **when)

    async def cancel(self, _ticket: str) -> bool:
        return True


@final
class _Leaking:
    """Leaves a descriptor open each time."""

    def __init__(self, sound: Transport) -> None:
        self._sound = sound

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Connection]:
        LEAKED.extend(os.pipe())
        async with self._sound.connect() as connection:
            yield connection


def _with(connection: type[_Connection]) -> Callable[[Transport], Transport]:
    return lambda transport: _Transport(transport, connection)


FAULTS: Final[dict[str, Spoil]] = {
    "": sound,
    "acknowledges before handling": _with(_Early),
    "buries what was handled": _with(_Burying),
    "confirms what it did not store": _with(_StoresLess),
    "forgets a pending one": _with(_Forgetful),
    "is lost when it has run out": _with(_Hurried),
    "leaks": _Leaking,
    "mistimes": _with(_Mistimed),
    "misses nothing": _with(_Unaware),
    "stores again": _with(_StoresAgain),
}
"""The faults by name; the first one is no fault."""
