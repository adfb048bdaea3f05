"""The stage of the universal suite: buses, bridges, and handlers that note what they are given.

The suite follows that of watermill, a Go library, which holds each of its dozen transports to it.
Scenarios play on a `Stage`, and claim what holds of every transport.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import anyio

from flexiflow._bus import EventBus
from flexiflow.extras.durable import Standing, open_bridge
from flexiflow.testing._examiner.kit import claim

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from flexiflow.extras.durable import Bridge, DeadLetter, Transport
    from flexiflow.testing._transport.desk_calls import Means

    Scenario: TypeAlias = Callable[["Stage"], Awaitable[None]]

GROUP: Final = "g"
_RETRY: Final = 0.001
_PUBLISHERS: Final = 100
_SETTLED: Final = Standing(0, 0, 0, 0, 0)
_LEASE: Final = 60.0
"""Long enough for no lease to run out on a busy machine; when one did, an event came twice."""
_PAUSE: Final = 0.01


@final
@dataclass(frozen=True)
class Universal:
    """One property of every transport.

    Attributes:
        clause: the number of its clause.
        scenario: plays on a stage, and raises if the property does not hold.
        needs: the hooks and options that it can't do without.
        takes: the options of the factory that it uses, if the factory has them.
    """

    clause: str
    scenario: Scenario
    needs: tuple[str, ...] = ()
    takes: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """Its name."""
        return self.scenario.__name__


def universal(clause: str, *needs: str, **takes: int) -> Callable[[Scenario], Universal]:
    """Return a decorator that makes a property of a scenario."""
    return lambda scenario: Universal(clause, scenario, needs, tuple(takes.items()))


@final
class Noted:
    """A handler that notes what it is given, until it has seen a number of different events."""

    def __init__(self, expected: int) -> None:
        self.seen: list[Any] = []
        self._different: set[Any] = set()
        self._expected = expected
        self._complete = anyio.Event()

    def __call__(self, data: Any) -> None:
        """Note an event."""
        self.seen.append(data)
        self._different.add(data)
        if len(self._different) >= self._expected:
            self.finish()

    @property
    def is_complete(self) -> bool:
        """Whether it has seen them all."""
        return self._complete.is_set()

    def finish(self) -> None:
        """Stop waiting for others."""
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
    """Where a scenario plays: a transport, and what to do with it.

    Args:
        transport: the transport that is examined.
        means: the hooks.
        scale: 1 for the sizes of the suite, less for fewer events.
    """

    def __init__(self, transport: Transport, means: Means, scale: float) -> None:
        self.transport = transport
        self._means = means
        self._scale = scale

    def some(self, number: int, least: int = 2) -> int:
        """Return a number of the suite, adjusted to the scale."""
        return max(round(number * self._scale), least)

    async def call_hook(self, name: str) -> None:
        """Call a hook that the scenario needs, without which it does not play."""
        await getattr(self._means, name)(self.transport)

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
        """Give a handler the events of a group, on a bus of its own."""
        bus = EventBus()
        await bus.subscribe(incoming, "worker", handler)
        async with self.bridge(bus, incoming=[incoming], **options) as bridge:
            yield bridge

    async def publish(
        self, payloads: Iterable[Any], name: Callable[[Any], str] = lambda _: "n.e", **options: Any
    ) -> None:
        """Publish from many tasks at once, on a bus of their own."""
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
        """Return how far a group is."""
        async with self.transport.connect() as connection:
            return await connection.standing(group)

    async def check_settled(self, group: str = GROUP) -> None:
        """Check that a group has settled everything, once its workers have left."""
        standing = await self.standing(group)
        claim(standing == _SETTLED, f"the group {group} stands at {standing}")


async def dead_letters(bridge: Bridge) -> Sequence[DeadLetter]:
    """Wait until a group has dead letters, and return them."""
    while True:
        if letters := await bridge.dead_letters():
            return letters
        await anyio.sleep(_PAUSE)


def first_two(number: int) -> str:
    """Return one key for the first two numbers, and one of its own for each other."""
    return str(max(number, 1))


async def play(each: Universal, means: Means, scale: float, times: int, **options: int) -> None:
    """Play a scenario several times at once, with a transport each."""

    async def play_once() -> None:
        async with means.make(**options) as transport:
            await each.scenario(Stage(transport, means, scale))

    async with anyio.create_task_group() as group:
        for _ in range(times):
            group.start_soon(play_once)
