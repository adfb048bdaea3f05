"""The clause of seeing what is subscribed, with its programs (B12)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from flexiflow.testing._examiner.clause import Clause, programs
from flexiflow.testing._examiner.kit import claim, ignore, refused

if TYPE_CHECKING:
    from flexiflow import EventBus

    Heard: TypeAlias = list[Any]


async def shows_whom_it_reaches(bus: EventBus, *, heard: Heard) -> None:
    """`subscriptions(event)` gives those that a publish calls, in that order."""

    def handler(name: str, _: object) -> None:
        heard.append(name)

    for name, event, priority in (
        ("last", "a.b", 5),
        ("pattern", "a.*", 3),
        ("first", "**", 1),
        ("other", "a.c", 3),
        ("exact", "a.b", 3),
    ):
        await bus.subscribe(event, name, partial(handler, name), priority=priority)
    gone = await bus.subscribe("a.b", "gone", partial(handler, "gone"))
    bus.unsubscribe(gone)
    shown = [each.component_name for each in bus.subscriptions("a.b")]
    await bus.publish("a.b")
    claim(shown == heard, f"subscriptions shows {shown}, and a publish calls {heard}")


async def shows_all(bus: EventBus) -> None:
    """`subscriptions()` gives all that are active, `component=` those of one owner."""
    made = [await bus.subscribe("a", name, ignore) for name in ("b", "c", "b")]
    bus.unsubscribe(made[0])
    found = bus.subscriptions()
    claim(found == tuple(made[1:]), f"of {made[1:]}, which are active, it shows {found}")
    mine = bus.subscriptions(component="b")
    claim(mine == (made[2],), f"of {made[2]}, which is b's, it shows {mine}")
    of_both = bus.subscriptions("a", component="c")
    claim(of_both == (made[1],), f"of {made[1]}, which is c's and hears a, it shows {of_both}")


async def shows_no_pattern(bus: EventBus) -> None:
    """A pattern can't be published, so what it reaches can't be shown."""
    with refused(ValueError, "subscriptions of the pattern a.* raises no ValueError"):
        bus.subscriptions("a.*")


B12 = Clause(
    "B12",
    "what is subscribed can be seen",
    "`subscriptions()` returns all active subscriptions, `subscriptions(event)` those that a "
    "publish of that event would call, in order of delivery; `component=` leaves those of one "
    "owner.",
    programs(shows_whom_it_reaches, shows_all, shows_no_pattern),
    needs=("subscriptions",),
)
