"""Which event caused which: ids, correlation, and a guard against endless chains (I4).

Add a `Causality` to a bus; then `current_event` returns the ids of the event that is being handled,
`correlation` sets a correlation id from outside, and a `CausalityFilter` adds the ids to log
records.
"""

from __future__ import annotations

import logging
import reprlib
import secrets
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count, repeat
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, final

from flexiflow._arguments import check_int
from flexiflow._errors import PublishRefused
from flexiflow._instruments import HAPPENED
from flexiflow._text import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from contextvars import Token

    from flexiflow._names import Event

__all__ = [
    "CausalEvent",
    "Causality",
    "CausalityFilter",
    "PublishLoop",
    "correlation",
    "current_event",
]

_SHOWN_AT_EACH_END = 5

# Kept in two parts: ids are seldom looked at, and making the text takes as long as a handler.
_Id: TypeAlias = "tuple[str, int]"


@final
@dataclass(frozen=True, slots=True)
class CausalEvent:
    """An event's place in a chain of events, each published within the one before (I4).

    Attributes:
        id: the event's own id, which is unique.
        parent_id: the id of the event within which it was published; None for a root.
        correlation_id: the id set by `correlation`, else the parent's correlation id, else the
            event's own id.
        depth: how many events the chain has up to this one, itself included; 1 for a root.
        name: the name that was published.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.causality import Causality, current_event
        >>> def show(order):
        ...     event = current_event()
        ...     print(event.name, event.depth, event.parent_id)
        >>> async def main():
        ...     bus = EventBus(instruments=[Causality()])
        ...     await bus.subscribe("order.placed", "log", show)
        ...     await bus.publish("order.placed", "A7")
        >>> anyio.run(main)
        order.placed 1 None
    """

    id: str
    parent_id: str | None
    correlation_id: str
    depth: int
    name: str


@final
class PublishLoop(PublishRefused):
    """A chain of events, each published within the one before, is too long (I4).

    Args:
        chain: the names of the chain's last events, usually `max_depth` of them, and then that of
            the event that was refused.
        max_depth: how many events a chain may have.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.causality import Causality, PublishLoop
        >>> async def main():
        ...     bus = EventBus(on_error="raise", instruments=[Causality(max_depth=3)])
        ...     async def again(count):
        ...         await bus.publish("counted", count + 1)
        ...     await bus.subscribe("counted", "counter", again)
        ...     try:
        ...         await bus.publish("counted", 1)
        ...     except PublishLoop as error:
        ...         print(error.chain)
        >>> anyio.run(main)
        ('counted', 'counted', 'counted', 'counted')
    """

    def __init__(self, chain: tuple[str, ...], max_depth: int) -> None:
        super().__init__(chain, max_depth)
        self.chain = chain
        self.max_depth = max_depth

    def __str__(self) -> str:
        """Return the message: the chain, without its middle if it is long, and what to do."""
        left_out = len(self.chain) - 2 * _SHOWN_AT_EACH_END
        shown = (*map(shorten, self.chain),)
        if left_out > 1:
            middle = f"({left_out} more)"
            shown = (*shown[:_SHOWN_AT_EACH_END], middle, *shown[-_SHOWN_AT_EACH_END:])
        return (
            f"events that cause each other go deeper than {self.max_depth}: {' -> '.join(shown)}; "
            "end the loop, or give Causality a higher max_depth"
        )


class _Lineage(NamedTuple):
    """What an event inherits from those that caused it.

    Attributes:
        parent: the parent's id; None for a root.
        correlation: the id set from outside, else the root's id; None for a root without one.
        depth: the event's own depth.
        names: the names of the events before it. Not the events, which would all stay in memory.
    """

    parent: _Id | str | None
    correlation: _Id | str | None
    depth: int
    names: tuple[str, ...]


class _Said(NamedTuple):
    """The id that a `correlation` sets from outside, and what was set before."""

    id: str
    before: _Said | None


