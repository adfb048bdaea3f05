"""Programs that hand a bus bad arguments, which it refuses (B3)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from anyio.lowlevel import checkpoint

from flexiflow.testing._examiner.kit import claim, ignore, refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from flexiflow import EventBus

    Heard: TypeAlias = list[Any]
    Bad: TypeAlias = tuple[str, tuple[Any, ...], dict[str, Any]]


async def refuses(bus: EventBus, *, heard: Heard, error: type[Exception], bad: Bad) -> None:
    """A call with bad arguments raises, and changes nothing."""
    method, arguments, options = bad
    await bus.subscribe("a", "c", heard.append)
    # In place of a handler that ignores events, one that shows if it was subscribed all the same.
    arguments = tuple(heard.append if each is ignore else each for each in arguments)
    with refused(error, f"{method} is not refused with {error.__name__}"):
        await getattr(bus, method)(*arguments, **options)
    await bus.publish("a", 1)
    claim(heard == [1], f"what was refused changed something: heard {heard}, not [1]")
    count = bus.unsubscribe_all("c")
    claim(count == 1, f"what was refused changed something: {count} subscriptions, not 1")


def no_arguments() -> None:
    """Do nothing."""


def two_arguments(first: object, second: object) -> None:
    """Do nothing."""


def needs_an_option(data: object, *, option: object) -> None:
    """Do nothing."""


def generator(data: object) -> Iterator[object]:
    """Yield what is given."""
    yield data


async def async_generator(data: object) -> AsyncIterator[object]:
    """Yield what is given."""
    yield data


async def async_filter(event: str, data: object) -> bool:
    """Return what no filter may: an awaitable."""
    return bool(event) or bool(data)


def closed(name: str, coroutine: Any) -> Any:
    """Return a coroutine that is over, under a name of its own."""
    coroutine.__name__ = name
    coroutine.close()
    return coroutine


early = closed("early", checkpoint())


def _subscribing(*handlers: object, **options: object) -> Iterator[Bad]:
    for handler in handlers:
        yield "subscribe", ("a", "c", handler), options


BAD_VALUES: Final[tuple[Bad, ...]] = (
    *(each for bad in (0, 6, True, 2.5, "3", None) for each in _subscribing(ignore, priority=bad)),
    *(("subscribe", (bad, "c", ignore), {}) for bad in ("", ".a", "a.", "a..b", "**.a", "a*")),
    ("subscribe", ("a", "", ignore), {}),
    *(("publish", (bad, 2), {}) for bad in ("", ".a", "a..b", "*", "a.**")),
    ("publish", ("a", 2), {"delivery": "parallel"}),
    ("publish", ("a", 2), {"on_error": "ignore"}),
)
BAD_TYPES: Final[tuple[Bad, ...]] = (
    ("subscribe", (1, "c", ignore), {}),
    ("subscribe", ("a", None, ignore), {}),
    ("publish", (None, 2), {}),
    *_subscribing(None, "c", no_arguments, two_arguments, needs_an_option),
    *_subscribing(early, generator, async_generator, partial(generator)),
    *_subscribing(ignore, filter=1),
    *_subscribing(ignore, filter=ignore),
    *_subscribing(ignore, filter=async_filter),
)
