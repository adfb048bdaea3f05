"""Kills what stores the states of components, under load, and looks at what is left (K3).

Each component counts the messages that it has handled: in its state, and in its snapshot. Whatever
is killed, what is stored afterwards must be the count of the last `send` that returned, or the one
that the `send` in hand was about to reach: never an older one, and never a state with the snapshot
of another one.

`python -m tools.chaos.states FILE BACKEND` is a process that is started to be killed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio import to_thread

from flexiflow import Component, Engine, State, StateMachine, Transition
from flexiflow.extras.stores import (
    RedisStateStore,
    SqliteStateStore,
    StoreUnavailable,
)
from tools.chaos.ledger import BACKENDS, Result
from tools.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow.extras.stores import StateStore, Stored
    from tools.chaos.load import Plan

_ROOT: Final = Path(__file__).parents[2]
_STATES: Final = 7
_NAMES: Final = [f"counter-{number}" for number in range(40)]
_MOST_LINES: Final = 400
_LONG: Final = 3600.0
_SHORT: Final = 2.0


# The count that each component has reached in this process; it may have been unloaded since.
_reached: Final[dict[str, int]] = {}


def _count(_: dict[str, Any], counter: Counting) -> None:
    counter.count += 1
    _reached[counter.name] = counter.count


_MACHINE: Final = StateMachine(
    "0",
    [Transition(str(each), "step", str((each + 1) % _STATES), action=_count) for each in range(7)]
    + [Transition("0", "late", "0")],
    # One of the states has a due time to be stored, too.
    states=[State("0", after=(_LONG, "late"))],
)


class Counting(Component):
    """Counts its messages in its state, modulo the number of states, and in its snapshot."""

    def __init__(self, name: str) -> None:
        super().__init__(name, machine=_MACHINE)
        self.count = 0

    def snapshot(self) -> Mapping[str, Any]:
        """Return the count, and enough besides to fill pages."""
        return {"count": self.count, "rest": [self.count] * 50}

    def restore(self, data: Mapping[str, Any], /) -> None:
        """Take over the count."""
        self.count = data["count"]


class Judge:
    """Compares what is stored with what was confirmed.

    Args:
        result: where faults are counted.
    """

    def __init__(self, result: Result) -> None:
        self.confirmed = Counter[str]()
        self._result = result

    def judge(self, name: str, stored: Stored | None) -> None:
        """Judge what is stored of a component, and take it for confirmed from now on."""
        count = 0 if stored is None else _counted(stored)
        if count is None:
            self._result.wrong += 1
            return
        if count < self.confirmed[name]:
            self._result.lost += 1
        if count > self.confirmed[name] + 1:
            self._result.doubled += 1
        self.confirmed[name] = count


def _counted(stored: Stored) -> int | None:
    """Return the count that is stored; None if it is torn."""
    data = stored.data or {}
    count = data.get("count")
    is_whole = (
        isinstance(count, int)
        and data.get("rest") == [count] * 50
        and stored.state == str(count % _STATES)
        and (stored.due is not None) == (count % _STATES == 0)
    )
    return count if is_whole else None


async def kill_stored(backend: str, mode: str, plan: Plan) -> Result:
    """Kill what stores states: processes that use an SQLite file, or a Redis server.

    Args:
        backend: what this runs on, for the result; "both" for processes.
        mode: "SQLite" or "Redis".
        plan: how often to kill.
    """
    begun, result = time.monotonic(), Result("states killed", backend, mode)
    await (_kill_processes if mode == "SQLite" else _kill_servers)(result, plan)
    result.seconds = time.monotonic() - begun
    return result


async def _kill_processes(result: Result, plan: Plan) -> None:
    random, judge = Random(0), Judge(result)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "states.db"))
        for turn in range(plan.kills):
            run = partial(
                _let_run, path, BACKENDS[turn % len(BACKENDS)], random.randint(1, _MOST_LINES)
            )
            for name, count in await to_thread.run_sync(run):
                judge.confirmed[name] = max(judge.confirmed[name], count)
                result.stored += 1
            store = SqliteStateStore(path)
            for name in _NAMES:
                judge.judge(name, await store.load(name))
            store.close()
            result.kills += 1
            plan.tell(f"{turn + 1}/{plan.kills} kills, {result.stored:,} confirmed")


def _let_run(path: str, backend: str, lines: int) -> list[tuple[str, int]]:
    """Run a process until it has said so many lines, kill it, and return what it has said."""
    said: list[tuple[str, int]] = []
    command = [sys.executable, "-m", "tools.chaos.states", path, backend]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT) as process:
        assert process.stdout is not None
        for number, line in enumerate(process.stdout, 1):
            # The last line may have been cut off.
            if line.endswith("\n"):
                name, count = line.split()
                said.append((name, int(count)))
            if number == lines:
                process.kill()
    assert process.returncode < 0, "a process ended by itself"
    return said


async def _be_killed(path: str) -> None:
    engine = Engine(component_factory=Counting, store=SqliteStateStore(path), max_components=20)

    async def count(name: str) -> None:
        while True:
            await engine.send(name, {"type": "step"})
            sys.stdout.write(f"{name} {_reached[name]}\n")
            sys.stdout.flush()

    async with engine.running(), anyio.create_task_group() as tasks:
        for name in _NAMES:
            tasks.start_soon(count, name)


async def _kill_servers(result: Result, plan: Plan) -> None:
    judge = Judge(result)
    with redis_server(appendfsync="always") as server:
        async with (
            RedisStateStore(server.url, timeout=_SHORT) as store,
            RedisStateStore(server.url, timeout=_SHORT) as looking,
        ):
            engine = Engine(component_factory=Counting, store=store)
            async with engine.running(), anyio.create_task_group() as tasks:
                for name in _NAMES:
                    tasks.start_soon(_count_on, engine, name, looking, judge, result)
                for turn in range(plan.kills):
                    expected = result.stored + len(_NAMES) * 5
                    # It is killed in the midst of the load, at no exact time.
                    while result.stored < expected:  # noqa: ASYNC110
                        await anyio.sleep(0.005)
                    await to_thread.run_sync(server.restart)
                    result.kills += 1
                    plan.tell(f"{turn + 1}/{plan.kills} kills, {result.stored:,} confirmed")
                tasks.cancel_scope.cancel()


async def _count_on(
    engine: Engine, name: str, looking: StateStore, judge: Judge, result: Result
) -> None:
    while True:
        try:
            await engine.send(name, {"type": "step"})
        except StoreUnavailable:
            result.in_doubt += 1
            judge.judge(name, await _look(looking, name))
            continue
        judge.confirmed[name] += 1
        result.stored += 1
        component: Any = engine.components[name]
        # What was stored in spite of a failure, the component must have loaded.
        result.unhandled += component.count != judge.confirmed[name]


async def _look(store: StateStore, name: str) -> Stored | None:
    while True:
        try:
            return await store.load(name)
        except StoreUnavailable:
            await anyio.sleep(0.01)


if __name__ == "__main__":
    anyio.run(_be_killed, sys.argv[1], backend=sys.argv[2])
