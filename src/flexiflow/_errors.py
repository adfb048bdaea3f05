"""The exceptions that FlexiFlow defines; bad arguments raise a `ValueError` or a `TypeError`.

Each one builds its message from the facts in its attributes.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any, final

from anyio import ClosedResourceError

from flexiflow._text import LONGEST, closest, shorten, show

if TYPE_CHECKING:
    from collections.abc import Collection

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = LONGEST


class FlexiFlowError(Exception):
    """Base of every exception that FlexiFlow defines.

    Example:
        >>> import anyio
        >>> from flexiflow import Engine, FlexiFlowError
        >>> async def main():
        ...     try:
        ...         await Engine().send("order-7", {"type": "pay"})
        ...     except FlexiFlowError as error:
        ...         print(type(error).__name__, "-", error)
        >>> anyio.run(main)
        UnknownComponent - no component is named 'order-7'
    """

    def __repr__(self) -> str:
        """Show the type and the arguments; long ones lose their middle."""
        return f"{type(self).__name__}({', '.join(map(_brief.repr, self.args))})"


@final
class HandlerCancelled(FlexiFlowError):
    """A cancellation left a handler although its publish was not being cancelled (E6).

    The handler awaited a task that someone else cancelled, or its own task was cancelled
    natively in concurrent delivery. `__cause__` is what left the handler.

    Args:
        culprit: the handler's name.

    Example:
        >>> import asyncio
        >>> from flexiflow import EventBus
        >>> async def wait_for_what_ended(order):
        ...     task = asyncio.create_task(asyncio.sleep(1))
        ...     task.cancel()
        ...     await task
        >>> async def main():
        ...     bus = EventBus()
        ...     await bus.subscribe("order.placed", "billing", wait_for_what_ended)
        ...     [failure] = await bus.publish("order.placed")
        ...     print(type(failure.exception).__name__)
        >>> asyncio.run(main())
        HandlerCancelled
    """

    def __init__(self, culprit: str) -> None:
        super().__init__(culprit)
        self.culprit = culprit

    def __str__(self) -> str:
        """Return the message: which handler, and how that can happen."""
        return (
            f"a cancellation left {self.culprit}, though no scope around it was cancelled: "
            "it awaited a task that someone else cancelled, or its own task was cancelled"
        )


@final
class HandlerTimeout(FlexiFlowError, TimeoutError):
    """A handler was still running after its time limit, and was cancelled (V1).

    `__cause__` is the failure of its cleanup, if there was one.

    Args:
        culprit: the handler's name.
        time_limit: how many seconds it had.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus
        >>> async def hang(order):
        ...     await anyio.sleep_forever()
        >>> async def main():
        ...     bus = EventBus()
        ...     await bus.subscribe("order.placed", "billing", hang, time_limit=0.01)
        ...     [failure] = await bus.publish("order.placed", "A7")
        ...     print(failure.exception)
        >>> anyio.run(main)
        hang was still running after 0.01 s
    """

    def __init__(self, culprit: str, time_limit: float) -> None:
        super().__init__()
        # TimeoutError is an OSError, whose constructor would take them for an errno and its text.
        self.args: tuple[Any, ...] = (culprit, time_limit)
        self.culprit = culprit
        self.time_limit = time_limit

    def __str__(self) -> str:
        """Return the message: which handler, and how much time it had."""
        return f"{self.culprit} was still running after {self.time_limit} s"


@final
class LimitDeadlock(FlexiFlowError):
    """A call of a limited handler would wait for itself (V2).

    Args:
        culprit: the handler's name.
        limit: how many calls of it may run at once.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus, LimitDeadlock
        >>> async def main():
        ...     bus = EventBus(on_error="raise")
        ...     async def again(count):
        ...         await bus.publish("counted", count + 1)
        ...     await bus.subscribe("counted", "counter", again, limit=1)
        ...     try:
        ...         await bus.publish("counted", 1)
        ...     except LimitDeadlock as error:
        ...         print(error.limit)
        >>> anyio.run(main)
        1
    """

    def __init__(self, culprit: str, limit: int) -> None:
        super().__init__(culprit, limit)
        self.culprit = culprit
        self.limit = limit

    def __str__(self) -> str:
        """Return the message: which handler, and what the call would have waited for."""
        return (
            f"a call of {self.culprit}, limited to {self.limit} at once, would wait for itself: it "
            "came from within such a call, or all of these wait for what it came from"
        )


class PublishRefused(FlexiFlowError):
    """An instrument refused a publish; none of its handlers has started (I3).

    Instruments raise it, or a subclass, in `publishing`.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus, PublishRefused
        >>> class Closed:
        ...     def publishing(self, event):
        ...         raise PublishRefused(f"no {event.name} on Sundays")
        >>> async def main():
        ...     bus = EventBus(instruments=[Closed()])
        ...     try:
        ...         await bus.publish("order.placed")
        ...     except PublishRefused as error:
        ...         print(error)
        >>> anyio.run(main)
        no order.placed on Sundays
    """


class _NoRoom(FlexiFlowError):
    """There is no room for an event, and the publisher can't wait for room.

    Args:
        stream: the name or pattern that the stream hears; None for a background.
        buffer: how many events the buffer holds.
    """

    def __init__(self, stream: str | None, buffer: int) -> None:
        super().__init__(stream, buffer)
        self.stream = stream
        self.buffer = buffer

    @property
    def _facts(self) -> str:
        held = f"is full with {self.buffer} event{'' if self.buffer == 1 else 's'}"
        if self.stream is None:
            return f"the background's buffer {held}"
        return f"the stream of {show(self.stream)} {held}"


@final
class BufferFull(_NoRoom):
    """The buffer of a stream or a background was full, and `overflow` is "error" (S2, B15).

    Args:
        stream: the name or pattern that the stream hears; None for a background.
        buffer: how many events the buffer holds.

    Example:
        >>> import anyio
        >>> from flexiflow import BufferFull, EventBus
        >>> async def main():
        ...     bus = EventBus(on_error="raise")
        ...     async with bus.stream("order.*", buffer=1, overflow="error"):
        ...         await bus.publish("order.placed", "A7")
        ...         try:
        ...             await bus.publish("order.placed", "A8")
        ...         except BufferFull as error:
        ...             print(error)
        >>> anyio.run(main)
        the stream of 'order.*' is full with 1 event; this one is lost
    """

    def __str__(self) -> str:
        """Return the message: whose buffer is full, and how many events it holds."""
        return f"{self._facts}; this one is lost"


@final
class StreamDeadlock(_NoRoom):
    """A publisher would have waited for itself, as there was no room for its event (S3, B15).

    It was the only consumer of a full stream, or a handler that a full background calls.

    Args:
        stream: the name or pattern that the stream hears; None for a background.
        buffer: how many events the buffer holds.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus, StreamDeadlock
        >>> async def main():
        ...     bus = EventBus(on_error="raise")
        ...     async with bus.stream("order.*", buffer=1) as stream:
        ...         await bus.publish("order.placed", "A7")
        ...         async for event in stream:
        ...             try:
        ...                 for order in ("A8", "A9"):
        ...                     await bus.publish("order.placed", order)
        ...             except StreamDeadlock as error:
        ...                 print("full with", error.buffer)
        ...             break
        >>> anyio.run(main)
        full with 1
    """

    def __str__(self) -> str:
        """Return the message: whose buffer is full, who would wait, and what to do."""
        if self.stream is None:
            return (
                f"{self._facts}, and a handler that it calls publishes to it and would wait for "
                "itself; give it a larger buffer or another overflow policy"
            )
        return (
            f"{self._facts}, and its only consumer publishes to it and would wait for itself; read "
            "it in another task, or give it a larger buffer or another overflow policy"
        )


@final
class ReceiverClosed(FlexiFlowError, ClosedResourceError):
    """A stream, expectation or background was used outside of its `async with` block (S1, B15).

    Args:
        what: the stream, expectation or background, in words.
        state: the state of its block, in words, like "has ended".

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus, ReceiverClosed
        >>> async def main():
        ...     async with EventBus().background(limit=1) as background:
        ...         pass
        ...     try:
        ...         await background.publish("order.placed")
        ...     except ReceiverClosed as error:
        ...         print(error.state)
        >>> anyio.run(main)
        has ended
    """

    def __init__(self, what: str, state: str) -> None:
        super().__init__(what, state)
        self.what = what
        self.state = state

    def __str__(self) -> str:
        """Return the message: which block, its state, and what to do."""
        remedy = (
            "it can be entered only once, so make a new one"
            if self.state == "was entered before"
            else "use it inside its 'async with'"
        )
        return f"the block of {self.what} {self.state}; {remedy}"


@final
class NoAnswer(FlexiFlowError, LookupError):
    """Nobody answers the query (A1).

    Args:
        query: the name that was asked.
        known: the names that are answered. The message shows the closest ones, unless there are
            more than 1,000; names of more than 200 characters are not compared.

    Example:
        >>> import anyio
        >>> from flexiflow import EventBus, NoAnswer
        >>> async def main():
        ...     bus = EventBus()
        ...     await bus.answer("price.asked", "shop", {"tea": 4.5}.get)
        ...     try:
        ...         await bus.ask("prize.asked", "tea")
        ...     except NoAnswer as error:
        ...         print(error)
        >>> anyio.run(main)
        nobody answers 'prize.asked'; did you mean 'price.asked'?
    """

    def __init__(self, query: str, known: Collection[str] = ()) -> None:
        super().__init__(query)
        self.query = query
        self.closest: tuple[str, ...] = closest(query, known)

    def __str__(self) -> str:
        """Return the message: which query has no answer, and which names are close to it."""
        return f"nobody answers {show(self.query)}{_hint(self.closest)}"


@final
class DuplicateAnswer(FlexiFlowError):
    """The query has an answerer already; nothing has changed (A1).

    Args:
        query: the query's name.
        component: the name of the component that answers it.
        methods: the names of two methods that answer it, if both are that component's.

    Example:
        >>> import anyio
        >>> from flexiflow import DuplicateAnswer, EventBus
        >>> async def main():
        ...     bus = EventBus()
        ...     await bus.answer("price.asked", "shop", {"tea": 4.5}.get)
        ...     try:
        ...         await bus.answer("price.asked", "other shop", {"tea": 5.0}.get)
        ...     except DuplicateAnswer as error:
        ...         print(error.query, error.component)
        >>> anyio.run(main)
        price.asked shop
    """

    def __init__(self, query: str, component: str, *methods: str) -> None:
        super().__init__(query, component, *methods)
        self.query = query
        self.component = component
        self.methods = methods

    def __str__(self) -> str:
        """Return the message: which query, what answers it, and what to do."""
        if self.methods:
            return (
                f"{' and '.join(map(shorten, self.methods))} of {show(self.component)} both answer "
                f"{show(self.query)}; mark only one of them with @answers"
            )
        return (
            f"{show(self.query)} is answered by {show(self.component)} already; "
            "unsubscribe that answerer first"
        )


class ComponentError(FlexiFlowError):
    """A component can't be used in this way (C1, C2).

    Example:
        >>> import anyio
        >>> from flexiflow import Component, ComponentError, Engine
        >>> async def main():
        ...     engine = Engine()
        ...     await engine.register(Component("mail"))
        ...     try:
        ...         await engine.register(Component("mail"))
        ...     except ComponentError as error:
        ...         print(type(error).__name__)
        >>> anyio.run(main)
        DuplicateComponent
    """


@final
class DuplicateComponent(ComponentError):
    """The name is taken; nothing has changed (C1).

    Args:
        name: the name that was to be registered.

    Example:
        >>> import anyio
        >>> from flexiflow import Component, DuplicateComponent, Engine
        >>> async def main():
        ...     engine = Engine()
        ...     await engine.register(Component("mail"))
        ...     try:
        ...         await engine.register(Component("mail"))
        ...     except DuplicateComponent as error:
        ...         print(error)
        >>> anyio.run(main)
        a component named 'mail' is registered already; unregister it first
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        """Return the message: which name is taken, and what to do."""
        return f"a component named {show(self.name)} is registered already; unregister it first"


