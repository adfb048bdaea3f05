"""What distinguishes the files of one kind: their tables, and the exceptions of their users."""

from __future__ import annotations

import os
import reprlib
import sqlite3
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_NOWHERE: Final = ("", ":memory:")

_URL: Final = "sqlite:"

_OWNERS: Final = 0o600
_EVERYBODYS: Final = 0o777

_UNUSABLE: Final = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
)

_FORBIDDEN: Final = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY)
"""What SQLite says where the system refuses access."""

_IS_EFFECTIVE: Final = os.access in os.supports_effective_ids


class Errors(NamedTuple):
    """The exceptions that the users of a file get; each is made of the path and a reason.

    Attributes:
        unavailable: for what may pass by itself, as a lock or a full disk.
        unusable: for what a person must put right.
    """

    unavailable: Callable[[str, str], Exception]
    unusable: Callable[[str, str], Exception]

    def translated(self, error: sqlite3.Error, path: str) -> Exception:
        """Return the exception for an error of SQLite."""
        # The lower byte is the primary code, the others are details.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        kind = self.unusable if code in _UNUSABLE else self.unavailable
        return kind(path, f"{error}{_remedy(code, path)}")


class Layout(NamedTuple):
    """How a file is to be opened, and laid out if it is new.

    Attributes:
        path: the file.
        busy_timeout: for how many seconds to wait for a lock.
        mode: the permissions of a file that is created.
        errors: the exceptions that users get.
        check: raises an exception if the file has other tables; called before anything is written.
        lay_out: makes or migrates the tables where necessary; called in a transaction, and checks
            again.
    """

    path: str
    busy_timeout: float
    mode: int
    errors: Errors
    check: Callable[[sqlite3.Connection], object]
    lay_out: Callable[[sqlite3.Connection], object]


def _remedy(code: int, path: str) -> str:
    """Return why a file can't be opened or written, which SQLite does not say."""
    if code == sqlite3.SQLITE_CANTOPEN:
        folder = os.path.dirname(path)  # noqa: PTH120 - no Path is needed, nor below
        if os.path.isdir(path):  # noqa: PTH112
            return ", since that is a folder"
        if not os.path.isdir(folder):  # noqa: PTH112
            return f", since there is no folder {folder}"
    reason = why_forbidden(path) if code in _FORBIDDEN else None
    return f"; {reason}" if reason else ""


def why_forbidden(path: str) -> str | None:
    """Return which of a database's files this process may not write to; None if there is none."""
    folder = os.path.dirname(path)  # noqa: PTH120 - no Path is needed, nor below
    for each in (path, f"{path}-wal", f"{path}-shm", folder):
        # As the system decides when a file is opened: by the effective user, if it can tell.
        may_write = os.access(each, os.W_OK, effective_ids=_IS_EFFECTIVE)
        if os.path.exists(each) and not may_write:  # noqa: PTH110
            return f"this process may not write to {each}"
    return None


def check_path(path: str | os.PathLike[str], instead: str) -> str:
    """Return the real path of a file that is to be a database.

    Args:
        path: the path that was given.
        instead: what does without a file, for the message.

    Raises:
        TypeError: it is no path.
        ValueError: it can't be that of a file.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a str or a pathlib.Path, not {reprlib.repr(path)}")
    if os.fspath(path) in _NOWHERE:
        raise ValueError(f"path must name a file, not {path!r}; {instead} in memory")
    if os.fsdecode(path).startswith(_URL):
        raise ValueError(f"path must name a file, not the URL {path!r}; leave out {_URL!r}")
    if "\0" in os.fsdecode(path):
        raise ValueError(f"path must have no null character, as {path!r} has")
    # Don't follow a link that leads nowhere now: `make_file` refuses it, wherever it leads later.
    if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114 - no Path is needed
        return os.path.abspath(path)  # noqa: PTH100 - as above
    return os.path.realpath(path)


def check_mode(mode: object) -> int:
    """Return the permissions of new files, if they are valid.

    Raises:
        ValueError: they are out of range, or the owner could not read and write.
    """
    if (
        not isinstance(mode, int)
        or isinstance(mode, bool)
        or not _OWNERS <= mode <= _EVERYBODYS
        or mode & _OWNERS != _OWNERS
    ):
        shown = oct(mode) if type(mode) is int else reprlib.repr(mode)
        raise ValueError(
            "mode must be permissions from 0o600 to 0o777 by which its owner can read and write a "
            f"file, not {shown}"
        )
    return mode
