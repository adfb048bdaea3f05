"""Crashing everywhere (P7): what is found, what is told, and what is refused."""

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flexiflow.extras.durable import (
    Acknowledged,
    LeaseLost,
    Noted,
    Postponed,
    Returned,
    Settled,
    SqliteTransport,
)
from flexiflow.testing import (
    Crashes,
    CrashFailure,
    HandledAgain,
    ScenarioStuck,
    WorkerFailed,
    crash_everywhere,
)
from flexiflow.testing._crashing.hatchery import Hatchery
from flexiflow.testing._crashing.journal import (
    BEGAN,
    ENDED,
    FAILED,
    IN_MEMORY,
    KILLED,
    LET_GO,
    SETTLED,
    Fact,
    Journal,
    describe_fact,
    read_journal,
)
from flexiflow.testing._crashing.judging import judge
from flexiflow.testing._crashing.life import STATUS, Life, live, run
from flexiflow.testing._crashing.places import stop_of
from flexiflow.testing._crashing.points import Plan, Point
from flexiflow.testing._crashing.rounds import Round
from flexiflow.testing._crashing.sweep import spread
from flexiflow.testing._crashing.witness import WatchedLease
from tests.helpers import by_turns
from tests.testing.crashing import (
    Trader,
    Unpicklable,
    branch,
    check_keep,
    check_trade,
    fail,
    forget,
    forget_in_a_thread,
    forgetful,
    hang,
    hasty,
    idle,
    keep,
    keep_late,
    leave,
    trade,
)

NOWHERE = "00000000"

sweep = partial(crash_everywhere, time_limit=300.0)
"""Does not give up where the machine has much else to do."""


def nothing(folder: Path) -> None:
    """Check nothing."""


# The whole.


def test_what_lasts_stands_each_crash(backend: str) -> None:
    """P7: a component whose state lasts is right after a crash at any checkpoint."""
    crashes = sweep(keep, backend=backend, check=check_keep)
    assert crashes.checkpoints == {"keep": crashes.tried}
    assert len(crashes.missed) < crashes.tried
    assert str(crashes).startswith(f"killed at {crashes.tried - len(crashes.missed)} of ")


@pytest.mark.same_everywhere
def test_stored_events_stand_crashes(backend: str) -> None:
    """P7: stored events are handled once, or twice around a crash, and none is lost."""
    crashes = sweep(trade, backend=backend, check=check_trade, most=12)
    assert crashes.tried == 12
    assert crashes.checkpoints["Trader"] > 12


@pytest.mark.same_everywhere
@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("case", "backend"),
    by_turns(
        [
            (forgetful, check_trade, "was settled, and handled again after that"),
            (hasty, check_trade, "AssertionError"),
            (keep_late, check_keep, "the front door is not stored"),
        ]
    ),
)
def test_what_a_crash_shows_is_found(
    case: tuple[Callable[[Path], Awaitable[None]], Callable[[Path], object], str], backend: str
) -> None:
    """P7: events acknowledged in vain or too early are found, and doors told before saved, too."""
    worker, check, said = case
    with pytest.raises(CrashFailure, match=said) as caught:
        sweep(worker, backend=backend, check=check, most=40)
    failure = caught.value
    assert isinstance(failure.__cause__, AssertionError)
    assert failure.place is not None
    assert f"  killed at {failure.place}\n" in str(failure)
    assert f"crash_everywhere(..., at={failure.at!r})" in str(failure)
    assert ": killed at " in failure.history


@pytest.mark.same_everywhere
def test_two_workers_have_names_of_their_own(backend: str) -> None:
    """P7: each of several workers is killed, also where they are the same function."""
    seen: list[Path] = []
    crashes = sweep([idle, idle], backend=backend, check=seen.append, at_once=2)
    assert crashes == Crashes({"idle": 3, "idle-2": 3}, 6, {})
    assert len({folder.name for folder in seen}) == 7
    assert not any(folder.exists() for folder in seen)


