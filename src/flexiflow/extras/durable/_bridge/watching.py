"""The hook by which `crash_everywhere` sees the calls of a bridge to its transport (P7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow._bus import EventBus
    from flexiflow.extras.durable._transport import Connection, Transport

    Watch: TypeAlias = Callable[[EventBus, Transport, Connection], Connection]
    """Returns the connection that a bridge is to use in place of the one that it has opened."""


@final
class Watching:
    """Whether the bridges of this process are watched, those of all threads.

    Attributes:
        watch: called with each bridge that is opened; set in processes that are to be crashed.
    """

    watch: Watch | None = None


watching: Final = Watching()
