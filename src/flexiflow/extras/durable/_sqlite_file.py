"""What shows that a database that is open is still the one that others find, and locked (X9).

SQLite keeps its log (`-wal`) and the index of that (`-shm`) beside the file. Whoever closes a
database last copies the log into the file and removes it; the locks on the file tell whether
others have it open. POSIX drops all locks that a process has on a file as soon as the process
closes any descriptor of it, as after `open(path).close()`; SQLite is not told.
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

from flexiflow.extras.durable._errors import TransportUnusable
from flexiflow.extras.durable._process import fork_safe_lock

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
# Tells of locks that this process has itself, too; and what it has open. Only Linux has both.
_QUERY: Final[int | None] = getattr(_FCNTL, "F_OFD_GETLK", None)
_DESCRIPTORS: Final = Path("/proc/self/fd")
_LOCKS: Final = Path("/proc/self/fdinfo")
_LOCKED: Final = re.compile(r"^lock:.* (\d+) (\d+|EOF)$", re.MULTILINE)

# `struct flock`, with the padding at its end.
_FLOCK: Final = struct.Struct("@hhqqi0q")

# Where no lock of SQLite's is; see `_Lock`.
_FAR: Final = 2**62

# `sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE`, which Python 3.11 has not.
_NO_CHECKPOINT: Final = 1006


# While a file is made nobody in this process has it open: to close it would drop their locks.
_MAKING: Final = fork_safe_lock()

# Windows has no such modes; `max` does nothing.
_SET_MODE: Final[Callable[[int, int], object]] = getattr(os, "fchmod", max)


def make_file(path: str, mode: int) -> None:
    """Make an empty file, whose mode does not depend on the umask; one that is there stays.

    SQLite gives its other files the same mode.

    Raises:
        TransportUnusable: a symbolic link is there, which may lead anywhere.
    """
    if os.path.islink(path):  # noqa: PTH114 - as `identity_of` does
        raise TransportUnusable(
            path,
            "a symbolic link is there that leads nowhere, or did so when this transport was made; "
            "the path of a file would be right",
        )
    # Where none can be made SQLite finds none, and says so.
    with _MAKING, suppress(OSError):
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            _SET_MODE(descriptor, mode)
        finally:
            os.close(descriptor)


class _Span(NamedTuple):
    """Bytes of a file that are locked."""

    start: int
    length: int


# What SQLite has a shared lock on, as long as a database with a write-ahead log is open.
_SHARED: Final = _Span(0x40000002, 510)
_SHARED_INDEX: Final = _Span(128, 1)


@final
class _Lock:
    """A lock on a byte of a file, which is lost when those of SQLite are, and never taken again.

    A query tells of one lock on a span only, and other processes have the same as SQLite here.

    Args:
        descriptor: any descriptor of the file that this process has open. When it is closed the
            locks are gone, whoever closed it.
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
        """Whether it has been held from the beginning."""
        try:
            answer = _FCNTL.fcntl(self._descriptor, _QUERY, self._query)
        except OSError:
            # The descriptor was closed, and with it the lock was dropped.
            return False
        # Its kind comes first, and is another one if nobody has locked the place.
        return bool(answer[:2] == self._kind)

    def release(self) -> None:
        """Give it up."""
        with suppress(OSError):
            _FCNTL.fcntl(self._descriptor, _FCNTL.F_SETLK, _pack(_FCNTL.F_UNLCK, self._place))


