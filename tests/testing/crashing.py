"""Durable scenarios that are crashed everywhere, careful ones and some with a fault each."""

import os
import signal
import sqlite3
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import Component, Engine, EventBus, StateMachine, Transition
from flexiflow.extras.durable import (
    Acknowledged,
    Connection,
    Delivery,
    Lease,
    Member,
    MemoryTransport,
    Outcome,
    Room,
    Settled,
    SqliteTransport,
    open_bridge,
)
from flexiflow.extras.stores import SqliteStateStore

LEASE = 0.3
ORDERS = (1, 2)

# A worker that handles stored events.


class Trader:
    """Places orders and packs them; to place one twice, or to pack it twice, changes nothing.

    Args:
        make: makes the transport.
        until_settled: whether to end when nothing is pending; else when all orders are packed.
        one_by_one: whether to pack the second order after the first one was acknowledged.
    """

    def __init__(
        self,
        make: Callable[[Path], Any] = SqliteTransport,
        *,
        until_settled: bool = False,
        one_by_one: bool = False,
    ) -> None:
        self._make = make
        self._until_settled = until_settled
        self._one_by_one = one_by_one

    async def __call__(self, folder: Path) -> None:
        """Trade."""
        transport = self._make(folder / "events.db")
        self._delivered: list[int] = []
        self._packed = anyio.Event()
        shop, warehouse = EventBus(on_error="raise"), EventBus(on_error="raise")
        await warehouse.subscribe("order", "warehouse", self._pack)
        ways: dict[str, Any] = {"incoming": ["order"], "group": "warehouse", "lease": LEASE}
        with closing(open_books(folder)) as self._books:
            async with (
                open_bridge(shop, transport, outgoing=["order"]),
                open_bridge(warehouse, transport, **ways) as self._bridge,
                transport.connect() as self._connection,
            ):
                await self._place(shop)
                self._look()
                if self._until_settled:
                    while await self._is_pending():
                        pass
                else:
                    await self._packed.wait()

    async def _place(self, shop: EventBus) -> None:
        for number in {*ORDERS}.difference(read(self._books, "placed")):
            await shop.publish("order", number)
            self._books.execute("INSERT INTO placed VALUES (?)", [number])

    async def _pack(self, number: int) -> None:
        self._delivered.append(number)
        if self._one_by_one and self._delivered == [*ORDERS]:
            while not self._bridge.statistics().acknowledged:
                await self._is_pending()
            await checkpoint()
        await checkpoint()
        self._books.execute("INSERT OR IGNORE INTO packed VALUES (?)", [number])
        self._look()

    def _look(self) -> None:
        if read(self._books, "packed") == [*ORDERS]:
            self._packed.set()

    async def _is_pending(self) -> bool:
        standing = await self._connection.standing("warehouse")
        return bool(standing.pending or standing.lag)


def open_books(folder: Path) -> sqlite3.Connection:
    """Open the books of orders that are placed and packed."""
    books = sqlite3.connect(folder / "books.db", isolation_level=None)
    for table in ("placed", "packed"):
        books.execute(f"CREATE TABLE IF NOT EXISTS {table} (number INTEGER PRIMARY KEY)")
    return books


def read(books: sqlite3.Connection, table: str) -> list[int]:
    """Return the numbers in a table."""
    rows = books.execute(f"SELECT number FROM {table} ORDER BY number")  # noqa: S608  one of two
    return [number for (number,) in rows]


def check_trade(folder: Path) -> None:
    """Check that all orders are packed."""
    with closing(open_books(folder)) as books:
        assert read(books, "packed") == [*ORDERS]


class Forgetful:
    """A transport that confirms acknowledgements, and forgets them."""

    def __init__(self, path: Path) -> None:
        self._transport = SqliteTransport(path)

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Any]:
        """Connect."""
        async with self._transport.connect() as connection:
            yield _Leasing(connection, _Forgetting)


