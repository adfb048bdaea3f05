"""`flexiflow graph`: draw an engine as Mermaid diagrams (L6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexiflow._bus import dispatcher_of
from flexiflow._cli.text import in_markdown
from flexiflow._mermaid import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexiflow import Engine, StateMachine

_MOST_NAMED = 5


def draw(engine: Engine) -> str:
    """Draw the components with what they subscribe to and answer, then each state machine.

    Returns:
        Markdown: a fenced block for each diagram, after a line that names what it shows.
    """
    blocks = [_block("Components, with the events and queries that reach them", _flowchart(engine))]
    for machine, names in _machines(engine).items():
        blocks.append(_block(f"State machine of {_enumerate(names)}", machine.mermaid()))
    return "\n\n".join(blocks)


def _block(title: str, diagram: str) -> str:
    return f"{title}:\n\n```mermaid\n{diagram}\n```"


def _flowchart(engine: Engine) -> str:
    answerers = dispatcher_of(engine.bus).registry.answerers
    # Several subscriptions of one component to the same event become one arrow.
    arrows = dict.fromkeys(
        (each.event_name, each.component_name, answerers.get(each.event_name) is each)
        for each in engine.bus.subscriptions()
    )
    events = _ids("e", (name for name, _, is_query in arrows if not is_query))
    queries = _ids("q", (name for name, _, is_query in arrows if is_query))
    components = _ids("c", [*engine.components, *(component for _, component, _ in arrows)])
    lines = [
        "flowchart LR",
        *(f'{short}(["{escape(event)}"])' for event, short in events.items()),
        *(f'{short}{{{{"{escape(query)}"}}}}' for query, short in queries.items()),
        *(f'{short}["{escape(component)}"]' for component, short in components.items()),
    ]
    for name, component, is_query in arrows:
        arrow = f"{queries[name]} -->|answered by|" if is_query else f"{events[name]} -->"
        lines.append(f"{arrow} {components[component]}")
    return "\n    ".join(lines if components else [*lines, "%% no component is registered yet"])


def _ids(letter: str, names: Iterable[str]) -> dict[str, str]:
    distinct = dict.fromkeys(names)
    return {name: f"{letter}{number}" for number, name in enumerate(distinct, 1)}


def _machines(engine: Engine) -> dict[StateMachine, list[str]]:
    found: dict[StateMachine, list[str]] = {}
    for component in engine.components.values():
        if component.machine is not None:
            found.setdefault(component.machine, []).append(component.name)
    return found


def _enumerate(names: list[str]) -> str:
    named = ", ".join(map(in_markdown, names[:_MOST_NAMED]))
    others = len(names) - _MOST_NAMED
    return f"{named} and {others} more" if others > 0 else named
