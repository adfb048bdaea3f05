"""Functions around handlers: A3."""

from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, cast

import anyio
import pytest
from anyio import CancelScope, create_task_group, fail_after, sleep_forever
from anyio.lowlevel import checkpoint

from flexiflow import (
    Component,
    Engine,
    Event,
    EventBus,
    HandlerCancelled,
    HandlerTimeout,
    Subscription,
    events,
    on,
)
from flexiflow._bus import DeliveryMode, ErrorPolicy
from flexiflow._delivery.around import call_directly, call_inside
from flexiflow._subscription import Around, Handler
from flexiflow.testing import replay
from tests.accounting import Boom
from tests.attacks import each_mode, each_policy, wait
from tests.helpers import PATIENCE, never, noting, settle

Call = Callable[[], Coroutine[Any, Any, None]]


def note_around(notes: list[str], name: str) -> Around:
    """Make a function that notes when it begins and ends."""

    async def around(event: Event[Any], subscription: Subscription, call: Call) -> None:
        notes.append(f"{name} begins")
        await call()
        notes.append(f"{name} ends")

    return around


async def only_call(event: Event[Any], subscription: Subscription, call: Call) -> None:
    """Do nothing else."""
    await call()


async def call_nothing(event: Event[Any], subscription: Subscription, call: Call) -> None:
    """Leave the handler out."""


@each_mode
async def test_the_bus_s_own_are_outermost(mode: DeliveryMode) -> None:
    """A3: In their order, then the subscription's, then the handler."""
    notes = list[str]()
    bus = EventBus(delivery=mode, around=[note_around(notes, "1"), note_around(notes, "2")])
    own = [note_around(notes, "3"), note_around(notes, "4")]
    subscription = await bus.subscribe("a", "c", noting(notes, "handler"), around=iter(own))
    assert subscription.around == tuple(own)
    await bus.publish("a")
    begin, end = [[f"{each} {what}" for each in "1234"] for what in ("begins", "ends")]
    assert notes == [*begin, "handler", *reversed(end)]


@each_mode
async def test_they_are_given_the_event_and_the_subscription(mode: DeliveryMode) -> None:
    """A3: The event has the payload itself."""
    seen = list[tuple[Event[Any], Subscription]]()

    async def around(event: Event[Any], subscription: Subscription, call: Call) -> None:
        seen.append((event, subscription))
        await call()

    bus, data = EventBus(delivery=mode, around=[around]), object()
    subscription = await bus.subscribe("a.*", "c", wait_once)
    await bus.publish("a.b", data)
    ((event, given),) = seen
    assert (event.name, given) == ("a.b", subscription)
    assert event.data is data


async def wait_once(_: object) -> None:
    """Let others run for a turn."""
    await checkpoint()


async def test_they_come_after_filter_and_once_and_the_wait_for_a_slot() -> None:
    """A3: A handler that is not to start is not seen; `once` is spent before."""
    notes = list[str]()
    bus = EventBus(around=[note_around(notes, "around")])
    await bus.subscribe("a", "c", never, filter=lambda name, data: False)
    once = await bus.subscribe("a", "c", noting(notes, "once"), once=True)
    await bus.publish("a")
    await bus.publish("a")
    assert notes == ["around begins", "once", "around ends"]
    assert not once.active
    gate, begun = anyio.Event(), list[int]()

    async def hold(_: object) -> None:
        begun.append(len(notes))
        await gate.wait()

    bus.unsubscribe_all("c")
    notes.clear()
    await bus.subscribe("a", "c", hold, limit=1)
    async with create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(bus.publish, "a")
            await settle()
        assert notes == ["around begins"]
        gate.set()
    assert begun == [1, 3]


