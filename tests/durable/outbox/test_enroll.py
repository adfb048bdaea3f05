"""What an outbox stores in the user's transaction, and what it refuses (Y4)."""

import json
import os
import re
import sqlite3
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from flexiflow import EventBus, Query, Topic
from flexiflow.extras.durable import (
    EventTooLarge,
    MemoryTransport,
    NotEncodable,
    Outbox,
    Schema,
    open_bridge,
)
from tests.durable.bridge.helpers import until
from tests.durable.outbox.shop import (
    EVENTS,
    NAME,
    OUTBOX,
    connect,
    enrolled,
    place,
    prepared,
    transaction,
)
from tests.helpers import never

BEGIN, COMMIT = "connection.execute('BEGIN IMMEDIATE')", "connection.execute('COMMIT')"
OPEN = re.escape(f"{BEGIN} before it, and {COMMIT} after it")


def test_an_event_is_stored_if_the_transaction_commits() -> None:
    """Y4: the event is there with the user's own rows, or neither of them is."""
    connection = prepared()
    place(connection, 1)
    with pytest.raises(ZeroDivisionError), transaction(connection):
        OUTBOX.enroll(connection, NAME, 2)
        raise ZeroDivisionError
    assert [each["data"] for each in enrolled(connection)] == [1]


def test_an_event_is_what_a_bridge_would_store() -> None:
    """Y4: it is a CloudEvent, with source, key, depth, and an id of its own."""
    connection = prepared()
    with transaction(connection):
        OUTBOX.enroll(connection, Topic[int](NAME), 1, key="A7")
        OUTBOX.enroll(connection, NAME, 2)
    first, second = enrolled(connection)
    assert first["id"] != second["id"]
    assert first["time"].endswith("Z")
    shown = ("specversion", "source", "type", "partitionkey", "depth", "data")
    assert [first[each] for each in shown] == ["1.0", "shop", NAME, "A7", 1, 1]
    assert "partitionkey" not in second


def test_a_payload_is_written_by_its_schema() -> None:
    """Y1, Y4: as by a bridge, with its version."""

    @dataclass
    class Order:
        number: int

    topic = Topic[Order](NAME)
    schema = Schema(topic, encode=asdict, decode=never, version=2)
    outbox = Outbox(schemas=[schema])
    connection = prepared(outbox=outbox)
    with transaction(connection):
        outbox.enroll(connection, topic, Order(7))
    (event,) = enrolled(connection)
    assert event["data"] == {"number": 7}
    assert event["dataschema"] == f"urn:flexiflow:{NAME}:2"


def test_what_instruments_carry_travels_with_an_event() -> None:
    """Y2, Y4: an outbox that knows the bus writes down what its instruments give."""

    class Carrying:
        def publishing(self, event: object) -> AbstractContextManager[None]:
            return nullcontext()

        def carry(self) -> Mapping[str, str]:
            return {"traceparent": "00-1"}

    bus = EventBus(instruments=[Carrying()])
    outbox = Outbox(bus=bus)
    connection = prepared(outbox=outbox)
    with transaction(connection):
        outbox.enroll(connection, NAME, 1)
    assert enrolled(connection)[0]["traceparent"] == "00-1"


async def test_an_event_is_one_deeper_than_the_one_that_is_handled() -> None:
    """Y2, Y4: so a loop through an outbox ends, too."""
    connection = prepared()

    async def handle(number: int) -> None:
        place(connection, number)

    transport, bus, sender = MemoryTransport(), EventBus(), EventBus()
    await bus.subscribe(NAME, "shop", handle)
    async with open_bridge(sender, transport, outgoing=[NAME]):
        await sender.publish(NAME, 1)
    ways: dict[str, Any] = {"incoming": [NAME], "group": "shop"}
    async with open_bridge(bus, transport, **ways) as bridge:
        await until(lambda: bridge.statistics().acknowledged)
    assert [each["depth"] for each in enrolled(connection)] == [2]


@pytest.mark.parametrize("level", [None, "", "IMMEDIATE"])
def test_an_open_transaction_is_needed(level: Any) -> None:
    """Y4: an event on its own would not be part of anything; the message says what would be."""
    connection = connect(isolation_level=level)
    OUTBOX.prepare(connection)
    with pytest.raises(RuntimeError, match=f"enroll works within your own .*{OPEN}"):
        OUTBOX.enroll(connection, NAME, 1)
    connection.execute("BEGIN IMMEDIATE")
    OUTBOX.enroll(connection, NAME, 1)
    connection.execute("COMMIT")
    assert not connection.in_transaction
    assert len(enrolled(connection)) == 1


def test_a_savepoint_is_in_a_transaction() -> None:
    """Y4: also one that begins the transaction."""
    connection = prepared()
    connection.execute("SAVEPOINT one")
    OUTBOX.enroll(connection, NAME, 1)
    connection.execute("SAVEPOINT two")
    OUTBOX.enroll(connection, NAME, 2)
    connection.execute("ROLLBACK TO two")
    connection.execute("RELEASE one")
    assert [each["data"] for each in enrolled(connection)] == [1]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="connections have no such modes")
