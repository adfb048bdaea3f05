"""Exploring: faults of order are found, shrunk and replayed, on every backend alike."""

import random
import re
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import permutations
from typing import Any

import anyio
import pytest
from anyio import Event, create_task_group
from anyio.lowlevel import checkpoint

from flexiflow.testing import Exploration, ScenarioStuck, ScheduleFailure, explore, replay
from flexiflow.testing._scheduling import checks
from flexiflow.testing._scheduling import search as shrinking
from flexiflow.testing._scheduling.search import Search, shrink
from tests.helpers import by_turns


async def each(count: int, step: Callable[[int], Coroutine[Any, Any, object]]) -> None:
    """Run so many tasks at once."""
    async with create_task_group() as group:
        for number in range(count):
            group.start_soon(step, number)


async def orders(tasks: int, steps: int, seen: Callable[[tuple[int, ...]], None]) -> None:
    """Let tasks take some steps each, and show the order of all steps."""
    order: list[int] = []

    async def walk(number: int) -> None:
        for _ in range(steps):
            order.append(number)
            await checkpoint()

    await each(tasks, walk)
    seen(tuple(order))


def forbid(order: tuple[int, ...], found: tuple[int, ...]) -> None:
    """Fail on one order."""
    assert found[: len(order)] != order


async def lost_update() -> None:
    """Read, wait, write: right under first come first served only if nobody comes in between."""
    total = 0

    async def add(_: int) -> None:
        nonlocal total
        before = total
        if before:
            await checkpoint()
        total = before + 1

    await each(3, add)
    assert total >= 2


def run_all(search: Search, scenario: Callable[[Search], object], most: int) -> int:
    """Run schedules of a scenario that needs no loop, and count them."""
    for run in range(1, most + 1):
        scenario(search)
        search.next()
        if search.is_exhausted:
            return run
    return most


def test_a_search_runs_every_schedule_once_and_ends() -> None:
    """P2: of 4 tasks with 2 steps each there are 2,520 orders, each of them run once."""
    found: list[tuple[int, ...]] = []

    def scenario(search: Search) -> None:
        left = [0, 0, 1, 1, 2, 2, 3, 3]
        order: list[int] = []
        while left:
            ready = sorted(set(left))
            number = ready[search(ready) if len(ready) > 1 else 0]
            left.remove(number)
            order.append(number)
        found.append(tuple(order))

    search = Search(random.Random(1))
    assert run_all(search, scenario, 10_000) == len(set(found)) == len(found) == 2_520
    assert found[0] == (0, 0, 1, 1, 2, 2, 3, 3)
    assert search.is_exhausted


def test_a_search_puts_up_with_a_scenario_that_changes() -> None:
    """P2: where the same decisions lead elsewhere, it goes on all the same."""
    lengths = iter([2, 2, 1, 3, 0, 2])

    def scenario(search: Search) -> None:
        for _ in range(next(lengths)):
            search(range(3))

    search = Search(random.Random(1))
    assert run_all(search, scenario, 6) == 6
    assert not search.is_exhausted


def test_a_search_without_decisions_ends_at_once() -> None:
    """P2: one task alone has one schedule."""
    assert run_all(Search(random.Random(1)), lambda search: None, 5) == 1


@pytest.mark.unmeasured
def test_a_preferred_task_does_not_starve_the_others_for_ever(backend: str) -> None:
    """P2: a task may wait in a loop for another one, whichever of them is preferred."""

    async def scenario() -> None:
        done = [False] * 3

        async def work(number: int) -> None:
            while number and not done[number - 1]:
                await checkpoint()
            done[number] = True

        await each(3, work)

    assert explore(scenario, backend=backend, schedules=300, seed=1).schedules == 300


def test_exploring_runs_as_many_different_schedules_as_asked_for(backend: str) -> None:
    """P2: the first is first come first served, and no order of steps comes twice."""
    found: list[tuple[int, ...]] = []
    scenario = partial(orders, 3, 2, found.append)
    assert explore(scenario, backend=backend, schedules=40, seed=5) == Exploration(
        40, exhausted=False, seed=5
    )
    assert found[0] == (0, 1, 2, 0, 1, 2)
    assert len(found) == 40


def test_exploring_ends_when_there_are_no_other_schedules(backend: str) -> None:
    """P2: the tasks of a small scenario go in every order that there is."""
    found: list[tuple[int, ...]] = []

    async def scenario() -> None:
        await orders(3, 1, found.append)

    explored = explore(scenario, backend=backend, seed=0)
    assert explored.exhausted
    assert explored.schedules == len(found)
    assert set(found) == set(permutations(range(3)))


