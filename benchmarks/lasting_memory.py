"""The memory of a process whose engine loads and unloads a million components."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import anyio

from benchmarks.apart import growth, growth_in
from benchmarks.lasting import QUICK_STORED, RESIDENTS, STORED, store, visiting
from benchmarks.measuring import Measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measuring import Effort, Round

# By then as many are in memory as ever will be, and the process has allocated all that it needs.
_FIRST: Final = 100_000
_QUICK_FIRST: Final = 20_000


def measures() -> Iterator[Measure]:
    """Yield the measures of this module, which do not depend on a backend."""
    yield Measure(
        figure=f"what loading {STORED:,} components, {RESIDENTS:,} in memory, adds to a process's"
        " peak",
        against="",
        backend="",
        # Three bytes for each component; one that was kept would take some hundreds.
        at_most=3_000_000,
        unit="bytes",
        run=_grown,
    )


def _grown(effort: Effort) -> list[Round]:
    first, number = (_QUICK_FIRST, QUICK_STORED) if effort.quick else (_FIRST, STORED)
    with TemporaryDirectory() as folder:
        path = Path(folder, "states.db")
        anyio.run(store, path, number)
        return growth_in("benchmarks.lasting_memory", path, first, number)


async def _main(path: Path, first: int, number: int) -> int:
    async with visiting(path, number) as side:
        return await growth(side, first, number - first)


if __name__ == "__main__":
    _path, _first, _number = sys.argv[1:]
    sys.stdout.write(str(anyio.run(_main, Path(_path), int(_first), int(_number))))
