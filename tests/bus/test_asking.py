"""Queries: one answerer, whose answer or exception is the asker's (A1, A2).

What type checkers make of them is in `tests/packaging/typing_queries.py`.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from copy import copy
from functools import partial
from typing import Any, TypeAlias, cast

import anyio
import pytest
from anyio import CancelScope, create_task_group, fail_after, sleep_forever
from anyio.lowlevel import checkpoint

from flexiflow import (
    Component,
    DuplicateAnswer,
    Engine,
    Event,
    EventBus,
    HandlerCancelled,
    HandlerTimeout,
    LimitDeadlock,
    NoAnswer,
    PublishRefused,
    Query,
    Subscription,
    Topic,
    answers,
    events,
    on,
)
from flexiflow._cancellation import contexts
from flexiflow.events import BUILT_IN
from flexiflow.extras.causality import Causality
from tests.accounting import Boom
from tests.attacks import kept_cancellation
from tests.helpers import PATIENCE, Later, never, settle

PRICE = Query[int, int]("price.asked")
place: ContextVar[str] = ContextVar("place", default="nowhere")


async def double(item: int) -> int:
    """Answer after a turn of the scheduler."""
    await checkpoint()
    return 2 * item


def returning(function: Callable[[int], Coroutine[Any, Any, int]], item: int) -> Awaitable[int]:
    """Return the coroutine of an async function."""
    return function(item)


def fail(item: int) -> int:
    """Raise in place of an answer."""
    raise Boom(item)


WATCHED = pytest.mark.parametrize("is_watched", [False, True], ids=["direct", "watched"])
"""Both ways that `ask` can go."""


class Witness:
    """An instrument that notes what it sees."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str, object]] = []

    def publishing(self, event: Event[Any]) -> AbstractContextManager[None]:
        return self._note("publishing", event)

    def handling(
        self, event: Event[Any], subscription: Subscription
    ) -> AbstractContextManager[None]:
        return self._note("handling", event)

    @contextmanager
    def _note(self, method: str, event: Event[Any]) -> Generator[None]:
        left: BaseException | None = None
        try:
            yield
        except BaseException as exc:
            left = exc
            raise
        finally:
            self.notes.append((method, event.name, left))


def make_bus(*, is_watched: bool) -> EventBus:
    """Make a bus on which `ask` goes one of its ways."""
    return EventBus(instruments=[Witness()] if is_watched else [])


def multiply(factor: int, item: int) -> int:
    """Take a factor, too."""
    return factor * item


def double_at_once(item: int) -> int:
    """Answer without waiting."""
    return 2 * item


@WATCHED
@pytest.mark.parametrize(
    "handler",
    [double, double_at_once, partial(returning, double)],
    ids=["async", "sync", "sync that returns a coroutine"],
)
@pytest.mark.parametrize("terms", [{}, {"limit": 1}, {"time_limit": 9.0}], ids=str)
async def test_ask_returns_the_answer(handler: Any, terms: Any, is_watched: bool) -> None:
    """A1: The one answerer is called, and what it returns is the answer."""
    bus = make_bus(is_watched=is_watched)
    async with bus.answer(PRICE, "prices", handler, **terms) as answerer:
        assert isinstance(answerer, Subscription)
        assert await bus.ask(PRICE, 21) == 42
        assert await bus.ask("price.asked", 21) == 42


@WATCHED
async def test_the_answerer_runs_in_the_asker_s_task_and_context(is_watched: bool) -> None:
    """A1: What the asker set is seen, and what the answerer sets stays."""
    bus = make_bus(is_watched=is_watched)

    async def look(_: object) -> tuple[object, str]:
        seen = place.get()
        place.set("answerer")
        return anyio.get_current_task().id, seen

    await bus.answer("where", "c", look)
    place.set("asker")
    assert await bus.ask("where") == (anyio.get_current_task().id, "asker")
    assert place.get() == "answerer"


