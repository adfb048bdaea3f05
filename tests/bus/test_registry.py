"""The registry of subscriptions, without a loop: B3, B4, B6, B9, B10."""

import gc
import re
import weakref
from functools import partial
from itertools import product
from typing import Any

import pytest

from flexiflow import Subscription, _registry
from flexiflow._arguments import make_terms
from flexiflow._registry import (
    DIRECT,
    FILTERED,
    GENERAL,
    UNHEARD,
    Registry,
)
from flexiflow._subscription import Terms
from flexiflow.events import HANDLER_FAILED
from tests.helpers import never, tracing

EXACT_AND_PATTERNS = ["order.placed", "order.*", "*.placed", "order.**", "**"]


class Insensitive(str):
    """Equal in any case, and hashed accordingly."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


def add(
    registry: Registry,
    event: str = "order.placed",
    component: str = "billing",
    handler: Any = never,
    **options: Any,
) -> Subscription:
    """Add a subscription, for the most part an ordinary one."""
    options = {"priority": 3, "filter": None, "once": False} | options
    return registry.create(event, component, handler, **options)


def found(registry: Registry, event: str = "order.placed") -> list[Subscription]:
    """List the subscriptions to an event, in order of delivery."""
    return [*registry.resolve(event).subscriptions]


def matches(pattern: str, name: str) -> bool:
    """Say what matches, in the words of the contract."""
    escaped = re.escape(pattern).replace(r"\*\*", ".+").replace(r"\*", "[^.]+")
    return re.fullmatch(escaped, name) is not None


def words(*letters: str) -> list[str]:
    """Form all names of one to three such segments."""
    return [".".join(word) for size in (1, 2, 3) for word in product(letters, repeat=size)]


def crowd(number: int, event: str) -> tuple[Registry, list[Subscription]]:
    """Make a registry with so many subscriptions of all kinds, and routes for some names.

    The subscriptions are returned by component.
    """
    registry = Registry(sequential=True)
    owners = ["billing", *(f"c{place}" for place in range(number))]
    for place in range(number):
        add(registry, event.format(place), owners[place % 2 * place])
    for place in range(9):
        registry.resolve(f"order.seen{place}")
    registry.resolve("order.placed")
    return registry, [each for bucket in registry._owned.values() for each in bucket]


def test_equal_priorities_are_in_order_of_subscription() -> None:
    """B4: who subscribed first is called first."""
    registry = Registry(sequential=True)
    added = [add(registry) for _ in range(20)]
    assert found(registry) == added


def test_priority_one_comes_first_and_five_last() -> None:
    """B4: the priority number ascends, in any order of subscribing."""
    registry = Registry(sequential=True)
    added = [add(registry, priority=priority) for priority in (3, 5, 1, 4, 2, 1)]
    assert [added.index(each) for each in found(registry)] == [2, 5, 4, 0, 3, 1]


def test_exact_names_and_patterns_are_merged() -> None:
    """B4: a pattern's place among exact names is by priority and order of subscription alone."""
    for names in (EXACT_AND_PATTERNS, EXACT_AND_PATTERNS[::-1]):
        registry = Registry(sequential=True)
        last, *rest = [add(registry, name, priority=4 - (name != names[0])) for name in names]
        assert found(registry) == [*rest, last]


def test_a_place_given_up_is_not_given_back() -> None:
    """B4: who unsubscribes and subscribes again comes last among equals."""
    registry = Registry(sequential=True)
    first, second = add(registry), add(registry)
    registry.remove(first)
    again = add(registry, "**")
    assert found(registry) == [second, again]


@pytest.mark.parametrize(
    ("pattern", "name", "heard"),
    [
        ("order.*", "order.placed", True),
        ("order.*", "order.item.added", False),
        ("order.*", "order", False),
        ("order.*", "orders.placed", False),
        ("order.**", "order.placed", True),
        ("order.**", "order.item.added", True),
        ("order.**", "order", False),
        ("*", "order", True),
        ("*", "order.placed", False),
        ("**", "order", True),
        ("**", "engine.component.registered", True),
        ("*.placed", "order.placed", True),
        ("*.placed", "placed", False),
        ("*.**", "order", False),
        ("*.**", "order.item.added", True),
    ],
)
def test_a_wildcard_stands_for_segments(pattern: str, name: str, *, heard: bool) -> None:
    """B10: `*` is exactly one segment, and `**` one or more."""
    registry = Registry(sequential=True)
    subscription = add(registry, pattern)
    assert found(registry, name) == [subscription] * heard


