"""A cancellation that is nobody's: E6."""

import asyncio
import gc
from functools import partial
from typing import Any

import pytest
from anyio import (
    CancelScope,
    Event,
    create_task_group,
    get_cancelled_exc_class,
    sleep_forever,
)
from anyio.lowlevel import checkpoint

from flexiflow import HandlerCancelled
from flexiflow._bus import DeliveryMode, ErrorPolicy
from flexiflow.events import HANDLER_FAILED
from tests.accounting import EVENT, Boom, Ledger, Publisher
from tests.attacks import (
    each_mode,
    each_parallel_mode,
    each_policy,
    each_style,
    kept_cancellation,
    let_out,
    on_asyncio,
    stray,
    wait,
)


@each_mode
@each_policy
async def test_a_stray_cancellation_is_a_failure(mode: DeliveryMode, policy: ErrorPolicy) -> None:
    """E6: a handler that awaits what someone else cancelled fails; nothing is cancelled."""
    ended: list[str] = []

    async def sibling(_: Any) -> None:
        for _turn in range(3):
            await checkpoint()
        ended.append("sibling")

    async with Ledger() as ledger:
        await ledger.on(sibling)
        await ledger.on(stray)
        await ledger.on(sibling)
        left = await ledger.surfaced(mode, policy)
    assert policy == "raise" or ended == ["sibling", "sibling"]
    assert isinstance(left, HandlerCancelled)
    assert left.culprit == stray.__qualname__
    assert isinstance(left.__cause__, get_cancelled_exc_class())


