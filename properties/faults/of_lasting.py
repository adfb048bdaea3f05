"""Components and engines with one planted fault each: K1, K3, K4, K5 and M1 to M4."""

import math
from typing import Any

import anyio

from flexiflow import Outcome, State, StateConflict, StateMachine, Transition
from flexiflow._stores import Stored
from properties.faults._component_registry import breaks
from properties.reference.engine import Handling, call, current
from properties.reference.lasting import LastingComponent, LastingEngine, Work

# K1


@breaks("K1")
class BeginsInTheInitialState(LastingComponent):
    """Forgets the state that it is given."""

    def __init__(
        self, name: str, *, machine: StateMachine | None = None, state: str | None = None
    ) -> None:
        super().__init__(name, machine=machine)


@breaks("K1")
class BeginsAnywhere(LastingComponent):
    """Begins in a state that its machine does not have."""

    def check_start(self, state: str) -> None:
        """Do nothing."""


@breaks("K1", "M1")
class TellsOfItsStart(LastingEngine):
    """Enters the state in which a component begins, with an event."""

    async def introduce(self, component: Any) -> None:
        await super().introduce(component)
        if component.machine is not None and component.state != component.machine.initial:
            await component.changed(None, component.state)
        detail = component.detail(component.state)
        if detail is not None and detail.entry is not None:
            detail.entry({"type": "start"}, component)


# K3


@breaks("K3")
class SavesAfterItsCommit(LastingComponent):
    """Commits, and saves then."""

    steps = ("end_work", "leave_state", "do", "enter_state")

    async def commit(self, target: str) -> None:
        await super().commit(target)
        await self.save(target, self.due)


@breaks("K3")
class SavesBeforeItsEntry(LastingComponent):
    """Saves before the last action."""

    steps = ("end_work", "leave_state", "do", "keep", "enter_state")


@breaks("K3")
class SavesNothingInternal(LastingComponent):
    """Saves only what changes the state."""

    async def act_within(self, row: Transition, message: dict[str, Any]) -> None:
        await self.do(row, message)


@breaks("K3")
class SwallowsWhatTheStoreRaises(LastingComponent):
    """Commits although it could not save."""

    async def save(self, state: str, due: float | None) -> None:
        try:
            await super().save(state, due)
        except StateConflict:
            raise
        except Exception:
            self.is_stale = False


@breaks("K3")
class LoadsNothingAgain(LastingComponent):
    """Does not ask what is stored after a save whose outcome is unknown."""

    def has_failed_to_save(self, failure: BaseException) -> None:
        self.is_stale = isinstance(failure, StateConflict)


@breaks("K3")
class ForgetsACancelledSave(LastingComponent):
    """Does not ask what is stored after a save that was cancelled."""

    def has_failed_to_save(self, failure: BaseException) -> None:
        self.is_stale = isinstance(failure, Exception)


@breaks("K3")
class LoadsNothingAfterAConflict(LastingComponent):
    """Goes on in its own state after another engine has saved."""

    def has_failed_to_save(self, failure: BaseException) -> None:
        self.is_stale = not isinstance(failure, StateConflict)


@breaks("K3")
class OverwritesAConflict(LastingComponent):
    """Saves over what another engine has saved."""

    async def save(self, state: str, due: float | None) -> None:
        if self.engine is not None and self.engine.store is not None:
            stored = await self.engine.store.load(self.name)
            self.version = 0 if stored is None else stored.version
        await super().save(state, due)


@breaks("K3")
class RaisesNoConflict(LastingComponent):
    """Saves once more after a conflict."""

    async def save(self, state: str, due: float | None) -> None:
        try:
            await super().save(state, due)
        except StateConflict:
            await self.reload()
            await super().save(state, due)


@breaks("K3")
class TellsWhatItFinds(LastingComponent):
    """Publishes what it finds in the store as a change."""

    async def reload(self) -> None:
        before = self.state
        await super().reload()
        if self.state != before:
            await self.changed(before, str(self.state))


@breaks("K3")
class KeepsItsAttributes(LastingComponent):
    """Restores nothing when it loads the same version again."""

    async def reload(self) -> None:
        stored = await self.engine.store.load(self.name)
        if stored is not None and stored.version == self.version:
            self.is_stale = False
        else:
            await super().reload()


