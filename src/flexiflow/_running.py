"""The block in which an engine runs timers and work, and loads what falls due (M2 to M4)."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from flexiflow._clock import time_of_day
from flexiflow._component import actor_of
from flexiflow._lifecycle import report
from flexiflow._reporting import logger
from flexiflow._tasks import TaskBlock
from flexiflow._timers import Timers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from flexiflow._component import Component
    from flexiflow._dispatcher import Dispatcher
    from flexiflow._hosting import Hosting
    from flexiflow._stores import StateStore

_INTERVAL: Final = 1.0
"""The seconds between looks into the store."""

_PAGE: Final = 100

_PAUSE: Final = 60.0
"""The seconds until a component that could not be loaded is tried again."""

_MOST_FAILED: Final = 10_000


@final
class Running:
    """The block of `Engine.running`.

    Args:
        hosting: what the engine shares with its components.
        components: those that are loaded, by name.
        load: loads the component of a name; None if the engine can't make components.
        dispatcher: the inside of the engine's bus.
    """

    __slots__ = ("_components", "_dispatcher", "_failed", "_hosting", "_load", "_stack", "_tasks")

    def __init__(
        self,
        hosting: Hosting,
        components: Mapping[str, Component],
        load: Callable[[str], Awaitable[None]] | None,
        dispatcher: Dispatcher,
    ) -> None:
        self._hosting = hosting
        self._components = components
        self._load = load
        self._dispatcher = dispatcher
        self._tasks = TaskBlock()
        self._stack = AsyncExitStack()
        # The components that could not be loaded, and when to try again by the loop's clock.
        self._failed: dict[str, float] = {}

    async def __aenter__(self) -> None:
        """Open the store, and begin the work and the timers of all components.

        Raises:
            RuntimeError: the engine is running.
            Exception: the store can't be opened.
        """
        hosting = self._hosting
        if hosting.is_running:
            raise RuntimeError("the engine is running already; enter `running()` once at a time")
        hosting.is_running = True
        try:
            if isinstance(hosting.store, AbstractAsyncContextManager):
                await self._stack.enter_async_context(hosting.store)
            await self._tasks.open()
        except BaseException:
            hosting.is_running = False
            raise
        hosting.tasks, hosting.timers = self._tasks, Timers()
        self._tasks.start(hosting.timers.run)
        if hosting.store is not None:
            self._tasks.start(self._watch, hosting.store)
        for component in [*self._components.values()]:
            actor = actor_of(component)
            # After a message in hand its actor begins them.
            if actor.life is not None and actor.mailbox.holder is None:
                actor.life.begin(actor, component)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Cancel all work, wait until it has ended, and close the store."""
        hosting = self._hosting
        hosting.tasks = None
        self._tasks.cancel()
        try:
            return await self._tasks.close(exc, exc)
        finally:
            del exc, traceback  # its traceback holds this frame (B6)
            hosting.overdue.clear()
            for component in self._components.values():
                if (life := actor_of(component).life) is not None:
                    life.pause()
            hosting.is_running = False
            await self._stack.aclose()

    async def _watch(self, store: StateStore) -> None:
        """Look after what has failed, and load the components whose stored time has come."""
        is_failing = False
        while True:
            overdue, self._hosting.overdue = self._hosting.overdue, {}
            for actor, component in overdue.items():
                self._tasks.start(actor.keep_up, component)
            if self._load is not None:
                try:
                    await self._load_due(store)
                    is_failing = False
                except Exception as exc:  # noqa: BLE001  the store may raise anything
                    if not is_failing:
                        logger.error(
                            "the store could not be asked which components are due",
                            exc_info=(type(exc), exc, exc.__traceback__),
                        )
                    is_failing = True
            await anyio.sleep(_INTERVAL)

    async def _load_due(self, store: StateStore) -> None:
        limit = _PAGE
        while True:
            names = await store.due(time_of_day(), limit)
            now = anyio.current_time()
            absent = [
                name
                for name in names
                if name not in self._components and self._failed.get(name, now) <= now
            ]
            async with anyio.create_task_group() as tasks:
                for name in absent:
                    tasks.start_soon(self._try_to_load, name)
            if len(names) < limit:
                return
            if not absent:
                limit *= 2

    async def _try_to_load(self, name: str) -> None:
        load: Any = self._load
        try:
            await load(name)
        except Exception as exc:  # noqa: BLE001  a factory or the store may raise anything
            if len(self._failed) >= _MOST_FAILED:
                self._failed.clear()
            self._failed[name] = anyio.current_time() + _PAUSE
            await report(exc, name, "loading", self._dispatcher)
        else:
            self._failed.pop(name, None)
