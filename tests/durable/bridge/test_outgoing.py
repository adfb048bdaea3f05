"""Events that go out: stored before all handlers, once, or not at all: A2, X1, X2, X5, X8."""

import json
import logging
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from anyio import CancelScope, Event, create_task_group, fail_after

from flexiflow import EventBus, NoAnswer
from flexiflow._bus import DeliveryMode
from flexiflow._names import Event as Occurrence
from flexiflow.extras.durable import (
    Bridge,
    LogFull,
    MemoryTransport,
    NotEncodable,
    NotReplicated,
    Record,
    TransportUnavailable,
    TransportUnusable,
    open_bridge,
)
from flexiflow.extras.durable._bridge import batcher as batcher_module
from flexiflow.extras.durable._bridge.batcher import Batcher
from flexiflow.extras.durable._bridge.link import Link
from tests.durable.bridge.helpers import NAME, Faulty, meanwhile, play, put, unavailable, until
from tests.helpers import MODES, PATIENCE, settle

each_mode = pytest.mark.parametrize("mode", MODES)


def stored(transport: MemoryTransport) -> list[Record]:
    """Give what is stored."""
    return [record for log in transport._state.logs for record in log.records.values()]


def payloads(transport: MemoryTransport) -> list[Any]:
    """Give the payloads of what is stored."""
    return [json.loads(record.body)["data"] for record in stored(transport)]


