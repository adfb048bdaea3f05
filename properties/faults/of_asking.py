"""Faults of seeing subscriptions, and of asking: B12, A1, A2."""

from collections.abc import Iterable
from contextvars import copy_context
from copy import copy
from functools import partial
from inspect import isawaitable
from typing import Any, cast

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from flexiflow import DuplicateAnswer, Event, HandlerCancelled, NoAnswer, PublishRefused
from flexiflow.events import HANDLER_FAILED, MESSAGE_RECEIVED
from properties.faults._registry import breaks
from properties.reference.bus import PlainSubscription, logger
from properties.reference.full_bus import Entered, Full, Line


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


@breaks("B12")
class ShowsAllByPriority(Full):
    """Shows all subscriptions in order of delivery."""

    def subscriptions(
        self, event: str | None = None, *, component: str | None = None
    ) -> tuple[PlainSubscription, ...]:
        found = super().subscriptions(event, component=component)
        return tuple(sorted(found, key=lambda each: each.priority))


@breaks("B12")
class ShowsTheGone(Full):
    """Shows subscriptions that have ended."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: list[PlainSubscription] = []

    def unsubscribe(self, subscription: PlainSubscription) -> bool:
        self.gone.append(subscription)
        return super().unsubscribe(subscription)

    def subscriptions(
        self, event: str | None = None, *, component: str | None = None
    ) -> tuple[PlainSubscription, ...]:
        found = super().subscriptions(event, component=component)
        return found if event or component else (*self.gone, *found)


@breaks("B12")
class ShowsAList(Full):
    """Shows a list, which its caller may change."""

    def subscriptions(
        self, event: str | None = None, *, component: str | None = None
    ) -> tuple[PlainSubscription, ...]:
        found = super().subscriptions(event, component=component)
        return cast("tuple[PlainSubscription, ...]", [*found])


@breaks("B12")
class ShowsNoAnswerers(Full):
    """Does not show answerers."""

    def subscriptions(
        self, event: str | None = None, *, component: str | None = None
    ) -> tuple[PlainSubscription, ...]:
        found = super().subscriptions(event, component=component)
        return tuple(each for each in found if each not in self.answerers.values())


@breaks("B12")
class ShowsNoReceivers(Full):
    """Shows neither streams nor expectations."""

    def subscriptions(
        self, event: str | None = None, *, component: str | None = None
    ) -> tuple[PlainSubscription, ...]:
        found = super().subscriptions(event, component=component)
        return tuple(each for each in found if each not in self.receivers)


@breaks("B12")
class ShowsByFilter(Full):
    """Leaves out those whose filter rejects a payload."""

    def subscriptions(
        self, event: str | None = None, *, component: str | None = None
    ) -> tuple[PlainSubscription, ...]:
        found = super().subscriptions(event, component=component)
        return tuple(
            each for each in found if event is None or not each.filter or each.filter(event, None)
        )


@breaks("B12")
class ShowsAndSpends(Full):
    """Spends the `once` of what it shows."""

    def subscriptions(
        self, event: str | None = None, *, component: str | None = None
    ) -> tuple[PlainSubscription, ...]:
        found = super().subscriptions(event, component=component)
        for each in found:
            if event is not None and each.once:
                self.unsubscribe(each)
        return found


@breaks("B12")
class ShowsAPattern(Full):
    """Takes a pattern, too."""

    def subscriptions(
        self, event: str | None = None, *, component: str | None = None
    ) -> tuple[PlainSubscription, ...]:
        if event and "*" in event:
            return ()
        return super().subscriptions(event, component=component)


@breaks("B12")
class HidesFilters(Full):
    """Its subscriptions show another filter than they were given."""

    async def subscribe(self, *arguments: Any, **options: Any) -> PlainSubscription:
        if options.get("filter") is not None:
            options["filter"] = partial(options["filter"])
        return await super().subscribe(*arguments, **options)


@breaks("B12")
class ShowsWhatCanBeReplaced(Full):
    """Its subscriptions let their handler be replaced."""

    class Open(PlainSubscription):
        """A subscription that takes any change."""

        def __setattr__(self, name: str, value: object) -> None:
            object.__setattr__(self, name, value)

    make = Open


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


@breaks("A1")
class AsksInACopiedContext(Full):
    """Calls the answerer in a copy of the asker's context."""

    async def call(self, subscription: PlainSubscription, data: Any) -> Any:
        if subscription not in self.answerers.values():
            return await super().call(subscription, data)
        result = copy_context().run(subscription.handler, data)
        return await result if isawaitable(result) else result


