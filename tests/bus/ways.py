"""The ways that a publish can go: which loop calls the handlers, and what is around it.

Each way says from where its handlers are called, and a `Scene` compares that with the frames around
each of them.
"""

import ast
import inspect
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from inspect import isawaitable
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, final

from anyio import fail_after

from flexiflow import (
    Event,
    EventBus,
    HandlerFailure,
    Subscription,
    _bus,
    _dispatcher,
)
from flexiflow._arguments import make_terms
from flexiflow._bus import DeliveryMode, ErrorPolicy, dispatcher_of
from flexiflow._delivery import around, call, concurrent, sequential
from flexiflow._stream import Overflow
from flexiflow.events import HANDLER_FAILED, STATE_CHANGED
from tests.helpers import PATIENCE, accept

if TYPE_CHECKING:
    from types import FrameType

Act = Callable[[], object]
"""What a handler does; what it gives is awaited, where the handler can wait."""

MODULES: tuple[ModuleType, ...] = (_bus, _dispatcher, sequential, concurrent, call, around)
"""Where handlers are called."""

_logger = logging.getLogger("flexiflow")

_ROOTS = {"EventBus.publish", "Dispatcher.deliver", "_Delivery._runner"}
"""Where a way begins; a concurrent handler has a task of its own."""

# The functions from the beginning of a way down to the one that calls the handlers, and which of
# the calls in that one it is.
_APART = "Dispatcher._deliver_inside"
_MARKED = f"Dispatcher._deliver_marked > {_APART}"
_STEPS = "HandlerCall.start > HandlerCall._start > HandlerCall._run"
_CALL = f"{_STEPS} 1"
_INSIDE = "call_inside.<locals>.call > _call_handler 1"
_TWO_INSIDE = f"call_inside.<locals>.call > {_INSIDE}"
DIRECT = "EventBus.publish 1"
ASKED = "EventBus.publish 2"
WATCHER = "EventBus.publish > Dispatcher.deliver 1"
EMITTED = "Dispatcher.deliver 1"
PLAIN = f"EventBus.publish > {_APART} > deliver_sequential 1"
CALLED = f"EventBus.publish > {_APART} > deliver_sequential > {_CALL}"
MARKED = f"EventBus.publish > {_MARKED} > deliver_sequential 1"
MARKED_CALLED = f"EventBus.publish > {_MARKED} > deliver_sequential > {_CALL}"
EMITTED_PLAIN = f"Dispatcher.deliver > {_APART} > deliver_sequential 1"
EMITTED_CALLED = f"Dispatcher.deliver > {_APART} > deliver_sequential > {_CALL}"
SURROUNDED = "EventBus.publish > Dispatcher.deliver_surrounded > call_directly.<locals>.call 1"
TWO_INSIDE = f"EventBus.publish > {_APART} > deliver_sequential > {_STEPS} > {_TWO_INSIDE}"
CALLED_INSIDE = f"EventBus.publish > {_APART} > deliver_sequential > {_STEPS} > {_INSIDE}"
RUNNER = "_Delivery._runner 1"
RUNNER_CALLED = f"_Delivery._runner > {_CALL}"
RUNNER_CALLED_INSIDE = f"_Delivery._runner > {_STEPS} > {_INSIDE}"

AFTER = {
    path: f"{path.rpartition(' ')[0]} > Dispatcher.deliver_rest > deliver_sequential 1"
    for path in (DIRECT, ASKED, WATCHER, EMITTED)
} | {
    SURROUNDED: "EventBus.publish > Dispatcher.deliver_surrounded > Dispatcher.deliver_rest > "
    f"deliver_sequential > {_STEPS} > {_INSIDE}"
}
"""Where a way goes on after a handler has failed, if it changes."""

ONCE: Mapping[str, Any] = {"once": True}
FILTER: Mapping[str, Any] = {"filter": accept}
LIMIT: Mapping[str, Any] = {"limit": 9}
TIMED: Mapping[str, Any] = {"time_limit": 1e9}


