"""Processes that are forked with a bridge open: the parent goes on, the child begins anew (X9)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any, cast
from weakref import WeakSet

import pytest

from flexiflow import EventBus
from flexiflow.extras import _process as module
from flexiflow.extras._process import Home, fork_safe_lock
from flexiflow.extras.durable import (
    Batch,
    MemoryTransport,
    Record,
    SqliteTransport,
    TransportUnusable,
    open_bridge,
)
from tests.durable.bridge.forking import ENDS, LIMIT, WAYS, found_in
from tests.helpers import by_turns
from tools.redis_server import MISSING, find_server, redis_server

pytestmark = [
    pytest.mark.same_everywhere,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks"),
]

FORKED = "can't be used: this process was forked from the one that opened it"
PAIRS = [f"{place} {number}" for place in ("before", "during", "after") for number in range(5)]
CHILDS = [f"{place} {number}" for place in ("child", "child alone") for number in range(5)]


def fork(backend: str, url: str, way: str) -> dict[str, Any]:
    """Run a program that forks."""
    # Python warns of every fork of a process with threads, from 3.12 on.
    options = ["-W", "ignore", "-m", "tests.durable.bridge.forking"]
    command = [sys.executable, *options, backend, url, way]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=2 * LIMIT, check=False)
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def check(told: dict[str, Any]) -> None:
    """See that the parent went on, and the child got on by itself."""
    confirmed, refused = told["inherited"]
    assert (told["confirmed"], told["refused"], told["handled"]) == (PAIRS, [], True)
    assert (confirmed, told["own"]) == ([], [CHILDS, []])
    # Five publishes, the list of dead letters, and redriving one.
    assert len(refused) == 7
    assert all(FORKED in each for each in refused)


@pytest.mark.unmeasured
@pytest.mark.parametrize(("way", "backend"), by_turns(WAYS))
def test_a_child_confirms_by_its_own_bridge_only(backend: str, way: str, tmp_path: Path) -> None:
    """X9: what a child inherited refuses; parent and child confirm, and all that is there."""
    path = tmp_path / "events.db"
    told = fork(backend, f"sqlite:{path}", way)
    check(told)
    assert told["code"] == (-9 if way == "killed" else 0)
    assert sorted(found_in(str(path))) == sorted(PAIRS + CHILDS)


@pytest.mark.unmeasured
@pytest.mark.skipif(find_server() is None, reason=MISSING)
def test_a_child_leaves_the_connections_to_a_server_alone(backend: str) -> None:
    """X9: on Redis, too, what a child inherited refuses, and both go on."""
    with redis_server() as server:
        check(fork(backend, server.url, WAYS[0]))
        assert server.command("XLEN", "{flexiflow:0}:log") == f":{len(PAIRS + CHILDS)}"


@pytest.mark.unmeasured
def test_a_child_that_ends_as_programs_do_takes_nothing_along(tmp_path: Path) -> None:
    """X9: the interpreter's end in a child closes nothing of the parent's."""
    path = tmp_path / "events.db"
    assert fork("asyncio", f"sqlite:{path}", ENDS) == {"code": 0}
    assert found_in(str(path)) == ["before"] * 2


# The parts of it, in this process.


def move_away(thing: Any) -> None:
    """Make something believe that it was made in another process."""
    thing._home._pid += 1


async def test_what_was_inherited_refuses_before_it_waits(tmp_path: Path) -> None:
    """X9: a lock that was held as the process was forked is held for ever in the child."""
    async with SqliteTransport(tmp_path / "events.db").connect() as connection:
        runner = cast("Any", connection).jobs
        runner._lock.acquire()
        move_away(runner)
        with pytest.raises(TransportUnusable, match=FORKED):
            await connection.groups()
        with pytest.raises(TransportUnusable, match=FORKED):
            await connection.store(Batch("p", 1, (Record(b"a"),)))
        # Neither does it wait to be left.
        await runner.__aexit__()
        runner._home = Home("", TransportUnusable)
        runner._lock.release()
        await connection.groups()


async def test_a_publish_in_a_child_is_refused_whatever_the_transport(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """X9: in a child nobody stores what would be waited for, so nobody waits."""
    bus = EventBus(on_error="raise")
    async with open_bridge(bus, MemoryTransport(), outgoing=["a"]) as bridge:
        await bus.publish("a")
        with monkeypatch.context() as child:
            child.setattr(module.FORKS, "generation", module.FORKS.generation + 1)
            with pytest.raises(TransportUnusable, match=FORKED):
                await bus.publish("a")
        await bus.publish("a")
        assert bridge.statistics().stored == 2


def test_a_number_that_is_used_again_is_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """X9: a child's child may have the number of a process that has ended."""
    home = Home("here", TransportUnusable)
    home.check()
    monkeypatch.setattr(module.FORKS, "generation", home._generation + 1)
    with pytest.raises(TransportUnusable, match=f"here {FORKED}"):
        home.check()


class Sleeper:
    """Tells whether it rests."""

    def __init__(self) -> None:
        self.turns: list[str] = []

    def pause(self) -> None:
        self.turns.append("rest")

    def resume(self) -> None:
        self.turns.append("go on")

    def start_over(self) -> None:
        self.turns.append("start over")


def test_what_is_registered_rests_at_each_fork() -> None:
    """X9: in the parent it goes on; in a child it starts over, and rests when that forks."""
    forks, sleeper = module._Forks(), Sleeper()
    forks.register(sleeper)
    forks.before()
    forks.in_parent()
    forks.before()
    generation = forks.generation
    forks.in_child()
    forks._lock.release()
    forks.before()
    forks.in_parent()
    assert sleeper.turns == ["rest", "go on", "rest", "start over", "rest", "go on"]
    assert forks.generation == generation + 1


def test_a_lock_is_free_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """X9: whichever thread of the parent held it, and also where none did."""
    monkeypatch.setattr(module, "_LOCKS", locks := WeakSet[Any]())
    lock = fork_safe_lock()
    holder = Thread(target=lock.acquire)
    holder.start()
    holder.join()
    module._free_locks()
    assert not lock.locked()
    module._free_locks()
    with lock:
        assert lock.locked()
    del lock
    assert len(locks) == 0
