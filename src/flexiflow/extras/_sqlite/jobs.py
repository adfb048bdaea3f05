"""One SQLite connection for many tasks: a thread does all jobs that wait in one transaction.

A *job* is a function that is given the database. Tasks queue jobs by the methods `read` and `write`
of the `JobRunner`, and wait in the `Line` of their event loop. One of them leads: it runs the
thread, which takes all jobs that are in the queue by then (`_work`); jobs that are queued meanwhile
are for the next turn. So many jobs share one commit, which writes to the disk and takes longest.

A transaction is: BEGIN, one job after the other, COMMIT, and then the check that the file is still
the one that others find (X9). Only after that does a job have its result. A transaction that lasts
is committed though more jobs wait, which are done in the next one, so that other processes can
write. If one of several jobs raises, all are rolled back, and each is done again in a transaction
of its own, so that it fails alone. Hence a job may be called twice, and must do nothing but use the
database. What must not be repeated or lost is done in `keep`, which is called once, by the thread,
after the commit.

A task that is cancelled withdraws its job if the thread has not taken it. If it has, the job is
done to its end; its result is lost but for `keep`.

The connection is closed before a fork, and the parent opens it again with its next job; in the
child each job fails (X9). Once a check of the file has failed, each later job fails, too.

The queue belongs to no event loop, so several loops may use a runner, one after another or at the
same time in several threads; each has a line. `_lock` is held by the thread while it works, and
during a fork: asyncio can cancel a task that leads before its thread has ended.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from contextlib import suppress
from copy import copy
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, final

import anyio

from flexiflow.extras._process import FORKS, Home
from flexiflow.extras._sqlite.line import Lines
from flexiflow.extras._sqlite.opened import OpenedFile

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Self

    from flexiflow.extras._sqlite.layout import Layout
    from flexiflow.extras._sqlite.line import Line

T = TypeVar("T")

_LONGEST: Final = 0.05
"""Seconds after which a transaction takes no more jobs, so that other processes can write."""


class _Job(Generic[T]):
    """Something to do in a transaction, and its result.

    Attributes:
        work: does it; may be called again after it was rolled back.
        is_writing: whether the transaction has to lock the database for writing.
        rings: whether others may wait for what it does.
        is_wanted: decides before the transaction whether to do it; None to do it always.
        keep: called with the result once that is durable.
        is_done: whether it has ended, with an error or a result.
        error: why it failed, or None.
        result: what `work` returned.
    """

    # No dataclass with many fields, since there is a job for each save of a store.
    __slots__ = ("error", "is_done", "is_writing", "result", "rings", "work")

    is_wanted: Callable[[sqlite3.Connection], bool] | None = None
    keep: Callable[[T], object] | None = None

    def __init__(
        self, work: Callable[[sqlite3.Connection], T], *, is_writing: bool, rings: bool = False
    ) -> None:
        self.work = work
        self.is_writing = is_writing
        self.rings = rings
        self.is_done = False
        self.error: Exception | None = None
        self.result: T | None = None

    def end(self, error: Exception | None) -> None:
        self.error = error
        if error is None and self.keep is not None:
            self.keep(cast("T", self.result))
        self.is_done = True


@final
class _LookedAt(_Job[T]):
    __slots__ = ("is_wanted", "keep")

    def __init__(
        self,
        work: Callable[[sqlite3.Connection], T],
        is_wanted: Callable[[sqlite3.Connection], bool],
        keep: Callable[[T], object],
    ) -> None:
        super().__init__(work, is_writing=True)
        self.is_wanted = is_wanted
        self.keep = keep


@final
class JobRunner:
    """Does jobs on a connection, in a thread; those that wait together in one transaction.

    The file is opened by the first job, and again by the first one after `close`. As an async
    context manager, it closes the file for good at the end of its block, however that ends.

    A job is done entirely or not at all. A task that is cancelled while its job is being done does
    not wait for it on asyncio; a job that has not begun is withdrawn.

    No connection is carried over a fork (X9), since SQLite would take the parent's locks for the
    child's own: it is closed before, and opened again with the next job.

    Args:
        layout: the file to open.
        ring: called in the event loop after jobs that others may wait for; None if nobody does.
    """

    def __init__(self, layout: Layout, ring: Callable[[], object] | None = None) -> None:
        self._layout = layout
        self._ring = ring
        self._file = OpenedFile(layout)
        # None while the file is not open: what was not opened may be used after a fork.
        self._home: Home | None = None
        # A task that asyncio cancels leaves its thread behind; the next thread waits for that one.
        self._lock = Lock()
        self._waiting: deque[_Job[Any]] = deque()
        self._lines = Lines()
        self._rings = False
        self._is_abandoned = False
        FORKS.register(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the file for good after the job that is being done, which takes a bounded time."""
        await self._close_by(self._file.shut)

    async def open(self) -> None:
        """Open the file."""
        await self._lines.here().run(self._open)

    async def aclose(self) -> None:
        """Close the file after the job that is being done; the next job opens it again."""
        await self._close_by(self._file.close)

    def close(self) -> None:
        """Do as `aclose` does, and block the thread until it is done."""
        if self._is_here:
            self._leave(self._file.close)

    def abandon(self) -> None:
        """Close the file, now or once the thread is done; there will be no other job.

        Nothing is waited for: the garbage collector may call this in any thread, also in the one
        that works.
        """
        self._is_abandoned = True
        if self._is_here and self._lock.acquire(blocking=False):
            try:
                self._file.close()
            finally:
                self._lock.release()

    def pause(self) -> None:
        """Wait for the transaction that is under way, and close the connection, before a fork."""
        self._lock.acquire()
        with suppress(sqlite3.Error):
            self._file.let_go()

    def resume(self) -> None:
        """Do jobs again, in the parent after a fork; the next one opens the file again."""
        self._lock.release()

    def start_over(self) -> None:
        """Forget the parent's jobs, in a forked child; they are done in the parent."""
        self._waiting.clear()
        self._lock.release()

    def read(self, work: Callable[[sqlite3.Connection], T]) -> Coroutine[Any, Any, T]:
        """Do a job that reads; others may write meanwhile."""
        return self._do(_Job(work, is_writing=False))

    def write(
        self, work: Callable[[sqlite3.Connection], T], *, rings: bool = False
    ) -> Coroutine[Any, Any, T]:
        """Do a job that reads and writes, and may be called again after it was rolled back.

        Args:
            work: the job.
            rings: whether others may wait for what it does.
        """
        return self._do(_Job(work, is_writing=True, rings=rings))

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
        await self._do(_LookedAt(work, is_wanted, keep))

    async def _do(self, job: _Job[T]) -> T:
        if self._home is not None:
            # Before waiting for anything: in a forked child the wait would never end.
            self._home.check()
        line = self._lines.here()
        self._waiting.append(job)
        try:
            while not job.is_done:
                if line.is_led:
                    await line.ended.wait()
                else:
                    await self._lead(line)
        finally:
            if not job.is_done:
                with suppress(ValueError):
                    self._waiting.remove(job)
        if job.error is not None:
            raise job.error
        return cast("T", job.result)

    async def _lead(self, line: Line) -> None:
        try:
            await line.lead(self._work_here)
        finally:
            if self._rings and self._ring is not None:
                self._rings = False
                self._ring()

    @property
    def _is_here(self) -> bool:
        """Whether the file may be open in this process."""
        return self._home is not None and self._home.is_here

    async def _close_by(self, close: Callable[[], None]) -> None:
        if self._is_here:
            with anyio.CancelScope(shield=True):
                await self._lines.here().run(self._leave, close)

    def _leave(self, close: Callable[[], None]) -> None:
        with self._lock:
            close()
            self._home = None

    def _work_here(self) -> None:
        with self._lock:
            self._enter()
            self._work()
        if self._is_abandoned:
            self.abandon()

    def _open(self) -> None:
        with self._lock:
            self._enter()
            self._file.database()

    def _enter(self) -> None:
        if self._home is None:
            self._home = Home(self._layout.path, self._layout.errors.unusable)

    def _work(self) -> None:
        # The thread takes the jobs, not the task that starts it: if that is cancelled before its
        # thread begins, all jobs are still in the queue.
        jobs: list[_Job[Any]] = []
        with suppress(IndexError):
            while True:
                jobs.append(self._waiting.popleft())
        jobs = [job for job in jobs if job.is_wanted is None or self._is_wanted(job)]
        while jobs:
            together = self._do_together(jobs.copy())
            jobs = jobs[together:]

    def _do_together(self, jobs: list[_Job[Any]]) -> int:
        """Do the first jobs in one transaction; return how many that were."""
        refusal = self._attempt(self._begin, jobs)
        error = refusal or self._attempt(self._run, jobs)
        # A job that fails must not make the others fail.
        is_apart = error is not None and refusal is None and len(jobs) > 1
        for job in jobs:
            if is_apart:
                error = self._do_alone(job)
            elif refusal is not None:
                # Each job gets an exception of its own, since raising one adds to its traceback.
                error = copy(refusal)
            job.end(error)
            if job.rings:
                self._rings = True
        return len(jobs)

    def _is_wanted(self, job: _Job[Any]) -> bool:
        """Return whether a job is wanted; end it if it is not, or if looking fails."""
        error = self._attempt(self._look, [job])
        if error is not None:
            job.end(error)
        return not job.is_done

    def _look(self, jobs: Sequence[_Job[Any]]) -> None:
        database = self._file.database()
        self._file.check()
        for job in jobs:
            job.is_done = job.is_wanted is not None and not job.is_wanted(database)

    def _do_alone(self, job: _Job[Any]) -> Exception | None:
        return self._attempt(self._begin, [job]) or self._attempt(self._run, [job])

    def _attempt(
        self, act: Callable[[list[_Job[Any]]], None], jobs: list[_Job[Any]]
    ) -> Exception | None:
        try:
            act(jobs)
        except Exception as error:  # noqa: BLE001 - it is raised where the job came from
            self._file.roll_back()
            if isinstance(error, sqlite3.Error):
                return self._layout.errors.translated(error, self._layout.path)
            return error
        return None

    def _begin(self, jobs: Sequence[_Job[Any]]) -> None:
        database = self._file.database()
        is_writing = any(job.is_writing for job in jobs)
        # Also before writing: that could harm a file that others use, even if it is not confirmed.
        self._file.check()
        database.execute("BEGIN IMMEDIATE" if is_writing else "BEGIN")

    def _run(self, jobs: list[_Job[Any]]) -> None:
        """Do jobs, and drop from the list those for which the transaction would last too long."""
        database = self._file.database()
        until = monotonic() + _LONGEST
        for number, job in enumerate(jobs, 1):
            job.result = job.work(database)
            if monotonic() >= until:
                del jobs[number:]
        database.execute("COMMIT")
        if any(job.is_writing for job in jobs):
            self._file.check()
