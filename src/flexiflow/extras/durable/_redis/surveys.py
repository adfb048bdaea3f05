"""What a person wants to see of a transport on Redis servers (Y6)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from flexiflow.extras.durable._redis.entries import seconds
from flexiflow.extras.durable._redis.scripts import MEMBERS, STANDING, SURVEY
from flexiflow.extras.durable._surveys import GroupSurvey, LogSurvey, MemberSurvey, Standing, Survey

_Part: TypeAlias = tuple[Standing, float | None]

# How many groups are asked for at once: with more the server would be busy for long.
_PAGE: Final = 100

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
    answers = await network.run_all(SURVEY, dict.fromkeys(range(partitions), ()))
    logs = tuple(_log(*each[2:]) for each in answers.values())
    pages = [groups[at : at + _PAGE] for at in range(0, len(groups), _PAGE)]
    sizes = [each.size for each in logs if each.size is not None]
    return Survey(
        int(answers[0][1]) / 1_000_000,
        logs,
        tuple([each for page in pages for each in await _page(network, partitions, page)]),
        sum(sizes) if len(sizes) == partitions else None,
    )


def _log(length: int, oldest: bytes, scheduled: int, size: int) -> LogSurvey:
    return LogSurvey(length, seconds(oldest), scheduled, size if size >= 0 else None)


async def _page(network: Network, partitions: int, groups: Sequence[str]) -> list[GroupSurvey]:
    """Return what there is to see of some groups."""
    _, facts = await network.run(0, MEMBERS, *groups)
    parts = await standings(network, partitions, groups, is_thorough=True)
    return [
        _group(name, fact, each)
        for name, fact, each in zip(groups, facts, zip(*parts, strict=True), strict=True)
    ]


def _group(name: str, facts: tuple[int, list[Any]], parts: Sequence[_Part]) -> GroupSurvey:
    replay, members = facts
    alive = sorted(_member(*each) for each in members)
    times = [oldest for _, oldest in parts if oldest is not None]
    of_each = tuple(standing for standing, _ in parts)
    return GroupSurvey(name, tuple(alive), of_each, min(times, default=None), replay)


def _member(*answer: Any) -> MemberSurvey:
    consumer, patterns, until = answer
    return MemberSurvey(consumer.decode(), tuple(json.loads(patterns)), int(until) / 1000)


async def standings(
    network: Network, partitions: int, groups: Sequence[str], *, is_thorough: bool = False
) -> list[list[_Part]]:
    """Return how far groups are in each partition.

    Args:
        network: the servers.
        partitions: how many partitions there are.
        groups: the groups.
        is_thorough: whether to find out how old the oldest record is that is not settled.

    Returns:
        For each partition, of each group the standing, and when that record was stored; None if it
        is not known, or not asked for.
    """
    arguments: Sequence[str | int] = (int(is_thorough), *groups)
    answers = await network.run_all(STANDING, dict.fromkeys(range(partitions), arguments))
    found: list[list[_Part]] = []
    for partition, (_, epoch, last, parts) in answers.items():
        network.epochs.of(partition).note(epoch, last)
        found.append([(Standing(*counts), seconds(oldest)) for counts, oldest in parts])
    return found
