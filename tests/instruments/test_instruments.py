"""What watches publishes and handlers: I1, I2 and I3."""

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, final

import anyio
import pytest
from anyio import CancelScope, create_task_group, fail_after, get_cancelled_exc_class
from anyio.lowlevel import checkpoint

from flexiflow import (
    Component,
    Engine,
    Event,
    EventBus,
    EventStream,
    HandlerCancelled,
    HandlerTimeout,
    PublishRefused,
    StateMachine,
    Subscription,
    Transition,
    events,
)
from flexiflow._bus import DeliveryMode
from tests.conftest import Backend
from tests.helpers import MODES, PATIENCE, follow, never, noting, settle

POLICIES = ("continue", "raise")
each_mode = pytest.mark.parametrize("mode", MODES)
each_policy = pytest.mark.parametrize("policy", POLICIES)
LAMP = StateMachine("off", [Transition("off", "on", "on"), Transition("on", "off", "off")])


class Span:
    """A context manager that notes when it is entered and exited, and with what."""

    def __init__(self, notes: list[Any], what: str, shown: list[Any]) -> None:
        self._notes = notes
        self._what = what
        self._shown = shown

    def __enter__(self) -> None:
        self._notes.append(f"+{self._what}")

    def __exit__(self, kind: object, exception: BaseException | None, traceback: object) -> bool:
        self._notes.append(f"-{self._what}")
        shows_all = exception is None or traceback is exception.__traceback__
        self._shown.append(exception if shows_all else traceback)
        # What would swallow it in a `with` statement.
        return True


class Publishes:
    """An instrument that notes the publishes.

    Attributes:
        notes: what was entered and exited, in order.
        shown: the exceptions that the publishes showed at their end.
        handled: those that the handlers showed.
    """

    def __init__(self, notes: list[Any] | None = None, name: str = "") -> None:
        self.notes: list[Any] = [] if notes is None else notes
        self.name = name
        self.shown: list[Any] = []
        self.handled: list[Any] = []

    def publishing(self, event: Event[Any], /) -> AbstractContextManager[object]:
        """Note a publish."""
        return Span(self.notes, f"{self.name}{event.name}", self.shown)


class Both(Publishes):
    """An instrument that notes publishes and handlers."""

    def handling(
        self, event: Event[Any], subscription: Subscription, /
    ) -> AbstractContextManager[object]:
        """Note a handler."""
        what = f"{self.name}{event.name}:{subscription.component_name}"
        return Span(self.notes, what, self.handled)


@final
class Watch:
    """An instrument made of functions."""

    def __init__(self, publishing: Any = None, handling: Any = None) -> None:
        self.publishing = publishing
        self.handling = handling


def reject(name: str, data: object) -> bool:
    """Let nothing through, as a filter."""
    return False


def ignore(event: object) -> None:
    """Give no context manager."""


def generate(event: object) -> Generator[None]:
    """Be what `contextmanager` was forgotten on."""
    yield


