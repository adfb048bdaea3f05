"""What the bus promises of any subscriptions and any handlers: the clauses marked P."""

import gc
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Literal, NoReturn

import anyio
from anyio import CancelScope, Event, fail_after, get_cancelled_exc_class, get_current_task
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from flexiflow import EventBus, HandlerCancelled, Subscription
from flexiflow._bus import DeliveryMode, ErrorPolicy
from flexiflow.testing._trace import matches
from properties.model import (
    COMPONENTS,
    NAMES,
    PATTERNS,
    Model,
    Reality,
    Script,
    scripts,
)
from tests.accounting import (
    EVENT,
    POLICIES,
    STYLES,
    Boom,
    Ledger,
    Publisher,
)
from tests.attacks import kept_cancellation
from tests.helpers import MODES, PATIENCE

modes = st.sampled_from(MODES)
policies = st.sampled_from(POLICIES)
priorities = st.integers(1, 5)
turns = st.integers(0, 3)


async def take(count: int) -> None:
    """Let others run so many times."""
    for _ in range(count):
        await checkpoint()


@given(script=scripts)
def test_a_script_goes_as_in_the_model(backend: str, script: Script) -> None:
    """B4 B5 B6 D1 E1 E2 E4: who starts, in which order, and what fails, is as in the model."""
    reality = Reality(script)
    assert anyio.run(reality.run, backend=backend) == Model(script).run()


@given(
    subscribed=st.lists(st.tuples(st.sampled_from(PATTERNS), priorities), max_size=12),
    waits=st.lists(turns, min_size=12, max_size=12),
    mode=modes,
)
def test_handlers_start_in_order_of_delivery(
    backend: str, subscribed: list[tuple[str, int]], waits: list[int], mode: DeliveryMode
) -> None:
    """B4 D2: they start by priority, then by subscription, also where they wait for something."""
    started: list[int] = []

    def handler(place: int) -> Callable[[Any], object]:
        async def handle(_: Any) -> None:
            started.append(place)
            await take(waits[place])

        return handle

    async def scenario() -> None:
        bus = EventBus()
        for place, (pattern, priority) in enumerate(subscribed):
            await bus.subscribe(pattern, "worker", handler(place), priority=priority)
        await bus.publish("a.b", delivery=mode)

    anyio.run(scenario, backend=backend)
    heard = [place for place, (pattern, _) in enumerate(subscribed) if matches(pattern, "a.b")]
    assert started == sorted(heard, key=lambda place: subscribed[place][1])


@dataclass(frozen=True)
class Meddled:
    """What happens to a subscription while its event is being published.

    Attributes:
        priority: its own; who meddles comes first.
        stays: whether it isn't unsubscribed.
    """

    priority: int
    stays: bool


@given(
    meddled=st.lists(st.builds(Meddled, priorities, st.booleans()), max_size=6),
    after=turns,
    mode=modes,
)
def test_one_subscribed_or_unsubscribed_meanwhile(
    backend: str, meddled: list[Meddled], after: int, mode: DeliveryMode
) -> None:
    """B5: who comes meanwhile isn't called; who goes meanwhile doesn't start thereafter."""
    story: list[tuple[str, int]] = []

    async def scenario() -> None:
        bus = EventBus()
        subscriptions: list[Subscription] = []

        async def meddle(_: Any) -> None:
            await take(after)
            for place, each in enumerate(meddled):
                await bus.subscribe(EVENT, "late", lambda _: story.append(("late", 0)), priority=1)
                if not each.stays and bus.unsubscribe(subscriptions[place]):
                    story.append(("gone", place))

        async def handle(place: int, _: Any) -> None:
            story.append(("started", place))
            await checkpoint()

        await bus.subscribe(EVENT, "worker", meddle, priority=1)
        for place, each in enumerate(meddled):
            handler = partial(handle, place)
            subscription = await bus.subscribe(EVENT, "worker", handler, priority=each.priority)
            subscriptions.append(subscription)
        await bus.publish(EVENT, delivery=mode)

    anyio.run(scenario, backend=backend)
    gone = {place for what, place in story if what == "gone"}
    started = [place for what, place in story if what == "started"]
    assert ("late", 0) not in story
    assert len(set(started)) == len(started)
    assert set(range(len(meddled))) - gone <= set(started)
    assert all(
        story.index(("started", place)) < story.index(("gone", place))
        for place in gone.intersection(started)
    )


class Held:
    """A handler that can be watched."""

    def __call__(self, _: Any) -> None:
        """Do nothing."""


