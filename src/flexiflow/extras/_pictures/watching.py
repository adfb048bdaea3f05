"""An instrument that finds out what causes what, and measures handlers."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, final

from flexiflow.extras._causes import Causes
from flexiflow.extras._measures import Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from contextlib import AbstractContextManager

    from flexiflow import Event, Subscription
    from flexiflow.extras._measures import ByName
    from flexiflow.extras._pictures.tally import Chain

_UNWATCHED: Final = nullcontext()


@final
class Watch:
    """The instrument.

    Args:
        events: the events that nothing causes.
        handlers: gets the durations of handlers, by the event and the subscription's owner.
        fail: called for each handler that fails, with its owner and the exception.
        unwatched: the owners of subscriptions that are passed over.

    Attributes:
        causes: the chain of events that the current task works for.
    """

    def __init__(
        self,
        events: Chain,
        handlers: ByName,
        fail: Callable[[str, Exception], object],
        unwatched: Collection[str],
    ) -> None:
        self._handlers = handlers
        self._fail = fail
        self._unwatched = unwatched
        self.causes = Causes(events)

    def publishing(self, event: Event[Any], /) -> AbstractContextManager[object]:
        """Return a context manager within which an event is the cause of others."""
        return self.causes.causing(event, self.causes.known.effect(event.name))

    def handling(
        self, event: Event[Any], subscription: Subscription, /
    ) -> AbstractContextManager[object]:
        """Return a context manager that measures a handler, and tells of its failure."""
        component = subscription.component_name
        if component in self._unwatched:
            return _UNWATCHED
        return _Handling(Timing(self._handlers[event.name, component]), self._fail, component)


@final
class _Handling:
    """A context manager that measures a handler, and tells of its failure."""

    __slots__ = ("_component", "_fail", "_timing")

    def __init__(
        self, timing: Timing, fail: Callable[[str, Exception], object], component: str
    ) -> None:
        self._timing = timing
        self._fail = fail
        self._component = component

    def __enter__(self) -> None:
        """Do nothing: a bus enters it as soon as it was made."""

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: object
    ) -> None:
        self._timing.__exit__(kind, exception, traceback)
        if isinstance(exception, Exception):
            self._fail(self._component, exception)
