"""Orders that go on after their process was killed while it shipped one of them.

    python examples/lasting_orders.py [--backend trio] [--store URL]

An order that is not paid within a few seconds expires. One that is paid is shipped by a carrier,
who is asked again if no answer comes. The shop is a `flexiflow run` of the engine below, which
keeps the orders in a store: an SQLite file, or the one that the URL names. This program plays the
customers. It kills the shop, and starts it again.
"""

import argparse
import json
import secrets
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import anyio

from flexiflow import Component, Engine, State, StateMachine, Transition

# The shop.


class Order(Component):
    """One order; beside its state, it keeps an address and how often the carrier was asked."""

    def __init__(self, name: str) -> None:
        super().__init__(name, machine=LIFE)
        self.address = ""
        self.tries = 0

    def snapshot(self) -> dict[str, Any]:
        """Return what is stored beside the state."""
        return {"address": self.address, "tries": self.tries}

    def restore(self, data: Mapping[str, Any], /) -> None:
        """Take over what was stored."""
        self.address, self.tries = data["address"], data["tries"]


def place(message: dict[str, Any], order: Order) -> None:
    """Keep the address."""
    order.address = message["address"]


def count_try(_message: dict[str, Any], order: Order) -> None:
    """Count how often the carrier is asked."""
    order.tries += 1


async def ship(order: Order) -> None:
    """Ask the carrier, who knows the order by its name: to be asked twice does no harm."""
    if order.address == "nowhere":
        raise LookupError("there is no such address")
    if order.address == "an island" and order.tries == 1:
        await anyio.sleep_forever()  # no answer comes
    await anyio.sleep(0.2)


LIFE = StateMachine(
    "new",
    [
        Transition("new", "place", "placed", action=place),
        Transition("placed", "pay", "shipping"),
        Transition("placed", "expire", "expired"),
        Transition("shipping", "taken", "shipped"),
        Transition("shipping", "refused", "returned"),
        Transition("shipping", "ask again", "shipping"),
    ],
    states=[
        State("placed", after=(4.0, "expire")),
        State(
            "shipping",
            entry=count_try,
            during=ship,
            done="taken",
            failed="refused",
            after=(3.0, "ask again"),
        ),
        State("shipped", final=True),
        State("returned", final=True),
        State("expired", final=True),
    ],
    strict=True,
)


def engine() -> Engine:
    """Make the engine, which makes an order when it is first asked for, or when its time comes."""
    return Engine(component_factory=Order)


# The customers.


@contextmanager
def open_shop(*options: str) -> Generator[Popen[str]]:
    """Start the shop, which runs until the block ends."""
    command = [sys.executable, "-m", "flexiflow", "run", f"{__file__}:engine", *options]
    command += ["--events", "state.changed"]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), PIPE)
    with Popen[str](command, text=True, **pipes) as shop:
        yield shop


def send(shop: Popen[str], order: str, kind: str, **fields: str) -> None:
    """Send an order a message, through the shop's standard input."""
    line = json.dumps({"component": order, "message": {"type": kind, **fields}})
    print(line, file=shop.stdin, flush=True)


def follow(shop: Popen[str], states: dict[str, str], until: dict[str, str]) -> None:
    """Print what becomes of the orders, until some are in the states that are waited for."""
    for line in shop.stdout or ():
        change = json.loads(line)["data"]
        states[change["component"]] = change["to_state"]
        say("shop", f"{change['component']} is {change['to_state']}")
        if until.items() <= states.items():
            return
    sys.exit(shop.stderr.read() if shop.stderr else 1)


def say(who: str, what: str) -> None:
    """Print a line of the story."""
    print(f"{who:>9}: {what}", flush=True)


def tell(*options: str) -> None:
    """Tell the story."""
    run = secrets.token_hex(2)  # the store may hold orders of an earlier run
    near, lost, unpaid, far = (f"{run}-{number}" for number in range(1, 5))
    states: dict[str, str] = {}
    with open_shop(*options) as shop:
        for order, address in ((near, "Elm Street 5"), (lost, "nowhere")):
            send(shop, order, "place", address=address)
            send(shop, order, "pay")
        follow(shop, states, until={near: "shipped", lost: "returned"})
        send(shop, unpaid, "place", address="Elm Street 7")
        send(shop, far, "place", address="an island")
        send(shop, far, "pay")
        follow(shop, states, until={unpaid: "placed", far: "shipping"})
        say("customers", f"kill -9 {shop.pid}: the shop dies while it ships {far}")
        shop.kill()
    with open_shop(*options) as shop:
        say("customers", "a new shop is started; nobody tells it anything")
        follow(shop, states, until={unpaid: "expired", far: "shipped"})
    say("customers", f"in the end: {', '.join(f'{each} {states[each]}' for each in states)}")


def main() -> None:
    """Tell the story with the backend and the store that the arguments name."""
    parser = argparse.ArgumentParser(description="Show orders that go on after a kill.")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    parser.add_argument("--store", help="sqlite:FILE, or redis://HOST:PORT", metavar="URL")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = given.store or f"sqlite:{Path(folder, 'state.db')}"
        tell("--store", store, "--backend", given.backend)


if __name__ == "__main__":
    main()
