"""What the tests of the command line share: running it, in this process or in one of its own."""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import IO, Any, NamedTuple
from unittest.mock import patch

import pytest

from flexiflow.__main__ import main

PATIENCE = 60
"""Seconds after which a test that waits has failed."""

TARGET = """
import anyio
from flexiflow import Component, Engine, EventBus, StateMachine, Transition, on

def explode(message, component):
    raise ValueError("no such luck")

TABLE = [
    Transition("off", "on", "on"),
    Transition("on", "off", "off"),
    Transition("*", "explode", "off", action=explode),
    Transition("*", "poke", None),
]

class Lamp(Component):
    def __init__(self, name):
        super().__init__(name, machine=StateMachine("off", TABLE, strict=name.startswith("strict")))

def lamp(name):
    if name.startswith("broken"):
        raise OSError("the lamp factory is on fire")
    return Lamp(name) if "lamp" in name else None

async def fail(data):
    raise RuntimeError("this handler fails")

async def engine():
    engine = Engine(component_factory=lamp)
    await engine.bus.subscribe("alarm", "tests", fail)
    return engine
"""
"""A target with lamps to switch on and off, and a handler of `alarm` that fails."""


class Ran(NamedTuple):
    """What came of a run."""

    status: int
    output: str
    told: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of standard output."""
        return [json.loads(line) for line in self.output.splitlines()]

    @property
    def names(self) -> list[str]:
        """The names of the events on standard output."""
        return [event["event"] for event in self.events]

    @property
    def summary(self) -> dict[str, float]:
        """The counts on the last line of standard error."""
        items = (item.split(": ") for item in self.told.splitlines()[-1].split(", "))
        return {name: float(count) for name, count in items}

    @property
    def reports(self) -> list[str]:
        """The lines of standard error but the summary."""
        return self.told.splitlines()[:-1]


def send(component: str, kind: str = "on", **fields: Any) -> str:
    """Make a line that sends a message."""
    return json.dumps({"component": component, "message": {"type": kind, **fields}})


def write_target(folder: Path, source: str = TARGET, name: str = "target.py") -> str:
    """Write a file with an engine, and return the target that names it."""
    path = folder / name
    path.write_text(source, encoding="utf-8")
    return f"{path}:engine"


@contextmanager
def _restored() -> Generator[None]:
    """Undo what loading a target does to the process."""
    before = set(sys.modules)
    targets = (tempfile.gettempdir(), str(Path("examples").absolute()))
    with patch.object(sys, "path", sys.path[:]):
        yield
    imported = set(sys.modules) - before
    # A checkout may be among the temporary files itself.
    for name in (each for each in imported if not each.startswith("flexiflow.")):
        place = getattr(sys.modules[name], "__file__", None) or ""
        if place.startswith(targets) and "site-packages" not in place:
            del sys.modules[name]


def _as_bytes(lines: Iterable[str] | bytes) -> bytes:
    return lines if isinstance(lines, bytes) else "".join(f"{x}\n" for x in lines).encode()


def run(
    *arguments: str,
    lines: Iterable[str] | bytes = (),
    output: IO[str] | None = None,
    errors: IO[str] | None = None,
) -> Ran:
    """Run the command line in this process.

    Args:
        arguments: those after the program's name.
        lines: standard input.
        output: standard output; where it is given, the result has none.
        errors: standard error; where it is given, the result has none.
    """
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile("w+", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8") as err,
        redirect_stdout(output or out),
        redirect_stderr(errors or err),
        patch.object(sys, "stdin", given),
        patch.object(sys, "argv", ["flexiflow", *arguments]),
        _restored(),
    ):
        given.write(_as_bytes(lines))
        given.seek(0)
        with pytest.raises(SystemExit) as ended:
            main()
        out.seek(0)
        err.seek(0)
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, out.read(), err.read())


@contextmanager
def started(
    *arguments: str, through: Iterable[str] = (), **options: Any
) -> Generator[subprocess.Popen[bytes]]:
    """Start the command line as a process, ended at the end in any case.

    Args:
        arguments: those after the program's name.
        through: a command that runs the one that follows it.
        options: of `subprocess.Popen`, where the standard streams are not to be pipes.
    """
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [*through, sys.executable, "-m", "flexiflow", *arguments]
    with subprocess.Popen[bytes](command, **(pipes | options)) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(
    process: subprocess.Popen[bytes],
    lines: Iterable[str] | bytes = (),
    *,
    patience: float = PATIENCE,
) -> Ran:
    """Give a process the rest of its input, and wait for its end, so many seconds at most."""
    output, errors = process.communicate(_as_bytes(lines), timeout=patience)
    return Ran(process.returncode, (output or b"").decode(), (errors or b"").decode())


def type_in(process: subprocess.Popen[bytes], line: str) -> None:
    """Give a process one line of input."""
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    process.stdin.flush()


def await_output(stream: IO[bytes] | int | None, expected: bytes) -> bytes:
    """Read until something is there, if it comes soon enough; return what was read."""
    assert stream is not None
    seen = b""
    while expected not in seen:
        ready, _, _ = select.select([stream], [], [], PATIENCE)
        assert ready, f"{expected!r} did not come, but {seen!r}"
        seen += os.read(stream if isinstance(stream, int) else stream.fileno(), 2**16)
    return seen
