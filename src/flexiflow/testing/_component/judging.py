"""What a script that is shown ends with: its run is judged by a clause of components (P5)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from flexiflow.testing._component.contract import COMPONENT_CONTRACT
from flexiflow.testing._component.subject import ComponentSubject
from flexiflow.testing._examiner.asserting import assert_kept

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def judge_component(
    main: Callable[..., Awaitable[None]],
    factory: Callable[..., Any],
    new_engine: Callable[..., Any],
    *,
    clause: str,
    backend: str,
    decisions: tuple[int, ...],
) -> None:
    """Call an async function with what makes components and engines, and judge what happens.

    Raises:
        AssertionError: they break the clause.
    """
    subject = ComponentSubject(factory, engine=new_engine, backend=backend)
    play = partial(subject.play_main, main, decisions, tells=True)
    assert_kept(COMPONENT_CONTRACT, clause, subject, play)
