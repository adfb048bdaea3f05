"""The Lua scripts of the store."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from flexiflow.extras.durable._redis.scripts import Script

_FOLDER: Final = files("flexiflow.extras.stores._redis").joinpath("lua")

DELETE: Final = Script("delete", folder=_FOLDER)
SAVE: Final = Script("save", folder=_FOLDER)
