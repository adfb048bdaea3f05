"""How the command line reads its input (L2, and the rejected lines of L5)."""

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio import create_task_group, fail_after

from flexiflow._cli.lines import MAX_LINE, LineSplitter, parse
from flexiflow._cli.problems import InputBroken, Rejected
from flexiflow._cli.source import Unzipper, open_source
from tests.cli.command_line import run, send, write_target

PATIENCE = 60


@pytest.fixture
def target(tmp_path: Path) -> str:
    """Give a target with lamps."""
    return write_target(tmp_path)


def split(data: bytes, size: int, limit: int = 100) -> list[bytes | None]:
    """Cut bytes into lines, fed in chunks of a size."""
    splitter = LineSplitter(limit)
    lines: list[bytes | None] = []
    for start in range(0, len(data), size):
        lines += splitter.feed(data[start : start + size])
    return lines + splitter.finish()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1_000])
def test_lines_are_cut_wherever_chunks_end(size: int) -> None:
    """L2: lines are the same however the input comes in, and the last needs no line feed."""
    assert split(b"one\ntwo\r\n\n\nthree", size) == [b"one", b"two\r", b"", b"", b"three"]


@pytest.mark.parametrize("size", [1, 4, 1_000])
def test_a_long_line_is_dropped_and_the_next_is_read(size: int) -> None:
    """L2: a line over the limit is rejected wherever it stands, and one at the limit is not."""
    data = b"12345\n123456\n1\n" + b"x" * 50 + b"\n12345\n123456"
    assert split(data, size, limit=5) == [b"12345", None, b"1", None, b"12345", None]


def test_a_long_line_is_not_held() -> None:
    """L2: of a line of 100 MB no more than 16 MiB and a chunk is ever held."""
    splitter = LineSplitter()
    most = 0
    for _ in range(1_600):
        assert splitter.feed(bytes(2**16)) == []
        most = max(most, len(splitter._held))
    assert most <= MAX_LINE
    assert splitter.feed(b"\n") == [None]


@pytest.mark.parametrize("size", [1, 2, 1_000])
def test_a_byte_order_mark_is_no_part_of_the_first_line(size: int) -> None:
    """L2: a UTF-8 byte order mark is tolerated where the input begins, and nowhere else."""
    assert split(b"\xef\xbb\xbf1\n\xef\xbb\xbf2", size) == [b"1", b"\xef\xbb\xbf2"]


@pytest.mark.parametrize("line", [b"", b"  ", b"\t\r", b"\x0b\x0c"])
def test_a_blank_line_asks_for_nothing(line: bytes) -> None:
    """L2: blank lines, of whitespace too, are skipped."""
    assert parse(line) is None


@pytest.mark.parametrize(
    "record",
    [
        {"component": "order-7", "message": {"type": "confirm", "by": ["é", None, 1.5]}},
        {"event": "order.placed", "data": {"item": "lamp"}},
        {"event": "order.placed"},
    ],
)
def test_each_shape_is_read(record: dict[str, Any]) -> None:
    """L2: a message to a component, and an event with or without data."""
    assert parse(b" \t" + json.dumps(record).encode() + b" \r") == record


