"""The store on Redis where servers and connections fail, or are not what they should be: K2, K3."""

import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import ref

import pytest
from anyio import CancelScope, create_task_group, fail_after, wait_all_tasks_blocked

from flexiflow.extras.stores import RedisStateStore, Stored, StoreUnavailable, StoreUnusable
from tests.durable.redis.desk import fake_server
from tests.helpers import PATIENCE
from tests.stores.redis.keys import Keys

pytestmark = pytest.mark.once

SHORT = 0.2
"""Seconds after which a server that is silent is given up."""


@contextmanager
def in_haste(store: RedisStateStore) -> Generator[None]:
    """Have an open store wait for a short time only."""
    session: Any = vars(store)["_session"]
    before = session._seconds
    session._seconds = session._lines._wires._seconds = SHORT
    yield
    session._seconds = session._lines._wires._seconds = before


async def test_goes_on_after_a_server_was_killed(frail: Keys) -> None:
    """K2, K3: what was saved is there again, and the next call opens a new connection."""
    async with frail.store(history=1) as store:
        version = await store.save("a", "new", {"b": 1}, expected=0, due=1.0)
        frail.server.kill()
        for attempt in (
            store.save("a", "paid", None, expected=version),
            store.load("a"),
            store.due(9.0, 9),
            store.delete("a"),
            store.versions("a"),
        ):
            with pytest.raises(StoreUnavailable):
                await attempt
        with pytest.raises(StoreUnavailable, match=r"/0 is not available: .*Connect"):
            async with frail.store():
                pytest.fail("opened")
        frail.server.start()
        assert await store.load("a") == Stored(version, "new", {"b": 1}, 1.0)
        assert await store.save("a", "paid", None, expected=version) > version


async def test_a_server_that_is_silent_is_given_up(frail: Keys) -> None:
    """K2: every wait is bounded; a save that was done in spite of it is found by a load."""
    store = frail.store(timeout=PATIENCE)
    failures: list[str] = []

    async def fail(call: Callable[[], Any]) -> None:
        with pytest.raises(StoreUnavailable) as caught:
            await call()
        failures.append(str(caught.value))

    async with frail.store() as patient, store:
        version = await store.save("a", "new", None, expected=0)
        with frail.server.stopped(), in_haste(store), fail_after(PATIENCE):
            async with create_task_group() as tasks:
                tasks.start_soon(fail, partial(store.save, "a", "paid", None, expected=version))
                await wait_all_tasks_blocked()
                for number in range(5):
                    name = f"b{number}"
                    tasks.start_soon(fail, partial(store.save, name, "new", None, expected=0))
                tasks.start_soon(fail, partial(store.load, "a"))
            await fail(partial(store.load, "a"))
            with pytest.raises(StoreUnavailable):
                async with frail.store(timeout=SHORT, connect_timeout=SHORT):
                    pytest.fail("opened")
        found = await patient.load("a")
        assert found is not None
        assert (found.version > version) is (found.state == "paid")
    assert len(failures) == 8
    assert any("no answer within 0.2 s" in each for each in failures)


async def test_a_save_whose_answer_is_lost_is_not_sent_again() -> None:
    """K3: a save whose answer is lost is not sent again: it would conflict with itself."""
    async with (
        fake_server(TYPE="+none") as server,
        RedisStateStore(f"redis://127.0.0.1:{server.port}", timeout=PATIENCE) as store,
    ):
        with (
            in_haste(store),
            pytest.raises(StoreUnavailable, match=r"/0 is not available: .*within 0\.2 s"),
        ):
            await store.save("a", "new", None, expected=0)
        server.answers["EVALSHA"] = "*1\r\n:5"
        assert await store.save("a", "new", None, expected=0) == 5


