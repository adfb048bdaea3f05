"""What stands in for a transport where a command looks at it."""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest

from flexiflow.extras.durable import (
    GroupSurvey,
    LogSurvey,
    MemberSurvey,
    Replayed,
    Standing,
    Start,
    Survey,
    TransportUnavailable,
)

NOW = 1_800_000_000.0
AWAY = TransportUnavailable("redis://here", "connection refused \x1b[31m")

Seen: TypeAlias = Survey | Exception | Callable[[], Survey]


def made(groups: int = 1, partitions: int = 1, members: int = 1, name: str = "group") -> Survey:
    """Make a survey, with ever more to do from group to group."""
    alive = tuple(
        MemberSurvey(f"worker-{each}", ("order.*", "stock.*"), NOW + 10) for each in range(members)
    )
    return Survey(
        NOW,
        tuple(LogSurvey(number, NOW - 90, 2, 1536) for number in range(partitions)),
        tuple(
            GroupSurvey(
                f"{name}-{number}",
                alive,
                (Standing(number, 2, 3, 4, 5),) * partitions,
                NOW - 7200,
                1,
            )
            for number in range(groups)
        ),
        3 * 2**20,
    )


class StandIn:
    """A transport, and its connection.

    Args:
        seen: what comes of each survey in turn; after that some survey.
        groups: the names of its groups.
        replayed: what a replay returns.
        forgets: how many groups it forgets before it is away.

    Attributes:
        asked: what it was asked to replay.
    """

    address = "redis://here"

    def __init__(
        self,
        seen: Iterable[Seen],
        groups: Sequence[str],
        replayed: Replayed | None,
        forgets: int,
    ) -> None:
        self._seen = iter(seen)
        self._groups = groups
        self._replayed = replayed
        self._forgets = forgets
        self.asked: list[tuple[str, Start]] = []

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator["StandIn"]:
        """Open it."""
        yield self

    async def survey(self) -> Survey:
        """Return the next survey, or raise it."""
        found = next(self._seen, made(name="unseen"))
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, Survey) else found()

    async def groups(self) -> Sequence[str]:
        """Name the groups."""
        return self._groups

    async def replay(self, group: str, since: Start) -> Replayed | None:
        """Note what is asked for."""
        self.asked.append((group, since))
        return self._replayed

    async def forget(self, group: str) -> None:
        """Forget a group, or be away."""
        if self._forgets == 0:
            raise AWAY
        self._forgets -= 1


def stand_in(
    monkeypatch: pytest.MonkeyPatch,
    *seen: Seen,
    groups: Sequence[str] = (),
    replayed: Replayed | None = None,
    forgets: int = 0,
) -> list[Any]:
    """Let any URL name a transport as `StandIn` says; return what it is asked to replay."""
    transport = StandIn(seen, groups, replayed, forgets)

    def find(_: str) -> StandIn:
        return transport

    monkeypatch.setattr("flexiflow._cli.connecting.transport_from_url", find)
    return transport.asked
