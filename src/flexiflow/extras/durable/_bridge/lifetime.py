"""The life of a bridge: its state, what ended it, and its place on the bus (X10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, final
from weakref import ref

from flexiflow.extras.durable._errors import left

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.extras.durable._errors import TransportUnavailable


class Vacatable(Protocol):
    """A place on a bus, of which a lifetime has to know no more."""

    @property
    def lifetime(self) -> Lifetime:
        """That of the bridge whose place it is, or was."""
        ...

    def stop(self) -> None:
        """Store nothing more."""
        ...

    def vacate(self) -> None:
        """End the subscriptions."""
        ...


@final
@dataclass(frozen=True, slots=True)
class BridgeStatus:
    """A bridge's state (X10); as a str `running`, `draining`, `closed`, or `failed` with the cause.

    Attributes:
        state: "running" inside the block; "draining" while it is being left; after that "failed" if
            the bridge failed, or an exception or a cancellation left the block, else "closed".
        cause: what ended a failed bridge; None in all other states.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.durable import MemoryTransport, open_bridge
        >>> async def main():
        ...     bus, transport = EventBus(), MemoryTransport()
        ...     async with open_bridge(bus, transport, outgoing=["order.*"]) as bridge:
        ...         print(bridge.status.state)
        ...     print(bridge.status.state)
        >>> anyio.run(main)
        running
        closed
    """

    state: Literal["running", "draining", "closed", "failed"]
    cause: BaseException | None = None

    def __str__(self) -> str:
        """Return the state, with the cause in parentheses if there is one."""
        return self.state if self.cause is None else f"{self.state}({self.cause!r})"


@final
class Lifetime:
    """The life of one bridge, shared by the bridge, its block and its place on the bus.

    The place is referred to weakly, so that only the bus keeps it alive: a reference to a bridge
    that has ended keeps no bus alive.

    Attributes:
        address: the address of its transport.
        status: the bridge's status.
        exception: what its block raised, unless that was a cancellation.
        cause: what is ending the bridge, as far as it is known; None if nothing went wrong.
    """

    __slots__ = ("_place", "address", "cause", "exception", "status")

    def __init__(self) -> None:
        self.address: str = ""
        self.status: BridgeStatus = BridgeStatus("running")
        self.exception: BaseException | None = None
        self.cause: BaseException | None = None
        self._place: Callable[[], Vacatable | None] | None = None

    @property
    def is_hasty(self) -> bool:
        """Whether something went wrong, so that nothing is drained."""
        return self.cause is not None

    @property
    def had_place(self) -> bool:
        """Whether it ever had a place on the bus."""
        return self._place is not None

    def begin(self, place: Vacatable) -> None:
        """Take a place on the bus."""
        self._place = ref(place)

    def leave(self, cause: BaseException | None, *, is_cancellation: bool) -> None:
        """Note that the block is being left, and which exception leaves it, if any."""
        self.status = BridgeStatus("draining")
        self.cause = cause
        self.exception = None if is_cancellation else cause

    def stop(self) -> None:
        """Store nothing more: each publish of an outgoing event fails from now on."""
        if (place := self._held()) is not None:
            place.stop()

    def end(self, cause: BaseException | None) -> None:
        """Note that the block is over; without a cause, give up the place on the bus."""
        self.cause = cause
        self.exception = None
        if cause is None:
            self.status = BridgeStatus("closed")
            self.forget()
        else:
            self.status = BridgeStatus("failed", cause)

    def forget(self) -> None:
        """Give up the place; does nothing if there is none, or another bridge has it by now."""
        if (place := self._held()) is not None:
            place.vacate()

    def refusal(self) -> TransportUnavailable:
        """Return the exception for a publish after this bridge has stopped storing events."""
        return left(self.address, self.cause)

    def _held(self) -> Vacatable | None:
        place = None if self._place is None else self._place()
        return place if place is not None and place.lifetime is self else None
