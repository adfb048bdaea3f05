"""What a bridge leaves behind that did not end in peace: its place on the bus: X10."""

import gc
import logging
import pickle
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, final
from weakref import ref

import pytest
from anyio import (
    CancelScope,
    Event,
    create_task_group,
    current_time,
    fail_after,
    get_cancelled_exc_class,
    sleep,
    sleep_forever,
)

from flexiflow import EventBus
from flexiflow.extras.durable import (
    Bridge,
    BridgeClosed,
    BridgeStatus,
    Connection,
    ConsumerInUse,
    MemoryTransport,
    TransportError,
    TransportUnavailable,
    TransportUnusable,
    open_bridge,
)
from flexiflow.extras.durable._bridge import worker
from flexiflow.extras.durable._bridge.leaving import without_frames
from flexiflow.testing import cancel_everywhere
from tests.conftest import Backend
from tests.durable.bridge.helpers import (
    GROUP,
    NAME,
    Faulty,
    Handler,
    consuming,
    meanwhile,
    play,
    put,
    until,
)
from tests.durable.bridge.test_leaving import ENDS
from tests.durable.bridge.test_outgoing import payloads
from tests.helpers import MODES, PATIENCE, settle
from tests.hosting import Victim, styles

pytestmark = pytest.mark.same_everywhere

OUT = "payment.made"

Cause = type[BaseException] | BaseException
End = Callable[["App"], Awaitable[Cause]]


def places(bus: EventBus) -> int:
    """Count the subscriptions of bridges."""
    return sum(each.component_name == "<bridge>" for each in bus.subscriptions())


async def refused(bus: EventBus, name: str = OUT, data: object = "lost") -> BridgeClosed:
    """Publish an event that is not to be stored, and give what that fails with."""
    (failure,) = await bus.publish(name, data, on_error="continue")
    assert isinstance(failure.exception, BridgeClosed)
    return failure.exception


@final
class App:
    """A bus and a transport, and a bridge between them.

    Attributes:
        bus: the bus.
        transport: where its outgoing events are stored.
        faulty: the same one, which fails on demand.
        bridge: the one that was opened last.
    """

    bridge: Bridge

    def __init__(self, **options: Any) -> None:
        self.bus = EventBus(**options)
        self.transport = MemoryTransport()
        self.faulty = Faulty(self.transport)

    def open(self, transport: Any = None, **options: Any) -> AbstractAsyncContextManager[Bridge]:
        """Open a bridge, perhaps to another transport."""
        given: dict[str, Any] = {
            "outgoing": [OUT, "refund.*"],
            "incoming": [NAME],
            "group": GROUP,
            "lease": 0.3,
        }
        opening = open_bridge(self.bus, transport or self.faulty, **(given | options))
        return _Opening(self, opening)

    async def end(self, end: BaseException | None = None) -> Bridge:
        """Open it, and have it fail."""
        await raising(end or ZeroDivisionError("the end"))(self)
        return self.bridge


@final
class _Opening(AbstractAsyncContextManager[Bridge]):
    """Notes the bridge, and changes nothing of what leaves its block."""

    def __init__(self, app: App, opening: AbstractAsyncContextManager[Bridge]) -> None:
        self._app = app
        self._opening = opening

    async def __aenter__(self) -> Bridge:
        self._app.bridge = await self._opening.__aenter__()
        return self._app.bridge

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._opening.__aexit__(exc_type, exc, traceback)


def raising(end: BaseException) -> End:
    """Make an end by an exception of the block."""

    async def run(app: App) -> Cause:
        with pytest.raises(type(end)) as caught:
            async with app.open():
                raise end
        assert caught.value is end
        return end

    return run


async def by_a_scope(app: App) -> Cause:
    """Be cancelled from outside."""
    with CancelScope() as scope:
        async with app.open():
            scope.cancel()
            await sleep_forever()
    return get_cancelled_exc_class()


