"""A monitor that is mounted in an application, and served: L8."""

import anyio
import pytest
from anyio import EndOfStream, connect_tcp, create_task_group, fail_after
from anyio.lowlevel import checkpoint
from starlette.applications import Starlette
from starlette.routing import Mount

from flexiflow import EventBus
from flexiflow.extras.monitor import Monitor
from tests.helpers import PATIENCE
from tests.looking.asking import TOKEN, ask

uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")


async def test_a_mounted_monitor_answers_below_its_path() -> None:
    """L8: whatever the path is; the page's own requests are relative to it."""
    app = Starlette(routes=[Mount("/inside/flexiflow", Monitor(EventBus(), token=TOKEN))])
    moved = await ask(app, "/inside/flexiflow/", f"token={TOKEN}")
    assert (moved.status, moved.headers["location"]) == (303, "./")


def test_a_server_shuts_down_while_somebody_looks() -> None:
    """L8: nothing stays open between requests, so it need not wait; as tried with uvicorn."""

    async def main() -> None:
        config = uvicorn.Config(
            Monitor(EventBus()), port=0, log_level="critical", ws="none", loop="asyncio"
        )
        server = uvicorn.Server(config)
        with fail_after(PATIENCE):
            async with create_task_group() as tasks:
                tasks.start_soon(server.serve)
                while not server.started:
                    await checkpoint()
                port = server.servers[0].sockets[0].getsockname()[1]
                async with await connect_tcp("127.0.0.1", port) as stream:
                    await stream.send(b"GET /now HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    answer = await stream.receive()
                    server.should_exit = True
                    with pytest.raises(EndOfStream):
                        while True:
                            await stream.receive()
        assert b" 200 OK" in answer

    anyio.run(main)
