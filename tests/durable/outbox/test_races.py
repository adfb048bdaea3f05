"""What happens between two looks at the file: others come first, or the process forks (Y4)."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flexiflow.extras._process import FORKS
from flexiflow.extras.durable import Outbox, TransportUnusable
from flexiflow.extras.durable._outbox import outbox as module
from flexiflow.extras.durable._outbox.box import Box, Limits
from flexiflow.extras.durable._outbox.file import File
from flexiflow.extras.durable._outbox.tables import Tables, are_there, tables_of
from tests.durable.outbox.shop import NAME, OUTBOX, connect, enrolled, prepared, transaction
from tests.helpers import never

LIMITS = Limits(10, 1_000, 1_000)


def box_of(path: Path) -> Box:
    """Return the file as one more relay sees it."""
    return Box(str(path), tables_of("outbox_"), LIMITS, 60)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database with the tables."""
    path = tmp_path / "shop.db"
    prepared(path).close()
    return path


def test_one_of_two_relays_that_begin_at_once_has_the_lease(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y4: the other one finds so before it writes anything."""
    first, second = box_of(path), box_of(path)
    is_taken, looks = Box._is_taken, list[bool]()

    def look(self: Box, db: sqlite3.Connection) -> bool:
        found = is_taken(self, db)
        if self is second:
            looks.append(found)
            if len(looks) == 1:
                assert first.acquire()
        return found

    monkeypatch.setattr(Box, "_is_taken", look)
    assert second.acquire() is None
    assert looks == [False, True]
    assert first.acquire()
    first.close()
    assert second.acquire()
    second.close()


def test_one_of_two_that_prepare_at_once_makes_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y4: the other one finds them within its transaction."""
    path, looks = tmp_path / "shop.db", list[bool]()

    def look(connection: sqlite3.Connection, tables: Tables) -> bool:
        found = are_there(connection, tables)
        looks.append(found)
        if len(looks) == 1:
            OUTBOX.prepare(connect(path))
        return found

    monkeypatch.setattr(module, "are_there", look)
    with closing(connect(path)) as connection:
        OUTBOX.prepare(connection)
        assert not connection.in_transaction
    # The second look is that of the one that comes between.
    assert looks == [False, False, False, True]


@pytest.mark.parametrize("last", [1, 2])
def test_another_may_prepare_between_any_two_statements(tmp_path: Path, last: int) -> None:
    """Y4: the tables are looked for at one moment, so that both are there, or none is."""
    path, seen = tmp_path / "shop.db", list[str]()
    connection, other = connect(path), connect(path)

    def trace(statement: str) -> None:
        seen.append(statement)
        if len(seen) == last:
            OUTBOX.prepare(other)

    connection.set_trace_callback(trace)
    OUTBOX.prepare(connection)
    assert len(seen) >= last
    assert are_there(other, tables_of("outbox_"))


def test_an_outbox_begins_anew_in_a_forked_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Y4: with ids that its parent does not give."""
    outbox, connection = Outbox(), connect()
    outbox.prepare(connection)
    with transaction(connection):
        outbox.enroll(connection, NAME, 1)
        monkeypatch.setattr(FORKS, "generation", FORKS.generation + 1)
        outbox.enroll(connection, NAME, 2)
        outbox.enroll(connection, NAME, 3)
    first, second, third = (each["id"].partition("-")[0] for each in enrolled(connection))
    assert first != second == third


def test_a_childs_copy_of_a_relay_can_do_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y4, X9: it fails, rather than wait for a lock that is its parent's."""
    file = File(str(path), tables_of("outbox_"))
    assert file.use(lambda db: db.in_transaction) is False
    file.pause()
    monkeypatch.setattr(FORKS, "generation", FORKS.generation + 1)
    file.start_over()
    with pytest.raises(TransportUnusable, match="was forked"):
        file.use(never)
