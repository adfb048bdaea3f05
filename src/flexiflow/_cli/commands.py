"""The commands of `flexiflow` and their arguments, without those of durable delivery.

`run_command_line` runs them, and turns every way in which one can end into an exit status (L5).
"""

from __future__ import annotations

import secrets
import sys
from contextlib import redirect_stdout
from errno import EBADF
from typing import Any, Final

import anyio
import click

from flexiflow._cli.arguments import FiniteRange, check_backend, check_patterns
from flexiflow._cli.display import Plain
from flexiflow._cli.durable_commands import DURABLE_COMMANDS
from flexiflow._cli.graph import draw
from flexiflow._cli.looking_commands import LOOKING_COMMANDS
from flexiflow._cli.observing import matching
from flexiflow._cli.output import write
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.session import INTERRUPTED, Options, report_writing_failure, run
from flexiflow._cli.target import build, load
from flexiflow._cli.text import show_exception, show_message
from flexiflow._cli.verify import BACKENDS, HOOKS, verify
from flexiflow._cli.verify import Options as Verification

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
  0    all well, or who read the output has closed it
  1    a line was rejected, something failed, the input broke off, or
       output could not be written
  2    the command, the target, the store or the input can't be used
  130  Ctrl-C
"""


@click.group(no_args_is_help=False)
def _flexiflow() -> None:
    """Run the components of a FlexiFlow engine on a log of messages, or as a worker; or draw them.

    TARGET is package.module:name or path/to/file.py:name, an Engine or a function, sync or async,
    that returns one. The current directory is on the import path, and so is the file's folder.
    """


@_flexiflow.command("run", help=_RUN_HELP)
@click.argument("target")
@click.argument("input", default="-")
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default="asyncio",
    show_default=True,
    callback=check_backend,
    help="What the event loop is.",
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
@click.argument("target")
def _graph(target: str) -> int:
    """Draw the engine that TARGET names, in Markdown with Mermaid diagrams.

    First its components, with the events and queries that reach them, then each state machine.
    """
    with redirect_stdout(sys.stderr):
        engine = anyio.run(build, target, load(target))
    tell = Plain(sys.stderr).tell
    if sys.stdout is None:
        return report_writing_failure(OSError(EBADF, "standard output is closed"), tell)
    try:
        write(sys.stdout, draw(engine))
    except OSError as exc:
        return report_writing_failure(exc, tell)
    return 0


_VERIFY_HELP = """\
Try to break each clause of the contract with what TARGET makes.

TARGET is package.module:name or path/to/file.py:name, a function or a class. It makes a bus, which
is anything with the methods subscribe, unsubscribe, unsubscribe_all and publish, and may be async;
with --contract component it is called as TARGET(name, machine=machine) to make a component; and
with --contract transport it makes a transport, new and empty, or an async context manager that
gives one, and is also called with partitions= and max_length= where it takes them.

Standard output gets a table of the clauses, and for each one that is violated the smallest
program that was found to show it. A clause that needs something that is not there is "not offered",
which is a failure only if --clause names it, or with --strict. "flaky" is a violation that did not
happen each time that its program was run again.

\b
Exit status:
  0    every clause held that could be tried
  1    a clause is violated, or output could not be written
  2    the command or the target can't be used
  130  Ctrl-C
"""


@_flexiflow.command("verify", help=_VERIFY_HELP)
@click.argument("target")
@click.option(
    "--contract",
    type=click.Choice(["bus", "component", "transport"]),
    default="bus",
    show_default=True,
    help=(
        "Whose clauses to try: those of buses (B1 to A3), of components (C1 to M4), or of "
        "transports (X1 to X15)."
    ),
)
@click.option(
    "--engine",
    metavar="TARGET",
    help="What makes an engine to host the components, instead of flexiflow:Engine.",
)
@click.option(
    "--restart",
    metavar="TARGET",
    help="An async function that restarts the server behind a transport, which it is given.",
)
@click.option(
    "--damage",
    metavar="TARGET",
    help="One that deletes a record: it is given the transport, the partition and the position.",
)
@click.option(
    "--insert",
    metavar="TARGET",
    help="One that stores a body of any size: it is given the transport, the partition and that.",
)
@click.option(
    "--empty",
    metavar="TARGET",
    help="One that restarts the server behind a transport, which has lost all that was stored.",
)
@click.option(
    "--lease",
    type=FiniteRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Of how many seconds a worker's lease of a transport is in the scripts.  [default: 1]",
)
@click.option(
    "--scale",
    type=FiniteRange(min=0, min_open=True),
    metavar="FACTOR",
    help="How much passes through a transport: 1 is thousands of events.  [default: 1]",
)
@click.option(
    "--clause",
    multiple=True,
    metavar="NAME",
    help="Try only this clause, as B4; several with commas, or by several options.",
)
@click.option("--strict", is_flag=True, help="Let a clause fail if what it needs is not offered.")
@click.option(
    "--write",
    metavar="FILE",
    help="Write each violation to this file of tests; it must be new, or written so before.",
)
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    callback=check_backend,
    help="What to verify it on, instead of all that are installed.",
)
@click.option(
    "--examples",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="How many programs each clause is tried with.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="Draws the same programs again; told at the end of each run.",
)
def _verify(
    *, backend: str | None, seed: int | None, clause: tuple[str, ...], **options: Any
) -> int:
    """Verify what a target makes."""
    if options["engine"] is not None and options["contract"] != "component":
        raise click.UsageError("--engine is what hosts components: add --contract component")
    hooks, terms = _given(options, *HOOKS), _given(options, "lease", "scale")
    if (hooks or terms) and options["contract"] != "transport":
        [name, *_] = (*hooks, *terms)
        raise click.UsageError(f"--{name} is for transports: add --contract transport")
    return verify(
        Verification(
            backends=(backend,) if backend else (),
            clauses=tuple(name.strip() for each in clause for name in each.split(",")),
            hooks=hooks,
            terms=terms,
            seed=secrets.randbits(32) if seed is None else seed,
            **options,
        )
    )


def _given(options: dict[str, Any], *names: str) -> dict[str, Any]:
    """Remove options by name, and return those that the user gave."""
    taken = {name: options.pop(name) for name in names}
    return {name: value for name, value in taken.items() if value is not None}


for _command in (*DURABLE_COMMANDS, *LOOKING_COMMANDS):
    _flexiflow.add_command(_command)
