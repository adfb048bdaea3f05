"""The contract of durable delivery, as far as a transport keeps it (P1).

A clause without cases is only examined through bridges, by the scenarios of `universal`.
"""

from __future__ import annotations

from typing import Final

from flexiflow.testing._examiner.clause import Clause
from flexiflow.testing._transport.desk_work import LENGTH, SIZE
from flexiflow.testing._transport.moves import (
    PARTITIONS,
    Act,
    buries,
    buries_all,
    cancels,
    checks,
    clashes,
    damages,
    deaths,
    dues,
    endings,
    follows,
    forgets,
    handles,
    in_line,
    inserts,
    joinings,
    keyed,
    leavings,
    looks,
    losing,
    makes_room,
    notes,
    oversleeping,
    passing,
    postponing,
    receives,
    redrives,
    renewals,
    reopenings,
    repeats,
    retries,
    returns,
    room,
    settling,
    sharing,
    shutting,
    sized,
    stage_ends,
    stage_settles,
    stages,
    stagings,
    stale,
    stores,
    sudden_deaths,
    takes_less,
    too_large,
    workers,
)

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
        *(
            stores,
            receives,
            handles,
            returns,
            retries,
            looks,
            deaths,
            sudden_deaths,
            leavings,
            cancels,
        ),
        *(cancels, forgets),
    ),
)
X2 = Clause(
    "X2",
    "publishing is idempotent",
    "A batch that its producer stores again, as after a reply that was lost, is there once, "
    "within `idempotency_window`.",
    *checks(
        "X2",
        *(stores, repeats, repeats, receives, looks),
        partitions=PARTITIONS,
    ),
)
X3 = Clause(
    "X3",
    "dead letters",
    "An event that failed `max_attempts` times, or was delivered `max_deliveries` times "
    "without an attempt that ended, becomes a dead letter of the group exactly once, with its "
    "failure; attempts and deliveries are counted across workers that die. `redrive` gives it "
    "to that group alone. A healthy event never becomes one.",
    *checks(
        "X3",
        *(stores, returns, notes, retries, looks, buries, buries_all, redrives, redrives, deaths),
        *(sudden_deaths,),
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
        *(
            stores,
            receives,
            handles,
            returns,
            deaths,
            sudden_deaths,
            clashes,
            leavings,
            oversleeping,
        ),
        *(losing, renewals),
        partitions=PARTITIONS,
    ),
)
X5 = Clause(
    "X5",
    "backpressure",
    "A log that is full of what is not settled by every group raises `LogFull`, stores "
    "nothing, and takes more once that is settled; a worker is given at most what it asks "
    "for. Leaving a bridge drains what is in flight, or gives it back.",
    *checks(
        "X5",
        *(stores, stores, repeats, handles, receives, makes_room),
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
        *(stores, receives, handles, damages, damages, buries, leavings, postponing),
        partitions=PARTITIONS,
    ),
    needs=("damage",),
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
        *(stores, stale, stale, stale, oversleeping, renewals, renewals, receives, handles),
        *(settling(workers, "acknowledge", "let go", "note"), retries, deaths, forgets),
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
        *(
            stores,
            keyed,
            in_line,
            in_line,
            postponing,
            postponing,
            follows,
            passing,
            sharing,
            shutting,
        ),
        *(endings, endings, retries, looks, oversleeping, renewals, stale, sudden_deaths, leavings),
        *(reopenings, cancels, dues),
        partitions=PARTITIONS,
    ),
)
X14 = Clause(
    "X14",
    "sizes",
    "A worker is given at most so many bytes of events as it asks for. A record of more than "
    "`max_event_bytes` is refused with `EventTooLarge`, and nothing of its batch is stored; "
    "one that an outsider stored is given without its body, and can be buried with it.",
    *checks(
        "X14",
        *(sized, sized, too_large, room, room, inserts, handles, buries, postponing),
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
        *(stores, joinings, stages, stages, stage_ends, stage_settles, clashes, stagings, stagings),
        *(takes_less,),
        partitions=PARTITIONS,
    ),
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
X13 = Clause(
    "X13",
    "what a server has lost",
    "A server that comes back without what was stored is noticed: leases are lost, and what is "
    "stored from then on is given to every group. What was lost counts as missed, once.",
)

TRANSPORT_CONTRACT: Final[tuple[Clause, ...]] = (
    X1,
    X2,
    X3,
    X4,
    X5,
    X6,
    X7,
    X8,
    X10,
    X11,
    X12,
    X13,
    X14,
    X15,
)
"""Every clause of durable delivery, in order."""
