"""The reference model of a transport: what each group is given, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from flexiflow.testing._transport.part import Part

if TYPE_CHECKING:
    from flexiflow.testing._transport.holds import Item, Letter, Tenure


@final
class GroupModel:
    """A group: how far it is, and its dead letters.

    Args:
        items: what is stored, for each partition.
        gone: the places of it that were deleted.
        is_exclusive: whether one worker at a time leases a partition.

    Attributes:
        doubtful: dead letters whose record may have been gone before they were buried.
        tokens: the token of the last lease, for each partition.
        rank: the rank of the patterns that it takes, as of the last join; None after a member has
            left.
        tenures: the leases that are not released, for each partition.
    """

    def __init__(
        self, items: list[list[Item]], gone: list[set[int]], *, is_exclusive: bool = False
    ) -> None:
        parts = zip(items, gone, strict=True)
        self.parts = [
            Part(each, lost, is_exclusive, forgiven=frozenset(lost)) for each, lost in parts
        ]
        self.dead: list[Letter] = []
        self.doubtful: list[Letter] = []
        self.tokens = [0] * len(items)
        self.rank: int | None = None
        self.tenures: list[list[Tenure]] = [[] for _ in items]


@final
class Model:
    """All that a transport has to remember.

    Args:
        partitions: how many there are.
        is_exclusive: whether one worker at a time leases each.
    """

    def __init__(self, partitions: int, *, is_exclusive: bool = False) -> None:
        self.items: list[list[Item]] = [[] for _ in range(partitions)]
        self.gone: list[set[int]] = [set() for _ in range(partitions)]
        self.groups: dict[str, GroupModel] = {}
        self.positions: list[list[str]] = [[] for _ in range(partitions)]
        self.keys: list[list[str | None]] = [[] for _ in range(partitions)]
        self.of_key: dict[str, int] = {}
        self._is_exclusive = is_exclusive

    def group(self, name: str) -> GroupModel:
        """Return a group; it is made when it is first asked for."""
        if name not in self.groups:
            self.groups[name] = GroupModel(self.items, self.gone, is_exclusive=self._is_exclusive)
        return self.groups[name]

    def delete(self, partition: int, place: int) -> None:
        """Note that a record was deleted; a group that has settled it does not miss it."""
        self.gone[partition].add(place)
        for group in self.groups.values():
            part = group.parts[partition]
            hold = part.waiting.get(place) or part.pending.get(place)
            if hold is not None and hold.has_waited:
                # Its body is kept outside the log, so it is not missed.
                part.settled.add(place)

    def crowding(self, partition: int) -> tuple[int, int]:
        """Return how many records must be kept, and how many there are from the first such on."""
        parts = [each.parts[partition] for each in self.groups.values()]
        kept = {place for part in parts for place in part.unsettled(with_ghosts=False)}
        first = {place for part in parts for place in part.unsettled(with_ghosts=True)[:1]}
        stored = len(self.items[partition])
        return len(kept), stored - min(first, default=stored)
