"""Publishers, and a worker that crashes: what X1 promises under every schedule."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

import anyio
from anyio import CancelScope, create_task_group
from anyio.lowlevel import checkpoint

from flexiflow import EventBus
from flexiflow.extras.durable import (
    Acknowledged,
    MemoryTransport,
    Settled,
    Standing,
    current_delivery,
    open_bridge,
)
from flexiflow.testing._examiner.subject import Log
from properties.reference.transport import PlainLease, PlainTransport

GROUP = "g"
LEASE = 3.0
KEYS = 2
EVENTS = range(6)
POISON = 5
"""The event that always fails."""


class Traffic:
    """Publishes and handles events, and notes what became of them."""

    def __init__(self) -> None:
        self.memory = MemoryTransport(partitions=1)
        self.handled = Counter[int]()
        self.succeeded = set[str]()
        self.order: dict[int, list[int]] = defaultdict(list)
        self.changed = anyio.Event()

    async def handle(self, data: int) -> None:
        """Handle an event, in two steps."""
        await checkpoint()
        if data == POISON:
            raise OSError(data)
        delivery = current_delivery()
        assert delivery is not None
        self.succeeded.add(delivery.position)
        self.handled[data] += 1
        if data not in self.order[data % KEYS]:
            self.order[data % KEYS].append(data)
        self.changed.set()
        self.changed = anyio.Event()

    async def publish(self, key: int) -> None:
        """Publish the events of a key, one after another."""
        bus = EventBus()
        async with open_bridge(
            bus, self.memory, outgoing=["n.*"], key=lambda data: str(data % KEYS)
        ):
            for number in EVENTS[key::KEYS]:
                assert await bus.publish("n.e", number) == ()

    async def work(self, until: int, *, crashes: bool) -> None:
        """Work until `until` events were handled; then crash, or wait for the dead letter."""
        process, bus = Process(self), EventBus()
        await bus.subscribe("n.*", "worker", self.handle)
        with CancelScope() as scope:
            async with open_bridge(
                bus, process, incoming=["n.*"], group=GROUP, lease=LEASE, max_attempts=2
            ) as bridge:
                while len(self.handled) < until:
                    await self.changed.wait()
                if crashes:
                    process.is_cut = True
                    scope.cancel()
                while True:
                    if await bridge.dead_letters():
                        return
                    await anyio.sleep(LEASE)

    async def check(self) -> None:
        """Check that nothing was lost or came out of order, and that one event is dead, once."""
        assert {*self.handled} == {*EVENTS} - {POISON}
        for key, order in self.order.items():
            assert order == [each for each in EVENTS[key::KEYS] if each != POISON]
        async with self.memory.connect() as connection:
            assert await connection.standing(GROUP) == Standing(0, 0, 0, 1)
            [letter] = await connection.dead_letters(GROUP)
        assert json.loads(letter.body)["data"] == POISON


class Process(PlainTransport):
    """The transport in memory, as seen by a process that may crash, and then releases nothing."""

    class Cut(PlainLease):
        """A lease of such a process."""

        transport: Process

        async def settle(self, outcomes: Any) -> Settled:
            for each in outcomes:
                is_early = isinstance(each, Acknowledged) and (
                    each.position not in self.transport.traffic.succeeded
                )
                assert not is_early, f"{each.position} was acknowledged before it was handled"
            await checkpoint()
            return Settled() if self.transport.is_cut else await super().settle(outcomes)

        async def release(self) -> None:
            await checkpoint()
            if not self.transport.is_cut:
                await super().release()

    lease_type = Cut

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self.traffic = traffic
        self.memory = traffic.memory
        self.is_cut = False

    async def leave(self, member: Any) -> None:
        await checkpoint()
        if not self.is_cut:
            await super().leave(member)


async def stored_events_reach_their_handlers() -> None:
    """X1: Two publishers, a worker that crashes in the middle, and another that comes after it."""
    traffic = Traffic()
    with Log():
        async with create_task_group() as group:
            for key in range(KEYS):
                group.start_soon(traffic.publish, key)
            await traffic.work(2, crashes=True)
            await traffic.work(len(EVENTS) - 1, crashes=False)
        await traffic.check()
