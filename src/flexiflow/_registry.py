"""The registry of a bus: which subscriptions an event name reaches, and in which order.

Exact names are kept in a dict, patterns in a tree with one level for each segment. What both give
for a name is merged into a `Route`, which is remembered until a change could affect it. Plain data:
no I/O, no event loop.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, final

from flexiflow._callables import is_coroutine_function
from flexiflow._errors import DuplicateAnswer
from flexiflow._names import (
    ONE,
    REST,
    check_event_name,
    check_is_event,
    is_pattern,
    is_query,
    room,
)
from flexiflow._subscription import Subscription, deactivate
from flexiflow.events import BUILT_IN, HANDLER_FAILED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Literal, TypeAlias

    from flexiflow._instruments import Installed
    from flexiflow._subscription import Around, Filter, Handler, Terms

    # A dict, since it keeps the order of subscription and removes an entry at a constant cost.
    _Bucket: TypeAlias = dict[Subscription, None]

    Plan: TypeAlias = Literal["unheard", "direct", "filtered", "watched", "surrounded", "general"]
    """How a publish calls the handlers of a route, unless it asks for another delivery."""

MAX_REMEMBERED: Final = 65_536
"""The room for remembered routes (B10): each takes `room(name)` and 1 for each subscription."""

_by_subscription = attrgetter("_order")
_by_delivery = attrgetter("priority", "_order")


UNHEARD: Final = "unheard"
"""There are neither subscriptions nor instruments."""

DIRECT: Final = "direct"
"""All handlers are coroutine functions. None has a filter, `once` or terms, nothing watches, and
the bus delivers sequentially."""

FILTERED: Final = "filtered"
"""As `DIRECT`, but some handlers have a filter, or are no coroutine functions."""

WATCHED: Final = "watched"
"""As `DIRECT`, but one instrument watches publishes, and none watches handlers."""

SURROUNDED: Final = "surrounded"
"""The bus delivers sequentially, nothing watches, and some handlers are coroutine functions that
have one function around them, and neither a filter, `once` nor other terms."""

GENERAL: Final = "general"
"""Any other; also `event.handler.failed`, which is published specially (E7)."""


@final
class Route:
    """The subscriptions that one event name reaches, and how their handlers are called.

    What holds for all of them is worked out here once, so that a publish need not ask each one.

    Attributes:
        name: the event's name; a plain str, even if a `Topic` was published (T1).
        subscriptions: those to the name and to matching patterns, in order of delivery (B4).
        publishing: the instruments that watch publishes, the first added first.
        handling: the instruments that watch handlers, the first added first.
        around: the bus's own functions around handlers; None for a built-in event, which no
            function in any `around` sees (A3).
        are_async: whether all handlers are known to be coroutine functions.
        surrounded: by the surrounded plan, each subscription with the only function around its
            plain handler; with None if its handler is to be called through a `HandlerCall`.
        is_called: whether handlers are called through a `HandlerCall`: one of them has terms, or
            instruments watch handlers, or the bus has functions around them.
        plan: how they are called.
    """

    # No dataclass: making one takes 2 % of the time of `import flexiflow`.

    __slots__ = (
        "are_async",
        "around",
        "handling",
        "is_called",
        "name",
        "plan",
        "publishing",
        "subscriptions",
        "surrounded",
    )

    name: str
    subscriptions: tuple[Subscription, ...]
    publishing: tuple[Installed, ...]
    handling: tuple[Installed, ...]
    around: tuple[Around, ...] | None
    surrounded: tuple[tuple[Subscription, Around | None], ...]
    are_async: bool
    is_called: bool
    plan: Plan

    def __init__(
        self,
        name: str,
        subscriptions: tuple[Subscription, ...],
        publishing: tuple[Installed, ...],
        handling: tuple[Installed, ...],
        around: tuple[Around, ...] | None,
        surrounded: tuple[tuple[Subscription, Around | None], ...],
        *,
        are_async: bool,
        is_called: bool,
        plan: Plan,
    ) -> None:
        self.name = name
        self.subscriptions = subscriptions
        self.publishing = publishing
        self.handling = handling
        self.around = around
        self.surrounded = surrounded
        self.are_async = are_async
        self.is_called = is_called
        self.plan = plan


class _PatternNode:
    """A node in the tree of patterns, one level for each segment; `*` and `**` are segments too."""

    __slots__ = ("bucket", "children")

    def __init__(self) -> None:
        self.bucket: _Bucket = {}
        self.children: dict[str, _PatternNode] = {}


@final
class Registry:
    """The subscriptions and instruments of one bus.

    The cost of adding or removing a subscription does not grow with the others (B6), nor does the
    cost of resolving a name that was seen before (B10).

    Args:
        sequential: whether the bus delivers sequentially by default.
        around: the bus's own functions around handlers (A3).

    Attributes:
        answerers: the answerers by query.
        direct_answerers: by query, those that are coroutine functions and have neither limit nor
            time limit; empty while there are instruments; always the same dict object.
        routes: the remembered routes by event name; always the same dict object.
        instruments: what watches the bus, the first added first.
    """

    __slots__ = (
        "_around",
        "_exact",
        "_order",
        "_owned",
        "_patterns",
        "_remembered",
        "_sequential",
        "_unsubscribe",
        "answerers",
        "direct_answerers",
        "instruments",
        "routes",
    )

    def __init__(self, *, sequential: bool, around: tuple[Around, ...] = ()) -> None:
        self._sequential = sequential
        self._around = around
        self._exact: dict[str, _Bucket] = {}
        self._patterns = _PatternNode()
        self._owned: dict[str, _Bucket] = {}
        self.routes: dict[str, Route] = {}
        self.answerers: dict[str, Subscription] = {}
        self.direct_answerers: dict[str, Handler] = {}
        self._remembered = 0
        self.instruments: tuple[Installed, ...] = ()
        self._order = count()
        # One bound method shared by all subscriptions: one for each would take 64 bytes.
        self._unsubscribe = self.remove

    def __iter__(self) -> Iterator[Subscription]:
        """Iterate over all subscriptions and answerers, in order of subscription."""
        found = [each for bucket in self._owned.values() for each in bucket]
        return iter(sorted(found, key=_by_subscription))

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
        """Make a subscription from arguments that have been checked, add it, and return it.

        Priority 0 is reserved for FlexiFlow: it comes before every priority that users may choose,
        and is a tier of its own (B4, D3).
        """
        subscription = self._make(
            event_name, component_name, handler, priority, filter, terms, once=once
        )
        event_name = subscription.event_name
        if is_pattern(event_name):
            self._add_pattern(subscription)
        else:
            self._exact.setdefault(event_name, {})[subscription] = None
            self._forget(event_name)
        return subscription

    def create_answerer(
        self, query: Any, component_name: str, handler: Handler, terms: Terms
    ) -> Subscription:
        """Make an answerer from arguments that have been checked, add it, and return it.

        Raises:
            DuplicateAnswer: the query has one already (A1).
        """
        self.check_unanswered(query)
        answerer = self._make(query, component_name, handler, 3, None, terms, once=False)
        # Looking up a query takes two thirds of the time if the key is that very object.
        self._note_answerer(query if is_query(query) else answerer.event_name, answerer)
        return answerer

    def _note_answerer(self, query: Any, answerer: Subscription) -> None:
        self.answerers[query] = answerer
        handler = answerer.handler
        is_limited = answerer.limit is not None or answerer.time_limit is not None
        if not (is_limited or self.instruments) and is_coroutine_function(handler):
            self.direct_answerers[query] = handler

    def check_unanswered(self, query: Any) -> str:
        """Return a query's name, as a plain str.

        Raises:
            DuplicateAnswer: it has an answerer (A1).
        """
        name = str.__str__(query)
        if name in self.answerers:
            raise DuplicateAnswer(name, self.answerers[name].component_name)
        return name

    def _make(
        self,
        event_name: str,
        component_name: str,
        handler: Handler,
        priority: int,
        filter: Filter | None,
        terms: Terms | None,
        *,
        once: bool,
    ) -> Subscription:
        subscription = Subscription(
            # A plain str: a subclass may compare and hash as it likes, and would miss the routes.
            str.__str__(event_name),
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
        return subscription

    def remove(self, subscription: Subscription) -> bool:
        """Remove a subscription; return False if it is not, or no longer, in this registry."""
        owned = self._owned.get(subscription.component_name, {})
        if subscription not in owned:
            return False
        deactivate(subscription)
        _discard(self._owned, subscription.component_name, subscription)
        if self.answerers.get(subscription.event_name) is subscription:
            del self.answerers[subscription.event_name]
            self.direct_answerers.pop(subscription.event_name, None)
        elif is_pattern(subscription.event_name):
            self._remove_pattern(subscription)
        else:
            _discard(self._exact, subscription.event_name, subscription)
            self._forget(subscription.event_name)
        return True

    def remove_all(self, component_name: str) -> int:
        """Remove all subscriptions of a component, and return their number."""
        owned = tuple(self._owned.get(component_name, ()))
        for subscription in owned:
            self.remove(subscription)
        return len(owned)

    @property
    def owners(self) -> Collection[str]:
        """The components that have a subscription or answer a query; a view."""
        return self._owned.keys()

    def has_any(self, component_name: str) -> bool:
        """Return whether a component has a subscription or answers a query."""
        return component_name in self._owned

    def watch(self, instruments: tuple[Installed, ...]) -> None:
        """Replace the instruments, the first added first, from the next publish on (I1)."""
        self.instruments = instruments
        self._forget_all()
        self.direct_answerers.clear()
        for query, answerer in self.answerers.items():
            self._note_answerer(query, answerer)

    def resolve(self, event_name: str) -> Route:
        """Return the route of an event name; a new name is checked first (B3)."""
        try:
            return self.routes[event_name]
        except (KeyError, TypeError):
            check_is_event(event_name, "ask it with bus.ask")
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
        around = None if event_name in BUILT_IN else self._around
        has_terms = any(each._terms is not None for each in found)
        is_called = bool(handling or around) or has_terms
        are_async = all(is_coroutine_function(each.handler) for each in found)
        is_direct = are_async and all(each.filter is None for each in found)
        surrounded: tuple[tuple[Subscription, Around | None], ...] = ()
        if not found and not self.instruments:
            plan: Plan = UNHEARD
        elif not self._sequential or handling or event_name == HANDLER_FAILED:
            plan = GENERAL
        elif is_called:
            surrounded = tuple((each, _only_around(each, around)) for each in found)
            is_surrounded = not publishing and any(function for _, function in surrounded)
            plan = SURROUNDED if is_surrounded else GENERAL
        elif any(each.once for each in found):
            plan = GENERAL
        elif not publishing:
            plan = DIRECT if is_direct else FILTERED
        else:
            plan = WATCHED if is_direct and len(publishing) == 1 else GENERAL
        return Route(
            event_name,
            found,
            publishing,
            handling,
            around,
            surrounded,
            are_async=are_async,
            is_called=is_called,
            plan=plan,
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


def _only_around(subscription: Subscription, around: tuple[Around, ...] | None) -> Around | None:
    """Return the only function around a handler, if there is nothing else to do (A3)."""
    terms = subscription._terms
    is_plain = is_coroutine_function(subscription.handler) and not (
        subscription.filter
        or subscription.once
        or (terms and (terms.limiter or terms.time_limit or terms.takes_event))
    )
    functions = () if around is None else around + subscription.around
    return functions[0] if is_plain and len(functions) == 1 else None


def _size(route: Route) -> int:
    return room(route.name) + len(route.subscriptions)


def _discard(buckets: dict[str, _Bucket], key: str, subscription: Subscription) -> None:
    bucket = buckets[key]
    del bucket[subscription]
    if not bucket:
        del buckets[key]
