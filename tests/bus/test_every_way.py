"""Every way that a publish can go, held to the clauses: B4, B5, B8, B9, B11, D, E, I2 and I3."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from itertools import product
from typing import Any

import pytest
from anyio import (
    CancelScope,
    Event,
    create_task_group,
    get_cancelled_exc_class,
    get_current_task,
    sleep_forever,
)
from anyio.lowlevel import checkpoint

from flexiflow import HandlerCancelled, HandlerFailure, PublishRefused
from flexiflow._instruments import HAPPENED
from flexiflow.events import HANDLER_FAILED
from tests.accounting import STYLES, Boom, Fatal
from tests.attacks import kept_cancellation
from tests.bus.ways import WAYS, Act, Scene, Way, calls_of_handlers
from tests.helpers import never, settle

pytestmark = pytest.mark.unmeasured


def on_each_way(where: Callable[[Way], object] = bool) -> pytest.MarkDecorator:
    """Run a test for each way of which something is true."""
    chosen = [pytest.param(way, id=way.name) for way in WAYS if where(way)]
    assert chosen
    return pytest.mark.parametrize("way", chosen)


each_way = on_each_way()
each_waiting_way = on_each_way(lambda way: way.waits)
each_filtered_way = on_each_way(lambda way: "filter" in way.terms)
each_once_way = on_each_way(lambda way: "once" in way.terms)
each_watched_way = on_each_way(lambda way: way.watched)

variable: ContextVar[str] = ContextVar("variable", default="")


def scenes(way: Way, **options: Any) -> Iterator[Scene]:
    """Set the scene once for each policy."""
    for policy in way.policies:
        yield Scene(way, policy, **options)


def variants(way: Way) -> Iterator[tuple[Scene, bool]]:
    """Set the scene once for each policy, for handlers that succeed, and for some that fail."""
    for fails in (False, True):
        for scene in scenes(way):
            yield scene, fails


def failing(exception: BaseException) -> Act:
    """Make a handler's act that fails."""

    def fail() -> None:
        raise exception

    return fail


async def left_by(scene: Scene) -> BaseException | None:
    """Publish, and return what leaves it."""
    try:
        await scene.publish()
    except BaseException as exc:  # noqa: BLE001  whatever it is, the test judges it
        return exc
    return None


def test_each_call_of_a_handler_is_on_one_of_the_ways() -> None:
    """D1: a new loop that calls handlers needs ways of its own here."""
    calls = {
        f"{function} {number}"
        for (_, function), lines in calls_of_handlers().items()
        for number in range(1, 1 + len(lines))
    }
    paths = {path for way in WAYS for path in (way.path, way.after)}
    # `ask` calls an answerer, and is no publish.
    assert calls - {"EventBus.ask 1"} == {path.split(" > ")[-1] for path in paths}


@each_way
async def test_it_goes_the_way_that_it_is_meant_to(way: Way) -> None:
    """D1: each handler gets the payload itself, from the loop that the way says."""
    for scene in scenes(way):
        async with scene:
            for name in "abc":
                scene.on(name)
            assert await scene.publish() == ()
            assert scene.started == scene.ended == ["a", "b", "c"]
            assert scene.paths == {way.path}
            assert way.begins == "announce" or all(each is scene.data for each in scene.given)


@each_way
async def test_nothing_happens_where_nobody_hears(way: Way) -> None:
    """B3: an event without handlers is published in vain, seen by instruments alone."""
    for scene in scenes(way):
        async with scene:
            assert await scene.publish() == ()
            assert [span.shown for span in scene.spans] == [[None]] * way.watches("publishing")


@each_way
async def test_the_order_is_that_of_priority_then_of_subscription(way: Way) -> None:
    """B4: 1 comes first, equal ones in the order in which they were subscribed."""
    async with Scene(way) as scene:
        for place, priority in enumerate([3, 1, 5, 3, 1, 2]):
            scene.on(f"{priority}{place}", priority=priority)
        await scene.publish()
        assert scene.started == ["11", "14", "25", "30", "33", "52"]


@each_way
async def test_one_who_comes_meanwhile_does_not_see_the_event(way: Way) -> None:
    """B5: neither where the handler that subscribed it returns, nor where that then fails."""
    for scene, fails in variants(way):

        def subscribe(*, scene: Scene = scene, fails: bool = fails) -> None:
            scene.on("late", priority=5)
            if fails:
                raise Boom

        async with scene:
            first = scene.on("first", subscribe, priority=1)
            scene.on("second")
            with suppress(Boom):
                await scene.publish()
            assert scene.started == (["first"] if fails and scene.stops else ["first", "second"])
            scene.bus.unsubscribe(first)
            await scene.publish()
            assert scene.started.count("late") == 1


