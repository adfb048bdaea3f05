"""An account of every failure: where it surfaced, and that this was exactly once (E4)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, final

import pytest
from anyio import (
    CancelScope,
    create_task_group,
    current_time,
    fail_after,
    get_cancelled_exc_class,
    wait_all_tasks_blocked,
)

from flexiflow import EventBus, HandlerCancelled, HandlerFailure, Subscription
from flexiflow._bus import DeliveryMode, ErrorPolicy
from flexiflow.events import HANDLER_FAILED
from tests.helpers import PATIENCE

if TYPE_CHECKING:
    from flexiflow.events import HandlerFailed

POLICIES: tuple[ErrorPolicy, ...] = ("continue", "raise")

STYLES = ("scope", "native")
"""How a publish is cancelled."""

EVENT = "order.placed"
_E = TypeVar("_E", bound=BaseException)


class Boom(Exception):
    """A failure that nothing but a test lets out."""


class Fatal(BaseException):
    """Neither a failure nor a cancellation."""


def leaves(exception: BaseException) -> Iterator[BaseException]:
    """Go through what a group holds, at any depth."""
    if isinstance(exception, BaseExceptionGroup):
        for each in cast("BaseExceptionGroup[BaseException]", exception).exceptions:
            yield from leaves(each)
    else:
        yield exception


def times(exception: BaseException, among: Iterable[BaseException]) -> int:
    """Count by identity, since an exception's own `==` may lie."""
    return sum(leaf is exception for each in among for leaf in leaves(each))


@final
class _Collector(logging.Handler):
    """Keeps what is logged, formatted on the spot as a real log would."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  as a log must, it puts up with what can't be shown
            line = record.getMessage()
        self.lines.append(line)


@final
class Ledger:
    """A bus, and the books of its failures, which are balanced as the `async with` ends.

    Every exception that was injected must have been either raised by `publish` here, or logged;
    and where it was logged, published as `event.handler.failed` too.

    Args:
        announced: whether what is logged must be published; None where both will do.
    """

    def __init__(self, *, announced: bool | None = True) -> None:
        self.bus = EventBus()
        self.raised: list[BaseException] = []
        self.returned: list[HandlerFailure] = []
        self.observed: list[HandlerFailed] = []
        self._announced = announced
        self._injected: list[tuple[BaseException, bool | None]] = []
        self._collector = _Collector()

    async def __aenter__(self) -> Self:
        logger = logging.getLogger("flexiflow")
        logger.addHandler(self._collector)
        # pytest's own collector raises where an exception can't be shown.
        logger.propagate = False
        await self.watch(self.bus)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        logger = logging.getLogger("flexiflow")
        logger.propagate = True
        logger.removeHandler(self._collector)
        found = self.discrepancies() if exc is None else []
        if found:
            raise AssertionError("\n".join(found))

    async def watch(self, bus: EventBus) -> None:
        """Keep the books of another bus as well."""
        await bus.subscribe(HANDLER_FAILED, "ledger", self.observed.append, priority=1)

    async def on(
        self, handler: Callable[[Any], object], event: str = EVENT, **options: Any
    ) -> Subscription:
        """Subscribe a handler."""
        return await self.bus.subscribe(event, "worker", handler, **options)

    def inject(self, exception: _E, *, announced: bool | None = True) -> _E:
        """Enter an exception that is about to be let out."""
        self._injected.append((exception, announced and self._announced))
        return exception

    async def publish(
        self, mode: DeliveryMode = "sequential", policy: ErrorPolicy = "continue"
    ) -> tuple[HandlerFailure, ...]:
        """Publish, and enter what was returned or raised."""
        # No fail_after: it assigns to the exceptions that pass it, which frozen ones don't bear.
        with CancelScope(deadline=current_time() + PATIENCE):
            try:
                failures = await self.bus.publish(EVENT, delivery=mode, on_error=policy)
            except BaseException as exc:
                self.raised.append(exc)
                raise
            self.returned.extend(failures)
            return failures
        pytest.fail("publish takes too long")

    async def surfaced(self, mode: DeliveryMode, policy: ErrorPolicy = "continue") -> BaseException:
        """Publish where one handler fails, and give what is raised or, if it may, returned."""
        try:
            [failure] = await self.publish(mode, policy)
        except Exception as exc:
            if policy == "continue":
                raise
            return exc
        assert policy == "continue"
        return failure.exception

    @property
    def records(self) -> list[logging.LogRecord]:
        """What was logged."""
        return self._collector.records

    @property
    def lines(self) -> list[str]:
        """What was logged, as a log shows it."""
        return self._collector.lines

    @property
    def logged(self) -> list[BaseException]:
        """The exceptions that were logged."""
        infos = [record.exc_info for record in self.records]
        return [info[1] for info in infos if isinstance(info, tuple) and info[1] is not None]

    @property
    def announced(self) -> list[BaseException]:
        """The exceptions that were published as `event.handler.failed`."""
        return [each["exception"] for each in self.observed]

    def discrepancies(self) -> list[str]:
        """Say what doesn't add up; nothing where every failure surfaced exactly once."""
        return [
            *self._of_injected(),
            *self._of_strays(),
            *self._of_records(),
            *self._of_unknown(),
        ]

    def _of_injected(self) -> Iterator[str]:
        for exception, announced in self._injected:
            yield from self._of(exception, announced=announced)

    def _of_strays(self) -> Iterator[str]:
        surfaced = [*self.raised, *self.logged]
        for exception in {id(e): e for e in surfaced if isinstance(e, HandlerCancelled)}.values():
            yield from self._of(exception, announced=self._announced)

    def _of(self, exception: BaseException, *, announced: bool | None) -> Iterator[str]:
        raised = times(exception, self.raised)
        logged = times(exception, self.logged)
        observed = times(exception, self.announced)
        returned = times(exception, [failure.exception for failure in self.returned])
        expected = {True: {logged}, False: {0}, None: {0, logged}}[announced]
        if raised + logged != 1 or observed not in expected or returned > logged:
            yield (
                f"{type(exception).__name__} {id(exception):x}: raised {raised}, logged {logged}, "
                f"published {observed}, returned {returned}"
            )

    def _of_records(self) -> Iterator[str]:
        for record, line in zip(self.records, self.lines, strict=True):
            if record.levelno != logging.ERROR or not isinstance(record.exc_info, tuple):
                yield f"not an error with its traceback: {line}"

    def _of_unknown(self) -> Iterator[str]:
        known = [exception for exception, _ in self._injected]
        for exception in [*self.logged, *self.announced]:
            for leaf in leaves(exception):
                if not times(leaf, known) and not isinstance(leaf, HandlerCancelled):
                    yield f"{type(leaf).__name__} was reported, but nobody let it out"


