"""`flexiflow dead`: the events that a group has given up (X3, Y6)."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from flexiflow._cli.connecting import check_group, looked_up, use
from flexiflow._cli.display import Plain
from flexiflow._cli.encoding import encode
from flexiflow._cli.moments import as_time, show_time
from flexiflow._cli.tail import parse_event, show_body
from flexiflow._cli.text import one_line, show_text
from flexiflow._text import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from flexiflow._cli.writer import Writer
    from flexiflow.extras.durable import Connection, DeadLetter

_AT_ONCE: Final = 100


def list_dead(url: str, group: str, *, as_json: bool) -> int:
    """Write a line for each dead letter of a group, the oldest first; return the exit status."""
    show = _as_json if as_json else _as_line

    async def act(connection: Connection, writer: Writer) -> int:
        def take(letter: DeadLetter) -> Awaitable[None] | None:
            writer.add(f"{show(letter)}\n")
            return writer.pause(letter)

        await _for_each(connection, group, take)
        return 0

    return use(url, act)


def show_dead(url: str, group: str, ids: Sequence[str]) -> int:
    """Write dead letters in full; return the exit status, which is 1 if an id is unknown."""

    async def act(connection: Connection, writer: Writer) -> int:
        found: dict[str, DeadLetter] = {}

        def take(letter: DeadLetter) -> None:
            if letter.id in ids:
                found[letter.id] = letter

        await _for_each(connection, group, take)
        for letter in map(found.get, ids):
            if letter is not None:
                writer.add(_in_full(letter))
        return _report_missing(ids, found, group)

    return use(url, act)


def redrive_dead(url: str, group: str, ids: Sequence[str] | None) -> int:
    """Store dead letters again for their group (X3).

    Args:
        url: names the transport.
        group: the group that gave the events up.
        ids: the ids of the dead letters; None for all that are there now.

    Returns:
        The exit status, which is 1 if an id is unknown or a letter was not redriven.
    """
    return _change(url, group, ids, lambda connection: connection.redrive, "redriven")


def discard_dead(url: str, group: str, ids: Sequence[str] | None) -> int:
    """Delete dead letters for good (Y6).

    Args:
        url: names the transport.
        group: the group that gave the events up.
        ids: the ids of the dead letters; None for all that are there now.

    Returns:
        The exit status, which is 1 if an id is unknown or a letter was not deleted.
    """
    return _change(url, group, ids, lambda connection: connection.discard, "discarded")


def _change(
    url: str,
    group: str,
    ids: Sequence[str] | None,
    change_by: Callable[[Connection], Callable[[str, Sequence[str]], Awaitable[int]]],
    done: str,
) -> int:
    """Redrive or discard dead letters, and write how many; return the exit status."""

    async def act(connection: Connection, writer: Writer) -> int:
        there: dict[str, None] = {}
        # All ids are read before the first event is stored again: it may be a dead letter at once.
        await _for_each(connection, group, lambda letter: there.update({letter.id: None}))
        wanted = dict.fromkeys(there if ids is None else (each for each in ids if each in there))
        change, count = change_by(connection), 0
        try:
            for some in _chunks(list(wanted)):
                count += await change(group, some)
        finally:
            writer.add(f"{done}: {count}\n")
        return _report_missing(ids or (), there, group) or int(count < len(wanted))

    return use(url, act)


async def _for_each(
    connection: Connection, group: str, take: Callable[[DeadLetter], Awaitable[None] | None]
) -> None:
    await check_group(connection, group)
    at = connection.address
    letters = await looked_up(at, connection.dead_letters(group, limit=_AT_ONCE))
    while letters:
        for letter in letters:
            if (taking := take(letter)) is not None:
                await taking
        following = connection.dead_letters(group, after=letters[-1].id, limit=_AT_ONCE)
        letters = await looked_up(at, following)


def _chunks(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))


def _report_missing(ids: Iterable[str], there: Iterable[str], group: str) -> int:
    missing = [each for each in ids if each not in there]
    for each in missing:
        Plain(sys.stderr).tell(f"the group {group!r} has no dead letter {one_line(each)!r}")
    return 1 if missing else 0


# A file or a server may hold anything, despite the annotations. So the functions below must be able
# to show any dead letter.


def _failure(letter: DeadLetter) -> str:
    kind, message, _ = map(show_text, letter.failure)
    return f"{kind}: {message}".removesuffix(": ")


# The help of `flexiflow dead list`, in `durable_commands.py`, lists these fields.
def _as_line(letter: DeadLetter) -> str:
    event = parse_event(letter.body)
    name = event["type"] if event is not None else "(no event)"
    fields = (
        letter.id,
        show_time(letter.time),
        name,
        f"attempts: {letter.attempts}",
        _failure(letter),
    )
    return "  ".join(map(one_line, fields))


def _as_json(letter: DeadLetter) -> str:
    event = parse_event(letter.body)
    shown: dict[str, Any] = letter._asdict() | {
        "time": as_time(letter.time) or letter.time,
        "failure": letter.failure._asdict(),
        "event": event,
        "body": show_body(letter.body) if event is None else None,
    }
    return encode(shown)


def _in_full(letter: DeadLetter) -> str:
    event = parse_event(letter.body)
    shown = show_body(letter.body) if event is None else json.dumps(event, indent=2)
    attempts, deliveries = map(one_line, (f"{letter.attempts}", f"{letter.deliveries}"))
    return (
        f"dead letter {letter.id} of {one_line(show_time(letter.time))}\n"
        f"attempts: {attempts}, deliveries: {deliveries}\n"
        f"failure: {printable(_failure(letter))}\n"
        f"{shown}\n{show_text(letter.failure.traceback).rstrip()}\n"
    )