@pytest.mark.parametrize("autocommit", [True, False])
def test_the_modes_of_autocommit_are_known(autocommit: bool) -> None:
    """Y4: without autocommit a transaction is always open, with it none is until one begins."""
    connection = connect(autocommit=autocommit)
    OUTBOX.prepare(connection)
    if autocommit:
        with pytest.raises(RuntimeError, match=OPEN):
            OUTBOX.enroll(connection, NAME, 1)
        connection.execute("BEGIN IMMEDIATE")
        OUTBOX.enroll(connection, NAME, 2)
        connection.execute("COMMIT")
        assert not connection.in_transaction
    else:
        connection.commit()
        OUTBOX.enroll(connection, NAME, 2)
        connection.commit()
    assert len(enrolled(connection)) == 1
    connection.close()


def test_a_closed_connection_is_refused() -> None:
    """Y4: by both calls, with the same exception."""
    connection = prepared()
    connection.close()
    with pytest.raises(RuntimeError, match=r"prepare takes an open .*, and this one is closed"):
        OUTBOX.prepare(connection)
    with pytest.raises(RuntimeError, match=r"enroll takes an open .*, and this one is closed"):
        OUTBOX.enroll(connection, NAME, 1)


def test_what_is_no_connection_is_refused() -> None:
    """Y4: the message names what would be one."""
    cursor: Any = prepared().cursor()
    with pytest.raises(TypeError, match=r"prepare takes a sqlite3\.Connection, .*not <sqlite3"):
        OUTBOX.prepare(cursor)
    with pytest.raises(TypeError, match=r"enroll takes a sqlite3\.Connection, .*not <sqlite3"):
        OUTBOX.enroll(cursor, NAME, 1)


def test_a_database_without_the_tables_is_refused() -> None:
    """Y4: the message says that `prepare` would make them."""
    connection = connect()
    connection.execute("BEGIN")
    with pytest.raises(RuntimeError, match=rf"no table {EVENTS}: prepare\(connection\) of this"):
        OUTBOX.enroll(connection, NAME, 1)


def test_other_errors_of_sqlite_are_the_users(tmp_path: Path) -> None:
    """Y4: as where another connection writes."""
    path = tmp_path / "shop.db"
    writer, late = prepared(path), connect(path, timeout=0)
    writer.execute("BEGIN IMMEDIATE")
    late.execute("BEGIN")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        OUTBOX.enroll(late, NAME, 1)
    audit = "BEGIN INSERT INTO audit VALUES (1); END"
    writer.execute(f"CREATE TRIGGER audited AFTER INSERT ON {EVENTS} {audit}")
    with pytest.raises(sqlite3.OperationalError, match=r"^no such table: main\.audit$"):
        OUTBOX.enroll(writer, NAME, 1)


def test_what_can_not_be_stored_is_refused_and_changes_nothing() -> None:
    """Y4: a payload, a key, a name, a query, too many bytes."""
    connection, outbox = prepared(), Outbox(max_event_bytes=300)
    query: Any = Query[int, int]("price.asked")
    with transaction(connection):
        with pytest.raises(NotEncodable, match="can't be stored: TypeError"):
            outbox.enroll(connection, NAME, object())
        with pytest.raises(NotEncodable, match="its key must be a non-empty str"):
            outbox.enroll(connection, NAME, 1, key="")
        with pytest.raises(ValueError, match="order"):
            outbox.enroll(connection, "order.*", 1)
        with pytest.raises(TypeError, match="is a query, not an event"):
            outbox.enroll(connection, query, 1)
        with pytest.raises(EventTooLarge, match="takes 300"):
            outbox.enroll(connection, NAME, "x" * 300)
    assert enrolled(connection) == []


def test_preparing_again_changes_nothing() -> None:
    """Y4: it is idempotent, within a transaction and outside."""
    connection = prepared()
    place(connection, 1)
    OUTBOX.prepare(connection)
    with transaction(connection):
        OUTBOX.prepare(connection)
    assert len(enrolled(connection)) == 1


def test_what_users_set_for_rows_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Y4: the tables are found again whatever their columns are turned into."""
    monkeypatch.setitem(vars(sqlite3)["converters"], "TEXT", bytes)
    connection = connect(detect_types=sqlite3.PARSE_DECLTYPES | sqlite3.PARSE_COLNAMES)
    connection.row_factory = lambda cursor, row: {
        each[0]: value for each, value in zip(cursor.description, row, strict=True)
    }
    connection.text_factory = bytes
    OUTBOX.prepare(connection)
    # A trigger may have the name of a table.
    connection.execute(f"CREATE TRIGGER {EVENTS} AFTER INSERT ON {EVENTS} BEGIN SELECT 1; END")
    OUTBOX.prepare(connection)
    with transaction(connection):
        OUTBOX.enroll(connection, NAME, 1, key="A7")
    (row,) = connection.execute(f"SELECT count(*) AS number FROM {EVENTS}")  # noqa: S608  a constant
    assert row == {"number": 1}


def test_preparing_is_part_of_an_open_transaction() -> None:
    """Y4: it commits nothing of the user's."""
    connection = connect()
    with pytest.raises(ZeroDivisionError), transaction(connection):
        OUTBOX.prepare(connection)
        OUTBOX.enroll(connection, NAME, 1)
        raise ZeroDivisionError
    assert connection.execute("SELECT * FROM sqlite_master").fetchall() == []


