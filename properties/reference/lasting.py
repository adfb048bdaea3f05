"""The reference implementation of states that last and take time, plain, each step a method.

A fault overrides one method. It keeps K1, K3 to K5 and M1 to M4 as far as the kit checks them: it
saves no due time but with a transition, and loads a component again only before its next message.
"""

import contextlib
import math
from collections.abc import AsyncGenerator, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup

from flexiflow import (
    EngineNotRunning,
    Outcome,
    State,
    StateMachine,
    Transition,
    UnknownComponent,
    UnknownState,
)
from flexiflow._stores import Stored
from properties.reference.engine import (
    Handling,
    PlainComponent,
    PlainEngine,
    call,
    live,
    waiting,
    waits_for,
)


class Entangled(Exception):
    """The transition would wait for a work that waits for it."""


class GivenUp(Exception):
    """The sender waits no more for its turn, since that would be for ever."""


@dataclass(eq=False)
class Work:
    """The work of a stay; in the search for rings it stands for a component with one message."""

    in_hand: Handling | None = field(default_factory=lambda: Handling({}, ()))
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)


class LastingComponent(PlainComponent):
    """A component whose states last and take time."""

    engine: Any
    steps: tuple[str, ...] = ("end_work", "leave_state", "do", "enter_state", "keep")

    def __init__(
        self, name: str, *, machine: StateMachine | None = None, state: str | None = None
    ) -> None:
        super().__init__(name, machine=machine)
        if state is not None:
            self.check_start(state)
            self._state = state
        self.start = self._state
        self.stay = 0
        self.due: float | None = None
        self.timer: anyio.CancelScope | None = None
        self.work: Work | None = None
        self.has_begun = False
        self.version = 0
        self.stored_due: float | None = None
        self.is_stale = self.is_unloaded = self.is_kept_up = False

    def check_start(self, state: str) -> None:
        if self.machine is None or state not in self.machine.states:
            raise ValueError(f"not in {self.machine.states if self.machine else ()}")

    def snapshot(self) -> Mapping[str, Any] | None:
        return None

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take over what was stored."""

    def detail(self, state: str | None) -> State | None:
        return None if self.machine is None else self.machine.details.get(str(state))

    # Turns.

    async def take(self, message: dict[str, Any], engine: Any) -> Outcome:
        self.check_loaded()
        if self.is_within_work():
            return await self.take_from_work(message, engine)
        try:
            return await super().take(message, engine)
        except GivenUp:
            if self.in_hand is None:
                return await super().take(message, engine)
            self.defer(Handling(message, live()))
            return Outcome.DEFERRED
        except Entangled:
            self.post(Handling(message, ()))
            return Outcome.DEFERRED

    def check_loaded(self) -> None:
        if self.is_unloaded:
            raise UnknownComponent(self.name)

    def is_within_work(self) -> bool:
        return self.work is not None and self.work.in_hand in live()

    async def take_from_work(self, message: dict[str, Any], engine: Any) -> Outcome:
        self.post(Handling(message, ()))
        return Outcome.DEFERRED

    def post(self, mine: Handling) -> None:
        """Give a message that nobody waits for its place in line."""
        if self.engine is not None and self.engine.tasks is not None:
            self.line_up(mine)
            self.engine.start(self.handle_posted, mine, self.engine)
        elif mine.stay is None:
            self.defer(mine)

    async def handle_posted(self, mine: Handling, engine: Any) -> None:
        try:
            await self.handle_in_turn(mine, engine)
        except Exception as exc:
            if mine.stay is None or mine.is_over:
                await engine.report(self.name, mine, exc)
        except anyio.get_cancelled_exc_class():
            self.keep_posted(mine)
            raise

    def keep_posted(self, mine: Handling) -> None:
        """Keep what work has sent, if its turn has not come as `running()` is left."""
        if mine.stay is None and not mine.come.is_set():
            self.defer(mine)

    async def turn_of(self, mine: Handling) -> None:
        await super().turn_of(mine)
        if mine.is_given_up:
            raise GivenUp

    def go_on(self) -> None:
        super().go_on()
        if self.engine is not None:
            self.engine.rest(self)

    # One message.

    async def handle(self, mine: Handling) -> Outcome:
        try:
            return await super().handle(mine)
        except anyio.get_cancelled_exc_class():
            self.send_again(mine)
            raise
        except Exception:
            if self.is_stale:
                self.send_again(mine)
            raise
        finally:
            self.begin()

    def send_again(self, mine: Handling) -> None:
        """Let a timer send again what was cancelled."""
        if mine.is_timed and self.counts(mine):
            self.due, self.timer = anyio.current_time(), None

    async def is_wanted(self, mine: Handling) -> bool:
        if self.is_stale:
            await self.reload()
        if mine.stay is None:
            return True
        if not self.counts(mine):
            return False
        if mine.is_timed:
            self.due = math.inf
        return True

    def counts(self, mine: Handling) -> bool:
        return mine.stay == self.stay

    async def act(self, row: Transition, message: dict[str, Any]) -> None:
        if row.target is None:
            await self.act_within(row, message)
            return
        self.check_running(self.detail(row.target), row.target)
        had_begun, was_working = self.has_begun, self.work is not None
        self.has_begun = True
        try:
            for step in self.steps:
                await getattr(self, step)(row, message)
        except BaseException:
            self.has_begun = self.begins_not_anew(had_begun, was_working)
            raise

    async def act_within(self, row: Transition, message: dict[str, Any]) -> None:
        await self.do(row, message)
        await self.save(str(self.state), self.due)

    def check_running(self, target: State | None, name: str) -> None:
        takes_time = target is not None and (target.after or target.during)
        if takes_time and not (self.engine is not None and self.engine.tasks is not None):
            raise EngineNotRunning(self.name, name)

    def begins_not_anew(self, had_begun: bool, was_working: bool) -> bool:
        return had_begun and not was_working

    async def end_work(self, row: Any = None, message: Any = None) -> None:
        """Cancel the work, and wait for its end."""
        while self.work is not None:
            work = self.work
            work.scope.cancel()
            ending = Handling({}, live(), work)
            waiting.append(ending)
            try:
                self.break_ring(work)
                await work.ended.wait()
            finally:
                waiting.remove(ending)

    def break_ring(self, work: Work) -> None:
        for each in [*waiting]:
            in_ring = work.in_hand in each.within and waits_for(each.component.in_hand, live())
            if in_ring and isinstance(each.component, Work):
                raise Entangled
            if in_ring:
                each.component.withdraw(each)
                each.is_given_up = True
                each.come.set()

    async def leave_state(self, row: Transition, message: dict[str, Any]) -> None:
        left = self.detail(self.state)
        if left is not None and left.exit is not None:
            await call(left.exit, message, self)

    async def do(self, row: Transition, message: dict[str, Any]) -> None:
        await super().act(row, message)

    async def enter_state(self, row: Transition, message: dict[str, Any]) -> None:
        entered = self.detail(row.target)
        if entered is not None and entered.entry is not None:
            await call(entered.entry, message, self)

    async def keep(self, row: Transition, message: dict[str, Any]) -> None:
        await self.save(str(row.target), self.due_in(row.target))

    def due_in(self, state: str | None) -> float | None:
        detail = self.detail(state)
        if detail is None or detail.after is None:
            return None
        return anyio.current_time() + detail.after[0]

    async def commit(self, target: str) -> None:
        self.due = self.due_in(target)
        self.new_stay()
        await super().commit(target)

    # What is stored.

    async def save(self, state: str, due: float | None) -> None:
        store = None if self.engine is None else self.engine.store
        if store is None:
            return
        try:
            given = self.name, state, self.snapshot()
            self.version = await call(partial(store.save, *given, expected=self.version, due=due))
            self.stored_due = due
        except BaseException as exc:
            self.has_failed_to_save(exc)
            raise

    def has_failed_to_save(self, failure: BaseException) -> None:
        self.is_stale = True

    async def reload(self) -> None:
        if self.engine is not None and self.engine.store is not None:
            stored = await self.engine.store.load(self.name)
            if (0 if stored is None else stored.version) != self.version:
                self.has_begun = True
                await self.end_work()
                self.adopt(stored)
            elif stored is not None and stored.data is not None:
                self.restore(stored.data)
        self.is_stale = False

    def adopt(self, stored: Stored | None) -> None:
        """Take over what is stored."""
        state, self.version, self.due = self.start, 0, None
        if stored is not None:
            self.check_stored(stored.state)
            state, self.version, self.due = stored.state, stored.version, stored.due
            self.stored_due = stored.due
            if stored.data is not None:
                self.restore(stored.data)
        self._state = state
        self.new_stay()

    def check_stored(self, state: str) -> None:
        if self.machine is None or state not in self.machine.states:
            raise UnknownState(self.name, state)

    # A stay in a state.

    def new_stay(self) -> None:
        self.stay += 1
        self.has_begun = False
        self.stop_timer()

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def begin(self) -> None:
        """Begin the work and the timer that have not begun."""
        if self.engine is None or self.engine.tasks is None:
            return
        if not self.is_stale:
            self.begin_stay()
        if self.must_be_kept_up() and not self.is_kept_up:
            self.is_kept_up = True
            self.engine.start(self.keep_up)

    def must_be_kept_up(self) -> bool:
        is_unsaved = self.engine.store is not None and self.due != self.stored_due
        return self.is_stale or is_unsaved

    async def keep_up(self) -> None:
        """Load again, or save the due time, until that has succeeded."""
        try:
            while self.engine is not None and self.must_be_kept_up():
                mine = Handling({}, ())
                self.line_up(mine)
                with contextlib.suppress(Exception):
                    await self.turn_of(mine)
                    try:
                        await self.load_or_save()
                    finally:
                        self.go_on()
                if self.engine is not None and self.must_be_kept_up():
                    await anyio.sleep(1)
        finally:
            self.is_kept_up = False
        self.begin()

    async def load_or_save(self) -> None:
        if self.is_stale:
            await self.reload()
        elif self.must_be_kept_up():
            await self.save(str(self.state), self.due)

    def begin_stay(self) -> None:
        state = self.detail(self.state)
        if state is None:
            return
        if state.after is not None and self.timer is None and self.due != math.inf:
            self.set_timer(*state.after)
        if state.during is not None and self.work is None and not self.has_begun:
            self.start_work(state)

    def set_timer(self, seconds: float, trigger: str) -> None:
        now = anyio.current_time()
        self.due = now + seconds if self.due is None else self.due
        self.timer = anyio.CancelScope()
        mine = Handling({"type": trigger}, (), stay=self.stay, is_timed=True)
        self.engine.start(self.run_timer, self.timer, self.due - now, mine)

    async def run_timer(self, scope: anyio.CancelScope, delay: float, mine: Handling) -> None:
        with scope:
            await anyio.sleep(max(delay, 0))
            self.post(mine)

    def start_work(self, state: State) -> None:
        self.has_begun = True
        self.work = Work()
        self.engine.start(self.run_work, self.work, state, self.stay, self.engine)

    async def run_work(self, work: Work, state: State, stay: int, engine: Any) -> None:
        failure = None
        try:
            with work.scope, self.marked(work.in_hand or Handling({}, ())):
                try:
                    result = await call(state.during, self)
                except Exception as exc:
                    failure = self.has_failed(exc, work, state, stay)
                else:
                    self.has_returned(result, work, state, stay)
        finally:
            self.work = work.in_hand = None
            work.ended.set()
            self.begin()
            engine.rest(self)
        if failure is not None:
            await self.report_work(failure, engine)

    def has_returned(self, result: Any, work: Work, state: State, stay: int) -> None:
        if state.done is not None and not work.scope.cancel_called:
            self.post(Handling({"type": state.done, "result": result}, (), stay=stay))

    def has_failed(
        self, failure: Exception, work: Work, state: State, stay: int
    ) -> Exception | None:
        """Send the failure of the work, or return it, to be reported."""
        if state.failed is None or work.scope.cancel_called:
            return failure
        self.post(Handling({"type": state.failed, "exception": failure}, (), stay=stay))
        return None

    async def report_work(self, failure: Exception, engine: Any) -> None:
        await engine.report(self.name, Handling({"type": "during"}, ()), failure)

    def pause(self) -> None:
        """Note that the engine runs no more."""
        self.stop_timer()
        self.has_begun = False

    async def end(self) -> None:
        """Note that no engine has it any more; end its work."""
        self.new_stay()
        if self.is_within_work() and self.work is not None:
            self.work.scope.cancel()
        else:
            await self.end_work()


class LastingEngine(PlainEngine):
    """An engine with a store, which runs."""

    hosted: dict[str, Any]

    def __init__(
        self,
        *,
        bus: Any = None,
        component_factory: Any = None,
        store: Any = None,
        max_components: int | None = None,
    ) -> None:
        super().__init__(bus=bus, component_factory=component_factory)
        if max_components is not None:
            self.check_few(store, component_factory)
        self.store = store
        self.max_components = max_components
        self.tasks: TaskGroup | None = None
        self.context: Any = None
        self.is_running = False
        # The components that the factory made, those not used longest first.
        self.made_here: dict[str, Any] = {}

    def check_few(self, store: Any, component_factory: Any) -> None:
        if store is None or component_factory is None:
            raise ValueError("needs both")

    # Running.

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        self.check_not_running()
        self.is_running = True
        try:
            async with anyio.create_task_group() as tasks:
                self.tasks, self.context = tasks, copy_context()
                if self.store is not None and self.component_factory is not None:
                    self.start(self.watch)
                self.begin_all()
                try:
                    yield
                finally:
                    self.stop(tasks)
        finally:
            for each in self.hosted.values():
                each.pause()
            self.is_running = False

    def check_not_running(self) -> None:
        if self.is_running:
            raise RuntimeError("running already")

    def begin_all(self) -> None:
        for each in self.hosted.values():
            if each.in_hand is None:
                each.begin()

    def stop(self, tasks: TaskGroup) -> None:
        self.tasks = None
        tasks.cancel_scope.cancel()

    def start(self, function: Any, *arguments: Any) -> None:
        """Start a task in the context of `running()`."""
        if self.tasks is not None:
            self.context.copy().run(self.tasks.start_soon, function, *arguments)

    async def watch(self) -> None:
        """Load what is due."""
        while True:
            for name in await self.store.due(anyio.current_time(), 100):
                if name not in self.hosted and name not in self.pending:
                    with contextlib.suppress(Exception):
                        await self.fetch(name)
            await anyio.sleep(1)

    async def fetch(self, name: str) -> None:
        mine = Handling({}, ())
        self.pending[name] = [mine]
        await self.ask(name, mine)
        self.hosted[name].withdraw(mine)

    # Registering.

    async def make(self, name: str) -> Any:
        component = await super().make(name)
        component.is_made = True
        return component

    async def introduce(self, component: Any) -> None:
        if self.store is not None:
            component.adopt(await call(self.store.load, component.name))
        if getattr(component, "is_made", False):
            self.made_here[component.name] = component
        component.is_unloaded = False
        try:
            await super().introduce(component)
        finally:
            self.trim()
            component.begin()

    async def tell_of(self, component: Any) -> None:
        is_made = component.name in self.made_here
        if not (self.max_components is not None and is_made and component.version):
            await super().tell_of(component)

    async def unregister(self, name: str) -> None:
        component = self.hosted.get(name)
        self.made_here.pop(name, None)
        await super().unregister(name)
        if component is not None:
            await component.end()

    # Few components in memory.

    def rest(self, component: Any) -> None:
        """Note that a component was used just now."""
        if component.name in self.made_here:
            self.use(component)
            self.trim()

    def use(self, component: Any) -> None:
        del self.made_here[component.name]
        self.made_here[component.name] = component

    def trim(self) -> None:
        while self.max_components is not None and len(self.made_here) > self.max_components:
            free = [each for each in self.made_here.values() if self.is_free(each)]
            if not free:
                return
            self.unload(self.choose_one(free))

    def choose_one(self, free: list[Any]) -> Any:
        return free[0]

    def is_free(self, component: Any) -> bool:
        return not (
            self.is_busy(component)
            or component.work is not None
            or component.is_stale
            or component.name in self.pending
            or self.is_subscribed(component.name)
        )

    def is_busy(self, component: Any) -> bool:
        return component.in_hand is not None or bool(component.deferred)

    def is_subscribed(self, name: str) -> bool:
        return any(each.component_name == name for each in self.bus.listed)

    def unload(self, component: Any) -> None:
        del self.made_here[component.name], self.hosted[component.name]
        component.engine = None
        component.is_unloaded = True
        component.stop_timer()
