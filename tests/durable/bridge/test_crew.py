"""The tasks in which stored events are handled, and the lanes before them: D1, E6, X4."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any
from weakref import ref

import pytest
from anyio import CancelScope, Event, create_task_group, get_current_task
from anyio.lowlevel import checkpoint

from flexiflow import EventBus, HandlerCancelled
from flexiflow.extras.durable import MemoryTransport, Schema, open_bridge
from flexiflow.extras.durable._bridge.lanes import Lanes, Queue
from tests.conftest import Backend
from tests.durable.bridge.helpers import (
    GROUP,
    NAME,
    Handler,
    Pickle,
    consuming,
    pending,
    play,
    put,
    until,
)
from tests.hosting import styles

ours: ContextVar[str] = ContextVar("ours", default="untouched")


class Payload:
    """A payload that can be referred to weakly."""


class Item:
    """What waits in a lane."""

    def __init__(
        self,
        name: str,
        key: str | None = None,
        *,
        is_suspect: bool = False,
        has_waited: bool = False,
    ) -> None:
        self.name = name
        self.key = key
        self.is_suspect = is_suspect
        self.has_waited = has_waited


def taken(queue: Queue[Item]) -> list[str]:
    """Take all that may go."""
    return [each.name for each in iter(queue.take, None)]


class TestLanes:
    """Plain data."""

    def test_without_a_key_all_may_go(self) -> None:
        """X4: In the order in which they came."""
        queue = Queue[Item]()
        lanes = Lanes(queue)
        for name in "abc":
            lanes.enter(Item(name))
        assert bool(queue)
        assert taken(queue) == ["a", "b", "c"]
        assert not queue

    def test_one_of_a_key_may_go(self) -> None:
        """X4: The next one when that has ended, and nothing is kept of a key that is through."""
        queue = Queue[Item]()
        lanes = Lanes(queue)
        items = [Item(f"{key}{number}", key) for number in range(3) for key in "ab"]
        for each in items:
            lanes.enter(each)
        assert taken(queue) == ["a0", "b0"]
        lanes.leave(items[1])
        lanes.leave(items[0])
        assert taken(queue) == ["b1", "a1"]
        for each in items[2:]:
            lanes.leave(each)
        assert taken(queue) == ["a2", "b2"]
        assert not lanes._behind

    def test_a_suspect_goes_alone(self) -> None:
        """X3: Before all others, when those that are out are back, and nothing goes until it is."""
        queue = Queue[Item]()
        lanes = Lanes(queue)
        for name in "ab":
            lanes.enter(Item(name))
        assert taken(queue) == ["a", "b"]
        for name in "cd":
            lanes.enter(Item(name, is_suspect=True))
        lanes.enter(Item("e"))
        queue.back(was_suspect=False)
        assert not queue
        assert queue.is_held_up
        queue.back(was_suspect=False)
        for name in "cde":
            assert bool(queue)
            assert taken(queue) == [name]
            assert not queue
            queue.back(was_suspect=name in "cd")
        assert not queue.is_held_up

    def test_a_suspect_goes_with_others_where_they_waited_for_too_long(self) -> None:
        """X3: But not with a second one; and the next one is alone again."""
        queue = Queue[Item]()
        for name in "abcd":
            queue.put(Item(name, is_suspect=name in "ab"))
        assert taken(queue) == ["a"]
        queue.relent(queue.turn - 1)
        assert queue.is_held_up
        queue.relent(queue.turn)
        assert taken(queue) == ["c", "d"]
        queue.back(was_suspect=True)
        assert not queue
        queue.relent(queue.turn)
        assert taken(queue) == ["b"]

    def test_what_is_discarded_does_not_go(self) -> None:
        """X4: Suspects and others."""
        queue = Queue[Item]()
        lanes = Lanes(queue)
        for name in "abcd":
            lanes.enter(Item(name, name, is_suspect=name in "ab"))
        queue.discard(lambda each: each.name in "ac")
        lanes.clear()
        assert taken(queue) == ["b"]
        queue.back(was_suspect=True)
        assert taken(queue) == ["d"]

    def test_what_comes_after_those_that_are_away_has_to_go_there_too(self) -> None:
        """X12: Until they are back; what comes from there goes through, one at a time."""
        queue = Queue[Item]()
        lanes = Lanes(queue, away=["k"])
        first, second = (Item(name, "k", has_waited=True) for name in "ab")
        assert not lanes.enter(Item("c", "k"))
        assert lanes.enter(Item("d", "l"))
        assert lanes.enter(first)
        assert lanes.enter(second)
        assert not lanes.enter(Item("e", "k"))
        assert taken(queue) == ["a", "d"]
        lanes.leave(first)
        assert taken(queue) == ["b"]
        lanes.leave(second)
        lanes.are_back("k")
        assert lanes.enter(Item("f", "k"))
        assert taken(queue) == ["f"]

    def test_those_behind_one_that_is_sent_away_go_with_it(self) -> None:
        """X12: In order; and those that come after them, too."""
        queue = Queue[Item]()
        lanes = Lanes(queue)
        items = [Item(f"a{number}", "a") for number in range(3)]
        for each in items:
            lanes.enter(each)
        assert taken(queue) == ["a0"]
        assert lanes.send_away(items[0]) == items[1:]
        assert not lanes.enter(Item("a3", "a"))
        assert lanes.send_away(Item("b")) == []
        assert lanes.send_away(Item("c0", "c")) == []

    def test_one_that_waits_for_others_is_forgotten_where_it_waits(self) -> None:
        """X11: What is another's by now is taken out, and the one after it follows."""
        queue = Queue[Item]()
        lanes = Lanes(queue)
        items = [Item(f"a{number}", "a") for number in range(3)]
        for each in items:
            lanes.enter(each)
        assert not lanes.forget(items[0])
        assert lanes.forget(items[1])
        assert not lanes.forget(items[1])
        assert not lanes.forget(Item("b"))
        lanes.leave(items[0])
        assert taken(queue) == ["a0", "a2"]

    def test_what_has_waited_goes_after_the_others(self) -> None:
        """X12: Or as every eighth, and only so many at once."""
        queue = Queue[Item](most_again=2)
        for number in range(4):
            queue.put(Item(f"w{number}", has_waited=True))
        for number in range(9):
            queue.put(Item(f"n{number}"))
        names = [queue.take() for _ in range(11)]
        assert [each.name for each in names if each] == [
            *("w0", *(f"n{number}" for number in range(7)), "w1", "n7", "n8")
        ]
        assert not queue
        assert not queue.is_held_up
        queue.back(was_suspect=False)
        assert not queue
        queue.back(was_suspect=False, has_waited=True)
        assert taken(queue) == ["w2"]
        queue.discard(lambda each: each.name == "w3")
        queue.back(was_suspect=False, has_waited=True)
        assert not queue

    def test_a_suspect_that_has_waited_is_a_suspect(self) -> None:
        """X3: It goes alone, and is not counted among those that have waited."""
        queue = Queue[Item](most_again=1)
        queue.put(Item("s", is_suspect=True, has_waited=True))
        queue.put(Item("w", has_waited=True))
        assert taken(queue) == ["s"]
        assert queue.is_held_up
        queue.back(was_suspect=True, has_waited=True)
        assert taken(queue) == ["w"]


