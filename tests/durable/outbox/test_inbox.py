"""What an inbox in the user's database recognises (Y4)."""

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from flexiflow.extras.durable import MemoryTransport, current_delivery, first_time
from flexiflow.extras.durable._outbox import inbox as module
from tests.durable.bridge.helpers import GROUP, consuming, put, put_bodies, until
from tests.durable.outbox.shop import NAME, connect, transaction

TABLE = "flexiflow_inbox"
COLUMNS = "source, id, reader, name, replay"
UNIQUE = f"UNIQUE ({COLUMNS})"


class Shop:
    """A handler with an inbox in a database of its own.

    Attributes:
        connection: to the database.
        answers: what the inbox said.
        failing: how many more calls roll their transactions back.
        late: how many more calls fail after the commit.
        options: further arguments.
    """

    def __init__(self, connection: sqlite3.Connection, **options: Any) -> None:
        self.connection = connection
        self.answers: list[bool] = []
        self.failing = self.late = 0
        self.options = options

    async def __call__(self, data: object) -> None:
        """Handle an event."""
        with transaction(self.connection):
            self.answers.append(first_time(self.connection, "shop", **self.options))
            if self.failing:
                self.failing -= 1
                raise ZeroDivisionError
        if self.late:
            self.late -= 1
            raise ZeroDivisionError


@asynccontextmanager
async def handled(
    handle: Callable[[Any], object], transport: MemoryTransport | None = None, **options: Any
) -> AsyncGenerator[MemoryTransport]:
    """Have an event handled until it is acknowledged."""
    transport = transport or MemoryTransport()
    async with consuming(transport, handle, **options) as bridge:
        await put(transport, 1)
        await until(lambda: bridge.statistics().acknowledged)
    yield transport


async def test_an_event_that_comes_again_is_recognised() -> None:
    """Y4: after a commit that was not acknowledged."""
    shop = Shop(connect())
    shop.late = 2
    async with handled(shop):
        assert shop.answers == [True, False, False]


async def test_what_was_rolled_back_did_not_happen() -> None:
    """Y4: True until a transaction commits; also where it made the table."""
    shop = Shop(connect())
    shop.failing, shop.late = 2, 1
    async with handled(shop):
        assert shop.answers == [True, True, True, False]


async def test_each_name_and_event_has_its_first_time() -> None:
    """Y4: within the same transaction, and of events with the same id from other sources."""
    connection, answers = connect(), list[bool]()

    def handle(data: object) -> None:
        with transaction(connection):
            answers.extend(first_time(connection, name) for name in ("a", "b", "a"))

    body = b'{"specversion":"1.0","id":"1","source":"%b","type":"order.placed","data":1}'
    transport = MemoryTransport()
    await put_bodies(transport, body % b"x", body % b"y", body % b"x")
    async with consuming(transport, handle) as bridge:
        await until(lambda: bridge.statistics().acknowledged == 3)
    assert answers == [True, True, False] * 2 + [False] * 3


async def test_ids_that_are_no_text_are_told_apart() -> None:
    """Y4, X7: JSON may bring lone surrogates, which are not valid in a text of SQLite."""
    connection, answers = connect(), list[bool]()

    def handle(data: object) -> None:
        with transaction(connection):
            answers.append(first_time(connection, "\udc80"))

    body = rb'{"specversion":"1.0","id":"\ud80%b","source":"\udfff","type":"order.placed","data":1}'
    transport = MemoryTransport()
    await put_bodies(transport, body % b"0", body % b"1", body % b"0")
    async with consuming(transport, handle) as bridge:
        await until(lambda: bridge.statistics().acknowledged == 3)
    assert answers == [True, True, False]


async def test_each_group_and_replay_has_its_first_time() -> None:
    """Y4, Y5: a group that begins again, or is made anew, does all again."""
    shop = Shop(connect())
    async with handled(shop) as transport:
        async with consuming(transport, shop, group="other") as bridge:
            await until(lambda: bridge.statistics().acknowledged)
        async with consuming(transport, shop) as bridge:
            await bridge.replay(GROUP, since="oldest")
            await until(lambda: bridge.statistics().acknowledged)
        async with transport.connect() as connection:
            await connection.forget(GROUP)
        async with consuming(transport, shop) as bridge:
            await until(lambda: bridge.statistics().acknowledged)
    assert shop.answers == [True] * 4


