"""The block in which an engine runs: entering and leaving it, and what it refuses outside (M4)."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from functools import partial
from typing import Any, NoReturn

import anyio
import pytest
from anyio import CancelScope, Event, create_task_group, fail_after, sleep, sleep_forever
from anyio.lowlevel import checkpoint

from flexiflow import Component, Engine, EngineNotRunning, Outcome, State, StateMachine, Transition
from flexiflow.extras.stores import MemoryStateStore
from flexiflow.testing import ScenarioStuck, cancel_everywhere, explore
from tests.accounting import Boom, Fatal
from tests.attacks import on_asyncio
from tests.components.lasting import Scene, Shielded, Worker
from tests.conftest import BACKENDS
from tests.helpers import PATIENCE, never, settle
from tests.hosting import GO, Diary, Gate, run_clocked
from tests.stores.keeping import DictStore

TWICE = "the engine is running already; enter `running()` once at a time"


async def wait(component: object) -> None:
    """Work."""
    await sleep_forever()


class Leaver:
    """Enters running(), and notes what leaves the block, and whether the gate was passed then."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.gate = Gate()
        self.inside = Event()
        self.left: list[object] = []

    async def run(self) -> None:
        """Wait in the block."""
        try:
            async with self.engine.running():
                self.inside.set()
                await sleep_forever()
        except BaseException as exc:
            self.left.append(type(exc))
            raise
        finally:
            self.left.append(self.gate.passed)


async def tasks() -> int:
    """Count the tasks that run, when those that have ended are gone."""
    await settle()
    return len(anyio.get_running_tasks())


