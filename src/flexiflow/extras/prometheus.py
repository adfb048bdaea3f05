"""Metrics for Prometheus: publishes, handlers, streams, backgrounds, bridges (Y6).

Needs the extra `prometheus`. Each process has to be scraped by itself: the multiprocess mode of
`prometheus_client` is not supported.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, final
from weakref import WeakKeyDictionary, ref

from prometheus_client.core import (
    REGISTRY,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector, CollectorRegistry

from flexiflow._arguments import check_count
from flexiflow._text import show
from flexiflow.extras._measures import ByName, Timing, check_buckets, label_of
from flexiflow.extras._process import fork_safe_lock
from flexiflow.extras._watches import KINDS, Counted, Watch, Watches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.core import Metric

    from flexiflow._names import Event
    from flexiflow._subscription import Subscription
    from flexiflow.extras._measures import Measured

__all__ = ["Counted", "Prometheus", "Watch"]

_BUCKETS: Final = (0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0)


@final
class Prometheus:
    """An instrument that counts publishes and handlers, and measures how long they take.

    It has, with the labels `bus` and `event`, and `component` for handlers:

    - `flexiflow_publish_duration_seconds`, a histogram, whose count is that of the publishes;
    - `flexiflow_publish_failures_total`: publishes that have raised an exception;
    - `flexiflow_handler_duration_seconds`, a histogram of calls of handlers;
    - `flexiflow_handler_failures_total`: those that have failed.

    A cancellation is no failure. Streams, backgrounds and bridges are counted while they are
    watched (`watch`), as `flexiflow_stream_dropped_total` and so on.

    The instrument may be added to several buses, which are counted together then. Several
    instruments may share a registry, if each has a `bus` of its own. An instrument is registered
    from its creation until `close` is called; it is also a context manager, which closes it.

    Args:
        registry: where it is registered; None for the client's own `REGISTRY`.
        bus: the label that tells its buses from those of other instruments in the registry.
        max_names: how many events, and how many pairs of an event and a component, have numbers of
            their own, 1 or more; the same for the names of each kind that is watched. Those that
            come later count as "other", since anybody may make up names.
        buckets: the greatest duration of each bucket, in seconds, ascending; without infinity,
            which is added.

    Raises:
        TypeError: `registry` is no registry, or `bus` is no str.
        ValueError: `max_names` or `buckets` is out of its range, or the registry already has an
            instrument with this `bus`, or other metrics of the same names.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.prometheus import Prometheus
        >>> from prometheus_client import CollectorRegistry
        >>> registry = CollectorRegistry()
        >>> async def main():
        ...     with Prometheus(registry) as numbers:
        ...         await EventBus(instruments=[numbers]).publish("order.placed", "A7")
        ...         labels = {"bus": "", "event": "order.placed"}
        ...         name = "flexiflow_publish_duration_seconds_count"
        ...         print(registry.get_sample_value(name, labels))
        >>> anyio.run(main)
        1
    """

    __slots__ = ("_collector", "_handlers", "_publishes", "_source", "_watches")

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        bus: str = "",
        max_names: int = 1_000,
        buckets: Sequence[float] = _BUCKETS,
    ) -> None:
        _check_registry(registry)
        if not isinstance(bus, str):
            raise TypeError(
                "bus must be a str, as in metrics = Prometheus(bus='shop'), not "
                f"{type(bus).__qualname__}; a bus is told of it by EventBus(instruments=[metrics])"
            )
        check_count("max_names", max_names)
        bounds = check_buckets(buckets)
        self._publishes = ByName(max_names, bounds)
        self._handlers = ByName(max_names, bounds)
        self._watches = Watches(max_names)
        self._source = _Source(
            label_of(bus), bounds, self._publishes, self._handlers, self._watches
        )
        self._collector: _Collector | None = _register(
            self._source, REGISTRY if registry is None else registry
        )

    def publishing(self, event: Event[Any], /) -> Timing:
        """Return a context manager that measures a publish."""
        return Timing(self._publishes[event.name])

    def handling(self, event: Event[Any], subscription: Subscription, /) -> Timing:
        """Return a context manager that measures a handler."""
        return Timing(self._handlers[event.name, subscription.component_name])

    def watch(self, name: str, it: Counted, /) -> Watch:
        """Count the statistics of a stream, a background or a bridge, until the watch is closed.

        The numbers of all that is watched under one name are added up, also after it has ended. A
        second watch of the same object under the same name adds nothing, and both must be closed.
        Until then the object stays in memory, and a bridge that has ended shows its last `lag` and
        `held`.

        Args:
            name: the label `stream`, `background` or `bridge` of its numbers. Bridges of different
                groups must have different names: of their `lag` only the greatest is shown.
            it: a stream, a background or a bridge.

        Returns:
            The watch, also a context manager.

        Raises:
            TypeError: it is none of these, or the name is no str.
        """
        return self._watches.add(name, it)

    def close(self) -> None:
        """Remove the instrument from the registry; does nothing the second time.

        It may stay on a bus and goes on counting, but its numbers are not shown any more.
        """
        collector, self._collector = self._collector, None
        if collector is not None:
            _unregister(self._source, collector)

    def __enter__(self) -> Self:
        """Return the instrument itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it from the registry."""
        self.close()


class _Source(NamedTuple):
    """What is told of one instrument.

    Attributes:
        bus: its label.
        bounds: the greatest duration of each bucket but the last.
        publishes: the durations of publishes.
        handlers: the durations of handlers.
        watches: what is watched.
    """

    bus: str
    bounds: tuple[float, ...]
    publishes: ByName
    handlers: ByName
    watches: Watches


@final
class _Collector(Collector):
    """Tells one registry of all instruments that are registered there.

    One collector tells of all, since a registry takes each name of a metric once.

    Args:
        registry: the registry.

    Attributes:
        registry: a weak reference, so that the registry is freed when nobody else has it.
        sources: the instruments, by their labels.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = ref(registry)
        self.sources: dict[str, _Source] = {}

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without their numbers."""
        return _Families().all()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics with their numbers."""
        families = _Families()
        with _LOCK:
            sources = list(self.sources.values())
        for source in sources:
            families.add(source)
        return families.all()


