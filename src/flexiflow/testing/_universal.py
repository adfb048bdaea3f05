"""The stage of the universal suite: buses, bridges, and handlers that note what they are given.

The suite is that of watermill, a library for Go with a dozen transports, which holds each to it.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

import anyio

from flexiflow._bus import EventBus
from flexiflow.extras.durable import Standing, open_bridge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from flexiflow.extras.durable import Bridge, DeadLetter, Transport
    from flexiflow.testing._desk_calls import Means

    Scenario: TypeAlias = Callable[["Stage"], Awaitable[None]]

GROUP: Final = "g"
_RETRY: Final = 0.001
_PUBLISHERS: Final = 100
_SETTLED: Final = Standing(0, 0, 0, 0, 0)
_LEASE: Final = 60.0
"""No lease is to run out while a scenario plays, however busy the machine: an event came twice."""
_PAUSE: Final = 0.01


@final
@dataclass(frozen=True)
class Universal:
    """One property of every transport.

    Attributes:
        clause: which clause it is of.
        scenario: asserts it.
        needs: what there has to be for that.
        takes: the options of the factory that it uses where there are.
    """

    clause: str
    scenario: Scenario
    needs: tuple[str, ...] = ()
    takes: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """What it is called."""
        return self.scenario.__name__

    @property
    def module(self) -> str:
        """Where it is."""
        return self.scenario.__module__


def universal(clause: str, *needs: str, **takes: int) -> Callable[[Scenario], Universal]:
    """Make a property of a scenario."""
    return lambda scenario: Universal(clause, scenario, needs, tuple(takes.items()))


def claim(holds: object, complaint: str) -> None:
    """Raise where something does not hold, under `python -O` too.

    Raises:
        AssertionError: it does not.
    """
    if not holds:
        raise AssertionError(complaint)


@final
class Noted:
    """A handler that notes what it is given, and tells when it has seen so many different ones."""

    def __init__(self, expected: int) -> None:
        self.seen: list[Any] = []
        self._different: set[Any] = set()
        self._expected = expected
        self._complete = anyio.Event()

    def __call__(self, data: Any) -> None:
        """Note it."""
        self.seen.append(data)
        self._different.add(data)
        if len(self._different) >= self._expected:
            self.finish()

    @property
    def is_complete(self) -> bool:
        """Whether it has seen them all."""
        return self._complete.is_set()

    def finish(self) -> None:
        """Wait for no others."""
        self._complete.set()

    async def complete(self) -> None:
        """Wait until it has seen them all."""
        await self._complete.wait()

    def check(self, expected: Iterable[Any]) -> None:
        """Compare what it has seen with what was published."""
        wanted = set(expected)
        lost, strange = wanted - self._different, self._different - wanted
        claim(
            not lost,
            f"{len(lost)} of {len(wanted)} events were lost, {sorted(lost)[:1]} among them",
        )
        claim(not strange, f"{len(strange)} events came that are another's")


@final
class Stage:
    """Where a scenario plays.

    Args:
        transport: what is examined.
        means: the hooks.
        scale: 1 for the sizes of the suite, less for fewer events.
    """

    def __init__(self, transport: Transport, means: Means, scale: float) -> None:
        self.transport = transport
        self._means = means
        self._scale = scale

    def some(self, number: int, least: int = 2) -> int:
        """Give so many, by the scale."""
        return max(round(number * self._scale), least)

    async def restart(self) -> None:
        """Restart what is behind the transport."""
        # Who asks for it needs the hook, and does not play without.
        restart = cast("Callable[[Any], Awaitable[object]]", self._means.restart)
        await restart(self.transport)

    async def empty(self) -> None:
        """Restart what is behind the transport, which has lost all that was stored."""
        empty = cast("Callable[[Any], Awaitable[object]]", self._means.empty)
        await empty(self.transport)

    def bridge(self, bus: EventBus, **options: Any) -> AbstractAsyncContextManager[Bridge]:
        """Open a bridge."""
        given: dict[str, Any] = {"retry_delay": _RETRY, "group": GROUP, "lease": _LEASE, **options}
        if "incoming" not in options:
            del given["group"]
        return open_bridge(bus, self.transport, **given)

    @asynccontextmanager
    async def worker(
        self, handler: Callable[[Any], object], incoming: str = "n.*", **options: Any
    ) -> AsyncGenerator[Bridge]:
        """Let a handler be given events of a group, on a bus of its own."""
        bus = EventBus()
        await bus.subscribe(incoming, "worker", handler)
        async with self.bridge(bus, incoming=[incoming], **options) as bridge:
            yield bridge

    async def publish(
        self, payloads: Iterable[Any], name: Callable[[Any], str] = lambda _: "n.e", **options: Any
    ) -> None:
        """Publish by many tasks at once, on a bus of their own."""
        bus, left = EventBus(), iter(payloads)

        async def publish_some() -> None:
            for each in left:
                failures = await bus.publish(name(each), each)
                claim(not failures, f"publishing failed: {[each.exception for each in failures]}")

        async with (
            self.bridge(bus, outgoing=["n.**"], **options),
            anyio.create_task_group() as group,
        ):
            for _ in range(1 if options.get("key") else self.some(_PUBLISHERS)):
                group.start_soon(publish_some)

    async def standing(self, group: str = GROUP) -> Standing:
        """Tell how far a group is."""
        async with self.transport.connect() as connection:
            return await connection.standing(group)

    async def check_settled(self, group: str = GROUP) -> None:
        """See that a group has settled all, once its workers have left."""
        standing = await self.standing(group)
        claim(standing == _SETTLED, f"the group {group} stands at {standing}")


async def dead_letters(bridge: Bridge) -> Sequence[DeadLetter]:
    """Wait until a group has dead letters, and give them."""
    while True:
        if letters := await bridge.dead_letters():
            return letters
        await anyio.sleep(_PAUSE)


@asynccontextmanager
async def open_stage(means: Means, scale: float, **options: int) -> AsyncGenerator[Stage]:
    """Make a transport, and give a stage for it."""
    made = means.factory(**options)
    if hasattr(made, "connect"):
        yield Stage(made, means, scale)
        return
    async with made as transport:
        yield Stage(transport, means, scale)


async def play(each: Universal, means: Means, scale: float, times: int, **options: int) -> None:
    """Let a scenario play so many times at once, on a transport each."""

    async def play_once() -> None:
        async with open_stage(means, scale, **options) as stage:
            await each.scenario(stage)

    async with anyio.create_task_group() as group:
        for _ in range(times):
            group.start_soon(play_once)
