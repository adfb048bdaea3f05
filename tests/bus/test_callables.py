"""What may be called as a handler, a filter, a guard or an action, and how it is named."""

from __future__ import annotations

import functools
import gc
import inspect
from types import MethodType
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, Mock

import pytest
from anyio import to_thread

from flexiflow._callables import check_callable, describe, is_coroutine_callable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator


def plain(payload: object) -> None:
    """Take the payload."""


async def coroutine(payload: object) -> None:
    """Take the payload, asynchronously."""


def generator(payload: object) -> Iterator[int]:
    """Run nothing when called."""
    yield 1


async def async_generator(payload: object) -> AsyncIterator[int]:
    """Run nothing when called, either."""
    yield 1


def nothing() -> None:
    """Take nothing."""


def two(payload: object, component: object) -> None:
    """Take one argument too many for a handler."""


def three(payload: object, component: object, more: object) -> None:
    """Take three arguments."""


def one_with_default(payload: object = None) -> None:
    """Take an argument or none."""


def two_with_default(payload: object, component: object = None) -> None:
    """Take one argument or two."""


def everything(*payloads: object, **options: object) -> None:
    """Take any arguments."""


def keyword_with_default(payload: object, *, retries: int = 3) -> None:
    """Take the payload, and an option."""


def keyword_needed(payload: object, *, retries: int) -> None:
    """Take the payload, never without its option."""


class Owner:
    """Its methods, of every kind, are callables."""

    def method(self, payload: object) -> None: ...

    async def async_method(self, payload: object) -> None: ...

    @classmethod
    def class_method(cls, payload: object) -> None: ...

    @staticmethod
    def static_method(payload: object) -> None: ...

    def generator_method(self, payload: object) -> Iterator[int]:
        yield 1

    def no_argument(self) -> None: ...


class Called:
    """Its instances are callables."""

    def __call__(self, payload: object) -> None: ...


class AsyncCalled:
    """Its instances are async callables."""

    async def __call__(self, payload: object) -> None: ...


class GeneratorCalled:
    """Calling its instances runs nothing."""

    def __call__(self, payload: object) -> Iterator[int]:
        yield 1


class PartiallyCalled:
    """Calling its instances runs nothing either."""

    __call__ = functools.partial(generator)


class Unreadable:
    """Its repr fails where a message would show it."""

    def __repr__(self) -> str:
        raise AssertionError

    def __call__(self) -> None: ...


class ValueLess:
    """Neither callable nor readable."""

    def __repr__(self) -> str:
        raise ValueError


UNREADABLE = Unreadable()


class Hostile:
    """Looking at it fails."""

    def __getattr__(self, name: str) -> object:
        raise LookupError(name)


def with_defaults(
    payload: Unreadable, when: object = UNREADABLE, *, where: object, why: object = UNREADABLE
) -> None:
    """Lack its option, and have what no message can show."""


def wrapped_generator() -> Callable[[object], None]:
    """Make a plain function that carries the marks of a generator function."""

    @functools.wraps(generator)
    def wrapper(payload: object) -> None: ...

    return wrapper


def signed(signature: object) -> Callable[..., None]:
    """Make a function that shows another signature than its own."""

    def fn(payload: object) -> None: ...

    fn.__signature__ = signature  # type: ignore[attr-defined]
    return fn


def kind(fn: object) -> str:
    """Give a readable id for a test."""
    return fn if isinstance(fn, str) else f"{type(fn).__name__} {describe(fn)}"


def refusal(fn: object, arguments: int = 1, role: str = "handler") -> str:
    """Give the message with which it is refused."""
    with pytest.raises(TypeError) as caught:
        check_callable(role, fn, arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    "fn",
    [
        plain,
        coroutine,
        two_with_default,
        everything,
        keyword_with_default,
        functools.partial(two, 1),
        functools.partial(keyword_needed, retries=1),
        Owner().method,
        Owner().async_method,
        Owner.class_method,
        Owner.static_method,
        Called(),
        AsyncCalled(),
        MethodType(two, 1).__call__,
        MethodType(functools.partial(two), 1),
        list[object]().append,
        print,
        Mock(),
        AsyncMock(),
        wrapped_generator(),
    ],
    ids=kind,
)
def test_any_kind_of_callable_that_takes_the_payload_is_accepted(fn: object) -> None:
    """B7: Functions, methods, partials, callable objects and builtins are all accepted."""
    check_callable("handler", fn, 1)


@pytest.mark.parametrize("fn", [max, functools.lru_cache(nothing), signed(object())])
def test_a_callable_without_a_signature_is_accepted(fn: object) -> None:
    """B3: What shows no signature can't be judged, and is accepted."""
    check_callable("handler", fn, 7)


@pytest.mark.parametrize("arguments", [0, 1, 2, 3])
def test_defaults_widen_what_a_function_takes(arguments: int) -> None:
    """B3: A function of two parameters, one with a default, takes one argument or two."""
    if arguments in {1, 2}:
        check_callable("handler", two_with_default, arguments)
    else:
        assert "does not take" in refusal(two_with_default, arguments)


@pytest.mark.parametrize(
    ("fn", "shown"),
    [
        (None, "None"),
        (3, "3"),
        ("charge", "'charge'"),
        ("x" * 1_000, "'xxxxxxxxxxxx...xxxxxxxxxxxxx'"),
    ],
)
def test_what_is_not_callable_is_refused_and_shown(fn: object, shown: str) -> None:
    """B3: The message says what was given and what would be right."""
    assert refusal(fn) == f"handler must be callable with 1 positional argument, not {shown}"


