"""A plain store, written anew from clause K2, for faults to be planted in."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anyio.lowlevel import checkpoint

from flexiflow import StateConflict
from flexiflow.extras.stores import Stored


@dataclass
class Row:
    """A version of a component; the snapshot is text."""

    version: int
    state: str
    text: str
    due: float | None


class PlainStore:
    """Keeps all versions of each component in a list.

    Attributes:
        parts: the titles of the parts of clause K2 that find what is wrong with it.
    """

    parts: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.last = 0

    def key(self, name: str) -> str:
        """Return what a component is kept under."""
        return name

    def encode(self, data: Any) -> str:
        """Return a snapshot as text."""
        _check(data)
        return json.dumps(data, allow_nan=False)

    def next_version(self, name: str) -> int:
        """Return a version that was never given."""
        self.last += 1
        return self.last

    def found(self, name: str) -> int:
        """Return the version that is stored of a component."""
        rows = self.rows.get(self.key(name))
        return rows[-1].version if rows else 0

    def put(self, name: str, row: Row) -> None:
        """Store a version."""
        self.rows.setdefault(self.key(name), []).append(row)

    def stored(self, row: Row) -> Stored:
        """Return what is loaded of a version."""
        return Stored(row.version, row.state, json.loads(row.text), row.due)

    async def load(self, name: str) -> Stored | None:
        await checkpoint()
        rows = self.rows.get(self.key(name))
        return self.stored(rows[-1]) if rows else None

    async def save(
        self,
        name: str,
        state: str,
        data: Mapping[str, Any] | None,
        *,
        expected: int,
        due: float | None = None,
    ) -> int:
        text = self.encode(data)
        await checkpoint()
        found = self.found(name)
        if found != expected:
            raise StateConflict(name, expected, found)
        row = Row(self.next_version(name), state, text, due)
        self.put(name, row)
        return row.version

    async def due(self, until: float, limit: int) -> Sequence[str]:
        await checkpoint()
        times = {name: rows[-1].due for name, rows in self.rows.items()}
        found = [
            (due, name)
            for name, due in times.items()
            if due is not None and due <= until and due < math.inf
        ]
        return [name for _, name in sorted(found)][:limit]

    async def delete(self, name: str) -> None:
        await checkpoint()
        self.rows.pop(self.key(name), None)

    async def versions(self, name: str) -> Sequence[Stored]:
        await checkpoint()
        return [self.stored(row) for row in reversed(self.rows.get(self.key(name), []))]


def _check(data: Any) -> None:
    """Refuse keys that are no str, which JSON would change."""
    if isinstance(data, dict):
        for key, value in data.items():
            if not isinstance(key, str):
                raise TypeError(f"{key!r} is no str")
            _check(value)
    elif isinstance(data, list):
        for value in data:
            _check(value)
