"""A store while it is open: the connection to the server, and what is asked over it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, final

import anyio
from anyio.lowlevel import current_token

from flexiflow.extras._process import Home
from flexiflow.extras._redis.lines import Lines, evaluate
from flexiflow.extras._redis.replies import Broken, Refused, Terms, explain
from flexiflow.extras.stores._errors import StoreUnavailable, StoreUnusable
from flexiflow.extras.stores._redis.batches import PROBLEMS, Batches
from flexiflow.extras.stores._redis.scripts import LOAD, SAVE

if TYPE_CHECKING:
    from collections.abc import Generator

    from flexiflow.extras._redis.client import Wires
    from flexiflow.extras._redis.script import Script
    from flexiflow.extras._redis.url import Server

Word: TypeAlias = bytes | str | int

Fields: TypeAlias = list[bytes | None]

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")

_SLICE: Final = 1024 * 1024
"""After so many bytes of snapshots an answer ends; what is left is asked for anew."""

_TERMS: Final = Terms("store", StoreUnavailable, StoreUnusable)
_CLUSTER: Final = (
    "it is part of a cluster, which can't keep a store: give the URL of another server"
)
_ELSEWHERE: Final = "it is open in another event loop; another object would be right here"
_LEFT: Final = "it was closed meanwhile, since the task that opened it has left it"


@final
class Session:
    """An open store, which several tasks of one event loop use.

    Args:
        wires: opens connections.
        server: the server.
        base: what all keys begin with.
        history: how many former versions to keep.
        seconds: how many seconds an answer may take.
    """

    def __init__(
        self, wires: Wires, server: Server, base: str, *, history: int, seconds: float
    ) -> None:
        self._home = Home(server.address, StoreUnusable)
        self._loop = current_token()
        self._thread = get_ident()
        self._server = server
        self._lines = Lines(wires, _TERMS)
        self._base = base
        self._history = history
        self._seconds = seconds
        self._saves = Batches[Sequence[Word], int | bytes | list[bytes]](self._send_saves)
        self._loads = Batches[str, Fields](self._send_loads)
        self._visitors = 0
        self._is_empty = anyio.Event()
        for each in (self._saves, self._loads):
            wires.run_beside(each.run)

    @property
    def is_here(self) -> bool:
        """Whether the current process is the one that opened it."""
        return self._home.is_here

    @contextmanager
    def visited(self) -> Generator[None]:
        """Count a block of a task that uses it besides the one that opened it.

        Raises:
            StoreUnusable: it was opened in another event loop.
        """
        if current_token() != self._loop:
            raise StoreUnusable(self._server.address, _ELSEWHERE)
        self._visitors += 1
        try:
            yield
        finally:
            self._visitors -= 1
            if not self._visitors:
                self._is_empty.set()
                self._is_empty = anyio.Event()

    async def wait_for_visitors(self) -> None:
        """Wait until all other tasks have left it."""
        while self._visitors:
            await self._is_empty.wait()

    async def check(self) -> None:
        """Check that the server answers, and can do what is asked of it."""
        await self._lines.check(self._server, self._seconds)
        # A server of a cluster that keeps other keys refuses this one.
        await self.call("TYPE", ":last")

    def close(self) -> None:
        """Fail the tasks that still save or load."""
        for each in (self._saves, self._loads):
            each.close(Broken(_LEFT))

    async def save(self, request: Sequence[Word], size: int) -> int | bytes:
        """Save a state together with those that other tasks save; never sent twice.

        Args:
            request: name, expected version, state, data and due.
            size: how many bytes it has, about.

        Returns:
            The number of the new version; or, as a text, of another one than was expected.
        """
        answer = await self._ask(self._saves, request, size)
        if isinstance(answer, list):
            raise self._explain(_error_in(answer))
        return answer

    async def load(self, name: str) -> Fields:
        """Return version, state, data and due together with those that other tasks load."""
        answer = await self._ask(self._loads, name, len(name))
        if len(answer) == 1:
            raise self._explain(_error_in(answer))
        return answer

    async def run(self, script: Script, *arguments: Word) -> list[Any]:
        """Run a script, and return its answer."""
        self._check_place()
        try:
            return await self._evaluate(script, *arguments)
        except PROBLEMS as error:
            raise self._explain(error) from error

    async def call(self, command: str, rest: str, *arguments: Word) -> Any:
        """Send a command for the key that ends with `rest`."""
        self._check_place()
        wire = self._lines.to(self._server)
        try:
            (answer,) = await wire.call([(command, self._base + rest, *arguments)], self._seconds)
        except PROBLEMS as error:
            raise self._explain(error) from error
        return answer

    async def _ask(
        self, batches: Batches[_Request, _Answer], request: _Request, size: int
    ) -> _Answer:
        self._check_place()
        answer = await batches.ask(request, size)
        if isinstance(answer, PROBLEMS):
            raise self._explain(answer)
        return answer

    async def _send_saves(self, requests: Sequence[Sequence[Word]]) -> list[Any]:
        words = [word for each in requests for word in each]
        return await self._evaluate(SAVE, self._history, *words)

    async def _send_loads(self, names: Sequence[str]) -> list[Any]:
        answers: list[Any] = []
        while len(answers) < len(names):
            answers += await self._evaluate(LOAD, _SLICE, *names[len(answers) :])
        return answers

    async def _evaluate(self, script: Script, *arguments: Word) -> list[Any]:
        wire = self._lines.to(self._server)
        answers = await evaluate(wire, script, [self._base, *arguments], self._seconds)
        found: list[Any] = answers[0]
        return found

    def _check_place(self) -> None:
        # In a forked child the task that sends does not run, and a wait would never end.
        self._home.check()
        # A thread has one event loop at a time; looking for the loop itself would take longer.
        if get_ident() != self._thread:
            raise StoreUnusable(self._server.address, _ELSEWHERE)

    def _explain(self, error: Broken | Refused) -> Exception:
        if isinstance(error, Refused) and error.code == "MOVED":
            return StoreUnusable(self._server.address, _CLUSTER)
        return explain(error, self._server.address, _TERMS)


def _error_in(answer: Sequence[bytes | None]) -> Refused:
    """Return the error that a command inside of a script has met, for one of its requests."""
    return Refused("ERR", (answer[0] or b"").decode())
