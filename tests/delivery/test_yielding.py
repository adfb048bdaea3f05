"""How often a publish gives others their turn: D6, and B5 where it does."""

from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
from anyio import (
    CancelScope,
    Event,
    create_task_group,
    current_effective_deadline,
    fail_after,
    wait_all_tasks_blocked,
)
from anyio.lowlevel import checkpoint

from flexiflow import Component, Engine, EventBus, _dispatcher
from flexiflow._bus import DeliveryMode, dispatcher_of
from tests.helpers import MODES, PATIENCE, never, run_at_once

each_mode = pytest.mark.parametrize("mode", MODES)


def count_yields(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the checkpoints that the bus makes of its own, `subscribe` included."""
    yields: list[int] = []

    async def counted() -> None:
        yields.append(len(yields))
        await checkpoint()

    monkeypatch.setattr(_dispatcher, "checkpoint", counted)
    return yields


async def yields_of(bus: EventBus, yields: list[int], number: int, event: str = "a") -> list[int]:
    """Publish so many times, and return which of them yielded, counted from 1."""
    yielding: list[int] = []
    for place in range(1, number + 1):
        before = len(yields)
        await bus.publish(event)
        yielding += [place] * (len(yields) - before)
    return yielding


@pytest.mark.parametrize("yield_every", [1, 2, 3, 61, 100])
async def test_one_publish_in_so_many_yields(
    yield_every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D6: exactly one in `yield_every`, heard or not, counted from the bus's first."""
    yields = count_yields(monkeypatch)
    for heard in (False, True):
        bus = EventBus(yield_every=yield_every)
        if heard:
            await bus.subscribe("a", "c", str)
        yielding = await yields_of(bus, yields, 3 * yield_every)
        assert yielding == [yield_every, 2 * yield_every, 3 * yield_every]


async def test_one_publish_in_61_yields_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """D6: the default is 61."""
    yields = count_yields(monkeypatch)
    assert await yields_of(EventBus(), yields, 190) == [61, 122, 183]


async def test_while_schedules_are_explored_each_publish_yields(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P2: whatever the bus was told, and heard or not."""
    yields = count_yields(monkeypatch)
    token = _dispatcher.yields_always.set(True)
    bus = EventBus(yield_every=5)
    _dispatcher.yields_always.reset(token)
    assert await yields_of(bus, yields, 3) == [1, 2, 3]


async def test_publishes_of_all_names_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: it is the publishes of the bus that count, not those of one event."""
    yields = count_yields(monkeypatch)
    bus = EventBus(yield_every=4)
    found = [await yields_of(bus, yields, 1, name) for name in ("a", "b", "c", "d") * 2]
    assert found == [[], [], [], [1]] * 2


async def test_each_bus_counts_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: what is published on another bus doesn't count here."""
    yields = count_yields(monkeypatch)
    bus, other = EventBus(yield_every=3), EventBus(yield_every=3)
    await yields_of(other, yields, 2)
    assert await yields_of(bus, yields, 3) == [3]


async def test_publishes_within_handlers_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: a handler that publishes brings the next yield closer."""
    yields = count_yields(monkeypatch)
    bus = EventBus(yield_every=4)
    await bus.subscribe("a", "c", lambda data: bus.publish("b"))
    before = len(yields)
    await bus.publish("a")
    assert len(yields) == before
    await bus.publish("a")
    assert len(yields) == before + 1


@pytest.mark.parametrize("heard", [False, True])
async def test_built_in_events_count_heard_or_not(
    monkeypatch: pytest.MonkeyPatch, *, heard: bool
) -> None:
    """D6: a failure that is published counts as one, without a yield of its own."""
    yields = count_yields(monkeypatch)
    bus = EventBus(yield_every=4)

    def fail(data: object) -> None:
        raise LookupError

    await bus.subscribe("a", "c", fail)
    if heard:
        await bus.subscribe("event.handler.failed", "c", str)
    assert await yields_of(bus, yields, 6) == [3, 5]


async def test_a_send_yields_before_its_message_once_so_many_events_went_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """D6, C4: each message is one event here, and a yield is due after three."""
    yields = count_yields(monkeypatch)
    engine, yielding = Engine(bus=EventBus(yield_every=3)), list[int]()
    await engine.register(Component("a"))
    for place in range(9):
        before = len(yields)
        await engine.send("a", {"type": "go"})
        yielding += [place] * (len(yields) - before)
    # The registration was the first event.
    assert yielding == [2, 5, 8]


async def test_a_refused_publish_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """B3: a bad argument changes nothing, not even when the next yield comes."""
    yields = count_yields(monkeypatch)
    bus = EventBus(yield_every=3)
    wrong: Any = "parallel"
    for _ in range(5):
        with pytest.raises(ValueError, match="delivery"):
            await bus.publish("a", delivery=wrong)
        with pytest.raises(ValueError, match="on_error"):
            await bus.publish("a", on_error=wrong)
        with pytest.raises(ValueError, match="malformed"):
            await bus.publish("")
    assert await yields_of(bus, yields, 3) == [3]


async def test_a_publish_that_does_not_yield_gives_no_turn_away() -> None:
    """D6: with handlers that don't wait, 60 publishes in a row go through at once."""
    bus = EventBus()
    notes: list[object] = []
    await bus.subscribe("a", "c", notes.append)
    await bus.subscribe("**", "c", notes.append, filter=lambda name, data: True)
    for _ in range(60):
        run_at_once(bus.publish("a"))
    assert len(notes) == 120


@pytest.mark.parametrize("heard", [False, True])
async def test_a_publishing_loop_starves_nobody(*, heard: bool) -> None:
    """D6: another task gets its turn while one publishes without end."""
    bus = EventBus()
    turns: list[int] = []

    async def other() -> None:
        for turn in range(3):
            turns.append(turn)
            await checkpoint()

    if heard:
        await bus.subscribe("a", "c", str)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            group.start_soon(other)
            while len(turns) < 3:
                await bus.publish("a")


@pytest.mark.parametrize("heard", [False, True])
async def test_a_publishing_loop_can_be_cancelled(*, heard: bool) -> None:
    """D6: of `yield_every` publishes one at least notices a cancellation."""
    bus = EventBus()
    published = 0
    if heard:
        await bus.subscribe("a", "c", str)
    with CancelScope() as scope:
        scope.cancel()
        for _ in range(61):
            await bus.publish("a")
            published += 1
    assert scope.cancelled_caught
    assert published == 60


@each_mode
async def test_a_cancelled_publish_that_yields_starts_nothing(mode: DeliveryMode) -> None:
    """D6: cancelled at the yield, no handler and no filter runs, and `once` is unused."""
    bus = EventBus(yield_every=1, delivery=mode)
    once = await bus.subscribe("a", "c", never, once=True)
    await bus.subscribe("a", "c", never, filter=never)
    with CancelScope() as scope:
        scope.cancel()
        await bus.publish("a")
    assert (scope.cancelled_caught, once.active) == (True, True)


async def test_a_cancelled_yield_counts_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: the next one is due after as many publishes as ever."""
    yields = count_yields(monkeypatch)
    bus = EventBus(yield_every=2)
    await bus.publish("a")
    with CancelScope() as scope:
        scope.cancel()
        await bus.publish("a")
    assert scope.cancelled_caught
    assert await yields_of(bus, yields, 4) == [2, 4]


@each_mode
async def test_a_yield_in_a_shield_shows_no_outer_cancellation(mode: DeliveryMode) -> None:
    """D6: cleanup in a shield may publish, however often it yields."""
    bus = EventBus(yield_every=1, delivery=mode)
    notes: list[object] = []
    await bus.subscribe("a", "c", notes.append)
    with CancelScope() as scope:
        scope.cancel()
        try:
            await checkpoint()
        finally:
            with CancelScope(shield=True):
                for number in range(3):
                    assert await bus.publish("a", number) == ()
                assert current_effective_deadline() > 0
    assert (scope.cancelled_caught, notes) == (True, [0, 1, 2])


async def during_the_yield(
    bus: EventBus, mode: DeliveryMode, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publish, and do something while that publish yields."""

    async def acting() -> None:
        await checkpoint()
        act()

    with monkeypatch.context() as patch:
        patch.setattr(_dispatcher, "checkpoint", acting)
        await bus.publish("a", delivery=mode)


@each_mode
@pytest.mark.parametrize("event", ["a", "*", "**"])
async def test_one_who_subscribes_during_the_yield_does_not_hear_this_event(
    event: str, mode: DeliveryMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B5: the snapshot is of the moment when `publish` began to run, before any yield."""
    bus = EventBus(yield_every=1)
    notes: list[object] = []

    def subscribe() -> None:
        registry = dispatcher_of(bus).registry
        registry.create(event, "c", never, priority=1, filter=None, once=False)

    await bus.subscribe("a", "c", notes.append)
    await during_the_yield(bus, mode, subscribe, monkeypatch)
    assert len(notes) == 1


@each_mode
async def test_one_who_unsubscribes_during_the_yield_does_not_start(
    mode: DeliveryMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B5: nothing starts after `unsubscribe` has returned, though it was in the snapshot."""
    bus = EventBus(yield_every=1)
    notes: list[object] = []
    await bus.subscribe("a", "c", notes.append)
    await bus.subscribe("a", "other", never)
    await during_the_yield(bus, mode, lambda: bus.unsubscribe_all("other"), monkeypatch)
    assert len(notes) == 1


async def test_another_task_may_subscribe_during_the_yield() -> None:
    """B5: with real tasks too, who subscribes after the publish began hears the next one."""
    bus = EventBus(yield_every=1)
    heard: list[object] = []
    begun = Event()

    async def publish() -> None:
        begun.set()
        await bus.publish("a", "first")
        await wait_all_tasks_blocked()
        await bus.publish("a", "second")

    async def subscribe() -> None:
        await begun.wait()
        await bus.subscribe("a", "c", heard.append)

    with fail_after(PATIENCE):
        async with create_task_group() as group:
            group.start_soon(publish)
            group.start_soon(subscribe)
    assert heard == ["second"]


@each_mode
async def test_publishes_that_yield_lose_nothing(mode: DeliveryMode) -> None:
    """D6: publishes that overlap at their yields each deliver their own payload."""
    bus = EventBus(yield_every=1, delivery=mode)
    notes: list[object] = []
    await bus.subscribe("a", "c", notes.append)
    async with create_task_group() as group:
        for number in range(5):
            group.start_soon(partial(bus.publish, "a", number))
    assert sorted(map(str, notes)) == ["0", "1", "2", "3", "4"]


def test_a_yield_is_due_over_several_runs(
    backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B1: the count is the bus's own, and needs no loop to be kept."""
    bus = EventBus(yield_every=3)
    yields = count_yields(monkeypatch)
    for _ in range(7):
        anyio.run(bus.publish, "a", backend=backend_name)
    assert len(yields) == 2
