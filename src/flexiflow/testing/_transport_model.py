"""What a transport has to do, as plain data: what each group is given, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, final

from flexiflow.extras.durable import Acknowledged, Buried, Noted, Returned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from flexiflow.extras.durable import Delivery, Failure, Outcome


class Item(NamedTuple):
    """A record that is stored: its body, and the only group that is to handle it."""

    body: bytes
    group: str | None

    @property
    def name(self) -> str:
        """What it is called in a complaint."""
        redriven = f", redriven to {self.group!r}" if self.group else ""
        return f"record {self.body.decode()}{redriven}"


@final
@dataclass(slots=True)
class Hold:
    """A pending record.

    Attributes:
        holder: the worker that holds it, or None.
        is_doubtful: whether a `receive` may have taken it that was cancelled.
    """

    attempts: int = 0
    deliveries: int = 1
    holder: str | None = None
    is_doubtful: bool = False


class Letter(NamedTuple):
    """A dead letter, but for its id and time."""

    body: bytes
    failure: Failure
    attempts: int
    deliveries: int


@final
@dataclass(slots=True)
class Part:
    """How far a group is in one partition.

    Attributes:
        items: what is stored there, shared by all groups.
        begun: how many of them were given.
        forgiven: what was gone before the group was there.
        pending: what was given and is not settled, by its place.
        gone: the places that were deleted behind the transport's back.
        settled: what was acknowledged or buried.
        missed: how many at least, and at most, were deleted before they were settled.
    """

    items: list[Item]
    gone: set[int]
    begun: int = 0
    forgiven: frozenset[int] = frozenset()
    pending: dict[int, Hold] = field(default_factory=dict[int, Hold])
    settled: set[int] = field(default_factory=set[int])
    missed: list[int] = field(default_factory=lambda: [0, 0])

    @property
    def lag(self) -> int:
        """How many were not yet given."""
        return sum(place not in self.gone for place in range(self.begun, len(self.items)))

    @property
    def unsettled(self) -> list[int]:
        """The places that are not settled."""
        return sorted([*self.pending, *range(self.begun, len(self.items))])

    @property
    def is_doubtful(self) -> bool:
        """Whether no one can tell whether something was given."""
        return any(hold.is_doubtful for hold in self.pending.values())

    def next(self) -> list[int]:
        """Tell what is given next: first what nobody holds, then what is new."""
        left = [place for place in sorted(self.pending) if self.pending[place].holder is None]
        places = [*left, *range(self.begun, len(self.items))]
        return [place for place in places if place not in self.gone]

    def give(self, place: int, worker: str) -> Hold:
        """Give a record, and tell how it stood before, its counts as they are given."""
        hold = self.pending.get(place)
        if hold is None:
            # A gap shows when what comes after it is given.
            self.pending[place] = Hold(holder=worker)
            self.begun = max(self.begun, place + 1)
            return Hold(deliveries=0)
        before = Hold(hold.attempts, hold.deliveries, None, hold.is_doubtful)
        hold.holder, hold.is_doubtful = worker, False
        hold.deliveries = max(hold.deliveries, 1)
        return before

    def doubt(self, limit: int) -> None:
        """Note that a `receive` was cancelled: what it would have given may have been taken."""
        for place in self.next()[:limit]:
            hold = self.pending.setdefault(place, Hold(deliveries=0))
            hold.is_doubtful = True
            self.begun = max(self.begun, place + 1)

    def let_go(self, worker: str) -> None:
        """Let others be given what a worker holds."""
        for hold in self.pending.values():
            if hold.holder == worker:
                hold.holder = None

    def settle(self, place: int, outcome: Outcome) -> None:
        """Write down what became of a record that is held."""
        if isinstance(outcome, Acknowledged | Buried):
            del self.pending[place]
            self.settled.add(place)
            # Whoever held it may settle it; whether it counts as missed then is left open.
            self.missed[1] += place in self.gone
            return
        hold = self.pending[place]
        hold.attempts, hold.deliveries = outcome.attempts, outcome.deliveries
        if isinstance(outcome, Returned):
            hold.holder = None

    def miss(self) -> None:
        """Count what is gone, once all that is there was given."""
        lost = self.gone - self.settled
        least, most = self.missed
        self.missed = [least + len(lost - self.forgiven), most + len(lost)]
        self.begun = len(self.items)
        for place in lost:
            self.pending.pop(place, None)


@final
class GroupModel:
    """A group: how far it is, and what it has given up.

    Args:
        items: what is stored, for each partition.
        gone: what of it was deleted.

    Attributes:
        doubtful: dead letters that may have been gone before they were buried.
        tokens: that of the last lease, for each partition.
    """

    def __init__(self, items: list[list[Item]], gone: list[set[int]]) -> None:
        parts = zip(items, gone, strict=True)
        self.parts = [Part(each, lost, forgiven=frozenset(lost)) for each, lost in parts]
        self.dead: list[Letter] = []
        self.doubtful: list[Letter] = []
        self.tokens = [0] * len(items)


@final
class Model:
    """All that a transport has to remember.

    Args:
        partitions: how many there are.
    """

    def __init__(self, partitions: int) -> None:
        self.items: list[list[Item]] = [[] for _ in range(partitions)]
        self.gone: list[set[int]] = [set() for _ in range(partitions)]
        self.groups: dict[str, GroupModel] = {}
        self.positions: list[list[str]] = [[] for _ in range(partitions)]
        self.of_key: dict[str, int] = {}

    def group(self, name: str) -> GroupModel:
        """Give a group, which is made by being asked for."""
        if name not in self.groups:
            self.groups[name] = GroupModel(self.items, self.gone)
        return self.groups[name]

    def delete(self, partition: int, place: int) -> None:
        """Note that a record is deleted; nobody who has settled it misses it."""
        self.gone[partition].add(place)

    def crowding(self, partition: int) -> tuple[int, int]:
        """Tell how many records have to be kept, and how many from the first of them on."""
        unsettled = {p for each in self.groups.values() for p in each.parts[partition].unsettled}
        stored = len(self.items[partition])
        return len(unsettled), stored - min(unsettled, default=stored)


OUTCOMES: Final[Mapping[str, Callable[[Delivery, Failure], Outcome]]] = {
    "acknowledge": lambda d, _: Acknowledged(d.position),
    "note": lambda d, _: Noted(d.position, d.attempts + 1, d.deliveries),
    "begin": lambda d, _: Noted(d.position, d.attempts, d.deliveries + 1),
    "return": lambda d, _: Returned(d.position, d.attempts, 0),
    "let go": lambda d, _: Returned(d.position, d.attempts + 1, d.deliveries),
    "bury": lambda d, failure: Buried(d.position, d.attempts + 1, d.deliveries, failure),
}
"""What can become of a delivery."""


def names(items: Iterable[Item | Delivery]) -> str:
    """Name records for a complaint."""
    return ", ".join(each.body.decode(errors="replace") for each in items) or "nothing"
