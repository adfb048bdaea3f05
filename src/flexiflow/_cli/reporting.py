"""The page that `flexiflow run --report` writes (L7)."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from flexiflow._cli.observing import OBSERVER
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.text import one_line
from flexiflow.extras._pictures.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flexiflow import Engine

_NEEDED: Final = ("jinja2", "pygal", "pygraphviz")


@final
class Report:
    """A page to be written after a run.

    Args:
        path: the file.
        title: what is run.

    Raises:
        CannotRun: a library is missing, or there can be no such file.
    """

    def __init__(self, path: str, title: str) -> None:
        missing = [each for each in _NEEDED if find_spec(each) is None]
        if missing:
            raise CannotRun(
                f"--report needs {', '.join(missing)}: run pip install 'flexiflow[report]'"
            )
        self._path = Path(path)
        self._title = title
        self._recorder: Recorder | None = None
        if self._path.is_dir() or not self._path.parent.is_dir():
            raise CannotRun(
                f"the report can't be written to {one_line(path)}: a file in a folder that exists "
                "would be right"
            )

    async def watch(self, engine: Engine, place: Callable[[], int]) -> None:
        """Watch an engine from now on.

        Args:
            engine: the engine.
            place: returns the number of the input's line in hand; 0 for none.
        """
        self._recorder = Recorder(engine, owner=OBSERVER, place=place)
        await self._recorder.begin()

    def fail(self, component: str, exception: Exception) -> None:
        """Count a failure that was raised to the run itself."""
        if self._recorder is not None:
            self._recorder.fail(component, exception)

    def write(self, summary: Mapping[str, str]) -> None:
        """Write the page; does nothing if nothing was watched.

        Args:
            summary: the numbers at the top, by their names.

        Raises:
            OSError: it can't be written; a file that was there is still there.
        """
        if self._recorder is None:
            return
        # Imported only here: it takes longer than all else.
        from flexiflow.extras._pictures.page import make_page  # noqa: PLC0415

        page = make_page(self._recorder, title=self._title, summary=summary)
        descriptor, draft = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  of a descriptor
                file.write(page)
            Path(draft).chmod(0o666 & ~_umask())
            Path(draft).replace(self._path)
        except BaseException:
            with suppress(OSError):
                Path(draft).unlink()
            raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
