"""What `flexiflow graph` draws (L6)."""

import os
import re
from contextlib import nullcontext
from html import unescape
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from flexiflow import Component, Engine, EventBus, State, StateMachine, Transition, on
from flexiflow._cli.graph import as_mermaid, as_svg, look_at
from flexiflow._cli.problems import CannotRun
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


async def draw(engine: Engine) -> str:
    """Draw all of an engine."""
    return as_mermaid(await look_at(engine, (), "the target"))


def texts(svg: str) -> list[str]:
    """Return what is written in a drawing."""
    return [unescape(each).strip() for each in re.findall(r"<text [^>]*>([^<]*)</text>", svg)]


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
    assert (await draw(engine)).splitlines()[4:-1] == [
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
    drawn = await draw(many)
    assert drawn.count("stateDiagram-v2") == 1
    assert "State machine of b0, b1, b2, b3, b4 and 3 more:" in drawn


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
    assert (await draw(files)).partition("stateDiagram-v2\n")[2].splitlines()[:-1] == [
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


async def test_an_engine_without_components_is_drawn_too() -> None:
    """L6: what only a factory will make is not drawn by itself, and that is said."""
    hint = "%% no component is registered yet; one that is made on demand is drawn by name"
    assert f"{hint}\n```" in await draw(Engine())


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


PARCELS = """
from flexiflow import Component, Engine, State, StateMachine, Transition, on

class Store:
    async def load(self, name):
        assert name == "desk", "nothing that is stored is drawn"
    save = due = delete = load

def is_light(message, component): ...
def weigh(message, component): ...
def stamp(message, component): ...

TABLE = StateMachine(
    "new",
    [
        Transition("new", "send", "sent", guard=is_light, action=weigh),
        Transition("new", "send", "refused"),
        Transition("sent", "ask", None, action=stamp),
    ],
    states=[State("sent", entry=stamp), State("refused", final=True)],
)

class Parcel(Component):
    def __init__(self, name):
        super().__init__(name, machine=TABLE)

    @on("van.left")
    def hear(self, data): ...

def parcel(name):
    print("making", name)
    if name == "broken":
        raise OSError("no paper")
    return Parcel(name) if name.startswith("parcel-") else None

async def engine():
    engine = Engine(component_factory=parcel, store=Store(), max_components=1)
    await engine.register(Component("desk"))
    return engine
"""


@pytest.mark.parametrize("name", ["parcel-*", "parcel-1"])
def test_what_is_made_on_demand_is_drawn_by_name(tmp_path: Path, name: str) -> None:
    """L6: with guards and actions, and its events; not the others, and nothing is stored."""
    ran = run("graph", write_target(tmp_path, PARCELS), name)
    assert (ran.status, ran.told) == (0, "making parcel-1\n")
    chart, _, machine = ran.output.partition("State machine of parcel-1:")
    assert chart.splitlines()[4:-1] == [
        '    e1(["van.left"])',
        '    c1["parcel-1"]',
        "    e1 --> c1",
        "```",
    ]
    assert machine.splitlines()[4:-1] == [
        '    state "sent" as sent',
        "    sent: entry / stamp",
        "    [*] --> new",
        "    new --> sent: send [is_light] / weigh",
        "    new --> refused: send",
        "    sent --> sent: ask / stamp",
        "    refused --> [*]",
    ]


def test_what_is_registered_is_drawn_alone_by_name(tmp_path: Path) -> None:
    """L6: a pattern means what is registered, if anything of that is like it."""
    ran = run("graph", write_target(tmp_path, PARCELS), "de*")
    assert (ran.status, ran.told, ran.output.count("```mermaid")) == (0, "", 1)
    assert '    c1["desk"]\n```' in ran.output


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("van-*", "flexiflow: nothing to draw for 'van-*': no component is named 'van-1'"),
        ("broken", "can't be used: making component 'broken' raised OSError: no paper ("),
    ],
)
def test_what_can_not_be_made_can_not_be_drawn(tmp_path: Path, name: str, told: str) -> None:
    """L6: that no component has the name, or why making it failed, is one line, with status 2."""
    ran = run("graph", write_target(tmp_path, PARCELS), name)
    assert (ran.status, ran.output) == (2, "")
    assert told in ran.told.splitlines()[-1]


