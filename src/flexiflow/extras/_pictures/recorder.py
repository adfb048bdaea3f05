"""Adds up what an engine does, for pictures of it.

Built-in events are observed. What is published and handled beside them is watched by an instrument,
but only once anybody else subscribes: to watch each message that way takes three times as long.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from math import isnan, nan
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, final

from flexiflow._bus import dispatcher_of
from flexiflow._text import printable, shorten, show_failure
from flexiflow._turns import live_turns
from flexiflow.events import HANDLER_FAILED, MESSAGE_RECEIVED, STATE_CHANGED
from flexiflow.extras._measures import ByName
from flexiflow.extras._pictures.lives import NO_STATES, Lives
from flexiflow.extras._pictures.tally import Chain, Rate, Room
from flexiflow.extras._pictures.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from flexiflow import Engine
    from flexiflow.extras._pictures.lives import Heard

_MOST_NAMES: Final = 1_000
_MOST_CHAINS: Final = 2_000
_MOST_FAILURES: Final = 100
_AT_ONCE: Final = 1_000
_LONGEST_TIME: Final = 64
"""Longer texts are read at once: kept, they could take much memory."""
_EARLIEST: Final = datetime(2, 1, 1, tzinfo=UTC).timestamp()
_parse: Final = datetime.fromisoformat
_plain: Final = str.__str__
"""Makes plain texts of those whose class may do anything when they are added up later."""
_LATEST: Final = datetime(9998, 1, 1, tzinfo=UTC).timestamp()


@final
class Recorder:
    """Adds up transitions, handlers, rates and the causes of failures.

    Args:
        engine: the engine.
        watchers: the owners of subscriptions that are not counted.
        place: returns the number of the input's line in hand; 0 for none.

    Attributes:
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
        self._components = engine.components
        # What is still to be added up, and the times of its messages. To do so for many at once
        # takes a fifth less time.
        self._heard: list[Heard] = []
        self._times: list[Any] = []
        self._now = nan
        self._messages = Rate()
        self._lives = Lives()
        self.failures = Rate()
        self.events = Chain("", Room(_MOST_CHAINS))
        self.handlers = ByName(_MOST_NAMES, ())
        self.is_of_log: bool | None = None

    @property
    def messages(self) -> Rate:
        """How many messages were received when."""
        self._add_up()
        return self._messages

    @property
    def lives(self) -> Lives:
        """The transitions of all components."""
        self._add_up()
        return self._lives

    def begin(self) -> list[tuple[str, Callable[[Any], None]]]:
        """Begin to record; return what the engine's bus is to be observed by, by events."""
        self._look()
        return [
            (MESSAGE_RECEIVED, self._receive),
            (STATE_CHANGED, self._change),
            (HANDLER_FAILED, self._hear_failure),
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
        if not isinstance(payload, dict) or not isinstance(payload.get("message"), dict):
            return
        component: Any = payload.get("component")
        if not isinstance(component, str):
            return
        at = payload["message"].get("at")
        if self.is_of_log is None:
            self.is_of_log = not isnan(_moment_of(at))
        if not self.is_of_log:
            at = perf_counter() - self._started
        elif type(at) is not str or len(at) > _LONGEST_TIME:
            at = _moment_of(at)
        self._times.append(at)
        name = component if type(component) is str else _plain(component)
        self._heard.append((name, None, NO_STATES))
        if len(self._heard) >= _AT_ONCE:
            self._add_up()

    def _change(self, payload: Mapping[str, Any]) -> None:
        if not isinstance(payload, dict):
            return
        try:
            component, states = payload["component"], (payload["from_state"], payload["to_state"])
            if not (type(component) is type(states[0]) is type(states[1]) is str):
                component, states = _plain(component), (_plain(states[0]), _plain(states[1]))
        except (TypeError, KeyError):
            return
        found = self._components.get(component)
        machine = None if found is None else found.machine
        # A component that is gone may have left the engine in this very transition.
        if found is None or machine is not None:
            self._heard.append((component, machine, states))
            if len(self._heard) >= _AT_ONCE:
                self._add_up()

    def _add_up(self) -> None:
        moments = _moments_of(self._times) if self.is_of_log else [*self._times]
        known = [each for each in moments if not isnan(each)]
        if known:
            self._messages.add(known)
            self._now = known[-1]
        self._lives.add(self._heard, moments)
        self._heard.clear()
        self._times.clear()

    def _hear_failure(self, payload: Mapping[str, Any]) -> None:
        """Count a failure that was published, unless the instrument has seen it already."""
        if not isinstance(payload, dict):
            return
        exception, component = payload.get("exception"), payload.get("component_name")
        if not isinstance(exception, Exception) or self._is_counted(exception):
            return
        if isinstance(component, str):
            self.fail(component, exception)

    def _moment(self) -> float:
        if not self.is_of_log:
            return perf_counter() - self._started
        self._add_up()
        return self._now


def _moments_of(times: Sequence[Any]) -> list[float]:
    """Return the moments of several messages, as `_moment_of` does."""
    try:
        # Most logs have texts alone, which are read in two thirds of the time this way.
        moments = [*map(datetime.timestamp, map(_parse, times))]
    except (TypeError, ValueError, OverflowError, OSError):
        return [*map(_moment_of, times)]
    return [each if _EARLIEST <= each <= _LATEST else nan for each in moments]


def _moment_of(time: Any) -> float:
    """Return the seconds since 1970 that a message's time tells; NaN if it tells none."""
    try:
        moment: float = _parse(time).timestamp()
    except TypeError:
        if not isinstance(time, float | int) or isinstance(time, bool):
            return nan
        moment = time
    except (ValueError, OverflowError, OSError):
        return nan
    return moment if _EARLIEST <= moment <= _LATEST else nan
