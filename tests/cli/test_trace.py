"""`flexiflow run --trace`: what is published, as a tree (L3)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flexiflow import EventBus
from flexiflow._cli.encoding import encode
from flexiflow._cli.tracing import trace as traced
from tests.cli.command_line import (
    Ran,
    await_output,
    finish,
    run,
    send,
    started,
    type_in,
    write_target,
)

SHOP = """
import anyio
from flexiflow import Engine

async def engine():
    engine = Engine()
    bus = engine.bus

    async def place(data):
        await bus.publish("order.paid", {"by": "card"})
        await bus.publish("order.packed", None)

    async def pack(data):
        raise LookupError("no shelf, and a reason that is too long")

    async def chain(data):
        if data:
            await bus.publish("chain", data - 1)

    async def left(data):
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        await bus.publish("leaf.left")

    async def right(data):
        await bus.publish("leaf.right")

    await bus.subscribe("order.placed", "shop", place)
    await bus.subscribe("order.packed", "store", pack)
    await bus.subscribe("chain", "links", chain)
    await bus.subscribe("fork", "left", lambda data: bus.publish("left"))
    await bus.subscribe("fork", "right", lambda data: bus.publish("right"))
    await bus.subscribe("left", "left", left)
    await bus.subscribe("right", "right", right)
    return engine
"""


BACKGROUND = """
import asyncio
from flexiflow import Engine

async def engine():
    engine = Engine()
    bus, may_go_on, is_over = engine.bus, asyncio.Event(), asyncio.Event()
    tasks = []

    async def later():
        await may_go_on.wait()
        await bus.publish("later")
        is_over.set()

    async def begin(data):
        tasks.append(asyncio.create_task(later()))

    async def wait(data):
        may_go_on.set()
        await is_over.wait()

    await bus.subscribe("begin", "c", begin)
    await bus.subscribe("wait", "c", wait)
    return engine
"""

ENDLESS = """
import sys
import anyio
from flexiflow import Engine

async def engine():
    engine = Engine()
    bus = engine.bus

    async def begin(data):
        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            await anyio.wait_all_tasks_blocked()
            print("waited", file=sys.stderr, flush=True)

    async def tick():
        while True:
            await bus.publish("tick", "x" * 1000)

    await bus.subscribe("begin", "c", begin)
    return engine
"""


FAILED = {
    "event_name": "order.packed",
    "component_name": "store",
    "exception": LookupError("no shelf, and a reason that is too long"),
}
PLACED = {
    "component": "order-1",
    "message": {"type": "place", "customer": "Gus", "item": "chair", "amount": 150},
}


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """Give a target whose events cause each other."""
    return write_target(tmp_path, SHOP)


def publish(name: str, data: str = "null") -> str:
    """Make a line that publishes an event."""
    return f'{{"event": "{name}", "data": {data}}}'


@pytest.fixture
def trace(backend: str) -> Callable[..., Ran]:
    """Give what runs with `--trace`, on each backend."""

    def run_so(target: str, *lines: str, options: tuple[str, ...] = ()) -> Ran:
        return run("run", target, "--backend", backend, "--trace", *options, lines=lines)

    return run_so


def test_each_event_is_under_its_cause(shop: str, trace: Callable[..., Ran]) -> None:
    """L3: with `--trace` each event is a line under that of its cause, and failures are marked."""
    ran = trace(shop, publish("order.placed", '{"id": "A7"}'), "", publish("other", "1"))
    assert ran.output.splitlines() == [
        "line 1",
        '  order.placed #1 {"id": "A7"}',
        '    order.paid #2 {"by": "card"}',
        "    order.packed #3 null",
        "      ! store failed on #3: LookupError: no shelf, and a reason that is too long",
        f"      event.handler.failed #4 {encode(FAILED)[:97]}...",
        "line 3",
        "  other #5 1",
    ]
    assert ran.status == 1
    assert ran.summary["failures"] == 1


def test_what_a_component_does_is_under_its_message(
    tmp_path: Path, trace: Callable[..., Ran]
) -> None:
    """L3: what happens while a message is handled is under `component.message.received`."""
    ran = trace(write_target(tmp_path), send("lamp"), send("lamp", "poke"), send("lamp", "off"))
    message = '{"component": "lamp", "message": {"type": '
    change = '{"component": "lamp", "from_state": '
    assert ran.output.splitlines() == [
        "line 1",
        '  engine.component.registered #1 {"component": "lamp"}',
        f'  component.message.received #2 {message}"on"}}}}',
        f'    state.changed #3 {change}"off", "to_state": "on"}}',
        "line 2",
        f'  component.message.received #4 {message}"poke"}}}}',
        "line 3",
        f'  component.message.received #5 {message}"off"}}}}',
        f'    state.changed #6 {change}"on", "to_state": "off"}}',
    ]


def test_one_that_comes_later_names_its_cause(shop: str, trace: Callable[..., Ran]) -> None:
    """L3: an event that can't be written right under its cause says which one that is."""
    ran = trace(shop, publish("fork"), options=("--delivery", "concurrent"))
    assert ran.output.splitlines() == [
        "line 1",
        "  fork #1 null",
        "    left #2 null",
        "    right #3 null",
        "      leaf.right #4 null",
        "      leaf.left #5 <- #2 null",
    ]


def test_what_comes_after_its_line_of_input_names_its_cause(tmp_path: Path) -> None:
    """L3: what a background task publishes during a later line is told to belong to the first."""
    target = write_target(tmp_path, BACKGROUND)
    ran = run("run", target, "--trace", lines=[publish("begin"), publish("wait")])
    assert ran.output.splitlines() == [
        "line 1",
        "  begin #1 null",
        "line 2",
        "  wait #2 null",
        "    later #3 <- #1 null",
    ]


