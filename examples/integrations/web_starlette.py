"""A shop on Starlette: its orders are stored for the warehouse, and browsers watch them.

    python examples/integrations/web_starlette.py [PORT]

Hypercorn serves it, on trio. The shop is that of `web_fastapi.py`.
"""

import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from hypercorn.config import Config
from hypercorn.trio import serve
from live_events import LiveEvents
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute

from flexiflow import EventBus
from flexiflow.extras import durable
from flexiflow.extras.monitor import Monitor

bus = EventBus(on_error="raise")
live = LiveEvents(bus, "order.*")
monitor = Monitor(bus)


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncGenerator[dict[str, Any]]:
    """Open what the application needs, before its first request; close it after the last."""
    transport = durable.transport_from_url(os.environ.get("TRANSPORT", "sqlite:shop.db"))
    ways: dict[str, Any] = {"outgoing": ["order.placed"], "incoming": ["order.packed"]}
    async with durable.open_bridge(bus, transport, group="web", **ways) as bridge:
        with monitor.watch("orders", bridge), live.running():
            yield {"bridge": bridge}


async def place(request: Request) -> Response:
    """Place an order, which is stored before this returns."""
    try:
        order = await request.json()
        # Made before the order is stored: not all that Python reads as JSON can be written as such.
        answer = JSONResponse(order, 201)
    except (ValueError, RecursionError):
        return JSONResponse({"detail": "an order must be JSON"}, 400)
    await bus.publish("order.placed", order)
    return answer


async def refuse(_request: Request, _exc: Exception) -> Response:
    """Tell that an order could not be stored; what else a handler raises has status 500."""
    return JSONResponse({"detail": "orders can't be stored now"}, 503)


async def events(_request: Request) -> Response:
    """Show what becomes of orders, as server-sent events."""
    return live.response()


async def health(request: Request) -> Response:
    """Tell whether orders can be stored, and how many clients watch."""
    status = request.state.bridge.status
    told = {"bridge": str(status), "clients": live.clients}
    return JSONResponse(told, 200 if status.state == "running" else 503)


app = Starlette(
    routes=[
        Route("/orders", place, methods=["POST"]),
        Route("/events", events),
        WebSocketRoute("/events", live.serve),
        Route("/health", health),
        Mount("/monitor", monitor),
    ],
    exception_handlers={durable.TransportError: refuse},
    lifespan=lifespan,
)


async def main() -> None:
    """Serve the shop until SIGINT or SIGTERM."""
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1] if len(sys.argv) > 1 else 8000}"]
    application: Any = app  # whose types are written otherwise in Hypercorn
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:

        async def asked_to_end() -> None:
            await anext(signals)

        await serve(application, config, shutdown_trigger=asked_to_end)


if __name__ == "__main__":
    anyio.run(main, backend="trio")
