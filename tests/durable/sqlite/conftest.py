"""What the tests of the transport on SQLite are given."""

import pytest

from tests.durable.sqlite.files import Clock


@pytest.fixture
def machine_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let a test decide what time it is for leases, members and what waits in a file."""
    clock = Clock()
    monkeypatch.setattr("flexiflow.extras.durable._sqlite.time", clock)
    return clock
