"""The commands `run` and `graph` with their arguments, and the group of all commands.

`run_command_line` runs them, and turns every way in which one can end into an exit status (L5).
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from errno import EBADF
from typing import TYPE_CHECKING, Any, Final

import anyio
import click

from flexiflow._cli.arguments import check_backend, check_patterns, complete_file
from flexiflow._cli.display import INTERRUPTED, Plain
from flexiflow._cli.durable_commands import DURABLE_COMMANDS
from flexiflow._cli.graph import as_mermaid, as_svg, look_at
from flexiflow._cli.looking_commands import LOOKING_COMMANDS
from flexiflow._cli.observing import matching
from flexiflow._cli.output import write
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.session import Options, report_writing_failure, run
from flexiflow._cli.target import build, load
from flexiflow._cli.text import show_exception, show_message
from flexiflow._cli.verify import BACKENDS
from flexiflow._cli.verify_command import verify_command

if TYPE_CHECKING:
    from flexiflow._cli.graph import Graph

CANNOT_RUN: Final = 2
"""The exit status if nothing could be run (L5)."""


def run_command_line() -> int:
    """Run the command that the process's arguments name, and return the exit status.

    Why something can't be run is written to standard error, on one line (L5). If a target ends the
    process with an exception, that is shown as Python shows it, but with all control characters
    escaped.
    """
    try:
        status: int = _flexiflow.main(prog_name="flexiflow", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as exc:
        return _refuse(exc.format_message())
    except CannotRun as exc:
        return _refuse(exc.reason, exc.traceback)
    except SystemExit as exc:
        return _leave(exc)
    except BaseException:
        sys.excepthook = _tell_end
        raise
    return status


def _refuse(reason: str, traceback: str = "") -> int:
    tell = Plain(sys.stderr).tell
    tell(f"flexiflow: {reason}")
    for line in traceback.splitlines():
        tell(f"  {line}")
    return CANNOT_RUN


def _tell_end(_kind: object, exception: BaseException, _traceback: object) -> None:
    """Show the exception that ends the process; a `sys.excepthook` that escapes what it shows."""
    Plain(sys.stderr).tell(f"flexiflow: ended by {show_exception(exception)}", exception)


def _leave(ending: SystemExit) -> int:
    """Return the status with which a target ends the process; show a text, as `sys.exit` does."""
    if ending.code is None or isinstance(ending.code, int):
        return ending.code or 0
    Plain(sys.stderr).tell(show_message(ending))
    return 1


# In click's help, \b keeps the lines of a paragraph as they are.
_RUN_HELP = """\
Feed INPUT, line by line, to the engine that TARGET names, and show the built-in events.

INPUT is a file of JSON Lines, gzipped if its name ends in .gz, or - for standard input. Each
line sends a message or publishes an event:

\b
{"component": "order-7", "message": {"type": "confirm"}}
{"event": "order.placed", "data": {"item": "lamp"}}

With --store, components go on where they stopped: each transition is stored when its line is done,
and a component that is stored is loaded by its first message, or when its time comes. Timers and
work of states run as long as the input lasts. At its end, what was due when the run began and all
messages in line are still handled, then work is cancelled. Timers that are left, and states whose
work did not end, stay in the store for the next run; without a store they are gone.

\b
--store is one of
  sqlite:state.db  sqlite:///absolute/path.db
  redis://[user:password@]host[:port][/database]  rediss://...
  memory:          for this run only

Standard output gets the events, as JSON Lines or as a tree; standard error what could not be done,
and a summary of what was. In it, messages are the lines that sent one, and transitions and ignored
say what became of them; messages that components send each other are not counted.

\b
Exit status:
  0    all well, or the reader of the output has closed it
  1    a line was rejected, something failed, the input broke off, or
       output could not be written
  2    the command, the target, the store or the input can't be used
  130  Ctrl-C
"""


@click.group(no_args_is_help=False)
@click.version_option(package_name="flexiflow", message="%(prog)s %(version)s")
def _flexiflow() -> None:
    """Run the components of a FlexiFlow engine on a log of messages, or as a worker; or draw them.

    TARGET is package.module:name or path/to/file.py:name, an Engine or a function, sync or async,
    that returns one. The current directory is on the import path, and so is the file's folder.
    """


@_flexiflow.command("run", help=_RUN_HELP)
@click.argument("target", shell_complete=complete_file)
@click.argument("input", default="-", shell_complete=complete_file)
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default="asyncio",
    show_default=True,
    callback=check_backend,
    help="The event loop that it runs on.",
)
@click.option(
    "--store",
    metavar="URL",
    help="Keep the states of the components there; see above.",
)
@click.option(
    "--delivery",
    type=click.Choice(["sequential", "concurrent", "tiered"]),
    help="How lines publish events, instead of the bus's own way.",
)
@click.option(
    "--on-error",
    type=click.Choice(["continue", "raise"]),
    help="What a failure of such an event does, instead of the bus's own way.",
)
@click.option(
    "--events",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    callback=check_patterns,
    help="Show only the events that match, like 'state.*'; may be given several times.",
)
@click.option(
    "--trace",
    "as_tree",
    is_flag=True,
    help="Show every event, not only the built-in ones, as a tree: each under its cause.",
)
@click.option("--quiet", is_flag=True, help="Show no events.")
@click.option(
    "--unheard", is_flag=True, help="List the names of events that nobody heard, after the run."
)
@click.option(
    "--report",
    metavar="FILE",
    shell_complete=complete_file,
    help="Write a page about the run: states, rates, handlers, causes of failures.",
)
@click.option(
    "--monitor",
    metavar="PORT",
    help="Show the run in a browser while it lasts; or HOST:PORT, which takes a token.",
)
@click.option("--verbose", is_flag=True, help="Show the traceback of each failure.")
def _run(*, patterns: tuple[str, ...], as_tree: bool, quiet: bool, **options: Any) -> int:
    """Run an engine on an input."""
    wanted = () if quiet else patterns or ("**",)
    shown = () if as_tree or quiet else tuple(matching(wanted))
    return run(Options(shown=shown, traced=wanted if as_tree else (), **options))


@_flexiflow.command("graph")
@click.argument("target", shell_complete=complete_file)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--format",
    "form",
    type=click.Choice(["mermaid", "svg"]),
    default="mermaid",
    show_default=True,
    help="Markdown with Mermaid diagrams, or one SVG, which needs the extra report.",
)
def _graph(target: str, names: tuple[str, ...], form: str) -> int:
    """Draw the engine that TARGET names, or only the components with these NAMEs.

    First the components, with the events and queries that reach them, then each state machine; its
    arrows say trigger [guard] / action. In a NAME, * stands for any text. If no component that is
    registered has the name, the engine's factory makes one: for 'order-*' it makes order-1.
    """
    with redirect_stdout(sys.stderr):
        graph = anyio.run(_look_at, target, load(target), names)
    tell = Plain(sys.stderr).tell
    if sys.stdout is None:
        return report_writing_failure(OSError(EBADF, "standard output is closed"), tell)
    try:
        write(sys.stdout, as_svg(graph) if form == "svg" else as_mermaid(graph))
    except OSError as exc:
        return report_writing_failure(exc, tell)
    return 0


async def _look_at(target: str, found: object, names: tuple[str, ...]) -> Graph:
    return await look_at(await build(target, found), names, target)


for _command in (*DURABLE_COMMANDS, *LOOKING_COMMANDS, verify_command):
    _flexiflow.add_command(_command)
