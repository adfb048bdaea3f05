"""What the tests of reports and of the monitor share."""

from collections.abc import Callable
from typing import Any

from flexiflow import Component, Engine, StateMachine, Transition
from flexiflow.extras._pictures.recorder import Recorder

OBSERVER = "observer"
NASTY = (
    "<b>bold</b>",
    "a \"quote\" and 'another'",
    "back\\slash",
    r"\n\N\G\l",
    "&amp; &",
    "line\nend",
    "\x1b[31m",
    "\ud800",
    "{ x | y }",
    "<script>alert(1)</script>",
)
"""Names that mean something to HTML, SVG, Graphviz, JSON or a terminal."""


def explode(message: object, component: object) -> None:
    """Be an action that fails."""
    raise ValueError("no such luck")


LAMP = StateMachine(
    "off",
    [
        Transition("off", "on", "on"),
        Transition("on", "off", "off"),
        Transition("*", "break", None, action=explode),
    ],
)


class Lamp(Component):
    """Can be switched on and off."""

    def __init__(self, name: str, machine: StateMachine = LAMP) -> None:
        """Make a lamp that is off."""
        super().__init__(name, machine=machine)


def lamps() -> Engine:
    """Make an engine whose components are lamps."""
    return Engine(component_factory=Lamp)


async def switch(engine: Engine, name: str, *kinds: str, **fields: Any) -> None:
    """Send messages to a lamp."""
    for kind in kinds:
        await engine.send(name, {"type": kind, **fields})


async def recording(engine: Engine, place: Callable[[], int] = int) -> Recorder:
    """Record an engine from now on."""
    recorder = Recorder(engine, watchers={OBSERVER}, place=place)
    for name, observer in recorder.begin():
        await engine.bus.subscribe(name, OBSERVER, observer, priority=1)
    return recorder
