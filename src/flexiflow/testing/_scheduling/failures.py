"""The exceptions that the kit raises when a scenario fails or does not end."""

from __future__ import annotations

from contextlib import suppress
from traceback import format_exception_only
from typing import TYPE_CHECKING, Any, Final, cast, final

from flexiflow._cancellation import leaves
from flexiflow._errors import FlexiFlowError

if TYPE_CHECKING:
    from flexiflow.testing._scheduling.story import Story

_HEADING: Final = "\nwhat happened, turn by turn:\n"


@final
class ScenarioStuck(FlexiFlowError):
    """A scenario does not come to its end: it is in a deadlock, or in an endless loop (P2).

    `__cause__`, where there is one, shows where it waited.

    Args:
        reason: what was observed.

    Example:
        >>> import anyio
        >>> from flexiflow.testing import ScenarioStuck, replay
        >>> async def scenario():
        ...     await anyio.Event().wait()
        >>> try:
        ...     replay(scenario, backend="asyncio", decisions=())
        ... except ScenarioStuck as error:
        ...     print(error.reason.partition(",")[0])
        every task waits and no timer is set
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        """Return the reason in a sentence."""
        return f"the scenario does not come to its end: {self.reason}"


class Finding(FlexiFlowError):
    """What the kit finds: it is made from options, and survives copying and pickling (B3)."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how a copy is made: of the same arguments and attributes, without `__init__`."""
        return _made_of, (type(self), *self.args), vars(self)


def _made_of(kind: type[Finding], *arguments: object) -> Finding:
    return kind.__new__(kind, *arguments)


@final
class ScheduleFailure(Finding):
    """A scenario failed under one of the schedules that were explored (P2).

    `__cause__` is what the scenario raised under the shrunk schedule. The message tells the
    story of that schedule, turn by turn (P8).

    Args:
        scenario: its name.
        backend: the backend on which it ran.
        seed: the seed that explores the same schedules again.
        run: which schedule failed, counted from 1.
        decisions: the shrunk schedule.
        exception: what the scenario raised.
        replays: whether it failed again when the same schedule was run again.
        story: what happened under the shrunk schedule; None if it did not fail again.

    Attributes:
        color: whether the message has the story in color; the pytest plugin sets this on terminals.

    Example:
        >>> import anyio
        >>> from flexiflow.testing import ScheduleFailure, explore
        >>> async def scenario():
        ...     arrived = []
        ...     async def arrive(name):
        ...         arrived.append(name)
        ...     async with anyio.create_task_group() as tasks:
        ...         tasks.start_soon(arrive, "first")
        ...         tasks.start_soon(arrive, "second")
        ...     assert arrived == ["first", "second"]
        >>> try:
        ...     explore(scenario, backend="asyncio", seed=1)
        ... except ScheduleFailure as failure:
        ...     print(failure.decisions, repr(failure.exception))
        (1,) AssertionError()
    """

    def __init__(
        self,
        *,
        scenario: str,
        backend: str,
        seed: int,
        run: int,
        decisions: tuple[int, ...],
        exception: BaseException,
        replays: bool,
        story: Story | None = None,
    ) -> None:
        super().__init__(scenario, backend, seed, run, decisions, exception, replays)
        self.scenario = scenario
        self.backend = backend
        self.seed = seed
        self.run = run
        self.decisions = decisions
        self.exception = exception
        self.replays = replays
        self.story = story
        self.color = False

    @property
    def summary(self) -> str:
        """The message without the story."""
        return self._message("")

    def __str__(self) -> str:
        """Return the exception, the seed, the story, the shrunk decisions, and how to replay."""
        return self._message("" if self.story is None else told(self.story, color=self.color))

    def _message(self, story: str) -> str:
        arguments = f"{self.scenario}, backend={self.backend!r}, decisions={self.decisions}"
        how = (
            f"replay it: replay({arguments})"
            if self.replays
            else "it did not fail when that schedule was run again, so the scenario depends on "
            "something else too: on state of an earlier run, on time, on randomness"
        )
        return (
            f"schedule {self.run} of seed {self.seed} fails on {self.backend}: "
            f"{tell(self.exception)}\n{story}  decisions: {self.decisions}\n  {how}"
        )


