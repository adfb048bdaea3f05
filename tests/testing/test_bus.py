"""The kit applied to FlexiFlow itself: cancelled everywhere, and under many schedules."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import pytest
from anyio import CancelScope, create_task_group, get_cancelled_exc_class
from anyio.lowlevel import checkpoint

from flexiflow import Component, Engine, EventBus, Outcome, on
from flexiflow._bus import DeliveryMode, ErrorPolicy
from flexiflow.events import COMPONENT_REGISTERED, STATE_CHANGED
from flexiflow.extras.retry import RetryConfig, retry_async
from flexiflow.testing import cancel_everywhere, explore
from tests.accounting import Boom
from tests.attacks import each_mode, each_policy
from tests.hosting import GO, switch

SCHEDULES = 60
STYLES: dict[str, tuple[Literal["scope", "native"], ...]] = {
    "asyncio": ("scope", "native"),
    "trio": ("scope",),
}


def sweep(scenario: Any, check: Any, backend: str) -> None:
    """Cancel everywhere, in every way that the backend has."""
    for style in STYLES[backend]:
        assert cancel_everywhere(scenario, backend=backend, check=check, style=style) > 0


class Books:
    """A bus with handlers that wait, fail and clean up, and an account of what they let out."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    async def open(self, mode: DeliveryMode, policy: ErrorPolicy) -> None:
        self._caplog.clear()
        self.bus = EventBus(delivery=mode, on_error=policy)
        self.running: list[object] = []
        self.let_out: list[BaseException] = []
        self.raised: list[BaseException] = []
        for priority, handler in enumerate((self.wait, self.fail, self.clean, self.wait), start=1):
            await self.bus.subscribe("a", "c", handler, priority=priority)

    async def publish(self) -> None:
        try:
            await self.bus.publish("a")
        except Boom as exc:
            self.raised.append(exc)

    async def wait(self, data: object) -> None:
        """Run for some time, cleanup included."""
        self.running.append(data)
        try:
            await self._work()
        finally:
            self.running.remove(data)

    async def _work(self) -> None:
        try:
            await checkpoint()
            await checkpoint()
        finally:
            # What shields from a scope does not shield from a native cancel.
            with CancelScope(shield=True):
                await checkpoint()

    async def fail(self, data: object) -> None:
        """Fail after some time."""
        await self.wait(data)
        raise self._boom()

    async def clean(self, data: object) -> None:
        """Fail in cleanup."""
        try:
            await self.wait(data)
        except get_cancelled_exc_class():
            raise self._boom() from None

    def _boom(self) -> Boom:
        exception = Boom(len(self.let_out))
        self.let_out.append(exception)
        return exception

    def check(self) -> None:
        """Nothing runs, and every failure was either raised or logged, once."""
        assert self.running == []
        logged = [record.exc_info[1] for record in self._caplog.records if record.exc_info]
        assert sorted(map(id, self.let_out)) == sorted(map(id, [*self.raised, *logged]))


