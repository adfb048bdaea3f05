"""The examples beside other tools, started and talked to (`docs/integrations.md`)."""

import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest

from flexiflow import EventBus
from flexiflow.extras.durable import SqliteTransport, open_bridge
from tests.cli.command_line import PATIENCE, await_output

EXAMPLES = Path("examples/integrations").absolute()
UNIT = EXAMPLES / "letters.service"

pytestmark = pytest.mark.unmeasured


def needs(*modules: str) -> pytest.MarkDecorator:
    """Skip a test where a tool is missing."""
    return pytest.mark.skipif(
        not all(map(find_spec, modules)),
        reason=f"{' and '.join(modules)}: one environment of tox installs each",
    )


@needs("typer")
@pytest.mark.same_everywhere
@pytest.mark.parametrize(
    ("litres", "status", "told", "failed"),
    [
        ("0.01", 0, "kettle-1 is on\nkettle-1 is off\nkettle-1 boils\n", ""),
        ("0", 1, "", "kettle-1 failed: kettle-1 has no water\n"),
    ],
)
def test_a_command_of_typer_runs_an_engine(
    backend: str, litres: str, status: int, told: str, failed: str
) -> None:
    """E1, M3: the command's exit status is that of its publish."""
    from typer.testing import CliRunner  # noqa: PLC0415  one environment has it

    app: Any = runpy.run_path(str(EXAMPLES / "typer_kettles.py"))["app"]
    ran = CliRunner().invoke(app, ["boil", litres, "--backend", backend])
    assert (ran.exit_code, ran.stdout, ran.stderr) == (status, told, failed)


@needs("typer")
@pytest.mark.same_everywhere
def test_ctrl_c_switches_the_kettle_off(backend: str) -> None:
    """E5, M3: a command of Typer that is interrupted cleans up, and ends with 130."""
    command = [sys.executable, "typer_kettles.py", "boil", "5000", "--backend", backend]
    with subprocess.Popen(
        command, cwd=EXAMPLES, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert await_output(process.stdout, b"\n") == b"kettle-1 is on\n"
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=PATIENCE) == (b"kettle-1 is off\n", b"")
        finally:
            process.kill()
    assert process.returncode == 130


@needs("nbclient", "ipykernel")
def test_the_notebook_shows_what_its_cells_do() -> None:
    """E1, M2, P2, S1: what the cells of the notebook print and return is what is stored there."""
    import nbformat  # noqa: PLC0415  one environment has it
    from nbclient import NotebookClient  # noqa: PLC0415

    def outputs() -> list[list[tuple[str, str]]]:
        return [
            [
                (each.output_type, each.text if "text" in each else each.data["text/plain"])
                for each in cell.outputs
            ]
            for cell in notebook.cells
            if cell.cell_type == "code"
        ]

    notebook: Any = nbformat.read(EXAMPLES / "notebook.ipynb", nbformat.NO_CONVERT)
    stored = outputs()
    where = {"metadata": {"path": str(EXAMPLES)}}
    NotebookClient(notebook, timeout=PATIENCE, resources=where).execute()
    assert outputs() == stored


@needs("pytest_asyncio", "pytest_trio")
@pytest.mark.same_everywhere
def test_pytest_asyncio_and_pytest_trio_run_their_examples() -> None:
    """P4: FlexiFlow's fixtures serve tests that other plugins run."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", str(EXAMPLES)]
    ran = subprocess.run(
        command, capture_output=True, encoding="utf-8", check=False, timeout=PATIENCE
    )
    assert ran.returncode == 0, ran.stdout
    assert len(re.findall("^PASSED ", ran.stdout, re.MULTILINE)) == 4


@pytest.mark.same_everywhere
def test_spawned_workers_share_the_events() -> None:
    """X1: what one process publishes is handled by others, whose answers it hears."""
    backend = "trio" if find_spec("trio") else "asyncio"
    command = [sys.executable, str(EXAMPLES / "processes.py"), "--backend", backend]
    ran = subprocess.run(
        [*command, "91", "97", "1001"],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=PATIENCE,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    *factors, end = ran.stdout.splitlines()
    assert sorted(factors) == ["7 x 11 x 13", "7 x 13", "97"]
    assert end == "all workers have ended"


STARTED_AND_LEFT = """
import os, pathlib, signal, sys
from multiprocessing import get_context
sys.path.insert(0, sys.argv[1])
from processes import begin
get_context("spawn").Process(target=begin, args=(pathlib.Path(sys.argv[2]), "asyncio")).start()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.once
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_spawned_worker_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    """X1: its output ends, which nobody else could write any more."""
    command = [sys.executable, "-c", STARTED_AND_LEFT, str(EXAMPLES), str(tmp_path / "events.db")]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=PATIENCE)
    assert (ran.returncode, ran.stdout) == (-signal.SIGKILL, b"")