def test_of_a_key_given_twice_the_last_one_counts() -> None:
    """L2: JSON with a key given twice is read as Python reads it."""
    assert parse(b'{"event": "a", "event": "b"}') == {"event": "b"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (None, "longer than 16 MiB"),
        (b'{"component": "order-7", "mess', "not JSON: Unterminated string starting at column 26"),
        (b"{} {}", "not JSON: something follows the value at column 3"),
        (b"nonsense", "not JSON: Expecting value at column 1"),
        (b'{"event": "a", "data": "\xff"}', "not UTF-8: invalid start byte"),
        ('{"event": "a"}'.encode("utf-16"), "not UTF-8: "),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"event": "a", "data": ' + b"9" * 10_000 + b"}", "4300 digits"),
        (b'{"event": "a", "data": NaN}', "NaN is no value of JSON"),
        (b'{"event": "a", "data": [-Infinity]}', "-Infinity is no value of JSON"),
        (b'{"event": "a", "data": 1e999}', "more than a float holds: 1e999"),
        (b'{"event": "a", "data": [{"b": -2E400}]}', "more than a float holds: -2E400"),
        (b'{"event": "a", "data": 1' + b"0" * 400 + b".5}", "more than a float holds: 1000"),
        (b'{"event": "state.changed"}', "'state.changed' is one of the engine's own events"),
        (b"[]", "it must be a JSON object, not a list"),
        (b"null", "not null"),
        (b"true", "not a boolean"),
        (b"1.5", "not a number"),
        (b'"text"', "not a string"),
        (b"{}", "its keys must be 'component' and 'message', or 'event' and, if wanted, 'data', "),
        (b"{}", "not none"),
        (b'{"event": "a", "date": 1}', "not 'event', 'date'"),
        (
            b'{"component": "a", "message": {"type": "b"}, "x": 1}',
            "not 'component', 'message', 'x'",
        ),
        (b'{"component": "a"}', "not 'component'"),
        (b'{"component": "a", "message": "b"}', "'message' must be an object, not a string"),
        (b'{"component": "a", "message": {}}', "'message' must have a string 'type'"),
        (b'{"component": "a", "message": {"type": 1}}', "'message' must have a string 'type'"),
        (b'{"component": 1, "message": {"type": "a"}}', "a component's name must be a str"),
        (b'{"component": "", "message": {"type": "a"}}', "must not be empty"),
        (b'{"event": "a..b"}', "malformed event name 'a..b'"),
        (b'{"event": "a.*"}', "can't publish to the pattern 'a.*'"),
        (b'{"event": null}', "an event name must be a str"),
    ],
)
def test_a_line_that_can_not_be_used_is_rejected(line: bytes | None, reason: str) -> None:
    """L5: a line that is no UTF-8, no JSON or of the wrong shape is rejected, with the reason."""
    with pytest.raises(Rejected) as caught:
        parse(line)
    assert reason in caught.value.reason


def test_rejected_lines_are_told_with_their_numbers(target: str, backend_name: str) -> None:
    """L5: the number of a line counts from 1, blank and rejected ones included."""
    lines = ["", send("lamp-1"), "{", " ", send("nobody"), send("lamp-1", "off")]
    ran = run("run", target, "--backend", backend_name, lines=lines)
    assert ran.status == 1
    assert [report.split(": ")[:2] for report in ran.reports] == [
        ["line 3", "rejected"],
        ["line 5", "rejected"],
    ]
    assert (ran.summary["rejected lines"], ran.summary["messages"]) == (2, 2)


def test_a_line_of_100_mb_is_rejected_and_the_next_is_read(target: str, tmp_path: Path) -> None:
    """L2: a line over 16 MiB is rejected, and what comes after it is read."""
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b"\n" + send("lamp").encode())
    ran = run("run", target, str(path))
    assert ran.reports == ["line 1: rejected: longer than 16 MiB"]
    assert ran.summary["transitions"] == 1


@pytest.mark.parametrize("data", [b"", b"\n", b" \n\t"])
def test_an_empty_input_is_all_well(target: str, backend_name: str, data: bytes) -> None:
    """L2: an input without a line in it leads to nothing."""
    ran = run("run", target, "--backend", backend_name, lines=data)
    assert (ran.status, ran.output, ran.reports) == (0, "", [])


def test_a_device_is_read_like_a_file(target: str, backend_name: str) -> None:
    """L2: a device that can't be waited for, like /dev/null, is read all the same."""
    assert run("run", target, os.devnull, "--backend", backend_name).status == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [("missing.jsonl", "No such file or directory"), (".", "must be a file, not a directory")],
)
def test_an_input_that_can_not_be_opened_is_refused(target: str, name: str, said: str) -> None:
    """L5: an input that isn't there, or is a directory, is told on one line, with status 2."""
    ran = run("run", target, name)
    assert (ran.status, ran.output, ran.told.count("\n")) == (2, "", 1)
    assert said in ran.told


def compress(*members: bytes) -> bytes:
    """Make a gzip file of several members."""
    return b"".join(gzip.compress(member) for member in members)


