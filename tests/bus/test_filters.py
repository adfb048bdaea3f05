"""Filters, and subscriptions for one event only: B8, B9."""

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from anyio import Event, create_task_group, fail_after

from flexiflow import EventBus
from flexiflow._bus import DeliveryMode
from tests.helpers import (
    MODES,
    PATIENCE,
    Later,
    Refusal,
    accept,
    follow,
    never,
    noting,
    refuse,
    run_at_once,
    settle,
)

if TYPE_CHECKING:
    from flexiflow import Subscription

each_mode = pytest.mark.parametrize("mode", MODES)


@each_mode
async def test_a_filter_sees_the_name_and_the_payload(mode: DeliveryMode) -> None:
    """B8: behind a pattern it is told the event's own name."""
    bus = EventBus()
    asked: list[tuple[str, object]] = []

    def ask(event_name: str, data: object) -> bool:
        asked.append((event_name, data))
        return True

    await bus.subscribe("order.*", "c", lambda data: None, filter=ask)
    await bus.publish("order.placed", 1, delivery=mode)
    await bus.publish("order.paid", delivery=mode)
    assert asked == [("order.placed", 1), ("order.paid", None)]


@each_mode
async def test_a_filter_decides_for_each_publish(mode: DeliveryMode) -> None:
    """B8: the handler sees what its filter lets through, and another sees all."""
    bus = EventBus()
    even: list[object] = []
    every: list[object] = []
    await bus.subscribe("a", "c", even.append, filter=lambda name, data: data % 2 == 0)
    await bus.subscribe("a", "c", every.append)
    for number in range(6):
        await bus.publish("a", number, delivery=mode)
    assert (even, every) == ([0, 2, 4], [0, 1, 2, 3, 4, 5])


@each_mode
@pytest.mark.parametrize(("answer", "calls"), [(1, 1), ("yes", 1), (0, 0), (None, 0), ([], 0)])
async def test_a_filter_answers_by_truth(answer: Any, calls: int, mode: DeliveryMode) -> None:
    """B8: what is true starts the handler."""
    bus = EventBus()
    notes: list[object] = []
    await bus.subscribe("a", "c", notes.append, filter=lambda name, data: answer)
    await bus.publish("a", delivery=mode)
    assert len(notes) == calls


@each_mode
async def test_a_filter_is_never_asked_for_its_own_truth(mode: DeliveryMode) -> None:
    """B8: a filter that is itself false, like an empty collection that can be called, decides."""

    class Allowed(set[object]):
        def __call__(self, name: str, data: object) -> bool:
            return data in self

    notes: list[int] = []

    async def handler(data: int) -> None:
        notes.append(data)

    allowed = Allowed()
    bus = EventBus(delivery=mode)
    await bus.subscribe("a", "c", handler, filter=allowed)
    await bus.publish("a", 1)
    allowed.add(2)
    await bus.publish("a", 2)
    assert notes == [2]


@each_mode
async def test_a_filter_is_asked_just_before_its_handler_would_start(mode: DeliveryMode) -> None:
    """B8: it sees what the handlers before have done."""
    bus = EventBus()
    notes: list[str] = []

    def ask(number: int, event_name: str, data: object) -> bool:
        notes.append(f"asked {number}")
        return number != 2

    for number in (1, 2, 3):
        handler = noting(notes, f"ran {number}")
        await bus.subscribe("a", "c", handler, filter=partial(ask, number))
    await bus.publish("a", delivery=mode)
    assert notes == ["asked 1", "ran 1", "asked 2", "asked 3", "ran 3"]


@each_mode
async def test_a_filter_that_raises_is_a_failure_of_its_own_subscription(
    mode: DeliveryMode,
) -> None:
    """B8: its handler does not start, and no other is touched."""
    bus = EventBus()
    notes = await follow(bus, "before")
    failing = await bus.subscribe("a", "billing", never, filter=refuse)
    await bus.subscribe("a", "c", noting(notes, "after"))
    (failed,) = await bus.publish("a", 1, delivery=mode)
    assert (failed.event_name, failed.component_name) == ("a", "billing")
    assert (failed.subscription, failing.active) == (failing, True)
    assert isinstance(failed.exception, Refusal)
    assert notes == ["before", "after"]


@each_mode
async def test_a_filter_that_raises_is_under_the_policy(mode: DeliveryMode) -> None:
    """B8: under "raise" its exception leaves `publish`, and later handlers don't start."""
    bus = EventBus()
    notes = await follow(bus, "before", priority=1)
    await bus.subscribe("a", "c", never, filter=refuse, priority=2)
    await bus.subscribe("a", "c", never, priority=3)
    with pytest.raises(Refusal):
        await bus.publish("a", delivery=mode, on_error="raise")
    assert notes == ["before"]


@each_mode
async def test_a_filter_that_answers_with_an_awaitable_has_failed(mode: DeliveryMode) -> None:
    """B8: a filter whose async nature shows only in its answer starts nothing."""
    bus = EventBus()

    async def answer() -> bool:
        return True

    def coroutine(event_name: str, data: object) -> Any:
        return answer()

    def awaitable(event_name: str, data: object) -> Any:
        return Later(never, data)

    for filter in (coroutine, awaitable):
        await bus.subscribe("a", "c", never, filter=filter)
    failures = await bus.publish("a", delivery=mode)
    assert [type(failed.exception) for failed in failures] == [TypeError, TypeError]
    assert "returned an awaitable; a filter must answer at once" in str(failures[0].exception)


