"""Which event caused which: I4."""

import gc
import logging
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

import pytest
from anyio import Event, create_task_group, fail_after, from_thread, to_thread
from anyio.lowlevel import checkpoint

from flexiflow import Component, Engine, EventBus, StateMachine, Transition, events
from flexiflow._bus import DeliveryMode
from flexiflow.extras import causality
from flexiflow.extras.causality import (
    CausalEvent,
    Causality,
    CausalityFilter,
    PublishLoop,
    correlation,
    current_event,
)
from tests.helpers import MODES, PATIENCE, follow, settle

each_mode = pytest.mark.parametrize("mode", MODES)


def traced(**options: Any) -> EventBus:
    """Make a bus with causality."""
    return EventBus(instruments=[Causality()], **options)


async def noted(bus: EventBus, *names: str) -> list[CausalEvent]:
    """Note what the handlers of these events are told, `**` being any event."""
    seen: list[CausalEvent] = []

    async def note(data: object) -> None:
        event = current_event()
        assert event is not None
        # At once: under `raise` a sibling may end this handler while it waits.
        seen.append(event)
        await checkpoint()
        assert current_event() == event

    for name in names or ("**",):
        await bus.subscribe(name, "notes", note, priority=1)
    return seen


def causes_in_memory() -> int:
    """Count what is kept of events."""
    gc.collect()
    return sum(type(each) is causality._Cause for each in gc.get_objects())


def publishing(bus: EventBus, event: str) -> Callable[[object], Any]:
    """Make a handler that publishes."""

    async def handler(data: object) -> None:
        await bus.publish(event)

    return handler


class TestIds:
    """What an event is told of itself."""

    async def test_a_root_is_its_own_origin(self) -> None:
        """I4: an event that nothing caused has no parent, depth 1, and its own correlation."""
        bus = traced()
        seen = await noted(bus)
        await bus.publish("a")
        (event,) = seen
        assert event == CausalEvent(event.id, None, event.id, 1, "a")

    async def test_ids_are_a_random_prefix_and_a_counter(self) -> None:
        """I4: no two events have the same id, of one instrument or of several."""
        buses = [traced(), traced()]
        seen = [await noted(bus) for bus in buses]
        for bus in buses * 2:
            await bus.publish("a")
        ids = [[event.id.split("-") for event in each] for each in seen]
        assert [[number for _, number in each] for each in ids] == [["1", "2"]] * 2
        assert [len({prefix for prefix, _ in each}) for each in ids] == [1, 1]
        assert ids[0][0][0] != ids[1][0][0]

    @each_mode
    async def test_a_nested_event_has_the_outer_one_for_its_parent(
        self, mode: DeliveryMode
    ) -> None:
        """I4: parent, correlation and depth come from the event within which it is published."""
        bus = traced(delivery=mode)
        seen = await noted(bus)
        await bus.subscribe("a", "c", publishing(bus, "b"))
        await bus.subscribe("b", "c", publishing(bus, "c"))
        await bus.publish("a")
        a, b, c = seen
        assert [event.name for event in seen] == ["a", "b", "c"]
        assert b == CausalEvent(b.id, a.id, a.id, 2, "b")
        assert c == CausalEvent(c.id, b.id, a.id, 3, "c")

    async def test_outside_of_any_event_there_is_none(self) -> None:
        """I4: `current_event` is None before, after, and without the instrument."""
        bus, plain = traced(), EventBus()
        seen: list[object] = [current_event()]
        await plain.subscribe("a", "c", lambda data: seen.append(current_event()))
        await plain.publish("a")
        await bus.publish("a")
        assert [*seen, current_event()] == [None] * 3

    async def test_what_is_told_is_frozen(self) -> None:
        """I4: nobody can change what others are told."""
        event = CausalEvent("1", None, "1", 1, "a")
        with pytest.raises(AttributeError):
            event.id = "2"  # type: ignore[misc]

    async def test_a_failure_is_caused_by_the_event_whose_handler_failed(self) -> None:
        """I4: `event.handler.failed` has that event for its parent."""
        bus = traced()
        seen = await noted(bus)
        await bus.subscribe("a", "c", lambda data: 1 / 0)
        await bus.publish("a")
        assert [(each.name, each.parent_id) for each in seen] == [
            ("a", None),
            (events.HANDLER_FAILED, seen[0].id),
        ]

    async def test_a_message_sent_by_a_handler_is_caused_by_its_event(self) -> None:
        """I4: what a component tells was caused by the event that made someone send the message."""
        bus = traced()
        engine = Engine(bus=bus)
        machine = StateMachine(
            "off", [Transition("off", "on", "on"), Transition("on", "off", "off")]
        )
        await engine.register(Component("lamp", machine=machine))
        seen = await noted(bus)

        async def switch(data: object) -> None:
            await engine.send("lamp", {"type": "on"})

        await bus.subscribe("a", "c", switch)
        await bus.publish("a")
        assert [(each.name, each.parent_id) for each in seen] == [
            ("a", None),
            (events.MESSAGE_RECEIVED, seen[0].id),
            (events.STATE_CHANGED, seen[0].id),
        ]


