"""What the tests of the bus share: handlers that note what happens, and ways to watch them."""

import gc
import sys
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, final

import pytest
from anyio import (
    CancelScope,
    Event,
    create_task_group,
    fail_after,
    wait_all_tasks_blocked,
)
from anyio.lowlevel import checkpoint

from flexiflow import EventBus
from flexiflow._bus import DeliveryMode
from tests.conftest import BACKENDS

MODES: tuple[DeliveryMode, ...] = ("sequential", "concurrent", "tiered")
PATIENCE = 60
"""Seconds after which a test that waits has failed; a busy machine may stand still for many."""


def noting(notes: list[str], name: str) -> Callable[[object], None]:
    """Make a sync handler that notes its name."""

    def handler(data: object) -> None:
        notes.append(name)

    return handler


def noting_async(notes: list[str], name: str) -> Callable[[object], Coroutine[Any, Any, None]]:
    """Make an async handler that notes its name, and waits for a turn of the scheduler."""

    async def handler(data: object) -> None:
        notes.append(name)
        await checkpoint()

    return handler


def never(*arguments: object) -> NoReturn:
    """Fail the test that starts this handler, or asks this filter."""
    # No Exception: a bus would report one as the handler's failure, and go on.
    pytest.fail(f"started with {arguments}")


class Refusal(Exception):
    """Let out by the filters of these tests."""


class Later:
    """An awaitable that is no coroutine."""

    def __init__(self, note: Callable[[object], None], data: object) -> None:
        self._note = note
        self._data = data

    async def _run(self) -> None:
        await checkpoint()
        self._note(self._data)

    def __await__(self) -> Generator[Any, Any, None]:
        return self._run().__await__()


def accept(event_name: str, data: object) -> bool:
    """Let everything through, as a filter."""
    return True


def refuse(event_name: str, data: object) -> NoReturn:
    """Fail as a filter."""
    raise Refusal(event_name, data)


async def follow(bus: EventBus, *names: str, event: str = "a", **options: Any) -> list[str]:
    """Subscribe handlers that note their names, every other one async."""
    notes: list[str] = []
    for place, name in enumerate(names):
        make = (noting, noting_async)[place % 2]
        await bus.subscribe(event, "c", make(notes, name), **options)
    return notes


def run_at_once(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run to its end what doesn't wait, from within sync code."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError(coroutine)


async def settle() -> None:
    """Wait until every other task waits."""
    # On asyncio the wait alone looks again only after 0.1 seconds if something moves at first.
    for _ in range(30):
        await checkpoint()
    await wait_all_tasks_blocked()


def by_turns(cases: Iterable[Any]) -> list[Any]:
    """Pair each case with the name of one backend, alternately.

    This is for tests that wait for real time, or that try what hardly depends on the backend.

    Args:
        cases: arguments of `parametrize`, which may be results of `pytest.param`.
    """
    names = sorted({name for name, _ in BACKENDS.values()})
    given = (case if hasattr(case, "marks") else pytest.param(case) for case in cases)
    turns = ((case, names[number % len(names)]) for number, case in enumerate(given))
    return [
        pytest.param(*case.values, name, id=case.id and f"{case.id}-{name}", marks=case.marks)
        for case, name in turns
    ]


@final
class Stage:
    """Handlers that wait until they are let go.

    Attributes:
        began: the handlers that were started, in that order.
        ended: those that have ended, their cleanup included, in that order.
    """

    def __init__(self) -> None:
        self.began: list[str] = []
        self.ended: list[str] = []
        self._gates: dict[str, Event] = {}

    def waiter(self, name: str) -> Callable[[object], Coroutine[Any, Any, None]]:
        """Make a handler that waits to be let go, and then still cleans up."""

        async def handler(data: object) -> None:
            self.began.append(name)
            gate = self._gates[name] = Event()
            try:
                await gate.wait()
            finally:
                with CancelScope(shield=True):
                    await checkpoint()
                    await checkpoint()
                self._gates.pop(name)
                self.ended.append(name)

        return handler

    def let_go(self, *names: str) -> None:
        """Let these go on, or all that wait."""
        for name in names or self.waiting():
            self._gates[name].set()

    def waiting(self) -> list[str]:
        """Tell who waits, in the order of starting."""
        return [*self._gates]

    async def rounds(self, publish: Callable[[], Coroutine[Any, Any, object]]) -> list[list[str]]:
        """Run a publish; whenever nothing moves, note who waits and let them go."""
        rounds: list[list[str]] = []
        with fail_after(PATIENCE):
            async with create_task_group() as group:
                group.start_soon(publish)
                await settle()
                while waiting := self.waiting():
                    rounds.append(waiting)
                    self.let_go()
                    await settle()
        return rounds


async def staged(bus: EventBus, *priorities: int) -> Stage:
    """Subscribe handlers that wait, called "0", "1" ..., to the event "a"."""
    stage = Stage()
    for place, priority in enumerate(priorities):
        await bus.subscribe("a", "c", stage.waiter(str(place)), priority=priority)
    return stage


@final
class Trace:
    """What ran inside `tracing`.

    Attributes:
        lines: how many lines of code, loops counted in full.
        functions: the qualified names of the functions.
    """

    def __init__(self) -> None:
        self.lines = 0
        self.functions: set[str] = set()

    def __call__(self, frame: FrameType, event: str, argument: object) -> "Trace":
        self.lines += 1
        self.functions.add(frame.f_code.co_qualname)
        return self


@contextmanager
def tracing() -> Generator[Trace]:
    """Count what code runs inside: a cost that is the same on every machine."""
    trace = Trace()
    before, collects = sys.gettrace(), gc.isenabled()
    # Hypothesis, once used, has code of its own run by each collection.
    gc.disable()
    sys.settrace(trace)
    try:
        yield trace
    finally:
        sys.settrace(before)
        if collects:
            gc.enable()
