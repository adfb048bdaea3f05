"""`flexiflow run --store`, and runs of engines whose states take time (L5, K2 to K4, M2 to M4)."""

import gzip
import json
import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from flexiflow import Component, Engine, State, StateMachine, Transition
from flexiflow._cli.hosting import finish as finish_engine
from flexiflow._cli.hosting import running
from flexiflow.extras.stores import SqliteStateStore, Stored
from tests.cli.command_line import (
    PATIENCE,
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
from flexiflow import Component, Engine, State, StateMachine, Transition

async def fetch(order):
    print(f"{order.name} is being fetched")
    if order.name.startswith("slow"):
        await anyio.sleep_forever()
    if order.name.startswith("lost"):
        raise LookupError("no such article")
    return "a lamp"

async def wait(message, order):
    await anyio.lowlevel.checkpoint()

class Order(Component):
    def __init__(self, name):
        super().__init__(name, machine=LIFE)
        self.items = []

    def snapshot(self):
        return {"items": self.items}

    def restore(self, data):
        if self.name.startswith("torn"):
            raise KeyError("items")
        self.items = data["items"]

def add(message, order):
    order.items.append(message["item"])
    print(order.name, *order.items)

LIFE = StateMachine(
    "new",
    [
        Transition("new", "add", None, action=add),
        Transition("new", "reserve", "reserved"),
        Transition("reserved", "expire", "expired", action=wait),
        Transition("new", "fetch", "fetching"),
        Transition("fetching", "come", "here", action=wait),
    ],
    states=[
        State("reserved", after=(0.001, "expire")),
        State("fetching", during=fetch, done="come"),
    ],
)

def make(name):
    return Order(name) if name != "nobody" else None

def engine():
    return Engine(component_factory=make)
"""
"""A target with orders that expire at once, and orders that are fetched."""


@pytest.fixture
def target(tmp_path: Path) -> str:
    """Give a target with orders."""
    return write_target(tmp_path, SHOP)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Give the URL of a file that is not there yet."""
    return f"sqlite:{tmp_path / 'state.db'}"


def stored(url: str, *names: str) -> list[Stored | None]:
    """Look up what is stored in a file."""

    async def main() -> list[Stored | None]:
        async with SqliteStateStore(url.removeprefix("sqlite:")) as store:
            return [await store.load(name) for name in names]

    return anyio.run(main)


def save(
    url: str,
    name: str,
    state: str,
    data: dict[str, Any] | None = None,
    *,
    due: float | None = None,
) -> None:
    """Store a component."""

    async def main() -> None:
        async with SqliteStateStore(url.removeprefix("sqlite:")) as store:
            await store.save(name, state, data, expected=0, due=due)

    anyio.run(main)


def states(url: str, *names: str) -> list[str | None]:
    """Look up the states that are stored in a file."""
    return [each and each.state for each in stored(url, *names)]


def changes(ran: Ran) -> list[dict[str, str]]:
    """Pick the payloads of `state.changed`."""
    return [event["data"] for event in ran.events if event["event"] == "state.changed"]


def test_a_run_goes_on_where_the_last_one_stopped(target: str, url: str, backend_name: str) -> None:
    """K3, K4: with `--store`, states and snapshots outlive the process."""
    options = ("run", target, "--store", url, "--backend", backend_name)
    first = run(*options, lines=[send("order", "add", item="lamp")])
    second = run(*options, lines=[send("order", "add", item="bulb"), send("order", "fetch")])
    assert (first.status, second.status) == (0, 0)
    assert "order lamp bulb" in second.told
    assert [each and each.data for each in stored(url, "order")] == [{"items": ["lamp", "bulb"]}]


def test_without_a_store_nothing_is_kept(target: str, backend_name: str) -> None:
    """K3: `memory:` lasts as long as the run, as no store does."""
    for options in ((), ("--store", "memory:")):
        for _ in range(2):
            line = send("order", "add", item="lamp")
            ran = run("run", target, "--backend", backend_name, *options, lines=[line])
            assert (ran.status, ran.reports) == (0, ["order lamp"])


def test_the_state_of_a_registered_component_is_loaded(tmp_path: Path, backend_name: str) -> None:
    """K4: what the target registers itself gets what is stored, or keeps what it has come to."""
    source = (
        SHOP.replace("def engine():", "def bare():")
        + """
async def engine():
    engine = bare()
    await engine.register(Order("order"))
    await engine.send("order", {"type": "add", "item": "gift"})
    return engine
"""
    )
    target, place = write_target(tmp_path, source), f"sqlite:{tmp_path / 'state.db'}"
    options = ("run", target, "--backend", backend_name, "--store", place)
    first = run(*options, lines=[send("order", "add", item="lamp")])
    assert first.reports == ["order gift", "order gift lamp"]
    second = run(*options, lines=[send("order", "add", item="bulb")])
    assert second.reports == ["order gift", "order gift lamp bulb"]


def test_a_component_that_was_sent_something_before_keeps_its_state(
    tmp_path: Path, backend_name: str
) -> None:
    """K4: where nothing is stored, a store changes no state."""
    source = """
from flexiflow import Component, Engine, StateMachine, Transition
async def engine():
    engine = Engine()
    machine = StateMachine("off", [Transition("off", "on", "on"), Transition("on", "off", "off")])
    await engine.register(Component("lamp", machine=machine))
    await engine.send("lamp", {"type": "on"})
    return engine
"""
    target = write_target(tmp_path, source)
    options = ("run", target, "--store", "memory:", "--backend", backend_name)
    ran = run(*options, lines=[send("lamp", "off")])
    assert [change["from_state"] for change in changes(ran)] == ["on"]


@pytest.mark.unmeasured
def test_timers_run_as_long_as_the_input_lasts(target: str, url: str, backend_name: str) -> None:
    """M2, M4: a run is within `running()`, so a timer sends its trigger, also of a stored state."""
    options = ("run", target, "--backend", backend_name)
    for kept in ((), ("--store", url)):
        with started(*options, *kept) as process:
            type_in(process, send("order", "reserve"))
            await_output(process.stdout, b'"to_state": "expired"')
            assert finish(process).status == 0


@pytest.mark.unmeasured
def test_a_timer_that_is_pending_at_the_end_is_due_in_the_next_run(
    tmp_path: Path, url: str, backend_name: str
) -> None:
    """M2: when the input ends, what is pending stays in the store."""
    slow = SHOP.replace("0.001", "60.0")
    target = write_target(tmp_path, slow)
    options = ("--store", url, "--backend", backend_name)
    assert run("run", target, *options, lines=[send("order", "reserve")]).status == 0
    assert states(url, "order") == ["reserved"]
    quick = write_target(tmp_path, SHOP, "quick.py")
    with started("run", quick, *options) as process:
        type_in(process, send("order", "nothing"))
        await_output(process.stdout, b'"to_state": "expired"')
        assert finish(process).status == 0
    assert states(url, "order") == ["expired"]


def test_what_is_overdue_is_handled_even_if_there_is_no_input(
    target: str, url: str, backend_name: str
) -> None:
    """M2, L2: what was due when the run began is loaded, and its trigger handled."""
    save(url, "order", "reserved", {"items": []}, due=1.0)
    ran = run("run", target, "--store", url, "--backend", backend_name)
    assert (ran.status, states(url, "order")) == (0, ["expired"])
    assert [change["to_state"] for change in changes(ran)] == ["expired"]


def test_work_begins_anew_in_the_next_run(target: str, url: str, backend_name: str) -> None:
    """M3: when the input ends, work is cancelled; the state stays, and its work is done again."""
    options = ("run", target, "--store", url, "--backend", backend_name, "--quiet")
    assert run(*options, lines=[send("slow", "fetch")]).status == 0
    assert states(url, "slow") == ["fetching"]
    ran = run(*options, lines=[send("slow", "nothing")])
    assert (ran.status, ran.reports) == (0, ["slow is being fetched"])


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "unregistered"])
async def test_messages_in_line_are_handled_before_a_run_ends(*, leaves: bool) -> None:
    """L2, M3: what work has sent is handled to its end, also by what is unregistered meanwhile."""
    engine, begun, go = Engine(), anyio.Event(), anyio.Event()

    async def fetch(order: Component) -> None:
        """Have nothing to do."""

    async def act(message: dict[str, Any], order: Component) -> None:
        begun.set()
        await go.wait()

    async def let_go() -> None:
        await anyio.wait_all_tasks_blocked()
        if leaves:
            await engine.unregister("order")
        go.set()

    rows = [Transition("new", "fetch", "away"), Transition("away", "come", "here", action=act)]
    machine = StateMachine("new", rows, states=[State("away", during=fetch, done="come")])
    order = Component("order", machine=machine)
    await engine.register(order)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks, running(engine, "it", None) as block:
            await engine.send("order", {"type": "fetch"})
            await begun.wait()
            tasks.start_soon(let_go)
            await finish_engine(engine, block)
    assert order.state == "here"


