"""The desk: runs one program with a new engine, and finds out whether the claims hold (P6).

`Desk.open` makes the engine, watches it, and enters its `running()`. In the block, senders send
messages. When the block ends, the program is brought to its end:

1. Timers and work run out, in virtual time, until nothing can happen any more. If there are fair
   messages, at most half of the turns that are left is spent on that: a timer that starts itself
   again and again does not keep them from being sent.
2. The fair messages are sent to each component, one after another, and timers and work run out
   again. That is a round. Rounds go on until three in a row have taken no transition: a message
   that has failed may succeed when it is sent again.
3. A claim of `leads_to` that is still open then does not hold. If the budget of turns is used up
   before, it is inconclusive.
4. What still waits is cancelled, and counts no more.

A message that raises is noted, and the program goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

import anyio

from flexiflow._component import actor_of
from flexiflow._engine import Engine
from flexiflow._text import safely
from flexiflow.testing._examiner.kit import cancel_after
from flexiflow.testing._machine.claims import make_claims
from flexiflow.testing._machine.coverage import Coverage
from flexiflow.testing._machine.watch import Watch
from flexiflow.testing._scheduling.failures import ScenarioStuck
from flexiflow.testing._scheduling.run import current_run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from flexiflow._machine import StateMachine
    from flexiflow.testing._examiner.trace import Entry
    from flexiflow.testing._machine.claims import Claim, Claims
    from flexiflow.testing._machine.watch import Violation

Sender: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

Place: TypeAlias = tuple["StateMachine", str]
"""The machine of a component, and its state."""

_BUDGET: Final = 5_000
"""So many turns a program may take until it is ended as inconclusive."""

_LEAST: Final = 100
"""So many turns timers and work have at least to run out, as far as the budget allows."""

_HOLDERS: Final = (list, tuple, set)
"""What is copied with each message, apart from dicts."""

_STILL: Final = 3
"""So many rounds of fair messages in a row must take no transition."""


@final
class ClaimBroken(AssertionError):
    """A claim does not hold in a program."""


@final
class Desk:
    """Runs one program.

    Args:
        make: makes the engine.
        places: where the components begin that the claims are about, by their names.
        claims: the claims.
        coverage: where transitions are counted.
        entries: where what happens is noted.

    Attributes:
        violation: the claim that does not hold; None if there is none.
        error: what a function of a claim has raised instead of an answer, or None.
        reached: the claims of `leads_to` whose first condition was reached.
        is_exhausted: whether the program was ended before it came to rest.
        is_unfinished: whether a component was still handling a message at the end.
        messages: how many messages were sent.
        failures: how many of these have raised, by the name of the exception's type.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        places: Mapping[str, Place],
        claims: Claims,
        coverage: Coverage,
        entries: list[Entry],
    ) -> None:
        self.violation: Violation | None = None
        self.error: BaseException | None = None
        self.reached: set[Claim] = set()
        self.is_exhausted = False
        self.is_unfinished = False
        self.messages = 0
        self.failures: Counter[str] = Counter()
        self._make = make
        self._places = places
        self._claims = claims
        self._coverage = coverage
        self._entries = entries

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Make the engine for a block that runs senders; afterwards bring the program to its end.

        Raises:
            ClaimBroken: a claim does not hold.
            Exception: what `make` has raised, or a function of a claim.
        """
        self._run = current_run.get()
        self._engine = engine = await make_engine(self._make)
        scope = anyio.CancelScope()
        self._watch = watch = Watch(
            engine,
            tuple(self._places),
            self._claims,
            self._coverage,
            self._entries,
            scope.cancel,
        )
        engine.bus.add_instrument(watch)
        for name in self._places:
            watch.look(name)
        # In a scope that is cancelled the block could not begin.
        self._raise_found()
        with scope:
            async with engine.running(), anyio.create_task_group() as group:
                self._group = group
                yield
                await self._end()
                group.cancel_scope.cancel()
        engine.bus.remove_instrument(watch)
        self.reached = watch.reached
        self._raise_found()

    def _raise_found(self) -> None:
        """Raise what the watch has found, if it has."""
        self.violation, self.error = self._watch.violation, self._watch.error
        if self.error is not None:
            raise self.error
        if self.violation is not None:
            raise ClaimBroken(f"{self.violation.claim.name}: {self.violation.complaint}")

    async def run(self, *senders: Sender) -> None:
        """Run senders at the same time, until all are over or nothing can happen any more."""
        over = anyio.Event()
        running = len(senders)

        async def begin(sender: Sender) -> None:
            nonlocal running
            await sender()
            running -= 1
            if not running:
                over.set()

        for sender in senders:
            self._group.start_soon(begin, sender)
        await self._run.wait_until(over, self._last_turn())

    async def send(
        self, name: str, message: Mapping[str, Any], *, cancelled_after: int | None = None
    ) -> None:
        """Send a message, and go on if it raises.

        Args:
            name: the component's name.
            message: the message.
            cancelled_after: after how many turns of another task it is cancelled; None for never.
        """
        self.messages += 1
        self._watch.note(f"{safely(repr, message)} is sent to {name}")
        with anyio.CancelScope() as scope:
            if cancelled_after is not None:
                self._group.start_soon(cancel_after, scope, cancelled_after)
            try:
                outcome = await self._engine.send(name, _fresh(message))
            except ScenarioStuck:
                # It ends a program that can't be cancelled.
                raise
            except Exception as exc:  # noqa: BLE001  it is no fault of a machine to raise
                self.failures[type(exc).__name__] += 1
                self._watch.note(f"{message['type']!r} raises {safely(repr, exc)}")
            else:
                self._watch.note(f"{message['type']!r} returns {outcome.name}")
        if scope.cancelled_caught:
            self._watch.note(f"{message['type']!r} is cancelled")
        self._watch.look_if_at_rest(name)

    def place_of(self, name: str) -> Place:
        """Return where a component is, or where it will begin."""
        component = self._engine.components.get(name)
        if component is None:
            return self._places[name]
        # It has both: what has no machine is refused before anything runs.
        return cast("Place", (component.machine, component.state))

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        await anyio.sleep(seconds)

    async def _end(self) -> None:
        """Let timers and work run out, and send the fair messages again, until nothing changes."""
        self._watch.note("the senders are done; timers and work run out")
        rests, still = await self._come_to_rest(), 0 if self._claims.fair else _STILL
        while still < _STILL and self._run.line.turns < _BUDGET:
            states, changes = self._states(), self._changes
            self._watch.note("the fair messages are sent")
            for name in self._places:
                for message in self._claims.fair:
                    await self._send_fair(name, message)
            rests = await self._come_to_rest()
            if rests and states == self._states() and not self._watch.is_open:
                break
            still = still + 1 if rests and changes == self._changes else 0
        for name in self._places:
            self._watch.look_if_at_rest(name)
        components = self._engine.components.values()
        self.is_unfinished = not all(actor_of(each).mailbox.is_idle for each in components)
        self.is_exhausted = not rests
        if rests:
            self._watch.conclude()
        self._watch.is_over = True

    @property
    def _changes(self) -> int:
        """How many transitions were taken so far."""
        return self._watch.commits + self._coverage.taken

    def _states(self) -> dict[str, str | None]:
        return {name: each.state for name, each in self._engine.components.items()}

    async def _come_to_rest(self) -> bool:
        """Wait until nothing can happen any more; return False if too much happens for that."""
        return await self._run.wait_until(anyio.Event(), self._last_turn())

    def _last_turn(self) -> int:
        """Return until which turn to wait, so that some are left for the fair messages."""
        turns = self._run.line.turns
        half = (_BUDGET - turns) // 2 if self._claims.fair else _BUDGET
        return min(turns + max(half, _LEAST), _BUDGET)

    async def _send_fair(self, name: str, message: dict[str, Any]) -> None:
        """Send a message to a component, if it is there and its state has a transition for it."""
        if name in self._engine.components:
            machine, state = self.place_of(name)
            if machine.candidates(state, message["type"]):
                await self.run(lambda: self.send(name, message))


def _fresh(data: object) -> Any:
    """Copy what holds data, at all levels: a component may keep and change what it is sent."""
    if type(data) is dict:
        items = cast("dict[object, object]", data).items()
        return {key: _fresh(each) for key, each in items}
    if type(data) in _HOLDERS:
        held = cast("list[object]", data)
        return type(held)(map(_fresh, held))
    return data


async def make_engine(make: Callable[[], Any]) -> Engine:
    """Call what makes an engine, and await that if need be.

    Raises:
        TypeError: it does not make an engine.
        Exception: what it has raised.
    """
    made = make()
    if isawaitable(made):
        made = await made
    if not isinstance(made, Engine):
        raise TypeError(f"make must make an Engine, not {safely(repr, made)}")
    return made


@asynccontextmanager
async def open_desk(
    make: Callable[[], Any], components: list[str], **claims: Any
) -> AsyncGenerator[Desk]:
    """Yield a desk, as a program that is shown does.

    Args:
        make: makes the engine.
        components: the names of the components that the claims are about.
        claims: what is claimed, as `check_machine` is given it.

    Raises:
        ClaimBroken: a claim does not hold.
    """
    places: dict[str, Any] = dict.fromkeys(components)
    desk = Desk(make, places, make_claims(**claims), Coverage(), [])
    async with desk.open():
        yield desk