@each_mode
async def test_a_filter_may_unsubscribe_another(mode: DeliveryMode) -> None:
    """B8: only the one unsubscribed is left out, and no innocent neighbour."""
    bus = EventBus()
    notes: list[str] = []
    doomed: list[Subscription] = []

    def ask(event_name: str, data: object) -> bool:
        return bus.unsubscribe(doomed[0])

    earlier = await bus.subscribe("a", "c", noting(notes, "earlier"))
    await bus.subscribe("a", "c", noting(notes, "asking"), filter=ask)
    for name in ("next", "doomed", "last"):
        subscription = await bus.subscribe("a", "c", noting(notes, name))
        doomed += [subscription] * (name == "doomed")
    await bus.publish("a", delivery=mode)
    assert notes == ["earlier", "asking", "next", "last"]
    doomed[:] = [earlier]
    await bus.publish("a", delivery=mode)
    assert notes[4:] == ["earlier", "asking", "next", "last"]


@each_mode
@pytest.mark.parametrize("once", [False, True])
async def test_a_filter_may_unsubscribe_its_own_handler(mode: DeliveryMode, *, once: bool) -> None:
    """B8: the handler does not start after that, whatever the filter answers."""
    bus = EventBus()

    def ask(event_name: str, data: object) -> bool:
        return bus.unsubscribe(subscription)

    subscription = await bus.subscribe("a", "c", never, filter=ask, once=once)
    notes = await follow(bus, "next")
    assert await bus.publish("a", delivery=mode) == ()
    assert notes == ["next"]


@each_mode
@pytest.mark.parametrize("once", [False, True])
async def test_the_filter_of_one_who_is_unsubscribed_is_not_asked(
    mode: DeliveryMode, *, once: bool
) -> None:
    """B8: a filter is asked where its handler could start, and not after `unsubscribe`."""
    bus = EventBus(delivery=mode)
    await bus.subscribe("a", "c", lambda data: bus.unsubscribe_all("other"))
    await bus.subscribe("a", "other", never, filter=never, once=once)
    assert await bus.publish("a") == ()


@each_mode
async def test_a_filter_may_publish(mode: DeliveryMode) -> None:
    """B8: a publish within a filter runs to its end before the handler starts."""
    bus = EventBus()
    notes = await follow(bus, "inner", event="b")

    def ask(event_name: str, data: object) -> bool:
        run_at_once(bus.publish("b"))
        return True

    await bus.subscribe("a", "c", noting(notes, "outer"), filter=ask)
    await bus.publish("a", delivery=mode)
    assert notes == ["inner", "outer"]


@each_mode
async def test_once_is_once(mode: DeliveryMode) -> None:
    """B9: a second publish does not start it."""
    bus = EventBus()
    subscription = await bus.subscribe("a", "c", never, once=True)
    bus.unsubscribe(subscription)
    notes = await follow(bus, "once", "once too", once=True)
    for _ in range(3):
        await bus.publish("a", delivery=mode)
    assert notes == ["once", "once too"]
    assert not [*bus.subscriptions()]


@each_mode
async def test_once_is_unsubscribed_before_it_starts(mode: DeliveryMode) -> None:
    """B9: in its handler it is over, and publishing there doesn't start it again."""
    bus = EventBus()
    states: list[tuple[bool, bool]] = []

    async def handler(data: object) -> None:
        states.append((subscription.active, bus.unsubscribe(subscription)))
        await bus.publish("a", delivery=mode)

    subscription = await bus.subscribe("a", "c", handler, once=True)
    await bus.publish("a", delivery=mode)
    assert states == [(False, False)]


@each_mode
@pytest.mark.parametrize("filter", [None, accept], ids=["plain", "filtered"])
async def test_once_is_once_also_when_publishes_overlap(mode: DeliveryMode, filter: Any) -> None:
    """B9: of two publishes that both have it before them, one starts it."""
    bus = EventBus()
    gate = Event()
    notes: list[str] = []

    async def wait(data: object) -> None:
        await gate.wait()

    await bus.subscribe("a", "c", wait, priority=1)
    await bus.subscribe("a", "c", noting(notes, "once"), priority=2, once=True, filter=filter)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            for _ in range(3):
                group.start_soon(partial(bus.publish, "a", delivery=mode))
            await settle()
            gate.set()
    assert notes == ["once"]


@each_mode
async def test_once_is_once_also_when_its_filter_publishes_the_same(mode: DeliveryMode) -> None:
    """B9: the publish within the filter uses it up, and the one around doesn't start it."""
    bus = EventBus()
    notes: list[object] = []

    def ask(event_name: str, data: object) -> bool:
        if data == "outer":
            run_at_once(bus.publish("a", "inner"))
        return True

    await bus.subscribe("a", "c", notes.append, filter=ask, once=True)
    await bus.publish("a", "outer", delivery=mode)
    assert notes == ["inner"]


@each_mode
async def test_once_waits_for_what_its_filter_accepts(mode: DeliveryMode) -> None:
    """B9: a filter that refuses or raises leaves it subscribed."""
    bus = EventBus()
    notes: list[object] = []

    def ask(event_name: str, data: object) -> bool:
        return refuse(event_name, data) if data == "raise" else data == "accept"

    subscription = await bus.subscribe("a", "c", notes.append, filter=ask, once=True)
    for data in ("refuse", "raise", "refuse"):
        await bus.publish("a", data, delivery=mode)
        assert subscription.active
    for data in ("accept", "accept"):
        await bus.publish("a", data, delivery=mode)
    assert (notes, subscription.active) == (["accept"], False)


async def test_once_is_kept_where_an_earlier_failure_leaves() -> None:
    """B9: what did not start is not used up."""
    bus = EventBus()
    first = await bus.subscribe("a", "c", never, filter=refuse)
    once = await bus.subscribe("a", "c", never, once=True)
    with pytest.raises(Refusal):
        await bus.publish("a", on_error="raise")
    assert (first.active, once.active) == (True, True)
