"""Metrics of Prometheus: Y6."""

import gc
import math
import os
import re
from collections.abc import Callable
from dataclasses import fields
from threading import Barrier, Thread
from typing import Any
from weakref import ref

import anyio
import pytest
from anyio import CancelScope, fail_after
from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from flexiflow import EventBus
from flexiflow._background import BackgroundStatistics
from flexiflow._bus import DeliveryMode
from flexiflow._stream import StreamStatistics
from flexiflow.extras import prometheus as module
from flexiflow.extras._watches import KINDS, Kind
from flexiflow.extras.durable import BridgeStatistics, MemoryTransport, open_bridge
from flexiflow.extras.prometheus import Prometheus
from tests.helpers import MODES, PATIENCE

each_mode = pytest.mark.parametrize("mode", MODES)

DONE = "flexiflow_handler_duration_seconds_count"
FAILED = "flexiflow_handler_failures_total"


@pytest.fixture
def registry() -> CollectorRegistry:
    """Make a registry of the test's own."""
    return CollectorRegistry()


class Odd:
    """Has other statistics than those that are known."""

    def statistics(self) -> int:
        """Return them."""
        return 7


def samples(registry: CollectorRegistry, name: str) -> dict[str, float]:
    """Read what is scraped: the numbers of a metric by their labels, without `bus` if empty."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            if sample.name == name:
                labels = (f"{key}={value}" for key, value in sample.labels.items() if value)
                found[",".join(sorted(labels))] = sample.value
    return found


def fail(_: object) -> None:
    """Be a handler that fails."""
    raise KeyError("missing")


@each_mode
async def test_publishes_and_handlers_are_counted(
    registry: CollectorRegistry, mode: DeliveryMode
) -> None:
    """Y6: by event and component, with their failures, and how long they take."""
    bus = EventBus(delivery=mode, instruments=[Prometheus(registry)])
    await bus.subscribe("order.placed", "billing", lambda _: None)
    await bus.subscribe("order.*", "stock", fail)
    for _ in range(3):
        await bus.publish("order.placed")
    publishes = samples(registry, "flexiflow_publish_duration_seconds_count")
    assert publishes == {"event=order.placed": 3, "event=event.handler.failed": 3}
    assert samples(registry, DONE) == {
        "component=billing,event=order.placed": 3,
        "component=stock,event=order.placed": 3,
    }
    assert samples(registry, FAILED) == {
        "component=billing,event=order.placed": 0,
        "component=stock,event=order.placed": 3,
    }
    assert set(samples(registry, "flexiflow_publish_failures_total").values()) == {0}
    sums = samples(registry, "flexiflow_handler_duration_seconds_sum")
    assert min(sums.values()) > 0


async def test_a_publish_that_raises_has_failed(registry: CollectorRegistry) -> None:
    """Y6: with the policy "raise" the failure is also that of the publish."""
    bus = EventBus(on_error="raise", instruments=[Prometheus(registry)])
    await bus.subscribe("order.placed", "stock", fail)
    with pytest.raises(KeyError):
        await bus.publish("order.placed")
    failures = samples(registry, "flexiflow_publish_failures_total")
    assert failures["event=order.placed"] == 1


async def test_a_cancellation_is_no_failure(registry: CollectorRegistry) -> None:
    """Y6: what was cancelled has taken its time."""
    bus = EventBus(instruments=[Prometheus(registry)])

    async def wait(_: object) -> None:
        scope.cancel()
        await anyio.sleep_forever()

    await bus.subscribe("order.placed", "stock", wait)
    with fail_after(PATIENCE), CancelScope() as scope:
        await bus.publish("order.placed")
    assert list(samples(registry, DONE).values()) == [1]
    assert list(samples(registry, FAILED).values()) == [0]


def test_a_duration_is_in_the_buckets_that_it_fits(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y6: buckets are cumulative, a bound belongs to its own, and the last one has no bound."""
    clock = [0.0]
    monkeypatch.setattr("flexiflow.extras._measures.perf_counter", lambda: clock[0])
    metrics: Any = Prometheus(registry, buckets=[0.5, 2])
    event: Any = type("Event", (), {"name": "order.placed"})
    for seconds in (0.25, 0.5, 1.0, 4.0):
        with metrics.publishing(event):
            clock[0] += seconds
    assert samples(registry, "flexiflow_publish_duration_seconds_bucket") == {
        "event=order.placed,le=0.5": 2,
        "event=order.placed,le=2.0": 3,
        "event=order.placed,le=+Inf": 4,
    }
    assert samples(registry, "flexiflow_publish_duration_seconds_sum") == {
        "event=order.placed": 5.75
    }


