"""The ready-made functions for `around`, under virtual time: A3."""

import gc
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any
from weakref import ref

import anyio
import pytest
from anyio import CancelScope, create_task_group

from flexiflow import Event, EventBus, LimitDeadlock
from flexiflow.extras.around import CircuitBreaker, CircuitOpen, Deduplicator, RateLimiter
from flexiflow.extras.durable import MemoryTransport, current_delivery, open_bridge
from flexiflow.testing import replay
from tests.accounting import Boom
from tests.conftest import BACKENDS
from tests.helpers import settle


def run(main: Callable[[], Awaitable[None]], backend: str) -> None:
    """Run it in virtual time."""
    replay(main, backend=backend, decisions=())


class Service:
    """A handler that can be down."""

    def __init__(self) -> None:
        self.is_down = False
        self.calls: list[Any] = []

    async def __call__(self, data: Any) -> None:
        self.calls.append(data)
        if self.is_down:
            raise Boom(data)


async def outcomes(bus: EventBus, *payloads: Any) -> list[type[BaseException] | None]:
    """Publish, and return the types of the failures."""
    found: list[type[BaseException] | None] = []
    for payload in payloads:
        failures = await bus.publish("a", payload)
        found.append(type(failures[0].exception) if failures else None)
    return found


def test_a_breaker_opens_and_closes(backend: str) -> None:
    """A3: After failures in a row; one call is let through after `reset_timeout` seconds."""

    async def main() -> None:
        service, breaker = Service(), CircuitBreaker(max_failures=3, reset_timeout=30.0)
        bus = EventBus(around=[breaker])
        await bus.subscribe("a", "c", service)
        service.is_down = True
        assert await outcomes(bus, 1, 2) == [Boom, Boom]
        service.is_down = False
        assert await outcomes(bus, 3) == [None]
        service.is_down = True
        assert await outcomes(bus, 4, 5, 6, 7) == [Boom, Boom, Boom, CircuitOpen]
        assert breaker.is_open
        await anyio.sleep(29.0)
        assert await outcomes(bus, 8) == [CircuitOpen]
        await anyio.sleep(1.0)
        assert await outcomes(bus, 9, 10) == [Boom, CircuitOpen]
        await anyio.sleep(30.0)
        service.is_down = False
        assert await outcomes(bus, 11, 12) == [None, None]
        assert not breaker.is_open
        assert service.calls == [1, 2, 3, 4, 5, 6, 9, 11, 12]

    run(main, backend)


def test_one_call_is_let_through_at_a_time(backend: str) -> None:
    """A3: Others fail while it runs; if it is cancelled, the circuit stays open."""

    async def main() -> None:
        breaker, seen = CircuitBreaker(max_failures=1, reset_timeout=1.0), list[str]()

        async def handle(data: str) -> None:
            seen.append(data)
            if data == "fail":
                raise Boom
            await anyio.sleep_forever()

        bus = EventBus(around=[breaker])
        await bus.subscribe("a", "c", handle)
        await bus.publish("a", "fail")
        await anyio.sleep(1.0)
        async with create_task_group() as tasks:
            tasks.start_soon(bus.publish, "a", "trial")
            await settle()
            (failure,) = await bus.publish("a", "other")
            assert str(failure.exception).endswith("a trial call runs now")
            tasks.cancel_scope.cancel()
        (failure,) = await bus.publish("a", "other")
        assert str(failure.exception) == (
            "test_one_call_is_let_through_at_a_time.<locals>.main.<locals>.handle was not called, "
            "since its circuit breaker is open after too many failures; a trial call comes in 1 s"
        )
        assert seen == ["fail", "trial"]

    run(main, backend)


@pytest.mark.parametrize("end", ["success", "failure"])
def test_a_call_from_before_says_nothing(end: str, backend: str) -> None:
    """A3: It began before the circuit opened: it neither closes it, nor lets a second trial in."""

    async def main() -> None:
        breaker, gate, seen = CircuitBreaker(max_failures=1), anyio.Event(), list[str]()

        async def handle(data: str) -> None:
            seen.append(data)
            if data == "fail":
                raise Boom
            if data == "slow":
                await gate.wait()
                if end == "failure":
                    raise Boom
            if data == "trial":
                await anyio.sleep(1.0)

        bus = EventBus(around=[breaker])
        await bus.subscribe("a", "c", handle)
        async with create_task_group() as tasks:
            tasks.start_soon(bus.publish, "a", "slow")
            await settle()
            await bus.publish("a", "fail")
            await anyio.sleep(30.0)
            tasks.start_soon(bus.publish, "a", "trial")
            await settle()
            gate.set()
            await settle()
            assert breaker.is_open
            (failure,) = await bus.publish("a", "second trial")
            assert isinstance(failure.exception, CircuitOpen)
        assert not breaker.is_open
        assert seen == ["slow", "fail", "trial"]

    run(main, backend)


