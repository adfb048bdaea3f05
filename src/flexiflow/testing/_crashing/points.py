"""What is to be run, and where workers are killed (P7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

Worker: TypeAlias = "Callable[[Path], Awaitable[object]]"


class Point(NamedTuple):
    """Where a worker is killed.

    A checkpoint is named by its way, not by its number: the numbers change with each wait that is
    longer or shorter than before, and some lines would never be hit.

    Attributes:
        worker: the worker's number.
        way: the way of the checkpoint.
        time: 1 for the first time that the worker passes there, and so on.
        place: the line in the code, for people; empty if it is not known.
        is_users: whether that line is the user's.
    """

    worker: int
    way: str
    time: int
    place: str = ""
    is_users: bool = False

    @property
    def rank(self) -> tuple[int, bool]:
        """What is tried first, if not all is: what is passed for the first time, the user's own."""
        return self.time, not self.is_users


class Plan(NamedTuple):
    """What all rounds have in common.

    Attributes:
        names: the workers' names.
        backend: the backend on which they run.
        time_limit: how many seconds a round has, and has again once the killed worker was started
            again.
    """

    names: Sequence[str]
    backend: str
    time_limit: float
