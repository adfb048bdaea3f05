"""A relay that dies at a given step, as its process might."""

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast, final

import pytest

from flexiflow.extras._sqlite.opening import connect
from flexiflow.extras.durable import Connection, Transport
from flexiflow.extras.durable._outbox import file, relay
from tests.durable.outbox.shop import relaying

AT_ONCE = 2
"""How many events a batch has at most."""


class Died(BaseException):
    """What ends a process, which does nothing more."""


@final
class Life:
    """Counts the steps of a relay, and ends it at one of them.

    Args:
        last: the step at which it dies.
    """

    def __init__(self, last: int) -> None:
        self.last = last
        self.steps = 0

    @property
    def is_over(self) -> bool:
        """Whether it has died."""
        return self.steps >= self.last

    def step(self) -> None:
        """Die here, or before, or go on."""
        self.steps += 1
        if self.is_over:
            raise Died

    @property
    def opened(self) -> Callable[[str, float], sqlite3.Connection]:
        """What opens a database whose every statement is a step."""

        def open_it(path: str, busy_timeout: float) -> sqlite3.Connection:
            database = connect(path, busy_timeout)
            return cast("sqlite3.Connection", _Database(database, self))

        return open_it


@final
class _Database:
    def __init__(self, database: sqlite3.Connection, life: Life) -> None:
        self._database = database
        self._life = life

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """Die before a statement, or run it."""
        self._life.step()
        return self._database.execute(*arguments)

    def cursor(self) -> sqlite3.Cursor:
        """Die before the tables are looked for, or return what looks for them."""
        self._life.step()
        return self._database.cursor()

    def close(self) -> None:
        """Close it, as the end of a process does."""
        self._database.close()


@final
class _Mortal:
    """A transport that a mortal relay uses."""

    def __init__(self, transport: Transport, life: Life) -> None:
        self._transport = transport
        self._life = life

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Connection]:
        """Open it."""
        async with self._transport.connect() as connection:
            store = connection.store

            async def store_and_die(batch: Any) -> None:
                self._life.step()
                await store(batch)
                self._life.step()

            setattr(connection, "store", store_and_die)  # noqa: B010  it is declared as a method
            yield connection


async def live(path: Path, transport: Transport, life: Life) -> None:
    """Hand on what there is, until the life is over."""
    mortal = _Mortal(transport, life)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "connect", life.opened)
        patch.setattr(relay, "MOST_AT_ONCE", AT_ONCE)
        try:
            # In the end the relay has so long to hand on the rest, also on a slow machine.
            async with relaying(path, mortal, lease=0.01, store_timeout=60.0):
                pass
        except Died:
            assert life.is_over
