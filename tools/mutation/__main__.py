"""Puts faults into a copy of the core, runs the tests on each, and tells which ones survive."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Container, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.mutation.mutants import (
    Change,
    Mutant,
    concerns_types_alone,
    documented,
    read_change,
    read_results,
)

ROOT = Path(__file__).parents[2]
PAGE = "docs/mutation.md"
COPIED = ("src", "tests", "tools", "pyproject.toml", "README.md")
AT_LEAST = 95.0
"""Per cent of all mutants that must be killed."""
FEW = "120"
"""How many tests are tried on a mutant at first; most mutants fall to them."""

# Three tests go through three times as many names as are remembered, in half a minute; they take
# the number from here, and show the same with a smaller one.
SMALLER = ("src/flexiflow/_registry.py", "= 65_536", "= 1_024")


def copy_project(folder: Path) -> None:
    """Copy what the tests of the core need; nothing is done in the working tree."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder)
    path, large, small = SMALLER
    text = (folder / path).read_text(encoding="utf-8")
    assert text.count(large) == 1, f"{path} must have {large!r} once"
    (folder / path).write_text(text.replace(large, small), encoding="utf-8")


def mutmut(folder: Path, *arguments: str, few: str = "", shown: bool = False) -> str:
    """Run a command of mutmut in the copy."""
    done = subprocess.run(
        [sys.executable, folder / "tools/mutation/start_mutmut.py", *arguments],
        cwd=folder,
        env=os.environ | {"FEW_TESTS": few},
        stdout=None if shown else subprocess.PIPE,
        check=True,
        encoding="utf-8",
    )
    return done.stdout or ""


def tried(folder: Path) -> list[Mutant]:
    """Ask mutmut what came of the mutants."""
    return [*read_results(mutmut(folder, "results", "--all", "true").splitlines())]


def change_of(mutant: Mutant, folder: Path) -> Change:
    """Ask mutmut what a mutant changes."""
    return read_change(mutant.place, mutmut(folder, "show", mutant.key).splitlines())


def try_mutants(
    folder: Path, modules: Sequence[str], known: Container[Change], jobs: int
) -> tuple[list[Mutant], list[Change]]:
    """Try each mutant with few tests, then all tests that concern it if it survives unexplained.

    Returns:
        The mutants, without those that concern types alone, and what the survivors change.
    """
    run = ("run", "--max-children", str(jobs))
    mutmut(folder, *run, *(f"flexiflow.{each}.*" for each in modules), few=FEW, shown=True)
    changes = {each: change_of(each, folder) for each in tried(folder) if not each.is_killed}
    meant = {each: change for each, change in changes.items() if not concerns_types_alone(change)}
    if unexplained := [each.key for each, change in meant.items() if change not in known]:
        mutmut(folder, *run, *unexplained, shown=True)
    left_out = {each.key for each in changes.keys() - meant.keys()}
    mutants = [each for each in tried(folder) if each.key not in left_out]
    return mutants, [meant[each] for each in mutants if not each.is_killed]


def print_table(mutants: Sequence[Mutant]) -> float:
    """Print the figures of each module, and return the per cent killed of all."""
    print(f"{'module':<16}{'mutants':>8}{'killed':>8}{'survived':>10}{'killed, %':>11}")
    percent = 0.0
    for module in (*sorted({each.module for each in mutants}), "all"):
        chosen = [each for each in mutants if module in (each.module, "all")]
        killed = sum(each.is_killed for each in chosen)
        percent = 100 * killed / len(chosen)
        survived = len(chosen) - killed
        print(f"{module:<16}{len(chosen):>8}{killed:>8}{survived:>10}{percent:>11.1f}")
    return percent


def print_changes(title: str, changes: Sequence[Change]) -> None:
    """Print changes as the documentation is to hold them."""
    print(f"\n{title}: {len(changes)}")
    for change in changes:
        removed, added = (
            "\n".join(f"{sign}{line}" for line in lines)
            for sign, lines in zip("-+", change[1:], strict=True)
        )
        print(f"\n### `{change.place}`\n\n```diff\n{removed}\n{added}\n```")


def main(modules: Sequence[str], jobs: int) -> int:
    """Run it all; 0 where enough is killed, and each survivor has its reason in the documentation.

    Args:
        modules: the modules to mutate, such as "_bus"; all of the core if there are none.
        jobs: how many mutants are tried at the same time.
    """
    reasons = set(documented((ROOT / PAGE).read_text(encoding="utf-8").splitlines()))
    with TemporaryDirectory(prefix="flexiflow-mutants-") as name:
        folder = Path(name)
        copy_project(folder)
        mutants, survivors = try_mutants(folder, modules, reasons, jobs)
    percent = print_table(mutants)
    unexplained = [each for each in survivors if each not in reasons]
    print_changes(f"survivors without a reason in {PAGE}", unexplained)
    places = {each.place for each in mutants}
    killed = [each for each in reasons - {*survivors} if each.place in places]
    print_changes(f"killed, though {PAGE} has them as survivors", sorted(killed))
    too_few = not modules and percent < AT_LEAST
    return int(bool(unexplained) or too_few)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="such as _bus or extras.retry; default: all")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at the same time; default: 1")
    options = parser.parse_args()
    sys.exit(main(options.modules, options.jobs))
