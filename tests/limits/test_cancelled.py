"""Calls of a limited handler that are cancelled, or whose siblings fail: V2."""

from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import create_task_group, fail_after
from anyio.lowlevel import checkpoint

from flexiflow import EventBus
from flexiflow._bus import DeliveryMode, ErrorPolicy
from flexiflow.testing import cancel_everywhere
from flexiflow.testing._scheduling.run import Style
from tests.accounting import Boom
from tests.attacks import each_mode, each_parallel_mode, each_policy, each_style
from tests.conftest import Backend
from tests.helpers import PATIENCE, settle
from tests.hosting import Victim, styles
from tests.limits.desks import Desk, holders, publish_in_order

if TYPE_CHECKING:
    from flexiflow import Subscription


@each_mode
@each_policy
async def test_a_call_that_is_cancelled_in_line_leaves_it(
    mode: DeliveryMode, policy: ErrorPolicy, anyio_backend: Backend
) -> None:
    """V2, D4: A publish that is cancelled while it waits never starts its handler."""
    for style in styles(anyio_backend):
        bus, desk, victim = EventBus(delivery=mode, on_error=policy), Desk(), Victim(style)
        subscription = await bus.subscribe("a", "c", desk, limit=1)
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                await publish_in_order(group, bus, 1)
                group.start_soon(victim.run, partial(bus.publish, "a", 2))
                await settle()
                await publish_in_order(group, bus, 3)
                victim.cancel()
                await settle()
                assert (victim.was_cancelled, holders(subscription)) == (True, 2)
                await desk.serve_all()
        assert (desk.began, holders(subscription)) == ([1, 3], 0)


@each_parallel_mode
@pytest.mark.parametrize("same_step", [False, True])
async def test_a_sibling_that_waits_does_not_start_after_a_failure(
    mode: DeliveryMode, *, same_step: bool
) -> None:
    """V2, E3: Neither if its slot comes in the very step of the failure; its `once` is unused."""
    bus, desk, gate = EventBus(delivery=mode, on_error="raise"), Desk(), anyio.Event()

    async def fail(data: int) -> None:
        await gate.wait()
        raise Boom

    async def publish() -> None:
        with pytest.raises(Boom):
            await bus.publish("b", 2)

    subscription = await bus.subscribe("*", "c", desk, limit=1)
    await bus.subscribe("b", "c", fail)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            await publish_in_order(group, bus, 1)
            group.start_soon(publish)
            await settle()
            if same_step:
                desk.let_go(1)
            gate.set()
            await settle()
            if not same_step:
                assert holders(subscription) == 1
                desk.let_go(1)
    assert (desk.began, holders(subscription)) == ([1], 0)


async def publish_and_serve(bus: EventBus, desk: Desk, times: int) -> None:
    """Publish at the same time, and let each call end as soon as it has begun."""
    async with create_task_group() as group:
        for data in range(times):
            group.start_soon(bus.publish, "a", data)
        while len(desk.began) < times:
            for data in desk.serving:
                desk.let_go(data)
            await checkpoint()
        for data in desk.serving:
            desk.let_go(data)


@pytest.mark.unmeasured
@each_mode
@each_policy
@each_style
def test_a_cancellation_leaves_no_call_in_line(
    mode: DeliveryMode, policy: ErrorPolicy, style: Style, backend: str
) -> None:
    """V2, P3: Wherever those who run and wait are cancelled, all slots are free in the end."""
    if (backend, style) == ("trio", "native"):
        pytest.skip("only asyncio has a cancellation of its own")
    runs: list[tuple[EventBus, Subscription, Desk]] = []

    async def scenario() -> None:
        bus, desk = EventBus(delivery=mode, on_error=policy), Desk()
        subscription = await bus.subscribe("a", "c", desk, limit=1)
        runs.append((bus, subscription, desk))
        await publish_and_serve(bus, desk, 3)

    async def check() -> None:
        for bus, subscription, desk in runs:
            assert (holders(subscription), desk.serving) == (0, [])
            desk.began.clear()
            await publish_and_serve(bus, desk, 1)
        runs.clear()

    assert cancel_everywhere(scenario, backend=backend, check=check, style=style) > 5
