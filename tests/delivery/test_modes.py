"""How handlers are called: D1 to D5."""

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import partial
from itertools import product
from typing import Any

import anyio
import pytest
from anyio import (
    CancelScope,
    Event,
    create_task_group,
    fail_after,
    get_cancelled_exc_class,
    get_current_task,
    get_running_tasks,
)
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from flexiflow import EventBus
from flexiflow._bus import DeliveryMode, ErrorPolicy, dispatcher_of
from tests.helpers import (
    MODES,
    PATIENCE,
    Stage,
    never,
    noting,
    noting_async,
    settle,
    staged,
    tracing,
)

each_mode = pytest.mark.parametrize("mode", MODES)
at_once = pytest.mark.parametrize("mode", ["concurrent", "tiered"])
SCOPES = {"CancelScope.__init__", "CancelScope.__enter__", "TaskGroup.__aenter__"}
VARIABLE: ContextVar[object] = ContextVar("VARIABLE")


class Boom(Exception):
    """Let out by the handlers of these tests."""


def boom(data: object) -> None:
    """Fail as a handler."""
    raise Boom


def running() -> set[int]:
    """Name the tasks that run."""
    return {task.id for task in get_running_tasks()}


def count_task_groups(monkeypatch: pytest.MonkeyPatch) -> list[TaskGroup]:
    """Collect the task groups that the bus makes from now on."""
    made: list[TaskGroup] = []

    def make() -> TaskGroup:
        made.append(create_task_group())
        return made[-1]

    monkeypatch.setattr(anyio, "create_task_group", make)
    return made


async def test_sequential_handlers_run_one_at_a_time_in_order() -> None:
    """D1: the next starts when the one before has ended, its cleanup included."""
    bus = EventBus()
    stage = await staged(bus, 3, 5, 1, 3)
    assert await stage.rounds(partial(bus.publish, "a")) == [["2"], ["0"], ["3"], ["1"]]
    assert stage.ended == ["2", "0", "3", "1"]


async def test_sequential_handlers_run_in_the_publishers_task() -> None:
    """D1: the current task is the publisher's own."""
    bus = EventBus()
    tasks: list[int] = []

    async def wait(data: object) -> None:
        await checkpoint()
        tasks.append(get_current_task().id)

    await bus.subscribe("a", "c", lambda data: tasks.append(get_current_task().id))
    await bus.subscribe("a", "c", wait)
    await bus.publish("a")
    assert tasks == [get_current_task().id] * 2


async def test_sequential_handlers_share_the_publishers_context() -> None:
    """D1: what one of them sets, the next and the publisher see."""
    bus = EventBus()
    values = [object() for _ in range(3)]
    seen: list[object] = []

    async def replace(place: int, data: object) -> None:
        seen.append(VARIABLE.get())
        VARIABLE.set(values[place])

    VARIABLE.set(values[0])
    for place in (1, 2):
        await bus.subscribe("a", "c", partial(replace, place))
    await bus.publish("a")
    assert [*seen, VARIABLE.get()] == values


async def test_sequential_delivery_opens_no_scope_and_no_task_group() -> None:
    """D1: none is ever entered, not even to look whether anything is cancelled."""
    bus = EventBus(yield_every=1_000)
    notes: list[str] = []
    await bus.subscribe("a", "c", noting(notes, "sync"))
    await bus.subscribe("a", "c", noting_async(notes, "async"), filter=lambda name, data: True)
    await bus.subscribe("*", "c", noting(notes, "once"), once=True)
    with tracing() as trace:
        await bus.publish("a")
    assert notes == ["sync", "async", "once"]
    assert not trace.functions & SCOPES
    with tracing() as trace:
        await bus.publish("a", delivery="concurrent")
    assert trace.functions & SCOPES


async def test_sequential_delivery_asks_for_no_task_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """D1: it works where no task group and no cancel scope can be made."""
    bus = EventBus()
    notes: list[str] = []
    await bus.subscribe("a", "c", noting_async(notes, "ran"))
    with monkeypatch.context() as patch:
        for name in ("CancelScope", "create_task_group", "fail_after", "move_on_after"):
            patch.setattr(anyio, name, never)
        await bus.publish("a")
        with pytest.raises(pytest.fail.Exception):
            await bus.publish("a", delivery="concurrent")
    assert notes == ["ran"]


