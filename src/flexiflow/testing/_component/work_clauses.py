"""The clause on work in a state, with its programs (M3)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from flexiflow import LimitDeadlock, Outcome, State, StateMachine, Transition
from flexiflow.testing._component import journeys
from flexiflow.testing._component import leaving_programs as leaving
from flexiflow.testing._component.journeys import SHARE
from flexiflow.testing._component.making_programs import refuses_bad_work
from flexiflow.testing._component.parts import Shelf, engine_over, loaded, noted, working
from flexiflow.testing._examiner.clause import Clause, each_of
from flexiflow.testing._examiner.kit import Boom, claim, log_kept, mark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from flexiflow import Component
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]
    Message: TypeAlias = Mapping[str, Any]
    Doing: TypeAlias = Callable[[], Awaitable[object]]


def machine_with_work(
    heard: Heard, work: Callable[[Component], Any], *, failed: str | None = "broke"
) -> StateMachine:
    """Return a strict machine with work in "s1", whose end is noted with its time."""

    def note(message: Message, _: object) -> None:
        heard.append((dict(message), anyio.current_time()))

    async def take_time(message: Message, _: object) -> bool:
        await anyio.sleep(message.get("takes", 0))
        return True

    rows = [
        Transition("s0", "go", "s1"),
        Transition("s1", "fetched", "s2", action=note),
        Transition("s1", "broke", "s2", action=note),
        Transition("s1", "back", "s0", guard=take_time),
        Transition("s1", "again", "s1", guard=take_time),
        Transition("s1", "note", None, action=take_time),
    ]
    states = [State("s1", during=work, done="fetched", failed=failed)]
    return StateMachine("s0", rows, strict=True, states=states)


async def sends_how_it_ended(new: Factories, *, heard: Heard, ending: str) -> None:
    """What the work returns or raises is sent to its component."""
    failure = Boom("the work")

    async def work(component: Component) -> int:
        await anyio.sleep(5)
        if ending == "a failure":
            raise failure
        return len(component.name)

    engine, component = await new.host([], machine=machine_with_work(heard, work))
    async with engine.running():
        begin = anyio.current_time()
        await engine.send("a", {"type": "go"})
        await anyio.sleep(9)
    sent: dict[str, Any] = {"type": "fetched", "result": 1}
    if ending == "a failure":
        sent = {"type": "broke", "exception": failure}
    claim(heard == [(sent, begin + 5)], f"of work that ended with {ending} after 5 s came {heard}")
    claim(component.state == "s2", f"after its work ended with {ending} it is in {component.state}")


async def reports_what_is_not_sent(new: Factories, *, heard: Heard, report: str) -> None:
    """What work raises is reported if there is no `failed`, or if it was cancelled."""
    failure = Boom("the work")

    async def work(_: Component) -> None:
        try:
            await anyio.sleep(5)
        finally:
            raise failure

    machine = machine_with_work(heard, work, failed="broke" if report == "it is left" else None)
    engine, component = await new.host([], machine=machine)
    reports: Heard = []
    await engine.bus.subscribe("event.handler.failed", "o", reports.append)
    with log_kept() as records:
        async with engine.running():
            await engine.send("a", {"type": "go"})
            await anyio.sleep(2)
            if report == "it is left":
                await engine.send("a", {"type": "back"})
            await anyio.sleep(9)
    told = [
        (each["event_name"], each["component_name"], each["exception"] is failure)
        for each in reports
    ]
    expected = [("component.message.received", "a", True)]
    claim(told == expected, f"what work raised ({report}) was published as {told}")
    logged = [each.levelname for each in records if each.exc_info and each.exc_info[1] is failure]
    claim(logged == ["ERROR"], f"what work raised ({report}) was logged as {logged}")
    expected_state = "s0" if report == "it is left" else "s1"
    claim(component.state == expected_state, f"after that ({report}) it is in {component.state}")
    claim(heard == [], f"what work raised ({report}) was sent: {heard}")


async def drops_a_late_end(new: Factories, *, heard: Heard, late: str) -> None:
    """The end of work whose state is over is dropped without a trace."""

    async def work(_: Component) -> str:
        swallowed = [anyio.get_cancelled_exc_class()] * (late == "it swallows")
        with suppress(*swallowed):
            await anyio.sleep(5)
        return "done"

    engine, component = await new.host([], machine=machine_with_work(heard, work))
    traces: Heard = []
    await engine.bus.subscribe("event.handler.failed", "o", traces.append)
    with log_kept() as records:
        async with engine.running():
            begin = anyio.current_time()
            await engine.send("a", {"type": "go"})
            await anyio.sleep(4)
            trigger = "again" if late == "entered again" else "back"
            takes = 0 if late == "it swallows" else 2
            await engine.send("a", {"type": trigger, "takes": takes})
            await anyio.sleep(20)
    times = [time - begin for _, time in heard]
    expected = [11] if late == "entered again" else []
    told = f"the end of work whose state was over ({late}) was handled at {times}, not {expected}"
    claim(times == expected, told)
    logged = [each.getMessage() for each in records]
    claim((traces, logged) == ([], []), f"and was published or logged as {traces}, {logged}")
    expected_state = "s2" if late == "entered again" else "s0"
    claim(component.state == expected_state, f"in the end ({late}) it is in {component.state}")


async def begins_once(new: Factories, *, heard: Heard) -> None:
    """Work begins once in a stay, also if it ends before its state."""

    async def work(_: Component) -> None:
        heard.append("work")

    rows = [Transition("s0", "note", None), Transition("s0", "go", "s0")]
    machine = StateMachine("s0", rows, states=[State("s0", during=work)])
    engine, _ = await new.host([], machine=machine)
    async with engine.running():
        for trigger in ("note", "other", "note"):
            await anyio.sleep(1)
            await engine.send("a", {"type": trigger})
        claim(heard == ["work"], f"in one stay its work began so often: {len(heard)}")
        await engine.send("a", {"type": "go"})
        await anyio.sleep(1)
    claim(heard == ["work"] * 2, f"entered again its work began so often: {len(heard)}")


async def takes_its_place(new: Factories, *, heard: Heard, through: str) -> None:
    """What work sends to its own component is `DEFERRED` at once, and takes its place in line."""
    outcomes: Heard = []

    async def send(name: str, sent: object) -> None:
        outcome = await engine.send(name, {"type": "note", "sent": sent})
        if (name, sent) == ("a", "work"):
            outcomes.append((outcome, anyio.current_time() - begin))

    async def act(message: Message, component: Component) -> None:
        if component.name == "b":
            await send("a", message["sent"])
        else:
            heard.append(message["sent"])
            await anyio.sleep(2)

    async def work(component: Component) -> None:
        await anyio.sleep(1)
        if component.name == "a":
            await send(through, "work")

    rows = [Transition("s0", "note", None, action=act)]
    machine = StateMachine("s0", rows, states=[State("s0", during=work)])
    engine, _ = await new.host([], machine=machine)
    await engine.register(new.component("b", machine=machine))
    begin = anyio.current_time()
    with anyio.move_on_after(30):
        async with engine.running(), anyio.create_task_group() as group:
            for sent, pause in ((0, 0.5), (1, 1), (2, 9)):
                group.start_soon(send, "a", sent)
                await anyio.sleep(pause)
    told = f"with 0 in hand, and 1 waiting, its work sends to {through}; then 2 is sent; handled: "
    claim(heard == [0, 1, "work", 2], f"{told}{heard}")
    told = f"sent by work, by way of {through}, after 1 s: (outcome, time) {outcomes}"
    claim(outcomes == [(Outcome.DEFERRED, 1)], told)


async def defers_what_it_hands_over(new: Factories, *, heard: Heard) -> None:
    """What work hands to its own component is `DEFERRED`, too."""

    async def work(component: Component) -> None:
        heard.append(await component.handle_message({"type": "note"}))

    def note(_: object, __: object) -> None:
        heard.append("note")

    rows = [Transition("s0", "note", None, action=note)]
    machine = StateMachine("s0", rows, states=[State("s0", during=work)])
    engine, _ = await new.host([], machine=machine)
    async with engine.running():
        await anyio.sleep(1)
    expected = [Outcome.DEFERRED, "note"]
    claim(heard == expected, f"handed by work to its own component, a message came to {heard}")


async def hands_it_over(new: Factories, *, heard: Heard) -> None:
    """What work sends to its own component is handled in another task of `running()`."""

    def note() -> None:
        heard.append((anyio.get_current_task().id, mark.get()))

    async def work(_: Component) -> None:
        note()
        mark.set("work")
        await engine.send("a", {"type": "note"})

    def act(_: object, __: object) -> None:
        note()

    rows = [Transition("s0", "note", None, action=act)]
    machine = StateMachine("s0", rows, states=[State("s0", during=work)])
    engine, _ = await new.host([], machine=machine)
    mark.set("running")
    async with engine.running():
        mark.set("sender")
        await anyio.sleep(1)
    claim(len(heard) == 2, f"of work, and of what it sends, {len(heard)} were begun")
    [(own, _), (other, context)] = heard
    claim(own != other, "what work sends to its own component is handled in the work's task")
    claim(context == "running", f"what work sends was handled in the context of the {context}")


async def waits_in_no_ring(new: Factories, *, heard: Heard, first: str) -> None:
    """A transition that waits for work, which waits for what waits for that: one is deferred."""
    works, acts = {"the work": (1, 2), "the other": (2, 1)}[first]

    async def send(name: str, trigger: str) -> None:
        heard.append(await engine.send(name, {"type": trigger}))

    async def work(_: Component) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(works)
            await send("b", "note")

    async def act(_: Message, __: Component) -> None:
        await anyio.sleep(acts)
        await send("a", "back")

    def note(_: object, __: object) -> None:
        heard.append("note")

    rows = [
        Transition("s0", "go", None, action=act),
        Transition("s0", "note", None, action=note),
        Transition("s0", "enter", "s1"),
        Transition("s1", "back", "s0"),
    ]
    machine = StateMachine("s0", rows, states=[State("s1", during=work)])
    engine, _ = await new.host([], machine=machine)
    await engine.register(new.component("b", machine=machine))
    with anyio.move_on_after(20):
        async with engine.running():
            await send("a", "enter")
            await send("b", "go")
            await anyio.sleep(1)
    told = f"{first} waits first: of work and a component that wait for each other came {heard}"
    came = {each: heard.count(each) for each in heard}
    claim(came == {Outcome.TRANSITIONED: 3, Outcome.DEFERRED: 1, "note": 1}, told)


async def calls_in_no_ring(new: Factories, *, heard: Heard, first: str) -> None:
    """A limited call that waits for work, which waits for that call: `LimitDeadlock`."""
    works, acts = {"the work": (1, 2), "the other": (2, 1)}[first]

    async def publish() -> None:
        failures = await engine.bus.publish("tick", on_error="continue")
        heard.extend(type(each.exception) for each in failures)

    async def work(_: Component) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(works)
            await publish()

    async def handle(_: object) -> None:
        await anyio.sleep(acts)
        heard.append(await engine.send("a", {"type": "back"}))

    rows = [Transition("s0", "back", "s1"), Transition("s1", "back", "s0")]
    machine = StateMachine("s0", rows, states=[State("s0", during=work)])
    engine, _ = await new.host([], machine=machine)
    try:
        await engine.bus.subscribe("tick", "o", handle, limit=1)
    except TypeError:
        return
    with anyio.move_on_after(20):
        async with engine.running():
            await publish()
            await anyio.sleep(1)
    told = f"{first} waits first: of work and a limited call that wait for each other came {heard}"
    claim(sorted(map(str, heard)) == sorted(map(str, [LimitDeadlock, Outcome.TRANSITIONED])), told)


async def begins_where_it_is(new: Factories, *, heard: Heard, where: str) -> None:
    """Work begins once, without entry, on registering and with `running()`, in its context."""

    async def work(_: Component) -> None:
        heard.append(f"work in {mark.get()}")
        await anyio.sleep_forever()

    rows = [Transition("s0", "go", "s1"), Transition("s1", "back", "s0")]
    states = [State("s0", during=work, entry=noted(heard, "entry"))]
    machine = StateMachine("s0", rows, states=states)
    engine = new.engine()
    if where == "registered before":
        await engine.register(new.component("a", machine=machine))
    mark.set("running")
    async with engine.running():
        mark.set("sender")
        if where == "registered":
            await engine.register(new.component("a", machine=machine))
        await anyio.sleep(1)
    claim(heard == ["work in running"], f"{where}, in running() it went through {heard}")


async def begins_where_it_was(new: Factories, *, heard: Heard, loaded_by: str) -> None:
    """Work of a stored state begins once, without entry, when a component is loaded."""

    async def work(_: Component) -> None:
        heard.append(f"work in {mark.get()}")
        await anyio.sleep_forever()

    def make(name: str) -> Component:
        return new.component(name, machine=machine)

    rows = [Transition("s0", "go", "s1"), Transition("s1", "back", "s0")]
    states = [State("s0", during=work), State("s1", during=work, entry=noted(heard, "entry"))]
    machine, shelf = StateMachine("s0", rows, states=states), Shelf()
    shelf.put("a", "s1")
    engine = engine_over(new, shelf, component_factory=make)
    if engine is None:
        return
    mark.set("running")
    async with engine.running():
        mark.set("sender")
        await loaded(engine, make, loaded_by)
        await anyio.sleep(1)
    claim(heard == ["work in running"], f"loaded by {loaded_by}, it went through {heard}")


async def ends_as_it_leaves(new: Factories, *, heard: Heard) -> None:
    """Unregistering ends the work, and waits for its end."""
    rows = [Transition("s0", "go", "s0")]
    states = [State("s0", during=working(heard, cleans_up=2))]
    engine, _ = await new.host([], machine=StateMachine("s0", rows, states=states))
    async with engine.running():
        await anyio.sleep(1)
        await engine.unregister("a")
        heard.append("unregistered")
        await anyio.sleep(9)
    expected = ["work begins", "work ends", "unregistered"]
    claim(heard == expected, f"unregistered in its work, it went through {heard}")


async def unregisters_itself(new: Factories, *, heard: Heard) -> None:
    """Work that unregisters its own component does not wait for itself."""

    async def work(_: Component) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(1)
            await engine.unregister("a")
            heard.append("unregistered")
        try:
            await anyio.sleep(5)
        finally:
            heard.append(anyio.current_time() - begin)

    rows = [Transition("s0", "go", "s0")]
    machine = StateMachine("s0", rows, states=[State("s0", during=work)])
    engine, _ = await new.host([], machine=machine)
    begin = anyio.current_time()
    with anyio.move_on_after(20):
        async with engine.running():
            await anyio.sleep(9)
    told = "work that unregisters its own component after 1 s, and the time of its end"
    claim(heard == ["unregistered", 1], f"{told}: {heard}")


M3 = Clause(
    "M3",
    "work may run while a state lasts",
    "`during` runs in a task and the context of `running()` while the state lasts; its end sends "
    "`done` or `failed`; without `failed`, or if it was cancelled, what it raises is reported "
    "(C4). Leaving the state cancels it and waits for its end; what it would send is dropped "
    "without a trace once the state is over. What it sends to its own component, also through "
    "others, is `DEFERRED` at once, and takes its place in line; a ring of waits through its end "
    "is broken. It begins once, without entry, on registering or loading and with `running()`; "
    "unregistering ends it, and waits for that, unless called from within.",
    journeys.AT_WORK,
    scenes=each_of(leaving.ends_two_works, first=("a", "b", "both"))
    + each_of(
        sends_how_it_ended,
        reports_what_is_not_sent,
        drops_a_late_end,
        begins_once,
        takes_its_place,
        defers_what_it_hands_over,
        hands_it_over,
        waits_in_no_ring,
        calls_in_no_ring,
        begins_where_it_is,
        begins_where_it_was,
        ends_as_it_leaves,
        unregisters_itself,
        refuses_bad_work,
        leaving.keeps_what_its_work_sent,
        leaving.ends_with_its_component,
        leaving.reports_what_its_state_sent,
        leaving.drops_what_waits_as_it_leaves,
        before=(0, 1),
        after=(0, 1),
        left_by=("its end", "an exception"),
        detail=("during",),
        again=(False, True),
        ending=("a result", "a failure"),
        report=("a failure", "it is left"),
        late=("left", "entered again", "it swallows"),
        through=("a", "b"),
        where=("registered before", "registered"),
        loaded_by=("send", "register"),
        first=("the work", "the other"),
    ),
    share=SHARE,
    needs=("running",),
)