def test_objects_serve_several_runs(backend: str) -> None:
    """A3, B1: Their state outlives a run; what another clock shows keeps nothing waiting."""
    breaker = CircuitBreaker(max_failures=1, reset_timeout=10.0)
    limiter = RateLimiter(1, 10.0)
    bus, service = EventBus(around=[limiter, breaker]), Service()
    service.is_down = True

    async def fail() -> None:
        await anyio.sleep(1000.0)
        await bus.subscribe("a", "c", service)
        assert await outcomes(bus, 1) == [Boom]

    async def succeed() -> None:
        service.is_down, started = False, anyio.current_time()
        await outcomes(bus, 2, 3)
        assert not breaker.is_open
        assert anyio.current_time() - started == 10.0

    run(fail, backend)
    others = {name for name, _ in BACKENDS.values()} - {backend}
    run(succeed, others.pop() if others else backend)
    assert service.calls == [1, 2, 3]


def test_a_trial_that_its_loop_did_not_end(backend: str) -> None:
    """A3: Closed when no loop is left, it lets the next trial through."""
    breaker = CircuitBreaker(max_failures=1, reset_timeout=1.0)
    bus, service = EventBus(around=[breaker]), Service()
    trials = list[Coroutine[Any, Any, object]]()

    async def begin_a_trial() -> None:
        service.is_down = True
        subscription = await bus.subscribe("a", "c", service)
        assert await outcomes(bus, 1) == [Boom]
        await anyio.sleep(2.0)
        trials.append(breaker(Event("a", 2), subscription, Never))
        trials[0].send(None)

    async def go_on() -> None:
        service.is_down = False
        await anyio.sleep(2.0)
        assert await outcomes(bus, 3) == [None]
        assert not breaker.is_open

    run(begin_a_trial, backend)
    trials[0].close()
    run(go_on, backend)


class Never:
    """An awaitable that does not end."""

    def __await__(self) -> Generator[None, None, None]:
        """Wait for ever, without an event loop."""
        while True:
            yield


async def test_a_cancellation_is_no_failure_for_a_breaker() -> None:
    """A3: It says nothing about the service."""
    breaker = CircuitBreaker(max_failures=1)
    bus = EventBus(around=[breaker])
    await bus.subscribe("a", "c", lambda _: anyio.sleep_forever())
    with CancelScope() as scope:
        scope.cancel()
        await bus.publish("a")
    assert not breaker.is_open


async def test_duplicates_are_not_handled() -> None:
    """A3: By key, and by subscription; an event without a key is no duplicate."""
    bus, one, other = EventBus(), Service(), Service()
    deduplicator = Deduplicator(lambda event: event.data)
    for service in (one, other):
        await bus.subscribe("a", "c", service, around=[deduplicator])
    assert await outcomes(bus, 1, 2, 1, None, None, 2) == [None] * 6
    assert one.calls == other.calls == [1, 2, None, None]


async def test_a_failure_is_forgotten() -> None:
    """A3: The event may come again."""
    bus, service = EventBus(), Service()
    await bus.subscribe("a", "c", service, around=[Deduplicator(lambda event: event.data)])
    service.is_down = True
    assert await outcomes(bus, 1) == [Boom]
    service.is_down = False
    assert await outcomes(bus, 1, 1) == [None, None]
    assert service.calls == [1, 1]


async def test_the_memory_of_keys_is_bounded() -> None:
    """A3: Those that were seen last are kept."""
    bus, service = EventBus(), Service()
    deduplicator = Deduplicator(lambda event: event.data, max_keys=2)
    subscription = await bus.subscribe("a", "c", service, around=[deduplicator])
    await outcomes(bus, 1, 2, 1, 3, 1, 2)
    assert service.calls == [1, 2, 3, 2]
    assert list(deduplicator._keys[subscription].handled) == [1, 2]
    assert not deduplicator._keys[subscription].running


