"""The clause on states that end after some time, with its programs (M2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from flexiflow import State, StateMachine, Transition
from flexiflow.testing._component import journeys, timing_programs
from flexiflow.testing._component import leaving_programs as leaving
from flexiflow.testing._component import storing_programs as storing
from flexiflow.testing._component.journeys import SHARE
from flexiflow.testing._component.making_programs import refuses_bad_times
from flexiflow.testing._component.parts import Shelf, engine_over
from flexiflow.testing._examiner.clause import Clause, each_of
from flexiflow.testing._examiner.kit import claim, log_kept

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow import Component, Engine
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]
    Message: TypeAlias = Mapping[str, Any]


def machine_with_timer(heard: Heard, *, target: str | None = "s2") -> StateMachine:
    """Return a strict machine whose state "s1" is left, or just noted, after 5 seconds."""

    async def take_time(message: Message, _: object) -> None:
        await anyio.sleep(message.get("takes", 0))

    async def guard(message: Message, _: object) -> bool:
        await anyio.sleep(message.get("guarded", 0))
        return True

    def note(message: Message, _: object) -> None:
        heard.append((message, anyio.current_time()))

    rows = [
        Transition("s0", "go", "s1", action=take_time),
        Transition("s1", "late", target, action=note),
        Transition("s1", "back", "s0", guard=guard, action=take_time),
        Transition("s1", "again", "s1", guard=guard, action=take_time),
        Transition("s1", "note", None, action=take_time),
        Transition("s2", "leave", "s0"),
    ]
    if target is None:
        rows.append(Transition("s1", "leave", "s2"))
    return StateMachine("s0", rows, strict=True, states=[State("s1", after=(5.0, "late"))])


async def watch_failures(engine: Engine, heard: Heard) -> None:
    """Note the failures that are published, and the messages from timers that are."""

    def note(data: Any) -> None:
        if data["message"]["type"] == "late":
            heard.append(data["message"])

    await engine.bus.subscribe("event.handler.failed", "o", heard.append)
    await engine.bus.subscribe("component.message.received", "o", note)


async def sends_in_time(new: Factories, *, heard: Heard) -> None:
    """The trigger is sent so long after the commit, not after the message or its observers."""
    engine, component = await new.host([], machine=machine_with_timer(heard))

    async def observe(_: object) -> None:
        await anyio.sleep(2)

    received: Heard = []
    await watch_failures(engine, received)
    await engine.bus.subscribe("state.changed", "o", observe, once=True)
    async with engine.running():
        begin = anyio.current_time()
        await engine.send("a", {"type": "go", "takes": 3})
        await anyio.sleep(20)
    told = f"committed after 3 s, a timer of 5 s sent (message, time): {heard}"
    claim(heard == [({"type": "late"}, begin + 8)], told)
    claim(received == [{"type": "late"}], f"of the message of a timer was published {received}")
    claim(component.state == "s2", f"after its timer it is in {component.state}")


async def drops_what_is_late(new: Factories, *, heard: Heard, way: str) -> None:
    """The message of a timer is dropped without a trace if its state is over."""
    engine, component = await new.host([], machine=machine_with_timer(heard))
    traces: Heard = []
    await watch_failures(engine, traces)
    slow = {"action": "takes", "guard": "guarded"}
    with log_kept() as records:
        async with engine.running():
            begin = anyio.current_time()
            await engine.send("a", {"type": "go"})
            await anyio.sleep(4)
            if way == "left":
                await engine.send("a", {"type": "back"})
            elif way in slow:
                await engine.send("a", {"type": "back", slow[way]: 2})
            else:
                await engine.send("a", {"type": "again", "takes": 2 * (way == "again, slowly")})
            await anyio.sleep(1.5)
            told = f"after a state with a timer was left or entered again ({way}), it sent {heard}"
            claim(heard == [], told)
            claim(traces == [], f"what a timer sent too late ({way}) was published as {traces}")
            await anyio.sleep(20)
    again = {"again": begin + 9, "again, slowly": begin + 11}
    times = [time for _, time in heard]
    expected = [again[way]] if way in again else []
    claim(times == expected, f"a timer that began anew ({way}) sent at {times}, not {expected}")
    logged = [each.getMessage() for each in records]
    claim(not logged, f"of what a timer sent too late ({way}) was logged {logged}")
    state = "s2" if way in again else "s0"
    claim(component.state == state, f"in the end ({way}) it is in {component.state}, not {state}")


async def sends_once(new: Factories, *, heard: Heard) -> None:
    """A timer sends once; internal transitions don't begin it again."""
    engine, _ = await new.host([], machine=machine_with_timer(heard, target=None))
    async with engine.running():
        begin = anyio.current_time()
        await engine.send("a", {"type": "go"})
        await anyio.sleep(3)
        await engine.send("a", {"type": "note"})
        await anyio.sleep(60)
        await engine.send("a", {"type": "note"})
        await anyio.sleep(60)
    times = [time - begin for _, time in heard]
    claim(times == [5], f"in a state that stays, a timer of 5 s sent after {times} s")


