"""What handlers that run at once see of each other's context and task: D2."""

from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import pytest
from anyio import Event, create_task_group, fail_after
from anyio.lowlevel import checkpoint

from flexiflow import EventBus, HandlerCancelled
from flexiflow._bus import DeliveryMode
from flexiflow.events import HANDLER_FAILED
from tests.helpers import PATIENCE, never

at_once = pytest.mark.parametrize("mode", ["concurrent", "tiered"])

GIVEN: ContextVar[object] = ContextVar("GIVEN")
UNSET: ContextVar[object] = ContextVar("UNSET", default=None)

Snapshot = dict[int, int]


class Equal:
    """Equal to everything."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True


class Incomparable:
    """Can be compared with nothing, and has no truth either."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    def __bool__(self) -> bool:
        raise AssertionError


each_value = pytest.mark.parametrize("make", [object, Equal, Incomparable])


def snapshot() -> Snapshot:
    """Describe the context by identity."""
    return {id(variable): id(value) for variable, value in copy_context().items()}


class Watch:
    """Handlers that note what context they begin in, and then change it.

    Attributes:
        seen: the contexts in which handlers began.
    """

    def __init__(self, make: Callable[[], object]) -> None:
        self.seen: list[Snapshot] = []
        self._make = make

    def sync(self, data: object) -> None:
        """Replace one variable, and set another."""
        self.seen.append(snapshot())
        GIVEN.set(self._make())
        UNSET.set(self._make())

    async def waits_later(self, data: object) -> None:
        """Change the context, and then wait."""
        self.sync(data)
        await checkpoint()

    async def waits_first(self, data: object) -> None:
        """Wait, and then change the context."""
        await checkpoint()
        self.sync(data)

    async def replaces(self, data: object) -> None:
        """Replace a variable that the publisher has set."""
        self.seen.append(snapshot())
        GIVEN.set(self._make())

    async def adds(self, data: object) -> None:
        """Set a variable that nobody has set, to its default."""
        self.seen.append(snapshot())
        UNSET.set(None)

    async def swaps(self, data: object) -> None:
        """Restore a variable, and leave another in its stead: as many are set as before."""
        self.seen.append(snapshot())
        token = UNSET.set(self._make())
        UNSET.reset(token)
        GIVEN.set(self._make())

    async def restores(self, data: object) -> None:
        """Leave the context as it was."""
        self.seen.append(snapshot())
        tokens = [(variable, variable.set(self._make())) for variable in (GIVEN, UNSET)]
        await checkpoint()
        for variable, token in tokens:
            variable.reset(token)


HANDLERS = ["sync", "waits_later", "waits_first", "replaces", "adds", "swaps", "restores"]


@pytest.mark.unmeasured
@at_once
@each_value
@pytest.mark.parametrize("name", HANDLERS)
async def test_what_a_handler_sets_nobody_else_sees(
    name: str, make: Callable[[], object], mode: DeliveryMode
) -> None:
    """D2: neither other handlers nor the publisher, one handler or many, waiting or not."""
    GIVEN.set(make())
    before = snapshot()
    for number in (1, 2, 20):
        bus = EventBus(delivery=mode)
        watch = Watch(make)
        for _ in range(number):
            await bus.subscribe("a", "c", getattr(watch, name))
        assert await bus.publish("a") == ()
        assert watch.seen == [before] * number
        assert snapshot() == before


@at_once
async def test_handlers_of_all_kinds_are_isolated_from_each_other(mode: DeliveryMode) -> None:
    """D2: whatever was left behind in a task, no later handler begins in it."""
    bus = EventBus(delivery=mode)
    GIVEN.set(Equal())
    watch = Watch(Equal)
    for place in range(70):
        await bus.subscribe("a", "c", getattr(watch, HANDLERS[place * 3 % 7]))
        await bus.subscribe("a", "c", lambda data: watch.seen.append(snapshot()))
    before = snapshot()
    await bus.publish("a")
    assert watch.seen == [before] * 140


