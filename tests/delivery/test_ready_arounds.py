"""The ready-made functions for `around`, under virtual time: A3."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio import CancelScope, create_task_group

from flexiflow import Event, EventBus
from flexiflow.extras.around import CircuitBreaker, CircuitOpen, Deduplicator, RateLimit
from flexiflow.testing import replay
from tests.accounting import Boom
from tests.helpers import settle

each_backend = pytest.mark.parametrize("backend", ["asyncio", "trio"])


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


@each_backend
def test_a_breaker_opens_and_closes(backend: str) -> None:
    """A3: After failures in a row; one call is let through after `recovery` seconds."""

    async def main() -> None:
        service, breaker = Service(), CircuitBreaker(failures=3, recovery=30.0)
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


@each_backend
def test_one_call_is_let_through_at_a_time(backend: str) -> None:
    """A3: Others fail while it runs; if it is cancelled, the circuit stays open."""

    async def main() -> None:
        breaker, seen = CircuitBreaker(failures=1, recovery=1.0), list[str]()

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
            assert str(failure.exception).endswith("it is tried again right now")
            tasks.cancel_scope.cancel()
        (failure,) = await bus.publish("a", "other")
        assert str(failure.exception) == (
            "test_one_call_is_let_through_at_a_time.<locals>.main.<locals>.handle was not called, "
            "since it failed too often; it is tried again in 1 s"
        )
        assert seen == ["fail", "trial"]

    run(main, backend)


@each_backend
@pytest.mark.parametrize("end", ["success", "failure"])
def test_a_call_from_before_says_nothing(end: str, backend: str) -> None:
    """A3: It began before the circuit opened: it neither closes it, nor lets a second trial in."""

    async def main() -> None:
        breaker, gate, seen = CircuitBreaker(failures=1, recovery=1.0), anyio.Event(), list[str]()

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
            await anyio.sleep(1.0)
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


async def test_a_cancellation_is_no_failure_for_a_breaker() -> None:
    """A3: It says nothing about the service."""
    breaker = CircuitBreaker(failures=1)
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
    deduplicator = Deduplicator(lambda event: event.data, remember=2)
    await bus.subscribe("a", "c", service, around=[deduplicator])
    await outcomes(bus, 1, 2, 1, 3, 1, 2)
    assert service.calls == [1, 2, 3, 2]
    assert len(deduplicator._handled) == 2


async def test_a_duplicate_of_a_running_one() -> None:
    """A3: It is none of its business whether that one succeeds."""
    bus, calls = EventBus(), list[int]()

    async def publish_again(number: int) -> None:
        calls.append(number)
        assert await bus.publish("a", number) == ()

    await bus.subscribe("a", "c", publish_again, around=[Deduplicator(lambda event: event.data)])
    assert await bus.publish("a", 1) == ()
    assert calls == [1]


@each_backend
def test_a_rate_limit_lets_calls_wait(backend: str) -> None:
    """A3: So many begin in any period, in order; a cancelled one takes no place."""

    async def main() -> None:
        bus, begun, started = EventBus(), list[tuple[int, float]](), anyio.current_time()

        async def note(number: int) -> None:
            begun.append((number, anyio.current_time() - started))

        await bus.subscribe("a", "c", note, around=[RateLimit(2, 10.0)])
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


@each_backend
def test_a_period_slides(backend: str) -> None:
    """A3: It is any period, not one that begins at fixed times."""

    async def main() -> None:
        bus, begun, started = EventBus(), list[float](), anyio.current_time()

        async def note(_: object) -> None:
            begun.append(anyio.current_time() - started)

        await bus.subscribe("a", "c", note, around=[RateLimit(2, 10.0)])
        await bus.publish("a")
        await anyio.sleep(9.0)
        for _ in range(3):
            await bus.publish("a")
        assert begun == [0.0, 9.0, 10.0, 19.0]

    run(main, backend)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: CircuitBreaker(failures=0), "failures must be an int, 1 or more failures"),
        (lambda: CircuitBreaker(recovery=0), "recovery must be more than 0 seconds"),
        (lambda: Deduplicator(lambda event: 1, remember=0), "remember must be an int, 1 or more"),
        (lambda: RateLimit(0, 1.0), "calls must be an int, 1 or more calls"),
        (lambda: RateLimit(1, -1.0), "period must be more than 0 seconds"),
        (lambda: RateLimit(1, float("inf")), "period must be finite"),
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

    def unhashable(event: Event[Any]) -> Any:
        return []

    bus = EventBus()
    await bus.subscribe("a", "c", Service(), around=[Deduplicator(unhashable)])
    (failure,) = await bus.publish("a")
    assert isinstance(failure.exception, TypeError)
