"""Strategies that draw scripts for a bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from flexiflow.testing._bus.script import Publish, Script
from flexiflow.testing._examiner.clause import MODES, schedules

if TYPE_CHECKING:
    from flexiflow._bus import DeliveryMode, ErrorPolicy
    from flexiflow.testing._bus.script import Subscribe
    from flexiflow.testing._examiner.program import Case
    from flexiflow.testing._examiner.steps import Step


def scripts(
    subscriptions: st.SearchStrategy[Subscribe],
    after: st.SearchStrategy[Step],
    *,
    least: int = 1,
    most: int = 5,
    most_after: int = 1,
    scheduled: bool = True,
) -> st.SearchStrategy[Case]:
    """Draw scripts: some subscriptions, then other steps."""
    return st.builds(
        _script,
        st.lists(subscriptions, min_size=least, max_size=most),
        st.lists(after, min_size=1, max_size=most_after),
        schedules if scheduled else st.just(()),
    )


def _script(first: list[Subscribe], then: list[Step], decisions: tuple[int, ...]) -> Script:
    return Script((*first, *then), decisions)


def publishes(
    deliveries: tuple[DeliveryMode, ...] = MODES,
    policies: tuple[ErrorPolicy, ...] = ("continue",),
    *,
    event: str = Publish.event,
) -> st.SearchStrategy[Publish]:
    """Draw publishes with an explicit delivery and policy."""
    return st.builds(
        Publish,
        delivery=st.sampled_from(deliveries),
        on_error=st.sampled_from(policies),
        event=st.just(event),
    )
