"""The bus, compared with its model: any program, with publishes that overlap and are nested."""

from __future__ import annotations

import gc
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from weakref import ref

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from flexiflow import EventBus, HandlerCancelled
from flexiflow.events import HANDLER_FAILED
from flexiflow.testing._bus.script import Publish, Unsubscribe, UnsubscribeAll
from properties.bus_model import ModelBus
from properties.programs import ModelStage, ProgramMachine, World
from tests.accounting import POLICIES, Boom
from tests.attacks import kept_cancellation
from tests.helpers import MODES

if TYPE_CHECKING:
    import logging

    from properties.programs import Stage

DEEPEST = 3
"""How many publishes may be inside each other."""

NAMES = ("a", "a.b", "b")
PATTERNS = (*NAMES, "a.*", "a.**", "**", HANDLER_FAILED)
COMPONENTS = ("one", "two", "three")

depth = ContextVar("depth", default=0)


@dataclass(frozen=True)
class Subscribe:
    """Make a subscription.

    A handler that waits does so before it does anything else. So only one runs at a time, and what
    happens is determined, even if publishes overlap.

    Attributes:
        does: what its handler does.
        waits: whether the handler first waits at a gate.
        ends: how the handler ends; "strays" is by a stray cancellation (E6).
        fails_cancelled: whether it fails if it is cancelled at its gate.
    """

    event: str
    component: str
    priority: int
    once: bool
    filter: Literal["none", "accepts", "refuses", "raises", "unsubscribes"]
    does: tuple[Act, ...]
    waits: bool
    ends: Literal["returns", "fails", "strays"]
    fails_cancelled: bool


Act: TypeAlias = Subscribe | Unsubscribe | UnsubscribeAll | Publish


class BusWorld(World):
    """A bus, or a model of one, and handlers that note what happens.

    Args:
        stage: where they run.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.model = ModelBus(self._log)
        self.bus: Any = self.model if isinstance(stage, ModelStage) else EventBus()
        self._seats: list[Any] = []
        self._handlers: list[ref[Any]] = []
        self._starts = 0

    def emit(self, record: logging.LogRecord) -> None:
        assert record.exc_info is not None
        self._log(record.exc_info[1])

    def _log(self, failure: Any) -> None:
        self.trace.append(("logged", told(failure)))

    def is_unordered(self) -> bool:
        unordered, self.model.in_any_order = self.model.in_any_order, False
        return unordered

    async def do(self, act: Act) -> None:
        try:
            await self._do(act)
        except (Boom, HandlerCancelled):
            assert isinstance(act, Publish)

    def state(self) -> object:
        active = [seat for seat in self._seats if seat.active]
        assert isinstance(self.bus, ModelBus) or {*self.bus.subscriptions()} == {*active}
        return [seat.active for seat in self._seats]

    def end(self) -> None:
        left = sum(seat.active for seat in self._seats)
        assert not any(map(EventBus().unsubscribe, self._seats))
        assert sum(map(self.bus.unsubscribe_all, COMPONENTS)) == left
        self._seats.clear()
        # Collecting takes as long as all the rest, so only few programs do it.
        if self._starts % 8 == 1:
            gc.collect()
            assert [each() for each in self._handlers if each() is not None] == []

    async def _do(self, act: Act) -> None:
        match act:
            case Subscribe():
                await self._subscribe(len(self._seats), act)
            case Publish():
                if depth.get() < DEEPEST:
                    await self._publish(act)
            case _:
                self._unsubscribe(act)

    def _unsubscribe(self, act: Act) -> None:
        match act:
            case Unsubscribe(place):
                if self._seats:
                    gone = self.bus.unsubscribe(self._seats[place % len(self._seats)])
                    self.trace.append(("unsubscribed", gone))
            case UnsubscribeAll(component):
                self.trace.append(("unsubscribed all", self.bus.unsubscribe_all(component)))
            case _:
                raise NotImplementedError(act)

    async def _subscribe(self, place: int, act: Subscribe) -> None:
        # A handler that waits for nothing is a sync function, which only the real bus tells apart.
        is_plain = act.ends != "strays" and not act.waits and self.bus is not self.model
        handler = partial(self._handle_now if is_plain else self._handle, place, act)
        self._handlers.append(ref(handler))
        seat = await self.bus.subscribe(
            act.event,
            act.component,
            handler,
            priority=act.priority,
            filter=None if act.filter == "none" else partial(self._decide, place, act),
            once=act.once,
        )
        self._seats.append(seat)

    async def _publish(self, act: Publish) -> None:
        reset = depth.set(depth.get() + 1)
        try:
            failures = await self.bus.publish(
                act.event, act.event, delivery=act.delivery, on_error=act.on_error
            )
        except (Boom, HandlerCancelled) as exc:
            self.trace.append(("raised", told(exc)))
            raise
        except self.stage.cancellation:
            self.trace.append("cancelled")
            raise
        finally:
            depth.reset(reset)
        returned = [
            (self._seats.index(each.subscription), told(each.exception)) for each in failures
        ]
        self.trace.append(("returned", returned))

    def _decide(self, place: int, act: Subscribe, event: str, _: object) -> bool:
        self.trace.append(("asked", place, event))
        if act.filter == "raises":
            raise Boom("filter", place)
        if act.filter == "unsubscribes":
            self.bus.unsubscribe(self._seats[place])
        return act.filter != "refuses"

    def _handle_now(self, place: int, act: Subscribe, data: Any) -> None:
        number = self._start(place, data)
        for each in act.does:
            self._unsubscribe(each)
        if act.ends == "fails":
            raise Boom(number)

    async def _handle(self, place: int, act: Subscribe, data: Any) -> None:
        number = self._start(place, data)
        try:
            if act.waits:
                await self.stage.wait(number)
        except self.stage.cancellation:
            if act.fails_cancelled:
                # All alike, since cleanups come in any order.
                raise Boom("in cleanup") from None
            raise
        for each in act.does:
            await self._do(each)
        if act.ends == "fails":
            raise Boom(number)
        if act.ends == "strays":
            raise Boom("strays") if self.bus is self.model else await kept_cancellation()

    def _start(self, place: int, data: Any) -> int:
        what = data if isinstance(data, str) else told(data["exception"])
        self.trace.append(("started", place, what))
        self._starts += 1
        return self._starts


def told(failure: Exception) -> object:
    """Return what is compared of a failure, equal to that of the model's."""
    return ("strays",) if isinstance(failure, HandlerCancelled) else failure.args


