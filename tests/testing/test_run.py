"""One run under a schedule: which task goes next, virtual time, and how a run ends."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import CancelScope, Event, create_task_group, current_time, fail_after, sleep
from anyio.lowlevel import checkpoint

from flexiflow import EventBus
from flexiflow.testing import ScenarioStuck, TasksLeft, explore, replay
from flexiflow.testing._examiner.kit import Boom, Exit
from flexiflow.testing._scheduling.backends import run_on, run_scheduled
from flexiflow.testing._scheduling.run import MOST_TURNS, Run, current_run
from flexiflow.testing._scheduling.schedule import Decisions, Line, first_come
from tests.conftest import BACKENDS
from tests.helpers import run_at_once
from tests.testing import traces

each_ending = pytest.mark.parametrize("shield", [False, True])


def test_what_is_raised_on_purpose_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """P1: asyncio tells what a bus loses, but not the exceptions of the checkers' own programs."""

    async def lose() -> None:
        for exception in (Boom("h0"), BaseExceptionGroup("two", [Exit("h1")]), OSError("lost")):
            asyncio.get_running_loop().create_future().set_exception(exception)

    run_scheduled(lose, backend="asyncio")
    assert [str(record.exc_info and record.exc_info[1]) for record in caplog.records] == ["lost"]


@pytest.mark.parametrize("run", [explore, partial(replay, decisions=())])
def test_a_callback_can_not_run_a_scenario(run: Callable[..., object]) -> None:
    """P2: on asyncio a callback of a loop belongs to no task, and must not start a loop either."""

    async def scenario() -> None:
        """Do nothing."""

    def call(result: asyncio.Future[object]) -> None:
        try:
            result.set_result(run(scenario, backend="asyncio"))
        except Exception as exc:  # noqa: BLE001  it is raised below
            result.set_exception(exc)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[object] = loop.create_future()
        loop.call_soon(call, result)
        with fail_after(60):
            await result

    with pytest.raises(RuntimeError, match="runs event loops of its own, and one is running here"):
        asyncio.run(main())


class Walker:
    """What a line takes for a task."""


def leave_all(line: Line[str]) -> str:
    """Let everyone go, in a row."""
    return "".join(line.leave() for _ in range(len(line)))


def test_the_task_that_becomes_ready_first_goes_first() -> None:
    """P2: first come first served; of those of the same turn, the older goes first."""
    line: Line[str] = Line()
    walkers = [Walker(), Walker(), Walker()]
    for walker, name in zip(walkers, "abc", strict=True):
        line.join(walker, name)
    assert leave_all(line) == "abc"
    line.join(walkers[2], "c")
    line.join(walkers[0], "a")
    assert leave_all(line) == "ac"
    line.join(walkers[2], "c")
    line.turns += 1
    line.join(walkers[0], "a")
    assert leave_all(line) == "ca"


def test_who_goes_comes_after_those_whom_it_makes_ready() -> None:
    """P2: of those of one turn, the one whose turn it was comes last, however old it is."""
    line: Line[str] = Line()
    walkers = [Walker(), Walker(), Walker()]
    line.join(walkers[0], "a")
    assert line.leave() == "a"
    for walker, name in zip(walkers, "abc", strict=True):
        line.join(walker, name)
    assert leave_all(line) == "bca"


def test_who_dies_leaves_its_number_to_nobody() -> None:
    """P2: a task is told from every other, also from those that begin after another one's end."""
    line: Line[str] = Line()
    seen: list[Sequence[int]] = []

    def note(ready: Sequence[int]) -> int:
        seen.append(ready)
        return 0

    line.decide = note
    walkers = [Walker(), Walker()]
    line.join(walkers[0], "a")
    line.join(walkers[1], "b")
    assert leave_all(line) == "ab"
    del walkers[0]
    line.turns += 1
    late = Walker()
    line.join(late, "c")
    line.join(walkers[0], "b")
    assert leave_all(line) == "bc"
    assert seen == [[0, 1], [1, 2]]


def test_a_decision_counts_from_the_first_modulo_those_who_are_ready() -> None:
    """P2: each decision takes out one; with one ready, or none left, the first goes."""
    line: Line[str] = Line()
    line.decide = Decisions([1, 5, 1])
    alone = Walker()
    line.join(alone, "x")
    assert leave_all(line) == "x"
    walkers = [Walker() for _ in range(4)]
    for walker, name in zip(walkers, "abcd", strict=True):
        line.join(walker, name)
    assert leave_all(line) == "bdca"


