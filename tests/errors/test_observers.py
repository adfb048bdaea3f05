"""Observers that fail, and exception groups: E7 and E8; and what an exception says of itself."""

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest
from anyio import (
    Event,
    create_task_group,
    get_cancelled_exc_class,
    sleep_forever,
)
from anyio.lowlevel import checkpoint

from flexiflow import EventBus, HandlerCancelled
from flexiflow._bus import DeliveryMode, ErrorPolicy
from flexiflow.events import HANDLER_FAILED
from tests.accounting import EVENT, Boom, Fatal, Ledger, Publisher, leaves
from tests.attacks import (
    each_mode,
    each_parallel_mode,
    each_policy,
    each_style,
    failing,
    kept_cancellation,
)


def failing_with(exception: BaseException) -> Callable[[Any], None]:
    """Make a handler that lets out what the books don't count."""

    def fail(_: Any) -> None:
        raise exception

    return fail


def with_failing_child(ledger: Ledger) -> Callable[[Any], object]:
    """Make a handler with a task group of which one child fails in its cleanup."""

    async def child() -> None:
        try:
            await sleep_forever()
        finally:
            raise ledger.inject(Boom())

    async def have_children(_: Any) -> None:
        async with create_task_group() as group:
            group.start_soon(child)
            group.start_soon(sleep_forever)

    return have_children


async def provoke(ledger: Ledger, mode: DeliveryMode = "sequential") -> None:
    """Have one handler fail, so that `event.handler.failed` is published."""
    with await ledger.on(failing(ledger), priority=5):
        assert len(await ledger.publish(mode)) == 1


@each_mode
async def test_a_failing_observer_is_logged_and_reported_no_further(mode: DeliveryMode) -> None:
    """E7: what an observer raises is logged; the other observers and the publish go on."""
    async with Ledger() as ledger:
        for priority in (1, 5):
            observer = failing(ledger, announced=False)
            await ledger.on(observer, event=HANDLER_FAILED, priority=priority)
        await provoke(ledger, mode)
    assert (len(ledger.records), len(ledger.observed)) == (3, 1)
    assert HANDLER_FAILED in ledger.lines[1]


async def test_an_observer_of_everything_that_always_fails() -> None:
    """E7: a handler of `**` fails on the event, and once more on its own failure, no further."""
    async with Ledger(announced=None) as ledger:
        await ledger.on(failing(ledger), event="**")
        assert len(await ledger.publish()) == 1
    assert (len(ledger.records), len(ledger.observed)) == (2, 1)


