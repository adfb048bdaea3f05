"""Components to send to, and what is told of them."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from itertools import pairwise
from typing import Any, Self, TypeVar, final

from anyio import CancelScope, Event, create_task_group, fail_after, get_cancelled_exc_class
from anyio.lowlevel import checkpoint

from flexiflow import Component, Engine, EventBus, StateMachine, Transition, on
from flexiflow._machine import Action, Guard
from flexiflow.events import (
    COMPONENT_REGISTERED,
    HANDLER_FAILED,
    MESSAGE_RECEIVED,
    STATE_CHANGED,
)
from flexiflow.testing import replay
from tests.conftest import Backend
from tests.helpers import PATIENCE

GO = {"type": "go"}

_T = TypeVar("_T")


def switch(guard: Guard | None = None, action: Action | None = None) -> StateMachine:
    """Make a machine that goes from off to on and back."""
    return StateMachine(
        "off",
        [
            Transition("off", "go", "on", guard=guard, action=action),
            Transition("on", "go", "off", guard=guard, action=action),
        ],
    )


@final
class Diary:
    """What a bus tells of its components, in order and in short."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failures: list[BaseException] = []

    async def keep(self, bus: EventBus) -> Self:
        """Write down the built-in events of a bus, before any other observer hears them."""
        for event, note in {
            COMPONENT_REGISTERED: self._registered,
            MESSAGE_RECEIVED: self._received,
            STATE_CHANGED: self._changed,
            HANDLER_FAILED: self._failed,
        }.items():
            await bus.subscribe(event, "diary", note, priority=1)
        return self

    def write(self, line: str) -> None:
        """Write a line of one's own."""
        self.lines.append(line)

    def changes(self, name: str) -> list[tuple[str, str]]:
        """Give the states that a component went from and to."""
        words = [line.split() for line in self.lines]
        return [(said[1], said[2]) for said in words if said[0] == name and len(said) == 3]

    def is_chained(self, name: str) -> bool:
        """Tell whether each transition of a component began where the one before ended."""
        changes = self.changes(name)
        return all(before[1] == after[0] for before, after in pairwise(changes))

    def since_registered(self, name: str) -> Self:
        """Give what is told since a component was registered for the last time."""
        last = max(n for n, line in enumerate(self.lines) if line == f"{name} registered")
        since = type(self)()
        since.lines = self.lines[last:]
        return since

    def _registered(self, data: Any) -> None:
        self.lines.append(f"{data['component']} registered")

    def _received(self, data: Any) -> None:
        self.lines.append(f"{data['component']} {data['message']['type']}")

    def _changed(self, data: Any) -> None:
        self.lines.append(f"{data['component']} {data['from_state']} {data['to_state']}")

    def _failed(self, data: Any) -> None:
        self.failures.append(data["exception"])
        self.lines.append(f"{data['component_name']} failed on {data['event_name']}")


@final
class Gate:
    """A guard, action, factory or handler that waits until it is let through."""

    def __init__(self, result: object = None) -> None:
        self.reached = Event()
        self.open = Event()
        self.passed = False
        self._result = result

    async def __call__(self, *_: object) -> Any:
        """Wait."""
        self.reached.set()
        await self.open.wait()
        self.passed = True
        return self._result


def run_clocked(scenario: Callable[[], Coroutine[Any, Any, _T]], backend: str) -> _T:
    """Run a scenario in virtual time, and return its result."""
    return replay(scenario, backend=backend, decisions=())


async def cancelled_at(
    reached: Event, function: Callable[..., Coroutine[Any, Any, object]], *given: object
) -> None:
    """Run a function, and cancel it when an event is set within it."""
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            group.start_soon(function, *given)
            await reached.wait()
            group.cancel_scope.cancel()


