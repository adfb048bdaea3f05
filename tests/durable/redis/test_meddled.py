"""The transport on Redis where others meddle with its keys."""

import json

import pytest

from flexiflow.extras.durable import (
    Acknowledged,
    Buried,
    LogFull,
    Noted,
    Returned,
    Room,
    Standing,
    TransportUnusable,
)
from tests.durable.redis.desk import (
    FAILURE,
    Keys,
    batch,
    bodies,
    lease_of,
    member,
    standing,
    transport,
)

pytestmark = pytest.mark.once

FOREIGN = b'["kind","x","n","1"]'


def write(keys: Keys, position: str = "*") -> str:
    """Write an entry of another kind, and return its position."""
    answer = keys.command("XADD", "log", position, "kind", "x", "n", 1)
    return answer.partition("\r\n")[2]


async def test_delivers_what_something_else_has_written(keys: Keys) -> None:
    """X7: with a body that holds what it holds, and without counting anything as missed."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a", b"b"))
        write(keys, "2-7")
        lease = await lease_of(connection)
        assert (await connection.standing("billing")).lag == 3
        assert await bodies(lease, 1) == [b"a"]
        write(keys)
        assert (await standing(connection, lease)).lag == 3
        await connection.store(batch(2, b"c"))
        write(keys)
        await connection.store(batch(3, b"d"))
        assert await bodies(lease) == [b"b", FOREIGN, FOREIGN, b"c", FOREIGN, b"d"]
        assert await standing(connection, lease) == Standing(7, 0, 0, 0)


async def test_what_something_else_wrote_at_the_next_place_is_foreign(keys: Keys) -> None:
    """X7: also where as much is asked for as is there."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a"))
        lease = await lease_of(connection)
        assert await bodies(lease) == [b"a"]
        await connection.store(batch(2, b"b"))
        write(keys, "3-0")
        assert await bodies(lease, 2) == [b"b", FOREIGN]


async def test_an_entry_that_looks_almost_like_ours_is_foreign(keys: Keys) -> None:
    """X7: with one field too many it is no event of ours."""
    keys.command("XADD", "log", "*", "event", "e", "extra", "x")
    async with transport(keys).connect() as connection:
        assert await bodies(await lease_of(connection)) == [b'["event","e","extra","x"]']
        found, _ = await connection.tail(["0-0"], 1, 0)
        assert json.loads(found[0].body) == ["event", "e", "extra", "x"]


async def test_a_foreign_entry_may_be_buried_and_redriven(keys: Keys) -> None:
    """X3: its dead letter has the body that was delivered, and goes to its group alone."""
    async with transport(keys).connect() as connection:
        position = write(keys)
        lease = await lease_of(connection)
        assert await bodies(lease) == [FOREIGN]
        await lease.settle([Buried(position, 0, 1, FAILURE)])
        (letter,) = await connection.dead_letters("billing")
        assert letter.body == FOREIGN
        assert await connection.redrive("billing", [letter.id]) == 1
        (given,) = await lease.receive(Room(1))
        assert (given.body, given.group, given.attempts) == (FOREIGN, "billing", 0)


async def test_foreign_entries_make_room_like_all(keys: Keys) -> None:
    """X5: what others write counts against the length, and is trimmed once it is settled."""
    async with transport(keys, max_length=2).connect() as connection:
        lease = await lease_of(connection)
        one, two = write(keys), write(keys)
        with pytest.raises(LogFull):
            await connection.store(batch(1, b"a"))
        assert await bodies(lease) == [FOREIGN, FOREIGN]
        await lease.settle([Acknowledged(one)])
        await connection.store(batch(1, b"a"))
        await lease.settle([Acknowledged(two)])
        await connection.store(batch(2, b"b"))
        assert await bodies(lease) == [b"a", b"b"]
        assert (await standing(connection, lease)).missed == 0
        # Nothing is kept in mind of entries that are gone.
        assert keys.command("LLEN", "jumps") == ":0"


@pytest.mark.parametrize("after", ["nothing", "more"])
async def test_counts_what_was_deleted_before_it_was_given(keys: Keys, after: str) -> None:
    """X6: whether or not anything is stored after it."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, b"a", b"b", b"c", b"d"))
        assert await bodies(lease, 1) == [b"a"]
        keys.command("XDEL", "log", "2-0", "4-0")
        if after == "more":
            write(keys)
            await connection.store(batch(2, b"e"))
        assert await bodies(lease) == [b"c", FOREIGN, b"e"][: 3 if after == "more" else 1]
        assert (await standing(connection, lease)).missed == 2
        assert await bodies(lease) == []
        assert (await standing(connection, lease)).missed == 2


async def test_a_log_that_was_emptied_is_all_missed(keys: Keys) -> None:
    """X6: positions go on after the last one, and what was pending is missed too."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, b"a", b"b", b"c"))
        assert await bodies(lease, 2) == [b"a", b"b"]
        await lease.settle([Acknowledged("1-0")])
        keys.command("DEL", "log")
        await connection.store(batch(2, b"d"))
        assert await bodies(lease) == [b"d"]
        assert await standing(connection, lease) == Standing(1, 0, 2, 0)


