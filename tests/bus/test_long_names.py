"""Names of any length, and any number of them: B10."""

import ast
import difflib
import gc
import inspect
import logging
import re
import tracemalloc
from collections.abc import Callable, Collection, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from anyio import get_current_task

import flexiflow
from flexiflow import (
    Component,
    Engine,
    EventBus,
    ReceiverClosed,
    StateMachine,
    Transition,
    UnknownComponent,
)
from flexiflow._actor import Actor
from flexiflow._errors import FlexiFlowError
from flexiflow._names import check_component_name, check_event_name, check_subscribed_name
from flexiflow._registry import MAX_REMEMBERED, Registry
from flexiflow._text import LONGEST, closest, shorten, show
from flexiflow.extras.causality import PublishLoop
from flexiflow.extras.durable import JSON, MemoryTransport, open_bridge
from flexiflow.extras.durable._bridge.cloudevents import Encoder
from flexiflow.extras.durable._bridge.failing import failure_of, log_burial
from flexiflow.extras.durable._bridge.json_text import name_to_text
from tests.helpers import MODES, never

LONG = "n" * 100_000
FEW = 5 * (LONGEST + 100)
"""More characters than a message has that shows a few names, and far fewer than a long name."""

NAMES = {
    *("name", "stream", "component", "component_name", "methods", "state", "trigger"),
    *("event_name", "query"),
}
"""The parameters of exceptions that hold a name."""
CROWDS = {"known", "accepted", "chain", "taken", "given"}
"""Those that hold several."""


@pytest.mark.parametrize("length", [0, 1, LONGEST - 1, LONGEST])
def test_a_name_of_ordinary_length_is_shown_as_it_is(length: int) -> None:
    """B10: up to 200 characters are shown, what can't be printed escaped."""
    assert show("\n" * length) == repr("\n" * length)
    assert shorten("\n" * length) == "\n" * length


@pytest.mark.parametrize("length", [LONGEST + 1, LONGEST + 2, 100_000])
def test_a_long_name_is_shown_without_its_middle(length: int) -> None:
    """B10: its beginning and its end tell it from others."""
    shown = shorten("begin" + "." * (length - 8) + "end")
    assert shown.startswith("begin..")
    assert shown.endswith("..end")
    assert LONGEST - 1 <= len(shown) <= LONGEST
    assert show("'" * length) == repr(shorten("'" * length))


@pytest.fixture(name="compared")
def _compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each name that difflib is given."""
    noted: list[str] = []
    find = difflib.get_close_matches

    def note(name: str, known: Collection[str], *arguments: Any) -> list[str]:
        noted.extend((name, *known))
        return find(name, known, *arguments)

    monkeypatch.setattr(difflib, "get_close_matches", note)
    return noted


@pytest.mark.parametrize(
    ("name", "known", "found", "asked"),
    [
        ("biling", ["billing", "shipping"], ("billing",), ["biling", "billing", "shipping"]),
        ("n" * 200, ["n" * 200], ("n" * 200,), ["n" * 200] * 2),
        ("n" * 201, ["n" * 200, "b"], (), []),
        ("n" * 200, ["n" * 201, "n" * 199], ("n" * 199,), ["n" * 200, "n" * 199]),
        ("order", ["orders"] * 1_000, ("orders",) * 3, ["order", *["orders"] * 1_000]),
        ("order", ["orders"] * 1_001, (), []),
    ],
    ids=["short", "longest", "too long", "among too long", "as many", "too many"],
)
def test_only_names_of_ordinary_length_are_compared(
    name: str, known: list[str], found: tuple[str, ...], asked: list[str], compared: list[str]
) -> None:
    """B10: names of over 200 characters are not looked for among others, nor others among them."""
    assert closest(name, known) == found
    assert compared == asked


@pytest.mark.parametrize("operation", ["send", "unregister"])
async def test_an_unknown_long_name_is_refused_without_comparing_it(
    operation: str, compared: list[str]
) -> None:
    """B10: the message tells that it is unknown, and shows neither it nor another in full."""
    engine = Engine()
    await engine.register(Component(LONG + "1"))
    await engine.register(Component("short"))
    arguments = ({"type": "go"},) if operation == "send" else ()
    for name in (LONG, "shor"):
        with pytest.raises(UnknownComponent) as caught:
            await getattr(engine, operation)(name, *arguments)
        assert caught.value.name == name
        assert len(str(caught.value)) < FEW
    assert compared == ["shor", "short"]


def exceptions(base: type[FlexiFlowError] = FlexiFlowError) -> Iterator[type[FlexiFlowError]]:
    """Go through FlexiFlow's own exceptions that have a message of their own."""
    for each in base.__subclasses__():
        # Those of `flexiflow.testing` show programs, which are read in full.
        if re.match(r"flexiflow\.(?!testing\.)", each.__module__):
            # What became of a receiver is no name.
            if "__str__" in vars(each) and each is not ReceiverClosed:
                yield each
            yield from exceptions(each)


