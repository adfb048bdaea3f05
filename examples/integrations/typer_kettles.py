"""Kettles on a command line: commands of Typer that run an engine.

    python examples/integrations/typer_kettles.py boil 0.5 1 2
    python examples/integrations/typer_kettles.py boil 0.5 0
    python examples/integrations/typer_kettles.py boil 5000

The first ends with status 0. The second ends with 1, since a kettle without water fails. The third
takes long: press Ctrl-C, and it switches the kettle off and ends with 130.
"""

import logging
from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import partial
from signal import SIGINT, SIGTERM
from typing import Annotated, Any

import anyio
import typer

from flexiflow import Component, Engine, State, StateMachine, Topic, Transition, on

# The command tells of failures itself. Without any handler, Python would print their tracebacks.
logging.getLogger("flexiflow").addHandler(logging.NullHandler())

SECONDS_PER_LITRE = 0.1

SWITCHED_ON = Topic[None]("kettles.switched_on")

app = typer.Typer()


class Backend(StrEnum):
    """The event loops to choose from."""

    ASYNCIO = "asyncio"
    TRIO = "trio"


class NoWater(Exception):
    """A kettle must not be switched on without water."""


class Kettle(Component):
    """A kettle, which heats while it is in the state `heating`."""

    def __init__(self, name: str, litres: float, engine: Engine) -> None:
        super().__init__(name, machine=LIFE)
        self.litres = litres
        self.engine = engine
        self.is_done = anyio.Event()

    @on(SWITCHED_ON)
    async def start(self, _: None) -> None:
        """Begin to heat, if there is water."""
        if not self.litres:
            raise NoWater(f"{self.name} has no water")
        await self.engine.send(self.name, {"type": "heat"})
        await self.is_done.wait()


async def heat(kettle: Any) -> None:
    """Heat, and switch off in any case."""
    typer.echo(f"{kettle.name} is on")
    try:
        await anyio.sleep(kettle.litres * SECONDS_PER_LITRE)
    finally:
        typer.echo(f"{kettle.name} is off")


def whistle(_message: dict[str, Any], kettle: Any) -> None:
    """Tell everybody that the water boils."""
    typer.echo(f"{kettle.name} boils")
    kettle.is_done.set()


LIFE = StateMachine(
    "cold",
    [Transition("cold", "heat", "heating"), Transition("heating", "boil", "hot")],
    states=[State("heating", during=heat, done="boil"), State("hot", entry=whistle, final=True)],
)


def run(main: Callable[[], Awaitable[int]], backend: Backend) -> None:
    """Run a command's async function; end with the status that it returns.

    Ctrl-C and SIGTERM cancel it, so that everything is cleaned up, on both backends.
    """
    status = 0

    async def listen(scope: anyio.CancelScope) -> None:
        nonlocal status
        with anyio.open_signal_receiver(SIGINT, SIGTERM) as signals:
            status = 128 + await anext(signals)
            scope.cancel()

    async def supervise() -> None:
        nonlocal status
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen, tasks.cancel_scope)
            status = await main()
            tasks.cancel_scope.cancel()

    anyio.run(supervise, backend=backend)
    raise typer.Exit(status)


async def boil_all(litres: list[float]) -> int:
    """Switch all kettles on at once, and wait until they boil."""
    engine = Engine()
    for number, amount in enumerate(litres, 1):
        await engine.register(Kettle(f"kettle-{number}", amount, engine))
    async with engine.running():
        failures = await engine.bus.publish(SWITCHED_ON, None, delivery="concurrent")
    for failure in failures:
        typer.echo(f"{failure.component_name} failed: {failure.exception}", err=True)
    return 1 if failures else 0


@app.command()
def boil(
    litres: Annotated[list[float], typer.Argument(help="How much water is in each kettle.")],
    backend: Annotated[Backend, typer.Option(help="The event loop.")] = Backend.ASYNCIO,
) -> None:
    """Boil water in some kettles."""
    run(partial(boil_all, litres), backend)


@app.command()
def diagram() -> None:
    """Print the states of a kettle, for Mermaid."""
    typer.echo(LIFE.mermaid())


if __name__ == "__main__":
    app()
