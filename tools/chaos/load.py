"""Publishers and workers in one process, while damage is done again and again."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, final

import anyio

from flexiflow import EventBus
from flexiflow.extras.durable import TransportError, open_bridge
from tools.chaos.ledger import NAME, Census, Ledger, all_settled, dead_letters, look

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from flexiflow.extras.durable import Transport
    from tools.chaos.ledger import Message, Result

GROUPS = ("one", "two")
_PUBLISHERS = 50
_WORKERS = ("one", "one", "two")
_STORE_TIMEOUTS = (60.0, 60.0, 0.2)
"""The timeouts of the publishing bridges; the publishers of the last one see failures."""

Harm: TypeAlias = "Callable[[int], Awaitable[object]]"
"""Does some damage; is called with the number of times that it was done before."""

Spoil: TypeAlias = "Callable[[Transport], Transport]"
"""Puts a fault into a transport, to show that it is found."""


def sound(transport: Transport) -> Transport:
    """Return a transport as it is, without a fault."""
    return transport


def _be_quiet(_: str) -> None:
    pass


class Plan(NamedTuple):
    """The amount of damage and load.

    Attributes:
        kills: how often damage is done while messages pass.
        messages: how many messages are published.
        patience: the seconds without any event after which a run is given up.
        tell: called now and then with the progress.
    """

    kills: int
    messages: int
    patience: float = 60.0
    tell: Callable[[str], None] = _be_quiet


async def run_under(
    harm: Harm, transport: Transport, observer: Transport, result: Result, plan: Plan
) -> Result:
    """Publish and handle while damage is done, and record the fate of the messages.

    Args:
        harm: does the damage.
        transport: the transport that is damaged.
        observer: the same, for reading its content, without damage.
        result: the result to fill in.
        plan: how much happens.
    """
    begun, ledger = time.monotonic(), Ledger()
    census = Census.take()
    await _Load(harm, transport, observer, result, plan, ledger).run()
    entries = await look(observer, result, GROUPS)
    dead = [each for group in GROUPS for each in await dead_letters(observer, group)]
    result.leaks += await census.leaks()
    ledger.judge(result, entries, GROUPS, dead=dead)
    result.seconds = time.monotonic() - begun
    return result


@final
class _Load:
    def __init__(
        self,
        harm: Harm,
        transport: Transport,
        observer: Transport,
        result: Result,
        plan: Plan,
        ledger: Ledger,
    ) -> None:
        self._harm = harm
        self._transport = transport
        self._observer = observer
        self._result = result
        self._plan = plan
        self._ledger = ledger
        self._numbers = iter(range(plan.messages))

    async def run(self) -> None:
        async with AsyncExitStack() as workers:
            for group in _WORKERS:
                await workers.enter_async_context(
                    worker(self._transport, group, self._ledger, lease=5.0)
                )
            await self._publish_all()
            stored = {each.message for each in await look(self._observer, self._result, ())}
            patience = self._plan.patience
            if not (
                await self._ledger.all_handled(GROUPS, stored, patience)
                and await all_settled(self._observer, GROUPS, patience)
            ):
                self._result.stalled = True

    async def _publish_all(self) -> None:
        buses = [EventBus(on_error="raise") for _ in _STORE_TIMEOUTS]
        async with AsyncExitStack() as stack:
            for bus, seconds in zip(buses, _STORE_TIMEOUTS, strict=True):
                await stack.enter_async_context(
                    open_bridge(bus, self._transport, outgoing=[NAME], store_timeout=seconds)
                )
            async with anyio.create_task_group() as tasks:
                for place in range(_PUBLISHERS):
                    tasks.start_soon(self._publish, buses[place % len(buses)])
                tasks.start_soon(self._do_harm)
                if not await self._ledger.pulse.until(self._is_done, self._plan.patience):
                    self._result.stalled = True
                tasks.cancel_scope.cancel()

    def _is_done(self) -> bool:
        is_published = len(self._ledger.confirmed) == self._plan.messages
        return is_published and self._result.kills == self._plan.kills

    async def _publish(self, bus: EventBus) -> None:
        for number in self._numbers:
            attempt = 0
            while not await publish(bus, (number, attempt), self._ledger):
                attempt += 1

    async def _do_harm(self) -> None:
        plan, ledger = self._plan, self._ledger
        for turn in range(plan.kills):
            goal = (turn + 1) * plan.messages // (plan.kills + 1)
            await ledger.reached(ledger.confirmed, goal)
            await self._harm(turn)
            self._result.kills += 1
            ledger.pulse.beat()
            handled = sum(map(len, ledger.handled.values()))
            plan.tell(
                f"{turn + 1}/{plan.kills} kills, {len(ledger.confirmed):,} stored, "
                f"{handled:,} handled"
            )


async def publish(bus: EventBus, message: Message, ledger: Ledger) -> bool:
    """Publish a message, and return whether that succeeded."""
    try:
        await bus.publish(NAME, message)
    except TransportError:
        ledger.doubt()
        return False
    ledger.confirm(message)
    return True


@asynccontextmanager
async def worker(
    transport: Transport, group: str, ledger: Ledger, *, lease: float
) -> AsyncGenerator[None]:
    """Handle the messages of a group."""

    async def handle(message: list[int]) -> None:
        ledger.handle(group, tuple(message))

    bus = EventBus()
    await bus.subscribe(NAME, "worker", handle)
    async with open_bridge(bus, transport, incoming=[NAME], group=group, lease=lease):
        yield