class TestEntering:
    """Entering running()."""

    async def test_begins_the_work_of_each_component(self) -> None:
        """M3: The works of all components begin, whether registered before or later."""
        engine, begun = Engine(), list[str]()

        async def work(component: Component) -> None:
            begun.append(component.name)
            await sleep_forever()

        await Worker(engine, work, name="a").register()
        await settle()
        assert begun == []
        async with engine.running():
            await settle()
            assert begun == ["a"]
            await Worker(engine, work, name="b").register()
            await settle()
            assert begun == ["a", "b"]

    async def test_twice_at_once_is_refused(self) -> None:
        """M4: RuntimeError, and what runs goes on; so it is while the first is being left."""
        engine, gate = Engine(), Gate()
        work = Shielded(gate)
        await Worker(engine, work).register()
        with fail_after(PATIENCE):
            async with create_task_group() as group, engine.running():
                await settle()
                with pytest.raises(RuntimeError) as caught:
                    async with engine.running():
                        never()
                assert str(caught.value) == TWICE
                assert await engine.send("a", {"type": "note"}) is Outcome.TRANSITIONED

                async def enter_late() -> None:
                    await gate.reached.wait()
                    with pytest.raises(RuntimeError):
                        await engine.running().__aenter__()
                    gate.open.set()

                group.start_soon(enter_late)
                await settle()

    async def test_one_after_another(self) -> None:
        """M4: The engine can run again, with the same block too; the work begins each time."""
        engine, begun = Engine(), list[int]()

        async def work(component: object) -> None:
            begun.append(1)
            await sleep_forever()

        await Worker(engine, work).register()
        running = engine.running()
        for blocks in (running, running, engine.running()):
            async with blocks:
                await settle()
        assert begun == [1, 1, 1]

    def test_on_one_backend_after_the_other(self) -> None:
        """M4, B1: Nothing of a loop is kept."""
        engine, begun = Engine(), list[str]()

        async def work(component: object) -> None:
            begun.append(anyio.get_current_task().name or "")
            await checkpoint()

        machine = StateMachine(
            "a",
            [Transition("a", "late", None), Transition("a", "done", None)],
            states=[State("a", during=work, done="done", after=(1e-9, "late"))],
        )
        component = Component("c", machine=machine)

        async def main() -> None:
            if not engine.components:
                await engine.register(component)
            async with engine.running():
                await settle()

        for _ in range(2):
            for backend, options in BACKENDS.values():
                anyio.run(main, backend=backend, backend_options=options)
        assert len(begun) == 2 * len(BACKENDS)

    async def test_while_a_message_is_in_hand(self) -> None:
        """M3: The work of the state in which the message leaves it begins after the message."""
        engine, gate, begun = Engine(), Gate(), list[str]()

        async def work(component: Component) -> None:
            begun.append(str(component.state))
            await sleep_forever()

        async def hold(message: dict[str, Any], component: object) -> None:
            if message["type"] == "stop":
                await gate()

        worker = await Worker(engine, work, act=hold).register()
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(worker.send, "stop")
                await gate.reached.wait()
                async with engine.running():
                    await settle()
                    assert begun == []
                    gate.open.set()
                    await settle()
                    assert begun == []
                    await worker.send("go")
                    await settle()
                    assert begun == ["busy"]

    async def test_while_a_message_is_in_hand_of_a_component_that_goes(self) -> None:
        """M3, C1: Nothing begins for a component that is unregistered meanwhile."""
        engine, gate, begun = Engine(), Gate(), list[str]()

        async def work(component: Component) -> None:
            begun.append(str(component.state))

        async def hold(message: object, component: object) -> None:
            await gate()

        worker = await Worker(engine, work, act=hold).register()
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(worker.send, "note")
                await gate.reached.wait()
                async with engine.running():
                    await settle()
                    await engine.unregister("a")
                    gate.open.set()
                    await settle()
        assert begun == []

    @pytest.mark.parametrize("waits", [False, True])
    async def test_while_a_message_is_in_hand_that_comes_to_nothing(self, *, waits: bool) -> None:
        """M3: The work begins though the message, or the one behind, is cancelled."""
        engine, gate, begun = Engine(), Gate(), Event()

        async def work(component: object) -> None:
            begun.set()
            await sleep_forever()

        async def run() -> None:
            async with engine.running():
                await begun.wait()

        async def hold(message: dict[str, Any], component: object) -> None:
            await gate()

        worker = await Worker(engine, work, act=hold).register()
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                with CancelScope() as scope:
                    async with create_task_group() as inner:
                        inner.start_soon(worker.send, "note")
                        await gate.reached.wait()
                        if waits:
                            inner.start_soon(worker.send, "note")
                            await settle()
                        group.start_soon(run)
                        await settle()
                        assert not begun.is_set()
                        scope.cancel()

    @pytest.mark.unmeasured
    def test_while_a_sender_is_cancelled_before_its_turn(self, backend: str) -> None:
        """M3: The work begins whenever running() is entered, though no message is handled."""

        async def scenario() -> None:
            engine, begun = Engine(), Event()

            async def work(component: object) -> None:
                begun.set()
                await sleep_forever()

            worker = await Worker(engine, work).register()
            scope = CancelScope()

            async def send() -> None:
                with scope:
                    await worker.send("note")

            async with create_task_group() as group:
                group.start_soon(send)
                await checkpoint()
                async with engine.running():
                    scope.cancel()
                    await sleep(1)
                    assert begun.is_set()

        explore(scenario, backend=backend, schedules=100, seed=1)

    async def test_behind_messages_that_a_cancelled_send_left(self) -> None:
        """M3, C4: Deferred messages without a message in hand hold up no work."""
        engine, begun = Engine(), list[int]()

        async def work(component: object) -> None:
            begun.append(1)
            await sleep_forever()

        async def defer(message: dict[str, Any], component: object) -> None:
            await worker.send("stop")
            await sleep_forever()

        worker = await Worker(engine, work, act=defer).register()
        with CancelScope() as scope:
            async with create_task_group() as group:
                group.start_soon(worker.send, "note")
                await settle()
                scope.cancel()
        assert not worker.component._flexiflow_actor.mailbox.is_idle
        async with engine.running():
            await settle()
            assert begun == [1]

    async def test_from_within_a_handling(self) -> None:
        """M3, C4: What the block waits for can't wait for the handling around it: DEFERRED."""
        engine, outcomes = Engine(), list[object]()

        async def act(message: dict[str, Any], component: object) -> None:
            if "do" in message:
                await message["do"]()

        async def work(component: object) -> None:
            with CancelScope(shield=True):
                outcomes.append(await engine.send("host", {"type": "do"}))
            await sleep_forever()

        async def run() -> None:
            async with engine.running():
                await settle()

        machine = StateMachine("x", [Transition("x", "do", None, action=act)])
        await engine.register(Component("host", machine=machine))
        await Worker(engine, work).register()
        with fail_after(PATIENCE):
            assert await engine.send("host", {"type": "do", "do": run}) is Outcome.TRANSITIONED
        assert outcomes == [Outcome.DEFERRED]

    async def test_overdue_and_at_work(self) -> None:
        """M2, M3: A trigger that is due at once leaves the state, whose work ends, if it began."""
        begun: list[str] = []

        async def work(component: Component) -> int:
            begun.append(str(component.state))
            return 1

        machine = StateMachine(
            "a",
            [
                Transition("a", "late", "b"),
                Transition("a", "done", "c"),
                Transition("c", "done", "a"),
            ],
            states=[
                State("a", during=work, after=(1e-9, "late"), done="done"),
                State("c", after=(1e9, "done")),
            ],
        )
        engine = Engine()
        component = Component("c", machine=machine)
        await engine.register(component)
        async with engine.running():
            await settle()
        assert component.state in ("b", "c")
        assert begun in ([], ["a"])


