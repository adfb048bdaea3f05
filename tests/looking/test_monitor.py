"""The monitor, asked without a server: L8."""

import re
from collections.abc import Callable
from threading import Event
from threading import enumerate as enumerate_threads
from typing import Any
from weakref import ref

import anyio
import pytest
from anyio import CancelScope, create_task_group, fail_after, to_thread, wait_all_tasks_blocked
from anyio import Event as Flag
from anyio.lowlevel import checkpoint

from flexiflow import Component, Engine, EventBus, StateMachine, Transition
from flexiflow._bus import dispatcher_of
from flexiflow._text import printable
from flexiflow.events import HANDLER_FAILED
from flexiflow.extras import monitor as module
from flexiflow.extras._monitor import OWNER, looking
from flexiflow.extras.monitor import Monitor
from tests.helpers import PATIENCE
from tests.looking.asking import ask, news
from tests.looking.shops import NASTY, Lamp, lamps, switch


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Make the monitor's clock one that the test sets."""
    made = Clock()
    monkeypatch.setattr(looking, "monotonic", made)
    return made


def observed(bus: EventBus) -> list[str]:
    """Return the events that the monitor has subscribed to."""
    subscriptions = dispatcher_of(bus).registry
    return sorted(each.event_name for each in subscriptions if each.component_name == OWNER)


def fail(_: object) -> None:
    """Be a handler that fails."""
    raise KeyError("missing")


async def test_events_are_shown_as_they_pass() -> None:
    """L8: with number, name and payload, from the first request on."""
    bus = EventBus()
    monitor = Monitor(bus)
    await bus.publish("order.placed", {"number": 1})
    first = await news(monitor)
    await bus.publish("order.placed", {"number": 2})
    await bus.publish("order.paid")
    second = await news(monitor, first)
    third = await news(monitor, second)
    assert (first["published"], first["events"]) == (0, [])
    assert second["events"] == [[1, "order.placed", "{'number': 2}"], [2, "order.paid", "None"]]
    assert (third["published"], third["events"], third["missed"]) == (2, [], 0)


async def test_two_browsers_see_the_same() -> None:
    """L8: each is told what is new to it."""
    bus = EventBus()
    monitor = Monitor(bus)
    one = await news(monitor)
    await bus.publish("first")
    other = await news(monitor)
    await bus.publish("second")
    one, other = await news(monitor, one), await news(monitor, other)
    assert [name for _, name, _ in one["events"]] == ["first", "second"]
    assert [name for _, name, _ in other["events"]] == ["second"]


async def test_a_slow_browser_is_told_what_it_missed() -> None:
    """L8: the last events are kept, and no more."""
    bus = EventBus()
    monitor = Monitor(bus)
    first = await news(monitor)
    for number in range(500):
        await bus.publish("tick", number)
    second = await news(monitor, first)
    assert (second["published"], second["missed"], len(second["events"])) == (500, 300, 200)
    assert second["events"][0] == [301, "tick", "300"]


async def test_nothing_is_kept_once_nobody_looks(clock: Clock) -> None:
    """L8: some seconds after the last request a publish costs what it did before."""
    bus = EventBus()
    monitor = Monitor(bus)
    await monitor.watch_failures()
    assert observed(bus) == [HANDLER_FAILED]
    first = await news(monitor)
    assert observed(bus) == ["**", HANDLER_FAILED]
    clock.now = 4.0
    for _ in range(100):
        await bus.publish("tick")
    assert observed(bus) == ["**", HANDLER_FAILED]
    clock.now = 6.0
    for _ in range(100):
        await bus.publish("tick")
    assert observed(bus) == [HANDLER_FAILED]
    # What the page has seen of the first look means nothing in the second.
    second = await news(monitor, first)
    await bus.publish("tock")
    third = await news(monitor, second)
    assert (second["look"], second["published"], second["events"]) == (2, 0, [])
    assert [name for _, name, _ in third["events"]] == ["tock"]