@pytest.mark.unmeasured
@each_mode
@each_policy
def test_a_publish_cancelled_anywhere_leaves_nothing(
    mode: DeliveryMode, policy: ErrorPolicy, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """D4, E4: no handler is left running and no failure lost, wherever publish is cancelled."""
    books = Books(caplog)

    async def scenario() -> None:
        await books.open(mode, policy)
        await books.publish()

    sweep(scenario, books.check, backend)


def test_a_subscribe_cancelled_anywhere_is_whole_or_nothing(backend: str) -> None:
    """B2: a subscribe that was cancelled has registered nothing."""
    bus = EventBus()
    made: list[object] = []

    async def scenario() -> None:
        nonlocal bus
        bus = EventBus()
        made.clear()
        made.append(await bus.subscribe("a", "c", str))
        made.append(await bus.subscribe("a.*", "c", str))

    def check() -> None:
        assert list(bus.subscriptions()) == made

    sweep(scenario, check, backend)


class Lamp(Component):
    """Switched on and off by messages."""

    @on("power.lost")
    async def dim(self, data: object) -> None:
        """Be subscribed."""


def test_a_register_cancelled_anywhere_is_whole_or_nothing(backend: str) -> None:
    """C1: the component is there with its handlers, or neither is; then it can be registered."""
    engine, lamp = Engine(), Lamp("lamp", machine=switch())

    async def observe(data: object) -> None:
        await checkpoint()

    async def scenario() -> None:
        nonlocal engine, lamp
        engine, lamp = Engine(), Lamp("lamp", machine=switch())
        await engine.bus.subscribe(COMPONENT_REGISTERED, "test", observe)
        await engine.register(lamp)

    async def check() -> None:
        owners = {each.component_name for each in engine.bus.subscriptions()}
        assert ("lamp" in engine.components) == ("lamp" in owners)
        if "lamp" not in engine.components:
            await engine.register(lamp)
        assert await engine.send("lamp", GO) is Outcome.TRANSITIONED

    sweep(scenario, check, backend)


def test_a_send_cancelled_anywhere_changes_all_or_nothing(backend: str) -> None:
    """C6, C3: a state is changed wholly or not at all, and the next message is handled."""
    notes: list[str] = []
    engine, lamp = Engine(), Lamp("lamp")

    async def guard(message: object, component: object) -> bool:
        await checkpoint()
        return True

    async def act(message: object, component: object) -> None:
        await checkpoint()
        await checkpoint()
        notes.append("acted")

    async def observe(data: dict[str, str]) -> None:
        notes.append(data["to_state"])
        await checkpoint()

    async def scenario() -> None:
        nonlocal engine, lamp
        notes.clear()
        engine, lamp = Engine(), Lamp("lamp", machine=switch(guard, act))
        await engine.bus.subscribe(STATE_CHANGED, "test", observe, priority=1)
        await engine.bus.subscribe("**", "test", str)
        await engine.register(lamp)
        await engine.send("lamp", GO)

    async def check() -> None:
        assert (lamp.state, notes) in [("off", []), ("on", ["acted", "on"])]
        if engine.components:
            assert await engine.send("lamp", GO) is Outcome.TRANSITIONED

    sweep(scenario, check, backend)


def test_a_retry_cancelled_anywhere_does_not_try_again(backend: str) -> None:
    """R3: a cancellation ends the attempt in hand, and no other is begun."""
    tries: list[str] = []

    @retry_async(RetryConfig(max_attempts=3, base_delay=60))
    async def call() -> None:
        tries.append("begun")
        try:
            await checkpoint()
        except get_cancelled_exc_class():
            tries.append("cancelled")
            raise
        tries.append("failed")
        raise Boom

    async def scenario() -> None:
        tries.clear()
        with suppress(Boom):
            await call()

    def check() -> None:
        assert tries[::2] == ["begun"] * (len(tries) // 2)
        assert "cancelled" not in tries[:-1]

    sweep(scenario, check, backend)


@pytest.mark.unmeasured
@pytest.mark.parametrize("mode", ["concurrent", "tiered"])
def test_handlers_start_in_order_under_every_schedule(mode: DeliveryMode, backend: str) -> None:
    """D2, D3: started in order of priority, also where publishes overlap."""

    async def scenario() -> None:
        bus = EventBus(delivery=mode)
        started: list[tuple[str, int]] = []

        async def handle(priority: int, data: str) -> None:
            started.append((data, priority))
            await checkpoint()

        for priority in (4, 2, 5, 1):
            await bus.subscribe("a", "c", partial(handle, priority), priority=priority)
        async with create_task_group() as group:
            group.start_soon(bus.publish, "a", "x")
            group.start_soon(bus.publish, "a", "y")
        for publish in "xy":
            assert [place for data, place in started if data == publish] == [1, 2, 4, 5]

    explore(scenario, backend=backend, schedules=SCHEDULES, seed=1)


def test_messages_are_handled_in_the_order_of_sending_under_every_schedule(backend: str) -> None:
    """C3: one at a time, first come first served, across tasks."""

    async def scenario() -> None:
        sent: list[int] = []
        handled: list[int] = []

        async def act(message: Any, component: object) -> None:
            handled.append(message["number"])
            await checkpoint()
            assert handled[-1] == message["number"]

        engine = Engine()
        await engine.register(Component("lamp", machine=switch(action=act)))

        async def send(numbers: Sequence[int]) -> None:
            for number in numbers:
                sent.append(number)
                await engine.send("lamp", {**GO, "number": number})

        async with create_task_group() as group:
            for numbers in ((1, 2), (3, 4), (5, 6)):
                group.start_soon(send, numbers)
        assert handled == sent

    explore(scenario, backend=backend, schedules=SCHEDULES, seed=1)


@pytest.mark.unmeasured
@pytest.mark.parametrize("mode", ["concurrent", "tiered"])
def test_the_first_failure_leaves_bare_under_every_schedule(
    mode: DeliveryMode, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """E3, E4: it cancels the siblings, waits for their cleanup, and what they raise is logged."""
    books = Books(caplog)

    async def scenario() -> None:
        await books.open(mode, "raise")
        await books.publish()
        assert len(books.raised) == 1
        books.check()

    explore(scenario, backend=backend, schedules=SCHEDULES, seed=1)