@WATCHED
@pytest.mark.parametrize("terms", [{}, {"limit": 1}, {"time_limit": 9.0}], ids=str)
async def test_what_it_raises_leaves_bare_and_is_reported_nowhere_else(
    terms: Any, is_watched: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A1: Neither log line, nor `event.handler.failed`; the exception itself."""
    bus = make_bus(is_watched=is_watched)
    await bus.subscribe(events.HANDLER_FAILED, "c", never)
    await bus.answer(PRICE, "prices", fail, **terms)
    with pytest.raises(Boom) as caught:
        await bus.ask(PRICE, 1)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert not caplog.records


@WATCHED
async def test_a_stray_cancellation_is_the_answerer_s_failure(is_watched: bool) -> None:
    """A1, E6: Nobody cancels the asker, so a cancellation that leaves is `HandlerCancelled`."""
    bus, stray = make_bus(is_watched=is_watched), await kept_cancellation()

    async def let_out(_: object) -> None:
        raise stray

    await bus.answer("q", "c", let_out)
    with pytest.raises(HandlerCancelled, match=r"a cancellation left .*let_out, though") as caught:
        await bus.ask("q")
    assert caught.value.__cause__ is stray


@WATCHED
async def test_the_asker_s_own_cancellation_goes_on(is_watched: bool) -> None:
    """A1, E5: It leaves `ask` as a cancellation."""
    bus = make_bus(is_watched=is_watched)
    await bus.answer("q", "c", lambda _: sleep_forever())
    with fail_after(PATIENCE):
        async with create_task_group() as tasks:
            tasks.start_soon(bus.ask, "q")
            await settle()
            tasks.cancel_scope.cancel()
    assert tasks.cancel_scope.cancelled_caught


async def test_a_time_limit_raises_a_timeout() -> None:
    """A1, V1: A late answerer is cancelled, and `ask` raises `HandlerTimeout`."""
    bus = EventBus()
    await bus.answer("q", "c", lambda _: sleep_forever(), time_limit=1e-9)
    with fail_after(PATIENCE), pytest.raises(HandlerTimeout):
        await bus.ask("q")


async def test_a_limit_makes_askers_wait_in_line() -> None:
    """A1, V2: One at a time; asking from within the answer is a `LimitDeadlock`."""
    bus, running, most = EventBus(), 0, 0

    async def answer(depth: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await checkpoint()
        running -= 1
        return await bus.ask("q", depth - 1) if depth else 0

    await bus.answer("q", "c", answer, limit=1)
    with fail_after(PATIENCE):
        async with create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(bus.ask, "q", 0)
        with pytest.raises(LimitDeadlock):
            await bus.ask("q", 1)
    assert most == 1


async def test_no_answer_names_the_nearest() -> None:
    """A1: Nobody answers; the message shows names that are close."""
    bus = EventBus()
    await bus.answer(PRICE, "prices", double)
    with pytest.raises(NoAnswer) as caught:
        await bus.ask("price.askd", 1)
    assert str(caught.value) == "nobody answers 'price.askd'; did you mean 'price.asked'?"
    assert (caught.value.query, caught.value.closest) == ("price.askd", ("price.asked",))
    assert isinstance(caught.value, LookupError)


async def test_a_second_answerer_is_refused() -> None:
    """A1: `DuplicateAnswer`, and nothing has changed."""
    bus = EventBus()
    first = await bus.answer(PRICE, "prices", double)
    with pytest.raises(DuplicateAnswer) as caught:
        await bus.answer("price.asked", "others", never)
    assert str(caught.value) == (
        "'price.asked' is answered by 'prices' already; unsubscribe that answerer first"
    )
    assert bus.unsubscribe_all("others") == 0
    assert await bus.ask(PRICE, 2) == 4
    assert bus.unsubscribe(first)
    await bus.answer(PRICE, "others", double)


async def test_two_that_answer_at_once() -> None:
    """A1: `answer` is a checkpoint; of two that wait there, the first wins."""
    bus, refused = EventBus(), list[str]()

    async def answer(component: str) -> None:
        try:
            await bus.answer("q", component, double)
        except DuplicateAnswer as exc:
            refused.append(exc.component)

    async with create_task_group() as tasks:
        tasks.start_soon(answer, "a")
        tasks.start_soon(answer, "b")
    assert len(refused) == 1
    assert await bus.ask("q", 1) == 2


@pytest.mark.parametrize("way", ["unsubscribe", "unsubscribe_all", "with"])
async def test_an_answerer_is_unsubscribed_like_any_subscription(way: str) -> None:
    """A1, B6: Afterwards nobody answers; the answer in hand goes on."""
    bus = EventBus()

    async def answer(_: object) -> str:
        if way == "unsubscribe":
            assert bus.unsubscribe(answerer)
        elif way == "unsubscribe_all":
            assert bus.unsubscribe_all("c") == 1
        else:
            answerer.__exit__(None, None, None)
        await checkpoint()
        return "still here"

    answerer = await bus.answer("q", "c", answer)
    assert await bus.ask("q") == "still here"
    assert not answerer.active
    with pytest.raises(NoAnswer):
        await bus.ask("q")


async def test_one_that_is_unsubscribed_while_the_asker_waits_for_a_slot() -> None:
    """A1, B5: It never starts again: the asker in line gets `NoAnswer`, with the nearest."""
    bus, gate = EventBus(), anyio.Event()

    async def answer(_: object) -> str:
        await gate.wait()
        return "first"

    answerer, got = await bus.answer("price", "c", answer, limit=1), list[object]()
    await bus.answer("prices", "c", answer)

    async def ask() -> None:
        try:
            got.append(await bus.ask("price"))
        except NoAnswer as exc:
            got.append(exc.closest)

    with fail_after(PATIENCE):
        async with create_task_group() as tasks:
            tasks.start_soon(ask)
            await settle()
            tasks.start_soon(ask)
            await settle()
            bus.unsubscribe(answerer)
            gate.set()
    assert got == ["first", ("prices",)]


async def test_queries_and_events_do_not_mix() -> None:
    """A2: A publish reaches no answerer, a question no subscription, not even a pattern's."""
    bus = EventBus()
    await bus.subscribe("price.**", "c", never)
    with pytest.raises(NoAnswer):
        await bus.ask(PRICE, 1)
    bus.unsubscribe_all("c")
    await bus.answer(PRICE, "c", never)
    assert await bus.publish("price.asked", 1) == ()


@pytest.mark.parametrize(
    ("terms", "problem"),
    [({"limit": 0}, "limit must be"), ({"time_limit": -1}, "time_limit must be")],
)
async def test_terms_out_of_range(terms: Any, problem: str) -> None:
    """A1, V1, V2: A `ValueError`; nobody answers."""
    bus = EventBus()
    with pytest.raises(ValueError, match=problem):
        await bus.answer("q", "c", double, **terms)
    with pytest.raises(ValueError, match=problem):
        answers("q", **terms)
    with pytest.raises(NoAnswer):
        await bus.ask("q")


async def test_a_handler_that_can_t_be_one() -> None:
    """A1, B3: As for `subscribe`."""
    bus, answerless = EventBus(), cast("Any", lambda: 1)
    with pytest.raises(TypeError, match="handler is called with 1 positional argument"):
        await bus.answer("q", "c", answerless)
    with pytest.raises(ValueError, match="name must not be empty"):
        await bus.answer("q", "", double)


async def test_ask_counts_as_a_publish() -> None:
    """A2, D6: At least one in `yield_every` questions is a checkpoint."""
    bus, turns = EventBus(yield_every=3), list[int]()

    async def count_turns() -> None:
        while True:
            await checkpoint()
            turns.append(0)

    await bus.answer("q", "c", lambda _: 1)
    async with create_task_group() as tasks:
        tasks.start_soon(count_turns)
        await settle_once()
        before = len(turns)
        for _ in range(2):
            await bus.ask("q")
        assert len(turns) == before
        for _ in range(30):
            await bus.ask("q")
        assert len(turns) > before
        tasks.cancel_scope.cancel()


async def settle_once() -> None:
    """Let the other task begin."""
    for _ in range(5):
        await checkpoint()


async def test_an_answerer_that_leaves_during_the_yield() -> None:
    """A2, B5: The yield comes first, and the answerer is looked up after it."""
    bus = EventBus(yield_every=1)
    answerer = await bus.answer("q", "c", lambda _: 1)

    async def leave() -> None:
        bus.unsubscribe(answerer)

    async with create_task_group() as tasks:
        tasks.start_soon(leave)
        with fail_after(PATIENCE), pytest.raises(NoAnswer):
            while answerer.active:
                await bus.ask("q", 1)


async def test_instruments_see_it_through_both_methods() -> None:
    """A2: With the exception that leaves; built-in events don't show it."""
    witness = Witness()
    bus = EventBus(instruments=[witness])
    await bus.answer(PRICE, "prices", double)
    await bus.ask(PRICE, 1)
    seen = [("handling", "price.asked", None), ("publishing", "price.asked", None)]
    assert witness.notes == seen
    bus.unsubscribe_all("prices")
    await bus.answer(PRICE, "prices", fail)
    with pytest.raises(Boom) as caught:
        await bus.ask(PRICE, 1)
    assert witness.notes[2:] == [
        ("handling", "price.asked", caught.value),
        ("publishing", "price.asked", caught.value),
    ]


async def test_instruments_see_what_was_judged() -> None:
    """A2, E6, I2: A stray cancellation is the failure that the asker gets."""
    seen, stray = list[BaseException | None](), await kept_cancellation()

    class Watching:
        @contextmanager
        def publishing(self, event: Event[Any]) -> Generator[None]:
            try:
                yield
            except BaseException as exc:
                seen.append(exc)
                raise

    bus = EventBus(instruments=[Watching()])

    async def answer(data: int) -> int:
        raise stray

    await bus.answer(PRICE, "prices", answer)
    with pytest.raises(HandlerCancelled) as caught:
        await bus.ask(PRICE, 1)
    assert seen == [caught.value]


@pytest.mark.parametrize("limit", [None, 1])
async def test_a_topic_is_not_asked(limit: int | None) -> None:
    """A2: Whether the answerer of its name has terms or not."""
    bus = EventBus()

    async def answer(data: object) -> None:
        never(data)

    await bus.answer("q", "c", answer, limit=limit)
    with pytest.raises(TypeError, match="'q' is a topic, not a query"):
        await bus.ask(cast("Any", Topic[object]("q")))


async def test_an_instrument_may_refuse_it() -> None:
    """A2, I3: `PublishRefused` leaves `ask`, and the answerer has not started."""

    class Refusing:
        def publishing(self, event: Event[Any]) -> AbstractContextManager[None]:
            raise PublishRefused(event.name)

    bus = EventBus(instruments=[Refusing()])
    await bus.answer("q", "c", never)
    with pytest.raises(PublishRefused):
        await bus.ask("q")


async def test_instruments_that_come_and_go() -> None:
    """A2, I1: They see what is asked from their coming to their going."""
    bus, witness = EventBus(), Witness()
    await bus.answer(PRICE, "prices", double)
    assert await bus.ask(PRICE, 1) == 2
    bus.add_instrument(witness)
    assert await bus.ask(PRICE, 1) == 2
    bus.remove_instrument(witness)
    assert await bus.ask(PRICE, 1) == 2
    assert len(witness.notes) == 2


async def test_a_loop_of_questions_ends_at_max_depth() -> None:
    """A2: `Causality` counts questions as it counts publishes."""
    bus = EventBus(instruments=[Causality(max_depth=7)])
    asked = 0

    async def ask_again(_: object) -> Any:
        nonlocal asked
        asked += 1
        return await bus.ask("q")

    await bus.answer("q", "c", ask_again)
    with pytest.raises(PublishRefused):
        await bus.ask("q")
    assert asked == 7


class Prices(Component):
    """Answers with the double."""

    @answers(PRICE)
    async def quote(self, item: int) -> int:
        return 2 * item


async def test_a_component_answers_while_it_is_registered() -> None:
    """A1: `@answers` marks a method, as `@on` does."""
    engine = Engine()
    await engine.register(Prices("prices"))
    assert await engine.bus.ask(PRICE, 4) == 8
    await engine.unregister("prices")
    with pytest.raises(NoAnswer):
        await engine.bus.ask(PRICE, 4)


async def test_a_duplicate_answer_registers_nothing() -> None:
    """A2: Neither the name, nor a handler; no event is published."""

    class More(Prices):
        @on("placed")
        def take(self, _: object) -> None:
            never()

    engine = Engine()
    await engine.register(Prices("prices"))
    await engine.bus.subscribe(events.COMPONENT_REGISTERED, "c", never)
    with pytest.raises(DuplicateAnswer):
        await engine.register(More("others"))
    assert list(engine.components) == ["prices"]
    assert await engine.bus.publish("placed") == ()
    assert await engine.bus.ask(PRICE, 4) == 8


async def test_a_component_that_answers_one_query_twice() -> None:
    """A2: The message names both methods; nothing is registered, not even for a moment."""

    class Twice(Prices):
        @answers("price.asked")
        def also(self, item: int) -> int:
            return never()

    engine = Engine()
    with pytest.raises(DuplicateAnswer) as caught:
        await engine.register(Twice("prices"))
    assert not engine.components
    assert engine.bus.subscriptions() == ()
    quote, also = Prices.quote.__qualname__, Twice.also.__qualname__
    assert caught.value.methods == (quote, also)
    assert str(caught.value) == (
        f"{quote} and {also} of 'prices' both answer 'price.asked'; mark only one of them with "
        "@answers"
    )
    assert str(copy(caught.value)) == str(caught.value)


async def test_a_static_method_that_answers_one_query_twice() -> None:
    """A2: It is one function, and yet two answerers."""

    class Twice(Component):
        @staticmethod
        @answers(PRICE)
        @answers("price.asked")
        def quote(item: int, more: object = None) -> int:
            return never()

    engine = Engine()
    with pytest.raises(DuplicateAnswer, match="both answer"):
        await engine.register(Twice("prices"))
    assert engine.bus.subscriptions() == ()


async def test_a_mark_that_comes_too_late() -> None:
    """A1, B13: The message names the decorator that was used."""

    class Late(Component):
        quote: Any

    Late.quote = answers(PRICE)(lambda self, item: item)
    engine = Engine()
    with pytest.raises(TypeError, match=r"Late\.quote was marked with @answers and set after its"):
        await engine.register(Late("late"))


class Price:
    """No component, and called with two arguments, as its method is."""

    def __init__(self, item: object = 1, factor: object = 1) -> None:
        self.item = item

    def quote(self, item: object, factor: object) -> None:
        """Do nothing."""


async def generate(prices: object, item: int) -> AsyncGenerator[int]:
    """Yield in place of an answer."""
    yield item


async def test_what_can_t_be_marked() -> None:
    """A1: The message shows the right call."""
    with pytest.raises(TypeError, match=r"write @answers\(PRICE\) above double, not @answers"):
        answers(double)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="a method marked with @answers is called with 2"):
        answers("q")(lambda: 1)
    with pytest.raises(TypeError, match="but generate is a generator function"):
        answers("q")(generate)
    for given in (print, staticmethod(multiply), Price().quote, Price):
        with pytest.raises(TypeError, match=r"@answers marks a method, and .* takes no mark"):
            answers("q")(given)


