"""How the command line finds its engine (L1, and exit status 2 of L5)."""

import sys
from pathlib import Path

import pytest

from flexiflow.__main__ import main
from tests.cli.command_line import TARGET, Ran, run, send, started, write_target

LINES = [send("lamp")]


def refused(ran: Ran) -> str:
    """Check that nothing was run, and return the one line that was told."""
    assert ran.status == 2
    assert ran.output == ""
    (line,) = ran.told.splitlines()
    return line


def test_a_file_is_a_target(tmp_path: Path, backend_name: str) -> None:
    """L1: `path/to/file.py:name` names an async function that returns an engine."""
    ran = run("run", write_target(tmp_path), "--backend", backend_name, lines=LINES)
    assert (ran.status, ran.summary["transitions"]) == (0, 1)


def test_a_module_of_the_current_directory_is_a_target(
    tmp_path: Path, backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L1: `package.module:name` is imported from the current directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    write_target(tmp_path / "shop", name="floor.py")
    ran = run("run", "shop.floor:engine", "--backend", backend_name, lines=LINES)
    assert (ran.status, ran.summary["transitions"]) == (0, 1)


@pytest.mark.parametrize(
    "source",
    [
        "from flexiflow import Engine\nengine = Engine()",
        "from flexiflow import Engine\ndef engine(): return Engine()",
        "from flexiflow import Engine as engine",
    ],
    ids=["engine", "sync function", "class"],
)
def test_a_target_may_be_an_engine_or_return_one(tmp_path: Path, source: str) -> None:
    """L1: an engine that is there already is taken, and so is what a sync function returns."""
    assert run("run", write_target(tmp_path, source)).status == 0


def test_a_function_is_called_inside_the_event_loop(tmp_path: Path, backend_name: str) -> None:
    """L1: what makes the engine may ask which backend runs it."""
    source = (
        "from anyio import get_current_task\nfrom flexiflow import Engine\n"
        "def engine():\n    get_current_task()\n    return Engine()"
    )
    assert run("run", write_target(tmp_path, source), "--backend", backend_name).status == 0


def test_a_file_may_import_its_neighbours(tmp_path: Path) -> None:
    """L1: the folder of a target's file is on the import path, after the current directory."""
    write_target(tmp_path, name="neighbour_of_target.py")
    target = write_target(tmp_path, "from neighbour_of_target import engine")
    assert run("run", target, lines=LINES).status == 0


def test_a_file_called_like_a_module_in_use_does_not_replace_it(tmp_path: Path) -> None:
    """L1: a target in `json.py` is loaded under another name."""
    json = sys.modules["json"]
    ran = run("run", write_target(tmp_path, TARGET, name="json.py"), lines=LINES)
    assert ran.status == 0
    assert sys.modules["json"] is json


@pytest.mark.parametrize("target", ["target", "target:", ":engine", ""])
def test_a_target_without_its_parts_is_refused(target: str) -> None:
    """L5: a target without a colon, or with nothing on one side of it, is a usage error."""
    assert "must be 'package.module:name' or 'path/to/file.py:name'" in refused(run("run", target))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("no_such_module:engine", "No module named 'no_such_module'"),
        ("no/such/file.py:engine", "there is no file 'no/such/file.py'"),
        ("C:\\no\\such.py:engine", "there is no file 'C:\\\\no\\\\such.py'"),
        ("./README.md:engine", "its name ending in .py, not './README.md'"),
    ],
)
def test_a_target_that_is_not_there_is_refused(target: str, said: str) -> None:
    """L5: a missing module or file, or a file that isn't Python, is told with its name."""
    assert said in refused(run("run", target))


def test_a_wrong_name_in_a_module_comes_with_the_right_one(tmp_path: Path) -> None:
    """L5: a name that a module doesn't have is refused, with those that are close to it."""
    target = write_target(tmp_path).replace(":engine", ":engin")
    assert "has no 'engin'; did you mean 'engine' or 'Engine'?" in refused(run("run", target))


def test_a_name_like_no_other_is_refused_without_a_guess(tmp_path: Path) -> None:
    """L5: where nothing is close to a missing name, nothing is suggested."""
    target = write_target(tmp_path).replace(":engine", ":xyzzy")
    assert refused(run("run", target)).endswith("has no 'xyzzy'")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = (", "importing it raised SyntaxError: '(' was never closed"),
        ("1 / 0", "importing it raised ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)", "importing it raised SystemExit: 0"),
        ("raise SystemExit", "importing it raised SystemExit"),
        ("raise ValueError('two\\nlines')", "importing it raised ValueError: two lines"),
        ("def engine(): raise OSError('no')", "calling it raised OSError: no"),
        ("async def engine(): raise SystemExit('no')", "calling it raised SystemExit: no"),
        ("def engine(shop): pass", "calling it raised TypeError: "),
        ("engine = 5", "it is 5"),
        ("def engine(): return None", "it returned None"),
        ("async def engine(): return 'x' * 1000", "..."),
        ("class E:\n def __repr__(s): 1/0\nengine = E()", "it is <E without a repr>"),
        ("class E(Exception):\n def __str__(s): 1/0\nraise E", "importing it raised E"),
        ("raise Exception('\\x1b[31mred')", r"importing it raised Exception: \x1b[31mred"),
    ],
)
def test_a_target_that_fails_is_refused(tmp_path: Path, source: str, said: str) -> None:
    """L5: an exception of importing or calling a target is told on one line, with status 2."""
    line = refused(run("run", write_target(tmp_path, source)))
    assert said in line
    assert len(line) < 1_200


