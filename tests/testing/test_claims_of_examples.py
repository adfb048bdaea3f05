"""Claims about the examples and about a real log, as their users would make them (P6)."""

import gzip
import json
import re
import runpy
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from flexiflow import Component, Engine, State, StateMachine, Transition
from flexiflow.testing import ContractViolation, check_machine

pytestmark = pytest.mark.unmeasured

INCIDENTS = Path("../shared/data/incidents.jsonl.gz")
CLOSED = "Completed/Closed"
PLACING = st.builds(
    lambda item, amount: {"type": "place", "item": item, "amount": amount, "address": "here"},
    st.sampled_from(["pen", "cup"]),
    st.integers(0, 1_100),
)
ORDERS = PLACING | st.sampled_from([{"type": name} for name in ("pick", "ship", "cancel")])


def shop_with(stock: int) -> Callable[[], Any]:
    """Give what makes the shop of the example, with so many of each item."""
    example = runpy.run_path("examples/orders.py")

    async def make() -> Engine:
        shop = example["Shop"]()
        for component in (example["Payments"](shop), shop.warehouse, example["Letters"]()):
            await shop.engine.register(component)
        shop.warehouse.stock.update(pen=stock, cup=stock)
        engine: Engine = shop.engine
        return engine

    return make


def stock_is_kept(order: Any) -> bool:
    """Claim that nothing is taken off an empty shelf."""
    return bool(min(order.shop.warehouse.stock.values()) >= 0)


@pytest.mark.same_everywhere
def test_the_orders_keep_what_is_claimed_of_them(backend: str) -> None:
    """P6: two orders of the example, one item for both, and a warehouse that closes."""
    report = check_machine(
        shop_with(1),
        backend=backend,
        messages={
            "order-1": ORDERS,
            "order-2": ORDERS,
            "warehouse": st.sampled_from([{"type": "open"}, {"type": "close"}]),
        },
        invariants=[lambda each: each.name == "warehouse" or stock_is_kept(each)],
        never=[lambda each: each.state == "shipped" and each.details["amount"] > 500],
        leads_to=[("picked", ["shipped", "cancelled"])],
        fair=["ship"],
        examples=100,
        seed=1,
    )
    assert report.leads_to[0].held > 0
    # The payments answer while an order is being placed, so nobody can cancel it in between.
    assert [str(each) for each in report.not_taken] == ["placed -- cancel --> cancelled"]
    assert report.failures.keys() == {"OutOfStock", "TransitionRefused"}


def test_an_order_stays_paid_where_nothing_is_on_the_shelf(backend: str) -> None:
    """P6: what the example says of an empty shelf, a claim finds."""
    with pytest.raises(ContractViolation, match="order-1 reached 'paid'") as found:
        check_machine(
            shop_with(0),
            backend=backend,
            messages={"order-1": ORDERS},
            leads_to=[("paid", ["shipped", "cancelled"])],
            fair=["pick", "ship"],
            seed=1,
        )
    assert found.value.counterexample.count("desk.send(") == 1
    assert "'pick' raises OutOfStock('no " in found.value.history


def read_log() -> set[tuple[str, str]]:
    """Give each pair of statuses that follow each other in the log of an incident."""
    statuses: dict[str, list[str]] = {}
    with gzip.open(INCIDENTS, "rt", encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            told = statuses.setdefault(line["component"], ["New"])
            told.append(line["message"]["type"])
    return {pair for told in statuses.values() for pair in pairwise(told)}


class Incident(Component):
    """An incident that remembers whether it was closed."""

    was_closed = False


def close(_message: object, incident: Incident) -> None:
    """Remember it."""
    incident.was_closed = True


def is_opened_again(incident: Incident) -> bool:
    """Tell whether an incident is open that was closed."""
    return incident.was_closed and incident.state != CLOSED


@pytest.mark.same_everywhere
@pytest.mark.skipif(
    not INCIDENTS.exists(),
    reason="the log of the BPI Challenge 2013 is not a part of the project; it is not there",
)
def test_a_claim_that_the_log_refutes_is_found(backend: str) -> None:
    """P6: a machine of the log's transitions reopens incidents, as the log does."""
    pairs = read_log()
    rows = [Transition(before, after, after) for before, after in sorted(pairs)]
    machine = StateMachine("New", rows, states=[State(CLOSED, entry=close)])

    def make() -> Engine:
        return Engine(component_factory=lambda number: Incident(number, machine=machine))

    given: Any = {
        "backend": backend,
        "messages": {"1-7": st.sampled_from([{"type": each} for each in machine.states])},
        "seed": 1,
    }
    with pytest.raises(ContractViolation) as found:
        check_machine(make, never=[is_opened_again], **given)
    steps = re.findall(r"1-7 goes from '(.*?)' to '(.*?)'", found.value.history)
    assert steps[-1][0] == CLOSED
    assert steps[-1][1] != CLOSED
    assert pairs.issuperset(steps)
    # What the log bears out holds.
    unmatched = ("Unmatched/Unmatched", "Accepted/In Progress")
    report = check_machine(make, leads_to=[unmatched], fair=unmatched[1:], examples=60, **given)
    assert report.leads_to[0].inconclusive == 0
