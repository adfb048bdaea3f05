"""Lua scripts that a server runs."""

from __future__ import annotations

from hashlib import sha1
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def digest_of(data: bytes) -> str:
    """Return the SHA-1 of data, by which Redis names scripts; it is not for security."""
    return sha1(data, usedforsecurity=False).hexdigest()


@final
class Script:
    """A script, and the digest by which a server remembers it.

    Args:
        folder: where the files are.
        name: the name of its file.
        parts: the names of files that come before it, besides `common`.

    Attributes:
        source: the text, sent to a server that does not know the script.
        digest: the digest of the text, sent to a server that does.
        is_guarded: whether its first argument is the epoch that is known, and it refuses another
            one (X13).
    """

    __slots__ = ("digest", "is_guarded", "source")

    def __init__(self, folder: Traversable, name: str, *parts: str) -> None:
        files = (folder.joinpath(f"{each}.lua") for each in ("common", *parts, name))
        self.source = b"".join(each.read_bytes() for each in files)
        self.is_guarded = "guard" in parts
        self.digest = digest_of(self.source).encode()