@breaks("K3")
class WorksBeforeItHasLoaded(LastingComponent):
    """Begins the work of its former state while it is not certain what is stored."""

    def begin(self) -> None:
        stale, self.is_stale = self.is_stale, False
        super().begin()
        self.is_stale = stale


@breaks("K3")
class TakesTheSnapshotFirst(LastingComponent):
    """Saves its snapshot as it was before the action."""

    taken: Any = None

    async def act(self, row: Transition, message: dict[str, Any]) -> None:
        self.taken = type(self).snapshot(self)
        await super().act(row, message)

    async def save(self, state: str, due: float | None) -> None:
        data = vars(self).get("count")
        if data is not None and self.taken is not None:
            self.__dict__["count"] = self.taken["count"]
        try:
            await super().save(state, due)
        finally:
            if data is not None:
                self.__dict__["count"] = data


# K4


@breaks("K4")
class LoadsAfterRegistering(LastingEngine):
    """Puts what is stored into a component when it has been registered."""

    async def introduce(self, component: Any) -> None:
        store, self.store = self.store, None
        try:
            await super().introduce(component)
        finally:
            self.store = store
        if store is not None:
            component.adopt(await store.load(component.name))


@breaks("K4")
class LoadsOnlyWhatItMakes(LastingEngine):
    """Loads nothing when a component is registered by hand."""

    async def register(self, component: Any) -> None:
        store, self.store = self.store, None
        try:
            await super().register(component)
        finally:
            self.store = store


@breaks("K4")
class TakesAnyStoredState(LastingComponent):
    """Takes a stored state that its machine does not have."""

    def check_stored(self, state: str) -> None:
        """Do nothing."""


@breaks("K4")
class BeginsAnewFromAnUnknownState(LastingComponent):
    """Begins in its initial state if the stored one is unknown."""

    def adopt(self, stored: Stored | None) -> None:
        if stored is not None and self.machine and stored.state not in self.machine.states:
            stored = stored._replace(state=self.machine.initial)
        super().adopt(stored)


@breaks("K4")
class RestoresTheStateAlone(LastingComponent):
    """Forgets the data when it is loaded."""

    def adopt(self, stored: Stored | None) -> None:
        super().adopt(None if stored is None else stored._replace(data=None))


@breaks("K4")
class TellsWhatItLoads(LastingEngine):
    """Publishes a change to the state that was stored."""

    async def tell_of(self, component: Any) -> None:
        await super().tell_of(component)
        if component.version:
            await component.changed(component.start, component.state)


@breaks("K4")
class EntersWhatItLoads(LastingComponent):
    """Runs the entry of the state that was stored."""

    def adopt(self, stored: Stored | None) -> None:
        super().adopt(stored)
        detail = self.detail(self.state)
        if stored is not None and detail is not None and detail.entry is not None:
            detail.entry({"type": "loaded"}, self)


@breaks("K4")
class DeletesAsItLeaves(LastingEngine):
    """Deletes what is stored of a component that is unregistered."""

    async def unregister(self, name: str) -> None:
        await super().unregister(name)
        if self.store is not None:
            await self.store.delete(name)


@breaks("K4")
class GoesOnWithoutItsStore(LastingEngine):
    """Makes a component as if nothing were stored when the store fails."""

    async def introduce(self, component: Any) -> None:
        try:
            await super().introduce(component)
        except Exception:
            if component.name in self.hosted or component.is_stale:
                raise
            store, self.store = self.store, None
            try:
                await super().introduce(component)
            finally:
                self.store = store


@breaks("K4")
class SavesAsItRegisters(LastingEngine):
    """Saves a component as it is registered."""

    async def introduce(self, component: Any) -> None:
        await super().introduce(component)
        if component.state is not None and not component.version:
            await component.save(component.state, None)


# K5


@breaks("K5")
class UnloadsTheLatest(LastingEngine):
    """Unloads first what was used last."""

    def choose_one(self, free: list[Any]) -> Any:
        return free[-1]


@breaks("K5")
class UnloadsTheFirstMade(LastingEngine):
    """Unloads in the order in which they were made, however lately they were used."""

    def use(self, component: Any) -> None:
        """Do nothing."""


