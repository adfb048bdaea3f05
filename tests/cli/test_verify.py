"""`flexiflow verify` (P1): the table, the violations, and the exit status."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from flexiflow._cli import verify
from flexiflow._cli.choices import Options
from flexiflow._cli.display import Display, Plain
from flexiflow.testing._bus import contract
from flexiflow.testing._bus.contract import CONTRACT
from flexiflow.testing._component.contract import COMPONENT_CONTRACT
from flexiflow.testing._examiner.clause import Clause
from flexiflow.testing._transport.contract import TRANSPORT_CONTRACT
from tests.cli.command_line import run

BUSES = """
from contextlib import asynccontextmanager
from flexiflow import Component, Engine, EventBus
from flexiflow.extras.durable import MemoryTransport
from tests.testing.test_check import Careless

async def careless():
    print("making one")
    return Careless()

def broken():
    raise OSError("no bus today")

def interrupted():
    raise KeyboardInterrupt

class Kept(Component):
    pass

left = list(range(24))

def exhausted():
    if not left:
        raise OSError("no more buses today")
    return EventBus(yield_every=left.pop() + 1)

class Forgetful(Engine):
    async def send(self, name, message):
        await self.bus.publish("lost")
        return await super().send(name, message)

class Older:
    def __init__(self):
        self.bus = EventBus()
        self.unsubscribe = self.bus.unsubscribe
        self.unsubscribe_all = self.bus.unsubscribe_all
        self.publish = self.bus.publish

    async def subscribe(self, event, component, handler, *, priority=3, filter=None, once=False):
        options = {"priority": priority, "filter": filter, "once": once}
        return await self.bus.subscribe(event, component, handler, **options)

class Twice:
    def __init__(self):
        self.memory = MemoryTransport()

    @asynccontextmanager
    async def connect(self):
        async with self.memory.connect() as self.connection:
            yield self

    def __getattr__(self, name):
        return getattr(self.connection, name)

    async def store(self, batch):
        await self.connection.store(batch)
        await self.connection.store(batch._replace(producer="else"))

async def restart(transport):
    pass

async def damage(transport, partition, position):
    del transport._state.logs[partition].records[int(position)]

def steady():
    return MemoryTransport()

def sometimes():
    if not left:
        raise OSError("no transport today")
    left.pop()
    return MemoryTransport()

seven = 7
"""


on_one_backend = pytest.mark.parametrize("backend", ["trio"] if find_spec("trio") else ["asyncio"])
"""For what takes seconds: the kit, which is tested on all backends, runs it; here it is shown."""


@pytest.fixture
def buses(tmp_path: Path) -> str:
    """Give the name of a file with targets."""
    path = tmp_path / "buses.py"
    path.write_text(BUSES, encoding="utf-8")
    return str(path)


@pytest.mark.unmeasured
def test_a_bus_that_holds(backend: str) -> None:
    """P1: a row for each clause, a count, the seed, and status 0."""
    arguments = ("--backend", backend, "--examples", "1", "--seed", "5")
    ran = run("verify", "flexiflow:EventBus", *arguments)
    assert ran.status == 0
    header, *rows = ran.output.splitlines()
    assert header.split()[:4] == ["backend", "clause", "verdict", "examples"]
    assert [row.split()[:3] for row in rows] == [
        [backend, clause.identifier, "held"] for clause in CONTRACT
    ]
    # Some clauses are also tried with a program that is not drawn.
    assert {row.split()[3] for row in rows} == {"1", "2"}
    assert rows[3].endswith("  the order is by priority, then by age")
    assert ran.told == f"held: {len(CONTRACT)}, violated: 0, seed: 5\n"


def test_a_clause_that_nothing_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: it is shown, and not said to hold."""
    clause = Clause("B99", "a promise", "Something is promised.", None)
    monkeypatch.setattr(contract, "CONTRACT", (*CONTRACT[:1], clause))
    arguments = ("--backend", "asyncio", "--examples", "1", "--seed", "5")
    ran = run("verify", "flexiflow:EventBus", *arguments)
    assert ran.status == 0
    assert ran.output.splitlines()[-1].split() == [
        "asyncio",
        "B99",
        "unchecked",
        "0",
        "a",
        "promise",
    ]
    assert ran.told == "held: 1, violated: 0, unchecked: 1, seed: 5\n"


@pytest.mark.unmeasured
def test_a_bus_that_lacks_something(buses: str) -> None:
    """P5: a clause that needs more than the bus has is not offered, which breaks nothing."""
    arguments = ("--backend", "asyncio", "--examples", "1", "--seed", "5")
    ran = run("verify", f"{buses}:Older", *arguments)
    assert ran.status == 0
    lacking = [row.split()[1] for row in ran.output.splitlines() if " not offered " in row]
    assert " ".join(lacking) == "B12 B15 S1 S2 S3 S4 V1 V2 I1 I2 I3 A1 A2 A3"
    assert "  armed on entry (this bus has no stream, no expect)\n" in ran.output
    assert "  a time limit (this bus has no subscribe(time_limit=))\n" in ran.output
    assert ran.told == f"held: {len(CONTRACT) - 14}, violated: 0, not offered: 14, seed: 5\n"


