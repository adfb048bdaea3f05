"""A copy of the SQLite transport's file, as it was at one moment (X9)."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flexiflow.extras.durable._errors import TransportUnusable
from flexiflow.extras.durable._sqlite_file import Watch
from flexiflow.extras.durable._sqlite_schema import check_kind, connect, translated

if TYPE_CHECKING:
    from collections.abc import Callable

_PAGES: Final = 1_000
"""How many are copied at once; 4 MiB, most often."""


def back_up(path: str, file: str, busy_timeout: float, pause: Callable[[], None]) -> None:
    """Copy a database that others may be using into a file that is not there yet.

    Args:
        path: the database.
        file: where to; it is there when it is complete, and not before.
        busy_timeout: for how many seconds to wait for a lock.
        pause: is called now and then; if it raises, the copy is given up.

    Raises:
        FileExistsError: there is something already.
        OSError: nothing can be made there.
        TransportUnavailable: the database is locked, or there is no room for the copy.
        TransportUnusable: there is no database of a transport.
    """
    target = Path(file)
    _refuse_if_there(target)
    # Beside it, so that it only has to be given its name in the end. For its owner alone.
    descriptor, draft = tempfile.mkstemp(
        prefix=f".{target.name}.", suffix=".part", dir=target.parent
    )
    os.close(descriptor)
    try:
        _copy(path, draft, busy_timeout, pause)
        # Others may have made one meanwhile, and to rename is to replace.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        Path(draft).replace(target)
    except sqlite3.Error as error:
        raise translated(error, path) from error
    finally:
        for end in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                Path(draft + end).unlink()


def _refuse_if_there(target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(f"{str(target)!r} is there already; a new file would be right")


def _copy(path: str, draft: str, busy_timeout: float, pause: Callable[[], None]) -> None:
    def progress(*_: int) -> None:
        pause()

    with closing(connect(path, busy_timeout)) as source:
        # In one transaction: all that is copied is of one moment, whoever writes meanwhile.
        source.execute("BEGIN")
        check_kind(source, path)
        with closing(Watch(path)) as watch, closing(sqlite3.connect(draft)) as copy:
            source.backup(copy, pages=_PAGES, progress=progress)
            problem = watch.find_problem()
            if problem is not None:
                watch.keep_log(source)
                raise TransportUnusable(path, problem)