def test_several_may_prepare_at_once(tmp_path: Path) -> None:
    """Y4: each finds the tables in the end."""
    path = tmp_path / "shop.db"
    barrier = threading.Barrier(4)
    failures: list[Exception] = []

    def prepare() -> None:
        connection = connect(path, timeout=10)
        barrier.wait()
        try:
            OUTBOX.prepare(connection)
        except (sqlite3.Error, ValueError) as exc:
            failures.append(exc)
        connection.close()

    threads = [threading.Thread(target=prepare) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []


@pytest.mark.parametrize(
    ("made", "wrong"),
    [
        ("CREATE TABLE outbox_events (id INTEGER)", "outbox_events is not one of an outbox"),
        ("CREATE TABLE Outbox_Events (id INTEGER)", "outbox_events is not one of an outbox"),
        ("CREATE VIEW outbox_events AS SELECT 1", "outbox_events is not one of an outbox"),
        ("CREATE TABLE outbox_relay (id INTEGER)", "outbox_events is missing"),
    ],
)
def test_tables_of_another_layout_are_refused(made: str, wrong: str) -> None:
    """Y4: they are left as they are."""
    connection = connect()
    connection.execute(made)
    before = connection.execute("SELECT sql FROM sqlite_master").fetchall()
    with pytest.raises(ValueError, match=f"{wrong}.*: another prefix= would be right"):
        OUTBOX.prepare(connection)
    assert connection.execute("SELECT sql FROM sqlite_master").fetchall() == before


def test_a_failure_to_prepare_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Y4: neither one table without the other, nor an open transaction."""
    connection = connect()

    def fail(connection: sqlite3.Connection, tables: object) -> None:
        connection.execute("CREATE TABLE outbox_events (id INTEGER)")
        raise ZeroDivisionError

    monkeypatch.setattr("flexiflow.extras.durable._outbox.outbox.make", fail)
    with pytest.raises(ZeroDivisionError):
        OUTBOX.prepare(connection)
    assert not connection.in_transaction
    assert connection.execute("SELECT * FROM sqlite_master").fetchall() == []


def test_a_database_may_have_several_outboxes() -> None:
    """Y4: each has a prefix of its own."""
    other = Outbox("mail_", source="mail")
    connection = prepared()
    other.prepare(connection)
    with transaction(connection):
        other.enroll(connection, NAME, 1)
    (body,) = connection.execute("SELECT body FROM mail_events").fetchone()
    assert json.loads(body)["source"] == "mail"
    assert enrolled(connection) == []
    assert repr(other) == "<Outbox 'mail_'>"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prefix": 7}, TypeError, "prefix must be a str, not 7"),
        ({"prefix": "out box"}, ValueError, "prefix must be 1 to 100 letters, .* not 'out box'"),
        ({"prefix": "SQLite_x"}, ValueError, "without a digit or 'sqlite_' at its beginning"),
        ({"source": 7}, TypeError, "source must be a str, not 7"),
        ({"source": ""}, ValueError, "source must not be empty"),
        ({"bus": 7}, TypeError, "bus must be an EventBus or None, not 7"),
        ({"codec": 7}, TypeError, "codec must have encode"),
        ({"schemas": 7}, TypeError, "schemas must be an iterable of Schema, not 7"),
        ({"max_event_bytes": 0}, ValueError, "max_event_bytes"),
    ],
)
def test_bad_arguments_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Y4: an outbox can't be made with them."""
    with pytest.raises(error, match=message):
        Outbox(**options)


def test_only_a_file_can_be_handed_on() -> None:
    """Y4: a bridge can't see a database in memory; nor does it take an outbox without a file."""
    with pytest.raises(ValueError, match="no bridge can see a database that is in memory"):
        OUTBOX.at(":memory:")
    with pytest.raises(ValueError, match="interval"):
        OUTBOX.at("shop.db", interval=0)
    assert repr(OUTBOX.at("/shop.db")) == "<OutboxFile '/shop.db'>"
    outbox: Any = OUTBOX
    with pytest.raises(TypeError, match=r"outbox must be what at\(path\) of an Outbox returns"):
        open_bridge(EventBus(), MemoryTransport(), outbox=outbox)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_gives_ids_of_its_own(tmp_path: Path) -> None:
    """Y4: an inbox would take an event with an id that was given before for a repetition."""
    path = tmp_path / "shop.db"
    outbox = Outbox()
    prepared(path, outbox).close()

    def enroll() -> None:
        connection = connect(path)
        with transaction(connection):
            outbox.enroll(connection, NAME, 1)
        connection.close()

    child = os.fork()
    if not child:
        try:
            enroll()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    enroll()
    connection = connect(path)
    assert len({each["id"] for each in enrolled(connection)}) == 2
    connection.close()