@at_once
async def test_a_variable_that_one_handler_adds_no_other_sees(
    mode: DeliveryMode,
) -> None:
    """D2: a variable more is noticed, wherever among the others a context keeps it."""
    bus = EventBus(delivery=mode)
    watch = Watch(object)

    def add(variable: ContextVar[object], data: object) -> None:
        watch.seen.append(snapshot())
        variable.set(None)

    for place in range(50):
        await bus.subscribe("a", "c", partial(add, ContextVar(f"OWN_{place}")))
    before = snapshot()
    await bus.publish("a")
    assert watch.seen == [before] * 50


@at_once
async def test_handlers_see_what_the_publisher_set(mode: DeliveryMode) -> None:
    """D2: the same object, as it was set last, also in a task of the publisher's."""
    bus = EventBus(delivery=mode)
    seen: list[object] = []

    async def look(data: object) -> None:
        seen.append(GIVEN.get())
        await checkpoint()
        seen.append(GIVEN.get())

    async def publish(value: object) -> None:
        GIVEN.set(never)
        GIVEN.set(value)
        await bus.publish("a")

    for _ in range(3):
        await bus.subscribe("a", "c", look)
    values = [object(), object()]
    GIVEN.set(values[0])
    async with create_task_group() as group:
        group.start_soon(publish, values[1])
        await bus.publish("a")
    assert [seen.count(value) for value in values] == [6, 6]
    assert GIVEN.get() is values[0]


@at_once
@each_value
async def test_what_a_filter_sets_its_own_handler_alone_sees(
    make: Callable[[], object], mode: DeliveryMode
) -> None:
    """D2: a filter runs in its handler's context, whether it starts the handler or not."""
    bus = EventBus(delivery=mode)
    GIVEN.set(make())
    watch = Watch(make)
    values = [make() for _ in range(8)]
    seen: list[bool] = []

    def ask(place: int, event_name: str, data: object) -> bool:
        watch.seen.append(snapshot())
        GIVEN.set(values[place])
        return place % 2 == 0

    def look(place: int, data: object) -> None:
        seen.append(GIVEN.get() is values[place])

    for place in range(8):
        await bus.subscribe("a", "c", partial(look, place), filter=partial(ask, place))
        await bus.subscribe("a", "c", lambda data: watch.seen.append(snapshot()))
    before = snapshot()
    await bus.publish("a")
    assert watch.seen == [before] * 16
    assert seen == [True] * 4
    assert snapshot() == before


@at_once
async def test_what_an_observer_of_a_failure_sets_no_handler_sees(mode: DeliveryMode) -> None:
    """D2: it runs in the failing handler's task, which no later handler then gets."""
    bus = EventBus(delivery=mode)
    GIVEN.set(object())
    watch = Watch(object)

    def fail(data: object) -> None:
        watch.seen.append(snapshot())
        raise LookupError

    await bus.subscribe(HANDLER_FAILED, "c", lambda data: GIVEN.set(object()))
    for _ in range(5):
        await bus.subscribe("a", "c", fail)
    before = snapshot()
    assert len(await bus.publish("a")) == 5
    assert watch.seen == [before] * 5
    assert snapshot() == before


@at_once
async def test_a_publish_within_is_isolated_as_well(mode: DeliveryMode) -> None:
    """D2: inner handlers see what the outer one set, and it sees nothing of theirs."""
    bus = EventBus(delivery=mode)
    seen: list[bool] = []

    async def outer(data: object) -> None:
        own = object()
        GIVEN.set(own)
        await bus.publish("b", own)
        seen.append(GIVEN.get() is own)

    def inner(own: object) -> None:
        seen.append(GIVEN.get() is own)
        GIVEN.set(object())

    for _ in range(3):
        await bus.subscribe("a", "c", outer)
        await bus.subscribe("b", "c", inner)
    await bus.publish("a")
    assert seen == [True] * 12