@each_mode
@each_policy
async def test_an_observer_that_publishes_what_fails(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """E7: a failure in what an observer publishes is logged, once, and reported no further."""
    async with Ledger() as ledger:

        async def observe(_: Any) -> None:
            await ledger.bus.publish("inner", delivery=mode, on_error=policy)

        await ledger.on(observe, event=HANDLER_FAILED)
        await ledger.on(failing(ledger, announced=False), event="inner")
        await provoke(ledger, mode)
    assert (len(ledger.records), len(ledger.observed)) == (2, 1)


@each_mode
async def test_an_observer_that_publishes_what_fails_in_a_roundabout_way(
    mode: DeliveryMode,
) -> None:
    """E7: through other events, another bus and a child task, an observer still hears nothing."""
    other = EventBus(delivery=mode)
    async with Ledger() as ledger:
        await ledger.watch(other)

        async def observe(_: Any) -> None:
            await ledger.bus.publish("one", delivery=mode)

        async def one(_: Any) -> None:
            async with create_task_group() as group:
                group.start_soon(other.publish, "two")
                group.start_soon(other.publish, "two")

        async def two(_: Any) -> None:
            await checkpoint()
            await ledger.bus.publish("three", delivery=mode)

        await ledger.on(observe, event=HANDLER_FAILED)
        await other.subscribe(HANDLER_FAILED, "worker", observe)
        await ledger.on(one, event="one")
        await other.subscribe("two", "worker", two)
        await other.subscribe("two", "worker", failing(ledger, announced=False))
        await ledger.on(failing(ledger, announced=False), event="three")
        await provoke(ledger, mode)
    assert (len(ledger.records), len(ledger.observed)) == (5, 1)


@each_mode
async def test_handlers_of_a_published_report_report_no_further(
    mode: DeliveryMode,
) -> None:
    """E7: it is the event that counts, not that a failure was behind it."""
    async with Ledger() as ledger:
        observed: list[Any] = []

        async def observe(payload: Any) -> None:
            observed.append(payload)
            await ledger.bus.publish("inner", delivery=mode)
            raise ledger.inject(Boom(), announced=False)

        await ledger.on(observe, event=HANDLER_FAILED)
        await ledger.on(failing(ledger, announced=False), event="inner")
        payload = {"event_name": "none", "component_name": "none", "exception": None}
        failures = await ledger.bus.publish(HANDLER_FAILED, payload, delivery=mode)
        ledger.observed.clear()
    assert (observed, len(failures), len(ledger.records)) == ([payload], 1, 2)


@each_mode
async def test_a_failure_after_an_observers_is_reported_again(mode: DeliveryMode) -> None:
    """E7: only what happens within an observer is silent, not what comes after it."""
    async with Ledger() as ledger:
        await ledger.on(failing(ledger, announced=False), event=HANDLER_FAILED)
        await provoke(ledger, mode)
        await provoke(ledger, mode)
    assert (len(ledger.records), len(ledger.observed)) == (4, 2)


@each_mode
async def test_a_report_leaves_nothing_in_the_publishers_context(mode: DeliveryMode) -> None:
    """E7: what keeps an observer silent is gone from the context when it has ended."""
    async with Ledger() as ledger:
        before = list(copy_context().items())
        await provoke(ledger, mode)
        assert list(copy_context().items()) == before


@each_parallel_mode
async def test_an_observer_at_work_silences_no_sibling(mode: DeliveryMode) -> None:
    """E7: a handler that fails while another one's failure is being observed is reported too."""
    second_failed = Event()
    async with Ledger() as ledger:

        async def observe(_: Any) -> None:
            if len(ledger.observed) == 1:
                await second_failed.wait()
            second_failed.set()

        async def fail_later(_: Any) -> None:
            await checkpoint()
            raise ledger.inject(Boom())

        await ledger.on(observe, event=HANDLER_FAILED)
        await ledger.on(failing(ledger))
        await ledger.on(fail_later)
        assert len(await ledger.publish(mode)) == 2


@each_mode
async def test_a_task_left_behind_by_an_observer_reports_again(mode: DeliveryMode) -> None:
    """E7: a background task is silent while its observer is at work, and not afterwards."""
    observed = Event()
    async with Ledger() as ledger, create_task_group() as group:
        first = Event()

        async def linger() -> None:
            await ledger.bus.publish("inner", delivery=mode)
            first.set()
            await observed.wait()
            await ledger.bus.publish("outer", delivery=mode)

        async def observe(failed: Any) -> None:
            if failed["event_name"] == EVENT:
                group.start_soon(linger)
                await first.wait()

        await ledger.on(observe, event=HANDLER_FAILED)
        await ledger.on(failing(ledger, announced=False), event="inner")
        await ledger.on(failing(ledger), event="outer")
        await provoke(ledger, mode)
        observed.set()
    assert [each["event_name"] for each in ledger.observed] == [EVENT, "outer"]


@each_mode
@each_policy
@pytest.mark.parametrize("kind", [ExceptionGroup, BaseExceptionGroup])
async def test_a_group_of_failures_is_one_failure_kept_whole(
    mode: DeliveryMode, policy: ErrorPolicy, kind: type[BaseExceptionGroup[Any]]
) -> None:
    """E8: an exception group from a handler is raised or reported as the object that it is."""
    async with Ledger() as ledger:
        inner = ExceptionGroup("inner", [ledger.inject(Boom()), ledger.inject(ValueError())])
        group = kind("outer", [inner, ledger.inject(Boom())])

        async def fail(_: Any) -> None:
            await checkpoint()
            raise group

        await ledger.on(fail)
        surfaced = await ledger.surfaced(mode, policy)
    assert surfaced is group


@each_mode
@each_policy
async def test_a_group_that_holds_more_than_failures_leaves_whole(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """E8: a group with an exit in it is no failure, and leaves as it is."""
    group = BaseExceptionGroup("outer", [Boom(), ExceptionGroup("inner", [Boom()]), Fatal()])
    async with Ledger() as ledger:

        def leave(_: Any) -> None:
            raise group

        await ledger.on(leave)
        with pytest.raises(BaseExceptionGroup) as caught:
            await ledger.publish(mode, policy)
    assert caught.value is group
    assert ledger.records == []


@each_mode
@each_policy
async def test_a_stray_cancellation_in_a_group_is_split_off(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """E8: of a group that holds cancellations, at any depth, the rest is the failure."""
    stray = await kept_cancellation()
    async with Ledger() as ledger:
        booms = [ledger.inject(Boom()), ledger.inject(Boom())]

        async def fail(_: Any) -> None:
            inner = BaseExceptionGroup("inner", [stray, booms[0]])
            raise BaseExceptionGroup("outer", [stray, inner, booms[1]])

        await ledger.on(fail)
        surfaced = await ledger.surfaced(mode, policy)
    assert (isinstance(surfaced, Exception), list(leaves(surfaced))) == (True, booms)


@each_mode
@each_policy
async def test_a_group_of_stray_cancellations_alone_is_one(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """E8: a group that holds nothing but cancellations is judged as one of them would be."""
    stray = await kept_cancellation()
    group = BaseExceptionGroup("outer", [stray, BaseExceptionGroup("inner", [stray])])
    async with Ledger() as ledger:
        await ledger.on(failing_with(group))
        surfaced = await ledger.surfaced(mode, policy)
    assert isinstance(surfaced, HandlerCancelled)
    assert surfaced.__cause__ is group


@each_mode
@each_policy
async def test_an_exit_beside_a_stray_cancellation_leaves(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """E8: an exit that shares its group with a cancellation leaves, and is no failure."""
    stray, fatal = await kept_cancellation(), Fatal()
    async with Ledger() as ledger:
        await ledger.on(failing_with(BaseExceptionGroup("both", [stray, fatal])))
        with pytest.raises(BaseExceptionGroup) as caught:
            await ledger.publish(mode, policy)
    assert list(leaves(caught.value)) == [fatal]
    assert ledger.records == []


@each_mode
@each_style
async def test_a_cancelled_task_group_with_a_failure_is_both(
    mode: DeliveryMode, style: str
) -> None:
    """E8: continue logs the failure of a child's cleanup, and the cancellation goes on."""
    async with Ledger(announced=False) as ledger:
        publisher = Publisher(ledger, style, mode)
        started: list[Any] = []
        await ledger.on(with_failing_child(ledger))
        if mode != "concurrent":
            await ledger.on(started.append, priority=5)
        await publisher.run_until_blocked()
    assert publisher.was_cancelled
    assert (len(ledger.records), started) == (1, [])


@each_mode
@each_style
async def test_a_cancelled_task_group_with_a_failure_raises_the_failure(
    mode: DeliveryMode, style: str
) -> None:
    """E8: under `raise` the group leaves without its cancellations, on either backend."""
    async with Ledger() as ledger:
        publisher = Publisher(ledger, style, mode, "raise")
        await ledger.on(with_failing_child(ledger))
        await publisher.run_until_blocked()
    assert publisher.left is not None
    assert [type(leaf) for leaf in leaves(publisher.left)] == [Boom]


@each_mode
@each_style
async def test_a_handlers_group_with_the_cancellation_is_both(
    mode: DeliveryMode, style: str
) -> None:
    """E8: of a group that holds the cancellation, the rest is logged, and that goes on."""
    started: list[Any] = []
    async with Ledger(announced=False) as ledger:

        async def gather(_: Any) -> None:
            with pytest.raises(get_cancelled_exc_class()) as caught:
                await sleep_forever()
            raise BaseExceptionGroup("both", [caught.value, ledger.inject(Boom())])

        publisher = Publisher(ledger, style, mode)
        await ledger.on(gather)
        if mode != "concurrent":
            await ledger.on(started.append, priority=5)
        await publisher.run_until_blocked()
    assert publisher.was_cancelled
    assert (len(ledger.records), started) == (1, [])


@each_mode
@each_policy
@each_style
async def test_a_handlers_group_of_the_cancellation_alone_is_one(
    mode: DeliveryMode, policy: ErrorPolicy, style: str
) -> None:
    """E8, E5: the cancellation goes on bare, and nothing has failed."""
    async with Ledger() as ledger:

        async def gather(_: Any) -> None:
            with pytest.raises(get_cancelled_exc_class()) as caught:
                await sleep_forever()
            raise BaseExceptionGroup("outer", [BaseExceptionGroup("inner", [caught.value])])

        publisher = Publisher(ledger, style, mode, policy)
        await ledger.on(gather)
        await publisher.run_until_blocked()
    assert publisher.was_cancelled
    assert ledger.records == []


@each_mode
@each_policy
async def test_a_group_that_can_not_be_split_is_not_lost(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """E4: where a group's own class refuses to be split, what that raises surfaces."""

    class Unsplittable(BaseExceptionGroup[BaseException]):
        def derive(self, excs: Any, /) -> Any:
            raise Fatal

    stray = await kept_cancellation()
    async with Ledger() as ledger:
        await ledger.on(failing_with(Unsplittable("outer", [stray, Boom()])))
        with pytest.raises(Fatal):
            await ledger.publish(mode, policy)


def test_handler_cancelled_says_what_happened() -> None:
    """E6: the message names the handler, and tells the two ways to come by it."""
    exception = HandlerCancelled("charge")
    assert exception.culprit == "charge"
    told = ("charge", "someone else cancelled", "no scope around")
    assert [each for each in told if each not in str(exception)] == []
