"""A worker of a group: receives events, has them handled, and settles them (X1, X3, X4).

A worker stays a member of its group by calling `Connection.join` three times in each `lease`
seconds (`_beat`). The answer names the members that receive. From it each worker computes its share
of the partitions: all of them where workers share a log, else every n-th one. It acquires leases of
those, and ends its leases of others, after their running handlers have had `grace` seconds. Workers
may disagree for a while; that does no harm, since a lease is the right to receive, not the share.

Each lease has a task, `_keep`, with three tasks inside: `_read` receives events, `Intake.write`
writes outcomes, and `_renew` keeps the lease. The tasks of the `Crew` handle the events of all
leases, and so run in the worker's task group, not in that of a lease.

`_take_in` sorts what was received. It acknowledges events that the group does not take, and turns
into dead letters those that can't be read, are too large, or have killed `max_deliveries` workers;
the `Intake` holds all others. After an attempt `_conclude` decides the outcome: acknowledged; a
dead letter after `max_attempts`; else postponed, to wait at the transport with a growing delay. An
attempt does not count if it failed only because what it published could not be stored. An event of
a newer version than this worker reads is no attempt either: it rests, and is returned for others
where that is possible (`_may_rest`), else it is postponed.

When a lease is lost, `_keep` forgets what it held, cancels the handlers, and reports once which
attempts have ended; the next beat tries to acquire a lease again. When the transport is
unavailable, calls are repeated without end (`Link.outlast`), and what is held stays held.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn, final

import anyio

from flexiflow._reporting import logger
from flexiflow.extras.durable._bridge.budget import Budget
from flexiflow.extras.durable._bridge.cloudevents import decode
from flexiflow.extras.durable._bridge.crew import Crew
from flexiflow.extras.durable._bridge.failing import failure_of, log_burial
from flexiflow.extras.durable._bridge.held import Held
from flexiflow.extras.durable._bridge.intake import Intake
from flexiflow.extras.durable._bridge.lanes import Queue
from flexiflow.extras.durable._bridge.link import Signal
from flexiflow.extras.durable._errors import (
    EventTooLarge,
    LeaseLost,
    NewerVersion,
    TooDeep,
    TransportError,
    WorkersDied,
    is_an_outage,
)
from flexiflow.extras.durable._membership import share
from flexiflow.extras.durable._outcomes import Acknowledged, Buried
from flexiflow.extras.durable._patterns import Patterns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras.durable._bridge.link import Link
    from flexiflow.extras.durable._errors import NotDecodable
    from flexiflow.extras.durable._lease import Lease
    from flexiflow.extras.durable._records import Delivery, Member
    from flexiflow.extras.durable._transport import Connection

_LONGEST_WAIT: Final = 1.0
_DELAY_AFTER_OUTAGE: Final = 1.0
_BEATS: Final = 3
"""How many times a lease is renewed before it would run out."""


@final
class Worker:
    """Publishes the events of a group on a bus.

    Args:
        link: what the parts of the bridge share.
        connection: an open connection to the transport.
        member: this worker, as the transport knows it.
    """

    def __init__(self, link: Link, connection: Connection, member: Member) -> None:
        self._link = link
        self._connection = connection
        self._member = member
        self._settings = settings = link.settings
        self._counters = link.counters
        self._patterns = Patterns(member.patterns)
        # Keep half of the handlers for events that have not failed yet.
        self._queue: Queue[Held[Intake]] = Queue(max(settings.limit // 2, 1))
        self._intakes: dict[int, Intake] = {}
        self._mine = range(0)
        self._obtaining: set[int] = set()
        self._changed = Signal()
        self._dropped = Signal()
        self._leaving = anyio.Event()
        self._ended = anyio.Event()
        self._missed: int | None = None
        self._is_full = False
        self._budget = Budget(settings.prefetch_bytes, connection.max_event_bytes)
        self._group: Any = None
        self._context = copy_context()
        self._crew = Crew(
            link,
            self._queue,
            start=self._start,
            conclude=self._conclude,
            unoccupied=self._unoccupied,
        )

    @property
    def held(self) -> int:
        """How many events this worker holds."""
        # A copy, since statistics may be asked for in another thread.
        return sum(each.held + len(each.resting) for each in tuple(self._intakes.values()))

    async def run(self) -> None:
        """Work until `leave` was called and all leases have ended."""
        async with anyio.create_task_group() as group:
            self._group = group
            group.start_soon(self._beat)
            await self._leaving.wait()
            while self._intakes:
                await self._dropped.wait()
            group.cancel_scope.cancel()
        self._ended.set()

    async def ended(self) -> None:
        """Wait until `run` has come to its end."""
        await self._ended.wait()

    async def join(self) -> None:
        """Become a member of the group; shielded, so that no cancellation leaves that in doubt.

        Raises:
            TransportError: it could not become a member.
        """
        with anyio.CancelScope(shield=True):
            try:
                await self._connection.join(self._member)
            except BaseException:
                # It may be a member all the same, if only the answer was lost. After `lease`
                # seconds it is none in any case.
                with anyio.move_on_after(self._member.lease, shield=True):
                    with suppress(TransportError):
                        await self._connection.leave(self._member)
                raise

    def leave(self) -> None:
        """Receive no more; running handlers have `grace` seconds, the rest is given back (X5)."""
        self._leaving.set()
        for intake in self._intakes.values():
            intake.ending.set()

    async def give_back(self) -> None:
        """Give back what is still held, end the leases, and leave the group; no handler may run."""
        for intake in self._intakes.values():
            intake.give_back()
            with suppress(LeaseLost):
                await intake.flush()
                await self._link.outlast(intake.lease.release)
            await intake.tell()
        self._intakes.clear()
        await self._link.outlast(partial(self._connection.leave, self._member))
        await self._look_round()

    async def _beat(self) -> None:
        """Stay a member of the group, and adapt the share of the partitions, until cancelled."""
        await self._look_round()
        while True:
            consumers = await self._link.outlast(partial(self._connection.join, self._member))
            self._balance(consumers)
            await self._look_round()
            with anyio.move_on_after(self._member.lease / _BEATS):
                await self._changed.wait()

    async def _renew(self, intake: Intake) -> None:
        """Renew a lease until it is lost; each in a task of its own, so that none delays others."""
        with suppress(LeaseLost):
            while True:
                await anyio.sleep(self._member.lease / _BEATS)
                await self._link.outlast(intake.renew)
        intake.lose()

    def _balance(self, consumers: Sequence[str]) -> None:
        """Begin to acquire this worker's share of the partitions, and end leases of others."""
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
        """Try once to lease a partition; repeat only while it can't be reached."""
        await self._link.outlast(partial(self._acquire, partition))
        self._obtaining.discard(partition)

    async def _acquire(self, partition: int) -> None:
        # The shares may have changed while the partition could not be reached.
        if partition not in self._mine or self._leaving.is_set():
            return
        # Shielded: a lease whose answer is lost would keep others out until it runs out.
        with anyio.CancelScope(shield=True):
            lease = await self._connection.acquire(self._member, partition)
            if lease is not None:
                self._take_up(lease)

    def _share(self, consumers: Sequence[str]) -> range:
        if self._leaving.is_set() or self._member.consumer not in consumers:
            # Not named: others take more patterns than this worker, which stands by (X15).
            return range(0)
        if not self._connection.is_exclusive:
            return range(self._connection.partitions)
        return share(self._connection.partitions, consumers, self._member.consumer)

    async def _look_round(self) -> None:
        """Fetch the standing of the group for the statistics, and log what it has missed (X6)."""
        group = self._member.group
        standing = await self._link.outlast(partial(self._connection.standing, group))
        self._counters.standing = standing
        # Other workers have logged what was missed before this one came.
        missed = 0 if self._missed is None else standing.missed - self._missed
        self._missed = standing.missed
        if missed > 0:
            logger.error(
                "the group %r missed %d events, lost or deleted before they were settled",
                group,
                missed,
            )
        self._tell_of_waiting(standing.waiting)

    def _tell_of_waiting(self, waiting: int) -> None:
        """Warn, once each time, when too many events wait for new ones to be received (X12)."""
        share = self._waiting_share
        was_full, self._is_full = self._is_full, waiting >= share
        if self._is_full and not was_full:
            logger.warning(
                "%d events of the group %r wait for their next attempt: a partition of which %d "
                "wait receives no new ones, since max_waiting is %d",
                waiting,
                self._member.group,
                share,
                self._settings.max_waiting,
            )

    @property
    def _waiting_share(self) -> int:
        """How many events of a partition may wait: its equal share of `max_waiting`, or 1."""
        return max(self._settings.max_waiting // self._connection.partitions, 1)

    def _take_up(self, lease: Lease) -> None:
        intake = Intake(self._link, lease, self._queue, self._budget)
        self._intakes[lease.partition] = intake
        if self._leaving.is_set():
            intake.ending.set()
        self._start(self._keep, intake)

    async def _keep(self, intake: Intake) -> None:
        """Use a lease until it is lost or is to be ended; then drain it, or forget what it held."""
        async with anyio.create_task_group() as group:
            group.start_soon(intake.write)
            group.start_soon(intake.watch)
            group.start_soon(intake.resting.run)
            group.start_soon(self._renew, intake)
            await self._take_in_all(intake)
            if not intake.is_lost:
                await self._drain(intake)
            if intake.is_lost:
                # Once more: the reader may have received events in the meantime.
                intake.lose()
                self._crew.stop(intake)
                # `idle` also returns when the writer finds the lease lost, so ask again.
                while intake.running:
                    await intake.idle()
            else:
                with suppress(LeaseLost):
                    await self._link.outlast(intake.lease.release)
            group.cancel_scope.cancel()
        await intake.tell()
        del self._intakes[intake.lease.partition]
        self._dropped.set()
        self._changed.set()

    async def _take_in_all(self, intake: Intake) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._read, intake)
            await intake.ending.wait()
            group.cancel_scope.cancel()

    async def _drain(self, intake: Intake) -> None:
        """Wait up to `grace` seconds for running handlers, and give back all other events (X5)."""
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
                await intake.defer()
                receive = partial(intake.receive, await intake.room(), self._waiting_share)
                deliveries = await self._link.outlast(receive)
                for delivery in deliveries:
                    self._take_in(intake, delivery)
                self._crew.call()
                if not deliveries:
                    await self._link.outlast(partial(intake.lease.wait, wait))
        intake.lose()

    def _take_in(self, intake: Intake, delivery: Delivery) -> None:
        """Hold an event for handling, or settle it at once if it is not to be handled."""
        if delivery.group is not None and delivery.group != self._member.group:
            intake.pass_over(delivery)
            return
        try:
            event = (
                self._refuse(delivery)
                if delivery.oversize
                else decode(delivery.body, self._settings.codec)
            )
            is_wanted = self._patterns.index(event.name) is not None
            held = Held(intake, intake.origin, event, delivery)
        except Exception as exc:  # noqa: BLE001  an event that can't be read is a dead letter
            self._bury(intake, delivery, "an event", exc)
            return
        if not is_wanted:
            intake.pass_over(delivery)
        elif event.depth > self._settings.max_depth:
            problem = TooDeep(event.name, event.depth, self._settings.max_depth)
            self._bury(intake, delivery, event.name, problem)
        elif delivery.is_suspect and delivery.deliveries >= self._settings.max_deliveries:
            self._bury(intake, delivery, event.name, WorkersDied(event.name, delivery.deliveries))
        else:
            intake.hold(held)

    def _refuse(self, delivery: Delivery) -> NoReturn:
        raise EventTooLarge("an event", delivery.oversize, self._connection.max_event_bytes)

    def _bury(self, intake: Intake, delivery: Delivery, name: str, problem: Exception) -> None:
        failure = failure_of(problem)
        position, attempts, deliveries = delivery.position, delivery.attempts, delivery.deliveries
        log_burial(self._member.group, name, position, failure)
        intake.refuse(delivery, Buried(position, attempts, deliveries, failure))

    def _conclude(
        self,
        held: Held[Intake],
        problem: Exception | None,
        is_held: bool,  # noqa: FBT001 - by position, as the crew calls it for each event
    ) -> None:
        """Decide the outcome of an event after an attempt, which failed if there is a problem."""
        if held.unread is not None:
            # Nothing was awaited since its turn came: so it is still held.
            self._conclude_unread(held, held.unread)
            return
        intake, is_outage = held.intake, problem is not None and is_an_outage(problem)
        if problem is not None:
            self._counters.failed += 1
            held.attempts += not is_outage
        if not is_held:
            intake.report(held, is_handled=problem is None)
        elif problem is None:
            intake.finish(held, Acknowledged(held.position))
        elif held.attempts >= self._settings.max_attempts:
            self._give_up(held, problem)
        else:
            delay = _DELAY_AFTER_OUTAGE if is_outage else self._delay(held.attempts)
            intake.postpone(held, delay)

    def _conclude_unread(self, held: Held[Intake], problem: NewerVersion | NotDecodable) -> None:
        """Give up an event that can't be read; one of a newer version only in the end (Y1)."""
        most = self._settings.max_attempts
        times = held.intake.count_unread(held, most) if isinstance(problem, NewerVersion) else most
        if times >= most:
            self._give_up(held, problem)
            return
        if times == 1:
            logger.warning("%s; until then it is tried again", problem)
        if self._may_rest(held):
            held.intake.rest(held, self._delay(times))
        else:
            held.intake.postpone(held, self._delay(times))

    def _may_rest(self, held: Held[Intake]) -> bool:
        """Return whether another worker can be given an event while this one has its lease.

        Not if the events of its key have to stay in line, it has waited at the transport, which
        keeps it for this lease, or no other worker may lease the partition.
        """
        return (
            held.key is None
            and not held.has_waited
            and not self._connection.is_exclusive
            and len(held.intake.resting) < self._waiting_share
        )

    def _give_up(self, held: Held[Intake], problem: Exception) -> None:
        failure = failure_of(problem)
        log_burial(self._member.group, held.name, held.position, failure)
        held.intake.finish(held, Buried(held.position, held.attempts, 1, failure))

    def _delay(self, tries: int) -> float:
        delay = self._settings.retry_delay * 2.0 ** min(tries - 1, 64)
        return min(delay, self._member.longest_delay)

    def _unoccupied(self) -> None:
        for intake in self._intakes.values():
            intake.freed.set()

    def _start(self, function: Any, *arguments: object) -> None:
        # In the context of the worker: the caller's may have been changed by a handler.
        self._context.copy().run(self._group.start_soon, function, *arguments)
