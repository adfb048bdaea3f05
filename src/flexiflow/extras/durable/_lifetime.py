"""What becomes of a bridge, from its opening on, and of its place on the bus (X10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, final
from weakref import ref

from flexiflow.extras.durable._errors import left

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.extras.durable._errors import TransportUnavailable


@final
@dataclass(frozen=True, slots=True)
class BridgeStatus:
    """How a bridge is (X10); as a str `running`, `draining`, `closed`, or `failed` with the cause.

    Attributes:
        state: "running" inside the block; "draining" while it is being left; after that "closed"
            where the block came to its end in peace, and "failed" where the bridge failed, or an
            exception or a cancellation left the block.
        cause: what ended a bridge that has failed; None for all others.
    """

    state: Literal["running", "draining", "closed", "failed"]
    cause: BaseException | None = None

    def __str__(self) -> str:
        """Give the state, and the cause in parentheses."""
        return self.state if self.cause is None else f"{self.state}({self.cause!r})"


class Place(Protocol):
    """A bridge's subscriptions to outgoing events."""

    @property
    def lifetime(self) -> Lifetime:
        """Whose place it is."""
        ...

    def stop(self) -> None:
        """Fail each publish from now on."""
        ...

    def vacate(self) -> None:
        """End the subscriptions."""
        ...


@final
class Lifetime:
    """What becomes of one bridge.

    The bus alone keeps the place alive, so that who keeps a bridge that has ended keeps no bus.

    Attributes:
        address: where its transport is.
        status: how it is.
        exception: what its block raised, if anything but a cancellation.
        cause: what ends it, as far as that is known; None where it is ended in peace.
    """

    __slots__ = ("_place", "address", "cause", "exception", "status")

    def __init__(self) -> None:
        self.address: str = ""
        self.status: BridgeStatus = BridgeStatus("running")
        self.exception: BaseException | None = None
        self.cause: BaseException | None = None
        self._place: Callable[[], Place | None] | None = None

    @property
    def is_hasty(self) -> bool:
        """Whether there is no time to drain anything."""
        return self.cause is not None

    @property
    def had_place(self) -> bool:
        """Whether it ever had a place on the bus."""
        return self._place is not None

    def begin(self, place: Place) -> None:
        """Take a place on the bus."""
        self._place = ref(place)

    def leave(self, cause: BaseException | None, *, is_cancellation: bool) -> None:
        """Note that the block is being left, and by what."""
        self.status = BridgeStatus("draining")
        self.cause = cause
        self.exception = None if is_cancellation else cause

    def stop(self) -> None:
        """Fail each publish of an outgoing event from now on."""
        if (place := self._held()) is not None:
            place.stop()

    def end(self, cause: BaseException | None) -> None:
        """Note that the block is over; one that ended in peace gives up its place."""
        self.cause = cause
        self.exception = None
        if cause is None:
            self.status = BridgeStatus("closed")
            self.forget()
        else:
            self.status = BridgeStatus("failed", cause)

    def forget(self) -> None:
        """Give up the place; harmless where there is none, or another bridge has it by now."""
        if (place := self._held()) is not None:
            place.vacate()

    def refusal(self) -> TransportUnavailable:
        """Make what the publish of an event fails with that is not stored any more."""
        return left(self.address, self.cause)

    def _held(self) -> Place | None:
        place = None if self._place is None else self._place()
        return place if place is not None and place.lifetime is self else None