def filled(kind: type[FlexiFlowError]) -> FlexiFlowError:
    """Make such an exception, with a long name wherever it holds one."""
    parameters = inspect.signature(kind).parameters
    values: dict[str, Any] = dict.fromkeys(parameters, 3)
    values |= dict.fromkeys(NAMES & parameters.keys(), LONG)
    values |= dict.fromkeys(CROWDS & parameters.keys(), (LONG, LONG + "."))
    return kind(*values.values())


@pytest.mark.parametrize("kind", sorted(set(exceptions()), key=attrgetter("__name__")))
def test_no_exception_shows_a_long_name_in_full(kind: type[FlexiFlowError]) -> None:
    """B10: neither its message nor its repr, which is what logs show of it."""
    exception = filled(kind)
    assert len(str(exception)) < FEW
    assert len(repr(exception)) < FEW


def test_an_exception_of_ordinary_names_has_the_repr_of_any_exception() -> None:
    """B10: what is short is shown as Python shows it."""
    assert repr(UnknownComponent("a")) == "UnknownComponent('a')"
    assert repr(PublishLoop(("a", "b"), 1)) == "PublishLoop(('a', 'b'), 1)"
    assert repr(FlexiFlowError()) == "FlexiFlowError()"


LOOP = Transition(LONG, "a", LONG)


def anything(value: object) -> Any:
    """Hide a value's type, which type checkers would refuse."""
    return value


def refused(call: Callable[[], object]) -> str:
    """Return why a call is refused."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    return str(caught.value)


REFUSED: dict[str, Callable[[], object]] = {
    "empty segment": lambda: check_event_name(f"{LONG}..{LONG}"),
    "wildcard": lambda: check_event_name(f"{LONG}.*"),
    "no name": lambda: check_event_name([LONG]),
    "half a wildcard": lambda: check_subscribed_name(f"{LONG}.a*"),
    "early wildcard": lambda: check_subscribed_name(f"**.{LONG}"),
    "no component's name": lambda: check_component_name(LONG.encode()),
    "no way out": lambda: StateMachine(LONG, [Transition("a", "b", "c")]),
    "unreachable": lambda: StateMachine(LONG, [LOOP, Transition(LONG + ".", "b", "b")]),
    "strict": lambda: StateMachine(LONG, [LOOP], strict=anything(LONG)),
    "no initial state": lambda: StateMachine(anything(LONG.encode()), []),
    "no transition": lambda: StateMachine(LONG, anything([LONG])),
    "no transitions": lambda: StateMachine(LONG, anything(10**4000)),
    "no source": lambda: Transition([anything(LONG.encode())], "a", "b"),
    "no sources": lambda: Transition(anything(10**4000), "a", "b"),
    "no patterns": lambda: open_bridge(EventBus(), MemoryTransport(), outgoing=LONG),
    "overlap": lambda: open_bridge(
        EventBus(), MemoryTransport(), outgoing=[LONG], incoming=[LONG], group="g"
    ),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=list(REFUSED))
def test_no_refusal_shows_a_long_name_in_full(call: Callable[[], object]) -> None:
    """B3: a message shows what was given, shortened where it is long."""
    assert len(refused(call)) < FEW


async def test_no_repr_shows_a_long_name_in_full() -> None:
    """B10: what is logged of a subscription, a component or a machine is short."""
    bus = EventBus()
    machine = StateMachine(LONG, [LOOP])
    shown: list[object] = [
        await bus.subscribe(LONG, LONG, never),
        Component(LONG, machine=machine),
        machine,
    ]
    for each in shown:
        assert len(repr(each)) < FEW


@pytest.mark.parametrize("mode", MODES)
async def test_no_log_line_shows_a_long_name_in_full(
    mode: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """E1: a failure's line names event and component, shortened where they are long."""
    bus = EventBus(delivery=mode)
    await bus.subscribe(LONG, LONG, lambda _: 1 / 0)
    await bus.publish(LONG)
    Actor(LONG, None, None).log(ValueError(), {"type": LONG})
    (first, second) = [record.getMessage() for record in caplog.records]
    assert len(first) < FEW
    assert len(second) < FEW
    assert first.endswith(f"of component {show(LONG)} failed on event {show(LONG)}")


async def test_no_dead_letter_is_told_with_a_long_name(caplog: pytest.LogCaptureFixture) -> None:
    """B10: the line that tells of one shows its event's name shortened."""
    log_burial("group", LONG, "1-1", failure_of(ValueError()))
    (record,) = caplog.records
    assert len(record.getMessage()) < FEW


def reprs_of_names(source: str) -> Iterator[str]:
    """Give the parts of f-strings that show the repr of what is called as names are."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FormattedValue) and node.conversion == ord("r"):
            shown = ast.unparse(node.value)
            if shown.rpartition(".")[2] in {*NAMES - {"component"}, "event", "pattern"}:
                yield shown


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
def test_messages_show_names_by_way_of_show() -> None:
    """B10: no f-string outside of what checks others shows a name's repr, which may be long."""
    root = Path(flexiflow.__file__).parent
    found = {
        str(each): [*reprs_of_names(each.read_text("utf-8"))]
        for each in root.rglob("*.py")
        if not {"testing", "_cli"} & {*each.relative_to(root).parts}
    }
    assert [name for name, shown in found.items() if shown] == []
    assert len(found) > 30
    assert [*reprs_of_names('f"{self.name!r}, {name}, {show(name)}, {group!r}"')] == ["self.name"]


