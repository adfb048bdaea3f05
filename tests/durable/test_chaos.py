"""The chaos, in small: that nothing is lost, and that the judge would find it if it were."""

import json
import os
import sys
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import anyio
import pytest
from anyio import fail_after

from flexiflow.extras.durable import DeadLetter, Failure, SqliteTransport
from tests.helpers import by_turns
from tools.chaos import sqlite, workers
from tools.chaos.blocked import block_handlers
from tools.chaos.enrolled import judge, kill_enrolled
from tools.chaos.faults import FAULTS, LEAKED
from tools.chaos.ledger import Entry, Ledger, Result
from tools.chaos.load import Plan
from tools.chaos.locks import MODES, make_lose_locks
from tools.chaos.meddled import FORKED, TRUSTING
from tools.chaos.scheduled import kill_scheduled
from tools.chaos.servers import (
    empty_server,
    hang_server,
    kill_servers,
    make_server_forget,
    open_by_half,
)
from tools.chaos.storm import cancel_all
from tools.chaos.timetable import Timetable
from tools.chaos.workers import kill_workers
from tools.redis_server import MISSING, find_server

pytestmark = [
    pytest.mark.once,
    # It takes many processes, and most of it reaches only what other tests reach.
    pytest.mark.unmeasured,
    pytest.mark.skipif(sys.platform == "win32", reason="processes are killed in another way there"),
]
needs_redis = pytest.mark.skipif(find_server() is None, reason=MISSING)
WHERE = [pytest.param("Redis", marks=needs_redis), "SQLite"]
FEW = Plan(3, 150, patience=20)
LIMIT = 60


def run(scenario: Callable[[], Coroutine[Any, Any, Result]], backend: str = "asyncio") -> Result:
    """Return the result of a run; fail if it does not end."""

    async def main() -> Result:
        with fail_after(LIMIT):
            return await scenario()

    return anyio.run(main, backend=backend)


def check(
    backend: str, scenario: Callable[..., Coroutine[Any, Any, Result]], mode: str, plan: Plan
) -> None:
    """See that a run goes as it should."""
    result = run(partial(scenario, backend, mode, plan), backend)
    assert result.faults == {}
    assert result.kills >= plan.kills
    assert result.stored >= plan.messages
    assert result.handled == 2 * result.stored


@needs_redis
@pytest.mark.parametrize(("mode", "backend"), by_turns(["always", "everysec, written"]))
def test_a_server_that_is_killed_loses_nothing(backend: str, mode: str) -> None:
    """X1, X2, X6: a server is killed under load, and each message is stored once and handled."""
    check(backend, kill_servers, mode, FEW)


@needs_redis
def test_a_server_that_hangs_loses_nothing() -> None:
    """X6: a server does not answer for longer than one waits."""
    check("asyncio", hang_server, "", FEW)


@needs_redis
def test_a_server_that_forgets_loses_nothing(backend: str) -> None:
    """X6: a server forgets scripts, or groups with all that is pending."""
    check(backend, make_server_forget, "", FEW)


@needs_redis
def test_connections_that_swallow_lose_nothing() -> None:
    """X2, X6: connections are half open, in one direction or both, or lose a reply."""
    check("asyncio", open_by_half, "", FEW._replace(kills=4))


@pytest.mark.parametrize(("mode", "backend"), by_turns(WHERE))
def test_a_storm_of_cancellations_leaves_nothing(backend: str, mode: str) -> None:
    """X5: publishes and bridges are cancelled at any point, and nothing is left of them."""
    check(backend, cancel_all, mode, FEW._replace(kills=400, messages=20))


@pytest.mark.parametrize("mode", WHERE)
def test_workers_that_are_killed_lose_nothing(mode: str) -> None:
    """X1, X3: what kills its workers or raises is a dead letter once, and nothing else is."""
    kill = partial(kill_workers, "both", mode, FEW, lease=0.5, count=2)
    result = anyio.run(kill)
    assert result.faults == {}
    assert (result.kills, result.dead) == (3, 2)
    assert result.handled == result.stored - 2


@pytest.mark.parametrize("mode", WHERE)
def test_shops_that_are_killed_ship_each_order_once(mode: str) -> None:
    """Y4: each order that was committed, and none that was rolled back."""
    result = run(partial(kill_enrolled, "both", mode, FEW))
    assert result.faults == {}
    assert result.kills == 3
    assert result.handled == result.stored > 0


def test_the_judge_finds_what_a_shop_did_twice() -> None:
    """Y4: without an inbox, what a killed shop had shipped is shipped again."""
    plan = Plan(12, 0, patience=5)
    result = run(partial(kill_enrolled, "both", "SQLite", plan, has_inbox=False))
    assert result.twice == result.doubled > 0


