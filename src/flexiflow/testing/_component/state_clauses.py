"""The clauses on the order of a transition and on running, with their programs (M1, M4)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint
from hypothesis import strategies as st

from flexiflow import EngineNotRunning, HandlerCancelled, Outcome, State, StateMachine, Transition
from flexiflow.testing._component import journeys, table_programs
from flexiflow.testing._component import making_programs as making
from flexiflow.testing._component.journeys import SHARE
from flexiflow.testing._component.leaving_programs import leave
from flexiflow.testing._component.parts import failing_once, noted, tried, working
from flexiflow.testing._examiner.clause import Clause, each_of, often
from flexiflow.testing._examiner.kit import Boom, claim, kept_cancellation, refused

if TYPE_CHECKING:
    from flexiflow import Component
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]


# M1


async def goes_in_order(new: Factories, *, heard: Heard) -> None:
    """Guard; end of the work; exit; action; entry; commit; `state.changed`; start of the work."""
    guard = noted(heard, "guard", answer=True)
    rows = [
        Transition("s0", "go", "s1", guard=guard, action=noted(heard, "action")),
        Transition("s1", "back", "s0"),
    ]
    states = [
        State("s0", exit=noted(heard, "exit"), during=working(heard, "old work", cleans_up=1)),
        State("s1", entry=noted(heard, "entry"), during=working(heard, "new work")),
    ]
    engine, component = await new.host([], machine=StateMachine("s0", rows, states=states))

    async def observe(_: object) -> None:
        heard.append(f"changed in {component.state}")
        await anyio.sleep(1)
        heard.append("told")

    await engine.bus.subscribe("state.changed", "o", observe)
    async with engine.running():
        await anyio.sleep(1)
        await engine.send("a", {"type": "go"})
        await anyio.sleep(1)
        happened = [*heard]
    expected = [
        "old work begins",
        "guard in s0",
        "old work ends",
        "exit in s0",
        "action in s0",
        "entry in s0",
        "changed in s1",
        "told",
        "new work begins",
    ]
    claim(happened == expected, f"a transition went through {happened}, not {expected}")


async def stays_within(new: Factories, *, heard: Heard) -> None:
    """An internal transition runs neither entry nor exit; one from a state to itself runs both."""
    rows = [
        Transition("s0", "note", None, action=noted(heard, "action")),
        Transition("s0", "again", "s0"),
    ]
    entry, exit_ = noted(heard, "entry"), noted(heard, "exit")
    states = [State("s0", entry=entry, exit=exit_, during=working(heard))]
    engine, _ = await new.host([], machine=StateMachine("s0", rows, states=states))
    async with engine.running():
        await anyio.sleep(1)
        claim(heard == ["work begins"], f"a component that began in s0 went through {heard}")
        heard.clear()
        await engine.send("a", {"type": "note"})
        await anyio.sleep(1)
        claim(heard == ["action in s0"], f"an internal transition went through {heard}")
        heard.clear()
        await engine.send("a", {"type": "again"})
        await anyio.sleep(1)
        happened = [*heard]
    expected = ["work ends", "exit in s0", "entry in s0", "work begins"]
    claim(happened == expected, f"from s0 to itself: {happened}, not {expected}")


async def undoes_nothing(new: Factories, *, heard: Heard, role: str, end: str) -> None:
    """If exit, action or entry fails, all of it runs again, and the source's work starts anew."""
    does = {each: noted(heard, each) for each in ("exit", "action", "entry")}
    does[role] = failing_once(heard, role, end)
    rows = [Transition("s0", "go", "s1", action=does["action"]), Transition("s1", "back", "s0")]
    states = [
        State("s0", exit=does["exit"], during=working(heard)),
        State("s1", entry=does["entry"]),
    ]
    engine, component = await new.host([], machine=StateMachine("s0", rows, states=states))
    changes: Heard = []
    await engine.bus.subscribe("state.changed", "o", changes.append)
    told = f"after {end} in its {role}"
    async with engine.running():
        await anyio.sleep(1)
        left = await tried(engine, "go")
        await anyio.sleep(1)
        expected = Boom if end == "a failure" else None
        claim(left is expected, f"{told} a send came to {left}")
        is_same = (component.state, changes) == ("s0", [])
        claim(is_same, f"{told} it is in {component.state}, and published {changes}")
        begun = heard.count("work begins"), heard.count("work ends")
        claim(begun == (2, 1), f"{told} its work had begun and ended so many times: {begun}")
        heard.clear()
        await tried(engine, "go")
        await anyio.sleep(1)
    steps = ["work ends", "exit in s0", "action in s0", "entry in s0"]
    claim(heard == steps, f"{told} it then went through {heard}")
    claim(component.state == "s1", f"{told} it came to {component.state}")


