"""Publishing in the background: B15."""

import gc
import logging
import weakref
from contextlib import AbstractContextManager, suppress
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from anyio import CancelScope, create_task_group, fail_after, sleep_forever
from anyio.lowlevel import checkpoint

from flexiflow import (
    BufferFull,
    Component,
    Engine,
    Event,
    EventBus,
    Outcome,
    PublishRefused,
    Query,
    ReceiverClosed,
    StateMachine,
    StreamDeadlock,
    Topic,
    Transition,
    _background,
    events,
)
from flexiflow._background import Background
from flexiflow._contexts import InContext, copy_context_within
from tests.accounting import Boom
from tests.helpers import PATIENCE, never, settle

place: ContextVar[str] = ContextVar("place", default="nowhere")


class Desk:
    """A handler that notes what it begins, and ends when it is let go."""

    def __init__(self) -> None:
        self.began: list[Any] = []
        self.ended: list[Any] = []
        self._gate = anyio.Event()

    async def __call__(self, data: Any) -> None:
        self.began.append(data)
        await self._gate.wait()
        self.ended.append(data)

    def let_go(self) -> None:
        """Let all handlers end, also those that begin later."""
        self._gate.set()


def counts(background: Background) -> dict[str, int]:
    """Return the counts that are not 0."""
    told = background.statistics()
    return {each: value for each in told.__slots__ if (value := getattr(told, each))}


async def make_bus() -> tuple[EventBus, Desk]:
    """Make a bus with a desk."""
    bus, desk = EventBus(), Desk()
    await bus.subscribe("a", "c", desk)
    return bus, desk


async def test_the_publisher_goes_on() -> None:
    """B15: It returns when the event has its place; at most `limit` run, started in order."""
    bus, desk = await make_bus()
    with fail_after(PATIENCE):
        async with bus.background(limit=3) as background:
            for number in range(10):
                await background.publish("a", number)
            assert not desk.ended
            await settle()
            assert desk.began == [0, 1, 2]
            assert counts(background) == {"running": 3, "waiting": 7}
            desk.let_go()
    assert desk.began == list(range(10))
    assert counts(background) == {"ended": 10}


@pytest.mark.parametrize("yield_every", [1, 7, 61])
async def test_events_begin_in_order_among_many(yield_every: int) -> None:
    """B15: Also on trio, with handlers that wait and some that don't."""
    bus, began = EventBus(yield_every=yield_every), list[int]()

    async def handle(number: int) -> None:
        began.append(number)
        for _ in range(number % 3):
            await checkpoint()

    await bus.subscribe("a", "c", handle)
    async with bus.background(limit=5) as background:
        for number in range(200):
            await background.publish("a", number)
    assert began == list(range(200))


async def test_the_limit_holds_where_all_wait() -> None:
    """B15: With `limit=1` one ends before the next begins."""
    bus, running, most = EventBus(), 0, 0

    async def handle(_: object) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await checkpoint()
        running -= 1

    await bus.subscribe("a", "c", handle)
    for limit in (1, 4):
        most = 0
        async with bus.background(limit=limit) as background:
            for _ in range(30):
                await background.publish("a")
        assert most == limit


async def test_failures_are_reported() -> None:
    """B15, E1: As under "continue", even if the bus raises."""
    bus, failures = EventBus(on_error="raise"), list[Exception]()

    async def fail(data: object) -> None:
        raise Boom(data)

    await bus.subscribe("a", "c", fail)
    await bus.subscribe(events.HANDLER_FAILED, "c", lambda data: failures.append(data["exception"]))
    async with bus.background() as background:
        await background.publish("a", 1)
        await background.publish("a", 2)
    assert [each.args for each in failures] == [(1,), (2,)]
    assert counts(background) == {"ended": 2}


async def test_a_refused_publish_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """B15, I3: Nobody could be told otherwise."""

    class Refusing:
        def publishing(self, event: Event[Any]) -> AbstractContextManager[None]:
            raise PublishRefused("no more")

    bus = EventBus(instruments=[Refusing()])
    await bus.subscribe("a", "c", never)
    async with bus.background() as background:
        await background.publish("a")
    (record,) = caplog.records
    assert record.getMessage() == "the publish of 'a' in the background was refused: no more"
    assert record.levelno == logging.WARNING


async def test_a_blocked_publisher_waits_for_room() -> None:
    """B15: In order; a cancelled one takes its event back."""
    bus, desk = await make_bus()
    async with bus.background(limit=1, buffer=1) as background, create_task_group() as tasks:
        await background.publish("a", 0)
        await settle()
        await background.publish("a", 1)
        tasks.start_soon(background.publish, "a", 2)
        await settle()
        with CancelScope() as scope:
            scope.cancel()
            await background.publish("a", "cancelled")
        tasks.start_soon(background.publish, "a", 3)
        await settle()
        assert counts(background) == {"running": 1, "waiting": 1, "blocked_publishers": 2}
        desk.let_go()
    assert desk.ended == [0, 1, 2, 3]


