"""What is going on in a transport, from the command line (Y6, L3, L5)."""

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from flexiflow._cli.columns import columns
from flexiflow._cli.moments import show_duration, show_size, show_time
from flexiflow._cli.screen import Screen
from flexiflow._cli.survey import Line, as_json, as_lines
from flexiflow.extras.durable import (
    GroupSurvey,
    LogSurvey,
    MemberSurvey,
    Standing,
    Survey,
    TransportUnusable,
)
from tests.cli.command_line import PATIENCE, await_output, finish, run, started
from tests.cli.looking import AWAY, NOW, made, stand_in
from tests.cli.stored import at_work, event, schedule, store

pty = pytest.importorskip("pty", reason="there are no terminals here")


def after(number: signal.Signals) -> Callable[[], Survey]:
    """Return what sends this process a signal, and a survey after that."""

    def survey() -> Survey:
        signal.raise_signal(number)
        return made(name="unseen")

    return survey


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Open a terminal: the end where a person sits, and the end of the program."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")
    person, program = pty.openpty()
    with os.fdopen(person, "rb", 0), os.fdopen(program, "rb", 0):
        yield person, program


def run_on(terminal: tuple[int, int], *arguments: str) -> tuple[int, str]:
    """Show the status on a terminal; return the exit status, and what the terminal was sent."""
    person, program = terminal
    with os.fdopen(os.dup(program), "w") as output:
        ran = run("status", "--transport", "x", "--every", "0.001", *arguments, output=output)
        output.write("~END~")
    seen = await_output(person, b"~END~").decode()
    return ran.status, seen


def test_all_is_told_to_machines(each_url: str) -> None:
    """Y6: one object: groups with members and partitions, and what is in the partitions."""
    schedule(each_url, event("order.late"))
    with at_work(each_url, *(event("order.placed", number) for number in range(5))):
        ran = run("status", "--transport", each_url, "--json")
    found = json.loads(ran.output)
    (group,) = found["groups"]
    assert (ran.status, ran.output.count("\n")) == (0, 1)
    assert (group["name"], group["lag"], group["waiting"], group["missed"]) == ("billing", 0, 0, 0)
    assert group["pending"] + group["dead"] == 5
    assert [part["dead"] for part in group["partitions"]] in ([1, 1], [1, 0], [0, 1])
    assert (group["members"][0]["consumer"], group["members"][0]["patterns"]) == (
        "worker",
        ["order.*"],
    )
    assert sum(part["scheduled"] for part in found["partitions"]) == 1
    assert sum(part["length"] for part in found["partitions"]) >= 3
    assert 0 <= group["age"] < PATIENCE
    assert isinstance(group["replay"], int)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT.*\+00:00", found["time"])


def test_all_is_told_to_people(each_url: str) -> None:
    """Y6: a table each of groups, members and partitions; once, where there is no terminal."""
    with at_work(each_url, *(event("order.placed", number) for number in range(5))):
        ran = run("status", "--transport", each_url)
    title, groups, members, partitions = ran.output.split("\n\n")[0:1] + [
        part.splitlines() for part in ran.output.split("\n\n")[1:]
    ]
    assert (ran.status, ran.told) == (0, "")
    assert "0 scheduled" in title
    assert groups[0].split()[:7] == [
        *("group", "lag", "oldest", "pending", "waiting", "dead", "members")
    ]
    assert groups[1].split()[:2] == ["billing", "0"]
    assert members[1].split()[:2] == ["worker", "billing"]
    assert len(partitions) == 3


def test_an_empty_transport_has_partitions_alone(each_url: str) -> None:
    """Y6: where there is nothing yet, that is what is told."""
    store(each_url)
    ran = run("status", "--transport", each_url)
    assert ran.status == 0
    assert "0 events, 0 scheduled" in ran.output
    assert "group" not in ran.output


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_names_of_strangers_are_escaped(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str]
) -> None:
    """L3: whatever a group, a member or a pattern is named, a terminal obeys nothing of it."""
    nasty: str = "a\x1b[31m\n\u202eb\ud800\x9b"
    strange = made()._replace(
        groups=(
            GroupSurvey(
                nasty, (MemberSurvey(nasty, (nasty,), NOW),), (Standing(0, 0, 0, 0),), 0, 0
            ),
        )
    )
    stand_in(monkeypatch, strange)
    ran = run("status", "--transport", "x", *arguments)
    assert ran.status == 0
    assert ran.output.isascii()
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f]", ran.output) is None