def test_patterns_match_as_the_contract_says_whatever_else_is_there() -> None:
    """B10: among all short patterns each name finds exactly those that match, each of them once."""
    registry = Registry(sequential=True)
    heads = words("a", "b", "*")
    patterns = [*heads, "**", *(f"{head}.**" for head in heads)]
    added = [add(registry, pattern) for pattern in patterns]
    for name in words("a", "b"):
        assert found(registry, name) == [each for each in added if matches(each.event_name, name)]
    for each in added[::2]:
        registry.remove(each)
    for name in words("a", "b"):
        expected = [each for each in added[1::2] if matches(each.event_name, name)]
        assert found(registry, name) == expected


@pytest.mark.parametrize("event", EXACT_AND_PATTERNS)
def test_who_comes_and_goes_is_noticed_though_the_name_was_seen(event: str) -> None:
    """B10: what is remembered of a name is never out of date."""
    registry = Registry(sequential=True)
    seen = [found(registry)]
    subscription = add(registry, event)
    seen.append(found(registry))
    registry.remove(subscription)
    seen.append(found(registry))
    assert seen == [[], [subscription], []]


def test_a_subclass_of_str_counts_for_its_value() -> None:
    """B3: how a subclass of str compares and hashes does not change who hears an event."""
    registry = Registry(sequential=True)
    found(registry, "Order")
    subscription = add(registry, Insensitive("Order"))
    assert [found(registry, name) for name in ("Order", "order")] == [[subscription], []]
    assert registry.remove(subscription)
    assert found(registry, "Order") == []


