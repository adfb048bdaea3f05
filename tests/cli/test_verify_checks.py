"""`flexiflow verify` (P1, P6, P7): stores, and partials of the checks of `flexiflow.testing`."""

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flexiflow import testing
from flexiflow._cli import checks
from flexiflow._cli.found import write_tests
from flexiflow._cli.verify import BACKENDS
from flexiflow.testing import (
    ContractViolation,
    Crashes,
    CrashFailure,
    LeadsTo,
    MachineReport,
)
from tests.cli.command_line import run

TARGETS = """
from functools import partial

import anyio
from hypothesis import strategies as st

from flexiflow import Component, Engine, EventBus, StateMachine, Transition
from flexiflow.extras.durable import MemoryTransport
from flexiflow.extras.stores import MemoryStateStore
from flexiflow.testing import (
    check_bus, check_component, check_machine, check_store, check_transport, crash_everywhere,
    explore,
)

LIFE = StateMachine("off", [Transition("off", "on", "on"), Transition("on", "off", "off")])

class Lamp(Component):
    def __init__(self, name):
        super().__init__(name, machine=LIFE)

def make():
    return Engine(component_factory=Lamp)

def is_lit_or_not(lamp):
    return lamp.state in {"on", "off"}

def never_lit(lamp):
    return lamp.state == "off"

def confused(lamp):
    raise LookupError("which lamp?")

def claims(*invariants, **claimed):
    messages = {"lamp": st.sampled_from([{"type": "on"}, {"type": "off"}])}
    # An iterator has to last for all backends.
    given = (each for each in invariants)
    return partial(check_machine, make, messages=messages, invariants=given, **claimed)

right = claims(is_lit_or_not, never=[lambda lamp: lamp.state == "broken"],
               leads_to=[("on", "off")], fair=["off"])
wrong = claims(never_lit, seed=1)
unclear = claims(confused)
unknown = claims(never=["broken"])

async def worker(folder):
    await anyio.sleep(0)

def is_done(folder):
    return True

async def restart(transport):
    pass

crashes = partial(crash_everywhere, worker, check=is_done)
buses = partial(check_bus, EventBus, backend="asyncio", examples=2, clauses=("B4", "B7"))
stores = partial(check_store, MemoryStateStore, strict=True)
transports = partial(check_transport, MemoryTransport, restart=restart, lease=None, scale=0.001)
components = partial(check_component, partial(Component))
no_factory = partial(check_bus)
no_messages = partial(check_machine, make)
misspelt = partial(check_bus, EventBus, backened="trio")
two_names = partial(check_bus, EventBus, clauses="B4")
explored = partial(explore, worker)
no_invariant = claims(3)
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the name of a file with targets, in the current folder."""
    (tmp_path / "kit.py").write_text(TARGETS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return "kit.py"


def stand_in(monkeypatch: pytest.MonkeyPatch, **functions: object) -> None:
    """Let the command call something else than a check; targets hold the check itself."""
    monkeypatch.setattr(checks, "testing", SimpleNamespace(**{**vars(testing), **functions}))


def rows(output: str) -> list[list[str]]:
    """Return the first columns of the table, without its head."""
    table, _, _ = output.partition("\n\n")
    return [line.split(maxsplit=4) for line in table.splitlines()[1:]]


@pytest.mark.unmeasured
def test_a_machine_whose_claims_hold(file: str) -> None:
    """P6: each claim has its row on each backend, and the report is shown below."""
    ran = run("verify", f"{file}:right", "--examples", "5", "--seed", "7")
    assert ran.status == 0
    backends = [name for name in BACKENDS if find_spec(name)]
    assert [row[:3] + row[4:] for row in rows(ran.output)] == [
        [backend, "P6", "held", claim]
        for backend in backends
        for claim in (
            "the invariant is_lit_or_not",
            "never lambda lamp: lamp.state == 'broken'",
            "'on' leads to 'off'",
            "each program ends",
        )
    ]
    for backend in backends:
        assert f"\n5 programs on {backend} with " in ran.output
    assert "\ntransitions taken: 2 of 2\n" in ran.output
    assert ran.told.endswith(f"held: {4 * len(backends)}, violated: 0, seed: 7\n")


def test_a_claim_that_does_not_hold(file: str, backend: str) -> None:
    """P5, P6: it is shown, and written as a test that fails by itself; the status is 1."""
    arguments = ("--backend", backend, "--examples", "5", "--write", "test_found.py")
    ran = run("verify", f"{file}:wrong", *arguments)
    assert ran.status == 1
    assert rows(ran.output) == [[backend, "P6", "violated", "-", "the invariant never_lit"]]
    assert f"\nthe invariant never_lit does not hold on {backend}: lamp breaks it" in ran.output
    assert ran.told == ("flexiflow: wrote 1 test to test_found.py\nheld: 0, violated: 1, seed: 1\n")
    tests = runpy.run_path("test_found.py")
    with pytest.raises(AssertionError, match="the invariant never_lit"):
        tests[f"test_the_invariant_never_lit_on_{backend}"]()
    del sys.modules["kit"]


@pytest.mark.parametrize(
    ("counts", "word"),
    [((2, 1, 0), "inconclusive"), ((0, 0, 3), "not reached"), ((1, 0, 2), "held")],
)
def test_a_claim_that_was_not_put_to_the_test(
    file: str, monkeypatch: pytest.MonkeyPatch, counts: tuple[int, int, int], word: str
) -> None:
    """P6: what is inconclusive in one program, or never reached, is not called held."""

    def check(*_: object, **__: object) -> MachineReport:
        led = LeadsTo("'on' leads to 'off'", *counts)
        return MachineReport("asyncio", 1, 3, 9, {}, 0, (), (led,))

    stand_in(monkeypatch, check_machine=check)
    ran = run("verify", f"{file}:right", "--backend", "asyncio")
    assert ran.status == 0
    assert f"asyncio  P6      {word:<12} {counts[0]:>8}  'on' leads to 'off'\n" in ran.output


@pytest.mark.once
@pytest.mark.unmeasured
def test_a_scenario_of_crashes(file: str) -> None:
    """P7: its row tells at how many points it was killed, and the report is shown below."""
    ran = run("verify", f"{file}:crashes", "--backend", "asyncio", "--most", "1")
    assert ran.status == 0
    assert rows(ran.output) == [
        ["asyncio", "P7", "held", "1", "is_done passes, wherever a worker is killed"]
    ]
    assert ran.output.endswith("\n\non asyncio: killed at 1 of 1 points\n")
    assert ran.told == "held: 1, violated: 0\n"


def test_crashes_that_lose_something(
    file: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: the crash is shown, and the status is 1; options go before what the target holds."""
    given: dict[str, Any] = {}

    def crash(**arguments: Any) -> Crashes:
        given.update(arguments)
        raise CrashFailure(
            backend=backend,
            at="worker:00000000:1",
            place="kit.py:1, in worker",
            exception=AssertionError("lost"),
            history="",
            output="",
        )

    stand_in(monkeypatch, crash_everywhere=crash)
    ran = run("verify", f"{file}:crashes", "--backend", backend, "--at", "worker:00000000:1")
    assert ran.status == 1
    assert (given["backend"], given["at"]) == (backend, "worker:00000000:1")
    assert rows(ran.output)[0][2:4] == ["violated", "-"]
    assert "after 'worker' was killed: AssertionError: lost\n" in ran.output
    assert ran.told == "held: 0, violated: 1\n"


def test_a_crash_that_does_not_come(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P7: where no point was reached, nothing is said to hold."""
    crashes = Crashes({}, 1, {"worker:00000000:1": ""})
    stand_in(monkeypatch, crash_everywhere=lambda **_: crashes)
    ran = run("verify", f"{file}:crashes", "--backend", "asyncio")
    assert ran.status == 0
    assert ran.told == "held: 0, violated: 0, not reached: 1\n"


def test_a_store(file: str, backend: str) -> None:
    """P1: a store has a contract of its own."""
    arguments = ("--contract", "store", "--examples", "1", "--seed", "5", "--clause", "K2")
    target = "flexiflow.extras.stores:MemoryStateStore"
    ran = run("verify", target, "--backend", backend, *arguments)
    assert ran.status == 0
    assert {(row[0], row[1], row[2]) for row in rows(ran.output)} == {(backend, "K2", "held")}
    assert ran.told == "held: 9, violated: 0, seed: 5\n"


@pytest.mark.unmeasured
def test_what_a_partial_holds(file: str) -> None:
    """P1: a partial of a check tells its kind, and holds its arguments; options go before them."""
    ran = run("verify", f"{file}:buses", "--seed", "5")
    assert [row[:3] for row in rows(ran.output)] == [
        ["asyncio", "B4", "held"],
        ["asyncio", "B7", "held"],
    ]
    ran = run("verify", f"{file}:buses", "--seed", "5", "--clause", "D4", "--examples", "1")
    assert [row[:4] for row in rows(ran.output)] == [["asyncio", "D4", "held", "1"]]
    arguments = ("--backend", "asyncio", "--examples", "1", "--seed", "5")
    ran = run("verify", f"{file}:stores", "--contract", "store", *arguments)
    assert ran.told == "held: 9, violated: 0, seed: 5\n"
    ran = run("verify", f"{file}:transports", "--clause", "X8", *arguments)
    assert ran.told == "held: 1, violated: 0, seed: 5\n"
    ran = run("verify", f"{file}:components", "--clause", "C1", *arguments)
    assert ran.told == "held: 1, violated: 0, seed: 5\n"


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("no_factory", "must be partial(check_bus, factory, ...), with a factory"),
        ("misspelt", "is no usable partial of check_bus: got an unexpected keyword argument"),
        ("no_messages", "checking the machine raised TypeError: check_machine() missing 1 "),
        ("unknown", "checking the machine raised ValueError: never names the state 'broken', "),
        ("two_names", "flexiflow: clauses must be several names"),
        ("explored", "is a partial of explore, which is for tests; that of a check is one of "),
        (
            "no_invariant",
            "invariants[0] must be callable with 1 positional argument, not 3\n",
        ),
        ("worker", "what makes no bus needs --contract, or is a partial of its check"),
        ("make", "what makes no bus needs --contract, or is a partial of its check"),
        ("LIFE", "or a functools.partial of a check; it is <StateMachine 'off': "),
    ],
)
def test_a_target_that_can_not_be_used(file: str, target: str, told: str) -> None:
    """P1: one clear line, no table, and status 2."""
    ran = run("verify", f"{file}:{target}", "--backend", "asyncio")
    assert (ran.status, ran.output) == (2, "")
    assert told in ran.told
    assert ran.told.count("\n") == 1