async def test_no_buffer_at_all() -> None:
    """B15: With `buffer=0` a publisher waits until its publish may begin."""
    bus, desk = await make_bus()
    async with bus.background(limit=2, buffer=0) as background, create_task_group() as tasks:
        await background.publish("a", 0)
        await settle()
        await background.publish("a", 1)
        tasks.start_soon(background.publish, "a", 2)
        await settle()
        assert counts(background) == {"running": 2, "blocked_publishers": 1}
        desk.let_go()
    assert desk.began == [0, 1, 2]


@pytest.mark.parametrize(
    ("overflow", "kept"), [("drop_oldest", [0, 3, 4]), ("drop_newest", [0, 1, 2])]
)
async def test_events_are_dropped(overflow: Any, kept: list[int]) -> None:
    """B15: By the policy; they are counted."""
    bus, desk = await make_bus()
    async with bus.background(limit=1, buffer=2, overflow=overflow) as background:
        await background.publish("a", 0)
        await settle()
        for number in range(1, 5):
            await background.publish("a", number)
        desk.let_go()
    assert desk.ended == kept
    assert counts(background) == {"ended": 3, "dropped": 2}


async def test_an_error_where_there_is_no_room() -> None:
    """B15: `BufferFull`, and the event is counted as dropped."""
    bus, desk = await make_bus()
    async with bus.background(limit=1, buffer=1, overflow="error") as background:
        await background.publish("a", 0)
        await settle()
        await background.publish("a", 1)
        with pytest.raises(BufferFull) as caught:
            await background.publish("a", 2)
        assert str(caught.value) == "the background's buffer is full with 1 event; this one is lost"
        desk.let_go()
    assert counts(background) == {"ended": 2, "dropped": 1}


async def test_its_own_handlers_never_wait_for_room() -> None:
    """B15: `StreamDeadlock`, also from a child task; where there is room they may publish."""
    bus, failures, seen = EventBus(), list[Exception](), list[int]()

    async def publish_again(number: int) -> None:
        seen.append(number)
        if number == 0:
            async with create_task_group() as tasks:
                tasks.start_soon(background.publish, "a", 1)
            try:
                await background.publish("a", 2)
            except StreamDeadlock as exc:
                failures.append(exc)

    await bus.subscribe("a", "c", publish_again)
    with fail_after(PATIENCE):
        async with bus.background(limit=1, buffer=1) as background:
            await background.publish("a", 0)
    assert seen == [0, 1]
    assert str(failures[0]).startswith(
        "the background's buffer is full with 1 event, and a handler"
    )


async def test_a_task_that_outlives_its_handler_may_wait() -> None:
    """B15: Nothing waits for it any more."""
    bus, desk = await make_bus()
    async with create_task_group() as tasks:

        async def leave_a_task(_: object) -> None:
            tasks.start_soon(publish_later)

        async def publish_later() -> None:
            await gate.wait()
            await background.publish("a", "late")

        gate = anyio.Event()
        await bus.subscribe("b", "c", leave_a_task)
        async with bus.background(limit=1, buffer=1) as background:
            await background.publish("b")
            await settle()
            await background.publish("a", 0)
            await settle()
            await background.publish("a", 1)
            gate.set()
            await settle()
            assert background.statistics().blocked_publishers == 1
            desk.let_go()
            await settle()
    assert desk.ended == [0, 1, "late"]


async def test_leaving_by_an_exception_cancels(caplog: pytest.LogCaptureFixture) -> None:
    """B15: What runs is cancelled, what has not begun is counted, and logged once; bare."""
    bus, desk = await make_bus()
    background = bus.background(limit=2)
    with fail_after(PATIENCE), pytest.raises(Boom):
        async with background:
            for number in range(5):
                await background.publish("a", number)
            await settle()
            raise Boom
    assert (desk.began, desk.ended) == ([0, 1], [])
    assert counts(background) == {"cancelled": 2, "abandoned": 3}
    assert [record.getMessage() for record in caplog.records] == [
        "the block of the background was left; events that were not published: 3"
    ]


@pytest.mark.parametrize("is_waiting", [False, True], ids=["inside", "at its end"])
async def test_leaving_by_a_cancellation_cancels(is_waiting: bool) -> None:
    """B15: Inside the block, or while its end is waited for; blocked publishers get an error."""
    bus, desk = await make_bus()
    background, left = bus.background(limit=1, buffer=1), list[str]()

    async def use() -> None:
        async with background:
            await background.publish("a", 0)
            await settle()
            await background.publish("a", 1)
            others.start_soon(try_to_publish, background, 2, left)
            is_full.set()
            if not is_waiting:
                await sleep_forever()

    is_full = anyio.Event()
    async with create_task_group() as others, create_task_group() as tasks:
        tasks.start_soon(use)
        await is_full.wait()
        await settle()
        tasks.cancel_scope.cancel()
    assert (desk.began, left) == ([0], ["has ended"])
    assert counts(background) == {"cancelled": 1, "abandoned": 1}


