"""A store while it is open: the connection to the server, and what is asked over it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

import anyio
from anyio.lowlevel import current_token

from flexiflow.extras._process import Home
from flexiflow.extras._redis.lines import Lines, evaluate
from flexiflow.extras._redis.replies import Broken, Refused, Terms, explain
from flexiflow.extras.stores._errors import StoreUnavailable, StoreUnusable
from flexiflow.extras.stores._redis.batches import PROBLEMS, Batches
from flexiflow.extras.stores._redis.scripts import SAVE

if TYPE_CHECKING:
    from collections.abc import Generator

    from flexiflow.extras._redis.client import Wires
    from flexiflow.extras._redis.script import Script
    from flexiflow.extras._redis.url import Server

Word: TypeAlias = bytes | str | int

Answer: TypeAlias = int | bytes | list[bytes]
"""What `save.lua` answers for a state."""

_TERMS: Final = Terms("store", StoreUnavailable, StoreUnusable)
_CLUSTER: Final = "it is part of a cluster, which has no stores: give the URL of a server without"
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
        self._server = server
        self._lines = Lines(wires, _TERMS)
        self._base = base
        self._history = history
        self._seconds = seconds
        self._saves = Batches[Sequence[Word], Answer](self._send)
        self._visitors = 0
        self._is_empty = anyio.Event()
        wires.run_beside(self._saves.run)

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
            raise StoreUnusable(
                self._server.address, "it is open in another event loop; here make another store"
            )
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
        """Fail the tasks that still save."""
        self._saves.close(Broken(_LEFT))

    async def save(self, request: Sequence[Word], size: int) -> int | bytes:
        """Save a state together with those that other tasks save; never sent twice.

        Args:
            request: name, expected version, state, data and due.
            size: how many bytes it has, about.

        Returns:
            The number of the new version; or, as a text, of another one than was expected.
        """
        # In a forked child the task that sends does not run, and a wait would never end.
        self._home.check()
        answer = await self._saves.ask(request, size)
        if isinstance(answer, PROBLEMS):
            raise self._explain(answer)
        if isinstance(answer, list):
            # The error that a command inside of the script has met.
            raise self._explain(Refused("ERR", answer[0].decode()))
        return answer

    async def run(self, script: Script, *arguments: Word) -> Any:
        """Run a script, and return its answer."""
        self._home.check()
        wire = self._lines.to(self._server)
        try:
            (answer,) = await evaluate(wire, script, [self._base, *arguments], self._seconds)
        except (Broken, Refused) as error:
            raise self._explain(error) from error
        return answer

    async def call(self, command: str, rest: str, *arguments: Word) -> Any:
        """Send a command for the key that ends with `rest`."""
        self._home.check()
        wire = self._lines.to(self._server)
        try:
            (answer,) = await wire.call([(command, self._base + rest, *arguments)], self._seconds)
        except (Broken, Refused) as error:
            raise self._explain(error) from error
        return answer

    async def _send(self, requests: Sequence[Sequence[Word]]) -> Sequence[Answer]:
        words = [word for each in requests for word in each]
        values = [self._base, self._history, *words]
        (answers,) = await evaluate(self._lines.to(self._server), SAVE, values, self._seconds)
        return cast("Sequence[Answer]", answers)

    def _explain(self, error: Broken | Refused) -> Exception:
        if isinstance(error, Refused) and error.code == "MOVED":
            return StoreUnusable(self._server.address, _CLUSTER)
        return explain(error, self._server.address, _TERMS)