class TestLeaving:
    """Leaving running()."""

    @pytest.mark.parametrize("kind", [Boom, Fatal, KeyboardInterrupt, SystemExit, ExceptionGroup])
    async def test_by_an_exception_leaves_bare(self, kind: Any) -> None:
        """M4: An exception leaves the block bare, in no group, when all works have ended."""
        engine, gate = Engine(), Gate()
        gate.open.set()
        work = Shielded(gate)
        await Worker(engine, work).register()
        raised = kind("g", [Boom()]) if kind is ExceptionGroup else kind()
        with pytest.raises(kind) as caught:
            async with engine.running():
                await settle()
                raise raised
        assert caught.value is raised
        assert gate.passed

    async def test_by_a_cancellation(self) -> None:
        """M4: A cancellation goes on when all works have ended; the engine can run again."""
        leaver, scope = Leaver(), CancelScope()

        async def host() -> None:
            with scope:
                await leaver.run()

        await Worker(leaver.engine, Shielded(leaver.gate)).register()
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(host)
                await leaver.inside.wait()
                await settle()
                scope.cancel()
                await settle()
                assert leaver.left == []
                leaver.gate.open.set()
        assert leaver.left == [anyio.get_cancelled_exc_class(), True]
        async with leaver.engine.running():
            await checkpoint()

    @on_asyncio
    async def test_by_a_native_cancellation(self) -> None:
        """M4, E5: The task's own cancellation goes on, when all works have ended."""
        leaver = Leaver()
        await Worker(leaver.engine, Shielded(leaver.gate)).register()
        with fail_after(PATIENCE):
            task = asyncio.ensure_future(leaver.run())
            await leaver.inside.wait()
            await settle()
            task.cancel()
            await settle()
            assert leaver.left == []
            leaver.gate.open.set()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert leaver.left == [asyncio.CancelledError, True]
        async with leaver.engine.running():
            await checkpoint()

    async def test_cancels_and_awaits_all_work(self) -> None:
        """M4: Nothing runs any more, and states stay as they are; results are dropped."""
        engine, ends = Engine(), list[int]()
        diary = await Diary().keep(engine.bus)

        async def finish() -> None:
            for _ in range(3):
                await checkpoint()
            ends.append(1)

        for number in range(20):
            await Worker(engine, Shielded(finish), name=f"c{number}", told=True).register()
        before = await tasks()
        diary.lines.clear()
        async with engine.running():
            await settle()
        assert len(ends) == 20
        assert await tasks() == before
        assert (diary.lines, {each.state for each in engine.components.values()}) == ([], {"busy"})

    async def test_a_failure_of_the_cleanup_is_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """M3, E4: What cancelled work raises is reported; as all is being cancelled, in the log."""
        engine, boom = Engine(), Boom()

        async def finish() -> None:
            raise boom

        await Worker(engine, Shielded(finish), told=True).register()
        async with engine.running():
            await settle()
        assert [each.exc_info[1] for each in caplog.records if each.exc_info] == [boom]

    async def test_work_in_a_registered_component_of_another_engine_goes_on(self) -> None:
        """M4: Each engine runs on its own."""
        engines = Engine(), Engine()
        workers = [await Worker(engine, wait).register() for engine in engines]
        async with engines[0].running():
            async with engines[1].running():
                await settle()
            assert await workers[0].send("stop") is Outcome.TRANSITIONED
            with pytest.raises(EngineNotRunning):
                await workers[1].send("again")

    async def test_a_message_in_hand_ends_its_transition(self) -> None:
        """M4: One that is past the check commits; its state's work begins with the next block."""
        engine, gate, begun = Engine(), Gate(), list[int]()

        async def work(component: object) -> None:
            begun.append(1)
            await sleep_forever()

        async def hold(message: dict[str, Any], component: object) -> None:
            await gate()

        worker = await Worker(engine, work, act=hold).register()
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                async with engine.running():
                    group.start_soon(worker.send, "note")
                    await gate.reached.wait()
                assert begun == [1]
                gate.open.set()
            await settle()
            assert begun == [1]
            async with engine.running():
                await settle()
                assert begun == [1, 1]

    @pytest.mark.unmeasured
    def test_is_swept(self, backend: str) -> None:
        """M4: Cancelled anywhere, no task is left, and the engine runs again from its state."""
        scenes: list[Scene] = []

        async def scenario() -> None:
            scenes[:] = [Scene()]
            await scenes[0].set()
            async with scenes[0].engine.running():
                await sleep(1)
                await scenes[0].engine.send("a", GO)
                await sleep(1)

        async def check() -> None:
            [scene] = scenes
            if not scene.engine.components:
                return
            begun = [line for line in scene.lines if "begins" in line]
            assert len(begun) == len([line for line in scene.lines if "ends" in line])
            assert scene.lines.count("a left entered") <= (scene.component.state == "entered")
            async with scene.engine.running():
                await sleep(1)
                # It may have found in the store that the cancelled send had saved.
                begins = f"work of {scene.component.state} begins"
                assert scene.lines[-1] == begins or "save" in scene.lines[-1]
                await sleep(61)
                assert scene.component.state == "over"

        styles: Any = ("scope", "native") if backend == "asyncio" else ("scope",)
        for style in styles:
            assert cancel_everywhere(scenario, backend=backend, check=check, style=style) > 20


