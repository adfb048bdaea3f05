"""What the tests of outbox and inbox share."""

from collections.abc import Generator

import pytest

from tests.durable.outbox.shop import OPENED


@pytest.fixture(autouse=True)
def _closed() -> Generator[None]:
    """Close the databases that a test has opened."""
    yield
    while OPENED:
        OPENED.pop().close()
