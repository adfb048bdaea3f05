"""What a bridge counts: plain numbers, for whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from flexiflow.extras.durable._transport import Standing


@final
@dataclass(frozen=True, slots=True)
class BridgeStatistics:
    """What became of events so far; the first nine are this bridge's own and exact.

    Attributes:
        stored: events that it stored.
        delivered: attempts to handle an event that have begun.
        acknowledged: events that were handled, with that written down.
        redelivered: attempts that were not the first of their event.
        failed: attempts that failed.
        dead: events that it moved to the dead letters.
        ignored: events that it was given and that its group does not take.
        held: events that it holds now.
        reconnects: how often the transport was not available, and it tried until it was (X6).
        pending: events that were given to workers of the group and are not settled; this and
            what follows is the group's, as of the last renewal of the lease.
        lag: events that were given to no worker of the group yet.
        missed: events that were lost, or deleted before the group had settled them (X6, X13).
        waiting: events that wait for their next attempt, or for others of their key (X12).
    """

    stored: int
    delivered: int
    acknowledged: int
    redelivered: int
    failed: int
    dead: int
    ignored: int
    held: int
    reconnects: int
    pending: int
    lag: int
    missed: int
    waiting: int


@final
class Counters:
    """The numbers of one bridge, as they grow; the attributes are those of the statistics."""

    __slots__ = (
        "acknowledged",
        "dead",
        "delivered",
        "failed",
        "ignored",
        "reconnects",
        "redelivered",
        "standing",
        "stored",
    )

    stored: int
    delivered: int
    acknowledged: int
    redelivered: int
    failed: int
    dead: int
    ignored: int
    reconnects: int
    standing: Standing

    def __init__(self) -> None:
        self.stored = self.delivered = self.acknowledged = self.redelivered = 0
        self.failed = self.dead = self.ignored = self.reconnects = 0
        self.standing = Standing(0, 0, 0, 0)

    def statistics(self, held: int) -> BridgeStatistics:
        """Show them as they are now."""
        return BridgeStatistics(
            stored=self.stored,
            delivered=self.delivered,
            acknowledged=self.acknowledged,
            redelivered=self.redelivered,
            failed=self.failed,
            dead=self.dead,
            ignored=self.ignored,
            held=held,
            reconnects=self.reconnects,
            pending=self.standing.pending,
            lag=self.standing.lag,
            missed=self.standing.missed,
            waiting=self.standing.waiting,
        )