@pytest.mark.parametrize("looks_on", [False, True])
async def test_payloads_of_a_quiet_bus_are_let_go(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, *, looks_on: bool
) -> None:
    """L8: no other event needs to be published for that; who looks again in time sees them."""
    time_is_up, asleep = Event(), Event()

    def wait(_: float) -> None:
        asleep.set()
        time_is_up.wait(PATIENCE)

    monkeypatch.setattr(looking, "sleep", wait)
    bus = EventBus()
    monitor = Monitor(bus)
    first = await news(monitor)
    payload = Odd()
    kept = ref(payload)
    await bus.publish("tick", payload)
    del payload
    with fail_after(PATIENCE):
        if looks_on:
            clock.now = 4.0
            assert len((await news(monitor, first))["events"]) == 1
        asleep.clear()
        time_is_up.set()
        await to_thread.run_sync(asleep.wait, PATIENCE)
        clock.now = 8.0 if looks_on else 4.9
        assert kept() is not None
        clock.now = 10.0
        while kept() is not None:
            await checkpoint()
    assert observed(bus) == [HANDLER_FAILED]


def test_payloads_outlive_no_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """L8: a loop that is over need not be asked."""
    may_end = Event()

    def wait(_: float) -> None:
        may_end.wait(PATIENCE)

    monkeypatch.setattr(looking, "sleep", wait)
    bus = EventBus()
    threads = set(enumerate_threads())

    async def look() -> ref[Odd]:
        await news(Monitor(bus))
        payload = Odd()
        await bus.publish("tick", payload)
        return ref(payload)

    kept = anyio.run(look)
    may_end.set()
    for each in set(enumerate_threads()) - threads:
        assert each.daemon  # else a program that ends would wait for it
        each.join(PATIENCE)
    assert kept() is None
    anyio.run(bus.publish, "tick")
    assert observed(bus) == [HANDLER_FAILED]


@pytest.mark.parametrize("number", ["-1", "x", "", "9" * 5_000, "1e3", "%D9%A3"])
async def test_a_number_that_is_none_counts_as_nothing_seen(number: str) -> None:
    """L8: a request may have any numbers."""
    bus = EventBus()
    monitor = Monitor(bus)
    first = await news(monitor)
    await bus.publish("tick")
    second = await news(monitor, first | {"published": number, "failed": number})
    assert len(second["events"]) == 1


async def test_who_has_seen_more_than_there_is_sees_nothing() -> None:
    """L8: a request may have any numbers."""
    bus = EventBus()
    monitor = Monitor(bus)
    first = await news(monitor)
    await bus.publish("tick")
    second = await news(monitor, first | {"published": 7, "failed": 7})
    assert (second["events"], second["missed"]) == ([], 0)


async def test_a_page_may_be_older_than_the_process() -> None:
    """L8: what it has seen of another monitor means nothing."""
    bus = EventBus()
    monitor = Monitor(bus)
    await bus.subscribe("tick", "guard", fail)
    other = await news(Monitor(EventBus()))
    await news(monitor)
    await bus.publish("tick")
    first = await news(monitor, other | {"failed": 7})
    assert (first["events"], len(first["failures"])) == ([], 1)


async def test_failures_are_kept_while_nobody_looks() -> None:
    """L8: with event, component and exception; the last hundred of them."""
    bus = EventBus()
    monitor = Monitor(bus)
    await monitor.watch_failures()
    await bus.subscribe("order.placed", "billing", fail)
    for _ in range(120):
        await bus.publish("order.placed")
    first = await news(monitor)
    await bus.publish("order.placed")
    second = await news(monitor, first)
    assert (first["failed"], len(first["failures"]), len(second["failures"])) == (120, 100, 1)
    number, _, *what = second["failures"][0]
    assert (number, what) == (121, ["order.placed", "billing", "KeyError: 'missing'", []])


async def test_a_failure_is_shown_with_its_causes() -> None:
    """L8: the events that led to it, if the monitor is to watch them; the last ones of many."""
    engine = lamps()
    bus = engine.bus
    monitor = Monitor(engine, causes=True)
    await monitor.watch_failures()

    async def chain(number: int) -> None:
        await bus.publish("chain" if number else "end", number - 1)

    await bus.subscribe("chain", "links", chain)
    await bus.subscribe("end", "guard", fail)
    await bus.publish("chain", 1)
    await bus.publish("chain", 50)
    short, long = (
        (*causes, event) for *_, event, _, _, causes in (await news(monitor))["failures"]
    )
    assert [*dict.fromkeys(short)] == ["chain", "end"]
    assert (len(long) <= 21, set(long)) == (True, {"chain", "end"})