@dataclass(frozen=True)
class Way:
    """A way that a publish can go.

    Attributes:
        name: what the tests call it.
        path: from where its handlers are called.
        terms: the arguments of each subscription.
        watched: what the instruments watch, the outermost first: "publishing", "handling", "both".
        style: what handlers are: "async", "sync", or "later", which gives an awaitable.
        delivery: how they are delivered.
        bus: the bus's own delivery, where that is another one.
        pattern: what is subscribed to, where that is not the event's name.
        beside: the overflow policy of a stream that hears the event, too.
        around: how many functions the bus has around handlers, which do nothing but call.
        own: how many such functions each subscription has.
        event: the event's name.
        begins: how it is published.
    """

    name: str
    path: str
    terms: Mapping[str, Any] = field(default_factory=dict[str, Any])
    watched: tuple[str, ...] = ()
    style: Literal["async", "sync", "later"] = "async"
    delivery: DeliveryMode = "sequential"
    bus: DeliveryMode | None = None
    pattern: str | None = None
    beside: Overflow | None = None
    around: int = 0
    own: int = 0
    event: str = "order.placed"
    begins: Literal["publish", "emit", "announce"] = "publish"

    @property
    def waits(self) -> bool:
        """Whether its handlers can wait."""
        return self.style != "sync"

    @property
    def sequential(self) -> bool:
        """Whether a handler begins when the one before has ended."""
        return self.delivery == "sequential"

    @property
    def announces(self) -> bool:
        """Whether its failures are published (E7)."""
        return self.event != HANDLER_FAILED

    @property
    def policies(self) -> tuple[ErrorPolicy, ...]:
        """What a failure may do."""
        return ("continue", "raise") if self.begins == "publish" else ("continue",)

    @property
    def after(self) -> str:
        """From where handlers are called after one has failed."""
        return AFTER.get(self.path, self.path)

    def watches(self, method: str) -> int:
        """Count the instruments that watch publishes, or handlers."""
        return sum(each in (method, "both") for each in self.watched)


_ONE, _TWO, _HANDLERS, _BOTH = (
    ("publishing",),
    ("publishing", "publishing"),
    ("handling",),
    ("both",),
)

_SEQUENTIAL = [
    Way("direct", DIRECT),
    Way("direct, pattern", DIRECT, pattern="order.*"),
    Way("asked, sync", ASKED, style="sync"),
    Way("asked, later", ASKED, style="later"),
    Way("asked, filter", ASKED, FILTER),
    Way("asked, filter, sync, pattern", ASKED, FILTER, style="sync", pattern="order.**"),
    Way("once", PLAIN, ONCE),
    Way("once, filter, sync", PLAIN, {**ONCE, **FILTER}, style="sync"),
    Way("other delivery", PLAIN, bus="concurrent"),
    Way("other delivery, filter, sync", PLAIN, FILTER, style="sync", bus="tiered"),
    Way("limit", CALLED, LIMIT),
    Way("limit, filter, sync", CALLED, {**LIMIT, **FILTER}, style="sync"),
    Way("time limit", CALLED, TIMED),
    Way("time limit, once", CALLED, {**TIMED, **ONCE}),
    Way("beside a stream", CALLED, beside="drop_newest"),
    Way("beside a blocking stream, later", CALLED, style="later", beside="block"),
    Way("watcher", WATCHER, watched=_ONE),
    Way("watcher, pattern", WATCHER, watched=_ONE, pattern="order.*"),
    Way("watcher, other delivery", PLAIN, watched=_ONE, bus="concurrent"),
    Way("watcher, sync", PLAIN, watched=_ONE, style="sync"),
    Way("watcher, filter", PLAIN, FILTER, _ONE),
    Way("watcher, once", PLAIN, ONCE, _ONE),
    Way("watcher, limit", CALLED, LIMIT, _ONE),
    Way("two watchers", PLAIN, watched=_TWO),
    Way("handlers watched", CALLED, watched=_HANDLERS),
    Way("handlers watched, filter, sync", CALLED, FILTER, _HANDLERS, "sync"),
    Way("handlers watched, once", CALLED, ONCE, _HANDLERS),
    Way("both watched", CALLED, watched=_BOTH),
    Way("both watched, apart, limit", CALLED, LIMIT, (*_ONE, *_HANDLERS)),
    Way("around", SURROUNDED, around=1),
    Way("around, filter, sync", CALLED_INSIDE, FILTER, style="sync", around=1),
    Way(
        "around, once, later, pattern",
        CALLED_INSIDE,
        ONCE,
        style="later",
        pattern="order.*",
        around=1,
    ),
    Way("around, twice", TWO_INSIDE, around=2),
    Way("around, time limit", CALLED_INSIDE, TIMED, around=1),
    Way("around, watcher", CALLED_INSIDE, watched=_ONE, around=1),
    Way("around, other delivery", CALLED_INSIDE, bus="concurrent", around=1),
    Way("around, limit", CALLED_INSIDE, LIMIT, around=1),
    Way("around, both watched", CALLED_INSIDE, watched=_BOTH, around=1),
    Way("around, its own", SURROUNDED, own=1),
    Way("around, both", TWO_INSIDE, around=1, own=1),
    Way("around, beside a stream", SURROUNDED, beside="drop_newest", around=1),
    Way("around, failures", MARKED, event=HANDLER_FAILED, around=1),
    Way("failures", MARKED, event=HANDLER_FAILED),
    Way("failures, filter, sync", MARKED, FILTER, style="sync", event=HANDLER_FAILED),
    Way("failures, both watched", MARKED_CALLED, watched=_BOTH, event=HANDLER_FAILED),
]

