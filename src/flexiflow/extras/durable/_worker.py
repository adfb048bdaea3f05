"""A worker of a group: it takes events in, has them handled, and settles them (X1, X3, X4)."""

from __future__ import annotations

from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from flexiflow._cancellation import leaves
from flexiflow._reporting import logger
from flexiflow.extras.durable._cloudevents import decode
from flexiflow.extras.durable._crew import Crew
from flexiflow.extras.durable._errors import (
    LeaseLost,
    TransportError,
    TransportUnavailable,
    WorkersDied,
)
from flexiflow.extras.durable._failing import failure_of, log_burial
from flexiflow.extras.durable._held import Held, Origin
from flexiflow.extras.durable._intake import Intake
from flexiflow.extras.durable._lanes import Queue
from flexiflow.extras.durable._partitions import share
from flexiflow.extras.durable._patterns import Patterns
from flexiflow.extras.durable._signal import Signal
from flexiflow.extras.durable._transport import Acknowledged, Buried, Noted, Returned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow._bus import EventBus
    from flexiflow.extras.durable._arguments import Settings
    from flexiflow.extras.durable._outages import Outages
    from flexiflow.extras.durable._statistics import Counters
    from flexiflow.extras.durable._transport import (
        Connection,
        Delivery,
        Lease,
        Member,
        Transport,
    )

_LONGEST_WAIT: Final = 1.0
_LONGEST_DELAY: Final = 30.0
_BEATS: Final = 3
"""How often a lease is renewed before it would run out."""