async def four_tasks() -> str:
    """Let four tasks take three steps each, and tell in which order they did."""
    steps: list[str] = []

    async def walk(name: str) -> None:
        for _ in range(3):
            steps.append(name)
            await checkpoint()

    async with create_task_group() as group:
        for name in "abcd":
            group.start_soon(walk, name)
    return "".join(steps)


@pytest.mark.parametrize(
    ("decisions", "order"),
    [
        ((), "abcdabcdabcd"),
        ((0, 0), "abcdabcdabcd"),
        ((3, 2, 1), "dcbadcbadcba"),
        ((3, 3, 3), "dddabcabcabc"),
        ((0, 4 + 1), "acbdacbdacbd"),
    ],
)
def test_a_schedule_says_whose_turn_it_is(
    decisions: Sequence[int], order: str, backend: str
) -> None:
    """P2: the same decisions give the same order on every backend."""
    assert replay(four_tasks, backend=backend, decisions=decisions) == order


async def starting() -> list[str]:
    """Start three tasks, and then let them go."""
    steps: list[str] = []

    async def note(name: str) -> None:
        steps.append(name)

    async with create_task_group() as group:
        for name in "abc":
            group.start_soon(note, name)
        await checkpoint()
        steps.append("the one that started them")
    return steps


async def waking() -> list[str]:
    """Wake three tasks, and then let them go."""
    steps: list[str] = []
    gate = Event()

    async def note(name: str) -> None:
        await gate.wait()
        steps.append(name)

    async with create_task_group() as group:
        for name in "abc":
            group.start_soon(note, name)
        await anyio.wait_all_tasks_blocked()
        gate.set()
        await checkpoint()
        steps.append("the one that woke them")
    return steps


@pytest.mark.parametrize("scenario", [starting, waking])
def test_a_task_that_lets_others_go_comes_after_them(
    scenario: Callable[[], Awaitable[list[str]]], backend: str
) -> None:
    """P2: first come first served is what the backends do, where one yields to whom it started."""
    *others, last = replay(scenario, backend=backend, decisions=())
    assert (others, last[:7]) == (["a", "b", "c"], "the one")


def test_time_jumps_to_the_next_timer_when_all_wait(backend: str) -> None:
    """P2: the time is virtual, begins at 0, and no wait takes any."""

    async def scenario() -> list[float]:
        times = [current_time()]
        await sleep(86_400 * 365)
        times.append(current_time())
        with anyio.move_on_after(5):
            await anyio.sleep_forever()
        times.append(current_time())
        async with create_task_group() as group:
            group.start_soon(sleep, 2)
            group.start_soon(sleep, 1)
            await anyio.wait_all_tasks_blocked()
        times.append(round(current_time(), 6))
        return times

    year = 86_400 * 365
    found = run_scheduled(scenario, backend=backend)
    assert found[:3] == [0, year, year + 5]
    # How AnyIO waits for the others to be blocked takes some virtual time on asyncio.
    assert year + 7 <= found[3] < year + 8


def test_a_task_that_runs_stops_the_clock(backend: str) -> None:
    """P2: no time passes while any task is ready."""

    async def scenario() -> float:
        async def walk() -> None:
            for _ in range(100):
                await checkpoint()

        with anyio.move_on_after(0.000001) as scope:
            await walk()
        return current_time() if not scope.cancelled_caught else -1

    assert run_scheduled(scenario, backend=backend) == 0


@each_ending
def test_a_deadlock_is_an_error(backend: str, *, shield: bool) -> None:
    """P2: where every task waits without a timer, the run ends with an error that says so."""
    cleaned: list[str] = []

    async def wait() -> None:
        try:
            with CancelScope(shield=shield):
                await Event().wait()
        finally:
            cleaned.append("up")

    async def scenario() -> None:
        async with create_task_group() as group:
            group.start_soon(wait)
            group.start_soon(wait)

    with pytest.raises(ScenarioStuck, match="a deadlock, unless one waits for a thread"):
        run_scheduled(scenario, backend=backend)
    assert cleaned == ["up", "up"]


def test_to_sleep_forever_is_a_deadlock(backend: str) -> None:
    """P2: a timer that never comes is none."""
    with pytest.raises(ScenarioStuck, match="a deadlock"):
        run_scheduled(anyio.sleep_forever, backend=backend)


def test_a_deadlock_that_is_swallowed_is_told_all_the_same(backend: str) -> None:
    """P2: a scenario that puts up with being cancelled has been stuck nevertheless."""

    async def scenario() -> None:
        with suppress(anyio.get_cancelled_exc_class()):
            await Event().wait()

    with pytest.raises(ScenarioStuck) as caught:
        run_scheduled(scenario, backend=backend)
    assert caught.value.__cause__ is None