@pytest.mark.parametrize("number", [1, 2, 3, 30])
async def test_concurrent_handlers_run_all_at_once(number: int) -> None:
    """D2: all have started before any has ended."""
    bus = EventBus()
    stage = await staged(bus, *[3] * number)
    names = [str(place) for place in range(number)]
    assert await stage.rounds(partial(bus.publish, "a", delivery="concurrent")) == [names]


async def test_concurrent_handlers_start_in_order_of_priority() -> None:
    """D2: priorities decide who starts first, and nothing more."""
    bus = EventBus()
    stage = await staged(bus, 3, 5, 1, 3, 1)
    rounds = await stage.rounds(partial(bus.publish, "a", delivery="concurrent"))
    assert rounds == [["2", "4", "0", "3", "1"]]


@at_once
async def test_a_task_is_named_for_the_event(mode: DeliveryMode) -> None:
    """D2: a task that runs handlers is named for their event."""
    bus, names = EventBus(delivery=mode), list[str | None]()

    async def look(data: object) -> None:
        names.append(get_current_task().name)
        await checkpoint()

    for _ in range(3):
        await bus.subscribe("order.placed", "c", look)
    await bus.publish("order.placed")
    assert names == ["handlers of order.placed"] * 3


@pytest.mark.unmeasured
@at_once
@pytest.mark.parametrize("period", [1, 2, 3, 7])
async def test_a_hundred_handlers_start_in_order(period: int, mode: DeliveryMode) -> None:
    """D2: those that wait and those that don't start in order, on trio too, every time."""
    bus = EventBus(delivery=mode)
    notes: list[str] = []
    names = [str(place) for place in range(100)]
    for place, name in enumerate(names):
        make = noting if place % period else noting_async
        await bus.subscribe("a", "c", make(notes, name))
    for _ in range(20):
        notes.clear()
        await bus.publish("a")
        assert notes == names


@at_once
async def test_handlers_at_once_end_in_any_order(mode: DeliveryMode) -> None:
    """D2: the last to start may end first, and `publish` waits for all."""
    bus = EventBus(delivery=mode)
    stage = await staged(bus, 3, 3, 3)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            group.start_soon(bus.publish, "a")
            for name in ("2", "0", "1"):
                await settle()
                stage.let_go(name)
    assert (stage.began, stage.ended) == (["0", "1", "2"], ["2", "0", "1"])


@at_once
@pytest.mark.parametrize("number", [2, 3, 40])
async def test_handlers_that_wait_for_each_other_make_progress(
    number: int, mode: DeliveryMode
) -> None:
    """D2: each waits for the last to start, sync handlers among them."""
    bus = EventBus(delivery=mode)
    started = [Event() for _ in range(number)]
    ended: list[int] = []

    async def meet(place: int, data: object) -> None:
        started[place].set()
        for each in started:
            await each.wait()
        ended.append(place)

    for place in range(number):
        await bus.subscribe("a", "c", partial(meet, place))
        await bus.subscribe("a", "c", str)
    with fail_after(PATIENCE):
        await bus.publish("a")
    assert sorted(ended) == [*range(number)]


async def test_concurrent_delivery_opens_one_task_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """D2: however many handlers there are, one group serves them all."""
    bus = EventBus(delivery="concurrent")
    stage = await staged(bus, 1, 2, 3, 3, 5)
    made = count_task_groups(monkeypatch)
    await stage.rounds(partial(bus.publish, "a"))
    assert len(made) == 1


async def test_the_task_group_is_a_child_of_the_publishers_task() -> None:
    """D2: `publish` itself opens it, so that handlers run under the publisher's scopes."""
    bus = EventBus(delivery="concurrent")
    ended: list[str] = []

    async def wait(name: str, data: object) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(name)

    for name in ("0", "1"):
        await bus.subscribe("a", "c", partial(wait, name))
    scope = CancelScope()
    await bus.subscribe("a", "c", lambda data: scope.cancel())
    with fail_after(PATIENCE), scope:
        await bus.publish("a")
    assert scope.cancelled_caught
    assert sorted(ended) == ["0", "1"]