def unsubscribe_all(bus: EventBus, subscriptions: list[Subscription], how: str) -> int:
    """End all of them in one of the ways there are, and say how many were."""
    if how == "by component":
        return sum(map(bus.unsubscribe_all, COMPONENTS))
    if how == "one by one":
        return sum(map(bus.unsubscribe, subscriptions))
    for subscription in subscriptions:
        with subscription:
            assert subscription.active
    return len(subscriptions)


@given(
    subscribed=st.lists(st.tuples(st.sampled_from(PATTERNS), st.sampled_from(COMPONENTS))),
    published=st.lists(st.sampled_from(NAMES)),
    order=st.randoms(use_true_random=False),
    how=st.sampled_from(["one by one", "by component", "as contexts"]),
)
def test_nothing_of_a_removed_subscription_stays(
    backend: str, subscribed: list[tuple[str, str]], published: list[str], order: Random, how: str
) -> None:
    """B6: `unsubscribe` is True once, then False, and its handler is let go of at once."""
    bus, other, watched = EventBus(), EventBus(), list[weakref.ref[Held]]()

    async def subscribe() -> list[Subscription]:
        handlers = [Held() for _ in subscribed]
        watched.extend(map(weakref.ref, handlers))
        return [
            await bus.subscribe(pattern, component, handler)
            for (pattern, component), handler in zip(subscribed, handlers, strict=True)
        ]

    async def scenario() -> None:
        subscriptions = await subscribe()
        for name in published:
            await bus.publish(name)
        order.shuffle(subscriptions)
        assert not any(map(other.unsubscribe, subscriptions))
        assert unsubscribe_all(bus, subscriptions, how) == len(subscribed)
        assert not any(map(bus.unsubscribe, subscriptions))
        assert not any(subscription.active for subscription in subscriptions)

    anyio.run(scenario, backend=backend)
    gc.collect()
    assert [each() for each in watched if each() is not None] == []
    assert sum(map(bus.unsubscribe_all, COMPONENTS)) == 0


class Equal:
    """Is equal to every other of its kind, so that only identity tells them apart."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal)

    def __hash__(self) -> int:
        return 0


request: ContextVar[Equal] = ContextVar("request")


@given(waits=st.lists(turns, max_size=6), marks=st.lists(st.booleans(), min_size=6, max_size=6))
def test_sequential_is_the_publishers_own_task_and_context(
    backend: str, waits: list[int], marks: list[bool]
) -> None:
    """D1: one at a time, in order, in the publisher's task; what one sets the next one sees."""
    story: list[str] = []

    async def scenario() -> None:
        bus, expected = EventBus(), [Equal()]
        request.set(expected[0])
        publisher = get_current_task().id
        for place, wait in enumerate(waits):

            async def handle(_: Any, place: int = place, wait: int = wait) -> None:
                story.append(f"{place} starts")
                assert request.get() is expected[-1]
                if marks[place]:
                    expected.append(Equal())
                    request.set(expected[-1])
                await take(wait)
                assert get_current_task().id == publisher
                story.append(f"{place} ends")

            await bus.subscribe(EVENT, "worker", handle)
        assert await bus.publish(EVENT) == ()
        assert request.get() is expected[-1]

    anyio.run(scenario, backend=backend)
    assert story == [
        f"{place} {what}" for place in range(len(waits)) for what in ("starts", "ends")
    ]


@given(
    handlers=st.lists(st.tuples(turns, st.sampled_from(["keeps", "sets", "adds"]), turns)),
    mode=st.sampled_from(["concurrent", "tiered"]),
)
def test_concurrent_handlers_are_isolated(
    backend: str, handlers: list[tuple[int, str, int]], mode: DeliveryMode
) -> None:
    """D2: each sees the publisher's context, by identity, and nothing of the others' changes."""

    async def scenario() -> None:
        bus, mine, extra = EventBus(), Equal(), ContextVar[int]("extra")
        request.set(mine)
        for before, what, after in handlers:

            async def handle(
                _: Any, before: int = before, what: str = what, after: int = after
            ) -> None:
                assert request.get() is mine
                assert extra.get(None) is None
                await take(before)
                own = Equal() if what == "sets" else mine
                if what == "sets":
                    request.set(own)
                if what == "adds":
                    extra.set(1)
                await take(after)
                assert request.get() is own
                assert extra.get(None) is (1 if what == "adds" else None)

            await bus.subscribe(EVENT, "worker", handle)
        await bus.publish(EVENT, delivery=mode, on_error="raise")
        assert request.get() is mine
        assert extra.get(None) is None

    anyio.run(scenario, backend=backend)


