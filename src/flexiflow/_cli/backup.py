"""`flexiflow backup`: copy a transport's file as it is at one moment (X9)."""

from __future__ import annotations

from pathlib import Path

import anyio

from flexiflow._cli.connecting import find_transport
from flexiflow._cli.display import INTERRUPTED
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.text import show_message
from flexiflow.extras.durable import SqliteTransport, TransportError


def back_up(url: str, file: str) -> int:
    """Copy a transport's file, and return the exit status (L5).

    Args:
        url: names the transport.
        file: the path of the copy.

    Raises:
        CannotRun: the transport is not in a file or can't be read, or the copy can't be made.
    """
    transport = find_transport(url)
    if not isinstance(transport, SqliteTransport):
        raise CannotRun(
            "a backup is made of 'sqlite:events.db'; a Redis server has snapshots of its own"
        )
    if not Path(transport.path).exists():
        raise CannotRun(f"there is no file {transport.path!r}")
    try:
        anyio.run(transport.backup, file)
    except (TransportError, OSError) as exc:
        raise CannotRun(show_message(exc)) from exc
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