async def test_an_answer_of_another_awaitable() -> None:
    """A1, B7: Any awaitable that a sync answerer returns is awaited."""
    bus, notes = EventBus(), list[object]()
    await bus.answer("q", "c", lambda data: Later(notes.append, data))
    assert await bus.ask("q", 1) is None
    assert notes == [1]


async def test_asking_until_somebody_answers() -> None:
    """A2, D6: Others run meanwhile, though nobody answers yet."""
    bus = EventBus()

    async def begin_to_answer() -> None:
        await bus.answer("q", "c", double)

    async with create_task_group() as tasks:
        tasks.start_soon(begin_to_answer)
        with fail_after(PATIENCE):
            while True:
                try:
                    assert await bus.ask("q", 1) == 2
                except NoAnswer:
                    continue
                break


@WATCHED
async def test_a_group_leaves_whole(is_watched: bool) -> None:
    """A1, E8: The very group that the answerer raised."""
    bus, group = make_bus(is_watched=is_watched), ExceptionGroup("group", [Boom()])

    async def raise_it(_: object) -> None:
        raise group

    await bus.answer("q", "c", raise_it)
    with pytest.raises(ExceptionGroup) as caught:
        await bus.ask("q")
    assert caught.value is group


Reaching: TypeAlias = Callable[[EventBus], Awaitable[object]]


