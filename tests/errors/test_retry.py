"""Retrying async functions: R1 to R8."""

import asyncio
import dataclasses
import functools
import gc
import inspect
import logging
import math
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from importlib import import_module
from types import TracebackType
from typing import Any, assert_type
from unittest.mock import AsyncMock

import anyio
import pytest
from anyio import CancelScope
from anyio.lowlevel import checkpoint
from tenacity import TryAgain

from flexiflow import EventBus, HandlerTimeout
from flexiflow._callables import describe
from flexiflow._cancellation import contexts
from flexiflow.extras.retry import RetryConfig, retry_async
from flexiflow.testing import replay
from tests.accounting import Boom
from tests.conftest import Backend
from tests.helpers import PATIENCE, Later, settle

AT_ONCE = RetryConfig(base_delay=0)
ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """An exception whose attributes can't be set."""

    code: int


async def later(*arguments: Any) -> Any:
    """Be async, where a plain function is wanted."""


class Odd(Exception):
    """An exception that is false and can't be compared."""

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        raise AssertionError


class Held(Exception):
    """An exception that can be watched: those of Python's own take no weak references."""


class Grouped(BaseExceptionGroup[BaseException]):
    """A group that is no `Exception`, whatever it holds."""

    def derive(self, excs: Sequence[Any], /) -> Any:
        return Grouped(self.message, excs)


class ClaimsAll(type):
    """The type of a class that claims everything as its instance."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True


class Anything(Exception, metaclass=ClaimsAll):
    """An exception class that claims a cancellation as its instance."""


class Flaky:
    """An object with an async call that raises what it is given, one by one, then returns."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.attempts = 0

    async def __call__(self, result: str = "done") -> str:
        """Fail or return."""
        self.attempts += 1
        await checkpoint()
        if self.failures:
            raise self.failures.pop(0)
        return result


async def ready(value: int, *, factor: int = 2) -> int:
    """Multiply."""
    return value * factor


class Service:
    """An object with a method that is retried."""

    def __init__(self) -> None:
        self.attempts = 0

    @retry_async(AT_ONCE)
    async def fetch(self, key: str) -> str:
        """Fetch what the key names."""
        self.attempts += 1
        if self.attempts == 1:
            raise ConnectionError
        return key.upper()


def in_a_group(number: int) -> BaseException:
    """Make a group of one."""
    return ExceptionGroup("group", [ValueError(number)])


def in_no_exception(number: int) -> BaseException:
    """Make a group that is no `Exception`."""
    return Grouped("group", [ValueError(number)])


def entries(traceback: TracebackType | None) -> int:
    """Count the entries of a traceback."""
    return 0 if traceback is None else 1 + entries(traceback.tb_next)


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the delays instead of waiting for them."""
    collected: list[float] = []

    async def sleep(delay: float) -> None:
        collected.append(delay)
        await checkpoint()

    monkeypatch.setattr(anyio, "sleep", sleep)
    return collected


async def failing(config: RetryConfig) -> int:
    """Fail until no attempt is left, and count the attempts."""
    flaky = Flaky(*(ValueError() for _ in range(1_000)))
    with pytest.raises(ValueError, match=r"^$"):
        await retry_async(config)(flaky)()
    return flaky.attempts


# R1: the configuration


def test_the_defaults_are_those_of_the_contract() -> None:
    """R1, R7: three attempts, a second apart, after any Exception, without an end in time."""
    assert dataclasses.asdict(RetryConfig()) == {
        "max_attempts": 3,
        "base_delay": 1.0,
        "jitter": 0.0,
        "backoff": 1.0,
        "max_delay": None,
        "retry_on": Exception,
        "total_time": None,
        "delay": None,
    }


def test_a_config_is_frozen() -> None:
    """R1: no field can be set."""
    config = RetryConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.jitter = 1.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_config_survives_pickling() -> None:
    """R1: a config is a plain value."""
    config = RetryConfig(max_attempts=5, retry_on=(OSError, ValueError))
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301  our own bytes


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("max_attempts", value) for value in (0, -1, 2.0, True, "3", None, math.nan)),
        *(
            (field, value)
            for field in ("base_delay", "jitter")
            for value in (-1, -0.1, math.nan, math.inf, True, "1", None, 10**400, 1j)
        ),
        *(
            ("backoff", value)
            for value in (0, -1, 0.999, math.nan, math.inf, True, "2", None, 10**400)
        ),
        *(("max_delay", value) for value in (-1, math.nan, -math.inf, False, "1", 10**400)),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(field: str, value: object) -> None:
    """R1: the message names the field; a backoff below 1.0 would shorten each delay."""
    options: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=rf"^{field} must be .*, not ") as caught:
        RetryConfig(**options)
    assert repr(value)[:10] in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 1},
        {"max_attempts": 10**9},
        {"base_delay": 0},
        {"base_delay": sys.float_info.max},
        {"jitter": 0},
        {"backoff": 1},
        {"max_delay": 0},
        {"max_delay": math.inf},
        {"retry_on": OSError},
        {"retry_on": (OSError, ValueError)},
    ],
)
def test_a_value_at_the_edge_of_its_range_is_taken(options: dict[str, Any]) -> None:
    """R1: the ranges include their ends."""
    assert RetryConfig(**options)


@pytest.mark.parametrize(
    "retry_on",
    [
        BaseException,
        asyncio.CancelledError,
        KeyboardInterrupt,
        BaseExceptionGroup,
        int,
        ValueError(),
        None,
        "ValueError",
        [ValueError],
        (ValueError, BaseException),
        (ValueError, (OSError,)),
    ],
)
def test_only_subclasses_of_exception_can_be_retried(retry_on: Any) -> None:
    """R1: another retry_on is refused, within a tuple too."""
    with pytest.raises(TypeError, match="retry_on must be a subclass of Exception"):
        RetryConfig(retry_on=retry_on)


def test_an_empty_tuple_of_types_is_refused() -> None:
    """R1: retrying nothing is said by max_attempts."""
    with pytest.raises(ValueError, match="retry_on must hold at least one"):
        RetryConfig(retry_on=())


async def test_the_first_attempt_counts(delays: list[float]) -> None:
    """R1: max_attempts is the number of attempts in all."""
    assert await failing(RetryConfig(max_attempts=4)) == 4
    assert delays == [1.0, 1.0, 1.0]


async def test_one_attempt_is_no_retry(delays: list[float]) -> None:
    """R1: with max_attempts=1 the first failure is raised."""
    assert await failing(RetryConfig(max_attempts=1)) == 1
    assert delays == []


async def test_each_delay_is_so_many_times_the_one_before(delays: list[float]) -> None:
    """R1: backoff multiplies."""
    await failing(RetryConfig(max_attempts=5, base_delay=0.5, backoff=3))
    assert delays == [0.5, 1.5, 4.5, 13.5]


async def test_jitter_is_drawn_for_each_delay_and_capped_with_it(
    delays: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R1: the random seconds are added to each delay, and the cap includes them."""
    draws = iter([0.25, 0.0, 0.5])
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return next(draws)

    monkeypatch.setattr("random.uniform", uniform)
    await failing(RetryConfig(max_attempts=4, base_delay=1, jitter=0.5, max_delay=1.3))
    assert (delays, asked) == ([1.25, 1.0, 1.3], [(0, 0.5)] * 3)


