"""Events of a bus for browsers, as they happen: server-sent events, and WebSockets.

`web_fastapi.py` and `web_starlette.py` use this. Copy it into an application of your own.

A client that is slow misses events, and is told how many; publishers never wait for it. When the
client goes, or the server is asked to end, its stream is closed.
"""

import asyncio
import json
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

import anyio
from anyio import CancelScope, create_task_group, move_on_after
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from flexiflow import EventBus, EventStream

BUFFER = 20
"""So many events a client may be behind."""

SILENCE = 15.0
"""After so many seconds without an event a sign of life is sent: proxies cut what is silent."""

FAREWELL = 5.0
"""For so many seconds a client is waited for at the end."""


class LiveEvents:
    """Sends events of a bus to clients, each with a stream of its own.

    Args:
        bus: the bus.
        pattern: the name or pattern of the events.
    """

    def __init__(self, bus: EventBus, pattern: str) -> None:
        self._bus = bus
        self._pattern = pattern
        self._ending = anyio.Event()
        self.clients = 0

    @contextmanager
    def running(self) -> Generator[None]:
        """End all streams when the server is asked to end, or with the application's lifespan."""
        self._ending = ending = anyio.Event()
        try:
            with told_to_end(ending.set):
                yield
        finally:
            ending.set()

    def response(self) -> StreamingResponse:
        """Return a response of server-sent events."""
        return _ServerSentEvents(self)

    async def serve(self, websocket: WebSocket) -> None:
        """Serve a WebSocket until its end."""

        async def gone() -> None:
            while (await websocket.receive())["type"] != "websocket.disconnect":
                pass

        async with self.stream() as events:
            await websocket.accept()
            try:
                await self.relay(events, websocket.send_text, gone)
            finally:
                if websocket.client_state is not WebSocketState.DISCONNECTED:
                    with move_on_after(FAREWELL, shield=True), suppress(WebSocketDisconnect):
                        await websocket.close(1001)

    @asynccontextmanager
    async def stream(self) -> AsyncGenerator[EventStream[Any]]:
        """Open a stream for a client."""
        async with self._bus.stream(self._pattern, buffer=BUFFER, overflow="drop_oldest") as events:
            self.clients += 1
            try:
                yield events
            finally:
                self.clients -= 1

    async def relay(
        self,
        events: EventStream[Any],
        send: Callable[[str], Awaitable[None]],
        gone: Callable[[], Awaitable[None]],
    ) -> None:
        """Send each event, until the client is gone or the server is asked to end."""
        async with create_task_group() as tasks:
            tasks.start_soon(_end_after, gone, tasks.cancel_scope)
            tasks.start_soon(_end_after, self._ending.wait, tasks.cancel_scope)
            missed = 0
            with suppress(OSError, WebSocketDisconnect):  # gone while something is sent
                while True:
                    event = None
                    with move_on_after(SILENCE):
                        event = await anext(events)
                    dropped = events.statistics().dropped
                    if event is None or dropped > missed:
                        await send(json.dumps({"missed": dropped - missed}))
                        missed = dropped
                    if event is not None:
                        await send(json.dumps({"event": event.name, "data": event.data}))
            tasks.cancel_scope.cancel()


class _ServerSentEvents(StreamingResponse):
    media_type = "text/event-stream"

    def __init__(self, live: LiveEvents) -> None:
        # nginx would hold events back.
        super().__init__((), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._live = live

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        async def send_part(part: str, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": part.encode(), "more_body": more})

        async def send_message(text: str) -> None:
            await send_part(f"data: {text}\n\n")

        # First the stream: who sees the response begin misses nothing from then on.
        async with self._live.stream() as events:
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            try:
                gone = partial(self.listen_for_disconnect, receive)
                await self._live.relay(events, send_message, gone)
            finally:
                with move_on_after(FAREWELL, shield=True), suppress(OSError):
                    await send_part("", more=False)


async def _end_after(wait: Callable[[], Awaitable[object]], scope: CancelScope) -> None:
    await wait()
    scope.cancel()


@contextmanager
def told_to_end(tell: Callable[[], object]) -> Generator[None]:
    """Call `tell` when SIGINT or SIGTERM asks the server to end.

    The lifespan's end would be too late: servers wait for the last response first.
    """
    try:
        soon: Any = asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        import trio  # noqa: PLC0415  where there is no trio, this is not reached

        soon = trio.lowlevel.current_trio_token().run_sync_soon
    servers: dict[int, Callable[[int, Any], Any]] = {}

    def handle(number: int, frame: Any) -> None:
        soon(tell)
        servers[number](number, frame)

    # Signals reach the main thread alone; Starlette's TestClient has another one.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            server = signal.getsignal(number)
            if callable(server):
                servers[number] = server
                signal.signal(number, handle)
    try:
        yield
    finally:
        for each, before in servers.items():
            signal.signal(each, before)