@at_once
async def test_many_handlers_start_within_a_few_turns_of_the_scheduler(
    mode: DeliveryMode,
) -> None:
    """D2: a hundred that all wait are all started long before a hundred turns have passed."""
    bus = EventBus(delivery=mode)
    stage = await staged(bus, *[3] * 100)
    turns = 0
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            group.start_soon(bus.publish, "a")
            while len(stage.began) < 100:
                await checkpoint()
                turns += 1
            stage.let_go()
    assert turns < 20


@at_once
async def test_handlers_that_never_wait_share_a_task(mode: DeliveryMode) -> None:
    """D2: a handler that has ended leaves its task to the next, so that 200 need few."""
    bus = EventBus(delivery=mode)
    tasks: list[int] = []
    running_at_once: list[int] = []

    def handler(data: object) -> None:
        tasks.append(get_current_task().id)
        running_at_once.append(len(running()))

    for _ in range(200):
        await bus.subscribe("a", "c", handler)
    before = len(running())
    await bus.publish("a")
    assert len(tasks) == 200
    assert len(set(tasks)) <= 2
    assert max(running_at_once) <= before + 2


@at_once
async def test_no_task_is_made_that_no_handler_needs(mode: DeliveryMode) -> None:
    """D2: one handler has one task, and nobody stands by where nobody waits."""
    bus = EventBus(delivery=mode)
    running_at_once: list[int] = []
    await bus.subscribe("a", "c", lambda data: running_at_once.append(len(running())))
    before = len(running())
    await bus.publish("a")
    assert running_at_once == [before + 1]


