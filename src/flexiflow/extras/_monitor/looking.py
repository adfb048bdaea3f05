"""What is seen of a bus while somebody looks, and what is kept when nobody does."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import ExitStack, suppress
from itertools import islice
from reprlib import Repr
from threading import Thread
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from anyio.from_thread import run_sync
from anyio.lowlevel import current_token

from flexiflow._text import printable, safely, shorten, show_failure
from flexiflow.events import HANDLER_FAILED
from flexiflow.extras._causes import Causes
from flexiflow.extras._monitor import OWNER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from anyio.lowlevel import EventLoopToken

    from flexiflow import Component, Event, EventBus

_MOST_FAILURES: Final = 100
_EVERY: Final = 64
"""After so many events it is asked whether anybody still looks."""
_MOST_CAUSES: Final = 20
_MOST_STATES: Final = 50
_LONGEST_PAYLOAD: Final = 400


@final
class _Short(Repr):
    """Shows the beginning of a payload, and takes little time even if it is large."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 120
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = 8
        self.maxlevel = 3

    # The base class sorts what it shows, so it gets no more than that.
    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """Show the first items of a dict."""
        return super().repr_dict(dict(islice(x.items(), self.maxdict + 1)), level)

    def repr_set(self, x: set[Any], level: int) -> str:
        """Show some elements of a set."""
        return super().repr_set(set(islice(x, self.maxset + 1)), level)

    def repr_frozenset(self, x: frozenset[Any], level: int) -> str:
        """Show some elements of a frozenset."""
        return super().repr_frozenset(frozenset(islice(x, self.maxfrozenset + 1)), level)

    def repr_bytes(self, it: bytes, _level: int) -> str:
        """Show the beginning of bytes."""
        shown = repr(it[: self.maxother])
        return shown if len(it) <= self.maxother else f"{shown}..."


_SHORT: Final = _Short()


class Failed(NamedTuple):
    """A failure.

    Attributes:
        number: counts failures, from 1.
        time: when it was, in seconds since 1970.
        event: the event whose handler failed.
        component: the owner of the handler.
        what: the exception, as text.
        causes: the events that led to it, the first one first; empty if that is not known.
    """

    number: int
    time: float
    event: str
    component: str
    what: str
    causes: tuple[str, ...]


@final
class Chains:
    """An instrument that knows the events which the current task works for."""

    def __init__(self) -> None:
        self._causes: Causes[tuple[str, ...]] = Causes(())

    @property
    def current(self) -> tuple[str, ...]:
        """The names of the last of these events, each of which caused the next one."""
        return self._causes.known

    def publishing(self, event: Event[Any], /) -> AbstractContextManager[object]:
        """Return a context manager within which an event is the cause of others."""
        return self._causes.causing(event, (*self.current, event.name)[-_MOST_CAUSES:])


@final
class Failures:
    """The last failures; kept also while nobody looks.

    Args:
        chains: knows what led to a failure.

    Attributes:
        count: how many there were.
    """

    def __init__(self, chains: Chains) -> None:
        self.count = 0
        self._chains = chains
        self._last: deque[Failed] = deque(maxlen=_MOST_FAILURES)

    def hear(self, payload: Mapping[str, Any]) -> None:
        """Keep a failure that was published."""
        # Anybody may publish an event of that name, with any payload.
        if not isinstance(payload, dict):
            return
        event, component = payload.get("event_name"), payload.get("component_name")
        exception = payload.get("exception")
        if not isinstance(event, str) or not isinstance(component, str):
            return
        if isinstance(exception, BaseException):
            self._keep(event, component, exception)

    def since(self, number: int) -> list[Failed]:
        """Return the failures after one."""
        return [each for each in self._last if each.number > number]

    def _keep(self, event: str, component: str, exception: BaseException) -> None:
        causes = tuple(_shown(each) for each in self._chains.current if each != HANDLER_FAILED)
        self.count += 1
        what = show_failure(exception)
        self._last.append(
            Failed(self.count, time(), _shown(event), _shown(component), what, causes)
        )


