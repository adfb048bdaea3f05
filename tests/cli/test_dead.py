"""Dead letters and what is stored, from the command line (X3, L5)."""

import json
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import patch

import anyio
import pytest

from flexiflow.extras.durable import (
    Failure,
    Transport,
    TransportUnavailable,
    transport_from_url,
)
from tests.cli.command_line import PATIENCE, await_output, finish, run, started
from tests.cli.stored import FAILURE, bury, dead_letters, event, store, stored
from tools.redis_server import RedisServer, free_port

BILLING = ("--group", "billing")

each_change = pytest.mark.parametrize(
    ("command", "done"), [("redrive", "redriven"), ("discard", "discarded")]
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Name a transport in a file that is not there yet."""
    return f"sqlite:{tmp_path}/events.db"


Change: TypeAlias = Callable[[str, Sequence[str]], Awaitable[int]]


class Changed:
    """A transport of which one method is replaced.

    Args:
        transport: the transport.
        method: the method's name.
        replace: takes the method, and returns what stands in its place.
    """

    def __init__(
        self, transport: Transport, method: str, replace: Callable[[Change], Change]
    ) -> None:
        self._transport = transport
        self._method = method
        self._replace = replace

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[Any]:
        """Open it."""
        async with self._transport.connect() as connection:
            replacement = self._replace(getattr(connection, self._method))
            with patch.object(connection, self._method, replacement):
                yield connection


def change(
    monkeypatch: pytest.MonkeyPatch, method: str, replace: Callable[[Change], Change]
) -> None:
    """Replace a method of the transport that the command opens."""

    def find(url: str) -> Changed:
        return Changed(transport_from_url(url), method, replace)

    monkeypatch.setattr("flexiflow._cli.connecting.transport_from_url", find)


def test_dead_letters_are_listed_one_a_line(url: str) -> None:
    """X3: each is a line: its id, the time, the event's name, the attempts, and the failure."""
    bury(url, event("order.placed"), event("order.paid"))
    ran = run("dead", "list", "--transport", url, *BILLING)
    letters = dead_letters(url)
    lines = [line.split("  ") for line in ran.output.splitlines()]
    assert (ran.status, ran.told) == (0, "")
    assert [line[0] for line in lines] == [letter.id for letter in letters]
    assert [line[2] for line in lines] == ["order.placed", "order.paid"]
    assert {(line[3], line[4]) for line in lines} == {
        ("attempts: 3", "CardRefused: 600 is more than 500")
    }


def test_dead_letters_are_listed_as_json(url: str) -> None:
    """X3: as JSON Lines, with all that there is to know."""
    bury(url, event("order.placed", 7), b"\xff")
    ran = run("dead", "list", "--transport", url, *BILLING, "--json")
    good, bad = ran.events
    assert good["event"] == json.loads(event("order.placed", 7))
    assert good["failure"] == FAILURE._asdict()
    assert (good["body"], good["attempts"], good["deliveries"]) == (None, 3, 1)
    assert (bad["event"], bad["body"]) == (None, "\\xff")


def test_many_dead_letters_are_listed_page_by_page(url: str) -> None:
    """X3: more than one page, and a list that is long in coming, are no matter."""
    bury(url, *(event("order.placed", number) for number in range(250)))
    ran = run("dead", "list", "--transport", url, *BILLING, "--json")
    assert [each["event"]["data"]["order"] for each in ran.events] == list(range(250))


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (event("order.placed", 7), '\n    "order": 7\n'),
        (b'{"type": 7}', '\n{"type": 7}\n'),
        (b"[\x1b]", "\n[\\x1b]\n"),
        (b"[" * 100_000, "[[["),
    ],
    ids=["event", "no event", "no JSON", "nested"],
)
def test_dead_letters_are_shown_in_full(url: str, body: bytes, shown: str) -> None:
    """X3: the event and the traceback, with nothing in them that a terminal would obey."""
    bury(url, body, event("order.paid"))
    ran = run("dead", "show", "--transport", url, *BILLING, dead_letters(url)[0].id)
    assert ran.status == 0
    assert shown in ran.output
    assert "failure: CardRefused: 600 is more than 500\n" in ran.output
    assert ran.output.endswith('Traceback:\n  "x.py"\\x1b[31m\nRefused\n')


def test_a_failure_without_a_message_is_shown_by_its_type(url: str) -> None:
    """X3: where an exception said nothing, and nothing can be read, the line says so."""
    bury(url, b"?", failure=Failure("OSError", "", ""))
    line = run("dead", "list", "--transport", url, *BILLING).output
    assert line.endswith("  (no event)  attempts: 3  OSError\n")


@each_change
def test_some_dead_letters_are_redriven_or_discarded(url: str, command: str, done: str) -> None:
    """X3, Y6: those that are named, once each, and no others."""
    bury(url, *(event("order.placed", number) for number in range(3)))
    first, second, third = (letter.id for letter in dead_letters(url))
    ran = run("dead", command, "--transport", url, *BILLING, first, third, first)
    assert (ran.status, ran.output, ran.told) == (0, f"{done}: 2\n", "")
    assert [letter.id for letter in dead_letters(url)] == [second]


