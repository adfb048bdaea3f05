"""The block in which an engine runs timers and work, and loads what falls due (M2 to M4).

While the engine runs, `Hosting.tasks` is the task group of the block. Everything that nobody waits
for is a task in it, and has the context in which the block was entered:

- `Timers.run` waits for the earliest timer, which posts the trigger of its state;
- `_watch` asks the store once a second what is due, and loads it, a page at a time; it also lets
  components that could not be loaded or saved try again (`Hosting.overdue`);
- the work of each state (`_lifecycle`);
- each message that a timer or work has sent (`Actor.post`), and each `Actor.keep_up`.

On entry, what has no message in hand begins at once; the others begin after that message, by
`keep_up`. On leaving, `Hosting.tasks` becomes None first, so nothing begins any more. Messages of
works that are still in line are put among the deferred ones, in order; all tasks are cancelled and
awaited; then each lifecycle is paused, so that the next block begins all anew. The store is closed
last, since the tasks may use it until they end.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from flexiflow._clock import time_of_day
from flexiflow._component import actor_of
from flexiflow._reporting import logger
from flexiflow._stores import find_due
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
"""How many components are loaded at the same time."""

_PAUSE: Final = 60.0
"""The seconds until a component that could not be loaded is tried again."""

_MOST_FAILED: Final = 10_000
"""How many of these are remembered; until some may be tried again, no others are loaded then."""


@final
class Running:
    """The block of `Engine.running`.

    Args:
        hosting: what the engine shares with its components.
        components: those that are loaded, by name.
        load: loads the component of a name; None if the engine can't make components.
        dispatcher: the inside of the engine's bus.
    """

    __slots__ = (
        "_components",
        "_dispatcher",
        "_failed",
        "_has_loaded",
        "_has_looked",
        "_hosting",
        "_load",
        "_loading",
        "_store",
        "_tasks",
    )

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
        self._store: AbstractAsyncContextManager[Any] | None = None
        # The components that did not come, and when to try again by the loop's clock.
        self._failed: dict[str, float] = {}
        self._loading: set[str] = set()
        # Set when nothing is being loaded any more.
        self._has_loaded = anyio.Event()
        # Set when the store was first asked what is due, and that was loaded.
        self._has_looked = anyio.Event()

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
                await hosting.store.__aenter__()
                self._store = hosting.store
            await self._tasks.open()
        except BaseException:
            hosting.is_running = False
            raise
        hosting.tasks, hosting.timers = self._tasks, Timers()
        self._tasks.start_guarded(hosting.timers.run)
        if hosting.store is not None:
            self._tasks.start_guarded(self._watch, hosting.store)
        for component in [*self._components.values()]:
            actor = actor_of(component)
            if actor.life is None:
                continue
            if actor.mailbox.holder is None:
                actor.life.begin(actor, component)
            else:
                # They begin after the message in hand, which may be leaving the state.
                self._tasks.start_guarded(actor.keep_up, component)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Cancel all work, wait until it has ended, and close the store."""
        hosting = self._hosting
        hosting.tasks = None
        # In order, before the tasks that wait for them are cancelled in any order.
        for keep in hosting.posted.values():
            keep()
        hosting.posted.clear()
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
            # Not by an AsyncExitStack: if the store fails, that would hide what leaves the block.
            if self._store is not None:
                await self._store.__aexit__(None, None, None)

    async def wait_looked(self) -> None:
        """Wait until what was due on entry is loaded; the command line's block may be short.

        What takes longer than a second to load is not waited for.
        """
        if self._hosting.store is not None:
            await self._has_looked.wait()

    async def _watch(self, store: StateStore) -> None:
        """Look after what has failed, and load the components whose stored time has come."""
        is_failing = False
        while True:
            overdue, self._hosting.overdue = self._hosting.overdue, {}
            for actor, component in overdue.items():
                self._tasks.start_guarded(actor.keep_up, component)
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
            self._has_looked.set()
            await anyio.sleep(_INTERVAL)

    async def _load_due(self, store: StateStore) -> None:
        """Load what is due, page by page; wait a second at most for what takes long."""
        now = anyio.current_time()
        self._failed = {name: again for name, again in self._failed.items() if again > now}
        limit = _PAGE
        while True:
            names = await find_due(store, time_of_day(), limit)
            absent = [
                name
                for name in names
                if not (name in self._components or name in self._loading or name in self._failed)
            ]
            room = min(_PAGE - len(self._loading), _MOST_FAILED - len(self._failed))
            if room <= 0:
                return
            if absent:
                await self._load_all(absent[:room])
            elif len(names) < limit:
                return
            else:
                limit *= 2

    async def _load_all(self, names: list[str]) -> None:
        self._has_loaded = anyio.Event()
        for name in names:
            self._loading.add(name)
            self._tasks.start_guarded(self._try_to_load, name)
        with anyio.move_on_after(_INTERVAL):
            await self._has_loaded.wait()

    async def _try_to_load(self, name: str) -> None:
        load: Any = self._load
        try:
            await load(name)
            if name not in self._components:
                # A sender is having it made, or it was unloaded: the next look is soon enough.
                self._failed[name] = anyio.current_time() + _INTERVAL
        except Exception as exc:  # noqa: BLE001  a factory or the store may raise anything
            self._failed[name] = anyio.current_time() + _PAUSE
            await self._dispatcher.report(exc, name, "loading")
        finally:
            self._loading.discard(name)
            if not self._loading:
                self._has_loaded.set()
