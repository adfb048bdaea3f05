"""The Lua scripts that a server runs; those here do all that is done to a partition."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_FOLDER: Final[Traversable] = files("flexiflow.extras.durable._redis").joinpath("lua")


def digest_of(data: bytes) -> str:
    """Return the SHA-1 of data, by which Redis names scripts; it is not for security."""
    return sha1(data, usedforsecurity=False).hexdigest()


@final
class Script:
    """A script, and the digest by which a server remembers it.

    Args:
        name: the name of its file.
        parts: the names of files that come before it, besides `common`.
        folder: where the files are.

    Attributes:
        source: the text, sent to a server that does not know the script.
        digest: the digest of the text, sent to a server that does.
        is_guarded: whether its first argument is the epoch that is known, and it refuses another
            one (X13).
    """

    __slots__ = ("digest", "is_guarded", "source")

    def __init__(self, name: str, *parts: str, folder: Traversable = _FOLDER) -> None:
        files = (folder.joinpath(f"{each}.lua") for each in ("common", *parts, name))
        self.source = b"".join(each.read_bytes() for each in files)
        self.is_guarded = "guard" in parts
        self.digest = digest_of(self.source).encode()


ACKNOWLEDGE: Final = Script("acknowledge")
ACQUIRE: Final = Script("acquire", "guard", "more", "waits")
CHECK: Final = Script("check", "more")
DEAD: Final = Script("dead")
FORGET: Final = Script("forget", "more", "waits")
GIVE: Final = Script("give")
GIVE_ALL: Final = Script("give_all", "more", "sizes", "waits")
GROUPS: Final = Script("groups")
JOIN: Final = Script("join", "guard", "more")
LEAVE: Final = Script("leave", "more")
LETTERS: Final = Script("letters")
PATTERNS: Final = Script("patterns", "guard", "more")
REDRIVE: Final = Script("redrive")
RELEASE: Final = Script("release", "more", "waits")
RENEW: Final = Script("renew", "more", "waits")
SETTLE: Final = Script("settle", "more", "waits")
STANDING: Final = Script("standing", "guard", "more", "waits")
STORE: Final = Script("store", "guard")
TAIL: Final = Script("tail", "more", "sizes")
