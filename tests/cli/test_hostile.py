"""What strangers write reaches no terminal as it is, whichever command shows it (L3 to L6)."""

import ast
import io
import json
import os
import re
import signal
import sqlite3
import sys
from collections.abc import Callable, Generator
from contextlib import redirect_stderr
from pathlib import Path
from urllib.parse import quote

import pytest

import flexiflow._cli
from flexiflow import Engine
from flexiflow._cli.display import Plain, open_display
from flexiflow._cli.graph import as_mermaid, look_at
from flexiflow._cli.output import write
from flexiflow._cli.tail import parse_event
from flexiflow.extras.durable import Failure
from tests.cli.command_line import TARGET, await_output, finish, run, started, write_target
from tests.cli.stored import bury, event, store
from tests.cli.test_graph import MACHINE, Billing

MARKS = "\x1b]0;owned\x07\x9b31m\x08\x7f\x85\u2028\u2029\u202e\u2066\u200f\u200b\ufeff\U000e0041"
"""C0, C1 and DEL, separators, and marks of direction and of format."""

HOSTILE = f"<b>`*{MARKS}\r\nforged: a line of its own\n"

PRELUDE = f"{TARGET}\nHOSTILE = {HOSTILE!r}\n"

FAILING = f"""{PRELUDE}
from flexiflow import HandlerFailed
class Hostile(Exception):
    def __repr__(self):
        return HOSTILE
Hostile.__qualname__ = HOSTILE

async def fail(data):
    try:
        raise Hostile(HOSTILE)
    except Hostile as exc:
        exc.add_note(HOSTILE)
        raise ValueError(HOSTILE) from exc
fail.__qualname__ = HOSTILE

async def report(data):
    await bus.publish("told." + HOSTILE.replace("*", ""), {{"all": HOSTILE, HOSTILE: 1}})
    raise ExceptionGroup(HOSTILE, [Hostile(HOSTILE), OSError(HOSTILE)])

async def engine():
    global bus
    engine = Engine(component_factory=lamp)
    bus = engine.bus
    await bus.subscribe("**", HOSTILE, fail, filter=lambda name, _: name.startswith(("alarm", "x")))
    await bus.subscribe("alarm", HOSTILE, report)
    return engine
""".replace("from flexiflow import HandlerFailed\n", "")

ENDING = f"""{PRELUDE}
class Ending(BaseException):
    pass

def end(data):
    raise HOW

async def engine():
    engine = Engine()
    await engine.bus.subscribe("alarm", "tests", end)
    return engine
"""


def named(text: str) -> str:
    """Make an event's name of a text."""
    return text.replace(".", "").replace("*", "")


def is_harmless(text: str) -> bool:
    """Tell whether a text has nothing that a terminal obeys, and no line that is forged."""
    return (
        all(line.isprintable() for line in text.split("\n"))
        and re.search(r"^forged", text, re.MULTILINE) is None
    )


LINES = [
    json.dumps({"event": "alarm"}),
    json.dumps({"event": f"x.{named(HOSTILE)}", "data": HOSTILE}),
    json.dumps({"component": HOSTILE, "message": {"type": HOSTILE}}),
    json.dumps({"component": f"lamp{HOSTILE}", "message": {"type": "on", HOSTILE: HOSTILE}}),
    json.dumps({"component": f"strict lamp{HOSTILE}", "message": {"type": HOSTILE}}),
    json.dumps({HOSTILE: 1}),
    json.dumps({"event": f".{HOSTILE}"}),
    json.dumps({"event": f"*{HOSTILE}"}),
]


