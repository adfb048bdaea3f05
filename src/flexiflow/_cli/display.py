"""What is shown on standard error: reports, the live line, and the summary (L4, L5)."""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol, TextIO, final

from flexiflow._cli.output import report, write

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.live import Live

INTERRUPTED: Final = 130
"""The exit status after Ctrl-C, as in shells (L5)."""

_STYLES: Final = {0: "green", INTERRUPTED: "yellow"}


class Display(Protocol):
    """Shows on standard error what does not belong to the output."""

    def tell(self, text: str, exception: BaseException | None = None) -> None:
        """Show a text on one line, and the traceback of an exception below it."""
        ...

    def sum_up(self, text: str, status: int, /) -> None:
        """Show the last words on one line, green or red by the exit status where there are colors.

        Args:
            text: the counts.
            status: green if 0; red otherwise, but yellow after Ctrl-C.
        """
        ...

    def update(self, progress: str) -> None:
        """Show the progress in the live line, in place of the progress shown before."""
        ...

    def make_way(self) -> None:
        """Remove the live line, so that something else can be written to the terminal."""
        ...


@contextmanager
def open_display() -> Generator[Display]:
    """Yield a display: with a live line if standard error is a terminal and rich is installed."""
    stream: TextIO | None = sys.stderr
    live = _make_live() if stream is not None and stream.isatty() else None
    if live is None:
        yield Plain(stream)
        return
    display = _OnTerminal(live)
    try:
        yield display
    finally:
        display.make_way()


@final
class Plain:
    """A display without a live line; what can't be written is lost.

    Args:
        stream: standard error, or None if it is closed.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def tell(self, text: str, exception: BaseException | None = None) -> None:
        """Write a text on one line, and the traceback of an exception below it."""
        if self._stream is not None:
            with suppress(OSError):
                write(self._stream, report(text, exception))

    def sum_up(self, text: str, _status: int, /) -> None:
        """Write a text on one line; a plain stream has no colors."""
        self.tell(text)

    def update(self, progress: str) -> None:
        """Do nothing: a plain stream can't replace a line."""

    def make_way(self) -> None:
        """Do nothing: there is no live line."""


@final
class _OnTerminal:
    """A display on a terminal, with a live line below all other texts."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def tell(self, text: str, exception: BaseException | None = None) -> None:
        self._print(report(text, exception))

    def sum_up(self, text: str, status: int, /) -> None:
        self._print(report(text), _STYLES.get(status, "red"))

    def _print(self, shown: str, style: str = "") -> None:
        with suppress(OSError):
            # Without colors where TERM or NO_COLOR says so: rich looks at both.
            self._live.console.print(
                shown, style=style, markup=False, emoji=False, highlight=False, soft_wrap=True
            )

    def update(self, progress: str) -> None:
        with suppress(OSError):
            self._live.start()
            line = self._live.console.render_str(
                report(progress), markup=False, emoji=False, highlight=False
            )
            self._live.update(line, refresh=True)

    def make_way(self) -> None:
        with suppress(OSError):
            self._live.stop()


def _make_live() -> Live | None:
    # Imported only here: importing rich takes longer than importing most of the rest together.
    try:
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415
    except ImportError:
        return None
    return Live(
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