async def by_a_deadline(app: App) -> Cause:
    """Be cancelled by a deadline."""
    with CancelScope() as scope:
        async with app.open():
            scope.deadline = current_time() + 0.001
            await sleep_forever()
    return get_cancelled_exc_class()


async def by_its_worker(app: App) -> Cause:
    """Have a transport that has become unusable."""
    problem = TransportUnusable("nowhere", "a text")
    with pytest.raises(TransportUnusable) as caught:
        async with app.open():
            app.faulty.fail("join", problem)
            await sleep_forever()
    assert caught.value is problem
    return problem


async def by_a_handler(app: App) -> Cause:
    """Have a handler that raises an exit."""
    await put(app.transport, "fatal")
    with pytest.raises(KeyboardInterrupt) as caught:
        async with app.open():
            await sleep_forever()
    return caught.value


async def while_draining(app: App) -> Cause:
    """Be cancelled when the block has come to its end."""
    with CancelScope() as scope:
        async with app.open():
            scope.cancel()
    return get_cancelled_exc_class()


EVERY_END: dict[str, End] = {
    **{name: raising(end) for name, end in ENDS.items()},
    "scope": by_a_scope,
    "deadline": by_a_deadline,
    "worker": by_its_worker,
    "handler": by_a_handler,
    "draining": while_draining,
}


async def fatal(data: object) -> None:
    """End the program, if told so."""
    if data == "fatal":
        raise KeyboardInterrupt