def test_the_judge_compares_orders_with_the_log_and_the_inbox() -> None:
    """Y4: lost, not shipped, shipped or stored twice, or never ordered."""
    result = Result("enrolled", "both", "SQLite")
    orders = [("a",), ("b",), ("c",)]
    entries = [Entry(str(place), (each,)) for place, each in enumerate("aabx")]
    judge(result, entries, orders, [("a",), ("a",)], [("a",), ("a",), ("y",)])
    faults = {"lost": 1, "unhandled": 2, "doubled": 2, "wrong": 2}
    assert (result.faults, result.twice) == (faults, 1)


@pytest.mark.parametrize(("mode", "backend"), by_turns(WHERE))
def test_what_is_scheduled_outlasts_kills(backend: str, mode: str) -> None:
    """Y3: each event, unless it was cancelled; none early; those of a key in order."""
    result = run(partial(kill_scheduled, backend, mode, FEW), backend)
    assert result.faults == {}
    assert result.kills == 3
    assert result.handled == result.stored > 0


def test_the_judge_finds_what_was_scheduled_and_went_wrong() -> None:
    """Y3: what is lost, early, or handed out though it was cancelled."""
    result = run(partial(kill_scheduled, "both", "SQLite", Plan(6, 0, patience=1), "mistimes"))
    assert {"early", "lost", "revived"} <= result.faults.keys()


def test_the_judge_compares_what_was_scheduled_with_the_log_and_the_clock() -> None:
    """Y3: lost, early, revived, out of order, not handled, dead, stored twice, or never stored."""
    timetable, result = Timetable(), Result("scheduled", "both", "SQLite")
    for number, due in {"a": 5.0, "b": 6.0, "c": 7.0, "d": 8.0, "e": 9.0, "late": 1.0}.items():
        timetable.note("scheduled", number, "key", due, due, f"ticket of {number}", 2.0)
    for number, is_cancelled in {"c": True, "d": False}.items():
        timetable.note("cancelling", number)
        timetable.note("answered", number, is_cancelled)
    # An event is handled twice, one before its time, and one that is in no log.
    for number, at in [("b", 6.5), ("a", 6.6), ("a", 6.7), ("late", 7.1), ("e", 8.5), ("x", 9.0)]:
        timetable.note("handled", number, at)
    for number, at in [("late", 0.9), ("b", 6.4), ("b", 0.5)]:
        timetable.see(number, at)
    timetable.note("cancelling", "e")
    entries = [Entry(each, (each, "key", 5.0)) for each in "aabc"]
    entries += [Entry("e", ("e", "key", 9.0)), Entry("late", ("late", "key", 1.0))]
    entries += [Entry("dead", ("dead", None, 9.0))]
    body = json.dumps({"id": "dead", "data": entries[-1].message}).encode()
    timetable.judge(result, entries, [DeadLetter("1", body, Failure("", "", ""), 0, 5, 9.0)])
    faults = {"lost": 1, "unhandled": 1, "doubled": 1, "wrong": 2}
    assert result.dead == 1
    assert result.faults == faults | {"early": 2, "revived": 1, "disordered": 1}
    assert (result.twice, result.cancelled, result.mistimed) == (1, 1, 4)
    assert (timetable.awaited, timetable.asked) == ({"d"}, {"e": "ticket of e"})


@pytest.mark.measured
@pytest.mark.parametrize(
    ("mode", "company", "backend"),
    by_turns(
        [
            pytest.param("Redis", "alone", marks=needs_redis),
            pytest.param("Redis", "two", marks=needs_redis),
            pytest.param("SQLite", "two"),
            pytest.param("SQLite", "alone"),
        ]
    ),
)
def test_handlers_that_block_kill_no_event(backend: str, mode: str, company: str) -> None:
    """X11: a worker that is alone handles each event once, and of two none buries a healthy one."""
    run = partial(block_handlers, backend, f"{mode}, {company}", FEW)
    result = anyio.run(run, backend=backend)
    assert result.faults == {}
    assert (result.kills, result.dead, result.stored) == (3, 0, 150)


@needs_redis
@pytest.mark.parametrize(("mode", "backend"), by_turns(["all", "some"]))
def test_what_a_server_lost_is_told(backend: str, mode: str) -> None:
    """X13: as many events as it lost are missed, and others are handled."""
    result = anyio.run(partial(empty_server, backend, mode, FEW), backend=backend)
    assert result.faults == {}
    assert result.kills == 3


