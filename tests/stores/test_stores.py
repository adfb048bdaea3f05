"""What the stores in memory and in SQLite have in common (K2)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from flexiflow import StateConflict
from flexiflow.extras.stores import (
    MemoryStateStore,
    SqliteStateStore,
    Stored,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
)
from flexiflow.testing import check_store
from tests.stores.stores import saved

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flexiflow.extras.stores import SqliteStateStore as Sqlite
    from flexiflow.extras.stores import StateStore

INFINITY = float("inf")


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Return what makes a store; those in SQLite have one file."""
    if request.param == "memory":
        return MemoryStateStore
    return partial(SqliteStateStore, tmp_path / "state.db")


@pytest.mark.measured
def test_a_store_keeps_the_contract(backend: str, tmp_path: Path) -> None:
    """K2: `check_store` finds nothing wrong with a store in memory or in a file."""
    files = iter(range(1_000))

    def in_file(beside: Sqlite | None = None) -> Sqlite:
        path = tmp_path / f"{next(files)}.db" if beside is None else beside.path
        return SqliteStateStore(path, history=1)

    check_store(partial(MemoryStateStore, history=1), backend=backend, examples=5, seed=1)
    check_store(in_file, backend=backend, examples=2, seed=1)


async def test_what_was_saved_is_loaded(make: Callable[..., StateStore]) -> None:
    """K2: what was saved is loaded: its version, state and data, and when it is due."""
    store = make()
    assert await store.load("a") is None
    first = await store.save("a", "new", None, expected=0)
    second = await store.save("a", "paid", {"n": (1,)}, expected=first, due=7)
    assert await store.load("a") == Stored(second, "paid", {"n": [1]}, 7.0)
    assert 0 < first < second


async def test_a_conflict_changes_nothing(make: Callable[..., Any]) -> None:
    """K2: neither the state, nor when it is due, nor what is kept of former versions."""
    store = make(history=1)
    [one] = await saved(store, "a", due=1.0)
    two = await store.save("a", "paid", None, expected=one, due=2.0)
    before = await store.versions("a")
    for name, expected, found in (("a", 0, two), ("a", one, two), ("a", two + 9, two), ("b", 1, 0)):
        with pytest.raises(StateConflict) as info:
            await store.save(name, "x", None, expected=expected, due=9.0)
        problem = info.value
        assert (problem.name, problem.expected, problem.found) == (name, expected, found)
    assert await store.versions("a") == before
    assert await store.due(9.0, 9) == ["a"]
    assert await store.due(1.0, 9) == []


async def test_a_version_is_never_given_twice(make: Callable[..., Any]) -> None:
    """K2: an engine that holds a version of before a delete overwrites nothing."""
    store = make()
    given = await saved(store, "a", "b")
    given.append(await store.save("a", "paid", None, expected=given[0]))
    await store.delete("a")
    again = await store.save("a", "new", None, expected=0)
    await store.delete("b")
    await store.delete("a")
    assert max(given) < again < await store.save("a", "new", None, expected=0)


async def test_of_many_that_race_one_wins(make: Callable[..., Any]) -> None:
    """K2: of many saves that replace one version, one succeeds; each other one is a conflict."""
    store, conflicts, won = make(), list[int](), list[int]()
    [version] = await saved(store, "a")

    async def save(number: int) -> None:
        try:
            won.append(await store.save("a", str(number), None, expected=version))
        except StateConflict as conflict:
            conflicts.append(conflict.found)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(save, number)
    assert conflicts == won * 19


async def test_what_is_due_comes_in_order(make: Callable[..., Any]) -> None:
    """K2: the earliest first, and of the same time by name; at most as many as wanted."""
    store = make()
    for name, due in (("c", 2.0), ("b", 1.0), ("a", 2.0), ("never", None), ("late", 9.0)):
        await store.save(name, "new", None, expected=0, due=due)
    assert await store.due(2.0, 9) == ["b", "a", "c"]
    assert await store.due(INFINITY, 2) == ["b", "a"]
    assert await store.due(0.5, 9) == await store.due(9, 0) == []


async def test_what_is_never_due_is_told_from_what_has_no_time(make: Callable[..., Any]) -> None:
    """K2: an infinite `due` is kept as it is, and never comes; the next save replaces it."""
    store = make(history=1)
    [one] = await saved(store, "a", due=INFINITY)
    assert await store.load("a") == Stored(one, "new", None, INFINITY)
    assert await store.due(INFINITY, 9) == []
    two = await store.save("a", "new", None, expected=one, due=1.0)
    assert await store.due(INFINITY, 9) == ["a"]
    await store.save("a", "new", None, expected=two, due=INFINITY)
    assert await store.due(INFINITY, 9) == []
    await store.delete("a")
    assert await store.load("a") is None


