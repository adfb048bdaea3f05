"""Waits for the end of a work that lead back to themselves: none is for ever (M3, C4).

Each scenario runs under hundreds of schedules. One that hangs is `ScenarioStuck`.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from anyio import CancelScope, Event, create_task_group, fail_after, sleep, sleep_forever
from anyio.lowlevel import checkpoint

from flexiflow import (
    Component,
    ComponentError,
    Engine,
    EngineNotRunning,
    LimitDeadlock,
    Outcome,
    StateMachine,
    Transition,
    UnknownComponent,
)
from flexiflow._component import actor_of
from flexiflow.testing import explore
from tests.components.lasting import Worker
from tests.helpers import PATIENCE, settle
from tests.hosting import Gate

pytestmark = pytest.mark.same_everywhere

Do = Callable[[], Coroutine[Any, Any, object]]

each_moment = pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
"""Whether the work waits at once, or when it is cancelled; in a shield."""


class Ring:
    """An engine, the workers in it, and what became of the sends.

    Attributes:
        outcomes: those of the sends, by the name under which they were made.
    """

    def __init__(self) -> None:
        self.machine = StateMachine("x", [Transition("x", "do", None, action=self._do)])
        self.engine = Engine(component_factory=self._make)
        self.outcomes: dict[str, object] = {}
        self.factory: Do | None = None

    async def worker(self, name: str, wait: Do, *, late: bool, act: Any = None) -> Worker:
        """Register a worker that waits in a shield."""

        async def work(component: object) -> None:
            if late:
                try:
                    await sleep_forever()
                finally:
                    with CancelScope(shield=True):
                        await wait()
            else:
                with CancelScope(shield=True):
                    await wait()
                await sleep_forever()

        return await Worker(self.engine, work, name=name, act=act).register()

    async def helper(self, name: str) -> None:
        """Register a component that does what its messages say."""
        await self.engine.register(Component(name, machine=self.machine))

    async def send(self, label: str, name: str, trigger: str = "do", **more: object) -> None:
        """Send, and note the outcome or the failure."""
        try:
            message = {"type": trigger, **more}
            self.outcomes[label] = await self.engine.send(name, message)
        except Exception as exc:  # noqa: BLE001  it is noted
            self.outcomes[label] = type(exc)

    async def unregister(self, label: str, name: str) -> None:
        """Unregister, and note that."""
        try:
            await self.engine.unregister(name)
            self.outcomes[label] = "gone"
        except UnknownComponent:
            self.outcomes[label] = "unknown"

    async def run(self, *functions: Do) -> None:
        """Run functions at the same time, while the engine runs."""
        async with self.engine.running():
            async with create_task_group() as group:
                for function in functions:
                    group.start_soon(function)
            # In virtual time: until nothing moves.
            await sleep(1)

    def state(self, name: str = "a") -> str | None:
        """Give the state of a component."""
        return self.engine.components[name].state

    async def _do(self, message: dict[str, Any], component: object) -> None:
        if "do" in message:
            await message["do"]()

    async def _make(self, name: str) -> Component:
        if self.factory is not None:
            await self.factory()
        return Component(name, machine=self.machine)


@pytest.mark.parametrize("through", ["directly", "deferred"])
async def test_a_ring_of_two_works(through: str) -> None:
    """M3: A message in hand that can end no work is put off: DEFERRED, and handled later."""
    ring, gate = Ring(), Gate()

    async def stop(message: dict[str, Any], component: Component) -> None:
        if message["type"] == "note":
            await ring.send("own", component.name, "stop")

    async def send(own: str, other: str) -> None:
        await gate()
        await ring.send(own, other, "stop" if through == "directly" else "note")

    for own, other in ("ab", "ba"):
        await ring.worker(own, partial(send, own, other), late=False, act=stop)
    with fail_after(PATIENCE):
        async with ring.engine.running():
            await settle()
            gate.open.set()
            await settle()
            assert (ring.state("a"), ring.state("b")) == ("idle", "idle")
    if through == "directly":
        sent = {ring.outcomes["a"], ring.outcomes["b"]}
        assert sent == {Outcome.TRANSITIONED, Outcome.DEFERRED}


async def test_a_ring_of_two_works_that_are_cancelled_with_running() -> None:
    """M3, M4: While running() is left no message can be put off, so it fails."""
    ring = Ring()
    await ring.worker("a", partial(ring.send, "a", "b", "stop"), late=True)
    await ring.worker("b", partial(ring.send, "b", "a", "stop"), late=True)
    with fail_after(PATIENCE):
        async with ring.engine.running():
            await settle()
    assert set(ring.outcomes.values()) == {Outcome.TRANSITIONED, EngineNotRunning}


def explored(scenario: Do, backend: str, schedules: int = 100) -> None:
    """Explore."""
    explore(scenario, backend=backend, schedules=schedules, seed=1)


@pytest.mark.unmeasured
@each_moment
@pytest.mark.parametrize("length", [1, 2])
def test_through_another_component(backend: str, length: int, *, late: bool) -> None:
    """M3, C4: The work waits in line for a component whose message in hand waits for its own."""
    seen: set[object] = set()

    async def scenario() -> None:
        ring = Ring()
        worker = await ring.worker("a", partial(ring.send, "work", "b"), late=late)
        for name in ("b", "c"):
            await ring.helper(name)
        back: Do = partial(ring.send, "back", "a", "note", n=1)
        if length == 2:
            back = partial(ring.send, "on", "c", do=back)
        await ring.run(partial(ring.send, "s", "b", do=back), partial(ring.send, "t", "a", "stop"))
        assert ring.state() == "idle"
        assert worker.numbers() == [1]
        assert ring.outcomes.pop("t") is Outcome.TRANSITIONED
        assert ring.outcomes.pop("s") is Outcome.TRANSITIONED
        assert set(ring.outcomes.values()) <= {Outcome.TRANSITIONED, Outcome.DEFERRED}
        seen.add(ring.outcomes["work"])
        seen.add(ring.outcomes["back"])

    explored(scenario, backend)
    assert seen == {Outcome.TRANSITIONED, Outcome.DEFERRED}


@pytest.mark.unmeasured
@each_moment
def test_through_a_limited_handler(backend: str, *, late: bool) -> None:
    """M3, V2: The call that waits for a place, or would, fails with LimitDeadlock."""
    seen: set[object] = set()

    async def scenario() -> None:
        ring = Ring()

        async def publish() -> None:
            failures = await ring.engine.bus.publish("pick", "work")
            seen.update(type(each.exception) for each in failures)

        async def pick(sender: str) -> None:
            if sender != "work":
                await ring.send("back", "a", "note", n=1)

        worker = await ring.worker("a", publish, late=late)
        await ring.engine.bus.subscribe("pick", "picker", pick, limit=1)
        await ring.run(
            partial(ring.engine.bus.publish, "pick", "other"), partial(ring.send, "t", "a", "stop")
        )
        assert (ring.state(), worker.numbers()) == ("idle", [1])
        seen.add(ring.outcomes["back"])

    explored(scenario, backend)
    assert seen <= {LimitDeadlock, Outcome.TRANSITIONED, Outcome.DEFERRED}
    assert seen >= {LimitDeadlock}


@pytest.mark.unmeasured
@each_moment
def test_through_two_works(backend: str, *, late: bool) -> None:
    """M3: Each work ends the other one, in a shield: one message is put off, and handled."""
    seen: set[object] = set()

    async def scenario() -> None:
        ring = Ring()
        await ring.worker("a", partial(ring.send, "a", "b", "stop"), late=late)
        await ring.worker("b", partial(ring.send, "b", "a", "stop"), late=late)
        await ring.run(partial(ring.send, "t", "a", "stop"), partial(ring.send, "t2", "b", "note"))
        assert (ring.state("a"), ring.state("b")) == ("idle", "idle")
        seen.update(ring.outcomes.values())

    explored(scenario, backend)
    assert Outcome.TRANSITIONED in seen
    assert seen <= {Outcome.TRANSITIONED, Outcome.DEFERRED, Outcome.IGNORED}


@pytest.mark.unmeasured
def test_through_three_works(backend: str) -> None:
    """M3: Three works, each of which sends what ends the next one, all come to an end."""

    async def scenario() -> None:
        ring = Ring()
        for name, other in ("ab", "bc", "ca"):
            await ring.worker(name, partial(ring.send, name, other, "stop"), late=False)
        await ring.run()
        assert {ring.state(name) for name in "abc"} == {"idle"}

    explored(scenario, backend)


@pytest.mark.unmeasured
@each_moment
def test_through_two_works_while_running_is_left(backend: str, *, late: bool) -> None:
    """M3, M4: Leaving running() comes to its end; what can't be handled fails."""
    seen: set[object] = set()

    async def scenario() -> None:
        ring = Ring()
        await ring.worker("a", partial(ring.send, "a", "b", "stop"), late=late)
        await ring.worker("b", partial(ring.send, "b", "a", "stop"), late=late)
        async with ring.engine.running():
            await checkpoint()
        seen.update(ring.outcomes.values())

    explored(scenario, backend)
    assert seen <= {Outcome.TRANSITIONED, Outcome.DEFERRED, Outcome.IGNORED, EngineNotRunning}


