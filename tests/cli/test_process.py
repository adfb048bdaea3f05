"""The command line as a process of its own: pipes, signals and terminals (L2 to L5)."""

import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command_line import (
    PATIENCE,
    TARGET,
    await_output,
    finish,
    run,
    send,
    started,
    type_in,
    write_target,
)

# Makes its terminal the controlling one, whose Ctrl-C is a signal.
# To measure a process takes longer than the process itself.
pytestmark = pytest.mark.unmeasured
TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def target(tmp_path: Path) -> str:
    """Give a target with lamps."""
    return write_target(tmp_path)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Open a terminal: the end where a person sits, and the end of the program."""
    monkeypatch.setenv("TERM", "xterm")
    person, program = pty.openpty()
    with os.fdopen(person, "rb", 0), os.fdopen(program, "rb", 0):
        yield person, program


def fill(writing: int) -> None:
    """Write to a pipe until it is full."""
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writing, b" ")
    os.set_blocking(writing, True)


def test_events_are_written_before_input_is_waited_for(target: str, backend_name: str) -> None:
    """L3: what a line led to is there to read before the next line is written."""
    with started("run", target, "--backend", backend_name) as process:
        for number in range(3):
            type_in(process, send(f"lamp-{number}"))
            await_output(process.stdout, b"state.changed")
        ran = finish(process)
    assert (ran.status, ran.summary["transitions"]) == (0, 3)


def test_ctrl_c_ends_a_run_that_waits_for_input(target: str, backend_name: str) -> None:
    """L5: Ctrl-C ends with 130 and the summary, and without a traceback, also between lines."""
    with started("run", target, "--backend", backend_name) as process:
        type_in(process, send("lamp"))
        # A line is taken when the one before it is counted.
        type_in(process, "{")
        assert await_output(process.stderr, b"\n").startswith(b"line 2: rejected: ")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        ran = finish(process)
    assert (ran.reports, ran.summary["transitions"]) == ([], 1)


def test_ctrl_c_ends_a_run_whose_output_nobody_reads(tmp_path: Path, backend_name: str) -> None:
    """L5: Ctrl-C gets through while a full pipe keeps the run from writing."""
    source = TARGET.replace("def lamp(name):", "def lamp(name):\n    print('made')")
    options = ("run", write_target(tmp_path, source), "--backend", backend_name)
    reader, writing = os.pipe()
    fill(writing)
    with os.fdopen(reader), started(*options, stdout=writing) as process:
        os.close(writing)
        type_in(process, send("lamp"))
        await_output(process.stderr, b"made\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        ran = finish(process)
    assert (ran.reports, ran.summary["failures"]) == ([], 0)


def test_head_ends_a_run_quietly(target: str, backend_name: str) -> None:
    """L5: a reader that has read enough ends the run with 0, even of both streams."""
    options = ("run", target, "--backend", backend_name)
    with tempfile.TemporaryFile() as given:
        for number in range(20_000):
            given.write(f"{send(f'lamp-{number}')}\n".encode())
        given.seek(0)
        with started(*options, stdin=given, stderr=subprocess.STDOUT) as process:
            await_output(process.stdout, b"engine.component.registered")
            assert process.stdout is not None
            process.stdout.close()
            assert process.wait(PATIENCE) == 0


@pytest.mark.measured
@pytest.mark.parametrize(
    ("closed", "lines", "status", "told"),
    [
        ("<&-", [], 2, "standard input is closed"),
        (">&-", [send("lamp")], 1, "standard output can't be written"),
        (">&-", [], 0, "messages: 0"),
        ("2>&-", ["{"], 1, ""),
    ],
    ids=["input", "output", "output unused", "errors"],
)
def test_closed_streams_are_no_surprise(
    target: str, closed: str, lines: list[str], status: int, told: str
) -> None:
    """L5: a standard stream that was closed is told, if it is needed, or is done without."""
    with started("run", target, through=["sh", "-c", f'exec "$@" {closed}', "sh"]) as process:
        ran = finish(process, lines)
    assert ran.status == status
    assert told in ran.told
    assert "Traceback" not in ran.told


def test_a_terminal_is_read_line_by_line(
    target: str, backend_name: str, terminal: tuple[int, int]
) -> None:
    """L2: what is typed is handled as soon as it is typed; Ctrl-D is the end."""
    person, program = terminal
    with started("run", target, "--backend", backend_name, stdin=program) as process:
        os.write(person, f"{send('lamp')}\n".encode())
        await_output(process.stdout, b"state.changed")
        os.write(person, b"\x04")
        assert process.wait(PATIENCE) == 0


def test_a_typed_ctrl_c_ends_the_run(
    target: str, backend_name: str, terminal: tuple[int, int]
) -> None:
    """L5: Ctrl-C typed at the terminal that all streams belong to ends the run with 130."""
    person, program = terminal
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), program)
    through = [sys.executable, "-c", TAKE_TERMINAL]
    with started(
        *("run", target, "--backend", backend_name),
        through=through,
        start_new_session=True,
        **streams,
    ) as process:
        os.write(person, f"{send('lamp')}\n".encode())
        await_output(person, b"state.changed")
        await_output(person, b"lines: 1, ")
        os.write(person, b"\x03")
        await_output(person, b"messages: 1")
        assert process.wait(PATIENCE) == 130


def test_on_a_terminal_a_live_line_tells_the_count_and_the_rate(
    tmp_path: Path, backend_name: str, terminal: tuple[int, int]
) -> None:
    """L4: on a terminal a line with the count and the rate is kept below what is told."""
    person, program = terminal
    source = f"""{TARGET}
