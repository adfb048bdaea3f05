"""The clauses of instruments, with their programs (I1 to I3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import HandlerCancelled, PublishRefused
from flexiflow.testing._examiner.clause import Clause, programs
from flexiflow.testing._examiner.kit import (
    Boom,
    Watch,
    claim,
    fail,
    kept_cancellation,
    log_kept,
    mark,
    refused,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from flexiflow import Event, EventBus
    from flexiflow._bus import DeliveryMode, ErrorPolicy

    Heard: TypeAlias = list[Any]


async def watches_until_removed(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """An instrument watches what is published while it is there."""
    watch = Watch("w", heard)
    await bus.publish("a")
    bus.add_instrument(watch)
    await bus.publish("a", 1, delivery=delivery)
    removed = [bus.remove_instrument(watch) for _ in range(2)]
    await bus.publish("a", 2, delivery=delivery)
    claim(heard == ["w enters a", "w leaves a"], f"added for one publish of three, it saw {heard}")
    claim(removed == [True, False], f"removing it twice returned {removed}")


async def watches_from_the_next_on(bus: EventBus, *, heard: Heard) -> None:
    """An instrument that is added while a publish goes on watches from the next one on."""

    async def handler(data: int) -> None:
        if data == 1:
            bus.add_instrument(Watch("w", heard))

    for _ in range(2):
        await bus.subscribe("a", "c", handler)
    await bus.publish("a", 1, delivery="sequential")
    claim(heard == [], f"added while a publish went on, it saw of that {heard}")
    await bus.publish("a", 2, delivery="sequential")
    claim("w enters a" in heard, f"added while a publish went on, it saw of the next {heard}")


async def nests_instruments(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """The instrument that is added first is outermost."""
    for name in "12":
        bus.add_instrument(Watch(name, heard))
    await bus.subscribe("a", "h", heard.append)
    await bus.publish("a", "called", delivery=delivery)
    entered = ["1 enters a", "2 enters a", "1 enters h", "2 enters h"]
    expected = [*entered, "called", *(each.replace("enter", "leave") for each in entered[::-1])]
    claim(heard == expected, f"two that watch, and a handler: {heard}, not {expected}")


async def watches_in_its_task(bus: EventBus, *, delivery: DeliveryMode) -> None:
    """A publish and a handler are watched in the tasks in which they run."""
    tasks: dict[str, int] = {}

    async def handler(_: object) -> None:
        await checkpoint()
        tasks["handler"] = anyio.get_current_task().id

    class Tasks(Watch):
        def note(self, what: str, exception: BaseException | None = None) -> None:  # noqa: ARG002
            tasks[what] = anyio.get_current_task().id

    bus.add_instrument(Tasks("w", []))
    await bus.subscribe("a", "h", handler)
    await bus.publish("a", delivery=delivery)
    here = anyio.get_current_task().id
    claim(tasks["enters a"] == tasks["leaves a"] == here, "a publish is watched in another task")
    expected = tasks["enters h"], tasks["leaves h"]
    told = "a handler is watched in another task than it runs in"
    claim(expected == (tasks["handler"],) * 2, told)


async def sets_context_variables(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """What an instrument sets in a context variable is seen within."""

    async def handler(_: object) -> None:
        await checkpoint()
        heard.append(mark.get())

    class Marks(Watch):
        def note(self, what: str, exception: BaseException | None = None) -> None:  # noqa: ARG002
            mark.set(str(mark.get() or "") + what[0] + what[-1])

    bus.add_instrument(Marks("w", heard))
    await bus.subscribe("a", "h", handler)
    await bus.publish("a", delivery=delivery)
    told = "set around a publish and around a handler"
    claim(heard == ["eaeh"], f"{told}, a context variable was seen there as {heard}")


async def is_shown_a_stray(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """An instrument is shown a stray cancellation as the failure that it is."""

    async def handler(_: object) -> None:
        raise await kept_cancellation()

    class Failures(Watch):
        def note(self, what: str, exception: BaseException | None = None) -> None:
            heard.extend([what, type(exception)] if exception else [])

    bus.add_instrument(Failures("w", heard))
    await bus.subscribe("a", "h", handler)
    await bus.publish("a", delivery=delivery, on_error="continue")
    claim(heard == ["leaves h", HandlerCancelled], f"of a stray cancellation it was shown {heard}")


async def swallows_nothing(bus: EventBus, *, heard: Heard, delivery: DeliveryMode) -> None:
    """An instrument can't swallow a failure."""
    error = Boom()

    def handler(_: object) -> None:
        raise error

    class Swallows(Watch):
        def note(self, what: str, exception: BaseException | None = None) -> bool:
            heard.extend([what, exception] if exception else [])
            return True

    bus.add_instrument(Swallows("w", heard))
    await bus.subscribe("a", "h", handler)
    failures = await bus.publish("a", delivery=delivery, on_error="continue")
    claim([each.exception for each in failures] == [error], f"a failure became {failures}")
    claim(heard == ["leaves h", error], f"under `continue` it was shown {heard}")
    with refused(Boom, "an instrument swallowed what leaves publish"):
        await bus.publish("a", delivery=delivery, on_error="raise")
    expected = ["leaves h", error, "leaves a", error]
    claim(heard[2:] == expected, f"under `raise` it saw {heard[2:]}")


