"""Ways to see what goes on in a scenario, and to make things go on at the same time."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from anyio import create_task_group
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator


@contextmanager
def logged(note: Callable[[Any, logging.LogRecord], object]) -> Generator[None]:
    """Call `note` with each failure that is logged, and its record, and keep it from the log."""
    logger, handler = logging.getLogger("flexiflow"), logging.NullHandler()

    def handle(record: logging.LogRecord) -> bool:
        note(record.exc_info[1] if record.exc_info else None, record)
        return True

    handler.handle = handle  # type: ignore[method-assign]
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


async def take(turns: int) -> None:
    """Let others run so many times."""
    for _ in range(turns):
        await checkpoint()


async def together(*functions: Callable[[], Awaitable[object]]) -> None:
    """Run functions at the same time."""
    async with create_task_group() as group:
        for function in functions:
            group.start_soon(function)
