"""A shop on FastAPI: its orders are stored for the warehouse, and browsers watch them.

    python examples/integrations/web_fastapi.py [PORT]

uvicorn serves it, on uvloop. The shop is that of `web_starlette.py`.
"""

import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from live_events import LiveEvents
from pydantic import BaseModel, field_validator

from flexiflow import EventBus
from flexiflow.extras import durable
from flexiflow.extras.monitor import Monitor

bus = EventBus(on_error="raise")
live = LiveEvents(bus, "order.*")
monitor = Monitor(bus)


class Order(BaseModel):
    """What a customer orders."""

    item: str
    amount: int = 1

    @field_validator("item")
    @classmethod
    def check_unicode(cls, item: str) -> str:
        r"""Refuse half a character, such as "\ud83d", which no answer could contain."""
        item.encode()
        return item


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[dict[str, Any]]:
    """Open what the application needs, before its first request; close it after the last."""
    transport = durable.transport_from_url(os.environ.get("TRANSPORT", "sqlite:shop.db"))
    ways: dict[str, Any] = {"outgoing": ["order.placed"], "incoming": ["order.packed"]}
    async with durable.open_bridge(bus, transport, group="web", **ways) as bridge:
        with monitor.watch("orders", bridge), live.running():
            yield {"bridge": bridge}


app = FastAPI(lifespan=lifespan)
app.mount("/monitor", monitor)


@app.post("/orders", status_code=201)
async def place(order: Order) -> Order:
    """Place an order, which is stored before this returns."""
    await bus.publish("order.placed", order.model_dump())
    return order


@app.exception_handler(RequestValidationError)
async def explain(_request: Request, exc: Any) -> Response:
    """Tell what is wrong with an order, in ASCII: FastAPI itself would fail at half a character."""
    told = json.dumps({"detail": exc.errors()}, default=str)
    return Response(told, 422, media_type="application/json")


@app.exception_handler(durable.TransportError)
async def refuse(_request: Request, _exc: Exception) -> Response:
    """Tell that an order could not be stored; what else a handler raises has status 500."""
    return JSONResponse({"detail": "orders can't be stored now"}, 503)


@app.get("/events")
async def events() -> Response:
    """Show what becomes of orders, as server-sent events."""
    return live.response()


@app.websocket("/events")
async def watch(websocket: WebSocket) -> None:
    """Show what becomes of orders, on a WebSocket."""
    await live.serve(websocket)


@app.get("/health")
async def health(request: Request, response: Response) -> dict[str, Any]:
    """Tell whether orders can be stored, and how many clients watch."""
    bridge = request.state.bridge
    response.status_code = 200 if bridge.status.state == "running" else 503
    return {"bridge": str(bridge.status), "clients": live.clients}


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    # At its end uvicorn raises the signal again, which would be the exit status.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    uvicorn.run(app, port=port, loop="uvloop", timeout_graceful_shutdown=10)