@pytest.mark.parametrize(
    ("config", "last"),
    [
        (RetryConfig(max_attempts=400, backoff=10), math.inf),
        (RetryConfig(max_attempts=6, backoff=10**100, max_delay=5), 5),
        (RetryConfig(max_attempts=6, backoff=10**100, base_delay=0), 0),
        (RetryConfig(max_attempts=3, base_delay=10**300, backoff=10**9), math.inf),
    ],
)
async def test_a_delay_too_large_for_a_float_is_endless_or_capped(
    config: RetryConfig, last: float, delays: list[float]
) -> None:
    """R1: however many attempts, computing the delay raises nothing."""
    await failing(config)
    assert delays[-1] == last


async def test_an_endless_delay_is_waited_for() -> None:
    """R1: both backends can sleep for ever, and R3 ends it."""
    flaky = Flaky(OSError(), OSError())
    endless = RetryConfig(base_delay=1e308, backoff=1e308)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(retry_async(endless)(flaky), "result")
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert flaky.attempts == 1


@pytest.mark.parametrize("retry_on", [OSError, (ValueError, OSError)])
async def test_what_matches_is_retried(retry_on: Any) -> None:
    """R1: a subclass of what is given in retry_on."""
    flaky = Flaky(ConnectionError())
    assert await retry_async(RetryConfig(base_delay=0, retry_on=retry_on))(flaky)() == "done"


async def test_what_does_not_match_leaves_at_once(delays: list[float]) -> None:
    """R1: retry_on says what is retried, and nothing else is."""
    failures = [OSError(), ValueError("second"), OSError()]
    flaky = Flaky(*failures)
    with pytest.raises(ValueError, match="second") as caught:
        await retry_async(RetryConfig(max_attempts=9, retry_on=OSError))(flaky)()
    assert (caught.value, flaky.attempts, delays) == (failures[1], 2, [1.0])


# R2: built on tenacity, which does not show


def test_tenacity_is_not_loaded_by_a_call_that_succeeds() -> None:
    """R2: neither importing the module nor a successful call needs it."""
    code = """
import sys, anyio
from flexiflow.extras.retry import retry_async

@retry_async
async def work():
    return "tenacity" in sys.modules

print(anyio.run(work))
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    finished = subprocess.run(
        [sys.executable, "-c", code], env=clean, check=True, capture_output=True, text=True
    )
    assert finished.stdout.strip() == "False"


async def test_arguments_and_result_are_the_functions_own() -> None:
    """R2: they pass through, on the first attempt and on later ones."""
    calls: list[tuple[Any, ...]] = []
    given = object()

    @retry_async(AT_ONCE)
    async def handler(*args: Any, **kwargs: Any) -> object:
        calls.append((args, kwargs))
        if len(calls) < 3:
            raise OSError
        return given

    assert await handler(1, given, key="word", function=2, config=3) is given
    assert calls == [((1, given), {"key": "word", "function": 2, "config": 3})] * 3


@pytest.mark.parametrize("result", [None, False, (), OSError()])
async def test_no_result_is_taken_for_a_failure(result: object) -> None:
    """R2: what is returned is returned, an exception object too."""
    mock = AsyncMock(side_effect=[OSError(), result])
    if isinstance(result, Exception):
        mock = AsyncMock(return_value=result)
    assert await retry_async(AT_ONCE)(mock)() is result


@pytest.mark.parametrize(
    "make",
    [
        ValueError,
        Frozen,
        Odd,
        TryAgain,
        in_a_group,
        in_no_exception,
    ],
    ids=["plain", "frozen", "odd", "tenacity's own", "group", "group that is no Exception"],
)
@pytest.mark.parametrize("attempts", [1, 3])
async def test_the_last_exception_itself_is_raised(
    make: Callable[[int], BaseException], attempts: int, delays: list[float]
) -> None:
    """R2: the same object, whatever its class does, and not a wrapper."""
    failures = [make(number) for number in range(4)]
    flaky = Flaky(*failures)
    with pytest.raises(type(failures[0])) as caught:
        await retry_async(RetryConfig(max_attempts=attempts))(flaky)()
    assert caught.value is failures[attempts - 1]
    assert flaky.attempts == attempts


async def test_a_failure_does_not_carry_the_failures_before_it(delays: list[float]) -> None:
    """R2: each attempt is made as if it were the first."""
    failures = [OSError(number) for number in range(3)]
    with pytest.raises(OSError, match="2") as caught:
        await retry_async(Flaky(*failures))()
    assert caught.value.__context__ is None


async def test_the_context_of_the_last_failure_is_its_own(delays: list[float]) -> None:
    """R2: the exception leaves as it was raised, also from within a clause of the caller."""

    @retry_async
    async def handler() -> None:
        try:
            raise LookupError
        except LookupError:
            raise OSError  # noqa: B904  the implicit context is what is tested

    caught: BaseException | None = None
    try:
        raise KeyError
    except KeyError:
        try:
            await handler()
        except OSError as exc:
            caught = exc
    assert caught is not None
    assert type(caught.__context__) is LookupError


async def test_the_traceback_of_an_exception_raised_again_does_not_grow(
    delays: list[float],
) -> None:
    """R2: what earlier attempts put there is dropped, with two exceptions by turns too."""
    lengths: list[int] = []
    for attempts in (4, 40):
        failures = [OSError(), OSError()] * 20
        flaky = Flaky(*failures[:2] * 20)
        with pytest.raises(OSError) as caught:  # noqa: PT011  it has no message
            await retry_async(RetryConfig(max_attempts=attempts))(flaky)()
        lengths.append(entries(caught.value.__traceback__))
    assert lengths[0] == lengths[1]


async def test_the_traceback_shows_where_the_last_attempt_failed(delays: list[float]) -> None:
    """R2: dropping what is old keeps what is new."""
    with pytest.raises(OSError) as caught:  # noqa: PT011  it has no message
        await retry_async(Flaky(*[OSError()] * 3))()
    assert "__call__" in [entry.name for entry in caught.traceback]


async def test_only_the_last_failure_is_kept(
    delays: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """R2, R8: While the next attempt runs; nothing else holds it, no reference cycle either."""
    caplog.set_level(logging.CRITICAL, logger="flexiflow")  # a kept log record would hold it
    failures: list[weakref.ref[Exception]] = []
    kept: list[bool] = []

    @retry_async
    async def handler() -> None:
        kept.extend(failure() is not None for failure in failures)
        if len(failures) < 2:
            failure = Held()
            failures.append(weakref.ref(failure))
            try:
                raise failure
            finally:
                del failure

    gc.disable()
    try:
        await handler()
    finally:
        gc.enable()
    assert kept == [True, False, True]


def test_name_docstring_and_signature_are_the_functions_own() -> None:
    """R2: also for code that doesn't look behind a wrapper."""
    retried = retry_async(ready)
    assert (retried.__name__, retried.__qualname__) == ("ready", "ready")
    assert (retried.__doc__, retried.__module__) == ("Multiply.", __name__)
    assert inspect.signature(retried, follow_wrapped=False) == inspect.signature(ready)
    assert inspect.unwrap(retried) is ready


