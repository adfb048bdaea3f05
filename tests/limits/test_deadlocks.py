"""Calls of a limited handler that would wait for themselves, through the bus: V2."""

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from anyio import create_task_group, fail_after
from anyio.lowlevel import checkpoint

from flexiflow import (
    Component,
    Engine,
    EventBus,
    LimitDeadlock,
    Outcome,
    StateMachine,
    Transition,
)
from flexiflow._bus import DeliveryMode
from tests.accounting import Ledger
from tests.attacks import each_mode, each_policy
from tests.helpers import PATIENCE, settle
from tests.hosting import Gate
from tests.limits.desks import Desk, holders, publish_in_order

if TYPE_CHECKING:
    from flexiflow import HandlerFailure


class Nested:
    """A handler that publishes another event, and keeps what failed there."""

    def __init__(self, bus: EventBus, event: str, gate: Gate | None = None) -> None:
        self.calls = 0
        self.failures: list[HandlerFailure] = []
        self._bus = bus
        self._event = event
        self._gate = gate

    async def __call__(self, data: int) -> None:
        """Publish, unless this is within its own call."""
        self.calls += 1
        if self._gate is not None:
            await self._gate()
        if data < 3:
            self.failures.extend(await self._bus.publish(self._event, data + 1))

    @property
    def kinds(self) -> list[type[Exception]]:
        """The failures' types."""
        return [type(each.exception) for each in self.failures]


@each_mode
@pytest.mark.parametrize("limit", [1, 3])
async def test_a_handler_that_publishes_its_own_event_fails_there(
    mode: DeliveryMode, limit: int
) -> None:
    """V2: A call from within the same handler fails, also where a slot is free."""
    bus = EventBus(delivery=mode)
    nested = Nested(bus, "a")
    subscription = await bus.subscribe("a", "c", nested, limit=limit)
    with fail_after(PATIENCE):
        assert await bus.publish("a", 0) == ()
    assert (nested.calls, nested.kinds, holders(subscription)) == (1, [LimitDeadlock], 0)
    (failure,) = nested.failures
    assert (failure.event_name, failure.subscription) == ("a", subscription)
    assert str(failure.exception).startswith(f"a call of Nested, limited to {limit} at once, would")


@each_mode
@each_policy
async def test_it_is_a_failure_like_any_other(mode: DeliveryMode, policy: Any) -> None:
    """V2, E4: It is either logged, published and returned, or raised as it is."""
    async with Ledger(announced=None) as ledger:

        async def publish_again(_: Any) -> None:
            failure = await ledger.surfaced(mode, policy)
            assert isinstance(failure, LimitDeadlock)
            ledger.inject(failure)

        await ledger.on(publish_again, limit=1)
        assert await ledger.bus.publish("order.placed") == ()


@each_mode
async def test_a_child_task_of_a_call_is_within_it(mode: DeliveryMode) -> None:
    """V2: Its call would be waited for by the call that it came from."""
    bus = EventBus(delivery=mode)
    failures: list[HandlerFailure] = []

    async def publish_in_child(data: object) -> None:
        async def publish() -> None:
            failures.extend(await bus.publish("a"))

        async with create_task_group() as group:
            group.start_soon(publish)
            await checkpoint()

    await bus.subscribe("a", "c", publish_in_child, limit=2)
    with fail_after(PATIENCE):
        await bus.publish("a")
    assert [type(each.exception) for each in failures] == [LimitDeadlock]


async def test_a_task_that_outlives_a_call_is_no_longer_within_it() -> None:
    """V2: Once the call has ended, what inherited its context may call again."""
    bus, desk = EventBus(), Desk()
    results: list[object] = []

    async def publish_later() -> None:
        await settle()
        results.append(await bus.publish("a", 1))

    async def begin(data: int) -> None:
        if data == 0:
            group.start_soon(publish_later)
        else:
            desk.began.append(data)

    await bus.subscribe("a", "c", begin, limit=1)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            await bus.publish("a", 0)
    assert (results, desk.began) == ([()], [1])


