"""`flexiflow run --report`: a page about the run (L7)."""

import os
import sys
from pathlib import Path

import pytest

from flexiflow._cli import reporting
from tests.cli.command_line import TARGET, run, send, write_target

LINES = [
    send("lamp", at="2010-01-01T12:00:00Z"),
    send("lamp", "off", at="2010-01-01T12:01:00Z"),
    send("lamp", "explode"),
    '{"event": "alarm", "data": null}',
    send("broken"),
]


@pytest.fixture
def target(tmp_path: Path) -> str:
    """Give a target with lamps, and a handler of `alarm` that fails."""
    return write_target(tmp_path)


def test_a_run_is_reported(target: str, tmp_path: Path, backend_name: str) -> None:
    """L7: the numbers of the summary, states, handlers, and each failure with its line."""
    page = tmp_path / "run.html"
    arguments = ("run", target, "--report", str(page), "--backend", backend_name)
    ran = run(*arguments, lines=LINES)
    plain = run("run", target, "--backend", backend_name, lines=LINES)
    assert (ran.status, ran.output, ran.reports) == (1, plain.output, plain.reports)
    written = page.read_text(encoding="utf-8")
    for part in (
        "<dt>messages</dt><dd>4</dd>",
        "<td>on</td><td>off</td><td>1</td><td>1 min</td><td>1 min</td>",
        '<td>alarm</td><td>tests</td><td>1</td><td class="bad">1</td>',
        '<summary>component.message.received <span class="faint">2 failed</span></summary>',
        'lamp</span> ValueError: no such luck <span class="faint">1 time, first at line 3</span>',
        'tests</span> RuntimeError: this handler fails <span class="faint">1 time, first at line 4',
        'broken</span> OSError: the lamp factory is on fire <span class="faint">1 time, first at ',
    ):
        assert part in written


def test_a_report_is_written_after_an_error_of_the_input(target: str, tmp_path: Path) -> None:
    """L7: whatever ended the run."""
    page = tmp_path / "run.html"
    ran = run("run", target, "--report", str(page), "--quiet", lines=[send("lamp"), "nonsense"])
    assert ran.status == 1
    assert "<dt>rejected lines</dt><dd>1</dd>" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("place", ["missing/run.html", "."])
def test_a_place_where_no_file_can_be_is_refused(target: str, tmp_path: Path, place: str) -> None:
    """L7: before anything is run."""
    ran = run("run", target, "--report", str(tmp_path / place), lines=LINES)
    assert (ran.status, ran.output) == (2, "")
    assert "the report can't be written to " in ran.told


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("is_read", [False, True])
def test_a_pipe_is_written_if_somebody_reads_it(
    target: str, tmp_path: Path, *, is_read: bool
) -> None:
    """L7: without a reader nothing is run, since the run would never end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) if is_read else None
    ran = run("run", target, "--report", str(pipe), "--quiet", lines=[send("lamp")])
    if reader is not None:
        assert (ran.status, os.read(reader, 15)) == (0, b"<!DOCTYPE html>")
        os.close(reader)
        return
    assert ran.status == 2
    assert f"the report can't be written to {pipe}: a pipe that somebody reads already" in ran.told


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_slow_reader_of_a_pipe_is_waited_for(tmp_path: Path) -> None:
    """L7: a page is larger than what a pipe takes at once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    opened = reporting._opened_pipe(str(pipe))
    assert os.get_blocking(opened)
    os.close(opened)
    os.close(reader)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told(target: str) -> None:
    """L7: and leads to status 1, below which the summary still is."""
    ran = run("run", target, "--report", "/dev/full", "--quiet", lines=[send("lamp")])
    assert ran.status == 1
    assert ran.reports == [f"flexiflow: the report can't be written: OSError: {NO_SPACE}"]


NO_SPACE = f"[Errno 28] {os.strerror(28)}"


def test_a_page_that_was_there_is_replaced(target: str, tmp_path: Path) -> None:
    """L7: as any output."""
    page = tmp_path / "run.html"
    page.write_text("<!DOCTYPE html>\n" + "x" * 1_000_000, encoding="utf-8")
    assert run("run", target, "--report", str(page), "--quiet", lines=[send("lamp")]).status == 0
    assert page.read_text(encoding="utf-8").endswith("</html>\n")


def test_a_file_that_is_no_page_is_kept(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L7: the input, say, or a store; also one that can't be read."""
    page = tmp_path / "log.jsonl"
    page.write_text(send("lamp"), encoding="utf-8")
    ran = run("run", target, str(page), "--report", str(page))
    assert (ran.status, ran.output) == (2, "")
    assert ran.told.endswith("log.jsonl, which is not a report: another name would be right\n")
    assert page.read_text(encoding="utf-8") == send("lamp")

    def refuse(*_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        ran = run("run", target, "--report", str(page), lines=[])
    assert ran.status == 2


@pytest.mark.parametrize("name", ["pygal", "pygraphviz"])
def test_what_is_missing_is_named(
    target: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L7: with the command that installs it; nothing is run."""
    monkeypatch.setitem(sys.modules, name, None)
    page = tmp_path / "run.html"
    ran = run("run", target, "--report", str(page), lines=LINES)
    assert (ran.status, ran.output, page.exists()) == (2, "", False)
    assert f"--report needs {name}: run pip install 'flexiflow[report]'" in ran.told


def test_the_target_may_subscribe_late(tmp_path: Path, backend_name: str) -> None:
    """L7: handlers that are subscribed while the run lasts are measured from then on."""
    late = TARGET + (
        "\n\nasync def join(message, component):\n"
        "    await HERE[0].bus.subscribe('late', 'late', fail)\n"
        "HERE = []\n"
        "TABLE.append(Transition('*', 'join', None, action=join))\n"
        "async def engine():\n"
        "    HERE.append(Engine(component_factory=lamp))\n"
        "    return HERE[0]\n"
    )
    page = tmp_path / "run.html"
    lines = [send("lamp", "join"), send("lamp"), '{"event": "late"}']
    arguments = ("run", write_target(tmp_path, late), "--report", str(page), "--quiet")
    assert run(*arguments, "--backend", backend_name, lines=lines).status == 1
    assert "<td>late</td><td>late</td><td>1</td>" in page.read_text(encoding="utf-8")