class TestRefusing:
    """What publishers see of a bridge that has failed."""

    @pytest.mark.parametrize("end", EVERY_END.values(), ids=list(EVERY_END))
    async def test_each_publish_fails_until_it_is_open_again(self, end: End) -> None:
        """X10: After any end of the bridge, and under both policies; nothing is lost in silence."""
        app = App()
        await app.bus.subscribe(NAME, "c", fatal)
        with fail_after(PATIENCE):
            cause = await end(app)
        bridge = app.bridge
        assert bridge.status.state == "failed"
        for name in (OUT, "refund.made", OUT):
            closed = await refused(app.bus, name)
            assert closed.__cause__ is bridge.status.cause
            with pytest.raises(BridgeClosed) as caught:
                await app.bus.publish(name, "lost", on_error="raise")
            assert caught.value.__cause__ is bridge.status.cause
        if isinstance(cause, type):
            assert isinstance(bridge.status.cause, cause)
        else:
            assert bridge.status.cause is cause
        assert "lost" not in payloads(app.transport)
        async with app.open(consumer="again"):
            assert await app.bus.publish(OUT, "stored") == ()
        assert payloads(app.transport)[-1] == "stored"

    async def test_a_native_cancellation_is_an_end_like_others(
        self, anyio_backend: Backend
    ) -> None:
        """X10: Whether or not a scope is cancelled."""
        if "native" not in styles(anyio_backend):
            pytest.skip("only asyncio has a cancellation of its own")
        app, victim = App(), Victim("native")

        async def host() -> None:
            async with app.open():
                await sleep_forever()

        async with create_task_group() as group:
            group.start_soon(victim.run, host)
            await until(lambda: places(app.bus))
            victim.cancel()
        assert isinstance((await refused(app.bus)).__cause__, get_cancelled_exc_class())

    async def test_a_native_cancellation_through_the_shield_is_one(
        self, anyio_backend: Backend
    ) -> None:
        """X10: Cancelled twice, while events are still being stored."""
        if "native" not in styles(anyio_backend):
            pytest.skip("only asyncio cancels a task through a shield")
        app, victim, told = App(), Victim("native"), list[BridgeClosed]()
        hold = app.faulty.hold("store")

        async def host() -> None:
            async with app.open():
                await sleep_forever()

        async def publish() -> None:
            told.append(await refused(app.bus))

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(victim.run, host)
                await until(lambda: places(app.bus))
                group.start_soon(publish)
                await hold.reached.wait()
                victim.cancel()
                await settle()
                victim.cancel()
        assert isinstance(told[0].__cause__, get_cancelled_exc_class())
        await refused(app.bus)

    @pytest.mark.parametrize("mode", MODES)
    async def test_other_handlers_are_called_all_the_same(self, mode: Any) -> None:
        """X10: It is the failure of one subscription, in each mode."""
        app, handler = App(delivery=mode), Handler()
        await app.bus.subscribe(OUT, "c", handler, priority=1)
        await app.end()
        await refused(app.bus, data=1)
        assert handler.done == [1]

    async def test_what_is_not_outgoing_is_published(self) -> None:
        """X10: No other event is touched by it."""
        app = App()
        await app.end()
        assert await app.bus.publish("payment.failed", 1) == ()

    async def test_a_payload_that_could_not_be_written_is_not_looked_at(self) -> None:
        """X10: Each publish fails by the bridge's end."""
        app = App()
        await app.end()
        await refused(app.bus, data=object())

    async def test_the_message_says_what_would_be_right(self) -> None:
        """X10: Which transport, what ended the bridge, and how to go on; also after pickling."""
        app = App()
        await app.end()
        closed = await refused(app.bus)
        assert isinstance(closed, TransportError)
        for shown in (closed, pickle.loads(pickle.dumps(closed))):  # noqa: S301  our own
            assert str(shown) == (
                "memory is not available: its bridge was left by ZeroDivisionError; open one of "
                "the same bus, transport and outgoing events, or call forget() of the one that "
                "was left"
            )

    @pytest.mark.parametrize("is_own", [True, False])
    def test_who_waits_is_told_the_cause(self, backend: str, *, is_own: bool) -> None:
        """X10: A publish that the bridge could not store any more fails by what ended it."""
        problem = TransportUnusable("nowhere", "a text") if is_own else ZeroDivisionError("bare")

        async def scenario() -> None:
            app, told = App(), list[BridgeClosed]()

            async def publish() -> None:
                told.append(await refused(app.bus))

            async def fail() -> None:
                async with app.open(store_timeout=100):
                    group.start_soon(publish)
                    await until(lambda: app.faulty.batches)
                    if not is_own:
                        raise problem
                    app.faulty.fail("join", problem)
                    await sleep_forever()

            async with create_task_group() as group:
                with app.faulty.away("store"), pytest.raises(type(problem)):
                    await fail()
            assert told[0].__cause__ is problem
            assert told[0].reason == "its bridge was left"

        play(scenario, backend, schedules=3)

    async def test_what_is_handed_on_is_not_refused(self) -> None:
        """X8, X10: It would not have been stored; what its handlers publish would."""
        app, handler, told = App(), Handler(), list[BridgeClosed]()

        async def answer(data: object) -> None:
            await handler(data)
            if len(handler.done) == 1:
                told.append(await refused(app.bus, NAME, data))

        await put(app.transport, 1)
        with pytest.raises(ZeroDivisionError):
            async with open_bridge(app.bus, app.transport, outgoing=["**"]):
                raise ZeroDivisionError
        await app.bus.subscribe(NAME, "c", answer)
        async with open_bridge(app.bus, app.transport, incoming=[NAME], group=GROUP) as bridge:
            await until(lambda: bridge.statistics().acknowledged)
            assert bridge.statistics().failed == 0
        assert handler.done == [1, 1]
        assert len(told) == 1

    @pytest.mark.unmeasured
    async def test_no_event_is_buried_for_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """X3, X10: An attempt that fails by a bridge that is missing does not count."""
        monkeypatch.setattr(worker, "_DELAY_AFTER_OUTAGE", 0.01)
        app, source = App(on_error="raise"), MemoryTransport()

        async def onward(data: object) -> None:
            await app.bus.publish(OUT, data)

        await app.end()
        await app.bus.subscribe("order.b", "c", onward)
        await put(source, 1, name="order.b")
        options: dict[str, Any] = {"incoming": ["order.b"], "group": GROUP, "retry_delay": 0}
        async with open_bridge(app.bus, source, **options, max_attempts=2) as bridge:
            await until(lambda: bridge.statistics().failed >= 3)
            assert bridge.statistics().dead == 0
            async with app.open():
                await until(lambda: bridge.statistics().acknowledged)
        assert payloads(app.transport) == [1]


