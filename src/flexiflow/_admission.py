"""Admission: senders wait for a component that is being made or registered (C1, C2).

They wait in line. The one whose turn it is makes the component, or registers it, which marks the
context like any turn: so what makes the component can't wait for it (`_turns`). An admission is in
one of three states:

- *making*: the sender whose turn it is makes the component. If that is cancelled, the next tries.
- *adopted*: the component is there. The turns that waited have moved to its mailbox, in order.
- *refused*: no component came of it, or it was unregistered. All who waited got an exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from flexiflow._mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow._turns import Turn


@final
class Admission(Mailbox):
    """The turns of the senders that wait for a component of one name.

    Args:
        name: the component's name.
        pending: the engine's admissions by name. This one is in it until it is over.

    Attributes:
        is_making: whether it is in the state *making*.
    """

    __slots__ = ("_name", "_pending", "is_making")

    def __init__(self, name: str, pending: dict[str, Admission]) -> None:
        super().__init__()
        self.is_making = True
        self._name = name
        self._pending = pending
        pending[name] = self

    async def wait(self, turn: Turn) -> bool:
        """Wait until a turn has come; return False at once if it never would.

        In the state *making* it is then the sender's turn to make the component. In the state
        *adopted* it is its turn in the component's mailbox.

        Raises:
            Exception: the admission was refused; this is the refusal.
        """
        try:
            return await turn.wait_granted()
        except BaseException:
            if self.holder is None:
                self._close()
            raise

    def conclude(self, mailbox: Mailbox | None) -> None:
        """End the turn in hand.

        Args:
            mailbox: that of the component, which adopts the turns that wait; None if there is no
                component, so that the next in line tries.
        """
        if mailbox is None:
            self.pass_on()
        else:
            self.is_making = False
            mailbox.adopt(self)
        if self.holder is None:
            self._close()

    def refuse(self, refusal: Callable[[], Exception]) -> None:
        """Make all waiting turns fail, each with an exception that `refusal` returns."""
        self.is_making = False
        super().refuse(refusal)
        self._close()

    def _close(self) -> None:
        """Take no more senders; there may be a later admission of the same name."""
        if self._pending.get(self._name) is self:
            del self._pending[self._name]