def test_what_is_not_callable_is_refused_whatever_its_repr_does() -> None:
    """B3: A TypeError is raised, not the error of somebody's repr."""
    assert "not <ValueLess instance at" in refusal(ValueLess())


@pytest.mark.parametrize(
    ("fn", "shown"),
    [
        (nothing, "nothing()"),
        (two, "two(payload, component)"),
        (keyword_needed, "keyword_needed(payload, *, retries)"),
        (functools.partial(two, 1, 2), "two()"),
        (functools.partial(two), "two(payload, component)"),
        (Owner().no_argument, "Owner.no_argument()"),
        (MethodType(one_with_default, 1), "one_with_default()"),
        (MethodType(three, 1), "three(component, more)"),
        (Owner.method, "Owner.method(self, payload)"),
        (UNREADABLE, "Unreadable()"),
        (with_defaults, "with_defaults(payload, when=..., *, where, why=...)"),
        (signed(inspect.Signature()), "signed.<locals>.fn()"),
    ],
)
def test_a_callable_of_other_arguments_is_refused_with_its_signature(
    fn: object, shown: str
) -> None:
    """B3: A handler that can't take exactly one positional argument is refused at the call."""
    assert (
        refusal(fn) == f"handler is called with 1 positional argument, which {shown} does not take"
    )


def test_the_refusal_names_the_role_and_the_number_of_arguments() -> None:
    """C5: A guard takes two arguments, and the message says so."""
    assert refusal(plain, 2, "guard") == (
        "guard is called with 2 positional arguments, which plain(payload) does not take"
    )


def test_a_coroutine_object_is_refused_with_both_calls_shown() -> None:
    """B3: `handler(1)` instead of `handler` is taught, and leaves no warning behind."""
    message = refusal(coroutine(1))
    gc.collect()
    assert message == (
        "handler must be a function, not the coroutine that calling one gives; did you call it? "
        "give coroutine, not coroutine(...)"
    )


def test_a_coroutine_object_that_has_begun_is_left_alone() -> None:
    """B3: A refusal changes nothing: only a coroutine that never ran is closed."""

    class Pause:
        def __await__(self) -> Generator[None]:
            yield

    async def pausing() -> str:
        await Pause()
        return "unharmed"

    begun = pausing()
    begun.send(None)
    assert "did you call it?" in refusal(begun)
    with pytest.raises(StopIteration, match="unharmed"):
        begun.send(None)


@pytest.mark.parametrize(
    "fn",
    [
        generator,
        async_generator,
        functools.partial(generator),
        functools.partial(functools.partial(async_generator, 1)),
        Owner().generator_method,
        functools.partial(Owner().generator_method),
        MethodType(functools.partial(generator), 1),
        GeneratorCalled(),
        PartiallyCalled(),
    ],
    ids=kind,
)
def test_a_generator_function_is_refused_in_any_guise(fn: object) -> None:
    """B3: Calling a generator function runs nothing of it, so it is no handler."""
    assert refusal(fn) == (
        f"handler must be a plain or async function, but {describe(fn)} is a generator function"
    )


@pytest.mark.parametrize(
    "fn",
    [
        coroutine,
        functools.partial(coroutine),
        Owner().async_method,
        functools.partial(Owner().async_method),
        MethodType(functools.partial(coroutine), 1),
        AsyncCalled(),
        functools.partial(AsyncCalled()),
        AsyncCalled().__call__,
        AsyncMock(),
    ],
    ids=kind,
)
def test_a_coroutine_function_is_recognised_in_any_guise(fn: object) -> None:
    """B3: A filter that is a coroutine function can be told before it is called."""
    assert is_coroutine_callable(fn)


@pytest.mark.parametrize(
    "fn", [plain, generator, Owner, AsyncCalled, Called(), Owner().method, print, Mock(), 3, None]
)
def test_what_is_called_synchronously_is_no_coroutine_function(fn: object) -> None:
    """B3: A class whose instances are async callables is itself called synchronously."""
    assert not is_coroutine_callable(fn)


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (plain, "plain"),
        (Owner.method, "Owner.method"),
        (Owner().method, "Owner.method"),
        (functools.partial(Owner().method, 1), "Owner.method"),
        (functools.partial(functools.partial(two), 1), "two"),
        (functools.lru_cache(plain), "plain"),
        (list[object]().append, "list.append"),
        (Owner, "Owner"),
        (Called(), "Called"),
        (UNREADABLE, "Unreadable"),
        (Mock(__qualname__=3), "Mock"),
        (AsyncMock(__qualname__=""), "AsyncMock"),
    ],
    ids=kind,
)
def test_a_callable_is_named_without_its_repr(fn: Any, name: str) -> None:
    """E1: A failure names its handler, whatever the handler's own repr does."""
    assert describe(fn) == name


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (functools.partial(to_thread.run_sync, nothing), "nothing"),
        (functools.partial(to_thread.run_sync, Owner().method, 1), "Owner.method"),
        (functools.partial(to_thread.run_sync, functools.partial(plain, 1)), "plain"),
        (functools.partial(functools.partial(to_thread.run_sync), len), "len"),
        (functools.partial(to_thread.run_sync), "run_sync"),
        (functools.partial(two, plain), "two"),
    ],
)
def test_a_partial_that_runs_another_function_is_named_by_that(fn: Any, name: str) -> None:
    """E1: As `parse` in `partial(to_thread.run_sync, parse)`, else by the one that it calls."""
    assert describe(fn) == name


def test_a_callable_is_named_also_where_looking_at_it_fails() -> None:
    """E1: A failure is reported, whatever the handler's attributes do."""
    assert describe(Hostile()) == "Hostile"
