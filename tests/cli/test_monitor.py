"""`flexiflow run --monitor`: a page that shows the run while it lasts (L8)."""

import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command_line import Ran, run, write_target

TARGET = """
import anyio
from pathlib import Path
from flexiflow import Engine

KEPT = []

async def look(order):
    stream = await anyio.connect_tcp("127.0.0.1", order["port"])
    # Left open, as browsers do.
    KEPT.append(stream)
    await stream.send(
        f"GET {order['path']} HTTP/1.1\\r\\nHost: localhost:{order['port']}\\r\\n\\r\\n".encode()
    )
    answer = await stream.receive()
    while not answer.endswith((b"}", b"\\n")):
        answer += await stream.receive()
    with Path(order["file"]).open("ab") as file:
        file.write(answer + b"\\n\\n\\n")

async def fail(data):
    raise RuntimeError("this handler fails")

async def engine():
    engine = Engine()
    await engine.bus.subscribe("look", "tests", look)
    await engine.bus.subscribe("paid", "tests", fail)
    await engine.bus.subscribe("order", "tests", lambda data: engine.bus.publish("paid"))
    return engine
"""
"""A target that looks at the monitor of its own run."""


@pytest.fixture
def port() -> int:
    """Find a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
        return number


@pytest.fixture
def taken() -> Iterator[int]:
    """Find a port that is not free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def looked(tmp_path: Path, *arguments: str, port: int, events: list[str]) -> tuple[Ran, list[str]]:
    """Run a target that publishes events and looks after each; return what it saw."""
    seen = tmp_path / "seen"
    look = {"port": port, "path": "/now", "file": str(seen)}
    lines = [json.dumps({"event": name, "data": look}) for name in events]
    ran = run("run", write_target(tmp_path, TARGET), *arguments, lines=lines)
    return ran, seen.read_text(encoding="utf-8").split("\n\n\n")[:-1]


def news(answer: str) -> Any:
    """Return what an answer brings."""
    head, _, body = answer.partition("\r\n\r\n")
    assert " 200 " in head.partition("\r\n")[0]
    return json.loads(body)


def test_a_run_is_shown_while_it_lasts(tmp_path: Path, backend_name: str, port: int) -> None:
    """L8: on this machine alone; it ends with the run, though a browser still is connected."""
    ran, [first, second] = looked(
        tmp_path,
        *("--monitor", str(port), "--backend", backend_name, "--unheard"),
        port=port,
        events=["look", "nothing", "order", "look"],
    )
    assert ran.status == 1
    assert f"monitor: http://127.0.0.1:{port}/" in ran.reports
    assert "nobody heard nothing (once)" in ran.told
    assert (news(first)["published"], news(second)["published"] >= 4) == (0, True)
    [[_, _, event, component, what, causes]] = news(second)["failures"]
    assert (event, component, what) == ("paid", "tests", "RuntimeError: this handler fails")
    assert causes[:2] == ["order", "paid"]


def test_others_need_a_token(tmp_path: Path, backend_name: str, port: int) -> None:
    """L8: where other machines can reach it, the address that is told has one."""
    ran, [answer] = looked(
        tmp_path,
        *("--monitor", f"0.0.0.0:{port}", "--backend", backend_name, "--quiet"),
        port=port,
        events=["look"],
    )
    assert ran.status == 0
    assert re.search(
        rf"^monitor: http://0\.0\.0\.0:{port}/\?token=[\w-]{{40,}}$", ran.told, re.MULTILINE
    )
    assert " 401 " in answer.partition("\r\n")[0]


@pytest.mark.parametrize("address", ["", "x", "99999", "-1", "a b:80", "http://x:80", "::1:80"])
def test_what_is_no_address_is_refused(tmp_path: Path, address: str) -> None:
    """L8: before anything is run."""
    ran = run("run", write_target(tmp_path), "--monitor", address)
    assert ran.status == 2
    assert "--monitor takes a port, as in 8080, or a host and a port" in ran.told


def test_a_port_that_is_taken_is_refused(tmp_path: Path, taken: int) -> None:
    """L8: with the system's reason."""
    ran = run("run", write_target(tmp_path), "--monitor", str(taken))
    assert ran.status == 2
    assert f"--monitor can't use 127.0.0.1:{taken}: " in ran.told


def test_an_address_of_ipv6_is_written_in_brackets(tmp_path: Path) -> None:
    """L8: as in any address of a page."""
    ran = run("run", write_target(tmp_path), "--monitor", "[::2]:8080")
    assert ran.status == 2
    assert "--monitor can't use [::2]:8080: " in ran.told


@pytest.mark.parametrize("name", ["hypercorn", "starlette"])
def test_what_is_missing_is_named(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L8: with the command that installs it."""
    monkeypatch.setitem(sys.modules, name, None)
    ran = run("run", write_target(tmp_path), "--monitor", "8080")
    assert ran.status == 2
    assert f"--monitor needs {name}: run pip install 'flexiflow[monitor]'" in ran.told


def test_a_run_that_can_not_begin_frees_the_port(tmp_path: Path, port: int) -> None:
    """L8: nobody serves it, so it is closed."""
    ran = run("run", f"{tmp_path}/missing.py:engine", "--monitor", str(port))
    assert ran.status == 2
    with socket.create_server(("127.0.0.1", port)) as server:
        assert server.getsockname()[1] == port