@pytest.mark.parametrize("first_ends", ["well", "by failing", "by being cancelled"])
def test_a_duplicate_waits_for_the_running_call(first_ends: str, backend: str) -> None:
    """A3: It calls the handler itself only if the first call failed or was cancelled."""

    async def main() -> None:
        bus, calls, outcomes = EventBus(), list[float](), list[object]()

        async def handle(_: object) -> None:
            calls.append(anyio.current_time() - started)
            await anyio.sleep(1.0)
            if len(calls) == 1 and first_ends == "by failing":
                raise Boom

        async def publish(scope: CancelScope) -> None:
            with scope:
                outcomes.append(await bus.publish("a", 1))

        deduplicator = Deduplicator(lambda event: event.data)
        subscription = await bus.subscribe("a", "c", handle, around=[deduplicator])
        started = anyio.current_time()
        async with create_task_group() as tasks:
            first, *others = (CancelScope() for _ in range(4))
            for scope in (first, *others):
                tasks.start_soon(publish, scope)
                await settle()
            assert (calls, outcomes) == ([0.0], [])
            if first_ends == "by being cancelled":
                first.cancel()
            others[0].cancel()
        expected = {"well": [0.0], "by failing": [0.0, 1.0], "by being cancelled": [0.0, 0.0]}
        assert calls == expected[first_ends]
        failed = [each for each in outcomes if each]
        assert len(failed) == (first_ends == "by failing")
        assert not deduplicator._keys[subscription].running

    run(main, backend)


async def test_a_duplicate_from_within_the_call_itself() -> None:
    """A3: It can't wait for the call that it comes from, so it succeeds at once."""
    bus, calls = EventBus(), list[int]()

    async def publish_again(number: int) -> None:
        calls.append(number)
        async with create_task_group() as tasks:
            tasks.start_soon(bus.publish, "a", number)
        assert await bus.publish("a", number) == ()

    await bus.subscribe("a", "c", publish_again, around=[Deduplicator(lambda event: event.data)])
    assert await bus.publish("a", 1) == ()
    assert calls == [1]


async def test_two_calls_that_would_wait_for_each_other() -> None:
    """A3, V2: One of them fails with `LimitDeadlock`, and neither hangs."""
    bus, failed = EventBus(), list[type[BaseException]]()

    async def publish_the_other(number: int) -> None:
        await settle()
        failed.extend(type(each.exception) for each in await bus.publish("a", 3 - number))

    await bus.subscribe("a", "c", publish_the_other, around=[Deduplicator(lambda it: it.data)])
    async with create_task_group() as tasks:
        for number in (1, 2):
            tasks.start_soon(bus.publish, "a", number)
    assert failed == [LimitDeadlock]


def test_a_redelivery_calls_only_those_that_failed(backend: str) -> None:
    """A3, X1: Behind a bridge the stored event is the key; others have none."""

    def stored_id(event: Event[Any]) -> object:
        delivery = current_delivery()
        if delivery is None or delivery.name != event.name:
            return None
        return delivery.source, delivery.id

    async def main() -> None:
        bus, one, other, local = EventBus(), Service(), Service(), Service()
        deduplicator = Deduplicator(stored_id)

        async def publish_locally(data: int) -> None:
            await bus.publish("local", data)

        await bus.subscribe("stored", "c", publish_locally)
        await bus.subscribe("*", "c", local, around=[deduplicator], priority=2)
        for service in (one, other):
            await bus.subscribe("stored", "c", service, around=[deduplicator])
        other.is_down = True
        shop, transport = EventBus(), MemoryTransport()
        async with (
            open_bridge(shop, transport, outgoing=["stored"]),
            open_bridge(bus, transport, incoming=["stored"], group="g", retry_delay=1.0),
        ):
            for number in (1, 2):
                await shop.publish("stored", number)
            await anyio.sleep(0.5)
            other.is_down = False
            await anyio.sleep(5.0)
        assert sorted(one.calls) == [1, 2]
        assert sorted(other.calls) == [1, 1, 2, 2]
        # Each stored event once, and what was published locally each time.
        assert sorted(local.calls) == [1, 1, 1, 2, 2, 2]

    run(main, backend)


