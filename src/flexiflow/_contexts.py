"""Resetting context variables."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from contextvars import ContextVar, Token

_T = TypeVar("_T")


def restore(variable: ContextVar[_T], token: Token[_T]) -> None:
    """Reset a variable to its value before the `set` that returned `token`.

    In another context this does nothing: that is where Python closes a coroutine that was never
    finished and is garbage-collected.
    """
    with suppress(ValueError):
        variable.reset(token)
