"""The clause of seeing what is subscribed, with its programs (B12)."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from flexiflow.testing._examiner.clause import Clause, programs
from flexiflow.testing._examiner.kit import claim, ignore, noting, refused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

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
    made = [
        await bus.subscribe("a", name, ignore, priority=priority)
        for name, priority in (("b", 3), ("c", 5), ("b", 1))
    ]
    bus.unsubscribe(made[0])
    found = bus.subscriptions()
    claim(found == tuple(made[1:]), f"of {made[1:]}, which are active, it shows {found}")
    mine = bus.subscriptions(component="b")
    claim(mine == (made[2],), f"of {made[2]}, which is b's, it shows {mine}")
    of_both = bus.subscriptions("a", component="c")
    claim(of_both == (made[1],), f"of {made[1]}, which is c's and hears a, it shows {of_both}")


@asynccontextmanager
async def answering(bus: EventBus) -> AsyncGenerator[None]:
    """Answer the query "answer" within the block."""
    with await bus.answer("answer", "c", ignore):
        yield


async def shows_answerers_and_receivers(bus: EventBus) -> None:
    """`subscriptions()` shows answerers, streams and expectations, too, if the bus has them."""
    blocks: dict[str, Callable[[], AbstractAsyncContextManager[object]]] = {
        "stream": lambda: bus.stream("stream"),
        "answer": lambda: answering(bus),
        "expect": lambda: bus.expect("expect"),
    }
    offered = [name for name in blocks if hasattr(bus, name)]
    async with AsyncExitStack() as stack:
        for name in offered:
            await stack.enter_async_context(blocks[name]())
        found = [each.event_name for each in bus.subscriptions()]
    claim(found == offered, f"of what hears or answers {offered}, it shows {found}")
    left = bus.subscriptions()
    claim(not left, f"of streams, expectations and answerers that have ended, it shows {left}")


async def asks_no_filter(bus: EventBus, *, heard: Heard) -> None:
    """To show what an event reaches asks no filter, and spends no `once`."""
    made = await bus.subscribe("a", "c", ignore, filter=noting(heard, accepts=False), once=True)
    found = bus.subscriptions("a")
    claim(not heard, f"to show what an event reaches, a filter was asked about {heard}")
    claim(found == (made,), f"of {made}, whose filter is not to be asked, it shows {found}")
    claim(made.active, "to show what an event reaches spent the once of a subscription")


async def shows_what_was_given(bus: EventBus, *, heard: Heard) -> None:
    """A subscription shows its handler, its filter and `once`, which can't be replaced."""
    accepts = noting(heard)
    await bus.subscribe("a", "c", ignore, filter=accepts, once=True)
    [shown] = bus.subscriptions()
    given = {"handler": ignore, "filter": accepts, "once": True}
    for name, value in given.items():
        found = getattr(shown, name)
        claim(found == value, f"a subscription shows {name}={found!r}, and was given {value!r}")
        with refused((AttributeError, TypeError), f"a subscription's {name} was replaced"):
            setattr(shown, name, None)


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
    programs(
        shows_whom_it_reaches,
        shows_all,
        shows_answerers_and_receivers,
        asks_no_filter,
        shows_what_was_given,
        shows_no_pattern,
    ),
    needs=("subscriptions",),
    share=0.8,
)
