"""Components: named owners of subscriptions that handle messages, one at a time.

`on` marks methods as handlers. A class gathers the marks when it is made (`__init_subclass__`), and
an engine subscribes the marked methods when it registers a component (`handlers_of`). Messages are
handled by the component's `Actor`.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import reprlib
import sys
from copy import copy
from functools import partial
from inspect import getattr_static
from operator import is_
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, ClassVar, cast, final, overload

from flexiflow._actor import Actor, copy_message
from flexiflow._arguments import check_around, check_options, check_query
from flexiflow._callables import check_callable, describe
from flexiflow._machine import StateMachine
from flexiflow._names import check_component_name
from flexiflow._objects import refuse_copying
from flexiflow._text import show

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from typing import Protocol, TypeAlias, TypedDict, TypeVar

    from flexiflow._actor import Outcome
    from flexiflow._names import A, Query, T, Topic
    from flexiflow._subscription import Around, Filter, Handler

    _F = TypeVar("_F", bound=Callable[..., object])
    _C = TypeVar("_C")
    _More = TypeVar("_More")
    _R = TypeVar("_R")
    _Payload = TypeVar("_Payload")
    _Answer = TypeVar("_Answer")

    # mypy wants a covariant type variable here, and pyright an invariant one.
    class _MarksTyped(Protocol[_Payload]):  # type: ignore[misc]
        # A method may accept more types than this payload's, as one for several topics does.
        @overload
        def __call__(
            self, method: Callable[[_C, _More | _Payload], _R], /
        ) -> Callable[[_C, _More | _Payload], _R]: ...

        # For a method that accepts this payload's type alone, pyright can't solve `_More`.
        @overload
        def __call__(
            self, method: Callable[[_C, _Payload], _R], /
        ) -> Callable[[_C, _Payload], _R]: ...

    class _MarksAnswering(Protocol[_Payload, _Answer]):
        @overload
        def __call__(
            self, method: Callable[[_C, _Payload], Coroutine[Any, Any, _Answer]], /
        ) -> Callable[[_C, _Payload], Coroutine[Any, Any, _Answer]]: ...

        @overload
        def __call__(
            self, method: Callable[[_C, _Payload], _Answer], /
        ) -> Callable[[_C, _Payload], _Answer]: ...

    @final
    class On(TypedDict):
        """A mark: the arguments of one `on` above a method."""

        event: str
        priority: int
        filter: Filter | None
        once: bool
        time_limit: float | None
        limit: int | None
        around: tuple[Around, ...]

    @final
    class Answers(TypedDict):
        """A mark: the arguments of one `answers` above a method."""

        query: str
        time_limit: float | None
        limit: int | None

    Mark: TypeAlias = On | Answers


_ON = "_flexiflow_on"

# The attributes of a function that are neither arguments of its constructor nor in its `__dict__`.
# Since Python 3.14 annotations are evaluated when they are read, and may then fail, since they may
# use names that are imported for type checkers only; so `__annotate__` is copied in their place.
_ANNOTATED = "__annotate__" if sys.version_info >= (3, 14) else "__annotations__"
_UNMARKED = frozenset(
    {
        *(str, int, float, bool, type(None), tuple, list, dict, set, frozenset),
        *(property, MemberDescriptorType, GetSetDescriptorType),
    }
)
_WRITTEN = (
    "__kwdefaults__",
    "__module__",
    "__qualname__",
    "__doc__",
    "__type_params__",
    _ANNOTATED,
)


@overload
def on(
    event: Topic[T],
    *,
    priority: int = 3,
    filter: Callable[[str, T], bool] | None = None,
    once: bool = False,
    time_limit: float | None = None,
    limit: int | None = None,
    around: Iterable[Around] = (),
) -> _MarksTyped[T]: ...


@overload
def on(
    event: str,
    *,
    priority: int = 3,
    filter: Filter | None = None,
    once: bool = False,
    time_limit: float | None = None,
    limit: int | None = None,
    around: Iterable[Around] = (),
) -> Callable[[_F], _F]: ...


def on(
    event: Any,
    *,
    priority: int = 3,
    filter: Filter | None = None,
    once: bool = False,
    time_limit: float | None = None,
    limit: int | None = None,
    around: Iterable[Around] = (),
) -> Any:
    """Mark a method of a `Component` as a handler, subscribed when the component is registered.

    The method takes the payload, and is subscribed under the component's name. The arguments are
    those of `EventBus.subscribe`. A method may be marked several times. If a subclass overrides it,
    only the marks in the subclass count. A mark holds for the class whose body it stands in, and
    for subclasses of that: marking a method of another class makes a new function (B13).

    Raises:
        ValueError: a malformed or empty name, a priority that is not an int in 1..5, or a
            `time_limit` or `limit` out of range (B3).
        TypeError: a name that is not a str, something that can't be a filter (B3), or a method that
            can't be marked.

    Example:
        >>> import anyio
        >>> from flexiflow import Component, Engine, on
        >>> class Log(Component):
        ...     @on("order.**", priority=5)
        ...     async def note(self, order):
        ...         print("noted", order)
        >>> async def main():
        ...     engine = Engine()
        ...     await engine.register(Log("log"))
        ...     await engine.bus.publish("order.item.added", "A7")
        >>> anyio.run(main)
        noted A7
    """
    if isinstance(event, FunctionType):
        name = event.__name__
        raise TypeError(
            f"@on takes the event's name: write @on('order.placed') above {name}, not @on alone"
        )
    check_options(event, priority=priority, filter=filter, time_limit=time_limit, limit=limit)
    marked: On = {
        "event": event,
        "priority": priority,
        "filter": filter,
        "once": bool(once),
        "time_limit": time_limit,
        "limit": limit,
        "around": check_around(around),
    }
    return partial(_mark, marked, "@on")


@overload
def answers(
    query: Query[T, A], *, time_limit: float | None = None, limit: int | None = None
) -> _MarksAnswering[T, A]: ...


@overload
def answers(
    query: str, *, time_limit: float | None = None, limit: int | None = None
) -> Callable[[_F], _F]: ...


def answers(query: Any, *, time_limit: float | None = None, limit: int | None = None) -> Any:
    """Mark a method of a `Component` as an answerer, added when the component is registered (A1).

    The method takes what is asked, and returns the answer, under the component's name. The
    arguments are those of `EventBus.answer`. Marks are gathered as those of `on` are.

    Raises:
        ValueError: a malformed or empty name, a pattern, or a `time_limit` or `limit` out of range.
        TypeError: a `Topic`, a name that is not a str, or a method that can't be marked.

    Example:
        >>> import anyio
        >>> from flexiflow import Component, Engine, answers
        >>> class Shop(Component):
        ...     @answers("price.asked")
        ...     def price(self, article):
        ...         return {"tea": 4.5}[article]
        >>> async def main():
        ...     engine = Engine()
        ...     await engine.register(Shop("shop"))
        ...     print(await engine.bus.ask("price.asked", "tea"))
        >>> anyio.run(main)
        4.5
    """
    if isinstance(query, FunctionType):
        name = query.__name__
        raise TypeError(
            f"@answers takes a query: write @answers(PRICE) above {name}, not @answers alone"
        )
    check_query(query, time_limit=time_limit, limit=limit)
    marked: Answers = {"query": query, "time_limit": time_limit, "limit": limit}
    return partial(_mark, marked, "@answers")


def _mark(mark: Mark, decorator: str, method: _F) -> _F:
    check_callable(f"a method marked with {decorator}", method, 2)
    marks = (*getattr(method, _ON, ()), mark)
    # The mark is for one class, but the method may belong to another class as well.
    try:
        own = _copied(method)
        setattr(own, _ON, marks)
    except (AttributeError, TypeError):
        given = describe(method)
        raise TypeError(f"{decorator} marks a method, and {given} takes no mark") from None
    return own


def _copied(method: _F) -> _F:
    if isinstance(method, type):
        raise TypeError  # a class is its own copy, so the mark would be on it everywhere
    if not isinstance(method, FunctionType):
        return copy(method)
    code, names = method.__code__, method.__globals__
    function = FunctionType(code, names, method.__name__, method.__defaults__, method.__closure__)
    for attribute in _WRITTEN:
        if hasattr(method, attribute):
            setattr(function, attribute, getattr(method, attribute))
    vars(function).update(vars(method))
    return cast("_F", function)


@final
class _Namespace:
    """The own attributes of a class of components.

    Args:
        marked: the names of those that were marked when the class was made.

    Attributes:
        checked: the values when no other one was found marked; empty before the first check.
    """

    __slots__ = ("checked", "marked")

    def __init__(self, marked: frozenset[str]) -> None:
        self.marked = marked
        self.checked: tuple[object, ...] = ()


class Component:
    """A named owner of subscriptions that handles messages, one at a time.

    With a state machine it also has a state. It is meant to be subclassed; methods marked with
    `on` are its handlers.

    Args:
        name: not empty, and unique within an engine.
        machine: the table of its transitions, which other components may share (C9). Without a
            machine the component ignores every message.
        state: the state to start in; None for the machine's initial one. Nothing is published for
            it, and `entry` is not called (K1, M1).

    Raises:
        ValueError: an empty name, or a state that the machine does not have.
        TypeError: a name that is not a str, or a machine that is not a `StateMachine`.

    Example:
        >>> import anyio
        >>> from flexiflow import Component, Engine, on
        >>> class Mail(Component):
        ...     @on("order.placed")
        ...     def confirm(self, order):
        ...         print(self.name, "confirms", order)
        >>> async def main():
        ...     engine = Engine()
        ...     await engine.register(Mail("mail"))
        ...     await engine.bus.publish("order.placed", "A7")
        >>> anyio.run(main)
        mail confirms A7
    """

    # Long names, which no subclass is likely to use: a clash would do harm silently.
    __slots__ = ("__weakref__", "_flexiflow_actor")

    __reduce_ex__ = refuse_copying

    _flexiflow_handlers: ClassVar[tuple[tuple[str, Mark], ...]] = ()
    # Also that of subclasses for which another base keeps `__init_subclass__` from being called.
    _flexiflow_own: ClassVar[_Namespace] = _Namespace(frozenset())

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Gather the marked methods, base classes first, in the order of their definition."""
        super().__init_subclass__(**kwargs)
        attributes: dict[str, object] = {}
        for base in reversed(cls.__mro__):
            attributes |= vars(base)
        cls._flexiflow_handlers = tuple(
            (attribute, mark) for attribute, value in attributes.items() for mark in _marks(value)
        )
        cls._flexiflow_own = _Namespace(frozenset(_marked(cls)))

    def __init__(
        self, name: str, *, machine: StateMachine | None = None, state: str | None = None
    ) -> None:
        if not (machine is None or isinstance(machine, StateMachine)):
            raise TypeError(f"machine must be a StateMachine or None, not {reprlib.repr(machine)}")
        start = _check_start(machine, state)
        self._flexiflow_actor = Actor(check_component_name(name), machine, start)

    @property
    def name(self) -> str:
        """The component's name."""
        return self._flexiflow_actor.name

    @property
    def machine(self) -> StateMachine | None:
        """The table of its transitions, or None."""
        return self._flexiflow_actor.machine

    @property
    def state(self) -> str | None:
        """The current state; None without a machine."""
        return self._flexiflow_actor.state

    def snapshot(self) -> Mapping[str, Any] | None:
        """Return what is stored beside the state; meant to be overridden (K1).

        An engine with a store calls it at the end of each transition, before the commit. It must
        not wait.

        Returns:
            A mapping with str keys, which JSON can hold; None for nothing. Tuples become lists.
        """
        return None

    def restore(self, data: Mapping[str, Any], /) -> None:
        """Take over what `snapshot` has returned; meant to be overridden (K1).

        An engine with a store calls it before the component is registered, and when it loads the
        component again (K3), if there is something stored beside the state. It must not wait.

        Args:
            data: what was stored, as JSON gives it back.
        """

    @final
    async def handle_message(self, message: Mapping[str, Any]) -> Outcome:
        """Handle a message when its turn has come (C3 to C8).

        Events are published only if the component is registered with an engine.

        Args:
            message: a mapping with a str `type`, which triggers a transition; copied one level
                deep.

        Returns:
            What became of the message.

        Raises:
            TypeError: the message is not a mapping (C5).
            ValueError: the message has no str `type` (C5).
            TransitionRefused: a strict machine has no transition for the message (C8).
            UnknownComponent: the component was unregistered while the message waited (C1), or the
                engine has unloaded this object (K5).
            EngineNotRunning: the message would enter a state with a timer or work, and no engine
                runs (M4).
            Exception: what a guard or an action raised (C6), or the engine's store (K3).
        """
        actor, copied = self._flexiflow_actor, copy_message(message)
        return await actor.handle(self, copied, actor.host)

    def __repr__(self) -> str:
        """Show the class, the name and the state."""
        state = "" if self.state is None else f" in state {show(self.state)}"
        return f"<{type(self).__name__} {show(self.name)}{state}>"