class TestInheritance:
    """What carries the context carries the cause."""

    async def test_another_bus_knows_the_parent(self) -> None:
        """I4: an event on one bus may be caused by one on another."""
        one, two = traced(), traced()
        seen = [await noted(one), await noted(two)]
        await one.subscribe("a", "c", publishing(two, "b"))
        await one.publish("a")
        (a,), (b,) = seen
        assert (b.parent_id, b.correlation_id, b.depth) == (a.id, a.id, 2)

    async def test_a_child_task_knows_the_parent(self) -> None:
        """I4: a task that a handler starts publishes what the event caused."""
        bus = traced()
        seen = await noted(bus)

        async def start(data: object) -> None:
            async with create_task_group() as group:
                group.start_soon(bus.publish, "b")
                group.start_soon(bus.publish, "b")

        await bus.subscribe("a", "c", start)
        await bus.publish("a")
        assert [each.parent_id for each in seen] == [None, seen[0].id, seen[0].id]

    async def test_a_thread_knows_the_parent(self) -> None:
        """I4: so does a thread that a handler runs, and what that publishes in the loop."""
        bus = traced()
        seen = await noted(bus)
        told: list[CausalEvent | None] = []

        def work() -> None:
            told.append(current_event())
            from_thread.run(bus.publish, "b")

        async def hop(data: object) -> None:
            await to_thread.run_sync(work)

        await bus.subscribe("a", "c", hop)
        with fail_after(PATIENCE):
            await bus.publish("a")
        assert told == [seen[0]]
        assert seen[1].parent_id == seen[0].id

    async def test_an_event_that_is_over_still_is_the_cause(self) -> None:
        """I4: a background task publishes what was caused by the event that started it."""
        bus = traced()
        seen = await noted(bus)
        async with create_task_group() as group:

            async def leave_behind(data: object) -> None:
                group.start_soon(bus.publish, "b")

            await bus.subscribe("a", "c", leave_behind)
            await bus.publish("a")
            assert current_event() is None
        assert (seen[1].name, seen[1].parent_id, seen[1].depth) == ("b", seen[0].id, 2)

    async def test_a_chain_of_background_tasks_keeps_no_ancestors(self) -> None:
        """I4: of the events that led to one nothing stays in memory but their ids and names."""
        bus, before = traced(), causes_in_memory()
        seen, found = await noted(bus), list[int]()

        async with create_task_group() as group:

            async def again(data: object) -> None:
                if len(seen) < 40:
                    group.start_soon(bus.publish, "a")
                else:
                    found.append(causes_in_memory() - before)

            await bus.subscribe("a", "c", again)
            await bus.publish("a")
        assert found[0] <= 2

    async def test_what_can_not_be_refused_keeps_a_bounded_chain(self) -> None:
        """I4: events that may go deeper than `max_depth` hold no more names than that."""
        instrument = Causality(max_depth=3)
        bus, depths = EventBus(instruments=[instrument]), list[tuple[int, int]]()

        async def again(data: int) -> None:
            event, cause = current_event(), causality._current.get()
            assert event is not None
            assert cause is not None
            depths.append((event.depth, len(cause.lineage.names)))
            if data:
                await bus.publish(events.STATE_CHANGED, data - 1)

        await bus.subscribe(events.STATE_CHANGED, "c", again)
        assert await bus.publish(events.STATE_CHANGED, 4) == ()
        assert depths == [(1, 0), (2, 1), (3, 2), (4, 3), (5, 3)]


