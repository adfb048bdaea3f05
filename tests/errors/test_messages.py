"""What each refusal says, to the letter: what was given, and what would be right."""

import copy
import pickle
from collections.abc import Callable, Iterator
from inspect import isawaitable
from typing import Any

import pytest

from flexiflow import (
    Component,
    ComponentError,
    DuplicateComponent,
    Engine,
    EventBus,
    HandlerCancelled,
    StateMachine,
    Transition,
    TransitionRefused,
    UnknownComponent,
    on,
)
from flexiflow._errors import (
    BufferFull,
    DuplicateAnswer,
    EngineNotRunning,
    HandlerTimeout,
    LimitDeadlock,
    NoAnswer,
    ReceiverClosed,
    StateConflict,
    StreamDeadlock,
    UnknownState,
)
from flexiflow.extras.around import CircuitOpen
from flexiflow.extras.retry import RetryConfig, retry_async
from tests.helpers import noting

Case = tuple[Callable[[], Any], type[Exception], str]

GO = {"type": "go"}

bus, engine = EventBus(), Engine()
subscribe: Any = bus.subscribe
publish: Any = bus.publish
unsubscribe: Any = bus.unsubscribe
register: Any = engine.register
make_bus: Any = EventBus
make_engine: Any = Engine
make_component: Any = Component
make_row: Any = Transition
make_machine: Any = StateMachine
make_config: Any = RetryConfig
decorate: Any = retry_async
heard = noting([], "heard")
row = Transition("new", "go", "old")


CALL = (
    "a component's name must be a str, not 7; the call is "
    "subscribe('order.placed', 'billing', handler)"
)


def nothing() -> None:
    """Take no argument."""


def wide(first: int, second: str = "b", *, third: object = 3, fourth: object) -> None:
    """Take a keyword that nobody gives."""


def generate(data: object) -> Iterator[object]:
    """Run nothing when called."""
    yield data


async def wait(*arguments: object) -> None:
    """Take anything."""


def not_awaited() -> Any:
    """Make a coroutine that nobody has awaited, and nobody will."""
    coroutine = wait()
    coroutine.close()
    return coroutine


def answer_later(event: str, data: object) -> Any:
    """Be a filter that isn't one."""
    return wait()


class Forgetful(Component):
    """Doesn't call what its base class must do."""

    def __init__(self) -> None:
        """Do nothing."""


class Unmarked:
    """What takes no mark."""

    __slots__ = ()

    def __call__(self, component: object, data: object) -> None:
        """Take what a method takes."""


RETRIED = (
    "retry_on must be a subclass of Exception, a tuple of them, or a function of an exception, "
    "and 7 is none of these"
)


NAMES: list[Case] = [
    (lambda: subscribe(7, "c", heard), TypeError, "an event name must be a str, not 7"),
    (lambda: publish(7), TypeError, "an event name must be a str, not 7"),
    (
        lambda: subscribe("a..b", "c", heard),
        ValueError,
        (
            "malformed event name 'a..b': it must be non-empty segments joined by dots, "
            "like 'order.placed'"
        ),
    ),
    (
        lambda: subscribe("a*", "c", heard),
        ValueError,
        "malformed pattern 'a*': a wildcard is a segment of its own, '*' or '**'",
    ),
    (
        lambda: subscribe("**.a", "c", heard),
        ValueError,
        "malformed pattern '**.a': '**' may only be the last segment",
    ),
    (
        lambda: publish("a.*"),
        ValueError,
        "can't publish to the pattern 'a.*': an event's name has no wildcard",
    ),
    (
        lambda: subscribe("a", 7, heard),
        TypeError,
        CALL,
    ),
    (
        lambda: subscribe("a", "", heard),
        ValueError,
        "a component's name must not be empty",
    ),
]

OPTIONS: list[Case] = [
    (
        lambda: publish("a", delivery="all"),
        ValueError,
        "delivery must be one of 'sequential', 'concurrent', 'tiered', not 'all'",
    ),
    (
        lambda: publish("a", on_error=[1]),
        ValueError,
        "on_error must be one of 'continue', 'raise', not [1]",
    ),
    (
        lambda: make_bus(delivery="all"),
        ValueError,
        "delivery must be one of 'sequential', 'concurrent', 'tiered', not 'all'",
    ),
    (
        lambda: make_bus(on_error="all"),
        ValueError,
        "on_error must be one of 'continue', 'raise', not 'all'",
    ),
    (
        lambda: make_bus(yield_every=0),
        ValueError,
        "yield_every must be an int, 1 or more, not 0",
    ),
    (
        lambda: subscribe("a", "c", heard, priority=0),
        ValueError,
        "priority must be an int, 1 (first) to 5 (last), not 0",
    ),
    (
        lambda: unsubscribe("a"),
        TypeError,
        "unsubscribe takes what subscribe returned, not 'a'",
    ),
]