@pytest.mark.unmeasured
@each_moment
def test_through_an_admission(backend: str, *, late: bool) -> None:
    """M3, C2: The work waits for a component whose factory sends to the work's own component."""
    seen: set[object] = set()

    async def scenario() -> None:
        ring = Ring()
        ring.factory = partial(ring.send, "back", "a", "note", n=1)
        await ring.worker("a", partial(ring.send, "work", "made"), late=late)
        await ring.run(partial(ring.send, "s", "made"), partial(ring.send, "t", "a", "stop"))
        assert ring.state() == "idle"
        assert ring.outcomes["t"] is Outcome.TRANSITIONED
        assert ring.outcomes["s"] is Outcome.TRANSITIONED
        seen.update((ring.outcomes["work"], ring.outcomes["back"]))

    explored(scenario, backend)
    # The first message of a component that does not exist yet can't be deferred (C2).
    assert seen <= {Outcome.TRANSITIONED, Outcome.DEFERRED, ComponentError}
    assert Outcome.DEFERRED in seen


@pytest.mark.unmeasured
@each_moment
@pytest.mark.parametrize("way", ["elsewhere", "handler", "work"])
def test_through_unregistering(backend: str, way: str, *, late: bool) -> None:
    """M3: `unregister` returns, called from elsewhere, by a handler or by the work that it ends."""

    async def scenario() -> None:
        ring = Ring()
        unregister = partial(ring.unregister, "u", "a")
        do = unregister if way == "work" else checkpoint
        await ring.worker("a", partial(ring.send, "work", "b", do=do), late=late)
        await ring.helper("b")
        if way == "elsewhere":
            others = [unregister]
        else:
            others = [partial(ring.send, "s", "b", do=unregister)]
        await ring.run(*others, partial(ring.send, "t", "a", "stop"))
        assert ring.outcomes.get("u") == "gone" or way == "work"
        assert ring.outcomes.get("s", Outcome.TRANSITIONED) is Outcome.TRANSITIONED
        if "work" in ring.outcomes:
            assert ring.outcomes["work"] in (Outcome.TRANSITIONED, Outcome.DEFERRED)

    explored(scenario, backend)


