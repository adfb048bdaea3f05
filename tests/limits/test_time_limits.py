"""How much time a handler has: V1, looked at from inside."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio import CancelScope, create_task_group, fail_after, get_cancelled_exc_class, sleep_forever
from anyio.lowlevel import checkpoint

from flexiflow._errors import HandlerTimeout
from flexiflow._limits import await_within
from flexiflow.testing import replay
from tests.accounting import Boom, Fatal, leaves
from tests.attacks import kept_cancellation, on_asyncio, stray
from tests.helpers import PATIENCE, Later

SOON = 1e-9
"""Seconds that are over at the first wait."""


async def fail_in_cleanup(exception: BaseException) -> None:
    """Wait until it is cancelled, and then raise."""
    try:
        await sleep_forever()
    finally:
        raise exception


async def have_failing_child() -> None:
    """Have a task group of which one child fails in its cleanup."""
    async with create_task_group() as group:
        group.start_soon(fail_in_cleanup, Boom())
        group.start_soon(sleep_forever)


async def timed_out(awaitable: Awaitable[object]) -> HandlerTimeout:
    """Await what is too late, and give what leaves."""
    with fail_after(PATIENCE), pytest.raises(HandlerTimeout) as caught:
        await await_within(awaitable, SOON, "charge")
    return caught.value


async def left(awaitable: Awaitable[object], time_limit: float = PATIENCE) -> BaseException:
    """Await what leaves, and give that."""
    try:
        await await_within(awaitable, time_limit, "charge")
    except BaseException as exc:  # noqa: BLE001  it is looked at
        return exc
    raise AssertionError


async def test_what_ends_in_time_ends_as_it_would() -> None:
    """V1: A handler in time is not disturbed, be it a coroutine or not."""
    ended: list[object] = []
    await await_within(Later(ended.append, 1), PATIENCE, "charge")
    assert ended == [1]


async def test_what_is_too_late_is_cancelled_and_has_failed() -> None:
    """V1: A handler that still runs is cancelled, and the failure says who had how much time."""
    failure = await timed_out(sleep_forever())
    assert isinstance(failure, TimeoutError)
    assert (failure.culprit, failure.time_limit) == ("charge", SOON)
    assert (failure.__cause__, failure.__context__) == (None, None)


async def test_what_returns_late_has_failed() -> None:
    """V1: A handler that a shield kept running is too late as well."""

    async def wait_in_a_shield() -> None:
        with CancelScope(shield=True):
            await checkpoint()

    assert (await timed_out(wait_in_a_shield())).__cause__ is None


async def test_what_swallows_the_cancellation_has_failed() -> None:
    """V1: A handler that goes on after its time is too late as well."""

    async def go_on() -> None:
        with CancelScope() as scope:
            try:
                await sleep_forever()
            except get_cancelled_exc_class():
                scope.cancel()
                raise

    assert (await timed_out(go_on())).__cause__ is None


async def test_failure_in_cleanup_is_the_cause() -> None:
    """V1: What a handler raises when its time is over is not lost."""
    boom = Boom()
    failure = await timed_out(fail_in_cleanup(boom))
    assert failure.__cause__ is boom
    assert failure.__context__ is None


def test_failure_at_the_very_deadline_is_too_late(backend: str) -> None:
    """V1: A handler that fails in the instant in which its time is over has not been in time."""
    boom = Boom()

    async def scenario() -> HandlerTimeout:
        with pytest.raises(HandlerTimeout) as caught:
            await await_within(fail_in_cleanup(boom), 1.0, "charge")
        return caught.value

    assert replay(scenario, backend=backend, decisions=()).__cause__ is boom


async def test_failure_in_the_cleanup_of_a_child_task_is_the_cause() -> None:
    """V1, E8: A handler's own task group makes no difference, on either backend."""
    cause = (await timed_out(have_failing_child())).__cause__
    assert cause is not None
    assert [type(leaf) for leaf in leaves(cause)] == [Boom]


async def test_failure_in_time_leaves_as_it_is() -> None:
    """V1: What a handler raises in time is its failure."""
    boom = Boom()

    async def fail() -> None:
        raise boom

    assert await left(fail()) is boom


async def test_group_in_time_leaves_as_it_is() -> None:
    """V1, E8: A group with a stray cancellation in it is for others to judge."""
    group = BaseExceptionGroup("outer", [await kept_cancellation(), Boom()])

    async def fail() -> None:
        raise group

    assert await left(fail()) is group


async def test_stray_cancellation_in_time_leaves_as_it_is() -> None:
    """V1, E6: A cancellation of somebody else's is no timeout."""
    assert isinstance(await left(stray(None)), get_cancelled_exc_class())