def _check_start(machine: StateMachine | None, state: object) -> str | None:
    """Return the state in which a component begins (K1).

    Raises:
        ValueError: the machine does not have it.
        TypeError: it is not a str, or there is no machine.
    """
    if state is None:
        return None if machine is None else machine.initial
    if machine is None:
        raise TypeError(f"state needs a machine; given {reprlib.repr(state)} without one")
    if not isinstance(state, str):
        raise TypeError(f"state must be a str or None, not {reprlib.repr(state)}")
    if state not in machine.states:
        known = ", ".join(map(show, machine.states))
        raise ValueError(f"state must be one of the machine's, {known}, not {show(state)}")
    return state


def _marked(kind: type) -> list[str]:
    """Return the names of the marked methods in a class's own namespace."""
    # Most attributes take a short way: if the class changes, this runs for each component loaded.
    return [
        name
        for name, value in vars(kind).items()
        if type(value) not in _UNMARKED
        and (_ON in value.__dict__ if type(value) is FunctionType else _marks(value))
    ]


def _marks(value: object) -> tuple[Mark, ...]:
    if type(value) in _UNMARKED:
        return ()
    if isinstance(value, staticmethod | classmethod):
        value = cast("Any", value).__func__
    # Not getattr: other objects in a class may answer to any name, or raise.
    marks: object = getattr_static(value, _ON, None)
    return cast("tuple[Mark, ...]", marks) if isinstance(marks, tuple) else ()