@pytest.mark.parametrize("options", [(), ("--verbose",), ("--trace", "--verbose")])
@pytest.mark.parametrize("policy", ["continue", "raise"])
def test_run_shows_nothing_as_it_is(tmp_path: Path, options: tuple[str, ...], policy: str) -> None:
    """L3: names, payloads, exceptions, notes and causes are escaped, and so are tracebacks."""
    target = write_target(tmp_path, FAILING)
    ran = run("run", target, "--on-error", policy, *options, lines=LINES)
    assert (ran.status, is_harmless(ran.output), is_harmless(ran.told)) == (1, True, True)
    assert r"\x1b]0;owned\x07\x9b31m" in ran.told
    if "--verbose" in options:
        assert "\n  Traceback (most recent call last):\n" in ran.told
        assert "\n    File " in ran.told
        assert "\n  forged" in ran.told
    if "--trace" not in options:
        assert f"lamp{HOSTILE}" in {event["data"].get("component") for event in ran.events}


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("SystemExit(HOSTILE)", r"<b>`*\x1b]0;owned"),
        ("Ending(HOSTILE)", r"flexiflow: ended by Ending: <b>`*\x1b]0;owned"),
        ("SystemExit(OSError(HOSTILE))", r"<b>`*\x1b]0;owned"),
    ],
)
def test_what_ends_the_process_is_not_shown_as_it_is(tmp_path: Path, how: str, told: str) -> None:
    """L5: what the interpreter would show at the very end is escaped, too; the status stays 1."""
    target = write_target(tmp_path, ENDING.replace("HOW", how))
    with started("run", target) as process:
        ran = finish(process, LINES[:1])
    assert (ran.status, is_harmless(ran.told)) == (1, True)
    assert f"\n{told}" in ran.told


def test_a_target_may_end_the_process_without_a_word(tmp_path: Path) -> None:
    """L5: `SystemExit` without a status is 0, as Python has it."""
    target = write_target(tmp_path, ENDING.replace("HOW", "SystemExit"))
    assert run("run", target, lines=LINES[:1]).status == 0


@pytest.fixture
def excepthook(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Give what shows an exception that ends the process, and put Python's back at the end."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    return lambda exc: sys.excepthook(type(exc), exc, None)


def test_python_shows_no_exception_that_ends_the_process(
    tmp_path: Path, excepthook: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """L5: what leaves the command leaves it as it is, and is shown escaped."""
    target = write_target(tmp_path, ENDING.replace("HOW", "Ending(HOSTILE)"))
    with pytest.raises(BaseException, match="forged") as ended:
        run("run", target, lines=LINES[:1])
    excepthook(ValueError(HOSTILE))
    assert type(ended.value).__name__ == "Ending"
    assert is_harmless(capsys.readouterr().err)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", f"{HOSTILE}:engine"),
        ("run", HOSTILE),
        ("run", f"flexiflow:{HOSTILE}"),
        ("run", "flexiflow:Engine", HOSTILE),
        ("run", "flexiflow:Engine", "--events", f".{HOSTILE}"),
        ("run", "flexiflow:Engine", "--backend", HOSTILE),
        ("run", "flexiflow:Engine", f"--{HOSTILE}"),
        ("graph", f"{HOSTILE}.py:engine"),
        ("verify", f"flexiflow:{HOSTILE}"),
        ("verify", "flexiflow:EventBus", "--seed", HOSTILE),
        ("tail", "--transport", HOSTILE),
        ("tail", "--transport", f"sqlite:{HOSTILE}"),
        ("dead", "list", "--group", "g", "--transport", f"sqlite:a?{HOSTILE}=1"),
        ("bridge", "flexiflow:Engine", "--transport", "sqlite:x", "--incoming", f".{HOSTILE}"),
        ("bridge", "flexiflow:Engine", "--transport", "sqlite:x", "--lease", HOSTILE),
        (HOSTILE,),
    ],
)
def test_arguments_are_not_shown_as_they_are(arguments: tuple[str, ...]) -> None:
    """L5: what was given wrong is told on one line, with nothing in it that is obeyed."""
    ran = run(*arguments)
    assert (ran.status, ran.output, ran.told.count("\n")) == (2, "", 1)
    assert is_harmless(ran.told)


@pytest.mark.parametrize("command", ["run", "graph", "verify"])
def test_a_target_that_fails_is_not_shown_as_it_is(tmp_path: Path, command: str) -> None:
    """L5: neither what importing it raised, nor what making an engine raised."""
    for source in ("raise ValueError(HOSTILE)", "def engine(): raise ValueError(HOSTILE)"):
        target = write_target(tmp_path, f"{PRELUDE}\n{source}")
        # Without trio it would tell that it verifies on asyncio alone.
        backend = ("--backend", "asyncio") if command == "verify" else ()
        ran = run(command, target, *backend)
        assert (ran.status, ran.output) == (2, "")
        # P5: with the traceback, if the target makes what is verified.
        is_one_line = command != "verify" or source.startswith("raise")
        assert ran.told.startswith("flexiflow: target ")
        assert (ran.told.count("\n") == 1) == is_one_line
        assert is_harmless(ran.told)


