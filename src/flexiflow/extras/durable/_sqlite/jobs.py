"""One SQLite connection for many tasks: a thread does all jobs that wait in one transaction.

A *job* is a function that is given the database. Tasks queue jobs by the methods `read` and `write`
of the `JobRunner`, and wait. The task whose turn it is starts the thread, which takes all jobs that
are in the queue by then (`_work`); jobs that are queued meanwhile are for the next turn. So many
jobs share one commit, which writes to the disk and takes longest.

A transaction is: BEGIN, one job after the other, COMMIT, and then the check that the file is still
the one that others find (X9). Only after that does a job have its result. If one of several jobs
raises, all are rolled back, and each is done again in a transaction of its own, so that it fails
alone. Hence a job may be called twice, and must do nothing but use the database. What must not be
repeated or lost is done in `keep`, which is called once, by the thread, after the commit.

A task that is cancelled withdraws its job if the thread has not taken it. If it has, the job is
done to its end; its result is lost but for `keep`.

The connection is closed before a fork, and the parent opens it again with its next job; in the
child each job fails (X9). Once a check of the file has failed, each later job fails, too.

`_turn` lets one task at a time use the thread. `_lock` is held by the thread while it works, and
during a fork: asyncio can cancel a task so that its turn ends before its thread does.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, final

import anyio
from anyio import to_thread

from flexiflow.extras.durable._errors import TransportUnavailable, TransportUnusable
from flexiflow.extras.durable._process import FORKS, Home
from flexiflow.extras.durable._sqlite.file import MOVED, Watch, identity_of, rescue
from flexiflow.extras.durable._sqlite.schema import open_database, open_file, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from flexiflow.extras.durable._bell import Bell
    from flexiflow.extras.durable._sqlite.file import Identity
    from flexiflow.extras.durable._sqlite.schema import Layout

T = TypeVar("T")

_CLOSED: Final = "this connection was closed"


@dataclass(slots=True, eq=False)
class _Job(Generic[T]):
    """Something to do in a transaction, and its result.

    Attributes:
        work: does it; may be called again after it was rolled back.
        is_writing: whether the transaction has to lock the database for writing.
        is_wanted: decides before the transaction whether to do it; None to do it always.
        rings: whether others may wait for what it does.
        keep: called with the result once that is durable.
        is_done: whether it has ended, with an error or a result.
        error: why it failed, or None.
        result: what `work` returned.
    """

    work: Callable[[sqlite3.Connection], T]
    is_writing: bool
    is_wanted: Callable[[sqlite3.Connection], bool] | None = None
    rings: bool = False
    keep: Callable[[T], object] | None = None
    is_done: bool = False
    error: Exception | None = None
    result: T | None = None

    def end(self, error: Exception | None) -> None:
        self.error = error
        if error is None and self.keep is not None:
            self.keep(cast("T", self.result))
        self.is_done = True


@final
class JobRunner:
    """Does jobs on a connection, in a thread; those that wait together in one transaction.

    An async context manager. `open` is called inside its block, so that the connection is closed
    however opening ends.

    A job is done entirely or not at all. A task that is cancelled while its job is being done does
    not wait for it; a job that has not begun is withdrawn.

    No connection is carried over a fork (X9), since SQLite would take the parent's locks for the
    child's own: it is closed before, and opened again with the next job.

    Args:
        layout: the file to open.
        bell: rung after jobs that others may wait for.
    """

    def __init__(self, layout: Layout, bell: Bell) -> None:
        self._layout = layout
        self._bell = bell
        self._home = Home(layout.path)
        self._database: sqlite3.Connection | None = None
        self._watch: Watch | None = None
        # The file's identity, from when it was first opened until it is closed for good.
        self._identity: Identity | None = None
        # Why nothing is confirmed any more, if so.
        self._fault: str | None = None
        # A task that asyncio cancels leaves its thread behind; the next thread waits for that one.
        self._lock = Lock()
        self._threads = anyio.CapacityLimiter(1)
        self._turn = anyio.Lock()
        self._waiting: deque[_Job[Any]] = deque()
        self._rings = False

    async def __aenter__(self) -> Self:
        FORKS.register(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection after the job that is being done, which takes a bounded time."""
        if not self._home.is_here:
            return
        with anyio.CancelScope(shield=True):
            async with self._turn:
                await self._in_thread(self._close)
        FORKS.unregister(self)

    async def open(self) -> None:
        """Open the file."""
        await self._in_thread(self._open)

    def pause(self) -> None:
        """Wait for the transaction that is under way, and close the connection, before a fork."""
        self._lock.acquire()
        with suppress(sqlite3.Error):
            self._let_go()

    def resume(self) -> None:
        """Do jobs again, in the parent after a fork; the next one opens the file again."""
        self._lock.release()

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do a job that reads; others may write meanwhile."""
        return await self._do(_Job(work, is_writing=False))

    async def write(self, work: Callable[[sqlite3.Connection], T], *, rings: bool = False) -> T:
        """Do a job that reads and writes, and may be called again after it was rolled back.

        Args:
            work: the job.
            rings: whether others may wait for what it does.
        """
        return await self._do(_Job(work, is_writing=True, rings=rings))

    async def write_where_wanted(
        self,
        is_wanted: Callable[[sqlite3.Connection], bool],
        work: Callable[[sqlite3.Connection], T],
        keep: Callable[[T], object],
    ) -> None:
        """Do a job that reads and writes, if a look at the database says that it is wanted.

        The look does not lock the database for writing. Both are one turn of the thread: to wake
        the thread takes longer than to look.

        Args:
            is_wanted: the look; returns whether the job is wanted.
            work: the job.
            keep: called with its result once that is durable, by the thread, even if the task was
                cancelled meanwhile.
        """
        await self._do(_Job(work, is_writing=True, is_wanted=is_wanted, keep=keep))

    async def _do(self, job: _Job[T]) -> T:
        # Before waiting for anything: in a forked child the wait would never end.
        self._home.check()
        self._waiting.append(job)
        try:
            async with self._turn:
                if not job.is_done:
                    await self._do_waiting()
        finally:
            with suppress(ValueError):
                self._waiting.remove(job)
        if job.error is not None:
            raise job.error
        return cast("T", job.result)

    async def _do_waiting(self) -> None:
        try:
            await self._in_thread(self._work)
        finally:
            if self._rings:
                self._rings = False
                self._bell.ring()

    async def _in_thread(self, work: Callable[[], None]) -> None:
        def locked() -> None:
            with self._lock:
                work()

        await to_thread.run_sync(locked, limiter=self._threads)

    def _open(self) -> None:
        self._take(open_database(self._layout))

    def _take(self, database: sqlite3.Connection) -> None:
        try:
            watch = Watch(self._layout.path)
        except TransportUnusable:
            database.close()
            raise
        self._database, self._watch = database, watch
        self._identity = watch.identity

    def _close(self) -> None:
        self._identity = None
        self._let_go()

    def _let_go(self) -> None:
        database, watch = self._database, self._watch
        self._database = self._watch = None
        if database is None or watch is None:
            return
        if watch.find_problem() is not None:
            _save(database, watch)
        watch.close()
        database.close()

    def _work(self) -> None:
        # The thread takes the jobs, not the task that starts it: if that is cancelled before its
        # thread begins, all jobs are still in the queue.
        jobs: list[_Job[Any]] = []
        with suppress(IndexError):
            while True:
                jobs.append(self._waiting.popleft())
        jobs = [job for job in jobs if self._is_wanted(job)]
        if not jobs:
            return
        refusal = self._attempt(self._begin, jobs)
        error = refusal or self._attempt(self._run, jobs)
        # A job that fails must not make the others fail.
        is_apart = error is not None and refusal is None and len(jobs) > 1
        for job in jobs:
            # Each job gets an exception of its own, since raising one adds to its traceback.
            job.end(self._do_alone(job) if is_apart else copy(refusal) or error)
            self._rings |= job.rings

    def _is_wanted(self, job: _Job[Any]) -> bool:
        """Return whether a job is to be done; end it if it is not, or if looking fails."""
        if job.is_wanted is not None:
            error = self._attempt(self._look, [job])
            if error is not None:
                job.end(error)
        return not job.is_done

    def _look(self, jobs: Sequence[_Job[Any]]) -> None:
        database, watch = self._connected()
        self._refuse_where_wrong(database, watch)
        for job in jobs:
            job.is_done = job.is_wanted is not None and not job.is_wanted(database)

    def _do_alone(self, job: _Job[Any]) -> Exception | None:
        return self._attempt(self._begin, [job]) or self._attempt(self._run, [job])

    def _attempt(
        self, act: Callable[[Sequence[_Job[Any]]], None], jobs: Sequence[_Job[Any]]
    ) -> Exception | None:
        try:
            act(jobs)
        except Exception as error:  # noqa: BLE001 - it is raised where the job came from
            if self._database is not None and self._database.in_transaction:
                # If this fails, the next BEGIN fails, too, and comes here again.
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                return translated(error, self._layout.path)
            return error
        return None

    def _begin(self, jobs: Sequence[_Job[Any]]) -> None:
        database, watch = self._connected()
        is_writing = any(job.is_writing for job in jobs)
        # Also before writing: that could harm a file that others use, even if it is not confirmed.
        self._refuse_where_wrong(database, watch)
        database.execute("BEGIN IMMEDIATE" if is_writing else "BEGIN")

    def _connected(self) -> tuple[sqlite3.Connection, Watch]:
        if self._identity is None:
            raise TransportUnavailable(self._layout.path, _CLOSED)
        if self._fault is not None:
            raise TransportUnusable(self._layout.path, self._fault)
        if self._database is None:
            self._open_again(self._identity)
        return cast("tuple[sqlite3.Connection, Watch]", (self._database, self._watch))

    def _open_again(self, before: Identity) -> None:
        # Leave a file alone that has taken the place of the one that was open.
        if identity_of(self._layout.path) != before:
            raise TransportUnusable(self._layout.path, MOVED)
        self._take(open_file(self._layout))

    def _refuse_where_wrong(self, database: sqlite3.Connection, watch: Watch) -> None:
        """Check that the file is still the one that others find; if not, confirm nothing any more.

        Raises:
            TransportUnusable: it is another file, or its locks were lost.
        """
        self._fault = watch.find_problem()
        if self._fault is not None:
            _save(database, watch)
            raise TransportUnusable(self._layout.path, self._fault)

    def _run(self, jobs: Sequence[_Job[Any]]) -> None:
        database, watch = self._connected()
        for job in jobs:
            job.result = job.work(database)
        database.execute("COMMIT")
        if any(job.is_writing for job in jobs):
            self._refuse_where_wrong(database, watch)


def _save(database: sqlite3.Connection, watch: Watch) -> None:
    """Save what was confirmed before somebody meddled with the files, if that can do no harm."""
    if watch.is_alone:
        rescue(database)
    else:
        watch.keep_log(database)