@final
class Publisher:
    """Publishes in a task of its own, to be cancelled by a scope or, on asyncio, natively.

    Args:
        ledger: where the publish is entered.
        style: how to cancel it, one of `STYLES`.
        mode: the delivery.
        policy: what a failure does.
        cancelled: whether it is cancelled already as it begins.
    """

    def __init__(
        self,
        ledger: Ledger,
        style: str,
        mode: DeliveryMode,
        policy: ErrorPolicy = "continue",
        *,
        cancelled: bool = False,
    ) -> None:
        if style == "native" and get_cancelled_exc_class() is not asyncio.CancelledError:
            pytest.skip("only asyncio has a cancellation of its own")
        self.at_end: Callable[[], object] = lambda: None
        self.left: BaseException | None = None
        self.returned: tuple[HandlerFailure, ...] | None = None
        self._ledger = ledger
        self._native = style == "native"
        self._mode: DeliveryMode = mode
        self._policy: ErrorPolicy = policy
        self._cancelled_before = cancelled
        self._scope = CancelScope()
        self._task: asyncio.Task[Any] | None = None

    @property
    def was_cancelled(self) -> bool:
        """Tell whether a cancellation left the publish."""
        return isinstance(self.left, get_cancelled_exc_class())

    def cancel(self) -> None:
        """Cancel the publish."""
        if self._task is not None:
            self._task.cancel()
        else:
            self._scope.cancel()

    async def run(self, until: Callable[[], Awaitable[object]] | None = None) -> None:
        """Publish, and wait for the end; cancel the publish when `until` is over."""
        async with create_task_group() as group:
            group.start_soon(self._publish)
            if until is not None:
                with fail_after(PATIENCE):
                    await until()
                self.cancel()

    async def run_until_blocked(self) -> None:
        """Publish, and cancel that as soon as every handler waits."""
        await self.run(wait_all_tasks_blocked)

    async def _publish(self) -> None:
        if self._native:
            self._task = asyncio.current_task()
        if self._cancelled_before:
            self.cancel()
        # A native cancellation ends here, one of the scope's where the scope does.
        ended = [BaseException] if self._native else [Exception, Fatal]
        with self._scope, suppress(*ended):
            try:
                self.returned = await self._ledger.publish(self._mode, self._policy)
            except BaseException as exc:
                self.left = exc
                raise
            finally:
                self.at_end()