class TestTakingOver:
    """Another bridge of the same kind is opened."""

    async def test_a_publish_that_has_begun_is_stored(self) -> None:
        """X10: It sees the bridge that was opened meanwhile, though it saw the old one begin."""
        app, other = App(), Faulty(MemoryTransport())
        hold, failures = other.hold("store"), list[Any]()

        async def publish() -> None:
            failures.extend(await app.bus.publish(OUT, 1))

        async with open_bridge(app.bus, other, outgoing=[OUT]):
            await app.end()
            async with create_task_group() as group:
                group.start_soon(publish)
                await hold.reached.wait()
                async with app.open():
                    hold.open.set()
                    await until(lambda: payloads(app.transport))
        assert payloads(app.transport) == [1]
        assert not failures

    async def test_there_is_one_place_however_often_it_fails(self) -> None:
        """X10: One for each bus, transport and set of patterns; the latest cause counts."""
        app = App()
        for number in range(5):
            problem = ValueError(number)
            with pytest.raises(ValueError, match=str(number)):
                async with app.open(outgoing=["refund.*", OUT][:: number % 2 * 2 - 1]):
                    assert await app.bus.publish(OUT, number) == ()
                    raise problem
            assert places(app.bus) == 2
            assert (await refused(app.bus)).__cause__ is problem
        assert payloads(app.transport) == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("what", ["bus", "transport", "outgoing"])
    async def test_one_of_another_kind_leaves_it_alone(self, what: str) -> None:
        """X10: Another bus, another transport, or other patterns."""
        app = App()
        await app.end()
        bus = EventBus() if what == "bus" else app.bus
        transport = MemoryTransport() if what == "transport" else app.faulty
        outgoing = [OUT] if what == "outgoing" else [OUT, "refund.*"]
        async with open_bridge(bus, transport, outgoing=outgoing):
            await refused(app.bus)
        await refused(app.bus)

    async def test_two_that_were_open_at_once_leave_one_place(self) -> None:
        """X10: The bridge that is opened next stores each event once."""
        app = App()
        with pytest.raises(ZeroDivisionError):
            async with app.open():
                await app.end()
                raise ZeroDivisionError
        assert places(app.bus) == 4
        async with app.open():
            assert places(app.bus) == 2
            assert await app.bus.publish(OUT, 1) == ()
        assert payloads(app.transport) == [1]
        assert places(app.bus) == 0

    async def test_one_that_is_opened_while_another_is_left_goes_on(self) -> None:
        """X10: The one that ends later gives up or marks no place but its own."""
        app = App()
        hold = app.faulty.hold("leave")
        opened, go_on, failures = Event(), Event(), list[Any]()

        async def open_again() -> None:
            await hold.reached.wait()
            async with open_bridge(app.bus, app.faulty, outgoing=[OUT, "refund.*"]):
                hold.open.set()
                opened.set()
                await go_on.wait()

        async with create_task_group() as group:
            group.start_soon(open_again)
            await app.end()
            with fail_after(PATIENCE):
                await opened.wait()
            failures += await app.bus.publish(OUT, 1)
            go_on.set()
        # The old one's place, which was not given up yet as the new one was opened, has failed.
        assert len(failures) == 1
        assert payloads(app.transport) == [1]

    async def test_one_that_is_opened_in_the_last_moment_of_another_goes_on(self) -> None:
        """X10: It has the place by then, and the old one ends in peace without giving that up."""
        app = App()
        hold = app.faulty.hold("store")
        opened, go_on = Event(), Event()

        async def open_again() -> None:
            await until(lambda: first.status.state == "draining")
            await settle()
            async with app.open(incoming=[]):
                opened.set()
                await go_on.wait()

        async with create_task_group() as group:
            async with app.open(incoming=[]) as first:
                group.start_soon(app.bus.publish, OUT, "first")
                await hold.reached.wait()
                group.start_soon(open_again)
                group.start_soon(self._let_go, opened, hold.open)
            assert first.status.state == "closed"
            assert await app.bus.publish(OUT, "second") == ()
            go_on.set()
        assert payloads(app.transport) == ["first", "second"]
        assert places(app.bus) == 0

    @staticmethod
    async def _let_go(first: Event, then: Event) -> None:
        await first.wait()
        then.set()

    async def test_subscriptions_that_a_user_has_ended_are_made_again(self) -> None:
        """X10: The place is whole again."""
        app, handler = App(), Handler()
        await app.bus.subscribe(OUT, "<bridge>", handler)
        await app.end()
        (first, *_) = (each for each in app.bus.subscriptions() if each.handler is not handler)
        app.bus.unsubscribe(first)
        async with app.open():
            assert await app.bus.publish(OUT, 1) == ()
            assert await app.bus.publish("refund.made", 2) == ()
        assert payloads(app.transport) == [1, 2]
        assert handler.done == [1]

    async def test_a_transport_may_have_slots(self) -> None:
        """X10: One that can't be referred to weakly is the same one, too."""
        app = App()

        class Slotted:
            __slots__ = ()

            def connect(self) -> AbstractAsyncContextManager[Connection]:
                return app.transport.connect()

        slotted = Slotted()
        with pytest.raises(ZeroDivisionError):
            async with open_bridge(app.bus, slotted, outgoing=[OUT]):
                raise ZeroDivisionError
        await refused(app.bus)
        async with open_bridge(app.bus, slotted, outgoing=[OUT]):
            assert await app.bus.publish(OUT, 1) == ()


