"""What handlers do in scripts, besides using the bus."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from flexiflow.testing._examiner.code import block, wait, write

if TYPE_CHECKING:
    from flexiflow.testing._examiner.code import Lines, Place, Step


@dataclass(frozen=True)
class Wait:
    """Let others run for some turns."""

    turns: int = 1
    awaits: bool = field(default=True, init=False)

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        return wait(self.turns)


@dataclass(frozen=True)
class Hang:
    """Wait until cancelled."""

    awaits: bool = field(default=True, init=False)

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        return ["await anyio.sleep_forever()"]


@dataclass(frozen=True)
class Meet:
    """Wait for all other handlers of the script that do the same."""

    awaits: bool = field(default=True, init=False)

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        met = [f"arrived[{place.handler}].set()", "for each in arrived.values():"]
        return [*met, "    await each.wait()"]


@dataclass(frozen=True)
class Mark:
    """Set a context variable, to a value equal to its former one."""

    awaits: bool = field(default=False, init=False)

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        return ["mark.set(Mark())"]


@dataclass(frozen=True)
class Raise:
    """Raise something out of the handler.

    Attributes:
        what: "failure"; "exit", which is no `Exception`; "quit", a `SystemExit`; "stray", a
            cancellation that was caught from another scope, which is over; "group", of failures;
            "mixed", a group of a failure and a stray cancellation; "nested", the same with the
            cancellation in a group of its own.
    """

    what: Literal["failure", "exit", "quit", "stray", "group", "mixed", "nested"] = "failure"

    @property
    def awaits(self) -> bool:
        """Whether only async code can do it."""
        return self.what in ("stray", "mixed", "nested")

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        boom = f'Boom("h{place.handler}")'
        stray = "await kept_cancellation()"
        raises = {
            "failure": f"raise {boom}",
            "exit": f'raise Exit("h{place.handler}")',
            "quit": f'raise Quit("h{place.handler}")',
            "stray": f"raise {stray}",
            "group": f'raise ExceptionGroup("two", [{boom}, {boom}])',
            "mixed": f'raise BaseExceptionGroup("two", [{boom}, {stray}])',
            "nested": f'raise BaseExceptionGroup("two", [{boom}, '
            f'BaseExceptionGroup("one", [{stray}])])',
        }
        return [raises[self.what]]


@dataclass(frozen=True)
class CleanUp:
    """Clean up when cancelled: wait in a shield, and then perhaps fail, or exit."""

    turns: int = 0
    fails: Literal["no", "alone", "in a group", "by an exit"] = "no"
    awaits: bool = field(default=True, init=False)

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
class Together:
    """Do something in several tasks at once."""

    tasks: tuple[tuple[Step, ...], ...]
    awaits: bool = field(default=True, init=False)

    def code(self, place: Place) -> Lines:
        """Return it as lines of Python."""
        names = [f"task{place.name}_{number}" for number in range(len(self.tasks))]
        lines: Lines = []
        for name, steps in zip(names, self.tasks, strict=True):
            lines += block(f"async def {name}():", write(steps, place))
        started = [f"group.start_soon({name})" for name in names]
        return [*lines, *block("async with anyio.create_task_group() as group:", started)]
