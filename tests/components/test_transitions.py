"""The order of a transition between states with parts, and what is left of one that fails (M1)."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from anyio import CancelScope, Event, create_task_group, fail_after, sleep, sleep_forever
from anyio.lowlevel import checkpoint

from flexiflow import Component, Outcome, State, StateMachine, Transition
from flexiflow.events import STATE_CHANGED
from flexiflow.testing import cancel_everywhere
from tests.accounting import Boom, Fatal
from tests.attacks import kept_cancellation
from tests.components.lasting import PARTS, Scene
from tests.helpers import PATIENCE, settle
from tests.hosting import GO, Gate, run_clocked

each_kind = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])

WHOLE = [
    "a go",
    "guard",
    "work of left ends",
    "exit",
    "action",
    "entry",
    "save",
    "a left entered",
    "work of entered begins",
]
"""All of a transition."""


async def begun(scene: Scene) -> None:
    """Wait until the work has begun, and forget what was told so far."""
    await settle()
    scene.take_lines()


@asynccontextmanager
async def at_work(scene: Scene) -> AsyncGenerator[Scene]:
    """Run a scene's engine, with the component registered and its work begun."""
    await scene.set()
    with fail_after(PATIENCE):
        async with scene.engine.running():
            await begun(scene)
            yield scene


class TestOrder:
    """What happens, one after another."""

    @each_kind
    async def test_of_a_transition_with_all_parts(self, *, asynchronous: bool) -> None:
        """M1: Guard, end of work, exit, action, entry, save, commit, state.changed, new work."""
        async with at_work(Scene(asynchronous=asynchronous)) as scene:
            assert await scene.engine.send("a", GO) is Outcome.TRANSITIONED
            await settle()
            assert scene.take_lines() == WHOLE
            assert scene.store.kept["a"].state == scene.component.state == "entered"

    @each_kind
    async def test_the_state_changes_between_save_and_announcement(
        self, *, asynchronous: bool
    ) -> None:
        """M1: Until it is saved the component is in the source, when announced in the target."""
        scene = Scene(asynchronous=asynchronous)
        states: list[object] = []
        note = scene._note

        def noting(name: str) -> bool:
            states.append(scene.component.state)
            return note(name)

        scene._note = noting  # type: ignore[method-assign]
        await scene.set()
        await scene.engine.bus.subscribe(
            STATE_CHANGED, "observer", lambda _: states.append(scene.component.state)
        )
        async with scene.engine.running():
            await begun(scene)
            states.clear()
            await scene.engine.send("a", GO)
            assert states == ["left"] * 5 + ["entered"]

    @each_kind
    async def test_a_state_to_itself_runs_both_and_begins_anew(self, *, asynchronous: bool) -> None:
        """M1: A transition from a state to itself is one like any other; the work is begun anew."""
        async with at_work(Scene(asynchronous=asynchronous)) as scene:
            await scene.engine.send("a", {"type": "again"})
            await settle()
            assert scene.take_lines() == [
                "a again",
                *WHOLE[1:7],
                "a left left",
                "work of left begins",
            ]

    @each_kind
    async def test_an_internal_transition_runs_neither(self, *, asynchronous: bool) -> None:
        """M1, K3: Guard, action and save; no exit, no entry, and the work goes on."""
        async with at_work(Scene(asynchronous=asynchronous)) as scene:
            assert await scene.engine.send("a", {"type": "note"}) is Outcome.TRANSITIONED
            await settle()
            assert scene.take_lines() == ["a note", "guard", "action", "save"]

    async def test_the_start_state_is_not_entered(self) -> None:
        """M1, M3: Its work begins, without entry, and nothing is announced."""
        scene = Scene()
        await scene.set()
        async with scene.engine.running():
            await settle()
            assert "entry" not in scene.lines
            assert "work of left begins" in scene.lines

    @each_kind
    async def test_without_a_store_nothing_else_changes(self, *, asynchronous: bool) -> None:
        """M1: The order is the same where nothing is saved."""
        async with at_work(Scene(asynchronous=asynchronous, stored=False)) as scene:
            await scene.engine.send("a", GO)
            await settle()
            assert scene.take_lines() == [line for line in WHOLE if line != "save"]

    async def test_parts_get_the_message_and_the_component(self) -> None:
        """M1: exit and entry take (message, component), as guard and action do."""
        given: list[tuple[object, object]] = []

        def take(message: dict[str, Any], component: Component) -> None:
            given.append((message, component))

        machine = StateMachine(
            "a",
            [Transition("a", "go", "b", action=take)],
            states=[State("a", exit=take), State("b", entry=take)],
        )
        component = Component("c", machine=machine)
        await component.handle_message({"type": "go", "n": 1})
        assert given == [({"type": "go", "n": 1}, component)] * 3

    async def test_a_final_state_takes_nothing(self) -> None:
        """M1: Messages to a component in a final state are ignored, those of "*" too."""
        async with at_work(Scene(stored=False)) as scene:
            await scene.engine.send("a", {"type": "late"})
            assert scene.component.state == "over"
            assert await scene.engine.send("a", {"type": "note"}) is Outcome.IGNORED
            await settle()
            assert not any("begins" in line for line in scene.lines)

    async def test_a_refusing_guard_ends_no_work(self) -> None:
        """M1: The work ends after the guard; a message that is ignored leaves it alone."""
        async with at_work(Scene()) as scene:
            scene.blows["guard"] = Boom()
            with pytest.raises(Boom):
                await scene.engine.send("a", GO)
            assert await scene.engine.send("a", {"type": "back"}) is Outcome.IGNORED
            await settle()
            assert scene.take_lines() == ["a go", "guard", "a back"]


