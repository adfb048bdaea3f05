"""The commands that look at a transport, and their arguments; each imports its module as it runs.

They are `status`, `groups` and `scheduled`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from flexiflow._cli.arguments import FiniteRange, check_place, transport_option

if TYPE_CHECKING:
    from flexiflow._cli.arguments import Place

# In click's help, \b keeps the lines of a paragraph as they are.
_STATUS_HELP = """\
Show what is going on in a transport: its groups, their members, and its partitions.

On a terminal the view is renewed until Ctrl-C. If the transport is away meanwhile, the last view
stays, and says so. If not everything fits, the groups that have the most to do are shown; --json
writes everything.

\b
group     lag: events that no worker of it was given; pending: given, and
          not done; waiting: for another attempt; dead: given up; missed:
          deleted before they were handled; oldest: the age of the oldest
          that is not done; most in: the partition where most is not done
member    dead in: in how many seconds it counts as dead if it stays silent
partition the events in its log, the age of the oldest, the events that
          are scheduled for later, and the size of it all

The exit status is 0; 1 if output could not be written; 2 if the command or the transport can't be
used; 130 after Ctrl-C.
"""


@click.command("status", help=_STATUS_HELP)
@transport_option
@click.option("--json", "as_object", is_flag=True, help="Write one JSON object, with all there is.")
@click.option("--once", "is_once", is_flag=True, help="Show it once, also on a terminal.")
@click.option(
    "--every",
    "seconds",
    type=FiniteRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a view stays on a terminal.",
)
def _status(*, url: str, as_object: bool, is_once: bool, seconds: float) -> int:
    """Show the status of a transport."""
    from flexiflow._cli.status import show_status

    return show_status(url, as_object=as_object, is_once=is_once, seconds=seconds)


@click.group("groups", no_args_is_help=False)
def _groups() -> None:
    """List groups, forget them, or make one begin again.

    The exit status is 0; 1 if a group could not be forgotten, or output could not be written; 2 if
    the command or the transport can't be used, or there is no such group to begin again; 130 after
    Ctrl-C.
    """


@_groups.command("list")
@transport_option
@click.option("--json", "as_json", is_flag=True, help="Write JSON Lines, with all there is.")
def _list_groups(*, url: str, as_json: bool) -> int:
    """List the groups, by name.

    Each is a line: its name, how many live members it has, how many events they were not given yet
    (lag), were given and have not done (pending), wait for another attempt (waiting), were given up
    (dead), were deleted before they were handled (missed), and the age of the oldest that is not
    done.
    """
    from flexiflow._cli.groups import list_groups

    return list_groups(url, as_json=as_json)


@_groups.command("forget")
@click.argument("names", nargs=-1, required=True, metavar="GROUP...")
@transport_option
@click.option("--force", "is_forced", is_flag=True, help="Also groups that have live members.")
def _forget_groups(*, url: str, names: tuple[str, ...], is_forced: bool) -> int:
    """Delete groups that are not needed any more, with their dead letters.

    After that the log keeps no events for them. A group of that name that comes later is a new one,
    and is given again what is still kept. A worker that joins a group while the command runs may be
    overlooked, and its group be deleted without --force.
    """
    from flexiflow._cli.groups import forget_groups

    return forget_groups(url, names, is_forced=is_forced)


@_groups.command("replay")
@click.argument("group")
@transport_option
@click.option(
    "--since",
    multiple=True,
    required=True,
    metavar="START",
    callback=check_place,
    help="oldest, new, a time with its zone, or positions: one --since for each partition.",
)
def _replay_group(*, url: str, group: str, since: Place) -> int:
    """Make GROUP begin again, so that it handles events once more that it has handled.

    It begins with the oldest event that is kept, with the next new one, with the first that was
    stored at a time or later, or behind a position, which `flexiflow tail --positions` shows. From
    there on, what it holds and its dead letters are dropped, since they come again; its workers go
    on by themselves. Written are the positions behind which it begins.
    """
    from flexiflow._cli.groups import replay_group

    return replay_group(url, group, since)


@click.group("scheduled", no_args_is_help=False)
def _scheduled() -> None:
    """List or cancel the events that are stored for later.

    The exit status is 0; 1 if an event could not be cancelled, or output could not be written; 2 if
    the command or the transport can't be used; 130 after Ctrl-C.
    """


@_scheduled.command("list")
@transport_option
@click.option("--json", "as_json", is_flag=True, help="Write JSON Lines, with all there is.")
def _list_scheduled(*, url: str, as_json: bool) -> int:
    """List the events that wait for their time, the next one first.

    Each is a line: its ticket, its time, the event's name, and its key, if it has one.
    """
    from flexiflow._cli.scheduled import list_scheduled

    return list_scheduled(url, as_json=as_json)


@_scheduled.command("cancel")
@click.argument("tickets", nargs=-1, required=True, metavar="TICKET...")
@transport_option
def _cancel_scheduled(*, url: str, tickets: tuple[str, ...]) -> int:
    """Delete events, so that nobody is ever given them; those whose time has come can't be."""
    from flexiflow._cli.scheduled import cancel_scheduled

    return cancel_scheduled(url, tickets)


LOOKING_COMMANDS: Final = (_status, _groups, _scheduled)
