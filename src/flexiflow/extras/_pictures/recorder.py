"""An instrument that adds up what happens on an engine's bus, for pictures of it."""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from datetime import datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, final

from flexiflow._text import printable, safely, shorten
from flexiflow.events import BUILT_IN, HANDLER_FAILED, MESSAGE_RECEIVED, STATE_CHANGED
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
    """An instrument that adds up transitions, handlers, rates and the causes of failures.

    Args:
        engine: the engine whose bus it is added to.
        ignored: the owner of subscriptions that don't count.
        place: returns the number of the input's line in hand; 0 for none.

    Attributes:
        lives: the transitions, by the initial state and all states of the components.
        messages: how many messages were received when.
        failures: how many failures there were when.
        events: the events that nothing caused, and what they caused.
        handlers: how often handlers were called, how long that took, and how often they failed, by
            the event and the subscription's owner.
        is_of_log: whether times are those that messages have in the field "at"; else they are
            seconds since the recorder was made.
    """

    def __init__(
        self, engine: Engine, *, ignored: str = "", place: Callable[[], int] = int
    ) -> None:
        self._components = engine.components
        self._ignored = ignored
        self._place = place
        self._started = perf_counter()
        # For each component, since when it is in its state, and when its last message was sent.
        self._since: dict[str, tuple[float | None, float | None]] = {}
        self._failed: deque[BaseException] = deque(maxlen=_MOST_FAILURES)
        self.lives: dict[tuple[str, tuple[str, ...]], Life] = {}
        self._life_of: dict[StateMachine, Life] = {}
        self.messages = Rate()
        self.failures = Rate()
        self.events = Chain("", Room(_MOST_CHAINS))
        self.handlers = ByName(_MOST_NAMES, ())
        self.is_of_log: bool | None = None
        self._now = 0.0
        self._causes = Causes(self.events)

    def publishing(self, event: Event[Any], /) -> AbstractContextManager[object]:
        """Add up an event; return a context manager within which it is the cause of others."""
        name = event.name
        if name in BUILT_IN:
            self._note(name, event.data)
        chain = self._causes.known.effect(name)
        chain.count += 1
        return self._causes.causing(event, chain)

    def handling(
        self, event: Event[Any], subscription: Subscription, /
    ) -> AbstractContextManager[object]:
        """Return a context manager that measures a handler, and adds up its failure."""
        component = subscription.component_name
        if component == self._ignored:
            return _UNWATCHED
        return _Handling(self, Timing(self.handlers[event.name, component]), component)

    def fail(self, component: str, exception: Exception) -> None:
        """Add up a failure, under the event that the current task works for."""
        self._failed.append(exception)
        self.failures.add(self._moment())
        what = printable(shorten(safely(_describe, exception)))
        self._causes.known.fail(component, what, self._place())

    def _note(self, name: str, payload: Any) -> None:
        # Anybody may publish an event of such a name, with any payload.
        if not isinstance(payload, dict):
            return
        component = payload.get("component")
        if name == MESSAGE_RECEIVED:
            self._receive(component, payload.get("message"))
        elif name == STATE_CHANGED:
            self._change(component, payload.get("from_state"), payload.get("to_state"))
        elif name == HANDLER_FAILED:
            exception = payload.get("exception")
            owner = payload.get("component_name")
            is_known = any(each is exception for each in self._failed)
            if isinstance(exception, Exception) and isinstance(owner, str) and not is_known:
                self.fail(owner, exception)

    def _receive(self, component: Any, message: Any) -> None:
        if not isinstance(component, str) or not isinstance(message, dict):
            return
        sent = _moment_of(message.get("at"))
        if self.is_of_log is None:
            self.is_of_log = sent is not None
        moment = sent if self.is_of_log else self._moment()
        if moment is not None:
            self._now = moment
            self.messages.add(moment)
        since, _ = self._since.pop(component, (None, None))
        self._since[component] = since, moment
        if len(self._since) > _MOST_COMPONENTS:
            del self._since[next(iter(self._since))]

    def _change(self, component: Any, source: Any, target: Any) -> None:
        found = self._components.get(component) if isinstance(component, str) else None
        if found is None or found.machine is None:
            return
        life = self._life(found.machine)
        life.name(component)
        step = life.steps.get((source, target))
        if step is None:
            # Anybody may publish an event of that name, with any payload.
            if not {source, target} <= {*life.states}:
                return
            step = life.steps[source, target] = Step()
        since, now = self._since.get(component, (None, None))
        step.add(None if since is None or now is None else now - since)
        self._since[component] = now, now

    def _life(self, machine: StateMachine) -> Life:
        life = self._life_of.get(machine)
        if life is None:
            if len(self._life_of) >= _MOST_COMPONENTS:
                self._life_of.clear()
            key = machine.initial, machine.states
            life = self._life_of[machine] = self.lives.setdefault(key, Life(*key))
        return life

    def _moment(self) -> float:
        return self._now if self.is_of_log else perf_counter() - self._started


@final
class _Handling:
    """A context manager that measures a handler, and adds up its failure."""

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
