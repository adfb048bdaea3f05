"""What happens in a state, on entering it and on leaving it: immutable data (M1 to M4)."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable, Coroutine, Iterable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

from flexiflow._callables import check_callable, describe, is_coroutine_callable
from flexiflow._objects import Fixed, Record
from flexiflow._text import show

if TYPE_CHECKING:
    from collections.abc import Mapping

ANY_STATE: Final = "*"

# The last argument is the component. It is Any for the same reason as a guard's (`_machine`).
Hook: TypeAlias = Callable[[dict[str, Any], Any], object]
During: TypeAlias = Callable[[Any], Coroutine[Any, Any, object]]


@final
class State(Record, Fixed):
    """What happens on entering a state, on leaving it, and while it lasts (M1 to M3).

    Args:
        name: the state, as the transitions name it.
        entry: called with `(message, component)`, sync or async, when a transition enters the
            state, after the transition's action and before the state changes.
        exit: called with `(message, component)`, sync or async, when a transition leaves the
            state, before the transition's action.
        after: `(seconds, trigger)`. If the state lasts so long, the component is sent
            `{"type": trigger}`.
        during: an async function, called with the component. It runs while the state lasts, in a
            task of `Engine.running`, and is cancelled when the state is left.
        done: the trigger to send when `during` has returned; its message has the `result`.
        failed: the trigger to send when `during` has raised; its message has the `exception`.
        final: whether the state is never left. `"*"` as a source does not count final states.

    Raises:
        TypeError: a name or trigger is not a `str`; `entry`, `exit` or `during` can't be called
            with these arguments, or `during` is not async; `after` is not a tuple of a number and
            a trigger; `final` is not a `bool`.
        ValueError: an empty name or trigger, or `"*"` as the name; seconds that are not finite
            and above 0; `done` or `failed` without `during`; `exit`, `after` or `during` of a
            final state.

    Example:
        >>> import anyio
        >>> from flexiflow import Component, Engine, State, StateMachine, Transition
        >>> MACHINE = StateMachine(
        ...     "placed",
        ...     [Transition("placed", "pay", "paid")],
        ...     states=[State("paid", entry=lambda message, order: print("thanks,", order.name))],
        ... )
        >>> async def main():
        ...     engine = Engine()
        ...     await engine.register(Component("A7", machine=MACHINE))
        ...     await engine.send("A7", {"type": "pay"})
        >>> anyio.run(main)
        thanks, A7
    """

    __slots__ = __match_args__ = (
        "name",
        "entry",
        "exit",
        "after",
        "during",
        "done",
        "failed",
        "final",
    )

    name: str
    entry: Hook | None
    exit: Hook | None
    after: tuple[float, str] | None
    during: During | None
    done: str | None
    failed: str | None
    final: bool

    def __init__(
        self,
        name: str,
        *,
        entry: Hook | None = None,
        exit: Hook | None = None,
        after: tuple[float, str] | None = None,
        during: During | None = None,
        done: str | None = None,
        failed: str | None = None,
        final: bool = False,
    ) -> None:
        check_state("name", name)
        for role, fn in (("entry", entry), ("exit", exit)):
            if fn is not None:
                check_callable(role, fn, 2)
        _check_during(during, {"done": done, "failed": failed})
        super().__init__(
            name=name,
            entry=entry,
            exit=exit,
            after=None if after is None else _check_after(after),
            during=during,
            done=done,
            failed=failed,
            final=final,
        )
        _check_final(self)


# Machines without states share it.
_NO_DETAILS: Mapping[str, State] = MappingProxyType({})


def triggers_of(state: State) -> dict[str, str]:
    """Return the triggers that a state sends to its component, by the arguments' names (M2, M3)."""
    sent = {
        "after": None if state.after is None else state.after[1],
        "done": state.done,
        "failed": state.failed,
    }
    return {role: trigger for role, trigger in sent.items() if trigger is not None}


