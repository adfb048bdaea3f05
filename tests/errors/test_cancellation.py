"""A cancellation that passes through a publish: E5, and what of D4 and E4 it touches."""

import asyncio
import sys
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from anyio import (
    CancelScope,
    fail_after,
    get_cancelled_exc_class,
    sleep_forever,
)
from anyio.lowlevel import checkpoint

from flexiflow._bus import DeliveryMode, ErrorPolicy
from flexiflow._cancellation import cancel_requests
from flexiflow.events import HANDLER_FAILED
from tests.accounting import EVENT, Boom, Ledger, Publisher
from tests.attacks import (
    each_mode,
    each_parallel_mode,
    each_policy,
    each_style,
    failing_in_cleanup,
    kept_cancellation,
    let_out,
    on_asyncio,
    wait,
)
from tests.helpers import MODES


@each_mode
@each_policy
@each_style
async def test_a_cancellation_is_no_failure(
    mode: DeliveryMode, policy: ErrorPolicy, style: str
) -> None:
    """E5: it ends the handlers, leaves `publish`, and is neither logged nor published."""
    story: list[str] = []

    async def handle(_: Any) -> None:
        story.append("started")
        try:
            await sleep_forever()
        finally:
            with CancelScope(shield=True):
                await checkpoint()
            story.append("ended")

    async with Ledger() as ledger:
        publisher = Publisher(ledger, style, mode, policy)
        for priority in (2, 2, 4):
            await ledger.on(handle, priority=priority)
        await publisher.run_until_blocked()
    assert publisher.was_cancelled
    running = {"sequential": 1, "concurrent": 3, "tiered": 2}[mode]
    assert story == ["started"] * running + ["ended"] * running
    assert (ledger.records, ledger.observed) == ([], [])


@each_mode
@each_style
async def test_a_failure_in_a_cancelled_publish_is_logged(mode: DeliveryMode, style: str) -> None:
    """E5, E4: under `continue` it is logged, no handler starts, and the cancellation goes on."""
    started: list[Any] = []
    async with Ledger(announced=False) as ledger:
        publisher = Publisher(ledger, style, mode)
        await ledger.on(failing_in_cleanup(ledger), priority=1)
        if mode != "concurrent":
            await ledger.on(started.append, priority=2)
        await publisher.run_until_blocked()
    assert publisher.was_cancelled
    assert (len(ledger.records), started) == (1, [])


@each_mode
@each_style
async def test_a_failure_in_a_cancelled_publish_is_raised(mode: DeliveryMode, style: str) -> None:
    """E5, E4: under `raise` the failure leaves, as it would leave a plain await."""
    started: list[Any] = []
    async with Ledger() as ledger:
        publisher = Publisher(ledger, style, mode, "raise")
        await ledger.on(failing_in_cleanup(ledger), priority=1)
        if mode != "concurrent":
            await ledger.on(started.append, priority=2)
        await publisher.run_until_blocked()
    assert type(publisher.left) is Boom
    assert (ledger.records, started) == ([], [])


@each_parallel_mode
@each_style
async def test_of_several_failures_in_a_cancelled_publish_one_is_raised(
    mode: DeliveryMode, style: str
) -> None:
    """E5, E4: under `raise` the first leaves, and the log has the others, which are noted."""
    async with Ledger(announced=False) as ledger:
        publisher = Publisher(ledger, style, mode, "raise")
        for _ in range(3):
            await ledger.on(failing_in_cleanup(ledger))
        await publisher.run_until_blocked()
    assert isinstance(publisher.left, Boom)
    assert len(publisher.left.__notes__) == len(ledger.records) == 2


