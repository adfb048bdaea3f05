"""The transports of this package, at the full size of the universal suite (P1)."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from flexiflow.testing import check_transport
from properties.profile import in_the_long_run
from tests.durable.transports import Tried, each_transport


@in_the_long_run
@pytest.mark.parametrize("opened", each_transport())
def test_a_transport_keeps_the_contract(
    backend: str, opened: Callable[[], AbstractContextManager[Tried]]
) -> None:
    """X1 to X8, X11 to X15: thousands of events, and more scripts."""
    with opened() as tried:
        terms = {**tried.terms, "scale": 1.0, "examples": 30}
        check_transport(tried.factory, backend=backend, **terms)