@pytest.mark.skipif(sys.platform != "linux", reason="locks can be looked at on Linux only")
@pytest.mark.parametrize(("mode", "backend"), by_turns(MODES))
def test_processes_that_lose_their_locks_lose_nothing(backend: str, mode: str) -> None:
    """X9: they fork, or copy the file, and confirm nothing more that would be lost."""
    result = anyio.run(partial(make_lose_locks, backend, mode, Plan(2, 48)), backend=backend)
    # What the children inherited; or all that comes after the copy.
    refused = 8 if mode == FORKED else 24
    assert (result.faults, result.kills) == ({}, 2)
    assert (result.stored, result.in_doubt) == (48 - refused, refused)


@pytest.fixture
def leaked() -> Generator[None]:
    """Close what a fault has left open."""
    yield
    for each in LEAKED:
        os.close(each)
    LEAKED.clear()


@needs_redis
@pytest.mark.usefixtures("leaked")
@pytest.mark.measured
@pytest.mark.parametrize(
    ("scenario", "mode", "fault", "found"),
    [
        (kill_servers, "always", "stores again", "doubled"),
        (hang_server, "", "confirms what it did not store", "lost"),
        (make_server_forget, "", "buries what was handled", "wrong"),
        (open_by_half, "", "forgets a pending one", "unhandled"),
        (cancel_all, "SQLite", "leaks", "leaks"),
        (block_handlers, "SQLite, alone", "is lost when it has run out", "doubled"),
        (empty_server, "all", "misses nothing", "wrong"),
    ],
)
def test_the_judge_finds_what_is_wrong(
    scenario: Callable[..., Coroutine[Any, Any, Result]], mode: str, fault: str, found: str
) -> None:
    """X1, X2, X3: what a faulty transport does wrong is reported."""
    plan = Plan(1, 50, patience=3)
    assert found in run(partial(scenario, "asyncio", mode, plan, FAULTS[fault])).faults


def test_the_judge_finds_what_a_killed_worker_took_with_it() -> None:
    """X1, X3: workers that acknowledge too early lose what they held, poison among it."""
    plan = Plan(1, 60, patience=1)
    fault = "acknowledges before handling"
    kill = partial(kill_workers, "both", "SQLite", plan, fault, lease=0.3, count=1)
    assert {"unhandled", "wrong"} & run(kill).faults.keys()


def test_a_run_ends_though_too_few_messages_are_left_to_handle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """X1, X3: poison takes what its worker held with it, and the next kill waits for that."""
    monkeypatch.setattr(workers, "kind_of", Mock(return_value="kills"))
    fault = "acknowledges before handling"
    plan = Plan(1, 60, patience=1)
    result = run(partial(kill_workers, "both", "SQLite", plan, fault, lease=0.3, count=1))
    assert (result.kills, result.stalled) == (0, True)


@pytest.mark.skipif(sys.platform != "linux", reason="locks can be looked at on Linux only")
@pytest.mark.parametrize(("mode", "backend"), by_turns(MODES))
def test_the_judge_finds_what_lost_locks_lost(backend: str, mode: str) -> None:
    """X9: what is confirmed without any check is not there in the end."""
    lose_locks = partial(make_lose_locks, backend, mode, Plan(1, 30), TRUSTING)
    assert "lost" in run(lose_locks, backend).faults


async def test_the_judge_finds_what_a_journal_lost(tmp_path: Path) -> None:
    """X1, X2: what was confirmed and is not there is lost; what is there twice, or out of order."""
    confirmed = sqlite.Confirmed(numbers=[3, 0, 0, 0])
    path = tmp_path / "lost.db"
    async with SqliteTransport(path).connect() as connection:
        batch = sqlite.batch(0, 2)
        await connection.store(batch)
        await connection.store(batch._replace(producer="another"))
    result = await sqlite.look(path, 0, confirmed)
    assert (result.lost, result.twice > 0) == (2 * len(batch.records), True)


@pytest.mark.parametrize(
    ("told", "wrongly"), [(0, 2), (1, 1), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 1)]
)
def test_the_judge_compares_what_was_lost_with_what_was_told(told: int, wrongly: int) -> None:
    """X13: a group is told of each event that was lost and that it had not handled."""
    ledger = Ledger(confirmed={(1,), (2,)}, in_doubt=1)
    ledger.handle("one", (1,))
    ledger.handle("two", (1,))
    result = Result("server killed", "asyncio", "everysec", missed=told, may_lose=True)
    ledger.judge(result, [], ["one", "two"])
    assert (result.lost, result.unsettled) == (2, wrongly)
