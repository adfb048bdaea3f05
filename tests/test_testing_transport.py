"""`check_transport` (P1): what it refuses, what it finds, and how it tells."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

import pytest

from flexiflow.extras.durable import MemoryTransport
from flexiflow.testing import check_transport
from flexiflow.testing._transport_contract import TRANSPORT_CONTRACT
from flexiflow.testing._transport_run import examine_transport
from tests.durable_transports import Tried, each_transport

QUICK: dict[str, Any] = {"lease": None, "examples": 1, "scale": 0.001}


@pytest.mark.parametrize("opened", each_transport())
def test_a_transport_keeps_the_contract(
    backend: str, opened: Callable[[], AbstractContextManager[Tried]]
) -> None:
    """X1 X2 X3 X4 X5 X6 X7 X8: nothing is found wrong with the transports that come with us."""
    with opened() as tried:
        check_transport(tried.factory, backend=backend, **tried.terms)


@asynccontextmanager
async def opened_memory() -> AsyncGenerator[MemoryTransport]:
    """Give a transport from within a block."""
    yield MemoryTransport()


@pytest.mark.same_everywhere
def test_a_factory_may_be_a_context_manager(backend: str) -> None:
    """P1: whoever has to clean up after a transport can, and what it lacks is unchecked."""
    verdicts = [*examine_transport(opened_memory, backend=backend, seed=1, **QUICK)]
    assert [verdict.violation for verdict in verdicts] == [None] * len(TRANSPORT_CONTRACT)
    assert {verdict.clause.identifier: verdict.lacks for verdict in verdicts if verdict.lacks} == {
        "X5": ("max_length",),
        "X6": ("damage", "restart"),
    }
