"""The transport on a cluster of Redis servers."""

from collections.abc import Generator
from contextlib import ExitStack
from typing import Final

import pytest

from flexiflow.extras.durable import (
    Acknowledged,
    Record,
    RedisTransport,
    Room,
    Standing,
    TransportUnavailable,
    TransportUnusable,
)
from tests.durable.redis.desk import batch, fake_server, lease_of, until
from tools.redis_server import MISSING, RedisServer, find_server, redis_server

pytestmark = pytest.mark.once

# Where `{flexiflow:0}` and `{flexiflow:1}` are.
SLOTS: Final = (1660, 5725)
HALF: Final = 12000


@pytest.fixture(scope="module")
def nodes() -> Generator[list[RedisServer]]:
    """Run a cluster of two nodes."""
    if find_server() is None:
        pytest.skip(MISSING)
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(redis_server(cluster_enabled="yes", cluster_node_timeout=15_000))
            for _ in range(2)
        ]
        for node, slots in zip(nodes, (range(HALF), range(HALF, 16384)), strict=True):
            assert node.command("CLUSTER", "ADDSLOTS", *slots) == "+OK"
        nodes[0].command("CLUSTER", "MEET", "127.0.0.1", nodes[1].port)
        yield nodes


def is_ready(node: RedisServer) -> bool:
    """Tell whether a node knows the other one, and serves."""
    info = node.command("CLUSTER", "INFO")
    return "cluster_state:ok" in info and "cluster_known_nodes:2" in info


def name_of(node: RedisServer) -> str:
    """Give the id of a node."""
    return node.command("CLUSTER", "MYID").split("\r\n")[1]


def move_slot(nodes: list[RedisServer], number: int) -> None:
    """Move the slot of the second partition to a node."""
    owner = nodes[number]
    # Else a message that the other node has sent before might move it back.
    assert owner.command("CLUSTER", "BUMPEPOCH").startswith(("+BUMPED", "+STILL"))
    for node in nodes:
        assert node.command("CLUSTER", "SETSLOT", SLOTS[1], "NODE", name_of(owner)) == "+OK"


@pytest.mark.once
async def test_finds_the_node_of_each_partition(nodes: list[RedisServer]) -> None:
    """X6: by its slot, also after that was moved, whichever node is given."""
    await until(lambda: all(map(is_ready, nodes)))
    for node in nodes:
        node.command("FLUSHALL")
    async with RedisTransport(nodes[0].url, partitions=2, cluster=True).connect() as connection:
        assert await connection.standing("billing") == Standing(0, 0, 0, 0)
        # The slot of the second partition moves, while it is empty.
        nodes[0].command("FLUSHALL")
        move_slot(nodes, 1)
        await connection.store(batch(1, b"a", b"b", b"c"))
        for partition in (0, 1):
            lease = await lease_of(connection, partition=partition)
            given = await lease.receive(Room(9))
            await lease.settle([Acknowledged(each.position) for each in given])
            assert await lease.receive(Room(1)) == []
            await lease.wait(0.001)
            await lease.release()
        assert await connection.standing("billing") == Standing(0, 0, 0, 0)
        tickets = [connection.new_ticket(key) for key in "kl"]
        for ticket, key in zip(tickets, "kl", strict=True):
            await connection.schedule(ticket, Record(b"d", key), at=4e9)
        assert {each.ticket for each in await connection.scheduled()} == {*tickets}
        assert await connection.cancel(tickets[0])
        await connection.schedule(tickets[1], Record(b"d", "l"), at=4e9)
        assert len((await connection.replay("billing", "oldest")).after) == 2
        assert (await connection.standing("billing")).lag == 3
        survey = await connection.survey()
        assert sorted(each.scheduled for each in survey.logs) == [0, 1]
        assert await connection.groups() == ["billing"]
    with pytest.raises(TransportUnusable, match=r"/0 can't be used: .*give cluster=True"):
        async with RedisTransport(nodes[1].url).connect():
            pytest.fail("opened")
    for node in nodes:
        node.command("FLUSHALL")
    move_slot(nodes, 0)


def slots(port: int, first: int = 0, host: str = "$9\r\n127.0.0.1") -> str:
    """Give an answer to CLUSTER SLOTS."""
    return f"*1\r\n*3\r\n:{first}\r\n:16383\r\n*3\r\n{host}\r\n:{port}\r\n$1\r\nx"


async def test_nodes_that_do_not_agree_are_given_up() -> None:
    """X6: a slot that each node sends on to the other is not looked for without end."""
    async with fake_server(EVALSHA="-MOVED 1660 127.0.0.1:1") as server:
        server.answers["CLUSTER"] = slots(server.port, host="$-1")
        with pytest.raises(TransportUnavailable, match=r"/0 is not available: .*do not agree"):
            async with RedisTransport(f"redis://127.0.0.1:{server.port}", cluster=True).connect():
                pytest.fail("opened")


@pytest.mark.parametrize(
    ("cluster", "kind", "said"),
    [
        (slots(1, 16383), TransportUnavailable, "no node of its cluster keeps slot 1660"),
        ("-ERR This instance has cluster support disabled", TransportUnusable, "disabled"),
        (
            slots(1, host="$9\r\nlocalhost"),
            TransportUnavailable,
            "//localhost:1/0 is not available",
        ),
    ],
)
async def test_a_cluster_that_is_none_or_not_whole(
    cluster: str, kind: type[Exception], said: str
) -> None:
    """X6: says what is missing."""
    async with fake_server(CLUSTER=cluster) as server:
        with pytest.raises(kind, match=said):
            async with RedisTransport(f"redis://127.0.0.1:{server.port}", cluster=True).connect():
                pytest.fail("opened")


async def test_slots_that_are_on_the_move_pass() -> None:
    """X6: a later try may find them."""
    async with fake_server(EVALSHA="-TRYAGAIN Multiple keys request during rehashing") as server:
        server.answers["CLUSTER"] = slots(server.port)
        with pytest.raises(TransportUnavailable, match=r"/0 is not available: .*TRYAGAIN"):
            async with RedisTransport(f"redis://127.0.0.1:{server.port}", cluster=True).connect():
                pytest.fail("opened")


async def test_another_node_is_asked_where_one_is_gone() -> None:
    """X6: any node that was heard of tells where the slots are; if none does, that is the error."""
    async with (
        fake_server(EVALSHA="*5\r\n+OK\r\n$1\r\ne\r\n:0\r\n:0\r\n:0") as node,
        fake_server(CLUSTER=slots(node.port)) as first,
        RedisTransport(f"redis://127.0.0.1:{first.port}", cluster=True).connect() as connection,
    ):
        await first.stop()
        node.answers["CLUSTER"] = slots(node.port)
        node.answers["EVALSHA"] = "-CLUSTERDOWN Hash slot not served"
        with pytest.raises(TransportUnavailable, match=r"/0 is not available: .*CLUSTERDOWN"):
            await connection.groups()
        node.answers["EVALSHA"] = "*2\r\n+OK\r\n*0"
        assert await connection.groups() == []
        await node.stop()
        for _ in range(2):
            with pytest.raises(TransportUnavailable):
                await connection.groups()