async def swallow(step: Callable[[], Awaitable[object]] = anyio.sleep_forever) -> None:
    """Go on whatever comes."""
    while True:
        try:
            await step()
        except BaseException:  # noqa: BLE001, S112  that is what is tried
            continue


async def swallow_below() -> None:
    """Fail while a task goes on whatever comes."""
    async with create_task_group() as group:
        group.start_soon(swallow)
        await checkpoint()
        raise LookupError


@pytest.mark.measured
@pytest.mark.parametrize(
    "scenario",
    [swallow, partial(swallow, checkpoint), swallow_below, partial(swallow, swallow_below)],
)
def test_a_run_that_cannot_be_ended_is_given_up(
    backend: str, monkeypatch: pytest.MonkeyPatch, scenario: Callable[[], Awaitable[None]]
) -> None:
    """P2: tasks that go on again and again, whatever comes, do not keep the run from its end."""
    monkeypatch.setattr("flexiflow.testing._scheduling.run.MOST_TURNS", 100)
    with pytest.raises(ScenarioStuck):
        replay(scenario, backend=backend, decisions=())


def test_a_system_task_that_goes_on_is_given_up_after_the_scenario() -> None:
    """P2: what a scenario raises leaves it, although a task that it left can't be ended."""
    trio = pytest.importorskip("trio", reason="trio is not installed")

    async def scenario() -> None:
        trio.lowlevel.spawn_system_task(swallow)
        await checkpoint()

    with pytest.raises(TasksLeft, match="swallow"):
        replay(scenario, backend="trio", decisions=())


def test_what_is_given_up_is_quiet_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: a scenario that was given up may be closed, as it is when Python ends."""
    on_trio = pytest.importorskip(
        "flexiflow.testing._scheduling.on_trio", reason="trio is not installed"
    )
    kept: list[Any] = []
    monkeypatch.setattr(on_trio, "_KEPT", kept)
    monkeypatch.setattr("flexiflow.testing._scheduling.run.MOST_TURNS", 100)
    is_over = False

    async def scenario() -> None:
        while not is_over:
            with suppress(BaseException):
                await anyio.sleep_forever()

    with pytest.raises(ScenarioStuck):
        run_scheduled(scenario, backend="trio")
    is_over = True
    (coroutine,) = kept
    coroutine.close()


@pytest.mark.same_everywhere
@pytest.mark.unmeasured
def test_what_is_given_up_does_not_keep_python_from_its_end() -> None:
    """P2: not even one that goes on where Python closes what is left of it."""
    pytest.importorskip("trio", reason="trio is not installed")
    code = """
from flexiflow.testing import ScenarioStuck, replay
from flexiflow.testing._scheduling import run
from tests.testing.test_run import swallow
run.MOST_TURNS = 100
try:
    replay(swallow, backend="trio", decisions=())
except ScenarioStuck:
    print("stuck")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, check=True)
    assert (ran.stdout, ran.stderr) == (b"stuck\n", b"")


def test_who_waits_for_a_thread_is_stuck(backend: str) -> None:
    """P2: a thread that ends only with the scenario is waited for, or left to itself."""
    gate = threading.Event()

    async def hold() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            gate.set()

    async def scenario() -> None:
        async with create_task_group() as group:
            group.start_soon(hold)
            await anyio.to_thread.run_sync(gate.wait)

    with pytest.raises(ScenarioStuck, match="unless one waits for a thread"):
        run_scheduled(scenario, backend=backend)


def test_trio_waits_for_a_thread_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: a thread that only ends when nothing else is left to abort is waited for in earnest."""
    on_trio = pytest.importorskip(
        "flexiflow.testing._scheduling.on_trio", reason="trio is not installed"
    )
    refuses, gate = on_trio._refuses, threading.Event()

    def end_it(task: object) -> bool:
        gate.set()
        answer: bool = refuses(task)
        return answer

    async def scenario() -> None:
        await anyio.to_thread.run_sync(gate.wait)

    monkeypatch.setattr(on_trio, "_refuses", end_it)
    with pytest.raises(ScenarioStuck, match="unless one waits for a thread"):
        run_scheduled(scenario, backend="trio")
    assert gate.is_set()


def test_a_thread_that_is_quick_may_be_in_time(backend: str) -> None:
    """P2: what waits for a thread ends well or as stuck, and in no other way."""
    with suppress(ScenarioStuck):
        run_scheduled(partial(anyio.to_thread.run_sync, int), backend=backend)


@each_ending
def test_a_loop_without_end_is_an_error(
    backend: str, monkeypatch: pytest.MonkeyPatch, *, shield: bool
) -> None:
    """P2: a scenario that goes on and on is ended, however it goes on."""
    monkeypatch.setattr("flexiflow.testing._scheduling.run.MOST_TURNS", 100)

    async def spin(step: Callable[[], Awaitable[object]]) -> None:
        with CancelScope(shield=shield):
            while True:
                await step()

    for step in (checkpoint, partial(sleep, 100)):
        with pytest.raises(ScenarioStuck, match="it goes on after 100 turns"):
            run_scheduled(partial(spin, step), backend=backend)
    assert MOST_TURNS == 100_000


def test_a_callback_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: a callback that calls itself again and again is no progress."""
    monkeypatch.setattr("flexiflow.testing._scheduling.run.MOST_TURNS", 100)

    def again() -> None:
        asyncio.get_running_loop().call_soon(again)

    async def scenario() -> None:
        again()
        await Event().wait()

    with pytest.raises(ScenarioStuck, match="it goes on after 100 turns"):
        run_scheduled(scenario, backend="asyncio")


