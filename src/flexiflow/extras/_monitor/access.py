"""Who may look: this machine, or those who have the token."""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, final

from starlette.responses import PlainTextResponse, RedirectResponse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_COOKIE: Final = "flexiflow-monitor"
_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PROXIED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_REFUSED: Final = (
    "This monitor shows itself to this machine alone. To look from elsewhere, or through a proxy, "
    "give it a token, as in Monitor(engine, token=...), and open its address with ?token=...\n"
)
_UNKNOWN: Final = "This monitor wants its token: open its address with ?token=...\n"


@final
class Access:
    """Decides who may look.

    Args:
        token: what others must have; None if only this machine may look.
    """

    __slots__ = ("_token",)

    def __init__(self, token: str | None) -> None:
        self._token = token

    def refusal(self, request: Request) -> Response | None:
        """Return the answer to somebody who may not look; None if they may.

        A token in the address is moved into a cookie, so that it is not passed on with it.
        """
        if self._token is None:
            return None if _is_local(request) else PlainTextResponse(_REFUSED, 403)
        given = request.query_params.get("token")
        if given is not None and self._fits(given):
            answer = RedirectResponse(request.url.remove_query_params("token").path, 303)
            answer.set_cookie(
                _COOKIE,
                given,
                path=request.url.path,
                secure=request.url.scheme == "https",
                httponly=True,
                samesite="strict",
            )
            return answer
        kept = _cookie(request)
        return None if kept is not None and self._fits(kept) else PlainTextResponse(_UNKNOWN, 401)

    def _fits(self, given: str) -> bool:
        return self._token is not None and secrets.compare_digest(
            given.encode(), self._token.encode()
        )


def _cookie(request: Request) -> str | None:
    try:
        found = SimpleCookie(request.headers.get("cookie", "")).get(_COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def _is_local(request: Request) -> bool:
    """Return whether a request comes from a browser of this machine, which no page has misled."""
    # A proxy on this machine passes on requests from anywhere.
    if request.client is None or any(each in request.headers for each in _PROXIED):
        return False
    try:
        is_from_here = ip_address(request.client.host).is_loopback
    except ValueError:
        return False
    # The name of another host may be made to lead here, so that its pages could read this one.
    host = request.headers.get("host", "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return is_from_here and name in _NAMES
