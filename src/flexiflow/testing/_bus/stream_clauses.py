"""The clauses of streams, of waiting and of topics, with a model of a stream (S and T)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from hypothesis import strategies as st

from flexiflow.testing._bus import stream_programs as claims
from flexiflow.testing._bus.stream_programs import follows_a_model
from flexiflow.testing._examiner.clause import MODES, Clause, number, often, programs, scheduled
from flexiflow.testing._examiner.program import Program
from flexiflow.testing._examiner.steps import without_one

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flexiflow._bus import DeliveryMode
    from flexiflow._stream import Overflow

StreamStep: TypeAlias = Literal["publish", "read", "readers give up", "publishers give up"]


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

    def do(self, step: StreamStep) -> tuple[object, ...]:
        """Do a step, and return what is counted then."""
        if step == "publish":
            self.publish()
        elif step == "read":
            self.readers += 1
        elif step == "readers give up":
            self.readers = 0
        else:
            self.blocked.clear()
        self.settle()
        counted = self.received, len(self.heard), self.dropped, len(self.buffered), self.failed
        return (*counted, [*self.heard])

    def publish(self) -> None:
        full = not self.readers and len(self.buffered) >= self.size
        if not full or self.overflow == "block":
            self.blocked.append(self.published)
        elif self.overflow == "drop_oldest":
            self.buffered.append(self.published)
            self.buffered.pop(0)
        # Each policy but `block` loses exactly one event, an old one or the one that came.
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


@dataclass(frozen=True)
class StreamScript(Program):
    """A program that does something to a stream, step by step, and follows a model of it."""

    def smaller(self) -> Iterator[StreamScript]:
        """Yield scripts with a step less."""
        given = dict(self.given)
        for steps in without_one(given.pop("steps")):
            yield stream_script(**given, steps=[step for step, _ in steps])


def stream_script(
    buffer: int, overflow: Overflow, mode: DeliveryMode, steps: Iterable[StreamStep]
) -> StreamScript:
    """Return the script of some steps, each with what the model expects then.

    Args:
        buffer: the size of the stream.
        overflow: its policy.
        mode: how events are published.
        steps: what is done; each step waits until nothing is going on any more.
    """
    model = _Model(buffer, overflow)
    expected = tuple((step, model.do(step)) for step in steps)
    given = {"buffer": buffer, "overflow": overflow, "mode": mode, "steps": expected}
    return StreamScript(follows_a_model, tuple(given.items()))


_LOSING: Final[tuple[Overflow, ...]] = ("drop_oldest", "drop_newest", "error")

_publish: st.SearchStrategy[StreamStep] = st.just("publish")
_read: st.SearchStrategy[StreamStep] = st.just("read")
_give_up: st.SearchStrategy[StreamStep] = st.sampled_from(["readers give up", "publishers give up"])
_step = st.one_of(often(3, _publish), often(2, _read), _give_up)


def _steps(most: int, then: tuple[StreamStep, ...]) -> st.SearchStrategy[tuple[StreamStep, ...]]:
    drawn = st.lists(_step, min_size=2, max_size=most)
    return drawn.map(lambda steps: (*steps, *then))


_modes = st.sampled_from(MODES)
_streams = st.one_of(
    st.builds(
        stream_script,
        number(1, 2),
        st.sampled_from(_LOSING),
        _modes,
        # Events that were dropped then are missing from what is read.
        _steps(6, ("publish", "read", "read")),
    ),
    st.builds(stream_script, number(0, 2), st.just("block"), _modes, _steps(8, ("read",))),
)
S1 = Clause(
    "S1",
    "armed on entry",
    "A stream, and an expectation, hear what is published from the entry of their block on, "
    "and nothing before; when it is left, by its end, an exception or a cancellation, the "
    "subscription is gone, and blocked publishers go on. Several tasks may read one stream; "
    "each event goes to one of them.",
    programs(
        claims.enters_a_stream,
        claims.enters_an_expectation,
        claims.shares_among_readers,
        claims.leaves_a_stream,
        claims.leaves_an_expectation,
        end=claims.ENDS,
    ),
    needs=("stream", "expect"),
    share=0.7,
)
_cancelled = scheduled(
    claims.survives_a_cancelled_reader,
    turns=range(8),
    buffer=(3, 0),
    cancels=("scope", "native"),
)
S2 = Clause(
    "S2",
    "a full buffer has a policy",
    "Where the buffer is full, `block` lets the publisher wait, `drop_oldest` and "
    "`drop_newest` lose an event, and `error` loses this one with `BufferFull`, a failure of "
    "that subscription; `received == delivered + dropped + buffered` in what `statistics()` "
    "gives; a reader that is cancelled loses no event.",
    st.one_of(often(2, _streams), _cancelled, programs(claims.has_read_only_statistics)),
    needs=("stream",),
)
S3 = Clause(
    "S3",
    "a stream that would wait for itself",
    "If the only consumer of a full `block` stream publishes to it, or a handler that it "
    "waits for does, that is a `StreamDeadlock`, a failure of that subscription, counted as "
    "dropped, and no hang; the consumer is the task that entered it, until another reads.",
    programs(*claims.DEADLOCKS),
    needs=("stream",),
    share=0.5,
)
S4 = Clause(
    "S4",
    "order, and waiting for one event",
    "A stream gives events in the order in which their publishes reach it; `expect` and "
    "`wait_for` give the first event that the filter takes; what the filter raises, raises "
    "at the waiter and is no failure of the publish; a waiter that gives up leaves nothing "
    "behind.",
    st.one_of(scheduled(claims.gives_events_in_order, buffer=(1, 0, 2)), programs(*claims.WAITING)),
    needs=("stream", "expect", "wait_for"),
)
T1 = Clause(
    "T1",
    "names that know their payload",
    "A `Topic` is a str at run time, and works wherever a name does.",
    programs(*claims.TOPICS),
)