def read_unit() -> ConfigParser:
    """Read the example's unit."""
    unit = ConfigParser(interpolation=None)
    setattr(unit, "optionxform", str)  # noqa: B010  its type is that of a method
    unit.read(UNIT, encoding="utf-8")
    return unit


async def publish_orders(path: Path, count: int) -> None:
    """Store orders that are shipped, as the shop does."""
    bus = EventBus(on_error="raise")
    async with open_bridge(bus, SqliteTransport(path), outgoing=["order.shipped"]):
        for number in range(count):
            await bus.publish("order.shipped", {"order": number, "item": "lamp"})


async def take_orders(path: Path, count: int) -> list[int]:
    """Take the orders that the service has left, as its next start does."""
    bus = EventBus(on_error="raise")
    taken: list[int] = []
    is_done = anyio.Event()

    def take(order: dict[str, Any]) -> None:
        taken.append(order["order"])
        if len(taken) == count:
            is_done.set()

    await bus.subscribe("order.shipped", "rest", take)
    incoming: dict[str, Any] = {"incoming": ["order.shipped"], "group": "letters"}
    with anyio.fail_after(PATIENCE):
        async with open_bridge(bus, SqliteTransport(path), **incoming):
            if count:
                await is_done.wait()
    return taken


@pytest.mark.same_everywhere
def test_the_service_ends_at_sigterm_and_loses_nothing(tmp_path: Path) -> None:
    """L5, X5: the unit's command ends with 0, and what it had not begun is there afterwards."""
    service = read_unit()["Service"]
    anyio.run(publish_orders, tmp_path / "events.db", 50)
    program, *arguments = shlex.split(service["ExecStart"])
    assert program == "/opt/letters/.venv/bin/flexiflow"
    arguments = [each.replace("/opt/letters/", f"{EXAMPLES}/") for each in arguments]
    with subprocess.Popen(
        [sys.executable, "-m", "flexiflow", *arguments], cwd=tmp_path, stderr=subprocess.PIPE
    ) as process:
        try:
            await_output(process.stderr, b"ready: ")
            process.send_signal(signal.Signals[service["KillSignal"]])
            process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0
    path = tmp_path / "letters.txt"
    letters = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    written = [int(letter.partition(":")[0]) for letter in letters]
    left = anyio.run(take_orders, tmp_path / "events.db", 50 - len(written))
    assert sorted([*written, *left]) == list(range(50))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
@pytest.mark.same_everywhere
def test_systemd_knows_all_that_the_unit_says(tmp_path: Path) -> None:
    """X5: the unit is one for systemd, which waits longer than the worker needs to end."""
    text = UNIT.read_text(encoding="utf-8")
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("/opt/letters/.venv/bin/flexiflow", sys.executable), "utf-8")
    ran = subprocess.run(
        ["systemd-analyze", "--recursive-errors=no", "verify", str(unit)],  # noqa: S607  on PATH
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=PATIENCE,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    service = read_unit()["Service"]
    grace = re.search(r"--grace (\d+)", service["ExecStart"])
    assert grace is not None
    assert int(grace[1]) < int(service["TimeoutStopSec"])