@pytest.mark.unmeasured
@pytest.mark.parametrize(("seed", "backend"), by_turns([1, 2]))
@pytest.mark.parametrize("place", [0, 7, 19])
def test_one_order_among_20_is_found(place: int, seed: int, backend: str) -> None:
    """P2: that a step falls into one gap of 20 is found within 1,000 schedules."""

    async def scenario() -> None:
        at = 0

        async def walk(number: int) -> None:
            nonlocal at
            if number:
                for at in range(1, 21):  # noqa: B007  the other task reads it
                    await checkpoint()
            else:
                await checkpoint()
                assert at != place

        await each(2, walk)

    with pytest.raises(ScheduleFailure):
        explore(scenario, backend=backend, seed=seed)


@pytest.mark.unmeasured
@pytest.mark.parametrize(("seed", "backend"), by_turns([1, 2]))
def test_one_task_out_of_20_is_found(seed: int, backend: str) -> None:
    """P2: that a certain task of 20 goes before all others is found within 1,000 schedules."""
    scenario = partial(orders, 20, 1, partial(forbid, (13,)))
    with pytest.raises(ScheduleFailure):
        explore(scenario, backend=backend, seed=seed)


@pytest.mark.unmeasured
@pytest.mark.parametrize(("seed", "backend"), by_turns([1, 2]))
def test_a_task_that_is_always_preferred_is_found(seed: int, backend: str) -> None:
    """P2: that a certain task of 20 takes all its steps before any other is found."""
    scenario = partial(orders, 20, 5, partial(forbid, (13,) * 5))
    with pytest.raises(ScheduleFailure):
        explore(scenario, backend=backend, seed=seed)


@pytest.mark.unmeasured
@pytest.mark.parametrize(("seed", "backend"), by_turns([1, 2]))
def test_a_task_that_is_interrupted_once_is_found(seed: int, backend: str) -> None:
    """P2: that a task takes its many steps within one gap of another is found."""

    def judge(order: tuple[int, ...]) -> None:
        begin = order.index(1)
        assert begin == 0 or order[begin : begin + 20] != (1,) * 20 or order[-1] == 1

    with pytest.raises(ScheduleFailure):
        explore(partial(orders, 2, 20, judge), backend=backend, seed=seed)


def test_a_failing_schedule_is_shrunk(backend: str) -> None:
    """P2: what is told is the shortest list of the smallest numbers, whatever was run."""
    shrunk: set[tuple[int, ...]] = set()
    for seed in range(4):
        with pytest.raises(ScheduleFailure) as caught:
            explore(partial(orders, 4, 3, partial(forbid, (2, 2))), backend=backend, seed=seed)
        shrunk.add(caught.value.decisions)
    # The third task goes, then the same again: by then it is the last of four.
    assert shrunk == {(2, 3)}


def test_a_failure_tells_all_that_replays_it(backend: str) -> None:
    """P2: seed, decisions and the way to replay them are told, and the exception is chained."""
    scenario = partial(orders, 3, 1, partial(forbid, (1, 0, 2)))
    with pytest.raises(ScheduleFailure) as caught:
        explore(scenario, backend=backend, seed=11)
    failure = caught.value
    assert isinstance(failure.__cause__, AssertionError)
    assert (failure.exception, failure.seed, failure.backend) == (failure.__cause__, 11, backend)
    assert (failure.decisions, failure.replays) == ((1,), True)
    told = str(failure)
    assert re.match(rf"schedule {failure.run} of seed 11 fails on {backend}: AssertionError", told)
    assert told.endswith(f"replay(orders, backend={backend!r}, decisions=(1,))")
    with pytest.raises(AssertionError):
        replay(scenario, backend=backend, decisions=failure.decisions)


def test_what_the_shrunk_schedule_raises_is_told(backend: str) -> None:
    """P2: the exception is that of the decisions that are told, not that of the first failure."""

    def judge(order: tuple[int, ...]) -> None:
        if order[0] == 2:
            raise LookupError(order)

    scenario = partial(orders, 3, 3, judge)
    with pytest.raises(LookupError) as replayed:
        replay(scenario, backend=backend, decisions=(2,))
    for seed in range(5):
        with pytest.raises(ScheduleFailure) as caught:
            explore(scenario, backend=backend, seed=seed)
        assert isinstance(caught.value.__cause__, LookupError)
        assert caught.value.__cause__.args == replayed.value.args


def test_the_exceptions_of_a_group_are_told(backend: str) -> None:
    """P2: a failure in a child task is told as what it is, and not as a group."""

    async def fail(number: int) -> None:
        raise LookupError(f"shelf {number}")

    with pytest.raises(ScheduleFailure, match="LookupError: shelf 0") as caught:
        explore(partial(each, 1, fail), backend=backend, seed=1)
    assert isinstance(caught.value.__cause__, ExceptionGroup)