def asking(bus: EventBus) -> Awaitable[object]:
    """Ask the handler."""
    return bus.ask("q")


def publishing(bus: EventBus) -> Awaitable[object]:
    """Call the handler by an event, whose failure is raised."""
    return bus.publish("e", on_error="raise")


REACHING = pytest.mark.parametrize("reach", [asking, publishing])
"""What an answerer raises leaves `ask` as what a handler raises leaves such a publish."""


async def reached(handler: Callable[[object], Awaitable[object]], *, is_watched: bool) -> EventBus:
    """Make a bus on which a handler can be reached in both ways."""
    bus = make_bus(is_watched=is_watched)
    await bus.answer("q", "c", handler)
    await bus.subscribe("e", "c", handler)
    return bus


@WATCHED
@REACHING
async def test_a_stray_cancellation_in_a_group_is_left_out(
    reach: Reaching, is_watched: bool
) -> None:
    """A1, E8: Nobody cancels the asker, so the rest is what leaves."""
    stray, boom = await kept_cancellation(), Boom()

    async def handler(_: object) -> None:
        raise BaseExceptionGroup("group", [stray, boom])

    bus = await reached(handler, is_watched=is_watched)
    with pytest.raises(ExceptionGroup) as caught:
        await reach(bus)
    assert caught.value.exceptions == (boom,)


