"""The last batch of each producer, by which a transport in memory recognises it (X2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, final

if TYPE_CHECKING:
    from flexiflow.extras.durable._records import Batch


class _Produced(NamedTuple):
    """The last batch of a producer."""

    number: int
    at: float


@final
class Producers:
    """The numbers of the last batches.

    Args:
        window: for how many seconds after its last batch a producer is remembered, unless that is
            for ever (`Batch.is_lasting`).
    """

    __slots__ = ("_lasting", "_recent", "_window")

    def __init__(self, window: float) -> None:
        self._window = window
        # In the order of storing: the one that stored last is last.
        self._recent: dict[str, _Produced] = {}
        self._lasting: dict[str, int] = {}

    def last_of(self, producer: str) -> int:
        """Return the number of a producer's last batch; 0 if it is not known."""
        recent = self._recent.get(producer)
        return recent.number if recent is not None else self._lasting.get(producer, 0)

    def note(self, batch: Batch, now: float) -> None:
        """Note that a batch was stored, and forget producers whose last one was long ago."""
        self._recent.pop(batch.producer, None)
        if batch.is_lasting or batch.producer in self._lasting:
            self._lasting[batch.producer] = batch.number
        else:
            self._recent[batch.producer] = _Produced(batch.number, now)
        while self._recent and next(iter(self._recent.values())).at < now - self._window:
            del self._recent[next(iter(self._recent))]