CALLABLES: list[Case] = [
    (
        lambda: subscribe("a", "c", not_awaited()),
        TypeError,
        (
            "handler must be a function, not the coroutine that calling one gives; "
            "did you call it? give wait, not wait(...)"
        ),
    ),
    (
        lambda: subscribe("a", "c", 7),
        TypeError,
        "handler must be callable with 1 positional argument, not 7",
    ),
    (
        lambda: subscribe("a", "c", generate),
        TypeError,
        "handler must be a plain or async function, but generate is a generator function",
    ),
    (
        lambda: subscribe("a", "c", nothing),
        TypeError,
        "handler is called with 1 positional argument, which nothing() does not take",
    ),
    (
        lambda: subscribe("a", "c", wide),
        TypeError,
        (
            "handler is called with 1 positional argument, "
            "which wide(first, second=..., *, third=..., fourth) does not take"
        ),
    ),
    (
        lambda: subscribe("a", "c", heard, filter=7),
        TypeError,
        "filter must be callable with 2 positional arguments, not 7",
    ),
    (
        lambda: subscribe("a", "c", heard, filter=wait),
        TypeError,
        "a filter must be a plain function, but wait is async",
    ),
    (
        lambda: make_engine(component_factory=nothing),
        TypeError,
        "component_factory is called with 1 positional argument, which nothing() does not take",
    ),
    (
        lambda: on("a")(nothing),
        TypeError,
        (
            "a method marked with @on is called with 2 positional arguments, "
            "which nothing() does not take"
        ),
    ),
    (lambda: on("a")(Unmarked()), TypeError, "@on marks a method, and Unmarked takes no mark"),
    (
        lambda: make_row("a", "go", "b", guard=nothing),
        TypeError,
        "guard is called with 2 positional arguments, which nothing() does not take",
    ),
    (
        lambda: make_row("a", "go", "b", action=nothing),
        TypeError,
        "action is called with 2 positional arguments, which nothing() does not take",
    ),
]

COMPONENTS: list[Case] = [
    (
        lambda: make_component("a", machine=7),
        TypeError,
        "machine must be a StateMachine or None, not 7",
    ),
    (lambda: make_engine(bus=7), TypeError, "bus must be an EventBus or None, not 7"),
    (lambda: register(7), TypeError, "register takes a Component, not 7"),
    (
        lambda: register(Forgetful()),
        TypeError,
        "Forgetful.__init__ must call super().__init__(name)",
    ),
    (
        lambda: engine.send("a", 7),  # type: ignore[arg-type]
        TypeError,
        "a message must be a mapping with a str 'type', not 7",
    ),
    (
        lambda: engine.send("a", {"type": 7}),
        ValueError,
        "a message must have a str 'type', like {'type': 'confirm'}; given {'type': 7}",
    ),
    (lambda: engine.send("a", GO), UnknownComponent, "no component is named 'a'"),
    (
        lambda: Engine(component_factory=lambda name: 7).send("a", GO),  # type: ignore[arg-type, return-value]
        ComponentError,
        "component_factory must give a Component or None for 'a', not 7",
    ),
    (
        lambda: Engine(component_factory=lambda name: Component("b")).send("a", GO),
        ComponentError,
        "component_factory was asked for 'a' and gave <Component 'b'>",
    ),
]