async def group_up(boom: Boom) -> None:
    """Raise a cancellation and a failure, in a group."""
    try:
        await sleep_forever()
    except anyio.get_cancelled_exc_class() as exc:
        raise BaseExceptionGroup("group", [exc, boom]) from None


@WATCHED
@REACHING
async def test_a_failure_beside_the_asker_s_cancellation(reach: Reaching, is_watched: bool) -> None:
    """A1, E5, E8: The failure leaves; the cancellation strikes at the next checkpoint."""
    boom, left = Boom(), list[BaseException]()
    bus = await reached(lambda _: group_up(boom), is_watched=is_watched)
    with fail_after(PATIENCE), CancelScope() as scope:
        async with create_task_group() as tasks:

            async def run() -> None:
                try:
                    await reach(bus)
                except ExceptionGroup as exc:
                    left.extend(exc.exceptions)
                await checkpoint()
                never()

            tasks.start_soon(run)
            await settle()
            scope.cancel()
    assert left == [boom]
    assert scope.cancelled_caught


@WATCHED
@REACHING
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_failure_beside_a_native_cancellation(reach: Reaching, is_watched: bool) -> None:
    """A1, E5, E8: The failure leaves and replaces the cancellation, as in a plain await."""
    boom = Boom()
    bus = await reached(lambda _: group_up(boom), is_watched=is_watched)

    async def run() -> None:
        await reach(bus)

    task = asyncio.create_task(run())
    await settle()
    task.cancel()
    with pytest.raises(ExceptionGroup) as caught:
        await task
    assert caught.value.exceptions == (boom,)