@breaks("K5")
class UnloadsTheBusy(LastingEngine):
    """Unloads a component whose message is in hand."""

    def is_busy(self, component: Any) -> bool:
        return False


@breaks("K5")
class UnloadsWhatWorks(LastingEngine):
    """Unloads a component with its work."""

    def is_free(self, component: Any) -> bool:
        work, component.work = component.work, None
        is_free = super().is_free(component)
        component.work = work
        return is_free


@breaks("K5")
class UnloadsASubscriber(LastingEngine):
    """Unloads a component under whose name somebody has subscribed."""

    def is_subscribed(self, name: str) -> bool:
        return False


@breaks("K5")
class NeverUnloadsAgain(LastingEngine):
    """Looks for something to unload only when a component is made."""

    def rest(self, component: Any) -> None:
        if component.name in self.made_here:
            self.use(component)


@breaks("K5")
class HandlesWhenItIsUnloaded(LastingComponent):
    """Handles messages after it was unloaded."""

    def check_loaded(self) -> None:
        """Do nothing."""


@breaks("K5")
class TellsOfLoading(LastingEngine):
    """Publishes a registration when it loads a component again."""

    async def tell_of(self, component: Any) -> None:
        version, component.version = component.version, 0
        await super().tell_of(component)
        component.version = version


@breaks("K5")
class TellsOfUnloading(LastingEngine):
    """Publishes an event of its own when it has unloaded something."""

    async def tell_of(self, component: Any) -> None:
        await super().tell_of(component)
        if len(self.hosted) > (self.max_components or math.inf):
            await self.publish("component.unloaded", {})


@breaks("K5")
class UnloadsWhatWasRegistered(LastingEngine):
    """Unloads a component that was registered by hand."""

    async def register(self, component: Any) -> None:
        component.is_made = self.max_components is not None
        await super().register(component)


@breaks("K5")
class SendsToTheUnloaded(LastingEngine):
    """Loses the timer of a component that is unloaded."""

    async def watch(self) -> None:
        """Do nothing."""


@breaks("K5")
class KeepsAllWithoutAStore(LastingEngine):
    """Takes `max_components` without a store or a factory."""

    def check_few(self, store: Any, component_factory: Any) -> None:
        """Do nothing."""


@breaks("K5")
class KeepsOneMore(LastingEngine):
    """Keeps one more than it may."""

    def trim(self) -> None:
        most = self.max_components
        self.max_components = None if most is None else most + 1
        super().trim()
        self.max_components = most


# M1


@breaks("M1")
class LeavesAfterTheAction(LastingComponent):
    """Runs the action before the source's exit."""

    steps = ("end_work", "do", "leave_state", "enter_state", "keep")


@breaks("M1")
class EntersBeforeTheAction(LastingComponent):
    """Runs the target's entry before the action."""

    steps = ("end_work", "leave_state", "enter_state", "do", "keep")


@breaks("M1")
class EndsItsWorkLate(LastingComponent):
    """Ends the source's work after its exit."""

    steps = ("leave_state", "end_work", "do", "enter_state", "keep")


@breaks("M1")
class EntersAfterItsCommit(LastingComponent):
    """Runs the target's entry when the state has changed."""

    steps = ("end_work", "leave_state", "do", "keep")

    async def commit(self, target: str) -> None:
        await super().commit(target)
        detail = self.detail(target)
        if detail is not None and detail.entry is not None:
            await call(detail.entry, {"type": "entered"}, self)


@breaks("M1")
class LeavesWithoutWaiting(LastingComponent):
    """Cancels the source's work, and goes on before it has ended."""

    async def end_work(self, row: Any = None, message: Any = None) -> None:
        if row is None:
            await super().end_work()
        elif self.work is not None:
            self.work.scope.cancel()


@breaks("M1")
class EntersForWhatIsInternal(LastingComponent):
    """Runs exit and entry for internal transitions."""

    async def act_within(self, row: Transition, message: dict[str, Any]) -> None:
        await self.leave_state(row, message)
        await super().act_within(row, message)
        detail = self.detail(self.state)
        if detail is not None and detail.entry is not None:
            detail.entry(message, self)


