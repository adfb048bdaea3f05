"""Who is subscribed to what: plain data, without I/O and without a loop."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeAlias, final

from flexiflow._callables import is_coroutine_function
from flexiflow._names import ONE, REST, check_event_name, is_pattern, room
from flexiflow._subscription import Subscription, deactivate
from flexiflow.events import HANDLER_FAILED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flexiflow._instruments import Installed
    from flexiflow._subscription import Filter, Handler, Terms

MAX_REMEMBERED: Final = 65_536
"""How much room names and places in routes, taken together, have in the registry (B10)."""

# A dict keeps the order of subscription and removes at a constant cost; a list does not.
_Bucket: TypeAlias = dict[Subscription, None]

_by_delivery = attrgetter("priority", "_order")


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Route:
    """The subscriptions to one event name, in order of delivery (B4).

    What can be told of them beforehand, a publish need not ask of each. Most often the bus delivers
    sequentially, nobody watches, and none is `once` or has terms: then handlers can be called where
    they are published to.

    Attributes:
        name: the event's name; a plain str, whatever was published (T1).
        subscriptions: all of them, exact names and patterns merged.
        publishing: the instruments that watch publishes, the first added first.
        handling: those that watch handlers, the first added first.
        is_heard: whether there are any subscriptions or instruments.
        is_called: whether handlers take more than a call: one has terms, or is watched.
        is_plain: whether they take no more, and nobody watches.
        in_place: whether that is so; not of `event.handler.failed`, whose handlers are called in
            a way of their own (E7).
        are_async: whether all handlers are known to be coroutine functions.
        direct: whether they are in place, async, and without a filter.
        watcher: the one instrument that watches where they would be direct if nobody did, or None.
    """

    name: str
    subscriptions: tuple[Subscription, ...]
    publishing: tuple[Installed, ...]
    handling: tuple[Installed, ...]
    is_heard: bool
    is_called: bool
    is_plain: bool
    in_place: bool
    are_async: bool
    direct: bool
    watcher: Installed | None


class _PatternNode:
    """A segment of the patterns' tree; `*` and `**` are segments like others."""

    __slots__ = ("bucket", "children")

    def __init__(self) -> None:
        self.bucket: _Bucket = {}
        self.children: dict[str, _PatternNode] = {}


