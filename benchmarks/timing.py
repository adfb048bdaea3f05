"""Timing: rounds of ours and of theirs in turn, in one loop, without the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from time import get_clock_info, perf_counter, process_time
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import anyio

from benchmarks.measuring import LeftOut, Round

if TYPE_CHECKING:
    from collections.abc import Generator

    from benchmarks.measuring import Effort, Run

Side: TypeAlias = Callable[[int], Awaitable[object]]
"""Does an action so many times."""

Probe: TypeAlias = Callable[[], Awaitable[float]]
"""Does an action for one round, and returns the cost of each time."""

# The timed code waits for nothing outside of the process, so its processor time is its whole cost,
# and other processes on the machine don't add to it. Some systems count it in coarse steps.
_FINE: Final = 1e-6
now: Final = process_time if get_clock_info("process_time").resolution <= _FINE else perf_counter

# A calibration that covers less of a round can't tell how many calls fill the round.
_ENOUGH: Final = 0.25


async def _nothing() -> None:
    pass


@final
@dataclass(frozen=True, slots=True)
class Pair:
    """Two sides that are compared.

    Attributes:
        ours: FlexiFlow's side.
        theirs: the side of the lower limit or the peer.
        close: ends everything that either side has left running.
    """

    ours: Side
    theirs: Side
    close: Callable[[], Awaitable[object]] = _nothing


Prepare: TypeAlias = Callable[[], Awaitable[Pair]]
"""Makes the two sides, inside the loop that they run in."""


def backends() -> list[str]:
    """Return the names of the installed backends."""
    return [name for name in ("asyncio", "trio") if find_spec(name) is not None]


def load(module: str) -> Any:
    """Import a module that may be missing; untyped, so that types can be checked without it.

    Raises:
        LeftOut: the module is missing, or can't be imported.
    """
    try:
        return import_module(module)
    except ImportError as exc:
        raise LeftOut(f"{module} can't be imported: {exc}") from exc


def paired(backend: str, prepare: Prepare) -> Run:
    """Return a run that times two sides, each for as many calls as fill a round."""

    async def main(effort: Effort) -> list[Round]:
        pair = await prepare()
        try:
            ours = await calibrated(pair.ours, effort.seconds)
            theirs = await calibrated(pair.theirs, effort.seconds)
            return await alternate(effort.rounds, ours, theirs)
        finally:
            await pair.close()

    return lambda effort: anyio.run(main, effort, backend=backend)


async def alternate(rounds: int, ours: Probe, theirs: Probe) -> list[Round]:
    """Take rounds of both in turn, so that disturbances of the machine affect both."""
    return [Round(await ours(), await theirs()) for _ in range(rounds)]


async def calibrated(side: Side, seconds: float, clock: Callable[[], float] = now) -> Probe:
    """Return a probe that times as many calls as fill a round."""
    with collector_off():
        calls = 1
        while (taken := await _shortest(side, calls, clock)) < seconds * _ENOUGH:
            calls *= 4
    calls = max(1, round(calls * seconds / taken)) if taken else calls

    async def probe() -> float:
        with collector_off():
            return await _elapsed(side, calls, clock) / calls

    return probe


async def _shortest(side: Side, calls: int, clock: Callable[[], float]) -> float:
    # The faster of two, so that an interruption does not lead to rounds of far too few calls.
    return min([await _elapsed(side, calls, clock) for _ in range(2)])


async def _elapsed(side: Side, calls: int, clock: Callable[[], float]) -> float:
    begun = clock()
    await side(calls)
    return clock() - begun


@contextmanager
def collector_off() -> Generator[None]:
    """Collect garbage now, and then not again within the block."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
