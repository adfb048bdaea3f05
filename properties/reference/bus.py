"""The reference implementation of a bus: plain, each step a method, for a fault to override.

It keeps the contract, except for costs, native cancels, and what lasts for only one turn of the
scheduler. It shares nothing with the real bus but the check of arguments.
"""

import contextlib
import importlib
import logging
import math
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from inspect import isawaitable
from itertools import groupby
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup, TaskStatus
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from flexiflow import EventBus, HandlerCancelled, HandlerFailure
from flexiflow.events import HANDLER_FAILED

logger = logging.getLogger("flexiflow")


@dataclass(frozen=True, eq=False)
class PlainSubscription:
    """A handler's place on the bus."""

    event_name: str
    component_name: str
    priority: int
    bus: "Plain" = field(repr=False)
    handler: Callable[[Any], Any] = field(repr=False)
    filter: Callable[[str, Any], Any] | None = field(repr=False)
    once: bool

    @property
    def active(self) -> bool:
        return self in self.bus.listed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bus.unsubscribe(self)


@dataclass
class Publishing:
    """One publish."""

    event: str
    data: Any
    stops: bool
    failures: dict[PlainSubscription, HandlerFailure] = field(default_factory=dict)
    kept: list[HandlerFailure] = field(default_factory=list)
    fatal: list[BaseException] = field(default_factory=list)


class Lasting:
    """Is true until it is over."""

    is_over = False

    def __bool__(self) -> bool:
        return not self.is_over


def is_cancelled() -> bool:
    """Return whether a scope around the caller is cancelled."""
    return anyio.current_effective_deadline() == -math.inf


def matches(pattern: list[str], name: list[str]) -> bool:
    """Return whether a pattern matches a name."""
    if not pattern or not name:
        return pattern == name
    return pattern == ["**"] or (pattern[0] in ("*", name[0]) and matches(pattern[1:], name[1:]))


def spawn(function: Callable[..., Coroutine[Any, Any, object]], *arguments: object) -> None:
    """Start a task that nobody waits for."""
    if anyio.get_cancelled_exc_class().__module__.startswith("asyncio"):
        asyncio = importlib.import_module("asyncio")
        kept.add(asyncio.create_task(function(*arguments)))
    else:
        lowlevel = importlib.import_module("trio.lowlevel")
        lowlevel.spawn_system_task(function, *arguments, context=copy_context())


kept: set[object] = set()