def test_deep_events_are_indented_no_further(shop: str, trace: Callable[..., Ran]) -> None:
    """L3: the indentation is bounded, and from then on each event names its cause."""
    lines = trace(shop, publish("chain", "60")).output.splitlines()[1:]
    assert [len(line) - len(line.lstrip()) for line in lines] == [
        2 * min(depth, 40) for depth in range(1, 62)
    ]
    assert [number for number, line in enumerate(lines, 1) if "<-" in line] == [*range(41, 62)]


def test_patterns_choose_what_is_shown(shop: str, trace: Callable[..., Ran]) -> None:
    """L3: `--events` chooses among all events; the others count, and lend their depth."""
    options = ("--events", "order.packed", "--events", "other")
    ran = trace(shop, publish("order.placed"), publish("fork"), publish("other"), options=options)
    assert ran.output.splitlines() == [
        "line 1",
        "    order.packed #3 <- #1 null",
        "      ! store failed on #3: LookupError: no shelf, and a reason that is too long",
        "line 3",
        "  other #10 null",
    ]


def test_quiet_shows_nothing(shop: str, trace: Callable[..., Ran]) -> None:
    """L3: `--quiet` leaves standard output empty, and watches nothing."""
    assert trace(shop, publish("order.placed"), options=("--quiet",)).output == ""


def test_a_failure_that_ends_its_publish_is_marked(shop: str, trace: Callable[..., Ran]) -> None:
    """L3: under `raise`, too, the handlers that failed are marked."""
    ran = trace(shop, publish("order.packed"), options=("--on-error", "raise"))
    assert ran.output.splitlines() == [
        "line 1",
        "  order.packed #1 null",
        "    ! store failed on #1: LookupError: no shelf, and a reason that is too long",
    ]


def test_long_payloads_are_shortened_and_all_is_ascii(shop: str, trace: Callable[..., Ran]) -> None:
    """L3: a line shows the beginning of a payload; all but ASCII is escaped."""
    ran = trace(shop, publish("bestellt.\u00fc", f'"{"x" * 1_000}"'))
    assert ran.output.splitlines()[1:] == [f'  bestellt.\\xfc #1 "{"x" * 96}...']


@pytest.mark.unmeasured
def test_an_event_is_written_while_input_is_waited_for(shop: str, backend: str) -> None:
    """L3: what has happened is on the output before the next line comes."""
    with started("run", shop, "--trace", "--backend", backend) as process:
        type_in(process, publish("other"))
        await_output(process.stdout, b"other #1 null\n")
        type_in(process, publish("another"))
        await_output(process.stdout, b"another #2 null\n")
        assert finish(process).status == 0


@pytest.mark.unmeasured
def test_a_reader_that_goes_away_ends_it_quietly(shop: str, tmp_path: Path, backend: str) -> None:
    """L5: who closes the output ends the run, with 0, though the input would go on."""
    lines = tmp_path / "lines"
    lines.write_text(f"{publish('other')}\n" * 200_000, encoding="utf-8")
    with started("run", shop, str(lines), "--trace", "--backend", backend) as process:
        await_output(process.stdout, b"other #1 null\n")
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        ran = finish(process)
    assert (ran.status, len(ran.told.splitlines())) == (0, 1)


def test_a_slow_reader_makes_publishers_wait(tmp_path: Path, backend: str) -> None:
    """L3: output that is not read does not pile up: a target that publishes for ever waits."""
    target = write_target(tmp_path, ENDLESS)
    with started("run", target, "--trace", "--backend", backend) as process:
        type_in(process, publish("begin"))
        assert process.stderr is not None
        await_output(process.stderr, b"waited\n")


def test_the_example_is_shown_as_a_tree() -> None:
    """L3: the orders of the example run as without `--trace`."""
    plain = run("run", "examples/orders.py:engine", "examples/rough_orders.jsonl", "--quiet")
    ran = run("run", "examples/orders.py:engine", "examples/rough_orders.jsonl", "--trace")
    lines = ran.output.splitlines()
    assert ran.status == plain.status
    assert ran.reports == plain.reports
    assert lines[10:13] == [
        "line 6",
        '  engine.component.registered #6 {"component": "order-1"}',
        f"  component.message.received #7 {encode(PLACED)[:97]}...",
    ]
    assert lines[13].startswith('    order.placed #8 {"order": "order-1", ')
    assert "  ! letters failed on #339: KeyError: 'address'" in ran.output
    assert "<-" not in ran.output


def test_a_name_may_hold_a_line_break(shop: str, trace: Callable[..., Ran]) -> None:
    """L3: each name that the bus takes is shown on one line."""
    ran = trace(shop, '{"event": "order.a\\nb", "data": 1}')
    assert ran.output.splitlines() == ["line 1", "  order.a b #1 1"]


async def test_it_ends_with_its_block() -> None:
    """L3: when the run is over, neither a handler nor an instrument is left on the bus."""
    bus, written = EventBus(), list[str]()

    class Pausing:
        """What lines are written to."""

        add = staticmethod(written.append)

        async def pause(self, data: object) -> None:
            """Never let anyone wait."""

    writer: Any = Pausing()
    with await traced(bus, ["**"], writer, lambda: 1):
        await bus.publish("a")
    before = len(written)
    await bus.publish("a")
    assert (before, len(written), [*bus.subscriptions()]) == (2, 2, [])
