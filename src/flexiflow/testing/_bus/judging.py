"""What a script that is shown ends with: its run is judged by a clause of the bus (P5)."""

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


def judge_bus(
    main: Callable[[Any], Awaitable[None]],
    factory: Callable[[], Any],
    *,
    clause: str,
    backend: str,
    decisions: tuple[int, ...],
    company: str | None = None,
    is_crossing: bool = False,
) -> None:
    """Call an async function with a new bus, and judge what happens by a clause.

    Args:
        main: the function.
        factory: makes the bus.
        clause: the number of the clause.
        backend: the backend on which it runs.
        decisions: the schedule of the tasks.
        company: the name of the company in which the bus is, if it is not alone.
        is_crossing: whether the model of the bus judges for the clause.

    Raises:
        AssertionError: the bus breaks the clause.
    """
    subject = BusSubject(factory, backend)
    contract = CONTRACT
    if is_crossing:
        contract = tuple(replace(each, complain=partial(complaint_of, clause)) for each in contract)
    assert_kept(
        contract, clause, subject, partial(subject.play_main, main, decisions, company=company)
    )