@final
class UnknownState(ComponentError):
    """A component's machine does not have the stored state; nothing was registered (K4).

    Args:
        name: the component's name.
        state: the state that is stored.
        known: the states of its machine.

    Example:
        >>> import anyio
        >>> from flexiflow import Component, Engine, StateMachine, Transition, UnknownState
        >>> from flexiflow.extras.stores import MemoryStateStore
        >>> MACHINE = StateMachine("placed", [Transition("placed", "pay", "paid")])
        >>> async def main():
        ...     store = MemoryStateStore()
        ...     await store.save("A7", "packed", None, expected=0)
        ...     try:
        ...         await Engine(store=store).register(Component("A7", machine=MACHINE))
        ...     except UnknownState as error:
        ...         print(error.state, error.known)
        >>> anyio.run(main)
        packed ('placed', 'paid')
    """

    def __init__(self, name: str, state: str, known: Collection[str] = ()) -> None:
        super().__init__(name, state)
        self.name = name
        self.state = state
        self.known: tuple[str, ...] = tuple(known)

    def __str__(self) -> str:
        """Return the message: which state is stored, and which ones the machine has."""
        return (
            f"component {show(self.name)} is stored in state {show(self.state)}, which its machine "
            f"does not have; it has {', '.join(map(show, self.known)) or 'none'}"
        )