async def test_stray_cancellation_after_the_time_is_a_timeout() -> None:
    """V1: A handler that is too late has failed, whatever it did then."""
    kept = await kept_cancellation()
    await timed_out(fail_in_cleanup(kept))

    async def be_stray() -> None:
        try:
            await sleep_forever()
        finally:
            with CancelScope(shield=True):
                await stray(None)

    await timed_out(be_stray())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, Fatal, GeneratorExit])
async def test_exit_leaves_as_it_is(kind: type[BaseException]) -> None:
    """V1, E5: An exit leaves bare, though the time is over."""
    exit_ = kind()
    with fail_after(PATIENCE):
        assert await left(fail_in_cleanup(exit_), SOON) is exit_


async def cancelled_within(make: Callable[[CancelScope], Awaitable[object]], limit: float) -> Any:
    """Await something within a scope that it cancels, and give what left it there."""
    error: BaseException | None = None
    with fail_after(PATIENCE), CancelScope() as scope:
        error = await left(make(scope), limit)
        if isinstance(error, get_cancelled_exc_class()):
            raise error
        await checkpoint()
    assert scope.cancelled_caught
    return error


@pytest.mark.parametrize("limit", [SOON, PATIENCE])
async def test_outer_cancellation_is_no_timeout(limit: float) -> None:
    """V1: A cancellation from outside goes on, also where the time is over too."""

    async def be_cancelled(scope: CancelScope) -> None:
        scope.cancel()
        await sleep_forever()

    assert isinstance(await cancelled_within(be_cancelled, limit), get_cancelled_exc_class())


async def test_outer_cancellation_during_the_cleanup_wins() -> None:
    """V1: One that comes when the time is over, but the handler is not, goes on."""

    async def clean_up(scope: CancelScope) -> None:
        try:
            await sleep_forever()
        finally:
            scope.cancel()

    assert isinstance(await cancelled_within(clean_up, SOON), get_cancelled_exc_class())


async def test_outer_deadline_is_no_timeout() -> None:
    """V1: An outer deadline is never taken for the handler's."""
    for limit in (SOON, PATIENCE):
        with fail_after(PATIENCE), CancelScope(deadline=anyio.current_time() - 1) as scope:
            await await_within(sleep_forever(), limit, "charge")
        assert scope.cancelled_caught


async def test_failure_after_the_time_in_an_outer_cancellation_is_a_timeout() -> None:
    """V1, E5: A failure is one under a cancellation too, which goes on afterwards."""
    boom = Boom()

    async def fail(scope: CancelScope) -> None:
        scope.cancel()
        await fail_in_cleanup(boom)

    error = await cancelled_within(fail, SOON)
    assert isinstance(error, HandlerTimeout)
    assert error.__cause__ is boom


async def test_child_that_fails_in_an_outer_cancellation_is_a_timeout() -> None:
    """V1, E8: It is the same where a task group has the cancellation and the failure."""

    async def fail(scope: CancelScope) -> None:
        scope.cancel()
        await have_failing_child()

    error = await cancelled_within(fail, SOON)
    assert isinstance(error, HandlerTimeout)
    assert [type(leaf) for leaf in leaves(error.__cause__ or error)] == [Boom]


async def run_natively(main: Callable[[], Awaitable[object]]) -> "asyncio.Task[None]":
    """Run something in a task of its own until that has ended."""

    async def run() -> None:
        await main()

    task = asyncio.create_task(run())
    with fail_after(PATIENCE):
        await asyncio.wait([task])
    return task


@on_asyncio
@pytest.mark.parametrize("limit", [SOON, PATIENCE])
@pytest.mark.parametrize("early", [False, True])
async def test_native_cancel_in_the_turn_of_the_deadline_is_not_lost(
    limit: float, *, early: bool
) -> None:
    """V1: A native cancel leaves, whichever of the two comes first."""

    def cancel_soon() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)

    async def wait() -> None:
        if not early:
            cancel_soon()
        await sleep_forever()

    async def main() -> None:
        if early:
            cancel_soon()
        await await_within(wait(), limit, "charge")

    assert (await run_natively(main)).cancelled()


@on_asyncio
@pytest.mark.parametrize("limit", [SOON, PATIENCE])
async def test_native_cancel_before_the_deadline_is_not_lost(limit: float) -> None:
    """V1: A native cancel that was still to be delivered leaves."""

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await await_within(sleep_forever(), limit, "charge")

    assert (await run_natively(main)).cancelled()


@on_asyncio
async def test_timeout_in_a_task_that_was_cancelled_natively_is_one() -> None:
    """V1: A native cancel that the task is through with is nobody's any more."""
    failures: list[HandlerTimeout] = []

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await checkpoint()
        failures.append(await timed_out(sleep_forever()))

    assert (await run_natively(main)).exception() is None
    assert failures[0].__context__ is None
