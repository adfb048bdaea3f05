"""What becomes of a handler's failure: E1 to E4."""

import copy
from contextvars import ContextVar
from dataclasses import FrozenInstanceError
from functools import partial
from typing import Any

import pytest
from anyio import Event, get_current_task, sleep_forever
from anyio.lowlevel import checkpoint

from flexiflow import EventBus, HandlerFailure
from flexiflow._bus import DeliveryMode, ErrorPolicy
from flexiflow.events import HANDLER_FAILED, HandlerFailed
from tests.accounting import EVENT, Boom, Ledger
from tests.attacks import (
    Undecided,
    each_kind,
    each_mode,
    each_policy,
    failing,
    failing_in_cleanup,
    wait,
)


@each_mode
async def test_failures_are_returned_in_order_of_delivery(mode: DeliveryMode) -> None:
    """E1: `publish` returns every failure, in order of delivery, whenever it came."""
    last_failed = Event()

    async with Ledger() as ledger:

        async def first(_: Any) -> None:
            if mode == "concurrent":
                await last_failed.wait()
            raise ledger.inject(booms[0])

        async def last(_: Any) -> None:
            await checkpoint()
            last_failed.set()
            raise ledger.inject(booms[2])

        booms = [Boom("first"), Boom("middle"), Boom("last")]
        at_last = await ledger.on(last, priority=5)
        at_first = await ledger.on(first, priority=1)
        in_between = await ledger.on(failing(ledger, booms[1]), event="order.*")
        failures = await ledger.publish(mode)

    subscriptions = [at_first, in_between, at_last]
    assert failures == tuple(
        HandlerFailure(EVENT, "worker", boom, subscription)
        for boom, subscription in zip(booms, subscriptions, strict=True)
    )