async def begins_what_is_committed(new: Factories, *, heard: Heard, end: str) -> None:
    """Once committed, work and timer begin, even if an observer or the sender is cancelled."""
    rows = [Transition("s0", "go", "s1"), Transition("s1", "late", "s2")]
    states = [State("s1", after=(5.0, "late"), during=working(heard))]
    engine, component = await new.host([], machine=StateMachine("s0", rows, states=states))
    scope = anyio.CancelScope()

    async def observe(_: object) -> None:
        if end == "a cancellation":
            scope.cancel()
            await checkpoint()
        raise Boom

    await engine.bus.subscribe("state.changed", "o", observe, once=True)
    async with engine.running():
        with scope:
            await engine.send("a", {"type": "go"})
        await anyio.sleep(9)
    told = f"an observer was left by {end}, and the work went through {heard}"
    claim(heard == ["work begins", "work ends"], told)
    told = f"an observer was left by {end}, and the timer left it in {component.state}"
    claim(component.state == "s2", told)


async def keeps_its_timer(new: Factories, *, heard: Heard) -> None:
    """The timer of the source runs on where a transition fails."""

    def fail(_: object, __: object) -> None:
        raise Boom

    def note(_: object, __: object) -> None:
        heard.append(anyio.current_time() - begin)

    rows = [
        Transition("s0", "go", "s1"),
        Transition("s1", "back", "s0", action=fail),
        Transition("s1", "late", "s2", action=note),
    ]
    states = [State("s1", after=(5.0, "late"))]
    engine, _ = await new.host([], machine=StateMachine("s0", rows, states=states))
    async with engine.running():
        begin = anyio.current_time()
        await engine.send("a", {"type": "go"})
        await anyio.sleep(3)
        with suppress(Boom):
            await engine.send("a", {"type": "back"})
        await anyio.sleep(9)
    told = f"a timer of 5 s, with a transition that failed after 3 s, sent after {heard}"
    claim(heard == [5], told)


async def judges_strays(new: Factories, *, hook: str) -> None:
    """A stray cancellation of an entry or exit is a failure, as one of an action is (C6)."""

    async def stray(_: object, __: object) -> None:
        raise await kept_cancellation()

    functions: dict[str, Any] = {hook: stray}
    rows = [Transition("s0", "go", "s1"), Transition("s1", "back", "s0")]
    states = [State("s0" if hook == "exit" else "s1", **functions)]
    engine, component = await new.host([], machine=StateMachine("s0", rows, states=states))
    with refused(HandlerCancelled, f"a stray cancellation of an {hook} is lost"):
        await engine.send("a", {"type": "go"})
    claim(component.state == "s0", f"after a stray cancellation the state is {component.state}")


M1 = Clause(
    "M1",
    "the order of a transition",
    "Guard; end of the source's work; `exit` of the source; action; `entry` of the target; commit; "
    "`state.changed`; start of the target's work and timer. `exit` and `entry` are like an action "
    "(C6); an internal transition runs neither, one from a state to itself both, and the start "
    "state is not entered. What ran before a failure runs again next time, the source's work "
    "starts anew, and its timer runs on; once committed, work and timer begin whatever observers "
    "or a cancellation do.",
    st.one_of(often(6, journeys.IN_ORDER), table_programs.FINAL),
    scenes=each_of(
        goes_in_order,
        stays_within,
        undoes_nothing,
        begins_what_is_committed,
        keeps_its_timer,
        judges_strays,
        making.refuses_bad_states,
        role=("exit", "action", "entry"),
        hook=("exit", "entry"),
        end=("a failure", "a cancellation"),
    ),
    share=2 * SHARE,
    needs=("running",),
)


# M4


async def refuses_to_enter(new: Factories, *, heard: Heard, detail: str) -> None:
    """What enters a state that takes time is refused while the engine does not run."""
    details: dict[str, Any] = {"after": (5.0, "late"), "during": working(heard)}
    guard = noted(heard, "guard", answer=True)
    rows = [
        Transition("s0", "go", "s1", guard=guard, action=noted(heard, "action")),
        Transition("s1", "late", "s0"),
    ]
    states = [
        State("s0", exit=noted(heard, "exit")),
        State("s1", entry=noted(heard, "entry"), **{detail: details[detail]}),
    ]
    engine, component = await new.host([], machine=StateMachine("s0", rows, states=states))
    for when in ("before", "after"):
        with refused(EngineNotRunning, f"{when} the engine ran, a state with {detail} was entered"):
            await engine.send("a", {"type": "go"})
        told = f"a message that is refused went through {heard}, not the guard alone"
        claim(heard == ["guard in s0"], told)
        claim(component.state == "s0", f"a message that is refused led to {component.state}")
        heard.clear()
        if when == "before":
            async with engine.running():
                outcome = await engine.send("a", {"type": "go"})
                claim(outcome is Outcome.TRANSITIONED, f"in a running engine it came to {outcome}")
                await engine.send("a", {"type": "late"})
            heard.clear()


