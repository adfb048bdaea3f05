"""The Lua scripts of the store."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from flexiflow.extras._redis.script import Script

_FOLDER: Final = files("flexiflow.extras.stores._redis").joinpath("lua")

DELETE: Final = Script(_FOLDER, "delete")
LOAD: Final = Script(_FOLDER, "load")
SAVE: Final = Script(_FOLDER, "save")
VERSIONS: Final = Script(_FOLDER, "versions")