@each_change
def test_all_dead_letters_are_redriven_or_discarded(url: str, command: str, done: str) -> None:
    """X3, Y6: with --all, however many there are; also none."""
    bury(url, *(event("order.placed", number) for number in range(250)))
    for count in (250, 0):
        ran = run("dead", command, "--transport", url, *BILLING, "--all")
        assert (ran.status, ran.output) == (0, f"{done}: {count}\n")
    assert dead_letters(url) == []


def test_discarded_dead_letters_are_gone(each_url: str) -> None:
    """Y6: no group is given them again."""
    bury(each_url, event("order.placed"))
    before = stored(each_url)
    run("dead", "discard", "--transport", each_url, *BILLING, dead_letters(each_url)[0].id)
    assert (dead_letters(each_url), stored(each_url)) == ([], before)


async def be_away() -> int:
    """Be a transport that is not available."""
    raise TransportUnavailable("sqlite:", "no answer")


async def be_interrupted() -> int:
    """Be where Ctrl-C is pressed."""
    signal.raise_signal(signal.SIGINT)
    await anyio.sleep_forever()
    return 0


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("end", "status", "told"), [(be_away, 2, "no answer"), (be_interrupted, 130, "")]
)
@each_change
def test_what_was_done_before_the_end_is_told(
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    done: str,
    end: Callable[[], Awaitable[int]],
    status: int,
    told: str,
) -> None:
    """Y6: if the transport fails in the middle, or after Ctrl-C, the count is of what was done."""

    def end_later(method: Change) -> Change:
        left = iter([True])

        async def call(group: str, ids: Sequence[str]) -> int:
            return await (method(group, ids) if next(left, False) else end())

        return call

    bury(url, *(event("order.placed", number) for number in range(250)))
    change(monkeypatch, command, end_later)
    ran = run("dead", command, "--transport", url, *BILLING, "--all")
    assert (ran.status, ran.output) == (status, f"{done}: 100\n")
    assert told in ran.told
    assert len(dead_letters(url)) == 150


@pytest.mark.parametrize("command", ["show", "redrive", "discard"])
def test_an_id_that_is_not_there_is_told(url: str, command: str) -> None:
    """X3: the letters that exist are taken, each missing one is told, and the status is 1."""
    bury(url, event("order.placed"))
    there = dead_letters(url)[0].id
    ran = run("dead", command, "--transport", url, *BILLING, "x\n", there)
    assert (ran.status, ran.told) == (1, "the group 'billing' has no dead letter 'x'\n")
    assert ran.output


@each_change
def test_a_dead_letter_that_another_one_takes_meanwhile_is_told(
    url: str, monkeypatch: pytest.MonkeyPatch, command: str, done: str
) -> None:
    """X3, Y6: the count is of what this command has done, and the status says if that is all."""

    def lose(method: Change) -> Change:
        async def race(group: str, ids: Sequence[str]) -> int:
            await method(group, ids)
            return await method(group, ids)

        return race

    bury(url, event("order.placed"))
    letter = dead_letters(url)[0].id
    change(monkeypatch, command, lose)
    ran = run("dead", command, "--transport", url, *BILLING, letter)
    assert (ran.status, ran.output) == (1, f"{done}: 0\n")


@pytest.mark.parametrize(
    ("groups", "told"), [((), "there is none"), (("billing",), "there are billing")]
)
@pytest.mark.parametrize("command", ["list", "show", "redrive", "discard"])
def test_a_group_that_is_not_there_is_told(
    url: str, command: str, groups: tuple[str, ...], told: str
) -> None:
    """L5: a group that has never been there is no empty one."""
    if groups:
        bury(url, event("order.placed"))
    else:
        store(url, event("order.placed"))
    ids = [] if command == "list" else ["1"]
    ran = run("dead", command, "--transport", url, "--group", "bilking", *ids)
    assert (ran.status, ran.output) == (2, "")
    assert f"no group 'bilking'; {told}\n" in ran.told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("dead", "redrive", "--group", "g"), "name the IDs of dead letters, or give --all"),
        (("dead", "redrive", "--group", "g", "--all", "1"), "name the IDs"),
        (("dead", "discard", "--group", "g"), "name the IDs of dead letters, or give --all"),
        (("dead", "show", "--group", "g"), "Missing argument"),
        (("dead", "list"), "Missing option '--group'"),
        (("dead", "bury"), "No such command"),
        (("dead",), "Missing command"),
        (("tail", "order..placed"), "order..placed"),
    ],
)
def test_what_can_not_be_meant_is_refused(url: str, arguments: tuple[str, ...], told: str) -> None:
    """L5: usage that makes no sense is one clear line, and status 2."""
    named = () if arguments in {("dead",), ("dead", "bury")} else ("--transport", url)
    ran = run(*arguments, *named)
    assert (ran.status, ran.output) == (2, "")
    assert told in ran.told
    assert ran.told.count("\n") == 1