@final
class Registry:
    """The subscriptions of one bus.

    Adding and removing cost the same however many others there are (B6), and so does resolving
    a name that was seen before (B10).

    Args:
        in_place: whether the bus delivers sequentially where a publish doesn't say.

    Attributes:
        routes: the routes that are remembered, by event name; always the same dict.
        instruments: what watches the publishes.
    """

    __slots__ = (
        "_exact",
        "_in_place",
        "_order",
        "_owned",
        "_patterns",
        "_remembered",
        "_unsubscribe",
        "instruments",
        "routes",
    )

    def __init__(self, *, in_place: bool) -> None:
        self._in_place = in_place
        self._exact: dict[str, _Bucket] = {}
        self._patterns = _PatternNode()
        self._owned: dict[str, _Bucket] = {}
        self.routes: dict[str, Route] = {}
        self._remembered = 0
        self.instruments: tuple[Installed, ...] = ()
        self._order = count()
        # One bound method for all subscriptions: each would hold 64 bytes of its own.
        self._unsubscribe = self.remove

    def __iter__(self) -> Iterator[Subscription]:
        """Go through all subscriptions, those of a component together."""
        for bucket in self._owned.values():
            yield from bucket

    def create(
        self,
        event_name: str,
        component_name: str,
        handler: Handler,
        *,
        priority: int,
        filter: Filter | None,
        once: bool,
        terms: Terms | None = None,
    ) -> Subscription:
        """Make a subscription of valid arguments, and add it."""
        # A subclass of str may compare and hash as it likes, and would miss the routes.
        event_name = str.__str__(event_name)
        subscription = Subscription(
            event_name,
            component_name,
            handler,
            priority,
            filter,
            once,
            _order=next(self._order),
            _unsubscribe=self._unsubscribe,
            _terms=terms,
        )
        self._owned.setdefault(component_name, {})[subscription] = None
        if is_pattern(event_name):
            self._add_pattern(subscription)
        else:
            self._exact.setdefault(event_name, {})[subscription] = None
            self._forget(event_name)
        return subscription

    def remove(self, subscription: Subscription) -> bool:
        """Remove it; False where it is not (or no longer) one of this registry's."""
        owned = self._owned.get(subscription.component_name, {})
        if subscription not in owned:
            return False
        deactivate(subscription)
        _discard(self._owned, subscription.component_name, subscription)
        if is_pattern(subscription.event_name):
            self._remove_pattern(subscription)
        else:
            _discard(self._exact, subscription.event_name, subscription)
            self._forget(subscription.event_name)
        return True

    def remove_all(self, component_name: str) -> int:
        """Remove all of one owner, and return their number."""
        owned = tuple(self._owned.get(component_name, ()))
        for subscription in owned:
            self.remove(subscription)
        return len(owned)

    def watch(self, instruments: tuple[Installed, ...]) -> None:
        """Let these watch the publishes from the next one on, the first added first (I1)."""
        self.instruments = instruments
        self._forget_all()

    def resolve(self, event_name: str) -> Route:
        """Return the route of an event name, checking the name where it is new (B3)."""
        try:
            return self.routes[event_name]
        except (KeyError, TypeError):
            return self._learn(check_event_name(event_name))

    def _learn(self, event_name: str) -> Route:
        found = [*self._exact.get(event_name, ()), *self._matching(event_name.split("."))]
        found.sort(key=_by_delivery)
        route = self._route(event_name, tuple(found))
        if room(event_name) <= MAX_REMEMBERED:
            size = _size(route)
            if self._remembered + size > MAX_REMEMBERED:
                self._forget_all()
            self._remembered += size
            self.routes[event_name] = route
        return route

    def _route(self, event_name: str, found: tuple[Subscription, ...]) -> Route:
        publishing = tuple(each for each in self.instruments if each.publishing is not None)
        handling = tuple(each for each in self.instruments if each.handling is not None)
        is_called = bool(handling) or any(each._terms is not None for each in found)
        may_be_in_place = (
            not is_called and event_name != HANDLER_FAILED and not any(each.once for each in found)
        )
        in_place = may_be_in_place and self._in_place and not publishing
        are_async = may_be_in_place and all(is_coroutine_function(each.handler) for each in found)
        direct = are_async and all(each.filter is None for each in found)
        return Route(
            event_name,
            found,
            publishing,
            handling,
            is_heard=bool(found or self.instruments),
            is_called=is_called,
            is_plain=not publishing and not is_called,
            in_place=in_place,
            are_async=in_place and are_async,
            direct=in_place and direct,
            watcher=publishing[0] if direct and len(publishing) == 1 else None,
        )

    def _forget(self, event_name: str) -> None:
        route = self.routes.pop(event_name, None)
        if route is not None:
            self._remembered -= _size(route)

    def _forget_all(self) -> None:
        self.routes.clear()
        self._remembered = 0

    def _matching(self, segments: list[str]) -> Iterator[Subscription]:
        nodes = [self._patterns]
        for segment in segments:
            for node in nodes:
                if REST in node.children:
                    yield from node.children[REST].bucket
            nodes = [
                node.children[key]
                for node in nodes
                for key in (segment, ONE)
                if key in node.children
            ]
        for node in nodes:
            yield from node.bucket

    def _add_pattern(self, subscription: Subscription) -> None:
        node = self._patterns
        for segment in subscription.event_name.split("."):
            node = node.children.setdefault(segment, _PatternNode())
        node.bucket[subscription] = None
        self._forget_all()

    def _remove_pattern(self, subscription: Subscription) -> None:
        path = [self._patterns]
        segments = subscription.event_name.split(".")
        for segment in segments:
            path.append(path[-1].children[segment])
        del path[-1].bucket[subscription]
        for segment in reversed(segments):
            node = path.pop()
            if node.bucket or node.children:
                break
            del path[-1].children[segment]
        self._forget_all()


def _size(route: Route) -> int:
    return room(route.name) + len(route.subscriptions)


def _discard(buckets: dict[str, _Bucket], key: str, subscription: Subscription) -> None:
    bucket = buckets[key]
    del bucket[subscription]
    if not bucket:
        del buckets[key]