def test_what_is_made_is_an_async_function_of_any_callable() -> None:
    """R2: `inspect` finds that it is async."""
    decorate: Any = retry_async()
    made = [decorate(each) for each in (ready, functools.partial(ready, 1), Flaky())]
    assert all(inspect.iscoroutinefunction(each) for each in [*made, Service().fetch])


def test_a_partial_is_named_for_its_function_and_takes_what_is_left() -> None:
    """R2: the arguments that a partial has are gone from the signature."""
    partial = functools.partial(functools.partial(ready, 3), factor=4)
    retried = retry_async(partial)
    assert (retried.__name__, retried.__doc__) == ("ready", "Multiply.")
    assert inspect.signature(retried, follow_wrapped=False) == inspect.signature(partial)
    assert inspect.unwrap(retried) is partial


def test_an_object_is_named_for_its_class_and_lends_no_attributes() -> None:
    """R2: the signature is that of its call; its state stays its own."""
    flaky = Flaky()
    retried = retry_async(flaky)
    assert (retried.__name__, retried.__qualname__) == ("Flaky", "Flaky")
    assert retried.__doc__ == Flaky.__doc__
    assert inspect.signature(retried, follow_wrapped=False) == inspect.signature(flaky)
    assert retried.__module__ == __name__
    assert not hasattr(retried, "failures")


def test_a_mark_on_the_function_is_on_the_wrapper() -> None:
    """R2: decorators may be stacked in any order."""

    async def handler(data: object) -> None: ...

    vars(handler)["mark"] = "here"
    assert vars(retry_async(handler))["mark"] == "here"


def test_a_callable_without_a_signature_is_accepted() -> None:
    """R6: some objects can't tell what they take."""

    class Silent:
        __signature__ = "none"

        async def __call__(self) -> None: ...

    assert retry_async(Silent()).__name__ == "Silent"


def test_a_partial_of_too_many_arguments_is_accepted() -> None:
    """R2: it shows no signature, and fails where it is called."""
    partial: Any = functools.partial
    decorate: Any = retry_async
    assert "__signature__" not in vars(decorate(partial(ready, 1, 2, 3, 4, 5)))


async def test_a_method_is_bound_as_before() -> None:
    """R2: a decorated method gets its object."""
    service = Service()
    result = await service.fetch("key")
    assert_type(result, str)
    assert (result, service.attempts) == ("KEY", 2)
    assert list(inspect.signature(service.fetch).parameters) == ["key"]


async def test_types_pass_through() -> None:
    """R2: type checkers see the function's own arguments and result."""
    bare = await retry_async(ready)(2, factor=3)
    called = await retry_async()(ready)(2)
    configured = await retry_async(RetryConfig())(ready)(value=2)
    named = await retry_async(config=AT_ONCE)(ready)(2)
    assert_type((bare, called, configured, named), tuple[int, int, int, int])
    assert (bare, called, configured, named) == (6, 4, 4, 4)


# R3: cancellation ends it at once


async def test_cancellation_in_an_attempt_ends_the_call() -> None:
    """R3: the attempt is the last one."""
    attempts: list[str] = []

    @retry_async(AT_ONCE)
    async def handler() -> None:
        attempts.append("one")
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(handler)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert attempts == ["one"]
    assert scope.cancelled_caught


@pytest.mark.parametrize("before", [0, 1])
def test_cancellation_in_a_delay_ends_the_call(before: int, backend: str) -> None:
    """R3: no attempt follows, after the first one or a later one."""
    flaky = Flaky(*(OSError() for _ in range(9)))
    config = RetryConfig(base_delay=1.0, backoff=1e3) if before else RetryConfig(base_delay=1e3)

    async def main() -> None:
        with anyio.move_on_after(10.0) as scope:
            await retry_async(config)(flaky)()
        assert scope.cancelled_caught

    replay(main, backend=backend, decisions=())
    assert flaky.attempts == 1 + before