@pytest.mark.unmeasured
def test_a_component_that_holds(backend: str, buses: str) -> None:
    """P1: components have a contract of their own, and a row for each of its clauses."""
    arguments = ("--backend", backend, "--examples", "1", "--contract", "component")
    ran = run("verify", f"{buses}:Kept", *arguments, "--seed", "5")
    assert ran.status == 0
    assert [row.split()[1:3] for row in ran.output.splitlines()[1:]] == [
        [clause.identifier, "held"] for clause in COMPONENT_CONTRACT
    ]


@on_one_backend
@pytest.mark.unmeasured
@pytest.mark.once
def test_an_engine_that_does_not(backend: str, buses: str) -> None:
    """P1: --engine names another host for the components, whose violations are shown."""
    arguments = ("--backend", backend, "--seed", "5", "--examples", "6", "--clause", "C5")
    engine = ("--contract", "component", "--engine", f"{buses}:Forgetful")
    ran = run("verify", f"{buses}:Kept", *arguments, *engine)
    assert ran.status == 1
    assert "from buses import Kept as factory\n" in ran.output
    assert "from buses import Forgetful as new_engine\n" in ran.output
    assert "\nfound with seed=5\n" in ran.output


@pytest.mark.once
@pytest.mark.usefixtures("buses")
def test_both_targets_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: a file that is named twice is imported once, also by a relative path."""
    monkeypatch.chdir(tmp_path)
    arguments = (
        "--contract",
        "component",
        "--examples",
        "6",
        "--seed",
        "5",
        "--backend",
        "asyncio",
        "--clause",
        "C5",
    )
    ran = run("verify", "buses.py:Kept", "--engine", "buses.py:Forgetful", *arguments)
    assert "from buses import Forgetful as new_engine\n" in ran.output


def test_a_component_where_a_bus_is_expected() -> None:
    """P1: a missing `--contract` is told, with status 2."""
    ran = run("verify", "flexiflow:Component")
    assert (ran.status, ran.output) == (2, "")
    assert ran.told == (
        "flexiflow: target 'flexiflow:Component' makes components, not buses; to verify those: "
        "--contract component\n"
    )


def test_an_engine_for_a_bus() -> None:
    """P1: an engine that would not be used is refused, with status 2."""
    ran = run("verify", "flexiflow:EventBus", "--engine", "flexiflow:Engine")
    assert (ran.status, ran.output) == (2, "")
    assert "--contract component" in ran.told


QUICKLY = ("--contract", "transport", "--examples", "1", "--scale", "0.001", "--seed", "5")


@on_one_backend
@pytest.mark.once
def test_a_transport_that_holds(backend: str, buses: str) -> None:
    """P1: transports have a contract of their own, and hooks by which the last clause is tried."""
    hooks = ("--restart", f"{buses}:restart", "--damage", f"{buses}:damage", "--lease", "5")
    target = "flexiflow.extras.durable:MemoryTransport"
    ran = run("verify", target, "--backend", backend, *QUICKLY, *hooks)
    held = len(TRANSPORT_CONTRACT) - 1
    assert (ran.status, ran.told) == (0, f"held: {held}, violated: 0, not offered: 1, seed: 5\n")
    assert [row.split()[1:3] for row in ran.output.splitlines()[1:]] == [
        [clause.identifier, "not" if clause.identifier == "X13" else "held"]
        for clause in TRANSPORT_CONTRACT
    ]


@pytest.mark.unmeasured
@pytest.mark.once
def test_a_transport_that_lacks_something(buses: str) -> None:
    """P1: what can't be tried without a hook, or an option of the factory, is told."""
    ran = run("verify", f"{buses}:steady", "--backend", "asyncio", *QUICKLY)
    assert ran.status == 0
    assert "  backpressure (this transport has no max_length)\n" in ran.output
    assert (
        "  faults are survived, and told (this transport has no damage, no restart)" in ran.output
    )
    assert "  what a server has lost (this transport has no empty)\n" in ran.output
    held = len(TRANSPORT_CONTRACT) - 3
    assert ran.told == f"held: {held}, violated: 0, not offered: 3, seed: 5\n"