@at_once
async def test_handlers_run_in_contexts_of_their_own_while_they_wait(mode: DeliveryMode) -> None:
    """D2: what was set before a wait is there after it, whatever others set meanwhile."""
    bus = EventBus(delivery=mode)
    all_set = Event()
    kept: list[bool] = []

    async def keep(place: int, data: object) -> None:
        own = object()
        GIVEN.set(own)
        if place == 9:
            all_set.set()
        await all_set.wait()
        kept.append(GIVEN.get() is own)

    for place in range(10):
        await bus.subscribe("a", "c", partial(keep, place))
    with fail_after(PATIENCE):
        await bus.publish("a")
    assert kept == [True] * 10


@pytest.fixture
def asyncio_only(backend_name: str) -> None:
    """Skip the test where tasks can't be cancelled natively."""
    if backend_name != "asyncio":
        pytest.skip("only asyncio has tasks that can be cancelled natively")


def own_task() -> Any:
    """Return the current task of asyncio."""
    import asyncio  # noqa: PLC0415  the backend under test

    return asyncio.current_task()


async def cancel_and_swallow(data: object) -> None:
    """Leave the task with a request that was never taken back."""
    import asyncio  # noqa: PLC0415  the backend under test

    own_task().cancel()
    with suppress(asyncio.CancelledError):
        await checkpoint()


async def cancel_and_return(data: object) -> None:
    """Leave the task with a request that is still pending."""
    own_task().cancel()


def cancel_at_once(data: object) -> None:
    """Leave the task with a request that is still pending, without having waited."""
    own_task().cancel()


@pytest.mark.usefixtures("asyncio_only")
@at_once
@pytest.mark.parametrize(
    ("culprit", "failed"),
    [(cancel_and_swallow, 0), (cancel_and_return, 1), (cancel_at_once, 1)],
)
async def test_no_handler_gets_a_task_with_a_pending_cancel(
    culprit: Callable[[object], object], failed: int, mode: DeliveryMode
) -> None:
    """D2: a native cancel strikes the handler whose task it was meant for, and nobody else."""
    bus = EventBus(delivery=mode)
    requests: list[int] = []

    async def look(data: object) -> None:
        requests.append(own_task().cancelling())
        await checkpoint()
        requests.append(own_task().cancelling())

    for _ in range(4):
        await bus.subscribe("a", "culprit", culprit)
        await bus.subscribe("a", "c", look)
        await bus.subscribe("a", "c", lambda data: requests.append(own_task().cancelling()))
    failures = await bus.publish("a")
    assert requests == [0] * 12
    assert [type(each.exception) for each in failures] == [HandlerCancelled] * failed * 4
    assert own_task().cancelling() == 0
    await checkpoint()


@pytest.mark.usefixtures("asyncio_only")
@at_once
async def test_an_observer_may_leave_a_pending_cancel_behind(mode: DeliveryMode) -> None:
    """D2: a native cancel that an observer of a failure asks for strikes no other handler."""
    bus = EventBus(delivery=mode)
    ended: list[int] = []

    def fail(data: object) -> None:
        raise LookupError

    async def wait(place: int, data: object) -> None:
        for _ in range(5):
            await checkpoint()
        ended.append(place)

    await bus.subscribe(HANDLER_FAILED, "c", cancel_at_once)
    for place in range(4):
        await bus.subscribe("a", "c", partial(wait, place))
        await bus.subscribe("a", "c", fail)
    assert len(await bus.publish("a")) == 4
    assert sorted(ended) == [0, 1, 2, 3]


@at_once
async def test_an_unhashable_value_of_a_variable_is_no_obstacle(mode: DeliveryMode) -> None:
    """D2: contexts are compared without asking their values anything."""
    bus = EventBus(delivery=mode)
    seen: list[object] = []
    GIVEN.set([Incomparable()])
    for _ in range(3):
        await bus.subscribe("a", "c", lambda data: seen.append(GIVEN.get()))
    assert await bus.publish("a") == ()
    assert all(each is GIVEN.get() for each in seen)
    assert len(seen) == 3
