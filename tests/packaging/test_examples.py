"""The examples, run as the documentation says (L1 to L6)."""

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Iterable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command_line import run
from tests.helpers import by_turns
from tests.packaging.test_readme import MEASURED, RUNS
from tools.redis_server import MISSING, find_server, redis_server

pytestmark = pytest.mark.unmeasured

INCIDENTS = Path("../shared/data/incidents.jsonl.gz")


def changes(events: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """Pick the payloads of `state.changed`."""
    return [event["data"] for event in events if event["event"] == "state.changed"]


def last_states(events: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Follow the state of each component, checking that its changes form a chain."""
    current: dict[str, str] = {}
    for change in changes(events):
        before = current.get(change["component"], change["from_state"])
        assert before == change["from_state"]
        current[change["component"]] = change["to_state"]
    return current


def test_orders_come_to_all_their_ends(backend_name: str) -> None:
    """L5: each order comes to its end, and what can't be used is told with line and reason."""
    ran = run(
        "run", "examples/orders.py:engine", "examples/rough_orders.jsonl", "--backend", backend_name
    )
    ends = last_states(ran.events)
    assert (ran.status, ends.pop("warehouse")) == (1, "open")
    assert Counter(ends.values()) == {"shipped": 55, "cancelled": 23, "refused": 10, "paid": 3}


def test_the_log_of_orders_has_all_kinds_of_lines() -> None:
    """L5: the example shows each way in which a line can be rejected or fail; the README a few."""
    line, shown = RUNS[1]
    told = run(*shlex.split(line.removeprefix(".venv/bin/flexiflow "))).told
    lines = MEASURED.sub("", told).splitlines()
    few = MEASURED.sub("", shown).replace("...\n", "").splitlines()
    assert [each for each in few if each not in lines] == []
    for part in (
        "not JSON",
        "must be a JSON object",
        "its keys must be",
        "must have a string 'type'",
        "malformed event name",
        "did you mean",
        "refuses",
        "failed: OutOfStock",
        "attempt 2 of 3",
        "ConnectionError",
    ):
        assert part in told


def test_the_orders_can_be_drawn() -> None:
    """L6: the components of the example, and the machine of its warehouse."""
    drawn = run("graph", "examples/orders.py:engine").output
    assert drawn.count("```mermaid") == 2
    assert "open --> closed: close" in drawn


def test_an_incident_takes_the_status_of_each_message(tmp_path: Path, backend_name: str) -> None:
    """L2: the example for the real log, with a log of three lines."""
    log = tmp_path / "log.jsonl"
    statuses = ("Accepted/In Progress", "Accepted/In Progress", "Completed/Closed")
    lines = [{"component": "1-7", "message": {"type": status}} for status in statuses]
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    ran = run("run", "examples/incidents.py:engine", str(log), "--backend", backend_name)
    steps = [(change["from_state"], change["to_state"]) for change in changes(ran.events)]
    assert steps == list(pairwise(("New", *statuses)))


@pytest.mark.same_everywhere
@pytest.mark.skipif(
    not INCIDENTS.exists(),
    reason="the log of the BPI Challenge 2013 is not a part of the project; it is not there",
)
def test_the_incidents_are_replayed(backend_name: str) -> None:
    """L3: the real log leads to exactly the events that its facts tell."""
    ran = run("run", "examples/incidents.py:engine", str(INCIDENTS), "--backend", backend_name)
    assert (ran.status, ran.reports) == (0, [])
    events = ran.events
    assert Counter(event["event"] for event in events) == {
        "engine.component.registered": 7_554,
        "component.message.received": 65_533,
        "state.changed": 65_533,
    }
    steps = Counter((change["from_state"], change["to_state"]) for change in changes(events))
    assert len(steps) == 90
    assert sum(count for (before, after), count in steps.items() if before == after) == 8_648
    ends = Counter(last_states(events).values())
    assert ends.total() == 7_554
    assert ends["Completed/Closed"] == 5_573
    assert ends["Completed/In Call"] == 1_882
    assert ends["Completed/Resolved"] == 90
    assert ran.summary["messages"] == ran.summary["transitions"] == 65_533


@pytest.fixture(params=["sqlite", "redis"])
def transport(request: pytest.FixtureRequest) -> Generator[tuple[str, ...]]:
    """Give the arguments that name a transport."""
    if request.param == "sqlite":
        yield ()
        return
    if find_server() is None or find_spec("coredis") is None:
        pytest.skip(f"{MISSING}, or no coredis")
    with redis_server() as server:
        yield ("--transport", server.url)


@pytest.fixture
def store(transport: tuple[str, ...]) -> tuple[str, ...]:
    """Give the arguments that name a store."""
    return ("--store", transport[1]) if transport else ()


@pytest.mark.once
@pytest.mark.parametrize(
    ("transport", "backend_name"), by_turns(["sqlite", "redis"]), indirect=["transport"]
)
def test_orders_go_on_after_their_process_was_killed(
    store: tuple[str, ...], backend_name: str
) -> None:
    """K3, K4, M2, M3: the next process ships, and lets expire, what the killed one had begun."""
    program = [sys.executable, "examples/lasting_orders.py", "--backend", backend_name, *store]
    ran = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    before, after = re.split(r"customers: kill -9 .*\n", ran.stdout)
    for state in ("shipped", "returned", "placed", "shipping"):
        assert f" is {state}\n" in before
    *_, end = after.splitlines()
    assert re.fullmatch(
        r"customers: in the end: \w+-1 shipped, \w+-2 returned, \w+-3 expired, \w+-4 shipped", end
    )


@pytest.mark.once
@pytest.mark.unmeasured
@pytest.mark.skipif(find_spec("trio") is None, reason="two of the three processes run on trio")
def test_orders_outlive_a_worker_that_is_killed(transport: tuple[str, ...]) -> None:
    """X1: all orders come through, and none is charged twice, though one is handled twice."""
    program = [sys.executable, "examples/durable_orders.py", *transport]
    ran = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    *story, shipped, once, again = (line.strip() for line in ran.stdout.splitlines())
    assert shipped == "customers: 20 of 20 orders are shipped"
    assert once == "customers: each was charged and sent once"
    assert re.search(r"came again after that, without harm: .*-7\b", again)
    assert sum(line.startswith("customers: kill -9") for line in story) == 1


@pytest.mark.once
def test_orders_and_their_events_are_one_transaction(transport: tuple[str, ...]) -> None:
    """Y4: each order is packed once, though both processes are killed while they work."""
    program = [sys.executable, "examples/outbox_orders.py", *transport]
    ran = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    *story, orders, once = (line.strip() for line in ran.stdout.splitlines())
    assert orders == "customers: 32 orders were placed, and 32 parcels were packed"
    assert once == "customers: each order was packed once"
    assert sum(line.startswith("customers: kill -9") for line in story) == 2


@pytest.mark.once
def test_version_2_reads_what_version_1_has_stored(transport: tuple[str, ...]) -> None:
    """Y1: Older payloads are upcast; one that can't be is a dead letter."""
    program = [sys.executable, "examples/durable_versions.py", *transport]
    ran = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    *story, given_up = ran.stdout.splitlines()
    assert "version 2 handles Order(order='A1', cents=999, currency='EUR')" in story
    assert given_up.startswith("given up: the payload of 'order.placed' can't be read")


@pytest.mark.once
def test_orders_stand_each_crash(transport: tuple[str, ...]) -> None:
    """P7: no crash loses an order, or has it packed twice; the report is that of the page."""
    backend = "trio" if transport and find_spec("trio") else "asyncio"
    program = [sys.executable, "examples/crashed_orders.py", "--most=6", "--backend", backend]
    ran = subprocess.run(
        [*program, *transport], capture_output=True, text=True, timeout=300, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.match(r"killed at \d of 6 points\n", ran.stdout)


@pytest.mark.once
def test_a_careless_warehouse_is_found_by_a_crash() -> None:
    """P7: a handler that does its work twice is found, and the message is that of the page."""
    program = [sys.executable, "examples/crashed_orders.py", "--careless", "--most=20"]
    ran = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert (ran.returncode, ran.stderr) == (1, "")
    page = Path("docs/verifying_crashes.md").read_text(encoding="utf-8")
    first, line, again, *_ = page.partition("--careless\nthe")[2].splitlines()
    told = ran.stdout.splitlines()
    assert told[0].startswith("the" + first.partition("[")[0])
    assert told[1].endswith(line.strip().removeprefix("killed at "))
    # The digits stand for lines of libraries, too.
    assert re.sub(":[0-9a-f]{8}:", ":", told[2]) == re.sub(":[0-9a-f]{8}:", ":", again)


@pytest.mark.parametrize(
    ("program", "option", "status"),
    [
        ("crashed_orders.py", "--transport", 2),
        ("durable_orders.py", "--transport", 2),
        ("durable_versions.py", "--transport", 2),
        ("lasting_orders.py", "--store", 1),
        ("outbox_orders.py", "--transport", 2),
    ],
)
def test_the_examples_tell_what_is_wrong_with_a_url(program: str, option: str, status: int) -> None:
    """X6, L5: the last line says what would be right, without a traceback."""
    command = [sys.executable, f"examples/{program}", option, "nowhere:"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == status
    assert "must begin with '" in ran.stderr
    assert "Traceback" not in ran.stderr
