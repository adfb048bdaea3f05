"""Events that a bridge stores now and hands out later: Y3."""

import json
import logging
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from operator import itemgetter
from typing import Any

import pytest
from anyio import CancelScope, Event, create_task_group, current_time, sleep

from flexiflow import EventBus, Query, ReceiverClosed, Topic
from flexiflow.extras._process import FORKS
from flexiflow.extras.causality import Causality, correlation
from flexiflow.extras.durable import (
    EventTooLarge,
    MemoryTransport,
    NotEncodable,
    ScheduleFull,
    Schema,
    TransportUnavailable,
    TransportUnusable,
    current_delivery,
    open_bridge,
)
from tests.durable.bridge.helpers import (
    GROUP,
    NAME,
    Faulty,
    Handler,
    Refused,
    consuming,
    pending,
    play,
    unavailable,
    until,
)

REMIND = Topic[dict[str, int]]("order.overdue")


async def scheduled(transport: Any) -> list[dict[str, Any]]:
    """Return the events that wait for their time."""
    async with transport.connect() as connection:
        return [json.loads(each.record.body) for each in await connection.scheduled()]


@pytest.mark.unmeasured
@pytest.mark.parametrize("how", ["delay", "at"])
def test_it_is_handed_out_at_its_time_and_not_before(backend: str, how: str) -> None:
    """Y3: To a group of the same bridge, and though it is not outgoing; once."""

    async def scenario() -> None:
        transport, times, bus = MemoryTransport(), list[float](), EventBus()
        await bus.subscribe(REMIND, "c", lambda data: times.append(current_time()))
        async with open_bridge(bus, transport, incoming=["order.*"], group=GROUP) as bridge:
            due = current_time() + 300.0
            when: dict[str, Any] = {"delay": 300.0}
            if how == "at":
                async with transport.connect() as connection:
                    clock = (await connection.survey()).now
                when = {"at": datetime.fromtimestamp(clock, UTC) + timedelta(minutes=5)}
            await bridge.schedule(REMIND, {"a": 1}, **when)
            await until(lambda: bridge.statistics().acknowledged, 1000)
            await sleep(100)
            (time,) = times
            # A time may lose a microsecond on its way.
            assert due - 0.001 <= time <= due + 1
        assert pending(transport) == {}

    play(scenario, backend, schedules=2)


async def test_it_is_stored_when_schedule_returns() -> None:
    """Y3: With all that a stored event has; handlers are not called."""
    transport, bus, handler = MemoryTransport(), EventBus(), Handler()
    await bus.subscribe(REMIND, "c", handler)
    schema = Schema[Any](REMIND, encode=lambda data: data["a"], decode=lambda each: {"a": each})
    options: dict[str, Any] = {"outgoing": [NAME], "source": "shop", "schemas": [schema]}
    async with open_bridge(bus, transport, **options) as bridge:
        await bridge.schedule(REMIND, {"a": 1}, delay=1000, key="A7")
        assert bridge.statistics().stored == 0
    (event,) = await scheduled(transport)
    assert handler.begun == []
    moment = datetime.fromisoformat(event.pop("time"))
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)
    assert event.pop("id")
    assert event == {
        "specversion": "1.0",
        "source": "shop",
        "type": "order.overdue",
        "datacontenttype": "application/json",
        "partitionkey": "A7",
        "depth": 1,
        "dataschema": "urn:flexiflow:order.overdue:1",
        "data": 1,
    }


async def test_a_delay_of_zero_and_a_time_that_has_passed_are_now() -> None:
    """Y3: They are handed out as soon as may be."""
    transport, handler = MemoryTransport(), Handler()
    async with consuming(transport, handler) as bridge:
        await bridge.schedule(NAME, 1, delay=0)
        await bridge.schedule(NAME, 2, at=datetime(1960, 1, 1, tzinfo=UTC))
        await bridge.schedule(NAME, 3, at=datetime(2000, 1, 1, tzinfo=timezone(timedelta(hours=5))))
        await until(lambda: len(handler.done) == 3)
    assert sorted(handler.done) == [1, 2, 3]