async def test_what_was_saved_without_a_time_is_due_no_more(make: Callable[..., Any]) -> None:
    """K2: the last save decides when a component is due; what was deleted is not due."""
    store = make()
    versions = await saved(store, "a", "b", "c", due=1.0)
    await store.save("a", "new", None, expected=versions[0])
    await store.save("b", "new", None, expected=versions[1], due=3.0)
    await store.delete("c")
    assert await store.due(9.0, 9) == ["b"]


async def test_former_versions_are_kept(make: Callable[..., Any]) -> None:
    """K2: as many as wanted, the newest first, until the component is deleted."""
    store, version = make(history=2), 0
    assert await store.versions("a") == []
    for number in range(5):
        version = await store.save("a", "new", {"n": number}, expected=version, due=number)
    found = await store.versions("a")
    assert [(each.data, each.due) for each in found] == [({"n": n}, float(n)) for n in (4, 3, 2)]
    assert (await store.load("a"), found[0].version) == (found[0], version)
    await store.delete("a")
    await saved(store, "a")
    assert len(await store.versions("a")) == 1


async def test_without_history_there_is_one_version(make: Callable[..., Any]) -> None:
    """K2: by default nothing former is kept."""
    store = make()
    [version] = await saved(store, "a")
    await store.save("a", "paid", None, expected=version)
    assert [each.state for each in await store.versions("a")] == ["paid"]


@pytest.mark.parametrize("history", [-1, True, 1.0, None, 10**12 + 1])
def test_a_history_that_is_none_is_refused(make: Callable[..., Any], history: Any) -> None:
    """K2: it is a number of versions."""
    with pytest.raises(ValueError, match="history must be an int, 0 to 1,000,000,000,000, not"):
        make(history=history)


async def test_bad_arguments_are_refused(make: Callable[..., Any]) -> None:
    """K2: before anything is done."""
    store, long = make(), "x" * 65_537
    calls: list[Callable[[], Any]] = [
        lambda: store.load(long),
        lambda: store.delete(long),
        lambda: store.versions(long),
        lambda: store.save(long, "new", None, expected=0),
        lambda: store.save("a", long, None, expected=0),
        lambda: store.save("a", "new", None, expected=-1),
        lambda: store.save("a", "new", None, expected=0, due=-INFINITY),
        lambda: store.save("a", "new", None, expected=0, due=float("nan")),
        lambda: store.save("a", "new", None, expected=0, due=10**400),
        lambda: store.save("a", "new", {"n": INFINITY}, expected=0),
        lambda: store.due(float("nan"), 1),
        lambda: store.due(1.0, -1),
    ]
    for call in calls:
        with pytest.raises(ValueError):  # noqa: PT011 - the messages are tested elsewhere
            await call()
    assert await store.load("a") is None


async def test_a_call_that_was_cancelled_before_it_began_does_nothing(
    make: Callable[..., Any],
) -> None:
    """K2: each call is a checkpoint."""
    store = make()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.save("a", "new", None, expected=0)
    assert scope.cancelled_caught
    await wait_all_tasks_blocked()
    assert await store.load("a") is None


def test_a_store_outlives_event_loops(make: Callable[..., Any], backend: str) -> None:
    """K2: one object is used in one loop after another, on any backend, without being entered."""
    store = make()

    async def save(name: str) -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(saved, store, f"{name}{number}")

    async def load() -> list[bool]:
        return [await store.load(f"{name}{n}") is not None for name in "abc" for n in range(5)]

    anyio.run(save, "a", backend=backend)
    anyio.run(save, "b", backend="asyncio")
    anyio.run(save, "c", backend=backend)
    assert anyio.run(load, backend=backend) == [True] * 15


def test_errors_name_the_place() -> None:
    """K2: they say where the store is, and whether trying again may help."""
    down, wrong = StoreUnavailable("state.db", "it is full"), StoreUnusable("state.db", "no file")
    assert (str(down), str(wrong)) == (
        "state.db is not available: it is full",
        "state.db can't be used: no file",
    )
    assert (down.address, down.reason) == ("state.db", "it is full")
    assert isinstance(down, ConnectionError)
    assert all(isinstance(each, StoreError) for each in (down, wrong))


async def test_a_repr_says_what_it_is(make: Callable[..., Any]) -> None:
    """K2: the file, or how much there is."""
    store = make()
    await saved(store, "a")
    assert repr(store) in {
        "<MemoryStateStore of 1 component>",
        f"<SqliteStateStore {getattr(store, 'path', None)!r}>",
    }
