"""What is seen of a bus while somebody looks, and what is kept when nobody does."""

from __future__ import annotations

from collections import Counter, deque
from reprlib import Repr
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from flexiflow._text import printable, safely, shorten, show_failure
from flexiflow.events import HANDLER_FAILED
from flexiflow.extras.causality import current_chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOST_FAILURES: Final = 100
_EVERY: Final = 64
"""After so many events it is asked whether anybody still looks."""
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
        causes: the events that led to it, the first one first; empty without a `Causality`.
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
        causes = [each for each in current_chain() if each != HANDLER_FAILED]
        self.count += 1
        self.last.append(
            Failed(
                self.count,
                time(),
                printable(shorten(event)),
                printable(shorten(component)),
                show_failure(exception),
                tuple(printable(shorten(each)) for each in causes),
            )
        )


@final
class Passing:
    """Keeps the last events while somebody looks, as the filter of a subscription.

    A filter costs a publish less than a handler does, and an instrument several times as much.

    Args:
        look: a number that tells this look from those before.
        most: how many events are kept.
        look_away: called once nobody has looked for a while.

    Attributes:
        look: see above.
        count: how many events were published.
    """

    def __init__(self, look: int, most: int, look_away: Callable[[], object]) -> None:
        self.look = look
        self.count = 0
        self._last: deque[tuple[str, Any]] = deque(maxlen=most)
        self._keep = self._last.append
        self._look_away = look_away
        self._until = 0.0

    def look_on(self, seconds: float) -> None:
        """Go on for some seconds from now."""
        self._until = monotonic() + seconds

    def see(self, name: str, payload: Any) -> bool:
        """Keep an event, and return False: it is not to be handled."""
        self.count += 1
        self._keep((name, payload))
        if not self.count % _EVERY and monotonic() > self._until:
            self._look_away()
        return False

    def since(self, number: int) -> Iterator[tuple[int, str, str]]:
        """Yield the number, name and payload of the events after one, payloads as text."""
        kept = list(self._last)
        new = min(max(self.count - number, 0), len(kept))
        first = self.count - new + 1
        for count, (name, payload) in enumerate(kept[len(kept) - new :], first):
            yield count, printable(shorten(name)), printable(safely(_SHORT.repr, payload))


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
