"""The transport on Redis where an earlier release has laid out the keys (X16)."""

import json
import time
from pathlib import Path
from typing import Final

import pytest

from flexiflow.extras._redis.script import digest_of
from flexiflow.extras.durable import Acknowledged, Room, Standing, TransportUnusable
from tests.durable.redis.desk import Keys, batch, bodies, lease_of, member, transport

pytestmark = pytest.mark.once

FORMER: Final = Path(__file__).with_name("former")
"""The scripts of earlier releases, by their layouts."""

PARTS: Final = {
    "acquire": ("guard", "more", "waits"),
    "check": ("more",),
    "give_all": ("more", "sizes", "waits"),
    "join": ("guard", "more"),
    "settle": ("more", "waits"),
    "store": ("guard",),
}
"""What comes before the scripts of layout 2."""


def evaluate(keys: Keys, files: list[Path], *arguments: str | int, partition: int = 0) -> str:
    """Run a script that is made of several files."""
    source = "".join(each.read_text("utf-8") for each in files)
    return keys.server.command("EVAL", source, 1, keys.name("", partition)[:-1], *arguments)


def run(keys: Keys, script: str, *arguments: str | int, partition: int = 0) -> str:
    """Run a script of layout 1."""
    files = [FORMER / "1" / f"{name}.lua" for name in ("common", script)]
    return evaluate(keys, files, *arguments, partition=partition)


def run_2(keys: Keys, script: str, *arguments: str | int, partition: int = 0) -> str:
    """Run a script of layout 2."""
    names = ("common", *PARTS.get(script, ()), script)
    files = [FORMER / "2" / f"{name}.lua" for name in names]
    return evaluate(keys, files, *arguments, partition=partition)


def check_2(keys: Keys, epoch: str = "", *, partition: int = 0) -> str:
    """Connect to a partition as layout 2 does, with the epoch that is known."""
    layouts = ("None; layout 2, of a newer flexiflow", "None") if partition == 0 else ("", "")
    return run_2(keys, "check", epoch, "elder", *layouts, 0, partition=partition)


def fill_2(keys: Keys) -> str:
    """Have a worker of layout 2 work on four events, and die; return the name of its lease."""
    assert "elder" in check_2(keys)
    records = [word for body in "abcd" for word in (0, body)]
    assert "OK" in run_2(keys, "store", "elder", "shop", 1, 60000, 1000, 1, "", 4, *records)
    patterns = json.dumps(["order.*"])
    digest = digest_of(patterns.encode())
    row = ("elder", "billing", "old", "t", 60000, patterns)
    state = run_2(keys, "join", *row, "", "").split("\r\n")[4]
    assert "\r\nOK" in run_2(keys, "join", *row, state, digest)
    lease = run_2(keys, "acquire", "elder", "billing", 60000, 0, digest).split("\r\n")[4]
    room = (3, 10**6, 10**6, 9, 30000, 600000, 9, 0)
    assert "OK" in run_2(keys, "give_all", "billing", lease, lease, digest, *room)
    outcomes = ("B", "1-0", 2, 1, "E", "no", "", "Q", "2-0", 1, 0, 0)
    assert "OK" in run_2(keys, "settle", "billing", lease, lease, 0, 1, 0, *outcomes)
    return lease


def fill(keys: Keys, partition: int = 0) -> None:
    """Have a worker of layout 1 work on five events, and die."""
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
        assert keys.server.command("HEXISTS", keys.name("meta3", partition), "epoch") == ":1"


async def test_an_earlier_release_is_refused_after_that(keys: Keys) -> None:
    """X16: as it opens it, and by its tokens where it is open."""
    run(keys, "layout", "None")
    fill(keys)
    async with transport(keys).connect():
        pass
    # What it shows: "its log was laid out with partitions=..., not None".
    assert "None; layout 3, of a newer flexiflow" in run(keys, "layout", "None")
    assert "LOST" in run(keys, "renew", "billing", 1, 60000)
    assert "WRONGTYPE" in run(keys, "acquire", "billing", 60000, 0)
    assert "compare" in run(keys, "store", "shop", 2, 60000, 1000, 1, 1, 0, "f")
    async with transport(keys).connect() as connection:
        assert await bodies(await lease_of(connection)) == [b"b", b"c", b"d", b"e"]