_EMITTED = [
    replace(way, name=f"emitted, {way.name}", event=STATE_CHANGED, begins="emit")
    for way in (
        Way("direct", EMITTED),
        Way("sync", EMITTED_PLAIN, style="sync"),
        Way("filter", EMITTED_PLAIN, FILTER),
        Way("once", EMITTED_PLAIN, ONCE),
        Way("other delivery", EMITTED_PLAIN, bus="concurrent"),
        Way("watcher", EMITTED_PLAIN, watched=_ONE),
        Way("both watched", EMITTED_CALLED, watched=_BOTH),
        Way("limit", EMITTED_CALLED, LIMIT),
        Way("around", EMITTED, around=1),
        Way("around, its own", EMITTED_CALLED, own=1),
    )
]

_ANNOUNCED = [
    replace(way, name=f"announced, {way.name}", event=HANDLER_FAILED, begins="announce")
    for way in (
        Way("plain", EMITTED_PLAIN),
        Way("sync, filter", EMITTED_PLAIN, FILTER, style="sync"),
        Way("both watched", EMITTED_CALLED, watched=_BOTH),
    )
]

_CONCURRENT = [
    Way("plain", RUNNER),
    Way("sync", RUNNER, style="sync"),
    Way("later, pattern", RUNNER, style="later", pattern="order.*"),
    Way("filter", RUNNER, FILTER),
    Way("once", RUNNER, ONCE),
    Way("limit", RUNNER_CALLED, LIMIT),
    Way("time limit, filter", RUNNER_CALLED, {**TIMED, **FILTER}),
    Way("beside a stream", RUNNER_CALLED, beside="drop_newest"),
    Way("beside a blocking stream", RUNNER_CALLED, beside="block"),
    Way("watcher", RUNNER, watched=_ONE),
    Way("watcher, other delivery", RUNNER, watched=_ONE, bus="sequential"),
    Way("handlers watched, once", RUNNER_CALLED, ONCE, _HANDLERS),
    Way("both watched", RUNNER_CALLED, watched=_BOTH),
    Way("failures", RUNNER, event=HANDLER_FAILED),
    Way("around", RUNNER_CALLED_INSIDE, around=1),
    Way("around, its own, limit", RUNNER_CALLED_INSIDE, LIMIT, own=1),
]

_TIERED = [
    Way("plain", RUNNER),
    Way("once, filter, sync", RUNNER, {**ONCE, **FILTER}, style="sync"),
    Way("other delivery", RUNNER, bus="sequential"),
    Way("limit", RUNNER_CALLED, LIMIT),
    Way("both watched", RUNNER_CALLED, watched=_BOTH),
    Way("around", RUNNER_CALLED_INSIDE, around=1),
]

WAYS = [
    *_SEQUENTIAL,
    *_EMITTED,
    *_ANNOUNCED,
    *(replace(way, name=f"concurrent, {way.name}", delivery="concurrent") for way in _CONCURRENT),
    *(replace(way, name=f"tiered, {way.name}", delivery="tiered") for way in _TIERED),
]


