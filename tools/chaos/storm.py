"""A storm of cancellations: of publishes, and of whole bridges, at any point."""

from __future__ import annotations

import time
from random import Random
from typing import TYPE_CHECKING, Final, final

import anyio

from flexiflow import EventBus
from flexiflow.extras.durable import open_bridge
from tools.chaos.ledger import NAME, Census, Ledger, Result, all_settled, dead_letters, look
from tools.chaos.load import GROUPS, publish, sound, worker
from tools.chaos.servers import connections_left
from tools.chaos.workers import place

if TYPE_CHECKING:
    from flexiflow.extras.durable import Transport
    from tools.chaos.load import Plan, Spoil

_VICTIMS: Final = 150
"""The number of publishes that are under way at once."""

_BRIDGES: Final = 4
"""The number of bridges that are open at once, each with some publishes of its own."""

_SHARE: Final = 100
"""One in so many cancellations is of a bridge."""

_LONGEST_PUBLISH: Final = 0.2
_LONGEST_BRIDGE: Final = 0.1
"""Seconds after which bridges are cancelled at the latest."""

_LEASE: Final = 60.0
"""Seconds, longer than any run waits: a cancelled bridge must give back what it held."""


async def cancel_all(
    backend: str, mode: str, plan: Plan, spoil: Spoil = sound, seed: int = 0
) -> Result:
    """Cancel publishes and bridges, then check that everything is as if they had never run.

    Args:
        backend: what this runs on, for the result.
        mode: "Redis" or "SQLite".
        plan: how much happens; its kills are cancellations, its messages are published afterwards.
        spoil: puts a fault into the transport, to show that it is found.
        seed: decides when each is cancelled.
    """
    begun, ledger, result = time.monotonic(), Ledger(), Result("cancelled", backend, mode)
    with place(mode) as (healthy, _, server):
        transport = spoil(healthy)
        census = Census.take()
        await _Storm(transport, ledger, result, plan, Random(seed)).run()
        entries = await look(healthy, result, GROUPS)
        dead = [each for group in GROUPS for each in await dead_letters(healthy, group)]
        result.leaks += await census.leaks()
        if server is not None:
            result.leaks += await connections_left(server)
    ledger.judge(result, entries, GROUPS, dead=dead)
    result.seconds = time.monotonic() - begun
    return result


@final
class _Storm:
    def __init__(
        self, transport: Transport, ledger: Ledger, result: Result, plan: Plan, random: Random
    ) -> None:
        self._transport = transport
        self._ledger = ledger
        self._result = result
        self._plan = plan
        self._random = random
        self._number = 0
        self._cancelled: list[int] = []

    async def run(self) -> None:
        """Cancel while other bridges work, then check that they still work."""
        bus, ledger, plan = EventBus(on_error="raise"), self._ledger, self._plan
        async with (
            worker(self._transport, GROUPS[0], ledger, lease=_LEASE),
            worker(self._transport, GROUPS[1], ledger, lease=_LEASE),
            open_bridge(bus, self._transport, outgoing=[NAME]),
        ):
            async with anyio.create_task_group() as tasks:
                for _ in range(_VICTIMS):
                    tasks.start_soon(self._cancel_publishes, bus)
                for _ in range(_BRIDGES):
                    tasks.start_soon(self._cancel_bridges)
            for _ in range(plan.messages):
                assert await publish(bus, self._next(), ledger)
            stored = {each.message for each in await look(self._transport, self._result, ())}
            if not (
                await ledger.all_handled(GROUPS, stored, plan.patience)
                and await all_settled(self._transport, GROUPS, plan.patience)
            ):
                self._result.stalled = True

    def _next(self) -> tuple[int]:
        self._number += 1
        return (self._number,)

    def _count(self) -> None:
        self._cancelled.append(self._number)
        self._result.kills += 1
        self._ledger.pulse.beat()
        if self._result.kills % 1000 == 0:
            self._plan.tell(
                f"{self._result.kills:,}/{self._plan.kills:,} cancellations, "
                f"{len(self._ledger.confirmed):,} stored"
            )

    async def _cancel_publishes(self, bus: EventBus) -> None:
        while self._result.kills < self._plan.kills:
            # Most are cancelled early: on the way to the outbox, while waiting there, while being
            # stored.
            seconds = self._random.random() ** 3 * _LONGEST_PUBLISH
            with anyio.move_on_after(seconds) as scope:
                await publish(bus, self._next(), self._ledger)
            if scope.cancelled_caught:
                self._count()

    async def _cancel_bridges(self) -> None:
        """Cancel a publishing and handling bridge after every so many other cancellations."""
        for turn in range(self._plan.kills // _SHARE // _BRIDGES):
            goal = turn * _SHARE * _BRIDGES
            await self._ledger.reached(self._cancelled, goal)
            with anyio.move_on_after(self._random.random() * _LONGEST_BRIDGE) as scope:
                await self._be_a_bridge()
            assert scope.cancelled_caught
            self._count()

    async def _be_a_bridge(self) -> None:
        bus = EventBus(on_error="raise")
        async with (
            worker(self._transport, GROUPS[0], self._ledger, lease=_LEASE),
            open_bridge(bus, self._transport, outgoing=[NAME]),
        ):
            while True:
                await publish(bus, self._next(), self._ledger)