@pytest.mark.unmeasured
def test_the_failure_of_work_is_reported_without_a_line(target: str, backend_name: str) -> None:
    """M3, L5: it counts, and no line is blamed for it."""
    options = ("run", target, "--backend", backend_name, "--quiet")
    with started(*options) as process:
        type_in(process, send("lost", "fetch"))
        await_output(process.stderr, b"no such article")
        ran = finish(process, [send("lost", "look")])
    assert (ran.status, ran.summary["failures"]) == (1, 1)


@pytest.mark.unmeasured
def test_what_timers_lead_to_is_shown_apart_in_a_tree(target: str, backend_name: str) -> None:
    """L3, M2: `--trace` shows under which line something happened, or under none."""
    with started("run", target, "--backend", backend_name, "--trace") as process:
        type_in(process, send("order", "reserve"))
        output = await_output(process.stdout, b'"to_state": "expired"')
        assert finish(process).status == 0
    places = [line for line in output.decode().splitlines() if not line.startswith(" ")]
    assert places == ["line 1", "timers and work"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:{}/nowhere/state.db", "unable to open database file"),
        ("sqlite:{}/target.py", "is not a database"),
        pytest.param(
            "redis://127.0.0.1:1",
            "is not available",
            marks=pytest.mark.skipif(find_spec("coredis") is None, reason="there is no coredis"),
        ),
        ("nowhere:", "must begin with 'memory:', 'sqlite:'"),
    ],
)
def test_a_store_that_can_not_be_used_is_told(
    target: str, tmp_path: Path, backend_name: str, url: str, told: str
) -> None:
    """L5: one line, and status 2; no line of the input is read."""
    place = url.format(tmp_path)
    ran = run("run", target, "--store", place, "--backend", backend_name, lines=["{"])
    assert (ran.status, ran.output, ran.told.count("\n")) == (2, "", 1)
    assert told in ran.told


