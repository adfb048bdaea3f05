"""A walk through all that can be subscribed and ended, beside a model of it (B, A1, S1)."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from hypothesis import strategies as st

from flexiflow import NoAnswer
from flexiflow.testing._bus.trace import matches
from flexiflow.testing._examiner.kit import Boom, Both, claim
from flexiflow.testing._examiner.program import Program
from flexiflow.testing._examiner.steps import without_one

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flexiflow import EventBus, EventStream, Subscription

    Move: TypeAlias = tuple[str, *tuple[Any, ...]]
    Shown: TypeAlias = list[tuple[str, int]]

EVENTS: Final = ("a", "a.b", "a.b.c")
"""What walks publish."""


class Row:
    """What was subscribed in a walk, and whether it is there.

    Args:
        event: its event, pattern, or query.
        priority: its priority.
        component: its component; "" of a stream.
        kind: "handler", "once", "answerer" or "stream".
    """

    def __init__(self, event: str, priority: int, component: str, kind: str) -> None:
        self.event, self.priority = event, priority
        self.component, self.kind = component, kind
        self.is_there = True
        self.heard = 0
        self.made: Subscription | None = None
        self.stream: EventStream[Any] | None = None
        self.block = AsyncExitStack()


class Walk:
    """A bus, and a model of what is subscribed to it.

    Args:
        bus: the bus.
        clause: the clause for which it claims something.
        blocks: what ends with the walk.
    """

    def __init__(self, bus: EventBus, clause: str, blocks: AsyncExitStack) -> None:
        self.bus, self.clause, self.blocks = bus, clause, blocks
        self.rows: list[Row] = []
        self.heard: list[Row] = []

    def claim(self, clauses: str, given: object, expected: object, what: str) -> None:
        """Claim for a clause that something is as expected."""
        if self.clause in clauses.split():
            claim(given == expected, f"{what} {given!r}, not {expected!r}")

    async def subscribe(self, event: str, priority: int, component: str, kind: str) -> None:
        """Subscribe a handler, or begin a stream."""
        row = Row(event, priority, component, kind)
        await self.blocks.enter_async_context(row.block)

        async def handler(data: object) -> None:
            row.is_there = row.is_there and row.kind != "once"
            # A bus may publish events of its own.
            self.heard += [row] * (data == "it")

        if kind == "stream":
            if not hasattr(self.bus, "stream"):
                return
            row.component = ""
            events = self.bus.stream(event, priority=priority)
            row.stream = await row.block.enter_async_context(events)
        else:
            options: dict[str, Any] = {"once": True} if kind == "once" else {}
            # A bus need not have all that `EventBus` has.
            call = self.bus.subscribe(event, component, handler, priority=priority, **options)
            if hasattr(call, "__aenter__"):
                row.made = await row.block.enter_async_context(call)
            else:
                row.made = await call
                row.block.enter_context(row.made)
        self.rows.append(row)

    async def answer(self, query: str, component: str) -> None:
        """Answer a query, if nobody does."""
        if not hasattr(self.bus, "answer") or any(self.answering(query)):
            return
        row = Row(query, 3, component, "answerer")
        await self.blocks.enter_async_context(row.block)
        number = len(self.rows)

        async def handler(data: object) -> int:
            return number

        row.made = await self.bus.answer(query, component, handler)
        row.block.enter_context(row.made)
        self.rows.append(row)

    def answering(self, query: str) -> list[Row]:
        """Return who answers a query."""
        return [
            each
            for each in self.rows
            if each.is_there and each.kind == "answerer" and each.event == query
        ]

    async def end(self, number: int, how: str) -> None:
        """End something, in one of several ways."""
        if not self.rows:
            return
        row = self.rows[number % len(self.rows)]
        was_there, row.is_there = row.is_there, False
        if how == "unsubscribe" and row.made is not None:
            removed = self.bus.unsubscribe(row.made)
            self.claim("B6", removed, was_there, "unsubscribe returned")
        elif how == "by an exception":
            with suppress(Boom):
                async with row.block:
                    raise Boom
        else:
            await row.block.aclose()

    def empty(self, component: str) -> None:
        """End all of a component."""
        mine = [each for each in self.rows if each.is_there and each.component == component]
        count = self.bus.unsubscribe_all(component)
        for each in mine:
            each.is_there = False
        self.claim("B6", count, len(mine), f"unsubscribe_all({component!r}) returned")

    def audience(self, event: str) -> list[Row]:
        """Return whom an event reaches, in order."""
        there = [each for each in self.rows if each.is_there and each.kind != "answerer"]
        return sorted(
            (each for each in there if matches(each.event, event)),
            key=lambda each: each.priority,
        )

    async def publish(self, event: str) -> None:
        """Publish an event, and compare whom it reached."""
        audience = self.audience(event)
        for each in audience:
            each.heard += each.kind == "stream"
        self.heard = []
        await self.bus.publish(event, "it", delivery="sequential")
        expected = [self.rows.index(each) for each in audience if each.kind != "stream"]
        given = [self.rows.index(each) for each in self.heard]
        self.claim("B5 B10", given, expected, f"of all that was subscribed, {event!r} reached")

    async def ask(self, query: str) -> None:
        """Ask a query, and compare who answered."""
        if not hasattr(self.bus, "ask"):
            return
        expected = [self.rows.index(each) for each in self.answering(query)]
        given: list[object] = []
        with suppress(NoAnswer):
            given = [await self.bus.ask(query, "it")]
        self.claim("A1", given, expected, f"of all that was made, {query!r} was answered by")

    def look(self) -> None:
        """Compare what is there with what is shown, and what each is with what it shows."""
        for each in self.rows:
            if each.made is not None:
                told = f"whether one to {each.event!r} is active is"
                self.claim("B6", each.made.active, each.is_there, told)
            if each.stream is not None:
                count = each.stream.statistics().received
                self.claim("S1", count, each.heard, f"a stream of {each.event!r} received")
        if self.clause != "B12":
            return
        there = [each for each in self.rows if each.is_there]
        for component in (None, "c", "d"):
            for event in (None, *EVENTS):
                found = self.bus.subscriptions(event, component=component)
                known = there if event is None else self.audience(event)
                mine = [each for each in known if component in (None, each.component)]
                given = [(each.event_name, each.priority) for each in found]
                expected = [(each.event, each.priority) for each in mine]
                told = f"of {component or 'all'}, subscriptions({event!r}) shows"
                self.claim("B12", given, expected, told)


async def walks(bus: EventBus, *, clause: str, moves: tuple[Move, ...]) -> None:
    """After each move, what is subscribed is what a model says."""
    async with AsyncExitStack() as blocks:
        walk = Walk(bus, clause, blocks)
        for what, *given in moves:
            if what == "watch":
                if hasattr(bus, "add_instrument"):
                    bus.add_instrument(Both())
            elif what == "empty":
                walk.empty(*given)
            else:
                await getattr(walk, what)(*given)
            walk.look()


@dataclass(frozen=True)
class WalkScript(Program):
    """A walk, which can be made smaller."""

    def smaller(self) -> Iterator[WalkScript]:
        """Yield walks with a move less."""
        given = dict(self.given)
        for moves in without_one(given["moves"]):
            yield walk_of(given["clause"], moves)


def walk_of(clause: str, moves: tuple[Move, ...]) -> WalkScript:
    """Return a walk for a clause."""
    return WalkScript(walks, (("clause", clause), ("moves", moves)))


_components = st.sampled_from(("c", "d"))
_events = st.sampled_from(EVENTS)
_subscribes = st.tuples(
    st.just("subscribe"),
    st.sampled_from(("a", "a.b", "a.*", "*.b", "a.**", "**", "a.*.c")),
    st.sampled_from((3, 1, 5)),
    _components,
    st.sampled_from(("handler", "handler", "once", "stream")),
)
_answers = st.tuples(st.just("answer"), _events, _components)
_ends = st.tuples(
    st.just("end"),
    st.sampled_from(range(4)),
    st.sampled_from(("unsubscribe", "by an exception", "by its end")),
)
_moves = st.one_of(
    _subscribes.map(tuple),
    _answers,
    _ends,
    _ends.map(tuple),
    st.tuples(st.just("empty"), _components),
    st.tuples(st.just("publish"), _events),
    st.tuples(st.just("ask"), _events),
    st.sampled_from([("watch",)]),
)


def _walk(clause: str, first: list[Move], then: list[Move]) -> Program:
    return walk_of(clause, (*first, *then))


def walking(clause: str) -> st.SearchStrategy[Program]:
    """Draw walks for a clause."""
    first = st.lists(st.one_of(_subscribes, _subscribes, _answers), min_size=2, max_size=4)
    then = st.lists(_moves, min_size=3, max_size=8)
    return st.builds(_walk, st.just(clause), first, then)