class TestStoring:
    """What a publish has to do with it."""

    @each_mode
    async def test_an_event_is_stored_before_any_handler_starts(self, mode: DeliveryMode) -> None:
        """X1: The bridge's subscription is first, and in tiers all others wait for it."""
        bus, faulty, order = EventBus(delivery=mode), Faulty(MemoryTransport()), list[str]()
        await bus.subscribe(NAME, "c", lambda _: order.append("handled"), priority=1)
        hold = faulty.hold("store")

        async def publish() -> None:
            await bus.publish(NAME, 1)

        async with open_bridge(bus, faulty, outgoing=["order.*"]), meanwhile(publish):
            with fail_after(PATIENCE):
                await hold.reached.wait()
            await settle()
            # At once is at once: in concurrent delivery nobody waits for anybody.
            assert order == (["handled"] if mode == "concurrent" else [])
            hold.open.set()
        assert order == ["handled"]

    async def test_an_event_of_two_patterns_is_stored_once(self) -> None:
        """X1: Each subscription leaves to the first one what that matches, too."""
        bus, transport = EventBus(), MemoryTransport()
        async with open_bridge(bus, transport, outgoing=["order.*", NAME, "**"]):
            await bus.publish(NAME, 1)
            await bus.publish("payment.made", 2)
        assert payloads(transport) == [1, 2]

    async def test_only_what_matches_is_stored(self) -> None:
        """X1: Nothing before the block, nothing after, and nothing else within."""
        bus, transport = EventBus(), MemoryTransport()
        await bus.publish(NAME, 1)
        async with open_bridge(bus, transport, outgoing=["order.*"]):
            await bus.publish("payment.made", 2)
            await bus.publish(NAME, 3)
        await bus.publish(NAME, 4)
        assert payloads(transport) == [3]
        assert not list(bus.subscriptions())

    async def test_a_question_is_not_stored(self) -> None:
        """A2: A query never crosses a bridge, whatever the bridge sends out."""
        bus, transport = EventBus(), MemoryTransport()
        await bus.answer("price.asked", "prices", lambda item: item)
        async with open_bridge(bus, transport, outgoing=["price.asked", "**"]):
            assert await bus.ask("price.asked", 1) == 1
            with pytest.raises(NoAnswer):
                await bus.ask("price.named", 2)
        assert not stored(transport)

    @pytest.mark.parametrize(("most", "max_length"), [(5, 1_000), (500, 5)])
    async def test_those_who_publish_at_once_share_batches(
        self, most: int, max_length: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """X5: What comes while a batch is stored goes into the next; none is longer than a log."""
        assert batcher_module.MOST_AT_ONCE == 500
        monkeypatch.setattr(batcher_module, "MOST_AT_ONCE", most)
        bus, faulty = EventBus(), Faulty(MemoryTransport(max_length=max_length))
        hold = faulty.hold("store")

        async with open_bridge(bus, faulty, outgoing=[NAME]) as bridge:
            async with create_task_group() as group:
                group.start_soon(bus.publish, NAME, "first")
                await hold.reached.wait()
                for number in range(11):
                    group.start_soon(bus.publish, NAME, number)
                await settle()
                hold.open.set()
            assert bridge.statistics().stored == 12
        assert [len(batch.records) for batch in faulty.batches] == [1, 5, 5, 1]
        assert [batch.number for batch in faulty.batches] == [1, 2, 3, 4]

    async def test_publishers_that_go_on_share_a_batch_with_those_that_wait(self) -> None:
        """X5: Those that join in while a batch is stored do not take turns with its publishers."""
        bus, faulty = EventBus(), Faulty(MemoryTransport())
        holds = [faulty.hold("store") for _ in range(4)]

        async def publish() -> None:
            for number in range(4):
                await bus.publish(NAME, number)

        async with open_bridge(bus, faulty, outgoing=[NAME]), create_task_group() as group:
            for hold in holds:
                group.start_soon(publish)
                await settle()
                hold.open.set()
        assert [len(batch.records) for batch in faulty.batches] == [1, 2, 3, 4, 3, 2, 1]

    async def test_a_batch_whose_publishers_have_left_is_not_stored(self) -> None:
        """X5: They were cancelled before it was taken; the next one is stored as if it was next."""
        bus, faulty = EventBus(), Faulty(MemoryTransport())
        hold = faulty.hold("store")
        async with open_bridge(bus, faulty, outgoing=[NAME]), create_task_group() as group:
            group.start_soon(bus.publish, NAME, "first")
            await hold.reached.wait()
            async with create_task_group() as leaving:
                leaving.start_soon(bus.publish, NAME, "cancelled")
                await settle()
                leaving.cancel_scope.cancel()
            hold.open.set()
            await settle()
            await bus.publish(NAME, "last")
        assert [len(batch.records) for batch in faulty.batches] == [1, 1]
        assert [batch.number for batch in faulty.batches] == [1, 2]

    async def test_a_batch_is_no_longer_than_gets_through(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """X6: By its bytes, unless it is one event alone; what was withdrawn does not count."""
        monkeypatch.setattr(batcher_module, "BYTES_AT_ONCE", 1_000)
        bus, faulty = EventBus(), Faulty(MemoryTransport())
        hold = faulty.hold("store")
        async with open_bridge(bus, faulty, outgoing=[NAME]), create_task_group() as group:
            group.start_soon(bus.publish, NAME, "first")
            await hold.reached.wait()
            async with create_task_group() as given_up:
                given_up.start_soon(bus.publish, NAME, "x" * 700)
                await settle()
                given_up.cancel_scope.cancel()
            for length in (500, 10, 2_000, 10, 10):
                group.start_soon(bus.publish, NAME, "x" * length)
                await settle()
            hold.open.set()
        assert [len(batch.records) for batch in faulty.batches] == [1, 2, 1, 2]

    async def test_a_key_travels_with_its_event(self) -> None:
        """X4: What `key` takes from the payload is the record's key, and on the wire."""
        transport = MemoryTransport()
        await put(transport, {"id": "a"}, {"id": None}, key=lambda data: data["id"])
        first, second = stored(transport)
        assert (first.key, json.loads(first.body)["partitionkey"]) == ("a", "a")
        assert second.key is None
        assert "partitionkey" not in json.loads(second.body)

    @pytest.mark.parametrize("key", [3, "", b"a", "\ud800"])
    async def test_a_wrong_key_is_a_failure(self, key: Any) -> None:
        """X4: A key is a str of text that is not empty, or None."""
        bus, transport = EventBus(), MemoryTransport()
        async with open_bridge(bus, transport, outgoing=[NAME], key=lambda _: key):
            (failed,) = await bus.publish(NAME, 1)
        assert isinstance(failed.exception, NotEncodable)
        assert repr(key) in str(failed.exception)
        assert not stored(transport)


class TestFailing:
    """What a publisher sees when its event can't be stored."""

    async def test_a_payload_that_cannot_be_encoded_fails_at_publish(self) -> None:
        """X7: It is the failure of the bridge's subscription, and nothing is stored."""
        bus, transport = EventBus(on_error="raise"), MemoryTransport()
        async with open_bridge(bus, transport, outgoing=[NAME]):
            with pytest.raises(NotEncodable, match=r"'order\.placed'.*TypeError"):
                await bus.publish(NAME, object())
        assert not stored(transport)

    def test_a_lost_reply_stores_no_second_copy(self, backend: str) -> None:
        """X2: The same batch is tried again, with the same number."""

        async def scenario() -> None:
            bus, transport = EventBus(), MemoryTransport()
            faulty = Faulty(transport)
            faulty.fail("store", is_late=True)
            faulty.fail("store", times=2)
            async with open_bridge(bus, faulty, outgoing=[NAME]) as bridge:
                assert await bus.publish(NAME, 1) == ()
                assert await bus.publish(NAME, 2) == ()
                assert bridge.statistics().stored == 2
                assert bridge.statistics().reconnects == 1
            assert payloads(transport) == [1, 2]
            first, *again, second = faulty.batches
            assert again == [first] * 3
            assert second.number == 2

        play(scenario, backend)

    def test_after_its_time_the_publisher_is_told(self, backend: str) -> None:
        """X6: A transport that stays away is a failure of the publish, and the next goes on."""

        async def scenario() -> None:
            bus, transport = EventBus(on_error="raise"), MemoryTransport()
            faulty = Faulty(transport)
            async with open_bridge(bus, faulty, outgoing=[NAME], store_timeout=3.0):
                with faulty.away("store"), pytest.raises(TransportUnavailable, match="is away"):
                    await bus.publish(NAME, 1)
                await bus.publish(NAME, 2)
            assert payloads(transport) == [2]
            assert faulty.batches[-1].number == 2

        play(scenario, backend)

    @pytest.mark.parametrize(
        "problem", [TransportUnusable("nowhere", "a text"), ZeroDivisionError()]
    )
    async def test_what_is_not_tried_again_is_told_at_once(self, problem: Exception) -> None:
        """X6: What would not get better is the publisher's failure, and no end of the bridge."""
        bus, faulty = EventBus(on_error="raise"), Faulty(MemoryTransport())
        faulty.fail("store", problem)
        async with open_bridge(bus, faulty, outgoing=[NAME]):
            with pytest.raises(type(problem)) as caught:
                await bus.publish(NAME, 1)
            await bus.publish(NAME, 2)
        assert caught.value is problem

    @pytest.mark.parametrize("problem", [LogFull("nowhere", 3), NotReplicated("nowhere", 0, 1)])
    def test_a_transport_that_is_there_has_no_outage(
        self, problem: TransportUnavailable, backend: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """X6: A full log, or a write that is not confirmed, is tried again, but no reconnection."""

        async def scenario() -> None:
            bus, faulty = EventBus(), Faulty(MemoryTransport())
            faulty.fail("store", problem, times=2)
            async with open_bridge(bus, faulty, outgoing=[NAME]) as bridge:
                assert await bus.publish(NAME, 1) == ()
                assert bridge.statistics().reconnects == 0

        play(scenario, backend, schedules=1)
        assert not caplog.records

    def test_an_outage_beside_a_full_log_is_told(self, backend: str) -> None:
        """X6: It counts, whatever else is being waited for."""

        async def scenario() -> None:
            bus, faulty = EventBus(), Faulty(MemoryTransport())
            faulty.fail("store", LogFull("nowhere", 3), times=5)
            faulty.succeed("join")
            faulty.fail("join")
            options: dict[str, Any] = {"outgoing": [NAME], "incoming": ["a"], "group": "g"}
            async with open_bridge(bus, faulty, **options) as bridge:
                await bus.publish(NAME, 1)
                assert bridge.statistics().reconnects == 1

        play(scenario, backend, schedules=1)

    def test_an_outage_that_begins_with_a_full_log_is_told(
        self, backend: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """X6: Also where it comes after the log was full, and ends with its being full again."""
        caplog.set_level(logging.INFO, "flexiflow")

        async def scenario() -> None:
            bus, faulty, full = EventBus(), Faulty(MemoryTransport()), LogFull("nowhere", 3)
            faulty.fail("store", full, unavailable(), unavailable(), full, unavailable())
            async with open_bridge(bus, faulty, outgoing=[NAME]) as bridge:
                await bus.publish(NAME, 1)
                assert bridge.statistics().reconnects == 2

        play(scenario, backend, schedules=1)
        assert [each.levelname for each in caplog.records] == ["WARNING", "INFO"] * 2

    def test_one_outage_is_told_once(self, backend: str, caplog: pytest.LogCaptureFixture) -> None:
        """X6: One warning when it begins, one information when it is over."""
        caplog.set_level(logging.INFO, "flexiflow")

        async def scenario() -> None:
            bus, faulty = EventBus(), Faulty(MemoryTransport())
            faulty.fail("store", times=3)
            async with open_bridge(bus, faulty, outgoing=[NAME]) as bridge:
                for number in range(2):
                    await bus.publish(NAME, number)
                assert bridge.statistics().reconnects == 1

        play(scenario, backend, schedules=1)
        told = [(each.levelname, each.getMessage()) for each in caplog.records]
        assert told == [
            ("WARNING", f"{unavailable()}; trying until it is"),
            ("INFO", "nowhere is available again"),
        ]


class TestCancelling:
    """What becomes of the event of a publisher that is cancelled."""

    async def test_before_it_is_taken_it_is_withdrawn(self) -> None:
        """X5: Each record that waits has a publisher that waits."""
        bus, transport = EventBus(), MemoryTransport()
        faulty, scope = Faulty(transport), CancelScope()
        hold = faulty.hold("store")

        async def give_up() -> None:
            with scope:
                await bus.publish(NAME, "withdrawn")

        async with open_bridge(bus, faulty, outgoing=[NAME]):
            async with create_task_group() as group:
                group.start_soon(bus.publish, NAME, "first")
                await hold.reached.wait()
                group.start_soon(give_up)
                await settle()
                scope.cancel()
                await settle()
                hold.open.set()
            await bus.publish(NAME, "last")
        assert payloads(transport) == ["first", "last"]
        assert [batch.number for batch in faulty.batches] == [1, 2]

    async def test_while_it_is_stored_it_may_be_stored(self) -> None:
        """X5: The publisher leaves at once, in doubt, as of any I/O."""
        bus, transport = EventBus(), MemoryTransport()
        faulty, scope = Faulty(transport), CancelScope()
        hold = faulty.hold("store")

        async def give_up() -> None:
            with scope:
                await bus.publish(NAME, "in doubt")
            hold.open.set()

        async with open_bridge(bus, faulty, outgoing=[NAME]):
            async with create_task_group() as group:
                group.start_soon(give_up)
                await hold.reached.wait()
                scope.cancel()
            await bus.publish(NAME, "next")
        assert payloads(transport) == ["in doubt", "next"]


class TestLeaving:
    """What is still to be stored when the block ends."""

    @pytest.mark.parametrize("is_hasty", [False, True])
    async def test_what_waits_is_stored(self, is_hasty: bool) -> None:
        """X5: However the block ends, those who wait are served before it is left."""
        bus, transport = EventBus(), MemoryTransport()
        faulty, failures = Faulty(transport), list[Any]()
        hold = faulty.hold("store")

        async def publish(number: int) -> None:
            failures.extend(await bus.publish(NAME, number))

        async def leave() -> None:
            async with open_bridge(bus, faulty, outgoing=[NAME]) as bridge:
                group.start_soon(publish, 1)
                await hold.reached.wait()
                group.start_soon(publish, 2)
                await settle()
                group.start_soon(let_go, bridge)
                if is_hasty:
                    raise ZeroDivisionError

        async def let_go(bridge: Bridge) -> None:
            await until(lambda: bridge.status.state == "draining")
            await settle()
            hold.open.set()

        async with create_task_group() as group:
            if is_hasty:
                with pytest.raises(ZeroDivisionError):
                    await leave()
            else:
                await leave()
        assert payloads(transport) == [1, 2]
        assert not failures

    def test_who_cannot_be_served_is_told(self, backend: str) -> None:
        """X5: A bridge that is cancelled while its transport is away leaves nobody waiting."""

        async def scenario() -> None:
            bus, faulty, told = EventBus(on_error="raise"), Faulty(MemoryTransport()), list[str]()

            async def publish() -> None:
                with pytest.raises(TransportUnavailable) as caught:
                    await bus.publish(NAME, 1)
                told.append(caught.value.reason)

            async with create_task_group() as group:
                with CancelScope() as scope, faulty.away("store"):
                    async with open_bridge(bus, faulty, outgoing=[NAME], store_timeout=100):
                        group.start_soon(publish)
                        await until(lambda: faulty.batches)
                        scope.cancel()
            assert told == ["its bridge was left"]

        play(scenario, backend)

    def test_all_that_wait_share_their_time(
        self, backend: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """X5: Leaving takes no longer for many batches than for one, and all are told."""
        monkeypatch.setattr(batcher_module, "MOST_AT_ONCE", 1)

        async def scenario() -> None:
            bus, faulty, told = EventBus(), Faulty(MemoryTransport()), list[Any]()

            async def publish(number: int) -> None:
                told.extend(await bus.publish(NAME, number))

            async with create_task_group() as group:
                with faulty.away("store"), fail_after(4):
                    async with open_bridge(bus, faulty, outgoing=[NAME], store_timeout=3):
                        for number in range(5):
                            group.start_soon(publish, number)
                        await until(lambda: faulty.batches)
            assert len(told) == 5
            assert {type(each.exception) for each in told} == {TransportUnavailable}

        play(scenario, backend, schedules=3)

    async def test_who_comes_too_late_is_told(self) -> None:
        """X5: A publish that was taken up before the end may call the bridge's handler after it."""
        bus = EventBus()
        async with open_bridge(bus, MemoryTransport(), outgoing=[NAME]):
            (subscription,) = bus.subscriptions()
        handler: Any = subscription.handler
        with pytest.raises(TransportUnavailable, match="was left"):
            await handler(Occurrence(NAME, 1))


class TestHandingOn:
    """X8: What comes in and what goes out."""

    async def test_the_publish_that_hands_on_is_not_sent_out(self) -> None:
        """X8: By no bridge to the transport that it came from; to another one it is."""
        bus, transport, other = EventBus(), MemoryTransport(), MemoryTransport()
        handled = Event()
        await bus.subscribe(NAME, "c", lambda _: handled.set(), priority=5)
        await put(transport, 1)
        async with (
            open_bridge(bus, transport, outgoing=["**"]),
            open_bridge(bus, other, outgoing=["**"]),
            open_bridge(bus, transport, incoming=[NAME], group="g"),
        ):
            with fail_after(PATIENCE):
                await handled.wait()
        assert payloads(transport) == [1]
        assert payloads(other) == [1]

    async def test_what_its_handlers_publish_is_sent_out(self) -> None:
        """X8: Even where it looks the same: the same name, and the same payload."""
        bus, transport, again, done = EventBus(), MemoryTransport(), Event(), Event()

        async def handler(data: object) -> None:
            if not again.is_set():
                again.set()
                await bus.publish(NAME, data)
                await bus.publish("order.seen", data)
                done.set()

        await bus.subscribe(NAME, "c", handler)
        await put(transport, {"id": 1})
        async with (
            open_bridge(bus, transport, outgoing=["order.*"]),
            open_bridge(bus, transport, incoming=[NAME], group="g"),
        ):
            with fail_after(PATIENCE):
                await done.wait()
        names = [json.loads(record.body)["type"] for record in stored(transport)]
        assert names == [NAME, NAME, "order.seen"]

    async def test_another_bus_is_another_publish(self) -> None:
        """X8: What a handler publishes elsewhere is sent out from there."""
        bus, other, transport, done = EventBus(), EventBus(), MemoryTransport(), Event()

        async def handler(data: object) -> None:
            if not done.is_set():
                done.set()
                await other.publish(NAME, data)

        await bus.subscribe(NAME, "c", handler)
        await put(transport, 1)
        async with (
            open_bridge(other, transport, outgoing=[NAME]),
            open_bridge(bus, transport, incoming=["order.placed"], group="g", limit=1),
        ):
            with fail_after(PATIENCE):
                await done.wait()
        assert payloads(transport) == [1, 1]


def test_publishers_of_every_schedule_are_served(backend: str) -> None:
    """X1: Whatever the order in which tasks run, each event is stored once."""

    async def scenario() -> None:
        bus, transport = EventBus(), MemoryTransport()
        async with open_bridge(bus, transport, outgoing=[NAME]), create_task_group() as group:
            for number in range(3):
                group.start_soon(partial(bus.publish, NAME, number))
        assert sorted(payloads(transport)) == [0, 1, 2]

    play(scenario, backend, schedules=50)


async def test_what_is_stored_as_the_batcher_is_closed_is_in_doubt() -> None:
    """X5: The publisher is told, and nothing else fails; so is who comes later."""

    class Closing:
        address = "nowhere"
        max_length = max_event_bytes = 1

        async def store(self, batch: object) -> None:
            batcher.close()

    connection: Any = Closing()
    settings: Any = SimpleNamespace(store_timeout=1.0)
    batcher = Batcher(Link(EventBus(), MemoryTransport(), settings), connection, "p")
    async with create_task_group() as group:
        group.start_soon(batcher.run)
        for _ in range(2):
            with pytest.raises(TransportUnavailable, match="its bridge was left"):
                await batcher.put(NAME, Record(b"a"))
