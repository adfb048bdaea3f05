"""The help of each command of `flexiflow`, as the command prints it.

The documentation's build shows it on the page `docs/command_line.md`, which so can't be out of
date; `python -m tools.command_line` prints the same.
"""

import io
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from unittest.mock import patch

from flexiflow._cli.commands import run_command_line

_COMMANDS = "\nCommands:\n"
_COMMAND = re.compile(r"^  (\w+) ", re.MULTILINE)


def show_help(*command: str) -> str:
    """Return what a command prints when it is asked for help, on a terminal of 80 columns."""
    printed = io.StringIO()
    with (
        patch.object(sys, "argv", ["flexiflow", *command, "--help"]),
        patch.dict("os.environ", COLUMNS="80"),
        redirect_stdout(printed),
    ):
        run_command_line()
    return printed.getvalue()


def find_commands(*above: str) -> Iterator[tuple[str, ...]]:
    """Yield the words that call each command; a group of commands comes before those in it."""
    _, _, listed = show_help(*above).partition(_COMMANDS)
    for name in _COMMAND.findall(listed):
        command = (*above, name)
        yield command
        yield from find_commands(*command)


def make_list() -> str:
    """Return Markdown: a section for each command, with what it prints for `--help`."""
    sections = (
        f"{'#' * (len(command) + 2)} `{' '.join(command)}`\n\n"
        f"```text\n{show_help(*command).strip()}\n```\n"
        for command in find_commands()
    )
    return "\n".join(sections)


if __name__ == "__main__":
    sys.stdout.write(make_list())