@pytest.mark.parametrize(
    "payload",
    [
        None,
        7,
        {},
        {"exception": KeyError()},
        {"exception": KeyError(), "event_name": 7, "component_name": "x"},
        {"exception": KeyError(), "event_name": "x", "component_name": 7},
        {"exception": "x", "event_name": "x", "component_name": "x"},
    ],
)
async def test_odd_failures_are_passed_over(payload: Any) -> None:
    """L8: anybody may publish anything under a built-in name."""
    bus = EventBus()
    monitor = Monitor(bus)
    await monitor.watch_failures()
    assert await bus.publish(HANDLER_FAILED, payload) == ()
    assert (await news(monitor))["failed"] == 0


class Odd:
    """Can't be shown."""

    def __repr__(self) -> str:
        """Fail."""
        raise LookupError


class Long:
    """Is shown by a long text."""

    def __repr__(self) -> str:
        """Return it."""
        return "x" * 10_000


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (Odd(), r"<Odd instance at 0x[0-9a-f]+>|<a Odd that can't be shown>"),
        (Long(), r"x+\.\.\.x+"),
        (b"x" * 10_000, r"b'x+'\.\.\."),
        (b"x", r"b'x'"),
        ("x" * 10_000, r"'x+\.\.\.x+'"),
        ([[[["x"]]]], r"\[\[\[\[\.\.\.\]\]\]\]"),
        ([["x" * 100] * 8] * 8, r"\[\['x.*"),
        (dict.fromkeys(range(99, 0, -1)), r"\{91: None, .*98: None, \.\.\.\}"),
        (set(range(100)), r"\{0, 1, .*7, \.\.\.\}"),
        (frozenset(range(100)), r"frozenset\(\{0, 1, .*5, \.\.\.\}\)"),
        pytest.param(10**5_000, r"<a int that can't be shown>", id="huge"),
    ],
)
async def test_a_payload_is_cut(payload: Any, shown: str) -> None:
    """L8: there is a short text for any value."""
    bus = EventBus()
    monitor = Monitor(bus)
    first = await news(monitor)
    await bus.publish("tick", payload)
    [[_, _, text]] = (await news(monitor, first))["events"]
    assert re.fullmatch(shown, text)
    assert len(text) <= 400


@pytest.mark.parametrize("name", NASTY)
async def test_any_name_is_text(name: str) -> None:
    """L8: what can't be printed is escaped; the page does the rest."""
    table = StateMachine(name, [Transition(name, "on", name)])
    engine = Engine(component_factory=lambda called: Lamp(called, table))

    def fail_so(_: object) -> None:
        raise LookupError(name)

    monitor = Monitor(engine)
    first = await news(monitor)
    await switch(engine, name, "on")
    await engine.bus.subscribe("alarm", name, fail_so, limit=1)
    await engine.bus.publish("alarm", name)
    second = await news(monitor, first)
    shown = printable(name)
    assert second["states"] == [[shown, [[shown, 1]]]]
    assert second["limits"] == [["alarm", shown, 0, 0, 1]]
    assert second["failures"][0][3:5] == [shown, f"LookupError: {shown}"]


async def test_components_are_counted_by_their_states() -> None:
    """L8: those with the same states together; one of them is named."""
    engine = lamps()
    await engine.register(Component("plain"))
    for name in "abc":
        await switch(engine, name, "on")
    await switch(engine, "c", "off")
    assert (await news(Monitor(engine)))["states"] == [["a", [["off", 1], ["on", 2]]]]


async def test_so_many_kinds_and_states_are_shown() -> None:
    """L8: of a machine with many states those that a component is in."""
    tables = [StateMachine("off", [Transition("off", "on", f"on{x}")]) for x in range(11)]
    names = [f"s{number}" for number in range(60)]
    engine = Engine(component_factory=lambda name: Lamp(name, tables[int(name)]))
    large = StateMachine("s0", [Transition("s0", each, each) for each in names])
    await engine.register(Lamp("large", large))
    await switch(engine, "large", "s7")
    for number in range(11):
        await switch(engine, str(number), "on")
    states = (await news(Monitor(engine)))["states"]
    assert (len(states), states[0]) == (10, ["large", [["s7", 1]]])