@each_mode
async def test_every_other_handler_still_runs(mode: DeliveryMode) -> None:
    """E1: a failure keeps no other handler from running to its end, with the same payload."""
    ended: list[int] = []
    payloads: list[object] = []

    async def end(place: int, data: object) -> None:
        await checkpoint()
        ended.append(place)
        payloads.append(data)

    async with Ledger() as ledger:
        for place in range(6):
            handler = partial(end, place) if place % 2 else failing(ledger)
            await ledger.on(handler, priority=1 + place // 2)
        await ledger.bus.publish(EVENT, ended, delivery=mode)
    assert sorted(ended) == [1, 3, 5]
    assert [data is ended for data in payloads] == [True] * 3


@each_mode
async def test_a_failure_is_logged_with_its_traceback(mode: DeliveryMode) -> None:
    """E1: the log entry is an error that names event, component and handler, and shows where."""
    async with Ledger() as ledger:

        async def charge_the_card(_: Any) -> None:
            await checkpoint()
            raise ledger.inject(Boom("declined"))

        await ledger.bus.subscribe(EVENT, "billing", charge_the_card)
        await ledger.publish(mode)

    [line], [record] = ledger.lines, ledger.records
    told = [charge_the_card.__qualname__, "'billing'", f"'{EVENT}'", "in charge_the_card"]
    assert [each for each in [*told, "Traceback", "declined"] if each not in line] == []
    assert (record.name, record.levelname) == ("flexiflow", "ERROR")


@each_mode
async def test_a_failure_is_published(mode: DeliveryMode) -> None:
    """E1: `event.handler.failed` tells the event, the component and the exception object."""
    async with Ledger() as ledger:
        boom = Boom()
        await ledger.bus.subscribe(EVENT, "billing", failing(ledger, boom))
        await ledger.publish(mode)
    expected: HandlerFailed = {
        "event_name": EVENT,
        "component_name": "billing",
        "exception": boom,
    }
    assert ledger.observed == [expected]


@each_mode
async def test_a_failure_is_reported_at_once(mode: DeliveryMode) -> None:
    """E1: a failure is published before the next handler starts, or while its siblings run."""
    seen = Event()

    async def observe(_: HandlerFailed) -> None:
        await checkpoint()
        seen.set()

    async def wait_until_seen(_: Any) -> None:
        await seen.wait()

    async with Ledger() as ledger:
        await ledger.on(observe, event=HANDLER_FAILED)
        await ledger.on(failing(ledger))
        await ledger.on(wait_until_seen)
        failures = await ledger.publish(mode)
    assert len(failures) == 1


@each_mode
async def test_a_failure_is_logged_before_it_is_published(mode: DeliveryMode) -> None:
    """E1: an observer of a failure finds it in the log."""
    lines: list[int] = []
    async with Ledger() as ledger:
        await ledger.on(lambda _: lines.append(len(ledger.lines)), event=HANDLER_FAILED)
        for _ in range(3):
            await ledger.on(failing(ledger))
        await ledger.publish(mode)
    assert lines == [1, 2, 3]


@each_mode
async def test_a_failure_is_reported_in_the_task_of_its_handler(mode: DeliveryMode) -> None:
    """E1: observers run in the failing handler's task, with what it left in its context."""
    request: ContextVar[str] = ContextVar("request")
    failed_in: list[tuple[int, str]] = []
    observed_in: list[tuple[int, str]] = []

    def note(places: list[tuple[int, str]], _: Any) -> None:
        places.append((get_current_task().id, request.get()))

    async with Ledger() as ledger:

        async def fail(name: str, _: Any) -> None:
            await checkpoint()
            request.set(name)
            note(failed_in, None)
            raise ledger.inject(Boom())

        await ledger.on(partial(note, observed_in), event=HANDLER_FAILED)
        for name in ("first", "second"):
            await ledger.on(partial(fail, name))
        await ledger.publish(mode)
    assert len(observed_in) == 2
    assert sorted(observed_in) == sorted(failed_in)


@each_mode
@each_policy
async def test_a_failing_filter_is_a_failure(mode: DeliveryMode, policy: ErrorPolicy) -> None:
    """E4: what a filter raises surfaces as a failure of its subscription, once."""
    async with Ledger() as ledger:
        boom = Boom()

        def refuse(_event: str, _data: Any) -> bool:
            raise ledger.inject(boom)

        await ledger.on(lambda _: None)
        await ledger.on(wait, filter=refuse)
        assert await ledger.surfaced(mode, policy) is boom


@each_mode
async def test_stop_iteration_is_a_failure_like_others(mode: DeliveryMode) -> None:
    """E1: a StopIteration, which no coroutine can let out, is reported as it is."""
    async with Ledger() as ledger:
        await ledger.on(failing(ledger, StopIteration()))
        [failure] = await ledger.publish(mode)
    assert type(failure.exception) is StopIteration


@pytest.mark.unmeasured
@each_mode
@each_kind
@pytest.mark.parametrize("waits", [False, True])
async def test_the_first_failure_leaves_as_it_is(
    mode: DeliveryMode, kind: type[Exception], *, waits: bool
) -> None:
    """E2, E3: under `raise` the exception object itself leaves, bare and untouched."""
    async with Ledger() as ledger:
        exception = ledger.inject(kind())

        async def fail(_: Any) -> None:
            if waits:
                await checkpoint()
            raise exception

        await ledger.on(fail)
        with pytest.raises(kind) as caught:
            await ledger.publish(mode, "raise")
    assert caught.value is exception
    assert (exception.__cause__, exception.__context__) == (None, None)
    assert ledger.records == []


@each_mode
async def test_handlers_after_the_failure_do_not_start(mode: DeliveryMode) -> None:
    """E2, E3: handlers that were not started when one failed don't start, and keep `once`."""
    started: list[Any] = []
    async with Ledger() as ledger:
        await ledger.on(started.append, priority=1)
        await ledger.on(failing(ledger), priority=2)
        later = [
            await ledger.on(started.append, priority=priority, once=True)
            for priority in (2, 2, 3, 5)
        ]
        with pytest.raises(Boom):
            await ledger.publish(mode, "raise")
    assert len(started) == 1
    assert all(each.active for each in later)


async def test_later_tiers_do_not_start() -> None:
    """E2: tiered, a tier is over before the failure leaves, and no other starts."""
    story: list[str] = []
    sibling_waits = Event()

    async def sibling(_: Any) -> None:
        try:
            sibling_waits.set()
            await sleep_forever()
        finally:
            story.append("cleaned up")

    async with Ledger() as ledger:

        async def fail(_: Any) -> None:
            await sibling_waits.wait()
            raise ledger.inject(Boom())

        await ledger.on(lambda _: story.append("tier 1"), priority=1)
        await ledger.on(fail, priority=2)
        await ledger.on(sibling, priority=2)
        await ledger.on(lambda _: story.append("tier 3"), priority=3)
        with pytest.raises(Boom):
            await ledger.publish("tiered", "raise")
    assert story == ["tier 1", "cleaned up"]


@pytest.mark.unmeasured
@each_mode
@each_policy
@each_kind
async def test_every_kind_of_exception_surfaces_once(
    mode: DeliveryMode, policy: ErrorPolicy, kind: type[Exception]
) -> None:
    """E4: exceptions that fail or lie when asked are raised or reported like others."""
    async with Ledger() as ledger:

        async def fail_later(_: Any) -> None:
            for _turn in range(3):
                await checkpoint()
            raise ledger.inject(kind())

        await ledger.on(lambda _: None)
        if policy == "raise" and mode != "sequential":
            await ledger.on(failing_in_cleanup(ledger, kind()))
        await ledger.on(fail_later)
        if policy == "continue":
            await ledger.on(failing(ledger, kind()))
            await ledger.on(failing(ledger, kind()))
        if policy == "raise":
            with pytest.raises(kind):
                await ledger.publish(mode, policy)
        else:
            assert len(await ledger.publish(mode, policy)) == 3


@each_mode
@each_policy
async def test_an_exception_that_can_not_be_asked_surfaces_once(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """E4: an exception whose truth can't be told, not even for a log, takes the usual way."""
    async with Ledger() as ledger:
        await ledger.on(failing(ledger, Undecided()))
        # Let out of the test, the exception would break the runner's own report.
        kind = type(await ledger.surfaced(mode, policy))
    assert kind is Undecided


@each_mode
@each_policy
async def test_a_failure_in_a_nested_publish_is_the_outer_handlers_own(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """E4: raised to a handler, an inner failure is that handler's, under the outer policy."""
    inner = EventBus(on_error="raise")
    async with Ledger() as ledger:
        await ledger.watch(inner)

        async def publish_inside(_: Any) -> None:
            await inner.publish("inner", delivery=mode)

        boom = Boom()
        await inner.subscribe("inner", "worker", failing(ledger, boom))
        await ledger.on(publish_inside)
        assert await ledger.surfaced(mode, policy) is boom


async def test_a_failure_is_a_record_that_never_changes() -> None:
    """E1: it is compared, hashed, copied and shown by all that it has, and can't be changed."""
    (failed,), attribute = await failed_of_one(), "event_name"
    facts = failed.event_name, failed.component_name, failed.exception, failed.subscription
    twin, other = HandlerFailure(*facts), HandlerFailure("other", *facts[1:])
    assert twin == copy.copy(failed) == failed != other
    assert {failed, twin, other} == {failed, other}
    assert failed != facts
    assert [getattr(failed, each) for each in HandlerFailure.__match_args__] == [*facts]
    assert repr(failed) == (
        f"HandlerFailure(event_name='a', component_name='c', exception={facts[2]!r}, "
        f"subscription={facts[3]!r})"
    )
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'event_name'"):
        setattr(failed, attribute, "b")
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'event_name'"):
        delattr(failed, attribute)


async def failed_of_one() -> tuple[Any, ...]:
    """Publish to a handler that fails."""

    async def fail(data: object) -> None:
        raise Boom

    bus = EventBus()
    await bus.subscribe("a", "c", fail)
    return await bus.publish("a")
