"""The groups of a transport, from the command line (Y5, Y6, L5)."""

import json
import re
from datetime import UTC, datetime

import pytest

from flexiflow.extras.durable import GroupSurvey, MemberSurvey, Replayed
from tests.cli.command_line import run
from tests.cli.looking import made, stand_in
from tests.cli.stored import at_work, bury, dead_letters, event, survey

EVENTS = [event("order.placed", number) for number in range(4)]


def names(url: str) -> list[str]:
    """Name the groups."""
    return [group.name for group in survey(url).groups]


def test_groups_are_listed_one_a_line(each_url: str) -> None:
    """Y6: each is a line: its name, its live members, what it has to do, and the oldest of it."""
    with at_work(each_url, *EVENTS), at_work(each_url, group="audit"):
        ran = run("groups", "list", "--transport", each_url)
    audit, billing = (line.split("  ") for line in ran.output.splitlines())
    assert (ran.status, ran.told) == (0, "")
    assert audit[:2] == ["audit", "members: 1"]
    assert billing[:2] == ["billing", "members: 1"]
    assert [field.partition(": ")[0] for field in billing[2:]] == [
        *("lag", "pending", "waiting", "dead", "missed", "oldest")
    ]
    assert billing[2] == "lag: 0"


def test_groups_are_listed_as_json(each_url: str) -> None:
    """Y6: as JSON Lines, with the members and the partitions."""
    with at_work(each_url, *EVENTS):
        ran = run("groups", "list", "--transport", each_url, "--json")
    group = json.loads(ran.output)
    assert (group["name"], len(group["members"]), len(group["partitions"])) == ("billing", 1, 2)


def test_the_name_of_a_group_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """L3: since anybody may have chosen it."""
    group = GroupSurvey("a\x1b[31m\nb", (MemberSurvey("m", (), 0.0),), (), None, 0)
    stand_in(monkeypatch, made()._replace(groups=(group,)))
    ran = run("groups", "list", "--transport", "x")
    assert ran.output.startswith("a\\x1b[31m b  members: 1  lag: 0  ")
    assert ran.output.endswith("  oldest: -\n")


def test_groups_are_forgotten(each_url: str) -> None:
    """Y6: those that are named, once each; and their dead letters."""
    bury(each_url, *EVENTS)
    assert run("groups", "forget", "--transport", each_url, "billing", "billing").output == (
        "forgotten: 1\n"
    )
    assert names(each_url) == []


def test_a_group_with_live_members_is_forgotten_only_by_force(each_url: str) -> None:
    """Y6: what is at work is not deleted by mistake."""
    with at_work(each_url, *EVENTS):
        ran = run("groups", "forget", "--transport", each_url, "billing")
        assert (ran.status, ran.output) == (1, "forgotten: 0\n")
        assert ran.told == (
            "the group 'billing' has 1 live member: end it first, or give --force\n"
        )
        assert names(each_url) == ["billing"]
        ran = run("groups", "forget", "--transport", each_url, "billing", "--force")
    assert (ran.status, ran.output, ran.told) == (0, "forgotten: 1\n", "")
    assert names(each_url) == []


def test_a_group_that_is_not_there_can_not_be_forgotten(each_url: str) -> None:
    """Y6: the others are forgotten, the missing one is told, and the status is 1."""
    bury(each_url, *EVENTS)
    ran = run("groups", "forget", "--transport", each_url, "bil\x1bling", "billing")
    assert (ran.status, ran.output) == (1, "forgotten: 1\n")
    assert ran.told == "there is no group 'bil\\\\x1bling'\n"


@pytest.mark.parametrize("since", ["oldest", "1970-01-02T00:00:00Z"])
def test_a_group_begins_again(each_url: str, since: str) -> None:
    """Y5: with the oldest event that is kept, or with the first one of a time."""
    bury(each_url, *EVENTS)
    ran = run("groups", "replay", "billing", "--transport", each_url, "--since", since)
    assert (ran.status, ran.told) == (0, "")
    assert re.fullmatch(r"(partition [01]: begins behind [\d-]+\n){2}", ran.output)
    assert dead_letters(each_url) == []
    assert sum(each.lag for each in survey(each_url).groups[0].standings) == len(EVENTS)