def no_event() -> None:
    """Take too few arguments."""


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Tell what was logged of instruments."""
    return [each.getMessage() for each in caplog.records if "instrument" in each.getMessage()]


@contextmanager
def failing_on(moment: str, failure: BaseException) -> Generator[None]:
    """Raise on entry, or on exit."""
    if moment == "enter":
        raise failure
    try:
        yield
    finally:
        if moment == "exit":
            raise failure


def failing(method: str, moment: str, failure: BaseException) -> Watch:
    """Make an instrument that fails in a method, or as its manager is entered or exited."""

    def watch(*arguments: object) -> AbstractContextManager[None]:
        if moment == "call":
            raise failure
        return failing_on(moment, failure)

    return Watch(**{method: watch})


MOMENTS = [
    (method, at) for method in ("publishing", "handling") for at in ("call", "enter", "exit")
]
each_moment = pytest.mark.parametrize(("method", "moment"), MOMENTS)


class TestAdding:
    """I1."""

    async def test_watches_from_the_next_publish_on(self) -> None:
        """I1: an instrument that was added sees the next publish, and none once it is removed."""
        bus, late = EventBus(), Both(name="late ")
        first = Both(late.notes)
        bus.add_instrument(first)
        await bus.publish("a")
        bus.add_instrument(late)
        await bus.publish("b")
        assert bus.remove_instrument(first)
        await bus.publish("c")
        assert late.notes == ["+a", "-a", "+b", "+late b", "-late b", "-b", "+late c", "-late c"]

    @each_mode
    async def test_a_publish_in_flight_keeps_its_own(self, mode: DeliveryMode) -> None:
        """I1: adding and removing within a publish changes nothing for that one."""
        bus, early, late = EventBus(delivery=mode), Both(name="early "), Both(name="late ")

        async def exchange(data: object) -> None:
            bus.add_instrument(late)
            bus.remove_instrument(early)
            await checkpoint()

        await bus.subscribe("a", "c", exchange)
        await bus.subscribe("a", "d", print, priority=5, filter=reject)
        await bus.subscribe("a", "d", noting([], ""), priority=5)
        bus.add_instrument(early)
        await bus.publish("a")
        expected = ["+early a", "+early a:c", "-early a:c", "+early a:d", "-early a:d", "-early a"]
        assert sorted(early.notes) == sorted(expected)
        assert late.notes == []

    async def test_those_given_to_the_bus_watch_from_its_first_publish_on(self) -> None:
        """I1: what `instruments` has is there from the beginning, the first one outermost."""
        notes: list[Any] = []
        bus = EventBus(instruments=(Publishes(notes, name) for name in ("x", "y")))
        await bus.publish("a")
        assert notes == ["+xa", "+ya", "-ya", "-xa"]

    async def test_adding_twice_is_adding_once(self) -> None:
        """I1: an instrument that is there stays where it is, and is called once."""
        notes: list[Any] = []
        x, y = Publishes(notes, "x"), Publishes(notes, "y")
        bus = EventBus(instruments=[x, y, x])
        bus.add_instrument(x)
        await bus.publish("a")
        assert notes == ["+xa", "+ya", "-ya", "-xa"]

    async def test_removing_says_whether_it_was_there(self) -> None:
        """I1: removing an instrument gives True once, and False if it is not there (any more)."""
        known = Publishes()
        bus = EventBus(instruments=[Publishes(), known])
        found = [bus.remove_instrument(each) for each in (Publishes(), known, known)]
        assert found == [False, True, False]

    @pytest.mark.parametrize(
        ("instrument", "message"),
        [
            (object(), "an instrument must have a method publishing.* has neither"),
            (None, "None has neither"),
            (Watch(publishing=3), "publishing must be callable with 1"),
            (Watch(handling="no"), "handling must be callable with 2"),
            (Watch(publishing=no_event), "publishing is called with 1"),
            (Watch(nullcontext, ignore), "handling is called with 2"),
            (Watch(publishing=generate), "is a generator function"),
            (Watch(publishing=checkpoint), "publishing is called with 1"),
        ],
        ids=str,
    )
    async def test_what_is_no_instrument_is_refused(self, instrument: Any, message: str) -> None:
        """I2: neither method, or one that can't be called so, is a TypeError; nothing changes."""
        seen = Publishes()
        bus = EventBus(instruments=[seen])
        with pytest.raises(TypeError, match=message):
            bus.add_instrument(instrument)
        with pytest.raises(TypeError, match=message):
            EventBus(instruments=[instrument])
        await bus.publish("a")
        assert seen.notes == ["+a", "-a"]
        assert not bus.remove_instrument(instrument)

    async def test_an_async_method_is_refused(self) -> None:
        """I2: a coroutine function gives no context manager, and is a TypeError."""

        async def publishing(event: object) -> None:
            raise AssertionError

        with pytest.raises(TypeError, match=r"must return a context manager, and .* coroutine"):
            EventBus(instruments=[Watch(publishing)])