class Plain:
    """A bus."""

    make = PlainSubscription

    def __init__(self) -> None:
        self.listed: list[PlainSubscription] = []
        self.announcing: ContextVar[object] = ContextVar("announcing", default=False)
        self.since_yield = 0.0
        self.default_delivery, self.default_on_error = "sequential", "continue"

    async def subscribe(
        self,
        event: Any,
        component: Any,
        handler: Any,
        *,
        priority: Any = 3,
        filter: Any = None,
        once: bool = False,
    ) -> PlainSubscription:
        await self.check_subscription(event, component, handler, priority=priority, filter=filter)
        made = self.make(event, component, priority, self, handler, filter, once)
        self.listed.append(made)
        return made

    async def check_subscription(self, *arguments: Any, **options: Any) -> None:
        # It is a checkpoint as well.
        await EventBus().subscribe(*arguments, **options)

    def unsubscribe(self, subscription: PlainSubscription) -> bool:
        if subscription not in self.listed:
            return False
        self.listed.remove(subscription)
        return True

    def unsubscribe_all(self, component: str) -> int:
        mine = [each for each in self.listed if each.component_name == component]
        return sum(map(self.unsubscribe, mine))

    async def publish(
        self, event: Any, data: Any = None, *, delivery: Any = None, on_error: Any = None
    ) -> tuple[HandlerFailure, ...]:
        # Before anything that may yield, as the next line does in explored schedules.
        audience = self.audience(event) if isinstance(event, str) else []
        await EventBus().publish(event, delivery=delivery, on_error=on_error)
        await self.make_way()
        delivery, on_error = self.choose(delivery, on_error)
        publishing = Publishing(event, data, on_error == "raise")
        deliver = getattr(self, delivery)
        with self.announcement() if event == HANDLER_FAILED else contextlib.nullcontext():
            await deliver(publishing, audience)
        return self.results(publishing, audience)

    def choose(self, delivery: str | None, on_error: str | None) -> tuple[str, str]:
        """Fill in the defaults."""
        return delivery or self.default_delivery, on_error or self.default_on_error

    async def make_way(self) -> None:
        """Yield once in 61 publishes."""
        self.since_yield += 1
        if self.since_yield >= 61:
            self.since_yield = 0
            await checkpoint()

    def results(
        self, publishing: Publishing, audience: list[PlainSubscription]
    ) -> tuple[HandlerFailure, ...]:
        """Return the failures in order of delivery."""
        failures = publishing.failures
        return tuple(failures[each] for each in audience if each in failures)

    def audience(self, event: str) -> list[PlainSubscription]:
        """Return the subscriptions that an event reaches, in order."""
        return self.ordered([each for each in self.listed if self.hears(each, event)])

    def ordered(self, subscriptions: list[PlainSubscription]) -> list[PlainSubscription]:
        return sorted(subscriptions, key=lambda each: each.priority)

    def hears(self, subscription: PlainSubscription, event: str) -> bool:
        return matches(subscription.event_name.split("."), event.split("."))

    # One after another.

    async def sequential(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        for subscription in audience:
            failed, passing = await self.attempt(publishing, subscription)
            if passing is not None:
                if failed is not None and not publishing.stops:
                    self.log(failed)
                elif failed is not None:
                    raise failed.exception
                raise passing
            if failed is not None:
                await self.sequential_failure(publishing, failed)

    async def sequential_failure(self, publishing: Publishing, failed: HandlerFailure) -> None:
        if publishing.stops:
            raise failed.exception
        publishing.failures[failed.subscription] = failed  # type: ignore[index]
        self.log(failed)
        await checkpoint_if_cancelled()
        await self.announce(failed)

    # All at once.

    async def concurrent(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        passing = None
        try:
            async with anyio.create_task_group() as group:
                await self.start_all(group, publishing, audience)
        except BaseException as exc:
            passing = exc
        await self.conclude(publishing, passing)

    async def tiered(self, publishing: Publishing, audience: list[PlainSubscription]) -> None:
        for _, tier in groupby(audience, lambda each: each.priority):
            await self.concurrent(publishing, list(tier))

    async def start_all(
        self, group: TaskGroup, publishing: Publishing, audience: list[PlainSubscription]
    ) -> None:
        """Start each handler when the one before has begun."""
        for subscription in audience:
            await group.start(self.run, group, publishing, subscription)

    async def run(
        self,
        group: TaskGroup,
        publishing: Publishing,
        subscription: PlainSubscription,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run one handler in a task of its own."""
        task_status.started()
        if group.cancel_scope.cancel_called or is_cancelled():
            return
        try:
            failed, passing = await self.attempt(publishing, subscription)
            if failed is not None:
                await self.concurrent_failure(group, publishing, failed)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as exc:
            publishing.fatal.append(exc)
            group.cancel_scope.cancel()
            return
        if passing is not None:
            raise passing

    async def concurrent_failure(
        self, group: TaskGroup, publishing: Publishing, failed: HandlerFailure
    ) -> None:
        if publishing.stops or publishing.fatal:
            publishing.kept.append(failed)
            group.cancel_scope.cancel()
            return
        publishing.failures[failed.subscription] = failed  # type: ignore[index]
        self.log(failed)
        if is_cancelled():
            group.cancel_scope.cancel()
        else:
            await self.announce(failed)

    async def conclude(self, publishing: Publishing, passing: BaseException | None) -> None:
        """Raise what has to leave, and report the rest."""
        leaving = [*publishing.fatal, *(failed.exception for failed in publishing.kept)]
        for failed in publishing.kept[not publishing.fatal :]:
            self.log(failed)
            if not is_cancelled():
                # A cancellation that comes now gives way to what leaves.
                with contextlib.suppress(anyio.get_cancelled_exc_class()):
                    await self.announce(failed)
        if leaving:
            for other in leaving[1:]:
                leaving[0].add_note(f"another one failed too: {other!r}")
            raise leaving[0]
        if passing is not None:
            raise passing
        await checkpoint_if_cancelled()

    # One handler.

    async def attempt(
        self, publishing: Publishing, subscription: PlainSubscription
    ) -> tuple[HandlerFailure | None, BaseException | None]:
        """Call a handler; return its failure, and the cancellation that passes it."""
        try:
            await self.take_turn(subscription, publishing)
        except BaseException as exc:
            failure, passing = self.judge(exc)
        else:
            return None, None
        if failure is None:
            return None, passing
        failed = HandlerFailure(
            publishing.event,
            subscription.component_name,
            failure,
            subscription,  # type: ignore[arg-type]
        )
        return failed, passing

    async def take_turn(self, subscription: PlainSubscription, publishing: Publishing) -> None:
        if self.admits(subscription, publishing):
            await self.call(subscription, publishing.data)

    def admits(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        if not subscription.active or not self.accepts(subscription, publishing):
            return False
        return self.unsubscribe(subscription) if subscription.once else subscription.active

    def accepts(self, subscription: PlainSubscription, publishing: Publishing) -> bool:
        if subscription.filter is None:
            return True
        verdict = subscription.filter(publishing.event, publishing.data)
        if isawaitable(verdict):
            raise TypeError("a filter must answer at once")
        return bool(verdict)

    async def call(self, subscription: PlainSubscription, data: Any) -> Any:
        result = subscription.handler(data)
        return await result if isawaitable(result) else result

    def judge(self, exc: BaseException) -> tuple[Exception | None, BaseException | None]:
        """Return a failure and a cancellation; an exception that is neither is raised."""
        if isinstance(exc, Exception):
            return exc, None
        cancellation, rest = self.split(exc)
        if cancellation is None or not (rest is None or isinstance(rest, Exception)):
            raise exc
        if is_cancelled():
            return rest, cancellation
        if rest is None:
            rest = HandlerCancelled("a handler")
            rest.__cause__ = exc
        return rest, None

    def split(self, exc: BaseException) -> tuple[BaseException | None, BaseException | None]:
        kind = anyio.get_cancelled_exc_class()
        if not isinstance(exc, BaseExceptionGroup):
            return (exc, None) if isinstance(exc, kind) else (None, exc)
        cancellation: BaseException | None
        cancellation, rest = exc.split(kind)
        while isinstance(cancellation, BaseExceptionGroup):
            cancellation = cancellation.exceptions[0]
        return cancellation, rest

    # Reporting.

    def log(self, failed: HandlerFailure) -> None:
        handler = failed.subscription.handler
        name = getattr(handler, "__qualname__", repr(handler))
        logger.error(
            "%s of component %r failed on event %r",
            name,
            failed.component_name,
            failed.event_name,
            exc_info=failed.exception,
        )

    async def announce(self, failed: HandlerFailure) -> None:
        # A task that a handler has started may outlive what it was started in.
        if self.announcing.get():
            return
        payload = {
            "event_name": failed.event_name,
            "component_name": failed.component_name,
            "exception": failed.exception,
        }
        await self.publish(HANDLER_FAILED, payload, delivery="sequential", on_error="continue")

    @contextlib.contextmanager
    def announcement(self) -> Any:
        lasting = Lasting()
        token = self.announcing.set(lasting)
        try:
            yield
        finally:
            lasting.is_over = True
            self.announcing.reset(token)