_LOCK: Final = fork_safe_lock()
_COLLECTORS: Final[WeakKeyDictionary[CollectorRegistry, _Collector]] = WeakKeyDictionary()


def _check_registry(registry: object) -> None:
    if registry is not None and not isinstance(registry, CollectorRegistry):
        raise TypeError(
            "registry must be a CollectorRegistry of prometheus_client, or None for its own, not "
            f"{type(registry).__qualname__}"
        )


def _register(source: _Source, registry: CollectorRegistry) -> _Collector:
    with _LOCK:
        collector = _COLLECTORS.get(registry)
        if collector is not None and source.bus in collector.sources:
            raise ValueError(
                f"the registry has an instrument with bus={show(source.bus)} already: add that one "
                "to several buses, close it, or give this one another bus="
            )
        if collector is None:
            collector = _Collector(registry)
            registry.register(collector)
            _COLLECTORS[registry] = collector
        collector.sources[source.bus] = source
        return collector


def _unregister(source: _Source, collector: _Collector) -> None:
    with _LOCK:
        del collector.sources[source.bus]
        registry = collector.registry()
        if registry is not None and not collector.sources:
            del _COLLECTORS[registry]
            registry.unregister(collector)


@final
class _Durations:
    """The metrics of what takes time.

    Args:
        what: begins their names.
        labels: the names of their labels.
        plural: what is measured, for their descriptions.
    """

    def __init__(self, what: str, labels: Sequence[str], plural: str) -> None:
        self.seconds = HistogramMetricFamily(
            f"flexiflow_{what}_duration_seconds", f"How long {plural} take.", labels=labels
        )
        self.failures = CounterMetricFamily(
            f"flexiflow_{what}_failures", f"How many {plural} have failed.", labels=labels
        )

    def add(self, bus: str, bounds: Iterable[float], measured: Iterable[Measured]) -> None:
        ends = [*map(repr, bounds), "+Inf"]
        for each in measured:
            labels = (bus, *each.labels)
            buckets = list(zip(ends, accumulate(each.counts), strict=True))
            self.seconds.add_metric(labels, buckets, each.seconds)
            self.failures.add_metric(labels, each.failures)


@final
class _Families:
    """All metrics, to be filled."""

    def __init__(self) -> None:
        self._publishes = _Durations("publish", ("bus", "event"), "publishes")
        self._handlers = _Durations("handler", ("bus", "event", "component"), "calls of handlers")
        self._watched = {
            (kind.name, name): (
                CounterMetricFamily if name in kind.counters else GaugeMetricFamily
            )(f"flexiflow_{kind.name}_{name}", what, labels=("bus", kind.name))
            for kind in KINDS
            for numbers in (kind.counters, kind.amounts, kind.shared, kind.troubles)
            for name, what in numbers.items()
        }

    def add(self, source: _Source) -> None:
        self._publishes.add(source.bus, source.bounds, source.publishes.measured())
        self._handlers.add(source.bus, source.bounds, source.handlers.measured())
        for kind, label, numbers in source.watches.totals():
            for name, number in numbers.items():
                self._watched[kind.name, name].add_metric((source.bus, label), number)

    def all(self) -> list[Metric]:
        times = (self._publishes, self._handlers)
        return [
            *(metric for each in times for metric in (each.seconds, each.failures)),
            *self._watched.values(),
        ]