@each_way
async def test_one_who_goes_meanwhile_does_not_start(way: Way) -> None:
    """B5: neither where the handler that unsubscribed it returns, nor where that then fails."""
    for scene, fails in variants(way):

        def unsubscribe(*, scene: Scene = scene, fails: bool = fails) -> None:
            scene.bus.unsubscribe_all("gone")
            if fails:
                raise Boom

        async with scene:
            scene.on("first", unsubscribe)
            scene.on("gone", never)
            scene.on("third")
            with suppress(Boom):
                await scene.publish()
            assert scene.started == (["first"] if fails and scene.stops else ["first", "third"])


@each_filtered_way
async def test_a_filter_decides_for_its_own_subscription(way: Way) -> None:
    """B8: asked with the name and the payload, it refuses or unsubscribes its own, no other."""
    for scene in scenes(way):
        asked: list[tuple[str, object]] = []

        def refuse(name: str, data: object, *, asked: list[Any] = asked) -> bool:
            asked.append((name, data))
            return False

        def unsubscribe(name: str, data: object, *, scene: Scene = scene) -> bool:
            return scene.bus.unsubscribe_all("gone") == 1

        async with scene:
            scene.on("first")
            scene.on("refused", never, filter=refuse)
            scene.on("gone", never, filter=unsubscribe)
            scene.on("last")
            assert await scene.publish() == ()
            assert scene.started == ["first", "last"]
            ((name, data),) = asked
            assert name == way.event
            assert way.begins == "announce" or data is scene.data


@each_filtered_way
async def test_a_filter_that_raises_has_failed(way: Way) -> None:
    """B8: it is a failure of that subscription, under the same policy, and the next goes on."""
    boom = Boom()

    def fail(name: str, data: object) -> bool:
        raise boom

    for scene in scenes(way):
        async with scene:
            scene.on("first")
            failed = scene.on("failed", never, filter=fail)
            scene.on("last")
            assert await left_by(scene) is (boom if scene.stops else None)
            assert scene.logged == [boom] * (not scene.stops)
            assert scene.started == (["first"] if scene.stops else ["first", "last"])
            assert failed.active


@each_filtered_way
async def test_a_filter_is_not_asked_for_one_who_is_gone(way: Way) -> None:
    """B8: it is asked just before its handler would start, which that of one gone would not."""
    for scene in scenes(way):
        async with scene:
            scene.on("first", partial(scene.bus.unsubscribe_all, "gone"))
            scene.on("gone", never, filter=never)
            scene.on("last")
            assert await scene.publish() == ()
            assert scene.started == ["first", "last"]


@each_once_way
async def test_one_for_once_starts_once(way: Way) -> None:
    """B9: unsubscribed before it starts, and once only, whether or not it fails."""
    for scene, fails in variants(way):
        subscribed: list[bool] = []

        def act(
            *, scene: Scene = scene, fails: bool = fails, subscribed: list[bool] = subscribed
        ) -> None:
            subscribed.append(scene.bus.unsubscribe_all("once") > 0)
            if fails:
                raise Boom

        async with scene:
            scene.on("once", act)
            scene.on("other", priority=5)
            for _ in range(2):
                with suppress(Boom):
                    await scene.publish()
            assert scene.started == ["once", "other"]
            assert subscribed == [False]


@each_once_way
async def test_one_for_once_that_is_refused_stays(way: Way) -> None:
    """B9: a filter that refuses or raises leaves it subscribed."""
    for scene in scenes(way):
        answers: list[bool | Boom] = [False, Boom(), True]

        def answer(name: str, data: object, *, answers: list[bool | Boom] = answers) -> bool:
            if isinstance(said := answers.pop(0), Boom):
                raise said
            return said

        async with scene:
            once = scene.on("once", filter=answer)
            for started in ([], [], ["once"]):
                assert once.active
                with suppress(Boom):
                    await scene.publish()
                assert scene.started == started
            assert not once.active