BROKEN = f"""{PRELUDE}
class engine(EventBus):
    async def publish(self, *args, **kwargs):
        raise RuntimeError(HOSTILE)
"""


@pytest.mark.once
def test_a_violation_is_not_shown_as_it_is(tmp_path: Path) -> None:
    """P1: nothing that the bus under test says gets out raw."""
    target = write_target(tmp_path, BROKEN)
    how = ("--examples", "1", "--backend", "asyncio", "--seed", "5")
    ran = run("verify", target, *how, "--clause", "B3,B5,E8,I3,S2,V2")
    assert (ran.status, is_harmless(ran.output), is_harmless(ran.told)) == (1, True, True)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Name a transport whose path is hostile, too, with dead letters and groups that are."""
    url = f"sqlite:{quote(str(tmp_path / (HOSTILE + '.db')))}"
    kinds = Failure(HOSTILE, HOSTILE, f"Traceback:\n{HOSTILE}")
    bury(url, event(named(HOSTILE)), HOSTILE.encode(), failure=kinds)
    return url


def tamper(tmp_path: Path, *statements: str, **given: object) -> None:
    """Change what is in the transport's file."""
    (path,) = tmp_path.glob("*.db")
    database = sqlite3.connect(path)
    with database:
        for statement in statements:
            database.execute(statement, given if ":" in statement else {})
    database.close()


@pytest.mark.parametrize(
    "arguments",
    [("list",), ("list", "--json"), ("show", "1", "2", HOSTILE), ("redrive", "1", HOSTILE)],
)
def test_dead_letters_are_not_shown_as_they_are(url: str, arguments: tuple[str, ...]) -> None:
    """X3: neither on lines, nor as JSON, nor in full."""
    ran = run("dead", *arguments, "--transport", url, "--group", "billing")
    assert all(line.isprintable() for line in (ran.output + ran.told).split("\n"))
    assert is_harmless(ran.told)
    if "--json" in arguments:
        assert [each["failure"]["message"] for each in ran.events] == [HOSTILE] * 2
    elif arguments == ("list",):
        assert is_harmless(ran.output)
        assert ran.output.count("\n") == 2


def test_stored_names_of_groups_are_not_shown_as_they_are(url: str, tmp_path: Path) -> None:
    """L5: which groups there are is told on the same one line."""
    tamper(tmp_path, "UPDATE groups SET name = :name", name=HOSTILE)
    ran = run("dead", "list", "--transport", url, "--group", "billing")
    assert (ran.status, is_harmless(ran.told), ran.told.count("\n")) == (2, True, 1)
    assert r"there are <b>`*\x1b]0;owned" in ran.told


UPDATE = "UPDATE dead SET {} = :value WHERE id = 1"

REMADE = (
    "CREATE TABLE copied AS SELECT * FROM dead",
    "DROP TABLE dead",
    "ALTER TABLE copied RENAME TO dead",
)
"""Takes the constraints from the table: any column may then hold anything."""


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
@pytest.mark.parametrize("value", [1e300, -1e300, 1e999, "soon", b"\xff\x1b", None, 2**62, -1.5])
@pytest.mark.parametrize(
    "column", ["time", "attempts", "deliveries", "type", "message", "traceback", "body"]
)
def test_a_dead_letter_that_was_tampered_with_is_shown(
    url: str, tmp_path: Path, column: str, value: object
) -> None:
    """X3: a column that holds what no transport writes there hides no letter."""
    tamper(tmp_path, *REMADE, UPDATE.format(column), value=value)
    for how in (("list",), ("list", "--json"), ("show", "1", "2")):
        ran = run("dead", *how, "--transport", url, "--group", "billing")
        assert (ran.status, ran.told) == (0, "")
        assert all(line.isprintable() for line in ran.output.split("\n"))
        assert ran.output.count("\n") >= 2