async def asks_the_guard_first(new: Factories) -> None:
    """What a guard refuses is ignored, whether the engine runs or not."""

    def refuse(_: object, __: object) -> bool:
        return False

    rows = [
        Transition("s0", "go", "s1", guard=refuse),
        Transition("s0", "enter", "s1"),
        Transition("s1", "late", "s0"),
    ]
    machine = StateMachine("s0", rows, states=[State("s1", after=(5.0, "late"))])
    engine, _ = await new.host([], machine=machine)
    outcome = await engine.send("a", {"type": "go"})
    claim(outcome is Outcome.IGNORED, f"what the guard refuses came to {outcome}")


async def runs_once_at_a_time(new: Factories, *, heard: Heard) -> None:
    """A running engine can't be entered; after the block it can."""
    rows = [Transition("s0", "go", "s1"), Transition("s1", "late", "s0")]
    states = [State("s1", during=working(heard))]
    engine, component = await new.host([], machine=StateMachine("s0", rows, states=states))
    async with engine.running():
        with refused(RuntimeError, "a running engine was entered a second time"):
            async with engine.running():
                pass
        await engine.send("a", {"type": "go"})
        await anyio.sleep(1)
        claim(heard == ["work begins"], f"refused a second time, it went through {heard}")
    async with engine.running():
        await anyio.sleep(1)
    told = f"entered for the second time it went through {heard}"
    claim(heard == ["work begins", "work ends"] * 2, told)
    claim(component.state == "s1", f"after running() its state is {component.state}")


async def leaves_nothing_behind(new: Factories, *, heard: Heard, end: str) -> None:
    """The end of `running()` cancels all work, waits for its end, and stops all timers."""
    rows = [Transition("s0", "go", "s1"), Transition("s1", "late", "s0")]
    states = [State("s1", after=(5.0, "late"), during=working(heard, cleans_up=2))]
    engine, component = await new.host([], machine=StateMachine("s0", rows, states=states))
    changes: Heard = []
    await engine.bus.subscribe("state.changed", "o", changes.append)
    with suppress(Boom, BaseExceptionGroup), anyio.CancelScope() as scope:
        async with engine.running():
            await engine.send("a", {"type": "go"})
            await anyio.sleep(1)
            if end == "a failure":
                raise Boom
            if end == "a cancellation":
                scope.cancel()
                await checkpoint()
    claim(heard == ["work begins", "work ends"], f"left by {end}, the work went through {heard}")
    await anyio.sleep(20)
    told = f"left by {end}, it is in {component.state}, and has published {len(changes)} changes"
    claim((component.state, len(changes)) == ("s1", 1), told)


async def sends_nothing_more(new: Factories, *, heard: Heard, left_by: str) -> None:
    """Work that swallows its cancellation as `running()` is left sends nothing when it ends."""

    async def work(_: Component) -> str:
        with suppress(anyio.get_cancelled_exc_class()):
            await anyio.sleep(9)
        heard.append("work ends")
        return "done"

    rows = [Transition("s0", "go", "s1"), Transition("s1", "done", "s2")]
    states = [State("s1", during=work, done="done")]
    engine, component = await new.host([], machine=StateMachine("s0", rows, states=states))
    with suppress(Boom, BaseExceptionGroup):
        async with engine.running():
            await engine.send("a", {"type": "go"})
            await anyio.sleep(1)
            leave(left_by)
    claim(heard == ["work ends"], f"left by {left_by}, the work went through {heard}")
    claim(component.state == "s1", f"left by {left_by}, work ends, and it is in {component.state}")


M4 = Clause(
    "M4",
    "an engine runs",
    "A message that would enter a state with `after` or `during` while the engine is not running "
    "is refused with `EngineNotRunning`, after the guard and before anything else. Entering "
    "`running()` twice at once is a `RuntimeError`. Leaving it cancels all work, waits for its "
    "end, and sends nothing more; states stay.",
    journeys.ON_AND_OFF,
    scenes=each_of(
        refuses_to_enter,
        asks_the_guard_first,
        runs_once_at_a_time,
        leaves_nothing_behind,
        sends_nothing_more,
        making.draws_its_parts,
        detail=("after", "during"),
        end=("its end", "a failure", "a cancellation"),
        left_by=("its end", "an exception"),
    ),
    share=SHARE,
    needs=("running",),
)
