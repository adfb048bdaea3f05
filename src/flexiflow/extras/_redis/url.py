"""The URL of a Redis server, no message about which shows its password, and prefixes of keys."""

from __future__ import annotations

import re
import reprlib
from typing import Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

_SHAPE: Final = "redis://[user:password@]host[:port][/database], or rediss:// for TLS"
_PORT: Final = 6379
_PREFIX: Final = re.compile(r"[A-Za-z0-9._:-]+")


class Server(NamedTuple):
    """Where a server is, and how to log in.

    Attributes:
        host: its name or address.
        port: its port.
        database: the number of the database.
        username: the user, or None.
        password: the password, or None.
        is_encrypted: whether to use TLS.
    """

    host: str
    port: int
    database: int
    username: str | None
    password: str | None
    is_encrypted: bool

    @property
    def address(self) -> str:
        """The URL without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "rediss" if self.is_encrypted else "redis"
        return f"{scheme}://{host}:{self.port}/{self.database}"

    def at(self, host: str, port: int) -> Server:
        """Return another node of its cluster, with the same database, user and password."""
        return self._replace(host=host, port=port)


def parse_url(url: object) -> Server:
    """Return the server that a URL names.

    Raises:
        TypeError: it is no str.
        ValueError: it is no URL of a Redis server.
    """
    if not isinstance(url, str):
        raise TypeError(f"the URL must be a str as {_SHAPE}, not {type(url).__name__}")
    try:
        found = urlsplit(url)
        port = found.port if found.port is not None else _PORT
    except ValueError:
        # The message of this error may show the password, if a character in it is not escaped.
        found, port = SplitResult("", "", "", "", ""), 0
    if found.scheme not in {"redis", "rediss"} or not found.hostname or not port:
        raise _invalid("it has no host, or no valid port, or another scheme")
    # An @ in the path means that the password has a slash, where the URL was cut.
    if found.query or found.fragment or "@" in found.path:
        raise _invalid("it has a query or a fragment; a password's ?, # and / must be escaped")
    return Server(
        unquote(found.hostname),
        port,
        _database(found.path),
        unquote(found.username) if found.username else None,
        unquote(found.password) if found.password else None,
        found.scheme == "rediss",
    )


def _database(path: str) -> int:
    number = path.removeprefix("/") or "0"
    if not (number.isascii() and number.isdigit()):
        raise _invalid(f"its database is {reprlib.repr(number)}, no number")
    return int(number)


def _invalid(reason: str) -> ValueError:
    return ValueError(f"the URL must be {_SHAPE}: {reason}")


def check_prefix(prefix: object) -> str:
    """Return what keys begin with, if it is made of the right characters."""
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise ValueError(f"prefix must be made of letters, digits and ._:-, not {prefix!r}")
    return prefix
