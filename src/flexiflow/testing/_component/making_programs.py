"""Programs that make machines, states and components, also in bad ways (C9, K1, M1 to M4)."""

from __future__ import annotations

from copy import copy, deepcopy
from functools import partial
from inspect import unwrap
from typing import TYPE_CHECKING, Any, Final

from flexiflow import State, StateMachine, Transition
from flexiflow.testing._examiner.kit import claim, ignore, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow.testing._examiner.kit import Factories


async def work(_: object) -> None:
    """Do nothing, as work."""


def act(_: object, __: object) -> None:
    """Do nothing, as a guard, an action, an entry or an exit."""


def machine_of_states(*states: State, initial: str = "s0") -> StateMachine:
    """Return a machine that goes from "s0" to "s1", and has states."""
    return StateMachine(initial, [Transition("s0", "go", "s1")], states=states)


_STATE: Final[Any] = State
"""For what type checkers refuse, too."""
_IN_STATE: Final[dict[str, tuple[type[Exception], Callable[[], object]]]] = {
    "a State that no transition names": (ValueError, lambda: machine_of_states(State("other"))),
    "a State given twice": (ValueError, lambda: machine_of_states(State("s1"), State("s1"))),
    "a final initial state": (ValueError, lambda: machine_of_states(State("s0", final=True))),
    "a transition from a final state": (
        ValueError,
        lambda: StateMachine(
            "s0",
            [Transition("s0", "go", "s1"), Transition(("s1", "s0"), "on", "s0")],
            states=[State("s1", final=True)],
        ),
    ),
    "exit of a final state": (ValueError, lambda: State("s1", exit=act, final=True)),
    "an entry that takes one argument": (TypeError, lambda: _STATE("s1", entry=ignore)),
    "an exit that is no function": (TypeError, lambda: _STATE("s1", exit=1)),
}
_IN_TIME: Final[dict[str, tuple[type[Exception], Callable[[], object]]]] = {
    "a trigger of after that none takes": (
        ValueError,
        lambda: machine_of_states(State("s1", after=(1.0, "late"))),
    ),
    "after of a final state": (ValueError, lambda: State("s1", after=(1.0, "go"), final=True)),
    "a trigger of after alone": (TypeError, lambda: _STATE("s1", after="go")),
    **{
        f"after {seconds} seconds": (
            TypeError if isinstance(seconds, bool) else ValueError,
            partial(_STATE, "s1", after=(seconds, "go")),
        )
        for seconds in (0, -1.0, float("inf"), float("nan"), True)
    },
}
_AT_WORK: Final[dict[str, tuple[type[Exception], Callable[[], object]]]] = {
    "a trigger of done that none takes": (
        ValueError,
        lambda: machine_of_states(State("s1", during=work, done="done")),
    ),
    "a trigger of failed that none takes": (
        ValueError,
        lambda: machine_of_states(State("s1", during=work, failed="broke")),
    ),
    "during of a final state": (ValueError, lambda: State("s1", during=work, final=True)),
    "done without during": (ValueError, lambda: State("s1", done="go")),
    "failed without during": (ValueError, lambda: State("s1", failed="go")),
    "a sync during": (TypeError, lambda: _STATE("s1", during=ignore)),
}


def _check_refused(
    bad: dict[str, tuple[type[Exception], Callable[[], object]]],
) -> None:
    for what, (error, make) in bad.items():
        with refused(error, f"{what} is not refused with {error.__name__}"):
            make()


async def refuses_bad_states(_: Factories) -> None:
    """States that can't be are refused when they, or their machine, are made."""
    _check_refused(_IN_STATE)


async def refuses_bad_times(_: Factories) -> None:
    """Times that can't come, and triggers that nothing takes, are refused."""
    _check_refused(_IN_TIME)


async def refuses_bad_work(_: Factories) -> None:
    """Work that can't be awaited, and ends that nobody hears of, are refused."""
    _check_refused(_AT_WORK)


async def is_immutable(new: Factories) -> None:
    """A machine, its rows and its states do not change, and a copy is the same."""
    state = State("s1", entry=act)
    machine: Any = machine_of_states(state)
    for each, name in ((machine, "initial"), (machine.transitions[0], "target"), (state, "entry")):
        with refused(AttributeError, f"{name} can be set"):
            setattr(each, name, None)
    with refused(TypeError, "the states of a machine can be replaced"):
        machine.details["s1"] = State("s1")
    component: Any = new.component("a", machine=machine)
    claim(component.machine is machine, "a component has another machine than it was given")
    for copied in (copy(machine), deepcopy(machine)):
        same = (copied.initial, copied.transitions, copied.strict, dict(copied.details))
        expected = (machine.initial, machine.transitions, machine.strict, {"s1": state})
        claim(same == expected, f"a copy of a machine has {same}, not {expected}")


async def begins_only_where_it_can(new: Factories) -> None:
    """A start state without a machine, or one that is no str, is refused."""
    make = unwrap(new.component)
    errors = TypeError, ValueError
    with refused(errors, "a start state without a machine is taken"):
        make("a", state="s0")
    with refused(errors, "a start state that is no str is taken"):
        make("a", machine=machine_of_states(), state=1)


ODD: Final = ("state", "a b", 'say "so"', "end\nnote", "1st", "[*]")
"""Names of states that no diagram takes as they are."""


async def draws_odd_names(new: Factories) -> None:
    """A state whose name is no identifier has an alias in the diagram, and a text."""
    rows = [Transition("s0", f"t{at}", each) for at, each in enumerate(ODD)]
    machine: Any = new.component("a", machine=StateMachine("s0", rows)).machine
    lines = [each.strip() for each in machine.mermaid().splitlines()]
    arrows = [each.split() for each in lines if "-->" in each and ": t" in each]
    aliases = {each.rpartition(" as ")[2] for each in lines if each.startswith('state "')}
    targets = [each[2].rstrip(":") for each in arrows]
    claim(len({*targets}) == len(ODD), f"of {len(ODD)} odd states are drawn {targets}")
    claim({*targets} <= aliases, f"the odd states {targets} have the aliases {sorted(aliases)}")


async def draws_its_parts(new: Factories) -> None:
    """Below the name of a state stand its parts, functions by their names."""
    rows = [Transition("s0", "go", "s1"), Transition("s1", "late", "s0")]
    rows += [Transition("s1", "done", "s0"), Transition("s1", "broke", "s2")]
    given: dict[str, Any] = {"during": work, "done": "done", "failed": "broke"}
    states = [
        State("s1", entry=act, exit=act, after=(2.5, "late"), **given),
        State("s2", entry=act, final=True),
    ]
    machine: Any = new.component("a", machine=StateMachine("s0", rows, states=states)).machine
    lines = [each.strip() for each in machine.mermaid().splitlines()]
    parts = ["entry / act", "exit / act", "after 2.5 s / late", "during / work"]
    parts += ["done / done", "failed / broke"]
    expected = [*(f"s1: {each}" for each in parts), "s2: entry / act", "s2 --> [*]"]
    missing = [each for each in expected if each not in lines]
    claim(not missing, f"in the diagram of a machine with states there lacks {missing}")