async def test_the_number_of_names_is_bounded(registry: CollectorRegistry) -> None:
    """Y6: names come from strangers; those that come later count as "other", none is lost."""
    bus = EventBus(instruments=[Prometheus(registry, max_names=2)])
    for number in range(5):
        await bus.subscribe("**", f"component-{number}", lambda _: None)
    for name in ("first", "second", "third", "other", "second", "third"):
        await bus.publish(name)
    assert samples(registry, "flexiflow_publish_duration_seconds_count") == {
        "event=first": 1,
        "event=second": 2,
        "event=other": 3,
    }
    assert samples(registry, DONE) == {
        "component=component-0,event=first": 1,
        "component=component-1,event=first": 1,
        "component=other,event=other": 28,
    }


async def test_names_of_any_kind_can_be_scraped(registry: CollectorRegistry) -> None:
    """Y6: long ones are cut, what can't be printed is escaped, and equal labels count together."""
    bus = EventBus(instruments=[Prometheus(registry)])
    for name in ("a\ud800", "a\\ud800", "a\x1b\n", f"{'x' * 200}1{'x' * 200}", "x" * 10_000):
        await bus.publish(name)
    names = samples(registry, "flexiflow_publish_duration_seconds_count")
    assert {re.sub("x+", "x", name): count for name, count in names.items()} == {
        "event=a\\ud800": 2,
        "event=a\\x1b\\n": 1,
        "event=x...x": 2,
    }


async def test_several_buses_count_together_or_apart() -> None:
    """Y6: one instrument on several buses, several in a registry, and several registries."""
    first, second = CollectorRegistry(), CollectorRegistry()
    shared, apart, elsewhere = (
        Prometheus(first, bus="shop"),
        Prometheus(first, bus="stock"),
        Prometheus(second, bus="shop"),
    )
    for instruments in ([shared], [shared, elsewhere], [apart]):
        await EventBus(instruments=instruments).publish("order.placed")
    name = "flexiflow_publish_duration_seconds_count"
    assert samples(first, name) == {
        "bus=shop,event=order.placed": 2,
        "bus=stock,event=order.placed": 1,
    }
    assert samples(second, name) == {"bus=shop,event=order.placed": 1}


def test_a_registry_has_each_bus_once(registry: CollectorRegistry) -> None:
    """Y6: else two numbers would have one name; what is refused changes nothing."""
    with Prometheus(registry, bus="shop"):
        with pytest.raises(ValueError, match=r"bus='shop' already: add that one"):
            Prometheus(registry, bus="shop")
        assert generate_latest(registry).count(b"# TYPE flexiflow_publish_failures_total ") == 1


def test_what_is_closed_is_gone(registry: CollectorRegistry) -> None:
    """Y6: also twice; the last one leaves a registry as it was."""
    first, second = Prometheus(registry, bus="shop"), Prometheus(registry, bus="stock")
    first.watch("events", EventBus().stream("*"))
    first.close()
    first.close()
    assert b"flexiflow_publish" in generate_latest(registry)
    assert b"shop" not in generate_latest(registry)
    second.close()
    assert generate_latest(registry) == b""
    with Prometheus(registry, bus="shop"):
        assert samples(registry, "flexiflow_stream_received_total") == {}
    assert generate_latest(registry) == b""


async def test_what_is_closed_may_stay_on_a_bus(registry: CollectorRegistry) -> None:
    """Y6: publishes go on as before."""
    metrics = Prometheus(registry)
    bus = EventBus(instruments=[metrics])
    metrics.close()
    assert await bus.publish("order.placed") == ()
    bus.remove_instrument(metrics)


def test_a_registry_with_other_metrics_of_that_name_is_refused(registry: CollectorRegistry) -> None:
    """Y6: and is left as it was."""
    other = Counter("flexiflow_publish_failures", "Others.", registry=registry)
    with pytest.raises(ValueError, match="flexiflow_publish_failures"):
        Prometheus(registry)
    registry.unregister(other)
    with Prometheus(registry):
        pass