def check_name(role: str, name: object) -> str:
    """Return a name, of a state or a trigger.

    Raises:
        TypeError: it is not a `str`.
        ValueError: it is empty.
    """
    if not isinstance(name, str):
        raise TypeError(f"{role} must be a str, not {reprlib.repr(name)}")
    if not name:
        raise ValueError(f"{role} must not be empty")
    return name


def check_state(role: str, name: object) -> str:
    """Return the name of one state.

    Raises:
        TypeError: it is not a `str`.
        ValueError: it is empty, or `"*"`.
    """
    state = check_name(role, name)
    if state == ANY_STATE:
        raise ValueError(f"{role} must be one state, not '*', which is a source only, on its own")
    return state


def check_details(given: object, names: tuple[str, ...]) -> Mapping[str, State]:
    """Return the states that a machine is given, by name, as a read-only mapping (M1).

    Args:
        given: several states.
        names: all states of the machine.

    Raises:
        TypeError: something in `given` is not a `State`.
        ValueError: one has none of these names, or is given twice.
    """
    details: dict[str, State] = {}
    known = frozenset(names)
    for number, state in enumerate(items_of("states must be several State objects", given)):
        if not isinstance(state, State):
            raise TypeError(f"states[{number}] must be a State, not {reprlib.repr(state)}")
        if state.name not in known:
            raise ValueError(
                f"states[{number}] is {show(state.name)}, which no transition names; the states "
                f"are {enumerate_names(names)}"
            )
        if state.name in details:
            raise ValueError(f"states[{number}] is {show(state.name)} again; give each state once")
        details[state.name] = state
    return MappingProxyType(details) if details else _NO_DETAILS


def open_states(names: tuple[str, ...], details: Mapping[str, State]) -> tuple[str, ...]:
    """Return the states that are not final, which a transition from `"*"` leaves (M1)."""
    if not details:
        return names
    return tuple(name for name in names if name not in details or not details[name].final)


def items_of(allowed: str, given: object) -> tuple[object, ...]:
    """Return what can be iterated over as a tuple.

    Raises:
        TypeError: it can't; the message begins with what is `allowed`.
    """
    if not isinstance(given, Iterable):
        raise TypeError(f"{allowed}, not {reprlib.repr(given)}")
    return tuple(cast("Iterable[object]", given))


def enumerate_names(names: Iterable[str]) -> str:
    """Return names for a message, with commas in between."""
    return ", ".join(show(name) for name in names)


def _check_after(given: tuple[object, ...]) -> tuple[float, str]:
    match given:
        case tuple((seconds, trigger)):
            return _check_seconds(seconds), check_name("the trigger in after", trigger)
        case _:
            raise TypeError(
                "after must be a tuple of seconds and a trigger, like (900.0, 'expired'), "
                f"not {reprlib.repr(given)}"
            )


def _check_seconds(given: object) -> float:
    if not isinstance(given, int | float) or isinstance(given, bool):
        raise TypeError(f"after must begin with a number of seconds, not {reprlib.repr(given)}")
    if not 0 < given <= sys.float_info.max:
        raise ValueError(
            "after must begin with a finite number of seconds, more than 0, "
            f"not {reprlib.repr(given)}"
        )
    return float(given)


def _check_during(during: object, triggers: dict[str, str | None]) -> None:
    if during is not None:
        check_callable("during", during, 1)
        if not is_coroutine_callable(during):
            raise TypeError(
                f"during must be async, but {describe(during)} is not; write it as `async def`"
            )
    for role, trigger in triggers.items():
        if trigger is not None:
            check_name(role, trigger)
            if during is None:
                raise ValueError(f"{role} needs during, whose end it tells; give both or neither")


def _check_final(state: State) -> None:
    if type(state.final) is not bool:
        raise TypeError(f"final must be True or False, not {reprlib.repr(state.final)}")
    if state.final:
        for role in ("exit", "after", "during"):
            if getattr(state, role) is not None:
                raise ValueError(
                    f"a final state is never left, so it can't have {role}; drop it, or final=True"
                )
