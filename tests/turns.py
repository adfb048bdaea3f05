"""Tasks that take turns, looked at from inside."""

from contextvars import Context, copy_context
from typing import Protocol, TypeVar, final

from anyio import fail_after

from flexiflow._mailbox import Mailbox
from flexiflow._turns import Turn
from tests.helpers import PATIENCE

_T = TypeVar("_T", bound=Turn)
_T_co = TypeVar("_T_co", bound=Turn, covariant=True)


class Joinable(Protocol[_T_co]):
    """What has a line to join: a mailbox or a limiter."""

    def join(self) -> _T_co:
        """Take a place in line."""
        ...


async def has_come(turn: Turn) -> bool:
    """Tell whether the turn has come: whether one need not wait for it."""
    with fail_after(PATIENCE):
        return await turn.wait_granted()


@final
class Task:
    """What a task is to a mailbox or a limiter: a context, in which turns are marked."""

    def __init__(self, parent: "Task | None" = None) -> None:
        self._context = copy_context() if parent is None else parent.context()
        self._turns: list[Turn] = []

    def context(self) -> Context:
        """Give a child task's context."""
        return self._context.copy()

    def join(self, line: Joinable[_T]) -> _T:
        """Take a place in line."""
        return self._context.run(line.join)

    def handle(self, line: Joinable[_T]) -> _T:
        """Begin to handle a message or a call where nobody waits."""
        return self.begin(self.join(line))

    def handle_next(self, mailbox: Mailbox) -> Turn:
        """Begin to handle a deferred message."""
        return self.begin(mailbox.renew())

    def begin(self, turn: _T) -> _T:
        """Begin to handle that whose turn has come."""
        self._turns.append(self._context.run(turn.__enter__))
        return turn

    def finish(self) -> None:
        """Have handled the innermost message or call; a message passes nothing on."""
        self._context.run(self._turns.pop().__exit__)
