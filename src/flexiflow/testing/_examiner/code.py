"""The parts of programs: lines of Python, and the steps that are written as such lines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from textwrap import indent
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

_T = TypeVar("_T")
Lines: TypeAlias = list[str]


@dataclass(frozen=True)
class Place:
    """Where in a program a step stands.

    Attributes:
        count: how many subscriptions the script makes at the top, for steps to refer to.
        name: what makes the names that the step defines differ from others, as "0".
        handler: the name of the handler that contains the step, or None.
    """

    count: int
    name: str = ""
    handler: str | None = None

    def inner(self, number: int) -> Place:
        """Return the place of one of several steps that are done here."""
        return replace(self, name=f"{self.name}{number}")

    def subscription(self, number: int) -> str:
        """Return the name of one of the script's subscriptions."""
        return f"s{number % max(1, self.count)}"


class Step(Protocol):
    """Something that a program does."""

    @property
    def awaits(self) -> bool:
        """Whether only async code can do it."""
        ...

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        ...


def quote(text: str) -> str:
    """Return a name as a string literal."""
    return f'"{text}"'


def block(head: str, body: Lines) -> Lines:
    """Return a compound statement."""
    return [head, *indent("\n".join(body or ["pass"]), "    ").split("\n")]


def wait(turns: int) -> Lines:
    """Return code that lets others run for some turns."""
    if turns > 2:  # noqa: PLR2004  a loop takes two lines
        return [f"for _ in range({turns}):", "    await checkpoint()"]
    return ["await checkpoint()"] * turns


def without_one(steps: tuple[_T, ...]) -> Iterator[tuple[_T, ...]]:
    """Yield what remains if one of several is left out, for each of them."""
    return (steps[:at] + steps[at + 1 :] for at in range(len(steps)))


def write(steps: tuple[Step, ...], place: Place) -> Lines:
    """Return steps as lines of Python, one after another."""
    return [line for number, step in enumerate(steps) for line in step.code(place.inner(number))]
