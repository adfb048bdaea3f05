"""Sizes of events in the SQLite transport's file: they are looked at before bodies are read."""

import tracemalloc
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from flexiflow.extras.durable import (
    Acknowledged,
    Batch,
    Buried,
    Delivery,
    EventTooLarge,
    Postponed,
    Record,
    Room,
    SqliteTransport,
    Standing,
    Stored,
)
from flexiflow.extras.durable._sqlite import groups as groups_module
from flexiflow.extras.durable._sqlite import log as log_module
from tests.durable.sqlite.files import (
    FAILURE,
    Clock,
    batch,
    leased,
    one_lease,
    positions,
    run_sql,
    worker,
)

pytestmark = pytest.mark.same_everywhere

MANY = 10
MUCH = 400_000


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, None])
def test_the_size_is_checked(wrong: Any) -> None:
    """X14: it is an int of 1 to 10**12."""
    with pytest.raises(
        ValueError, match="max_event_bytes must be an int, 1 to 1,000,000,000,000, not "
    ):
        SqliteTransport("events.db", max_event_bytes=wrong)


async def test_what_is_too_large_is_not_stored(path: Path) -> None:
    """X14: nor is anything that is in a batch with it, and its number may be used again."""
    async with SqliteTransport(path, max_event_bytes=3).connect() as connection:
        with pytest.raises(EventTooLarge, match="4 bytes as it is stored, and the transport takes"):
            await connection.store(batch(1, "abc", "abcd"))
        await connection.store(batch(1, "abc"))
        found, _ = await connection.tail(["0"], 9, 0)
        assert ([each.body for each in found], connection.max_event_bytes) == ([b"abc"], 3)


async def test_bodies_together_fit_into_the_room(path: Path) -> None:
    """X14: of what is left, of what has waited and of what is new; the next ones come later."""
    async with one_lease(path, "1234", "1234", "12", "1", "123", "12") as (connection, lease):
        first = await lease.receive(Room(9, 9))
        await lease.settle([Postponed("2", 1, 0, 0.0, None), Postponed("1", 1, 0, 0.0, None)])
        dead = await leased(connection, worker("b"))
        held = await dead.receive(Room(9, 4))
        await dead.release()
        given = [positions(await lease.receive(Room(9, 4))) for _ in range(4)]
        assert (positions(first), positions(held)) == (["1", "2"], ["3", "4"])
        assert given == [["3", "4"], ["1"], ["2"], ["5"]]
        assert positions(await lease.receive(Room(9, 4))) == ["6"]


async def test_what_a_cancelled_call_has_left_fits_too(path: Path) -> None:
    """X14: the next calls are given of it what they have room for, in order."""
    async with one_lease(path, "12", "34", "5", "6") as (_, lease):
        inner: Any = lease
        await inner._give(Room(9))
        given = [positions(await lease.receive(each)) for each in (Room(9, 3), Room(2, 9), Room(9))]
        assert given == [["1"], ["2", "3"], ["4"]]


@pytest.mark.parametrize(
    ("value", "size"),
    [("zeroblob(11)", 11), ("'ä' || 'ä' || 'ä' || 'ä' || 'ä' || 'ä'", 12), ("'12345678901'", 11)],
)
async def test_an_outsiders_large_body_is_buried_unread(
    path: Path, clock: Clock, value: str, size: int
) -> None:
    """X14: it is given empty, with its size; it is a dead letter whole, and redriven as that."""
    async with one_lease(path, "a", max_event_bytes=10) as (connection, lease):
        run_sql(path, f"UPDATE records SET body = {value}")  # noqa: S608 - no input
        given = await lease.receive(Room(9, 10))
        await lease.settle([Buried("1", 0, 1, FAILURE)])
        (letter,) = await connection.dead_letters("g")
        await connection.redrive("g", [letter.id])
        again = await lease.receive(Room(9, 10))
        seen, _ = await connection.tail(["0"], 9, 0)
        assert given == [Delivery("1", b"", None, 0, 1, is_suspect=False, oversize=size)]
        assert again == [Delivery("2", b"", "g", 0, 1, is_suspect=False, oversize=size)]
        assert (len(letter.body), seen[-1]) == (size, Stored(0, "2", b"", "g", clock.now))


async def test_a_large_body_that_was_left_or_waits_is_given_as_such(path: Path) -> None:
    """X14: whatever the record has been through."""
    async with one_lease(path, "a", "b", max_event_bytes=10) as (connection, lease):
        run_sql(path, "UPDATE records SET body = zeroblob(20)")
        await lease.receive(Room(9))
        await lease.settle([Postponed("1", 0, 0, 0.0, None)])
        waited = await lease.receive(Room(9))
        await lease.release()
        other = await leased(connection, worker("b"))
        left = await other.receive(Room(9))
        assert [(each.body, each.oversize, each.has_waited) for each in [*waited, *left]] == [
            (b"", 20, True),
            (b"", 20, True),
            (b"", 20, False),
        ]


