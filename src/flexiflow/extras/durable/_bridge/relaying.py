"""The part of a bridge that hands on the events of an outbox, as long as the bridge is open (Y4).

The bridge does not know how a relay works: `OutboxFile` makes one for it.
"""

from __future__ import annotations

import reprlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, final

import anyio

from flexiflow._reporting import logger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from flexiflow.extras.durable._bridge.lifetime import Lifetime
    from flexiflow.extras.durable._bridge.link import Link
    from flexiflow.extras.durable._transport import Connection


class Relay(Protocol):
    """Hands on events."""

    async def run(self) -> None:
        """Hand on events until `leave` was called and what was committed by then is stored."""
        ...

    def leave(self) -> None:
        """Come to an end."""
        ...

    async def ended(self) -> None:
        """Wait until `run` has come to its end."""
        ...

    async def close(self) -> None:
        """Give up what it holds; `run` does not run any more."""
        ...


@final
class OutboxFile:
    """A file with an outbox in it, for `open_bridge`; `Outbox.at` makes it.

    Args:
        path: the file.
        make_relay: makes a relay of it, for a bridge.

    Attributes:
        path: the file.

    Example:
        >>> from pathlib import Path
        >>> from flexiflow.extras.durable import Outbox
        >>> file = Outbox(source="shop").at("shop.db")
        >>> print(Path(file.path).name)
        shop.db
    """

    __slots__ = ("make_relay", "path")

    def __init__(self, path: str, make_relay: Callable[[Link, Connection], Relay]) -> None:
        self.path: str = path
        self.make_relay: Callable[[Link, Connection], Relay] = make_relay

    def __repr__(self) -> str:
        """Name the file."""
        return f"<OutboxFile {self.path!r}>"


def check_outbox(given: object) -> bool:
    """Return whether there is an outbox.

    Raises:
        TypeError: it is something else.
    """
    if not (given is None or isinstance(given, OutboxFile)):
        raise TypeError(
            f"outbox must be what at(path) of an Outbox returns, not {reprlib.repr(given)}"
        )
    return given is not None


@asynccontextmanager
async def relaying(
    relay: Relay, seconds: float, patience: float, lifetime: Lifetime
) -> AsyncGenerator[None]:
    """Run a relay; in the end let it hand on what is committed, and give up what it holds.

    Args:
        relay: the relay.
        seconds: how many seconds it has in the end.
        patience: how many seconds it has to give up what it holds.
        lifetime: the bridge's.
    """
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(relay.run)
            yield
            if not lifetime.is_hasty:
                relay.leave()
                with anyio.move_on_after(seconds):
                    await relay.ended()
            group.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(patience, shield=True) as scope:
            await relay.close()
        if scope.cancelled_caught:
            logger.warning("a bridge was left, and another one has its outbox only later")
