"""Which components stay in memory, where their number is bounded (K5)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, final

from flexiflow._component import actor_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow._component import Component

_FEW: Final = 16
"""How many that could not be unloaded are looked at again whenever there are too many."""


@final
class Residents:
    """The components that a factory made, of which those not used longest are unloaded first.

    Args:
        most: how many of them may stay in memory, unless more are busy.
        is_needed: whether the component of a name must stay, also when it is idle.
        unload: unloads a component.
    """

    __slots__ = ("_idle", "_is_needed", "_made", "_most", "_spared", "_unload")

    def __init__(
        self,
        most: int,
        *,
        is_needed: Callable[[str], bool],
        unload: Callable[[Component], object],
    ) -> None:
        self._most = most
        self._is_needed = is_needed
        self._unload = unload
        self._made: set[str] = set()
        # Those that were idle when they were seen last, the one not used longest first.
        self._idle: OrderedDict[str, Component] = OrderedDict()
        # Those that could not be unloaded: all of them were not used for longer than those above.
        self._spared: OrderedDict[str, Component] = OrderedDict()

    def add(self, name: str) -> None:
        """Count a component that the factory made; it is about to handle a message."""
        self._made.add(name)
        if len(self._made) > self._most:
            self._trim()

    def discard(self, name: str) -> None:
        """Count a component no more, since it was unregistered."""
        self._made.discard(name)
        self._idle.pop(name, None)
        self._spared.pop(name, None)

    def rest(self, component: Component) -> None:
        """Note that a component has handled a message or ended its work."""
        name = actor_of(component).name
        if name in self._made:
            self._spared.pop(name, None)
            self._idle[name] = component
            self._idle.move_to_end(name)
            if len(self._made) > self._most:
                self._trim()

    def _trim(self) -> None:
        few = min(_FEW, len(self._spared))
        while len(self._made) > self._most and (few > 0 or self._idle):
            self._trim_first(self._spared if few > 0 else self._idle)
            few -= 1

    def _trim_first(self, line: OrderedDict[str, Component]) -> None:
        """Take the first component out of a line, and unload it if that can be."""
        name, component = line.popitem(last=False)
        if self._is_needed(name) or not _is_idle(component):
            self._spared[name] = component
        else:
            self._made.discard(name)
            self._unload(component)


def _is_idle(component: Component) -> bool:
    actor = actor_of(component)
    return actor.mailbox.is_idle and actor.life is not None and actor.life.is_idle
