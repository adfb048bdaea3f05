"""The tables of the SQLite store, and what is done with them: plain statements (K2).

All but `check` and `lay_out` run in a transaction of the caller.

The version of a component that is stored grows by one with each save. The first version of one
that is not stored is greater than any of a component that was deleted (`forgotten`). So no version
of a name is given twice, and no save but that of a new component asks for a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from flexiflow._errors import StateConflict
from flexiflow.extras._sqlite.opening import other_kind, tables_of
from flexiflow.extras.stores._errors import StoreUnusable

if TYPE_CHECKING:
    import sqlite3

Row: TypeAlias = tuple[int, str, str | None, float | None]
"""A version, the state, the snapshot as JSON, and when it is due."""

APPLICATION: Final = 0x466C7853
"""What SQLite calls the application's id; `file` shows it, too."""

VERSION: Final = 1
"""The version of the layout."""

# Not WITHOUT ROWID: then few components would fit into an inner page of the tree, which has whole
# rows, snapshots and all.
_TABLES: Final = (
    """CREATE TABLE states (name TEXT PRIMARY KEY NOT NULL, version INTEGER NOT NULL,
    state TEXT NOT NULL, data TEXT, due REAL) STRICT""",
    "CREATE INDEX states_due ON states (due, name) WHERE due < 9e999",
    """CREATE TABLE former (name TEXT NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL,
    data TEXT, due REAL, PRIMARY KEY (name, version)) STRICT""",
    "CREATE TABLE forgotten (version INTEGER NOT NULL) STRICT",
    "INSERT INTO forgotten VALUES (0)",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {VERSION}",
)

_UPDATE: Final = (
    "UPDATE states SET version = ?, state = ?, data = ?, due = ? WHERE name = ? AND version = ?"
)
_INSERT: Final = (
    "INSERT INTO states SELECT ?, version + 1, ?, ?, ? FROM forgotten WHERE true "
    "ON CONFLICT DO NOTHING RETURNING version"
)
_KEEP: Final = "INSERT INTO former SELECT * FROM states WHERE name = ? AND version = ?"
_DROP: Final = "DELETE FROM former WHERE name = ? AND version < ?"
# 9e999 is infinite: a component with that is never due.
_DUE: Final = "SELECT name FROM states WHERE due < 9e999 AND due <= ? ORDER BY due, name LIMIT ?"
_FORMER: Final = (
    "SELECT version, state, data, due FROM former WHERE name = ? AND version >= ? "
    "ORDER BY version DESC"
)


def check(db: sqlite3.Connection, path: str) -> bool:
    """Return whether a database has the tables; False if it is empty.

    Raises:
        StoreUnusable: it is something else, or has the layout of another release.
    """
    tables = tables_of(db)
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if not tables and application == 0:
        return False
    if "flexiflow_durable" in tables:
        raise StoreUnusable(
            path, "it is the file of an SqliteTransport; a file of its own would be right"
        )
    if application != APPLICATION:
        raise StoreUnusable(path, other_kind(tables))
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version != VERSION:
        raise StoreUnusable(
            path,
            f"its layout is version {version}, and this release knows version {VERSION}; a newer "
            "release would be right",
        )
    return True


def lay_out(db: sqlite3.Connection, path: str) -> None:
    """Make the tables where there are none; raises as `check` does."""
    if not check(db, path):
        for statement in _TABLES:
            db.execute(statement)


def load(db: sqlite3.Connection, name: str) -> Row | None:
    """Return what is stored of a component."""
    query = "SELECT version, state, data, due FROM states WHERE name = ?"
    return cast("Row | None", db.execute(query, (name,)).fetchone())


def save(
    db: sqlite3.Connection,
    name: str,
    state: str,
    data: str | None,
    due: float | None,
    expected: int,
    history: int,
) -> int | StateConflict:
    """Save a component, and return the version; or a conflict, and then nothing has changed.

    The conflict is not raised, since the other saves of the transaction would be repeated then.
    """
    if expected:
        version = expected + 1
        if history:
            db.execute(_KEEP, (name, expected))
        if db.execute(_UPDATE, (version, state, data, due, name, expected)).rowcount:
            if history:
                db.execute(_DROP, (name, version - history))
            return version
    elif made := db.execute(_INSERT, (name, state, data, due)).fetchall():
        return int(made[0][0])
    return StateConflict(name, expected, _version_of(db, name))


def _version_of(db: sqlite3.Connection, name: str) -> int:
    """Return the version of a component that is stored; 0 if none is."""
    found = load(db, name)
    return 0 if found is None else found[0]


def due(db: sqlite3.Connection, until: float, limit: int) -> list[str]:
    """Return the names of components that are due, the earliest first."""
    return [name for (name,) in db.execute(_DUE, (until, limit))]


def delete(db: sqlite3.Connection, name: str) -> None:
    """Forget a component, and its former versions."""
    version = _version_of(db, name)
    if version:
        db.execute("UPDATE forgotten SET version = max(version, ?)", (version,))
        db.execute("DELETE FROM states WHERE name = ?", (name,))
        db.execute("DELETE FROM former WHERE name = ?", (name,))


def versions(db: sqlite3.Connection, name: str, history: int) -> list[Row]:
    """Return the current version of a component, and the former ones, the newest first."""
    current = load(db, name)
    if current is None:
        return []
    former: list[Any] = db.execute(_FORMER, (name, current[0] - history)).fetchall()
    return [current, *former]