def test_it_takes_its_place_in_the_order_of_its_key_when_due(backend: str) -> None:
    """Y3: Behind what was stored before that, before what is stored after; also on retries."""

    async def scenario() -> None:
        transport, bus, seen = MemoryTransport(), EventBus(), list[int]()
        fails = [1]

        async def handle(data: int) -> None:
            if data == 1 and fails[0]:
                fails[0] = 0
                raise Refused
            seen.append(data)

        worker = EventBus()
        await worker.subscribe(NAME, "c", handle)
        ways: dict[str, Any] = {"incoming": [NAME], "group": GROUP, "retry_delay": 20.0}
        async with (
            open_bridge(bus, transport, outgoing=[NAME], key=lambda _: "k") as bridge,
            open_bridge(worker, transport, **ways),
        ):
            await bridge.schedule(NAME, 2, delay=10)
            await bus.publish(NAME, 1)
            await sleep(11)
            await bus.publish(NAME, 3)
            await until(lambda: len(seen) == 3, 1000)
        assert seen == [1, 2, 3]

    play(scenario, backend, schedules=2)


def test_one_that_is_cancelled_in_time_is_never_handed_out(backend: str) -> None:
    """Y3: `cancel` is True if it never will be, also when asked again; False if it may be."""

    async def scenario() -> None:
        transport, handler = MemoryTransport(), Handler()
        async with (
            consuming(transport, handler) as bridge,
            open_bridge(EventBus(), transport, outgoing=["other"]) as other,
        ):
            first = await bridge.schedule(NAME, 1, delay=10)
            second = await bridge.schedule(NAME, 2, delay=10)
            assert first != second
            assert [await other.cancel(first), await bridge.cancel(first)] == [True, True]
            await until(lambda: handler.done, 1000)
            assert [await bridge.cancel(second), await bridge.cancel(first)] == [False, True]
        assert handler.begun == [2]

    play(scenario, backend, schedules=2)


async def test_repeating_a_call_stores_no_second_one(caplog: pytest.LogCaptureFixture) -> None:
    """Y3: The ticket is made once; a reply that is lost does no harm, and one outage is told."""
    caplog.set_level(logging.INFO)
    transport = MemoryTransport()
    faulty = Faulty(transport)
    async with open_bridge(EventBus(), faulty, outgoing=[NAME]) as bridge:
        faulty.fail("schedule", is_late=True, times=2)
        ticket = await bridge.schedule(NAME, 1, delay=1000)
        assert faulty.tickets == [ticket] * 3
        assert len(await scheduled(transport)) == 1
        faulty.fail("cancel", is_late=True)
        assert await bridge.cancel(ticket)
        assert bridge.statistics().reconnects == 2
    assert await scheduled(transport) == []
    texts = [each.getMessage() for each in caplog.records]
    assert (
        texts
        == [
            "nowhere is not available: it is away; trying until it is",
            "nowhere is available again",
        ]
        * 2
    )


def test_it_is_tried_for_as_long_as_storing_an_event_is(backend: str) -> None:
    """Y3: Then the caller gets the failure."""

    async def scenario() -> None:
        faulty = Faulty(MemoryTransport())
        async with open_bridge(EventBus(), faulty, outgoing=[NAME], store_timeout=60) as bridge:
            with faulty.away("schedule", "cancel"):
                for call in (bridge.schedule(NAME, 1, delay=1), bridge.cancel("a")):
                    begun = current_time()
                    with pytest.raises(TransportUnavailable, match="it is away"):
                        await call
                    assert 55 < current_time() - begun <= 60

    play(scenario, backend, schedules=1)


