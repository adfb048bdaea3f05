"""Work that runs while a state lasts, as a line in which its end is awaited (M3).

The only holder of the line is a turn that lasts as long as the work (`_turns`). So to wait for the
work's end is known to be a wait for all that the work waits for.
"""

from __future__ import annotations

from typing import final

import anyio

from flexiflow._turns import Turn, break_ring, live_turns, never_comes


@final
class WorkTurn(Turn):
    """Marks the inside of a component's work.

    Args:
        actor: the inside of the component.
    """

    def __init__(self, actor: object) -> None:
        self.actor = actor


@final
class _EndTurn(Turn):
    """The wait for the end of a work."""

    must_wait = True


@final
class Work:
    """The work of one stay; a line in which its end is awaited (M3).

    Args:
        actor: the inside of the component.

    Attributes:
        holders: the turn of the work, as a tuple of one; none once the work has ended.
        scope: the cancel scope around it.
    """

    __slots__ = ("_waiting", "holders", "scope")

    def __init__(self, actor: object) -> None:
        self.holders: tuple[WorkTurn, ...] = (WorkTurn(actor),)
        self.scope = anyio.CancelScope()
        self._waiting: dict[Turn, None] = {}

    @property
    def is_around(self) -> bool:
        """Whether the caller runs within the work."""
        return any(turn in self.holders for turn in live_turns())

    async def end(self) -> bool:
        """Cancel the work, and wait until it has ended; return False at once if it never would.

        Then each wait in the ring is one for the end of a work.
        """
        if not self.holders:
            return True
        self.scope.cancel()
        turn = _EndTurn()
        turn.line = self
        turn.enclosing = frozenset(live_turns())
        self._waiting[turn] = None
        turn.begin_waiting()
        break_ring(self, turn.enclosing)
        if never_comes(self, turn.enclosing):
            turn.give_up()
        return await turn.wait_granted()

    def has_ended(self) -> None:
        """Wake those that wait for its end."""
        self.holders = ()
        for turn in [*self._waiting]:
            turn.end()

    def withdraw(self, turn: Turn) -> None:
        """Stop waiting for the end."""
        self._waiting.pop(turn, None)
