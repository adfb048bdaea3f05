"""Task groups whose blocks are left as plain blocks are: what leaves them leaves bare (B15, M4)."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, final

import anyio

from flexiflow._cancellation import (
    absorb_native_cancel,
    cancel_requests,
    leaves,
    split,
)
from flexiflow._reporting import note
from flexiflow._text import show

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

    from anyio import TaskInfo
    from anyio.abc import TaskGroup


@final
class TaskBlock:
    """A task group for an async context manager, which opens it on entry and closes it on exit.

    A task group puts what leaves its block, or one of its tasks, into an exception group; this one
    does not. The tasks run in the context in which the block was entered, not in that of the task
    that starts them. They let out nothing but a cancellation: what else leaves them is to be passed
    to `interrupt`.

    Attributes:
        context: the context in which the block was entered.
    """

    __slots__ = ("_group", "_host", "_interrupts", "context")

    _group: TaskGroup
    _host: TaskInfo
    context: Context

    def __init__(self) -> None:
        self._interrupts: list[BaseException] = []

    async def open(self) -> None:
        """Enter the block; without a checkpoint."""
        self._group = await anyio.create_task_group().__aenter__()
        self._host = anyio.get_current_task()
        self.context = copy_context()

    def start(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
        """Start a task, in a copy of the block's context."""
        start: Callable[..., object] = self._group.start_soon
        self.context.copy().run(start, function, *arguments)

    def start_guarded(
        self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: object
    ) -> None:
        """Start a task that may let out anything: an interrupt is raised by the block.

        A cancellation of the task alone, as a native one is, ends the task alone.
        """
        start: Callable[..., object] = self._group.start_soon
        name = function.__qualname__
        self.context.copy().run(partial(start, self._guard, function, *arguments, name=name))

    async def _guard(
        self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: object
    ) -> None:
        try:
            await function(*arguments)
        except anyio.get_cancelled_exc_class():
            # Nothing is lost: the block's own cancellation strikes its other tasks as well. On
            # asyncio a task group would keep this one until the garbage collector runs (B6).
            pass
        except GeneratorExit:
            raise
        except BaseException as exc:  # noqa: BLE001  the block raises it
            self.interrupt(exc)
        if cancel_requests():
            await absorb_native_cancel()

    def cancel(self) -> None:
        """Cancel all tasks, and the block."""
        self._group.cancel_scope.cancel()

    def interrupt(self, exception: BaseException) -> None:
        """Cancel everything, and raise an exception in the end: KeyboardInterrupt or the like.

        Raised in its task, KeyboardInterrupt would leave asyncio's loop at once, with all tasks
        still there, and others would leave the task group in a group.
        """
        self._interrupts.append(exception)
        del exception  # a traceback may hold this frame (B6)
        self.cancel()

    async def close(self, exc: BaseException | None, leaving: BaseException | None) -> bool:
        """Leave the block: wait for all tasks.

        Args:
            exc: what leaves the body of the block, or None.
            leaving: that, or what has struck since; or None.

        Returns:
            Whether `exc` is swallowed: a cancellation that the task group has caused itself.

        Raises:
            BaseException: `leaving`, if it is not `exc`; or what a task passed to `interrupt`.
            RuntimeError: another task has entered the block; all tasks of the block have ended.
        """
        fails = leaving is not None and split(leaving)[1] is not None
        # A task group would put an exception of the block into a group.
        passed: Any = (None, None, None)
        if leaving is not None and not fails:
            passed = (type(leaving), leaving, leaving.__traceback__)
        try:
            is_swallowed = await self._leave_group(*passed, fails=fails)
            if leaving is not None and leaving is not exc and not is_swallowed:
                raise leaving
        finally:
            del exc, leaving, passed  # their tracebacks hold this frame (B6)
            if self._interrupts:
                raise self._first_interrupt()
        return is_swallowed

    async def _leave_group(self, *passed: Any, fails: bool) -> bool:
        """Wait for the tasks; return whether the task group has swallowed the cancellation.

        Args:
            passed: what leaves the block, as for `__aexit__`.
            fails: whether a failure leaves the block. A cancellation of the wait would replace it,
                so it is left to the scope around, or to the task's native cancel request (E8).
        """
        try:
            # The group swallows what it has cancelled itself, the wait of this task too.
            return bool(await self._group.__aexit__(*passed)) and not fails
        except BaseException as raised:
            interrupts = split(raised)[1]
            if (elsewhere := left_elsewhere(self._host)) is not None:
                self._interrupts.append(elsewhere)
            elif interrupts is not None:
                # A task may have been closed itself, so it has let GeneratorExit out.
                self._interrupts += leaves(interrupts)
            elif not fails:
                raise
            del interrupts  # its traceback holds this frame (B6), as what was passed does
            return False
        finally:
            del passed

    def _first_interrupt(self) -> BaseException:
        """Return the first interrupt, and note the others on it (E5)."""
        first, *others = self._interrupts
        self._interrupts.clear()
        for other in others:
            note(first, "another task raised", other)
        return first


def left_elsewhere(host: TaskInfo) -> RuntimeError | None:
    """Return an error if a block was entered by another task than the current one.

    A task group that another task leaves waits for its tasks, and then raises a RuntimeError that
    speaks of a cancel scope which nobody has seen.
    """
    here = anyio.get_current_task()
    # Not by their numbers: that of a task which has ended may be given to another one.
    if here.coro is host.coro:
        return None
    return RuntimeError(
        "one task must enter and leave this block, since it has tasks of its own: "
        f"{show(str(host.name))} entered it and {show(str(here.name))} left it; in a notebook or "
        "in a fixture of pytest-asyncio, use `held` from docs/integrations.md"
    )