class TestOrder:
    """I2: where and when."""

    @each_mode
    async def test_the_first_added_is_outermost(self, mode: DeliveryMode) -> None:
        """I2: publishes lie around handlers, and the first instrument around the second."""
        notes: list[Any] = []
        bus = EventBus(delivery=mode, instruments=[Both(notes, "x "), Both(notes, "y ")])
        await bus.subscribe("a", "c", noting(notes, "handler"))
        await bus.publish("a")
        assert notes == [
            *("+x a", "+y a", "+x a:c", "+y a:c", "handler"),
            *("-y a:c", "-x a:c", "-y a", "-x a"),
        ]

    @each_mode
    async def test_each_is_called_in_the_task_that_it_is_about(self, mode: DeliveryMode) -> None:
        """I2: `publishing` runs in the publisher's task, `handling` in that of the handler."""
        tasks: list[tuple[str, int]] = []

        def here(what: str) -> None:
            tasks.append((what, anyio.get_current_task().id))

        @contextmanager
        def watch(event: object, subscription: Subscription | None = None) -> Generator[None]:
            what = subscription.component_name if subscription else "publisher"
            here(what)
            yield
            here(what)

        async def handler(name: str, data: object) -> None:
            here(name)
            await checkpoint()
            here(name)

        bus = EventBus(delivery=mode, instruments=[Watch(watch, watch)])
        for name in "cde":
            await bus.subscribe("a", name, partial(handler, name))
        here("publisher")
        await bus.publish("a")
        assert len(tasks) == 3 + 3 * 4
        assert len(set(tasks)) == 4
        if mode == "sequential":
            assert len({task for _, task in tasks}) == 1

    @each_mode
    async def test_handlers_see_context_variables_that_do_not_leak(
        self, mode: DeliveryMode
    ) -> None:
        """I2, D2: what an instrument sets its handler sees, and nobody else."""
        variable: ContextVar[object] = ContextVar("variable", default=None)
        seen: dict[str, object] = {}
        leaked: list[object] = []

        @contextmanager
        def setting(event: object, subscription: Subscription | None = None) -> Generator[None]:
            leaked.append(variable.get())
            # Equal to all others, so that only identity tells them apart.
            token = variable.set([])
            yield
            variable.reset(token)

        async def waiting(name: str, data: object) -> None:
            mine = variable.get()
            await checkpoint()
            assert variable.get() is mine
            seen[name] = mine

        bus = EventBus(delivery=mode, on_error="raise")
        bus.add_instrument(Watch(handling=setting))
        names = [str(number) for number in range(20)]
        for name in names:
            await bus.subscribe("a", name, partial(waiting, name))
            await bus.subscribe("a", name, lambda data: None)
        await bus.publish("a")
        assert all(each is None for each in leaked)
        assert len({id(each) for each in seen.values()}) == len(names)
        assert variable.get() is None

    @each_mode
    async def test_what_publishing_sets_all_handlers_see(self, mode: DeliveryMode) -> None:
        """I2: a context variable set around a publish is the same object in each handler."""
        variable: ContextVar[object] = ContextVar("variable", default=None)
        mark, seen = object(), list[object]()

        @contextmanager
        def setting(event: object) -> Generator[None]:
            token = variable.set(mark)
            yield
            variable.reset(token)

        bus = EventBus(delivery=mode, instruments=[Watch(setting)])
        for _ in range(3):
            await bus.subscribe("a", "c", lambda data: seen.append(variable.get()))
        await bus.publish("a")
        assert [each is mark for each in seen] == [True] * 3
        assert variable.get() is None

    async def test_a_refused_or_unsubscribed_handler_is_not_watched(self) -> None:
        """I2: `handling` is around a handler that starts, and around nothing else."""
        instrument = Both()
        bus = EventBus(instruments=[instrument])
        await bus.subscribe("a", "c", never, filter=reject)
        once = await bus.subscribe("a", "d", noting([], ""), once=True)
        await bus.publish("a")
        await bus.publish("a")
        assert instrument.notes == ["+a", "+a:d", "-a:d", "-a", "+a", "-a"]
        assert not once.active

    async def test_what_is_unsubscribed_by_an_instrument_does_not_start(self) -> None:
        """B5: a handler that an instrument unsubscribes as it is to start never starts."""
        bus = EventBus()

        def unsubscribe(event: object, subscription: Subscription) -> AbstractContextManager[None]:
            bus.unsubscribe(subscription)
            return nullcontext()

        bus.add_instrument(Watch(handling=unsubscribe))
        await bus.subscribe("a", "c", never)
        notes = await follow(bus, "once", once=True)
        await bus.publish("a")
        assert notes == ["once"]

    async def test_what_a_handler_unsubscribes_does_not_start(self) -> None:
        """B5: under a lone instrument, too, a handler unsubscribed meanwhile never starts."""
        bus = EventBus(instruments=[Publishes()])

        async def unsubscribe(data: object) -> None:
            bus.unsubscribe_all("later")

        async def later(data: object) -> None:
            never(data)

        await bus.subscribe("a", "c", unsubscribe)
        await bus.subscribe("a", "later", later)
        assert await bus.publish("a") == ()

    @each_policy
    async def test_under_a_lone_instrument_handlers_after_a_failure_go_on(
        self, policy: Any
    ) -> None:
        """E1, E2: under a lone instrument, too, the policy says whether the others run."""
        failure, seen = ValueError("no"), list[object]()
        bus = EventBus(on_error=policy, instruments=[Publishes()])

        async def fail(data: object) -> None:
            raise failure

        async def note(data: object) -> None:
            seen.append(data)

        for handler in (note, fail, note):
            await bus.subscribe("a", "c", handler)
        left: list[BaseException] = []
        try:
            left += [failed.exception for failed in await bus.publish("a", 1)]
        except ValueError as exc:
            left.append(exc)
        assert (left, seen) == ([failure], [1] if policy == "raise" else [1, 1])