# A limited handler can't be called from within itself, nor is a failure told of within such.
@on_each_way(lambda way: way.waits and "limit" not in way.terms and way.begins != "announce")
async def test_an_event_within_an_event_is_delivered_at_once(way: Way) -> None:
    """B11: depth first, as a plain await would."""
    for scene in scenes(way):

        async def publish(*, scene: Scene = scene) -> None:
            if "inner" not in scene.notes:
                scene.notes.append("inner")
                assert await scene.publish() == ()
                scene.notes.append("outer")

        async with scene:
            scene.on("first", publish, priority=1)
            scene.on("second")
            await scene.publish()
            inner = scene.notes[scene.notes.index("inner") : scene.notes.index("outer")]
            assert "end second" in inner


@each_waiting_way
async def test_who_is_called_at_the_same_time(way: Way) -> None:
    """D1: one at a time; D2: all at once; D3: tier by tier; D4: and all end before publish."""
    expected = {
        "sequential": ["a", "ab", "abc", "abcd"],
        "concurrent": ["abcd"],
        "tiered": ["ab", "abcd"],
    }
    for scene in scenes(way):
        gates = {name: Event() for name in "abcd"}
        over = Event()

        async def publish(*, scene: Scene = scene, over: Event = over) -> None:
            await scene.publish()
            over.set()

        async with scene, create_task_group() as group:
            for name, gate in gates.items():
                scene.on(name, gate.wait, priority=1 if name < "c" else 2)
            group.start_soon(publish)
            for started in expected[way.delivery]:
                await settle()
                assert "".join(scene.started) == started
                assert not over.is_set()
                for name in started:
                    gates[name].set()
        assert over.is_set()
        assert sorted(scene.ended) == scene.started


@each_way
async def test_what_a_handler_sets_in_its_context(way: Way) -> None:
    """D1: in sequence it is the publisher's own task and context; D2: else nobody else's."""
    for scene in scenes(way):
        seen: list[str] = []
        tasks: list[int] = []

        def act(*, seen: list[str] = seen, tasks: list[int] = tasks) -> None:
            seen.append(variable.get())
            variable.set(variable.get() + "+")
            tasks.append(get_current_task().id)

        async with scene:
            for name in "abc":
                scene.on(name, act)
            variable.set("publisher")
            await scene.publish()
            mine = [task == get_current_task().id for task in tasks]
            if way.sequential:
                assert (seen[-1], variable.get(), mine) == (
                    "publisher++",
                    "publisher+++",
                    [True] * 3,
                )
            else:
                assert (seen, variable.get()) == (["publisher"] * 3, "publisher")
                assert mine == [False] * 3


@each_way
async def test_each_publish_brings_a_checkpoint_nearer(way: Way) -> None:
    """D6: one in `yield_every` is one; what the bus itself emits makes the next publish one."""
    for scene in scenes(way, yield_every=2):
        async with scene:
            scene.on("a")
            await scene.publish()
            scene.on("b", never)
            with CancelScope() as scope:
                scope.cancel()
                if way.begins != "publish":
                    assert await scene.bus.publish("shop.closed") == ()
                await scene.publish()
            assert scope.cancelled_caught
            assert scene.started == ["a"]


@each_way
async def test_a_failure_is_reported_or_raised(way: Way) -> None:
    """E1: logged, announced and returned, and the others go on; E2, E3: or raised, bare."""
    for policy, failed in product(way.policies, ("a", "c", "abc")):
        await _fail(Scene(way, policy), {name: Boom(name) for name in failed})


async def _fail(scene: Scene, booms: dict[str, Boom]) -> None:
    way = scene.way
    async with scene:
        subscriptions = {
            name: scene.on(name, failing(booms[name]) if name in booms else None, priority=at)
            for at, name in enumerate("abc", 1)
        }
        if scene.stops:
            first = next(iter(booms))
            with pytest.raises(Boom) as caught:
                await scene.publish()
            assert caught.value is booms[first]
            assert "".join(scene.started) == "abc"[: "abc".index(first) + 1]
            assert (scene.logged, scene.announced) == ([], [])
        else:
            failures = tuple(
                HandlerFailure(way.event, name, boom, subscriptions[name])
                for name, boom in booms.items()
            )
            assert await scene.publish() == (failures if way.begins == "publish" else ())
            assert "".join(scene.started) == "abc"
            assert scene.logged == [*booms.values()]
            assert scene.announced == [*booms.values()] * way.announces
            assert scene.paths == {way.path, *([way.after] if "a" in booms else [])}
        assert scene.ended == scene.started