class TestOpening:
    """A bridge that fails to open."""

    @pytest.mark.parametrize("call", ["connect", "join"])
    @pytest.mark.parametrize("is_again", [False, True])
    async def test_it_never_had_a_place(self, call: Any, *, is_again: bool) -> None:
        """X10: Nothing of it stays, and what an earlier one has left stays as it was."""
        app = App()
        earlier = ZeroDivisionError("earlier")
        if is_again:
            await app.end(earlier)
        app.faulty.fail(call, TransportUnusable("nowhere", "a text"))
        with pytest.raises(TransportUnusable):
            async with app.open():
                pytest.fail("entered")
        if is_again:
            assert (await refused(app.bus)).__cause__ is earlier
        else:
            assert places(app.bus) == 0

    async def test_a_name_that_is_taken_is_no_place_either(self) -> None:
        """X10: Until it has joined its group a bridge stores nothing, and leaves nothing."""
        app = App()
        async with consuming(app.transport, Handler(), incoming=[NAME], consumer="a"):
            with pytest.raises(ConsumerInUse):
                async with app.open(consumer="a"):
                    pytest.fail("entered")
        assert await app.bus.publish(OUT, 1) == ()


class TestLeaving:
    """The block comes to its end."""

    async def test_in_peace_it_is_gone(self) -> None:
        """X10: Nothing fails, and nothing is stored."""
        app = App()
        async with app.open() as bridge:
            assert bridge.status == BridgeStatus("running")
            assert str(bridge.status) == "running"
        assert str(bridge.status) == "closed"
        assert places(app.bus) == 0
        assert await app.bus.publish(OUT, 1) == ()
        assert payloads(app.transport) == []
        bridge.forget()

    def test_as_long_as_its_handlers_run_it_stores(self, backend: str) -> None:
        """X5, X10: While it drains; when it can't any more each publish is told."""

        async def scenario() -> None:
            app, gate, told = App(), Event(), list[Any]()
            handler = Handler(gate=gate)
            await app.bus.subscribe(NAME, "c", handler)
            await put(app.transport, 1)

            async def watch() -> None:
                await until(lambda: bridge.status.state == "draining")
                assert str(bridge.status) == "draining"
                assert await app.bus.publish(OUT, "while it drains") == ()
                hold = app.faulty.hold("store")
                group.start_soon(app.bus.publish, OUT, "at the last moment")
                await hold.reached.wait()
                gate.set()
                await until(lambda: bridge.statistics().held == 0 and "leave" in app.faulty.calls)
                await settle()
                told.extend(await app.bus.publish(OUT, "too late"))
                hold.open.set()

            async with create_task_group() as group, app.open(lease=5.0) as bridge:
                await until(lambda: handler.begun)
                group.start_soon(watch)
            assert payloads(app.transport) == [1, "while it drains", "at the last moment"]
            (failure,) = told
            assert type(failure.exception) is TransportUnavailable
            assert failure.exception.reason == "its bridge was left"
            assert places(app.bus) == 0

        play(scenario, backend, schedules=3)

    async def test_cancelled_with_events_to_store_it_has_failed(self) -> None:
        """X10: Its last phase is a part of the block, too."""
        app, scope, told = App(), CancelScope(), list[Any]()
        hold = app.faulty.hold("store")

        async def publish() -> None:
            told.extend(await app.bus.publish(OUT, 1))

        async def cancel() -> None:
            await until(lambda: app.faulty.calls["leave"])
            await settle()
            scope.cancel()
            await settle()
            hold.open.set()

        async with create_task_group() as group:
            with scope:
                async with app.open():
                    group.start_soon(publish)
                    await hold.reached.wait()
                    group.start_soon(cancel)
        assert scope.cancelled_caught
        assert app.bridge.status.state == "failed"
        assert payloads(app.transport) == [1]
        assert not told
        await refused(app.bus)

    @pytest.mark.parametrize("is_loud", [True, False])
    async def test_what_its_connection_does_is_a_part_of_it(self, *, is_loud: bool) -> None:
        """X10: Whether closing it fails, or swallows the cancellation that the block ends by."""
        app = App()

        class Meddling:
            @asynccontextmanager
            async def connect(self) -> AsyncGenerator[Connection]:
                async with app.transport.connect() as connection:
                    with CancelScope() as scope:
                        if not is_loud:
                            self.scope = scope
                        yield connection
                if is_loud:
                    raise TransportUnusable("nowhere", "a text")

        meddling = Meddling()
        opening = app.open(meddling, outgoing=[OUT], incoming=[])
        if is_loud:
            with pytest.raises(TransportUnusable):
                async with opening:
                    pass
            assert isinstance(app.bridge.status.cause, TransportUnusable)
        else:
            async with opening:
                meddling.scope.cancel()
                await sleep_forever()
            assert isinstance(app.bridge.status.cause, get_cancelled_exc_class())
        assert (await refused(app.bus)).__cause__ is app.bridge.status.cause

    async def test_a_failure_of_its_own_is_logged_with_its_traceback(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """X10: What leaves the block has none of the bridge's frames, which hold what it held."""
        app = App()
        await by_its_worker(app)
        told = [each for each in caplog.records if "a bridge has failed" in each.message]
        assert [each.message for each in told] == [
            "a bridge has failed: nowhere can't be used: a text"
        ]
        assert str(Path("_bridge", "worker.py")) in (told[0].exc_text or caplog.text)


class TestForgetting:
    """`Bridge.forget`."""

    async def test_it_gives_up_the_place(self) -> None:
        """X10: As often as one likes; the status is as before."""
        app = App()
        problem = ZeroDivisionError("bare")
        bridge = await app.end(problem)
        assert str(bridge.status) == "failed(ZeroDivisionError('bare'))"
        for _ in range(2):
            bridge.forget()
            assert places(app.bus) == 0
            assert await app.bus.publish(OUT, 1) == ()
        assert bridge.status == BridgeStatus("failed", problem)

    async def test_one_that_is_open_can_not_be_forgotten(self) -> None:
        """X10: Nothing changes, and the message says what would be right."""
        app = App()
        hold = app.faulty.hold("leave")

        async def forget() -> None:
            await hold.reached.wait()
            with pytest.raises(RuntimeError, match="this one is draining"):
                bridge.forget()
            hold.open.set()

        async with meanwhile(forget), app.open() as bridge:
            with pytest.raises(RuntimeError, match="this one is running: leave its 'async with'"):
                bridge.forget()
            assert await app.bus.publish(OUT, 1) == ()
        assert payloads(app.transport) == [1]

    async def test_the_place_of_another_is_left_alone(self) -> None:
        """X10: Where one was opened since, that stores on, and fails for itself."""
        app = App()
        first = await app.end()
        async with app.open():
            first.forget()
            assert await app.bus.publish(OUT, 1) == ()
        assert payloads(app.transport) == [1]
        second = await app.end()
        first.forget()
        await refused(app.bus)
        second.forget()
        assert places(app.bus) == 0

    async def test_one_without_outgoing_events_has_nothing_to_forget(self) -> None:
        """X10: Its status tells of its end all the same."""
        app, problem = App(), TransportUnusable("nowhere", "a text")
        with pytest.raises(TransportUnusable):
            async with app.open(outgoing=[]):
                app.faulty.fail("join", problem)
                await sleep_forever()
        assert app.bridge.status == BridgeStatus("failed", problem)
        app.bridge.forget()


class Payload(dict[str, Any]):
    """A payload that can be referred to weakly."""


class TestMemory:
    """What is kept of a bridge that has failed."""

    @pytest.mark.parametrize("is_own", [True, False])
    async def test_nothing_of_its_work_stays(
        self, caplog: pytest.LogCaptureFixture, *, is_own: bool
    ) -> None:
        """X10: No connection, no payload and no frame of the bridge's, though its place does."""
        # A record of the log keeps frames of its own.
        caplog.set_level(logging.CRITICAL, "flexiflow")
        app, kept, begun = App(), list[Any](), Event()
        options: dict[str, Any] = {"outgoing": [OUT], "incoming": [NAME], "group": GROUP}

        async def hang(data: object) -> None:
            payload = Payload(data=data)
            kept.append(ref(payload))
            begun.set()
            await sleep_forever()

        class Watched:
            @asynccontextmanager
            async def connect(self) -> AsyncGenerator[Connection]:
                async with app.faulty.connect() as connection:
                    kept.append(ref(connection))
                    yield connection

        async def fail() -> None:
            with CancelScope() as scope, suppress(TransportUnusable):
                # Directly: frames of a function around it would keep the traceback of their own.
                async with open_bridge(app.bus, Watched(), **options, lease=0.5):
                    await begun.wait()
                    if is_own:
                        app.faulty.fail("join", TransportUnusable("nowhere", "a text"))
                    else:
                        scope.cancel()
                    await sleep_forever()

        await app.bus.subscribe(NAME, "c", hang)
        await put(app.transport, 1)
        with fail_after(PATIENCE):
            await fail()
        gc.collect()
        assert [each() for each in kept] == [None, None]
        await refused(app.bus)

    async def test_neither_bus_nor_transport_is_kept(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """X10: The place is the bus's, and knows its transport weakly; the bridge knows neither."""
        # A record of the log keeps frames of its own.
        caplog.set_level(logging.CRITICAL, "flexiflow")
        kept: list[Any] = []

        class Plain:
            """A transport that can be referred to weakly."""

            def connect(self) -> AbstractAsyncContextManager[Connection]:
                return MemoryTransport().connect()

        class Marker:
            """Something that only the bus keeps."""

            def __call__(self, data: object) -> None:
                """Do nothing."""

        bridges: list[Bridge] = []

        async def host(bus: EventBus, transport: Any) -> None:
            with CancelScope() as scope:
                async with open_bridge(bus, transport, outgoing=[OUT]) as bridge:
                    bridges.append(bridge)
                    scope.cancel()
                    await sleep_forever()

        bus, transport, marker = EventBus(), Plain(), Marker()
        await bus.subscribe("a", "c", marker)
        kept += [ref(transport), ref(marker)]
        await host(bus, transport)
        del transport, marker
        gc.collect()
        assert kept[0]() is None
        await refused(bus)
        del bus
        gc.collect()
        assert kept[1]() is None
        bridges[0].forget()

    async def test_a_cancellation_that_can_not_be_copied_is_kept(self) -> None:
        """X10: A class of a user's may want other arguments."""

        class Odd(Exception):
            def __init__(self, one: int, two: int) -> None:
                super().__init__(one)

        odd = Odd(1, 2)
        assert without_frames(odd) is odd


@pytest.mark.parametrize("style", ["scope", "native"])
def test_wherever_it_is_cancelled_no_publish_is_silent(backend: str, style: Any) -> None:
    """X10: At each of its checkpoints a bridge has not begun, or has ended, or refuses."""
    if style == "native" and backend != "asyncio":
        pytest.skip("only asyncio has a cancellation of its own")
    runs: list[tuple[App, list[Bridge]]] = []

    async def scenario() -> None:
        app, bridges = App(), list[Bridge]()
        runs.append((app, bridges))
        async with app.open(lease=10.0) as bridge:
            bridges.append(bridge)
            assert await app.bus.publish(OUT, "stored") == ()

    async def check() -> None:
        app, bridges = runs.pop()
        failures = await app.bus.publish(OUT, "too late")
        assert "too late" not in payloads(app.transport)
        states = [each.status.state for each in bridges]
        if failures:
            assert states in ([], ["failed"])
            assert isinstance(failures[0].exception, BridgeClosed)
        else:
            assert places(app.bus) == 0
            assert states in ([], ["closed"])

    assert cancel_everywhere(scenario, backend=backend, check=check, style=style) > 10


@final
class Server:
    """An application of a server that catches what its lifespan raises, and goes on serving."""

    def __init__(self) -> None:
        self.app = App(on_error="raise")
        self.over, self.repaired = Event(), Event()
        self.answers: list[tuple[int, int]] = []

    async def lifespan(self) -> None:
        """Have a bridge, which fails, and later another one."""
        try:
            async with self.app.open():
                await sleep(0.1)
                self.app.faulty.fail("join", TransportUnusable("nowhere", "a text"))
                await sleep_forever()
        except TransportError:
            self.over.set()
        await self.repaired.wait()
        async with self.app.open(consumer="again"):
            await sleep_forever()

    async def request(self, number: int) -> None:
        """Publish an event, and answer."""
        try:
            await self.app.bus.publish(OUT, number)
        except BridgeClosed:
            self.answers.append((number, 503))
        else:
            self.answers.append((number, 200))


def test_an_application_that_goes_on_is_told(backend: str) -> None:
    """X10: Each request is stored or told, whenever the bridge fails or is repaired."""

    async def scenario() -> None:
        server = Server()
        async with create_task_group() as group:
            group.start_soon(server.lifespan)
            await until(lambda: places(server.app.bus))
            await server.request(1)
            await server.over.wait()
            await server.request(2)
            for number in (3, 4, 5):
                group.start_soon(server.request, number)
            server.repaired.set()
            await until(lambda: len(server.answers) == 5)
            await sleep(0.1)
            await server.request(6)
            group.cancel_scope.cancel()
        answers = dict(server.answers)
        assert (answers[1], answers[2], answers[6]) == (200, 503, 200)
        confirmed = {number for number, answer in server.answers if answer == 200}
        assert confirmed == set(payloads(server.app.transport))

    play(scenario, backend, schedules=10)