def test_a_drawing_as_svg_shows_the_same(tmp_path: Path) -> None:
    """L6: states with what happens in them, labels, the beginning and the end; it stands alone."""
    pytest.importorskip("pygraphviz", reason="pygraphviz is not installed")
    ran = run("graph", write_target(tmp_path, PARCELS), "parcel-1", "--format", "svg")
    assert (ran.status, ran.told) == (0, "making parcel-1\n")
    assert set(texts(ran.output)) == {
        *("What reaches the components", "van.left", "parcel-1"),
        *("The states of parcel-1", "new", "sent", "entry / stamp", "refused"),
        *("send", "[is_light]", "/ weigh", "ask / stamp"),
    }
    assert ran.output.count('class="node start"') == ran.output.count('class="node end"') == 1
    assert not re.findall(r"<script|<link|<image|@import|url\(| href=", ran.output)
    ET.fromstring(ran.output)  # noqa: S314  our own


async def test_a_drawing_as_svg_shows_queries_and_any_name() -> None:
    """L6, A2: nothing in a name is taken as SVG; a machine alone needs no chart of components."""
    pytest.importorskip("pygraphviz", reason="pygraphviz is not installed")
    engine = Engine()
    await engine.register(Component('<b>"&\x1b', machine=MACHINE))
    await engine.bus.answer("price", "prices", id)
    svg = as_svg(await look_at(engine, (), "the target"))
    ET.fromstring(svg)  # noqa: S314  our own
    assert {"price", "answered by", "prices", '<b>"&\\x1b'} <= set(texts(svg))
    alone = as_svg(await look_at(engine, ["*"], "the target"))
    assert texts(alone)[0] == 'The states of <b>"&\\x1b'


async def test_machines_of_names_that_look_the_same_are_both_drawn() -> None:
    """L6: each machine has its drawing, although their headings are the same."""
    pytest.importorskip("pygraphviz", reason="pygraphviz is not installed")
    engine = Engine()
    for name, state in (("a b", "early"), ("a  b", "late")):
        loop = Transition(state, "wait", state)
        await engine.register(Component(name, machine=StateMachine(state, [loop])))
    drawn = texts(as_svg(await look_at(engine, ["a*"], "the target")))
    assert [each for each in drawn if each != "wait"] == [
        *("The states of a b", "early"),
        *("The states of a b", "late"),
    ]


async def test_the_parts_of_a_long_label_are_those_of_the_machine() -> None:
    """L6: a trigger may look as if it had a guard and an action of its own."""
    pytest.importorskip("pygraphviz", reason="pygraphviz is not installed")
    rows = [Transition("open", "shut [now] / quietly", "shut", action=print)]
    engine = Engine()
    await engine.register(Component("door", machine=StateMachine("open", rows)))
    svg = as_svg(await look_at(engine, ["door"], "the target"))
    assert [*map(str.strip, texts(svg)[-2:])] == ["shut [now] / quietly", "/ print"]


async def test_a_drawing_that_nobody_could_read_is_refused() -> None:
    """L6: it would take Graphviz minutes; the message says how many arrows there may be."""
    pytest.importorskip("pygraphviz", reason="pygraphviz is not installed")
    rows = [Transition("open", f"knock {number}", "open") for number in range(1_000)]
    engine = Engine()
    await engine.register(Component("door", machine=StateMachine("open", rows)))
    await engine.bus.subscribe("ring", "bell", print)
    with pytest.raises(CannotRun, match="at most 1,000 arrows, and this one would have 1,001: "):
        as_svg(await look_at(engine, (), "the target"))


def test_svg_needs_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L6: without it one line says what to install, with status 2."""
    monkeypatch.setattr("flexiflow._cli.graph.find_spec", {}.get)
    ran = run("graph", write_target(tmp_path), "--format", "svg")
    assert (ran.status, ran.output, ran.told.count("\n")) == (2, "", 1)
    assert "pip install 'flexiflow[report]'" in ran.told


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
    drawn = await draw(hostile)
    assert drawn.count("```") == 4
    assert "State machine of a ''' 'b':" in drawn
