"""Statistics of streams, backgrounds and bridges, added up by name while they come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self, final

from flexiflow.extras._measures import OTHER, label_of
from flexiflow.extras._process import fork_safe_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Counted(Protocol):
    """A stream, a background or a bridge.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.prometheus import Counted
        >>> def show(counted: Counted) -> None:
        ...     print(type(counted.statistics()).__name__)
        >>> async def main():
        ...     async with EventBus().background(limit=1) as background:
        ...         show(background)
        >>> anyio.run(main)
        BackgroundStatistics
    """

    def statistics(self) -> object:
        """Return the numbers as they are now."""
        ...


class Kind(NamedTuple):
    """What can be watched, and what its numbers are. The keys name them, the values say what.

    Attributes:
        name: what it is, in one word.
        counters: those that only grow; they keep what was counted of something no longer watched.
        amounts: those that come and go; several of one name have them together.
        shared: numbers of a whole group, which each of its bridges reports; the greatest is shown.
        troubles: texts that say what is wrong, or None; shown is how many there are.
    """

    name: str
    counters: Mapping[str, str]
    amounts: Mapping[str, str]
    shared: Mapping[str, str]
    troubles: Mapping[str, str]

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
            "relayed": "Events of an outbox that bridges have handed on.",
        },
        {"held": "Events that bridges hold."},
        {
            "pending": "Events of the group that were given and are not settled.",
            "lag": "Events that no worker of the group was given.",
            "missed": "Events that were lost or deleted before the group had settled them.",
            "waiting": "Events of the group that wait for another attempt.",
        },
        {"outbox_trouble": "Bridges whose outbox can't hand on events at the moment."},
    ),
)
"""What can be watched."""


@final
class Watch:
    """A stream, a background or a bridge that is being watched, until this is closed.

    Also a context manager, which closes it.

    Args:
        close: ends the watch; called once.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.prometheus import Prometheus
        >>> from prometheus_client import CollectorRegistry
        >>> async def main():
        ...     numbers = Prometheus(CollectorRegistry())
        ...     async with EventBus().stream("order.*") as stream:
        ...         with numbers.watch("orders", stream):
        ...             print("it is counted until the block ends")
        >>> anyio.run(main)
        it is counted until the block ends
    """

    __slots__ = ("_close",)

    def __init__(self, close: Callable[[], object]) -> None:
        self._close: Callable[[], object] | None = close

    def close(self) -> None:
        """End the watch, and keep its numbers; does nothing the second time."""
        close, self._close = self._close, None
        if close is None:
            return
        try:
            close()
        except BaseException:
            self._close = close
            raise

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
class _Watched:
    """Something that is being watched.

    Args:
        kind: what it is.
        label: the name as it is shown.
        it: the thing itself.

    Attributes:
        watches: how many watches of it are open.
    """

    __slots__ = ("it", "kind", "label", "watches")

    def __init__(self, kind: Kind, label: str, it: Counted) -> None:
        self.kind = kind
        self.label = label
        self.it = it
        self.watches = 0


@final
class Watches:
    """All that is being watched, and what is left of what was.

    Args:
        most: how many names of each kind are kept apart.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._past: dict[str, dict[str, dict[str, int]]] = {kind.name: {} for kind in KINDS}
        self._live: dict[object, _Watched] = {}
        self._lock = fork_safe_lock()

    def add(self, name: str, it: Counted) -> Watch:
        """Watch something from now on; two watches of it under one name count once.

        Raises:
            TypeError: it has no statistics of a known kind, or the name is no str.
        """
        if not isinstance(name, str):
            raise TypeError(
                "the name of a watch must be a str, as in watch('orders', bridge), not "
                f"{type(name).__qualname__}"
            )
        kind = _kind_of(it)
        label = label_of(name)
        with self._lock:
            past = self._past[kind.name]
            if label not in past and len(past) >= self._most:
                label = OTHER
            past.setdefault(label, dict.fromkeys(kind.counters, 0))
            key = label, id(it)
            self._live.setdefault(key, _Watched(kind, label, it)).watches += 1
        return Watch(lambda: self._end(key))

    def _end(self, key: object) -> None:
        watched = self._live[key]
        statistics = watched.it.statistics()
        with self._lock:
            watched.watches -= 1
            if not watched.watches:
                del self._live[key]
                kind = watched.kind
                _count(self._past[kind.name][watched.label], kind.counters, statistics)

    def totals(self) -> list[Total]:
        """Return the numbers of each name."""
        with self._lock:
            totals = {
                (kind.name, label): Total(kind, label, dict(counts))
                for kind in KINDS
                for label, counts in self._past[kind.name].items()
            }
            live = list(self._live.values())
        # Without the lock, since `statistics` may be anybody's.
        for each in live:
            numbers: Any = totals[each.kind.name, each.label].numbers
            _add(numbers, each.kind, each.it.statistics())
        return list(totals.values())


def _add(numbers: dict[str, int], kind: Kind, statistics: object) -> None:
    _count(numbers, (*kind.counters, *kind.amounts), statistics)
    for each in kind.shared:
        numbers[each] = max(numbers.get(each, 0), getattr(statistics, each))
    for each in kind.troubles:
        numbers[each] = numbers.get(each, 0) + (getattr(statistics, each) is not None)


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
