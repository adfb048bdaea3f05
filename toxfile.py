"""Shows tox the interpreters that pyenv keeps: one that is not chosen is not on the path."""

import os
from pathlib import Path

PYENV = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()

os.environ.setdefault(
    "TOX_DISCOVER", ";".join(map(str, sorted(PYENV.glob("versions/3.1[1-9].*/bin/python"))))
)
