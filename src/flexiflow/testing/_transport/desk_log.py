"""A desk's look at the logs: what is stored, where and when, compared with the model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from flexiflow.testing._transport.desk_calls import Broken, Inconclusive
from flexiflow.testing._transport.holds import Item, Span, names
from flexiflow.testing._transport.model import Model
from flexiflow.testing._transport.plans import Offset, check_places, check_stored, check_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from flexiflow.extras.durable import Stored
    from flexiflow.testing._transport.desk_calls import Calls
    from flexiflow.testing._transport.model import GroupModel
    from flexiflow.testing._transport.plans import Plan

LENGTH: Final = 6
"""How many records the log of a full transport holds."""
SIZE: Final = 64
"""The largest event, in bytes, of a transport that was made with `max_event_bytes`."""
MOST: Final = 3
"""How many records may be scheduled at a time, with `max_scheduled`."""
WINDOW: Final = 1
"""For how many seconds a producer is remembered, with `idempotency_window`."""

_TOLD: Final[Mapping[str, str]] = {
    "max_length": "X5",
    "max_event_bytes": "X14",
}
"""The limits that a connection tells, and the clauses on them."""
_PAGE: Final = 2


class Watching:
    """Looks at the logs.

    Args:
        calls: calls the transport.
        options: what the transport was made with.
    """

    def __init__(self, calls: Calls, options: Mapping[str, int]) -> None:
        self._calls = calls
        self._options = options
        self._plans: dict[bytes, Plan] = {}
        self._inserted = 0

    @property
    def _is_full(self) -> bool:
        """Whether its log holds at most `LENGTH` records."""
        return "max_length" in self._options

    async def open(self) -> None:
        """Connect, and find where the log ends now."""
        await self._calls.open()
        first = self._calls.first
        self._model = Model(first.partitions, is_exclusive=first.is_exclusive)
        for name, clause in _TOLD.items():
            wanted, told = self._options.get(name), getattr(first, name)
            if wanted not in {None, told}:
                raise Broken(clause, f"a transport made with {name}={wanted} tells {told}")
        _, self._seen = await first.tail(None, 1, 0)
        self._origin = [*self._seen]
        await self._measure()

    async def _measure(self) -> float:
        """Compare the transport's clock with the loop's, and return the transport's time."""
        earliest = anyio.current_time()
        now = (await self._calls.first.survey()).now
        self._offset = Offset(now - anyio.current_time(), now - earliest)
        return now

    async def _see(
        self, wanted: dict[Item, str | None], clause: str = "X2", at: Span | None = None
    ) -> bool:
        """Check what was stored since the last time, and note it; return whether there was any.

        Args:
            wanted: what was stored, with its key, besides what was scheduled.
            clause: the clause that is broken if more was stored.
            at: when it was stored, if the transport has stored it.
        """
        found, looked = await self._look_on()
        others = [each for each in found if self._plan(each) is None]
        items = {each: self._item_seen(each, [*wanted]) for each in others}
        self._check_seen(list(items.values()), list(wanted), clause)
        check_stored(self._plans, found, looked)
        for partition in range(len(self._model.items)):
            check_places(self._plans, [each for each in found if each.partition == partition], at)
        for each in found:
            plan, item = self._plan(each), items.get(each, Item(each.body, each.group))
            key = wanted[item] if plan is None else plan.record.key
            came = at if plan is None else Span(plan.comes.earliest, looked.latest)
            if came is not None:
                check_time(each, self._offset, came)
            self._note_partition(key, each.partition, "X4" if plan is None else "Y3")
            self._model.items[each.partition].append(item)
            self._model.positions[each.partition].append(each.position)
            self._model.keys[each.partition].append(key)
            self._model.times[each.partition].append(each.time)
        return bool(found)

    def _plan(self, seen: Stored) -> Plan | None:
        """Return what was scheduled, if it is that."""
        return None if seen.group else self._plans.get(seen.body)

    async def _look_on(self) -> tuple[list[Stored], Span]:
        """Return what was stored since the last time, and when that was looked at."""
        found: list[Stored] = []
        earliest = anyio.current_time()
        while True:
            look = partial(self._calls.first.tail, self._seen, _PAGE, 0)
            seen, self._seen = await self._calls.call("somebody looks on", look)
            found += seen
            if not seen:
                return found, Span(earliest, anyio.current_time())

    async def _catch_up(self) -> bool:
        """See what was scheduled and is due by now; return whether there was any."""
        now = self._calls.now()
        if not any(each.state == "waiting" and each.may_be_due(now) for each in self._all_plans):
            return False
        return await self._see({})

    async def _stay(self) -> None:
        """Check that nothing was due since the last look, which makes the result of a call open."""
        if await self._catch_up():
            raise Inconclusive

    @property
    def _all_plans(self) -> list[Plan]:
        return [*self._plans.values()]

    async def _look_back(self) -> None:
        """Find which of the oldest records were deleted to make room for others."""
        await self._catch_up()
        if not self._is_full:
            return
        kept = [set[str]() for _ in self._origin]
        after: Sequence[str] = self._origin
        while True:
            seen, after = await self._calls.first.tail(after, _PAGE, 0)
            if not seen:
                break
            for each in seen:
                kept[each.partition].add(each.position)
        await self._stay()
        for partition, positions in enumerate(self._model.positions):
            lost = [place for place, each in enumerate(positions) if each not in kept[partition]]
            self._model.first[partition] = max(lost, default=-1) + 1

    def _item_seen(self, seen: Stored, wanted: list[Item]) -> Item:
        """Return the record that is seen; if it is too large, any part of its body may be seen."""
        most = self._calls.first.max_event_bytes
        for item in wanted:
            if len(item.body) > most and item.body.startswith(seen.body):
                return item
        return Item(seen.body, seen.group)

    async def insert(self, partition: int, size: int) -> None:
        """Store a record behind the transport's back, however large."""
        if self._calls.means.insert is None:
            return
        partition %= len(self._model.items)
        self._inserted += 1
        body = f"else{self._inserted}".encode().ljust(size)
        await self._calls.means.insert(self._calls.transport, partition, body)
        self._calls.history.append(f"somebody stores {size} bytes in partition {partition}")
        await self._see({Item(body, None): None})

    def _note_partition(self, key: str | None, partition: int, clause: str) -> None:
        if key is not None and self._model.of_key.setdefault(key, partition) != partition:
            raise Broken(clause, f"records of the key {key!r} are in different partitions")

    def _check_seen(self, found: list[Item], wanted: list[Item], clause: str) -> None:
        more = [each for each in found if each not in wanted or found.count(each) > 1]
        if more and any(each.group for each in wanted):
            raise Broken("X3", f"what was redriven is stored as {more[0].name}")
        if more:
            how = "again" if clause == "X2" else "of a batch that was refused"
            raise Broken(clause, f"{more[0].name} was stored {how}")
        if len(found) < len(wanted):
            raise Broken("X1", f"{names(wanted)} was stored; an onlooker sees {names(found)}")
        if len(self._model.items) == 1 and found != wanted:
            raise Broken("X4", f"{names(wanted)} was stored in another order: {names(found)}")

    def _group_of(self, worker: str) -> GroupModel:
        return self._model.groups[self._calls.member(worker).group]

    async def _refused(
        self,
        error: type[Exception],
        text: str,
        call: Callable[[], Awaitable[object]],
        clause: str = "X4",
    ) -> None:
        """Check that a call raises an error."""
        try:
            await self._calls.call(text, call)
        except error:
            return
        raise Broken(clause, f"{text}, and there is no {error.__name__}")
