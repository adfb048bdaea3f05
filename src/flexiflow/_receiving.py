"""Receiving: the methods of a bus that return streams and expectations (S1, S4)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, overload

from flexiflow._arguments import check_buffer, check_options, choose
from flexiflow._expectation import Expectation
from flexiflow._stream import EventStream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flexiflow._dispatcher import Dispatcher
    from flexiflow._stream import Overflow
    from flexiflow._subscription import Filter
    from flexiflow._topic import Event, T, Topic

_OVERFLOWS: Final[Mapping[str, Overflow]] = {
    each: each for each in ("block", "drop_oldest", "drop_newest", "error")
}


class Receiving:
    """The part of an `EventBus` that receives events, in place of subscribed handlers."""

    __slots__ = ("_dispatcher",)

    _dispatcher: Dispatcher

    @overload
    def stream(
        self,
        event: Topic[T],
        *,
        buffer: int = 100,
        overflow: Overflow = "block",
        priority: int = 3,
        filter: Callable[[str, T], bool] | None = None,
    ) -> EventStream[T]: ...

    @overload
    def stream(
        self,
        event: str,
        *,
        buffer: int = 100,
        overflow: Overflow = "block",
        priority: int = 3,
        filter: Filter | None = None,
    ) -> EventStream[Any]: ...

    def stream(
        self,
        event: Any,
        *,
        buffer: int = 100,
        overflow: Overflow = "block",
        priority: int = 3,
        filter: Filter | None = None,
    ) -> EventStream[Any]:
        """Return a stream, which receives events while its `async with` block lasts (S1).

        Args:
            event: a name or pattern, as for `subscribe`.
            buffer: how many events may wait for a reader, 0 or more. With 0, which only "block"
                allows, each publisher waits until a reader takes its event.
            overflow: what happens when an event meets a full buffer (S2): with "block" its
                publisher waits for room, "drop_oldest" drops the oldest event in the buffer,
                "drop_newest" drops this one, and "error" drops it and fails with `BufferFull`.
            priority: as for `subscribe`.
            filter: as for `subscribe`.

        Raises:
            ValueError: as for `subscribe`; an unknown `overflow`, or a `buffer` out of range.
            TypeError: as for `subscribe`.
        """
        check_options(event, priority=priority, filter=filter, time_limit=None, limit=None)
        choose("overflow", overflow, _OVERFLOWS)
        check_buffer(buffer, overflow)
        subscribe = partial(self._dispatcher.receive, event, priority, filter)
        return EventStream(event, buffer, overflow, self._dispatcher.yield_every, subscribe)

    @overload
    def expect(
        self, event: Topic[T], *, filter: Callable[[str, T], bool] | None = None
    ) -> Expectation[T]: ...

    @overload
    def expect(self, event: str, *, filter: Filter | None = None) -> Expectation[Any]: ...

    def expect(self, event: Any, *, filter: Filter | None = None) -> Expectation[Any]:
        """Return an expectation: enter it, cause the event, and await it inside (S1, S4).

        Args:
            event: a name or pattern, as for `subscribe`.
            filter: takes the event's name and the payload; the first event for which it returns
                true is the expected one. An exception that it raises is raised to the waiter.

        Raises:
            ValueError: a malformed or empty name (B3).
            TypeError: a name that is not a str, or something that can't be a filter (B3).
        """
        check_options(event, priority=3, filter=filter, time_limit=None, limit=None)
        subscribe = partial(self._dispatcher.receive, event, 3, None)
        return Expectation(event, filter, subscribe, self._dispatcher.announce_failure)

    @overload
    async def wait_for(
        self, event: Topic[T], *, filter: Callable[[str, T], bool] | None = None
    ) -> Event[T]: ...

    @overload
    async def wait_for(self, event: str, *, filter: Filter | None = None) -> Event[Any]: ...

    async def wait_for(self, event: Any, *, filter: Filter | None = None) -> Event[Any]:
        """Wait for the first matching event that is published from now on; a checkpoint (S4).

        Args:
            event: as for `expect`.
            filter: as for `expect`.

        Raises:
            ValueError: as for `expect`.
            TypeError: as for `expect`.
            Exception: what the filter raised.
        """
        expectation: Expectation[Any] = self.expect(event, filter=filter)
        async with expectation as expected:
            return await expected

    # Tracebacks and messages then name the class that the user knows.
    for _method in (stream, expect, wait_for):
        _method.__qualname__ = f"EventBus.{_method.__name__}"
    del _method
