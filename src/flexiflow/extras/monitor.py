"""A page that shows what happens on an engine's bus: an ASGI application (L8).

Needs the extra `monitor`. Mount it in any ASGI application, on asyncio or trio, as in
`Starlette(routes=[Mount("/flexiflow", Monitor(engine))])`. The page only shows, and changes
nothing.
"""

from __future__ import annotations

import re
import reprlib
import secrets
from importlib.resources import files
from time import time
from typing import TYPE_CHECKING, Final, final

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from flexiflow import Engine, EventBus
from flexiflow._bus import dispatcher_of
from flexiflow._subscription import limiter_of
from flexiflow._text import printable, shorten
from flexiflow.events import HANDLER_FAILED
from flexiflow.extras._monitor import OWNER
from flexiflow.extras._monitor.access import Access
from flexiflow.extras._monitor.looking import Chains, Failures, Passing, states_of
from flexiflow.extras._watches import Counted, Watch, Watches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from flexiflow import Component

__all__ = ["Counted", "Monitor", "Watch"]

_MOST_EVENTS: Final = 200
_MOST_NAMES: Final = 100
_MOST_LIMITS: Final = 100
_MOST_KINDS: Final = 10
_PATIENCE: Final = 5.0
"""After so many seconds without a request nobody looks any more."""
_TOKEN: Final = re.compile(r"[\w.~-]{16,}", re.ASCII)
_MOST_DIGITS: Final = 16

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@final
class Monitor:
    """Shows what happens on a bus in a browser; an ASGI application.

    The page shows the events as they pass, how many components are in which state, how full limits,
    streams and backgrounds are, how bridges do, and the last failures. While nobody looks, only
    failures are kept.

    Only browsers on this machine may look, and not through a proxy. With a `token`, everybody who
    has it may look. It is given once, in the address of the page (`?token=...`), over HTTPS.

    The monitor belongs to the event loop of the engine: serve it there.

    Its memory is bounded: it keeps the last 200 events and 100 failures. The page asks for news
    twice a second. If more events pass than it can show, it leaves some out and tells how many. No
    request stays open in between, so a server that shuts down need not wait.

    Args:
        engine: the engine; or a bus, which has no components.
        token: what others must give to look, 16 or more letters, digits, and `-._~`; None for this
            machine alone.
        causes: whether each failure is shown with the events that led to it, for which an
            instrument watches every publish (I2).

    Raises:
        TypeError: `engine` is neither an engine nor a bus, or `token` is no str.
        ValueError: a token that is too short, or has other characters.

    Example:
        >>> from flexiflow import Engine
        >>> from flexiflow.extras.monitor import Monitor
        >>> from starlette.applications import Starlette
        >>> from starlette.routing import Mount
        >>> monitor = Monitor(Engine())
        >>> app = Starlette(routes=[Mount("/monitor", monitor)])
        >>> print([route.path for route in app.routes])
        ['/monitor']
    """

    def __init__(
        self, engine: Engine | EventBus, *, token: str | None = None, causes: bool = False
    ) -> None:
        if not isinstance(engine, (Engine, EventBus)):
            raise TypeError(f"a monitor shows an Engine or an EventBus, not {reprlib.repr(engine)}")
        _check_token(token)
        self._bus = engine if isinstance(engine, EventBus) else engine.bus
        self._components: Mapping[str, Component] = (
            {} if isinstance(engine, EventBus) else engine.components
        )
        self._access = Access(token)
        self._watches = Watches(_MOST_NAMES)
        self._chains = Chains()
        self._has_causes = causes
        self._failures = Failures(self._chains)
        self._is_observing = False
        self._id = secrets.token_hex(4)
        self._looks = 0
        self._passing: Passing | None = None
        self._app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/monitor.css", self._style),
                Route("/monitor.js", self._script),
                Route("/now", self._now),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI describes it."""
        await self._observe()
        await self._app(scope, receive, send)

    async def watch_failures(self) -> None:
        """Keep failures from now on, not only from the first request on."""
        await self._observe()

    def watch(self, name: str, it: Counted, /) -> Watch:
        """Show the statistics of a stream, a background or a bridge, until the watch is closed.

        Args:
            name: the name under which it is shown.
            it: a stream, a background or a bridge.

        Returns:
            The watch, also a context manager.

        Raises:
            TypeError: it is none of these, or the name is no str.
        """
        return self._watches.add(name, it)

    async def _observe(self) -> None:
        if not self._is_observing:
            self._is_observing = True
            try:
                await self._bus.subscribe(HANDLER_FAILED, OWNER, self._failures.hear, priority=1)
            except BaseException:
                # The browser has gone, and its request was cancelled; the next one begins again.
                self._is_observing = False
                raise
            if self._has_causes:
                self._bus.add_instrument(self._chains)

    async def _page(self, request: Request) -> Response:
        return self._access.refusal(request) or _file("monitor.html", "text/html")

    async def _style(self, request: Request) -> Response:
        return self._access.refusal(request) or _file("monitor.css", "text/css")

    async def _script(self, request: Request) -> Response:
        return self._access.refusal(request) or _file("monitor.js", "text/javascript")

    async def _now(self, request: Request) -> Response:
        """Return what there is to be seen, and what has happened since the page asked last."""
        refusal = self._access.refusal(request)
        if refusal is not None:
            return refusal
        passing = await self._look()
        # A page may have seen an earlier look, or be older than this process.
        is_ours = request.query_params.get("monitor") == self._id
        has_looked = is_ours and request.query_params.get("look") == str(passing.look)
        seen = _number(request, "seen") if has_looked else passing.count
        failed = _number(request, "failed") if is_ours else 0
        events = list(passing.since(seen))
        news = {
            "time": time(),
            "monitor": self._id,
            "look": passing.look,
            "published": passing.count,
            "missed": max(passing.count - seen - len(events), 0),
            "events": events,
            "failed": self._failures.count,
            "failures": self._failures.since(failed),
            "states": states_of(self._components, _MOST_KINDS),
            "limits": self._limits(),
            "watched": [
                (each.kind.name, each.label, dict(each.numbers)) for each in self._watches.totals()
            ],
        }
        return JSONResponse(news, headers=_HEADERS)

    async def _look(self) -> Passing:
        """Return what keeps events; it is subscribed if nobody has looked lately."""
        passing = self._passing
        if passing is None or passing.has_ended:
            self._looks += 1
            passing = self._passing = Passing(self._looks, _MOST_EVENTS)
            try:
                await passing.begin(self._bus, _PATIENCE)
            except BaseException:
                self._passing = None
                raise
        passing.look_on(_PATIENCE)
        return passing

    def _limits(self) -> list[tuple[str, str, int, int, int]]:
        """Return event, owner, running calls, waiting calls and limit of limited handlers."""
        found: list[tuple[str, str, int, int, int]] = []
        for each in dispatcher_of(self._bus).registry:
            limiter = limiter_of(each)
            if limiter is None:
                continue
            event, owner = (printable(shorten(n)) for n in (each.event_name, each.component_name))
            fill = len(limiter.holders), limiter.waiting, limiter.limit
            found.append((event, owner, *fill))
            if len(found) == _MOST_LIMITS:
                break
        return found


def _file(name: str, kind: str) -> Response:
    content = files("flexiflow.extras._monitor").joinpath(name).read_text(encoding="utf-8")
    return HTMLResponse(content, headers={**_HEADERS, "Content-Type": f"{kind}; charset=utf-8"})


def _number(request: Request, name: str) -> int:
    given = request.query_params.get(name, "")
    is_number = given.isascii() and given.isdecimal() and len(given) < _MOST_DIGITS
    return int(given) if is_number else 0


def _check_token(token: str | None) -> None:
    if token is None:
        return
    if not isinstance(token, str):
        raise TypeError(f"token must be a str, not {type(token).__qualname__}")
    if _TOKEN.fullmatch(token) is None:
        raise ValueError(
            "token must have 16 or more letters, digits, and -._~, as secrets.token_urlsafe() makes"
        )
