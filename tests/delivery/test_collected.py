"""A publish that nobody goes on with: the collector closes it, in a context that is not its own."""

from collections.abc import Generator
from contextvars import copy_context
from types import coroutine

import pytest

from flexiflow import EventBus
from flexiflow._arguments import make_terms
from flexiflow._bus import dispatcher_of
from flexiflow.events import HANDLER_FAILED
from flexiflow.extras.causality import Causality
from tests.helpers import never


@coroutine
def _hang() -> Generator[None, None, None]:
    yield


async def hang(data: object) -> None:
    """Wait for what no event loop knows."""
    await _hang()


@pytest.mark.parametrize("event", ["a", HANDLER_FAILED])
@pytest.mark.parametrize("limit", [None, 1])
async def test_it_leaves_nothing_behind(
    event: str, limit: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """B1, V2, E7, I4: No slot is lost, nothing fails, no other handler starts."""
    bus, causality = EventBus(), Causality()
    bus.add_instrument(causality)
    for handler, terms in ((hang, make_terms(time_limit=None, limit=limit)), (never, None)):
        dispatcher_of(bus).registry.create(
            event, "c", handler, priority=3, filter=None, once=False, terms=terms
        )
    for _ in range(2):
        # The second one would wait for ever if the first had kept its slot.
        publish = bus.publish(event)
        copy_context().run(publish.send, None)
        publish.close()
    assert caplog.records == []
    assert bus.remove_instrument(causality)
