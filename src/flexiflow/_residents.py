"""Which components stay in memory, where their number is bounded (K5)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow._actor import Actor

_FEW: Final = 16
"""How many that could not be unloaded are looked at again whenever there are too many."""


@final
class Residents:
    """The components that a factory made, of which those not used longest are unloaded first.

    They are known by their actors.

    Args:
        most: how many of them may stay in memory, unless more are busy.
        unload: unloads a component, unless it is busy or needed; returns whether it did so.
    """

    __slots__ = ("_spared", "_surplus", "_unload", "_used")

    def __init__(self, most: int, unload: Callable[[Actor], bool]) -> None:
        self._unload = unload
        # By how many there are too many; below 0 if there is room.
        self._surplus = -most
        # The one not used longest first.
        self._used: OrderedDict[Actor, None] = OrderedDict()
        # Those that could not be unloaded: all of them were not used for longer than those above.
        self._spared: OrderedDict[Actor, None] = OrderedDict()

    def add(self, actor: Actor) -> None:
        """Count a component that the factory made; it is about to handle a message."""
        self._used[actor] = None
        self._surplus += 1
        if self._surplus > 0:
            self._trim()

    def discard(self, actor: Actor) -> None:
        """Count a component no more, since it was unregistered."""
        for line in (self._used, self._spared):
            if actor in line:
                del line[actor]
                self._surplus -= 1

    def rest(self, actor: Actor) -> None:
        """Note that a component has handled a message or ended its work."""
        if actor in self._used:
            self._used.move_to_end(actor)
        elif actor in self._spared:
            del self._spared[actor]
            self._used[actor] = None
        if self._surplus > 0:
            self._trim()

    def _trim(self) -> None:
        """Unload components while there are too many, but look at each only once."""
        few = min(_FEW, len(self._spared))
        while self._surplus > 0 and (few > 0 or self._used):
            actor, _ = (self._spared if few > 0 else self._used).popitem(last=False)
            if self._unload(actor):
                self._surplus -= 1
            else:
                self._spared[actor] = None
            few -= 1
