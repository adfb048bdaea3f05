"""A bus in a few lines of plain Python, and scripts that it and the real one are run on.

The model knows nothing of tasks, so the scripts keep to what is determined: within a concurrent or
tiered publish no handler waits, and what is published there is published sequentially.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from anyio.lowlevel import checkpoint
from hypothesis import strategies as st

from flexiflow import EventBus, Subscription
from flexiflow._bus import DeliveryMode, ErrorPolicy
from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._trace import matches

DEEPEST = 3
"""How many publishes may be inside each other."""

MOST_STARTS = 60
"""How many handlers may start before none does anything of its own any more."""

NAMES = ("a", "a.b", "a.c", "b")
PATTERNS = (*NAMES, "a.*", "a.**", "*", "**", HANDLER_FAILED)
COMPONENTS = ("one", "two")

Trace: TypeAlias = list[tuple[Any, ...]]


class Boom(Exception):
    """The failure number so and so of a script."""


@dataclass(frozen=True)
class Subscribe:
    """Make the subscription that a spec describes."""

    spec: int


@dataclass(frozen=True)
class Unsubscribe:
    """End one of the subscriptions made so far."""

    place: int


@dataclass(frozen=True)
class UnsubscribeAll:
    """End those of a component."""

    component: str


@dataclass(frozen=True)
class Publish:
    """Publish an event."""

    event: str
    delivery: DeliveryMode
    on_error: ErrorPolicy


Step: TypeAlias = Subscribe | Unsubscribe | UnsubscribeAll | Publish


@dataclass(frozen=True)
class Spec:
    """A subscription, and what its filter and its handler do."""

    event: str
    component: str
    priority: int
    once: bool
    filter: Literal["none", "accepts", "refuses", "raises", "unsubscribes"]
    steps: tuple[Step, ...]
    waits: bool
    fails: bool


@dataclass(frozen=True)
class Script:
    """What there is to subscribe, and what is done at the top."""

    specs: tuple[Spec, ...]
    steps: tuple[Step, ...]


steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        Publish,
        st.sampled_from(NAMES),
        st.sampled_from(["sequential", "concurrent", "tiered"]),
        st.sampled_from(["continue", "raise"]),
    ),
    st.builds(Subscribe, st.integers(0, 9)),
    st.builds(Unsubscribe, st.integers(0, 9)),
    st.builds(UnsubscribeAll, st.sampled_from(COMPONENTS)),
)
specs = st.builds(
    Spec,
    event=st.sampled_from(PATTERNS),
    component=st.sampled_from(COMPONENTS),
    priority=st.integers(1, 5),
    once=st.booleans(),
    filter=st.sampled_from(["none", "none", "accepts", "refuses", "raises", "unsubscribes"]),
    steps=st.lists(steps, max_size=2).map(tuple),
    waits=st.booleans(),
    fails=st.booleans(),
)
scripts = st.builds(
    # All are subscribed first, or few publishes would find anybody.
    lambda specs, steps: Script(
        tuple(specs),
        (*map(Subscribe, range(len(specs))), *steps, Publish("a.b", "tiered", "raise")),
    ),
    st.lists(specs, min_size=1, max_size=6),
    st.lists(steps, max_size=6),
)


@dataclass
class Model:
    """The reference."""

    script: Script
    trace: Trace = field(default_factory=list)
    subscriptions: list[Spec] = field(default_factory=list)
    active: list[bool] = field(default_factory=list)
    depth: int = 0
    at_once: int = 0
    failures: int = 0
    starts: int = 0
    announcing: bool = False

    def run(self) -> Trace:
        """Do what the script says."""
        for step in self.script.steps:
            self.do(step)
        return self.trace

    def do(self, step: Step) -> None:
        """Do one step."""
        match step:
            case Subscribe(place):
                if not self.at_once:
                    self.subscriptions.append(self.script.specs[place % len(self.script.specs)])
                    self.active.append(True)
            case Unsubscribe(place):
                if self.active:
                    self.trace.append(("unsubscribed", self.remove(place % len(self.active))))
            case UnsubscribeAll(component):
                mine = [
                    place
                    for place, spec in enumerate(self.subscriptions)
                    if spec.component == component
                ]
                self.trace.append(("unsubscribed all", sum(map(self.remove, mine))))
            case Publish(event, delivery, on_error):
                if self.depth < DEEPEST:
                    self.publish(event, delivery, on_error)

    def remove(self, place: int) -> bool:
        """End a subscription."""
        was_active, self.active[place] = self.active[place], False
        return was_active

    def publish(self, event: str, delivery: DeliveryMode, on_error: ErrorPolicy) -> None:
        """Publish; what it raises fails the handler that published, if there is one."""
        self.depth += 1
        self.at_once += delivery != "sequential"
        try:
            self.trace.append(("returned", self.deliver(event, stops=on_error == "raise")))
        except Boom as boom:
            self.trace.append(("raised", boom.args))
            if self.depth > 1:
                raise
        finally:
            self.at_once -= delivery != "sequential"
            self.depth -= 1

    def deliver(self, event: str, *, stops: bool) -> list[tuple[Any, ...]]:
        """Call who is subscribed now, in order; a failure stops it, or is reported."""
        here = [
            place
            for place, spec in enumerate(self.subscriptions)
            if self.active[place] and matches(spec.event, event)
        ]
        failures = []
        for place in sorted(here, key=lambda place: self.subscriptions[place].priority):
            try:
                self.call(place, event)
            except Boom as boom:
                if stops:
                    raise
                self.report(event, boom)
                failures.append((place, boom.args))
        return failures

    def call(self, place: int, event: str) -> None:
        """Call one handler, if it is still there and its filter lets it."""
        spec = self.subscriptions[place]
        if not self.admits(place, spec, event):
            return
        self.trace.append(("started", place, event))
        self.starts += 1
        for step in spec.steps if self.starts < MOST_STARTS else ():
            self.do(step)
        if spec.fails:
            self.fail()

    def admits(self, place: int, spec: Spec, event: str) -> bool:
        """Say whether a handler starts; `once` unsubscribes before it does."""
        if not self.active[place]:
            return False
        if spec.filter != "none":
            self.trace.append(("asked", place, event))
        if spec.filter == "raises":
            self.fail()
        if spec.filter == "unsubscribes" or (spec.once and spec.filter != "refuses"):
            self.remove(place)
        return spec.filter not in ("unsubscribes", "refuses")

    def fail(self) -> None:
        """Let out one more failure."""
        self.failures += 1
        raise Boom(self.failures)

    def report(self, event: str, boom: Boom) -> None:
        """Log a failure, and have it observed, unless an observer is behind it."""
        self.trace.append(("logged", boom.args))
        if event != HANDLER_FAILED and not self.announcing:
            self.announcing = True
            self.deliver(HANDLER_FAILED, stops=False)
            self.announcing = False


class _Tracer(logging.Handler):
    """Puts into the trace what is logged."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        assert isinstance(record.exc_info, tuple)
        assert record.exc_info[1] is not None
        self.trace.append(("logged", record.exc_info[1].args))


