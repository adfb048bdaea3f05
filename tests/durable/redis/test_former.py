"""The transport on Redis where an earlier release has laid out the keys (X16)."""

import json
from pathlib import Path
from typing import Final

import pytest

from flexiflow.extras.durable import Acknowledged, Room, Standing, TransportUnusable
from tests.durable.redis.desk import Keys, batch, bodies, lease_of, member, transport

pytestmark = pytest.mark.once

FORMER: Final = Path(__file__).with_name("former")
"""The scripts of the release before."""


def run(keys: Keys, script: str, *arguments: str | int, partition: int = 0) -> str:
    """Run a script of the release before."""
    source = "".join((FORMER / f"{name}.lua").read_text("utf-8") for name in ("common", script))
    return keys.server.command("EVAL", source, 1, keys.name("", partition)[:-1], *arguments)


def fill(keys: Keys, partition: int = 0) -> None:
    """Have a worker of the release before work on five events, and die."""
    bodies = [word for body in "abcde" for word in (0, body)]
    assert (
        run(keys, "store", "shop", 1, 60000, 1000, 1, 5, *bodies, partition=partition)[:2] == "*1"
    )
    patterns = json.dumps(["order.*"])
    assert (
        run(keys, "join", "billing", "old", "t", 60000, patterns, partition=partition)[:2] == "*3"
    )
    assert run(keys, "acquire", "billing", 60000, 0, partition=partition).endswith(":1")
    assert run(keys, "give", "billing", 1, 3, 0, partition=partition)[:2] == "*6"
    settled = (1, "1-0", "N", "2-0", 2, 1)
    assert run(keys, "settle", "billing", 1, *settled, partition=partition) == "*1\r\n$2\r\nOK"


async def test_what_an_earlier_release_has_left_is_taken_over(keys: Keys) -> None:
    """X16: what was pending with its counts, what was new, and what a producer has stored."""
    run(keys, "layout", "None")
    fill(keys)
    async with transport(keys).connect() as connection:
        assert await connection.standing("billing") == Standing(2, 2, 0, 0)
        # Its members and leases are not.
        assert await connection.join(member("old")) == ["old"]
        lease = await lease_of(connection)
        given = await lease.receive(Room(9))
        assert [(each.body, each.attempts, each.is_suspect) for each in given] == [
            (b"b", 2, True),
            (b"c", 0, True),
            (b"d", 0, False),
            (b"e", 0, False),
        ]
        await lease.settle([Acknowledged(each.position) for each in given])
        await connection.store(batch(1, b"a", b"b", b"c", b"d", b"e"))
        assert await connection.standing("billing") == Standing(0, 0, 0, 0)


async def test_all_partitions_are_taken_over_when_they_are_opened(keys: Keys) -> None:
    """X16: each in one script, and again where that was interrupted."""
    run(keys, "layout", "2")
    for partition in (0, 1):
        fill(keys, partition)
    async with transport(keys, partitions=2).connect():
        pass
    for partition in (0, 1):
        assert keys.server.command("EXISTS", keys.name("m:billing", partition)) == ":0"
        assert keys.server.command("EXISTS", keys.name("l:billing", partition)) == ":0"
        assert keys.server.command("HEXISTS", keys.name("meta", partition), "epoch") == ":1"


async def test_an_earlier_release_is_refused_after_that(keys: Keys) -> None:
    """X16: as it opens it, and by its tokens where it is open."""
    run(keys, "layout", "None")
    fill(keys)
    async with transport(keys).connect():
        pass
    # What it shows: "its log was laid out with partitions=..., not None".
    assert "None; layout 2, of a newer flexiflow" in run(keys, "layout", "None")
    assert "LOST" in run(keys, "renew", "billing", 1, 60000)
    assert "WRONGTYPE" in run(keys, "acquire", "billing", 60000, 0)
    # Its publishers need not be stopped.
    run(keys, "store", "shop", 2, 60000, 1000, 1, 1, 0, "f")
    async with transport(keys).connect() as connection:
        assert (await bodies(await lease_of(connection)))[-1] == b"f"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("2", "laid out with partitions=2, not None"),
        ("2; layout 2, of a newer flexiflow", "laid out with partitions=2, not None"),
        ("None; layout 3, and more", "the layout 3 of a newer flexiflow, and this one knows 2"),
        ("what?", "laid out with partitions='what\\?', not None"),
    ],
)
async def test_another_layout_is_refused(keys: Keys, found: str, said: str) -> None:
    """X16: with what is there and what would be right, and nothing is changed."""
    keys.command("SET", "layout", found)
    with pytest.raises(TransportUnusable, match=said):
        async with transport(keys).connect():
            pytest.fail("opened")
    assert keys.command("EXISTS", "meta") == ":0"
    assert found in keys.command("GET", "layout")
