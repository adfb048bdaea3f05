"""`flexiflow scheduled`: list or cancel the events that wait for their time (Y3, Y6)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from flexiflow._cli.connecting import looked_up, use
from flexiflow._cli.display import Plain
from flexiflow._cli.encoding import encode
from flexiflow._cli.moments import as_time, show_time
from flexiflow._cli.tail import parse_event, show_body
from flexiflow._cli.text import one_line, show_message, show_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow._cli.writer import Writer
    from flexiflow.extras.durable import Connection, ScheduledRecord

_AT_ONCE: Final = 500


def list_scheduled(url: str, *, as_json: bool) -> int:
    """Write a line for each scheduled event, the next one first; return the exit status."""
    show = _as_json if as_json else _as_line

    async def act(connection: Connection, writer: Writer) -> int:
        at, last = connection.address, None
        while some := await looked_up(at, connection.scheduled(after=last, limit=_AT_ONCE)):
            for scheduled in some:
                writer.add(f"{show(scheduled)}\n")
            await writer.drain()
            last = some[-1]
        return 0

    return use(url, act)


def cancel_scheduled(url: str, tickets: Sequence[str]) -> int:
    """Delete scheduled events, so that they are never handed out.

    Args:
        url: names the transport.
        tickets: name the events.

    Returns:
        The exit status, which is 1 if an event was not deleted.
    """

    async def act(connection: Connection, writer: Writer) -> int:
        cancelled = 0
        try:
            for ticket in dict.fromkeys(tickets):
                cancelled += await _cancel(connection, ticket)
        finally:
            writer.add(f"cancelled: {cancelled}\n")
        return int(cancelled < len(set(tickets)))

    return use(url, act)


async def _cancel(connection: Connection, ticket: str) -> bool:
    """Delete a scheduled event; tell why if that can't be done."""
    why = "it was put into its log, or is not known"
    try:
        is_cancelled = await connection.cancel(ticket)
    except ValueError as exc:
        is_cancelled, why = False, show_message(exc)
    if not is_cancelled:
        Plain(sys.stderr).tell(f"not cancelled: {one_line(ticket)!r}: {why}")
    return is_cancelled


# The help of `flexiflow scheduled list`, in `looking_commands.py`, lists these fields.
def _as_line(scheduled: ScheduledRecord) -> str:
    event = parse_event(scheduled.record.body)
    name = event["type"] if event is not None else "(no event)"
    key = scheduled.record.key
    fields = [scheduled.ticket, show_time(scheduled.due), name]
    if key is not None:
        fields.append(f"key: {show_text(key)}")
    return "  ".join(map(one_line, fields))


def _as_json(scheduled: ScheduledRecord) -> str:
    event = parse_event(scheduled.record.body)
    return encode(
        {
            "ticket": scheduled.ticket,
            "due": as_time(scheduled.due) or scheduled.due,
            "partition": scheduled.partition,
            "key": scheduled.record.key,
            "event": event,
            "body": show_body(scheduled.record.body) if event is None else None,
        }
    )
