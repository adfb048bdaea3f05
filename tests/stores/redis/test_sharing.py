"""One store used by many tasks: K2, K3."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import (
    CancelScope,
    Event,
    create_task_group,
    to_thread,
    wait_all_tasks_blocked,
)

from flexiflow import Engine
from flexiflow.extras._redis.replies import Broken
from flexiflow.extras.stores import RedisStateStore, StoreUnavailable, StoreUnusable
from flexiflow.extras.stores._redis import batches, session
from flexiflow.extras.stores._redis.batches import Batches
from tests.attacks import on_asyncio
from tests.conftest import BACKENDS
from tests.stores.redis.keys import Keys

if TYPE_CHECKING:
    from flexiflow.extras.stores import Stored
    from flexiflow.extras.stores._redis.batches import Problem


async def test_saves_of_many_tasks_share_round_trips(frail: Keys) -> None:
    """K2: when many tasks save, the store sends far fewer scripts than there are saves."""
    async with frail.store() as store, create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(partial(store.save, f"a{number}", "new", None, expected=0))
    assert frail.calls("hset") == 100
    assert frail.calls("evalsha") < 5


async def test_a_script_that_the_server_has_forgotten_is_sent_again(keys: Keys) -> None:
    """K2: a script that the server has forgotten is sent again, and each save is done once."""
    async with keys.store() as store:
        version = await store.save("a", "new", None, expected=0)
        keys.server.command("SCRIPT", "FLUSH")
        version = await store.save("a", "paid", None, expected=version)
        keys.server.command("SCRIPT", "FLUSH")
        await store.delete("a")
        assert await store.load("a") is None


async def test_loads_of_many_tasks_share_round_trips(
    frail: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K2: an answer ends after so many bytes, and what is left is asked for anew."""
    monkeypatch.setattr(session, "_SLICE", 1_000)
    found: dict[str, Stored | None] = {}
    async with frail.store() as store:
        for number in range(10):
            await store.save(f"a{number}", "new", {"n": "x" * 90 * number}, expected=0)
        frail.server.command("CONFIG", "RESETSTAT")

        async def load(name: str) -> None:
            found[name] = await store.load(name)

        async with create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(load, f"a{number}")
    assert frail.calls("hmget") == 20
    assert 2 < frail.calls("evalsha") + frail.calls("eval") < 10
    for number in range(20):
        stored = found[f"a{number}"]
        assert (stored and stored.data) == ({"n": "x" * 90 * number} if number < 10 else None)


@pytest.mark.parametrize("name", ["load", "save", "due", "delete", "versions"])
async def test_a_store_that_is_not_open_says_how_to_open_it(keys: Keys, name: str) -> None:
    """K2: before it is opened, and after it was closed, a call says how to open the store."""
    store = keys.store()
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "load": partial(store.load, "a"),
        "save": partial(store.save, "a", "new", None, expected=0),
        "due": partial(store.due, 1.0, 1),
        "delete": partial(store.delete, "a"),
        "versions": partial(store.versions, "a"),
    }
    with pytest.raises(StoreUnavailable, match="/0 is not available: it is not open: use"):
        await calls[name]()
    async with store:
        await calls[name]()
    with pytest.raises(StoreUnavailable, match=r"/0 is not available: .*not open"):
        await calls[name]()


async def test_the_last_exit_closes_it(keys: Keys) -> None:
    """K2: the last exit closes a store that was entered several times; it may be opened again."""
    store = keys.store()
    for _ in range(2):
        async with store:
            async with store as inner, inner:
                assert inner is store
                await store.load("a")
            await store.load("a")
        with pytest.raises(StoreUnavailable, match=r"/0 is not available: .*not open"):
            await store.load("a")


def test_it_serves_one_run_after_another(keys: Keys) -> None:
    """K2: a store serves one event loop after another, also of another kind."""
    store = keys.store()

    async def use() -> int:
        async with store:
            found = await store.load("a")
            return await store.save("a", "new", None, expected=found.version if found else 0)

    runs = [anyio.run(use, backend=each[0], backend_options=each[1]) for each in BACKENDS.values()]
    runs += [anyio.run(use) for _ in range(2)]
    assert runs == sorted(set(runs))


async def test_tasks_that_enter_at_the_same_time_share_it(frail: Keys) -> None:
    """K2: tasks that enter the store at the same time share one connection."""
    store = frail.store()
    names = [f"a{number}" for number in range(5)]

    async def use(name: str) -> None:
        async with store:
            await store.save(name, "new", None, expected=0)

    async with create_task_group() as tasks:
        for name in names:
            tasks.start_soon(use, name)
    assert frail.calls("hello") == 1
    async with store:
        assert all([await store.load(name) for name in names])