@cache
def calls_of_handlers() -> dict[tuple[str, str], list[int]]:
    """Find the lines that call a handler, by file and function."""
    found: dict[tuple[str, str], list[int]] = {}
    for module in MODULES:
        path = inspect.getfile(module)
        for name, function in _functions(ast.parse(inspect.getsource(module))):
            lines = sorted(_lines_of_calls(function))
            if lines:
                found[path, name] = lines
    return found


def _functions(tree: ast.AST, around: str = "") -> Generator[tuple[str, ast.AST]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{around}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{around}{node.name}", node
            yield from _functions(node, f"{around}{node.name}.<locals>.")


def _lines_of_calls(function: ast.AST) -> Generator[int]:
    for node in ast.iter_child_nodes(function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield from _lines_of_calls(node)
        if isinstance(node, ast.Call):
            called = node.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            if name == "handler":
                yield node.lineno


def path_here() -> str:
    """Tell from where the handler was called within which this is."""
    frame: FrameType | None = sys._getframe()
    calls = calls_of_handlers()
    files = {file for file, _ in calls}
    names: list[str] = []
    while frame is not None:
        code, name = frame.f_code, frame.f_code.co_qualname
        if code.co_filename in files:
            lines = calls.get((code.co_filename, name), [])
            number = f" {sum(line <= frame.f_lineno for line in lines)}" if not names else ""
            names.append(f"{name}{number}")
            if name in _ROOTS and not _is_published(frame):
                return " > ".join(reversed(names))
        frame = frame.f_back
    raise AssertionError(names)


def _is_published(frame: "FrameType") -> bool:
    """Return whether a frame is called by `publish`, so that the way begins there."""
    caller = frame.f_back
    return caller is not None and caller.f_code is EventBus.publish.__code__


async def only_call(
    _event: Event[Any], _subscription: Subscription, call: Callable[[], Awaitable[None]]
) -> None:
    """Do nothing around a handler but call it."""
    await call()


@final
class _Later:
    """An awaitable that is no coroutine."""

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, None]:
        return self._coroutine.__await__()


@final
class _Collector(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


@final
class Span:
    """A context manager of an instrument, which notes what it is shown.

    Attributes:
        what: the event's name, or the component whose handler is watched.
        shown: what left it; empty until it is exited.
    """

    def __init__(self, what: str, scene: "Scene", fails_in: str | None) -> None:
        self.what = what
        self.shown: list[BaseException | None] = []
        self._scene = scene
        self._fails_in = fails_in

    def __enter__(self) -> None:
        self._note("enter")

    def __exit__(self, kind: object, exception: BaseException | None, traceback: object) -> bool:
        self.shown.append(exception)
        self._note("exit")
        # What would swallow it in a `with` statement.
        return True

    def _note(self, moment: str) -> None:
        self._scene.notes.append(f"{moment} {self.what}")
        if moment == self._fails_in:
            raise self._scene.trouble


class _Watching:
    """The instrument of a scene."""

    def __init__(self, scene: "Scene") -> None:
        self._scene = scene

    def _watch(self, what: str) -> Span:
        self._scene.spans.append(span := Span(what, self._scene, self._scene.fails_in))
        return span


class _Publishes(_Watching):
    def publishing(self, event: Event[Any], /) -> Span:
        return self._watch(event.name)


class _Handles(_Watching):
    def handling(self, event: Event[Any], subscription: Subscription, /) -> Span:
        return self._watch(subscription.component_name)


class _Both(_Publishes, _Handles): ...


_INSTRUMENTS: Mapping[str, type[_Publishes | _Handles]] = {
    "publishing": _Publishes,
    "handling": _Handles,
    "both": _Both,
}


@final
class Scene:
    """A bus on which a publish goes one of the ways.

    Args:
        way: the way.
        policy: what a failure does.

    Attributes:
        way: the way.
        stops: whether a failure leaves the publish.
        started: the names of the handlers that were started, in that order.
        ended: the names of those that have ended, in that order.
        notes: the same, with what instruments were asked for.
        spans: what the instruments gave, in that order.
        paths: from where handlers were called.
        fails_in: where the instruments' context managers fail: "enter", "exit", or None.
        trouble: what they fail with.
        data: the payload.
        given: what the handlers were given.
        log: what was logged.
        announced: what was published as `event.handler.failed`, where the way does that.
    """

    def __init__(self, way: Way, policy: ErrorPolicy = "continue", **options: Any) -> None:
        self.way = way
        self.stops = policy == "raise"
        self.started: list[str] = []
        self.ended: list[str] = []
        self.notes: list[str] = []
        self.spans: list[Span] = []
        self.paths: set[str] = set()
        self.fails_in: str | None = None
        self.trouble: BaseException = AssertionError()
        self.data = {"component": "c", "from_state": "a", "to_state": "b"}
        self.given: list[object] = []
        self.announced: list[BaseException] = []
        self.log: list[logging.LogRecord] = []
        self.bus = EventBus(
            delivery=way.bus or way.delivery,
            instruments=[_INSTRUMENTS[each](self) for each in way.watched],
            around=[only_call] * way.around,
            **options,
        )
        self._policy: ErrorPolicy = policy
        self._handler = _Collector(self.log)
        self._stack = AsyncExitStack()

    @property
    def logged(self) -> list[BaseException | None]:
        """The failures that were logged, as errors with their tracebacks."""
        assert all(record.levelno == logging.ERROR for record in self.log)
        return [record.exc_info[1] for record in self.log if record.exc_info]

    async def __aenter__(self) -> Self:
        _logger.addHandler(self._handler)
        if self.way.beside is not None:
            stream = self.bus.stream(self.way.event, overflow=self.way.beside)
            await self._stack.enter_async_context(stream)
        if self.way.announces:
            dispatcher_of(self.bus).registry.create(
                HANDLER_FAILED,
                "ledger",
                lambda data: self.announced.append(data["exception"]),
                priority=1,
                filter=None,
                once=False,
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _logger.removeHandler(self._handler)
        await self._stack.aclose()
        if exception is not None:
            exception.add_note(f"on the way {self.way.name!r}, with the policy {self._policy!r}")
        else:
            assert self.paths <= {self.way.path, self.way.after}

    def on(self, name: str, act: Act | None = None, **options: Any) -> Subscription:
        """Subscribe a handler that does something; also while another one runs."""
        terms: dict[str, Any] = {
            "priority": 3,
            "filter": None,
            "once": False,
            **self.way.terms,
            **options,
        }
        limits = make_terms(
            time_limit=terms.pop("time_limit", None),
            limit=terms.pop("limit", None),
            around=(only_call,) * self.way.own,
        )
        handler = self._make(name, act or (lambda: None))
        event = self.way.pattern or self.way.event
        registry = dispatcher_of(self.bus).registry
        return registry.create(event, name, handler, terms=limits, **terms)

    def _make(self, name: str, act: Act) -> Callable[[Any], object]:
        async def handler(data: object) -> None:
            with self._begun(name, data):
                result = act()
                if isawaitable(result):
                    await result

        def plain(data: object) -> None:
            with self._begun(name, data):
                assert not isawaitable(act())

        styles: Mapping[str, Callable[[Any], object]] = {
            "async": handler,
            "sync": plain,
            "later": lambda data: _Later(handler(data)),
        }
        return styles[self.way.style]

    def _begun(self, name: str, data: object) -> "_Running":
        self.given.append(data)
        return _Running(self, name)

    async def publish(self) -> tuple[HandlerFailure, ...]:
        """Publish the way's event, in that way."""
        dispatcher = dispatcher_of(self.bus)
        with fail_after(PATIENCE):
            if self.way.begins == "announce":
                failure: Any = self.data
                await dispatcher.announce("order.paid", "c", failure)
                return ()
            if self.way.begins == "emit":
                if (route := dispatcher.listeners(self.way.event)) is not None:
                    await dispatcher.deliver(route, self.data)
                return ()
            delivery = None if self.way.bus is None else self.way.delivery
            return await self.bus.publish(
                self.way.event, self.data, delivery=delivery, on_error=self._policy
            )


@final
class _Running:
    """The time that a handler takes; a class, so that no frame is between it and the bus."""

    def __init__(self, scene: Scene, name: str) -> None:
        self._scene = scene
        self._name = name

    def __enter__(self) -> None:
        self._scene.paths.add(path_here())
        self._scene.started.append(self._name)
        self._scene.notes.append(f"start {self._name}")

    def __exit__(self, *_: object) -> None:
        self._scene.ended.append(self._name)
        self._scene.notes.append(f"end {self._name}")