async def wait_for_live_line(message, component):
    import os
    seen = b""
    with anyio.fail_after(30):
        while not (b"lines: 1, " in seen and b"per second: " in seen):
            await anyio.wait_readable({person})
            seen += os.read({person}, 1000)

TABLE.append(Transition("*", "wait", "on", action=wait_for_live_line))
"""
    with os.fdopen(os.dup(program), "w") as errors:
        lines = ["[]", send("lamp", "wait")]
        target = write_target(tmp_path, source)
        ran = run("run", target, "--backend", backend_name, lines=lines, errors=errors)
    await_output(person, b"messages: 1")
    assert ran.status == 1


@pytest.mark.measured
@pytest.mark.parametrize(
    ("line", "variable", "color"),
    [
        (send("lamp"), "SOME_COLOR", b"\x1b[32m"),
        ("{", "SOME_COLOR", b"\x1b[31m"),
        ("{", "NO_COLOR", b""),
    ],
    ids=["green", "red", "NO_COLOR"],
)
def test_on_a_terminal_the_last_words_have_a_color(
    target: str,
    line: str,
    variable: str,
    color: bytes,
    terminal: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """L4: the summary is green if all went well, else red; without colors where none are wanted."""
    pytest.importorskip("rich", reason="rich is not installed")
    person, program = terminal
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(variable, "1")
    with os.fdopen(os.dup(program), "w") as errors:
        run("run", target, lines=[line], errors=errors)
    # The color may be reset on a line of its own.
    lines = await_output(person, b"messages per second: ").splitlines()
    [last] = [each for each in lines if b"messages: " in each]
    # A slow run has had a live line, from which the cursor goes up again.
    assert re.sub(rb"\x1b\[[?\d]*[A-Zhl]", b"", last).startswith(color + b"messages: ")


@pytest.mark.measured
def test_without_rich_a_terminal_is_told_the_rest(
    target: str, terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """L4: the live line alone needs rich."""
    person, program = terminal
    monkeypatch.setitem(sys.modules, "rich.live", None)
    with os.fdopen(os.dup(program), "w") as errors:
        ran = run("run", target, lines=[send("lamp")], errors=errors)
    await_output(person, b"messages: 1")
    assert ran.status == 0


def test_rich_is_not_imported_where_there_is_no_terminal(target: str) -> None:
    """L4: rich takes long to import, so it is not where nothing is drawn."""
    program = "import sys; sys.argv[0] = 'flexiflow'; from flexiflow.__main__ import main\n"
    program += "try: main()\nfinally: print('rich' in sys.modules, file=sys.stderr)"
    finished = subprocess.run(
        [sys.executable, "-c", program, "run", target],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    assert finished.stderr.splitlines()[-1] == b"False"


WRITING = """
import os, subprocess, sys

def write(message, component):
    os.write(1, b"raw\\n")
    sys.__stdout__.write("python\\n")
    sys.__stdout__.flush()
    subprocess.run(["echo", "child"], check=True)

TABLE.append(Transition("*", "write", None, action=write))
"""

CLEANING_UP = """
async def clean_up(message, component):
    try:
        print("waiting")
        await anyio.sleep_forever()
    finally:
        raise ValueError("nothing to clean up with")

async def clean_up_after(data):
    await clean_up(data, None)

TABLE.append(Transition("*", "wait", None, action=clean_up))

async def engine():
    engine = Engine(component_factory=lamp)
    await engine.bus.subscribe("wait", "tests", clean_up_after)
    return engine
"""


def test_standard_output_is_for_events_alone(tmp_path: Path, backend_name: str) -> None:
    """L3: what the target, or a process that it starts, writes there goes to standard error."""
    target = write_target(tmp_path, TARGET + WRITING)
    with started("run", target, "--backend", backend_name) as process:
        ran = finish(process, [send("lamp", "write")])
    assert (ran.status, len(ran.events)) == (0, 2)
    assert {"raw", "python", "child"} <= set(ran.reports)


@pytest.mark.parametrize("line", [send("lamp", "wait"), '{"event": "wait"}'])
def test_ctrl_c_gets_through_a_handler_that_fails_of_it(
    tmp_path: Path, backend_name: str, line: str
) -> None:
    """L5: where its cleanup raises, that is told, and the run ends all the same."""
    target = write_target(tmp_path, TARGET + CLEANING_UP)
    with started("run", target, "--backend", backend_name) as process:
        type_in(process, send("lamp"))
        type_in(process, line)
        await_output(process.stderr, b"waiting\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        ran = finish(process)
    assert ran.summary["messages"] >= 1
