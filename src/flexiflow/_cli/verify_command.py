"""The command `verify` and its arguments."""

from __future__ import annotations

from typing import Any, Final

import click

from flexiflow._cli.arguments import FiniteRange, check_backend, complete_file
from flexiflow._cli.checks import CONTRACTS
from flexiflow._cli.choices import Options
from flexiflow._cli.verify import BACKENDS, verify

# In click's help, \b keeps the lines of a paragraph as they are.
_HELP: Final = """\
Try to break what TARGET makes, or what it claims.

TARGET is package.module:name or path/to/file.py:name. It is a function or a class, and makes

\b
a bus        anything with the methods subscribe, unsubscribe,
             unsubscribe_all and publish; it may be async
a component  with --contract component: called as TARGET(name, machine=machine)
a transport  with --contract transport: new and empty, or an async context
             manager that gives one; also called with partitions= and
             max_length= where it takes them
a store      with --contract store: the same; also called with beside=

Or TARGET is a functools.partial of a check of flexiflow.testing. It holds the check's arguments,
and tells the kind of check:

\b
orders = partial(check_machine, make, messages=..., invariants=[...])
crashes = partial(crash_everywhere, [shop, warehouse], check=check)

Such a partial can be made of every check, and takes the options below, which go before what it
holds.

Standard output gets a table of the clauses or claims, and for each one that is broken the smallest
program that was found to show it, or the crash. A clause that needs something that is not there is
"not offered", which is a failure only if --clause names it, or with --strict. "flaky" is a
violation that did not happen each time that its program was run again. "inconclusive" and "not
reached" say that a claim was not put to the test to its end, or not at all.

\b
Exit status:
  0    everything held that could be tried
  1    a clause or a claim is violated, or output could not be written
  2    the command or the target can't be used
  130  Ctrl-C
"""


@click.command("verify", help=_HELP)
@click.argument("target", shell_complete=complete_file)
@click.option(
    "--contract",
    type=click.Choice(CONTRACTS),
    help=(
        "What a TARGET that is no partial makes: a bus (B1 to A3), a component (C1 to M4), a "
        "transport (X1 to Y6), or a store (K2).  [default: bus]"
    ),
)
@click.option(
    "--engine",
    metavar="TARGET",
    shell_complete=complete_file,
    help="What makes an engine to host the components, instead of flexiflow:Engine.",
)
@click.option(
    "--restart",
    metavar="TARGET",
    shell_complete=complete_file,
    help="An async function that restarts the server behind a transport, which it is given.",
)
@click.option(
    "--damage",
    metavar="TARGET",
    shell_complete=complete_file,
    help="One that deletes a record: it is given the transport, the partition and the position.",
)
@click.option(
    "--insert",
    metavar="TARGET",
    shell_complete=complete_file,
    help="One that stores a body of any size: it is given the transport, the partition and that.",
)
@click.option(
    "--empty",
    metavar="TARGET",
    shell_complete=complete_file,
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
    shell_complete=complete_file,
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
    metavar="NUMBER",
    help="How many programs each clause, or all claims, are tried with.  [default: 200]",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="NUMBER",
    help="Draws the same programs again; told at the end of each run.",
)
@click.option(
    "--most",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="At how many points to crash at most, instead of all.",
)
@click.option("--at", metavar="POINT", help="Crash only at this point, which a failure has named.")
def verify_command(
    *, target: str, contract: str | None, backend: str | None, clause: tuple[str, ...], **given: Any
) -> int:
    """Verify what a target makes, or what it claims."""
    # A flag that is not given is False; a seed of 0 is given.
    chosen = {name: each for name, each in given.items() if each is not None and each is not False}
    if clause:
        chosen["clause"] = [name.strip() for each in clause for name in each.split(",")]
    return verify(Options(target=target, contract=contract, backend=backend, given=chosen))
