"""A handler whose calls are limited, and the line of calls that wait for it."""

from functools import partial
from typing import Any, final

import anyio
from anyio.abc import TaskGroup

from flexiflow import EventBus, Subscription
from flexiflow._limits import Limiter
from tests.helpers import settle


@final
class Desk:
    """A handler that waits until its payload is let go.

    Attributes:
        began: the payloads whose calls were started, in that order.
        most: how many calls ran at once, at most.
    """

    def __init__(self) -> None:
        self.began: list[int] = []
        self.most = 0
        self._gates: dict[int, anyio.Event] = {}

    async def __call__(self, data: int) -> None:
        """Wait."""
        self.began.append(data)
        gate = self._gates[data] = anyio.Event()
        self.most = max(self.most, len(self._gates))
        try:
            await gate.wait()
        finally:
            del self._gates[data]

    def let_go(self, data: int) -> None:
        """Let one call end."""
        self._gates[data].set()

    @property
    def serving(self) -> list[int]:
        """The payloads of the calls that run."""
        return [*self._gates]

    async def serve_all(self) -> None:
        """Let the calls end one after another, until none is left."""
        while self._gates:
            self.let_go(min(self._gates))
            await settle()


def limiter(subscription: Subscription) -> Limiter:
    """Give what a subscription's calls take their slots of."""
    terms = subscription._terms
    assert terms is not None
    assert terms.limiter is not None
    return terms.limiter


def holders(subscription: Subscription) -> int:
    """Say how many calls of a subscription's handler have a slot, or wait for one."""
    return len(limiter(subscription).holders) + len(limiter(subscription)._waiting)


async def publish_in_order(group: TaskGroup, bus: EventBus, *payloads: int, **options: Any) -> None:
    """Publish at the same time, each when the one before has come as far as it can."""
    for data in payloads:
        group.start_soon(partial(bus.publish, "a", data, **options))
        await settle()