async def test_the_task_that_opened_it_waits_until_the_others_have_left(keys: Keys) -> None:
    """K2: the task that opened the store leaves its block after the others have left theirs."""
    store, order = keys.store(), list[str]()
    opened, visited = Event(), Event()

    async def visit() -> None:
        await opened.wait()
        async with store:
            visited.set()
            await wait_all_tasks_blocked()
            await store.load("a")
            order.append("visitor")
        async with store:
            await store.load("a")

    async with create_task_group() as tasks:
        tasks.start_soon(visit)
        async with store:
            opened.set()
            await visited.wait()
        order.append("owner")
    assert order == ["visitor", "owner"]


async def raise_in(_scope: CancelScope) -> None:
    """Leave a block by an exception."""
    raise LookupError("mine")


async def cancel_in(scope: CancelScope) -> None:
    """Leave a block by a cancellation."""
    scope.cancel()
    await anyio.sleep_forever()


@pytest.mark.parametrize("leave", [raise_in, cancel_in])
async def test_where_an_exception_leaves_it_nobody_is_waited_for(
    keys: Keys, leave: Callable[[CancelScope], Awaitable[None]]
) -> None:
    """K2: the others are told; so the exception comes out, and can end them."""
    store, opened, visited, closed = keys.store(), Event(), Event(), Event()

    async def visit() -> None:
        await opened.wait()
        async with store:
            visited.set()
            await closed.wait()
            with pytest.raises(StoreUnavailable, match=r"/0 is not available: .*not open"):
                await store.load("a")
            # It is opened anew, though this task is still inside of the former block.
            async with store:
                await store.load("a")

    async with create_task_group() as tasks:
        tasks.start_soon(visit)
        with suppress(LookupError), CancelScope() as scope:
            async with store:
                opened.set()
                await visited.wait()
                await leave(scope)
            pytest.fail("went on")
        closed.set()


async def test_a_task_that_still_saves_as_it_is_closed_is_told(frail: Keys) -> None:
    """K3: a task that saves while the store is closed is told that its state may be stored."""
    store, told = frail.store(), list[str]()

    async def save(name: str) -> None:
        try:
            await store.save(name, "new", None, expected=0)
        except StoreUnavailable as error:
            told.append(str(error))

    async with create_task_group() as tasks:
        with suppress(LookupError):
            async with store:
                with frail.server.stopped():
                    for name in ("a", "b"):
                        tasks.start_soon(save, name)
                        await wait_all_tasks_blocked()
                    raise LookupError
    assert len(told) == 2
    assert all("closed meanwhile" in each for each in told)


async def test_another_event_loop_needs_another_store(keys: Keys) -> None:
    """K2: a store that is open in one event loop refuses to be entered in another one."""
    store = keys.store()

    async def enter() -> str:
        with pytest.raises(StoreUnusable) as caught:
            async with store:
                pytest.fail("entered")
        for call in (store.load("a"), store.save("a", "new", None, expected=0)):
            with pytest.raises(
                StoreUnusable, match=r"/0 can't be used: .*open in another event loop"
            ):
                await call
        return str(caught.value)

    async with store:
        said = await to_thread.run_sync(partial(anyio.run, enter))
        assert "open in another event loop" in said
        await store.load("a")


async def test_one_who_enters_while_it_cannot_be_opened_is_told(unused: RedisStateStore) -> None:
    """K2: if the store can't be opened, each task that enters it gets an error of its own."""
    raised: list[Exception] = []

    async def enter() -> None:
        try:
            async with unused:
                pytest.fail("entered")
        except StoreUnavailable as error:
            raised.append(error)

    async with create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(enter)
    assert len({id(each) for each in raised}) == 3


@pytest.fixture
def unused() -> RedisStateStore:
    """Make a store whose server is not there."""
    return RedisStateStore("redis://127.0.0.1:1")


class Post:
    """What sends batches, as slowly as a test wants it."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []
        self.go = Event()
        self.problem: Problem | None = None

    async def send(self, requests: Sequence[int]) -> list[str]:
        """Send a batch, after `go`."""
        self.sent.append(list(requests))
        await self.go.wait()
        if self.problem is not None:
            raise self.problem
        return [f"to {each}" for each in requests]


@asynccontextmanager
async def asking(post: Post) -> AsyncGenerator["Asked"]:
    """Run batches, and close them at the end."""
    async with create_task_group() as tasks:
        asked = Asked(tasks, post)
        try:
            yield asked
        finally:
            asked.batches.close(Broken("over"))


class Asked:
    """Tasks that ask by batches, and their answers."""

    def __init__(self, tasks: Any, post: Post) -> None:
        self.batches = Batches[int, str](post.send)
        self.answers: dict[int, Any] = {}
        self._tasks = tasks
        tasks.start_soon(self.batches.run)

    async def ask(self, *requests: int, size: int = 1) -> CancelScope:
        """Ask in a task for each request, and return the last one's scope once all of them wait."""
        scope = CancelScope()

        async def ask(request: int, scope: CancelScope) -> None:
            with scope:
                self.answers[request] = await self.batches.ask(request, size)

        for each in requests:
            scope = CancelScope()
            self._tasks.start_soon(ask, each, scope)
            await wait_all_tasks_blocked()
        return scope


