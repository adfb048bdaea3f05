"""Tasks that were woken together: what they want next is done together, too."""

from __future__ import annotations

from typing import Final

from anyio.lowlevel import checkpoint

# One is not enough: trio runs the tasks of a turn in any order, and a publish may be a checkpoint.
_TURNS: Final = 2


async def let_go_on() -> None:
    """Let tasks that were just woken go on, before what others want is done without them.

    Otherwise two groups of tasks would take turns for ever, with a commit or a round trip for each.
    """
    for _ in range(_TURNS):
        await checkpoint()