def unsettling(change: Callable[[], object]) -> tuple[Callable[[Any], Any], list[Any]]:
    """Make a handler that does something to its task, and notes how it found that."""
    found: list[Any] = []

    async def handler(data: object) -> None:
        found.append((data, ours.get(), get_current_task().id))
        if data == 0:
            change()
        await checkpoint()

    return handler, found


class TestTasks:
    """What one event leaves behind, the next does not find."""

    async def test_a_context_that_was_changed_is_not_used_again(self) -> None:
        """D1: Each event is handled in the context in which the bridge was opened."""
        transport = MemoryTransport()
        handler, found = unsettling(lambda: ours.set("changed"))
        await put(transport, *range(3))
        token = ours.set("as it was")
        async with consuming(transport, handler, limit=1) as bridge:
            ours.reset(token)
            await until(lambda: bridge.statistics().acknowledged == 3)
        assert [each[:2] for each in found] == [(n, "as it was") for n in range(3)]
        assert found[0][2] != found[1][2] == found[2][2]

    async def test_a_value_that_was_replaced_is_not_used_again(self) -> None:
        """D1: An equal but different object would be another's."""
        transport = MemoryTransport()
        handler, found = unsettling(lambda: ours.set(str(b"as it was", "ascii")))
        await put(transport, *range(2))
        token = ours.set("as it was")
        async with consuming(transport, handler, limit=1) as bridge:
            await until(lambda: bridge.statistics().acknowledged == 2)
        ours.reset(token)
        assert found[0][2] != found[1][2]

    async def test_a_task_keeps_nothing_of_the_events_that_it_has_handled(self) -> None:
        """B6: A payload can be freed once it was handled, also while the task handles another."""
        transport, payloads = MemoryTransport(), list[ref[Payload]]()

        async def handler(data: Payload) -> None:
            await checkpoint()
            assert [each() for each in payloads if each() is not None] == []
            payloads.append(ref(data))

        bus, codec = EventBus(), Pickle()
        async with open_bridge(bus, transport, outgoing=[NAME], codec=codec):
            for _ in range(3):
                assert await bus.publish(NAME, Payload()) == ()
        async with consuming(transport, handler, codec=codec, limit=1) as bridge:
            await until(lambda: bridge.statistics().acknowledged == 3)
            assert [each() for each in payloads] == [None, None, None]
            assert bridge.statistics().failed == 0

    @pytest.mark.measured
    @pytest.mark.parametrize("waits", [True, False])
    async def test_a_native_cancel_is_a_failure_of_its_event(
        self,
        waits: bool,
        anyio_backend: Backend,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """E6: It costs an attempt, and neither the bridge nor another event anything."""
        if "native" not in styles(anyio_backend):
            pytest.skip("only asyncio has a cancellation of its own")
        transport, begun = MemoryTransport(), list[Any]()

        async def handler(data: object) -> None:
            begun.append(data)
            if begun.count(0) == 1 and data == 0:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                if waits:
                    await checkpoint()

        await put(transport, *range(3))
        async with consuming(transport, handler, limit=1) as bridge:
            await until(lambda: bridge.statistics().acknowledged == 3)
            assert bridge.statistics().failed == 1
        assert sorted(begun) == [0, 0, 1, 2]
        (warning,) = [each for each in caplog.records if each.levelname == "WARNING"]
        assert "a cancellation left the handling of the stored event 'order.placed'" in str(
            warning.getMessage()
        )

    @pytest.mark.measured
    async def test_a_handler_that_awaits_what_others_cancelled_has_failed(
        self, anyio_backend: Backend
    ) -> None:
        """E6: As the bus judges it."""
        if "native" not in styles(anyio_backend):
            pytest.skip("only asyncio has a cancellation of its own")
        transport = MemoryTransport()

        async def handler(data: object) -> None:
            task = asyncio.ensure_future(asyncio.sleep(1000))
            task.cancel()
            await task

        await put(transport, 1)
        async with consuming(transport, handler, max_attempts=1) as bridge:
            await until(lambda: bridge.statistics().dead)
            (letter,) = await bridge.dead_letters()
        assert letter.failure.type.endswith(HandlerCancelled.__name__)

    @pytest.mark.parametrize(
        ("other", "leaving"), [(ValueError(), None), (GeneratorExit(), GeneratorExit)]
    )
    async def test_a_group_of_cancellations_out_of_decode_leaves_nothing_held(
        self, anyio_backend: Backend, other: BaseException, leaving: type[BaseException] | None
    ) -> None:
        """Y1, E6: It is a failed attempt, or ends the bridge if it holds an interrupt."""
        if "native" not in styles(anyio_backend):
            pytest.skip("only asyncio has a cancellation of its own")
        transport = MemoryTransport()

        def decode(data: Any) -> Any:
            raise BaseExceptionGroup("strays", [asyncio.CancelledError(), other])

        schema = Schema[Any](NAME, encode=lambda data: data, decode=decode)
        await put(transport, 1)
        options: dict[str, Any] = {"max_attempts": 1, "schemas": [schema]}
        with pytest.raises(leaving) if leaving else nullcontext():
            async with consuming(transport, Handler(), **options) as bridge:
                await until(lambda: bridge.statistics().dead)
        assert bool(leaving) == bool(pending(transport))

    @pytest.mark.unmeasured
    def test_those_who_wait_let_others_begin(self, backend: str) -> None:
        """X4: Handlers that wait for each other all run, under every schedule."""

        async def scenario() -> None:
            transport, bus, together = MemoryTransport(), EventBus(), Event()
            begun: list[object] = []

            async def handler(data: object) -> None:
                begun.append(data)
                if len(begun) == 5:
                    together.set()
                await together.wait()

            await bus.subscribe(NAME, "c", handler)
            await put(transport, *range(5))
            async with open_bridge(bus, transport, incoming=[NAME], group=GROUP, limit=5) as bridge:
                await until(lambda: bridge.statistics().acknowledged == 5)

        play(scenario, backend, schedules=30)

    async def test_a_handler_has_the_scopes_that_it_opens(self) -> None:
        """E5: A handler that is cancelled by a scope of its own has succeeded."""
        transport = MemoryTransport()

        async def handler(data: object) -> None:
            with CancelScope() as scope:
                scope.cancel()
                await checkpoint()
            async with create_task_group() as group:
                group.start_soon(checkpoint)
                group.start_soon(checkpoint)

        await put(transport, 1, 2)
        async with consuming(transport, handler) as bridge:
            await until(lambda: bridge.statistics().acknowledged == 2)
            assert bridge.statistics().failed == 0
