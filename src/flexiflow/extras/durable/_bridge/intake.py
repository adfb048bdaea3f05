"""One lease of a worker: the events that it holds, and the outcomes that are to be written.

A *lease* is the right to be given the records of one partition. When it was not renewed in time it
has *run out*, and the transport may give what it holds to other workers. Until that happens, this
worker goes on holding it (X11). So before an attempt begins by a lease that has run out, `confirm`
asks which events are still held. Each answer of `renew` and `settle` may name events that another
lease holds by now: those are dropped, and their handlers cancelled.

From its receipt until it is settled an event is in these places, one after the other:

- in `_held`: it waits in the lanes or in the queue, or it is being handled;
- as an outcome in `_next`, to be written with the next batch;
- as an outcome in `_writing`, the batch that the transport was asked to write.

It counts against `prefetch` in all three, but against the budget of bytes only while it is held. If
the transport gave an event to another worker and then to this one again, the later copy replaces
the earlier one in `_held`, whose handlers are cancelled.

`_writing` is kept until the transport has confirmed it. If a call fails, the same batch is written
again, which changes nothing where it was written already. Tasks that must know that their outcome
is written wait at a barrier (`written`).

An event that this worker can't read, but others may, leaves `_held`: it rests here without its
payload, and is returned after a while, for any worker (`rest`).

When the lease is lost, everything is forgotten (`lose`). Only the ends of attempts are kept, and
reported once (`tell`), so that they don't count as deaths of a worker.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from functools import partial
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Final, final

import anyio

from flexiflow.extras.durable._bridge.held import Origin
from flexiflow.extras.durable._bridge.lanes import SHARE, Lanes
from flexiflow.extras.durable._bridge.link import Signal
from flexiflow.extras.durable._bridge.resting import Resting
from flexiflow.extras.durable._errors import LeaseLost, TransportUnavailable
from flexiflow.extras.durable._outcomes import (
    Acknowledged,
    Buried,
    Followed,
    Noted,
    Postponed,
    Returned,
)
from flexiflow.extras.durable._records import Room

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flexiflow.extras.durable._bridge.budget import Budget
    from flexiflow.extras.durable._bridge.held import Held
    from flexiflow.extras.durable._bridge.lanes import Queue
    from flexiflow.extras.durable._bridge.link import Link
    from flexiflow.extras.durable._lease import Lease
    from flexiflow.extras.durable._outcomes import Outcome, Settled
    from flexiflow.extras.durable._records import Delivery


_DEFERENCE: Final = 0.25
"""For how many seconds a worker receives nothing after it has returned what others may read."""


@final
class _Settlements:
    """Outcomes that are written together.

    Attributes:
        outcomes: the outcomes.
        ignored: how many of them acknowledge events that the group does not take.
        noted: the events whose counts are being written, by position.
        barriers: set when all are written, or the lease is lost.
    """

    __slots__ = ("barriers", "ignored", "noted", "outcomes")

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.ignored = 0
        self.noted: dict[str, Held[Intake]] = {}
        self.barriers: list[anyio.Event] = []

    def wake(self) -> None:
        """Wake the tasks that wait for these outcomes."""
        for barrier in self.barriers:
            barrier.set()


_NONE: Final = _Settlements()
"""What is being written while nothing is; never changed."""


@final
class Intake:
    """The events that a worker holds by one lease, and their outcomes.

    Args:
        link: what the parts of the bridge share.
        lease: the lease.
        queue: the queue for events that may be handled.
        budget: the bytes of events that the worker may hold, by all its leases.

    Attributes:
        lease: the lease.
        origin: the lease, the transport that it is of, and the bus.
        ending: set when no more is to be received.
        is_lost: whether the lease is lost, and with it all that it held.
        freed: set when there may be room for more.
        running: how many events are being handled.
        resting: the events that rest until they are returned (Y1).
    """

    def __init__(
        self, link: Link, lease: Lease, queue: Queue[Held[Intake]], budget: Budget
    ) -> None:
        self.lease = lease
        self.origin = Origin(link.bus, link.transport, lease, str(link.settings.group))
        self.ending = anyio.Event()
        self.is_lost = False
        self.freed = Signal()
        self.running = 0
        self.resting = Resting(self._return)
        self._has_returned = False
        self._queue = queue
        self._lanes: Lanes[Held[Intake]] = Lanes(queue, self.lease.lines)
        self._prefetch = link.settings.prefetch
        self._most_again = max(self._prefetch // 2, 1)
        self._budget = budget
        self._size = 0
        self._turns = count()
        self._seconds = link.settings.lease
        self._renewed = Signal()
        self._extend(anyio.current_time(), monotonic())
        self._renewing = anyio.Lock()
        self._link = link
        self._counters = link.counters
        self._held: dict[str, Held[Intake]] = {}
        # Of a lease that is lost: the ends of attempts, to be reported once.
        self._reports: list[Outcome] = []
        # How often events could not be read, by position; these are no attempts. The last ones
        # only, since other workers may have settled them by now.
        self._unread: dict[str, int] = {}
        self._most_unread = link.settings.max_waiting
        self._next, self._writing = _Settlements(), _NONE
        self._unsettled = 0
        self._wanted = Signal()
        self._idle: anyio.Event | None = None

    @property
    def held(self) -> int:
        """How many events are waiting, being handled, or handled and not yet settled."""
        return len(self._held) + self._unsettled

    async def room(self) -> int:
        """Wait until it is worth receiving more, and return how many events there is room for.

        It is worth it when half of the room is free, or nothing else waits to be handled.
        """
        while True:
            room = self._prefetch - self.held
            if room > 0 and (2 * room >= self._prefetch or not self._queue):
                return room
            await self.freed.wait()

    async def receive(self, records: int, waiting: int) -> Sequence[Delivery]:
        """Receive records, no more bytes than the worker may hold (X14).

        Args:
            records: how many at most.
            waiting: see `Room`; events that rest here count, too.
        """
        size = await self._budget.reserve()
        # Events that have waited may fail for ever, and must hardly delay healthy ones: so they are
        # at most an eighth of what is received (where that is below one, one in every eighth call)
        # and half of what is held.
        used, again = 0, records // SHARE or int(next(self._turns) % SHARE == 0)
        most = self._most_again - sum([each.has_waited for each in self._held.values()])
        try:
            waiting = max(waiting - len(self.resting), 1)
            room = Room(records, size, waiting, max(min(again, most), 0))
            deliveries = await self.lease.receive(room)
            if not deliveries and not again and most > 0:
                # Nothing else is there that one which has waited could delay.
                deliveries = await self.lease.receive(room._replace(again=1))
            used = sum([len(each.body) for each in deliveries])
        finally:
            self._budget.put_back(size - used)
        self._size += used
        return deliveries

    def hold(self, held: Held[Intake]) -> None:
        """Hold an event until it is handled; postpone it if others of its key wait elsewhere."""
        # Another worker may have held it for a while; now it was given to this one again.
        if held.position in self._held:
            self._drop([held.position])
        self.resting.drop(held.position)
        self._held[held.position] = held
        if not self._lanes.enter(held):
            self._send_behind(held)

    def holds(self, held: Held[Intake]) -> bool:
        """Return whether this very event is still held: not lost, nor given anew since."""
        return self._held.get(held.position) is held

    def pass_over(self, delivery: Delivery) -> None:
        """Acknowledge an event that the group does not take."""
        self._next.ignored += 1
        self._counters.ignored += 1
        self.refuse(delivery, Acknowledged(delivery.position))

    def refuse(self, delivery: Delivery, outcome: Outcome) -> None:
        """Settle an event that was received but is not going to be held."""
        self._free(len(delivery.body))
        self._settle(outcome)

    def note(self, outcome: Noted) -> None:
        """Queue for writing the counts of an event that is still held."""
        self._write_soon(outcome)

    def _settle(self, outcome: Outcome) -> None:
        """Queue for writing the outcome of an event that is no longer held."""
        self._unsettled += 1
        self._write_soon(outcome)

    def _write_soon(self, outcome: Outcome) -> None:
        outcomes = self._next.outcomes
        # If there are others already, the writer was woken for those.
        if not outcomes:
            self._wanted.set()
        outcomes.append(outcome)

    def _free(self, size: int) -> None:
        self._size -= size
        self._budget.put_back(size)

    def _let_go(self, held: Held[Intake], outcome: Outcome) -> None:
        del self._held[held.position]
        # As `_free` and `_settle` do, without the calls. With the look-up in `stopped`, which is
        # that of `holds`, this saves 2.5 % of the instructions that an event of Redis costs.
        self._size -= held.size
        self._budget.put_back(held.size)
        self._unsettled += 1
        self._write_soon(outcome)

    def finish(self, held: Held[Intake], outcome: Acknowledged | Buried) -> None:
        """Settle an event for good; the next one of its key may be handled."""
        self._let_go(held, outcome)
        if held.key is not None:
            if held.has_waited:
                self._write_soon(Followed(held.key))
            self._lanes.leave(held)

    def count_unread(self, held: Held[Intake], most: int) -> int:
        """Note that an event can't be read, and return how often that was so by this lease (Y1).

        Args:
            held: the event.
            most: forget the event after so many times.
        """
        times = self._unread.pop(held.position, 0) + 1
        if times < most:
            self._unread[held.position] = times
            if len(self._unread) > self._most_unread:
                del self._unread[next(iter(self._unread))]
        return times

    def rest(self, held: Held[Intake], seconds: float) -> None:
        """Keep an event without its payload for some seconds, and return it then (Y1)."""
        del self._held[held.position]
        self._free(held.size)
        # No attempt is under way any more: the event is no suspect if this worker dies.
        self.note(Noted(held.position, held.attempts, 0))
        self.resting.add(held.position, held.attempts, seconds)

    def _return(self, outcome: Returned) -> None:
        self._has_returned = True
        self._settle(outcome)

    async def defer(self) -> None:
        """Let other workers be the first to be given what was returned."""
        if self._has_returned:
            self._has_returned = False
            await anyio.sleep(_DEFERENCE)

    def postpone(self, held: Held[Intake], delay: float) -> None:
        """Postpone an event, to wait at the transport, and those of its key behind it (X12)."""
        self._let_go(held, Postponed(held.position, held.attempts, 0, delay, held.key))
        for each in self._lanes.send_away(held):
            self._send_behind(each)

    def _send_behind(self, held: Held[Intake]) -> None:
        deliveries = held.deliveries - held.is_counted
        self._let_go(held, Postponed(held.position, held.attempts, deliveries, None, held.key))

    def give_back(self) -> None:
        """Return to the transport all events that are held and not being handled."""
        self._lanes.clear()
        self._queue.discard(lambda each: each.intake is self)
        for held in [each for each in self._held.values() if each.scope is None]:
            deliveries = held.deliveries - held.is_counted
            self._let_go(held, Returned(held.position, held.attempts, deliveries))
        for outcome in self.resting.take_all():
            self._settle(outcome)

    def lose(self) -> None:
        """Forget all that is held, since the lease is lost; keep the ends of attempts to report."""
        self.is_lost = True
        self.ending.set()
        self._lanes.clear()
        self._queue.discard(lambda each: each.intake is self)
        self._held.clear()
        self._free(self._size)
        for batch in (self._writing, self._next):
            self._reports += filter(_tells_an_end, batch.outcomes)
            batch.wake()
        self._reports += self.resting.take_all()
        self._next, self._writing = _Settlements(), _NONE
        self._unsettled = 0
        # Those who wait for a batch, or for handlers, look at `is_lost`.
        if self._idle is not None:
            self._idle.set()

    def _drop(self, positions: Iterable[str]) -> None:
        """Forget single events that another lease holds by now, and cancel their handlers (X11)."""
        dropped = [self._held.pop(each) for each in positions if each in self._held]
        self._queue.discard(lambda each: each.intake is self and not self.holds(each))
        for held in dropped:
            self._unread.pop(held.position, None)
            self._free(held.size)
            if held.has_waited and held.key is not None:
                # It may have been the last one of its key that waited by this lease; ask.
                self._write_soon(Followed(held.key))
        through = [held for held in dropped if not self._lanes.forget(held)]
        for held in through:
            if held.scope is not None:
                # The next one of its key follows when the handler has ended.
                held.scope.cancel()
            else:
                self._lanes.leave(held)

    def _drop_if_same(self, positions: Iterable[str], asked: dict[str, Held[Intake]]) -> None:
        """Forget events that were asked about, unless they were given anew since."""
        self._drop([each for each in positions if each in asked and self.holds(asked[each])])

    async def renew(self) -> None:
        """Renew the lease; if it had run out, drop the events that others were given (X11).

        Raises:
            LeaseLost: the lease is lost, and with it all that it held.
        """
        async with self._renewing:
            held = dict(self._held) if self.has_run_out else {}
            now, real = anyio.current_time(), monotonic()
            lost = await self.lease.renew(list(held))
            self._extend(now, real)
            self._drop_if_same(lost, held)

    async def confirm(self) -> None:
        """If the lease has run out, renew it and drop what others were given (X11).

        To be called before an attempt begins.
        """
        try:
            while self.has_run_out and not self.is_lost:
                await self._link.outlast(self.renew)
        except LeaseLost:
            self.lose()

    def _extend(self, now: float, real: float) -> None:
        """Note that the lease was renewed, at these times of the event loop and the real clock."""
        self._until, self._until_blocked = now + self._seconds, real + self._seconds
        # The answer may have come after that.
        self._has_run_out = anyio.current_time() >= self._until
        self._renewed.set()

    async def watch(self) -> None:
        """Note when the lease runs out by the event loop's clock, until cancelled.

        With a virtual clock that jumps over that time, an attempt may begin before this is noted.
        """
        while True:
            await anyio.sleep_until(self._until)
            if anyio.current_time() >= self._until:
                self._has_run_out = True
                await self._renewed.wait()

    @property
    def has_run_out(self) -> bool:
        """Whether the lease was not renewed in time, so that others may have been given events.

        A handler that blocks keeps `watch` from noting it, so the real clock is asked, too. To ask
        the event loop's clock before each attempt costs 2 % of what an event of Redis does.
        """
        return self._has_run_out or monotonic() >= self._until_blocked

    def report(self, held: Held[Intake], *, is_handled: bool = False) -> None:
        """Report the end of an attempt at an event that another lease holds by now (X11)."""
        if held.position in self._held:
            # This worker was given it anew, and settles it after that attempt.
            return
        place = held.position
        outcome = Acknowledged(place) if is_handled else Returned(place, held.attempts, 0)
        if self.is_lost:
            self._reports.append(outcome)
        else:
            self._settle(outcome)

    def stopped(self, held: Held[Intake]) -> bool:
        """Note that the handlers of an event have ended, and return whether it is still held."""
        self.running -= 1
        is_held = self._held.get(held.position) is held
        if not is_held:
            self.report(held)
            if not self.is_lost:
                self._lanes.leave(held)
        if self._idle is not None and not self.running:
            self._idle.set()
        return is_held

    async def idle(self) -> None:
        """Wait until no event is being handled, or the lease is lost meanwhile."""
        if self.running:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def write(self) -> None:
        """Write outcomes as they come, until the lease is lost."""
        with suppress(LeaseLost):
            while True:
                await self._wanted.wait()
                await self.flush()
        self.lose()

    async def flush(self) -> None:
        """Write all outcomes that are queued, beginning with a batch that an earlier call left.

        Raises:
            LeaseLost: the lease is lost; what was not written never will be.
        """
        while self._writing.outcomes or self._next.outcomes:
            if not self._writing.outcomes:
                noted = [each.position for each in self._next.outcomes if isinstance(each, Noted)]
                self._next.noted = {each: self._held[each] for each in noted if each in self._held}
                self._writing, self._next = self._next, _Settlements()
            settle = partial(self.lease.settle, self._writing.outcomes)
            self._written(await self._link.outlast(settle))

    async def tell(self) -> None:
        """Report, once, which attempts have ended, by a lease that is lost (X11)."""
        reports, self._reports = self._reports, []
        if reports:
            # Only once: to wait for a transport that is away would delay the next lease.
            with suppress(LeaseLost, TransportUnavailable):
                await self.lease.settle(reports)

    async def written(self) -> None:
        """Wait until all outcomes that are queued now are written, or the lease is lost."""
        batch = self._next if self._next.outcomes else self._writing
        if batch.outcomes:
            barrier = anyio.Event()
            batch.barriers.append(barrier)
            await barrier.wait()

    def _written(self, settled: Settled) -> None:
        batch, self._writing = self._writing, _NONE
        kinds = Counter(map(type, batch.outcomes))
        self._unsettled -= len(batch.outcomes) - kinds[Noted] - kinds[Followed]
        # For outcomes that were not written, `_correct` must undo each count that is made here.
        # `Postponed` with `delay=None` is no attempt: the event was sent behind another of its key.
        self._counters.acknowledged += kinds[Acknowledged] - batch.ignored
        self._counters.dead += kinds[Buried]
        if settled.lost or settled.over:
            self._correct(batch, settled)
        batch.wake()
        self.freed.set()

    def _correct(self, batch: _Settlements, settled: Settled) -> None:
        """Correct what was taken for granted: some outcomes were not written, some keys are over.

        Undo what `_written` has counted for the outcomes that were not written.

        Of a key that is over nothing waits at the transport any more, so its events may be held
        here again; unless an outcome that is queued sends one away.
        """
        lost = set(settled.lost)
        for each in batch.outcomes:
            if not isinstance(each, Followed) and each.position in lost:
                self._counters.acknowledged -= isinstance(each, Acknowledged)
                self._counters.dead -= isinstance(each, Buried)
        self._drop_if_same(lost, batch.noted)
        sent = {each.key for each in self._next.outcomes if isinstance(each, Postponed)}
        for key in settled.over:
            if key not in sent:
                self._lanes.are_back(key)


def _tells_an_end(outcome: Outcome) -> bool:
    """Return whether an outcome says that an attempt has ended, or that none had begun."""
    if isinstance(outcome, Returned | Postponed):
        return outcome.deliveries == 0
    return isinstance(outcome, Acknowledged | Buried)
