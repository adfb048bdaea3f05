"""What a failure leaves behind: nothing, once it is let go (B6)."""

import gc
import logging
import weakref
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, nullcontext, suppress
from types import FrameType
from typing import Any, NoReturn

import pytest
from anyio import (
    CancelScope,
    create_task_group,
    current_time,
    fail_after,
    get_cancelled_exc_class,
    sleep_forever,
    wait_all_tasks_blocked,
)
from anyio.lowlevel import checkpoint

import flexiflow
from flexiflow import (
    Component,
    Engine,
    Event,
    EventBus,
    EventStream,
    Expectation,
    PublishRefused,
    ReceiverClosed,
    StateMachine,
    Subscription,
    Transition,
)
from flexiflow._bus import DeliveryMode, ErrorPolicy
from flexiflow._receiver import RECEIVER
from flexiflow._stream import Overflow
from flexiflow.events import HANDLER_FAILED, MESSAGE_RECEIVED, STATE_CHANGED
from flexiflow.extras.retry import RetryConfig, retry_async
from tests.accounting import POLICIES, Boom, Fatal
from tests.helpers import MODES, PATIENCE, accept

OWNER = "freed"
"""Whose subscriptions are watched."""

SOURCE = next(iter(flexiflow.__path__))

each_mode = pytest.mark.parametrize("mode", MODES)
each_policy = pytest.mark.parametrize("policy", POLICIES)


class Mark:
    """Something that can be seen to be freed."""


class Watch:
    """Sees what is still there."""

    def __init__(self) -> None:
        self._seen: list[weakref.ref[Any]] = []

    def __call__(self, *objects: object) -> None:
        """Watch what is given."""
        self._seen += map(weakref.ref, objects)

    def mark(self) -> Mark:
        """Make something to be held by a frame."""
        mark = Mark()
        self(mark)
        return mark

    def alive(self) -> list[object]:
        """Give what was not freed."""
        seen = [each() for each in self._seen]
        return [each for each in seen if each is not None] + [
            each
            for each in gc.get_objects()
            if type(each) in {Subscription, EventStream, Expectation}
            and getattr(each, "component_name", OWNER) in {OWNER, RECEIVER}
        ]


def frames() -> list[FrameType]:
    """Find the frames of the library that something holds, though they have ended."""
    return [
        each
        for each in gc.get_objects()
        if isinstance(each, FrameType) and each.f_code.co_filename.startswith(SOURCE)
    ]


