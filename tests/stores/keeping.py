"""A store in memory whose calls can be made to fail, and components to keep in it."""

import json
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn, final

from anyio import Event, sleep_forever
from anyio.lowlevel import checkpoint

from flexiflow import Component, Engine, StateConflict, StateMachine, Transition
from flexiflow._stores import Stored
from tests.hosting import GO

STAY = {"type": "stay"}

Hook = Callable[[], Awaitable[object]]


class Down(Exception):
    """Raised by a store that can't be reached."""


async def down() -> NoReturn:
    """Fail as a store that can't be reached."""
    raise Down


def once(hook: Hook) -> Hook:
    """Make a hook that does something at its first call alone."""
    hooks = [hook]

    async def first() -> None:
        if hooks:
            await hooks.pop()()

    return first


@final
class Hang:
    """A hook that never ends; `reached` tells when it was called."""

    def __init__(self) -> None:
        self.reached = Event()

    async def __call__(self) -> None:
        """Wait for ever."""
        self.reached.set()
        await sleep_forever()


@final
class DictStore:
    """Keeps components in a dict, and counts its calls.

    Attributes:
        kept: what is stored, by name.
        calls: how often each method was called.
        saved: the states that were saved, each with its component's name, in order.
        history: what was saved with them.
        before: called by the method of that name before it does anything.
        after: called by the method of that name when it has done its work.
    """

    def __init__(self) -> None:
        self.kept: dict[str, Stored] = {}
        self.calls: Counter[str] = Counter()
        self.saved: list[tuple[str, str]] = []
        self.history: list[Any] = []
        self.before: dict[str, Hook] = {}
        self.after: dict[str, Hook] = {}
        self._version = 0

    def put(
        self, name: str, state: str, data: Mapping[str, Any] | None = None, due: float | None = None
    ) -> None:
        """Store something, as another process does it."""
        self._version += 1
        data = None if data is None else json.loads(json.dumps(data))
        self.kept[name] = Stored(self._version, state, data, due)

    def state(self, name: str) -> str | None:
        """Return the state that is stored."""
        return self.kept[name].state if name in self.kept else None

    async def load(self, name: str) -> Stored | None:
        """Return what is stored."""
        await self._begin("load")
        stored = self.kept.get(name)
        await self._end("load")
        return stored

    async def save(
        self,
        name: str,
        state: str,
        data: Mapping[str, Any] | None,
        *,
        expected: int,
        due: float | None = None,
    ) -> int:
        """Store a component."""
        await self._begin("save")
        found = self.kept[name].version if name in self.kept else 0
        if found != expected:
            raise StateConflict(name, expected, found)
        self.put(name, state, data, due)
        self.saved.append((name, state))
        self.history.append(self.kept[name].data)
        version = self._version
        await self._end("save")
        return version

    async def due(self, until: float, limit: int) -> list[str]:
        """Return what is due."""
        await self._begin("due")
        times = [(kept.due, name) for name, kept in self.kept.items() if kept.due is not None]
        await self._end("due")
        return [name for due, name in sorted(times) if due <= until and due < math.inf][:limit]

    async def delete(self, name: str) -> None:
        """Forget a component."""
        await self._begin("delete")
        self.kept.pop(name, None)
        await self._end("delete")

    async def _begin(self, method: str) -> None:
        self.calls[method] += 1
        await checkpoint()
        if (hook := self.before.get(method)) is not None:
            await hook()

    async def _end(self, method: str) -> None:
        if (hook := self.after.get(method)) is not None:
            await hook()
        await checkpoint()


def count(message: object, component: Any) -> None:
    """Count a transition, as an action."""
    component.n += 1


def cycle(action: Any = count, guard: Any = None) -> StateMachine:
    """Make a machine that goes from a to b, c and a; "stay" is an internal transition."""
    return StateMachine(
        "a",
        [
            *(Transition(*row, action=action, guard=guard) for row in ROWS),
            Transition("*", "stay", None, action=action),
        ],
    )


ROWS = (("a", "go", "b"), ("b", "go", "c"), ("c", "go", "a"))
CYCLE = cycle()


class Tally(Component):
    """A component that counts its transitions, and has the count stored."""

    def __init__(
        self, name: str, *, machine: StateMachine | None = CYCLE, state: str | None = None
    ) -> None:
        super().__init__(name, machine=machine, state=state)
        self.n = 0
        self.unsaved = 0

    def snapshot(self) -> Mapping[str, Any] | None:
        """Return the count."""
        return {"n": self.n}

    def restore(self, data: Mapping[str, Any], /) -> None:
        """Take the count over."""
        self.n = data["n"]


def tallies(machine: StateMachine) -> Callable[[str], Component]:
    """Make a factory of components with a machine."""
    return lambda name: Tally(name, machine=machine)


def hosting(store: DictStore, machine: StateMachine = CYCLE, **options: Any) -> Engine:
    """Make an engine over a store, which makes components with a machine."""
    return Engine(component_factory=tallies(machine), store=store, **options)


async def send_go(engine: Engine, name: str = "t") -> object:
    """Send, and return the outcome or the exception."""
    try:
        return await engine.send(name, GO)
    except Exception as exc:  # noqa: BLE001  the test looks at it
        return exc
