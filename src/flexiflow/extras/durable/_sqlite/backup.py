"""Copies of the SQLite transport's file, as it was at one moment (X9)."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flexiflow.extras._sqlite.file import Watch
from flexiflow.extras._sqlite.opening import connect, refuse_unwritable
from flexiflow.extras.durable._errors import TransportUnusable
from flexiflow.extras.durable._sqlite.schema import ERRORS, check_kind

if TYPE_CHECKING:
    from collections.abc import Callable

_PAGES: Final = 1_000
"""How many pages are copied at once; usually 4 MiB."""


def back_up(path: str, file: str, busy_timeout: float, pause: Callable[[], None]) -> None:
    """Copy a database that others may be using into a new file.

    Args:
        path: the database.
        file: the path of the copy; the file appears when it is complete.
        busy_timeout: for how many seconds to wait for a lock.
        pause: called now and then; if it raises, the copy is given up.

    Raises:
        FileExistsError: there is something at that path already.
        OSError: nothing can be created there.
        TransportUnavailable: the database is locked, or there is no room for the copy.
        TransportUnusable: it is no database of a transport, or somebody meddles with it.
    """
    target = Path(file)
    _refuse_if_there(target)
    draft = _draft_beside(target)
    try:
        _copy(path, draft, busy_timeout, pause)
        # Others may have created a file meanwhile, which renaming would replace.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        Path(draft).replace(target)
    except sqlite3.Error as error:
        raise ERRORS.translated(error, path) from error
    finally:
        for end in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                Path(draft + end).unlink()


def _refuse_if_there(target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(f"{str(target)!r} is there already; a new file would be right")


def _draft_beside(target: Path) -> str:
    # In the same folder, so that it only has to be renamed in the end. Only its owner can read it.
    try:
        descriptor, draft = tempfile.mkstemp(
            prefix=f".{target.name}.", suffix=".part", dir=target.parent
        )
    except OSError as exc:
        exc.filename = str(target)  # nobody knows the draft's name
        raise
    os.close(descriptor)
    return draft


def _copy(path: str, draft: str, busy_timeout: float, pause: Callable[[], None]) -> None:
    def progress(*_: int) -> None:
        pause()

    refuse_unwritable(path, TransportUnusable)
    with closing(connect(path, busy_timeout)) as source:
        # In one transaction, so that all that is copied is of one moment, even if others write.
        source.execute("BEGIN")
        check_kind(source, path)
        with (
            closing(Watch(path, TransportUnusable)) as watch,
            closing(sqlite3.connect(draft)) as copy,
        ):
            source.backup(copy, pages=_PAGES, progress=progress)
            problem = watch.find_problem()
            if problem is not None:
                watch.keep_log(source)
                raise TransportUnusable(path, problem)