def actor_of(component: Component) -> Actor:
    """Return the inside of a component, for its engine.

    Raises:
        TypeError: the component's class does not call `Component.__init__`.
    """
    try:
        return component._flexiflow_actor
    except AttributeError:
        kind = type(component).__qualname__
        raise TypeError(f"{kind}.__init__ must call super().__init__(name)") from None


def handlers_of(component: Component) -> list[tuple[Mark, Handler]]:
    """Return the marks of a component, each with its method, bound to the component.

    Raises:
        TypeError: a marked method can't be a handler (B3), or was set on a class after the class
            was made, when marks are no longer gathered (B13).
    """
    for kind in type(component).__mro__:
        if issubclass(kind, Component) and kind is not Component:
            _check_marks(kind)
    handlers: list[tuple[Mark, Handler]] = []
    for attribute, mark in type(component)._flexiflow_handlers:
        handler = getattr(component, attribute)
        check_callable("handler", handler, 1)
        handlers.append((mark, handler))
    return handlers


def _check_marks(kind: type[Component]) -> None:
    """Refuse a class on which a marked method was set after it was made."""
    own, attributes = kind._flexiflow_own, kind.__dict__
    # Most classes have not changed since, and this runs whenever a component is loaded.
    if len(attributes) == len(own.checked) and all(map(is_, attributes.values(), own.checked)):
        return
    for name in _marked(kind):
        if name not in own.marked:
            is_answerer = "query" in _marks(attributes[name])[-1]
            raise TypeError(
                f"{kind.__qualname__}.{name} was marked with "
                f"{'@answers' if is_answerer else '@on'} and set after its class was made, so that "
                "nothing would subscribe it; mark it in the class, or in a subclass"
            )
    own.checked = tuple(attributes.values())
