"""What an outbox and an inbox promise, whatever is committed, and wherever a relay dies (Y4)."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexiflow.extras.durable import CurrentDelivery, MemoryTransport, first_time
from flexiflow.extras.durable._outbox import inbox
from tests.durable.outbox.dying import Life, live
from tests.durable.outbox.shop import NAME, OUTBOX, prepared, stored, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

FOREVER = 10**9


class Transaction(NamedTuple):
    """What a user does in a transaction.

    Attributes:
        before: how many events are enrolled first.
        within: how many are enrolled in a savepoint.
        is_kept: whether that is kept.
        is_committed: whether the transaction is.
    """

    before: int
    within: int
    is_kept: bool
    is_committed: bool


class Death(NamedTuple):
    """A relay that works until it dies.

    Attributes:
        steps: after so many steps.
    """

    steps: int


class Seen(NamedTuple):
    """An event that a handler sees in a transaction."""

    source: str
    id: str
    group: str
    name: str
    replay: int
    is_committed: bool


few = st.integers(0, 3)
transactions = st.builds(Transaction, few, few, st.booleans(), st.booleans())
programs = st.lists(transactions | st.builds(Death, st.integers(1, 40)), max_size=8)
letters = st.sampled_from("ab")
sights = st.builds(Seen, letters, letters, letters, letters, st.integers(0, 1), st.booleans())


def enroll(db: sqlite3.Connection, each: Transaction, numbers: Iterator[int]) -> list[int]:
    """Do a transaction, and return the events that are committed."""
    before = [next(numbers) for _ in range(each.before)]
    within = [next(numbers) for _ in range(each.within)]
    db.execute("BEGIN")
    for number in before:
        OUTBOX.enroll(db, NAME, number)
    db.execute("SAVEPOINT inner")
    for number in within:
        OUTBOX.enroll(db, NAME, number)
    if not each.is_kept:
        db.execute("ROLLBACK TO inner")
    db.execute("COMMIT" if each.is_committed else "ROLLBACK")
    return [*before, *(within if each.is_kept else [])] if each.is_committed else []


@given(program=programs)
def test_what_commits_is_stored_once_and_in_order(
    backend: str, program: list[Transaction | Death]
) -> None:
    """Y4: Relays that die at any step, one after the other, while events are enrolled."""

    async def main() -> None:
        expected: list[int] = []
        numbers, transport = count(), MemoryTransport()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "shop.db")
            with closing(prepared(path)) as db:
                for each in program:
                    if isinstance(each, Death):
                        await live(path, transport, Life(each.steps))
                    else:
                        expected += enroll(db, each, numbers)
            await live(path, transport, Life(FOREVER))
            assert (await stored(transport), waiting(path)) == (expected, 0)

    anyio.run(main, backend=backend)


@given(seen=st.lists(sights, max_size=30))
def test_an_inbox_lets_nothing_through_twice(seen: list[Seen]) -> None:
    """Y4: True until a transaction with that event, group, name and replay was committed."""
    db, done = sqlite3.connect(":memory:", isolation_level=None), set[Any]()
    with pytest.MonkeyPatch.context() as patch:
        for source, id_, group, name, replay, is_committed in seen:
            delivery = CurrentDelivery(
                id_, source, NAME, None, None, 1, 0, "1", 1, group, replay, 1
            )
            patch.setattr(inbox, "current_delivery", lambda found=delivery: found)
            db.execute("BEGIN")
            key = source, id_, group, name, replay
            assert first_time(db, name) == (key not in done)
            assert not first_time(db, name)
            if is_committed:
                done.add(key)
            db.execute("COMMIT" if is_committed else "ROLLBACK")
    db.close()