@breaks("M1")
class StaysForItself(LastingComponent):
    """Takes a transition from a state to itself for an internal one."""

    async def act(self, row: Transition, message: dict[str, Any]) -> None:
        if row.target == self.state:
            await self.act_within(row, message)
        else:
            await super().act(row, message)


@breaks("M1")
class EntersItsStart(LastingEngine):
    """Runs the entry of the state in which a component begins."""

    async def introduce(self, component: Any) -> None:
        await super().introduce(component)
        detail = component.detail(component.state)
        if not component.version and detail is not None and detail.entry is not None:
            detail.entry({"type": "start"}, component)


@breaks("M1")
class WorksNoMoreAfterAFailure(LastingComponent):
    """Leaves the source's work ended when a transition fails."""

    def begins_not_anew(self, had_begun: bool, was_working: bool) -> bool:
        return True


@breaks("M1")
class GoesOnAfterItsExit(LastingComponent):
    """Does not run again what ran before a failure."""

    has_left = False

    async def leave_state(self, row: Transition, message: dict[str, Any]) -> None:
        if not self.has_left:
            await super().leave_state(row, message)
            self.has_left = True

    async def commit(self, target: str) -> None:
        self.has_left = False
        await super().commit(target)


@breaks("M1")
class StopsItsTimerTooEarly(LastingComponent):
    """Begins the timer anew when a transition fails."""

    async def leave_state(self, row: Transition, message: dict[str, Any]) -> None:
        self.stop_timer()
        self.due = None
        await super().leave_state(row, message)


@breaks("M1")
class BeginsNothingIfItIsCancelled(LastingComponent):
    """Begins no work if the sender is cancelled by an observer."""

    def begin(self) -> None:
        if anyio.current_effective_deadline() != -math.inf:
            super().begin()


@breaks("M1")
class BeginsBeforeItTells(LastingComponent):
    """Begins the target's work before the observers of the change."""

    async def changed(self, from_state: str | None, to_state: str) -> None:
        self.begin()
        await super().changed(from_state, to_state)


# M2


@breaks("M2")
class TimesFromTheMessage(LastingComponent):
    """Counts the seconds from the message, not from the commit."""

    began = 0.0

    async def act(self, row: Transition, message: dict[str, Any]) -> None:
        self.began = anyio.current_time()
        await super().act(row, message)

    def due_in(self, state: str | None) -> float | None:
        due = super().due_in(state)
        return None if due is None else due - anyio.current_time() + self.began


@breaks("M2")
class TimesFromTheObservers(LastingComponent):
    """Counts the seconds from the end of the observers."""

    async def changed(self, from_state: str | None, to_state: str) -> None:
        await super().changed(from_state, to_state)
        self.due = self.due_in(to_state)


@breaks("M2", "M3")
class SendsWhatIsLate(LastingComponent):
    """Handles what a state sends also if it was left."""

    def counts(self, mine: Handling) -> bool:
        return True


@breaks("M2")
class KnowsNoStays(LastingComponent):
    """Drops what a timer sends only if another state has followed."""

    entered: tuple[str | None, int] = (None, 0)

    def counts(self, mine: Handling) -> bool:
        after = self.detail(self.state)
        trigger = mine.message["type"]
        sends = after is not None and after.after is not None and after.after[1] == trigger
        return super().counts(mine) or sends


@breaks("M2")
class StopsNoTimer(LastingComponent):
    """Drops nothing: a timer of a former stay sends for the present one."""

    async def run_timer(self, scope: anyio.CancelScope, delay: float, mine: Handling) -> None:
        await anyio.sleep(max(delay, 0))
        mine.stay = self.stay
        self.post(mine)


@breaks("M2")
class SendsAgainAndAgain(LastingComponent):
    """Sends its trigger every so often while the state lasts."""

    async def is_wanted(self, mine: Handling) -> bool:
        wanted = await super().is_wanted(mine)
        if wanted and mine.is_timed:
            self.stop_timer()
            self.due = None
        return wanted