def test_a_failure_of_a_target_is_told_with_its_place(tmp_path: Path) -> None:
    """L5: who looks for what a target raised is told its file and line."""
    target = write_target(tmp_path, "\n\n1 / 0")
    assert refused(run("run", target)).endswith("target.py, line 3)")


def test_what_our_own_call_raises_has_no_place(tmp_path: Path) -> None:
    """L5: A place in FlexiFlow would help nobody to mend the target."""
    target = write_target(tmp_path, "def engine(needed): ...")
    assert refused(run("run", target)).endswith("missing 1 required positional argument: 'needed'")


def test_an_unknown_backend_is_refused() -> None:
    """L5: only asyncio and trio can be asked for."""
    assert "'asyncio', 'trio'" in refused(run("run", "target:engine", "--backend", "curio"))


def test_a_backend_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """L5: without trio, asking for it tells what to install."""
    monkeypatch.setitem(sys.modules, "trio", None)
    line = refused(run("run", "target:engine", "--backend", "trio"))
    assert "pip install flexiflow[trio]" in line


@pytest.mark.parametrize("pattern", ["", "a..b", "**.a", "a*"])
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    """L5: what can't be subscribed to can't be asked for by `--events` either."""
    assert "'--events'" in refused(run("run", "target:engine", "--events", pattern))


@pytest.mark.parametrize(
    "arguments", [(), ("run",), ("nonsense",), ("run", "t:e", "--nonsense"), ("graph",)]
)
def test_wrong_usage_is_refused(arguments: tuple[str, ...]) -> None:
    """L5: missing or unknown arguments end with one line and status 2."""
    refused(run(*arguments))


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("graph", "--help")])
def test_help_is_given(arguments: tuple[str, ...]) -> None:
    """L5: asking for help is no failure."""
    ran = run(*arguments)
    assert ran.status == 0
    assert "TARGET" in ran.output


def test_the_help_tells_the_shapes_of_lines_and_the_exit_statuses() -> None:
    """L2: the two shapes of a line are shown as they are written; so is each status (L5)."""
    lines = [line.strip() for line in run("run", "--help").output.splitlines()]
    assert '{"component": "order-7", "message": {"type": "confirm"}}' in lines
    assert '{"event": "order.placed", "data": {"item": "lamp"}}' in lines
    assert "130  Ctrl-C" in lines


def test_without_click_the_command_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """L5: the core alone has no command line, and says how to get it."""
    monkeypatch.delitem(sys.modules, "flexiflow._cli.commands", raising=False)
    monkeypatch.setitem(sys.modules, "click", None)
    assert "pip install flexiflow[cli]" in refused(run("run", "target:engine"))


def test_another_missing_module_is_not_taken_for_click(monkeypatch: pytest.MonkeyPatch) -> None:
    """L5: only the absence of click is told as such."""
    monkeypatch.delitem(sys.modules, "flexiflow._cli.commands", raising=False)
    monkeypatch.setitem(sys.modules, "flexiflow._cli.graph", None)
    with pytest.raises(ModuleNotFoundError):
        run("run", "target:engine")


def test_the_package_can_be_run_as_a_module() -> None:
    """L1: `python -m flexiflow` is the same command line."""
    with started("run", "target") as process:
        assert process.wait(60) == 2


def test_whatever_the_function_raises_is_told(tmp_path: Path, backend_name: str) -> None:
    """L5: a target can't be loaded if its function raises an exit."""
    source = "class Odd(BaseException): ...\n\ndef engine():\n    raise Odd('no')\n"
    ran = run("run", write_target(tmp_path, source), "--backend", backend_name)
    assert ran.status == 2
    assert "calling it raised Odd: no" in ran.told


def test_ctrl_c_while_the_command_line_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """L5: before anything has begun, Ctrl-C ends it with 130 and without a traceback."""

    class Interrupting:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "flexiflow._cli.commands":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "flexiflow._cli.commands", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 130


def test_ctrl_c_while_the_function_runs(tmp_path: Path, backend_name: str) -> None:
    """L5: the target is not to blame for Ctrl-C, which ends the run with 130."""
    source = "def engine():\n    raise KeyboardInterrupt\n"
    ran = run("run", write_target(tmp_path, source), "--backend", backend_name)
    assert (ran.status, ran.output, ran.told) == (130, "", "")