@pytest.mark.parametrize(
    ("time", "shown", "as_json"),
    [
        (1e300, "(no time: 1e+300)", 1e300),
        (1e999, "(no time: inf)", "inf"),
        ("soon", "(no time: 'soon')", "soon"),
        (None, "(no time: None)", None),
        (-1.5, "1969-12-31T23:59:58.500+00:00", "1969-12-31T23:59:58.500+00:00"),
    ],
)
def test_a_time_that_is_none_is_shown_as_it_is(
    url: str, tmp_path: Path, time: object, shown: str, as_json: object
) -> None:
    """X3: what is stored in its place is told."""
    tamper(tmp_path, *REMADE, UPDATE.format("time"), value=time)
    given = ("--transport", url, "--group", "billing")
    assert run("dead", "list", *given).output.split("  ")[1] == shown
    assert run("dead", "list", *given, "--json").events[0]["time"] == as_json
    assert f"dead letter 1 of {shown}\n" in run("dead", "show", "1", *given).output


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [("message", None, "Refused"), ("type", None, ": 600"), ("type", b"\x1b", "b'\\x1b': 600")],
)
def test_a_failure_that_is_none_is_shown_as_far_as_it_goes(
    tmp_path: Path, column: str, value: object, shown: str
) -> None:
    """X3: a missing field is left out, and one that is no text is shown as its repr."""
    url = f"sqlite:{tmp_path}/events.db"
    bury(url, event("order.placed"), failure=Failure("Refused", "600", ""))
    tamper(tmp_path, *REMADE, UPDATE.format(column), value=value)
    ran = run("dead", "list", "--transport", url, "--group", "billing")
    assert ran.output.endswith(f"  attempts: 3  {shown}\n")


