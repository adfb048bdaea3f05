"""How the command line writes events, and what it counts (L3, L4)."""

import errno
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio import (
    CancelScope,
    create_task_group,
    fail_after,
    wait_all_tasks_blocked,
    wait_readable,
)
from anyio.lowlevel import checkpoint

from flexiflow import EventBus, Outcome
from flexiflow._cli import encoding, writer
from flexiflow._cli.encoding import encode
from flexiflow._cli.observing import matching, observe
from flexiflow._cli.tally import Tally
from flexiflow._cli.text import one_line
from flexiflow._cli.writer import Writer
from flexiflow.events import BUILT_IN

PATIENCE = 60
STEP = 4_096


class Mute:
    """Has no repr."""

    def __repr__(self) -> str:
        """Fail."""
        raise RuntimeError


class Unfit(dict[str, Any]):
    """A mapping that can't be gone through."""

    def items(self) -> Any:
        """Fail."""
        raise RuntimeError


def circular() -> dict[str, Any]:
    """Make a payload that holds itself."""
    payload: dict[str, Any] = {"a": 1}
    payload["self"] = payload
    return payload


def deep() -> list[Any]:
    """Make a payload that no recursion gets to the bottom of."""
    payload: list[Any] = []
    for _ in range(200_000):
        payload = [payload]
    return payload


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"a": [1, 2.5, True, None, "é\n\ud800"]},
        [],
        "text",
        None,
        {"1": {2: 3, None: 4, True: 5, 1.5: 6}},
        ("a", ("b",)),
    ],
)
def test_what_json_holds_is_encoded_as_json_does(payload: object) -> None:
    """L3: a payload without anything special looks as `json.dumps` shows it."""
    assert encode(payload) == json.dumps(payload)


UNHOLDABLE: dict[str, tuple[object, object]] = {
    "exception": (ValueError("no"), "ValueError('no')"),
    "exception inside": ({"exception": KeyError("a")}, {"exception": "KeyError('a')"}),
    "set": ({"a": {1}}, {"a": "{1}"}),
    "bytes": ([b"a", 1], ["b'a'", 1]),
    "no repr": ({"a": Mute()}, {"a": "<Mute without a repr>"}),
    "odd key": ({("a", 1): 2, "b": math.nan}, {"('a', 1)": 2, "b": "nan"}),
    "infinities": ([math.inf, -math.inf, 1.5], ["inf", "-inf", 1.5]),
    "NaN as a key": ({math.nan: 1}, {"nan": 1}),
    "long int": ({"a": 1, "b": 10**5_000}, {"a": 1, "b": "<int without a repr>"}),
    "circular": (circular(), {"a": 1, "self": "{'a': 1, 'self': {...}}"}),
    "unfit mapping": ({"a": Unfit(b=1)}, "{'a': {'b': 1}}"),
    "deep": (deep(), "<list without a repr>"),
}


@pytest.mark.parametrize("kind", UNHOLDABLE)
@pytest.mark.parametrize("accelerated", [True, False], ids=["in C", "in Python"])
def test_what_json_can_not_hold_is_shown_as_its_repr(
    kind: str, *, accelerated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L3: odd values, keys and structures show as their repr, with and without json's C code."""
    if not accelerated:
        monkeypatch.setattr("json.encoder.c_make_encoder", None)
    monkeypatch.setattr(encoding, "_encode", encoding._make_encoder())
    payload, shown = UNHOLDABLE[kind]
    assert json.loads(encode(payload)) == shown


def test_an_encoding_that_failed_leaves_nothing_behind() -> None:
    """L3: a payload that could not be encoded at first can be, once it has changed."""
    payload: dict[str, Any] = {"a": math.nan}
    encode(payload)
    payload["a"] = 1
    assert encode(payload) == '{"a": 1}'


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["**"], sorted(BUILT_IN)),
        (["state.*"], ["state.changed"]),
        (["*.*.*", "event.handler.failed", "**"], sorted(BUILT_IN)),
        (["*.component.*"], ["engine.component.registered"]),
        (["component.**", "event.**"], ["component.message.received", "event.handler.failed"]),
        (["state.changed.**", "order.*", "state-changed"], []),
    ],
)
def test_patterns_choose_among_the_built_in_events(patterns: list[str], names: list[str]) -> None:
    """L3: an event is shown once, if one pattern or several match it."""
    assert matching(patterns) == names


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Open a pipe: its reading end, and its writing end."""
    reader, writing = os.pipe()
    with os.fdopen(reader, "rb"), os.fdopen(writing, "wb"):
        yield reader, writing


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the writer a clock that is set by hand; nothing is due as it stands."""
    time = [-1.0]
    monkeypatch.setattr(writer, "monotonic", lambda: time[0])
    return time


def make_writer(fd: int, on_failure: Callable[[], object] = bool) -> Writer:
    """Make a writer on a terminal that nothing else is written to."""
    return Writer(fd, before_writing=bool, on_failure=on_failure)


async def test_an_event_is_written_at_once_after_a_pause(
    pipe: tuple[int, int], clock: list[float]
) -> None:
    """L3: an event goes out at once if the last was written 0.1 s before, and else it waits."""
    reader, writing = pipe
    show = make_writer(writing).show("a")
    clock[0] = 0
    drained = show(1)
    assert drained is not None
    await drained
    assert os.read(reader, STEP) == b'{"event": "a", "data": 1}\n'
    clock[0] += 0.09
    assert show(2) is None
    clock[0] += 0.02
    drained = show(3)
    assert drained is not None
    await drained
    assert os.read(reader, STEP) == b'{"event": "a", "data": 2}\n{"event": "a", "data": 3}\n'


