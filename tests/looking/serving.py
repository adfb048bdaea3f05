"""Serving an ASGI application to a test, with uvicorn."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from anyio import create_task_group
from anyio.lowlevel import checkpoint
from starlette.types import ASGIApp

uvicorn: Any = pytest.importorskip("uvicorn", reason="uvicorn is not installed")


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncGenerator[tuple[Any, int]]:
    """Serve an application in the block, on asyncio; yield the server, and its port."""
    config = uvicorn.Config(app, port=0, log_level="critical", ws="none", loop="asyncio")
    server = uvicorn.Server(config)
    async with create_task_group() as tasks:
        tasks.start_soon(server.serve)
        while not server.started:
            await checkpoint()
        try:
            yield server, server.servers[0].sockets[0].getsockname()[1]
        finally:
            server.should_exit = True
