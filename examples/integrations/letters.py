"""What the unit `letters.service` runs: a worker that writes a letter for each shipped order."""

from typing import Any

import anyio

from flexiflow import Component, Engine, on


class Letters(Component):
    """Writes to customers."""

    @on("order.shipped")
    async def announce(self, order: dict[str, Any]) -> None:
        """Append a line to the file of letters, in the service's working directory."""
        async with await anyio.open_file("letters.txt", "a", encoding="utf-8") as letters:
            await letters.write(f"{order['order']}: your {order['item']} is on its way\n")


async def engine() -> Engine:
    """Make the engine of the worker."""
    engine = Engine()
    await engine.register(Letters("letters"))
    return engine