async def test_outside_the_block_it_is_closed() -> None:
    """B15: `ReceiverClosed` before and after it; it is entered once."""
    background = EventBus().background()
    with pytest.raises(ReceiverClosed, match="was not entered"):
        await background.publish("a")
    async with background:
        with pytest.raises(ReceiverClosed) as caught:
            await background.__aenter__()
        remedy = "it can be entered only once, so make a new one"
        assert str(caught.value) == f"the block of the background was entered before; {remedy}"
    with pytest.raises(ReceiverClosed, match="has ended"):
        await background.publish("a")


async def test_the_snapshot_is_taken_as_it_starts() -> None:
    """B15, B5: A handler that is subscribed before the publish begins is called."""
    bus, desk = await make_bus()
    late = Desk()
    async with bus.background(limit=1) as background:
        await background.publish("a", 0)
        await settle()
        await background.publish("a", 1)
        await bus.subscribe("a", "c", late)
        desk.let_go()
        late.let_go()
    assert (desk.ended, late.ended) == ([0, 1], [1])


async def test_bad_arguments_fail_at_the_call() -> None:
    """B15, B3: Nothing has its place then."""
    async with EventBus().background() as background:
        for name, kind in (("a.*", ValueError), ("", ValueError), (None, TypeError)):
            with pytest.raises(kind):
                await background.publish(name)  # type: ignore[arg-type]
        assert not counts(background)


async def test_a_query_is_refused() -> None:
    """B15, A2: Also if an event of its name was published before."""
    bus = EventBus()
    await bus.publish("price")
    async with bus.background() as background:
        with pytest.raises(TypeError, match=r"ask it with bus\.ask"):
            await background.publish(Query[int, int]("price"), 1)  # type: ignore[call-overload]
        assert not counts(background)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"limit": 0}, "limit must be an int, 1 or more publishes at once, not 0"),
        ({"limit": True}, "limit must be an int"),
        ({"buffer": -1}, "buffer must be an int, 0 or more events"),
        ({"buffer": 0, "overflow": "error"}, "buffer must be an int, 1 or more events"),
        ({"overflow": "no"}, "overflow must be one of"),
    ],
    ids=repr,
)
async def test_what_is_refused(arguments: Any, problem: str) -> None:
    """B15: The message says what was given, and what would be right."""
    with pytest.raises(ValueError, match=problem):
        EventBus().background(**arguments)


async def test_handlers_run_in_a_copy_of_the_publishers_context() -> None:
    """B15: As it was at the call; what a handler sets is seen by nobody else."""
    bus, seen = EventBus(), list[str]()

    async def look(data: object) -> None:
        seen.append(place.get())
        place.set(f"handler {data}")
        await checkpoint()
        seen.append(place.get())

    await bus.subscribe("a", "c", look)
    async with bus.background(limit=1) as background:
        for number in range(2):
            place.set(f"publisher {number}")
            await background.publish("a", number)
        place.set("later")
    assert seen == ["publisher 0", "handler 0", "publisher 1", "handler 1"]
    assert place.get() == "later"


async def test_handlers_run_outside_the_publishers_turn() -> None:
    """B15, C4: A message to the component that publishes waits in line, and is not deferred."""
    bus, outcomes = EventBus(), list[Outcome]()
    engine = Engine(bus=bus)

    async def publish(message: Any, component: object) -> None:
        await background.publish("a")
        # The turn lasts until the message waits, or has its outcome.
        await settle()
        assert not outcomes

    async def send(_: object) -> None:
        outcomes.append(await engine.send("lamp", {"type": "flip"}))

    rows = [Transition("on", "go", None, action=publish), Transition("on", "flip", None)]
    await engine.register(Component("lamp", machine=StateMachine("on", rows)))
    await bus.subscribe("a", "c", send)
    with fail_after(PATIENCE):
        async with bus.background() as background:
            await engine.send("lamp", {"type": "go"})
    assert outcomes == [Outcome.TRANSITIONED]


async def test_handlers_run_outside_the_publishers_limit() -> None:
    """B15, V2: A limited handler that publishes its own event in the background is no deadlock."""
    bus, seen = EventBus(), list[int]()

    async def handle(number: int) -> None:
        seen.append(number)
        if number:
            await background.publish("a", number - 1)
            # The call lasts until the next one waits, or is refused.
            await settle()

    await bus.subscribe("a", "c", handle, limit=1)
    with fail_after(PATIENCE):
        async with bus.background() as background:
            await background.publish("a", 3)
    assert seen == [3, 2, 1, 0]


