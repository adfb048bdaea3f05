"""Who may look: this machine, or those who have the token."""

from __future__ import annotations

import secrets
from hashlib import sha256
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, final

from starlette.responses import PlainTextResponse, RedirectResponse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PROXIED: Final = (
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
)
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

    __slots__ = ("_cookie", "_token")

    def __init__(self, token: str | None) -> None:
        self._token = token
        # Cookies belong to a host, whatever the port; so each token has one of its own.
        self._cookie = f"flexiflow-monitor-{sha256((token or '').encode()).hexdigest()[:8]}"

    def refusal(self, request: Request) -> Response | None:
        """Return the answer to somebody who may not look; None if they may.

        A token in the address is moved into a cookie, so that it is not passed on with it.
        """
        if self._token is None:
            return None if _is_local(request) else PlainTextResponse(_REFUSED, 403)
        given = request.query_params.get("token")
        if given is not None and self._fits(given):
            answer = RedirectResponse("./", 303)
            # No path: a browser takes that of the page, which a proxy may have changed.
            answer.set_cookie(
                self._cookie,
                given,
                path=None,
                secure=request.url.scheme == "https",
                httponly=True,
                samesite="lax",
            )
            return answer
        kept = request.cookies.get(self._cookie)
        return None if kept is not None and self._fits(kept) else PlainTextResponse(_UNKNOWN, 401)

    def _fits(self, given: str) -> bool:
        return self._token is not None and secrets.compare_digest(
            given.encode(), self._token.encode()
        )


def _is_local(request: Request) -> bool:
    """Return whether a request comes from a browser of this machine, which no page has misled."""
    # A proxy on this machine passes on requests from anywhere.
    if request.client is None or any(each in request.headers for each in _PROXIED):
        return False
    try:
        address = ip_address(request.client.host)
    except ValueError:
        return False
    # A server that listens on IPv6 and IPv4 at once writes one as the other.
    address = getattr(address, "ipv4_mapped", None) or address
    # The name of another host may be made to lead here, so that its pages could read this one.
    host = request.headers.get("host", "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return address.is_loopback and name.lower() in _NAMES
