"""A monitor that is mounted in an application, and served: L8."""

import anyio
import pytest
from anyio import EndOfStream, connect_tcp, fail_after
from starlette.applications import Starlette
from starlette.routing import Mount

from flexiflow import EventBus
from flexiflow.extras.monitor import Monitor
from tests.helpers import PATIENCE
from tests.looking.asking import TOKEN, ask
from tests.looking.serving import serving


async def test_a_mounted_monitor_answers_below_its_path() -> None:
    """L8: whatever the path is; the page's own requests are relative to it."""
    app = Starlette(routes=[Mount("/inside/flexiflow", Monitor(EventBus(), token=TOKEN))])
    moved = await ask(app, "/inside/flexiflow/", f"token={TOKEN}")
    assert (moved.status, moved.headers["location"]) == (303, "./")


def test_a_server_shuts_down_while_somebody_looks() -> None:
    """L8: nothing stays open between requests, so it need not wait; as tried with uvicorn."""

    async def main() -> bytes:
        with fail_after(PATIENCE):
            async with (
                serving(Monitor(EventBus())) as (server, port),
                await connect_tcp("127.0.0.1", port) as stream,
            ):
                await stream.send(b"GET /now HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = await stream.receive()
                server.should_exit = True
                with pytest.raises(EndOfStream):
                    while True:
                        await stream.receive()
                return answer

    assert b" 200 OK" in anyio.run(main)
