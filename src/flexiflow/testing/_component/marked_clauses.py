"""The clauses of the bus, as methods that are marked with `on` or `answers` keep them."""

from __future__ import annotations

from inspect import unwrap
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio

from flexiflow import DuplicateAnswer, NoAnswer, answers, on
from flexiflow.testing._bus import around_clauses, asking_clauses, clauses, limit_clauses
from flexiflow.testing._component.parts import MARKED, answer, hear
from flexiflow.testing._examiner.clause import Clause, programs
from flexiflow.testing._examiner.kit import Boom, claim, refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flexiflow import Component, Engine, Event, EventBus, Subscription
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]
    Options: TypeAlias = dict[str, Any]


def is_even(_: str, number: int) -> bool:
    """Accept each second payload, as a filter."""
    return number % 2 == 0


def fails(_: str, number: int) -> bool:
    """Accept a payload, or raise, as a filter."""
    if number == 0:
        raise Boom
    return True


async def twice(_: Event[Any], __: Subscription, call: Callable[[], Awaitable[object]]) -> None:
    """Call what it is around two times."""
    await call()
    await call()


async def spares(event: Event[Any], _: Subscription, call: Callable[[], Awaitable[object]]) -> None:
    """Call what it is around only for some payloads."""
    if event.data != 1:
        await call()


def kind_of(new: Factories) -> Any:
    """Return the class of components."""
    return unwrap(new.component)


def hearing(heard: Heard, name: str) -> Callable[[Component, Any], Any]:
    """Return a method that takes 2 seconds, and notes when it begins and ends, and how."""
    begin = anyio.current_time()

    def note(component: Component, what: object, number: object) -> None:
        heard.append((round(anyio.current_time() - begin, 3), component.name, name, what, number))

    async def hear(component: Component, number: object) -> str:
        note(component, "begins", number)
        end = "is left"
        try:
            await anyio.sleep(2)
            end = "ends"
        finally:
            note(component, end, number)
        if number == 3:
            raise Boom
        return name

    return hear


class Host:
    """An engine with components that hear "tick", each with several methods.

    Args:
        new: what makes engines and components.
        options: those of each method.
        marks: whether the methods are marked, or else subscribed when a component is there.
    """

    def __init__(self, new: Factories, options: tuple[Options, ...], *, marks: bool) -> None:
        self.engine: Engine = new.engine()
        self.heard: Heard = []
        self.marks, self.options = marks, options
        self.methods = {
            f"checker_{at}": hearing(self.heard, f"m{at}") for at in range(len(options))
        }
        marked = [on("tick", **each) for each in options]
        own = {
            name: mark(method)
            for mark, (name, method) in zip(marked, self.methods.items(), strict=True)
        }
        self.kind = type("Hearing", (kind_of(new),), own if marks else {})

    async def register(self, name: str) -> None:
        """Register a component; if its methods are not marked, subscribe them."""
        component: Component = self.kind(name)
        await self.engine.register(component)
        if not self.marks:
            for options, method in zip(self.options, self.methods.values(), strict=True):
                bound = MethodType(method, component)
                await self.engine.bus.subscribe("tick", name, bound, **options)

    async def publish(self, number: int) -> None:
        """Publish "tick"; note what fails."""
        failures = await self.engine.bus.publish(
            "tick", number, delivery="sequential", on_error="continue"
        )
        failed = [(each.component_name, type(each.exception).__name__) for each in failures]
        self.heard.append((number, failed))


async def hears(
    new: Factories, options: tuple[Options, ...], meanwhile: str, *, marks: bool
) -> Heard:
    """Return what is heard of five publishes, while something happens to a component."""
    host = Host(new, options, marks=marks)
    for name in "ab":
        await host.register(name)
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(host.publish, number)
            await anyio.sleep(0.3 + number)
            if number == 1 and meanwhile != "nothing":
                await host.engine.unregister("a")
                if meanwhile == "registered again":
                    await host.register("a")
    return host.heard


async def hears_as_subscribed(
    new: Factories, *, options: tuple[Options, ...], meanwhile: str
) -> None:
    """A marked method hears what it would if it were subscribed, in the same way."""
    try:
        expected = await hears(new, options, meanwhile, marks=False)
    except TypeError:
        return  # this bus lacks an option
    heard = await hears(new, options, meanwhile, marks=True)
    told = f"with {meanwhile} meanwhile, methods that are marked heard {heard}"
    claim(heard == expected, f"{told}, those that are subscribed {expected}")