def test_without_a_registry_it_is_the_clients_own() -> None:
    """Y6: which is scraped if nothing else is said."""
    before = generate_latest(REGISTRY)
    with Prometheus():
        assert b"flexiflow_publish" in generate_latest(REGISTRY)
    assert b"flexiflow" not in before + generate_latest(REGISTRY)


def test_a_registry_that_nobody_has_is_freed() -> None:
    """B6: an instrument that was not closed does not keep it."""
    registry = CollectorRegistry()
    metrics, gone = Prometheus(registry), ref(registry)
    del registry
    gc.collect()
    assert gone() is None
    metrics.close()


@pytest.mark.parametrize(
    "buckets",
    [[], [0], [-1.0, 1.0], [1.0, 1.0], [2.0, 1.0], [1.0, math.inf], [math.nan], ["x"], None],
)
def test_buckets_out_of_range_are_refused(registry: CollectorRegistry, buckets: Any) -> None:
    """Y6: bounds ascend, and are finite numbers above 0."""
    with pytest.raises(ValueError, match="buckets must be one or more finite numbers of seconds"):
        Prometheus(registry, buckets=buckets)
    assert generate_latest(registry) == b""


@pytest.mark.parametrize("number", [0, -1, 1.5, "many"])
def test_a_number_of_names_out_of_range_is_refused(
    registry: CollectorRegistry, number: Any
) -> None:
    """Y6: at least one name has numbers of its own."""
    with pytest.raises(ValueError, match="max_names must be"):
        Prometheus(registry, max_names=number)


async def test_streams_are_counted_while_they_are_watched(registry: CollectorRegistry) -> None:
    """Y6: those of one name together; what has ended still counts."""
    bus, metrics = EventBus(), Prometheus(registry)
    first = bus.stream("order.*", buffer=1, overflow="drop_oldest")
    second = bus.stream("order.*", buffer=10)
    with metrics.watch("orders", second):
        async with second:
            watch = metrics.watch("orders", first)
            async with first:
                for _ in range(3):
                    await bus.publish("order.placed")
                await anext(first)
            watch.close()
            watch.close()
            assert samples(registry, "flexiflow_stream_received_total") == {"stream=orders": 6}
            assert samples(registry, "flexiflow_stream_delivered_total") == {"stream=orders": 1}
            assert samples(registry, "flexiflow_stream_dropped_total") == {"stream=orders": 2}
            assert samples(registry, "flexiflow_stream_buffered") == {"stream=orders": 3}
    assert samples(registry, "flexiflow_stream_received_total") == {"stream=orders": 6}
    assert samples(registry, "flexiflow_stream_dropped_total") == {"stream=orders": 5}
    assert samples(registry, "flexiflow_stream_buffered") == {}


async def test_a_background_is_counted(registry: CollectorRegistry) -> None:
    """Y6: as a stream is."""
    bus, metrics = EventBus(), Prometheus(registry, bus="shop")
    async with bus.background() as background:
        with metrics.watch("mail", background):
            await background.publish("order.placed")
            await anyio.wait_all_tasks_blocked()
            ended = samples(registry, "flexiflow_background_ended_total")
            assert ended == {"background=mail,bus=shop": 1}


async def test_bridges_are_counted(registry: CollectorRegistry) -> None:
    """Y6: their own numbers are added up, those of their group, which each tells, are not."""
    bus, transport, metrics = EventBus(), MemoryTransport(), Prometheus(registry)
    async with (
        open_bridge(bus, transport, outgoing=["order.*"]) as bridge,
        open_bridge(EventBus(), transport, outgoing=["order.*"]) as other,
    ):
        watches = [metrics.watch("shop", each) for each in (bridge, bridge, other)]
        await bus.publish("order.placed")
        for each in (bridge, other):
            each._counters.standing = each._counters.standing._replace(lag=7)
            each._counters.relayed = 1
        other._counters.outbox_trouble = "no such file"
        assert samples(registry, "flexiflow_bridge_stored_total") == {"bridge=shop": 1}
        assert samples(registry, "flexiflow_bridge_relayed_total") == {"bridge=shop": 2}
        assert samples(registry, "flexiflow_bridge_lag") == {"bridge=shop": 7}
        assert samples(registry, "flexiflow_bridge_held") == {"bridge=shop": 0}
        assert samples(registry, "flexiflow_bridge_outbox_trouble") == {"bridge=shop": 1}
    for watch in watches:
        watch.close()
        assert samples(registry, "flexiflow_bridge_stored_total") == {"bridge=shop": 1}
    assert samples(registry, "flexiflow_bridge_lag") == {}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (KINDS[0], StreamStatistics.__match_args__),
        (KINDS[1], BackgroundStatistics.__match_args__),
        (KINDS[2], tuple(each.name for each in fields(BridgeStatistics))),
    ],
    ids=["stream", "background", "bridge"],
)
def test_all_statistics_are_told(kind: Kind, names: tuple[str, ...]) -> None:
    """Y6: each number of what is watched, and nothing else."""
    assert {*kind.counters, *kind.amounts, *kind.shared, *kind.troubles} == set(names)


