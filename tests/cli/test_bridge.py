"""An engine as a worker, from the command line (L1, L3 to L5, X1, X5)."""

import json
import os
import signal
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import anyio
import pytest

from flexiflow import EventBus
from flexiflow.extras.durable import (
    Bridge,
    Member,
    Standing,
    Transport,
    TransportUnusable,
    open_bridge,
    transport_from_url,
)
from tests.cli.command_line import PATIENCE, TARGET, Ran, await_output, finish, run, started
from tests.cli.command_line import write_target as write
from tests.cli.stored import dead_letters, event, store, stored

ENDING = """
import signal
from signal import raise_signal

async def engine():
    engine = Engine(bus=EventBus(on_error="raise"), component_factory=lamp)

    async def work(data):
        await engine.send("lamp", {"type": "on"})
        await engine.bus.publish("work.done", data)
        if data == {"order": 3}:
            raise_signal(signal.SIGTERM)

    await engine.bus.subscribe("work.asked", "tests", work)
    return engine
"""

ASKED = [event("work.asked", number) for number in (1, 2, 3)]
BILLING = ("--group", "billing", "--incoming", "work.asked")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Name a transport in a file that is not there yet."""
    return f"sqlite:{tmp_path}/events.db"


@pytest.fixture(autouse=True)
def bounded() -> Generator[None]:
    """End a worker that nothing ends; its counts are wrong then."""
    timer = Timer(PATIENCE, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    yield
    timer.cancel()


def bridge(target: str, url: str, *options: str) -> Ran:
    """Run a worker of the group `billing` in this process."""
    return run("bridge", target, "--transport", url, *BILLING, *options)


def standing(url: str) -> Standing:
    """Look up how far the group is."""

    async def main() -> Standing:
        async with transport_from_url(url).connect() as connection:
            return await connection.standing("billing")

    return anyio.run(main)


def test_a_worker_takes_and_stores_until_it_is_told_to_end(
    tmp_path: Path, url: str, backend_name: str
) -> None:
    """X1: what is stored is taken, what its handlers publish is stored; SIGTERM ends with 0."""
    store(url, *ASKED)
    target = write(tmp_path, TARGET + ENDING)
    ran = bridge(target, url, "--outgoing", "work.done", "--backend", backend_name)
    assert ran.status == 0
    assert ran.reports == ["ready: group billing takes work.asked; stores work.done"]
    assert (ran.summary["acknowledged"], ran.summary["stored"]) == (3, 3)
    assert stored(url).count("work.done") == 3


def test_the_built_in_events_are_output(tmp_path: Path, url: str, backend_name: str) -> None:
    """L3: what happens in the engine is shown, each event on a line."""
    store(url, ASKED[2])
    target = write(tmp_path, TARGET + ENDING)
    ran = bridge(target, url, "--backend", backend_name)
    assert ran.names == [
        "engine.component.registered",
        "component.message.received",
        "state.changed",
    ]


TIMED = """
from signal import SIGTERM, raise_signal
from flexiflow import Component, Engine, State, StateMachine, Transition

async def engine():
    engine = Engine()

    def end(message, order):
        raise_signal(SIGTERM)

    rows = [
        Transition("new", "place", "placed"),
        Transition("placed", "expire", "gone", action=end),
    ]
    machine = StateMachine("new", rows, states=[State("placed", after=(0.001, "expire"))])
    await engine.register(Component("order", machine=machine))

    async def place(data):
        await engine.send("order", {"type": "place"})

    await engine.bus.subscribe("work.asked", "tests", place)
    return engine
"""


def test_the_timers_and_work_of_a_worker_run(tmp_path: Path, url: str, backend_name: str) -> None:
    """M4, L1: an incoming event may lead to a state that takes time."""
    store(url, *ASKED[:1])
    options = ("--backend", backend_name, "--events", "state.changed")
    ran = bridge(write(tmp_path, TIMED), url, *options)
    assert ran.status == 0
    assert [json.loads(line)["data"]["to_state"] for line in ran.output.splitlines()] == [
        "placed",
        "gone",
    ]


@pytest.mark.parametrize(
    ("options", "names"),
    [(("--events", "state.*"), ["state.changed"]), (("--quiet",), [])],
)
def test_the_events_that_are_output_can_be_chosen(
    tmp_path: Path, url: str, options: tuple[str, ...], names: list[str]
) -> None:
    """L3: `--events` shows what matches, `--quiet` nothing."""
    store(url, ASKED[2])
    assert bridge(write(tmp_path, TARGET + ENDING), url, *options).names == names


def test_a_worker_may_finish_in_its_own_time(tmp_path: Path, url: str) -> None:
    """L5: a grace without an end is one, where it is asked for in so many words."""
    store(url, ASKED[2])
    ran = bridge(write(tmp_path, TARGET + ENDING), url, "--grace", "inf")
    assert (ran.status, ran.summary["acknowledged"]) == (0, 1)


FORGED = {"component": "safe", "from_state": "shut", "to_state": "open"}


def test_an_event_that_comes_in_is_no_event_of_this_engine(
    tmp_path: Path, url: str, backend_name: str
) -> None:
    """L3: what is stored by a built-in event's name reaches handlers, and is not in the output."""
    body = {"specversion": "1.0", "id": "1", "source": "tests", "type": "state.changed"}
    store(url, json.dumps(body | {"data": FORGED}).encode(), ASKED[2])
    hears = 'await engine.bus.subscribe("state.changed", "tests", print)\n    return engine'
    target = write(tmp_path, TARGET + ENDING.replace("return engine", hears))
    ran = bridge(target, url, "--incoming", "state.*", "--backend", backend_name)
    assert ran.summary["acknowledged"] == 2
    assert str(FORGED) in ran.reports
    assert [each["data"]["component"] for each in ran.events] == ["lamp"] * 3
    assert ran.names[-1] == "state.changed"


