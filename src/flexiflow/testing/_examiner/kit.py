"""What programs and scripts use; a program that is shown contains what it uses of this module."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import PublishRefused, StateMachine, Transition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
    from contextlib import AbstractContextManager

    from flexiflow import Component, Engine, Event, EventBus, HandlerFailure, Subscription
    from flexiflow._machine import Action

mark: ContextVar[object] = ContextVar("mark", default=None)


def claim(holds: object, complaint: str) -> None:
    """Raise if something does not hold, also under `python -O`."""
    if not holds:
        raise AssertionError(complaint)


class Boom(Exception):
    """A failure."""


class Exit(BaseException):
    """No `Exception`, so it passes through everything."""


class Quit(SystemExit):
    """The end of the whole program."""


class Later:
    """An awaitable that is no coroutine."""

    def __await__(self) -> Generator[Any, Any, None]:
        """Let others run."""
        yield from checkpoint().__await__()


class Awaited:
    """An awaitable that is no coroutine: what it does begins when it is awaited."""

    def __init__(self, handler: Callable[[Any], Coroutine[Any, Any, object]], data: object) -> None:
        self.handler, self.data = handler, data

    def __await__(self) -> Generator[Any, Any, object]:
        """Call the handler."""
        return self.handler(self.data).__await__()


def awaitable(handler: Callable[[Any], Coroutine[Any, Any, object]]) -> Callable[[Any], Awaited]:
    """Return a handler that does the same, and returns an awaitable that is no coroutine."""

    @wraps(handler)
    def call(data: object) -> Awaited:
        return Awaited(handler, data)

    return call


class Mark:
    """A value that equals all others of its kind."""

    def __eq__(self, other: object) -> bool:
        """Return whether the other one is of this kind."""
        return isinstance(other, Mark)

    def __hash__(self) -> int:
        """Return the same for all."""
        return 0


async def bounded(main: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Call an async function, which claims to end within so many seconds."""
    with anyio.move_on_after(seconds) as scope:
        await main()
    claim(not scope.cancelled_caught, f"it had not ended after {seconds:g} seconds")


def ignore(data: object) -> None:
    """Do nothing, as a handler."""


def types_of(failures: Iterable[HandlerFailure]) -> list[type]:
    """Return the types of what has failed."""
    return [type(each.exception) for each in failures]


async def settle() -> None:
    """Let others run for some turns."""
    for _ in range(20):
        await checkpoint()


async def cancel_after(scope: anyio.CancelScope, turns: int) -> None:
    """Cancel a scope after some turns of this task."""
    for _ in range(turns):
        await checkpoint()
    scope.cancel()


async def publish_later(bus: EventBus, event: str) -> None:
    """Publish an event after some turns."""
    await settle()
    await bus.publish(event, delivery="sequential", on_error="continue")


async def kept_cancellation() -> BaseException:
    """Return a cancellation that was caught from a scope, which is over."""
    kept: list[BaseException] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as error:
            kept.append(error)
            raise
    return kept[0]


def native_task() -> Any:
    """Return the task of asyncio that runs, or None on another backend."""
    # Not imported: on trio alone it need not be there.
    backend = sys.modules[anyio.get_cancelled_exc_class().__module__.partition(".")[0]]
    return backend.current_task() if backend.__name__ == "asyncio" else None


@contextmanager
def refused(
    error_type: type[BaseException] | tuple[type[BaseException], ...], otherwise: str
) -> Generator[list[BaseException]]:
    """Expect an exception of a type, and yield the list that it is added to."""
    errors: list[BaseException] = []
    try:
        yield errors
    except error_type as error:
        errors.append(error)
        return
    raise AssertionError(otherwise)


@contextmanager
def log_kept() -> Generator[list[logging.LogRecord]]:
    """Yield the list of what is logged meanwhile."""
    records: list[logging.LogRecord] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Keeper()
    logging.getLogger("flexiflow").addHandler(handler)
    try:
        yield records
    finally:
        logging.getLogger("flexiflow").removeHandler(handler)


