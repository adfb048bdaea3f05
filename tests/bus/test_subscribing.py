"""B14: what `subscribe` returns."""

import gc
import inspect
from collections.abc import Coroutine
from typing import Any

import pytest
from anyio import CancelScope, create_task_group
from anyio.lowlevel import checkpoint

from flexiflow import EventBus


async def test_it_is_entered_for_a_block() -> None:
    """B14: `async with` subscribes, gives the subscription, and unsubscribes on exit."""
    bus, heard = EventBus(), list[object]()
    async with bus.subscribe("a", "c", heard.append) as subscription:
        assert subscription.active
        await bus.publish("a", 1)
    await bus.publish("a", 2)
    assert heard == [1]
    assert not subscription.active
    assert list(bus.subscriptions()) == []


async def test_it_unsubscribes_whatever_leaves_the_block() -> None:
    """B14: An exception passes, as through `with await`."""
    bus = EventBus()
    with pytest.raises(ZeroDivisionError):
        async with bus.subscribe("a", "c", print):
            raise ZeroDivisionError
    assert list(bus.subscriptions()) == []
    async with bus.subscribe("a", "c", print) as subscription:
        assert bus.unsubscribe(subscription)


async def test_it_is_a_coroutine() -> None:
    """B14: Awaited, or run by a task of its own, by hand, and closed."""
    bus = EventBus()
    made = bus.subscribe("a", "c", print)
    assert isinstance(made, Coroutine)
    assert not inspect.iscoroutine(made)
    subscription = await made
    assert subscription.active
    bus.unsubscribe(subscription)
    with pytest.raises(RuntimeError, match="already awaited"):
        await made
    async with create_task_group() as group:
        group.start_soon(bus.subscribe, "a", "c", print)
    assert len(list(bus.subscriptions())) == 1
    closed = bus.subscribe("b", "c", print)
    closed.close()
    with pytest.raises(RuntimeError):
        closed.send(None)
    thrown = bus.subscribe("b", "c", print)
    with pytest.raises(ZeroDivisionError):
        thrown.throw(ZeroDivisionError())
    assert len(list(bus.subscriptions())) == 1


@pytest.mark.parametrize("entered", [False, True])
async def test_cancelled_it_has_registered_nothing(*, entered: bool) -> None:
    """B2, B14: Also by `async with`, whose block is not entered."""
    bus = EventBus()
    with CancelScope() as scope:
        scope.cancel()
        if entered:
            async with bus.subscribe("a", "c", print):
                pytest.fail("entered")
        await bus.subscribe("a", "c", print)
    assert scope.cancelled_caught
    assert list(bus.subscriptions()) == []
    await checkpoint()


async def test_it_warns_where_it_is_never_awaited() -> None:
    """B14: As a coroutine does."""

    def forget() -> None:
        _ = EventBus().subscribe("a", "c", print)
        del _
        gc.collect()

    with pytest.warns(RuntimeWarning, match=r"coroutine 'EventBus\.subscribe' was never awaited"):
        forget()


async def test_a_payload_in_place_of_the_component_shows_the_right_call() -> None:
    """B14: The commonest mistake."""
    wrongs: list[Any] = [{"id": 1}, print]
    for wrong in wrongs:
        with pytest.raises(TypeError, match=r"the call is subscribe\('order.placed', 'billing', h"):
            await EventBus().subscribe("a", wrong, print)