@breaks("M2")
class BeginsAgainWithin(LastingComponent):
    """Begins the timer again after an internal transition."""

    async def act_within(self, row: Transition, message: dict[str, Any]) -> None:
        await super().act_within(row, message)
        if self.due != math.inf:
            self.stop_timer()
            self.due = None


@breaks("M2")
class TellsWhatItDrops(LastingComponent):
    """Publishes the message of a timer that is dropped."""

    async def is_wanted(self, mine: Handling) -> bool:
        wanted = await super().is_wanted(mine)
        if not wanted:
            await self.publish("component.message.received", message=self.shown(mine.message))
        return wanted


@breaks("M2")
class OvertakesOthers(LastingComponent):
    """Puts the message of a timer before those that wait."""

    def post(self, mine: Handling) -> None:
        super().post(mine)
        if mine in self.line and mine.is_timed:
            self.line.remove(mine)
            self.line.insert(0, mine)


@breaks("M2")
class StoresNoTime(LastingComponent):
    """Does not store when it is due."""

    async def save(self, state: str, due: float | None) -> None:
        await super().save(state, None)


@breaks("M2")
class ForgetsWhatIsOverdue(LastingComponent):
    """Sends nothing that fell due while no engine ran."""

    def set_timer(self, seconds: float, trigger: str) -> None:
        if self.due is not None and self.due < anyio.current_time():
            self.due = math.inf
        else:
            super().set_timer(seconds, trigger)


@breaks("M2")
class SendsTheOverdueTwice(LastingComponent):
    """Sends twice what fell due while no engine ran."""

    def set_timer(self, seconds: float, trigger: str) -> None:
        is_overdue = self.due is not None and self.due < anyio.current_time()
        super().set_timer(seconds, trigger)
        if is_overdue:
            self.post(Handling({"type": trigger}, (), stay=self.stay))


@breaks("M2")
class TimesAnewInEachEngine(LastingComponent):
    """Waits the whole time again when it is loaded."""

    def adopt(self, stored: Stored | None) -> None:
        super().adopt(stored)
        if self.due != math.inf:
            self.due = None


@breaks("M2")
class LoadsNothingThatIsDue(LastingEngine):
    """Loads a component only when it is sent a message."""

    async def watch(self) -> None:
        """Do nothing."""


@breaks("M2")
class TimesOnlyWhatItEnters(LastingEngine):
    """Begins no timer of a component's first state."""

    def begin_all(self) -> None:
        for each in self.hosted.values():
            if each.stay:
                each.begin()


# M3


@breaks("M3")
class WorksForTheSender(LastingComponent):
    """Does the work in the context of the sender."""

    def start_work(self, state: State) -> None:
        self.has_begun = True
        self.work = Work()
        self.engine.tasks.start_soon(self.run_work, self.work, state, self.stay, self.engine)


@breaks("M3")
class SendsNoResult(LastingComponent):
    """Sends that the work has returned, not what."""

    def has_returned(self, result: Any, work: Work, state: State, stay: int) -> None:
        super().has_returned(None, work, state, stay)


@breaks("M3")
class SwallowsFailures(LastingComponent):
    """Reports no failure of work that has no `failed`."""

    def has_failed(
        self, failure: Exception, work: Work, state: State, stay: int
    ) -> Exception | None:
        super().has_failed(failure, work, state, stay)
        return None


@breaks("M3")
class SendsTheFailureOfCancelledWork(LastingComponent):
    """Sends `failed` for work that it has cancelled."""

    def has_failed(
        self, failure: Exception, work: Work, state: State, stay: int
    ) -> Exception | None:
        if state.failed is None:
            return failure
        self.post(Handling({"type": state.failed, "exception": failure}, (), stay=stay))
        return None


@breaks("M3")
class SendsTheEndOfAFormerStay(LastingComponent):
    """Handles the `done` of work whose state was entered again."""

    def has_returned(self, result: Any, work: Work, state: State, stay: int) -> None:
        super().has_returned(result, work, state, None)  # type: ignore[arg-type]


@breaks("M3")
class WorksAgainAndAgain(LastingComponent):
    """Begins its work anew with each of some messages once it has ended."""

    left = 3

    async def handle(self, mine: Handling) -> Outcome:
        if self.left and self.work is None:
            self.left -= 1
            self.has_begun = False
        return await super().handle(mine)