def test_a_claim_that_raises(file: str) -> None:
    """P6: that is a mistake in the claim, which is shown with its traceback; the status is 2."""
    ran = run("verify", f"{file}:unclear", "--backend", "asyncio")
    assert (ran.status, ran.output) == (2, "")
    first, *traceback = ran.told.splitlines()
    assert "checking the machine raised LookupError: which lamp? (" in first
    assert "  LookupError: which lamp?" in traceback


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("right", "--clause", "B4"),
            (
                "--clause is for buses, components, transports and stores, and 'kit.py:right' is "
                "verified as a machine"
            ),
        ),
        (
            ("right", "--engine", "flexiflow:Engine"),
            "--engine is for components, and 'kit.py:right' is verified as a machine",
        ),
        (
            ("crashes", "--seed", "0"),
            (
                "--seed is for buses, components, transports, stores and machines, and "
                "'kit.py:crashes' is verified as a scenario of crashes"
            ),
        ),
        (
            ("make", "--at", "worker:00000000:1"),
            (
                "--at is for crashes, and 'kit.py:make' is verified as a bus: the target of "
                "crashes is a functools.partial of crash_everywhere"
            ),
        ),
        (
            ("buses", "--contract", "store"),
            "target 'kit.py:buses' is a partial of check_bus: leave --contract store out",
        ),
    ],
)
def test_an_option_for_something_else(file: str, arguments: tuple[str, ...], told: str) -> None:
    """P1: what would not be used is refused, with status 2."""
    target, *options = arguments
    ran = run("verify", f"{file}:{target}", *options)
    assert (ran.status, ran.output, ran.told) == (2, "", f"flexiflow: {told}\n")


def test_violations_of_one_clause(tmp_path: Path) -> None:
    """P5: the tests of several parts of one clause have different names."""
    program = "x = 1\n\n\ndef test_k2():\n    assert not x"
    found = ContractViolation(
        clause="K2",
        sentence='It is "kept".',
        complaint="it is not",
        counterexample=f'{program}\n\n\nif __name__ == "__main__":\n    test_k2()\n',
        history="",
        operations=0,
        backend="trio",
        seed=1,
    )
    path = tmp_path / "test_found.py"
    assert "wrote 2 tests" in write_tests(str(path), ["kit.py:Store"], [found, found])
    tests = runpy.run_path(str(path))
    for name in ("test_k2_on_trio", "test_k2_on_trio_2"):
        assert tests[name].__doc__ == 'K2: It is "kept".'
        with pytest.raises(AssertionError):
            tests[name]()