def test_what_a_scenario_raises_leaves_as_it_is(backend: str) -> None:
    """P2: a replay returns what the scenario does, and raises the same exception object."""
    error = LookupError("the shelf is empty")

    async def scenario() -> None:
        await checkpoint()
        raise error

    with pytest.raises(LookupError) as caught:
        replay(scenario, backend=backend, decisions=())
    assert caught.value is error


def test_a_task_that_is_left_behind_is_an_error() -> None:
    """P4: no task outlives a scenario, however it was started."""
    tasks: list[asyncio.Task[None]] = []

    async def linger() -> None:
        await anyio.sleep_forever()

    async def scenario() -> None:
        tasks.append(asyncio.create_task(linger()))
        await checkpoint()

    with pytest.raises(TasksLeft, match=r"tasks are left behind: '.*linger'") as caught:
        run_scheduled(scenario, backend="asyncio")
    assert tasks[0].cancelled()
    assert caught.value.names[0].endswith("linger")


@pytest.mark.measured
def test_a_task_that_is_left_behind_need_not_end() -> None:
    """P4: one that goes on though it is cancelled is given up soon."""
    turns = 0

    async def linger() -> None:
        nonlocal turns
        while True:
            turns += 1
            with suppress(asyncio.CancelledError):
                await checkpoint()

    async def scenario() -> None:
        task = asyncio.create_task(linger())
        await checkpoint()
        assert not task.done()

    with pytest.raises(TasksLeft, match=r"tasks are left behind: '.*linger'"):
        run_scheduled(scenario, backend="asyncio")
    assert turns < 2_000


def test_a_system_task_of_trio_is_left_behind_too() -> None:
    """P4: what trio itself would cancel, once the scenario is over, is a task of the scenario's."""
    trio = pytest.importorskip("trio")

    async def linger() -> None:
        with CancelScope(shield=True):
            await sleep(60)

    async def scenario() -> None:
        trio.lowlevel.spawn_system_task(linger)

    with pytest.raises(TasksLeft, match=r"tasks are left behind: '.*linger'"):
        run_scheduled(scenario, backend="trio")


def test_a_schedule_ends_with_its_scenario(backend: str) -> None:
    """P2: what comes after the scenario's last turn is not decided any more."""
    decided: list[Sequence[int]] = []

    def last(ready: Sequence[int]) -> int:
        decided.append(ready)
        return -1

    run = Run(four_tasks, last)
    run_on(run, backend)
    assert decided
    assert run.line.decide is first_come


def test_generators_are_closed_in_virtual_time(backend: str) -> None:
    """P2: the cleanup of a generator that is left may sleep, although the scenario is over."""
    kept: list[AsyncGenerator[int]] = []
    slept: list[float] = []

    async def count() -> AsyncGenerator[int]:
        try:
            yield 1
        finally:
            with CancelScope(shield=True):
                await sleep(60)
                slept.append(current_time())

    async def scenario() -> None:
        kept.append(count())
        await anext(kept[0])

    run_scheduled(scenario, backend=backend)
    assert slept == [60]


def test_callbacks_of_asyncio_keep_their_places() -> None:
    """P2: only tasks change places; other callbacks are called in their order."""

    async def scenario() -> list[str]:
        calls: list[str] = []
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[None]] = []

        async def note(name: str) -> None:
            calls.append(name)

        def done(_: object) -> None:
            calls.append("done")

        for name in "abc":
            tasks.append(asyncio.create_task(note(name)))
            loop.call_soon(calls.append, name.upper())
        # A method of a task that is no step.
        loop.call_soon(tasks[0].add_done_callback, done)
        await asyncio.gather(*tasks)
        return calls

    replayed = partial(replay, scenario, backend="asyncio")
    assert replayed(decisions=()) == ["a", "A", "b", "B", "c", "C", "done"]
    assert replayed(decisions=(2, 1)) == ["c", "A", "b", "B", "a", "C", "done"]


