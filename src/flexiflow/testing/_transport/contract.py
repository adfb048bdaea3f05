"""The contract of durable delivery, as far as a transport keeps it (P1).

A clause without cases is only examined through bridges, by the scenarios of `universal`.
"""

from __future__ import annotations

from typing import Final

from flexiflow.testing._examiner.acts import Act
from flexiflow.testing._examiner.clause import Clause, clauses_of
from flexiflow.testing._transport import moves, scenes
from flexiflow.testing._transport.desk_log import LENGTH, MOST, SIZE, WINDOW
from flexiflow.testing._transport.moves import PARTITIONS, checks

ENTERED: Final = (Act("enter", ("a",)),)

X1 = Clause(
    "X1",
    "at least once",
    "What `store` has returned for is given to every group, also to one that is made later; "
    "what a worker was given stays pending until it is settled, and is given again if it is "
    "returned, or if the worker's lease runs out or is released, but never once it was "
    "acknowledged. To settle again changes nothing, and a `receive` that is cancelled loses "
    "nothing. An event is acknowledged only after every local handler has succeeded.",
    *checks(
        "X1",
        *(moves.stores, moves.receives, moves.handles, moves.returns, moves.retries, moves.looks),
        *(moves.deaths, moves.sudden_deaths, moves.leavings, moves.cancels, moves.cancels),
        *(moves.forgets,),
    ),
)
X2 = Clause(
    "X2",
    "publishing is idempotent",
    "A batch that its producer stores again, as after a reply that was lost, is there once, "
    "within `idempotency_window`, or for ever if its producer is lasting. `produced` returns the "
    "number of a producer's last batch.",
    *checks(
        "X2",
        *(moves.stores, moves.repeats, moves.repeats, moves.receives, moves.looks, moves.lasting),
        *(moves.asks,),
        also=(("partitions", PARTITIONS),),
        idempotency_window=WINDOW,
    ),
)
X3 = Clause(
    "X3",
    "dead letters",
    "An event that failed `max_attempts` times, or was delivered `max_deliveries` times "
    "without an attempt that ended, becomes a dead letter of the group exactly once, with its "
    "failure; attempts and deliveries are counted across workers that die. `redrive` gives it "
    "to that group alone, `discard` deletes it. A healthy event never becomes one.",
    *checks(
        "X3",
        *(moves.stores, moves.returns, moves.notes, moves.retries, moves.looks, moves.buries),
        *(moves.buries_all, moves.redrives, moves.redrives, moves.deaths, moves.sudden_deaths),
        *(moves.discards,),
    ),
)
X4 = Clause(
    "X4",
    "order",
    "Records are given in the order in which they were stored, those of a key from one "
    "partition. With `partitions=n` one worker of a group at a time leases a partition, with "
    "a token greater than each before; the one before gets `LeaseLost` from then on, and "
    "changes nothing but as X11 says. Events of a key are handled one at a time, in order, a "
    "failing one holding back those after it.",
    *checks(
        "X4",
        *(moves.stores, moves.receives, moves.handles, moves.returns, moves.deaths),
        *(moves.sudden_deaths, moves.clashes, moves.leavings, moves.oversleeping, moves.losing),
        *(moves.renewals,),
        partitions=PARTITIONS,
    ),
)
X5 = Clause(
    "X5",
    "backpressure",
    "A log that is full of records not yet settled by every group raises `LogFull`, stores "
    "nothing, and takes more once they are settled; a worker is given at most what it asks "
    "for. Leaving a bridge drains what is in flight, or gives it back.",
    *checks(
        "X5",
        *(moves.stores, moves.stores, moves.repeats, moves.handles, moves.receives),
        *(moves.makes_room,),
        first=ENTERED,
        max_length=LENGTH,
    ),
    needs=("max_length",),
)
X6 = Clause(
    "X6",
    "faults are survived, and told",
    "What was deleted before a group had settled it is counted as missed, exactly; the rest is "
    "given all the same. A server that restarts loses nothing that was stored, and the bridge "
    "goes on by itself.",
    *checks(
        "X6",
        *(moves.stores, moves.receives, moves.handles, moves.damages, moves.damages, moves.buries),
        *(moves.leavings, moves.postponing),
        partitions=PARTITIONS,
    ),
    needs=("damage",),
)
X7 = Clause(
    "X7",
    "on the wire",
    "An event is stored as CloudEvents 1.0 in JSON, and arrives as it was published; a "
    "payload that can't be encoded fails at `publish`, one that can't be decoded becomes a "
    "dead letter.",
)
X8 = Clause(
    "X8",
    "no loops",
    "Exactly the publish that hands an incoming event on is not sent out again; what its "
    "handlers publish meanwhile is.",
)
X10 = Clause(
    "X10",
    "a bridge that has failed refuses",
    "A bridge that has failed, or was left by an exception or a cancellation, keeps its place "
    "on the bus: each publish of an outgoing event fails with `BridgeClosed`, whose cause is "
    "what ended it, until a bridge of the same bus, transport and `outgoing` is opened, or "
    "`bridge.forget()` was called. One whose block came to its end in peace is gone.",
)
X11 = Clause(
    "X11",
    "leases that have run out",
    "A lease that has run out works on, and can be renewed, while no other one was given what "
    "it holds: an event, or with `partitions=n` the partition. What a later one holds is never "
    "overwritten: `settle` by the earlier one only tells that its attempt has ended, and if it "
    "was acknowledged, it is settled once nobody holds it any more. Only an attempt that began "
    "and did not end counts as a death.",
    *checks(
        "X11",
        *(moves.stores, moves.stale, moves.stale, moves.stale, moves.oversleeping, moves.renewals),
        *(moves.renewals, moves.receives, moves.handles),
        *(moves.settling(moves.workers, "acknowledge", "let go", "note"), moves.retries),
        *(moves.deaths, moves.forgets),
        partitions=PARTITIONS,
    ),
)
X12 = Clause(
    "X12",
    "waiting",
    "What waits for its next attempt, and what waits behind it for the same key, holds no "
    "place of `prefetch` and none of the log's `max_length`. It is given when its time has "
    "come, one of a key at a time, in order; to its own worker while that one's lease lasts, "
    "then to any. Its time and its counts outlive workers and restarts. It comes before what "
    "is new, but no more of it at once than a worker asks for; and nothing new is given while "
    "`max_waiting` wait.",
    *checks(
        "X12",
        *(moves.stores, moves.keyed, moves.in_line, moves.in_line, moves.postponing),
        *(moves.postponing, moves.follows, moves.passing, moves.sharing, moves.shutting),
        *(moves.endings, moves.endings, moves.retries, moves.looks, moves.oversleeping),
        *(moves.renewals, moves.stale, moves.sudden_deaths, moves.leavings, moves.reopenings),
        *(moves.cancels, moves.dues),
        partitions=PARTITIONS,
    ),
)
X13 = Clause(
    "X13",
    "what a server has lost",
    "A server that comes back without what was stored is noticed: leases are lost, and what is "
    "stored from then on is given to every group. What was lost counts as missed, once.",
)
X14 = Clause(
    "X14",
    "sizes",
    "A worker is given at most so many bytes of events as it asks for. A record of more than "
    "`max_event_bytes` is refused with `EventTooLarge`, and nothing of its batch is stored; "
    "one that an outsider stored is given without its body, and can be buried with it.",
    *checks(
        "X14",
        *(moves.sized, moves.sized, moves.too_large, moves.room, moves.room, moves.inserts),
        *(moves.handles, moves.buries, moves.postponing),
        first=ENTERED,
        max_event_bytes=SIZE,
    ),
    needs=("max_event_bytes",),
)
X15 = Clause(
    "X15",
    "patterns",
    "Of two members of a group that are alive, one takes all that the other takes, or the "
    "later is refused with `GroupMismatch`. Only those who take the most are given records; "
    "the others stand by, and settle, renew and release what they hold.",
    *checks(
        "X15",
        *(moves.stores, moves.joinings, moves.stages, moves.stages, moves.stage_ends),
        *(moves.stage_settles, moves.clashes, moves.stagings, moves.stagings, moves.takes_less),
        partitions=PARTITIONS,
    ),
)
Y3 = Clause(
    "Y3",
    "scheduled events",
    "What `schedule` has returned for is put into its log when its time has come by the "
    "transport's clock, never before, and then comes before what is stored or given later. "
    "Several that are due are in the order of their times. A full log takes them, too. A ticket "
    "is used once. `cancel` is True if the record is in no log and never will be, False if it "
    "may be in one. At most `max_scheduled` wait for their time in each partition; one more is "
    "refused with `ScheduleFull`.",
    *checks(
        "Y3",
        *(moves.plans, moves.plans, moves.plans_again, moves.unplanned, moves.unplanned),
        *(moves.stores, moves.receives, moves.handles, moves.passing, moves.looks),
        *(moves.strangers, moves.reopenings, moves.sudden_deaths, moves.oversleeping),
        also=(("partitions", PARTITIONS),),
        max_scheduled=MOST,
        max_length=LENGTH,
    ),
    scenes=scenes.Y3,
)
Y5 = Clause(
    "Y5",
    "where a group begins",
    "A group begins where its first member says: with the oldest record that is kept, the next "
    "one, the first one of a time or later, or behind a position of each partition. If records "
    "behind such a position were deleted, it is refused with `StartTrimmed`. `replay` makes a "
    "group begin again elsewhere: its leases end, and what comes after the new place is given "
    "anew, whatever had become of it; what comes before stays as it is. What was redriven is "
    "passed over if its original is given anew. What was deleted before does not count as missed.",
    *checks(
        "Y5",
        *(moves.begins, moves.begins, moves.replays, moves.replays),
        *(moves.stores, moves.receives, moves.handles, moves.returns),
        *(moves.postponing, moves.buries, moves.redrives, moves.looks, moves.plans, moves.passing),
        *(moves.deaths, moves.oversleeping, moves.renewals, moves.leavings, moves.forgets),
        also=(("partitions", PARTITIONS),),
        max_length=LENGTH,
    ),
    scenes=scenes.Y5,
)
Y6 = Clause(
    "Y6",
    "what is going on",
    "`survey` tells of each partition how many records its log holds, when the oldest was stored, "
    "and how many are scheduled; of each group who its live members are, how far it is in each "
    "partition, when the oldest record was stored that it has not settled, and the number of its "
    "last replay.",
    *checks(
        "Y6",
        *(moves.surveys, moves.surveys, moves.surveys, moves.stores, moves.receives),
        *(moves.handles, moves.buries, moves.buries_all, moves.postponing, moves.redrives),
        *(moves.plans, moves.begins, moves.replays, moves.leavings, moves.sudden_deaths),
        *(moves.joinings, moves.passing),
        also=(("partitions", PARTITIONS),),
        max_length=LENGTH,
    ),
    scenes=scenes.Y6,
)

TRANSPORT_CONTRACT: Final = clauses_of(globals())
"""Every clause of durable delivery, in order."""
