"""The reference model of a transport: what is stored, and its groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from flexiflow.testing._transport.part import Part

if TYPE_CHECKING:
    from flexiflow.testing._transport.holds import Grave, Item, Letter, Span, Tenure


REPLAY: Final = "the same since it began, and greater than ever before"
"""What the number of a group's replay is."""


@final
class GroupModel:
    """A group: how far it is, and its dead letters.

    Args:
        parts: how far it is in each partition.
        replay: the greatest number that a replay of a group of that name had; -1 if there is none.

    Attributes:
        replay: the number of its last replay, once that was told.
        graves: its dead letters, the oldest first.
        doubtful: dead letters whose record may have been gone before they were buried.
        tokens: the token of the last lease, for each partition.
        rank: the rank of the patterns that it takes, as of the last join; None after a member has
            left.
        tenures: the leases that are not released, for each partition.
    """

    def __init__(self, parts: list[Part], replay: int = -1) -> None:
        self.parts = parts
        self.graves: list[Grave] = []
        self.replay = replay
        self._is_told = False
        self.doubtful: list[Letter] = []
        self.tokens = [0] * len(parts)
        self.rank: int | None = None
        self.tenures: list[list[Tenure]] = [[] for _ in parts]

    @property
    def dead(self) -> list[Letter]:
        """Its dead letters, the oldest first."""
        return [each.letter for each in self.graves]

    @property
    def is_moved(self) -> bool:
        """Whether it has begun elsewhere than with the oldest record, or has begun again."""
        return any(part.is_moved for part in self.parts)

    def is_replay(self, number: int) -> bool:
        """Return whether the number of its replay can be this: greater than before, then the same.

        What is told first counts from then on (Y5).
        """
        if self._is_told:
            return number == self.replay
        former, self.replay, self._is_told = self.replay, number, True
        return number > former

    def begin_again(self, places: list[int], at: Span) -> None:
        """Begin again at a place of each partition (Y5)."""
        self._is_told = False
        for part, place, tenures in zip(self.parts, places, self.tenures, strict=True):
            for tenure in tenures:
                tenure.end()
                tenure.is_void = True
            tenures.clear()
            part.begin_again(place, at)
        self.graves = [each for each in self.graves if each.origin < places[each.partition]]


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
        self.times: list[list[float | None]] = [[] for _ in range(partitions)]
        self.origins: list[dict[int, int]] = [{} for _ in range(partitions)]
        self.first = [0] * partitions
        self.of_key: dict[str, int] = {}
        self.planned: set[bytes] = set()
        self._is_exclusive = is_exclusive
        self._replays: dict[str, int] = {}

    def add_group(self, name: str, places: list[int], *, is_moved: bool = False) -> None:
        """Add a group that begins at a place of each partition."""
        parts = [
            Part(
                self.items[each],
                self.gone[each],
                self._is_exclusive,
                place,
                frozenset(self.gone[each]),
                origins=self.origins[each],
                planned=self.planned,
                is_moved=is_moved,
            )
            for each, place in enumerate(places)
        ]
        self.groups[name] = GroupModel(parts, self._replays.get(name, -1))

    def forget(self, name: str) -> None:
        """Delete a group, if it is there; a later one of that name has other replays."""
        group = self.groups.pop(name, None)
        if group is not None:
            self._replays[name] = group.replay

    def places_at(self, time: float) -> list[int]:
        """Return for each partition the place of the first record that is late; else its end."""
        return [
            next((at for at in range(first, len(part)) if is_late(part[at], time)), len(part))
            for first, part in zip(self.first, self.times, strict=True)
        ]

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


def is_late(stored: float | None, time: float) -> bool:
    """Return whether a record was stored at a time or later; one of unknown time counts so (Y5)."""
    return stored is None or stored >= time
