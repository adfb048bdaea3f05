"""Kills shops that enroll events in their own transactions, or the server that they use (Y4).

The shop's own tables tell what has to be: each order that was committed is in the log once, and is
shipped once, also where its event was handled several times; none that was rolled back is.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, final

import anyio
from anyio import to_thread

from flexiflow.extras.durable import transport_from_url
from tools.chaos.ledger import BACKENDS, Result, all_settled, dead_letters, look
from tools.chaos.processes import Victim, prepare
from tools.chaos.shop import GROUP, Trade, be_a_shop, open_shop, read_shop
from tools.redis_server import redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from tools.chaos.ledger import Entry
    from tools.chaos.load import Plan
    from tools.redis_server import RedisServer

_SHOPS: Final = 2
_MOST_SAID: Final = 30
_INTERVAL: Final = 0.05


async def kill_enrolled(backend: str, mode: str, plan: Plan, *, has_inbox: bool = True) -> Result:
    """Kill shops, of both backends in turn, or the server of theirs.

    Args:
        backend: what this runs on, for the result.
        mode: "SQLite", where shops are killed, or "Redis", where the server is.
        plan: how often to kill.
        has_inbox: whether shops ask their inbox.
    """
    begun, result = time.monotonic(), Result("enrolled", backend, mode)
    with tempfile.TemporaryDirectory() as folder, _place(mode, folder) as (url, server):
        prepare(be_a_shop)
        trade = Trade(str(Path(folder, "shop.db")), url, has_inbox=has_inbox)
        open_shop(trade.path).close()
        crowd = _Crowd(trade, result, plan)
        await to_thread.run_sync(crowd.kill_shops if server is None else crowd.run_beside(server))
        transport = transport_from_url(url)
        await _finish(crowd, trade, result, plan)
        if not await all_settled(transport, [GROUP], plan.patience):
            result.stalled = True
        crowd.end()
        entries = await look(transport, result, [GROUP])
        result.dead = len(await dead_letters(transport, GROUP))
        judge(result, entries, **read_shop(trade.path))
    result.seconds = time.monotonic() - begun
    return result


@contextmanager
def _place(mode: str, folder: str) -> Generator[tuple[str, RedisServer | None]]:
    """Yield the URL of a transport, and its server if that is to be killed."""
    if mode == "Redis":
        with redis_server(appendfsync="always") as server:
            yield server.url, server
    else:
        yield f"sqlite:{Path(folder, 'events.db')}", None


async def _finish(crowd: _Crowd, trade: Trade, result: Result, plan: Plan) -> None:
    """Let all that was ordered be shipped, as long as something happens."""
    crowd.end()
    crowd.begin(trade._replace(is_selling=False))
    shipped, since = -1, time.monotonic()
    while True:
        found = read_shop(trade.path)
        if len(set(found["shipped"])) >= len(found["orders"]):
            return
        if len(found["shipped"]) > shipped:
            shipped, since = len(found["shipped"]), time.monotonic()
        elif time.monotonic() - since > plan.patience:
            result.stalled = True
            return
        await anyio.sleep(_INTERVAL)


def judge(
    result: Result,
    entries: Sequence[Entry],
    orders: Sequence[tuple[str]],
    calls: Sequence[tuple[str]],
    shipped: Sequence[tuple[str]],
) -> None:
    """Compare what was ordered with what was stored and shipped.

    Args:
        result: the result to fill in.
        entries: the events of the log.
        orders: those that were committed.
        calls: the number of each order for each time that it was handled.
        shipped: the numbers of those that the inbox let through.
    """
    stored, once = Counter(each.message for each in entries), Counter(shipped)
    expected = set(orders)
    result.stored = len(entries)
    result.handled = len(once)
    result.twice = len(calls) - len(set(calls))
    result.lost = len(expected - stored.keys())
    result.unhandled = len(expected - once.keys())
    result.doubled = stored.total() - len(stored) + once.total() - len(once)
    result.wrong = len((stored.keys() | once.keys()) - expected)


@final
class _Crowd:
    """Several shops with one database."""

    def __init__(self, trade: Trade, result: Result, plan: Plan) -> None:
        self._trade = trade
        self._result = result
        self._plan = plan
        self._random = Random(plan.kills)
        self._backends = cycle(BACKENDS)
        self._shops: list[Victim] = []

    def begin(self, trade: Trade) -> None:
        """Open one more shop."""
        self._shops.append(Victim(be_a_shop, next(self._backends), trade))

    def end(self) -> None:
        """Close all shops."""
        while self._shops:
            shop = self._shops.pop()
            shop.tell()
            shop.join()

    def kill_shops(self) -> None:
        """Kill the oldest shop again and again, in the midst of what it does."""
        for _ in range(_SHOPS):
            self.begin(self._trade)
        for turn in range(self._plan.kills):
            oldest = self._shops.pop(0)
            _hear(oldest, self._random.randint(1, _MOST_SAID))
            time.sleep(self._random.random() * _INTERVAL)
            oldest.kill()
            oldest.join()
            self._killed(turn)
            self.begin(self._trade)

    def run_beside(self, server: RedisServer) -> Callable[[], None]:
        """Return what kills a server again and again while shops use it."""

        def kill_servers() -> None:
            for _ in range(_SHOPS):
                self.begin(self._trade)
            for turn in range(self._plan.kills):
                _hear(self._shops[turn % _SHOPS], _MOST_SAID)
                server.restart()
                self._killed(turn)

        return kill_servers

    def _killed(self, turn: int) -> None:
        self._result.kills += 1
        if (turn + 1) % 10 == 0:
            orders = len(read_shop(self._trade.path)["orders"])
            self._plan.tell(f"{turn + 1}/{self._plan.kills} kills, {orders:,} ordered")


def _hear(shop: Victim, times: int) -> None:
    """Wait until a shop has said so many words."""
    for _ in range(times):
        shop.hear()
