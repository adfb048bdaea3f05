"""What programs are written with: lines of Python, and the steps that give them."""

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
        name: what tells the names that the step makes from others, as "0".
        handler: the name of the handler that it is in, or None.
    """

    count: int
    name: str = ""
    handler: str | None = None

    def inner(self, number: int) -> Place:
        """Give the place of one of several steps that are done here."""
        return replace(self, name=f"{self.name}{number}")

    def subscription(self, number: int) -> str:
        """Name one of the script's subscriptions."""
        return f"s{number % max(1, self.count)}"


class Step(Protocol):
    """Something that a program does."""

    @property
    def awaits(self) -> bool:
        """Whether only async code can do it."""
        ...

    def code(self, place: Place) -> Lines:
        """Write it as Python."""
        ...


def quote(text: str) -> str:
    """Write a name as a literal."""
    return f'"{text}"'


def block(head: str, body: Lines) -> Lines:
    """Write a compound statement."""
    return [head, *indent("\n".join(body or ["pass"]), "    ").split("\n")]


def wait(turns: int) -> Lines:
    """Write what lets others run for some turns."""
    if turns > 2:  # noqa: PLR2004  a loop takes two lines
        return [f"for _ in range({turns}):", "    await checkpoint()"]
    return ["await checkpoint()"] * turns


def without_one(steps: tuple[_T, ...]) -> Iterator[tuple[_T, ...]]:
    """Give what is left where one of several is left out, for each."""
    return (steps[:at] + steps[at + 1 :] for at in range(len(steps)))


def write(steps: tuple[Step, ...], place: Place) -> Lines:
    """Write steps one after another."""
    return [line for number, step in enumerate(steps) for line in step.code(place.inner(number))]
