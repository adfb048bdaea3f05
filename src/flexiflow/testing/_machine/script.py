"""Scripts: what senders do, as data, which is run, shown, and made smaller (P6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, final

from flexiflow._text import safely
from flexiflow.testing._examiner.program import Written
from flexiflow.testing._examiner.steps import block, less

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flexiflow.testing._examiner.steps import Lines
    from flexiflow.testing._machine.desk import Desk, Sender

_T = TypeVar("_T")

Message: TypeAlias = Mapping[str, Any]
Pool: TypeAlias = Sequence[Message]


@final
@dataclass(frozen=True)
class Send:
    """Send a message.

    Attributes:
        name: the component's name.
        message: the message.
        cancelled_after: after how many turns of another task it is cancelled; None for never.
    """

    name: str
    message: Mapping[str, Any]
    cancelled_after: int | None = None

    async def do(self, desk: Desk) -> None:
        """Do it at a desk."""
        await desk.send(self.name, self.message, cancelled_after=self.cancelled_after)

    def code(self) -> str:
        """Return it as a line of Python."""
        late = self.cancelled_after
        options = "" if late is None else f", cancelled_after={late}"
        return f"await desk.send({self.name!r}, {safely(repr, self.message)}{options})"

    def shorter(self, pools: Mapping[str, Pool]) -> Iterator[Send]:
        """Yield the same with each shorter message of the same type, the shortest first."""
        kind, size = self.message["type"], _size(self.message)
        alike = (each for each in pools.get(self.name, ()) if each["type"] == kind)
        for message in sorted(alike, key=_size):
            if _size(message) < size:
                yield replace(self, message=message)


@final
@dataclass(frozen=True)
class Pause:
    """Let time pass."""

    seconds: float

    async def do(self, desk: Desk) -> None:
        """Do it at a desk."""
        await desk.pause(self.seconds)

    def code(self) -> str:
        """Return it as a line of Python."""
        return f"await desk.pause({self.seconds!r})"

    def shorter(self, pools: Mapping[str, Pool]) -> Iterator[Pause]:  # noqa: ARG002  as above
        """Yield nothing: another pause makes the program no shorter."""
        yield from ()


Step: TypeAlias = Send | Pause
Senders: TypeAlias = tuple[tuple[Step, ...], ...]


@final
@dataclass(frozen=True)
class Script(Written):
    """What is done with a new engine.

    Attributes:
        senders: what each sender does; all begin at the same time.
        decisions: the schedule, as `run_scheduled` takes it.
        pools: the messages that were to choose from, by the component's name.
    """

    senders: Senders
    decisions: tuple[int, ...] = ()
    pools: Mapping[str, Pool] = field(default_factory=dict[str, Pool], compare=False)

    def smaller(self) -> Iterator[Script]:
        """Yield scripts with less: many steps left out, then few, a cancellation, a turn.

        Then yield those with a shorter message of the same type.
        """
        for senders in (*_with_less(self.senders), *less(self.senders)):
            yield replace(self, senders=senders)
            # With a task less, decisions point at other tasks.
            yield replace(self, senders=senders, decisions=())
        for decisions in (*pieces_left_out(self.decisions), *_lower(self.decisions)):
            yield replace(self, decisions=decisions)
        for at, steps in enumerate(self.senders):
            for place, step in enumerate(steps):
                for shorter in step.shorter(self.pools):
                    changed = (*steps[:place], shorter, *steps[place + 1 :])
                    yield replace(
                        self, senders=(*self.senders[:at], changed, *self.senders[at + 1 :])
                    )

    def at(self, desk: Desk) -> list[Sender]:
        """Return the senders, which do all this at a desk."""
        return [partial(_do, steps, desk) for steps in self.senders]

    def main(self) -> Lines:
        """Return what is done, as lines of Python."""
        names = [f"sender{number}" for number in range(1, len(self.senders) + 1)]
        lines: Lines = []
        for name, steps in zip(names, self.senders, strict=True):
            lines += [*block(f"async def {name}():", [each.code() for each in steps]), ""]
        return [*lines, f"await desk.run({', '.join(names)})"]


def pieces_left_out(given: tuple[_T, ...]) -> Iterator[tuple[_T, ...]]:
    """Yield what remains if a piece is left out, the largest pieces first, from the end on."""
    size = len(given)
    while size:
        for begin in range(len(given) - size, -1, -size):
            yield given[:begin] + given[begin + size :]
        size //= 2


def _with_less(senders: Senders) -> Iterator[Senders]:
    """Yield senders of whom one does less, or is left out."""
    yield from pieces_left_out(senders)
    for at, steps in enumerate(senders):
        for fewer in pieces_left_out(steps):
            if fewer:
                yield (*senders[:at], fewer, *senders[at + 1 :])


def _lower(decisions: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield schedules with a smaller decision."""
    for at, decision in enumerate(decisions):
        if decision:
            yield (*decisions[:at], 0, *decisions[at + 1 :])


def _size(message: Message) -> tuple[int, str]:
    """Return what messages are compared by: a shorter text, or one with smaller numbers."""
    text = safely(repr, message)
    return len(text), text


async def _do(steps: Iterable[Step], desk: Desk) -> None:
    for step in steps:
        await step.do(desk)