def test_the_first_removal_counts_and_no_other() -> None:
    """B6: True once, then False."""
    registry = Registry(sequential=True)
    subscription = add(registry)
    assert [registry.remove(subscription) for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize("event", EXACT_AND_PATTERNS)
def test_a_twin_in_another_registry_is_not_removed(event: str) -> None:
    """B6: a subscription of another bus gives False, and nothing changes on either."""
    registry, other = Registry(sequential=True), Registry(sequential=True)
    own, foreign = add(registry, event), add(other, event)
    assert registry.remove(foreign) is False
    assert (foreign.active, found(other), found(registry)) == (True, [foreign], [own])


def test_a_removed_subscription_is_no_longer_active() -> None:
    """B6: the subscription itself tells."""
    registry = Registry(sequential=True)
    subscriptions = [add(registry, event) for event in EXACT_AND_PATTERNS]
    for each in subscriptions:
        registry.remove(each)
    assert not any(each.active for each in subscriptions)


def test_the_same_handler_twice_is_removed_once() -> None:
    """B6: only the subscription given goes, not its equal."""
    registry = Registry(sequential=True)
    first, second = add(registry), add(registry)
    registry.remove(second)
    assert found(registry) == [first]


def test_removing_all_of_a_component_leaves_the_others() -> None:
    """B6: the number removed is returned, names and patterns counted."""
    registry = Registry(sequential=True)
    other = add(registry, "**", "shipping")
    for event in EXACT_AND_PATTERNS:
        add(registry, event)
    counts = [registry.remove_all(name) for name in ("billing", "billing", "nobody")]
    assert (counts, found(registry), [*registry]) == ([5, 0, 0], [other], [other])


def test_all_subscriptions_are_listed_in_order() -> None:
    """B12: The registry lists what it holds, in order of subscription."""
    registry = Registry(sequential=True)
    first, second = add(registry, component="a"), add(registry, "**", "b")
    third = add(registry, "x.*", "a")
    fourth = registry.create_answerer("q", "b", print, Terms(answers=True))
    assert [*registry] == [first, second, third, fourth]


def test_nothing_is_kept_of_what_was_removed() -> None:
    """B6: names, owners and the patterns' segments go with the last subscription."""
    registry = Registry(sequential=True)
    for order in (1, -1):
        added = [add(registry, event, event) for event in [*EXACT_AND_PATTERNS, "a.*.b.**", "a.*"]]
        found(registry)
        for each in added[::order]:
            registry.remove(each)
        patterns = registry._patterns
        assert not any([registry._exact, registry._owned, patterns.children, patterns.bucket])


def test_a_pattern_goes_without_those_that_share_its_segments() -> None:
    """B6: what is cleared away is never what another one needs."""
    registry = Registry(sequential=True)
    patterns = ("a.*", "a.*.*.d", "a.*.**", "a.*.*")
    shorter, longer, beside, removed = (add(registry, pattern) for pattern in patterns)
    registry.remove(removed)
    assert [found(registry, name) for name in ("a.b", "a.b.c", "a.b.c.d")] == [
        [shorter],
        [beside],
        [longer, beside],
    ]


@pytest.mark.parametrize("event", EXACT_AND_PATTERNS)
def test_a_removed_handler_is_free_to_go(event: str) -> None:
    """B6: no reference stays in memory, though the event's name was seen before."""

    def handler(data: object) -> None: ...

    registry = Registry(sequential=True)
    subscription = add(registry, event, handler=handler)
    references = weakref.ref(handler), weakref.ref(found(registry)[0].handler)
    registry.remove(subscription)
    del handler, subscription
    gc.collect()
    assert [reference() for reference in references] == [None, None]


@pytest.mark.unmeasured
@pytest.mark.same_everywhere
@pytest.mark.parametrize(
    "event", [*EXACT_AND_PATTERNS, "order.n{}", "order.n{}.*", "n{}.placed.**"]
)
def test_adding_and_removing_cost_the_same_among_many(event: str) -> None:
    """B6: one among 10,000 costs what one among 10 costs, patterns included."""
    costs: list[list[int]] = []
    for number in (10, 10_000):
        registry, others = crowd(number, event)
        lines: list[int] = []
        with tracing() as trace:
            added = add(registry, event.format(number // 2))
            lines.append(trace.lines)
            for each in (others[0], others[number // 2], others[-1], added):
                assert registry.remove(each)
                lines.append(trace.lines)
        costs.append(lines)
    assert costs[0] == costs[1]


def test_removing_a_component_costs_the_same_among_many() -> None:
    """B6: what others are subscribed to costs nothing."""
    costs: list[int] = []
    for number in (10, 5_000):
        registry = Registry(sequential=True)
        for place in range(number):
            add(registry, ("order.placed", "order.*")[place % 2], f"c{place}")
        with tracing() as trace:
            assert registry.remove_all("c5") == 1
        costs.append(trace.lines)
    assert costs[0] == costs[1]


def test_a_name_seen_before_costs_the_same_with_many_subscriptions() -> None:
    """B10: a name that was seen is looked up, and nothing is matched or sorted."""
    costs: list[int] = []
    for number in (0, 1_000):
        registry = Registry(sequential=True)
        for place in range(number):
            add(registry, ("order.placed", "order.*", f"order.*.n{place}")[place % 3])
        registry.resolve("order.placed")
        with tracing() as trace:
            registry.resolve("order.placed")
        costs.append(trace.lines)
    assert costs[0] == costs[1]


def test_a_new_name_costs_the_same_whatever_patterns_begin_otherwise() -> None:
    """B10: the first time, only patterns that share the name's beginning may count."""
    costs: list[int] = []
    for number in (1, 1_000):
        registry = Registry(sequential=True)
        for place in range(number):
            add(registry, f"n{place}.*")
            add(registry, f"order.n{place}.**")
        with tracing() as trace:
            registry.resolve("order.placed")
        costs.append(trace.lines)
    assert costs[0] == costs[1]


def test_a_route_is_kept_until_its_own_name_changes() -> None:
    """B10: who subscribes to one name doesn't make the others new again."""
    registry = Registry(sequential=True)
    kept = registry.resolve("order.placed")
    registry.remove(add(registry, "order.paid"))
    assert registry.resolve("order.placed") is kept


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how much registries remember: little, since to reach the real bound takes seconds."""
    monkeypatch.setattr(_registry, "MAX_REMEMBERED", 1_000)
    return _registry.MAX_REMEMBERED


@pytest.mark.parametrize("wide", [0, 1, 50])
def test_what_is_kept_for_names_is_bounded(wide: int, bound: int) -> None:
    """B10: however many names are seen, names and places in routes stay within the bound."""
    registry = Registry(sequential=True)
    for _ in range(wide):
        add(registry, "**")
    most = 0
    for place in range(3 * bound // (1 + wide)):
        registry.resolve(f"order.n{place}")
        most = max(most, len(registry.routes) * (1 + wide))
    assert bound - wide <= most <= bound


def test_a_forgotten_route_makes_room(bound: int) -> None:
    """B10: what came and went does not count against what is remembered."""
    registry = Registry(sequential=True)
    kept = registry.resolve("order.placed")
    for _ in range(bound):
        subscription = add(registry, "order.paid")
        registry.resolve("order.paid")
        registry.remove(subscription)
    assert registry.resolve("order.placed") is kept


def test_what_is_remembered_is_counted_exactly() -> None:
    """B10: the bound holds however routes come and go."""
    registry, subscriptions = crowd(7, "order.n{}")
    for subscription in subscriptions:
        registry.resolve(subscription.event_name)
        registry.remove(subscription)
        registry.resolve("order.placed")
        routes = registry.routes.values()
        assert registry._remembered == sum(1 + len(route.subscriptions) for route in routes)


def test_names_keep_their_subscriptions_when_too_many_were_seen(bound: int) -> None:
    """B10: forgetting a route loses nothing."""
    registry = Registry(sequential=True)
    subscriptions = [add(registry, "order.n0"), add(registry, "order.*")]
    before = found(registry, "order.n0")
    for place in range(bound + 1):
        registry.resolve(f"order.n{place}")
    assert found(registry, "order.n0") == before == subscriptions


@pytest.mark.parametrize("name", [[], {}, set[str](), None, 1, b"order", ["order.placed"]])
def test_what_is_no_name_is_refused_hashable_or_not(name: Any) -> None:
    """B3: a name that is no str is a TypeError that says so, and nothing is remembered."""
    registry = Registry(sequential=True)
    for _ in range(2):
        with pytest.raises(TypeError, match="an event name must be a str, not "):
            registry.resolve(name)
    assert not registry.routes


@pytest.mark.parametrize("name", ["", "a..b", "a.*", "**"])
def test_a_bad_name_is_refused_each_time(name: str) -> None:
    """B3: a bad name is never remembered as one that is good."""
    registry = Registry(sequential=True)
    add(registry, "**")
    for _ in range(2):
        with pytest.raises(ValueError, match=re.escape(repr(name))):
            registry.resolve(name)
    assert not registry.routes


async def placed(data: object) -> None:
    """Be a coroutine function."""


class Shop:
    """Has a method that is one."""

    async def placed(self, data: object) -> None:
        """Be a coroutine function, bound."""


@pytest.mark.parametrize(
    ("event", "handler", "options", "told"),
    [
        ("order.placed", placed, {}, (DIRECT, True)),
        ("order.placed", Shop().placed, {}, (DIRECT, True)),
        ("order.placed", placed, {"filter": never}, (FILTERED, True)),
        ("order.placed", never, {}, (FILTERED, False)),
        ("order.placed", partial(placed), {}, (FILTERED, False)),
        ("order.placed", placed, {"once": True}, (GENERAL, True)),
        (HANDLER_FAILED, placed, {}, (GENERAL, True)),
    ],
)
def test_a_route_has_a_plan_for_all_its_handlers(
    event: str, handler: Any, options: dict[str, Any], told: tuple[str, bool]
) -> None:
    """B7, B8, B9, E7: one that is otherwise is enough to call all of them in another way."""
    registry = Registry(sequential=True)
    add(registry, event, handler=placed)
    add(registry, "**", handler=handler, **options)
    add(registry, event, handler=placed)
    route = registry.resolve(event)
    assert (route.plan, route.are_async) == told


def test_the_plan_is_general_where_the_bus_delivers_otherwise() -> None:
    """D5: the bus's own delivery is what a publish goes by that names none."""
    registry = Registry(sequential=False)
    add(registry, handler=placed)
    assert registry.resolve("order.placed").plan is GENERAL


@pytest.mark.parametrize("event", ["order.placed", "**", HANDLER_FAILED])
@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("sequential", [False, True])
def test_handlers_are_called_through_a_call_only_if_one_has_limits(
    event: str, *, limited: bool, sequential: bool
) -> None:
    """V1, V2: where none has, publishing takes the way that it took before there were limits."""
    name = "order.placed" if event == "**" else event
    registry = Registry(sequential=sequential)
    terms = make_terms(time_limit=None, limit=1 if limited else None)
    add(registry, event, handler=placed)
    subscription = add(registry, event, handler=placed, terms=terms)
    plan = DIRECT if sequential and name != HANDLER_FAILED else GENERAL
    for _ in range(2):
        route = registry.resolve(name)
        assert (route.is_called, route.plan) == (limited, GENERAL if limited else plan)
    registry.remove(subscription)
    route = registry.resolve(name)
    assert (route.is_called, route.plan) == (False, plan)


@pytest.mark.parametrize(("time_limit", "limit"), [(None, None), (2.5, None), (None, 1), (2.5, 1)])
def test_only_a_limited_subscription_has_terms(time_limit: float | None, limit: int | None) -> None:
    """V1, V2: a subscription without limits keeps nothing for them in memory."""
    terms = make_terms(time_limit=time_limit, limit=limit)
    subscription = add(Registry(sequential=True), terms=terms)
    assert (subscription._terms is None) == (time_limit is limit is None)
    assert (subscription.time_limit, subscription.limit) == (time_limit, limit)


def test_a_name_that_nobody_hears_is_unheard() -> None:
    """V1, V2: what others are subscribed to with limits makes no difference."""
    registry = Registry(sequential=True)
    add(registry, terms=make_terms(time_limit=1, limit=1))
    route = registry.resolve("order.paid")
    assert (route.plan, route.is_called) == (UNHEARD, False)