async def test_notes_are_pruned() -> None:
    """Y4: after `keep` seconds, with the next note; others of a longer `keep` stay."""
    connection = connect()
    async with handled(Shop(connection, keep=1e-9)) as transport:
        (count,) = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone()  # noqa: S608  a constant
        async with handled(Shop(connection, keep=60), transport):
            notes = connection.execute(f"SELECT until FROM {TABLE}").fetchall()  # noqa: S608  as above
    assert (count, len(notes)) == (1, 1)


async def test_few_notes_are_pruned_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Y4: more than one for each new one, so that they do not pile up."""
    connection = connect()
    now = [1.0]
    monkeypatch.setattr(module, "time", lambda: now[0])
    transport = MemoryTransport()
    async with consuming(transport, Shop(connection, keep=1.0)) as bridge:
        await put(transport, *range(25))
        await until(lambda: bridge.statistics().acknowledged == 25)
        now[0] = 10.0
        await put(transport, 25)
        await until(lambda: bridge.statistics().acknowledged == 26)
    (count,) = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone()  # noqa: S608  as above
    assert count == 16


async def test_a_thread_of_a_handler_is_within_the_delivery(tmp_path: Path) -> None:
    """Y4: where the handler does its transaction in a worker thread."""
    answers: list[bool] = []

    def work() -> None:
        with closing(connect(tmp_path / "shop.db")) as connection, transaction(connection):
            answers.append(first_time(connection, "shop"))

    async def handle(data: object) -> None:
        await to_thread.run_sync(work)

    async with handled(handle):
        assert answers == [True]


def test_a_delivery_is_needed() -> None:
    """Y4: outside of a handler there is no event that could come again."""
    connection = connect()
    with transaction(connection), pytest.raises(RuntimeError, match="nothing is being handled"):
        first_time(connection, "shop")


async def test_a_transaction_is_needed() -> None:
    """Y4: a note on its own would be there although the work was not done."""
    connection, problems = connect(), list[str]()

    def handle(data: object) -> None:
        assert current_delivery()
        for _ in range(2):
            with pytest.raises(RuntimeError) as raised:
                first_time(connection, "shop")
            problems.append(str(raised.value))
            connection.close()

    async with handled(handle):
        assert "first_time works within your own transaction, and none is open" in problems[0]
        assert "first_time takes an open connection, and this one is closed" in problems[1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("id", "has no column named source"),
        ("source, id, reader, name, replay, until", "does not match any PRIMARY KEY or UNIQUE"),
        (f"{COLUMNS}, until CHECK (until < 0), {UNIQUE}", "CHECK constraint failed"),
        (f"{COLUMNS}, until, more DEFAULT NULL NOT NULL, {UNIQUE}", "NOT NULL constraint failed"),
    ],
)
async def test_errors_of_sqlite_are_the_users(columns: str, message: str) -> None:
    """Y4: where a table of that name is something else, no event is taken for a repetition."""
    connection, problems = connect(), list[str]()
    connection.execute(f"CREATE TABLE {TABLE} ({columns})")

    def handle(data: object) -> None:
        with transaction(connection), pytest.raises(sqlite3.Error) as raised:
            first_time(connection, "shop")
        problems.append(str(raised.value))

    async with handled(handle):
        assert message in problems[0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": 7}, TypeError, "name must be a str, not 7"),
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"keep": 0}, ValueError, "keep"),
        ({"keep": float("nan")}, ValueError, "keep"),
        ({"connection": 7}, TypeError, "first_time takes a sqlite3.Connection"),
    ],
)
def test_bad_arguments_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Y4: before anything is looked at."""
    given: dict[str, Any] = {"connection": connect(), "name": NAME}
    with pytest.raises(error, match=message):
        first_time(**(given | arguments))
