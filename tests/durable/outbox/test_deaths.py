"""A relay that dies between any two of its steps (Y4)."""

import shutil
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from flexiflow.extras.durable import MemoryTransport
from tests.durable.outbox.dying import Life, live
from tests.durable.outbox.shop import place, prepared, stored, waiting

EVENTS = [1, 2, 3, 4, 5]


@pytest.fixture
def former(tmp_path: Path) -> Path:
    """Return the path of a database with events that wait."""
    path = tmp_path / "former.db"
    with closing(prepared(path)) as connection:
        for number in EVENTS:
            place(connection, number)
    return path


async def test_a_relay_may_die_anywhere(former: Path) -> None:
    """Y4, X2: each event is stored once and in order, at any step at which the relay died."""
    last = 0
    for last in count(1):
        path, transport = former.with_name(f"{last}.db"), MemoryTransport()
        shutil.copy(former, path)
        life = Life(last)
        await live(path, transport, life)
        if not life.is_over:
            break
        await live(path, transport, Life(10_000))
        assert (last, await stored(transport), waiting(path)) == (last, EVENTS, 0)
    # For each of three batches at least: begin, look, fix, commit, store, be told.
    assert last > 18


async def test_each_relay_may_die_soon(former: Path) -> None:
    """Y4, X2: also if one after the other dies, each a step later than the one before."""
    transport = MemoryTransport()
    for last in count(1):
        life = Life(last)
        await live(former, transport, life)
        if not life.is_over:
            break
    assert await stored(transport) == EVENTS
    assert waiting(former) == 0
