"""The scripts that the server runs: all that is done to a partition is done in one of them."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_FOLDER: Final[Traversable] = files("flexiflow.extras.durable").joinpath("_redis_lua")
_COMMON: Final = _FOLDER.joinpath("common.lua").read_text("utf-8")


@final
class Script:
    """A script, and the name by which a server remembers it.

    Args:
        name: the name of its file.

    Attributes:
        source: what a server is sent that does not know it.
        digest: what one is sent that does.
    """

    __slots__ = ("digest", "source")

    def __init__(self, name: str) -> None:
        source = _COMMON + _FOLDER.joinpath(f"{name}.lua").read_text("utf-8")
        self.source = source.encode()
        # Redis names its scripts so; nothing is kept secret by it.
        self.digest = sha1(self.source, usedforsecurity=False).hexdigest().encode()


ACQUIRE: Final = Script("acquire")
DEAD: Final = Script("dead")
FORGET: Final = Script("forget")
FOUND: Final = Script("found")
GIVE: Final = Script("give")
GROUPS: Final = Script("groups")
JOIN: Final = Script("join")
LAYOUT: Final = Script("layout")
LEAVE: Final = Script("leave")
REDRIVE: Final = Script("redrive")
RELEASE: Final = Script("release")
RENEW: Final = Script("renew")
SETTLE: Final = Script("settle")
STANDING: Final = Script("standing")
STORE: Final = Script("store")
TAIL: Final = Script("tail")