@breaks("A1")
class WrapsWhatItRaises(Full):
    """Raises a copy of what the answerer raised, which is its cause."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        try:
            return await super().ask(query, data)
        except Exception as exc:
            raise copy(exc) from exc


@breaks("A1")
class LogsWhatItRaises(Full):
    """Logs the failure of an answerer, too."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        try:
            return await super().ask(query, data)
        except Exception as exc:
            logger.error("an answerer raised %r", exc)
            raise


@breaks("A1")
class AsksUnjudged(Full):
    """Lets a stray cancellation pass, as a plain `await` would."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        try:
            return await super().ask(query, data)
        except HandlerCancelled as exc:
            raise exc.__cause__ or exc from None


@breaks("A1")
class ForgetsTheStray(Full):
    """Raises `HandlerCancelled` without the cancellation that it stands for."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        try:
            return await super().ask(query, data)
        except HandlerCancelled as exc:
            raise exc from None


@breaks("A1")
class UnpacksGroups(Full):
    """Raises the only exception in a group in place of the group."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        try:
            return await super().ask(query, data)
        except ExceptionGroup as exc:
            raise exc.exceptions[0] from None


@breaks("A1")
class KeepsCancellationsInGroups(Full):
    """Raises a group as it is, with the cancellations in it."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[BaseException] = []

    async def call_answerer(self, answerer: PlainSubscription, event: Event[Any]) -> Any:
        try:
            return await super().call_answerer(answerer, event)
        except BaseExceptionGroup as exc:
            self.groups.append(exc)
            raise

    async def ask(self, query: Any, data: Any = None) -> Any:
        try:
            return await super().ask(query, data)
        except ExceptionGroup:
            raise self.groups.pop() from None


@breaks("A1")
class LosesAFailureBesideACancellation(Full):
    """Raises the asker's own cancellation in place of a failure beside it."""

    async def call_answerer(self, answerer: PlainSubscription, event: Event[Any]) -> Any:
        try:
            return await super().call_answerer(answerer, event)
        except BaseExceptionGroup:
            await checkpoint_if_cancelled()
            raise


@breaks("A1")
class SwallowsTheAskersCancellation(Full):
    """Returns no answer to an asker whose time is over."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        try:
            return await super().ask(query, data)
        except anyio.get_cancelled_exc_class():
            raise HandlerCancelled("an answerer") from None


@breaks("A1")
class RefusesTooLate(Full):
    """Refuses a second answerer when it has taken the place of the first."""

    async def answer(self, query: Any, *arguments: Any, **options: Any) -> PlainSubscription:
        former = self.answerers.pop(query, None)
        made = await super().answer(query, *arguments, **options)
        if former is not None and former.active:
            raise DuplicateAnswer(query, former.component_name)
        return made


@breaks("A1")
class KnowsNoNames(Full):
    """Says that nobody answers, and names nothing that is close."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        try:
            return await super().ask(query, data)
        except NoAnswer:
            raise NoAnswer(query) from None