async def test_a_save_that_is_cancelled_leaves_the_others_alone(frail: Keys) -> None:
    """K2, K3: a cancelled save is done or not, and the connection serves the others."""
    async with frail.store() as store, create_task_group() as tasks:
        scope = CancelScope()

        async def save() -> None:
            with scope:
                await store.save("a", "new", None, expected=0)

        with frail.server.stopped():
            tasks.start_soon(save)
            await wait_all_tasks_blocked()
            tasks.start_soon(partial(store.save, "b", "new", None, expected=0))
            await wait_all_tasks_blocked()
            scope.cancel()
            await wait_all_tasks_blocked()
        with fail_after(PATIENCE):
            while await store.load("b") is None:
                pass
        assert await store.load("a") is not None
    assert frail.calls("hello") == 1


async def fail_to_save(store: RedisStateStore, error: type[Exception], said: str) -> None:
    """See that a save fails, as does another one in the same batch."""
    async with create_task_group() as tasks:

        async def save(name: str) -> None:
            with pytest.raises(error, match=said):
                await store.save(name, "new", None, expected=0)

        for name in ("a", "b"):
            tasks.start_soon(save, name)


async def test_a_server_that_is_full_is_unavailable(frail: Keys) -> None:
    """K2: a server that is full is unavailable: it stores nothing until a delete makes room."""
    frail.server.command("CONFIG", "SET", "maxmemory", 1)
    async with frail.store() as store:
        await fail_to_save(store, StoreUnavailable, "OOM")
        await store.delete("a")
        frail.server.command("CONFIG", "SET", "maxmemory", 0)
        assert await store.load("a") is None
        await store.save("a", "new", None, expected=0)


async def test_a_replica_is_unavailable(frail: Keys) -> None:
    """K2: a replica is unavailable, and not unusable, since it may be promoted."""
    frail.server.command("REPLICAOF", "127.0.0.1", 1)
    async with frail.store() as store:
        await fail_to_save(store, StoreUnavailable, "READONLY")
        frail.server.command("REPLICAOF", "NO", "ONE")
        await store.save("a", "new", None, expected=0)


async def test_a_password_must_be_right(frail: Keys) -> None:
    """K2: a wrong password is refused by a message that does not show it."""
    frail.server.command("CONFIG", "SET", "requirepass", "right")
    for given in ("", ":wrong@"):
        store = RedisStateStore(f"redis://{given}127.0.0.1:{frail.server.port}")
        with pytest.raises(
            StoreUnusable, match=r"/0 can't be used: .*wants another user or password"
        ) as caught:
            async with store:
                pytest.fail("opened")
        assert "wrong@" not in f"{caught.value} {store!r}"
    async with RedisStateStore(f"redis://:right@127.0.0.1:{frail.server.port}") as store:
        await store.save("a", "new", None, expected=0)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ("-LOADING Redis is loading", StoreUnavailable, "LOADING"),
        ("-MOVED 7 127.0.0.1:7000", StoreUnusable, "part of a cluster"),
        ("-MISCONF can't write", StoreUnavailable, "MISCONF"),
        ("-NOPERM this user may not", StoreUnusable, "NOPERM"),
    ],
)
async def test_a_server_that_refuses_says_why(
    answer: str, error: type[Exception], said: str
) -> None:
    """K2: a refusal that passes makes the store unavailable, any other one unusable."""
    async with (
        fake_server(TYPE="+none", EVALSHA=answer) as server,
        RedisStateStore(f"redis://127.0.0.1:{server.port}") as store,
    ):
        await fail_to_save(store, error, said)
        for call in (store.load("a"), store.versions("a"), store.delete("a")):
            with pytest.raises(error, match=said):
                await call


async def test_a_server_that_is_too_old_is_refused() -> None:
    """K2: a server that is too old is refused as the store is opened."""
    hello = "%3\r\n+version\r\n+6.0.9\r\n+proto\r\n:3\r\n+id\r\n:1"
    async with fake_server(HELLO=hello) as server:
        with pytest.raises(
            StoreUnusable,
            match=r"/0 can't be used: .*is 6\.0\.9, and Redis 6\.2 or later is needed",
        ):
            async with RedisStateStore(f"redis://127.0.0.1:{server.port}"):
                pytest.fail("opened")


