"""What handlers do, besides using the bus."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from flexiflow.testing._code import block, wait

if TYPE_CHECKING:
    from flexiflow.testing._code import Lines, Place


@dataclass(frozen=True)
class Wait:
    """Let others run for some turns."""

    turns: int = 1
    awaits: bool = field(default=True, init=False)

    def code(self, place: Place) -> Lines:
        """Write it as Python."""
        return wait(self.turns)


@dataclass(frozen=True)
class Hang:
    """Wait until cancelled."""

    awaits: bool = field(default=True, init=False)

    def code(self, place: Place) -> Lines:
        """Write it as Python."""
        return ["await anyio.sleep_forever()"]


@dataclass(frozen=True)
class Meet:
    """Wait for all other handlers of the script that do so."""

    awaits: bool = field(default=True, init=False)

    def code(self, place: Place) -> Lines:
        """Write it as Python."""
        met = [f"arrived[{place.handler}].set()", "for each in arrived.values():"]
        return [*met, "    await each.wait()"]


@dataclass(frozen=True)
class Mark:
    """Set a context variable, to something equal to what it had."""

    awaits: bool = field(default=False, init=False)

    def code(self, place: Place) -> Lines:
        """Write it as Python."""
        return ["mark.set(Mark())"]


@dataclass(frozen=True)
class Raise:
    """Let something out.

    Attributes:
        what: "failure"; "exit", which is no `Exception`; "quit", which is one of `SystemExit`;
            "stray", a cancellation that somebody else's scope is through with; a "group" of
            failures; a "mixed" group, of a failure and a stray cancellation; a "nested" one, in
            which that is in a group of its own.
    """

    what: Literal["failure", "exit", "quit", "stray", "group", "mixed", "nested"] = "failure"

    @property
    def awaits(self) -> bool:
        """Whether only async code can do it."""
        return self.what in ("stray", "mixed", "nested")

    def code(self, place: Place) -> Lines:
        """Write it as Python."""
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
    """Clean up where cancelled: wait in a shield, and then perhaps fail, or exit."""

    turns: int = 0
    fails: Literal["no", "alone", "in a group", "by an exit"] = "no"
    awaits: bool = field(default=True, init=False)

    def code(self, place: Place) -> Lines:
        """Write nothing here: it stands around what the handler does."""
        return []

    def around(self, body: Lines, place: Place) -> Lines:
        """Write it around what the handler does."""
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