class TestContexts:
    """Where work and timers run."""

    async def test_in_the_context_of_running(self) -> None:
        """M3: Work runs in the context of running(), not in that of a sender or of `register`."""
        where = ContextVar("where", default="nowhere")
        seen: list[tuple[str, str]] = []

        async def work(component: Component) -> None:
            seen.append((component.name, where.get()))
            where.set("work")
            await checkpoint()

        def note(message: dict[str, Any], component: Component) -> None:
            seen.append((message["type"], where.get()))

        machine = StateMachine(
            "a",
            [
                Transition("a", "go", "b"),
                Transition("b", "late", "c", action=note),
                Transition("c", "done", "a", action=note),
            ],
            states=[
                State("b", after=(1e-9, "late")),
                State("c", during=work, done="done"),
            ],
        )
        engine = Engine()
        where.set("running")
        async with engine.running():
            where.set("sender")
            await engine.register(Component("x", machine=machine))
            await engine.send("x", GO)
            with fail_after(PATIENCE):
                while engine.components["x"].state != "a":
                    await checkpoint()
            assert where.get() == "sender"
        assert seen == [("late", "running"), ("x", "running"), ("done", "running")]


class TestNotRunning:
    """Outside of running()."""

    def machine(self, lines: list[str], **parts: Any) -> StateMachine:
        """Make a machine whose target takes time."""

        def noting(name: str) -> Any:
            def note(*_: object) -> bool:
                lines.append(name)
                return name != "refusal"

            return note

        return StateMachine(
            "left",
            [
                Transition("left", "go", "over", guard=noting("refusal")),
                Transition("left", "go", "timed", guard=noting("guard"), action=noting("action")),
                Transition("left", "plain", "over"),
                Transition("timed", "late", "over"),
            ],
            states=[
                State("left", exit=noting("exit")),
                State("timed", entry=noting("entry"), **parts),
            ],
        )

    @pytest.mark.parametrize("parts", [{"after": (9, "late")}, {"during": wait}])
    @pytest.mark.parametrize("hosted", [False, True])
    async def test_a_state_that_takes_time_is_not_entered(
        self, *, hosted: bool, parts: dict[str, Any]
    ) -> None:
        """M4: EngineNotRunning, after the guard and before anything else; without an engine too."""
        lines: list[str] = []
        component = Component("a", machine=self.machine(lines, **parts))
        diary = Diary()
        if hosted:
            engine = Engine()
            await engine.register(component)
            await diary.keep(engine.bus)
            send: Callable[[Any], Any] = partial(engine.send, "a")
        else:
            send = component.handle_message
        with pytest.raises(EngineNotRunning) as caught:
            await send(GO)
        assert (caught.value.name, caught.value.state) == ("a", "timed")
        assert "component 'a' can't enter state 'timed'" in str(caught.value)
        assert (lines, component.state) == (["refusal", "guard"], "left")
        assert diary.lines == (["a go"] if hosted else [])
        assert await send({"type": "plain"}) is Outcome.TRANSITIONED
        assert component.state == "over"

    async def test_a_state_without_is_entered(self) -> None:
        """M4: entry and exit need no running engine."""
        lines: list[str] = []
        component = Component("a", machine=self.machine(lines))
        assert await component.handle_message(GO) is Outcome.TRANSITIONED
        assert lines == ["refusal", "guard", "exit", "action", "entry"]

    async def test_work_is_not_ended_by_what_is_refused(self) -> None:
        """M4: While running() is being left, it is refused before the source's work has ended."""
        engine, gate = Engine(), Gate()
        worker = await Worker(engine, Shielded(gate)).register()

        async def send() -> None:
            await gate.reached.wait()
            with pytest.raises(EngineNotRunning):
                await worker.send("again")
            assert not gate.passed
            gate.open.set()

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(send)
                async with engine.running():
                    await settle()

    async def test_unregistered_components_are_refused_too(self) -> None:
        """M4: A component that has left its running engine refuses to enter a state with work."""
        engine = Engine()
        worker = await Worker(engine, wait).register()
        async with engine.running():
            await engine.unregister("a")
            with pytest.raises(EngineNotRunning):
                await worker.component.handle_message({"type": "again"})

    @pytest.mark.unmeasured
    def test_a_store_is_asked_each_second_of_virtual_time_too(
        self, backend: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """M4: With a store hours can be explored, not days; without one any time."""
        monkeypatch.setattr("flexiflow.testing._scheduling.run.MOST_TURNS", 1_000)

        async def run_for(seconds: float, store: Any) -> None:
            engine = Engine(component_factory=Component, store=store)
            async with engine.running():
                await sleep(seconds)

        for seconds, store in ((320.0, MemoryStateStore()), (864_000.0, None)):
            run_clocked(partial(run_for, seconds, store), backend)
        with pytest.raises(ScenarioStuck):
            run_clocked(partial(run_for, 864.0, MemoryStateStore()), backend)

    @pytest.mark.unmeasured
    def test_time_is_virtual_under_explore(self, backend: str) -> None:
        """M4: A day passes at once, also for times that are stored as time of day."""
        store = DictStore()

        async def scenario() -> None:
            scene = Scene()
            await scene.set()
            engine = Engine(store=store)
            machine = StateMachine(
                "a",
                [Transition("a", "late", "b"), Transition("b", "go", "a")],
                states=[State("a", after=(3600, "late"))],
            )
            component = Component("c", machine=machine)
            await engine.register(component)
            async with engine.running():
                begun = anyio.current_time()
                await sleep(3599)
                assert store.kept["c"].due == pytest.approx(begun + 3600)
                assert component.state == "a"
                await sleep(2)
                assert component.state == "b"

        run_clocked(scenario, backend)


@pytest.fixture
def _uncollected(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Let reference counts alone free what is freed."""
    monkeypatch.setattr(logging.getLogger("flexiflow"), "disabled", True)
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Thing:
    """Something that can be seen to be freed."""


def hurl(kind: type[BaseException], seen: list[Any]) -> NoReturn:
    """Raise what is watched."""
    error = kind()
    seen.append(weakref.ref(error))
    try:
        raise error
    finally:
        del error


async def bring(kind: str, seen: list[Any], _: object) -> object:
    """Work, and bring something that is watched."""
    thing = Thing()
    seen.append(weakref.ref(thing))
    await checkpoint()
    if kind == "result":
        return thing
    try:
        if kind == "cleanup":
            await sleep_forever()
    finally:
        hurl(Fatal if kind == "interrupt" else Boom, seen)


@pytest.mark.usefixtures("_uncollected")
class TestFreed:
    """What is kept: nothing (B6)."""

    async def kept(self, use: Callable[[list[Any]], Coroutine[Any, Any, object]]) -> list[object]:
        """Give what is still there of what was watched."""
        seen: list[Any] = []
        with fail_after(PATIENCE):
            await use(seen)
            await settle()
        return [each for each in (ref() for ref in seen) if each is not None]

    @pytest.mark.parametrize("gone", ["first", "afterwards"])
    async def test_of_a_component_with_timer_and_work(self, gone: str) -> None:
        """B6, M3: A component is freed that was unregistered in running(), or after it."""
        machine = StateMachine(
            "a",
            [Transition("a", "late", "b")],
            states=[State("a", after=(1e6, "late"), during=wait)],
        )

        async def use(seen: list[Any]) -> None:
            engine = Engine()
            component = Component("a", machine=machine)
            seen.append(weakref.ref(component))
            await engine.register(component)
            del component
            running = engine.running()
            await running.__aenter__()
            await settle()
            if gone == "first":
                await engine.unregister("a")
                await settle()
                assert [each() for each in seen] == [None]
            await running.__aexit__(None, None, None)
            if gone == "afterwards":
                await engine.unregister("a")

        assert await self.kept(use) == []

    @pytest.mark.parametrize("kind", ["result", "failure", "cleanup", "reported", "interrupt"])
    async def test_of_what_work_has_brought(self, kind: str) -> None:
        """B6, M3: Results, exceptions and their frames are gone once they are handled."""

        async def use(seen: list[Any]) -> None:
            engine = Engine()
            work = partial(bring, kind, seen)
            worker = await Worker(engine, work, told=kind in ("result", "failure")).register()
            try:
                async with engine.running():
                    await settle()
                    if kind == "cleanup":
                        await worker.send("stop")
                    worker.messages.clear()
                    await settle()
                    assert [each() for each in seen if each() is not None] == []
            except Fatal:
                assert kind == "interrupt"

        assert await self.kept(use) == []

    async def test_of_a_failing_message(self) -> None:
        """B6, M2, M3: A failed message that nobody waits for is freed, and so is its failure."""

        async def use(seen: list[Any]) -> None:
            async def work(component: object) -> None:
                thing = Thing()
                seen.append(weakref.ref(thing))
                await worker.send("note", thing=thing)
                await sleep_forever()

            def fail(message: object, component: object) -> None:
                hurl(Boom, seen)

            engine = Engine()
            worker = await Worker(engine, work, act=fail).register()
            async with engine.running():
                await settle()
                await engine.unregister("a")
                await settle()
                assert len(seen) == 2
                assert [each() for each in seen if each() is not None] == []

        assert await self.kept(use) == []

    async def test_of_an_exception_that_leaves_the_block(self) -> None:
        """B6, M4: An exception that leaves the block is freed, with its frames."""

        async def use(seen: list[Any]) -> None:
            engine = Engine()
            await Worker(engine, wait).register()
            try:
                async with engine.running():
                    await settle()
                    hurl(Boom, seen)
            except Boom:
                pass

        assert await self.kept(use) == []
