"""Events that wait for their time, from the command line (Y3, Y6, L3, L5)."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.command_line import run
from tests.cli.stored import event, schedule, stored, survey


def pending(url: str) -> int:
    """Count what is scheduled."""
    return sum(log.scheduled for log in survey(url).logs)


def test_scheduled_events_are_listed_one_a_line(each_url: str) -> None:
    """Y6: each is a line, the next one first: its ticket, its time, its name, and its key."""
    [late] = schedule(each_url, event("order.late"), delay=7200)
    [soon] = schedule(each_url, event("order.soon"), key="A7", delay=3600)
    ran = run("scheduled", "list", "--transport", each_url)
    first, second = (line.split("  ") for line in ran.output.splitlines())
    assert (ran.status, ran.told) == (0, "")
    assert (first[0], *first[2:]) == (soon, "order.soon", "key: A7")
    assert (second[0], *second[2:]) == (late, "order.late")
    due = datetime.fromisoformat(first[1]) - datetime.now(UTC)
    assert timedelta(minutes=55) < due <= timedelta(hours=1)


def test_scheduled_events_are_listed_as_json(each_url: str) -> None:
    """Y6: as JSON Lines, with all that there is to know."""
    tickets = schedule(each_url, event("order.late", 7), b"\xff\x1b", key="A7")
    ran = run("scheduled", "list", "--transport", each_url, "--json")
    good, bad = ran.events
    assert [good["ticket"], bad["ticket"]] == tickets
    assert good["event"] == json.loads(event("order.late", 7))
    assert (good["key"], good["body"], good["partition"] in {0, 1}) == ("A7", None, True)
    assert (bad["event"], bad["body"]) == (None, "\\xff\x1b")


def test_many_scheduled_events_are_listed_page_by_page(
    each_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Y6: more than one page is no matter."""
    monkeypatch.setattr("flexiflow._cli.scheduled._AT_ONCE", 10)
    tickets = schedule(each_url, *[event("order.late")] * 25)
    ran = run("scheduled", "list", "--transport", each_url)
    assert [line.partition("  ")[0] for line in ran.output.splitlines()] == tickets


def test_what_strangers_have_scheduled_is_escaped(each_url: str) -> None:
    """L3: a terminal obeys nothing of a name or a key."""
    schedule(each_url, event("order.\x1b[31m"), b"?", key="k\x9b\n")
    ran = run("scheduled", "list", "--transport", each_url)
    first, second = ran.output.splitlines()
    assert first.endswith("  order.\\x1b[31m  key: k\\x9b")
    assert second.endswith("  (no event)  key: k\\x9b")


def test_nothing_is_listed_where_nothing_is_scheduled(each_url: str) -> None:
    """Y6: no line, and status 0."""
    schedule(each_url)
    ran = run("scheduled", "list", "--transport", each_url)
    assert (ran.status, ran.output, ran.told) == (0, "", "")


def test_scheduled_events_are_cancelled(each_url: str) -> None:
    """Y3: those that are named, once each, and no others; again, they are cancelled still."""
    first, second, _ = schedule(each_url, *[event("order.late")] * 3)
    for _ in range(2):
        ran = run("scheduled", "cancel", "--transport", each_url, first, second, first)
        assert (ran.status, ran.output, ran.told) == (0, "cancelled: 2\n", "")
    assert pending(each_url) == 1


def test_what_is_not_cancelled_is_told(each_url: str) -> None:
    """Y3: an event that is in its log, and a ticket of another transport; the others are."""
    [gone] = schedule(each_url, event("order.now"), delay=0)
    [there] = schedule(each_url, event("order.late"))
    stored(each_url)
    ran = run("scheduled", "cancel", "--transport", each_url, gone, there, "x\x1b-0-1")
    first, second = ran.told.splitlines()
    assert (ran.status, ran.output) == (1, "cancelled: 1\n")
    assert first == f"not cancelled: '{gone}': it was put into its log, or is not known"
    assert second.startswith("not cancelled: 'x\\\\x1b-0-1': a ticket must be one that")
    assert pending(each_url) == 0


@pytest.mark.parametrize("arguments", [("cancel",), ("show",), ()])
def test_what_can_not_be_meant_is_refused(arguments: tuple[str, ...], memory: str) -> None:
    """L5: usage that makes no sense is one clear line, and status 2."""
    named = ("--transport", memory) if arguments == ("cancel",) else ()
    ran = run("scheduled", *arguments, *named)
    assert (ran.status, ran.output, ran.told.count("\n")) == (2, "", 1)
