"""Does damage under load, and checks what is left: `python -m tools.chaos [NAME]...`."""

import argparse
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from tools.chaos.blocked import block_handlers
from tools.chaos.enrolled import kill_enrolled
from tools.chaos.journals import kill_journals
from tools.chaos.ledger import BACKENDS, Result
from tools.chaos.load import Plan
from tools.chaos.locks import MODES, make_lose_locks
from tools.chaos.report import Progress, table, write
from tools.chaos.scheduled import BOTH, kill_scheduled
from tools.chaos.servers import (
    empty_server,
    hang_server,
    kill_servers,
    make_server_forget,
    open_by_half,
)
from tools.chaos.states import kill_stored
from tools.chaos.storm import cancel_all
from tools.chaos.workers import kill_workers
from tools.redis_server import MISSING, find_server

MESSAGES = 100_000
BLOCKED = ("Redis, alone", "SQLite, alone", "Redis, two", "SQLite, two")
KILLED = ("always", "everysec, written", "everysec")


class Scenario(NamedTuple):
    """A kind of damage.

    Attributes:
        run: the function that does the damage under load.
        modes: the forms of the damage.
        kills: how often the damage is done by default.
        messages: how many messages pass meanwhile.
        is_mixed: whether it always uses processes of both backends.
    """

    run: Callable[[str, Any, Plan], Awaitable[Result]]
    modes: tuple[str, ...]
    kills: int
    messages: int = MESSAGES
    is_mixed: bool = False


SCENARIOS = {
    "server": Scenario(kill_servers, KILLED, 100),
    "workers": Scenario(kill_workers, ("Redis", "SQLite"), 200, is_mixed=True),
    "journal": Scenario(kill_journals, ("SQLite",), 1_000, is_mixed=True),
    "states": Scenario(kill_stored, ("SQLite",), 1_000, is_mixed=True),
    "stores": Scenario(kill_stored, ("Redis",), 100),
    "outbox": Scenario(kill_enrolled, ("SQLite",), 1_000, is_mixed=True),
    "outboxes": Scenario(kill_enrolled, ("Redis",), 100, is_mixed=True),
    "schedules": Scenario(kill_scheduled, ("SQLite",), 1_000, is_mixed=True),
    "reminders": Scenario(kill_scheduled, ("Redis",), 100),
    "locks": Scenario(make_lose_locks, MODES, 100, messages=20_000),
    "cancel": Scenario(cancel_all, ("Redis", "SQLite"), 100_000, messages=1_000),
    "hang": Scenario(hang_server, ("SIGSTOP",), 50),
    "forget": Scenario(make_server_forget, ("scripts, groups",), 100),
    "swallow": Scenario(open_by_half, ("half open",), 100),
    "blocked": Scenario(block_handlers, BLOCKED, 50, messages=5_000),
    "emptied": Scenario(empty_server, ("all", "some"), 20, messages=2_000),
}


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.chaos", description=__doc__)
    names = ", ".join(SCENARIOS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{names}; all if none is given")
    parser.add_argument("--kills", type=int, help="how often to do harm")
    parser.add_argument("--messages", type=int, help="how many messages pass meanwhile")
    parser.add_argument("--backend", choices=("asyncio", "trio"), help="both if it is left out")
    parser.add_argument("--mode", help="all of a scenario's if it is left out")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write chaos.inc there, too")
    options = parser.parse_args()
    unknown = set(options.names) - SCENARIOS.keys()
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there is: {names}")
    for name in (options.names or SCENARIOS) if options.mode else ():
        if options.mode not in SCENARIOS[name].modes:
            parser.error(f"{name} has the modes {SCENARIOS[name].modes}, not {options.mode!r}")
    return options


def runs(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Yield the runs: scenario, backend and mode."""
    names = BACKENDS if options.backend is None else [options.backend]
    for name in options.names or SCENARIOS:
        for mode in [options.mode] if options.mode else SCENARIOS[name].modes:
            for backend in [BOTH] if SCENARIOS[name].is_mixed else names:
                yield name, backend, mode


def main() -> int:
    """Run the chosen scenarios, and return the exit status."""
    options, progress = arguments(), Progress()
    if find_server() is None:
        sys.stderr.write(f"{MISSING}\n")
        return 2
    # The bridges log the damage over and over.
    logging.disable(logging.CRITICAL)
    results: list[Result] = []
    for name, backend, mode in runs(options):
        scenario = SCENARIOS[name]
        progress.begin(f"{name} {backend} {mode}")
        plan = Plan(
            scenario.kills if options.kills is None else options.kills,
            scenario.messages if options.messages is None else options.messages,
            tell=progress.tell,
        )
        run = partial(scenario.run, backend, mode, plan)
        results.append(anyio.run(run, backend="asyncio" if scenario.is_mixed else backend))
        progress.end(results[-1])
        if options.output is not None:
            write(results, options.output)
    sys.stdout.write(table(results, seconds=True))
    return 1 if any(each.faults for each in results) else 0


if __name__ == "__main__":
    sys.exit(main())