def test_the_same_seed_explores_the_same(backend: str) -> None:
    """P2: a seed chooses the schedules; other seeds choose others."""

    def explored(seed: int) -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = []
        explore(partial(orders, 4, 2, found.append), backend=backend, schedules=20, seed=seed)
        return found

    assert explored(3) == explored(3) != explored(4)


def test_a_seed_is_drawn_and_told(backend: str) -> None:
    """P2: without a seed one is drawn, and it finds the same again."""
    # So few tasks that every schedule is run: each seed finds the one that fails.
    scenario = partial(orders, 3, 1, partial(forbid, (2, 0)))
    with pytest.raises(ScheduleFailure) as first:
        explore(scenario, backend=backend)
    with pytest.raises(ScheduleFailure) as second:
        explore(scenario, backend=backend, seed=first.value.seed)
    assert (first.value.run, first.value.decisions) == (second.value.run, second.value.decisions)
    assert explore(partial(anyio.sleep, 1), backend=backend).seed >= 0


def test_a_failure_that_does_not_come_again_is_told_as_such(backend: str) -> None:
    """P2: a scenario that depends on something else than its schedule is told to."""
    runs: list[int] = []

    async def scenario() -> None:
        runs.append(1)
        assert len(runs) != 3
        await orders(3, 2, lambda order: None)

    with pytest.raises(ScheduleFailure, match="it did not fail when that schedule was") as caught:
        explore(scenario, backend=backend, seed=1)
    assert not caught.value.replays


def test_another_fault_is_not_taken_for_the_first(backend: str) -> None:
    """P2: a schedule shrinks only while it raises exceptions of the same types."""

    def judge(order: tuple[int, ...]) -> None:
        if order[:1] == (2,):
            raise LookupError
        assert order[:3] != (1, 0, 2)

    failures: set[tuple[type[BaseException], tuple[int, ...]]] = set()
    for seed in range(6):
        with pytest.raises(ScheduleFailure) as caught:
            explore(partial(orders, 3, 1, judge), backend=backend, seed=seed)
        failures.add((type(caught.value.exception), caught.value.decisions))
    assert failures == {(LookupError, (2,)), (AssertionError, (1,))}


def test_a_deadlock_is_found(backend: str) -> None:
    """P2: an order in which all wait for each other fails like any other."""

    async def scenario() -> None:
        gates = [Event(), Event()]

        async def meet(number: int) -> None:
            if not gates[1 - number].is_set():
                await checkpoint()
            gates[number].set()
            if number and not gates[0].is_set():
                await Event().wait()

        await each(2, meet)

    with pytest.raises(ScheduleFailure, match="a deadlock") as caught:
        explore(scenario, backend=backend, seed=1)
    assert isinstance(caught.value.__cause__, ScenarioStuck)