TABLES: list[Case] = [
    (lambda: make_row(7, "go", "b"), TypeError, "source must be a state, several, or '*', not 7"),
    (lambda: make_row("", "go", "b"), ValueError, "source must not be empty"),
    (
        lambda: make_row([], "go", "b"),
        ValueError,
        "source must name at least one state, not none: []",
    ),
    (
        lambda: make_row(["a", "*"], "go", "b"),
        ValueError,
        "each source must be one state, not '*', which is a source only, on its own",
    ),
    (lambda: make_row("a", 7, "b"), TypeError, "trigger must be a str, not 7"),
    (
        lambda: make_row("a", "go", "*"),
        ValueError,
        "target must be one state, not '*', which is a source only, on its own",
    ),
    (lambda: make_machine("", [row]), ValueError, "initial must not be empty"),
    (
        lambda: make_machine("new", [row], strict=1),
        TypeError,
        "strict must be True or False, not 1",
    ),
    (
        lambda: make_machine("new", 7),
        TypeError,
        "transitions must be several Transition objects, not 7",
    ),
    (
        lambda: make_machine("new", [row, 7]),
        TypeError,
        "transitions[1] must be a Transition, not 7",
    ),
    (
        lambda: make_machine("old", [row]),
        ValueError,
        "no transition leaves the initial state 'old'; one must have it as a source",
    ),
    (
        lambda: make_machine("new", [row, Transition("x", "go", "y")]),
        ValueError,
        "no way leads from the initial state 'new' to 'x', 'y'; add one or drop them",
    ),
]

RETRIES: list[Case] = [
    (
        lambda: make_config(max_attempts=0),
        ValueError,
        "max_attempts must be an int of 1 or more, not 0",
    ),
    (
        lambda: make_config(retry_on=()),
        ValueError,
        "retry_on must hold at least one subclass of Exception, not be an empty tuple",
    ),
    (
        lambda: make_config(retry_on=(OSError, 7)),
        TypeError,
        RETRIED,
    ),
    (
        lambda: decorate(7),
        TypeError,
        (
            "retry_async takes an async function, a partial of one, or an object with an async "
            "__call__, not 7"
        ),
    ),
    (
        lambda: decorate(nothing),
        TypeError,
        (
            "retry_async takes an async function, a partial of one, or an object with an async "
            "__call__, not nothing, which is not async"
        ),
    ),
    (
        lambda: decorate(not_awaited()),
        TypeError,
        (
            "retry_async takes an async function, a partial of one, or an object with an async "
            "__call__, not a coroutine; did you call the function?"
        ),
    ),
]

each_exception = pytest.mark.parametrize(
    ("exception", "arguments", "message"),
    [
        (
            HandlerCancelled("f"),
            ("f",),
            (
                "a cancellation left f, though no scope around it was cancelled: "
                "it awaited a task that someone else cancelled, or its own task was cancelled"
            ),
        ),
        (HandlerTimeout("f", 2.0), ("f", 2.0), "f was still running after 2.0 s"),
        (
            LimitDeadlock("f", 1),
            ("f", 1),
            (
                "a call of f, limited to 1 at once, would wait for itself: it came from within "
                "such a call, or all of these wait for what it came from"
            ),
        ),
        (
            BufferFull("a.*", 2),
            ("a.*", 2),
            "the stream of 'a.*' is full with 2 events; this one is lost",
        ),
        (
            StreamDeadlock("a", 1),
            ("a", 1),
            (
                "the stream of 'a' is full with 1 event, and its only consumer publishes to it and "
                "would wait for itself; read it in another task, or give it a larger buffer or "
                "another overflow policy"
            ),
        ),
        (
            StreamDeadlock(None, 0),
            (None, 0),
            (
                "the background's buffer is full with 0 events, and a handler that it calls "
                "publishes to it and would wait for itself; give it a larger buffer or another "
                "overflow policy"
            ),
        ),
        (
            ReceiverClosed("the stream", "has ended"),
            ("the stream", "has ended"),
            "the block of the stream has ended; use it inside its 'async with'",
        ),
        (
            NoAnswer("price", ["prices"]),
            ("price",),
            "nobody answers 'price'; did you mean 'prices'?",
        ),
        (
            DuplicateAnswer("a", "c", "C.one", "C.two"),
            ("a", "c", "C.one", "C.two"),
            "C.one and C.two of 'c' both answer 'a'; mark only one of them with @answers",
        ),
        (
            UnknownState("a", "x", ["new", "old"]),
            ("a", "x"),
            (
                "component 'a' is stored in state 'x', which its machine does not have; "
                "it has 'new', 'old'"
            ),
        ),
        (
            StateConflict("a", 1, 0),
            ("a", 1, 0),
            (
                "version 1 of component 'a' was to be replaced, and nothing is stored: another "
                "engine has changed it meanwhile"
            ),
        ),
        (
            EngineNotRunning("a", "timed"),
            ("a", "timed"),
            (
                "component 'a' can't enter state 'timed', which has a timer or work, while its "
                "engine is not running; send within `async with engine.running():`"
            ),
        ),
        (
            CircuitOpen("f", 2.5),
            ("f", 2.5),
            (
                "f was not called, since its circuit breaker is open after too many failures; "
                "a trial call comes in 2.5 s"
            ),
        ),
        (
            DuplicateComponent("a"),
            ("a",),
            "a component named 'a' is registered already; unregister it first",
        ),
        (UnknownComponent("a"), ("a",), "no component is named 'a'"),
        (
            TransitionRefused("a", "new", "go", ()),
            ("a", "new", "go", ()),
            "component 'a' in state 'new' refuses 'go'; it would take: none",
        ),
        (
            TransitionRefused("a", "new", "go", ("go", "stop")),
            ("a", "new", "go", ("go", "stop")),
            (
                "component 'a' in state 'new' refuses 'go', since no guard lets it through; "
                "it would take: 'go', 'stop'"
            ),
        ),
    ],
)