async def test_much_is_written_to_a_slow_reader_bit_by_bit(
    pipe: tuple[int, int], clock: list[float]
) -> None:
    """L3: a reader that is slow makes the publisher wait, and gets every line once, in order."""
    reader, writing = pipe
    writer = make_writer(writing)
    show = writer.show("a")
    for number in range(10_000):
        show(number)
    read = b""
    with fail_after(PATIENCE):
        async with create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(writer.drain)
            while read.count(b"\n") < 10_000:
                await wait_readable(reader)
                read += os.read(reader, STEP)
    assert [json.loads(line)["data"] for line in read.splitlines()] == list(range(10_000))


async def test_writing_that_is_cancelled_goes_on_where_it_stopped(
    pipe: tuple[int, int], clock: list[float]
) -> None:
    """L3: a cancelled publisher neither loses output nor has it written twice."""
    reader, writing = pipe
    writer = make_writer(writing)
    show = writer.show("a")
    for number in range(10_000):
        show(number)
    scope = CancelScope()

    async def drain() -> None:
        with scope:
            await writer.drain()

    read = b""
    with fail_after(PATIENCE):
        async with create_task_group() as tasks:
            tasks.start_soon(drain)
            await wait_all_tasks_blocked()
            scope.cancel()
        async with create_task_group() as tasks:
            tasks.start_soon(writer.drain)
            while read.count(b"\n") < 10_000:
                await wait_readable(reader)
                read += os.read(reader, STEP)
    assert [json.loads(line)["data"] for line in read.splitlines()] == list(range(10_000))


async def test_a_file_gets_all_at_once(tmp_path: Path, clock: list[float]) -> None:
    """L3: a regular file is written to as it is, without waiting for it."""
    path = tmp_path / "output"
    with path.open("wb") as file:
        writer = make_writer(file.fileno())
        show = writer.show("a")
        for _ in range(10_000):
            show(None)
        await writer.drain()
    assert path.read_bytes() == b'{"event": "a", "data": null}\n' * 10_000


@pytest.mark.parametrize("fd", [-1, None], ids=["closed", "broken"])
async def test_after_a_failure_all_is_dropped(clock: list[float], fd: int | None) -> None:
    """L5: that writing failed is kept and told once, and later events take no memory."""
    failures: list[str] = []
    if fd is None:
        fd = os.open(os.devnull, os.O_RDONLY)
    writer = make_writer(fd, on_failure=lambda: failures.append("failed"))
    show = writer.show("a")
    for _ in range(3):
        show(1)
        await writer.drain()
    assert failures == ["failed"]
    assert writer.failure is not None
    assert writer.failure.errno == errno.EBADF
    assert (writer._lines, len(writer._rest)) == ([], 0)
    if fd > 0:
        os.close(fd)


def test_outcomes_are_counted() -> None:
    """L4: each message counts as one, and by what became of it."""
    tally = Tally()
    for outcome in (Outcome.TRANSITIONED, Outcome.IGNORED, Outcome.IGNORED, Outcome.DEFERRED):
        tally.add(outcome)
    assert (tally.messages, tally.transitions, tally.ignored) == (4, 1, 2)


def test_a_failure_is_counted_once_however_one_hears_of_it() -> None:
    """L4: a failure may be logged, published, or both; one exception may be two failures."""
    tally = Tally()
    both, logged, published = ValueError(), ValueError(), ValueError()
    tally.failure_logged(logged)
    tally.failure_logged(both)
    tally.failure_logged(both)
    tally.failure_published(both)
    tally.failure_published(both)
    tally.failure_published(published)
    assert tally.failures == 4


def test_the_summary_names_its_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """L4: the summary tells messages, transitions, ignored, failures, rejected lines and time."""
    times = iter([10.0, 12.5])
    monkeypatch.setattr("flexiflow._cli.tally.perf_counter", lambda: next(times))
    tally = Tally(transitions=4, ignored=3, failed=2, deferred=1, events=5, rejected=6, failures=7)
    tally.start()
    assert tally.counts() == {
        "messages": "10",
        "events": "5",
        "transitions": "4",
        "ignored": "3",
        "failures": "7",
        "rejected lines": "6",
        "seconds": "2.50",
        "messages per second": "4",
    }


async def test_what_takes_time_to_show_is_awaited() -> None:
    """L3: an event goes on once its line is written; one that wrote nothing waits for nothing."""
    written: list[str] = []

    async def write(payload: str) -> None:
        await checkpoint()
        written.append(payload)

    bus = EventBus()
    shows: dict[str, Any] = {"slow": write, "fast": written.append}
    with await observe(bus, [*shows], Tally(), shows.__getitem__):
        await bus.publish("slow", "a")
        await bus.publish("fast", "b")
    assert written == ["a", "b"]


def test_a_run_that_takes_no_time_has_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """L4: a clock that stands still divides nothing by zero."""
    monkeypatch.setattr("flexiflow._cli.tally.perf_counter", lambda: 10.0)
    tally = Tally()
    tally.start()
    assert tally.progress() == "lines: 0, lines per second: 0"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\n  two\t", "one two"),
        ("\x1b[31m\x00é", r"\x1b[31m\x00é"),
        ("x" * 501, "x" * 497 + "..."),
        ("x" * 500, "x" * 500),
    ],
)
def test_what_is_told_stays_on_one_line(text: str, shown: str) -> None:
    """L5: whatever a reason holds, it is one line, not too long, and harmless to terminals."""
    assert one_line(text) == shown
