"""Publishing from other threads."""

import threading
from functools import partial
from typing import Any

import pytest
from anyio import fail_after, from_thread, to_thread

from flexiflow import EventBus
from tests.helpers import PATIENCE
from tests.streams.streaming import EVENT, meanwhile, read, waiting


class Notes:
    """What handlers were given, and in which threads they ran."""

    def __init__(self) -> None:
        self.given: list[object] = []
        self.threads: set[int] = set()

    async def handle(self, data: object) -> None:
        """Note an event, or fail."""
        self.threads.add(threading.get_ident())
        self.given.append(data)
        if data == "bad":
            raise ZeroDivisionError


async def test_a_worker_thread_publishes() -> None:
    """B1: Through `anyio.from_thread` handlers run in the loop's thread, before it goes on."""
    bus, notes = EventBus(), Notes()
    await bus.subscribe(EVENT, "c", notes.handle)

    def work() -> list[int]:
        failures: list[int] = []
        for number, data in enumerate(("good", "bad", "last"), start=1):
            failures.append(len(from_thread.run(bus.publish, EVENT, data)))
            assert len(notes.given) == number
        with pytest.raises(ZeroDivisionError):
            from_thread.run(partial(bus.publish, EVENT, "bad", on_error="raise"))
        return failures

    with fail_after(PATIENCE):
        assert await to_thread.run_sync(work) == [0, 1, 0]
    assert notes.given == ["good", "bad", "last", "bad"]
    assert notes.threads == {threading.get_ident()}


async def test_any_thread_publishes_through_a_portal() -> None:
    """B1: So does a thread that knows nothing of the loop."""
    bus, notes, failed = EventBus(), Notes(), list[Any]()
    await bus.subscribe(EVENT, "c", notes.handle)

    def work(portal: from_thread.BlockingPortal) -> None:
        failed.extend(portal.call(bus.publish, EVENT, "bad"))

    with fail_after(PATIENCE):
        async with from_thread.BlockingPortal() as portal:
            thread = threading.Thread(target=work, args=(portal,))
            thread.start()
            await to_thread.run_sync(thread.join)
    assert (notes.given, notes.threads, len(failed)) == (["bad"], {threading.get_ident()}, 1)


async def test_a_thread_waits_for_room_in_a_stream() -> None:
    """B1, S2: Backpressure reaches a publisher in another thread."""
    bus, seen = EventBus(), list[Any]()

    def work() -> None:
        for data in range(10):
            assert from_thread.run(bus.publish, EVENT, data) == ()
            assert from_thread.run_sync(waiting, events)[0] == 0

    async def consume() -> None:
        seen.extend(await read(events, 10))

    with fail_after(PATIENCE):
        async with bus.stream(EVENT, buffer=1) as events, meanwhile(consume):
            await to_thread.run_sync(work)
    assert seen == [*range(10)]


def test_a_program_without_a_loop_publishes(
    backend_name: str, backend_options: dict[str, Any]
) -> None:
    """B1: The bus needs no loop of its own, and serves one in another thread."""
    bus, notes = EventBus(), Notes()
    for _ in range(2):
        with from_thread.start_blocking_portal(backend_name, backend_options) as portal:
            subscription = portal.call(bus.subscribe, EVENT, "c", notes.handle)
            portal.call(bus.publish, EVENT, 1)
            assert portal.call(bus.unsubscribe, subscription)
    assert notes.given == [1, 1]
