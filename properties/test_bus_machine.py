"""The bus, held against its model: any program, step by step, with publishes that overlap."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from anyio import CancelScope, Event, create_task_group, get_cancelled_exc_class, sleep
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from flexiflow import EventBus, Subscription
from flexiflow._bus import subscriptions
from flexiflow.events import HANDLER_FAILED
from flexiflow.testing import replay
from properties.bus_model import (
    DEEPEST,
    IN_CLEANUP,
    Act,
    Boom,
    Cancel,
    Model,
    Open,
    Publish,
    Step,
    Subscribe,
    Unsubscribe,
    UnsubscribeAll,
)
from properties.watching import logged
from tests.accounting import POLICIES
from tests.helpers import MODES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anyio.abc import TaskGroup

NAMES = ("a", "a.b", "b")
PATTERNS = (*NAMES, "a.*", "a.**", "**", HANDLER_FAILED)
COMPONENTS = ("one", "two", "three")
MOST_OPENED = 20
"""How many gates are opened in the end, before what is left is cancelled."""

depth = ContextVar("depth", default=0)


@dataclass
class Bus:
    """The same as the model with the real bus."""

    group: TaskGroup
    bus: EventBus = field(default_factory=EventBus)
    seats: list[Subscription] = field(default_factory=list[Subscription])
    trace: list[Any] = field(default_factory=list[Any])
    gates: dict[int, Event] = field(default_factory=dict[int, Event])
    scopes: list[CancelScope] = field(default_factory=list[CancelScope])
    starts: int = 0

    async def perform(self, step: Step) -> None:
        """Do a step, and wait until nothing moves."""
        match step:
            case Open(number):
                self.gates[number].set()
            case Cancel(task):
                self.scopes[task].cancel()
            case _:
                self.scopes.append(CancelScope())
                self.group.start_soon(self._begin, step, self.scopes[-1])
        # In virtual time it ends when nothing else can happen.
        await sleep(1)

    def look(self, *, ordered: bool) -> tuple[list[Any], bool, list[bool], set[int]]:
        """Tell what has happened since the last look, who is subscribed, and who waits."""
        trace, self.trace = self.trace, []
        active = [seat.active for seat in self.seats]
        assert {*subscriptions(self.bus)} == {seat for seat in self.seats if seat.active}
        return trace if ordered else in_one_order(trace), ordered, active, {*self.gates}

    async def _begin(self, act: Act, scope: CancelScope) -> None:
        with scope:
            try:
                await self._do(act)
            except Boom:
                assert isinstance(act, Publish)

    async def _do(self, act: Act) -> None:
        match act:
            case Subscribe():
                await self._subscribe(act)
            case Publish():
                if depth.get() < DEEPEST:
                    await self._publish(act)
            case _:
                self._do_now(act)

    def _do_now(self, act: Act) -> None:
        match act:
            case Unsubscribe(place):
                if self.seats:
                    gone = self.bus.unsubscribe(self.seats[place % len(self.seats)])
                    self.trace.append(("unsubscribed", gone))
            case UnsubscribeAll(component):
                self.trace.append(("unsubscribed all", self.bus.unsubscribe_all(component)))
            case _:
                raise NotImplementedError(act)

    async def _subscribe(self, asked: Subscribe) -> None:
        place = len(self.seats)
        subscription = await self.bus.subscribe(
            asked.event,
            asked.component,
            partial(self._handle if asked.waits else self._handle_now, place, asked),
            priority=asked.priority,
            filter=None if asked.filter == "none" else partial(self._accept, place, asked),
            once=asked.once,
        )
        self.seats.append(subscription)

    async def _publish(self, act: Publish) -> None:
        reset = depth.set(depth.get() + 1)
        try:
            failures = await self.bus.publish(
                act.event, act.event, delivery=act.delivery, on_error=act.on_error
            )
        except Boom as boom:
            self.trace.append(("raised", boom.args))
            raise
        except get_cancelled_exc_class():
            self.trace.append("cancelled")
            raise
        finally:
            depth.reset(reset)
        told = [(self.seats.index(each.subscription), each.exception.args) for each in failures]
        self.trace.append(("returned", told))

    def _accept(self, place: int, asked: Subscribe, event: str, _: object) -> bool:
        self.trace.append(("asked", place, event))
        if asked.filter == "raises":
            raise Boom("filter", place)
        if asked.filter == "unsubscribes":
            self.bus.unsubscribe(self.seats[place])
        return asked.filter != "refuses"

    def _handle_now(self, place: int, asked: Subscribe, data: Any) -> None:
        number = self._start(place, data)
        for act in asked.does:
            self._do_now(act)
        if asked.fails:
            raise Boom(number)

    async def _handle(self, place: int, asked: Subscribe, data: Any) -> None:
        number = self._start(place, data)
        gate = self.gates[number] = Event()
        try:
            await gate.wait()
        except get_cancelled_exc_class():
            if asked.fails_cancelled:
                raise Boom(*IN_CLEANUP) from None
            raise
        finally:
            del self.gates[number]
        for act in asked.does:
            await self._do(act)
        if asked.fails:
            raise Boom(number)

    def _start(self, place: int, data: Any) -> int:
        told = data if isinstance(data, str) else data["exception"].args
        self.trace.append(("started", place, told))
        self.starts += 1
        return self.starts


def in_one_order(trace: list[Any]) -> list[Any]:
    """Sort what has happened in any order."""
    return sorted(trace, key=repr)


async def run(program: list[tuple[Step, Any]]) -> None:
    """Do on the real bus what a model has done."""
    async with create_task_group() as group:
        bus = Bus(group)
        with logged(lambda failure, _: bus.trace.append(("logged", failure.args))):
            for step, (trace, ordered, *rest) in program:
                await bus.perform(step)
                expected = (trace if ordered else in_one_order(trace), ordered, *rest)
                assert bus.look(ordered=ordered) == expected


ends = st.one_of(
    st.builds(Unsubscribe, st.integers(0, 9)),
    st.builds(UnsubscribeAll, st.sampled_from(COMPONENTS)),
)
publishes = st.builds(
    Publish, st.sampled_from(NAMES), st.sampled_from(MODES), st.sampled_from(POLICIES)
)


def subscribes(
    does: st.SearchStrategy[Act], waits: st.SearchStrategy[bool], *filters: str
) -> st.SearchStrategy[Subscribe]:
    """Draw a subscription."""
    return st.builds(
        Subscribe,
        event=st.sampled_from(PATTERNS),
        component=st.sampled_from(COMPONENTS),
        priority=st.integers(1, 5),
        once=st.sampled_from([False, False, True]),
        filter=st.sampled_from(["none", *filters]),
        does=st.lists(does, max_size=2).map(tuple),
        waits=waits,
        fails=st.sampled_from([False, False, True]),
        fails_cancelled=st.booleans(),
    )


# A handler that has something to do which may take time waits at a gate before.
simple = subscribes(ends, st.booleans())
full = subscribes(
    st.one_of(publishes, simple, ends),
    st.just(value=True),
    *("none", "accepts", "refuses", "raises", "unsubscribes"),
)


class BusMachine(RuleBasedStateMachine):
    """A program, drawn with the model at hand; in the end it is run on the real bus.

    Args:
        backend: on which.
    """

    def __init__(self, backend: str) -> None:
        super().__init__()
        self._backend = backend
        self._model = Model()
        self._program: list[tuple[Step, Any]] = []
        self._schedule: list[int] = []

    def _perform(self, step: Step) -> None:
        self._model.perform(step)
        self._program.append((step, self._model.look()))

    @initialize(
        asked=st.lists(full, min_size=2, max_size=6),
        schedule=st.lists(st.integers(0, 3), max_size=20),
    )
    def begin(self, asked: list[Subscribe], schedule: list[int]) -> None:
        """Subscribe a few, or few publishes would find anybody."""
        self._schedule = schedule
        for each in asked:
            self._perform(each)

    @rule(act=st.one_of(simple, full, full, ends))
    def subscribe_or_unsubscribe(self, act: Act) -> None:
        """Change who is subscribed."""
        self._perform(act)

    @rule(act=publishes)
    def publish(self, act: Publish) -> None:
        """Publish, perhaps while other publishes wait for their handlers."""
        self._perform(act)

    @precondition(lambda self: self._model.waiting)
    @rule(place=st.integers(0, 9))
    def open(self, place: int) -> None:
        """Let a handler go on."""
        self._perform(Open(self._one_of(self._model.waiting, place)))

    @precondition(lambda self: self._model.tasks)
    @rule(place=st.integers(0, 9))
    def cancel(self, place: int) -> None:
        """Cancel one of the publishes that overlap."""
        self._perform(Cancel(self._one_of(self._model.tasks, place)))

    def _one_of(self, numbers: Iterable[int], place: int) -> int:
        known = sorted(numbers)
        return known[place % len(known)]

    def teardown(self) -> None:
        """Bring everything to its end, and do the same with the real bus."""
        for _ in range(MOST_OPENED):
            if self._model.waiting:
                self._perform(Open(min(self._model.waiting)))
        while self._model.tasks:
            self._perform(Cancel(min(self._model.tasks)))
        replay(
            partial(run, self._program), backend=self._backend, decisions=self._schedule
        )


def test_any_program_goes_as_in_the_model(backend: str) -> None:
    """B4 B5 B6 B8 B9 B11 D1 D2 D3 D4 E1 E2 E3 E4 E5 E7: all is as in the model, step by step."""
    run_state_machine_as_test(partial(BusMachine, backend))  # type: ignore[arg-type]
