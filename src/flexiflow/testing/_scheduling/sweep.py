"""Cancel a scenario at each of its checkpoints (P3)."""

from __future__ import annotations

import reprlib
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, get_args

from flexiflow._callables import check_callable
from flexiflow.testing._scheduling.checks import check_backend, check_int, check_scenario
from flexiflow.testing._scheduling.explore import failure_of
from flexiflow.testing._scheduling.failures import CancellationFailure, CheckpointMissed
from flexiflow.testing._scheduling.run import Run, Style
from flexiflow.testing._scheduling.schedule import first_come

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def cancel_everywhere(
    scenario: Callable[[], Awaitable[object]],
    *,
    backend: str,
    check: Callable[[], object] | None = None,
    style: Style = "scope",
    limit: int = 10_000,
) -> int:
    """Run a scenario once for each checkpoint that it passes, cancelled at that one (P3).

    A checkpoint is each place at which one of its tasks, child tasks included, yields to others.
    The scenario first runs without a cancellation, to count them; then it is cancelled before it
    begins, at its first checkpoint, and so on. Each run has an event loop of its own, in virtual
    time, first come first served; buses that the scenario makes yield at every publish.

    A run fails if anything but the cancellation leaves the scenario, if a task outlives it, if
    `check` raises, or if the scenario ends before the checkpoint at which it was to be cancelled.

    Args:
        scenario: an async function without arguments, which does the same whenever it is run.
        backend: "asyncio" or "trio".
        check: called without arguments after each run, in the same event loop but not cancelled,
            and awaited if it is async; raises if an invariant does not hold.
        style: how to cancel. "scope" cancels an `anyio.CancelScope` around the scenario; "native",
            on asyncio only, cancels the scenario's task with `asyncio.Task.cancel`.
        limit: the most checkpoints that the scenario may pass, 1 or more, which bounds the time.

    Returns:
        How many checkpoints there are.

    Raises:
        CancellationFailure: a run failed, with or without a cancellation.
        TypeError: `scenario` is no async function without arguments; `check` can't be called.
        ValueError: an unknown backend or style, or a style that the backend does not have; `limit`
            is no int, or too small, or smaller than the number of checkpoints.
        ImportError: the backend is not installed.
        RuntimeError: called from async code.

    Example:
        >>> import anyio
        >>> from flexiflow.testing import cancel_everywhere
        >>> orders = []
        >>> async def scenario():
        ...     orders.append("A7")
        ...     try:
        ...         await anyio.sleep(1)
        ...     finally:
        ...         orders.remove("A7")
        >>> def check():
        ...     assert orders == []
        >>> cancel_everywhere(scenario, backend="asyncio", check=check)
        1
    """
    check_scenario(scenario, "cancel_everywhere")
    check_backend(backend)
    if check is not None:
        check_callable("check", check, 0)
    _check_style(style, backend)
    check_int("limit", limit, least=1)

    async def afterwards() -> None:
        if check is not None and isawaitable(verdict := check()):
            await verdict

    def run(cancel_at: int | None) -> int:
        run = Run(scenario, first_come, cancel_at=cancel_at, style=style, afterwards=afterwards)
        exception = failure_of(run, backend) or _missed(run, cancel_at or 0)
        if exception is not None:
            raise CancellationFailure(
                backend=backend, checkpoint=cancel_at, style=style, exception=exception
            ) from exception
        return run.checkpoints

    checkpoints = run(None)
    if checkpoints > limit:
        raise ValueError(
            f"the scenario passes {checkpoints:,} checkpoints, more than the limit of {limit:,}"
        )
    for checkpoint in range(checkpoints + 1):
        run(checkpoint)
    return checkpoints


def _missed(run: Run[Any], checkpoint: int) -> CheckpointMissed | None:
    if run.checkpoints < checkpoint:
        return CheckpointMissed(checkpoint, run.checkpoints)
    return None


def _check_style(style: object, backend: str) -> None:
    if style not in get_args(Style) or (style == "native" and backend != "asyncio"):
        allowed = "'scope' or, on asyncio, 'native'"
        raise ValueError(f"style must be {allowed}, not {reprlib.repr(style)} on {backend}")