def test_ctrl_c_ends_a_worker(tmp_path: Path, url: str, backend_name: str) -> None:
    """L5: Ctrl-C ends it as SIGTERM does, with 130."""
    store(url, ASKED[2])
    target = write(tmp_path, TARGET + ENDING.replace("SIGTERM", "SIGINT"))
    ran = bridge(target, url, "--backend", backend_name)
    assert (ran.status, ran.summary["acknowledged"]) == (130, 1)


def test_a_second_signal_ends_it_at_once(tmp_path: Path, url: str, backend_name: str) -> None:
    """X5: nothing in hand is waited for, and nothing is lost; one of them was Ctrl-C."""
    both = "raise_signal(signal.SIGTERM), raise_signal(signal.SIGINT), await anyio.sleep_forever()"
    store(url, ASKED[2])
    target = write(tmp_path, TARGET + ENDING.replace("raise_signal(signal.SIGTERM)", both))
    ran = bridge(target, url, "--backend", backend_name, "--grace", "1000")
    left = standing(url)
    assert (ran.status, ran.summary["acknowledged"]) == (130, 0)
    assert left.pending + left.lag == 1


def test_a_signal_ends_a_worker_that_is_not_ready(
    tmp_path: Path, url: str, backend_name: str
) -> None:
    """L5: while the engine is being made there is nothing to finish."""
    waiting = (
        "import signal\n    signal.raise_signal(signal.SIGTERM)\n    await anyio.sleep_forever()"
    )
    target = write(
        tmp_path, TARGET.replace("    engine = Engine", f"    {waiting}\n    engine = Engine")
    )
    ran = bridge(target, url, "--backend", backend_name)
    assert (ran.status, ran.output, ran.told) == (0, "", "")


def test_a_target_that_is_interrupted_ends_as_with_ctrl_c(
    tmp_path: Path, url: str, backend_name: str
) -> None:
    """L5: an interrupt that came before signals were listened to is one, too."""
    source = "def engine():\n    raise KeyboardInterrupt"
    ran = bridge(write(tmp_path, source), url, "--backend", backend_name)
    assert (ran.status, ran.told) == (130, "")


FAILING = ENDING.replace(
    'await engine.send("lamp", {"type": "on"})',
    'if data == {"order": 1}:\n            raise ValueError("no such order")',
)


@pytest.mark.parametrize(("options", "count"), [((), 0), (("--verbose",), 1)])
def test_what_fails_for_good_is_told_and_is_a_dead_letter(
    tmp_path: Path, url: str, options: tuple[str, ...], count: int
) -> None:
    """X3: after --max-attempts an event is given up, which is told; the worker goes on."""
    store(url, *ASKED)
    target = write(tmp_path, TARGET + FAILING)
    ran = bridge(target, url, "--max-attempts", "1", "--limit", "1", *options)
    (letter,) = dead_letters(url)
    assert (ran.status, ran.summary["dead"], ran.summary["acknowledged"]) == (0, 1, 2)
    assert (letter.body, letter.failure.message) == (ASKED[0], "no such order")
    assert "no such order" in ran.told
    assert ran.told.count("Traceback") == count


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--transport", "sqlite:README.md", *BILLING), "README.md can't be used"),
        (("--transport", "nowhere:x", *BILLING), "must begin with"),
        ((*BILLING, "--group", "a b"), "a b"),
        (("--incoming", "a.*"), "group"),
        (("--group", "g"), "incoming"),
        ((*BILLING, "--outgoing", "work.*"), "work."),
        ((*BILLING, "--outgoing", "work..done"), "work..done"),
        ((*BILLING, "--limit", "0"), "--limit"),
        ((*BILLING, "--lease", "nan"), "'--lease': 'nan' is not a finite number"),
        ((*BILLING, "--lease", "1e999"), "'--lease': '1e999' is not a finite number"),
        ((*BILLING, "--lease", "inf"), "'--lease': 'inf' is not a finite number"),
        ((*BILLING, "--grace", "nan"), "'--grace': 'nan' is not a finite number"),
        ((*BILLING, "--grace", "1e999"), "'--grace': '1e999' is not a finite number"),
        ((*BILLING, "--grace", "-1"), "--grace"),
        ((*BILLING, "--max-attempts", "0"), "--max-attempts"),
        ((*BILLING, "--max-depth", "0"), "--max-depth"),
        ((*BILLING, "--start", "yesterday"), "'--start': it must be oldest, new, a time"),
        ((*BILLING, "--start", "0", "--start", "0"), "must have a position for each"),
        ((*BILLING, "--backend", "curio"), "--backend"),
    ],
)
def test_what_can_not_be_opened_is_told(
    tmp_path: Path, url: str, options: tuple[str, ...], told: str
) -> None:
    """L5: one clear line, and status 2."""
    ran = run("bridge", write(tmp_path), "--transport", url, *options)
    assert (ran.status, ran.output, ran.told.count("\n")) == (2, "", 1)
    assert told in ran.told