@on_each_way(lambda way: way.announces)
async def test_a_failure_within_an_observer_of_failures_is_not_announced(way: Way) -> None:
    """E7: it is logged, or raised to the observer, and goes no further."""
    for scene in scenes(way):
        inner, outer = Boom("inner"), Boom("outer")

        async def observe(data: object, *, scene: Scene = scene) -> None:
            with suppress(Boom):
                await scene.publish()

        def fail(data: object, *, outer: Boom = outer) -> None:
            raise outer

        async with scene:
            await scene.bus.subscribe(HANDLER_FAILED, "observer", observe)
            await scene.bus.subscribe("shop.closed", "c", fail)
            scene.on("a", failing(inner))
            await scene.bus.publish("shop.closed", delivery="sequential", on_error="continue")
            assert scene.started == ["a"]
            assert scene.announced == [outer]
            assert scene.logged == [outer, *([] if scene.stops else [inner])]


@each_way
async def test_a_group_is_one_failure(way: Way) -> None:
    """E8: an exception group is kept whole."""
    group = ExceptionGroup("several", [Boom(), Boom()])
    for scene in scenes(way):
        async with scene:
            scene.on("a", failing(group))
            assert await left_by(scene) is (group if scene.stops else None)
            assert scene.logged == [group] * (not scene.stops)


@each_way
async def test_an_exit_leaves_at_once(way: Way) -> None:
    """E5: what is neither a failure nor a cancellation leaves bare, under either policy."""
    for scene in scenes(way):
        fatal = Fatal()
        async with scene:
            scene.on("a")
            scene.on("b", failing(fatal))
            scene.on("c")
            assert await left_by(scene) is fatal
            assert scene.started == scene.ended == ["a", "b"]
            assert (scene.logged, scene.announced) == ([], [])


@each_way
async def test_a_stray_cancellation_is_a_failure(way: Way) -> None:
    """E6: one that is nobody's becomes `HandlerCancelled`, and the others go on."""
    for scene in scenes(way):
        stray = await kept_cancellation()
        async with scene:
            scene.on("a", failing(stray))
            scene.on("b")
            left = await left_by(scene)
            (failure,) = [left] if scene.stops else scene.logged
            assert isinstance(failure, HandlerCancelled)
            assert failure.__cause__ is stray
            assert scene.started == (["a"] if scene.stops else ["a", "b"])


class Cancelled:
    """A publish that is cancelled when its handlers wait.

    Args:
        scene: publishes.
        style: how it is cancelled: by its "scope", or its task "native"ly.

    Attributes:
        left: what left it.
    """

    def __init__(self, scene: Scene, style: str) -> None:
        self.left: BaseException | None = None
        self._scene = scene
        self._is_native = style == "native"
        self._scope = CancelScope()
        self._task: Any = None

    async def run(self) -> None:
        """Publish, and cancel that."""
        async with create_task_group() as group:
            group.start_soon(self._publish)
            await settle()
            if self._is_native:
                self._task.cancel()
            else:
                self._scope.cancel()

    async def _publish(self) -> None:
        if self._is_native:
            self._task = asyncio.current_task()
        # A native cancellation ends here, one of the scope's where the scope does.
        ended = [Boom, asyncio.CancelledError] if self._is_native else [Boom]
        with self._scope, suppress(*ended):
            try:
                await self._scene.publish()
            except BaseException as exc:
                self.left = exc
                raise


def cancellations(way: Way) -> Iterator[tuple[Scene, Cancelled]]:
    """Set the scene once for each policy, and for each way to cancel a publish."""
    for style in STYLES:
        if style == "scope" or get_cancelled_exc_class() is asyncio.CancelledError:
            for scene in scenes(way):
                yield scene, Cancelled(scene, style)


@each_waiting_way
async def test_a_cancellation_is_no_failure(way: Way) -> None:
    """E5: it passes, nothing is reported, no further handler starts; D4: and all have ended."""
    for scene, cancelled in cancellations(way):
        async with scene:
            scene.on("a", sleep_forever, priority=1)
            scene.on("b", priority=2)
            await cancelled.run()
            assert isinstance(cancelled.left, get_cancelled_exc_class())
            assert (scene.logged, scene.announced) == ([], [])
            assert scene.started == (["a", "b"] if way.delivery == "concurrent" else ["a"])
            assert sorted(scene.ended) == scene.started