def test_what_is_no_number_is_shown_all_the_same() -> None:
    """L5: a file or a server may hold anything where a time should be."""
    odd: float = "soon"  # type: ignore[assignment]
    strange = made()._replace(
        logs=(LogSurvey(1, odd, 0, None), LogSurvey(1, float("nan"), 0, 5)),
        groups=(GroupSurvey("g", (MemberSurvey("m", (), odd),), (), 1e300, 0),),
        now=1e300,
        size=None,
    )
    assert "no time: 1e+300" in as_lines(strange, "x")[0].text
    shown = as_json(strange, "x")
    assert (shown["time"], shown["groups"][0]["oldest"]) == (1e300, 1e300)
    assert (shown["partitions"][0]["oldest"], shown["partitions"][0]["age"]) == ("soon", None)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.2, "0 s"),
        (89.6, "1 min"),
        (3599, "59 min"),
        (7200, "2 h"),
        (900_000, "10 d"),
        (None, "-"),
        (float("inf"), "-"),
    ],
)
def test_a_duration_has_one_unit(seconds: float | None, shown: str) -> None:
    """Y6: an age is read at a glance."""
    assert show_duration(seconds) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**40, "1.0 TiB"), (None, "-")],
)
def test_a_size_has_one_unit(size: int | None, shown: str) -> None:
    """Y6: as a size is."""
    assert show_size(size) == shown


def test_a_time_is_in_utc() -> None:
    """Y6: with its time zone, so that machines agree."""
    assert show_time(NOW) == "2027-01-15T08:00:00.000+00:00"


@pytest.mark.parametrize("width", [1, 10, 40, 80, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 10, 24, 100])
@pytest.mark.parametrize("number", [0, 1, 30])
def test_a_view_fits_any_terminal(width: int, height: int, number: int) -> None:
    """Y6: however small it is, and however much there is to show."""
    survey = made(groups=number, partitions=number + 1, members=3, name="x" * 100)
    lines = as_lines(survey, "redis://here", width=width, height=height)
    assert len(lines) <= height
    assert max(len(line.text) for line in lines) <= width


@pytest.mark.unmeasured
def test_where_not_all_fits_those_with_most_to_do_are_shown() -> None:
    """Y6: of 10,000 groups one sees where things are stuck, and how many more there are."""
    lines = [line.text for line in as_lines(made(groups=10_000), "x", width=100, height=24)]
    assert lines[3].startswith("group-9999")
    assert any(re.fullmatch(r"\.\.\. and 9,9\d\d more groups", line) for line in lines)
    assert any(re.fullmatch(r"\.\.\. and 9,9\d\d more members", line) for line in lines)


def test_a_table_that_has_no_room_for_a_row_is_left_out() -> None:
    """Y6: on a terminal with few lines the groups come first."""
    lines = [line.text for line in as_lines(made(groups=9, members=9, partitions=9), "x", height=8)]
    assert lines[2].startswith("group")
    assert lines[3].startswith("group-8")
    assert [line for line in lines if line.startswith(("member", "partition"))] == []


def test_columns_that_do_not_fit_are_left_out() -> None:
    """Y6: the last ones, and the heading says so."""
    shown = columns(["name", "lag", "pending"], [["a", "10", "5"], ["b", "7", "-"]], 14)
    assert shown == ["name  lag  ...", "a      10", "b       7"]


@pytest.mark.unmeasured
def test_all_groups_are_listed_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Y6: 10,000 groups, by name, are that many lines."""
    stand_in(monkeypatch, made(groups=10_000, members=0))
    ran = run("status", "--transport", "x")
    assert len(ran.output.splitlines()) == 10_000 + 6


def test_with_partitions_the_one_with_most_to_do_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Y6: of each group, or none if there is nothing to do."""
    standings = (Standing(0, 0, 0, 0), Standing(1, 1_000, 0, 2, 3), Standing(5, 0, 0, 0))
    group = made(partitions=3).groups[0]
    idle = group._replace(name="idle", standings=standings[:1] * 3)
    stand_in(
        monkeypatch, made(partitions=3)._replace(groups=(group._replace(standings=standings), idle))
    )
    lines = run("status", "--transport", "x").output.splitlines()
    assert lines[3].endswith("  partition 1: 1,006")
    assert lines[4].endswith("  -")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"]
)
def test_a_terminal_is_shown_what_changes_until_a_signal(
    monkeypatch: pytest.MonkeyPatch, terminal: tuple[int, int], number: signal.Signals, status: int
) -> None:
    """Y6: on a terminal the view is renewed, and the terminal is as before in the end."""
    stand_in(monkeypatch, made(name="first"), made(name="second"), after(number))
    ended, seen = run_on(terminal)
    assert ended == status
    assert seen.index("first-0") < seen.index("second-0") < seen.rindex("\x1b[?1049l")
    assert seen.startswith("\x1b[?1049h")
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")


