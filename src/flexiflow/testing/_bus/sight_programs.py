"""Programs about what instruments see, and what becomes of those that fail (I2, I3, A2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from flexiflow import PublishRefused
from flexiflow.testing._bus.ending_programs import (
    FAILURES,
    ending,
    failures_in,
    given_with,
    left_with,
    subscribe_one,
)
from flexiflow.testing._examiner.kit import (
    Boom,
    Watch,
    claim,
    ignore,
    log_kept,
    types_of,
)

if TYPE_CHECKING:
    from flexiflow import EventBus
    from flexiflow._bus import DeliveryMode, ErrorPolicy

    Heard: TypeAlias = list[Any]


class Sees(Watch):
    """An instrument that notes what it sees, and with what each block was left."""

    def note(self, what: str, exception: BaseException | None = None) -> None:
        """Note it."""
        self.heard.append((f"{self.name} {what}", None if exception is None else type(exception)))


class SeesPublishes:
    """Such an instrument, which watches publishes alone."""

    def __init__(self, name: str, heard: Heard) -> None:
        self.publishing = Sees(name, heard).publishing


class SeesHandlers:
    """Such an instrument, which watches handlers alone."""

    def __init__(self, name: str, heard: Heard) -> None:
        self.handling = Sees(name, heard).handling


SIGHTS: Final = ((Sees,), (SeesPublishes,), (SeesHandlers,), (Sees, Sees), (SeesPublishes, Sees))
"""The instruments that watch."""


async def sees_each_end(
    bus: EventBus,
    *,
    heard: Heard,
    ends: str,
    option: str,
    sights: tuple[Any, ...],
    delivery: DeliveryMode,
    policy: ErrorPolicy,
) -> None:
    """However a handler ends, each instrument enters and leaves, and is told why."""
    await subscribe_one(bus, [], ends, option)
    # The route of the event is known when the instruments come.
    await bus.publish("a.b", delivery=delivery)
    seen: list[Heard] = [[] for _ in sights]
    for number, sight in enumerate(sights):
        bus.add_instrument(sight(f"{number}", seen[number]))

    async def call() -> None:
        heard.extend(await bus.publish("a", delivery=delivery, on_error=policy))

    left = await left_with(call, ends)
    told = FAILURES.get(ends) or left
    for number, sight in enumerate(sights):
        inside = [(f"{number} enters h", None), (f"{number} leaves h", told)]
        outside = [(f"{number} enters a", None), (f"{number} leaves a", left)]
        expected = [] if sight is SeesPublishes else inside
        if sight is not SeesHandlers:
            expected = [outside[0], *expected, outside[1]]
        # Neither its sibling, nor the event that tells of a failure.
        given = [each for each in seen[number] if each[0].split()[-1] in "ah"]
        claim(given == expected, f"of a handler that {ends} was seen {given}, not {expected}")


async def sees_each_answer(
    bus: EventBus, *, ends: str, option: str, sights: tuple[Any, ...], early: bool
) -> None:
    """However an answerer ends, the instruments see the question and the answer."""
    seen: list[Heard] = [[] for _ in sights]

    def install() -> None:
        for number, sight in enumerate(sights):
            bus.add_instrument(sight(f"{number}", seen[number]))

    if early:
        install()
    given = given_with(option, ends)
    limits = {name: given[name] for name in ("limit", "time_limit") if name in given}
    await bus.answer("q", "h", ending(ends, []), **limits)
    if not early:
        install()
    left = await left_with(lambda: bus.ask("q"), ends)
    for number, sight in enumerate(sights):
        inside = [(f"{number} enters h", None), (f"{number} leaves h", left)]
        outside = [(f"{number} enters q", None), (f"{number} leaves q", left)]
        expected = [] if sight is SeesPublishes else inside
        if sight is not SeesHandlers:
            expected = [outside[0], *expected, outside[1]]
        told = f"of an answerer that {ends} was seen {seen[number]}, not {expected}"
        claim(seen[number] == expected, told)
    wanted = FAILURES.get(ends, left)
    claim(left is wanted, f"an answerer {ends}, and ask was left by {left}")


class Breaks(Watch):
    """An instrument that raises in one place."""

    def __init__(self, name: str, heard: Heard, where: str, error: type[Exception]) -> None:
        super().__init__(name, heard)
        self.where, self.error = where, error

    def note(self, what: str, exception: BaseException | None = None) -> None:
        """Note what it sees, and raise there."""
        super().note(what, exception)
        if what == self.where:
            raise self.error


async def survives_in_each_place(
    bus: EventBus,
    *,
    heard: Heard,
    place: tuple[str, type[Exception]],
    ends: str,
    option: str,
    delivery: DeliveryMode,
    policy: ErrorPolicy,
) -> None:
    """Wherever an instrument fails, it is taken out, and what it watched goes on as without it."""
    where, error = place
    await subscribe_one(bus, heard, ends, option)
    await bus.subscribe("a", "later", ignore, priority=5)
    outer: Heard = []
    bus.add_instrument(Watch("1", outer))
    bus.add_instrument(Breaks("x", heard, where, error))
    failed: Heard = []

    async def call() -> None:
        failed.extend(await bus.publish("a", delivery=delivery, on_error=policy))

    with log_kept() as records:
        left = await left_with(call, ends)
        seen = [each for each in heard if each != "handler"]
        await bus.publish("b", delivery=delivery)
    if f"x {where}" not in heard:
        # Another handler has ended the publish before.
        return
    claim(heard.count("handler") == 1, f"an instrument fails, and handlers ran: {heard}")
    late = [each for each in heard if each != "handler"][len(seen) :]
    claim(not late, f"an instrument that has failed still watches: {late}")
    times = [type(each) for each in failures_in(records)].count(error)
    own = ends == "fails" and policy == "continue" and error is Boom
    claim(times == 1 + own, f"of an instrument that fails was logged {times - own} times")
    pairs = [(each, each.replace("enters", "leaves")) for each in outer if "enters" in each]
    open_ = [each for each, other in pairs if outer.count(each) != outer.count(other)]
    claim(not open_, f"an instrument fails, and of another one was not left: {open_}")
    told = [FAILURES[ends]] if ends in FAILURES and policy == "continue" else []
    claim(types_of(failed) == told, f"an instrument fails, and publish gives {failed}")
    is_calm = ends == "returns" or bool(told)
    claim((left is None) == is_calm, f"a handler {ends}, and publish was left by {left}")


PLACES: Final = (
    *((f"{verb} {what}", Boom) for verb in ("enters", "leaves") for what in "ah"),
    ("enters later", Boom),
    # Only as a publish begins, that refuses it.
    ("enters h", PublishRefused),
    ("leaves h", PublishRefused),
)
"""Where an instrument fails, and with what."""
