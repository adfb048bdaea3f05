"""Puts small faults into the library, and tells which ones the tests and the kit leave alive."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from tools.mutation.changes import Change, documented, show_change
from tools.mutation.kits import kits_of
from tools.mutation.mutants import draw
from tools.mutation.trying import run

PAGE = Path("docs/mutation_survivors.md")
AT_LEAST = 95.0
"""Per cent of the mutants that must be killed."""

PARTS = """
_registry _dispatcher _delivery _bus _stream _background _limits _engine _actor _lifecycle
_component _machine _subscription _arguments _callables _errors _expectation _instruments _receiver
_names _turns _mailbox _states _stores _running _timers _tasks _reporting _mermaid _residents
_cancellation _admission _contexts _hosting _objects _text _work _marks extras.retry
extras.durable._bridge extras.durable._sqlite extras._sqlite extras.durable._redis extras._redis
extras.durable._memory extras.durable extras.stores extras.stores._redis extras.durable._outbox
"""
DURABLE = ("extras.durable", "extras._sqlite", "extras._redis", "extras.stores")
TESTS = {
    True: "bus delivery errors components streams limits instruments stores cli",
    False: "durable stores cli",
}
"""The folders of tests, by whether they are of the core."""


class Tried(NamedTuple):
    """A mutant that was tried.

    Attributes:
        part: what it is counted with.
        change: what it changes.
        is_killed: whether it was noticed.
        by: what noticed it.
        tests: how many tests reach what it changes.
        seconds: how long it took.
    """

    part: str
    change: Change
    is_killed: bool
    by: str
    tests: int
    seconds: float


def read_results(path: Path) -> dict[Change, Tried]:
    """Read what was tried; of what was tried again, the last."""
    found: dict[Change, Tried] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            part, place, removed, added, *rest = json.loads(line)
            change = Change(place, tuple(removed), tuple(added))
            found[change] = Tried(part, change, *rest)
    return found


def interval(killed: int, number: int) -> tuple[float, float]:
    """Tell, in per cent, within which limits the share lies that a sample stands for.

    It is Wilson's, at 95 %.
    """
    z = 1.96
    share, scale = killed / number, 1 + z * z / number
    middle = (share + z * z / (2 * number)) / scale
    half = z * math.sqrt(share * (1 - share) / number + z * z / (4 * number * number)) / scale
    return 100 * (middle - half), 100 * (middle + half)


def row_of(name: str, possible: int, tried: Sequence[Tried]) -> str:
    """Write a row of the table."""
    number = len(tried)
    killed = sum(each.is_killed for each in tried)
    kit = sum(each.is_killed and each.by.startswith("check_") for each in tried)
    low, high = interval(killed, number)
    limits = "" if number >= possible else f"{low:.0f} to {high:.0f}"
    cells = (possible, number, killed, kit, number - killed, f"{100 * killed / number:.1f}", limits)
    return " | ".join(("| " + f"`{name}`", *map(str, cells))) + " |"


def main(parts: Sequence[str], options: argparse.Namespace) -> int:
    """Run it all; 0 where enough is killed, and the page has a reason for each survivor."""
    reasons = set(documented(PAGE.read_text(encoding="utf-8").splitlines()))
    drawn = {part: draw(part, options.sample, options.seed) for part in parts}
    done = read_results(options.results)
    for is_core, folders in TESTS.items():
        lines = [
            mutants
            for part, (_, mutants) in drawn.items()
            if part.startswith(DURABLE) is not is_core
        ]
        mutants = [each for turn in zip_longest(*lines) for each in turn if each is not None]
        left = [
            each
            for each in mutants
            if each.change not in done or (options.again and not done[each.change].is_killed)
        ]
        if left:
            reach = options.results.with_suffix(".reach-core" if is_core else ".reach-durable")
            tests = [f"tests/{folder}" for folder in folders.split()]
            kits = kits_of(is_core=is_core)
            run(tests, left, kits, results=options.results, reach=reach)
    done = read_results(options.results)
    tried: list[Tried] = []
    print("| part | mutants | tried | killed | by the kit alone | survived | killed, % | limits |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for part, (possible, mutants) in drawn.items():
        of_part = [done[each.change] for each in mutants if each.change in done]
        tried += of_part
        if of_part:
            print(row_of(part, possible, of_part))
    print(row_of("all", sum(possible for possible, _ in drawn.values()), tried))
    unexplained = [each for each in tried if not each.is_killed and each.change not in reasons]
    print(f"\nsurvivors without a reason in {PAGE}: {len(unexplained)}")
    for each in unexplained:
        print(f"\n{show_change(each.change)}\n\n{each.tests} tests reach it.")
    killed = [each for each in tried if each.is_killed and each.change in reasons]
    print(f"\nkilled, though {PAGE} has them as survivors: {len(killed)}")
    for each in killed:
        print(f"\n{show_change(each.change)}\n\n{each.by} noticed it.")
    share = 100 * sum(each.is_killed for each in tried) / len(tried)
    return int(bool(unexplained) or share < AT_LEAST)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description=__doc__)
    parser.add_argument("parts", nargs="*", help="such as _bus or extras.retry; default: all")
    parser.add_argument("--sample", type=int, help="so many mutants of each part; default: all")
    parser.add_argument("--seed", type=int, default=1, help="draws the sample; default: 1")
    parser.add_argument(
        "--results", type=Path, default=Path("mutants.jsonl"), help="holds what was tried already"
    )
    parser.add_argument("--again", action="store_true", help="try those that survived again")
    options = parser.parse_args()
    sys.exit(main(options.parts or PARTS.split(), options))
