"""What the store on Redis keeps: K2, K3."""

import math
from functools import partial
from itertools import count
from typing import Any

import pytest
from anyio import create_task_group

from flexiflow import StateConflict
from flexiflow.extras.stores import RedisStateStore, StateStore, Stored, StoreUnusable
from flexiflow.testing import check_store
from tests.helpers import by_turns
from tests.stores.redis.keys import Keys

NAMES = ["order-7", "", "é 🙂", "a b\r\n\0c", "{x}", "x" * 65_536]


@pytest.mark.unmeasured
@pytest.mark.parametrize("name", NAMES, ids=["plain", "empty", "wide", "control", "tag", "long"])
@pytest.mark.parametrize("data", [None, {}, {"a": [1, 2.5, None, "é\0"]}])
@pytest.mark.parametrize("due", [None, 0.0, -1.5, 1_700_000_000.123456, math.inf])
async def test_returns_what_was_saved(
    keys: Keys, name: str, data: dict[str, Any] | None, due: float | None
) -> None:
    """K2: what was saved is loaded, whatever its name, its data and its due time are."""
    async with keys.store() as store:
        assert isinstance(store, StateStore)
        assert await store.load(name) is None
        version = await store.save(name, f"in {name[:9]}", data, expected=0, due=due)
        assert await store.load(name) == Stored(version, f"in {name[:9]}", data, due)


async def test_a_version_is_replaced_by_one_that_is_greater(keys: Keys) -> None:
    """K2: each later version of a name is greater, also after a delete."""
    async with keys.store() as store:
        versions = [await store.save("a", "new", None, expected=0)]
        versions.append(await store.save("a", "paid", {"b": 1}, expected=versions[-1]))
        await store.delete("a")
        assert await store.load("a") is None
        versions.append(await store.save("a", "new", None, expected=0))
        assert versions == sorted(set(versions))
        assert await store.load("a") == Stored(versions[-1], "new", None, None)


@pytest.mark.parametrize("is_stored", [False, True])
async def test_another_version_is_a_conflict(keys: Keys, is_stored: bool) -> None:
    """K3: a conflict changes nothing, and the exception has both versions."""
    async with keys.store(history=3) as store:
        found = await store.save("a", "new", None, expected=0, due=1.0) if is_stored else 0
        before = await store.load("a")
        for expected in (found + 1, found - 1 if is_stored else 2**53):
            with pytest.raises(StateConflict) as caught:
                await store.save("a", "paid", {"b": 1}, expected=expected, due=2.0)
            assert caught.value.args == ("a", expected, found)
        assert await store.load("a") == before
        assert await store.versions("a") == ([before] if is_stored else [])
        assert await store.due(9.0, 9) == (["a"] if is_stored else [])


async def test_of_several_who_replace_a_version_one_succeeds(keys: Keys) -> None:
    """K3: of saves that replace one version, in one batch or by two stores, one succeeds."""
    outcomes: list[object] = []

    async def replace(store: RedisStateStore) -> None:
        try:
            outcomes.append(await store.save("a", "new", None, expected=0))
        except StateConflict as conflict:
            outcomes.append(type(conflict))

    async with keys.store() as one, keys.store() as other, create_task_group() as tasks:
        for store in (one, other) * 5:
            tasks.start_soon(replace, store)
    stored = [each for each in outcomes if each is not StateConflict]
    assert len(outcomes) == 10
    assert len(stored) == 1


async def test_names_what_is_due_the_earliest_first(keys: Keys) -> None:
    """K2, M2: what is due is named, the earliest first; of each name the last version counts."""
    async with keys.store() as store:
        assert await store.due(math.inf, 9) == []
        times = (3.0, -1.0, None, 2.5, 0.5, math.inf)
        for name, due in zip("abcdef", times, strict=True):
            await store.save(name, "waiting", None, expected=0, due=due)
        assert await store.due(2.5, 9) == ["b", "e", "d"]
        assert await store.due(math.inf, 2) == ["b", "e"]
        assert await store.due(-math.inf, 9) == await store.due(9.0, 0) == []
        for name, due in (("b", math.inf), ("e", 7.0)):
            stored = await store.load(name)
            assert stored is not None
            await store.save(name, "paid", None, expected=stored.version, due=due)
        await store.delete("d")
        assert await store.due(math.inf, 9) == ["a", "e"]


async def test_keeps_as_many_former_versions_as_are_wanted(keys: Keys) -> None:
    """K2: `history` former versions are kept, the latest first; a delete forgets them, too."""
    async with keys.store(history=2) as store:
        version, saved = 0, list[Stored]()
        for number in range(4):
            data, due = ({"n": number}, float(number)) if number else (None, None)
            version = await store.save("a", f"s{number}", data, expected=version, due=due)
            saved.append(Stored(version, f"s{number}", data, due))
        assert await store.load("a") == saved[3]
        assert await store.versions("a") == saved[:0:-1]
        async with keys.store() as other, keys.store(history=1) as third:
            assert await other.versions("a") == saved[3:]
            assert await third.versions("a") == saved[3:1:-1]
        assert await store.versions("b") == []
        await store.delete("a")
        await store.delete("b")
        assert await store.versions("a") == []
    assert keys.command("EXISTS", "h:a") == keys.command("EXISTS", "s:a") == ":0"