@pytest.mark.same_everywhere
def test_a_point_that_is_not_reached_is_reported() -> None:
    """P7: a run in which nothing was killed is told, and still checked."""
    at, seen = f"idle:{NOWHERE}:4", list[Path]()
    crashes = sweep(idle, backend="asyncio", check=seen.append, at=at)
    assert (crashes.tried, dict(crashes.missed), len(seen)) == (1, {at: ""}, 1)
    assert str(crashes) == f"killed at 0 of 1 points\n  not reached: 1 point at {at!r}"
    with pytest.raises(CrashFailure, match="did not come to") as caught:
        sweep(idle, backend="asyncio", check=lambda _: False, at=at)
    assert "returned False" in str(caught.value)


def test_points_that_were_missed_are_told_by_their_lines() -> None:
    """P7: a report counts the points of each line that were not reached."""
    crashes = Crashes({"idle": 3}, 3, {"idle:1": "a.py:1", "idle:2": "a.py:1", "idle:3": "b.py:2"})
    assert str(crashes) == (
        "killed at 0 of 3 points\n"
        "  not reached: 2 points at a.py:1\n"
        "  not reached: 1 point at b.py:2"
    )


@pytest.mark.same_everywhere
@pytest.mark.parametrize(
    ("case", "backend"),
    by_turns(
        [(fail, "LookupError: there is no shelf"), (leave, "its process ended, with 3")],
    ),
)
def test_a_worker_that_fails_by_itself_is_told(
    case: tuple[Callable[[Path], Awaitable[None]], str], backend: str
) -> None:
    """P7: without any crash, a worker that raises or ends its process is a failure."""
    worker, reason = case
    with pytest.raises(CrashFailure, match=f"on {backend}, without any crash") as caught:
        sweep(worker, backend=backend, check=nothing)
    failure = caught.value
    assert (failure.at, failure.place, failure.history) == (None, None, "")
    assert isinstance(failure.exception, WorkerFailed)
    assert failure.exception.reason.endswith(reason)
    assert failure.output == f"I am about to {failure.exception.worker}"
    assert str(failure).endswith(f"  what they wrote:\n    {failure.output}")


def test_a_worker_that_does_not_end_is_killed() -> None:
    """P7: after the time limit a worker that has not ended is a failure."""
    with pytest.raises(CrashFailure, match=r"after 0\.2 seconds, 'hang' had not ended") as caught:
        sweep(hang, backend="asyncio", check=nothing, time_limit=0.2)
    assert isinstance(caught.value.exception, ScenarioStuck)


@pytest.mark.same_everywhere
def test_an_async_check_is_awaited(backend: str) -> None:
    """P7: what an async check raises is a failure, too."""

    async def check(folder: Path) -> None:
        raise LookupError(folder.name)

    with pytest.raises(CrashFailure, match="LookupError: flexiflow-crash-"):
        sweep(idle, backend=backend, check=check)


@pytest.mark.same_everywhere
def test_what_check_raises_as_pytest_does_is_a_failure(backend: str) -> None:
    """P7: a failure of pytest, which is no `Exception`, comes with its point, too."""
    with pytest.raises(CrashFailure, match="Failed: an order is lost") as caught:
        sweep(idle, backend=backend, check=lambda _: pytest.fail("an order is lost"))
    assert isinstance(caught.value.__cause__, pytest.fail.Exception)


def test_what_ends_the_program_is_no_failure() -> None:
    """P7: `SystemExit` out of the check leaves as it is."""
    with pytest.raises(SystemExit, match="3"):
        sweep(idle, backend="asyncio", check=lambda _: sys.exit(3))


@pytest.mark.same_everywhere
def test_check_may_remove_what_it_has_seen() -> None:
    """P7: a folder that the check has removed, or moved, is no failure."""
    assert sweep(idle, backend="asyncio", check=Path.rmdir).tried == 3


def test_a_process_that_outlives_its_worker_is_not_waited_for(backend: str) -> None:
    """P7: a worker has ended, or was killed, also if a process that it has forked goes on."""

    def check(folder: Path) -> None:
        for each in folder.iterdir():
            os.kill(int(each.name), signal.SIGKILL)

    assert sweep(branch, backend=backend, check=check) == Crashes({"branch": 1}, 1, {})


