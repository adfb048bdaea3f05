"""Processes that make SQLite lose its locks on the transport's file."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anyio import to_thread

from flexiflow.extras.durable import SqliteTransport
from tools.chaos.ledger import Ledger, Result, look
from tools.chaos.meddled import COPIED, FAILED, FORKED

if TYPE_CHECKING:
    from tools.chaos.load import Plan

MODES: Final = (FORKED, COPIED)
_ROOT: Final = Path(__file__).parents[2]
_PHASES: Final = {COPIED: 2, FORKED: 6}
"""How often a process publishes."""


async def make_lose_locks(backend: str, mode: str, plan: Plan, fault: str = "") -> Result:
    """Make processes fork, or copy the file that they have open, one after another.

    Args:
        backend: the backend that they run on.
        mode: "forked" or "copied in process".
        plan: how often, and with how many messages.
        fault: a fault that they have, to show that it is found.
    """
    begun, ledger = time.monotonic(), Ledger()
    result = Result("locks lost", backend, mode)
    count = max(plan.messages // (plan.kills * _PHASES[mode]), 1)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "locks.db"))
        for turn in range(plan.kills):
            run = partial(_run, backend, path, mode, fault, str(turn), str(count))
            for line in await to_thread.run_sync(run):
                said = json.loads(line)
                if said == FAILED:
                    ledger.doubt()
                else:
                    ledger.confirm(tuple(said))
            result.kills += 1
            plan.tell(f"{turn + 1}/{plan.kills} times, {len(ledger.confirmed):,} confirmed")
        ledger.judge(result, await look(SqliteTransport(path), result, []), [])
    result.seconds = time.monotonic() - begun
    return result


def _run(*arguments: str) -> list[str]:
    # Python warns of each fork of a process with threads, from 3.12 on.
    command = [sys.executable, "-W", "ignore", "-m", "tools.chaos.meddled", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()
