"""Components that do what their messages say, and an account of what they did."""

from collections.abc import Callable
from functools import partial
from typing import Any

from anyio import fail_after, from_thread, to_thread

from flexiflow import Component, Engine, EventBus, Outcome, StateMachine, Transition
from tests.accounting import Boom
from tests.helpers import PATIENCE
from tests.hosting import Diary, together


def machine(act: Any = None) -> StateMachine:
    """Make a machine with one state, where every message of the type "go" is a transition."""
    return StateMachine("on", [Transition("on", "go", "on", action=act)])


def message(n: object, **more: object) -> dict[str, Any]:
    """Make a message."""
    return {"type": "go", "n": n, **more}


class Stage:
    """An engine whose components do what their messages say, and what they did.

    A message's `do` is called, and awaited, in its action.
    """

    def __init__(self, *names: str, bus: EventBus | None = None) -> None:
        self.engine = Engine(bus=bus)
        self.diary = Diary()
        self.begun: list[object] = []
        self.ended: list[object] = []
        self.outcomes: list[Outcome] = []
        self._names = names or ("a",)

    async def set(self) -> "Stage":
        """Register the components."""
        for name in self._names:
            await self.engine.register(Component(name, machine=machine(self._act)))
        await self.diary.keep(self.engine.bus)
        return self

    async def send(self, name: str, n: object, **more: object) -> Outcome:
        """Send, and note the outcome."""
        outcome = await self.engine.send(name, message(n, **more))
        self.outcomes.append(outcome)
        return outcome

    def sending(self, name: str, n: object, **more: object) -> Callable[[], Any]:
        """Give what sends."""
        return partial(self.send, name, n, **more)

    async def is_usable(self) -> bool:
        """Tell whether every component takes a message, with nothing left to be done before."""
        self.begun.clear()
        with fail_after(PATIENCE):
            for name in self._names:
                await self.engine.send(name, message("last"))
        return self.begun == ["last"] * len(self._names)

    async def _act(self, message: dict[str, Any], component: Component) -> None:
        assert component.name in self._names
        self.begun.append(message["n"])
        if "do" in message:
            await message["do"]()
        self.ended.append(message["n"])


def fail_with(exception: BaseException) -> Callable[[], Any]:
    """Give what fails."""

    async def fail() -> None:
        raise exception

    return fail


def booms(number: int) -> list[Boom]:
    """Make failures that can be told apart."""
    return [Boom(str(each)) for each in range(number)]


async def by(way: str, send: Callable[[], Any]) -> None:
    """Send in a roundabout way."""
    if way == "child task":
        await together(send)
    elif way == "thread":
        await to_thread.run_sync(lambda: from_thread.run(send))
    elif way in ("publish", "concurrently"):
        bus = EventBus(delivery="sequential" if way == "publish" else "concurrent")
        await bus.subscribe("ask", "asker", lambda data: send())
        assert await bus.publish("ask") == ()
    else:
        await send()