OWN = """
from flexiflow.extras.stores import SqliteStateStore

def engine():
    return Engine(component_factory=make, store=SqliteStateStore("{}/own.db"))
"""


def test_an_engine_may_have_a_store_of_its_own(tmp_path: Path, backend_name: str) -> None:
    """K4, L5: it is opened and used; `--store` is refused besides."""
    target = write_target(tmp_path, SHOP + OWN.format(tmp_path))
    options = ("run", target, "--backend", backend_name)
    assert run(*options, lines=[send("order", "add", item="lamp")]).status == 0
    assert states(f"sqlite:{tmp_path / 'own.db'}", "order") == ["new"]
    ran = run(*options, "--store", "memory:")
    assert (ran.status, ran.told.count("\n")) == (2, 1)
    assert f"has a store already, <SqliteStateStore '{tmp_path}/own.db'>; leave out" in ran.told


def test_a_store_of_the_engine_that_can_not_be_opened_is_told(
    tmp_path: Path, backend_name: str
) -> None:
    """L5: one line, and status 2, whatever a store raises when it is entered."""
    source = (
        SHOP
        + """
from flexiflow.extras.stores import MemoryStateStore

class Broken:
    load = save = due = delete = MemoryStateStore.load
    async def __aenter__(self):
        raise OSError("the safe is locked")
    async def __aexit__(self, *exception):
        pass

def engine():
    return Engine(store=Broken())
"""
    )
    ran = run("run", write_target(tmp_path, source), "--backend", backend_name, lines=["{"])
    assert (ran.status, ran.output, ran.told.count("\n")) == (2, "", 1)
    assert "can't run: OSError: the safe is locked" in ran.told


def test_a_stored_state_that_is_unknown_is_told(
    tmp_path: Path, target: str, url: str, backend_name: str
) -> None:
    """K4, L5: for a line it is the line's failure; for what the target registers, nothing runs."""
    save(url, "order", "gone")
    options = ("--store", url, "--backend", backend_name)
    lines = [send("order", "add", item="lamp"), send("other", "add", item="bulb")]
    ran = run("run", target, *options, lines=lines)
    assert (ran.status, ran.reports[1:]) == (1, ["other bulb"])
    assert ran.reports[0].startswith("line 1: failed: UnknownState: component 'order' is stored in")
    source = (
        SHOP
        + """
async def engine():
    engine = Engine()
    await engine.register(Order("order"))
    return engine
"""
    )
    ran = run("run", write_target(tmp_path, source, "other.py"), *options)
    assert (ran.status, ran.told.count("\n")) == (2, 1)
    assert "component 'order' is stored in state 'gone'" in ran.told