async def test_cancellation_that_comes_as_the_delay_ends_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R3: a delay that returned normally is no licence to begin another attempt."""
    flaky = Flaky(OSError(), OSError())

    async def sleep(delay: float) -> None:
        scope.cancel()

    monkeypatch.setattr(anyio, "sleep", sleep)
    with anyio.CancelScope() as scope:
        await retry_async(flaky)()
    assert flaky.attempts == 1
    assert scope.cancelled_caught


@pytest.mark.parametrize("attempt", [1, 2])
async def test_cancellation_turned_into_a_failure_is_not_retried(attempt: int) -> None:
    """R3: an attempt that hides it is the last one all the same, and its exception leaves."""
    attempts = 0
    scope = anyio.CancelScope()

    @retry_async(AT_ONCE)
    async def handler() -> None:
        nonlocal attempts
        attempts += 1
        if attempts < attempt:
            raise OSError
        scope.cancel()
        try:
            await checkpoint()
        finally:
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"), scope:
        await handler()
    assert attempts == attempt


async def test_a_failure_in_a_cancelled_scope_is_not_retried(delays: list[float]) -> None:
    """R3: also when the attempt has not noticed the cancellation yet."""
    failure = OSError()
    scope = anyio.CancelScope()

    @retry_async
    async def handler() -> None:
        scope.cancel()
        raise failure

    with pytest.raises(OSError) as caught, scope:  # noqa: PT011  it has no message
        await handler()
    assert (caught.value, delays) == (failure, [])


async def test_a_scope_within_the_attempt_is_the_attempts_own() -> None:
    """R3: a time limit inside an attempt that expires is a failure like any other."""
    attempts = 0

    @retry_async(AT_ONCE)
    async def handler() -> str:
        nonlocal attempts
        attempts += 1
        if attempts == 3:
            return "done"
        with anyio.fail_after(0):
            await anyio.sleep_forever()
        raise AssertionError

    assert await handler() == "done"


async def test_a_shielded_cleanup_is_retried() -> None:
    """R3: the cancellation that brought it about is not its own."""
    results: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.fail_after(PATIENCE, shield=True):
                results.append(await retry_async(AT_ONCE)(Flaky(OSError(), OSError()))())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert results == ["done"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("before", [0, 1])
async def test_what_is_no_exception_leaves_at_once(
    kind: type[BaseException], before: int, delays: list[float]
) -> None:
    """R3: nothing but an Exception is ever retried."""
    raised = kind()
    flaky = Flaky(*[OSError()] * before, raised)
    with pytest.raises(kind) as caught:
        await retry_async(flaky)()
    assert caught.value is raised
    assert flaky.attempts == 1 + before


async def test_a_type_that_claims_a_cancellation_does_not_get_it(delays: list[float]) -> None:
    """R3: whatever retry_on says, also within a group."""
    group = BaseExceptionGroup("group", [OSError(), KeyboardInterrupt()])
    flaky = Flaky(group)
    with pytest.raises(type(group)) as caught:
        await retry_async(RetryConfig(retry_on=Anything))(flaky)()
    assert (caught.value, delays) == (group, [])


async def started(handler: Callable[[], Awaitable[object]]) -> "asyncio.Task[object]":
    """Run a handler in a task of asyncio's own until it waits."""

    async def run() -> object:
        return await handler()

    task = asyncio.create_task(run())
    await anyio.wait_all_tasks_blocked()
    return task


@ASYNCIO
@pytest.mark.parametrize("delay", [0, 1e3])
async def test_a_native_cancel_ends_the_call(delay: float) -> None:
    """R3: task.cancel() in an attempt, or in a delay, leaves as it is."""
    attempts = 0

    @retry_async(RetryConfig(base_delay=delay))
    async def handler() -> None:
        nonlocal attempts
        attempts += 1
        if delay:
            raise OSError
        await anyio.sleep_forever()

    task = await started(handler)
    task.cancel()
    with pytest.raises(asyncio.CancelledError), anyio.fail_after(PATIENCE):
        await task
    assert task.cancelled()
    assert attempts == 1


@ASYNCIO
@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_native_cancel_turned_into_a_failure_is_not_retried(attempt: int) -> None:
    """R3: what an attempt makes of a native cancel leaves at once."""
    attempts = 0

    @retry_async(AT_ONCE)
    async def handler() -> None:
        nonlocal attempts
        attempts += 1
        if attempts < attempt:
            raise OSError
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError

    task = await started(handler)
    task.cancel()
    with pytest.raises(ValueError, match=r"^$"), anyio.fail_after(PATIENCE):
        await task
    assert attempts == attempt


@ASYNCIO
async def test_a_cleanup_after_a_native_cancel_is_retried() -> None:
    """R3: only requests since the call began count."""
    results: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.fail_after(PATIENCE, shield=True):
                results.append(await retry_async(AT_ONCE)(Flaky(OSError(), OSError()))())

    task = await started(work)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert results == ["done"]


# R4: groups are judged by their leaves


@pytest.mark.parametrize(
    "group",
    [
        ExceptionGroup("all", [OSError(), ConnectionError()]),
        ExceptionGroup("deep", [ExceptionGroup("inner", [OSError()]), OSError()]),
        Grouped("no Exception itself", [OSError()]),
    ],
    ids=lambda group: group.message,
)
async def test_a_group_whose_leaves_all_match_is_retried(group: BaseException) -> None:
    """R4: at any depth, whatever the group itself is."""
    flaky = Flaky(group)
    assert await retry_async(RetryConfig(base_delay=0, retry_on=OSError))(flaky)() == "done"


@pytest.mark.parametrize(
    "group",
    [
        ExceptionGroup("one does not", [OSError(), ValueError()]),
        ExceptionGroup("deep", [OSError(), ExceptionGroup("inner", [OSError(), ValueError()])]),
        BaseExceptionGroup("one is no Exception", [OSError(), SystemExit()]),
    ],
    ids=lambda group: group.message,
)
async def test_a_group_with_a_leaf_that_does_not_match_leaves_at_once(
    group: BaseException, delays: list[float]
) -> None:
    """R4: every leaf has to be retryable."""
    with pytest.raises(type(group)) as caught:
        await retry_async(RetryConfig(retry_on=(OSError, ExceptionGroup)))(Flaky(group))()
    assert (caught.value, delays) == (group, [])


async def test_the_failure_of_a_task_group_is_retried_by_its_type(delays: list[float]) -> None:
    """R4: an error in a child task counts as what it is, not as the group it comes in."""
    attempts = 0

    @retry_async(RetryConfig(retry_on=ConnectionError))
    async def handler() -> None:
        nonlocal attempts
        attempts += 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(checkpoint)
            tasks.start_soon(Flaky(*[ConnectionError()] * (attempts < 3)))

    await handler()
    assert attempts == 3


# R5: calls share nothing, and retries are logged


async def test_calls_at_the_same_time_share_nothing(delays: list[float]) -> None:
    """R5: each has its own attempts and its own delays."""
    attempts: dict[str, int] = {}
    results: dict[str, object] = {}

    @retry_async(RetryConfig(max_attempts=4, backoff=2))
    async def handler(name: str, failures: int) -> str:
        attempts[name] = attempts.get(name, 0) + 1
        await checkpoint()
        if attempts[name] <= failures:
            raise OSError(name)
        return name

    async def call(name: str, failures: int) -> None:
        try:
            results[name] = await handler(name, failures)
        except OSError as exc:
            results[name] = str(exc)

    async with anyio.create_task_group() as tasks:
        for failures in range(6):
            tasks.start_soon(call, f"{failures}", failures)
    assert attempts == {"0": 1, "1": 2, "2": 3, "3": 4, "4": 4, "5": 4}
    assert results == {name: name for name in attempts}
    assert sorted(delays) == [1.0] * 5 + [2.0] * 4 + [4.0] * 3