class TestFailures:
    """Where a part fails."""

    @each_kind
    @pytest.mark.parametrize("part", PARTS[1:])
    async def test_leave_the_state_as_it_was(self, part: str, *, asynchronous: bool) -> None:
        """M1, C6: The failure leaves send bare; state as it was, no state.changed, work anew."""
        async with at_work(Scene(asynchronous=asynchronous)) as scene:
            boom = scene.blows[part] = Boom()
            with pytest.raises(Boom) as caught:
                await scene.engine.send("a", GO)
            assert caught.value is boom
            await settle()
            assert scene.component.state == "left"
            ran = WHOLE[: WHOLE.index(part) + 1]
            assert scene.take_lines()[: len(ran) + 1] == [*ran, "work of left begins"]

    @each_kind
    @pytest.mark.parametrize("part", PARTS[1:])
    async def test_what_ran_runs_again_next_time(self, part: str, *, asynchronous: bool) -> None:
        """M1: Nothing is undone; the next message runs all parts."""
        async with at_work(Scene(asynchronous=asynchronous)) as scene:
            scene.blows[part] = Boom()
            with pytest.raises(Boom):
                await scene.engine.send("a", GO)
            scene.blows.clear()
            await begun(scene)
            await scene.engine.send("a", GO)
            await settle()
            assert scene.take_lines() == WHOLE

    @pytest.mark.unmeasured
    @pytest.mark.parametrize("part", PARTS[1:])
    def test_let_the_timer_run_on(self, part: str, backend: str) -> None:
        """M1, M2: The source's timer sends its trigger when it would have without the message."""

        async def scenario() -> None:
            scene = Scene()
            await scene.set()
            async with scene.engine.running():
                await sleep(40)
                scene.blows[part] = Boom()
                with pytest.raises(Boom):
                    await scene.engine.send("a", GO)
                scene.blows.clear()
                await sleep(19)
                assert scene.component.state == "left"
                await sleep(2)
                assert scene.component.state == "over"

        run_clocked(scenario, backend)

    @pytest.mark.parametrize("part", ["exit", "entry"])
    async def test_a_stray_cancellation_is_one(self, part: str) -> None:
        """M1, E6: A cancellation that nobody asked for is a failure of the part."""
        scene = Scene()
        scene.blows[part] = await kept_cancellation()
        async with at_work(scene):
            with pytest.raises(Exception, match="a cancellation left"):
                await scene.engine.send("a", GO)
            assert scene.component.state == "left"

    @pytest.mark.parametrize("part", ["exit", "entry"])
    async def test_what_is_no_exception_leaves_bare(self, part: str) -> None:
        """M1, E5: KeyboardInterrupt and the like leave the sender as they are; the work is anew."""
        scene = Scene()
        fatal = scene.blows[part] = Fatal()
        async with at_work(scene):
            with pytest.raises(Fatal) as caught:
                await scene.engine.send("a", GO)
            assert caught.value is fatal
            await settle()
            assert (scene.component.state, scene.lines[-1]) == ("left", "work of left begins")

    async def test_the_work_is_anew_only_when_the_old_one_has_ended(self) -> None:
        """M1: A transition that is cancelled while it waits for a shielded work leaves one work."""
        scene = Scene(stored=False)
        gate = Gate()
        entered = 0

        async def work() -> None:
            nonlocal entered
            entered += 1
            with CancelScope(shield=entered == 1):
                await gate()
            await sleep_forever()

        scene.work = work
        async with at_work(scene):
            with CancelScope() as scope:
                async with create_task_group() as group:
                    group.start_soon(scene.engine.send, "a", GO)
                    await settle()
                    scope.cancel()
            await settle()
            assert scene.take_lines() == ["a go", "guard"]
            gate.open.set()
            await settle()
            assert scene.take_lines() == ["work of left ends", "work of left begins"]

    async def test_a_second_message_may_end_the_work_that_the_first_could_not(self) -> None:
        """M1: The second message waits for the old work, which is not begun anew meanwhile."""
        scene = Scene(stored=False)
        gate = Gate()

        async def work() -> None:
            with CancelScope(shield=True):
                await gate()
            await sleep_forever()

        scene.work = work
        async with at_work(scene):
            async with create_task_group() as group:
                with CancelScope() as scope:
                    async with create_task_group() as inner:
                        inner.start_soon(scene.engine.send, "a", GO)
                        await settle()
                        scope.cancel()
                group.start_soon(scene.engine.send, "a", GO)
                await settle()
                gate.open.set()
            await settle()
            assert scene.take_lines()[-6:] == [line for line in WHOLE if line != "save"][2:]


