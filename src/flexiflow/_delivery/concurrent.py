"""Concurrent and tiered delivery: call the handlers of one publish at once, or by tiers (D2, D3).

*Runner* tasks take the handlers, in order, from one queue. A single runner begins. As soon as a
handler waits, more runners are needed. From then on, before a runner starts a handler, it makes
sure that standby runners are scheduled: two for three that are busy, but never more than there are
handlers in the queue. So

- a handler that never waits needs no task of its own, and one that waits hands over to the next
  runner;
- handlers start in order of delivery on trio too, whose scheduler starts tasks in random order;
- the number of runners can grow by two thirds with each turn of the scheduler.

What leaves a handler is judged in its runner (`_settle`). A failure that is to be raised, or an
interrupt, is kept and cancels the task group; when all handlers have ended, `run` raises it, bare
and not in an exception group (E3).
"""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from inspect import isawaitable
from itertools import groupby
from operator import attrgetter
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from flexiflow._callables import describe
from flexiflow._cancellation import (
    absorb_native_cancel,
    cancel_counter,
    cancel_requests,
    effectively_cancelled,
    leaves,
    split,
)
from flexiflow._delivery.verdict import judge
from flexiflow._errors import HandlerCancelled
from flexiflow._marks import is_unchanged
from flexiflow._reporting import log_failure, note
from flexiflow._subscription import HandlerFailure, admits
from flexiflow._text import shorten, show

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from anyio.abc import TaskGroup

    from flexiflow._delivery.call import CallHandler
    from flexiflow._delivery.verdict import Failures
    from flexiflow._reporting import Announce
    from flexiflow._subscription import Subscription


def deliver_concurrent(
    name: str,
    data: Any,
    subscriptions: Sequence[Subscription],
    *,
    raises: bool,
    announce: Announce,
    call: CallHandler | None = None,
) -> Coroutine[Any, Any, Failures]:
    """Call all handlers at once; arguments and result are those of `deliver_sequential`."""
    delivery = _Delivery(name, data, raises=raises, announce=announce, call=call)
    return delivery.run(subscriptions)


async def deliver_tiered(
    name: str,
    data: Any,
    subscriptions: Sequence[Subscription],
    *,
    raises: bool,
    announce: Announce,
    call: CallHandler | None = None,
) -> Failures:
    """Call the handlers of one priority at once, then those of the next.

    Arguments and result are those of `deliver_sequential`.
    """
    failures: list[HandlerFailure] = []
    for _, tier in groupby(subscriptions, attrgetter("priority")):
        delivery = _Delivery(name, data, raises=raises, announce=announce, call=call)
        failures += await delivery.run(tuple(tier))
    return tuple(failures)


