"""Programs that walk through drawn tables (C5, C8, C9, M1)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from hypothesis import strategies as st

from flexiflow import Outcome, TransitionRefused
from flexiflow.testing._component.tables import INITIAL, table_of
from flexiflow.testing._examiner.kit import claim, refused
from flexiflow.testing._examiner.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flexiflow import Component, Engine, StateMachine
    from flexiflow.testing._component.tables import Table
    from flexiflow.testing._examiner.kit import Factories
    from flexiflow.testing._examiner.program import Case

    Lines: TypeAlias = tuple[tuple[Any, str, str | None], ...]


async def led_to(
    engine: Engine, new: Factories, machine: StateMachine, way: Iterable[str]
) -> Component:
    """Return a new component that some messages have led to a state."""
    component = new.component(f"c{len(engine.components)}", machine=machine)
    await engine.register(component)
    for trigger in way:
        await engine.send(component.name, {"type": trigger})
    return component


async def takes_the_first(new: Factories, *, lines: Lines, final: tuple[str, ...]) -> None:
    """In each state, each message takes the first line of the table that matches."""
    table, engine = table_of(lines, final), new.engine()
    machine = table.machine()
    for state, way in table.ways().items():
        for trigger in table.triggers(state):
            component = await led_to(engine, new, machine, way)
            await engine.send(component.name, {"type": trigger})
            line: Any = table.taken(state, trigger)
            told = f"in {table}, {(*way, trigger)} led to {component.state}"
            claim(component.state == (line.target or state), told)


async def takes_what_it_has(
    new: Factories, *, lines: Lines, final: tuple[str, ...], strict: bool
) -> None:
    """A table is taken if it is sound, and then what no line takes is ignored or refused."""
    table = table_of(lines, final)
    if not table.is_sound():
        with refused(ValueError, f"{table} is taken") as errors:
            table.machine(strict=strict)
        check_told(table, str(errors[0]))
        return
    machine = table.machine(strict=strict)
    claim(machine.states == table.states, f"{table} has the states {machine.states}")
    engine = new.engine()
    for state, way in table.ways().items():
        for trigger in sorted({*"tuv"} - {*table.triggers(state)}):
            component = await led_to(engine, new, machine, way)
            await check_unmatched(engine, component, table, state, trigger, strict=strict)


def check_told(table: Table, message: str) -> None:
    """Check that unreachable states are named, if nothing else is wrong."""
    is_other = table.final or not any(table.leaving(INITIAL))
    unnamed = [each for each in table.lost() if not is_other and each not in message]
    claim(not unnamed, f"{table} is refused by {message!r}, without {unnamed}")


async def check_unmatched(
    engine: Engine, component: Component, table: Table, state: str, trigger: str, *, strict: bool
) -> None:
    """Send what no line takes, and check what becomes of it."""
    told = f"in {table}, {trigger} in {state}"
    if not strict:
        outcome = await engine.send(component.name, {"type": trigger})
        claim(outcome is Outcome.IGNORED, f"{told} came to {outcome}")
    else:
        with refused(TransitionRefused, f"{told} is not refused") as errors:
            await engine.send(component.name, {"type": trigger})
        missing = [each for each in table.triggers(state) if each not in str(errors[0])]
        claim(not missing, f"{told} is refused by {errors[0]!s}, without {missing}")
    claim(component.state == state, f"{told} led to {component.state}")


async def draws_what_it_has(new: Factories, *, lines: Lines, final: tuple[str, ...]) -> None:
    """A drawing has an arrow for each line of the table and each state that this leaves."""
    table = table_of(lines, final)
    machine: Any = new.component("a", machine=table.machine()).machine
    drawing = {each.strip() for each in machine.mermaid().splitlines() if "-->" in each}
    arrows = {f"[*] --> {INITIAL}", *(f"{each} --> [*]" for each in final)}
    for state in table.states:
        for line in table.leaving(state):
            arrows.add(f"{state} --> {line.target or state}: {line.trigger}")
    claim(drawing == arrows, f"{table} is drawn as {sorted(drawing)}")


_sources = st.sampled_from(["*", "s0", "s1", "s2", ("s0", "s1"), ("s2", "s1")])
_lines = st.lists(
    st.tuples(_sources, st.sampled_from("tu"), st.sampled_from(["s1", "s2", "s0", None])),
    min_size=1,
    max_size=5,
).map(tuple)
_open: st.SearchStrategy[tuple[str, ...]] = st.just(())
_final = st.sampled_from([(), ("s2",), ("s1", "s2"), ("s0",)])


def tables(
    function: Callable[..., Any],
    *,
    sound: bool = True,
    final: st.SearchStrategy[tuple[str, ...]] = _open,
    **options: st.SearchStrategy[Any],
) -> st.SearchStrategy[Case]:
    """Draw tables, and what walks through them.

    Args:
        function: the program.
        sound: whether a machine can have all of them.
        final: the states that are final.
        options: what else the program takes.
    """
    pairs: st.SearchStrategy[tuple[Any, Any]] = st.tuples(_lines, final)
    if sound:
        pairs = pairs.filter(lambda pair: table_of(*pair).is_sound())
    else:
        # A State that the table does not name is another matter.
        pairs = pairs.filter(lambda pair: {*pair[1]} <= {*table_of(*pair).states})
    return st.builds(partial(_walk, function), pairs, st.fixed_dictionaries(options))


def _walk(
    function: Callable[..., Any],
    pair: tuple[Lines, tuple[str, ...]],
    options: dict[str, Any],
) -> Program:
    return Program(function, (("lines", pair[0]), ("final", pair[1]), *options.items()))


FIRST: Final = tables(takes_the_first)
"""Tables whose lines hide one another (C5)."""
MATCHED: Final = tables(takes_what_it_has, sound=False, strict=st.booleans())
"""Tables that a machine takes or refuses (C8)."""
DRAWN: Final = tables(draws_what_it_has)
"""Tables that are drawn (C9)."""
FINAL: Final = st.one_of(
    tables(takes_the_first, final=_final),
    tables(takes_what_it_has, sound=False, final=_final, strict=st.booleans()),
    tables(draws_what_it_has, final=_final),
)
"""Tables with final states (M1)."""
