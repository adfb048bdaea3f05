"""The page that `flexiflow run --report` writes (L7)."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, final

from flexiflow._cli.observing import WATCHERS
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.text import one_line, show_exception
from flexiflow.extras._pictures.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flexiflow import Engine

_NEEDED: Final = ("pygal", "pygraphviz")
_START: Final = b"<!DOCTYPE html>"
"""What each page begins with."""


@final
class Report:
    """A page to be written after a run, once it was watched.

    Args:
        path: the file.
        title: what is run.

    Raises:
        CannotRun: a library is missing, there can be no such file, or something else is in it.
    """

    _recorder: Recorder
    _pipe: int | None

    def __init__(self, path: str, title: str) -> None:
        missing = [each for each in _NEEDED if find_spec(each) is None]
        if missing:
            raise CannotRun(
                f"--report needs {', '.join(missing)}: run pip install 'flexiflow[report]'"
            )
        self._path = Path(path)
        self._title = title
        if self._path.is_dir() or not self._path.parent.is_dir():
            raise CannotRun(
                f"the report can't be written to {one_line(path)}: a file in a folder that exists "
                "would be right"
            )
        if self._path.is_file() and not _is_replaceable(self._path):
            raise CannotRun(
                f"the report would replace {one_line(path)}, which is not a report: another name "
                "would be right"
            )
        self._pipe = _opened_pipe(path) if self._path.is_fifo() else None

    def watch(
        self, engine: Engine, place: Callable[[], int]
    ) -> list[tuple[str, Callable[[Any], None]]]:
        """Watch an engine from now on.

        Args:
            engine: the engine.
            place: returns the number of the input's line in hand; 0 for none.

        Returns:
            What the engine's bus is to be observed by, by events.
        """
        self._recorder = Recorder(engine, watchers=WATCHERS, place=place)
        return self._recorder.begin()

    def fail_message(self, component: str, exception: Exception) -> None:
        """Count a failure of a message that a line has sent."""
        self._recorder.fail_message(component, exception)

    def save(self, summary: Mapping[str, str], tell: Callable[[str], object]) -> bool:
        """Write the page, and return whether all went well.

        Args:
            summary: the numbers at the top, by their names.
            tell: called with the reason, as text, if the page can't be written.
        """
        # Imported only here: most runs need no pictures.
        from flexiflow.extras._pictures.page import make_page  # noqa: PLC0415

        page = make_page(self._recorder, title=self._title, summary=summary)
        try:
            with self._opened() as file:
                file.write(page)
        except OSError as exc:
            tell(f"flexiflow: the report can't be written: {show_exception(exc)}")
            return False
        return True

    def _opened(self) -> TextIO:
        if self._pipe is None:
            return self._path.open("w", encoding="utf-8")
        return os.fdopen(self._pipe, "w", encoding="utf-8")


def _opened_pipe(path: str) -> int:
    """Return the descriptor of a named pipe.

    It is opened before the run, since after it `open` would wait for a reader without limit.
    """
    try:
        opened = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as exc:
        raise CannotRun(
            f"the report can't be written to {one_line(path)}: a pipe that somebody reads already "
            "would be right"
        ) from exc
    os.set_blocking(opened, True)
    return opened


def _is_replaceable(path: Path) -> bool:
    """Return whether a file is empty or a page; by a slip, the input or a store may be named."""
    try:
        with path.open("rb") as file:
            return file.read(len(_START)) in (b"", _START)
    except OSError:
        return False