class Hasty:
    """A transport that takes each event for acknowledged once it was given."""

    def __init__(self, path: Path) -> None:
        self._transport = SqliteTransport(path)

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Any]:
        """Connect."""
        async with self._transport.connect() as connection:
            yield _Leasing(connection, _Hurrying)


class _Leasing:
    def __init__(self, connection: Connection, wrap: Callable[[Lease], Any]) -> None:
        self._connection = connection
        self._wrap = wrap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def acquire(self, member: Member, partition: int) -> Any:
        lease = await self._connection.acquire(member, partition)
        return None if lease is None else self._wrap(lease)


class _Wrapping:
    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lease, name)


class _Forgetting(_Wrapping):
    async def settle(self, outcomes: Sequence[Outcome]) -> Settled:
        return await self._lease.settle(
            [outcome for outcome in outcomes if not isinstance(outcome, Acknowledged)]
        )


class _Hurrying(_Wrapping):
    async def receive(self, room: Room) -> Sequence[Delivery]:
        deliveries = await self._lease.receive(room)
        await self._lease.settle([Acknowledged(each.position) for each in deliveries])
        return deliveries


trade = Trader()
forgetful = Trader(Forgetful, one_by_one=True)
hasty = Trader(Hasty, until_settled=True)

# A worker whose components last.

DOOR = StateMachine("closed", [Transition("closed", "open", "open")])


async def keep(folder: Path, *, is_late: bool = False) -> None:
    """Open doors, and write down each, so that it is not opened again.

    Args:
        folder: where the files are.
        is_late: whether it writes down a door before that is saved.
    """
    told = folder / "told"
    told.touch()

    def tell(door: str) -> None:
        with told.open("a") as file:
            file.write(f"{door}\n")

    async with SqliteStateStore(folder / "state.db") as store:
        engine = Engine(component_factory=partial(Component, machine=DOOR), store=store)
        for door in ("front", "back"):
            if door in told.read_text().split():
                continue
            if is_late:
                tell(door)
            await engine.send(door, {"type": "open"})
            tell(door)


async def check_keep(folder: Path) -> None:
    """Check that each door is open that was written down."""
    async with SqliteStateStore(folder / "state.db") as store:
        for door in (folder / "told").read_text().split():
            stored = await store.load(door)
            assert stored is not None, f"the {door} door is not stored"


keep_late = partial(keep, is_late=True)

# Workers that do nothing of use.


async def idle(folder: Path) -> None:
    """Pass three checkpoints."""
    for _ in range(3):
        await checkpoint()


async def fail(folder: Path) -> None:
    """Fail."""
    sys.stdout.write("I am about to fail\n")
    raise LookupError("there is no shelf")


async def leave(folder: Path) -> None:
    """End the process."""
    sys.stdout.write("I am about to leave\n")
    os._exit(3)


async def hang(folder: Path) -> None:
    """Wait for ever."""
    await anyio.sleep_forever()


async def forget(folder: Path) -> None:
    """Open a bridge over a transport that keeps nothing."""
    async with open_bridge(EventBus(), MemoryTransport(), outgoing=["order"]):
        pass


async def forget_in_a_thread(folder: Path) -> None:
    """Do so in a thread, which has an event loop and a context of its own."""
    thread = threading.Thread(target=anyio.run, args=(forget, folder))
    thread.start()
    await anyio.to_thread.run_sync(thread.join)


async def branch(folder: Path) -> None:
    """Leave a process behind, which goes on; its number is in the folder."""
    number = os.fork()
    if number == 0:
        signal.alarm(600)
        while True:
            signal.pause()
    (folder / str(number)).touch()
    await checkpoint()


class Unpicklable:
    """A worker that another process can't unpickle."""

    def __init__(self, problem: type[BaseException] = LookupError) -> None:
        self._problem = problem

    def __reduce__(self) -> Any:
        return _refuse, (self._problem,)

    async def __call__(self, folder: Path) -> None:
        """Do nothing."""


def _refuse(problem: type[BaseException]) -> None:
    raise problem("not in this process")
