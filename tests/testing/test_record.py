"""Recording: what is collected, in which order, and that nothing is left behind."""

import pytest
from anyio.lowlevel import checkpoint

from flexiflow import EventBus, Topic
from flexiflow._bus import DeliveryMode
from flexiflow.testing import RecordedEvent, record
from tests.helpers import MODES


async def fail(data: object) -> None:
    """Fail as a handler."""
    raise LookupError(data)


@pytest.mark.parametrize("mode", MODES)
async def test_events_and_failures_are_recorded(mode: DeliveryMode) -> None:
    """P4: each event with its payload, heard or not, and each failure apart from them."""
    bus = EventBus(delivery=mode)
    order = {"id": 7}
    await bus.subscribe("order.placed", "billing", fail)
    async with record(bus) as recorded:
        await bus.publish("order.placed", order)
        await bus.publish("nobody.listens")
    assert recorded.events == [("order.placed", order), RecordedEvent("nobody.listens", None)]
    assert recorded.events[0].data is order
    [failure] = recorded.failures
    assert (failure["event_name"], failure["component_name"]) == ("order.placed", "billing")
    assert isinstance(failure["exception"], LookupError)
    assert repr(recorded).startswith("Recorded(events=[RecordedEvent(name='order.placed'")


async def test_events_are_equal_to_what_a_stream_gives() -> None:
    """P4: a recorded event and an event of a stream are the same pair, topic or name."""
    bus = EventBus()
    async with record(bus) as recorded, bus.stream("**") as events:
        await bus.publish(Topic[int]("order.placed"), 7)
        event = await anext(events)
    assert [*map(tuple, recorded.events)] == [tuple(event)]


async def test_nested_events_come_after_the_one_that_caused_them() -> None:
    """P4: the recorder sees an event before a handler of the default priority does."""
    bus = EventBus()

    async def ship(data: object) -> None:
        await checkpoint()
        await bus.publish("order.shipped")

    await bus.subscribe("order.paid", "stock", ship)
    async with record(bus) as recorded:
        await bus.publish("order.paid")
    assert [event.name for event in recorded.events] == ["order.paid", "order.shipped"]


async def test_recording_leaves_no_subscription() -> None:
    """P4: on exit, however it comes, the bus is as before, and no more is recorded."""
    bus = EventBus()
    recording = record(bus)
    recorded = await recording.__aenter__()
    assert len(list(bus.subscriptions())) == 1
    error = LookupError()
    assert not await recording.__aexit__(LookupError, error, None)
    assert list(bus.subscriptions()) == []
    await bus.publish("order.placed")
    assert (recorded.events, recorded.failures) == ([], [])


async def test_recorders_do_not_disturb_each_other() -> None:
    """P4: two recorders see the same, and none keeps a failure from being returned."""
    bus = EventBus()
    await bus.subscribe("a", "c", fail)
    async with record(bus) as one, record(bus) as other:
        failures = await bus.publish("a")
    assert len(failures) == 1
    assert (one.events, one.failures) == (other.events, other.failures)


async def test_a_recorder_handles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: it only looks on, so that no handler of its own is ever called."""
    called: list[object] = []
    monkeypatch.setattr("flexiflow.testing._record._never_called", called.append)
    bus = EventBus()
    async with record(bus) as recorded:
        await bus.publish("a", 1)
    assert (recorded.events, called) == ([("a", 1)], [])