@given(waits=st.lists(turns, min_size=1, max_size=12), awaited=st.randoms(use_true_random=False))
def test_handlers_that_wait_for_each_other_make_progress(
    backend: str, waits: list[int], awaited: Any
) -> None:
    """D2: all are under way at once, so whichever one waits for is there to come."""

    async def scenario() -> None:
        bus = EventBus()
        arrived = [Event() for _ in waits]
        for place, wait in enumerate(waits):
            others = awaited.sample(range(len(waits)), awaited.randint(0, len(waits)))

            async def handle(
                _: Any, place: int = place, wait: int = wait, others: list[int] = others
            ) -> None:
                await take(wait)
                arrived[place].set()
                for other in others:
                    await arrived[other].wait()

            await bus.subscribe(EVENT, "worker", handle)
        with fail_after(PATIENCE):
            await bus.publish(EVENT, delivery="concurrent")
        assert all(each.is_set() for each in arrived)

    anyio.run(scenario, backend=backend)


@given(handlers=st.lists(st.tuples(priorities, turns), max_size=10))
def test_a_tier_ends_before_the_next_begins(backend: str, handlers: list[tuple[int, int]]) -> None:
    """D3: all of a priority have ended before the first of the next one starts, in order."""
    story: list[tuple[int, str, int]] = []

    async def scenario() -> None:
        bus = EventBus()
        for place, (priority, wait) in enumerate(handlers):

            async def handle(
                _: Any, place: int = place, priority: int = priority, wait: int = wait
            ) -> None:
                story.append((priority, "starts", place))
                await take(wait)
                story.append((priority, "ends", place))

            await bus.subscribe(EVENT, "worker", handle, priority=priority)
        await bus.publish(EVENT, delivery="tiered")

    anyio.run(scenario, backend=backend)
    tiers = [priority for priority, _, _ in story]
    starts = [place for _, what, place in story if what == "starts"]
    assert len(story) == 2 * len(handlers)
    assert tiers == sorted(tiers)
    assert starts == sorted(range(len(handlers)), key=lambda place: handlers[place][0])


@dataclass(frozen=True)
class Fate:
    """What becomes of a handler, left alone or cancelled.

    Attributes:
        priority: its subscription's.
        turns: how long it takes.
        filter_raises: whether it gets to start.
        end: how it ends where nothing happens to it.
        cancelled: how it ends where it is cancelled.
    """

    priority: int
    turns: int
    filter_raises: bool
    end: Literal["returns", "fails", "strays"]
    cancelled: Literal["passes", "cleans up", "fails", "shrugs"]


fates = st.lists(
    st.builds(
        Fate,
        priority=priorities,
        turns=st.integers(0, 4),
        filter_raises=st.sampled_from([False, False, False, True]),
        end=st.sampled_from(["returns", "fails", "strays"]),
        cancelled=st.sampled_from(["passes", "cleans up", "fails", "shrugs"]),
    ),
    min_size=1,
    max_size=7,
)


class Fates:
    """Subscribes handlers that meet their fates, and tells the story."""

    def __init__(self, ledger: Ledger, given: list[Fate]) -> None:
        self.story: list[tuple[str, int]] = []
        self.subscriptions: list[Subscription] = []
        self._ledger = ledger
        self._fates = given

    async def subscribe(self) -> None:
        """Subscribe all of them."""
        stray = await kept_cancellation()
        for place, fate in enumerate(self._fates):
            subscription = await self._ledger.on(
                self._handler(place, fate, stray),
                priority=fate.priority,
                filter=self._filter(place) if fate.filter_raises else None,
            )
            self.subscriptions.append(subscription)

    @property
    def running(self) -> set[int]:
        """Who started and hasn't ended."""
        return self._whom("started") - self._whom("ended")

    def _whom(self, what: str) -> set[int]:
        return {place for happened, place in self.story if happened == what}

    def _filter(self, place: int) -> Callable[[str, Any], bool]:
        def refuse(_event: str, _data: Any) -> bool:
            self._fail(place)

        return refuse

    def _fail(self, place: int) -> NoReturn:
        self.story.append(("failed", place))
        raise self._ledger.inject(Boom())

    def _handler(self, place: int, fate: Fate, stray: BaseException) -> Callable[[Any], object]:
        async def handle(_: Any) -> None:
            self.story.append(("started", place))
            try:
                with suppress(*[get_cancelled_exc_class()] * (fate.cancelled == "shrugs")):
                    await self._wait(place, fate)
                if ("cancelled", place) not in self.story:
                    self._end(place, fate, stray)
            finally:
                self.story.append(("ended", place))

        return handle

    def _end(self, place: int, fate: Fate, stray: BaseException) -> None:
        if fate.end == "fails":
            self._fail(place)
        if fate.end == "strays":
            self.story.append(("failed", place))
            raise stray

    async def _wait(self, place: int, fate: Fate) -> None:
        try:
            await take(fate.turns)
        except get_cancelled_exc_class():
            self.story.append(("cancelled", place))
            with CancelScope(shield=True):
                await take(2 * (fate.cancelled == "cleans up"))
            if fate.cancelled == "fails":
                self._fail(place)
            raise