async def test_limits_show_who_runs_and_who_waits() -> None:
    """L8: for each handler with a limit, up to so many handlers."""
    bus = EventBus()
    monitor = Monitor(bus)
    may_end = Flag()
    await bus.subscribe("job", "desk", lambda _: may_end.wait(), limit=2)
    await bus.subscribe("job", "free", lambda _: None)
    with fail_after(PATIENCE):
        async with create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(bus.publish, "job")
            await wait_all_tasks_blocked()
            assert (await news(monitor))["limits"] == [["job", "desk", 2, 1, 2]]
            may_end.set()
    for number in range(120):
        await bus.subscribe("job", f"desk-{number}", lambda _: None, limit=1)
    assert len((await news(monitor))["limits"]) == 100


async def test_what_is_watched_is_shown() -> None:
    """L8: the statistics of a stream, a background or a bridge, until the watch is closed."""
    bus = EventBus()
    monitor = Monitor(bus)
    async with bus.stream("order.*") as stream:
        with monitor.watch("orders", stream):
            await bus.publish("order.placed")
            [[kind, name, numbers]] = (await news(monitor))["watched"]
    assert (kind, name, numbers["received"], numbers["buffered"]) == ("stream", "orders", 1, 1)


WRONG: list[tuple[Callable[[Any], object], str]] = [
    (Monitor, "a monitor shows an Engine or an EventBus, not 7"),
    (lambda wrong: Monitor(EventBus(), token=wrong), "token must be a str, not int"),
    (lambda wrong: Monitor(EventBus()).watch(wrong, wrong), "the name of a watch must be a str"),
    (lambda wrong: Monitor(EventBus()).watch("x", wrong), "what is watched must be a stream"),
]


@pytest.mark.parametrize(("act", "message"), WRONG)
def test_wrong_arguments_are_refused(act: Callable[[Any], object], message: str) -> None:
    """L8: the message says what would be right."""
    with pytest.raises(TypeError, match=message):
        act(7)


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "x" * 20 + "\n", "ü" * 20, "a b" * 20])
def test_a_bad_token_is_refused(token: str) -> None:
    """L8: it must be long, and fit into an address as it is."""
    with pytest.raises(ValueError, match="token must have 16 or more letters, digits, and"):
        Monitor(EventBus(), token=token)


@pytest.mark.parametrize(
    ("path", "kind", "part"),
    [
        ("/", "text/html", b"<title>FlexiFlow monitor</title>"),
        ("/monitor.css", "text/css", b"prefers-color-scheme: dark"),
        ("/monitor.js", "text/javascript", b"textContent"),
    ],
)
async def test_the_page_loads_nothing_from_elsewhere(path: str, kind: str, part: bytes) -> None:
    """L8: and browsers are told to see to that."""
    answer = await ask(Monitor(EventBus()), path)
    assert (answer.status, answer.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; ")
    assert part in answer.body
    assert b"://" not in answer.body
    assert b"innerHTML" not in answer.body


async def test_a_server_that_starts_begins_to_keep_failures() -> None:
    """L8: if the monitor is an application of its own, and not mounted."""
    bus = EventBus()
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await Monitor(bus)({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert observed(bus) == [HANDLER_FAILED]


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_request_that_is_cancelled_leaves_no_gap(has_begun: bool) -> None:
    """L8: its browser has gone; the next one sees failures and events all the same."""
    bus = EventBus()
    monitor = Monitor(bus, causes=True)
    if has_begun:
        await monitor.watch_failures()
    with CancelScope() as scope:
        scope.cancel()
        await news(monitor)
    assert observed(bus) == ([HANDLER_FAILED] if has_begun else [])
    await news(monitor)
    assert observed(bus) == ["**", HANDLER_FAILED]


def test_the_names_of_the_module_are_public() -> None:
    """L8: the monitor, and what it watches."""
    assert module.__all__ == ["Counted", "Monitor", "Watch"]
    with module.Watch(lambda: None) as watch:
        assert isinstance(watch, module.Watch)
