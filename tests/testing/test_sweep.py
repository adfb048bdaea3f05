"""Sweeping cancellation: at which checkpoints, what is checked, what is told."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import CancelScope, create_task_group, get_cancelled_exc_class, sleep
from anyio.lowlevel import checkpoint

from flexiflow._cancellation import cancel_requests
from flexiflow.testing import CancellationFailure, CheckpointMissed, TasksLeft, cancel_everywhere
from flexiflow.testing._scheduling.backends import run_on
from flexiflow.testing._scheduling.run import Run, Style
from flexiflow.testing._scheduling.schedule import first_come
from tests.attacks import kept_cancellation

STYLES: dict[str, tuple[Style, ...]] = {"asyncio": ("scope", "native"), "trio": ("scope",)}


class Walk:
    """A scenario of some checkpoints, which notes how far each run came."""

    def __init__(self, steps: int, step: Callable[[], Awaitable[object]] = checkpoint) -> None:
        self.runs: list[int] = []
        self._steps = steps
        self._step = step

    async def __call__(self) -> None:
        self.runs.append(0)
        for _ in range(self._steps):
            await self._step()
            self.runs[-1] += 1


class Flat:
    """Something that is either whole or not at all, unless it is cancelled at its third step."""

    def __init__(self) -> None:
        self.rooms = 0

    async def build(self) -> None:
        self.rooms = 0
        await checkpoint()
        await checkpoint()
        self.rooms = 1
        await checkpoint()
        self.rooms = 2

    def check(self) -> None:
        assert self.rooms != 1


def test_each_checkpoint_is_cancelled_once(backend: str) -> None:
    """P3: once uncancelled, once before it begins, and once at each checkpoint, in order."""
    for style in STYLES[backend]:
        walk = Walk(4)
        assert cancel_everywhere(walk, backend=backend, style=style) == 4
        assert walk.runs == [4, 0, 0, 1, 2, 3]


def test_a_wait_is_cancelled_before_its_time(backend: str) -> None:
    """P3: a checkpoint that waits for a timer is cancelled there, and not when that fires."""
    walk = Walk(3, partial(sleep, 60))
    assert cancel_everywhere(walk, backend=backend) == 3
    assert walk.runs == [3, 0, 0, 1, 2]


def test_checkpoints_of_child_tasks_are_swept(backend: str) -> None:
    """P3: a child task is cancelled at each of its own checkpoints, the others with it."""
    ended: list[tuple[int, int]] = []

    async def child(number: int) -> None:
        step = 0
        try:
            for step in range(3):  # noqa: B007  told when it ends
                await checkpoint()
        except get_cancelled_exc_class():
            ended.append((number, step))
            raise

    async def scenario() -> None:
        async with create_task_group() as group:
            group.start_soon(child, 1)
            group.start_soon(child, 2)

    for style in STYLES[backend]:
        ended.clear()
        # Each child's, and the wait for both; that a child ends is none.
        assert cancel_everywhere(scenario, backend=backend, style=style) == 7
        assert {(number, step) for number in (1, 2) for step in range(3)} <= set(ended)


def test_an_invariant_that_does_not_hold_is_told_with_its_checkpoint(backend: str) -> None:
    """P3: the failure names the checkpoint, and is chained from what the check raised."""
    flat = Flat()
    for style in STYLES[backend]:
        with pytest.raises(CancellationFailure) as caught:
            cancel_everywhere(flat.build, backend=backend, check=flat.check, style=style)
        failure = caught.value
        assert isinstance(failure.__cause__, AssertionError)
        assert failure.exception is failure.__cause__
        assert (failure.backend, failure.checkpoint, failure.style) == (backend, 3, style)
        told = f"the scenario fails on {backend}, cancelled at checkpoint 3 ({style}): Assertion"
        assert str(failure).startswith(told)


def test_a_check_may_be_async(backend: str) -> None:
    """P3: it is awaited in the same event loop, and not cancelled."""
    flat = Flat()
    checks: list[int] = []

    async def check() -> None:
        assert cancel_requests() == 0
        await checkpoint()
        checks.append(flat.rooms)

    for style in STYLES[backend]:
        cancel_everywhere(flat.build, backend=backend, check=check, style=style)
    assert checks == [2, 0, 0, 0, 1] * len(STYLES[backend])


def test_a_scenario_that_fails_by_itself_is_told_as_such(backend: str) -> None:
    """P3: what fails without any cancellation is not blamed on one."""

    async def scenario() -> None:
        raise LookupError("shelf")

    with pytest.raises(CancellationFailure, match="before anything is cancelled: LookupError"):
        cancel_everywhere(scenario, backend=backend)


def test_what_leaves_instead_of_the_cancellation_fails(backend: str) -> None:
    """P3: cleanup that raises is a failure, at the first checkpoint where it does."""

    async def scenario() -> None:
        try:
            await checkpoint()
        except get_cancelled_exc_class():
            raise LookupError("lost") from None

    for style in STYLES[backend]:
        with pytest.raises(CancellationFailure, match=r"checkpoint 0 .*: LookupError: lost"):
            cancel_everywhere(scenario, backend=backend, style=style)


def test_a_scenario_may_end_although_it_is_cancelled(backend: str) -> None:
    """P3: to swallow a cancellation is no failure by itself."""
    ended: list[bool] = []

    async def scenario() -> None:
        with CancelScope(shield=True):
            await checkpoint()
        ended.append(True)

    assert cancel_everywhere(scenario, backend=backend) == 1
    assert ended == [True] * 3


def test_a_scenario_that_waits_for_nothing_is_swept(backend: str) -> None:
    """P3: a cancellation that is still to come when the scenario ends does not hit the check."""

    async def check() -> None:
        await checkpoint()

    for style in STYLES[backend]:
        assert cancel_everywhere(Walk(0), backend=backend, style=style, check=check) == 0


def test_a_swallowed_cancellation_leaves_the_check_alone(backend: str) -> None:
    """P3: the check is not cancelled, whatever the scenario did with its own cancellation."""
    requests: list[int] = []

    async def scenario() -> None:
        with suppress(get_cancelled_exc_class()):
            await checkpoint()

    def check() -> None:
        requests.append(cancel_requests())

    for style in STYLES[backend]:
        cancel_everywhere(scenario, backend=backend, style=style, check=check)
    assert requests == [0] * 3 * len(STYLES[backend])


@pytest.mark.measured
def test_ctrl_c_ends_a_sweep(backend: str) -> None:
    """P3: it leaves as it does anywhere, also in the cleanup of what is being cancelled."""
    walk = Walk(2)

    async def scenario() -> None:
        try:
            await walk()
        except get_cancelled_exc_class():
            signal.raise_signal(signal.SIGINT)
            with CancelScope(shield=True):
                await checkpoint()
            raise

    for style in STYLES[backend]:
        walk.runs.clear()
        with pytest.raises(KeyboardInterrupt):
            cancel_everywhere(scenario, backend=backend, style=style)
        assert walk.runs == [2, 0]


def test_a_cancellation_that_nobody_asked_for_fails(backend: str) -> None:
    """P3: a scenario that lets out a cancellation of its own fails without being cancelled."""

    async def scenario() -> None:
        raise await kept_cancellation()

    with pytest.raises(CancellationFailure, match="before anything is cancelled"):
        cancel_everywhere(scenario, backend=backend)


def test_a_task_that_outlives_a_cancelled_scenario_fails() -> None:
    """P3: a task that only the whole of the scenario would have waited for is told."""

    async def scenario() -> None:
        task = asyncio.create_task(Walk(3)())
        await checkpoint()
        await checkpoint()
        await task

    with pytest.raises(CancellationFailure, match=r"checkpoint 0 .*left behind: 'Walk") as caught:
        cancel_everywhere(scenario, backend="asyncio")
    assert isinstance(caught.value.__cause__, TasksLeft)


def test_a_scenario_that_is_shorter_when_it_runs_again_fails(backend: str) -> None:
    """P3: a sweep does not pass where there was nothing to cancel."""
    known: list[str] = []

    async def scenario() -> None:
        await checkpoint()
        if not known:
            known.append("by now")
            await checkpoint()

    for style in STYLES[backend]:
        known.clear()
        with pytest.raises(
            CancellationFailure, match=r"checkpoint 2 .*not passed.* only 1"
        ) as caught:
            cancel_everywhere(scenario, backend=backend, style=style)
        missed = caught.value.__cause__
        assert isinstance(missed, CheckpointMissed)
        assert (missed.checkpoint, missed.passed) == (2, 1)


def test_a_sweep_is_bounded(backend: str) -> None:
    """P3: a scenario of more checkpoints than the limit is refused before the sweep."""
    walk = Walk(5)
    with pytest.raises(ValueError, match="passes 5 checkpoints, more than the limit of 4"):
        cancel_everywhere(walk, backend=backend, limit=4)
    assert len(walk.runs) == 1
    assert cancel_everywhere(walk, backend=backend, limit=5) == 5


def test_bad_arguments_of_a_sweep_are_refused(backend: str) -> None:
    """P3: a bad argument fails at the call, and nothing is run."""
    walk = Walk(1)
    wrong: Any = walk()
    with pytest.raises(TypeError, match=r"did you call it\?"):
        cancel_everywhere(wrong, backend=backend)
    with pytest.raises(ValueError, match="backend must be"):
        cancel_everywhere(walk, backend="curio")
    wrong = "invariant"
    with pytest.raises(TypeError, match="check must be callable with 0 positional arguments"):
        cancel_everywhere(walk, backend=backend, check=wrong)
    with pytest.raises(ValueError, match="style must be 'scope' or, on asyncio, 'native', not"):
        cancel_everywhere(walk, backend=backend, style=wrong)
    with pytest.raises(ValueError, match="limit must be an int, 1 or more, not 0"):
        cancel_everywhere(walk, backend=backend, limit=0)
    assert walk.runs == []


def test_trio_has_no_native_style() -> None:
    """P3: only asyncio can cancel a task without a scope."""
    pytest.importorskip("trio")
    with pytest.raises(ValueError, match="not 'native' on trio"):
        cancel_everywhere(Walk(1), backend="trio", style="native")
    run = Run(Walk(1), first_come, cancel_at=1, style="native")
    run_on(run, "trio")
    assert run.checkpoints == 2  # and one after the scenario, where it was not cancelled


async def test_to_sweep_from_async_code_is_refused(backend_name: str) -> None:
    """P3: a scenario has an event loop of its own, so that no other may run."""
    with pytest.raises(RuntimeError, match=r"cancel_everywhere runs .* call this from a plain"):
        cancel_everywhere(Walk(1), backend=backend_name)
    await anyio.lowlevel.checkpoint()