@WATCHED
async def test_a_group_of_nothing_but_the_asker_s_cancellation(is_watched: bool) -> None:
    """A1, E5, E8: It leaves as a bare cancellation."""
    left = list[BaseException]()

    async def handler(_: object) -> None:
        try:
            await sleep_forever()
        except anyio.get_cancelled_exc_class() as exc:
            raise BaseExceptionGroup("group", [exc]) from None

    bus = await reached(handler, is_watched=is_watched)
    with fail_after(PATIENCE):
        async with create_task_group() as tasks:

            async def ask() -> None:
                try:
                    await bus.ask("q")
                except BaseException as exc:
                    left.append(exc)
                    raise

            tasks.start_soon(ask)
            await settle()
            tasks.cancel_scope.cancel()
    assert isinstance(left[0], anyio.get_cancelled_exc_class())


@pytest.mark.parametrize("terms", [{}, {"limit": 1}, {"time_limit": 9.0}], ids=str)
async def test_a_stop_iteration(terms: Any) -> None:
    """A1: No coroutine can raise it, so Python makes a `RuntimeError` of it."""
    bus, stop = EventBus(), StopIteration()

    def handler(_: object) -> None:
        raise stop

    await bus.answer("q", "c", handler, **terms)
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        await bus.ask("q")
    assert stop in contexts(caught.value)


async def test_built_in_events_do_not_show_it() -> None:
    """A2: None is published for a question, nor for its failure."""
    bus = EventBus()
    for name in BUILT_IN:
        await bus.subscribe(name, "c", never)
    await bus.answer("q", "c", double)
    await bus.answer("r", "c", fail)
    assert await bus.ask("q", 1) == 2
    with pytest.raises(Boom):
        await bus.ask("r", 1)
    with pytest.raises(NoAnswer):
        await bus.ask("s", 1)