class Watch:
    """An instrument that notes what it sees.

    Args:
        name: its name.
        heard: where it notes that.
    """

    def __init__(self, name: str, heard: list[Any]) -> None:
        self.name, self.heard = name, heard

    def publishing(self, event: Event[Any], /) -> AbstractContextManager[object]:
        """Watch a publish."""
        return Watched(self, event.name)

    def handling(self, event: Event[Any], subscription: Subscription, /) -> Watched:
        """Watch a handler."""
        return Watched(self, subscription.component_name)

    def note(self, what: str, exception: BaseException | None = None) -> bool | None:
        """Note what it sees; return whether to swallow the exception."""
        self.heard.append(f"{self.name} {what}")
        return None


class Watched:
    """The context manager of a `Watch`."""

    def __init__(self, watch: Watch, what: str) -> None:
        self.watch, self.what = watch, what

    def __enter__(self) -> None:
        """Note the beginning."""
        self.watch.note(f"enters {self.what}")

    def __exit__(
        self, kind: object, exception: BaseException | None, traceback: object
    ) -> bool | None:
        """Note the end."""
        return self.watch.note(f"leaves {self.what}", exception)


class Guard:
    """The context manager of an instrument; it fails if it is told to.

    Args:
        fails: "entering", "leaving", or anything else if it does not fail.
    """

    def __init__(self, fails: str) -> None:
        self.fails = fails

    def __enter__(self) -> None:
        """Fail, or do nothing."""
        if self.fails == "entering":
            raise Boom

    def __exit__(self, *_: object) -> None:
        """Fail, or do nothing."""
        if self.fails == "leaving":
            raise Boom


class Publishing:
    """An instrument that watches publishes.

    Args:
        fails: "entering", "leaving", "refusing", "refusing failures", or "never".
    """

    def __init__(self, fails: str = "never") -> None:
        self.fails = fails

    def publishing(self, event: Event[Any], /) -> Guard:
        """Watch a publish, or refuse it."""
        if self.fails == "refusing" or (
            self.fails == "refusing failures" and event.name == "event.handler.failed"
        ):
            raise PublishRefused
        return Guard(self.fails)


class Handling:
    """An instrument that watches handlers.

    Args:
        fails: "entering", "leaving", or "never".
    """

    def __init__(self, fails: str = "never") -> None:
        self.fails = fails

    def handling(self, event: Event[Any], subscription: Subscription, /) -> Guard:
        """Watch a handler."""
        return Guard(self.fails)


class Both(Publishing, Handling):
    """An instrument that watches publishes and handlers."""


class Ending:
    """An instrument that unsubscribes each handler just before its call."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus

    def handling(self, event: Event[Any], subscription: Subscription, /) -> Guard:
        """Unsubscribe the handler."""
        self.bus.unsubscribe(subscription)
        return Guard("never")


def fail(_: object) -> None:
    """Raise, as a handler."""
    raise Boom


def noting(heard: list[Any], *, accepts: bool = True) -> Callable[[str, Any], bool]:
    """Return a filter that notes the payloads it is asked about."""

    def note(_: str, data: object) -> bool:
        heard.append(data)
        return accepts

    return note


def machine_of(heard: list[Any], action: Action | None = None) -> StateMachine:
    """Return a machine whose messages `note` are noted, and `go` too, unless those do something."""

    def noted(message: Any, component: Any) -> None:
        heard.append(message)

    act = action or noted
    rows = [
        Transition("s0", "go", "s1", action=act),
        Transition("s1", "go", "s0", action=act),
        Transition("*", "note", "s0", action=noted),
    ]
    return StateMachine("s0", rows)


class Factories(NamedTuple):
    """What makes components, and engines."""

    component: Callable[..., Component]
    engine: Callable[..., Engine]

    async def host(
        self,
        heard: list[Any],
        action: Action | None = None,
        *,
        machine: StateMachine | None = None,
    ) -> tuple[Engine, Component]:
        """Return a new engine, and its one component "a", which has a machine."""
        engine = self.engine()
        component = self.component("a", machine=machine or machine_of(heard, action))
        await engine.register(component)
        return engine, component