@final
class Watch:
    """Looks after a database that was opened just now.

    Args:
        path: the file.

    Raises:
        TransportUnusable: it is not there any more, or its locks are lost already.
    """

    __slots__ = ("__weakref__", "_locks", "_path", "_seen")

    def __init__(self, path: str) -> None:
        self._path = path
        # In the order in which they matter to whoever reads of it.
        files = (path, path + _LOG, path + _INDEX)
        self._seen = {each: identity_of(each) for each in files}
        self._locks: list[_Lock] = []
        with _LOCK:
            others = [each for each in _WATCHES if each.identity == self.identity]
            if any(each.is_unlocked for each in others):
                raise TransportUnusable(path, _UNLOCKED_BEFORE)
            try:
                self._begin()
            except TransportUnusable:
                self._release()
                raise
            _WATCHES.add(self)

    def _begin(self) -> None:
        if _QUERY is not None and _DESCRIPTORS.is_dir():
            self._take_lock(self._path, _SHARED)
            self._take_lock(self._path + _INDEX, _SHARED_INDEX)
        problem = self.find_problem()
        if problem is not None:
            raise TransportUnusable(self._path, problem)

    @property
    def identity(self) -> Identity | None:
        """What tells the file from every other one that is there."""
        return self._seen[self._path]

    @property
    def is_unlocked(self) -> bool:
        """Whether locks were lost."""
        return not all(each.is_held for each in self._locks)

    @property
    def is_alone(self) -> bool:
        """Whether nobody can have written to the database in a way that is not seen here.

        That is so as well where a file was removed or moved, and no other was begun in its place.
        """
        log, index = self._path + _LOG, self._path + _INDEX
        return (
            not self.is_unlocked
            and identity_of(self._path) in {self.identity, None}
            and identity_of(index) in {self._seen[index], None}
            and (identity_of(log) == self._seen[log] or _is_empty(log))
        )

    def find_problem(self) -> str | None:
        """Tell why nothing may be confirmed any more; None where all is well.

        After a commit: what is committed is found by others, unless somebody removes it later. As
        long as the locks are held nobody else can have closed the database as the last one, and
        only then the log is removed by SQLite.
        """
        # Twice for each commit, so it is short of everything but the calls of the system.
        for lock in self._locks:
            if not lock.is_held:
                return _UNLOCKED
        for path, seen in self._seen.items():
            if identity_of(path) != seen or seen is None:
                return MOVED if path == self._path else _LOG_MOVED.format(Path(path).name)
        return None

    def close(self) -> None:
        """Look no longer; to be called before the database is closed."""
        with _LOCK:
            _WATCHES.discard(self)
        self._release()

    def _release(self) -> None:
        for each in self._locks:
            each.release()

    def keep_log(self, database: sqlite3.Connection) -> None:
        """Have SQLite leave all files as they are when it closes the database.

        It would copy a log that nobody else knows of over what others have written since.
        """
        if self._locks:
            # SQLite in this process minds such a lock, too. It lasts until the file is closed.
            for descriptor in _descriptors(self.identity):
                with suppress(OSError):
                    _FCNTL.fcntl(descriptor, _FCNTL.F_OFD_SETLK, _pack(_FCNTL.F_RDLCK, _SHARED))
        configure: Any = getattr(database, "setconfig", None)
        if configure is not None:
            configure(_NO_CHECKPOINT, True)  # noqa: FBT003 - so it is called

    def _take_lock(self, path: str, shared: _Span) -> None:
        """Take a lock on a file, where the system lets one look at locks.

        Raises:
            TransportUnusable: SQLite has another file open than the one that is found, or takes
                its own lock for held which is not.
        """
        descriptors = list(_descriptors(self._seen[path]))
        if not descriptors:
            raise TransportUnusable(self._path, MOVED)
        if not _is_locked(descriptors, shared):
            raise TransportUnusable(self._path, _UNLOCKED_BEFORE)
        for each in descriptors:
            # It may be somebody else's, and closed meanwhile, or not for reading.
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
    """Tell whether this process has locked a span by one of its descriptors; if that is told."""
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
    """Copy the log into the file, as far as nobody hinders it."""
    with suppress(sqlite3.Error):
        database.execute("PRAGMA wal_checkpoint").fetchall()


def identity_of(path: str) -> Identity | None:
    """Tell a file from every other one that is there; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - after each commit, and a Path costs as much again
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_empty(path: str) -> bool:
    """Tell whether there is nothing in a file, or no file."""
    with suppress(OSError):
        return Path(path).stat().st_size == 0
    return True


def _descriptors(identity: Identity | None) -> Iterable[int]:
    """Give the descriptors of a file that this process has open."""
    for name in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - names are all that is wanted
        with suppress(OSError):
            found = os.fstat(int(name))
            if (found.st_dev, found.st_ino) == identity:
                yield int(name)