@each_mode
async def test_two_handlers_that_wait_for_each_other_do_not_hang(mode: DeliveryMode) -> None:
    """V2: The call that would close the ring fails, and the other one goes on."""
    bus, gates = EventBus(delivery=mode), [Gate(), Gate()]
    first, second = Nested(bus, "b", gates[0]), Nested(bus, "a", gates[1])
    await bus.subscribe("a", "c", first, limit=1)
    await bus.subscribe("b", "c", second, limit=1)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            group.start_soon(bus.publish, "a", 2)
            group.start_soon(bus.publish, "b", 2)
            await settle()
            gates[0].open.set()
            await settle()
            gates[1].open.set()
    assert (first.calls, first.kinds) == (1, [])
    assert (second.calls, second.kinds) == (2, [LimitDeadlock])


async def test_a_ring_within_one_publish_does_not_hang() -> None:
    """V2: A handler that calls itself through another one fails at the end of the way."""
    bus = EventBus()
    first, second = Nested(bus, "b"), Nested(bus, "a")
    await bus.subscribe("a", "c", first, limit=1)
    await bus.subscribe("b", "c", second)
    with fail_after(PATIENCE):
        await bus.publish("a", 0)
    assert (first.calls, first.kinds, second.kinds) == (1, [], [LimitDeadlock])


class Shop:
    """A component whose action publishes to a limited handler, which sends to the component."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.outcomes: list[Outcome] = []
        self.failures: list[HandlerFailure] = []
        self.in_action, self.in_handler = Gate(), Gate()

    async def run(self, first: Gate, second: Gate) -> None:
        """Send and publish at once, and open one gate after the other."""
        machine = StateMachine("open", [Transition("open", "sell", "open", action=self._sell)])
        await self.engine.register(Component("shop", machine=machine))
        await self.engine.bus.subscribe("sold", "c", self._deliver, limit=1)
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(self.engine.send, "shop", {"type": "sell"})
                group.start_soon(self.engine.bus.publish, "sold")
                await settle()
                first.open.set()
                await settle()
                second.open.set()

    async def _sell(self, message: Any, component: Any) -> None:
        await self.in_action()
        self.failures.extend(await self.engine.bus.publish("sold"))

    async def _deliver(self, data: object) -> None:
        await self.in_handler()
        self.outcomes.append(await self.engine.send("shop", {"type": "close"}))


async def test_a_ring_through_a_component_is_closed_by_a_call() -> None:
    """V2, C4: If the handler waits for the component, a call from its message fails."""
    shop = Shop()
    await shop.run(shop.in_handler, shop.in_action)
    assert [type(each.exception) for each in shop.failures] == [LimitDeadlock]
    assert shop.outcomes == [Outcome.IGNORED]


async def test_a_ring_through_a_component_is_closed_by_a_message() -> None:
    """V2, C4: If the component waits for the handler, a message from that is deferred."""
    shop = Shop()
    await shop.run(shop.in_action, shop.in_handler)
    assert shop.failures == []
    assert shop.outcomes == [Outcome.DEFERRED, Outcome.DEFERRED]


@each_mode
async def test_who_only_waits_for_its_turn_does_not_fail(mode: DeliveryMode) -> None:
    """V2: A call from within another handler waits where that comes to an end."""
    bus, desk = EventBus(delivery=mode), Desk()
    outer = Nested(bus, "a")
    await bus.subscribe("a", "c", desk, limit=1)
    await bus.subscribe("outer", "c", outer, limit=1)
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            await publish_in_order(group, bus, 0)
            group.start_soon(partial(bus.publish, "outer", 1))
            await settle()
            await checkpoint()
            await desk.serve_all()
    assert (desk.began, outer.failures) == ([0, 2], [])
