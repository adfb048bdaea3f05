"""Drawing what `flexiflow graph` found, as SVG (L6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flexiflow._cli.graph import enumerate_names, label_of
from flexiflow._cli.text import one_line
from flexiflow._machine import arrows_of
from flexiflow._mermaid import parts_of
from flexiflow._text import printable, shorten
from flexiflow.extras._pictures.maps import Place, Way, draw_map, on_a_sheet

if TYPE_CHECKING:
    from flexiflow import StateMachine
    from flexiflow._cli.graph import Graph

_LONGEST_LABEL: Final = 20


def draw_sheet(graph: Graph) -> str:
    """Draw the chart of the components, and below it each state machine.

    Raises:
        ModuleNotFoundError: `pygraphviz` is not installed.
    """
    maps: list[tuple[str, str]] = []
    if graph.has_chart:
        title = "What reaches the components"
        maps.append((title, _chart(graph, title)))
    for machine, names in graph.machines.items():
        title = f"The states of {enumerate_names(names, one_line)}"
        maps.append((title, _states(machine, title)))
    return on_a_sheet(maps, title=", ".join(title for title, _ in maps))


def _chart(graph: Graph, title: str) -> str:
    places = {
        key: Place(name, "", key, "hexagon" if is_query else "ellipse")
        for name, _, is_query in graph.reaches
        for key in [_key(name, is_query=is_query)]
    }
    boxes = [Place(name, key=f"component {name}") for name in graph.components]
    ways = [
        Way(
            _key(name, is_query=is_query),
            f"component {component}",
            "answered by" if is_query else "",
            f"{name} to {component}",
        )
        for name, component, is_query in graph.reaches
    ]
    return draw_map([*places.values(), *boxes], ways, title=title, direction="LR")


def _key(name: str, *, is_query: bool) -> str:
    return f"query {name}" if is_query else f"event {name}"


def _states(machine: StateMachine, title: str) -> str:
    details = machine.details
    places = [Place("the beginning", key="start", shape="start")]
    for state in machine.states:
        parts = parts_of(details[state], _plain) if state in details else ()
        places.append(Place(state, "\n".join(parts), f"state {state}"))
    ways = [Way("start", f"state {machine.initial}", "")]
    for source, row, target in arrows_of(machine):
        text = _on_lines(label_of(row, _plain))
        ways.append(Way(f"state {source}", f"state {target}", text, f"{source} to {target}"))
    if any(state.final for state in details.values()):
        places.append(Place("the end", key="end", shape="end"))
    ways += [Way(f"state {name}", "end", "") for name, state in details.items() if state.final]
    return draw_map(places, dict.fromkeys(ways), title=title)


def _plain(text: str) -> str:
    """Return a text of a user on one line."""
    return printable(shorten(text))


def _on_lines(parts: list[str]) -> str:
    """Return a label on one line, or each of its parts on a line of its own if it is long."""
    label = " ".join(parts)
    return label if len(label) <= _LONGEST_LABEL else "\n".join(parts)