@pytest.mark.skipif(not hasattr(signal, "SIGWINCH"), reason="no signal tells of a new size")
def test_a_terminal_that_is_resized_is_redrawn_at_once(
    monkeypatch: pytest.MonkeyPatch, terminal: tuple[int, int]
) -> None:
    """Y6: also if the view is renewed only after a long time."""
    sizes, signals = iter([(100, 30), (11, 30)]), iter([signal.SIGWINCH, signal.SIGTERM])
    show = Screen.show

    def show_and_signal(screen: Screen, lines: Iterable[Line]) -> None:
        show(screen, lines)
        signal.raise_signal(next(signals))

    monkeypatch.setattr(Screen, "size", property(lambda _: next(sizes)))
    monkeypatch.setattr(Screen, "show", show_and_signal)
    stand_in(monkeypatch, made(name="billing"))
    ended, seen = run_on(terminal, "--every", "600")
    assert (ended, seen.count("billing-0"), seen.count("partition")) == (0, 3, 2)


def test_a_view_stays_while_the_transport_is_away(
    monkeypatch: pytest.MonkeyPatch, terminal: tuple[int, int]
) -> None:
    """Y6: with a line that says so; and goes on when the transport is back."""
    stand_in(monkeypatch, made(name="first"), AWAY, made(name="second"), after(signal.SIGTERM))
    ended, seen = run_on(terminal)
    told = seen.index(
        r"what follows is old: redis://here is not available: connection refused \x1b"
    )
    assert ended == 0
    assert told < seen.index("first-0", told) < seen.index("second-0")
    assert "what follows" not in seen[seen.index("second-0") :]


@pytest.mark.parametrize(
    "problem", [TransportUnusable("redis://here", "it is no transport"), ValueError("bad")]
)
def test_a_view_ends_if_waiting_would_not_help(
    monkeypatch: pytest.MonkeyPatch, terminal: tuple[int, int], problem: Exception
) -> None:
    """L5: what can't be used after all is told below, with status 2."""
    stand_in(monkeypatch, made(), problem)
    assert run_on(terminal)[0] == 2


@pytest.mark.parametrize("problem", [AWAY, ValueError("bad")])
def test_a_transport_that_is_away_at_the_beginning_is_told(
    monkeypatch: pytest.MonkeyPatch, terminal: tuple[int, int], problem: Exception
) -> None:
    """L5: then the terminal is left as it is."""
    stand_in(monkeypatch, problem)
    ended, seen = run_on(terminal)
    assert (ended, seen) == (2, "~END~")


def test_colours_are_left_out_where_they_are_not_wanted(
    monkeypatch: pytest.MonkeyPatch, terminal: tuple[int, int]
) -> None:
    """Y6: with NO_COLOR there is none, not even where the transport is away."""
    coloured = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
    for is_wanted in (True, False):
        stand_in(monkeypatch, made(), AWAY, after(signal.SIGTERM))
        assert (coloured.search(run_on(terminal)[1]) is not None) is is_wanted
        monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize("how", ["dumb", "no rich", "once"])
def test_it_is_shown_once_where_nothing_can_be_renewed(
    monkeypatch: pytest.MonkeyPatch,
    terminal: tuple[int, int],
    how: str,
) -> None:
    """Y6: on a terminal that can do nothing, without rich, and with --once."""
    if how == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    if how == "no rich":
        monkeypatch.setitem(sys.modules, "rich.live", None)
    stand_in(monkeypatch, made())
    ended, seen = run_on(terminal, *(["--once"] if how == "once" else []))
    assert ended == 0
    assert "group-0" in seen
    assert "\x1b" not in seen


def test_a_terminal_that_is_gone_ends_it(
    monkeypatch: pytest.MonkeyPatch, terminal: tuple[int, int]
) -> None:
    """L5: what can't be written is told, with status 1."""

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("flexiflow._cli.screen.Screen.show", fail)
    stand_in(monkeypatch, made())
    assert run_on(terminal)[0] == 1


def test_who_reads_no_more_ends_it(tmp_path: Path) -> None:
    """L5: a closed pipe is no error."""
    url = f"sqlite:{tmp_path}/events.db"
    store(url, event("order.placed"))
    with started("status", "--transport", url) as process:
        assert process.stdout is not None
        process.stdout.close()
        ran = finish(process)
    assert (ran.status, ran.told) == (0, "")