@at_once
async def test_publishing_to_nobody_opens_no_task_group(
    mode: DeliveryMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D2: without a handler there is nothing to wait for."""
    bus = EventBus(delivery=mode)
    made = count_task_groups(monkeypatch)
    assert await bus.publish("a") == ()
    assert made == []


async def test_tiers_follow_each_other() -> None:
    """D3: priority 1 at once, all of it ends, then 2, and so on to 5."""
    bus = EventBus()
    stage = await staged(bus, 5, 1, 3, 1, 2, 5, 4, 1)
    rounds = await stage.rounds(partial(bus.publish, "a", delivery="tiered"))
    assert rounds == [["1", "3", "7"], ["4"], ["2"], ["6"], ["0", "5"]]


@each_mode
async def test_an_internal_subscription_comes_first(mode: DeliveryMode) -> None:
    """D3: Before all that users may give, exact or by pattern, and in tiers all others wait."""
    bus, stage = EventBus(delivery=mode), Stage()
    for place, (event, priority) in enumerate([("a", 1), ("**", 1), ("*", 0), ("a", 0)]):
        dispatcher_of(bus).registry.create(
            event, "c", stage.waiter(f"{place}"), priority=priority, filter=None, once=False
        )
    rounds = await stage.rounds(partial(bus.publish, "a"))
    assert (
        rounds
        == {
            "sequential": [["2"], ["3"], ["0"], ["1"]],
            "concurrent": [["2", "3", "0", "1"]],
            "tiered": [["2", "3"], ["0", "1"]],
        }[mode]
    )


async def test_a_tier_waits_for_the_last_of_the_tier_before() -> None:
    """D3: while one handler still runs, its cleanup included, no later tier starts."""
    bus = EventBus()
    stage = await staged(bus, 1, 1, 1, 4)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            group.start_soon(partial(bus.publish, "a", delivery="tiered"))
            for name in ("1", "2", "0"):
                await settle()
                assert "3" not in stage.began
                stage.let_go(name)
            await settle()
            assert (stage.ended, stage.waiting()) == (["1", "2", "0"], ["3"])
            stage.let_go()


async def test_each_tier_has_a_task_group_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """D3: tiers that nobody is in cost nothing."""
    bus = EventBus(delivery="tiered")
    stage = await staged(bus, 2, 2, 5)
    made = count_task_groups(monkeypatch)
    await stage.rounds(partial(bus.publish, "a"))
    assert len(made) == 2


async def test_failures_of_all_tiers_are_returned_in_order() -> None:
    """D3: a tier with failures keeps no later tier from running."""
    bus = EventBus(delivery="tiered")
    added = [await bus.subscribe("a", "c", boom, priority=priority) for priority in (4, 1, 1, 2)]
    failures = await bus.publish("a")
    assert [added.index(failed.subscription) for failed in failures] == [1, 2, 3, 0]


@each_mode
async def test_nothing_runs_on_when_publish_has_returned(mode: DeliveryMode) -> None:
    """D4: every handler that was started has ended, and no task is left."""
    bus = EventBus(delivery=mode)
    stage = await staged(bus, 1, 1, 3)
    before = running()
    await stage.rounds(partial(bus.publish, "a"))
    assert stage.began == sorted(stage.ended) == ["0", "1", "2"]
    assert running() == before


@each_mode
@pytest.mark.parametrize("waits", [False, True])
async def test_nothing_runs_on_when_publish_has_raised(mode: DeliveryMode, *, waits: bool) -> None:
    """D4: handlers beside the failing one have cleaned up before its exception leaves."""
    bus = EventBus(delivery=mode, on_error="raise")
    stage = await staged(bus, 3, 3) if mode != "sequential" else Stage()

    async def fail(data: object) -> None:
        if waits:
            await settle()
        raise Boom

    await bus.subscribe("a", "c", fail)
    await bus.subscribe("a", "c", stage.waiter("late"), priority=5)
    before = running()
    with fail_after(PATIENCE), pytest.raises(Boom):
        await bus.publish("a")
    assert sorted(stage.began) == sorted(stage.ended)
    assert running() == before


@each_mode
@pytest.mark.parametrize("policy", ["continue", "raise"])
async def test_nothing_runs_on_when_publish_was_cancelled(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """D4: handlers that still clean up in a shield are waited for."""
    bus = EventBus(delivery=mode, on_error=policy)
    stage = await staged(bus, 2, 2, 2)
    before = running()
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            group.start_soon(bus.publish, "a")
            await settle()
            group.cancel_scope.cancel()
    assert stage.began == (["0"] if mode == "sequential" else ["0", "1", "2"])
    assert sorted(stage.ended) == stage.began
    assert running() == before


@each_mode
async def test_nothing_runs_on_when_a_handler_cancels_the_publish(mode: DeliveryMode) -> None:
    """D4: the cancellation that a handler asked for goes through `publish` like any other."""
    bus = EventBus(delivery=mode)
    stage = await staged(bus, 2, 2)
    caught: list[str] = []

    async def give_up(data: object) -> None:
        scope.cancel()
        try:
            await checkpoint()
        except get_cancelled_exc_class():
            caught.append("cancelled")
            raise

    await bus.subscribe("a", "c", give_up, priority=1)
    await bus.subscribe("a", "c", never, priority=3)
    before = running()
    with fail_after(PATIENCE), CancelScope() as scope:
        await bus.publish("a", delivery="tiered" if mode == "concurrent" else mode)
    assert (scope.cancelled_caught, caught) == (True, ["cancelled"])
    assert stage.began == stage.ended == []
    assert running() == before


@each_mode
async def test_nothing_runs_on_when_the_publishers_task_was_cancelled_natively(
    mode: DeliveryMode, backend_name: str
) -> None:
    """D4: asyncio's own `task.cancel()` is waited out in the same way."""
    if backend_name != "asyncio":
        pytest.skip("only asyncio has tasks that can be cancelled natively")
    import asyncio  # noqa: PLC0415  the backend under test

    bus = EventBus(delivery=mode)
    stage = await staged(bus, 2, 2, 2)
    publisher = asyncio.create_task(bus.publish("a"))
    await settle()
    publisher.cancel()
    with fail_after(PATIENCE), pytest.raises(asyncio.CancelledError):
        await publisher
    assert stage.began == (["0"] if mode == "sequential" else ["0", "1", "2"])
    assert sorted(stage.ended) == stage.began


@at_once
async def test_a_publish_that_is_cancelled_in_time_starts_few(mode: DeliveryMode) -> None:
    """D4: a handler that has not started when the cancellation arrives never starts."""
    bus = EventBus(delivery=mode)

    async def wait(data: object) -> None:
        await anyio.sleep_forever()

    scope = CancelScope()
    await bus.subscribe("a", "c", wait, priority=1)
    await bus.subscribe("a", "c", lambda data: scope.cancel(), priority=1)
    await bus.subscribe("a", "c", never, priority=2)
    with fail_after(PATIENCE), scope:
        await bus.publish("a", delivery="tiered")
    assert scope.cancelled_caught


ROUNDS: dict[DeliveryMode, list[list[str]]] = {
    "sequential": [["0"], ["1"], ["2"]],
    "concurrent": [["0", "1", "2"]],
    "tiered": [["0", "1"], ["2"]],
}


@pytest.mark.parametrize(("own", "call"), [*product(MODES, [None, *MODES])])
async def test_the_calls_delivery_wins_over_the_buss_own(
    own: DeliveryMode, call: DeliveryMode | None
) -> None:
    """D5: where the call says nothing, the bus's delivery holds."""
    bus = EventBus(delivery=own)
    stage = await staged(bus, 1, 1, 2)
    rounds = await stage.rounds(partial(bus.publish, "a", delivery=call))
    assert rounds == ROUNDS[call or own]


@each_mode
@pytest.mark.parametrize(
    ("own", "call"), [*product(["continue", "raise"], [None, "continue", "raise"])]
)
async def test_the_calls_policy_wins_over_the_buss_own(
    own: ErrorPolicy, call: ErrorPolicy | None, mode: DeliveryMode
) -> None:
    """D5: where the call says nothing, the bus's policy holds."""
    bus = EventBus(on_error=own)
    await bus.subscribe("a", "c", boom)
    if (call or own) == "raise":
        with pytest.raises(Boom):
            await bus.publish("a", delivery=mode, on_error=call)
    else:
        (failed,) = await bus.publish("a", delivery=mode, on_error=call)
        assert isinstance(failed.exception, Boom)


async def test_a_bus_that_is_told_nothing_is_sequential_and_continues() -> None:
    """D5: these are the defaults of the defaults."""
    bus = EventBus()
    stage = await staged(bus, 1, 1, 2)
    assert await stage.rounds(partial(bus.publish, "a")) == ROUNDS["sequential"]
    bus.unsubscribe_all("c")
    await bus.subscribe("a", "c", boom)
    assert len(await bus.publish("a")) == 1


@pytest.mark.parametrize("call", MODES)
async def test_a_call_decides_for_itself_alone(call: DeliveryMode) -> None:
    """D5: what one call says, the next doesn't know."""
    bus = EventBus(delivery="concurrent", on_error="raise")
    await bus.publish("a", delivery=call, on_error="continue")
    stage = await staged(bus, 1, 1, 2)
    assert await stage.rounds(partial(bus.publish, "a")) == ROUNDS["concurrent"]
    await bus.subscribe("b", "c", boom)
    with pytest.raises(Boom):
        await bus.publish("b")


def publishing(
    bus: EventBus, mode: DeliveryMode
) -> Callable[[object], Coroutine[Any, Any, object]]:
    """Make a handler that publishes on."""
    return lambda data: bus.publish("a", delivery=mode)


@pytest.mark.parametrize(("outer", "inner"), [*product(MODES, MODES)])
async def test_a_publish_within_is_delivered_as_it_says(
    outer: DeliveryMode, inner: DeliveryMode
) -> None:
    """D5: the delivery of the event around has no say in it."""
    bus = EventBus(delivery=outer)
    stage = await staged(bus, 1, 1, 2)
    await bus.subscribe("outer", "c", publishing(bus, inner))
    assert await stage.rounds(partial(bus.publish, "outer")) == ROUNDS[inner]