_ROOT = _Lineage(None, None, 1, ())


class _Cause:
    """An event as the cause of others; a context manager within which it is the current one."""

    __slots__ = ("id", "lineage", "name", "token")

    id: _Id | str
    lineage: _Lineage
    name: str
    token: Token[_Cause | None]

    def __enter__(self) -> None:
        self.token = _current.set(self)

    def __exit__(self, kind: object, exception: object, traceback: object) -> None:
        try:  # noqa: SIM105  what `restore` does, without its cost, which is that of a handler
            _current.reset(self.token)
        except ValueError:
            pass
        del self.token  # it holds the event before, and so the whole chain

    def correlation(self) -> _Id | str:
        return self.lineage.correlation or self.id

    def show(self) -> CausalEvent:
        parent, _, depth, _ = self.lineage
        return CausalEvent(
            _show(self.id),
            None if parent is None else _show(parent),
            _show(self.correlation()),
            depth,
            self.name,
        )


_current: ContextVar[_Cause | None] = ContextVar("current_event", default=None)
_said: ContextVar[_Said | None] = ContextVar("correlation", default=None)


def current_event() -> CausalEvent | None:
    """Return the event within whose publish the caller runs; None outside of any (I4).

    This works in handlers, in what they call, in child tasks that they start, and in threads that
    carry the context. A task that outlives the publish still gets the event, since the event caused
    what the task publishes.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.causality import Causality, current_event
        >>> async def main():
        ...     bus = EventBus(instruments=[Causality()])
        ...     await bus.subscribe("order.placed", "log", lambda _: print(current_event().name))
        ...     await bus.publish("order.placed", "A7")
        ...     print(current_event())
        >>> anyio.run(main)
        order.placed
        None
    """
    cause = _current.get()
    return None if cause is None else cause.show()


@final
class correlation:  # noqa: N801  it is used as a function
    """A context manager: events published inside get this correlation id (I4).

    It takes precedence over the correlation id of the event that the caller handles, and is
    inherited by what is published within the events.

    Args:
        correlation_id: what the events have in common, like the id of a request; not empty.

    Raises:
        TypeError: `correlation_id` is not a str.
        ValueError: `correlation_id` is empty.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.causality import Causality, correlation, current_event
        >>> async def main():
        ...     bus = EventBus(instruments=[Causality()])
        ...     def show(order):
        ...         print(order, current_event().correlation_id)
        ...     await bus.subscribe("order.placed", "log", show)
        ...     with correlation("request-1"):
        ...         await bus.publish("order.placed", "A7")
        >>> anyio.run(main)
        A7 request-1
    """

    __slots__ = ("_id",)

    def __init__(self, correlation_id: str) -> None:
        if not isinstance(correlation_id, str):
            raise TypeError(f"a correlation id must be a str, not {reprlib.repr(correlation_id)}")
        if not correlation_id:
            raise ValueError("a correlation id must not be empty")
        self._id = correlation_id

    def __enter__(self) -> None:
        """Set the correlation id."""
        _said.set(_Said(self._id, _said.get()))

    def __exit__(self, *_: object) -> None:
        """Set the correlation id that was there before."""
        # Without a token, since several tasks may enter one object, and it may be entered within
        # itself.
        if (said := _said.get()) is not None:
            _said.set(said.before)


