"""The clauses on what engines publish: they yield (D6), and failures go round no more (E7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from flexiflow import StateMachine, Transition
from flexiflow.testing._bus import delivery_clauses, failure_clauses
from flexiflow.testing._examiner.clause import programs
from flexiflow.testing._examiner.kit import Boom, claim, fail, ignore, log_kept

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexiflow import Component, Engine
    from flexiflow.testing._examiner.kit import Factories

    Heard: TypeAlias = list[Any]
    Message: TypeAlias = Mapping[str, Any]


# D6


async def count_turns(heard: Heard) -> None:
    """Note each turn of this task."""
    while True:
        heard.append("a turn")
        await checkpoint()


async def send_many(engine: Engine, component: Component, loop: str) -> None:
    """Send many messages without a pause."""
    trigger = {"internal": "note", "ignored": "other"}.get(loop, "go")
    for number in range(1 if loop == "deferred" else 610):
        message = {"type": trigger, "number": 610}
        if loop == "handed over":
            await component.handle_message(message)
        else:
            await engine.send("ab"[number % 2] if loop == "to two" else "a", message)


async def yields_in_a_loop(new: Factories, *, heard: Heard, loop: str) -> None:
    """However messages come without a pause, other tasks have their turns meanwhile."""

    async def act(message: Message, component: Component) -> None:
        if loop == "deferred" and message["number"]:
            await engine.send(component.name, {**message, "number": message["number"] - 1})

    rows = [Transition("s0", "go", "s0", action=act), Transition("s0", "note", None)]
    machine = StateMachine("s0", rows)
    engine, component = await new.host([], machine=machine)
    await engine.register(new.component("b", machine=machine))
    if loop == "observed":
        await engine.bus.subscribe("component.*.*", "o", ignore)
    async with anyio.create_task_group() as group:
        group.start_soon(count_turns, heard)
        await checkpoint()
        heard.clear()
        await send_many(engine, component, loop)
        group.cancel_scope.cancel()
    told = f"during 610 messages without a pause ({loop}), others had {len(heard)} turns"
    claim(len(heard) >= 9, told)


D6 = delivery_clauses.D6.tried_with(
    programs(
        yields_in_a_loop,
        loop=("sent", "internal", "ignored", "handed over", "to two", "observed", "deferred"),
    ),
)


# E7


class Reports:
    """A component whose messages fail, and an observer of failures that sends it further ones.

    Args:
        first: what fails at first.
        then: what a message of the observer does.
    """

    def __init__(self, first: str, then: str) -> None:
        self.first, self.then = first, then
        self.handled: list[str] = []
        self.published: list[str] = []
        triggers = ("go", "fail", "report")
        self.rows = [Transition("s0", each, None, action=self.act) for each in triggers]
        self.engine: Any = None

    async def act(self, message: Message, _: Component) -> None:
        """Do what a message says, unless it goes round for ever."""
        self.handled.append(message["type"])
        if message["type"] == "go":
            await self.begin()
        elif message["type"] == "fail" or self.then == "fails":
            raise Boom
        elif self.then == "publishes":
            await self.publish()
        else:
            await self.engine.send("a", {"type": "fail"})

    async def begin(self) -> None:
        """Let something fail."""
        if self.first == "a deferred message":
            await self.engine.send("a", {"type": "fail"})
        else:
            await self.publish()

    async def publish(self) -> None:
        """Publish an event whose handler fails."""
        await self.engine.bus.publish("tick", None, delivery="sequential", on_error="continue")

    async def report(self, data: Mapping[str, Any]) -> None:
        """Send a message, as an observer of failures."""
        self.published.append(data["event_name"])
        if len(self.published) < 5:
            await self.engine.send("a", {"type": "report"})


async def reports_no_further(new: Factories, *, first: str, then: str) -> None:
    """What fails within a report is logged, and reported no further, also if it is deferred."""
    reports = Reports(first, then)
    engine, _ = await new.host([], machine=StateMachine("s0", reports.rows))
    reports.engine = engine
    await engine.bus.subscribe("tick", "o", fail)
    await engine.bus.subscribe("event.handler.failed", "o", reports.report)
    with log_kept() as records:
        if first == "a handler of anybody's":
            await reports.begin()
        else:
            await engine.send("a", {"type": "go"})
    told = f"where at first {first} fails, and a message of its report {then}"
    published = len(reports.published)
    claim(published == 1, f"{told}, {published} failures were published")
    claim("report" in reports.handled, f"{told}, that message was not handled")
    logged = [each.levelname for each in records if each.exc_info]
    claim(logged == ["ERROR"] * 2, f"{told}, the failures were logged as {logged}")


E7 = failure_clauses.E7.tried_with(
    programs(
        reports_no_further,
        first=("a handler", "a deferred message", "a handler of anybody's"),
        then=("fails", "publishes", "defers"),
    ),
)