class TestCorrelation:
    """What belongs together."""

    async def test_it_is_set_from_outside_and_inherited(self) -> None:
        """I4: events inside `correlation`, and those that they cause, belong to it; no others."""
        bus = traced()
        seen = await noted(bus)
        await bus.subscribe("a", "c", publishing(bus, "b"))
        with correlation("req-1"):
            await bus.publish("a")
        await bus.publish("c")
        assert [each.correlation_id for each in seen] == ["req-1", "req-1", seen[2].id]

    async def test_the_closest_wins(self) -> None:
        """I4: within a handler it wins over what the handler's event belongs to, until its end."""
        bus = traced()
        seen = await noted(bus)

        async def handler(data: object) -> None:
            with correlation("inner"):
                await bus.publish("b")
            await bus.publish("d")

        await bus.subscribe("a", "c", handler)
        await bus.subscribe("b", "c", publishing(bus, "c"))
        with correlation("outer"):
            await bus.publish("a")
        found = {each.name: each.correlation_id for each in seen}
        assert found == {"a": "outer", "b": "inner", "c": "inner", "d": "outer"}

    async def test_one_can_be_entered_again(self) -> None:
        """I4: one `correlation` may be used several times, within itself too."""
        bus, request = traced(), correlation("req-1")
        seen = await noted(bus)
        with request:
            with request:
                await bus.publish("a")
            await bus.publish("a")
        await bus.publish("a")
        assert [each.correlation_id for each in seen] == ["req-1", "req-1", seen[2].id]

    async def test_several_tasks_can_enter_one(self) -> None:
        """I4: each task leaves it for itself alone, and none by leaving twice."""
        bus, request = traced(), correlation("req-1")
        seen = await noted(bus)
        goes_on = [Event() for _ in range(2)]

        async def enter(number: int) -> None:
            with request:
                await goes_on[number].wait()
            await bus.publish("a")

        with fail_after(PATIENCE):
            async with create_task_group() as group:
                for number in range(2):
                    group.start_soon(enter, number)
                await settle()
                for event in goes_on:
                    event.set()
                    await settle()
        request.__exit__()
        assert [each.correlation_id for each in seen] == [each.id for each in seen]

    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [(3, TypeError, "must be a str, not 3"), ("", ValueError, "must not be empty")],
    )
    async def test_what_is_no_id_is_refused(
        self, given: Any, error: type[Exception], message: str
    ) -> None:
        """I4: a correlation id that is no str, or empty, fails where it is given."""
        with pytest.raises(error, match=message):
            correlation(given)