async def test_a_removed_subscription_is_freed() -> None:
    """A3, B6: A deduplicator keeps neither it nor its handler."""
    bus, service = EventBus(around=[Deduplicator(lambda event: event.data)]), Service()
    gone = ref(service)
    with await bus.subscribe("a", "c", service):
        await bus.publish("a", 1)
    del service
    gc.collect()
    assert gone() is None


def test_a_rate_limit_lets_calls_wait(backend: str) -> None:
    """A3: So many begin in any period, in order; a cancelled one takes no place."""

    async def main() -> None:
        bus, begun, started = EventBus(), list[tuple[int, float]](), anyio.current_time()

        async def note(number: int) -> None:
            begun.append((number, anyio.current_time() - started))

        await bus.subscribe("a", "c", note, around=[RateLimiter(2, 10.0)])
        async with create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(bus.publish, "a", number)
                await settle()
            with CancelScope() as scope:
                scope.cancel()
                await bus.publish("a", -1)
            for number in range(3, 6):
                tasks.start_soon(bus.publish, "a", number)
                await settle()
        assert begun == [(0, 0.0), (1, 0.0), (2, 10.0), (3, 10.0), (4, 20.0), (5, 20.0)]

    run(main, backend)


@pytest.mark.parametrize("once", [False, True])
def test_a_call_that_waits_starts_nothing_that_was_unsubscribed(once: bool, backend: str) -> None:
    """A3, B5: Nor is that a failure; with `once` it was unsubscribed before, and starts."""

    async def main() -> None:
        bus, service, limiter = EventBus(), Service(), RateLimiter(1, 10.0)
        await bus.subscribe("first", "c", service, around=[limiter])
        await bus.publish("first", 1)
        subscription = await bus.subscribe("a", "c", service, once=once, around=[limiter])
        async with create_task_group() as tasks:
            tasks.start_soon(bus.publish, "a", 2)
            await anyio.sleep(5.0)
            assert bus.unsubscribe(subscription) is not once
        assert service.calls == ([1, 2] if once else [1])

    run(main, backend)


def test_a_period_slides(backend: str) -> None:
    """A3: It is any period, not one that begins at fixed times."""

    async def main() -> None:
        bus, begun, started = EventBus(), list[float](), anyio.current_time()

        async def note(_: object) -> None:
            begun.append(anyio.current_time() - started)

        await bus.subscribe("a", "c", note, around=[RateLimiter(2, 10.0)])
        await bus.publish("a")
        await anyio.sleep(9.0)
        for _ in range(3):
            await bus.publish("a")
        assert begun == [0.0, 9.0, 10.0, 19.0]

    run(main, backend)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (
            lambda: CircuitBreaker(max_failures=0),
            "max_failures must be an int, 1 to 1,000.*, not 0",
        ),
        (
            lambda: CircuitBreaker(reset_timeout=0),
            "reset_timeout must be a number of seconds, more",
        ),
        (
            lambda: Deduplicator(id, max_keys=True),
            "max_keys must be an int, 1 to 1,000.*, not True",
        ),
        (lambda: RateLimiter(10**30, 1.0), "calls must be an int, 1 to 1,000.*, not 1000"),
        (lambda: RateLimiter(1, -1.0), "period must be a number of seconds, more than 0, not -1.0"),
        (lambda: RateLimiter(1, float("inf")), "period must be finite, not inf"),
    ],
)
def test_what_is_refused(make: Callable[[], object], problem: str) -> None:
    """A3: The message says what was given, and what would be right."""
    with pytest.raises(ValueError, match=problem):
        make()


async def test_a_key_must_be_a_function_that_returns_something_hashable() -> None:
    """A3: Else a `TypeError`, from the call or as the handler's failure."""
    with pytest.raises(TypeError, match="key must be callable with 1 positional argument"):
        Deduplicator("key")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="key must be a plain function, but sleep is async"):
        Deduplicator(anyio.sleep)  # type: ignore[arg-type]

    def key(event: Event[Any]) -> Any:
        return event.data["key"]

    bus, service = EventBus(), Service()
    await bus.subscribe("a", "c", service, around=[Deduplicator(key)])
    assert await outcomes(bus, {"key": []}, {}, {"key": 1}) == [TypeError, KeyError, None]
    assert service.calls == [{"key": 1}]
