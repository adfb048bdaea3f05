"""The exceptions of the command line."""

from __future__ import annotations

from typing import final


@final
class CannotRun(Exception):
    """The arguments, the target or the input can't be used: exit status 2 (L5).

    Args:
        reason: one line that says what was given and what would be right.
        traceback: of what a target raised, to be shown below; or "".
    """

    def __init__(self, reason: str, traceback: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.traceback = traceback


@final
class Rejected(Exception):
    """A line of the input can't be used (L5).

    Args:
        reason: why not, on one line.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@final
class InputBroken(Exception):
    """The input can't be read to its end.

    Args:
        reason: why not, on one line.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
