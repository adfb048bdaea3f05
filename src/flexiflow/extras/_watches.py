"""Statistics of streams, backgrounds and bridges, added up by name while they come and go."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self, final

from flexiflow.extras._measures import OTHER, label_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Counted(Protocol):
    """A stream, a background or a bridge."""

    def statistics(self) -> object:
        """Return the numbers as they are now."""
        ...


class Kind(NamedTuple):
    """What can be watched, and what its numbers are. The keys name them, the values say what.

    Attributes:
        name: what it is, in one word.
        counters: those that only grow; what is not watched any more still counts.
        amounts: those that come and go; several of one name have them together.
        shared: those of which each one of that name tells the same; the greatest one counts.
    """

    name: str
    counters: Mapping[str, str]
    amounts: Mapping[str, str]
    shared: Mapping[str, str]

    def fits(self, statistics: object) -> bool:
        """Return whether statistics have these numbers."""
        return all(hasattr(statistics, each) for each in (*self.counters, *self.amounts))


KINDS: Final = (
    Kind(
        "stream",
        {
            "received": "Events that streams have accepted or dropped.",
            "delivered": "Events that readers have taken.",
            "dropped": "Events that no reader gets.",
        },
        {
            "buffered": "Events that wait for a reader.",
            "blocked_publishers": "Publishers that wait for room.",
            "waiting_readers": "Readers that wait for an event.",
        },
        {},
    ),
    Kind(
        "background",
        {
            "ended": "Publishes that have ended.",
            "dropped": "Events that the overflow policy has dropped.",
            "cancelled": "Publishes that were cancelled.",
            "abandoned": "Events that were never published, since the block was left.",
        },
        {
            "running": "Publishes that run.",
            "waiting": "Events that wait to be published.",
            "blocked_publishers": "Publishers that wait for room.",
        },
        {},
    ),
    Kind(
        "bridge",
        {
            "stored": "Events that bridges have stored.",
            "delivered": "Attempts to handle an event that have begun.",
            "acknowledged": "Events that were handled.",
            "redelivered": "Attempts that were not the first of their event.",
            "failed": "Attempts that have failed.",
            "dead": "Events that were moved to the dead letters.",
            "ignored": "Events that were given and that the group does not take.",
            "reconnects": "How often the transport was unavailable.",
        },
        {"held": "Events that bridges hold."},
        {
            "pending": "Events of the group that were given and are not settled.",
            "lag": "Events that no worker of the group was given.",
            "missed": "Events that were lost or deleted before the group had settled them.",
            "waiting": "Events of the group that wait for another attempt.",
        },
    ),
)
"""What can be watched."""


@final
class Watch:
    """A stream, a background or a bridge that is being watched, until this is closed.

    Also a context manager, which closes it.

    Args:
        close: ends the watch; called once.
    """

    __slots__ = ("_close",)

    def __init__(self, close: Callable[[], object]) -> None:
        self._close: Callable[[], object] | None = close

    def close(self) -> None:
        """Watch it no more; what it has counted still counts. Does nothing the second time."""
        close, self._close = self._close, None
        if close is not None:
            close()

    def __enter__(self) -> Self:
        """Return the watch itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Watch it no more."""
        self.close()


class Total(NamedTuple):
    """The numbers of all that has one name.

    Attributes:
        kind: what it is.
        label: the name as it is shown.
        numbers: the numbers; without those that come and go if nothing of that name is watched.
    """

    kind: Kind
    label: str
    numbers: Mapping[str, int]


@final
class Watches:
    """All that is being watched, and what is left of what was.

    Args:
        most: how many names of each kind are kept apart.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._past: dict[str, dict[str, dict[str, int]]] = {kind.name: {} for kind in KINDS}
        self._live: dict[object, tuple[Kind, str, Counted]] = {}
        self._lock = Lock()

    def add(self, name: str, it: Counted) -> Watch:
        """Watch something from now on.

        Raises:
            TypeError: it has no statistics of a known kind.
        """
        kind = _kind_of(it)
        label, key = label_of(name), object()
        with self._lock:
            past = self._past[kind.name]
            if label not in past and len(past) >= self._most:
                label = OTHER
            past.setdefault(label, dict.fromkeys(kind.counters, 0))
            self._live[key] = kind, label, it
        return Watch(lambda: self._end(key))

    def _end(self, key: object) -> None:
        with self._lock:
            kind, label, it = self._live.pop(key)
            _count(self._past[kind.name][label], kind.counters, it.statistics())

    def totals(self) -> list[Total]:
        """Return the numbers of each name."""
        with self._lock:
            totals = {
                (kind.name, label): Total(kind, label, dict(counts))
                for kind in KINDS
                for label, counts in self._past[kind.name].items()
            }
            for kind, label, it in self._live.values():
                numbers: Any = totals[kind.name, label].numbers
                statistics = it.statistics()
                _count(numbers, (*kind.counters, *kind.amounts), statistics)
                for each in kind.shared:
                    numbers[each] = max(numbers.get(each, 0), getattr(statistics, each))
        return list(totals.values())


def _count(numbers: dict[str, int], names: Iterable[str], statistics: object) -> None:
    for each in names:
        numbers[each] = numbers.get(each, 0) + getattr(statistics, each)


def _kind_of(it: Counted) -> Kind:
    try:
        statistics = it.statistics()
    except AttributeError:
        statistics = None
    for kind in KINDS:
        if kind.fits(statistics):
            return kind
    raise TypeError(
        f"what is watched must be a stream, a background or a bridge, not {type(it).__qualname__}"
    )
