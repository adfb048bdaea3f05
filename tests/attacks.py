"""Handlers that fail in every way, the exceptions they do it with, and where to try them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from anyio import CancelScope, get_cancelled_exc_class, sleep_forever
from anyio.lowlevel import checkpoint

from tests.accounting import POLICIES, STYLES, Boom, Fatal, Ledger
from tests.helpers import MODES

each_mode = pytest.mark.parametrize("mode", MODES)
each_parallel_mode = pytest.mark.parametrize("mode", MODES[1:])
each_policy = pytest.mark.parametrize("policy", POLICIES)
each_style = pytest.mark.parametrize("style", STYLES)
on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@dataclass(frozen=True)
class Frozen(Exception):
    """Takes no notes: its attributes can't be set."""

    code: int = 402


class Unspeakable(Exception):
    """Can't be shown."""

    def __str__(self) -> str:
        raise AssertionError

    def __repr__(self) -> str:
        raise AssertionError


class Incomparable(Exception):
    """Can't be compared or hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise AssertionError


class Noteless(Exception):
    """Refuses notes."""

    def add_note(self, note: str, /) -> None:
        raise AssertionError


class Liar(Exception):
    """Is false, empty, and equal to everything."""

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class Noted(Exception):
    """Has notes that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.__notes__: Any = 404


each_kind = pytest.mark.parametrize(
    "kind",
    [
        Boom,
        Frozen,
        Unspeakable,
        Incomparable,
        Noteless,
        Liar,
        Noted,
        TimeoutError,
        StopAsyncIteration,
    ],
)


class Undecided(Exception):
    """Is neither true nor false, so that not even a traceback of it can be shown."""

    def __bool__(self) -> bool:
        raise AssertionError


@dataclass(frozen=True)
class FrozenExit(KeyboardInterrupt):
    """An exit whose attributes can't be set."""


each_exit = pytest.mark.parametrize(
    "kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Fatal, FrozenExit]
)


def failing(
    ledger: Ledger, exception: Exception | None = None, *, announced: bool = True
) -> Callable[[Any], None]:
    """Make a handler that fails at once."""

    def fail(_: Any) -> None:
        raise ledger.inject(Boom() if exception is None else exception, announced=announced)

    return fail


def failing_in_cleanup(
    ledger: Ledger, exception: Exception | None = None
) -> Callable[[Any], object]:
    """Make a handler that waits until it is cancelled, and then fails."""

    async def fail_in_cleanup(_: Any) -> None:
        try:
            await sleep_forever()
        finally:
            raise ledger.inject(Boom() if exception is None else exception)

    return fail_in_cleanup


async def let_out(exception: BaseException, after: int, _: Any) -> None:
    """Raise what may be no failure, after some turns of the scheduler."""
    for _turn in range(after):
        await checkpoint()
    raise exception


async def exit_in_cleanup(_: Any) -> None:
    """Wait until it is cancelled, and then leave by an exit."""
    try:
        await sleep_forever()
    finally:
        raise Fatal


async def wait(_: Any) -> None:
    """Wait until it is cancelled."""
    await sleep_forever()


async def kept_cancellation() -> BaseException:
    """Give a cancellation that somebody else's scope is through with."""
    kept: list[BaseException] = []
    with CancelScope() as scope:
        scope.cancel()
        try:
            await checkpoint()
        except get_cancelled_exc_class() as exc:
            kept.append(exc)
            raise
    return kept[0]


async def stray(_: Any) -> None:
    """Await what someone else has cancelled, or the next best thing on trio."""
    kept = await kept_cancellation()
    if not isinstance(kept, asyncio.CancelledError):
        raise kept
    task = asyncio.create_task(asyncio.sleep(0))
    task.cancel()
    await task
