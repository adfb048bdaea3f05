"""Workers whose handlers block the event loop for longer than their lease, over and over."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, final

import anyio
from anyio import from_thread, to_thread
from anyio.lowlevel import current_token

from flexiflow import EventBus
from flexiflow.extras.durable import open_bridge
from tools.chaos.ledger import NAME, Ledger, Result, all_settled, dead_letters, look
from tools.chaos.load import publish, sound
from tools.chaos.workers import place

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from flexiflow.extras.durable import Transport
    from tools.chaos.ledger import Message
    from tools.chaos.load import Plan, Spoil

LEASE: Final = 0.2
GROUP: Final = "blocked"
_PUBLISHERS: Final = 20


async def block_handlers(backend: str, mode: str, plan: Plan, spoil: Spoil = sound) -> Result:
    """Make handlers block for longer than the lease lasts.

    A lone worker handles each event once. Two workers, each in a thread of its own with an event
    loop, bury no event. With two, an event that is handled once more is not counted as a fault: one
    worker is given events for which the other one is too slow.

    Args:
        backend: the backend that this runs on.
        mode: "Redis" or "SQLite", and after a comma "alone" or "two".
        plan: how much happens.
        spoil: puts a fault into the transport, to show that it is found.
    """
    begun, ledger = time.monotonic(), Ledger()
    result = Result("handlers block", backend, mode)
    kind, _, company = mode.partition(", ")
    with place(kind) as (transport, _address, _server):
        crowd = _Crowd(backend, plan, ledger, result)
        async with AsyncExitStack() as stack:
            if company == "two":
                tasks = await stack.enter_async_context(anyio.create_task_group())
                tasks.start_soon(to_thread.run_sync, crowd.work_elsewhere, spoil(transport))
            await crowd.run(spoil(transport))
            if not await all_settled(transport, [GROUP], plan.patience):
                result.stalled = True
            crowd.is_over = True
        entries = await look(transport, result, [GROUP])
        dead = await dead_letters(transport, GROUP)
    ledger.judge(result, entries, [GROUP], dead=dead)
    if company == "alone":
        # No other worker could have been given any of the events.
        result.doubled += result.twice
    result.seconds = time.monotonic() - begun
    return result


@final
class _Crowd:
    """Publishers and workers.

    Attributes:
        is_over: set when the workers in other threads must end.
    """

    def __init__(self, backend: str, plan: Plan, ledger: Ledger, result: Result) -> None:
        self.is_over = False
        self._backend = backend
        self._plan = plan
        self._ledger = ledger
        self._result = result
        self._numbers = iter(range(plan.messages))
        step = max(plan.messages // plan.kills, 1)
        self._slow = set(range(0, step * plan.kills, step))
        self._token = current_token()

    async def run(self, transport: Transport) -> None:
        """Publish all messages, and work until all are handled, or nothing happens any more."""
        bus = EventBus(on_error="raise")

        async def handled(message: Message) -> None:
            self._ledger.handle(GROUP, message)

        async with (
            self._working(transport, handled),
            open_bridge(bus, transport, outgoing=[NAME]),
        ):
            async with anyio.create_task_group() as tasks:
                for _ in range(_PUBLISHERS):
                    tasks.start_soon(self._publish, bus)
            confirmed = self._ledger.confirmed
            if not await self._ledger.all_handled([GROUP], confirmed, self._plan.patience):
                self._result.stalled = True

    def work_elsewhere(self, transport: Transport) -> None:
        """Run a worker in an event loop of this thread."""

        async def handled(message: Message) -> None:
            # From a separate thread: a thread with an event loop must not wait for another loop.
            tell = partial(self._ledger.handle, GROUP, message)
            await to_thread.run_sync(partial(from_thread.run_sync, tell, token=self._token))

        async def work() -> None:
            async with self._working(transport, handled):
                while not self.is_over:  # noqa: ASYNC110  it is set in another thread
                    await anyio.sleep(0.05)

        anyio.run(work, backend=self._backend)

    @asynccontextmanager
    async def _working(
        self, transport: Transport, handled: Callable[[Message], Awaitable[None]]
    ) -> AsyncGenerator[None]:
        async def handle(data: list[int]) -> None:
            number = data[0]
            if number in self._slow:
                self._slow.discard(number)
                self._result.kills += 1
                time.sleep(3 * LEASE)  # noqa: ASYNC251  that is what it is about
            await handled((number,))

        bus = EventBus()
        await bus.subscribe(NAME, "worker", handle)
        async with open_bridge(bus, transport, incoming=[NAME], group=GROUP, lease=LEASE, limit=4):
            yield

    async def _publish(self, bus: EventBus) -> None:
        for number in self._numbers:
            await publish(bus, (number,), self._ledger)