def delivered(fates: list[Fate]) -> list[int]:
    """Put the handlers in order of delivery."""
    return sorted(range(len(fates)), key=lambda place: fates[place].priority)


@given(given=fates, mode=modes)
def test_every_failure_is_reported_and_returned(
    backend: str, given: list[Fate], mode: DeliveryMode
) -> None:
    """E1 E4 D4: under `continue` all handlers run, and all failures are told, in order."""

    async def scenario() -> None:
        async with Ledger() as ledger:
            fates = Fates(ledger, given)
            await fates.subscribe()
            failures = await ledger.publish(mode)
        expected = [
            fates.subscriptions[place]
            for place in delivered(given)
            if given[place].filter_raises or given[place].end != "returns"
        ]
        started = [place for place in delivered(given) if not given[place].filter_raises]
        assert [failure.subscription for failure in failures] == expected
        assert [place for what, place in fates.story if what == "started"] == started
        assert fates.running == set()

    anyio.run(scenario, backend=backend)


@given(given=fates, mode=modes)
def test_the_first_failure_is_raised(backend: str, given: list[Fate], mode: DeliveryMode) -> None:
    """E2 E3 E4 D4: under `raise` it leaves bare, no handler starts after it, none runs on."""

    async def scenario() -> None:
        left: list[BaseException] = []
        async with Ledger() as ledger:
            fates = Fates(ledger, given)
            await fates.subscribe()
            try:
                await ledger.publish(mode, "raise")
            except (Boom, HandlerCancelled) as exc:
                left.append(exc)
        failed = [at for at, (what, _) in enumerate(fates.story) if what == "failed"]
        assert len(left) == bool(failed)
        assert fates.running == set()
        assert len(ledger.records) == max(0, len(failed) - 1)
        if failed:
            place = fates.story[failed[0]][1]
            strayed = given[place].end == "strays" and not given[place].filter_raises
            assert isinstance(left[0], HandlerCancelled) is strayed
            assert not any(what == "started" for what, _ in fates.story[failed[0] :])
            notes = getattr(left[0], "__notes__", [])
            assert len(notes) == len(failed) - 1

    anyio.run(scenario, backend=backend)


@given(
    given=fates, mode=modes, policy=policies, style=st.sampled_from(STYLES), after=st.integers(0, 8)
)
def test_a_publish_cancelled_at_any_moment(
    backend: str,
    given: list[Fate],
    mode: DeliveryMode,
    policy: ErrorPolicy,
    style: str,
    after: int,
) -> None:
    """D4 E4 E5: nothing runs on, no failure is lost, and the cancellation is seen."""
    if backend == "trio":
        style = "scope"

    async def scenario() -> None:
        async with Ledger(announced=None) as ledger:
            fates = Fates(ledger, given)
            await fates.subscribe()
            publisher = Publisher(ledger, style, mode, policy)
            publisher.at_end = lambda: fates.story.append(("left", len(fates.running)))

            async def wait() -> None:
                await take(after)
                fates.story.append(("cancel", after))

            await publisher.run(wait)
        in_time = fates.story.index(("cancel", after)) < fates.story.index(("left", 0))
        struck = [given[place].cancelled for what, place in fates.story if what == "cancelled"]
        # Sequentially it may come too late for any handler, or be lost on one.
        must_leave = in_time if mode != "sequential" else struck and "shrugs" not in struck
        assert not must_leave or publisher.returned is None
        assert publisher.was_cancelled <= in_time
        assert policy == "raise" or not isinstance(publisher.left, Exception)
        assert not starts_after_failure(fates.story) or (style == "native" and mode != "sequential")

    anyio.run(scenario, backend=backend)


def starts_after_failure(story: list[tuple[str, int]]) -> bool:
    """Say whether a handler started though one had failed in a cancelled publish."""
    whats = [what for what, _ in story]
    after_cancel = whats[whats.index("cancel") :]
    return "failed" in after_cancel and "started" in after_cancel[after_cancel.index("failed") :]
