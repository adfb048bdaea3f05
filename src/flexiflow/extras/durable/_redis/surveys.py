"""What a person wants to see of a transport on Redis servers (Y6)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flexiflow.extras.durable._redis.entries import seconds
from flexiflow.extras.durable._redis.scripts import MEMBERS, STANDING, SURVEY
from flexiflow.extras.durable._surveys import GroupSurvey, LogSurvey, MemberSurvey, Standing, Survey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow.extras.durable._redis.network import Network


async def survey(network: Network, partitions: int, groups: Sequence[str]) -> Survey:
    """Return what there is to see.

    Args:
        network: the servers.
        partitions: how many partitions there are.
        groups: the names of the groups.
    """
    answers = [await network.run(partition, SURVEY) for partition in range(partitions)]
    logs = tuple(_log(*each[2:]) for each in answers)
    sizes = [each.size for each in logs if each.size is not None]
    return Survey(
        int(answers[0][1]) / 1_000_000,
        logs,
        tuple([await _group(network, partitions, each) for each in groups]),
        sum(sizes) if len(sizes) == partitions else None,
    )


def _log(length: int, oldest: bytes, scheduled: int, size: int) -> LogSurvey:
    return LogSurvey(length, seconds(oldest), scheduled, size if size >= 0 else None)


async def _group(network: Network, partitions: int, group: str) -> GroupSurvey:
    _, replays, members = await network.run(0, MEMBERS, group)
    standings: list[Standing] = []
    times: list[float] = []
    for partition in range(partitions):
        standing, oldest = await look_at(network, partition, group, is_thorough=True)
        standings.append(standing)
        times += [oldest] if oldest is not None else []
    alive = sorted(_member(*each) for each in members)
    return GroupSurvey(group, tuple(alive), tuple(standings), min(times, default=None), replays)


def _member(*answer: Any) -> MemberSurvey:
    consumer, patterns, until = answer
    return MemberSurvey(consumer.decode(), tuple(json.loads(patterns)), int(until) / 1000)


async def look_at(
    network: Network, partition: int, group: str, *, is_thorough: bool = False
) -> tuple[Standing, float | None]:
    """Return how far a group is in a partition.

    Args:
        network: the servers.
        partition: the partition.
        group: the group.
        is_thorough: whether to find out how old the oldest record is that is not settled.

    Returns:
        The standing, and when that record was stored; None if it is not known, or not asked for.
    """
    answer = await network.run(partition, STANDING, group, int(is_thorough))
    _, counts, epoch, last, oldest = answer
    network.epochs.of(partition).note(epoch, last)
    return Standing(*counts), seconds(oldest)
