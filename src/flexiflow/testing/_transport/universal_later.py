"""The universal suite: what is scheduled (Y3), and groups that begin again (Y5)."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import anyio

from flexiflow.extras.durable import Record
from flexiflow.testing._examiner.kit import claim
from flexiflow.testing._transport.universal import GROUP, Noted, universal

if TYPE_CHECKING:
    from flexiflow.extras.durable import Connection
    from flexiflow.testing._transport.universal import Stage

_SOON: Final = 0.2
"""In how many seconds the last event is due."""
_LATE: Final = 5.0
"""How many seconds later it has to be handed out, on a busy machine."""


@universal("Y3")
async def hands_out_what_is_due(stage: Stage) -> None:
    """100 events are scheduled, every other one is cancelled; a worker is given the rest."""
    numbers = range(stage.some(100, 10))
    async with stage.transport.connect() as connection:
        at = (await connection.survey()).now + _SOON
        tickets = [await _schedule(connection, number, at=at) for number in numbers]
        # On a busy machine some are due by now.
        late = [each for each in numbers[::2] if not await connection.cancel(tickets[each])]
        expected = [*numbers[1::2], *late]
        noted, last = Noted(len(expected)), Noted(1)
        async with stage.worker(lambda data: (last if data < 0 else noted)(data)):
            await noted.complete()
            await _schedule(connection, -1, delay=_SOON)
            with anyio.move_on_after(_LATE):
                await last.complete()
            claim(last.is_complete, f"{_LATE:g} s after an event was due, it had not come")
    noted.check(expected)
    await stage.check_settled()


async def _schedule(connection: Connection, number: int, **when: float) -> str:
    """Schedule an event, and return its ticket."""
    event: dict[str, Any] = {"specversion": "1.0", "type": "n.e", "data": number}
    body = json.dumps({**event, "id": f"s{number}", "source": "/scheduled"}).encode()
    ticket = connection.new_ticket(None)
    await connection.schedule(ticket, Record(body), **when)
    return ticket


@universal("Y5")
async def begins_again_while_it_works(stage: Stage) -> None:
    """A group that has handled 100 events handles each of them once more, by the same worker."""
    numbers, seen = range(stage.some(100)), Counter[int]()
    once, twice = Noted(len(numbers)), Noted(len(numbers))

    def handle(data: int) -> None:
        seen[data] += 1
        (once if seen[data] == 1 else twice)(data)

    await stage.publish(numbers)
    async with stage.transport.connect() as connection, stage.worker(handle, lease=2.0):
        await once.complete()
        await connection.replay(GROUP, "oldest")
        await twice.complete()
    twice.check(numbers)
    await stage.check_settled()


@universal("Y5")
async def begins_with_what_is_new(stage: Stage) -> None:
    """A group that begins with what is new is given nothing of 100 events before that."""
    count = stage.some(100)
    before, after, noted = range(count), range(count, 2 * count), Noted(count)
    await stage.publish(before)
    async with stage.worker(noted):
        await noted.complete()
    later = Noted(count)
    async with stage.transport.connect() as connection:
        await connection.replay(GROUP, "new")
        await stage.publish(after)
        async with stage.worker(later):
            await later.complete()
    later.check(after)
    await stage.check_settled()
