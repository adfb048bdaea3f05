"""Faults of stores (K2)."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from unicodedata import normalize

from anyio.lowlevel import checkpoint

from flexiflow import StateConflict
from flexiflow.extras.stores import Stored
from properties.faults._store_registry import STORE_FAULTS, StoreFault, breaks, shown_by
from properties.reference.store import PlainStore, Row

__all__ = ["STORE_FAULTS", "StoreFault"]

SAVED = "what is saved is loaded"
CONFLICT = "another version is a conflict"
VERSION = "versions are given once"
DUE = "components that are due"
REFUSED = "values that are no JSON are refused"
DELETED = "what is deleted is gone"
CROWD = "many tasks at a time"
CANCELLED = "a call that is cancelled"
FORMER = "former versions"


@breaks("K2")
@shown_by(SAVED)
class MixesUpCases(PlainStore):
    """Takes names for equal that differ in case, as some databases do."""

    def key(self, name: str) -> str:
        return name.casefold()


@breaks("K2")
@shown_by(SAVED)
class MixesUpNormalForms(PlainStore):
    """Takes names for equal that look equal."""

    def key(self, name: str) -> str:
        return normalize("NFC", name)


@breaks("K2")
@shown_by(SAVED)
class EndsAtZero(PlainStore):
    """Cuts a name at its first null character, as C does."""

    def key(self, name: str) -> str:
        return name.partition("\0")[0]


@breaks("K2")
@shown_by(SAVED)
class HandsOutWhatItHolds(PlainStore):
    """Returns the same snapshot each time, which its first reader has changed by then."""

    def __init__(self) -> None:
        super().__init__()
        self.read: dict[int, Stored] = {}

    def stored(self, row: Row) -> Stored:
        return self.read.setdefault(row.version, super().stored(row))


@breaks("K2")
@shown_by(SAVED)
class CountsInFloats(PlainStore):
    """Makes floats of all numbers."""

    def stored(self, row: Row) -> Stored:
        return super().stored(row)._replace(data=json.loads(row.text, parse_int=float))


@breaks("K2")
@shown_by(CONFLICT, CROWD)
class OverwritesAnyVersion(PlainStore):
    """Replaces the stored version, if any version was expected."""

    async def save(
        self, name: str, state: str, data: Any, *, expected: int, due: float | None = None
    ) -> int:
        expected = self.found(name) if expected else 0
        return await super().save(name, state, data, expected=expected, due=due)


@breaks("K2")
@shown_by(CONFLICT)
class LooksTooEarly(PlainStore):
    """Compares the version, and writes a turn later."""

    async def save(
        self,
        name: str,
        state: str,
        data: Mapping[str, Any] | None,
        *,
        expected: int,
        due: float | None = None,
    ) -> int:
        found = self.found(name)
        if found != expected:
            raise StateConflict(name, expected, found)
        await checkpoint()
        row = Row(self.next_version(name), state, self.encode(data), due)
        self.put(name, row)
        return row.version


@breaks("K2")
@shown_by(CONFLICT)
class WritesBeforeItRefuses(PlainStore):
    """Has stored the due time when it finds the conflict."""

    async def save(
        self, name: str, state: str, data: Any, *, expected: int, due: float | None = None
    ) -> int:
        if rows := self.rows.get(name):
            rows[-1].due = due
        return await super().save(name, state, data, expected=expected, due=due)


@breaks("K2")
@shown_by(VERSION)
class BeginsAnew(PlainStore):
    """Counts from 1 again after a delete."""

    def next_version(self, name: str) -> int:
        return self.found(name) + 1


@breaks("K2")
@shown_by(DUE)
class ForgetsTheLimit(PlainStore):
    """Returns all that is due."""

    async def due(self, until: float, limit: int) -> Sequence[str]:
        return await super().due(until, 100)


@breaks("K2")
@shown_by(DUE)
class OrdersByName(PlainStore):
    """Returns what is due by name."""

    async def due(self, until: float, limit: int) -> Sequence[str]:
        return sorted(await super().due(until, 100))[:limit]


@breaks("K2")
@shown_by(DUE)
class LeavesOutTheLast(PlainStore):
    """Takes `until` itself for too late."""

    async def due(self, until: float, limit: int) -> Sequence[str]:
        return await super().due(until - 1e-9, limit)


@breaks("K2")
@shown_by(DUE)
class TakesNeverForATime(PlainStore):
    """Returns the components that are never due, if `until` is infinite."""

    async def due(self, until: float, limit: int) -> Sequence[str]:
        due = [*await super().due(until, 100)]
        if until == math.inf:
            due += sorted(name for name, rows in self.rows.items() if rows[-1].due == math.inf)
        return due[:limit]


@breaks("K2")
@shown_by(DUE)
class RemembersFormerTimes(PlainStore):
    """Keeps a component's due time until it gets another one."""

    def put(self, name: str, row: Row) -> None:
        if row.due is None and self.found(name):
            row.due = self.rows[name][-1].due
        super().put(name, row)


