"""How much time a subscription's handler has, through the bus: V1."""

from functools import partial
from typing import Any

import anyio
import pytest
from anyio import CancelScope, create_task_group, fail_after, sleep_forever
from anyio.lowlevel import checkpoint

from flexiflow import EventBus, HandlerTimeout
from flexiflow._bus import DeliveryMode, ErrorPolicy
from flexiflow.testing import replay
from tests.accounting import Boom, Ledger, leaves
from tests.attacks import each_mode, each_parallel_mode, each_policy, wait
from tests.helpers import PATIENCE, Later, settle
from tests.limits.desks import Desk, holders, publish_in_order

SOON = 1e-9
"""Seconds that are over at the first wait."""


@each_mode
@each_policy
async def test_a_late_handler_has_failed_like_any_other(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """V1, E4: Its failure is logged, published and returned, or raised as it is."""
    async with Ledger() as ledger:
        await ledger.on(wait, time_limit=SOON)
        failure = await ledger.surfaced(mode, policy)
        assert isinstance(failure, HandlerTimeout)
        assert isinstance(failure, TimeoutError)
        assert str(failure) == "wait was still running after 1e-09 s"
        ledger.inject(failure)


@each_mode
async def test_the_others_run_on(mode: DeliveryMode) -> None:
    """V1, E1: Under "continue" a late handler touches no other one."""
    bus, seen = EventBus(delivery=mode), list[int]()

    async def take_longer(data: int) -> None:
        await settle()
        seen.append(data)

    await bus.subscribe("a", "c", wait, time_limit=SOON)
    await bus.subscribe("a", "c", take_longer)
    with fail_after(PATIENCE):
        (failure,) = await bus.publish("a", 1)
    assert (type(failure.exception), seen) == (HandlerTimeout, [1])


@each_parallel_mode
async def test_siblings_are_cancelled_by_a_late_handler(mode: DeliveryMode) -> None:
    """V1, E3: Under "raise" they have ended when it leaves, bare."""
    bus, desk = EventBus(delivery=mode, on_error="raise"), Desk()
    await bus.subscribe("a", "c", desk)
    await bus.subscribe("a", "c", wait, time_limit=SOON)
    with fail_after(PATIENCE), pytest.raises(HandlerTimeout):
        await bus.publish("a", 1)
    assert (desk.began, desk.serving) == ([1], [])


@each_mode
async def test_a_failure_in_its_cleanup_is_the_cause(mode: DeliveryMode) -> None:
    """V1, E4: What it raises then is seen with the timeout, and is no failure of its own."""

    async def fail_in_cleanup(_: Any) -> None:
        try:
            await sleep_forever()
        finally:
            raise Boom

    async with Ledger() as ledger:
        await ledger.on(fail_in_cleanup, time_limit=SOON)
        failure = ledger.inject(await ledger.surfaced(mode))
        assert isinstance(failure, HandlerTimeout)
        assert isinstance(failure.__cause__, Boom)


@each_mode
async def test_a_handlers_own_tasks_are_cancelled_with_it(mode: DeliveryMode) -> None:
    """V1, D4, E8: All have ended before publish returns; what they raise is the cause."""
    bus, ended = EventBus(delivery=mode), list[str]()

    async def clean_up(name: str) -> None:
        try:
            await sleep_forever()
        finally:
            ended.append(name)
            if name == "b":
                raise Boom

    async def have_tasks(data: object) -> None:
        async with create_task_group() as group:
            group.start_soon(clean_up, "a")
            group.start_soon(clean_up, "b")

    await bus.subscribe("a", "c", have_tasks, time_limit=SOON)
    with fail_after(PATIENCE):
        (failure,) = await bus.publish("a")
    assert isinstance(failure.exception, HandlerTimeout)
    assert failure.exception.__cause__ is not None
    assert [type(leaf) for leaf in leaves(failure.exception.__cause__)] == [Boom]
    assert sorted(ended) == ["a", "b"]


@each_mode
async def test_a_handler_in_time_is_not_disturbed(mode: DeliveryMode) -> None:
    """V1: Sync handlers, and what gives an awaitable, end as they would."""
    bus, seen = EventBus(delivery=mode), list[object]()

    async def take_turns(data: object) -> None:
        await checkpoint()
        seen.append(data)

    for handler in (seen.append, take_turns, partial(Later, seen.append)):
        await bus.subscribe("a", "c", handler, time_limit=PATIENCE)
    assert await bus.publish("a", 1) == ()
    assert seen == [1, 1, 1]


@each_mode
async def test_a_sync_handler_is_not_interrupted(mode: DeliveryMode) -> None:
    """V1: However long it takes, it ends, and has not failed."""
    bus, seen = EventBus(delivery=mode), list[bool]()

    def take_long(data: object) -> None:
        begin = anyio.current_time()
        while anyio.current_time() <= begin + 2 * SOON:
            pass
        seen.append(anyio.current_effective_deadline() > begin + PATIENCE)

    await bus.subscribe("a", "c", take_long, time_limit=SOON)
    assert await bus.publish("a") == ()
    assert seen == [True]


@each_mode
@each_policy
@pytest.mark.parametrize(("outer", "limit"), [(1.0, 2.0), (1.0, 1.0), (2.0, 1.0)])
def test_the_deadline_that_comes_first_decides(
    mode: DeliveryMode, policy: ErrorPolicy, outer: float, limit: float, backend: str
) -> None:
    """V1: An outer deadline is never taken for the handler's, not even at the same moment."""
    outcomes: list[object] = []

    async def scenario() -> None:
        bus = EventBus(delivery=mode, on_error=policy)
        await bus.subscribe("a", "c", wait, time_limit=limit)
        begin = anyio.current_time()
        with anyio.move_on_after(outer) as scope:
            try:
                outcomes.extend(type(each.exception) for each in await bus.publish("a"))
            except HandlerTimeout as exc:
                outcomes.append(type(exc))
        outcomes.extend([scope.cancelled_caught, anyio.current_time() - begin])

    replay(scenario, backend=backend, decisions=())
    assert outcomes == ([True, outer] if outer <= limit else [HandlerTimeout, False, limit])


@each_mode
def test_the_time_begins_when_the_wait_for_a_slot_is_over(mode: DeliveryMode, backend: str) -> None:
    """V1, V2: A call that waits long for its turn still has all its time."""
    outcomes: list[tuple[float, int]] = []

    async def take_two_seconds(data: object) -> None:
        await anyio.sleep(2)

    async def scenario() -> None:
        bus = EventBus(delivery=mode)
        await bus.subscribe("a", "c", take_two_seconds, time_limit=3, limit=1)

        async def publish() -> None:
            failures = await bus.publish("a")
            outcomes.append((anyio.current_time() - begin, len(failures)))

        begin = anyio.current_time()
        async with create_task_group() as group:
            for _ in range(4):
                group.start_soon(publish)

    replay(scenario, backend=backend, decisions=())
    assert outcomes == [(2, 0), (4, 0), (6, 0), (8, 0)]


@each_mode
async def test_a_late_handler_gives_up_its_slot(mode: DeliveryMode) -> None:
    """V1, V2: When it has ended, the next in line comes, with all its time."""
    bus, desk = EventBus(delivery=mode), Desk()
    subscription = await bus.subscribe("a", "c", desk, time_limit=SOON, limit=1)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            await publish_in_order(group, bus, 1, 2, 3)
    assert (desk.began, holders(subscription)) == ([1, 2, 3], 0)


@each_mode
@each_policy
async def test_a_cancellation_from_outside_is_no_timeout(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """V1, E5: A cancelled publish is cancelled, and nothing has failed."""
    async with Ledger() as ledger:
        await ledger.on(wait, time_limit=PATIENCE)
        with fail_after(PATIENCE), CancelScope() as scope:
            async with create_task_group() as group:
                group.start_soon(ledger.publish, mode, policy)
                await settle()
                scope.cancel()
        assert scope.cancelled_caught
        assert (ledger.returned, ledger.logged) == ([], [])


@pytest.mark.measured
@each_mode
async def test_a_cleanup_after_a_cancellation_sees_the_timeout(mode: DeliveryMode) -> None:
    """V1, E5: In a shielded cleanup nothing is being cancelled, also right after a deadline."""
    bus = EventBus(delivery=mode)
    seen: list[object] = []
    await bus.subscribe("a", "c", wait, time_limit=SOON)
    await bus.subscribe("event.handler.failed", "c", lambda data: seen.append(data["exception"]))

    async def clean_up() -> None:
        try:
            await sleep_forever()
        finally:
            with CancelScope(shield=True):
                seen.extend(each.exception for each in await bus.publish("a"))

    with fail_after(PATIENCE):
        async with create_task_group() as group:
            group.start_soon(clean_up)
            await settle()
            group.cancel_scope.cancel()
    assert [type(each) for each in seen] == [HandlerTimeout] * 2
    assert seen[0] is seen[1]