async def test_counts_what_was_deleted_while_it_was_pending(keys: Keys) -> None:
    """X6: once nobody can settle it any more; what its holder settles is not missed."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a", b"b", b"c", b"d", b"e"))
        lease = await lease_of(connection)
        assert len(await bodies(lease)) == 5
        await lease.settle([Noted("5-0", 1, 1)])
        keys.command("XTRIM", "log", "MAXLEN", 0)
        await lease.settle([Acknowledged("1-0"), Noted("2-0", 1, 1), Returned("3-0", 0, 0)])
        await lease.settle([Buried("4-0", 5, 1, FAILURE)])
        assert await standing(connection, lease) == Standing(2, 0, 2, 0)
        await lease.release()
        second = await lease_of(connection)
        assert await bodies(second) == []
        assert await standing(connection, second) == Standing(0, 0, 4, 0)
        assert keys.command("EXISTS", "a:billing") == ":0"


@pytest.mark.parametrize("how", ["destroyed", "moved on", "made by another"])
async def test_a_group_that_is_lost_goes_on_where_all_was_settled(keys: Keys, how: str) -> None:
    """X6: nothing is skipped, and failed attempts are remembered."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)
        await connection.store(batch(1, b"a", b"b", b"c", b"d"))
        assert await bodies(lease, 3) == [b"a", b"b", b"c"]
        await lease.settle([Acknowledged("1-0"), Noted("2-0", 2, 1), Acknowledged("3-0")])
        if how == "moved on":
            keys.server.command("XGROUP", "SETID", keys.log, "billing", "$")
        else:
            keys.server.command("XGROUP", "DESTROY", keys.log, "billing")
        if how == "made by another":
            keys.server.command("XGROUP", "CREATE", keys.log, "billing", "$")
        given = await lease.receive(Room(9))
        assert [(each.body, each.attempts) for each in given] == [(b"b", 2), (b"c", 0), (b"d", 0)]
        await lease.settle([Acknowledged(each.position) for each in given])
        assert await standing(connection, lease) == Standing(0, 0, 0, 0)


async def test_what_was_gone_before_a_group_is_not_missed_by_it(keys: Keys) -> None:
    """X6: a new group is given what is there."""
    async with transport(keys, max_length=2).connect() as connection:
        await connection.store(batch(1, b"a", b"b"))
        await connection.store(batch(2, b"c"))
        lease = await lease_of(connection)
        assert await bodies(lease) == [b"b", b"c"]
        assert (await standing(connection, lease)).missed == 0
        keys.command("DEL", "log")
        other = await lease_of(connection, member(group="audit"))
        assert await bodies(other) == []
        assert (await standing(connection, other)).missed == 0


async def test_a_group_whose_state_was_deleted_begins_with_what_is_there(keys: Keys) -> None:
    """X6: rather twice than never."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a"))
        lease = await lease_of(connection)
        await (await lease_of(connection)).release()
        assert await bodies(lease) == [b"a"]
        await lease.settle([Acknowledged("1-0")])
        keys.command("DEL", "g:billing")
        # What it takes is not known until a member comes.
        assert await bodies(lease) == []
        await connection.join(member())
        assert await bodies(lease) == [b"a"]
        await lease.settle([Returned("1-0", 0, 0)])
        assert await bodies(lease) == [b"a"]


@pytest.mark.parametrize("lost", ["g:billing", "groups"])
async def test_what_is_for_a_group_is_kept_whatever_of_it_was_deleted(
    keys: Keys, lost: str
) -> None:
    """X6: to store goes on, and makes no room of what the group has not settled."""
    async with transport(keys, max_length=2).connect() as connection:
        await connection.store(batch(1, b"a", b"b"))
        lease = await lease_of(connection)
        assert await bodies(lease) == [b"a", b"b"]
        keys.command("DEL", lost)
        if lost == "groups":
            await lease.renew()
        with pytest.raises(LogFull):
            await connection.store(batch(2, b"c"))
        await lease.settle([Acknowledged("1-0")])
        await connection.store(batch(2, b"c"))
        assert await connection.groups() == ["billing"]


async def test_scripts_that_the_server_lost_are_sent_again(keys: Keys) -> None:
    """X6: a server need not remember any."""
    async with transport(keys).connect() as connection:
        await connection.store(batch(1, b"a"))
        keys.server.command("SCRIPT", "FLUSH")
        await connection.store(batch(2, b"b"))
        assert await bodies(await lease_of(connection)) == [b"a", b"b"]


async def test_keys_of_another_kind_are_refused(keys: Keys) -> None:
    """X6: who uses the keys for something else is told to take another prefix."""
    keys.command("SET", "log", "x")
    with pytest.raises(TransportUnusable, match=r"/0 can't be used: .*use another prefix"):
        async with transport(keys).connect():
            pytest.fail("opened")
