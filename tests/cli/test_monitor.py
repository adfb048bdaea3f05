"""`flexiflow run --monitor`: a page that shows the run while it lasts (L8)."""

import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from flexiflow import Engine
from flexiflow._cli import monitoring
from tests.cli.command_line import Ran, run, write_target
from tests.helpers import PATIENCE

TARGET = """
import json
from http.client import HTTPConnection
from pathlib import Path
from anyio import to_thread
from flexiflow import Engine

def ask(port, file):
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/now")
    answer = connection.getresponse()
    # It stays open, as that of a browser does.
    seen = {"status": answer.status, "body": answer.read().decode(), "fd": connection.sock.detach()}
    with Path(file).open("a") as seen_so_far:
        seen_so_far.write(json.dumps(seen) + "\\n")

async def look(order):
    await to_thread.run_sync(ask, order["port"], order["file"])

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


def looked(tmp_path: Path, *arguments: str, port: int, events: list[str]) -> tuple[Ran, list[Any]]:
    """Run a target that looks at each event of that name; return what it saw."""
    seen = tmp_path / "seen"
    lines = [
        json.dumps({"event": name, "data": {"port": port, "file": str(seen)}}) for name in events
    ]
    ran = run("run", write_target(tmp_path, TARGET), *arguments, lines=lines)
    answers = [json.loads(line) for line in seen.read_text(encoding="utf-8").splitlines()]
    for answer in answers:
        os.close(answer["fd"])
    return ran, answers


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
    assert (first["status"], json.loads(first["body"])["published"]) == (200, 0)
    news = json.loads(second["body"])
    assert news["published"] >= 4
    [[_, _, event, component, what, causes]] = news["failures"]
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
    assert answer["status"] == 401


class Endless:
    """A monitor whose answer is larger than what the system keeps for a connection."""

    def __init__(self, *_: object, **_options: object) -> None:
        """Show nothing."""

    async def watch_failures(self) -> None:
        """Keep nothing."""

    async def __call__(self, scope: Any, _receive: object, send: Callable[..., Any]) -> None:
        """Answer a request."""
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(2**25)})


def test_a_browser_that_reads_nothing_is_given_up(
    backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L8: else the run would not end."""
    monkeypatch.setattr("flexiflow.extras.monitor.Monitor", Endless)
    monkeypatch.setattr(monitoring, "_GRACE", 0.01)

    async def main() -> None:
        server = monitoring.MonitorServer("0", backend_name)
        ended, told = anyio.Event(), anyio.Event()
        addresses: list[str] = []

        def tell(address: str) -> None:
            addresses.append(address)
            told.set()

        async def serve(scope: anyio.CancelScope) -> None:
            with scope:
                await server.serve(Engine(), tell)
            ended.set()

        scope = anyio.CancelScope()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, scope)
            await told.wait()
            port = int(addresses[0].rpartition(":")[2].strip("/"))
            async with await anyio.connect_tcp("127.0.0.1", port) as browser:
                await browser.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                await browser.receive(1)
                scope.cancel()
                with anyio.fail_after(PATIENCE):
                    await ended.wait()

    anyio.run(main, backend=backend_name)


def test_only_connections_to_the_monitor_are_closed() -> None:
    """L8: not those of the target, nor the browser's end of one."""
    closed = socket.socket()
    closed.close()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as browser, listening.accept()[0] as one:
            others = (listening, browser, closed)
            assert [monitoring._is_connection(each, port) for each in (one, *others)] == [
                *(True, False, False, False)
            ]
            assert not monitoring._is_connection(one, port + 1)


def test_a_run_that_nobody_looks_at_ends_at_once(
    backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L8: it waits for browsers only if there are any."""

    async def hang_up_after(*_: object) -> None:
        with anyio.fail_after(PATIENCE):
            await anyio.sleep_forever()

    async def main() -> None:
        server = monitoring.MonitorServer("0", backend_name)
        with anyio.CancelScope() as scope:
            await server.serve(Engine(), lambda _: scope.cancel())

    monkeypatch.setattr(monitoring, "_hang_up_after", hang_up_after)
    anyio.run(main, backend=backend_name)


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