def each(cases: list[Case]) -> pytest.MarkDecorator:
    """Run a test with each case, numbered."""
    numbers = [str(number) for number, _ in enumerate(cases)]
    return pytest.mark.parametrize(("refused", "kind", "message"), cases, ids=numbers)


async def says(refused: Callable[[], Any], kind: type[Exception], message: str) -> None:
    """Check what something raises, perhaps once it is awaited."""
    with pytest.raises(kind) as caught:
        if isawaitable(result := refused()):
            await result
    assert type(caught.value) is kind
    assert str(caught.value) == message


@each(NAMES + OPTIONS + CALLABLES)
async def test_a_bad_argument_of_the_bus(refused: Any, kind: Any, message: str) -> None:
    """B3: the message says what was given and what is allowed."""
    await says(refused, kind, message)


@each(COMPONENTS)
async def test_what_an_engine_refuses(refused: Any, kind: Any, message: str) -> None:
    """C1, C2, C5: the message says what was given and what is allowed."""
    await says(refused, kind, message)


@each(TABLES)
async def test_what_a_state_machine_refuses(refused: Any, kind: Any, message: str) -> None:
    """C8: the message says what was given and what is allowed."""
    await says(refused, kind, message)


@each(RETRIES)
async def test_what_a_retry_refuses(refused: Any, kind: Any, message: str) -> None:
    """R1, R6: the message names the field, says what was given and what is allowed."""
    await says(refused, kind, message)


async def test_a_component_that_is_registered_already() -> None:
    """C1: the message shows the component and says why not."""
    component = Component("a")
    await Engine().register(component)
    message = "<Component 'a'> is registered already; a component belongs to at most one engine"
    await says(lambda: Engine().register(component), ComponentError, message)


async def test_a_name_that_is_close_to_known_ones() -> None:
    """C2: the message names the closest."""
    crowd = Engine()
    for known in ("order-1", "order-2", "customer"):
        await crowd.register(Component(known))
    message = "no component is named 'order-3'; did you mean 'order-2' or 'order-1'?"
    await says(lambda: crowd.send("order-3", GO), UnknownComponent, message)
    await says(lambda: crowd.unregister("order-3"), UnknownComponent, message)


async def test_a_component_that_is_asked_for_by_what_makes_it() -> None:
    """C2: the message says who must not ask."""

    async def make(name: str) -> None:
        await made.send(name, GO)

    made = Engine(component_factory=make)
    message = "component 'a' is asked for while it is being made, by what makes it"
    await says(lambda: made.send("a", GO), ComponentError, message)


@pytest.mark.parametrize("once", [False, True])
async def test_a_filter_that_answers_later(*, once: bool) -> None:
    """B8: the message names the filter."""
    strict = EventBus(on_error="raise")
    await strict.subscribe("a", "c", heard, filter=answer_later, once=once)
    message = "the filter answer_later returned an awaitable; a filter must answer at once"
    await says(lambda: strict.publish("a"), TypeError, message)


@each_exception
def test_an_exception_of_our_own(
    exception: Exception, arguments: tuple[Any, ...], message: str
) -> None:
    """B3: it writes its message from what it was given, and survives copying and pickling."""
    pickled = pickle.loads(pickle.dumps(exception))  # noqa: S301  our own bytes
    for each in (exception, copy.copy(exception), pickled):
        assert type(each) is type(exception)
        assert each.args == arguments
        assert str(each) == message
