"""Running scripts on the server that has a partition."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from flexiflow.extras._process import Home
from flexiflow.extras._redis.lines import Lines, evaluate
from flexiflow.extras._redis.replies import Broken, Refused, Terms, explain
from flexiflow.extras._redis.script import digest_of
from flexiflow.extras.durable._errors import NotReplicated, TransportUnavailable, TransportUnusable
from flexiflow.extras.durable._redis.scripts import CHECK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anyio.abc import TaskGroup

    from flexiflow.extras._redis.client import Wire, Wires
    from flexiflow.extras._redis.script import Script
    from flexiflow.extras._redis.url import Server
    from flexiflow.extras.durable._redis.epochs import Epochs

_TERMS: Final = Terms("transport", TransportUnavailable, TransportUnusable)
_AT_ONCE: Final = 64
_SLOTS: Final = 16384
_REDIRECTIONS: Final = 5
_REPLICAS_SHARE: Final = 0.5
"""The part of the time an answer may take after which replicas are not waited for any more."""
_MOVES: Final = frozenset({"ASK", "CLUSTERDOWN", "MOVED", "TRYAGAIN"})


@final
class Network:
    """The servers, each of which has some of the partitions; without a cluster there is one.

    Args:
        wires: opens connections.
        server: the server, or any node of a cluster.
        epochs: what is known of the partitions.
        prefix: what all keys begin with.
        seconds: how many seconds an answer may take.
        is_cluster: whether there is a cluster.

    Attributes:
        epochs: what is known of the partitions.
        seconds: how many seconds an answer may take.
        is_former: whether a partition was found with the layout of an earlier release (X16).
    """

    def __init__(
        self,
        wires: Wires,
        server: Server,
        epochs: Epochs,
        *,
        prefix: str,
        seconds: float,
        is_cluster: bool,
    ) -> None:
        # A forked child shares the parent's connections; what both wrote would be mixed up.
        self._home = Home(server.address, TransportUnusable)
        self.epochs = epochs
        self.is_former = False
        self._wires = wires
        self._server = server
        self._prefix = prefix
        self.seconds = seconds
        self._is_cluster = is_cluster
        self._checked: dict[tuple[int, bool], Wire] = {}
        self._lines = Lines(wires, _TERMS)
        self._servers: dict[int, Server] = {}
        self._known = [server]

    @property
    def address(self) -> str:
        """The server's address, without any secret."""
        return self._server.address

    def base(self, partition: int) -> str:
        """Return what the keys of a partition begin with: their hash tag."""
        return f"{{{self._prefix}:{partition}}}"

    @property
    def name(self) -> str:
        """The name of the prefix in its database, for tickets; the same after a loss (X13)."""
        return digest_of(f"{self._server.database}/{self._prefix}".encode())[:16]

    async def check(self) -> None:
        """Check that the server answers, and can do what is asked of it.

        Raises:
            TransportUnavailable: it does not answer.
            TransportUnusable: it refuses the login, or is too old.
        """
        await self._lines.check(self._server, self.seconds)

    async def run(
        self, partition: int, script: Script, *arguments: bytes | str | int, replicas: int = 0
    ) -> list[Any]:
        """Run a script on the server of a partition, and return its answer.

        Args:
            partition: the partition.
            script: the script.
            arguments: its arguments besides the partition and the epoch.
            replicas: how many replicas must confirm what it wrote.

        Raises:
            TransportUnavailable: there was no answer, or an error that will pass.
            TransportUnusable: an error that will not pass, or this process was forked (X9).
            NotReplicated: fewer replicas confirmed it.
        """
        self._home.check()
        values = [each.encode() if isinstance(each, str) else each for each in arguments]
        found = await self._run(partition, script, values, replicas)
        while found[0] == b"MORE":
            # It has done a part of what has to be done first, so that the server is not busy for
            # long: it put due records into the log, or dropped what a group leaves behind.
            found = await self._run(partition, script, values, replicas)
        return found

    async def run_all(
        self, script: Script, calls: Mapping[int, Sequence[bytes | str | int]]
    ) -> dict[int, list[Any]]:
        """Run a script in several partitions, many at a time.

        Args:
            script: the script.
            calls: its arguments by partition.

        Returns:
            The answers by partition.

        Raises:
            TransportUnavailable: as `run` does, as soon as one call fails.
            TransportUnusable: the same.
        """
        found: dict[int, list[Any]] = {}
        failed: list[Exception] = []

        async def run(partition: int, tasks: TaskGroup) -> None:
            try:
                found[partition] = await self.run(partition, script, *calls[partition])
            except (TransportUnavailable, TransportUnusable) as error:
                failed.append(error)
                tasks.cancel_scope.cancel()

        partitions = list(calls)
        for at in range(0, len(partitions), _AT_ONCE):
            async with anyio.create_task_group() as tasks:
                for each in partitions[at : at + _AT_ONCE]:
                    tasks.start_soon(run, each, tasks)
            if failed:
                try:
                    raise failed[0]
                finally:
                    # Their tracebacks hold this frame, which must not hold them.
                    failed.clear()
        return {each: found[each] for each in partitions}

    async def _run(
        self, partition: int, script: Script, values: list[bytes | int], replicas: int
    ) -> list[Any]:
        use = partition, replicas > 0
        for _ in range(_REDIRECTIONS):
            server = await self._server_of(partition)
            wire = self._lines.to(server, waits=replicas > 0)
            try:
                if self._checked.get(use) is not wire:
                    await self._check(wire, partition)
                    self._checked[use] = wire
                known = [self.epochs.of(partition).epoch] if script.is_guarded else []
                answers = await self._evaluate(
                    wire, script, [self.base(partition), *known, *values], replicas
                )
            except (Broken, Refused) as error:
                if not (self._is_cluster and isinstance(error, Refused) and error.code == "MOVED"):
                    raise self.explain(error, server) from error
                self._servers.clear()
            else:
                found: list[Any] = answers[0]
                if found[0] == b"EPOCH":
                    del self._checked[use]
                elif replicas > 0 and answers[1] < replicas:
                    raise NotReplicated(server.address, answers[1], replicas)
                else:
                    return found
        raise TransportUnavailable(self.address, "its nodes do not agree on who keeps a slot")

    async def _check(self, wire: Wire, partition: int) -> None:
        """Find out what a server has lost, before anything else is asked of it (X13)."""
        question = self.epochs.question(partition)
        (answer,) = await self._evaluate(wire, CHECK, [self.base(partition), *question], 0)
        self.is_former |= self.epochs.learn(partition, answer)

    async def _evaluate(
        self, wire: Wire, script: Script, values: Sequence[bytes | str | int], replicas: int
    ) -> list[Any]:
        # WAIT is about writes of its own connection.
        most = int(self.seconds * _REPLICAS_SHARE * 1000)
        wait = [("WAIT", replicas, most)] if replicas > 0 else []
        return await evaluate(wire, script, values, self.seconds, wait)

    def explain(self, error: Broken | Refused, server: Server) -> Exception:
        """Return the transport's error for an error of a server.

        If partitions may have moved to other servers, they are looked up again next time.
        """
        if isinstance(error, Broken) or error.code in _MOVES:
            self._servers.clear()
        if isinstance(error, Refused) and error.code == "MOVED" and not self._is_cluster:
            return TransportUnusable(server.address, "it is part of a cluster: give cluster=True")
        return explain(error, server.address, _TERMS)

    async def open(self, partition: int) -> tuple[Wire, Server]:
        """Open a separate connection to the server of a partition, which the caller has to close.

        Returns:
            The connection and the server.
        """
        server = await self._server_of(partition)
        return self._wires.open(server), server

    async def _server_of(self, partition: int) -> Server:
        if not self._is_cluster:
            return self._server
        if partition not in self._servers:
            self._servers[partition] = self._keeper(await self._nodes(), partition)
        return self._servers[partition]

    async def _nodes(self) -> list[tuple[int, int, Server]]:
        last: Exception | None = None
        for server in list(self._known):
            try:
                (answer,) = await self._lines.to(server).call([("CLUSTER", "SLOTS")], self.seconds)
            except Broken as error:
                last = explain(error, server.address, _TERMS)
            except Refused as error:
                raise explain(error, server.address, _TERMS) from error
            else:
                slots = [_slots(each, server) for each in answer]
                self._known = list(dict.fromkeys([self._server, *(each for *_, each in slots)]))
                return slots
        assert last is not None  # noqa: S101 - the server that was given is always known
        raise last

    def _keeper(self, slots: list[tuple[int, int, Server]], partition: int) -> Server:
        slot = binascii.crc_hqx(f"{self._prefix}:{partition}".encode(), 0) % _SLOTS
        for first, last, server in slots:
            if first <= slot <= last:
                return server
        raise TransportUnavailable(self.address, f"no node of its cluster keeps slot {slot}")


def _slots(answer: list[Any], asked: Server) -> tuple[int, int, Server]:
    first, last, (host, port, *_) = answer[:3]
    # A node that does not know its own name has the one by which it was asked.
    return first, last, asked.at(host.decode() if host else asked.host, port)
