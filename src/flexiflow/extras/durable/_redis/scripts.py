"""The Lua scripts of the transport: all that is done to a partition is done by one of them."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from flexiflow.extras._redis.script import Script

_FOLDER: Final = files("flexiflow.extras.durable._redis").joinpath("lua")

ACKNOWLEDGE: Final = Script(_FOLDER, "acknowledge")
ACQUIRE: Final = Script(_FOLDER, "acquire", "guard", "more", "waits")
CHECK: Final = Script(_FOLDER, "check", "more")
DEAD: Final = Script(_FOLDER, "dead")
FORGET: Final = Script(_FOLDER, "forget", "more", "waits")
GIVE: Final = Script(_FOLDER, "give")
GIVE_ALL: Final = Script(_FOLDER, "give_all", "more", "sizes", "waits")
GROUPS: Final = Script(_FOLDER, "groups")
JOIN: Final = Script(_FOLDER, "join", "guard", "more")
LEAVE: Final = Script(_FOLDER, "leave", "more")
LETTERS: Final = Script(_FOLDER, "letters")
PATTERNS: Final = Script(_FOLDER, "patterns", "guard", "more")
REDRIVE: Final = Script(_FOLDER, "redrive")
RELEASE: Final = Script(_FOLDER, "release", "more", "waits")
RENEW: Final = Script(_FOLDER, "renew", "more", "waits")
SETTLE: Final = Script(_FOLDER, "settle", "more", "waits")
STANDING: Final = Script(_FOLDER, "standing", "guard", "more", "waits")
STORE: Final = Script(_FOLDER, "store", "guard")
TAIL: Final = Script(_FOLDER, "tail", "more", "sizes")