@pytest.fixture(autouse=True)
def _uncollected(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Let reference counts alone free what is freed."""
    # pytest would keep what is logged.
    monkeypatch.setattr(logging.getLogger("flexiflow"), "disabled", True)
    gc.collect()
    gc.freeze()  # what there is need not be looked through
    gc.disable()
    yield
    gc.enable()


async def left_by(use: Callable[[Watch], Awaitable[object]]) -> list[object]:
    """Tell what is left when it has returned."""
    watch = Watch()
    with fail_after(PATIENCE):
        await use(watch)
        # A task that has ended is held by the event loop until its next turn.
        await checkpoint()
    return watch.alive()


Make = Callable[[Watch], Callable[[Any], object]]


def _sync(watch: Watch) -> Callable[[Any], object]:
    def handler(data: object) -> NoReturn:
        held = watch.mark()
        raise Boom(type(held))

    return handler


def _at_once(watch: Watch) -> Callable[[Any], object]:
    async def handler(data: object) -> NoReturn:
        held = watch.mark()
        raise Boom(type(held))

    return handler


def _later(watch: Watch) -> Callable[[Any], object]:
    async def handler(data: object) -> NoReturn:
        held = watch.mark()
        await checkpoint()
        raise Boom(type(held))

    return handler


def _group(watch: Watch) -> Callable[[Any], object]:
    async def handler(data: object) -> NoReturn:
        held = watch.mark()
        raise ExceptionGroup("of two", [Boom(type(held)), ValueError()])

    return handler


def _fatal(watch: Watch) -> Callable[[Any], object]:
    async def handler(data: object) -> NoReturn:
        held = watch.mark()
        raise Fatal(type(held))

    return handler


def _pausing(watch: Watch) -> Callable[[Any], object]:
    async def handler(data: object) -> None:
        held = watch.mark()
        await checkpoint()
        assert held

    return handler


async def cancellation() -> BaseException:
    """Make a cancellation that is nobody's."""
    made: list[BaseException] = []
    with CancelScope() as scope:
        scope.cancel()
        try:
            await checkpoint()
        except get_cancelled_exc_class() as exc:
            made.append(exc)
            raise
    return made.pop().with_traceback(None)


def _stray(watch: Watch) -> Callable[[Any], object]:
    async def handler(data: object) -> NoReturn:
        held, found = watch.mark(), [await cancellation()]
        raise found.pop() from Boom(type(held))

    return handler


def _stray_in_a_group(watch: Watch) -> Callable[[Any], object]:
    async def handler(data: object) -> NoReturn:
        held = watch.mark()
        found = [await cancellation(), Boom(type(held))]
        raise BaseExceptionGroup("of two", [found.pop(), found.pop()])

    return handler


MAKERS: dict[str, Make] = {
    "sync": _sync,
    "at once": _at_once,
    "later": _later,
    "group": _group,
    "fatal": _fatal,
    "stray": _stray,
    "stray in a group": _stray_in_a_group,
}

each_kind = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


class Publishing:
    """An instrument that watches publishes."""

    def publishing(self, event: Event[Any]) -> AbstractContextManager[None]:
        return nullcontext()


class Handling:
    """An instrument that watches handlers."""

    def handling(
        self, event: Event[Any], subscription: Subscription
    ) -> AbstractContextManager[None]:
        return nullcontext()


Setting = tuple[tuple[type[Any], ...], dict[str, Any]]

SETTINGS: dict[str, Setting] = {
    "plain": ((), {}),
    "once": ((), {"once": True}),
    "filter": ((), {"filter": accept}),
    "limit": ((), {"limit": 1}),
    "time limit": ((), {"time_limit": 60}),
    "publishing": ((Publishing,), {}),
    "handling": ((Handling,), {}),
    "all": ((Publishing, Publishing, Handling), {"once": True, "limit": 1, "time_limit": 60}),
}
"""The instruments of the bus, and the options of the subscription."""


async def pause(data: object) -> None:
    """Wait for a turn of the scheduler, as a handler."""
    await checkpoint()
    await checkpoint()


async def publish(
    watch: Watch,
    handlers: list[Callable[[Any], object]],
    mode: DeliveryMode,
    policy: ErrorPolicy,
    instruments: tuple[type[Any], ...] = (),
    *,
    cancelled: bool = False,
    **options: Any,
) -> None:
    """Subscribe handlers between others, publish to them, and unsubscribe."""
    bus = EventBus(instruments=[each() for each in instruments])
    payload = watch.mark()
    await bus.subscribe("a", OWNER, pause)
    for handler in handlers:
        watch(handler)
        await bus.subscribe("a", OWNER, handler, **options)
        await bus.subscribe("a", OWNER, pause)
    with CancelScope() as scope, suppress(Exception, Fatal):
        if cancelled:
            scope.cancel()
        await bus.publish("a", payload, delivery=mode, on_error=policy)
    bus.unsubscribe_all(OWNER)


@pytest.mark.unmeasured
@each_kind
@each_mode
@each_policy
async def test_a_handler_that_failed_leaves_nothing(
    make: Make, mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """B6: neither payload nor frames nor the subscription, one failure or two, in any setting."""
    before, left = len(frames()), dict[str, list[object]]()
    for name, (instruments, options) in SETTINGS.items():

        async def use(
            watch: Watch,
            instruments: tuple[type[Any], ...] = instruments,
            options: dict[str, Any] = options,
        ) -> None:
            await publish(watch, [make(watch)], mode, policy, instruments, **options)
            await publish(watch, [make(watch), make(watch)], mode, policy, instruments, **options)

        if found := await left_by(use):
            left[name] = found
    assert left == {}
    if mode == "sequential":
        assert len(frames()) == before


def _raising(name: str, data: object) -> NoReturn:
    raise Boom(name)


def _answering_late(name: str, data: object) -> Any:
    return checkpoint()


@pytest.mark.unmeasured
@each_mode
@each_policy
@pytest.mark.parametrize("accepts", [_raising, _answering_late])
async def test_a_filter_that_failed_leaves_nothing(
    mode: DeliveryMode, policy: ErrorPolicy, accepts: Any
) -> None:
    """B6, B8: nor does what a filter let out, on its own or with a limit."""

    async def use(watch: Watch) -> None:
        for number in (1, 2):
            handlers = [_sync(watch) for _ in range(number)]
            await publish(watch, handlers, mode, policy, filter=accepts)
            await publish(watch, handlers, mode, policy, filter=accepts, limit=1)

    assert await left_by(use) == []


def _never_ending(watch: Watch) -> Callable[[Any], object]:
    async def handler(data: object) -> None:
        held = watch.mark()
        await sleep_forever()
        assert held

    return handler


def _failing_in_cleanup(watch: Watch) -> Callable[[Any], object]:
    async def handler(data: object) -> NoReturn:
        held = watch.mark()
        try:
            await sleep_forever()
        finally:
            raise Boom(type(held))

    return handler


def _failing_besides(watch: Watch) -> Callable[[Any], object]:
    async def handler(data: object) -> NoReturn:
        held = watch.mark()
        found: list[BaseException] = []
        try:
            await sleep_forever()
        except get_cancelled_exc_class() as exc:
            found += [Boom(type(held)), exc]
        raise BaseExceptionGroup("of two", [found.pop(), found.pop()])

    return handler


each_ending = pytest.mark.parametrize(
    "make", [_never_ending, _failing_in_cleanup, _failing_besides]
)


@each_ending
@each_policy
@pytest.mark.parametrize("instruments", [(), (Handling,)], ids=["none", "handling"])
async def test_a_handler_out_of_time_leaves_nothing(
    make: Make, policy: ErrorPolicy, instruments: tuple[type[Any], ...]
) -> None:
    """B6, V1: nor does one that was cancelled by its time limit, whatever it did then."""

    async def use(watch: Watch) -> None:
        await publish(watch, [make(watch)], "sequential", policy, instruments, time_limit=1e-9)

    async def use_bare(watch: Watch) -> None:
        handler: Any = make(watch)
        watch(handler)
        with suppress(Exception), CancelScope(deadline=current_time()):
            await handler(watch.mark())

    # On asyncio, AnyIO's scope keeps a group that a cancellation was taken out of.
    assert len(await left_by(use)) == len(await left_by(use_bare))


@pytest.mark.unmeasured
@each_ending
@each_mode
@each_policy
async def test_a_publish_that_was_cancelled_leaves_nothing(
    make: Make, mode: DeliveryMode, policy: ErrorPolicy
) -> None:
    """B6, E5: nor does one whose handlers fail while it is cancelled."""

    async def use(watch: Watch) -> None:
        for instruments, options in SETTINGS.values():
            handlers = [make(watch), make(watch)]
            await publish(watch, handlers, mode, policy, instruments, cancelled=True, **options)

    assert await left_by(use) == []


@each_policy
async def test_a_call_that_would_wait_for_itself_leaves_nothing(policy: ErrorPolicy) -> None:
    """B6, V2: nor does `LimitDeadlock`."""

    async def use(watch: Watch) -> None:
        bus = EventBus(on_error=policy)

        async def handler(data: object) -> None:
            await bus.publish("a", watch.mark())

        await publish_on(bus, watch, handler, limit=1)

    assert await left_by(use) == []


async def publish_on(
    bus: EventBus, watch: Watch, handler: Callable[[Any], object], **options: Any
) -> None:
    """Publish to one handler, and unsubscribe it."""
    watch(handler)
    await bus.subscribe("a", OWNER, handler, **options)
    with suppress(Exception, Fatal):
        await bus.publish("a", watch.mark())
    bus.unsubscribe_all(OWNER)


def _observed(watch: Watch) -> Callable[[Any], object]:
    def observe(failed: object) -> NoReturn:
        held = watch.mark()
        raise Boom(type(held))

    return observe


def _observed_later(watch: Watch) -> Callable[[Any], object]:
    async def observe(failed: object) -> NoReturn:
        held = watch.mark()
        await checkpoint()
        raise Boom(type(held))

    return observe


def _observed_fatally(watch: Watch) -> Callable[[Any], object]:
    async def observe(failed: object) -> NoReturn:
        held = watch.mark()
        raise Fatal(type(held))

    return observe


@pytest.mark.unmeasured
@each_mode
@each_policy
@pytest.mark.parametrize(
    "instruments", [(), (Publishing,), (Handling,)], ids=["none", "publishing", "handling"]
)
@pytest.mark.parametrize("make", [_observed, _observed_later, _observed_fatally])
async def test_an_observer_that_failed_leaves_nothing(
    mode: DeliveryMode, policy: ErrorPolicy, make: Make, instruments: tuple[type[Any], ...]
) -> None:
    """B6, E7: nor does the failure of a handler of `event.handler.failed`."""

    async def use(watch: Watch) -> None:
        bus = EventBus(delivery=mode, on_error=policy, instruments=[each() for each in instruments])
        for _ in range(2):
            await bus.subscribe(HANDLER_FAILED, OWNER, make(watch))
            await bus.subscribe("a", OWNER, _later(watch))
        await publish_on(bus, watch, _later(watch))

    assert await left_by(use) == []


class _Failing:
    """An instrument that fails where it is told to."""

    def __init__(self, method: str, moment: str, exception: type[BaseException]) -> None:
        self._method = method
        self._moment = moment
        self._exception = exception

    def publishing(self, event: Event[Any]) -> "_Manager":
        return self._manage("publishing")

    def handling(self, event: Event[Any], subscription: Subscription) -> "_Manager":
        return self._manage("handling")

    def _manage(self, method: str) -> "_Manager":
        if method == self._method:
            return _Manager(self._moment, self._exception)
        return _Manager("never", self._exception)


class _Manager:
    """What is entered; by hand, since a generator's frame would hold what is thrown into it."""

    def __init__(self, moment: str, exception: type[BaseException]) -> None:
        self._moment = moment
        self._exception = exception

    def __enter__(self) -> None:
        """Fail, if it is to."""
        if self._moment == "enter":
            raise self._exception

    def __exit__(self, *_: object) -> None:
        """Fail, if it is to."""
        if self._moment == "exit":
            raise self._exception


class _RaisingAgain(Publishing, Handling):
    """An instrument whose managers raise what they are shown."""

    def publishing(self, event: Event[Any]) -> Any:
        return self

    def handling(self, event: Event[Any], subscription: Subscription) -> Any:
        return self

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, exception: BaseException | None, traceback: object) -> None:
        if exception is not None:
            try:
                raise exception
            finally:
                del exception


@pytest.mark.unmeasured
@each_policy
@each_mode
@pytest.mark.parametrize("method", ["publishing", "handling"])
async def test_an_instrument_that_failed_leaves_nothing(
    mode: DeliveryMode, policy: ErrorPolicy, method: str
) -> None:
    """B6, I3: nor does what an instrument lets out, or raises again."""

    async def use(watch: Watch) -> None:
        for moment in ("enter", "exit"):
            for exception in (Boom, Fatal, PublishRefused):
                failing = _Failing(method, moment, exception)
                settings: list[list[Any]] = [[failing], [Publishing(), failing, Handling()]]
                for instruments in settings:
                    bus = EventBus(delivery=mode, on_error=policy, instruments=instruments)
                    await publish_on(bus, watch, _pausing(watch))
                    bus = EventBus(delivery=mode, on_error=policy, instruments=instruments)
                    await publish_on(bus, watch, _later(watch))
        bus = EventBus(delivery=mode, on_error=policy, instruments=[_RaisingAgain()])
        await publish_on(bus, watch, _later(watch))

    assert await left_by(use) == []


def _raise(message: dict[str, Any], component: object) -> NoReturn:
    raise Boom(message["type"])


async def _raise_later(message: dict[str, Any], component: object) -> NoReturn:
    await checkpoint()
    raise Boom(message["type"])


async def _raise_stray(message: dict[str, Any], component: object) -> NoReturn:
    found = [await cancellation()]
    raise found.pop()


async def _send_and_raise(message: dict[str, Any], component: Any) -> NoReturn:
    await component.handle_message({**message, "type": "fail"})
    raise Boom(message["type"])


def _machine(fail: Any) -> StateMachine:
    rows = [
        Transition("on", "guarded", "on", guard=fail),
        Transition("on", "fail", "on", action=fail),
        Transition("on", "nested", "on", action=_send_and_raise),
        Transition("on", "observed", "on"),
    ]
    return StateMachine("on", rows, strict=True)


@pytest.mark.unmeasured
@pytest.mark.parametrize("trigger", ["guarded", "fail", "nested", "observed", "unknown"])
@pytest.mark.parametrize("fail", [_raise, _raise_later, _raise_stray])
@pytest.mark.parametrize("observed", [None, _sync, _later], ids=["unobserved", "sync", "later"])
async def test_a_message_that_failed_leaves_nothing(
    trigger: str, fail: Any, observed: Make | None
) -> None:
    """B6, C4, C6: nor does what a guard, an action or an observer of a message lets out."""

    async def use(watch: Watch) -> None:
        engine = Engine()
        await engine.register(Component("a", machine=_machine(fail)))
        for event in () if observed is None else (MESSAGE_RECEIVED, STATE_CHANGED, HANDLER_FAILED):
            await engine.bus.subscribe(event, OWNER, observed(watch))  # type: ignore[misc]
        with suppress(Exception):
            await engine.send("a", {"type": trigger, "data": watch.mark()})
        engine.bus.unsubscribe_all(OWNER)
        watch(engine.components["a"])
        await engine.unregister("a")

    before = len(frames())
    assert await left_by(use) == []
    assert len(frames()) == before


async def test_a_failure_that_is_raised_again_leaves_nothing() -> None:
    """B6: nor does one that was being handled as a message was sent, or a call retried."""

    def again(message: object, component: object = None) -> NoReturn:
        raise  # noqa: PLE0704  what the sender handles

    @retry_async(RetryConfig(base_delay=0))
    async def again_later(message: object) -> NoReturn:
        again(message)

    async def send_deferred(message: dict[str, Any], component: Any) -> None:
        await component.handle_message({**message, "type": "fail"})

    async def use(watch: Watch) -> None:
        rows = [
            Transition("on", "fail", "on", action=again),
            Transition("on", "defer", "on", action=send_deferred),
        ]
        component = Component("a", machine=StateMachine("on", rows))
        with suppress(Boom):
            await component.handle_message({"type": "defer"})
        for call in (component.handle_message, again_later):
            for trigger in ("fail", "defer"):
                try:
                    raise Boom(type(watch.mark()))
                except Boom:
                    with suppress(Boom):
                        await call({"type": trigger, "data": watch.mark()})

    before = len(frames())
    assert await left_by(use) == []
    assert len(frames()) == before


@pytest.mark.parametrize("fail", [_raise, _raise_later], ids=["sync", "later"])
async def test_a_factory_that_failed_leaves_nothing(fail: Any) -> None:
    """B6, C2: nor does what a factory lets out, to one sender or to several."""

    async def use(watch: Watch) -> None:
        class Made:
            """Counts for the factory's own inside."""

        def make(name: str) -> Any:
            held = Made()
            watch(held)
            return fail({"type": name}, held)

        engine = Engine(component_factory=make)

        async def send() -> None:
            with suppress(Boom):
                await engine.send("a", {"type": "x", "data": watch.mark()})

        async with create_task_group() as group:
            for _ in range(3):
                group.start_soon(send)
        watch(make)

    before = len(frames())
    assert await left_by(use) == []
    assert len(frames()) == before


async def test_a_sender_who_was_refused_leaves_nothing() -> None:
    """B6, C1: nor does the refusal of a message whose component went meanwhile."""

    async def use(watch: Watch) -> None:
        async def wait(message: object, component: object) -> None:
            await wait_all_tasks_blocked()
            await engine.unregister("a")

        engine = Engine()
        rows = [Transition("on", "wait", "on", action=wait)]
        await engine.register(Component("a", machine=StateMachine("on", rows)))

        async def send() -> None:
            with suppress(Exception):
                await engine.send("a", {"type": "wait", "data": watch.mark()})

        async with create_task_group() as group:
            group.start_soon(send)
            group.start_soon(send)

    before = len(frames())
    assert await left_by(use) == []
    assert len(frames()) == before


@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_a_retry_that_failed_leaves_nothing(attempts: int) -> None:
    """B6, R2: nor do the attempts of a call, whether the last one fails or succeeds."""

    def flaky(watch: Watch, failures: int) -> Callable[[Any], object]:
        left = iter(range(failures))

        @retry_async(RetryConfig(max_attempts=attempts, base_delay=0))
        async def handler(data: object) -> None:
            held = watch.mark()
            await checkpoint()
            if next(left, None) is not None:
                raise Boom(type(held))

        return handler

    async def use(watch: Watch) -> None:
        for failures in range(attempts + 1):
            for policy in POLICIES:
                await publish(watch, [flaky(watch, failures)], "sequential", policy)
        watch(flaky(watch, 0))

    assert await left_by(use) == []


async def test_a_retry_that_was_cancelled_leaves_nothing() -> None:
    """B6, R3: nor does one that ended in the delay after its second attempt."""

    async def use(watch: Watch) -> None:
        # The second delay is longer than anyone waits.
        @retry_async(RetryConfig(base_delay=1e-9, backoff=1e15))
        async def handler(data: object) -> NoReturn:
            held = watch.mark()
            raise Boom(type(held))

        async def cancel() -> None:
            await wait_all_tasks_blocked()
            scope.cancel()

        with CancelScope() as scope:
            async with create_task_group() as group:
                group.start_soon(cancel)
                await handler(watch.mark())

    before = len(frames())
    assert await left_by(use) == []
    assert len(frames()) == before


@each_mode
@pytest.mark.parametrize("waiters", [0, 1, 2])
async def test_an_expectation_leaves_nothing(mode: DeliveryMode, waiters: int) -> None:
    """B6, S4: nor does one whose filter failed, whether it was raised to waiters or reported."""

    async def use(watch: Watch) -> None:
        bus = EventBus(delivery=mode)

        async def wait() -> None:
            with suppress(Boom, ReceiverClosed):
                _ = await expected

        for in_time in (False, True):
            async with create_task_group() as group, bus.expect("a", filter=_raising) as expected:
                for _ in range(waiters):
                    group.start_soon(wait)
                await wait_all_tasks_blocked()
                await bus.publish("a", watch.mark())
                if in_time:
                    await wait_all_tasks_blocked()
        if waiters:
            with suppress(Boom):
                async with bus.expect("a", filter=_raising) as expected:
                    await bus.publish("a", watch.mark())
                    _ = await expected
            async with create_task_group() as group:
                group.start_soon(_wait_in_vain, bus)
                await wait_all_tasks_blocked()
                await bus.publish("a", watch.mark())

    assert await left_by(use) == []


async def _wait_in_vain(bus: EventBus) -> None:
    with suppress(Boom):
        await bus.wait_for("a", filter=_raising)


async def test_a_receiver_that_was_left_leaves_nothing() -> None:
    """B6, S1: nor do a stream and an expectation that failed at nothing, with what they heard."""

    async def use(watch: Watch) -> None:
        bus = EventBus()
        async with bus.stream("a", buffer=1) as events, bus.expect("a") as expected:
            await bus.publish("a", watch.mark())
            await expected
            await anext(events)
            await bus.publish("a", watch.mark())

    assert await left_by(use) == []


@each_mode
@each_policy
@pytest.mark.parametrize("overflow", ["block", "error"])
async def test_a_full_stream_leaves_nothing(
    mode: DeliveryMode, policy: ErrorPolicy, overflow: Overflow
) -> None:
    """B6, S2, S3: nor do `BufferFull`, `StreamDeadlock`, and a filter that failed."""

    async def use(watch: Watch) -> None:
        bus = EventBus(delivery=mode, on_error=policy)
        async with (
            bus.stream("a", buffer=1, overflow=overflow),
            bus.stream("a", filter=_raising),
        ):
            for _ in range(3):
                with suppress(Exception):
                    await bus.publish("a", watch.mark())

    before = len(frames())
    assert await left_by(use) == []
    assert mode != "sequential" or len(frames()) == before
