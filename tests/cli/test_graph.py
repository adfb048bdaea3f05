"""What `flexiflow graph` draws (L6)."""

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from flexiflow import Component, Engine, EventBus, State, StateMachine, Transition, on
from flexiflow._cli.graph import draw
from tests.cli.command_line import run, write_target

MACHINE = StateMachine("open", [Transition("open", "close", "shut")])

GRAPH = """\
Components, with the events and queries that reach them:

```mermaid
flowchart LR
    e1(["order.placed"])
    e2(["order#46;#42;"])
    e3(["#42;#42;"])
    c1["billing"]
    c2["the #34;audit#34;"]
    e1 --> c1
    e2 --> c1
    e3 --> c2
```

State machine of billing:

```mermaid
stateDiagram-v2
    [*] --> open
    open --> shut: close
```
"""


class Billing(Component):
    """Subscribes to an event twice, and to a pattern."""

    def __init__(self, name: str = "billing") -> None:
        super().__init__(name, machine=MACHINE)

    @on("order.*")
    @on("order.placed", priority=1)
    @on("order.placed")
    def hear(self, data: object) -> None:
        """Do nothing."""


async def engine() -> Engine:
    """Make the engine that is drawn; what it prints must not get in between."""
    print("making it")  # noqa: T201
    engine = Engine(bus=EventBus())
    await engine.register(Billing())
    await engine.bus.subscribe("**", 'the "audit"', id)
    return engine


def test_components_subscriptions_and_machines_are_drawn() -> None:
    """L6: one diagram shows who subscribes to what, and one more each state machine."""
    ran = run("graph", "tests.cli.test_graph:engine")
    assert (ran.status, ran.told) == (0, "making it\n")
    assert ran.output == GRAPH


async def test_a_query_is_not_drawn_as_an_event() -> None:
    """L6, A2: it is a hexagon, also where an event has its name, and its arrow has a label."""
    engine = Engine()
    await engine.bus.answer('the "price"', "prices", id)
    await engine.bus.subscribe('the "price"', "audit", id)
    assert draw(engine).splitlines()[4:-1] == [
        '    e1(["the #34;price#34;"])',
        '    q1{{"the #34;price#34;"}}',
        '    c1["prices"]',
        '    c2["audit"]',
        "    q1 -->|answered by| c1",
        "    e1 --> c2",
    ]


async def test_a_machine_that_many_share_is_drawn_once() -> None:
    """L6: a table is drawn once, with some of the components that share it."""
    many = Engine()
    for number in range(8):
        await many.register(Billing(f"b{number}"))
    assert draw(many).count("stateDiagram-v2") == 1
    assert "State machine of b0, b1, b2, b3, b4 and 3 more:" in draw(many)


async def test_what_happens_in_the_states_of_a_machine_is_drawn() -> None:
    """L6, M4: entry, time and work stand below a state's name, and a final one leads to the end."""

    async def sort(component: object) -> None: ...

    rows = [Transition("new", "sorted", "filed"), Transition("new", "late", "filed")]
    states = [
        State("new", after=(60.0, "late"), during=sort, done="sorted"),
        State("filed", entry=lambda message, component: None, final=True),
    ]
    files = Engine()
    await files.register(Component("file", machine=StateMachine("new", rows, states=states)))
    local = "test_what_happens_in_the_states_of_a_machine_is_drawn#46;#60;locals#62;#46;"
    assert draw(files).partition("stateDiagram-v2\n")[2].splitlines()[:-1] == [
        '    state "new" as new',
        "    new: after 60 s / late",
        f"    new: during / {local}sort",
        "    new: done / sorted",
        '    state "filed" as filed',
        f"    filed: entry / {local}#60;lambda#62;",
        "    [*] --> new",
        "    new --> filed: sorted",
        "    new --> filed: late",
        "    filed --> [*]",
    ]


def test_an_engine_without_components_is_drawn_too() -> None:
    """L6: what only a factory will make can't be drawn yet, and that is said."""
    assert "%% no component is registered yet\n```" in draw(Engine())


def test_a_component_without_a_machine_has_no_diagram_of_its_own(tmp_path: Path) -> None:
    """L6: a component that subscribes to nothing is shown, and no machine for it."""
    source = (
        "from flexiflow import Component, Engine\n"
        "async def engine():\n"
        "    made = Engine()\n"
        "    await made.register(Component('1. quiet\\n(one)'))\n"
        "    return made"
    )
    assert run("graph", write_target(tmp_path, source)).output == (
        "Components, with the events and queries that reach them:\n\n```mermaid\nflowchart LR\n"
        '    c1["1#46; quiet#10;#40;one#41;"]\n```\n'
    )


def test_a_target_that_fails_can_not_be_drawn(tmp_path: Path) -> None:
    """L6: as with `run`, one line tells why, and the status is 2."""
    ran = run("graph", write_target(tmp_path, "engine = 5"))
    assert (ran.status, ran.output, ran.told.count("\n")) == (2, "", 1)


def test_a_reader_that_has_gone_ends_the_graph_quietly(tmp_path: Path) -> None:
    """L5: `flexiflow graph ... | head` is no failure."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        ran = run("graph", write_target(tmp_path), output=output)
    assert (ran.status, ran.told) == (0, "")


def test_without_a_standard_output_there_is_no_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5: where it is closed, that is told, with status 1."""
    monkeypatch.setattr("flexiflow._cli.commands.sys.stdout", None)
    monkeypatch.setattr("tests.cli.command_line.redirect_stdout", nullcontext)
    ran = run("graph", write_target(tmp_path))
    assert (ran.status, ran.told.count("\n")) == (1, 1)
    assert "standard output is closed" in ran.told


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_graph_that_can_not_be_written_is_a_failure(tmp_path: Path) -> None:
    """L5: a full disk is told on one line, with status 1."""
    with Path("/dev/full").open("w", encoding="utf-8") as output:
        ran = run("graph", write_target(tmp_path), output=output)
    assert (ran.status, ran.told.count("\n")) == (1, 1)


async def test_a_name_does_not_break_the_document() -> None:
    """L6: names stand in the text between the diagrams without opening or ending a block."""
    hostile = Engine()
    await hostile.register(Component("a\n```\n`b`", machine=MACHINE))
    drawn = draw(hostile)
    assert drawn.count("```") == 4
    assert "State machine of a ''' 'b':" in drawn