@breaks("M3")
class WaitsInItsWork(LastingComponent):
    """Lets a send from its own work wait, and handles it in the work's task."""

    def is_within_work(self) -> bool:
        return False


@breaks("M3")
class DefersWhatItsWorkSends(LastingComponent):
    """Handles what its work sends before those who wait."""

    async def take_from_work(self, message: dict[str, Any], engine: Any) -> Outcome:
        if self.in_hand is None:
            return await super().take_from_work(message, engine)
        self.defer(Handling(message, ()))
        return Outcome.DEFERRED


@breaks("M3")
class SeesOnlyDirectSends(LastingComponent):
    """Does not see that a message comes from its work if another component has sent it."""

    def is_within_work(self) -> bool:
        return super().is_within_work() and len(current.get()) == 1


@breaks("M3")
class WaitsInARing(LastingComponent):
    """Waits for work that waits for what waits for it."""

    def break_ring(self, work: Work) -> None:
        """Do nothing."""


@breaks("M3")
class WorksOnlyWhatItEnters(LastingEngine):
    """Begins no work when `running()` is entered."""

    def begin_all(self) -> None:
        """Do nothing."""


@breaks("M3")
class WorksTwice(LastingEngine):
    """Begins the work twice when a component is registered while it runs."""

    async def introduce(self, component: Any) -> None:
        await super().introduce(component)
        if component.work is not None:
            component.start_work(component.detail(component.state))


@breaks("M3")
class LeavesItsWorkAlone(LastingComponent):
    """Goes on with its work when it is unregistered."""

    async def end(self) -> None:
        self.stop_timer()


@breaks("M3")
class DoesNotWaitAsItLeaves(LastingComponent):
    """Is unregistered before its work has ended."""

    async def end(self) -> None:
        self.stop_timer()
        if self.work is not None:
            self.work.scope.cancel()


@breaks("M3")
class WaitsForItself(LastingComponent):
    """Waits for the end of its work when that unregisters it."""

    async def end(self) -> None:
        self.stop_timer()
        await self.end_work()


# M4


@breaks("M4")
class EntersWithoutRunning(LastingComponent):
    """Enters a state that takes time in an engine that does not run."""

    def check_running(self, target: State | None, name: str) -> None:
        """Do nothing."""


@breaks("M4")
class RefusesAfterItHasEnded(LastingComponent):
    """Refuses to enter a state that takes time only when it has left the other one."""

    steps = ("end_work", "leave_state", "check_late", "do", "enter_state", "keep")

    def check_running(self, target: State | None, name: str) -> None:
        """Do nothing yet."""

    async def check_late(self, row: Transition, message: dict[str, Any]) -> None:
        super().check_running(self.detail(row.target), str(row.target))


@breaks("M4")
class RefusesBeforeItsGuard(LastingComponent):
    """Refuses before it has asked the guard."""

    async def choose(self, message: dict[str, Any]) -> Transition | None:
        for row in self.candidates(message):
            if row.target is not None:
                self.check_running(self.detail(row.target), row.target)
        return await super().choose(message)


@breaks("M4")
class RefusesTimersAlone(LastingComponent):
    """Enters a state with work, but no timer, in an engine that does not run."""

    def check_running(self, target: State | None, name: str) -> None:
        if target is not None and target.after is not None:
            super().check_running(target, name)


@breaks("M4")
class RunsTwice(LastingEngine):
    """Runs while it runs."""

    def check_not_running(self) -> None:
        """Do nothing."""


@breaks("M4")
class RunsOnlyOnce(LastingEngine):
    """Can't run a second time."""

    has_run = False

    def check_not_running(self) -> None:
        if self.has_run and not self.is_running:
            raise RuntimeError("has run")
        super().check_not_running()
        self.has_run = True


@breaks("M4")
class LeavesItsTimers(LastingEngine):
    """Waits for timers and work when `running()` is left."""

    def stop(self, tasks: Any) -> None:
        """Do nothing."""


@breaks("M4")
class BeginsNothingTheNextTime(LastingComponent):
    """Does not begin its work again when the engine runs again."""

    def pause(self) -> None:
        self.stop_timer()