@each_mode
@each_policy
async def test_a_stray_cancellation_in_a_filter_is_a_failure(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """E6: it may come out of a filter as well."""
    kept = await kept_cancellation()

    def refuse(*_: Any) -> bool:
        raise kept

    async with Ledger() as ledger:
        await ledger.on(wait, filter=refuse)
        assert (await ledger.surfaced(mode, policy)).__cause__ is kept


@each_mode
async def test_a_stray_cancellation_in_an_observer_is_its_failure(mode: DeliveryMode) -> None:
    """E6, E7: it is logged, and neither reported nor taken for a cancellation."""
    async with Ledger(announced=None) as ledger:
        await ledger.on(stray, event=HANDLER_FAILED)
        await ledger.on(partial(let_out, ledger.inject(Boom()), 1))
        assert len(await ledger.publish(mode)) == 1
    assert [type(each) for each in ledger.logged] == [Boom, HandlerCancelled]


@each_mode
@each_policy
@each_style
async def test_a_stray_cancellation_in_a_cancelled_publish_counts_as_cancelled(
    mode: DeliveryMode, policy: ErrorPolicy, style: str
) -> None:
    """E6: in doubt the cancellation is that of `publish`."""

    async def let_out_a_stray(_: Any) -> None:
        try:
            await sleep_forever()
        finally:
            with CancelScope(shield=True):
                await stray(None)

    async with Ledger() as ledger:
        publisher = Publisher(ledger, style, mode, policy)
        await ledger.on(let_out_a_stray)
        await publisher.run_until_blocked()
    assert publisher.was_cancelled
    assert ledger.records == []


@each_parallel_mode
@each_style
async def test_a_stray_cancellation_in_a_shielded_cleanup_is_a_failure(
    mode: DeliveryMode, style: str
) -> None:
    """E6: shields count: what is cancelled outside of one cancels no `publish` within."""
    async with Ledger() as ledger:

        async def clean_up(_: Any) -> None:
            try:
                await sleep_forever()
            finally:
                with CancelScope(shield=True):
                    [failure] = await ledger.bus.publish("cleanup", delivery=mode)
                    assert isinstance(failure.exception, HandlerCancelled)

        publisher = Publisher(ledger, style, "sequential")
        await ledger.on(clean_up)
        await ledger.on(stray, event="cleanup")
        await publisher.run_until_blocked()
    assert publisher.was_cancelled
    assert len(ledger.observed) == 1


@each_mode
async def test_a_cancelled_scope_next_door_cancels_no_publish(mode: DeliveryMode) -> None:
    """E6: a publish within a task group that is not cancelled is not either."""
    async with Ledger() as ledger, create_task_group() as outer:
        async with create_task_group() as inner:
            inner.cancel_scope.cancel()
        await ledger.on(stray)
        [failure] = await ledger.publish(mode)
        assert isinstance(failure.exception, HandlerCancelled)
        outer.cancel_scope.cancel()


@on_asyncio
@each_parallel_mode
@each_policy
@pytest.mark.parametrize("waits", [False, True])
async def test_a_native_cancel_of_a_handlers_task_is_its_failure(
    mode: DeliveryMode, policy: ErrorPolicy, *, waits: bool
) -> None:
    """E6: concurrently, a native cancel of a handler's task ends neither siblings nor publish."""
    ended: list[str] = []

    async def cancel_its_task(_: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if waits:
            await sleep_forever()

    async def sibling(_: Any) -> None:
        for _turn in range(5):
            await checkpoint()
        ended.append("sibling")

    async with Ledger() as ledger:
        await ledger.on(sibling)
        await ledger.on(cancel_its_task)
        await ledger.on(sibling)
        assert isinstance(await ledger.surfaced(mode, policy), HandlerCancelled)
    assert policy == "raise" or ended == ["sibling", "sibling"]


@on_asyncio
@each_parallel_mode
async def test_a_native_cancel_and_a_failure_of_one_handler(mode: DeliveryMode) -> None:
    """E6, E4: a handler whose task is cancelled as it fails has failed, once, and is reported."""
    heard, ended = list[str](), list[str]()

    async def observe(_: Any) -> None:
        await checkpoint()
        heard.append("failure")

    async def end(_: Any) -> None:
        await checkpoint()
        ended.append("sibling")

    async with Ledger() as ledger:

        def cancel_and_fail(_: Any) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            raise ledger.inject(Boom())

        await ledger.on(observe, event=HANDLER_FAILED)
        await ledger.on(cancel_and_fail)
        await ledger.on(end)
        assert len(await ledger.publish(mode)) == 1
    assert (heard, ended) == (["failure"], ["sibling"])


@on_asyncio
@each_parallel_mode
async def test_no_handler_inherits_a_native_cancel(mode: DeliveryMode) -> None:
    """E6, D2: a task whose handler was natively cancelled runs no other handler."""
    requests: list[int] = []

    def cancel_its_task(_: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def count_requests(_: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        requests.append(task.cancelling())
        await checkpoint()

    async with Ledger() as ledger:
        await ledger.on(cancel_its_task)
        for _ in range(6):
            await ledger.on(count_requests)
        await ledger.publish(mode)
    assert requests == [0] * 6


@on_asyncio
@each_parallel_mode
async def test_a_native_cancel_by_an_observer_ends_no_sibling(mode: DeliveryMode) -> None:
    """E6, D2: a task that is left with a cancel pending ends without harm to the others."""
    ended: list[str] = []

    def cancel_its_task(_: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def sibling(_: Any) -> None:
        for _turn in range(5):
            await checkpoint()
        ended.append("sibling")

    async with Ledger() as ledger:
        await ledger.on(cancel_its_task, event=HANDLER_FAILED)
        await ledger.on(sibling)
        await ledger.on(partial(let_out, ledger.inject(Boom()), 1))
        await ledger.on(sibling)
        assert len(await ledger.publish(mode)) == 1
    assert ended == ["sibling", "sibling"]


@on_asyncio
@each_parallel_mode
async def test_a_native_cancel_while_its_failure_is_observed(mode: DeliveryMode) -> None:
    """E6: the handler has failed already: its siblings and `publish` go on."""
    ended: list[str] = []
    observing = Event()
    tasks: list[asyncio.Task[Any] | None] = []

    async def observe(_: Any) -> None:
        tasks.append(asyncio.current_task())
        observing.set()
        await sleep_forever()

    async def cancel_the_observer(_: Any) -> None:
        await observing.wait()
        assert tasks[0] is not None
        tasks[0].cancel()
        await checkpoint()
        await checkpoint()
        ended.append("sibling")

    async with Ledger() as ledger:
        await ledger.on(observe, event=HANDLER_FAILED)
        await ledger.on(partial(let_out, ledger.inject(Boom()), 0))
        await ledger.on(cancel_the_observer)
        assert len(await ledger.publish(mode)) == 1
    assert ended == ["sibling"]


@on_asyncio
@each_parallel_mode
@each_policy
# AnyIO never awaits what a task was to run that is cancelled before its first step.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_a_native_cancel_of_a_task_that_has_not_begun_is_told(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """E6, D4: to cancel every task in sight doesn't make handlers vanish in silence."""
    before = asyncio.all_tasks()

    async def cancel_what_is_new(_: Any) -> None:
        await checkpoint()  # until another task is to take the next handler
        for task in asyncio.all_tasks() - before - {asyncio.current_task()}:
            task.cancel()

    async with Ledger() as ledger:
        await ledger.on(cancel_what_is_new)
        await ledger.on(wait)
        await ledger.on(wait)
        with pytest.raises(HandlerCancelled, match=f"left a task of publishing '{EVENT}', "):
            await ledger.publish(mode, policy)
        ledger.raised.clear()
    gc.collect()


@on_asyncio
@each_parallel_mode
@each_policy
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_a_native_cancel_of_the_first_task_before_it_begins_is_told(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """E6, D4: nor does who cancels before the first handler has begun."""
    before = asyncio.all_tasks()

    async def cancel_what_is_new() -> None:
        for task in asyncio.all_tasks() - before - {asyncio.current_task()}:
            task.cancel()

    async with Ledger() as ledger:
        await ledger.on(wait)
        await ledger.on(wait)
        cancelling = asyncio.ensure_future(cancel_what_is_new())
        with pytest.raises(HandlerCancelled, match=f"left a task of publishing '{EVENT}', "):
            await ledger.publish(mode, policy)
        ledger.raised.clear()
    await cancelling
    gc.collect()