@pytest.mark.unmeasured
@pytest.mark.parametrize("other", ["unregister", "stop", "again"])
@each_moment
def test_through_a_work_that_unregisters(backend: str, other: str, *, late: bool) -> None:
    """M3: Two works, of which one unregisters the other one, which waits for it in return."""

    async def scenario() -> None:
        ring = Ring()
        await ring.worker("a", partial(ring.unregister, "a", "b"), late=late)
        back: Do = partial(ring.unregister, "b", "a")
        if other != "unregister":
            back = partial(ring.send, "b", "a", other)
        await ring.worker("b", back, late=late)
        if late:
            await ring.run(partial(ring.send, "t", "a", "stop"))
        else:
            await ring.run()
        assert "b" not in ring.engine.components

    explored(scenario, backend)


@pytest.mark.unmeasured
def test_a_line_of_waits_that_is_no_ring_is_left_alone(backend: str) -> None:
    """M3: Only what is in a ring is given up: the work waits for its turn, in order."""

    async def scenario() -> None:
        ring = Ring()
        order: list[str] = []

        async def note(label: str) -> None:
            await checkpoint()
            order.append(label)

        async def work() -> None:
            await ring.send("work", "b", do=partial(note, "work"))

        await ring.worker("a", work, late=False)
        await ring.helper("b")
        await ring.helper("c")
        await ring.run(
            partial(ring.send, "s", "b", do=partial(ring.send, "on", "c", do=checkpoint)),
            partial(ring.send, "s2", "b", do=partial(note, "s2")),
            partial(ring.send, "t", "a", "stop"),
        )
        assert set(ring.outcomes.values()) == {Outcome.TRANSITIONED}
        assert sorted(order) == ["s2", "work"]

    explored(scenario, backend)


