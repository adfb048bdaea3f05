"""B13: whose handlers the methods are that `on` marks."""

from dataclasses import dataclass
from typing import Any

import pytest

from flexiflow import Component, Engine, on

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
    assert [each.event for each in marked._flexiflow_on] == ["b"]
    assert [each.event for each in again._flexiflow_on] == ["b", "c"]


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


async def test_a_mark_of_a_mixin_counts() -> None:
    """B13: A class that is no component may mark methods for those that are."""

    class Mixin:
        @on("a")
        def h(self, data: str) -> None:
            HEARD.append(data)

    class A(Mixin, Component):
        pass

    assert await heard_by(A) == ["a"]


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