async def together(*functions: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Run functions at the same time, started one after another."""
    with fail_after(PATIENCE):
        async with create_task_group() as group:
            for function in functions:
                group.start_soon(function)
                # On trio those started at once would begin in any order.
                await checkpoint()


def making(make: Callable[[str], Any], *, asynchronous: bool = False) -> Callable[[str], Any]:
    """Give a factory, async if told so."""

    async def make_later(name: str) -> Any:
        await checkpoint()
        return make(name)

    return make_later if asynchronous else make


async def others_run() -> None:
    """Let every task that is ready run, up to its next wait."""
    # After one checkpoint, trio may still have them in the batch that it is in the middle of.
    await checkpoint()
    await checkpoint()


async def open_each(*gates: Gate) -> None:
    """Open gates, each when everything has come as far as it can."""
    for gate in gates:
        await others_run()
        gate.open.set()


class Lamp(Component):
    """A component with a subscription and a machine."""

    def __init__(self, name: str, *, machine: StateMachine | None = None) -> None:
        super().__init__(name, machine=switch() if machine is None else machine)

    @on("switch.pressed")
    async def press(self, data: Any) -> None:
        """Be switched."""


@final
class Maker:
    """A factory that keeps what it made."""

    def __init__(self) -> None:
        self.made: list[Lamp] = []

    def __call__(self, name: str) -> Component:
        """Make a lamp."""
        self.made.append(Lamp(name))
        return self.made[-1]


def styles(backend: Backend) -> list[str]:
    """Say how a task can be cancelled on this backend."""
    return ["scope", "native"] if backend[0] == "asyncio" else ["scope"]


def owners(engine: Engine) -> list[str]:
    """Say who has subscriptions, beside the tests themselves."""
    names = [each.component_name for each in engine.bus.subscriptions()]
    return [name for name in names if name not in ("diary", "observer")]


def is_idle(engine: Engine) -> bool:
    """Tell whether nobody waits for anything."""
    mailboxes = [component._flexiflow_actor.mailbox for component in engine.components.values()]
    return not engine._pending and all(each.holder is None for each in mailboxes)


def sender(engine: Engine, name: str, results: list[object], **more: object) -> Callable[[], Any]:
    """Give a function that sends, and notes the outcome or the exception."""

    async def send() -> None:
        try:
            results.append(await engine.send(name, GO | more))
        except Exception as exc:  # noqa: BLE001  it is noted
            results.append(exc)

    return send


async def note_after_a_checkpoint(
    seen: list[int], message: dict[str, Any], component: Component
) -> None:
    """Note the number of a message, where a faster one could overtake it."""
    await checkpoint()
    seen.append(message["n"])


@final
class Victim:
    """Runs something in a scope of its own, and cancels it at one of the places where it waits.

    Args:
        style: "scope", or on asyncio "native".
        place: the number of the wait in which it is cancelled, from 1; 0 is never.
    """

    def __init__(self, style: str, place: int = 0) -> None:
        self.waits = 0
        self.was_cancelled = False
        self.error: Exception | None = None
        self._style = style
        self._place = place
        self._scope = CancelScope()
        self._task: asyncio.Task[Any] | None = None

    def cancel(self) -> None:
        """Cancel it now."""
        if self._task is None:
            self._scope.cancel()
        else:
            self._task.cancel()

    async def run(self, function: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run it, and note how it ended."""
        if self._style == "native":
            self._task = asyncio.current_task()
        with self._scope, self:
            await stepping(function(), self._count)

    def __enter__(self) -> None:
        """Begin; the end is noted."""

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> bool:
        """Let nothing out but the scope's own cancellation."""
        self.was_cancelled = isinstance(exc, get_cancelled_exc_class())
        self.error = exc if isinstance(exc, Exception) else None
        return self.error is not None or (self.was_cancelled and self._task is not None)

    def running(
        self, function: Callable[[], Coroutine[Any, Any, object]]
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        """Give what runs it, for `together`."""
        return partial(self.run, function)

    def _count(self) -> None:
        self.waits += 1
        if self.waits == self._place:
            self.cancel()


def stepping(coroutine: Coroutine[Any, Any, _T], before_wait: Callable[[], None]) -> Awaitable[_T]:
    """Await a coroutine, with a call before each of its waits."""
    return _Steps(coroutine, before_wait)


@final
class _Steps(Generator[Any, Any, _T]):
    def __init__(self, coroutine: Coroutine[Any, Any, _T], before_wait: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._before_wait = before_wait

    def __await__(self) -> Self:
        return self

    def send(self, answer: Any, /) -> Any:
        return self._wait(self._coroutine.send(answer))

    def throw(self, *exception: Any) -> Any:
        return self._wait(self._coroutine.throw(*exception))

    def _wait(self, waiting: Any) -> Any:
        self._before_wait()
        return waiting
