"""Adds up what an engine does, for pictures of it.

Built-in events are observed. What is published and handled beside them is watched by an instrument,
but only once anybody else subscribes: to watch each message that way takes three times as long.
"""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from datetime import datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, final

from flexiflow._bus import dispatcher_of
from flexiflow._text import printable, safely, shorten
from flexiflow._turns import live_turns
from flexiflow.events import HANDLER_FAILED, MESSAGE_RECEIVED, STATE_CHANGED
from flexiflow.extras._measures import ByName, Timing
from flexiflow.extras._pictures.causes import Causes
from flexiflow.extras._pictures.tally import Chain, Life, Rate, Room, Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from flexiflow import Engine, Event, StateMachine, Subscription

_MOST_NAMES: Final = 1_000
_MOST_CHAINS: Final = 2_000
_MOST_COMPONENTS: Final = 100_000
_MOST_FAILURES: Final = 100
_UNWATCHED: Final = nullcontext()


@final
class Recorder:
    """Adds up transitions, handlers, rates and the causes of failures.

    Args:
        engine: the engine.
        owner: the owner of its subscriptions; what this one owns is not counted.
        place: returns the number of the input's line in hand; 0 for none.

    Attributes:
        lives: the transitions, by the initial state and all states of the components.
        messages: how many messages were received when.
        failures: how many failures there were when.
        events: the events that nothing caused, and what they caused, as far as it led to failures.
        handlers: how often handlers were called, how long that took, and how often they failed, by
            the event and the subscription's owner.
        is_of_log: whether times are those that messages have in the field "at"; else they are
            seconds since the recorder was made. None before the first message.
    """

    def __init__(self, engine: Engine, *, owner: str, place: Callable[[], int] = int) -> None:
        self._bus = engine.bus
        self._registry = dispatcher_of(engine.bus).registry
        self._components = engine.components
        self._owner = owner
        self._place = place
        self._started = perf_counter()
        self._life_of: dict[StateMachine, Life] = {}
        # For each component, since when it is in its state, and when its last message was sent.
        self._since: dict[str, tuple[float | None, float | None]] = {}
        # Failures that were counted, for those that are published as well.
        self._failed: deque[Exception] = deque(maxlen=_MOST_FAILURES)
        self._watch: _Watch | None = None
        self._now = 0.0
        self.lives: dict[tuple[str, tuple[str, ...]], Life] = {}
        self.messages = Rate()
        self.failures = Rate()
        self.events = Chain("", Room(_MOST_CHAINS))
        self.handlers = ByName(_MOST_NAMES, ())
        self.is_of_log: bool | None = None

    async def begin(self) -> None:
        """Observe the engine's bus from now on."""
        for name, handler in (
            (MESSAGE_RECEIVED, self._receive),
            (STATE_CHANGED, self._change),
            (HANDLER_FAILED, self._hear),
        ):
            await self._bus.subscribe(name, self._owner, handler, priority=1)
        self._look()

    def fail(self, component: str, exception: Exception) -> None:
        """Count a failure, under the event that the current task works for."""
        self._failed.append(exception)
        self.failures.add(self._moment())
        what = printable(shorten(safely(_describe, exception)))
        self._cause().fail(component, what, self._place())

    def _cause(self) -> Chain:
        if self._watch is not None:
            return self._watch.causes.known
        chain = self.events
        for _ in live_turns():
            chain = chain.effect(MESSAGE_RECEIVED)
        return chain

    def _look(self) -> None:
        """Add the instrument as soon as there is something for it to see."""
        if self._watch is None and any(
            each.component_name != self._owner for each in self._registry
        ):
            self._watch = _Watch(self, self._owner)
            self._bus.add_instrument(self._watch)

    def _receive(self, payload: Any) -> None:
        if self._watch is None and self._registry.owners > 1:
            self._look()
        # Anybody may publish an event of that name, with any payload; and so in what follows.
        if not isinstance(payload, dict):
            return
        component, message = payload.get("component"), payload.get("message")
        if not isinstance(component, str) or not isinstance(message, dict):
            return
        moment = _moment_of(message.get("at")) if self.is_of_log is not False else None
        if self.is_of_log is None:
            self.is_of_log = moment is not None
        if not self.is_of_log:
            moment = perf_counter() - self._started
        if moment is not None:
            self._now = moment
            self.messages.add(moment)
        since = self._since
        since[component] = since.pop(component, _UNKNOWN)[0], moment
        if len(since) > _MOST_COMPONENTS:
            del since[next(iter(since))]

    def _change(self, payload: Any) -> None:
        component = payload.get("component") if isinstance(payload, dict) else None
        found = self._components.get(component) if isinstance(component, str) else None
        if found is None or found.machine is None:
            return
        life = self._life_of.get(found.machine)
        if life is None:
            life = self._new_life(found.machine)
        states = payload.get("from_state"), payload.get("to_state")
        step = life.steps.get(states)
        if step is None:
            if not {*states} <= {*life.states}:
                return
            step = life.steps[states] = Step()
        life.name(component)
        since, now = self._since.get(component, _UNKNOWN)
        step.add(None if since is None or now is None else now - since)
        self._since[component] = now, now

    def _new_life(self, machine: StateMachine) -> Life:
        if len(self._life_of) >= _MOST_COMPONENTS:
            self._life_of.clear()
        key = machine.initial, machine.states
        life = self._life_of[machine] = self.lives.setdefault(key, Life(*key))
        return life

    def _hear(self, payload: Any) -> None:
        """Count a failure that was published, unless the instrument has seen it already."""
        if not isinstance(payload, dict):
            return
        exception, component = payload.get("exception"), payload.get("component_name")
        if isinstance(exception, Exception) and isinstance(component, str):
            if not any(each is exception for each in self._failed):
                self.fail(component, exception)

    def _moment(self) -> float:
        return self._now if self.is_of_log else perf_counter() - self._started