async def test_a_call_within_a_call_has_its_own_attempts(delays: list[float]) -> None:
    """R5: a retried function that calls itself multiplies the attempts."""
    attempts: list[int] = []

    @retry_async(RetryConfig(max_attempts=2))
    async def handler(depth: int) -> None:
        attempts.append(depth)
        if depth:
            await handler(depth - 1)
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011  it has no message
        await handler(2)
    assert attempts == [2, 1, 0, 0, 1, 0, 0] * 2


async def test_each_retry_is_logged(delays: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """R5: as a warning with the function, the attempt, the delay and the exception."""
    config = RetryConfig(max_attempts=3, base_delay=0.2, backoff=2)
    with pytest.raises(OSError, match="third"):
        await retry_async(config)(Flaky(OSError("first"), OSError("second"), OSError("third")))()
    assert caplog.record_tuples == [
        (
            "flexiflow",
            logging.WARNING,
            "attempt 1 of 3 of Flaky failed, the next is in 0.2 s: OSError('first')",
        ),
        (
            "flexiflow",
            logging.WARNING,
            "attempt 2 of 3 of Flaky failed, the next is in 0.4 s: OSError('second')",
        ),
    ]


async def test_what_is_not_retried_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """R5: a success says nothing, nor does a failure that leaves."""
    await retry_async(Flaky())()
    with pytest.raises(OSError, match="only"):
        await retry_async(RetryConfig(max_attempts=1))(Flaky(OSError("only")))()
    assert caplog.records == []


# R6: what can be decorated


def synchronous() -> None:
    """Do nothing."""


async def generating() -> Any:
    """Yield nothing of interest."""
    yield 1


@pytest.mark.parametrize(
    "function",
    [
        synchronous,
        generating,
        functools.partial(synchronous),
        print,
        Flaky,
        RetryConfig,
        Service(),
        3,
        None,
        "name",
        staticmethod(ready),
    ],
)
def test_what_is_not_async_is_refused_when_decorated(function: Any) -> None:
    """R6: with and without a config, and nothing is called."""
    for decorate in (retry_async, retry_async(), retry_async(RetryConfig())):
        with pytest.raises(TypeError, match="retry_async takes an async function"):
            decorate(function)


def test_the_message_says_what_was_given() -> None:
    """R6: by name, and that it is not async."""
    decorate: Any = retry_async
    with pytest.raises(TypeError, match=r"not synchronous, which is not async$"):
        decorate(synchronous)


def test_a_coroutine_is_refused_with_a_hint() -> None:
    """R6: the commonest mistake is told by its name."""
    coroutine: Any = ready(1)
    with pytest.raises(TypeError, match="did you call the function"):
        retry_async(coroutine)
    coroutine.close()


@pytest.mark.parametrize(
    "function",
    [
        ready,
        functools.partial(ready, factor=2),
        functools.partial(functools.partial(ready), factor=2),
        AsyncMock(return_value=6),
    ],
)
async def test_async_callables_of_every_kind_are_accepted(function: Any) -> None:
    """R6: functions, partials of them, and objects with an async call."""
    assert await retry_async(function)(3) == 6


async def test_a_partial_of_an_object_and_a_bound_call_are_accepted() -> None:
    """R6: the kinds may be combined."""
    assert await retry_async(functools.partial(Flaky(), "bound"))() == "bound"
    assert await retry_async(Flaky().__call__)("method") == "method"


async def test_without_a_config_the_defaults_hold(delays: list[float]) -> None:
    """R6: @retry_async and @retry_async() are three attempts a second apart."""
    for decorate in (retry_async, retry_async()):
        flaky = Flaky(*(OSError() for _ in range(9)))
        with pytest.raises(OSError):  # noqa: PT011  it has no message
            await decorate(flaky)()
        assert flaky.attempts == 3
    assert delays == [1.0] * 4


@pytest.mark.parametrize("ends_in", ["delay", "attempt"])
async def test_a_cancellation_keeps_the_last_failure(ends_in: str) -> None:
    """R8: It is in the chain of contexts of what leaves, in a delay and in a later attempt."""
    failures, left = list[Held](), list[BaseException]()

    @retry_async(RetryConfig(base_delay=9e9 if ends_in == "delay" else 0.0, max_attempts=9))
    async def fail_then_hang() -> None:
        if len(failures) == (2 if ends_in == "attempt" else 1):
            await anyio.sleep_forever()
        failures.append(Held())
        raise failures[-1]

    async def watch() -> None:
        try:
            await fail_then_hang()
        except BaseException as exc:
            left.append(exc)
            raise

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await settle()
        tasks.cancel_scope.cancel()
    assert isinstance(left[0], anyio.get_cancelled_exc_class())
    assert list(contexts(left[0]))[-1] is failures[-1]


async def test_a_frozen_exception_in_the_chain() -> None:
    """R8: The failure goes to the end of the chain, even if that exception can't be changed."""
    failures, left = list[Held](), list[BaseException]()

    @retry_async(AT_ONCE)
    async def fail_then_hang() -> None:
        if failures:
            try:
                raise Frozen(1)
            except Frozen:
                await anyio.sleep_forever()
        failures.append(Held())
        raise failures[-1]

    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            try:
                await fail_then_hang()
            except BaseException as exc:
                left.append(exc)
                raise

        tasks.start_soon(watch)
        await settle()
        tasks.cancel_scope.cancel()
    assert list(contexts(left[0]))[1:] == [Frozen(1), failures[0]]


async def fail_at_once() -> None:
    """Fail in each attempt."""
    raise Boom


async def fail_in_cleanup() -> None:
    """Turn a cancellation into a failure."""
    try:
        await anyio.sleep_forever()
    finally:
        raise Boom


async def fail_after_cleanup() -> None:
    """Turn a cancellation into a failure, which does not show it."""
    with suppress(anyio.get_cancelled_exc_class()):
        await anyio.sleep_forever()
    raise Boom


async def group_up() -> None:
    """Put a cancellation into a group."""
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class() as exc:
        raise BaseExceptionGroup("group", [exc]) from None


async def group_up_a_failure() -> None:
    """Put a cancellation into a group, and a failure beside it."""
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class() as exc:
        raise BaseExceptionGroup("group", [exc, Boom()]) from None


async def wait_in_a_task_group() -> None:
    """Wait for a child that is cancelled."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep_forever)


async def fail_in_a_task_group() -> None:
    """Wait for a child that fails in its cleanup."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail_in_cleanup)


async def wait_in_a_native_group() -> None:
    """Wait in what the backend has; a trio nursery raises a group of cancellations."""
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(anyio.sleep_forever())
    else:
        trio: Any = import_module("trio")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)


