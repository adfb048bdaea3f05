"""What programs for states that last or take time use: a store, functions that note their calls."""

from __future__ import annotations

import json
from contextlib import suppress
from inspect import unwrap
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import StateConflict
from flexiflow._stores import Stored
from flexiflow.testing._examiner.kit import Boom

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from flexiflow import Component, Engine
    from flexiflow.testing._examiner.kit import Factories

IDLE: Final = "name without subscriptions"
"""What a component must have to be unloaded: it subscribes to nothing itself."""
MARKED: Final = "subclasses with marked methods"
"""What `on` and `answers` are checked with: the factory is a subclass of `Component`."""


class Saved(NamedTuple):
    """A save that succeeded."""

    name: str
    state: str
    data: Mapping[str, Any] | None


class Shelf:
    """A store in memory.

    Attributes:
        stored: what is stored, by name.
        saves: what was saved, in order.
        fails: how the next save fails: "before" it has stored anything, or "after"; or None.
        gate: the event that each load waits for, or None.
    """

    def __init__(self) -> None:
        self.stored: dict[str, Stored] = {}
        self.saves: list[Saved] = []
        self.fails: str | None = None
        self.gate: anyio.Event | None = None

    def put(self, name: str, state: str, data: Mapping[str, Any] | None = None) -> None:
        """Store a state, as another process would."""
        self.stored[name] = Stored(self.version(name) + 1, state, data, None)

    def version(self, name: str) -> int:
        """Return the version that is stored; 0 if nothing is."""
        return self.stored[name].version if name in self.stored else 0

    def state(self, name: str) -> str | None:
        """Return the state that is stored, or None."""
        return self.stored[name].state if name in self.stored else None

    async def load(self, name: str) -> Stored | None:
        """Return what is stored of a component, or None."""
        await checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        return self.stored.get(name)

    async def save(
        self,
        name: str,
        state: str,
        data: Mapping[str, Any] | None,
        *,
        expected: int,
        due: float | None = None,
    ) -> int:
        """Store a component's state, and return the version."""
        await checkpoint()
        fails, self.fails = self.fails, None
        if fails == "before":
            raise Boom("nothing was stored")
        if self.version(name) != expected:
            raise StateConflict(name, expected, self.version(name))
        copied = json.loads(json.dumps(data))
        self.stored[name] = Stored(expected + 1, state, copied, due)
        self.saves.append(Saved(name, state, copied))
        await checkpoint()
        if fails == "after":
            raise Boom("the connection was lost")
        return expected + 1

    async def due(self, until: float, limit: int) -> list[str]:
        """Return the names of components that are due, the earliest first."""
        await checkpoint()
        times = {name: each.due for name, each in self.stored.items() if each.due is not None}
        return sorted((name for name in times if times[name] <= until), key=times.__getitem__)[
            :limit
        ]

    async def delete(self, name: str) -> None:
        """Forget a component."""
        await checkpoint()
        self.stored.pop(name, None)


# What a checker adds to a user's class has names that the user's own attributes don't have.


def hear(component: Any, data: object) -> None:
    """Note what is heard, as a method of a component with a list `checker_heard`."""
    component.checker_heard.append((component.name, data))


def answer(_: object, data: object) -> object:
    """Return what is asked, as a method of a component."""
    return data


def engine_over(new: Factories, shelf: Shelf, **options: Any) -> Engine | None:
    """Return an engine over a store, or None if engines take none."""
    with suppress(TypeError):
        engine: Engine = unwrap(new.engine)(store=shelf, **options)
        return engine
    return None


def can_run(engine: Engine) -> bool:
    """Return whether an engine has `running`."""
    return callable(getattr(engine, "running", None))


def counting(new: Factories) -> Callable[..., Any] | None:
    """Return a class of components whose snapshot is a count; None if the factory is no class."""
    kind: Any = unwrap(new.component)
    if not isinstance(kind, type):
        return None

    class Counting(kind):  # type: ignore[misc]
        count = 0

        def snapshot(self) -> Mapping[str, Any]:
            return {"count": self.count}

        def restore(self, data: Mapping[str, Any]) -> None:
            self.count = data["count"]

    return Counting


def count(_: object, component: Any) -> None:
    """Count, as an action of a component that `counting` has made."""
    component.count += 1


def noted(heard: list[Any], what: str, *, answer: object = None) -> Callable[..., Any]:
    """Return a guard, an action, an entry or an exit that notes its call, and the state then."""

    def note(_: object, component: Component) -> object:
        heard.append(f"{what} in {component.state}")
        return answer

    return note


def working(
    heard: list[Any], what: str = "work", *, cleans_up: float = 0
) -> Callable[[Component], Coroutine[Any, Any, None]]:
    """Return work that notes its beginning and its end, and takes some time to clean up."""

    async def work(_: Component) -> None:
        heard.append(f"{what} begins")
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(cleans_up)
            heard.append(f"{what} ends")

    return work


def failing_once(heard: list[Any], what: str, end: str) -> Callable[..., Any]:
    """Return what `noted` does, except that its first call ends by a failure or a cancellation."""
    calls: list[str] = []

    async def note(_: object, component: Component) -> None:
        heard.append(f"{what} in {component.state}")
        calls.append(what)
        if len(calls) == 1:
            if end == "a failure":
                raise Boom
            await anyio.sleep_forever()

    return note


async def loaded(engine: Engine, make: Callable[[str], Component], way: str) -> None:
    """Load "a", by registering what is made or by a message."""
    if way == "register":
        await engine.register(make("a"))
    else:
        await engine.send("a", {"type": "go"})


async def tried(engine: Engine, trigger: str) -> object:
    """Send a message to "a"; return the outcome, the type of a failure, or None after a second."""
    with anyio.move_on_after(1):
        try:
            return await engine.send("a", {"type": trigger})
        except Boom as error:
            return type(error)
    return None