@final
class Worker:
    """Hands the events of a group on to a bus.

    Args:
        bus: the bus.
        transport: where events come from.
        connection: an open connection to it.
        member: who this is.
        settings: how the bridge is to work.
        outages: calls the connection.
        counters: what happens is counted there.
    """

    def __init__(
        self,
        bus: EventBus,
        transport: Transport,
        connection: Connection,
        member: Member,
        settings: Settings,
        outages: Outages,
        counters: Counters,
    ) -> None:
        self._bus = bus
        self._transport = transport
        self._connection = connection
        self._member = member
        self._settings = settings
        self._outages = outages
        self._counters = counters
        self._patterns = Patterns(member.patterns)
        self._queue: Queue[Held[Intake]] = Queue()
        self._intakes: dict[int, Intake] = {}
        self._mine = range(0)
        self._obtaining: set[int] = set()
        self._changed = Signal()
        self._dropped = Signal()
        self._leaving = anyio.Event()
        self._ended = anyio.Event()
        self._missed: int | None = None
        self._group: Any = None
        self._context = copy_context()
        self._crew = Crew(
            bus,
            self._queue,
            settings.limit,
            counters,
            patience=member.lease,
            start=self._start,
            conclude=self._conclude,
            unoccupied=self._unoccupied,
        )

    @property
    def held(self) -> int:
        """How many events this worker holds."""
        return sum(intake.held for intake in self._intakes.values())

    async def run(self) -> None:
        """Work until `leave` is called and what is in flight has ended."""
        async with anyio.create_task_group() as group:
            self._group = group
            group.start_soon(self._beat)
            await self._leaving.wait()
            while self._intakes:
                await self._dropped.wait()
            group.cancel_scope.cancel()
        self._ended.set()

    async def ended(self) -> None:
        """Wait until it has left."""
        await self._ended.wait()

    async def join(self) -> None:
        """Become a member of the group, whoever cancels this: then it must also leave.

        Raises:
            TransportError: it can't.
        """
        with anyio.CancelScope(shield=True):
            try:
                await self._connection.join(self._member)
            except BaseException:
                # It may be one, and merely not know; after a lease it is none in any case.
                with anyio.move_on_after(self._member.lease, shield=True):
                    with suppress(TransportError):
                        await self._connection.leave(self._member)
                raise

    def leave(self) -> None:
        """Take no more in; what is in flight has `grace` seconds, the rest is given back (X5)."""
        self._leaving.set()
        for intake in self._intakes.values():
            intake.ending.set()

    async def give_back(self) -> None:
        """Return what is still held, with nothing running any more; end leases and membership."""
        for intake in self._intakes.values():
            intake.give_back()
            with suppress(LeaseLost):
                await intake.flush()
                await self._outages.outlast(intake.lease.release)
        self._intakes.clear()
        await self._outages.outlast(partial(self._connection.leave, self._member))
        await self._look_round()

    async def _beat(self) -> None:
        """Stay a member, and share the partitions with the others."""
        await self._look_round()
        while True:
            consumers = await self._outages.outlast(partial(self._connection.join, self._member))
            self._balance(consumers)
            await self._look_round()
            with anyio.move_on_after(self._member.lease / _BEATS):
                await self._changed.wait()

    async def _renew(self, intake: Intake) -> None:
        """Hold a lease, whether or not other partitions can be reached, until it is lost."""
        with suppress(LeaseLost):
            while True:
                await anyio.sleep(self._member.lease / _BEATS)
                await self._outages.outlast(intake.lease.renew)
        intake.lose()

    def _balance(self, consumers: Sequence[str]) -> None:
        """Lease this worker's share of the partitions, and let go of what is another's."""
        mine = self._share(consumers)
        for partition, intake in self._intakes.items():
            if partition not in mine:
                intake.ending.set()
        self._mine = mine
        for partition in mine:
            if partition not in self._intakes and partition not in self._obtaining:
                self._obtaining.add(partition)
                self._start(self._obtain, partition)

    async def _obtain(self, partition: int) -> None:
        """Lease a partition, whether or not others can be reached, as long as it is to be had."""
        await self._outages.outlast(partial(self._acquire, partition))
        self._obtaining.discard(partition)

    async def _acquire(self, partition: int) -> None:
        # Whose it is may have changed while it could not be reached.
        if partition not in self._mine or self._leaving.is_set():
            return
        # Shielded: one that was given and not told of would be nobody's until it ran out.
        with anyio.CancelScope(shield=True):
            lease = await self._connection.acquire(self._member, partition)
            if lease is not None:
                self._take_up(lease)

    def _share(self, consumers: Sequence[str]) -> range:
        if self._leaving.is_set():
            return range(0)
        if not self._connection.is_exclusive:
            return range(self._connection.partitions)
        return share(self._connection.partitions, consumers, self._member.consumer)

    async def _look_round(self) -> None:
        """See how far the group is, and tell what it missed (X6)."""
        group = self._member.group
        standing = await self._outages.outlast(partial(self._connection.standing, group))
        self._counters.standing = standing
        # What was missed before this worker came, others have told.
        missed = 0 if self._missed is None else standing.missed - self._missed
        self._missed = standing.missed
        if missed > 0:
            logger.error(
                "the group %r missed %d events, deleted before they were settled", group, missed
            )

    def _take_up(self, lease: Lease) -> None:
        intake = Intake(
            Origin(self._bus, self._transport, lease),
            self._queue,
            self._settings.prefetch,
            self._outages,
            self._counters,
        )
        self._intakes[lease.partition] = intake
        if self._leaving.is_set():
            intake.ending.set()
        self._start(self._keep, intake)

    async def _keep(self, intake: Intake) -> None:
        """Take events in by a lease, until that is lost or to be ended."""
        async with anyio.create_task_group() as group:
            group.start_soon(intake.write)
            group.start_soon(self._renew, intake)
            await self._take_in_all(intake)
            if not intake.is_lost:
                await self._drain(intake)
            if intake.is_lost:
                # Once more: the reader may have come back with events in the meantime.
                intake.lose()
                self._crew.stop(intake)
                # The writer may find out, too, and wake this before they have stopped.
                while intake.running:
                    await intake.idle()
            else:
                with suppress(LeaseLost):
                    await self._outages.outlast(intake.lease.release)
            group.cancel_scope.cancel()
        del self._intakes[intake.lease.partition]
        self._dropped.set()
        self._changed.set()

    async def _take_in_all(self, intake: Intake) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._read, intake)
            await intake.ending.wait()
            group.cancel_scope.cancel()

    async def _drain(self, intake: Intake) -> None:
        """Let what is in flight end in time, and give the rest back (X5)."""
        intake.give_back()
        with anyio.move_on_after(self._settings.grace):
            await intake.idle()
        self._crew.stop(intake)
        await intake.idle()
        intake.give_back()
        await intake.written()

    async def _read(self, intake: Intake) -> None:
        wait = min(_LONGEST_WAIT, self._member.lease / _BEATS)
        with suppress(LeaseLost):
            while True:
                receive = partial(intake.lease.receive, await intake.room(), wait)
                for delivery in await self._outages.outlast(receive):
                    self._take_in(intake, delivery)
                self._crew.call()
        intake.lose()

    def _take_in(self, intake: Intake, delivery: Delivery) -> None:
        """Have an event handled, if it is this group's and not given up."""
        if delivery.group is not None and delivery.group != self._member.group:
            intake.pass_over(delivery.position)
            return
        try:
            event = decode(delivery.body, self._settings.codec)
            is_wanted = self._patterns.place(event.name) is not None
        except Exception as exc:  # noqa: BLE001  what can't be read, for whatever reason, is dead
            self._bury(intake, delivery, "an event", exc)
            return
        if not is_wanted:
            intake.pass_over(delivery.position)
        elif delivery.is_suspect and delivery.deliveries >= self._settings.max_deliveries:
            self._bury(intake, delivery, event.name, WorkersDied(event.name, delivery.deliveries))
        else:
            intake.hold(Held(intake, intake.origin, event, delivery))

    def _bury(self, intake: Intake, delivery: Delivery, name: str, problem: Exception) -> None:
        failure = failure_of(problem)
        position, attempts, deliveries = delivery.position, delivery.attempts, delivery.deliveries
        log_burial(self._member.group, name, position, failure)
        intake.settle(Buried(position, attempts, deliveries, failure))

    def _conclude(self, held: Held[Intake], problem: Exception | None) -> None:
        """Decide what is to become of an event after an attempt."""
        if problem is not None:
            self._counters.failed += 1
        intake = held.intake
        if not intake.holds(held):
            return
        if problem is None:
            intake.finish(held, Acknowledged(held.position))
            return
        if _is_an_outage(problem):
            held.outages += 1
        else:
            held.attempts += 1
        held.deliveries, held.is_suspect, held.is_counted = 1, False, True
        if held.attempts >= self._settings.max_attempts:
            failure = failure_of(problem)
            log_burial(self._member.group, held.name, held.position, failure)
            intake.finish(held, Buried(held.position, held.attempts, 1, failure))
        elif intake.is_closing:
            intake.finish(held, Returned(held.position, held.attempts, 0))
        else:
            intake.note(Noted(held.position, held.attempts, 1))
            self._start(self._retry_later, held)

    async def _retry_later(self, held: Held[Intake]) -> None:
        """Hold an event and its key back for a while, and have it handled again."""
        delay = self._settings.retry_delay * 2.0 ** min(held.attempts + held.outages - 1, 64)
        await anyio.sleep(min(delay, _LONGEST_DELAY))
        if held.intake.holds(held):
            held.intake.retry(held)
            self._crew.call()

    def _unoccupied(self) -> None:
        for intake in self._intakes.values():
            intake.freed.set()

    def _start(self, function: Any, *arguments: object) -> None:
        # In a context that no handler has changed, whoever calls.
        self._context.copy().run(self._group.start_soon, function, *arguments)


def _is_an_outage(problem: Exception) -> bool:
    """Tell whether an attempt failed only because what it published could not be stored."""
    return all(isinstance(each, TransportUnavailable) for each in leaves(problem))