CLEANUPS = pytest.mark.parametrize(
    "hang",
    [
        fail_in_cleanup,
        fail_after_cleanup,
        group_up,
        group_up_a_failure,
        wait_in_a_task_group,
        fail_in_a_task_group,
        wait_in_a_native_group,
    ],
    ids=describe,
)
"""What a cancelled attempt may raise in place of its cancellation."""


def fail_then(hang: Callable[[], Awaitable[None]], failures: list[Held]) -> Callable[..., Any]:
    """Make a function that fails, and hangs as it is tried again."""

    @retry_async(AT_ONCE)
    async def attempt(*_: object) -> None:
        if failures:
            await hang()
        failures.append(Held())
        raise failures[-1]

    return attempt


@CLEANUPS
async def test_what_a_cancelled_attempt_raises_keeps_the_last_failure(
    hang: Callable[[], Awaitable[None]],
) -> None:
    """R8: Also where the attempt turns its cancellation into a failure or a group."""
    failures, left = list[Held](), list[BaseException]()
    with CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                try:
                    await fail_then(hang, failures)()
                except BaseException as exc:  # noqa: BLE001  it is looked at
                    left.append(exc)

            tasks.start_soon(watch)
            await settle()
            scope.cancel()
    assert len(failures) == 1
    assert list(contexts(left[0]))[-1] is failures[0]


@CLEANUPS
def test_a_deadline_keeps_the_last_failure(
    hang: Callable[[], Awaitable[None]], backend: str
) -> None:
    """R8: A scope that takes the cancellation out of a group keeps it."""
    failures, left = list[Held](), list[BaseException]()

    async def main() -> None:
        try:
            with anyio.fail_after(1.0):
                await fail_then(hang, failures)()
        except BaseException as exc:  # noqa: BLE001  the backends differ in what leaves a scope
            left.append(exc)

    replay(main, backend=backend, decisions=())
    assert list(contexts(left[0]))[-1] is failures[0]


@CLEANUPS
def test_a_timeout_keeps_the_last_failure(
    hang: Callable[[], Awaitable[None]], backend: str
) -> None:
    """R8, V1: It is the context of the `HandlerTimeout`, whatever the handler raises in the end."""

    async def main() -> None:
        bus, failures = EventBus(), list[Held]()
        await bus.subscribe("a", "c", fail_then(hang, failures), time_limit=1.0)
        (failure,) = await bus.publish("a")
        timeout = failure.exception
        assert isinstance(timeout, HandlerTimeout)
        assert list(contexts(timeout)) == [timeout, *failures]

    replay(main, backend=backend, decisions=())


def test_a_cancelled_attempt_that_raises_the_last_failure_again(backend: str) -> None:
    """R8: It is in its own chain already; a chain has no ring."""
    failure = Held()

    @retry_async(AT_ONCE)
    async def attempt() -> None:
        if failure.__traceback__ is not None:
            with suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep_forever()
        raise failure

    async def main() -> None:
        with pytest.raises(Held), anyio.move_on_after(1.0):
            await attempt()

    replay(main, backend=backend, decisions=())
    assert failure.__context__ is None


def test_a_retry_that_is_closed_when_its_event_loop_is_gone(anyio_backend: Backend) -> None:
    """R8: `GeneratorExit` leaves as it is, though nobody can be asked what is being cancelled."""

    @retry_async(AT_ONCE)
    async def fail() -> None:
        raise Boom

    async def begin() -> Any:
        coroutine: Any = fail()
        coroutine.send(None)
        return coroutine

    backend, options = anyio_backend
    anyio.run(begin, backend=backend, backend_options=options).close()


@pytest.mark.parametrize("delay", [9e9, 0.0], ids=["in a delay", "in an attempt"])
def test_a_time_limit_keeps_the_last_failure(backend: str, delay: float) -> None:
    """R8, V1: It is in the chain of contexts of the `HandlerTimeout`."""

    async def main() -> None:
        bus, failures = EventBus(), list[Held]()

        @retry_async(RetryConfig(base_delay=delay))
        async def fail_then_hang(_: object) -> None:
            if failures:
                await anyio.sleep_forever()
            failures.append(Held())
            raise failures[-1]

        await bus.subscribe("a", "c", fail_then_hang, time_limit=1.0)
        (failure,) = await bus.publish("a")
        assert isinstance(failure.exception, HandlerTimeout)
        assert failure.exception.__cause__ is None
        assert failures[0] in contexts(failure.exception)

    replay(main, backend=backend, decisions=())


def caught_within(
    config: RetryConfig, failures: list[Held], *, handled: Exception, seconds: float
) -> Callable[[], Awaitable[BaseException]]:
    """Make a function that retries while it handles an exception, and returns what ends that."""

    @retry_async(config)
    async def fail_then_hang() -> None:
        if len(failures) == 2:
            await anyio.sleep_forever()
        failures.append(Held())
        raise failures[-1]

    async def fall_back() -> BaseException:
        try:
            raise handled
        except type(handled):
            try:
                with anyio.fail_after(seconds):
                    await fail_then_hang()
            except BaseException as exc:  # noqa: BLE001  it is looked at
                return exc
        raise AssertionError

    return fall_back


def walk(exception: BaseException | None) -> list[BaseException]:
    """Follow a chain of contexts as a user does, who expects no ring."""
    chain = list[BaseException]()
    while exception is not None:
        assert all(each is not exception for each in chain), "it is a ring"
        chain.append(exception)
        exception = exception.__context__
    return chain


@pytest.mark.parametrize("delay", [9e9, 0.0], ids=["in a delay", "in an attempt"])
def test_a_retry_within_an_except_block_keeps_the_last_failure(delay: float, backend: str) -> None:
    """R8: It comes before what the caller was handling, which is not changed."""
    failures, handled = list[Held](), Boom()
    call = caught_within(RetryConfig(base_delay=delay), failures, handled=handled, seconds=1.0)
    left = replay(call, backend=backend, decisions=())
    assert isinstance(left, TimeoutError)
    assert walk(left)[-2:] == [failures[-1], handled]
    assert handled.__context__ is None


def test_a_timeout_within_an_except_block_keeps_the_last_failure(backend: str) -> None:
    """R8, V1: Also where the publisher handles an exception, and the timeout leaves `publish`."""
    failures, handled = list[Held](), Boom()

    async def main() -> BaseException:
        bus = EventBus(on_error="raise")
        await bus.subscribe("a", "c", fail_then(anyio.sleep_forever, failures), time_limit=1.0)
        try:
            raise handled
        except Boom:
            try:
                await bus.publish("a")
            except HandlerTimeout as exc:
                return exc
        raise AssertionError

    left = replay(main, backend=backend, decisions=())
    assert walk(left) == [left, *failures, handled]
    assert handled.__context__ is None


