"""What a crossing that is shown ends with: its run is judged by the model of the bus (P5)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from flexiflow.testing._bus.contract import CONTRACT
from flexiflow.testing._bus.crossed import complaint_of
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
    """Call an async function with a new bus, and judge what happens by the model.

    Raises:
        AssertionError: the bus breaks the clause.
    """
    subject = BusSubject(factory, backend)
    judged = [replace(each, complain=partial(complaint_of, clause)) for each in CONTRACT]
    assert_kept(judged, clause, subject, partial(subject.play_main, main, decisions))
