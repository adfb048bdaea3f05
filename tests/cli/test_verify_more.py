"""`flexiflow verify` (P5): chosen clauses, methods that a bus lacks, and violations as tests."""

import os
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from flexiflow._cli.found import MARK, write_tests
from flexiflow._cli.target import load
from flexiflow.testing import ContractViolation
from flexiflow.testing._examiner.program import name_factory
from tests.cli.command_line import run

BUSES = """
from tests.testing.test_check import Careless as Real, Older, Thin

class Careless(Real):
    pass

class Moody(Thin):
    calls = 0
    def unsubscribe_all(self, component):
        Moody.calls += 1
        if Moody.calls == 1:
            raise OSError("not today")
        return super().unsubscribe_all(component)
"""
HOW = ("--examples", "10", "--seed", "5")


def fail(*_: object, **__: object) -> None:
    """Fail, as a file does."""
    raise OSError("no space left")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the current folder, which has a file with targets."""
    (tmp_path / "p5_buses.py").write_text(BUSES, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "p5_buses", raising=False)
    return tmp_path


@pytest.mark.unmeasured
def test_clauses_are_chosen(backend: str) -> None:
    """P5: with commas, or by several options; the table has no others."""
    chosen = ("--clause", "D1, B4", "--clause", "B7")
    ran = run("verify", "flexiflow:EventBus", "--backend", backend, *HOW, *chosen)
    assert ran.status == 0
    assert [row.split()[1] for row in ran.output.splitlines()[1:]] == ["B4", "B7", "D1"]
    assert ran.told == "held: 3, violated: 0, seed: 5\n"


def test_a_clause_that_is_unknown() -> None:
    """P5: those like it are named, and all there are, with status 2."""
    ran = run("verify", "flexiflow:EventBus", "--clause", "b4")
    assert (ran.status, ran.output) == (2, "")
    assert ran.told.startswith(
        "flexiflow: clauses must name clauses of this contract, not 'b4': did you mean B4"
    )


@pytest.mark.parametrize("how", [("--clause", "S1"), ("--clause", "S1", "--strict")])
def test_a_clause_that_is_asked_for_and_not_offered(folder: Path, how: tuple[str, ...]) -> None:
    """P5: that is a failure, with status 1."""
    ran = run("verify", "p5_buses.py:Older", "--backend", "asyncio", *HOW, *how)
    assert ran.status == 1
    assert "asyncio  S1      not offered         0  armed on entry (this bus has no s" in ran.output
    assert "\nS1 is not offered on asyncio: this bus has no stream, no expect\n" in ran.output
    assert ran.told == "held: 0, violated: 0, not offered: 1, seed: 5\n"


def test_strictly_everything_has_to_be_offered(folder: Path) -> None:
    """P5: the status is 1, and the table is whole."""
    how = ("--backend", "asyncio", "--examples", "1", "--seed", "5")
    ran = run("verify", "p5_buses.py:Older", "--strict", *how)
    assert ran.status == 1
    assert ran.told.endswith("violated: 0, not offered: 14, seed: 5\n")


def test_a_violation_that_does_not_happen_again(folder: Path) -> None:
    """P5: the table calls it flaky, and the status is 1."""
    ran = run("verify", "p5_buses.py:Moody", "--backend", "asyncio", *HOW, "--clause", "B6")
    assert ran.status == 1
    assert ran.output.splitlines()[1].split()[:3] == ["asyncio", "B6", "flaky"]
    assert "\nB6 is flaky on asyncio: the program was left by OSError: not today\n" in ran.output
    assert "what was raised:\n  Traceback (most recent call last):\n" in ran.output
    assert ran.told == "held: 0, violated: 0, flaky: 1, seed: 5\n"


@pytest.mark.unmeasured
def test_violations_are_written_as_tests(folder: Path, backend: str) -> None:
    """P5: each fails by itself by an assertion, and passes once the bus is right."""
    (folder / "tests").mkdir()
    file = folder / "tests" / "test_found.py"
    how = ("--backend", backend, *HOW, "--clause", "B4,B7,B12", "--write", "tests/test_found.py")
    ran = run("verify", "p5_buses.py:Careless", *how)
    assert ran.status == 1
    assert "flexiflow: wrote 2 tests to tests/test_found.py\n" in ran.told
    text = file.read_text(encoding="utf-8")
    assert text.startswith(f"{MARK} p5_buses.py:Careless`: each test fails as long as")
    assert "    # violated: started h0, h1, not h1, h0\n" in text
    sys.modules.pop("p5_buses", None)
    tests = runpy.run_path(str(file))
    with pytest.raises(AssertionError, match="B4 does not hold: started h0, h1, not h1, h0"):
        tests[f"test_b4_on_{backend}"]()
    with pytest.raises(AssertionError, match="B12 is not offered"):
        tests[f"test_b12_on_{backend}"]()
    with pytest.raises(AssertionError, match="B4 does not hold"):
        runpy.run_path(str(file), run_name="__main__")
    (folder / "p5_buses.py").write_text("from flexiflow import EventBus as Careless", "utf-8")
    sys.modules.pop("p5_buses", None)
    for name in (f"test_b4_on_{backend}", f"test_b12_on_{backend}"):
        tests[name]()


def test_what_was_written_before_is_replaced(folder: Path) -> None:
    """P5: a file of another hand is refused before anything is tried; nothing found writes none."""
    file = folder / "test_found.py"
    arguments = ("p5_buses.py:Careless", "--backend", "asyncio", *HOW, "--write", file.name)
    file.write_text("my own", encoding="utf-8")
    ran = run("verify", *arguments, "--clause", "B4")
    assert (ran.status, ran.output) == (2, "")
    assert "--write 'test_found.py': the file exists, and was not written by" in ran.told
    assert file.read_text(encoding="utf-8") == "my own"

    file.write_text(f"{MARK} something else`\n", encoding="utf-8")
    ran = run("verify", *arguments, "--clause", "B7")
    assert ran.status == 0
    assert "nothing was found, so test_found.py was not written\n" in ran.told
    assert file.read_text(encoding="utf-8") == f"{MARK} something else`\n"

    assert run("verify", *arguments, "--clause", "B4").status == 1
    assert "def test_b4_on_asyncio():\n" in file.read_text(encoding="utf-8")


def test_a_file_that_can_not_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P5: one clear line, and status 2 if that is known before anything is tried."""
    arguments = ("p5_buses.py:Careless", "--backend", "asyncio", *HOW, "--clause", "B4", "--write")
    ran = run("verify", *arguments, "away/test_found.py")
    assert (ran.status, ran.output) == (2, "")
    assert "--write 'away/test_found.py': there is no folder 'away'\n" in ran.told
    os.mkfifo(folder / "pipe")
    (folder / "nowhere").symlink_to("away/test_found.py")
    (folder / "locked.py").write_text(MARK, encoding="utf-8")
    mine = folder / "mine.py"
    mine.write_text(MARK, encoding="utf-8")
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).name in {"mine.py", folder.name})
    monkeypatch.setattr(Path, "open", fail)
    for path, reason in {
        str(folder): "it exists, and is no file",
        "pipe": "it exists, and is no file",
        "nowhere": "it exists, and is no file",
        "locked.py": "the file can't be written",
        "/new.py": "nothing can be written to its folder",
        str(mine): "it can't be replaced: no space left",
        "-": "standard output gets the table: name a file",
    }.items():
        ran = run("verify", *arguments, path)
        assert (ran.status, ran.output) == (2, "")
        assert ran.told == f"flexiflow: --write {path!r}: {reason}\n"


