"""The tasks of one event loop that wait for their jobs; one of them leads the others."""

from __future__ import annotations

from collections import deque
from typing import Protocol, final

import anyio


class Followed(Protocol):
    """What a line knows of a job.

    Attributes:
        is_done: whether it has ended; set by a thread.
        called: set when its task is to go on; None while it does not wait.
        leads: whether its task is to lead then.
    """

    is_done: bool
    called: anyio.Event | None
    leads: bool


@final
class Line:
    """The tasks of one event loop whose jobs are not done, first come, first served.

    One task leads: it runs the thread that does all jobs, also those of the others, while they
    sleep. Then it wakes those whose jobs are done, and of the rest the first one, to lead.

    The jobs that are done are the first ones, since a thread takes them all in their order.

    Attributes:
        threads: lets one thread at a time work for this loop.
    """

    __slots__ = ("_following", "_is_led", "threads")

    def __init__(self) -> None:
        self._following: deque[Followed] = deque()
        self._is_led = False
        self.threads = anyio.CapacityLimiter(1)

    async def wait(self, job: Followed) -> bool:
        """Wait until a job is done, or its task is to lead; return whether it is.

        A task that is to lead must call `hand_over`, also if it is cancelled later.
        """
        if not self._is_led:
            self._is_led = True
            return True
        called = job.called = anyio.Event()
        self._following.append(job)
        try:
            await called.wait()
        except BaseException:
            if job.leads:
                self.hand_over()
            elif not called.is_set():
                self._following.remove(job)
            raise
        return job.leads

    def hand_over(self) -> None:
        """Stop leading: wake the tasks whose jobs are done, and the next one to lead."""
        following = self._following
        while following:
            job = following.popleft()
            job.leads = not job.is_done
            if job.called is not None:
                job.called.set()
            if job.leads:
                return
        self._is_led = False
