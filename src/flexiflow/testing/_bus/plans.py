"""The plans that a bus may call handlers by (P1).

A bus may call handlers in one loop or in another, depending on the instruments that watch, on the
functions around, and on which of its handlers are async. An option of a subscription must hold in
each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from flexiflow.testing._bus.ending_programs import pass_on
from flexiflow.testing._examiner.kit import Both, Handling, Publishing, ignore

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexiflow import EventBus

    Plan: TypeAlias = tuple[str, int, str]

_INSTRUMENTS: Final[dict[str, Callable[[], Any]]] = {
    "publishes": Publishing,
    "handlers": Handling,
    "both": Both,
}
PLANS: Final[tuple[Plan, ...]] = tuple(
    (watched, around, beside)
    for watched in ("", *_INSTRUMENTS)
    for around in range(3)
    for beside in ("async", "sync")
)
"""What an instrument watches, how many functions are around, and what handler is beside."""


async def attend(_: object) -> None:
    """Do nothing, as an async handler."""


async def subscribe_in(
    bus: EventBus, plan: Plan, handler: Callable[[Any], Any], event: str = "a", **options: Any
) -> Any:
    """Subscribe a handler, and another one before it, in a plan."""
    watched, around, beside = plan
    await bus.subscribe("a", "beside", attend if beside == "async" else ignore, priority=1)
    # Without functions, too: a bus need not have them.
    given: dict[str, Any] = {"around": [pass_on] * around} if around else {}
    made = await bus.subscribe(event, "c", handler, **given, **options)
    if watched and hasattr(bus, "add_instrument"):
        bus.add_instrument(_INSTRUMENTS[watched]())
    return made
