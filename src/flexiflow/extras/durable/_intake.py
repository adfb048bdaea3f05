"""One lease: what is held by it, and what became of that."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, final

import anyio

from flexiflow.extras.durable._errors import LeaseLost, TransportUnavailable
from flexiflow.extras.durable._lanes import SHARE, Lanes
from flexiflow.extras.durable._signal import Signal
from flexiflow.extras.durable._transport import (
    Acknowledged,
    Buried,
    Followed,
    Noted,
    Postponed,
    Returned,
    Room,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flexiflow.extras.durable._budget import Budget
    from flexiflow.extras.durable._held import Held, Origin
    from flexiflow.extras.durable._lanes import Queue
    from flexiflow.extras.durable._outages import Outages
    from flexiflow.extras.durable._statistics import Counters
    from flexiflow.extras.durable._transport import Delivery, Outcome, Settled


@final
class Intake:
    """What a worker holds by one lease.

    Args:
        origin: the lease, and whose it is.
        queue: where events go that may be handled.
        prefetch: how many events it holds at most; half of them may have waited.
        budget: how many bytes of events the worker may hold, by all its leases.
        seconds: how long the lease lasts unless it is renewed.
        outages: calls the lease.
        counters: what became of events is counted there.

    Attributes:
        lease: the lease.
        origin: the lease, and whose it is.
        ending: set when no more is to be received.
        is_lost: whether what is held is another's by now.
        freed: set when there may be room for more.
        running: how many events are being handled.
    """

    __slots__ = (
        "_barriers",
        "_budget",
        "_counters",
        "_held",
        "_idle",
        "_ignored",
        "_lanes",
        "_most_again",
        "_noted",
        "_outages",
        "_outcomes",
        "_prefetch",
        "_queue",
        "_renewing",
        "_reports",
        "_seconds",
        "_size",
        "_turns",
        "_unsettled",
        "_until",
        "_wanted",
        "_writing",
        "_writing_barriers",
        "_writing_ignored",
        "ending",
        "freed",
        "is_lost",
        "lease",
        "origin",
        "running",
    )

    def __init__(
        self,
        origin: Origin,
        queue: Queue[Held[Intake]],
        prefetch: int,
        budget: Budget,
        seconds: float,
        outages: Outages,
        counters: Counters,
    ) -> None:
        self.lease = origin.lease
        self.origin = origin
        self.ending = anyio.Event()
        self.is_lost = False
        self.freed = Signal()
        self.running = 0
        self._queue = queue
        self._lanes: Lanes[Held[Intake]] = Lanes(queue, self.lease.lines)
        self._prefetch = prefetch
        self._most_again = max(prefetch // 2, 1)
        self._budget = budget
        self._size = 0
        self._turns = count()
        self._seconds = seconds
        self._until = anyio.current_time() + seconds
        self._renewing = anyio.Lock()
        self._outages = outages
        self._counters = counters
        self._held: dict[str, Held[Intake]] = {}
        # What is noted of by what is being written.
        self._noted: dict[str, Held[Intake]] = {}
        # What is still to be told of a lease that is gone.
        self._reports: list[Outcome] = []
        self._outcomes: list[Outcome] = []
        self._writing: list[Outcome] = []
        self._barriers: list[anyio.Event] = []
        self._writing_barriers: list[anyio.Event] = []
        self._unsettled = self._ignored = self._writing_ignored = 0
        self._wanted = Signal()
        self._idle: anyio.Event | None = None

    @property
    def held(self) -> int:
        """How many events are held: not begun, being handled, or handled and not yet settled."""
        return len(self._held) + self._unsettled

    async def room(self) -> int:
        """Wait until it is worth to receive more, and return how many there is room for.

        That is with half of it free, or when nothing else waits to be handled.
        """
        while True:
            room = self._prefetch - self.held
            if room > 0 and (2 * room >= self._prefetch or not self._queue):
                return room
            await self.freed.wait()

    async def receive(self, records: int, waiting: int) -> Sequence[Delivery]:
        """Receive so many records at most, as far as the worker may hold their bytes (X14)."""
        size = await self._budget.reserve()
        # Others may fail for ever, and a healthy one should hardly notice: so an eighth, by turns,
        # and half of what is held.
        used, again = 0, records // SHARE or int(next(self._turns) % SHARE == 0)
        most = self._most_again - sum(each.has_waited for each in self._held.values())
        try:
            room = Room(records, size, waiting, max(min(again, most), 0))
            deliveries = await self.lease.receive(room)
            if not deliveries and not again and most > 0:
                # Then what has waited is in nobody's way.
                deliveries = await self.lease.receive(room._replace(again=1))
            used = sum(len(each.body) for each in deliveries)
        finally:
            self._budget.put_back(size - used)
        self._size += used
        return deliveries

    def hold(self, held: Held[Intake]) -> None:
        """Take an event in; it is handled in its turn, or sent where others of its key wait."""
        # One that was another's for a while is given anew.
        if held.position in self._held:
            self._drop([held.position])
        self._held[held.position] = held
        if not self._lanes.enter(held):
            self._send_behind(held)

    def holds(self, held: Held[Intake]) -> bool:
        """Return whether it is this worker's still."""
        return self._held.get(held.position) is held

    def pass_over(self, delivery: Delivery) -> None:
        """Acknowledge an event that nobody here handles."""
        self._ignored += 1
        self._counters.ignored += 1
        self.refuse(delivery, Acknowledged(delivery.position))

    def refuse(self, delivery: Delivery, outcome: Outcome) -> None:
        """Settle an event that was received and is not held."""
        self._free(len(delivery.body))
        self._settle(outcome)

    def note(self, outcome: Noted) -> None:
        """Queue the counts of an event for writing that goes on being held."""
        self._write_soon(outcome)

    def _settle(self, outcome: Outcome) -> None:
        """Queue the outcome of an event for writing that is not held any more."""
        self._unsettled += 1
        self._write_soon(outcome)

    def _write_soon(self, outcome: Outcome) -> None:
        # With others there the writer knows of them.
        if not self._outcomes:
            self._wanted.set()
        self._outcomes.append(outcome)

    def _free(self, size: int) -> None:
        self._size -= size
        self._budget.put_back(size)

    def _let_go(self, held: Held[Intake], outcome: Outcome) -> None:
        del self._held[held.position]
        self._free(held.size)
        self._settle(outcome)

    def finish(self, held: Held[Intake], outcome: Acknowledged | Buried) -> None:
        """Settle an event for good; the next of its key follows."""
        self._let_go(held, outcome)
        if held.has_waited and held.key is not None:
            self._write_soon(Followed(held.key))
        self._lanes.leave(held)

    def postpone(self, held: Held[Intake], delay: float) -> None:
        """Have an event wait at the transport, and with it those behind it of its key (X12)."""
        self._let_go(held, Postponed(held.position, held.attempts, 0, delay, held.key))
        for each in self._lanes.send_away(held):
            self._send_behind(each)

    def _send_behind(self, held: Held[Intake]) -> None:
        deliveries = held.deliveries - held.is_counted
        self._let_go(held, Postponed(held.position, held.attempts, deliveries, None, held.key))

    def give_back(self) -> None:
        """Return what is held and not being handled."""
        self._lanes.clear()
        self._queue.discard(lambda each: each.intake is self)
        for held in [each for each in self._held.values() if not each.is_running]:
            deliveries = held.deliveries - held.is_counted
            self._let_go(held, Returned(held.position, held.attempts, deliveries))

    def lose(self) -> None:
        """Forget what is held: it is another's."""
        self.is_lost = True
        self.ending.set()
        self._lanes.clear()
        self._queue.discard(lambda each: each.intake is self)
        self._held.clear()
        self._free(self._size)
        self._reports += filter(_tells_an_end, [*self._writing, *self._outcomes])
        self._outcomes.clear()
        self._writing = []
        self._unsettled = self._ignored = self._writing_ignored = 0
        # Each task that waits for something that does not come any more looks at `is_lost`.
        for waiting in (*self._barriers, *self._writing_barriers, self._idle):
            if waiting is not None:
                waiting.set()

    def _drop(self, positions: Iterable[str]) -> None:
        """Forget single events: they are another's (X11)."""
        dropped = [self._held.pop(each) for each in positions if each in self._held]
        self._queue.discard(lambda each: each.intake is self and not self.holds(each))
        for held in dropped:
            self._free(held.size)
            if held.has_waited and held.key is not None:
                # By this lease nothing of its key may wait any more.
                self._write_soon(Followed(held.key))
        through = [held for held in dropped if not self._lanes.forget(held)]
        for held in through:
            if held.is_running:
                # The next of its key follows when it has ended.
                held.cancel()
            else:
                self._lanes.leave(held)

    def _drop_if_same(self, positions: Iterable[str], asked: dict[str, Held[Intake]]) -> None:
        """Forget what was asked about, and was not given anew since."""
        self._drop([each for each in positions if each in asked and self.holds(asked[each])])

    async def renew(self) -> None:
        """Hold the lease for longer; if it had run out, see what others were given of it (X11).

        Raises:
            LeaseLost: all of it is another's.
        """
        async with self._renewing:
            held = dict(self._held) if self.has_run_out else {}
            now = anyio.current_time()
            lost = await self.lease.renew(list(held))
            self._until = now + self._seconds
            self._drop_if_same(lost, held)

    async def confirm(self) -> None:
        """See what is still held, after the lease had run out, before an attempt begins (X11)."""
        try:
            while self.has_run_out and not self.is_lost:
                await self._outages.outlast(self.renew)
        except LeaseLost:
            self.lose()

    @property
    def has_run_out(self) -> bool:
        """Whether others may have been given what is held: the lease was not renewed in time."""
        return anyio.current_time() >= self._until

    def report(self, held: Held[Intake], *, is_handled: bool = False) -> None:
        """Report that an attempt has ended at an event that is another's by now (X11)."""
        if held.position in self._held:
            # It was given to this worker anew meanwhile.
            return
        place = held.position
        outcome = Acknowledged(place) if is_handled else Returned(place, held.attempts, 0)
        if self.is_lost:
            self._reports.append(outcome)
        else:
            self._settle(outcome)

    def stopped(self, held: Held[Intake]) -> None:
        """Note that an event is not being handled any more."""
        self.running -= 1
        if not self.holds(held):
            self.report(held)
            if not self.is_lost:
                self._lanes.leave(held)
        if self._idle is not None and not self.running:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until no event is being handled; or, having waited, until the lease is lost."""
        if self.running:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def write(self) -> None:
        """Write down what became of events, for ever, or until the lease is lost."""
        with suppress(LeaseLost):
            while True:
                await self._wanted.wait()
                await self.flush()
        self.lose()

    async def flush(self) -> None:
        """Write down what became of events up to now; what a call has begun, another goes on with.

        Raises:
            LeaseLost: what is not written is another's.
        """
        while self._writing or self._outcomes:
            if not self._writing:
                self._writing, self._outcomes = self._outcomes, []
                self._writing_barriers, self._barriers = self._barriers, []
                self._writing_ignored, self._ignored = self._ignored, 0
                noted = (each.position for each in self._writing if isinstance(each, Noted))
                self._noted = {each: self._held[each] for each in noted if each in self._held}
            self._written(await self._outages.outlast(partial(self.lease.settle, self._writing)))

    async def tell(self) -> None:
        """Report which attempts have ended, of a lease that is gone and writes no more (X11)."""
        reports, self._reports = self._reports, []
        if reports:
            # Once: to wait for a transport that is away would keep the next lease waiting.
            with suppress(LeaseLost, TransportUnavailable):
                await self.lease.settle(reports)

    async def written(self) -> None:
        """Wait until it is written down what became of events up to now, or the lease is lost."""
        if self._writing or self._outcomes:
            barrier = anyio.Event()
            (self._barriers if self._outcomes else self._writing_barriers).append(barrier)
            await barrier.wait()

    def _written(self, settled: Settled) -> None:
        unsettling = acknowledged = dead = 0
        for each in self._writing:
            kind = type(each)
            unsettling += kind is not Noted and kind is not Followed
            acknowledged += kind is Acknowledged
            dead += kind is Buried
        self._unsettled -= unsettling
        self._counters.acknowledged += acknowledged - self._writing_ignored
        self._counters.dead += dead
        if settled.lost or settled.over:
            self._correct(settled)
        self._writing, self._writing_ignored = [], 0
        for barrier in self._writing_barriers:
            barrier.set()
        self.freed.set()

    def _correct(self, settled: Settled) -> None:
        """Take back what was not written down, and let events of a key stay again that is over."""
        lost = set(settled.lost)
        for each in self._writing:
            if not isinstance(each, Followed) and each.position in lost:
                self._counters.acknowledged -= isinstance(each, Acknowledged)
                self._counters.dead -= isinstance(each, Buried)
        self._drop_if_same(lost, self._noted)
        sent = {each.key for each in self._outcomes if isinstance(each, Postponed)}
        for key in settled.over:
            if key not in sent:
                self._lanes.are_back(key)


def _tells_an_end(outcome: Outcome) -> bool:
    """Return whether an outcome tells that an attempt has ended, or that none had begun."""
    if isinstance(outcome, Returned | Postponed):
        return outcome.deliveries == 0
    return isinstance(outcome, Acknowledged | Buried)