def unzip(compressed: bytes, size: int = 1_000) -> bytes:
    """Decompress what is fed in chunks of a size, checking that pieces are small."""
    return b"".join(_pieces(compressed, size))


def _pieces(compressed: bytes, size: int) -> Iterator[bytes]:
    unzipper = Unzipper()
    for start in range(0, len(compressed), size):
        unzipper.feed(compressed[start : start + size])
        while piece := unzipper.take():
            assert len(piece) <= 2**16
            yield piece
    unzipper.finish()


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("padding", [b"", bytes(20)])
def test_gzip_members_are_joined(size: int, padding: bytes) -> None:
    """L2: a gzip file may have several members, and zeros after them."""
    assert unzip(compress(b"one\n", b"", b"two\n") + padding, size) == b"one\ntwo\n"


def test_gzip_is_decompressed_in_small_pieces() -> None:
    """L2: memory stays bounded, however much a few bytes of gzip decompress to."""
    assert unzip(compress(bytes(3_000_000)), size=10_000) == bytes(3_000_000)


@pytest.mark.parametrize("cut", [1, 9, 12, 20, -1])
def test_gzip_that_is_cut_off_is_noticed(cut: int) -> None:
    """L5: the end of a truncated gzip file is not taken for the end of the input."""
    with pytest.raises(InputBroken):
        unzip(compress(b"one\ntwo\nthree\n")[:cut])


@pytest.mark.parametrize("data", [b"plain text", compress(b"one") + b"rest"])
def test_what_is_no_gzip_is_noticed(data: bytes) -> None:
    """L5: other data, also after a member, is an error."""
    with pytest.raises(zlib.error):
        unzip(data)


def test_a_gzip_file_is_read_as_such(target: str, tmp_path: Path, backend_name: str) -> None:
    """L2: an input whose name ends in .gz is decompressed as it is read."""
    path = tmp_path / "input.jsonl.GZ"
    lines = "".join(f"{send(f'lamp-{number % 7}', 'poke')}\n" for number in range(5_000))
    path.write_bytes(compress(lines.encode()))
    ran = run("run", target, str(path), "--backend", backend_name, "--quiet")
    assert (ran.status, ran.summary["transitions"]) == (0, 5_000)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (compress(f"{send('lamp')}\n".encode() * 50)[:-6], "ends in the middle of its compressed"),
        (compress(f"{send('lamp')}\n".encode() * 50) + b"rest", "damaged, or no gzip file"),
    ],
)
def test_a_damaged_gzip_file_is_told(
    target: str, tmp_path: Path, backend_name: str, data: bytes, said: str
) -> None:
    """L5: what comes before the damage is handled, then one line tells of it; the status is 1."""
    path = tmp_path / "input.gz"
    path.write_bytes(data)
    ran = run("run", target, str(path), "--backend", backend_name, "--quiet")
    assert (ran.status, ran.summary["messages"]) == (1, 50)
    (report,) = ran.reports
    assert report.startswith("flexiflow: the input can't be read on after line 50: ")
    assert said in report


async def test_an_input_that_fails_while_it_is_read_is_told(tmp_path: Path) -> None:
    """L5: if an input can't be read on, the reason is told."""
    path = tmp_path / "input"
    path.write_bytes(b"one\n")
    folder = os.open(tmp_path, os.O_RDONLY)
    with open_source(str(path)) as source:
        os.dup2(folder, source._fd)  # type: ignore[attr-defined]
        os.close(folder)
        with pytest.raises(InputBroken, match="Is a directory"):
            await source.read()


async def test_a_named_pipe_is_read_when_its_writer_comes(tmp_path: Path) -> None:
    """L2: opening a named pipe does not wait, and what is written to it later is read."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    with open_source(str(path)) as source, fail_after(PATIENCE):
        async with create_task_group() as tasks:

            async def read_all() -> None:
                while chunk := await source.read():
                    read.append(chunk)

            tasks.start_soon(read_all)
            path.write_bytes(b"one\n")
    assert b"".join(read) == b"one\n"
