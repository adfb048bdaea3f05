"""The transport on Redis: what a person wants to see of it, and discarding dead letters (Y6)."""

import json

import pytest

from flexiflow.extras.durable import (
    Acknowledged,
    Buried,
    LogSurvey,
    Postponed,
    Room,
    Standing,
)
from flexiflow.extras.durable._redis import surveys as surveys_module
from tests.durable.redis.desk import FAILURE, Keys, batch, lease_of, member, transport

pytestmark = pytest.mark.once


async def test_dead_letters_are_discarded(keys: Keys) -> None:
    """Y6: for good; ids of none are ignored."""
    async with transport(keys, partitions=2).connect() as connection:
        await connection.store(batch(1, b"a", b"b", keys=["k", "k"]))
        lease = await lease_of(connection, partition=1)
        given = await lease.receive(Room(2))
        await lease.settle([Buried(each.position, 1, 1, FAILURE) for each in given])
        first, second = await connection.dead_letters("billing")
        ids = [first.id, "7-7-1", "no id"]
        counts = [await connection.discard("billing", ids) for _ in range(2)]
        counts.append(await connection.discard("audit", [second.id]))
        assert counts == [1, 0, 0]
        assert await connection.dead_letters("billing") == [second]
        assert keys.server.command("ZCARD", keys.name("origins:billing", 1)) == ":1"


async def test_a_survey_tells_all_that_there_is(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y6: logs, groups with their members, how far they are, and how old what they have left is."""
    # One group at a time.
    monkeypatch.setattr(surveys_module, "_PAGE", 1)
    async with transport(keys).connect() as connection:
        times: list[float] = []
        for number, body in enumerate((b"a", b"b", b"c", b"d"), 1):
            await connection.store(batch(number, body))
            times.append((await connection.survey()).now)
        lease = await lease_of(connection, member(lease=6000.0))
        given = await lease.receive(Room(3))
        await lease.settle([Buried(given[0].position, 1, 1, FAILURE)])
        await lease.settle([Postponed(given[1].position, 1, 0, 5.0, None)])
        await connection.join(member("bob", "audit")._replace(start="new"))
        await connection.join(member("0"))
        await connection.replay("audit", ("3-0",))
        silent = json.dumps([0, "1", '["order.*"]', 0])
        keys.command("HSET", "members:billing", "silent", silent)
        survey = await connection.survey()
        audit, billing = survey.groups
        assert (audit.name, audit.standings) == ("audit", (Standing(0, 1, 0, 0),))
        assert audit.replay > billing.replay
        assert audit.oldest is not None
        assert times[2] < audit.oldest < times[3]
        assert billing.standings == (Standing(1, 1, 0, 1, 1),)
        assert [each.consumer for each in billing.members] == ["0", "ann"]
        assert billing.members[1].patterns == ("order.*",)
        assert 5000 < billing.members[1].until - survey.now <= 6000
        # The second one waits.
        assert billing.oldest is not None
        assert times[0] < billing.oldest < times[1]


async def test_a_survey_tells_how_large_a_log_is(keys: Keys) -> None:
    """Y6: how much it holds, since when, and how much is to come."""
    async with transport(keys).connect() as connection:
        before = (await connection.survey()).now
        await connection.store(batch(1, *[b"a"] * 4))
        record = batch(1, b"e").records[0]
        await connection.schedule(connection.new_ticket(None), record, at=4e9)
        survey = await connection.survey()
        [log] = survey.logs
        assert (log.length, log.scheduled) == (4, 1)
        assert log.oldest is not None
        assert before < log.oldest < survey.now
        assert log.size is not None
        assert 100 < log.size == survey.size


async def test_the_oldest_is_what_is_not_settled(keys: Keys) -> None:
    """Y6: what was given, waits, or is new; not a copy that is passed over."""
    async with transport(keys).connect() as connection:
        lease = await lease_of(connection)

        async def oldest() -> float | None:
            return (await connection.survey()).groups[0].oldest

        assert await oldest() is None
        times = [(await connection.survey()).now]
        for number, body in enumerate((b"a", b"b"), 1):
            await connection.store(batch(number, body))
            times.append((await connection.survey()).now)
        [given] = await lease.receive(Room(1))
        seen = [await oldest()]
        await lease.settle([Buried(given.position, 1, 1, FAILURE)])
        seen.append(await oldest())
        [letter] = await connection.dead_letters("billing")
        await connection.redrive("billing", [letter.id])
        await connection.replay("billing", "oldest")
        again = await lease_of(connection)
        given, _ = await again.receive(Room(2))
        await again.settle([Acknowledged("2-0"), Postponed(given.position, 1, 0, 9.0, None)])
        seen.append(await oldest())
        await again.release()
        assert [times[0] < (each or 0) < times[1] for each in seen] == [True, False, True]
        keys.command("ZADD", "ages:billing", 0, "1-0")
        assert await oldest() is None
        await connection.replay("billing", ("2-0",))
        keys.command("DEL", "ages:billing")
        assert await oldest() is None


async def test_a_survey_of_nothing(keys: Keys) -> None:
    """Y6: no record is the oldest, where there is none, or where its time is not known."""
    async with transport(keys, partitions=2).connect() as connection:
        await connection.join(member())
        survey = await connection.survey()
        sizes = [each.size for each in survey.logs]
        assert list(survey.logs) == [LogSurvey(0, None, 0, each) for each in sizes]
        assert survey.groups[0].oldest is None
        keys.command("XADD", "log", "*", "time", "then")
        survey = await connection.survey()
        assert (survey.logs[0].length, survey.logs[0].oldest) == (1, None)
        assert survey.groups[0].oldest is None


async def test_a_server_need_not_tell_its_memory(keys: Keys) -> None:
    """Y6: one may forbid the command; then the size is not known."""
    for words in (("ACL", "SETUSER", "shy", "on", ">secret", "~*", "&*", "+@all", "-memory"),):
        assert keys.server.command(*words) == "+OK"
    url = keys.server.url.replace("redis://", "redis://shy:secret@")
    async with type(transport(keys))(url, prefix=keys.prefix).connect() as connection:
        await connection.store(batch(1, b"a"))
        survey = await connection.survey()
        assert (survey.size, survey.logs[0].size, survey.logs[0].length) == (None, None, 1)
    keys.server.command("ACL", "DELUSER", "shy")