async def test_one_more_than_may_be_scheduled_is_refused_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Y3: There may be no room before tomorrow; `ScheduleFull` is no outage."""
    transport = Faulty(MemoryTransport(max_scheduled=1))
    async with open_bridge(EventBus(), transport) as bridge:
        await bridge.schedule(NAME, 1, delay=1000)
        with pytest.raises(ScheduleFull, match="1 events are scheduled, as many as may be"):
            await bridge.schedule(NAME, 2, delay=0)
        assert bridge.statistics().reconnects == 0
    assert transport.calls["schedule"] == 2
    assert not caplog.records


def test_a_call_that_failed_may_be_repeated_by_its_ticket(backend: str) -> None:
    """Y3: The ticket is on what was raised; no second event is stored, and it can be cancelled."""

    async def scenario() -> None:
        transport = MemoryTransport()
        faulty = Faulty(transport)
        async with open_bridge(EventBus(), faulty, store_timeout=0.01) as bridge:
            faulty.fail("schedule", is_late=True)
            with pytest.raises(TransportUnavailable) as caught:
                await bridge.schedule(NAME, 1, delay=1000)
            ticket = caught.value.ticket
            assert ticket is not None
            assert await bridge.schedule(NAME, 1, delay=1000, ticket=ticket) == ticket
            assert len(await scheduled(transport)) == 1
            assert await bridge.cancel(ticket)

    play(scenario, backend, schedules=2)
    assert unavailable().ticket is None


@pytest.mark.parametrize(
    ("options", "exception", "message"),
    [
        ({}, ValueError, "either delay= or at=, and got delay=None and at=None"),
        ({"delay": 1, "at": datetime.now(UTC)}, ValueError, "either delay= or at="),
        ({"delay": -1}, ValueError, "delay must be .* not -1"),
        ({"delay": float("nan")}, ValueError, "delay must be .* not nan"),
        ({"delay": float("inf")}, ValueError, "delay must be .* not inf"),
        ({"delay": True}, ValueError, "delay must be .* not True"),
        ({"delay": Decimal(1)}, ValueError, "delay must be .* not Decimal"),
        ({"delay": "1"}, ValueError, "delay must be .* not '1'"),
        ({"at": datetime(2030, 1, 1)}, ValueError, "at must have a time zone"),  # noqa: DTZ001
        ({"at": 3.0}, TypeError, "at must be a datetime, not 3.0"),
        ({"delay": 1, "event": "order.*"}, ValueError, "the pattern 'order.\\*'"),
        ({"delay": 1, "event": "a..b"}, ValueError, "malformed event name 'a..b'"),
        ({"delay": 1, "event": 3}, TypeError, "an event name must be a str, not 3"),
        (
            {"delay": 1, "event": Query[int, int]("a.b")},
            TypeError,
            "'a.b' is a query, not an event",
        ),
        ({"delay": 1, "ticket": 3}, TypeError, "a ticket must be a str that schedule"),
        ({"delay": 1, "ticket": "a-0-0"}, ValueError, "a ticket must be"),
        ({"delay": 1, "data": {1}}, NotEncodable, "can't be stored: TypeError"),
        ({"delay": 1, "key": ""}, NotEncodable, "its key must be a non-empty str of text"),
        ({"delay": 1, "key": 3}, NotEncodable, "its key must be .* not 3"),
        ({"delay": 1, "key": "\ud800"}, NotEncodable, "its key must be a non-empty str of text"),
        ({"delay": 1, "data": "x" * 1000}, EventTooLarge, "'order.placed' has 1... bytes"),
    ],
)
async def test_bad_arguments_schedule_nothing(
    options: dict[str, Any], exception: type[Exception], message: str
) -> None:
    """Y3: The message says what would be right."""
    transport = MemoryTransport(max_event_bytes=1000)
    given: dict[str, Any] = {"event": NAME, "data": 1}
    async with open_bridge(EventBus(), transport, outgoing=[NAME]) as bridge:
        with pytest.raises(exception, match=message):
            await bridge.schedule(**(given | options))
    assert await scheduled(transport) == []


@pytest.mark.parametrize(
    ("ticket", "exception"), [("a-0-0", ValueError), ("", ValueError), (3, TypeError)]
)
async def test_a_ticket_of_elsewhere_cancels_nothing(
    ticket: Any, exception: type[Exception]
) -> None:
    """Y3: The message says that it must be of this transport."""
    transport = MemoryTransport()
    async with (
        open_bridge(EventBus(), transport, outgoing=[NAME]) as bridge,
        open_bridge(EventBus(), MemoryTransport(), outgoing=[NAME]) as other,
    ):
        for wrong in (ticket, await other.schedule(NAME, 1, delay=1)):
            expected = exception if wrong is ticket else ValueError
            with pytest.raises(expected, match=r"a ticket must be .*schedule\(\) "):
                await bridge.cancel(wrong)


@pytest.mark.parametrize(
    ("name", "given", "key"),
    [(NAME, None, "of data"), (NAME, "given", "given"), ("remind", None, None)],
)
async def test_the_key_is_what_is_given_or_what_the_bridge_makes(
    name: str, given: str | None, key: str | None
) -> None:
    """Y3: As for any event of the bridge; its function is not asked for others."""
    transport = MemoryTransport()
    ways: dict[str, Any] = {"outgoing": [NAME], "key": "of {}".format}
    async with open_bridge(EventBus(), transport, **ways) as bridge:
        await bridge.schedule(name, "data", delay=10, key=given)
    async with open_bridge(EventBus(), transport, outgoing=[NAME]) as bridge:
        await bridge.schedule(NAME, "data", delay=11)
    assert [each.get("partitionkey") for each in await scheduled(transport)] == [key, None]


async def test_what_the_function_for_keys_raises_is_raised() -> None:
    """Y3: Nothing is stored then."""
    transport = MemoryTransport()
    ways: dict[str, Any] = {"outgoing": [NAME], "key": itemgetter("id")}
    async with open_bridge(EventBus(), transport, **ways) as bridge:
        with pytest.raises(KeyError, match="id"):
            await bridge.schedule(NAME, {"a": 1}, delay=10)
    assert await scheduled(transport) == []


def test_a_reminder_that_schedules_the_next_one_goes_on_for_ever(backend: str) -> None:
    """Y2, Y3: Its chain begins anew; its cause and correlation go on."""

    async def scenario() -> None:
        transport, bus, seen = MemoryTransport(), EventBus(instruments=[Causality()]), list[Any]()
        ways: dict[str, Any] = {"incoming": [NAME], "group": GROUP, "max_depth": 1}
        async with open_bridge(bus, transport, **ways) as bridge:

            async def remind(data: int) -> None:
                delivery = current_delivery()
                assert delivery is not None
                seen.append(delivery.depth)
                if data < 5:
                    await bridge.schedule(NAME, data + 1, delay=1)

            await bus.subscribe(NAME, "c", remind)
            with correlation("request-1"):
                await bridge.schedule(NAME, 1, delay=0)
            await until(lambda: len(seen) == 5, 1000)
            assert bridge.statistics().dead == 0
        assert seen == [1] * 5
        events = [json.loads(each.body) for each in transport._state.logs[0].records.values()]
        assert [each["correlationid"] for each in events] == ["request-1"] * 5
        assert [("causationid" in each) for each in events] == [False, True, True, True, True]

    play(scenario, backend, schedules=1)


async def test_the_chain_goes_on_with_an_event_that_is_due_soon() -> None:
    """Y2, Y3: So a loop of events that are scheduled without a delay ends."""
    transport, bus = MemoryTransport(), EventBus(on_error="raise")
    ways: dict[str, Any] = {"incoming": [NAME], "group": GROUP, "max_depth": 3}
    async with open_bridge(bus, transport, **ways) as bridge:

        async def go_on(data: object) -> None:
            now = datetime.now(UTC)
            whens: list[dict[str, Any]] = [{"delay": 0.9}, {"delay": 1.0}]
            whens += [{"at": now - timedelta(days=1)}, {"at": now + timedelta(days=1)}]
            for when in whens:
                await bridge.schedule("other", 1, **when)
            await bridge.schedule(NAME, 1, delay=0)

        await bus.subscribe(NAME, "c", go_on)
        await bridge.schedule(NAME, 1, delay=0)
        await until(lambda: bridge.statistics().dead)
        assert bridge.statistics().delivered == 3
    # Some may have become due by now.
    events = {each["id"]: each for each in await scheduled(transport)}
    bodies = [json.loads(each.body) for each in transport._state.logs[0].records.values()]
    events |= {each["id"]: each for each in bodies}
    depths = [(each["type"], each["depth"]) for each in events.values()]
    assert sorted(depth for name, depth in depths if name == NAME) == [1, 2, 3, 4]
    others = [depth for name, depth in depths if name == "other"]
    assert sorted(others) == [*[1] * 6, *(2, 2), *(3, 3), *(4, 4)]


async def test_a_handler_may_schedule_while_its_bridge_is_left() -> None:
    """Y3, X5: As it may publish; afterwards the bridge is over."""
    transport, gate, bus = MemoryTransport(), Event(), EventBus()
    handler = Handler(gate=gate)

    async def remind(data: object) -> None:
        await handler(data)
        tickets.append(await bridge.schedule(NAME, 2, delay=1000))

    tickets = list[str]()
    await bus.subscribe(NAME, "c", remind)
    ways: dict[str, Any] = {"incoming": [NAME], "group": GROUP}
    async with create_task_group() as group, open_bridge(bus, transport, **ways) as bridge:

        async def go_on() -> None:
            await until(lambda: bridge.status.state == "draining")
            gate.set()

        await bridge.schedule(NAME, 1, delay=0)
        await handler.called.wait()
        group.start_soon(go_on)
    assert len(await scheduled(transport)) == len(tickets) == 1
    assert pending(transport) == {}
    for call in (bridge.schedule(NAME, 3, delay=0), bridge.cancel(tickets[0])):
        with pytest.raises(ReceiverClosed, match="the bridge is over"):
            await call


async def test_one_that_is_cancelled_on_its_way_leaves_nothing_behind() -> None:
    """Y3: The event may be stored all the same; the bridge goes on."""
    faulty = Faulty(MemoryTransport())
    async with open_bridge(EventBus(), faulty, outgoing=[NAME]) as bridge:
        hold = faulty.hold("schedule")
        with CancelScope() as scope:
            async with create_task_group() as group:

                async def schedule() -> None:
                    await bridge.schedule(NAME, 1, delay=1)

                group.start_soon(schedule)
                await hold.reached.wait()
                scope.cancel()
        assert await bridge.schedule(NAME, 2, delay=1)


async def test_a_forked_child_schedules_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """X9, Y3: Nor does it cancel anything; the bridge is the parent's."""
    transport = MemoryTransport()
    async with open_bridge(EventBus(), transport, outgoing=[NAME]) as bridge:
        ticket = await bridge.schedule(NAME, 1, delay=1000)
        with monkeypatch.context() as patch:
            patch.setattr(FORKS, "generation", FORKS.generation + 1)
            for call in (bridge.schedule(NAME, 1, delay=1), bridge.cancel(ticket)):
                with pytest.raises(TransportUnusable, match="this process was forked"):
                    await call
        assert await bridge.cancel(ticket)


def test_two_that_are_due_at_once_come_in_the_order_of_their_times(backend: str) -> None:
    """Y3: Also if nobody was there meanwhile; they are handed out once there is a worker."""

    async def scenario() -> None:
        transport, handler = MemoryTransport(), Handler()
        async with open_bridge(EventBus(), transport, outgoing=["other"]) as bridge:
            for delay in (30, 10, 20):
                await bridge.schedule(NAME, delay, delay=delay, key="k")
        await sleep(100)
        async with consuming(transport, handler):
            await until(lambda: len(handler.done) == 3)
        assert handler.done == [10, 20, 30]

    play(scenario, backend, schedules=1)


async def test_what_is_scheduled_outside_of_any_event_has_no_cause() -> None:
    """Y2, Y3: It is a root in the worker, too."""
    transport = MemoryTransport()
    bus = EventBus(instruments=[Causality()])
    async with open_bridge(bus, transport, outgoing=[NAME]) as bridge:
        await bridge.schedule(NAME, 1, delay=1000)
    (event,) = await scheduled(transport)
    assert not {"causationid", "correlationid"} & {*event}