def test_what_can_not_be_restored_is_told(target: str, url: str, backend_name: str) -> None:
    """K1, L5: what `restore` raises is the line's failure."""
    save(url, "torn", "new", {"things": []})
    ran = run("run", target, "--store", url, "--backend", backend_name, lines=[send("torn", "add")])
    assert (ran.status, ran.reports) == (1, ["line 1: failed: KeyError: 'items'"])


def test_a_store_that_fails_while_running_is_told_line_by_line(
    target: str, tmp_path: Path, url: str, backend_name: str
) -> None:
    """K3, L5: each line that could not be stored has failed; the run goes on, with status 1."""
    options = ("run", target, "--store", url, "--backend", backend_name)
    with started(*options, "--quiet") as process:
        type_in(process, send("order", "add", item="lamp"))
        type_in(process, "{")
        await_output(process.stderr, b"line 2: rejected")
        for suffix in ("", "-wal", "-shm"):
            (tmp_path / f"state.db{suffix}").unlink()
        lines = [send("order", "add", item="bulb"), send("nobody"), send("other", "fetch")]
        ran = finish(process, lines)
    assert ran.status == 1
    failed = [line for line in ran.reports if line.startswith("line ")]
    assert [line.split(": ")[:3] for line in failed] == [
        [f"line {number}", "failed", "StoreUnusable"] for number in (3, 4, 5)
    ]


def test_ctrl_c_ends_timers_and_work(target: str, url: str, backend_name: str) -> None:
    """L5, M4: it ends with 130 and the summary; what was stored stays."""
    options = ("run", target, "--store", url, "--backend", backend_name, "--quiet")
    with started(*options) as process:
        type_in(process, send("slow", "fetch"))
        await_output(process.stderr, b"slow is being fetched\n")
        # A line is taken when the one before it is counted.
        type_in(process, "{")
        assert await_output(process.stderr, b"\n").startswith(b"line 2: rejected: ")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        ran = finish(process)
    assert (ran.reports, ran.summary["transitions"]) == ([], 1)
    assert states(url, "slow") == ["fetching"]


STATUSES = (
    "Accepted/In Progress",
    "Accepted/Wait",
    "Completed/Closed",
    "Queued/Awaiting Assignment",
)
INCIDENTS = Path("../shared/data/incidents.jsonl.gz")


def make_log(count: int) -> list[str]:
    """Make the log of a desk with some incidents."""
    random = Random(15)
    return [
        send(f"1-{random.randrange(count // 8)}", random.choice(STATUSES), at=f"{number}")
        for number in range(count)
    ]


def feed(lines: Sequence[str], *options: str) -> list[dict[str, str]]:
    """Feed a log to the incident desk, in a process of its own; return the changes of state."""
    with started("run", "examples/incidents.py:engine", *options) as process:
        # The disk must confirm each line of the real log.
        ran = finish(process, lines, patience=10 * PATIENCE)
    assert (ran.status, ran.reports) == (0, [])
    return changes(ran)


def last_states(changed: Iterable[dict[str, str]]) -> dict[str, str]:
    """Follow the state of each component, checking that its changes form a chain."""
    current: dict[str, str] = {}
    for change in changed:
        assert current.get(change["component"], "New") == change["from_state"]
        current[change["component"]] = change["to_state"]
    return current


def check_halves(lines: Sequence[str], url: str, backend: str) -> Counter[str]:
    """Check that a log fed in two halves ends as the whole; return how many states end it."""
    middle = len(lines) // 2
    options = ("--backend", backend, "--events", "state.changed")
    whole = feed(lines, *options)
    halves = [feed(half, *options, "--store", url) for half in (lines[:middle], lines[middle:])]
    assert [*halves[0], *halves[1]] == whole
    ends = last_states(whole)
    assert dict(zip(ends, states(url, *ends), strict=True)) == ends
    return Counter(ends.values())


def test_a_log_fed_in_two_halves_ends_as_the_whole(url: str, backend_name: str) -> None:
    """K3, K4: by two processes that share nothing but the store."""
    assert set(check_halves(make_log(200), url, backend_name)) == set(STATUSES)


@pytest.mark.skipif(
    not INCIDENTS.exists(),
    reason="the log of the BPI Challenge 2013 is not a part of the project; it is not there",
)
def test_the_first_incidents_fed_in_two_halves_end_as_the_whole(url: str) -> None:
    """K3, K4: the beginning of the real log; the disk must confirm each line."""
    lines = gzip.decompress(INCIDENTS.read_bytes()).decode().splitlines()[:2_000]
    ends = check_halves(lines, url, "asyncio")
    assert sum(ends.values()) == len({json.loads(line)["component"] for line in lines})
