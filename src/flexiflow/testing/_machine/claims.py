"""Claims about components and their states, as a user gives them (P6). Plain data, without a loop.

A *condition* is something that a component is in or not: a state, one of several states, or what a
function says. `Claims` holds all claims of one check. `Watch` (`watch`) looks whether they hold.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from inspect import isasyncgen, isawaitable, iscoroutine, isgenerator
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

from flexiflow._actor import copy_message
from flexiflow._callables import check_callable, describe, is_coroutine_callable
from flexiflow._states import enumerate_names
from flexiflow._text import closest, safely
from flexiflow._text import show as quote
from flexiflow.testing._machine.functions import Shown, name_of, show

if TYPE_CHECKING:
    from flexiflow._component import Component

Given: TypeAlias = str | Collection[str] | Callable[[Any], object]
"""What a user gives as a condition."""

SENTENCES: Final = {
    "invariants": "It holds when a component is registered, and after each of its messages.",
    "never": "No component ever reaches this.",
    "leads_to": (
        "After the first comes the second, at the latest when timers and work have run out, and "
        "the fair messages were sent again until nothing changed."
    ),
    "end": "A program ends when it is cancelled, and nothing but failures leave its messages.",
}
"""What each kind of claim means."""


@final
@dataclass(frozen=True, eq=False)
class Condition:
    """Something that a component is in, or not.

    Attributes:
        states: the states, of which it is in one; none if a function decides.
        function: decides it, given the component.
    """

    states: tuple[str, ...] = ()
    function: Callable[[Any], object] | None = None

    @property
    def name(self) -> str:
        """The condition in words."""
        if self.function is not None:
            return name_of(self.function)
        return " or ".join(map(quote, self.states))

    def holds(self, component: Component, state: str | None) -> bool:
        """Return whether a component is in it.

        Raises:
            Exception: what the function has raised; a `TypeError` if it returned no answer.
        """
        if self.function is None:
            return state in self.states
        answer = self.function(component)
        if answer is None:
            raise TypeError(f"{self.name} must return True or False, not None")
        return bool(_checked(answer, self.name))

    def complaint(self, component: Component) -> str | None:
        """Take it as an invariant: return what is wrong, "" if there are no words for it, or None.

        Raises:
            Exception: what the function has raised, except for an `AssertionError`.
        """
        function = cast("Callable[[Any], object]", self.function)
        try:
            answer = _checked(function(component), self.name)
        except AssertionError as exc:
            # pytest adds lines that tell how an assertion came to fail.
            return safely(str, exc).partition("\n")[0]
        return None if answer is None or answer else ""

    def shown(self, alias: str) -> Shown:
        """Return how a program gets at it."""
        if self.function is not None:
            return show(self.function, alias)
        return Shown("", repr(self.states[0] if len(self.states) == 1 else self.states))


@final
@dataclass(frozen=True, eq=False)
class Claim:
    """One claim.

    Attributes:
        kind: which argument of the check it comes from; "end" if from none.
        conditions: what it is about: two if it is one of `leads_to`.
    """

    kind: str
    conditions: tuple[Condition, ...] = ()

    @property
    def name(self) -> str:
        """The claim in words."""
        names = " leads to ".join(each.name for each in self.conditions)
        kinds = {"invariants": f"the invariant {names}", "never": f"never {names}"}
        return kinds.get(self.kind, names or "each program ends")

    @property
    def sentence(self) -> str:
        """What it means."""
        return SENTENCES[self.kind]


END: Final = Claim("end")
"""What holds of each program, whatever is claimed."""


@final
@dataclass(frozen=True)
class Claims:
    """All claims of a check.

    Attributes:
        invariants: each has one condition.
        never: each has one condition.
        leads_to: each has two conditions.
        fair: the messages that are sent again at the end of a program.
    """

    invariants: tuple[Claim, ...] = ()
    never: tuple[Claim, ...] = ()
    leads_to: tuple[Claim, ...] = ()
    fair: tuple[dict[str, Any], ...] = ()

    def check_names(self, *, states: Collection[str], triggers: Collection[str]) -> None:
        """Refuse a claim about a state, and a fair message for a trigger, that no machine has.

        Raises:
            ValueError: there is one.
        """
        for claim in (*self.never, *self.leads_to):
            for state in (state for each in claim.conditions for state in each.states):
                _check_known(f"{claim.kind} names the state", state, "states", states)
        for message in self.fair:
            _check_known("fair names the trigger", message["type"], "triggers", triggers)


def _check_known(said: str, name: str, kind: str, known: Collection[str]) -> None:
    if name in known:
        return
    near = closest(name, known)
    hint = f"; did you mean {' or '.join(map(quote, near))}?" if near else ""
    raise ValueError(
        f"{said} {quote(name)}, which no machine has; their {kind} are {enumerate_names(known)}"
        f"{hint}"
    )


def make_claims(
    *, invariants: object = (), never: object = (), leads_to: object = (), fair: object = ()
) -> Claims:
    """Check the arguments of a check, and return its claims.

    Raises:
        TypeError: one of them is of a wrong type.
        ValueError: a condition without states, or a message of `fair` without a type.
    """
    return Claims(
        tuple(
            Claim("invariants", (_invariant(*each),)) for each in _items("invariants", invariants)
        ),
        tuple(Claim("never", (_condition(*each),)) for each in _items("never", never)),
        tuple(Claim("leads_to", _pair(*each)) for each in _items("leads_to", leads_to)),
        tuple(_message(each) for _, each in _items("fair", fair)),
    )


def _items(role: str, given: object) -> list[tuple[str, Any]]:
    """Return what an argument holds, each item with its name for a message."""
    if not _is_list(given):
        raise TypeError(f"{role} must be a list, or the like, as in {role}=[{_brief(given)}]")
    items = cast("Iterable[object]", given)
    if isinstance(given, set | frozenset):
        # The order of a set differs between processes, and so would what is found first.
        items = sorted(items, key=_brief)
    return [(f"{role}[{number}]", item) for number, item in enumerate(items)]


def _is_list(given: object) -> bool:
    return isinstance(given, Iterable) and not isinstance(given, str | Mapping)


def _is_set(given: object) -> bool:
    return isinstance(given, set | frozenset)


def _invariant(role: str, given: object) -> Condition:
    if isinstance(given, str):
        raise TypeError(
            f"{role} must be a function of the component, not {reprlib.repr(given)}; a state that "
            "must not be reached belongs to never"
        )
    return Condition(function=_function(role, given))


def _condition(role: str, given: object) -> Condition:
    if isinstance(given, str):
        return Condition((given,))
    if not _is_list(given):
        return Condition(function=_function(role, given))
    names = [state for state in cast("Iterable[object]", given) if isinstance(state, str)]
    if not names or len(names) != len(cast("Collection[object]", given)):
        raise ValueError(f"{role} must name one state or more, not {_brief(given)}")
    # The order of a set differs between processes, and what is shown would differ with it.
    return Condition(tuple(sorted(names) if isinstance(given, set | frozenset) else names))


def _pair(role: str, given: object) -> tuple[Condition, Condition]:
    # A set has no first and second.
    is_pair = _is_list(given) and not _is_set(given)
    conditions = [*cast("Iterable[object]", given)] if is_pair else []
    if len(conditions) != 2:  # noqa: PLR2004  a pair
        raise TypeError(
            f"{role} must be a pair of conditions, like ('placed', 'shipped'), not {_brief(given)}"
        )
    first, second = conditions
    return _condition(f"{role}[0]", first), _condition(f"{role}[1]", second)


def _function(role: str, given: object) -> Callable[[Any], object]:
    check_callable(role, given, 1)
    if is_coroutine_callable(given):
        raise TypeError(f"{role} must be sync, but {describe(given)} is async")
    return cast("Callable[[Any], object]", given)


def _message(given: object) -> dict[str, Any]:
    if isinstance(given, str):
        return {"type": given}
    return copy_message(cast("Mapping[str, Any]", given))


def _checked(answer: object, name: str) -> object:
    """Return an answer, unless it is true only because it would have to be awaited or iterated."""
    if iscoroutine(answer):
        answer.close()
        raise TypeError(f"{name} must be sync, and returned a coroutine")
    if isawaitable(answer) or isgenerator(answer) or isasyncgen(answer):
        raise TypeError(f"{name} must return True or False, not {reprlib.repr(answer)}")
    return answer


def _brief(given: object) -> str:
    return describe(given) if callable(given) else reprlib.repr(given)