@pytest.mark.parametrize(("buses_yield", "turns"), [(True, 2), (False, 0)])
def test_buses_yield_at_every_publish(backend: str, turns: int, *, buses_yield: bool) -> None:
    """P2: a bus that is made by a scenario lets others go on at each publish."""

    async def scenario() -> list[int]:
        bus = EventBus()
        counts = [0]

        async def count() -> None:
            while True:
                counts[0] += 1
                await checkpoint()

        async with create_task_group() as group:
            group.start_soon(count)
            await checkpoint()
            begun = counts[0]
            await bus.publish("a")
            await bus.publish("a")
            counts.append(counts[0] - begun)
            group.cancel_scope.cancel()
        return counts

    assert run_scheduled(scenario, backend=backend, buses_yield=buses_yield)[1] == turns


@pytest.mark.measured
def test_tasks_that_have_not_begun_are_ended_too(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: a scenario that starts ever more tasks is ended, whichever of them have begun."""

    async def scenario() -> None:
        with CancelScope(shield=True):
            async with create_task_group() as group:
                while True:
                    group.start_soon(checkpoint)
                    group.start_soon(checkpoint)
                    await checkpoint()

    for turns in (50, 51, 52):
        monkeypatch.setattr("flexiflow.testing._scheduling.run.MOST_TURNS", turns)
        with pytest.raises(ScenarioStuck, match=f"it goes on after {turns} turns"):
            run_scheduled(scenario, backend=backend)


async def test_buses_outside_yield_as_ever() -> None:
    """D6: what is explored changes no bus that is made elsewhere."""
    run_at_once(EventBus().publish("a"))


@pytest.mark.same_everywhere
@pytest.mark.unmeasured
@pytest.mark.parametrize(("hash_seed", "threshold"), [("0", "0"), ("4242", "5")])
def test_the_same_seed_gives_the_same_trace_in_another_process(
    hash_seed: str, threshold: str
) -> None:
    """P2: what a seed explores does not depend on hashes, addresses and garbage collection."""
    names = sorted({name for name, _ in BACKENDS.values()})
    finished = subprocess.run(
        [sys.executable, "-m", "tests.testing.traces", threshold, *names],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
    )
    assert finished.stdout.split() == [traces.digest(name) for name in names]


@pytest.mark.measured
async def test_a_fail_after_ends_what_would_be_a_deadlock(backend_name: str) -> None:
    """P2: a deadline is a timer, and fires at once."""

    async def scenario() -> None:
        with fail_after(3600):
            await Event().wait()

    with pytest.raises(TimeoutError):
        await anyio.to_thread.run_sync(partial(run_scheduled, scenario, backend=backend_name))


def test_asyncio_does_not_tell_of_what_ended_a_run(caplog: pytest.LogCaptureFixture) -> None:
    """P2: a task that had to be ended is told of once, by what is raised; all else is logged."""

    async def scenario() -> None:
        tell = asyncio.get_running_loop().call_exception_handler
        tell({"message": "a task was ended", "exception": ScenarioStuck("it goes on")})
        tell({"message": "a task failed", "exception": OSError()})

    run_scheduled(scenario, backend="asyncio")
    assert [record.message for record in caplog.records] == ["a task failed"]


def test_a_scenario_can_wait_until_nothing_can_happen(backend: str) -> None:
    """P2, P6: timers run out first; an event, or the number of the turn, ends the wait before."""
    seen: list[object] = []

    async def sleep(seconds: float, event: Event | None = None) -> None:
        await anyio.sleep(seconds)
        seen.append(seconds)
        if event is not None:
            event.set()

    async def spin() -> None:
        while True:
            await checkpoint()

    async def scenario() -> None:
        run = current_run.get()
        async with create_task_group() as group:
            over = Event()
            group.start_soon(sleep, 1.0, over)
            group.start_soon(sleep, 5.0)
            group.start_soon(anyio.sleep_forever)
            seen.append(await run.wait_until(over, 1_000))
            seen.append(await run.wait_until(Event(), 1_000))
            group.start_soon(spin)
            seen.append(await run.wait_until(Event(), 1_000))
            group.cancel_scope.cancel()

    replay(scenario, backend=backend, decisions=())
    assert seen == [1.0, True, 5.0, True, False]