def marked_clause(clause: Clause, *options: tuple[Options, ...]) -> Clause:
    """Return a clause of the bus, tried with marked methods that have some options."""
    meanwhile = ("nothing", "unregistered", "registered again")
    cases = programs(hears_as_subscribed, options=options, meanwhile=meanwhile)
    return clause.tried_with(cases, needs=(MARKED,))


B4 = marked_clause(
    clauses.B4,
    ({"priority": 4}, {"priority": 2}, {}),
    ({}, {"priority": 5}, {"priority": 3}),
    ({"priority": 2}, {"priority": 1}, {"priority": 2}),
)
B8 = marked_clause(
    clauses.B8,
    ({"filter": is_even}, {}),
    ({}, {"filter": fails}),
    ({"filter": fails}, {"filter": is_even}),
)
B9 = marked_clause(
    clauses.B9,
    ({"once": True}, {}),
    ({}, {"once": True, "priority": 1}),
    ({"once": True, "filter": fails}, {"once": True}),
)
V1 = marked_clause(
    limit_clauses.V1,
    ({"time_limit": 1.47}, {}),
    ({"time_limit": 2.53}, {"time_limit": 0.71, "once": True}),
    ({"time_limit": 1.47, "limit": 1, "filter": fails}, {"time_limit": 1.13, "around": (twice,)}),
)
V2 = marked_clause(
    limit_clauses.V2,
    ({"limit": 1},),
    ({"limit": 2}, {"limit": 1, "priority": 1}),
    ({"limit": 1, "once": True}, {"limit": 1, "around": (spares,)}),
)
A3 = marked_clause(
    around_clauses.A3,
    ({"around": (twice,)}, {}),
    ({}, {"around": (spares, twice)}),
)


# B13


async def marks_one_class(new: Factories, *, heard: Heard) -> None:
    """What a subclass marks, or marks no more, changes no other class."""
    both = on("tick")(on("tock")(hear))
    base: Any = type(
        "Base",
        (kind_of(new),),
        {"checker_heard": heard, "checker_hear": both, "checker_other": hear},
    )
    more = type("More", (base,), {"checker_other": on("tack")(base.checker_other)})
    less = type("Less", (base,), {"checker_hear": hear})
    mixin = type("Mixin", (), {"checker_hear": on("tack")(on("tuck")(hear))})
    mixed = type("Mixed", (mixin, base), {})
    engine = new.engine()
    kinds = (("base", base), ("more", more), ("less", less), ("mixed", mixed))
    for name, kind in kinds:
        await engine.register(kind(name))
    for event in ("tick", "tock", "tack", "tuck"):
        await engine.bus.publish(event, event, delivery="sequential", on_error="continue")
    expected = [("base", "tick"), ("more", "tick"), ("base", "tock"), ("more", "tock")]
    expected += [("more", "tack"), ("mixed", "tack"), ("mixed", "tuck")]
    claim(heard == expected, f"marked in classes of several kinds, methods heard {heard}")


async def refuses_what_is_marked_late(new: Factories, *, heard: Heard) -> None:
    """A mark that is set on a class after it was made is a `TypeError` at `register`."""
    late: Any = type(
        "Late", (kind_of(new),), {"checker_heard": heard, "checker_hear": on("tick")(hear)}
    )
    late.checker_other = on("tock")(hear)
    engine = new.engine()
    with refused(TypeError, "a method that was marked too late is taken"):
        await engine.register(late("a"))
    await engine.bus.publish("tick", 1, delivery="sequential", on_error="continue")
    claim(heard == [], f"a component that was refused heard {heard}")
    claim("a" not in engine.components, "a component that was refused is there")


B13 = Clause(
    "B13",
    "a mark is for one class",
    "`on` marks a method for the class that it stands in and its subclasses; marking a function of "
    "a class that is made already gives a new function, so that no other class changes. One that "
    "is set on a class after it was made is a `TypeError` at `register`.",
    programs(marks_one_class, refuses_what_is_marked_late),
    needs=(MARKED,),
)


# A1, A2