@breaks("K2")
@shown_by(REFUSED)
class TurnsKeysIntoTexts(PlainStore):
    """Leaves it to `json` to make a str of each key."""

    def encode(self, data: Any) -> str:
        return json.dumps(data, allow_nan=False)


@breaks("K2")
@shown_by(REFUSED)
class StoresWhatIsNoNumber(PlainStore):
    """Stores NaN, which other readers of JSON refuse."""

    def encode(self, data: Any) -> str:
        super().encode({})
        return json.dumps(data)


@breaks("K2")
@shown_by(DELETED)
class RefusesToDeleteTwice(PlainStore):
    """Raises where nothing is stored."""

    async def delete(self, name: str) -> None:
        del self.rows[name]
        await checkpoint()


@breaks("K2")
@shown_by(DELETED)
class DeletesByPrefix(PlainStore):
    """Deletes all whose name begins with the name."""

    async def delete(self, name: str) -> None:
        await checkpoint()
        for each in [each for each in self.rows if each.startswith(name)]:
            del self.rows[each]


@breaks("K2")
@shown_by(CROWD)
class IsUsedByOneTask(PlainStore):
    """Refuses a call while another one is under way."""

    busy = False

    async def save(
        self, name: str, state: str, data: Any, *, expected: int, due: float | None = None
    ) -> int:
        if self.busy:
            raise RuntimeError("another task is here")
        self.busy = True
        try:
            return await super().save(name, state, data, expected=expected, due=due)
        finally:
            self.busy = False


@breaks("K2")
@shown_by(CANCELLED)
class IsTornByCancellation(PlainStore):
    """Writes the state first, and the rest a turn later."""

    async def save(
        self, name: str, state: str, data: Any, *, expected: int, due: float | None = None
    ) -> int:
        version = await super().save(name, state, None, expected=expected, due=due)
        row = self.rows[name][-1]
        await checkpoint()
        row.text = self.encode(data)
        return version


@breaks("K2")
@shown_by(CANCELLED)
class StaysLocked(PlainStore):
    """Never frees what a cancelled call has locked."""

    locked = False

    async def save(
        self, name: str, state: str, data: Any, *, expected: int, due: float | None = None
    ) -> int:
        if self.locked:
            raise RuntimeError("it is locked")
        self.locked = True
        version = await super().save(name, state, data, expected=expected, due=due)
        self.locked = False
        return version


@breaks("K2")
@shown_by(FORMER)
class ShowsTheOldestFirst(PlainStore):
    """Returns the former versions in the order in which they were made."""

    async def versions(self, name: str) -> Sequence[Stored]:
        return [*reversed(await super().versions(name))]


@breaks("K2")
@shown_by(FORMER)
class KeepsWhatWasDeleted(PlainStore):
    """Returns former versions of a component that was deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, list[Row]] = {}

    async def delete(self, name: str) -> None:
        self.kept.setdefault(name, []).extend(self.rows.get(name, []))
        await super().delete(name)

    async def versions(self, name: str) -> Sequence[Stored]:
        kept = [self.stored(row) for row in reversed(self.kept.get(name, []))]
        return [*await super().versions(name), *kept]
