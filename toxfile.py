"""Shows tox the interpreters that pyenv keeps, and the uv that is installed beside tox."""

import os
import sys
from pathlib import Path

PYENV = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()

# An interpreter that is not chosen is not on the path.
os.environ.setdefault(
    "TOX_DISCOVER", ";".join(map(str, sorted(PYENV.glob("versions/3.1[1-9].*/bin/python"))))
)
os.environ["PATH"] += os.pathsep + str(Path(sys.executable).parent)
