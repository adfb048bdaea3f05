"""`flexiflow groups`: list groups, forget them, or make one begin again (Y5, Y6)."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING

from flexiflow._cli.connecting import check_group, looked_up, use
from flexiflow._cli.display import Plain
from flexiflow._cli.encoding import encode
from flexiflow._cli.moments import age, show_duration
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.survey import group_as_json, total
from flexiflow._cli.text import one_line, show_message, show_text
from flexiflow._text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow._cli.arguments import Place
    from flexiflow._cli.writer import Writer
    from flexiflow.extras.durable import Connection, GroupSurvey


def list_groups(url: str, *, as_json: bool) -> int:
    """Write a line for each group, in the order of their names; return the exit status."""

    async def act(connection: Connection, writer: Writer) -> int:
        survey = await looked_up(connection.address, connection.survey())
        for group in survey.groups:
            shown = (
                encode(group_as_json(group, survey.now)) if as_json else _line(group, survey.now)
            )
            writer.add(f"{shown}\n")
        return 0

    return use(url, act)


# The help of `flexiflow groups list`, in `looking_commands.py`, lists these fields.
def _line(group: GroupSurvey, now: float) -> str:
    counts = {"members": len(group.members)} | total(group.standings)
    return "  ".join(
        (
            one_line(show_text(group.name)),
            *(f"{name}: {count}" for name, count in counts.items()),
            f"oldest: {show_duration(age(group.oldest, now))}",
        )
    )


def forget_groups(url: str, names: Sequence[str], *, is_forced: bool) -> int:
    """Delete groups with their dead letters.

    Args:
        url: names the transport.
        names: the groups.
        is_forced: whether those with live members are deleted, too.

    Returns:
        The exit status, which is 1 if a group is unknown or has live members.
    """

    async def act(connection: Connection, writer: Writer) -> int:
        survey = await looked_up(connection.address, connection.survey())
        members = {group.name: len(group.members) for group in survey.groups}
        forgotten = 0
        try:
            for name in dict.fromkeys(names):
                if _may_forget(name, members, is_forced=is_forced):
                    await connection.forget(name)
                    forgotten += 1
        finally:
            writer.add(f"forgotten: {forgotten}\n")
        return int(forgotten < len(set(names)))

    return use(url, act)


def _may_forget(name: str, members: dict[str, int], *, is_forced: bool) -> bool:
    """Return whether a group may be deleted; tell why not."""
    if name not in members:
        Plain(sys.stderr).tell(f"there is no group {one_line(name)!r}")
        return False
    if members[name] and not is_forced:
        Plain(sys.stderr).tell(
            f"the group {one_line(name)!r} has {counted(members[name], 'live member')}: end "
            f"{'it' if members[name] == 1 else 'them'} first, or give --force"
        )
        return False
    return True


def replay_group(url: str, name: str, since: Place) -> int:
    """Make a group begin again, and write where in each partition; return the exit status.

    Args:
        url: names the transport.
        name: the group.
        since: where it begins.

    Raises:
        CannotRun: there is no such group, or `since` is no place in the transport.
    """

    async def act(connection: Connection, writer: Writer) -> int:
        await check_group(connection, name)
        start = since.timestamp() if isinstance(since, datetime) else since
        try:
            replayed = await connection.replay(name, start)
        except ValueError as exc:
            raise CannotRun(
                f"{show_message(exc)}; flexiflow tail --positions shows the positions of events"
            ) from exc
        for partition, position in enumerate(replayed.after):
            writer.add(f"partition {partition}: begins behind {show_text(position)}\n")
        if not replayed.is_complete:
            Plain(sys.stderr).tell(
                f"the group {one_line(name)!r} begins with the oldest events that are kept: "
                "earlier ones were deleted"
            )
        return 0

    return use(url, act)