def test_what_is_no_exception_of_a_program_fails_too(backend: str) -> None:
    """P2: pytest's own failures are found, which handlers of an `Exception` are not to see."""

    async def scenario() -> None:
        await checkpoint()
        pytest.fail("never")

    with pytest.raises(ScheduleFailure, match="never"):
        explore(scenario, backend=backend)


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_leaves(backend: str, ending: type[BaseException]) -> None:
    """P2: an exit is no failure of a scenario, and leaves bare."""

    async def leave(number: int) -> None:
        raise ending

    with pytest.raises(ending):
        explore(partial(each, 1, leave), backend=backend)


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_leaves_a_deadlock(backend: str, ending: type[BaseException]) -> None:
    """P2: an exit leaves bare, although the scenario was stuck before."""

    async def leave(number: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ending

    with pytest.raises(ending):
        explore(partial(each, 1, leave), backend=backend)


def test_ctrl_c_ends_an_exploration(backend: str) -> None:
    """P2: it leaves as it does anywhere, and nothing is explored any more."""
    runs: list[int] = []

    async def interrupt(number: int) -> None:
        await checkpoint()
        if number == 2 and len(runs) == 3:
            signal.raise_signal(signal.SIGINT)
        await checkpoint()

    async def scenario() -> None:
        runs.append(1)
        await each(3, interrupt)

    with pytest.raises(KeyboardInterrupt):
        explore(scenario, backend=backend, schedules=10)
    assert len(runs) == 3


def test_shrinking_gives_the_smallest() -> None:
    """P2: nothing that does not matter is left of a schedule."""
    assert shrink((0, 0, 0), lambda _: True) == ()
    assert shrink((3, 1, 4, 1, 5, 9, 2, 6), lambda found: 9 in found) == (9,)
    assert shrink((3, 1, 4, 1, 5, 9, 2, 6), lambda found: sum(found) > 1) in {(2,), (1, 1)}
    assert shrink((3, 1, 4, 1, 5, 9, 2, 6), lambda found: found[2:3] == (4,)) == (0, 0, 4)
    assert shrink((0, 7), lambda found: found[1:2] >= (3,)) == (0, 3)


def test_shrinking_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: a schedule that is hard to shrink takes a bounded number of trials."""
    monkeypatch.setattr(shrinking, "MOST_TRIALS", 20)
    trials: list[tuple[int, ...]] = []

    def fails(decisions: tuple[int, ...]) -> bool:
        trials.append(decisions)
        return len(decisions) == 50

    assert len(shrink((9,) * 50, fails)) == 50
    assert len(trials) <= 20


def test_shrinking_ends_with_a_scenario_of_many_turns(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: what takes long is not run again and again."""
    monkeypatch.setattr("flexiflow.testing._scheduling.explore._MOST_TURNS", 0)
    found: list[tuple[int, ...]] = []

    def judge(order: tuple[int, ...]) -> None:
        found.append(order)
        assert order[-1] == 3

    with pytest.raises(ScheduleFailure) as caught:
        explore(partial(orders, 4, 3, judge), backend=backend, seed=1)
    assert caught.value.replays
    # Run again to see whether it fails again, and once more to tell its story.
    assert len(found) == caught.value.run + 2


def not_installed(name: str) -> None:
    """Find no module."""


def not_async() -> None:
    """Be no scenario."""


async def takes_one(argument: object) -> None:
    """Be no scenario."""


ASKING: list[Any] = [explore, partial(replay, decisions=())]


@pytest.mark.parametrize("ask", ASKING)
def test_what_is_no_scenario_is_refused(ask: Any, backend: str) -> None:
    """P2: a scenario is an async function without arguments, and not the call of one."""
    with pytest.raises(TypeError, match=r"did you call it\? give takes_one, not takes_one"):
        ask(takes_one(1), backend=backend)
    with pytest.raises(TypeError, match="scenario must be callable with 0 positional"):
        ask(None, backend=backend)
    with pytest.raises(TypeError, match="which takes_one\\(argument\\) does not take"):
        ask(takes_one, backend=backend)
    with pytest.raises(TypeError, match="must be an async function, which not_async is not"):
        ask(not_async, backend=backend)


@pytest.mark.parametrize("ask", ASKING)
def test_a_backend_that_is_not_there_is_refused(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: an unknown backend is refused, and so is trio where it is not installed."""
    for wrong in ("curio", None, ["asyncio"]):
        with pytest.raises(ValueError, match="backend must be 'asyncio' or 'trio', not"):
            ask(lost_update, backend=wrong)
    monkeypatch.setattr(checks, "find_spec", not_installed)
    with pytest.raises(ImportError, match=r"needs trio, which is not installed: flexiflow\[trio\]"):
        ask(lost_update, backend="trio")


@pytest.mark.parametrize("wrong", [0, -1, True, 2.0, "10"])
def test_a_number_of_schedules_that_is_none_is_refused(wrong: Any, backend: str) -> None:
    """P2: `schedules` is an int of 1 or more."""
    with pytest.raises(ValueError, match="schedules must be an int, 1 or more, not"):
        explore(lost_update, backend=backend, schedules=wrong)


@pytest.mark.parametrize("wrong", [-1, True, 1.5, "1"])
def test_a_seed_that_is_none_is_refused(wrong: Any, backend: str) -> None:
    """P2: `seed` is an int of 0 or more."""
    with pytest.raises(ValueError, match="seed must be an int, 0 or more, not"):
        explore(lost_update, backend=backend, seed=wrong)


def test_decisions_that_are_none_are_refused(backend: str) -> None:
    """P2: decisions are ints of 0 or more."""
    wrong: Any = 3
    with pytest.raises(TypeError, match="decisions must be a sequence of ints, not 3"):
        replay(lost_update, backend=backend, decisions=wrong)
    with pytest.raises(ValueError, match="a decision must be an int, 0 or more, not -1"):
        replay(lost_update, backend=backend, decisions=(0, -1))


async def test_to_explore_from_async_code_is_refused(backend_name: str) -> None:
    """P2: a scenario has an event loop of its own, so that no other may run."""
    with pytest.raises(RuntimeError, match=r"explore runs event loops .* call this from a plain"):
        explore(lost_update, backend=backend_name)
    with pytest.raises(RuntimeError, match=r"replay runs event loops .* call this from a plain"):
        replay(lost_update, backend=backend_name, decisions=())


async def test_from_async_code_one_can_explore_in_a_thread(backend_name: str) -> None:
    """P2: what the refusal says is the way out does lead out, in a notebook, too."""

    async def scenario() -> None:
        await anyio.lowlevel.checkpoint()

    with anyio.fail_after(60):
        found = await anyio.to_thread.run_sync(lambda: explore(scenario, backend=backend_name))
    assert found.exhausted
