"""What is seen of a bus while somebody looks, and what is kept when nobody does."""

from __future__ import annotations

from collections import Counter, deque
from itertools import islice
from reprlib import Repr
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from flexiflow._text import printable, safely, shorten
from flexiflow.events import HANDLER_FAILED
from flexiflow.extras._pictures.causes import Causes, Causing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flexiflow import Event

_MOST_FAILURES: Final = 100
_DEEPEST: Final = 20
_SHORT: Final = Repr()
_SHORT.maxstring = _SHORT.maxother = 120
_SHORT.maxdict = _SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = 8
_SHORT.maxlevel = 3


class Failed(NamedTuple):
    """A failure.

    Attributes:
        number: counts failures, from 1.
        time: when it was, in seconds since 1970.
        event: the event whose handler failed.
        component: the owner of the handler.
        what: the exception, as text.
        causes: the events that led to it, the first one first; empty if nobody looked.
    """

    number: int
    time: float
    event: str
    component: str
    what: str
    causes: tuple[str, ...]


@final
class Failures:
    """The last failures; kept also while nobody looks."""

    def __init__(self) -> None:
        self.count = 0
        self.last: deque[Failed] = deque(maxlen=_MOST_FAILURES)
        self.passing: Passing | None = None

    def hear(self, payload: Any) -> None:
        """Keep a failure that was published."""
        # Anybody may publish an event of that name, with any payload.
        if not isinstance(payload, dict):
            return
        event, component, exception = (
            payload.get(each) for each in ("event_name", "component_name", "exception")
        )
        if isinstance(exception, BaseException):
            self.keep(str(event), str(component), exception)

    def since(self, number: int) -> list[Failed]:
        """Return the failures after one."""
        return [each for each in self.last if each.number > number]

    def keep(self, event: str, component: str, exception: BaseException) -> None:
        """Keep a failure."""
        causes = () if self.passing is None else self.passing.causes.known
        self.count += 1
        self.last.append(
            Failed(
                self.count,
                time(),
                printable(shorten(event)),
                printable(shorten(component)),
                printable(shorten(safely(_describe, exception))),
                tuple(printable(shorten(each)) for each in causes),
            )
        )


@final
class Passing:
    """An instrument that keeps the last events, while somebody looks.

    Args:
        look: a number that tells this instrument from those before.
        most: how many events are kept.
        look_away: called once nobody has looked for a while.

    Attributes:
        look: see above.
        count: how many events were published.
        causes: the names of the events that the current task works for, the first one first.
    """

    def __init__(self, look: int, most: int, look_away: Callable[[], object]) -> None:
        self.look = look
        self.count = 0
        self.causes: Causes[tuple[str, ...]] = Causes(())
        self._last: deque[tuple[int, float, str, Any]] = deque(maxlen=most)
        self._look_away = look_away
        self._until = 0.0

    def look_on(self, seconds: float) -> None:
        """Go on for some seconds from now."""
        self._until = monotonic() + seconds

    def publishing(self, event: Event[Any], /) -> Causing[tuple[str, ...]]:
        """Keep an event; return a context manager within which it is the cause of others."""
        if monotonic() > self._until:
            self._look_away()
        self.count += 1
        name = event.name
        self._last.append((self.count, time(), name, event.data))
        causes = self.causes
        known = causes.known
        if name != HANDLER_FAILED and len(known) < _DEEPEST:
            known = (*known, name)
        return causes.causing(event, known)

    def since(self, number: int) -> Iterator[tuple[int, float, str, str]]:
        """Yield the number, time, name and payload of the events after one, payloads as text."""
        new = min(max(self.count - number, 0), len(self._last))
        for count, at, name, payload in islice(self._last, len(self._last) - new, None):
            yield count, at, printable(shorten(name)), printable(safely(_SHORT.repr, payload))


def states_of(components: Any, most: int) -> list[tuple[str, list[tuple[str, int]]]]:
    """Return how many components are in which state, for each kind of machine.

    Args:
        components: all components, by name.
        most: how many kinds of machines are told apart.
    """
    kinds: dict[tuple[str, ...], Counter[str]] = {}
    examples: dict[tuple[str, ...], str] = {}
    for name, component in list(components.items()):
        machine = component.machine
        if machine is None or (machine.states not in kinds and len(kinds) >= most):
            continue
        kinds.setdefault(machine.states, Counter())[component.state] += 1
        examples.setdefault(machine.states, name)
    return [
        (printable(shorten(examples[states])), [(each, counts[each]) for each in states])
        for states, counts in kinds.items()
    ]


def _describe(exception: object) -> str:
    text = str(exception)
    name = type(exception).__qualname__
    return f"{name}: {text}" if text else name
