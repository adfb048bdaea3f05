"""Components that are made, registered and unregistered by tasks that cross (C1, C2)."""

from __future__ import annotations

from collections import Counter
from itertools import cycle
from typing import TYPE_CHECKING, Literal, TypeAlias

from anyio import CancelScope, create_task_group
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from flexiflow import Component, ComponentError, Engine, Outcome, UnknownComponent, on
from flexiflow.events import COMPONENT_REGISTERED
from flexiflow.testing import replay

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = "abc"

Operation: TypeAlias = tuple[Literal["register", "unregister", "send"], str]
Fate: TypeAlias = Literal["made", "none", "raises"]

operations: st.SearchStrategy[Operation] = st.tuples(
    st.sampled_from(["register", "unregister", "send", "send"]), st.sampled_from(NAMES)
)
fates: st.SearchStrategy[Fate] = st.sampled_from(["made", "made", "none", "raises"])
turns = st.integers(0, 3)
schedules = st.lists(turns, max_size=30)


class Failed(Exception):
    """Raised by the factory."""


class Subscribed(Component):
    """A component with a subscription."""

    @on("tick")
    def hear(self, data: object) -> None:
        """Do nothing: the subscription is all that matters."""


class Hosting:
    """An engine with a factory that takes its time, sends a message itself, and fails at times.

    Attributes:
        asked: how often the factory was asked for each name.
        making: the names that it is being asked for.
    """

    def __init__(self, fates: Sequence[Fate], waits: Sequence[int], sends: str = "") -> None:
        self.engine = Engine(component_factory=self._make)
        self.asked = Counter[str]()
        self._fates = cycle(zip(fates, waits, strict=False))
        self._sends = cycle(sends or " ")
        self.making: set[str] = set()

    async def _make(self, name: str) -> Component | None:
        assert name not in self.making
        self.asked[name] += 1
        self.making.add(name)
        (fate, waits), other = next(self._fates), next(self._sends)
        try:
            await pause(waits)
            if other != " ":
                await self.perform("send", other)
        finally:
            self.making.remove(name)
        if fate == "raises":
            raise Failed
        return Subscribed(name) if fate == "made" else None

    async def perform(self, operation: str, name: str) -> type[Exception] | None:
        try:
            if operation == "register":
                await self.engine.register(Subscribed(name))
            elif operation == "unregister":
                await self.engine.unregister(name)
            else:
                assert await self.engine.send(name, {"type": "go"}) is Outcome.IGNORED
        except (ComponentError, Failed) as exc:
            return type(exc)
        return None

    def assert_whole(self) -> None:
        """Check that nobody waits, and that no component is half registered."""
        components = self.engine.components
        owners = [each.component_name for each in self.engine.bus.subscriptions()]
        assert sorted(owners) == sorted([*components, "slow"])
        assert not self.engine._pending
        for each in components.values():
            assert each._flexiflow_actor.mailbox.holder is None
            assert each._flexiflow_actor.host is self.engine


async def pause(turns: int) -> None:
    """Let others run for so many turns."""
    for _ in range(turns):
        await checkpoint()


@given(
    scripts=st.lists(st.lists(operations, min_size=1, max_size=4), min_size=2, max_size=5),
    fates=st.lists(fates, min_size=1),
    waits=st.lists(turns, min_size=1),
    sends=st.text([*NAMES, " "], max_size=4),
    cancelled=st.lists(st.integers(0, 8), max_size=3),
    schedule=schedules,
)
def test_tasks_that_cross_leave_nothing_half_done(
    backend: str,
    scripts: list[list[Operation]],
    fates: list[Fate],
    waits: list[int],
    sends: str,
    cancelled: list[int],
    schedule: list[int],
) -> None:
    """C1, C2: after any cancellation, no task waits for ever, and names can be used again."""

    async def scenario() -> None:
        hosting = Hosting(fates, waits, sends)
        await hosting.engine.bus.subscribe(COMPONENT_REGISTERED, "slow", lambda _: pause(1))
        scopes = [CancelScope() for _ in scripts]

        async def act(script: list[Operation], scope: CancelScope) -> None:
            with scope:
                for operation in script:
                    await hosting.perform(*operation)

        async with create_task_group() as group:
            for script, scope in zip(scripts, scopes, strict=True):
                group.start_soon(act, script, scope)
            for after, scope in zip(cancelled, scopes, strict=False):
                await pause(after)
                scope.cancel()
        hosting.assert_whole()
        for name in NAMES:
            await hosting.perform("unregister", name)
            assert [await hosting.perform(each, name) for each in ("register", "send")] == [
                None
            ] * 2

    replay(scenario, backend=backend, decisions=schedule)


@given(late=st.lists(turns, min_size=1, max_size=6), waits=turns, fate=fates, schedule=schedules)
def test_all_who_wait_share_what_comes_of_asking(
    backend: str, late: list[int], waits: int, fate: Fate, schedule: list[int]
) -> None:
    """C2: The factory is asked once however many ask, and what it raises, all of them get."""
    expected = {"made": None, "none": UnknownComponent, "raises": Failed}[fate]

    async def scenario() -> None:
        hosting, first = Hosting([fate], [waits]), 0

        async def ask(turns: int) -> None:
            nonlocal first
            await pause(turns)
            first += not hosting.making and "a" not in hosting.engine.components
            assert await hosting.perform("send", "a") is expected

        async with create_task_group() as group:
            for each in late:
                group.start_soon(ask, each)
        assert hosting.asked["a"] == first

    replay(scenario, backend=backend, decisions=schedule)