@pytest.mark.parametrize("command", [("dead", "list", "--group", "billing"), ("tail",)])
def test_what_can_not_be_read_is_told(
    url: str, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """L5: a transport that stumbles over what is stored ends it with one line, and status 2."""

    async def stumble(*_: object, **__: object) -> None:
        raise ValueError(HOSTILE)

    for name in ("dead_letters", "tail"):
        monkeypatch.setattr(
            f"flexiflow.extras.durable._sqlite.connection.SqliteConnection.{name}", stumble
        )
    ran = run(*command, "--transport", url)
    assert (ran.status, ran.output, ran.told.count("\n")) == (2, "", 1)
    assert is_harmless(ran.told)
    assert "holds can't be read: ValueError: <b>" in ran.told


@pytest.mark.parametrize("body", [b"[1e999]", b"1e999", b"NaN", b"[", b"\xff", b'{"type": ""}'])
def test_what_is_no_event_is_not_shown_as_one(body: bytes) -> None:
    """L3: any JSON may be stored, and text that is no JSON."""
    assert parse_event(body) is None


def test_a_number_that_is_too_large_is_shown_as_it_was_written() -> None:
    """L3: what was stored as 1e999 is neither an infinity nor lost."""
    event = parse_event(b'{"type": "a", "data": [1e999, -1e999, 1e3, 5]}')
    assert event == {"type": "a", "data": ["1e999", "-1e999", 1000.0, 5]}
    assert parse_event(None) is None  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_tail_shows_neither_the_path_nor_events_as_they_are(url: str) -> None:
    """L3: the line that says ready names the path, and what is stored may be anything."""
    with started("tail", "--from-start", "--transport", url) as process:
        await_output(process.stdout, rb"owned")
        await_output(process.stderr, b"not shown: ")
        process.send_signal(signal.SIGINT)
        ran = finish(process)
    assert is_harmless(ran.told)


def test_what_tail_tells_is_on_lines_of_its_own(url: str) -> None:
    """L3: the path with its line feed is still one line."""
    with started("tail", "--transport", url) as process:
        await_output(process.stderr, b"forged: a line of its own\\n.db\n")


WORKER = (
    FAILING
    + """
import signal
from contextlib import suppress

async def engine(make=engine):
    made = await make()
    async def fail_all(data):
        raise Hostile(HOSTILE)
    await made.bus.subscribe("**", HOSTILE, fail_all, filter=lambda name, _: "<b>" in name)
    await made.bus.subscribe("end", "tests", lambda _: signal.raise_signal(signal.SIGTERM))
    return made
"""
)


@pytest.mark.parametrize("options", [(), ("--verbose",)])
def test_bridge_shows_nothing_as_it_is(
    tmp_path: Path, options: tuple[str, ...], backend_name: str
) -> None:
    """L3: what is stored, and what fails of it, is escaped in reports and tracebacks."""
    url = f"sqlite:{tmp_path}/events.db"
    store(url, event(named(HOSTILE)), b"{", event("alarm"), event("end"))
    target = write_target(tmp_path, WORKER)
    how = ("--group", "g", "--incoming", "**", "--max-attempts", "1", "--limit", "1")
    ran = run("bridge", target, "--transport", url, *how, "--backend", backend_name, *options)
    assert (ran.status, is_harmless(ran.output), is_harmless(ran.told)) == (0, True, True)
    assert "gave up <b>`\\x1b]0;owned" in ran.told
    assert ran.told.count("the group 'g' gave up ") == 3
    assert ("\n  Traceback" in ran.told) is bool(options)


async def test_graph_shows_no_name_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """L6: in the heading a name is text, neither Markdown nor HTML."""
    engine = Engine()
    await engine.register(Billing("<script>[a](b)_c_\\ ~~d~~ | $e$ &lt; \\! \\"))
    await engine.register(Billing(HOSTILE))
    await engine.bus.subscribe(named(HOSTILE), HOSTILE, id)
    write(sys.stdout, as_mermaid(await look_at(engine, (), "the target")))
    drawn = capsys.readouterr().out
    (heading,) = [line for line in drawn.splitlines() if line.startswith("State machine of ")]
    assert is_harmless(drawn)
    assert heading.startswith(
        r"State machine of \<script\>\[a\](b)\_c\_\ \~\~d\~\~ \| \$e\$ \&lt; \\! \\, \<b\>'\*\x1b"
    )
    assert drawn.count("```") == 4
    assert MACHINE.mermaid() in drawn


@pytest.fixture
def terminal() -> Generator[tuple[int, int]]:
    """Open a terminal: the end of the person, and that of the program."""
    person, program = os.openpty()
    yield person, program
    os.close(person)
    os.close(program)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no terminals to open")
def test_a_terminal_is_shown_nothing_as_it_is(tmp_path: Path, terminal: tuple[int, int]) -> None:
    """L4: above the live line, and in it, it is the same."""
    pytest.importorskip("rich", reason="rich is not installed")
    person, program = terminal
    with os.fdopen(os.dup(program), "w", encoding="utf-8") as errors, redirect_stderr(errors):
        with open_display() as display:
            display.tell(HOSTILE, ValueError(HOSTILE))
            display.update(HOSTILE)
        run("run", write_target(tmp_path, FAILING), "--verbose", lines=LINES[:1], errors=errors)
    os.set_blocking(person, False)
    seen = b""
    while b"messages: " not in seen:
        seen += os.read(person, 2**16)
    told, live, *_ = seen.split(b"\n  ValueError: ")
    assert rb"\x1b]0;owned\x07\x9b31m" in told
    assert live.count(rb"\x1b]0;owned") >= 2
    raw = [b"\x1b]0;owned", b"\nforged", *(each.encode() for each in MARKS if not each.isascii())]
    assert [each for each in raw if each in seen] == []


def test_what_a_stream_can_not_show_is_escaped() -> None:
    """L3: on a terminal of ASCII letters are escaped, too, instead of failing."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    write(stream, "é\ud800\x9b\n\u202e€")
    stream.seek(0)
    assert stream.buffer.read() == b"\\xe9\\ud800\\x9b\n\\u202e\\u20ac\n"


def test_what_is_told_is_one_line_whatever_it_is() -> None:
    """L5: nobody who tells something has to think of line ends, nor of what a terminal obeys."""
    stream = io.StringIO()
    Plain(stream).tell(HOSTILE, ValueError(HOSTILE))
    lines = stream.getvalue().splitlines()
    assert is_harmless(stream.getvalue())
    assert [line for line in lines if not line.startswith("  ")] == lines[:1]


WAYS_OUT = {"echo", "print", "render_str", "secho", "write", "writelines"} | {
    f"print_{what}" for what in ("exc", "exception", "last", "list", "stack", "tb")
}


def test_all_that_is_written_goes_through_one_door() -> None:
    """L3: of the command line no other module writes; a new one can't forget to escape."""
    found: set[str] = set()
    for path in Path(flexiflow._cli.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for each in map(ast.unparse, calls):
            if each.rpartition(".")[2] in WAYS_OUT:
                found.add(f"{path.name}: {each}")
    assert found == {
        "output.py: print",
        "writer.py: os.write",
        "display.py: self._live.console.print",
        "display.py: self._live.console.render_str",
        # These call `output.write`.
        "commands.py: write",
        "display.py: write",
        "verify.py: write",
        # It writes the page, in which everything is escaped, to its file.
        "reporting.py: file.write",
    }