@final
class StateConflict(ComponentError):
    """The stored version of a component is not the expected one; nothing has changed (K2, K3).

    Another engine has saved or deleted it meanwhile.

    Args:
        name: the component's name.
        expected: the version that was to be replaced; 0 for none.
        found: the version that is stored; 0 for none.

    Example:
        >>> import anyio
        >>> from flexiflow import StateConflict
        >>> from flexiflow.extras.stores import MemoryStateStore
        >>> async def main():
        ...     store = MemoryStateStore()
        ...     await store.save("A7", "placed", None, expected=0)
        ...     try:
        ...         await store.save("A7", "paid", None, expected=0)
        ...     except StateConflict as error:
        ...         print(error.name, error.expected, error.found)
        >>> anyio.run(main)
        A7 0 1
    """

    def __init__(self, name: str, expected: int, found: int) -> None:
        super().__init__(name, expected, found)
        self.name = name
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        """Return the message: which versions, and how that can happen."""
        return (
            f"version {self.expected} of component {show(self.name)} was to be replaced, and "
            f"{f'version {self.found}' if self.found else 'nothing'} is stored: another engine has "
            "changed it meanwhile"
        )


@final
class EngineNotRunning(ComponentError):
    """A state that takes time would have been entered outside `Engine.running` (M4).

    Args:
        name: the component's name.
        state: the state that has `after` or `during`.

    Example:
        >>> import anyio
        >>> from flexiflow import Component, Engine, EngineNotRunning
        >>> from flexiflow import State, StateMachine, Transition
        >>> MACHINE = StateMachine(
        ...     "new",
        ...     [Transition("new", "place", "placed"), Transition("placed", "expire", "new")],
        ...     states=[State("placed", after=(60, "expire"))],
        ... )
        >>> async def main():
        ...     engine = Engine()
        ...     await engine.register(Component("A7", machine=MACHINE))
        ...     try:
        ...         await engine.send("A7", {"type": "place"})
        ...     except EngineNotRunning as error:
        ...         print(error.name, error.state)
        >>> anyio.run(main)
        A7 placed
    """

    def __init__(self, name: str, state: str) -> None:
        super().__init__(name, state)
        self.name = name
        self.state = state

    def __str__(self) -> str:
        """Return the message: which state, and what to do."""
        return (
            f"component {show(self.name)} can't enter state {show(self.state)}, which has a timer "
            "or work, while its engine is not running; send within `async with engine.running():`"
        )


