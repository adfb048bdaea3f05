"""Scripts for a stream: publishing, reading and giving up, with the results to expect (S2)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from flexiflow.testing._examiner.code import block, without_one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flexiflow._bus import DeliveryMode
    from flexiflow._stream import Overflow
    from flexiflow.testing._examiner.code import Lines

StreamStep: TypeAlias = Literal["publish", "read", "readers give up", "publishers give up"]

_TASKS = """\
readers, publishers, failed = [], [], []

async def publish(number):
    with anyio.CancelScope() as scope:
        publishers.append(scope)
        failed.extend(await bus.publish("a", number, DELIVERY))

async def read():
    with anyio.CancelScope() as scope:
        readers.append(scope)
        heard.append((await anext(events)).data)

async def check(*expected):
    await anyio.sleep(1)
    it = events.statistics()
    counted = it.received, it.delivered, it.dropped, it.buffered, len(failed), heard
    told = "received, delivered, dropped, buffered, failures, read"
    assert counted == expected, f"{told}: {counted}, not {expected}"
    assert all(isinstance(each.exception, BufferFull) for each in failed), f"failures: {failed}"
"""


@dataclass
class _Model:
    """A reference model of a stream, to be looked at only while nothing is going on."""

    size: int
    overflow: Overflow
    published: int = 0
    received: int = 0
    dropped: int = 0
    failed: int = 0
    readers: int = 0
    buffered: list[int] = field(default_factory=list[int])
    blocked: list[int] = field(default_factory=list[int])
    heard: list[int] = field(default_factory=list[int])

    def do(self, step: StreamStep) -> None:
        if step == "publish":
            self.publish()
        elif step == "read":
            self.readers += 1
        elif step == "readers give up":
            self.readers = 0
        else:
            self.blocked.clear()
        self.settle()

    def publish(self) -> None:
        full = not self.readers and len(self.buffered) >= self.size
        if not full or self.overflow == "block":
            self.blocked.append(self.published)
        elif self.overflow == "drop_oldest":
            self.buffered.append(self.published)
            self.buffered.pop(0)
        self.failed += full and self.overflow == "error"
        self.received += full and self.overflow != "block"
        self.dropped += full and self.overflow != "block"
        self.published += 1

    def settle(self) -> None:
        """Move publishers in while there is room, and events out while there are readers."""
        while self.blocked and len(self.buffered) < self.size + self.readers:
            self.buffered.append(self.blocked.pop(0))
            self.received += 1
        while self.buffered and self.readers:
            self.heard.append(self.buffered.pop(0))
            self.readers -= 1

    def check(self) -> str:
        counted = self.received, len(self.heard), self.dropped, len(self.buffered), self.failed
        return f"await check({', '.join(map(str, counted))}, {self.heard})"


@dataclass(frozen=True)
class StreamScript:
    """What is done with a stream of a new bus; each step waits until nothing is going on any more.

    Attributes:
        buffer: its size.
        overflow: its policy.
        delivery: how its events are published.
        steps: what is done.
    """

    buffer: int
    overflow: Overflow
    delivery: DeliveryMode
    steps: tuple[StreamStep, ...]
    decisions: tuple[int, ...] = field(default=(), init=False)
    again: str = field(default="", init=False)

    def smaller(self) -> Iterator[StreamScript]:
        """Yield scripts with a step less."""
        return (replace(self, steps=steps) for steps in without_one(self.steps))

    def main(self) -> Lines:
        """Return what is done, and what the model expects after each step, as lines of Python."""
        model = _Model(self.buffer, self.overflow)
        does: Lines = []
        for step in self.steps:
            does += _code(step, model.published)
            model.do(step)
            does.append(model.check())
        options = f'delivery="{self.delivery}", on_error="continue"'
        made = f'bus.stream("a", buffer={self.buffer}, overflow="{self.overflow}")'
        group = block(
            "async with anyio.create_task_group() as group:",
            [*does, "group.cancel_scope.cancel()"],
        )
        tasks = _TASKS.replace("DELIVERY", options).split("\n")
        return [*tasks, *block(f"async with {made} as events:", group)]


def _code(step: StreamStep, number: int) -> Lines:
    if step == "publish":
        return [f"group.start_soon(publish, {number})"]
    if step == "read":
        return ["group.start_soon(read)"]
    return block(f"for scope in {step.split()[0]}:", ["scope.cancel()"])
