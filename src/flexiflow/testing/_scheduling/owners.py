"""Whose a file is: the user's, FlexiFlow's, or Python's and the libraries' below (P5, P7, P8)."""

from __future__ import annotations

import linecache
import sys
from functools import cache
from pathlib import Path
from typing import Final

LIBRARIES, OURS, USERS = range(3)
"""Whose code it is: that of Python and of the libraries that FlexiFlow stands on, its own, or the
user's, which includes any other library."""

_PYTHON: Final = Path(linecache.__file__).parent
_BELOW: Final = ("anyio", "coredis", "hypothesis", "outcome", "trio")


@cache
def owner_of(filename: str) -> int:
    """Return whose a file is: `LIBRARIES`, `OURS` or `USERS`."""
    path = Path(filename)
    if any(map(path.is_relative_to, _folders("flexiflow"))):
        return OURS
    is_installed = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    is_python = path.is_relative_to(_PYTHON) and not is_installed
    is_below = any(map(path.is_relative_to, _folders(*_BELOW)))
    return LIBRARIES if is_python or is_below or filename.startswith("<frozen ") else USERS


def bases_of_others() -> list[Path]:
    """Return the folders in which all that is not the user's lies."""
    return [*(folder.parent for folder in _folders("flexiflow", *_BELOW)), _PYTHON]


def _folders(*packages: str) -> list[Path]:
    """Return the folders of packages, as far as they are imported."""
    modules = map(sys.modules.get, packages)
    return [Path(path) for module in modules for path in getattr(module, "__path__", ())]
