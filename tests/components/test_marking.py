"""Methods that `on` marks as handlers: B2, B3, B13, B14, C1."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from flexiflow import Component, Engine, EventBus, Outcome, Subscription, on
from flexiflow.extras.retry import RetryConfig, retry_async
from tests.accounting import Boom
from tests.hosting import GO, Diary, switch

HEARD: list[str] = []


class Recorder(Component):
    """Notes which events it heard."""

    def heard(self, name: str) -> None:
        """Note one."""
        HEARD.append(name)


async def heard_by(kind: Any) -> list[str]:
    """Return the events, of some, that a component of a class hears."""
    HEARD.clear()
    engine = Engine()
    await engine.register(kind("x"))
    for name in ("a", "b", "c", "d"):
        await engine.bus.publish(name, name)
    return HEARD[:]


async def test_marking_a_method_of_another_class_changes_no_other_class() -> None:
    """B13: Not that class, nor subclasses of it that are made later, nor one that marks it anew."""

    class A(Recorder):
        def h(self, data: str) -> None:
            self.heard(data)

    class B(A):
        h = on("b")(A.h)

    class C(A):
        pass

    class D(A):
        h = on("d")(A.h)

    class E(B):
        pass

    class F(B):
        h = on("a")(B.h)

    assert [await heard_by(kind) for kind in (A, B, C, D, E, F)] == [
        [],
        ["b"],
        [],
        ["d"],
        ["b"],
        ["a", "b"],
    ]


async def test_what_is_no_function_is_marked_for_one_class_alone() -> None:
    """B13: Also an object that is called."""

    class Note:
        def __call__(self, _: object, data: str) -> None:
            HEARD.append(data)

    shared = Note()
    marked: Any = on("b")(shared)
    assert not hasattr(shared, "_flexiflow_on")
    again: Any = on("c")(marked)
    assert [each["event"] for each in marked._flexiflow_on] == ["b"]
    assert [each["event"] for each in again._flexiflow_on] == ["b", "c"]


async def test_a_marked_method_is_as_it_was() -> None:
    """B13: A new function has the name, the defaults, the closure and all else of the first one."""
    outer = ["x"]

    def method(self: object, data: str, more: int = 1, *, kind: str = "k") -> list[Any]:
        """Tell."""
        return [*outer, data, more, kind]

    method.extra = 7  # type: ignore[attr-defined]
    marked: Any = on("a")(method)
    assert marked is not method
    assert not hasattr(method, "_flexiflow_on")
    assert marked(None, "d") == ["x", "d", 1, "k"]
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(marked, name) == getattr(method, name)
    assert marked.extra == 7
    assert not hasattr(marked, "__wrapped__")


async def test_super_works_in_a_marked_method() -> None:
    """B13: The class that a method stands in is still known to it."""

    class A(Recorder):
        @on("a")
        def h(self, data: str) -> None:
            self.heard(data)

    class B(A):
        @on("b")
        def h(self, data: str) -> None:
            super().h(data)

    assert await heard_by(B) == ["b"]


@pytest.mark.parametrize("in_a_subclass", [False, True])
async def test_a_mark_that_comes_after_its_class_is_refused(*, in_a_subclass: bool) -> None:
    """B13: At `register`, where nothing is registered then; for its subclasses, too."""

    class A(Recorder):
        @on("b")
        def g(self, data: str) -> None:
            self.heard(data)

    A.h = on("a")(lambda self, data: None)  # type: ignore[attr-defined]
    kind = type("B", (A,), {}) if in_a_subclass else A
    engine = Engine()
    with pytest.raises(TypeError, match=r"A\.h was marked with @on and set after its class was"):
        await engine.register(kind("x"))
    assert not engine.components
    del A.h  # type: ignore[attr-defined]
    if not in_a_subclass:
        assert await heard_by(A) == ["b"]


async def test_one_set_after_a_component_was_registered_is_refused() -> None:
    """B13: Each `register` is refused until it is gone, or one without a mark is set."""

    class Base(Component):
        def h(self, data: object) -> None: ...

    class Derived(Base):
        pass

    a: Any = Base
    b: Any = Derived
    engine, marked = Engine(), on("a")(Base.h)
    await engine.register(b("1"))
    a.h = marked
    for _ in range(2):
        with pytest.raises(TypeError, match=r"Base\.h was marked with @on and set after"):
            await engine.register(b("2"))
    del a.h
    await engine.register(b("2"))
    b.h = marked
    with pytest.raises(TypeError, match=r"Derived\.h was marked with @on and set after"):
        await engine.register(b("3"))
    b.h = Component.restore
    await engine.register(b("3"))
    assert [*engine.components] == ["1", "2", "3"]
    assert engine.bus.subscriptions() == ()


async def test_a_class_that_does_not_tell_component_of_its_subclasses() -> None:
    """B13: What a class marks that `Component` was not told of is refused; what has no mark is not.

    As where an `__init_subclass__` before that of `Component` does not call `super()`.
    """

    class Silent:
        def __init_subclass__(cls, **kwargs: object) -> None: ...

    class Plain(Silent, Component):
        pass

    class Marked(Silent, Component):
        @on("a")
        def h(self, data: object) -> None: ...

    engine = Engine()
    await engine.register(Plain("1"))
    with pytest.raises(TypeError, match=r"Marked\.h was marked with @on"):
        await engine.register(Marked("2"))
    assert [*engine.components] == ["1"]


async def test_a_mark_of_a_mixin_counts() -> None:
    """B13: A class that is no component may mark methods for those that are."""

    class Mixin:
        @on("a")
        def h(self, data: str) -> None:
            HEARD.append(data)

    class A(Mixin, Component):
        pass

    assert await heard_by(A) == ["a"]


async def test_a_mark_inside_a_static_or_a_class_method_counts() -> None:
    """B13: What these decorators make is no function, but holds one."""

    class A(Component):
        @staticmethod
        @on("a")
        def h(data: str, *more: object) -> None:
            HEARD.append(data)

        @classmethod
        @on("b")
        def g(cls, data: str) -> None:
            HEARD.append(data)

    assert await heard_by(A) == ["a", "b"]


async def test_a_class_that_is_made_twice_keeps_its_marks() -> None:
    """B13: As where a decorator makes a class with slots of it."""

    @dataclass(slots=True, eq=False)
    class A(Component):
        count: int = 0

        def __post_init__(self) -> None:
            Component.__init__(self, "x")

        @on("a")
        def h(self, data: str) -> None:
            HEARD.append(data)

    def make(_: str) -> A:
        return A()

    assert await heard_by(make) == ["a"]


def test_on_without_a_name_shows_the_right_call() -> None:
    """B14: The commonest mistake."""

    def charge(self: object, data: object) -> None: ...

    wrong: Any = charge
    with pytest.raises(TypeError, match=r"write @on\('order.placed'\) above charge, not @on alone"):
        on(wrong)


async def test_register_given_a_class_shows_the_right_call() -> None:
    """B14: A component is made before it is registered."""
    wrong: Any = Recorder
    with pytest.raises(TypeError, match=r"make one first, as in register\(Recorder\('a-name'\)\)"):
        await Engine().register(wrong)
    with pytest.raises(TypeError, match=r"^register takes a Component, not 7$"):
        await Engine().register(7)  # type: ignore[arg-type]


def owned(bus: EventBus, name: str = "a") -> list[Subscription]:
    """Give the subscriptions of a component."""
    return [each for each in bus.subscriptions() if each.component_name == name]


class TestOn:
    """Methods marked as handlers."""

    async def test_marked_method_is_subscribed_under_the_components_name(self) -> None:
        """C1: Registering subscribes the marked methods, with what the mark says."""

        class Billing(Component):
            @on("order.placed", priority=2)
            async def charge(self, order: Any) -> None:
                """Charge."""

        engine = Engine()
        assert owned(engine.bus) == []
        billing = Billing("a")
        await engine.register(billing)
        (subscription,) = owned(engine.bus)
        assert (subscription.event_name, subscription.priority) == ("order.placed", 2)
        assert subscription.handler == billing.charge

    async def test_defaults_are_those_of_subscribe(self) -> None:
        """C1: Without options a mark means priority 3, no filter, more than once."""

        class Billing(Component):
            @on("order.placed")
            def charge(self, order: Any) -> None:
                """Charge."""

        engine = Engine()
        await engine.register(Billing("a"))
        (subscription,) = owned(engine.bus)
        assert (subscription.priority, subscription.filter, subscription.once) == (3, None, False)

    async def test_takes_filter_and_once(self) -> None:
        """C1, B8, B9: The options of `on` are those of a subscription."""
        seen: list[int] = []

        class Billing(Component):
            @on("order.*", once=True, filter=lambda event, data: data > 1)
            def charge(self, order: int) -> None:
                """Charge."""
                seen.append(order)

        engine = Engine()
        await engine.register(Billing("a"))
        for order in range(4):
            await engine.bus.publish("order.placed", order)
        assert seen == [2]

    async def test_method_may_be_marked_several_times(self) -> None:
        """C1: Each mark is a subscription."""
        seen: list[str] = []

        class Billing(Component):
            @on("order.paid", priority=1)
            @on("order.placed")
            def note(self, order: str) -> None:
                """Write it down."""
                seen.append(order)

        engine = Engine()
        await engine.register(Billing("a"))
        await engine.bus.publish("order.placed", "placed")
        await engine.bus.publish("order.paid", "paid")
        assert seen == ["placed", "paid"]
        assert len(owned(engine.bus)) == 2

    async def test_order_is_that_of_definition_base_class_first(self) -> None:
        """C1, B4: Of equal priority, methods are called in the order in which they are defined."""
        seen: list[str] = []

        class Base(Component):
            @on("order.placed")
            def zeta(self, order: Any) -> None:
                """Come first."""
                seen.append("zeta")

            @on("order.placed")
            def alpha(self, order: Any) -> None:
                """Come second, overridden."""

        class Derived(Base):
            @on("order.placed")
            def beta(self, order: Any) -> None:
                """Come third."""
                seen.append("beta")

            @on("order.placed")
            def alpha(self, order: Any) -> None:
                """Keep the place of the overridden one."""
                seen.append("alpha")

        engine = Engine()
        await engine.register(Derived("a"))
        await engine.bus.publish("order.placed")
        assert seen == ["zeta", "alpha", "beta"]

    async def test_method_overridden_without_a_mark_is_not_subscribed(self) -> None:
        """C1: An overridden method counts as the subclass marks it."""

        class Base(Component):
            @on("order.placed")
            def charge(self, order: Any) -> None:
                """Charge."""

        class Silent(Base):
            def charge(self, order: Any) -> None:
                """Charge when asked."""

        class Other(Base):
            @on("order.paid")
            def charge(self, order: Any) -> None:
                """Charge later."""

        engine = Engine()
        for component in (Base("base"), Silent("silent"), Other("other")):
            await engine.register(component)
        names = {
            name: [each.event_name for each in owned(engine.bus, name)]
            for name in engine.components
        }
        assert names == {"base": ["order.placed"], "silent": [], "other": ["order.paid"]}

    async def test_marks_of_a_mixin_count(self) -> None:
        """C1: Marked methods may come from a class that is no component."""

        class Auditing:
            @on("order.**")
            def audit(self, order: Any) -> None:
                """Audit."""

        class Billing(Auditing, Component):
            pass

        engine = Engine()
        await engine.register(Billing("a"))
        assert [each.event_name for each in owned(engine.bus)] == ["order.**"]

    @pytest.mark.parametrize("outside", [True, False])
    async def test_goes_together_with_retry(self, *, outside: bool) -> None:
        """C1, R2: A marked method may be retried, in either order of the decorators."""
        failures = [Boom()]
        seen: list[str] = []

        async def charge(self: Component, order: str) -> None:
            if failures:
                raise failures.pop()
            seen.append(f"{self.name} {order}")

        mark, retry = on("order.placed"), retry_async(RetryConfig(base_delay=0))
        method = mark(retry(charge)) if outside else retry(mark(charge))
        billing = type("Billing", (Component,), {"charge": method})
        engine = Engine()
        await engine.register(billing("a"))
        assert await engine.bus.publish("order.placed", "lamp") == ()
        assert seen == ["a lamp"]

    async def test_marked_method_may_send_to_its_own_component(self) -> None:
        """C3: A handler of the component is an outsider where no message is in hand."""

        class Lamp(Component):
            @on("switch.pressed")
            async def press(self, data: Any) -> None:
                """Switch."""
                assert await self.handle_message(GO) is Outcome.TRANSITIONED

        lamp, engine = Lamp("a", machine=switch()), Engine()
        await engine.register(lamp)
        assert await engine.bus.publish("switch.pressed") == ()
        assert lamp.state == "on"

    @pytest.mark.parametrize(
        ("arguments", "options", "error", "message"),
        [
            (("a..b",), {}, ValueError, "malformed event name 'a..b'"),
            (("",), {}, ValueError, "malformed event name ''"),
            ((7,), {}, TypeError, "an event name must be a str, not 7"),
            (("a",), {"priority": 6}, ValueError, "priority must be an int, 1 .* not 6"),
            (("a",), {"priority": True}, ValueError, "priority must be an int, 1 .* not True"),
            (("a",), {"filter": 7}, TypeError, "filter must be callable with 2 .* not 7"),
            (("a",), {"filter": checkpoint}, TypeError, "filter is called with 2"),
        ],
    )
    def test_refuses_a_bad_mark(
        self, arguments: Any, options: Any, error: type[Exception], message: str
    ) -> None:
        """B3: What would be refused by subscribe is refused where the class is written."""
        with pytest.raises(error, match=message):
            on(*arguments, **options)

    @pytest.mark.parametrize(
        "method",
        [Component.__repr__, Component.__setattr__, 7],
        ids=["of none", "of two", "no method"],
    )
    def test_refuses_a_method_that_takes_no_payload(self, method: Any) -> None:
        """B3: A method of the wrong arity is refused where the class is written."""
        with pytest.raises(TypeError, match="a method marked with @on"):
            on("order.placed")(method)

    async def test_generator_method_is_refused(self) -> None:
        """B3: A marked method that would run nothing when called is refused."""

        def generate(self: Component, order: Any) -> Iterator[int]:
            yield 1

        with pytest.raises(TypeError, match="generator function"):
            on("order.placed")(generate)

    async def test_wrong_arity_at_register_changes_nothing(self) -> None:
        """C1, B3: A handler that can't be called fails the registration, which leaves no trace."""

        class Billing(Component):
            @on("order.placed")
            def fine(self, order: Any) -> None:
                """Be subscribed before the other, if it were."""

            @on("order.placed")
            def charge(self, order: Any) -> None:
                """Charge."""

        billing, engine = Billing("a"), Engine()
        diary = await Diary().keep(engine.bus)
        billing.__dict__["charge"] = lambda: None
        with pytest.raises(TypeError, match="handler is called with 1 positional argument"):
            await engine.register(billing)
        assert (dict(engine.components), owned(engine.bus), diary.lines) == ({}, [], [])
        del billing.__dict__["charge"]
        await engine.register(billing)
        assert len(owned(engine.bus)) == 2

    @pytest.mark.parametrize("times", [0, 1, 2, 3])
    async def test_handler_that_turns_bad_meanwhile_changes_nothing(self, times: int) -> None:
        """C1: A handler that can't be had any more fails the registration as a whole."""

        class Billing(Component):
            left = times

            @on("order.placed")
            def fine(self, order: Any) -> None:
                """Be subscribed before the other, if it were."""

            @on("order.placed")
            def charge(self, order: Any) -> None:
                """Charge."""

            def __getattribute__(self, name: str) -> Any:
                """Be there as often as is left."""
                if name == "charge":
                    if not Billing.left:
                        raise Boom
                    Billing.left -= 1
                return super().__getattribute__(name)

        engine, billing = Engine(), Billing("a")
        with suppress(Boom):
            await engine.register(billing)
        assert len(owned(engine.bus)) == 2 * len(engine.components)
        assert ("a" in engine.components) is (times >= 2)
        Billing.left = 9
        if "a" not in engine.components:
            await engine.register(billing)
        assert len(owned(engine.bus)) == 2


def test_what_takes_no_mark_is_refused() -> None:
    """B3: `on` marks methods that Python lets it mark."""
    with pytest.raises(TypeError, match=r"@on marks a method, and dict\.get takes no mark"):
        on("order.placed")(dict[str, int].get)


async def test_a_subclass_may_use_any_name_of_its_own() -> None:
    """B2: what a subclass calls its attributes does not get in the way of its handlers."""
    heard: list[object] = []

    class Cart(Component):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            self._handlers = self._actor = self._state = self._bus = None

        @on("item.added")
        def hear(self, data: object) -> None:
            heard.append(data)

    engine = Engine()
    await engine.register(Cart("cart"))
    await engine.bus.publish("item.added", 1)
    assert heard == [1]


def test_a_class_may_hold_what_answers_to_any_name() -> None:
    """B2: only what `on` marked is subscribed."""

    class Yes:
        def __getattr__(self, name: str) -> object:
            return self

    class No:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

    class Odd(Component):
        yes = Yes()
        no = No()

    assert repr(Odd("odd")) == "<Odd 'odd'>"