@on_one_backend
@pytest.mark.once
def test_a_transport_that_does_not(backend: str, buses: str) -> None:
    """P1: a violation shows the sentence, the program and the seed, and the status is 1."""
    ran = run("verify", f"{buses}:Twice", "--backend", backend, *QUICKLY, "--clause", "X2")
    assert ran.status == 1
    told = ran.output.partition(f"\nX2 does not hold on {backend}: ")[2]
    assert told.startswith("record p1.0 was stored again\n")
    assert "\nX2: A batch that its producer stores again, as after a reply that was lost" in told
    assert "\nfrom buses import Twice as factory\n" in told
    assert "\n        await desk.store('p', None)\n" in told
    assert "\nfound with seed=5\n" in told


@pytest.mark.parametrize(
    ("name", "hook", "told"),
    [
        (
            "seven",
            "restart",
            "class, that makes a transport, or a functools.partial of a check; it is 7",
        ),
        ("sometimes", "seven", "making a transport raised TypeError: damage must be callable with"),
        ("broken", "damage", "making a transport raised OSError: no bus today ("),
        ("Older", "damage", "making a transport raised TypeError: factory must make a transport"),
    ],
)
def test_a_target_that_makes_no_transport(buses: str, name: str, hook: str, told: str) -> None:
    """P1: one clear line, no table, and status 2."""
    hooks = ("--damage", f"{buses}:{hook}")
    ran = run("verify", f"{buses}:{name}", "--backend", "asyncio", *QUICKLY, *hooks)
    assert (ran.status, ran.output) == (2, "")
    assert told in ran.told


@pytest.mark.unmeasured
def test_a_transport_that_can_not_be_made_any_more(buses: str) -> None:
    """P1: what a factory raises breaks no clause: the target can't be used, with status 2."""
    ran = run("verify", f"{buses}:sometimes", "--backend", "asyncio", *QUICKLY)
    assert ran.status == 2
    assert "making a transport raised OSError: no transport today (" in ran.told
    assert "violated" not in ran.output


@pytest.mark.parametrize(
    "option", ["--restart", "--damage", "--insert", "--empty", "--lease", "--scale"]
)
def test_what_is_only_for_transports(option: str) -> None:
    """P1: what would not be used is refused, with status 2."""
    ran = run("verify", "flexiflow:EventBus", option, "1")
    assert (ran.status, ran.output) == (2, "")
    assert ran.told == (
        f"flexiflow: {option} is for transports, and 'flexiflow:EventBus' is verified as a bus: "
        "add --contract transport\n"
    )


@pytest.mark.unmeasured
def test_progress_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: on a terminal one sees how far it has got."""
    seen: list[str] = []

    def update(_: Display, progress: str) -> None:
        seen.append(progress)

    monkeypatch.setattr(Plain, "update", update)
    arguments = ("--backend", "asyncio", "--examples", "1", "--seed", "5")
    assert run("verify", "flexiflow:EventBus", *arguments).status == 0
    total = len(CONTRACT)
    expected = [f"{n} of {total} clauses, held: {n}, violated: 0" for n in range(total + 1)]
    assert seen == ["asyncio: making a bus", *expected]


@on_one_backend
@pytest.mark.once
def test_a_bus_that_does_not(buses: str, backend: str) -> None:
    """P1: a violation shows the sentence, the program and the seed, and the status is 1."""
    arguments = ("--backend", backend, "--examples", "6", "--seed", "5", "--clause", "B4,B5")
    ran = run("verify", f"{buses}:careless", *arguments)
    assert ran.status == 1
    assert [line.split()[2] for line in ran.output.splitlines() if " B4 " in line] == ["violated"]
    told = ran.output.partition(f"\nB4 does not hold on {backend}: ")[2]
    assert "\nB4: Handlers come in ascending order of the priority's number" in told
    assert "\nfrom buses import careless as factory\n" in told
    assert f'    judge_bus(main, factory, clause="B4", backend="{backend}", decisions=())\n' in told
    assert "\nwhat happened:\ntask 0: h0 subscribed\n" in told
    assert "\nfound with seed=5\n" in told
    assert ran.told.startswith("making one\n")
    assert ran.told.endswith("seed: 5\n")


@pytest.mark.unmeasured
def test_every_backend_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: without --backend the bus is verified on all there are, and a seed is drawn."""
    # Always the same one, since a correct bus is not searched at random here.
    monkeypatch.setattr("flexiflow._cli.choices.secrets.randbits", lambda bits: bits + 5)
    ran = run("verify", "flexiflow:EventBus", "--examples", "1")
    shown = dict.fromkeys(row.split()[0] for row in ran.output.splitlines()[1:])
    installed = [name for name in verify.BACKENDS if find_spec(name)]
    assert [*shown] == installed
    assert ("asyncio alone" in ran.told) == (installed == ["asyncio"])
    assert ran.told.splitlines()[-1].split(", ")[2] == "seed: 37"


