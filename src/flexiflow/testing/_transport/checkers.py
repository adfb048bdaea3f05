"""The checkers of the clauses of durable delivery: the moves that each clause's scripts have."""

from __future__ import annotations

from typing import Final

from flexiflow.testing._transport.desk_work import LENGTH, SIZE
from flexiflow.testing._transport.moves import (
    PARTITIONS,
    buries,
    buries_all,
    cancels,
    clashes,
    damages,
    deaths,
    dues,
    follows,
    forgets,
    goes_on,
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
    sudden_deaths,
    takes_less,
    too_large,
    workers,
)
from flexiflow.testing._transport.script import Act, checks, stores

ENTERED: Final = (Act("enter", ("a",)),)

X1: Final = checks(
    "X1",
    *(stores, receives, handles, returns, retries, looks, deaths, sudden_deaths, leavings, cancels),
    *(cancels, forgets),
)
X2: Final = checks(
    "X2",
    *(stores, repeats, repeats, receives, looks),
    partitions=PARTITIONS,
)
X3: Final = checks(
    "X3",
    *(stores, returns, notes, retries, looks, buries, buries_all, redrives, redrives, deaths),
    *(sudden_deaths,),
)
X4: Final = checks(
    "X4",
    *(stores, receives, handles, returns, deaths, sudden_deaths, clashes, leavings, oversleeping),
    *(losing, renewals),
    partitions=PARTITIONS,
)
X5: Final = checks(
    "X5",
    *(stores, stores, repeats, handles, receives, makes_room),
    first=ENTERED,
    max_length=LENGTH,
)
X6: Final = checks(
    "X6",
    *(stores, receives, handles, damages, damages, buries, leavings, postponing),
    partitions=PARTITIONS,
)
X11: Final = checks(
    "X11",
    *(stores, stale, stale, stale, oversleeping, renewals, renewals, receives, handles),
    *(settling(workers, "acknowledge", "let go", "note"), retries, deaths, forgets),
    partitions=PARTITIONS,
)
X12: Final = checks(
    "X12",
    *(stores, keyed, in_line, in_line, postponing, postponing, follows, passing, sharing, shutting),
    *(goes_on, goes_on, retries, looks, oversleeping, renewals, stale, sudden_deaths, leavings),
    *(reopenings, cancels, dues),
    partitions=PARTITIONS,
)
X14: Final = checks(
    "X14",
    *(sized, sized, too_large, room, room, inserts, handles, buries, postponing),
    first=ENTERED,
    max_event_bytes=SIZE,
)
X15: Final = checks(
    "X15",
    *(stores, joinings, stages, stages, stage_ends, stage_settles, clashes, stagings, stagings),
    *(takes_less,),
    partitions=PARTITIONS,
)
