"""The desk: calls a store step by step, as engines do, and compares it with a model."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar, final

import anyio
from anyio.lowlevel import checkpoint

from flexiflow._errors import StateConflict
from flexiflow._text import safely
from flexiflow.testing._examiner.kit import claim
from flexiflow.testing._store.model import REFUSED, Held, Model, is_same

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from flexiflow._stores import StateStore

_T = TypeVar("_T")

_LATE = 3
"""How often a save is tried again after one that was cancelled, whose work may come late."""


@final
class Desk:
    """Does to a store what engines do.

    Args:
        stores: the store, and perhaps another one with the same data.
        history: where to note the calls.
    """

    def __init__(self, stores: list[Any], history: list[str]) -> None:
        self._stores: list[StateStore] = stores
        self._history = history
        self._model = Model()

    async def save(
        self, name: str, state: str, data: Any = None, due: float | None = None, by: int = 0
    ) -> None:
        """Save a component, which must succeed."""
        given, expected = deepcopy(data), self._model.expected(name)
        version = await self._call(
            f"save({name!r}, {state!r}, {data!r}, expected={expected}, due={due})",
            lambda: self._store(by).save(name, state, given, expected=expected, due=due),
        )
        # What is stored does not change with what was given.
        if given is not None:
            given["changed later"] = True
        self._model.save(name, Held(version, state, data, due))

    async def load(self, name: str, by: int = 0) -> None:
        """Load a component, and change what was loaded, which must change nothing else."""
        found = await self._call(f"load({name!r})", lambda: self._store(by).load(name))
        self._model.check(name, found)
        if found is not None and found.data is not None:
            data: Any = found.data
            data["changed"] = True

    async def conflict(self, name: str, away: int, by: int = 0) -> None:
        """Save a component, and expect a version that is not stored."""
        found = self._model.expected(name)
        expected = max(found + away, 0)
        if expected == found:
            expected = found + 1
        problem = await self._refusal(
            f"save({name!r}, 'refused', None, expected={expected})",
            lambda: self._store(by).save(name, "refused", None, expected=expected, due=0.0),
        )
        claim(
            isinstance(problem, StateConflict)
            and (problem.name, problem.expected, problem.found) == (name, expected, found),
            f"a save of {name!r} that expected version {expected} raised "
            f"{safely(repr, problem)}, and version {found} is stored: StateConflict, with name, "
            "expected and found, was due",
        )
        await self.load(name, by)

    async def refuse(self, name: str, what: str) -> None:
        """Save a snapshot that JSON does not hold."""
        data, kind = REFUSED[what]
        expected = self._model.expected(name)
        problem = await self._refusal(
            f"save({name!r}, 'refused', <{what}>, expected={expected})",
            lambda: self._store(0).save(name, "refused", data, expected=expected),
        )
        claim(
            isinstance(problem, kind),
            f"saving {what} raised {safely(repr, problem)}; {kind.__name__} was due",
        )
        await self.load(name)

    async def delete(self, name: str, by: int = 0) -> None:
        """Delete a component."""
        await self._call(f"delete({name!r})", lambda: self._store(by).delete(name))
        self._model.delete(name)
        await self.load(name)

    async def due(self, until: float, limit: int, by: int = 0) -> None:
        """Ask which components are due."""
        names = await self._call(
            f"due({until!r}, {limit})", lambda: self._store(by).due(until, limit)
        )
        self._model.check_due(names, until, limit)

    async def race(self, name: str, tasks: int) -> None:
        """Save a component by several tasks at once, of which one must succeed."""
        expected = self._model.expected(name)
        saved: list[Held] = []

        async def save(number: int) -> None:
            state = f"of task {number}"
            try:
                version = await self._store(number).save(name, state, None, expected=expected)
            except StateConflict:
                return
            saved.append(Held(version, state, None, None))

        self._history.append(f"{tasks} tasks save {name!r}, expected={expected}")
        await self._at_once(save, tasks)
        claim(
            len(saved) == 1,
            f"{len(saved)} of {tasks} tasks replaced version {expected} of {name!r}, not one",
        )
        self._model.save(name, saved[0])
        await self.load(name)

    async def together(self, names: tuple[str, ...]) -> None:
        """Save several components by a task each, beside one that is refused."""

        async def save(number: int) -> None:
            if number == len(names):
                await self.conflict("refused beside them", 1)
            else:
                await self.save(names[number], f"of task {number}", {"n": number}, by=number)

        await self._at_once(save, len(names) + 1)
        for each in names:
            await self.load(each)

    async def cancel(self, name: str, turns: int) -> None:
        """Cancel a save after some turns; it is done entirely, or not at all."""
        expected, given = self._model.expected(name), {"n": turns}

        async def save() -> None:
            await self._store(0).save(name, "cancelled", given, expected=expected, due=1.5)

        self._history.append(f"save({name!r}) is cancelled after {turns} turns")
        async with anyio.create_task_group() as group:
            group.start_soon(save)
            for _ in range(turns):
                await checkpoint()
            group.cancel_scope.cancel()
        for _ in range(_LATE):
            found = await self._store(0).load(name)
            version = 0 if found is None else found.version
            if version != expected:
                made = Held(version, "cancelled", given, 1.5)
                claim(
                    found is not None and is_same(made, found),
                    f"a save of {name!r} was cancelled, and load returned "
                    f"{safely(repr, found)}; before it was version {expected}, and "
                    f"{made} was to be saved",
                )
                self._model.save(name, made)
            else:
                self._model.check(name, found)
            try:
                await self.save(name, "after that")
            except StateConflict:
                continue
            return
        claim(holds=False, complaint=f"{name!r} can't be saved after a save that was cancelled")

    async def reopen(self) -> None:
        """Leave the store, if it can be entered, and enter it again."""
        store: Any = self._store(0)
        if hasattr(store, "__aenter__"):
            self._history.append("the store is entered twice, and left")
            async with store:
                pass

    async def versions(self, name: str) -> None:
        """Ask for the former versions of a component."""
        store: Any = self._store(0)
        found: Any = await self._call(f"versions({name!r})", lambda: store.versions(name))
        former = self._model.former.get(name, [])[::-1]
        claim(
            (len(found) > 0) == (len(former) > 0)
            and len(found) <= len(former)
            and all(map(is_same, former, found)),
            f"versions({name!r}) returned {safely(repr, found)}; the newest first, it "
            f"has had {former}",
        )

    async def finish(self) -> None:
        """Look at all that was saved."""
        for store in range(len(self._stores)):
            for name in self._model.last:
                await self.load(name, store)
            await self.due(1e10, 100, store)

    def _store(self, number: int) -> StateStore:
        return self._stores[number % len(self._stores)]

    async def _call(self, what: str, call: Callable[[], Awaitable[_T]]) -> _T:
        self._history.append(what)
        return await call()

    async def _refusal(
        self, what: str, call: Callable[[], Awaitable[object]]
    ) -> Exception | object:
        """Return what a call raises, or else what it returns."""
        try:
            return await self._call(what, call)
        except (StateConflict, TypeError, ValueError) as problem:
            return problem

    async def _at_once(self, act: Callable[[int], Awaitable[None]], tasks: int) -> None:
        problems: list[Exception] = []

        async def attempt(number: int) -> None:
            try:
                await act(number)
            except Exception as problem:  # noqa: BLE001 - the first one is raised
                problems.append(problem)

        async with anyio.create_task_group() as group:
            for number in range(tasks):
                group.start_soon(attempt, number)
        if problems:
            raise problems[0]


@asynccontextmanager
async def open_desk(
    factory: Callable[..., Any], history: list[str] | None = None, *, twice: bool = False
) -> AsyncGenerator[Desk]:
    """Make a store, enter it if it can be entered, and yield a desk for it.

    Args:
        factory: makes it.
        history: where to note the calls.
        twice: whether to make another one with the same data.
    """
    async with AsyncExitStack() as stack:
        stores = [await _enter_maker(stack, factory())]
        if twice:
            stores.append(await _enter_maker(stack, factory(beside=stores[0])))
        for each in stores:
            if hasattr(each, "__aenter__"):
                await stack.enter_async_context(each)
        yield Desk(stores, [] if history is None else history)


async def _enter_maker(stack: AsyncExitStack, made: Any) -> Any:
    """Return the store that a factory made, or that its context manager gives."""
    return made if hasattr(made, "load") else await stack.enter_async_context(made)
