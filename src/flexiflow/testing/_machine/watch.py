"""The watch: sees all that a bus publishes, and looks whether the claims hold (P6).

It looks at a component when it comes to rest: as it is registered, before each of its messages, at
each commit, and, for messages of the program's own, right after them. So what one message has done
is seen before the next one of the same component begins.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, final

import anyio

from flexiflow._component import actor_of
from flexiflow._text import safely, show
from flexiflow.events import (
    COMPONENT_REGISTERED,
    HANDLER_FAILED,
    MESSAGE_RECEIVED,
    STATE_CHANGED,
)
from flexiflow.testing._examiner.trace import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from flexiflow._component import Component
    from flexiflow._engine import Engine
    from flexiflow._names import Event
    from flexiflow.testing._machine.claims import Claim, Claims
    from flexiflow.testing._machine.coverage import Coverage

_NOTHING = nullcontext()


@final
class Violation(NamedTuple):
    """A claim that does not hold.

    Attributes:
        claim: the claim.
        complaint: what has happened instead.
    """

    claim: Claim
    complaint: str


@final
class Watch:
    """An instrument, for one program.

    Args:
        engine: hosts the components.
        names: those of the components that the claims are about.
        claims: the claims.
        coverage: where transitions are counted.
        entries: where what happens is noted.
        stop: called once a claim does not hold.

    Attributes:
        violation: the first claim that does not hold; None if there is none.
        error: what a function of a claim has raised instead of an answer, or None.
        commits: how many transitions were announced.
        reached: the claims of `leads_to` whose first condition was reached.
        is_over: whether the program is over, so that nothing counts any more.
    """

    def __init__(
        self,
        engine: Engine,
        names: tuple[str, ...],
        claims: Claims,
        coverage: Coverage,
        entries: list[Entry],
        stop: Callable[[], object],
    ) -> None:
        self.violation: Violation | None = None
        self.error: BaseException | None = None
        self.commits = 0
        self.reached: set[Claim] = set()
        self.is_over = False
        self._engine = engine
        self._names = frozenset(names)
        self._claims = claims
        self._coverage = coverage
        self._entries = entries
        self._stop = stop
        # By name: the type of the last message.
        self._received: dict[str, str] = {}
        # By claim and name: whether the first condition held when it was looked at last.
        self._held: dict[tuple[Claim, str], bool] = {}
        # The claims whose first condition was reached, and the second one not yet, by component.
        self._open: dict[tuple[Claim, str], None] = {}
        self._now = 0.0
        self._seeing: dict[str, Callable[[Any], None]] = {
            COMPONENT_REGISTERED: self._register,
            MESSAGE_RECEIVED: self._receive,
            STATE_CHANGED: self._change,
            HANDLER_FAILED: self._fail,
        }

    @property
    def is_open(self) -> bool:
        """Whether a claim of `leads_to` is still to be fulfilled."""
        return bool(self._open)

    def publishing(self, event: Event[Any], /) -> AbstractContextManager[object]:
        """Note an event, and look at the component that it tells of."""
        see = self._seeing.get(event.name)
        if see is None:
            self.note(f"{event.name} is published")
        else:
            see(event.data)
        return _NOTHING

    def note(self, line: str) -> None:
        """Note what happens, here and now."""
        if self.is_over:
            return
        task, now = anyio.get_current_task().id, anyio.current_time()
        if now > self._now:
            line = f"{now - self._now:g} s later: {line}"
            self._now = now
        self._entries.append(Entry(line, task=task))

    def look_if_at_rest(self, name: str) -> None:
        """Look at a component, unless it is handling a message."""
        component = self._engine.components.get(name)
        if component is not None and actor_of(component).mailbox.holder is None:
            self.look(name)

    def look(self, name: str) -> None:
        """Look whether the claims hold for a component, if they are about it."""
        component = self._engine.components.get(name)
        if component is None or name not in self._names or self.is_over:
            return
        try:
            self.violation = next(self._broken(component), None)
        except BaseException as exc:  # noqa: BLE001  pytest's failures are no `Exception`
            # Some exceptions take no notes.
            with suppress(Exception):
                where = self._where(component)
                exc.add_note(f"raised as the claims about {name} {where} were tried")
            self.error = exc
        if self.violation is not None or self.error is not None:
            self.is_over = True
            self._stop()

    def conclude(self) -> None:
        """Note that nothing happens any more: what is open now does not hold."""
        if self.is_over:
            return
        for claim, name in self._open:
            first, second = claim.conditions
            complaint = (
                f"{name} reached {first.name}, and never {second.name} after that; in the end it "
                f"is {self._where(self._engine.components.get(name))}"
            )
            self.violation = Violation(claim, complaint)
            break
        self.is_over = True

    def _broken(self, component: Component) -> Iterator[Violation]:
        """Yield each claim that does not hold for a component now."""
        name, state = component.name, component.state
        for claim in self._claims.invariants:
            complaint = claim.conditions[0].complaint(component)
            if complaint is not None:
                words = f": {complaint}" if complaint else ""
                yield Violation(claim, f"{name} breaks it {self._where(component)}{words}")
        for claim in self._claims.never:
            if claim.conditions[0].holds(component, state):
                yield Violation(claim, f"{name} is {self._where(component)}")
        for claim in self._claims.leads_to:
            self._follow(claim, component)

    def _follow(self, claim: Claim, component: Component) -> None:
        """Note whether a component has reached the conditions of a claim of `leads_to`."""
        first, second = claim.conditions
        key = claim, component.name
        held = first.holds(component, component.state)
        if held and not self._held.get(key):
            self.reached.add(claim)
            self._open[key] = None
        self._held[key] = held
        if key in self._open and second.holds(component, component.state):
            del self._open[key]

    def _where(self, component: Component | None) -> str:
        """Return the state of a component in words, and its last message."""
        if component is None:
            return "no longer there"
        trigger = self._received.get(component.name)
        after = "" if trigger is None else f", after {show(trigger)}"
        return f"in {component.state!r}{after}"

    def _register(self, data: Any) -> None:
        self.note(f"{data['component']} is registered")
        self.look(data["component"])

    def _receive(self, data: Any) -> None:
        name, message = data["component"], data["message"]
        self.note(f"{name} begins {message['type']!r}")
        self.look(name)
        self._received[name] = message["type"]
        component = self._engine.components.get(name)
        if component is not None and name in self._names:
            # Components come and go without an event where their number is bounded (K5).
            self._coverage.watch(component)

    def _change(self, data: Any) -> None:
        self.commits += 1
        name = data["component"]
        self._coverage.committed(name)
        self.note(f"{name} goes from {data['from_state']!r} to {data['to_state']!r}")
        self.look(name)

    def _fail(self, data: Any) -> None:
        self.note(f"{data['component_name']} fails: {safely(repr, data['exception'])}")