@final
class CancellationFailure(Finding):
    """A scenario, or its check, failed after it was cancelled at a checkpoint (P3).

    `__cause__` is what was raised.

    Args:
        backend: the backend on which it ran.
        checkpoint: the checkpoint at which it was cancelled, counted from 1; 0 is before its
            beginning, and None means that it failed without a cancellation.
        style: how it was cancelled.
        exception: what was raised.

    Example:
        >>> import anyio
        >>> from flexiflow.testing import CancellationFailure, cancel_everywhere
        >>> orders = []
        >>> async def scenario():
        ...     orders.append("A7")
        ...     await anyio.sleep(1)
        ...     orders.remove("A7")
        >>> def check():
        ...     assert orders == []
        >>> try:
        ...     cancel_everywhere(scenario, backend="asyncio", check=check)
        ... except CancellationFailure as failure:
        ...     print(failure.checkpoint, failure.style)
        0 scope
    """

    def __init__(
        self, *, backend: str, checkpoint: int | None, style: str, exception: BaseException
    ) -> None:
        super().__init__(backend, checkpoint, style, exception)
        self.backend = backend
        self.checkpoint = checkpoint
        self.style = style
        self.exception = exception

    def __str__(self) -> str:
        """Return the exception, and where the scenario was cancelled."""
        when = (
            "before anything is cancelled"
            if self.checkpoint is None
            else f"cancelled at checkpoint {self.checkpoint} ({self.style})"
        )
        return f"the scenario fails on {self.backend}, {when}: {tell(self.exception)}"


@final
class CheckpointMissed(FlexiFlowError):
    """A scenario ended before the checkpoint at which it was to be cancelled (P3).

    Args:
        checkpoint: that checkpoint, counted from 1.
        passed: how many checkpoints it passed.

    Example:
        >>> from flexiflow.testing import CheckpointMissed
        >>> print(CheckpointMissed(checkpoint=3, passed=2).args)
        (3, 2)
    """

    def __init__(self, checkpoint: int, passed: int) -> None:
        super().__init__(checkpoint, passed)
        self.checkpoint = checkpoint
        self.passed = passed

    def __str__(self) -> str:
        """Return how far it came, and why that is a failure."""
        return (
            f"checkpoint {self.checkpoint} was not passed this time, only {self.passed} were, so "
            "the scenario depends on something else too: on state of an earlier run, on randomness"
        )


@final
class TasksLeft(FlexiFlowError):
    """Tasks outlived what started them (D4, P4).

    Args:
        names: the names of the tasks.

    Example:
        >>> import asyncio
        >>> from flexiflow.testing import TasksLeft, replay
        >>> async def scenario():
        ...     global task
        ...     task = asyncio.create_task(asyncio.sleep(1), name="forgotten")
        >>> try:
        ...     replay(scenario, backend="asyncio", decisions=())
        ... except TasksLeft as error:
        ...     print(error)
        tasks are left behind: 'sleep'
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self.names = names

    def __str__(self) -> str:
        """Return the names of the tasks."""
        return f"tasks are left behind: {', '.join(map(repr, self.names))}"


def ending_of(exception: BaseException) -> BaseException | None:
    """Return an exception, or a part of a group, that ends the program; None if there is none."""
    ends = (KeyboardInterrupt, SystemExit, GeneratorExit)
    return next((leaf for leaf in leaves(exception) if isinstance(leaf, ends)), None)


def tell(exception: BaseException) -> str:
    """Return an exception as the last line of its traceback shows it; of a group, each leaf."""
    return ", ".join("".join(format_exception_only(leaf)).strip() for leaf in leaves(exception))


def told(story: Story, *, color: bool = False) -> str:
    """Return a story as a part of a message."""
    return f"{_HEADING}{story.render(color=color)}\n\n"


def note_story(exception: BaseException, story: Story) -> None:
    """Add a story to an exception as a note, in place of an earlier one."""
    notes: object = getattr(exception, "__notes__", None)
    # An exception may refuse notes, or have others than texts; that must not hide it.
    if isinstance(notes, list):
        notes[:] = [note for note in cast("list[object]", notes) if not _is_story(note)]
    add_note(exception, told(story).rstrip())


def _is_story(note: object) -> bool:
    return isinstance(note, str) and note.startswith(_HEADING)


def add_note(exception: BaseException, note: str) -> None:
    """Add a note to an exception, unless that refuses notes."""
    with suppress(Exception):
        exception.add_note(note)
