"""A shop on the web, in a process of its own, and the clients that talk to it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

from tests.helpers import PATIENCE

WINDOW = 4096
"""As many bytes as the system receives for a client that does not read."""

UPGRADE = (
    "GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Shop:
    """One of the examples for the web, as its clients see it.

    Args:
        process: the process that serves it.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self._process = process
        self._told = process.stderr
        for line in self._told:
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if found is not None:
                self._port = int(found[1])
                break
        self._connection = HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        self.clients: list[ServerSentEvents | WebSocketClient] = []

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Send a request, and return the status and the JSON of the answer."""
        content = None if body is None else json.dumps(body)
        self._connection.request(method, path, content, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def wait_for_health(self, status: int, clients: int) -> None:
        """Ask for the health until the status and the number of clients are what is expected."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found, told = self.ask("GET", "/health")
            if (found, told["clients"]) == (status, clients):
                return
            assert time.monotonic() < deadline, told

    def connect(self) -> socket.socket:
        """Return another connection, which takes little that is not read."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
        connection.settimeout(PATIENCE)
        connection.connect(("127.0.0.1", self._port))
        return connection

    def end(self) -> tuple[int, str]:
        """Ask the process to end, and return its exit status and what it told."""
        self._process.send_signal(signal.SIGTERM)
        told = self._told.read()
        return self._process.wait(PATIENCE), told

    def close(self) -> None:
        """Close all connections."""
        self._connection.close()
        for each in self.clients:
            each.close()


class ServerSentEvents:
    """A client that watches the shop by server-sent events."""

    def __init__(self, shop: Shop) -> None:
        self._socket = shop.connect()
        self._socket.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self._response = HTTPResponse(self._socket)
        self._response.begin()
        assert self._response.headers["Content-Type"].startswith("text/event-stream")

    def receive(self) -> Any:
        """Return the next message; None at the end."""
        line = self._response.readline()
        if not line:
            return None
        assert self._response.readline() == b"\n"
        return json.loads(line.removeprefix(b"data: "))

    def close(self) -> None:
        """Leave without a word."""
        self._response.close()
        self._socket.close()


class WebSocketClient:
    """A client that watches the shop by a WebSocket."""

    def __init__(self, shop: Shop) -> None:
        self._socket = shop.connect()
        self._socket.sendall(UPGRADE.encode())
        self._file = self._socket.makefile("rb")
        assert b" 101 " in self._file.readline()
        while self._file.readline() != b"\r\n":
            pass

    def receive(self) -> Any:
        """Return the next message; None at the end, if the server says that it goes away."""
        kind, size = self._file.read(2)
        if size > 125:
            size = int.from_bytes(self._file.read(2 if size == 126 else 8))
        content = self._file.read(size)
        if kind == 0x88:
            # uvicorn may be the first to say so, with a code of its own.
            assert int.from_bytes(content[:2]) in {1001, 1012}
            return None
        return json.loads(content)

    def close(self) -> None:
        """Leave without a word."""
        self._file.close()
        self._socket.close()


def watch(shop: Shop) -> list[ServerSentEvents | WebSocketClient]:
    """Connect a client of each kind."""
    clients: list[ServerSentEvents | WebSocketClient]
    clients = [ServerSentEvents(shop), WebSocketClient(shop)]
    shop.clients += clients
    return clients


@contextmanager
def open_shop(program: str, file: Path) -> Generator[Shop]:
    """Start an example, whose transport is in the file."""
    with subprocess.Popen(
        [sys.executable, f"examples/integrations/{program}.py", "0"],
        env={**os.environ, "TRANSPORT": f"sqlite:{file}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            with closing(Shop(process)) as shop:
                yield shop
        finally:
            process.kill()