class TestShown:
    """I2: what an instrument is shown."""

    @each_mode
    @each_policy
    async def test_the_failure_itself_is_shown_and_not_swallowed(
        self, mode: DeliveryMode, policy: Any
    ) -> None:
        """I2: the handler's exception is shown as it is, and goes where it goes without."""
        failure, instrument = ValueError("no"), Both()

        async def fail(data: object) -> None:
            await checkpoint()
            raise failure

        bus = EventBus(delivery=mode, on_error=policy, instruments=[instrument])
        await bus.subscribe("a", "c", fail)
        left: Any = None
        try:
            failures = await bus.publish("a")
            assert [each.exception for each in failures] == [failure]
        except ValueError as exc:
            left = exc
        assert instrument.handled == [failure]
        # The publish that reports the failure ends first.
        assert instrument.shown[-1] is left
        assert left is (failure if policy == "raise" else None)

    @each_mode
    async def test_a_timeout_is_shown_as_one(self, mode: DeliveryMode) -> None:
        """I2: what outlasts its time limit shows `HandlerTimeout`, the one that is reported."""
        instrument = Both()
        bus = EventBus(delivery=mode, instruments=[instrument])

        async def dawdle(data: object) -> None:
            await anyio.sleep_forever()

        await bus.subscribe("a", "c", dawdle, time_limit=1e-9)
        with fail_after(PATIENCE):
            (failed,) = await bus.publish("a")
        assert instrument.handled == [failed.exception]
        assert isinstance(failed.exception, HandlerTimeout)

    @each_mode
    @each_policy
    async def test_a_stray_cancellation_is_shown_as_a_failure(
        self, mode: DeliveryMode, policy: Any
    ) -> None:
        """I2: a cancellation that nobody asked for shows `HandlerCancelled`, as in E6."""
        instrument = Both()
        bus = EventBus(delivery=mode, on_error=policy, instruments=[instrument])
        kept: list[BaseException] = []
        with CancelScope() as scope:
            scope.cancel()
            try:
                await checkpoint()
            except get_cancelled_exc_class() as exc:
                kept.append(exc)
                raise

        def stray(data: object) -> None:
            raise kept[0]

        await bus.subscribe("a", "c", stray)
        if policy == "raise":
            with pytest.raises(HandlerCancelled) as caught:
                await bus.publish("a")
            reported: BaseException = caught.value
        else:
            (failed,) = await bus.publish("a")
            reported = failed.exception
        assert instrument.handled == [reported]
        assert isinstance(reported, HandlerCancelled)
        assert reported.__cause__ is kept[0]

    @each_mode
    async def test_a_cancellation_is_shown_as_such(self, mode: DeliveryMode) -> None:
        """I2: a cancellation shows in the handler and in the publish."""
        instrument = Both()
        bus = EventBus(delivery=mode, instruments=[instrument])

        async def wait(data: object) -> None:
            await anyio.sleep_forever()

        await bus.subscribe("a", "c", wait)
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(bus.publish, "a")
                await settle()
                group.cancel_scope.cancel()
        shown = [*instrument.handled, *instrument.shown]
        assert [isinstance(each, get_cancelled_exc_class()) for each in shown] == [True, True]

    @each_mode
    async def test_a_group_is_shown_without_its_cancellation(self, mode: DeliveryMode) -> None:
        """I2: of a group that holds a cancellation the failure is shown, as in E8."""
        instrument = Both()
        bus = EventBus(delivery=mode, instruments=[instrument])

        async def mix(data: object) -> None:
            try:
                await anyio.sleep_forever()
            except get_cancelled_exc_class() as exc:
                raise BaseExceptionGroup("both", [exc, ValueError("no")]) from None

        await bus.subscribe("a", "c", mix)
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(bus.publish, "a")
                await settle()
                group.cancel_scope.cancel()
        (shown,) = instrument.handled
        assert repr(shown) == "ExceptionGroup('both', [ValueError('no')])"
        assert isinstance(instrument.shown[0], get_cancelled_exc_class())

    @each_mode
    async def test_a_group_with_a_stray_cancellation_shows_the_rest(
        self, mode: DeliveryMode, anyio_backend: Backend
    ) -> None:
        """I2: what is left of a group without a stray cancellation is shown, and is the failure."""
        if anyio_backend[0] != "asyncio":
            pytest.skip("only asyncio lets anyone make a cancellation")
        instrument = Both()
        bus = EventBus(delivery=mode, instruments=[instrument])

        def mix(data: object) -> None:
            raise BaseExceptionGroup("both", [asyncio.CancelledError(), ValueError("no")])

        await bus.subscribe("a", "c", mix)
        (failed,) = await bus.publish("a")
        assert instrument.handled == [failed.exception]
        assert isinstance(failed.exception, ExceptionGroup)

    async def test_a_handler_that_fails_within_a_publish_that_is_closed(self) -> None:
        """I2: a publish that is thrown away shows GeneratorExit, and is over."""
        instrument = Both()
        bus = EventBus(instruments=[instrument])

        async def wait(data: object) -> None:
            await checkpoint()

        await bus.subscribe("a", "c", wait)
        publish = bus.publish("a")
        publish.send(None)
        publish.close()
        shown = [*instrument.handled, *instrument.shown]
        assert [type(each) for each in shown] == [GeneratorExit, GeneratorExit]

    @each_policy
    @pytest.mark.parametrize("alone", [True, False])
    async def test_one_that_raises_what_it_is_shown_is_no_failure(
        self, policy: Any, *, alone: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """I2: to raise again what is shown is neither a failure nor of any effect."""
        failure = ValueError("no")
        bus = EventBus(on_error=policy, instruments=[Watch(_Again)])
        if not alone:
            bus.add_instrument(Watch(None, _Again))

        async def fail(data: object) -> None:
            raise failure

        async def after(data: object) -> None:
            await checkpoint()

        await bus.subscribe("a", "c", fail)
        await bus.subscribe("a", "c", after)
        left: list[Exception] = []
        try:
            left += [failed.exception for failed in await bus.publish("a")]
        except ValueError as exc:
            left.append(exc)
        assert left == [failure]
        assert errors(caplog) == []

    @each_mode
    @pytest.mark.parametrize("watched", [True, False])
    async def test_a_handler_is_watched_when_its_turn_has_come(
        self, mode: DeliveryMode, *, watched: bool
    ) -> None:
        """I2: the wait for a handler's limit is no part of its handling."""
        notes: list[Any] = []
        bus = EventBus(delivery=mode, instruments=[Both(notes)] * watched)

        async def handler(data: object) -> None:
            await settle()
            notes.append("handled")

        await bus.subscribe("a", "c", handler, limit=1, time_limit=PATIENCE)
        async with create_task_group() as group:
            group.start_soon(bus.publish, "a")
            group.start_soon(bus.publish, "a")
        turn = ["+a:c", "handled", "-a:c"] if watched else ["handled"]
        assert [note for note in notes if note not in {"+a", "-a"}] == turn * 2


class _Again:
    """A context manager that raises what it is shown."""

    def __init__(self, *_: object) -> None:
        """Take what an instrument's methods take."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, exception: BaseException | None, traceback: object) -> None:
        if exception is not None:
            raise exception


class TestBuiltIn:
    """I2: built-in events are watched as well."""

    async def test_built_in_events_are_watched_though_nobody_hears_them(self) -> None:
        """I2: the events of the engine and of the bus are watched like other publishes."""
        instrument = Both()
        engine = Engine(bus=EventBus(instruments=[instrument]))
        await engine.register(Component("lamp", machine=LAMP))
        await engine.send("lamp", {"type": "on"})
        names = (events.COMPONENT_REGISTERED, events.MESSAGE_RECEIVED, events.STATE_CHANGED)
        assert instrument.notes == [f"{sign}{name}" for name in names for sign in "+-"]

    @each_mode
    async def test_a_reported_failure_is_watched(self, mode: DeliveryMode) -> None:
        """I2: so is `event.handler.failed`, within the publish whose handler failed."""
        instrument = Publishes()
        bus = EventBus(delivery=mode, instruments=[instrument])
        await bus.subscribe("a", "c", lambda data: 1 / 0)
        notes = await follow(bus, "x", event=events.HANDLER_FAILED)
        await bus.publish("a")
        failed = events.HANDLER_FAILED
        assert instrument.notes == ["+a", f"+{failed}", f"-{failed}", "-a"]
        assert notes == ["x"]

    async def test_streams_and_expectations_are_watched(self) -> None:
        """I2: what a stream or a waiter does with an event is watched as a handler is."""
        instrument = Both()
        bus = EventBus(instruments=[instrument])
        async with bus.stream("a") as stream, bus.expect("a") as expected:
            await bus.publish("a", 1)
            assert (await expected).data == 1
            assert (await _first(stream)).data == 1
        assert len(instrument.notes) == 6

    @each_mode
    @each_policy
    async def test_every_way_to_publish_is_watched(self, mode: DeliveryMode, policy: Any) -> None:
        """I2: in every mode, under every policy, whatever the bus's own are."""
        for own in MODES:
            instrument = Both()
            bus = EventBus(delivery=own, instruments=[instrument])
            notes = await follow(bus, "x", "y")
            await bus.publish("a", delivery=mode, on_error=policy)
            assert notes == ["x", "y"]
            assert sorted(instrument.notes) == ["+a", "+a:c", "+a:c", "-a", "-a:c", "-a:c"]


async def _first(stream: EventStream[Any]) -> Event[Any]:
    async for event in stream:
        return event
    raise AssertionError(stream)


class TestFailing:
    """I3: an instrument that fails."""

    @pytest.mark.unmeasured
    @each_mode
    @each_policy
    @each_moment
    async def test_it_is_logged_and_taken_out(
        self,
        mode: DeliveryMode,
        policy: Any,
        method: str,
        moment: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """I3: one that raises is logged once and removed; the others and the handlers go on."""
        bad = failing(method, moment, OSError("bad"))
        notes: list[Any] = []
        outer, inner = Both(notes, "outer "), Both(notes, "inner ")
        bus = EventBus(delivery=mode, on_error=policy, instruments=[outer, bad, inner])
        handled = await follow(bus, "x", "y", "z")
        assert await bus.publish("a") == ()
        assert await bus.publish("a") == ()
        assert handled == ["x", "y", "z"] * 2
        assert errors(caplog) == [f"instrument Watch failed in {method} and was taken out"]
        assert not bus.remove_instrument(bad)
        assert len(notes) == 2 * 2 * (1 + 3) * 2

    @each_moment
    async def test_a_failing_handler_is_reported_all_the_same(
        self, method: str, moment: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """I3: what a handler raises is reported or raised, whatever its instrument raises."""
        for policy in POLICIES:
            failure = LookupError("handler")
            bad = failing(method, moment, OSError("bad"))
            bus = EventBus(on_error=policy, instruments=[bad])  # type: ignore[arg-type]

            async def fail(failure: Exception, data: object) -> None:
                raise failure

            await bus.subscribe("a", "c", partial(fail, failure))
            if policy == "raise":
                with pytest.raises(LookupError) as caught:
                    await bus.publish("a")
                assert caught.value is failure
            else:
                (failed,) = await bus.publish("a")
                assert failed.exception is failure
            assert not bus.remove_instrument(bad)
        assert errors(caplog) == [f"instrument Watch failed in {method} and was taken out"] * 2

    @pytest.mark.parametrize("moment", ["call", "enter", "exit"])
    async def test_a_lone_one_that_fails_is_taken_out(
        self, moment: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """I3: so it is with a single instrument around handlers that need only be called."""
        bus = EventBus(instruments=[failing("publishing", moment, OSError("bad"))])
        seen: list[object] = []

        async def handler(data: object) -> None:
            seen.append(data)

        await bus.subscribe("a", "c", handler)
        await bus.publish("a", 1)
        await bus.publish("a", 2)
        assert seen == [1, 2]
        assert len(errors(caplog)) == 1

    async def test_a_lone_one_that_fails_as_a_failure_leaves(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """I3: so it is where the handler's failure leaves publish, which it still does."""
        bad = failing("publishing", "exit", OSError("bad"))
        bus = EventBus(on_error="raise", instruments=[bad])

        async def fail(data: object) -> None:
            raise LookupError

        await bus.subscribe("a", "c", fail)
        with pytest.raises(LookupError):
            await bus.publish("a")
        assert errors(caplog) == ["instrument Watch failed in publishing and was taken out"]

    @each_mode
    async def test_overlapping_publishes_log_it_once(
        self, mode: DeliveryMode, caplog: pytest.LogCaptureFixture
    ) -> None:
        """I3: a publish that runs on when another took out an instrument calls it no more."""
        exits: list[object] = []

        @contextmanager
        def watch(event: Event[Any], subscription: object = None) -> Generator[None]:
            if event.data == "bad":
                raise OSError(event.data)
            yield
            exits.append(event.data)
            raise OSError(event.data)

        bad = Watch(watch, watch)
        bus = EventBus(delivery=mode, instruments=[bad, Both()])
        late = await follow(bus, "late", priority=5)

        async def nested(data: object) -> None:
            if data != "bad":
                await bus.publish("a", "bad")

        await bus.subscribe("a", "n", nested)
        await bus.publish("a", "outer")
        assert errors(caplog) == ["instrument Watch failed in publishing and was taken out"]
        assert exits.count("outer") >= 1
        assert late == ["late", "late"]

    async def test_a_yield_between_leaves_it_out(self, caplog: pytest.LogCaptureFixture) -> None:
        """I3: a publish that yielded while its instrument was taken out does without it."""
        bus = EventBus(yield_every=1)
        bad = failing("publishing", "call", OSError("bad"))
        bus.add_instrument(bad)

        async def handler(data: object) -> None:
            await checkpoint()

        await bus.subscribe("a", "c", handler)
        async with create_task_group() as group:
            for _ in range(3):
                group.start_soon(bus.publish, "a")
        assert len(errors(caplog)) == 1

    async def test_a_stray_cancellation_is_a_failure_of_it(
        self, anyio_backend: Backend, caplog: pytest.LogCaptureFixture
    ) -> None:
        """I3: a cancellation out of an instrument, whose code is sync, is a failure."""
        if anyio_backend[0] != "asyncio":
            pytest.skip("only asyncio lets anyone make a cancellation")
        bus = EventBus()
        for method, moment in MOMENTS:
            bus.add_instrument(failing(method, moment, asyncio.CancelledError()))
        notes = await follow(bus, "x")
        assert await bus.publish("a") == ()
        assert notes == ["x"]
        assert len(errors(caplog)) == len(MOMENTS)

    async def test_what_is_no_context_manager_is_a_failure(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """I3: an instrument whose method gives something else is logged and taken out."""
        bus = EventBus(instruments=[Watch(ignore)])
        notes = await follow(bus, "x")
        await bus.publish("a")
        assert (notes, len(errors(caplog))) == (["x"], 1)

    @each_mode
    @each_moment
    async def test_an_interrupt_leaves_when_the_others_were_exited(
        self, mode: DeliveryMode, method: str, moment: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """I3: KeyboardInterrupt out of an instrument leaves publish, as it would anywhere."""
        notes: list[Any] = []
        outer, inner = Both(notes, "outer "), Both(notes, "inner ")
        interrupt = KeyboardInterrupt()
        bad, outermost = failing(method, moment, interrupt), failing(method, "exit", OSError())
        bus = EventBus(delivery=mode, instruments=[outermost, outer, bad, inner])
        await follow(bus, "x")
        with pytest.raises(KeyboardInterrupt) as caught:
            await bus.publish("a")
        assert caught.value is interrupt
        entered = sorted(each[1:] for each in notes if each[0] == "+")
        assert entered == sorted(each[1:] for each in notes if each[0] == "-")
        assert errors(caplog) == [f"instrument Watch failed in {method} and was taken out"]

    @pytest.mark.parametrize("moment", ["call", "enter", "exit"])
    async def test_an_interrupt_out_of_a_lone_one_leaves(self, moment: str) -> None:
        """I3: so it does with a single instrument around handlers that need only be called."""
        interrupts = [KeyboardInterrupt("first"), KeyboardInterrupt("second")]
        bus = EventBus()

        async def handler(data: object) -> None:
            await checkpoint()

        await bus.subscribe("a", "c", handler)
        bus.add_instrument(failing("publishing", moment, interrupts[0]))
        with pytest.raises(KeyboardInterrupt) as caught:
            await bus.publish("a")
        assert caught.value is interrupts[0]

    async def test_of_several_interrupts_the_first_leaves(self) -> None:
        """I3: where several instruments are interrupted on exit, the first of them is raised."""
        first, second = KeyboardInterrupt("first"), KeyboardInterrupt("second")
        bus = EventBus()
        bus.add_instrument(failing("publishing", "exit", second))
        bus.add_instrument(failing("publishing", "exit", first))
        with pytest.raises(KeyboardInterrupt) as caught:
            await bus.publish("a")
        assert caught.value is first


class TestRefusing:
    """I3: an instrument that refuses a publish."""

    @each_mode
    @each_policy
    @pytest.mark.parametrize("moment", ["call", "enter"])
    async def test_a_refusal_leaves_before_any_handler_starts(
        self, mode: DeliveryMode, policy: Any, moment: str
    ) -> None:
        """I3: `PublishRefused` leaves publish, no handler has started, and the refuser stays."""
        refusal, notes = PublishRefused("no"), list[Any]()
        outer, inner = Both(notes, "outer "), Both(notes, "inner ")
        refuser = failing("publishing", moment, refusal)
        bus = EventBus(delivery=mode, on_error=policy, instruments=[outer, refuser, inner])
        await bus.subscribe("a", "c", never, once=True)
        with pytest.raises(PublishRefused) as caught:
            await bus.publish("a")
        assert caught.value is refusal
        assert outer.shown == [refusal]
        assert notes == ["+outer a", "-outer a"]
        assert bus.remove_instrument(refuser)
        assert bus.unsubscribe_all("c") == 1

    async def test_a_lone_refusal_leaves_before_any_handler_starts(self) -> None:
        """I3: so it does with a single instrument around handlers that need only be called."""
        refuser = failing("publishing", "call", PublishRefused("no"))
        bus = EventBus(instruments=[refuser])

        async def handler(data: object) -> None:
            never(data)

        await bus.subscribe("a", "c", handler)
        with pytest.raises(PublishRefused):
            await bus.publish("a")
        assert bus.remove_instrument(refuser)

    async def test_one_within_a_handler_is_a_failure_of_that_handler(self) -> None:
        """I3: a refusal raises where the event is published, a handler's own publish included."""

        def refuse(event: Event[Any]) -> AbstractContextManager[None]:
            if event.name == "b":
                raise PublishRefused("no")
            return nullcontext()

        bus = EventBus(instruments=[Watch(refuse)])
        await bus.subscribe("a", "c", lambda data: bus.publish("b"))
        (failed,) = await bus.publish("a")
        assert isinstance(failed.exception, PublishRefused)

    @pytest.mark.parametrize(
        ("method", "moment"), [m for m in MOMENTS if m[1] == "exit" or m[0] == "handling"]
    )
    async def test_one_that_comes_too_late_is_a_failure_of_the_instrument(
        self, method: str, moment: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """I3: raised elsewhere than in `publishing`, it is like any other exception."""
        bus = EventBus(instruments=[failing(method, moment, PublishRefused("late"))])
        notes = await follow(bus, "x")
        assert await bus.publish("a") == ()
        assert notes == ["x"]
        assert len(errors(caplog)) == 1

    async def test_what_has_happened_can_not_be_refused(self) -> None:
        """I3: a refusal of what tells of something that has happened changes nothing."""
        refuser = Watch(_refusing(lambda name: name != events.MESSAGE_RECEIVED))
        inner = Publishes()
        bus = EventBus(instruments=[refuser, inner])
        engine = Engine(bus=bus)
        registered = await follow(bus, "registered", event=events.COMPONENT_REGISTERED)
        changed = await follow(bus, "changed", event=events.STATE_CHANGED)
        lamp = Component("lamp", machine=LAMP)
        await engine.register(lamp)
        await engine.send("lamp", {"type": "on"})
        assert (lamp.state, registered, changed) == ("on", ["registered"], ["changed"])
        assert inner.notes[:2] == [f"{sign}{events.COMPONENT_REGISTERED}" for sign in "+-"]
        assert bus.remove_instrument(refuser)

    @each_mode
    async def test_a_failure_is_told_though_it_is_refused(self, mode: DeliveryMode) -> None:
        """I3: `event.handler.failed` is never refused."""
        bus = EventBus(delivery=mode)
        bus.add_instrument(Watch(_refusing(lambda name: name == events.HANDLER_FAILED)))
        told = await follow(bus, "told", event=events.HANDLER_FAILED)
        await bus.subscribe("a", "c", lambda data: 1 / 0)
        assert len(await bus.publish("a")) == 1
        assert told == ["told"]

    async def test_a_message_can_be_refused(self) -> None:
        """I3: a refused `component.message.received` leaves send; the component is as before."""
        bus = EventBus()
        engine, lamp = Engine(bus=bus), Component("lamp", machine=LAMP)
        await engine.register(lamp)
        refuser = Watch(_refusing(lambda name: name == events.MESSAGE_RECEIVED))
        bus.add_instrument(refuser)
        with pytest.raises(PublishRefused):
            await engine.send("lamp", {"type": "on"})
        assert lamp.state == "off"
        bus.remove_instrument(refuser)
        await engine.send("lamp", {"type": "on"})
        assert lamp.state == "on"


def _refusing(
    wanted: Callable[[str], bool],
) -> Callable[[Event[Any]], AbstractContextManager[None]]:
    def publishing(event: Event[Any]) -> AbstractContextManager[None]:
        if wanted(event.name):
            raise PublishRefused(event.name)
        return nullcontext()

    return publishing


async def test_an_error_of_an_instrument_has_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """I3: the log record of an instrument's failure holds the exception."""
    failure = OSError("bad")
    bus = EventBus(instruments=[failing("publishing", "call", failure)])
    await bus.publish("a")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("flexiflow", logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[1] is failure


class BreaksDown:
    """An instrument that counts its calls, and fails in each."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *arguments: object) -> AbstractContextManager[None]:
        self.calls += 1
        raise OSError


@each_mode
@pytest.mark.parametrize("method", ["publishing", "handling"])
async def test_one_that_has_failed_is_called_no_more(mode: DeliveryMode, method: str) -> None:
    """I3: Not for the other handlers of the same publish, nor for a publish that began before."""
    bus = EventBus(delivery=mode, yield_every=2)
    breaks_down = BreaksDown()
    instrument: Any = type("Instrument", (), {method: staticmethod(breaks_down)})()
    bus.add_instrument(instrument)
    await follow(bus, "x", "y", "z")
    await bus.publish("b")
    calls = breaks_down.calls
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            # The first of them yields, having looked up who watches.
            for _ in range(3):
                group.start_soon(bus.publish, "a")
    assert (calls, breaks_down.calls) == (int(method == "publishing"), 1)


class Interrupting(AbstractContextManager[None]):
    """An instrument, and its own context manager, which interrupts the program on each exit."""

    def __init__(self) -> None:
        self.exits = 0

    def publishing(self, event: Event[Any], /) -> AbstractContextManager[None]:
        """Watch a publish."""
        return self

    def __exit__(self, *_: object) -> None:
        self.exits += 1
        raise SystemExit


@pytest.mark.parametrize("others", [0, 1])
async def test_each_is_exited_once(others: int) -> None:
    """I3: One that interrupts while a failure leaves is exited once, and stays."""
    bus, interrupting = EventBus(on_error="raise"), Interrupting()
    bus.add_instrument(interrupting)
    for _ in range(others):
        bus.add_instrument(Publishes([]))

    async def fail(data: object) -> None:
        raise OSError

    await bus.subscribe("a", "c", fail)
    with pytest.raises(SystemExit):
        await bus.publish("a")
    assert (interrupting.exits, bus.remove_instrument(interrupting)) == (1, True)