@each_waiting_way
async def test_a_failure_in_a_cancellation(way: Way) -> None:
    """E5: it is logged, and the cancellation goes on; or raised, as from a plain await."""
    boom = Boom()

    async def wait() -> None:
        try:
            await sleep_forever()
        finally:
            with CancelScope(shield=True):
                await checkpoint()
            raise boom

    for scene, cancelled in cancellations(way):
        async with scene:
            scene.on("a", wait, priority=1)
            scene.on("b", priority=2)
            await cancelled.run()
            if scene.stops:
                assert cancelled.left is boom
            else:
                assert isinstance(cancelled.left, get_cancelled_exc_class())
            assert scene.logged == [boom] * (not scene.stops)
            assert scene.announced == []
            assert scene.started == (["a", "b"] if way.delivery == "concurrent" else ["a"])


def shown(scene: Scene, what: str) -> list[BaseException | None]:
    """Tell what those instruments were shown that watch the publishes, or a component's handler."""
    spans = [span for span in scene.spans if span.what == what]
    assert all(len(span.shown) == 1 for span in spans)
    return [span.shown[0] for span in spans]


@each_watched_way
async def test_an_instrument_is_shown_what_leaves(way: Way) -> None:
    """I2: a handler's failure at the handler, and at the publish what leaves that, or nothing."""
    for exception, failed in product((None, Boom(), Fatal()), "ab"):
        for scene in scenes(way):
            async with scene:
                for name in "ab":
                    fails = exception is not None and name == failed
                    scene.on(name, failing(exception) if exception and fails else None)
                left = await left_by(scene)
                leaves = scene.stops or isinstance(exception, Fatal)
                assert left is (exception if leaves else None)
                assert shown(scene, way.event) == [left] * way.watches("publishing")
                for name in scene.started:
                    expected = exception if name == failed else None
                    assert shown(scene, name) == [expected] * way.watches("handling")


@each_watched_way
async def test_an_instrument_is_around_what_it_watches(way: Way) -> None:
    """I2: entered before the first handler begins, and exited after the last has ended."""
    publishing, handling = way.watches("publishing"), way.watches("handling")
    for scene in scenes(way):
        async with scene:
            for name in "ab":
                scene.on(name)
            await scene.publish()
            expected = [f"enter {way.event}"] * publishing
            for name in "ab":
                expected += [f"enter {name}"] * handling
                expected += [f"start {name}", f"end {name}"]
                expected += [f"exit {name}"] * handling
            assert scene.notes == [*expected, *[f"exit {way.event}"] * publishing]


@on_each_way(lambda way: way.watched and way.waits)
async def test_an_instrument_is_shown_a_cancellation(way: Way) -> None:
    """I2: at the handler that it struck, and at the publish that it leaves."""
    watched = {way.event: way.watches("publishing"), "a": way.watches("handling")}
    for scene, cancelled in cancellations(way):
        async with scene:
            scene.on("a", sleep_forever)
            await cancelled.run()
            for what, number in watched.items():
                kinds = [isinstance(each, get_cancelled_exc_class()) for each in shown(scene, what)]
                assert kinds == [True] * number


@each_watched_way
async def test_an_instrument_that_fails_is_taken_out(way: Way) -> None:
    """I3: it is logged once, the handlers run all the same, and a failure of theirs is kept."""
    for policy, moment, boom in product(way.policies, ("enter", "exit"), (None, Boom())):
        await _take_out(Scene(way, policy), moment, boom)


async def _take_out(scene: Scene, moment: str, boom: Boom | None) -> None:
    way, trouble = scene.way, ValueError()
    async with scene:
        scene.trouble, scene.fails_in = trouble, moment
        scene.on("a", None if boom is None else failing(boom))
        scene.on("b")
        assert await left_by(scene) is (boom if scene.stops else None)
        assert scene.started == (["a"] if boom and scene.stops else ["a", "b"])
        assert scene.logged.count(trouble) == len(way.watched)
        assert scene.logged.count(boom) == (boom is not None and not scene.stops)
        spans = len(scene.spans)
        with suppress(Boom):
            await scene.publish()
        assert len(scene.spans) == spans
        # Without instruments the last one went another way.
        scene.paths.clear()


@on_each_way(lambda way: way.watches("publishing"))
async def test_an_instrument_may_refuse_a_publish(way: Way) -> None:
    """I3: `PublishRefused` leaves before any handler starts, but never for what has happened."""
    refused = way.event not in HAPPENED
    for scene in scenes(way):
        async with scene:
            scene.trouble, scene.fails_in = PublishRefused(), "enter"
            scene.on("a")
            assert await left_by(scene) is (scene.trouble if refused else None)
            assert scene.started == ([] if refused else ["a"])