async def test_handlers_run_outside_the_publishers_announcement() -> None:
    """B15, E7: A failure in the background of a failure's report is published, too."""
    bus, reported = EventBus(), list[str]()

    async def fail(_: object) -> None:
        raise Boom

    async def publish(data: Any) -> None:
        reported.append(data["event_name"])
        if data["event_name"] == "a":
            await background.publish("b")
            # The announcement lasts until b has failed.
            await settle()
            assert counts(background) == {"ended": 1}

    await bus.subscribe("a", "c", fail)
    await bus.subscribe("b", "c", fail)
    await bus.subscribe(events.HANDLER_FAILED, "c", publish)
    async with bus.background() as background:
        await bus.publish("a")
    assert reported == ["a", "b"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_native_cancel_ends_one_publish(caplog: pytest.LogCaptureFixture) -> None:
    """B15, E6: It is logged and counted; the others go on, in another task."""
    import asyncio  # noqa: PLC0415  the only backend with such cancels

    bus, ended = EventBus(), list[int]()

    async def handle(number: int) -> None:
        if number == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await checkpoint()
        ended.append(number)

    await bus.subscribe("a", "c", handle)
    with fail_after(PATIENCE):
        async with bus.background(limit=1) as background:
            for number in range(4):
                await background.publish("a", number)
    assert ended == [0, 2, 3]
    assert counts(background) == {"ended": 3, "cancelled": 1}
    assert "the publish of 'a' in the background was cancelled" in caplog.text


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("is_late", [False, True], ids=["at its end", "while its worker waits"])
async def test_a_native_cancel_that_strikes_no_handler(is_late: bool) -> None:
    """B15, E6: Neither the block nor any other publish is cancelled by it."""
    import asyncio  # noqa: PLC0415  the only backend with such cancels

    bus, ended, tasks = EventBus(), list[int](), list[asyncio.Task[Any] | None]()

    async def handle(number: int) -> None:
        task = asyncio.current_task()
        tasks.append(task)
        if number == 0 and not is_late:
            assert task is not None
            task.cancel()
        ended.append(number)

    await bus.subscribe("a", "c", handle)
    with fail_after(PATIENCE):
        async with bus.background(limit=1) as background:
            await background.publish("a", 0)
            await settle()
            if is_late:
                assert tasks[0] is not None
                tasks[0].cancel()
            for number in range(1, 4):
                await background.publish("a", number)
            await settle()
            assert ended == [0, 1, 2, 3]
    assert counts(background)["ended"] >= 3


class Payload:
    """Something that can be held."""


async def ignore(data: object) -> None:
    """Do nothing, as a handler."""


holding: ContextVar[Payload | None] = ContextVar("holding", default=None)


class Exit(BaseException):
    """No `Exception`, so nothing reports it."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Exit])
@pytest.mark.parametrize("is_waiting", [False, True], ids=["inside", "at its end"])
async def test_an_interrupt_ends_the_block(kind: type[BaseException], is_waiting: bool) -> None:
    """B15: It leaves the block bare; what runs is cancelled, what waits is abandoned."""
    bus, desk = await make_bus()
    background = bus.background(limit=2)

    async def interrupt(_: object) -> None:
        raise kind

    await bus.subscribe("b", "c", interrupt)
    with fail_after(PATIENCE), pytest.raises(kind):
        async with background:
            for name in ("a", "b", "a", "a"):
                await background.publish(name)
            if not is_waiting:
                await sleep_forever()
    assert not desk.ended
    assert counts(background)["ended"] == 1
    assert sum(counts(background).values()) == 4


async def test_publishing_is_a_checkpoint_now_and_then() -> None:
    """B15, D6: At least one in `yield_every` calls is one."""
    bus, turns = EventBus(yield_every=5), 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with create_task_group() as tasks, bus.background() as background:
        tasks.start_soon(count_turns)
        before = turns
        for _ in range(100):
            await background.publish("a")
        assert turns - before >= 5
        tasks.cancel_scope.cancel()


async def test_a_topic_and_the_repr() -> None:
    """B15, B12: A topic is a name; the repr shows the state and the counts."""
    bus, desk = await make_bus()
    background = bus.background(limit=1)
    assert repr(background) == "<Background, not entered: 0 running, 0 waiting>"
    async with background:
        await background.publish(Topic[int]("a"), 1)
        await background.publish("a", 2)
        await settle()
        assert repr(background) == "<Background, open: 1 running, 1 waiting>"
        desk.let_go()


async def test_what_is_thrown_in_a_context_of_its_own() -> None:
    """B15: The coroutine sees what its task is sent, and what is thrown into it."""
    seen = list[str]()

    async def wait() -> None:
        try:
            with CancelScope() as scope:
                scope.cancel()
                await sleep_forever()
            seen.append(place.get())
        finally:
            place.set("inside")

    place.set("outside")
    await InContext(copy_context(), wait())
    assert (seen, place.get()) == (["outside"], "outside")


@pytest.mark.parametrize("overflow", ["block", "drop_oldest", "drop_newest", "error"])
async def test_a_burst_fills_slots_and_buffer(overflow: Any) -> None:
    """B15: What begins at once takes no room, though no worker has had its turn yet."""
    bus, desk = await make_bus()
    with fail_after(PATIENCE):
        async with bus.background(limit=3, buffer=2, overflow=overflow) as background:
            for number in range(5):
                await background.publish("a", number)
            assert background.statistics().dropped == 0
            await settle()
            assert counts(background) == {"running": 3, "waiting": 2}
            desk.let_go()
    assert desk.began == [0, 1, 2, 3, 4]


async def test_a_handler_uses_free_slots() -> None:
    """B15: It is refused only where it would wait for itself."""
    bus, seen = EventBus(), list[int]()

    async def fan_out(number: int) -> None:
        seen.append(number)
        if number == 0:
            for each in range(1, 5):
                await background.publish("a", each)

    await bus.subscribe("a", "c", fan_out)
    async with bus.background(limit=4, buffer=1) as background:
        await background.publish("a", 0)
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("attempt", range(20))
async def test_a_publish_as_the_block_ends(attempt: int) -> None:
    """B15: It has its place, or gets `ReceiverClosed`; nothing else, and nothing is abandoned."""
    bus, ending = EventBus(), anyio.Event()
    background = bus.background()
    left, ended = list[str](), list[object]()

    async def handle(data: object) -> None:
        ended.append(data)
        ending.set()

    async def publish_late() -> None:
        await ending.wait()
        try:
            await background.publish("a", "late")
        except ReceiverClosed as exc:
            left.append(exc.state)

    await bus.subscribe("a", "c", handle)
    async with create_task_group() as tasks, background:
        tasks.start_soon(publish_late)
        await background.publish("a", "first")
    assert len(ended) + len(left) == 2
    assert "abandoned" not in counts(background)


async def test_a_blocked_event_is_not_begun_after_an_exception() -> None:
    """B15: Its publisher gets `ReceiverClosed`, and its handler is not called."""
    bus, began, left = EventBus(), list[int](), list[str]()

    async def handle(number: int) -> None:
        began.append(number)
        with CancelScope(shield=True):
            await gate.wait()

    async def publish_blocked() -> None:
        try:
            await background.publish("a", 1)
        except ReceiverClosed as exc:
            left.append(exc.state)
        gate.set()

    gate, background = anyio.Event(), bus.background(limit=1, buffer=0)
    await bus.subscribe("a", "c", handle)
    async with create_task_group() as tasks:
        with pytest.raises(Boom):
            async with background:
                await background.publish("a", 0)
                await settle()
                tasks.start_soon(publish_blocked)
                await settle()
                raise Boom
    assert (began, left) == ([0], ["has ended"])


async def test_an_interrupt_beats_a_cancellation() -> None:
    """B15, E5: It leaves the block, also if the block is being cancelled; the first of several."""
    bus, raised = EventBus(), list[int]()

    async def interrupt_in_cleanup(number: int) -> None:
        try:
            await sleep_forever()
        finally:
            raised.append(number)
            raise Exit(number)

    await bus.subscribe("a", "c", interrupt_in_cleanup)
    with pytest.raises(Exit) as caught, CancelScope() as scope:
        async with bus.background(limit=2) as background:
            for number in range(2):
                await background.publish("a", number)
            await settle()
            scope.cancel()
            await checkpoint()
    first, other = raised
    assert caught.value.args == (first,)
    (note,) = caught.value.__notes__
    assert note == f"another task raised: tests.bus.test_background.Exit: {other}"


@dataclass(frozen=True)
class FrozenExit(BaseException):
    """An interrupt that takes no note."""

    number: int


class UnspeakableExit(Exit):
    """An interrupt that can't be shown."""

    def __repr__(self) -> str:
        raise Boom

    __str__ = __repr__


@pytest.mark.parametrize(
    "interrupts", [(FrozenExit(0), Exit()), (Exit(), UnspeakableExit())], ids=["frozen", "shown"]
)
async def test_an_interrupt_leaves_if_it_takes_no_note(
    interrupts: tuple[BaseException, BaseException],
) -> None:
    """B15, E5: What is wrong with the note of another one replaces nothing."""
    bus, running = EventBus(), 0

    async def interrupt(number: int) -> None:
        nonlocal running
        running += 1
        try:
            while number or running < 2:
                await checkpoint()
        finally:
            raise interrupts[number]

    await bus.subscribe("a", "c", interrupt)
    with fail_after(PATIENCE), pytest.raises(type(interrupts[0])) as caught:
        async with bus.background(limit=2) as background:
            for number in range(2):
                await background.publish("a", number)
            await sleep_forever()
    assert caught.value is interrupts[0]


@pytest.mark.parametrize("kind", [Boom, KeyboardInterrupt])
@pytest.mark.parametrize("way", ["before", "in cleanup", "while it is left"])
async def test_a_failure_beats_a_cancellation(way: str, kind: type[BaseException]) -> None:
    """B15, E8: What the block raises leaves, whenever a scope around it is cancelled."""
    bus, began, raised = EventBus(), anyio.Event(), kind()
    background = bus.background()

    async def clean_up_slowly(_: object) -> None:
        began.set()
        try:
            await sleep_forever()
        finally:
            if way == "while it is left":
                scope.cancel()
            with CancelScope(shield=True):
                await settle()

    await bus.subscribe("a", "c", clean_up_slowly)
    with fail_after(PATIENCE), pytest.raises(kind) as caught, CancelScope() as scope:
        async with background:
            await background.publish("a")
            await began.wait()
            if way != "while it is left":
                scope.cancel()
            try:
                if way == "in cleanup":
                    await sleep_forever()
            finally:
                raise raised
    assert caught.value is raised
    assert counts(background) == {"cancelled": 1}


async def test_a_failure_beside_a_cancellation() -> None:
    """B15, E8: A group with both, as trio's nurseries raise it, loses only the cancellation."""
    bus, desk = await make_bus()
    with pytest.raises(BaseExceptionGroup) as caught, CancelScope() as scope:
        async with bus.background() as background:
            await background.publish("a")
            await settle()
            scope.cancel()
            try:
                await sleep_forever()
            except BaseException as cancellation:  # noqa: BLE001  a cancellation
                raise BaseExceptionGroup("both", [cancellation, Boom()]) from None
    assert [type(each) for each in caught.value.exceptions] == [Boom]
    assert not desk.ended


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_failure_beats_a_native_cancel() -> None:
    """B15, E8: One that strikes while the block is left is not lost, nor is the failure."""
    import asyncio  # noqa: PLC0415  the only backend with such cancels

    bus, tasks = EventBus(), list[asyncio.Task[Any] | None]()

    async def cancel_in_cleanup(_: object) -> None:
        try:
            await sleep_forever()
        finally:
            assert tasks[0] is not None
            tasks[0].cancel()

    async def leave() -> None:
        tasks.append(asyncio.current_task())
        async with bus.background() as background:
            await background.publish("a")
            await settle()
            raise Boom

    await bus.subscribe("a", "c", cancel_in_cleanup)
    task = asyncio.create_task(leave())
    with pytest.raises(Boom):
        await task
    assert task.cancelling() == 1


async def test_a_call_is_in_order_though_it_yields() -> None:
    """B15, D6: The event has its place before the call yields, so no later call overtakes it."""
    bus, called, began = EventBus(yield_every=1), list[int](), list[int]()
    await bus.subscribe("a", "c", began.append)

    async def publish(number: int) -> None:
        called.append(number)
        await background.publish("a", number)

    with fail_after(PATIENCE):
        async with bus.background(limit=1) as background, create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(publish, number)
    assert len(began) == 20
    assert began == called


async def test_a_publish_that_yields_as_the_block_is_left() -> None:
    """B15, D6: Its event has its place, so it is abandoned, and counted."""
    bus, desk = EventBus(yield_every=1), Desk()
    await bus.subscribe("a", "c", desk)
    background, told = bus.background(limit=1, buffer=1), list[str]()

    async def publish(number: int) -> None:
        try:
            await background.publish("a", number)
            told.append("placed")
        except ReceiverClosed:
            told.append("closed")

    with fail_after(PATIENCE):
        async with create_task_group() as tasks:
            with pytest.raises(Boom):
                async with background:
                    await background.publish("a")
                    await settle()
                    for number in range(3):
                        tasks.start_soon(publish, number)
                    while not background.statistics().waiting:
                        await checkpoint()
                    raise Boom
    assert sorted(told) == ["closed", "closed", "placed"]
    assert counts(background) == {"cancelled": 1, "abandoned": 1}


async def test_a_call_is_not_cancelled_after_its_event_has_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """B15, D6: A cancellation that strikes then waits for the next checkpoint."""
    bus, seen, scope = EventBus(yield_every=1), list[int](), CancelScope()

    def cancel_and_copy(waiting: Context) -> Context:
        scope.cancel()
        return copy_context_within(waiting)

    monkeypatch.setattr(_background, "copy_context_within", cancel_and_copy)
    async with bus.background() as background:
        with scope:
            await background.publish("a")
            seen.append(1)
            await checkpoint()
    assert (seen, scope.cancelled_caught) == ([1], True)
    assert counts(background) == {"ended": 1}


async def test_no_event_overtakes_where_workers_are_cancelled() -> None:
    """B15: A blocked publisher's event comes first, also within a shield."""
    bus, desk = await make_bus()
    refused, background = list[str](), bus.background(limit=1, buffer=0)
    with fail_after(PATIENCE):
        async with create_task_group() as tasks:
            with CancelScope() as scope:
                async with background:
                    await background.publish("a", 0)
                    await settle()
                    with CancelScope(shield=True):
                        tasks.start_soon(try_to_publish, background, 1, refused)
                        await settle()
                        scope.cancel()
                        await settle()
                        tasks.start_soon(try_to_publish, background, 2, refused)
                        await settle()
                        assert background.statistics().blocked_publishers == 2
    assert (desk.began, refused) == ([0], ["has ended"] * 2)


async def test_a_cancelled_call_publishes_nothing() -> None:
    """B15, D6: A call that is a checkpoint is cancelled before its event has a place."""
    bus = EventBus(yield_every=1)
    await bus.subscribe("a", "c", never)
    async with bus.background() as background:
        with CancelScope() as scope:
            scope.cancel()
            await background.publish("a")
        assert scope.cancelled_caught
    assert not counts(background)


@pytest.mark.parametrize("overflow", ["drop_newest", "error"])
async def test_calls_yield_that_have_no_room(overflow: Any) -> None:
    """B15, D6: A loop that publishes until there is room lets other tasks run."""
    bus, desk = await make_bus()
    async with bus.background(limit=1, buffer=1, overflow=overflow) as background:
        for number in range(2):
            await background.publish("a", number)
        async with create_task_group() as tasks:
            tasks.start_soon(settle_and_let_go, desk)
            with fail_after(PATIENCE):
                while not desk.ended:
                    with suppress(BufferFull):
                        await background.publish("a")


async def test_calls_yield_outside_the_block() -> None:
    """B15, D6: A loop that publishes until the block is entered lets other tasks run."""
    bus = EventBus()
    background, gate = bus.background(), anyio.Event()

    async def open_gate() -> None:
        gate.set()

    async with create_task_group() as tasks:
        tasks.start_soon(open_gate)
        for _ in range(1000):
            with suppress(ReceiverClosed):
                await background.publish("a")
        assert gate.is_set()


async def test_a_handler_yields_that_is_refused() -> None:
    """B15, D6: A loop that publishes until it is not refused lets other tasks run."""
    bus, gate, began = EventBus(yield_every=5), anyio.Event(), list[int]()

    async def publish_again(number: int) -> None:
        began.append(number)
        while number == 0 and not gate.is_set():
            with suppress(StreamDeadlock):
                await background.publish("a", 1)

    async def open_gate() -> None:
        await checkpoint()
        gate.set()

    await bus.subscribe("a", "c", publish_again)
    with fail_after(PATIENCE):
        async with (
            bus.background(limit=1, buffer=1) as background,
            create_task_group() as tasks,
        ):
            tasks.start_soon(open_gate)
            await background.publish("a", 0)
    assert began == [0, 1]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_blocked_call_can_be_closed() -> None:
    """B15, D6: It takes its event back, and does not yield as it is closed."""
    bus, desk = EventBus(yield_every=1), Desk()
    await bus.subscribe("a", "c", desk)
    async with bus.background(limit=1, buffer=0) as background:
        await background.publish("a")
        call = background.publish("a")
        # Trio would take this for a wait of the test's own task.
        call.send(None)
        assert background.statistics().blocked_publishers == 1
        call.close()
        assert background.statistics().blocked_publishers == 0
        desk.let_go()
    assert counts(background) == {"ended": 1}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_publish_can_be_closed() -> None:
    """B15: As the garbage collector does after its event loop; that interrupts nothing else."""
    bus, desk = await make_bus()
    async with bus.background(limit=1) as background:
        await background.publish("a")
        worker = background._work()
        worker.send(None)
        assert counts(background) == {"running": 1}
        worker.close()
        await background.publish("a", "next")
        desk.let_go()
    assert desk.ended == ["next"]


async def test_an_interrupt_at_the_end_of_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """B15, E5: One that strikes the task that waits leaves bare, and what runs is cancelled."""
    bus, desk = await make_bus()
    background = bus.background()

    async def interrupt(_: Background) -> None:
        await settle()
        raise Exit

    monkeypatch.setattr(Background, "_finish", interrupt)
    with pytest.raises(Exit):
        async with background:
            await background.publish("a")
    assert (desk.began, desk.ended) == ([None], [])
    assert counts(background) == {"cancelled": 1}


async def settle_and_let_go(desk: Desk) -> None:
    """Let the handlers end after some turns of the scheduler."""
    for _ in range(5):
        await checkpoint()
    desk.let_go()


async def test_nothing_is_held_of_what_has_ended() -> None:
    """B15, B6: Neither the payload nor the publisher's context, while the block is open."""
    bus, payload, held = EventBus(), Payload(), Payload()
    kept = [weakref.ref(payload), weakref.ref(held)]
    await bus.subscribe("a", "c", ignore)
    async with bus.background() as background:
        token = holding.set(held)
        await background.publish("a", payload)
        holding.reset(token)
        await settle()
        del payload, held, token
        assert counts(background) == {"ended": 1}
        assert [each() for each in kept] == [None, None]


@pytest.mark.parametrize("way", ["an exception", "a cancellation", "both", "an interrupt"])
async def test_nothing_is_held_of_a_block_that_was_broken_off(way: str) -> None:
    """B15, B6: What its frame held is gone without the garbage collector."""
    bus, interrupting = EventBus(), anyio.Event()
    kept = list[weakref.ref[Payload]]()

    async def interrupt(_: object) -> None:
        await interrupting.wait()
        raise Exit

    async def use() -> None:
        payload = Payload()
        kept.append(weakref.ref(payload))
        async with bus.background() as background:
            await background.publish("a")
            await settle()
            if way == "both":
                scope.cancel()
                raise Boom
            await break_off(way, scope, interrupting)

    await bus.subscribe("a", "c", interrupt if way == "an interrupt" else Desk())
    gc.disable()
    try:
        with suppress(Boom, Exit), CancelScope() as scope:
            await use()
        await settle()
        assert kept[0]() is None
    finally:
        gc.enable()


async def test_it_is_left_only_if_it_was_entered() -> None:
    """B15: `ReceiverClosed`, and it may be entered afterwards."""
    bus, desk = await make_bus()
    background = bus.background()
    with pytest.raises(ReceiverClosed, match="the block of the background was not entered"):
        await background.__aexit__(None, None, None)
    async with background:
        await background.publish("a")
        await settle()
        desk.let_go()
    assert counts(background) == {"ended": 1}


async def try_to_publish(background: Background, number: int, refused: list[str]) -> None:
    """Publish a number, or note the state in which the block is."""
    try:
        await background.publish("a", number)
    except ReceiverClosed as exc:
        refused.append(exc.state)


async def break_off(way: str, scope: CancelScope, interrupting: anyio.Event) -> None:
    """Raise in the block, or make a handler raise an interrupt."""
    if way == "an exception":
        raise Boom
    if way == "a cancellation":
        scope.cancel()
    interrupting.set()
    await sleep_forever()


@pytest.mark.parametrize("way", ["an exception", "a cancellation", "an interrupt"])
async def test_the_state_after_it_was_broken_off(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """B15: What was not begun is logged once; events of blocked publishers are not in that."""
    bus, desk = await make_bus()
    background, refused, interrupting = (
        bus.background(limit=2, buffer=2),
        list[str](),
        anyio.Event(),
    )

    async def interrupt(_: object) -> None:
        await interrupting.wait()
        raise Exit

    await bus.subscribe("b", "c", interrupt)
    with fail_after(PATIENCE):
        async with create_task_group() as tasks:
            with suppress(Boom, Exit), CancelScope() as scope:
                async with background:
                    await background.publish("a", 0)
                    await background.publish("b")
                    await settle()
                    for number in range(1, 6):
                        tasks.start_soon(try_to_publish, background, number, refused)
                    await settle()
                    await break_off(way, scope, interrupting)
    ended = {"ended": 1, "cancelled": 1} if way == "an interrupt" else {"cancelled": 2}
    assert (desk.began, desk.ended) == ([0], [])
    assert counts(background) == {**ended, "abandoned": 2}
    assert refused == ["has ended"] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "the block of the background was left; events that were not published: 2"
    ]
    with pytest.raises(ReceiverClosed, match="has ended"):
        await background.publish("a")


async def test_the_state_after_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """B15: Left in peace, it has published all, also for blocked publishers; nothing is logged."""
    bus, desk = await make_bus()
    background, refused = bus.background(limit=1, buffer=1), list[str]()
    with fail_after(PATIENCE):
        async with create_task_group() as tasks, background:
            for number in range(4):
                tasks.start_soon(try_to_publish, background, number, refused)
            await settle()
            desk.let_go()
    assert counts(background) == {"ended": 4}
    assert not refused
    assert not caplog.records
    with pytest.raises(ReceiverClosed, match="has ended"):
        await background.publish("a")