@breaks("A1")
class AsksPatterns(Full):
    """Says of a pattern that nobody answers it."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        if "*" in query:
            raise NoAnswer(query)
        return await super().ask(query, data)


@breaks("A1")
class AnswersPatterns(Full):
    """Takes an answerer of a pattern."""

    async def answer(self, query: Any, *arguments: Any, **options: Any) -> PlainSubscription:
        return await super().answer(query.replace("*", "any"), *arguments, **options)


@breaks("A1")
class DropsTheAnswerInHand(Full):
    """Gives no answer if the answerer is unsubscribed meanwhile."""

    async def call_answerer(self, answerer: PlainSubscription, event: Event[Any]) -> Any:
        answer = await super().call_answerer(answerer, event)
        if not answerer.active:
            raise NoAnswer(event.name)
        return answer


@breaks("A1")
class AnswersThoseInLine(Full):
    """Calls an answerer that was unsubscribed for the askers that waited in line before."""

    async def call_answerer(self, answerer: PlainSubscription, event: Event[Any]) -> Any:
        if not answerer.active and self.line_of(answerer) is not None:
            return await self.call(answerer, event.data)
        return await super().call_answerer(answerer, event)


@breaks("A1")
class AnswersOnceAndForAll(Full):
    """Takes no other answerer when the first one is gone."""

    def check_unanswered(self, query: str) -> None:
        if query in self.answerers:
            raise DuplicateAnswer(query, self.answerers[query].component_name)


@breaks("A1")
class AnswersWithoutEnd(Full):
    """Takes no notice of an answerer's time limit."""

    async def answer(self, *arguments: Any, **options: Any) -> PlainSubscription:
        return await super().answer(*arguments, **{**options, "time_limit": None})


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


@breaks("A2")
class AsksNobodyWithoutEnd(Full):
    """Never lets others run between questions that nobody answers."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        if query not in self.answerers:
            self.since_yield = 0
        return await super().ask(query, data)


@breaks("A2")
class TellsOfQuestions(Full):
    """Publishes an event of the engine for each question."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        await self.publish(MESSAGE_RECEIVED, data)
        return await super().ask(query, data)


@breaks("A2")
class AsksTopics(Full):
    """Takes a topic for the query of that name."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        return await super().ask(str(query), data)


@breaks("A2")
class AnswersTopics(Full):
    """Takes an answerer of a topic."""

    async def answer(self, query: Any, *arguments: Any, **options: Any) -> PlainSubscription:
        return await super().answer(str(query), *arguments, **options)


@breaks("A2")
class SubscribesToQueries(Full):
    """Takes a subscription to a query."""

    async def subscribe(self, *arguments: Any, **options: Any) -> PlainSubscription:
        event, *others = arguments
        return await super().subscribe(str(event), *others, **options)


@breaks("A2")
class PublishesQueries(Full):
    """Publishes a query as the event of that name."""

    async def publish(self, event: Any, data: Any = None, **options: Any) -> Any:
        return await super().publish(str(event), data, **options)


@breaks("A2")
class AsksBehindInstruments(Full):
    """Shows instruments the answerer, and not the question."""

    def enter(
        self, method: str, instruments: Iterable[Any], event: Event[Any], *subscription: Any
    ) -> Entered:
        if method == "publishing" and event.name in self.answerers:
            return []
        return super().enter(method, instruments, event, *subscription)


@breaks("A2")
class ShowsEveryAnswer(Full):
    """Shows instruments no failure of an answerer."""

    async def call_answerer(self, answerer: PlainSubscription, event: Event[Any]) -> Any:
        entered = self.enter("handling", tuple(self.instruments), event, answerer)
        instruments, self.instruments = self.instruments, []
        try:
            return await super().call_answerer(answerer, event)
        finally:
            self.instruments = instruments
            self.leave(entered, None)


@breaks("A2")
class TakesNoRefusal(Full):
    """Asks what an instrument has refused."""

    async def ask(self, query: Any, data: Any = None) -> Any:
        try:
            return await super().ask(query, data)
        except PublishRefused:
            await self.call(self.answerers[query], data)
            raise