def test_a_group_goes_on_with_new_events(each_url: str) -> None:
    """Y5: what is there is passed over; the positions that are told are places themselves."""
    bury(each_url)
    bury(each_url, *EVENTS)
    ran = run("groups", "replay", "billing", "--transport", each_url, "--since", "new")
    ends = [line.rpartition(" ")[2] for line in ran.output.splitlines()]
    given = [word for end in ends for word in ("--since", end)]
    again = run("groups", "replay", "billing", "--transport", each_url, *given)
    assert (again.status, again.output) == (0, ran.output)
    assert sum(each.lag for each in survey(each_url).groups[0].standings) == 0


@pytest.mark.parametrize(
    ("since", "told"),
    [
        (("yesterday",), "it must be oldest, new, a time like"),
        (("2026-11-30T12:00:00",), "has no time zone; 2026-11-30T12:00:00Z is a time in UTC"),
        (("2026-11-30",), "has no time zone; 2026-11-30T00:00:00Z is a time in UTC"),
        (("new", "new"), "a position for each partition, not 'new new'"),
        ((), "Missing option '--since'"),
    ],
)
def test_where_a_group_can_not_begin_is_refused(
    each_url: str, since: tuple[str, ...], told: str
) -> None:
    """L5: a value that is no place is refused in one clear line, with status 2."""
    given = [word for each in since for word in ("--since", each)]
    ran = run("groups", "replay", "billing", "--transport", each_url, *given)
    assert (ran.status, ran.output, ran.told.count("\n")) == (2, "", 1)
    assert told in ran.told


@pytest.mark.parametrize("positions", [("0",), ("0", "0", "0"), ("0", "999999999")])
def test_a_position_that_is_not_there_is_told(each_url: str, positions: tuple[str, ...]) -> None:
    """L5: one clear line with what would be right, and status 2; nothing has changed."""
    bury(each_url, *EVENTS)
    given = [word for each in positions for word in ("--since", each)]
    ran = run("groups", "replay", "billing", "--transport", each_url, *given)
    assert (ran.status, ran.output, ran.told.count("\n")) == (2, "", 1)
    assert "can't be read" not in ran.told
    assert ran.told.endswith("; flexiflow tail --positions shows the positions of events\n")
    assert len(dead_letters(each_url)) == len(EVENTS)


def test_a_group_that_is_not_there_can_not_begin_again(each_url: str) -> None:
    """L5: it is told which there are."""
    bury(each_url, *EVENTS)
    ran = run("groups", "replay", "bilking", "--transport", each_url, "--since", "new")
    assert (ran.status, ran.output) == (2, "")
    assert "no group 'bilking'; there are billing\n" in ran.told


def test_of_many_groups_the_likeliest_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """L5: a mistyped name is not answered with thousands of lines."""
    for number, expected in ((100, "such as group-77"), (10_000, "10,000, such as group-0, ")):
        stand_in(monkeypatch, groups=[f"group-{each}" for each in range(number)])
        ran = run("groups", "replay", "group77", "--transport", "x", "--since", "new")
        assert ran.status == 2
        assert expected in ran.told
        assert len(ran.told) < 300


def test_that_events_were_deleted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Y5: a group that can't begin where it should begins with what is kept."""
    stand_in(monkeypatch, groups=["g"], replayed=Replayed(("7",), is_complete=False))
    ran = run("groups", "replay", "g", "--transport", "x", "--since", "oldest")
    assert (ran.status, ran.output) == (0, "partition 0: begins behind 7\n")
    assert ran.told.endswith(
        "begins with the oldest events that are kept: earlier ones were deleted\n"
    )


def test_a_time_is_passed_on_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Y5: of any time zone."""
    asked = stand_in(monkeypatch, groups=["g"], replayed=Replayed(("7",), is_complete=True))
    for zone in ("Z", "+02:00"):
        given = ("--since", f"2026-11-30T12:00{zone}")
        run("groups", "replay", "g", "--transport", "x", *given)
    noon = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
    assert asked == [("g", noon), ("g", noon - 7200)]


def test_what_was_forgotten_before_the_transport_failed_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """L5: where it is away in the middle, the count is of what was done, and the status is 2."""
    stand_in(monkeypatch, made(groups=3, members=0), forgets=1)
    ran = run("groups", "forget", "--transport", "x", "group-0", "group-1", "group-2")
    assert (ran.status, ran.output) == (2, "forgotten: 1\n")
    assert "not available" in ran.told