@pytest.mark.parametrize(
    ("value", "body"), [("12", b"12"), ("1.5", b"1.5"), ("'ä'", "ä".encode()), ("x''", b"")]
)
async def test_what_an_outsider_wrote_is_bytes(path: Path, value: str, body: bytes) -> None:
    """X7: whatever it is in SQLite's eyes; in the log, out of it, and in a dead letter."""
    async with one_lease(path, "a") as (connection, lease):
        run_sql(path, f"UPDATE records SET body = {value}")  # noqa: S608 - no input
        given = [*await lease.receive(Room(1))]
        await lease.settle([Postponed("1", 0, 0, 0.0, None)])
        given += await lease.receive(Room(1))
        await lease.settle([Buried("1", 0, 1, FAILURE)])
        (letter,) = await connection.dead_letters("g")
        await connection.redrive("g", [letter.id])
        given += await lease.receive(Room(1))
        assert [each.body for each in given] == [body] * 3
        assert letter.body == body


@pytest.mark.parametrize("kind", ["zeroblob({})", "CAST(zeroblob({}) AS TEXT)"])
async def test_what_does_not_fit_is_not_read(path: Path, kind: str) -> None:
    """X14: many large bodies of an outsider take no memory, wherever they are met."""
    async with one_lease(path, "a", max_event_bytes=MUCH) as (connection, lease):
        # Python's own copy of a body would be seen, and one such copy is more than all the rest.
        large = kind.format(2 * MUCH)
        run_sql(path, *[f"INSERT INTO records (body) VALUES ({large})"] * MANY)  # noqa: S608
        tracemalloc.start()
        try:
            given = await lease.receive(Room(99, MUCH))
            await lease.settle([Acknowledged("1"), *(_buried(each) for each in given[1:])])
            await connection.tail(["0"], 99, 0)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert [each.oversize for each in given] == [0, *[2 * MUCH] * MANY]
        assert await connection.standing("g") == Standing(0, 0, 0, MANY)
        assert peak < MUCH


def _buried(delivery: Delivery) -> Buried:
    return Buried(delivery.position, 0, 1, FAILURE)


async def test_large_dead_letters_fill_a_page_early(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X14: none are left out, one alone may be larger, and no page is empty before the end."""
    monkeypatch.setattr(groups_module, "PAGE_BYTES", 5)
    async with one_lease(path, "12", "34", "567", "8" * 9, "9") as (connection, lease):
        await lease.receive(Room(9))
        await lease.settle([Buried(str(each), 1, 1, FAILURE) for each in range(1, 6)])
        pages, after = list[list[bytes]](), None
        while page := await connection.dead_letters("g", after=after):
            pages.append([each.body for each in page])
            after = page[-1].id
        assert pages == [[b"12", b"34"], [b"567"], [b"8" * 9], [b"9"]]


async def test_large_records_fill_a_page_early(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """X14: who looks on is given as much as fits, of each partition some, and then the rest."""
    monkeypatch.setattr(log_module, "PAGE_BYTES", 8)
    async with SqliteTransport(path, partitions=3).connect() as connection:
        for number, each in enumerate(("1234", "5", "678", "9" * 20, "0"), 1):
            await connection.store(Batch(f"p{number}", 1, (Record(each.encode(), "k"),)))
        (partition,) = {each.partition for each in (await connection.tail(["0"] * 3, 1, 0))[0]}
        pages, after = list[list[bytes]](), ["0"] * 3
        while True:
            page, positions = await connection.tail(after, 9, 0)
            if not page:
                break
            assert {each.partition for each in page} == {partition}
            pages.append([each.body for each in page])
            after = [*positions]
        assert [*chain(*pages)] == [b"1234", b"5", b"678", b"9" * 20, b"0"]
        assert max(sum(map(len, page[:-1])) for page in pages) < 8
        assert len(pages) > 2


async def test_what_looks_on_leaves_other_partitions_for_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X14: where one record alone fills the page."""
    monkeypatch.setattr(log_module, "PAGE_BYTES", 3)
    async with SqliteTransport(path, partitions=2).connect() as connection:
        await connection.store(Batch("p", 1, (Record(b"1234"), Record(b"5678"))))
        first, after = await connection.tail(["0", "0"], 9, 0)
        second, after = await connection.tail(after, 9, 0)
        assert sorted(each.body for each in [*first, *second]) == [b"1234", b"5678"]
        assert (len(first), after) == (1, ["1", "1"])