@final
class Passing:
    """Keeps the last events while somebody looks, as the filter of a subscription.

    A filter costs a publish less than a handler does, and an instrument several times as much.

    A thread sees to its end on a quiet bus: no task of the monitor lasts longer than a request.

    Args:
        look: a number that tells this look from those before.
        most: how many events are kept.

    Attributes:
        look: see above.
        count: how many events were published.
        has_ended: whether nobody has looked for a while, so that no more events are kept.
    """

    def __init__(self, look: int, most: int) -> None:
        self.look = look
        self.count = 0
        self.has_ended = False
        self._last: deque[tuple[str, Any]] = deque(maxlen=most)
        self._keep: Callable[[tuple[str, Any]], None] = self._last.append
        self._until = 0.0
        self._stack = ExitStack()

    async def begin(self, bus: EventBus, seconds: float) -> None:
        """Keep the events of a bus for some seconds from now, or longer if somebody looks on."""
        self.look_on(seconds)
        Thread(target=self._wait, args=(current_token(),), daemon=True).start()
        subscription = await bus.subscribe("**", OWNER, _handle, priority=1, filter=self._see)
        self._stack.enter_context(subscription)

    def look_on(self, seconds: float) -> None:
        """Go on for some seconds from now."""
        self._until = monotonic() + seconds

    def _see(self, name: str, payload: Any) -> bool:
        """Keep an event, and return False: it is not to be handled."""
        self.count += 1
        self._keep((name, payload))
        if not self.count % _EVERY:
            self._end_in_time()
        return False

    def _wait(self, loop: EventLoopToken) -> None:
        """Be a thread that lets go of a quiet bus: it asks the event loop when time is up."""
        with suppress(RuntimeError):
            while not self.has_ended:
                sleep(max(self._until - monotonic(), 0))
                run_sync(self._end_in_time, token=loop)
        # The loop may be over. In another one the next event of the bus unsubscribes.
        self.has_ended = True
        stack = self._stack
        self._keep = lambda _: stack.close()
        self._last.clear()

    def _end_in_time(self) -> None:
        if monotonic() >= self._until:
            self.has_ended = True
            self._last.clear()
            self._stack.close()

    def since(self, number: int) -> Iterator[tuple[int, str, str]]:
        """Yield the number, name and payload of the events after one, payloads as text."""
        kept = list(self._last)
        new = min(max(self.count - number, 0), len(kept))
        first = self.count - new + 1
        for count, (name, payload) in enumerate(kept[len(kept) - new :], first):
            yield count, _shown(name), printable(safely(_SHORT.repr, payload)[:_LONGEST_PAYLOAD])


def _handle(_payload: object) -> None:
    """Be the handler of what the filter never lets through."""


def states_of(
    components: Mapping[str, Component], most: int
) -> list[tuple[str, list[tuple[str, int]]]]:
    """Return how many components are in which state, for each kind of machine.

    Args:
        components: all components, by name.
        most: how many kinds of machines are told apart.

    Returns:
        For each kind the name of a component, and its states with their numbers; of a machine with
        many states only those that some component is in.
    """
    kinds: dict[tuple[str, ...], Counter[str]] = {}
    examples: dict[tuple[str, ...], str] = {}
    for name, component in components.items():
        machine, state = component.machine, component.state
        if machine is None or state is None:
            continue
        if machine.states not in kinds:
            if len(kinds) == most:
                continue
            kinds[machine.states] = Counter()
            examples[machine.states] = name
        kinds[machine.states][state] += 1
    return [
        (_shown(examples[states]), _numbers(states, counts)) for states, counts in kinds.items()
    ]


def _numbers(states: tuple[str, ...], counts: Counter[str]) -> list[tuple[str, int]]:
    shown = states if len(states) <= _MOST_STATES else [*filter(counts.get, states)][:_MOST_STATES]
    return [(_shown(each), counts[each]) for each in shown]


def _shown(name: str) -> str:
    return printable(shorten(name))
