"""A stream, compared with a reference model in plain data (S1, S2, S4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, final

from anyio import CancelScope, create_task_group
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from flexiflow import EventBus
from flexiflow.testing._examiner.subject import Log
from flexiflow.testing._scheduling.backends import run_scheduled
from tests.streams.streaming import EVENT, books, waiting

if TYPE_CHECKING:
    from flexiflow._stream import Overflow

Step = tuple[str, int]
"""A step: "publish", "read", "cancel publisher" or "cancel reader", and which waiter it cancels."""

OVERFLOWS: tuple[Overflow, ...] = ("block", "drop_oldest", "drop_newest", "error")
KINDS = ("publish", "publish", "read", "read", "cancel publisher", "cancel reader")

steps = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3)), max_size=25)
streams = st.tuples(st.sampled_from(OVERFLOWS), st.integers(0, 3)).filter(
    lambda it: it[0] == "block" or it[1] > 0
)


@final
@dataclass
class Model:
    """The reference model of a stream, without tasks.

    Attributes:
        overflow: the policy.
        size: the size of the buffer.
        buffer: the events in it.
        publishers: the waiting publishers, by their events.
        readers: the waiting readers.
        read: which event each reader got.
        dropped: how many events were lost.
        published: how many publishes have ended.
        failed: how many of them with a failure.
    """

    overflow: str
    size: int
    buffer: list[int] = field(default_factory=list[int])
    publishers: list[int] = field(default_factory=list[int])
    readers: list[int] = field(default_factory=list[int])
    read: dict[int, int] = field(default_factory=dict[int, int])
    dropped: int = 0
    published: int = 0
    failed: int = 0

    def do(self, number: int, kind: str, whom: int) -> int | None:
        """Take a step; return the number of the waiter that is cancelled, if any."""
        if kind == "publish":
            self._publish(number)
        elif kind == "read":
            self._read(number)
        else:
            line = self.publishers if kind == "cancel publisher" else self.readers
            return line.pop(whom) if whom < len(line) else None
        return None

    def _publish(self, number: int) -> None:
        if self.readers:
            self.read[self.readers.pop(0)] = number
        elif len(self.buffer) < self.size:
            self.buffer.append(number)
        elif self.overflow == "block":
            self.publishers.append(number)
            return
        else:
            self.dropped += 1
            if self.overflow == "drop_oldest":
                self.buffer = [*self.buffer[1:], number]
        self.failed += self.overflow == "error" and number not in (
            *self.buffer,
            *self.read.values(),
        )
        self.published += 1

    def _read(self, number: int) -> None:
        if self.publishers:
            self.buffer.append(self.publishers.pop(0))
            self.published += 1
        if self.buffer:
            self.read[number] = self.buffer.pop(0)
        else:
            self.readers.append(number)

    def shown(self) -> object:
        """Return all that can be compared."""
        kept, read = len(self.buffer), len(self.read)
        return (
            (kept + read + self.dropped, read, self.dropped, kept),
            (len(self.publishers), len(self.readers)),
            self.read,
            (self.published, self.failed),
        )


@final
class Real:
    """A real stream, with a task for each publish and each read, and the model's interface."""

    def __init__(self, overflow: Overflow, size: int) -> None:
        self.bus = EventBus()
        self.events = self.bus.stream(EVENT, buffer=size, overflow=overflow)
        self.read: dict[int, Any] = {}
        self.published = self.failed = 0
        self._scopes: dict[int, CancelScope] = {}

    def cancel(self, number: int) -> None:
        """Cancel a waiter."""
        self._scopes[number].cancel()

    async def do(self, number: int, kind: str) -> None:
        """Publish or read."""
        with CancelScope() as self._scopes[number]:
            if kind == "publish":
                self.failed += len(await self.bus.publish(EVENT, number))
                self.published += 1
            elif kind == "read":
                self.read[number] = (await anext(self.events)).data

    def shown(self) -> object:
        """Return all that can be compared."""
        ends = self.published, self.failed
        return books(self.events), waiting(self.events), self.read, ends


async def compare(overflow: Overflow, size: int, script: list[Step]) -> None:
    """Perform a script on both, and check that they are the same after each step."""
    model, real = Model(overflow, size), Real(overflow, size)
    with Log():
        async with real.events, create_task_group() as group:
            for number, (kind, whom) in enumerate(script):
                cancelled = model.do(number, kind, whom)
                if cancelled is not None:
                    real.cancel(cancelled)
                group.start_soon(real.do, number, kind)
                for _ in range(5):
                    await checkpoint()
                assert real.shown() == model.shown()
            group.cancel_scope.cancel()


@given(streams, steps)
def test_a_stream_does_what_its_model_does(
    backend: str, stream: tuple[Overflow, int], script: list[Step]
) -> None:
    """S1, S2, S4: whatever is published, read and cancelled, first come, first served."""
    run_scheduled(partial(compare, *stream, script), backend=backend)