def test_without_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: where trio is not installed, asyncio is verified alone, and that is said."""

    def find_asyncio(name: str) -> str | None:
        return name if name == "asyncio" else None

    monkeypatch.setattr(verify, "find_spec", find_asyncio)
    ran = run("verify", "flexiflow:EventBus", "--examples", "1", "--seed", "5", "--clause", "B1")
    assert ran.status == 0
    assert {row.split()[0] for row in ran.output.splitlines()[1:]} == {"asyncio"}
    assert ran.told.startswith("flexiflow: trio is not installed: verified on asyncio alone\n")


def test_without_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: one line says what is missing, and the status is 2."""
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "flexiflow.testing._examiner.examine", raising=False)
    monkeypatch.delitem(sys.modules, "flexiflow.testing._bus.subject", raising=False)
    ran = run("verify", "flexiflow:EventBus")
    assert (ran.status, ran.output) == (2, "")
    assert ran.told == (
        "flexiflow: verify needs Hypothesis, which is not installed: "
        "pip install flexiflow[testing]\n"
    )


def test_another_module_that_is_missing_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: only for Hypothesis it is said to install it."""
    monkeypatch.setitem(sys.modules, "flexiflow.testing._bus.contract", None)
    with pytest.raises(ModuleNotFoundError, match=r"_bus\.contract"):
        run("verify", "flexiflow:EventBus")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "seven",
            "must be a function, or a class, that makes a bus, or a functools.partial of a check",
        ),
        ("broken", "can't be used: making a bus raised OSError: no bus today"),
        ("dict", "making a bus raised TypeError: factory must make a bus"),
        ("nothing", "has no 'nothing'"),
    ],
)
def test_a_target_that_makes_no_bus(buses: str, name: str, told: str) -> None:
    """P1, P5: one clear line, no table, status 2, and the traceback if the target's code failed."""
    target = f"{buses}:{name}" if name != "dict" else "builtins:dict"
    ran = run("verify", target, "--backend", "asyncio")
    assert (ran.status, ran.output) == (2, "")
    first, *traceback = ran.told.splitlines()
    assert told in first
    if name == "broken":
        assert traceback[0] == "  Traceback (most recent call last):"
        assert traceback[1].endswith(", in broken")
        assert traceback[-1] == "  OSError: no bus today"
    else:
        assert traceback == []


@pytest.mark.parametrize("option", [("--examples", "0"), ("--seed", "-1"), ("--backend", "curio")])
def test_wrong_usage(option: tuple[str, str]) -> None:
    """P1: an option out of range is refused, with status 2."""
    ran = run("verify", "flexiflow:EventBus", *option)
    assert (ran.status, ran.output) == (2, "")
    assert option[0] in ran.told


@pytest.mark.parametrize(
    ("name", "engine", "told"),
    [
        (
            "seven",
            "Forgetful",
            "class, that makes a component, or a functools.partial of a check; it is 7",
        ),
        ("Kept", "seven", "class, that makes an engine; it is 7"),
        (
            "Kept",
            "careless",
            "making a component raised TypeError: engine must be sync, not <corou",
        ),
        ("Kept", "broken", "making a component raised OSError: no bus today ("),
    ],
)
def test_a_target_that_makes_no_component(buses: str, name: str, engine: str, told: str) -> None:
    """P1: one clear line, no table, and status 2."""
    arguments = ("--contract", "component", "--engine", f"{buses}:{engine}")
    ran = run("verify", f"{buses}:{name}", "--backend", "asyncio", *arguments)
    assert (ran.status, ran.output) == (2, "")
    assert told in ran.told


def test_ctrl_c(buses: str) -> None:
    """P1: Ctrl-C ends it with 130."""
    assert run("verify", f"{buses}:interrupted", "--backend", "asyncio").status == 130


def test_output_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """P1: without a standard output there is nothing to show, with status 1."""
    told: list[str] = []

    def tell(_: Display, text: str) -> None:
        told.append(text)

    monkeypatch.setattr(Plain, "tell", tell)
    monkeypatch.setattr(sys, "stdout", None)
    assert verify.verify(Options(target="flexiflow:EventBus")) == 1
    assert told == [
        "flexiflow: standard output can't be written: [Errno 9] standard output is closed"
    ]


def test_a_target_that_fails_later(buses: str, backend: str) -> None:
    """P1: what a factory raises breaks no clause: the target can't be used, with status 2."""
    ran = run("verify", f"{buses}:exhausted", "--backend", backend, "--seed", "5")
    assert ran.status == 2
    assert "making a bus raised OSError: no more buses today (" in ran.told
    assert "violated" not in ran.output


def test_output_that_can_not_be_written() -> None:
    """P1: a full disk is told of, with status 1."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ran = run("verify", "flexiflow:EventBus", "--examples", "1", "--seed", "5", output=full)
        assert ran.status == 1
        assert "No space left" in ran.told