@pytest.mark.parametrize("what", ["stream", "expect"])
async def test_no_receiver_shows_a_long_name_in_full(what: str) -> None:
    """S1: used outside of its block it says so, its name shortened where it is long."""
    receiver = getattr(EventBus(), what)(LONG)
    with pytest.raises(FlexiFlowError) as caught:
        await (receiver if what == "expect" else anext(receiver))
    assert len(str(caught.value)) < FEW


async def test_no_task_has_a_long_name() -> None:
    """B10: what shows tasks, as asyncio's log does, shows no long name in full."""
    bus = EventBus(delivery="concurrent")
    names: list[str | None] = []
    for event in ("order.placed", LONG):
        await bus.subscribe(event, "c", lambda _: names.append(get_current_task().name))
        await bus.publish(event)
    assert names == ["handlers of order.placed", f"handlers of {shorten(LONG)}"]


async def test_a_factory_that_errs_is_told_without_long_names() -> None:
    """C2: what it gave is shown, and what it was asked for."""
    for given in (Component("other"), 3):
        engine = Engine(component_factory=lambda _, given=given: given)  # type: ignore[misc]
        with pytest.raises(FlexiFlowError) as caught:
            await engine.send(LONG, {"type": "go"})
        assert len(str(caught.value)) < FEW


async def test_a_component_that_is_asked_for_by_its_maker_is_told_without_long_names() -> None:
    """C2: asking for the same name from within the factory is an error that shows it shortened."""

    async def make(name: str) -> None:
        await engine.send(name, {"type": "go"})

    engine = Engine(component_factory=make)
    with pytest.raises(FlexiFlowError) as caught:
        await engine.send(LONG, {"type": "go"})
    assert len(str(caught.value)) < FEW


@pytest.mark.same_everywhere
@pytest.mark.parametrize(
    "length", [pytest.param(1_000, marks=pytest.mark.unmeasured), 30_000, 5_000_000]
)
def test_the_names_that_are_remembered_are_bounded_in_characters(length: int) -> None:
    """B10: those of 5 MB leave no more than a few MB, and so do those of any length."""
    registry = Registry(sequential=True)
    most = 0
    for number in range(8_000_000 // length + 3):
        registry.resolve(f"{number}" + "y" * length)
        most = max(most, sum(map(len, registry.routes)))
    assert most < 4_000_000
    # Long ones are remembered, too, if they are not as long as all together may be.
    assert (most > 1_000_000) is (length < 5_000_000)


def test_a_name_that_is_too_long_to_remember_drives_out_no_other() -> None:
    """B10: those that were seen before are still known, and it is heard all the same."""
    registry = Registry(sequential=True)
    kept = registry.resolve("order.placed")
    for _ in range(2):
        assert registry.resolve("y" * 5_000_000).name[:1] == "y"
    assert [*registry.routes] == ["order.placed"]
    assert registry.resolve("order.placed") is kept


def test_room_that_long_names_took_is_given_back() -> None:
    """B10: what came and went does not count against what is remembered."""
    registry = Registry(sequential=True)
    kept = registry.resolve("order.placed")
    long = "y" * (MAX_REMEMBERED * 16)
    for _ in range(4):
        subscription = registry.create(long, "c", never, priority=3, filter=None, once=False)
        registry.resolve(long)
        registry.remove(subscription)
    assert registry.resolve("order.placed") is kept


@pytest.mark.same_everywhere
@pytest.mark.unmeasured
@pytest.mark.parametrize("heard", [False, True])
async def test_many_names_of_5_mb_leave_no_more_than_a_few_mb(*, heard: bool) -> None:
    """B10: what publishing leaves in memory is bounded, whether or not anyone hears it."""
    bus = EventBus()
    if heard:
        await bus.subscribe("*", "c", lambda _: None)
    tracemalloc.start()
    try:
        for number in range(10):
            await bus.publish(f"{number}" + "y" * 5_000_000)
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 8_000_000


def test_long_names_are_written_down_without_being_kept() -> None:
    """B10: what a bridge keeps of the names that it sends out is bounded in characters."""
    encoder = Encoder("source", "producer", JSON)
    before = name_to_text.cache_info().misses
    for number in range(10):
        assert f'"type":"{LONG}{number}"'.encode() in encoder.encode(f"{LONG}{number}", {}, None)
    assert name_to_text.cache_info().misses == before
    assert b'"type":"order.placed"' in encoder.encode("order.placed", {}, None)
    assert name_to_text.cache_info().currsize > 0


def test_the_library_is_quiet_about_long_names(caplog: pytest.LogCaptureFixture) -> None:
    """B10: remembering none of them is nothing to be told."""
    with caplog.at_level(logging.DEBUG):
        Registry(sequential=True).resolve("y" * 5_000_000)
    assert not caplog.records
