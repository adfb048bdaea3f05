"""One lease: what is held by it, and what became of that."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, final

import anyio

from flexiflow.extras.durable._errors import LeaseLost
from flexiflow.extras.durable._lanes import Lanes
from flexiflow.extras.durable._signal import Signal
from flexiflow.extras.durable._transport import Acknowledged, Buried, Noted, Returned

if TYPE_CHECKING:
    from flexiflow.extras.durable._held import Held, Origin
    from flexiflow.extras.durable._lanes import Queue
    from flexiflow.extras.durable._outages import Outages
    from flexiflow.extras.durable._statistics import Counters
    from flexiflow.extras.durable._transport import Outcome


@final
class Intake:
    """What a worker holds by one lease.

    Args:
        origin: the lease, and whose it is.
        queue: where events go that may be handled.
        prefetch: how many events it holds at most.
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
        "_counters",
        "_held",
        "_idle",
        "_ignored",
        "_lanes",
        "_outages",
        "_outcomes",
        "_prefetch",
        "_queue",
        "_unsettled",
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
        self._lanes: Lanes[Held[Intake]] = Lanes(queue)
        self._prefetch = prefetch
        self._outages = outages
        self._counters = counters
        self._held: dict[str, Held[Intake]] = {}
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

    @property
    def is_closing(self) -> bool:
        """Whether no more is to be received."""
        return self.ending.is_set()

    async def room(self) -> int:
        """Wait until it is worth to receive more, and tell how many there is room for.

        That is with half of it free, or when nothing else waits to be handled.
        """
        while True:
            room = self._prefetch - self.held
            if room > 0 and (2 * room >= self._prefetch or not self._queue):
                return room
            await self.freed.wait()

    def hold(self, held: Held[Intake]) -> None:
        """Take an event in; it is handled in its turn."""
        self._held[held.position] = held
        self._lanes.enter(held)

    def holds(self, held: Held[Intake]) -> bool:
        """Tell whether it is this worker's still."""
        return self._held.get(held.position) is held

    def pass_over(self, position: str) -> None:
        """Acknowledge an event that nobody here handles."""
        self._ignored += 1
        self._counters.ignored += 1
        self.settle(Acknowledged(position))

    def settle(self, outcome: Outcome) -> None:
        """Have it written down what became of an event that is not held any more."""
        self._unsettled += 1
        self._write_soon(outcome)

    def note(self, outcome: Noted) -> None:
        """Have the counts of an event written down that goes on being held."""
        self._write_soon(outcome)

    def _write_soon(self, outcome: Outcome) -> None:
        # With others there whoever writes knows of them.
        if not self._outcomes:
            self._wanted.set()
        self._outcomes.append(outcome)

    def finish(self, held: Held[Intake], outcome: Outcome) -> None:
        """Let go of an event for good; the next of its key follows."""
        del self._held[held.position]
        self.settle(outcome)
        self._lanes.leave(held)

    def retry(self, held: Held[Intake]) -> None:
        """Let an event be handled again that was held back meanwhile."""
        self._queue.put(held)

    def give_back(self) -> None:
        """Return what is held and not being handled."""
        self._lanes.clear()
        self._queue.discard(lambda each: each.intake is self)
        for held in [each for each in self._held.values() if not each.is_running]:
            deliveries = held.deliveries - held.is_counted
            self.finish(held, Returned(held.position, held.attempts, deliveries))

    def lose(self) -> None:
        """Forget what is held: it is another's."""
        self.is_lost = True
        self.ending.set()
        self._lanes.clear()
        self._queue.discard(lambda each: each.intake is self)
        self._held.clear()
        self._outcomes.clear()
        self._writing = []
        self._unsettled = self._ignored = self._writing_ignored = 0
        # Whoever waits for something that does not come any more looks at `is_lost`.
        for waiting in (*self._barriers, *self._writing_barriers, self._idle):
            if waiting is not None:
                waiting.set()

    def stopped(self) -> None:
        """Note that an event is not being handled any more."""
        self.running -= 1
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
            await self._outages.outlast(partial(self.lease.settle, self._writing))
            self._written()

    async def written(self) -> None:
        """Wait until it is written down what became of events up to now, or the lease is lost."""
        if self._writing or self._outcomes:
            barrier = anyio.Event()
            (self._barriers if self._outcomes else self._writing_barriers).append(barrier)
            await barrier.wait()

    def _written(self) -> None:
        noted = acknowledged = dead = 0
        for each in self._writing:
            kind = type(each)
            noted += kind is Noted
            acknowledged += kind is Acknowledged
            dead += kind is Buried
        self._unsettled -= len(self._writing) - noted
        self._counters.acknowledged += acknowledged - self._writing_ignored
        self._counters.dead += dead
        self._writing, self._writing_ignored = [], 0
        for barrier in self._writing_barriers:
            barrier.set()
        self.freed.set()
