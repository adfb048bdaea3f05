"""The examples for the web, each served as its users would: FastAPI by uvicorn, and so on."""

from importlib.util import find_spec
from math import nan
from pathlib import Path
from typing import Any

import anyio
import pytest

from flexiflow import EventBus
from flexiflow.extras.durable import SqliteTransport, open_bridge
from tests.helpers import PATIENCE
from tests.integrations.web import open_shop, watch

NEEDED = ("fastapi", "hypercorn", "trio", "uvicorn", "uvloop")

pytestmark = [
    pytest.mark.same_everywhere,
    pytest.mark.unmeasured,
    pytest.mark.skipif(
        any(find_spec(each) is None for each in NEEDED),
        reason=f"one of {', '.join(NEEDED)} is not installed",
    ),
]


def pack_order(file: Path) -> None:
    """Be the warehouse, which is another process: wait for an order, and pack it."""

    async def main() -> None:
        bus, packed = EventBus(on_error="raise"), anyio.Event()

        async def pack(order: Any) -> None:
            await bus.publish("order.packed", order)
            packed.set()

        ways: dict[str, Any] = {"incoming": ["order.placed"], "outgoing": ["order.packed"]}
        transport = SqliteTransport(file)
        with anyio.fail_after(PATIENCE):
            async with (
                bus.subscribe("order.placed", "warehouse", pack),
                open_bridge(bus, transport, group="warehouse", **ways),
            ):
                await packed.wait()

    anyio.run(main)


@pytest.mark.parametrize("program", ["web_fastapi", "web_starlette"])
def test_browsers_watch_a_shop(program: str, tmp_path: Path) -> None:
    """S1, S2, X1, L8: clients may be slow or leave, and the server ends while others watch."""
    file, order = tmp_path / "shop.db", {"item": "lamp", "amount": 2}
    with open_shop(program, file) as shop:
        watching = watch(shop)
        leaving = watch(shop)
        shop.wait_for_health(200, 4)
        # What can't be answered is not stored either: nobody hears of it.
        for wrong in ({"item": "\ud83d"}, {"item": "lamp", "amount": "\ud83d"}, {"item": nan}):
            assert shop.ask("POST", "/orders", wrong)[0] in {400, 422}
        assert shop.ask("POST", "/orders", order) == (201, order)
        pack_order(file)
        for each in (*watching, *leaving):
            assert each.receive() == {"event": "order.placed", "data": order}
            assert each.receive() == {"event": "order.packed", "data": order}
        for each in leaving:
            each.close()
        shop.wait_for_health(200, 2)

        # They read nothing for a while, for which nobody waits.
        large = {"item": "lamp" * 16_384, "amount": 2}
        for _ in range(80):
            assert shop.ask("POST", "/orders", large)[0] == 201
        for each in watching:
            heard = missed = 0
            while heard + missed < 80:
                message = each.receive()
                heard += message.get("event") == "order.placed"
                missed += message.get("missed", 0)
            assert (heard > 20, missed > 0, heard + missed) == (True, True, 80)

        status, news = shop.ask("GET", "/monitor/now")
        assert (status, news["watched"][0][1]) == (200, "orders")
        exit_status, told = shop.end()
        assert [each.receive() for each in watching] == [None, None]
    assert exit_status == 0
    assert "Traceback" not in told


def test_a_shop_whose_orders_cannot_be_stored_says_so(tmp_path: Path) -> None:
    """X10: an order is refused, the streams end, and so does the server when it is asked to."""
    file = tmp_path / "shop.db"
    with open_shop("web_fastapi", file) as shop:
        watching = watch(shop)
        shop.wait_for_health(200, 2)
        file.unlink()
        assert shop.ask("POST", "/orders", {"item": "lamp"})[0] == 503
        shop.wait_for_health(503, 0)
        assert [each.receive() for each in watching] == [None, None]
        exit_status, told = shop.end()
    assert exit_status == 0
    assert "a bridge has failed" in told