def answering(new: Factories, heard: Heard, **options: Any) -> Any:
    """Return a class of components that answer "price" after 2 seconds, and hear "tick"."""

    class Answering(kind_of(new)):  # type: ignore[misc]
        @on("tick")
        def checker_hear(self, data: object) -> None:
            heard.append((self.name, data))

        @answers("price", **options)
        async def checker_answer(self, data: object) -> object:
            heard.append(("asked", data))
            await anyio.sleep(2)
            if data == "odd":
                raise Boom
            return self.name, data

    return Answering


async def asked(bus: EventBus, heard: Heard, question: object) -> None:
    """Ask for a price; note what comes, and when."""
    begin = anyio.current_time()
    try:
        came = await bus.ask("price", question)
    except Exception as error:  # noqa: BLE001
        came = type(error).__name__
    heard.append((came, round(anyio.current_time() - begin, 3)))


async def answers_one_after_another(new: Factories, *, heard: Heard, options: Options) -> None:
    """A marked method answers, within its time, to so many at once; it ends with its component."""
    engine = new.engine()
    await engine.register(answering(new, [], **options)("a"))
    async with anyio.create_task_group() as group:
        for question in ("one", "odd"):
            group.start_soon(asked, engine.bus, heard, question)
    is_late = "time_limit" in options
    last = 4.0 if options == {"limit": 1} else 2.0
    came = ["HandlerTimeout", "HandlerTimeout"] if is_late else [("a", "one"), "Boom"]
    expected = [(came[0], 1.0 if is_late else 2.0), (came[1], 1.0 if is_late else last)]
    claim(heard == expected, f"asked twice at once, one with {options} gave {heard}")
    await engine.unregister("a")
    await asked(engine.bus, heard, "late")
    told = f"asked for what only one that was unregistered answers, there came {heard[-1]}"
    claim(heard[-1][0] == NoAnswer.__name__, told)


async def refuses_a_second_answerer(new: Factories, *, heard: Heard, way: str) -> None:
    """A second answerer is refused with `DuplicateAnswer`, and registers nothing."""
    kind = answering(new, heard)
    two = type("Two", (kind,), {"checker_again": answers("price")(answer)})
    engine = new.engine(component_factory=two if way == "two of its own, made" else kind)
    if way == "another one's":
        await engine.register(kind("other"))
    elif way == "another one's, made":
        await engine.send("other", {"type": "go"})
    with refused(DuplicateAnswer, f"a second answerer was taken ({way})"):
        if way.endswith("made"):
            await engine.send("a", {"type": "go"})
        else:
            await engine.register((two if way == "two of its own" else kind)("a"))
    await engine.bus.publish("tick", 1, delivery="sequential", on_error="continue")
    others = [name for name in ("other",) if way.startswith("another")]
    claim([*engine.components] == others, f"refused ({way}), it left {[*engine.components]}")
    told = f"after one that was refused ({way}), tick was heard by {heard}"
    claim(heard == [(name, 1) for name in others], told)
    heard.clear()
    await asked(engine.bus, heard, 1)
    expected = [("asked", 1), (("other", 1), 2.0)] if others else [("NoAnswer", 0.0)]
    claim(heard == expected, f"after one that was refused ({way}), asked came {heard}")


async def answers_no_publish(new: Factories, *, heard: Heard) -> None:
    """A publish reaches no answerer, a question no subscription."""
    engine = new.engine()
    await engine.register(answering(new, heard)("a"))
    await engine.bus.publish("price", 1, delivery="sequential", on_error="continue")
    claim(heard == [], f"of a publish an answerer heard {heard}")
    with refused(NoAnswer, "a question reached a method that is no answerer"):
        await engine.bus.ask("tick", 1)
    claim(heard == [], f"of a question a subscription heard {heard}")


WAYS: Final = (
    "two of its own",
    "another one's",
    "two of its own, made",
    "another one's, made",
)
A1 = asking_clauses.A1.tried_with(
    programs(
        answers_one_after_another,
        refuses_a_second_answerer,
        options=({}, {"limit": 1}, {"time_limit": 1.0}, {"limit": 2}),
        way=WAYS,
    ),
    needs=(MARKED,),
)
A2 = asking_clauses.A2.tried_with(
    programs(answers_no_publish, refuses_a_second_answerer, way=WAYS),
    needs=(MARKED,),
)
