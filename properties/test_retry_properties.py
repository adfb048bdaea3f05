"""What retrying promises of any config and any run of failures: R1, R2, R4."""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest.mock import patch

import anyio
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from flexiflow.extras.retry import RetryConfig, retry_async

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

KINDS = (OSError, ConnectionError, ValueError, LookupError, KeyError, SystemExit)
RETRYABLE = KINDS[:-1]

Shape = type[BaseException] | list["Shape"]
"""An exception by its type, or a group by what it holds."""

shapes: st.SearchStrategy[Shape] = st.recursive(
    st.sampled_from(KINDS), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=5
)
seconds = st.floats(0, 1e6)
configs = st.builds(
    RetryConfig,
    max_attempts=st.integers(1, 6),
    base_delay=seconds,
    jitter=seconds,
    backoff=st.floats(0, 1e50, exclude_min=True),
    max_delay=st.none() | st.just(math.inf) | seconds,
    retry_on=st.sampled_from(RETRYABLE)
    | st.lists(st.sampled_from(RETRYABLE), min_size=1).map(tuple)
    | st.just(Exception),
)


@dataclass
class Run:
    """What one call did."""

    attempts: int
    delays: list[float]
    raised: BaseException | None
    arguments: list[tuple[object, object]]


@contextmanager
def quiet() -> Generator[None]:
    """Keep the many warnings of retries out of the output."""
    logger = logging.getLogger("flexiflow")
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(logging.NOTSET)


def make(shape: Shape) -> BaseException:
    """Make the exception of that shape."""
    if isinstance(shape, list):
        return BaseExceptionGroup("group", [make(inner) for inner in shape])
    return shape()


def kinds(shape: Shape) -> Iterator[type[BaseException]]:
    """Go through the types of the leaves."""
    if isinstance(shape, list):
        for inner in shape:
            yield from kinds(inner)
    else:
        yield shape


def expected_attempts(script: list[Shape], config: RetryConfig) -> int:
    """Say how many attempts a call makes whose attempts fail like the script, then succeed."""
    for number, shape in enumerate(script, 1):
        retried = all(issubclass(kind, config.retry_on) for kind in kinds(shape))
        if not retried or number == config.max_attempts:
            return number
    return len(script) + 1


async def run(failures: list[BaseException], config: RetryConfig) -> Run:
    """Make one call whose attempts raise these, then return."""
    outcome = Run(0, [], None, [])
    given_object = object()

    @retry_async(config)
    async def handler(data: object, *, key: object) -> object:
        outcome.arguments.append((data, key))
        outcome.attempts += 1
        await checkpoint()
        if outcome.attempts <= len(failures):
            raise failures[outcome.attempts - 1]
        return data

    async def sleep(delay: float) -> None:
        outcome.delays.append(delay)
        await checkpoint()

    with patch.object(anyio, "sleep", sleep):
        try:
            result = await handler(given_object, key=outcome)
        except (Exception, BaseExceptionGroup, SystemExit) as exc:  # noqa: BLE001  any may leave
            outcome.raised = exc
        else:
            assert result is given_object
    assert all(data is given_object and key is outcome for data, key in outcome.arguments)
    return outcome


def within(delay: float, number: int, config: RetryConfig) -> bool:
    """Say whether a delay is one that the config allows after the attempt of that number."""
    nominal = config.base_delay
    for _ in range(number - 1):
        nominal *= config.backoff
    cap = math.inf if config.max_delay is None else config.max_delay
    low, high = min(nominal, cap), min(nominal + config.jitter, cap)
    # The model multiplies step by step, so its last digits may differ.
    return low * (1 - 1e-9) <= delay <= high * (1 + 1e-9) or math.isclose(
        delay, low, abs_tol=1e-300
    )


@given(script=st.lists(shapes, max_size=8), config=configs)
def test_a_call_makes_the_attempts_that_the_contract_says(
    backend: str, script: list[Shape], config: RetryConfig
) -> None:
    """R2: so many attempts, the last exception itself, the function's own arguments and result."""
    failures = [make(shape) for shape in script]
    with quiet():
        done = anyio.run(run, failures, config, backend=backend)
    expected = expected_attempts(script, config)
    assert done.attempts == expected
    assert done.raised is (failures[expected - 1] if expected <= len(failures) else None)


@given(config=configs)
def test_every_delay_is_within_its_bounds(backend: str, config: RetryConfig) -> None:
    """R1: the delay after each attempt is what base, backoff, jitter and cap allow."""
    kind = config.retry_on[0] if isinstance(config.retry_on, tuple) else config.retry_on
    failures: list[BaseException] = [kind() for _ in range(config.max_attempts)]
    with quiet():
        done = anyio.run(run, failures, config, backend=backend)
    assert len(done.delays) == config.max_attempts - 1
    assert all(within(delay, number, config) for number, delay in enumerate(done.delays, 1))
