"""The scenario that kills processes that use one SQLite file."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from tools.chaos import sqlite
from tools.chaos.ledger import Result

if TYPE_CHECKING:
    from tools.chaos.load import Plan


async def kill_journals(backend: str, mode: str, plan: Plan) -> Result:
    """Kill processes that use one SQLite file, and that make the load themselves."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        kill = partial(sqlite.kill, plan.kills, Path(folder), tell=plan.tell)
        found = await to_thread.run_sync(kill)
    return Result(
        "journal killed",
        backend,
        mode,
        kills=found.kills,
        stored=found.stored,
        handled=found.settled,
        unsettled=found.again,
        lost=found.lost,
        unhandled=found.gone,
        doubled=found.twice,
        seconds=time.monotonic() - begun,
    )
