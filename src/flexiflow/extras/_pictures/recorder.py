"""Adds up what an engine does, for pictures of it.

Built-in events are observed. What is published and handled beside them is watched by an instrument,
but only once anybody else subscribes: to watch each message that way takes three times as long.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, final

from flexiflow._bus import dispatcher_of
from flexiflow._text import printable, shorten, show_failure
from flexiflow._turns import live_turns
from flexiflow.events import (
    COMPONENT_REGISTERED,
    HANDLER_FAILED,
    MESSAGE_RECEIVED,
    STATE_CHANGED,
)
from flexiflow.extras._measures import ByName
from flexiflow.extras._pictures.lives import Lives
from flexiflow.extras._pictures.tally import Chain, Rate, Room
from flexiflow.extras._pictures.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from flexiflow import Engine

_MOST_NAMES: Final = 1_000
_MOST_CHAINS: Final = 2_000
_MOST_FAILURES: Final = 100
_AT_ONCE: Final = 1_000
_EARLIEST: Final = datetime(2, 1, 1, tzinfo=UTC).timestamp()
_parse: Final = datetime.fromisoformat
_LATEST: Final = datetime(9998, 1, 1, tzinfo=UTC).timestamp()


@final
class Recorder:
    """Adds up transitions, handlers, rates and the causes of failures.

    Args:
        engine: the engine.
        watchers: the owners of subscriptions that are not counted.
        place: returns the number of the input's line in hand; 0 for none.

    Attributes:
        lives: the transitions of all components.
        failures: how many failures there were when.
        events: the events that nothing caused, and what they caused, as far as it led to failures.
        handlers: how often handlers were called, how long that took, and how often they failed, by
            the event and the subscription's owner.
        is_of_log: whether times are those that messages have in the field "at"; else they are
            seconds since the recorder was made. None before the first message.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        watchers: Collection[str],
        place: Callable[[], int] = int,
    ) -> None:
        self._bus = engine.bus
        self._registry = dispatcher_of(engine.bus).registry
        self._owners = self._registry.owners
        self._watchers = watchers
        self._place = place
        self._started = perf_counter()
        # Failures that were counted, for those that are published or raised as well.
        self._failed: deque[Exception] = deque(maxlen=_MOST_FAILURES)
        self._watch: Watch | None = None
        self._now = 0.0
        self._messages = Rate()
        # When messages were sent that are still to be counted: all at once takes half the time.
        self._uncounted: list[float] = []
        self.lives = Lives(engine.components)
        self.failures = Rate()
        self.events = Chain("", Room(_MOST_CHAINS))
        self.handlers = ByName(_MOST_NAMES, ())
        self.is_of_log: bool | None = None

    @property
    def messages(self) -> Rate:
        """How many messages were received when."""
        self._messages.add(self._uncounted)
        self._uncounted.clear()
        return self._messages

    def begin(self) -> list[tuple[str, Callable[[Any], None]]]:
        """Begin to record; return what the engine's bus is to be observed by, by events."""
        self._look()
        return [
            (COMPONENT_REGISTERED, self._register),
            (MESSAGE_RECEIVED, self._receive),
            (STATE_CHANGED, self._change),
            (HANDLER_FAILED, self._hear),
        ]

    def fail(self, component: str, exception: Exception) -> None:
        """Count a failure of a handler, under the event that the current task works for."""
        self._fail(self._cause(), component, exception)

    def fail_message(self, component: str, exception: Exception) -> None:
        """Count a failure of a message that no event led to, unless it was counted already."""
        if not self._is_counted(exception):
            self._fail(self.events.effect(MESSAGE_RECEIVED), component, exception)

    def _fail(self, cause: Chain, component: str, exception: Exception) -> None:
        self._failed.append(exception)
        self.failures.add([self._moment()])
        cause.fail(printable(shorten(component)), show_failure(exception), self._place())

    def _is_counted(self, exception: Exception) -> bool:
        return any(each is exception for each in self._failed)

    def _cause(self) -> Chain:
        if self._watch is not None:
            return self._watch.causes.known
        chain = self.events
        for _ in live_turns():
            chain = chain.effect(MESSAGE_RECEIVED)
        return chain

    def _look(self) -> None:
        """Add the instrument as soon as there is something for it to see."""
        if any(each.component_name not in self._watchers for each in self._registry):
            self._watch = Watch(self.events, self.handlers, self.fail, self._watchers)
            self._bus.add_instrument(self._watch)

    def _receive(self, payload: Mapping[str, Any]) -> None:
        if self._watch is None and len(self._owners) > 1:
            self._look()
        # Anybody may publish an event of that name, with any payload; and so in what follows.
        if not isinstance(payload, dict):
            return
        component = payload.get("component")
        message: Mapping[str, Any] | None = payload.get("message")
        if isinstance(component, str) and isinstance(message, dict):
            self.lives.send(component, self._count(message.get("at")))

    def _count(self, at: object) -> float | None:
        """Count a message, and return when it was sent."""
        if self.is_of_log is None:
            self.is_of_log = _moment_of(at) is not None
        moment = _moment_of(at) if self.is_of_log else perf_counter() - self._started
        if moment is not None:
            self._now = moment
            self._uncounted.append(moment)
            if len(self._uncounted) == _AT_ONCE:
                self._messages.add(self._uncounted)
                self._uncounted.clear()
        return moment

    def _change(self, payload: Mapping[str, Any]) -> None:
        if isinstance(payload, dict):
            states = payload.get("from_state"), payload.get("to_state")
            self.lives.count(payload.get("component"), states)

    def _register(self, payload: Mapping[str, Any]) -> None:
        if isinstance(payload, dict):
            self.lives.forget_machine(payload.get("component"))

    def _hear(self, payload: Mapping[str, Any]) -> None:
        """Count a failure that was published, unless the instrument has seen it already."""
        if not isinstance(payload, dict):
            return
        exception, component = payload.get("exception"), payload.get("component_name")
        if not isinstance(exception, Exception) or self._is_counted(exception):
            return
        if isinstance(component, str):
            self.fail(component, exception)

    def _moment(self) -> float:
        return self._now if self.is_of_log else perf_counter() - self._started


def _moment_of(value: object) -> float | None:
    """Return the seconds since 1970 that a message's time tells; None if it tells none."""
    try:
        if isinstance(value, str):
            moment = _parse(value).timestamp()
        elif isinstance(value, float | int) and not isinstance(value, bool):
            moment = float(value)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return moment if _EARLIEST <= moment <= _LATEST else None
