"""What an engine shares with its components; plain data (K3, M4)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow._stores import StateStore, Stored
    from flexiflow._tasks import TaskBlock
    from flexiflow._timers import Timers
    from flexiflow._turns import Turn


@final
class Hosting:
    """What an engine shares with its components.

    Args:
        store: where their states are kept, or None.

    Attributes:
        is_running: whether `running()` is entered, or is being entered or left.
        tasks: the task group of `running()`; None outside of it, and while it is being left.
        timers: the timers of `running()`, if there are tasks.
        load: returns what is stored of a component, and checks it; None if nothing is, or there is
            no store.
        overdue: the components whose stored state is to be loaded or saved once more, since that
            has failed, by their actors.
        posted: the turns of messages that works have sent and that wait in line, in order of
            sending, each with a function that keeps the message for later (C4).
        rest: called with a component's actor when it has no message in hand and no work; None if
            nobody wants to know (K5).
    """

    __slots__ = ("is_running", "load", "overdue", "posted", "rest", "store", "tasks", "timers")

    timers: Timers

    def __init__(self, store: StateStore | None) -> None:
        self.use(store)
        self.is_running = False
        self.tasks: TaskBlock | None = None
        self.overdue: dict[Any, Any] = {}
        self.posted: dict[Turn, Callable[[], object]] = {}
        self.rest: Callable[[Any], object] | None = None

    def use(self, store: StateStore | None) -> None:
        """Keep states in a store from now on, or nowhere."""
        self.store = store
        self.load: Callable[[str], Awaitable[Stored | None]] = _load_nothing
        if store is not None:
            # Imported with the first store: importing FlexiFlow is to stay quick.
            from flexiflow._stores import load  # noqa: PLC0415

            self.load = partial(load, store)


async def _load_nothing(_name: str) -> None:
    pass