@pytest.mark.parametrize("command", [("dead", "list", *BILLING), ("tail",), ("status",)])
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nowhere:x", "must begin with"),
        ("sqlite:README.md", "README.md can't be used"),
        ("sqlite:not/there.db", "there is no file"),
    ],
)
def test_a_transport_that_can_not_be_opened_is_told(
    command: tuple[str, ...], url: str, told: str
) -> None:
    """X6: one clear line, and status 2."""
    ran = run(*command, "--transport", url)
    assert (ran.status, ran.output, ran.told.count("\n")) == (2, "", 1)
    assert told in ran.told


def test_a_file_is_not_made_by_looking(url: str) -> None:
    """X6: a mistyped name leaves no empty file behind."""
    assert run("tail", "--transport", url).status == 2
    assert not Path(url.removeprefix("sqlite:")).exists()


EACH_COMMAND = pytest.mark.parametrize(
    "command",
    [
        ("dead", "list", *BILLING),
        ("tail",),
        ("bridge", "examples/durable_orders.py:shop", "--outgoing", "order.*"),
        ("status",),
        ("groups", "list"),
        ("scheduled", "list"),
    ],
    ids=["dead", "tail", "bridge", "status", "groups", "scheduled"],
)


@EACH_COMMAND
def test_without_coredis_what_to_install_is_told(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5: Redis needs an extra; one clear line, and status 2."""

    def fail(_: str) -> None:
        raise ModuleNotFoundError("install flexiflow[redis]", name="coredis")

    monkeypatch.setattr("flexiflow.extras._redis.lines._client", fail)
    ran = run(*command, "--transport", "redis://localhost")
    assert (ran.status, ran.output, ran.told.count("\n")) == (2, "", 1)
    assert "flexiflow[redis]" in ran.told


@EACH_COMMAND
def test_a_server_that_is_not_there_is_told_without_its_password(command: tuple[str, ...]) -> None:
    """X6: its address is named, what it is entered by is not."""
    pytest.importorskip("coredis", reason="coredis is not installed")
    ran = run(*command, "--transport", f"redis://user:hunter2@127.0.0.1:{free_port()}")
    assert (ran.status, ran.output, ran.told.count("\n")) == (2, "", 1)
    assert "redis://127.0.0.1:" in ran.told
    assert "hunter2" not in ran.told


def test_what_is_stored_is_shown_from_the_start(url: str) -> None:
    """L3: each event is a line of JSON; those that match a pattern, if one is given."""
    store(url, event("order.placed", 1), b"?", event("stock.low"), event("order.paid", 2))
    with started("tail", "--transport", url, "--from-start", "order.*") as process:
        await_output(process.stdout, b'"order.paid"')
        process.send_signal(signal.SIGINT)
        ran = finish(process)
    assert ran.status == 130
    ready, strange = ran.told.splitlines()
    assert ready.startswith("ready: ")
    assert strange.startswith("not shown: what is stored at partition 0, position ")


def test_what_a_server_holds_is_shown_from_the_start(redis: RedisServer) -> None:
    """L3: as what a file holds."""
    url = f"{redis.url}?partitions=2&prefix=tail"
    store(url, event("order.placed", 1))
    with started("tail", "--transport", url, "--from-start") as process:
        await_output(process.stdout, b'"order.placed"')
        process.send_signal(signal.SIGINT)
        assert finish(process).status == 130


def test_what_is_stored_is_shown_with_its_position(url: str) -> None:
    """Y5: a group can begin behind that position; the other partitions have one of their own."""
    url += "?partitions=2"
    store(url, event("order.placed", 1))
    with started("tail", "--transport", url, "--from-start", "--positions") as process:
        line = await_output(process.stdout, b"\n")
        process.send_signal(signal.SIGINT)
        assert finish(process).status == 130
    shown = json.loads(line)
    given = ["0", "0"]
    given[shown["partition"]] = shown["position"]
    since = [word for each in given for word in ("--since", each)]
    bury(url)
    ran = run("groups", "replay", "--transport", url, "billing", *since)
    assert (ran.status, shown["event"]["type"]) == (0, "order.placed")
    assert f"partition {shown['partition']}: begins behind {shown['position']}\n" in ran.output


def test_what_is_stored_from_now_on_is_shown_until_the_pipe_is_closed(url: str) -> None:
    """L3: events of any worker, from the line that says ready on; a closed pipe ends it with 0."""
    store(url, event("order.placed", 1))
    with started("tail", "--transport", url) as process:
        await_output(process.stderr, b"ready: ")
        store(url, event("order.placed", 2))
        await_output(process.stdout, event("order.placed", 2) + b"\n")
        assert process.stdout is not None
        process.stdout.close()
        store(url, event("order.placed", 3))
        assert process.wait(PATIENCE) == 0