def test_a_target_that_is_no_engine_is_told(tmp_path: Path, url: str) -> None:
    """L1: a worker's target is what that of a run is."""
    ran = bridge(write(tmp_path, "engine = 7"), url)
    assert (ran.status, ran.told.count("\n")) == (2, 1)
    assert "must be an Engine" in ran.told


@pytest.mark.parametrize(("start", "count"), [("2", 1), ("1970-01-02T00:00:00Z", 3)])
def test_a_new_group_begins_where_it_is_told(
    tmp_path: Path, url: str, start: str, count: int
) -> None:
    """Y5: behind a position, or with the first event of a time."""
    store(url, *ASKED)
    ran = bridge(write(tmp_path, TARGET + ENDING), url, "--start", start)
    assert (ran.status, ran.summary["delivered"], standing(url).lag) == (0, count, 0)


def test_an_event_that_is_too_deep_is_given_up(tmp_path: Path, url: str) -> None:
    """Y2: at once, if it is deeper than --max-depth."""
    body = json.dumps(json.loads(ASKED[0]) | {"depth": 3}).encode()
    store(url, body, ASKED[2])
    ran = bridge(write(tmp_path, TARGET + ENDING), url, "--max-depth", "2", "--limit", "1")
    assert [letter.body for letter in dead_letters(url)] == [body]
    assert (ran.status, ran.summary["acknowledged"]) == (0, 1)


def test_two_workers_of_one_name_are_one_too_many(tmp_path: Path, url: str) -> None:
    """L5: the second one is refused."""

    async def join() -> None:
        member = Member("billing", "anna", "token", ("work.asked",), 60.0)
        async with transport_from_url(url).connect() as connection:
            await connection.join(member)

    anyio.run(join)
    ran = bridge(write(tmp_path, TARGET), url, "--consumer", "anna")
    assert (ran.status, ran.told.count("\n")) == (2, 1)
    assert "has a worker named 'anna' already" in ran.told


def test_a_worker_may_store_alone(tmp_path: Path, url: str, backend_name: str) -> None:
    """X1: it needs no group to store what its engine publishes; it tells when it has begun."""
    options = ("--transport", url, "--outgoing", "bell.*", "--backend", backend_name)
    with started("bridge", write(tmp_path), *options) as process:
        await_output(process.stderr, b"ready: stores bell.*\n")
        process.send_signal(signal.SIGTERM)
        ran = finish(process)
    assert (ran.status, ran.output, ran.summary["stored"]) == (0, "", 0)


def test_a_reader_that_has_read_enough_ends_a_worker(tmp_path: Path, url: str) -> None:
    """L5: it finishes what it has in hand, and ends with 0."""
    store(url, ASKED[0])
    target = write(tmp_path, TARGET + ENDING)
    reader, writing = os.pipe()
    os.close(reader)
    with os.fdopen(writing, "w") as output:
        ran = run("bridge", target, "--transport", url, *BILLING, output=output)
    assert (ran.status, ran.summary["acknowledged"]) == (0, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_can_not_be_written_is_told(tmp_path: Path, url: str) -> None:
    """L5: it finishes what it has in hand, and ends with 1."""
    store(url, ASKED[0])
    target = write(tmp_path, TARGET + ENDING)
    with Path("/dev/full").open("w") as output:
        ran = run("bridge", target, "--transport", url, *BILLING, output=output)
    assert (ran.status, ran.summary["acknowledged"]) == (1, 1)
    assert "standard output can't be written" in ran.told


def test_a_transport_that_fails_for_good_is_told(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5: what a worker can't recover from ends it, with one clear line and status 1."""

    @asynccontextmanager
    async def open_and_fail(
        bus: EventBus, transport: Transport, **options: Any
    ) -> AsyncGenerator[Bridge]:
        async with open_bridge(bus, transport, **options) as bridge:
            yield bridge
        raise TransportUnusable("the file", "somebody replaced it")

    store(url, ASKED[2])
    target = write(tmp_path, TARGET + ENDING)
    monkeypatch.setattr("flexiflow._cli.worker.open_bridge", open_and_fail)
    ran = bridge(target, url)
    assert (ran.status, ran.summary["acknowledged"]) == (1, 1)
    assert ran.reports[-1] == "flexiflow: the file can't be used: somebody replaced it"
