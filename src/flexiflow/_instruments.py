"""Instruments watch publishes and handlers, and never get in their way (I1 to I3).

An instrument returns context managers, which `enter` enters and `leave` exits. One that raises an
exception is logged and removed (`take_out`), and the delivery goes on without it. Only
`PublishRefused`, raised in `publishing`, stops a publish.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any, Final, final

from anyio import get_cancelled_exc_class

from flexiflow._callables import check_callable, describe, is_coroutine_callable
from flexiflow._errors import PublishRefused
from flexiflow._reporting import logger
from flexiflow.events import COMPONENT_REGISTERED, HANDLER_FAILED, STATE_CHANGED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from typing import Protocol, TypeAlias

    from flexiflow._names import Event
    from flexiflow._subscription import Subscription

    class WatchesPublishing(Protocol):
        """An instrument that watches each publish."""

        def publishing(self, event: Event[Any], /) -> AbstractContextManager[object]:
            """Return a context manager, which the publisher's task puts around all handlers."""
            ...

    class WatchesHandling(Protocol):
        """An instrument that watches each handler."""

        def handling(
            self, event: Event[Any], subscription: Subscription, /
        ) -> AbstractContextManager[object]:
            """Return a context manager, which the task that runs the handler puts around it."""
            ...

    Instrument: TypeAlias = WatchesPublishing | WatchesHandling
    """An object with `publishing`, `handling`, or both (I2)."""

    Entered: TypeAlias = list[tuple["Installed", AbstractContextManager[object]]]
    """The context managers that were entered, the outermost first."""

PUBLISHING: Final = "publishing"
HANDLING: Final = "handling"

HAPPENED: Final = frozenset({COMPONENT_REGISTERED, HANDLER_FAILED, STATE_CHANGED})
"""The events that can't be refused: they report what has happened already."""


@final
class Installed:
    """An instrument's place on a bus.

    Args:
        instrument: has the method `publishing`, `handling`, or both.
        remove: removes the instrument from the bus.

    Attributes:
        instrument: the instrument itself.
        publishing: its bound method, or None.
        handling: its bound method, or None.
        remove: removes the instrument from the bus.
        is_out: whether it has failed; then it is called no more, not even by running publishes.

    Raises:
        TypeError: it has neither method, or one that does not take its arguments or is a coroutine
            function.
    """

    __slots__ = ("handling", "instrument", "is_out", "publishing", "remove")

    instrument: object
    publishing: Any
    handling: Any
    remove: Callable[[Installed], object]
    is_out: bool

    def __init__(self, instrument: object, remove: Callable[[Installed], object]) -> None:
        self.instrument = instrument
        self.publishing = _method(instrument, "publishing", 1)
        self.handling = _method(instrument, "handling", 2)
        if self.publishing is None and self.handling is None:
            raise TypeError(
                "an instrument must have a method publishing(event), or "
                f"handling(event, subscription), or both; {reprlib.repr(instrument)} has neither"
            )
        self.remove = remove
        self.is_out = False


def enter(
    instruments: Iterable[Installed], event: Event[Any], subscription: Subscription | None = None
) -> Entered:
    """Enter the instruments' context managers around a publish or a handler.

    Args:
        instruments: those that have the method, the outermost first.
        event: what is published.
        subscription: the subscription of the handler; None for the publish itself.

    Returns:
        What `leave` must exit.

    Raises:
        PublishRefused: an instrument refuses the publish.
        BaseException: an instrument raised KeyboardInterrupt or the like.
    """
    entered: Entered = []
    for each in instruments:
        if each.is_out:
            continue
        try:
            manager = (
                each.publishing(event)
                if subscription is None
                else each.handling(event, subscription)
            )
            manager.__enter__()
        except BaseException as exc:  # noqa: BLE001  `go_without` logs it or raises it
            method = PUBLISHING if subscription is None else HANDLING
            try:
                go_without(each, exc, event, method)
            except BaseException as leaving:
                leave(entered, leaving, method)
                raise
        else:
            entered.append((each, manager))
    return entered


def leave(entered: Entered, exception: BaseException | None, method: str) -> None:
    """Exit the context managers, the innermost first.

    Args:
        entered: what `enter` returned.
        exception: what leaves the publish or the handler, or None. The context managers are shown
            it, and can neither swallow nor replace it.
        method: the name of the instruments' method, for the log.

    Raises:
        BaseException: a context manager raised KeyboardInterrupt or the like; all were exited.
    """
    kind = None if exception is None else type(exception)
    traceback = None if exception is None else exception.__traceback__
    interrupts: list[BaseException] = []
    try:
        for each, manager in reversed(entered):
            try:
                manager.__exit__(kind, exception, traceback)
            except BaseException as exc:  # noqa: BLE001  the others are still exited
                if exc is exception:
                    continue
                try:
                    take_out(each, exc, method)
                except BaseException as leaving:  # noqa: BLE001  as above
                    interrupts.append(leaving)
        if interrupts:
            raise interrupts[0]
    finally:
        del exception, traceback, interrupts  # their tracebacks may hold this frame (B6)


def go_without(
    instrument: Installed, exception: BaseException, event: Event[Any], method: str
) -> None:
    """Go on without an instrument whose context manager was not entered.

    An instrument that refuses an event of `HAPPENED` is ignored for this publish; one that failed
    is removed.

    Raises:
        PublishRefused: the instrument refuses the publish, and the event can be refused.
        BaseException: `exception`, if it is KeyboardInterrupt or the like.
    """
    try:
        if method == PUBLISHING and isinstance(exception, PublishRefused):
            if event.name not in HAPPENED:
                raise exception
        else:
            take_out(instrument, exception, method)
    finally:
        del exception  # its traceback may hold this frame (B6)


def take_out(instrument: Installed, exception: BaseException, method: str) -> None:
    """Log an instrument's failure and remove it; once only, however many publishes are running.

    Raises:
        BaseException: `exception`, if it is not a failure, like KeyboardInterrupt.
    """
    # Nothing can cancel sync code, so a cancellation that leaves an instrument is a failure too: it
    # comes from some task whose result the instrument asked for.
    if not isinstance(exception, (Exception, get_cancelled_exc_class())):
        try:
            raise exception
        finally:
            del exception  # its traceback holds this frame (B6)
    if not instrument.is_out:
        instrument.is_out = True
        instrument.remove(instrument)
        logger.error(
            "instrument %s failed in %s and was taken out",
            describe(type(instrument.instrument)),
            method,
            exc_info=(type(exception), exception, exception.__traceback__),
        )


def _method(instrument: object, name: str, arguments: int) -> Any:
    method = getattr(instrument, name, None)
    if method is not None:
        check_callable(f"an instrument's {name}", method, arguments)
        if is_coroutine_callable(method):
            raise TypeError(
                f"an instrument's {name} must return a context manager, and {describe(method)} "
                "is a coroutine function"
            )
    return method