@dataclass
class Reality:
    """The same with the real bus."""

    script: Script
    bus: EventBus = field(default_factory=lambda: EventBus(yield_every=1_000_000))
    trace: Trace = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    depth: int = 0
    at_once: int = 0
    failures: int = 0
    starts: int = 0

    async def run(self) -> Trace:
        """Do what the script says."""
        logger, tracer = logging.getLogger("flexiflow"), _Tracer(self.trace)
        logger.addHandler(tracer)
        logger.propagate = False
        try:
            for step in self.script.steps:
                await self.do(step)
        finally:
            logger.propagate = True
            logger.removeHandler(tracer)
        return self.trace

    async def do(self, step: Step) -> None:
        """Do one step."""
        match step:
            case Subscribe(place):
                if not self.at_once:
                    await self.subscribe(self.script.specs[place % len(self.script.specs)])
            case Publish(event, delivery, on_error):
                if self.depth < DEEPEST:
                    await self.publish(event, delivery, on_error)
            case _:
                self.do_now(step)

    def do_now(self, step: Step) -> None:
        """Do a step that waits for nothing."""
        match step:
            case Unsubscribe(place):
                if self.subscriptions:
                    subscription = self.subscriptions[place % len(self.subscriptions)]
                    self.trace.append(("unsubscribed", self.bus.unsubscribe(subscription)))
            case UnsubscribeAll(component):
                self.trace.append(("unsubscribed all", self.bus.unsubscribe_all(component)))
            case _:
                raise NotImplementedError

    async def subscribe(self, spec: Spec) -> None:
        """Subscribe; a handler that waits for nothing is a plain function."""
        place = len(self.subscriptions)
        waits = spec.waits or any(isinstance(step, Subscribe | Publish) for step in spec.steps)
        subscription = await self.bus.subscribe(
            spec.event,
            spec.component,
            self.async_handler(place, spec) if waits else self.sync_handler(place, spec),
            priority=spec.priority,
            filter=None if spec.filter == "none" else self.filter(place, spec),
            once=spec.once,
        )
        self.subscriptions.append(subscription)

    def filter(self, place: int, spec: Spec) -> Callable[[str, Any], bool]:
        """Make the filter of a spec."""

        def decide(event: str, _data: Any) -> bool:
            self.trace.append(("asked", place, event))
            if spec.filter == "raises":
                self.fail()
            if spec.filter == "unsubscribes":
                self.bus.unsubscribe(self.subscriptions[place])
            return spec.filter != "refuses"

        return decide

    def async_handler(self, place: int, spec: Spec) -> Callable[[str], object]:
        """Make the handler of a spec."""

        async def handle(event: str) -> None:
            for step in self.started(place, spec, event):
                await self.do(step)
            if spec.waits and not self.at_once:
                await checkpoint()
            if spec.fails:
                self.fail()

        return handle

    def sync_handler(self, place: int, spec: Spec) -> Callable[[str], object]:
        """Make the handler of a spec without a step that waits."""

        def handle(event: str) -> None:
            for step in self.started(place, spec, event):
                self.do_now(step)
            if spec.fails:
                self.fail()

        return handle

    def started(self, place: int, spec: Spec, event: Any) -> tuple[Step, ...]:
        """Note that a handler has started, and say which steps it is to do."""
        # An observer's payload is a dict.
        name = event if isinstance(event, str) else HANDLER_FAILED
        self.trace.append(("started", place, name))
        self.starts += 1
        return spec.steps if self.starts < MOST_STARTS else ()

    def fail(self) -> None:
        """Let out one more failure."""
        self.failures += 1
        raise Boom(self.failures)

    async def publish(self, event: str, delivery: DeliveryMode, on_error: ErrorPolicy) -> None:
        """Publish; what it raises fails the handler that published, if there is one."""
        self.depth += 1
        self.at_once += delivery != "sequential"
        try:
            failures = await self.bus.publish(
                event,
                event,
                delivery="sequential" if self.at_once > (delivery != "sequential") else delivery,
                on_error=on_error,
            )
        except Boom as boom:
            self.trace.append(("raised", boom.args))
            if self.depth > 1:
                raise
        else:
            places = [self.subscriptions.index(each.subscription) for each in failures]
            labels = [each.exception.args for each in failures]
            self.trace.append(("returned", list(zip(places, labels, strict=True))))
        finally:
            self.at_once -= delivery != "sequential"
            self.depth -= 1
