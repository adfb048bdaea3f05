"""What retrying promises of any config and any run of failures (R1, R2, R4)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import anyio
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from flexiflow.extras.retry import RetryConfig, retry_async
from flexiflow.testing._examiner.subject import Log

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    backoff=st.floats(1, 1e50),
    max_delay=st.none() | st.just(math.inf) | seconds,
    retry_on=st.sampled_from(RETRYABLE)
    | st.lists(st.sampled_from(RETRYABLE), min_size=1).map(tuple)
    | st.just(Exception),
)


def make(shape: Shape) -> BaseException:
    """Return an exception of that shape."""
    if isinstance(shape, list):
        return BaseExceptionGroup("group", [make(inner) for inner in shape])
    return shape()


def kinds(shape: Shape) -> Iterator[type[BaseException]]:
    """Yield the types of the leaves."""
    for each in shape if isinstance(shape, list) else ():
        yield from kinds(each)
    if not isinstance(shape, list):
        yield shape


def types_of(config: RetryConfig) -> tuple[type[Exception], ...]:
    """Return the types that are retried; these configs have no predicates."""
    retry_on: Any = config.retry_on
    return retry_on if isinstance(retry_on, tuple) else (retry_on,)


def expected_attempts(script: list[Shape], config: RetryConfig) -> int:
    """Return how many attempts a call makes that fails like the script, and then succeeds."""
    for number, shape in enumerate(script, 1):
        retried = all(issubclass(kind, types_of(config)) for kind in kinds(shape))
        if not retried or number == config.max_attempts:
            return number
    return len(script) + 1


async def run(failures: list[BaseException], config: RetryConfig) -> tuple[object, list[float]]:
    """Make a call that raises these and then returns; return the last raised, and the delays."""
    given, left, delays = object(), iter(failures), list[float]()

    @retry_async(config)
    async def handler(data: object, *, key: object) -> object:
        assert (data, key) == (given, left)
        await checkpoint()
        for failure in left:
            raise failure
        return data

    async def sleep(delay: float) -> None:
        delays.append(delay)
        await checkpoint()

    with Log(), patch.object(anyio, "sleep", sleep):
        try:
            assert await handler(given, key=left) is given
        except (Exception, BaseExceptionGroup, SystemExit) as exc:  # noqa: BLE001  any may leave
            return exc, delays
    return None, delays


def within(delay: float, number: int, config: RetryConfig) -> bool:
    """Return whether the config allows this delay after the attempt with that number."""
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
    """R2, R4: so many attempts, the last exception itself, the function's arguments and result."""
    failures = [make(shape) for shape in script]
    raised, delays = anyio.run(run, failures, config, backend=backend)
    expected = expected_attempts(script, config)
    assert len(delays) == expected - 1
    assert raised is (failures[expected - 1] if expected <= len(failures) else None)


@given(config=configs)
def test_every_delay_is_within_its_bounds(backend: str, config: RetryConfig) -> None:
    """R1: the delay after each attempt is what base, backoff, jitter and cap allow."""
    kind = types_of(config)[0]
    failures: list[BaseException] = [kind() for _ in range(config.max_attempts)]
    _, delays = anyio.run(run, failures, config, backend=backend)
    assert len(delays) == config.max_attempts - 1
    assert all(within(delay, number, config) for number, delay in enumerate(delays, 1))