async def test_what_layout_2_has_left_is_taken_over(keys: Keys) -> None:
    """X16, Y5: pending, waiting and dead records; nobody knows when they were stored."""
    fill_2(keys)
    before = time.time()
    async with transport(keys).connect() as connection:
        assert await connection.standing("billing") == Standing(1, 1, 0, 1, 1)
        await connection.store(batch(1, b"a", b"b", b"c", b"d"))
        await connection.store(batch(2, b"e"))
        found, _ = await connection.tail(["0-0"], 9, 0)
        assert [each.time is None for each in found] == [True, True, True, True, False]
        lease = await lease_of(connection)
        given = await lease.receive(Room(9))
        assert sorted((each.body, each.attempts) for each in given) == [
            (b"b", 1),
            (b"c", 0),
            (b"d", 0),
            (b"e", 0),
        ]
        await lease.settle([Acknowledged(each.position) for each in given])
        # Records without a time may have been stored at any time before the layout changed.
        assert await connection.replay("billing", before) == (("0-0",), True)
        assert await connection.replay("billing", time.time()) == (("5-0",), True)
        # It is not known which record its dead letter was.
        assert (await connection.standing("billing")).dead == 1
        (letter,) = await connection.dead_letters("billing")
        assert await connection.redrive("billing", [letter.id]) == 1
        assert await bodies(await lease_of(connection)) == [b"a"]


async def test_what_still_runs_of_layout_2_is_refused(keys: Keys) -> None:
    """X16: as it opens it, and as it goes on, and in each partition; nothing of it is stored."""
    lease = fill_2(keys)
    check_2(keys, partition=1)
    keys.command("SET", "layout", "2; layout 2, of a newer flexiflow")
    async with transport(keys, partitions=2).connect() as connection:
        await connection.join(member("new"))
        for _ in range(2):
            for partition in (0, 1):
                words = ("elder", "shop", 2, 60000, 1000, 1, "", 1, 0, "f")
                told = run_2(keys, "store", *words, partition=partition)
                # Then it asks for the layout, which the first partition has.
                assert ("EPOCH", "WRONGTYPE")[partition] in told
                told = check_2(keys, "elder", partition=partition)
                assert ("LAYOUT", "WRONGTYPE")[partition] in told
        for tried in (
            run_2(keys, "give_all", "billing", lease, lease, "", 3, 10**6, 10**6, 9, 1, 1, 9, 0),
            run_2(keys, "settle", "billing", lease, lease, 0, 0, 1, "2-0"),
        ):
            assert "LOST" in tried
        found, ends = await connection.tail(["0-0", "0-0"], 9, 0)
        assert ([each.body for each in found], ends) == ([b"a", b"b", b"c", b"d"], ["4-0", "0-0"])
        assert await connection.standing("billing") == Standing(1, 1, 0, 1, 1)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("2", "laid out with partitions=2, not None"),
        ("2; layout 2, of a newer flexiflow", "laid out with partitions=2, not None"),
        ("None; layout 4, and more", "the layout 4 of a newer flexiflow, and this one knows 3"),
        ("what?", "laid out with partitions='what\\?', not None"),
    ],
)
async def test_another_layout_is_refused(keys: Keys, found: str, said: str) -> None:
    """X16: with what is there and what would be right, and nothing is changed."""
    keys.command("SET", "layout", found)
    with pytest.raises(TransportUnusable, match=said):
        async with transport(keys).connect():
            pytest.fail("opened")
    assert keys.command("EXISTS", "meta", keys.name("meta3")) == ":0"
    assert found in keys.command("GET", "layout")