class TestCommitted:
    """Once it is committed."""

    @pytest.mark.parametrize("kind", ["fails", "exits", "cancelled"])
    async def test_work_begins_whatever_becomes_of_an_observer(self, kind: str) -> None:
        """M1: A failure or an exit of an observer, or its cancellation, stops no work."""
        scene = Scene(stored=False)
        scope = CancelScope()

        async def observe(_: object) -> None:
            assert not any("begins" in line for line in scene.lines)
            if kind == "cancelled":
                scope.cancel()
                await checkpoint()
            raise Boom if kind == "fails" else Fatal

        await scene.set()
        await scene.engine.bus.subscribe(STATE_CHANGED, "observer", observe)
        async with scene.engine.running():
            await begun(scene)
            try:
                with scope:
                    await scene.engine.send("a", GO)
            except Fatal:
                assert kind == "exits"
            await settle()
            assert (scene.component.state, scene.lines[-1]) == ("entered", WHOLE[-1])

    async def test_nothing_begins_before_the_observers_have_ended(self) -> None:
        """M1: Work begins after the observers have ended, also of a component registered anew."""
        scene = Scene(stored=False)
        observing = Gate()
        await scene.set()
        await scene.engine.bus.subscribe(STATE_CHANGED, "observer", observing)

        async def run() -> None:
            async with scene.engine.running():
                await begun(scene)
                await scene.engine.send("a", GO)

        async def register_anew() -> None:
            await observing.reached.wait()
            await scene.engine.unregister("a")
            await scene.engine.register(scene.component)
            await settle()
            assert scene.lines[-2:] == ["a left entered", "a registered"]
            observing.open.set()

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(run)
                group.start_soon(register_anew)
        assert scene.lines[-2:] == ["work of entered begins", "work of entered ends"]


async def pass_time() -> None:
    """Let the work begin, in virtual time."""
    await sleep(1)


async def look(scene: Scene) -> str:
    """Check that a transition was taken or not, and return the state."""
    await pass_time()
    state = str(scene.component.state)
    assert scene.lines.count("a left entered") <= (state == "entered")
    begun = [line for line in scene.lines if "begins" in line or "ends" in line]
    assert begun[-1] == f"work of {state} begins"
    # One work at a time: each ends before the next one begins.
    assert [line.split()[3] for line in begun[:-1]] == ["begins", "ends"] * (len(begun) // 2)
    if scene.store.kept and state == "entered":
        assert scene.store.kept["a"].state == "entered"
    await sleep(61)
    assert scene.component.state == "over"
    return state


@pytest.mark.unmeasured
@pytest.mark.parametrize("style", ["scope", "native"])
@pytest.mark.parametrize("stored", [False, True], ids=["unstored", "stored"])
def test_cancelled_anywhere_it_is_all_or_nothing(backend: str, style: Any, *, stored: bool) -> None:
    """M1, C6: State as it was and the old work anew, or the new state with its work and timer."""
    if (backend, style) == ("trio", "native"):
        pytest.skip("only asyncio has native cancels")
    states: set[str] = set()

    async def host(scene: Scene, ready: Event, over: Event) -> None:
        with CancelScope(shield=True):
            async with scene.engine.running():
                ready.set()
                await over.wait()
                states.add(await look(scene))

    async def scenario() -> None:
        scene = Scene(stored=stored)
        ready, over = Event(), Event()
        async with create_task_group() as group:
            try:
                with CancelScope(shield=True):
                    await scene.set()
                    group.start_soon(host, scene, ready, over)
                    await ready.wait()
                    await pass_time()
                await scene.engine.send("a", GO)
            finally:
                over.set()

    assert cancel_everywhere(scenario, backend=backend, style=style) > 20
    assert states == {"left", "entered"}