def test_the_number_of_watched_names_is_bounded(registry: CollectorRegistry) -> None:
    """Y6: those that come later are watched together, and what has ended keeps its name."""
    bus, metrics = EventBus(), Prometheus(registry, max_names=2)
    for name in ("first", "second", "third", "fourth", "first"):
        with metrics.watch(name, bus.stream("*")):
            pass
    assert samples(registry, "flexiflow_stream_received_total").keys() == {
        *("stream=first", "stream=second", "stream=other")
    }


@pytest.mark.parametrize("it", [None, EventBus(), Odd()])
def test_what_has_no_statistics_can_not_be_watched(registry: CollectorRegistry, it: Any) -> None:
    """Y6: it is told what can be."""
    with pytest.raises(TypeError, match="must be a stream, a background or a bridge, not"):
        Prometheus(registry).watch("name", it)


def test_a_watch_that_fails_to_close_can_be_closed(registry: CollectorRegistry) -> None:
    """Y6: what was counted is not lost if the statistics of a user's own object raise."""
    metrics, trouble = Prometheus(registry), [KeyError("not now")]

    class Own:
        def statistics(self) -> object:
            if watches and trouble:
                raise trouble.pop()
            return StreamStatistics(
                received=3,
                delivered=2,
                dropped=0,
                buffered=1,
                blocked_publishers=0,
                waiting_readers=0,
            )

    watches: list[Any] = []
    watches.append(metrics.watch("own", Own()))
    with pytest.raises(KeyError):
        watches[0].close()
    watches[0].close()
    assert samples(registry, "flexiflow_stream_received_total") == {"stream=own": 3}


def test_arguments_of_other_types_are_refused(registry: CollectorRegistry) -> None:
    """Y6: the message shows the call that would be right."""
    some: Any = EventBus()
    with pytest.raises(TypeError, match=r"bus must be a str.*EventBus\(instruments=\[metrics\]\)"):
        Prometheus(registry, bus=some)
    with pytest.raises(TypeError, match=r"registry must be a CollectorRegistry .* not EventBus"):
        Prometheus(some)
    with pytest.raises(TypeError, match=r"must be a str, as in watch\('orders', bridge\)"):
        Prometheus(registry).watch(some, EventBus().stream("*"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_of_a_fork_is_not_held_up(registry: CollectorRegistry) -> None:
    """Y6: even if another thread was measuring, watching or being scraped at that moment."""
    metrics = Prometheus(registry)
    durations: Any = metrics._publishes["order.placed"]
    locks = (durations.lock, metrics._publishes._lock, metrics._watches._lock, module._LOCK)
    holder = Thread(target=lambda: [lock.acquire() for lock in locks])
    holder.start()
    holder.join(PATIENCE)
    child = os.fork()
    if not child:
        os._exit(7 + sum(lock.locked() for lock in locks))
    for lock in locks:
        lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_threads_lose_no_count(registry: CollectorRegistry) -> None:
    """Y6: event loops in several threads may share an instrument, while it is scraped."""
    metrics, together = Prometheus(registry, max_names=5), Barrier(3)

    async def work() -> None:
        bus = EventBus(instruments=[metrics])
        for number in range(2_000):
            await bus.publish(f"event-{number % 10}")

    def in_thread(act: Callable[[], object]) -> Thread:
        thread = Thread(target=lambda: (together.wait(), act()))
        thread.start()
        return thread

    threads = [
        in_thread(lambda: anyio.run(work)),
        in_thread(lambda: anyio.run(work)),
        in_thread(lambda: [generate_latest(registry) for _ in range(20)]),
    ]
    for thread in threads:
        thread.join(PATIENCE)
    counts = samples(registry, "flexiflow_publish_duration_seconds_count")
    assert (sum(counts.values()), len(counts)) == (4_000, 6)
