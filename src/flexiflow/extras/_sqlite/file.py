"""Checks that an open database is still the file that others find, and still locked (X9).

SQLite keeps its log (`-wal`) and the index of the log (`-shm`) beside the file. The process that
closes a database last copies the log into the file and removes it; the locks on the file show
whether others have it open. POSIX drops all locks that a process has on a file as soon as the
process closes any descriptor of it, as by `open(path).close()`, and SQLite does not notice. Then
others may remove a log that is still in use, and what is committed after that is lost.

So a `Watch` remembers which files were opened, by device and inode, and on Linux takes locks of its
own on the file and the index, which are dropped when those of SQLite are. Both are checked before
and after each commit.
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import struct
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, final
from weakref import WeakSet

from flexiflow.extras._process import fork_safe_lock
from flexiflow.extras._sqlite.layout import why_forbidden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Identity: TypeAlias = tuple[int, int]

MOVED: Final = "the file was deleted, moved or replaced while it was open"
_LOG_MOVED: Final = "the file {} beside it was deleted, moved or replaced while it was open"
_UNLOCKED: Final = (
    "this process opened and closed the file by other means while it was open, which drops the "
    "locks of SQLite; `flexiflow backup` copies it"
)
_UNLOCKED_BEFORE: Final = (
    "this process has it open already, and the locks of that are lost: the file was opened and "
    "closed by other means, or the process was forked; that must be closed first"
)

_LOG: Final = "-wal"
_INDEX: Final = "-shm"

_FCNTL: Final[Any] = import_module("fcntl") if find_spec("fcntl") else None
# A query that also sees locks of this process itself, and the list of its open files. Only Linux
# has both.
_QUERY: Final[int | None] = getattr(_FCNTL, "F_OFD_GETLK", None)
_DESCRIPTORS: Final = Path("/proc/self/fd")
_LOCKS: Final = Path("/proc/self/fdinfo")
_LOCKED: Final = re.compile(r"^lock:.* (\d+) (\d+|EOF)$", re.MULTILINE)

# `struct flock`, with the padding at its end.
_FLOCK: Final = struct.Struct("@hhqqi0q")

# Beyond all locks of SQLite; see `_Lock`.
_FAR: Final = 2**62

# `sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE`, which Python 3.11 has not.
_NO_CHECKPOINT: Final = 1006


# Held while a file is created, so that nobody else in this process opens it meanwhile: closing the
# descriptor would drop their locks.
_MAKING: Final = fork_safe_lock()

# Windows has no such modes; `max` takes the arguments and does nothing.
_SET_MODE: Final[Callable[[int, int], object]] = getattr(os, "fchmod", max)


def make_file(path: str, mode: int, unusable: Callable[[str, str], Exception]) -> None:
    """Create an empty file, with a mode that does not depend on the umask; keep an existing one.

    SQLite gives the files beside it the same mode.

    Args:
        path: the file.
        mode: its permissions.
        unusable: makes an exception of the path and a reason.

    Raises:
        Exception: made by `unusable`: a symbolic link is there, which may lead anywhere.
    """
    if os.path.islink(path):  # noqa: PTH114 - as in `identity_of`
        raise unusable(
            path,
            "a symbolic link is there that leads nowhere, or did so when this path was given; the "
            "path of a file would be right",
        )
    # If the file can't be created, opening it fails, and SQLite's error says so.
    with _MAKING, suppress(OSError):
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            _SET_MODE(descriptor, mode)
        finally:
            os.close(descriptor)


def has_log(path: str) -> bool:
    """Return whether a file has its write-ahead log beside it: it is open, or a process was killed.

    Args:
        path: the file.
    """
    # A Path's method would raise, in a folder that is closed or if the log's name is too long.
    return os.path.exists(path + _LOG)  # noqa: PTH110


class _Span(NamedTuple):
    """A range of bytes of a file, for locks."""

    start: int
    length: int


# The bytes on which SQLite has a shared lock while a database with a write-ahead log is open.
_SHARED: Final = _Span(0x40000002, 510)
_SHARED_INDEX: Final = _Span(128, 1)


@final
class _Lock:
    """A lock on one byte of a file, which is lost when SQLite's locks are, and never taken again.

    SQLite's own locks can't be checked instead: a query shows only one of the locks on a span, and
    that may be another process's.

    Args:
        descriptor: any descriptor of the file that this process has open; when it is closed, the
            locks are dropped.
    """

    __slots__ = ("_descriptor", "_kind", "_place", "_query")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._place = _Span(_FAR + secrets.randbits(60), 1)
        self._query = _pack(_FCNTL.F_WRLCK, self._place)
        lock = _pack(_FCNTL.F_RDLCK, self._place)
        self._kind = lock[:2]
        _FCNTL.fcntl(descriptor, _FCNTL.F_SETLK, lock)

    @property
    def is_held(self) -> bool:
        """Whether the lock has been held from the beginning."""
        try:
            answer = _FCNTL.fcntl(self._descriptor, _QUERY, self._query)
        except OSError:
            # The descriptor was closed, which dropped the lock.
            return False
        # The answer begins with the kind of the lock, which differs if nothing is locked there.
        return bool(answer[:2] == self._kind)

    def release(self) -> None:
        """Give up the lock."""
        with suppress(OSError):
            _FCNTL.fcntl(self._descriptor, _FCNTL.F_SETLK, _pack(_FCNTL.F_UNLCK, self._place))


@final
class Watch:
    """Watches the files of a database that was just opened.

    Args:
        path: the file.
        unusable: makes an exception of the path and a reason.

    Raises:
        Exception: made by `unusable`: the file is no longer there, or its locks are lost already.
    """

    __slots__ = ("__weakref__", "_locks", "_path", "_seen", "_unusable", "is_closed")

    def __init__(self, path: str, unusable: Callable[[str, str], Exception]) -> None:
        self._path = path
        self._unusable = unusable
        self.is_closed = False
        # In the order in which a problem is reported.
        files = (path, path + _LOG, path + _INDEX)
        self._seen = {each: identity_of(each) for each in files}
        self._locks: list[_Lock] = []
        with _LOCK:
            others = [each for each in _WATCHES if each.identity == self.identity]
            # In this order, since one that is being closed says so before it gives up its locks.
            if any(each.is_unlocked and not each.is_closed for each in others):
                raise unusable(path, _UNLOCKED_BEFORE)
            try:
                self._begin()
            except BaseException:
                self._release()
                raise
            _WATCHES.add(self)

    def _begin(self) -> None:
        if _QUERY is not None and _DESCRIPTORS.is_dir():
            self._take_lock(self._path, _SHARED)
            self._take_lock(self._path + _INDEX, _SHARED_INDEX)
        problem = self.find_problem()
        if problem is not None:
            raise self._unusable(self._path, problem)

    @property
    def identity(self) -> Identity | None:
        """The identity of the file that was opened; None if there was none."""
        return self._seen[self._path]

    @property
    def is_unlocked(self) -> bool:
        """Whether a lock was lost."""
        return not all(each.is_held for each in self._locks)

    @property
    def is_alone(self) -> bool:
        """Whether nobody can have written to the database unseen by this connection.

        This holds also if a file was removed or moved, as long as no other one has taken its place.
        """
        log, index = self._path + _LOG, self._path + _INDEX
        return (
            not self.is_unlocked
            and identity_of(self._path) in {self.identity, None}
            and identity_of(index) in {self._seen[index], None}
            and (identity_of(log) == self._seen[log] or _is_empty(log))
        )

    def find_problem(self) -> str | None:
        """Return why nothing may be confirmed any more; None if all is well.

        None after a commit means that others find what was committed, unless somebody removes it
        later: SQLite removes the log only when the last connection is closed, and while the locks
        are held no other connection can have taken itself for the last one.
        """
        # Called twice for each commit, so it does little besides the system calls.
        for lock in self._locks:
            if not lock.is_held:
                return _UNLOCKED
        for path, seen in self._seen.items():
            if identity_of(path) != seen or seen is None:
                return MOVED if path == self._path else _LOG_MOVED.format(Path(path).name)
        return None

    def close(self) -> None:
        """Stop watching; to be called before the database is closed."""
        # Without `_LOCK`: the garbage collector may call this in a thread that holds it.
        self.is_closed = True
        self._release()

    def _release(self) -> None:
        for each in self._locks:
            each.release()

    def keep_log(self, database: sqlite3.Connection) -> None:
        """Make SQLite leave all files as they are when it closes the database.

        Otherwise it would copy a log that nobody else knows of over what others have written since.
        """
        if self._locks:
            # SQLite respects such a lock, even of its own process. It lasts until the file closes.
            for descriptor in _descriptors(self.identity):
                with suppress(OSError):
                    _FCNTL.fcntl(descriptor, _FCNTL.F_OFD_SETLK, _pack(_FCNTL.F_RDLCK, _SHARED))
        configure: Any = getattr(database, "setconfig", None)
        if configure is not None:
            configure(_NO_CHECKPOINT, True)  # noqa: FBT003 - it takes no keywords

    def _take_lock(self, path: str, shared: _Span) -> None:
        """Take a lock on a file, on a system where locks can be queried.

        Raises:
            Exception: SQLite has another file open than the one at the path, or its lock
                was dropped without its notice.
        """
        descriptors = list(_descriptors(self._seen[path]))
        if not descriptors:
            raise self._unusable(self._path, MOVED)
        if not _is_locked(descriptors, shared):
            # SQLite locks an index to which it may not write only if others have locked it.
            raise self._unusable(self._path, why_forbidden(self._path) or _UNLOCKED_BEFORE)
        for each in descriptors:
            # The descriptor may belong to other code, and be closed by now, or not be readable.
            with suppress(OSError):
                lock = _Lock(each)
                if lock.is_held:
                    self._locks.append(lock)
                    return


_LOCK: Final = fork_safe_lock()
_WATCHES: Final = WeakSet[Watch]()


def _pack(kind: int, span: _Span) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, *span, 0)


def _is_locked(descriptors: Iterable[int], span: _Span) -> bool:
    """Return whether this process has locked a span by one of these descriptors.

    True also if the system does not show it.
    """
    known = [text for each in descriptors if (text := _read(_LOCKS / str(each))) is not None]
    return not known or any(
        int(start) <= span.start and (end == "EOF" or int(end) >= span.start + span.length - 1)
        for text in known
        for start, end in _LOCKED.findall(text)
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text("ascii")
    except OSError:
        return None


def rescue(database: sqlite3.Connection) -> None:
    """Copy the log into the file, as far as no other connection prevents that."""
    with suppress(sqlite3.Error):
        database.execute("PRAGMA wal_checkpoint").fetchall()


def identity_of(path: str) -> Identity | None:
    """Return the device and inode of a file; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - for each commit, and a Path would double the cost
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_empty(path: str) -> bool:
    """Return whether a file is empty or does not exist."""
    with suppress(OSError):
        return Path(path).stat().st_size == 0
    return True


def _descriptors(identity: Identity | None) -> Iterable[int]:
    """Yield the descriptors by which this process has a file open."""
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - only names are needed
        with suppress(OSError):
            found = os.fstat(int(name))
            if (found.st_dev, found.st_ino) == identity:
                yield int(name)