async def test_requests_that_come_meanwhile_form_the_next_batch() -> None:
    """K2: requests that come during a batch form the next one; each gets its own answer."""
    post = Post()
    async with asking(post) as asked:
        await asked.ask(1)
        await asked.ask(2, 3)
        post.go.set()
        await wait_all_tasks_blocked()
    assert post.sent == [[1], [2, 3]]
    assert asked.answers == {1: "to 1", 2: "to 2", 3: "to 3"}


async def test_tasks_that_go_on_share_a_batch_with_those_that_wait() -> None:
    """K2: tasks that join in during a batch do not take turns with those that are in it."""
    post = Post()
    async with asking(post) as asked, create_task_group() as tasks:

        async def ask(*requests: int) -> None:
            for each in requests:
                await asked.batches.ask(each, 1)

        for requests in ((1, 3, 5), (2, 4)):
            tasks.start_soon(ask, *requests)
            await wait_all_tasks_blocked()
        post.go.set()
    assert [len(each) for each in post.sent] == [1, 2, 2]


async def test_a_batch_has_so_many_requests_and_bytes_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """K2: a batch is bounded in requests and in bytes; a larger request goes alone."""
    monkeypatch.setattr(batches, "MOST_AT_ONCE", 3)
    monkeypatch.setattr(batches, "BYTES_AT_ONCE", 10)
    post = Post()
    async with asking(post) as asked:
        await asked.ask(1, 2, 3, 4, 5, 6)
        await asked.ask(7, 8, 9, size=6)
        await asked.ask(10, size=50)
        await asked.ask(11)
        post.go.set()
        await wait_all_tasks_blocked()
    assert post.sent == [[1], [2, 3, 4], [5, 6, 7], [8], [9], [10], [11]]


async def test_a_request_that_is_cancelled_in_time_is_not_sent() -> None:
    """K3: one that is under way goes on, and leaves the others alone."""
    post = Post()
    async with asking(post) as asked:
        scopes = [await asked.ask(1)]
        await asked.ask(2)
        scopes.append(await asked.ask(3))
        await asked.ask(4)
        for scope in scopes:
            scope.cancel()
        await wait_all_tasks_blocked()
        post.go.set()
        await wait_all_tasks_blocked()
        post.go = Event()
        await asked.ask(5)
        (await asked.ask(6)).cancel()
        await wait_all_tasks_blocked()
        post.go.set()
        await wait_all_tasks_blocked()
    assert post.sent == [[1], [2, 4], [5]]
    assert asked.answers == {2: "to 2", 4: "to 4", 5: "to 5"}


async def test_in_an_outage_those_that_wait_fail_and_later_ones_are_sent() -> None:
    """K2: so no task waits for more than two answers that don't come."""
    post = Post()
    async with asking(post) as asked:
        await asked.ask(1)
        await asked.ask(2)
        post.go.set()
        post.problem = Broken("gone")
        await wait_all_tasks_blocked()
        assert asked.answers == {1: post.problem, 2: post.problem}
        post.problem = None
        await asked.ask(3)
        over = Broken("over")
        asked.batches.close(over)
        await asked.ask(4)
    assert post.sent == [[1], [2], [3]]
    assert asked.answers == {1: asked.answers[2], 2: asked.answers[1], 3: "to 3", 4: over}


@on_asyncio
@pytest.mark.parametrize("runs", [False, True], ids=["alone", "within running()"])
async def test_a_store_that_another_task_leaves_is_closed(keys: Keys, runs: bool) -> None:
    """K2, M4: the error names both tasks, and the store can be opened again."""
    store = keys.store()
    block = Engine(store=store).running() if runs else store
    await asyncio.create_task(block.__aenter__(), name="first")
    leaving = asyncio.create_task(block.__aexit__(None, None, None), name="second")
    with pytest.raises(RuntimeError, match="'first' entered it and 'second' left it"):
        await leaving
    async with store:
        assert await store.load("a") is None