def test_a_file_that_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P5: what was found is shown all the same, and the seed; the status is that of a violation."""
    monkeypatch.setattr(Path, "write_text", fail)
    how = ("--backend", "asyncio", *HOW, "--clause", "B4", "--write", "test_found.py")
    ran = run("verify", "p5_buses.py:Careless", *how)
    assert ran.status == 1
    assert "B4 does not hold on asyncio" in ran.output
    assert ran.told == (
        "flexiflow: --write 'test_found.py': it can't be written: no space left\n"
        "held: 0, violated: 1, seed: 5\n"
    )


@pytest.mark.unmeasured
def test_a_target_whose_name_is_none_in_python(folder: Path) -> None:
    """P5: the tests import it all the same."""
    (folder / "my-buses.py").write_text(BUSES, encoding="utf-8")
    how = ("--backend", "asyncio", *HOW, "--clause", "B4", "--write", "test_found.py")
    assert run("verify", "my-buses.py:Careless", *how).status == 1
    tests = runpy.run_path("test_found.py")
    with pytest.raises(AssertionError, match="B4 does not hold: started h0, h1, not h1, h0"):
        tests["test_b4_on_asyncio"]()
    del sys.modules["my-buses"]


@pytest.mark.parametrize(
    ("name", "module"),
    [("my-bad.name.py", "my-bad.name"), ("runpy.py", "runpy_target"), (".bad.py", "bad")],
)
def test_a_target_that_import_does_not_find(folder: Path, name: str, module: str) -> None:
    """P5: a name with dots is a package's to `import`, another one a known module's or hidden."""
    (folder / name).write_text("class Careless: fails = True", encoding="utf-8")
    factory: Any = load(f"{name}:Careless")
    found = ContractViolation(
        clause="B4",
        sentence="It is kept.",
        complaint="it is not",
        counterexample=f"{name_factory(factory)}\nassert not factory.fails",
        history="",
        operations=0,
        backend="trio",
        seed=1,
    )
    write_tests("test_found.py", [f"{name}:Careless"], [found])
    del sys.modules[module]
    tests = runpy.run_path("test_found.py")
    with pytest.raises(AssertionError):
        tests["test_b4_on_trio"]()
    del sys.modules[module]