@each_mode
@each_policy
@pytest.mark.parametrize("turns", [0, 1])
async def test_a_failure_in_the_turn_of_a_cancelled_scope(
    mode: DeliveryMode, policy: ErrorPolicy, turns: int
) -> None:
    """E5: a handler that cancels the scope and then fails: no further handler starts."""
    started: list[Any] = []
    async with Ledger(announced=False) as ledger:
        publisher = Publisher(ledger, "scope", mode, policy)

        async def cancel_and_fail(_: Any) -> None:
            publisher.cancel()
            with CancelScope(shield=True):
                for _turn in range(turns):
                    await checkpoint()
            raise ledger.inject(Boom())

        await ledger.on(cancel_and_fail, priority=1)
        for priority in (1, 2) if turns == 0 else (2, 3):
            if turns == 0 or mode != "concurrent":
                await ledger.on(started.append, priority=priority)
        await publisher.run()
    assert publisher.was_cancelled is (policy == "continue")
    assert started == []


@each_mode
@each_policy
async def test_no_handler_starts_once_the_cancellation_has_left_one(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """E5: a cancellation on its way out of `publish` meets no new handler."""
    kept, started = await kept_cancellation(), list[Any]()
    async with Ledger() as ledger:
        publisher = Publisher(ledger, "scope", mode, policy)

        def cancel_and_leave(_: Any) -> None:
            publisher.cancel()
            raise kept

        await ledger.on(cancel_and_leave)
        await ledger.on(started.append)
        await publisher.run()
    assert publisher.was_cancelled
    assert started == []


@on_asyncio
@each_policy
async def test_a_failure_in_the_turn_of_a_native_cancel(policy: ErrorPolicy) -> None:
    """E5: sequentially, a publisher's own task that was just cancelled counts as cancelled."""
    started: list[Any] = []
    async with Ledger(announced=False) as ledger:
        publisher = Publisher(ledger, "native", "sequential", policy)

        def cancel_and_fail(_: Any) -> None:
            publisher.cancel()
            raise ledger.inject(Boom())

        await ledger.on(cancel_and_fail)
        await ledger.on(started.append)
        await publisher.run()
    assert publisher.was_cancelled is (policy == "continue")
    assert started == []


@on_asyncio
@each_parallel_mode
@each_policy
async def test_a_failure_in_the_turn_of_a_native_cancel_at_once(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """E5, E4: concurrently it may be published too; the cancellation isn't lost for it."""
    async with Ledger(announced=None) as ledger:
        publisher = Publisher(ledger, "native", mode, policy)

        def cancel_and_fail(_: Any) -> None:
            publisher.cancel()
            raise ledger.inject(Boom())

        await ledger.on(cancel_and_fail)
        await publisher.run()
    assert publisher.was_cancelled is (policy == "continue")


@each_mode
@each_style
async def test_a_failure_that_does_not_show_its_cancellation(
    mode: DeliveryMode, style: str
) -> None:
    """E5: a handler that swallows the cancellation and fails later does not end it."""
    started: list[Any] = []
    async with Ledger(announced=False) as ledger:

        async def swallow_and_fail(_: Any) -> None:
            with suppress(get_cancelled_exc_class()):
                await sleep_forever()
            raise ledger.inject(Boom())

        publisher = Publisher(ledger, style, mode)
        await ledger.on(swallow_and_fail, priority=1)
        if mode != "concurrent":
            await ledger.on(started.append, priority=2)
        await publisher.run_until_blocked()
    assert publisher.was_cancelled
    assert (len(ledger.records), started) == (1, [])


@on_asyncio
async def test_a_native_cancel_goes_on_once() -> None:
    """E5: code that cleans up after a cancelled publish is not cancelled a second time."""
    cleaned_up: list[bool] = []
    async with Ledger(announced=False) as ledger:

        async def cancel_and_fail(_: Any) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            raise ledger.inject(Boom())

        async def publish() -> None:
            with pytest.raises(asyncio.CancelledError):
                await ledger.publish()
            await checkpoint()
            cleaned_up.append(True)

        await ledger.on(cancel_and_fail)
        await asyncio.wait([asyncio.create_task(publish())])
    assert cleaned_up == [True]


@each_mode
@each_policy
@each_style
async def test_a_cancellation_that_was_there_before(
    mode: DeliveryMode, policy: ErrorPolicy, style: str
) -> None:
    """E5: a cancellation pending when `publish` begins strikes as in a plain await."""
    async with Ledger() as ledger:
        publisher = Publisher(ledger, style, mode, policy, cancelled=True)
        await ledger.on(wait)
        await publisher.run()
    assert publisher.was_cancelled


@each_mode
@each_style
async def test_a_cancellation_that_was_there_before_and_a_failure(
    mode: DeliveryMode, style: str
) -> None:
    """E5: turned into a failure, a pending cancellation goes on, and no further handler starts."""
    started: list[Any] = []
    async with Ledger(announced=False) as ledger:
        publisher = Publisher(ledger, style, mode, cancelled=True)
        await ledger.on(failing_in_cleanup(ledger), priority=1)
        if mode != "concurrent":
            await ledger.on(started.append, priority=2)
        await publisher.run()
    assert publisher.was_cancelled
    # It may strike before a handler starts.
    assert len(ledger.records) <= 1
    assert started == []


# Not sequentially after the `except`: there it can't be told from a native cancel that the handler
# had, and in doubt E5 wins (E6).
@each_style
@pytest.mark.parametrize(
    ("mode", "caught"),
    [*((mode, False) for mode in MODES), ("concurrent", True), ("tiered", True)],
)
async def test_failures_in_a_shielded_cleanup_are_reported(
    mode: DeliveryMode, style: str, *, caught: bool
) -> None:
    """E5: `publish` in the shielded cleanup of a cancelled task is not being cancelled."""
    ended: list[str] = []
    async with Ledger() as ledger:

        async def end(_: Any) -> None:
            await checkpoint()
            ended.append("handler")

        async def clean_up_at_once(_: Any) -> None:
            try:
                await sleep_forever()
            finally:
                with CancelScope(shield=True):
                    await ledger.bus.publish("cleanup", delivery=mode)

        async def clean_up_afterwards(_: Any) -> None:
            with pytest.raises(get_cancelled_exc_class()) as cancellation:
                await sleep_forever()
            with CancelScope(shield=True):
                await ledger.bus.publish("cleanup", delivery=mode)
            raise cancellation.value

        publisher = Publisher(ledger, style, "sequential")
        await ledger.on(clean_up_afterwards if caught else clean_up_at_once)
        for priority in (1, 2, 3):
            boom = ledger.inject(Boom())
            await ledger.on(partial(let_out, boom, priority), event="cleanup", priority=priority)
            await ledger.on(end, event="cleanup", priority=priority)
        await publisher.run_until_blocked()
    assert publisher.was_cancelled
    assert len(ended) == len(ledger.observed) == 3


@each_mode
@each_style
async def test_a_failure_in_a_shielded_cleanup_is_raised(mode: DeliveryMode, style: str) -> None:
    """E5, E3: under `raise` it leaves as ever, its siblings having been cancelled."""
    async with Ledger() as ledger:
        boom = ledger.inject(Boom())

        async def clean_up(_: Any) -> None:
            try:
                await sleep_forever()
            finally:
                with CancelScope(shield=True), pytest.raises(Boom) as caught:
                    await ledger.bus.publish("cleanup", delivery=mode, on_error="raise")
                ledger.raised.append(caught.value)

        publisher = Publisher(ledger, style, "sequential")
        await ledger.on(clean_up)
        if mode != "sequential":
            await ledger.on(failing_in_cleanup(ledger), event="cleanup")
        await ledger.on(partial(let_out, boom, 3), event="cleanup")
        await publisher.run_until_blocked()
    assert publisher.was_cancelled
    assert boom in ledger.raised


@each_mode
@each_policy
async def test_a_deadline_around_publish_is_seen(mode: DeliveryMode, policy: ErrorPolicy) -> None:
    """E5: `fail_after` raises its TimeoutError, though a handler turned it into a failure."""
    async with Ledger(announced=False) as ledger:
        await ledger.on(failing_in_cleanup(ledger) if policy == "continue" else wait)
        with pytest.raises(TimeoutError), fail_after(0):
            await ledger.publish(mode, policy)


@on_asyncio
@each_mode
@each_policy
async def test_a_native_deadline_around_publish_is_seen(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """E5: `asyncio.timeout` raises its TimeoutError as well."""
    async with Ledger(announced=False) as ledger:
        await ledger.on(failing_in_cleanup(ledger) if policy == "continue" else wait)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await ledger.publish(mode, policy)


@each_mode
async def test_a_deadline_within_a_handler_is_its_failure(mode: DeliveryMode) -> None:
    """E5: a scope of the handler's own is no cancellation of `publish`."""

    async def be_late(_: Any) -> None:
        with fail_after(0):
            await sleep_forever()

    async def give_up(_: Any) -> None:
        with CancelScope() as scope:
            scope.cancel()
            await sleep_forever()

    async with Ledger(announced=None) as ledger:
        await ledger.bus.subscribe(EVENT, "worker", give_up)
        late = await ledger.on(be_late)
        [failure] = await ledger.bus.publish(EVENT, delivery=mode)
        ledger.observed.clear()
        ledger.records.clear()
        ledger.lines.clear()
    assert failure.subscription is late
    assert type(failure.exception) is TimeoutError


@each_parallel_mode
@each_style
async def test_a_cancellation_in_an_observer_of_cleanup_gives_way(
    mode: DeliveryMode, style: str
) -> None:
    """E5: cancelled while siblings' failures are being published, the failure leaves."""
    async with Ledger(announced=None) as ledger:
        publisher = Publisher(ledger, style, mode, "raise")
        await ledger.on(failing_in_cleanup(ledger))
        await ledger.on(failing_in_cleanup(ledger))
        await ledger.on(partial(let_out, ledger.inject(Boom("first")), 3))
        await ledger.on(wait, event=HANDLER_FAILED)
        await publisher.run_until_blocked()
    assert str(publisher.left) == "first"
    assert len(ledger.records) == 2


@each_mode
@each_style
async def test_a_cancellation_in_an_observer_leaves(mode: DeliveryMode, style: str) -> None:
    """E5: a cancellation that strikes an observer is one of `publish`, and no failure."""
    started: list[Any] = []
    async with Ledger() as ledger:
        publisher = Publisher(ledger, style, mode)
        await ledger.on(partial(let_out, ledger.inject(Boom()), 0), priority=1)
        await ledger.on(wait, event=HANDLER_FAILED)
        if mode != "concurrent":
            await ledger.on(started.append, priority=2)
        await publisher.run_until_blocked()
    assert publisher.was_cancelled
    assert (len(ledger.records), started) == (1, [])


def test_where_asyncio_is_not_loaded_nothing_is_cancelled_natively(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E6: trio knows no cancel but its scopes', and needs no asyncio to tell so."""
    monkeypatch.delitem(sys.modules, "asyncio")
    assert cancel_requests() == 0
    assert "asyncio" not in sys.modules


@on_asyncio
async def test_where_no_task_runs_nothing_is_cancelled_natively() -> None:
    """E6: a callback of asyncio's loop runs in no task."""
    counted = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: counted.set_result(cancel_requests()))
    assert await counted == 0


@on_asyncio
async def test_in_cleanup_after_a_native_cancel_doubt_is_for_the_cancellation() -> None:
    """E6, E8: sequentially, a cancellation in a handler's group may be one of the publish."""
    async with Ledger(announced=False) as ledger:
        left: list[BaseException] = []

        async def clean_up(_: Any) -> None:
            try:
                await wait(_)
            except asyncio.CancelledError as cancellation:
                group = BaseExceptionGroup("both", [cancellation, ledger.inject(Boom())])
                await ledger.bus.subscribe("cleanup", "worker", partial(let_out, group, 1))
                with pytest.raises(asyncio.CancelledError) as caught:
                    await ledger.bus.publish("cleanup")
                left.append(caught.value)
                raise

        publisher = Publisher(ledger, "native", "sequential")
        await ledger.on(clean_up)
        await publisher.run_until_blocked()
    assert publisher.was_cancelled
    assert len(left) == len(ledger.records) == 1