_UNKNOWN: Final = (None, None)


@final
class _Watch:
    """The instrument: finds out what causes what, and measures handlers.

    Args:
        recorder: adds up what this finds.
        owner: the owner of subscriptions that are not counted.

    Attributes:
        causes: the chain of events that the current task works for.
    """

    def __init__(self, recorder: Recorder, owner: str) -> None:
        self._recorder = recorder
        self._owner = owner
        self.causes = Causes(recorder.events)

    def publishing(self, event: Event[Any], /) -> AbstractContextManager[object]:
        """Return a context manager within which an event is the cause of others."""
        return self.causes.causing(event, self.causes.known.effect(event.name))

    def handling(
        self, event: Event[Any], subscription: Subscription, /
    ) -> AbstractContextManager[object]:
        """Return a context manager that measures a handler, and counts its failure."""
        component = subscription.component_name
        if component == self._owner:
            return _UNWATCHED
        timing = Timing(self._recorder.handlers[event.name, component])
        return _Handling(self._recorder, timing, component)


@final
class _Handling:
    """A context manager that measures a handler, and counts its failure."""

    __slots__ = ("_component", "_recorder", "_timing")

    def __init__(self, recorder: Recorder, timing: Timing, component: str) -> None:
        self._recorder = recorder
        self._timing = timing
        self._component = component

    def __enter__(self) -> None:
        """Do nothing: a bus enters it as soon as it was made."""

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: object
    ) -> None:
        self._timing.__exit__(kind, exception, traceback)
        if isinstance(exception, Exception):
            self._recorder.fail(self._component, exception)


def _describe(exception: object) -> str:
    text = str(exception)
    name = type(exception).__qualname__
    return f"{name}: {text}" if text else name


def _moment_of(value: object) -> float | None:
    """Return the seconds since 1970 that a message's time tells; None if it tells none."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    if isinstance(value, float | int) and not isinstance(value, bool):
        return float(value)
    return None