# What is refused.


@pytest.mark.same_everywhere
def test_a_transport_in_memory_is_refused() -> None:
    """P7: a bridge over a `MemoryTransport` is a ValueError, as nothing of it would be left."""
    with pytest.raises(ValueError, match="MemoryTransport, which is lost with its process"):
        crash_everywhere(forget, backend="asyncio", check=nothing)


async def local(folder: Path) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("arguments", "problem", "said"),
    [
        ({"scenario": []}, ValueError, "one worker or more"),
        ({"scenario": nothing}, TypeError, "must be an async function, which nothing is not"),
        ({"scenario": print}, TypeError, "must be an async function, which print is not"),
        ({"scenario": 7}, TypeError, "a worker must be callable"),
        ({"backend": "curio"}, ValueError, "backend must be"),
        ({"check": None}, TypeError, "check must be callable"),
        ({"most": 0}, ValueError, "most must be an int, 1 or more"),
        ({"at_once": 0}, ValueError, "at_once must be an int, 1 or more"),
        ({"time_limit": 0}, ValueError, "time_limit must be"),
        ({"at": "idle"}, ValueError, "the workers are 'idle'"),
        ({"at": f"other:{NOWHERE}:1"}, ValueError, "the workers are 'idle'"),
        ({"at": f"idle:{NOWHERE}:0"}, ValueError, "the workers are 'idle'"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(
    arguments: dict[str, Any], problem: type[Exception], said: str
) -> None:
    """P7: bad arguments fail at the call, before any process is started."""
    given: dict[str, Any] = {"scenario": idle, "backend": "asyncio", "check": nothing, **arguments}
    with pytest.raises(problem, match=said):
        crash_everywhere(given.pop("scenario"), **given)


def test_a_worker_within_a_function_is_refused() -> None:
    """P7: what no other process could import is refused."""

    async def inner(folder: Path) -> None: ...

    with pytest.raises(TypeError, match="a worker must be importable: a function of a module"):
        crash_everywhere(inner, backend="asyncio", check=nothing)


def test_a_worker_of_a_notebook_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """P7: what has no module that another process could import is refused."""
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "local", local, raising=False)
    monkeypatch.setattr(local, "__module__", "__main__")
    monkeypatch.delattr(main, "__file__")
    with pytest.raises(TypeError, match="those of a notebook or of an interactive session are not"):
        crash_everywhere(local, backend="asyncio", check=nothing)


@pytest.mark.parametrize("problem", [LookupError, SystemExit])
def test_a_worker_that_another_process_does_not_find_is_refused(
    problem: type[BaseException],
) -> None:
    """P7: the error shows why the other process can't import it."""
    with pytest.raises(ImportError, match=f"{problem.__name__}: not in this process"):
        crash_everywhere(Unpicklable(problem), backend="asyncio", check=nothing)


def test_a_program_without_a_guard_is_told_of_it(tmp_path: Path) -> None:
    """P7: a program that would run itself again in the other process is told what is missing."""
    program = tmp_path / "program.py"
    program.write_text(
        "from flexiflow.testing import crash_everywhere\n"
        "async def idle(folder): ...\n"
        "crash_everywhere(idle, backend='asyncio', check=print)\n"
    )
    ran = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "below `if __name__ == '__main__':`" in ran.stderr


async def test_it_is_not_called_from_async_code() -> None:
    """P7: it runs event loops of its own."""
    with pytest.raises(RuntimeError, match="crash_everywhere runs event loops of its own"):
        crash_everywhere(idle, backend="asyncio", check=nothing)


# One life of a worker, in this process.


def make_life(folder: Path, backend: str, kill_at: tuple[str, int] | None = None) -> Life:
    """Make a life whose files are in a folder."""
    journal, output = str(folder / "journal"), str(folder / "output")
    return Life(0, backend, str(folder), journal, output, kill_at)


def passed(facts: list[Fact]) -> list[tuple[str, str, bool]]:
    """Return the checkpoints that a worker has told at its end."""
    assert facts[-1].what == ENDED
    return [tuple(each) for each in facts[-1].about]


@pytest.mark.measured
def test_a_life_ends_at_its_checkpoint(tmp_path: Path, backend: str) -> None:
    """P7: the checkpoints are counted by their lines, and the process ends at the chosen one."""
    left: list[int] = []
    run(idle, make_life(tmp_path, backend), left.append)
    counted = passed(read_journal(tmp_path / "journal"))
    places = {place.rpartition("/")[2] for _, place, _ in counted}
    assert (len(counted), len(places), left) == (3, 1, [])
    assert places.pop().startswith("crashing.py:")
    way, place, is_users = counted[0]
    assert is_users
    run(idle, make_life(tmp_path, backend, (way, 2)), left.append)
    told = [fact for fact in read_journal(tmp_path / "journal") if fact.what == KILLED]
    assert (told, left) == ([Fact(0, KILLED, place)], [STATUS])


@pytest.mark.measured
def test_a_life_tells_what_its_bridges_do(tmp_path: Path, backend: str) -> None:
    """P7: each attempt that begins, and each event that is settled, is told once, in order."""
    run(Trader(), make_life(tmp_path, backend), int)
    facts = read_journal(tmp_path / "journal")
    told = [fact.what for fact in facts]
    assert told.count(BEGAN) == told.count(SETTLED) == 2
    assert {fact.about[1] for fact in facts if fact.what == BEGAN} == {"order"}
    assert told[-1] == ENDED
    assert judge(facts) is None


def test_a_life_tells_why_it_failed(tmp_path: Path) -> None:
    """P7: the traceback begins with the worker's own code."""
    run(fail, make_life(tmp_path, "asyncio"), int)
    (failed,) = read_journal(tmp_path / "journal")
    assert failed.what == FAILED
    _, where, *_, problem = failed.about.splitlines()
    assert "crashing.py" in where
    assert problem == "LookupError: there is no shelf"


def test_a_life_over_memory_is_told(tmp_path: Path) -> None:
    """P7: a bridge over a `MemoryTransport` is told before it is refused."""
    run(forget, make_life(tmp_path, "asyncio"), int)
    in_memory, failed = read_journal(tmp_path / "journal")
    assert (in_memory.what, failed.what) == (IN_MEMORY, FAILED)


def test_a_bridge_in_a_thread_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """P7: what a worker does in other threads is seen, too."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    run(forget_in_a_thread, make_life(tmp_path, backend), int)
    assert [fact.what for fact in read_journal(tmp_path / "journal")] == [IN_MEMORY, ENDED]


@contextmanager
def kept_output() -> Generator[None]:
    """Give this process back its output in the end."""
    streams, copies = (sys.stdout, sys.stderr), [os.dup(number) for number in (1, 2)]
    try:
        yield
    finally:
        sys.stdout.close()
        sys.stdout, sys.stderr = streams
        for number, each in enumerate(copies, 1):
            os.dup2(each, number)
            os.close(each)


def test_a_life_writes_to_a_file(tmp_path: Path) -> None:
    """P7: what a worker writes is kept apart for each run."""
    with kept_output():
        live(fail, make_life(tmp_path, "asyncio"))
        os.write(2, b"below Python\n")
    assert (tmp_path / "output").read_text() == "I am about to fail\nbelow Python\n"


class Answering:
    """A lease that answers as it is told."""

    partition, replay = 3, 0

    async def renew(self, positions: Any = ()) -> Any:
        """Say that all are lost."""
        return positions

    async def settle(self, outcomes: Any) -> Settled:
        """Say that the second of several is lost, or with one alone the lease."""
        if len(outcomes) == 1:
            raise LeaseLost("worker", "group", 3)
        return Settled(lost=[outcomes[1].position])


async def test_the_ends_of_attempts_are_told(tmp_path: Path) -> None:
    """P7: each end of an attempt that has begun is told once; of others, none."""
    journal = Journal(str(tmp_path / "journal"), 0)
    lease: Any = WatchedLease(Answering(), "here", journal)  # type: ignore[arg-type]
    for position in ("6", "7", "8", "9", "10"):
        lease.begin(position, "order")
    await lease.settle(
        [Acknowledged("6"), Acknowledged("7"), Noted("8", 1, 1), Returned("5", 0, 0)]
    )
    assert await lease.renew(["7", "8"]) == ["7", "8"]
    await lease.settle([Postponed("9", 1, 0, 0.1, None), Noted("8", 1, 1)])
    with pytest.raises(LeaseLost):
        await lease.settle([Acknowledged("10")])
    journal.close()
    told = [each for each in read_journal(tmp_path / "journal") if each.what != BEGAN]
    assert [(each.what, each.about) for each in told] == [
        (SETTLED, "here partition 3 position 6"),
        *((LET_GO, f"here partition 3 position {number}") for number in (7, 8, 9, 10)),
    ]


async def test_a_replay_gives_events_other_names(tmp_path: Path) -> None:
    """P7: what is handled again because of a replay is not handled again."""
    journal = Journal(str(tmp_path / "journal"), 0)
    for replay in (0, 1):
        answering = Answering()
        answering.replay = replay
        lease: Any = WatchedLease(answering, "here", journal)  # type: ignore[arg-type]
        lease.begin("7", "order")
        await lease.settle([Acknowledged("7"), Acknowledged("8")])
    journal.close()
    facts = read_journal(tmp_path / "journal")
    assert [each.what for each in facts] == [BEGAN, SETTLED, BEGAN, SETTLED]
    assert judge(facts) is None


# The parts.


def fact(what: str, about: object = None) -> Fact:
    """Make a fact."""
    return Fact(0, what, about)


FIRST, AGAIN = fact(BEGAN, ["e", "order"]), fact(BEGAN, ["e", "order"])


@pytest.mark.parametrize(
    ("facts", "times"),
    [
        ([FIRST, fact(SETTLED, "e"), fact(BEGAN, ["f", "order"])], None),
        ([FIRST, fact(KILLED), AGAIN], None),
        ([FIRST, fact(LET_GO, "e"), AGAIN], None),
        ([FIRST, fact(KILLED), AGAIN, fact(LET_GO, "e"), AGAIN, fact(ENDED)], None),
        ([FIRST, fact(SETTLED, "e"), fact(KILLED), AGAIN], 0),
        ([FIRST, AGAIN], 2),
        ([FIRST, AGAIN, fact(LET_GO, "e"), fact(SETTLED, "e")], None),
        ([FIRST, fact(KILLED), AGAIN, AGAIN], 3),
    ],
)
def test_what_is_handled_too_often(facts: list[Fact], times: int | None) -> None:
    """P7: never after its acknowledgement, and else at most once more for each crash."""
    found = judge(facts)
    assert times == (None if found is None else found.times)


@pytest.mark.parametrize(
    ("times", "crashes", "said"),
    [
        (0, 1, "the stored event 'order' (here) was settled, and handled again after that"),
        (2, 0, "the handling of the stored event 'order' (here) began 2 times, with 0 crashes"),
        (
            3,
            1,
            "the handling of the stored event 'order' (here) began 3 times, with 1 crash",
        ),
    ],
)
def test_a_message_says_how_often_it_was_handled(times: int, crashes: int, said: str) -> None:
    """P7: the message has the event, and how often its handling began."""
    assert str(HandledAgain("order", "here", times, crashes)).startswith(said)


def test_a_failure_tells_how_to_run_it_again() -> None:
    """P7: the message has the line, the point, and what happened; or that nothing was killed."""
    killed: dict[str, Any] = {
        "backend": "trio",
        "at": f"idle:{NOWHERE}:1",
        "place": "a.py:1, in idle",
        "exception": AssertionError("lost"),
        "history": "idle: ended",
        "output": "",
    }
    assert str(CrashFailure(**killed)) == (
        "the scenario fails on trio, after 'idle' was killed: AssertionError: lost\n"
        "  killed at a.py:1, in idle\n"
        f"  to run only this: crash_everywhere(..., at='idle:{NOWHERE}:1')\n"
        "  what happened:\n"
        "    idle: ended"
    )
    missed = str(CrashFailure(**{**killed, "place": None}))
    assert f"without any crash, since 'idle' did not come to 'idle:{NOWHERE}:1'" in missed


def test_facts_are_shown() -> None:
    """P7: a line of the history says what happened."""
    facts = [FIRST, fact(SETTLED, "e"), fact(LET_GO, "e"), fact(KILLED, "x.py:1"), fact(ENDED)]
    assert [*map(describe_fact, facts)] == [
        "began 'order' (e)",
        "settled (e)",
        "let go (e)",
        "killed at x.py:1",
        "ended",
    ]


async def test_a_stop_is_shown_by_the_innermost_line_of_the_user() -> None:
    """P7: lines of this library and of others are shown only where there are none of the user."""
    assert stop_of(None).place == "an unknown place"
    transport = SqliteTransport(":nowhere:").connect()
    entering: Any = transport.__aenter__()
    own = worker_like(entering)
    stops = [stop_of(entering), stop_of(own)]
    own.close()
    entering.close()
    assert [stop.is_users for stop in stops] == [False, True]
    assert stops[1].place.endswith("in worker_like")
    assert stops[0].way != stops[1].way


async def worker_like(entering: Any) -> None:
    """Await something."""
    await entering


async def test_a_stop_within_a_generator_is_shown() -> None:
    """P7: a place within a context manager, or another object that is awaited, is told apart."""
    stops: list[Any] = []
    own = Visiting().visit()
    with suppress(StopIteration):
        while True:
            own.send(None)
            stops.append(stop_of(own))
    assert [stop.place.rpartition(" ")[2] for stop in stops] == ["room", "look", "room"]
    assert len({stop.way for stop in stops}) == 3


class Visiting:
    """Waits within generators, and for itself."""

    async def visit(self) -> None:
        """Wait at three places."""
        async with self.room():
            await self

    @asynccontextmanager
    async def room(self) -> AsyncGenerator[None]:
        """Wait at the beginning and in the end."""
        await Turn()
        yield
        await Turn()

    async def look(self) -> None:
        """Wait."""
        await Turn()

    def __await__(self) -> Generator[None]:
        return self.look().__await__()


class Turn:
    """Lets others run once."""

    def __await__(self) -> Any:
        return iter([None])


async def test_a_package_with_a_similar_name_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """P7: whose a line is does not depend on how the name of a folder begins."""
    monkeypatch.setattr("flexiflow.__path__", [str(Path("/srv/flexiflow"))])
    file = f"{Path('/srv/flexiflow_shop/orders.py')}"
    names: dict[str, Any] = {"Turn": Turn}
    exec(compile("async def order():\n    await Turn()", file, "exec"), names)  # noqa: S102
    own = names["order"]()
    own.send(None)
    assert stop_of(own)[1:] == (f"{file}:2, in order", True)
    own.close()


def test_the_first_points_are_those_of_new_lines() -> None:
    """P7: of many points, first those of the user's own lines, passed for the first time."""
    points = [
        Point(0, way, time, "", way == "own")
        for way in ("own", "other", "third", "fourth")
        for time in (1, 2)
    ]
    assert spread(points, None) == spread(points, 8) == points
    chosen = spread(points, 3)
    assert [(each.way, each.time) for each in chosen] == [
        ("own", 1),
        ("other", 1),
        ("third", 1),
    ]
    assert {(each.way, each.time) for each in spread(points, 5)} > {("own", 1), ("own", 2)}


class Starting:
    """Starts no processes."""

    def __init__(self) -> None:
        self.lives: list[Life] = []
        self.killed: list[int] = []

    def start(self, life: Life) -> int:
        """Note what should be started."""
        self.lives.append(life)
        return len(self.lives)

    def kill(self, number: int) -> None:
        """Note what should be killed."""
        self.killed.append(number)

    def tell(self, number: int, what: str) -> None:
        """Tell something as a process would."""
        life = self.lives[number - 1]
        journal = Journal(life.journal, life.worker)
        journal.tell(what, [])
        journal.close()


def test_a_killed_worker_is_started_once_more(tmp_path: Path) -> None:
    """P7: it is started again, has its time again, and is not killed again."""
    starting = Starting()
    plan = Plan(["one", "two"], "asyncio", time_limit=0.0)
    each = Round(plan, starting, tmp_path / "round", Point(1, NOWHERE, 1))
    assert [life.kill_at for life in starting.lives] == [None, (NOWHERE, 1)]
    starting.tell(2, KILLED)
    each.note_end(2, STATUS)
    assert [life.worker for life in starting.lives] == [0, 1, 1]
    each.note_time()
    each.note_time()
    assert (starting.killed, each.processes) == ([1, 3], {1: 0, 3: 1})
    each.note_end(1, -9)
    each.note_end(3, -9)
    assert str(each.problem()).endswith("after 0.0 seconds, 'one', 'two' had not ended")


def test_nothing_is_started_after_a_failure(tmp_path: Path) -> None:
    """P7: if one worker has failed, another that was killed then stays dead."""
    starting = Starting()
    plan = Plan(["one", "two"], "asyncio", time_limit=60.0)
    each = Round(plan, starting, tmp_path / "round", Point(1, NOWHERE, 1))
    each.note_end(1, 1)
    assert starting.killed == [2]
    starting.tell(2, KILLED)
    each.note_end(2, STATUS)
    assert (len(starting.lives), each.processes) == (2, {})
    assert str(each.problem()) == "the worker 'one' failed: its process ended, with 1"
    assert each.output() == ""


class Interrupted:
    """A pipe at which Ctrl-C is pressed."""

    def __init__(self, pipe: Any) -> None:
        self.close = pipe.close

    def recv(self) -> Any:
        """Wait for the scenario's import."""
        raise KeyboardInterrupt


def test_a_hatchery_that_is_interrupted_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """P7: Ctrl-C while the other process imports the scenario leaves no process behind."""
    before = set(multiprocessing.active_children())
    hatchery = Hatchery(pickle.dumps([idle]), "asyncio")
    monkeypatch.setattr(hatchery, "_pipe", Interrupted(vars(hatchery)["_pipe"]))
    with pytest.raises(KeyboardInterrupt), hatchery:
        pass
    assert set(multiprocessing.active_children()) == before


def test_the_end_of_a_hatchery_is_told(tmp_path: Path) -> None:
    """P7: if the process that starts the others was killed, that is said."""
    before = set(multiprocessing.active_children())
    with Hatchery(pickle.dumps([idle]), "asyncio") as hatchery:
        (process,) = set(multiprocessing.active_children()) - before
        process.kill()
        process.join()
        for ask in (
            partial(hatchery.wait, 60),
            partial(hatchery.start, make_life(tmp_path, "asyncio")),
            partial(hatchery.kill, 0),
        ):
            with pytest.raises(RuntimeError, match="the process that starts the workers has ended"):
                ask()


def test_a_hatchery_ends_what_it_started(tmp_path: Path) -> None:
    """P7: what still runs in the end is killed; to kill what has ended is no error."""
    with Hatchery(pickle.dumps([idle, hang]), "asyncio") as hatchery:
        ended = hatchery.start(make_life(tmp_path, "asyncio"))
        assert hatchery.wait(60) == (ended, 0)
        hatchery.kill(ended)
        life = make_life(tmp_path, "asyncio")
        hatchery.start(Life(1, *[getattr(life, name) for name in list(life.__slots__)[1:]]))
    told = (tmp_path / "journal").read_text().splitlines()
    assert [json.loads(line)[1] for line in told] == [ENDED]
