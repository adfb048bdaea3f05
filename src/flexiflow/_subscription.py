"""Subscriptions, the handlers' places on a bus, and the record of a handler's failure."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias, final

from flexiflow._callables import describe
from flexiflow._showing import show
from flexiflow._uncopied import refuse_copying

if TYPE_CHECKING:
    from types import TracebackType

    from flexiflow._limits import Limiter
    from flexiflow._topic import Event

Handler: TypeAlias = Callable[[Any], object]
"""Takes the payload; it is sync or async, or returns an awaitable (B7)."""

Filter: TypeAlias = Callable[[str, Any], bool]
"""Takes the event's name and the payload, and returns whether to call the handler (B8)."""

Around: TypeAlias = (
    "Callable[[Event[Any], Subscription, Callable[[], Coroutine[Any, Any, None]]], object]"
)
"""An async function around a handler (A3): takes the event, the subscription, and a function which
calls what is inside, and is to be awaited."""


class Terms(NamedTuple):
    """How to call a handler, if not simply with the payload.

    Attributes:
        limiter: limits how many calls run at once (V2), or None.
        time_limit: how many seconds an async handler may take (V1), or None.
        takes_event: whether the handler is called with the `Event` instead of the payload (S1).
        around: the subscription's own async functions around the handler, the outermost first (A3).
    """

    limiter: Limiter | None = None
    time_limit: float | None = None
    takes_event: bool = False
    around: tuple[Around, ...] = ()


@final
@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Subscription:
    """One handler's place on the bus (B2), made by `EventBus.subscribe`.

    It is read-only, hashed by identity, and a plain context manager that unsubscribes on exit.

    Attributes:
        event_name: the event's name, or a pattern.
        component_name: the name of the subscription's owner.
        handler: what is called with the payload.
        priority: 1 (first) to 5 (last).
        filter: asked before each start of the handler, or None.
        once: whether it is unsubscribed just before its handler starts (B9).
        active: whether it is subscribed; False from the moment it is unsubscribed.
    """

    event_name: str
    component_name: str
    handler: Handler
    priority: int
    filter: Filter | None
    once: bool
    _order: int = field(kw_only=True)
    _unsubscribe: Callable[[Subscription], bool] = field(kw_only=True)
    _terms: Terms | None = field(default=None, kw_only=True)
    active: bool = field(default=True, kw_only=True)

    __reduce_ex__ = refuse_copying

    @property
    def limit(self) -> int | None:
        """How many calls of the handler may run at once (V2); None for no limit."""
        return None if self._terms is None or (it := self._terms.limiter) is None else it.limit

    @property
    def time_limit(self) -> float | None:
        """How many seconds an async handler may take (V1); None for no limit."""
        return None if self._terms is None else self._terms.time_limit

    @property
    def around(self) -> tuple[Around, ...]:
        """The subscription's own async functions around the handler, the outermost first (A3)."""
        return () if self._terms is None else self._terms.around

    def __enter__(self) -> Self:
        """Return the subscription itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Unsubscribe; this does nothing if it was unsubscribed before."""
        self._unsubscribe(self)

    def __repr__(self) -> str:
        """Show the event, the component and the handler."""
        state = "" if self.active else ", unsubscribed"
        return (
            f"<Subscription {show(self.component_name)} to {show(self.event_name)}: "
            f"{describe(self.handler)}, priority {self.priority}{state}>"
        )


# What a bus does with a subscription. These are module functions, to keep them off the public
# class.


def admits(subscription: Subscription, event_name: str, data: Any) -> bool:
    """Return whether the handler is to start now (B5, B8, B9); if so, `once` is unsubscribed."""
    accepts = subscription.filter
    if not subscription.active or not (
        accepts is None
        or (verdict := accepts(event_name, data)) is True
        or is_true(verdict, accepts)
    ):
        return False
    # Asked again, since the filter may have unsubscribed it, or published the event of a `once`.
    return subscription._unsubscribe(subscription) if subscription.once else subscription.active


def is_true(verdict: object, filter: Filter) -> bool:
    """Return whether a filter's result lets the handler start; callers check for True first.

    Raises:
        TypeError: the result is an awaitable.
    """
    if verdict is not False and isawaitable(verdict):
        if isinstance(verdict, Coroutine):
            verdict.close()
        raise TypeError(
            f"the filter {describe(filter)} returned an awaitable; a filter must answer at once"
        )
    return bool(verdict)


def deactivate(subscription: Subscription) -> None:
    """Mark a subscription as unsubscribed; for the registry."""
    # The dataclass is frozen, since its holders must not change it.
    object.__setattr__(subscription, "active", False)


@final
@dataclass(frozen=True, slots=True)
class HandlerFailure:
    """An exception that a handler, or its filter, let out (E1).

    Attributes:
        event_name: the event that was published.
        component_name: the name of the subscription's owner.
        exception: the exception object itself.
        subscription: the subscription whose handler or filter failed.
    """

    event_name: str
    component_name: str
    exception: Exception
    subscription: Subscription