@CLEANUPS
def test_what_a_cleanup_raises_within_an_except_block(
    hang: Callable[[], Awaitable[None]], backend: str
) -> None:
    """R8: The last failure comes before what was being handled, whatever the attempt raises."""
    failures, handled, left = list[Held](), Boom(), list[BaseException]()

    async def main() -> None:
        with suppress(BaseException), anyio.move_on_after(1.0):
            try:
                raise handled
            except Boom:
                try:
                    await fail_then(hang, failures)()
                except BaseException as exc:
                    left.append(exc)
                    raise

    replay(main, backend=backend, decisions=())
    assert walk(left[0])[-2:] == [failures[0], handled]
    assert handled.__context__ is None


def test_an_attempt_that_raises_what_was_being_handled(backend: str) -> None:
    """R8: The caller's own exception is not changed, though a cancelled attempt raises it."""
    handled = Boom()

    async def raise_handled() -> None:
        with suppress(anyio.get_cancelled_exc_class()):
            await anyio.sleep_forever()
        raise handled

    async def main() -> None:
        with anyio.move_on_after(1.0):
            try:
                raise handled
            except Boom:
                await fail_then(raise_handled, [])()

    with pytest.raises(Boom):
        replay(main, backend=backend, decisions=())
    assert handled.__context__ is None


def test_a_failure_that_shows_no_context_within_an_except_block(backend: str) -> None:
    """R8: What the caller handles is not changed, though the failure does not lead to it."""
    handled, failure, left = Boom(), Held(), list[BaseException]()

    @retry_async(AT_ONCE)
    async def attempt() -> None:
        if failure.__traceback__ is not None:
            await fail_after_cleanup()
        try:
            raise failure
        finally:
            failure.__context__ = None

    async def main() -> None:
        try:
            raise handled
        except Boom:
            with anyio.move_on_after(1.0):
                try:
                    await attempt()
                except Boom as exc:
                    left.append(exc)

    replay(main, backend=backend, decisions=())
    assert walk(left[0]) == [left[0], failure]
    assert handled.__context__ is None


def test_a_cancelled_attempt_that_raises_the_context_of_the_last_failure(backend: str) -> None:
    """R8: An exception that the failure came of is not changed, so the chain has no ring."""
    first = Boom()

    @retry_async(AT_ONCE)
    async def attempt() -> None:
        if first.__traceback__ is not None:
            with suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep_forever()
            raise first
        try:
            raise first
        except Boom:
            raise Held  # noqa: B904  the context is the point

    async def main() -> None:
        with pytest.raises(Boom), anyio.move_on_after(1.0):
            await attempt()

    replay(main, backend=backend, decisions=())
    assert first.__context__ is None


async def call_at_once(function: Callable[[], Awaitable[None]]) -> None:
    """Call a function, where no exception is handled."""
    await function()


async def call_within_an_except_block(function: Callable[[], Awaitable[None]]) -> None:
    """Call a function, where another exception is handled."""
    try:
        raise LookupError
    except LookupError:
        await function()


@pytest.mark.parametrize("call", [call_at_once, call_within_an_except_block], ids=describe)
def test_a_failure_that_was_kept_is_freed_with_it(
    call: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]],
    backend: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """R8, B6: Neither frames nor reference cycles are left, with the collector off."""
    caplog.set_level(logging.CRITICAL, logger="flexiflow")  # a kept log record would hold it
    failures = list[weakref.ref[Held]]()

    @retry_async(AT_ONCE)
    async def attempt() -> None:
        if failures:
            # Else the cancellation would hold it, which the backend itself keeps for a while.
            await fail_after_cleanup()
        failure = Held()
        failures.append(weakref.ref(failure))
        try:
            raise failure
        finally:
            del failure

    async def give_up() -> None:
        with suppress(Boom), anyio.move_on_after(1.0):
            await attempt()

    async def main() -> None:
        await call(give_up)
        assert failures[0]() is None

    gc.disable()
    try:
        replay(main, backend=backend, decisions=())
    finally:
        gc.enable()


@ASYNCIO
@pytest.mark.parametrize("hang", [anyio.sleep_forever, fail_after_cleanup], ids=describe)
async def test_a_second_cancel_within_an_except_block(
    hang: Callable[[], Awaitable[None]], anyio_backend: Backend
) -> None:
    """R3, R8: A native cancel that comes while the first one leaves loses no failure."""
    failures, handled, left = list[Held](), Boom(), list[BaseException]()

    async def fall_back() -> None:
        try:
            raise handled
        except Boom:
            try:
                await fail_then(hang, failures)()
            except BaseException as exc:
                left.append(exc)
                raise

    task = asyncio.create_task(fall_back())
    await settle()
    task.cancel()
    await asyncio.sleep(0)  # the first is delivered
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(left[0], asyncio.CancelledError)
    assert walk(left[0])[-2:] == [failures[0], handled]


async def test_no_delay_begins_that_would_end_too_late(delays: list[float]) -> None:
    """R7: The last exception is raised at once; what fits `total_time` is tried."""
    attempts = 0

    @retry_async(RetryConfig(max_attempts=9, base_delay=3.0, backoff=2.0, total_time=10.0))
    async def fail() -> None:
        nonlocal attempts
        attempts += 1
        raise Odd(attempts)

    with pytest.raises(Odd) as caught:
        await fail()
    # The clock stands still meanwhile, since the delays are only noted.
    assert (delays, caught.value.args) == ([3.0, 6.0], (3,))


async def test_total_time_counts_from_the_first_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """R7: The time that attempts take counts, too; a delay may end at the very end."""
    now, slept = 100.0, list[float]()

    async def sleep(delay: float) -> None:
        nonlocal now
        now += delay
        slept.append(delay)

    monkeypatch.setattr(anyio, "current_time", lambda: now)
    monkeypatch.setattr(anyio, "sleep", sleep)

    @retry_async(RetryConfig(max_attempts=9, base_delay=1.0, total_time=9.0))
    async def fail() -> None:
        nonlocal now
        now += 4.0
        raise Odd

    with pytest.raises(Odd):
        await fail()
    # A second delay would end after 10 seconds. Without the first attempt it would be 6.
    assert (slept, now) == ([1.0], 109.0)


