"""`flexiflow verify` (P1): the table, the violations, and the exit status."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from flexiflow._cli import verify
from flexiflow.testing._contract import CONTRACT
from tests.command_line import run

BUSES = """
from tests.test_testing_check import Careless

async def careless():
    print("making one")
    return Careless()

def broken():
    raise OSError("no bus today")

def interrupted():
    raise KeyboardInterrupt

seven = 7
"""


@pytest.fixture
def buses(tmp_path: Path) -> str:
    """Give the name of a file with targets."""
    path = tmp_path / "buses.py"
    path.write_text(BUSES, encoding="utf-8")
    return str(path)


def test_a_bus_that_holds(backend: str) -> None:
    """P1: a row for each clause, a count, the seed, and status 0."""
    arguments = ("--backend", backend, "--examples", "1", "--seed", "5")
    ran = run("verify", "flexiflow:EventBus", *arguments)
    assert ran.status == 0
    header, *rows = ran.output.splitlines()
    assert header.split()[:4] == ["backend", "clause", "verdict", "examples"]
    assert [row.split()[:4] for row in rows] == [
        [backend, clause.identifier, "held", "1"] for clause in CONTRACT
    ]
    assert rows[3].endswith("  the order is by priority, then by age")
    assert ran.told == f"held: {len(CONTRACT)}, violated: 0, seed: 5\n"


def test_a_bus_that_does_not(buses: str, backend: str) -> None:
    """P1: a violation shows the sentence, the program and the seed, and the status is 1."""
    arguments = ("--backend", backend, "--examples", "20", "--seed", "5")
    ran = run("verify", f"{buses}:careless", *arguments)
    assert ran.status == 1
    assert [line.split()[2] for line in ran.output.splitlines() if " B4 " in line] == ["violated"]
    told = ran.output.partition(f"\nB4 does not hold on {backend}: ")[2]
    assert "\nB4: Handlers come in ascending order of the priority's number" in told
    assert "\nfrom buses import careless as factory\n" in told
    assert f'\nanyio.run(main, backend="{backend}")\n' in told
    assert "\nfound with seed=5\n" in told
    assert ran.told.startswith("making one\n")
    assert ran.told.endswith("seed: 5\n")


def test_every_backend_that_is_installed() -> None:
    """P1: without --backend the bus is verified on all there are, and a seed is drawn."""
    ran = run("verify", "flexiflow:EventBus", "--examples", "1")
    shown = dict.fromkeys(row.split()[0] for row in ran.output.splitlines()[1:])
    installed = [name for name in verify.BACKENDS if find_spec(name)]
    assert [*shown] == installed
    assert ("asyncio alone" in ran.told) == (installed == ["asyncio"])
    assert ran.told.splitlines()[-1].split(", ")[2].removeprefix("seed: ").isdigit()


def test_without_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: where trio is not installed, asyncio is verified alone, and that is said."""

    def find_asyncio(name: str) -> str | None:
        return name if name == "asyncio" else None

    monkeypatch.setattr(verify, "find_spec", find_asyncio)
    ran = run("verify", "flexiflow:EventBus", "--examples", "1")
    assert ran.status == 0
    assert {row.split()[0] for row in ran.output.splitlines()[1:]} == {"asyncio"}
    assert ran.told.startswith("flexiflow: trio is not installed: verified on asyncio alone\n")


def test_without_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: one line says what is missing, and the status is 2."""
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "flexiflow.testing._examine", raising=False)
    ran = run("verify", "flexiflow:EventBus")
    assert (ran.status, ran.output) == (2, "")
    assert ran.told == (
        "flexiflow: verify needs Hypothesis, which is not installed: "
        "pip install flexiflow[testing]\n"
    )


def test_another_module_that_is_missing_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: only for Hypothesis it is said to install it."""
    monkeypatch.setitem(sys.modules, "flexiflow.testing._contract", None)
    monkeypatch.delitem(sys.modules, "flexiflow.testing._examine", raising=False)
    with pytest.raises(ModuleNotFoundError, match="_contract"):
        verify.verify(verify.Options(target="flexiflow:EventBus", backends=(), examples=1, seed=1))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("seven", "must be a function, or a class, that makes a bus; it is no callable, but of "),
        ("broken", "can't be loaded: making a bus raised OSError: no bus today"),
        ("dict", "making a bus raised TypeError: factory must make a bus"),
        ("nothing", "has no 'nothing'"),
    ],
)
def test_a_target_that_makes_no_bus(buses: str, name: str, told: str) -> None:
    """P1: one clear line, no table, and status 2."""
    target = f"{buses}:{name}" if name != "dict" else "builtins:dict"
    ran = run("verify", target, "--backend", "asyncio")
    assert (ran.status, ran.output) == (2, "")
    assert told in ran.told
    assert len(ran.told.splitlines()) == 1


@pytest.mark.parametrize("option", [("--examples", "0"), ("--seed", "-1"), ("--backend", "curio")])
def test_wrong_usage(option: tuple[str, str]) -> None:
    """P1: an option out of range is refused, with status 2."""
    ran = run("verify", "flexiflow:EventBus", *option)
    assert (ran.status, ran.output) == (2, "")
    assert option[0] in ran.told


def test_ctrl_c(buses: str) -> None:
    """P1: Ctrl-C ends it with 130."""
    assert run("verify", f"{buses}:interrupted", "--backend", "asyncio").status == 130


def test_output_that_can_not_be_written() -> None:
    """P1: a full disk is told of, with status 1."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ran = run("verify", "flexiflow:EventBus", "--examples", "1", output=full)
        assert ran.status == 1
        assert "No space left" in ran.told
