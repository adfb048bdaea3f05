"""The contract of stores: what clause K2 promises, one part after another."""

from __future__ import annotations

from typing import Final

from flexiflow.testing._examiner.clause import Clause, clauses_of
from flexiflow.testing._store import moves
from flexiflow.testing._store.moves import scripts

SAVES = Clause(
    "K2",
    "what is saved is loaded",
    "What `save` has returned for is loaded as it was, under its own name only, also after the "
    "store was left and entered again. What was given, and what was loaded, are copies.",
    scripts(moves.saves, moves.saves, moves.loads, moves.reopenings),
)
CONFLICTS = Clause(
    "K2",
    "another version is a conflict",
    "A save replaces the version that it expects, or adds a component if it expects 0; if another "
    "version is stored, or none, it raises `StateConflict`, and nothing has changed. Of several "
    "that expect the same version, one succeeds.",
    scripts(moves.saves, moves.conflicts, moves.conflicts, moves.races, moves.deletes),
)
VERSIONS = Clause(
    "K2",
    "versions are given once",
    "A later version of a name is greater than each earlier one, also after a `delete`.",
    scripts(moves.saves, moves.saves, moves.deletes, moves.deletes),
)
DUE = Clause(
    "K2",
    "components that are due",
    "`due(until, limit)` returns the names whose `due` is not after `until`, each once, the "
    "earliest first, `limit` at most; never one whose `due` is infinite.",
    scripts(
        *(moves.saves, moves.saves, moves.dues, moves.dues, moves.nevers),
        *(moves.deletes, moves.races),
    ),
)
REFUSALS = Clause(
    "K2",
    "values that are no JSON are refused",
    "A save of a value that JSON has no form for, or of a key that is no str, raises `TypeError`, "
    "and one of NaN or an infinity `ValueError`; nothing has changed.",
    scripts(moves.saves, moves.refusals, moves.refusals),
)
DELETES = Clause(
    "K2",
    "what is deleted is gone",
    "After `delete` nothing of the component is there, and nothing else has changed; if nothing "
    "is stored, nothing happens.",
    scripts(moves.saves, moves.saves, moves.deletes, moves.deletes, moves.dues),
)
CROWDS = Clause(
    "K2",
    "many tasks at a time",
    "Several tasks may call the methods at the same time; one that is refused does not hinder the "
    "others.",
    scripts(moves.crowds, moves.crowds, moves.races, moves.saves),
)
CANCELLATION = Clause(
    "K2",
    "a call that is cancelled",
    "A save that is cancelled is done entirely, or not at all, and the store goes on.",
    scripts(moves.cancels, moves.cancels, moves.saves, moves.dues),
)
HISTORY = Clause(
    "K2",
    "former versions",
    "`versions(name)` returns the current version and the former ones that are kept, the newest "
    "first; none after a `delete`.",
    scripts(moves.saves, moves.saves, moves.looks, moves.looks, moves.forgettings),
    needs=("versions",),
)

STORE_CONTRACT: Final = clauses_of(globals())