async def waits_in_line(new: Factories, *, heard: Heard) -> None:
    """The message of a timer takes its place in line like any other."""
    order: Heard = []

    async def note(message: Message, _: Component) -> None:
        order.append(message["type"])
        await anyio.sleep(2)

    rows = [
        Transition("s0", "go", "s1"),
        Transition("s1", "first", None, action=note),
        Transition("s1", "second", None, action=note),
        Transition("s1", "third", None, action=note),
        Transition("s1", "late", None, action=note),
    ]
    machine = StateMachine("s0", rows, states=[State("s1", after=(5.0, "late"))])
    engine, _ = await new.host(heard, machine=machine)
    async with engine.running():
        await engine.send("a", {"type": "go"})
        await anyio.sleep(4)
        async with anyio.create_task_group() as group:
            group.start_soon(engine.send, "a", {"type": "first"})
            await anyio.sleep(0.5)
            group.start_soon(engine.send, "a", {"type": "second"})
            await anyio.sleep(1)
            group.start_soon(engine.send, "a", {"type": "third"})
        await anyio.sleep(9)
    expected = ["first", "second", "late", "third"]
    claim(order == expected, f"a timer sent between the second and the third: {order}")


async def keeps_its_time(new: Factories, *, heard: Heard, pause: int) -> None:
    """The due time is stored; one that is overdue is sent at once, and once."""
    shelf, machine = Shelf(), machine_with_timer(heard, target=None)
    begin = anyio.current_time()
    for action in ("go", "wait", "wait"):
        engine = engine_over(new, shelf)
        if engine is None:
            return
        await engine.register(new.component("a", machine=machine))
        async with engine.running():
            if action == "go":
                await engine.send("a", {"type": "go"})
                await anyio.sleep(2)
            else:
                await anyio.sleep(10)
        await anyio.sleep(pause)
    times = [time - begin for _, time in heard]
    told = f"a timer of 5 s, in engines that ran for 2, 10 and 10 s, each {pause} s after the other"
    claim(times == [max(5, 2 + pause)], f"{told}, sent after {times} s")


async def goes_on_in_the_next_block(new: Factories, *, heard: Heard, pause: int) -> None:
    """A timer whose `running()` was left goes on in the next one; overdue, it sends at once."""
    engine, _ = await new.host([], machine=machine_with_timer(heard, target=None))
    begin = anyio.current_time()
    for action in ("go", "note", "note"):
        async with engine.running():
            await anyio.sleep(1)
            await engine.send("a", {"type": action})
            await anyio.sleep(9 * (action == "note"))
        await anyio.sleep(pause)
    times = [time - begin for _, time in heard]
    told = f"a timer of 5 s, begun after 1 s, whose running() was entered again {pause} s later"
    claim(times == [max(6, 1 + pause)], f"{told}, sent after {times} s")


async def loads_what_is_due(new: Factories, *, heard: Heard) -> None:
    """`running()` loads a component whose stored time comes."""
    shelf, machine = Shelf(), machine_with_timer(heard)

    def make(name: str) -> Component:
        return new.component(name, machine=machine)

    begin = anyio.current_time()
    for pause in (0, 20):
        engine = engine_over(new, shelf, component_factory=make)
        if engine is None:
            return
        async with engine.running():
            if not pause:
                await engine.send("a", {"type": "go"})
            await anyio.sleep(pause)
    times = [time - begin for _, time in heard]
    is_right = len(times) == 1 and 5 <= times[0] <= 9
    claim(is_right, f"a component that is due after 5 s was loaded, and handled that after {times}")
    claim(shelf.state("a") == "s2", f"loaded when it was due, it was saved in {shelf.state('a')}")


async def begins_at_the_start(new: Factories, *, heard: Heard) -> None:
    """The timer of the state in which a component begins starts with `running()`."""

    def note(_: object, __: object) -> None:
        heard.append(anyio.current_time() - begin)

    rows = [Transition("s0", "late", "s1", action=note)]
    machine = StateMachine("s0", rows, states=[State("s0", after=(5.0, "late"))])
    engine, _ = await new.host([], machine=machine)
    await anyio.sleep(9)
    begin = anyio.current_time()
    async with engine.running():
        await anyio.sleep(20)
    claim(heard == [5], f"in the state in which it began, a timer of 5 s sent after {heard}")


M2 = Clause(
    "M2",
    "a state may end after some time",
    "`after=(seconds, trigger)`: so long after the commit the component is sent "
    '`{"type": trigger}`, once, in line like any message; if the state was left or entered again '
    "before its turn comes, it is dropped without a trace. With a store the due time is kept; one "
    "that is overdue is sent at once, once; `running()` loads components whose stored time comes.",
    journeys.IN_TIME,
    scenes=each_of(
        storing.stores_that_it_was_sent,
        storing.sends_again_what_was_not_saved,
        takes=(False, True),
        fails=("before", "after"),
    )
    + each_of(
        sends_in_time,
        drops_what_is_late,
        sends_once,
        waits_in_line,
        keeps_its_time,
        goes_on_in_the_next_block,
        loads_what_is_due,
        begins_at_the_start,
        *timing_programs.MANY,
        refuses_bad_times,
        leaving.sends_again_what_was_cancelled,
        leaving.ends_with_its_component,
        leaving.reports_what_its_state_sent,
        leaving.drops_what_waits_as_it_leaves,
        when=("in line", "in hand"),
        left_by=("its end", "an exception"),
        detail=("after",),
        again=(False, True),
        way=("left", "action", "guard", "again", "again, slowly"),
        pause=(1, 20),
        gap=(0, 1),
        left=(3, 9),
        fails=(False, True),
    ),
    share=SHARE,
    needs=("running",),
)
