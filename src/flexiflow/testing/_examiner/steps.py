"""The steps of scripts: data that is written as lines of Python, which are shown and run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass, replace
from textwrap import indent
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, TypeVar

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


class Step(ABC):
    """Something that a script does; `awaits` is whether only async code can do it."""

    awaits: ClassVar[bool] = True

    @abstractmethod
    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""


def quote(text: str) -> str:
    """Return a name as a string literal."""
    return f'"{text}"'


def block(head: str, body: Lines) -> Lines:
    """Return a compound statement."""
    return [head, *indent("\n".join(body or ["pass"]), "    ").split("\n")]


def function(head: str, does: tuple[Step, ...], body: Lines) -> Lines:
    """Return the definition of a function, which is sync if all that it does can be."""
    is_async = any(step.awaits for step in does)
    return block(f"{'async ' if is_async else ''}def {head}:", body)


def wait(turns: int) -> Lines:
    """Return code that lets others run for some turns."""
    if turns > 2:  # noqa: PLR2004  a loop takes two lines
        return [f"for _ in range({turns}):", "    await checkpoint()"]
    return ["await checkpoint()"] * turns


def without_one(steps: tuple[_T, ...]) -> Iterator[tuple[_T, ...]]:
    """Yield what remains if one of several is left out, for each of them."""
    return (steps[:at] + steps[at + 1 :] for at in range(len(steps)))


def less(given: Any) -> Iterator[Any]:
    """Yield steps with something left out, at any depth: a step, or an option that may be None."""
    whole: Any = given
    if isinstance(given, tuple):
        yield from without_one(whole)
        for at, each in enumerate(whole):
            yield from ((*whole[:at], fewer, *whole[at + 1 :]) for fewer in less(each))
    elif is_dataclass(given):
        for option in fields(whole):
            value = getattr(whole, option.name)
            if value is not None and option.default is None:
                yield replace(whole, **{option.name: None})
            yield from (replace(whole, **{option.name: fewer}) for fewer in less(value))


def write(steps: tuple[Step, ...], place: Place) -> Lines:
    """Return steps as lines of Python, one after another."""
    return [line for number, step in enumerate(steps) for line in step.code(place.inner(number))]


def attempt(call: str, errors: str, cancelled_after: int | None) -> Lines:
    """Return a call whose end is printed, cancelled after some turns of another task, or never."""
    lines = [
        *block("try:", [f"print({call})"]),
        *block(f"except {errors} as error:", ['print("raised", repr(error))']),
    ]
    if cancelled_after is None:
        return lines
    started = f"group.start_soon(cancel_after, scope, {cancelled_after})"
    scope = block("with anyio.CancelScope() as scope:", [started, *lines])
    group = "async with anyio.create_task_group() as group:"
    return block(group, [*scope, "group.cancel_scope.cancel()"])


@dataclass(frozen=True)
class Wait(Step):
    """Let others run for some turns."""

    turns: int = 1

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        return wait(self.turns)


@dataclass(frozen=True)
class Hang(Step):
    """Wait until cancelled."""

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        return ["await anyio.sleep_forever()"]


@dataclass(frozen=True)
class Meet(Step):
    """Wait for all other handlers of the script that do the same."""

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        met = [f"arrived[{place.handler}].set()", "for each in arrived.values():"]
        return [*met, "    await each.wait()"]


@dataclass(frozen=True)
class Mark(Step):
    """Set a context variable, to a value equal to its former one."""

    awaits = False

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        return ["mark.set(Mark())"]


@dataclass(frozen=True)
class Raise(Step):
    """Raise something out of the handler.

    Attributes:
        what: "failure"; "exit", which is no `Exception`; "quit", a `SystemExit`; "stray", a
            cancellation that was caught from another scope, which is over; "group", of failures;
            "mixed", a group of a failure and a stray cancellation; "nested", the same with the
            cancellation in a group of its own.
    """

    what: Literal["failure", "exit", "quit", "stray", "group", "mixed", "nested"] = "failure"

    @property
    def awaits(self) -> bool:  # type: ignore[override]
        """Whether only async code can do it."""
        return self.what in ("stray", "mixed", "nested")

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        boom = f'Boom("h{place.handler}")'
        stray = "await kept_cancellation()"
        raises = {
            "failure": boom,
            "exit": f'Exit("h{place.handler}")',
            "quit": f'Quit("h{place.handler}")',
            "stray": stray,
            "group": f'ExceptionGroup("two", [{boom}, {boom}])',
            "mixed": f'BaseExceptionGroup("two", [{boom}, {stray}])',
            "nested": f'BaseExceptionGroup("two", [{boom}, BaseExceptionGroup("one", [{stray}])])',
        }
        return [f"raise {raises[self.what]}"]


@dataclass(frozen=True)
class CleanUp(Step):
    """Clean up when cancelled: wait in a shield, and then perhaps fail, or exit."""

    turns: int = 0
    fails: Literal["no", "alone", "in a group", "by an exit"] = "no"

    def code(self, place: Place) -> Lines:
        """Return nothing: this step surrounds what the handler does (`around`)."""
        return []

    def around(self, body: Lines, place: Place) -> Lines:
        """Return the handler's body, surrounded by the cleanup."""
        boom = f'Boom("h{place.handler} in cleanup")'
        endings = {
            "no": "raise",
            "alone": f"raise {boom}",
            "in a group": f'raise BaseExceptionGroup("two", [{boom}, error])',
            "by an exit": f'raise Exit("h{place.handler} in cleanup")',
        }
        shield = block("with anyio.CancelScope(shield=True):", wait(self.turns))
        cleanup = [*(shield if self.turns else []), endings[self.fails]]
        head = "except anyio.get_cancelled_exc_class() as error:"
        return [*block("try:", body), *block(head, cleanup)]


@dataclass(frozen=True)
class Together(Step):
    """Do something in several tasks at once."""

    tasks: tuple[tuple[Step, ...], ...]

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        names = [f"task{place.name}_{number}" for number in range(len(self.tasks))]
        lines: Lines = []
        for name, steps in zip(names, self.tasks, strict=True):
            lines += block(f"async def {name}():", write(steps, place))
        started = [f"group.start_soon({name})" for name in names]
        return [*lines, *block("async with anyio.create_task_group() as group:", started)]
