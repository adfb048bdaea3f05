"""`flexiflow graph`: draw an engine, or some of its components, as Mermaid or as SVG (L6)."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from flexiflow import UnknownComponent
from flexiflow._bus import dispatcher_of
from flexiflow._callables import describe
from flexiflow._cli.problems import CannotRun
from flexiflow._cli.target import unusable
from flexiflow._cli.text import in_markdown, one_line, show_message
from flexiflow._engine import sample
from flexiflow._machine import arrows_of
from flexiflow._mermaid import draw, escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from flexiflow import Component, Engine, StateMachine, Transition

_MOST_NAMED = 5
_MOST_ARROWS = 1_000


class Reach(NamedTuple):
    """An arrow from an event to a component that hears it, or from a query to its answerer."""

    event: str
    component: str
    is_query: bool


class Graph(NamedTuple):
    """What is drawn of an engine.

    Attributes:
        reaches: what reaches which component.
        components: the names of the components, and of all others that subscribe.
        machines: each state machine with the names of its components.
        is_part: whether the components were asked for by name.
    """

    reaches: list[Reach]
    components: list[str]
    machines: dict[StateMachine, list[str]]
    is_part: bool

    @property
    def has_chart(self) -> bool:
        """Whether there is more to be said of the components than their machines say."""
        lone = {name for names in self.machines.values() for name in names}
        return not self.is_part or bool(self.reaches) or not lone.issuperset(self.components)


async def look_at(engine: Engine, names: Sequence[str], target: str) -> Graph:
    """Return what is to be drawn.

    Args:
        engine: the engine.
        names: names of components, or patterns; all registered components if there are none.
        target: the target's name, for messages.

    Raises:
        CannotRun: no component has such a name, or making it failed.
    """
    found: dict[str, Component] = {}
    for name in names:
        found |= await _find(engine, name, target)
    chosen = found if names else engine.components
    answerers = dispatcher_of(engine.bus).registry.answerers
    # Several subscriptions of one component to the same event become one arrow.
    reaches = dict.fromkeys(
        Reach(each.event_name, each.component_name, answerers.get(each.event_name) is each)
        for each in engine.bus.subscriptions()
        if not names or each.component_name in chosen
    )
    machines: dict[StateMachine, list[str]] = {}
    for component in chosen.values():
        if component.machine is not None:
            machines.setdefault(component.machine, []).append(component.name)
    every = dict.fromkeys([*chosen, *(each.component for each in reaches)])
    return Graph([*reaches], [*every], machines, bool(names))


async def _find(engine: Engine, name: str, target: str) -> dict[str, Component]:
    """Return the components that a name or a pattern means, made by the factory if need be."""
    pattern = re.compile(".*".join(map(re.escape, name.split("*"))), re.DOTALL)
    there = {each: it for each, it in engine.components.items() if pattern.fullmatch(each)}
    if there:
        return there
    wanted = name.replace("*", "1")
    try:
        return {wanted: await sample(engine, wanted)}
    except UnknownComponent as exc:
        raise CannotRun(f"nothing to draw for {one_line(name)!r}: {show_message(exc)}") from exc
    except Exception as exc:
        raise unusable(target, f"making component {one_line(wanted)!r} raised", exc) from exc


def as_mermaid(graph: Graph) -> str:
    """Draw the components with what they subscribe to and answer, then each state machine.

    Returns:
        Markdown: a fenced block for each diagram, after a line that names what it shows.
    """
    chart = [_block("Components, with the events and queries that reach them", _flowchart(graph))]
    blocks = chart if graph.has_chart else []
    for machine, names in graph.machines.items():
        arrows = (
            (source, " ".join(label_of(row, escape)), target)
            for source, row, target in arrows_of(machine)
        )
        diagram = draw(machine.initial, machine.states, machine.details, arrows)
        blocks.append(_block(f"State machine of {enumerate_names(names, in_markdown)}", diagram))
    return "\n\n".join(blocks)


def as_svg(graph: Graph) -> str:
    """Draw the same as one SVG that stands alone.

    Raises:
        CannotRun: `pygraphviz` is not installed, or there is too much for one drawing.
    """
    if find_spec("pygraphviz") is None:
        raise CannotRun("--format svg needs pygraphviz: run pip install 'flexiflow[report]'")
    arrows = sum(len([*arrows_of(machine)]) for machine in graph.machines)
    arrows += len(graph.reaches)
    if arrows > _MOST_ARROWS:
        # Nobody could read it; and to lay out twice as many may take Graphviz minutes.
        raise CannotRun(
            f"an SVG has at most {_MOST_ARROWS:,} arrows, and this one would have {arrows:,}: "
            "names of fewer components, or --format mermaid, would be right"
        )
    # Imported only here: Mermaid needs no library.
    from flexiflow._cli.graph_drawing import draw_sheet  # noqa: PLC0415

    return draw_sheet(graph)


def _block(title: str, diagram: str) -> str:
    return f"{title}:\n\n```mermaid\n{diagram}\n```"


def _flowchart(graph: Graph) -> str:
    events = _ids("e", (each.event for each in graph.reaches if not each.is_query))
    queries = _ids("q", (each.event for each in graph.reaches if each.is_query))
    components = _ids("c", graph.components)
    lines = [
        "flowchart LR",
        *(f'{short}(["{escape(event)}"])' for event, short in events.items()),
        *(f'{short}{{{{"{escape(query)}"}}}}' for query, short in queries.items()),
        *(f'{short}["{escape(component)}"]' for component, short in components.items()),
    ]
    for name, component, is_query in graph.reaches:
        arrow = f"{queries[name]} -->|answered by|" if is_query else f"{events[name]} -->"
        lines.append(f"{arrow} {components[component]}")
    if not components:
        lines.append(
            "%% no component is registered yet; one that is made on demand is drawn by name"
        )
    return "\n    ".join(lines)


def _ids(letter: str, names: Iterable[str]) -> dict[str, str]:
    distinct = dict.fromkeys(names)
    return {name: f"{letter}{number}" for number, name in enumerate(distinct, 1)}


def label_of(row: Transition, shown: Callable[[str], str]) -> list[str]:
    """Return the parts of what stands beside an arrow as UML has it: `trigger [guard] / action`.

    Args:
        row: the transition.
        shown: escapes each text of a user.
    """
    parts = [shown(row.trigger)]
    if row.guard is not None:
        parts.append(f"[{shown(describe(row.guard))}]")
    if row.action is not None:
        parts.append(f"/ {shown(describe(row.action))}")
    return parts


def enumerate_names(names: list[str], shown: Callable[[str], str]) -> str:
    """Return the first names as a text, and how many more there are."""
    named = ", ".join(map(shown, names[:_MOST_NAMED]))
    others = len(names) - _MOST_NAMED
    return f"{named} and {others} more" if others > 0 else named