@final
class UnknownComponent(ComponentError, KeyError):
    """No component has that name, and no factory made one (C1, C2).

    Args:
        name: the name that was asked for.
        known: the registered names. The message shows the closest ones, unless there are more than
            1,000; names of more than 200 characters are not compared.

    Example:
        >>> import anyio
        >>> from flexiflow import Component, Engine, UnknownComponent
        >>> async def main():
        ...     engine = Engine()
        ...     await engine.register(Component("order-7"))
        ...     try:
        ...         await engine.send("order-77", {"type": "pay"})
        ...     except UnknownComponent as error:
        ...         print(error)
        >>> anyio.run(main)
        no component is named 'order-77'; did you mean 'order-7'?
    """

    def __init__(self, name: str, known: Collection[str] = ()) -> None:
        super().__init__(name)
        self.name = name
        self.closest: tuple[str, ...] = closest(name, known)

    def __str__(self) -> str:
        """Return the message: which name is unknown, and which names are close to it."""
        return f"no component is named {show(self.name)}{_hint(self.closest)}"


@final
class TransitionRefused(ComponentError):
    """A strict machine has no transition for a message (C8).

    Args:
        component: the component's name.
        state: its state.
        trigger: the message's `type`.
        accepted: the triggers that it would take in this state.

    Example:
        >>> import anyio
        >>> from flexiflow import Component, Engine, StateMachine, Transition, TransitionRefused
        >>> MACHINE = StateMachine("placed", [Transition("placed", "pay", "paid")], strict=True)
        >>> async def main():
        ...     engine = Engine()
        ...     await engine.register(Component("A7", machine=MACHINE))
        ...     try:
        ...         await engine.send("A7", {"type": "ship"})
        ...     except TransitionRefused as error:
        ...         print(error)
        >>> anyio.run(main)
        component 'A7' in state 'placed' refuses 'ship'; it would take: 'pay'
    """

    def __init__(self, component: str, state: str, trigger: str, accepted: tuple[str, ...]) -> None:
        super().__init__(component, state, trigger, accepted)
        self.component = component
        self.state = state
        self.trigger = trigger
        self.accepted = accepted

    def __str__(self) -> str:
        """Return the message: the state, the trigger, and the triggers that it would take."""
        accepted = ", ".join(map(show, self.accepted)) or "none"
        why = ", since no guard lets it through" if self.trigger in self.accepted else ""
        return (
            f"component {show(self.component)} in state {show(self.state)} refuses "
            f"{show(self.trigger)}{why}; it would take: {accepted}"
        )


def _hint(names: tuple[str, ...]) -> str:
    return f"; did you mean {' or '.join(map(show, names))}?" if names else ""