@final
class Causality:
    """An instrument that gives each event an id, a parent and a correlation id (I4).

    One `Causality` can watch several buses, or each bus can have its own: an event that is
    published within another one has that as its parent, even if they are on different buses. Don't
    add two to one bus, since each event would then be its own parent.

    Args:
        max_depth: how many events a chain may have, each published within the one before; an int
            of 1 or more. Events that can't be refused (I3) may exceed it.

    Raises:
        ValueError: `max_depth` is not an int of 1 or more.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> from flexiflow.extras.causality import Causality, current_event
        >>> async def main():
        ...     bus = EventBus(instruments=[Causality()])
        ...     async def place(order):
        ...         await bus.publish("mail.due", order)
        ...     await bus.subscribe("order.placed", "shop", place)
        ...     await bus.subscribe("mail.due", "mail", lambda order: print(current_event().depth))
        ...     await bus.publish("order.placed", "A7")
        >>> anyio.run(main)
        2
    """

    __slots__ = ("_ids", "_max_depth")

    def __init__(self, *, max_depth: int = 100) -> None:
        self._max_depth = check_int("max_depth", max_depth, "1 or more", least=1)
        self._ids = zip(repeat(secrets.token_hex(6)), count(1))

    def publishing(self, event: Event[object], /) -> _Cause:
        """Return a context manager within which the event is the current one.

        Raises:
            PublishLoop: the event is deeper in a chain than `max_depth`.
        """
        cause = _Cause()
        cause.name = event.name
        parent, said = _current.get(), _said.get()
        if parent is not None:
            cause.lineage = self._descend(parent, said, event.name)
        elif said is not None:
            cause.lineage = _Lineage(None, said.id, 1, ())
        else:
            cause.lineage = _ROOT
        cause.id = next(self._ids)
        return cause

    def carry(self) -> dict[str, str]:
        """Return what a stored event takes along, by the names of CloudEvents extensions (Y2).

        These are the ids of the current event, as the cause of what a worker publishes, and its
        correlation id.
        """
        cause, said = _current.get(), _said.get()
        carried = {} if cause is None else {"causationid": _show(cause.id)}
        if said is not None:
            carried["correlationid"] = said.id
        elif cause is not None:
            carried["correlationid"] = _show(cause.correlation())
        return carried

    def resume(self, attributes: Mapping[str, str], /) -> AbstractContextManager[None]:
        """Return a context manager within which a stored event is caused by what stored it (Y2).

        Args:
            attributes: the attributes of the stored event.
        """
        causation, common = map(attributes.get, ("causationid", "correlationid"))
        if causation is None:
            return nullcontext() if common is None else correlation(common)
        cause = _Cause()
        cause.name, cause.id = attributes["type"], causation
        cause.lineage = _Lineage(None, common, 1, ())
        return cause

    def _descend(self, parent: _Cause, said: _Said | None, name: str) -> _Lineage:
        _, _, depth, names = parent.lineage
        chain = (*names, parent.name)
        if depth >= self._max_depth and name not in HAPPENED:
            raise PublishLoop((*chain, name), self._max_depth)
        return _Lineage(
            parent.id,
            parent.correlation() if said is None else said.id,
            depth + 1,
            # Bounded, since a chain of events that can't be refused may never end.
            chain[-self._max_depth :],
        )


@final
class CausalityFilter(logging.Filter):
    """A logging filter that adds the ids to every record, and lets every record through (I4).

    Each record gets `event_id`, `parent_id` and `correlation_id`: those of the current event, or
    empty strings if there is none. Add the filter to a handler, so that records of all loggers get
    the ids; a filter of a logger sees only the records of that very logger.

    Example:
        >>> import logging
        >>> from flexiflow.extras.causality import CausalityFilter
        >>> handler = logging.StreamHandler()
        >>> handler.addFilter(CausalityFilter())
        >>> handler.setFormatter(logging.Formatter("%(correlation_id)s %(message)s"))
        >>> record = logging.LogRecord("shop", logging.INFO, "shop.py", 1, "no event", (), None)
        >>> print(repr(handler.filter(record) and handler.format(record)))
        ' no event'
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the ids to a record, and return True."""
        event = current_event()
        said = _said.get()
        record.event_id = "" if event is None else event.id
        record.parent_id = "" if event is None else event.parent_id or ""
        outside = "" if event is None else event.correlation_id
        record.correlation_id = outside if said is None else said.id
        return True


def _show(identifier: _Id | str) -> str:
    if isinstance(identifier, str):
        return identifier
    prefix, number = identifier
    return f"{prefix}-{number}"
