"""Faults of seeing subscriptions, and of asking: B12, A1, A2."""

from typing import Any

import anyio

from flexiflow import Event
from flexiflow.events import HANDLER_FAILED
from properties.faults._registry import breaks
from properties.reference.bus import PlainSubscription
from properties.reference.full_bus import Full, Line


@breaks("B12")
class ShowsInOrderOfSubscription(Full):
    """Shows what an event reaches, but not in the order in which it is called."""

    def subscriptions(
        self, event: str | None = None, *, component: str | None = None
    ) -> tuple[PlainSubscription, ...]:
        found = super().subscriptions(event, component=component)
        return tuple(each for each in self.listed if each in found)


@breaks("B12")
class ShowsExactNamesOnly(Full):
    """Does not show the subscriptions to patterns."""

    def subscriptions(
        self, event: str | None = None, *, component: str | None = None
    ) -> tuple[PlainSubscription, ...]:
        found = super().subscriptions(event, component=component)
        return tuple(each for each in found if event in (None, each.event_name))


@breaks("B12")
class ShowsEveryOwner(Full):
    """Takes no notice of the component."""

    def subscriptions(
        self, event: str | None = None, *, component: str | None = None
    ) -> tuple[PlainSubscription, ...]:
        return super().subscriptions(event)


@breaks("A1")
class AsksInATask(Full):
    """Calls the answerer in a task of its own."""

    async def call_answerer(self, answerer: PlainSubscription, event: Event[Any]) -> Any:
        answers: list[Any] = []

        async def run() -> None:
            answers.append(await call(answerer, event))

        call = super().call_answerer
        async with anyio.create_task_group() as group:
            group.start_soon(run)
        return answers[0]


@breaks("A1")
class AwaitsNoAnswer(Full):
    """Returns what a sync answerer returns, and nothing from an async one."""

    async def call_answerer(self, answerer: PlainSubscription, event: Event[Any]) -> Any:
        answer = await super().call_answerer(answerer, event)
        return None if answerer.handler.__code__.co_flags & 0x80 else answer


@breaks("A1")
class ReportsWhatItRaises(Full):
    """Publishes the failure of an answerer, too."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        try:
            return await super().ask(query, data)
        except Exception as exc:
            await self.publish(HANDLER_FAILED, {"exception": exc})
            raise


@breaks("A1")
class TheLastAnswererWins(Full):
    """Takes a second answerer in place of the first."""

    def check_unanswered(self, query: str) -> None:
        """Check nothing."""


@breaks("A1")
class NobodyAnswersNone(Full):
    """Returns None where nobody answers."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        if "*" not in query and query not in self.answerers:
            return None
        return await super().ask(query, data)


@breaks("A1")
class AnswersWhenItIsGone(Full):
    """Calls an answerer that was unsubscribed."""

    async def call_answerer(self, answerer: PlainSubscription, event: Event[Any]) -> Any:
        return await self.call(answerer, event.data)


@breaks("A1")
class AnswersWithoutLimit(Full):
    """Takes no notice of an answerer's limit."""

    def line_of(self, subscription: PlainSubscription) -> Line | None:
        is_answerer = subscription in self.answerers.values()
        return None if is_answerer else super().line_of(subscription)


@breaks("A2")
class PublishesToAnswerers(Full):
    """Calls an answerer when its query is published."""

    def hears(self, subscription: PlainSubscription, event: str) -> bool:
        return subscription.event_name == event or super().hears(subscription, event)


@breaks("A2")
class PublishesQuestions(Full):
    """Publishes each question, too."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        if query in self.answerers:
            await self.publish(query, data)
        return await super().ask(query, data)


@breaks("A2")
class AsksWithoutEnd(Full):
    """Never lets others run between questions."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        self.since_yield = 0
        return await super().ask(query, data)


@breaks("A2")
class AsksUnseen(Full):
    """Shows instruments the question, and not its answerer."""

    async def answered_by(self, answerer: PlainSubscription, event: Event[Any]) -> Any:
        instruments, self.instruments = self.instruments, []
        try:
            return await super().answered_by(answerer, event)
        finally:
            self.instruments = instruments