class TestLoops:
    """The guard."""

    @each_mode
    async def test_a_chain_that_is_too_deep_is_refused(self, mode: DeliveryMode) -> None:
        """I4: the event that would exceed `max_depth` raises `PublishLoop` with the names."""
        bus = EventBus(delivery=mode, on_error="raise", instruments=[Causality(max_depth=4)])
        seen = await noted(bus)
        await bus.subscribe("a", "c", publishing(bus, "b"))
        await bus.subscribe("b", "c", publishing(bus, "a"))
        with pytest.raises(PublishLoop) as caught:
            await bus.publish("a")
        assert [each.depth for each in seen] == [1, 2, 3, 4]
        assert caught.value.chain == ("a", "b", "a", "b", "a")
        assert caught.value.max_depth == 4
        assert str(caught.value) == (
            "events that cause each other go deeper than 4: a -> b -> a -> b -> a; "
            "end the loop, or give Causality a higher max_depth"
        )

    async def test_the_limit_is_100_and_its_chain_is_shortened(self) -> None:
        """I4: unless told otherwise 100 events may follow each other; a message shows the ends."""
        bus = traced(on_error="raise")
        seen = await noted(bus, "a")
        await bus.subscribe("a", "c", publishing(bus, "a"))
        with pytest.raises(PublishLoop) as caught:
            await bus.publish("a")
        assert len(seen) == 100
        assert "a -> a -> a -> a -> a -> (91 more) -> a -> a -> a -> a -> a;" in str(caught.value)

    async def test_one_that_is_left_out_is_shown_instead(self) -> None:
        """I4: a chain is shortened only where that makes it shorter."""
        names = tuple("abcdefghijk")
        assert " -> ".join(names) in str(PublishLoop(names, 10))
        assert "e -> (2 more) -> h" in str(PublishLoop((*names, "l"), 11))

    async def test_a_depth_of_1_allows_roots_only(self) -> None:
        """I4: with `max_depth=1` nothing may be published within an event."""
        bus = EventBus(instruments=[Causality(max_depth=1)])
        await bus.subscribe("a", "c", publishing(bus, "b"))
        (failed,) = await bus.publish("a")
        assert isinstance(failed.exception, PublishLoop)

    async def test_background_tasks_count(self) -> None:
        """I4: a chain that goes on in background tasks is as deep as any; a new context ends it."""
        bus, refused = EventBus(instruments=[Causality(max_depth=5)]), list[str]()
        seen = await noted(bus)

        async def publish() -> None:
            try:
                await bus.publish("a")
            except PublishLoop as exc:
                refused.append(str(exc))

        async with create_task_group() as group:

            async def again(data: object) -> None:
                group.start_soon(publish)

            await bus.subscribe("a", "c", again)
            await bus.publish("a")
        assert (len(seen), len(refused)) == (5, 1)

    async def test_what_has_happened_is_never_refused(self) -> None:
        """I4: what can't be refused is told at any depth, and keeps its place in the chain."""
        bus = EventBus(instruments=[Causality(max_depth=1)])
        seen = await noted(bus, events.HANDLER_FAILED)
        heard = await follow(bus, "heard", event=events.HANDLER_FAILED)
        await bus.subscribe("a", "c", lambda data: 1 / 0)
        await bus.publish("a")
        assert ([each.depth for each in seen], heard) == ([2], ["heard"])

    @pytest.mark.parametrize("depth", [0, -1, True, 2.5, "3", None])
    async def test_a_depth_that_is_none_is_refused(self, depth: Any) -> None:
        """I4: `max_depth` is an int of 1 or more."""
        with pytest.raises(ValueError, match="max_depth must be an int, 1 or more, not"):
            Causality(max_depth=depth)


class TestLogging:
    """The filter."""

    def record(self) -> Any:
        """Filter a new record."""
        record = logging.LogRecord("any", logging.INFO, "here", 1, "text", (), None)
        assert CausalityFilter().filter(record)
        return record

    async def test_records_have_the_ids(self) -> None:
        """I4: what is logged within an event has its ids."""
        bus = traced()
        seen, records = await noted(bus), list[Any]()
        await bus.subscribe("b", "c", lambda data: records.append(self.record()))
        await bus.subscribe("a", "c", publishing(bus, "b"))
        await bus.publish("a")
        (record,), (a, b) = records, seen
        assert (record.event_id, record.parent_id, record.correlation_id) == (b.id, a.id, a.id)

    async def test_records_of_a_root_have_no_parent(self) -> None:
        """I4: what is logged within a root has an empty `parent_id`."""
        bus, records = traced(), list[Any]()
        await bus.subscribe("a", "c", lambda data: records.append(self.record()))
        await bus.publish("a")
        assert records[0].parent_id == ""
        assert records[0].event_id == records[0].correlation_id != ""

    async def test_outside_of_events_they_are_empty(self) -> None:
        """I4: no record is dropped, and none lacks the attributes, so that any format works."""
        record = self.record()
        assert (record.event_id, record.parent_id, record.correlation_id) == ("", "", "")

    async def test_a_correlation_is_there_before_any_event(self) -> None:
        """I4: inside `correlation` a record has it, also outside of events."""
        with correlation("req-1"):
            record = self.record()
        assert (record.event_id, record.correlation_id) == ("", "req-1")

    async def test_the_bus_own_records_have_them(self, caplog: pytest.LogCaptureFixture) -> None:
        """I4: so a failure that is logged tells which event it was."""
        bus = traced()
        caplog.handler.addFilter(it := CausalityFilter())
        try:
            seen = await noted(bus, "a")
            await bus.subscribe("a", "c", lambda data: 1 / 0)
            await bus.publish("a")
        finally:
            caplog.handler.removeFilter(it)
        (record,) = caplog.records
        assert vars(record)["event_id"] == seen[0].id


async def test_a_fresh_context_begins_anew() -> None:
    """I4: a task in a context of its own publishes roots."""
    assert Context().run(current_event) is copy_context().run(current_event) is None
