"""Components whose states take time, and an account of what their parts did (M1 to M4)."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, final

from anyio import CancelScope, Event, sleep_forever
from anyio.lowlevel import checkpoint

from flexiflow import Component, Engine, State, StateMachine, Transition
from tests.hosting import Diary
from tests.stores.keeping import DictStore

PARTS = ("guard", "exit", "action", "entry", "save")
"""What a transition calls, in order."""


@final
class Scene:
    """An engine with a component that has every part, and what the parts did, in order.

    The component "a" goes from "left" to "entered" on "go"; from "left" to itself on "again"; on
    "note" an internal transition is taken.  Both states have work and a timer.

    Args:
        asynchronous: whether the parts are async, with a checkpoint before and after their note.
        stored: whether there is a store.

    Attributes:
        blows: what a part raises, by its name.
        work: called by the work of both states, which it then ends with what that returns; by
            default it waits for ever.
    """

    def __init__(self, *, asynchronous: bool = True, stored: bool = True) -> None:
        self.diary = Diary()
        self.lines = self.diary.lines
        self.blows: dict[str, BaseException] = {}
        self.work: Callable[[], Coroutine[Any, Any, object]] = sleep_forever
        self.store = DictStore()
        self.store.before["save"] = partial(self._note_later, "save")
        part = self._async_part if asynchronous else self._sync_part
        guard, action = part("guard"), part("action")
        self.machine = StateMachine(
            "left",
            [
                Transition("left", "go", "entered", guard=guard, action=action),
                Transition("left", "again", "left", guard=guard, action=action),
                Transition("*", "note", None, guard=guard, action=action),
                Transition("entered", "back", "left"),
                Transition(["left", "entered"], "late", "over"),
            ],
            states=[self._state(name, part) for name in ("left", "entered")]
            + [State("over", final=True, entry=part("entry"))],
        )
        self.engine = Engine(store=self.store if stored else None)
        self.component = Component("a", machine=self.machine)

    async def set(self) -> None:
        """Register the component, and begin the account."""
        await self.engine.register(self.component)
        await self.diary.keep(self.engine.bus)

    def take_lines(self) -> list[str]:
        """Give the account since the last call."""
        taken = self.lines[:]
        self.lines.clear()
        return taken

    def _state(self, name: str, part: Callable[[str], Any]) -> State:
        return State(
            name,
            entry=part("entry"),
            exit=part("exit"),
            after=(60, "late"),
            during=partial(self._during, name),
        )

    def _sync_part(self, name: str) -> Any:
        def act(message: object, component: object) -> bool:
            return self._note(name)

        return act

    def _async_part(self, name: str) -> Any:
        async def act(message: object, component: object) -> bool:
            return await self._note_later(name)

        return act

    async def _note_later(self, name: str) -> bool:
        await checkpoint()
        self._note(name)
        await checkpoint()
        return True

    def _note(self, name: str) -> bool:
        self.lines.append(name)
        if name in self.blows:
            raise self.blows[name]
        return True

    async def _during(self, name: str, component: Component) -> object:
        assert component is self.component
        self.lines.append(f"work of {name} begins")
        try:
            return await self.work()
        finally:
            with CancelScope(shield=True):
                await checkpoint()
            self.lines.append(f"work of {name} ends")


@final
class Worker:
    """A component with work in its first state, and what became of it.

    "busy" is its first state; "stop" leads to "idle", "go" back. What the work sends leads to
    "done" or "failed" if `told`.

    Args:
        during: what the work does, given the component.
    """

    def __init__(
        self,
        engine: Engine,
        during: Callable[[Any], Coroutine[Any, Any, object]],
        *,
        name: str = "a",
        told: bool = False,
        after: tuple[float, str] | None = None,
        act: Callable[[dict[str, Any], Any], object] | None = None,
    ) -> None:
        self.engine = engine
        self.messages: list[dict[str, Any]] = []
        done, failed = ("done", "failed") if told else (None, None)
        rows = [
            Transition("busy", "stop", "idle", action=act),
            Transition("busy", "again", "busy", action=act),
            Transition("idle", "go", "busy", action=act),
            Transition("*", "note", None, action=self._note if act is None else act),
            Transition("*", "done", "over", action=self._note),
            Transition("*", "failed", "over", action=self._note),
            Transition("over", "go", "busy"),
        ]
        state = State("busy", during=during, after=after, done=done, failed=failed)
        machine = StateMachine("busy", rows, states=[state])
        self.component = Component(name, machine=machine)

    async def register(self) -> "Worker":
        """Register it."""
        await self.engine.register(self.component)
        return self

    def numbers(self) -> list[object]:
        """Give the numbers of the messages that were handled."""
        return [message.get("n") for message in self.messages]

    async def send(self, trigger: str, **more: object) -> object:
        """Send to it."""
        return await self.engine.send(self.component.name, {"type": trigger, **more})

    def _note(self, message: dict[str, Any], _: object) -> None:
        self.messages.append(message)


@final
class Shielded:
    """Work that waits, and when it is cancelled waits in a shield for what it is given.

    Attributes:
        began: set when the work has begun.
        outcome: what was returned.
    """

    def __init__(self, finish: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self.began = Event()
        self.outcome: object = None
        self._finish = finish

    async def __call__(self, component: object) -> None:
        """Work."""
        self.began.set()
        try:
            await sleep_forever()
        finally:
            with CancelScope(shield=True):
                self.outcome = await self._finish()