async def survives_an_instrument(
    bus: EventBus, *, heard: Heard, fails: str, delivery: DeliveryMode, policy: ErrorPolicy
) -> None:
    """An instrument that fails is logged once and taken out, and delivery goes on."""

    class Fails(Watch):
        def note(self, what: str, exception: BaseException | None = None) -> None:
            super().note(what, exception)
            if what == fails:
                raise Boom

    bus.add_instrument(Watch("1", heard))
    bus.add_instrument(Fails("x", heard))
    for _ in range(2):
        await bus.subscribe("a", "h", heard.append)
    with log_kept() as records:
        for number in range(2):
            await bus.publish("a", number, delivery=delivery, on_error=policy)
    calls = [it for it in heard if it in (0, 1)]
    claim(calls == [0, 0, 1, 1], f"with an instrument that fails, two handlers heard {calls}")
    logged = [record.getMessage() for record in records if record.levelname == "ERROR"]
    claim(len(logged) == 1, f"of an instrument that fails was logged {logged}")
    pairs = [(name, it) for name in "1x" for it in "ah"]
    kept = [(heard.count(f"{x} enters {it}"), heard.count(f"{x} leaves {it}")) for x, it in pairs]
    itself = {"enters a": [(1, 0), (0, 0)], "leaves a": [(1, 1), (2, 2)]}.get(fails)
    # How many handlers it had entered by then depends on how they run.
    expected = [(2, 2), (4, 4), *(itself or [(1, 1), kept[3]])]
    claim(kept == expected, f"entered and exited were, for another instrument, then for it, {kept}")
    late = [it for it in heard[heard.index(1) :] if str(it).startswith("x enters")]
    claim(not late, f"an instrument that has failed still watches: {late}")


async def may_refuse(
    bus: EventBus, *, heard: Heard, delivery: DeliveryMode, policy: ErrorPolicy
) -> None:
    """`PublishRefused` leaves `publish` before any handler starts."""

    class Refuses(Watch):
        def note(self, what: str, exception: BaseException | None = None) -> None:
            super().note(what, exception)
            raise PublishRefused

    bus.add_instrument(Watch("1", heard))
    bus.add_instrument(Refuses("2", heard))
    await bus.subscribe("a", "h", heard.append)
    for _ in range(2):
        with refused(PublishRefused, "a publish that an instrument refuses goes on"):
            await bus.publish("a", "called", delivery=delivery, on_error=policy)
    claim("called" not in heard, "a publish was refused, and its handler called")
    expected = ["1 enters a", "2 enters a", "1 leaves a"] * 2
    claim(heard == expected, f"of two publishes that are refused they saw {heard}, not {expected}")


async def can_not_refuse_a_failure(bus: EventBus, *, delivery: DeliveryMode) -> None:
    """`event.handler.failed` can't be refused."""
    told: Heard = []

    class Refuses(Watch):
        def publishing(self, event: Event[Any], /) -> AbstractContextManager[object]:
            if event.name == "event.handler.failed":
                raise PublishRefused
            return super().publishing(event)

    def tell(data: dict[str, Any]) -> None:
        told.append(data["event_name"])

    bus.add_instrument(Refuses("w", []))
    await bus.subscribe("event.handler.failed", "c", tell)
    await bus.subscribe("a", "h", fail)
    for _ in range(2):
        await bus.publish("a", delivery=delivery, on_error="continue")
    claim(told == ["a", "a"], f"of two failures, whose publishing is refused, were told {told}")


I1 = Clause(
    "I1",
    "added and removed",
    "`add_instrument` and `remove_instrument` take effect from the next publish on; the "
    "latter returns True the first time and False afterwards.",
    programs(watches_until_removed, watches_from_the_next_on),
    needs=("add_instrument", "remove_instrument"),
)
I2 = Clause(
    "I2",
    "what an instrument sees",
    "`publishing` is around a whole publish, in the publisher's task, and `handling` around "
    "each handler, in the task that runs it, so that context variables work; the first added "
    "is outermost; an instrument is shown a failure as the bus classifies it, and can't "
    "swallow it.",
    programs(
        nests_instruments,
        watches_in_its_task,
        sets_context_variables,
        is_shown_a_stray,
        swallows_nothing,
    ),
    needs=("add_instrument",),
)
I3 = Clause(
    "I3",
    "an instrument that fails, or refuses",
    "An instrument that raises is logged once and taken out, its entered context managers "
    "are still exited, and delivery goes on; but `PublishRefused`, raised in `publishing`, "
    "leaves `publish` before any handler starts, never for `event.handler.failed`.",
    programs(
        survives_an_instrument,
        may_refuse,
        can_not_refuse_a_failure,
        fails=("enters a", "leaves a", "enters h", "leaves h"),
    ),
    needs=("add_instrument",),
)