async def test_a_server_of_a_cluster_is_refused() -> None:
    """K2: a server of a cluster is refused as the store is opened, if another one has its keys."""
    async with fake_server(TYPE="-MOVED 7 127.0.0.1:7000") as server:
        with pytest.raises(StoreUnusable, match=r"/0 can't be used: .*part of a cluster"):
            async with RedisStateStore(f"redis://127.0.0.1:{server.port}"):
                pytest.fail("opened")


async def test_a_forked_child_opens_its_own(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """X9: what it has inherited refuses, and the parent's goes on."""
    async with keys.store() as store:
        version = await store.save("a", "new", None, expected=0)
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: -1)
            for call in (
                partial(store.save, "a", "paid", None, expected=version),
                partial(store.load, "a"),
                partial(store.versions, "a"),
            ):
                with pytest.raises(
                    StoreUnusable, match=r"/0 can't be used: .*this process was forked"
                ):
                    await call()
            async with store:
                version = await store.save("a", "paid", None, expected=version)
            with pytest.raises(StoreUnavailable, match=r"/0 is not available: .*not open"):
                await store.load("a")


CHILD = """
import os, sys
from threading import Thread
import anyio
from flexiflow.extras.stores import RedisStateStore, StoreUnusable

async def save(store, name):
    async with store:
        await store.save(name, "new", None, expected=0)

def be_child(store):
    try:
        store.load("a").send(None)
    except StoreUnusable as error:
        told = str(error)
    # In a thread, since trio's run goes on in this one.
    own = Thread(target=anyio.run, args=(save, store, "child"), kwargs={"backend": sys.argv[1]})
    own.start()
    own.join()
    os._exit(7 if "forked" in told else 1)

async def main():
    store = RedisStateStore(sys.argv[2])
    async with store:
        await store.save("before", "new", None, expected=0)
        child = os.fork() or be_child(store)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        await save(store, "after")
        assert all([await store.load(name) for name in ("before", "child", "after")])

anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.unmeasured
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_parent_and_child_go_on(backend: str, frail: Keys) -> None:
    """X9: the child by a connection of its own, also by the object that it inherited."""
    # Python warns of every fork of a process with threads, from 3.12 on.
    command = [sys.executable, "-W", "ignore", "-c", CHILD, backend, frail.server.url]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr


async def test_a_failed_call_leaves_no_reference_cycle(frail: Keys) -> None:
    """B6: in an outage each failure is freed without the collector."""
    async with frail.store() as store:
        frail.server.kill()
        for call in (store.save("a", "new", None, expected=0), store.load("a"), store.delete("a")):
            with pytest.raises(StoreUnavailable) as raised:
                await call
            failure = ref(raised.value)
            del raised
            assert failure() is None


async def test_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """K2: without coredis, opening the store says which extra installs it."""
    monkeypatch.delitem(sys.modules, "flexiflow.extras._redis.client", raising=False)
    monkeypatch.delattr("flexiflow.extras._redis.client", raising=False)
    monkeypatch.setitem(sys.modules, "coredis.connection", None)
    store = RedisStateStore("redis://localhost")
    with pytest.raises(ModuleNotFoundError, match=r"RedisStateStore needs coredis: install"):
        async with store:
            pytest.fail("opened")
    with pytest.raises(StoreUnavailable, match=r"/0 is not available: .*not open"):
        await store.load("a")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("history", -1),
        ("history", True),
        ("prefix", "a{b}"),
        ("timeout", 0),
        ("connect_timeout", float("inf")),
    ],
)
def test_refuses_an_option_out_of_its_range(option: str, value: Any) -> None:
    """K2: an option out of its range is refused by a message that names it."""
    with pytest.raises(ValueError, match=f"^{option} must be"):
        RedisStateStore("redis://localhost", **{option: value})


def test_shows_no_password() -> None:
    """K2: no password is shown, neither in the repr nor when the URL is wrong."""
    store = RedisStateStore("rediss://ann:secret@example.org:7000/3")
    assert repr(store) == "<RedisStateStore rediss://example.org:7000/3 {flexiflow:state}>"
    with pytest.raises(ValueError, match=r"must be redis://\[user") as caught:
        RedisStateStore("http://ann:secret@localhost")
    assert "secret" not in str(caught.value)
