"""What the command line raises of its own."""

from __future__ import annotations

from typing import final


@final
class CannotRun(Exception):
    """Usage, a target or an input that nothing can be done with: exit status 2 (L5).

    Args:
        reason: one line that says what was given and what would be right.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@final
class Rejected(Exception):
    """A line of the input that can't be used (L5).

    Args:
        reason: why not, on one line.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@final
class InputBroken(Exception):
    """The input can't be read on.

    Args:
        reason: why not, on one line.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