async def test_a_ring_that_the_last_send_closes() -> None:
    """M3: A send that would wait for the transition is DEFERRED, as it waits for the work."""
    ring = Ring()
    gate, may_send = Gate(), Event()

    async def wait() -> None:
        await may_send.wait()
        await ring.send("work", "b", do=handled)

    async def back() -> None:
        await gate()
        await ring.send("back", "a", "note", n=1)

    order: list[str] = []

    async def handled() -> None:
        order.append("work's message")

    worker = await ring.worker("a", wait, late=False)
    await ring.helper("b")
    with fail_after(PATIENCE):
        async with ring.engine.running(), create_task_group() as group:
            group.start_soon(partial(ring.send, "s", "b", do=back))
            await gate.reached.wait()
            may_send.set()
            await settle()
            group.start_soon(partial(ring.send, "t", "a", "stop"))
            await settle()
            # It waits for the work, and that for "b", whose handling may still go on.
            assert ring.outcomes == {}
            gate.open.set()
            await settle()
    assert ring.outcomes["work"] is Outcome.TRANSITIONED
    assert ring.outcomes["back"] is Outcome.DEFERRED
    assert (worker.numbers(), order, ring.state()) == ([1], ["work's message"], "idle")


async def test_a_ring_that_the_transition_closes() -> None:
    """M3: The send of the work, which is in line already, is DEFERRED; "b" waits on."""
    ring = Ring()
    guard, may_send, order = Gate(result=True), Event(), list[str]()

    async def wait() -> None:
        await may_send.wait()
        await ring.send("work", "b", do=handled)

    async def handled() -> None:
        order.append("work's message")

    worker = await ring.worker("a", wait, late=False)
    machine = StateMachine(
        "busy",
        [
            Transition("busy", "stop", "idle", guard=guard),
            Transition("*", "note", None, action=worker._note),
        ],
        states=list(worker.component.machine.details.values()),  # type: ignore[union-attr]
    )
    await ring.engine.unregister("a")
    await ring.engine.register(Component("a", machine=machine))
    await ring.helper("b")
    with fail_after(PATIENCE):
        async with create_task_group() as group, ring.engine.running():
            back = partial(ring.send, "back", "a", "note", n=1)
            guarded = partial(ring.send, "t", "a", "stop")
            group.start_soon(guarded)
            await guard.reached.wait()
            group.start_soon(partial(ring.send, "s", "b", do=back))
            await settle()
            may_send.set()
            await settle()
            guard.open.set()
            await settle()
    assert ring.outcomes["t"] is Outcome.TRANSITIONED
    assert ring.outcomes["back"] is Outcome.TRANSITIONED
    assert ring.outcomes["work"] is Outcome.DEFERRED
    assert (worker.numbers(), order) == ([1], ["work's message"])


async def test_a_line_that_is_free_again_is_joined() -> None:
    """M3, C4: A wait that was given up takes its turn if what it waited for has ended since."""
    component = Component("a", machine=StateMachine("x", [Transition("x", "note", None)]))
    actor = actor_of(component)
    first, second = actor.mailbox.join(), actor.mailbox.join()
    second.give_up()
    first.end()
    outcome = await actor.handle(component, {"type": "note"}, None, second)
    assert (outcome, actor.mailbox.holder) == (Outcome.TRANSITIONED, None)