async def test_a_delay_may_end_at_the_very_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """R7: No delay begins that would end *after* `total_time`."""
    now, slept = 100.0, list[float]()

    async def sleep(delay: float) -> None:
        nonlocal now
        now += delay
        slept.append(delay)

    monkeypatch.setattr(anyio, "current_time", lambda: now)
    monkeypatch.setattr(anyio, "sleep", sleep)
    with pytest.raises(Boom):
        await retry_async(RetryConfig(max_attempts=9, total_time=2.0))(fail_at_once)()
    assert slept == [1.0, 1.0]


@pytest.mark.parametrize(("base_delay", "expected"), [(1.0, []), (0.0, [0.0, 0.0])])
async def test_no_time_at_all(
    base_delay: float, expected: list[float], delays: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R7: With 0 seconds there is one attempt, unless there are no delays either."""
    monkeypatch.setattr(anyio, "current_time", lambda: 100.0)
    with pytest.raises(Boom):
        await retry_async(RetryConfig(total_time=0, base_delay=base_delay))(fail_at_once)()
    assert delays == expected


async def test_a_predicate_is_asked_for_each_leaf() -> None:
    """R4, R7: A group is retried if all of its leaves are; other exceptions are not asked about."""
    asked = list[Exception]()

    def is_odd(exception: Exception) -> bool:
        asked.append(exception)
        return isinstance(exception, Odd)

    attempts = 0
    odd, held = Odd(), Held()

    @retry_async(RetryConfig(base_delay=0, retry_on=is_odd))
    async def fail() -> None:
        nonlocal attempts
        attempts += 1
        raise ExceptionGroup("", [odd] if attempts == 1 else [odd, held])

    with pytest.raises(ExceptionGroup):
        await fail()
    assert attempts == 2
    assert [id(each) for each in asked] == [id(odd), id(odd), id(held)]


async def test_a_predicate_that_fails() -> None:
    """R7: Its failure leaves, with the attempt's as its context."""
    first = Held()

    def refuse(exception: Exception) -> bool:
        raise LookupError

    @retry_async(RetryConfig(retry_on=refuse))
    async def fail() -> None:
        raise first

    with pytest.raises(LookupError) as caught:
        await fail()
    assert caught.value.__context__ is first


@pytest.mark.parametrize("make", [later, Later], ids=["coroutine", "another awaitable"])
async def test_a_predicate_that_returns_an_awaitable(make: Callable[..., Any]) -> None:
    """R7: A `TypeError`: it must answer at once; a coroutine is closed."""

    def answer_later(exception: Exception) -> Any:
        return make(print, exception)

    @retry_async(RetryConfig(retry_on=answer_later))
    async def fail() -> None:
        raise Held

    with pytest.raises(TypeError, match=r"must answer at once, and .*answer_later returned"):
        await fail()


async def test_delays_of_the_user(delays: list[float]) -> None:
    """R7: `delay` replaces `base_delay` and `backoff`; `max_delay` caps it."""
    asked = list[tuple[int, int]]()

    def after(attempt: int, exception: Exception) -> float:
        asked.append((attempt, exception.args[0]))
        return (0.5, 70)[attempt - 1]

    attempts = 0

    @retry_async(RetryConfig(base_delay=9.0, backoff=9.0, max_delay=60.0, delay=after))
    async def fail() -> None:
        nonlocal attempts
        attempts += 1
        raise Frozen(attempts)

    with pytest.raises(Frozen):
        await fail()
    assert (delays, asked) == ([0.5, 60.0], [(1, 1), (2, 2)])


async def test_jitter_is_added_to_delays_of_the_user(delays: list[float]) -> None:
    """R7: As to `base_delay`; `max_delay` caps the sum."""
    config = RetryConfig(
        max_attempts=101, jitter=4.0, max_delay=12.0, delay=lambda attempt, exception: 10.0
    )
    with pytest.raises(Boom):
        await retry_async(config)(fail_at_once)()
    assert all(10.0 <= delay <= 12.0 for delay in delays)
    assert len(set(delays)) > 10
    assert delays.count(12.0) > 10


@pytest.mark.parametrize("make", [later, Later], ids=["coroutine", "another awaitable"])
async def test_a_delay_that_returns_an_awaitable(make: Callable[..., Any]) -> None:
    """R7: A `ValueError` caused by the failure; a coroutine is closed, so nothing warns."""
    config = RetryConfig(delay=lambda attempt, exception: make(print, exception))
    with pytest.raises(ValueError, match="the delay after attempt 1 must be a finite") as caught:
        await retry_async(config)(fail_at_once)()
    assert isinstance(caught.value.__cause__, Boom)


@pytest.mark.parametrize("field", ["retry_on", "delay"])
def test_functions_are_not_asked_during_a_cancellation(field: str, backend: str) -> None:
    """R3: What an attempt makes of its cancellation leaves, whatever the functions would raise."""

    def refuse(*_: object) -> Any:
        raise LookupError

    options: dict[str, Any] = {field: refuse}

    async def main() -> None:
        with anyio.move_on_after(1.0):
            await retry_async(RetryConfig(**options))(fail_after_cleanup)()

    with pytest.raises(Boom):
        replay(main, backend=backend, decisions=())


@pytest.mark.parametrize("given", [-1, math.nan, math.inf, "1", None, True, 10**400], ids=repr)
async def test_a_delay_that_is_none(given: Any) -> None:
    """R7: A `ValueError` that shows it, caused by the failure."""
    first = Held()

    @retry_async(RetryConfig(delay=lambda attempt, exception: given))
    async def fail() -> None:
        raise first

    with pytest.raises(ValueError, match="the delay after attempt 1 must be a finite number") as c:
        await fail()
    assert c.value.__cause__ is first


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"total_time": -1}, "total_time must be a number of seconds, 0 or more, or None"),
        ({"total_time": math.nan}, "total_time must be a number of seconds"),
        ({"total_time": "1"}, "total_time must be a number of seconds"),
        ({"delay": 1.0}, "delay must be callable with 2 positional arguments, not 1.0"),
        ({"delay": lambda: 1.0}, "delay is called with 2 positional arguments"),
        ({"delay": later}, "delay must be a plain function, but later is async"),
        ({"retry_on": later}, "retry_on must be a plain function, but later is async"),
        ({"retry_on": lambda: 1.0}, "retry_on is called with 1 positional argument"),
        ({"retry_on": BaseException}, "retry_on must be a subclass of Exception, a tuple"),
    ],
    ids=repr,
)
def test_what_a_config_refuses_since_r7(fields: Any, problem: str) -> None:
    """R7: The message says what was given, and what would be right."""
    with pytest.raises((ValueError, TypeError), match=problem):
        RetryConfig(**fields)
