"""Task groups whose blocks are left bare."""

from typing import Any

import pytest
from anyio import sleep_forever

from flexiflow._tasks import TaskBlock


async def test_a_task_that_is_closed_interrupts_nothing() -> None:
    """M3: Python closes what still runs when an event loop is gone; that is no interrupt."""
    block = TaskBlock()
    coroutine: Any = block._guard(sleep_forever)
    coroutine.send(None)
    coroutine.close()
    assert block._interrupts == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_leaves_the_block(kind: type[BaseException]) -> None:
    """M3: An interrupt leaves the block bare, and as it was raised."""
    block, raised = TaskBlock(), kind()

    async def interrupt() -> None:
        raise raised

    await block.open()
    block.start_guarded(interrupt)
    with pytest.raises(kind) as info:
        await block.close(None, None)
    assert info.value is raised