@each_mode
@each_policy
async def test_what_leaves_the_outermost_is_the_failure(
    mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """A3: A failure may be swallowed or replaced; only the outermost's counts."""

    async def swallow(event: Event[Any], subscription: Subscription, call: Call) -> None:
        with pytest.raises(Boom):
            await call()

    async def replace(event: Event[Any], subscription: Subscription, call: Call) -> None:
        try:
            await call()
        except Boom as exc:
            raise LookupError from exc

    async def fail(_: object) -> None:
        await checkpoint()
        raise Boom

    bus = EventBus(delivery=mode, on_error=policy)
    await bus.subscribe("swallowed", "c", fail, around=[swallow])
    await bus.subscribe("replaced", "c", fail, around=[replace])
    assert await bus.publish("swallowed") == ()
    if policy == "raise":
        with pytest.raises(LookupError):
            await bus.publish("replaced")
    else:
        (failure,) = await bus.publish("replaced")
        assert type(failure.exception) is LookupError


@each_mode
async def test_one_that_does_not_call_has_succeeded(mode: DeliveryMode) -> None:
    """A3: Then the handler is not called, and nothing has failed."""
    bus = EventBus(delivery=mode, around=[call_nothing])
    await bus.subscribe("a", "c", never)
    assert await bus.publish("a") == ()


def test_it_may_call_several_times(backend: str) -> None:
    """A3: One after another, also after a failure; a `time_limit` holds for each call."""
    failures, calls = list[BaseException](), list[int]()

    async def three_times(event: Event[Any], subscription: Subscription, call: Call) -> None:
        for _ in range(3):
            try:
                await call()
            except Exception as exc:  # noqa: BLE001  the test looks at it
                failures.append(exc)

    async def handle(_: object) -> None:
        calls.append(len(calls))
        if len(calls) == 1:
            raise Boom
        if len(calls) == 2:
            await sleep_forever()

    async def scenario() -> None:
        bus = EventBus()
        await bus.subscribe("a", "c", handle, around=[three_times], time_limit=1.0)
        assert await bus.publish("a") == ()

    # In virtual time, since a slow machine would let the first call's time run out, too.
    replay(scenario, backend=backend, decisions=())
    assert calls == [0, 1, 2]
    assert [type(each) for each in failures] == [Boom, HandlerTimeout]


async def test_a_call_while_one_runs() -> None:
    """A3: A `RuntimeError` that says so; the one that runs is left in peace."""
    problems = list[str]()

    async def twice(event: Event[Any], subscription: Subscription, call: Call) -> None:
        async with create_task_group() as tasks:
            tasks.start_soon(call)
            await settle()
            try:
                await call()
            except RuntimeError as exc:
                problems.append(str(exc))
            gate.set()

    async def handle(_: object) -> None:
        await gate.wait()

    gate, bus = anyio.Event(), EventBus(around=[twice])
    await bus.subscribe("a", "c", handle)
    with fail_after(PATIENCE):
        assert await bus.publish("a") == ()
    name = "test_a_call_while_one_runs.<locals>.twice"
    (problem,) = problems
    assert problem == (
        f"{name} called the handler while its last call still ran; a function in "
        "around may call it several times, one after another, until it returns"
    )


@pytest.mark.parametrize("own", [0, 1], ids=["outermost", "inside another"])
async def test_a_call_after_it_has_returned(own: int) -> None:
    """A3: A `RuntimeError`; the handler is not called."""
    kept = list[Call]()

    async def keep(event: Event[Any], subscription: Subscription, call: Call) -> None:
        kept.append(call)

    bus = EventBus(around=[only_call] * own)
    await bus.subscribe("a", "c", never, around=[keep])
    await bus.publish("a")
    with pytest.raises(RuntimeError, match="called the handler after it had returned"):
        await kept[0]()


async def test_a_call_from_another_task_while_it_waits() -> None:
    """A3: It has not returned, so the handler is called."""
    notes = list[str]()

    async def let_another_call(event: Event[Any], subscription: Subscription, call: Call) -> None:
        async with create_task_group() as tasks:
            tasks.start_soon(call)

    bus = EventBus(around=[let_another_call])
    await bus.subscribe("a", "c", noting(notes, "handler"))
    assert await bus.publish("a") == ()
    assert notes == ["handler"]


@each_mode
async def test_a_call_raises_what_was_judged(mode: DeliveryMode) -> None:
    """A3, E6: A stray cancellation is a `HandlerCancelled` within the functions, too."""
    seen = list[type[BaseException]]()

    async def look(event: Event[Any], subscription: Subscription, call: Call) -> None:
        try:
            await call()
        except BaseException as exc:
            seen.append(type(exc))
            raise

    kind = anyio.get_cancelled_exc_class()
    strays = list[BaseException]()
    with CancelScope() as scope:
        scope.cancel()
        try:
            await checkpoint()
        except kind as exc:
            strays.append(exc)
            raise

    async def let_out(_: object) -> None:
        raise strays[0]

    bus = EventBus(delivery=mode, around=[look])
    await bus.subscribe("a", "c", let_out, around=[look])
    (failure,) = await bus.publish("a")
    assert type(failure.exception) is HandlerCancelled
    assert seen == [HandlerCancelled, HandlerCancelled]


@each_mode
async def test_the_publisher_s_cancellation_goes_through(mode: DeliveryMode) -> None:
    """A3, E5: As a cancellation, so the functions can clean up, and it ends the publish."""
    notes = list[str]()

    async def clean_up(event: Event[Any], subscription: Subscription, call: Call) -> None:
        try:
            await call()
        finally:
            notes.append("cleaned up")

    bus = EventBus(delivery=mode, around=[clean_up])
    await bus.subscribe("a", "c", wait)
    with fail_after(PATIENCE):
        async with create_task_group() as tasks:
            tasks.start_soon(bus.publish, "a")
            await settle()
            tasks.cancel_scope.cancel()
    assert notes == ["cleaned up"]


@each_mode
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_timeout_of_asyncio_in_a_function(mode: DeliveryMode) -> None:
    """A3, E6: Its cancellation goes through `call`, and it ends as a `TimeoutError`."""
    import asyncio  # noqa: PLC0415  the only backend with such timeouts

    async def in_time(event: Event[Any], subscription: Subscription, call: Call) -> None:
        async with asyncio.timeout(0.01):
            await call()

    bus = EventBus(delivery=mode, around=[in_time])
    await bus.subscribe("a", "c", wait)
    with fail_after(PATIENCE):
        (failure,) = await bus.publish("a")
    assert type(failure.exception) is TimeoutError


@pytest.mark.parametrize("functions", [1, 2])
async def test_a_failure_beside_a_cancellation_does_not_hide_it(
    functions: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A3, E5: A function that swallows failures can't swallow the cancellation with it."""

    async def swallow(event: Event[Any], subscription: Subscription, call: Call) -> None:
        try:
            await call()
        except Exception:  # noqa: BLE001  that is what it does
            never()

    async def fail_and_wait(_: object) -> None:
        try:
            await sleep_forever()
        except anyio.get_cancelled_exc_class() as exc:
            raise BaseExceptionGroup("both", [exc, Boom()]) from None

    bus = EventBus()
    await bus.subscribe("a", "c", fail_and_wait, around=[swallow] * functions)
    with fail_after(PATIENCE), CancelScope() as scope:
        async with create_task_group() as tasks:
            tasks.start_soon(bus.publish, "a")
            await settle()
            scope.cancel()
    assert scope.cancelled_caught
    assert "Boom" in caplog.text


async def test_they_see_no_built_in_event_stream_expectation_or_answer() -> None:
    """A3: Not even those of the subscription."""
    bus = EventBus(around=[never_around])
    seen = list[Any]()
    await bus.subscribe(events.COMPONENT_REGISTERED, "c", seen.append, around=[never_around])
    await Engine(bus=bus).register(Component("lamp"))
    async with bus.stream("a") as stream, bus.expect("a") as expected:
        await bus.publish("a", 1)
        assert (await anext(stream)).data == (await expected).data == 1
    await bus.answer("q", "c", seen.append, limit=1)
    await bus.ask("q", 2)
    assert seen == [{"component": "lamp"}, 2]


async def never_around(event: Event[Any], subscription: Subscription, call: Call) -> None:
    """Fail the test that calls this."""
    never(event, subscription)


async def test_a_method_has_functions_around_it() -> None:
    """A3: `on` takes them as `subscribe` does."""
    notes = list[str]()

    class Shop(Component):
        @on("placed", around=[note_around(notes, "around")])
        def take(self, _: object) -> None:
            notes.append("take")

    engine = Engine()
    await engine.register(Shop("shop"))
    await engine.bus.publish("placed")
    assert notes == ["around begins", "take", "around ends"]


class _Object:
    async def __call__(self, event: Event[Any], subscription: Subscription, call: Call) -> None:
        await call()


@pytest.mark.parametrize("around", [_Object(), partial(only_call), _Object().__call__])
async def test_any_async_callable_will_do(around: Any) -> None:
    """A3: An object, a partial, a bound method."""
    bus, notes = EventBus(around=[around]), list[str]()
    await bus.subscribe("a", "c", noting(notes, "handler"))
    await bus.publish("a")
    assert notes == ["handler"]


@each_mode
async def test_a_filter_is_asked_first(mode: DeliveryMode) -> None:
    """A3, B8: What it refuses is seen by neither the function nor the handler."""
    notes = list[str]()
    bus = EventBus(delivery=mode, around=[note_around(notes, "around")])

    async def handler(data: str) -> None:
        notes.append(data)

    await bus.subscribe("a", "c", handler, filter=lambda name, data: data == "wanted")
    for data in ("other", "wanted", "other"):
        await bus.publish("a", data)
    assert notes == ["around begins", "wanted", "around ends"]


class Later:
    """An awaitable that is no coroutine."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def __await__(self) -> Generator[Any, Any, None]:
        """Call the handler."""
        return self._call().__await__()


@pytest.mark.parametrize("is_direct", [True, False])
async def test_one_that_returns_another_awaitable(*, is_direct: bool) -> None:
    """A3: As a compiled function may, and one that is marked as a coroutine function."""
    calls = list[Call]()

    def around(event: Event[Any], subscription: Subscription, call: Call) -> Later:
        calls.append(call)
        return Later(call)

    bus, notes = EventBus(), list[str]()

    async def handler(data: str) -> None:
        notes.append(data)

    subscription = await bus.subscribe("a", "c", handler)
    event, function = Event("a", "handler"), cast("Around", around)
    if is_direct:
        await call_directly(function, event, subscription)
    else:
        await call_inside((function,), event, subscription)
    with pytest.raises(RuntimeError, match="after it had returned"):
        await calls[0]()
    assert notes == ["handler"]


@each_policy
async def test_they_are_around_each_handler_of_a_publish(policy: ErrorPolicy) -> None:
    """A3, B4: Whatever else the handler's subscription asks for, also after a failure."""
    notes, failure = list[str](), Boom()
    bus = EventBus(on_error=policy, around=[note_around(notes, "bus's")])

    async def fail(data: object) -> None:
        notes.append("failing")
        raise failure

    def accept(name: str, data: object) -> bool:
        return True

    await bus.subscribe("a", "c", noting(notes, "async"), priority=1)
    await bus.subscribe("a", "c", lambda data: notes.append("sync"), priority=1)
    await bus.subscribe("a", "c", noting(notes, "once"), once=True, priority=2)
    await bus.subscribe("a", "c", noting(notes, "filter"), filter=accept, priority=2)
    failing = await bus.subscribe("a", "c", fail)
    await bus.subscribe("a", "c", noting(notes, "limit"), limit=1, priority=4)
    await bus.subscribe("a", "c", noting(notes, "own"), around=[only_call], priority=4)
    await bus.subscribe("a", "c", noting(notes, "last"), priority=5)

    def around(*handlers: str) -> list[str]:
        return [note for each in handlers for note in ("bus's begins", each, "bus's ends")]

    before, after = ("async", "sync", "once", "filter"), ("limit", "own", "last")
    if policy == "raise":
        with pytest.raises(Boom) as raised:
            await bus.publish("a")
        assert raised.value is failure
        assert notes == [*around(*before), "bus's begins", "failing"]
    else:
        (failed,) = await bus.publish("a")
        assert (failed.exception, failed.subscription) == (failure, failing)
        assert notes == [*around(*before), "bus's begins", "failing", *around(*after)]


async def never_async(data: object) -> None:
    """Fail the test that starts this handler."""
    never(data)


@pytest.mark.parametrize("handler", [never_async, never])
async def test_one_that_is_unsubscribed_meanwhile_is_not_called(handler: Handler) -> None:
    """A3, B5: By a handler before it, and while the function around it waits."""
    notes = list[str]()

    async def around(event: Event[Any], subscription: Subscription, call: Call) -> None:
        notes.append(subscription.component_name)
        if subscription is third:
            bus.unsubscribe(third)
        await call()

    bus = EventBus(around=[around])

    async def unsubscribe(data: object) -> None:
        bus.unsubscribe(second)

    await bus.subscribe("a", "first", unsubscribe)
    second, third = [await bus.subscribe("a", name, handler) for name in ("second", "third")]
    assert await bus.publish("a") == ()
    assert notes == ["first", "third"]


def sync(event: Event[Any], subscription: Subscription, call: Call) -> None:
    """Be no async function."""


@pytest.mark.parametrize(
    ("around", "problem"),
    [
        (
            only_call,
            r"around must be a list of async functions, like \[in_transaction\], not <func",
        ),
        ("ab", "around must be a list of async functions"),
        (b"", "around must be a list of async functions"),
        ({}, "around must be a list of async functions"),
        (None, "around must be a list of async functions"),
        ([None], "a function in around must be callable with 3 positional arguments, not None"),
        ([wait], "a function in around is called with 3 positional arguments"),
        ([sync], "a function in around must be async, but sync is not"),
    ],
)
async def test_what_is_refused(around: Any, problem: str) -> None:
    """A3, B3: By the bus, by `subscribe` and by `on`; the message says what would be right."""
    with pytest.raises(TypeError, match=problem):
        EventBus(around=around)
    bus = EventBus()
    with pytest.raises(TypeError, match=problem):
        await bus.subscribe("a", "c", never, around=around)
    assert bus.subscriptions() == ()
    with pytest.raises(TypeError, match=problem):
        on("a", around=around)
