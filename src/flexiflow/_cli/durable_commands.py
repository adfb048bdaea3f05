"""The commands of durable delivery and their arguments; each imports its module when it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from flexiflow._cli.arguments import (
    FiniteRange,
    check_backend,
    check_patterns,
    check_place,
    complete_file,
    transport_option,
)
from flexiflow._cli.observing import matching

if TYPE_CHECKING:
    from collections.abc import Callable

_group: Callable[[Any], Any] = click.option(
    "--group", required=True, metavar="NAME", help="The group that gave them up."
)

# In click's help, \b keeps the lines of a paragraph as they are.
_BRIDGE_HELP = """\
Run the engine that TARGET names as a worker of a group, until SIGTERM or Ctrl-C.

Events that match --incoming are taken from the transport, also those that other programs stored,
and published on the engine's bus. Events that match --outgoing are stored in the transport when
they are published there. An event is done when all its handlers have succeeded; until then it is
given to the group's workers again.

\b
--transport is one of
  sqlite:events.db  sqlite:///absolute/path.db
  redis://[user:password@]host[:port][/database]  rediss://...
with options like ?partitions=4&max_length=100000 after it.

Standard output gets the built-in events, as JSON Lines. Standard error gets a line that begins with
"ready:" once the worker takes events, then failures, and a summary. Timers and work of states run
until the worker ends. After the first signal it finishes the events in hand, for --grace seconds at
most; the second one ends it at once. No event is lost either way.

\b
Exit status:
  0    SIGTERM, or the reader of the output has closed it
  1    the transport failed for good, or output could not be written
  2    the command, the target or the transport can't be used
  130  Ctrl-C
"""


@click.command("bridge", help=_BRIDGE_HELP)
@click.argument("target", shell_complete=complete_file)
@transport_option
@click.option("--group", metavar="NAME", help="The group of the worker; --incoming needs one.")
@click.option(
    "--incoming",
    multiple=True,
    metavar="PATTERN",
    callback=check_patterns,
    help="Take the events that match, like 'order.*'; may be given several times.",
)
@click.option(
    "--outgoing",
    multiple=True,
    metavar="PATTERN",
    callback=check_patterns,
    help="Store the events that match; may be given several times.",
)
@click.option(
    "--start",
    multiple=True,
    metavar="START",
    callback=check_place,
    help="Where a new group begins: oldest (the default), new, a time with its zone, or positions: "
    "one --start for each partition.",
)
@click.option(
    "--consumer", metavar="NAME", help="The worker's name; one is made up if none is given."
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="How many events are handled at once.",
)
@click.option(
    "--max-attempts",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="After how many failures an event is given up.",
)
@click.option(
    "--max-depth",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="How deep a chain of events that cause each other may be.",
)
@click.option(
    "--lease",
    type=FiniteRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="After how long a silence other workers take over its events.",
)
@click.option(
    "--grace",
    type=FiniteRange(min=0, may_be_endless=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long it may go on with the events in hand when it is to end.",
)
@click.option(
    "--backend",
    type=click.Choice(["asyncio", "trio"]),
    default="asyncio",
    show_default=True,
    callback=check_backend,
    help="The event loop that it runs on.",
)
@click.option(
    "--events",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    callback=check_patterns,
    help="Show only the built-in events that match; may be given several times.",
)
@click.option("--quiet", is_flag=True, help="Show no events.")
@click.option("--verbose", is_flag=True, help="Show the traceback of each failure.")
def _bridge(*, patterns: tuple[str, ...], quiet: bool, url: str, **options: Any) -> int:
    """Run an engine as a worker."""
    from flexiflow._cli.worker import Options, work

    shown = () if quiet else tuple(matching(patterns or ("**",)))
    return work(Options(shown=shown, transport=url, **options))


@click.group("dead", no_args_is_help=False)
def _dead() -> None:
    """List, show, redrive or discard the events that a group has given up.

    The exit status is 0; 1 if there is no dead letter of an ID, or output could not be written; 2
    if the command or the transport can't be used; 130 after Ctrl-C.
    """


@_dead.command("list")
@transport_option
@_group
@click.option("--json", "as_json", is_flag=True, help="Write JSON Lines, with all there is.")
def _list(*, url: str, group: str, as_json: bool) -> int:
    """List the dead letters, the oldest first.

    Each is a line: its ID, the time, the event's name, how many attempts failed, and why.
    """
    from flexiflow._cli.letters import list_dead

    return list_dead(url, group, as_json=as_json)


@_dead.command("show")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@transport_option
@_group
def _show(*, url: str, group: str, ids: tuple[str, ...]) -> int:
    """Show dead letters in full: the event, and the failure with its traceback."""
    from flexiflow._cli.letters import show_dead

    return show_dead(url, group, ids)


@_dead.command("redrive")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@transport_option
@_group
@click.option("--all", "is_all", is_flag=True, help="Redrive all that are there now.")
def _redrive(*, url: str, group: str, ids: tuple[str, ...], is_all: bool) -> int:
    """Give dead letters to their group once more; no other group handles them again."""
    from flexiflow._cli.letters import redrive_dead

    return redrive_dead(url, group, _chosen(ids, is_all=is_all))


@_dead.command("discard")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@transport_option
@_group
@click.option("--all", "is_all", is_flag=True, help="Discard all that are there now.")
def _discard(*, url: str, group: str, ids: tuple[str, ...], is_all: bool) -> int:
    """Delete dead letters for good: nobody handles those events for the group any more."""
    from flexiflow._cli.letters import discard_dead

    return discard_dead(url, group, _chosen(ids, is_all=is_all))


def _chosen(ids: tuple[str, ...], *, is_all: bool) -> tuple[str, ...] | None:
    """Return the IDs of dead letters; None for all."""
    if bool(ids) is is_all:
        raise click.UsageError("name the IDs of dead letters, or give --all")
    return None if is_all else ids


@click.command("tail")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...", callback=check_patterns)
@transport_option
@click.option("--from-start", is_flag=True, help="Begin with what is stored already.")
@click.option(
    "--positions", is_flag=True, help="Show the partition and the position of each event, too."
)
def _tail(*, url: str, patterns: tuple[str, ...], from_start: bool, positions: bool) -> int:
    """Show events as they are stored, by any process, until Ctrl-C.

    Only those whose names match a PATTERN, like 'order.*', if one is given. Each is a line, a JSON
    object in the form of CloudEvents; with --positions the object is the field "event" of another.
    To look on changes nothing: no group gets less.
    """
    from flexiflow._cli.tail import tail

    return tail(url, patterns, from_start=from_start, has_positions=positions)


@click.command("backup")
@click.argument("file", shell_complete=complete_file)
@transport_option
def _backup(*, url: str, file: str) -> int:
    """Copy the events, groups and dead letters of a SQLite transport to FILE.

    All is as it was at one moment, while others go on using the transport. FILE must not be there;
    its owner alone can read it, and it is a transport's file itself. To copy events.db by other
    means is no backup: it lacks what is in events.db-wal.

    The exit status is 0; 2 if the command, the transport or FILE can't be used; 130 after Ctrl-C.
    """
    from flexiflow._cli.backup import back_up

    return back_up(url, file)


DURABLE_COMMANDS: Final = (_backup, _bridge, _dead, _tail)
