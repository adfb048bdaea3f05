"""The statements that store, read and delete an outbox's rows (Y4)."""
# ruff: noqa: S608  the names of the tables are letters, digits and '_': `tables_of` checks them

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from flexiflow.extras.durable._outbox.tables import Tables


class Statements(NamedTuple):
    """The statements for the tables of one outbox, and their parameters.

    Attributes:
        insert: store an event: its key and its body.
        any_row: return a row if there are events.
        ends: return the numbers of the first and the last event; NULL for none.
        rows: return number, key and body of the first events: up to a number, and how many at most.
        delete: delete the events up to a number; NULL for none.
        make_relay: make the row of the relay, unless it is there.
        name_producer: give the producer a name, unless it has one.
        state: return the producer's name, its batch, who has the lease, and the batch's last row.
        taken: return a row if another one has the lease: the holder, and the time twice.
        renew: take or renew the lease: the holder, its beginning and its end.
        fix: fix a batch: its number and its last row.
        begin_anew: begin a new producer: its name and its batch.
        give_up: give up the lease: the holder.
    """

    insert: str
    any_row: str
    ends: str
    rows: str
    delete: str
    make_relay: str
    name_producer: str
    state: str
    taken: str
    renew: str
    fix: str
    begin_anew: str
    give_up: str


def statements_of(tables: Tables) -> Statements:
    """Return the statements for the tables of an outbox."""
    events, relay = f"main.{tables.events}", f"main.{tables.relay}"
    return Statements(
        insert=f"INSERT INTO {events} (key, body) VALUES (?, ?)",
        any_row=f"SELECT 1 FROM {events} LIMIT 1",
        # One query for both ends would look at every row.
        ends=f"SELECT (SELECT min(number) FROM {events}), (SELECT max(number) FROM {events})",
        rows=f"SELECT number, key, body FROM {events} WHERE number <= ? ORDER BY number LIMIT ?",
        delete=f"DELETE FROM {events} WHERE number <= ?",
        make_relay=f"INSERT OR IGNORE INTO {relay} (only_one) VALUES (1)",
        name_producer=f"UPDATE {relay} SET producer = ? WHERE producer IS NULL",
        state=f"SELECT producer, batch, holder, last FROM {relay}",
        taken=f"SELECT 1 FROM {relay} WHERE holder != ? AND since <= ? AND until > ?",
        renew=f"UPDATE {relay} SET holder = ?, since = ?, until = ?",
        fix=f"UPDATE {relay} SET batch = ?, last = ?",
        begin_anew=f"UPDATE {relay} SET producer = ?, batch = ?, last = NULL",
        give_up=f"UPDATE {relay} SET holder = NULL WHERE holder = ?",
    )
