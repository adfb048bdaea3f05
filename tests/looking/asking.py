"""Asking an ASGI application without a server."""

import json
from typing import Any, NamedTuple

from starlette.types import ASGIApp

from flexiflow.extras.monitor import Monitor

HERE = ("127.0.0.1", 50_000)
TOKEN = "a-token_of.more~than-16-characters"  # noqa: S105  of these tests alone

ASKED = {"monitor": "monitor", "look": "look", "seen": "published", "failed": "failed"}
"""What the page asks with, and the fields of the last answer that it takes it from."""


class Answer(NamedTuple):
    """What an application answers."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def news(self) -> Any:
        """The body, which is JSON."""
        assert self.status == 200, self.body
        return json.loads(self.body)


async def ask(
    app: ASGIApp,
    path: str = "/",
    query: str = "",
    *,
    client: tuple[str, int] | None = HERE,
    scheme: str = "http",
    **headers: str,
) -> Answer:
    """Send a request, in whose headers each `_` stands for a hyphen."""
    given = {"host": "localhost:8080", **headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": scheme,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [
            (name.replace("_", "-").encode(), value.encode("latin-1"))
            for name, value in given.items()
        ],
        "client": client,
        "server": ("localhost", 8080),
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *rest = sent
    names = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], names, b"".join(each.get("body", b"") for each in rest))


async def news(monitor: Monitor, last: Any = None) -> Any:
    """Ask for what is new, as the page does."""
    query = ""
    if last is not None:
        query = "&".join(f"{name}={last[field]}" for name, field in ASKED.items())
    return (await ask(monitor, "/now", query)).news
