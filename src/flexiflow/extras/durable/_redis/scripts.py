"""The Lua scripts of the transport: all that is done to a partition is done by one of them."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from flexiflow.extras._redis.script import Script

_FOLDER: Final = files("flexiflow.extras.durable._redis").joinpath("lua")

ACKNOWLEDGE: Final = Script(_FOLDER, "acknowledge")
ACQUIRE: Final = Script(_FOLDER, "acquire", "guard", "more", "waits", "dropping")
CANCEL: Final = Script(_FOLDER, "cancel", "guard", "due")
CHECK: Final = Script(_FOLDER, "check", "more")
DEAD: Final = Script(_FOLDER, "dead")
DISCARD: Final = Script(_FOLDER, "discard")
DROP: Final = Script(_FOLDER, "drop", "more", "waits", "dropping")
FORGET: Final = Script(_FOLDER, "forget", "more", "waits", "dropping")
GIVE: Final = Script(_FOLDER, "give", "due")
GIVE_ALL: Final = Script(_FOLDER, "give_all", "more", "sizes", "waits", "due")
GROUPS: Final = Script(_FOLDER, "groups")
JOIN: Final = Script(_FOLDER, "join", "guard", "more", "due", "starts")
LEAVE: Final = Script(_FOLDER, "leave", "more")
LETTERS: Final = Script(_FOLDER, "letters")
MEMBERS: Final = Script(_FOLDER, "members")
PATTERNS: Final = Script(_FOLDER, "patterns", "guard", "more", "due", "starts")
PRODUCED: Final = Script(_FOLDER, "produced")
REDRIVE: Final = Script(_FOLDER, "redrive", "more", "waits", "dropping", "due")
RELEASE: Final = Script(_FOLDER, "release", "more", "waits")
RENEW: Final = Script(_FOLDER, "renew", "more", "waits")
REPLAY: Final = Script(_FOLDER, "replay", "guard", "more", "waits", "dropping", "due", "starts")
SCHEDULE: Final = Script(_FOLDER, "schedule", "guard", "more", "due")
SCHEDULED: Final = Script(_FOLDER, "scheduled", "due")
SETTLE: Final = Script(_FOLDER, "settle", "more", "waits")
STANDING: Final = Script(_FOLDER, "standing", "guard", "more", "waits", "dropping", "due")
START: Final = Script(_FOLDER, "start", "guard", "more", "due", "starts")
STORE: Final = Script(_FOLDER, "store", "guard", "due")
SURVEY: Final = Script(_FOLDER, "survey", "due")
TAIL: Final = Script(_FOLDER, "tail", "more", "sizes", "due")
TICKETS: Final = Script(_FOLDER, "tickets", "due")