ends = st.one_of(
    st.builds(Unsubscribe, st.integers(0, 9)),
    st.builds(UnsubscribeAll, st.sampled_from(COMPONENTS)),
)
publishes = st.builds(
    Publish, st.sampled_from(MODES), st.sampled_from(POLICIES), st.sampled_from(NAMES)
)


def subscribes(
    does: st.SearchStrategy[Act], waits: st.SearchStrategy[bool], *ends: str
) -> st.SearchStrategy[Subscribe]:
    """Draw a subscription."""
    return st.builds(
        Subscribe,
        event=st.sampled_from(PATTERNS),
        component=st.sampled_from(COMPONENTS),
        priority=st.integers(1, 5),
        once=st.sampled_from([False, False, True]),
        filter=st.sampled_from(["none"] * 4 + ["accepts", "refuses", "raises", "unsubscribes"]),
        does=st.lists(does, max_size=2).map(tuple),
        waits=waits,
        ends=st.sampled_from(["returns", *ends]),
        fails_cancelled=st.booleans(),
    )


simple = subscribes(ends, st.booleans(), "fails")
full = subscribes(st.one_of(publishes, simple, ends), st.just(value=True), "fails", "strays")


class BusMachine(ProgramMachine):
    """Programs of a bus."""

    @initialize(acts=st.lists(full, min_size=2, max_size=6))
    def begin(self, acts: list[Act]) -> None:
        """Subscribe a few handlers first, or few publishes would reach any."""
        for act in acts:
            self.perform(act)

    @rule(act=st.one_of(simple, full, full, ends))
    def subscribe_or_unsubscribe(self, act: Act) -> None:
        self.perform(act)

    @rule(act=publishes)
    def publish(self, act: Publish) -> None:
        self.perform(act)


def test_any_program_goes_as_in_the_model() -> None:
    """B4 to B6, B8, B9, B11, D1 to D4, E1 to E7: all is as in the model, step by step."""
    run_state_machine_as_test(partial(BusMachine, BusWorld))  # type: ignore[arg-type]
