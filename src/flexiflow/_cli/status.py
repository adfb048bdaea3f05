"""`flexiflow status`: show what is going on in a transport, once or as it changes (Y6)."""

from __future__ import annotations

import signal
import sys
from contextlib import nullcontext
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Final

import anyio

from flexiflow._cli.columns import as_cell
from flexiflow._cli.connecting import looked_up, use
from flexiflow._cli.display import Plain
from flexiflow._cli.encoding import encode
from flexiflow._cli.screen import open_screen
from flexiflow._cli.session import report_writing_failure
from flexiflow._cli.survey import Line, as_json, as_lines
from flexiflow.extras.durable import TransportUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexiflow._cli.screen import Screen
    from flexiflow._cli.writer import Writer
    from flexiflow.extras.durable import Connection, Survey

_WIDEST: Final = 500

# Windows does not tell when a terminal is resized.
_RESIZED: Final = tuple(each for each in signal.Signals if each.name == "SIGWINCH")


def show_status(url: str, *, as_object: bool, is_once: bool, seconds: float) -> int:
    """Show what is going on in a transport.

    Args:
        url: names the transport.
        as_object: whether to write one JSON object.
        is_once: whether to write it once, also on a terminal.
        seconds: after how many seconds the view on a terminal is renewed.

    Returns:
        The exit status (L5).
    """

    async def act(connection: Connection, writer: Writer) -> int:
        # Before there is something to show, the terminal is left as it is.
        survey = await _survey(connection)
        try:
            with nullcontext() if as_object or is_once else open_screen() as screen:
                if screen is not None:
                    await _watch(connection, screen, survey, seconds)
                    return 0
        except OSError as exc:  # of the terminal: `_watch` lets none of the transport through
            return report_writing_failure(exc, Plain(sys.stderr).tell)
        show = _as_object if as_object else _as_tables
        writer.add(show(survey, connection.address))
        return 0

    return use(url, act)


def _as_object(survey: Survey, address: str) -> str:
    return f"{encode(as_json(survey, address))}\n"


def _as_tables(survey: Survey, address: str) -> str:
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    width = get_terminal_size().columns if is_terminal else None
    return "".join(f"{line.text}\n" for line in as_lines(survey, address, width=width))


async def _survey(connection: Connection) -> Survey:
    return await looked_up(connection.address, connection.survey())


async def _watch(connection: Connection, screen: Screen, survey: Survey, seconds: float) -> None:
    """Show surveys until SIGTERM comes; while the transport is away, the last one."""
    trouble: list[Line] = []
    with anyio.open_signal_receiver(signal.SIGTERM, *_RESIZED) as signals:
        while True:
            with anyio.move_on_after(seconds):
                while True:
                    _draw(screen, survey, connection.address, trouble)
                    if await anext(signals) == signal.SIGTERM:
                        return
            try:
                survey, trouble = await _survey(connection), []
            except TransportUnavailable as exc:
                trouble = [Line(as_cell(f"what follows is old: {exc}", _WIDEST), "bold red")]


def _draw(screen: Screen, survey: Survey, address: str, trouble: Sequence[Line]) -> None:
    width, height = screen.size
    lines = as_lines(survey, address, width=width, height=height - len(trouble))
    screen.show([*trouble, *lines])
