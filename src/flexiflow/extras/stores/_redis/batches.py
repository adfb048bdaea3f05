"""Requests of many tasks that share a round trip to the server."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar, final

import anyio

from flexiflow.extras._redis.replies import Broken, Refused
from flexiflow.extras._woken import let_go_on

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

MOST_AT_ONCE: Final = 500
"""The most requests in a batch: while the server works on one, it does nothing else."""

BYTES_AT_ONCE: Final = 1024 * 1024
"""The most bytes in a batch of several requests."""

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")

Problem: TypeAlias = Broken | Refused
PROBLEMS: Final = (Broken, Refused)


@final
class _Batch(Generic[_Request, _Answer]):
    """Requests that are sent together, for each of which a task waits."""

    __slots__ = ("answers", "done", "is_sent", "problem", "requests", "size")

    def __init__(self) -> None:
        self.requests: list[_Request | None] = []
        self.size = 0
        self.is_sent = False
        self.done = anyio.Event()
        self.answers: dict[int, _Answer] = {}
        self.problem: Problem | None = None

    def fail(self, problem: Problem) -> None:
        self.problem = problem
        self.done.set()


@final
class Batches(Generic[_Request, _Answer]):
    """Sends the requests of tasks in batches, one at a time, and wakes the tasks afterwards.

    Requests that come while a batch is under way form the next one, with those that its tasks make
    as they go on.

    Args:
        send: sends requests, and returns the answers in their order.
    """

    def __init__(self, send: Callable[[Sequence[_Request]], Awaitable[Sequence[_Answer]]]) -> None:
        self._send = send
        self._waiting: deque[_Batch[_Request, _Answer]] = deque()
        self._sent: _Batch[_Request, _Answer] | None = None
        self._wanted = anyio.Event()
        self._ended: Problem | None = None
        # Shielded: others may still save while the task that opened the store is cancelled.
        self._scope = anyio.CancelScope(shield=True)

    async def ask(self, request: _Request, size: int) -> _Answer | Problem:
        """Send a request with others, and return the answer; or the problem, if there was one.

        A problem is returned, since one exception can't be raised in several tasks.

        Args:
            request: the request; it is withdrawn if the caller is cancelled before it is sent.
            size: how many bytes it has, about.
        """
        if self._ended is not None:
            return self._ended
        batch = self._waiting[-1] if self._waiting else None
        if (
            batch is None
            or len(batch.requests) == MOST_AT_ONCE
            or batch.size + size > BYTES_AT_ONCE
        ):
            batch = _Batch[_Request, _Answer]()
            self._waiting.append(batch)
            self._wanted.set()
        place = len(batch.requests)
        batch.requests.append(request)
        batch.size += size
        try:
            await batch.done.wait()
        except BaseException:
            if not batch.is_sent:
                batch.requests[place] = None
            raise
        return batch.problem or batch.answers[place]

    async def run(self) -> None:
        """Send what comes until `close` is called."""
        with self._scope:
            while True:
                await self._wanted.wait()
                self._wanted = anyio.Event()
                while self._waiting:
                    await self._send_next()
                    await let_go_on()

    def close(self, problem: Problem) -> None:
        """Stop sending; all tasks that wait, or ask later, get the problem."""
        self._ended = problem
        self._scope.cancel()
        if self._sent is not None:
            self._sent.fail(problem)
        self._fail(len(self._waiting), problem)

    async def _send_next(self) -> None:
        batch = self._sent = self._waiting.popleft()
        batch.is_sent = True
        # In an outage those that wait already fail, too, so that no task waits much longer than
        # for one answer; those that come meanwhile are the next to try.
        others = len(self._waiting)
        requests = {at: each for at, each in enumerate(batch.requests) if each is not None}
        try:
            answers = await self._send(list(requests.values())) if requests else ()
        except PROBLEMS as error:
            problem = error.with_traceback(None)
            batch.fail(problem)
            self._fail(others, problem)
        else:
            batch.answers = dict(zip(requests, answers, strict=True))
            batch.done.set()
        self._sent = None

    def _fail(self, number: int, problem: Problem) -> None:
        for _ in range(number):
            self._waiting.popleft().fail(problem)
