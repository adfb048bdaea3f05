"""Taking back what was set in a context."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from contextvars import ContextVar, Token

_T = TypeVar("_T")


def restore(variable: ContextVar[_T], token: Token[_T]) -> None:
    """Set a variable to what it was before.

    A coroutine that is collected is closed in another context, where nothing is to be restored.
    """
    with suppress(ValueError):
        variable.reset(token)