async def test_no_version_is_given_twice_after_a_loss(frail: Keys) -> None:
    """K2, K3: a server that has forgotten everything, or the last number only."""
    async with frail.store() as store:
        version = await store.save("a", "new", None, expected=0)
        frail.server.command("FLUSHALL")
        with pytest.raises(StateConflict):
            await store.save("a", "paid", None, expected=version)
        again = await store.save("a", "new", None, expected=0)
        frail.command("DEL", "last")
        assert version < again < await store.save("a", "paid", None, expected=again)


async def test_a_clock_that_is_set_back_does_not_matter_while_nothing_is_lost(keys: Keys) -> None:
    """K2: the next number is the greater one of the clock's and that after the last."""
    keys.command("SET", "last", 5 * 10**15)
    async with keys.store() as store:
        assert await store.save("a", "new", None, expected=0) == 5 * 10**15 + 1


async def test_data_that_is_no_json_changes_nothing(keys: Keys) -> None:
    """K2: data that is no JSON is refused, as other wrong arguments are, and changes nothing."""
    async with keys.store() as store:
        for data, error in (({"a": object()}, TypeError), ({"a": math.nan}, ValueError)):
            with pytest.raises(error):
                await store.save("a", "new", data, expected=0)
        with pytest.raises(ValueError, match=r"^due must be"):
            await store.save("a", "new", None, expected=0, due=math.nan)
        with pytest.raises(ValueError, match=r"^expected must be"):
            await store.save("a", "new", None, expected=-1)
        with pytest.raises(ValueError, match="65,536"):
            await store.save("a" * 10**7, "new", None, expected=0)
        assert keys.command("EXISTS", "last") == ":0"


@pytest.mark.parametrize(
    "fields",
    [
        ("version", "1"),
        ("version", "x", "state", "new", "data", "", "due", ""),
        ("version", "1", "state", "new", "data", "[]", "due", ""),
        ("version", "1", "state", "new", "data", "{", "due", ""),
        ("version", "1", "state", "new", "data", "", "due", "soon"),
    ],
)
async def test_what_other_software_wrote_is_refused(keys: Keys, fields: tuple[str, ...]) -> None:
    """K2: no traceback from the middle, but an error that names the component and a remedy."""
    keys.command("HSET", "s:a", *fields)
    async with keys.store() as store:
        with pytest.raises(
            StoreUnusable, match=r"/0 can't be used: .*stored of 'a'; use another prefix"
        ):
            await store.load("a")


async def test_a_version_that_other_software_wrote_is_refused(keys: Keys) -> None:
    """K2: a stored version that is no number is refused, also where a save only compares it."""
    keys.command("HSET", "s:a", "version", "x")
    async with keys.store() as store:
        with pytest.raises(
            StoreUnusable, match=r"/0 can't be used: .*stored of 'a'; use another prefix"
        ):
            await store.save("a", "new", None, expected=0)


@pytest.mark.parametrize("key", ["s:a", "h:a"])
async def test_a_key_of_another_type_fails_its_own_save_only(keys: Keys, key: str) -> None:
    """K2: a save that meets a key of another type fails; the rest of its batch succeeds."""
    async with keys.store(history=1) as store:
        version = await store.save("a", "new", None, expected=0, due=1.0)
        keys.command("SET", key, "x")
        failures: list[StoreUnusable] = []

        async def save() -> None:
            try:
                await store.save("a", "paid", None, expected=version)
            except StoreUnusable as error:
                failures.append(error)

        async with create_task_group() as tasks:
            tasks.start_soon(save)
            tasks.start_soon(partial(store.save, "b", "new", None, expected=0))
        assert "something else has written to the keys of this store" in str(failures[0])
        assert await store.due(9.0, 9) == ["a"]
        with pytest.raises(StoreUnusable, match=r"/0 can't be used: .*use another prefix"):
            await store.versions("a")


async def test_a_key_of_another_type_fails_its_own_load_only(keys: Keys) -> None:
    """K2: a load that meets a key of another type fails; the rest of its batch succeeds."""
    found: list[Stored | None] = []
    keys.command("SET", "s:a", "x")
    async with keys.store() as store:
        version = await store.save("b", "new", None, expected=0)

        async def load(name: str) -> None:
            if name == "a":
                with pytest.raises(StoreUnusable, match=r"/0 can't be used: .*use another prefix"):
                    await store.load(name)
            else:
                found.append(await store.load(name))

        async with create_task_group() as tasks:
            for name in ("b", "a", "b"):
                tasks.start_soon(load, name)
    assert found == [Stored(version, "new", None, None)] * 2


async def test_a_shared_key_of_another_type_fails_every_save(keys: Keys) -> None:
    """K2: if a key that all saves share is of another type, they fail before they write."""
    keys.command("HSET", "due", "a", "b")
    async with keys.store() as store:
        for call in (
            store.save("a", "new", None, expected=0, due=1.0),
            store.due(9.0, 9),
            store.delete("a"),
        ):
            with pytest.raises(StoreUnusable, match=r"/0 can't be used: .*use another prefix"):
                await call
        assert await store.load("a") is None


@pytest.mark.measured
@pytest.mark.parametrize(("history", "backend"), by_turns([0, 2]))
def test_keeps_what_a_store_promises(keys: Keys, backend: str, history: int) -> None:
    """K2: under the checker, also on two stores that have the same keys, as two processes have."""
    numbers, prefixes = count(), dict[RedisStateStore, str]()

    def make(beside: RedisStateStore | None = None) -> RedisStateStore:
        prefix = f"{keys.prefix}:{next(numbers)}" if beside is None else prefixes[beside]
        store = RedisStateStore(keys.server.url, prefix=prefix, history=history)
        prefixes[store] = prefix
        return store

    check_store(make, backend=backend, examples=6, seed=1)
