"""What a script that is shown ends with: its run is judged by a clause of the bus (P5)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from flexiflow.testing._bus.contract import CONTRACT
from flexiflow.testing._bus.subject import BusSubject
from flexiflow.testing._examiner.asserting import assert_kept

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def judge(
    main: Callable[[Any], Awaitable[None]],
    factory: Callable[[], Any],
    *,
    clause: str,
    backend: str,
    decisions: tuple[int, ...],
) -> None:
    """Call an async function with a new bus, and judge what happens by a clause.

    Raises:
        AssertionError: the bus breaks the clause.
    """
    subject = BusSubject(factory, backend)
    assert_kept(CONTRACT, clause, subject, partial(subject.play_main, main, decisions))