class _Delivery:
    """The handlers of one task group, and what came of them."""

    __slots__ = (
        "_announce",
        "_busy",
        "_call",
        "_data",
        "_failures",
        "_fatals",
        "_hands_over",
        "_inherited",
        "_kept",
        "_name",
        "_raises",
        "_standby",
        "_task_name",
        "_waiting",
    )

    def __init__(
        self, name: str, data: Any, *, raises: bool, announce: Announce, call: CallHandler | None
    ) -> None:
        self._name = name
        self._data = data
        self._raises = raises
        self._announce = announce
        self._call = call
        self._waiting: deque[tuple[int, Subscription]] = deque()
        self._task_name = f"handlers of {shorten(name)}"
        self._busy = 0
        self._standby = 0
        self._hands_over = False
        self._inherited = tuple(copy_context().values())
        self._failures: dict[int, HandlerFailure] = {}
        self._kept: list[HandlerFailure] = []
        self._fatals: list[BaseException] = []

    async def run(self, subscriptions: Sequence[Subscription]) -> Failures:
        """Call all handlers; return the reported failures, or raise what leaves publish."""
        if not subscriptions:
            return ()
        self._waiting.extend(enumerate(subscriptions))
        cancellation = None
        try:
            try:
                async with anyio.create_task_group() as group:
                    self._start_runners(group, 1)
                    await self._oversee(group)
            except BaseException as exc:
                cancellation = self._take_apart(exc)
            if self._fatals or self._kept:
                cancelled = cancellation is not None or effectively_cancelled()
                raise await self._leaving(cancelled=cancelled)
            if cancellation is not None:
                raise cancellation
            await checkpoint_if_cancelled()
            if self._standby:
                # Someone cancelled a runner natively before its first step. Its asyncio task group
                # then cancels the siblings silently, so it is unknown which handlers have ended.
                raise HandlerCancelled(f"a task of publishing {show(self._name)}")
            return tuple(self._failures[place] for place in sorted(self._failures))
        finally:
            # Their tracebacks hold the frames of this delivery (B6).
            del cancellation
            self._failures.clear()
            self._kept.clear()
            self._fatals.clear()
            self._data = self._call = None

    def _take_apart(self, exception: BaseException) -> BaseException | None:
        """Keep what isn't a cancellation, such as trio's Ctrl-C, ungrouped; return what is one."""
        cancellation, rest = split(exception)
        if rest is not None:
            self._fatals.extend(leaves(rest))
        return cancellation

    async def _oversee(self, group: TaskGroup) -> None:
        """Yield to the first runner; start a second one if work remains.

        A checkpoint takes a quarter of the time of a standby runner. If no handler waits, the
        checkpoint is all that it takes: ten handlers then take a quarter less time.
        """
        while self._waiting and self._standby:
            await checkpoint()
        if self._waiting:
            self._hands_over = True
            self._start_runners(group, 1)

    def _start_runners(self, group: TaskGroup, number: int) -> None:
        self._standby += number
        for _ in range(number):
            # Not `start_soon`, which works out a name: with it, waiting handlers take 7 % longer.
            group.create_task(self._runner(group), name=self._task_name)

    async def _runner(self, group: TaskGroup) -> None:  # noqa: C901, PLR0912  calls cost too much
        self._standby -= 1
        waiting, inherited, call = self._waiting, self._inherited, self._call
        requests, reusable = cancel_counter(), True
        subscription: Subscription | None = None
        try:
            while waiting and reusable:
                place, subscription = waiting.popleft()
                self._busy += 1
                if self._hands_over:
                    self._ensure_standbys(group)
                try:
                    if call is not None:
                        await call(subscription, effectively_cancelled)
                    elif admits(subscription, self._name, self._data):
                        result = subscription.handler(self._data)
                        if type(result) is CoroutineType or (
                            result is not None and isawaitable(result)
                        ):
                            await result
                    if requests():
                        reusable = False
                        await checkpoint()
                except BaseException as exc:
                    await self._settle(exc, place, subscription, group)
                    reusable = not requests()
                self._busy -= 1
                # A task whose context a handler has changed is not used again (D2).
                reusable = reusable and bool(waiting) and is_unchanged(inherited)
            if requests():
                await absorb_native_cancel()
        finally:
            # Until the garbage collector runs, AnyIO keeps the traceback of a cancellation, which
            # holds this frame; `requests` holds the task, which holds that cancellation (B6).
            del requests, subscription, call

    def _ensure_standbys(self, group: TaskGroup) -> None:
        # As many as are busy would be there earlier, but a task that has ended its wait takes the
        # next handler for less than a new task costs: ten handlers that wait once take a sixth
        # less time this way.
        missing = min((2 * self._busy + 1) // 3, len(self._waiting)) - self._standby
        if missing > 0:
            self._start_runners(group, missing)

    async def _settle(
        self, exception: BaseException, place: int, subscription: Subscription, group: TaskGroup
    ) -> None:
        """Judge what left a handler, in the handler's task, and keep, report or raise it."""
        verdict = judge(exception, subscription.handler, cancelled=effectively_cancelled)
        try:
            if verdict.failure is not None:
                failed = HandlerFailure(
                    self._name, subscription.component_name, verdict.failure, subscription
                )
                await self._note_failure(failed, place, group)
            elif verdict.cancellation is None:
                self._fatals.append(verdict.leaving)
                self._stop(group)
            if verdict.cancellation is not None:
                self._waiting.clear()
                # The task group takes it, so its traceback is shown to nobody.
                raise verdict.cancellation.with_traceback(None)
        finally:
            del exception, verdict, subscription  # their tracebacks hold this frame (B6)

    async def _note_failure(self, failed: HandlerFailure, place: int, group: TaskGroup) -> None:
        """Report a failure, or keep it for `_leaving` if something is to leave publish."""
        if self._raises or self._fatals:
            self._kept.append(failed)
            self._stop(group)
            return
        self._failures[place] = failed
        log_failure(failed)
        if effectively_cancelled():
            self._waiting.clear()
        else:
            await self._report(failed, group)

    def _stop(self, group: TaskGroup) -> None:
        self._waiting.clear()
        group.cancel_scope.cancel()

    async def _report(self, failed: HandlerFailure, group: TaskGroup) -> None:
        if cancel_requests():
            await absorb_native_cancel()
        try:
            await self._announce(failed)
        except BaseException as exc:
            cancellation = self._take_apart(exc)
            if self._fatals:
                self._stop(group)
            # Else it is a native cancel of this task, meant for the handler, which has failed.
            if cancellation is not None and effectively_cancelled():
                try:
                    raise cancellation from None
                finally:
                    del cancellation

    async def _leaving(self, *, cancelled: bool) -> BaseException:
        """Return the exception that will leave publish (E3, E4).

        The other failures are logged, announced unless publish is being cancelled, and noted on
        the exception.
        """
        first = None if self._fatals else self._kept[0]
        unraised = self._kept if first is None else self._kept[1:]
        for failed in unraised:
            log_failure(failed)
        if not cancelled:
            await self._announce_all(unraised)
        if first is not None and not self._fatals:
            leaving: BaseException = first.exception
        else:
            leaving = self._fatals[0]
            if first is not None:
                log_failure(first)
        for failed in unraised:
            note(leaving, f"{describe(failed.subscription.handler)} failed too", failed.exception)
        for other in self._fatals[1:]:
            note(leaving, "so did", other)
        return leaving

    async def _announce_all(self, unraised: Sequence[HandlerFailure]) -> None:
        try:
            for failed in unraised:
                await self._announce(failed)
        except BaseException as exc:
            # The failure that leaves replaces a cancellation, as in a plain await (E5).
            self._take_apart(exc)
