"""What the tests of the transport on SQLite are given."""

import pytest

from tests.durable.sqlite.files import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let a test decide what time it is for the transport."""
    clock = Clock()
    for module in ("connection", "lease"):
        monkeypatch.setattr(f"flexiflow.extras.durable._sqlite.{module}.time", clock)
    return clock
