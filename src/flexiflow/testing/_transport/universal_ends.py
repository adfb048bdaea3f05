"""The universal suite: what is refused after a bridge that did not end in peace (X10)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from flexiflow._bus import EventBus
from flexiflow.extras.durable import BridgeClosed
from flexiflow.testing._transport.universal import Noted, claim, universal

if TYPE_CHECKING:
    from flexiflow.testing._transport.universal import Stage


class _Unfit(Exception):
    """Ends a user's block."""


@universal("X10")
async def refuses_until_it_is_open_again(stage: Stage) -> None:
    """After a bridge was left by an error, publishes fail until the next one is open."""
    bus, noted = EventBus(), Noted(2)
    for turn in range(2):
        with suppress(_Unfit), anyio.CancelScope() as scope:
            async with stage.bridge(bus, outgoing=["n.*"]):
                failures = await bus.publish("n.e", turn)
                claim(not failures, f"publishing failed: {[each.exception for each in failures]}")
                if turn == 0:
                    raise _Unfit
                scope.cancel()
                await anyio.sleep_forever()
        told = [each.exception for each in await bus.publish("n.e", "lost")]
        claim([type(each) for each in told] == [BridgeClosed], f"after its end it failed by {told}")
    async with stage.worker(noted):
        await noted.complete()
    noted.check(range(2))
    await stage.check_settled()
