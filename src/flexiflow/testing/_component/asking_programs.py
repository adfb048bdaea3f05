"""Programs in which several ask for a component, and something ends that (C2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio

from flexiflow import Outcome, UnknownComponent
from flexiflow.testing._examiner.kit import Boom, claim

if TYPE_CHECKING:
    from flexiflow import Component
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]

ENDS: Final = ("a component", "a failure", "None", "a cancellation")
"""What the first one that asks may come to."""
RESULTS: Final[dict[str, object]] = {
    "a component": Outcome.IGNORED,
    "a failure": Boom,
    "None": UnknownComponent,
}


async def asks_in_turn(
    new: Factories, *, heard: Heard, first: str, then: str, leaves: bool
) -> None:
    """Of three that ask at once, one is asking; if that is cancelled, the next one asks again.

    Args:
        new: what makes components and engines.
        heard: when the factory is asked.
        first: what the first one comes to.
        then: what the next one comes to, if the first one was cancelled.
        leaves: whether the second sender is cancelled while it waits.
    """
    begin, results = anyio.current_time(), dict[int, object]()

    async def make(name: str) -> Component | None:
        heard.append(round(anyio.current_time() - begin, 3))
        gives = [first, then, "a component"][min(len(heard), 3) - 1]
        await anyio.sleep(2)
        if gives == "a failure":
            raise Boom
        return None if gives == "None" else new.component(name)

    engine = new.engine(component_factory=make)

    async def send(number: int, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            try:
                results[number] = await engine.send("a", {"type": "go"})
            except (Boom, UnknownComponent) as error:
                results[number] = type(error)

    async with anyio.create_task_group() as group:
        for number in range(3):
            is_cancelled = (first == "a cancellation") if number == 0 else leaves and number == 1
            group.start_soon(send, number, 1.0 + number / 4 if is_cancelled else 99.0)
            await anyio.sleep(0.1)
    asked, expected = expected_of(first, then, leaves=leaves)
    told = f"of three that ask, where the first one comes to {first}, the next one to {then}"
    claim(results == expected, f"{told}, there came {results}, not {expected}")
    claim(heard == asked, f"{told}, the factory was asked at {heard}, not {asked}")
    made = ["a"] if Outcome.IGNORED in expected.values() else []
    claim([*engine.components] == made, f"{told}, the engine has {[*engine.components]}")


def expected_of(first: str, then: str, *, leaves: bool) -> tuple[list[float], dict[int, object]]:
    """Return when the factory is asked, and what comes to whom."""
    if first != "a cancellation":
        return [0.0], {each: RESULTS[first] for each in range(3) if not (leaves and each == 1)}
    if leaves:
        # The second one is cancelled while it is asking itself.
        return [0.0, 1.0, 1.35], {2: Outcome.IGNORED}
    return [0.0, 1.0], dict.fromkeys((1, 2), RESULTS[then])
