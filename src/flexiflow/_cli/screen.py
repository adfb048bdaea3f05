"""A whole terminal that shows something that changes, with rich."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

from flexiflow._cli.output import as_ascii

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from rich.live import Live

    from flexiflow._cli.survey import Line


@contextmanager
def open_screen() -> Generator[Screen | None]:
    """Yield a screen, or None if standard output is no terminal, or rich is not installed."""
    live = _make_live() if sys.stdout is not None and sys.stdout.isatty() else None
    if live is None:
        yield None
        return
    with live:
        yield Screen(live)


@final
class Screen:
    """A terminal, whose contents come back at the end.

    Args:
        live: shows on it.
    """

    def __init__(self, live: Live) -> None:
        self._live = live

    @property
    def size(self) -> tuple[int, int]:
        """How many columns and lines it has now."""
        return self._live.console.size

    def show(self, lines: Iterable[Line]) -> None:
        """Show these lines, and nothing else.

        Raises:
            OSError: the terminal is gone.
        """
        from rich.text import Text  # noqa: PLC0415

        shown = Text(no_wrap=True, overflow="crop")
        for number, line in enumerate(lines):
            shown.append("\n" * bool(number)).append(as_ascii(line.text), line.style)
        self._live.update(shown, refresh=True)


def _make_live() -> Live | None:
    # Imported only here: importing rich takes longer than importing most of the rest together.
    try:
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415
    except ImportError:
        return None
    console = Console()
    if console.is_dumb_terminal:
        return None
    return Live(
        console=console,
        screen=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
