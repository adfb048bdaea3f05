"""What the programs for components have in common."""

from __future__ import annotations

from typing import Final

_TABLE: Final = """\
machine = StateMachine("s0", [
    Transition("s0", "go", "s1", action=ACTION),
    Transition("s1", "go", "s0", action=ACTION),
    Transition("*", "note", "s0", action=noted),
])
engine = new_engine()
component = factory("a", machine=machine)
await engine.register(component)"""


def fill(*texts: str) -> tuple[str, ...]:
    """Return the texts with HOSTED replaced by a table, whose action is what each text defines."""
    filled: list[str] = []
    for text in texts:
        action = next((word for word in ("wait", "act") if f"def {word}(" in text), "noted")
        table = _TABLE.replace("ACTION", action)
        filled.append(text.replace("HOSTED", table))
    return tuple(filled)
